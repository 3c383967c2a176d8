//! A rebuild runs beside the serving views: reads never wait for it and never see half of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rollcall::engine::{Engine, Rebuild};
use rollcall::log::{AppendError, History, Identity, Log, MemoryLog, Outcome, ReadError, Record};
use rollcall::verify::Verified;
use rollcall_projections::{Cut, Entry, Millis, Seq, Sight};
use serde_json::{Value, json};

use crate::kit::road::{engine, memory_log, scraped};
use crate::kit::server::{API_KEY, Server, delegate_history, delegate_log, user};

const AT: &str = "2026-01-01T00:00:00.000Z";

/// A log whose entries can be held back, and counted.
struct Gate {
    log: Arc<MemoryLog>,
    closed: AtomicBool,
    shown: AtomicUsize,
}

delegate_history!(Gate);

impl Log for Gate {
    fn append(
        &self,
        batch: Vec<Verified>,
        recorded_at: Millis,
    ) -> Result<Vec<Outcome>, AppendError> {
        self.log.append(batch, recorded_at)
    }

    fn entries(
        &self,
        after: Seq,
        events_max: usize,
        each: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<Seq, ReadError> {
        while self.closed.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        self.log.entries(after, events_max, &mut |entry| {
            self.shown.fetch_add(1, Ordering::SeqCst);
            each(entry);
        })
    }

    fn bodies(&self, seqs: &[Seq]) -> Result<Vec<Bytes>, ReadError> {
        self.log.bodies(seqs)
    }

    delegate_log!();
}

/// What the metrics say of a rebuild.
fn running(engine: &Engine) -> Option<f64> {
    scraped(engine).value("rollcall_rebuild_running", &[])
}

fn finish(rebuild: &Rebuild) {
    while rebuild.finished_at().is_none() {
        std::thread::yield_now();
    }
    assert!(!rebuild.has_failed());
}

#[test]
fn a_second_request_joins_the_first_and_reads_go_on_from_the_old_views() {
    let bodies: Vec<String> = (0..50)
        .map(|number| {
            user(
                &format!("directory_user_{number:02}"),
                "directory_1",
                "ada",
                AT,
                &format!("e{number}"),
                "dsync.user.created",
            )
        })
        .collect();
    let gate = Arc::new(Gate {
        log: memory_log(bodies.iter().map(|body| body.as_bytes())),
        closed: AtomicBool::new(false),
        shown: AtomicUsize::new(0),
    });
    let engine = engine(gate.clone());
    assert!(engine.last_rebuild().is_none());
    assert_eq!(running(&engine), Some(0.0));
    gate.closed.store(true, Ordering::SeqCst);
    gate.shown.store(0, Ordering::SeqCst);
    let (first, second) = (engine.rebuild(), engine.rebuild());
    assert_eq!(
        (first.number, second.number, first.finished_at(), first.progress()),
        (1, 1, None, (0, 50))
    );
    assert_eq!(running(&engine), Some(1.0));
    let old = engine.views().seen_by(&Sight::All).user("directory_user_07", Cut::LATEST);
    assert!(old.is_some(), "the old views serve");
    let before = engine.view_states();
    gate.closed.store(false, Ordering::SeqCst);
    finish(&first);
    // What it says it has read it has read.
    assert_eq!((first.progress(), gate.shown.load(Ordering::SeqCst)), ((50, 50), 50));
    assert_eq!(engine.view_states(), before, "rebuilt equals live");
    let third = engine.rebuild();
    assert_eq!(third.number, 2);
    finish(&third);
    assert_eq!(running(&engine), Some(0.0));
    engine.close();
}

fn mapping(role: &str) -> Value {
    json!({"mapping": {"default_roles": [role], "rules": [
        {"group": {"name_glob": "*"}, "roles": [format!("{role}-in-a-group")]},
        {"attribute": "custom_attributes.department_name",
            "values": {"Engineering": [format!("{role}-engineer")]}},
    ]}})
}

#[test]
fn answers_during_rebuilds_and_new_mappings_are_wholly_old_or_wholly_new_and_repeat_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let generated = std::process::Command::new(crate::kit::server::binary())
        .args(["generate", "--people", "150", "--days", "20"])
        .output()
        .unwrap();
    let events: Vec<&str> = std::str::from_utf8(&generated.stdout).unwrap().lines().collect();
    for event in &events[..events.len() / 2] {
        server.deliver(event);
    }
    let directory = server.get("/directories").ids().remove(0);
    let list = format!("/directory_users?directory={directory}&limit=100");
    let item = format!("/directory_users/{}", server.get(&list).ids()[5]);
    let put = |role: &str| {
        let url = format!("{}/rollcall/v1/role_mapping", server.url);
        let answer = server.send("put", &url, API_KEY, &mapping(role).to_string());
        assert_eq!(answer.status, 200);
    };
    put("first");
    let done = AtomicBool::new(false);
    let seen: Vec<(String, String, Vec<u8>)> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|reader| {
                let (server, done, path) =
                    (&server, &done, if reader == 0 { &item } else { &list });
                scope.spawn(move || {
                    let mut seen = Vec::new();
                    while !done.load(Ordering::SeqCst) {
                        let answer = server.get(path);
                        assert_eq!(answer.status, 200);
                        let version = answer.header("Rollcall-Mapping-Version").unwrap().to_owned();
                        seen.push((
                            format!(
                                "{path}#{}#{version}",
                                answer.header("Rollcall-Known-At").unwrap()
                            ),
                            path.clone(),
                            answer.body,
                        ));
                    }
                    seen
                })
            })
            .collect();
        for (number, chunk) in events[events.len() / 2..].chunks(events.len() / 12).enumerate() {
            let url = format!("{}/rollcall/v1/projections/rebuild", server.url);
            assert_eq!(server.send("post", &url, API_KEY, "").status, 202);
            for event in chunk {
                server.deliver(event);
            }
            put(["second", "third"][number % 2]);
        }
        done.store(true, Ordering::SeqCst);
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    // One answer for each question, cut and mapping; and the same when asked again.
    let mut answers: BTreeMap<String, (String, Vec<u8>)> = BTreeMap::new();
    for (key, path, body) in seen {
        let kept = answers.entry(key.clone()).or_insert_with(|| (path, body.clone()));
        assert!(kept.1 == body, "{key} was answered in two ways");
    }
    assert!(answers.len() > 20, "{}", answers.len());
    for (key, (path, body)) in answers.iter().step_by(answers.len().div_ceil(60)) {
        let parts: Vec<&str> = key.split('#').collect();
        let separator = if path.contains('?') { '&' } else { '?' };
        let answer = server.get(&format!("{path}{separator}known_at={}", parts[1]));
        assert_eq!(
            (answer.header("Rollcall-Mapping-Version"), &answer.body),
            (Some(parts[2]), body),
            "{key}"
        );
        // Every role that is shown is one of this version's mapping.
        let role = match parts[2].parse::<usize>().unwrap() {
            1 => "first",
            version => ["second", "third"][version % 2],
        };
        let text = String::from_utf8_lossy(body);
        for other in ["first", "second", "third"] {
            assert!(
                other == role || !text.contains(&format!("\"slug\":\"{other}")),
                "{key} shows {other}"
            );
        }
    }
    let states = |server: &Server| -> Vec<Value> {
        let projections = server.get("/rollcall/v1/projections").json();
        projections["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|view| json!([view["name"], view["seq"], view["sha256"]]))
            .collect()
    };
    // A process killed in the middle of a rebuild has lost nothing.
    let (before, answer) = (states(&server), server.get(&list).body);
    let url = format!("{}/rollcall/v1/projections/rebuild", server.url);
    assert_eq!(server.send("post", &url, API_KEY, "").status, 202);
    drop(server);
    let server = Server::start(folder.path());
    assert_eq!((states(&server), server.get(&list).body), (before, answer));
}
