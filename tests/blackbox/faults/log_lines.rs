//! Standard error that takes no lines: questions that must leave one are refused, and lines that
//! wait are written before the end.

use std::fs::{self, File};
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::calls::metrics::scrape;
use crate::faults::full_disk::wait_until;
use crate::kit::server::{Server, binary, signal, user};
use crate::kit::small_disk::SmallDisk;

const SENSITIVE: &str = "/rollcall/v1/quarantine";

fn logging(to: impl Into<Stdio>) -> Command {
    let mut logging = Command::new("env");
    logging.arg("ROLLCALL_LOG=error,rollcall::access=info").arg(binary()).stderr(to);
    logging
}

/// The state of the access log, of a server that is ready.
fn access_log(server: &Server) -> String {
    let ready = server.get("/readyz");
    assert_eq!(ready.status, 200);
    ready.json()["parts"]["access_log"]["state"].as_str().unwrap().to_owned()
}

fn check_refused(server: &Server) {
    let refused = server.get(SENSITIVE);
    assert_eq!((refused.status, refused.code().as_str()), (503, "access_log_unavailable"));
    assert_eq!(refused.header("Retry-After"), Some("1"));
    // It is named; what leaves no line goes on.
    assert_eq!(access_log(server), "blocked");
    server.deliver(&user("u", "d", "u", "2026-03-01T09:00:00.000Z", "e", "dsync.user.created"));
    assert_eq!(server.get("/directory_users/u").status, 200);
    assert!(server.get("/rollcall/v1/stats").json()["dropped_log_lines"].as_u64().unwrap() >= 1);
    assert!(scrape(server).value("rollcall_log_lines_dropped_total", &[]).unwrap() >= 1.0);
}

#[test]
fn a_line_that_cannot_be_written_refuses_its_question() {
    let folder = tempfile::tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let server = Server::start_command(logging(full), folder.path(), &[]);
    check_refused(&server);
    assert_eq!(server.stop(), 0);
    // A closed pipe is like a full disk.
    let mut server = Server::start_command(logging(Stdio::piped()), folder.path(), &[]);
    assert_eq!(server.get(SENSITIVE).status, 200);
    assert_eq!(access_log(&server), "open");
    drop(server.take_stderr());
    check_refused(&server);
    assert_eq!(server.stop(), 0);
}

#[test]
fn questions_that_must_be_logged_are_answered_again_once_the_disk_of_the_log_has_room() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let folder = tempfile::tempdir().unwrap();
    let lines = disk.folder().join("lines");
    let server = Server::start_command(logging(File::create(&lines).unwrap()), folder.path(), &[]);
    assert_eq!(server.get(SENSITIVE).status, 200);
    disk.fill();
    // The rest of a page of the file may take some lines.
    wait_until("lines are lost", || server.get(SENSITIVE).status == 503);
    check_refused(&server);
    disk.free();
    assert_eq!(server.get(SENSITIVE).status, 200);
    assert_eq!(access_log(&server), "open");
    assert_eq!(server.stop(), 0);
    let written = fs::read_to_string(&lines).unwrap();
    let last = written.lines().last().unwrap();
    assert!(last.contains("status=200") && last.contains(SENSITIVE), "{last}");
    assert!(written.lines().filter(|line| line.contains("status=200")).count() >= 2, "{written}");
}

#[test]
fn a_stop_writes_the_lines_that_wait_for_a_slow_reader() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start_command(logging(Stdio::piped()), folder.path(), &[]);
    let mut reader = server.take_stderr();
    let mut kept = 0;
    while server.get(SENSITIVE).status == 200 {
        kept += 1;
        assert!(kept < 50_000, "the queue is bounded");
    }
    signal(server.pid(), "TERM");
    let (mut text, mut part) = (String::new(), [0; 16 << 10]);
    loop {
        // Slower than a second for all, and never still for so long.
        let read = reader.read(&mut part).unwrap();
        if read == 0 {
            break;
        }
        text.push_str(std::str::from_utf8(&part[..read]).unwrap());
        thread::sleep(Duration::from_millis(100));
    }
    let answered = text.lines().filter(|line| line.contains("status=200")).count();
    assert_eq!(answered, kept, "every answer that left has its line");
    assert_eq!(server.wait(), 0);
}
