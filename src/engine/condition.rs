//! The condition of the log and of the clock, and since when, for those who operate the server.

use std::sync::atomic::{AtomicI64, Ordering};

use rollcall_projections::Millis;

use super::Engine;

/// A state, and the moment at which it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since<S> {
    /// The state.
    pub state: S,
    /// The moment at which it began, by the server's clock.
    pub since: Millis,
}

/// The condition of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogState {
    /// It takes records.
    Open,
    /// Its disk takes no writes. It takes records again once the disk does.
    Blocked,
    /// It has failed, and takes nothing until it is opened again.
    Failed,
}

/// The moments at which the present conditions began.
pub(super) struct StateMoments {
    log: AtomicI64,
    clock: AtomicI64,
}

impl StateMoments {
    pub(super) fn begun(now: Millis) -> StateMoments {
        StateMoments { log: AtomicI64::new(now), clock: AtomicI64::new(now) }
    }
}

impl Engine {
    /// Returns the condition of the log, and since when it is so.
    pub fn log_state(&self) -> Since<LogState> {
        let is_failed = self.failed.load(Ordering::SeqCst);
        if !is_failed && self.disk_write.is_slow() {
            let waited_ms = self.disk_write.so_far().as_millis();
            let waited_ms = Millis::try_from(waited_ms).unwrap_or_default();
            return Since { state: LogState::Blocked, since: self.clock.now_ms() - waited_ms };
        }
        let state = if is_failed {
            LogState::Failed
        } else if self.blocked.load(Ordering::SeqCst) {
            LogState::Blocked
        } else {
            LogState::Open
        };
        Since { state, since: self.moments.log.load(Ordering::SeqCst) }
    }

    /// Returns whether the clock is believed, and since when. A jump that the writer has not noted
    /// yet (it looks about once a second) counts as one of this moment.
    pub fn clock_believed(&self) -> Since<bool> {
        let state = self.clock.believable_ms().is_ok();
        let is_noted = state != self.clock_is_doubted.load(Ordering::SeqCst);
        let noted = self.moments.clock.load(Ordering::SeqCst);
        Since { state, since: if is_noted { noted } else { self.clock.now_ms() } }
    }

    /// Notes that the log has another condition from now on.
    pub(super) fn note_log_state(&self) {
        self.moments.log.store(self.clock.now_ms(), Ordering::SeqCst);
    }

    /// Notes that the clock is believed from now on, or not any more.
    pub(super) fn note_clock_state(&self) {
        self.moments.clock.store(self.clock.now_ms(), Ordering::SeqCst);
    }
}
