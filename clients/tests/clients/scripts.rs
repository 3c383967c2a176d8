//! The cases that the libraries for Node and Python share: a script for each topic, the same
//! questions for all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Case;
use super::kit::{self, Delivery, SECRET, Server, fixtures, json_lines, lines, story};
use super::libraries::{ALL, Library};

/// The types that every library knows.
pub const TEN_TYPES: [&str; 10] = [
    "dsync.activated",
    "dsync.deleted",
    "dsync.user.created",
    "dsync.user.updated",
    "dsync.user.deleted",
    "dsync.group.created",
    "dsync.group.updated",
    "dsync.group.deleted",
    "dsync.group.user_added",
    "dsync.group.user_removed",
];

/// The number of people with which auto-pagination is tried: neither pages of 10 nor pages of 100
/// end evenly.
pub const MANY: usize = 235;

pub fn cases() -> Vec<Case> {
    type Run = fn(Library);
    let shared: [(&str, Run); 13] = [
        ("lists_and_gets_directories", |library| reads(library, "directories.jsonl")),
        ("lists_and_gets_users", |library| reads(library, "users.jsonl")),
        ("lists_and_gets_groups", |library| reads(library, "groups.jsonl")),
        ("lists_events", |library| reads(library, "listed-events.jsonl")),
        ("pages_through_all_users_once", pages),
        ("meets_each_error_as_its_own_exception", |library| {
            drop(library.run("errors", &fed(), &[]))
        }),
        ("meets_each_error_of_events_as_its_own_exception", |library| {
            drop(library.run("event-errors", &fed(), &[]))
        }),
        ("reads_ids_with_slash_space_and_per_cent", odd_ids),
        ("verifies_what_send_signs", verifies),
        ("tails_events_without_missing_or_repeating_one", tails),
        ("reads_the_events_of_every_story", reads_every_story),
        ("serves_a_receiver_as_the_guides_teach_it", receiver),
        ("deletes_a_directory_with_all_in_it", deletes),
    ];
    let case = |library: Library, (name, run): (&str, Run)| {
        Case::new(format!("{}::{name}", library.name()), library.needs(), move || run(library))
    };
    ALL.into_iter().flat_map(|library| shared.map(|shared| case(library, shared))).collect()
}

/// A server that knows the small story.
pub fn fed() -> Server {
    Server::with(&story("events.jsonl"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn reads(library: Library, table: &str) {
    library.run("reads", &fed(), &[text(&story(table))]);
}

/// A directory with many people; its id, and theirs in order.
pub fn crowd(server: &Server) -> (String, Vec<String>) {
    let directory = "directory_01JB0000000000000000000000";
    let organization = "org_01JB0000000000000000000000";
    let ids: Vec<String> = (0..MANY).map(|at| format!("directory_user_01JB{at:022}")).collect();
    let time = "2026-02-01T08:00:00.000Z";
    let first = json!({
        "object": "event", "id": "event_01JB0000000000000000000000", "event": "dsync.activated",
        "created_at": time, "context": {},
        "data": {
            "object": "directory", "id": directory, "organization_id": organization,
            "external_key": "crowd", "type": "okta scim v2.0", "state": "active", "name": "A crowd",
            "domains": [], "created_at": time, "updated_at": time,
        },
    });
    let person = |(at, id): (usize, &String)| {
        json!({
            "object": "event", "id": format!("event_01JC{at:022}"), "event": "dsync.user.created",
            "created_at": time, "context": {},
            "data": {
                "object": "directory_user", "id": id, "directory_id": directory,
                "organization_id": organization, "idp_id": format!("idp-{at}"),
                "email": format!("person{at}@crowd.example"), "emails": [],
                "first_name": "Person", "last_name": at.to_string(), "state": "active",
                "raw_attributes": {}, "custom_attributes": {}, "created_at": time,
                "updated_at": time,
            },
        })
    };
    let events: Vec<String> = std::iter::once(first)
        .chain(ids.iter().enumerate().map(person))
        .map(|event| event.to_string())
        .collect();
    server.send_lines(events.iter().map(String::as_str));
    (directory.to_owned(), ids)
}

fn pages(library: Library) {
    let server = Server::start();
    let (directory, ids) = crowd(&server);
    let file = server.file("sent.json", json!(ids).to_string().as_bytes());
    library.run("pages", &server, &[&directory, text(&file)]);
}

/// The directory, user and group of the odd story, whose ids hold a slash, a space and a per cent
/// sign.
pub const ODD: [&str; 3] =
    ["directory_odd/50% of it", "directory_user_odd/50% of it", "directory_group_odd/50% of it"];

fn odd_ids(library: Library) {
    library.run("ids", &Server::with(&story("odd.jsonl")), &ODD);
}

fn deletes(library: Library) {
    let server = Server::start();
    let (directory, ids) = crowd(&server);
    library.run("deletion", &server, &[&directory, &ids[0]]);
}

/// Returns the deliveries of `rollcall send` for the small story, and one more whose header is an
/// hour old.
pub fn deliveries() -> (Vec<Delivery>, Delivery) {
    let deliveries = kit::caught(&story("events.jsonl"));
    let bodies: Vec<&str> = deliveries.iter().map(|delivery| delivery.body.as_str()).collect();
    assert_eq!(bodies, lines(&story("events.jsonl")), "each body byte for byte");
    let body = deliveries[0].body.clone();
    let sent: i64 = deliveries[0]
        .header
        .strip_prefix("t=")
        .unwrap()
        .split_once(',')
        .unwrap()
        .0
        .parse()
        .unwrap();
    let header = rollcall_generator::sign(SECRET, sent - 3_600_000, body.as_bytes());
    (deliveries, Delivery { header, body })
}

fn verifies(library: Library) {
    let (deliveries, stale) = deliveries();
    // Nothing is read from this server: it only lends its folder.
    let server = Server::start();
    let file = server.file(
        "webhooks.json",
        json!({"secret": SECRET, "deliveries": deliveries, "stale": stale}).to_string().as_bytes(),
    );
    library.run("webhooks", &server, &[text(&file)]);
}

/// The lines of a tail: ids and names.
type Read = Vec<(String, String)>;

fn tail(library: Library, server: &Server, names: &str, after: Option<&str>) -> Read {
    let arguments: Vec<&str> = std::iter::once(names).chain(after).collect();
    let printed = library.run("tail", server, &arguments);
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// Tails `events` in three goes, each beginning where the one before ended; between them the next
/// webhooks arrive.
pub fn tailed(events: &[String], mut tail: impl FnMut(&Server, Option<&str>) -> Read) -> Read {
    let server = Server::start();
    let mut read: Read = Vec::new();
    for part in events.chunks(events.len().div_ceil(3)) {
        server.send_lines(part.iter().map(String::as_str));
        let last = read.last().map(|(id, _)| id.clone());
        read.extend(tail(&server, last.as_deref()));
    }
    let last = read.last().map(|(id, _)| id.clone());
    assert_eq!(tail(&server, last.as_deref()), [], "nothing has come since");
    read
}

fn tails(library: Library) {
    // Sent backwards, so that the order of arrival is not that of what happened.
    let mut events = lines(&story("events.jsonl"));
    events.reverse();
    let names = TEN_TYPES.join(",");
    let read = tailed(&events, |server, after| tail(library, server, &names, after));
    assert_eq!(read, listed(&events, &TEN_TYPES));
}

/// All webhooks of all stories, in the order of their files.
pub fn all_stories() -> Vec<String> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("events.jsonl").is_file())
        .collect();
    folders.sort();
    assert!(folders.len() >= 12, "{folders:?}");
    folders.iter().flat_map(|folder| lines(&folder.join("events.jsonl"))).collect()
}

fn reads_every_story(library: Library) {
    let events = all_stories();
    let also: &[&str] = match library {
        // The version 5 of Python drops a whole page for one type that it does not know.
        Library::Python(5) => &[],
        // The library for Node hands out `undefined` for a type that version 7 does not know.
        Library::Node(7) => &[
            "dsync.deactivated",
            "connection.activated",
            "organization.updated",
            "session.created",
        ],
        // The library for Python has models for types outside dsync, which want more than the
        // stories' webhooks say: those pass as they came.
        Library::Python(_) => &["dsync.deactivated", "dsync.token.created", "dsync.token.revoked"],
        Library::Node(_) => &[
            "dsync.deactivated",
            "dsync.token.created",
            "dsync.token.revoked",
            "connection.activated",
            "organization.updated",
            "session.created",
        ],
    };
    let names: Vec<&str> = TEN_TYPES.iter().chain(also).copied().collect();
    let read = tailed(&events, |server, after| tail(library, server, &names.join(","), after));
    assert_eq!(read, listed(&events, &names));
}

/// The events of these types that `GET /events` must list, in the order of delivery: the first
/// content under each id, if the fold can use it. Worked out from rules 6 to 9 without the server.
pub fn listed(deliveries: &[String], names: &[&str]) -> Read {
    let mut ids = BTreeSet::new();
    let mut listed = Read::new();
    for body in deliveries {
        let body: Value = serde_json::from_str(body).unwrap();
        let (Some(id), Some(name)) = (text_of(&body["id"]), text_of(&body["event"])) else {
            continue;
        };
        if id.starts_with("op_") || id.chars().any(char::is_control) {
            continue;
        }
        if ids.insert(id.to_owned()) && names.contains(&name) && usable(name, &body["data"]) {
            listed.push((id.to_owned(), name.to_owned()));
        }
    }
    listed
}

/// A string of 1 to 255 bytes.
fn text_of(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| (1..=255).contains(&text.len()))
}

/// Returns true if the fold can use an event (rule 8).
fn usable(name: &str, data: &Value) -> bool {
    let is = |value: &Value, kind: &str| {
        let other_object = value["object"]
            .as_str()
            .is_some_and(|object| object != kind && object.starts_with("directory"));
        let other_prefix = |id: &str| {
            let prefixes = ["directory_user_", "directory_group_"];
            prefixes.iter().any(|prefix| id.starts_with(prefix) && *prefix != format!("{kind}_"))
        };
        text_of(&value["id"]).is_some_and(|id| !other_prefix(id)) && !other_object
    };
    match name {
        "dsync.activated" | "dsync.deactivated" | "dsync.deleted" => is(data, "directory"),
        "dsync.user.created" | "dsync.user.updated" => {
            is(data, "directory_user") && text_of(&data["directory_id"]).is_some()
        }
        "dsync.user.deleted" => is(data, "directory_user"),
        "dsync.group.created" | "dsync.group.updated" => {
            is(data, "directory_group") && text_of(&data["directory_id"]).is_some()
        }
        "dsync.group.deleted" => is(data, "directory_group"),
        "dsync.group.user_added" | "dsync.group.user_removed" => {
            let directories = [
                &data["directory_id"],
                &data["group"]["directory_id"],
                &data["user"]["directory_id"],
            ];
            let directory = directories.into_iter().any(|directory| text_of(directory).is_some());
            is(&data["user"], "directory_user")
                && is(&data["group"], "directory_group")
                && directory
        }
        _ => true,
    }
}

fn receiver(library: Library) {
    let server = fed();
    let mut command = library.script("receiver", &server);
    command.env("WEBHOOK_SECRET", SECRET);
    let (mut receiver, _output, url) = kit::started(command);
    // Killed whatever comes: a panic in between would leave it behind.
    let answers = std::panic::catch_unwind(|| {
        kit::send_to_receiver(&format!("{url}/webhooks"), &story("events.jsonl"));
        kit::get_json(&url)
    });
    let _ = receiver.kill();
    let _ = receiver.wait();
    let answer = answers.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_eq!(answer["refusals"], json!([]));
    let person = |id: usize, email: Value, state: &str, groups: Value| {
        json!({
            "id": format!("directory_user_01JA{id:022}"), "email": email, "state": state,
            "groups": groups,
        })
    };
    let ada =
        person(11, json!("ada@acme.example"), "active", json!(["Engineering", "Security & Trust"]));
    let eve = person(15, json!("eve@partner.example"), "active", json!([]));
    let fay = person(16, json!("fay@zephyr.example"), "active", json!(["People"]));
    // Every webhook was in Rollcall before the receiver got the first: it reads how things stand at
    // the end.
    let expected = json!({
        format!("directory_01JA{:022}", 1): [
            person(14, json!("dee+vpn@acme.example"), "active", json!([])),
            person(13, json!(null), "active", json!([])),
            person(12, json!("bob@acme.example"), "inactive", json!(["Engineering"])),
            ada,
        ],
        format!("directory_01JA{:022}", 2): [eve],
        format!("directory_01JA{:022}", 3): [fay],
    });
    assert_eq!(answer["people"], expected);
}

/// The questions of a table, for a library that has no script.
pub fn table(name: &str) -> Vec<Value> {
    json_lines(&story(name))
}
