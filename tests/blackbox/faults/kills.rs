//! 200 means durable: kills under load lose nothing that was acknowledged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::kit::power::PoweredDisk;
use crate::kit::scale::scale;
use crate::kit::server::{SECRET, Server, agent, now_ms, post, signal, signature, user};

/// Kills in a run at scale 1.
const KILLS: u64 = 6;

/// Power cuts in a run at scale 1.
const CUTS: u64 = 3;

fn created(id: &str) -> String {
    let at = "2025-01-01T00:00:00.000Z";
    user(id, "d", "ana", at, &format!("event_{id}"), "dsync.user.created")
}

/// A log that is loaded again and again, and that ends each time without warning.
#[derive(Default)]
struct Load {
    /// What was acknowledged, by seq.
    acknowledged: Mutex<BTreeMap<u64, String>>,
    next: AtomicU64,
}

impl Load {
    /// Checks that a server that was started again has what was acknowledged lately.
    fn check_lately(&self, server: &Server, round: u64) {
        let known = self.acknowledged.lock().unwrap().clone();
        let head = server.get("/readyz").json()["seq"].as_u64().unwrap();
        assert!(head >= known.last_key_value().map_or(0, |(seq, _)| *seq), "round {round}");
        for id in known.values().rev().take(200) {
            let found = server.get(&format!("/directory_users/{id}"));
            assert_eq!(found.status, 200, "round {round}: {id}");
        }
    }

    /// Delivers from several threads, and calls `end` once enough more is acknowledged.
    fn deliver_until(&self, server: &Server, more: usize, end: impl FnOnce()) {
        let (url, ended) = (format!("{}/webhooks/workos", server.url), AtomicBool::new(false));
        let enough = self.acknowledged.lock().unwrap().len() + more;
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| self.deliver(&url, &ended));
            }
            while self.acknowledged.lock().unwrap().len() < enough {
                std::thread::yield_now();
            }
            end();
            ended.store(true, Ordering::SeqCst);
        });
    }

    fn deliver(&self, url: &str, ended: &AtomicBool) {
        let agent = agent();
        while !ended.load(Ordering::SeqCst) {
            let id = format!("u{}", self.next.fetch_add(1, Ordering::SeqCst));
            let body = created(&id);
            let header = signature(SECRET, &now_ms().to_string(), body.as_bytes());
            let answer = post(&agent, url, body.as_bytes(), &[("WorkOS-Signature", &header)]);
            if let Some(answer) = answer.filter(|answer| answer.status == 200) {
                let seq = answer.json()["seq"].as_u64().unwrap();
                self.acknowledged.lock().unwrap().insert(seq, id);
            }
        }
    }

    /// Checks that the log has all that was acknowledged, and that it is sound.
    fn check_all(self, data: &Path, rounds: u64) {
        let server = Server::start(data);
        let acknowledged = self.acknowledged.into_inner().unwrap();
        assert!(acknowledged.len() as u64 > rounds * 10, "{}", acknowledged.len());
        for id in acknowledged.values() {
            let answer = server.post(created(id).as_bytes()).json();
            assert_eq!(answer["duplicate"], true, "{id} was acknowledged");
        }
        let head = server.get("/readyz").json()["seq"].as_u64().unwrap();
        assert_eq!(server.stop(), 0);
        let found = crate::faults::verify::verify(data, &[("ROLLCALL_WEBHOOK_SECRETS", SECRET)]);
        assert_eq!(
            (found.code, &found.json["records"], &found.json["signatures"]["verified"]),
            (0, &head.into(), &head.into())
        );
    }
}

#[test]
fn kills_under_load_lose_no_acknowledged_event() {
    let folder = tempfile::tempdir().unwrap();
    let (load, kills) = (Load::default(), KILLS * scale());
    for round in 0..kills {
        let server = Server::start(folder.path());
        load.check_lately(&server, round);
        let pid = server.pid();
        load.deliver_until(&server, 20 + round as usize * 17 % 90, || signal(pid, "KILL"));
    }
    load.check_all(folder.path(), kills);
}

#[test]
fn power_cuts_under_load_lose_no_acknowledged_event() {
    let Some(disk) = PoweredDisk::new() else { return };
    let (load, cuts) = (Load::default(), CUTS * scale());
    for round in 0..cuts {
        let server = Server::start(&disk.data());
        load.check_lately(&server, round);
        load.deliver_until(&server, 20 + round as usize * 17 % 90, || disk.cut());
        // Dropping it kills the process, which may have ended already.
        drop(server);
        disk.restore();
    }
    load.check_all(&disk.data(), cuts);
}

#[test]
fn a_store_behind_its_checkpoint_refuses_to_start_and_names_the_first_lost_record() {
    let folder = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(r#"{"id":"a","event":"x"}"#);
    assert_eq!(server.stop(), 0);
    copy(&folder.path().join("store"), &old.path().join("store"));
    let server = Server::start(folder.path());
    server.deliver(r#"{"id":"b","event":"x"}"#);
    server.deliver(r#"{"id":"c","event":"x"}"#);
    assert_eq!(server.stop(), 0);
    // The store of yesterday beside the checkpoint of today: two acknowledged records are gone.
    std::fs::remove_dir_all(folder.path().join("store")).unwrap();
    copy(&old.path().join("store"), &folder.path().join("store"));
    let output = std::process::Command::new(crate::kit::server::binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path())
        .env("ROLLCALL_WEBHOOK_SECRETS", SECRET)
        .env("ROLLCALL_API_KEYS", "k")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("3 records were acknowledged and 1 are left; the first bad record is 2"),
        "{said}"
    );
}

pub fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
