//! The state of a source, for those who operate the server.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rollcall_projections::Millis;

use crate::time;

/// The last error, until what it was about has succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFault {
    /// A stable word.
    pub code: &'static str,
    /// A sentence without secrets.
    pub message: String,
    /// When it happened.
    pub at: Millis,
}

/// The moments of a source; each is `None` until it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMoments {
    /// The id of the last event that was taken.
    pub cursor: Option<String>,
    /// The start of the last pull that reached the end.
    pub caught_up_at: Option<Millis>,
    /// When the source last answered a request.
    pub last_success_at: Option<Millis>,
    /// The last error.
    pub last_error: Option<SourceFault>,
    /// When a request that failed is sent again. It may be past.
    pub next_try_at: Option<Millis>,
}

/// The counts of a source since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceCounts {
    /// The events that were recorded.
    pub new: u64,
    /// The events that were in the log already.
    pub duplicates: u64,
    /// The duplicates whose content differs from that of the log.
    pub differs: u64,
    /// The differences that reconciliations held.
    pub held: u64,
    /// The young events that the last pull which reached the end left to their webhooks.
    pub left: u64,
}

/// Tells whether a source answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Its last answer could be used.
    Answering,
    /// Its last error is not over.
    Failing,
}

/// The state of a source since the start.
#[derive(Default)]
pub struct SourceStatus {
    moments: Mutex<SourceMoments>,
    /// The state, and the moment at which it began; `None` before the first answer or error.
    state: Mutex<Option<(SourceState, Millis)>>,
    new: AtomicU64,
    duplicates: AtomicU64,
    differs: AtomicU64,
    held: AtomicU64,
    left: AtomicU64,
}

impl SourceStatus {
    /// Returns the moments.
    pub fn moments(&self) -> SourceMoments {
        self.moments.lock().clone()
    }

    /// Returns whether the source answers, and since when; `None` before its first answer or error.
    pub fn state(&self) -> Option<(SourceState, Millis)> {
        *self.state.lock()
    }

    /// Notes a state. Its moment stays while the state does.
    fn note_state(&self, last_error: Option<&SourceFault>) {
        let now = if last_error.is_some() { SourceState::Failing } else { SourceState::Answering };
        let mut state = self.state.lock();
        if state.is_none_or(|(before, _)| before != now) {
            *state = Some((now, time::now_ms()));
        }
    }

    /// Returns the counts.
    pub fn counts(&self) -> SourceCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        SourceCounts {
            new: read(&self.new),
            duplicates: read(&self.duplicates),
            differs: read(&self.differs),
            held: read(&self.held),
            left: read(&self.left),
        }
    }

    /// Counts differences that a reconciliation held.
    pub fn add_held(&self, held: u64) {
        self.held.fetch_add(held, Ordering::Relaxed);
    }

    pub(super) fn add_pulled(&self, new: u64, duplicates: u64, differs: u64) {
        self.new.fetch_add(new, Ordering::Relaxed);
        self.duplicates.fetch_add(duplicates, Ordering::Relaxed);
        self.differs.fetch_add(differs, Ordering::Relaxed);
    }

    pub(super) fn set_cursor(&self, cursor: Option<String>) {
        self.moments.lock().cursor = cursor;
    }

    /// Notes a pull that reached the end, and the number of young events that it left to their
    /// webhooks.
    pub(super) fn set_caught_up(&self, started_at: Millis, left: u64) {
        let mut moments = self.moments.lock();
        self.left.store(left, Ordering::Relaxed);
        moments.caught_up_at = Some(started_at);
        moments.last_error = None;
        self.note_state(None);
    }

    /// Notes an answer. It ends a fault of the connection, and no other.
    pub(super) fn note_success(&self) {
        let mut moments = self.moments.lock();
        moments.last_success_at = Some(time::now_ms());
        if moments.last_error.as_ref().is_some_and(|fault| TRANSIENT.contains(&fault.code)) {
            moments.last_error = None;
        }
        self.note_state(moments.last_error.as_ref());
    }

    /// Notes when a request that failed is sent again.
    pub(super) fn note_next_try(&self, at: Millis) {
        self.moments.lock().next_try_at = Some(at);
    }

    /// Notes that the request which was to be sent again at this moment is sent, perhaps before it.
    pub(super) fn end_pause(&self, at: Millis) {
        let mut moments = self.moments.lock();
        moments.next_try_at = moments.next_try_at.filter(|next| *next != at);
    }

    /// Notes a fault. Returns true if the last one was another.
    pub(super) fn note_fault(&self, code: &'static str, message: String) -> bool {
        let mut moments = self.moments.lock();
        let before = moments.last_error.as_ref();
        let is_new = before.is_none_or(|before| before.code != code || before.message != message);
        moments.last_error = Some(SourceFault { code, message, at: time::now_ms() });
        self.note_state(moments.last_error.as_ref());
        is_new
    }
}

/// The codes of faults that end with the next answer.
const TRANSIENT: [&str; 3] = ["rate_limited", "unauthorized", "unavailable"];
