//! What is sent is what `/events` and the feed of changes show, in the order of the log.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::kit::histories::{history, percent_encoded};
use crate::kit::receiver::{
    Reaction, Received, Receiver, endpoint, start_sending, wait_until_delivered,
};
use crate::kit::scale::{check_each, histories};
use crate::kit::server::{Server, now_ms};

/// Histories in a run at scale 1.
const HISTORIES: u64 = 6;

/// The types of consequences, by the word of the feed.
const CONSEQUENCES: [(&str, &str); 6] = [
    ("access_granted", "rollcall.access.granted"),
    ("access_ended", "rollcall.access.ended"),
    ("access_restored", "rollcall.access.restored"),
    ("role_gained", "rollcall.role.gained"),
    ("role_lost", "rollcall.role.lost"),
    ("history_changed", "rollcall.history.changed"),
];

/// An event that is owed: its place, its organization, and the whole.
struct Owed {
    place: String,
    organization: Option<String>,
    event: Value,
}

fn pages(server: &Server, path: &str) -> Vec<Value> {
    let (mut items, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("{path}{after}")).json();
        let data = page["data"].as_array().unwrap();
        items.extend(data.iter().cloned());
        match page["list_metadata"]["after"].as_str() {
            Some(cursor) if !data.is_empty() => {
                after = format!("&after={}", percent_encoded(cursor))
            }
            _ => return items,
        }
    }
}

/// Returns what the server shows, in the order in which it is owed: for each record its event, then
/// its changes.
fn owed(
    server: &Server,
    seqs: &BTreeMap<String, u64>,
    types: &[String],
    organizations: &BTreeMap<String, usize>,
) -> Vec<Owed> {
    let mut by_place: BTreeMap<(u64, u64), Owed> = BTreeMap::new();
    // The list of all is followed by one for each organization, which says what is of it.
    let each = organizations.keys().map(|id| Some(id.as_str()));
    for organization in std::iter::once(None).chain(each) {
        for names in types.chunks(60) {
            let filter = organization
                .map_or(String::new(), |id| format!("&organization_id={}", percent_encoded(id)));
            let names = percent_encoded(&names.join(","));
            for event in pages(server, &format!("/events?limit=100&events={names}{filter}")) {
                let seq = seqs[event["id"].as_str().unwrap()];
                let organization = organization.map(str::to_owned);
                by_place.insert((seq, 0), Owed { place: seq.to_string(), organization, event });
            }
        }
    }
    for item in pages(server, "/rollcall/v1/changes?wait=0&limit=1000") {
        let id = item["id"].as_str().unwrap();
        let (seq, number) = id.split_once('.').unwrap();
        let word = item["change"].as_str().unwrap();
        let (_, event_type) = CONSEQUENCES.iter().find(|(other, _)| *other == word).unwrap();
        let organization = item["organization_id"].as_str().filter(|id| !id.is_empty());
        let organization = organization.map(str::to_owned);
        let event = json!({
            "object": "event", "id": format!("change_{id}"), "event": event_type, "data": item,
            "created_at": item["occurred_at"], "context": {},
        });
        let place = (seq.parse().unwrap(), number.parse().unwrap());
        by_place.insert(place, Owed { place: id.to_owned(), organization, event });
    }
    by_place.into_values().collect()
}

/// Counts the organizations that a body names.
fn count_organizations(body: &Value, counts: &mut BTreeMap<String, usize>) {
    match body {
        Value::Object(fields) => {
            if let Some(Value::String(id)) = fields.get("organization_id") {
                *counts.entry(id.clone()).or_default() += 1;
            }
            fields.values().for_each(|value| count_organizations(value, counts));
        }
        Value::Array(items) => items.iter().for_each(|item| count_organizations(item, counts)),
        _ => {}
    }
}

/// Numbers as JavaScript has them: the only difference between `/events` and a body in the format
/// `workos` that a reader of JSON sees.
fn rounded(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().unwrap()),
        Value::Array(items) => items.iter().map(rounded).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), rounded(value))).collect()
        }
        other => other.clone(),
    }
}

fn check(seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(seed ^ 0xde11);
    let flaky = || {
        Receiver::reacting(|one| {
            // Some requests fail, by the place and the time of the attempt.
            let sum: u64 = one.header("workos-signature").bytes().map(u64::from).sum();
            if sum.is_multiple_of(7) { Reaction::Answer(503) } else { Reaction::Answer(200) }
        })
    };
    let [all, of_one, unordered] = [flaky(), flaky(), flaky()];
    let history = history(seed);
    let mut organizations = BTreeMap::new();
    for delivery in &history.deliveries {
        let body = serde_json::from_slice(&delivery.body).unwrap_or_default();
        count_organizations(&body, &mut organizations);
    }
    // Those that a file can name without escapes.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    organizations.retain(|id, _| !id.is_empty() && id.bytes().all(is_plain));
    let (one, _) = organizations.iter().max_by_key(|(_, count)| **count).unwrap();
    let endpoints = [
        endpoint("all", &all.address, ""),
        endpoint(
            "of_one",
            &of_one.address,
            &format!("events = [\"dsync.*.created\", \"rollcall.*\"]\norganizations = [\"{one}\"]"),
        ),
        endpoint("unordered", &unordered.address, "ordered = false\nfrom = \"start\""),
    ];
    let mut server = start_sending(folder.path(), &endpoints);
    let mapping =
        json!({ "mode": "all", "default_roles": ["member"], "priority": [], "rules": [] });
    assert_eq!(server.put("/rollcall/v1/role_mapping", &json!({ "mapping": mapping })).status, 200);
    let restart_after = rng.random_range(0..history.deliveries.len());
    let (mut seqs, mut types) = (BTreeMap::new(), Vec::new());
    for (index, delivery) in history.deliveries.iter().enumerate() {
        let answer = server.post_at(&delivery.body, now_ms() + delivery.shift_ms);
        let receipt = answer.json();
        if let (Some(id), Some(seq)) = (receipt["event_id"].as_str(), receipt["seq"].as_u64())
            && receipt["conflict"] == false
        {
            seqs.insert(id.to_owned(), seq);
        }
        let body: Value = serde_json::from_slice(&delivery.body).unwrap_or_default();
        let name = body["event"].as_str().unwrap_or_default().to_owned();
        if name.starts_with("dsync.") && !name.contains([',', '&']) && !types.contains(&name) {
            types.push(name);
        }
        if index == restart_after {
            assert_eq!(server.stop(), 0);
            server = start_sending(folder.path(), &endpoints);
        }
    }
    for name in ["all", "of_one", "unordered"] {
        wait_until_delivered(&server, name);
    }
    let owed = owed(&server, &seqs, &types, &organizations);
    compare(seed, &all, owed.iter().collect());
    let organization = one.as_str();
    let is_of_one = |one: &&Owed| {
        let name = one.event["event"].as_str().unwrap();
        let is_wanted = name.starts_with("rollcall.") || name.ends_with(".created");
        is_wanted && one.organization.as_deref() == Some(organization)
    };
    compare(seed, &of_one, owed.iter().filter(is_of_one).collect());
    let mut places = unordered.places();
    places.sort();
    places.dedup();
    let mut expected: Vec<&String> = owed.iter().map(|one| &one.place).collect();
    expected.sort();
    assert_eq!(places.iter().collect::<Vec<_>>(), expected, "history {seed}");
}

fn compare(seed: u64, receiver: &Receiver, owed: Vec<&Owed>) {
    let mut got = receiver.got();
    got.iter().for_each(Received::check);
    // What failed came again, directly after.
    got.dedup_by(|one, other| one.place() == other.place());
    let places: Vec<&str> = got.iter().map(Received::place).collect();
    let expected: Vec<&str> = owed.iter().map(|one| one.place.as_str()).collect();
    assert_eq!(places, expected, "history {seed}");
    for (one, owed) in got.iter().zip(owed) {
        let (found, shown) = (rounded(&one.json()), rounded(&owed.event));
        assert_eq!(found, shown, "history {seed}, {}", owed.place);
    }
}

#[test]
fn what_is_sent_is_what_events_and_changes_show() {
    check_each(histories(HISTORIES), 2, check);
}
