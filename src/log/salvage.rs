//! Salvage: takes every record out of a damaged store that can be read on either side of the
//! damage, checks each by its leaf, and fills the gaps from other copies.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rollcall_projections::Seq;

use super::LogId;
use super::acknowledgement::{Acknowledgement, Slots};
use super::add_range;
use super::archive::{
    Archive, ArchiveSegment, ArchivedRecord, SEGMENT_BODY_BYTES_MAX, SEGMENT_RECORDS_MAX, seqs_of,
};
use super::lost_leaves::{self, LostLeaves};
use super::manifest::{MANIFEST, Manifest, checksums};
use super::merkle::{self, Hash};
use super::open::{OpenError, is_data_folder};
use super::place::{ArchivePlace, PlaceError};
use super::progress::{Progress, Report, Stage};
use super::public_files::PublicFiles;
use super::raw::{RawStore, SalvagedRecord};
use super::recovery::differs_in_metadata_alone;
use super::stopped::{Remains, StoppedFolder, end_is_unknown};
use super::store::Blocks;
use super::tiles::{Rows, Tiles};
use super::unfinished::UnfinishedFolder;
use crate::files;

/// The outcome of a salvage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// The number of records that were acknowledged, if that is known.
    pub acknowledged: Option<u64>,
    /// The number of records that were written.
    pub recovered: u64,
    /// The records that are nowhere.
    pub missing: Vec<(Seq, Seq)>,
    /// Those of them without which the log was once restored.
    pub lost: Vec<(Seq, Seq)>,
    /// The tree hash over all records; `None` if leaves are missing as well.
    pub root: Option<[u8; 32]>,
    /// True if that is not the one that was acknowledged: some record is not what it was.
    pub differs: bool,
    /// True if nothing would show that records are missing from the end.
    pub end_is_unknown: bool,
    /// The files of the other copies that were read and are damaged. Only records that fit their
    /// leaves were taken from them.
    pub damaged: Vec<PlaceError>,
    /// The number of records in segments that a run before, which was interrupted, had written.
    pub kept: u64,
}

impl Salvaged {
    /// Returns whether every record was found as it was, and none can be missing from the end.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && !self.differs && !self.end_is_unknown
    }
}

/// Why nothing was salvaged.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The folder does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is a file or a folder at the place for the outcome.
    #[error("`{0}` is there already; name a new folder")]
    Exists(PathBuf),
    /// The place for the outcome is in the damaged folder.
    #[error("`{0}` is in the folder that is salvaged; name a folder elsewhere")]
    Inside(PathBuf),
    /// The folder does not exist, or never held a log.
    #[error("`{0}` is not a Rollcall data folder; name the one that is damaged with --data")]
    NotAFolder(PathBuf),
    /// Nothing says which log the folder held.
    #[error(
        "nothing is left of the log in `{0}`, not even its name; name a copy of it with --from"
    )]
    Nameless(PathBuf),
    /// Another copy is neither a data folder nor an archive.
    #[error("`{0}` is neither a data folder nor has it segments of an archive")]
    NotACopy(String),
    /// Another copy is one of another log.
    #[error(
        "`{path}` is a copy of {}, and not of log {wanted}, which is salvaged; name a copy of that",
        logs(.found)
    )]
    OtherLog {
        /// The copy.
        path: String,
        /// The names of the logs in it.
        found: Vec<String>,
        /// The name of the log that is salvaged.
        wanted: String,
    },
    /// A file cannot be read or written.
    #[error("`{path}`: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// An archive cannot be read, or the new one not be written.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

fn logs(ids: &[String]) -> String {
    let word = if ids.len() == 1 { "log" } else { "logs" };
    format!("{word} {}", ids.join(", "))
}

fn id_text(log_id: LogId) -> String {
    uuid::Uuid::from_bytes(log_id).to_string()
}

/// Another copy of the log.
enum OtherCopy {
    Folder(Box<StoppedFolder>, PathBuf),
    Archive(Box<Archive>, LostLeaves),
}

impl OtherCopy {
    /// Opens a data folder, an archive, a backup or a salvaged folder of the log `wanted`; of the
    /// only log there if none is wanted yet, and then that is wanted.
    fn open(place: &ArchivePlace, wanted: &mut Option<LogId>) -> Result<OtherCopy, SalvageError> {
        if let ArchivePlace::Folder(path) = place
            && is_data_folder(path)
                .map_err(|error| SalvageError::Io { path: path.clone(), error })?
        {
            let folder = StoppedFolder::open(path)?;
            let log_id = folder.store.log_id();
            refuse_other(place, &[log_id], *wanted.get_or_insert(log_id))?;
            return Ok(OtherCopy::Folder(Box::new(folder), path.clone()));
        }
        let archive = match *wanted {
            Some(log_id) => find_archive(place, log_id)?,
            None => {
                // Without a name there are no leaves either, so a damaged segment is of no use.
                let mut only = Archive::open(place)?;
                if only.is_empty() {
                    return Err(no_segments(place));
                }
                *wanted = Some(only.log_id().map_err(PlaceError::from)?);
                only
            }
        };
        let leaves = lost_leaves::read(archive.place()).unwrap_or_else(|damage| {
            tracing::warn!(file = damage.at, damage.what, "leaves of lost records are damaged");
            LostLeaves::new()
        });
        Ok(OtherCopy::Archive(Box::new(archive), leaves))
    }

    fn record(&mut self, log_id: LogId, seq: Seq) -> Option<ArchivedRecord> {
        match self {
            OtherCopy::Folder(folder, _) => {
                folder.store.record(seq).ok().as_ref().map(ArchivedRecord::from)
            }
            OtherCopy::Archive(archive, _) => archive.record(log_id, seq),
        }
    }

    /// Returns the records of this seq in damaged files of the copy. Each must be compared with its
    /// leaf.
    fn doubtful_records(&mut self, log_id: LogId, seq: Seq) -> Vec<ArchivedRecord> {
        match self {
            OtherCopy::Folder(..) => Vec::new(),
            OtherCopy::Archive(archive, _) => archive.remaining_records(log_id, seq),
        }
    }

    /// Returns the files of the copy that were read so far and are damaged.
    fn damaged(&self) -> Vec<PlaceError> {
        match self {
            OtherCopy::Folder(..) => Vec::new(),
            OtherCopy::Archive(archive, _) => archive.damaged(),
        }
    }

    /// Returns the leaf of a record that is lost in the copy too.
    fn lost_leaf(&self, seq: Seq) -> Option<Hash> {
        match self {
            OtherCopy::Folder(folder, _) => {
                let leaves = folder.store.lost_leaves(&[(seq, seq)]).ok()?;
                leaves.get(&seq).copied()
            }
            OtherCopy::Archive(_, leaves) => leaves.get(&seq).copied(),
        }
    }

    fn last(&self) -> Seq {
        match self {
            OtherCopy::Folder(folder, _) => folder.store.last_seq(),
            OtherCopy::Archive(archive, leaves) => {
                archive.last().max(leaves.last_key_value().map_or(0, |(last, _)| *last))
            }
        }
    }

    /// Returns the place of its public files.
    fn place(&self) -> ArchivePlace {
        match self {
            OtherCopy::Folder(_, path) => ArchivePlace::Folder(path.clone()),
            OtherCopy::Archive(archive, _) => archive.place().clone(),
        }
    }
}

/// Finds the segments of a log in an archive that may hold several.
fn find_archive(place: &ArchivePlace, wanted: LogId) -> Result<Archive, SalvageError> {
    let (mut ids, mut damage) = (Vec::new(), None);
    for mut archive in Archive::all_in(place)? {
        match archive.log_id() {
            Ok(log_id) if log_id == wanted => return Ok(archive),
            Ok(log_id) => ids.push(log_id),
            Err(_) if archive.has_remains_of(wanted) => return Ok(archive),
            Err(found) => damage = damage.or(Some(found)),
        }
    }
    if !ids.is_empty() {
        refuse_other(place, &ids, wanted)?;
    }
    Err(damage.map_or_else(|| no_segments(place), |damage| PlaceError::from(damage).into()))
}

/// Returns the error for a place in which no segment is: where a list names one, that is missing.
fn no_segments(place: &ArchivePlace) -> SalvageError {
    Manifest::missing_segment(place).map_or_else(
        || SalvageError::NotACopy(place.to_string()),
        |damage| PlaceError::from(damage).into(),
    )
}

fn refuse_other(place: &ArchivePlace, found: &[LogId], wanted: LogId) -> Result<(), SalvageError> {
    if found.contains(&wanted) {
        return Ok(());
    }
    let found = found.iter().copied().map(id_text).collect();
    Err(SalvageError::OtherLog { path: place.to_string(), found, wanted: id_text(wanted) })
}

/// What the files around a store know of its records.
pub(super) struct Leaves {
    /// The leaves in the tiles.
    pub(super) kept: Vec<Hash>,
    /// The number of those for which the acknowledged root vouches.
    pub(super) vouched: usize,
}

impl Leaves {
    /// Reads them from the tiles, and hashes the tree over those that were acknowledged.
    pub(super) fn of(slots: &Slots, tiles: Option<&Tiles>) -> Leaves {
        let kept = tiles.and_then(|tiles| tiles.leaves(tiles.size().ok()?).ok()?);
        let kept = kept.unwrap_or_default();
        let vouched = slots.newest.and_then(|Acknowledgement { size, root, .. }| {
            let rows = Rows::of(kept.get(..usize::try_from(size).ok()?)?.to_vec());
            (merkle::root(&rows, size) == Ok(root?)).then_some(size as usize)
        });
        Leaves { kept, vouched: vouched.unwrap_or(0) }
    }

    /// Returns the leaf of a record for which the acknowledged root vouches.
    pub(super) fn vouched(&self, seq: Seq) -> Option<&Hash> {
        let at = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.kept.get(at).filter(|_| at < self.vouched)
    }

    /// Returns whether a record may be the one that was written. `needs_leaf` is true if its own
    /// checks alone prove nothing.
    pub(super) fn allow(&self, record: &ArchivedRecord, needs_leaf: bool) -> bool {
        let at = usize::try_from(record.seq).unwrap_or(0).wrapping_sub(1);
        match (self.vouched(record.seq), self.kept.get(at)) {
            (Some(leaf), _) => *leaf == record.leaf(),
            (None, Some(leaf)) => !needs_leaf || *leaf == record.leaf(),
            (None, None) => !needs_leaf,
        }
    }
}

/// The records that are found, on their way into segments.
struct Output<'a> {
    folder: &'a Path,
    log_id: LogId,
    waiting: Vec<ArchivedRecord>,
    waiting_bytes: usize,
    recovered: u64,
    missing: Vec<(Seq, Seq)>,
    /// The missing records without which the log was once restored.
    lost: Vec<(Seq, Seq)>,
    /// The leaves of missing records, where they are known.
    lost_leaves: LostLeaves,
    /// The leaves of all records so far; `None` from the first one on that has none.
    leaves: Option<Vec<Hash>>,
    /// The segments that a run before had written and that are not looked at yet.
    before: BTreeSet<String>,
    /// The number of records in those that are the same now.
    kept: u64,
}

impl<'a> Output<'a> {
    /// Begins in `folder`, which may have segments of a run before. Other files are removed.
    fn new(folder: &'a Path, log_id: LogId) -> io::Result<Output<'a>> {
        let (waiting, missing, leaves) = (Vec::new(), Vec::new(), Some(Vec::new()));
        let before = files::remove_all_but(folder, |name| seqs_of(name).is_some())?;
        Ok(Output {
            folder,
            log_id,
            waiting,
            waiting_bytes: 0,
            recovered: 0,
            missing,
            lost: Vec::new(),
            lost_leaves: LostLeaves::new(),
            leaves,
            before,
            kept: 0,
        })
    }

    fn put(&mut self, record: ArchivedRecord) -> io::Result<()> {
        if self.waiting.len() == SEGMENT_RECORDS_MAX
            || self.waiting_bytes + record.body.len() > SEGMENT_BODY_BYTES_MAX
        {
            self.write()?;
        }
        if let Some(leaves) = &mut self.leaves {
            leaves.push(record.leaf());
        }
        self.recovered += 1;
        self.waiting_bytes += record.body.len();
        self.waiting.push(record);
        Ok(())
    }

    fn miss(&mut self, seq: Seq, leaf: Option<Hash>) {
        self.lost_leaves.extend(leaf.map(|leaf| (seq, leaf)));
        match (&mut self.leaves, leaf) {
            (Some(leaves), Some(leaf)) => leaves.push(leaf),
            _ => self.leaves = None,
        }
        add_range(&mut self.missing, (seq, seq));
    }

    /// Writes the waiting records into a segment.
    fn write(&mut self) -> io::Result<()> {
        let records = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        if records.is_empty() {
            return Ok(());
        }
        let needs = Some(MANIFEST.to_owned());
        let segment = ArchiveSegment { log_id: self.log_id, records, checkpoint: None, needs };
        let (name, place) = (segment.name(), self.place());
        if self.before.remove(&name) {
            let there = place.read(&name).map_err(io::Error::other)?.unwrap_or_default();
            if ArchiveSegment::decode(there.as_slice()).is_ok_and(|there| there == segment) {
                self.kept += segment.records.len() as u64;
                return Ok(());
            }
            fs::remove_file(self.folder.join(&name))?;
        }
        segment.write(&place).map_err(io::Error::other)
    }

    fn place(&self) -> ArchivePlace {
        ArchivePlace::Folder(self.folder.to_owned())
    }

    /// Writes the rest: the leaves of missing records, the public files, and last the list of all.
    fn finish(
        &mut self,
        public: &PublicFiles,
        newest: Option<Acknowledgement>,
    ) -> Result<(), PlaceError> {
        let place = self.place();
        let failed =
            |error: io::Error| PlaceError { at: place.to_string(), what: error.to_string() };
        self.write().map_err(failed)?;
        for name in std::mem::take(&mut self.before) {
            fs::remove_file(self.folder.join(name)).map_err(failed)?;
        }
        lost_leaves::write(&place, &self.lost_leaves)?;
        public.write(self.folder, Seq::MAX)?;
        let (log_id, recovered) = (self.log_id, self.recovered);
        let files = checksums(&place)?;
        let list = Manifest::of_salvage(log_id, newest, recovered, &self.missing, files);
        place.create(MANIFEST, &list.text().map_err(failed)?).map(drop)
    }

    /// Compares all that was found with the newest acknowledgement.
    fn judge(self, newest: Option<Acknowledgement>, end_is_unknown: bool) -> Salvaged {
        let Output { recovered, missing, lost, leaves, kept, .. } = self;
        let rows = leaves.map(Rows::of);
        let root_over = |size: Seq| merkle::root(rows.as_ref()?, size).ok();
        let differs = newest.is_some_and(|newest| {
            newest.root.zip(root_over(newest.size)).is_some_and(|(root, found)| root != found)
        });
        let root = root_over(rows.as_ref().map_or(0, |rows| rows.leaves().len() as Seq));
        let acknowledged = newest.map(|newest| newest.size);
        let damaged = Vec::new();
        Salvaged {
            acknowledged,
            recovered,
            missing,
            lost,
            root,
            differs,
            end_is_unknown,
            damaged,
            kept,
        }
    }
}

/// A salvage in progress.
struct Salvage<'a> {
    remains: &'a Remains,
    copies: Vec<OtherCopy>,
    leaves: Leaves,
    /// The leaves of the records that are lost in the folder.
    gaps: LostLeaves,
    /// True if the folder was acknowledged with the same records and other metadata: then it may have
    /// lost them since.
    was_changed: bool,
    /// The record that comes next.
    next: Seq,
    output: Output<'a>,
}

impl<'a> Salvage<'a> {
    fn begin(remains: &'a Remains, copies: Vec<OtherCopy>, output: Output<'a>) -> Salvage<'a> {
        let (leaves, gaps) =
            (Leaves::of(&remains.slots, remains.tiles.as_ref()), LostLeaves::new());
        let both = remains.store.as_ref().zip(remains.slots.newest.as_ref());
        let tiles = remains.tiles.as_ref();
        let was_changed =
            both.is_some_and(|(store, newest)| differs_in_metadata_alone(store, newest, tiles));
        Salvage { remains, copies, leaves, gaps, was_changed, next: 1, output }
    }

    /// Writes every record that is found, in order, and all else that belongs to them.
    fn run(mut self, public: &PublicFiles, report: Report<'_>) -> Result<Salvaged, SalvageError> {
        let path = self.output.folder.to_owned();
        let written = self.write_records(report);
        written.map_err(|error| SalvageError::Io { path, error })?;
        let newest = self.remains.slots.newest;
        self.output.finish(public, newest)?;
        let end_is_unknown = self.end_is_unknown();
        let damaged = self.copies.iter().flat_map(OtherCopy::damaged).collect();
        Ok(Salvaged { damaged, ..self.output.judge(newest, end_is_unknown) })
    }

    /// Returns whether nothing would show that records are missing from the end: neither another file
    /// of the folder nor a copy that goes as far as the folder.
    fn end_is_unknown(&self) -> bool {
        let Remains { store, slots, tiles, .. } = self.remains;
        let head = store.as_ref().map_or(0, |store| store.last_seq());
        let is_copied = self.copies.iter().any(|copy| copy.last() >= head);
        end_is_unknown(slots, tiles.as_ref(), head) && !is_copied
    }

    fn write_records(&mut self, report: Report<'_>) -> io::Result<()> {
        let last = self.last()?;
        let store = self.remains.store.as_ref();
        let blocks =
            store.into_iter().flat_map(|store| store.firsts().map(|first| store.salvaged(first)));
        for block in blocks {
            self.gaps.extend(block.lost_leaves);
            for SalvagedRecord { record, needs_leaf } in block.records {
                let record = ArchivedRecord::from(&record);
                if record.seq >= self.next && self.leaves.allow(&record, needs_leaf) {
                    self.fill_up_to(record.seq - 1)?;
                    self.next = record.seq + 1;
                    self.output.put(record)?;
                }
            }
            report(Progress::At { stage: Stage::Write, seq: self.next - 1, of: last });
        }
        let lost = self.gaps.last_key_value().map_or(0, |(last, _)| *last);
        self.fill_up_to(last.max(lost))?;
        report(Progress::At { stage: Stage::Write, seq: last, of: last });
        Ok(())
    }

    /// Returns the last record that the folder, or a copy of it if the folder does not say, had.
    fn last(&self) -> io::Result<Seq> {
        let of_copies = self.copies.iter().map(OtherCopy::last).max();
        let of_copies = of_copies.filter(|_| self.remains.slots.newest.is_none()).unwrap_or(0);
        let of_store = self.remains.store.as_ref().map_or(0, RawStore::last_seq);
        Ok(self.remains.known_size()?.max(of_copies).max(of_store))
    }

    /// Takes the records up to `last` from the other copies.
    fn fill_up_to(&mut self, last: Seq) -> io::Result<()> {
        let log_id = self.output.log_id;
        while self.next <= last {
            let (seq, leaves) = (self.next, &self.leaves);
            let mut found = self.copies.iter_mut().filter_map(|copy| copy.record(log_id, seq));
            let sound = found.find(|record| leaves.allow(record, false));
            let record = sound.or_else(|| {
                let copies = self.copies.iter_mut();
                let mut found = copies.flat_map(|copy| copy.doubtful_records(log_id, seq));
                found.find(|record| leaves.allow(record, true))
            });
            match record {
                Some(record) => self.output.put(record)?,
                None => self.miss(seq),
            }
            self.next += 1;
        }
        Ok(())
    }

    /// Notes a record that is nowhere, with its leaf where that is known.
    fn miss(&mut self, seq: Seq) {
        let gap = self.gaps.get(&seq).copied();
        let of_copies = || self.copies.iter().find_map(|copy| copy.lost_leaf(seq));
        let leaf = self.leaves.vouched(seq).copied().or(gap).or_else(of_copies);
        self.output.miss(seq, leaf);
        if gap.is_some() && !self.was_changed {
            add_range(&mut self.output.lost, (seq, seq));
        }
    }
}

/// Salvages the log in the data folder `folder` into segments of an archive in the new folder
/// `out`. Records that cannot be read are taken from the first of `from` that has them; from a
/// damaged segment only those that fit their leaves in the tree of `folder`. Changes nothing in
/// `folder`. `report` gets the progress, from time to time. It is written into `out.unfinished`; of
/// what a run before left there, each segment is kept that this one would write as well.
///
/// # Errors
/// If the folder is in use or never held a log, if a copy is one of another log, or if a file cannot
/// be written. Then there is no folder `out`.
pub fn salvage(
    folder: &Path,
    from: &[ArchivePlace],
    out: &Path,
    report: Report<'_>,
) -> Result<Salvaged, SalvageError> {
    refuse_place(folder, out)?;
    let remains = if folder.is_dir() { Remains::of(folder)? } else { None };
    let remains = remains.ok_or_else(|| SalvageError::NotAFolder(folder.to_owned()))?;
    let mut log_id = remains.log_id();
    let mut copies = Vec::new();
    for place in from {
        copies.push(OtherCopy::open(place, &mut log_id)?);
    }
    let log_id = log_id.ok_or_else(|| SalvageError::Nameless(folder.to_owned()))?;
    let mut public = PublicFiles::default();
    let own = ArchivePlace::Folder(folder.to_owned());
    for place in [own].into_iter().chain(copies.iter().map(OtherCopy::place)) {
        public.add(PublicFiles::read(&place)?, log_id);
    }
    let io_error = |error| SalvageError::Io { path: out.to_owned(), error };
    let mut unfinished = UnfinishedFolder::resume(out).map_err(io_error)?;
    let output = Output::new(unfinished.path(), log_id).map_err(io_error)?;
    let salvaged = Salvage::begin(&remains, copies, output).run(&public, report);
    unfinished.keep(salvaged.is_err() && !unfinished.is_empty().unwrap_or(true));
    let salvaged = salvaged?;
    unfinished.finish().map_err(io_error)?;
    Ok(salvaged)
}

/// Refuses a place for the outcome that is taken, or in the damaged folder.
fn refuse_place(folder: &Path, out: &Path) -> Result<(), SalvageError> {
    let io_error = |error| SalvageError::Io { path: out.to_owned(), error };
    if fs::symlink_metadata(out).is_ok() {
        return Err(SalvageError::Exists(out.to_owned()));
    }
    let around = files::folder_of(out).canonicalize().map_err(io_error)?;
    match folder.canonicalize() {
        Ok(folder) if around.starts_with(&folder) => Err(SalvageError::Inside(out.to_owned())),
        _ => Ok(()),
    }
}
