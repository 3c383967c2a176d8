//! What the source showed when it was asked is served as if an event had told it.

use rollcall::log::Log;
use rollcall::verify::{Observed, Verified};
use serde_json::{Map, Value, json};

use crate::kit::histories::history;
use crate::kit::model::rfc3339;
use crate::kit::road::{asking, engine, get, memory_log, observed_at, verified_at};
use crate::kit::scale::{check_each, histories};

const NOW: i64 = 1_790_000_000_000;

/// Returns the answers to some questions over a log of these events.
fn answers(events: Vec<Verified>, paths: &[String]) -> Vec<(u16, Value)> {
    let log = memory_log([]);
    log.append(events, NOW).unwrap();
    asking(Some(engine(log)), async |server| {
        let mut answers = Vec::new();
        for path in paths {
            let (status, body) = server.call(get(path)).await;
            answers.push((status.as_u16(), body));
        }
        answers
    })
}

fn activated(directory: &str) -> Verified {
    let body = json!({ "id": "event_d", "event": "dsync.activated", "created_at": rfc3339(NOW - 9),
        "data": { "id": directory, "organization_id": "org_1" } });
    verified_at(body.to_string().as_bytes(), NOW)
}

/// Returns the snapshot of an event about a user or a group that any reader can use, and its kind.
fn snapshot(body: &[u8]) -> Option<(&'static str, Map<String, Value>)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let (kind, change) = body["event"].as_str()?.strip_prefix("dsync.")?.split_once('.')?;
    let kind = if kind == "user" { "user" } else { "group" };
    if !["created", "updated"].contains(&change) {
        return None;
    }
    let mut data = body["data"].as_object()?.clone();
    data.remove("previous_attributes");
    let is_usable = |id: &Value| id.as_str().is_some_and(|id| (1..=99).contains(&id.len()));
    let names = ["id", "directory_id"];
    let usable = names.into_iter().all(|name| data.get(name).is_some_and(is_usable));
    let object = data.get("object").and_then(Value::as_str).unwrap_or_default();
    (usable && (object.is_empty() || object == format!("directory_{kind}"))).then_some((kind, data))
}

#[test]
fn a_user_or_group_is_served_as_if_an_event_had_told_what_was_observed() {
    let compared = std::sync::atomic::AtomicUsize::new(0);
    check_each(histories(4), 2, |seed| {
        let snapshots = history(seed).deliveries;
        let snapshots: Vec<_> =
            snapshots.iter().filter_map(|delivery| snapshot(&delivery.body)).take(25).collect();
        for (kind, data) in snapshots {
            let count = usize::from(compare(kind, &data));
            compared.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        }
    });
    assert!(compared.into_inner() > 30);
}

/// Returns false if the event cannot be used, because an id in it is of another kind.
fn compare(kind: &str, data: &Map<String, Value>) -> bool {
    let text = |name: &str| data[name].as_str().unwrap().to_owned();
    let (id, directory) = (text("id"), text("directory_id"));
    let object = Value::from(data.clone()).to_string();
    let event = json!({ "id": "event_1", "event": format!("dsync.{kind}.updated"),
        "created_at": rfc3339(NOW), "data": data });
    let observed = match kind {
        "user" => Observed::User { id, directory: directory.clone(), object: Some(object) },
        _ => Observed::Group { id, directory: directory.clone(), object: Some(object) },
    };
    let in_query = crate::kit::histories::percent_encoded;
    let paths = [
        format!("/directory_{kind}s/{}", in_query(&text("id"))),
        format!("/directory_{kind}s?directory={}", in_query(&directory)),
    ];
    let told = verified_at(event.to_string().as_bytes(), NOW);
    let by_event = answers(vec![activated(&directory), told], &paths);
    if by_event[0].0 == 404 {
        return false;
    }
    let by_observation = answers(vec![activated(&directory), observed_at(observed, NOW)], &paths);
    assert_eq!(by_event[0].0, 200, "{event}");
    assert_eq!(by_observation, by_event, "{event}");
    true
}

#[test]
fn an_object_without_a_directory_is_served_in_the_one_in_which_it_was_listed() {
    for own in ["", r#","directory_id":null"#, r#","directory_id":7"#] {
        let (user, group) = (format!(r#"{{"id":"U"{own}}}"#), format!(r#"{{"id":"G"{own}}}"#));
        let directory = || "D".to_owned();
        let user = Observed::User { id: "U".into(), directory: directory(), object: Some(user) };
        let group = Observed::Group { id: "G".into(), directory: directory(), object: Some(group) };
        let events = vec![activated("D"), observed_at(user, NOW), observed_at(group, NOW)];
        let paths = [
            "/directory_users/U",
            "/directory_groups/G",
            "/directory_users?directory=D",
            "/directory_groups?directory=D",
        ];
        let found = answers(events, &paths.map(Into::into));
        for (at, (status, body)) in found.iter().enumerate() {
            let object = if at < 2 { body } else { &body["data"][0] };
            assert_eq!((*status, &object["directory_id"]), (200, &json!("D")), "{own}: {body}");
            assert_eq!(object["organization_id"], "org_1", "{own}: {body}");
        }
    }
}

/// The states of an observed directory, and what is served of them: the state, and if its users
/// have access.
const STATES: [(&str, &str, bool); 9] = [
    (r#""linked""#, "linked", true),
    (r#""active""#, "linked", true),
    (r#""validating""#, "validating", true),
    (r#""invalid_credentials""#, "invalid_credentials", true),
    (r#""something new""#, "linked", true),
    ("null", "linked", true),
    (r#""unlinked""#, "unlinked", false),
    (r#""inactive""#, "unlinked", false),
    (r#""deleting""#, "deleting", false),
];

#[test]
fn a_directory_is_served_in_the_state_that_was_observed() {
    for (state, served, has_access) in STATES {
        let object = format!(
            r#"{{"object":"directory","id":"D","organization_id":"org_1","external_key":"k","type":"okta scim v2.0","state":{state},"name":"Halden","domain":"h.example","created_at":"2026-01-01T00:00:00.000Z","updated_at":"2026-02-01T00:00:00.000Z"}}"#
        );
        let user = json!({ "id": "event_u", "event": "dsync.user.created",
            "created_at": rfc3339(NOW - 5), "data": { "id": "U", "directory_id": "D" } });
        let events = vec![
            verified_at(user.to_string().as_bytes(), NOW),
            observed_at(Observed::Directory { id: "D".into(), object: Some(object) }, NOW),
        ];
        let paths =
            ["/directories/D", "/rollcall/v1/stats", "/rollcall/v1/users/U/access"].map(Into::into);
        let found = answers(events, &paths);
        let expected = json!({
            "object": "directory", "id": "D", "organization_id": "org_1", "external_key": "k",
            "type": "okta scim v2.0", "state": served, "name": "Halden", "domain": "h.example",
            "created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-02-01T00:00:00.000Z",
        });
        let mut directory = found[0].1.clone();
        directory.as_object_mut().unwrap().remove("metadata");
        assert_eq!((found[0].0, directory), (200, expected), "{state}");
        assert_eq!(found[1].1["directories"]["data"][0]["state"], served, "{state}");
        let lasts = found[2].1["data"].as_array().unwrap().iter().any(|p| p["until"].is_null());
        assert_eq!(lasts, has_access, "{state}: {}", found[2].1);
    }
}

#[test]
fn observations_are_listed_as_events_only_by_name_and_exactly_as_they_were_written() {
    let object = r#"{"id":"U","directory_id":"D","x":1.10}"#.to_owned();
    let observed = Observed::User { id: "U".into(), directory: "D".into(), object: Some(object) };
    let gone = Observed::User { id: "V".into(), directory: "D".into(), object: None };
    let events = vec![activated("D"), observed_at(observed, NOW), observed_at(gone, NOW)];
    let paths = [
        "/events?events=dsync.activated,dsync.user.created,dsync.user.deleted&limit=100",
        "/events?events=rollcall.user.observed&limit=100",
    ];
    let found = answers(events, &paths.map(Into::into));
    let types = |(status, body): &(u16, Value)| -> Vec<String> {
        assert_eq!(*status, 200, "{body}");
        let of = |event: &Value| event["event"].as_str().unwrap().to_owned();
        body["data"].as_array().unwrap().iter().map(of).collect()
    };
    assert_eq!(types(&found[0]), ["dsync.activated"]);
    assert_eq!(types(&found[1]), ["rollcall.user.observed", "rollcall.user.observed"]);
    let data = |at: usize| &found[1].1["data"][at]["data"];
    let expected = json!({
        "id": "U", "directory_id": "D", "present": true, "observed_at": rfc3339(NOW),
        "run": "run_00000000-0000-7000-8000-000000000000", "source": "https://source.example",
        "object": { "id": "U", "directory_id": "D", "x": 1.1 },
    });
    assert_eq!(*data(0), expected);
    assert_eq!((&data(1)["present"], data(1).get("object")), (&json!(false), None));
}

/// Returns the types that a loop of the page about moving asks for: what is quoted in two
/// lines from `begin` on.
fn types_of_loop(begin: &str, quote: char) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/migrate.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, lines) = page.split_once(begin).unwrap();
    let quoted = lines.lines().take(2).map(|line| line.split(quote).nth(1).unwrap());
    quoted.collect()
}

#[test]
fn the_loops_of_the_page_about_moving_meet_every_end_that_was_observed() {
    let loops = [("const EVENTS = ", '\''), ("EVENTS = (", '"')];
    let [node, python] = loops.map(|(begin, quote)| types_of_loop(begin, quote));
    assert_eq!(node, python);
    let user = Observed::User { id: "U".into(), directory: "D".into(), object: None };
    let directory = Observed::Directory { id: "D".into(), object: None };
    let events = vec![activated("D"), observed_at(user, NOW), observed_at(directory, NOW + 1)];
    let paths = [format!("/events?events={node}&limit=100")];
    let (status, body) = answers(events, &paths).remove(0);
    let found = body["data"].as_array().unwrap().iter();
    let found: Vec<_> = found.map(|e| (e["event"].as_str(), e["data"]["id"].as_str())).collect();
    let expected = [
        (Some("dsync.activated"), Some("D")),
        (Some("rollcall.user.observed"), Some("U")),
        (Some("rollcall.directory.observed"), Some("D")),
    ];
    assert_eq!((status, found.as_slice()), (200, &expected[..]), "{body}");
}
