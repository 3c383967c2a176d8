//! `GET /metrics`: what is there, who may ask, and that it counts what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rollcall::log::{AppendError, History, Identity, Log, MemoryLog, Outcome, ReadError, Record};
use rollcall::verify::{Observed, Verified};
use rollcall_projections::{Entry, Millis, Seq};
use serde_json::{Value, json};

use crate::faults::full_disk::wait_until;
use crate::kit::exposition::Scrape;
use crate::kit::histories::percent_encoded;
use crate::kit::keyed::{Keyed, entry};
use crate::kit::model::rfc3339;
use crate::kit::receiver::{config_with, endpoint, sending_command};
use crate::kit::road::{engine, memory_log, observed_at, scraped};
use crate::kit::server::{
    API_KEY, Answer, Server, agent, delegate_history, delegate_log, get, now_ms, signature, user,
};
use crate::kit::source::pulling::{Puller, pull};
use crate::kit::source::stand_in::StandIn;

const SOME_TIME: &str = "2026-01-01T00:00:00.000Z";
const LATER: &str = "2026-02-01T00:00:00.000Z";
const HOUR_MS: Millis = 3_600_000;

pub fn scrape(server: &Server) -> Scrape {
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200);
    read(&answer)
}

fn read(answer: &Answer) -> Scrape {
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    Scrape::read(std::str::from_utf8(&answer.body).unwrap())
}

fn doc(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

fn event(id: &str, kind: &str, data: &Value) -> String {
    event_at(SOME_TIME, id, kind, data)
}

fn event_at(created_at: &str, id: &str, kind: &str, data: &Value) -> String {
    json!({"id": id, "event": kind, "created_at": created_at, "data": data}).to_string()
}

/// Delivers a directory with so many users, whose ids begin with its own.
pub fn fill(server: &Server, directory: &str, users: usize) {
    let data = json!({"id": directory, "organization_id": "org_1", "name": directory});
    server.deliver(&event(&format!("{directory}_e"), "dsync.activated", &data));
    for number in 0..users {
        let id = format!("{directory}_u{number}");
        server.deliver(&user(
            &id,
            directory,
            &id,
            SOME_TIME,
            &format!("{id}_e"),
            "dsync.user.created",
        ));
    }
}

/// Deletes the first users of a directory, two hours ago.
pub fn delete(server: &Server, directory: &str, users: std::ops::Range<usize>) {
    delete_at(server, directory, users, &rfc3339(now_ms() - 2 * HOUR_MS));
}

fn delete_at(server: &Server, directory: &str, users: std::ops::Range<usize>, at: &str) {
    for number in users {
        let id = format!("{directory}_u{number}");
        let data = json!({"id": id, "directory_id": directory});
        server.deliver(&event_at(at, &format!("{id}_gone"), "dsync.user.deleted", &data));
    }
}

/// A metric as docs/metrics.md describes it.
#[derive(Debug, PartialEq, Eq)]
struct Described {
    kind: String,
    labels: BTreeSet<String>,
}

/// Every line of the table: metric, type, labels, and three more cells that say something.
fn described() -> BTreeMap<String, Described> {
    let text = doc("metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let read = |row: &str| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, unit, meaning, _] = cells[..] else { panic!("{row}") };
        assert!(!unit.is_empty() && meaning.len() > 5, "{row}");
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (name.trim_matches('`').to_owned(), Described { kind: kind.to_owned(), labels })
    };
    rows.map(read).collect()
}

/// A server with every part that has metrics of its own, and a directory.
fn whole_server(folder: &Path) -> Server {
    let (data, archive) = (folder.join("data"), folder.join("archive"));
    fs::create_dir(&archive).unwrap();
    let config = config_with(folder, &[endpoint("app", "127.0.0.1:9", "")]);
    let options = [
        "--pull",
        "http://127.0.0.1:9",
        "--archive",
        archive.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    let mut command = sending_command();
    command.env("ROLLCALL_POSTGRES_URL", "postgres://rollcall@127.0.0.1:9/app");
    let server = Server::start_command(command, &data, &options);
    fill(&server, "directory_1", 1);
    wait_until("the directory is counted", || {
        let labels = [("directory", "directory_1"), ("state", "linked")];
        scrape(&server).value("rollcall_directory_state", &labels) == Some(1.0)
    });
    server
}

#[test]
fn every_metric_is_described_and_every_one_described_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let server = whole_server(folder.path());
    let scrape = scrape(&server);
    let found: BTreeMap<String, Described> = scrape
        .0
        .iter()
        .map(|(name, family)| {
            (name.clone(), Described { kind: family.kind.clone(), labels: scrape.labels(name) })
        })
        .collect();
    assert_eq!(found, described());
    assert_eq!(scrape.value("rollcall_build_info", &[]), None, "the labels say what was built");
    assert_eq!(scrape.sum("rollcall_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    // A process of this size, in bytes.
    let memory = scrape.value("process_resident_memory_bytes", &[]).unwrap();
    assert!((1e6..1e11).contains(&memory), "{memory}");
    let at_source = [("source", "http://127.0.0.1:9")];
    assert!(scrape.value("rollcall_source_lag_seconds", &at_source).unwrap() >= 0.0);
}

/// Returns the names of metrics in a text, without the ends of the lines of a histogram.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("rollcall_") || word.starts_with("process_"));
    let known = described();
    let family = |word: &str| {
        let ends = ["_bucket", "_sum", "_count"].iter().filter_map(|end| word.strip_suffix(end));
        let histogram = ends
            .map(str::to_owned)
            .find(|name| known.get(name).is_some_and(|described| described.kind == "histogram"));
        histogram.unwrap_or_else(|| word.to_owned())
    };
    ours.map(family).collect()
}

/// Returns the expressions of a dashboard, wherever they are in it.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
            Value::String(text) if name == "expr" => found.push(text.clone()),
            value => expressions(value, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn rules_and_dashboard_use_only_metrics_that_are_there() {
    let known: BTreeSet<String> = described().into_keys().collect();
    let rules = doc("alerts.yml");
    let lines = |prefix: &str| -> Vec<String> {
        let lines = rules.lines().filter_map(|line| line.trim().strip_prefix(prefix));
        lines.map(str::to_owned).collect()
    };
    let (alerts, expressions_of_rules) = (lines("- alert: "), lines("expr: "));
    assert_eq!([alerts.len(), expressions_of_rules.len(), lines("summary: ").len()], [16; 3]);
    assert!(alerts.iter().all(|alert| alert.starts_with("Rollcall")), "{alerts:?}");
    assert_eq!(alerts.iter().collect::<BTreeSet<_>>().len(), 16);
    for expression in &expressions_of_rules {
        let used = metrics_in(expression);
        assert!(!used.is_empty() && used.is_subset(&known), "{expression}");
    }
    let dashboard: Value = serde_json::from_str(&doc("grafana.json")).unwrap();
    let mut shown = Vec::new();
    expressions(&dashboard, &mut shown);
    assert!(shown.len() > 20, "{shown:?}");
    for expression in &shown {
        let used = metrics_in(expression);
        assert!(!used.is_empty() && used.is_subset(&known), "{expression}");
    }
    // The dashboard shows all of them.
    let used: BTreeSet<String> =
        shown.iter().flat_map(|expression| metrics_in(expression)).collect();
    assert_eq!(used, known);
    let ids: Vec<&Value> =
        dashboard["panels"].as_array().unwrap().iter().map(|panel| &panel["id"]).collect();
    let distinct: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(distinct.len(), ids.len());
}

/// Runs promtool, which Debian has in `prometheus`. Returns what it says if it refuses; `None` if it
/// is not installed.
fn promtool(arguments: &[&str], input: &[u8]) -> Option<Result<(), String>> {
    let piped = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = piped.ok()?;
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Some(if output.status.success() { Ok(()) } else { Err(said) })
}

#[test]
fn promtool_finds_nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let server = whole_server(folder.path());
    let text = server.get("/metrics").body;
    let Some(judged) = promtool(&["check", "metrics"], &text) else { return };
    assert_eq!(judged, Ok(()));
    let rules = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.yml");
    assert_eq!(promtool(&["check", "rules", rules.to_str().unwrap()], b""), Some(Ok(())));
}

#[test]
fn what_comes_in_is_counted_by_source_type_and_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let before = scrape(&server);
    let ingest = |scrape: &Scrape, kind: &str, result: &str| {
        let labels = [("source", "webhook"), ("type", kind), ("result", result)];
        scrape.value("rollcall_ingest_total", &labels).unwrap()
    };
    assert_eq!(before.sum("rollcall_ingest_total", &[]), 0.0, "counters begin at 0");
    let body = user("u", "d", "ana", SOME_TIME, "e", "dsync.user.created");
    let other = user("u", "d", "eva", SOME_TIME, "e", "dsync.user.created");
    // New, a duplicate, a conflict, and the same conflict again; a type that nothing knows, one that
    // only Rollcall may write, and no event at all.
    for body in [
        body.as_str(),
        &body,
        &other,
        &other,
        &event("e2", "dsync.nobody.knows", &json!({})),
        &event("e3", "rollcall.policy.set", &json!({})),
        "hello",
    ] {
        server.deliver(body);
    }
    let unsigned = server.post_with(body.as_bytes(), &[]);
    let late = server.post_at(body.as_bytes(), now_ms() - 3_600_000);
    let forged = signature("whsec_other", &now_ms().to_string(), body.as_bytes());
    let wrong = server.post_with(body.as_bytes(), &[("WorkOS-Signature", &forged)]);
    assert_eq!([unsigned.status, late.status, wrong.status], [401; 3]);
    assert_eq!(server.put("/rollcall/v1/policy", &json!({"inactive_users": "delete"})).status, 200);
    assert_eq!(server.get_with("/directories", &[]).status, 401);
    let after = scrape(&server);
    let created =
        ["new", "duplicate", "conflict"].map(|result| ingest(&after, "dsync.user.created", result));
    assert_eq!(created, [1.0, 2.0, 1.0]);
    assert_eq!(ingest(&after, "other", "new"), 3.0);
    let act = [("source", "operator"), ("type", "rollcall.policy.set"), ("result", "new")];
    assert_eq!(after.value("rollcall_ingest_total", &act), Some(1.0));
    assert_eq!(after.sum("rollcall_ingest_total", &[]), 8.0);
    let refused =
        |reason: &str| after.value("rollcall_ingest_refused_total", &[("reason", reason)]).unwrap();
    assert_eq!(refused("signature_missing"), 1.0);
    assert_eq!(refused("timestamp_outside_tolerance"), 1.0);
    assert_eq!(refused("signature_mismatch"), 1.0);
    assert_eq!(after.sum("rollcall_ingest_refused_total", &[]), 3.0);
    assert_eq!(after.value("rollcall_unauthorized_total", &[]), Some(1.0));
    // Six records: the duplicates are none.
    assert_eq!(after.value("rollcall_log_seq", &[]), Some(6.0));
    // They are answered without a batch.
    assert_eq!(after.value("rollcall_commit_events_sum", &[]), Some(6.0));
    let commits = after.value("rollcall_commit_duration_seconds_count", &[]).unwrap();
    assert!((1.0..=6.0).contains(&commits), "{commits}");
    let users = after.value("rollcall_view_items", &[("view", "users")]);
    assert_eq!(users, Some(1.0));
    wait_until("the quarantine is counted", || {
        let listed = scrape(&server);
        let of = |reason: &str| listed.value("rollcall_quarantine_records", &[("reason", reason)]);
        [of("conflict"), of("unknown_type"), of("reserved_type"), of("not_an_event")]
            == [Some(1.0); 4]
    });
    assert_eq!(scrape(&server).sum("rollcall_quarantine_records", &[]), 4.0);
}

#[test]
fn requests_are_counted_by_route_method_and_status_and_nothing_that_a_request_chose() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let before = scrape(&server);
    let count = |scrape: &Scrape, route: &str, method: &str, status: &str| {
        let labels = [("route", route), ("method", method), ("status", status)];
        scrape.value("rollcall_http_requests_total", &labels).unwrap_or(0.0)
    };
    server.deliver(&user("u", "d", "ana", SOME_TIME, "e", "dsync.user.created"));
    assert_eq!(server.get("/directory_users/u").status, 200);
    // A read of the past takes another way to the same call.
    assert_eq!(server.get("/directory_users/u?as_of=latest").status, 200);
    assert_eq!(server.get("/directory_users/nobody").status, 404);
    assert_eq!(server.get("/rollcall/v1/users/u/history").status, 200);
    assert_eq!(server.send("options", &format!("{}/directories", server.url), "k", "").status, 405);
    assert_eq!(server.get("/secret@example.com").status, 404);
    let after = scrape(&server);
    for (route, method, status, expected) in [
        ("/webhooks/workos", "POST", "200", 1.0),
        ("/directory_users/{id}", "GET", "200", 2.0),
        ("/directory_users/{id}", "GET", "404", 1.0),
        ("/rollcall/v1/users/{id}/history", "GET", "200", 1.0),
        ("/directories", "other", "405", 1.0),
        ("other", "GET", "404", 1.0),
        // The scrape before this one.
        ("/metrics", "GET", "200", count(&before, "/metrics", "GET", "200") + 1.0),
    ] {
        assert_eq!(count(&after, route, method, status), expected, "{route} {method} {status}");
    }
    let timed = |scrape: &Scrape, route: &str| {
        scrape.value("rollcall_http_request_duration_seconds_count", &[("route", route)]).unwrap()
    };
    assert_eq!(timed(&after, "/directory_users/{id}"), 3.0);
    assert_eq!(timed(&before, "/directory_users"), 0.0, "a route is there before it is asked");
    let text = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(!text.contains("secret") && !text.contains("example.com"), "{text}");
}

#[test]
fn metrics_are_for_a_key_with_the_scope_operate_and_no_organization() {
    let mut bound = entry("bound", &["operate"]);
    bound.organizations = Some(vec!["org_1".into()]);
    let entries = [entry("operate", &["operate"]), entry("audit", &["read", "audit"]), bound];
    let server = Keyed::start(&entries, &[]);
    for (key, status) in
        [("sk_operate", 200), ("sk_audit", 403), ("sk_bound", 403), ("sk_unknown", 401)]
    {
        assert_eq!(server.ask_as(key, "get", "/metrics", None).status, status, "{key}");
    }
    let unknown = server.ask_as("sk_operate", "get", "/metrics?format=json", None);
    assert_eq!((unknown.status, unknown.code().as_str()), (422, "validation_failed"));
}

#[test]
fn with_an_address_for_operators_metrics_are_there_only_and_need_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &["--admin-listen", "127.0.0.1:0"]);
    let elsewhere = server.get("/metrics");
    assert_eq!((elsewhere.status, elsewhere.code().as_str()), (404, "not_found"));
    let admin = server.admin_url.as_deref().unwrap();
    let answer = get(&agent(), admin, "/metrics", &[]);
    assert_eq!(answer.status, 200);
    let scrape = read(&answer);
    // Both addresses count into the same metrics.
    let labels = [("route", "/metrics"), ("method", "GET"), ("status", "404")];
    assert_eq!(scrape.value("rollcall_http_requests_total", &labels), Some(1.0));
}

#[test]
fn losses_of_access_are_counted_by_reason_and_many_at_once_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    // Eleven of twenty are many; eleven of 110 are a tenth, and not more; ten are too few.
    for (directory, users) in [("directory_a", 20), ("directory_b", 110), ("directory_c", 10)] {
        fill(&server, directory, users);
    }
    let mass = |scrape: &Scrape| {
        ["directory_a", "directory_b", "directory_c"].map(|directory| {
            scrape.value("rollcall_mass_deprovisioning", &[("directory", directory)])
        })
    };
    let lost = |scrape: &Scrape, reason: &str| {
        scrape.value("rollcall_deprovisionings_total", &[("reason", reason)]).unwrap()
    };
    wait_until("the directories are counted", || mass(&scrape(&server)) == [Some(0.0); 3]);
    delete(&server, "directory_a", 0..11);
    delete(&server, "directory_b", 0..11);
    let gone = json!({"id": "directory_c", "organization_id": "org_1", "name": "c"});
    server.deliver(&event_at(LATER, "c_gone", "dsync.deleted", &gone));
    // The deleted directory is not listed any more.
    wait_until("the losses are counted", || mass(&scrape(&server)) == [Some(1.0), Some(0.0), None]);
    let counted = scrape(&server);
    assert_eq!(lost(&counted, "user_deleted"), 22.0);
    assert_eq!(lost(&counted, "directory_deleted"), 10.0);
    assert_eq!(counted.sum("rollcall_deprovisionings_total", &[]), 32.0);
    // One more of 110 is more than a tenth. After a restart the hour before still counts, and the
    // counters begin anew.
    delete(&server, "directory_b", 11..12);
    wait_until("one more is counted", || mass(&scrape(&server)) == [Some(1.0), Some(1.0), None]);
    assert_eq!(server.stop(), 0);
    let server = Server::start(folder.path());
    wait_until("the hour before is counted", || {
        mass(&scrape(&server)) == [Some(1.0), Some(1.0), None]
    });
    assert_eq!(scrape(&server).sum("rollcall_deprovisionings_total", &[]), 0.0);
    // Who has access again was not lost: 9 of 20 stay lost, and that is too few.
    for number in 0..2 {
        let id = format!("directory_a_u{number}");
        let at = rfc3339(now_ms());
        server.deliver(&user(
            &id,
            "directory_a",
            &id,
            &at,
            &format!("{id}_again"),
            "dsync.user.created",
        ));
    }
    wait_until("those who are back are counted", || {
        mass(&scrape(&server)) == [Some(0.0), Some(1.0), None]
    });
}

#[test]
fn old_losses_that_are_recorded_now_are_no_mass_deprovisioning() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    fill(&server, "directory_old", 20);
    fill(&server, "directory_late", 20);
    let now = now_ms();
    // Eleven of twenty are many, if they are not older than a day when they are recorded.
    for (directory, hours) in [("directory_old", 25), ("directory_late", 23)] {
        delete_at(&server, directory, 0..11, &rfc3339(now - hours * HOUR_MS));
    }
    let mass = |directory: &str| {
        scrape(&server).value("rollcall_mass_deprovisioning", &[("directory", directory)])
    };
    // What came last is counted, so what came before it is.
    wait_until("the late losses are counted", || mass("directory_late") == Some(1.0));
    assert_eq!(mass("directory_old"), Some(0.0));
    assert_eq!(scrape(&server).sum("rollcall_deprovisionings_total", &[]), 22.0);
    let condition = server.get("/rollcall/v1/stats").json()["condition"].clone();
    assert_eq!(condition["mass_deprovisionings"], json!(["directory_late"]));
}

#[test]
fn a_directory_shows_its_state_and_an_event_its_delay() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let data = json!({"id": "directory_1", "organization_id": "org_1", "name": "One"});
    let dated = |id: &str, kind: &str, age_ms: i64| {
        let created_at = rfc3339(now_ms() - age_ms);
        event_at(&created_at, id, kind, &data)
    };
    // The first is a minute old, and the second too old to have been delivered.
    server.deliver(&dated("e1", "dsync.activated", 60_000));
    server.deliver(&dated("e2", "dsync.activated", 4 * 86_400_000));
    let state = |scrape: &Scrape, state: &str| {
        let labels = [("directory", "directory_1"), ("state", state)];
        scrape.value("rollcall_directory_state", &labels)
    };
    wait_until("the directory is counted", || state(&scrape(&server), "linked") == Some(1.0));
    let counted = scrape(&server);
    assert_eq!(counted.value("rollcall_event_delay_seconds_count", &[]), Some(1.0));
    let delay = counted.value("rollcall_event_delay_seconds_sum", &[]).unwrap();
    assert!((60.0..600.0).contains(&delay), "{delay}");
    assert_eq!(counted.sum("rollcall_directory_state", &[("directory", "directory_1")]), 1.0);
    server.deliver(&dated("e3", "dsync.deactivated", 0));
    wait_until("its end is counted", || state(&scrape(&server), "unlinked") == Some(1.0));
    assert_eq!(state(&scrape(&server), "linked"), Some(0.0));
}

#[test]
fn a_directory_that_is_not_linked_is_named_however_late_its_id_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let event_of = |number: usize, kind: &str, created_at: &str| {
        let id = format!("directory_{number:03}");
        let data = json!({"id": id, "organization_id": "org_1", "name": id});
        event_at(created_at, &format!("{id}_{kind}"), kind, &data)
    };
    let mut lines: Vec<String> =
        (0..=500).map(|number| event_of(number, "dsync.activated", SOME_TIME)).collect();
    lines.push(event_of(500, "dsync.deactivated", LATER));
    let url = format!("{}/rollcall/v1/import", server.url);
    assert_eq!(server.send("post", &url, API_KEY, &lines.join("\n")).status, 200);
    let state = |scrape: &Scrape, directory: &str, state: &str| {
        let labels = [("directory", directory), ("state", state)];
        scrape.value("rollcall_directory_state", &labels)
    };
    wait_until("the last directory is named", || {
        state(&scrape(&server), "directory_500", "unlinked") == Some(1.0)
    });
    let counted = scrape(&server);
    assert_eq!(counted.sum("rollcall_directory_state", &[]), 500.0);
    assert_eq!(counted.value("rollcall_directories_left_out", &[]), Some(1.0));
    assert_eq!(state(&counted, "directory_498", "linked"), Some(1.0));
    assert_eq!(state(&counted, "directory_499", "linked"), None);
}

#[test]
fn each_view_is_counted_and_what_is_read_is_kept_in_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let items = |scrape: &Scrape| {
        let of = |(_, labels): &(String, BTreeMap<String, String>)| labels["view"].clone();
        let samples = scrape.0["rollcall_view_items"].samples.iter();
        samples.map(|(key, value)| (of(key), *value)).collect::<BTreeMap<String, f64>>()
    };
    assert!(items(&scrape(&server)).values().all(|items| *items == 0.0));
    // Two users and a group, in which the first one is; one record that cannot be used.
    fill(&server, "directory_1", 2);
    let group = json!({"id": "g", "directory_id": "directory_1", "name": "Staff"});
    server.deliver(&event("g_e", "dsync.group.created", &group));
    let first = json!({"id": "directory_1_u0", "directory_id": "directory_1"});
    let member = json!({"directory_id": "directory_1", "user": first, "group": group});
    server.deliver(&event("m_e", "dsync.group.user_added", &member));
    server.deliver("hello");
    assert_eq!(server.put("/rollcall/v1/policy", &json!({"inactive_users": "delete"})).status, 200);
    let mapping = json!({"mapping": {"default_roles": ["member"], "rules": []}});
    assert_eq!(server.put("/rollcall/v1/role_mapping", &mapping).status, 200);
    let link = json!({"app_user_id": "a", "directory_user_id": "directory_1_u0"});
    assert_eq!(server.put("/rollcall/v1/links", &link).status, 200);
    let counted = items(&scrape(&server));
    // Nine records, one of them no event; the view of events has a place for each.
    let expected = [
        ("directories", 1.0),
        ("users", 2.0),
        ("groups", 1.0),
        ("memberships", 1.0),
        ("quarantine", 1.0),
        ("events", 9.0),
        ("policies", 1.0),
        ("role_mappings", 1.0),
        ("links", 1.0),
        ("scim", 0.0),
    ];
    assert_eq!(counted, expected.map(|(view, items)| (view.to_owned(), items)).into());
    let cached = || scrape(&server).value("rollcall_cache_bytes", &[("cache", "documents")]);
    assert_eq!(cached(), Some(0.0), "no document was read yet");
    assert_eq!(server.get("/directory_users/directory_1_u0").status, 200);
    assert!(cached().unwrap() > 0.0);
    // Half a second passes, and then a checkpoint of all records is asked for.
    let age = || scrape(&server).value("rollcall_checkpoint_age_seconds", &[]).unwrap();
    wait_until("time passes", || age() > 0.5);
    let before = age();
    wait_until("a checkpoint is young", || {
        server.get("/rollcall/v1/log/checkpoint").status == 200 && age() < before
    });
}

#[test]
fn the_lag_of_a_source_ends_with_a_pull_and_grows_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let source = StandIn::start();
    let options = ["--pull-every", "1h"];
    let server = Puller { options: &options, ..Puller::of(folder.path(), &source.url) }.start();
    let labels = [("source", source.url.as_str())];
    let lag = || scrape(&server).value("rollcall_source_lag_seconds", &labels).unwrap();
    pull(&server);
    wait_until("time passes", || lag() > 0.5);
    let before = lag();
    wait_until("the lag ends", || {
        pull(&server);
        lag() < before
    });
}

/// A log whose bodies cannot be read at times.
struct Unreadable {
    log: Arc<MemoryLog>,
    is_unreadable: AtomicBool,
    refused: AtomicUsize,
}

delegate_history!(Unreadable);

impl Log for Unreadable {
    fn append(
        &self,
        batch: Vec<Verified>,
        recorded_at: Millis,
    ) -> Result<Vec<Outcome>, AppendError> {
        self.log.append(batch, recorded_at)
    }

    fn entries(
        &self,
        after: Seq,
        events_max: usize,
        each: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<Seq, ReadError> {
        self.log.entries(after, events_max, each)
    }

    fn bodies(&self, seqs: &[Seq]) -> Result<Vec<Bytes>, ReadError> {
        if !seqs.is_empty() && self.is_unreadable.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(ReadError::Store("it does not answer".into()));
        }
        self.log.bodies(seqs)
    }

    delegate_log!();
}

#[test]
fn the_state_of_a_directory_is_counted_although_its_document_could_not_be_read_at_first() {
    let data = json!({"id": "directory_1", "organization_id": "org_1", "name": "One"});
    let activated = event("e1", "dsync.activated", &data);
    let log = Arc::new(Unreadable {
        log: memory_log([activated.as_bytes()]),
        is_unreadable: AtomicBool::new(false),
        refused: AtomicUsize::new(0),
    });
    let engine = engine(log.clone());
    let tallying = engine.begin_tally().unwrap();
    let state = |state: &str| {
        let labels = [("directory", "directory_1"), ("state", state)];
        scraped(&engine).value("rollcall_directory_state", &labels)
    };
    wait_until("the directory is counted", || state("linked") == Some(1.0));
    for (seq, word, shown) in [(2, "validating", "validating"), (3, "undreamt_of", "linked")] {
        log.is_unreadable.store(true, Ordering::SeqCst);
        let refused = log.refused.load(Ordering::SeqCst);
        let object = json!({"id": "directory_1", "organization_id": "org_1", "state": word});
        let id = "directory_1".to_owned();
        let observed = Observed::Directory { id, object: Some(object.to_string()) };
        let outcome = engine.submit(observed_at(observed, now_ms())).unwrap().blocking_recv();
        assert_eq!(outcome.unwrap().unwrap(), Outcome::New(seq));
        wait_until("it is looked at", || log.refused.load(Ordering::SeqCst) > refused);
        log.is_unreadable.store(false, Ordering::SeqCst);
        wait_until("its state is counted", || state(shown) == Some(1.0));
    }
    tallying.finish();
    engine.close();
}

/// A Prometheus that scrapes a server each second, with the rules. Ended when dropped.
struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    /// Starts it; `None` if it is not installed.
    fn start(folder: &Path, target: &str) -> Option<Prometheus> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let rules = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.yml");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [{}]\n\
             scrape_configs:\n  - job_name: rollcall\n    static_configs: [{{ targets: [\"{}\"] }}]\n",
            serde_json::to_string(&rules).unwrap(),
            target.strip_prefix("http://").unwrap(),
        );
        let file = folder.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Some(Prometheus { child: child.ok()?, url: format!("http://127.0.0.1:{port}") })
    }

    /// Asks its API. Returns null until it answers.
    fn ask(&self, path: &str) -> Value {
        let answer = agent().get(format!("{}/api/v1/{path}", self.url)).call();
        answer.ok().and_then(|mut answer| answer.body_mut().read_json().ok()).unwrap_or_default()
    }

    /// The value of a query that has one.
    fn value(&self, query: &str) -> Option<f64> {
        let answer = self.ask(&format!("query?query={query}"));
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_all_of_it_and_fires_the_alert_of_a_mass_deprovisioning() {
    let folder = tempfile::tempdir().unwrap();
    let server =
        Server::start_with(&folder.path().join("data"), &["--admin-listen", "127.0.0.1:0"]);
    let admin = server.admin_url.clone().unwrap();
    let Some(prometheus) = Prometheus::start(folder.path(), &admin) else { return };
    fill(&server, "directory_a", 20);
    wait_until("the records are scraped", || prometheus.value("rollcall_log_seq") == Some(21.0));
    assert_eq!(prometheus.value("up"), Some(1.0));
    let target = prometheus.ask("targets")["data"]["activeTargets"][0].clone();
    assert_eq!((&target["health"], &target["lastError"]), (&json!("up"), &json!("")));
    let scraped = prometheus.ask("label/__name__/values")["data"].to_string();
    for (name, family) in &read(&get(&agent(), &admin, "/metrics", &[])).0 {
        let name = if family.kind == "histogram" { format!("{name}_bucket") } else { name.clone() };
        assert!(scraped.contains(&format!("\"{name}\"")), "{name} is not in {scraped}");
    }
    delete(&server, "directory_a", 0..11);
    let firing = "ALERTS{alertname=\"RollcallMassDeprovisioning\",alertstate=\"firing\"}";
    let firing = percent_encoded(firing);
    wait_until("the alert fires", || prometheus.value(&firing) == Some(1.0));
    let groups = prometheus.ask("rules")["data"]["groups"].clone();
    let rules = groups[0]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 16);
    assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{groups}");
}
