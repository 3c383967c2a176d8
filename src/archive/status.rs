//! The state of the archive, for operators.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rollcall_projections::{Millis, Seq};

use crate::time;

/// The most damaged files that are named.
const DAMAGED_MAX: usize = 100;

/// The state of the archive while the server runs.
pub struct ArchiveStatus {
    place: String,
    seq: AtomicU64,
    segments: AtomicU64,
    failures: AtomicU64,
    changing: Mutex<Changing>,
}

#[derive(Clone)]
struct Changing {
    /// The moment since which tries succeed, or fail.
    since: Millis,
    /// The moment since which a record waits.
    behind_since: Option<Millis>,
    last_error: Option<ArchiveError>,
    damaged: BTreeSet<String>,
    damaged_at: Option<Millis>,
}

/// The reason why records wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveError {
    /// The moment of the last try.
    pub at: Millis,
    /// A description without secrets.
    pub message: String,
}

/// The state of the archive at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveReport {
    /// The folder or bucket, without secrets.
    pub place: String,
    /// The record up to which all are in the archive.
    pub seq: Seq,
    /// The number of records that are not.
    pub lag_records: u64,
    /// For how long the oldest of them is in the log, in milliseconds; 0 if there is none.
    pub lag_ms: Millis,
    /// The segments written since the start.
    pub segments: u64,
    /// The tries since the start that failed.
    pub failures: u64,
    /// The moment since which tries succeed, or fail; before the first, that of the start.
    pub since: Millis,
    /// Why the last try failed; `None` after one that did not.
    pub last_error: Option<ArchiveError>,
    /// The files that were found damaged, in order. What they should hold is written again in others.
    pub damaged: Vec<String>,
    /// The moment at which the first of them was found.
    pub damaged_at: Option<Millis>,
}

impl ArchiveStatus {
    pub(super) fn new(place: String) -> ArchiveStatus {
        ArchiveStatus {
            place,
            seq: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            changing: Mutex::new(Changing {
                since: time::now_ms(),
                behind_since: None,
                last_error: None,
                damaged: BTreeSet::new(),
                damaged_at: None,
            }),
        }
    }

    /// Returns the state. Reads no file and asks no server.
    pub fn report(&self, head: Seq) -> ArchiveReport {
        let Changing { since, behind_since, last_error, damaged, damaged_at } =
            self.changing.lock().clone();
        let seq = self.seq.load(Ordering::Acquire);
        let lag_records = head.saturating_sub(seq);
        let behind_since = behind_since.filter(|_| lag_records > 0);
        ArchiveReport {
            place: self.place.clone(),
            seq,
            lag_records,
            lag_ms: behind_since.map_or(0, |behind| (time::now_ms() - behind).max(0)),
            segments: self.segments.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            since,
            last_error,
            damaged: damaged.into_iter().collect(),
            damaged_at,
        }
    }

    pub(super) fn count_segment(&self) {
        self.segments.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how far the archive goes, and since when a record waits.
    pub(super) fn reached(&self, seq: Seq, behind_since: Option<Millis>) {
        self.seq.store(seq, Ordering::Release);
        self.changing.lock().behind_since = behind_since;
    }

    /// Begins anew to note damaged files, since the archive is looked at again.
    pub(super) fn forget_damaged(&self) {
        let mut changing = self.changing.lock();
        changing.damaged.clear();
    }

    /// Notes a file that is damaged, and warns of it, once for each.
    pub(super) fn found_damaged(&self, at: &str, name: &str, what: &str) {
        let mut changing = self.changing.lock();
        if changing.damaged.len() >= DAMAGED_MAX {
            return;
        }
        changing.damaged_at.get_or_insert_with(time::now_ms);
        if changing.damaged.insert(name.to_owned()) {
            tracing::warn!(
                file = at,
                what,
                "a file of the archive is damaged: what it should hold is written again in others; \
                move it away"
            );
        }
    }

    pub(super) fn succeeded(&self) {
        let mut changing = self.changing.lock();
        if changing.last_error.take().is_some() {
            changing.since = time::now_ms();
        }
    }

    pub(super) fn failed(&self, message: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let at = time::now_ms();
        let mut changing = self.changing.lock();
        // What waits before the archive was ever reached waits at least since now.
        changing.behind_since.get_or_insert(at);
        if changing.last_error.replace(ArchiveError { at, message }).is_none() {
            changing.since = at;
        }
    }
}
