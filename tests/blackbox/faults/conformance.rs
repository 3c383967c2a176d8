//! The log's contract: one suite for every implementation.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use rollcall::log::{AppendError, History, Log, MemoryLog, Outcome, ReadError, Unrecovered};
use rollcall_projections::{RecordStatus, Seq};
use sha2::{Digest, Sha256};

use crate::kit::road::verified;
use crate::kit::server::now_ms;

fn event(id: &str, name: &str) -> String {
    format!(
        concat!(
            r#"{{"id":"{id}","event":"dsync.user.created","data":{{"id":"u","directory_id":"d","#,
            r#""first_name":"{name}"}}}}"#,
        ),
        id = id,
        name = name
    )
}

/// Runs `check` on an empty log of each kind.
fn every_log(check: impl Fn(Arc<dyn Log>)) {
    check(Arc::new(MemoryLog::new([1; 16])));
    let folder = tempfile::tempdir().unwrap();
    check(Arc::new(Unrecovered::open(folder.path(), 64 << 20).unwrap().recover(&|_| {}).unwrap()));
}

fn duplicate(seq: Seq) -> Outcome {
    Outcome::Duplicate { seq, differs: false }
}

fn append(log: &dyn Log, bodies: &[&str]) -> Vec<Outcome> {
    log.append(bodies.iter().map(|body| verified(body.as_bytes())).collect(), now_ms()).unwrap()
}

#[test]
fn seqs_are_dense_from_one_and_records_come_back_as_they_were() {
    every_log(|log| {
        let bodies: Vec<String> = (0..100).map(|n| event(&format!("event_{n}"), "Zoë")).collect();
        assert_eq!((log.head(), log.read(0, 10, 1000).unwrap().len()), (0, 0));
        for chunk in bodies.chunks(7) {
            let texts: Vec<&str> = chunk.iter().map(String::as_str).collect();
            append(&*log, &texts);
        }
        assert_eq!(log.head(), 100);
        let records = log.read(0, 1000, usize::MAX).unwrap();
        for (index, record) in records.iter().enumerate() {
            assert_eq!((record.seq, record.log_id), (index as u64 + 1, log.identity().log_id));
            assert_eq!(record.body, bodies[index].as_bytes());
            assert_eq!(record.event_id.as_deref(), Some(format!("event_{index}").as_str()));
            assert_eq!(record.event_type.as_deref(), Some("dsync.user.created"));
        }
        assert_eq!(records.len(), 100);
        let of = |after, events, bytes| {
            log.read(after, events, bytes)
                .unwrap()
                .iter()
                .map(|record| record.seq)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(97, 10, usize::MAX), [98, 99, 100]);
        assert_eq!(of(5, 2, usize::MAX), [6, 7]);
        assert_eq!(of(5, 9, 0), [6], "one record is read whatever its size");
        assert_eq!(of(100, 9, 9), [0u64; 0]);
        assert_eq!(
            log.bodies(&[100, 1, 50]).unwrap(),
            [&bodies[99], &bodies[0], &bodies[49]].map(|body| body.as_bytes())
        );
        assert_eq!(log.bodies(&[101]), Err(ReadError::Absent { seq: 101 }));
        assert_eq!(log.bodies(&[0]), Err(ReadError::Absent { seq: 0 }));
        let mut seqs = Vec::new();
        let last = log.entries(40, usize::MAX, &mut |entry| seqs.push(entry.seq)).unwrap();
        assert_eq!((last, seqs), (100, (41..=100).collect()));
    });
}

#[test]
fn an_event_is_found_by_the_id_under_which_it_counts() {
    every_log(|log| {
        let (first, other) = (event("event_1", "Zoë"), event("event_1", "Zoe"));
        append(&*log, &[&first, "no event", &other, &event("event_2", "Ida")]);
        let found: Vec<_> =
            ["event_1", "event_2", "event_3", ""].map(|id| log.find(id).unwrap()).to_vec();
        assert_eq!(found, [Some(1), Some(4), None, None]);
    });
}

#[test]
fn an_event_is_appended_once_whatever_comes_between() {
    every_log(|log| {
        let (a, same, other) =
            (event("a", "x"), event("a", "x").replace("\"x\"", "\"\\u0078\""), event("a", "y"));
        assert_eq!(append(&*log, &[&a, &a, &same]), [Outcome::New(1), duplicate(1), duplicate(1)]);
        let conflict = |duplicate| Outcome::Conflict { seq: 2, first: 1, duplicate };
        assert_eq!(
            append(&*log, &[&other, &a, &other]),
            [conflict(false), duplicate(1), conflict(true)]
        );
        assert_eq!(
            append(&*log, &[&other, "[1]", "", "[1]"]),
            [conflict(true), Outcome::New(3), Outcome::New(4), duplicate(3)]
        );
        let standings: Vec<RecordStatus> =
            log.read(0, 9, 9999).unwrap().into_iter().map(|record| record.status).collect();
        assert_eq!(
            standings,
            [
                RecordStatus::Counts,
                RecordStatus::Conflict { first: 1 },
                RecordStatus::Counts,
                RecordStatus::Counts
            ]
        );
    });
}

#[test]
fn a_batch_too_large_is_refused_whole_and_an_empty_one_is_a_barrier() {
    every_log(|log| {
        let batch = (0..513).map(|n| verified(event(&n.to_string(), "x").as_bytes())).collect();
        assert!(matches!(log.append(batch, now_ms()), Err(AppendError::Rejected(_))));
        assert_eq!((log.head(), append(&*log, &[])), (0, vec![]));
        let batch = (0..512).map(|n| verified(event(&n.to_string(), "x").as_bytes())).collect();
        assert_eq!(log.append(batch, now_ms()).unwrap().last(), Some(&Outcome::New(512)));
    });
}

#[test]
fn stamps_never_decrease() {
    every_log(|log| {
        for (n, stamp) in [50, 20, 70].into_iter().enumerate() {
            log.append(vec![verified(event(&n.to_string(), "x").as_bytes())], stamp).unwrap();
        }
        let stamps: Vec<i64> =
            log.read(0, 9, 9999).unwrap().iter().map(|record| record.recorded_at).collect();
        assert_eq!(stamps, [50, 50, 70]);
    });
}

#[test]
fn who_waits_is_told_as_soon_as_the_head_is_past() {
    every_log(|log| {
        assert_eq!(log.wait(0, Duration::from_millis(1)), 0);
        let waiter = std::thread::spawn({
            let log = log.clone();
            move || log.wait(0, Duration::from_secs(60))
        });
        append(&*log, &[&event("a", "x")]);
        assert_eq!(waiter.join().unwrap(), 1);
        assert_eq!(log.wait(0, Duration::from_secs(60)), 1);
    });
}

#[test]
fn a_log_on_disk_is_the_same_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Unrecovered::open(folder.path(), 64 << 20).unwrap().recover(&|_| {}).unwrap();
    let log = open();
    let bodies: Vec<String> = (0..200).map(|n| event(&format!("e{n}"), "x")).collect();
    for body in &bodies {
        append(&log, &[body]);
    }
    append(&log, &["not json", &event("e5", "conflict")]);
    let (identity, records) = (log.identity(), log.read(0, 1000, usize::MAX).unwrap());
    drop(log);
    let log = open();
    assert_eq!((log.identity(), log.read(0, 1000, usize::MAX).unwrap()), (identity, records));
    assert_eq!(
        append(&log, &[&bodies[7], "not json", &event("e5", "conflict"), &event("new", "x")]),
        [
            duplicate(8),
            duplicate(201),
            Outcome::Conflict { seq: 202, first: 6, duplicate: true },
            Outcome::New(203)
        ]
    );
}

type Hash = [u8; 32];

/// The tree hash as RFC 6962 defines it in section 2.1.
fn tree_hash(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Sha256::digest([&[1][..], &tree_hash(left), &tree_hash(right)].concat()).into()
        }
    }
}

/// Sizes and seqs about which a tree of 600 is asked: the small ones, and those beside the borders
/// of tiles.
fn asked_of_600() -> Vec<Seq> {
    [0..10, 126..130, 254..260, 510..515, 598..601]
        .into_iter()
        .flat_map(|range: Range<Seq>| range)
        .collect()
}

#[test]
fn roots_and_proofs_are_those_of_anothers_tree_over_the_same_leaves_however_the_events_came() {
    every_log(|log| {
        let bodies: Vec<String> = (0..600).map(|n| event(&format!("event_{n}"), "x")).collect();
        let mut rest = bodies.as_slice();
        for size in [1, 2, 3, 250, 1, 5, 200].into_iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(size));
            append(&*log, &now.iter().map(String::as_str).collect::<Vec<_>>());
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let records = log.read(0, 1000, usize::MAX).unwrap();
        let leaves: Vec<Hash> = records.iter().map(|record| record.leaf()).collect();
        let concat = |proof: Vec<Hash>| proof.concat();
        for size in asked_of_600() {
            assert_eq!(log.root(size).unwrap(), tree_hash(&leaves[..size as usize]), "{size}");
            let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
            for record in &records[..size as usize] {
                let body =
                    Sha256::new().chain_update(record.salt).chain_update(&record.body).finalize();
                theirs.push([&record.receipt()[..], &body].concat());
            }
            assert_eq!(log.root(size).unwrap()[..], theirs.root().as_bytes()[..], "{size}");
            for seq in asked_of_600().into_iter().filter(|seq| (1..=size).contains(seq)) {
                assert!(
                    concat(log.inclusion(seq, size).unwrap())
                        == theirs.prove_inclusion(seq as usize - 1).as_bytes(),
                    "{seq} in {size}"
                );
                let theirs = theirs.prove_consistency((size - seq) as usize);
                assert!(
                    concat(log.consistency(seq, size).unwrap()) == theirs.as_bytes(),
                    "{seq} to {size}"
                );
            }
            assert_eq!(log.consistency(0, size), Ok(Vec::new()));
        }
    });
}

#[test]
fn nothing_is_proven_that_is_not_in_the_log() {
    every_log(|log| {
        assert_eq!(log.root(0).unwrap(), tree_hash(&[]));
        append(&*log, &[&event("a", "x"), &event("b", "x")]);
        let absent = |seq| ReadError::Absent { seq };
        assert_eq!(log.root(3), Err(absent(3)));
        assert_eq!(
            [log.inclusion(0, 2), log.inclusion(2, 1), log.inclusion(1, 3), log.inclusion(3, 3)],
            [0, 2, 3, 3].map(|seq| Err(absent(seq)))
        );
        assert_eq!(
            [log.consistency(2, 1), log.consistency(0, 3), log.consistency(3, 3)],
            [2, 3, 3].map(|seq| Err(absent(seq)))
        );
        assert_eq!(
            [log.inclusion(Seq::MAX, Seq::MAX), log.consistency(1, Seq::MAX)],
            [Err(absent(Seq::MAX)), Err(absent(Seq::MAX))]
        );
    });
}
