//! The list in a salvaged folder and in a backup: how many records the log had, and what is missing.
//! docs/format.md specifies it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::Path;

use rollcall_projections::Seq;
use serde::{Deserialize, Serialize};

use super::LogId;
use super::acknowledgement::Acknowledgement;
use super::merkle::Hash;
use super::place::ArchivePlace;

/// The name of the file in a salvaged folder.
pub(super) const MANIFEST: &str = "salvage.json";
/// The name of the file in a backup. It is the last one, so that a backup with it is whole.
pub(crate) const BACKUP_MANIFEST: &str = "backup.json";
/// The leaves of records that are missing, for which the acknowledged root vouches.
pub(super) const LOST_LEAVES: &str = "lost-leaves.ndjson";

const OBJECT: &str = "salvage";
const BACKUP_OBJECT: &str = "backup";
const VERSION: u32 = 1;

/// A line of the file of leaves.
#[derive(Serialize, Deserialize)]
struct LostLeaf {
    seq: Seq,
    leaf: String,
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
}

impl Manifest {
    pub(super) fn new(
        log_id: LogId,
        newest: Option<Acknowledgement>,
        recovered: u64,
        missing: &[(Seq, Seq)],
    ) -> Manifest {
        Manifest {
            object: OBJECT.to_owned(),
            version: VERSION,
            log_id: uuid::Uuid::from_bytes(log_id).to_string(),
            acknowledged: newest.map(|newest| newest.size),
            acknowledged_root: newest.and_then(|newest| newest.root).map(hex::encode),
            recovered,
            missing: missing.to_vec(),
        }
    }

    /// Makes that of a backup of the first `size` records.
    pub(crate) fn of_backup(log_id: LogId, size: Seq, root: Hash) -> Manifest {
        Manifest {
            object: BACKUP_OBJECT.to_owned(),
            version: VERSION,
            log_id: uuid::Uuid::from_bytes(log_id).to_string(),
            acknowledged: Some(size),
            acknowledged_root: Some(hex::encode(root)),
            recovered: size,
            missing: Vec::new(),
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

    /// Writes and syncs it, and the leaves of missing records, into `folder`.
    pub(super) fn write(&self, folder: &Path, lost: &[(Seq, Hash)]) -> io::Result<()> {
        write_new(&folder.join(MANIFEST), &self.text()?)?;
        if lost.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for (seq, leaf) in lost {
            serde_json::to_writer(&mut lines, &LostLeaf { seq: *seq, leaf: hex::encode(leaf) })?;
            lines.push(b'\n');
        }
        write_new(&folder.join(LOST_LEAVES), &lines)
    }

    /// Reads the one in `place`, with its name; `None` if there is none.
    ///
    /// # Errors
    /// The name of a file that cannot be used, and a description of what is wrong with it.
    pub(super) fn read(
        place: &ArchivePlace,
    ) -> Result<Option<(&'static str, Manifest)>, (&'static str, String)> {
        for (name, object) in [(MANIFEST, OBJECT), (BACKUP_MANIFEST, BACKUP_OBJECT)] {
            let fault = |what: String| (name, what);
            let Some(bytes) = place.read(name).map_err(|error| fault(error.what))? else {
                continue;
            };
            let manifest: Manifest =
                serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))?;
            return match manifest.object == object && manifest.version == VERSION {
                true => Ok(Some((name, manifest))),
                false => Err(fault("it is of another version".into())),
            };
        }
        Ok(None)
    }

    /// Reads the leaves of missing records in `place`, in order of seq.
    ///
    /// # Errors
    /// A description of what is wrong with them.
    pub(super) fn read_lost_leaves(place: &ArchivePlace) -> Result<BTreeMap<Seq, Hash>, String> {
        let bytes = place.read(LOST_LEAVES).map_err(|error| error.what)?.unwrap_or_default();
        let mut leaves = BTreeMap::new();
        for line in bytes.lines() {
            let line = line.map_err(|error| error.to_string())?;
            let LostLeaf { seq, leaf } =
                serde_json::from_str(&line).map_err(|error| error.to_string())?;
            let hash = hex::decode(leaf).ok().and_then(|bytes| bytes.try_into().ok());
            leaves.insert(seq, hash.ok_or_else(|| format!("the leaf of record {seq} is not one"))?);
        }
        Ok(leaves)
    }

    /// Returns whether it is about the log `log_id`.
    pub(super) fn is_of(&self, log_id: LogId) -> bool {
        self.log_id == uuid::Uuid::from_bytes(log_id).to_string()
    }

    /// Returns the acknowledged root, if one is known.
    ///
    /// # Errors
    /// A description, if it is not one.
    pub(super) fn acknowledged_root(&self) -> Result<Option<Hash>, String> {
        let Some(text) = &self.acknowledged_root else { return Ok(None) };
        let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Some).ok_or_else(|| "its root is not 64 digits of hex".into())
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
