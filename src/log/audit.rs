//! The audit: a scrub of the whole log. It derives everything from the bodies again and compares it
//! with what is stored.
//!
//! Unlike a start it goes on after the first damage, and it changes nothing.

use std::ops::ControlFlow;
use std::slice::from_ref;

use bytes::Bytes;
use rollcall_projections::{Millis, RecordStatus, Seq};

use super::acknowledgement::{Acknowledgement, Slots};
use super::block::{Block, Damage, chain_metadata};
use super::dedupe::{Dedupe, EventContent};
use super::lanes::in_order;
use super::merkle::{self, Hash};
use super::raw::RawStore;
use super::recovery::{
    RESOLVED_SINCE, differs_in_metadata_alone, is_key_change, lost_since, pieces, resolved, up_to,
};
use super::salvage::Leaves;
use super::stopped::end_is_unknown;
use super::store::Blocks;
use super::tiles::{Repair, Rows, Tiles};
use super::{Identity, Outcome, ReadError, Record, add_range};
use crate::verify::{
    Extracted, Facts, Keyring, Proof, Source, extract_from, names_author, names_origin,
    names_request,
};

/// The number of findings about records that are kept. Further ones are only counted.
const FINDINGS_MAX: usize = 20;

/// A fault of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The first record concerned; 0 if no record in particular is.
    pub first: Seq,
    /// The last record concerned.
    pub last: Seq,
    /// The part of the log concerned.
    pub part: LogPart,
    /// A description of the fault.
    pub what: String,
}

impl Finding {
    fn at(seq: Seq, part: LogPart, what: impl Into<String>) -> Finding {
        Finding::among(seq, seq, part, what)
    }

    fn among(first: Seq, last: Seq, part: LogPart, what: impl Into<String>) -> Finding {
        Finding { first, last, part, what: what.into() }
    }

    /// A finding that concerns no record in particular.
    pub(super) fn general(part: LogPart, what: impl Into<String>) -> Finding {
        Finding::at(0, part, what)
    }
}

/// A part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogPart {
    /// The store that holds the records.
    Store,
    /// The bytes of a block.
    Block,
    /// The order of records: gaps, stamps.
    Sequence,
    /// A record in the index: source, id, type.
    Index,
    /// The stored facts.
    Facts,
    /// The status of a record.
    Status,
    /// The proof of its sender.
    Proof,
    /// The leaf of the record in the tree.
    Leaf,
    /// The tiles of the tree.
    Tiles,
    /// The acknowledgement in the file `checkpoint`.
    Acknowledgement,
    /// A signed checkpoint that an auditor holds.
    Checkpoint,
    /// A file that the next start makes again.
    Derived,
    /// Another file of the data folder.
    Files,
    /// The file `unclean`, in which nothing is.
    Marker,
    /// The files of the key that signs checkpoints.
    Key,
    /// The snapshot of the views, which is not what the log folds to.
    Snapshot,
}

impl LogPart {
    /// Returns its name in output.
    pub fn name(self) -> &'static str {
        match self {
            LogPart::Store => "store",
            LogPart::Block => "block",
            LogPart::Sequence => "sequence",
            LogPart::Index => "index",
            LogPart::Facts => "facts",
            LogPart::Status => "standing",
            LogPart::Proof => "proof",
            LogPart::Leaf => "leaf",
            LogPart::Tiles => "tiles",
            LogPart::Acknowledgement => "acknowledgement",
            LogPart::Checkpoint => "checkpoint",
            LogPart::Derived => "derived",
            LogPart::Files | LogPart::Marker => "files",
            LogPart::Key => "key",
            LogPart::Snapshot => "snapshot",
        }
    }
}

/// The signatures of webhooks by the result of their verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signatures {
    /// Signatures that match their bodies.
    pub verified: u64,
    /// Signatures whose secret is not at hand.
    pub key_not_at_hand: u64,
    /// Signatures that do not match their bodies. Each is a finding as well.
    pub wrong: u64,
}

/// The records that no signature proves, by how they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsigned {
    /// The number of operators' acts.
    pub acts: u64,
    /// The number of events that were pulled from a source.
    pub pulled: u64,
    /// The number of observations, and of ends of reconciliations.
    pub observed: u64,
    /// The number of events that were imported from files.
    pub imported: u64,
    /// The number of requests of identity providers, and of the events that they became.
    pub scim: u64,
}

impl Unsigned {
    fn add(&mut self, other: Unsigned) {
        self.acts += other.acts;
        self.pulled += other.pulled;
        self.observed += other.observed;
        self.imported += other.imported;
        self.scim += other.scim;
    }
}

/// The result of comparing the log with the last acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// The log begins with this number of acknowledged records.
    Same(Seq),
    /// The same by the last leaf only: the acknowledgement was written before the tree existed.
    SameLast(Seq),
    /// Other records were acknowledged: see the findings.
    Different,
    /// There is no acknowledgement, so records missing from the end cannot be detected.
    Unknown,
}

/// The result of an audit.
pub struct Audit {
    /// The identity of the log.
    pub identity: Identity,
    /// The number of records that could be read.
    pub records: u64,
    /// The signatures of webhooks, verified again.
    pub signatures: Signatures,
    /// The other records.
    pub unsigned: Unsigned,
    /// The comparison with the file `checkpoint`.
    pub acknowledged: Acknowledged,
    /// True if the tiles are complete; otherwise the next start completes them.
    pub tiles_complete: bool,
    /// True if nothing would show that records are missing from the end.
    pub end_is_unknown: bool,
    /// The first findings, in the order of the records that they concern.
    pub findings: Vec<Finding>,
    /// The number of all findings.
    pub findings_count: u64,
    /// The records that name another key for checkpoints, in order.
    pub key_changes: Vec<Record>,
    /// The records without which the log was restored, as pairs of the first and the last.
    pub lost: Vec<(Seq, Seq)>,
    rows: Rows,
}

impl Audit {
    /// Returns the number of records that could be read from the first on without a gap.
    pub fn size(&self) -> Seq {
        self.rows.leaves().len() as Seq
    }

    /// Returns the tree hash over the first `size` records, computed from their bodies and not read
    /// from any file; `None` past [`Audit::size`]. Some 50 hashes for each 10,000 records.
    pub fn root(&self, size: Seq) -> Option<[u8; 32]> {
        merkle::root(&self.rows, size).ok()
    }

    /// Adds a finding of the caller, such as a signed checkpoint with another root.
    pub fn add(&mut self, finding: Finding) {
        self.findings_count += 1;
        self.findings.push(finding);
        sort(&mut self.findings);
    }

    /// Returns the first record with a finding.
    pub fn first_bad(&self) -> Option<Seq> {
        self.findings.iter().map(|finding| finding.first).filter(|first| *first > 0).min()
    }
}

/// Sorts by the first record concerned; findings that concern no record come last.
fn sort(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| finding.first.wrapping_sub(1));
}

/// A record, inspected on its own.
struct InspectedRecord {
    leaf: Hash,
    event_id: Option<String>,
    copy: bool,
    body: Bytes,
    status: RecordStatus,
}

impl InspectedRecord {
    fn content(&self) -> EventContent<'_> {
        let (event_id, copy) = (self.event_id.as_deref(), self.copy);
        EventContent { event_id, copy, body: &self.body }
    }
}

impl From<Record> for InspectedRecord {
    fn from(record: Record) -> InspectedRecord {
        let (leaf, copy) = (record.leaf(), record.proof.is_copy());
        let Record { event_id, body, status, .. } = record;
        InspectedRecord { leaf, event_id, copy, body, status }
    }
}

/// A block, inspected on its own.
struct InspectedBlock {
    first: Seq,
    recorded_at: Millis,
    /// Its records; none in the place of one that could not be read.
    records: Vec<Option<InspectedRecord>>,
    /// The leaves of its records, if they are lost.
    lost: Vec<Hash>,
    /// The digest of its metadata; `None` if that is damaged.
    metadata: Option<Hash>,
    /// Its records that can be used and are kept as ones that could not be used at first.
    resolved: Vec<Seq>,
    findings: Vec<Finding>,
    key_changes: Vec<Record>,
    signatures: Signatures,
    unsigned: Unsigned,
}

/// Audits the whole store, the file `checkpoint` and the tiles.
pub(super) fn audit(
    store: &RawStore,
    slots: &Slots,
    tiles: Option<&Tiles>,
    keyring: &Keyring,
    progress: &dyn Fn(Seq),
) -> Audit {
    let mut pass = AuditPass::new(store, slots, tiles);
    let inspect_piece = |piece: Vec<Result<(Seq, Vec<u8>), ReadError>>| -> Vec<_> {
        piece
            .into_iter()
            .map(|block| block.and_then(|(first, bytes)| inspect(store, first, &bytes, keyring)))
            .collect()
    };
    in_order(pieces(store.blocks_from(1)), inspect_piece, |piece| {
        for block in piece {
            match block {
                Ok(block) => pass.take(block),
                Err(error) => pass.take_unreadable(error),
            }
        }
        progress(pass.next - 1);
        ControlFlow::Continue(())
    });
    pass.finish()
}

/// Unpacks a block as far as possible and compares its contents with its bodies.
fn inspect(
    store: &RawStore,
    first: Seq,
    bytes: &[u8],
    keyring: &Keyring,
) -> Result<InspectedBlock, ReadError> {
    let block = store.parse(bytes, first)?;
    let mut inspected = InspectedBlock {
        first,
        recorded_at: block.recorded_at(),
        records: Vec::new(),
        lost: block.lost_leaves().ok().flatten().unwrap_or_default(),
        metadata: block.has_whole_metadata().then(|| block.own_metadata()),
        resolved: Vec::new(),
        findings: block_findings(&block),
        key_changes: Vec::new(),
        signatures: Signatures::default(),
        unsigned: Unsigned::default(),
    };
    let records = block.salvage().unwrap_or_else(|what| {
        if inspected.findings.is_empty() {
            inspected.findings.push(Finding::among(first, block.last_seq(), LogPart::Block, what));
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
    inspected.resolved = records.iter().flatten().flat_map(|one| resolved(from_ref(one))).collect();
    let key_changes = records.iter().flatten().filter(|record| is_key_change(record));
    inspected.key_changes = key_changes.cloned().collect();
    inspected.records = records.into_iter().map(|record| record.map(Into::into)).collect();
    Ok(inspected)
}

/// Returns the damaged sections of a block as findings.
fn block_findings(block: &Block<'_>) -> Vec<Finding> {
    let damage = block.damage().into_iter();
    damage
        .map(|Damage { first, last, what }| Finding { first, last, part: LogPart::Block, what })
        .collect()
}

/// Compares the stored facts with those that the bodies state.
fn inspect_facts(
    block: &Block<'_>,
    extracted: &[Option<Extracted<'_>>],
    findings: &mut Vec<Finding>,
) {
    let first = block.first_seq();
    let compare = |seq: Seq, stored: &Facts<'_>| {
        let at = seq.checked_sub(first);
        let extracted = at.and_then(|at| extracted.get(at as usize)?.as_ref());
        if extracted.is_some_and(|extracted| extracted.facts != *stored) {
            let what = "its facts are not what its body states";
            findings.push(Finding::at(seq, LogPart::Facts, what));
        }
    };
    // Facts that cannot be read in a damaged block are already a finding.
    if let Err(what) = block.stored_facts(compare)
        && block.damage().is_empty()
    {
        let what = format!("its facts cannot be read: {what}");
        findings.push(Finding::among(first, block.last_seq(), LogPart::Facts, what));
    }
}

/// The finding about an observation whose body and proof differ.
const OTHER_ORIGIN: &str = "its body names another source, moment or run than its proof";

impl InspectedBlock {
    fn find(&mut self, seq: Seq, part: LogPart, what: &str) {
        self.findings.push(Finding::at(seq, part, what));
    }

    /// Compares a record in the index with its body.
    fn inspect_index(&mut self, record: &Record, extracted: &Extracted<'_>) {
        if record.event_id.as_deref() != extracted.event_id.as_deref() {
            self.find(record.seq, LogPart::Index, "its event id is not the one in its body");
        }
        if record.event_type.as_deref() != extracted.event_type.as_deref() {
            self.find(record.seq, LogPart::Index, "its type is not the one in its body");
        }
    }

    /// Checks the proof of a record again.
    fn inspect_proof(&mut self, record: &Record, keyring: &Keyring) {
        let seq = record.seq;
        match (&record.proof, record.source) {
            (Proof::Webhook { t, v1, key_id }, Source::Workos) => {
                match keyring.check_again(*t, v1, key_id, &record.body) {
                    Some(true) => self.signatures.verified += 1,
                    None => self.signatures.key_not_at_hand += 1,
                    Some(false) => {
                        self.signatures.wrong += 1;
                        self.find(seq, LogPart::Proof, "its signature does not match its body");
                    }
                }
            }
            (Proof::Operator { key_id }, Source::Rollcall) => {
                self.unsigned.acts += 1;
                if !names_author(*key_id, &record.body) {
                    self.find(seq, LogPart::Proof, "its body names another author than its proof");
                }
            }
            (Proof::Pulled { .. }, Source::Workos) => self.unsigned.pulled += 1,
            (Proof::Imported { .. }, Source::Workos) => self.unsigned.imported += 1,
            (Proof::Scim { .. }, Source::Scim) => {
                self.unsigned.scim += 1;
                if !names_request(&record.body) {
                    self.find(seq, LogPart::Proof, "its body names no request of SCIM");
                }
            }
            (Proof::Observed { url, observed_at, run, .. }, Source::Rollcall) => {
                self.unsigned.observed += 1;
                if !names_origin(url, *observed_at, run, &record.body) {
                    self.find(seq, LogPart::Proof, OTHER_ORIGIN);
                }
            }
            _ => {
                self.find(seq, LogPart::Proof, "its proof is of another kind than its source gives")
            }
        }
    }
}

/// The files around the store, compared with the records.
struct ComparedFiles {
    comparison: Acknowledged,
    tiles_complete: bool,
    findings: Vec<Finding>,
}

/// Returns what is wrong with the file `checkpoint` and the tiles of a log whose records were all
/// read before: `rows` is the tree over them. Reads the tiles.
pub(super) fn compare_files(
    store: &RawStore,
    slots: &Slots,
    tiles: Option<&Tiles>,
    rows: &Rows,
) -> Vec<Finding> {
    let mut pass = AuditPass::new(store, slots, tiles);
    for (seq, leaf) in (1..).zip(rows.leaves()) {
        pass.compare_leaf(seq, *leaf);
        pass.next = seq + 1;
    }
    let ComparedFiles { findings, .. } = pass.compare_files(rows);
    pass.findings.into_iter().chain(findings).collect()
}

/// The pass over all blocks in order.
struct AuditPass<'a> {
    store: &'a RawStore,
    slots: &'a Slots,
    tiles: Option<&'a Tiles>,
    /// The leaves in the tiles.
    kept_leaves: Vec<Hash>,
    /// The number of those for which the acknowledged root vouches.
    vouched: Seq,
    /// The records whose leaves differ from those.
    changed: Vec<Seq>,
    dedupe: Dedupe,
    /// The seq that must come next.
    next: Seq,
    /// An unreadable block. It extends to the next readable one.
    open: Option<Finding>,
    recorded_at: Millis,
    /// The digest of all metadata so far; `None` from the first block on that cannot be read or is not
    /// in its place.
    metadata: Option<Hash>,
    /// That of the acknowledged records; `None` if no block ends with them.
    acknowledged_metadata: Option<Hash>,
    /// The records that can be used and are kept as ones that could not be used at first.
    resolved: Vec<(Seq, Seq)>,
    /// The leaves up to the first record that could not be read.
    leaves: Vec<Hash>,
    records: u64,
    signatures: Signatures,
    unsigned: Unsigned,
    key_changes: Vec<Record>,
    lost: Vec<(Seq, Seq)>,
    findings: Vec<Finding>,
    findings_count: u64,
}

impl<'a> AuditPass<'a> {
    fn new(store: &'a RawStore, slots: &'a Slots, tiles: Option<&'a Tiles>) -> AuditPass<'a> {
        let Leaves { kept: kept_leaves, vouched } = Leaves::of(slots, tiles);
        AuditPass {
            store,
            slots,
            tiles,
            kept_leaves,
            vouched: vouched as Seq,
            changed: Vec::new(),
            dedupe: Dedupe::default(),
            next: 1,
            open: None,
            recorded_at: Millis::MIN,
            metadata: Some([0; 32]),
            acknowledged_metadata: None,
            resolved: Vec::new(),
            leaves: Vec::new(),
            records: 0,
            signatures: Signatures::default(),
            unsigned: Unsigned::default(),
            key_changes: Vec::new(),
            lost: Vec::new(),
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

    /// Takes in a block that cannot be read at all.
    fn take_unreadable(&mut self, error: ReadError) {
        let (first, part, what) = match error {
            ReadError::Damaged { seq, what } => (seq, LogPart::Block, what),
            ReadError::Absent { seq } => (seq, LogPart::Sequence, "it is missing".into()),
            ReadError::Lost { seq } => (seq, LogPart::Sequence, "it is lost".into()),
            ReadError::Store(what) => (self.begin_unread(), LogPart::Store, what),
            ReadError::Disk { .. } => (self.begin_unread(), LogPart::Store, error.to_string()),
        };
        self.metadata = None;
        // Further parts of a block whose beginning is damaged add nothing.
        if self.open.is_none() {
            self.open = Some(Finding { first: first.min(self.next), last: first, part, what });
        }
    }

    /// Returns the first of the records that are not read because the store cannot be.
    fn begin_unread(&mut self) -> Seq {
        self.open.take().map_or(self.next, |open| open.first)
    }

    /// Ends an unreadable block before record `until`, or reports missing records.
    fn close(&mut self, until: Seq) {
        if let Some(open) = self.open.take() {
            let last = open.last.max(until.saturating_sub(1)).max(open.first);
            self.find(Finding { last, ..open });
        } else if until > self.next {
            let what = if until == self.next + 1 { "it is missing" } else { "they are missing" };
            self.find(Finding::among(self.next, until - 1, LogPart::Sequence, what));
        }
    }

    /// Takes in the next block.
    fn take(&mut self, block: InspectedBlock) {
        self.close(block.first);
        let before = self.metadata.filter(|_| block.first == self.next).zip(block.metadata);
        self.metadata = before.map(|(before, own)| chain_metadata(&before, &own));
        if block.first < self.next {
            self.find(Finding::at(block.first, LogPart::Sequence, "it is there twice"));
        }
        if block.recorded_at < self.recorded_at {
            let what = "it was recorded before the one before it";
            self.find(Finding::at(block.first, LogPart::Sequence, what));
        }
        self.recorded_at = block.recorded_at.max(self.recorded_at);
        for finding in block.findings {
            self.find(finding);
        }
        self.unsigned.add(block.unsigned);
        self.key_changes.extend(block.key_changes);
        block.resolved.iter().for_each(|seq| add_range(&mut self.resolved, (*seq, *seq)));
        self.signatures.verified += block.signatures.verified;
        self.signatures.key_not_at_hand += block.signatures.key_not_at_hand;
        self.signatures.wrong += block.signatures.wrong;
        for (seq, leaf) in (block.first..).zip(block.lost) {
            add_range(&mut self.lost, (seq, seq));
            self.take_leaf(seq, leaf);
            self.next = self.next.max(seq + 1);
        }
        for (seq, record) in (block.first..).zip(block.records) {
            if let Some(record) = record {
                self.records += 1;
                self.take_leaf(seq, record.leaf);
                self.judge(seq, record.content(), record.status);
            }
            self.next = self.next.max(seq + 1);
        }
        if self.next == self.acknowledged() + 1 {
            self.acknowledged_metadata = self.metadata;
        }
    }

    fn take_leaf(&mut self, seq: Seq, leaf: Hash) {
        if self.leaves.len() == seq.saturating_sub(1) as usize {
            self.leaves.push(leaf);
        }
        self.compare_leaf(seq, leaf);
    }

    fn compare_leaf(&mut self, seq: Seq, leaf: Hash) {
        let at = seq.saturating_sub(1) as usize;
        if self.kept_leaves.get(at).is_some_and(|kept| *kept != leaf) {
            self.changed.push(seq);
        }
    }

    /// Judges the status of a record again, as if it were appended now.
    fn judge(&mut self, seq: Seq, event: EventContent<'_>, status: RecordStatus) {
        let store = self.store;
        let Ok(outcome) = self.dedupe.judge(event, seq, &|seq| store.candidate(seq).map(Some))
        else {
            // An earlier record with its fingerprint cannot be read, which is a finding of its own.
            return;
        };
        if let Some(what) = contradiction(store, outcome, status) {
            self.find(Finding::at(seq, LogPart::Status, what));
        }
    }

    fn finish(mut self) -> Audit {
        let acknowledged = self.acknowledged();
        if let Some(open) = &self.open {
            // The end of an unreadable block with nothing after it is unknown.
            self.next = self.next.max(open.last + 1).max(acknowledged + 1);
        }
        self.close(self.next);
        self.compare_metadata();
        let rows = Rows::of(std::mem::take(&mut self.leaves));
        // These come after the findings about records, of which only the first are kept.
        let ComparedFiles { comparison, tiles_complete, findings: derived } =
            self.compare_files(&rows);
        let end_is_unknown = end_is_unknown(self.slots, self.tiles, self.next - 1);
        let AuditPass {
            store,
            records,
            signatures,
            unsigned,
            key_changes,
            lost,
            mut findings,
            findings_count,
            ..
        } = self;
        let findings_count = findings_count + derived.len() as u64;
        findings.extend(derived);
        sort(&mut findings);
        Audit {
            identity: Identity { log_id: store.log_id(), format: u32::from(super::block::FORMAT) },
            records,
            signatures,
            unsigned,
            acknowledged: comparison,
            tiles_complete,
            end_is_unknown,
            findings,
            findings_count,
            key_changes,
            lost,
            rows,
        }
    }

    /// Compares the metadata with that which was acknowledged. If it is another, and nothing else is
    /// wrong with the records, reports what nothing else says of some: that they are lost, or could
    /// not be used at first.
    fn compare_metadata(&mut self) {
        let Some(newest) = self.slots.newest else { return };
        let (acknowledged, size) = (newest.metadata, newest.size);
        let is_known = self.metadata.is_some() && self.next > size;
        if !is_known || acknowledged.is_none() || acknowledged == self.acknowledged_metadata {
            return;
        }
        let has_none = self.lost.is_empty() && self.resolved.is_empty();
        if has_none || !differs_in_metadata_alone(self.store, &newest, self.tiles) {
            return;
        }
        for (first, last) in up_to(&self.lost, size) {
            let what = lost_since(&[(first, last)]);
            self.find(Finding::among(first, last, LogPart::Acknowledgement, what));
        }
        self.lost.retain(|(_, last)| *last > size);
        for (first, last) in up_to(&std::mem::take(&mut self.resolved), size) {
            self.find(Finding::among(first, last, LogPart::Acknowledgement, RESOLVED_SINCE));
        }
    }

    /// Compares the file `checkpoint` and the tiles with the records.
    fn compare_files(&mut self, rows: &Rows) -> ComparedFiles {
        let mut findings: Vec<Finding> = self.slots.damaged.iter().map(damaged_slot).collect();
        let comparison = self.compare(rows, &mut findings);
        let sound = comparison == Acknowledged::Same(self.acknowledged());
        let tiles_complete = self.compare_tiles(rows, sound, &mut findings);
        ComparedFiles { comparison, tiles_complete, findings }
    }

    /// Returns the number of records that were acknowledged last.
    fn acknowledged(&self) -> Seq {
        self.slots.newest.map_or(0, |newest| newest.size)
    }

    /// Compares the records with what was acknowledged. Tiles that lead to the acknowledged root
    /// tell which record differs.
    fn compare(&mut self, rows: &Rows, derived: &mut Vec<Finding>) -> Acknowledged {
        let head = self.next - 1;
        let Some(newest) = self.slots.newest else {
            if head > 0 {
                let what = "it is missing: records missing from the end cannot be detected";
                derived.push(Finding::general(LogPart::Acknowledgement, what));
            }
            return Acknowledged::Unknown;
        };
        let Acknowledgement { log_id, size, leaf, root, .. } = newest;
        if log_id != self.store.log_id() {
            derived.push(Finding::general(LogPart::Acknowledgement, "it is of another log"));
            return Acknowledged::Different;
        }
        if head < size {
            let cause = self.store.cause_of_loss();
            let what = format!("{size} records were acknowledged and {head} are left{cause}");
            derived.push(Finding::among(head + 1, size, LogPart::Acknowledgement, what));
        }
        let names_changed = self.find_vouched_changes();
        let last = size.checked_sub(1).and_then(|at| rows.leaves().get(at as usize));
        match root {
            Some(root) if merkle::root(rows, size) == Ok(root) => return Acknowledged::Same(size),
            None if size == 0 || last == Some(&leaf) => return Acknowledged::SameLast(size),
            _ => {}
        }
        // Unreadable, missing and changed records are findings already.
        if rows.leaves().len() as Seq >= size && !names_changed {
            derived.push(other_acknowledgement(&newest));
        }
        Acknowledged::Different
    }

    /// Reports the changed records for whose leaves the acknowledged root vouches. Returns whether
    /// there are any.
    fn find_vouched_changes(&mut self) -> bool {
        let vouched = self.vouched;
        let (changed, rest): (Vec<Seq>, _) = self.changed.iter().partition(|seq| **seq <= vouched);
        self.changed = rest;
        for seq in &changed {
            let what = "it is not the record that was acknowledged";
            self.find(Finding::at(*seq, LogPart::Leaf, what));
        }
        !changed.is_empty()
    }

    /// Compares the tiles with the records. Returns whether they are complete. If the log is
    /// `sound`, the tiles are the ones that are wrong.
    fn compare_tiles(&mut self, rows: &Rows, sound: bool, derived: &mut Vec<Finding>) -> bool {
        // A kill may leave fewer leaves than records, and a version without a tree left none.
        let has_root = self.slots.newest.is_some_and(|newest| newest.root.is_some());
        let must_be_whole = self.store.was_closed() && has_root;
        let Some(tiles) = self.tiles else {
            let what = "they are missing: the next start makes them again";
            let is_found = must_be_whole && !rows.leaves().is_empty();
            derived.extend(is_found.then(|| Finding::general(LogPart::Tiles, what)));
            return rows.leaves().is_empty();
        };
        let (acknowledged, known) = (self.acknowledged(), self.kept_leaves.len() as Seq);
        let left = self.next - 1;
        // Acknowledged records that are missing are a finding already.
        let first = left.max(acknowledged) + 1;
        if known >= first {
            let cause = self.store.cause_of_loss();
            let what = format!("they know {known} records and {left} are left{cause}");
            derived.push(Finding::among(first, known, LogPart::Tiles, what));
        }
        // After a record that cannot be read, only leaves are compared.
        let whole = rows.leaves().len() as Seq == left;
        let repair = if whole { tiles.compare(rows) } else { Ok(Repair::Unneeded) };
        let what = match (repair, self.changed.first()) {
            (Err(error), _) => format!("they cannot be read: {error}"),
            (Ok(_), Some(seq)) if sound && *seq <= acknowledged => {
                format!(
                    "they have another leaf for record {seq}, which is sound: the next start \
                    rebuilds them"
                )
            }
            (Ok(_), Some(seq)) => format!(
                "they have another leaf for record {seq}, and no root says which of the two is \
                right"
            ),
            (Ok(Repair::Content), None) if self.vouched == 0 || sound => {
                "they do not match their leaves: the next start rebuilds them".into()
            }
            (Ok(Repair::Length), None) if must_be_whole && known <= left => {
                "they do not end where the records do: the next start completes them".into()
            }
            (Ok(repair), None) => return repair != Repair::Length || known > left,
        };
        let seq = self.changed.first().copied().unwrap_or(0);
        derived.push(Finding::at(seq, LogPart::Tiles, what));
        false
    }
}

/// Returns how the status of a record contradicts the outcome that it has when judged again.
fn contradiction(store: &RawStore, outcome: Outcome, status: RecordStatus) -> Option<String> {
    match (outcome, status) {
        (Outcome::New(_), RecordStatus::Counts) => None,
        (
            Outcome::Conflict { first, duplicate: false, .. },
            RecordStatus::Conflict { first: stored },
        ) if stored == first => None,
        (
            Outcome::Duplicate { seq: first, .. }
            | Outcome::Conflict { seq: first, duplicate: true, .. },
            RecordStatus::Repeat { of },
        ) if of == first => None,
        (
            Outcome::Duplicate { seq: first, .. }
            | Outcome::Conflict { seq: first, duplicate: true, .. },
            _,
        ) => Some(format!("it is the same event as record {first}, which would be appended once")),
        (Outcome::Conflict { first, .. }, _) => Some(format!(
            "it has the id of record {first} and another content, and is not kept as its conflict"
        )),
        // A record that cannot be read is a finding of its own.
        (Outcome::New(_), RecordStatus::Conflict { first }) => store
            .candidate(first)
            .ok()
            .map(|_| format!("it is kept as a conflict with record {first}, and has another id")),
        (Outcome::New(_), RecordStatus::Repeat { of }) => store
            .candidate(of)
            .ok()
            .map(|_| format!("it is kept as a repeat of record {of}, which it is not")),
    }
}

fn damaged_slot(slot: &u64) -> Finding {
    let what =
        format!("slot {slot} of the file `checkpoint` is damaged: it may have been the last");
    Finding::general(LogPart::Acknowledgement, what)
}

/// Returns the finding that other records than these were acknowledged, where no record is known to
/// be the changed one.
fn other_acknowledgement(newest: &Acknowledgement) -> Finding {
    let size = newest.size;
    if newest.root.is_none() {
        let what = "it is not the record that was acknowledged";
        return Finding::at(size, LogPart::Acknowledgement, what);
    }
    let what = format!(
        "the tree over the first {size} records has another root than the one acknowledged"
    );
    Finding::among(1, size, LogPart::Acknowledgement, what)
}
