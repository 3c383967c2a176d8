//! `GET /rollcall/v1/stats`: counts of deliveries and of people.

use rollcall::keys::KeyEntry;
use serde_json::{Value, json};

use crate::kit::keyed::{Keyed, entry};
use crate::kit::server::{SECRET, Server, now_ms, signature, user};

fn event(id: &str, kind: &str, data: Value) -> String {
    json!({"id": id, "event": kind, "created_at": "2026-01-01T00:00:00.000Z", "data": data})
        .to_string()
}

fn person(number: u32, directory: &str, id: &str, kind: &str) -> String {
    user(
        &format!("directory_user_{number}"),
        directory,
        "ada",
        "2026-01-01T00:00:00.000Z",
        id,
        kind,
    )
}

#[test]
fn a_directory_shows_who_is_in_it_and_what_came_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = |id: &str, organization: &str| -> Value {
        json!({"id": id, "organization_id": organization, "name": "Foo"})
    };
    let member = json!({"directory_id": "directory_1", "user": {"id": "directory_user_1"},
        "group": {"id": "directory_group_1", "directory_id": "directory_3"}});
    for body in [
        event("e1", "dsync.activated", directory("directory_1", "org_1")),
        person(1, "directory_1", "e2", "dsync.user.created"),
        person(2, "directory_1", "e3", "dsync.user.created"),
        person(3, "directory_1", "e4", "dsync.user.created"),
        event(
            "e5",
            "dsync.user.updated",
            json!({"id": "directory_user_2", "directory_id": "directory_1", "state": "inactive",
                "updated_at": "2026-01-01T00:00:01Z"}),
        ),
        event("e6", "dsync.user.deleted", json!({"id": "directory_user_3"})),
        event(
            "e7",
            "dsync.group.created",
            json!({"id": "directory_group_2", "directory_id": "directory_1"}),
        ),
        event("e8", "dsync.group.user_added", member),
        event("e9", "dsync.deactivated", directory("directory_2", "org_2")),
        event("e10", "dsync.nobody.knows", json!({})),
        event("e11", "connection.activated", json!({})),
    ] {
        server.deliver(&body);
    }
    let before = now_ms();
    let answer = server.get("/rollcall/v1/stats");
    assert_eq!(answer.status, 200);
    let stats = answer.json();
    let all = json!({"last_minute": 11, "last_hour": 11, "last_day": 11, "last_30_days": 11});
    assert_eq!((&stats["seq"], &stats["events"]), (&json!(11), &all));
    assert_eq!(stats["rate_per_s"], json!({"last_minute": 0.18, "last_hour": 0.0}));
    let kinds = json!({
        "dsync.activated": 1, "dsync.user.created": 3, "dsync.user.updated": 1,
        "dsync.user.deleted": 1, "dsync.group.created": 1,
        "dsync.group.user_added": 1,
    });
    let directories = stats["directories"]["data"].as_array().unwrap();
    assert_eq!(
        directories.iter().map(|directory| &directory["id"]).collect::<Vec<_>>(),
        ["directory_1", "directory_2", "directory_3"]
    );
    let mut first = directories[0].clone();
    let last_event_at = first["last_event_at"].as_str().unwrap().to_owned();
    let silent_ms = first["silent_ms"].as_i64().unwrap();
    assert!(
        last_event_at.as_str() > "2026-11"
            && last_event_at.as_str() <= stats["at"].as_str().unwrap()
            && silent_ms >= 0
    );
    assert!(silent_ms <= now_ms() - before + 600_000);
    let sync = first["initial_sync"].take();
    assert_eq!(
        (&sync["state"], &sync["users"], &sync["groups"], &sync["memberships"]),
        (&json!("in_progress"), &json!(3), &json!(1), &json!(1))
    );
    assert_eq!(
        first,
        json!({
            "object": "directory_stats", "id": "directory_1", "name": "Foo",
            "organization_id": "org_1", "state": "linked",
            "users": {"active": 1, "inactive": 1}, "groups": 1,
            "events": {"last_hour": kinds, "last_day": kinds, "last_30_days": kinds},
            "last_event_at": last_event_at, "silent_ms": silent_ms, "initial_sync": null,
            "scim": null,
        })
    );
    let second = &directories[1];
    assert_eq!(
        (&second["state"], &second["initial_sync"], &second["users"]["active"]),
        (&json!("unlinked"), &json!(null), &json!(0))
    );
    // The third is only named by a snapshot; the group in it has nothing to do with what came for
    // others.
    let third = &directories[2];
    assert_eq!(
        (&third["groups"], &third["last_event_at"], &third["silent_ms"]),
        (&json!(1), &json!(null), &json!(null))
    );
    let ids = |query: &str| {
        let stats = server.get(&format!("/rollcall/v1/stats?{query}")).json();
        let data = stats["directories"]["data"].as_array().unwrap().iter();
        (
            data.map(|directory| directory["id"].clone()).collect::<Vec<_>>(),
            stats["directories"]["list_metadata"]["after"].clone(),
        )
    };
    assert_eq!(
        ids("limit=2"),
        (vec![json!("directory_1"), json!("directory_2")], json!("directory_2"))
    );
    assert_eq!(ids("limit=2&after=directory_2"), (vec![json!("directory_3")], json!(null)));
    assert_eq!(ids("order=desc&limit=1"), (vec![json!("directory_3")], json!("directory_3")));
    assert_eq!(ids("organization_id=org_2"), (vec![json!("directory_2")], json!(null)));
    assert_eq!(ids("directory=directory_2"), (vec![json!("directory_2")], json!(null)));
    assert_eq!(ids("directory=directory_2&organization=org_1").0, [json!(null); 0]);
    let never = server.get("/rollcall/v1/stats?directory=never");
    assert_eq!((never.status, &never.json()["code"]), (404, &json!("entity_not_found")));
    for query in ["as_of=2026-01-01T00:00:00Z", "known_at=1", "limit=0", "limit=1001", "foo=1"] {
        assert_eq!(server.get(&format!("/rollcall/v1/stats?{query}")).status, 422, "{query}");
    }
}

#[test]
fn what_was_refused_or_came_again_is_counted_by_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let body = person(1, "directory_1", "e1", "dsync.user.created");
    let changed = person(2, "directory_1", "e1", "dsync.user.created");
    for body in [
        &body,
        &body,
        &changed,
        &changed,
        &body,
        &"hello".to_owned(),
        &event("e2", "dsync.nobody.knows", json!({})),
    ] {
        server.deliver(body);
    }
    let bytes = body.as_bytes();
    let old = (now_ms() - 3_600_000).to_string();
    let now = now_ms().to_string();
    for (times, header) in [
        (1, None),
        (2, Some("t=soon, v1=00".to_owned())),
        (3, Some(signature("whsec_wrong", &now, bytes))),
        (4, Some(signature(SECRET, &old, bytes))),
    ] {
        for _ in 0..times {
            let headers: Vec<(&str, &str)> =
                header.iter().map(|value| ("WorkOS-Signature", value.as_str())).collect();
            assert_eq!(server.post_with(bytes, &headers).status, 401);
        }
    }
    let stats = server.get("/rollcall/v1/stats").json();
    let failures = json!({"signature_missing": 1, "signature_malformed": 2, "signature_mismatch": 3,
        "timestamp_outside_tolerance": 4});
    assert_eq!(stats["signature_failures"], failures);
    // Twice the first content again, and once the other.
    assert_eq!(
        (&stats["duplicates"], &stats["conflicts"], &stats["seq"]),
        (&json!(3), &json!(1), &json!(4))
    );
    let quarantine = json!({
        "not_an_event": 1, "reserved_type": 0, "unknown_type": 1, "missing_field": 0,
        "kind_mismatch": 0, "too_deep": 0, "conflict": 1, "clock_ahead": 0,
        "overtaken": 0, "lost": 0, "repeated": 0,
        "foreign_directory": 0,
    });
    assert_eq!(stats["quarantine"], quarantine);
    // What the log keeps is still counted after a restart; what it does not keep is not.
    assert_eq!(server.stop(), 0);
    let stats = Server::start(folder.path()).get("/rollcall/v1/stats").json();
    assert_eq!(
        (&stats["duplicates"], &stats["conflicts"], &stats["quarantine"]),
        (&json!(0), &json!(1), &quarantine)
    );
    assert_eq!(stats["signature_failures"]["signature_mismatch"], 0);
}

#[test]
fn delays_are_those_between_happening_and_recording() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let none = json!({"last_hour": null, "last_day": null});
    assert_eq!(server.get("/rollcall/v1/stats").json()["delay_ms"], none);
    let hour_ago =
        chrono::DateTime::from_timestamp_millis(now_ms() - 3_600_000).unwrap().to_rfc3339();
    server.deliver(&user(
        "directory_user_1",
        "directory_1",
        "ada",
        &hour_ago,
        "e1",
        "dsync.user.created",
    ));
    let delays = server.get("/rollcall/v1/stats").json()["delay_ms"]["last_hour"].clone();
    let delay = delays["p50"].as_i64().unwrap();
    assert!(delay >= 3_600_000, "{delays}");
    assert_eq!(delays, json!({"p50": delay, "p99": delay, "max": delay}));
}

#[test]
fn a_backfilled_history_is_no_delay_and_its_initial_sync_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let tell = |id: &str, days: i64, kind: &str| {
        let at = crate::kit::model::rfc3339(now_ms() - days * 86_400_000);
        server.deliver(&user("directory_user_1", "directory_1", "ada", &at, id, kind))
    };
    let activated = crate::kit::model::rfc3339(now_ms() - 454 * 86_400_000);
    server.deliver(
        &json!({ "id": "e1", "event": "dsync.activated", "created_at": activated,
            "data": { "id": "directory_1" } })
        .to_string(),
    );
    tell("e2", 454, "dsync.user.created");
    let stats = server.get("/rollcall/v1/stats").json();
    assert_eq!(stats["directories"]["data"][0]["initial_sync"]["state"], "in_progress");
    tell("e3", 4, "dsync.user.updated");
    let stats = server.get("/rollcall/v1/stats").json();
    assert_eq!(stats["delay_ms"], json!({"last_hour": null, "last_day": null}));
    assert_eq!(stats["backfilled"], json!({"last_hour": 3, "last_day": 3}));
    let sync = &stats["directories"]["data"][0]["initial_sync"];
    assert_eq!((&sync["state"], &sync["users"]), (&json!("done"), &json!(1)));
    tell("e4", 2, "dsync.user.updated");
    let stats = server.get("/rollcall/v1/stats").json();
    assert!(stats["delay_ms"]["last_hour"]["max"].as_i64() >= Some(2 * 86_400_000));
    assert_eq!(stats["backfilled"]["last_hour"], 3);
}

#[test]
fn the_condition_says_what_an_operator_must_look_at_and_nothing_of_it_to_a_bound_key() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let condition = || server.get("/rollcall/v1/stats").json()["condition"].clone();
    let before = condition();
    let disk = &before["disk"];
    assert!(disk["free_bytes"].as_u64().unwrap() > 0, "{before}");
    assert_eq!(disk["reserve_bytes"], 16 << 20);
    assert_eq!(before["mappings"], json!({"bytes": 0, "bytes_max": 256 << 20}));
    assert_eq!(before["last_refused_at"]["signature_mismatch"], Value::Null);
    assert_eq!(before["quarantine_last_day"]["unknown_type"], 0);

    // An unknown type goes to the quarantine; a wrong signature is refused.
    server.deliver(&event("e1", "dsync.nobody.knows", json!({})));
    let wrong = signature("whsec_other", &now_ms().to_string(), b"{}");
    assert_eq!(server.post_with(b"{}", &[("WorkOS-Signature", &wrong)]).status, 401);
    let mapping = json!({"mode": "all", "default_roles": ["member"], "priority": ["member"],
        "rules": [{"group": {"name": "Platform"}, "roles": ["member"]}]});
    let set = server.put("/rollcall/v1/role_mapping", &json!({"mapping": mapping}));
    assert_eq!(set.status, 200, "{}", String::from_utf8_lossy(&set.body));
    let after = condition();
    assert_eq!(after["quarantine_last_day"]["unknown_type"], 1);
    assert!(after["last_refused_at"]["signature_mismatch"].is_string(), "{after}");
    assert_eq!(after["last_refused_at"]["body_too_large"], Value::Null);
    assert!(after["mappings"]["bytes"].as_u64().unwrap() > 0, "{after}");
}

#[test]
fn a_key_that_is_bound_to_organizations_sees_no_condition() {
    let organizations = Some(vec!["org_1".to_owned()]);
    let bound = KeyEntry { organizations, ..entry("bound", &["read"]) };
    let server = Keyed::start(&[bound, entry("free", &["read"])], &[]);
    let condition = |name| server.get(name, "/rollcall/v1/stats").json()["condition"].clone();
    assert_eq!(condition("bound"), Value::Null);
    // A log in memory has no disk.
    assert_eq!(condition("free")["disk"], Value::Null);
    assert_eq!(condition("free")["mappings"]["bytes"], 0);
}
