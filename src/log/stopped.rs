//! A data folder whose server is stopped, read without changing anything in it: without sled, and
//! on a read-only disk as well.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use rollcall_projections::{Entry, Millis, Seq};

use super::acknowledgement::Slots;
use super::answered;
use super::audit::{self, Audit, Finding, LogPart};
use super::block::FORMAT;
use super::dedupe::{Dedupe, find_among};
use super::entries::{OddEntry, Remedy, odd_entries};
use super::kept::Prefix;
use super::lanes::Cores;
use super::lost_leaves::{self, LostLeaves};
use super::merkle;
use super::open::OpenError;
use super::ranges::Ranges;
use super::raw::{Known, RawStore, lock_for_reading};
use super::recovery::{self, Recovered};
use super::remaining::{self, Damage, Gathered, RemainingBlocks};
use super::store::{Blocks, Store, StoreError, conf_is_damaged};
use super::tiles::{Rows, Tiles};
use super::{
    AppendError, History, Identity, Log, LogId, Outcome, ReadError, Record, check_in_tree,
};
use crate::verify::{Keyring, Verified};

/// A data folder that is open for reading. No server can start on it meanwhile.
pub struct StoppedFolder {
    pub(super) store: RawStore,
    pub(super) slots: Slots,
    pub(super) tiles: Option<Tiles>,
    folder: PathBuf,
}

impl StoppedFolder {
    /// Reads the whole file of the store once.
    ///
    /// # Errors
    /// If the folder is in use, cannot be read, or has another format, or if nothing is left of its
    /// store. Other damage is not an error: see [`StoppedFolder::audit`].
    pub fn open(folder: &Path) -> Result<StoppedFolder, OpenError> {
        StoppedFolder::open_in_store(folder).map_err(|error| OpenError::of(error, folder))
    }

    fn open_in_store(folder: &Path) -> Result<StoppedFolder, StoreError> {
        if !Store::is_in(folder) {
            return Err(StoreError::Damaged("its store is missing".into()));
        }
        StoppedFolder::open_by(folder, RawStore::open)
    }

    /// Opens a folder whose lock the caller holds; `None` if there is no log in it yet.
    pub(super) fn open_locked(folder: &Path) -> Result<Option<StoppedFolder>, StoreError> {
        if !Store::is_in(folder) {
            return Ok(None);
        }
        match StoppedFolder::open_by(folder, RawStore::open_locked) {
            // A process that was killed in its first moments leaves a log without a name.
            Err(StoreError::Unnamed) if was_never_used(folder)? => Ok(None),
            opened => opened.map(Some),
        }
    }

    fn open_by(
        folder: &Path,
        open: impl FnOnce(&Path, Known) -> Result<RawStore, StoreError>,
    ) -> Result<StoppedFolder, StoreError> {
        let slots = Slots::read(&folder.join("checkpoint"))?;
        let tiles = Tiles::open_read_only(&folder.join("tree"))?;
        let store = open(folder, known(&slots, tiles.as_ref())?)?;
        Ok(StoppedFolder { store, slots, tiles, folder: folder.to_owned() })
    }

    /// Checks every record: see [`recovery::recover`].
    pub(super) fn check(&self, progress: &dyn Fn(Seq)) -> Result<Recovered, OpenError> {
        self.check_after(None, Cores::All, progress)
    }

    /// Checks every record but those that a snapshot knows: see [`recovery::recover`].
    pub(super) fn check_after(
        &self,
        prefix: Option<Prefix>,
        cores: Cores,
        progress: &dyn Fn(Seq),
    ) -> Result<Recovered, OpenError> {
        let (slots, tiles) = (&self.slots, self.tiles.as_ref());
        let checked = recovery::recover(&self.store, slots, tiles, (prefix, cores), progress);
        checked.map_err(|fault| match self.store.harm().is_harmful {
            true => self.harmed(),
            false => OpenError::of_fault(fault, &self.folder),
        })
    }

    /// Refuses a store if sled, when it opens it, would cut off or lose something that was on the
    /// disk.
    pub(super) fn refuse_harm(&self) -> Result<(), OpenError> {
        if self.store.harm().is_harmful { Err(self.harmed()) } else { Ok(()) }
    }

    fn harmed(&self) -> OpenError {
        OpenError::Harmed { path: self.folder.clone(), harm: self.store.harm().clone() }
    }

    /// Returns the last record by the store's keys: an estimate of the work of an audit.
    pub fn last_key(&self) -> Seq {
        self.store.last_key()
    }

    /// Checks the whole log and goes on after damage: see [`Audit`]. Uses all cores. Webhooks whose
    /// secret is in `keyring` are verified again. `progress` gets the last seq seen, from time to
    /// time.
    pub fn audit(&self, keyring: &Keyring, progress: &dyn Fn(Seq)) -> Audit {
        let mut audit =
            audit::audit(&self.store, &self.slots, self.tiles.as_ref(), keyring, progress);
        let harm = self.store.harm();
        for damaged in harm.damaged.iter().filter(|_| harm.is_harmful) {
            let (start, end) = (damaged.bytes.start, damaged.bytes.end);
            let what = format!("`store/db` is damaged at bytes {start} to {}", end - 1);
            audit.add(Finding::general(LogPart::Store, what));
        }
        for finding in self.files().unwrap_or_else(|error| {
            vec![Finding::general(LogPart::Files, format!("they cannot be looked at: {error}"))]
        }) {
            audit.add(finding);
        }
        audit
    }

    /// Returns what is wrong with the files around the store.
    fn files(&self) -> io::Result<Vec<Finding>> {
        let part = |entry: &OddEntry| match entry.remedy {
            Remedy::Start => LogPart::Derived,
            Remedy::Removal => LogPart::Marker,
            Remedy::Copy => LogPart::Files,
        };
        let odd = odd_entries(&self.folder)?.into_iter();
        let odd = odd.map(|entry| Finding::general(part(&entry), entry.what));
        let mut found: Vec<Finding> = odd.collect();
        let store = self.folder.join("store");
        let conf = fs::symlink_metadata(store.join("conf")).is_ok_and(|conf| conf.is_file());
        if conf && conf_is_damaged(&store)? {
            found.push(Finding::general(LogPart::Derived, "`store/conf` is damaged"));
        }
        Ok(found)
    }

    /// Returns what else is to be known about the folder, and keeps nothing from being sound.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn remarks(&self) -> io::Result<Vec<String>> {
        let is_damaged = answered::is_damaged(&self.folder.join("answered"))?;
        let remark = "the file `answered` has lost its moment, as in a folder that was restored: if \
                      the clock is set back as well, an answer to `known_at=<time>` that was given \
                      may change; the next start makes the file anew";
        Ok(is_damaged.then(|| remark.to_owned()).into_iter().collect())
    }

    /// Returns why a server would not start over the folder, if that is because of the store, its
    /// acknowledgement or its tiles. Reads every record again.
    pub fn refusal(&self) -> Option<OpenError> {
        self.check(&|_| {}).and_then(|_| self.refuse_harm()).err()
    }

    /// Checks every record as a start does, and returns the log, which takes no events. `progress`
    /// gets the last seq seen, from time to time.
    ///
    /// # Errors
    /// Those of a start.
    pub fn recover(self, progress: &dyn Fn(Seq)) -> Result<StoppedLog, OpenError> {
        let recovered = self.check(progress)?;
        Ok(self.into_log(recovered))
    }

    /// Checks every record as [`StoppedFolder::recover`] does. If a server would not start, returns
    /// the log all the same, with the damage: records that cannot be read count as lost.
    ///
    /// # Errors
    /// If the disk reports an error.
    pub fn recover_remaining(
        self,
        progress: &dyn Fn(Seq),
    ) -> Result<(StoppedLog, Option<Damage>), OpenError> {
        let folder = self.folder.clone();
        let io_error = |error| OpenError::io(folder.clone(), error);
        let fault = match self.check(progress) {
            Ok(recovered) => {
                let damage = self.damage_around(&recovered.rows).map_err(io_error)?;
                return Ok((self.into_log(recovered), damage));
            }
            Err(fault) => fault,
        };
        let end_is_unknown =
            end_is_unknown(&self.slots, self.tiles.as_ref(), self.store.last_seq());
        let known_size = known(&self.slots, self.tiles.as_ref()).map_err(io_error)?.size;
        let gathered = remaining::gather(self, known_size, progress).map_err(io_error)?;
        let Gathered { blocks, dedupe, lost, missing, rows, is_proven } = gathered;
        let (dedupe, unreadable) = (RwLock::new(dedupe), missing.clone());
        let log = StoppedLog { blocks, dedupe, lost, unreadable, rows, is_proven };
        let (cause, files) = (Some(fault.cause()), Vec::new());
        Ok((log, Some(Damage { missing, cause, files, end_is_unknown })))
    }

    /// Returns the damage to a folder whose records can all be read: `rows` is the tree over them.
    fn damage_around(&self, rows: &Rows) -> io::Result<Option<Damage>> {
        let (slots, tiles, harm) = (&self.slots, self.tiles.as_ref(), self.store.harm());
        let mut files = audit::compare_files(&self.store, slots, tiles, rows);
        files.extend(self.files()?);
        let cause = harm.is_harmful.then(|| harm.to_string());
        let is_damaged = cause.is_some() || !files.is_empty();
        let end_is_unknown = end_is_unknown(slots, tiles, rows.leaves().len() as Seq);
        let damage = Damage { missing: Vec::new(), cause, files, end_is_unknown };
        Ok(is_damaged.then_some(damage))
    }

    fn into_log(self, recovered: Recovered) -> StoppedLog {
        let Recovered { dedupe, lost, rows, .. } = recovered;
        let (blocks, dedupe) = (RemainingBlocks::whole(self.store), RwLock::new(dedupe));
        StoppedLog { blocks, dedupe, lost, unreadable: Vec::new(), rows, is_proven: true }
    }
}

/// What is left of a damaged data folder, whose store may be gone.
pub(super) struct Remains {
    pub(super) store: Option<RawStore>,
    pub(super) slots: Slots,
    pub(super) tiles: Option<Tiles>,
    /// Holds the folder's lock, if it has one.
    _lock: Option<File>,
}

impl Remains {
    /// Reads the whole file of the store once, if there is one. Returns `None` if the folder never
    /// held a log.
    pub(super) fn of(folder: &Path) -> Result<Option<Remains>, OpenError> {
        Remains::in_store(folder).map_err(|error| OpenError::of(error, folder))
    }

    fn in_store(folder: &Path) -> Result<Option<Remains>, StoreError> {
        if was_never_used(folder)? && !fs::exists(folder.join("store"))? {
            return Ok(None);
        }
        let lock = lock_for_reading(folder)?;
        let slots = Slots::read(&folder.join("checkpoint"))?;
        let tiles = Tiles::open_read_only(&folder.join("tree"))?;
        let store = match RawStore::open_locked(folder, known(&slots, tiles.as_ref())?) {
            Ok(store) => Some(store),
            // Its file is missing, or has nothing of a log.
            Err(StoreError::Unnamed) => None,
            Err(StoreError::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Some(Remains { store, slots, tiles, _lock: lock }))
    }

    /// Returns the name of the log, if anything still says it.
    pub(super) fn log_id(&self) -> Option<LogId> {
        let of_slots = || self.slots.newest.map(|newest| newest.log_id);
        self.store.as_ref().map(|store| store.log_id()).or_else(of_slots)
    }

    /// Returns the number of records that were on the disk, as the other files say.
    pub(super) fn known_size(&self) -> io::Result<Seq> {
        Ok(known(&self.slots, self.tiles.as_ref())?.size)
    }
}

/// Returns what the other files of a data folder say about its store. Tiles are written after the
/// records that they cover are on the disk, but only an acknowledgement is certain.
fn known(slots: &Slots, tiles: Option<&Tiles>) -> io::Result<Known> {
    let log_id = slots.newest.map(|newest| newest.log_id);
    let acknowledged = slots.newest.map_or(0, |newest| newest.size);
    if slots.newest.is_some() && slots.damaged.is_empty() {
        return Ok(Known { size: acknowledged, log_id });
    }
    let leaves = tiles.map_or(Ok(0), Tiles::size)?;
    Ok(Known { size: acknowledged.max(leaves), log_id })
}

/// Returns whether nothing around a store would show that records after the first `head` are
/// missing. An acknowledgement does, unless the other slot, which may have been the last, is damaged;
/// tiles do that reach as far as the records.
pub(super) fn end_is_unknown(slots: &Slots, tiles: Option<&Tiles>, head: Seq) -> bool {
    let is_acknowledged = slots.newest.is_some() && slots.damaged.is_empty();
    !is_acknowledged && tiles.and_then(|tiles| tiles.size().ok()).unwrap_or(0) < head
}

/// Returns whether nothing in a data folder says that its log ever had a record or a key.
pub(super) fn was_never_used(folder: &Path) -> io::Result<bool> {
    let slots = Slots::read(&folder.join("checkpoint"))?;
    let tiles = Tiles::open_read_only(&folder.join("tree"))?;
    let leaves = tiles.map_or(Ok(0), |tiles| tiles.size())?;
    let has_key = fs::symlink_metadata(folder.join("checkpoint-key.pub")).is_ok();
    Ok(slots.is_unused() && leaves == 0 && !has_key)
}

/// The log of a data folder that is only read.
pub struct StoppedLog {
    blocks: RemainingBlocks,
    dedupe: RwLock<Dedupe>,
    /// The records that are lost or cannot be read.
    lost: Vec<(Seq, Seq)>,
    /// Those of them that cannot be read.
    unreadable: Vec<(Seq, Seq)>,
    rows: Rows,
    /// False if the tree is not certain to be the one that was acknowledged.
    is_proven: bool,
}

impl StoppedLog {
    /// Returns the records without which the log was once restored.
    pub fn once_lost(&self) -> Vec<(Seq, Seq)> {
        let unreadable: Ranges = self.unreadable.iter().copied().collect();
        self.lost.iter().copied().collect::<Ranges>().without(&unreadable).iter().collect()
    }

    /// Refuses to prove anything by a tree that is not certain.
    fn tree(&self) -> Result<&Rows, ReadError> {
        let what = "records are missing, and the tree over those that are left proves nothing";
        self.is_proven.then_some(&self.rows).ok_or_else(|| ReadError::Store(what.into()))
    }
}

impl History for StoppedLog {
    fn read(
        &self,
        after: Seq,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.blocks.read(after, self.head(), events_max, bytes_max)
    }

    fn head(&self) -> Seq {
        self.rows.leaves().len() as Seq
    }

    fn identity(&self) -> Identity {
        Identity { log_id: self.blocks.log_id(), format: u32::from(FORMAT) }
    }

    fn root(&self, size: Seq) -> Result<[u8; 32], ReadError> {
        check_in_tree(0, size, self.head())?;
        merkle::root(self.tree()?, size)
    }

    fn lost_leaves(&self) -> Result<LostLeaves, ReadError> {
        Ok(lost_leaves::among(&self.lost, self.rows.leaves()))
    }
}

impl Log for StoppedLog {
    fn append(&self, batch: Vec<Verified>, _: Millis) -> Result<Vec<Outcome>, AppendError> {
        match batch.is_empty() {
            true => Ok(Vec::new()),
            false => Err(AppendError::Rejected("the log is open for reading only".into())),
        }
    }

    fn entries(
        &self,
        after: Seq,
        events_max: usize,
        each: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<Seq, ReadError> {
        self.blocks.entries(after, self.head(), events_max, each)
    }

    fn bodies(&self, seqs: &[Seq]) -> Result<Vec<Bytes>, ReadError> {
        self.blocks.bodies(seqs, self.head())
    }

    fn find(&self, event_id: &str) -> Result<Option<Seq>, ReadError> {
        let candidates = self.dedupe.read().candidates(event_id, self.head());
        find_among(candidates, event_id, &|seq| self.blocks.candidate(seq).map(Some))
    }

    fn lost(&self) -> Vec<(Seq, Seq)> {
        self.lost.clone()
    }

    fn wait(&self, _: Seq, timeout: Duration) -> Seq {
        std::thread::sleep(timeout);
        self.head()
    }

    fn inclusion(&self, seq: Seq, size: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        check_in_tree(seq, size, self.head())?;
        merkle::inclusion(self.tree()?, seq.checked_sub(1).ok_or(ReadError::Absent { seq })?, size)
    }

    fn consistency(&self, from: Seq, to: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        check_in_tree(from, to, self.head())?;
        merkle::consistency(self.tree()?, from, to)
    }
}
