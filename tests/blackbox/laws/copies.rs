//! Rule 6 where events are pulled or imported: a copy never conflicts with what it is a copy of.

use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rollcall::log::{Log, MemoryLog, OpenError, Outcome, Unrecovered};
use rollcall::verify::Verified;

use crate::kit::histories::{Question, history, question};
use crate::kit::model::{Receipt, World};
use crate::kit::road::{asking, engine, get, imported, pulled_at, verified_at};
use crate::kit::scale::{check_each, histories};
use crate::kit::server::holds;

const NOW: i64 = 1_790_000_000_000;

/// The ways in which an event comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Webhook,
    Pulled,
    Imported,
}

impl Way {
    fn event(self, body: &[u8]) -> Verified {
        match self {
            Way::Webhook => verified_at(body, NOW),
            Way::Pulled => pulled_at(body, NOW),
            Way::Imported => imported(body),
        }
    }

    fn tell(self, world: &mut World, body: &[u8]) -> Receipt {
        match self {
            Way::Webhook => world.deliver(body, NOW),
            Way::Pulled | Way::Imported => world.deliver_copy(body, NOW),
        }
    }
}

/// Returns what the model says of an outcome.
fn receipt(outcome: Outcome, event_id: Option<String>) -> Receipt {
    let (seq, duplicate, conflict, differs) = match outcome {
        Outcome::New(seq) => (seq, false, false, false),
        Outcome::Duplicate { seq, differs } => (seq, true, false, differs),
        Outcome::Conflict { seq, duplicate, .. } => (seq, duplicate, true, false),
    };
    Receipt { seq, event_id, duplicate, conflict, differs }
}

/// Returns one of the contents under one id: `a` and `b` differ, `s` is `a` written otherwise, `u`
/// cannot be used, and `c` is `a` of another context.
fn content(letter: char) -> String {
    let data = match letter {
        'a' | 'c' => r#"{"id":"U","directory_id":"D"}"#,
        's' => r#"{ "directory_id": "D", "id": "\u0055" }"#,
        'b' => r#"{"id":"U","directory_id":"D","state":"inactive"}"#,
        _ => r#"{"id":"U"}"#,
    };
    let context = if letter == 'c' { r#","context":{"x":1}"# } else { "" };
    format!(
        r#"{{"id":"e1","event":"dsync.user.created","created_at":"2026-03-02T00:00:01Z","data":{data}{context}}}"#
    )
}

fn play(log: &dyn Log, deliveries: &str) -> Vec<String> {
    let mut outcomes = Vec::new();
    for delivery in deliveries.split(' ') {
        let (way, letter) = delivery.split_at(1);
        let way = match way {
            "w" => Way::Webhook,
            "p" => Way::Pulled,
            _ => Way::Imported,
        };
        let body = content(letter.chars().next().unwrap());
        let outcome = log.append(vec![way.event(body.as_bytes())], NOW).unwrap().remove(0);
        outcomes.push(match outcome {
            Outcome::New(seq) => format!("new{seq}"),
            Outcome::Duplicate { seq, differs: false } => format!("same{seq}"),
            Outcome::Duplicate { seq, differs: true } => format!("differs{seq}"),
            Outcome::Conflict { seq, duplicate: false, .. } => format!("conflict{seq}"),
            Outcome::Conflict { seq, duplicate: true, .. } => format!("again{seq}"),
        });
    }
    outcomes
}

/// Sequences of deliveries under one id and their outcomes, by rule 6. The first letter is the way:
/// webhook, pulled or imported.
const SEQUENCES: [(&str, &str); 10] = [
    ("wa wb wb", "new1 conflict2 again2"),
    ("wa pb", "new1 differs1"),
    ("wa pb ib wb", "new1 differs1 differs1 conflict2"),
    ("pa wb wa wb", "new1 differs1 same1 differs1"),
    ("ia pb wb pa", "new1 differs1 differs1 same1"),
    ("wa ps is pc wc", "new1 same1 same1 same1 same1"),
    ("wu pa ia", "new1 differs1 differs1"),
    ("pu wa", "new1 differs1"),
    ("wa wb pb pa", "new1 conflict2 differs1 same1"),
    ("pa ib wb ws", "new1 differs1 differs1 same1"),
];

#[test]
fn a_copy_never_conflicts_and_two_webhooks_do_whatever_comes_between() {
    for (deliveries, expected) in SEQUENCES {
        let log = MemoryLog::new([1; 16]);
        assert_eq!(play(&log, deliveries).join(" "), expected, "{deliveries}");
        let folder = tempfile::tempdir().unwrap();
        // A process that another test starts shares the lock of the folder for a moment.
        let open = || loop {
            match Unrecovered::open(folder.path(), 64 << 20) {
                Err(OpenError::InUse(_)) => std::thread::yield_now(),
                opened => break opened.unwrap().recover(&|_| {}).unwrap(),
            }
        };
        // Opened again between any two, which checks every record anew.
        let mut found = Vec::new();
        for delivery in deliveries.split(' ') {
            found.extend(play(&open(), delivery));
        }
        assert_eq!(found.join(" "), expected, "{deliveries} on disk");
        drop(open());
    }
}

#[test]
fn the_time_of_a_signature_is_none_of_a_copy() {
    // It says no time at all: a webhook occurs when it was signed, a copy when it is recorded.
    let body = br#"{"id":"e1","event":"dsync.user.created","data":{"id":"U","directory_id":"D"}}"#;
    for (way, expected) in [(Way::Webhook, NOW - 60_000), (Way::Pulled, NOW), (Way::Imported, NOW)]
    {
        let log = MemoryLog::new([1; 16]);
        let event = match way {
            Way::Webhook => verified_at(body, NOW - 60_000),
            Way::Pulled => pulled_at(body, NOW - 60_000),
            Way::Imported => imported(body),
        };
        log.append(vec![event], NOW).unwrap();
        let mut occurred = Vec::new();
        log.entries(0, 9, &mut |entry| occurred.push(entry.occurred_at)).unwrap();
        assert_eq!(occurred, [expected], "{way:?}");
    }
}

#[test]
fn what_only_rollcall_writes_has_no_effect_if_it_is_pulled_or_imported() {
    for way in [Way::Webhook, Way::Pulled, Way::Imported] {
        let log = MemoryLog::new([1; 16]);
        let data = r#"{"id":"U","directory_id":"D","present":true,"object":{"id":"U"}}"#;
        let bodies = ["op_1", "obs_1", "run_1", "e1"]
            .map(|id| format!(r#"{{"id":"{id}","event":"rollcall.user.observed","data":{data}}}"#));
        for body in &bodies {
            log.append(vec![way.event(body.as_bytes())], NOW).unwrap();
        }
        let mut facts = Vec::new();
        log.entries(0, 9, &mut |entry| facts.push(format!("{:?}", entry.fact))).unwrap();
        let none = "Unusable(NotAnEvent)";
        assert_eq!(facts, [none, none, none, "Unusable(ReservedType)"], "{way:?}");
    }
}

const HISTORIES: u64 = 30;

#[test]
fn histories_that_come_in_any_way_and_order_are_taken_and_answered_as_the_model_says() {
    let seen = Mutex::new([0; 3]);
    check_each(histories(HISTORIES), 2, |seed| {
        let counts = check(seed);
        let mut seen = seen.lock().unwrap();
        seen.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
    });
    let [duplicates, conflicts, differing] = seen.into_inner().unwrap();
    println!("{duplicates} duplicates, {conflicts} conflicts, {differing} differing copies");
    assert!(duplicates > 0 && conflicts > 0 && differing > 0);
}

/// Plays a history of which each event comes in one way or in several, then asks about it. Returns
/// the numbers of duplicates, conflicts and differing copies.
fn check(seed: u64) -> [usize; 3] {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xc0b1);
    let (log, mut world) = (Arc::new(MemoryLog::new([1; 16])), World::new());
    let mut counts = [0; 3];
    for delivery in history(seed).deliveries.iter().take(150) {
        for _ in 0..rng.random_range(1..=2) {
            let way = *[Way::Webhook, Way::Pulled, Way::Imported].choose(&mut rng).unwrap();
            let outcome = log.append(vec![way.event(&delivery.body)], NOW).unwrap().remove(0);
            let expected = way.tell(&mut world, &delivery.body);
            let found = receipt(outcome, expected.event_id.clone());
            let text = String::from_utf8_lossy(&delivery.body);
            assert_eq!(found, expected, "history {seed}, {way:?}: {text}");
            let kinds = [found.duplicate, found.conflict, found.differs];
            counts.iter_mut().zip(kinds).for_each(|(count, kind)| *count += usize::from(kind));
        }
    }
    asking(Some(engine(log)), async |server| {
        for _ in 0..20 {
            let asked: Question = question(&mut rng, &world);
            let (status, expected) = world.get(&asked.path, &asked.query, asked.cut);
            let (served, found) = server.call(get(&asked.url())).await;
            let same = if status == 422 { holds(&expected, &found) } else { expected == found };
            assert!(
                served.as_u16() == status && same,
                "history {seed}: {}\n server {served} {found}\n model  {status} {expected}",
                asked.url()
            );
        }
    });
    counts
}
