//! Reconciliations of a server with a source, and the two compared object by object.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::server::{API_KEY, Server, agent, get};

/// Only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Begins a reconciliation, and waits for its end.
pub fn reconcile(server: &Server, body: &Value) -> Value {
    let begun = begin(server, body);
    ended(server, begun["id"].as_str().unwrap())
}

pub fn begin(server: &Server, body: &Value) -> Value {
    let begun = server.act("post", "/rollcall/v1/reconciliations", Some(body));
    assert_eq!(begun.status, 202, "{}", String::from_utf8_lossy(&begun.body));
    begun.json()
}

/// Waits for the end of a reconciliation.
pub fn ended(server: &Server, id: &str) -> Value {
    let begun = Instant::now();
    loop {
        let answer = server.get(&format!("/rollcall/v1/reconciliations/{id}"));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let run = answer.json();
        if run["state"] != "running" {
            return run;
        }
        assert!(begun.elapsed() < PATIENCE, "{run}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The differences of a run in short: `kind difference id fields held`.
pub fn differences(run: &Value) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    run["differences"]["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| {
            let id = match found["kind"].as_str().unwrap() {
                "membership" => format!("{}+{}", word(&found["group_id"]), word(&found["user_id"])),
                _ => word(&found["id"]),
            };
            let fields: Vec<String> =
                found["fields"].as_array().unwrap().iter().map(&word).collect();
            let ended = match (&found["recorded"], &found["held"]) {
                (Value::Null, Value::Null) => "open".to_owned(),
                (Value::Null, held) => word(held),
                (_, Value::Null) => "recorded".to_owned(),
                both => panic!("{both:?}"),
            };
            let (kind, how) = (word(&found["kind"]), word(&found["difference"]));
            format!("{kind} {how} {id} [{}] {ended}", fields.join(" "))
        })
        .collect()
}

/// Everything that a server with the API of a source says is so: by path, without `updated_at` and
/// `groups`, which are no difference.
pub fn state(url: &str, key: &str) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for directory in whole_list(url, key, "/directories?") {
        let id = directory["id"].as_str().unwrap().to_owned();
        for group in whole_list(url, key, &format!("/directory_groups?directory={id}&")) {
            let group_id = group["id"].as_str().unwrap().to_owned();
            let members = whole_list(url, key, &format!("/directory_users?group={group_id}&"));
            let mut members: Vec<Value> =
                members.into_iter().map(|user| user["id"].clone()).collect();
            members.sort_by_key(Value::to_string);
            all.insert(format!("members {group_id}"), members.into());
            all.insert(format!("group {group_id}"), compared(group));
        }
        for user in whole_list(url, key, &format!("/directory_users?directory={id}&")) {
            all.insert(format!("user {}", user["id"].as_str().unwrap()), compared(user));
        }
        let fields = ["name", "type", "external_key", "organization_id", "domain", "state"];
        let directory: Value =
            fields.map(|field| (field, directory[field].clone())).into_iter().collect();
        all.insert(format!("directory {id}"), directory);
    }
    all
}

fn compared(mut object: Value) -> Value {
    let fields = object.as_object_mut().unwrap();
    for field in ["updated_at", "groups", "new_key"] {
        fields.remove(field);
    }
    fields.retain(|_, value| !value.is_null());
    object
}

fn whole_list(url: &str, key: &str, path: &str) -> Vec<Value> {
    let (mut items, mut after) = (Vec::new(), String::new());
    let agent = agent();
    loop {
        let authorization = format!("Bearer {key}");
        let asked = format!("{path}limit=100&order=asc{after}");
        let answer = get(&agent, url, &asked, &[("Authorization", &authorization)]);
        assert_eq!(answer.status, 200, "{asked}: {}", String::from_utf8_lossy(&answer.body));
        let page = answer.json();
        items.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["list_metadata"]["after"].as_str() {
            Some(id) => after = format!("&after={id}"),
            None => return items,
        }
    }
}

/// Asserts that a server says the same as its source.
#[track_caller]
pub fn assert_in_step(server: &Server, url: &str, key: &str) {
    let (theirs, ours) = (state(url, key), state(&server.url, API_KEY));
    for (path, theirs) in &theirs {
        assert_eq!(ours.get(path), Some(theirs), "{path}");
    }
    let more: Vec<&String> = ours.keys().filter(|path| !theirs.contains_key(*path)).collect();
    assert!(more.is_empty(), "the source does not have {more:?}");
}

/// The number of the newest record.
pub fn head(server: &Server) -> u64 {
    let projections = server.get("/rollcall/v1/projections").json();
    projections["data"][0]["seq"].as_u64().unwrap()
}

/// The observations that are recorded, oldest first.
pub fn observations(server: &Server) -> Vec<Value> {
    let types = "rollcall.directory.observed,rollcall.group.observed,rollcall.user.observed,\
                 rollcall.membership.observed";
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/events?limit=100&events={types}{after}")).json();
        all.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["list_metadata"]["after"].as_str() {
            Some(id) => after = format!("&after={id}"),
            None => return all,
        }
    }
}

/// The request for a reconciliation of everything.
pub fn whole() -> Value {
    json!({})
}
