//! Pauses of the commands that follow a server.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::Failure;

const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The pause between two questions, which grows while the server does not answer.
pub(super) struct Backoff {
    interval: Duration,
    pause: Duration,
    away: bool,
}

impl Backoff {
    /// Begins with pauses of one interval.
    pub(super) fn new(interval: Duration) -> Backoff {
        Backoff { interval, pause: interval, away: false }
    }

    /// Returns to pauses of one interval after an answer, and says so if the server was away.
    pub(super) fn answered(&mut self) {
        if self.away {
            eprintln!("rollcall: the server answers again");
        }
        (self.pause, self.away) = (self.interval, false);
    }

    /// Doubles the pause after a failure. Only the first failure in a row is reported.
    pub(super) fn failed(&mut self, message: &str) {
        if !self.away {
            eprintln!("rollcall: {message}; trying again until it answers");
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX.max(self.interval));
        self.away = true;
    }

    /// Waits for the pause.
    ///
    /// # Errors
    /// As of [`wait`].
    pub(super) fn wait(&self) -> Result<(), Failure> {
        wait(self.pause)
    }
}

/// Waits until the pause is over or the reader of standard output closes it, which a write would
/// notice only with the next event.
///
/// # Errors
/// [`Failure::Unread`] if the reader closed it.
pub(super) fn wait(pause: Duration) -> Result<(), Failure> {
    let stdout = std::io::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    let pause = Timespec::try_from(pause).map_err(Failure::ours)?;
    // A signal that does not end the program cuts the pause short, which is harmless.
    let _ = poll(&mut watched, Some(&pause));
    let closed = watched.iter().any(|stdout| {
        stdout.revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
    });
    if closed { Err(Failure::Unread) } else { Ok(()) }
}
