//! Signals. Without a handler, each of them would end the process at once.

use std::fmt::Display;
use std::io;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::{Failure, INTERRUPTED};

/// SIGHUP as this process receives it. From the moment at which this is made the signal ends the
/// process no more.
pub(super) struct Hangups {
    runtime: Runtime,
    signal: Signal,
}

impl Hangups {
    /// Begins to receive the signal.
    ///
    /// # Errors
    /// Ours, if the operating system refuses.
    pub(super) fn receive() -> Result<Hangups, Failure> {
        let (runtime, [signal]) = receive([SignalKind::hangup()]).map_err(Failure::ours)?;
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

/// Begins to receive SIGTERM and SIGINT, on a thread of its own. The first of them ends the wait
/// for the returned end, also if it comes before that wait begins.
///
/// # Errors
/// If the operating system refuses.
pub(super) fn stops() -> io::Result<oneshot::Receiver<()>> {
    let (runtime, [mut term, mut int]) =
        receive([SignalKind::terminate(), SignalKind::interrupt()])?;
    let (stop, stopped) = oneshot::channel();
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        });
        // Fails if the wait is over already.
        let _ = stop.send(());
    });
    Ok(stopped)
}

/// Calls `note` at the first SIGINT. The second ends the process at once.
///
/// # Errors
/// Ours, if the operating system refuses.
pub(super) fn on_interrupt(note: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    // Registered before any work begins, so that no interrupt kills the process silently.
    let (runtime, [mut interrupts]) = receive([SignalKind::interrupt()]).map_err(Failure::ours)?;
    thread::spawn(move || {
        runtime.block_on(async {
            interrupts.recv().await;
            note();
            interrupts.recv().await;
            std::process::exit(i32::from(INTERRUPTED));
        });
    });
    Ok(())
}

fn receive<const N: usize>(kinds: [SignalKind; N]) -> io::Result<(Runtime, [Signal; N])> {
    let failure =
        |cause: &dyn Display| io::Error::other(format!("cannot receive signals: {cause}"));
    let runtime = Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(|error| failure(&error))?;
    let signals: io::Result<Vec<Signal>> = {
        let _entered = runtime.enter();
        kinds.into_iter().map(signal).collect()
    };
    let signals = signals.map_err(|error| failure(&error))?;
    let signals = signals.try_into().map_err(|_| failure(&"one is missing"))?;
    Ok((runtime, signals))
}
