//! `GET /events`: filters, order, pages, and how older bodies are completed.

use serde_json::{Value, json};

use crate::kit::server::{Answer, Server, now_ms, user};

const D: &str = "directory_1";

fn at(second: u32) -> String {
    format!("2026-01-01T00:00:{second:02}.000Z")
}

fn created(number: u32, second: u32) -> String {
    user(
        &format!("directory_user_{number}"),
        D,
        "ada",
        &at(second),
        &format!("event_{number}"),
        "dsync.user.created",
    )
}

fn other(id: &str, kind: &str, second: u32, data: Value) -> String {
    json!({"id": id, "event": kind, "created_at": at(second), "data": data}).to_string()
}

/// A server that was sent these events.
fn told(events: &[String]) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for event in events {
        server.deliver(event);
    }
    (folder, server)
}

fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.ids()
}

fn fields(answer: &Answer) -> Vec<String> {
    answer.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_encoding_of_the_types_asks_the_same() {
    let (_folder, server) = told(&[
        created(1, 1),
        other(
            "event_2",
            "dsync.group.created",
            2,
            json!({"id": "directory_group_1", "directory_id": D}),
        ),
        other("event_3", "connection.activated", 3, json!({"id": "conn_1"})),
    ]);
    let wanted = ["event_1", "event_3"];
    for query in [
        "events=dsync.user.created,connection.activated",
        "events=dsync.user.created%2Cconnection.activated",
        "events=dsync.user.created&events=connection.activated",
        "events[]=dsync.user.created&events[]=connection.activated",
        "events%5B%5D=dsync.user.created&events%5B%5D=connection.activated",
        "events[0]=dsync.user.created&events[1]=connection.activated",
        "events=,connection.activated,,&events[7]=dsync.user.created,dsync.user.created\
         &events=never.heard_of",
    ] {
        // The client of this test takes no brackets in a URL.
        let path = format!("/events?{}", query.replace('[', "%5B").replace(']', "%5D"));
        assert_eq!(ids(&server.get(&path)), wanted, "{query}");
    }
    assert_eq!(ids(&server.get("/events?events=never.heard_of")), [""; 0]);
    let without = json!({"message": "One or more event names (e.g. dsync.user.created) must be \
        provided using the events parameter.", "code": "invalid_events_request"});
    for path in ["/events", "/events?events=", "/events?events=,%20,", "/events?limit=1000"] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.json()), (400, without.clone()), "{path}");
    }
    let many: Vec<String> = (0..65).map(|number| format!("type.{number}")).collect();
    let answer = server.get(&format!("/events?events={}", many.join(",")));
    assert_eq!((answer.status, fields(&answer)), (422, vec!["events".to_owned()]));
    assert_eq!(server.get(&format!("/events?events={}", many[1..].join(","))).status, 200);
    for path in
        ["/events?events=a&event[]=b", "/events?events=a&events[x]=b", "/events?events=a&limit[]=1"]
    {
        let path = path.replace('[', "%5B").replace(']', "%5D");
        assert_eq!(server.get(&path).status, 422, "{path}");
    }
    assert_eq!(server.get_with("/events?events=a", &[]).status, 401);
}

#[test]
fn events_come_in_the_order_in_which_they_were_recorded_whatever_is_asked_for() {
    // Delivered in an order that is neither that of their times nor that of their ids.
    let (_folder, server) = told(&[created(3, 1), created(1, 5), created(2, 3)]);
    let all = ["event_3", "event_1", "event_2"];
    for order in ["", "&order=asc", "&order=desc", "&order=normal"] {
        assert_eq!(ids(&server.get(&format!("/events?events=dsync.user.created{order}"))), all);
    }
    assert_eq!(fields(&server.get("/events?events=a&order=up")), ["order"]);
}

#[test]
fn a_list_is_walked_by_the_ids_of_its_events() {
    let sent: Vec<String> = (1..=25).map(|number| created(number, number)).collect();
    let (_folder, server) = told(&sent);
    let page = |query: &str| {
        let answer = server.get(&format!("/events?events=dsync.user.created{query}"));
        (ids(&answer), answer.json()["list_metadata"].clone())
    };
    let numbers = |range: std::ops::RangeInclusive<u32>| {
        range.map(|number| format!("event_{number}")).collect::<Vec<_>>()
    };
    for (query, wanted, after) in [
        ("", numbers(1..=10), json!("event_10")),
        ("&after=event_10", numbers(11..=20), json!("event_20")),
        ("&after=event_20", numbers(21..=25), json!(null)),
        ("&after=event_15", numbers(16..=25), json!(null)),
        ("&after=event_25", vec![], json!(null)),
        ("&limit=1", numbers(1..=1), json!("event_1")),
        ("&limit=100", numbers(1..=25), json!(null)),
        ("&before=event_12", numbers(2..=11), json!("event_11")),
        ("&before=event_3", numbers(1..=2), json!("event_2")),
        ("&before=event_1", vec![], json!(null)),
        ("&before=event_12&limit=3&known_at=11", numbers(9..=11), json!(null)),
    ] {
        assert_eq!(page(query), (wanted, json!({"before": null, "after": after})), "{query}");
    }
    for (query, field, code) in [
        ("&after=event_99", "after", "cursor_invalid"),
        ("&before=", "before", "validation_failed"),
        ("&after=event_1&before=event_9", "before", "validation_failed"),
        ("&limit=0", "limit", "validation_failed"),
        ("&limit=101", "limit", "validation_failed"),
        ("&after=event_1&range_start=2026-01-01T00:00:00Z", "range_start", "validation_failed"),
        ("&before=event_1&range_end=2026-01-01T00:00:00Z", "range_end", "validation_failed"),
        ("&range_start=yesterday", "range_start", "validation_failed"),
        (
            "&range_start=2026-01-01T00:00:01Z&range_end=2026-01-01T00:00:00Z",
            "range_end",
            "validation_failed",
        ),
    ] {
        let answer = server.get(&format!("/events?events=dsync.user.created{query}"));
        assert_eq!(
            (answer.status, fields(&answer), answer.code().as_str()),
            (422, vec![field.to_owned()], code),
            "{query}"
        );
    }
}

#[test]
fn ranges_and_both_cuts_include_their_bounds() {
    let (_folder, server) = told(&[created(1, 10), created(2, 20), created(3, 15), created(4, 30)]);
    for (query, wanted) in [
        ("range_start=2026-01-01T00:00:15Z", &["event_2", "event_3", "event_4"][..]),
        ("range_start=2026-01-01T00:00:15.001Z", &["event_2", "event_4"]),
        ("range_end=2026-01-01T00:00:15Z", &["event_1", "event_3"]),
        (
            "range_start=2026-01-01T01:00:15%2B01:00&range_end=2026-01-01T00:00:20Z",
            &["event_2", "event_3"],
        ),
        ("as_of=2026-01-01T00:00:15Z", &["event_1", "event_3"]),
        ("as_of=2026-01-01T00:00:15Z&known_at=2", &["event_1"]),
        ("known_at=0", &[]),
        (
            "as_of=2026-01-01T00:00:15Z&range_end=2026-01-01T00:00:30Z\
             &range_start=2026-01-01T00:00:11Z",
            &["event_3"],
        ),
        ("as_of=2026-01-01T00:00:15Z&limit=1", &["event_1"]),
    ] {
        let answer = server.get(&format!("/events?events=dsync.user.created&{query}"));
        assert_eq!(ids(&answer), wanted, "{query}");
    }
    let answer = server.get("/events?events=dsync.user.created&limit=1&as_of=2026-01-01T00:00:15Z");
    assert_eq!(
        answer.json()["list_metadata"]["after"],
        "event_1",
        "the third of four is still to come"
    );
    assert_eq!(
        (answer.header("Rollcall-As-Of"), answer.header("Rollcall-Known-At")),
        (Some("2026-01-01T00:00:15.000Z"), Some("4"))
    );
}

#[test]
fn what_does_not_count_stays_out() {
    let ahead = chrono::DateTime::from_timestamp_millis(now_ms() + 600_000).unwrap().to_rfc3339();
    let (_folder, server) = told(&[
        created(1, 1),
        created(1, 2),
        "hello".to_owned(),
        other("event_2", "dsync.user.created", 2, json!({"id": "directory_user_2"})),
        other("event_3", "dsync.user.vanished", 3, json!({})),
        other("event_4", "rollcall.mapping.set", 4, json!({})),
        user("directory_user_5", D, "eve", &ahead, "event_5", "dsync.user.created"),
        other("event_6", "dsync.token.created", 6, json!({})),
    ]);
    let all = "/events?events=dsync.user.created,dsync.user.vanished,rollcall.mapping.set,\
        dsync.token.created";
    assert_eq!(ids(&server.get(all)), ["event_1", "event_5", "event_6"]);
    assert_eq!(server.get(all).json()["data"][0]["created_at"], at(1), "of two contents the first");
    // What is not listed is still a position.
    assert_eq!(ids(&server.get(&format!("{all}&after=event_3"))), ["event_5", "event_6"]);
}

#[test]
fn a_webhook_of_2021_is_completed_from_what_was_known_when_it_came() {
    let activated = other(
        "event_1",
        "dsync.activated",
        1,
        json!({"id": D, "organization_id": "org_1", "type": "unheard of", "state": "linked",
            "domain": "foo.example"}),
    );
    // The ULID says 2021-10-15T15:07:14.073Z.
    let old = concat!(
        r#"{"id":"wh_01FJ27WB8SNT7VN72KRMYJYV8P","data":{"id":"directory_user_1","#,
        r#""state":"suspended","emails":[{"value":"a@b.example"},{"type":"work","#,
        r#""value":"Veda@example.com","primary":true}],"username":"veda","zip":1.50,"#,
        r#""last_name":"Block","idp_id":null,"directory_id":"directory_1","#,
        r#""custom_attributes":{"b": 1,"a":[ ]},"role":{"slug":"x","name":"y"},"roles":["z"]},"#,
        r#""event":"dsync.user.updated","context":{"previous_attributes":{"last_name":null}}}"#,
    );
    let (_folder, server) = told(&[activated, old.to_owned()]);
    let answer = server.get("/events?events=dsync.activated,dsync.user.updated");
    let event = |number: usize| answer.json()["data"][number].clone();
    assert_eq!(
        event(0),
        json!({"object": "event", "id": "event_1", "event": "dsync.activated", "created_at": at(1),
            "context": {}, "data": {
            "object": "directory", "id": D, "organization_id": "org_1", "external_key": "",
            "type": "generic scim v2.0", "state": "active",
            "name": "", "created_at": at(1), "updated_at": at(1),
            "domains": [{"object": "organization_domain", "id": "", "organization_id": "org_1",
            "domain": "foo.example"}],
        }})
    );
    let moment = "2021-10-15T15:07:14.073Z";
    let mut wanted = json!({
        "object": "event", "id": "wh_01FJ27WB8SNT7VN72KRMYJYV8P", "event": "dsync.user.updated",
        "created_at": moment,
        "context": {"previous_attributes": {"last_name": null}},
        "data": {
            "object": "directory_user", "id": "directory_user_1", "directory_id": D,
            "organization_id": "", "idp_id": "",
            "email": "Veda@example.com", "first_name": null, "last_name": "Block", "name": null,
            "job_title": null, "username": "veda",
            "emails": [{"value": "a@b.example"},
            {"type": "work", "value": "Veda@example.com", "primary": true}],
            "state": "inactive", "raw_attributes": {}, "custom_attributes": {"b": 1, "a": []},
            "role": {"slug": "x"}, "roles": [],
            "created_at": moment, "updated_at": moment, "previous_attributes": {"last_name": null},
            "zip": 1.5,
        },
    });
    // It is dated before the activation: then nobody knew the directory's organization.
    assert_eq!(event(1), wanted);
    assert!(
        String::from_utf8_lossy(&answer.body).contains(r#""zip":1.50"#),
        "what nobody names passes byte for byte"
    );
    // The same after an activation that is older than it.
    let earlier = concat!(
        r#"{"id":"event_0","event":"dsync.activated","created_at":"2021-01-01T00:00:00Z","#,
        r#""data":{"id":"directory_1","organization_id":"org_1"}}"#,
    );
    let (_folder, server) = told(&[earlier.to_owned(), old.to_owned()]);
    wanted["data"]["organization_id"] = json!("org_1");
    assert_eq!(server.get("/events?events=dsync.user.updated").json()["data"], json!([wanted]));
    assert_eq!(
        ids(&server.get("/events?events=dsync.user.updated&organization_id=org_1")),
        ["wh_01FJ27WB8SNT7VN72KRMYJYV8P"]
    );
}

#[test]
fn an_event_that_was_served_is_served_the_same_for_ever() {
    let bare = |number: u32, second| {
        let data = json!({"id": format!("directory_user_{number}"), "directory_id": D});
        other(&format!("event_{number}"), "dsync.user.created", second, data)
    };
    let (folder, server) = told(&[bare(1, 10)]);
    let first = server.get("/events?events=dsync.user.created");
    // What comes later says more about the past: the directory's organization, and that the user is
    // older.
    server.deliver(&other(
        "event_7",
        "dsync.activated",
        1,
        json!({"id": D, "organization_id": "org_1"}),
    ));
    server.deliver(&other(
        "event_8",
        "dsync.user.updated",
        2,
        json!({"id": "directory_user_1", "directory_id": D}),
    ));
    server.deliver(&bare(2, 11));
    let answer = server.get("/events?events=dsync.user.created&limit=1");
    assert_eq!(answer.json()["data"], first.json()["data"]);
    // Nor does it enter a list before what was already shown in it.
    let of_organization = "/events?events=dsync.user.created,dsync.user.updated&organization=org_1";
    assert_eq!(ids(&server.get(of_organization)), ["event_8", "event_2"]);
    let before = server.get(of_organization).body;
    assert_eq!(server.stop(), 0);
    let server = Server::start(folder.path());
    assert_eq!(server.get(of_organization).body, before);
    assert_eq!(
        server.get("/events?events=dsync.user.created&limit=1").json()["data"],
        first.json()["data"]
    );
}

#[test]
fn an_organization_narrows_events_of_every_kind() {
    let member = |directory_id: Value| {
        json!({"directory_id": directory_id,
        "user": {"id": "directory_user_1"},
        "group": {"id": "directory_group_1", "organization_id": "org_2"}})
    };
    let (_folder, server) = told(&[
        other("event_1", "connection.activated", 1, json!({"organization_id": "org_1"})),
        other("event_2", "connection.activated", 2, json!({"organization_id": ["org_1"]})),
        other("event_3", "connection.activated", 3, json!("org_1")),
        other("event_4", "dsync.activated", 4, json!({"id": D, "organization_id": "org_1"})),
        other("event_5", "dsync.group.user_added", 5, member(json!(D))),
        other(
            "event_6",
            "dsync.user.created",
            6,
            json!({"id": "directory_user_1", "directory_id": D, "organization_id": ""}),
        ),
        other("event_7", "dsync.user.deleted", 7, json!({"id": "directory_user_1"})),
        other("event_8", "dsync.deleted", 8, json!({"id": D})),
        other("event_9", "dsync.token.revoked", 9, json!({"id": "t", "organization_id": "org_1"})),
    ]);
    let types = "connection.activated,dsync.activated,dsync.group.user_added,dsync.user.created,\
        dsync.user.deleted,dsync.deleted,dsync.token.revoked";
    let of = |organization: &str| {
        ids(&server.get(&format!("/events?events={types}&organization_id={organization}")))
    };
    assert_eq!(of("org_1"), ["event_1", "event_4", "event_6", "event_7", "event_8", "event_9"]);
    assert_eq!(of("org_2"), ["event_5"]);
    assert_eq!(of("org_3"), [""; 0]);
    // A deletion that names no directory is completed with the one that the user was in.
    let deleted = server.get("/events?events=dsync.user.deleted").json()["data"][0]["data"].clone();
    assert_eq!(
        (&deleted["directory_id"], &deleted["organization_id"]),
        (&json!(D), &json!("org_1"))
    );
}

#[test]
fn an_event_outside_directory_sync_without_a_time_happened_when_its_object_was_updated() {
    let data = json!({"id": "conn_1", "updated_at": "2021-06-25 19:07:33"});
    let body = json!({"id": "event_1", "event": "connection.activated", "data": data}).to_string();
    let (_folder, server) = told(&[body]);
    assert_eq!(
        server.get("/events?events=connection.activated").json()["data"][0]["created_at"],
        "2021-06-25T19:07:33.000Z"
    );
    assert_eq!(
        ids(&server.get("/events?events=connection.activated&as_of=2021-06-25T19:07:33Z")),
        ["event_1"]
    );
}
