//! Attributes of users' snapshots, read from the log as far as the mappings' rules name them.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use rollcall_projections::{AttributePath, Attributes, Entry, Fact, Part, Seq, Views};

use super::GoesOn;
use crate::log::{Log, ReadError};
use crate::verify::AttributeReader;

/// The number of bodies that are read at once.
const CHUNK: usize = 2048;

/// A user's snapshot: its record, its part of the body, and the user's number in the views.
pub(super) type Snapshot = (Seq, Part, u32);

/// The progress of a long read.
#[derive(Debug, Default)]
pub(super) struct ReadProgress {
    /// Items read so far.
    pub(super) read: AtomicU64,
    /// Items to read, as far as is known.
    pub(super) total: AtomicU64,
}

/// Reads the attributes that all mappings name from every snapshot, and installs them in the views.
///
/// # Errors
/// The first record that cannot be read.
pub(super) fn note_all(
    log: &dyn Log,
    views: &mut Views,
    progress: &ReadProgress,
) -> Result<(), ReadError> {
    let mut attributes = views.attributes_wanted();
    if !attributes.is_empty() {
        let snapshots = all_snapshots(|| &*views, 0, views.head());
        progress.total.fetch_add(snapshots.len() as u64, Ordering::Relaxed);
        read_counting(log, &mut attributes, &snapshots, &progress.read, &|| true)?;
        views.install_attributes(attributes);
    }
    Ok(())
}

/// The records whose snapshots are noted in views.
#[derive(Clone, Copy, Default)]
pub(super) struct Noted {
    /// The last of them.
    seq: Seq,
    /// The number of mappings set whose attributes were read from them.
    mappings: usize,
}

impl Noted {
    /// Returns that all snapshots of some views are noted.
    pub(super) fn of(views: &Views) -> Noted {
        Noted { seq: views.head(), mappings: views.mapping_versions() }
    }
}

/// Reads the attributes that all mappings name, as [`note_all`] does: only from the snapshots that
/// are not noted, if no mapping was set since.
///
/// # Errors
/// The first record that cannot be read.
pub(super) fn note_rest(
    log: &dyn Log,
    views: &mut Views,
    noted: Noted,
    progress: &ReadProgress,
) -> Result<(), ReadError> {
    if views.mapping_versions() != noted.mappings {
        return note_all(log, views, progress);
    }
    // A walk over all users finds nothing new behind the head.
    let snapshots = match views.attributes().is_empty() || noted.seq == views.head() {
        true => Vec::new(),
        false => all_snapshots(|| &*views, noted.seq, views.head()),
    };
    if !snapshots.is_empty() {
        let mut attributes = views.attributes().clone();
        read_counting(log, &mut attributes, &snapshots, &progress.read, &|| true)?;
        views.install_attributes(attributes);
    }
    Ok(())
}

/// Returns every snapshot that records `after` + 1 to `until` brought, in order of seq. `views`
/// gives the views for one step: a lock on them is released after it.
pub(super) fn all_snapshots<V: Deref<Target = Views>>(
    views: impl Fn() -> V,
    after: Seq,
    until: Seq,
) -> Vec<Snapshot> {
    let (mut snapshots, mut next) = (Vec::new(), Some(0));
    while let Some(first) = next {
        next = views().all_snapshots_step(after, until, first, &mut snapshots);
    }
    snapshots.sort_unstable_by_key(|(seq, ..)| *seq);
    snapshots
}

/// Reads the attributes of the snapshots on all processors and notes them. `snapshots` are in order
/// of seq. Returns false if it ended before, because `goes_on` is false; the attributes are not
/// whole then.
///
/// # Errors
/// The first record that cannot be read.
pub(super) fn read_attributes(
    log: &dyn Log,
    attributes: &mut Attributes,
    snapshots: &[Snapshot],
    goes_on: GoesOn<'_>,
) -> Result<bool, ReadError> {
    read_counting(log, attributes, snapshots, &AtomicU64::new(0), goes_on)
}

/// Does the same, and adds to `read` the number of snapshots as they are read.
fn read_counting(
    log: &dyn Log,
    attributes: &mut Attributes,
    snapshots: &[Snapshot],
    read: &AtomicU64,
    goes_on: GoesOn<'_>,
) -> Result<bool, ReadError> {
    if attributes.is_empty() {
        return Ok(true);
    }
    let paths = attributes.paths().to_vec();
    let chunks: Vec<&[Snapshot]> = snapshots.chunks(CHUNK).collect();
    let next = AtomicUsize::new(0);
    let halted = AtomicBool::new(false);
    let take = || {
        halted.fetch_or(!goes_on(), Ordering::Relaxed);
        let next = next.fetch_add(1, Ordering::Relaxed);
        chunks.get(next).filter(|_| !halted.load(Ordering::Relaxed)).copied()
    };
    let work = || read_chunks(log, &paths, &take, read);
    let workers = thread::available_parallelism().map_or(1, usize::from).min(chunks.len());
    let found = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| {
            worker.join().unwrap_or_else(|_| Err(ReadError::Store("a reader panicked".into())))
        });
        joined.collect::<Result<Vec<_>, ReadError>>()
    })?;
    for ((seq, part, user), keys) in found.into_iter().flatten() {
        attributes.note(seq, part, user, &keys);
    }
    Ok(!halted.into_inner())
}

/// The snapshots that have values which rules name, with the numbers of these values.
type ValuesFound = Vec<(Snapshot, Vec<u32>)>;

/// Reads one chunk after another, together with other workers: `take` gives the next one.
fn read_chunks<'a>(
    log: &dyn Log,
    paths: &[AttributePath],
    take: &impl Fn() -> Option<&'a [Snapshot]>,
    read: &AtomicU64,
) -> Result<ValuesFound, ReadError> {
    let reader = AttributeReader::new(paths);
    let mut found = Vec::new();
    while let Some(chunk) = take() {
        let seqs: Vec<Seq> = chunk.iter().map(|(seq, ..)| *seq).collect();
        for (snapshot, body) in chunk.iter().zip(log.bodies(&seqs)?) {
            let keys = reader.read(&body, snapshot.1);
            if !keys.is_empty() {
                found.push((*snapshot, keys));
            }
        }
        read.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
    Ok(found)
}

/// The users' snapshots among the records of one fold.
#[derive(Default)]
pub(super) struct Fresh(Vec<FreshSnapshot>);

/// A user's snapshot that is being folded: the user has no number yet.
struct FreshSnapshot {
    seq: Seq,
    part: Part,
    user: String,
}

impl Fresh {
    /// Keeps the user's snapshot of a record, if it has one.
    pub(super) fn collect(&mut self, entry: &Entry<'_>) {
        let (part, user) = match &entry.fact {
            Fact::User(_, user) if entry.observed_at.is_some() => (Part::Object, user.id),
            Fact::User(_, user) => (Part::Data, user.id),
            Fact::Membership(membership) => (Part::User, membership.user.id),
            _ => return,
        };
        self.0.push(FreshSnapshot { seq: entry.seq, part, user: user.to_owned() });
    }

    /// Reads the attributes of these snapshots and notes them.
    ///
    /// # Errors
    /// The first record that cannot be read.
    pub(super) fn note(self, log: &dyn Log, views: &mut Views) -> Result<(), ReadError> {
        let paths = views.attributes().paths().to_vec();
        let reader = AttributeReader::new(&paths);
        let seqs: Vec<Seq> = self.0.iter().map(|snapshot| snapshot.seq).collect();
        for (snapshot, body) in self.0.iter().zip(log.bodies(&seqs)?) {
            let FreshSnapshot { seq, part, user } = snapshot;
            views.note_attributes(*seq, *part, user, &reader.read(&body, *part));
        }
        Ok(())
    }
}
