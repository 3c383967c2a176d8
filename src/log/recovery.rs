//! The recovery of a log when it is opened: every record is checked once, on all cores.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rollcall_projections::{EventType, Millis, RecordStatus, Seq};

use super::acknowledgement::{Acknowledgement, Slots};
use super::block::{Block, chain_metadata};
use super::dedupe::{Dedupe, DedupeKey};
use super::deferred::DeferredCheck;
use super::kept::{Kept, Prefix};
use super::lanes::{Cores, in_order, in_order_on};
use super::lost_leaves;
use super::merkle::{self, Edge, Hash};
use super::raw::{Harm, RawStore, records};
use super::store::Blocks;
use super::tiles::{Rows, Tiles};
use super::{ReadError, Record, add_range};
use crate::verify::extract_from;

/// What is wrong with a record whose stored facts are others.
pub(super) const OTHER_FACTS: &str = "its facts are not what its body states";

/// What is wrong with records that are stamped before those before them.
pub(super) const EARLIER: &str = "it was recorded before the one before it";

/// What is wrong with records that could not be used at first, which was not said when they were
/// acknowledged: they are left out of the list of events.
pub(super) const RESOLVED_SINCE: &str =
    "it can be used, is kept as one that could not be used at first, and was not acknowledged so";

/// The number of bytes of blocks in one piece of work.
const PIECE_BYTES: usize = 1 << 20;

/// The state of a log after all of its records were checked.
pub(super) struct Recovered {
    pub(super) dedupe: Dedupe,
    /// The stamp of the newest record.
    pub(super) recorded_at: Millis,
    /// The records that name another key for checkpoints.
    pub(super) key_changes: Vec<Record>,
    /// The records that are lost.
    pub(super) lost: Vec<(Seq, Seq)>,
    /// The digest of all metadata: see `Block::chained_metadata`.
    pub(super) metadata: Hash,
    /// The tree over all records.
    pub(super) rows: Rows,
    pub(super) edge: Edge,
    /// The check of the records that were not read; `None` if all were.
    pub(super) deferred: Option<DeferredCheck>,
}

impl Recovered {
    /// Returns the state of a log that has no records yet.
    pub(super) fn nothing() -> Recovered {
        Recovered {
            dedupe: Dedupe::default(),
            recorded_at: Millis::MIN,
            key_changes: Vec::new(),
            lost: Vec::new(),
            metadata: [0; 32],
            rows: Rows::of(Vec::new()),
            edge: Edge::default(),
            deferred: None,
        }
    }
}

/// A block, checked on its own.
struct CheckedBlock {
    first: Seq,
    last: Seq,
    recorded_at: Millis,
    /// The fingerprints under which its records are indexed; a repeat is not.
    fingerprints: Vec<Option<u64>>,
    leaves: Vec<Hash>,
    is_lost: bool,
    key_changes: Vec<Record>,
    metadata: Hash,
    /// A fault that its leaves do not show.
    fault: Option<Fault>,
}

/// Why a log is refused.
pub(super) struct Fault {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) what: String,
    /// True if the tiles contradict the records and no root decides which of the two is right.
    pub(super) disputed: bool,
    /// The code of an error of the operating system, which says nothing about the records.
    pub(super) disk: Option<i32>,
    /// True if it is a reference to a record that is lost, which was there when the reference was
    /// written.
    refers_to_lost: bool,
}

impl Fault {
    fn at(seq: Seq, what: impl Into<String>) -> Fault {
        Fault::among(seq, seq, what)
    }

    fn among(first: Seq, last: Seq, what: impl Into<String>) -> Fault {
        let (disputed, disk, refers_to_lost) = (false, None, false);
        Fault { first, last, what: what.into(), disputed, disk, refers_to_lost }
    }

    fn disputed(seq: Seq, what: String) -> Fault {
        Fault { disputed: true, ..Fault::at(seq, what) }
    }

    /// Returns the fault that concerns the earliest record.
    fn earliest(results: impl IntoIterator<Item = Result<(), Fault>>) -> Result<(), Fault> {
        let faults = results.into_iter().filter_map(Result::err);
        faults.min_by_key(|fault| fault.first).map_or(Ok(()), Err)
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Fault {
        match error {
            ReadError::Damaged { seq, what } => Fault::at(seq, what),
            ReadError::Absent { seq } => Fault::at(seq, "it is missing"),
            ReadError::Lost { seq } => Fault::at(seq, "it is lost"),
            ReadError::Store(what) => Fault::at(0, what),
            ReadError::Disk { code } => {
                Fault { disk: Some(code), ..Fault::at(0, error.to_string()) }
            }
        }
    }
}

/// Takes the next of some blocks.
pub(super) fn next_block(
    blocks: &mut impl Iterator<Item = Result<(Seq, Vec<u8>), ReadError>>,
) -> Option<Result<(Seq, Vec<u8>), ReadError>> {
    // sled may panic when it reads a damaged store.
    catch_unwind(AssertUnwindSafe(|| blocks.next()))
        .unwrap_or_else(|_| Some(Err(ReadError::Store("it panicked while it was read".into()))))
}

/// Groups blocks, in the order of their keys, into pieces of work. Ends where the store cannot be
/// read.
pub(super) fn pieces(
    mut blocks: impl Iterator<Item = Result<(Seq, Vec<u8>), ReadError>> + Send,
) -> impl Iterator<Item = Vec<Result<(Seq, Vec<u8>), ReadError>>> + Send {
    let mut broken = false;
    std::iter::from_fn(move || {
        let (mut piece, mut bytes) = (Vec::new(), 0);
        while bytes < PIECE_BYTES && !broken {
            let Some(block) = next_block(&mut blocks) else { break };
            broken = matches!(block, Err(ReadError::Store(_) | ReadError::Disk { .. }));
            bytes += block.as_ref().map_or(0, |(_, bytes)| bytes.len());
            piece.push(block);
        }
        Some(piece).filter(|piece| !piece.is_empty())
    })
}

/// The pass over all blocks in order.
struct Pass<'a> {
    store: &'a RawStore,
    cores: Cores,
    dedupe: Dedupe,
    recorded_at: Millis,
    key_changes: Vec<Record>,
    lost: Vec<(Seq, Seq)>,
    leaves: Vec<Hash>,
    /// The digest of the metadata so far.
    metadata: Hash,
    /// The number of records that were acknowledged together with a digest of their metadata. Their
    /// facts need not be extracted again if the digest is the same.
    vouched: Seq,
    /// The digest of the metadata of those records as it is now.
    vouched_metadata: Option<Hash>,
}

impl<'a> Pass<'a> {
    fn new(store: &'a RawStore, vouched: Seq, cores: Cores) -> Pass<'a> {
        Pass {
            store,
            cores,
            dedupe: Dedupe::default(),
            recorded_at: Millis::MIN,
            key_changes: Vec::new(),
            lost: Vec::new(),
            leaves: Vec::new(),
            metadata: [0; 32],
            vouched,
            vouched_metadata: None,
        }
    }

    fn head(&self) -> Seq {
        self.leaves.len() as Seq
    }

    /// Notes the digest of the metadata of the records that are vouched for, once it is known.
    fn note_vouched(&mut self) {
        if self.head() == self.vouched {
            self.vouched_metadata = Some(self.metadata);
        }
    }

    /// Takes in every further block, up to the first that is not sound.
    fn run(&mut self, progress: &dyn Fn(Seq)) -> Result<(), Fault> {
        let (store, vouched, mut taken) = (self.store, self.vouched, Ok(()));
        let fingerprint = self.dedupe.fingerprinter();
        let check_piece = |piece: Vec<_>| -> Vec<Result<CheckedBlock, Fault>> {
            piece
                .into_iter()
                .map(|block| check_block(store, block?, vouched, &fingerprint))
                .collect()
        };
        let pieces = pieces(store.blocks_from(self.head() + 1));
        in_order_on(self.cores, pieces, check_piece, |piece| {
            taken = piece.into_iter().try_for_each(|block| self.take(block?));
            progress(self.head());
            if taken.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        taken
    }

    /// Takes in the next block.
    fn take(&mut self, block: CheckedBlock) -> Result<(), Fault> {
        let next = self.head() + 1;
        check_order(&block, next, self.recorded_at)?;
        for (seq, fingerprint) in (next..).zip(block.fingerprints) {
            let Some(fingerprint) = fingerprint else { continue };
            check_unique(self.store, seq, &self.dedupe.with_fingerprint(fingerprint))?;
            self.dedupe.insert_fingerprint(fingerprint, seq);
        }
        self.leaves.extend(block.leaves);
        self.key_changes.extend(block.key_changes);
        if block.is_lost {
            add_range(&mut self.lost, (block.first, block.last));
        }
        self.recorded_at = block.recorded_at;
        self.metadata = chain_metadata(&self.metadata, &block.metadata);
        self.note_vouched();
        block.fault.map_or(Ok(()), Err)
    }
}

/// Checks the store against what was acknowledged, and against the tiles where no acknowledged root
/// vouches for it. The records of a `prefix` that an acknowledged root covers are not read. The others
/// are checked on some cores.
pub(super) fn recover(
    store: &RawStore,
    slots: &Slots,
    tiles: Option<&Tiles>,
    (prefix, cores): (Option<Prefix>, Cores),
    progress: &dyn Fn(Seq),
) -> Result<Recovered, Fault> {
    if let Some(prefix) = prefix {
        match recover_after(prefix, store, slots, tiles, progress) {
            Ok(recovered) => return Ok(recovered),
            Err(Fault { what, .. }) => tracing::warn!(
                why = what,
                "the snapshot does not spare this start the check of its records: all are checked"
            ),
        }
    }
    let newest = slots.newest;
    if newest.is_some_and(|newest| newest.log_id != store.log_id()) {
        return Err(Fault::at(1, "the file `checkpoint` is of another log"));
    }
    let vouched = newest.and_then(|newest| newest.metadata.map(|_| newest.size)).unwrap_or(0);
    let mut pass = Pass::new(store, vouched, cores);
    let taken = pass.run(progress);
    let Pass { dedupe, recorded_at, key_changes, lost, leaves, metadata, vouched_metadata, .. } =
        pass;
    let rows = Rows::of(leaves);
    let cause_of_loss = taken.is_ok().then(|| store.cause_of_loss());
    let undisputed = check_tiles(slots, store.was_closed(), &rows, tiles, cause_of_loss);
    let acknowledged = match newest {
        Some(newest) => {
            let found = Found { rows: &rows, lost: &lost, vouched_metadata, taken };
            check_acknowledged(store, &newest, tiles, found)
        }
        None => taken,
    };
    Fault::earliest([acknowledged, undisputed])?;
    let edge = Edge::of(&rows, rows.leaves().len() as Seq)?;
    Ok(Recovered { dedupe, recorded_at, key_changes, lost, metadata, rows, edge, deferred: None })
}

/// Checks the store as [`recover`] does, but for the records of `prefix`, whose leaves it takes from
/// the tiles. The root and the metadata that were acknowledged cover them too, so they prove what is
/// taken. The records themselves are checked later.
///
/// # Errors
/// What does not fit. Then all records must be checked.
fn recover_after(
    prefix: Prefix,
    store: &RawStore,
    slots: &Slots,
    tiles: Option<&Tiles>,
    progress: &dyn Fn(Seq),
) -> Result<Recovered, Fault> {
    let Prefix { log_id, root, recorded_at, key_changes, kept } = prefix;
    let Kept { seq, metadata, lost, dedupe } = kept;
    let does_not_fit = |what: &str| Fault::at(0, what);
    let covers = |newest: &Acknowledgement| {
        newest.size >= seq && newest.root.is_some() && newest.metadata.is_some()
    };
    let newest = slots.newest.filter(|newest| slots.damaged.is_empty() && covers(newest));
    let newest = newest.ok_or_else(|| does_not_fit("no acknowledged root covers its records"))?;
    if [log_id, newest.log_id] != [store.log_id(); 2] {
        return Err(does_not_fit("it is of another log"));
    }
    if *store.harm() != Harm::default() {
        return Err(does_not_fit("the store's file is damaged or lacks records"));
    }
    let leaves = tiles.map(|tiles| tiles.leaves(seq).ok().flatten()).unwrap_or_default();
    let leaves = leaves.ok_or_else(|| does_not_fit("the tree's tiles lack its records"))?;
    check_stamp(store, seq, recorded_at)?;
    let key_changes = key_changes_of(store, &key_changes, &leaves)?;
    check_lost(store, &lost, &leaves)?;
    let vouched = newest.size;
    let before = Pass::new(store, vouched, Cores::All);
    let mut pass = Pass { dedupe, recorded_at, key_changes, lost, leaves, metadata, ..before };
    pass.note_vouched();
    pass.run(progress)?;
    let Pass { dedupe, recorded_at, key_changes, lost, leaves, vouched_metadata, .. } = pass;
    let (rows, deferred) = (Rows::of(leaves), DeferredCheck::of(seq, metadata));
    let (head, metadata) = (rows.leaves().len() as Seq, pass.metadata);
    if merkle::root(&rows, seq) != Ok(root) {
        return Err(does_not_fit("the tree's tiles lead to another root"));
    }
    if vouched_metadata != newest.metadata {
        return Err(does_not_fit("the facts are not those that were acknowledged"));
    }
    if head != store.last_seq() {
        return Err(does_not_fit("a block does not begin where its records end"));
    }
    check_root(&rows, &newest, tiles, &store.cause_of_loss())?;
    check_tiles(slots, store.was_closed(), &rows, tiles, Some(store.cause_of_loss()))?;
    let edge = Edge::of(&rows, head)?;
    let deferred = Some(deferred);
    Ok(Recovered { dedupe, recorded_at, key_changes, lost, metadata, rows, edge, deferred })
}

/// Reads the records that are said to name another key, and compares them with their leaves.
fn key_changes_of(store: &RawStore, seqs: &[Seq], leaves: &[Hash]) -> Result<Vec<Record>, Fault> {
    let read = |seq: &Seq| {
        let record = store.record(*seq)?;
        let leaf = seq.checked_sub(1).and_then(|at| leaves.get(at as usize));
        match is_key_change(&record) && leaf == Some(&record.leaf()) {
            true => Ok(record),
            false => Err(Fault::at(*seq, "it is not the record that was acknowledged")),
        }
    };
    seqs.iter().map(read).collect()
}

/// Compares what is said to be the stamp of the last of some records with that of its block. Views do
/// not have that of a lost record, which is not before it.
fn check_stamp(store: &RawStore, last: Seq, recorded_at: Millis) -> Result<(), Fault> {
    let fits = |block: &Block<'_>| match block.is_lost() {
        true => Ok(recorded_at <= block.recorded_at()),
        false => Ok(recorded_at == block.recorded_at()),
    };
    match store.with_any_block(last, fits)? {
        true => Ok(()),
        false => Err(Fault::at(0, "its last record has another stamp")),
    }
}

/// Compares the records that are said to be lost with their leaves.
fn check_lost(store: &RawStore, lost: &[(Seq, Seq)], leaves: &[Hash]) -> Result<(), Fault> {
    match store.lost_leaves(lost)? == lost_leaves::among(lost, leaves) {
        true => Ok(()),
        false => Err(Fault::at(0, "other records are lost")),
    }
}

/// What the pass found in a log with an acknowledgement.
struct Found<'a> {
    /// The tree over the records.
    rows: &'a Rows,
    /// The records that are lost.
    lost: &'a [(Seq, Seq)],
    /// The digest of the metadata of the acknowledged records; `None` if no block ends with them.
    vouched_metadata: Option<Hash>,
    /// The fault at which the pass broke off, if it did.
    taken: Result<(), Fault>,
}

/// Returns the earliest fault of a log of which something was acknowledged: one that the pass
/// found, another root, or other facts. If there is none, other metadata means that records were not
/// lost when they were acknowledged, or not kept as ones that could not be used at first.
fn check_acknowledged(
    store: &RawStore,
    newest: &Acknowledgement,
    tiles: Option<&Tiles>,
    found: Found<'_>,
) -> Result<(), Fault> {
    let Found { rows, lost, vouched_metadata, taken } = found;
    let same_metadata =
        newest.size == 0 || newest.metadata.is_none() || vouched_metadata == newest.metadata;
    let same_facts = if same_metadata { Ok(()) } else { check_facts(store, newest.size) };
    let same_records = check_records(store, newest, tiles, (rows, &taken));
    let found = Fault::earliest([same_records, same_facts, taken]);
    let is_of_metadata = !same_metadata && allows_loss(&found);
    // Where the pass broke off, it does not know the digest.
    let (same_lost, same_verdicts) = match is_of_metadata && has_other_metadata(store, newest) {
        true => (refuse_lost(lost, newest.size), refuse_resolved(store, newest.size)),
        false => (Ok(()), Ok(())),
    };
    Fault::earliest([found, same_lost, same_verdicts])?;
    if !same_metadata {
        tracing::warn!("stored facts were rewritten; they match the bodies");
    }
    Ok(())
}

/// Checks that the records are those that were acknowledged, as far as the pass that led to `rows` came.
fn check_records(
    store: &RawStore,
    newest: &Acknowledgement,
    tiles: Option<&Tiles>,
    (rows, taken): (&Rows, &Result<(), Fault>),
) -> Result<(), Fault> {
    match (taken, newest.root) {
        (Ok(()), _) => check_root(rows, newest, tiles, &store.cause_of_loss()),
        // The pass broke off at a fault. Before it, another record may be in the place of one.
        (Err(_), Some(root)) => first_changed(rows, newest.size, &root, tiles).map_or(Ok(()), Err),
        (Err(_), None) => Ok(()),
    }
}

/// Returns whether records that are lost since they were acknowledged would explain what was found.
fn allows_loss(found: &Result<(), Fault>) -> bool {
    found.as_ref().map_or_else(|fault| fault.refers_to_lost, |()| true)
}

/// Refuses lost records among the first `size` of a log whose metadata is not that which was
/// acknowledged. The leaves of a block of lost records lead to the same root as the records; but a log
/// that was restored without some is acknowledged with their blocks, and no log loses one later.
fn refuse_lost(lost: &[(Seq, Seq)], size: Seq) -> Result<(), Fault> {
    let acknowledged = up_to(lost, size);
    let Some(((first, _), (_, last))) = acknowledged.first().zip(acknowledged.last()) else {
        return Ok(());
    };
    Err(Fault::among(*first, *last, lost_since(&acknowledged)))
}

/// Refuses records among the first `size` that can be used and are kept as ones that could not be used
/// at first. Nothing but the metadata says that, which is not that which was acknowledged.
fn refuse_resolved(store: &RawStore, size: Seq) -> Result<(), Fault> {
    for block in store.blocks_from(1) {
        let (first, bytes) = block?;
        if first > size {
            break;
        }
        let records = records_of(&store.parse(&bytes, first)?)?;
        if let Some(seq) = resolved(&records).next() {
            return Err(Fault::at(seq, RESOLVED_SINCE));
        }
    }
    Ok(())
}

/// Returns which of some records can be used and are kept as ones that could not be used at first.
pub(super) fn resolved(records: &[Record]) -> impl Iterator<Item = Seq> {
    let is_usable =
        |record: &&Record| extract_from(&record.proof, &record.body).facts.unusable().is_none();
    let kept = records.iter().filter(|record| record.unusable_at_first.is_some());
    kept.filter(is_usable).map(|record| record.seq)
}

/// Returns which of some records come up to one.
pub(super) fn up_to(records: &[(Seq, Seq)], until: Seq) -> Vec<(Seq, Seq)> {
    let within = records.iter().filter(|(first, _)| *first <= until);
    within.map(|(first, last)| (*first, (*last).min(until))).collect()
}

/// Says what is wrong with records that are lost and were not when they were acknowledged.
pub(super) fn lost_since(lost: &[(Seq, Seq)]) -> String {
    format!("the log has only the leaves of {}, and was not acknowledged so", records(lost))
}

/// Returns whether the log was acknowledged with other metadata than it has, so that a record that is
/// lost, say, may not have been lost then. Reads every block; where the metadata of one is damaged, or blocks
/// are missing, nothing is known.
fn has_other_metadata(store: &RawStore, newest: &Acknowledgement) -> bool {
    let Acknowledgement { size, metadata: Some(expected), .. } = *newest else { return false };
    let (mut last, mut metadata) = (0, [0; 32]);
    let mut blocks = store.blocks_from(1);
    while last < size {
        let Some(Ok((first, bytes))) = blocks.next() else { return false };
        let Ok(block) = store.parse(&bytes, first) else { return false };
        if first != last + 1 || !block.has_whole_metadata() {
            return false;
        }
        (last, metadata) = (block.last_seq(), block.chained_metadata(&metadata));
    }
    size > 0 && (last != size || metadata != expected)
}

/// Returns whether the log was acknowledged with other metadata than it has, and nothing else is wrong
/// with its records: else that is why the metadata differs, and records that are lost may have been
/// lost before. Reads every block, and if the metadata differs, checks every record.
pub(super) fn differs_in_metadata_alone(
    store: &RawStore,
    newest: &Acknowledgement,
    tiles: Option<&Tiles>,
) -> bool {
    if !has_other_metadata(store, newest) {
        return false;
    }
    let mut pass = Pass::new(store, 0, Cores::All);
    let taken = pass.run(&|_| {});
    let rows = Rows::of(pass.leaves);
    let same_records = check_records(store, newest, tiles, (&rows, &taken));
    allows_loss(&Fault::earliest([same_records, taken]))
}

/// Checks that the tiles do not contradict records for which no acknowledged root vouches.
///
/// Tiles are written after the records that they cover are synced, so they never cover more records
/// than there are, whatever breaks off; docs/format.md lists what kills and power cuts leave.
/// `cause_of_loss` is added where records are missing from the end; it is none if the pass did not
/// reach the end.
fn check_tiles(
    slots: &Slots,
    was_closed: bool,
    rows: &Rows,
    tiles: Option<&Tiles>,
    cause_of_loss: Option<String>,
) -> Result<(), Fault> {
    let head = rows.leaves().len() as Seq;
    let rooted = slots.newest.filter(|newest| newest.root.is_some()).map(|newest| newest.size);
    // Beyond a root a power cut may leave anything in the tiles, but only if the slots themselves
    // are intact.
    let is_left_by_a_power_cut = rooted.is_some() && !was_closed && slots.damaged.is_empty();
    let Some(tiles) = tiles else { return Ok(()) };
    // Tiles that cannot be read are reported when they are repaired.
    if !is_left_by_a_power_cut
        && let Some(seq) = tiles.first_mismatch(rows, rooted.unwrap_or(0)).unwrap_or_default()
    {
        let what = format!(
            "the tree's tiles and the records differ from record {seq} on, and no acknowledged \
            root says which is right"
        );
        return Err(Fault::disputed(seq, what));
    }
    let size = tiles.size().unwrap_or_default();
    if let Some(cause) = cause_of_loss.filter(|_| size > head) {
        let what = format!(
            "the tree's tiles know {size} records and {head} are left; the first missing record is \
            {}{cause}",
            head + 1
        );
        return Err(Fault::disputed(head + 1, what));
    }
    Ok(())
}

/// Checks that the stored facts up to record `until` are those that the bodies state.
fn check_facts(store: &RawStore, until: Seq) -> Result<(), Fault> {
    let mut fault = Ok(());
    let check_piece = |piece: Vec<_>| -> Result<Seq, Fault> {
        piece.into_iter().try_fold(0, |_, block| {
            let block = check_block(store, block?, 0, &|_| 0)?;
            block.fault.map_or(Ok(block.last), Err)
        })
    };
    in_order(pieces(store.blocks_from(1)), check_piece, |checked| match checked {
        Ok(last) if last < until => ControlFlow::Continue(()),
        Ok(_) => ControlFlow::Break(()),
        Err(found) => {
            fault = Err(found);
            ControlFlow::Break(())
        }
    });
    fault
}

/// Unpacks a block, hashes its records, and extracts their facts again unless all of them are up to
/// record `vouched`.
fn check_block(
    store: &RawStore,
    (first, bytes): (Seq, Vec<u8>),
    vouched: Seq,
    fingerprint: &impl Fn(DedupeKey<'_>) -> u64,
) -> Result<CheckedBlock, Fault> {
    let block = store.parse(&bytes, first)?;
    let last = block.last_seq();
    let records = records_of(&block)?;
    let lost_leaves = block.lost_leaves().map_err(|what| Fault::among(first, last, what))?;
    let other_facts = match last > vouched {
        true => other_facts(&block, &records).map_err(|what| Fault::among(first, last, what))?,
        false => Vec::new(),
    };
    let fault = other_facts
        .first()
        .map(|seq| Fault::at(*seq, OTHER_FACTS))
        .or_else(|| records.iter().find_map(|record| check_status(store, record).err()));
    Ok(CheckedBlock {
        first,
        last,
        recorded_at: block.recorded_at(),
        fingerprints: records.iter().map(|record| dedupe_key(record).map(fingerprint)).collect(),
        leaves: lost_leaves.unwrap_or_else(|| records.iter().map(Record::leaf).collect()),
        is_lost: block.is_lost(),
        key_changes: records.iter().filter(|record| is_key_change(record)).cloned().collect(),
        metadata: block.own_metadata(),
        fault,
    })
}

/// Unpacks the records of a block.
pub(super) fn records_of(block: &Block<'_>) -> Result<Vec<Record>, Fault> {
    block.records().map_err(|what| match block.damage().into_iter().next() {
        Some(damage) => Fault::among(damage.first, damage.last, damage.what),
        None => Fault::among(block.first_seq(), block.last_seq(), what),
    })
}

/// Returns whether a record names another key for checkpoints.
pub(super) fn is_key_change(record: &Record) -> bool {
    record.event_type.as_deref() == Some(EventType::CheckpointKeyChanged.name())
        && record.status == RecordStatus::Counts
}

/// Returns the key under which a record is indexed; `None` if it repeats one that is.
pub(super) fn dedupe_key(record: &Record) -> Option<DedupeKey<'_>> {
    match (&record.event_id, record.status) {
        (_, RecordStatus::Repeat { .. }) => None,
        (Some(id), RecordStatus::Counts) => Some(DedupeKey::Id(id)),
        (Some(id), RecordStatus::Conflict { .. }) => Some(DedupeKey::Conflict(id, &record.body)),
        (None, _) => Some(DedupeKey::Body(&record.body)),
    }
}

/// Returns the records whose stored facts are not those that their bodies state.
pub(super) fn other_facts(block: &Block<'_>, records: &[Record]) -> Result<Vec<Seq>, String> {
    let mut other = Vec::new();
    let mut rest = records.iter();
    block.stored_facts(|seq, stored| {
        let differs = rest
            .next()
            .is_some_and(|record| extract_from(&record.proof, &record.body).facts != *stored);
        other.extend(differs.then_some(seq));
    })?;
    Ok(other)
}

/// Checks that a record that does not count has the id of an earlier one that does, and not its
/// content; or that it is the same event as an earlier one.
pub(super) fn check_status(store: &impl Blocks, record: &Record) -> Result<(), Fault> {
    let (earlier, name) = match record.status {
        RecordStatus::Counts => return Ok(()),
        RecordStatus::Conflict { first } => (first, "conflict with"),
        RecordStatus::Repeat { of } => (of, "repeat of"),
    };
    let known = (earlier < record.seq).then(|| store.candidate(earlier)).transpose();
    let refers_to_lost = matches!(known, Err(ReadError::Lost { .. }));
    let known = match known {
        Err(error @ ReadError::Disk { .. }) => return Err(error.into()),
        known => known.ok().flatten(),
    };
    let is_so = known.is_some_and(|known| match record.status {
        RecordStatus::Repeat { .. } => known.is_repeated_by(&record.content()),
        _ => known.conflicts_with(&record.content()),
    });
    let what = || format!("it is kept as a {name} record {earlier}, which it is not");
    if is_so { Ok(()) } else { Err(Fault { refers_to_lost, ..Fault::at(record.seq, what()) }) }
}

/// Checks that a record is not the same event as an earlier one with its fingerprint.
pub(super) fn check_unique(
    store: &impl Blocks,
    seq: Seq,
    with_fingerprint: &[Seq],
) -> Result<(), Fault> {
    if with_fingerprint.is_empty() {
        return Ok(());
    }
    let record = store.candidate(seq)?;
    for other in with_fingerprint {
        if store.candidate(*other)?.is_same(&record) {
            return Err(Fault::at(seq, format!("it is the same event as record {other}")));
        }
    }
    Ok(())
}

/// Checks that a block begins with record `next` and is not stamped before the blocks before it.
fn check_order(block: &CheckedBlock, next: Seq, recorded_at: Millis) -> Result<(), Fault> {
    let CheckedBlock { first, last, .. } = *block;
    if first != next {
        return Err(Fault::at(next, format!("record {first} is in its place")));
    }
    if block.recorded_at < recorded_at {
        return Err(Fault::among(first, last, EARLIER));
    }
    Ok(())
}

/// Checks that the log is the acknowledged one, or continues it.
fn check_root(
    rows: &Rows,
    newest: &Acknowledgement,
    tiles: Option<&Tiles>,
    cause_of_loss: &str,
) -> Result<(), Fault> {
    let Acknowledgement { size, leaf, root, .. } = *newest;
    let head = rows.leaves().len() as Seq;
    let missing = || {
        Fault::at(
            head + 1,
            format!("{size} records were acknowledged and {head} are left{cause_of_loss}"),
        )
    };
    if let Some(root) = root.filter(|root| merkle::root(rows, size) != Ok(*root)) {
        let somewhere = match head < size {
            true => missing(),
            false => Fault::among(
                1,
                size,
                format!("the tree over the first {size} records has another root"),
            ),
        };
        return Err(first_changed(rows, size, &root, tiles).unwrap_or(somewhere));
    }
    let last = size.checked_sub(1).map(|index| rows.leaves().get(index as usize));
    match last {
        Some(None) => Err(missing()),
        Some(Some(last)) if *last != leaf => {
            Err(Fault::at(size, "it is not the record that was acknowledged"))
        }
        _ => Ok(()),
    }
}

/// Returns the first record that differs from the acknowledged one, if the tiles themselves lead to
/// the acknowledged root and so know its leaf.
fn first_changed(rows: &Rows, size: Seq, root: &Hash, tiles: Option<&Tiles>) -> Option<Fault> {
    let acknowledged = Rows::of(tiles?.leaves(size).ok()??);
    if merkle::root(&acknowledged, size) != Ok(*root) {
        return None;
    }
    let pairs = rows.leaves().iter().zip(acknowledged.leaves());
    let changed = pairs
        .zip(1..)
        .find_map(|((found, acknowledged), seq)| (found != acknowledged).then_some(seq));
    changed.map(|seq| Fault::at(seq, "it is not the record that was acknowledged"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::super::archive::ArchivedRecord;
    use super::super::dedupe::EventContent;
    use super::super::filling::Filling;
    use super::super::kept::KeptBytes;
    use super::super::{Checked, History, Log, MemoryLog, StoppedFolder, Unrecovered};
    use super::*;
    use crate::keys::ApiKeys;
    use crate::verify::{Act, Keyring, Verified};
    use rollcall_generator::sign;

    const NOW: Millis = 1_760_000_000_000;
    const LOG_ID: [u8; 16] = [7; 16];
    const IDS: u32 = 9;

    fn body(id: u32, content: u32) -> String {
        format!(
            concat!(
                r#"{{"id":"e{id}","event":"x.y","data":{{"content":{content}}},"#,
                r#""created_at":"2025-01-01T00:00:00Z"}}"#,
            ),
            id = id,
            content = content
        )
    }

    /// Returns an event that may be new, a duplicate or a conflict, a body without an id, or a change
    /// of the key.
    fn event(numbers: &mut SmallRng) -> Verified {
        let body = match numbers.random_range(0..10) {
            0 | 2 => {
                let operator = ApiKeys::unrestricted(["sk"]).identify("sk").unwrap();
                let act = Act::CheckpointKeyChanged { from: "a".into(), to: "b".into() };
                return Verified::operator(&operator, &act, None, NOW).unwrap();
            }
            1 => format!("not json {}", numbers.random_range(0..3)),
            _ => body(numbers.random_range(0..IDS), numbers.random_range(0..2)),
        };
        let header = sign("s", NOW, body.as_bytes());
        Verified::webhook(&Keyring::new(["s"], 0), Some(header.as_bytes()), body.into(), NOW)
            .unwrap()
    }

    /// What a snapshot covers.
    struct Covered {
        root: Hash,
        recorded_at: Millis,
        kept: KeptBytes,
    }

    /// Fills a log of which some records are lost and some were repeated, and goes on with it. Returns
    /// what snapshots cover that were made on the way.
    fn fill(folder: &Path, numbers: &mut SmallRng) -> Vec<Covered> {
        let source = MemoryLog::new(LOG_ID);
        for at in 0..12 {
            source.append(vec![event(numbers)], NOW + at).unwrap();
        }
        let mut filling = Filling::begin(folder, LOG_ID, NOW).unwrap();
        for record in &source.read(0, 99, usize::MAX).unwrap() {
            let put = |filling: &mut Filling| filling.put(ArchivedRecord::from(record)).is_ok();
            let is_put = match numbers.random_range(0..4) {
                0 => filling.put_lost(record.leaf()).is_ok(),
                1 => put(&mut filling) && put(&mut filling),
                _ => put(&mut filling),
            };
            assert!(is_put);
        }
        assert!(filling.write_lost().is_ok() && filling.write().is_ok());
        filling.finish(folder).unwrap();
        let log = Unrecovered::open(folder, 16 << 20).unwrap().recover(&|_| {}).unwrap();
        let mut covered = Vec::new();
        for at in 0..numbers.random_range(1..8) {
            let events = (0..numbers.random_range(1..4)).map(|_| event(numbers)).collect();
            let (before, recorded_at) = (log.head(), NOW + 100 + at);
            log.append(events, recorded_at).unwrap();
            // Where all were duplicates, the stamp is that of the batch before.
            if log.head() > before {
                let root = log.root(log.head()).unwrap();
                covered.push(Covered { root, recorded_at, kept: log.keep().unwrap() });
            }
        }
        covered
    }

    /// Returns the records that each event may repeat, or conflict with.
    fn answers(recovered: &Recovered) -> Vec<Vec<Seq>> {
        let head = recovered.edge.size();
        let ids = (0..IDS).flat_map(|id| [0, 1].map(|content| (id, body(id, content))));
        let with_id = ids.map(|(id, body)| (Some(format!("e{id}")), body));
        let without = (0..3).map(|number| (None, format!("not json {number}")));
        let answer = |(id, body): (Option<String>, String)| {
            let (event_id, body) = (id.as_deref(), body.as_bytes());
            let event = EventContent { event_id, copy: false, body };
            let mut seqs = recovered.dedupe.may_repeat(&event, head);
            seqs.sort_unstable();
            seqs
        };
        with_id.chain(without).map(answer).collect()
    }

    #[test]
    fn a_change_of_the_key_that_a_snapshot_leaves_out_is_found_by_a_check_of_every_record() {
        let mut compared = 0;
        for seed in 0..6 {
            let folder = tempfile::tempdir().unwrap();
            let covered = fill(folder.path(), &mut SmallRng::seed_from_u64(seed));
            let Some(Covered { root, recorded_at, kept }) = covered.last() else { continue };
            let whole = StoppedFolder::open(folder.path()).unwrap().check(&|_| {}).ok().unwrap();
            let changes: Vec<Seq> = whole.key_changes.iter().map(|record| record.seq).collect();
            if changes.iter().all(|seq| *seq > kept.seq) {
                continue;
            }
            let (root, recorded_at) = (*root, *recorded_at);
            let kept = Kept::decode(kept.seq, &kept.bytes).unwrap();
            let prefix =
                Prefix { log_id: LOG_ID, root, recorded_at, key_changes: Vec::new(), kept };
            let unrecovered = Unrecovered::open(folder.path(), 16 << 20).unwrap();
            let checked = unrecovered.check_after(Some(prefix), &|_| {}).unwrap();
            let named = |checked: &Checked| -> Vec<Seq> {
                checked.key_changes().iter().map(|record| record.seq).collect()
            };
            assert!(checked.has_spared_records(), "seed {seed}");
            assert_ne!(named(&checked), changes, "seed {seed}");
            let checked = checked.check_all(&|_| {}).unwrap();
            assert!(!checked.has_spared_records(), "seed {seed}");
            assert_eq!(named(&checked), changes, "seed {seed}");
            compared += 1;
        }
        assert!(compared > 0);
    }

    #[test]
    fn a_start_from_a_snapshot_recovers_what_a_check_of_every_record_does() {
        let (mut compared, mut lost, mut key_changes) = (0, 0, 0);
        for seed in 0..6 {
            let mut numbers = SmallRng::seed_from_u64(seed);
            let folder = tempfile::tempdir().unwrap();
            let covered = fill(folder.path(), &mut numbers);
            let stopped = || StoppedFolder::open(folder.path()).unwrap();
            let whole = stopped().check(&|_| {}).ok().unwrap();
            for Covered { root, recorded_at, kept } in &covered {
                let case = format!("seed {seed}, {} of {}", kept.seq, whole.edge.size());
                let changes = whole.key_changes.iter().map(|record| record.seq);
                let kept_index = Kept::decode(kept.seq, &kept.bytes).unwrap();
                let log = stopped().recover(&|_| {}).unwrap();
                assert_eq!(kept_index.is_index_of(&log), Ok(true), "{case}");
                drop(log);
                let prefix = Prefix {
                    log_id: LOG_ID,
                    root: *root,
                    recorded_at: *recorded_at,
                    key_changes: changes.filter(|seq| *seq <= kept.seq).collect(),
                    kept: Kept::decode(kept.seq, &kept.bytes).unwrap(),
                };
                let spared = stopped().check_after(Some(prefix), Cores::All, &|_| {}).ok().unwrap();
                assert!(spared.deferred.is_some() && whole.deferred.is_none(), "{case}");
                assert_eq!(spared.recorded_at, whole.recorded_at, "{case}");
                assert!(spared.key_changes == whole.key_changes, "{case}");
                assert_eq!(spared.lost, whole.lost, "{case}");
                assert_eq!(spared.metadata, whole.metadata, "{case}");
                assert!(spared.rows.leaves() == whole.rows.leaves(), "{case}");
                assert_eq!(spared.edge, whole.edge, "{case}");
                assert_eq!(answers(&spared), answers(&whole), "{case}");
                compared += 1;
            }
            lost += whole.lost.len();
            key_changes += whole.key_changes.len();
        }
        assert!(compared > 6 && lost > 3 && key_changes > 3, "{compared} {lost} {key_changes}");
    }
}
