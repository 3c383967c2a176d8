//! `rollcall quarantine`, against a server and over a folder.

use serde_json::{Value, json};

use crate::cli::read::{ask, ask_folder, cells, err, out};
use crate::kit::server::{Server, user};

#[test]
fn what_could_not_be_used_is_listed_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let time = "2026-01-01T00:00:00.000Z";
    let unknown =
        json!({"id": "e2", "event": "dsync.nobody.knows", "created_at": time, "data": {}});
    server.deliver(&user("u", "d", "ana", time, "e1", "dsync.user.created"));
    server.deliver(&unknown.to_string());
    server.deliver("hello");
    server.deliver(&user("u", "d", "eva", time, "e1", "dsync.user.created"));
    let output = ask(&server, &["quarantine"]);
    let rows = cells(&out(&output));
    let shown: Vec<[&str; 2]> = rows.iter().map(|row| [row[0].as_str(), row[2].as_str()]).collect();
    assert_eq!(shown, [["2", "unknown_type"], ["3", "not_an_event"], ["4", "conflict"]]);
    assert!(err(&output).contains("3 records"), "{}", err(&output));
    let json = ask(&server, &["quarantine", "--reason", "conflict", "--json"]);
    let entry: Value = serde_json::from_str(out(&json).trim()).unwrap();
    assert_eq!((&entry["seq"], &entry["event_id"]), (&json!(4), &json!("e1")));
    let of_user = ask(&server, &["quarantine", "--user", "u", "--json"]);
    assert_eq!(out(&of_user).lines().count(), 1, "only the conflict is about the user");
    let earlier = ask(&server, &["quarantine", "--known-at", "2", "--json"]);
    assert_eq!(out(&earlier).lines().count(), 1);
    let wrong = ask(&server, &["quarantine", "--reason", "conflicts"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(err(&wrong).contains("the reasons are not_an_event,"), "{}", err(&wrong));
    assert_eq!(server.stop(), 0);
    assert_eq!(out(&ask_folder(folder.path(), &["quarantine"])), out(&output));
}
