//! The rules of semantics.md on small histories, each answer worked out by hand.

use serde_json::{Value, json};

use crate::kit::case::{Case, LATEST, at, ids_of, known, ms, second};
use crate::kit::model::{Cut, read_time, rfc3339, ulid_ms};

#[test]
fn rule_1_both_cuts_include_their_bound_and_hide_the_rest() {
    let mut case = Case::default();
    case.user("created", 5, "U").user("deleted", 7, "U");
    let just_before = Cut { as_of_ms: Some(ms(5) - 1), known_at: None };
    assert!(!case.has("/directory_users/U", just_before));
    assert!(case.has("/directory_users/U", at(5)));
    assert!(!case.has("/directory_users/U", at(7)));
    assert!(case.has("/directory_users/U", known(1)));
    assert!(!case.has("/directory_users/U", known(2)));
    assert!(!case.has("/directory_users/U", known(0)));
    assert!(!case.has("/directory_users/U", Cut { as_of_ms: Some(ms(4)), known_at: Some(1) }));
}

#[test]
fn rule_2_an_event_up_to_three_minutes_ahead_counts_at_once() {
    let mut case = Case::default();
    let body = json!({ "id": "a", "event": "dsync.user.created",
        "created_at": rfc3339(ms(59) + 180_000), "data": { "id": "U", "directory_id": "D" } });
    case.deliver(body);
    assert!(case.has("/directory_users/U", LATEST));
    assert!(!case.has("/directory_users/U", at(59)));
    assert_eq!(case.moments(), [ms(59) + 180_000]);
    assert_eq!(case.reasons(), []);
}

#[test]
fn rule_2_a_date_in_the_future_does_not_outlive_the_deletion_that_follows() {
    let mut case = Case::default();
    let user = |id: &str, change: &str, at_ms: i64| {
        let data = json!({ "id": "U", "directory_id": "D" });
        json!({ "id": id, "event": format!("dsync.user.{change}"), "created_at": rfc3339(at_ms),
            "data": data })
        .to_string()
    };
    let ahead = ms(10) + 600_000;
    case.deliver_bytes(user("e1", "created", ms(0)).as_bytes(), ms(0));
    case.deliver_bytes(user("e2", "updated", ahead).as_bytes(), ms(10));
    case.deliver_bytes(user("e3", "deleted", ms(20)).as_bytes(), ms(20));
    assert_eq!(case.moments(), [0, 10, 20].map(ms));
    assert!(case.has("/directory_users/U", at(19)));
    assert!(!case.has("/directory_users/U", at(20)));
    assert!(!case.has("/directory_users/U", LATEST));
    assert_eq!(case.reasons(), [(2, "clock_ahead".to_owned())]);
    assert!(case.details()[0].contains(&rfc3339(ahead)), "{:?}", case.details());
    let lost = case.deprovisionings(&[], LATEST);
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0]["occurred_at"], second(20));
    let changes = case.all_changes();
    let told: Vec<&Value> = changes.iter().map(|change| &change["change"]).collect();
    assert_eq!(told, ["access_granted", "access_ended"]);
}

#[test]
fn rule_2_bounds_every_time_that_an_event_may_have() {
    let ahead = "2099-01-01T00:00:00.000Z";
    let user = json!({ "id": "U", "directory_id": "D", "updated_at": ahead });
    let member = json!({ "directory_id": "D", "user": { "id": "U" }, "group": { "id": "G" } });
    let cases = [
        ("a", "dsync.user.created", json!(ahead), &user),
        ("event_03PFAH5B000000000000000000", "dsync.user.deleted", Value::Null, &user),
        ("c", "dsync.user.updated", Value::Null, &user),
        ("d", "dsync.activated", json!(ahead), &json!({ "id": "D" })),
        ("e", "dsync.deleted", json!(ahead), &json!({ "id": "D" })),
        ("f", "dsync.group.user_added", json!(ahead), &member),
        ("g", "dsync.token.created", json!(ahead), &json!({ "id": "t" })),
        ("h", "user.updated", json!(ahead), &Value::Null),
    ];
    for (id, event, created_at, data) in cases {
        let mut case = Case::default();
        case.deliver(json!({ "id": id, "event": event, "created_at": created_at, "data": data }));
        // Compares the moment that the list of events shows with the model's.
        case.moments();
        assert_eq!(case.list("/events", &[("events", event)], at(59)), [id], "{event}");
        assert_eq!(case.reasons(), [(1, "clock_ahead".to_owned())], "{event}");
    }
}

/// One event of a history: the type, and the second at which it happens.
type Told = (&'static str, u32);

/// Plays a history, all of it recorded at second 59. An inactive version is `user.suspended` here.
fn play(told: &[Told]) -> Case {
    let mut case = Case::default();
    for (event, at) in told {
        match *event {
            "user.suspended" => {
                let data = json!({ "id": "U", "directory_id": "D", "state": "inactive" });
                case.tell("dsync.user.updated", *at, data)
            }
            "added" | "removed" => case.member(event, *at),
            _ => match event.split_once('.') {
                Some(("user", change)) => case.user(change, *at, "U"),
                Some((_, change)) => case.group(change, *at, "G"),
                None => case.directory(event, *at),
            },
        };
    }
    case
}

#[test]
fn rule_2_an_ending_that_ends_nothing_because_of_a_later_date_is_listed_and_names_it() {
    let cases: [(&[Told], u64); 8] = [
        (&[("user.created", 0), ("user.updated", 20), ("user.deleted", 10)], 2),
        (&[("user.updated", 20), ("user.deleted", 10)], 1),
        (&[("user.created", 0), ("user.updated", 20), ("user.suspended", 10)], 2),
        // The user is there, and without access by both; the source has deleted it.
        (&[("user.created", 0), ("user.suspended", 20), ("user.deleted", 10)], 2),
        // The latest is named, by which the user is there.
        (
            &[("user.updated", 30), ("user.created", 0), ("user.updated", 20), ("user.deleted", 9)],
            1,
        ),
        // Only the directory keeps the user from access, and may become active again.
        (
            &[
                ("activated", 0),
                ("user.created", 1),
                ("deactivated", 5),
                ("user.updated", 20),
                ("user.deleted", 10),
            ],
            4,
        ),
        (&[("activated", 0), ("activated", 20), ("deleted", 10)], 2),
        (
            &[
                ("activated", 0),
                ("user.created", 5),
                ("user.updated", 15),
                ("activated", 20),
                ("deleted", 10),
            ],
            4,
        ),
    ];
    for (told, later) in cases {
        let case = play(told);
        assert_eq!(case.reasons(), [(case.head(), "overtaken".to_owned())], "{told:?}");
        let detail = &case.details()[0];
        assert!(detail.contains(&format!("record {later} ")), "{told:?}: {detail}");
    }
}

#[test]
fn rule_2_an_ending_that_ends_access_or_comes_after_another_is_not_listed() {
    let cases: [&[Told]; 10] = [
        &[("user.created", 0), ("user.deleted", 10)],
        // The user had no access any more.
        &[("user.created", 0), ("user.deleted", 20), ("user.deleted", 10)],
        &[("user.created", 0), ("user.deleted", 20), ("user.suspended", 10)],
        &[("user.created", 0), ("user.suspended", 20), ("user.suspended", 10)],
        &[("activated", 0), ("user.updated", 20), ("deleted", 30), ("user.deleted", 10)],
        // A snapshot never outlives a deletion, and memberships and groups are not access.
        &[("added", 20), ("user.deleted", 10)],
        &[("user.created", 0), ("added", 20), ("removed", 10)],
        &[("group.created", 0), ("group.updated", 20), ("group.deleted", 10)],
        // The directory comes back without the user.
        &[("activated", 0), ("user.created", 5), ("activated", 20), ("deleted", 10)],
        &[("activated", 0), ("activated", 20), ("deactivated", 10)],
    ];
    for told in cases {
        assert_eq!(play(told).reasons(), [], "{told:?}");
    }
}

#[test]
fn rule_2_lists_an_overtaken_event_once_and_for_both_reasons_if_it_has_them() {
    let mut case = play(&[("user.created", 0), ("user.updated", 40)]);
    let deleted = json!({ "id": "x", "event": "dsync.user.deleted",
        "created_at": "2099-01-01T00:00:00Z", "data": { "id": "U" } });
    for _ in 0..2 {
        case.deliver_bytes(deleted.to_string().as_bytes(), ms(59) + 1);
    }
    assert_eq!(case.reasons(), [(3, "clock_ahead".to_owned())]);
    let mut case = Case::default();
    let updated = json!({ "id": "y", "event": "dsync.user.updated", "created_at": second(40),
        "data": { "id": "U", "directory_id": "D" } });
    case.deliver_bytes(updated.to_string().as_bytes(), ms(10));
    for _ in 0..2 {
        case.deliver_bytes(deleted.to_string().as_bytes(), ms(10));
    }
    assert_eq!(case.reasons(), [(2, "clock_ahead".to_owned()), (2, "overtaken".to_owned())]);
}

#[test]
fn rule_3_occurred_at_is_the_first_time_there_is() {
    let ulid = "01K9AAAAAA0000000000000000";
    let of_ulid = ulid_ms(ulid).expect("a time");
    let updated = "2026-01-01 00:00:01";
    let of_data = read_time(updated).expect("a time");
    let (upper, lower) = (format!("wh_{ulid}"), format!("wh_{}", ulid.to_lowercase()));
    let cases = [
        ("a", "created", json!("2026-02-01T00:00:00.0019+0000"), 1_769_904_000_001),
        (&upper, "created", json!(17), of_ulid),
        (&lower, "created", json!("2026-02-01"), of_ulid),
        (&upper, "created", json!("2026-02-01T00:00:60Z"), of_ulid),
        (ulid, "deleted", Value::Null, of_ulid),
        ("x_81K9AAAAAA0000000000000000", "created", Value::Null, of_data),
        ("x_01K9AAAAAAI000000000000000", "created", Value::Null, of_data),
        ("x_7ZZZZZZZZZ0000000000000000", "created", Value::Null, of_data),
        ("event_1", "created", Value::Null, of_data),
        ("event_2", "deleted", Value::Null, ms(59)),
    ];
    for (id, change, created_at, expected) in cases {
        let mut case = Case::default();
        let data = json!({ "id": "U", "directory_id": "D", "updated_at": updated });
        let event = format!("dsync.user.{change}");
        case.deliver(json!({ "id": id, "event": event, "created_at": created_at, "data": data }));
        assert_eq!(case.moments(), [expected], "{id} {change} {created_at}");
    }
}

#[test]
fn times_are_read_by_the_grammar_alone() {
    let same = [
        "2026-01-01T01:30:00.120Z",
        "2026-01-01t01:30:00.1209z",
        "2026-01-01 03:30:00.12+02:00",
        "2025-12-31T23:00:00.12-0230",
    ];
    for text in same {
        assert_eq!(
            read_time(text).map(rfc3339).as_deref(),
            Some("2026-01-01T01:30:00.120Z"),
            "{text}"
        );
    }
    let bad = [
        "",
        "2026-01-01",
        "2026-01-01T01:30",
        "2026-01-01T01:30:60Z",
        "2026-01-01T24:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        " 2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z ",
        "2026-01-01  00:00:00Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00+2",
        "2026-01-01T00:00:00+01",
        "2026-01-01T00:00:00+24:00",
        "+2026-01-01T00:00:00",
        "2026-01-01T0é:00:00",
        "20€6-01-01T00:00:00",
    ];
    for text in bad {
        assert_eq!(read_time(text), None, "{text}");
    }
    assert_eq!(read_time("1970-01-01T00:00:00"), Some(0));
    assert_eq!(read_time("2024-02-29T00:00:00Z"), Some(1_709_164_800_000));
    assert_eq!(read_time("0000-03-01T00:00:00Z"), Some(-62_162_035_200_000));
    assert_eq!(rfc3339(-62_162_035_200_000), "0000-03-01T00:00:00.000Z");
}

#[test]
fn rule_4_created_at_goes_before_updated_at() {
    let mut case = Case::default();
    let data = |name: &str, updated: u32| -> Value {
        json!({ "id": "U", "directory_id": "D", "name": name, "updated_at": second(updated) })
    };
    case.tell("dsync.user.updated", 11, data("Y", 8)).tell("dsync.user.updated", 10, data("X", 9));
    assert_eq!(case.item("/directory_users/U", LATEST).expect("a user")["name"], "Y");
}

#[test]
fn rule_5_an_event_without_any_time_takes_its_first_deliverys() {
    let mut case = Case::default();
    let body = br#"{"id":"a","event":"dsync.user.deleted","data":{"id":"U"}}"#;
    case.deliver_bytes(body, 500);
    case.deliver_bytes(body, 100);
    assert_eq!(case.moments(), [500]);
}

#[test]
fn rule_7_a_body_that_is_no_event_is_listed_and_occupies_no_id() {
    let mut case = Case::default();
    let bodies = [
        json!([]),
        json!("x"),
        json!({}),
        json!({ "id": "a" }),
        json!({ "id": "a", "event": "" }),
        json!({ "id": "a", "event": 1 }),
        json!({ "id": "", "event": "e" }),
        json!({ "id": "op_a", "event": "e" }),
        json!({ "id": "obs_a", "event": "e" }),
        json!({ "id": "run_a", "event": "e" }),
        json!({ "id": "a\n", "event": "e" }),
        json!({ "id": "x".repeat(256), "event": "e" }),
    ];
    for (index, body) in bodies.iter().enumerate() {
        let seq = index as u64 + 1;
        assert_eq!(case.deliver(body.clone()).seq, seq);
        let again = case.deliver(body.clone());
        assert_eq!((again.seq, again.duplicate, again.conflict), (seq, true, false));
    }
    assert_eq!(case.reasons().len(), bodies.len());
    assert!(case.reasons().iter().all(|(_, reason)| reason == "not_an_event"));
    let usable = json!({ "id": "a", "event": "dsync.user.created",
        "data": { "id": "U", "directory_id": "D" } });
    let first = case.deliver(usable);
    assert!(!first.duplicate && !first.conflict);
    assert!(case.has("/directory_users/U", LATEST));
}

#[test]
fn rule_7_of_a_key_given_twice_the_last_counts_and_rollcall_types_do_nothing() {
    let mut case = Case::default();
    let twice = br#"{"id":"x","event":"e","id":"a","event":"dsync.user.created",
        "data":{"id":"V","id":"U","directory_id":"D"}}"#;
    assert_eq!(case.deliver_bytes(twice, ms(59)).event_id.as_deref(), Some("a"));
    assert!(case.has("/directory_users/U", LATEST));
    case.tell("rollcall.directory.deleted", 9, json!({ "id": "D" }));
    assert!(case.has("/directories/D", LATEST));
    assert_eq!(case.reasons(), [(2, "reserved_type".to_owned())]);
}

#[test]
fn rule_8_an_event_that_fails_is_quarantined_whole() {
    let end = |id: &str| json!({ "id": id });
    let pair = |user, group| json!({ "directory_id": "D", "user": user, "group": group });
    let (missing, mismatch) = ("missing_field", "kind_mismatch");
    let cases = [
        ("user.created", json!({ "id": "U" }), missing),
        ("user.created", json!({ "id": 7, "directory_id": "D" }), missing),
        ("user.created", json!({ "id": "U", "directory_id": "" }), missing),
        ("user.created", json!([]), missing),
        ("group.deleted", json!({ "directory_id": "D" }), missing),
        ("activated", json!({ "id": "d".repeat(256) }), missing),
        ("group.user_added", json!({ "user": end("U"), "group": end("G") }), missing),
        ("group.user_added", pair(Value::Null, end("G")), missing),
        (
            "group.created",
            json!({ "id": "G", "directory_id": "D", "object": "directory_user" }),
            mismatch,
        ),
        ("group.created", json!({ "id": "directory_user_1", "directory_id": "D" }), mismatch),
        ("user.updated", json!({ "id": "directory_group_1", "directory_id": "D" }), mismatch),
        ("user.updated", json!({ "id": "U", "directory_id": "directory_group_1" }), mismatch),
        ("deleted", json!({ "id": "directory_user_1" }), mismatch),
        ("group.user_added", pair(end("directory_group_1"), end("G")), mismatch),
    ];
    for (event, data, reason) in cases {
        let mut case = Case::default();
        case.tell(&format!("dsync.{event}"), 1, data.clone());
        assert_eq!(case.reasons(), [(1, reason.to_owned())], "{event} {data}");
        assert!(case.moments().is_empty());
    }
}

#[test]
fn rule_8_a_membership_takes_the_first_directory_there_is() {
    let mut case = Case::default();
    let (group, user) =
        (json!({ "id": "G", "directory_id": "D1" }), json!({ "id": "U", "directory_id": "D2" }));
    let data = json!({ "directory_id": "", "group": group, "user": user });
    case.tell("dsync.group.user_added", 1, data);
    assert!(case.is_member(LATEST));
    case.tell("dsync.deleted", 2, json!({ "id": "D1" })).tell(
        "dsync.activated",
        3,
        json!({ "id": "D1" }),
    );
    case.tell("dsync.group.created", 4, json!({ "id": "G", "directory_id": "D2" }));
    assert!(!case.is_member(LATEST), "its directory was deleted, though both ends live");
}

#[test]
fn rule_9_unknown_types_are_listed_and_strangers_are_not() {
    let mut case = Case::default();
    let events = [
        "dsync.user.promoted",
        "dsync.token.created",
        "dsync.token.whatever",
        "connection.activated",
        "dsyncs",
    ];
    for event in events {
        case.tell(event, 1, json!({ "id": "U", "directory_id": "D" }));
    }
    assert_eq!(case.reasons(), [(1, "unknown_type".to_owned())]);
    assert_eq!(case.head(), 5);
}

#[test]
fn rule_10_the_type_of_the_event_decides_the_state() {
    let mut case = Case::default();
    case.tell("dsync.activated", 1, json!({ "id": "D", "state": "inactive" }));
    case.tell("dsync.deactivated", 2, json!({ "id": "D", "state": "active" }));
    assert_eq!(case.item("/directories/D", at(1)).expect("a directory")["state"], "linked");
    assert_eq!(case.item("/directories/D", at(2)).expect("a directory")["state"], "unlinked");
}

#[test]
fn rule_12_a_directory_only_named_is_a_stub() {
    let mut case = Case::default();
    case.user("updated", 5, "U");
    let snapshot = json!({ "id": "U", "directory_id": "E", "organization_id": "org" });
    let pair = json!({ "directory_id": "D", "user": snapshot, "group": { "id": "G" } });
    case.tell("dsync.group.user_removed", 3, pair);
    assert_eq!(case.list("/directories", &[("order", "asc")], LATEST), ["D", "E"]);
    let expected = json!({
        "object": "directory", "id": "E", "organization_id": "org", "external_key": "", "name": "",
        "type": "generic scim v2.0", "state": "linked", "created_at": second(3),
        "updated_at": second(3),
    });
    assert_eq!(case.item("/directories/E", LATEST), Some(expected));
    assert_eq!(case.item("/directories/D", LATEST).expect("a stub")["organization_id"], "");
    assert_eq!(case.item("/directories/D", LATEST).expect("a stub")["created_at"], second(3));
}

#[test]
fn rule_12_the_organization_is_of_the_newest_directory_event_that_carries_one() {
    let mut case = Case::default();
    let user = |organization: &str| {
        json!({ "id": "U", "directory_id": "D",
        "organization_id": organization })
    };
    let organization = |case: &Case, cut| {
        case.item("/directories/D", cut).expect("a directory")["organization_id"].clone()
    };
    case.tell("dsync.user.created", 1, user("first")).tell("dsync.user.updated", 2, user("second"));
    assert_eq!(organization(&case, LATEST), "first");
    case.tell("dsync.activated", 3, json!({ "id": "D", "organization_id": "own" }))
        .directory("activated", 4);
    assert_eq!(organization(&case, at(2)), "first");
    assert_eq!(organization(&case, LATEST), "own");
}

#[test]
fn rule_14_a_version_stands_alone_and_gaps_are_derived() {
    let mut case = Case::default();
    case.tell("dsync.activated", 1, json!({ "id": "D", "organization_id": "org" }));
    case.tell(
        "dsync.user.created",
        2,
        json!({ "id": "U", "directory_id": "D", "name": "N", "email": "a@x" }),
    );
    let emails = json!([{ "value": "b@x" }, { "value": "c@x", "primary": true }]);
    let previous = json!({ "name": "N" });
    let data = json!({ "id": "U", "directory_id": "D", "emails": emails,
        "previous_attributes": previous, "extra": 1 });
    case.tell("dsync.user.updated", 3, data);
    let expected = json!({
        "object": "directory_user", "id": "U", "directory_id": "D", "organization_id": "org",
        "idp_id": "",
        "email": "c@x", "first_name": null, "last_name": null, "name": null, "job_title": null,
        "username": null,
        "emails": emails, "state": "active", "raw_attributes": {}, "custom_attributes": {},
        "created_at": second(2), "updated_at": second(3), "groups": [],
    });
    assert_eq!(case.item("/directory_users/U", LATEST), Some(expected));
}

#[test]
fn rule_14_a_field_of_null_is_a_missing_field() {
    let emails = json!([{ "value": "b@x" }, { "value": "c@x", "primary": true }]);
    let nulls = |id: &str| {
        json!({
            "object": null, "id": id, "directory_id": "D", "organization_id": null, "idp_id": null,
            "email": null,
            "emails": emails, "state": null, "role": null, "roles": null, "first_name": null,
            "raw_attributes": null, "custom_attributes": null, "created_at": null,
            "updated_at": null,
        })
    };
    let mut case = Case::default();
    case.tell("dsync.activated", 1, json!({ "id": "D", "organization_id": "org", "state": null }));
    case.tell("dsync.user.created", 2, nulls("U"));
    case.tell(
        "dsync.group.user_added",
        3,
        json!({ "directory_id": null, "user": nulls("V"),
            "group": { "id": "G", "directory_id": "D", "name": null } }),
    );
    for (id, at) in [("U", 2), ("V", 3)] {
        let user = case.item(&format!("/directory_users/{id}"), LATEST).expect("a user");
        let said = json!({
            "email": user["email"], "state": user["state"],
            "organization_id": user["organization_id"],
            "first_name": user["first_name"], "created_at": user["created_at"],
            "updated_at": user["updated_at"],
        });
        let expected = json!({
            "email": "c@x", "state": "active", "organization_id": "org", "first_name": null,
            "created_at": second(at), "updated_at": second(at),
        });
        assert_eq!(said, expected, "{id}");
        assert!(user.get("role").is_none() && user.get("roles").is_none(), "{id}");
    }
}

#[test]
fn rule_14_half_a_surrogate_pair_is_replaced_and_the_rest_of_the_text_is_kept() {
    let body = |id: &str, event: &str, at: u32, data: &str| {
        let created_at = second(at);
        let text = format!(
            r#"{{"id":"{id}","event":"dsync.{event}","created_at":"{created_at}","data":{data}}}"#
        );
        text.replace('~', "\\ud83d")
    };
    let attributes = r#"{"a":"x ~","~ b":["~"],"paired":"~\ude00","written":"\\~"}"#;
    let user = format!(
        r#"{{"id":"U","directory_id":"D","name":"Schmidt ~","email":"ana~@x","job_title":"~",
        "custom_attributes":{attributes},"raw_attributes":{attributes},"~ extra":"~"}}"#
    );
    let group = r#"{"id":"G","directory_id":"D","name":"~ Platform"}"#;
    let later = r#"{"id":"U","directory_id":"D","name":"Schmidt \ude00"}"#;
    let mut case = Case::default();
    case.deliver_bytes(body("a", "user.created", 1, &user).as_bytes(), ms(59));
    case.deliver_bytes(body("b", "group.created", 2, group).as_bytes(), ms(59));
    case.deliver_bytes(body("c", "user.updated", 3, later).as_bytes(), ms(59));
    assert!(case.reasons().is_empty());
    let user = case.item("/directory_users/U", at(1)).expect("a user");
    let attributes = json!({
        "a": "x \u{fffd}", "\u{fffd} b": ["\u{fffd}"], "paired": "\u{1f600}",
        "written": "\\\u{fffd}",
    });
    for (field, expected) in [
        ("name", json!("Schmidt \u{fffd}")),
        ("email", json!("ana\u{fffd}@x")),
        ("job_title", json!("\u{fffd}")),
        ("custom_attributes", attributes.clone()),
        ("raw_attributes", attributes),
    ] {
        assert_eq!(user[field], expected, "{field}");
    }
    let named = |path: &str| case.item(path, LATEST).expect("one")["name"].clone();
    assert_eq!(named("/directory_groups/G"), "\u{fffd} Platform");
    assert_eq!(named("/directory_users/U"), "Schmidt \u{fffd}");
    let events = [("events", "dsync.user.created,dsync.user.updated")];
    assert_eq!(case.list("/events", &events, LATEST), ["a", "c"]);
}

#[test]
fn rule_15_any_later_version_revives_and_a_move_ends_nothing() {
    let mut case = Case::default();
    case.user("created", 1, "U").group("created", 1, "G").member("added", 2);
    case.tell("dsync.user.updated", 3, json!({ "id": "U", "directory_id": "E" }));
    assert!(case.is_member(at(3)));
    assert_eq!(case.list("/directory_users", &[("directory", "E")], at(3)), ["U"]);
    case.user("deleted", 4, "U").user("updated", 5, "U");
    assert!(!case.has("/directory_users/U", at(4)) && case.has("/directory_users/U", at(5)));
    assert!(!case.is_member(at(5)));
}

#[test]
fn rule_16_a_snapshot_stands_in_until_an_explicit_version() {
    let mut case = Case::default();
    let pair = |email: &str| {
        json!({ "directory_id": "D", "user": { "id": "U", "email": email },
        "group": { "id": "G" } })
    };
    let email =
        |case: &Case, cut| case.item("/directory_users/U", cut).expect("a user")["email"].clone();
    case.tell("dsync.group.user_added", 1, pair("s"));
    case.tell("dsync.user.created", 5, json!({ "id": "U", "directory_id": "D", "email": "e" }));
    assert_eq!(email(&case, at(4)), "s");
    assert_eq!(email(&case, at(5)), "e");
    assert_eq!(email(&case, Cut { as_of_ms: Some(ms(5)), known_at: Some(1) }), "s");
    case.tell("dsync.group.user_removed", 6, pair("newer"));
    assert_eq!(email(&case, LATEST), "e");

    let mut case = Case::default();
    case.user("deleted", 3, "U").member("added", 4);
    assert!(!case.has("/directory_users/U", LATEST));
    assert!(!case.is_member(LATEST));
}

#[test]
fn rule_16_versions_that_a_deleted_directory_ended_still_beat_snapshots() {
    let mut case = Case::default();
    case.user("created", 1, "U")
        .directory("deleted", 2)
        .directory("activated", 3)
        .member("added", 4);
    assert!(!case.has("/directory_users/U", LATEST));
    assert!(case.has("/directory_groups/G", LATEST));
}

#[test]
fn rule_17_only_active_or_no_state_is_active() {
    let states =
        [("active", "active"), ("ACTIVE", "inactive"), ("suspended", "inactive"), ("", "inactive")];
    let states = states.map(|(state, shown)| (json!(state), shown));
    for (state, shown) in states.into_iter().chain([(Value::Null, "active")]) {
        let mut case = Case::default();
        case.tell(
            "dsync.user.created",
            1,
            json!({ "id": "U", "directory_id": "D", "state": state }),
        );
        assert_eq!(case.item("/directory_users/U", LATEST).expect("a user")["state"], shown);
    }
}

#[test]
fn rule_19_a_membership_is_never_judged_by_updated_at() {
    let mut case = Case::default();
    let pair = |updated| {
        let user = json!({ "id": "U", "updated_at": second(updated) });
        json!({ "directory_id": "D", "updated_at": second(updated), "user": user,
            "group": { "id": "G" } })
    };
    case.tell_as("b", "dsync.group.user_added", 5, pair(1)).tell_as(
        "a",
        "dsync.group.user_added",
        5,
        pair(9),
    );
    assert_eq!(case.item("/directory_users/U", LATEST).expect("a user")["updated_at"], second(1));
}

#[test]
fn lists_page_by_id_in_either_direction() {
    let mut case = Case::default();
    for id in ["a", "b", "c", "d", "e"] {
        case.user("created", 1, id);
    }
    let cases = [
        ("desc", "", "", "ed", "", "d"),
        ("desc", "after", "d", "cb", "c", "b"),
        ("desc", "after", "cc", "cb", "c", "b"),
        ("desc", "after", "b", "a", "a", ""),
        ("desc", "after", "a", "", "", ""),
        ("desc", "before", "b", "dc", "d", "c"),
        ("asc", "", "", "ab", "", "b"),
        ("asc", "before", "d", "bc", "b", "c"),
        ("normal", "", "", "ed", "d", ""),
        ("normal", "before", "d", "cb", "b", "c"),
        ("normal", "after", "b", "dc", "c", "d"),
    ];
    let cursor_or_null = |cursor: &str| if cursor.is_empty() { Value::Null } else { json!(cursor) };
    for (order, cursor, id, expected, before, after) in cases {
        let mut query = vec![("directory", "D"), ("limit", "2"), ("order", order)];
        if !cursor.is_empty() {
            query.push((cursor, id));
        }
        let (_, body) = case.ask("/directory_users", &query, LATEST);
        assert_eq!(ids_of(&body).concat(), expected, "{query:?}");
        let metadata = json!({ "before": cursor_or_null(before), "after": cursor_or_null(after) });
        assert_eq!(body["list_metadata"], metadata, "{query:?}");
    }
}

#[test]
fn a_list_without_scope_is_refused() {
    let case = Case::default();
    let (status, body) = case.ask("/directory_groups", &[("limit", "1")], LATEST);
    assert_eq!(
        (status, &body["code"], &body["errors"][1]["field"]),
        (422, &json!("validation_failed"), &json!("user"))
    );
    assert_eq!(case.ask("/directory_users", &[("organization", "x")], LATEST).0, 200);
}

#[test]
fn groups_show_their_members_when_asked() {
    let mut case = Case::default();
    case.member("added", 1);
    let (_, group) = case.ask("/directory_groups/G", &[("members", "true")], LATEST);
    assert_eq!(group["members"][0]["id"], "U");
    assert!(group["members"][0].get("groups").is_none());
    assert_eq!(case.item("/directory_users/U", LATEST).expect("a user")["groups"][0]["id"], "G");
}

fn event_ids(case: &Case, query: &[(&str, &str)], cut: Cut) -> Vec<String> {
    case.list(
        "/events",
        &[&[("events", "dsync.user.created,dsync.user.deleted,x.y")], query].concat(),
        cut,
    )
}

#[test]
fn events_are_asked_for_by_type_in_any_encoding() {
    let mut case = Case::default();
    case.user("created", 1, "U").user("deleted", 2, "U").user("updated", 3, "U");
    let both: [&[(&str, &str)]; 4] = [
        &[("events", "dsync.user.created,,dsync.user.updated")],
        &[("events", "dsync.user.created"), ("events", "dsync.user.updated")],
        &[("events[]", "dsync.user.created"), ("events[]", "dsync.user.updated")],
        &[("events[0]", "dsync.user.created"), ("events[7]", "dsync.user.updated")],
    ];
    for query in both {
        assert_eq!(case.list("/events", query, LATEST), ["e01", "e03"], "{query:?}");
    }
    for query in [
        &[][..],
        &[("events", "")],
        &[("events[]", ","), ("limit", "0")],
        &[("events[x]", "dsync.user.created")],
    ] {
        assert_eq!(case.ask("/events", query, LATEST).0, 400, "{query:?}");
    }
    assert!(case.list("/events", &[("events", "never.heard_of")], LATEST).is_empty());
}

#[test]
fn events_are_listed_by_seq_and_cut_by_their_time() {
    let mut case = Case::default();
    // One that is quarantined stands between them; it is a place, but not listed.
    case.user("created", 5, "U")
        .tell("dsync.user.created", 4, json!({}))
        .user("deleted", 3, "U")
        .tell("x.y", 4, json!([]));
    let listed = |query: &[(&str, &str)]| event_ids(&case, query, LATEST);
    assert_eq!(listed(&[]), ["e01", "e03", "e04"]);
    assert_eq!(listed(&[("order", "desc"), ("limit", "2")]), ["e01", "e03"]);
    assert_eq!(listed(&[("after", "e01")]), ["e03", "e04"]);
    assert_eq!(listed(&[("after", "e02"), ("limit", "1")]), ["e03"]);
    assert_eq!(listed(&[("before", "e04"), ("limit", "1")]), ["e03"]);
    assert!(listed(&[("after", "e04")]).is_empty());
    assert_eq!(listed(&[("range_start", &second(4))]), ["e01", "e04"]);
    assert_eq!(listed(&[("range_start", &second(3)), ("range_end", &second(4))]), ["e03", "e04"]);
    assert_eq!(event_ids(&case, &[], at(4)), ["e03", "e04"]);
    assert_eq!(event_ids(&case, &[], known(3)), ["e01", "e03"]);
    let ask = |query: &[(&str, &str)]| {
        case.ask("/events", &[&[("events", "dsync.user.created,x.y")], query].concat(), LATEST)
    };
    let metadata = |query: &[(&str, &str)]| ask(query).1["list_metadata"].clone();
    assert_eq!(metadata(&[("limit", "1")]), json!({ "before": null, "after": "e01" }));
    assert_eq!(metadata(&[("before", "e04")]), json!({ "before": null, "after": "e01" }));
    assert_eq!(metadata(&[]), json!({ "before": null, "after": null }));
    assert_eq!(ask(&[("after", "e09")]).1["code"], "cursor_invalid");
    assert_eq!(ask(&[("after", "e01"), ("range_end", &second(9))]).1["code"], "validation_failed");
}

fn shown(case: &Case, name: &str) -> Value {
    let (_, body) = case.ask("/events", &[("events", name)], LATEST);
    body["data"].as_array().and_then(|events| events.last().cloned()).expect("an event")
}

#[test]
fn an_event_is_completed_from_what_was_known_when_it_came_and_never_again() {
    let mut case = Case::default();
    case.tell(
        "dsync.user.created",
        4,
        json!({ "id": "U", "directory_id": "D", "emails": [{ "value": "a@x" }] }),
    );
    case.tell("dsync.activated", 2, json!({ "id": "D", "organization_id": "late" }));
    case.tell(
        "dsync.user.deleted",
        6,
        json!({ "id": "U", "state": "suspended", "more": [1], "groups": [] }),
    );
    case.tell("dsync.user.updated", 1, json!({ "id": "U", "directory_id": "E" }));
    let created = shown(&case, "dsync.user.created");
    assert_eq!(
        (&created["data"]["organization_id"], &created["data"]["created_at"]),
        (&json!(""), &json!(second(4)))
    );
    assert_eq!((&created["data"]["email"], &created["context"]), (&json!("a@x"), &json!({})));
    let expected = json!({
        "object": "directory_user", "id": "U", "directory_id": "D", "organization_id": "late",
        "idp_id": "", "email": null,
        "first_name": null, "last_name": null, "name": null, "job_title": null, "username": null,
        "emails": [], "state": "inactive",
        "raw_attributes": {}, "custom_attributes": {}, "created_at": second(4),
        "updated_at": second(6), "more": [1], "groups": [],
    });
    assert_eq!(shown(&case, "dsync.user.deleted")["data"], expected);
    assert_eq!(
        case.list(
            "/events",
            &[("events", "dsync.user.deleted"), ("organization_id", "late")],
            LATEST
        ),
        ["e03"]
    );
    assert!(
        case.list(
            "/events",
            &[("events", "dsync.user.created"), ("organization_id", "late")],
            LATEST
        )
        .is_empty()
    );
}

#[test]
fn events_of_directories_have_their_own_words() {
    let cases = [
        ("activated", json!("linked"), "active"),
        ("activated", json!("unlinked"), "inactive"),
        ("activated", json!("deleting"), "deleting"),
        ("activated", json!(7), "active"),
        ("deactivated", json!("active"), "inactive"),
        ("deleted", json!("active"), "active"),
        ("deleted", json!("gone"), "deleting"),
    ];
    for (event, state, expected) in cases {
        let mut case = Case::default();
        case.tell(
            &format!("dsync.{event}"),
            1,
            json!({ "id": "D", "state": state, "type": "gusto", "domain": "a.example" }),
        );
        let data = shown(&case, &format!("dsync.{event}"))["data"].clone();
        assert_eq!(
            (&data["state"], &data["type"]),
            (&json!(expected), &json!("gusto")),
            "{event} {state}"
        );
        let domain = json!({ "object": "organization_domain", "id": "", "organization_id": "",
            "domain": "a.example" });
        assert_eq!(data.get("domains"), (event != "deleted").then_some(&json!([domain])));
        assert_eq!(data.get("external_key").is_some(), event != "deleted");
    }
    let mut case = Case::default();
    let domains = json!([{ "domain": "" }, "x",
        { "domain": "b.example", "id": 5, "organization_id": "p", "extra": 1 }]);
    case.tell(
        "dsync.activated",
        1,
        json!({ "id": "D", "organization_id": "o", "domain": "a.example", "domains": domains }),
    );
    let domain = json!({ "object": "organization_domain", "id": "", "organization_id": "p",
        "domain": "b.example" });
    assert_eq!(shown(&case, "dsync.activated")["data"]["domains"], json!([domain]));
}

#[test]
fn updates_always_say_what_was_before() {
    let cases = [
        (json!({ "a": 1 }), json!({ "b": 2 }), json!({ "a": 1 })),
        (json!(null), json!({ "b": 2 }), json!({ "b": 2 })),
        (json!([]), json!("x"), json!({})),
    ];
    for (own, context, expected) in cases {
        for (event, always) in [("dsync.group.updated", true), ("dsync.group.created", false)] {
            let mut case = Case::default();
            let data = json!({ "id": "G", "directory_id": "D", "previous_attributes": own });
            let context = json!({ "previous_attributes": context });
            case.deliver(json!({ "id": "a", "event": event, "created_at": second(1), "data": data,
                "context": context }));
            let expected = if always || own.is_object() { Some(&expected) } else { None };
            assert_eq!(
                shown(&case, event)["data"].get("previous_attributes"),
                expected,
                "{event} {own}"
            );
        }
    }
}

#[test]
fn memberships_tokens_and_strangers_are_shown_each_in_their_way() {
    let mut case = Case::default();
    let (user, group) =
        (json!({ "id": "U", "directory_id": "E" }), json!({ "id": "G", "organization_id": "o" }));
    case.tell("dsync.group.user_added", 3, json!({ "user": user, "group": group, "more": 1 }));
    let data = shown(&case, "dsync.group.user_added")["data"].clone();
    assert_eq!((&data["directory_id"], &data["more"]), (&json!("E"), &json!(1)));
    assert_eq!(
        (&data["group"]["directory_id"], &data["group"]["organization_id"]),
        (&json!("E"), &json!("o"))
    );
    assert_eq!(
        (&data["user"]["organization_id"], &data["user"]["created_at"]),
        (&json!("o"), &json!(second(3)))
    );
    assert_eq!(
        case.list(
            "/events",
            &[("events", "dsync.group.user_added"), ("organization", "o")],
            LATEST
        ),
        ["e01"]
    );
    case.tell("dsync.token.created", 4, json!([]));
    let token = json!({
        "object": "directory_token", "id": "", "directory_id": "", "organization_id": "",
        "token_suffix": "", "created_at": second(4),
    });
    assert_eq!(shown(&case, "dsync.token.created")["data"], token);
    case.tell("x.y", 5, json!({ "object": null, "organization_id": "o" })).tell(
        "x.z",
        5,
        json!("o"),
    );
    assert_eq!(shown(&case, "x.y")["data"], json!({ "object": null, "organization_id": "o" }));
    assert_eq!(shown(&case, "x.z")["data"], json!({}));
    assert_eq!(
        case.list("/events", &[("events", "x.y,x.z"), ("organization", "o")], LATEST),
        ["e03"]
    );
}
