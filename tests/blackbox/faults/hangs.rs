//! Disks that do not answer, and files that are pipes: nothing waits for them without limit.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::calls::metrics::scrape;
use crate::faults::full_disk::wait_until;
use crate::kit::machine::TestMachine;
use crate::kit::server::{SECRET, Server, binary, signal};

fn event(id: &str) -> String {
    format!(r#"{{"id":"{id}","event":"x"}}"#)
}

#[test]
fn a_data_disk_that_does_not_answer_makes_a_server_not_ready_until_it_does() {
    let Some(machine) = TestMachine::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_command(machine.command(), folder.path(), &[]);
    server.deliver(&event("before"));
    machine.let_writes_hang(true);
    thread::scope(|scope| {
        let sent = scope.spawn(|| server.post(event("during").as_bytes()));
        wait_until("the hang is noticed", || server.get("/readyz").status == 503);
        let unready = server.get("/readyz");
        assert_eq!(unready.code(), "log_unavailable");
        assert_eq!(unready.json()["parts"]["log"]["state"], "blocked");
        let answer = sent.join().unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (503, "log_unavailable"));
    });
    // Further events are refused at once, and questions are answered.
    let refused = server.post(event("refused").as_bytes());
    assert_eq!((refused.status, refused.code().as_str()), (503, "log_unavailable"));
    let labels = [("reason", "log_unavailable")];
    let counted = scrape(&server).value("rollcall_ingest_refused_total", &labels);
    assert_eq!(counted, Some(2.0));
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.get("/rollcall/v1/stats").json()["seq"], 1);
    machine.let_writes_hang(false);
    wait_until("it is ready again", || server.get("/readyz").status == 200);
    let again = server.post(event("during").as_bytes()).json();
    assert_eq!((&again["duplicate"], &again["seq"]), (&true.into(), &2.into()));
    assert_eq!(server.deliver(&event("refused")), 3);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_stop_does_not_wait_for_a_data_disk_that_does_not_answer() {
    let Some(machine) = TestMachine::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_command(machine.command(), folder.path(), &[]);
    server.deliver(&event("before"));
    machine.let_writes_hang(true);
    thread::scope(|scope| {
        let sent = scope.spawn(|| server.post(event("during").as_bytes()));
        assert_eq!(sent.join().unwrap().status, 503);
    });
    let begun = Instant::now();
    // The process cannot be stopped if its disk never answers: a kernel that waits would keep it.
    assert_eq!(server.stop(), 2);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    machine.let_writes_hang(false);
    let server = Server::start(folder.path());
    assert_eq!(server.post(event("before").as_bytes()).json()["duplicate"], true);
    assert_eq!(server.post(event("during").as_bytes()).status, 200);
    assert_eq!(server.stop(), 0);
}

/// Runs a command on a data folder, for a limited time. Returns its exit code and what it says.
fn run(arguments: &[&str], data: &Path) -> (i32, String) {
    let output = Command::new("timeout")
        .args(["-s", "KILL", "20"])
        .arg(binary())
        .args(arguments)
        .arg("--data")
        .arg(data)
        .env("ROLLCALL_WEBHOOK_SECRETS", SECRET)
        .env("ROLLCALL_API_KEYS", "sk_test")
        .output()
        .unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn replace_by_pipe(path: &Path) {
    fs::rename(path, path.with_extension("away")).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn restore(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::rename(path.with_extension("away"), path).unwrap();
}

#[test]
fn a_pipe_or_a_link_in_the_place_of_a_file_is_named_and_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(&event("e"));
    assert_eq!(server.stop(), 0);
    for name in ["lock", "answered", "checkpoint"] {
        let path = folder.path().join(name);
        for kind in ["pipe", "link"] {
            replace_by_pipe(&path);
            if kind == "link" {
                fs::remove_file(&path).unwrap();
                let elsewhere = path.with_extension("away");
                std::os::unix::fs::symlink(elsewhere, &path).unwrap();
            }
            let (code, says) = run(&["serve", "--listen", "127.0.0.1:0"], folder.path());
            assert_eq!(code, 2, "{name}, {kind}: {says}");
            assert!(says.contains("and not a file"), "{name}: {says}");
            if name != "answered" {
                let (code, says) = run(&["verify"], folder.path());
                assert_ne!(code, 0, "{name}, {kind}");
                assert!(code > 0, "{name}, {kind}: {code} {says}");
            }
            restore(&path);
        }
    }
    let server = Server::start(folder.path());
    assert_eq!(server.post(event("e").as_bytes()).json()["duplicate"], true);
    assert_eq!(server.stop(), 0);
}

/// A disk on which every write waits, in a way that no signal ends.
struct FrozenDisk {
    _image: tempfile::NamedTempFile,
    folder: tempfile::TempDir,
    /// Ends the wait also if this test is killed.
    guard: Option<Child>,
}

fn succeeds(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

impl FrozenDisk {
    /// Makes one that is not frozen yet; `None` where this process may not mount.
    fn mount() -> Option<FrozenDisk> {
        let image = tempfile::NamedTempFile::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        image.as_file().set_len(16 << 20).unwrap();
        let made = succeeds(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image.path()));
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(image.path()).arg(folder.path());
        if !made || !succeeds(&mut mount) {
            eprintln!("skipped: freezing a disk needs root, with CAP_SYS_ADMIN, and mkfs.ext4");
            return None;
        }
        Some(FrozenDisk { _image: image, folder, guard: None })
    }

    fn freeze(&mut self) {
        let mut guard = Command::new("sh");
        guard.args(["-c", "sleep 60; fsfreeze -u \"$0\""]).arg(self.folder.path());
        self.guard = Some(guard.spawn().unwrap());
        assert!(succeeds(Command::new("fsfreeze").arg("-f").arg(self.folder.path())));
    }

    fn thaw(&mut self) {
        succeeds(Command::new("fsfreeze").arg("-u").arg(self.folder.path()));
        if let Some(mut guard) = self.guard.take() {
            guard.kill().unwrap();
            guard.wait().unwrap();
        }
    }
}

impl Drop for FrozenDisk {
    fn drop(&mut self) {
        self.thaw();
        succeeds(Command::new("umount").arg("-l").arg(self.folder.path()));
    }
}

#[test]
fn a_folder_of_checkpoints_that_does_not_answer_keeps_no_data_folder_locked() {
    let Some(mut disk) = FrozenDisk::mount() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = disk.folder.path().to_str().unwrap().to_owned();
    let arguments = ["--publish-checkpoints", place.as_str(), "--publish-every", "1s"];
    let server = Server::start_with(folder.path(), &arguments);
    server.deliver(&event("e"));
    wait_until("a checkpoint is there", || {
        fs::read_dir(&place).unwrap().any(|file| {
            file.unwrap().path().extension().is_some_and(|extension| extension == "checkpoint")
        })
    });
    disk.freeze();
    server.deliver(&event("f"));
    signal(server.pid(), "TERM");
    // The kernel keeps the process until the disk answers, and its lock is free before.
    wait_until("the folder is free", || run(&["verify"], folder.path()).0 == 0);
    let next = Server::start(folder.path());
    assert_eq!(next.post(event("f").as_bytes()).json()["duplicate"], true);
    assert_eq!(next.stop(), 0);
    disk.thaw();
    assert_eq!(server.wait(), 0);
}
