//! `rollcall directory` and `rollcall scim`: directories of identity providers, their tokens, and
//! what was sent.

use serde_json::{Value, json};

use super::read::{ask, err, out};
use crate::kit::server::{Server, ask_scim};

/// Returns the second word of the line that begins with `name`.
fn named(answer: &str, name: &str) -> String {
    let mut lines = answer.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|words| words.first() == Some(&name)).unwrap()[1].to_owned()
}

#[test]
fn a_provider_is_connected_its_token_replaced_and_its_requests_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let made = ask(
        &server,
        &["directory", "new", "--name", "Halden", "--organization", "org_1", "--type", "jumpcloud"],
    );
    let made = out(&made);
    let (id, url, token) = (named(&made, "directory"), named(&made, "url"), named(&made, "token"));
    assert_eq!(url, format!("{}/scim/v2/{id}", server.url));
    let shown = server.get(&format!("/directories/{id}")).json();
    assert_eq!(shown["type"], "jump cloud scim v2.0");

    let next = out(&ask(&server, &["directory", "token", "new", &id, "--expires", "30d"]));
    let second = named(&next, "token");
    assert!(named(&next, "expires").ends_with('Z'), "{next}");
    let third = ask(&server, &["directory", "token", "new", "Halden"]);
    assert_eq!(third.status.code(), Some(1));
    assert!(err(&third).contains("two tokens of the directory are live"), "{}", err(&third));
    let listed = out(&ask(&server, &["directory", "token", "list", "Halden", "--json"]));
    let tokens: Vec<Value> =
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(tokens.len(), 2);
    let first = tokens[0]["id"].as_str().unwrap();
    let unasked = ask(&server, &["directory", "token", "revoke", &id, first]);
    assert_eq!(unasked.status.code(), Some(1), "without a terminal it needs --yes");
    let revoked = out(&ask(&server, &["directory", "token", "revoke", &id, first, "--yes"]));
    assert_eq!(revoked, format!("{first} is revoked\n"));
    let table = out(&ask(&server, &["directory", "token", "list", &id]));
    assert_eq!(table.lines().count(), 3, "a head and two tokens: {table}");

    let user = json!({ "userName": "ana@x.example", "active": true }).to_string();
    let post = |token: &str| {
        let users = format!("{url}/Users");
        ask_scim("post", &users, token, &user).status
    };
    assert_eq!((post(&token), post(&second)), (401, 201));
    let requests = out(&ask(&server, &["scim", "requests", "--directory", "Halden"]));
    assert!(requests.contains("POST") && requests.contains("dsync.user.created"), "{requests}");
    let of_user = ["scim", "requests", "--user", "ana@x.example", "--json"];
    let of_user = out(&ask(&server, &of_user));
    let request: Value = serde_json::from_str(of_user.trim()).unwrap();
    let id = request["request_id"].as_str().unwrap();
    let whole: Value =
        serde_json::from_str(&out(&ask(&server, &["scim", "requests", id]))).unwrap();
    assert_eq!(whole["body"]["userName"], "ana@x.example");
    let none = out(&ask(&server, &["scim", "requests", "--until", "2020-01-01", "--json"]));
    assert_eq!(none, "");
}
