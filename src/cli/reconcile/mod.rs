//! `rollcall reconcile`

mod differences;

use clap::Args;
use differences::{DifferenceReport, Differences};
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::json;

use super::client::Client;
use super::read::listing::{Query, ask, refused};
use super::read::names::{Kind, id_if_known, never_seen};
use super::read::print::{counted, width};
use super::source_state::{Waiting, source_of};
use super::table::harmless;
use super::waiting::{Pauses, Report, WaitArgs, drawn};
use super::{Failure, print};
use crate::sources::reconcile::HeldPlace;

const PATH: &str = "/rollcall/v1/reconciliations";

/// Compare what the source lists with what the log holds, and record what differs.
///
/// The server must run with --pull. It reconciles by itself once a day, or as --reconcile-every
/// says. In the table, + is missing here, - is missing at the source, and ~ differs, with the value
/// here and the value at the source. A difference that would end too much at once is held: look at
/// the source before you let it through with --guard off.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if all was compared and nothing is held but what an operator deleted here, also in a
dry run that found differences; 1 if it could not be begun, or a difference is held; 2 if a
directory could not be compared without doubt, or the server cannot be reached.

The API key needs the scope `operate`. With `read` as well, the table shows emails, names and
values, and --directory takes a name.

--json prints the reconciliation as one object with its first 1000 differences.

Examples:
  rollcall reconcile --dry-run
  rollcall reconcile --directory \"Halden Robotics\"
  rollcall reconcile --directory directory_… --guard off")]
pub(super) struct ReconcileArgs {
    /// Only this directory, by its id, or by its name if it is known here
    #[arg(long, value_name = "ID|NAME")]
    directory: Option<String>,
    /// Show what would be recorded, and record nothing
    #[arg(long)]
    dry_run: bool,
    /// Let everything end, however much it is; without it the server's --guard holds
    #[arg(long, value_name = "off", value_parser = ["off"])]
    guard: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

/// A reconciliation, as the server reports it.
#[derive(Deserialize)]
struct RunReport {
    id: String,
    state: String,
    step: String,
    directory: Option<String>,
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
    state: String,
    error: Option<String>,
    exceeds: Option<String>,
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

impl ReconcileArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let ReconcileArgs { directory, dry_run, guard, wait } = self;
        let WaitArgs { no_wait, output, server } = wait;
        let client = server.client()?;
        let mut report = begin(&client, directory, dry_run, guard)?;
        if !no_wait {
            report = watch(&client, report)?;
        }
        let differences = differences(&client, &report.told)?;
        if output.json {
            report.print_json()?;
        } else {
            let table = differences.draw(width());
            print(&format!("{table}{}\n", sentence(&report.told, differences.len())))?;
        }
        verdict(&report.told, &differences)
    }
}

/// Begins a reconciliation. A name of a directory becomes its id; what is not known here may be the
/// id of one that the source has.
fn begin(
    client: &Client,
    directory: Option<String>,
    dry_run: bool,
    guard: Option<String>,
) -> Result<Report<RunReport>, Failure> {
    let id = directory.as_deref().map(|text| id_if_known(client, Kind::Directory, text));
    let id = id.transpose()?.flatten().or_else(|| directory.clone());
    let body = json!({ "directory": id, "dry_run": dry_run, "guard": guard });
    let begun = client.post(PATH, Some(&body))?;
    if let (404, Some(text)) = (begun.status, &directory)
        && let Ok(Some(failure)) = never_seen(client, Kind::Directory, text, &Query::default())
    {
        return Err(failure);
    }
    if begun.status == 202 {
        return Report::of(&begun);
    }
    let is_running = begun.code() == "reconciliation_running";
    Err(match refused(&begun, client, "") {
        Failure::Caller(says) if is_running => Failure::Caller(format!(
            "{says}; `rollcall status` shows how far it is, and what it waits for"
        )),
        failure => failure,
    })
}

/// Shows the progress until the end.
fn watch(client: &Client, mut report: Report<RunReport>) -> Result<Report<RunReport>, Failure> {
    let path = format!("{PATH}/{}", report.told.id);
    let bar = drawn(ProgressBar::new_spinner(), "{spinner} {msg} in {elapsed}");
    let (mut pauses, mut waiting) = (Pauses::new(), Waiting::new());
    while report.told.state == "running" {
        bar.set_message(progress(&report.told));
        bar.tick();
        pauses.rest();
        // Before the run, so that a fault is not taken for one of an earlier step.
        let source = source_of(client)?.told;
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
        if let Some(how_long) = how_long(&report.told.step) {
            waiting.look(&source, how_long, &bar);
        }
    }
    bar.finish_and_clear();
    Ok(report)
}

/// Says how long the source is asked in vain in a step; `None` if it is not asked.
fn how_long(step: &str) -> Option<&'static str> {
    match step {
        "pulling" => Some("Ctrl-C ends this command, and not the reconciliation"),
        "listing" | "looking_again" => Some(
            "each request is tried 8 times, about a minute if the source is down, and then its \
             directory has failed",
        ),
        _ => None,
    }
}

fn progress(run: &RunReport) -> String {
    let ComparedReport { directories, groups, users, memberships } = run.compared;
    format!(
        "{}: {directories} directories, {groups} groups, {users} users, {memberships} memberships; \
         {} recorded",
        run.step.replace('_', " "),
        run.recorded
    )
}

/// Reads all differences, page by page.
fn differences(client: &Client, run: &RunReport) -> Result<Differences, Failure> {
    let mut all = Differences::default();
    run.differences.data.iter().for_each(|found| all.add(found, run.dry_run));
    let mut after = run.differences.list_metadata.after.clone();
    while let Some(cursor) = after {
        let page: RunReport =
            ask(client, &format!("{PATH}/{}?after={cursor}", run.id), "")?.json()?;
        page.differences.data.iter().for_each(|found| all.add(found, run.dry_run));
        after = page.differences.list_metadata.after;
    }
    Ok(all)
}

/// Says why the only directory of a reconciliation was not compared: an operator deleted it here, or
/// neither side has it.
fn left_out(run: &RunReport) -> Option<String> {
    let id = run.directory.as_ref()?;
    let shown = harmless(id);
    match run.directories.iter().find(|directory| directory.id == *id) {
        Some(directory) if directory.state == "not_compared" => {
            Some(format!("`{shown}` was not compared: an operator deleted it here"))
        }
        None if run.directories.is_empty() => {
            Some(format!("nothing was compared: `{shown}` is neither here nor at the source"))
        }
        _ => None,
    }
}

/// Says what a reconciliation found.
fn sentence(run: &RunReport, differences: usize) -> String {
    if run.state == "completed"
        && let Some(says) = left_out(run)
    {
        return says;
    }
    let RunReport { id, recorded, held, .. } = run;
    let compared = compared(run);
    let found = match differences as u64 {
        0 => "no difference".to_owned(),
        found if run.dry_run => format!(
            "{}, {} would be recorded",
            counted(found, "difference", "differences"),
            found - held.min(&found)
        ),
        found => {
            format!("{}, {recorded} recorded", counted(found, "difference", "differences"))
        }
    };
    let held = if *held > 0 { format!(", {held} held") } else { String::new() };
    let of = run.directory.as_ref().map(|id| format!(" in `{}`", harmless(id)));
    let is_in_step = run.state == "completed" && (!run.dry_run || differences == 0);
    match run.state.as_str() {
        "running" => {
            format!("reconciliation {id} is running; `rollcall status` shows how far it is")
        }
        "failed" if run.error.is_some() => format!("reconciliation {id} failed"),
        _ if is_in_step && run.compared.directories == 0 && differences == 0 => {
            "in step with the source, which lists no directory: is its key of the right environment?"
                .into()
        }
        _ if is_in_step => {
            format!("in step with the source{}: {compared}; {found}{held}", of.unwrap_or_default())
        }
        _ => format!("{compared}; {found}{held}"),
    }
}

/// Says what was compared, and in how many directories it failed.
fn compared(run: &RunReport) -> String {
    let ComparedReport { directories, groups, users, memberships } = run.compared;
    let [failed, undecided, left_out] =
        ["failed", "undecided", "not_compared"].map(|state| directories_in(run, state));
    let not_settled = if run.state == "failed" { failed + undecided } else { 0 };
    let (directories, left) = if not_settled == 0 {
        (counted(directories, "directory", "directories"), String::new())
    } else {
        let all = (run.directories.len() as u64).saturating_sub(left_out);
        let settled = all.saturating_sub(not_settled);
        let left = [(failed, "failed"), (undecided, "undecided")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("; {count} {word}"));
        (format!("{settled} of {}", counted(all, "directory", "directories")), left.collect())
    };
    format!(
        "compared {directories}, {}, {} and {}{left}",
        counted(groups, "group", "groups"),
        counted(users, "user", "users"),
        counted(memberships, "membership", "memberships")
    )
}

/// Counts the directories in a state.
fn directories_in(run: &RunReport, state: &str) -> u64 {
    run.directories.iter().filter(|directory| directory.state == state).count() as u64
}

/// Fails if a directory could not be compared, or something is held.
fn verdict(run: &RunReport, differences: &Differences) -> Result<(), Failure> {
    if let Some(error) = &run.error {
        let says = format!("the reconciliation failed: {error}; `rollcall status` says what to do");
        return Err(Failure::Ours(harmless(&says)));
    }
    let held = match run.held {
        0 => String::new(),
        held => {
            let held = counted(held, "difference is", "differences are");
            let place = |id: &str| {
                let found = run.directories.iter().find(|directory| directory.id == id);
                HeldPlace {
                    excess: found.and_then(|directory| directory.exceeds.as_deref()),
                    undecided: found.is_some_and(|directory| directory.state == "undecided"),
                }
            };
            format!("{held} held and not recorded:{}", differences.advice(place))
        }
    };
    match run.state.as_str() {
        "failed" => {
            let held = if held.is_empty() { held } else { format!("\n{held}") };
            Err(Failure::Ours(format!("{}{held}", not_compared(run))))
        }
        "held" => Err(Failure::Caller(held)),
        _ => Ok(()),
    }
}

/// Names the directories that could not be compared, with the reason of each.
fn not_compared(run: &RunReport) -> String {
    let failed =
        run.directories.iter().filter_map(|DirectoryReport { id, state, error, .. }| {
            let is_failed = matches!(state.as_str(), "failed" | "undecided");
            let error = error.as_deref().unwrap_or("the source's answers do not decide it");
            is_failed.then(|| format!("\n  {}", harmless(&format!("{id}: {state}: {error}"))))
        });
    let failed: Vec<String> = failed.collect();
    // An undecided one did answer.
    let next = match directories_in(run, "failed") {
        0 => {
            "what the source answers does not decide it; run it again, and look at the source if it \
             stays so"
        }
        _ => "run it again once the source answers",
    };
    format!(
        "{} not be compared without doubt; {next}:{}",
        counted(failed.len() as u64, "directory could", "directories could"),
        failed.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(state: &str, held: u64, error: Option<&str>) -> RunReport {
        serde_json::from_value(json!({
            "id": "run_1", "state": state, "step": "ended", "dry_run": false, "error": error,
            "directory": null,
            "directories": [
                { "id": "directory_1", "state": "clean", "error": null },
                { "id": "directory_2", "state": "failed", "error": "no" },
                { "id": "directory_3", "state": "undecided", "error": "u: 422" },
            ],
            "compared": { "directories": 2, "groups": 1, "users": 40, "memberships": 55 },
            "recorded": 3, "held": held,
            "differences": { "data": [], "list_metadata": { "before": null, "after": null } },
        }))
        .unwrap()
    }

    #[test]
    fn a_reconciliation_is_told_in_a_sentence() {
        let compared = "compared 2 directories, 1 group, 40 users and 55 memberships";
        let completed = run("completed", 0, None);
        let dry = RunReport { dry_run: true, ..run("completed", 0, None) };
        let one = RunReport { directory: Some("d".into()), ..run("completed", 0, None) };
        let deleted_here = run("completed", 1, None);
        let held = run("held", 2, None);
        let dry_held = RunReport { dry_run: true, ..run("held", 2, None) };
        for (run, differences, expected) in [
            (
                &completed,
                3,
                format!("in step with the source: {compared}; 3 differences, 3 recorded"),
            ),
            (&one, 0, format!("in step with the source in `d`: {compared}; no difference")),
            (&dry, 0, format!("in step with the source: {compared}; no difference")),
            (&dry, 1, format!("{compared}; 1 difference, 1 would be recorded")),
            (
                &deleted_here,
                4,
                format!("in step with the source: {compared}; 4 differences, 3 recorded, 1 held"),
            ),
            (&held, 5, format!("{compared}; 5 differences, 3 recorded, 2 held")),
            (&dry_held, 5, format!("{compared}; 5 differences, 3 would be recorded, 2 held")),
        ] {
            assert_eq!(sentence(run, differences), expected);
        }
        assert_eq!(sentence(&run("failed", 0, Some("no")), 0), "reconciliation run_1 failed");
        // One of the three directories is clean.
        let things = "1 group, 40 users and 55 memberships; 1 failed; 1 undecided";
        let failed = format!("compared 1 of 3 directories, {things}; no difference");
        assert_eq!(sentence(&run("failed", 0, None), 0), failed);
        let mut left_out = run("failed", 0, None);
        left_out.directories[2].state = "not_compared".into();
        let says = sentence(&left_out, 0);
        assert!(says.starts_with("compared 1 of 2 directories, "), "{says}");
        assert!(says.ends_with("; 1 failed; no difference"), "{says}");
        let mut deleted = RunReport { directory: Some("directory_1".into()), ..deleted_here };
        deleted.directories[0].state = "not_compared".into();
        let says = "`directory_1` was not compared: an operator deleted it here";
        assert_eq!(sentence(&deleted, 1), says);
        let none = ComparedReport { directories: 0, groups: 0, users: 0, memberships: 0 };
        let empty = RunReport { compared: none, ..run("completed", 0, None) };
        assert!(sentence(&empty, 0).contains("lists no directory"), "{}", sentence(&empty, 0));
        let of = Some("directory_2".to_owned());
        let nowhere = RunReport { directory: of, directories: Vec::new(), ..empty };
        let says = "nothing was compared: `directory_2` is neither here nor at the source";
        assert_eq!(sentence(&nowhere, 0), says);
    }

    #[test]
    fn a_held_one_is_for_the_caller_and_a_failed_one_names_its_directories() {
        let none = Differences::default();
        assert!(verdict(&run("completed", 0, None), &none).is_ok());
        assert!(verdict(&run("completed", 1, None), &none).is_ok(), "deleted here");
        let held = verdict(&run("held", 1, None), &none);
        assert!(
            matches!(&held, Err(Failure::Caller(says)) if says.starts_with("1 difference is held")),
            "{held:?}"
        );
        let failed = verdict(&run("failed", 2, None), &none);
        let Err(Failure::Ours(says)) = failed else { panic!("{failed:?}") };
        assert_eq!(
            says,
            "2 directories could not be compared without doubt; run it again once the source \
             answers:\n  directory_2: failed: no\n  directory_3: undecided: u: 422\n2 differences \
             are held and not recorded:"
        );
        let mut undecided = run("failed", 0, None);
        undecided.directories[1].state = "undecided".into();
        let says = not_compared(&undecided);
        assert!(!says.contains("once the source answers"), "{says}");
        let failed = verdict(&run("failed", 0, Some("no Events API")), &none);
        assert!(
            matches!(&failed, Err(Failure::Ours(says)) if says.contains("failed: no Events API; ")),
            "{failed:?}"
        );
    }
}
