//! The raw reader: reads sled's file without sled, and changes nothing.
//!
//! sled cuts its file off at the first damage when it opens it. This reader goes on behind the
//! damage instead, since the records that were written later are still there, and since most
//! records are in the file more than once: sled writes a page again after a few changes.
//! It needs neither `conf` nor snapshots, and works on a read-only disk.
//!
//! It reads the format of sled 0.34.7, which is frozen: docs/format.md has what it needs of it.
//! While a store is whole it returns exactly the blocks that sled would, also after a kill.

mod live;
mod page;
mod scan;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rollcall_projections::Seq;

use super::block::{self, FORMAT};
use super::disk::read_again;
use super::merkle::Hash;
use super::store::{Blocks, StoreError, forget_cached_pages};
use super::{LogId, ReadError, Record};
use crate::files;
use scan::{Found, OUTSIDE, Scan, Sighting, is_sound, keep_best};

pub(super) use live::{DamagedPlace, LiveHarm, LivePages, look_at_segment};
pub use scan::DamagedBytes;
pub(super) use scan::{Placed, Segments};
pub(super) use segment::SEGMENT_BYTES;

/// The number of ways to put a block together that are tried, if the places of its parts are
/// uncertain.
const TRIES_MAX: usize = 64;

/// The number of places at the end of the index that may be of the last block.
const PLACES_OF_LAST: usize = 4096;

/// The number of places that a message names.
const LISTED_MAX: usize = 5;

/// The blocks of a store, read from sled's file without sled.
pub(super) struct RawStore {
    log_id: LogId,
    was_closed: bool,
    file: File,
    /// The files with large messages.
    outside: Vec<PathBuf>,
    /// The places of all values, sorted by key; the best place of each comes first.
    index: Vec<Sighting>,
    harm: Harm,
    torn_at: Option<u64>,
    /// Holds the data folder's lock, if it has one.
    _lock: Option<File>,
}

/// What is left of a block of a damaged store.
pub(super) struct SalvagedBlock {
    /// Its records in order; several of one seq if it is uncertain which one was written.
    pub(super) records: Vec<SalvagedRecord>,
    /// The leaves of its records, if those are lost.
    pub(super) lost_leaves: Vec<(Seq, Hash)>,
}

/// A record of a damaged store.
pub(super) struct SalvagedRecord {
    pub(super) record: Record,
    /// True if the bytes around it do not say that there must be a record in its place, so that it
    /// may be part of a body that was made to look like a record.
    pub(super) needs_leaf: bool,
}

/// What is known of a store from other files.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// The number of records that were on the disk for certain.
    pub(super) size: Seq,
    /// The name of the log.
    pub(super) log_id: Option<LogId>,
}

/// The damage to a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Harm {
    /// Damaged bytes of `store/db`.
    pub damaged: Vec<DamagedBytes>,
    /// Records that were on the disk and that sled would not find.
    pub hidden: Vec<(Seq, Seq)>,
    /// Those of them that this reader does not find either.
    pub missing: Vec<(Seq, Seq)>,
    /// True if sled would cut off or lose something that was on the disk.
    pub is_harmful: bool,
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self
            .damaged
            .iter()
            .map(|damaged| format!("bytes {} to {}", damaged.bytes.start, damaged.bytes.end - 1));
        match self.damaged.is_empty() {
            true => write!(f, "its file `store/db` lacks records that were on the disk")?,
            false => write!(f, "its file `store/db` is damaged: {}", few(places))?,
        }
        match self.hidden.is_empty() {
            true => write!(f, "; every record can be read")?,
            false => write!(f, "; opening it would lose {}", records(&self.hidden))?,
        }
        match (self.missing.is_empty(), self.missing == self.hidden) {
            (true, false) => write!(f, ", all of which can be read"),
            (false, false) => write!(f, ", of which {} cannot be read", records(&self.missing)),
            (_, true) => Ok(()),
        }
    }
}

/// Names some records.
pub fn records(ranges: &[(Seq, Seq)]) -> String {
    let name = |(first, last): &(Seq, Seq)| match first == last {
        true => format!("record {first}"),
        false => format!("records {first} to {last}"),
    };
    few(ranges.iter().map(name))
}

/// Returns the number of records in ranges that do not overlap.
pub fn seqs_in(ranges: &[(Seq, Seq)]) -> u64 {
    ranges.iter().map(|(first, last)| last - first + 1).sum()
}

/// Lists a few things, and says how many more there are.
fn few(mut things: impl ExactSizeIterator<Item = String>) -> String {
    let listed: Vec<String> = things.by_ref().take(LISTED_MAX).collect();
    match things.len() {
        0 => listed.join(", "),
        more => format!("{}, and {more} more places", listed.join(", ")),
    }
}

impl RawStore {
    /// Reads the whole file of the store in the data folder `folder` once. Takes the folder's lock,
    /// if the folder has one.
    pub(super) fn open(folder: &Path, known: Known) -> Result<RawStore, StoreError> {
        let lock = lock_for_reading(folder)?;
        Ok(RawStore { _lock: lock, ..RawStore::open_locked(folder, known)? })
    }

    /// Reads the whole file of the store in a data folder that the caller has locked.
    pub(super) fn open_locked(folder: &Path, known: Known) -> Result<RawStore, StoreError> {
        let Known { size: expected, log_id: named } = known;
        let was_closed = fs::symlink_metadata(folder.join("unclean")).is_err();
        if !was_closed {
            forget_cached_pages(&folder.join("store"))?;
        }
        let file = files::open(&folder.join("store").join("db")).map_err(|error| {
            match files::is_not_a_file(&error) {
                true => StoreError::Damaged(format!("`store/db`: {error}")),
                false => error.into(),
            }
        })?;
        let Scan { sightings, identity, cut, damaged, torn, outside, unstable } =
            Scan::of(&file, &folder.join("store").join("blobs"))?;
        let log_id = match (identity, named) {
            (Some(identity), _) => log_id(&identity)?,
            (None, Some(named)) => named,
            (None, None) if sightings.is_empty() && damaged.is_empty() => {
                return Err(StoreError::Unnamed);
            }
            (None, None) => log_id_of_blocks(&file, &sightings)?,
        };
        // Where nothing says how many records there were, those behind damage say it.
        let expected = match named.is_none() && expected == 0 && !damaged.is_empty() {
            true => last_of(&sightings),
            false => expected,
        };
        let hidden = gaps(&visible(&sightings, cut), expected, |_| true);
        let index = index(sightings, cut, expected);
        let is_cut_short = !hidden.is_empty() && (torn.is_some() || !damaged.is_empty());
        let is_harmful = is_cut_short || damaged.iter().any(|damaged| damaged.position < unstable);
        let harm = Harm { damaged, hidden, missing: Vec::new(), is_harmful };
        let torn_at = torn.map(|torn| torn.start);
        let mut store =
            RawStore { log_id, was_closed, file, outside, index, harm, torn_at, _lock: None };
        store.harm.missing = gaps(&store.index, expected, |first| store.is_sound(first));
        Ok(store)
    }

    /// Returns the damage to the store.
    pub(super) fn harm(&self) -> &Harm {
        &self.harm
    }

    /// Returns the last block's first record by its key; 0 if there is none.
    pub(super) fn last_key(&self) -> Seq {
        self.index.last().map_or(0, |last| Seq::from(last.seq))
    }

    /// Returns the last record of the last block.
    pub(super) fn last_seq(&self) -> Seq {
        let from = self.index.len().saturating_sub(PLACES_OF_LAST);
        last_of(self.index.get(from..).unwrap_or_default())
    }

    /// Returns the first record of each block, in order.
    pub(super) fn firsts(&self) -> impl Iterator<Item = Seq> {
        let blocks = self.index.chunk_by(|one, other| one.seq == other.seq);
        blocks.filter_map(|block| block.first()).map(|place| Seq::from(place.seq))
    }

    /// Reads what is left of the block that begins with `first`: every record whose own bytes are
    /// whole, from whatever place of the block, in order.
    pub(super) fn salvaged(&self, first: Seq) -> SalvagedBlock {
        let places = self.places(first);
        let is_certain = places.iter().all(|place| place.found >= Found::AfterDamage);
        let needs_leaf = places.iter().any(|place| place.found <= Found::ByItself);
        let mut records: BTreeMap<Seq, Vec<SalvagedRecord>> = BTreeMap::new();
        let mut lost_leaves = Vec::new();
        for attempt in 0..if is_certain { 1 } else { TRIES_MAX } {
            let Ok(bytes) = self.put_together(first, places, attempt) else { continue };
            let Ok(block) = self.parse(&bytes, first) else { continue };
            for record in block.salvage().unwrap_or_default().into_iter().flatten() {
                let known = records.entry(record.seq).or_default();
                if known.iter().all(|other| other.record != record) {
                    known.push(SalvagedRecord { record, needs_leaf });
                }
            }
            // What may be part of a body says of no record that it is lost.
            if let (false, Ok(Some(leaves))) = (needs_leaf, block.lost_leaves()) {
                lost_leaves = (first..).zip(leaves).collect();
            }
        }
        SalvagedBlock { records: records.into_values().flatten().collect(), lost_leaves }
    }

    /// Returns true if the last process that wrote to it closed it in order.
    pub(super) fn was_closed(&self) -> bool {
        self.was_closed
    }

    /// Returns what to add to a message that records are missing from the end.
    pub(super) fn cause_of_loss(&self) -> String {
        let bytes = self.harm.damaged.first().map(|damaged| damaged.bytes.start).or(self.torn_at);
        let cause = |at| {
            format!(
                "; the store's file is damaged at byte {at}: damage there, not deletion, may be \
                the cause"
            )
        };
        bytes.map(cause).unwrap_or_default()
    }

    fn read_value(&self, place: &Sighting) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; place.bytes as usize];
        read_again(|| {
            let read = match place.at & OUTSIDE {
                0 => self.file.read_exact_at(&mut bytes, place.at),
                _ => self.read_outside(place.at & !OUTSIDE, &mut bytes),
            };
            read.map_err(|error| ReadError::of_disk(&error))
        })?;
        Ok(bytes)
    }

    /// Reads from a file with a large message.
    fn read_outside(&self, place: u64, bytes: &mut [u8]) -> io::Result<()> {
        let path = self.outside.get((place >> 32) as usize);
        let file = files::open(path.ok_or(io::ErrorKind::NotFound)?)?;
        file.read_exact_at(bytes, place & u64::from(u32::MAX))
    }

    /// Returns whether the block that begins with `first` can be read as it was written.
    fn is_sound(&self, first: Seq) -> bool {
        self.block(first).is_ok_and(|bytes| is_sound(&bytes))
    }

    /// Returns the places of the values of the block that begins with `first`.
    fn places(&self, first: Seq) -> &[Sighting] {
        let start = self.index.partition_point(|place| Seq::from(place.seq) < first);
        let end = self.index.partition_point(|place| Seq::from(place.seq) <= first);
        self.index.get(start..end).unwrap_or_default()
    }

    /// Puts the block together that begins with `first`.
    pub(super) fn block(&self, first: Seq) -> Result<Vec<u8>, ReadError> {
        let places = self.places(first);
        let is_certain = places.iter().all(|place| place.found >= Found::AfterDamage);
        let mut best = self.put_together(first, places, 0);
        for attempt in 1..if is_certain { 0 } else { TRIES_MAX } {
            if best.as_ref().is_ok_and(|bytes| is_sound(bytes)) {
                break;
            }
            let next = self.put_together(first, places, attempt);
            if best.is_err() || next.as_ref().is_ok_and(|bytes| is_sound(bytes)) {
                best = next;
            }
        }
        best
    }

    /// Puts a block together from one place of each part; `attempt` chooses them.
    fn put_together(
        &self,
        first: Seq,
        places: &[Sighting],
        mut attempt: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let damaged = |what: &str| ReadError::Damaged { seq: first, what: what.into() };
        let mut choose = |part: usize| {
            let of_part = |place: &&Sighting| usize::from(place.part) == part;
            let count = places.iter().filter(of_part).count();
            let chosen = attempt.checked_rem(count)?;
            attempt /= count;
            places.iter().filter(of_part).nth(chosen)
        };
        let beginning = choose(0).ok_or_else(|| damaged("it has a part but no beginning"))?;
        let mut bytes = self.read_value(beginning)?;
        let length = block::extent(&bytes).map_err(|what| damaged(&what))?.bytes;
        let mut part = 0;
        while bytes.len() < length {
            part += 1;
            let place = choose(part).ok_or_else(|| damaged("a part of it is missing"))?;
            bytes.extend(self.read_value(place)?);
        }
        Ok(bytes)
    }
}

impl Blocks for RawStore {
    fn log_id(&self) -> LogId {
        self.log_id
    }

    fn blocks_from(
        &self,
        first: Seq,
    ) -> impl Iterator<Item = Result<(Seq, Vec<u8>), ReadError>> + Send {
        let mut at = self.index.partition_point(|place| Seq::from(place.seq) < first);
        std::iter::from_fn(move || {
            let seq = Seq::from(self.index.get(at)?.seq);
            at += self.places(seq).len();
            Some(self.block(seq).map(|bytes| (seq, bytes)))
        })
    }

    fn block_start(&self, seq: Seq) -> Result<Seq, ReadError> {
        let after = self.index.partition_point(|place| Seq::from(place.seq) <= seq);
        let last = after.checked_sub(1).and_then(|at| self.index.get(at));
        last.map(|place| Seq::from(place.seq)).ok_or(ReadError::Absent { seq })
    }
}

/// Takes the data folder's lock together with other readers, without writing to it. A folder
/// without one is a copy, or no process has ever opened it.
pub(super) fn lock_for_reading(folder: &Path) -> Result<Option<File>, StoreError> {
    let lock = match files::open(&folder.join("lock")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if files::is_not_a_file(&error) => {
            let what = format!("`lock`: {error}: remove it");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what).into());
        }
        Err(error) => return Err(error.into()),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(Some(lock)),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse),
        Err(fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Reads the log's identity.
pub(super) fn log_id(identity: &[u8]) -> Result<LogId, StoreError> {
    let cut_off = || StoreError::Damaged("its identity is cut off".into());
    let (format, log_id) = identity.split_first_chunk::<4>().ok_or_else(cut_off)?;
    let format = u32::from_le_bytes(*format);
    if format != u32::from(FORMAT) {
        return Err(StoreError::Format(format));
    }
    log_id.try_into().map_err(|_| cut_off())
}

/// Returns the id of the log of the first block that has one.
fn log_id_of_blocks(file: &File, sightings: &[Sighting]) -> Result<LogId, StoreError> {
    for place in sightings.iter().filter(|place| place.count > 0) {
        let mut bytes = vec![0; place.bytes as usize];
        file.read_exact_at(&mut bytes, place.at)?;
        if let Ok(extent) = block::extent(&bytes) {
            return Ok(extent.log_id);
        }
    }
    Err(StoreError::Damaged("its identity is missing".into()))
}

/// Returns the newest record that a certain place promises; 0 if there is no such place.
fn last_of(places: &[Sighting]) -> Seq {
    let certain = places.iter().filter(|place| place.found >= Found::AfterDamage);
    certain.map(|place| Seq::from(place.seq) + Seq::from(place.count.max(1)) - 1).max().unwrap_or(0)
}

/// Returns the places that sled would read.
fn visible(sightings: &[Sighting], cut: u64) -> Vec<Sighting> {
    let seen = |place: &&Sighting| place.found == Found::Whole && place.position < cut;
    let mut visible: Vec<Sighting> = sightings.iter().filter(seen).copied().collect();
    keep_best(&mut visible, |_| 0);
    visible.retain(|place| !place.is_removal);
    visible
}

/// Returns the places to read: what sled would read, and behind damage up to the record `expected`.
fn index(mut sightings: Vec<Sighting>, cut: u64, expected: Seq) -> Vec<Sighting> {
    sightings.retain(|place| place.position < cut || Seq::from(place.seq) <= expected);
    keep_best(&mut sightings, |_| 0);
    let mut newest = None;
    sightings.retain(|place| {
        let key = (place.seq, place.part);
        if newest.is_none_or(|(of, _)| of != key) {
            newest = Some((key, place.is_removal));
        }
        !place.is_removal && newest.is_some_and(|(_, is_removed)| !is_removed)
    });
    // A part whose block was only guessed is worth nothing without its beginning.
    let blocks = sightings.chunk_by(|one, other| one.seq == other.seq);
    let kept = blocks.filter(|block| {
        block.iter().any(|place| place.part == 0 || place.found >= Found::AfterDamage)
    });
    kept.flatten().copied().collect()
}

/// Returns the gaps in the seqs of blocks whose parts are all there, up to record `expected`.
/// `places` are sorted by key. A block whose places are uncertain counts if it `is_sound`.
fn gaps(places: &[Sighting], expected: Seq, is_sound: impl Fn(Seq) -> bool) -> Vec<(Seq, Seq)> {
    let (mut gaps, mut next) = (Vec::new(), 1);
    for block in places.chunk_by(|one, other| one.seq == other.seq) {
        let Some(first) = block.first().filter(|first| is_complete(first, block)) else { continue };
        let seq = Seq::from(first.seq);
        let is_certain = block.iter().all(|place| place.found >= Found::AfterDamage);
        if !is_certain && !is_sound(seq) {
            continue;
        }
        if seq > next {
            gaps.push((next, seq - 1));
        }
        next = next.max(seq + Seq::from(first.count));
    }
    if next <= expected {
        gaps.push((next, expected));
    }
    gaps.retain(|(first, _)| *first <= expected);
    gaps.into_iter().map(|(first, last)| (first, last.min(expected))).collect()
}

/// Returns whether all parts of a block are there, and its head is whole.
fn is_complete(first: &Sighting, block: &[Sighting]) -> bool {
    let has = |part: u16| block.iter().any(|place| place.part == part);
    first.part == 0 && first.count > 0 && first.found > Found::InPart && (1..first.parts).all(has)
}
