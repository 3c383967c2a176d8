//! `rollcall status`

use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::client::{Answer, Client, text_field};
use super::super::print;
use super::super::table::{self, Column};
use super::attention::{Concern, concerns, damage, lines};
use super::listing::{ListPage, PAGE, Query, ask};
use super::names::Names;
use super::objects::parse;
use super::print::{coloured, counted, human, print_object, width};
use super::source::SourceArgs;
use super::source_status::{self, Earlier};
use crate::time;

const PATH: &str = "/rollcall/v1/stats";

/// Say if all is well or what needs attention; then print statistics.
///
/// Shows the records, their delay, those that could not be used, the disk, and each directory.
///
/// Duplicates and refused webhooks are counted since the server started, everything else over the
/// whole log. Of a source it says first if it is `ok`, `wrong` or if you must `wait`, then how old
/// its events are, and what the last reconciliation found.
#[derive(Args)]
#[command(after_help = "\
The API key needs the scope `read`; with `audit` as well, a reconciliation from before the start is
found.

Examples:
  rollcall status
  rollcall status --directory directory_… --json
  rollcall status --data ./rollcall-data")]
pub(in super::super) struct StatusArgs {
    /// Only this directory, by id or name
    #[arg(long, value_name = "ID|NAME")]
    directory: Option<String>,
    /// Only directories of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Print all of it as one object, as the server sent it, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// The list within the statistics.
#[derive(Deserialize)]
struct ApiStats<'a> {
    #[serde(borrow)]
    directories: &'a RawValue,
}

impl StatusArgs {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let StatusArgs { directory, organization, json, source } = self;
        let names = Names { directory, organization, ..Names::default() };
        source.ask(move |client| {
            let filters = names.resolve(client, &Query::default())?.query();
            let stats = with_all_directories(client, &filters)?;
            if json {
                return print_object(&stats);
            }
            let stats: Value = serde_json::from_str(&stats).map_err(Failure::ours)?;
            let readiness = client.get("/readyz")?.json().unwrap_or_default();
            let mut concerns: Vec<Concern> = damage(client.damage.as_ref()).into_iter().collect();
            let earlier = source_status::earlier(client, &stats);
            let wrong_sources = source_status::wrong_sources(&stats, earlier);
            concerns.extend(self::concerns(&stats, &readiness, wrong_sources));
            print(&lines(&concerns, coloured(&std::io::stdout())))?;
            print(&page(&stats, earlier, width()))?;
            let count = counted(directories(&stats).count() as u64, "directory", "directories");
            eprintln!("{}", table::harmless(&format!("{count}, at {}", text_field(&stats, "at"))));
            Ok(())
        })
    }
}

/// Reads all pages of the statistics, and returns the first with the directories of all in it.
fn with_all_directories(client: &Client, filters: &Query) -> Result<String, Failure> {
    let answer = read_page(client, filters, None)?;
    let mut body =
        String::from_utf8(answer.body.clone()).map_err(|_| Failure::unexpected_answer())?;
    let list = answer.json::<ApiStats>()?.directories;
    let first: ListPage = parse(list)?;
    let Some(mut next) = first.next().map(str::to_owned) else { return Ok(body) };
    let mut all: Vec<String> = first.data.iter().map(|directory| directory.get().into()).collect();
    loop {
        let answer = read_page(client, filters, Some(next))?;
        let page: ListPage = parse(answer.json::<ApiStats>()?.directories)?;
        all.extend(page.data.iter().map(|directory| directory.get().to_owned()));
        match page.next() {
            Some(cursor) => next = cursor.to_owned(),
            None => break,
        }
    }
    let joined = format!(
        r#"{{"object":"list","data":[{}],"list_metadata":{{"before":null,"after":null}}}}"#,
        all.join(",")
    );
    let list = list.get();
    if let Some(at) = body.find(list) {
        body.replace_range(at..at + list.len(), &joined);
    }
    Ok(body)
}

fn read_page(client: &Client, filters: &Query, after: Option<String>) -> Result<Answer, Failure> {
    let question = filters.clone().with("limit", Some(PAGE.to_string())).with("after", after);
    ask(client, &question.at(PATH), "directories: --directory")
}

/// From which distance on a clock that was set, or stamps that are ahead of it, are shown.
const CLOCK_SHOWN_MS: i64 = 10_000;

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

/// Says what each identity provider sent last, and how many of its requests were refused.
fn hosted(stats: &Value) -> impl Iterator<Item = String> {
    let now = moment(stats, "at");
    directories(stats).filter_map(move |directory| {
        let scim = directory.get("scim").filter(|scim| !scim.is_null())?;
        let name = text_field(directory, "name");
        let Some(last) = scim.get("last_request").filter(|last| !last.is_null()) else {
            return Some(format!("{name}: no request since the start"));
        };
        let age = now.zip(moment(last, "at")).map(|(now, at)| human((now - at).max(0)));
        let client = match text_field(last, "user_agent") {
            "" => "a client without a name",
            client => client,
        };
        Some(format!(
            "{name}: {} {} to {client}, {} ago; {} refused, {} failed",
            text_field(last, "method"),
            count(last, "/status"),
            age.unwrap_or_default(),
            count(scim, "/refused"),
            count(scim, "/failed")
        ))
    })
}

/// Returns the statistics as a page: totals, then a table of the directories.
fn page(stats: &Value, earlier: Earlier, width: Option<u16>) -> String {
    let totals = totals(stats).into_iter();
    let totals = totals.chain(last_heard(stats).map(|heard| ("last event", heard)));
    let totals = totals.chain(disk(stats).map(|disk| ("disk", disk)));
    let totals = totals.chain(mappings(stats).map(|memory| ("role mappings", memory)));
    let totals = totals.chain(differing(stats).map(|counted| ("differing copies", counted)));
    let totals = totals.chain(clock(stats).map(|doubt| ("clock", doubt)));
    let totals = totals.chain(hosted(stats).map(|heard| ("identity provider", heard)));
    let totals = totals.chain(source_status::rows(stats, earlier));
    let rows: Vec<Vec<String>> = totals.map(|(name, value)| vec![name.to_owned(), value]).collect();
    let now = moment(stats, "at");
    let directories: Vec<Vec<String>> =
        directories(stats).map(|directory| row(directory, now)).collect();
    let totals = table::draw_within(width, &[Column::whole(""), Column::new("")], false, &rows);
    format!("{totals}\n{}", table::draw_within(width, &DIRECTORIES, true, &directories))
}

fn totals(stats: &Value) -> [(&'static str, String); 10] {
    [
        ("server up", uptime(stats)),
        ("records", count(stats, "/seq").to_string()),
        ("events", event_counts(stats)),
        ("a second", event_rates(stats)),
        ("delay, last hour", delays(stats, "last_hour")),
        ("delay, last day", delays(stats, "last_day")),
        ("duplicates", count(stats, "/duplicates").to_string()),
        ("refused webhooks", counts_by_kind(stats, "refused_webhooks")),
        ("conflicts", count(stats, "/conflicts").to_string()),
        ("quarantine", counts_by_kind(stats, "quarantine")),
    ]
}

fn uptime(stats: &Value) -> String {
    match (moment(stats, "at"), moment(stats, "started_at")) {
        (Some(now), Some(started)) => {
            format!("for {}, since {}", human(now - started), text_field(stats, "started_at"))
        }
        _ => String::new(),
    }
}

/// Says when the newest event of the directories shown was received.
fn last_heard(stats: &Value) -> Option<String> {
    let last =
        directories(stats).filter_map(|directory| moment(directory, "last_event_at")).max()?;
    let age = moment(stats, "at")? - last;
    Some(format!("{} ago, at {}", human(age), time::format(last)))
}

/// Says how much space is free on the disk of the data folder.
fn disk(stats: &Value) -> Option<String> {
    let disk = stats.pointer("/condition/disk").filter(|disk| !disk.is_null())?;
    let [free, reserve] = ["/free_bytes", "/reserve_bytes"].map(|part| count(disk, part) >> 20);
    Some(format!("{free} MiB free; below {reserve} MiB events are refused"))
}

/// Says how much memory the role mappings take, if there are any.
fn mappings(stats: &Value) -> Option<String> {
    let [bytes, max] =
        ["bytes", "bytes_max"].map(|part| count(stats, &format!("/condition/mappings/{part}")));
    (bytes > 0).then(|| format!("{} of {} MiB of memory", bytes.div_ceil(1 << 20), max >> 20))
}

/// Returns the number of duplicates that say something else than the log, if there are any.
fn differing(stats: &Value) -> Option<String> {
    let copies = Some(count(stats, "/differs")).filter(|copies| *copies > 0);
    copies.map(|copies| format!("{copies} dropped since the start; standard error names the types"))
}

/// Returns what is wrong with the server's clock.
pub(super) fn clock(stats: &Value) -> Option<String> {
    let part = |pointer| stats.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let (offset_ms, ahead_ms) = (part("/clock/offset_ms"), part("/clock/stamps_ahead_ms"));
    let direction = if offset_ms < 0 { "back" } else { "ahead" };
    let set = format!("set {direction} by {} since the start", human(offset_ms.abs()));
    if stats.pointer("/clock/is_believed") == Some(&Value::Bool(false)) {
        return Some(format!("{set}: events are refused until it is back, or --accept-clock"));
    }
    let is_ahead = ahead_ms >= CLOCK_SHOWN_MS;
    let stamps = format!("records are stamped {} ahead of it", human(ahead_ms));
    match (offset_ms.abs() >= CLOCK_SHOWN_MS, is_ahead) {
        (true, true) => Some(format!("{set}; {stamps}")),
        (true, false) => Some(set),
        (false, true) => Some(stamps),
        (false, false) => None,
    }
}

fn event_counts(stats: &Value) -> String {
    let [minute, hour, day, month] = ["last_minute", "last_hour", "last_day", "last_30_days"]
        .map(|window| count(stats, &format!("/events/{window}")));
    format!(
        "{minute} in the last minute, {hour} in the last hour, {day} in the last day, \
         {month} in the last 30 days"
    )
}

fn event_rates(stats: &Value) -> String {
    let [minute, hour] = ["last_minute", "last_hour"].map(|window| {
        stats.pointer(&format!("/rate_per_s/{window}")).and_then(Value::as_f64).unwrap_or(0.0)
    });
    format!("{minute:.2} over the last minute, {hour:.2} over the last hour")
}

fn delays(stats: &Value, window: &str) -> String {
    let old = count(stats, &format!("/backfilled/{window}"));
    let left_out = if old == 0 {
        String::new()
    } else {
        let events = counted(old, "event was", "events were");
        format!(" ({events} backfilled: over 3 days old)")
    };
    match stats.pointer(&format!("/delay_ms/{window}")) {
        Some(delay @ Value::Object(_)) => {
            let [half, most, all] = ["p50", "p99", "max"]
                .map(|part| human(delay.get(part).and_then(Value::as_i64).unwrap_or(0)));
            format!("half within {half}, 99 % within {most}, all within {all}{left_out}")
        }
        _ => format!("none to measure{left_out}"),
    }
}

/// Returns each kind with its count, without those of 0.
fn counts_by_kind(stats: &Value, key: &str) -> String {
    let kinds = stats.get(key).and_then(Value::as_object).into_iter().flatten();
    let counts: Vec<String> = kinds
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    if counts.is_empty() { "0".into() } else { counts.join(", ") }
}

fn row(directory: &Value, now: Option<i64>) -> Vec<String> {
    vec![
        text_field(directory, "id").into(),
        text_field(directory, "name").into(),
        text_field(directory, "state").into(),
        count(directory, "/users/active").to_string(),
        count(directory, "/users/inactive").to_string(),
        count(directory, "/groups").to_string(),
        events_of_all_types(directory, "last_hour"),
        events_of_all_types(directory, "last_day"),
        events_of_all_types(directory, "last_30_days"),
        directory.get("silent_ms").and_then(Value::as_i64).map_or_else(|| "-".into(), silence),
        directory.get("initial_sync").map_or_else(|| "-".into(), |sync| initial_sync(sync, now)),
    ]
}

/// Returns the time since a directory's last event, in no smaller unit than seconds.
fn silence(silent_ms: i64) -> String {
    if silent_ms < 1000 { "under 1 s".into() } else { human(silent_ms) }
}

fn events_of_all_types(directory: &Value, window: &str) -> String {
    let counts = directory.pointer(&format!("/events/{window}")).and_then(Value::as_object);
    let counts = counts.into_iter().flatten().filter_map(|(_, count)| count.as_u64());
    counts.sum::<u64>().to_string()
}

fn initial_sync(sync: &Value, now: Option<i64>) -> String {
    if sync.is_null() {
        return "-".into();
    }
    let done = text_field(sync, "state") == "done";
    let end = if done { moment(sync, "last_at") } else { now };
    let took = match (moment(sync, "started_at"), end) {
        (Some(start), Some(end)) => human(end - start),
        _ => "?".into(),
    };
    format!(
        "{} {took}: {}, {}, {}",
        if done { "done in" } else { "running for" },
        counted(count(sync, "/users"), "user", "users"),
        counted(count(sync, "/groups"), "group", "groups"),
        counted(count(sync, "/memberships"), "membership", "memberships"),
    )
}

pub(super) fn directories(stats: &Value) -> impl Iterator<Item = &Value> {
    stats.pointer("/directories/data").and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn count(object: &Value, pointer: &str) -> u64 {
    object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

pub(super) fn moment(object: &Value, key: &str) -> Option<i64> {
    time::parse(text_field(object, key))
}

#[cfg(test)]
mod tests {
    use super::super::source_status::LastRun;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_has_totals_and_a_line_for_each_directory() {
        let stats = json!({
            "object": "stats", "at": "2026-05-01T12:00:00.000Z", "seq": 30,
            "started_at": "2026-05-01T08:48:00.000Z",
            "events": {"last_minute": 1, "last_hour": 2, "last_day": 3, "last_30_days": 30},
            "rate_per_s": {"last_minute": 0.02, "last_hour": 0.0},
            "delay_ms": {"last_hour": {"p50": 120, "p99": 4_200, "max": 62_000}, "last_day": null},
            "backfilled": {"last_hour": 4_210, "last_day": 1},
            "duplicates": 4, "differs": 2,
            "refused_webhooks": {"signature_mismatch": 2, "body_too_large": 0},
            "conflicts": 1, "quarantine": {"not_an_event": 0, "conflict": 0},
            "condition": {
                "disk": {"free_bytes": 63 << 20, "reserve_bytes": 16 << 20, "is_low": true},
                "mappings": {"bytes": (1 << 20) + 1, "bytes_max": 256 << 20},
            },
            "sources": [
                {"url": "https://api.workos.com", "caught_up_at": "2026-05-01T11:59:48.000Z",
                 "last_error": null, "new": 3, "duplicates": 7, "differs": 1, "held": 2,
                 "reconciliation": {"id": "run_1", "state": "held", "directory": null,
                     "dry_run": false, "started_at": "2026-05-01T11:57:00.000Z",
                     "finished_at": "2026-05-01T11:57:00.000Z", "differences": 14,
                     "recorded": 12, "held": 2}},
                {"url": "https://other", "caught_up_at": null, "new": 0, "duplicates": 0,
                 "differs": 0, "held": 0, "last_error": {"code": "source_mismatch", "message": "another environment"}},
            ],
            "directories": {"object": "list", "data": [
                {"object": "directory_stats", "id": "d1", "name": "Halden",
                 "organization_id": "o", "state": "linked",
                 "users": {"active": 5, "inactive": 1}, "groups": 3,
                 "events": {"last_hour": {}, "last_30_days": {"a": 30},
                            "last_day": {"dsync.user.created": 2, "dsync.user.updated": 1}},
                 "last_event_at": "2026-05-01T08:48:00.000Z", "silent_ms": 11_520_000,
                 "initial_sync": {"state": "done", "started_at": "2026-04-01T00:00:00.000Z",
                                  "last_at": "2026-04-01T00:02:05.000Z",
                                  "users": 6, "groups": 3, "memberships": 1}},
                {"object": "directory_stats", "id": "d2", "name": "", "state": "unlinked",
                 "users": {"active": 0, "inactive": 0}, "groups": 0,
                 "events": {"last_hour": {}, "last_day": {}, "last_30_days": {}},
                 "last_event_at": null, "silent_ms": null, "initial_sync": null},
                {"id": "d3", "initial_sync": {
                    "state": "in_progress", "started_at": "2026-05-01T11:59:30.000Z", "users": 1}},
            ], "list_metadata": {"before": null, "after": null}},
        });
        let expected = "\
server up         for 3 h 12 min, since 2026-05-01T08:48:00.000Z
records           30
events            1 in the last minute, 2 in the last hour, 3 in the last day, 30 in the last 30 days
a second          0.02 over the last minute, 0.00 over the last hour
delay, last hour  half within 120 ms, 99 % within 4 s, all within 1 min 2 s (4210 events were backfilled: over 3 days old)
delay, last day   none to measure (1 event was backfilled: over 3 days old)
duplicates        4
refused webhooks  signature_mismatch 2
conflicts         1
quarantine        0
last event        3 h 12 min ago, at 2026-05-01T08:48:00.000Z
disk              63 MiB free; below 16 MiB events are refused
role mappings     2 of 256 MiB of memory
differing copies  2 dropped since the start; standard error names the types
source            https://api.workos.com: wrong: 2 differences are held; `rollcall reconcile --dry-run` shows which, why, and what to do
  events          all pulled up to 12 s ago; since the start 3 new and 7 known already; 1 copy with another content
  reconciliation  3 min 0 s ago: 14 differences, 12 recorded, 2 held
source            https://other: wrong: source_mismatch: another environment; the server looks again every 5 minutes
  events          not all pulled yet; since the start 0 new and 0 known already
  reconciliation  none since the start; the last one began 1 h 0 min ago

directory  name    state     active  inactive  groups  hour  day  30 days  silent for  initial sync
d1         Halden  linked    5       1         3       0     3    30       3 h 12 min  done in 2 min 5 s: 6 users, 3 groups, 1 membership
d2                 unlinked  0       0         0       0     0    0        -           -
d3                           0       0         0       0     0    0        -           running for 30 s: 1 user, 0 groups, 0 memberships
";
        let began = time::parse("2026-05-01T11:00:00.000Z").unwrap();
        let earlier = Earlier::At(LastRun { began, held: 0, failed: false });
        assert_eq!(page(&stats, earlier, None), expected);
    }

    #[test]
    fn a_clock_is_shown_once_it_was_set_or_is_behind_the_stamps() {
        for (offset_ms, stamps_ahead_ms, is_believed, expected) in [
            (0, 0, true, None),
            (-9_999, 9_999, true, None),
            (12_000, 0, true, Some("set ahead by 12 s since the start")),
            (0, 5_400_000, true, Some("records are stamped 1 h 30 min ahead of it")),
            (
                -61_000,
                62_000,
                true,
                Some(
                    "set back by 1 min 1 s since the start; records are stamped 1 min 2 s ahead of it",
                ),
            ),
            (
                361_000,
                0,
                false,
                Some(
                    "set ahead by 6 min 1 s since the start: events are refused until it is back, or --accept-clock",
                ),
            ),
        ] {
            let clock_state = json!({"offset_ms": offset_ms, "stamps_ahead_ms": stamps_ahead_ms,
                "is_believed": is_believed});
            assert_eq!(clock(&json!({ "clock": clock_state })).as_deref(), expected);
        }
    }

    #[test]
    fn a_silence_is_told_in_seconds_at_least() {
        let told = [0, 38, 999, 1000, 61_000].map(silence);
        assert_eq!(told, ["under 1 s", "under 1 s", "under 1 s", "1 s", "1 min 1 s"]);
    }
}
