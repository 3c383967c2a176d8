//! The whole log looked at again, nothing taken for granted: what is stored beside the bodies is
//! made again from them and compared.
//!
//! Unlike a start it goes on after the first damage, and it changes nothing.

use std::ops::ControlFlow;

use bytes::Bytes;
use rollcall_projections::{Millis, RecordStatus, Seq};

use super::block::Block;
use super::checkpoint::{Checkpoint, Slots};
use super::dedupe::Dedupe;
use super::lanes::in_order;
use super::merkle::{self, Hash};
use super::recovery::pieces;
use super::store::Store;
use super::tiles::{Rows, Settled, Tiles};
use super::{Identity, Outcome, ReadError, Record};
use crate::verify::{Extracted, Facts, Keyring, Proof, Source, extract_from, names_author};

/// So many findings are kept of what concerns records; beyond it they are counted.
const FINDINGS_MAX: usize = 20;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The first record concerned; 0: no record in particular.
    pub first: Seq,
    /// The last.
    pub last: Seq,
    /// Which part of the log it is about.
    pub part: Part,
    /// What is wrong with it.
    pub what: String,
}

/// A part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The store that holds the records.
    Store,
    /// The bytes of a block.
    Block,
    /// The order of records: density, stamps.
    Sequence,
    /// A record's line in the index: source, id, type.
    Index,
    /// The facts kept beside the bodies.
    Facts,
    /// Whether a record counts.
    Status,
    /// The proof of who sent it.
    Proof,
    /// The record as the tree knows it.
    Leaf,
    /// The tiles of the tree.
    Tiles,
    /// What was acknowledged, as the file `checkpoint` beside the store has it.
    Acknowledgement,
    /// A signed checkpoint that somebody else has kept.
    Checkpoint,
}

impl Part {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Part::Store => "store",
            Part::Block => "block",
            Part::Sequence => "sequence",
            Part::Index => "index",
            Part::Facts => "facts",
            Part::Status => "standing",
            Part::Proof => "proof",
            Part::Leaf => "leaf",
            Part::Tiles => "tiles",
            Part::Acknowledgement => "acknowledgement",
            Part::Checkpoint => "checkpoint",
        }
    }
}

/// What became of the signatures of webhooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signatures {
    /// They fit the bodies.
    pub verified: u64,
    /// The secret that verified them then is not at hand now.
    pub key_not_at_hand: u64,
    /// They do not fit the bodies: each is a finding as well.
    pub wrong: u64,
}

/// How the log compares with what was acknowledged last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// So many records, and the log begins with them.
    Same(Seq),
    /// So many records by their last leaf: the checkpoint is from before there was a tree.
    SameLast(Seq),
    /// Another log than this: see the findings.
    Different,
    /// There is no checkpoint: nobody can tell whether records are missing from the end.
    Unknown,
}

/// What a whole log was found to be.
pub struct Audit {
    /// Which log it is.
    pub identity: Identity,
    /// Records that could be read.
    pub records: u64,
    /// Signatures of webhooks, checked again.
    pub signatures: Signatures,
    /// Acts of operators.
    pub acts: u64,
    /// How it compares with the checkpoint beside the store.
    pub acknowledged: Acknowledged,
    /// Whether the tiles are complete; if they are not, the next start makes the rest.
    pub tiles_complete: bool,
    /// The first findings, in the order of the records that they concern.
    pub findings: Vec<Finding>,
    /// How many there are in all.
    pub findings_count: u64,
    rows: Rows,
}

impl Audit {
    /// How many records from the first on could be read without a gap.
    pub fn size(&self) -> Seq {
        self.rows.leaves().len() as Seq
    }

    /// The tree hash over the first `size` records as their bodies have it now, not as any file
    /// says; `None` past [`Audit::size`]. Some 50 hashes for each 10,000 records.
    pub fn root(&self, size: Seq) -> Option<[u8; 32]> {
        merkle::root(&self.rows, size).ok()
    }

    /// Adds what somebody else found, such as a signed checkpoint with another root.
    pub fn add(&mut self, finding: Finding) {
        self.findings_count += 1;
        self.findings.push(finding);
        sort(&mut self.findings);
    }

    /// The first record with which something is wrong.
    pub fn first_bad(&self) -> Option<Seq> {
        self.findings.iter().map(|finding| finding.first).filter(|first| *first > 0).min()
    }
}

/// In the order of the records concerned, and at the end those that concern none.
fn sort(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| finding.first.wrapping_sub(1));
}

/// A record, looked at on its own.
struct Inspected {
    /// What it is, if it could be read.
    record: Option<(Hash, Option<String>, Bytes, RecordStatus)>,
}

/// A block, looked at on its own.
struct BlockInspected {
    first: Seq,
    recorded_at: Millis,
    records: Vec<Inspected>,
    findings: Vec<Finding>,
    signatures: Signatures,
    acts: u64,
}

/// Looks at the whole store, and at what lies beside it.
pub(super) fn audit(
    store: &Store,
    slots: &Slots,
    tiles: Option<&Tiles>,
    keyring: &Keyring,
    progress: &dyn Fn(Seq),
) -> Audit {
    let mut pass = Pass::new(store, slots, tiles);
    let work =
        |piece: Vec<Result<(Seq, Vec<u8>), ReadError>>| -> Vec<Result<BlockInspected, ReadError>> {
            piece
                .into_iter()
                .map(|block| {
                    block.and_then(|(first, bytes)| inspect(store, first, &bytes, keyring))
                })
                .collect()
        };
    in_order(pieces(store.blocks_from(1)), work, |piece| {
        for block in piece {
            match block {
                Ok(block) => pass.take(block),
                Err(error) => pass.unreadable(error),
            }
        }
        progress(pass.next - 1);
        ControlFlow::Continue(())
    });
    pass.finish()
}

/// Unpacks a block as far as it goes and compares what is in it with its bodies.
fn inspect(
    store: &Store,
    first: Seq,
    bytes: &[u8],
    keyring: &Keyring,
) -> Result<BlockInspected, ReadError> {
    let block = store.parse(bytes, first)?;
    let mut inspected = BlockInspected {
        first,
        recorded_at: block.recorded_at(),
        records: Vec::new(),
        findings: Vec::new(),
        signatures: Signatures::default(),
        acts: 0,
    };
    let damaged = |(first, last, what)| Finding { first, last, part: Part::Block, what };
    inspected.findings.extend(block.damage().into_iter().map(damaged));
    let records = block.salvage().unwrap_or_else(|what| {
        if inspected.findings.is_empty() {
            inspected.findings.push(damaged((first, block.last_seq(), what)));
        }
        (first..=block.last_seq()).map(|_| None).collect()
    });
    let extracted: Vec<_> = records
        .iter()
        .map(|record| Some(extract_from(&record.as_ref()?.proof, &record.as_ref()?.body)))
        .collect();
    inspect_facts(&block, &extracted, &mut inspected.findings);
    for (record, extracted) in records.iter().flatten().zip(extracted.iter().flatten()) {
        inspected.inspect_index(record, extracted);
        inspected.inspect_proof(record, keyring);
    }
    drop(extracted);
    let known = |record: Record| (record.leaf(), record.event_id, record.body, record.status);
    inspected.records =
        records.into_iter().map(|record| Inspected { record: record.map(known) }).collect();
    Ok(inspected)
}

/// Compares the facts kept beside the bodies with what the bodies state.
fn inspect_facts(
    block: &Block<'_>,
    extracted: &[Option<Extracted<'_>>],
    findings: &mut Vec<Finding>,
) {
    let compare = |seq: Seq, cached: &Facts<'_>| {
        let extracted =
            seq.checked_sub(block.first_seq()).and_then(|at| extracted.get(at as usize)?.as_ref());
        if extracted.is_some_and(|extracted| extracted.facts != *cached) {
            findings.push(Finding {
                first: seq,
                last: seq,
                part: Part::Facts,
                what: "its facts are not what its body states".into(),
            });
        }
    };
    let whole = block.damage().is_empty();
    if let Err(what) =
        block.cached_facts(compare).map_err(|what| format!("its facts cannot be read: {what}"))
        && whole
    {
        findings.push(Finding {
            first: block.first_seq(),
            last: block.last_seq(),
            part: Part::Facts,
            what,
        });
    }
}

impl BlockInspected {
    fn find(&mut self, seq: Seq, part: Part, what: &str) {
        self.findings.push(Finding { first: seq, last: seq, part, what: what.into() });
    }

    /// Compares a record's line in the index with what its body says.
    fn inspect_index(&mut self, record: &Record, extracted: &Extracted<'_>) {
        if record.event_id.as_deref() != extracted.event_id.as_deref() {
            self.find(record.seq, Part::Index, "its event id is not the one in its body");
        }
        if record.event_type.as_deref() != extracted.event_type.as_deref() {
            self.find(record.seq, Part::Index, "its type is not the one in its body");
        }
    }

    /// Checks the proof again.
    fn inspect_proof(&mut self, record: &Record, keyring: &Keyring) {
        match (&record.proof, record.source) {
            (Proof::Webhook { t, v1, key_id }, Source::Workos) => {
                match keyring.check_again(*t, v1, key_id, &record.body) {
                    Some(true) => self.signatures.verified += 1,
                    None => self.signatures.key_not_at_hand += 1,
                    Some(false) => {
                        self.signatures.wrong += 1;
                        self.find(record.seq, Part::Proof, "its signature does not fit its body");
                    }
                }
            }
            (Proof::Operator { key_id }, Source::Rollcall) => {
                self.acts += 1;
                if !names_author(*key_id, &record.body) {
                    self.find(
                        record.seq,
                        Part::Proof,
                        "its body names another author than its proof",
                    );
                }
            }
            _ => self.find(
                record.seq,
                Part::Proof,
                "its proof is not of the kind that its source gives",
            ),
        }
    }
}

/// The pass over all blocks in order.
struct Pass<'a> {
    store: &'a Store,
    slots: &'a Slots,
    tiles: Option<&'a Tiles>,
    /// The leaves that the tiles have.
    kept_leaves: Vec<Hash>,
    /// For so many of them the acknowledged root vouches.
    vouched: Seq,
    /// The records whose leaves are not those.
    changed: Vec<Seq>,
    dedupe: Dedupe,
    /// The seq that must come next.
    next: Seq,
    /// A block that cannot be read reaches up to the next that can.
    open: Option<Finding>,
    recorded_at: Millis,
    /// The leaves up to the first record that could not be read.
    leaves: Vec<Hash>,
    records: u64,
    signatures: Signatures,
    acts: u64,
    findings: Vec<Finding>,
    findings_count: u64,
}

impl<'a> Pass<'a> {
    fn new(store: &'a Store, slots: &'a Slots, tiles: Option<&'a Tiles>) -> Pass<'a> {
        let kept_leaves =
            tiles.and_then(|tiles| tiles.leaves(tiles.size().ok()?).ok()?).unwrap_or_default();
        let vouched = slots.newest.and_then(|Checkpoint { size, root, .. }| {
            let rows = Rows::of(kept_leaves.get(..usize::try_from(size).ok()?)?.to_vec());
            (merkle::root(&rows, size) == Ok(root?)).then_some(size)
        });
        Pass {
            store,
            slots,
            tiles,
            kept_leaves,
            vouched: vouched.unwrap_or(0),
            changed: Vec::new(),
            dedupe: Dedupe::default(),
            next: 1,
            open: None,
            recorded_at: Millis::MIN,
            leaves: Vec::new(),
            records: 0,
            signatures: Signatures::default(),
            acts: 0,
            findings: Vec::new(),
            findings_count: 0,
        }
    }

    fn find(&mut self, finding: Finding) {
        self.findings_count += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// A block that cannot be had at all.
    fn unreadable(&mut self, error: ReadError) {
        let (first, part, what) = match error {
            ReadError::Damaged { seq, what } => (seq, Part::Block, what),
            ReadError::Absent { seq } => (seq, Part::Sequence, "it is missing".into()),
            ReadError::Store(what) => {
                // Nothing is read behind it.
                let first = self.open.take().map_or(self.next, |open| open.first);
                (first, Part::Store, what)
            }
        };
        // The other parts of a block whose beginning is damaged say nothing more.
        if self.open.is_none() {
            self.open = Some(Finding { first: first.min(self.next), last: first, part, what });
        }
    }

    /// Ends what could not be read before record `until`, or says that records are missing.
    fn close(&mut self, until: Seq) {
        if let Some(open) = self.open.take() {
            let last = open.last.max(until.saturating_sub(1)).max(open.first);
            self.find(Finding { last, ..open });
        } else if until > self.next {
            let what = if until == self.next + 1 { "it is missing" } else { "they are missing" };
            self.find(Finding {
                first: self.next,
                last: until - 1,
                part: Part::Sequence,
                what: what.into(),
            });
        }
    }

    /// Takes in the next block.
    fn take(&mut self, block: BlockInspected) {
        self.close(block.first);
        if block.first < self.next {
            let what = "it stands there twice".to_owned();
            self.find(Finding {
                first: block.first,
                last: block.first,
                part: Part::Sequence,
                what,
            });
        }
        if block.recorded_at < self.recorded_at {
            let what = "it was recorded before the one before it".to_owned();
            self.find(Finding {
                first: block.first,
                last: block.first,
                part: Part::Sequence,
                what,
            });
        }
        self.recorded_at = block.recorded_at.max(self.recorded_at);
        for finding in block.findings {
            self.find(finding);
        }
        self.acts += block.acts;
        self.signatures.verified += block.signatures.verified;
        self.signatures.key_not_at_hand += block.signatures.key_not_at_hand;
        self.signatures.wrong += block.signatures.wrong;
        for (seq, Inspected { record }) in (block.first..).zip(block.records) {
            if let Some((leaf, event_id, body, status)) = record {
                self.records += 1;
                self.take_leaf(seq, leaf);
                self.judge(seq, event_id.as_deref(), &body, status);
            }
            self.next = self.next.max(seq + 1);
        }
    }

    fn take_leaf(&mut self, seq: Seq, leaf: Hash) {
        let at = seq.saturating_sub(1) as usize;
        if self.leaves.len() == at {
            self.leaves.push(leaf);
        }
        if self.kept_leaves.get(at).is_some_and(|kept| *kept != leaf) {
            self.changed.push(seq);
        }
    }

    /// Judges again whether a record counts, as if it were appended now.
    fn judge(&mut self, seq: Seq, event_id: Option<&str>, body: &[u8], status: RecordStatus) {
        let store = self.store;
        let Ok(outcome) = self.dedupe.judge(event_id, body, seq, &|seq| store.candidate(seq))
        else {
            // What it might be the same as cannot be read, which is told where that stands.
            return;
        };
        let what = match (outcome, status) {
            (Outcome::New(_), RecordStatus::Counts) => return,
            (
                Outcome::Conflict { first, duplicate: false, .. },
                RecordStatus::Conflict { first: stored },
            ) if stored == first => return,
            (
                Outcome::Duplicate(first) | Outcome::Conflict { seq: first, duplicate: true, .. },
                _,
            ) => {
                format!(
                    "it is the same event as record {first}, which would have been appended once"
                )
            }
            (Outcome::Conflict { first, .. }, _) => {
                format!(
                    "it has the id of record {first} and another content, and is not kept as its conflict"
                )
            }
            // Unless that one cannot be read, which is told where it stands.
            (Outcome::New(_), RecordStatus::Conflict { first })
                if store.candidate(first).is_err() =>
            {
                return;
            }
            (Outcome::New(_), RecordStatus::Conflict { first }) => {
                format!("it is kept as a conflict with record {first}, and has another id")
            }
        };
        self.find(Finding { first: seq, last: seq, part: Part::Status, what });
    }

    fn finish(mut self) -> Audit {
        let acknowledged = self.slots.newest.map_or(0, |checkpoint| checkpoint.size);
        if let Some(open) = &self.open {
            // Nobody can say how far a block reached behind which nothing is left.
            self.next = self.next.max(open.last + 1).max(acknowledged + 1);
        }
        self.close(self.next);
        let head = self.next - 1;
        let rows = Rows::of(std::mem::take(&mut self.leaves));
        let damaged = |slot| {
            (
                Part::Acknowledgement,
                format!(
                    "slot {slot} of the file `checkpoint` is damaged: it may have been the last"
                ),
            )
        };
        let damaged = self.slots.damaged.iter().map(damaged);
        let mut beside: Vec<Finding> =
            damaged.map(|(part, what)| Finding { first: 0, last: 0, part, what }).collect();
        let state = self.compare(&rows, head, &mut beside);
        let sound = state == Acknowledged::Same(acknowledged);
        let tiles_complete = self.compare_tiles(&rows, sound, &mut beside);
        let Pass { store, records, signatures, acts, mut findings, mut findings_count, .. } = self;
        findings_count += beside.len() as u64;
        findings.extend(beside);
        sort(&mut findings);
        let identity = Identity { log_id: store.log_id, format: u32::from(super::block::FORMAT) };
        Audit {
            identity,
            records,
            signatures,
            acts,
            acknowledged: state,
            tiles_complete,
            findings,
            findings_count,
            rows,
        }
    }

    /// Compares the records with what was acknowledged. Tiles that lead to the acknowledged root
    /// say which record is another one.
    fn compare(&mut self, rows: &Rows, head: Seq, beside: &mut Vec<Finding>) -> Acknowledged {
        let Some(&Checkpoint { log_id, size, leaf, root, .. }) = self.slots.newest.as_ref() else {
            if head > 0 {
                let what =
                    "it is missing: nobody can tell whether records are missing from the end"
                        .into();
                beside.push(Finding { first: 0, last: 0, part: Part::Acknowledgement, what });
            }
            return Acknowledged::Unknown;
        };
        if log_id != self.store.log_id {
            beside.push(Finding {
                first: 0,
                last: 0,
                part: Part::Acknowledgement,
                what: "it is of another log".into(),
            });
            return Acknowledged::Different;
        }
        if head < size {
            let what = format!(
                "{size} records were acknowledged and {head} are left{}",
                self.store.cause_of_loss()
            );
            beside.push(Finding { first: head + 1, last: size, part: Part::Acknowledgement, what });
        }
        let (vouched, unvouched): (Vec<Seq>, _) =
            self.changed.iter().partition(|seq| **seq <= self.vouched);
        let told = !vouched.is_empty();
        self.changed = unvouched;
        for seq in vouched {
            let what = "it is not the record that was acknowledged".into();
            self.find(Finding { first: seq, last: seq, part: Part::Leaf, what });
        }
        let last = size.checked_sub(1).and_then(|at| rows.leaves().get(at as usize));
        let same = match root {
            Some(root) => merkle::root(rows, size) == Ok(root),
            None => size == 0 || last == Some(&leaf),
        };
        if same {
            return if root.is_some() {
                Acknowledged::Same(size)
            } else {
                Acknowledged::SameLast(size)
            };
        }
        // Records that cannot be read, or are missing, are told already, and so are those that the
        // tiles know to be others.
        if rows.leaves().len() as Seq >= size && !told {
            let (first, what) = match root {
                Some(_) => (
                    1,
                    format!(
                        "the tree over the first {size} records has another root than the one acknowledged"
                    ),
                ),
                None => (size, "it is not the record that was acknowledged".into()),
            };
            beside.push(Finding { first, last: size, part: Part::Acknowledgement, what });
        }
        Acknowledged::Different
    }

    /// Compares the tiles with the records, and says whether they are complete. Those of a log that
    /// is `sound` were wrong themselves.
    fn compare_tiles(&mut self, rows: &Rows, sound: bool, beside: &mut Vec<Finding>) -> bool {
        let Some(tiles) = self.tiles else { return rows.leaves().is_empty() };
        let (acknowledged, known) = (
            self.slots.newest.map_or(0, |checkpoint| checkpoint.size),
            self.kept_leaves.len() as Seq,
        );
        let left = self.next - 1;
        // What was acknowledged and is missing is told already.
        let first = left.max(acknowledged) + 1;
        if known >= first {
            let what = format!(
                "they know {known} records and {left} are left{}",
                self.store.cause_of_loss()
            );
            beside.push(Finding { first, last: known, part: Part::Tiles, what });
        }
        // What is behind a record that cannot be read is compared leaf by leaf only.
        let whole = rows.leaves().len() as Seq == left;
        let settled = if whole { tiles.compare(rows) } else { Ok(Settled::AsTheyWere) };
        let what = match (settled, self.changed.first()) {
            (Err(error), _) => format!("they cannot be read: {error}"),
            (Ok(_), Some(seq)) if sound && *seq <= acknowledged => {
                format!(
                    "they have another leaf for record {seq}, which is sound: the next start makes them again"
                )
            }
            (Ok(_), Some(seq)) => format!(
                "they have another leaf for record {seq}, and no root says which of the two is right"
            ),
            (Ok(Settled::Corrected), None) if self.vouched == 0 || sound => {
                "they do not fit their leaves: the next start makes them again".into()
            }
            (Ok(settled), None) => return settled != Settled::Completed || known > left,
        };
        let seq = self.changed.first().copied().unwrap_or(0);
        beside.push(Finding { first: seq, last: seq, part: Part::Tiles, what });
        false
    }
}
