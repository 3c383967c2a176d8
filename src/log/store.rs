//! sled and its quirks. No other file names it.
//!
//! - On Linux sled's flush ends in `sync_file_range`, which syncs neither the file's size nor the
//!   device's cache: [`Store::sync`] calls `fdatasync` through a handle of our own.
//! - A large page spills into a file of its own in `blobs/`, which that sync does not cover: values
//!   are kept small, and [`Store::refuse_blobs`] makes sure.
//! - When sled opens a damaged file it cuts it off at the damage: the file is read without sled first,
//!   in `raw`.
//! - A half-written snapshot keeps sled from opening, and other damage makes it panic.
//! - Of its threads each write wakes all, and a write that fails on one of them is not always reported
//!   to the flush that waits for it: both are seen to in `threads`.
//! - Its lock is released a moment after its last handle is dropped: ours is taken first.

mod threads;

use std::fs::{self, File};
use std::io::{self, Read};
use std::iter::Peekable;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rollcall_projections::{Entry, Seq};
use rustix::fs::{FallocateFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::block::{self, Block, FORMAT, Frame, VALUE_BYTES_MAX};
use super::dedupe::Candidate;
use super::disk::{DiskFault, WRITTEN_FOR_EACH_BYTE};
use super::lost_leaves::LostLeaves;
use super::raw::{self, SEGMENT_BYTES};
use super::{LogId, ReadError, Record};
use crate::files;
use threads::{Waker, park_most};

/// A commit of at most this many bytes fits into the rest of a segment and the next one, also when
/// sled writes its pages again.
const SMALL_BYTES: u64 = 1 << 20;

/// The number of bytes of a folder's entries that are read at once.
const ENTRIES_READ_BYTES: usize = 1 << 10;

/// The number of tries to take sled's own lock, and the pause after each.
const LOCK_TRIES_MAX: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The most bytes of sled's file of settings that are read. It has some hundred.
const CONF_BYTES_MAX: u64 = 64 << 10;

const META_TREE: &[u8] = b"meta";
const BLOCK_TREE: &[u8] = b"blocks";
pub(super) const IDENTITY_KEY: &[u8] = b"identity";

/// Why a store does not open.
#[derive(Debug)]
pub(super) enum StoreError {
    /// Another process uses it.
    InUse,
    /// The disk reports an error.
    Io(io::Error),
    /// Its files are damaged.
    Damaged(String),
    /// It is whole, and has neither a name nor a block.
    Unnamed,
    /// It has another format.
    Format(u32),
    /// The user with this id owns it, and could not read what this process creates.
    OfUser(u32),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> StoreError {
        StoreError::Io(error)
    }
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> StoreError {
        match error {
            // Others are sled's own, about what it read.
            sled::Error::Io(error) if DiskFault::of(&error).is_some() || is_of_the_disk(&error) => {
                StoreError::Io(error)
            }
            other => StoreError::Damaged(other.to_string()),
        }
    }
}

/// Returns whether the operating system reported an error, and not sled.
fn is_of_the_disk(error: &io::Error) -> bool {
    error.raw_os_error().is_some()
}

/// Keeps the kind of an error of the disk.
fn io_error(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

impl From<sled::Error> for ReadError {
    fn from(error: sled::Error) -> ReadError {
        match error {
            sled::Error::Io(error) => ReadError::of_disk(&error),
            other => ReadError::Store(other.to_string()),
        }
    }
}

pub(super) type SyncData = Box<dyn Fn(&File) -> io::Result<()> + Send + Sync>;

/// The part of the data file that has disk blocks.
#[derive(Default)]
struct Allocated {
    /// Its end, which is mostly behind the end of the file.
    end: u64,
    /// The length of the file when it was seen last.
    file_bytes: u64,
}

/// The blocks of a log in sled, locked for this process.
pub(super) struct Store {
    pub(super) log_id: LogId,
    db: sled::Db,
    waker: Arc<Waker>,
    blocks: sled::Tree,
    /// sled's data file, for the sync that sled does not do.
    data_file: File,
    /// `File::sync_data`, except in tests that count or fail it.
    sync_data: SyncData,
    /// The part of the data file that has disk blocks.
    allocated: Mutex<Allocated>,
    folder: PathBuf,
    /// sled's folder of large values, held open: a look into it must not fail for want of a
    /// descriptor.
    blobs: File,
    /// The number of files that earlier failed commits left in `blobs/`; synced at opening.
    blobs_before: usize,
    /// A file that exists while the store is open. If it is there at the next opening, the store
    /// was not closed.
    unclean: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl Store {
    /// Returns whether there is a store in the data folder `folder`.
    pub(super) fn is_in(folder: &Path) -> bool {
        folder.join("store").join("db").exists()
    }

    /// Opens or creates the store in the data folder `folder`, whose `lock` is held. Its files are
    /// not synced yet: see [`Store::sync_all`].
    pub(super) fn open(folder: &Path, cache_bytes: u64, lock: File) -> Result<Store, StoreError> {
        Store::open_as(folder, cache_bytes, lock, || uuid::Uuid::new_v4().into_bytes())
    }

    /// Creates the store of the log `log_id` in the new data folder `folder`.
    pub(super) fn create(
        folder: &Path,
        cache_bytes: u64,
        log_id: LogId,
    ) -> Result<Store, StoreError> {
        Store::open_as(folder, cache_bytes, create_lock(folder)?, || log_id)
    }

    fn open_as(
        folder: &Path,
        cache_bytes: u64,
        lock: File,
        new_id: impl FnOnce() -> LogId,
    ) -> Result<Store, StoreError> {
        let store_folder = folder.join("store");
        fs::create_dir_all(&store_folder)?;
        let unclean = folder.join("unclean");
        files::open_or_create(&unclean)?.sync_all()?;
        remove_damaged_conf(&store_folder)?;
        remove_odd_snapshots(&store_folder)?;
        let db = open_sled_or_rebuild(&store_folder, cache_bytes)?;
        let meta = db.open_tree(META_TREE)?;
        let blocks = db.open_tree(BLOCK_TREE)?;
        let log_id = identity(&meta, blocks.is_empty(), new_id)?;
        let data_file = File::options().read(true).write(true).open(store_folder.join("db"))?;
        let blobs = File::open(store_folder.join("blobs"))?;
        park_most(&db);
        Ok(Store {
            log_id,
            waker: Waker::start(db.clone())?,
            db,
            blocks,
            data_file,
            sync_data: Box::new(File::sync_data),
            allocated: Mutex::default(),
            folder: store_folder,
            blobs,
            blobs_before: 0,
            unclean,
            _lock: lock,
        })
    }

    /// Syncs everything that opening may have created, up to the entry of the data folder `folder`.
    pub(super) fn sync_all(&mut self, folder: &Path) -> Result<(), StoreError> {
        self.waker.watch(|| self.db.flush())?;
        let blobs = self.folder.join("blobs");
        for blob in fs::read_dir(&blobs)? {
            File::open(blob?.path())?.sync_all()?;
        }
        self.blobs_before = count(&self.blobs)?;
        let (db, conf) = (self.folder.join("db"), self.folder.join("conf"));
        sync_all(&[&db, &conf, &blobs, &self.folder, folder])?;
        if let Some(parent) = folder.canonicalize()?.parent() {
            sync_all(&[parent])?;
        }
        Ok(())
    }

    /// Replaces [`Store::sync`].
    #[cfg(test)]
    pub(super) fn sync_by(&mut self, sync_data: SyncData) {
        self.sync_data = sync_data;
    }

    /// Takes disk blocks for a commit of `bytes`, behind the end of the data file, so that sled does
    /// not run into a full disk: it cannot read the pages that it could not write. A file system
    /// that cannot reserve blocks is left to the margin of free space.
    ///
    /// # Errors
    /// If the disk is full or read-only. Nothing is written then.
    pub(super) fn allocate(&self, bytes: u64) -> io::Result<()> {
        let file_bytes = self.data_file.metadata()?.len();
        let mut allocated = self.allocated.lock();
        if file_bytes < allocated.file_bytes {
            // sled cut free segments off its file, and with them all blocks behind its end.
            allocated.end = allocated.end.min(file_bytes);
        }
        allocated.file_bytes = file_bytes;
        let segment = SEGMENT_BYTES as u64;
        let more = if bytes > SMALL_BYTES { bytes * WRITTEN_FOR_EACH_BYTE } else { 0 };
        let end = (file_bytes + segment + more).next_multiple_of(segment);
        if end <= allocated.end {
            return Ok(());
        }
        let (start, flags) = (allocated.end, FallocateFlags::KEEP_SIZE);
        match rustix::fs::fallocate(&self.data_file, flags, start, end - start) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                allocated.end = end;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes blocks, each split into parts, all or nothing. Nothing is durable yet.
    pub(super) fn put(&self, blocks: &[(Seq, Vec<u8>)]) -> io::Result<()> {
        // One value is atomic without a batch, for which sled would write a part of its file more,
        // and wait for that too.
        if let [(seq, bytes)] = blocks
            && bytes.len() <= VALUE_BYTES_MAX
        {
            let insert = || self.blocks.insert(part_key(*seq, 0), bytes.as_slice());
            let put = self.waker.watch(insert);
            return put.map(drop).map_err(io_error);
        }
        let mut batch = sled::Batch::default();
        for (seq, bytes) in blocks {
            for (part, value) in bytes.chunks(VALUE_BYTES_MAX).enumerate() {
                batch.insert(&part_key(*seq, part), value);
            }
        }
        self.waker.watch(|| self.blocks.apply_batch(batch)).map_err(io_error)
    }

    /// Hands every page to the kernel.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.waker.watch(|| self.db.flush()).map(drop).map_err(io_error)
    }

    /// Syncs the data file, so that flushed pages survive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
        (self.sync_data)(&self.data_file)
    }

    /// Fails if sled has put a value into `blobs/`.
    pub(super) fn refuse_blobs(&self) -> io::Result<()> {
        if count(&self.blobs)? > self.blobs_before {
            let what = "the store put a value into its blobs, which are not synced";
            return Err(io::Error::other(what));
        }
        Ok(())
    }

    /// Says what is wrong with the disk, and what to do.
    pub(super) fn message(&self, fault: DiskFault) -> String {
        fault.message(self.folder.parent().unwrap_or(&self.folder))
    }

    /// Returns the last block's first record by its key; 0 if there is none.
    pub(super) fn last_key(&self) -> Result<Seq, StoreError> {
        let last = self.blocks.last()?;
        Ok(last.and_then(|(key, _)| split_key(&key)).map_or(0, |(seq, _)| seq))
    }

    /// Notes that everything was synced, so that the next opening trusts the kernel's cache.
    pub(super) fn mark_clean(&self) {
        // If it stays, the next opening reads more from the disk, and assumes a power cut.
        let _ = fs::remove_file(&self.unclean);
    }
}

/// The blocks of a log, wherever they are read.
pub(super) trait Blocks: Sync {
    /// Returns the name of the log.
    fn log_id(&self) -> LogId;

    /// Reads the bytes of whole blocks, parts put together, from the block that begins at `first`
    /// on, each with the seq of its key.
    fn blocks_from(
        &self,
        first: Seq,
    ) -> impl Iterator<Item = Result<(Seq, Vec<u8>), ReadError>> + Send;

    /// Returns the first seq of the block that holds `seq`.
    fn block_start(&self, seq: Seq) -> Result<Seq, ReadError>;

    /// Reads from the block that holds `seq`, also if its records are lost.
    fn with_any_block<T>(
        &self,
        seq: Seq,
        read: impl FnOnce(&Block<'_>) -> Result<T, String>,
    ) -> Result<T, ReadError> {
        let first = self.block_start(seq)?;
        let (_, bytes) = self.blocks_from(first).next().ok_or(ReadError::Absent { seq })??;
        self.read_block((first, &bytes), seq, read)
    }

    /// Reads from the block that holds `seq`.
    ///
    /// # Errors
    /// [`ReadError::Lost`] if its records are lost.
    fn with_block<T>(
        &self,
        seq: Seq,
        read: impl FnOnce(&Block<'_>) -> Result<T, String>,
    ) -> Result<T, ReadError> {
        let found = self.with_any_block(seq, |block| match block.is_lost() {
            true => Ok(None),
            false => read(block).map(Some),
        })?;
        found.ok_or(ReadError::Lost { seq })
    }

    /// Reads the leaves of lost records, which are given as pairs of the first and the last.
    fn lost_leaves(&self, lost: &[(Seq, Seq)]) -> Result<LostLeaves, ReadError> {
        let mut leaves = LostLeaves::new();
        for (first, last) in lost {
            let mut next = *first;
            while next <= *last {
                let (start, found) = self.with_any_block(next, |block| {
                    let found = block.lost_leaves()?.ok_or("its leaf is missing")?;
                    Ok((block.first_seq(), found))
                })?;
                leaves.extend((start..).zip(found));
                next = leaves.last_key_value().map_or(next, |(last, _)| *last) + 1;
            }
        }
        Ok(leaves)
    }

    /// Reads from the bytes of the block that begins with `first` and should hold `seq`.
    fn read_block<T>(
        &self,
        (first, bytes): (Seq, &[u8]),
        seq: Seq,
        read: impl FnOnce(&Block<'_>) -> Result<T, String>,
    ) -> Result<T, ReadError> {
        let block = self.parse(bytes, first)?;
        if block.last_seq() < seq {
            return Err(ReadError::Absent { seq });
        }
        read(&block).map_err(|what| ReadError::Damaged { seq, what })
    }

    /// Shows the blocks that hold records after `after`, up to record `head`, until `each` has
    /// enough. Returns the last seq shown.
    fn each_block(
        &self,
        after: Seq,
        head: Seq,
        each: &mut dyn FnMut(&Block<'_>) -> Result<bool, String>,
    ) -> Result<Seq, ReadError> {
        let mut last = after;
        if after >= head {
            return Ok(last);
        }
        let first = self.block_start(after + 1)?;
        let mut expected = first;
        for bytes in self.blocks_from(first) {
            if expected > head {
                break;
            }
            let (_, bytes) = bytes?;
            let block = self.parse(&bytes, expected)?;
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

    /// Reads records after `after`, up to record `head`: see [`History::read`](super::History::read).
    fn read(
        &self,
        after: Seq,
        head: Seq,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let (mut out, mut bytes) = (Vec::new(), 0);
        self.each_block(after, head, &mut |block| {
            for record in block.records()?.into_iter().filter(|record| record.seq > after) {
                if out.len() == events_max || (bytes > 0 && bytes + record.body.len() > bytes_max) {
                    return Ok(false);
                }
                bytes += record.body.len();
                out.push(record);
            }
            // The next block may be damaged, and is not asked for.
            Ok(out.len() < events_max && (bytes == 0 || bytes < bytes_max))
        })?;
        Ok(out)
    }

    /// Shows entries after `after`, up to record `head`: see [`Log::entries`](super::Log::entries).
    fn entries(
        &self,
        after: Seq,
        head: Seq,
        events_max: usize,
        each: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<Seq, ReadError> {
        let until = after.saturating_add(events_max as Seq);
        self.each_block(after, head, &mut |block| {
            block.entries(after, each)?;
            Ok(block.last_seq() < until)
        })
    }

    /// Reads a block and checks that it is the expected one.
    fn parse<'a>(&self, bytes: &'a [u8], first_seq: Seq) -> Result<Block<'a>, ReadError> {
        let damaged = |what: String| ReadError::Damaged { seq: first_seq, what };
        let block = Block::parse(bytes).map_err(damaged)?;
        if block.log_id() != self.log_id() {
            return Err(damaged("it belongs to another log".into()));
        }
        if block.first_seq() != first_seq {
            return Err(damaged(format!("record {} is in its place", block.first_seq())));
        }
        Ok(block)
    }

    /// Reads a record.
    fn record(&self, seq: Seq) -> Result<Record, ReadError> {
        self.with_block(seq, |block| block.record(seq))?.ok_or(ReadError::Absent { seq })
    }

    /// Reads the bodies of some records, of which none is past the head, in the order asked for.
    /// Consecutive seqs of one block are read from it at once.
    fn bodies(&self, seqs: &[Seq], head: Seq) -> Result<Vec<Bytes>, ReadError> {
        if let Some(seq) = seqs.iter().copied().find(|seq| *seq == 0 || *seq > head) {
            return Err(ReadError::Absent { seq });
        }
        let mut out = Vec::with_capacity(seqs.len());
        while let Some(first) = seqs.get(out.len()).copied() {
            self.with_block(first, |block| {
                let mut frame: Option<Frame> = None;
                let own = block.first_seq()..=block.last_seq();
                while let Some(seq) = seqs.get(out.len()).filter(|seq| own.contains(seq)) {
                    let body = match frame.as_ref().and_then(|frame| frame.body(*seq)) {
                        Some(body) => Some(body),
                        None => frame.insert(block.frame_of(*seq)?).body(*seq),
                    };
                    out.push(body.ok_or("a body is missing")?);
                }
                Ok(())
            })?;
        }
        Ok(out)
    }

    /// Reads of a record what decides if another is the same.
    fn candidate(&self, seq: Seq) -> Result<Candidate, ReadError> {
        self.record(seq).map(Candidate::from)
    }
}

/// While this many bytes are read in order, about one page of the store is.
const COUNTED_AT_ONCE_BYTES: usize = 4 << 10;

/// The number of accesses that make sled count a page among those that it may evict.
const ACCESSES: usize = 8;

impl Store {
    /// Makes sled count the page that holds `key` in its cache. In each of 256 shards it counts
    /// accesses 64 at a time, and evicts nothing before: a walk that reads each page once would leave
    /// 16,384 pages in a cache of any size, about 100 MB.
    fn count_in_cache(&self, key: &[u8]) -> Result<(), ReadError> {
        (0..ACCESSES).try_for_each(|_| self.blocks.get(key).map(drop)).map_err(ReadError::from)
    }
}

impl Blocks for Store {
    fn log_id(&self) -> LogId {
        self.log_id
    }

    fn blocks_from(
        &self,
        first: Seq,
    ) -> impl Iterator<Item = Result<(Seq, Vec<u8>), ReadError>> + Send {
        let mut values = self.blocks.range(part_key(first, 0)..).peekable();
        let mut expected = first;
        let mut uncounted_bytes = 0;
        std::iter::from_fn(move || {
            let value = values.next()?.map_err(ReadError::from);
            Some(value.and_then(|(key, value)| {
                uncounted_bytes += value.len();
                if uncounted_bytes >= COUNTED_AT_ONCE_BYTES {
                    uncounted_bytes = 0;
                    self.count_in_cache(&key)?;
                }
                let (seq, part) = split_key(&key).unwrap_or((expected, 0));
                if part != 0 {
                    let what = "it has a part but no beginning".into();
                    return Err(ReadError::Damaged { seq, what });
                }
                expected = seq + 1;
                Ok((seq, join_parts(seq, value.to_vec(), &mut values)?))
            }))
        })
    }

    fn block_start(&self, seq: Seq) -> Result<Seq, ReadError> {
        let found = self.blocks.get_lt((seq + 1).to_be_bytes())?;
        let first = found.and_then(|(key, _)| split_key(&key)).map(|(first, _)| first);
        first.ok_or(ReadError::Absent { seq })
    }

    fn with_any_block<T>(
        &self,
        seq: Seq,
        read: impl FnOnce(&Block<'_>) -> Result<T, String>,
    ) -> Result<T, ReadError> {
        let found = self.blocks.get_lt((seq + 1).to_be_bytes())?;
        let (key, value) = found.ok_or(ReadError::Absent { seq })?;
        let (first, part) = split_key(&key).ok_or(ReadError::Absent { seq })?;
        // Nearly every block is one value, read in place; only a single large event is put together
        // from parts.
        let whole;
        let bytes = if part == 0 {
            value.as_ref()
        } else {
            whole = self.blocks_from(first).next().ok_or(ReadError::Absent { seq })??.1;
            whole.as_slice()
        };
        self.read_block((first, bytes), seq, read)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.waker.end();
    }
}

/// Adds to the first part of block `seq` its further parts, which come next in `values`.
fn join_parts(
    seq: Seq,
    mut bytes: Vec<u8>,
    values: &mut Peekable<sled::Iter>,
) -> Result<Vec<u8>, ReadError> {
    let damaged = |what| ReadError::Damaged { seq, what };
    let length = block::extent(&bytes).map_err(damaged)?.bytes;
    let mut part = 0;
    while bytes.len() < length {
        part += 1;
        // Another key than that of the next part may be the next block's.
        let next = values.next_if(|value| {
            value.as_ref().map_or(true, |(key, _)| split_key(key) == Some((seq, part)))
        });
        let (_, value) = next.ok_or_else(|| damaged("a part of it is missing".into()))??;
        bytes.extend_from_slice(&value);
    }
    Ok(bytes)
}

/// Creates the data folder's own lock and takes it.
pub(super) fn create_lock(folder: &Path) -> Result<File, StoreError> {
    take_lock(files::open_or_create(&folder.join("lock"))?)
}

/// Takes the data folder's own lock, if it has one.
pub(super) fn take_existing_lock(folder: &Path) -> Result<Option<File>, StoreError> {
    match files::open(&folder.join("lock")) {
        Ok(lock) => take_lock(lock).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn take_lock(lock: File) -> Result<File, StoreError> {
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse),
        Err(fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Reads the identity of the log. A store without blocks and without an identity gets one.
fn identity(
    meta: &sled::Tree,
    is_empty: bool,
    new_id: impl FnOnce() -> LogId,
) -> Result<LogId, StoreError> {
    let Some(identity) = meta.get(IDENTITY_KEY)? else {
        if !is_empty {
            return Err(StoreError::Damaged("its identity is missing".into()));
        }
        let log_id = new_id();
        let identity = [&u32::from(FORMAT).to_le_bytes()[..], &log_id].concat();
        meta.insert(IDENTITY_KEY, identity)?;
        return Ok(log_id);
    };
    raw::log_id(&identity)
}

/// Makes the key of a part: first seq of the block, then the number of the part, both big-endian,
/// so that keys sort as the log does.
pub(super) fn part_key(first_seq: Seq, part: usize) -> [u8; 10] {
    let mut key = [0; 10];
    let bytes = first_seq.to_be_bytes().into_iter().chain((part as u16).to_be_bytes());
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    key
}

pub(super) fn split_key(key: &[u8]) -> Option<(Seq, usize)> {
    let (seq, part) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*seq), usize::from(u16::from_be_bytes(part.try_into().ok()?))))
}

/// Opens sled. A half-written snapshot keeps it from opening; without one it rebuilds everything
/// from its log.
fn open_sled_or_rebuild(folder: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    open_sled(folder, cache_bytes).or_else(|error| match error {
        // Without a snapshot a disk that takes no writes is no better.
        StoreError::Io(error) => Err(StoreError::Io(error)),
        _ => {
            remove_snapshots(folder)?;
            open_sled(folder, cache_bytes)
        }
    })
}

/// Opens sled and turns its panics into errors.
fn open_sled(folder: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(folder)
        .cache_capacity(cache_bytes)
        .mode(sled::Mode::HighThroughput)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None);
    let open = || {
        catch_unwind(AssertUnwindSafe(|| config.open()))
            .map_err(|_| StoreError::Damaged("it panicked while opening".to_owned()))?
            .map_err(StoreError::from)
    };
    // The folder's own lock is held, so no other process has the store. sled releases its lock a
    // moment after its last handle is dropped.
    let mut opened = open();
    for _ in 0..LOCK_TRIES_MAX {
        match &opened {
            Err(StoreError::Damaged(error)) if error.contains("could not acquire lock") => {
                std::thread::sleep(LOCK_PAUSE);
                opened = open();
            }
            _ => break,
        }
    }
    opened
}

/// Removes sled's file of settings if its check does not fit. It holds nothing but the settings that
/// this process gives as well, and sled writes it anew.
fn remove_damaged_conf(folder: &Path) -> io::Result<()> {
    if conf_is_damaged(folder)? {
        tracing::warn!("the file `store/conf` is damaged: written anew");
        fs::remove_file(folder.join("conf"))?;
    }
    Ok(())
}

/// Returns whether sled's file of settings is there in the store's folder, and its check does not
/// fit.
pub(super) fn conf_is_damaged(folder: &Path) -> io::Result<bool> {
    let mut bytes = Vec::new();
    match files::open(&folder.join("conf")) {
        Ok(file) => file.take(CONF_BYTES_MAX).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) if files::is_not_a_file(&error) => return Ok(true),
        Err(error) => return Err(error),
    };
    let is_whole = bytes
        .split_last_chunk::<4>()
        .is_some_and(|(text, check)| crc32fast::hash(text) == u32::from_le_bytes(*check));
    Ok(!is_whole)
}

/// Removes what is in the place of one of sled's snapshots and is not a file: sled would wait for a
/// pipe.
fn remove_odd_snapshots(folder: &Path) -> io::Result<()> {
    for path in snapshots(folder)? {
        if !fs::symlink_metadata(&path)?.is_file() {
            tracing::warn!(path = %path.display(), "a snapshot is not a file: removed");
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn remove_snapshots(folder: &Path) -> io::Result<()> {
    snapshots(folder)?.into_iter().try_for_each(fs::remove_file)
}

/// Returns the paths of sled's snapshots in the store's folder.
pub(super) fn snapshots(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_snapshot = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("snap.") || name.ends_with(".generating")
    };
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    paths.filter(|path| path.as_ref().map_or(true, is_snapshot)).collect()
}

/// Drops the kernel's cached pages of the store, so that it is read from the disk. After an unclean
/// stop the cache may hold pages that a failed sync never wrote.
pub(super) fn forget_cached_pages(folder: &Path) -> io::Result<()> {
    match files::open(&folder.join("db")) {
        Ok(file) => Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Reading it names what is in its place.
        Err(error) if files::is_not_a_file(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Counts the entries of an open folder, without opening it again.
fn count(folder: &File) -> io::Result<usize> {
    rustix::fs::seek(folder, SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::uninit(); ENTRIES_READ_BYTES];
    let (mut entries, mut count) = (RawDir::new(folder, &mut buffer), 0);
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_bytes().to_owned();
        count += usize::from(name != b"." && name != b"..");
    }
    Ok(count)
}

fn sync_all(paths: &[&Path]) -> io::Result<()> {
    paths.iter().try_for_each(|path| File::open(path)?.sync_all())
}

/// Changes the stored blocks without the log.
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
