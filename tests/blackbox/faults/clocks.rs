//! Clocks that are set ahead or back, while the server runs and between two runs.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::full_disk::wait_until;
use crate::calls::metrics::scrape;
use crate::faults::damage::contents;
use crate::kit::machine::TestMachine;
use crate::kit::model::rfc3339;
use crate::kit::server::{API_KEY, SECRET, Server, now_ms, signal, user};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

fn body(id: &str) -> String {
    let event = format!("event_{id}");
    user(id, "d", "ana", "2025-01-01T00:00:00.000Z", &event, "dsync.user.created")
}

fn start(machine: &TestMachine, data: &Path, arguments: &[&str]) -> Server {
    Server::start_command(machine.command(), data, arguments)
}

fn clock_of(server: &Server) -> Value {
    server.get("/rollcall/v1/stats").json()["clock"].clone()
}

/// Waits until this process's clock has passed a moment.
fn wait_past(moment: i64) {
    while now_ms() <= moment {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn what_was_known_by_a_moment_stays_so_when_the_clock_is_set_back_at_a_restart() {
    let Some(machine) = TestMachine::new() else { return };
    for (back_ms, is_killed) in
        [(2_000, false), (2_000, true), (5_000, false), (3_600_000, false), (3_600_000, true)]
    {
        machine.set_clock_ahead_by(0);
        let folder = tempfile::tempdir().unwrap();
        let server = start(&machine, folder.path(), &[]);
        assert_eq!(machine.post(&server, &body("a")).status, 200);
        let moment = now_ms() + 50;
        wait_past(moment);
        let question = format!("/directory_users?directory=d&known_at={}", rfc3339(moment));
        let asked = server.get(&question);
        assert_eq!((asked.status, asked.ids()), (200, vec!["a".to_owned()]));
        if is_killed {
            signal(server.pid(), "KILL");
            drop(server);
        } else {
            assert_eq!(server.stop(), 0);
        }
        machine.set_clock_ahead_by(-back_ms);
        let server = start(&machine, folder.path(), &[]);
        let case = format!("{back_ms} ms back, killed: {is_killed}");
        for id in ["b", "c"] {
            assert_eq!(machine.post(&server, &body(id)).status, 200, "{case}");
            let again = server.get(&question);
            assert_eq!((again.status, &again.body), (200, &asked.body), "{case}");
            assert_eq!(again.header("Rollcall-Known-At"), asked.header("Rollcall-Known-At"));
        }
        let ahead = clock_of(&server)["stamps_ahead_ms"].as_i64().unwrap();
        assert!(ahead >= back_ms - (now_ms() - moment), "{case}: {ahead}");
    }
}

#[test]
fn while_the_clock_has_jumped_events_are_refused_and_questions_answered() {
    let Some(machine) = TestMachine::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = start(&machine, folder.path(), &[]);
    assert_eq!(machine.post(&server, &body("first")).status, 200);
    for minutes in [6, -6] {
        machine.set_clock_ahead_by(minutes * MINUTE_MS);
        for sent in [machine.now_ms(), now_ms()] {
            let refused = server.post_at(body("refused").as_bytes(), sent);
            assert_eq!((refused.status, refused.code().as_str()), (503, "log_unavailable"));
        }
        assert_eq!(server.get("/readyz").code(), "log_unavailable");
        let parts = server.get("/readyz").json()["parts"].clone();
        assert_eq!(
            (&parts["clock"]["state"], &parts["log"]["state"]),
            (&"jumped".into(), &"open".into())
        );
        let policy = serde_json::json!({ "inactive_users": "delete" });
        assert_eq!(server.put("/rollcall/v1/policy", &policy).code(), "log_unavailable");
        assert_eq!(server.get("/directory_users/first").status, 200);
        let state = clock_of(&server);
        let offset_ms = state["offset_ms"].as_i64().unwrap();
        assert!((offset_ms - minutes * MINUTE_MS).abs() < 1_000, "{state}");
        assert_eq!(state["is_believed"], false);
        let offset_s = scrape(&server).value("rollcall_clock_offset_seconds", &[]).unwrap();
        assert!((offset_s - 60.0 * minutes as f64).abs() < 1.0, "{offset_s}");
        // A jumped clock must not stamp every later record.
        let ahead = format!("/directories?known_at={}", rfc3339(now_ms() + 5 * MINUTE_MS));
        assert!([422, 503].contains(&server.get(&ahead).status));
        machine.set_clock_ahead_by(0);
        let id = format!("after {minutes}");
        assert_eq!(machine.post(&server, &body(&id)).status, 200);
        let ready = server.get("/readyz");
        assert_eq!(
            (ready.status, &ready.json()["parts"]["clock"]["state"]),
            (200, &"believed".into())
        );
    }
    machine.set_clock_ahead_by(4 * MINUTE_MS);
    assert_eq!(machine.post(&server, &body("a correction")).status, 200);
    machine.set_clock_ahead_by(7 * MINUTE_MS);
    assert_eq!(machine.post(&server, &body("right now")).status, 503);
    assert_eq!(server.stop(), 0);
    let server = start(&machine, folder.path(), &["--accept-clock"]);
    assert_eq!(machine.post(&server, &body("right now")).status, 200);
    assert!(clock_of(&server)["offset_ms"].as_i64().unwrap().abs() < 1_000);
}

/// Starts a server whose standard error is kept. Returns its exit code, if it ends by itself, and
/// what it said.
fn said_at_start(machine: &TestMachine, data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = machine.command();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(arguments);
    command.env("ROLLCALL_WEBHOOK_SECRETS", SECRET).env("ROLLCALL_API_KEYS", API_KEY);
    command.env_remove("ROLLCALL_LOG").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stderr, mut said, mut byte) = (child.stderr.take().unwrap(), Vec::new(), [0]);
    while stderr.read(&mut byte).unwrap() == 1 {
        said.push(byte[0]);
        if byte == *b"\n" && String::from_utf8_lossy(&said).contains("running: ready") {
            signal(child.id(), "TERM");
            stderr.read_to_end(&mut said).unwrap();
            break;
        }
    }
    let code = child.wait().unwrap().code();
    (code, String::from_utf8(said).unwrap())
}

#[test]
fn a_start_with_a_clock_far_ahead_of_the_last_record_is_warned_of_or_must_be_confirmed() {
    let Some(machine) = TestMachine::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = start(&machine, folder.path(), &[]);
    assert_eq!(machine.post(&server, &body("a")).status, 200);
    assert_eq!(server.stop(), 0);
    let day = DAY_MS + MINUTE_MS;
    for (ahead_ms, arguments, code, warns) in [
        (DAY_MS / 2, &[][..], 0, false),
        (day, &[], 0, true),
        (366 * DAY_MS - MINUTE_MS, &[], 0, true),
        (366 * DAY_MS + MINUTE_MS, &[], 1, false),
        (366 * DAY_MS + MINUTE_MS, &["--accept-clock"], 0, true),
        (-60 * MINUTE_MS, &[], 0, true),
    ] {
        machine.set_clock_ahead_by(ahead_ms);
        let before = contents(folder.path());
        let (exit, said) = said_at_start(&machine, folder.path(), arguments);
        let is_unchanged = contents(folder.path()) == before;
        assert!(exit == Some(0) || is_unchanged, "{ahead_ms}: {said}");
        assert_eq!(exit, Some(code), "{ahead_ms}: {said}");
        assert_eq!(said.contains("--accept-clock"), code == 1, "{ahead_ms}: {said}");
        let warned = said.lines().any(|line| line.contains("WARN") && line.contains("clock"));
        assert_eq!(warned, warns, "{ahead_ms}: {said}");
    }
}

#[test]
fn a_clock_that_was_ahead_once_is_shown_as_long_as_it_stamps_records() {
    let Some(machine) = TestMachine::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    machine.set_clock_ahead_by(DAY_MS);
    let server = start(&machine, folder.path(), &[]);
    assert_eq!(machine.post(&server, &body("a")).status, 200);
    assert_eq!(server.stop(), 0);
    machine.set_clock_ahead_by(0);
    let server = start(&machine, folder.path(), &[]);
    assert_eq!(machine.post(&server, &body("b")).status, 200);
    let state = clock_of(&server);
    let ahead_ms = state["stamps_ahead_ms"].as_i64().unwrap();
    assert!((ahead_ms - DAY_MS).abs() < MINUTE_MS, "{state}");
    assert_eq!(state["is_believed"], true);
    let shown = std::process::Command::new(crate::kit::server::binary())
        .args(["status", "--url", &server.url])
        .env("ROLLCALL_API_KEY", API_KEY)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("clock"), "{shown}");
    wait_until("a question about the records is answered", || {
        server.get("/directory_users/b").status == 200
    });
}
