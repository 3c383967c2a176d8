//! Salvage: takes every record out of a damaged store that can be read on either side of the
//! damage, checks each by its leaf, and fills the gaps from other copies.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rollcall_projections::Seq;

use super::LogId;
use super::acknowledgement::Acknowledgement;
use super::add_range;
use super::archive::{
    Archive, ArchiveSegment, ArchivedRecord, SEGMENT_BODY_BYTES_MAX, SEGMENT_RECORDS_MAX,
};
use super::manifest::Manifest;
use super::merkle::{self, Hash};
use super::open::{OpenError, is_data_folder};
use super::place::{ArchivePlace, PlaceError};
use super::raw::SalvagedRecord;
use super::stopped::StoppedFolder;
use super::store::Blocks;
use super::tiles::Rows;
use super::unfinished::UnfinishedFolder;

/// The public files of the key that signs checkpoints, which go along with the records.
pub(crate) const PUBLIC_KEY: &str = "checkpoint-key.pub";
pub(crate) const HANDOVERS: &str = "checkpoint-key.handovers";

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
}

impl Salvaged {
    /// Returns whether every record was found as it was.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && !self.differs
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
    /// Another copy is neither a data folder nor an archive.
    #[error("`{0}` is neither a data folder nor has it segments of an archive")]
    NotACopy(PathBuf),
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

/// Another copy of a log.
enum OtherCopy {
    Folder(Box<StoppedFolder>),
    Archive(Archive),
}

impl OtherCopy {
    fn open(path: &Path) -> Result<OtherCopy, SalvageError> {
        let io_error = |error| SalvageError::Io { path: path.to_owned(), error };
        if is_data_folder(path).map_err(io_error)? {
            return Ok(OtherCopy::Folder(Box::new(StoppedFolder::open(path)?)));
        }
        let archive = Archive::open(&ArchivePlace::Folder(path.to_owned()))?;
        if archive.is_empty() {
            return Err(SalvageError::NotACopy(path.to_owned()));
        }
        Ok(OtherCopy::Archive(archive))
    }

    fn record(&mut self, log_id: LogId, seq: Seq) -> Option<ArchivedRecord> {
        match self {
            OtherCopy::Folder(folder) if folder.store.log_id() == log_id => {
                folder.store.record(seq).ok().as_ref().map(ArchivedRecord::from)
            }
            OtherCopy::Folder(_) => None,
            OtherCopy::Archive(archive) => archive.record(log_id, seq),
        }
    }

    fn last(&self) -> Seq {
        match self {
            OtherCopy::Folder(folder) => folder.store.last_seq(),
            OtherCopy::Archive(archive) => archive.last(),
        }
    }
}

/// What the other files of the damaged folder know of its records.
struct Leaves {
    /// The leaves in the tiles.
    kept: Vec<Hash>,
    /// The number of those for which the acknowledged root vouches.
    vouched: usize,
}

impl Leaves {
    fn of(folder: &StoppedFolder) -> Leaves {
        let kept = folder.tiles.as_ref().and_then(|tiles| tiles.leaves(tiles.size().ok()?).ok()?);
        let kept = kept.unwrap_or_default();
        let vouched = folder.slots.newest.and_then(|Acknowledgement { size, root, .. }| {
            let rows = Rows::of(kept.get(..usize::try_from(size).ok()?)?.to_vec());
            (merkle::root(&rows, size) == Ok(root?)).then_some(size as usize)
        });
        Leaves { kept, vouched: vouched.unwrap_or(0) }
    }

    /// Returns the leaf of a record for which the acknowledged root vouches.
    fn vouched(&self, seq: Seq) -> Option<&Hash> {
        let at = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.kept.get(at).filter(|_| at < self.vouched)
    }

    /// Returns whether a record may be the one that was written. `needs_leaf` is true if its own
    /// checks alone prove nothing.
    fn allow(&self, record: &ArchivedRecord, needs_leaf: bool) -> bool {
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
    lost_leaves: Vec<(Seq, Hash)>,
    /// The leaves of all records so far; `None` from the first one on that has none.
    leaves: Option<Vec<Hash>>,
}

impl<'a> Output<'a> {
    fn new(folder: &'a Path, log_id: LogId) -> Output<'a> {
        let (waiting, missing, leaves) = (Vec::new(), Vec::new(), Some(Vec::new()));
        Output {
            folder,
            log_id,
            waiting,
            waiting_bytes: 0,
            recovered: 0,
            missing,
            lost: Vec::new(),
            lost_leaves: Vec::new(),
            leaves,
        }
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

    fn miss(&mut self, seq: Seq, leaf: Option<&Hash>) {
        self.lost_leaves.extend(leaf.map(|leaf| (seq, *leaf)));
        match (&mut self.leaves, leaf) {
            (Some(leaves), Some(leaf)) => leaves.push(*leaf),
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
        let segment = ArchiveSegment { log_id: self.log_id, records, checkpoint: None };
        let place = ArchivePlace::Folder(self.folder.to_owned());
        segment.write(&place).map_err(io::Error::other)
    }

    /// Compares all that was found with the newest acknowledgement.
    fn judge(self, newest: Option<Acknowledgement>) -> Salvaged {
        let Output { recovered, missing, lost, leaves, .. } = self;
        let rows = leaves.map(Rows::of);
        let root_over = |size: Seq| merkle::root(rows.as_ref()?, size).ok();
        let differs = newest.is_some_and(|newest| {
            newest.root.zip(root_over(newest.size)).is_some_and(|(root, found)| root != found)
        });
        let root = root_over(rows.as_ref().map_or(0, |rows| rows.leaves().len() as Seq));
        let acknowledged = newest.map(|newest| newest.size);
        Salvaged { acknowledged, recovered, missing, lost, root, differs }
    }
}

/// A salvage in progress.
struct Salvage<'a> {
    stopped: &'a StoppedFolder,
    copies: Vec<OtherCopy>,
    leaves: Leaves,
    /// The leaves of records without which the log was once restored.
    gaps: BTreeMap<Seq, Hash>,
    /// The record that comes next.
    next: Seq,
    output: Output<'a>,
}

impl<'a> Salvage<'a> {
    fn begin(stopped: &'a StoppedFolder, copies: Vec<OtherCopy>, out: &'a Path) -> Salvage<'a> {
        let output = Output::new(out, stopped.store.log_id());
        let leaves = Leaves::of(stopped);
        Salvage { stopped, copies, leaves, gaps: BTreeMap::new(), next: 1, output }
    }

    /// Writes every record that is found, in order.
    fn run(mut self, progress: &dyn Fn(Seq)) -> io::Result<Salvaged> {
        let store = &self.stopped.store;
        for first in store.firsts() {
            self.gaps.extend((first..).zip(store.lost_leaves(first).unwrap_or_default()));
            for SalvagedRecord { record, needs_leaf } in store.salvaged(first) {
                let record = ArchivedRecord::from(&record);
                if record.seq >= self.next && self.leaves.allow(&record, needs_leaf) {
                    self.fill_up_to(record.seq - 1)?;
                    self.next = record.seq + 1;
                    self.output.put(record)?;
                }
            }
            progress(self.next - 1);
        }
        let newest = self.stopped.slots.newest;
        let of_copies = self.copies.iter().map(OtherCopy::last).max();
        let of_copies = of_copies.filter(|_| newest.is_none()).unwrap_or(0);
        self.fill_up_to(self.stopped.known_size()?.max(of_copies))?;
        self.output.write()?;
        let Output { folder, log_id, recovered, missing, lost_leaves, .. } = &self.output;
        Manifest::new(*log_id, newest, *recovered, missing).write(folder, lost_leaves)?;
        Ok(self.output.judge(newest))
    }

    /// Takes the records up to `last` from the other copies.
    fn fill_up_to(&mut self, last: Seq) -> io::Result<()> {
        let log_id = self.output.log_id;
        while self.next <= last {
            let (seq, leaves) = (self.next, &self.leaves);
            let mut found = self.copies.iter_mut().filter_map(|copy| copy.record(log_id, seq));
            match found.find(|record| leaves.allow(record, false)) {
                Some(record) => self.output.put(record)?,
                None => {
                    let gap = self.gaps.get(&seq);
                    self.output.miss(seq, leaves.vouched(seq).or(gap));
                    if gap.is_some() {
                        add_range(&mut self.output.lost, (seq, seq));
                    }
                }
            }
            self.next += 1;
        }
        Ok(())
    }
}

/// Salvages the log in the data folder `folder` into segments of an archive in the new folder
/// `out`. Records that cannot be read are taken from the first of `from` that has them. Changes nothing in
/// `folder`. `progress` gets the last seq seen, from time to time.
///
/// # Errors
/// If the folder is in use or nothing is left of its store, or if a file cannot be written. Then
/// there is no folder `out`.
pub fn salvage(
    folder: &Path,
    from: &[PathBuf],
    out: &Path,
    progress: &dyn Fn(Seq),
) -> Result<Salvaged, SalvageError> {
    refuse_place(folder, out)?;
    let stopped = StoppedFolder::open(folder)?;
    let copies = from.iter().map(|path| OtherCopy::open(path)).collect::<Result<Vec<_>, _>>()?;
    let io_error = |error| SalvageError::Io { path: out.to_owned(), error };
    let unfinished = UnfinishedFolder::make(out).map_err(io_error)?;
    let salvaged =
        Salvage::begin(&stopped, copies, unfinished.path()).run(progress).map_err(io_error)?;
    copy_public_files(&ArchivePlace::Folder(folder.to_owned()), unfinished.path())?;
    unfinished.finish().map_err(io_error)?;
    Ok(salvaged)
}

/// Refuses a place for the outcome that is taken, or in the damaged folder.
fn refuse_place(folder: &Path, out: &Path) -> Result<(), SalvageError> {
    let io_error = |error| SalvageError::Io { path: out.to_owned(), error };
    if fs::symlink_metadata(out).is_ok() {
        return Err(SalvageError::Exists(out.to_owned()));
    }
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let around = parent.unwrap_or(Path::new(".")).canonicalize().map_err(io_error)?;
    match folder.canonicalize() {
        Ok(folder) if around.starts_with(&folder) => Err(SalvageError::Inside(out.to_owned())),
        _ => Ok(()),
    }
}

/// Copies the public key and the hand-overs of former keys.
pub(super) fn copy_public_files(from: &ArchivePlace, to: &Path) -> Result<(), PlaceError> {
    let to = ArchivePlace::Folder(to.to_owned());
    // Something else may be in its place.
    if from.files()?.iter().any(|name| name == PUBLIC_KEY) {
        copy_file(from, &to, PUBLIC_KEY)?;
    }
    let (from, to) = (from.within(HANDOVERS), to.within(HANDOVERS));
    from.files()?.iter().try_for_each(|name| copy_file(&from, &to, name))
}

fn copy_file(from: &ArchivePlace, to: &ArchivePlace, name: &str) -> Result<(), PlaceError> {
    match from.read(name)? {
        Some(bytes) => to.create(name, &bytes).map(drop),
        None => Ok(()),
    }
}
