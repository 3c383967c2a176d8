//! Parts of every comparison with the model: histories in parallel, cuts, and a tally of what was
//! compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;

use crate::kit::model::{Cut, World, rfc3339};
use crate::kit::scale::{check_each, histories};
use crate::kit::server::{Server, now_ms};
use crate::kit::stage::Stage;

/// By kind of answer: the number compared, and the number of those that were not empty.
pub type Tally = Mutex<BTreeMap<&'static str, [u64; 2]>>;

/// Checks `usual` histories times the scale, four side by side, and returns how many.
pub fn check_histories(usual: u64, check: impl Fn(u64) + Sync) -> u64 {
    let histories = histories(usual);
    check_each(histories.clone(), 4, check);
    histories.end - histories.start
}

pub fn count(tally: &Tally, kind: &'static str, full: bool) {
    let mut tally = tally.lock().unwrap();
    let [all, not_empty] = tally.entry(kind).or_default();
    *all += 1;
    *not_empty += u64::from(full);
}

pub fn restart(stage: &mut Stage, folder: &Path) {
    restart_with(stage, || Server::start(folder));
}

/// Stops the server, and starts another one over the same log.
pub fn restart_with(stage: &mut Stage, start: impl FnOnce() -> Server) {
    assert_eq!(stage.server.take().unwrap().stop(), 0);
    stage.server = Some(start());
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

/// Draws a cut in both clocks, often close to an operator's act.
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
