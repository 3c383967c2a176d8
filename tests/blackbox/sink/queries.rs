//! The queries of docs/sink.md give what they promise.

use serde_json::{Value, json};

use crate::kit::postgres::database;
use crate::kit::server::Server;
use crate::kit::sink::{server, wait_for_head};

const PAGE: &str = include_str!("../../../docs/sink.md");

/// Returns the queries of the page, in order.
fn queries() -> Vec<&'static str> {
    let blocks = PAGE.split("```sql\n").skip(1);
    blocks.map(|block| block.split_once("```").unwrap().0.trim().trim_end_matches(';')).collect()
}

fn user(id: &str) -> Value {
    json!({"object": "directory_user", "id": id, "directory_id": "directory_1",
        "organization_id": "org_1", "idp_id": id, "emails": [], "state": "active",
        "raw_attributes": {}, "custom_attributes": {}})
}

fn group(id: &str) -> Value {
    json!({"object": "directory_group", "id": id, "directory_id": "directory_1",
        "organization_id": "org_1", "idp_id": id, "name": id, "raw_attributes": {}})
}

/// Delivers an event of a moment of 2026, such as `02-10T08:00`.
fn tell(server: &Server, at: &str, event: &str, data: Value) -> u64 {
    let number = server.head();
    let body = json!({"object": "event", "id": format!("event_{number:04}"), "event": event,
        "created_at": format!("2026-{at}:00.000Z"), "context": {}, "data": data});
    server.deliver(&body.to_string())
}

fn member(server: &Server, at: &str, event: &str, user_id: &str, group_id: &str) -> u64 {
    let data = json!({"directory_id": "directory_1", "user": user(user_id),
        "group": group(group_id)});
    tell(server, at, event, data)
}

#[test]
fn the_queries_of_the_page_find_what_they_ask_for() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), &database);
    let [added, removed] = ["dsync.group.user_added", "dsync.group.user_removed"];
    let [payments, approvals, unused] =
        ["directory_group_payments", "directory_group_approvals", "directory_group_unused"];
    for id in [payments, approvals, unused] {
        tell(&server, "01-01T00:00", "dsync.group.created", group(id));
    }
    for id in ["user_ann", "user_ben", "user_eve"] {
        tell(&server, "01-01T00:00", "dsync.user.created", user(id));
    }
    let rules = json!({"rules": [{"group": {"id": payments}, "roles": ["admin"]}]});
    let mapping = json!({"mapping": rules, "effective_from": "2026-01-01T00:00:00.000Z"});
    let set = server.put("/rollcall/v1/role_mapping", &mapping);
    assert_eq!(set.status, 200, "{}", set.json());
    member(&server, "01-02T00:00", added, "user_ann", payments);
    member(&server, "02-05T00:00", added, "user_ann", approvals);
    // An admin until the last moment of February.
    member(&server, "01-02T00:00", added, "user_ben", payments);
    member(&server, "03-01T00:00", removed, "user_ben", payments);
    // Eve becomes inactive, and stays in a group for two hours; in the other for half an hour.
    member(&server, "01-02T00:00", added, "user_eve", approvals);
    member(&server, "01-02T00:00", added, "user_eve", payments);
    let mut eve = user("user_eve");
    eve["state"] = json!("inactive");
    let ended = tell(&server, "02-10T08:00", "dsync.user.updated", eve);
    member(&server, "02-10T08:30", removed, "user_eve", payments);
    member(&server, "02-10T10:00", removed, "user_eve", approvals);
    wait_for_head(&server);

    let session = database.session();
    let [admins, outlived, groups, lost, both] = queries()[..] else {
        panic!("the page has {} queries", queries().len());
    };
    let column = |query: &str, name: &str| -> Vec<Value> {
        session.json(query).into_iter().map(|row| row[name].clone()).collect()
    };
    assert_eq!(column(admins, "user_id"), ["user_ann"]);
    let rows = session.json(outlived);
    let expected = json!({"user_id": "user_eve", "group_id": approvals, "outlived_by": "02:00:00"});
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(crate::kit::server::holds(&expected, &rows[0]), "{rows:?}");
    // Payments has Ann, and nobody was ever in the third.
    assert_eq!(column(groups, "id"), [unused]);
    let rows = session.json(lost);
    let expected = json!({"user_id": "user_eve", "end_reason": "user_inactive", "end_seq": ended});
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(crate::kit::server::holds(&expected, &rows[0]), "{rows:?}");
    assert_eq!(column(both, "user_id"), ["user_ann"]);
}
