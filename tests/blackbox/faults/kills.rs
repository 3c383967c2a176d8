//! 200 means durable: kills under load lose nothing that was acknowledged.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::kit::scale::scale;
use crate::kit::server::{SECRET, Server, agent, now_ms, post, signal, signature, user};

/// Kills in a run at scale 1.
const KILLS: u64 = 6;

#[test]
fn kills_under_load_lose_no_acknowledged_event() {
    let folder = tempfile::tempdir().unwrap();
    // What was acknowledged, by seq.
    let acknowledged: Mutex<BTreeMap<u64, String>> = Mutex::default();
    let next = AtomicU64::new(0);
    let kills = KILLS * scale();
    for round in 0..kills {
        let server = Server::start(folder.path());
        let known = acknowledged.lock().unwrap().clone();
        let head = server.get("/readyz").json()["seq"].as_u64().unwrap();
        assert!(head >= known.last_key_value().map_or(0, |(seq, _)| *seq), "round {round}");
        for id in known.values().rev().take(200) {
            assert_eq!(
                server.get(&format!("/directory_users/{id}")).status,
                200,
                "round {round}: {id}"
            );
        }
        let (url, pid, killed) =
            (format!("{}/webhooks/workos", server.url), server.pid(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let agent = agent();
                    while !killed.load(Ordering::SeqCst) {
                        let id = format!("u{}", next.fetch_add(1, Ordering::SeqCst));
                        let body = user(
                            &id,
                            "d",
                            "ana",
                            "2025-01-01T00:00:00.000Z",
                            &format!("event_{id}"),
                            "dsync.user.created",
                        );
                        let header = signature(SECRET, &now_ms().to_string(), body.as_bytes());
                        let answer =
                            post(&agent, &url, body.as_bytes(), &[("WorkOS-Signature", &header)]);
                        if let Some(answer) = answer.filter(|answer| answer.status == 200) {
                            acknowledged
                                .lock()
                                .unwrap()
                                .insert(answer.json()["seq"].as_u64().unwrap(), id);
                        }
                    }
                });
            }
            let enough = known.len() + 20 + round as usize * 17 % 90;
            while acknowledged.lock().unwrap().len() < enough {
                std::thread::yield_now();
            }
            signal(pid, "KILL");
            killed.store(true, Ordering::SeqCst);
        });
    }
    let server = Server::start(folder.path());
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() as u64 > kills * 10, "{}", acknowledged.len());
    for id in acknowledged.values() {
        let body = user(
            id,
            "d",
            "ana",
            "2025-01-01T00:00:00.000Z",
            &format!("event_{id}"),
            "dsync.user.created",
        );
        let answer = server.post(body.as_bytes()).json();
        assert_eq!(answer["duplicate"], true, "{id} was acknowledged");
    }
    let head = server.get("/readyz").json()["seq"].as_u64().unwrap();
    assert_eq!(server.stop(), 0);
    let found =
        crate::faults::verify::verify(folder.path(), &[("ROLLCALL_WEBHOOK_SECRETS", SECRET)]);
    assert_eq!(
        (found.code, &found.json["records"], &found.json["signatures"]["verified"]),
        (0, &head.into(), &head.into())
    );
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
