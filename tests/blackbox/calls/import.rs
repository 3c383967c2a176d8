//! `POST /rollcall/v1/import`: what it takes, what it refuses, and what it leaves in the log.

use serde_json::{Value, json};

use crate::kit::keyed::{Keyed, entry};
use crate::kit::server::{API_KEY, Answer, Server, agent, binary, post, user};

fn created(id: &str, name: &str) -> String {
    let event_id = format!("event_{id}");
    user(id, "d", name, "2026-01-01T00:00:00.000Z", &event_id, "dsync.user.created")
}

fn import(server: &Server, lines: &str) -> Answer {
    server.send("post", &format!("{}/rollcall/v1/import", server.url), API_KEY, lines)
}

/// Returns new, duplicate, differs and conflict of an answer.
fn counts(answer: &Answer) -> [u64; 4] {
    let body = answer.json();
    assert_eq!((answer.status, &body["object"]), (200, &json!("import")), "{body}");
    ["new", "duplicate", "differs", "conflict"].map(|name| body[name].as_u64().unwrap())
}

#[test]
fn events_are_recorded_once_however_often_and_in_whatever_way_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let [a, b, c] = ["a", "b", "c"].map(|id| created(id, id));
    assert_eq!(counts(&import(&server, &format!("{a}\n\n  {b}\r\n"))), [2, 0, 0, 0]);
    assert_eq!(counts(&import(&server, &format!("{b}\n{c}\n{c}"))), [1, 2, 0, 0]);
    // Another content is a duplicate as well, here and as a webhook.
    let other = created("a", "other");
    assert_eq!(counts(&import(&server, &other)), [0, 1, 1, 0]);
    let webhook = server.post(other.as_bytes()).json();
    let expected = json!({
        "seq": 1, "event_id": "event_a", "duplicate": true, "conflict": false,
    });
    assert_eq!((webhook, server.head()), (expected, 3));
    assert_eq!(server.get("/directory_users?directory=d&limit=100").ids().len(), 3);
    assert_eq!(server.get("/directory_users/a").json()["first_name"], "a");
    // Two webhooks conflict as ever, although a copy came between.
    server.deliver(&created("w", "one"));
    assert_eq!(counts(&import(&server, &created("w", "two"))), [0, 1, 1, 0]);
    assert_eq!(server.post(created("w", "three").as_bytes()).json()["conflict"], true);
}

#[test]
fn differing_copies_are_told_once_a_type_and_without_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(binary());
    command.env("ROLLCALL_LOG", "info").stderr(std::process::Stdio::piped());
    let mut server = Server::start_command(command, folder.path(), &[]);
    let mut stderr = server.take_stderr();
    let odd = |id: &str, name: &str| {
        created(id, name).replace("dsync.user.created", "somebody@else.example")
    };
    for id in ["a", "b"] {
        server.deliver(&created(id, "one"));
        server.deliver(&odd(&format!("o{id}"), "one"));
        let lines = [created(id, "secretive"), odd(&format!("o{id}"), "secretive")];
        assert_eq!(counts(&import(&server, &lines.join("\n"))), [0, 2, 2, 0]);
    }
    assert_eq!(server.stop(), 0);
    let mut told = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut told).unwrap();
    let lines: Vec<&str> = told.lines().filter(|line| line.contains("another content")).collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines[0].contains("dsync.user.created") && lines[1].contains("another type"));
    assert!(lines.iter().all(|line| line.contains("WARN")), "{told}");
    assert!(!told.contains("secretive") && !told.contains("somebody"), "{told}");
}

#[test]
fn a_signed_deletion_under_an_id_that_was_imported_is_not_dropped_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(binary());
    command.env("ROLLCALL_LOG", "info").stderr(std::process::Stdio::piped());
    let mut server = Server::start_command(command, folder.path(), &[]);
    let mut stderr = server.take_stderr();
    server.deliver(&created("a", "a"));
    let stats = |server: &Server| {
        let stats = server.get("/rollcall/v1/stats").json();
        [stats["duplicates"].clone(), stats["differs"].clone()].map(|count| count.as_u64().unwrap())
    };
    let deletion =
        |id: &str| created("a", "secretive").replace("event_a", id).replace(".created", ".deleted");
    let taken = |id: &str| json!({ "id": id, "event": "x.y", "data": {} }).to_string();
    let lines = [taken("event_1"), taken("event_2"), deletion("event_3")];
    assert_eq!(counts(&import(&server, &lines.join("\n"))), [3, 0, 0, 0]);
    assert_eq!(stats(&server), [0, 0]);
    // An imported deletion with another content is dropped first, and does not hide the webhooks.
    let later = deletion("event_3").replace("secretive", "other");
    assert_eq!(counts(&import(&server, &later)), [0, 1, 1, 0]);
    for id in ["event_1", "event_2"] {
        assert_eq!(server.post(deletion(id).as_bytes()).json()["duplicate"], true);
    }
    // The same content once more is a duplicate and no more.
    assert_eq!(server.post(deletion("event_3").as_bytes()).json()["duplicate"], true);
    assert_eq!(stats(&server), [4, 3]);
    assert_eq!(server.stop(), 0);
    let mut told = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut told).unwrap();
    let of = |what: &str| {
        let is_it = |line: &&str| {
            line.contains("WARN") && line.contains("dsync.user.deleted") && line.contains(what)
        };
        told.lines().filter(is_it).count()
    };
    assert_eq!(of("signed webhook"), 1, "{told}");
    assert_eq!(of("pulled or imported event"), 1, "{told}");
    assert!(!told.contains("secretive") && !told.contains("event_1"), "{told}");
}

#[test]
fn a_record_says_how_it_came_in_the_log_and_in_histories() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(&created("a", "a"));
    let update = created("a", "b").replace("event_a", "event_2").replace(".created", ".updated");
    let line = format!(" {} ", update.replace(":", " : "));
    import(&server, &line);
    server.put("/rollcall/v1/policy", &json!({ "inactive_users": "delete" }));
    let proofs = [1, 2, 3].map(|seq| {
        let entry = server.get(&format!("/rollcall/v1/log/entries/{seq}")).json();
        entry["proof"].as_str().unwrap().to_owned()
    });
    assert_eq!(proofs, ["webhook", "imported", "operator"]);
    let versions = server.get("/rollcall/v1/users/a/history").json();
    let of = |version: &Value| [version["proof"].clone(), version["cause"]["seq"].clone()];
    let found: Vec<_> = versions["data"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(json!(found), json!([["webhook", 1], ["imported", 2]]));
    // The line is kept byte for byte, without the white space around it.
    assert_eq!(String::from_utf8(server.body_of(2)).unwrap(), line.trim());
}

#[test]
fn what_is_not_an_event_is_refused_with_its_line_and_nothing_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let a = created("a", "a");
    for (lines, wrong) in [
        (format!("{a}\n{{\"id\":\"b\"}}\n{a}\nnot JSON"), vec!["line 2", "line 4"]),
        (format!("[{a}]"), vec!["line 1"]),
        (format!("\n\n{}", &a[..20]), vec!["line 3"]),
        (String::new(), vec!["body"]),
        ("\n \r\n".into(), vec!["body"]),
        (format!("{a}\n").repeat(513), vec!["body"]),
        ("x\n".repeat(100), (1..=20).map(|_| "line").collect()),
    ] {
        let answer = import(&server, &lines);
        let body = answer.json();
        let errors = body["errors"].as_array().unwrap_or_else(|| panic!("{body}"));
        assert_eq!((answer.status, answer.code().as_str()), (422, "validation_failed"));
        assert_eq!(errors.len(), wrong.len(), "{body}");
        for (error, field) in errors.iter().zip(wrong) {
            assert!(error["field"].as_str().unwrap().starts_with(field), "{body}");
            assert!(!error["message"].as_str().unwrap().is_empty());
        }
        assert_eq!(server.head(), 0);
    }
    let large = format!("{}{}", " ".repeat(4 << 20), a);
    assert_eq!(import(&server, &large).code(), "body_too_large");
    assert_eq!(counts(&import(&server, &format!("{a}\n").repeat(512))), [1, 511, 0, 0]);
}

#[test]
fn a_body_with_a_content_encoding_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let url = format!("{}/rollcall/v1/import", server.url);
    let key = format!("Bearer {API_KEY}");
    for (encoding, status) in [("gzip", 415), ("br", 415), ("identity", 200)] {
        let headers = [("Authorization", &*key), ("Content-Encoding", encoding)];
        let answer = post(&agent(), &url, created("a", "a").as_bytes(), &headers).unwrap();
        assert_eq!(answer.status, status, "{encoding}");
        if status == 415 {
            assert_eq!(answer.code(), "unsupported_encoding");
            assert!(answer.json()["message"].as_str().unwrap().contains("content encoding"));
            assert_eq!(server.head(), 0);
        }
    }
}

#[test]
fn an_event_with_an_unusable_id_is_new_once_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let long = "x".repeat(256);
    let lines =
        [created("a", "a").replace("event_a", &long), created("b", "b").replace("event_b", "e\\n")];
    let lines = lines.join("\n");
    assert_eq!(counts(&import(&server, &lines)), [2, 0, 0, 0]);
    // It does not occupy its id, so that only the same bytes are a duplicate.
    assert_eq!(counts(&import(&server, &lines)), [0, 2, 0, 0]);
    let other = created("a", "c").replace("event_a", &long);
    assert_eq!(counts(&import(&server, &other)), [1, 0, 0, 0]);
    let listed = server.get("/rollcall/v1/quarantine").json();
    let of = |entry: &Value| [entry["reason"].clone(), entry["event_id"].clone()];
    let found: Vec<[Value; 2]> = listed["data"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(json!(found), json!(vec![json!(["not_an_event", null]); 3]));
    assert!(server.get("/directories").ids().is_empty());
}

#[test]
fn what_cannot_be_used_is_recorded_and_listed_as_if_it_were_a_webhook() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let lines = [
        r#"{"id":"op_1","event":"dsync.activated","data":{"id":"d"}}"#,
        r#"{"id":"obs_1","event":"dsync.activated","data":{"id":"d"}}"#,
        r#"{"id":"run_1","event":"dsync.activated","data":{"id":"d"}}"#,
        r#"{"id":"e1","event":"rollcall.directory.deleted","data":{"id":"d"}}"#,
        r#"{"id":"e2","event":"rollcall.user.observed","data":{"id":"u","present":true}}"#,
        r#"{"id":"e3","event":"dsync.user.created","data":{"id":"u"}}"#,
        r#"{"id":"e4","event":"dsync.no.such","data":{}}"#,
    ];
    assert_eq!(counts(&import(&server, &lines.join("\n"))), [7, 0, 0, 0]);
    let listed = server.get("/rollcall/v1/quarantine").json();
    let reasons: Vec<&str> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["reason"].as_str().unwrap())
        .collect();
    let none = "not_an_event";
    let reserved = "reserved_type";
    assert_eq!(reasons, [none, none, none, reserved, reserved, "missing_field", "unknown_type"]);
    assert!(server.get("/directories").ids().is_empty());
    // A copy of an unusable event is dropped, whatever it says.
    assert_eq!(counts(&import(&server, &created("u", "u").replace("event_u", "e3"))), [0, 1, 1, 0]);
}

#[test]
fn a_key_needs_the_scope_and_must_not_be_bound_to_organizations() {
    let mut bound = entry("bound", &["ingest"]);
    bound.organizations = Some(vec!["org_1".into()]);
    let server = Keyed::start(&[entry("feeder", &["ingest"]), bound], &[]);
    for (key, status) in [("feeder", 422), ("bound", 403), ("nobody", 401)] {
        let answer = server.ask(key, "post", "/rollcall/v1/import", None);
        assert_eq!(answer.status, status, "{key}");
    }
}

#[test]
fn a_log_of_every_kind_of_record_is_verified_and_its_records_are_proven() {
    use crate::cli::read::{ask, out, rollcall};
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    server.deliver(&created("a", "a"));
    import(&server, &format!("{}\n{}", created("b", "b"), created("a", "x")));
    server.deliver(&created("c", "c"));
    let bundle = folder.path().join("proof.json");
    std::fs::write(&bundle, out(&ask(&server, &["prove", "2"]))).unwrap();
    let key = out(&ask(&server, &["log-key", "show", "--vkey"]));
    let check = |more: &[&str]| {
        let arguments = [&["check", bundle.to_str().unwrap(), "--key", key.trim()], more].concat();
        out(&rollcall(&arguments).output().unwrap())
    };
    let page = check(&[]);
    for said in ["according to a file that an operator", "only which API key imported"] {
        assert!(page.contains(said), "{page}");
    }
    let found: Value = serde_json::from_str(&check(&["--json"])).unwrap();
    assert_eq!(
        (&found["proof"], &found["webhook_signature"]),
        (&json!("imported"), &json!("none"))
    );
    assert_eq!(server.stop(), 0);
    let verified = rollcall(&["verify", "--data", data.to_str().unwrap()]).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", out(&verified));
    assert!(out(&verified).contains("1 imported"), "{}", out(&verified));
}
