//! What is looked at whenever a log is opened: every record once, on all cores.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rollcall_projections::{Millis, RecordStatus, Seq};

use super::block::{Block, beside_after};
use super::checkpoint::{Checkpoint, Slots};
use super::dedupe::{Dedupe, Key};
use super::lanes::in_order;
use super::merkle::{self, Edge, Hash};
use super::store::Store;
use super::tiles::{Rows, Tiles};
use super::{ReadError, Record};
use crate::verify::extract_from;

/// So many bytes of blocks are looked at as one piece of work.
const PIECE_BYTES: usize = 1 << 20;

/// What a log is known by once all of it was seen.
pub(super) struct Recovered {
    pub(super) dedupe: Dedupe,
    /// The last stamp.
    pub(super) recorded_at: Millis,
    /// What stands beside the bodies of all blocks.
    pub(super) beside: Hash,
    /// The tree over all records.
    pub(super) rows: Rows,
    pub(super) edge: Edge,
}

/// What a block was found to be.
struct Seen {
    last: Seq,
    recorded_at: Millis,
    prints: Vec<u64>,
    leaves: Vec<Hash>,
    own_beside: Hash,
    /// What is wrong beside the leaves.
    fault: Option<Fault>,
}

/// Why a log is refused.
pub(super) struct Fault {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) what: String,
    /// Whether the tiles contradict the records and nothing says which of the two is right.
    pub(super) disputed: bool,
}

impl Fault {
    fn at(seq: Seq, what: impl Into<String>) -> Fault {
        Fault::among(seq, seq, what)
    }

    fn among(first: Seq, last: Seq, what: impl Into<String>) -> Fault {
        Fault { first, last, what: what.into(), disputed: false }
    }

    fn disputed(seq: Seq, what: String) -> Fault {
        Fault { disputed: true, ..Fault::at(seq, what) }
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Fault {
        match error {
            ReadError::Damaged { seq, what } => Fault::at(seq, what),
            ReadError::Absent { seq } => Fault::at(seq, "it is missing"),
            ReadError::Store(what) => Fault::at(0, what),
        }
    }
}

/// Blocks in the order of their keys, or why one cannot be had, put together to pieces of work.
/// They end where the store cannot be read.
pub(super) fn pieces(
    mut blocks: impl Iterator<Item = Result<(Seq, Vec<u8>), ReadError>> + Send,
) -> impl Iterator<Item = Vec<Result<(Seq, Vec<u8>), ReadError>>> + Send {
    let mut broken = false;
    std::iter::from_fn(move || {
        let (mut piece, mut bytes) = (Vec::new(), 0);
        while bytes < PIECE_BYTES && !broken {
            // A damaged store may panic where it is read.
            let next = catch_unwind(AssertUnwindSafe(|| blocks.next()));
            broken = next.is_err();
            let Some(block) = next.unwrap_or_else(|_| {
                Some(Err(ReadError::Store("it panicked while it was read".into())))
            }) else {
                break;
            };
            broken |= matches!(block, Err(ReadError::Store(_)));
            bytes += block.as_ref().map_or(0, |(_, bytes)| bytes.len());
            piece.push(block);
        }
        Some(piece).filter(|piece| !piece.is_empty())
    })
}

/// What is known of the log so far.
struct Run<'a> {
    store: &'a Store,
    dedupe: Dedupe,
    recorded_at: Millis,
    leaves: Vec<Hash>,
    beside: Hash,
    /// So many records were acknowledged together with what stood beside their bodies, which need
    /// not be extracted again if it is the same.
    vouched: Seq,
    /// What stands beside those now.
    vouched_beside: Option<Hash>,
}

impl Run<'_> {
    /// Takes the next block in.
    fn take(&mut self, (first, seen): (Seq, Seen)) -> Result<(), Fault> {
        let next = self.leaves.len() as Seq + 1;
        follows(first, next, &seen, self.recorded_at)?;
        for (seq, print) in (next..).zip(seen.prints) {
            is_there_once(self.store, seq, &self.dedupe.known(print))?;
            self.dedupe.insert_print(print, seq);
        }
        self.leaves.extend(seen.leaves);
        self.recorded_at = seen.recorded_at;
        self.beside = beside_after(&self.beside, &seen.own_beside);
        if self.leaves.len() as Seq == self.vouched {
            self.vouched_beside = Some(self.beside);
        }
        seen.fault.map_or(Ok(()), Err)
    }
}

/// Looks through the whole store and compares it with what was acknowledged, and with the tiles
/// where no acknowledged root vouches for it.
pub(super) fn look_through(
    store: &Store,
    slots: &Slots,
    tiles: &Tiles,
    progress: &dyn Fn(Seq),
) -> Result<Recovered, Fault> {
    let checkpoint = slots.newest;
    if checkpoint.is_some_and(|checkpoint| checkpoint.log_id != store.log_id) {
        return Err(Fault::at(1, "the checkpoint beside the store is of another log"));
    }
    let vouched =
        checkpoint.and_then(|checkpoint| checkpoint.beside.map(|_| checkpoint.size)).unwrap_or(0);
    let (dedupe, recorded_at, leaves) = (Dedupe::default(), Millis::MIN, Vec::new());
    let mut run =
        Run { store, dedupe, recorded_at, leaves, beside: [0; 32], vouched, vouched_beside: None };
    let (print, mut taken) = (run.dedupe.prints(), Ok(()));
    let look = |piece: Vec<_>| -> Vec<Result<(Seq, Seen), Fault>> {
        piece.into_iter().map(|block| see(store, block?, vouched, &print)).collect()
    };
    in_order(pieces(store.blocks_from(1)), look, |piece| {
        taken = piece.into_iter().try_for_each(|seen| run.take(seen?));
        progress(run.leaves.len() as Seq);
        if taken.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let Run { dedupe, recorded_at, leaves, beside, vouched_beside, .. } = run;
    let rows = Rows::of(leaves);
    let disputed = dispute(
        slots,
        store.was_closed,
        &rows,
        tiles,
        taken.is_ok().then(|| store.cause_of_loss()),
    );
    let judged = match checkpoint {
        Some(checkpoint) => judge(store, &checkpoint, &rows, tiles, taken, vouched_beside),
        None => taken,
    };
    if let Some(fault) =
        [judged, disputed].into_iter().filter_map(Result::err).min_by_key(|fault| fault.first)
    {
        return Err(fault);
    }
    let edge = Edge::of(&rows, rows.leaves().len() as Seq)?;
    Ok(Recovered { dedupe, recorded_at, beside, rows, edge })
}

/// Names the first of all that is wrong with a log of which something was acknowledged: what was
/// seen on the way, another root, and other facts.
fn judge(
    store: &Store,
    checkpoint: &Checkpoint,
    rows: &Rows,
    tiles: &Tiles,
    taken: Result<(), Fault>,
    vouched_beside: Option<Hash>,
) -> Result<(), Fault> {
    let other_root = match (&taken, checkpoint.root) {
        (Ok(()), _) => compare(rows, checkpoint, tiles, &store.cause_of_loss()),
        // Something is wrong further on; what comes before it may be another record in its place.
        (Err(_), Some(root)) => {
            first_changed(rows, checkpoint.size, &root, tiles).map_or(Ok(()), Err)
        }
        (Err(_), None) => Ok(()),
    };
    let same_beside =
        checkpoint.size == 0 || checkpoint.beside.is_none() || vouched_beside == checkpoint.beside;
    let other_facts = if same_beside { Ok(()) } else { extract_again(store, checkpoint.size) };
    let faults = [other_root, other_facts, taken].into_iter().filter_map(Result::err);
    match faults.min_by_key(|fault| fault.first) {
        Some(fault) => Err(fault),
        None if same_beside => Ok(()),
        None => {
            tracing::warn!(
                "what is kept beside the bodies was written anew, and is what the bodies state"
            );
            Ok(())
        }
    }
}

/// Whether the tiles contradict records for which no acknowledged root vouches. Tiles are written
/// after the records that they cover are synced and are never longer than them, whatever breaks
/// off; docs/format.md lists what kills and power cuts leave. Where records are missing from the
/// end `cause_of_loss` is added; none if they could not be looked through to it.
fn dispute(
    slots: &Slots,
    was_closed: bool,
    rows: &Rows,
    tiles: &Tiles,
    cause_of_loss: Option<String>,
) -> Result<(), Fault> {
    let head = rows.leaves().len() as Seq;
    let rooted = slots
        .newest
        .filter(|checkpoint| checkpoint.root.is_some())
        .map(|checkpoint| checkpoint.size);
    // Behind a root tiles may be anything after a power cut, if the slots themselves came through
    // it.
    let is_left_by_a_power_cut = rooted.is_some() && !was_closed && slots.damaged.is_empty();
    // Tiles that cannot be read are told when they are to be set right.
    if !is_left_by_a_power_cut
        && let Some(seq) = tiles.first_other(rows, rooted.unwrap_or(0)).unwrap_or_default()
    {
        let what = format!(
            "the tree's tiles and the records differ from record {seq} on, and no acknowledged root says which is right"
        );
        return Err(Fault::disputed(seq, what));
    }
    let size = tiles.size().unwrap_or_default();
    if let Some(cause) = cause_of_loss.filter(|_| size > head) {
        let what = format!(
            "the tree's tiles know {size} records and {head} are left; the first missing record is {}{cause}",
            head + 1
        );
        return Err(Fault::disputed(head + 1, what));
    }
    Ok(())
}

/// Compares what is kept beside the bodies up to record `until` with what they state.
fn extract_again(store: &Store, until: Seq) -> Result<(), Fault> {
    let mut fault = Ok(());
    let look = |piece: Vec<_>| -> Result<Seq, Fault> {
        piece.into_iter().try_fold(0, |_, block| {
            see(store, block?, 0, &|_| 0)
                .and_then(|(_, seen)| seen.fault.map_or(Ok(seen.last), Err))
        })
    };
    in_order(pieces(store.blocks_from(1)), look, |looked| match looked {
        Ok(last) if last < until => ControlFlow::Continue(()),
        Ok(_) => ControlFlow::Break(()),
        Err(found) => {
            fault = Err(found);
            ControlFlow::Break(())
        }
    });
    fault
}

/// Unpacks a block and hashes its records. The facts up to record `vouched` are not extracted
/// again.
fn see(
    store: &Store,
    (first, bytes): (Seq, Vec<u8>),
    vouched: Seq,
    print: &impl Fn(Key<'_>) -> u64,
) -> Result<(Seq, Seen), Fault> {
    let block = store.parse(&bytes, first)?;
    let records = block.records().map_err(|what| match block.damage().into_iter().next() {
        Some((first, last, what)) => Fault::among(first, last, what),
        None => Fault::among(first, block.last_seq(), what),
    })?;
    let whole = |what| Fault::among(first, block.last_seq(), what);
    let other = if block.last_seq() > vouched {
        first_other_facts(&block, &records).map_err(whole)?
    } else {
        None
    };
    let other = other.map(|seq| Fault::at(seq, "its facts are not what its body states"));
    let fault = other
        .or_else(|| records.iter().find_map(|record| conflicts_as_it_says(store, record).err()));
    let key = |record: &Record| match (&record.event_id, record.status) {
        (Some(id), RecordStatus::Counts) => print(Key::Id(id)),
        (Some(id), RecordStatus::Conflict { .. }) => print(Key::Conflict(id, &record.body)),
        (None, _) => print(Key::Body(&record.body)),
    };
    let (prints, leaves) =
        (records.iter().map(key).collect(), records.iter().map(Record::leaf).collect());
    Ok((
        first,
        Seen {
            last: block.last_seq(),
            recorded_at: block.recorded_at(),
            prints,
            leaves,
            own_beside: block.own_beside(),
            fault,
        },
    ))
}

/// The first record beside whose body other facts are kept than it states.
fn first_other_facts(block: &Block<'_>, records: &[Record]) -> Result<Option<Seq>, String> {
    let mut other = None;
    let mut rest = records.iter();
    block.cached_facts(|seq, cached| {
        let differs = rest
            .next()
            .is_some_and(|record| extract_from(&record.proof, &record.body).facts != *cached);
        other = other.or(differs.then_some(seq));
    })?;
    Ok(other)
}

/// Whether a record that does not count has the id and not the content of one that does.
fn conflicts_as_it_says(store: &Store, record: &Record) -> Result<(), Fault> {
    let RecordStatus::Conflict { first } = record.status else { return Ok(()) };
    let known = if first < record.seq { store.candidate(first).ok() } else { None };
    match known.is_some_and(|known| known.conflicts_with(record.event_id.as_deref(), &record.body))
    {
        true => Ok(()),
        false => Err(Fault::at(
            record.seq,
            format!("it is kept as a conflict with record {first}, which it is not"),
        )),
    }
}

/// Whether a record is another than those that its fingerprint finds: each event is there once.
fn is_there_once(store: &Store, seq: Seq, known: &[Seq]) -> Result<(), Fault> {
    if known.is_empty() {
        return Ok(());
    }
    let record = store.candidate(seq)?;
    for other in known {
        if store.candidate(*other)?.is_same(&record) {
            return Err(Fault::at(seq, format!("it is the same event as record {other}")));
        }
    }
    Ok(())
}

/// Whether a block comes next after those before it.
fn follows(first: Seq, next: Seq, seen: &Seen, recorded_at: Millis) -> Result<(), Fault> {
    if first != next {
        return Err(Fault::at(next, format!("record {first} stands in its place")));
    }
    if seen.recorded_at < recorded_at {
        return Err(Fault::among(first, seen.last, "it was recorded before the one before it"));
    }
    Ok(())
}

/// Whether the log is the one that was acknowledged, or goes on from it.
fn compare(
    rows: &Rows,
    checkpoint: &Checkpoint,
    tiles: &Tiles,
    cause_of_loss: &str,
) -> Result<(), Fault> {
    let Checkpoint { size, leaf, root, .. } = *checkpoint;
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

/// The first record that is another one than was acknowledged: the tiles know it if they themselves
/// lead to the root of that time.
fn first_changed(rows: &Rows, size: Seq, root: &Hash, tiles: &Tiles) -> Option<Fault> {
    let acknowledged = Rows::of(tiles.leaves(size).ok()??);
    if merkle::root(&acknowledged, size) != Ok(*root) {
        return None;
    }
    let pairs = rows.leaves().iter().zip(acknowledged.leaves());
    let changed = pairs
        .zip(1..)
        .find_map(|((found, acknowledged), seq)| (found != acknowledged).then_some(seq));
    changed.map(|seq| Fault::at(seq, "it is not the record that was acknowledged"))
}
