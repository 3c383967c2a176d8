//! `rollcall pull`

use std::io::IsTerminal;
use std::thread;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::Client;
use super::read::listing::{Output, refused};
use super::read::print::{counted, one_line};
use super::read::source::ServerArgs;
use super::{Failure, print};
use crate::time;

/// The pause between two requests for the progress.
const PAUSE: Duration = Duration::from_millis(100);

/// The errors that only an operator can end. Any other the server retries.
const LASTING: [&str; 5] = ["unauthorized", "source_mismatch", "forbidden", "not_found", "refused"];

/// Pull new events from the source now, and wait until none is left.
///
/// The server must run with --pull. It pulls by itself at intervals: this command only spares the
/// wait.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if the end was reached, 1 if the server has no source, 2 if the source refuses.

Examples:
  rollcall pull
  rollcall pull --no-wait")]
pub(super) struct PullArgs {
    /// Do not wait for its end
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct ApiPullRequest<'a> {
    requested_at: String,
    #[serde(borrow)]
    source: &'a RawValue,
}

#[derive(Deserialize)]
struct ApiSources<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
}

/// The state of the source, as the server reports it.
#[derive(Deserialize)]
struct SourceReport {
    url: String,
    caught_up_at: Option<String>,
    last_error: Option<SourceErrorReport>,
    new: u64,
    duplicates: u64,
}

#[derive(Deserialize)]
struct SourceErrorReport {
    code: String,
    message: String,
    at: String,
}

/// The same, also as the JSON that the server sent.
struct Report {
    json: String,
    source: SourceReport,
}

impl PullArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let PullArgs { no_wait, output, server } = self;
        let client = server.client()?;
        let begun = client.post("/rollcall/v1/pull", None)?;
        if begun.status != 202 {
            return Err(refused(&begun, &client, ""));
        }
        let request: ApiPullRequest<'_> = begun.json()?;
        let before = Report::of(request.source)?;
        let requested_at = time::parse(&request.requested_at).unwrap_or_default();
        if no_wait {
            return show(&before, &output, "a pull was asked for");
        }
        let after = watch(&client, &before.source, requested_at)?;
        let told = sentence(&before.source, &after.source);
        show(&after, &output, &told)
    }
}

fn show(report: &Report, output: &Output, sentence: &str) -> Result<(), Failure> {
    match output.json {
        true => print(&format!("{}\n", one_line(&report.json))),
        false => print(&format!("{sentence}\n")),
    }
}

impl Report {
    fn of(json: &RawValue) -> Result<Report, Failure> {
        let source = serde_json::from_str(json.get()).map_err(|_| Failure::unexpected_answer())?;
        Ok(Report { json: json.get().to_owned(), source })
    }
}

/// Waits until a pull that began at `requested_at` or later has reached the end.
fn watch(client: &Client, before: &SourceReport, requested_at: i64) -> Result<Report, Failure> {
    let bar = progress_bar();
    loop {
        let answer = client.get("/rollcall/v1/sources")?;
        if answer.status != 200 {
            return Err(refused(&answer, client, ""));
        }
        let sources: ApiSources<'_> = answer.json()?;
        let source = sources.data.first().ok_or_else(|| {
            Failure::Ours("the server was restarted without a source meanwhile".into())
        })?;
        let report = Report::of(source)?;
        let caught_up_at = report.source.caught_up_at.as_deref().and_then(time::parse);
        if caught_up_at.is_some_and(|at| at >= requested_at) {
            bar.finish_and_clear();
            return Ok(report);
        }
        refused_by_source(&report.source, requested_at)?;
        bar.set_position(pulled(&report.source).saturating_sub(pulled(before)));
        thread::sleep(PAUSE);
    }
}

/// Fails if the source has refused since the request.
fn refused_by_source(source: &SourceReport, requested_at: i64) -> Result<(), Failure> {
    match &source.last_error {
        Some(SourceErrorReport { code, message, at })
            if LASTING.contains(&&**code) && time::parse(at) >= Some(requested_at) =>
        {
            Err(Failure::Ours(format!("nothing is pulled from `{}`: {message}", source.url)))
        }
        _ => Ok(()),
    }
}

fn pulled(source: &SourceReport) -> u64 {
    source.new + source.duplicates
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{spinner} pulled {pos} events in {elapsed}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// Says what a pull brought. The counts are zero again after a restart of the server.
fn sentence(before: &SourceReport, after: &SourceReport) -> String {
    let since = |after: u64, before: u64| after.checked_sub(before).unwrap_or(after);
    format!(
        "pulled every event that `{}` has: {}, {}",
        after.url,
        counted(since(after.new, before.new), "new event", "new events"),
        counted(since(after.duplicates, before.duplicates), "duplicate", "duplicates")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(new: u64, duplicates: u64, code: &str) -> SourceReport {
        let error = |code: &str| SourceErrorReport {
            code: code.into(),
            message: "no".into(),
            at: "1970-01-01T00:00:05.000Z".into(),
        };
        let last_error = Some(code).filter(|code| !code.is_empty()).map(error);
        SourceReport { url: "https://s".into(), caught_up_at: None, last_error, new, duplicates }
    }

    #[test]
    fn a_pull_is_told_by_what_it_brought() {
        let told = sentence(&report(5, 2, ""), &report(6, 2, ""));
        assert_eq!(told, "pulled every event that `https://s` has: 1 new event, 0 duplicates");
        let restarted = sentence(&report(5, 9, ""), &report(3, 1, ""));
        assert!(restarted.ends_with("3 new events, 1 duplicate"), "{restarted}");
    }

    #[test]
    fn only_an_error_since_the_request_that_lasts_ends_the_wait() {
        for (code, requested_at, ends) in [
            ("unauthorized", 5_000, true),
            ("source_mismatch", 4_000, true),
            ("unauthorized", 5_001, false),
            ("unavailable", 4_000, false),
            ("", 0, false),
        ] {
            let refused = refused_by_source(&report(0, 0, code), requested_at);
            assert_eq!(refused.is_err(), ends, "{code} {requested_at}");
        }
    }
}
