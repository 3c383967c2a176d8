//! `rollcall changes`

use std::time::Duration;

use clap::Args;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::client::Client;
use super::super::print;
use super::events::wait;
use super::listing::{Page, Query, ask};
use super::print::{one_line, texts};
use super::source::Source;

const PATH: &str = "/rollcall/v1/changes";

/// As many as a page may have.
const PAGE: u64 = 1000;

/// How long the server waits for something to come, in seconds: it answers well before a client
/// gives up, and whoever stops reading is noticed.
const WAIT_S: u64 = 5;

/// The pauses while the server does not answer.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Whose access and roles each record changed, one object a line, for programs; with --follow also
/// those to come.
///
/// In the order of the records. The `id` of a line, given as --after, goes on behind it: a script
/// that ends sessions misses nothing, however long it was away.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall changes --after 30
  rollcall changes --follow --after latest
  rollcall changes --follow --after \"$(cat last)\" | while read -r line; do end-sessions \"$line\"; echo \"$line\" | jq -r .id > last; done")]
pub(in super::super) struct Changes {
    /// Behind this line, by its `id`; behind everything of this record, by its number; or `latest`,
    /// for what comes from now on
    #[arg(long, value_name = "ID|SEQ")]
    after: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Go on with new ones as they come, until Ctrl-C
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    source: Source,
}

impl Changes {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let Changes { after, limit, follow, source } = self;
        let limit = limit.unwrap_or(u64::MAX);
        if follow {
            let client = source.server("a folder whose server is stopped gets no new events")?;
            return follow_feed(&client, begin(&client, after)?, limit);
        }
        source.ask(move |client| {
            let (mut after, mut left) = (begin(client, after)?, limit);
            while left > 0 {
                let (told, next) = page(client, &after, left, 0)?;
                left = left.saturating_sub(told);
                // An empty page is not yet the end: the records that it passed may have changed
                // nothing.
                if next == after {
                    break;
                }
                after = next;
            }
            Ok(())
        })
    }
}

/// Where to begin: behind nothing, unless told.
fn begin(client: &Client, after: Option<String>) -> Result<String, Failure> {
    match after.as_deref() {
        None => Ok("0".into()),
        Some("latest") => {
            let ready = ask(client, "/readyz", "")?;
            let head: serde_json::Value = ready.json()?;
            let seq = head.get("seq").and_then(serde_json::Value::as_u64);
            seq.map(|seq| seq.to_string())
                .ok_or_else(|| Failure::Ours("the answer is not one that Rollcall gives".into()))
        }
        Some(after) => Ok(after.to_owned()),
    }
}

/// Prints a page, how many that were, and where to go on.
fn page(client: &Client, after: &str, limit: u64, wait_s: u64) -> Result<(u64, String), Failure> {
    let question = Query::default()
        .with("after", Some(after))
        .with("limit", Some(limit.min(PAGE).to_string()));
    let answer = ask(client, &question.with("wait", Some(wait_s.to_string())).at(PATH), "")?;
    let page: Page = answer.json()?;
    let mut lines = String::new();
    for change in &page.data {
        let change: &RawValue = change;
        lines.push_str(&one_line(change.get()));
        lines.push('\n');
    }
    print(&lines)?;
    let last = page.data.last().map(|change| texts(change, ["id"]).concat());
    let next = page.next().map(str::to_owned).or(last).unwrap_or_else(|| after.to_owned());
    Ok((page.data.len() as u64, next))
}

/// Prints what comes, until nobody reads any more. A server that is away is waited for, once it has
/// answered.
fn follow_feed(client: &Client, mut after: String, mut left: u64) -> Result<(), Failure> {
    let (mut answered, mut away, mut pause) = (false, false, PAUSE);
    while left > 0 {
        match page(client, &after, left, WAIT_S) {
            Ok((told, next)) => {
                if away {
                    eprintln!("rollcall: the server answers again");
                }
                left = left.saturating_sub(told);
                (after, answered, away, pause) = (next, true, false, PAUSE);
                wait(Duration::ZERO)?;
            }
            Err(Failure::Ours(message)) if answered => {
                if !away {
                    eprintln!("rollcall: {message}; trying again until it answers");
                }
                wait(pause)?;
                (away, pause) = (true, (pause * 2).min(PAUSE_MAX));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}
