//! A disk that is full or read-only: webhooks are refused, questions answered, and nothing is lost.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::kit::machine::TestMachine;
use crate::kit::scale::scale;
use crate::kit::server::{SECRET, Server, agent, binary, now_ms, post, signature, user};
use crate::kit::small_disk::SmallDisk;

/// Rounds of a run at scale 1.
const ROUNDS: u64 = 2;

/// The time within which a server takes events again once its disk takes writes.
const BACK_WITHIN: Duration = Duration::from_secs(20);

fn body(id: &str) -> String {
    // Some KiB that do not compress, so that the disk fills while events arrive.
    let noise: String = (0u64..100)
        .map(|n| format!("{:016x}", (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ id.len() as u64))
        .collect();
    let event = format!("event_{id}");
    user(id, "d", &noise, "2025-01-01T00:00:00.000Z", &event, "dsync.user.created")
}

/// Waits until `holds` returns true.
pub fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < BACK_WITHIN, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Delivers events from several threads until `stop` is set. Returns the ids of those that were
/// acknowledged.
fn deliver_until(url: &str, next: &AtomicU64, stop: &AtomicBool, done: &Mutex<Vec<String>>) {
    let agent = agent();
    while !stop.load(Ordering::SeqCst) {
        let id = format!("u{}", next.fetch_add(1, Ordering::SeqCst));
        let body = body(&id);
        let header = signature(SECRET, &now_ms().to_string(), body.as_bytes());
        let answer = post(&agent, url, body.as_bytes(), &[("WorkOS-Signature", &header)]);
        match answer.map(|answer| (answer.status, answer.body)) {
            Some((200, _)) => done.lock().unwrap().push(id),
            Some((503, body)) => {
                assert!(String::from_utf8_lossy(&body).contains("log_unavailable"));
                std::thread::sleep(Duration::from_millis(2));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Sets a flag when it is dropped, also by a check that fails.
struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Checks that questions are answered and events are not.
pub fn check_blocked(server: &Server, known: &str) {
    wait_until("the disk is noticed", || server.get("/readyz").status == 503);
    assert_eq!(server.get("/readyz").code(), "log_unavailable");
    assert_eq!(server.get("/readyz").json()["parts"]["log"]["state"], "blocked");
    let refused = server.post(body("refused").as_bytes());
    assert_eq!((refused.status, refused.code().as_str()), (503, "log_unavailable"));
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.get(&format!("/directory_users/{known}")).status, 200, "{known}");
}

#[test]
fn a_disk_that_fills_up_under_load_loses_nothing_and_needs_no_restart() {
    fill_up(&[]);
}

/// Without a reserve sled runs into the end of the disk in the middle of a commit.
#[test]
fn a_commit_that_runs_into_the_end_of_the_disk_is_settled_when_the_store_is_opened_again() {
    fill_up(&["--disk-reserve-mib", "0"]);
}

fn fill_up(arguments: &[&str]) {
    let Some(disk) = SmallDisk::mount(96) else { return };
    let server = Server::start_with(&disk.data(), arguments);
    server.deliver(&body("first"));
    let pid = server.pid();
    let (next, done) = (AtomicU64::new(0), Mutex::new(vec!["first".to_owned()]));
    let url = format!("{}/webhooks/workos", server.url);
    for _ in 0..ROUNDS * scale() {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _at_the_end = StopAtTheEnd(&stop);
            for _ in 0..4 {
                scope.spawn(|| deliver_until(&url, &next, &stop, &done));
            }
            let before = done.lock().unwrap().len();
            wait_until("events are taken", || done.lock().unwrap().len() > before + 20);
            disk.fill();
            check_blocked(&server, "first");
            assert_eq!(server.get("/directory_users?directory=d&limit=100").status, 200);
            disk.free();
            wait_until("the server is ready again", || server.get("/readyz").status == 200);
            let before = done.lock().unwrap().len();
            wait_until("events are taken again", || done.lock().unwrap().len() > before);
        });
    }
    assert_eq!(server.pid(), pid);
    let done = done.into_inner().unwrap();
    for id in &done {
        let again = server.post(body(id).as_bytes()).json();
        assert_eq!(again["duplicate"], true, "{id} was acknowledged");
    }
    let head = server.get("/readyz").json()["seq"].as_u64().unwrap();
    assert_eq!(server.stop(), 0);
    let found = super::verify::verify(&disk.data(), &[("ROLLCALL_WEBHOOK_SECRETS", SECRET)]);
    assert_eq!((found.code, &found.json["records"]), (0, &head.into()));
}

/// Errors of the system, by their numbers on Linux.
const EIO: i64 = 5;
const ENOSPC: i64 = 28;
const EROFS: i64 = 30;

#[test]
fn a_disk_that_fails_writes_as_full_or_read_only_is_used_again_without_a_restart() {
    let Some(machine) = TestMachine::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_command(machine.command(), folder.path(), &[]);
    let mut known = vec!["first".to_owned()];
    server.deliver(&body("first"));
    for round in 0..ROUNDS * scale() {
        for errno in [ENOSPC, EROFS] {
            machine.set_write_error(errno);
            // The store fails in the middle of this commit.
            let id = format!("u{round} {errno}");
            let refused = server.post(body(&id).as_bytes());
            assert_eq!((refused.status, refused.code().as_str()), (503, "log_unavailable"));
            check_blocked(&server, "first");
            machine.set_write_error(0);
            wait_until("the server is ready again", || server.get("/readyz").status == 200);
            let again = server.post(body(&id).as_bytes());
            assert_eq!(again.status, 200, "{id}");
            known.push(id);
            for id in &known {
                assert_eq!(server.post(body(id).as_bytes()).json()["duplicate"], true, "{id}");
            }
        }
    }
    assert_eq!(server.stop(), 0);
    let found = super::verify::verify(folder.path(), &[("ROLLCALL_WEBHOOK_SECRETS", SECRET)]);
    assert_eq!((found.code, &found.json["records"]), (0, &known.len().into()));
}

#[test]
fn a_disk_that_reports_an_error_ends_the_process_with_exit_code_2() {
    let Some(machine) = TestMachine::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_command(machine.command(), folder.path(), &[]);
    server.deliver(&body("first"));
    machine.set_write_error(EIO);
    let refused = server.post(body("second").as_bytes());
    assert_eq!((refused.status, refused.code().as_str()), (503, "log_unavailable"));
    assert_eq!(server.wait(), 2);
    machine.set_write_error(0);
    let server = Server::start_command(machine.command(), folder.path(), &[]);
    assert_eq!(server.post(body("first").as_bytes()).json()["duplicate"], true);
    assert_eq!(server.post(body("second").as_bytes()).status, 200);
}

/// Runs `serve` on a folder on which it cannot start. Returns its exit code and what it said.
fn refused_start(data: &Path) -> (Option<i32>, String) {
    let output = Command::new(binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .env("ROLLCALL_WEBHOOK_SECRETS", SECRET)
        .env("ROLLCALL_API_KEYS", "k")
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_start_on_a_disk_that_takes_no_writes_says_so_and_not_that_the_log_is_damaged() {
    let Some(disk) = SmallDisk::mount(96) else { return };
    let server = Server::start(&disk.data());
    server.deliver(&body("first"));
    assert_eq!(server.stop(), 0);
    disk.remount("ro");
    let (code, said) = refused_start(&disk.data());
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("is read-only: nothing is lost"), "{said}");
    assert!(!said.contains("damage"), "{said}");
    disk.remount("rw");
    disk.fill();
    let (code, said) = refused_start(&disk.data().with_file_name("new"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no space left in `") && said.contains("free some"), "{said}");
    assert!(!said.contains("damage"), "{said}");
    disk.free();
    let server = Server::start(&disk.data());
    assert_eq!(server.deliver(&body("second")), 2);
}

#[test]
fn little_disk_space_is_warned_of_before_events_are_refused() {
    let Some(disk) = SmallDisk::mount(96) else { return };
    let mut command = Command::new("sh");
    // The server's own setting of the log comes first.
    let said = disk.data().with_file_name("said");
    let script = "said=$1; shift; ROLLCALL_LOG=warn exec \"$0\" \"$@\" 2>\"$said\"";
    command.args(["-c", script]).arg(binary()).arg(&said);
    let server = Server::start_command(command, &disk.data(), &["--disk-reserve-mib", "40"]);
    server.deliver(&body("first"));
    let said = std::fs::read_to_string(said).unwrap();
    assert!(said.contains("little disk space is left"), "{said}");
    assert_eq!(server.get("/readyz").status, 200);
}
