//! Restore: builds a data folder from the segments of an archive, and reads it back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rollcall_projections::{Millis, RecordStatus, Seq};

use super::acknowledgement::{Acknowledgement, AcknowledgementFile};
use super::archive::{Archive, ArchivedRecord, SegmentDamage};
use super::block::{self, Block, Draft};
use super::dedupe::{Dedupe, PendingEvent, judge_recorded};
use super::manifest::{LOST_LEAVES, Manifest};
use super::merkle::{Edge, Hash};
use super::open::OpenError;
use super::place::{ArchivePlace, PlaceError};
use super::raw::records;
use super::receipt::lost_leaf;
use super::salvage::copy_public_files;
use super::stopped::StoppedFolder;
use super::store::{Blocks, Store, StoreError};
use super::tiles::Tiles;
use super::unfinished::UnfinishedFolder;
use super::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, History, LogId, Record, add_range};
use crate::notary::is_claimed;
use crate::verify::{Source, Verified};

/// The bytes of bodies after which sled hands its pages to the kernel.
const FLUSH_BYTES: usize = 8 << 20;

/// The bound of sled's cache of pages.
const CACHE_BYTES: u64 = 64 << 20;

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

impl From<SegmentDamage> for RestoreError {
    fn from(SegmentDamage { at, what }: SegmentDamage) -> RestoreError {
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
    lost_leaves: BTreeMap<Seq, Hash>,
}

impl Sound {
    /// Reads the whole archive in `from`.
    fn check(
        from: &ArchivePlace,
        accepted: Missing,
        progress: &dyn Fn(Seq),
    ) -> Result<Sound, RestoreError> {
        let mut archive = Archive::open(from)?;
        if archive.is_empty() {
            return Err(RestoreError::NotAnArchive(from.to_string()));
        }
        let log_id = archive.log_id()?;
        let manifest = read_manifest(archive.place(), log_id)?;
        let acknowledged = manifest.as_ref().and_then(|(manifest, _)| manifest.acknowledged);
        let size = promised(&archive, manifest.as_ref().map(|(manifest, _)| manifest));
        let lost_leaves = Manifest::read_lost_leaves(archive.place()).map_err(|what| {
            RestoreError::Damaged { path: archive.place().located(LOST_LEAVES), what }
        })?;
        let (mut edge, mut missing) = (Some(Edge::default()), Vec::new());
        let mut root_then = None;
        for seq in 1..=size {
            let record = match accepted {
                Missing::Refused => archive.checked_record(log_id, seq)?,
                Missing::Accepted => archive.record(log_id, seq),
            };
            if record.is_none() {
                add_range(&mut missing, (seq, seq));
            }
            let leaf = record.map(|record| record.leaf()).or(lost_leaves.get(&seq).copied());
            edge = edge.zip(leaf).map(|(mut edge, leaf)| {
                edge.push(leaf, |_, _, _| {});
                edge
            });
            if let Some(edge) = &edge {
                check_checkpoint(&archive, log_id, seq, edge)?;
            }
            if acknowledged == Some(seq) {
                root_then = edge.as_ref().map(Edge::root);
            }
            if seq % PROGRESS_EVERY == 0 {
                progress(seq);
            }
        }
        if !missing.is_empty() && accepted == Missing::Refused {
            return Err(RestoreError::Missing { path: from.to_string(), missing });
        }
        match (manifest.and_then(|(_, root)| root), root_then) {
            (Some(expected), Some(found)) if expected != found => {
                return Err(RestoreError::Differs(from.to_string()));
            }
            _ => {}
        }
        let root = edge.map(|edge| edge.root());
        Ok(Sound { archive, log_id, size, root, acknowledged, missing, lost_leaves })
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

/// Compares the checkpoint of a segment that ends with `seq`, if it has one, with the tree so far.
/// Its signature is left to an auditor, who has the key from elsewhere.
fn check_checkpoint(
    archive: &Archive,
    log_id: LogId,
    seq: Seq,
    edge: &Edge,
) -> Result<(), RestoreError> {
    let Some((checkpoint, path)) = archive.checkpoint_at(seq) else { return Ok(()) };
    let is_good = is_claimed(checkpoint, log_id, seq, edge.root());
    let what = "its checkpoint is not that of the records up to it";
    if is_good { Ok(()) } else { Err(RestoreError::Damaged { path, what: what.into() }) }
}

/// Reads the list that a salvage or a backup made, with the root of the records.
fn read_manifest(
    from: &ArchivePlace,
    log_id: LogId,
) -> Result<Option<(Manifest, Option<Hash>)>, RestoreError> {
    let damaged = |name: &str, what| RestoreError::Damaged { path: from.located(name), what };
    let read = Manifest::read(from).map_err(|(name, what)| damaged(name, what))?;
    let Some((name, manifest)) = read else { return Ok(None) };
    if !manifest.is_of(log_id) {
        return Err(damaged(name, "it is of another log than the segments".into()));
    }
    let root = manifest.acknowledged_root().map_err(|what| damaged(name, what))?;
    Ok(Some((manifest, root)))
}

/// Returns the newest record that an archive must have.
fn promised(archive: &Archive, manifest: Option<&Manifest>) -> Seq {
    let lost = manifest.and_then(|manifest| manifest.missing.last()).map_or(0, |(_, last)| *last);
    let acknowledged = manifest.and_then(|manifest| manifest.acknowledged).unwrap_or(0);
    // No log is larger, so a damaged number makes no endless loop.
    archive.last().max(lost).max(acknowledged).min(Seq::from(u32::MAX))
}

/// A record with its moment, on its way into the store.
struct Waiting {
    event: Verified,
    salt: [u8; 16],
    leaf: Hash,
}

/// A store that is being filled.
pub(super) struct Filling {
    store: Store,
    tiles: Tiles,
    dedupe: Dedupe,
    edge: Edge,
    metadata: Hash,
    last_leaf: Hash,
    /// Records of one moment, which share blocks.
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    recorded_at: Millis,
    /// The leaves of lost records that come next.
    lost: Vec<Hash>,
    unflushed_bytes: usize,
}

impl Filling {
    pub(super) fn begin(
        folder: &Path,
        log_id: LogId,
        recorded_at: Millis,
    ) -> Result<Filling, StoreError> {
        Ok(Filling {
            store: Store::create(folder, CACHE_BYTES, log_id)?,
            tiles: Tiles::open(&folder.join("tree"))?,
            dedupe: Dedupe::default(),
            edge: Edge::default(),
            metadata: [0; 32],
            last_leaf: [0; 32],
            waiting: Vec::new(),
            waiting_bytes: 0,
            recorded_at,
            lost: Vec::new(),
            unflushed_bytes: 0,
        })
    }

    /// Takes the next record.
    pub(super) fn put(&mut self, record: ArchivedRecord) -> Result<(), String> {
        let receipt = record.read_receipt().map_err(|error| error.to_string())?;
        let source = [Source::Workos, Source::Rollcall].into_iter();
        let source = source.into_iter().find(|source| source.name() == receipt.source);
        let source = source.ok_or("its source is unknown")?;
        let bytes = record.body.len();
        self.write_lost().map_err(|error| error.to_string())?;
        if receipt.recorded_at != self.recorded_at
            || self.waiting.len() == BATCH_EVENTS_MAX
            || self.waiting_bytes + bytes > BATCH_BYTES_MAX
        {
            self.write()?;
        }
        let (salt, seq, recorded_at) = (record.salt(), record.seq, receipt.recorded_at);
        let (event_id, event_type) = (receipt.event_id, receipt.event_type);
        let event = Verified::recorded(source, receipt.proof, event_id, event_type, record.body);
        let leaf =
            Record::of(self.store.log_id(), seq, recorded_at, &event, salt, RecordStatus::Counts);
        let leaf = leaf.leaf();
        self.recorded_at = receipt.recorded_at;
        self.waiting_bytes += bytes;
        self.waiting.push(Waiting { event, salt, leaf });
        Ok(())
    }

    /// Takes the next record, of which only a leaf is known.
    pub(super) fn put_lost(&mut self, leaf: Hash) -> Result<(), String> {
        self.write()?;
        self.lost.push(leaf);
        Ok(())
    }

    /// Writes the waiting leaves of lost records into blocks.
    pub(super) fn write_lost(&mut self) -> io::Result<()> {
        let leaves = std::mem::take(&mut self.lost);
        let Some(last) = leaves.last() else { return Ok(()) };
        self.last_leaf = *last;
        let (log_id, first) = (self.store.log_id(), self.edge.size() + 1);
        self.write_blocks(&block::encode_lost(log_id, first, self.recorded_at, &leaves)?)?;
        self.tiles.grow(&mut self.edge, leaves)
    }

    /// Writes the waiting records into blocks.
    pub(super) fn write(&mut self) -> Result<(), String> {
        let waiting = std::mem::take(&mut self.waiting);
        let head = self.edge.size();
        let leaves: Vec<Hash> = waiting.iter().map(|waiting| waiting.leaf).collect();
        let salts: Vec<[u8; 16]> = waiting.iter().map(|waiting| waiting.salt).collect();
        let Some(last) = leaves.last() else { return Ok(()) };
        self.last_leaf = *last;
        let batch = waiting.into_iter().map(|waiting| waiting.event).collect();
        let load = |seq| self.store.candidate(seq);
        let judged = judge_recorded(&mut self.dedupe, batch, head, &load);
        let pending = judged.map_err(|error| error.to_string())?;
        let salted = pending.into_iter().zip(salts);
        let drafts: Vec<Draft> = salted
            .map(|(PendingEvent { event, status }, salt)| Draft { event, salt, status })
            .collect();
        let first = self.edge.size() + 1;
        let blocks = block::encode(self.store.log_id(), first, self.recorded_at, &drafts);
        let written = blocks.and_then(|blocks| self.write_blocks(&blocks));
        written.map_err(|error| error.to_string())?;
        self.tiles.grow(&mut self.edge, leaves).map_err(|error| error.to_string())
    }

    fn write_blocks(&mut self, blocks: &[(Seq, Vec<u8>)]) -> io::Result<()> {
        for (_, bytes) in blocks {
            let block = Block::parse(bytes).map_err(io::Error::other)?;
            self.metadata = block.chained_metadata(&self.metadata);
        }
        self.store.put(blocks)?;
        self.unflushed_bytes += std::mem::take(&mut self.waiting_bytes);
        if self.unflushed_bytes > FLUSH_BYTES {
            self.unflushed_bytes = 0;
            self.store.flush()?;
        }
        Ok(())
    }

    /// Makes everything durable.
    pub(super) fn finish(mut self, folder: &Path) -> Result<(), StoreError> {
        let (size, leaf) = (self.edge.size(), self.last_leaf);
        self.store.sync_all(folder)?;
        self.tiles.sync()?;
        let (mut file, _) = AcknowledgementFile::open(&folder.join("checkpoint"))?;
        file.write(&Acknowledgement {
            log_id: self.store.log_id(),
            size,
            leaf,
            root: Some(self.edge.root()),
            metadata: Some(self.metadata),
        })?;
        file.sync()?;
        self.store.mark_clean();
        Ok(())
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
    let from = sound.archive.place().clone();
    let restored = fill(sound, unfinished.path(), progress)?;
    // Another log has another key.
    if restored.new_log_id.is_none() {
        copy_public_files(&from, unfinished.path())?;
    }
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
    let Sound { size, root, acknowledged, missing, .. } =
        Sound::check(from, Missing::Refused, progress)?;
    // Without a missing record every leaf is known.
    let root = root.unwrap_or_default();
    Ok(Restored { seq: size, root, acknowledged, lost: missing, new_log_id: None })
}

/// Writes every record into the new folder `folder`, and reads it back.
fn fill(mut sound: Sound, folder: &Path, progress: &dyn Fn(Seq)) -> Result<Restored, RestoreError> {
    let unfit = |seq, what| RestoreError::Unfit { seq, what };
    let recorded_at = sound.first_recorded_at().map_err(|what| unfit(1, what))?;
    let Sound { mut archive, log_id, size, root, acknowledged, missing, lost_leaves } = sound;
    let new_log_id = root.is_none().then(|| uuid::Uuid::new_v4().into_bytes());
    let store_error = |error| RestoreError::NotReadBack(OpenError::of(error, folder));
    let own_id = new_log_id.unwrap_or(log_id);
    let mut filling = Filling::begin(folder, own_id, recorded_at).map_err(store_error)?;
    let mut gaps = missing.iter().copied().peekable();
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
    Ok(Restored { seq: size, root, acknowledged, lost: missing, new_log_id })
}
