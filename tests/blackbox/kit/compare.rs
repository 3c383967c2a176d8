//! What every comparison with the model shares: histories side by side, cuts, pages, and a tally of
//! what was compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;

use crate::kit::model::{Cut, World, rfc3339};
use crate::kit::server::{Server, now_ms};
use crate::kit::stage::Stage;

/// By kind of answer: how many were compared, and how many of them had something in them.
pub type Tally = Mutex<BTreeMap<&'static str, [u64; 2]>>;

/// Checks as many histories as `ROLLCALL_MODEL_HISTORIES` says, or else `usual`, from number
/// `ROLLCALL_MODEL_FIRST` on, or else 0. Whether these are at least as many as usual, and how many.
pub fn check_histories(usual: u64, check: impl Fn(u64) + Sync) -> (bool, u64) {
    let histories =
        std::env::var("ROLLCALL_MODEL_HISTORIES").map_or(usual, |text| text.parse().unwrap());
    let first = std::env::var("ROLLCALL_MODEL_FIRST").map_or(0, |text| text.parse().unwrap());
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + histories {
                        break;
                    }
                    check(seed);
                }
            });
        }
    });
    (histories >= usual, histories)
}

pub fn count(tally: &Tally, kind: &'static str, full: bool) {
    let mut tally = tally.lock().unwrap();
    let [all, not_empty] = tally.entry(kind).or_default();
    *all += 1;
    *not_empty += u64::from(full);
}

pub fn restart(stage: &mut Stage, folder: &Path) {
    assert_eq!(stage.server.take().unwrap().stop(), 0);
    stage.server = Some(Server::start(folder));
}

pub fn rebuild(server: &Server) {
    let begun = server.ask_with("/rollcall/v1/projections/rebuild", &json!({}), &[]);
    assert_eq!(begun.status, 202, "{}", begun.json());
}

pub fn cut_query(cut: Cut) -> String {
    let as_of = cut.as_of_ms.map(|ms| format!("&as_of={}", rfc3339(ms))).unwrap_or_default();
    let known_at = cut.known_at.map(|seq| format!("&known_at={seq}")).unwrap_or_default();
    as_of + &known_at
}

/// Both clocks, often at what operators did.
pub fn draw_cut(rng: &mut StdRng, world: &World) -> Cut {
    let known_at = match rng.random_range(0..10) {
        0..5 => None,
        5..8 => {
            world.acts().choose(rng).map(|seq| (seq + rng.random_range(0..=2)).min(world.head()))
        }
        _ => Some(rng.random_range(0..=world.head())),
    };
    let now = now_ms();
    let past: Vec<i64> = world
        .turning_points(Cut { as_of_ms: None, known_at })
        .into_iter()
        .filter(|moment| *moment < now)
        .collect();
    let as_of_ms = match rng.random_range(0..10) {
        0..2 => None,
        2 => Some(now),
        _ => past.choose(rng).map(|moment| (moment + rng.random_range(-1..=1)).min(now)),
    };
    Cut { as_of_ms, known_at }
}
