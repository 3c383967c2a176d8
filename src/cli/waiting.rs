//! Waiting for work that a server does: the arguments, the reports, and the pauses between them.

use std::io::IsTerminal;
use std::thread;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::client::Answer;
use super::read::listing::Output;
use super::read::print::one_line;
use super::read::source::ServerArgs;
use super::{Failure, print};

/// The arguments of the commands that begin work on a server.
#[derive(Args)]
pub(super) struct WaitArgs {
    /// Begin it, and do not wait for its end
    #[arg(long)]
    pub(super) no_wait: bool,
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// What a server reports, also as the JSON that it sent.
pub(super) struct Report<T> {
    json: String,
    pub(super) told: T,
}

impl<T: DeserializeOwned> Report<T> {
    /// Reads the body of an answer.
    ///
    /// # Errors
    /// Ours, if it has another shape.
    pub(super) fn of(answer: &Answer) -> Result<Report<T>, Failure> {
        Report::of_json(answer.json()?)
    }

    /// Reads an object.
    ///
    /// # Errors
    /// Ours, if it has another shape.
    pub(super) fn of_json(json: &RawValue) -> Result<Report<T>, Failure> {
        let told = serde_json::from_str(json.get()).map_err(|_| Failure::unexpected_answer())?;
        Ok(Report { json: json.get().to_owned(), told })
    }
}

impl<T> Report<T> {
    /// Prints the JSON on one line.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(super) fn print_json(&self) -> Result<(), Failure> {
        print(&format!("{}\n", one_line(&self.json)))
    }
}

/// The pauses between two looks at the progress: short at first, so that short work costs no wait,
/// and then a second each.
pub(super) struct Pauses(Duration);

impl Pauses {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(1);

    /// Begins with the shortest pause.
    pub(super) fn new() -> Pauses {
        Pauses(Pauses::FIRST)
    }

    /// Sleeps for the next pause.
    pub(super) fn rest(&mut self) {
        thread::sleep(self.next());
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Pauses::LONGEST);
        pause
    }
}

/// Draws a progress bar on standard error if that is a terminal.
pub(super) fn drawn(bar: ProgressBar, template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template(template);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second() {
        let mut pauses = Pauses::new();
        let taken: Vec<u128> = (0..7).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(taken, [50, 100, 200, 400, 800, 1000, 1000]);
    }
}
