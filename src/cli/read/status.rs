//! `rollcall status`

use std::borrow::Cow;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::client::Client;
use super::super::print;
use super::super::table::{self, Column};
use super::listing::{PAGE, Page, Query, ask};
use super::print::{counted, human, one_line, width};
use super::source::Source;
use crate::time;

const PATH: &str = "/rollcall/v1/stats";

/// How much has been taken, how late, and what of it could not be used; and each directory, how
/// large and how long silent.
///
/// Duplicates and refused signatures are counted since the server started, everything else over the
/// whole log.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall status
  rollcall status --directory directory_… --json
  rollcall status --data ./rollcall-data")]
pub(in super::super) struct Status {
    /// Only this directory
    #[arg(long, value_name = "ID")]
    directory: Option<String>,
    /// Only the directories of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// The whole as one object, as the server sent it, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: Source,
}

/// The list within the statistics.
#[derive(Deserialize)]
struct Stats<'a> {
    #[serde(borrow)]
    directories: &'a RawValue,
}

impl Status {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let filters = Query::default()
            .with("directory", self.directory)
            .with("organization_id", self.organization);
        let json = self.json;
        self.source.ask(move |client| {
            let stats = whole(client, &filters)?;
            if json {
                return print(&format!("{}\n", one_line(&stats)));
            }
            let stats: Value = serde_json::from_str(&stats).map_err(Failure::ours)?;
            print(&page(&stats, width()))?;
            let directories = directories_of(&stats).count() as u64;
            eprintln!(
                "{}",
                table::harmless(&format!(
                    "{}, at {}",
                    counted(directories, "directory", "directories"),
                    text(&stats, "at")
                ))
            );
            Ok(())
        })
    }
}

/// The first page of the statistics, with the directories of all pages in it.
fn whole(client: &Client, filters: &Query) -> Result<String, Failure> {
    let page_size = Some(PAGE.to_string());
    let answer =
        ask(client, &filters.clone().with("limit", page_size.clone()).at(PATH), "--directory")?;
    let odd = |_| Failure::Ours("the answer is not one that Rollcall gives".into());
    let mut body = String::from_utf8(answer.body.clone())
        .map_err(|_| Failure::Ours("the answer is no text".into()))?;
    let list = answer.json::<Stats>()?.directories.get().to_owned();
    let first: Page = serde_json::from_str(&list).map_err(odd)?;
    let Some(mut next) = first.next().map(str::to_owned) else { return Ok(body) };
    let mut all: Vec<Cow<str>> =
        first.data.iter().map(|directory| directory.get().into()).collect();
    loop {
        let question = filters.clone().with("limit", page_size.clone()).with("after", Some(next));
        let answer = ask(client, &question.at(PATH), "--directory")?;
        let page: Page =
            serde_json::from_str(answer.json::<Stats>()?.directories.get()).map_err(odd)?;
        all.extend(page.data.iter().map(|directory| Cow::Owned(directory.get().to_owned())));
        match page.next() {
            Some(cursor) => next = cursor.to_owned(),
            None => break,
        }
    }
    let joined = format!(
        r#"{{"object":"list","data":[{}],"list_metadata":{{"before":null,"after":null}}}}"#,
        all.join(",")
    );
    if let Some(at) = body.find(&list) {
        body.replace_range(at..at + list.len(), &joined);
    }
    Ok(body)
}

const DIRECTORIES: [Column; 11] = [
    Column::whole("directory"),
    Column::new("name"),
    Column::whole("state"),
    Column::whole("active"),
    Column::whole("inactive"),
    Column::whole("groups"),
    Column::whole("hour"),
    Column::whole("day"),
    Column::whole("30 days"),
    Column::whole("silent for"),
    Column::new("initial sync"),
];

/// The statistics as a page: the whole, then a table of the directories.
fn page(stats: &Value, width: Option<u16>) -> String {
    let now = moment(stats, "at");
    let count = |pointer: &str| stats.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let up = match (now, moment(stats, "started_at")) {
        (Some(now), Some(started)) => {
            format!("for {}, since {}", human(now - started), text(stats, "started_at"))
        }
        _ => String::new(),
    };
    let [minute, hour, day, month] = ["last_minute", "last_hour", "last_day", "last_30_days"]
        .map(|window| count(&format!("/events/{window}")));
    let rate = |window: &str| {
        stats.pointer(&format!("/rate_per_s/{window}")).and_then(Value::as_f64).unwrap_or(0.0)
    };
    let delay = |window: &str| match stats.pointer(&format!("/delay_ms/{window}")) {
        Some(delay @ Value::Object(_)) => {
            let [half, most, all] = ["p50", "p99", "max"]
                .map(|part| human(delay.get(part).and_then(Value::as_i64).unwrap_or(0)));
            format!("half within {half}, 99 % within {most}, all within {all}")
        }
        _ => "no events".into(),
    };
    let by_kind = |key: &str| {
        let kinds = stats.get(key).and_then(Value::as_object).into_iter().flatten();
        let some: Vec<String> = kinds
            .filter(|(_, count)| count.as_u64() != Some(0))
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        if some.is_empty() { "0".into() } else { some.join(", ") }
    };
    let rows = [
        ("server up", up),
        ("records", count("/seq").to_string()),
        (
            "events",
            format!(
                "{minute} in the last minute, {hour} in the last hour, {day} in the last day, {month} in the last 30 days"
            ),
        ),
        (
            "a second",
            format!(
                "{:.2} over the last minute, {:.2} over the last hour",
                rate("last_minute"),
                rate("last_hour")
            ),
        ),
        ("delay, last hour", delay("last_hour")),
        ("delay, last day", delay("last_day")),
        ("duplicates", count("/duplicates").to_string()),
        ("refused signatures", by_kind("signature_failures")),
        ("conflicts", count("/conflicts").to_string()),
        ("quarantine", by_kind("quarantine")),
    ];
    let rows: Vec<Vec<String>> = rows.map(|(name, value)| vec![name.to_owned(), value]).into();
    let directories: Vec<Vec<String>> =
        directories_of(stats).map(|directory| row(directory, now)).collect();
    let whole = table::draw_within(width, &[Column::whole(""), Column::new("")], false, &rows);
    format!("{whole}\n{}", table::draw_within(width, &DIRECTORIES, true, &directories))
}

fn row(directory: &Value, now: Option<i64>) -> Vec<String> {
    let count =
        |pointer: &str| directory.pointer(pointer).and_then(Value::as_u64).unwrap_or(0).to_string();
    let events = |window: &str| {
        let counts = directory
            .pointer(&format!("/events/{window}"))
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        counts.filter_map(|(_, count)| count.as_u64()).sum::<u64>().to_string()
    };
    vec![
        text(directory, "id").into(),
        text(directory, "name").into(),
        text(directory, "state").into(),
        count("/users/active"),
        count("/users/inactive"),
        count("/groups"),
        events("last_hour"),
        events("last_day"),
        events("last_30_days"),
        directory.get("silent_ms").and_then(Value::as_i64).map_or_else(|| "-".into(), human),
        directory.get("initial_sync").map_or_else(|| "-".into(), |sync| initial_sync(sync, now)),
    ]
}

fn initial_sync(sync: &Value, now: Option<i64>) -> String {
    let count = |key: &str, one: &str, many: &str| {
        counted(sync.get(key).and_then(Value::as_u64).unwrap_or(0), one, many)
    };
    let done = text(sync, "state") == "done";
    let end = if done { moment(sync, "last_at") } else { now };
    let took = match (moment(sync, "started_at"), end) {
        (Some(start), Some(end)) => human(end - start),
        _ => "?".into(),
    };
    if sync.is_null() {
        return "-".into();
    }
    let [users, groups, memberships] = [
        count("users", "user", "users"),
        count("groups", "group", "groups"),
        count("memberships", "membership", "memberships"),
    ];
    let how = if done { "done in" } else { "running for" };
    format!("{how} {took}: {users}, {groups}, {memberships}")
}

fn directories_of(stats: &Value) -> impl Iterator<Item = &Value> {
    stats.pointer("/directories/data").and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or("")
}

fn moment(object: &Value, key: &str) -> Option<i64> {
    time::parse(text(object, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_tells_the_whole_and_each_directory() {
        let stats = json!({
            "object": "stats", "at": "2026-05-01T12:00:00.000Z", "seq": 30, "started_at": "2026-05-01T08:48:00.000Z",
            "events": {"last_minute": 1, "last_hour": 2, "last_day": 3, "last_30_days": 30},
            "rate_per_s": {"last_minute": 0.02, "last_hour": 0.0},
            "delay_ms": {"last_hour": {"p50": 120, "p99": 4_200, "max": 62_000}, "last_day": null},
            "duplicates": 4, "signature_failures": {"signature_missing": 0, "signature_mismatch": 2},
            "conflicts": 1, "quarantine": {"not_an_event": 0, "conflict": 0},
            "directories": {"object": "list", "data": [
                {"object": "directory_stats", "id": "d1", "name": "Halden", "organization_id": "o", "state": "linked",
                 "users": {"active": 5, "inactive": 1}, "groups": 3,
                 "events": {"last_hour": {}, "last_day": {"dsync.user.created": 2, "dsync.user.updated": 1}, "last_30_days": {"a": 30}},
                 "last_event_at": "2026-05-01T08:48:00.000Z", "silent_ms": 11_520_000,
                 "initial_sync": {"state": "done", "started_at": "2026-04-01T00:00:00.000Z", "last_at": "2026-04-01T00:02:05.000Z",
                                  "users": 6, "groups": 3, "memberships": 1}},
                {"object": "directory_stats", "id": "d2", "name": "", "state": "unlinked", "users": {"active": 0, "inactive": 0}, "groups": 0,
                 "events": {"last_hour": {}, "last_day": {}, "last_30_days": {}}, "last_event_at": null, "silent_ms": null, "initial_sync": null},
                {"id": "d3", "initial_sync": {"state": "in_progress", "started_at": "2026-05-01T11:59:30.000Z", "users": 1}},
            ], "list_metadata": {"before": null, "after": null}},
        });
        let expected = "\
server up           for 3 h 12 min, since 2026-05-01T08:48:00.000Z
records             30
events              1 in the last minute, 2 in the last hour, 3 in the last day, 30 in the last 30 days
a second            0.02 over the last minute, 0.00 over the last hour
delay, last hour    half within 120 ms, 99 % within 4 s, all within 1 min 2 s
delay, last day     no events
duplicates          4
refused signatures  signature_mismatch 2
conflicts           1
quarantine          0

directory  name    state     active  inactive  groups  hour  day  30 days  silent for  initial sync
d1         Halden  linked    5       1         3       0     3    30       3 h 12 min  done in 2 min 5 s: 6 users, 3 groups, 1 membership
d2                 unlinked  0       0         0       0     0    0        -           -
d3                           0       0         0       0     0    0        -           running for 30 s: 1 user, 0 groups, 0 memberships
";
        assert_eq!(page(&stats, None), expected);
    }
}
