//! The laws of the raw reader, over stores that sled has written.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rollcall_generator::sign;
use rollcall_projections::{Millis, RecordStatus, Seq};
use tempfile::TempDir;

use super::super::block::{Block, Draft, VALUE_BYTES_MAX};
use super::super::ranges::Ranges;
use super::super::store::{Blocks, Store, create_lock, part_key, rewrite};
use super::super::{History, Log, Unrecovered};
use super::*;
use crate::verify::{Keyring, Verified};

const NOW: Millis = 1_760_000_000_000;

/// Numbers that look random, the same for each seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn among(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(length).collect()
    }
}

/// Makes an event. Its body is not JSON and does not compress.
fn event(body: Vec<u8>) -> Verified {
    let header = sign("s", NOW, &body);
    Verified::webhook(&Keyring::new(["s"], 0), Some(header.as_bytes()), body.into(), NOW).unwrap()
}

fn open(folder: &Path) -> impl Log + use<> {
    Unrecovered::open(folder, 64 << 20).unwrap().recover(&|_| {}).unwrap()
}

/// Appends batches of random sizes until some `bytes` of bodies are written.
fn fill(log: &impl Log, numbers: &mut Numbers, bytes: usize) {
    let mut written = 0;
    while written < bytes {
        let (count, range) = match numbers.below(40) {
            0 => (1, VALUE_BYTES_MAX as u64..400_000),
            1 => (numbers.among(60..200), 16..300),
            2 => (3, 30_000..70_000),
            3..10 => (numbers.among(2..40), 200..3000),
            _ => (1, 16..2000),
        };
        let batch: Vec<Verified> = (0..count)
            .map(|_| {
                let length = numbers.among(range.clone()) as usize;
                event(numbers.bytes(length))
            })
            .collect();
        written += batch.iter().map(|event| event.body().len() + 300).sum::<usize>();
        log.append(batch, NOW).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// Returns a copy of the folder as a kill in this moment would leave it.
fn killed(folder: &Path) -> TempDir {
    let copied = tempfile::tempdir().unwrap();
    copy(folder, copied.path());
    copied
}

type Contents = BTreeMap<Seq, Vec<u8>>;

fn by_sled(folder: &Path) -> Option<Contents> {
    let read = std::panic::catch_unwind(|| {
        let store = Store::open(folder, 64 << 20, create_lock(folder).ok()?).ok()?;
        store.blocks_from(1).collect::<Result<Contents, _>>().ok()
    });
    read.ok().flatten()
}

fn raw(folder: &Path, size: Seq) -> RawStore {
    RawStore::open(folder, Known { size, log_id: None }).unwrap()
}

fn by_reader(folder: &Path, expected: Seq) -> Contents {
    let store = raw(folder, expected);
    store.blocks_from(1).filter_map(Result::ok).collect()
}

fn db(folder: &Path) -> PathBuf {
    folder.join("store").join("db")
}

/// Fails unless two stores have the same blocks. Does not print them.
fn assert_same(read: &Contents, expected: &Contents, case: &str) {
    let seqs = |blocks: &Contents| blocks.keys().copied().collect::<Vec<_>>();
    assert_eq!(seqs(read), seqs(expected), "{case}");
    for (seq, bytes) in expected {
        assert!(read[seq] == *bytes, "{case}: block {seq}");
    }
}

#[test]
fn a_whole_store_is_read_as_sled_reads_it_after_a_stop_and_after_a_kill() {
    for seed in 1..=cases(2) {
        let mut numbers = Numbers(seed);
        let folder = tempfile::tempdir().unwrap();
        for round in 0..3 {
            let log = open(folder.path());
            let bytes = numbers.among(10_000..12_000_000) as usize;
            fill(&log, &mut numbers, bytes);
            let head = log.head();
            let case = format!("seed {seed}, round {round}");
            let left = killed(folder.path());
            let store = raw(left.path(), head);
            assert_eq!(store.harm(), &Harm::default(), "{case}");
            assert_eq!((store.log_id(), store.was_closed()), (log.identity().log_id, false));
            drop(store);
            let read = by_reader(left.path(), head);
            assert_same(&read, &by_sled(left.path()).unwrap(), &format!("{case}, killed"));
            drop(log);
            let store = raw(folder.path(), head);
            assert_eq!(store.harm(), &Harm::default(), "{case}");
            assert!(store.was_closed());
            drop(store);
            let (read, left) = (by_reader(folder.path(), head), killed(folder.path()));
            assert_same(&read, &by_sled(left.path()).unwrap(), &format!("{case}, stopped"));
        }
    }
}

#[test]
fn messages_that_sled_keeps_in_files_of_their_own_are_read_as_well() {
    let (mut numbers, folder) = (Numbers(5), tempfile::tempdir().unwrap());
    let log = open(folder.path());
    fill(&log, &mut numbers, 100_000);
    let (head, log_id) = (log.head(), log.identity().log_id);
    drop(log);
    // Values that are larger than Rollcall makes them, so that a page of them is too large.
    rewrite(folder.path(), |blocks| {
        for seq in head + 1..=head + 12 {
            let length = 400_000;
            let event = event(numbers.bytes(length));
            let draft = Draft { event, salt: [7; 16], status: RecordStatus::Counts };
            let encoded = block::encode(log_id, seq, NOW, &[draft]).unwrap();
            for (seq, bytes) in encoded {
                blocks.insert(part_key(seq, 0).to_vec(), bytes);
            }
        }
    });
    let outside = fs::read_dir(folder.path().join("store/blobs")).unwrap().count();
    assert!(outside > 0);
    let read = by_reader(folder.path(), head + 12);
    assert_eq!(read.len(), by_sled(folder.path()).unwrap().len());
    assert_same(&read, &by_sled(folder.path()).unwrap(), "with files of their own");
}

#[test]
fn a_tail_that_never_reached_the_disk_is_cut_where_sled_cuts_it() {
    let (mut numbers, mut compared) = (Numbers(77), 0);
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    for round in 0..cases(24) {
        fill(&log, &mut numbers, 300_000);
        let left = killed(folder.path());
        let file = fs::File::options().read(true).write(true).open(db(left.path())).unwrap();
        let end = written_end(left.path());
        let at = end - numbers.below(end.min(100_000));
        if round % 2 == 0 {
            file.set_len(at).unwrap();
        } else {
            file.write_all_at(&vec![0; (end - at) as usize], at).unwrap();
        }
        let case = format!("round {round}, at {at} of {end}");
        // Where damage reaches what was on the disk, sled is not the measure.
        if raw(left.path(), 0).harm().is_harmful {
            continue;
        }
        let read = by_reader(left.path(), 0);
        let Some(expected) = by_sled(left.path()) else { continue };
        assert_same(&read, &expected, &case);
        compared += 1;
    }
    assert!(compared >= 6, "{compared}");
}

fn written_end(folder: &Path) -> u64 {
    let bytes = fs::read(db(folder)).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1)
}

/// A kind of damage to some bytes.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Bit,
    Zeros,
    Garbage,
    Truncation,
}

impl Damage {
    fn put(self, folder: &Path, at: u64, numbers: &mut Numbers) {
        let file = fs::File::options().read(true).write(true).open(db(folder)).unwrap();
        let length = file.metadata().unwrap().len();
        let mut bytes = vec![0; 4096.min(length - at) as usize];
        match self {
            Damage::Bit => {
                bytes.truncate(1);
                file.read_exact_at(&mut bytes, at).unwrap();
                bytes[0] ^= 1 << numbers.below(8);
            }
            Damage::Zeros => {}
            Damage::Garbage => bytes = numbers.bytes(bytes.len()),
            Damage::Truncation => return file.set_len(at).unwrap(),
        }
        file.write_all_at(&bytes, at).unwrap();
    }
}

/// Returns whether every value of a block is somewhere in the file.
fn is_there(file: &[u8], block: &[u8]) -> bool {
    block.chunks(VALUE_BYTES_MAX).all(|value| {
        let starts = value.get(..64.min(value.len())).unwrap();
        memchr::memmem::find_iter(file, starts).any(|at| file[at..].starts_with(value))
    })
}

/// Returns the number of cases: `usual`, or as many times more as `ROLLCALL_TEST_SCALE` says.
fn cases(usual: u64) -> u64 {
    usual * std::env::var("ROLLCALL_TEST_SCALE").map_or(1, |scale| scale.parse().unwrap())
}

#[test]
fn every_block_whose_own_bytes_are_whole_is_read_and_never_another() {
    let mut numbers = Numbers(5);
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    fill(&log, &mut numbers, 9_000_000);
    let head = log.head();
    let whole = killed(folder.path());
    let expected = by_reader(whole.path(), head);
    assert_same(&expected, &by_sled(killed(folder.path()).path()).unwrap(), "whole");
    let end = written_end(whole.path());
    let mut lost = 0;
    for round in 0..cases(24) {
        let damage =
            [Damage::Bit, Damage::Zeros, Damage::Garbage, Damage::Truncation][(round % 4) as usize];
        let at = if round < 4 { numbers.below(40) } else { numbers.below(end) };
        let case = format!("round {round}: {damage:?} at {at} of {end}");
        fs::copy(db(folder.path()), db(whole.path())).unwrap();
        damage.put(whole.path(), at, &mut numbers);
        for _ in 0..if round % 3 == 0 { numbers.below(4) } else { 0 } {
            Damage::Bit.put(whole.path(), numbers.below(at.max(1)), &mut numbers);
        }
        let file = fs::read(db(whole.path())).unwrap();
        let log_id = Some(log.identity().log_id);
        let store = RawStore::open(whole.path(), Known { size: head, log_id }).unwrap();
        let is_sound =
            |bytes: &[u8]| Block::parse(bytes).is_ok_and(|block| block.damage().is_empty());
        let read: Contents = store
            .blocks_from(1)
            .filter_map(Result::ok)
            .filter(|(_, bytes)| is_sound(bytes))
            .collect();
        for (seq, bytes) in &read {
            assert!(expected.get(seq) == Some(bytes), "{case}: block {seq} is another");
        }
        for (seq, bytes) in expected.iter().filter(|(seq, _)| !read.contains_key(seq)) {
            assert!(!is_there(&file, bytes), "{case}: block {seq} is there");
            let names = |(first, last): &(Seq, Seq)| (*first..=*last).contains(seq);
            assert!(store.harm().missing.iter().any(names), "{case}: block {seq} is not named");
            lost += 1;
        }
    }
    assert!(lost > 0);
}

/// Returns what two looks at the file of a running server find.
fn live_harm(file: &[u8], head: Seq) -> LiveHarm {
    let segments = || file.chunks(SEGMENT_BYTES);
    let looks: Vec<_> = segments().map(|bytes| look_at_segment(bytes, 0, |_| {})).collect();
    let damaged = looks.iter().flat_map(|look| &look.damaged);
    let watched = damaged.filter_map(|place| place.page).collect();
    let mut pages = LivePages::new(watched, PathBuf::new());
    for (bytes, look) in segments().zip(&looks) {
        pages.take(bytes, look.number.unwrap());
    }
    pages.harm(head)
}

#[test]
fn a_flip_in_a_file_in_use_is_named_if_it_is_in_the_newest_place_of_a_record_and_else_not() {
    let (mut numbers, folder) = (Numbers(21), tempfile::tempdir().unwrap());
    let log = open(folder.path());
    fill(&log, &mut numbers, 900_000);
    let head = log.head();
    let running = killed(folder.path());
    let blocks = by_reader(running.path(), head);
    let file = fs::read(db(running.path())).unwrap();
    assert!(file.len() <= SEGMENT_BYTES, "the order in one segment is that of the writes");
    let LiveHarm { torn, missing } = live_harm(&file, head);
    assert!(torn.is_empty() && missing.is_empty());
    let small: Vec<_> = blocks.iter().filter(|(_, bytes)| bytes.len() <= VALUE_BYTES_MAX).collect();
    let (mut needed, mut replaced) = (0, 0);
    for round in 0..cases(60) {
        let (seq, bytes) = small[numbers.below(small.len() as u64) as usize];
        let places: Vec<usize> = memchr::memmem::find_iter(&file, bytes).collect();
        let place = numbers.below(places.len() as u64) as usize;
        let at = places[place] + numbers.below(bytes.len() as u64) as usize;
        let mut damaged = file.clone();
        damaged[at] ^= 1 << numbers.below(8);
        let LiveHarm { torn, missing } = live_harm(&damaged, head);
        let case = format!("round {round}: record {seq} at {at}, {place} of {places:?}");
        let has = |ranges: &Ranges| ranges.iter().any(|(from, to)| (from..=to).contains(seq));
        if place + 1 < places.len() {
            assert!(torn.is_empty() && missing.is_empty(), "{case}");
            replaced += 1;
            continue;
        }
        assert!(has(&torn) || has(&missing), "{case}");
        assert_eq!(has(&missing), places.len() == 1, "{case}");
        needed += 1;
    }
    assert!(needed > 0 && replaced > 0, "{needed} {replaced}");
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let mut numbers = Numbers(3);
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    fill(&log, &mut numbers, 60_000);
    drop(log);
    let whole = fs::read(db(folder.path())).unwrap();
    let end = written_end(folder.path()) as usize;
    for round in 0..cases(60) {
        let mut bytes = whole[..end].to_vec();
        for _ in 0..=numbers.below(40) {
            let at = numbers.below(end as u64) as usize;
            match round % 3 {
                0 => bytes[at] = numbers.next() as u8,
                1 => bytes[at] ^= 1 << numbers.below(8),
                _ => {
                    let from = numbers.below(end as u64) as usize;
                    let length = numbers.below(900) as usize;
                    let length = length.min(end - at.max(from));
                    bytes.copy_within(from..from + length, at);
                }
            }
        }
        if round % 5 == 0 {
            bytes = numbers.bytes(numbers.0 as usize % 50_000);
        }
        fs::write(db(folder.path()), &bytes).unwrap();
        let log_id = Some([7; 16]).filter(|_| round % 2 == 0);
        if let Ok(store) = RawStore::open(folder.path(), Known { size: 90, log_id }) {
            assert!(store.blocks_from(1).count() < 10_000);
            assert!(
                store.firsts().flat_map(|first| store.salvaged(first).records).count() < 10_000
            );
        }
        for length in [0, 1, 20, 4096] {
            let bytes = numbers.bytes(length);
            let _ = (page::Page::read(&bytes), page::Change::read(&bytes));
        }
    }
}
