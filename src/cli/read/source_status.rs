//! The lines about sources in `rollcall status`: well or not, how old their events are, and what the
//! last reconciliation found.

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
        let mut sound = source.clone();
        let error = sound.as_object_mut().and_then(|fields| fields.remove("last_error"));
        let fails = error.is_some_and(|error| !error.is_null());
        let failure = fails.then(|| verdict(source, earlier));
        // What the last reconciliation found is told also while the source fails.
        let verdicts = failure.into_iter().chain([verdict(&sound, earlier)]);
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
    let run = source.get("reconciliation").unwrap_or(&Value::Null);
    if let Some(error) = source.get("last_error").filter(|error| !error.is_null()) {
        let code = text_field(error, "code");
        let what = format!("{code}: {}", text_field(error, "message"));
        let next = Some(advice(code)).filter(|advice| !advice.is_empty());
        let next = next.unwrap_or("`rollcall pull` tries again at once").to_owned();
        return Verdict::Wrong { what, next };
    }
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
        "" => match earlier {
            Earlier::Never => Verdict::Wait("nothing is reconciled yet"),
            Earlier::At(LastRun { failed: true, .. }) => wrong_as_failed(),
            Earlier::At(LastRun { held: held @ 1.., .. }) => wrong_as_held(held),
            Earlier::At(_) | Earlier::Unknown => Verdict::Ok("its events are pulled"),
        },
        _ => Verdict::Ok("its events are pulled"),
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

/// Looks for the last reconciliation before the start, unless there was one since.
pub(super) fn earlier(client: &Client, stats: &Value) -> Earlier {
    if lacks_reconciliation(stats) { last_recorded(client) } else { Earlier::Unknown }
}

/// Returns true if there was no reconciliation with a source since the start.
fn lacks_reconciliation(stats: &Value) -> bool {
    sources(stats)
        .map(|source| source.get("reconciliation"))
        .any(|run| run.is_none_or(Value::is_null))
}

/// The last reconciliation of all directories before the server's start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Earlier {
    /// It was not looked for, or the key may not read it.
    Unknown,
    /// There is none.
    Never,
    /// This one.
    At(LastRun),
}

/// A reconciliation as its record tells it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct LastRun {
    /// When it began.
    pub(super) began: i64,
    /// The differences that it held; zero for those alone that an operator wanted so.
    pub(super) held: u64,
    /// True if it could not compare something.
    pub(super) failed: bool,
}

impl LastRun {
    /// Reads the record of a run over all directories; `None` of another.
    fn of(data: &Value) -> Option<LastRun> {
        data.get("directory_id").filter(|directory| directory.is_null())?;
        let failed = data.get("failed_directories").and_then(Value::as_array);
        let state = text_field(data, "state");
        Some(LastRun {
            began: moment(data, "started_at")?,
            held: if state == "completed" { 0 } else { count(data, "/held") },
            failed: state == "failed" || failed.is_some_and(|failed| !failed.is_empty()),
        })
    }
}

/// The time in which a reconciliation before the start is looked for.
const EARLIER_WITHIN: &str = "30d";

/// Returns the last reconciliation of all directories that the log has.
fn last_recorded(client: &Client) -> Earlier {
    let Ok(since) = moment_of(EARLIER_WITHIN) else { return Earlier::Unknown };
    let list = List::all("/events", Query::default()).narrowed(
        Query::default()
            .with("events", Some("rollcall.reconciliation.completed"))
            .with("range_start", Some(since)),
    );
    let mut last = None;
    let read = list.walk(client, everything, |event| {
        let run: Value = serde_json::from_str(event.get()).unwrap_or_default();
        let found = run.get("data").and_then(LastRun::of);
        if found.map(|run| run.began) >= last.map(|run: LastRun| run.began) {
            last = found;
        }
        Ok(())
    });
    match (read, last) {
        (Err(_), _) => Earlier::Unknown,
        (Ok(_), None) => Earlier::Never,
        (Ok(_), Some(run)) => Earlier::At(run),
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
    fn the_record_of_a_run_says_what_it_left_open() {
        let record = |state: Value, directory: Value| {
            json!({"directory_id": directory, "started_at": "1970-01-01T00:00:05.000Z",
                "state": state, "held": 2, "failed_directories": [{"id": "d", "error": "no"}]})
        };
        let open = |state: Value| LastRun::of(&record(state, json!(null))).map(|run| run.held);
        assert_eq!(open(json!("held")), Some(2));
        // What an operator deleted here is held by a run that completed.
        assert_eq!(open(json!("completed")), Some(0));
        assert_eq!(open(json!(null)), Some(2), "an older record");
        let failed = LastRun::of(&record(json!("failed"), json!(null)));
        assert!(failed == Some(LastRun { began: 5_000, held: 2, failed: true }));
        assert!(LastRun::of(&record(json!("held"), json!("d"))).is_none(), "of one directory");
    }
}
