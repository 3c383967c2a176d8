//! The naive model and the server agree: random histories, random deliveries, random questions in both clocks.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::histories::{Question, history, question};
use super::kit::{Server, now_ms};
use super::model::World;

/// Histories in a run of the tests. `ROLLCALL_MODEL_HISTORIES=1000` asks ten times as much.
const HISTORIES: u64 = 100;
const QUESTIONS: usize = 100;

#[derive(Default)]
struct Tally {
    by_endpoint: BTreeMap<String, u64>,
    not_empty: u64,
    asked: u64,
}

#[test]
fn any_question_at_any_cut_after_any_delivery_is_answered_as_the_model_says() {
    let histories = std::env::var("ROLLCALL_MODEL_HISTORIES").map_or(HISTORIES, |text| text.parse().unwrap());
    let first = std::env::var("ROLLCALL_MODEL_FIRST").map_or(0, |text| text.parse().unwrap());
    let (next, tally) = (AtomicU64::new(first), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + histories {
                        break;
                    }
                    check(seed, &tally);
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("{} questions, {} not empty, {:?}", tally.asked, tally.not_empty, tally.by_endpoint);
    assert_eq!(tally.asked, histories * QUESTIONS as u64);
    assert!(tally.not_empty * 2 >= tally.asked);
    if histories >= HISTORIES {
        assert!(tally.by_endpoint.len() == 6 && tally.by_endpoint.values().all(|asked| *asked >= histories * 5));
    }
}

fn check(seed: u64, tally: &Mutex<Tally>) {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
    let (mut world, mut server) = (World::new(), Server::start(folder.path()));
    let mut known_then = Vec::new();
    let history = history(seed);
    let restart_after = rng.random_range(0..history.deliveries.len() * 2);
    for (index, delivery) in history.deliveries.iter().enumerate() {
        let t_ms = now_ms() + delivery.shift_ms;
        let answer = server.post_at(&delivery.body, t_ms);
        let receipt = world.deliver(&delivery.body, t_ms);
        let expected =
            json!({"seq": receipt.seq, "event_id": receipt.event_id, "duplicate": receipt.duplicate, "conflict": receipt.conflict});
        let text = String::from_utf8_lossy(&delivery.body);
        assert_eq!((answer.status, answer.json()), (200, expected), "history {seed}, delivery {index}: {text}");
        if rng.random_bool(0.02) {
            // The moment after an answer and before the next: what `known_at` in time is asked with.
            let moment = now_ms();
            while now_ms() == moment {}
            known_then.push((moment, world.head()));
        }
        if index == restart_after {
            assert_eq!(server.stop(), 0);
            server = Server::start(folder.path());
        }
    }
    for _ in 0..QUESTIONS {
        compare(seed, &server, &world, &question(&mut rng, &world), tally);
    }
    for (moment, head) in known_then {
        let mut question = question(&mut rng, &world);
        question.cut.known_at = Some(head);
        let by_seq = server.get(&question.url());
        question.cut.known_at = None;
        let separator = if question.url().contains('?') { '&' } else { '?' };
        let by_time = server.get(&format!("{}{separator}known_at={}", question.url(), super::model::rfc3339(moment)));
        assert_eq!(by_time.body, by_seq.body, "history {seed}, known at {moment}: {question:?}");
        // A question that is refused was not cut.
        if by_time.status != 422 {
            assert_eq!(by_time.header("rollcall-known-at"), Some(head.to_string().as_str()));
        }
    }
    let listed = server.get("/rollcall/v1/quarantine?limit=1000").json();
    let keys = ["seq", "event_id", "event", "reason"];
    let listed: Vec<Value> = listed["data"].as_array().unwrap().iter().map(|entry| json!(keys.map(|key| &entry[key]))).collect();
    let expected: Vec<Value> = world.quarantine().into_iter().map(|entry| json!(entry)).collect();
    assert_eq!(listed, expected, "history {seed}");
}

fn compare(seed: u64, server: &Server, world: &World, question: &Question, tally: &Mutex<Tally>) {
    let (status, expected) = world.get(&question.path, &question.query, question.cut);
    let answer = server.get(&question.url());
    assert_eq!(
        (answer.status, &answer.json()),
        (status, &expected),
        "history {seed}: {}\n server {}\n model  {expected}",
        question.url(),
        answer.json()
    );
    let endpoint = match question.path.match_indices('/').nth(1) {
        Some((at, _)) => format!("{}/{{id}}", &question.path[..at]),
        None => question.path.clone(),
    };
    let mut tally = tally.lock().unwrap();
    *tally.by_endpoint.entry(endpoint).or_default() += 1;
    tally.asked += 1;
    tally.not_empty += u64::from(status == 200 && expected["data"] != json!([]));
}
