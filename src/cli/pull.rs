//! `rollcall pull`

use clap::Args;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::Client;
use super::read::listing::refused;
use super::read::print::counted;
use super::source_state::{
    SourceFaultReport, SourceReport, Waiting, complaint, is_lasting, source_of,
};
use super::waiting::{Pauses, Report, WaitArgs, drawn};
use super::{Failure, print};
use crate::time;

/// What is said about how long the server goes on asking a source that does not answer.
const HOW_LONG: &str = "Ctrl-C ends this command, and not the pull";

/// Pull new events from the source now, and wait until all are taken.
///
/// If the server takes webhooks as well, events younger than 20 seconds are left to their webhooks.
///
/// The server must run with --pull. It pulls by itself every 30 seconds, or as --pull-every says:
/// this command only spares the wait. While the source does not answer it says why, and goes on
/// until it does.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if the end was reached, 1 if the server has no source or the request was refused,
2 if the source refuses or the server cannot be reached.

The API key needs the scope `operate`.

Examples:
  rollcall pull
  rollcall pull --no-wait")]
pub(super) struct PullArgs {
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Deserialize)]
struct ApiPullRequest<'a> {
    requested_at: String,
    #[serde(borrow)]
    source: &'a RawValue,
}

impl PullArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let WaitArgs { no_wait, output, server } = self.wait;
        let client = server.client()?;
        let begun = client.post("/rollcall/v1/pull", None)?;
        if begun.status != 202 {
            return Err(refused(&begun, &client, ""));
        }
        let request: ApiPullRequest<'_> = begun.json()?;
        let before = Report::<SourceReport>::of_json(request.source)?;
        let requested_at = time::parse(&request.requested_at).unwrap_or_default();
        let (after, told) = if no_wait {
            (before, "a pull was asked for; `rollcall status` shows how far it is".to_owned())
        } else {
            let after = watch(&client, &before.told, requested_at)?;
            let told = sentence(&before.told, &after.told);
            (after, told)
        };
        if output.json { after.print_json() } else { print(&format!("{told}\n")) }
    }
}

/// Waits until a pull that began at `requested_at` or later has reached the end.
fn watch(
    client: &Client,
    before: &SourceReport,
    requested_at: i64,
) -> Result<Report<SourceReport>, Failure> {
    let bar = drawn(ProgressBar::new_spinner(), "{spinner} pulled {pos} events in {elapsed}");
    let (mut pauses, mut waiting) = (Pauses::new(), Waiting::new());
    loop {
        pauses.rest();
        let report = source_of(client)?;
        let source = &report.told;
        let caught_up_at = source.caught_up_at.as_deref().and_then(time::parse);
        if caught_up_at.is_some_and(|at| at >= requested_at) {
            bar.finish_and_clear();
            return Ok(report);
        }
        refused_by_source(source, requested_at)?;
        waiting.look(source, HOW_LONG, &bar);
        bar.set_position(pulled(source).saturating_sub(pulled(before)));
        bar.tick();
    }
}

/// Fails if the source has refused since the request.
fn refused_by_source(source: &SourceReport, requested_at: i64) -> Result<(), Failure> {
    match &source.last_error {
        Some(SourceFaultReport { code, message, at })
            if is_lasting(code) && time::parse(at) >= Some(requested_at) =>
        {
            let complaint = complaint(&source.url, code, message);
            Err(Failure::Ours(format!("nothing is pulled from {complaint}")))
        }
        _ => Ok(()),
    }
}

fn pulled(source: &SourceReport) -> u64 {
    source.new + source.duplicates
}

/// Says what a pull brought. The counts are zero again after a restart of the server.
fn sentence(before: &SourceReport, after: &SourceReport) -> String {
    let since = |after: u64, before: u64| after.checked_sub(before).unwrap_or(after);
    let new = since(after.new, before.new);
    let duplicates = since(after.duplicates, before.duplicates);
    let differing = since(after.differs, before.differs);
    let differing = match differing {
        0 => String::new(),
        _ => {
            let copies = counted(differing, "copy", "copies");
            format!("; {copies} with another content than the log has")
        }
    };
    let left = match after.left_to_webhooks {
        0 => String::new(),
        1 => "; 1 event younger than 20 s is left to its webhook".to_owned(),
        left => format!("; {left} events younger than 20 s are left to their webhooks"),
    };
    let every = if left.is_empty() { "every event" } else { "every older event" };
    format!(
        "pulled {every} that `{}` has: {}, {}{differing}{left}",
        after.url,
        counted(new, "new event", "new events"),
        counted(duplicates, "duplicate", "duplicates")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(new: u64, duplicates: u64, code: &str) -> SourceReport {
        let error = |code: &str| SourceFaultReport {
            code: code.into(),
            message: "no".into(),
            at: "1970-01-01T00:00:05.000Z".into(),
        };
        let last_error = Some(code).filter(|code| !code.is_empty()).map(error);
        SourceReport {
            url: "https://s".into(),
            caught_up_at: None,
            last_success_at: None,
            last_error,
            next_try_at: None,
            new,
            duplicates,
            differs: duplicates / 3,
            left_to_webhooks: 0,
        }
    }

    #[test]
    fn a_pull_is_told_by_what_it_brought() {
        let told = sentence(&report(5, 2, ""), &report(6, 2, ""));
        assert_eq!(told, "pulled every event that `https://s` has: 1 new event, 0 duplicates");
        let told = sentence(&report(5, 2, ""), &report(5, 5, ""));
        let differing = "0 new events, 3 duplicates; 1 copy with another content than the log has";
        assert!(told.ends_with(differing), "{told}");
        for (left_to_webhooks, expected) in [
            (1, "0 duplicates; 1 event younger than 20 s is left to its webhook"),
            (2, "0 duplicates; 2 events younger than 20 s are left to their webhooks"),
        ] {
            let after = SourceReport { left_to_webhooks, ..report(5, 0, "") };
            let told = sentence(&report(5, 0, ""), &after);
            let says = told.starts_with("pulled every older event that ");
            assert!(says && told.ends_with(expected), "{told}");
        }
        let restarted = sentence(&report(5, 9, ""), &report(3, 1, ""));
        assert!(restarted.ends_with("3 new events, 1 duplicate"), "{restarted}");
    }

    #[test]
    fn only_an_error_since_the_request_that_lasts_ends_the_wait() {
        for (code, requested_at, ends) in [
            ("unauthorized", 5_000, true),
            ("source_mismatch", 4_000, true),
            ("endless_list", 4_000, true),
            ("unauthorized", 5_001, false),
            ("unavailable", 4_000, false),
            ("", 0, false),
        ] {
            let refused = refused_by_source(&report(0, 0, code), requested_at);
            assert_eq!(refused.is_err(), ends, "{code} {requested_at}");
        }
    }
}
