//! The access log: what the server logs of each question about people, and what it never logs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::kit::server::{API_KEY, Server, binary, user};

/// The name of the tests' key in the log, without the key.
fn key_name() -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(API_KEY.as_bytes()).unwrap();
    mac.update(b"rollcall: name of this API key");
    format!("key_{}", &hex::encode(mac.finalize().into_bytes())[..16])
}

/// A server whose log goes into a file. A line is written before its answer is sent.
struct Logged {
    server: Server,
    log: PathBuf,
}

impl Logged {
    fn start(folder: &Path, arguments: &[&str]) -> Logged {
        let log = folder.join("log");
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"exec env ROLLCALL_LOG=info "$0" "$@" 2>"$LOG""#])
            .arg(binary())
            .env("LOG", &log);
        let server = Server::start_command(command, &folder.join("data"), arguments);
        for n in 1..=2 {
            server.deliver(&user(
                &format!("u{n}"),
                "d1",
                "ana",
                "2026-01-01T00:00:00Z",
                &format!("e{n}"),
                "dsync.user.created",
            ));
        }
        Logged { server, log }
    }

    /// Returns the lines so far about readers.
    fn lines(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.contains("rollcall::access")).map(str::to_owned).collect()
    }

    /// Asks, and returns the status and the lines that this adds.
    fn ask(&self, path: &str) -> (u16, Vec<String>) {
        let before = self.lines().len();
        let status = self.server.get(path).status;
        (status, self.lines().split_off(before))
    }
}

#[test]
fn each_question_about_histories_is_one_line_with_the_key_the_route_and_the_id() {
    let folder = tempfile::tempdir().unwrap();
    let logged = Logged::start(folder.path(), &["--log-format", "json"]);
    for (path, status, route, subject) in [
        ("users/u1/history", 200, "users/{id}/history", json!("u1")),
        (
            "users/u1/access?as_of=2026-01-02T00:00:00Z&known_at=1",
            200,
            "users/{id}/access",
            json!("u1"),
        ),
        ("users/u1/roles", 200, "users/{id}/roles", json!("u1")),
        ("users/u1/groups", 200, "users/{id}/groups", json!("u1")),
        ("users/nobody/groups", 404, "users/{id}/groups", json!("nobody")),
        ("users/u%1B1/groups", 404, "users/{id}/groups", json!("u\\u{1b}1")),
        ("users?email=ana@foo.example", 200, "users", Value::Null),
        ("names?kind=user&text=ana@foo.example", 200, "names", json!("user")),
        ("names?kind=user&text=u1&directory=d1", 200, "names", json!("user d1")),
        ("names?kind=ana&text=u1", 422, "names", Value::Null),
        ("groups/g1/history", 404, "groups/{id}/history", json!("g1")),
        ("groups/g1/members", 404, "groups/{id}/members", json!("g1")),
        ("deprovisionings?user=u2&directory=d1", 200, "deprovisionings", json!("u2 d1")),
        ("deprovisionings?email=ana%40foo.example", 200, "deprovisionings", Value::Null),
        ("deprovisionings?ana@foo.example=1", 422, "deprovisionings", Value::Null),
        ("deprovisionings?as_of=ana@foo.example", 422, "deprovisionings", Value::Null),
        ("changes?wait=0", 200, "changes", Value::Null),
        ("changes?wait=0&limit=0", 422, "changes", Value::Null),
        ("diff?from=latest", 200, "diff", Value::Null),
        ("role_assignments?group=g1", 404, "role_assignments", json!("g1")),
        ("role_assignments?user=ana@foo.example", 404, "role_assignments", json!("withheld")),
        ("users/ana@foo.example/history", 404, "users/{id}/history", json!("withheld")),
        ("users/ana%40foo.example/history", 404, "users/{id}/history", json!("withheld")),
        ("quarantine", 200, "quarantine", Value::Null),
    ] {
        let (told, lines) = logged.ask(&format!("/rollcall/v1/{path}"));
        assert_eq!((told, lines.len()), (status, 1), "{path}: {lines:?}");
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        let fields = ["level", "target", "api_key", "method", "route", "status"]
            .map(|name| line[name].clone());
        let route = format!("/rollcall/v1/{route}");
        assert_eq!(
            json!(fields),
            json!(["INFO", "rollcall::access", key_name(), "GET", route, status]),
            "{path}"
        );
        assert_eq!(line.get("subject").unwrap_or(&Value::Null), &subject, "{path}");
        assert!(
            line["request_id"].as_str().unwrap().starts_with("req_")
                && line["duration_ms"].is_u64(),
            "{line}"
        );
        for personal in ["ana@", "ana%40", "foo.example", API_KEY] {
            assert!(!lines[0].contains(personal), "{path}: {line}");
        }
    }
    // Two records are there: what was not asked for is what the answer says.
    for (path, as_of, known_at) in [
        (
            "users/u1/access?as_of=2026-01-02T00:00:00Z&known_at=1",
            json!("2026-01-02T00:00:00Z"),
            json!("1"),
        ),
        ("deprovisionings", Value::Null, json!("2")),
        ("role_assignments?as_of=latest", json!("latest"), json!("2")),
        ("diff?from=latest", json!("latest to latest"), json!("2 to 2")),
        ("diff?from=latest&from_known_at=1", json!("latest to latest"), json!("1 to latest")),
        ("deprovisionings?limit=0", Value::Null, Value::Null),
    ] {
        let (_, lines) = logged.ask(&format!("/rollcall/v1/{path}"));
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        let told = |name: &str| line.get(name).cloned().unwrap_or_default();
        assert_eq!((told("as_of"), told("known_at")), (as_of, known_at), "{path}");
    }
    let answer = logged.server.get("/rollcall/v1/quarantine");
    assert!(logged.lines().last().unwrap().contains(answer.header("X-Request-ID").unwrap()));
}

#[test]
fn what_is_asked_about_the_past_leaves_a_line_on_every_path() {
    let folder = tempfile::tempdir().unwrap();
    let logged = Logged::start(folder.path(), &["--log-format", "json"]);
    for (path, status, route, subject) in [
        ("/events?events=dsync.user.created", 200, "/events", Value::Null),
        ("/events", 400, "/events", Value::Null),
        ("/directories?known_at=1", 200, "/directories", Value::Null),
        ("/directories/d1?as_of=latest", 200, "/directories/{id}", json!("d1")),
        (
            "/directory_users?directory=d1&as%5Fof=2026-01-02T00:00:00Z",
            200,
            "/directory_users",
            json!("d1"),
        ),
        ("/directory_users/u1?known_at=1", 200, "/directory_users/{id}", json!("u1")),
        ("/directory_users/u2?known_at=1", 404, "/directory_users/{id}", json!("u2")),
        ("/directory_users/u1?known_at=3", 422, "/directory_users/{id}", json!("u1")),
        ("/directory_groups?user=u1&known_at=2", 200, "/directory_groups", json!("u1")),
        ("/directory_groups/g1?as_of=latest", 404, "/directory_groups/{id}", json!("g1")),
    ] {
        let (told, lines) = logged.ask(path);
        assert_eq!((told, lines.len()), (status, 1), "{path}: {lines:?}");
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((&line["route"], &line["status"]), (&json!(route), &json!(status)), "{path}");
        assert_eq!(line.get("subject").unwrap_or(&Value::Null), &subject, "{path}");
    }
    assert_eq!(logged.server.get_with("/directory_users/u1?known_at=1", &[]).status, 401);
    assert_eq!(logged.ask("/directory_users/u1?known_at=1").1.len(), 1);
    assert_eq!(logged.lines().len(), 11);
}

#[test]
fn what_applications_ask_all_day_and_who_is_not_known_leave_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let logged = Logged::start(folder.path(), &[]);
    for path in [
        "/directories",
        "/directory_users/u1",
        "/directory_users?directory=d1",
        "/rollcall/v1/policy",
        "/readyz",
    ] {
        assert_eq!(logged.ask(path), (200, Vec::new()), "{path}");
    }
    for headers in [&[][..], &[("Authorization", "Bearer sk_wrong")]] {
        assert_eq!(logged.server.get_with("/rollcall/v1/users/u1/history", headers).status, 401);
    }
    assert_eq!(logged.lines(), [""; 0]);
    // For people the same line is no object, and has no colours in a file.
    let (_, lines) = logged.ask("/rollcall/v1/users/u1/history");
    let (_, told) = lines[0].split_once("INFO rollcall::access: ").unwrap();
    let expected = format!(
        concat!(
            r#"read api_key="{}" method="GET" route="/rollcall/v1/users/{{id}}/history" "#,
            r#"subject="u1" known_at="2" status=200 "#,
        ),
        key_name()
    );
    assert!(told.starts_with(&expected), "{told}");
}

#[test]
fn a_log_that_nobody_reads_hinders_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--log-format", "text"], &["--log-format", "json"]] {
        let mut command = Command::new("sh");
        command.args(["-c", r#"exec env ROLLCALL_LOG=info "$0" "$@" 2>&-"#]).arg(binary());
        let server = Server::start_command(command, folder.path(), arguments);
        for _ in 0..3 {
            assert_eq!(server.get("/rollcall/v1/quarantine").status, 200);
        }
        assert_eq!(server.stop(), 0);
    }
}
