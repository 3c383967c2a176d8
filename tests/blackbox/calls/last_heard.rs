//! How fresh an answer about a user is: `GET /rollcall/v1/users/{id}/last_heard`, and the part of
//! `GET /rollcall/v1/quarantine` that is about the user.

use std::path::Path;

use serde_json::{Value, json};

use crate::kit::server::{Server, user};

fn at(day: u32) -> String {
    format!("2026-01-{day:02}T00:00:00.000Z")
}

fn event(day: u32, event: &str, data: Value) -> String {
    json!({
        "object": "event", "id": format!("event_{day}"), "event": event, "created_at": at(day),
        "data": data,
    })
    .to_string()
}

fn created(id: &str, directory: &str, name: &str, day: u32) -> String {
    user(id, directory, name, &at(day), &format!("event_{day}"), "dsync.user.created")
}

/// A server whose record N is of N January 2026. Records 3 to 7 are in the quarantine.
pub fn with_quarantine(folder: &Path) -> Server {
    let server = Server::start(folder);
    let group = json!({ "object": "directory_group", "id": "g1", "directory_id": "d1" });
    let ana = json!({ "object": "directory_user", "id": "u1", "directory_id": "d1" });
    let no_id = json!({ "object": "directory_user", "directory_id": "d1",
        "email": "Ana@foo.example" });
    for body in [
        created("u1", "d1", "ana", 1),
        created("u2", "d1", "bo", 2),
        event(3, "dsync.user.deleted", no_id),
        event(4, "dsync.group.user_removed", json!({ "directory_id": "d1", "user": ana })),
        event(5, "dsync.user.deleted", json!({ "object": "directory_group", "id": "u2" })),
        event(6, "dsync.deleted", json!({ "object": "directory_user", "id": "d1" })),
        event(7, "dsync.user.merged", json!({ "object": "directory_user", "id": "u1" })),
        created("u3", "d2", "cy", 8),
        event(
            9,
            "dsync.group.user_added",
            json!({ "directory_id": "d1", "user": ana, "group": group }),
        ),
        created("u4", "d1", "di", 10),
        created("u5", "d2", "ed", 11),
    ] {
        server.deliver(&body);
    }
    server
}

#[test]
fn the_newest_records_about_a_user_and_its_directory_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_quarantine(folder.path());
    for (query, user, directory) in [
        ("u1/last_heard", Some(9), Some(10)),
        ("u1/last_heard?known_at=9", Some(9), Some(9)),
        // What is in the quarantine was not understood.
        ("u1/last_heard?known_at=8", Some(1), Some(2)),
        ("u1/last_heard?as_of=2026-01-09T23:59:59Z", Some(9), Some(9)),
        ("u1/last_heard?as_of=2025-01-01T00:00:00Z", None, None),
        ("u2/last_heard", Some(2), Some(10)),
        ("u5/last_heard", Some(11), Some(11)),
    ] {
        let found = server.get(&format!("/rollcall/v1/users/{query}")).json();
        let seqs = [&found["user"]["seq"], &found["directory"]["seq"]].map(Value::as_u64);
        assert_eq!(seqs, [user, directory], "{query}: {found}");
    }
    let found = server.get("/rollcall/v1/users/u1/last_heard").json();
    assert_eq!((&found["user_id"], &found["directory_id"]), (&json!("u1"), &json!("d1")));
    let recorded = found["user"]["recorded_at"].clone();
    let expected = json!({ "seq": 9, "event_id": "event_9", "event": "dsync.group.user_added",
        "occurred_at": at(9), "recorded_at": recorded });
    assert_eq!(found["user"], expected);
    assert!(recorded.as_str().unwrap() > "2026-01-11", "{recorded}");
    for unknown in ["u6/last_heard", "u5/last_heard?known_at=10"] {
        let answer = server.get(&format!("/rollcall/v1/users/{unknown}"));
        assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("entity_not_found")));
    }
}

#[test]
fn an_operators_act_does_not_hide_the_silence_of_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_quarantine(folder.path());
    let link = json!({ "app_user_id": "app_1", "directory_user_id": "u2" });
    assert_eq!(server.put("/rollcall/v1/links", &link).status, 200);
    assert_eq!(server.delete("/rollcall/v1/links?directory_user_id=u2").status, 200);
    for (user, expected) in [("u1", [9, 10]), ("u2", [2, 10])] {
        let found = server.get(&format!("/rollcall/v1/users/{user}/last_heard")).json();
        assert_eq!([&found["user"]["seq"], &found["directory"]["seq"]], expected, "{found}");
    }
}

#[test]
fn the_quarantine_is_narrowed_to_a_user_an_email_or_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_quarantine(folder.path());
    let seqs = |answer: &Value| -> Vec<u64> {
        let entries = answer["data"].as_array().unwrap().iter();
        entries.map(|entry| entry["seq"].as_u64().unwrap()).collect()
    };
    for (query, expected) in [
        ("", &[3, 4, 5, 6, 7][..]),
        ("?user=u1", &[3, 4, 7]),
        ("?user=u2", &[5]),
        ("?email=ana%40foo.example", &[3]),
        ("?directory=d1", &[6]),
        ("?user=u1&email=ana%40foo.example&directory=d1", &[3, 4, 6, 7]),
        ("?user=u1&order=desc", &[7, 4, 3]),
        ("?user=nobody", &[]),
        ("?email=bo%40foo.example", &[]),
    ] {
        let answer = server.get(&format!("/rollcall/v1/quarantine{query}"));
        assert_eq!((answer.status, &seqs(&answer.json())[..]), (200, expected), "{query}");
    }
    let (mut found, mut pages, mut place) = (Vec::new(), 0, String::new());
    loop {
        let path = format!("/rollcall/v1/quarantine?user=u1&limit=2{place}");
        let page = server.get(&path).json();
        found.extend(seqs(&page));
        pages += 1;
        let Some(after) = page["list_metadata"]["after"].as_str() else { break };
        place = format!("&after={after}");
    }
    assert_eq!((found, pages), (vec![3, 4, 7], 3), "a page looks at two records");
}
