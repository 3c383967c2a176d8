//! The lines about sources in `rollcall status`: well or not, how old their events are, and what the
//! last reconciliation found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

use serde_json::Value;

use super::super::client::{Client, text_field};
use super::super::moment::moment as moment_of;
use super::super::source_state::{advice, next_try};
use super::attention::Concern;
use super::listing::{List, Query, everything};
use super::print::{counted, human};
use super::status::{count, moment};

/// Describes each source: what is wrong with it, how old its events are, and what the last
/// reconciliation found.
pub(super) fn rows(
    stats: &Value,
    earlier: Earlier,
) -> impl Iterator<Item = (&'static str, String)> + '_ {
    let now = moment(stats, "at");
    sources(stats).flat_map(move |source| {
        let verdict = format!("{}: {}", text_field(source, "url"), verdict(source, earlier));
        let reconciliation = reconciliation(source, now, earlier);
        [
            ("source", verdict),
            ("  events", pulled(source, now)),
            ("  reconciliation", reconciliation),
        ]
    })
}

/// Returns what is wrong with each source.
pub(super) fn wrong_sources(stats: &Value, earlier: Earlier) -> impl Iterator<Item = Concern> + '_ {
    sources(stats).flat_map(move |source| {
        // What the last reconciliation found is told also while the source fails.
        let verdicts = failure(source).into_iter().chain([progress(source, earlier)]);
        verdicts.filter_map(move |verdict| {
            let Verdict::Wrong { what, next } = verdict else { return None };
            Some(Concern::new(format!("source {}: {what}", text_field(source, "url")), next))
        })
    })
}

fn sources(stats: &Value) -> impl Iterator<Item = &Value> {
    stats.get("sources").and_then(Value::as_array).into_iter().flatten()
}

/// The state of a source, in words.
enum Verdict {
    Ok(&'static str),
    /// It will be well by itself.
    Wait(&'static str),
    /// An operator must look at it.
    Wrong {
        what: String,
        next: String,
    },
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Ok(what) => write!(f, "ok: {what}"),
            Verdict::Wait(what) => write!(f, "wait: {what}"),
            Verdict::Wrong { what, next } => write!(f, "wrong: {what}; {next}"),
        }
    }
}

/// Judges a source.
fn verdict(source: &Value, earlier: Earlier) -> Verdict {
    failure(source).unwrap_or_else(|| progress(source, earlier))
}

/// Says why a source fails, if it does.
fn failure(source: &Value) -> Option<Verdict> {
    let error = source.get("last_error").filter(|error| !error.is_null())?;
    let code = text_field(error, "code");
    let what = format!("{code}: {}", text_field(error, "message"));
    let next = Some(advice(code)).filter(|advice| !advice.is_empty());
    let next = next.unwrap_or("`rollcall pull` tries again at once").to_owned();
    Some(Verdict::Wrong { what, next })
}

/// Judges how far a source is pulled, and what its reconciliations left open.
fn progress(source: &Value, earlier: Earlier) -> Verdict {
    let run = source.get("reconciliation").unwrap_or(&Value::Null);
    let is_part = run.get("directory").is_some_and(|directory| !directory.is_null());
    let is_dry = run.get("dry_run") == Some(&Value::Bool(true));
    match text_field(run, "state") {
        _ if moment(source, "caught_up_at").is_none() => {
            Verdict::Wait("its events are being pulled")
        }
        "running" => Verdict::Wait("a reconciliation is running"),
        "held" => wrong_as_held(count(run, "/held")),
        "failed" => wrong_as_failed(),
        "completed" if !is_part && !is_dry => Verdict::Ok("in step"),
        "" if earlier == Earlier::Never => Verdict::Wait("nothing is reconciled yet"),
        // A run of one directory says nothing of what is open in others.
        "completed" if !is_part => Verdict::Ok("its events are pulled"),
        _ => match earlier {
            Earlier::At(LastRun { failed: true, .. }) => wrong_as_failed(),
            Earlier::At(LastRun { held: held @ 1.., .. }) => wrong_as_held(held),
            Earlier::At(_) | Earlier::Never | Earlier::Unknown => {
                Verdict::Ok("its events are pulled")
            }
        },
    }
}

fn wrong_as_held(held: u64) -> Verdict {
    Verdict::Wrong {
        what: counted(held, "difference is held", "differences are held"),
        next: "`rollcall reconcile --dry-run` shows which, why, and what to do".into(),
    }
}

fn wrong_as_failed() -> Verdict {
    Verdict::Wrong {
        what: "not all of it could be compared".into(),
        next: "`rollcall reconcile` tries again and says why".into(),
    }
}

/// Says how old the events of a source are, and what was pulled since the start.
fn pulled(source: &Value, now: Option<i64>) -> String {
    let age = match (now, moment(source, "caught_up_at")) {
        (Some(now), Some(at)) => format!("all pulled up to {} ago", human(now - at)),
        _ => "not all pulled yet".to_owned(),
    };
    let [new, duplicates, differs] =
        ["/new", "/duplicates", "/differs"].map(|name| count(source, name));
    let differs = match differs {
        0 => String::new(),
        _ => format!("; {} with another content", counted(differs, "copy", "copies")),
    };
    let at = source.get("next_try_at").and_then(Value::as_str);
    let next_try = next_try(at, now.unwrap_or_default());
    format!("{age}; since the start {new} new and {duplicates} known already{differs}{next_try}")
}

/// Says how old the last reconciliation with a source is, and what differed.
fn reconciliation(source: &Value, now: Option<i64>, earlier: Earlier) -> String {
    let run = source.get("reconciliation").unwrap_or(&Value::Null);
    let ago = |at: Option<i64>| match (now, at) {
        (Some(now), Some(at)) => human(now - at),
        _ => "?".into(),
    };
    let of = match run.get("directory").and_then(Value::as_str) {
        Some(directory) => format!("of {directory} "),
        None => String::new(),
    };
    let dry = if run.get("dry_run") == Some(&Value::Bool(true)) { "dry run " } else { "" };
    let found = differences(run);
    let age = |name| ago(moment(run, name));
    match (text_field(run, "state"), earlier) {
        ("running", _) => {
            let step = step(run);
            format!("{dry}{of}running for {}: {step}{found} so far", age("started_at"))
        }
        ("completed" | "held", _) => format!("{dry}{of}{} ago: {found}", age("finished_at")),
        ("failed", _) => format!("{dry}{of}failed {} ago: {found}", age("finished_at")),
        (_, Earlier::At(LastRun { began, .. })) => {
            format!("none since the start; the last one began {} ago", ago(Some(began)))
        }
        (_, Earlier::Never) => {
            "none yet; the first begins once all events are pulled, unless --reconcile-every is 0"
                .into()
        }
        (_, Earlier::Unknown) => {
            "none since the start; the next begins when --reconcile-every says so, or at once with \
             `rollcall reconcile`"
                .into()
        }
    }
}

/// Says what a running reconciliation does, and how far it is.
fn step(run: &Value) -> String {
    let [begun, groups, users, memberships] = ["directories", "groups", "users", "memberships"]
        .map(|kind| count(run, &format!("/compared/{kind}")));
    match text_field(run, "step") {
        "" => String::new(),
        "listing" => format!(
            "listing directory {begun} of {} ({}, {} and {} so far); ",
            count(run, "/directories"),
            counted(groups, "group", "groups"),
            counted(users, "user", "users"),
            counted(memberships, "membership", "memberships")
        ),
        step => format!("{}; ", step.replace('_', " ")),
    }
}

/// Counts the differences of a reconciliation, and what became of them.
fn differences(run: &Value) -> String {
    let [all, recorded, held] = ["/differences", "/recorded", "/held"].map(|name| count(run, name));
    let left = all - (recorded + held).min(all);
    let counts = [(recorded, "recorded"), (held, "held"), (left, "not recorded")];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let counts: String = counts.map(|(count, word)| format!(", {count} {word}")).collect();
    match all {
        0 => "no difference".into(),
        _ => format!("{}{counts}", counted(all, "difference", "differences")),
    }
}

/// Looks in the log for what reconciliations left open, unless one of all directories began since
/// the start.
pub(super) fn earlier(client: &Client, stats: &Value) -> Earlier {
    if lacks_whole_run(stats) { last_recorded(client) } else { Earlier::Unknown }
}

/// Returns true if there was no reconciliation with a source since the start, or the last one was of
/// one directory.
fn lacks_whole_run(stats: &Value) -> bool {
    sources(stats).any(|source| {
        let run = source.get("reconciliation").unwrap_or(&Value::Null);
        run.is_null() || run.get("directory").is_some_and(|only| !only.is_null())
    })
}

/// What the reconciliations in the log left open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Earlier {
    /// It was not looked for, or the key may not read it.
    Unknown,
    /// There is none of all directories, and nothing is open of others.
    Never,
    /// This.
    At(LastRun),
}

/// The last reconciliation of all directories, and what is open since then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastRun {
    /// When it began; without one of all directories, when the last one of a directory did.
    pub(super) began: i64,
    /// The differences that are held, without those that an operator wanted so.
    pub(super) held: u64,
    /// True if something could not be compared.
    pub(super) failed: bool,
}

/// A reconciliation as its record tells it.
struct RunRecord {
    began: i64,
    /// The only directory that it compared.
    only: Option<String>,
    open: Open,
}

/// What is open, by directory; under no name what is of no known directory.
#[derive(Default)]
struct Open {
    /// The differences that are held.
    held: BTreeMap<String, u64>,
    /// The directories that could not be compared.
    failed: BTreeSet<String>,
}

impl RunRecord {
    /// Reads a record.
    fn of(data: &Value) -> Option<RunRecord> {
        let only = data.get("directory_id")?.as_str().map(str::to_owned);
        let items = |name: &str| data.get(name).and_then(Value::as_array);
        let id = |item: &Value| text_field(item, "id").to_owned();
        let of_none = || only.clone().unwrap_or_default();
        let state = text_field(data, "state");
        let mut open = Open::default();
        open.failed.extend(items("failed_directories").into_iter().flatten().map(id));
        if state == "failed" && open.failed.is_empty() {
            open.failed.insert(of_none());
        }
        match items("held_directories") {
            Some(held) => {
                open.held.extend(held.iter().map(|item| (id(item), count(item, "/held"))))
            }
            // A record of an older version does not say where.
            None if state != "completed" => {
                open.held.insert(of_none(), count(data, "/held"));
            }
            None => {}
        }
        Some(RunRecord { began: moment(data, "started_at")?, only, open })
    }
}

/// Returns what some runs left open: of each directory, and of all, the newest counts.
fn left_open(mut runs: Vec<RunRecord>) -> Earlier {
    runs.sort_by_key(|run| run.began);
    let (mut whole, mut part, mut open) = (None, None, Open::default());
    for run in runs {
        match run.only {
            None => {
                whole = Some(run.began);
                open = run.open;
            }
            Some(only) => {
                part = Some(run.began);
                open.held.remove(&only);
                open.failed.remove(&only);
                open.held.extend(run.open.held);
                open.failed.extend(run.open.failed);
            }
        }
    }
    let held: u64 = open.held.values().sum();
    let failed = !open.failed.is_empty();
    let began = whole.or(part.filter(|_| held > 0 || failed));
    began.map_or(Earlier::Never, |began| Earlier::At(LastRun { began, held, failed }))
}

/// The time in which a reconciliation before the start is looked for.
const EARLIER_WITHIN: &str = "30d";

/// Returns what the reconciliations in the log left open.
fn last_recorded(client: &Client) -> Earlier {
    let Ok(since) = moment_of(EARLIER_WITHIN) else { return Earlier::Unknown };
    let list = List::all("/events", Query::default()).narrowed(
        Query::default()
            .with("events", Some("rollcall.reconciliation.completed"))
            .with("range_start", Some(since)),
    );
    let mut runs = Vec::new();
    let read = list.walk(client, everything, |event| {
        let run: Value = serde_json::from_str(event.get()).unwrap_or_default();
        runs.extend(run.get("data").and_then(RunRecord::of));
        Ok(())
    });
    match read {
        Err(_) => Earlier::Unknown,
        Ok(_) => left_open(runs),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::attention::lines;
    use super::*;
    use crate::time;

    #[test]
    fn a_source_says_what_the_last_reconciliation_found() {
        let now = time::parse("2026-05-01T12:00:00.000Z");
        let minute_ago = "2026-05-01T11:59:00.000Z";
        for (run, expected) in [
            (
                json!(null),
                "none yet; the first begins once all events are pulled, unless --reconcile-every \
                 is 0",
            ),
            (
                json!({"state": "completed", "finished_at": minute_ago}),
                "1 min 0 s ago: no difference",
            ),
            (
                json!({"state": "running", "started_at": "2026-05-01T11:59:48.000Z",
                    "directory": "d1"}),
                "of d1 running for 12 s: no difference so far",
            ),
            (
                json!({"state": "running", "started_at": "2026-05-01T11:59:48.000Z",
                    "step": "listing", "directories": 3, "compared": {"directories": 2,
                    "groups": 5, "users": 1, "memberships": 90}}),
                "running for 12 s: listing directory 2 of 3 (5 groups, 1 user and 90 memberships \
                 so far); no difference so far",
            ),
            (
                json!({"state": "running", "started_at": "2026-05-01T11:59:48.000Z",
                    "step": "looking_again", "differences": 0}),
                "running for 12 s: looking again; no difference so far",
            ),
            (
                json!({"state": "completed", "finished_at": minute_ago, "dry_run": true,
                    "differences": 1}),
                "dry run 1 min 0 s ago: 1 difference, 1 not recorded",
            ),
            (
                json!({"state": "failed", "finished_at": minute_ago, "differences": 3,
                    "recorded": 3}),
                "failed 1 min 0 s ago: 3 differences, 3 recorded",
            ),
        ] {
            let source = json!({ "reconciliation": run });
            assert_eq!(reconciliation(&source, now, Earlier::Never), expected);
        }
    }

    #[test]
    fn the_next_try_is_told_with_the_events() {
        let now = time::parse("2026-05-01T12:00:00.000Z");
        let source = json!({"caught_up_at": null, "new": 2, "duplicates": 0, "differs": 0,
            "next_try_at": "2026-05-01T12:04:58.500Z"});
        let told = "not all pulled yet; since the start 2 new and 0 known already; next try in \
                    4 min 58 s";
        assert_eq!(pulled(&source, now), told);
    }

    #[test]
    fn what_is_held_needs_attention_also_while_the_source_fails() {
        let source = json!({"url": "https://s", "caught_up_at": "2026-05-01T12:00:00.000Z",
            "last_error": {"code": "unavailable", "message": "no"},
            "reconciliation": {"state": "held", "held": 2}});
        let stats = json!({ "sources": [source] });
        let told = lines(&wrong_sources(&stats, Earlier::Unknown).collect::<Vec<_>>(), false);
        assert!(told.contains("source https://s: unavailable: no"), "{told}");
        assert!(told.contains("source https://s: 2 differences are held"), "{told}");
    }

    #[test]
    fn a_source_is_ok_or_one_must_wait_or_something_is_wrong() {
        let caught_up = "2026-05-01T12:00:00.000Z";
        let source = |run: Value| json!({"caught_up_at": caught_up, "reconciliation": run});
        for (source, expected) in [
            (json!({"caught_up_at": null}), "wait: its events are being pulled"),
            (source(json!(null)), "wait: nothing is reconciled yet"),
            (source(json!({"state": "running"})), "wait: a reconciliation is running"),
            (source(json!({"state": "completed"})), "ok: in step"),
            (source(json!({"state": "completed", "directory": "d1"})), "ok: its events are pulled"),
            (source(json!({"state": "completed", "dry_run": true})), "ok: its events are pulled"),
            (
                source(json!({"state": "held", "held": 1})),
                "wrong: 1 difference is held; `rollcall reconcile --dry-run` shows which, why, and \
                 what to do",
            ),
            (
                json!({"last_error": {"code": "forbidden", "message": "no"}}),
                "wrong: forbidden: no; give the server a key that may read events and directories; \
                 of another Rollcall, one with the scopes `read` and `audit` that is bound to no \
                 organization",
            ),
        ] {
            assert_eq!(verdict(&source, Earlier::Never).to_string(), expected);
        }
        let failed = verdict(&source(json!({"state": "failed"})), Earlier::Unknown).to_string();
        assert!(failed.starts_with("wrong: not all of it"), "{failed}");
        let last = |held, failed| Earlier::At(LastRun { began: 0, held, failed });
        for (earlier, expected) in [
            (Earlier::Unknown, "ok: its events are pulled"),
            (last(0, false), "ok: its events are pulled"),
            (last(3, false), "wrong: 3 differences are held"),
            (last(3, true), "wrong: not all of it could be compared"),
        ] {
            let told = verdict(&source(json!(null)), earlier).to_string();
            assert!(told.starts_with(expected), "{told}");
        }
    }

    #[test]
    fn the_newest_run_of_each_directory_and_of_all_says_what_is_open() {
        let record = |second: u32, directory: Value, state: Value, held: Value, failed: Value| {
            let started_at = format!("1970-01-01T00:00:{second:02}.000Z");
            json!({"directory_id": directory, "started_at": started_at, "state": state, "held": 2,
                "held_directories": held, "failed_directories": failed})
        };
        let open = |records: &[&Value]| {
            let runs = records.iter().map(|data| RunRecord::of(data).unwrap()).collect();
            match left_open(runs) {
                Earlier::At(LastRun { began, held, failed }) => Some((began, held, failed)),
                Earlier::Never | Earlier::Unknown => None,
            }
        };
        let (none, all) = (json!([]), json!(null));
        let in_d = json!([{"id": "d", "held": 2}]);
        let failed_e = json!([{"id": "e", "error": "no"}]);
        let clean = record(1, all.clone(), json!("completed"), none.clone(), none.clone());
        let held = record(2, json!("d"), json!("held"), in_d.clone(), none.clone());
        let other = record(3, json!("e"), json!("completed"), none.clone(), none.clone());
        let through = record(4, json!("d"), json!("completed"), none.clone(), none.clone());
        let whole = record(5, all.clone(), json!("failed"), in_d, failed_e);
        let of_e = record(6, json!("e"), json!("completed"), none.clone(), none.clone());
        let of_d = record(7, json!("d"), json!("completed"), none.clone(), none.clone());
        assert_eq!(open(&[]), None);
        assert_eq!(open(&[&clean]), Some((1_000, 0, false)));
        assert_eq!(open(&[&clean, &held]), Some((1_000, 2, false)));
        assert_eq!(open(&[&other, &held, &clean]), Some((1_000, 2, false)), "by their time");
        assert_eq!(open(&[&clean, &held, &other, &through]), Some((1_000, 0, false)));
        assert_eq!(open(&[&held]), Some((2_000, 2, false)), "none of all directories");
        assert_eq!(open(&[&held, &through]), None);
        assert_eq!(open(&[&held, &whole]), Some((5_000, 2, true)));
        assert_eq!(open(&[&whole, &of_e]), Some((5_000, 2, false)));
        assert_eq!(open(&[&whole, &of_e, &of_d]), Some((5_000, 0, false)));
        // Older records do not say where, and still older ones have no state.
        let older = |state: Value| record(2, all.clone(), state, json!(null), none.clone());
        assert_eq!(open(&[&older(json!("held")), &of_d]), Some((2_000, 2, false)));
        assert_eq!(open(&[&older(json!(null))]), Some((2_000, 2, false)));
        // What an operator deleted here is held by a run that completed.
        assert_eq!(open(&[&older(json!("completed"))]), Some((2_000, 0, false)));
    }

    #[test]
    fn a_run_of_one_directory_leaves_open_what_was_open_in_others() {
        let caught_up = "2026-05-01T12:00:00.000Z";
        let run = |directory: Value, dry: bool| {
            json!({"caught_up_at": caught_up, "reconciliation":
                {"state": "completed", "directory": directory, "dry_run": dry}})
        };
        let earlier = Earlier::At(LastRun { began: 0, held: 3, failed: false });
        let told = |source: Value| verdict(&source, earlier).to_string();
        assert!(told(run(json!("d"), false)).starts_with("wrong: 3 differences are held"));
        assert_eq!(told(run(json!(null), false)), "ok: in step");
        assert_eq!(told(run(json!(null), true)), "ok: its events are pulled");
    }
}
