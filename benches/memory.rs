//! Prints the memory that each index of the views takes, for each record of a generated history.
//!
//! `ROLLCALL_BENCH_PEOPLE=40000` sets the number of people; one of them makes about nine records.
//! `ROLLCALL_BENCH_DATA=FOLDER` counts over the log in a data folder instead.
//! The figures are counted and not measured: they are the same on every machine and in every
//! profile.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]

mod kit;

use std::path::PathBuf;

use kit::{NOW, SECRET, verified};
use rollcall::engine::fold_log;
use rollcall::log::{BATCH_EVENTS_MAX, History, Log, StoppedFolder, Unrecovered};
use rollcall::verify::Keyring;
use rollcall_generator::HistoryPlan;

/// The bound of the store's cache of pages.
const CACHE_BYTES: u64 = 16 << 20;

fn main() {
    let people = std::env::var("ROLLCALL_BENCH_PEOPLE").ok().and_then(|people| people.parse().ok());
    let Ok(temporary) = tempfile::tempdir() else { panic!("no temporary folder") };
    let folder = match std::env::var_os("ROLLCALL_BENCH_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => {
            fill(temporary.path(), people.unwrap_or(33_000));
            temporary.path().to_owned()
        }
    };
    let log = StoppedFolder::open(&folder).and_then(|folder| folder.recover(&|_| {}));
    let log = log.unwrap_or_else(|error| panic!("{error}"));
    let views = fold_log(&log).unwrap_or_else(|error| panic!("{error}"));
    let (records, parts) = (log.head() as f64, views.memory());
    println!("{records} records, bytes of memory for each:");
    for part in &parts {
        println!("{:<42} {:>7.1}", part.name, part.bytes as f64 / records);
    }
    let whole: usize = parts.iter().map(|part| part.bytes).sum();
    println!("{:<42} {:>7.1}", "all views", whole as f64 / records);
}

/// Fills a log with a history like that of `rollcall generate`.
fn fill(folder: &std::path::Path, people: u64) {
    let plan = HistoryPlan {
        people,
        directories: 3,
        seed: 1,
        days: 90,
        start: 1_767_600_000_000,
        late: 0.05,
        duplicates: 0.02,
    };
    let log = Unrecovered::open(folder, CACHE_BYTES).and_then(|log| log.recover(&|_| {}));
    let log = log.unwrap_or_else(|error| panic!("{error}"));
    let keyring = Keyring::new([SECRET], u64::MAX);
    let mut bodies = plan.bodies().peekable();
    while bodies.peek().is_some() {
        let batch = bodies.by_ref().take(BATCH_EVENTS_MAX / 4);
        let batch = batch.map(|body| verified(&keyring, body.into_bytes())).collect();
        if let Err(error) = log.append(batch, NOW + log.head() as i64) {
            panic!("{error}");
        }
    }
}
