//! The list in a salvaged folder and in a backup: how many records the log had, what is missing, and
//! which files belong to it. docs/format.md specifies it.

use std::collections::BTreeMap;
use std::io;

use rollcall_projections::Seq;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::LogId;
use super::acknowledgement::Acknowledgement;
use super::archive::{FileDamage, seqs_of};
use super::merkle::Hash;
use super::place::{ArchivePlace, PlaceError};
use super::public_files::HANDOVERS;
use super::raw::seqs_in;

/// The name of the file in a salvaged folder.
pub(super) const MANIFEST: &str = "salvage.json";
/// The name of the file in a backup. It is the last one, so that a backup with it is whole.
pub(crate) const BACKUP_MANIFEST: &str = "backup.json";

const OBJECT: &str = "salvage";
const BACKUP_OBJECT: &str = "backup";
const VERSION: u32 = 1;

/// The SHA-256 of files, in hex, by their names. That of a file in a folder has the folder's name and
/// a slash in front.
pub(crate) type Checksums = BTreeMap<String, String>;

/// Returns the SHA-256 of a file, in hex.
pub(crate) fn checksum(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What a salvage, or the server that made a backup, knew of the log.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    object: String,
    version: u32,
    log_id: String,
    /// The number of records that were acknowledged, if that is known.
    pub(super) acknowledged: Option<Seq>,
    /// The tree hash over them, in hex.
    acknowledged_root: Option<String>,
    recovered: u64,
    pub(super) missing: Vec<(Seq, Seq)>,
    /// All other files.
    pub(super) files: Checksums,
}

impl Manifest {
    pub(super) fn of_salvage(
        log_id: LogId,
        newest: Option<Acknowledgement>,
        recovered: u64,
        missing: &[(Seq, Seq)],
        files: Checksums,
    ) -> Manifest {
        Manifest {
            object: OBJECT.to_owned(),
            version: VERSION,
            log_id: uuid::Uuid::from_bytes(log_id).to_string(),
            acknowledged: newest.map(|newest| newest.size),
            acknowledged_root: newest.and_then(|newest| newest.root).map(hex::encode),
            recovered,
            missing: missing.to_vec(),
            files,
        }
    }

    /// Makes that of a backup of the first `size` records, of which some are `lost`.
    pub(crate) fn of_backup(
        log_id: LogId,
        size: Seq,
        root: Hash,
        lost: Vec<(Seq, Seq)>,
        files: Checksums,
    ) -> Manifest {
        let lost_count = seqs_in(&lost);
        Manifest {
            object: BACKUP_OBJECT.to_owned(),
            version: VERSION,
            log_id: uuid::Uuid::from_bytes(log_id).to_string(),
            acknowledged: Some(size),
            acknowledged_root: Some(hex::encode(root)),
            recovered: size - lost_count,
            missing: lost,
            files,
        }
    }

    /// Returns its text.
    ///
    /// # Errors
    /// None that is known.
    pub(crate) fn text(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads the one in `place`; `None` if there is none.
    ///
    /// # Errors
    /// The damage to it.
    pub(super) fn read(place: &ArchivePlace) -> Result<Option<Manifest>, FileDamage> {
        for (name, object) in [(MANIFEST, OBJECT), (BACKUP_MANIFEST, BACKUP_OBJECT)] {
            let damaged = |what: String| FileDamage { at: place.located(name), what };
            let Some(bytes) = place.read(name).map_err(|error| damaged(error.what))? else {
                continue;
            };
            let manifest: Manifest =
                serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
            return match manifest.object == object && manifest.version == VERSION {
                true => Ok(Some(manifest)),
                false => Err(damaged("it is of another version".into())),
            };
        }
        Ok(None)
    }

    /// Returns the damage to a place without segments whose list names one; `None` if no list there
    /// does.
    pub(super) fn missing_segment(place: &ArchivePlace) -> Option<FileDamage> {
        let manifest = Manifest::read(place).ok()??;
        let name = manifest.files.into_keys().find(|name| seqs_of(name).is_some())?;
        let what = "it is missing, and there is no other segment".to_owned();
        Some(FileDamage { at: place.located(&name), what })
    }

    /// Returns whether the records that it names as missing were missing in the log too, which was
    /// restored without them.
    pub(super) fn is_of_backup(&self) -> bool {
        self.object == BACKUP_OBJECT
    }

    /// Returns the name of its file.
    pub(super) fn name(&self) -> &'static str {
        if self.is_of_backup() { BACKUP_MANIFEST } else { MANIFEST }
    }

    /// Returns whether it is about the log `log_id`.
    pub(super) fn is_of(&self, log_id: LogId) -> bool {
        self.log_id == uuid::Uuid::from_bytes(log_id).to_string()
    }

    /// Returns the acknowledged root, if one is known.
    ///
    /// # Errors
    /// If it is not one, the damage to the list in `place`.
    pub(super) fn acknowledged_root(
        &self,
        place: &ArchivePlace,
    ) -> Result<Option<Hash>, FileDamage> {
        let Some(text) = &self.acknowledged_root else { return Ok(None) };
        let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Some).ok_or_else(|| FileDamage {
            at: place.located(self.name()),
            what: "its root is not 64 digits of hex".into(),
        })
    }
}

/// Returns the checksums of all files in `place`.
pub(super) fn checksums(place: &ArchivePlace) -> Result<Checksums, PlaceError> {
    let mut files = Checksums::new();
    for (folder, prefix) in [(place.clone(), ""), (place.within(HANDOVERS), HANDOVERS)] {
        for file in folder.files()? {
            let name = if prefix.is_empty() { file.clone() } else { format!("{prefix}/{file}") };
            files.extend(folder.read(&file)?.map(|bytes| (name, checksum(&bytes))));
        }
    }
    Ok(files)
}
