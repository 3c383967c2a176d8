//! `rollcall rebuild`

use clap::Args;
use indicatif::ProgressBar;
use serde::Deserialize;

use super::client::Client;
use super::read::listing::refused;
use super::read::print::counted;
use super::waiting::{Pauses, Report, WaitArgs, drawn};
use super::{Failure, print};
use crate::time;

const PATH: &str = "/rollcall/v1/projections/rebuild";

/// Rebuild the views from the whole log, and show the progress.
///
/// The server answers from the old views until the new ones replace them in one step. If a rebuild
/// is running already, this command follows it.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if it is done, 1 if it could not be started, 2 if it failed.

The API key needs the scope `operate`.

Examples:
  rollcall rebuild
  rollcall rebuild --no-wait")]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    wait: WaitArgs,
}

/// The progress of a rebuild, as the server reports it.
#[derive(Deserialize)]
struct RebuildProgress {
    id: u64,
    state: String,
    started_at: String,
    finished_at: Option<String>,
    read: u64,
    total: u64,
    rate_per_s: u64,
}

impl RebuildArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let WaitArgs { no_wait, output, server } = self.wait;
        let client = server.client()?;
        let begun = client.post(PATH, None)?;
        if begun.status != 202 {
            return Err(refused(&begun, &client, ""));
        }
        let mut report = Report::of(&begun)?;
        if !no_wait {
            report = watch(&client, report)?;
        }
        if output.json {
            report.print_json()?;
        } else {
            print(&format!("{}\n", sentence(&report.told)))?;
        }
        verdict(&report.told)
    }
}

fn verdict(progress: &RebuildProgress) -> Result<(), Failure> {
    match progress.state.as_str() {
        "failed" => Err(Failure::Ours(
            "the rebuild failed and the old views stay: see the server's log for the cause".into(),
        )),
        _ => Ok(()),
    }
}

/// Shows the progress of a rebuild until it ends.
fn watch(
    client: &Client,
    mut report: Report<RebuildProgress>,
) -> Result<Report<RebuildProgress>, Failure> {
    let id = report.told.id;
    let template = "{bar:40} {pos}/{len} records, {msg} a second, {eta} left";
    let bar = drawn(ProgressBar::new(report.told.total), template);
    let mut pauses = Pauses::new();
    while report.told.state == "running" {
        pauses.rest();
        report = ask_again(client, id)?;
        bar.set_length(report.told.total);
        bar.set_position(report.told.read);
        bar.set_message(report.told.rate_per_s.to_string());
    }
    bar.finish_and_clear();
    Ok(report)
}

fn ask_again(client: &Client, id: u64) -> Result<Report<RebuildProgress>, Failure> {
    let answer = client.get(PATH)?;
    match answer.status {
        200 => {}
        404 => {
            return Err(Failure::Ours("the server was restarted, which ended the rebuild".into()));
        }
        _ => return Err(refused(&answer, client, "")),
    }
    let report = Report::<RebuildProgress>::of(&answer)?;
    if report.told.id == id {
        Ok(report)
    } else {
        Err(Failure::Ours(
            "another rebuild was started since: the outcome of this one is not known".into(),
        ))
    }
}

/// Describes a rebuild in a sentence.
fn sentence(progress: &RebuildProgress) -> String {
    let RebuildProgress { id, state, started_at, finished_at, read, total, rate_per_s } = progress;
    let records = counted(*read, "record", "records");
    let took = finished_at
        .as_deref()
        .and_then(time::parse)
        .zip(time::parse(started_at))
        .map(|(end, start)| (end - start).max(0));
    match took {
        Some(took_ms) => format!(
            "rebuild {id} is {state}: read {records} in {took_ms} ms, {rate_per_s} a second"
        ),
        None => format!(
            "rebuild {id} is {state} since {started_at}: read {read} of {}",
            counted(*total, "record", "records")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rebuild_is_described_in_a_sentence_and_a_failed_one_is_our_fault() {
        let progress = |state: &str, finished_at: Option<&str>| -> RebuildProgress {
            serde_json::from_value(json!({
                "object": "rebuild", "id": 7, "state": state,
                "started_at": "2026-05-01T12:00:00.000Z", "finished_at": finished_at,
                "head": 50, "read": 40, "total": 50, "rate_per_s": 20, "left_ms": 500,
            }))
            .unwrap()
        };
        let (end, running) = (Some("2026-05-01T12:00:02.000Z"), progress("running", None));
        assert_eq!(
            sentence(&running),
            "rebuild 7 is running since 2026-05-01T12:00:00.000Z: read 40 of 50 records"
        );
        assert_eq!(
            sentence(&progress("done", end)),
            "rebuild 7 is done: read 40 records in 2000 ms, 20 a second"
        );
        assert!(verdict(&running).is_ok() && verdict(&progress("done", end)).is_ok());
        assert!(matches!(verdict(&progress("failed", end)), Err(Failure::Ours(_))));
    }
}
