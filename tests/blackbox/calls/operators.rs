//! An operator's act is an event like any other: it counts from its moment, is known from its
//! record, and never changes an earlier answer.

use serde_json::{Value, json};

use crate::kit::model::{read_time, rfc3339};
use crate::kit::server::{API_KEY, Answer, Server, holds, now_ms};

fn second(second: u32) -> String {
    format!("2026-03-02T00:00:{second:02}.000Z")
}

/// Delivers an event at a time in RFC 3339.
fn event_at(server: &Server, id: &str, event: &str, at: &str, data: Value) -> u64 {
    server.deliver(&json!({ "id": id, "event": event, "created_at": at, "data": data }).to_string())
}

fn event(server: &Server, id: &str, event: &str, at: u32, data: Value) -> u64 {
    event_at(server, id, event, &second(at), data)
}

fn user(server: &Server, id: &str, at: u32, state: &str) -> u64 {
    event(
        server,
        id,
        "dsync.user.updated",
        at,
        json!({ "id": "U", "directory_id": "D", "state": state }),
    )
}

fn member(server: &Server, id: &str, at: u32) -> u64 {
    event(
        server,
        id,
        "dsync.group.user_added",
        at,
        json!({ "directory_id": "D", "user": { "id": "U" }, "group": { "id": "G" } }),
    )
}

/// A directory with a user in a group: records 1 to 3.
fn small_company(server: &Server) {
    event(
        server,
        "e1",
        "dsync.activated",
        1,
        json!({ "id": "D", "organization_id": "o", "name": "Foo" }),
    );
    user(server, "e2", 2, "active");
    member(server, "e3", 3);
}

/// Returns the seq of the newest record, by an answer's header.
fn head(server: &Server) -> u64 {
    server.get("/directories").header("rollcall-known-at").unwrap().parse().unwrap()
}

fn exists(server: &Server, path: &str, cut: &str) -> bool {
    let answer = server.get(&format!("{path}?{cut}"));
    assert!(
        answer.status == 200 || answer.code() == "entity_not_found",
        "{path}?{cut}: {}",
        answer.json()
    );
    answer.status == 200
}

/// Returns whether the directory, the user, the group and the membership exist.
fn there(server: &Server, cut: &str) -> [bool; 4] {
    let listed = |path: &str| !server.get(&format!("{path}&{cut}")).ids().is_empty();
    let found = ["/directories/D", "/directory_users/U", "/directory_groups/G"]
        .map(|path| exists(server, path, cut));
    let lists = [
        "/directories?organization_id=o",
        "/directory_users?directory=D",
        "/directory_groups?directory=D",
    ]
    .map(listed);
    assert_eq!(found, lists, "{cut}");
    let member = listed("/directory_users?group=G");
    assert_eq!(member, listed("/directory_groups?user=U"), "{cut}");
    [found[0], found[1], found[2], member]
}

fn accepted(answer: &Answer) {
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.body, b"Accepted");
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(answer.header("x-request-id").is_some());
}

/// The operator events of a type, as anyone may read them.
fn acts(server: &Server, name: &str) -> Vec<Value> {
    server.get(&format!("/events?events={name}&limit=100")).json()["data"]
        .as_array()
        .unwrap()
        .clone()
}

/// When an event happened.
fn moment_of(event: &Value) -> i64 {
    read_time(event["created_at"].as_str().unwrap()).unwrap()
}

/// Returns whether an id is `op_` and a UUID of version 7 of a moment.
fn is_operator_id(id: &str, moment: i64) -> bool {
    let Some(uuid) = id.strip_prefix("op_") else { return false };
    let plain: String = uuid.chars().filter(|char| *char != '-').collect();
    let hex = plain.len() == 32
        && plain.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    hex && uuid.len() == 36
        && plain.as_bytes()[12] == b'7'
        && i64::from_str_radix(&plain[..12], 16) == Ok(moment)
}

// --- Deletion of a directory ---

const ALL: [bool; 4] = [true; 4];
const NOTHING: [bool; 4] = [false; 4];

#[test]
fn deleting_a_directory_ends_all_in_it_from_now_on_and_changes_no_earlier_answer() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    small_company(&server);
    // The deletion has a millisecond of its own.
    std::thread::sleep(std::time::Duration::from_millis(2));
    let before = now_ms();
    accepted(&server.delete("/directories/D"));
    let after = now_ms();
    let told = acts(&server, "rollcall.directory.deleted");
    let [deletion] = told.as_slice() else { panic!("{told:?}") };
    let moment = moment_of(deletion);
    assert!((before..=after).contains(&moment), "it happens when it is recorded");
    let table = [
        (String::new(), NOTHING),
        ("known_at=4".to_owned(), NOTHING),
        ("known_at=3".to_owned(), ALL),
        (format!("as_of={}", rfc3339(moment)), NOTHING),
        (format!("as_of={}", rfc3339(moment - 1)), ALL),
        (format!("as_of={}&known_at=3", rfc3339(moment)), ALL),
        (format!("known_at={}", rfc3339(moment)), NOTHING),
        (format!("known_at={}", rfc3339(moment - 1)), ALL),
        (format!("as_of={}", second(2)), [true, true, false, false]),
    ];
    for (cut, expected) in &table {
        assert_eq!(there(&server, cut), *expected, "{cut}");
    }
    // The same again from the disk.
    assert_eq!(server.stop(), 0);
    let server = Server::start(folder.path());
    for (cut, expected) in &table {
        assert_eq!(there(&server, cut), *expected, "{cut}, after a restart");
    }
    assert_eq!(acts(&server, "rollcall.directory.deleted"), told);
}

#[test]
fn deleting_a_directory_once_more_is_accepted_and_recorded_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    small_company(&server);
    for _ in 0..3 {
        accepted(&server.delete("/directories/D"));
        assert_eq!(head(&server), 4);
    }
    assert_eq!(server.stop(), 0);
    let server = Server::start(folder.path());
    accepted(&server.delete("/directories/D"));
    assert_eq!((head(&server), acts(&server, "rollcall.directory.deleted").len()), (4, 1));
}

#[test]
fn a_directory_that_its_source_deleted_is_deleted_already() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    small_company(&server);
    event(&server, "e4", "dsync.deleted", 5, json!({ "id": "D" }));
    accepted(&server.delete("/directories/D"));
    assert_eq!(head(&server), 4);
}

#[test]
fn a_directory_that_nobody_ever_named_cannot_be_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    small_company(&server);
    for id in ["E", "d", "o", "U", "D%20"] {
        let answer = server.delete(&format!("/directories/{id}"));
        let id = id.replace("%20", " ");
        let expected = json!({ "message": format!("Directory not found: '{id}'."),
            "code": "entity_not_found", "entity_id": id });
        assert_eq!((answer.status, answer.json()), (404, expected));
    }
    assert_eq!((head(&server), there(&server, "")), (3, ALL));
}

#[test]
fn an_id_in_the_path_is_decoded_before_it_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    event(&server, "e1", "dsync.activated", 1, json!({ "id": "d/ü 1" }));
    accepted(&server.delete("/directories/d%2F%C3%BC%201"));
    assert!(!exists(&server, "/directories/d%2F%C3%BC%201", ""));
}

#[test]
fn a_directory_known_only_by_name_can_be_deleted_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    member(&server, "e1", 3);
    assert!(exists(&server, "/directories/D", ""));
    accepted(&server.delete("/directories/D"));
    assert_eq!((head(&server), there(&server, "")), (2, NOTHING));
    assert!(exists(&server, "/directories/D", &format!("as_of={}", second(3))));
    accepted(&server.delete("/directories/D"));
    assert_eq!(head(&server), 2);
}

#[test]
fn a_deletion_happens_no_earlier_than_the_millisecond_after_the_directorys_own_latest_event() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    small_company(&server);
    let ahead = now_ms() + 120_000;
    event_at(&server, "e4", "dsync.deactivated", &rfc3339(ahead), json!({ "id": "D" }));
    // What others say of it does not count.
    event_at(
        &server,
        "e5",
        "dsync.user.updated",
        &rfc3339(ahead + 30_000),
        json!({ "id": "U", "directory_id": "D" }),
    );
    accepted(&server.delete("/directories/D"));
    let told = acts(&server, "rollcall.directory.deleted");
    assert_eq!(told[0]["created_at"], rfc3339(ahead + 1));
    // The id says when it was recorded, and so does the time by which it was known.
    let recorded: String = told[0]["id"]
        .as_str()
        .unwrap()
        .chars()
        .filter(|char| *char != '-')
        .skip(3)
        .take(12)
        .collect();
    assert!((now_ms() - i64::from_str_radix(&recorded, 16).unwrap()).abs() < 60_000);
    // Until then all stands.
    assert_eq!(there(&server, &format!("as_of={}", rfc3339(now_ms()))), ALL);
    // The user's version is later than the deletion, but the directory stays deleted.
    assert_eq!(there(&server, ""), NOTHING);
    accepted(&server.delete("/directories/D"));
    assert_eq!(head(&server), 6);
}

#[test]
fn only_a_later_activation_brings_a_deleted_directory_back_and_not_what_was_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    small_company(&server);
    accepted(&server.delete("/directories/D"));
    let moment = moment_of(&acts(&server, "rollcall.directory.deleted")[0]);
    let at = |offset: i64| rfc3339(moment + offset);
    event_at(
        &server,
        "e4",
        "dsync.activated",
        &at(-1),
        json!({ "id": "D", "organization_id": "o" }),
    );
    event_at(
        &server,
        "e5",
        "dsync.deactivated",
        &at(1),
        json!({ "id": "D", "organization_id": "o" }),
    );
    assert_eq!(there(&server, ""), NOTHING);
    event_at(
        &server,
        "e6",
        "dsync.activated",
        &at(2),
        json!({ "id": "D", "organization_id": "o" }),
    );
    assert_eq!(there(&server, ""), [true, false, false, false]);
    event_at(
        &server,
        "e7",
        "dsync.user.updated",
        &at(3),
        json!({ "id": "U", "directory_id": "D" }),
    );
    assert_eq!(there(&server, ""), [true, true, false, false]);
    // A snapshot stands in for the group, which nobody ever announced.
    let pair = json!({ "directory_id": "D", "user": { "id": "U" }, "group": { "id": "G" } });
    event_at(&server, "e8", "dsync.group.user_added", &at(4), pair);
    assert_eq!(there(&server, ""), ALL);
    // It can be deleted once more, and that is another record.
    accepted(&server.delete("/directories/D"));
    assert_eq!((head(&server), there(&server, "")), (10, NOTHING));
}

#[test]
fn in_the_millisecond_of_a_deletion_the_end_wins() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    small_company(&server);
    accepted(&server.delete("/directories/D"));
    let moment = rfc3339(moment_of(&acts(&server, "rollcall.directory.deleted")[0]));
    event_at(&server, "zzz", "dsync.activated", &moment, json!({ "id": "D" }));
    event_at(
        &server,
        "zzzz",
        "dsync.user.updated",
        &moment,
        json!({ "id": "U", "directory_id": "D" }),
    );
    assert_eq!(there(&server, ""), NOTHING);
}

#[test]
fn an_operators_events_are_listed_only_by_their_own_names() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    small_company(&server);
    // Whoever else sends such a type is not believed.
    event(&server, "e4", "rollcall.directory.deleted", 4, json!({ "id": "D" }));
    event(&server, "e5", "rollcall.policy.set", 4, json!({ "inactive_users": "delete" }));
    assert_eq!(there(&server, ""), ALL);
    accepted(&server.delete("/directories/D"));
    let policy = server
        .put("/rollcall/v1/policy", &json!({ "inactive_users": "delete", "note": "cleaning up" }))
        .json();
    let deletions = acts(&server, "rollcall.directory.deleted");
    let policies = acts(&server, "rollcall.policy.set");
    let ([deletion], [setting]) = (deletions.as_slice(), policies.as_slice()) else {
        panic!("{deletions:?} {policies:?}")
    };
    assert!(
        holds(
            &json!({ "object": "event", "event": "rollcall.directory.deleted",
                "data": { "id": "D" } }),
            deletion
        ),
        "{deletion}"
    );
    let data = json!({ "inactive_users": "delete", "effective_from": policy["set_at"],
        "note": "cleaning up" });
    let expected = json!({ "object": "event", "event": "rollcall.policy.set",
        "created_at": policy["set_at"], "data": data });
    assert!(holds(&expected, setting), "{setting}");
    for told in [deletion, setting] {
        assert!(is_operator_id(told["id"].as_str().unwrap(), moment_of(told)), "{told}");
        assert_eq!(told["context"]["actor"]["id"], policy["set_by"], "{told}");
        assert!(!told.to_string().contains(API_KEY), "{told}");
    }
    let dsync = "dsync.deleted,dsync.activated,dsync.user.updated,dsync.group.user_added,\
        policy.set,rollcall";
    assert_eq!(server.get(&format!("/events?events={dsync}&limit=100")).ids(), ["e1", "e2", "e3"]);
    let all = server
        .get(&format!(
            "/events?events={dsync},rollcall.policy.set,rollcall.directory.deleted&limit=100"
        ))
        .ids();
    assert_eq!(all[3..], [deletion["id"].as_str().unwrap(), setting["id"].as_str().unwrap()]);
    assert_eq!(
        server
            .get(&format!("/events?events=dsync.user.updated,rollcall.policy.set&after={}", all[3]))
            .ids(),
        all[4..]
    );
    let quarantined = server.get("/rollcall/v1/quarantine").json();
    let listed: Vec<&Value> =
        quarantined["data"].as_array().unwrap().iter().map(|entry| &entry["event_id"]).collect();
    assert_eq!(listed, ["e4", "e5"]);
}

// --- Policy ---

const POLICY: &str = "/rollcall/v1/policy";

/// Record 4: the user of the small company is inactive from second 5 on.
fn company_with_inactive_user(server: &Server) {
    small_company(server);
    user(server, "e4", 5, "inactive");
}

fn set_policy(server: &Server, body: Value) -> Value {
    let answer = server.put(POLICY, &body);
    assert_eq!(answer.status, 200, "{body}: {}", answer.json());
    answer.json()
}

#[test]
fn before_any_policy_is_set_inactive_users_are_retained() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    company_with_inactive_user(&server);
    let expected = json!({
        "object": "policy", "version": 0, "inactive_users": "retain", "seq": null,
        "effective_from": null, "set_at": null, "set_by": null,
        "note": null,
    });
    let answer = server.get(POLICY);
    assert_eq!((answer.status, answer.json()), (200, expected));
    assert_eq!(
        (answer.header("rollcall-as-of"), answer.header("rollcall-known-at")),
        (Some("latest"), Some("4"))
    );
    assert_eq!(there(&server, ""), ALL);
}

#[test]
fn a_policy_counts_from_its_moment_and_is_known_from_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    company_with_inactive_user(&server);
    let before = now_ms();
    let set = set_policy(
        &server,
        json!({ "inactive_users": "delete", "effective_from": second(7), "note": "ticket 12" }),
    );
    let set_at = read_time(set["set_at"].as_str().unwrap()).unwrap();
    assert!((before..=now_ms()).contains(&set_at));
    let expected = json!({ "object": "policy", "version": 1, "inactive_users": "delete", "seq": 5,
        "effective_from": second(7), "note": "ticket 12" });
    assert!(holds(&expected, &set), "{set}");
    let gone = [true, false, true, false];
    let table = [
        (String::new(), 1, gone),
        ("known_at=5".to_owned(), 1, gone),
        ("known_at=4".to_owned(), 0, ALL),
        (format!("as_of={}", second(7)), 1, gone),
        (format!("as_of={}", second(6)), 0, ALL),
        (format!("as_of={}&known_at=4", second(7)), 0, ALL),
        (format!("known_at={}", rfc3339(set_at)), 1, gone),
        (format!("known_at={}", rfc3339(set_at - 1)), 0, ALL),
        (format!("as_of={}", rfc3339(set_at)), 1, gone),
    ];
    let check = |server: &Server, when: &str| {
        for (cut, version, expected) in &table {
            assert_eq!(there(server, cut), *expected, "{cut}, {when}");
            let policy = server.get(&format!("{POLICY}?{cut}"));
            assert_eq!(policy.json()["version"], *version, "{cut}, {when}");
            if *version == 1 {
                assert_eq!(policy.json(), set, "{cut}, {when}");
            }
        }
    };
    check(&server, "at once");
    assert_eq!(server.stop(), 0);
    check(&Server::start(folder.path()), "after a restart");
}

#[test]
fn without_a_moment_a_policy_counts_from_when_it_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    company_with_inactive_user(&server);
    for body in [
        json!({ "inactive_users": "delete" }),
        json!({ "inactive_users": "delete", "effective_from": null, "note": null }),
    ] {
        let set = set_policy(&server, body);
        assert_eq!((&set["effective_from"], &set["note"]), (&set["set_at"], &Value::Null));
    }
    let set_at = read_time(
        set_policy(&server, json!({ "inactive_users": "retain" }))["set_at"].as_str().unwrap(),
    )
    .unwrap();
    assert_eq!(there(&server, &format!("as_of={}", rfc3339(set_at))), ALL);
    assert_eq!(head(&server), 7, "each setting is a record, also one that changes nothing");
}

#[test]
fn setting_a_policy_overrides_all_earlier_ones_from_its_moment_on() {
    // (effective from, treatment) in the order of setting: records 5, 6, 7.
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    company_with_inactive_user(&server);
    for (from, treatment) in [(6, "delete"), (10, "retain"), (8, "delete")] {
        set_policy(&server, json!({ "inactive_users": treatment, "effective_from": second(from) }));
    }
    // The one of second 8, set last, overrides that of second 10.
    let table = [
        (5, None, 0, true),
        (6, None, 1, false),
        (8, None, 3, false),
        (10, None, 3, false),
        (12, None, 3, false),
        (12, Some(6), 2, true),
        (10, Some(6), 2, true),
        (9, Some(6), 1, false),
        (12, Some(5), 1, false),
        (12, Some(4), 0, true),
    ];
    for (at, known_at, version, there) in table {
        let known_at = known_at.map_or(String::new(), |seq: u64| format!("&known_at={seq}"));
        let cut = format!("as_of={}{known_at}", second(at));
        assert_eq!(server.get(&format!("{POLICY}?{cut}")).json()["version"], version, "{cut}");
        assert_eq!(exists(&server, "/directory_users/U", &cut), there, "{cut}");
    }
}

#[test]
fn under_the_policy_delete_memberships_end_with_the_active_version_and_return_with_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    set_policy(&server, json!({ "inactive_users": "delete", "effective_from": second(0) }));
    company_with_inactive_user(&server);
    user(&server, "e5", 8, "active");
    // Suspended counts as inactive; a membership added meanwhile waits for the user.
    event(
        &server,
        "e6",
        "dsync.user.updated",
        10,
        json!({ "id": "U", "directory_id": "D", "state": "suspended" }),
    );
    let pair = json!({ "directory_id": "D", "user": { "id": "U" }, "group": { "id": "H" } });
    event(&server, "e7", "dsync.group.user_added", 11, pair);
    event(&server, "e8", "dsync.user.updated", 12, json!({ "id": "U", "directory_id": "D" }));
    let table = [
        (4, true, "G"),
        (5, false, ""),
        (7, false, ""),
        (8, true, "G"),
        (10, false, ""),
        (11, false, ""),
        (12, true, "HG"),
    ];
    for (at, there, groups) in table {
        let cut = format!("as_of={}", second(at));
        assert_eq!(exists(&server, "/directory_users/U", &cut), there, "{cut}");
        assert_eq!(
            server.get(&format!("/directory_groups?user=U&{cut}")).ids().concat(),
            groups,
            "{cut}"
        );
        for group in ["G", "H"] {
            let members = server.get(&format!("/directory_users?group={group}&{cut}")).ids();
            assert_eq!(members.len(), usize::from(groups.contains(group)), "{group} {cut}");
            let shown =
                server.get(&format!("/directory_groups?directory=D&members=true&{cut}")).json();
            let shown = shown["data"].as_array().unwrap().iter().find(|shown| shown["id"] == group);
            let members = shown.map_or(0, |group| group["members"].as_array().unwrap().len());
            assert_eq!(members, usize::from(groups.contains(group)), "{group} {cut}");
        }
        let states = if there { vec!["U"] } else { vec![] };
        assert_eq!(
            server.get(&format!("/directory_users?directory=D&state=active&{cut}")).ids(),
            states,
            "{cut}"
        );
        assert!(
            server
                .get(&format!("/directory_users?directory=D&state=inactive&{cut}"))
                .ids()
                .is_empty(),
            "{cut}"
        );
    }
}

#[test]
fn a_membership_that_a_tombstone_ended_does_not_return_with_an_active_version() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    set_policy(&server, json!({ "inactive_users": "delete", "effective_from": second(0) }));
    company_with_inactive_user(&server);
    event(&server, "e5", "dsync.user.deleted", 6, json!({ "id": "U" }));
    user(&server, "e6", 8, "active");
    assert_eq!(there(&server, ""), [true, true, true, false]);
}

#[test]
fn a_setting_that_makes_no_sense_is_refused_whole_and_told_by_field() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    company_with_inactive_user(&server);
    let later = rfc3339(now_ms() + 3_600_000);
    let good = json!({ "inactive_users": "delete" });
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    let table = [
        (json!([]), "body"),
        (json!("delete"), "body"),
        (json!({}), "inactive_users"),
        (json!({ "inactive_users": "Delete" }), "inactive_users"),
        (json!({ "inactive_users": "" }), "inactive_users"),
        (json!({ "inactive_users": null }), "inactive_users"),
        (json!({ "inactive_users": ["delete"] }), "inactive_users"),
        (with("effective_from", json!(later)), "effective_from"),
        (with("effective_from", json!("yesterday")), "effective_from"),
        (with("effective_from", json!("2026-03-02")), "effective_from"),
        (with("effective_from", json!(7)), "effective_from"),
        (with("note", json!("x".repeat(1001))), "note"),
        (with("note", json!(["x"])), "note"),
        (with("notes", json!("x")), "notes"),
        (with("Inactive_users", json!("retain")), "Inactive_users"),
    ];
    for (body, field) in table {
        let answer = server.put(POLICY, &body);
        let problem = answer.json();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, "validation_failed"),
            "{body}: {problem}"
        );
        let fields: Vec<&str> = problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["field"].as_str().unwrap())
            .collect();
        assert_eq!(fields, [field], "{body}: {problem}");
    }
    let several = server
        .put(POLICY, &json!({ "inactive_users": "x", "effective_from": "x", "note": 1, "more": 1 }))
        .json();
    let mut fields: Vec<&str> = several["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    fields.sort_unstable();
    assert_eq!(fields, ["effective_from", "inactive_users", "more", "note"]);
    assert_eq!(head(&server), 4, "nothing was recorded");
    let note = "é".repeat(1000);
    assert_eq!(set_policy(&server, with("note", json!(note)))["note"], note);
}

#[test]
fn who_set_a_policy_is_named_without_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &[]);
    company_with_inactive_user(&server);
    let (first, second) = (
        set_policy(&server, json!({ "inactive_users": "delete" })),
        set_policy(&server, json!({ "inactive_users": "retain" })),
    );
    assert_eq!(first["set_by"], second["set_by"], "one key, one name");
    let name = first["set_by"].as_str().unwrap().to_owned();
    assert!(
        name.strip_prefix("key_").is_some_and(
            |rest| rest.len() >= 16 && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
        ),
        "{name}"
    );
    assert!(!first.to_string().contains(API_KEY));
    assert_eq!(server.stop(), 0);
    let server = Server::start(folder.path());
    assert_eq!(server.get(POLICY).json(), second, "and the same name at every start");
}

#[test]
fn an_act_needs_a_key_a_known_method_and_no_cut() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    company_with_inactive_user(&server);
    let agent = crate::kit::server::agent();
    let setting = json!({ "inactive_users": "delete" }).to_string();
    for key in [None, Some("Bearer sk_other"), Some("Bearer "), Some("Basic sk_test")] {
        let path = |path: &str| format!("{}{path}", server.url);
        let put = agent.put(path(POLICY));
        let put = key
            .map_or(agent.put(path(POLICY)), |key| put.header("Authorization", key))
            .send(&setting)
            .unwrap();
        let delete = agent.delete(path("/directories/D"));
        let delete = key
            .map_or(agent.delete(path("/directories/D")), |key| delete.header("Authorization", key))
            .call()
            .unwrap();
        let get = key.map_or(server.get_with(POLICY, &[]), |key| {
            server.get_with(POLICY, &[("Authorization", key)])
        });
        assert_eq!(
            (put.status().as_u16(), delete.status().as_u16(), get.status),
            (401, 401, 401),
            "{key:?}"
        );
        assert_eq!(get.code(), "unauthorized");
    }
    for (answer, allowed) in [
        (server.ask_with(POLICY, &json!({}), &[]), "GET, HEAD, PUT"),
        (server.delete(POLICY), "GET, HEAD, PUT"),
        (server.put("/directories/D", &json!({})), "DELETE, GET, HEAD"),
        (server.delete("/directories"), "GET, HEAD"),
    ] {
        assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
        let mut allow: Vec<&str> = answer.header("allow").unwrap_or_default().split(", ").collect();
        allow.sort_unstable();
        assert_eq!(allow.join(", "), allowed);
    }
    // A cut is for questions; an act happens now.
    for cut in ["as_of=latest", "known_at=1", "inactive_users=delete"] {
        assert_eq!(
            server.put(&format!("{POLICY}?{cut}"), &json!({ "inactive_users": "delete" })).status,
            422,
            "{cut}"
        );
        assert_eq!(server.delete(&format!("/directories/D?{cut}")).status, 422, "{cut}");
    }
    assert_eq!((head(&server), there(&server, "")), (4, ALL));
}

#[test]
fn a_policy_is_asked_for_at_a_cut_that_exists() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    company_with_inactive_user(&server);
    let later = rfc3339(now_ms() + 3_600_000);
    for (cut, code) in [
        (format!("as_of={later}"), "as_of_in_future"),
        ("known_at=5".to_owned(), "known_at_out_of_range"),
        ("limit=1".to_owned(), "validation_failed"),
    ] {
        let answer = server.get(&format!("{POLICY}?{cut}"));
        assert_eq!((answer.status, answer.code().as_str()), (422, code), "{cut}");
    }
}
