//! The public files of the key that signs checkpoints, which go along with the records.

use std::collections::BTreeMap;
use std::path::Path;

use rollcall_projections::Seq;

use super::LogId;
use super::merkle::Hash;
use super::place::{ArchivePlace, PlaceError};
use crate::notary::{claims, file_name, handover_size, is_claimed, origin, public_key_fault};

/// The file with the public key that the log had first.
pub(crate) const PUBLIC_KEY: &str = "checkpoint-key.pub";
/// The folder of the handovers.
pub(crate) const HANDOVERS: &str = "checkpoint-key.handovers";

/// The first public key of a log, and the checkpoints that hand over from one key to the next.
#[derive(Default)]
pub(super) struct PublicFiles {
    key: Option<Vec<u8>>,
    /// By the size of each.
    handovers: BTreeMap<Seq, Vec<u8>>,
}

impl PublicFiles {
    /// Reads what is in `place`, without a look into it.
    pub(super) fn read(place: &ArchivePlace) -> Result<PublicFiles, PlaceError> {
        // Something else may be in the place of the file.
        let has_key = place.files()?.iter().any(|name| name == PUBLIC_KEY);
        let key = if has_key { place.read(PUBLIC_KEY)? } else { None };
        let (folder, mut handovers) = (place.within(HANDOVERS), BTreeMap::new());
        for name in folder.files()? {
            if let Some(size) = handover_size(Path::new(&name))
                && let Some(note) = folder.read(&name)?
            {
                handovers.insert(size, note);
            }
        }
        Ok(PublicFiles { key, handovers })
    }

    /// Adds those of another copy that are missing. Damaged ones are left out.
    pub(super) fn add(&mut self, copy: PublicFiles, log_id: LogId) {
        let PublicFiles { key, handovers } = copy;
        let sound = key.filter(|key| public_key_fault(key, log_id).is_none());
        self.key = self.key.take().or(sound);
        for (size, note) in handovers {
            if is_of_log(&note, log_id, size) {
                self.handovers.entry(size).or_insert(note);
            } else {
                tracing::warn!(size, "a handover of the checkpoint key is damaged: it is left out");
            }
        }
    }

    /// Checks that the public key is one of the log.
    ///
    /// # Errors
    /// A description of what is wrong with it.
    pub(super) fn check_key(&self, log_id: LogId) -> Result<(), String> {
        self.key.as_deref().and_then(|key| public_key_fault(key, log_id)).map_or(Ok(()), Err)
    }

    /// Returns the name of the handover that ends with record `size`, if it is not a checkpoint of
    /// the records up to it. Its signatures are left to an auditor.
    pub(super) fn damaged_handover(
        &self,
        log_id: LogId,
        size: Seq,
        root: impl FnOnce() -> Hash,
    ) -> Option<String> {
        let note = std::str::from_utf8(self.handovers.get(&size)?).unwrap_or_default();
        let is_good = is_claimed(note, log_id, size, root());
        (!is_good).then(|| format!("{HANDOVERS}/{}", file_name(size)))
    }

    /// Writes them into `folder`, without handovers of records after `last`.
    pub(super) fn write(&self, folder: &Path, last: Seq) -> Result<(), PlaceError> {
        let place = ArchivePlace::Folder(folder.to_owned());
        if let Some(key) = &self.key {
            place.create(PUBLIC_KEY, key)?;
        }
        let handovers = place.within(HANDOVERS);
        for (size, note) in self.handovers.range(..=last) {
            handovers.create(&file_name(*size), note)?;
        }
        Ok(())
    }
}

fn is_of_log(note: &[u8], log_id: LogId, size: Seq) -> bool {
    claims(note).is_some_and(|claims| claims.origin == origin(log_id) && claims.size == size)
}
