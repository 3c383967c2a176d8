//! Random changes of blocks, of segments of an archive, and of sled's file: nothing panics, and what
//! is read is what was written. `ROLLCALL_FUZZ_S` makes each run for so many seconds, with fresh
//! seeds.
//!
//! A change is made by a recipe, a few bytes, of something that is always the same. Each run begins
//! with the recipes in tests/blackbox/corpus: for each outcome that was ever seen, the first that had
//! it. `ROLLCALL_FUZZ_KEEP=1` adds the recipes of this run that have a new outcome.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rollcall_generator::sign;
use rollcall_projections::{Millis, RecordStatus, Seq};

use super::archive::{ArchiveSegment, ArchivedRecord};
use super::block::{self, Block, Draft};
use super::raw::{Harm, Known, RawStore};
use super::store::Blocks;
use super::{Log, LogId, Record, Unrecovered};
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

/// The length of the part of a recipe that makes one change.
const STEP_BYTES: usize = 8;

/// The most steps of a recipe, and the most recipes of each kind that are kept.
const STEPS_MAX: usize = 12;
const KEPT_MAX: usize = 120;

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox/corpus").join(name)
}

fn keeps() -> bool {
    std::env::var_os("ROLLCALL_FUZZ_KEEP").is_some()
}

/// Calls `check`, which returns the outcome, with the recipes of the corpus and with random ones until
/// the run is over.
fn each_recipe(kind: &str, usual: u64, check: impl Fn(&[u8]) -> String) {
    let path = corpus(&format!("{kind}.txt"));
    let lines = fs::read_to_string(&path).unwrap_or_default();
    let mut kept: Vec<Vec<u8>> = lines.lines().map(|line| hex::decode(line).unwrap()).collect();
    assert!(keeps() || !kept.is_empty(), "the corpus of {kind} is there");
    let mut outcomes: BTreeSet<String> = kept.iter().map(|recipe| check(recipe)).collect();
    let seconds = std::env::var("ROLLCALL_FUZZ_S").ok().map(|text| text.parse().unwrap());
    let first = if seconds.is_some() { crate::time::now_ms() as u64 } else { 0 };
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut changes = 0;
    for seed in first.. {
        if until.map_or(seed >= usual, |until| Instant::now() >= until) {
            break;
        }
        changes += 1;
        let mut numbers = SmallRng::seed_from_u64(seed);
        let mut recipe = vec![0; 1 + STEP_BYTES * numbers.random_range(1..=STEPS_MAX)];
        numbers.fill(&mut recipe[..]);
        // A failure names its recipe.
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&recipe)));
        let outcome = checked.unwrap_or_else(|_| panic!("recipe {}", hex::encode(&recipe)));
        if outcomes.insert(outcome) && kept.len() < KEPT_MAX {
            kept.push(recipe);
        }
    }
    println!("{kind}: {changes} changes with {} outcomes", outcomes.len());
    if keeps() {
        let lines = kept.iter().map(|recipe| format!("{}\n", hex::encode(recipe)));
        fs::write(path, lines.collect::<String>()).unwrap();
    }
}

/// Changes bytes as a recipe says. Its first byte is for the caller.
fn change(recipe: &[u8], bytes: &mut Vec<u8>) {
    let (steps, _) = recipe.get(1..).unwrap_or_default().as_chunks::<STEP_BYTES>();
    for [op, a, b, c, length, values @ ..] in steps {
        let at = u32::from_le_bytes([*a, *b, *c, 0]) as usize % (bytes.len() + 1);
        let end = bytes.len().min(at + usize::from(length % 40));
        match op % 8 {
            0 => drop(bytes.drain(at..end)),
            // A cut leaves little, so it is rare.
            1 if *length < 64 => bytes.truncate(at.max(1)),
            2 => {
                let copied = bytes[at..end].to_vec();
                bytes.splice(at..at, copied).for_each(drop);
            }
            3 => bytes[at..end].fill(0),
            4 => bytes[at..end].iter_mut().zip(values.iter().cycle()).for_each(|(to, value)| {
                *to = to.wrapping_mul(31) ^ value;
            }),
            5 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = values[0]),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (values[0] % 8)),
        }
    }
}

/// Returns what is left of a text without its numbers.
fn shape(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Returns the kind of a result.
fn outcome<T>(result: &Result<T, String>) -> String {
    result.as_ref().err().map_or("read".into(), |error| shape(error))
}

/// Reads everything that a block can give. Returns its records and the outcome.
fn read_all(block: &Block<'_>) -> (Vec<Record>, String) {
    let proofs = block.proofs().map(drop);
    let lost = block.lost_leaves().map(drop);
    let facts = block.stored_facts(|_, _| {});
    let entries = block.entries(0, &mut |_| {});
    let frame = block.frame_of(block.last_seq()).map(|frame| drop(frame.body(block.last_seq())));
    let records = block.records().map(drop);
    let salvaged = block.salvage();
    let damage = block.damage().len();
    block.own_metadata();
    let parts = [&proofs, &lost, &facts, &entries, &frame, &records].map(outcome);
    let parts = format!("{} {} {damage}", parts.join(", "), outcome(&salvaged));
    (salvaged.unwrap_or_default().into_iter().flatten().collect(), parts)
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
    each_recipe("blocks", CHANGES, |recipe| {
        let (_, original) = &blocks[usize::from(recipe[0]) % blocks.len()];
        let mut bytes = original.clone();
        change(recipe, &mut bytes);
        let first = match Block::parse(&bytes) {
            Ok(block) => {
                let (expected, _) = read_all(&Block::parse(original).unwrap());
                let (records, parts) = read_all(&block);
                // Its checks have 32 bits: they stop accidents.
                assert!(records.iter().all(|record| expected.contains(record)));
                parts
            }
            Err(error) => shape(&error),
        };
        // With right checks in front of wrong content, nothing panics either.
        block::fix_checks(&mut bytes);
        let second = match Block::parse(&bytes) {
            Ok(block) => read_all(&block).1,
            Err(error) => shape(&error),
        };
        format!("{first}; {second}")
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
    let read = |bytes: &[u8]| ArchiveSegment::decode(bytes).map_err(|error| error.to_string());
    each_recipe("segments", CHANGES, |recipe| {
        let mut bytes = packed.clone();
        change(recipe, &mut bytes);
        let first = read(&bytes);
        assert!(first.as_ref().is_ok_and(|read| *read == segment) || first.is_err());
        let mut text = lines.clone();
        change(recipe, &mut text);
        let second = read(&zstd::encode_all(text.as_slice(), 1).unwrap());
        if let Ok(read) = &second {
            assert!(read.records == segment.records, "its last line vouches for the others");
        }
        format!("{}; {}", outcome(&first), outcome(&second))
    });
}

/// The file of a store that sled has written, always the same, and the log's name and head.
struct WrittenStore {
    file: Vec<u8>,
    log_id: LogId,
    head: Seq,
}

impl WrittenStore {
    fn read() -> WrittenStore {
        let path = corpus("store.zst");
        if !path.exists() && keeps() {
            let folder = tempfile::tempdir().unwrap();
            drop(filled(folder.path()));
            let bytes = fs::read(folder.path().join("store/db")).unwrap();
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            fs::write(&path, zstd::encode_all(&bytes[..end], 19).unwrap()).unwrap();
        }
        let file = zstd::decode_all(fs::read(&path).unwrap().as_slice()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("store")).unwrap();
        fs::write(folder.path().join("store/db"), &file).unwrap();
        let store = RawStore::open_locked(folder.path(), Known::default()).unwrap();
        assert_eq!(store.harm(), &Harm::default());
        WrittenStore { log_id: store.log_id(), head: store.last_seq(), file }
    }
}

fn filled(folder: &Path) -> impl Log + use<> {
    let log = Unrecovered::open(folder, 16 << 20).unwrap().recover(&|_| {}).unwrap();
    for n in 0..60 {
        log.append(vec![user(n)], NOW).unwrap();
    }
    // A block of several parts, which does not compress.
    let mut body = vec![0; 70_000];
    SmallRng::seed_from_u64(1).fill(&mut body[..]);
    log.append(vec![event(body)], NOW).unwrap();
    log
}

#[test]
fn a_changed_file_of_sled_gives_no_record_that_was_not_written() {
    let WrittenStore { file, log_id, head } = WrittenStore::read();
    assert_eq!(head, 61);
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("store")).unwrap();
    let db = folder.path().join("store/db");
    let open = |bytes: &[u8]| {
        fs::write(&db, bytes).unwrap();
        let known = Known { size: head, log_id: Some(log_id) };
        RawStore::open_locked(folder.path(), known)
    };
    let expected = open(&file).unwrap().read(0, head, usize::MAX, usize::MAX).unwrap();
    assert_eq!(expected.len() as Seq, head);
    each_recipe("stores", CHANGES_OF_FILES, |recipe| {
        let mut bytes = file.clone();
        change(recipe, &mut bytes);
        // Where a piece was taken out or put in, the rest mostly keeps its place.
        if recipe[0] % 4 > 0 {
            bytes.resize(file.len(), 0);
        }
        let Ok(store) = open(&bytes) else { return "not opened".into() };
        let firsts: Vec<Seq> = store.firsts().collect();
        for found in firsts.iter().flat_map(|first| store.salvaged(*first).records) {
            let seq = found.record.seq as usize;
            assert!(expected.get(seq - 1) == Some(&found.record), "record {seq}");
        }
        for block in store.blocks_from(1).flatten() {
            let _ = store.parse(&block.1, block.0).map(|block| read_all(&block));
        }
        let Harm { damaged, hidden, missing, is_harmful } = store.harm();
        let lengths = [damaged.len(), hidden.len(), missing.len()].map(usize::checked_ilog2);
        format!("{lengths:?} {is_harmful}")
    });
}
