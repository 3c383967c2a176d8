//! sled's threads, which write its file.
//!
//! sled has seven threads for all stores of a process, and wakes all of them for each part of the
//! file that one of them writes. For a log with one writer that is most of the CPU time of a small
//! commit, so five are parked: `flush_async` has one of them call a waker of ours, which
//! does not return.
//!
//! A thread of sled may wait for a lock whose owner waits until another one has cut the file shorter.
//! The two that are left nearly always suffice for that; if a write takes long, all are let go for
//! good.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The number of sled's threads that are parked.
const PARKED: usize = 5;

/// The time in which they are parked, unless the machine is very busy. A try fails if the thread has
/// finished before the waker is known.
const PARKING: Duration = Duration::from_millis(100);

/// The time after which a write takes long.
const LONG: Duration = Duration::from_secs(1);

/// Where the threads are parked.
static LOT: Lot =
    Lot { state: Mutex::new(LotState { parked: 0, is_left: false }), changed: Condvar::new() };

struct Lot {
    state: Mutex<LotState>,
    changed: Condvar,
}

struct LotState {
    parked: usize,
    /// True once all were let go.
    is_left: bool,
}

impl Lot {
    /// Parks this thread, unless enough are.
    fn park(&self) {
        let mut state = self.state.lock();
        if state.parked == PARKED {
            return;
        }
        state.parked += 1;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| !state.is_left);
        state.parked -= 1;
    }

    /// Waits until more than `before` threads are parked, but not longer than `until`.
    fn wait_for_more_than(&self, before: usize, until: Instant) {
        let mut state = self.state.lock();
        while state.parked <= before && !self.changed.wait_until(&mut state, until).timed_out() {}
    }

    /// Returns the number of threads that are parked; `None` once all were let go.
    fn parked(&self) -> Option<usize> {
        let state = self.state.lock();
        (!state.is_left).then_some(state.parked)
    }

    fn let_go(&self) {
        self.state.lock().is_left = true;
        self.changed.notify_all();
    }
}

/// A waker that parks the thread which calls it.
struct Parking;

impl Wake for Parking {
    fn wake(self: Arc<Self>) {
        LOT.park();
    }
}

/// Parks most of sled's threads, unless they are parked or were let go. If that does not succeed, it
/// only costs time.
pub(super) fn park_most(db: &sled::Db) {
    let (waker, until) = (Arc::new(Parking).into(), Instant::now() + PARKING);
    while Instant::now() < until {
        let Some(parked) = LOT.parked().filter(|parked| *parked < PARKED) else { return };
        let flush = pin!(db.flush_async());
        if flush.poll(&mut Context::from_waker(&waker)).is_pending() {
            LOT.wait_for_more_than(parked, until);
        }
    }
}

/// Attends to writes that take long: lets all threads go, and flushes. Any other flush makes sled
/// look for errors and wake all that wait; if there is none, the first goes on waiting.
pub(super) struct Waker {
    state: Mutex<Writing>,
    changed: Condvar,
}

struct Writing {
    /// `None` once the store is dropped, which closes sled.
    db: Option<sled::Db>,
    since: Option<Instant>,
}

impl Waker {
    /// Starts the thread that attends to the writes of `db`.
    pub(super) fn start(db: sled::Db) -> io::Result<Arc<Waker>> {
        let state = Mutex::new(Writing { db: Some(db), since: None });
        let waker = Arc::new(Waker { state, changed: Condvar::new() });
        let watching = waker.clone();
        let watch = move || {
            while let Some(db) = watching.next() {
                LOT.let_go();
                // The write that waits reports the error.
                let _ = catch_unwind(AssertUnwindSafe(|| db.flush()));
            }
        };
        thread::Builder::new().name("flush-waker".into()).spawn(watch)?;
        Ok(waker)
    }

    /// Ends the thread.
    pub(super) fn end(&self) {
        self.state.lock().db = None;
        self.changed.notify_all();
    }

    /// Waits until a write has taken long; `None` once there will be no more.
    fn next(&self) -> Option<sled::Db> {
        let mut state = self.state.lock();
        while state.db.is_some() {
            self.changed.wait_for(&mut state, LONG);
            if state.since.is_some_and(|since| since.elapsed() >= LONG) {
                break;
            }
        }
        state.db.clone()
    }

    /// Takes a step that may write.
    pub(super) fn watch<T>(&self, write: impl FnOnce() -> T) -> T {
        self.state.lock().since = Some(Instant::now());
        let done = write();
        self.state.lock().since = None;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_parked_and_the_store_is_written_before_and_after_they_are_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let db = sled::Config::new().path(folder.path()).flush_every_ms(None).open().unwrap();
        for _ in 0..100 {
            park_most(&db);
        }
        assert_eq!(LOT.parked(), Some(PARKED));
        for number in 0..100_u32 {
            db.insert(number.to_be_bytes(), vec![1; 1000]).unwrap();
            db.flush().unwrap();
        }
        assert_eq!(LOT.parked(), Some(PARKED));
        LOT.let_go();
        park_most(&db);
        assert_eq!(LOT.parked(), None);
        db.insert("more", "").unwrap();
        db.flush().unwrap();
        drop(db);
        let db = sled::open(folder.path()).unwrap();
        assert_eq!(db.len(), 101);
    }
}
