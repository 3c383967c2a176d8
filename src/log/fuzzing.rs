//! Random changes of blocks, of segments of an archive, and of sled's file: nothing panics, and what
//! is read is what was written. `ROLLCALL_FUZZ_S` makes each run for so many seconds, with fresh
//! seeds.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rollcall_generator::sign;
use rollcall_projections::{Millis, RecordStatus, Seq};

use super::archive::{ArchiveSegment, ArchivedRecord};
use super::block::{self, Block, Draft};
use super::raw::{Known, RawStore};
use super::store::Blocks;
use super::{History, Log, LogId, Record, Unrecovered};
use crate::verify::{Keyring, Verified};

const NOW: Millis = 1_760_000_000_000;
const LOG_ID: LogId = *b"0123456789abcdef";

/// The changes that the ordinary tests make, and those of sled's file, which cost more.
const CHANGES: u64 = 3000;
const CHANGES_OF_FILES: u64 = 40;

fn event(body: Vec<u8>) -> Verified {
    let header = sign("s", NOW, &body);
    Verified::webhook(&Keyring::new(["s"], 0), Some(header.as_bytes()), body.into(), NOW).unwrap()
}

fn user(n: usize) -> Verified {
    let name = "name ".repeat(n * n % 90);
    let body = format!(
        r#"{{"id":"event_{n}","event":"dsync.user.created","created_at":"2025-01-01T00:00:00Z",
        "data":{{"id":"u{n}","directory_id":"d","first_name":"{name}","emails":[],"groups":[]}}}}"#
    );
    event(body.into_bytes())
}

/// Calls `check` with a generator for each seed until the run is over.
fn each_seed(usual: u64, check: impl Fn(&mut SmallRng)) {
    let seconds = std::env::var("ROLLCALL_FUZZ_S").ok().map(|text| text.parse().unwrap());
    let first = if seconds.is_some() { crate::time::now_ms() as u64 } else { 0 };
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    for seed in first.. {
        if until.map_or(seed >= usual, |until| Instant::now() >= until) {
            println!("{} changes", seed - first);
            return;
        }
        // A failure names its seed.
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            check(&mut SmallRng::seed_from_u64(seed));
        }));
        assert!(checked.is_ok(), "seed {seed}");
    }
}

/// Changes some bytes, most often few.
fn change(numbers: &mut SmallRng, bytes: &mut Vec<u8>) {
    for _ in 0..numbers.random_range(1..5) {
        let at = numbers.random_range(0..bytes.len().max(1)).min(bytes.len());
        let end = numbers.random_range(at..=bytes.len().min(at + 40));
        match numbers.random_range(0..7) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.truncate(at.max(1)),
            2 => {
                bytes.splice(at..at, bytes.get(at..end).unwrap_or_default().to_vec()).for_each(drop)
            }
            3 => bytes.get_mut(at..end).unwrap_or_default().fill(0),
            4 => numbers.fill(bytes.get_mut(at..end).unwrap_or_default()),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
        }
    }
}

/// Reads everything that a block can give.
fn read_all(block: &Block<'_>) -> Vec<Record> {
    let _ = (block.damage(), block.proofs(), block.lost_leaves(), block.own_metadata());
    let _ = block.stored_facts(|_, _| {});
    let _ = block.entries(0, &mut |_| {});
    let _ = block.frame_of(block.last_seq()).map(|frame| frame.body(block.last_seq()));
    let _ = block.records();
    block.salvage().unwrap_or_default().into_iter().flatten().collect()
}

#[test]
fn a_changed_block_is_refused_or_has_the_records_that_were_written() {
    let draft = |n| Draft { event: user(n), salt: [n as u8; 16], status: RecordStatus::Counts };
    let mut blocks = Vec::new();
    for count in [1, 3, 40] {
        let drafts: Vec<Draft> = (0..count).map(draft).collect();
        blocks.extend(block::encode(LOG_ID, 7, NOW, &drafts).unwrap());
    }
    blocks.extend(block::encode_lost(LOG_ID, 7, NOW, &[[1; 32], [2; 32], [3; 32]]).unwrap());
    each_seed(CHANGES, |numbers| {
        let (_, original) = &blocks[numbers.random_range(0..blocks.len())];
        let mut bytes = original.clone();
        change(numbers, &mut bytes);
        let Ok(block) = Block::parse(&bytes) else { return };
        let expected = read_all(&Block::parse(original).unwrap());
        // Its checks have 32 bits: they stop accidents.
        assert!(read_all(&block).iter().all(|record| expected.contains(record)));
    });
    // With right checks in front of wrong content, nothing panics either.
    each_seed(CHANGES, |numbers| {
        let (_, original) = &blocks[numbers.random_range(0..blocks.len())];
        let mut bytes = original.clone();
        change(numbers, &mut bytes);
        block::fix_checks(&mut bytes);
        if let Ok(block) = Block::parse(&bytes) {
            read_all(&block);
        }
    });
}

#[test]
fn a_changed_segment_of_an_archive_is_refused_or_has_the_records_that_were_written() {
    let records: Vec<ArchivedRecord> = (1..30)
        .map(|n| {
            let record =
                Record::of(LOG_ID, n, NOW, &user(n as usize), [n as u8; 16], RecordStatus::Counts);
            ArchivedRecord::from(&record)
        })
        .collect();
    let segment = ArchiveSegment { log_id: LOG_ID, records, checkpoint: None, needs: None };
    let packed = segment.encode().unwrap();
    let lines = zstd::decode_all(packed.as_slice()).unwrap();
    each_seed(CHANGES, |numbers| {
        let mut bytes = packed.clone();
        change(numbers, &mut bytes);
        if let Ok(read) = ArchiveSegment::decode(bytes.as_slice()) {
            assert!(read == segment);
        }
        let mut text = lines.clone();
        change(numbers, &mut text);
        let packed = zstd::encode_all(text.as_slice(), 1).unwrap();
        if let Ok(read) = ArchiveSegment::decode(packed.as_slice()) {
            assert!(read.records == segment.records, "its last line vouches for the others");
        }
    });
}

fn filled(folder: &Path) -> impl Log {
    let log = Unrecovered::open(folder, 16 << 20).unwrap().recover(&|_| {}).unwrap();
    for n in 0..60 {
        log.append(vec![user(n)], NOW).unwrap();
    }
    log.append(vec![event(vec![7; 200_000])], NOW).unwrap();
    log
}

#[test]
fn a_changed_file_of_sled_gives_no_record_that_was_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled(folder.path());
    let (head, log_id) = (log.head(), log.identity().log_id);
    let expected = log.read(0, usize::MAX, usize::MAX).unwrap();
    drop(log);
    let db = folder.path().join("store/db");
    let whole = fs::read(&db).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    each_seed(CHANGES_OF_FILES, |numbers| {
        let mut bytes = whole[..end].to_vec();
        for _ in 0..numbers.random_range(1..8) {
            change(numbers, &mut bytes);
        }
        // Where a piece was taken out or put in, the rest keeps its place.
        if numbers.random_range(0..4) > 0 {
            bytes.resize(end, 0);
        }
        fs::write(&db, &bytes).unwrap();
        let known = Known { size: head, log_id: Some(log_id) };
        let Ok(store) = RawStore::open_locked(folder.path(), known) else { return };
        let firsts: Vec<Seq> = store.firsts().collect();
        for first in firsts {
            for found in store.salvaged(first).records {
                let seq = found.record.seq as usize;
                assert!(expected.get(seq - 1) == Some(&found.record), "record {seq}");
            }
        }
        for block in store.blocks_from(1).flatten() {
            let _ = store.parse(&block.1, block.0).map(|block| read_all(&block));
        }
    });
}
