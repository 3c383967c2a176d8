//! Prints the memory that each index of the views takes, for each record of a generated history.
//!
//! `ROLLCALL_BENCH_PEOPLE=40000` sets the number of people; one of them makes about nine records.
//! The figures are counted and not measured: they are the same on every machine and in every
//! profile.

#![allow(clippy::panic, reason = "a benchmark that cannot go on stops")]

mod kit;

use kit::{NOW, SECRET, verified};
use rollcall::engine::Engine;
use rollcall::log::{BATCH_EVENTS_MAX, History, Log, Unrecovered};
use rollcall::verify::Keyring;
use rollcall_generator::HistoryPlan;

/// The bound of the store's cache of pages, and of the cache of documents.
const CACHE_BYTES: u64 = 16 << 20;

fn main() {
    let people = std::env::var("ROLLCALL_BENCH_PEOPLE").ok().and_then(|people| people.parse().ok());
    let Ok(folder) = tempfile::tempdir() else { panic!("no temporary folder") };
    fill(folder.path(), people.unwrap_or(33_000));
    let log = open(folder.path());
    let records = log.head() as f64;
    let engine = match Engine::start(
        std::sync::Arc::new(log),
        CACHE_BYTES,
        rollcall::time::now_ms,
        |_| {},
    ) {
        Ok(engine) => engine,
        Err(error) => panic!("{error}"),
    };
    let parts = engine.views().memory();
    println!("{records} records, bytes of memory for each:");
    for part in &parts {
        println!("{:<42} {:>7.1}", part.name, part.bytes as f64 / records);
    }
    let whole: usize = parts.iter().map(|part| part.bytes).sum();
    println!("{:<42} {:>7.1}", "all views", whole as f64 / records);
    engine.close();
}

fn open(folder: &std::path::Path) -> impl Log + use<> {
    match Unrecovered::open(folder, CACHE_BYTES).and_then(|log| log.recover(&|_| {})) {
        Ok(log) => log,
        Err(error) => panic!("{error}"),
    }
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
    let log = open(folder);
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
