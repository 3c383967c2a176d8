//! What needs an operator's attention, for the first lines of `rollcall status`.

use anstyle::{AnsiColor, Style};
use serde_json::{Map, Value};

use super::super::client::text_field;
use super::super::table::harmless;
use super::super::verify::repair;
use super::print::{counted, human};
use super::status::{count, moment};
use crate::log::Damage;
use crate::time;

/// The part of `mapping_memory_mib` from which on the memory of mappings is pointed out.
const MAPPING_PERCENT: u64 = 80;

/// The time for which a refused webhook is pointed out, in milliseconds.
const REFUSED_WITHIN_MS: i64 = 3_600_000;

/// The time by which the archive is behind before it is pointed out, in milliseconds.
const ARCHIVE_LAG_MS: i64 = 15 * 60_000;

/// The time for which an endpoint fails before it is pointed out, in milliseconds.
const ENDPOINT_FAILS_MS: i64 = 15 * 60_000;

/// Something that needs attention, and what shows more or helps.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Concern {
    what: String,
    next: String,
}

impl Concern {
    pub(super) fn new(what: impl Into<String>, next: impl Into<String>) -> Concern {
        Concern { what: what.into(), next: next.into() }
    }
}

/// Returns all concerns, the gravest first. `readiness` is the answer of `/readyz`, `sources` what
/// is wrong with each source.
pub(super) fn concerns(
    stats: &Value,
    readiness: &Value,
    sources: impl Iterator<Item = Concern>,
) -> Vec<Concern> {
    let mut all = Vec::new();
    all.extend(refusal(readiness));
    all.extend(access_log(readiness));
    all.extend(disk(stats));
    all.extend(clock(stats));
    all.extend(scrub(stats));
    all.extend(snapshot(stats));
    all.extend(archive(stats));
    all.extend(endpoints(stats, time::now_ms()));
    all.extend(sources);
    all.extend(refused_webhooks(stats));
    all.extend(mass_deprovisionings(stats));
    all.extend(directories(stats));
    all.extend(quarantine(stats));
    all.extend(copies(stats));
    all.extend(mappings(stats));
    all.extend(log_lines(stats));
    all.extend(silence(stats));
    all
}

/// Returns the verdict and a line for each concern, safe for a terminal.
pub(super) fn lines(concerns: &[Concern], coloured: bool) -> String {
    let verdict = match concerns.len() {
        0 => "all is well".to_owned(),
        1 => "1 thing needs attention".to_owned(),
        count => format!("{count} things need attention"),
    };
    let colour = if concerns.is_empty() { AnsiColor::Green } else { AnsiColor::Red };
    let style = if coloured { colour.on_default() } else { Style::new() };
    let lines = concerns
        .iter()
        .map(|Concern { what, next }| harmless(&format!("  ! {what}: {next}")) + "\n");
    format!("{style}{verdict}{style:#}\n{}", lines.collect::<String>())
}

/// Says what is damaged in a folder that is read.
pub(super) fn damage(damage: Option<&Damage>) -> Option<Concern> {
    let damage = damage?;
    Some(if damage.is_of_files() {
        let what = format!("files of the data folder are damaged: {damage}");
        Concern::new(what, repair(&damage.files, damage.end_is_unknown, "DIR"))
    } else {
        let next =
            "`rollcall verify` names all that is wrong, `rollcall salvage` takes out the rest";
        Concern::new(format!("the log is damaged: {damage}"), next)
    })
}

/// Says where the first damaged place of the store's file begins.
fn first_place(scrub: &Value) -> String {
    match scrub.pointer("/doubtful_at/0") {
        Some(first) => format!(" (the first at byte {first} of its file)"),
        None => String::new(),
    }
}

/// Says why events are refused.
fn refusal(readiness: &Value) -> Option<Concern> {
    let (log, log_since) = state_of(readiness, "log");
    let (clock, clock_since) = state_of(readiness, "clock");
    if log == "blocked" {
        let what =
            format!("events are refused since {log_since}, because the disk takes no writes");
        return Some(Concern::new(what, "free space, mount it writable, or see why it hangs"));
    }
    if clock == "jumped" {
        let what = format!("events are refused since {clock_since}, because the clock was set");
        let next = "set it right; if it is right, restart the server";
        return Some(Concern::new(what, next));
    }
    let refuses = text_field(readiness, "code") == "log_unavailable";
    refuses.then(|| Concern::new("events are refused", "`rollcall health`, and the server's log"))
}

/// Returns the state of a part of the server, and since when; empty if it is left out.
fn state_of<'a>(readiness: &'a Value, part: &str) -> (&'a str, &'a str) {
    let part = readiness.pointer(&format!("/parts/{part}"));
    let field = |name: &str| part.map_or("", |part| text_field(part, name));
    (field("state"), field("since"))
}

/// Says that questions are refused because their lines of the access log cannot be written.
fn access_log(readiness: &Value) -> Option<Concern> {
    let (state, since) = state_of(readiness, "access_log");
    (state == "blocked").then(|| {
        let what = format!(
            "questions that must be logged are refused since {since}, because standard error takes \
             no lines"
        );
        Concern::new(
            what,
            "read its pipe, or free its disk: docs/operations.md, RollcallRequestsFail",
        )
    })
}

fn disk(stats: &Value) -> Option<Concern> {
    let disk = stats.pointer("/condition/disk")?;
    let [free, reserve] = ["/free_bytes", "/reserve_bytes"].map(|part| count(disk, part) >> 20);
    let is_low = disk.get("is_low") == Some(&Value::Bool(true));
    is_low.then(|| {
        let what = format!("{free} MiB are free on the disk of the data folder");
        Concern::new(what, format!("free some: below {reserve} MiB events are refused"))
    })
}

/// Says what is wrong with a clock that does not yet make the server refuse events.
fn clock(stats: &Value) -> Option<Concern> {
    let doubt = super::status::clock(stats)?;
    let is_believed = stats.pointer("/clock/is_believed") != Some(&Value::Bool(false));
    is_believed.then(|| Concern::new(format!("the clock: {doubt}"), "docs/reliability.md"))
}

/// Says what the scrub of the store has found.
fn scrub(stats: &Value) -> Vec<Concern> {
    let Some(scrub) = stats.get("scrub").filter(|scrub| !scrub.is_null()) else {
        return Vec::new();
    };
    let (mut lost, mut in_memory) = (0, 0);
    for finding in scrub.get("findings").and_then(Value::as_array).into_iter().flatten() {
        let records = (count(finding, "/last") + 1).saturating_sub(count(finding, "/first"));
        match finding.get("in_memory") {
            Some(Value::Bool(true)) => in_memory += records,
            _ => lost += records,
        }
    }
    let found =
        |what: String| format!("{what}, found by the scrub on {}", text_field(scrub, "found_at"));
    let mut concerns = Vec::new();
    if in_memory > 0 {
        let what =
            counted(in_memory, "record is damaged on the disk", "records are damaged on the disk");
        let help = "`rollcall backup --out NEW` before the server stops, which still has them";
        concerns.push(Concern::new(found(what), help));
    }
    if lost > 0 {
        let what = counted(lost, "record cannot be read", "records cannot be read");
        let help = "copy the folder before the server stops: a start would refuse it; \
            docs/operations.md, RollcallScrubDamage";
        concerns.push(Concern::new(found(what), help));
    }
    let doubtful = count(scrub, "/doubtful");
    if concerns.is_empty() && doubtful > 0 {
        let places = counted(doubtful, "place is damaged", "places are damaged");
        let first = first_place(scrub);
        let what = format!("in the store {places}{first}, and every record can be read");
        let help = "make a backup now, then stop the server: `rollcall verify`";
        concerns.push(Concern::new(what, help));
    }
    concerns
}

/// Says which endpoints get no webhooks.
fn endpoints(stats: &Value, now: i64) -> impl Iterator<Item = Concern> {
    let all = stats.get("endpoints").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(move |endpoint| {
        let text = |name| text_field(endpoint, name);
        let since = time::parse(text("failing_since"));
        let fails_long = since.is_some_and(|since| now - since >= ENDPOINT_FAILS_MS);
        let needs_a_look = matches!(text("state"), "stalled" | "paused") || fails_long;
        needs_a_look.then(|| {
            let behind = counted(count(endpoint, "/lag"), "record", "records");
            let (name, state, error) = (text("name"), text("state"), text("last_error"));
            let what = format!("the endpoint `{name}` is {state} and {behind} behind: {error}");
            let next = match text("paused_by") {
                "position" => format!(
                    "`rollcall deliveries skip {name} SEQ` goes on behind a record, `rollcall \
                     deliveries replay {name} --from SEQ` sends again from one on"
                ),
                _ => format!("`rollcall deliveries retry {name}` once it is mended"),
            };
            Concern::new(what, next)
        })
    })
}

/// Says if the snapshot of the start was not what the log folds to.
fn snapshot(stats: &Value) -> Option<Concern> {
    let snapshot = stats.get("snapshot").filter(|snapshot| !snapshot.is_null())?;
    let is_different = text_field(snapshot, "comparison") == "different";
    is_different.then(|| {
        let found_at = text_field(snapshot, "compared_at");
        let what = format!(
            "until {found_at} the server may have answered from a snapshot that was not what its \
             log says"
        );
        Concern::new(what, "docs/operations.md, RollcallSnapshotDifferent")
    })
}

fn archive(stats: &Value) -> Option<Concern> {
    let archive = stats.get("archive").filter(|archive| !archive.is_null())?;
    let error = archive.get("last_error").filter(|error| !error.is_null());
    let (records, lag_ms) = (count(archive, "/lag_records"), count(archive, "/lag_ms") as i64);
    if error.is_none() && lag_ms < ARCHIVE_LAG_MS {
        let damaged = archive.get("damaged").and_then(Value::as_array).map_or(0, Vec::len);
        let what = counted(damaged as u64, "file is damaged", "files are damaged");
        let next = "`rollcall status --json` names them in `archive`: move them away";
        return (damaged > 0).then(|| Concern::new(format!("in the archive {what}"), next));
    }
    let records = counted(records, "record is", "records are");
    let what = format!("{records} not in the archive, the oldest for {}", human(lag_ms));
    let next = error.map_or("the server's log", |error| text_field(error, "message"));
    Some(Concern::new(what, next))
}

/// Names each reason for which webhooks were refused lately.
fn refused_webhooks(stats: &Value) -> impl Iterator<Item = Concern> + '_ {
    let now = moment(stats, "at");
    let last_at = parts(stats, "/condition/last_refused_at");
    last_at.filter_map(move |(code, at)| {
        let age = now? - at.as_str().and_then(crate::time::parse)?;
        let total = count(stats, &format!("/refused_webhooks/{code}"));
        let what = format!(
            "webhooks are refused as {code}, {total} since the start, the last {} ago",
            human(age)
        );
        (age < REFUSED_WITHIN_MS).then(|| Concern::new(what, advice(code)))
    })
}

/// Says what to do about webhooks that are refused.
fn advice(code: &str) -> &'static str {
    match code {
        "signature_mismatch" => {
            "the secret is another one, or a proxy changes the body; `rollcall config check --probe`"
        }
        "timestamp_outside_tolerance" => "compare the clock of this machine, or raise --tolerance",
        "signature_missing" | "signature_malformed" => "they are not from WorkOS",
        "not_found" => "correct the endpoint's URL, or name the path with --webhook-path",
        "body_too_large" => "raise --body-bytes-max, and the proxy's limit",
        "unsupported_encoding" => "the proxy compresses bodies: have it pass them unchanged",
        _ => "the server's log",
    }
}

/// Names the directories whose users lost access in great number lately.
fn mass_deprovisionings(stats: &Value) -> Option<Concern> {
    let ids = stats.pointer("/condition/mass_deprovisionings").and_then(Value::as_array)?;
    let ids: Vec<&str> = ids.iter().filter_map(Value::as_str).collect();
    let what = format!(
        "losses of access by many users were recorded within the last hour, in {}",
        first_of(&ids)
    );
    (!ids.is_empty()).then(|| Concern::new(what, "`rollcall deprovisioned --since 25h`"))
}

/// Names the directories that are not linked, so that their users have no access.
fn directories(stats: &Value) -> Option<Concern> {
    let states = super::status::directories(stats)
        .map(|one| (text_field(one, "id"), text_field(one, "state")))
        .filter(|(_, state)| *state != "linked");
    let states: Vec<String> = states.map(|(id, state)| format!("{id} is {state}")).collect();
    let count = counted(states.len() as u64, "directory is", "directories are");
    let what = format!("{count} not linked ({})", first_of(&states));
    (!states.is_empty()).then(|| Concern::new(what, "`rollcall directories`"))
}

/// The most things that a line names.
const NAMED_MAX: usize = 3;

/// Returns the first of some texts, and how many more there are.
fn first_of(texts: &[impl AsRef<str>]) -> String {
    let first: Vec<&str> = texts.iter().take(NAMED_MAX).map(AsRef::as_ref).collect();
    match texts.len().saturating_sub(NAMED_MAX) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// The reasons of the quarantine that need no attention: the event counts, and nothing is wrong.
const USUAL: [&str; 2] = ["overtaken", "repeated"];

fn quarantine(stats: &Value) -> Option<Concern> {
    let reasons = parts(stats, "/condition/quarantine_last_day");
    let unusual = reasons.filter(|(reason, _)| !USUAL.contains(&reason.as_str()));
    let unusual = unusual.filter_map(|(reason, count)| Some((reason, count.as_u64()?)));
    let unusual: Vec<String> = unusual
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    let what = format!("records of the last day are in the quarantine ({})", unusual.join(", "));
    (!unusual.is_empty()).then(|| Concern::new(what, "`rollcall quarantine`"))
}

fn copies(stats: &Value) -> Option<Concern> {
    let copies = count(stats, "/differs");
    (copies > 0).then(|| {
        let what =
            counted(copies, "copy differs from its record", "copies differ from their records");
        let next = "the records count; the server's standard error names one of each type, which \
                    `rollcall prove` shows";
        Concern::new(format!("{what} since the start"), next)
    })
}

fn mappings(stats: &Value) -> Option<Concern> {
    let [bytes, max] =
        ["bytes", "bytes_max"].map(|part| count(stats, &format!("/condition/mappings/{part}")));
    (max > 0 && bytes.saturating_mul(100) >= max.saturating_mul(MAPPING_PERCENT)).then(|| {
        let what = format!("the mappings take {} of {} MiB", bytes.div_ceil(1 << 20), max >> 20);
        Concern::new(what, "raise `mapping_memory_mib`: a mapping that needs more is refused")
    })
}

fn log_lines(stats: &Value) -> Option<Concern> {
    let dropped = count(stats, "/dropped_log_lines");
    (dropped > 0).then(|| {
        let what = counted(dropped, "line of the log was dropped", "lines of the log were dropped");
        Concern::new(what, "the reader of standard error is too slow")
    })
}

/// Says that nothing came yet. A server that pulls says so in the line of its source.
fn silence(stats: &Value) -> Option<Concern> {
    let is_bound = stats.get("condition").is_none_or(Value::is_null);
    let pulls = stats.get("sources").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
    (count(stats, "/seq") == 0 && !is_bound && !pulls).then(|| {
        let next = "send a test event from WorkOS; `rollcall config check --probe`";
        Concern::new("no event was received yet", next)
    })
}

/// Returns the entries of the object at `pointer`.
fn parts<'a>(stats: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    stats.pointer(pointer).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Statistics of a server with which nothing is wrong.
    fn well() -> Value {
        json!({
            "at": "2026-05-01T12:00:00.000Z", "seq": 30, "dropped_log_lines": 0, "differs": 0,
            "clock": {"offset_ms": 0, "stamps_ahead_ms": 0, "is_believed": true},
            "refused_webhooks": {"signature_mismatch": 4, "body_too_large": 1},
            "condition": {
                "disk": {"free_bytes": 68 << 20, "reserve_bytes": 16 << 20, "is_low": false},
                "mappings": {"bytes": 204 << 20, "bytes_max": 256 << 20},
                "last_refused_at": {"signature_mismatch": "2026-05-01T11:00:00.000Z",
                    "body_too_large": null},
                "quarantine_last_day": {"conflict": 0, "overtaken": 3},
                "mass_deprovisionings": [],
            },
            "directories": {"data": [{"id": "directory_1", "state": "linked"}]},
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut stats = well();
        *stats.pointer_mut(pointer).unwrap() = value;
        stats
    }

    fn told(stats: &Value, readiness: &Value) -> Vec<String> {
        let concerns = concerns(stats, readiness, std::iter::empty());
        concerns.into_iter().map(|Concern { what, .. }| what).collect()
    }

    #[test]
    fn a_server_with_which_nothing_is_wrong_is_well() {
        let ready = json!({"status": "ready", "parts": {"log": {"state": "open"}}});
        assert_eq!(told(&well(), &ready), [""; 0]);
        assert_eq!(lines(&[], false), "all is well\n");
        assert_eq!(lines(&[], true), "\u{1b}[32mall is well\u{1b}[0m\n");
        // What a key that is bound to organizations sees.
        assert_eq!(told(&json!({"seq": 0, "condition": null}), &ready), [""; 0]);
        // One that pulls needs no webhook.
        let pulling = json!({"seq": 0, "condition": {}, "sources": [{}]});
        assert_eq!(told(&pulling, &ready), [""; 0]);
    }

    #[test]
    fn each_thing_that_is_wrong_is_named_at_its_limit() {
        let day = "/condition/quarantine_last_day";
        for (pointer, value, expected) in [
            ("/seq", json!(0), "no event was received yet"),
            ("/dropped_log_lines", json!(1), "1 line of the log was dropped"),
            ("/differs", json!(2), "2 copies differ from their records since the start"),
            ("/clock/offset_ms", json!(-10_000), "the clock: set back by 10 s since the start"),
            (
                "/condition/disk",
                json!({"free_bytes": 63 << 20, "reserve_bytes": 16 << 20, "is_low": true}),
                "63 MiB are free on the disk of the data folder",
            ),
            ("/condition/mappings/bytes", json!(205 << 20), "the mappings take 205 of 256 MiB"),
            (
                "/condition/last_refused_at/signature_mismatch",
                json!("2026-05-01T11:00:01.000Z"),
                "webhooks are refused as signature_mismatch, 4 since the start, the last 59 min 59 s ago",
            ),
            (
                "/condition/mass_deprovisionings",
                json!(["d1", "d2", "d3", "d4"]),
                "losses of access by many users were recorded within the last hour, in d1, d2, d3 and 1 more",
            ),
            (
                "/directories/data",
                json!([{"id": "d1", "state": "linked"}, {"id": "d2", "state": "unlinked"}]),
                "1 directory is not linked (d2 is unlinked)",
            ),
            (
                day,
                json!({"conflict": 2, "overtaken": 1, "unknown_type": 1}),
                "records of the last day are in the quarantine (conflict 2, unknown_type 1)",
            ),
        ] {
            assert_eq!(told(&with(pointer, value), &Value::Null), [expected], "{pointer}");
        }
    }

    #[test]
    fn an_endpoint_is_pointed_out_when_it_is_paused_or_fails_for_long() {
        let told = |state: &str, since: Value| {
            let endpoint = json!({
                "name": "app", "state": state, "lag": 7, "last_error": "status 500",
                "failing_since": since,
            });
            let stats = json!({ "endpoints": [endpoint] });
            endpoints(&stats, 3_600_000).map(|one| one.what).collect::<Vec<_>>()
        };
        assert_eq!(told("ok", Value::Null), [""; 0]);
        assert_eq!(told("retrying", json!("1970-01-01T00:45:00.001Z")), [""; 0]);
        let says = |state: &str| {
            [format!("the endpoint `app` is {state} and 7 records behind: status 500")]
        };
        assert_eq!(told("retrying", json!("1970-01-01T00:45:00.000Z")), says("retrying"));
        assert_eq!(told("stalled", json!("1970-01-01T00:59:00.000Z")), says("stalled"));
        assert_eq!(told("paused", Value::Null), says("paused"));
    }

    #[test]
    fn what_ends_a_pause_depends_on_what_paused_the_endpoint() {
        for (paused_by, advised, not_advised) in [
            (json!("receiver"), &["retry app"][..], &["skip", "replay"][..]),
            (json!("position"), &["skip app SEQ", "replay app --from SEQ"], &["retry"]),
            (Value::Null, &["retry app"], &["skip", "replay"]),
        ] {
            let state = if paused_by.is_null() { "stalled" } else { "paused" };
            let endpoint = json!({ "name": "app", "state": state, "paused_by": paused_by });
            let stats = json!({ "endpoints": [endpoint] });
            let next = endpoints(&stats, 0).map(|one| one.next).collect::<String>();
            assert!(advised.iter().all(|word| next.contains(word)), "{next}");
            assert!(!not_advised.iter().any(|word| next.contains(word)), "{next}");
        }
    }

    #[test]
    fn an_archive_is_pointed_out_when_it_fails_or_is_far_behind() {
        let archive = |lag_ms: i64, error: Value| {
            let mut stats = well();
            let archive = json!({"lag_records": 7, "lag_ms": lag_ms, "last_error": error});
            stats.as_object_mut().unwrap().insert("archive".into(), archive);
            told(&stats, &Value::Null)
        };
        assert_eq!(archive(899_999, Value::Null), [""; 0]);
        let behind = "7 records are not in the archive, the oldest for 15 min 0 s";
        assert_eq!(archive(900_000, Value::Null), [behind]);
        let fails = "7 records are not in the archive, the oldest for 1 s";
        assert_eq!(archive(1_000, json!({"message": "no such bucket"})), [fails]);
        let mut stats = well();
        let damaged =
            json!({"lag_records": 0, "lag_ms": 0, "last_error": null, "damaged": ["a", "b"]});
        stats.as_object_mut().unwrap().insert("archive".into(), damaged);
        assert_eq!(told(&stats, &Value::Null), ["in the archive 2 files are damaged"]);
    }

    #[test]
    fn what_the_scrub_has_found_is_pointed_out() {
        let scrub = |doubtful: u64, findings: Value| {
            let mut stats = well();
            let found_at = "2026-05-01T11:00:00.000Z";
            let scrub = json!({"doubtful": doubtful, "findings": findings, "found_at": found_at});
            stats.as_object_mut().unwrap().insert("scrub".into(), scrub);
            told(&stats, &Value::Null)
        };
        assert_eq!(scrub(0, json!([])), [""; 0]);
        let doubtful = "in the store 1 place is damaged, and every record can be read";
        assert_eq!(scrub(1, json!([])), [doubtful]);
        let at = json!({"doubtful": 2, "doubtful_at": [4711, 9000]});
        assert_eq!(first_place(&at), " (the first at byte 4711 of its file)");
        let lost = "4 records cannot be read, found by the scrub on 2026-05-01T11:00:00.000Z";
        let mut findings = json!([{"first": 7, "last": 9}, {"first": 12, "last": 12}]);
        assert_eq!(scrub(1, findings.clone()), [lost]);
        findings[1]["in_memory"] = true.into();
        let damaged = "1 record is damaged on the disk";
        let lost = "3 records cannot be read";
        let by = "found by the scrub on 2026-05-01T11:00:00.000Z";
        assert_eq!(scrub(1, findings), [format!("{damaged}, {by}"), format!("{lost}, {by}")]);
    }

    #[test]
    fn a_server_that_refuses_events_says_why_first() {
        let since = "2026-05-01T11:00:00.000Z";
        let part = |state: &str| json!({"state": state, "since": since});
        let refused = |parts: Value| json!({"code": "log_unavailable", "parts": parts});
        let low = with("/dropped_log_lines", json!(1));
        for (readiness, expected) in [
            (refused(json!({"log": part("blocked")})), "because the disk takes no writes"),
            (
                refused(json!({"log": part("open"), "clock": part("jumped")})),
                "because the clock was set",
            ),
            (refused(json!({"log": part("failed")})), "events are refused"),
        ] {
            let told = told(&low, &readiness);
            assert!(told.len() == 2 && told[0].ends_with(expected), "{told:?}");
        }
    }

    #[test]
    fn an_access_log_that_takes_no_lines_is_pointed_out() {
        let since = "2026-05-01T11:00:00.000Z";
        let readiness = |state: &str| {
            let part = json!({"state": state, "since": since});
            json!({"status": "ready", "parts": {"access_log": part}})
        };
        assert_eq!(told(&well(), &readiness("open")), [""; 0]);
        let told = told(&well(), &readiness("blocked"));
        let expected = format!("questions that must be logged are refused since {since}, ");
        assert!(told.len() == 1 && told[0].starts_with(&expected), "{told:?}");
    }

    #[test]
    fn the_first_line_counts_the_concerns_and_each_has_the_next_step() {
        let one = || Concern::new("the disk is low", "free some");
        let told = lines(&[one()], false);
        assert_eq!(told, "1 thing needs attention\n  ! the disk is low: free some\n");
        let told = lines(&[one(), Concern::new("a\u{1b}", "b")], false);
        assert!(told.starts_with("2 things need attention\n"), "{told}");
        assert!(told.ends_with("  ! a\\u{1b}: b\n"), "{told}");
    }
}
