//! SIGHUP: without a handler it would end the process.

use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// SIGHUP as this process receives it. From the moment at which this is made the signal ends the
/// process no more.
pub(super) struct Hangups {
    runtime: tokio::runtime::Runtime,
    signal: Signal,
}

impl Hangups {
    /// Begins to receive the signal.
    ///
    /// # Errors
    /// Ours, if the operating system refuses.
    pub(super) fn receive() -> Result<Hangups, Failure> {
        let failure = |error| Failure::Ours(format!("cannot receive SIGHUP: {error}"));
        let runtime = Builder::new_current_thread().enable_io().build().map_err(failure)?;
        let signal = {
            let _entered = runtime.enter();
            signal(SignalKind::hangup()).map_err(failure)?
        };
        Ok(Hangups { runtime, signal })
    }

    /// Calls `act` for each signal, also for one received already, on a thread of its own.
    pub(super) fn each(self, act: impl Fn() + Send + 'static) {
        let Hangups { runtime, mut signal } = self;
        thread::spawn(move || {
            while runtime.block_on(signal.recv()).is_some() {
                act();
            }
        });
    }
}
