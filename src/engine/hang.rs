//! Disks that do not answer: a write that takes long is noticed while it is under way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The time after which a write counts as one that the disk does not answer.
const SLOW: Duration = Duration::from_secs(5);

/// The write that is under way.
pub(super) struct DiskWrite {
    began: Instant,
    /// Since when there is one, in milliseconds; 0 if there is none.
    since_ms: AtomicU64,
    /// True once the log of this process says that it takes long.
    is_named: AtomicBool,
}

impl DiskWrite {
    pub(super) fn none() -> DiskWrite {
        DiskWrite {
            began: Instant::now(),
            since_ms: AtomicU64::new(0),
            is_named: AtomicBool::new(false),
        }
    }

    fn now_ms(&self) -> u64 {
        // Never 0, which says that there is no write.
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Writes, and notes for how long.
    pub(super) fn during<T>(&self, write: impl FnOnce() -> T) -> T {
        self.since_ms.store(self.now_ms(), Ordering::Relaxed);
        let written = write();
        let took = self.so_far();
        self.since_ms.store(0, Ordering::Relaxed);
        if self.is_named.swap(false, Ordering::Relaxed) {
            tracing::warn!(took_s = took.as_secs(), "the disk answers again: events are taken");
        }
        written
    }

    /// Returns how long the write under way has taken; zero if there is none.
    pub(super) fn so_far(&self) -> Duration {
        match self.since_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since_ms => Duration::from_millis(self.now_ms().saturating_sub(since_ms)),
        }
    }

    /// Returns true if the disk does not answer, and says so once.
    pub(super) fn is_slow(&self) -> bool {
        let is_slow = self.so_far() >= SLOW;
        if is_slow && !self.is_named.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "the disk of the data folder has not answered a write for {} seconds: events are \
                 refused until it does",
                SLOW.as_secs()
            );
        }
        is_slow
    }
}
