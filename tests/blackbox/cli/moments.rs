//! Moments as arguments: the same forms and the same refusal in every command.

use serde_json::{Value, json};

use super::read::{ask, err, out, rollcall};
use crate::kit::server::{Server, now_ms, user};

/// Every option and argument that takes a moment, with the moment last.
const TAKEN: [&str; 18] = [
    "users --directory d --as-of",
    "users --directory d --known-at",
    "groups --directory d --as-of",
    "directories --known-at",
    "roles --as-of",
    "audit u --as-of",
    "audit u --known-at",
    "deprovisioned --since",
    "deprovisioned --until",
    "events --from",
    "events --to",
    "diff",
    "diff latest --from-known-at",
    "diff latest --to-known-at",
    "mapping show --as-of",
    "policy --inactive-users retain --effective-from",
    "send --forge x --at",
    "generate --from",
];

/// Runs a command, with the server's URL and key if it takes them.
fn run(server: &Server, arguments: &[&str]) -> std::process::Output {
    match arguments.first() {
        Some(&("generate" | "send")) => rollcall(arguments).output().unwrap(),
        _ => ask(server, arguments),
    }
}

#[test]
fn every_command_refuses_a_moment_with_the_value_and_examples() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mapping = ["mapping preview - --effective-from", "mapping set - --effective-from"];
    for line in TAKEN.into_iter().chain(mapping) {
        for wrong in ["monday", "2026-02-30", "30", "+1d", ""] {
            // A bare number is a record where records are taken.
            if wrong == "30" && line.contains("known-at") {
                continue;
            }
            let arguments: Vec<&str> = line.split(' ').chain([wrong]).collect();
            let output = run(&server, &arguments);
            let told = err(&output).replace('\n', " ");
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
            for part in [&format!("`{wrong}` is not a moment")[..], "for example", "`30d`"] {
                assert!(told.contains(part), "{arguments:?} without {part}: {told}");
            }
        }
    }
}

#[test]
fn every_command_takes_every_form_of_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(&user("u", "d", "ana", "2020-01-01T00:00:00.000Z", "e1", "dsync.user.created"));
    let forms = ["2026-03-01", "2026-03-01T10:00Z", "30d", "6w", "1y", "yesterday"];
    for line in TAKEN.into_iter().filter(|line| !line.starts_with("send")) {
        for form in forms.into_iter().chain(["2026-03-01T10:00:00.5+02:00"]) {
            let mut arguments: Vec<&str> = line.split(' ').chain([form]).collect();
            if arguments.first() == Some(&"generate") {
                arguments.extend(["--people", "1", "--days", "0"]);
            }
            if arguments.first() == Some(&"policy") {
                arguments.push("--yes");
            }
            let output = run(&server, &arguments);
            let told = err(&output);
            // A user and a directory are unknown before the record that named them was received.
            let unknown = told.contains("known") || told.contains("was ever seen up to record 0");
            let known = output.status.code() == Some(0) || unknown;
            assert!(known && !told.contains("is not a moment"), "{arguments:?}: {told}");
        }
    }
}

#[test]
fn an_effective_time_may_be_an_age() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let policy =
        ["policy", "--inactive-users", "delete", "--effective-from", "2w", "--json", "--yes"];
    let before = now_ms();
    let set: Value = serde_json::from_str(&out(&ask(&server, &policy))).unwrap();
    let from = chrono::DateTime::parse_from_rfc3339(set["effective_from"].as_str().unwrap());
    let from = from.unwrap().timestamp_millis();
    assert!((before..=now_ms()).contains(&(from + 14 * 86_400_000)), "{set}");
    let policy = [
        "policy",
        "--inactive-users",
        "retain",
        "--effective-from",
        "2026-03-01",
        "--json",
        "--yes",
    ];
    let set: Value = serde_json::from_str(&out(&ask(&server, &policy))).unwrap();
    assert_eq!(set["effective_from"], json!("2026-03-01T00:00:00.000Z"));
}
