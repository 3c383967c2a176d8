//! The log: every verified event, in the exact bytes that were signed, in one dense and immutable
//! sequence.

mod acknowledgement;
mod answered;
mod archive;
mod audit;
mod begun_backup;
mod block;
mod dedupe;
mod deferred;
mod disk;
mod disk_log;
mod entries;
mod filling;
mod fork;
mod frame;
#[cfg(test)]
mod fuzzing;
mod kept;
mod lanes;
mod lost_leaves;
mod manifest;
mod memory;
mod merkle;
mod open;
mod place;
mod private;
mod progress;
mod public_files;
mod ranges;
mod raw;
mod receipt;
mod recent;
mod recovery;
mod remaining;
mod restore;
mod s3;
mod salvage;
mod scrub;
mod sled_log;
mod sound;
mod stopped;
mod store;
#[cfg(test)]
mod tampering;
mod tiles;
mod unfinished;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

pub(crate) use archive::{
    Archive, ArchiveSegment, ArchivedRecord, FileDamage, ListedSegment, SEGMENT_BODY_BYTES_MAX,
    SEGMENT_RECORDS_MAX, logs_in, segments_among, segments_in, seqs_of,
};
pub use audit::{Acknowledged, Audit, Finding, LogPart, Signatures, Unsigned};
pub use begun_backup::BegunBackup;
pub(crate) use block::FORMAT;
use bytes::Bytes;
pub use deferred::{DeferredProgress, DeferredStep, DeferredVerdict};
pub use disk::{DISK_RESERVE_BYTES, DiskSpace};
pub use disk_log::DiskLog;
pub use fork::{ForkError, finish_fork, fork};
pub use kept::{Kept, KeptBytes, Prefix};
pub(crate) use lost_leaves::{
    LostLeaves, encode as encode_lost_leaves, is_of_leaves, read_among as lost_leaves_among,
    write as write_lost_leaves,
};
pub(crate) use manifest::{BACKUP_MANIFEST, Checksums, Manifest, checksum};
pub use memory::MemoryLog;
pub use open::{Checked, OpenError, Unchecked, Unrecovered, is_data_folder};
pub use place::{ArchivePlace, PlaceError, S3Access};
pub(crate) use place::{FILE_BYTES_MAX, ListedFile};
pub use progress::{Progress, Report, Stage};
pub(crate) use public_files::{HANDOVERS, PUBLIC_KEY};
pub(crate) use ranges::Ranges;
pub use raw::{DamagedBytes, Harm, records as seq_ranges, seqs_in};
pub use remaining::Damage;
pub use restore::{Missing, RestoreError, Restored, check_archive, restore};
use rollcall_projections::{Entry, Millis, RecordStatus, Seq};
use rustix::io::Errno;
pub use salvage::{SalvageError, Salvaged, salvage};
pub use scrub::{Scrub, ScrubFinding, ScrubPace, ScrubPass, ScrubState};
pub use sled_log::SledLog;
pub use stopped::{StoppedFolder, StoppedLog};
pub use unfinished::{UnfinishedFolder, unfinished_path};

use crate::verify::{Proof, Source, Unusable, Verified};

/// The largest number of events in one batch.
pub const BATCH_EVENTS_MAX: usize = 512;

/// The largest number of body bytes in one batch of more than one event.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// The name of one log: random, and fixed for ever.
pub type LogId = [u8; 16];

/// The identity of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub log_id: LogId,
    /// The version of its record format.
    pub format: u32,
}

/// The outcome of one event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Appended, as this record.
    New(Seq),
    /// An event of the same id is already recorded, and nothing was appended.
    Duplicate {
        /// The record that counts.
        seq: Seq,
        /// True if they are not the same event by their content: then one of the two was pulled or
        /// imported.
        differs: bool,
    },
    /// Recorded as another content under an id that is taken.
    Conflict {
        /// The record that keeps this content.
        seq: Seq,
        /// The record that counts.
        first: Seq,
        /// True if this very content was delivered before.
        duplicate: bool,
    },
}

/// Why a batch was not acknowledged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AppendError {
    /// The batch is certainly not in the log.
    #[error("not appended: {0}")]
    Rejected(String),
    /// The batch may or may not be in the log: send the same events again.
    #[error("it is unknown whether the batch was appended: {0}")]
    Unknown(String),
    /// The disk is full or read-only. Nothing that was acknowledged is lost, and the batch is not
    /// acknowledged. [`Log::resume`] returns `Ok` once the log takes batches again.
    #[error("{cause}")]
    Blocked {
        /// A description for people, with what to do.
        cause: String,
        /// True if writing began: the batch may or may not be in the log, and is settled when the
        /// log takes batches again.
        in_doubt: bool,
    },
}

/// Why reading stopped. No record is ever skipped.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadError {
    /// The record cannot be read back as it was written.
    #[error("record {seq} is damaged: {what}")]
    Damaged {
        /// The first bad record.
        seq: Seq,
        /// A description of the damage.
        what: String,
    },
    /// Only the leaf of this record is known: the log was restored without it, or, in a damaged
    /// folder that is only read, its bytes cannot be read.
    #[error("record {seq} is lost: the log was restored without it, or its bytes cannot be read")]
    Lost {
        /// The record.
        seq: Seq,
    },
    /// There is no such record.
    #[error("there is no record {seq}")]
    Absent {
        /// The record asked for.
        seq: Seq,
    },
    /// The store could not be read.
    #[error("the store cannot be read: {0}")]
    Store(String),
    /// The operating system reported an error, by its code. That may pass, and says nothing about the
    /// records.
    #[error("the store cannot be read: {}", std::io::Error::from_raw_os_error(*code))]
    Disk {
        /// The code of the error.
        code: i32,
    },
}

impl ReadError {
    /// Tells an error of the operating system, which may pass, apart from what a library says about
    /// what it read, and from a file that is not there.
    fn of_disk(error: &std::io::Error) -> ReadError {
        let is_gone = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        match error.raw_os_error().filter(|_| !is_gone) {
            Some(code) => ReadError::Disk { code },
            None => ReadError::Store(error.to_string()),
        }
    }

    /// Returns true if the process lacked something in order to read: memory, descriptors, time.
    fn is_for_want(&self) -> bool {
        let ReadError::Disk { code } = *self else { return false };
        let wants = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::INTR];
        wants.iter().any(|errno| errno.raw_os_error() == code)
    }
}

/// An event as appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The log it belongs to.
    pub log_id: LogId,
    /// Its position.
    pub seq: Seq,
    /// When the log took it.
    pub recorded_at: Millis,
    /// Where it came from.
    pub source: Source,
    /// The source's id, if the body has a usable one.
    pub event_id: Option<String>,
    /// The event's type, if the body has one.
    pub event_type: Option<String>,
    /// Its status: it counts, or conflicts with one that does.
    pub status: RecordStatus,
    /// The proof of its sender.
    pub proof: Proof,
    /// A random salt that keeps the body's digest from being guessed.
    pub salt: [u8; 16],
    /// Why it could not be used when it was recorded, if it could not and that is known.
    pub unusable_at_first: Option<Unusable>,
    /// The raw bytes that were signed.
    pub body: Bytes,
}

impl Record {
    /// Makes the record that `event` becomes.
    fn of(
        log_id: LogId,
        seq: Seq,
        recorded_at: Millis,
        event: &Verified,
        salt: [u8; 16],
        status: RecordStatus,
    ) -> Record {
        Record {
            log_id,
            seq,
            recorded_at,
            source: event.source(),
            event_id: event.event_id().map(Into::into),
            event_type: event.event_type().map(Into::into),
            status,
            proof: event.proof().clone(),
            salt,
            unusable_at_first: event.unusable_at_first(),
            body: event.body().clone(),
        }
    }
}

impl Record {
    /// Returns what identifies its event.
    fn content(&self) -> dedupe::EventContent<'_> {
        let (event_id, copy) = (self.event_id.as_deref(), self.proof.is_copy());
        dedupe::EventContent { event_id, copy, body: &self.body }
    }
}

/// The records of a log, open or not, and its tree.
pub trait History {
    /// Reads records after `after`, in order: at most `events_max`, and no more once `bytes_max` of
    /// bodies are read, but at least one if there is one. Lost records are left out.
    ///
    /// # Errors
    /// Stops at the first bad record.
    fn read(
        &self,
        after: Seq,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError>;

    /// Returns the seq of the newest durable record; 0 before the first.
    fn head(&self) -> Seq;

    /// Returns the identity of this log.
    fn identity(&self) -> Identity;

    /// Returns the tree hash of RFC 6962 over the leaves of the first `size` records; for size 0
    /// the SHA-256 of nothing. At the head it reads nothing.
    ///
    /// # Errors
    /// [`ReadError::Absent`] past the head; [`ReadError::Store`] if the stored tree is damaged.
    fn root(&self, size: Seq) -> Result<[u8; 32], ReadError>;

    /// Returns the leaves of the records without which the log was restored, by their seqs.
    ///
    /// # Errors
    /// If one cannot be read.
    fn lost_leaves(&self) -> Result<BTreeMap<Seq, [u8; 32]>, ReadError> {
        Ok(BTreeMap::new())
    }
}

/// The log behind a small, blocking interface. One thread appends; any number read.
///
/// Seqs are 1, 2, 3 … without gaps. There is no delete, update, truncate or compact.
pub trait Log: History + Send + Sync {
    /// Appends a batch, all or nothing, stamped with `recorded_at` or the last stamp if that is
    /// later. When it returns `Ok` every event named in it is durable, duplicates too. An empty
    /// batch is a barrier that leaves nothing unsynced.
    ///
    /// # Errors
    /// [`AppendError`]; after [`AppendError::Unknown`] the log takes nothing until it is opened
    /// again, and after [`AppendError::Blocked`] nothing until [`Log::resume`] succeeds.
    fn append(
        &self,
        batch: Vec<Verified>,
        recorded_at: Millis,
    ) -> Result<Vec<Outcome>, AppendError>;

    /// Makes the log take batches again after [`AppendError::Blocked`], if its disk takes writes.
    /// It may have more records then: those of the batch that was in doubt.
    ///
    /// # Errors
    /// [`AppendError::Blocked`] as long as the disk takes no writes; otherwise
    /// [`AppendError::Unknown`].
    fn resume(&self) -> Result<(), AppendError> {
        Ok(())
    }

    /// Returns the space on its disk; `None` for a log without one, or if it cannot be known.
    fn disk_space(&self) -> Option<DiskSpace> {
        None
    }

    /// Returns the moment up to which `known_at=<time>` may have been answered before the log was
    /// opened: no record may be stamped so early.
    fn answered(&self) -> Millis {
        Millis::MIN
    }

    /// Keeps, across restarts, that `known_at=<time>` is answered up to `moment`. Returns the
    /// latest moment for which that is kept.
    ///
    /// # Errors
    /// If it cannot be kept: then the answer must not be given.
    fn keep_answered(&self, _moment: Millis) -> std::io::Result<Millis> {
        Ok(Millis::MAX)
    }

    /// Shows `each` an entry for the fold from each record after `after`, at most about
    /// `events_max`, and returns the last seq shown. No body is unpacked unless its facts must be
    /// extracted anew.
    ///
    /// # Errors
    /// Stops at the first bad record; the entries before it have been shown.
    fn entries(
        &self,
        after: Seq,
        events_max: usize,
        each: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<Seq, ReadError>;

    /// Reads the bodies of some records, in the order asked for. Consecutive seqs are cheapest.
    ///
    /// # Errors
    /// [`ReadError::Absent`] past the head; otherwise the first bad record.
    fn bodies(&self, seqs: &[Seq]) -> Result<Vec<Bytes>, ReadError>;

    /// Reads the proofs of some records, in the order asked for. Consecutive seqs are cheapest.
    ///
    /// # Errors
    /// [`ReadError::Absent`] past the head; otherwise the first bad record.
    fn proofs(&self, seqs: &[Seq]) -> Result<Vec<Proof>, ReadError> {
        let proof = |seq: &Seq| {
            let records = self.read(seq.saturating_sub(1), 1, 0)?;
            let record = records.into_iter().find(|record| record.seq == *seq);
            record.map(|record| record.proof).ok_or(ReadError::Absent { seq: *seq })
        };
        seqs.iter().map(proof).collect()
    }

    /// Returns the record that counts under an event id. Does not wait for an append in progress;
    /// unpacks one body.
    ///
    /// # Errors
    /// If a record that may be the one cannot be read.
    fn find(&self, event_id: &str) -> Result<Option<Seq>, ReadError>;

    /// Returns the records up to `head` that `event` may repeat. Reads an index in memory only, and
    /// never waits for the disk. A log may leave out some, or all.
    fn may_repeat(&self, _event: &Verified, _head: Seq) -> Vec<Seq> {
        Vec::new()
    }

    /// Does the same as [`Log::repeats`], but only for records that were appended lately, and only from
    /// memory: hashes the body once for each, and never waits for the disk. `None` leaves it open.
    fn repeats_recent(&self, _event: &Verified, _among: &[Seq]) -> Option<Outcome> {
        None
    }

    /// Returns what appending `event` would return, if it repeats one of the records in `among`, which
    /// [`Log::may_repeat`] returned, so that nothing would be appended: that stays so for ever.
    /// Does not wait for an append in progress; unpacks one body for each.
    ///
    /// # Errors
    /// If one of them cannot be read.
    fn repeats(&self, _event: &Verified, _among: &[Seq]) -> Result<Option<Outcome>, ReadError> {
        Ok(None)
    }

    /// Returns the records without which the log was restored, as pairs of the first and the last.
    /// Their leaves are in the tree, and reading one of them is [`ReadError::Lost`].
    fn lost(&self) -> Vec<(Seq, Seq)> {
        Vec::new()
    }

    /// Returns what a snapshot that covers all records keeps, so that a start from it need not read
    /// them; `None` if this log cannot tell. Costs 6 bytes a record.
    fn keep(&self) -> Option<KeptBytes> {
        None
    }

    /// Checks some more of the records that the start took from a snapshot. A record that is found to
    /// be damaged is refused when it is read from then on, also after an error.
    ///
    /// # Errors
    /// If the tree cannot be read, the log is not open, or the step panicked. The next call takes it
    /// again.
    fn check_deferred(&self) -> Result<DeferredStep, ReadError> {
        Ok(DeferredStep::Ended(DeferredVerdict::Sound))
    }

    /// Returns the state of the standing scrub, and of the check of what the start took from a
    /// snapshot; `None` if there is neither.
    fn scrub(&self) -> Option<ScrubState> {
        None
    }

    /// Waits until the head is past `after`, at most for `timeout`. Returns the head.
    fn wait(&self, after: Seq, timeout: Duration) -> Seq;

    /// Returns the audit path of record `seq` in the tree of `size` records, from the leaf upward
    /// (RFC 6962, section 2.1.1). Reads a few tiles.
    ///
    /// # Errors
    /// [`ReadError::Absent`] if `size` is past the head, or `seq` is 0 or past `size`;
    /// [`ReadError::Store`] as for [`History::root`].
    fn inclusion(&self, seq: Seq, size: Seq) -> Result<Vec<[u8; 32]>, ReadError>;

    /// Returns the proof that the tree of `to` records begins with that of `from` (RFC 6962,
    /// section 2.1.2). From 0, or to itself, there is nothing to prove, and it is empty. Reads a
    /// few tiles.
    ///
    /// # Errors
    /// [`ReadError::Absent`] if `to` is past the head, or `from` is past `to`; [`ReadError::Store`]
    /// as for [`History::root`].
    fn consistency(&self, from: Seq, to: Seq) -> Result<Vec<[u8; 32]>, ReadError>;
}

/// The durable head, with a condition variable that signals its moves.
#[derive(Default)]
struct DurableHead {
    seq: parking_lot::Mutex<Seq>,
    moved: parking_lot::Condvar,
}

impl DurableHead {
    fn get(&self) -> Seq {
        *self.seq.lock()
    }

    fn set(&self, seq: Seq) {
        *self.seq.lock() = seq;
        self.moved.notify_all();
    }

    fn wait(&self, after: Seq, timeout: Duration) -> Seq {
        let mut seq = self.seq.lock();
        self.moved.wait_while_for(&mut seq, |seq| *seq <= after, timeout);
        *seq
    }
}

/// Returns pairs of the first and the last of some records, which are given in order.
pub(crate) fn ranges(seqs: impl IntoIterator<Item = Seq>) -> Vec<(Seq, Seq)> {
    let mut ranges = Vec::new();
    seqs.into_iter().for_each(|seq| add_range(&mut ranges, (seq, seq)));
    ranges
}

/// Adds a record, or several, to pairs of the first and the last.
fn add_range(ranges: &mut Vec<(Seq, Seq)>, (first, last): (Seq, Seq)) {
    match ranges.last_mut() {
        Some((_, end)) if *end + 1 == first => *end = last,
        _ => ranges.push((first, last)),
    }
}

/// Refuses a tree of `size` past `head`, and a `seq` past that size.
fn check_in_tree(seq: Seq, size: Seq, head: Seq) -> Result<(), ReadError> {
    match (size <= head, seq <= size) {
        (true, true) => Ok(()),
        (true, false) => Err(ReadError::Absent { seq }),
        (false, _) => Err(ReadError::Absent { seq: size }),
    }
}

/// Refuses a batch that breaks the log's contract.
fn check_batch(batch: &[Verified], head: Seq) -> Result<(), AppendError> {
    let bytes: usize = batch.iter().map(|event| event.body().len()).sum();
    if batch.len() > BATCH_EVENTS_MAX || (bytes > BATCH_BYTES_MAX && batch.len() > 1) {
        return Err(AppendError::Rejected("the batch is too large".into()));
    }
    // The views keep seqs in 32 bits.
    if head + batch.len() as Seq >= Seq::from(u32::MAX) {
        return Err(AppendError::Rejected("the log is full".into()));
    }
    Ok(())
}
