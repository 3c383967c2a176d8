//! `rollcall quarantine`, against a server and over a folder.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cli::read::{ask, ask_folder, cells, err, out};
use crate::faults::archives::{restore, text};
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

/// Lets the only segment of a backup say that a record could not be used when it was recorded, as
/// that of a version would that did not know its type.
fn mark(backup: &Path, seq: u64) {
    let names = fs::read_dir(backup).unwrap().map(|entry| entry.unwrap().path());
    let segments: Vec<_> = names.filter(|path| text(path).ends_with(".zst")).collect();
    let [segment] = &segments[..] else { panic!("{segments:?}") };
    let packed = fs::read(segment).unwrap();
    let unpacked = String::from_utf8(zstd::decode_all(packed.as_slice()).unwrap()).unwrap();
    let (mut lines, mut end) = (String::new(), Value::Null);
    for line in unpacked.lines() {
        let mut line: Value = serde_json::from_str(line).unwrap();
        if line["object"] == "archive_end" {
            end = line;
            break;
        }
        if line["seq"] == seq {
            line["unusable"] = json!({"reason": 2, "field": 0});
        }
        lines += &format!("{line}\n");
    }
    end["sha256"] = hex::encode(Sha256::digest(&lines)).into();
    let marked = zstd::encode_all(format!("{lines}{end}\n").as_bytes(), 1).unwrap();
    fs::write(segment, &marked).unwrap();
    let [before, after] = [&packed, &marked].map(|bytes| hex::encode(Sha256::digest(bytes)));
    let list = backup.join("backup.json");
    let listed = fs::read_to_string(&list).unwrap();
    assert!(listed.contains(&before), "{listed}");
    fs::write(list, listed.replace(&before, &after)).unwrap();
}

/// The users in the feed of changes.
fn users_of_changes(server: &Server) -> Vec<String> {
    let feed = server.get("/rollcall/v1/changes?wait=0").json();
    let changes = feed["data"].as_array().unwrap().iter();
    changes.map(|change| change["user_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_an_older_version_could_not_use_counts_now_and_stays_out_of_what_others_have_read() {
    let around = tempfile::tempdir().unwrap();
    let at = |name: &str| around.path().join(name);
    let server = Server::start(&at("data"));
    let time = "2026-01-01T00:00:00.000Z";
    let directory = json!({"id": "d", "organization_id": "org_1", "name": "D"});
    let activated =
        json!({"id": "e1", "event": "dsync.activated", "created_at": time, "data": directory});
    server.deliver(&activated.to_string());
    for (id, event) in [("u2", "e2"), ("u3", "e3"), ("u4", "e4")] {
        server.deliver(&user(id, "d", id, time, event, "dsync.user.created"));
    }
    let resolved = ["quarantine", "--resolved", "--json"];
    assert_eq!(out(&ask(&server, &resolved)), "");
    assert_eq!(users_of_changes(&server), ["u2", "u3", "u4"]);
    let copy = ask(&server, &["backup", "--out", text(&at("copy"))]);
    assert_eq!(copy.status.code(), Some(0), "{}", err(&copy));
    assert_eq!(server.stop(), 0);
    mark(&at("copy"), 3);
    let (code, _, told) = restore(text(&at("copy")), &at("new"));
    assert_eq!(code, 0, "{told}");
    let key = at("data").join("checkpoint-key");
    let server = Server::start_with(&at("new"), &["--checkpoint-key", text(&key)]);
    assert_eq!(server.get("/directory_users/u3").status, 200, "it counts");
    let events = |query: &str| server.get(&format!("/events?{query}")).ids();
    assert_eq!(events("events=dsync.user.created"), ["e2", "e4"]);
    assert_eq!(events("events=dsync.user.created&after=e3"), ["e4"]);
    assert_eq!(users_of_changes(&server), ["u2", "u4"]);
    assert_eq!(out(&ask(&server, &["quarantine", "--json"])), "", "it can be used");
    let listed = out(&ask(&server, &resolved));
    let entry: Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!(
        (&entry["seq"], &entry["event_id"], &entry["reason"]),
        (&json!(3), &json!("e3"), &json!("unknown_type"))
    );
    let of_user = server.get("/rollcall/v1/quarantine?resolved=true&user=u4").json();
    assert_eq!(of_user["data"], json!([]));
    let earlier = server.get("/rollcall/v1/quarantine?resolved=true&known_at=2").json();
    assert_eq!(earlier["data"], json!([]));
    // A copy of the copy says so too.
    let copy = ask(&server, &["backup", "--out", text(&at("again"))]);
    assert_eq!(copy.status.code(), Some(0), "{}", err(&copy));
    assert_eq!(server.stop(), 0);
    assert_eq!(restore(text(&at("again")), &at("newer")).0, 0);
    assert_eq!(out(&ask_folder(&at("newer"), &resolved)), listed);
}
