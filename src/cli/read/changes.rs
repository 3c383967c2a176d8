//! `rollcall changes`

use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::super::Failure;
use super::super::client::{Answer, Client};
use super::super::print;
use super::following::{Backoff, wait};
use super::listing::{ListPage, Query, ask, refused};
use super::print::{one_line, texts};
use super::source::SourceArgs;

const PATH: &str = "/rollcall/v1/changes";

/// The largest page that the API gives of changes.
const PAGE: u64 = 1000;

/// The time for which the server waits for new changes before it answers. It is short enough for a
/// client not to give up, and for this program to notice soon that its reader is gone.
const WAIT_S: u64 = 5;

/// The longest pause that the server may ask for, in seconds: a limit is by the minute.
const RETRY_S_MAX: u64 = 60;

/// Half of the first pause after a failure, since each failure doubles the pause.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// Print what each record changed in access and roles, as lines of JSON.
///
/// With --follow also new changes as they come.
///
/// Changes are in the order of the records. Pass the last line's `id` as --after to continue after
/// it: then a script that ends sessions misses nothing, however long it was stopped.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall changes --after 30
  rollcall changes --follow --after latest
  rollcall changes --follow --after \"$(cat last)\" | while read -r line; do \
end-sessions \"$line\"; echo \"$line\" | jq -r .id > last; done")]
pub(in super::super) struct ChangesArgs {
    /// Only changes after this line, by its `id`, or after this record, by its number; or `latest`,
    /// for those that come from now on
    #[arg(long, value_name = "ID|SEQ")]
    after: Option<String>,
    /// Print at most N
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print new changes as they come, until Ctrl-C
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    source: SourceArgs,
}

impl ChangesArgs {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let ChangesArgs { after, limit, follow, source } = self;
        let limit = limit.unwrap_or(u64::MAX);
        if follow {
            let client = source.server("a folder whose server is stopped gets no new events")?;
            let mut reader = ChangeReader::begin(&client, after, limit)?;
            return reader.follow();
        }
        source.ask(move |client| ChangeReader::begin(client, after, limit)?.print_all())
    }
}

/// The changes that are still to be printed.
struct ChangeReader<'a> {
    client: &'a Client,
    /// The cursor of the next page.
    after: String,
    /// The number of changes that may still be printed.
    left: u64,
}

#[derive(Deserialize)]
struct Readiness {
    seq: u64,
}

impl ChangeReader<'_> {
    /// Begins after a place; without one, before the first change.
    fn begin(
        client: &Client,
        after: Option<String>,
        limit: u64,
    ) -> Result<ChangeReader<'_>, Failure> {
        let after = match after.as_deref() {
            Some("latest") => ask(client, "/readyz", "")?.json::<Readiness>()?.seq.to_string(),
            _ => after.unwrap_or_else(|| "0".into()),
        };
        Ok(ChangeReader { client, after, left: limit })
    }

    /// Prints all changes that are there.
    fn print_all(&mut self) -> Result<(), Failure> {
        // An empty page is not the end yet: the records that it passed may have changed nothing.
        while self.left > 0 && self.print_page(0)? {}
        Ok(())
    }

    /// Prints changes as they come, until the reader closes standard output. Once the server has
    /// answered, it is asked again while it does not.
    fn follow(&mut self) -> Result<(), Failure> {
        let mut answered = false;
        let mut backoff = Backoff::new(PAUSE_MIN);
        while self.left > 0 {
            match self.print_page(WAIT_S) {
                Ok(_) => {
                    answered = true;
                    backoff.answered();
                    wait(Duration::ZERO)?;
                }
                Err(Failure::Ours(message)) if answered => {
                    backoff.failed(&message);
                    backoff.wait()?;
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Asks once. If it is to follow, it waits while the server takes no more questions of this key.
    fn asked(&self, path: &str, follows: bool) -> Result<Answer, Failure> {
        loop {
            let answer = self.client.get(path)?;
            match answer.status {
                200 => return Ok(answer),
                429 if follows => {
                    let seconds = answer.retry_after_s.unwrap_or(1).clamp(1, RETRY_S_MAX);
                    wait(Duration::from_secs(seconds))?;
                }
                _ => return Err(refused(&answer, self.client, "")),
            }
        }
    }

    /// Prints the next page, for which the server waits up to `wait_s`. Returns false if the cursor
    /// stayed the same, as it does at the end.
    fn print_page(&mut self, wait_s: u64) -> Result<bool, Failure> {
        let question = Query::default()
            .with("after", Some(self.after.as_str()))
            .with("limit", Some(self.left.min(PAGE).to_string()))
            .with("wait", Some(wait_s.to_string()));
        let answer = self.asked(&question.at(PATH), wait_s > 0)?;
        let page: ListPage = answer.json()?;
        let lines = page.data.iter().map(|change| format!("{}\n", one_line(change.get())));
        print(&lines.collect::<String>())?;
        self.left = self.left.saturating_sub(page.data.len() as u64);
        let last = page.data.last().map(|change| texts(change, ["id"]).concat());
        let next = page.next().map(str::to_owned).or(last);
        let moved = next.filter(|next| *next != self.after);
        let has_moved = moved.is_some();
        self.after = moved.unwrap_or_else(|| self.after.clone());
        Ok(has_moved)
    }
}
