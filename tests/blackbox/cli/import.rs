//! `rollcall import`: what it takes, what it says, and how it ends.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use super::read::{ask, err, out, rollcall};
use crate::kit::server::{API_KEY, Server, signal, user};

fn created(id: &str) -> String {
    let event_id = format!("event_{id}");
    user(id, "d", id, "2026-01-01T00:00:00.000Z", &event_id, "dsync.user.created")
}

fn start(url: &str, arguments: &[&str]) -> Child {
    let mut command = rollcall(&["import", "--url", url, "--api-key", API_KEY]);
    let command = command.args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn import_file(server: &Server, file: &Path, text: &[u8]) -> Output {
    std::fs::write(file, text).unwrap();
    start(&server.url, &[file.to_str().unwrap()]).wait_with_output().unwrap()
}

/// Returns the rows of the table, with one space between two cells.
fn counts(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.map(|row| row.join(" ")).collect()
}

#[test]
fn a_file_of_any_form_is_imported_and_may_be_imported_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let file = folder.path().join("events");
    // More than one request, an event over several lines, and a page of the Events API.
    let events: Vec<String> = (0..1300).map(|n| created(&n.to_string())).collect();
    let pretty: serde_json::Value =
        serde_json::from_str(&format!("[{}]", created("pretty"))).unwrap();
    let pretty = serde_json::to_string_pretty(&pretty).unwrap();
    let page = format!(r#"{{"object":"list","data":[{},{}]}}"#, created("x"), created("y"));
    let text = format!("\u{feff}{}\r\n{pretty}\n\n{page}\n", events.join("\n"));
    let output = import_file(&server, &file, text.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(counts(&output), ["new 1303"]);
    assert_eq!(server.head(), 1303);
    let again = import_file(&server, &file, text.as_bytes());
    assert_eq!((again.status.code(), counts(&again)), (Some(0), vec!["duplicate 1303".into()]));
    let differing = created("x").replace("\"x\"", "\"z\"").replace("event_z", "event_x");
    let output = import_file(&server, &file, format!("{differing}\n{}", created("q")).as_bytes());
    assert_eq!(counts(&output), ["new 1", "duplicate, with another content 1"]);
    assert_eq!(server.get("/rollcall/v1/log/entries/1303").json()["proof"], "imported");
    let output =
        start(&server.url, &["--json", file.to_str().unwrap()]).wait_with_output().unwrap();
    let expected = r#"{"new":0,"duplicate":2,"differs":1,"conflict":0}"#;
    assert_eq!(out(&output), format!("{expected}\n"));
}

#[test]
fn an_audit_says_of_a_record_that_it_was_imported() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    server.deliver(&created("a"));
    let output = import_file(&server, &folder.path().join("events"), created("b").as_bytes());
    assert_eq!(counts(&output), ["new 1"]);
    let told = |id: &str| {
        let page = out(&ask(&server, &["audit", id]));
        page.matches("  it was imported by an operator, without a signature\n").count()
    };
    assert_eq!([told("a"), told("b")], [0, 1]);
}

#[test]
fn nothing_is_sent_of_a_file_with_an_error_and_standard_input_up_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let text = format!("{}\n{}\nnot JSON\n{}\n", created("a"), created("b"), created("c"));
    let file = folder.path().join("events");
    let output = import_file(&server, &file, text.as_bytes());
    assert_eq!((output.status.code(), server.head()), (Some(1), 0), "{}", err(&output));
    let begins = format!("rollcall: `{}`: line 3: ", file.display());
    assert!(err(&output).starts_with(&begins), "{}", err(&output));
    assert!(err(&output).contains("; nothing was sent"), "{}", err(&output));
    let mut child = start(&server.url, &[]);
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), server.head()), (Some(1), 2), "{}", err(&output));
    assert_eq!(counts(&output), ["new 2"]);
    assert!(err(&output).starts_with("rollcall: standard input: line 3: "), "{}", err(&output));
    assert!(err(&output).ends_with("2 events are in the log\n"), "{}", err(&output));
}

#[test]
fn a_file_without_events_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let file = folder.path().join("events");
    for text in ["", "\n \r\n", "[]"] {
        let output = import_file(&server, &file, text.as_bytes());
        let expected =
            format!("rollcall: no events in `{}`; nothing was recorded\n", file.display());
        assert_eq!((output.status.code(), err(&output)), (Some(1), expected), "{text:?}");
    }
    let mut child = start(&server.url, &[]);
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).starts_with("rollcall: no events in standard input"), "{}", err(&output));
    assert_eq!(server.head(), 0);
}

/// Returns an event with this number of bytes.
fn event_of(id: &str, bytes: usize) -> String {
    let begun = format!(r#"{{"id":"{id}","event":"x.y","data":{{"text":""#);
    format!("{begun}{}\"}}}}", "x".repeat(bytes - begun.len() - 3))
}

#[test]
fn an_event_of_4_mib_is_taken_and_a_larger_one_is_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let file = folder.path().join("events");
    let most = 4 << 20;
    assert_eq!(event_of("e", most).len(), most);
    let text = format!("{}\n{}\n{}\n", created("a"), event_of("e1", most), created("b"));
    let output = import_file(&server, &file, text.as_bytes());
    assert_eq!((output.status.code(), counts(&output)), (Some(0), vec!["new 3".into()]));
    // The server alone takes the same, with or without a line break.
    let path = format!("{}/rollcall/v1/import", server.url);
    for (id, bytes, end, status) in [
        ("e2", most, "", 200),
        ("e3", most, "\n", 200),
        ("e4", most, "\r\n", 200),
        ("e5", most + 1, "", 413),
        ("e6", most + 1, "\n", 413),
    ] {
        let answer = server.send("post", &path, API_KEY, &(event_of(id, bytes) + end));
        assert_eq!(answer.status, status, "{id}");
    }
    let before = server.head();
    let text = format!("{}\n{}\n", created("c"), event_of("e7", most + 1));
    let output = import_file(&server, &file, text.as_bytes());
    let expected = format!(
        "rollcall: `{}`: line 2: the event has 4194305 bytes, and at most 4194304 are taken; \
         nothing was sent\n",
        file.display()
    );
    assert_eq!((output.status.code(), err(&output)), (Some(1), expected));
    assert_eq!(server.head(), before);
    let mut child = start(&server.url, &[]);
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), server.head()), (Some(1), before + 1));
    assert!(err(&output).contains("line 2: the event has 4194305 bytes"), "{}", err(&output));
}

#[test]
fn a_key_without_the_right_is_refused_and_a_server_that_is_gone_is_our_failure() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let file = folder.path().join("events");
    std::fs::write(&file, created("a")).unwrap();
    let file = file.to_str().unwrap();
    let mut wrong = rollcall(&["import", "--url", &server.url, "--api-key", "sk_wrong", file]);
    let output = wrong.output().unwrap();
    assert_eq!((output.status.code(), server.head()), (Some(1), 0), "{}", err(&output));
    let url = server.url.clone();
    assert_eq!(server.stop(), 0);
    let output = start(&url, &[file]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
}

#[test]
fn an_interrupt_says_what_is_in_the_log_and_exits_with_130() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let mut child = start(&server.url, &[]);
    // Kept open: the command waits for more.
    let mut input = child.stdin.take().unwrap();
    for n in 0..600 {
        writeln!(input, "{}", created(&n.to_string())).unwrap();
    }
    while server.head() < 512 {
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(child.id(), "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", err(&output));
    assert_eq!(err(&output), "rollcall: interrupted; 512 events are in the log\n");
    assert_eq!(counts(&output), ["new 512"]);
    drop(input);
}

#[test]
fn an_import_that_a_kill_broke_off_is_ended_by_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("events"));
    let events: Vec<String> = (0..6000).map(|n| created(&n.to_string())).collect();
    std::fs::write(&file, events.join("\n")).unwrap();
    let file = file.to_str().unwrap();
    let server = Server::start(&data);
    let child = start(&server.url, &[file]);
    while server.head() < 512 {
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(server.pid(), "KILL");
    let output = child.wait_with_output().unwrap();
    // It may have ended before the kill.
    assert!([Some(0), Some(2)].contains(&output.status.code()), "{}", err(&output));
    drop(server);
    let server = Server::start(&data);
    let output = start(&server.url, &[file]).wait_with_output().unwrap();
    assert_eq!((output.status.code(), server.head()), (Some(0), 6000), "{}", err(&output));
    let ids = server.get("/rollcall/v1/stats").json();
    assert_eq!(ids["directories"]["data"][0]["users"]["active"], 6000, "{ids}");
}
