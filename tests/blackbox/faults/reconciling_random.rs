//! Sources with a random past, of which a large part of the events never arrives, and which fail by
//! chance.

use serde_json::json;

use crate::kit::scale::scale;
use crate::kit::source::faulty::Faulty;
use crate::kit::source::past::{self, Ending};
use crate::kit::source::pulling::Puller;
use crate::kit::source::reconciling::{
    assert_in_step, differences, observations, reconcile, whole,
};
use crate::kit::source::stand_in::{SOURCE_KEY, StandIn};

/// Seeds in a run at scale 1.
const SEEDS: u64 = 3;

/// Of a hundred requests, those that fail.
const FAILING: u64 = 30;

/// A fresh server ends equal to a source of which three in ten events never arrive, and a second
/// comparison records nothing. A share of the requests may fail.
fn ends_equal(seed: u64, ending: Ending, failing: u64) {
    let (source, data) = (StandIn::start(), tempfile::tempdir().unwrap());
    past::write(&source, ending, seed);
    let faulty = Faulty::before(&source.url);
    faulty.fail_by_chance(seed, failing);
    let server = Puller::of(data.path(), &faulty.url).start();
    let run = reconcile(&server, &whole());
    assert_eq!((&run["state"], &run["held"]), (&json!("completed"), &json!(0)), "{seed}: {run}");
    assert!(run["recorded"].as_u64() > Some(0), "seed {seed}: something was lost");
    assert_in_step(&server, &source.url, SOURCE_KEY);
    let recorded = observations(&server).len();
    let again = reconcile(&server, &whole());
    assert_eq!((&again["state"], differences(&again)), (&json!("completed"), vec![]), "{seed}");
    assert_eq!(observations(&server).len(), recorded, "seed {seed}");
}

#[test]
fn a_source_of_which_three_in_ten_events_are_lost_is_reached_and_then_unchanged() {
    let ending = Ending { directories: 3, users: 60, memberships: 150, lost: 30 };
    (1..=SEEDS * scale()).for_each(|seed| ends_equal(seed, ending, 0));
}

#[test]
fn a_source_that_fails_by_chance_is_reached_all_the_same() {
    let ending = Ending { directories: 1, users: 30, memberships: 60, lost: 30 };
    std::thread::scope(|scope| {
        for seed in 1..=SEEDS * scale() {
            scope.spawn(move || ends_equal(seed, ending, FAILING));
        }
    });
}
