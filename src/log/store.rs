//! The log on one machine's disk: a sled store, with the steps that sled itself leaves out.
//!
//! The order of writes is the design:
//! 1. the blocks of a batch, in one sled batch: all or nothing;
//! 2. sled's flush, which hands every page to the kernel;
//! 3. `fdatasync` of sled's `db` file through a handle of our own: on Linux sled's flush ends in
//!    `sync_file_range`, which syncs neither the file's size nor the device's cache;
//! 4. a look that sled put nothing into its `blobs/` folder, which step 3 does not cover;
//! 5. the leaves of the batch, and the nodes that they complete, in the tiles of the tree, which
//!    are derived and not synced here;
//! 6. the checkpoint beside the store.
//!
//! Only then is the batch acknowledged. If any of it fails the log takes nothing more until it is
//! reopened, because after a failed sync the kernel may call lost pages clean.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rollcall_projections::{Entry, Millis, RecordStatus, Seq};

use super::audit::{self, Audit};
use super::block::{self, Block, Draft, FORMAT, Frame, VALUE_BYTES_MAX};
use super::checkpoint::{Checkpoint, CheckpointFile, Slots};
use super::dedupe::{Candidate, Dedupe, find_among, judge_batch};
use super::merkle::{self, Edge, Hash};
use super::recovery::{self, Recovered};
use super::tiles::{Settled, TileNodes, Tiles};
use super::{
    AppendError, Head, Identity, Log, LogId, Outcome, ReadError, Record, check_batch, check_in_tree,
};
use crate::verify::{Keyring, Verified};

/// Fixed at creation. A page above a quarter of it spills into a blob; a page holds up to 17 values
/// of at most 60 KiB.
const SEGMENT_BYTES: usize = 8 << 20;

/// So much is read at once to find where sled's file ends.
const READ_BACK_BYTES: usize = 64 << 10;

/// How often, and after which pauses, sled's own lock is tried.
const LOCK_TRIES_MAX: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

const META_TREE: &[u8] = b"meta";
const BLOCK_TREE: &[u8] = b"blocks";
const IDENTITY_KEY: &[u8] = b"identity";

/// Why a data folder does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the data folder `{0}` is in use by another process")]
    InUse(PathBuf),
    /// The disk refuses.
    #[error("the data folder `{path}` cannot be opened: {error}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The store's own files are damaged.
    #[error(
        "the store in `{path}` is damaged and does not open ({what}); restore the folder from a backup"
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What the store says.
        what: String,
    },
    /// Written by another version.
    #[error("the store in `{path}` has format {format}, and this version reads format {FORMAT}")]
    Format {
        /// The folder.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// Something acknowledged is missing or was changed.
    #[error("the log is not the one that was acknowledged: {what}; {}; restore the data folder from a backup", first_bad(*seq, *last))]
    Diverged {
        /// The first bad record, or the first of those among which it is.
        seq: Seq,
        /// The last of those.
        last: Seq,
        /// What is wrong.
        what: String,
    },
    /// The tree's tiles and the records contradict each other, and no acknowledged root says which
    /// of the two is right.
    #[error(
        "{what}; restore the data folder from a backup, or, if you trust the records, remove its folder `tree`"
    )]
    Disputed {
        /// The first record in question.
        seq: Seq,
        /// What is in question.
        what: String,
    },
}

fn first_bad(seq: Seq, last: Seq) -> String {
    if last > seq {
        format!("the first bad record is one of {seq} to {last}")
    } else {
        format!("the first bad record is {seq}")
    }
}

/// Whether `folder` holds a log, or what is left of one. Nothing is created or locked.
///
/// # Errors
/// If the disk refuses to say.
pub fn is_data_folder(folder: &Path) -> io::Result<bool> {
    Ok(fs::exists(folder.join("store").join("db"))? || fs::exists(folder.join("checkpoint"))?)
}

/// A store that is open and locked, its records not yet looked through.
pub struct Unrecovered {
    store: Store,
    slots: Slots,
    checkpoint_file: CheckpointFile,
    folder: PathBuf,
    /// Whether the last one to open it closed it in order.
    was_closed: bool,
}

/// A log on disk.
pub struct SledLog {
    store: Store,
    writer: Mutex<Writer>,
    /// Beside the writer, so that finding an event does not wait for a commit. It may know records
    /// past the head: those being written.
    dedupe: RwLock<Dedupe>,
    tiles: Tiles,
    /// The right edge of the tree. It is moved just before the head, and never stands before it.
    edge: Mutex<Edge>,
    head: Head,
}

struct Writer {
    recorded_at: Millis,
    /// What stands beside the bodies up to the head: see `Block::beside`.
    beside: [u8; 32],
    checkpoint: CheckpointFile,
    /// Set for ever by the first step that fails after writing began.
    poisoned: Option<String>,
}

type SyncData = Box<dyn Fn(&File) -> io::Result<()> + Send + Sync>;

pub(super) struct Store {
    pub(super) log_id: LogId,
    db: sled::Db,
    blocks: sled::Tree,
    /// sled's data file, for the sync that sled does not do.
    data_file: File,
    /// Step 3, `File::sync_data` but in tests that count or fail it.
    sync_data: SyncData,
    blobs: PathBuf,
    /// What an earlier failed commit left there; synced at opening.
    blobs_before: usize,
    /// There while the store is open: what it finds at the next opening was not closed.
    unclean: PathBuf,
    /// Where sled cut its file off when it was opened, if that can be known.
    cut_at: Option<u64>,
    /// Holds the lock.
    _lock: File,
}

impl Unrecovered {
    /// Opens or creates the log in `folder`. `cache_bytes` bounds sled's cache of pages.
    ///
    /// # Errors
    /// Says whether the folder is in use, unreadable, damaged or of another format.
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Unrecovered, OpenError> {
        let open = AssertUnwindSafe(|| Unrecovered::open_or_panic(folder, cache_bytes));
        let panicked = |_| OpenError::Damaged {
            path: folder.to_owned(),
            what: "it panicked while opening".into(),
        };
        catch_unwind(open).unwrap_or_else(|panic| Err(panicked(panic)))
    }

    fn open_or_panic(folder: &Path, cache_bytes: u64) -> Result<Unrecovered, OpenError> {
        let io_error = |error| OpenError::Io { path: folder.to_owned(), error };
        let store_folder = folder.join("store");
        // The file is made after the store: alone it is what is left of a log, and a new one must
        // not take its place.
        if folder.join("checkpoint").exists() && !store_folder.join("db").exists() {
            return Err(OpenError::Damaged {
                path: folder.to_owned(),
                what: "its store is missing".into(),
            });
        }
        fs::create_dir_all(&store_folder).map_err(io_error)?;
        let lock = File::create(folder.join("lock")).map_err(io_error)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(OpenError::InUse(folder.to_owned())),
            Err(fs::TryLockError::Error(error)) => return Err(io_error(error)),
        }
        let unclean = folder.join("unclean");
        let was_closed = !unclean.exists();
        if !was_closed {
            forget_cached_pages(&store_folder).map_err(io_error)?;
        } else {
            File::create(&unclean).and_then(|file| file.sync_all()).map_err(io_error)?;
        }
        let damaged = |what: String| OpenError::Damaged { path: folder.to_owned(), what };
        let end_before = written_end(&store_folder).map_err(io_error)?;
        let db = open_sled(&store_folder, cache_bytes).or_else(|_| {
            // A half-written snapshot keeps sled from opening; without one it rebuilds everything
            // from its log.
            remove_snapshots(&store_folder).map_err(|error| error.to_string())?;
            open_sled(&store_folder, cache_bytes)
        });
        let db = db.map_err(damaged)?;
        let cut_at =
            Some(written_end(&store_folder).map_err(io_error)?).filter(|end| *end < end_before);
        let meta = db.open_tree(META_TREE).map_err(|error| damaged(error.to_string()))?;
        let blocks = db.open_tree(BLOCK_TREE).map_err(|error| damaged(error.to_string()))?;
        let log_id = match meta.get(IDENTITY_KEY).map_err(|error| damaged(error.to_string()))? {
            Some(identity) => {
                let (format, log_id) = identity
                    .split_first_chunk::<4>()
                    .ok_or(damaged("its identity is cut off".into()))?;
                let format = u32::from_le_bytes(*format);
                if format != u32::from(FORMAT) {
                    return Err(OpenError::Format { path: folder.to_owned(), format });
                }
                log_id.try_into().map_err(|_| damaged("its identity is cut off".into()))?
            }
            None if !blocks.is_empty() => return Err(damaged("its identity is missing".into())),
            None => {
                let log_id = uuid::Uuid::new_v4().into_bytes();
                let identity = [&u32::from(FORMAT).to_le_bytes()[..], &log_id].concat();
                meta.insert(IDENTITY_KEY, identity).map_err(|error| damaged(error.to_string()))?;
                log_id
            }
        };
        let (checkpoint_file, slots) =
            CheckpointFile::open(&folder.join("checkpoint")).map_err(io_error)?;
        let data_file = File::open(store_folder.join("db")).map_err(io_error)?;
        let blobs = store_folder.join("blobs");
        db.flush().map_err(|error| damaged(error.to_string()))?;
        for blob in fs::read_dir(&blobs).map_err(io_error)? {
            blob.and_then(|blob| File::open(blob.path())?.sync_all()).map_err(io_error)?;
        }
        let blobs_before = count(&blobs).map_err(io_error)?;
        sync_all(&[
            &store_folder.join("db"),
            &store_folder.join("conf"),
            &blobs,
            &store_folder,
            folder,
        ])
        .map_err(io_error)?;
        if let Some(parent) = folder.canonicalize().map_err(io_error)?.parent() {
            sync_all(&[parent]).map_err(io_error)?;
        }
        let store = Store {
            log_id,
            db,
            blocks,
            data_file,
            sync_data: Box::new(File::sync_data),
            blobs,
            blobs_before,
            unclean,
            cut_at,
            _lock: lock,
        };
        Ok(Unrecovered { store, slots, checkpoint_file, folder: folder.to_owned(), was_closed })
    }

    /// Puts another step in the place of the sync.
    #[cfg(test)]
    pub(crate) fn syncing_by(
        mut self,
        sync_data: impl Fn(&File) -> io::Result<()> + Send + Sync + 'static,
    ) -> Unrecovered {
        self.store.sync_data = Box::new(sync_data);
        self
    }

    /// The last record, as far as the store's keys tell without being looked at: how long an audit
    /// will be.
    pub fn last_key(&self) -> Seq {
        let last = catch_unwind(AssertUnwindSafe(|| self.store.blocks.last()));
        last.ok()
            .and_then(Result::ok)
            .flatten()
            .and_then(|(key, _)| split_key(&key))
            .map_or(0, |(seq, _)| seq)
    }

    /// Looks at the whole log again and goes on after the first damage: see [`Audit`]. On all
    /// cores; changes nothing in the folder that opening it has not. Webhooks whose secret is in
    /// `keyring` are verified again. `progress` is told the last seq seen, from time to time.
    ///
    /// # Errors
    /// If the disk refuses, or the store breaks off where nobody expected it. What is damaged is no
    /// error: see [`Audit::findings`].
    pub fn audit(self, keyring: &Keyring, progress: &dyn Fn(Seq)) -> Result<Audit, OpenError> {
        let Unrecovered { store, slots, folder, was_closed, .. } = self;
        let tiles = Tiles::look(&folder.join("tree"))
            .map_err(|error| OpenError::Io { path: folder.join("tree"), error })?;
        let audit =
            AssertUnwindSafe(|| audit::audit(&store, &slots, tiles.as_ref(), keyring, progress));
        let panicked = || OpenError::Damaged {
            path: folder.clone(),
            what: "it panicked while it was read".into(),
        };
        let audit = catch_unwind(audit).map_err(|_| panicked())?;
        store.leave(was_closed);
        Ok(audit)
    }

    /// Looks through every record: that they can be unpacked, stand without gaps in order of their
    /// stamps, and lead to the root and the last leaf that were acknowledged. Builds the dedupe
    /// index and sets the tiles right. On all cores. `progress` is told the last seq seen, from
    /// time to time.
    ///
    /// # Errors
    /// [`OpenError::Diverged`] names the first bad record; [`OpenError::Disputed`] the first for
    /// which tiles and records contradict each other, or that the tiles know and the store has no
    /// more, where no acknowledged root decides.
    pub fn recover(self, progress: &dyn Fn(Seq)) -> Result<SledLog, OpenError> {
        let Unrecovered { store, slots, checkpoint_file, folder, was_closed } = self;
        let io_error = |error| OpenError::Io { path: folder.join("tree"), error };
        let tiles = Tiles::open(&folder.join("tree")).map_err(io_error)?;
        let Recovered { dedupe, recorded_at, beside, rows, edge } =
            recovery::look_through(&store, &slots, was_closed, &tiles, progress)
                .inspect_err(|_| store.leave(was_closed))?;
        let head = edge.size();
        warn_of_slots(&slots, head);
        match tiles.settle(&rows).map_err(io_error)? {
            Settled::AsTheyWere => {}
            Settled::Completed => tracing::info!(
                head,
                "the tree's tiles did not end where the log does: they were set right"
            ),
            Settled::Corrected => tracing::warn!(
                head,
                "the tree's tiles were not those of the log: they were made again"
            ),
        }
        let log = SledLog {
            store,
            writer: Mutex::new(Writer {
                recorded_at,
                beside,
                checkpoint: checkpoint_file,
                poisoned: None,
            }),
            dedupe: RwLock::new(dedupe),
            tiles,
            edge: Mutex::new(edge),
            head: Head::default(),
        };
        log.head.set(head);
        Ok(log)
    }
}

/// Says what the acknowledgement beside the store cannot say about its `head` records.
fn warn_of_slots(slots: &Slots, head: Seq) {
    for slot in &slots.damaged {
        tracing::warn!(
            slot,
            "a slot of the file `checkpoint` is damaged: records acknowledged last may be missing without a trace"
        );
    }
    match slots.newest {
        None if head > 0 => tracing::warn!(
            head,
            "no acknowledgement is kept: nobody can tell whether records are missing or were changed"
        ),
        Some(Checkpoint { root: None, size, .. }) => {
            tracing::warn!(
                size,
                "the acknowledgement is of a version without a tree: nobody can tell whether records were changed"
            );
        }
        _ => {}
    }
}

impl SledLog {
    /// The steps of this module's first lines.
    fn commit(
        &self,
        writer: &mut Writer,
        drafts: Vec<Draft>,
        recorded_at: Millis,
    ) -> Result<(), String> {
        let first_seq = self.head.get() + 1;
        let blocks = block::encode(self.store.log_id, first_seq, recorded_at, &drafts)
            .map_err(|error| error.to_string())?;
        let mut batch = sled::Batch::default();
        for (seq, bytes) in &blocks {
            for (part, value) in bytes.chunks(VALUE_BYTES_MAX).enumerate() {
                batch.insert(&part_key(*seq, part), value);
            }
        }
        self.store.blocks.apply_batch(batch).map_err(|error| error.to_string())?;
        self.store.db.flush().map_err(|error| error.to_string())?;
        (self.store.sync_data)(&self.store.data_file).map_err(|error| error.to_string())?;
        if count(&self.store.blobs).map_err(|error| error.to_string())? > self.store.blobs_before {
            return Err("the store put a value into its blobs, which are not synced".into());
        }
        let records =
            (first_seq..).zip(&drafts).map(|(seq, Draft { event, salt, conflicts_with })| {
                Record::of(self.store.log_id, seq, recorded_at, event, *salt, *conflicts_with)
            });
        let leaves: Vec<Hash> = records.map(|record| record.leaf()).collect();
        let leaf = *leaves.last().ok_or("there is nothing to commit")?;
        let mut edge = self.edge.lock().clone();
        self.tiles.grow(&mut edge, leaves).map_err(|error| error.to_string())?;
        if writer.checkpoint.sync_is_due() {
            self.tiles.sync().map_err(|error| error.to_string())?;
        }
        let beside = blocks.iter().try_fold(writer.beside, |before, (_, bytes)| {
            Ok::<_, String>(Block::parse(bytes)?.beside(&before))
        })?;
        let (root, beside) = (Some(edge.root()), Some(beside));
        let checkpoint =
            Checkpoint { log_id: self.store.log_id, size: edge.size(), leaf, root, beside };
        writer.checkpoint.write(&checkpoint).map_err(|error| error.to_string())?;
        writer.beside = beside.unwrap_or(writer.beside);
        *self.edge.lock() = edge;
        self.head.set(checkpoint.size);
        Ok(())
    }

    /// The nodes of the tree as it is now.
    fn nodes(&self) -> TileNodes<'_> {
        self.tiles.nodes(self.edge.lock().clone())
    }
}

impl Log for SledLog {
    fn append(
        &self,
        batch: Vec<Verified>,
        recorded_at: Millis,
    ) -> Result<Vec<Outcome>, AppendError> {
        let mut writer = self.writer.lock();
        if let Some(cause) = &writer.poisoned {
            return Err(AppendError::Rejected(format!(
                "the log must be reopened, because an earlier commit failed: {cause}"
            )));
        }
        let head = self.head.get();
        check_batch(&batch, head)?;
        if batch.is_empty() {
            // After a failed sync the next one may succeed over pages that the kernel has given up.
            return match self.tiles.sync().and_then(|()| writer.checkpoint.sync()) {
                Ok(()) => Ok(Vec::new()),
                Err(error) => {
                    writer.poisoned = Some(error.to_string());
                    Err(AppendError::Unknown(error.to_string()))
                }
            };
        }
        let mut salts = vec![[0; 16]; batch.len()];
        for salt in &mut salts {
            getrandom::fill(salt).map_err(|error| AppendError::Rejected(error.to_string()))?;
        }
        let load = |seq| self.store.candidate(seq);
        let (outcomes, drafts) = judge_batch(&mut self.dedupe.write(), batch, head, &load)
            .map_err(|error| AppendError::Rejected(error.to_string()))?;
        if drafts.is_empty() {
            return Ok(outcomes);
        }
        let recorded_at = recorded_at.max(writer.recorded_at);
        let salted = drafts.into_iter().zip(salts);
        let drafts = salted
            .map(|((event, conflicts_with), salt)| Draft { event, salt, conflicts_with })
            .collect();
        match self.commit(&mut writer, drafts, recorded_at) {
            Ok(()) => {
                writer.recorded_at = recorded_at;
                Ok(outcomes)
            }
            Err(cause) => {
                writer.poisoned = Some(cause.clone());
                Err(AppendError::Unknown(cause))
            }
        }
    }

    fn read(
        &self,
        after: Seq,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let (mut out, mut bytes) = (Vec::new(), 0);
        self.each_block(after, &mut |block| {
            for record in block.records()?.into_iter().filter(|record| record.seq > after) {
                if out.len() == events_max || (bytes > 0 && bytes + record.body.len() > bytes_max) {
                    return Ok(false);
                }
                bytes += record.body.len();
                out.push(record);
            }
            Ok(true)
        })?;
        Ok(out)
    }

    fn entries(
        &self,
        after: Seq,
        events_max: usize,
        each: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<Seq, ReadError> {
        let until = after.saturating_add(events_max as Seq);
        self.each_block(after, &mut |block| {
            block.entries(after, each)?;
            Ok(block.last_seq() < until)
        })
    }

    fn bodies(&self, seqs: &[Seq]) -> Result<Vec<Bytes>, ReadError> {
        let head = self.head.get();
        if let Some(seq) = seqs.iter().copied().find(|seq| *seq == 0 || *seq > head) {
            return Err(ReadError::Absent { seq });
        }
        let mut out = Vec::with_capacity(seqs.len());
        // Each stretch of seqs that stand in one block is read from that block at once.
        while let Some(first) = seqs.get(out.len()).copied() {
            self.store.with_block(first, |block| {
                let mut frame: Option<Frame> = None;
                while let Some(seq) = seqs
                    .get(out.len())
                    .copied()
                    .filter(|seq| (block.first_seq()..=block.last_seq()).contains(seq))
                {
                    let body = match frame.as_ref().and_then(|frame| frame.body(seq)) {
                        Some(body) => Some(body),
                        None => frame.insert(block.frame_of(seq)?).body(seq),
                    };
                    out.push(body.ok_or("a body is missing")?);
                }
                Ok(())
            })?;
        }
        Ok(out)
    }

    fn find(&self, event_id: &str) -> Result<Option<Seq>, ReadError> {
        let candidates = self.dedupe.read().candidates(event_id, self.head.get());
        find_among(candidates, event_id, &|seq| self.store.candidate(seq))
    }

    fn wait(&self, after: Seq, timeout: Duration) -> Seq {
        self.head.wait(after, timeout)
    }

    fn head(&self) -> Seq {
        self.head.get()
    }

    fn identity(&self) -> Identity {
        Identity { log_id: self.store.log_id, format: u32::from(FORMAT) }
    }

    fn root(&self, size: Seq) -> Result<[u8; 32], ReadError> {
        check_in_tree(0, size, self.head.get())?;
        let edge = self.edge.lock();
        if edge.size() == size {
            return Ok(edge.root());
        }
        drop(edge);
        merkle::root(&self.nodes(), size)
    }

    fn inclusion(&self, seq: Seq, size: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        check_in_tree(seq, size, self.head.get())?;
        merkle::inclusion(&self.nodes(), seq.checked_sub(1).ok_or(ReadError::Absent { seq })?, size)
    }

    fn consistency(&self, from: Seq, to: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        check_in_tree(from, to, self.head.get())?;
        merkle::consistency(&self.nodes(), from, to)
    }
}

impl SledLog {
    /// Shows the blocks that hold records after `after`, up to the durable head, until `each` has
    /// enough. Returns the last seq shown.
    fn each_block(
        &self,
        after: Seq,
        each: &mut dyn FnMut(&Block<'_>) -> Result<bool, String>,
    ) -> Result<Seq, ReadError> {
        // sled shows what it has not yet flushed: the durable head is the bound, and it moves only
        // between blocks.
        let head = self.head.get();
        let mut last = after;
        if after >= head {
            return Ok(last);
        }
        let first = self.store.block_start(after + 1)?;
        let mut expected = first;
        for bytes in self.store.blocks_from(first) {
            if expected > head {
                break;
            }
            let (_, bytes) = bytes?;
            let block = self.store.parse(&bytes, expected)?;
            let more = each(&block)
                .map_err(|what| ReadError::Damaged { seq: expected.max(after + 1), what })?;
            last = block.last_seq();
            expected = last + 1;
            if !more {
                return Ok(last);
            }
        }
        if expected <= head { Err(ReadError::Absent { seq: expected }) } else { Ok(last) }
    }
}

impl Drop for SledLog {
    /// A clean stop: everything synced, so that the next opening trusts the kernel's cache.
    fn drop(&mut self) {
        let mut writer = self.writer.lock();
        let synced = writer.poisoned.is_none()
            && self.store.db.flush().is_ok()
            && (self.store.sync_data)(&self.store.data_file).is_ok()
            && self.tiles.sync().is_ok()
            && writer.checkpoint.sync().is_ok();
        if synced {
            // If it stays, the next opening only reads more from the disk.
            let _ = fs::remove_file(&self.store.unclean);
        }
    }
}

impl Store {
    /// Leaves a folder of which nothing was changed as it was found: a start that is refused after
    /// a clean stop is refused again.
    fn leave(&self, was_closed: bool) {
        if was_closed && self.db.flush().is_ok() {
            // If it stays, the next opening reads more from the disk, and believes in a power cut.
            let _ = fs::remove_file(&self.unclean);
        }
    }

    /// What to add where records are missing from the end.
    pub(super) fn cause_of_loss(&self) -> String {
        let cut = |at| {
            format!(
                "; the store's file was cut off at byte {at} when it was opened: damage there, not deletion, may be the cause"
            )
        };
        self.cut_at.map(cut).unwrap_or_default()
    }

    /// The bytes of whole blocks, parts put together, from the block that begins at `first` on,
    /// each under the seq of its key.
    pub(super) fn blocks_from(
        &self,
        first: Seq,
    ) -> impl Iterator<Item = Result<(Seq, Vec<u8>), ReadError>> + Send + use<> {
        let mut values = self.blocks.range(part_key(first, 0)..).peekable();
        let mut expected = first;
        std::iter::from_fn(move || {
            let (key, value) = match values.next()? {
                Ok(pair) => pair,
                Err(error) => return Some(Err(ReadError::Store(error.to_string()))),
            };
            let (seq, part) = split_key(&key).unwrap_or((expected, 0));
            if part != 0 {
                return Some(Err(ReadError::Damaged {
                    seq,
                    what: "it has a part but no beginning".into(),
                }));
            }
            expected = seq + 1;
            let mut bytes = value.to_vec();
            let length = match block::block_len(&bytes) {
                Ok(length) => length,
                Err(what) => return Some(Err(ReadError::Damaged { seq, what })),
            };
            let mut part = 0;
            while bytes.len() < length {
                part += 1;
                // What is not the next part may be the next block.
                let next = values.next_if(|pair| {
                    pair.as_ref().map_or(true, |(key, _)| split_key(key) == Some((seq, part)))
                });
                match next {
                    Some(Ok((_, value))) => bytes.extend_from_slice(&value),
                    Some(Err(error)) => return Some(Err(ReadError::Store(error.to_string()))),
                    None => {
                        return Some(Err(ReadError::Damaged {
                            seq,
                            what: "a part of it is missing".into(),
                        }));
                    }
                }
            }
            Some(Ok((seq, bytes)))
        })
    }

    /// Reads a block and sees that it is the one expected.
    pub(super) fn parse<'a>(
        &self,
        bytes: &'a [u8],
        first_seq: Seq,
    ) -> Result<Block<'a>, ReadError> {
        let damaged = |what: String| ReadError::Damaged { seq: first_seq, what };
        let block = Block::parse(bytes).map_err(damaged)?;
        if block.log_id() != self.log_id {
            return Err(damaged("it belongs to another log".into()));
        }
        if block.first_seq() != first_seq {
            return Err(damaged(format!("record {} stands in its place", block.first_seq())));
        }
        Ok(block)
    }

    /// The first seq of the block that holds `seq`.
    fn block_start(&self, seq: Seq) -> Result<Seq, ReadError> {
        let found = self
            .blocks
            .get_lt((seq + 1).to_be_bytes())
            .map_err(|error| ReadError::Store(error.to_string()))?;
        let first = found.and_then(|(key, _)| split_key(&key)).map(|(first, _)| first);
        first.ok_or(ReadError::Absent { seq })
    }

    fn record(&self, seq: Seq) -> Result<Record, ReadError> {
        let records = self.with_block(seq, |block| block.records())?;
        records.into_iter().find(|record| record.seq == seq).ok_or(ReadError::Absent { seq })
    }

    /// Reads from the block that holds `seq`.
    fn with_block<T>(
        &self,
        seq: Seq,
        read: impl FnOnce(&Block<'_>) -> Result<T, String>,
    ) -> Result<T, ReadError> {
        let found = self
            .blocks
            .get_lt((seq + 1).to_be_bytes())
            .map_err(|error| ReadError::Store(error.to_string()))?;
        let (key, value) = found.ok_or(ReadError::Absent { seq })?;
        let (first, part) = split_key(&key).ok_or(ReadError::Absent { seq })?;
        // Nearly every block is one value, read where it lies; only a single large event is put
        // together from parts.
        let whole;
        let bytes = if part == 0 {
            value.as_ref()
        } else {
            whole = self.blocks_from(first).next().ok_or(ReadError::Absent { seq })??.1;
            whole.as_slice()
        };
        let block = self.parse(bytes, first)?;
        if block.last_seq() < seq {
            return Err(ReadError::Absent { seq });
        }
        read(&block).map_err(|what| ReadError::Damaged { seq, what })
    }

    pub(super) fn candidate(&self, seq: Seq) -> Result<Candidate, ReadError> {
        let record = self.record(seq)?;
        Ok(Candidate {
            event_id: record.event_id,
            conflict: record.status != RecordStatus::Counts,
            body: record.body,
        })
    }
}

/// First seq of the block, then the number of the part: both big-endian, so that keys sort as the
/// log does.
pub(super) fn part_key(first_seq: Seq, part: usize) -> [u8; 10] {
    let mut key = [0; 10];
    let bytes = first_seq.to_be_bytes().into_iter().chain((part as u16).to_be_bytes());
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    key
}

fn split_key(key: &[u8]) -> Option<(Seq, usize)> {
    let (seq, part) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*seq), usize::from(u16::from_be_bytes(part.try_into().ok()?))))
}

/// Opens sled, turning its panics into errors.
fn open_sled(folder: &Path, cache_bytes: u64) -> Result<sled::Db, String> {
    let config = sled::Config::new()
        .path(folder)
        .cache_capacity(cache_bytes)
        .mode(sled::Mode::HighThroughput)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None);
    let open = || {
        catch_unwind(AssertUnwindSafe(|| config.open()))
            .map_err(|_| "it panicked while opening".to_owned())?
            .map_err(|error| error.to_string())
    };
    // The folder's own lock is held, so nobody else has the store: sled lets go of its lock a
    // moment after its last handle is dropped.
    let mut opened = open();
    for _ in 0..LOCK_TRIES_MAX {
        match &opened {
            Err(error) if error.contains("could not acquire lock") => {
                std::thread::sleep(LOCK_PAUSE);
                opened = open();
            }
            _ => break,
        }
    }
    opened
}

fn remove_snapshots(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("snap.") || name.ends_with(".generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// After a stop that was not clean, what the kernel still holds of the store may be what a failed
/// sync never wrote: read from the disk.
fn forget_cached_pages(folder: &Path) -> io::Result<()> {
    match File::open(folder.join("db")) {
        Ok(file) => Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Where what was written into sled's file ends, and zeros begin. Reads backwards from its end,
/// mostly less than a segment.
fn written_end(folder: &Path) -> io::Result<u64> {
    let file = match File::open(folder.join("db")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut end = file.metadata()?.len();
    let mut bytes = vec![0; READ_BACK_BYTES];
    while end > 0 {
        let start = end.saturating_sub(READ_BACK_BYTES as u64);
        let bytes = bytes.get_mut(..(end - start) as usize).unwrap_or_default();
        file.read_exact_at(bytes, start)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte != 0) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn count(folder: &Path) -> io::Result<usize> {
    Ok(fs::read_dir(folder)?.count())
}

fn sync_all(paths: &[&Path]) -> io::Result<()> {
    paths.iter().try_for_each(|path| File::open(path)?.sync_all())
}

/// Rewrites what is stored under the keys of the blocks behind the log's back.
#[cfg(test)]
pub(super) fn rewrite(
    folder: &Path,
    change: impl FnOnce(&mut std::collections::BTreeMap<Vec<u8>, Vec<u8>>),
) {
    let db = open_sled(&folder.join("store"), 16 << 20).unwrap();
    let blocks = db.open_tree(BLOCK_TREE).unwrap();
    let before: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = blocks
        .iter()
        .map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap())
        .collect();
    let mut after = before.clone();
    change(&mut after);
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        blocks.remove(key).unwrap();
    }
    for (key, value) in after.iter().filter(|(key, value)| before.get(*key) != Some(value)) {
        blocks.insert(key.as_slice(), value.as_slice()).unwrap();
    }
    db.flush().unwrap();
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use rollcall_generator::sign;

    const NOW: Millis = 1_760_000_000_000;

    fn event(id: &str, filling: &[u8]) -> Verified {
        let filling: String = filling
            .iter()
            .map(|byte| char::from(b' ' + byte % 90))
            .filter(|c| !"\\\"".contains(*c))
            .collect();
        let body = format!(
            r#"{{"id":"{id}","event":"x.y","data":{{"filling":"{filling}"}},"created_at":"2025-01-01T00:00:00Z"}}"#
        );
        let header = sign("s", NOW, body.as_bytes());
        Verified::webhook(&Keyring::new(["s"], 0), Some(header.as_bytes()), body.into(), NOW)
            .unwrap()
    }

    /// A body that does not compress: no event, but kept like any other.
    fn noise(bytes: usize) -> Verified {
        let mut body = vec![0; bytes];
        getrandom::fill(&mut body).unwrap();
        let header = sign("s", NOW, &body);
        Verified::webhook(&Keyring::new(["s"], 0), Some(header.as_bytes()), body.into(), NOW)
            .unwrap()
    }

    fn open(folder: &Path) -> SledLog {
        Unrecovered::open(folder, 64 << 20).unwrap().recover(&|_| {}).unwrap()
    }

    #[test]
    fn every_append_syncs_the_data_file_before_it_returns() {
        let folder = tempfile::tempdir().unwrap();
        let syncs = Arc::new(AtomicU64::new(0));
        let (counted, data) = (syncs.clone(), folder.path().to_owned());
        let log = Unrecovered::open(folder.path(), 64 << 20)
            .unwrap()
            .syncing_by(move |file| {
                let round = counted.fetch_add(1, Ordering::SeqCst) + 1;
                // What is synced is the file that sled writes, and the event is in it by now.
                let path = data.join("store/db");
                assert_eq!(file.metadata()?.ino(), fs::metadata(&path)?.ino());
                let marker = format!("marker-{round}-of-20");
                assert!(
                    round > 20
                        || fs::read(&path)?
                            .windows(marker.len())
                            .any(|bytes| bytes == marker.as_bytes()),
                    "{round}"
                );
                file.sync_data()
            })
            .recover(&|_| {})
            .unwrap();
        for round in 1..=20 {
            log.append(vec![event(&format!("marker-{round}-of-20"), b"x")], NOW).unwrap();
            assert_eq!(syncs.load(Ordering::SeqCst), round);
        }
        // A duplicate is durable already.
        log.append(vec![event("marker-1-of-20", b"x")], NOW).unwrap();
        assert_eq!(syncs.load(Ordering::SeqCst), 20);
    }

    #[test]
    fn after_a_failed_sync_nothing_is_taken_until_the_log_is_reopened_and_the_same_events_may_come_again()
     {
        let folder = tempfile::tempdir().unwrap();
        let syncs = AtomicU64::new(0);
        let log = Unrecovered::open(folder.path(), 64 << 20)
            .unwrap()
            .syncing_by(move |file| match syncs.fetch_add(1, Ordering::SeqCst) {
                2 => Err(io::Error::other("the disk is gone")),
                _ => file.sync_data(),
            })
            .recover(&|_| {})
            .unwrap();
        for id in ["a", "b"] {
            log.append(vec![event(id, b"")], NOW).unwrap();
        }
        assert!(matches!(log.append(vec![event("c", b"")], NOW), Err(AppendError::Unknown(_))));
        assert_eq!(log.head(), 2, "what is not durable is not shown");
        assert_eq!(log.read(0, 10, 1 << 20).unwrap().len(), 2);
        assert!(matches!(log.append(vec![event("d", b"")], NOW), Err(AppendError::Rejected(_))));
        drop(log);
        let log = open(folder.path());
        let outcomes =
            log.append(["a", "b", "c", "d"].map(|id| event(id, b"")).into(), NOW).unwrap();
        // The third may have reached the disk or not; nothing else may differ.
        assert!(matches!(outcomes[..2], [Outcome::Duplicate(1), Outcome::Duplicate(2)]));
        assert!(matches!(
            outcomes[2..],
            [Outcome::Duplicate(3) | Outcome::New(3), Outcome::New(4)]
        ));
    }

    #[test]
    fn the_largest_incompressible_values_never_spill_and_come_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        let mut bodies = Vec::new();
        for round in 0..24 {
            // One event of nearly 1 MiB, a batch of nearly 4 MiB, and single events just below and
            // above a value's size.
            let sizes: Vec<usize> = match round % 4 {
                0 => vec![1 << 20],
                1 => vec![100_000; 41],
                2 => vec![VALUE_BYTES_MAX - 700],
                _ => vec![VALUE_BYTES_MAX + 1, 16, 65_000],
            };
            let events: Vec<Verified> = sizes.iter().map(|size| noise(*size)).collect();
            bodies.extend(events.iter().map(|event| event.body().clone()));
            log.append(events, NOW).unwrap();
            assert_eq!(
                fs::read_dir(folder.path().join("store/blobs")).unwrap().count(),
                0,
                "round {round}"
            );
        }
        drop(log);
        let log = open(folder.path());
        let seqs: Vec<Seq> = (1..=bodies.len() as Seq).collect();
        assert!(log.bodies(&seqs).unwrap() == bodies);
        let read: Vec<Bytes> = log
            .read(0, usize::MAX, usize::MAX)
            .unwrap()
            .into_iter()
            .map(|record| record.body)
            .collect();
        assert!(read == bodies);
    }

    /// Rewrites a stored value behind the log's back.
    fn tamper(folder: &Path, change: impl Fn(&sled::Tree)) {
        let db = open_sled(&folder.join("store"), 64 << 20).unwrap();
        change(&db.open_tree(BLOCK_TREE).unwrap());
        db.flush().unwrap();
    }

    fn filled(folder: &Path) {
        let log = open(folder);
        for id in ["a", "b", "c", "d"] {
            log.append(vec![event(id, b"filling")], NOW).unwrap();
        }
    }

    fn first_bad(folder: &Path) -> Option<Seq> {
        match Unrecovered::open(folder, 64 << 20).and_then(|log| log.recover(&|_| {})) {
            Ok(_) => None,
            Err(OpenError::Diverged { seq, .. }) => Some(seq),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_missing_record_is_named_when_the_log_is_opened() {
        for (gone, seq) in [(1, 1), (3, 3), (4, 4)] {
            let folder = tempfile::tempdir().unwrap();
            filled(folder.path());
            assert_eq!(first_bad(folder.path()), None);
            tamper(folder.path(), |blocks| drop(blocks.remove(part_key(gone, 0)).unwrap()));
            assert_eq!(first_bad(folder.path()), Some(seq));
        }
    }

    #[test]
    fn a_record_in_anothers_place_is_named_when_the_log_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        tamper(folder.path(), |blocks| {
            let [b, c] = [2, 3].map(|seq| blocks.get(part_key(seq, 0)).unwrap().unwrap());
            blocks.insert(part_key(2, 0), c).unwrap();
            blocks.insert(part_key(3, 0), b).unwrap();
        });
        assert_eq!(first_bad(folder.path()), Some(2));
    }

    #[test]
    fn a_flipped_byte_is_never_read_as_something_else() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        let whole = open(folder.path()).read(0, 10, 1 << 20).unwrap();
        let length = std::cell::Cell::new(0);
        tamper(folder.path(), |blocks| {
            length.set(blocks.get(part_key(2, 0)).unwrap().unwrap().len())
        });
        for at in (0..length.get()).step_by(7) {
            let flip = |blocks: &sled::Tree| {
                let mut bytes = blocks.get(part_key(2, 0)).unwrap().unwrap().to_vec();
                bytes[at] ^= 0x40;
                blocks.insert(part_key(2, 0), bytes).unwrap();
            };
            tamper(folder.path(), flip);
            match Unrecovered::open(folder.path(), 64 << 20).unwrap().recover(&|_| {}) {
                Ok(log) => match log.read(0, 10, 1 << 20) {
                    Err(ReadError::Damaged { seq, .. }) => assert_eq!(seq, 2),
                    // A section that only the fold reads.
                    Ok(read) => {
                        assert!(read == whole);
                        let folded = log.entries(0, 10, &mut |_| {});
                        assert!(
                            matches!(folded, Err(ReadError::Damaged { seq: 2, .. })),
                            "byte {at}: {folded:?}"
                        );
                    }
                    other => panic!("byte {at}: {other:?}"),
                },
                Err(OpenError::Diverged { seq, .. }) => assert_eq!(seq, 2),
                Err(other) => panic!("byte {at}: {other}"),
            }
            tamper(folder.path(), flip);
        }
        assert!(open(folder.path()).read(0, 10, 1 << 20).unwrap() == whole);
    }

    #[test]
    fn a_half_written_snapshot_does_not_keep_the_log_from_opening() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        let store = folder.path().join("store");
        for entry in fs::read_dir(&store).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            }
        }
        fs::write(store.join("snap.00000000000000FF.generating"), b"half").unwrap();
        assert_eq!(open(folder.path()).head(), 4);
    }

    #[test]
    fn a_folder_that_is_in_use_is_not_opened_twice() {
        let folder = tempfile::tempdir().unwrap();
        let _log = open(folder.path());
        assert!(matches!(Unrecovered::open(folder.path(), 64 << 20), Err(OpenError::InUse(_))));
    }
}
