//! `rollcall audit` answers why a user still has access: the newest records about the user and its
//! directory, and the quarantine.

use serde_json::{Value, json};

use crate::calls::last_heard::with_quarantine;
use crate::cli::read::{ask, err, out};
use crate::kit::server::{Server, user};

/// Returns the time of a record as a page shows it: one in the quarantine, or the newest of a user
/// or a directory.
fn learnt(server: &Server, seq: u64) -> String {
    let mut entries = server.get("/rollcall/v1/quarantine").json()["data"].take();
    let heard = server.get("/rollcall/v1/users/u1/last_heard").json();
    entries.as_array_mut().unwrap().extend([heard["user"].clone(), heard["directory"].clone()]);
    let entry = entries.as_array().unwrap().iter().find(|entry| entry["seq"] == seq).unwrap();
    entry["recorded_at"].as_str().unwrap().replace('T', " ").replace('Z', " UTC")
}

#[test]
fn a_page_says_what_was_heard_last_and_what_could_not_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_quarantine(folder.path());
    let page = out(&ask(&server, &["audit", "u1"]));
    let at = |seq| learnt(&server, seq);
    let wanted = [
        "still has it, since no record has ended it".to_owned(),
        format!(
            "last heard of the user by record 9, dsync.group.user_added, of \
             2026-01-09 00:00:00.000 UTC, learnt on {}",
            at(9)
        ),
        format!(
            "last heard of the directory by record 10, dsync.user.created, of \
             2026-01-10 00:00:00.000 UTC, learnt on {}",
            at(10)
        ),
        format!(
            "! in the quarantine: record 7, dsync.user.merged, learnt on {}: unknown_type, this \
             version does not know the event's type; to see it: rollcall prove 7",
            at(7)
        ),
        format!(
            "! in the quarantine: record 6, dsync.deleted, learnt on {}: kind_mismatch, \
             `data.id` belongs to another kind of object; to see it: rollcall prove 6",
            at(6)
        ),
        format!(
            "! in the quarantine: record 4, dsync.group.user_removed, learnt on {}: \
             missing_field, `data.group` is missing or not an object; to see it: rollcall prove 4",
            at(4)
        ),
        format!(
            "! in the quarantine: record 3, dsync.user.deleted, learnt on {}: missing_field, \
             `data.id` is missing or not a string of 1 to 255 bytes; to see it: rollcall prove 3",
            at(3)
        ),
    ];
    let (answer, _) = page.split_once("\n\n").unwrap();
    let lines: Vec<&str> = answer.lines().skip(2).collect();
    assert_eq!(lines, wanted);
    // By then, none of it had come.
    let page = out(&ask(&server, &["audit", "u1", "--known-at", "2"]));
    let wanted = "in the quarantine: nothing about the user or the directory itself\n\n";
    assert!(page.contains(wanted) && !page.contains("prove 3"), "{page}");
    assert!(page.contains("last heard of the directory by record 2, "), "{page}");
    let seen = ask(&server, &["prove", "3"]);
    assert!(seen.status.success(), "{}", err(&seen));
}

#[test]
fn programs_read_the_same_in_the_first_lines() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_quarantine(folder.path());
    let told = out(&ask(&server, &["audit", "ana@foo.example", "--json"]));
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let accounts = json!({ "kind": "accounts", "email": "ana@foo.example", "accounts": 1,
        "with_access": 1 });
    assert_eq!(told[0], accounts);
    let heard = server.get("/rollcall/v1/users/u1/last_heard").json();
    let expected = json!({ "user": heard["user"], "directory": heard["directory"] });
    assert_eq!(told[1]["last_heard"], expected);
    let path = "/rollcall/v1/quarantine?user=u1&directory=d1&order=desc";
    let mut entries = server.get(path).json()["data"].take();
    for entry in entries.as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("object");
    }
    assert_eq!(told[1]["quarantine"], entries);
    assert!(told[1].get("quarantine_truncated").is_none(), "{}", told[1]);
    let told = out(&ask(&server, &["audit", "u1", "--json"]));
    let first: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    assert_eq!((&first["kind"], &first["user_id"]), (&json!("user"), &json!("u1")), "{told}");
}

#[test]
fn several_accounts_of_an_email_begin_with_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let tell = |id: &str, day: u32, change: &str| {
        let at = format!("2026-01-{day:02}T00:00:00Z");
        let event = format!("dsync.user.{change}");
        server.deliver(&user(id, &format!("d_{id}"), "ana", &at, &format!("e{day}"), &event));
    };
    let first = || {
        let page = out(&ask(&server, &["audit", "ana@foo.example"]));
        page.lines().take(2).collect::<Vec<_>>().join("|")
    };
    tell("u1", 1, "created");
    assert_eq!(first().split('|').next(), Some("ana, ana@foo.example"), "one account needs none");
    tell("u2", 2, "created");
    assert_eq!(first(), "2 of 2 accounts still have access|");
    tell("u2", 3, "deleted");
    assert_eq!(first(), "1 of 2 accounts still has access|");
    let then = ["audit", "ana@foo.example", "--known-at", "2"];
    assert!(out(&ask(&server, &then)).starts_with("2 of 2 accounts still have access\n\n"));
    tell("u1", 4, "deleted");
    assert_eq!(first(), "0 of 2 accounts still have access|");
    let told = out(&ask(&server, &["audit", "ana@foo.example", "--json"]));
    let accounts: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    assert_eq!((&accounts["accounts"], &accounts["with_access"]), (&json!(2), &json!(0)));
}

/// Delivers an event of a user whose type is unknown, dated and named by its number.
fn unused(server: &Server, number: u32, data: &Value) {
    let event = json!({ "object": "event", "id": format!("odd_{number}"),
        "event": "dsync.user.merged", "created_at": "2026-01-20T00:00:00Z", "data": data });
    server.deliver(&event.to_string());
}

/// Returns the records of the quarantine that a page shows.
fn shown(page: &str) -> Vec<u64> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("! in the quarantine: record "));
    lines.map(|line| line.split_once(',').unwrap().0.parse().unwrap()).collect()
}

fn first_line(printed: &str) -> Value {
    serde_json::from_str(printed.lines().next().unwrap()).unwrap()
}

#[test]
fn a_record_without_an_id_is_found_by_every_email_that_the_user_had() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let tell = |id: &str, name: &str, day: u32, change: &str| {
        let at = format!("2026-01-{day:02}T00:00:00Z");
        let event = format!("dsync.user.{change}");
        server.deliver(&user(id, "d1", name, &at, &format!("e{day}"), &event));
    };
    tell("u1", "ana", 1, "created");
    tell("u2", "ana", 2, "created");
    unused(&server, 3, &json!({ "email": "Ana@foo.example" }));
    unused(&server, 4, &json!({ "id": "u2", "email": "ana@foo.example" }));
    unused(&server, 5, &json!({ "emails": [{ "value": "eva@foo.example" }] }));
    tell("u1", "eva", 6, "updated");
    for (arguments, expected) in [
        // She is eva now; what came about ana is about her as well, and what names u2 is not.
        (&["audit", "u1"][..], &[5, 3][..]),
        (&["audit", "eva@foo.example"], &[5, 3]),
        // As of then she was ana. What was known then does not depend on that moment.
        (&["audit", "u1", "--as-of", "2026-01-02"], &[5, 3]),
        // The record of her new email had not come.
        (&["audit", "u1", "--known-at", "5"], &[3]),
        (&["audit", "u2"], &[4, 3]),
    ] {
        assert_eq!(shown(&out(&ask(&server, arguments))), expected, "{arguments:?}");
    }
    for (query, expected) in [
        ("user=u1", vec![3, 5]),
        ("user=u1&known_at=5", vec![3]),
        ("user=u1&known_at=2", vec![]),
        ("user=u1&email=bo%40foo.example", vec![3, 5]),
        ("email=ana%40foo.example", vec![3, 4]),
        ("email=ana%40foo.example&known_at=3", vec![3]),
    ] {
        let found = server.get(&format!("/rollcall/v1/quarantine?{query}")).json();
        let found = found["data"].as_array().unwrap().iter();
        let seqs: Vec<u64> = found.map(|entry| entry["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, expected, "{query}");
    }
    let beyond = server.get("/rollcall/v1/quarantine?known_at=7");
    assert_eq!(
        (beyond.status, beyond.json()["code"].as_str()),
        (422, Some("known_at_out_of_range"))
    );
}

#[test]
fn of_a_long_quarantine_the_newest_records_are_shown_and_the_cut_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(&user("u1", "d1", "ana", "2026-01-01T00:00:00Z", "e1", "dsync.user.created"));
    let deliver = |numbers: std::ops::RangeInclusive<u32>| {
        numbers.for_each(|number| unused(&server, number, &json!({ "id": "u1" })));
    };
    let page = || out(&ask(&server, &["audit", "u1"]));
    let json = || first_line(&out(&ask(&server, &["audit", "u1", "--json"])));
    deliver(2..=13);
    assert_eq!(shown(&page()), (4..=13).rev().collect::<Vec<u64>>());
    assert!(
        page().contains("! in the quarantine: 2 older ones, which --json lists\n"),
        "{}",
        page()
    );
    assert_eq!(json()["quarantine"].as_array().unwrap().len(), 12);
    deliver(14..=102);
    // 101 records; the oldest is cut off.
    let head = json();
    let seqs: Vec<u64> =
        head["quarantine"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (3..=102).rev().collect::<Vec<u64>>());
    assert_eq!(head["quarantine_truncated"], true);
    let all =
        server.get(&format!("{}&limit=1000", head["quarantine_url"].as_str().unwrap())).json();
    assert_eq!(all["data"].as_array().unwrap().len(), 101);
    let url = "/rollcall/v1/quarantine?user=u1&directory=d1&known_at=102&order=desc";
    assert_eq!(head["quarantine_url"], url);
    let more = format!("! in the quarantine: more than 90 older ones, which GET {url} lists\n");
    assert!(page().contains(&more), "{}", page());
}
