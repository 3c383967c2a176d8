//! What is changed: versions, preconditions, repetition, uniqueness, and the records.

use serde_json::{Value, json};

use crate::kit::scim::{Directory, patch, user};
use crate::kit::server::{Answer, Server, holds};

fn etag(answer: &Answer) -> String {
    answer.header("etag").unwrap().to_owned()
}

/// The body of a record.
fn record(server: &Server, seq: u64) -> Value {
    serde_json::from_slice(&server.body_of(seq)).unwrap()
}

#[test]
fn a_version_moves_with_each_change_and_guards_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = Directory::create(&server, "org_a", "delete");
    let created = directory.call("POST", "/Users", Some(&user("ana")));
    assert_eq!(created.status, 201);
    let body = created.json();
    let path = format!("/Users/{}", body["id"].as_str().unwrap());
    let location = format!("{}{path}", directory.base());
    assert_eq!(created.header("location"), Some(location.as_str()));
    assert_eq!(body["meta"]["location"], location);
    assert_eq!(body["meta"]["resourceType"], "User");
    assert_eq!(body["meta"]["version"], etag(&created));
    assert_eq!(body["meta"]["created"], body["meta"]["lastModified"]);
    let first = etag(&created);
    let read = directory.call("GET", &path, None);
    assert_eq!((read.status, etag(&read)), (200, first.clone()));
    let known = directory.call_with("GET", &path, &[("If-None-Match", &first)], None);
    assert_eq!((known.status, known.body.len(), etag(&known)), (304, 0, first.clone()));

    let rename = json!([{ "op": "replace", "path": "title", "value": "Lead" }]);
    let stale = [("If-Match", r#"W/"1""#)];
    for method in ["PATCH", "PUT", "DELETE"] {
        let body = if method == "PUT" { user("ana") } else { patch(rename.clone()) };
        let body = (method != "DELETE").then_some(&body);
        let refused = directory.call_with(method, &path, &stale, body);
        assert_eq!(refused.status, 412, "{method}");
        assert_eq!(refused.json()["status"], "412");
    }
    let headers = [("If-Match", first.as_str())];
    let changed = directory.call_with("PATCH", &path, &headers, Some(&patch(rename.clone())));
    assert_eq!((changed.status, changed.json()["title"].clone()), (200, json!("Lead")));
    let second = etag(&changed);
    assert_ne!(second, first);
    assert_eq!(changed.header("location"), Some(location.as_str()));
    let known = directory.call_with("GET", &path, &[("If-None-Match", &first)], None);
    assert_eq!(known.status, 200, "it has another version");

    // What changes nothing moves nothing, and is not recorded.
    let before = server.head();
    for (method, body) in [
        ("PATCH", patch(rename)),
        ("PATCH", patch(json!([{ "op": "remove", "path": "nickName" }]))),
        ("PATCH", patch(json!([{ "op": "replace", "path": "password", "value": "new" }]))),
    ] {
        let again = directory.call(method, &path, Some(&body));
        assert_eq!((again.status, etag(&again)), (200, second.clone()), "{body}");
        assert_eq!(again.json()["meta"], changed.json()["meta"], "{body}");
    }
    assert_eq!(server.head(), before);

    // Groups do not move a user's version; a member's end moves the group's.
    let id = body["id"].as_str().unwrap();
    let group = format!("/Groups/{}", directory.group("Staff", &[id]));
    let read = directory.call("GET", &path, None);
    assert_eq!(etag(&read), second);
    let staff = json!([{ "value": group[8..], "display": "Staff" }]);
    assert!(holds(&staff, &read.json()["groups"]), "{}", read.json());
    let of_group = etag(&directory.call("GET", &group, None));
    directory.delete(&path);
    let read = directory.call("GET", &group, None);
    assert_ne!(etag(&read), of_group);
    assert_eq!(read.json()["members"].as_array().map_or(0, Vec::len), 0);
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let body = if method == "PUT" { user("ana") } else { patch(json!([])) };
        let body = ["PUT", "PATCH"].contains(&method).then_some(&body);
        assert_eq!(directory.call(method, &path, body).status, 404, "{method} again");
    }
    directory.expect_events_to_tell_all();
}

#[test]
fn names_are_taken_once_without_case_and_ids_are_never_a_clients_choice() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = Directory::create(&server, "org_a", "delete");
    let ana = directory.user("ana");
    let twice = directory.call("POST", "/Users", Some(&user("ANA")));
    assert_eq!((twice.status, twice.json()["scimType"].clone()), (409, json!("uniqueness")));
    assert!(!String::from_utf8_lossy(&twice.body).to_lowercase().contains("ana"), "no name");
    let bo = directory.user("bo");
    let path = format!("/Users/{bo}");
    let renamed = patch(json!([{ "op": "replace", "path": "userName", "value": "Ana" }]));
    assert_eq!(directory.call("PATCH", &path, Some(&renamed)).status, 409);
    // An inactive user keeps its name.
    directory.patch(
        &format!("/Users/{ana}"),
        json!([{ "op": "replace", "path": "active", "value": false }]),
    );
    assert_eq!(directory.call("POST", "/Users", Some(&user("ana"))).status, 409);
    assert_eq!(directory.get(&format!("/Users/{ana}"))["active"], false);
    directory.delete(&format!("/Users/{ana}"));
    let mut again = user("ana");
    again["id"] = json!(bo);
    again["externalId"] = json!(bo);
    let third = directory.post("/Users", &again);
    assert!(third != ana && third != bo, "a new id");
    directory.group("Staff", &[]);
    let twice = json!({ "displayName": "sTAFF" });
    assert_eq!(directory.call("POST", "/Groups", Some(&twice)).status, 409);
    assert_eq!(directory.call("PUT", &format!("/Users/{ana}"), Some(&user("cy"))).status, 404);
    directory.expect_events_to_tell_all();
}

#[test]
fn a_change_is_one_batch_of_records_and_its_request_says_what_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = Directory::create(&server, "org_a", "update");
    let (ana, bo) = (directory.user("ana"), directory.user("bo"));
    let group = directory.group("Staff", &[&ana]);
    let before = server.head();
    let text = json!({ "Operations": [
        { "op": "add", "path": "members", "value": [{ "value": bo, "display": "Bo" }] },
        { "op": "remove", "path": format!("members[value eq \"{ana}\"]") },
        { "op": "replace", "value": { "id": group, "displayName": "Staff of all" } },
    ]});
    let headers = [("User-Agent", "Okta SCIM Client 1.0.0")];
    let path = format!("/Groups/{group}");
    let changed = directory.call_with("PATCH", &path, &headers, Some(&text));
    assert_eq!(changed.status, 200, "{}", String::from_utf8_lossy(&changed.body));
    let types: Vec<String> = (before + 1..=server.head())
        .map(|seq| record(&server, seq)["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        types,
        [
            "rollcall.scim.request",
            "rollcall.scim.members",
            "dsync.group.updated",
            "dsync.group.user_removed",
            "dsync.group.user_added",
        ]
    );
    let request = record(&server, before + 1);
    let expected = json!({
        "object": "event",
        "data": {
            "directory_id": directory.id, "organization_id": "org_a", "method": "PATCH",
            "path": path, "user_agent": "Okta SCIM Client 1.0.0", "status": 200,
            "redacted": [],
            "resource": { "type": "Group", "id": group, "document": { "displayName": "Staff of all" } },
        },
    });
    assert!(holds(&expected, &request), "{request}");
    assert_eq!(request["data"]["body"], text);
    let members = record(&server, before + 2);
    assert_eq!(members["data"]["request_id"], request["id"]);
    assert_eq!(members["data"]["added"], json!([{ "value": bo, "display": "Bo" }]));
    assert_eq!(members["data"]["removed"], json!([ana]));
    for seq in before + 3..=server.head() {
        let event = record(&server, seq);
        assert_eq!(event["context"]["scim"]["request_id"], request["id"]);
        assert_eq!(event["created_at"], request["created_at"], "all in one moment");
    }
    assert_eq!(etag(&changed), format!("W/\"{}\"", before + 1));
    directory.expect_events_to_tell_all();
}

#[test]
fn a_start_and_a_rebuild_answer_the_same_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = Directory::create(&server, "org_a", "delete");
    let (ana, bo) = (directory.user("ana"), directory.user("bo"));
    let group = directory.group("Staff", &[&ana, &bo]);
    directory.patch(
        &format!("/Users/{bo}"),
        json!([{ "op": "replace", "path": "active", "value": false }]),
    );
    directory.user("cy");
    directory.delete(&format!("/Users/{ana}"));
    let paths = [
        "/Users".to_owned(),
        "/Groups".to_owned(),
        format!("/Users/{bo}"),
        format!("/Groups/{group}"),
        "/Users?filter=userName%20eq%20%22BO%22".to_owned(),
    ];
    let read = |directory: &Directory| -> Vec<(Option<String>, Value)> {
        let one = |path: &String| {
            let answer = directory.call("GET", path, None);
            let text = String::from_utf8(answer.body.clone()).unwrap();
            // Locations name the port of the server.
            let text = text.replace(&directory.url, "http://server");
            (answer.header("etag").map(str::to_owned), serde_json::from_str(&text).unwrap())
        };
        paths.iter().map(one).collect()
    };
    let before = read(&directory);
    let rebuilt = server.act("POST", "/rollcall/v1/projections/rebuild", None);
    assert!([200, 202].contains(&rebuilt.status), "{}", rebuilt.status);
    assert_eq!(read(&directory), before);
    assert_eq!(server.stop(), 0);
    let server = Server::start(folder.path());
    let directory = directory.on(&server);
    assert_eq!(read(&directory), before);
    assert_eq!(directory.call("POST", "/Users", Some(&user("Bo"))).status, 409);
    directory.expect_events_to_tell_all();
}
