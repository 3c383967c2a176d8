//! Directories that identity providers push into: created by operators, with tokens, and what is
//! told of them and of their requests.

use rollcall::http::WEBHOOK_PATH;
use rollcall::keys::KeyEntry;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::kit::keyed::{Keyed, entry};
use crate::kit::model::{read_time, rfc3339};
use crate::kit::server::{API_KEY, Answer, SECRET, agent, ask_scim, now_ms, post, signature};

const DIRECTORIES: &str = "/rollcall/v1/directories";
const REQUESTS: &str = "/rollcall/v1/scim_requests";

/// A directory of an identity provider, and its first token.
struct Hosted {
    id: String,
    token: String,
}

fn get(server: &Keyed, path: &str) -> Value {
    let answer = server.ask_as(API_KEY, "get", path, None);
    assert_eq!(answer.status, 200, "{path}: {}", answer.json());
    answer.json()
}

fn create(server: &Keyed, body: &Value) -> Value {
    let answer = server.ask_as(API_KEY, "post", DIRECTORIES, Some(body));
    assert_eq!(answer.status, 201, "{}", answer.json());
    answer.json()
}

fn hosted(server: &Keyed, organization: &str) -> Hosted {
    let body = json!({ "name": "Halden", "organization_id": organization });
    let made = create(server, &body);
    let text = |pointer: &str| made.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    Hosted { id: text("/id"), token: text("/scim/token/token") }
}

impl Hosted {
    fn tokens(&self) -> String {
        format!("{DIRECTORIES}/{}/tokens", self.id)
    }

    /// Asks over SCIM with a token.
    fn scim(
        &self,
        server: &Keyed,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let url = format!("{}/scim/v2/{}{path}", server.url, self.id);
        ask_scim(method, &url, token, &body.map(Value::to_string).unwrap_or_default())
    }

    /// Creates a user over SCIM. Returns its id there.
    fn user(&self, server: &Keyed, name: &str) -> String {
        let user = json!({ "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "userName": name, "password": "hush", "active": true });
        let answer = self.scim(server, &self.token, "post", "/Users", Some(&user));
        assert_eq!(answer.status, 201, "{}", answer.json());
        answer.json()["id"].as_str().unwrap().to_owned()
    }
}

/// Returns the events of some types, in order of seq.
fn events(server: &Keyed, types: &str) -> Vec<Value> {
    get(server, &format!("/events?limit=100&events={types}"))["data"].as_array().unwrap().clone()
}

fn send(server: &Keyed, event: &Value) -> Value {
    let body = event.to_string();
    let url = format!("{}{WEBHOOK_PATH}", server.url);
    let header = signature(SECRET, &now_ms().to_string(), body.as_bytes());
    let headers = [("WorkOS-Signature", header.as_str())];
    let answer = post(&agent(), &url, body.as_bytes(), &headers).unwrap();
    assert_eq!(answer.status, 200, "{body}");
    answer.json()
}

const ALL: &str = "rollcall.directory.created,dsync.activated,rollcall.directory_token.created,\
    dsync.token.created,rollcall.directory_token.revoked,dsync.token.revoked,\
    rollcall.directory.deleted,dsync.deleted";

#[test]
fn a_directory_is_created_with_a_token_that_is_shown_once() {
    let server = Keyed::start(&[], &[]);
    let made = create(
        &server,
        &json!({ "name": "Halden", "organization_id": "org_1", "type": "okta scim v2.0",
            "deactivation": "update", "note": "asked for" }),
    );
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("directory_") && id.len() == 36, "{id}");
    let mut shown = made.clone();
    let scim = shown.as_object_mut().unwrap().remove("scim").unwrap();
    assert_eq!(shown, get(&server, &format!("/directories/{id}")));
    let of = |field: &str| shown[field].as_str().unwrap();
    assert_eq!(
        [of("name"), of("organization_id"), of("type"), of("state")],
        ["Halden", "org_1", "okta scim v2.0", "linked"]
    );
    assert_eq!(scim["url"], format!("{}/scim/v2/{id}", server.url));
    assert_eq!(scim["deactivation"], "update");
    let token = scim["token"]["token"].as_str().unwrap();
    assert!(token.starts_with("scim_") && token.len() == 48, "32 bytes in base64url: {token}");
    assert!(token.ends_with(scim["token"]["token_suffix"].as_str().unwrap()));
    let fields: Vec<&String> = scim["token"].as_object().unwrap().keys().collect();
    assert_eq!(fields.len(), 4, "{fields:?}");

    let told = events(&server, ALL);
    let types: Vec<&str> = told.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        [
            "rollcall.directory.created",
            "dsync.activated",
            "rollcall.directory_token.created",
            "dsync.token.created"
        ]
    );
    let [created, activated, token_created, token_told] = told.as_slice() else { unreachable!() };
    assert!(told.iter().all(|event| event["created_at"] == created["created_at"]));
    assert_eq!(created["data"]["directory_id"], id);
    assert_eq!(created["data"]["deactivation"], "update");
    assert_eq!(created["data"]["note"], "asked for");
    assert!(created["id"].as_str().unwrap().starts_with("op_"));
    assert!(activated["id"].as_str().unwrap().starts_with("event_"));
    assert_eq!(activated["data"]["id"], id);
    let sha256 = hex::encode(Sha256::digest(token));
    assert_eq!(token_created["data"]["sha256"], sha256);
    assert_eq!(token_created["data"]["directory_id"], id);
    assert_eq!(token_told["data"]["id"], scim["token"]["id"]);
    assert_eq!(token_told["data"]["token_suffix"], scim["token"]["token_suffix"]);
    assert!(!activated.to_string().contains(&sha256) && !token_told.to_string().contains(&sha256));
    assert!(told.iter().all(|event| !event.to_string().contains(token)));
    // Consumers that name no type of Rollcall's own see the others only.
    assert_eq!(events(&server, "dsync.activated,dsync.token.created").len(), 2);

    let defaults = create(&server, &json!({ "name": "x", "organization_id": "org_1" }));
    assert_eq!(defaults["type"], "generic scim v2.0");
    assert_eq!(defaults["scim"]["deactivation"], "delete");
}

#[test]
fn a_body_that_is_wrong_is_refused_with_every_mistake() {
    let server = Keyed::start(&[], &[]);
    for (body, fields) in [
        (json!({}), vec!["name", "organization_id"]),
        (
            json!({ "name": "", "organization_id": "o".repeat(256) }),
            vec!["name", "organization_id"],
        ),
        (
            json!({ "name": "x", "organization_id": "o", "type": "okta", "deactivation": "keep" }),
            vec!["type", "deactivation"],
        ),
        (json!({ "name": "x", "organization_id": "o", "no such field": 1 }), vec!["no such field"]),
    ] {
        let answer = server.ask_as(API_KEY, "post", DIRECTORIES, Some(&body));
        assert_eq!((answer.status, answer.code().as_str()), (422, "validation_failed"), "{body}");
        let errors = answer.json()["errors"].as_array().unwrap().clone();
        let found: Vec<&str> =
            errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
        assert_eq!(found, fields, "{body}");
    }
    assert_eq!(get(&server, "/directories")["data"], json!([]));
}

#[test]
fn two_tokens_are_live_and_a_revoked_one_is_dead_for_ever() {
    let server = Keyed::start(&[], &[]);
    let directory = hosted(&server, "org_1");
    let tokens = directory.tokens();
    let make = |body: Option<&Value>| server.ask_as(API_KEY, "post", &tokens, body);
    let works = |token: &str| directory.scim(&server, token, "get", "/Users", None).status == 200;
    assert!(works(&directory.token));
    let second = make(Some(&json!({ "note": "rotation" })));
    assert_eq!(second.status, 201, "{}", second.json());
    let second = second.json();
    let second_token = second["token"].as_str().unwrap();
    assert!(works(&directory.token) && works(second_token));
    let third = make(None);
    assert_eq!((third.status, third.code().as_str()), (409, "conflict"));

    let listed = get(&server, &tokens)["data"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1]["id"], second["id"]);
    assert!(
        listed.iter().all(|token| token["revoked_at"].is_null() && token.get("token").is_none())
    );
    assert!(listed.iter().all(|token| token["last_used_at"].is_string()), "{listed:?}");
    let first = listed[0]["id"].as_str().unwrap();
    let delete = |id: &str| server.ask_as(API_KEY, "delete", &format!("{tokens}/{id}"), None);
    for _ in 0..2 {
        let gone = delete(first);
        assert_eq!((gone.status, gone.body.len()), (204, 0));
    }
    let unknown = delete("directory_token_x");
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "entity_not_found"));
    assert!(!works(&directory.token) && works(second_token));
    let revocations = events(&server, "rollcall.directory_token.revoked,dsync.token.revoked");
    assert_eq!(revocations.len(), 2, "a repetition records nothing");
    assert!(get(&server, &tokens)["data"][0]["revoked_at"].is_string());

    // One that is over counts no more than one that was revoked.
    let past = rfc3339(now_ms() - 1000);
    let over = make(Some(&json!({ "expires_at": past }))).json();
    assert!(!works(over["token"].as_str().unwrap()));
    assert_eq!(make(None).status, 201);
    assert_eq!(make(None).status, 409);
    let page = get(&server, &format!("{tokens}?limit=1&order=desc"));
    assert_eq!(page["data"][0]["id"], get(&server, &tokens)["data"][3]["id"]);
    // Of a directory that is not one of an identity provider, or not known.
    let make_at =
        |id: &str| server.ask_as(API_KEY, "post", &format!("{DIRECTORIES}/{id}/tokens"), None);
    assert_eq!(make_at("directory_x").status, 404);
    // Tokens open no call of Rollcall's own.
    assert_eq!(server.ask_as(second_token, "get", &tokens, None).status, 401);
}

#[test]
fn a_deletion_ends_the_tokens_and_is_told_in_the_same_moment() {
    let server = Keyed::start(&[], &[]);
    let directory = hosted(&server, "org_1");
    directory.user(&server, "ana@x.example");
    let path = format!("/directories/{}", directory.id);
    assert_eq!(server.ask_as(API_KEY, "delete", &path, None).status, 202);
    let told = events(&server, "rollcall.directory.deleted,dsync.deleted");
    let [act, event] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(act["event"], "rollcall.directory.deleted");
    assert_eq!(event["event"], "dsync.deleted");
    assert_eq!(act["created_at"], event["created_at"]);
    assert_eq!(event["data"]["name"], "Halden");
    assert_eq!(event["data"]["type"], "generic scim v2.0");
    assert!(event["data"]["updated_at"].is_string());
    let lost = get(&server, "/rollcall/v1/deprovisionings")["data"].as_array().unwrap().clone();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0]["reason"], "directory_deleted");
    assert_eq!(lost[0]["cause"]["event_id"], act["id"]);
    let listed = get(&server, "/rollcall/v1/quarantine");
    assert_eq!(listed["data"], json!([]), "neither is overtaken by the other");
    let asked = directory.scim(&server, &directory.token, "get", "/Users", None);
    assert_eq!(asked.status, 401);
    assert_eq!(server.ask_as(API_KEY, "post", &directory.tokens(), None).status, 404);
    assert!(get(&server, &directory.tokens())["data"][0]["revoked_at"].is_string());
    // A repetition records nothing.
    assert_eq!(server.ask_as(API_KEY, "delete", &path, None).status, 202);
    assert_eq!(events(&server, "rollcall.directory.deleted,dsync.deleted").len(), 2);
}

#[test]
fn only_scim_writes_into_a_directory_of_an_identity_provider() {
    let server = Keyed::start(&[], &[]);
    let directory = hosted(&server, "org_1");
    directory.user(&server, "ana@x.example");
    let users = format!("/directory_users?directory={}", directory.id);
    let before = get(&server, &users);
    let user = before["data"][0]["id"].as_str().unwrap().to_owned();
    let event = |id: &str, kind: &str, data: Value| {
        json!({ "object": "event", "id": id, "event": kind, "data": data,
            "created_at": rfc3339(now_ms()), "context": {} })
    };
    let foreign = [
        event("e1", "dsync.user.deleted", json!({ "id": user })),
        event("e2", "dsync.deleted", json!({ "id": directory.id })),
        event("e3", "dsync.user.created", json!({ "id": "u2", "directory_id": directory.id })),
        event(
            "e4",
            "dsync.group.user_added",
            json!({ "directory_id": "d2", "user": { "id": user }, "group": { "id": "g2" } }),
        ),
        event("e5", "dsync.group.created", json!({ "id": "g1", "directory_id": directory.id })),
    ];
    let seqs: Vec<Value> =
        foreign.iter().map(|event| send(&server, event)["seq"].clone()).collect();
    // It names the directory in no field by which an event names one.
    send(&server, &event("e6", "dsync.activated", json!({ "id": "d3", "name": directory.id })));
    let listed = get(&server, "/rollcall/v1/quarantine")["data"].as_array().unwrap().clone();
    let found: Vec<&Value> = listed.iter().map(|entry| &entry["seq"]).collect();
    assert_eq!(found, seqs.iter().collect::<Vec<_>>());
    assert!(listed.iter().all(|entry| entry["reason"] == "foreign_directory"), "{listed:?}");
    // All are about the directory: they name it, or its user.
    let of = |directory: &str| {
        get(&server, &format!("/rollcall/v1/quarantine?directory={directory}"))["data"].clone()
    };
    assert_eq!((of(&directory.id), of("d2")), (json!(listed), json!([listed[3]])));
    assert_eq!(get(&server, &users), before);
    let told = events(&server, "dsync.user.deleted,dsync.deleted,dsync.group.created");
    assert_eq!(told, [] as [Value; 0], "what has no effect is in no list of events");
    // What an event was about is not changed by what comes later: the user of the third is in another
    // directory now.
    send(&server, &event("e8", "dsync.user.created", json!({ "id": "u2", "directory_id": "d4" })));
    assert_eq!((of(&directory.id), of("d4")), (json!(listed), json!([])));
    // An imported event is foreign as well, and an operator's act is not.
    let line = event("e7", "dsync.user.deleted", json!({ "id": user })).to_string();
    let url = format!("{}/rollcall/v1/import", server.url);
    let headers = [
        ("Authorization", format!("Bearer {API_KEY}")),
        ("Content-Type", "application/x-ndjson".to_owned()),
    ];
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(post(&agent(), &url, line.as_bytes(), &headers).unwrap().status, 200);
    let link = json!({ "app_user_id": "1", "directory_user_id": user });
    assert_eq!(server.ask_as(API_KEY, "put", "/rollcall/v1/links", Some(&link)).status, 200);
    let listed = get(&server, "/rollcall/v1/quarantine")["data"].as_array().unwrap().len();
    assert_eq!(listed, 6);
    assert_eq!(get(&server, &users)["data"].as_array().unwrap().len(), 1);
}

#[test]
fn support_sees_what_was_sent_and_what_became_of_it() {
    let server = Keyed::start(&[], &[]);
    let (directory, other) = (hosted(&server, "org_1"), hosted(&server, "org_2"));
    let ana = directory.user(&server, "ana@x.example");
    let bo = other.user(&server, "bo@x.example");
    let patch = json!({ "Operations": [{ "op": "replace", "path": "userName", "value": "eva@x.example" }] });
    let changed =
        directory.scim(&server, &directory.token, "patch", &format!("/Users/{ana}"), Some(&patch));
    assert_eq!(changed.status, 200);
    let unchanged =
        directory.scim(&server, &directory.token, "patch", &format!("/Users/{ana}"), Some(&patch));
    assert_eq!(unchanged.status, 200);
    let list = |query: &str| -> Vec<Value> {
        get(&server, &format!("{REQUESTS}?{query}"))["data"].as_array().unwrap().clone()
    };
    let all = list("");
    let methods: Vec<&str> = all.iter().map(|one| one["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["POST", "POST", "PATCH"], "what changes nothing is not recorded");
    let first = &all[0];
    assert_eq!(first["directory_id"], directory.id);
    assert_eq!(first["path"], "/Users");
    assert_eq!(first["status"], 201);
    assert_eq!(first["resource"]["id"], ana);
    let user = first["resource"]["directory_user_id"].as_str().unwrap();
    assert_eq!(get(&server, &format!("/directory_users/{user}"))["email"], "eva@x.example");
    let events_of = |request: &Value| -> Vec<String> {
        let events = request["events"].as_array().unwrap();
        assert_eq!(request["event_count"], events.len());
        events.iter().map(|cause| cause["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(events_of(first), ["dsync.user.created"]);
    assert_eq!(events_of(&all[2]), ["dsync.user.updated"]);
    // Filters.
    let ids =
        |of: &[Value]| -> Vec<Value> { of.iter().map(|one| one["request_id"].clone()).collect() };
    let own = [all[0].clone(), all[2].clone()];
    assert_eq!(ids(&list(&format!("directory={}", directory.id))), ids(&own));
    assert_eq!(ids(&list(&format!("user={user}"))), ids(&own));
    assert_eq!(ids(&list(&format!("user={ana}&order=desc&limit=1"))), ids(&all[2..]));
    assert_eq!(ids(&list(&format!("user={bo}"))), ids(&all[1..2]));
    let until = first["recorded_at"].as_str().unwrap();
    let later = rfc3339(read_time(until).unwrap() + 60_000);
    assert_eq!(ids(&list(&format!("since={until}&until={later}"))), ids(&all));
    assert_eq!(list(&format!("since={later}")), [] as [Value; 0]);
    let page = get(&server, &format!("{REQUESTS}?limit=2"));
    assert_eq!(ids(page["data"].as_array().unwrap()), ids(&all[..2]));
    let after = page["list_metadata"]["after"].as_str().unwrap();
    assert_eq!(ids(&list(&format!("after={after}"))), ids(&all[2..]));
    for (query, status) in
        [("user=u9", 404), ("group=g9", 404), ("directory=d9", 404), ("after=x", 422)]
    {
        let answer = server.ask_as(API_KEY, "get", &format!("{REQUESTS}?{query}"), None);
        assert_eq!(answer.status, status, "{query}");
    }
    // One of them, with its body, in which the password is not.
    let item = get(&server, &format!("{REQUESTS}/{}", first["request_id"].as_str().unwrap()));
    assert_eq!(item["body"]["password"], "redacted");
    assert_eq!(item["redacted"], json!(["/password"]));
    assert_eq!(item["document"]["userName"], "ana@x.example");
    let mut outline = item;
    for field in ["body", "redacted", "document"] {
        assert!(outline.as_object_mut().unwrap().remove(field).is_some());
    }
    assert_eq!(outline, *first);
    let unknown = server.ask_as(API_KEY, "get", &format!("{REQUESTS}/op_1"), None);
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "entity_not_found"));
    // The list of events shows them by name only, and without their content.
    let told = events(&server, "rollcall.scim.request");
    assert_eq!(told.len(), 3);
    let data = told[0]["data"].as_object().unwrap();
    assert!(!data.contains_key("body"), "{data:?}");
    assert!(data["resource"].get("document").is_none(), "{data:?}");
    assert_eq!(data["resource"]["id"], ana);
    assert_eq!(data["redacted"], json!(["/password"]));
}

#[test]
fn a_bound_key_sees_and_makes_what_is_of_its_organization() {
    let own = |name: &str, scopes: &[&str]| KeyEntry {
        organizations: Some(vec!["org_1".into()]),
        ..entry(name, scopes)
    };
    let keys = [own("own", &["operate", "read", "audit"])];
    let server = Keyed::start(&keys, &[]);
    let theirs = hosted(&server, "org_2");
    theirs.user(&server, "bo@x.example");
    let body = |organization: &str| json!({ "name": "x", "organization_id": organization });
    let refused = server.ask("own", "post", DIRECTORIES, Some(&body("org_2")));
    assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"));
    let made = server.ask("own", "post", DIRECTORIES, Some(&body("org_1")));
    assert_eq!(made.status, 201, "{}", made.json());
    let made = made.json();
    let ours = Hosted {
        id: made["id"].as_str().unwrap().to_owned(),
        token: made["scim"]["token"]["token"].as_str().unwrap().to_owned(),
    };
    ours.user(&server, "ana@x.example");
    assert_eq!(server.get("own", &ours.tokens()).status, 200);
    assert_eq!(server.ask("own", "post", &ours.tokens(), None).status, 201);
    let token = get(&server, &theirs.tokens())["data"][0]["id"].as_str().unwrap().to_owned();
    for (method, path) in [
        ("get", theirs.tokens()),
        ("post", theirs.tokens()),
        ("delete", format!("{}/{token}", theirs.tokens())),
        ("get", format!("{REQUESTS}?directory={}", theirs.id)),
    ] {
        let answer = server.ask("own", method, &path, None);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "entity_not_found"),
            "{method} {path}"
        );
    }
    let listed = server.get("own", REQUESTS).json();
    let directories: Vec<&Value> =
        listed["data"].as_array().unwrap().iter().map(|one| &one["directory_id"]).collect();
    assert_eq!(directories, [&ours.id]);
    let all = get(&server, REQUESTS)["data"].as_array().unwrap().clone();
    assert_eq!(all.len(), 2);
    let user = all[0]["resource"]["id"].as_str().unwrap();
    for (directory, count) in [(&theirs.id, 1), (&ours.id, 0)] {
        let of_both = get(&server, &format!("{REQUESTS}?directory={directory}&user={user}"));
        assert_eq!(of_both["data"].as_array().unwrap().len(), count, "{directory} {user}");
    }
    let of_theirs = all[0]["request_id"].as_str().unwrap();
    assert_eq!(server.get("own", &format!("{REQUESTS}/{of_theirs}")).status, 404);
}
