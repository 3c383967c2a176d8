//! HEAD, the challenge of a 401, and mistakes in parameters and fields: a code for programs and a
//! sentence for people.

use serde_json::{Value, json};

use crate::calls::openapi::{CALLS, path_of};
use crate::kit::server::{API_KEY, Answer, Server, user};

fn with_user() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let moment = "2026-01-01T00:00:00.000Z";
    server.deliver(&user("u", "d", "ana", moment, "e", "dsync.user.created"));
    (folder, server)
}

/// The headers of an answer, by name, without those that differ between two equal requests.
fn lasting_headers(answer: &Answer) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()))
        .cloned()
        .collect();
    headers.sort();
    headers
}

#[test]
fn head_is_answered_as_get_without_the_body_on_every_path() {
    let (_folder, server) = with_user();
    let calls = CALLS.iter().map(|(path, needs)| path_of(path, needs).0);
    let others = [
        "/directories?as_of=2026-02-01T00:00:00Z",
        "/directory_users/u",
        "/directory_users/u?as_of=2026-02-01T00:00:00Z",
        "/directory_users?directory=d",
        "/rollcall/v1/users/u/history",
        "/directories?limit=0",
        "/nowhere",
        "/webhooks/workos",
        "/rollcall/v1/projections/rebuild",
    ];
    // Their answers change by the moment.
    let restless = ["/rollcall/v1/stats", "/rollcall/v1/projections", "/rollcall/v1/changes"];
    for path in calls.chain(others.map(str::to_owned)) {
        for key in [API_KEY, "wrong"] {
            let [head, get] = ["head", "get"]
                .map(|method| server.send(method, &format!("{}{path}", server.url), key, ""));
            assert_eq!((head.status, &head.body[..]), (get.status, &b""[..]), "{path}");
            if !restless.contains(&path.as_str()) {
                assert_eq!(lasting_headers(&head), lasting_headers(&get), "{path}");
            }
        }
    }
    // What costs a walk is not walked for a length that is not read.
    for path in ["/rollcall/v1/stats", "/rollcall/v1/projections"] {
        let head = server.send("head", &format!("{}{path}", server.url), API_KEY, "");
        assert_eq!((head.header("content-length"), head.status), (None, 200), "{path}");
        assert_eq!(head.header("content-type"), server.get(path).header("content-type"));
    }
    // The connection serves further requests.
    assert_eq!(server.get("/directory_users/u").status, 200);
}

#[test]
fn a_401_names_the_scheme() {
    let (_folder, server) = with_user();
    let without_key = ["/directories", "/rollcall/v1/stats", "/directory_users/u?known_at=1"]
        .map(|path| server.get_with(path, &[]));
    let unsigned = server.post_with(b"{}", &[]);
    for answer in without_key.iter().chain([&unsigned]) {
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
    }
    assert_eq!(server.get("/directories").header("www-authenticate"), None);
    assert_eq!(server.get("/nowhere").header("www-authenticate"), None);
}

/// The mistakes that an answer names, each as field and code; every one has a sentence.
fn mistakes(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.status, 422, "{}", String::from_utf8_lossy(&answer.body));
    let body = answer.json();
    let text = |error: &Value, key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let errors = body["errors"].as_array().unwrap().iter();
    errors
        .map(|error| {
            assert!(text(error, "message").contains(' '), "{error}");
            assert_eq!(error.as_object().unwrap().len(), 3, "{error}");
            (text(error, "field"), text(error, "code"))
        })
        .collect()
}

#[test]
fn each_mistake_in_a_parameter_has_a_code_and_a_sentence() {
    let (_folder, server) = with_user();
    let long = "x".repeat(1025);
    let too_long = format!("role_assignments?role={long}");
    for (path, expected) in [
        ("role_assignments?asof=1", vec![("asof", "unknown_parameter")]),
        ("users", vec![("email", "required")]),
        ("diff", vec![("from", "required")]),
        ("role_assignments?role=", vec![("role", "invalid")]),
        ("role_assignments?role=a&role=b", vec![("role", "invalid")]),
        (&too_long, vec![("role", "too_long")]),
        ("role_assignments?organization=a&organization_id=b", vec![("organization", "exclusive")]),
        ("role_assignments?after=YQ.YQ&before=YQ.YQ", vec![("before", "exclusive")]),
        ("role_assignments?after=x", vec![("after", "invalid")]),
        ("role_assignments?order=up", vec![("order", "invalid")]),
        ("role_assignments?limit=0", vec![("limit", "out_of_range")]),
        ("role_assignments?limit=1001", vec![("limit", "out_of_range")]),
        ("role_assignments?limit=99999999999999999999999", vec![("limit", "out_of_range")]),
        ("role_assignments?limit=x", vec![("limit", "invalid")]),
        ("role_assignments?as_of=x", vec![("as_of", "invalid")]),
        ("role_assignments?as_of=2999-01-01T00:00:00Z", vec![("as_of", "out_of_range")]),
        ("role_assignments?known_at=-1", vec![("known_at", "invalid")]),
        ("role_assignments?known_at=9", vec![("known_at", "out_of_range")]),
        ("log/checkpoint?size=0", vec![("size", "out_of_range")]),
        ("log/checkpoint?size=9", vec![("size", "out_of_range")]),
        ("log/checkpoint?size=x", vec![("size", "invalid")]),
        ("deprovisionings?since=x", vec![("since", "invalid")]),
        (
            "role_assignments?limit=0&b=1&a=1",
            vec![("limit", "out_of_range"), ("a", "unknown_parameter"), ("b", "unknown_parameter")],
        ),
    ] {
        let found = mistakes(&server.get(&format!("/rollcall/v1/{path}")));
        let found: Vec<(&str, &str)> =
            found.iter().map(|(field, code)| (field.as_str(), code.as_str())).collect();
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn each_mistake_in_a_body_has_a_code_and_a_sentence() {
    let (_folder, server) = with_user();
    let long = "x".repeat(1025);
    let group = json!({ "name": "g" });
    let rule = |rule: Value| json!({ "mapping": { "rules": [rule] } });
    for (path, body, expected) in [
        ("policy", json!({}), ("inactive_users", "required")),
        ("policy", json!({ "inactive_users": "maybe" }), ("inactive_users", "invalid")),
        ("policy", json!([]), ("body", "invalid")),
        ("role_mapping", json!({}), ("mapping", "required")),
        ("role_mapping", json!({ "mapping": [] }), ("mapping", "invalid")),
        ("role_mapping", json!({ "mapping": {}, "a": 1 }), ("a", "unknown_parameter")),
        ("role_mapping", json!({ "mapping": {}, "note": long }), ("note", "too_long")),
        ("role_mapping", json!({ "mapping": {}, "note": 1 }), ("note", "invalid")),
        (
            "role_mapping",
            json!({ "mapping": {}, "effective_from": "x" }),
            ("effective_from", "invalid"),
        ),
        (
            "role_mapping",
            json!({ "mapping": {}, "effective_from": "2999-01-01T00:00:00Z" }),
            ("effective_from", "out_of_range"),
        ),
        ("role_mapping", json!({ "mapping": { "a": 1 } }), ("mapping.a", "unknown_parameter")),
        ("role_mapping", rule(json!({})), ("mapping.rules[0]", "required")),
        (
            "role_mapping",
            rule(json!({ "group": group, "attribute": "a" })),
            ("mapping.rules[0]", "exclusive"),
        ),
        ("role_mapping", rule(json!({ "group": group })), ("mapping.rules[0].roles", "required")),
        (
            "role_mapping",
            rule(json!({ "group": group, "roles": [long] })),
            ("mapping.rules[0].roles[0]", "too_long"),
        ),
        (
            "role_mapping",
            rule(json!({ "group": group, "roles": ["r"], "values": {} })),
            ("mapping.rules[0].values", "exclusive"),
        ),
        (
            "role_mapping",
            rule(json!({ "group": { "name": long }, "roles": ["r"] })),
            ("mapping.rules[0].group.name", "too_long"),
        ),
        (
            "role_mapping",
            json!({ "mapping": { "mode": "highest_priority", "default_roles": ["m"] } }),
            ("mapping.priority", "required"),
        ),
    ] {
        let found = mistakes(&server.put(&format!("/rollcall/v1/{path}"), &body));
        assert_eq!(found, [(expected.0.to_owned(), expected.1.to_owned())], "{path} {body}");
    }
}

/// Client libraries show `code` to people, and WorkOS puts a sentence there.
#[test]
fn on_the_paths_of_workos_a_mistake_is_as_workos_words_it() {
    let (_folder, server) = with_user();
    let scope = "Please provide either \"directory\" or \"group\" parameters.";
    for (path, expected) in [
        (
            "/directory_users",
            json!([{ "field": "directory", "code": scope }, { "field": "group", "code": scope }]),
        ),
        ("/directories?asof=1", json!([{ "field": "asof", "code": "unknown parameter" }])),
        (
            "/directory_groups?directory=d&limit=0",
            json!([{ "field": "limit", "code": "it must be a whole number from 1 to 100" }]),
        ),
        (
            "/directory_users/u?as_of=2999-01-01T00:00:00Z",
            json!([{ "field": "as_of", "code": "`as_of` is later than this server's clock" }]),
        ),
        (
            "/events?events=a&after=x",
            json!([{ "field": "after", "code": "this is not a cursor of this list" }]),
        ),
    ] {
        let answer = server.get(path);
        assert_eq!((answer.status, &answer.json()["errors"]), (422, &expected), "{path}");
    }
}
