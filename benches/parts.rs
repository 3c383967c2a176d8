//! Measures the cost of the parts of the road, each compared with the limit that it cannot beat,
//! measured in the same run.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]

mod kit;

use kit::{Company, DIRECTORY, Dice, NOW, SECRET, group_id, in_turns, line, user_id, verified};
use rollcall::log::{Log, MemoryLog, Unrecovered};
use rollcall::verify::{Keyring, Source, Verified, extract};
use rollcall_generator::sign;
use rollcall_projections::{Cut, Entry, RecordStatus, Sight, UserFilter, Views, Window};
use sha2::{Digest, Sha256};

const ROUNDS: usize = 15;

/// Lets the optimizer believe that a result is used.
fn keep<T>(result: T) {
    std::hint::black_box(result);
}

fn main() {
    let mut company = Company::new();
    let mut bodies = company.sync();
    while bodies.len() < 60_000 {
        bodies.extend(company.happen());
    }
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    println!("{} bodies of {} bytes on average\n", bodies.len(), bytes / bodies.len());
    one_event(&bodies);
    codec(&bodies);
    fold_and_lookup(&bodies, &company);
}

fn one_event(bodies: &[Vec<u8>]) {
    let keyring = Keyring::new([SECRET], u64::MAX);
    let body = bytes::Bytes::from(bodies[100].clone());
    let header = sign(SECRET, NOW, &body);
    let mut verify =
        || keep(Verified::webhook(&keyring, Some(header.as_bytes()), body.clone(), NOW));
    let mut hash = || keep(Sha256::digest(&body));
    let mut read = || keep(extract(&body, None));
    let mut scan = || keep(serde_json::from_slice::<serde::de::IgnoredAny>(&body));
    let [verify, hash, read, scan] =
        in_turns(ROUNDS, 4000, &mut [&mut verify, &mut hash, &mut read, &mut scan])[..]
    else {
        return;
    };
    line("verify one event, extraction included", verify, "SHA-256 of its body", hash);
    line("extract one event", read, "a JSON scan of its body", scan);
}

fn codec(bodies: &[Vec<u8>]) {
    let keyring = Keyring::new([SECRET], u64::MAX);
    let Ok(folder) = tempfile::tempdir() else { return };
    let Ok(log) = Unrecovered::open(folder.path(), 512 << 20).and_then(|log| log.recover(&|_| {}))
    else {
        return;
    };
    let mut spent = std::time::Duration::ZERO;
    for chunk in bodies.chunks(512) {
        let batch = chunk.iter().map(|body| verified(&keyring, body.clone())).collect();
        let before = std::time::Instant::now();
        if let Err(error) = log.append(batch, NOW) {
            panic!("{error}");
        }
        spent += before.elapsed();
    }
    let raw: usize = bodies.iter().map(Vec::len).sum();
    let file = folder.path().join("plain");
    let started = std::time::Instant::now();
    let mut plain = match std::fs::File::create(&file) {
        Ok(plain) => plain,
        Err(error) => panic!("{error}"),
    };
    for chunk in bodies.chunks(512) {
        use std::io::Write;
        let whole = chunk.concat();
        if plain.write_all(&whole).and_then(|()| plain.sync_data()).is_err() {
            return;
        }
    }
    let limit = started.elapsed();
    let each = |time: std::time::Duration| time.as_nanos() as f64 / bodies.len() as f64;
    line(
        "append to the store, 512 a batch, per event",
        each(spent),
        "a plain file with fdatasync",
        each(limit),
    );
    let stored: u64 = walk(&folder.path().join("store"));
    println!(
        "{:<58} {:>10}   {:>6.2} x the raw bodies (the file grows by whole segments)",
        "bytes on disk per event",
        stored / bodies.len() as u64,
        stored as f64 / raw as f64
    );
    let mut entries = || keep(log.entries(0, usize::MAX, &mut |entry| keep(entry.seq)));
    let mut copies = || keep(bodies.concat());
    let [entries, copies] = in_turns(5, 1, &mut [&mut entries, &mut copies])[..] else { return };
    line(
        "read what the fold needs, per event",
        entries / bodies.len() as f64,
        "copying the bodies in memory",
        copies / bodies.len() as f64,
    );
    let mut dice = Dice(3);
    let mut one = || keep(log.bodies(&[1 + dice.below(bodies.len() as u64)]));
    let frame = bodies[200..216].concat();
    let packed = zstd::bulk::compress(&frame, 1).unwrap_or_default();
    let mut unpack = || keep(zstd::bulk::decompress(&packed, frame.len()));
    let [one, unpack] = in_turns(ROUNDS, 500, &mut [&mut one, &mut unpack])[..] else { return };
    line("read one body at random", one, "unpacking 16 bodies", unpack);
}

fn walk(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                walk(&entry.path())
            } else {
                entry.metadata().map_or(0, |data| data.len())
            }
        })
        .sum()
}

fn fold_and_lookup(bodies: &[Vec<u8>], company: &Company) {
    let keyring = Keyring::new([SECRET], u64::MAX);
    let log = MemoryLog::new([0; 16]);
    for chunk in bodies.chunks(512) {
        if let Err(error) =
            log.append(chunk.iter().map(|body| verified(&keyring, body.clone())).collect(), NOW)
        {
            panic!("{error}");
        }
    }
    let extracted: Vec<_> = bodies.iter().map(|body| extract(body, None)).collect();
    let entries: Vec<Entry<'_>> = extracted
        .iter()
        .enumerate()
        .map(|(at, extracted)| {
            let names = [extracted.event_id.as_deref(), extracted.event_type.as_deref()];
            let seq = at as u64 + 1;
            extracted.facts.entry(seq, NOW, Source::Workos, names, RecordStatus::Counts)
        })
        .collect();
    let mut fold = || {
        let mut views = Views::new();
        entries.iter().for_each(|entry| views.apply(entry));
        keep(views.head());
    };
    let mut count = || {
        let mut map: std::collections::HashMap<&str, u64> = std::collections::HashMap::new();
        entries.iter().for_each(|entry| *map.entry(entry.event_id).or_default() += 1);
        keep(map.len());
    };
    let [fold, count] = in_turns(7, 1, &mut [&mut fold, &mut count])[..] else { return };
    line(
        "fold one event",
        fold / bodies.len() as f64,
        "one insert into a hash map",
        count / bodies.len() as f64,
    );

    let mut views = Views::new();
    entries.iter().for_each(|entry| views.apply(entry));
    let views = views.seen_by(&Sight::All);
    let (mut a, mut b, mut c) = (Dice(1), Dice(1), Dice(1));
    let ids: Vec<String> = company.present.iter().map(|person| user_id(*person)).collect();
    let map: std::collections::HashMap<&str, usize> =
        ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    let mut now = || keep(views.user(&ids[a.below(kit::PEOPLE) as usize], Cut::LATEST));
    let span = (company.at - kit::START) as u64;
    let mut then = || {
        let id = &ids[b.below(kit::PEOPLE) as usize];
        let cut = Cut { as_of: kit::START + b.below(span) as i64, known_at: b.below(views.head()) };
        keep(views.user(id, cut));
    };
    let mut lookup = || keep(map.get(ids[c.below(kit::PEOPLE) as usize].as_str()));
    let [now, then, lookup] = in_turns(ROUNDS, 5000, &mut [&mut now, &mut then, &mut lookup])[..]
    else {
        return;
    };
    line("look a user up with its groups, now", now, "one lookup in a hash map", lookup);
    line("the same, at a random cut in both clocks", then, "the same about now", now);
    let window = Window { descending: true, after: None, before: None, limit: 100 };
    let group = group_id(1);
    let filter =
        UserFilter { group: Some(&group), directory: Some(DIRECTORY), ..UserFilter::default() };
    let mut dice = Dice(2);
    let mut now = || keep(views.users(&filter, Cut::LATEST, window));
    let mut then = || {
        let cut =
            Cut { as_of: kit::START + (span / 4 + dice.below(span * 3 / 4)) as i64, ..Cut::LATEST };
        keep(views.users(&filter, cut, window));
    };
    let [now, then] = in_turns(ROUNDS, 200, &mut [&mut now, &mut then])[..] else { return };
    line("find 100 members of a group, as of a random moment", then, "the same about now", now);
}
