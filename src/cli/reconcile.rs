//! `rollcall reconcile`

use std::io::IsTerminal;
use std::thread;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::client::{Answer, Client};
use super::read::listing::{Output, refused};
use super::read::print::{counted, one_line, width};
use super::read::source::ServerArgs;
use super::table::{self, Column};
use super::{Failure, print};

/// The pause between two requests for the progress.
const PAUSE: Duration = Duration::from_millis(100);

const PATH: &str = "/rollcall/v1/reconciliations";

const COLUMNS: [Column; 6] = [
    Column::new(""),
    Column::new("kind"),
    Column::key("id"),
    Column::whole("directory"),
    Column::whole("fields"),
    Column::new("outcome"),
];

/// Compare what the source lists with what the log holds, and record what differs.
///
/// The server must run with --pull. In the table, + is missing here, - is missing at the source, and
/// ~ differs. A difference that would end too much at once is held: compare with the source before
/// you let it through with --guard off.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if all was compared, 1 if it could not be begun or a difference is held, 2 if a
directory failed.

Examples:
  rollcall reconcile --dry-run
  rollcall reconcile --directory directory_… --guard off")]
pub(super) struct ReconcileArgs {
    /// Only this directory, by its id
    #[arg(long, value_name = "ID")]
    directory: Option<String>,
    /// Show what would be recorded, and record nothing
    #[arg(long)]
    dry_run: bool,
    /// Let everything end, however much it is
    #[arg(long, value_name = "off", value_parser = ["off"])]
    guard: Option<String>,
    /// Do not wait for its end
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

/// A reconciliation, as the server reports it.
#[derive(Deserialize)]
struct RunReport {
    id: String,
    state: String,
    step: String,
    dry_run: bool,
    error: Option<String>,
    directories: Vec<DirectoryReport>,
    compared: ComparedReport,
    recorded: u64,
    held: u64,
    differences: DifferencesReport,
}

#[derive(Deserialize)]
struct DirectoryReport {
    id: String,
    error: Option<String>,
}

#[derive(Deserialize)]
struct ComparedReport {
    directories: u64,
    groups: u64,
    users: u64,
    memberships: u64,
}

#[derive(Deserialize)]
struct DifferencesReport {
    data: Vec<DifferenceReport>,
    list_metadata: MetadataReport,
}

#[derive(Deserialize)]
struct MetadataReport {
    after: Option<String>,
}

#[derive(Deserialize)]
struct DifferenceReport {
    kind: String,
    id: Option<String>,
    user_id: Option<String>,
    group_id: Option<String>,
    directory_id: String,
    difference: String,
    fields: Vec<String>,
    recorded: Option<u64>,
    held: Option<String>,
}

/// A report, also as the JSON that the server sent.
struct Report {
    json: String,
    run: RunReport,
}

impl Report {
    fn of(answer: &Answer) -> Result<Report, Failure> {
        let json = answer.json::<&RawValue>()?.get().to_owned();
        Ok(Report { json, run: answer.json()? })
    }
}

impl ReconcileArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let ReconcileArgs { directory, dry_run, guard, no_wait, output, server } = self;
        let client = server.client()?;
        let body = json!({ "directory": directory, "dry_run": dry_run, "guard": guard });
        let begun = client.post(PATH, Some(&body))?;
        if begun.status != 202 {
            return Err(refused(&begun, &client, ""));
        }
        let mut report = Report::of(&begun)?;
        if !no_wait {
            report = watch(&client, report)?;
        }
        if output.json {
            print(&format!("{}\n", one_line(&report.json)))?;
        } else {
            let rows = rows(&client, &report.run)?;
            if !rows.is_empty() {
                print(&table::draw_within(width(), &COLUMNS, true, &rows))?;
            }
            print(&format!("{}\n", sentence(&report.run)))?;
        }
        verdict(&report.run)
    }
}

/// Shows the progress until the end.
fn watch(client: &Client, mut report: Report) -> Result<Report, Failure> {
    let path = format!("{PATH}/{}", report.run.id);
    let bar = progress_bar();
    while report.run.state == "running" {
        let ComparedReport { directories, groups, users, memberships } = report.run.compared;
        bar.set_message(format!(
            "{}: {directories} directories, {groups} groups, {users} users, \
             {memberships} memberships; {} recorded",
            report.run.step.replace('_', " "),
            report.run.recorded
        ));
        bar.tick();
        thread::sleep(PAUSE);
        let answer = client.get(&path)?;
        report = match answer.status {
            200 => Report::of(&answer)?,
            404 => {
                return Err(Failure::Ours(
                    "the server was restarted, which ended the reconciliation: begin it again"
                        .into(),
                ));
            }
            _ => return Err(refused(&answer, client, "")),
        };
    }
    bar.finish_and_clear();
    Ok(report)
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{spinner} {msg} in {elapsed}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// Returns the rows of all differences, page by page.
fn rows(client: &Client, run: &RunReport) -> Result<Vec<Vec<String>>, Failure> {
    let mut rows: Vec<Vec<String>> =
        run.differences.data.iter().map(|found| row(found, run.dry_run)).collect();
    let mut after = run.differences.list_metadata.after.clone();
    while let Some(cursor) = after {
        let answer = client.get(&format!("{PATH}/{}?after={cursor}", run.id))?;
        if answer.status != 200 {
            return Err(refused(&answer, client, ""));
        }
        let page: RunReport = answer.json()?;
        rows.extend(page.differences.data.iter().map(|found| row(found, run.dry_run)));
        after = page.differences.list_metadata.after;
    }
    Ok(rows)
}

fn row(found: &DifferenceReport, dry_run: bool) -> Vec<String> {
    let sign = match found.difference.as_str() {
        "missing_here" => "+",
        "missing_there" => "-",
        _ => "~",
    };
    let id = match (&found.id, &found.user_id, &found.group_id) {
        (Some(id), _, _) => id.clone(),
        (None, Some(user), Some(group)) => format!("{user} in {group}"),
        _ => String::new(),
    };
    let outcome = match (&found.held, found.recorded) {
        (Some(reason), _) => format!("held: {}", reason.replace('_', " ")),
        (None, Some(seq)) => format!("record {seq}"),
        (None, None) if dry_run => "would be recorded".to_owned(),
        (None, None) => String::new(),
    };
    let directory = found.directory_id.clone();
    vec![sign.into(), found.kind.clone(), id, directory, found.fields.join(", "), outcome]
}

/// Says what a reconciliation found.
fn sentence(run: &RunReport) -> String {
    let RunReport { compared, recorded, held, .. } = run;
    let compared = format!(
        "{}, {}, {} and {}",
        counted(compared.directories, "directory", "directories"),
        counted(compared.groups, "group", "groups"),
        counted(compared.users, "user", "users"),
        counted(compared.memberships, "membership", "memberships")
    );
    match run.state.as_str() {
        "running" => format!("reconciliation {} is running", run.id),
        "failed" if run.error.is_some() => format!("reconciliation {} failed", run.id),
        "completed" if run.dry_run => {
            format!("compared {compared} with the source; nothing is recorded in a dry run")
        }
        "completed" => format!("in step with the source: compared {compared}; recorded {recorded}"),
        _ => format!("compared {compared} with the source; recorded {recorded}, held {held}"),
    }
}

fn verdict(run: &RunReport) -> Result<(), Failure> {
    if let Some(error) = &run.error {
        return Err(Failure::Ours(format!("the comparison with the source failed: {error}")));
    }
    let failed: Vec<String> = run
        .directories
        .iter()
        .filter_map(|directory| Some(format!("{} ({})", directory.id, directory.error.as_deref()?)))
        .collect();
    match run.state.as_str() {
        "failed" => Err(Failure::Ours(format!(
            "these directories could not be compared without doubt: {}",
            failed.join(", ")
        ))),
        "held" => Err(Failure::Caller(format!(
            "{} held: compare with the source, then run it with --guard off if that is right",
            counted(run.held, "difference is", "differences are")
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(state: &str, held: u64, error: Option<&str>) -> RunReport {
        serde_json::from_value(json!({
            "id": "run_1", "state": state, "step": "ended", "dry_run": false, "error": error,
            "directories": [
                { "id": "directory_1", "state": "clean", "error": null },
                { "id": "directory_2", "state": "failed", "error": "no" },
            ],
            "compared": { "directories": 2, "groups": 1, "users": 40, "memberships": 55 },
            "recorded": 3, "held": held,
            "differences": { "data": [], "list_metadata": { "before": null, "after": null } },
        }))
        .unwrap()
    }

    #[test]
    fn a_reconciliation_is_told_in_a_sentence_and_a_held_one_is_for_the_caller() {
        let completed = run("completed", 0, None);
        assert_eq!(
            sentence(&completed),
            "in step with the source: compared 2 directories, 1 group, 40 users and 55 \
             memberships; recorded 3"
        );
        assert!(verdict(&completed).is_ok());
        assert!(matches!(verdict(&run("held", 1, None)), Err(Failure::Caller(_))));
        for failed in [run("failed", 0, None), run("failed", 0, Some("no Events API"))] {
            assert!(matches!(verdict(&failed), Err(Failure::Ours(_))));
        }
    }

    #[test]
    fn a_difference_reads_like_a_line_of_a_diff() {
        let found = |difference: &str, recorded: Option<u64>, held: Option<&str>| {
            serde_json::from_value::<DifferenceReport>(json!({
                "kind": "membership", "user_id": "u", "group_id": "g", "directory_id": "d",
                "difference": difference, "fields": [], "recorded": recorded, "held": held,
            }))
            .unwrap()
        };
        let added = row(&found("missing_here", Some(7), None), false);
        assert_eq!(added, ["+", "membership", "u in g", "d", "", "record 7"]);
        let held = row(&found("missing_there", None, Some("source_older")), false);
        assert_eq!((held[0].as_str(), held[5].as_str()), ("-", "held: source older"));
        assert_eq!(row(&found("differs", None, None), true)[5], "would be recorded");
    }
}
