//! Measures the cost of tamper evidence: the tree's share of an ingested event, proofs in a large
//! log, and the check of every record at a start.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]

mod kit;

use std::path::Path;
use std::time::{Duration, Instant};

use kit::{Company, Dice, NOW, SECRET, cost, in_turns, line, verified};
use rollcall::log::{History, Log, SledLog, StoppedFolder, Unrecovered};
use rollcall::verify::Keyring;
use rollcall_projections::Views;
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};

/// Records in the log, unless ROLLCALL_BENCH_RECORDS says another number.
const RECORDS: usize = 1_000_000;

/// Lets the optimizer believe that a result is used.
fn keep<T>(result: T) {
    std::hint::black_box(result);
}

fn main() {
    let records = std::env::var("ROLLCALL_BENCH_RECORDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(RECORDS);
    let Ok(folder) = tempfile::tempdir() else { return };
    let ingest_ns = [1, 64, 512].map(ingest);
    let log = filled(folder.path(), records);
    println!("{records} records\n");
    share(&log, ingest_ns);
    proofs(&log);
    drop(log);
    opening(folder.path());
}

fn open(folder: &Path) -> SledLog {
    match Unrecovered::open(folder, 512 << 20).and_then(|log| log.recover(&|_| {})) {
        Ok(log) => log,
        Err(error) => panic!("{error}"),
    }
}

/// CPU time of the whole process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn append(log: &SledLog, keyring: &Keyring, bodies: &[Vec<u8>]) {
    if let Err(error) =
        log.append(bodies.iter().map(|body| verified(keyring, body.clone())).collect(), NOW)
    {
        panic!("{error}");
    }
}

/// CPU time of an event on its way from the wire to the views, in batches of this size; HTTP, which
/// costs as much again, is left out. The signing of the webhook, which is the sender's, is taken
/// off.
fn ingest(batch: usize) -> (usize, f64) {
    let keyring = Keyring::new([SECRET], u64::MAX);
    let bodies = some_bodies(if batch == 1 { 4_000 } else { 60_000 });
    let Ok(folder) = tempfile::tempdir() else { panic!("no folder") };
    let (log, mut views) = (open(folder.path()), Views::new());
    let before = cpu();
    for body in &bodies {
        keep(rollcall_generator::sign(SECRET, NOW, body));
    }
    let signing = cpu() - before;
    let before = cpu();
    for chunk in bodies.chunks(batch) {
        append(&log, &keyring, chunk);
        keep(log.entries(views.head(), batch, &mut |entry| views.apply(entry)));
    }
    (batch, (cpu() - before - signing).as_nanos() as f64 / bodies.len() as f64)
}

fn some_bodies(number: usize) -> Vec<Vec<u8>> {
    let mut company = Company::new();
    let mut bodies = company.sync();
    while bodies.len() < number {
        bodies.extend(company.happen());
    }
    bodies.truncate(number);
    bodies
}

/// A log of so many records, in batches of 512.
fn filled(folder: &Path, records: usize) -> SledLog {
    let keyring = Keyring::new([SECRET], u64::MAX);
    let log = open(folder);
    let mut company = Company::new();
    let mut bodies = company.sync();
    while (log.head() as usize) < records {
        while bodies.len() < 512 {
            bodies.extend(company.happen());
        }
        let batch: Vec<Vec<u8>> =
            bodies.drain(..(records - log.head() as usize).min(512)).collect();
        append(&log, &keyring, &batch);
    }
    log
}

/// CPU time of one call, the median of some rounds: like an event's, it is the same on a busy
/// machine.
fn cpu_ns(work: &mut dyn FnMut()) -> f64 {
    let rounds = [(); 15].map(|()| {
        let before = cpu();
        (0..4000).for_each(|_| work());
        (cpu() - before).as_nanos() as f64 / 4000.0
    });
    median(&rounds, |time| *time)
}

fn median<T>(times: &[T], which: impl Fn(&T) -> f64) -> f64 {
    let mut times: Vec<f64> = times.iter().map(which).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The tree's part in ingesting: the leaf, one node above it, 32 bytes in a tile.
fn share(log: &SledLog, ingest_ns: [(usize, f64); 3]) {
    let Ok(records) = log.read(0, 512, usize::MAX) else { return };
    let Ok(file) = tempfile::tempfile() else { return };
    let mut turn = 0;
    let mut leaf = || {
        turn = (turn + 1) % records.len();
        keep(records[turn].leaf());
    };
    let mut node = || keep(Sha256::digest([7; 65]));
    let mut write = || keep(std::os::unix::fs::FileExt::write_all_at(&file, &[7; 512 * 32], 0));
    let mut write_one = || keep(std::os::unix::fs::FileExt::write_all_at(&file, &[7; 32], 0));
    let works: [&mut dyn FnMut(); 4] = [&mut leaf, &mut node, &mut write, &mut write_one];
    let [leaf, node, write, write_one] = works.map(cpu_ns);
    println!(
        "leaf {}, node {}, a write of 512 hashes {}, of one {}",
        cost(leaf),
        cost(node),
        cost(write),
        cost(write_one)
    );
    for (batch, event) in ingest_ns {
        let write = (write_one + (write - write_one) * (batch - 1) as f64 / 511.0) / batch as f64;
        line(
            &format!("the tree, per event, {batch} a batch"),
            leaf + node + write,
            "the event's CPU time without HTTP",
            event,
        );
    }
}

fn proofs(log: &SledLog) {
    let head = log.head();
    let mut dice = [1, 2, 3, 4].map(Dice);
    let [a, b, c, d] = &mut dice;
    let mut root = || keep(log.root(head));
    let mut old_root = || keep(log.root(1 + d.below(head)));
    let mut inclusion = || keep(log.inclusion(1 + a.below(head), head));
    let mut consistency = || keep(log.consistency(1 + b.below(head), head));
    let mut body = || keep(log.bodies(&[1 + c.below(head)]));
    let works: &mut [&mut dyn FnMut()] =
        &mut [&mut root, &mut old_root, &mut inclusion, &mut consistency, &mut body];
    let [root, old_root, inclusion, consistency, body] = in_turns(15, 200, works)[..] else {
        return;
    };
    line("the root of the head", root, "reading one body", body);
    line("the root of any size", old_root, "reading one body", body);
    line("an inclusion proof", inclusion, "reading one body", body);
    line("a consistency proof", consistency, "reading one body", body);
}

/// A start, its kernel's cache warm: opening the store, looking through every record, folding; and
/// an audit. Beside the time, which other programs on the machine lengthen, the CPU time of all
/// cores.
fn opening(folder: &Path) {
    let keyring = Keyring::new([SECRET], u64::MAX);
    let mut took: [Vec<(f64, f64)>; 4] = Default::default();
    for _ in 0..5 {
        let mut mark = (Instant::now(), cpu());
        let mut passed = || {
            let before = std::mem::replace(&mut mark, (Instant::now(), cpu()));
            ((mark.0 - before.0).as_nanos() as f64, (mark.1 - before.1).as_nanos() as f64)
        };
        let Ok(unrecovered) = Unrecovered::open(folder, 512 << 20) else { return };
        took[0].push(passed());
        let Ok(log) = unrecovered.recover(&|_| {}) else { return };
        took[1].push(passed());
        let mut views = Views::new();
        while views.head() < log.head() {
            keep(log.entries(views.head(), 100_000, &mut |entry| views.apply(entry)));
        }
        took[2].push(passed());
        drop((log, views));
        let Ok(stopped) = StoppedFolder::open(folder) else { return };
        passed();
        assert_eq!(stopped.audit(&keyring, &|_| {}).findings_count, 0);
        took[3].push(passed());
    }
    let [folded, folded_cpu] =
        [median(&took[2], |times| times.0), median(&took[2], |times| times.1)];
    let names = [
        "opening the store",
        "looking through every record",
        "folding",
        "an audit, signatures included",
    ];
    for (name, times) in names.iter().zip(&took) {
        line(name, median(times, |times| times.0), "folding", folded);
        line(&format!("{name}: CPU time"), median(times, |times| times.1), "folding", folded_cpu);
    }
}
