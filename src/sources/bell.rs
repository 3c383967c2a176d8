//! The sleep of the threads that ask the source: a request for a pull ends it, and so does a stop.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The longest sleep.
const LONGEST: Duration = Duration::from_secs(400 * 86_400);

#[derive(Default)]
struct State {
    is_stopped: bool,
    rings: u64,
}

/// Wakes threads that sleep.
#[derive(Default)]
pub(super) struct Bell {
    state: Mutex<State>,
    changed: Condvar,
}

/// The reason why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Its time is over.
    Rested,
    /// The bell has rung.
    Rung,
    /// The server stops.
    Stopped,
}

impl Bell {
    /// Ends every sleep that a ring may end.
    pub(super) fn ring(&self) {
        self.state.lock().rings += 1;
        self.changed.notify_all();
    }

    /// Ends every sleep, for ever.
    pub(super) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.changed.notify_all();
    }

    /// Returns the number of rings so far.
    pub(super) fn rings(&self) -> u64 {
        self.state.lock().rings
    }

    /// Returns true once the server stops.
    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().is_stopped
    }

    /// Sleeps, unless the bell has rung more than `heard` times.
    pub(super) fn rest(&self, time: Duration, heard: u64) -> Woken {
        self.sleep_while(time, |state| state.rings == heard)
    }

    /// Sleeps through every ring.
    pub(super) fn sleep(&self, time: Duration) -> Woken {
        self.sleep_while(time, |_| true)
    }

    fn sleep_while(&self, time: Duration, is_quiet: impl Fn(&State) -> bool) -> Woken {
        // No sleep is longer than the process lives.
        let end = Instant::now() + time.min(LONGEST);
        let mut state = self.state.lock();
        loop {
            if state.is_stopped {
                return Woken::Stopped;
            }
            if !is_quiet(&state) {
                return Woken::Rung;
            }
            if self.changed.wait_until(&mut state, end).timed_out() {
                return if state.is_stopped { Woken::Stopped } else { Woken::Rested };
            }
        }
    }
}
