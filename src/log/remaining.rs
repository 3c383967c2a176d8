//! What is left of a damaged store, as a log that can be read: records that cannot be read count as
//! lost, as in a log that was restored without them. Nothing is written.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use rollcall_projections::{Millis, Seq};

use super::archive::ArchivedRecord;
use super::audit::Finding;
use super::block::{self, Draft};
use super::dedupe::Dedupe;
use super::merkle::{self, Hash};
use super::raw::{RawStore, SalvagedBlock, SalvagedRecord, records};
use super::receipt::lost_leaf;
use super::recovery::{dedupe_key, differs_in_metadata_alone, other_facts};
use super::salvage::Leaves;
use super::stopped::StoppedFolder;
use super::store::Blocks;
use super::tiles::Rows;
use super::{LogId, ReadError, Record, add_range};
use crate::verify::Verified;

/// The damage to a log that is read all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// The records that cannot be read, as pairs of the first and the last.
    pub missing: Vec<(Seq, Seq)>,
    /// The fault that keeps a server from starting, if there is one.
    pub cause: Option<String>,
    /// What is wrong with the files around the store.
    pub files: Vec<Finding>,
    /// True if nothing would show that records are missing from the end.
    pub end_is_unknown: bool,
}

impl Damage {
    /// Returns whether a server starts over the log: only files around the store are damaged.
    pub fn is_of_files(&self) -> bool {
        self.missing.is_empty() && self.cause.is_none()
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { missing, cause, files, end_is_unknown } = self;
        let end = match end_is_unknown {
            true => "; records missing from the end cannot be noticed",
            false => "",
        };
        match cause {
            _ if !missing.is_empty() => write!(f, "{} cannot be read{end}", records(missing)),
            Some(cause) if *end_is_unknown => {
                write!(f, "a server does not start: {cause}{end}")
            }
            Some(cause) => {
                write!(f, "no record is missing, but a server does not start: {cause}")
            }
            None => {
                let name = |file: &Finding| format!("{}: {}", file.part.name(), file.what);
                write!(f, "{}", files.iter().map(name).collect::<Vec<_>>().join("; "))
            }
        }
    }
}

/// The blocks of a store, some of them replaced by what is left of them.
pub(super) struct RemainingBlocks {
    store: RawStore,
    /// The first record of each block, in order.
    firsts: Vec<Seq>,
    replaced: BTreeMap<Seq, Vec<u8>>,
}

impl RemainingBlocks {
    /// Returns the blocks of a store in which nothing is missing.
    pub(super) fn whole(store: RawStore) -> RemainingBlocks {
        let firsts = store.firsts().collect();
        RemainingBlocks { store, firsts, replaced: BTreeMap::new() }
    }

    fn block(&self, first: Seq) -> Result<Vec<u8>, ReadError> {
        let replaced = self.replaced.get(&first).cloned();
        replaced.map_or_else(|| self.store.block(first), Ok)
    }
}

impl Blocks for RemainingBlocks {
    fn log_id(&self) -> LogId {
        self.store.log_id()
    }

    fn blocks_from(
        &self,
        first: Seq,
    ) -> impl Iterator<Item = Result<(Seq, Vec<u8>), ReadError>> + Send {
        let from = self.firsts.partition_point(|seq| *seq < first);
        let firsts = self.firsts.get(from..).unwrap_or_default();
        firsts.iter().map(|first| Ok((*first, self.block(*first)?)))
    }

    fn block_start(&self, seq: Seq) -> Result<Seq, ReadError> {
        let after = self.firsts.partition_point(|first| *first <= seq);
        let found = after.checked_sub(1).and_then(|at| self.firsts.get(at));
        found.copied().ok_or(ReadError::Absent { seq })
    }
}

/// A log that was gathered from what is left.
pub(super) struct Gathered {
    pub(super) blocks: RemainingBlocks,
    pub(super) dedupe: Dedupe,
    /// The records that are lost or cannot be read.
    pub(super) lost: Vec<(Seq, Seq)>,
    /// Those of them that cannot be read.
    pub(super) missing: Vec<(Seq, Seq)>,
    pub(super) rows: Rows,
    /// True if every leaf is known, and all of them lead to the acknowledged root.
    pub(super) is_proven: bool,
}

/// Takes everything out of a damaged store that salvage would, and remembers where it is. `known_size`
/// records were on the disk. Reads every record, on one core. `progress` gets the last seq seen, from
/// time to time.
///
/// # Errors
/// None that is known.
pub(super) fn gather(
    folder: StoppedFolder,
    known_size: Seq,
    progress: &dyn Fn(Seq),
) -> io::Result<Gathered> {
    let newest = folder.slots.newest;
    let leaves = Leaves::of(&folder.slots, folder.tiles.as_ref());
    let (store, tiles) = (&folder.store, folder.tiles.as_ref());
    let was_changed = newest.is_some_and(|newest| differs_in_metadata_alone(store, &newest, tiles));
    let mut gathering = Gathering { was_changed, ..Gathering::new(&folder.store, &leaves) };
    for first in folder.store.firsts() {
        gathering.take(first)?;
        progress(gathering.head());
    }
    gathering.miss_up_to(known_size)?;
    let Gathering { firsts, replaced, dedupe, leaves, lost, missing, every_leaf_is_known, .. } =
        gathering;
    let rows = Rows::of(leaves);
    let is_acknowledged = newest.is_none_or(|newest| {
        newest.root.is_none_or(|root| merkle::root(&rows, newest.size) == Ok(root))
    });
    let is_proven = every_leaf_is_known && is_acknowledged;
    let blocks = RemainingBlocks { store: folder.store, firsts, replaced };
    Ok(Gathered { blocks, dedupe, lost, missing, rows, is_proven })
}

/// What was gathered so far.
struct Gathering<'a> {
    store: &'a RawStore,
    known: &'a Leaves,
    /// True if the log was acknowledged with the same records and other metadata: then it may have lost
    /// some since.
    was_changed: bool,
    firsts: Vec<Seq>,
    replaced: BTreeMap<Seq, Vec<u8>>,
    dedupe: Dedupe,
    leaves: Vec<Hash>,
    lost: Vec<(Seq, Seq)>,
    missing: Vec<(Seq, Seq)>,
    every_leaf_is_known: bool,
    /// The stamp of the newest record.
    recorded_at: Millis,
}

impl<'a> Gathering<'a> {
    fn new(store: &'a RawStore, known: &'a Leaves) -> Gathering<'a> {
        // A lost record before the first that is there gets the stamp of that one.
        let stamp = |first| Some(store.salvaged(first).records.first()?.record.recorded_at);
        Gathering {
            store,
            known,
            was_changed: false,
            firsts: Vec::new(),
            replaced: BTreeMap::new(),
            dedupe: Dedupe::default(),
            leaves: Vec::new(),
            lost: Vec::new(),
            missing: Vec::new(),
            every_leaf_is_known: true,
            recorded_at: store.firsts().find_map(stamp).unwrap_or_default(),
        }
    }

    fn head(&self) -> Seq {
        self.leaves.len() as Seq
    }

    /// Takes what is left of the block that begins with `first`.
    fn take(&mut self, first: Seq) -> io::Result<()> {
        let is_next = first > self.head();
        let SalvagedBlock { records, lost_leaves } = self.store.salvaged(first);
        if is_next && !lost_leaves.is_empty() {
            self.miss_up_to(first - 1)?;
            let lost = (first, first + lost_leaves.len() as Seq - 1);
            add_range(&mut self.lost, lost);
            if self.was_changed {
                add_range(&mut self.missing, lost);
            }
            self.firsts.push(first);
            self.leaves.extend(lost_leaves.into_iter().map(|(_, leaf)| leaf));
            return Ok(());
        }
        let left = records.into_iter().filter(|left| self.allows(left)).map(|left| left.record);
        let mut left: Vec<Record> = left.collect();
        // Where it is uncertain which record was written, the first one that its leaf allows counts.
        left.dedup_by_key(|record| record.seq);
        if is_next && self.is_whole(first, left.len()) {
            self.miss_up_to(first - 1)?;
            self.firsts.push(first);
            left.iter().for_each(|record| self.note(record));
            return Ok(());
        }
        for run in left.chunk_by(|one, next| one.seq + 1 == next.seq) {
            self.replace(run)?;
        }
        Ok(())
    }

    /// Returns whether a record that was found is taken.
    fn allows(&self, SalvagedRecord { record, needs_leaf }: &SalvagedRecord) -> bool {
        record.seq > self.head()
            && record.recorded_at >= self.recorded_at
            && self.known.allow(&ArchivedRecord::from(record), *needs_leaf)
    }

    /// Returns whether the block that begins with `first` is as it was written, and all of its
    /// records, `count` of them, are taken.
    fn is_whole(&self, first: Seq, count: usize) -> bool {
        let Ok(bytes) = self.store.block(first) else { return false };
        let Ok(block) = self.store.parse(&bytes, first) else { return false };
        let Ok(records) = block.records() else { return false };
        records.len() == count
            && other_facts(&block, &records).is_ok_and(|others| others.is_empty())
    }

    fn note(&mut self, record: &Record) {
        self.recorded_at = record.recorded_at;
        self.leaves.push(record.leaf());
        if let Some(key) = dedupe_key(record) {
            self.dedupe.insert(key, record.seq);
        }
    }

    /// Makes blocks of consecutive records whose own block is not whole.
    fn replace(&mut self, run: &[Record]) -> io::Result<()> {
        let Some(first) = run.first() else { return Ok(()) };
        self.miss_up_to(first.seq - 1)?;
        let drafts: Vec<Draft> = run.iter().map(draft_of).collect();
        let blocks = block::encode(first.log_id, first.seq, first.recorded_at, &drafts)?;
        self.put(blocks);
        run.iter().for_each(|record| self.note(record));
        Ok(())
    }

    /// Makes blocks of lost records for those up to `last` that were not found.
    fn miss_up_to(&mut self, last: Seq) -> io::Result<()> {
        let first = self.head() + 1;
        if last < first {
            return Ok(());
        }
        let log_id = self.store.log_id();
        let known: Vec<Option<&Hash>> = (first..=last).map(|seq| self.known.vouched(seq)).collect();
        self.every_leaf_is_known &= known.iter().all(Option::is_some);
        let leaf = |(seq, leaf): (Seq, Option<&Hash>)| {
            leaf.copied().unwrap_or_else(|| lost_leaf(log_id, seq))
        };
        let leaves: Vec<Hash> = (first..).zip(known).map(leaf).collect();
        self.put(block::encode_lost(log_id, first, self.recorded_at, &leaves)?);
        self.leaves.extend(leaves);
        add_range(&mut self.lost, (first, last));
        add_range(&mut self.missing, (first, last));
        Ok(())
    }

    fn put(&mut self, blocks: Vec<(Seq, Vec<u8>)>) {
        self.firsts.extend(blocks.iter().map(|(first, _)| *first));
        self.replaced.extend(blocks);
    }
}

fn draft_of(record: &Record) -> Draft {
    let Record { source, proof, event_id, event_type, unusable_at_first, body, .. } =
        record.clone();
    let (event_id, event_type) = (event_id.unwrap_or_default(), event_type.unwrap_or_default());
    let event = Verified::recorded(source, proof, event_id, event_type, unusable_at_first, body);
    Draft { event, salt: record.salt, status: record.status }
}
