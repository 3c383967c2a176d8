//! Restore: builds a data folder from the segments of an archive, and reads it back.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rollcall_projections::{Millis, Seq};

use super::archive::{Archive, ArchivedRecord, FileDamage};
use super::filling::Filling;
use super::lost_leaves::{self, LostLeaves};
use super::manifest::{Checksums, Manifest, checksum};
use super::merkle::{Edge, Hash};
use super::open::{OpenError, is_data_folder};
use super::place::{ArchivePlace, PlaceError};
use super::public_files::{PUBLIC_KEY, PublicFiles};
use super::raw::records;
use super::receipt::lost_leaf;
use super::stopped::StoppedFolder;
use super::store::StoreError;
use super::unfinished::UnfinishedFolder;
use super::{History, LogId, add_range};
use crate::notary::is_claimed;

/// The number of records between two reports of progress.
const PROGRESS_EVERY: Seq = 1024;

/// The outcome of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The newest record.
    pub seq: Seq,
    /// The tree hash over all records, as read back from the new folder.
    pub root: [u8; 32],
    /// The number of records that had been acknowledged, if the archive says it.
    pub acknowledged: Option<Seq>,
    /// The records without which it was restored, as pairs of the first and the last.
    pub lost: Vec<(Seq, Seq)>,
    /// The name of the new log, if it could not be the one before: a leaf is lost as well.
    pub new_log_id: Option<LogId>,
    /// The segments that are damaged, whose records were taken as missing.
    pub damaged: Vec<PlaceError>,
}

/// What a restore does about records that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing is restored.
    Refused,
    /// The log is restored without them: each keeps its seq, and its leaf if that is known. If one
    /// is not, the records get another log.
    Accepted,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is a file or a folder at the place for the outcome.
    #[error("`{0}` is there already; name a new folder")]
    Exists(PathBuf),
    /// There are no segments in the place.
    #[error(
        "`{0}` has no segments of an archive; `rollcall backup`, `serve --archive` and `rollcall \
        salvage` make some"
    )]
    NotAnArchive(String),
    /// It is a data folder.
    #[error(
        "`{0}` is a data folder, and no archive; stop its server, and `rollcall salvage --data {0} \
        --out ARCHIVE` makes an archive of it"
    )]
    DataFolder(PathBuf),
    /// Records are missing.
    #[error(
        "{} {} missing in `{path}`; run `rollcall salvage` with another copy as `--from` and this \
         folder as one more, and restore what it makes; if there is no copy, restore without them \
         with `--accept-missing`",
        records(missing),
        if is_one(missing) { "is" } else { "are" }
    )]
    Missing {
        /// The archive.
        path: String,
        /// The records, as pairs of the first and the last.
        missing: Vec<(Seq, Seq)>,
    },
    /// A file is missing without which the others are only a part of what was written.
    #[error(
        "`{0}` is missing: this is only a part of what was written; copy all of it, or restore what \
        is there with `--accept-missing`"
    )]
    Lacking(String),
    /// A file of the archive is damaged.
    #[error("`{path}` is damaged: {what}; take it from another copy of the archive")]
    Damaged {
        /// The file.
        path: String,
        /// A description of the damage.
        what: String,
    },
    /// The records are not those that were acknowledged.
    #[error(
        "the records in `{0}` have another root than the one acknowledged: some are not what they \
         were; run `rollcall salvage` with another copy as `--from`"
    )]
    Differs(String),
    /// A record cannot be kept as its receipt says.
    #[error("record {seq} cannot be restored: {what}")]
    Unfit {
        /// The record.
        seq: Seq,
        /// A description of the fault.
        what: String,
    },
    /// The new folder does not read back.
    #[error("the restored folder does not read back, and was removed: {0}")]
    NotReadBack(#[source] OpenError),
    /// The archive cannot be read, or its public files not be copied.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A file cannot be read or written.
    #[error("`{path}`: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
}

impl From<FileDamage> for RestoreError {
    fn from(FileDamage { at, what }: FileDamage) -> RestoreError {
        RestoreError::Damaged { path: at, what }
    }
}

fn is_one(missing: &[(Seq, Seq)]) -> bool {
    matches!(missing, [(first, last)] if first == last)
}

/// An archive that was read and checked.
struct Sound {
    archive: Archive,
    log_id: LogId,
    size: Seq,
    /// The tree hash over all records; `None` if a leaf is not known.
    root: Option<Hash>,
    acknowledged: Option<Seq>,
    missing: Vec<(Seq, Seq)>,
    /// The leaves of missing records, as far as they are known.
    lost_leaves: LostLeaves,
    public: PublicFiles,
}

/// An archive whose files other than segments were read.
struct Listed {
    archive: Archive,
    log_id: LogId,
    manifest: Option<Manifest>,
    lost_leaves: LostLeaves,
    public: PublicFiles,
}

impl Listed {
    /// Reads every file in `from` but the segments, and checks that none is missing.
    fn read(from: &ArchivePlace, accepted: Missing) -> Result<Listed, RestoreError> {
        let mut archive = Archive::open(from)?;
        if archive.is_empty() {
            if let ArchivePlace::Folder(path) = from
                && is_data_folder(path).unwrap_or(false)
            {
                return Err(RestoreError::DataFolder(path.clone()));
            }
            let none = || RestoreError::NotAnArchive(from.to_string());
            return Err(Manifest::missing_segment(from).map_or_else(none, RestoreError::from));
        }
        let log_id = archive.log_id()?;
        let place = archive.place().clone();
        let damaged = |name: &str, what| FileDamage { at: place.located(name), what };
        let manifest = Manifest::read(&place)?;
        if let Some(needed) = archive.needs()?
            && manifest.as_ref().is_none_or(|manifest| manifest.name() != needed)
            && accepted == Missing::Refused
        {
            return Err(RestoreError::Lacking(place.located(&needed)));
        }
        if let Some(manifest) = &manifest {
            if !manifest.is_of(log_id) {
                let what = "it is of another log than the segments".into();
                return Err(damaged(manifest.name(), what).into());
            }
            check_files(&archive, &manifest.files, accepted)?;
            archive.expect(manifest.files.clone());
        }
        let lost_leaves = lost_leaves::read(&place)?;
        let public = PublicFiles::read(&place)?;
        public.check_key(log_id).map_err(|what| damaged(PUBLIC_KEY, what))?;
        Ok(Listed { archive, log_id, manifest, lost_leaves, public })
    }

    /// Returns the newest record that there must be.
    fn promised(&self) -> Seq {
        let missing = self.manifest.as_ref().and_then(|manifest| manifest.missing.last());
        let missing = missing.map_or(0, |(_, last)| *last);
        let acknowledged = self.acknowledged().unwrap_or(0);
        let mut last = self.archive.last().max(missing).max(acknowledged);
        // Those that follow the last segment are of the log too.
        while self.lost_leaves.contains_key(&last.saturating_add(1)) {
            last += 1;
        }
        // No log is larger, so a damaged number makes no endless loop.
        last.min(Seq::from(u32::MAX))
    }

    fn acknowledged(&self) -> Option<Seq> {
        self.manifest.as_ref().and_then(|manifest| manifest.acknowledged)
    }

    /// Returns whether the log itself was without a record, so that it is not missing here.
    fn was_lost(&self, seq: Seq) -> bool {
        let is_of_salvage = self.manifest.as_ref().is_some_and(|manifest| !manifest.is_of_backup());
        !is_of_salvage && self.lost_leaves.contains_key(&seq)
    }

    /// Returns the leaf of a record, if it is there or lost with its leaf.
    fn leaf(&self, seq: Seq, record: Option<&ArchivedRecord>) -> Result<Option<Hash>, FileDamage> {
        let kept = self.lost_leaves.get(&seq).copied();
        match (record.map(ArchivedRecord::leaf), kept) {
            (Some(leaf), Some(kept)) if leaf != kept => Err(FileDamage {
                at: self.archive.place().to_string(),
                what: format!("record {seq} has another leaf than the one that was lost"),
            }),
            (leaf, kept) => Ok(leaf.or(kept)),
        }
    }

    /// Compares the checkpoint of a segment that ends with `seq`, and the handover of that size, if
    /// there are some, with the tree so far. Signatures are left to an auditor, who has the key from
    /// elsewhere.
    fn check_checkpoints(&self, seq: Seq, edge: &Edge) -> Result<(), FileDamage> {
        let (archive, log_id) = (&self.archive, self.log_id);
        let of_segment = archive
            .checkpoint_at(seq)
            .filter(|(checkpoint, _)| !is_claimed(checkpoint, log_id, seq, edge.root()));
        if let Some((_, at)) = of_segment {
            let what = "its checkpoint is not that of the records up to it".into();
            return Err(FileDamage { at, what });
        }
        match self.public.damaged_handover(log_id, seq, || edge.root()) {
            Some(name) => {
                let what = "it is not a checkpoint of the records up to it".into();
                Err(FileDamage { at: archive.place().located(&name), what })
            }
            None => Ok(()),
        }
    }
}

/// Checks that the files of a list are in the place of an archive, and that those that are not
/// segments are as they were written: a segment is compared when it is read.
fn check_files(archive: &Archive, files: &Checksums, missing: Missing) -> Result<(), RestoreError> {
    let (place, segments) = (archive.place(), archive.names().collect::<BTreeSet<&str>>());
    for (name, expected) in files.iter().filter(|(name, _)| !segments.contains(name.as_str())) {
        let (folder, file) = match name.split_once('/') {
            Some((folder, file)) => (place.within(folder), file),
            None => (place.clone(), name.as_str()),
        };
        match folder.read(file)? {
            None if missing == Missing::Accepted => {}
            None => return Err(RestoreError::Lacking(place.located(name))),
            Some(bytes) if checksum(&bytes) != *expected => {
                let what = "it is not as it was written".into();
                return Err(RestoreError::Damaged { path: place.located(name), what });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

impl Sound {
    /// Reads the whole archive in `from`.
    fn check(
        from: &ArchivePlace,
        accepted: Missing,
        progress: &dyn Fn(Seq),
    ) -> Result<Sound, RestoreError> {
        let mut listed = Listed::read(from, accepted)?;
        let (log_id, size, acknowledged) =
            (listed.log_id, listed.promised(), listed.acknowledged());
        let (mut edge, mut missing, mut refused) = (Some(Edge::default()), Vec::new(), Vec::new());
        let mut root_then = None;
        for seq in 1..=size {
            let record = match accepted {
                Missing::Refused => listed.archive.checked_record(log_id, seq)?,
                Missing::Accepted => listed.archive.record(log_id, seq),
            };
            if record.is_none() {
                add_range(&mut missing, (seq, seq));
                if accepted == Missing::Refused && !listed.was_lost(seq) {
                    add_range(&mut refused, (seq, seq));
                }
            }
            let leaf = listed.leaf(seq, record.as_ref())?;
            edge = edge.zip(leaf).map(|(mut edge, leaf)| {
                edge.push(leaf, |_, _, _| {});
                edge
            });
            if let Some(edge) = &edge {
                listed.check_checkpoints(seq, edge)?;
            }
            if acknowledged == Some(seq) {
                root_then = edge.as_ref().map(Edge::root);
            }
            if seq % PROGRESS_EVERY == 0 {
                progress(seq);
            }
        }
        if !refused.is_empty() {
            return Err(RestoreError::Missing { path: from.to_string(), missing: refused });
        }
        let Listed { archive, manifest, lost_leaves, public, .. } = listed;
        let expected = manifest.map(|manifest| manifest.acknowledged_root(archive.place()));
        match (expected.transpose()?.flatten(), root_then) {
            (Some(expected), Some(found)) if expected != found => {
                return Err(RestoreError::Differs(from.to_string()));
            }
            _ => {}
        }
        let root = edge.map(|edge| edge.root());
        Ok(Sound { archive, log_id, size, root, acknowledged, missing, lost_leaves, public })
    }

    /// Returns the stamp of the first record that is there.
    fn first_recorded_at(&mut self) -> Result<Millis, String> {
        let first = match self.missing.first() {
            Some((1, last)) => last + 1,
            _ => 1,
        };
        let record = self.archive.record(self.log_id, first);
        let record = record.ok_or("no record is left")?;
        Ok(record.read_receipt().map_err(|error| error.to_string())?.recorded_at)
    }
}

/// Builds the data folder `data`, which must not be there, from the segments in `from`, and reads
/// it back. `missing` says what happens if a record is not there. `progress` gets the last seq seen,
/// from time to time: once for all while the archive is checked, again while it is written, and a
/// third time while it is read back.
///
/// # Errors
/// If a record is missing or not what it was, or if a file cannot be read or written. Then there is
/// no folder `data`.
pub fn restore(
    from: &ArchivePlace,
    data: &Path,
    missing: Missing,
    progress: &dyn Fn(Seq),
) -> Result<Restored, RestoreError> {
    if fs::symlink_metadata(data).is_ok() {
        return Err(RestoreError::Exists(data.to_owned()));
    }
    let sound = Sound::check(from, missing, progress)?;
    let io_error = |error| RestoreError::Io { path: data.to_owned(), error };
    let unfinished = UnfinishedFolder::make(data).map_err(io_error)?;
    let restored = fill(sound, unfinished.path(), progress)?;
    unfinished.finish().map_err(io_error)?;
    Ok(restored)
}

/// Checks that an archive has every record, as [`restore`] does, and makes nothing.
///
/// # Errors
/// Those of [`restore`].
pub fn check_archive(
    from: &ArchivePlace,
    progress: &dyn Fn(Seq),
) -> Result<Restored, RestoreError> {
    let Sound { archive, size, root, acknowledged, missing, .. } =
        Sound::check(from, Missing::Refused, progress)?;
    // Without a missing record every leaf is known.
    let root = root.unwrap_or_default();
    let damaged = archive.damaged();
    Ok(Restored { seq: size, root, acknowledged, lost: missing, new_log_id: None, damaged })
}

/// Writes every record into the new folder `folder`, and reads it back. The public files of the key
/// come last.
fn fill(mut sound: Sound, folder: &Path, progress: &dyn Fn(Seq)) -> Result<Restored, RestoreError> {
    let unfit = |seq, what| RestoreError::Unfit { seq, what };
    let recorded_at = sound.first_recorded_at().map_err(|what| unfit(1, what))?;
    let Sound { mut archive, log_id, size, root, acknowledged, missing: lost, lost_leaves, public } =
        sound;
    let new_log_id = root.is_none().then(|| uuid::Uuid::new_v4().into_bytes());
    let store_error = |error| RestoreError::NotReadBack(OpenError::of(error, folder));
    let own_id = new_log_id.unwrap_or(log_id);
    let mut filling = Filling::begin(folder, own_id, recorded_at).map_err(store_error)?;
    let mut gaps = lost.iter().copied().peekable();
    for seq in 1..=size {
        while gaps.next_if(|(_, last)| *last < seq).is_some() {}
        let put = if gaps.peek().is_some_and(|(first, _)| *first <= seq) {
            let kept = lost_leaves.get(&seq).filter(|_| new_log_id.is_none()).copied();
            filling.put_lost(kept.unwrap_or_else(|| lost_leaf(own_id, seq)))
        } else {
            let record = archive.checked_record(log_id, seq)?;
            filling.put(record.ok_or_else(|| unfit(seq, "it is gone".into()))?)
        };
        put.map_err(|what| unfit(seq, what))?;
        if seq % PROGRESS_EVERY == 0 {
            progress(seq);
        }
    }
    filling.write().map_err(|what| unfit(size, what))?;
    filling.write_lost().map_err(|error| unfit(size, error.to_string()))?;
    let root = root.unwrap_or_else(|| filling.edge.root());
    filling.finish(folder).map_err(store_error)?;
    let stopped = StoppedFolder::open(folder).map_err(RestoreError::NotReadBack)?;
    let log = stopped.recover(progress).map_err(RestoreError::NotReadBack)?;
    if (log.head(), log.root(size)) != (size, Ok(root)) {
        let what = "its root is not that of the archive".to_owned();
        return Err(store_error(StoreError::Damaged(what)));
    }
    // Another log has another key.
    if new_log_id.is_none() {
        public.write(folder, size)?;
    }
    let damaged = archive.damaged();
    Ok(Restored { seq: size, root, acknowledged, lost, new_log_id, damaged })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::archive::ArchiveSegment;
    use crate::log::filling::CACHE_BYTES;
    use crate::log::tiles::Rows;
    use crate::log::{Log, Outcome, Record, Unrecovered};
    use crate::verify::{Keyring, Verified};
    use rollcall_generator::sign;
    use rollcall_projections::RecordStatus;

    const NOW: Millis = 1_760_000_000_000;
    const LOG_ID: LogId = *b"0123456789abcdef";

    fn event(body: &str) -> Verified {
        let header = sign("s", NOW, body.as_bytes());
        let body = body.to_owned().into();
        Verified::webhook(&Keyring::new(["s"], 0), Some(header.as_bytes()), body, NOW).unwrap()
    }

    fn user(id: &str, name: &str) -> String {
        format!(r#"{{"id":"{id}","event":"x.y","data":{{"name":"{name}"}}}}"#)
    }

    /// Makes a record of each body, in batches of three.
    fn records(bodies: &[String]) -> Vec<ArchivedRecord> {
        let record = |(seq, body): (Seq, &String)| {
            let (recorded_at, salt) = (NOW + seq as Millis / 3, [seq as u8; 16]);
            let status = RecordStatus::Counts;
            let record = Record::of(LOG_ID, seq, recorded_at, &event(body), salt, status);
            ArchivedRecord::from(&record)
        };
        (1..).zip(bodies).map(record).collect()
    }

    #[test]
    fn records_of_an_event_that_came_again_are_all_restored_and_repeat_the_first() {
        let around = tempfile::tempdir().unwrap();
        let (place, data) = (around.path().join("archive"), around.path().join("data"));
        let place = ArchivePlace::Folder(place);
        let (a, other_a, no_id) = (user("a", "x"), user("a", "y"), "[]".to_owned());
        let bodies = [
            (a.clone(), RecordStatus::Counts),
            (user("b", "x"), RecordStatus::Counts),
            (a.clone(), RecordStatus::Repeat { of: 1 }),
            (other_a.clone(), RecordStatus::Conflict { first: 1 }),
            (no_id.clone(), RecordStatus::Counts),
            (other_a.clone(), RecordStatus::Repeat { of: 4 }),
            (no_id.clone(), RecordStatus::Repeat { of: 5 }),
            (a.clone(), RecordStatus::Repeat { of: 1 }),
        ];
        let (bodies, expected): (Vec<String>, Vec<RecordStatus>) = bodies.into_iter().unzip();
        let records = records(&bodies);
        let leaves = records.iter().map(ArchivedRecord::leaf).collect();
        let (checkpoint, needs) = (None, None);
        ArchiveSegment { log_id: LOG_ID, records, checkpoint, needs }.write(&place).unwrap();
        let restored = restore(&place, &data, Missing::Refused, &|_| {}).unwrap();
        let root = Edge::of(&Rows::of(leaves), 8).unwrap().root();
        assert_eq!((restored.seq, restored.root), (8, root));

        let stopped = StoppedFolder::open(&data).unwrap();
        let audit = stopped.audit(&Keyring::new(["s"], 0), &|_| {});
        assert_eq!(audit.findings_count, 0, "{:?}", audit.findings);
        drop(stopped);
        let log = Unrecovered::open(&data, CACHE_BYTES).unwrap().recover(&|_| {}).unwrap();
        let statuses = log.read(0, 10, 1 << 20).unwrap().into_iter().map(|record| record.status);
        assert_eq!(statuses.collect::<Vec<_>>(), expected);
        // They are known by their first records.
        let again = log.append([a, other_a, no_id].map(|body| event(&body)).to_vec(), NOW);
        let expected = [
            Outcome::Duplicate { seq: 1, differs: false },
            Outcome::Conflict { seq: 4, first: 1, duplicate: true },
            Outcome::Duplicate { seq: 5, differs: false },
        ];
        assert_eq!((again.as_deref(), log.head()), (Ok(&expected[..]), 8));
    }
}
