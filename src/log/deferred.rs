//! The deferred check: after a start from a snapshot, the records that the snapshot covers are read
//! through the log and checked as a start without one checks them before it opens the store.
//!
//! 1. Each record is compared with its leaf, and each block is added to the chain of metadata. The
//!    tree and the chain were compared with the acknowledged ones at the start, so this finds every
//!    change of a record, and tells if facts or conflicts were changed.
//! 2. Only if the chain differs: the facts are extracted again, and conflicts are compared.
//! 3. Only if the index of the snapshot was wrong: it is put right, but for damaged records.

use rollcall_projections::{Millis, Seq};

use super::block::{Block, Damage};
use super::merkle::{Hash, Nodes};
use super::ranges::Ranges;
use super::recovery::{
    EARLIER, Fault, OTHER_FACTS, RESOLVED_SINCE, check_status, check_unique, dedupe_key,
    lost_since, next_block, other_facts, records_of, resolved,
};
use super::scrub::{FINDINGS_MAX, ScrubFinding};
use super::sled_log::SledLog;
use super::store::Blocks;
use super::{ReadError, Record};

/// The number of records that a step checks: few, since a stop waits for it.
const RECORDS_AT_ONCE: Seq = if cfg!(test) { 4 } else { 256 };

/// The number of bytes of blocks after which a step ends.
const BYTES_AT_ONCE: usize = 4 << 20;

/// The number of steps that may fail in a row because the operating system reports an error. After
/// them the next records count as ones that cannot be read, until a block is read: at most those of
/// one step, before the next waits as after an error.
const TRIES_MAX: u32 = 5;

/// What is wrong with a record that has another leaf.
const OTHER_LEAF: &str = "it is not the record whose leaf is in the tree";

/// How far the deferred check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeferredProgress {
    /// The last record that was compared with its leaf.
    pub position: Seq,
    /// The last record that is to be.
    pub until: Seq,
    /// True once a record was found damaged.
    pub has_found: bool,
    /// The moment at which the check ended.
    pub finished_at: Option<Millis>,
}

/// What a step of the deferred check led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferredStep {
    /// There is more to check.
    GoesOn,
    /// All is checked.
    Ended(DeferredVerdict),
}

/// How the deferred check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferredVerdict {
    /// Every record is as it was acknowledged, or there was none to check.
    Sound,
    /// Every record is, but the snapshot knew others: events that the log has may have been
    /// appended again. The index is right from now on.
    OtherIndex,
    /// Some records are not as they were acknowledged.
    Damaged,
}

/// A part of the deferred check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Leaves,
    Facts,
    Index,
}

/// The check of the first records of a log, which a start took from a snapshot.
pub(super) struct DeferredCheck {
    until: Seq,
    /// The digest of the metadata of all of them, as it was acknowledged.
    expected: Hash,
    stage: Stage,
    after: Seq,
    /// The digest of the metadata so far.
    metadata: Hash,
    /// The stamp of the last block that was found right.
    recorded_at: Millis,
    damaged: Ranges,
    findings: Vec<ScrubFinding>,
    index_differs: bool,
    /// True if the metadata is not that which was acknowledged, although no record is damaged.
    has_other_metadata: bool,
    /// The damaged records that are still in the index.
    indexed: Vec<(Seq, Seq)>,
    /// How many reads have failed since a block was read.
    failed: u32,
    /// Why the records up to this one could not be read; none if a block was read since.
    unreadable: Option<String>,
}

impl From<Fault> for Damage {
    fn from(Fault { first, last, what, .. }: Fault) -> Damage {
        Damage { first, last, what }
    }
}

/// What a stage found in a block.
struct LookedAt {
    last: Seq,
    metadata: Hash,
    /// The stamp of the last block that was found right.
    recorded_at: Millis,
    /// What leaves the index.
    wrong: Vec<Damage>,
    /// Damage to records whose leaves prove their bodies: their events stay in the index.
    kept: Vec<Damage>,
    /// The records that could not be compared with earlier ones.
    uncompared: Vec<Seq>,
    /// The error of the operating system that was the reason for the last of them.
    error: Option<ReadError>,
    index_differs: bool,
}

/// What the tree and the index must have of the records of a block.
struct Unpacked {
    leaves: Vec<Hash>,
    /// That of each record; none if it is lost, or repeats another.
    fingerprints: Vec<Option<u64>>,
}

impl DeferredCheck {
    /// Begins the check of the records up to `until`, whose metadata has this digest.
    pub(super) fn of(until: Seq, expected: Hash) -> DeferredCheck {
        DeferredCheck {
            until,
            expected,
            stage: Stage::Leaves,
            after: 0,
            metadata: [0; 32],
            recorded_at: Millis::MIN,
            damaged: Ranges::default(),
            findings: Vec::new(),
            index_differs: false,
            has_other_metadata: false,
            indexed: Vec::new(),
            failed: 0,
            unreadable: None,
        }
    }

    /// Returns the last record that is checked.
    pub(super) fn until(&self) -> Seq {
        self.until
    }

    /// Returns how far it is.
    pub(super) fn progress(&self) -> DeferredProgress {
        let position = if self.stage == Stage::Leaves { self.after } else { self.until };
        let has_found = !self.damaged.is_empty();
        DeferredProgress { position, until: self.until, has_found, finished_at: None }
    }

    /// Returns the records that are damaged.
    pub(super) fn damaged(&self) -> &Ranges {
        &self.damaged
    }

    /// Returns the first findings.
    pub(super) fn findings(&self) -> &[ScrubFinding] {
        &self.findings
    }

    /// Takes in what was found in a block.
    ///
    /// # Errors
    /// The error of the operating system, if the block is to be looked at again.
    fn take(&mut self, looked: LookedAt) -> Result<(), ReadError> {
        match looked.error {
            Some(error) => {
                let what = self.count(error)?;
                for seq in looked.uncompared {
                    self.keep(Damage { first: seq, last: seq, what: what.clone() });
                }
            }
            None => self.failed = 0,
        }
        self.unreadable = None;
        self.after = looked.last;
        self.metadata = looked.metadata;
        self.recorded_at = looked.recorded_at;
        self.index_differs |= looked.index_differs;
        looked.wrong.into_iter().for_each(|wrong| self.note(wrong));
        looked.kept.into_iter().for_each(|kept| self.keep(kept));
        Ok(())
    }

    /// Notes damage to records, which the index is to forget.
    fn note(&mut self, damage: Damage) {
        self.indexed.push((damage.first, damage.last));
        self.keep(damage);
    }

    fn keep(&mut self, Damage { first, last, what }: Damage) {
        if self.damaged.has(first, last) {
            return;
        }
        self.damaged.add(first, last);
        let is_full = self.findings.len() == FINDINGS_MAX;
        match self.findings.last_mut() {
            Some(before) if before.last + 1 == first && before.what == what => before.last = last,
            _ if is_full => {}
            _ => {
                self.findings.push(ScrubFinding { first, last, what, in_memory: false });
                self.findings.sort_by_key(|finding| finding.first);
            }
        }
    }

    /// Decides what an error of the operating system means: the step is taken again later, for ever
    /// if the process lacks something, and else until the disk has failed often and no block was read.
    /// Returns what is wrong with the records concerned then.
    ///
    /// # Errors
    /// The error, if the step is to be taken again.
    fn count(&mut self, error: ReadError) -> Result<String, ReadError> {
        if error.is_for_want() {
            return Err(error);
        }
        self.failed = self.failed.saturating_add(1);
        if self.failed < TRIES_MAX {
            return Err(error);
        }
        Ok(format!("{error}, at each of {TRIES_MAX} tries"))
    }

    /// Passes over the next record, if the disk has failed often.
    ///
    /// # Errors
    /// The error, if the step is to be taken again.
    fn give_up_on(&mut self, error: ReadError) -> Result<(), ReadError> {
        let (next, what) = (self.after + 1, self.count(error)?);
        // It may be sound, so its event must not be appended again.
        self.keep(Damage { first: next, last: next, what: what.clone() });
        self.after = next;
        self.unreadable = Some(what);
        Ok(())
    }

    /// Passes over the records before `first`, which no block has that was read. Behind a record that
    /// the disk could not read they may be the others of its block, and sound like it.
    fn pass_gap(&mut self, first: Seq) {
        let (next, last) = (self.after + 1, first.saturating_sub(1).min(self.until));
        if last < next {
            return;
        }
        match self.unreadable.clone() {
            Some(what) => self.keep(Damage { first: next, last, what }),
            None => self.note(Damage { first: next, last, what: "it is missing".into() }),
        }
        self.after = last;
    }

    /// Notes what could not be read, and goes on behind it. In a block that begins within the one
    /// before, that are records that were looked at.
    fn pass_over(&mut self, error: &ReadError) {
        let (next, what) = (self.after + 1, error.to_string());
        let seq = match error {
            ReadError::Damaged { seq, .. } => *seq,
            _ if self.unreadable.is_some() => return self.pass_gap(next + 1),
            _ => next,
        };
        if seq < next {
            return self.note(Damage { first: seq, last: self.after, what });
        }
        self.pass_gap(seq);
        (self.unreadable, self.failed) = (None, 0);
        if seq <= self.until {
            self.note(Damage { first: seq, last: seq, what });
            self.after = seq;
        }
    }

    /// Goes on to the next stage once this one is at its end.
    fn next_stage(&mut self) -> DeferredStep {
        if self.after < self.until {
            return DeferredStep::GoesOn;
        }
        let chain_differs = self.metadata != self.expected;
        let next = match self.stage {
            Stage::Leaves if chain_differs => Some(Stage::Facts),
            Stage::Leaves | Stage::Facts if self.index_differs => Some(Stage::Index),
            _ => None,
        };
        if self.stage == Stage::Leaves {
            self.has_other_metadata = chain_differs && self.damaged.is_empty();
        }
        if self.stage == Stage::Facts && self.damaged.is_empty() {
            tracing::warn!("stored facts were rewritten; they match the bodies");
        }
        if let Some(next) = next {
            (self.stage, self.after, self.unreadable, self.failed) = (next, 0, None, 0);
            return DeferredStep::GoesOn;
        }
        DeferredStep::Ended(match (self.damaged.is_empty(), self.index_differs) {
            (false, _) => DeferredVerdict::Damaged,
            (true, true) => DeferredVerdict::OtherIndex,
            (true, false) => DeferredVerdict::Sound,
        })
    }
}

impl SledLog {
    /// Takes a step of the deferred check. What it finds damaged is in the index no more.
    ///
    /// # Errors
    /// If the tree cannot be read, or the operating system reports an error. Then the step is to be
    /// taken again.
    pub(super) fn check_deferred(
        &self,
        check: &mut DeferredCheck,
    ) -> Result<DeferredStep, ReadError> {
        let step = self.take_deferred_step(check);
        self.forget(&std::mem::take(&mut check.indexed));
        step
    }

    fn take_deferred_step(&self, check: &mut DeferredCheck) -> Result<DeferredStep, ReadError> {
        let nodes = self.nodes();
        let until = check.until.min(check.after + RECORDS_AT_ONCE);
        let mut blocks = self.store().blocks_from(check.after + 1);
        let (mut bytes_read, mut given_up) = (0, None);
        loop {
            let next = self.next_to_check(&mut blocks);
            // A block that begins within the last one is read instead of it, and belongs to this step.
            let is_within = match &next {
                Some(Ok((first, _)) | Err(ReadError::Damaged { seq: first, .. })) => {
                    *first <= check.after
                }
                _ => false,
            };
            if !is_within && (check.after >= until || bytes_read >= BYTES_AT_ONCE) {
                break;
            }
            bytes_read +=
                next.as_ref().and_then(|next| next.as_ref().ok()).map_or(0, |(_, b)| b.len());
            let missing = ReadError::Absent { seq: check.after + 1 };
            let looked = next.unwrap_or(Err(missing)).and_then(|(first, bytes)| {
                let block = self.store().parse(&bytes, first)?;
                check.pass_gap(first);
                Ok(self.look_at_block(&block, check, &nodes))
            });
            match looked {
                Ok(looked) => {
                    check.take(looked?)?;
                    given_up = None;
                }
                Err(error) => {
                    match error {
                        ReadError::Disk { code } => {
                            check.give_up_on(error)?;
                            given_up = Some(code);
                        }
                        _ => check.pass_over(&error),
                    }
                    blocks = self.store().blocks_from(check.after + 1);
                }
            }
        }
        match given_up {
            // The disk may be well again later.
            Some(code) if check.after < check.until => Err(ReadError::Disk { code }),
            _ => Ok(check.next_stage()),
        }
    }

    #[cfg(not(test))]
    fn next_to_check(
        &self,
        blocks: &mut impl Iterator<Item = Result<(Seq, Vec<u8>), ReadError>>,
    ) -> Option<Result<(Seq, Vec<u8>), ReadError>> {
        next_block(blocks)
    }

    /// Takes the next of some blocks, or fails as a test wants it.
    #[cfg(test)]
    fn next_to_check(
        &self,
        blocks: &mut impl Iterator<Item = Result<(Seq, Vec<u8>), ReadError>>,
    ) -> Option<Result<(Seq, Vec<u8>), ReadError>> {
        match self.read_faults.lock().pop() {
            Some(code) if code != 0 => Some(Err(ReadError::Disk { code })),
            _ => next_block(blocks),
        }
    }

    /// Looks at a block as the stage of the check wants it.
    ///
    /// # Errors
    /// If the tree cannot be read.
    fn look_at_block(
        &self,
        block: &Block<'_>,
        check: &DeferredCheck,
        nodes: &impl Nodes,
    ) -> Result<LookedAt, ReadError> {
        let (first, last) = (block.first_seq(), block.last_seq().min(check.until));
        let (metadata, recorded_at) = (check.metadata, check.recorded_at);
        let mut looked = LookedAt {
            last,
            metadata,
            recorded_at,
            wrong: Vec::new(),
            kept: Vec::new(),
            uncompared: Vec::new(),
            error: None,
            index_differs: false,
        };
        let next = check.after + 1;
        if first < next {
            let what = "a block begins within the one before".into();
            looked.wrong.push(Damage { first, last, what });
            looked.last = check.after;
            return Ok(looked);
        }
        if first > last {
            // It begins behind the records that are checked.
            return Ok(looked);
        }
        match check.stage {
            Stage::Leaves => self.look_at_leaves(block, nodes, &mut looked)?,
            Stage::Facts => {
                self.look_at_facts(block, &mut looked)?;
                if check.has_other_metadata {
                    looked.kept.extend(resolved_since(block));
                    if block.is_lost() {
                        let what = lost_since(&[(first, last)]);
                        looked.wrong.push(Damage { first, last, what });
                    }
                }
            }
            Stage::Index => self.put_index_right(block, &check.damaged),
        }
        Ok(looked)
    }

    /// Compares the records of a block with their leaves, with the index and with the list of those
    /// that are lost.
    ///
    /// # Errors
    /// If the tree cannot be read.
    fn look_at_leaves(
        &self,
        block: &Block<'_>,
        nodes: &impl Nodes,
        looked: &mut LookedAt,
    ) -> Result<(), ReadError> {
        looked.metadata = block.chained_metadata(&looked.metadata);
        let Unpacked { leaves, fingerprints } = match self.unpack(block) {
            Ok(unpacked) => unpacked,
            Err(wrong) => {
                looked.wrong.extend(wrong);
                return Ok(());
            }
        };
        let indexed = self.dedupe().read().indexed(block.first_seq(), looked.last);
        let fingerprints = fingerprints.into_iter().zip(indexed);
        let within = (block.first_seq()..=looked.last).zip(leaves.iter().zip(fingerprints));
        for (seq, (leaf, (fingerprint, indexed))) in within {
            let what = match (self.knows_as_lost(seq), block.is_lost()) {
                _ if nodes.node(0, seq - 1)? != *leaf => Some(OTHER_LEAF),
                (false, true) => Some("it is lost, and the snapshot of the start has it"),
                (true, false) => Some("the snapshot of the start has it as lost"),
                _ => None,
            };
            let wrong = what.map(|what| Damage { first: seq, last: seq, what: what.into() });
            looked.wrong.extend(wrong);
            looked.index_differs |= indexed != fingerprint;
        }
        if block.recorded_at() < looked.recorded_at {
            let (first, last, what) = (block.first_seq(), looked.last, EARLIER.into());
            looked.wrong.push(Damage { first, last, what });
        }
        if looked.wrong.is_empty() {
            looked.recorded_at = block.recorded_at();
        }
        Ok(())
    }

    /// Unpacks the records of a block.
    ///
    /// # Errors
    /// The damage, if one cannot be unpacked.
    fn unpack(&self, block: &Block<'_>) -> Result<Unpacked, Vec<Damage>> {
        let whole = |what| vec![Damage { first: block.first_seq(), last: block.last_seq(), what }];
        if let Some(leaves) = block.lost_leaves().map_err(whole)? {
            let fingerprints = vec![None; leaves.len()];
            return Ok(Unpacked { leaves, fingerprints });
        }
        let records = block.records().map_err(|what| match block.damage() {
            damage if damage.is_empty() => whole(what),
            damage => damage,
        })?;
        let fingerprint = self.dedupe().read().fingerprinter();
        let keys = records.iter().map(dedupe_key);
        let fingerprints = keys.map(|key| key.map(&fingerprint)).collect();
        let leaves = records.iter().map(Record::leaf).collect();
        Ok(Unpacked { leaves, fingerprints })
    }

    /// Extracts the facts of a block's records again, and compares conflicts and repeats. What cannot
    /// be unpacked is found with the leaves.
    ///
    /// # Errors
    /// If the process lacks something in order to read. Other errors of the operating system are in
    /// what was found.
    fn look_at_facts(&self, block: &Block<'_>, looked: &mut LookedAt) -> Result<(), ReadError> {
        let Ok(records) = records_of(block) else { return Ok(()) };
        match other_facts(block, &records) {
            Err(what) => {
                let (first, last) = (block.first_seq(), block.last_seq());
                looked.kept.push(Damage { first, last, what });
            }
            Ok(others) => {
                let other = |seq| Damage { first: seq, last: seq, what: OTHER_FACTS.into() };
                looked.kept.extend(others.into_iter().map(other));
            }
        }
        let fingerprint = self.dedupe().read().fingerprinter();
        for record in &records {
            let alike = dedupe_key(record).map(&fingerprint);
            let alike = alike.map(|own| self.dedupe().read().with_fingerprint(own));
            let mut earlier = alike.unwrap_or_default();
            earlier.retain(|seq| *seq < record.seq);
            let checked = self
                .check_status(record)
                .and_then(|()| check_unique(self.store(), record.seq, &earlier));
            match checked {
                Ok(()) => {}
                Err(Fault { disk: Some(code), .. }) => {
                    let error = ReadError::Disk { code };
                    if error.is_for_want() {
                        return Err(error);
                    }
                    looked.uncompared.push(record.seq);
                    looked.error = Some(error);
                }
                // The store does not say which record it cannot read.
                Err(Fault { first: 0, what, .. }) => {
                    looked.kept.push(Damage { first: record.seq, last: record.seq, what });
                }
                Err(fault) => looked.wrong.push(fault.into()),
            }
        }
        Ok(())
    }

    #[cfg(not(test))]
    fn check_status(&self, record: &Record) -> Result<(), Fault> {
        check_status(self.store(), record)
    }

    /// Checks the status of a record, or fails for one that does not count as a test wants it.
    #[cfg(test)]
    fn check_status(&self, record: &Record) -> Result<(), Fault> {
        if record.status != rollcall_projections::RecordStatus::Counts
            && let Some(code) = self.earlier_faults.lock().pop()
        {
            return Err(ReadError::Disk { code }.into());
        }
        check_status(self.store(), record)
    }

    /// Indexes the records of a block anew, where the index has something else. What is damaged does
    /// not say under what it was indexed; but a lost record is never indexed, or an event of its
    /// fingerprint would be compared with it, which refuses its batch.
    fn put_index_right(&self, block: &Block<'_>, damaged: &Ranges) {
        let put_right = |seq: Seq, own: Option<u64>| {
            if !self.dedupe().read().is_indexed(seq, own) {
                self.dedupe().write().put_right(seq, own);
            }
        };
        if block.is_lost() {
            (block.first_seq()..=block.last_seq()).for_each(|seq| put_right(seq, None));
            return;
        }
        let Ok(records) = records_of(block) else { return };
        let fingerprint = self.dedupe().read().fingerprinter();
        let sound = records.iter().filter(|record| !damaged.has(record.seq, record.seq));
        sound.for_each(|record| put_right(record.seq, dedupe_key(record).map(&fingerprint)));
    }
}

/// Returns the records of a block that can be used and are kept as ones that could not be used at
/// first, as damage.
fn resolved_since(block: &Block<'_>) -> Vec<Damage> {
    let records = records_of(block).unwrap_or_default();
    let damage = |seq| Damage { first: seq, last: seq, what: RESOLVED_SINCE.into() };
    resolved(&records).map(damage).collect()
}
