//! `rollcall link`: proposals from a file of users, and links set, listed and removed.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use super::read::{ask, err, out, reorganised};
use crate::kit::server::{Server, user};

fn created(server: &Server, id: &str, directory: &str, email: &str, second: u32) {
    let at = format!("2026-01-01T00:00:{second:02}.000Z");
    let event_id = format!("event_{id}");
    let mut event: Value =
        serde_json::from_str(&user(id, directory, id, &at, &event_id, "dsync.user.created"))
            .unwrap();
    event["data"]["email"] = json!(email);
    server.deliver(&event.to_string());
}

/// Two directories: in the first two users share an address, and one is of both.
fn company(folder: &Path) -> Server {
    let server = Server::start(&folder.join("data"));
    created(&server, "u1", "d1", "Ana@x.example", 1);
    created(&server, "u2", "d1", "bo@x.example", 2);
    created(&server, "u3", "d1", "team@x.example", 3);
    created(&server, "u4", "d1", "TEAM@x.example", 4);
    created(&server, "v1", "d2", "ana@x.example", 5);
    created(&server, "v2", "d2", "zoe@x.example", 6);
    server
}

fn link(server: &Server, file: &Path, text: &str, arguments: &[&str]) -> Output {
    std::fs::write(file, text).unwrap();
    let file = file.to_str().unwrap();
    let given: Vec<&str> =
        arguments.iter().map(|word| if *word == "FILE" { file } else { word }).collect();
    ask(server, &[&["link"][..], &given].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Returns the rows of a table, with one space between two cells.
fn rows(table: &str) -> Vec<String> {
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn proposals_are_what_set_takes_and_the_rest_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let server = company(folder.path());
    let file = folder.path().join("users.csv");
    let users = "user_id,name,email\n7,Ana,ANA@x.example\n8,Bo,bo@x.example\n9,Team,team@x.example\n\
        10,Ed,ed@x.example\n";
    let output = link(&server, &file, users, &["match", "FILE"]);
    let proposals = out(&output);
    assert_eq!(proposals, "user_id,directory_user_id\n7,u1\n7,v1\n8,u2\n");
    let report = rows(&err(&output));
    let expected = [
        "3 links are proposed",
        "",
        "ambiguous: 1",
        "email application users directory users directory",
        "team@x.example 9 u3, u4 d1",
        "",
        "only in the file: 1",
        "email application users directory users directory",
        "ed@x.example 10",
        "",
        "only in a directory: 1",
        "email application users directory users directory",
        "zoe@x.example v2 d2",
    ];
    assert_eq!(report, expected);
    let links = folder.path().join("links.csv");
    let set = link(&server, &links, &proposals, &["set", "FILE"]);
    assert_eq!(rows(&out(&set)), ["outcome links", "set 3"]);
    // What is there is not proposed again, and a directory or an organization narrows.
    let again = link(&server, &file, users, &["match", "FILE", "--directory", "d2"]);
    assert_eq!(out(&again), "user_id,directory_user_id\n");
    assert!(err(&again).starts_with("0 links are proposed\n1 link is there\n"), "{}", err(&again));
    let lines = link(&server, &file, users, &["match", "FILE", "--json"]);
    let lines: Vec<Value> =
        out(&lines).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let classes: Vec<&str> = lines.iter().map(|line| line["class"].as_str().unwrap()).collect();
    let expected = [
        "linked",
        "linked",
        "linked",
        "ambiguous",
        "unmatched_in_file",
        "unmatched_in_directories",
    ];
    assert_eq!(classes, expected);
    let first = json!({ "object": "link_match", "class": "linked", "email": "ANA@x.example",
        "user_ids": ["7"], "directory_user_ids": ["u1"], "directory_id": "d1", "would_end": [] });
    assert_eq!(lines[0], first);
}

#[test]
fn proposals_end_no_link_and_an_empty_email_does_not_stop_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = company(folder.path());
    let file = folder.path().join("users.csv");
    link(&server, &file, "user_id,directory_user_id\n7,u1\n9,v2\n", &["set", "FILE"]);
    // Seven is linked to another user of the directory, and V2 to another user of the application.
    let users = "user_id,email\n7,bo@x.example\n8,zoe@x.example\n10,\n11, ana@X.example\n";
    let output = link(&server, &file, users, &["match", "FILE"]);
    assert_eq!(out(&output), "user_id,directory_user_id\n11,v1\n");
    let report = rows(&err(&output));
    let expected = [
        "1 link is proposed",
        "",
        "linked to another application user: 2",
        "email application users directory users directory would end",
        "ana@X.example 11 u1 d1 7 = u1",
        "zoe@x.example 8 v2 d2 9 = v2",
        "",
        "linked to another user of the directory: 1",
        "email application users directory users directory would end",
        "bo@x.example 7 u2 d1 7 = u1",
        "",
        "only in the file: 1",
        "email application users directory users directory",
        "10",
    ];
    assert_eq!(report[..expected.len()], expected);
    let lines = out(&link(&server, &file, users, &["match", "FILE", "--json"]));
    let conflict = lines.lines().find(|line| line.contains("\"conflict\"")).unwrap();
    let conflict: Value = serde_json::from_str(conflict).unwrap();
    let ends = json!([{ "app_user_id": "7", "directory_user_id": "u1" }]);
    assert_eq!(conflict["would_end"], ends);
}

#[test]
fn a_dry_run_sets_nothing_and_says_what_would_be_set() {
    let folder = tempfile::tempdir().unwrap();
    let server = company(folder.path());
    let file = folder.path().join("links.csv");
    link(&server, &file, "user_id,directory_user_id\n7,u1\n8,u2\n", &["set", "FILE"]);
    let links = "user_id,directory_user_id\n7,u2\n8,u2\n";
    let refused = link(&server, &file, links, &["set", "FILE", "--dry-run"]);
    let expected = format!(
        "rollcall: `{}`: line 3: `u2` is linked to another user on line 2; nothing was set\n",
        file.display()
    );
    assert_eq!((refused.status.code(), err(&refused)), (Some(1), expected));
    let links = "app_user_id,directory_user_id\n7,u2\n8,v1\n9,nowhere\n7,u2\n";
    let dry = link(&server, &file, links, &["set", "FILE", "--dry-run"]);
    let expected = [
        "outcome links",
        "would be set 2",
        "of unknown users 1",
        "would be ended 2",
        "",
        "application user directory user",
        "ended 7 u1",
        "ended 8 u2",
        "not set: unknown user 9 nowhere",
    ];
    assert_eq!(
        (dry.status.code(), rows(&text(&dry.stdout))),
        (Some(1), expected.map(String::from).to_vec())
    );
    let list = ask(&server, &["link", "list", "--csv"]);
    let seen: Vec<String> = out(&list)
        .lines()
        .map(|line| line.split(',').take(2).collect::<Vec<_>>().join("="))
        .collect();
    assert_eq!(seen, ["user_id=directory_user_id", "7=u1", "8=u2"]);
    let set = link(&server, &file, links, &["set", "FILE", "--note", "by hand"]);
    assert_eq!(set.status.code(), Some(1));
    assert!(err(&set).contains("1 user is not known"), "{}", err(&set));
    let events = server.get("/events?events=rollcall.link.set&limit=100").json();
    assert_eq!(events["data"].as_array().unwrap().len(), 4);
    assert_eq!(events["data"][3]["data"]["note"], "by hand");
}

#[test]
fn two_users_of_one_directory_for_one_application_user_are_refused_before_anything_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let server = company(folder.path());
    let file = folder.path().join("links.csv");
    // Far apart, so that they would be in two requests.
    let others: String = (0..600).map(|n| format!("a{n},nowhere{n}\n")).collect();
    let links = format!("user_id,directory_user_id\n7,u1\n7,v1\n{others}7,u2\n");
    let message = format!(
        "rollcall: `{}`: line 604: `7` is linked to another user of the same directory on line 2; \
         nothing was set\n",
        file.display()
    );
    for arguments in [&["set", "FILE", "--dry-run"][..], &["set", "FILE"]] {
        let refused = link(&server, &file, &links, arguments);
        assert_eq!((refused.status.code(), err(&refused)), (Some(1), message.clone()));
    }
    assert_eq!(server.get("/rollcall/v1/links").json()["data"], json!([]));
    // What one request would end is not told again by another.
    link(&server, &file, "user_id,directory_user_id\n7,u1\n", &["set", "FILE"]);
    let links = format!("user_id,directory_user_id\n7,u2\n{others}8,u1\n");
    let counts: Vec<Vec<String>> = [&["set", "FILE", "--dry-run"][..], &["set", "FILE"]]
        .map(|arguments| {
            let page = rows(&text(&link(&server, &file, &links, arguments).stdout));
            let counted = page.into_iter().take_while(|row| !row.is_empty()).skip(1);
            counted.map(|row| row.replace("would be ", "")).collect()
        })
        .into();
    assert_eq!(counts[0], ["set 2", "of unknown users 600", "ended 1"]);
    assert_eq!(counts[0], counts[1]);
}

#[test]
fn a_list_with_both_users_of_a_directory_after_a_move_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = company(folder.path());
    let file = folder.path().join("links.csv");
    let links = "user_id,directory_user_id\n7,u1\n7,v1\n";
    assert!(link(&server, &file, links, &["set", "FILE"]).status.success());
    let at = "2026-01-01T00:00:07.000Z";
    server.deliver(&user("v1", "d1", "v1", at, "event_move", "dsync.user.updated"));
    let refused = link(&server, &file, links, &["set", "FILE"]);
    let message = format!(
        "rollcall: `{}`: line 3: `7` is linked to another user of the same directory on line 2; \
         nothing was set\n",
        file.display()
    );
    assert_eq!((refused.status.code(), err(&refused)), (Some(1), message));
    let pairs = || out(&ask(&server, &["link", "list", "--csv"])).lines().count() - 1;
    assert_eq!(pairs(), 2, "the move ends no link");
    // One of them alone decides, and can be set twice.
    let one = "user_id,directory_user_id\n7,v1\n";
    let set = rows(&out(&link(&server, &file, one, &["set", "FILE"])));
    assert_eq!(
        set,
        ["outcome links", "set 1", "ended 1", "", "application user directory user", "ended 7 u1"]
    );
    assert_eq!(pairs(), 1);
    let again = rows(&out(&link(&server, &file, one, &["set", "FILE"])));
    assert_eq!(again, ["outcome links", "there already 1"]);
}

#[test]
fn a_list_shows_links_at_any_moment_and_one_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let server = company(folder.path());
    let file = folder.path().join("links.csv");
    link(&server, &file, "user_id,directory_user_id\n=7,u1\n8,u2\n8,v1\n", &["set", "FILE"]);
    let list = |arguments: &[&str]| -> Vec<String> {
        let output = ask(&server, &[&["link", "list"][..], arguments].concat());
        let pair = |row: String| row.split(' ').take(3).collect::<Vec<_>>().join(" ");
        rows(&out(&output)).into_iter().skip(1).map(pair).collect()
    };
    assert_eq!(list(&[]), ["=7 u1 d1", "8 u2 d1", "8 v1 d2"]);
    assert_eq!(list(&["--app-user", "8"]), ["8 u2 d1", "8 v1 d2"]);
    assert_eq!(list(&["--user", "bo@x.example"]), ["8 u2 d1"]);
    assert_eq!(list(&["--directory", "d2"]), ["8 v1 d2"]);
    // A file made from the list sets the same links, whatever a spreadsheet would make of them.
    let made = out(&ask(&server, &["link", "list", "--csv"]));
    assert!(made.contains("\n=7,u1,d1,"), "{made}");
    let again = link(&server, &file, &made, &["set", "FILE"]);
    assert_eq!(rows(&out(&again)), ["outcome links", "there already 3"]);
    let removed = ask(&server, &["link", "remove", "bo@x.example"]);
    assert_eq!(out(&removed), "u2 is no longer linked to 8, record 10\n");
    let removed = ask(&server, &["link", "remove", "u2"]);
    assert_eq!(out(&removed), "u2 has no link; nothing was removed\n");
    assert_eq!(list(&[]), ["=7 u1 d1", "8 v1 d2"]);
    assert_eq!(list(&["--known-at", "9"]), ["=7 u1 d1", "8 u2 d1", "8 v1 d2"]);
    let unknown = ask(&server, &["link", "remove", "nowhere"]);
    assert_eq!(unknown.status.code(), Some(1));
    let one: Value =
        serde_json::from_str(&out(&ask(&server, &["link", "list", "--user", "u1", "--json"])))
            .unwrap();
    assert_eq!((&one["app_user_id"], &one["seq"]), (&json!("=7"), &json!(7)));
}

#[test]
fn a_file_that_is_wrong_sets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = company(folder.path());
    let file = folder.path().join("links.csv");
    let others: String = (0..599).map(|n| format!("a{n},nowhere{n}\n")).collect();
    let many = format!("user_id,directory_user_id\n7,u1\n{others}8,{}\n", "u".repeat(256));
    for (text, wanted) in [
        ("u1,7\n", "must have the columns `user_id` and `directory_user_id`"),
        ("user_id,directory_user_id\n", "it has no row"),
        ("user_id,directory_user_id\n7,u1\n,u2\n", "line 3: `user_id` is empty"),
        // In the second request, so that the first would have been set.
        (many.as_str(), "line 602: `directory_user_id` has more than 255 bytes"),
    ] {
        let output = link(&server, &file, text, &["set", "FILE"]);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(err(&output).contains(&format!("`{}`: ", file.display())), "{}", err(&output));
        assert!(err(&output).contains(wanted), "{text}: {}", err(&output));
    }
    let missing = ask(&server, &["link", "set", "/nowhere.csv"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(err(&missing).contains("cannot read `/nowhere.csv`"), "{}", err(&missing));
    assert_eq!(server.get("/rollcall/v1/links").json()["data"], json!([]));
}

#[test]
fn thousands_of_links_are_set_within_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(&folder.path().join("data"));
    let mut lines = String::new();
    for n in 0..5000 {
        let id = format!("many{n:04}");
        let event = user(
            &id,
            "many",
            &id,
            "2026-01-01T00:00:00.000Z",
            &format!("e{n}"),
            "dsync.user.created",
        );
        lines.push_str(&event);
        lines.push('\n');
    }
    let file = folder.path().join("events");
    std::fs::write(&file, lines).unwrap();
    out(&ask(&server, &["import", file.to_str().unwrap()]));
    let rows_of: String = (0..5000).map(|n| format!("{n},many{n:04}\n")).collect();
    let links = folder.path().join("links.csv");
    let begun = std::time::Instant::now();
    let set =
        link(&server, &links, &format!("user_id,directory_user_id\n{rows_of}"), &["set", "FILE"]);
    println!("5000 links took {:?}", begun.elapsed());
    assert_eq!(rows(&out(&set)), ["outcome links", "set 5000"]);
    let listed = ask(&server, &["link", "list", "--csv", "--directory", "many"]);
    assert_eq!(out(&listed).lines().count(), 5001);
}

#[test]
fn an_audit_names_the_application_user_and_the_same_person_under_another_id() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    for (id, kind, second) in [("u", "created", 1), ("u", "deleted", 2), ("v", "created", 3)] {
        let at = format!("2026-01-01T00:00:0{second}.000Z");
        let event = user(id, "d", id, &at, &format!("e{second}"), &format!("dsync.user.{kind}"));
        let mut event: Value = serde_json::from_str(&event).unwrap();
        event["data"]["idp_id"] = json!("00u1");
        server.deliver(&event.to_string());
    }
    let file = folder.path().join("links.csv");
    link(&server, &file, "user_id,directory_user_id\n1842,v\n", &["set", "FILE"]);
    let audit = |arguments: &[&str]| out(&ask(&server, &[&["audit"][..], arguments].concat()));
    let first = audit(&["u"]);
    let successor = "! the same person, by the id at the identity provider, is v since \
        2026-01-01 00:00:03.000 UTC; to see it: rollcall audit v\n";
    assert!(first.contains(successor) && !first.contains("app user"), "{first}");
    let then = audit(&["u", "--as-of", "2026-01-01T00:00:02.000Z"]);
    assert!(!then.contains("the same person"), "{then}");
    let second = audit(&["v"]);
    let predecessor = "the same person, by the id at the identity provider, was u until \
        2026-01-01 00:00:02.000 UTC\n";
    assert!(second.contains(predecessor) && second.contains("app user      1842\n"), "{second}");
    let head = |user: &str| -> Value {
        let lines = audit(&[user, "--json"]);
        let head: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        json!([head["app_user_id"], head["succeeded_by"], head["preceded_by"]])
    };
    let since = json!({ "user_id": "v", "since": "2026-01-01T00:00:03.000Z" });
    let until = json!({ "user_id": "u", "until": "2026-01-01T00:00:02.000Z" });
    assert_eq!(head("u"), json!([null, since, null]));
    assert_eq!(head("v"), json!(["1842", null, until]));
}
