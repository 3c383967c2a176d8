//! Open files: a server may have as many as the system allows, and a commit opens none.

use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::kit::server::{Server, binary};

fn soft_limit(pid: u32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}

#[test]
fn a_server_raises_its_limit_of_open_files_to_the_highest_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    let script = "ulimit -S -n 100 && ulimit -H -n 1000 && exec \"$0\" \"$@\"";
    command.args(["-c", script]).arg(binary());
    let server = Server::start_command(command, folder.path(), &[]);
    assert_eq!(soft_limit(server.pid()), 1000);
}

#[test]
fn a_commit_opens_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    // The connection is open from here on.
    server.deliver(r#"{"id":"a","event":"x"}"#);
    let pid = Pid::from_raw(server.pid().cast_signed());
    let none_left = Rlimit { current: Some(3), maximum: Some(1000) };
    prlimit(pid, Resource::Nofile, none_left).unwrap();
    for seq in 2..20 {
        assert_eq!(server.deliver(&format!(r#"{{"id":"event_{seq}","event":"x"}}"#)), seq);
    }
    // The log is synced once a second.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(server.deliver(r#"{"id":"last","event":"x"}"#), 20);
    assert_eq!(server.get("/readyz").status, 200);
}
