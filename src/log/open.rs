//! Opening a data folder: its store is opened and locked, then audited, or recovered into a log.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rollcall_projections::{Entry, Millis, Seq};

use super::acknowledgement::{Acknowledgement, AcknowledgementFile, Slots};
use super::block::FORMAT;
use super::deferred::DeferredCheck;
use super::disk::DiskFault;
use super::entries::refuse_odd_entries;
use super::kept::Prefix;
use super::lanes::Cores;
use super::lost_leaves::{self, LostLeaves};
use super::merkle;
use super::private;
use super::raw::Harm;
use super::recovery::{Fault, Recovered};
use super::sled_log::SledLog;
use super::stopped::{StoppedFolder, was_never_used};
use super::store::{self, Blocks, Store, StoreError};
use super::tiles::{Repair, Tiles};
use super::{DurableHead, History, Identity, LogId, ReadError, Record, check_in_tree};

/// Why a data folder does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("the data folder `{0}` is in use by another process")]
    InUse(PathBuf),
    /// Another user owns it, who could not read the files that root creates in it.
    #[error(
        "the data folder `{path}` belongs to the user with id {user}, who could not read the files \
        that root creates in it: run the command as that user, with `sudo -u '#{user}'`"
    )]
    OfUser {
        /// The folder.
        path: PathBuf,
        /// The id of its owner.
        user: u32,
    },
    /// The disk reports an error.
    #[error("the data folder `{path}` cannot be opened: {error}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The disk is full or read-only.
    #[error("{}", fault.message(path))]
    Blocked {
        /// The folder.
        path: PathBuf,
        /// What is wrong with its disk.
        fault: DiskFault,
    },
    /// The store is damaged, and opening it would cost records. Nothing was changed.
    #[error(
        "the store in `{path}` is damaged: {harm}; nothing was changed; `rollcall salvage --data \
        {path} --out NEW` takes out what can be read"
    )]
    Harmed {
        /// The folder.
        path: PathBuf,
        /// The damage.
        harm: Harm,
    },
    /// The store's own files are damaged.
    #[error(
        "the store in `{path}` is damaged and does not open ({what}); `rollcall salvage --data \
        {path} --out NEW` takes out what can be read"
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// The message of the store.
        what: String,
    },
    /// Another version wrote it.
    #[error("the store in `{path}` has format {format}, and this version reads format {FORMAT}")]
    Format {
        /// The folder.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// An acknowledged record is missing or was changed.
    #[error(
        "the log is not the one that was acknowledged: {what}; {}; `rollcall salvage` takes out \
        every other record",
        first_bad(*seq, *last)
    )]
    Diverged {
        /// The first bad record, or the first that may be it.
        seq: Seq,
        /// The last that may be it.
        last: Seq,
        /// A description of the fault.
        what: String,
    },
    /// The tree's tiles and the records contradict each other, and no acknowledged root decides
    /// which of the two is right.
    #[error(
        "{what}; if you trust the records, remove its folder `tree`; a whole copy of the folder \
        tells which is right"
    )]
    Disputed {
        /// The first record in question.
        seq: Seq,
        /// A description of the contradiction.
        what: String,
    },
}

impl OpenError {
    /// Returns true if the records in the folder are in question, so that a copy of them helps.
    pub fn is_damage(&self) -> bool {
        match self {
            OpenError::Harmed { .. }
            | OpenError::Damaged { .. }
            | OpenError::Diverged { .. }
            | OpenError::Disputed { .. } => true,
            OpenError::InUse(_)
            | OpenError::OfUser { .. }
            | OpenError::Io { .. }
            | OpenError::Blocked { .. }
            | OpenError::Format { .. } => false,
        }
    }

    /// Adds the data folder to an error of its store.
    pub(super) fn of(error: StoreError, folder: &Path) -> OpenError {
        let path = folder.to_owned();
        match error {
            StoreError::InUse => OpenError::InUse(path),
            StoreError::Io(error) => OpenError::io(path, error),
            StoreError::Damaged(what) => OpenError::Damaged { path, what },
            StoreError::Unnamed => {
                OpenError::Damaged { path, what: "its identity is missing".into() }
            }
            StoreError::Format(format) => OpenError::Format { path, format },
            StoreError::OfUser(user) => OpenError::OfUser { path, user },
        }
    }

    /// Adds the data folder to a fault of its records.
    pub(super) fn of_fault(fault: Fault, folder: &Path) -> OpenError {
        match fault {
            Fault { disk: Some(code), .. } => {
                OpenError::io(folder.to_owned(), io::Error::from_raw_os_error(code))
            }
            Fault { disputed: true, first, what, .. } => OpenError::Disputed { seq: first, what },
            Fault { first, last, what, .. } => OpenError::Diverged { seq: first, last, what },
        }
    }

    /// Returns what is wrong, without what to do.
    pub(super) fn cause(&self) -> String {
        match self {
            OpenError::Harmed { harm, .. } => harm.to_string(),
            OpenError::Diverged { seq, last, what } => {
                format!("{what}; {}", first_bad(*seq, *last))
            }
            OpenError::Disputed { what, .. } => what.clone(),
            other => other.to_string(),
        }
    }

    /// Tells a disk that takes no writes apart from other errors.
    pub(super) fn io(path: PathBuf, error: io::Error) -> OpenError {
        match DiskFault::of(&error) {
            Some(fault) => OpenError::Blocked { path, fault },
            None => OpenError::Io { path, error },
        }
    }
}

fn first_bad(seq: Seq, last: Seq) -> String {
    if last > seq {
        format!("the first bad record is one of {seq} to {last}")
    } else {
        format!("the first bad record is {seq}")
    }
}

/// Returns whether `folder` holds a log or its remains. Creates and locks nothing.
///
/// # Errors
/// If the disk reports an error.
pub fn is_data_folder(folder: &Path) -> io::Result<bool> {
    Ok(fs::exists(folder.join("store").join("db"))? || fs::exists(folder.join("checkpoint"))?)
}

/// A data folder that is locked, and whose records are not yet checked. Nothing in it is changed yet.
pub struct Unrecovered {
    /// `None` if there is no log in it yet.
    stopped: Option<Arc<StoppedFolder>>,
    /// The cores that the check uses.
    cores: Cores,
    /// `None` if the folder has no lock yet.
    lock: Option<fs::File>,
    folder: PathBuf,
    cache_bytes: u64,
    #[cfg(test)]
    sync_data: Option<store::SyncData>,
}

impl Unrecovered {
    /// Opens the log in `folder`. `cache_bytes` bounds sled's cache of pages.
    ///
    /// # Errors
    /// If the folder is in use, unreadable, damaged or of another format, or if this process is
    /// root's and the folder another user's.
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Unrecovered, OpenError> {
        Unrecovered::open_in_store(folder, cache_bytes)
            .map_err(|error| OpenError::of(error, folder))
    }

    fn open_in_store(folder: &Path, cache_bytes: u64) -> Result<Unrecovered, StoreError> {
        // These files are created after the store. Alone they are the remains of a log, which a new
        // log must not replace.
        let was_used = folder.join("checkpoint").exists() || !was_never_used(folder)?;
        if was_used && !Store::is_in(folder) {
            return Err(StoreError::Damaged("its store is missing".into()));
        }
        private::refuse_folder_of_another(folder)?;
        refuse_odd_entries(folder)?;
        // The lock comes first, so that no other process writes to what is judged.
        let lock = store::take_existing_lock(folder)?;
        let stopped = StoppedFolder::open_locked(folder)?.map(Arc::new);
        Ok(Unrecovered {
            stopped,
            cores: Cores::All,
            lock,
            folder: folder.to_owned(),
            cache_bytes,
            #[cfg(test)]
            sync_data: None,
        })
    }

    /// Returns true if there is no log in the folder yet.
    pub fn is_new(&self) -> bool {
        self.stopped.is_none()
    }

    /// Returns the records as they are before any check, for work that is thrown away if the check
    /// fails. The check leaves a core to that work. `None` if there is no log in the folder yet.
    pub fn unchecked(&mut self) -> Option<Unchecked> {
        self.cores = Cores::AllButOne;
        self.stopped.clone().map(Unchecked)
    }

    /// Returns the last record by the store's keys: an estimate of the work of a check.
    pub(super) fn last_key(&self) -> Seq {
        self.stopped.as_ref().map_or(0, |stopped| stopped.last_key())
    }

    /// Replaces the sync of the store's data file.
    #[cfg(test)]
    pub(crate) fn syncing_by(
        mut self,
        sync_data: impl Fn(&fs::File) -> io::Result<()> + Send + Sync + 'static,
    ) -> Unrecovered {
        self.sync_data = Some(Box::new(sync_data));
        self
    }

    /// Checks that every record can be unpacked, that they have no gaps and are in order of their
    /// stamps, and that they lead to the root and the last leaf that were acknowledged. Builds the
    /// dedupe index. Uses all cores. `progress` gets the last seq seen, from time to time. Changes
    /// nothing.
    ///
    /// # Errors
    /// [`OpenError::Harmed`] names damage that opening the store would make worse.
    /// [`OpenError::Diverged`] names the first bad record. [`OpenError::Disputed`] names, where no
    /// acknowledged root decides, the first record that the tiles contradict or that only they
    /// know.
    pub fn check(self, progress: &dyn Fn(Seq)) -> Result<Checked, OpenError> {
        self.check_after(None, progress)
    }

    /// Checks the folder as [`Unrecovered::check`] does, but for the records that a snapshot knows,
    /// if an acknowledged root covers them: [`Log::check_deferred`](super::Log::check_deferred) checks those
    /// while the log is in use. Where anything about them does not fit, all records are checked.
    ///
    /// # Errors
    /// Those of [`Unrecovered::check`].
    pub fn check_after(
        self,
        prefix: Option<Prefix>,
        progress: &dyn Fn(Seq),
    ) -> Result<Checked, OpenError> {
        let recovered = match &self.stopped {
            Some(stopped) => {
                let recovered = stopped.check_after(prefix, self.cores, progress)?;
                stopped.refuse_harm()?;
                recovered
            }
            None => Recovered::nothing(),
        };
        Ok(Checked { unrecovered: self, recovered })
    }

    /// Checks the records and opens the log: see [`Unrecovered::check`] and [`Checked::open`].
    ///
    /// # Errors
    /// Those of both.
    pub fn recover(self, progress: &dyn Fn(Seq)) -> Result<SledLog, OpenError> {
        self.check(progress)?.open()
    }
}

/// The records of a data folder that are not checked: each may be another than was acknowledged.
#[derive(Clone)]
pub struct Unchecked(Arc<StoppedFolder>);

impl Unchecked {
    /// Returns the last record that the store says to have.
    pub fn last(&self) -> Seq {
        self.0.store.last_seq()
    }

    /// Shows `each` entries as [`Checked::entries`] does.
    ///
    /// # Errors
    /// Stops at the first bad record that it notices; the entries before it have been shown.
    pub fn entries(
        &self,
        after: Seq,
        events_max: usize,
        each: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<Seq, ReadError> {
        self.0.store.entries(after, self.last(), events_max, each)
    }
}

/// A data folder that is locked, and whose records are all as they were acknowledged. Nothing in it
/// is changed yet, so a start that is refused for another reason leaves it as it was.
pub struct Checked {
    unrecovered: Unrecovered,
    recovered: Recovered,
}

impl Checked {
    /// Returns the name of the log; `None` if there is no log in the folder yet.
    pub fn log_id(&self) -> Option<LogId> {
        self.unrecovered.stopped.as_ref().map(|stopped| stopped.store.log_id())
    }

    /// Returns whether these are the records that `unchecked` has shown, so that what was made of them
    /// holds.
    pub fn vouches_for(&self, unchecked: &Unchecked) -> bool {
        let stopped = self.unrecovered.stopped.as_ref();
        stopped.is_some_and(|stopped| Arc::ptr_eq(stopped, &unchecked.0))
            && unchecked.last() == self.head()
    }

    /// Returns the stamp of the newest record; [`Millis::MIN`] before the first.
    pub fn recorded_at(&self) -> Millis {
        self.recovered.recorded_at
    }

    /// Returns the records that name another key for checkpoints, in order.
    pub fn key_changes(&self) -> &[Record] {
        &self.recovered.key_changes
    }

    /// Returns whether a snapshot spared the check of some records: then it may have left out one that
    /// names another key.
    pub fn has_spared_records(&self) -> bool {
        self.recovered.deferred.is_some()
    }

    /// Checks every record, also those that a snapshot spared: see [`Unrecovered::check`].
    ///
    /// # Errors
    /// Those of [`Unrecovered::check`].
    pub fn check_all(self, progress: &dyn Fn(Seq)) -> Result<Checked, OpenError> {
        self.unrecovered.check(progress)
    }

    /// Shows `each` an entry for the fold from each record after `after`, at most about
    /// `events_max`, and returns the last seq shown. Reads the store's file without the store, whose
    /// cache would keep many pages of which each is read once.
    ///
    /// # Errors
    /// Stops at the first bad record; the entries before it have been shown.
    pub fn entries(
        &self,
        after: Seq,
        events_max: usize,
        each: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<Seq, ReadError> {
        match &self.unrecovered.stopped {
            Some(stopped) => stopped.store.entries(after, self.head(), events_max, each),
            None => Ok(after),
        }
    }

    /// Returns the folder, and the bound of sled's cache of pages.
    pub(super) fn source(&self) -> (PathBuf, u64) {
        (self.unrecovered.folder.clone(), self.unrecovered.cache_bytes)
    }

    /// Opens the log. From here on the folder is created or changed: other users cannot read it any
    /// more, nor any file that this process creates without a mode of its own; the store is opened,
    /// and the tiles are repaired.
    ///
    /// # Errors
    /// If a file cannot be read or written, or the store does not open.
    pub fn open(self) -> Result<SledLog, OpenError> {
        self.open_as(Arc::default())
    }

    /// Opens a log whose head others may be waiting for.
    pub(super) fn open_as(self, durable_head: Arc<DurableHead>) -> Result<SledLog, OpenError> {
        let OpenParts { store, tiles, acknowledgements, recovered } = self.open_parts()?;
        Ok(SledLog::new(store, tiles, acknowledgements, recovered, durable_head))
    }

    /// Opens the store and the files around it, as [`Checked::open`] does.
    pub(super) fn open_parts(self) -> Result<OpenParts, OpenError> {
        let Checked { unrecovered, recovered } = self;
        let folder = unrecovered.folder.clone();
        let opened = catch_unwind(AssertUnwindSafe(|| unrecovered.open_store()))
            .unwrap_or_else(|_| Err(StoreError::Damaged("it panicked while opening".into())));
        let (store, mut acknowledgements, slots) =
            opened.map_err(|error| OpenError::of(error, &folder))?;
        let io_error = |error| OpenError::io(folder.join("tree"), error);
        let tiles = Tiles::open(&folder.join("tree")).map_err(io_error)?;
        let head = recovered.edge.size();
        warn_of_slots(&slots, head);
        match tiles.repair(&recovered.rows).map_err(io_error)? {
            Repair::Unneeded => {}
            Repair::Length => {
                tracing::info!(head, "tree tiles did not end where the log does: repaired")
            }
            Repair::Content => {
                tracing::warn!(head, "tree tiles did not match the log: rebuilt")
            }
        }
        repair_slots(&mut acknowledgements, &slots, store.log_id, &recovered)
            .map_err(|error| OpenError::io(folder.join("checkpoint"), error))?;
        Ok(OpenParts { store, tiles, acknowledgements, recovered })
    }

    /// Takes the check of the records that were not read.
    pub(super) fn take_deferred(&mut self) -> Option<DeferredCheck> {
        self.recovered.deferred.take()
    }

    /// Returns the records that are lost.
    pub(super) fn lost(&self) -> &[(Seq, Seq)] {
        &self.recovered.lost
    }
}

/// The parts of a log that is open.
pub(super) struct OpenParts {
    pub(super) store: Store,
    pub(super) tiles: Tiles,
    pub(super) acknowledgements: AcknowledgementFile,
    pub(super) recovered: Recovered,
}

/// A folder without a log has no records and no id yet.
impl History for Checked {
    fn identity(&self) -> Identity {
        let log_id = self.log_id().unwrap_or_default();
        Identity { log_id, format: u32::from(FORMAT) }
    }

    fn head(&self) -> Seq {
        self.recovered.edge.size()
    }

    fn read(
        &self,
        after: Seq,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let stopped = self.unrecovered.stopped.as_ref();
        let read = |stopped: &Arc<StoppedFolder>| {
            stopped.store.read(after, self.head(), events_max, bytes_max)
        };
        stopped.map_or_else(|| Ok(Vec::new()), read)
    }

    fn root(&self, size: Seq) -> Result<[u8; 32], ReadError> {
        check_in_tree(0, size, self.head())?;
        merkle::root(&self.recovered.rows, size)
    }

    fn lost_leaves(&self) -> Result<LostLeaves, ReadError> {
        Ok(lost_leaves::among(&self.recovered.lost, self.recovered.rows.leaves()))
    }
}

impl Unrecovered {
    /// Opens or creates the store. sled may panic; the caller catches.
    fn open_store(self) -> Result<(Store, AcknowledgementFile, Slots), StoreError> {
        let Unrecovered { stopped, lock, folder, cache_bytes, .. } = self;
        private::create_or_tighten(&folder)?;
        let lock = lock.map_or_else(|| store::create_lock(&folder), Ok)?;
        let mut store = Store::open(&folder, cache_bytes, lock)?;
        let (acknowledgements, slots) = AcknowledgementFile::open(&folder.join("checkpoint"))?;
        store.sync_all(&folder)?;
        #[cfg(test)]
        if let Some(sync_data) = self.sync_data {
            store.sync_by(sync_data);
        }
        let found = stopped.map_or(0, |stopped| stopped.last_key());
        let last = store.last_key()?;
        if last != found {
            let what = format!("its last block begins with record {last}, and not with {found}");
            return Err(StoreError::Damaged(what));
        }
        Ok((store, acknowledgements, slots))
    }
}

/// Writes both slots anew if one is damaged, or if there is none where there are records.
fn repair_slots(
    file: &mut AcknowledgementFile,
    slots: &Slots,
    log_id: LogId,
    recovered: &Recovered,
) -> io::Result<()> {
    let Some(leaf) = recovered.rows.leaves().last() else { return Ok(()) };
    if slots.newest.is_some() && slots.damaged.is_empty() {
        return Ok(());
    }
    for _ in 0..2 {
        file.write(&Acknowledgement {
            log_id,
            size: recovered.edge.size(),
            leaf: *leaf,
            root: Some(recovered.edge.root()),
            metadata: Some(recovered.metadata),
        })?;
        file.sync()?;
    }
    Ok(())
}

/// Warns of what the file `checkpoint` cannot vouch for in a log of `head` records.
fn warn_of_slots(slots: &Slots, head: Seq) {
    for slot in &slots.damaged {
        tracing::warn!(
            slot,
            "a slot of the file `checkpoint` is damaged: the last acknowledged records may be \
            missing without a trace"
        );
    }
    match slots.newest {
        None if head > 0 => tracing::warn!(
            head,
            "no acknowledgement is kept: missing or changed records cannot be detected"
        ),
        Some(Acknowledgement { root: None, size, .. }) => {
            tracing::warn!(
                size,
                "the acknowledgement is of a version without a tree: changed records cannot be \
                detected"
            );
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::{part_key, rewrite};
    use super::*;
    use crate::log::{Log, ReadError};
    use crate::verify::{Keyring, Verified};
    use rollcall_generator::sign;

    const NOW: rollcall_projections::Millis = 1_760_000_000_000;

    fn event(id: &str) -> Verified {
        let body = format!(
            concat!(
                r#"{{"id":"{id}","event":"x.y","data":{{"filling":"filling"}},"#,
                r#""created_at":"2025-01-01T00:00:00Z"}}"#,
            ),
            id = id
        );
        let header = sign("s", NOW, body.as_bytes());
        Verified::webhook(&Keyring::new(["s"], 0), Some(header.as_bytes()), body.into(), NOW)
            .unwrap()
    }

    fn open(folder: &Path) -> SledLog {
        Unrecovered::open(folder, 64 << 20).unwrap().recover(&|_| {}).unwrap()
    }

    fn filled(folder: &Path) {
        let log = open(folder);
        for id in ["a", "b", "c", "d"] {
            log.append(vec![event(id)], NOW).unwrap();
        }
    }

    fn first_bad(folder: &Path) -> Option<Seq> {
        match Unrecovered::open(folder, 64 << 20).and_then(|log| log.recover(&|_| {})) {
            Ok(_) => None,
            Err(OpenError::Diverged { seq, .. }) => Some(seq),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn an_error_of_the_disk_at_a_start_does_not_blame_the_records() {
        let fault = Fault::from(ReadError::Disk { code: 5 });
        let error = OpenError::of_fault(fault, Path::new("data"));
        assert!(!error.is_damage());
        let told = "the data folder `data` cannot be opened: Input/output error (os error 5)";
        assert_eq!(error.to_string(), told);
    }

    #[test]
    fn a_missing_record_is_named_when_the_log_is_opened() {
        for (gone, seq) in [(1, 1), (3, 3), (4, 4)] {
            let folder = tempfile::tempdir().unwrap();
            filled(folder.path());
            assert_eq!(first_bad(folder.path()), None);
            rewrite(folder.path(), |blocks| drop(blocks.remove(&part_key(gone, 0)[..])));
            assert_eq!(first_bad(folder.path()), Some(seq));
        }
    }

    #[test]
    fn a_record_in_the_place_of_another_is_named_when_the_log_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        rewrite(folder.path(), |blocks| {
            let [b, c] = [2, 3].map(|seq| blocks[&part_key(seq, 0)[..]].clone());
            blocks.insert(part_key(2, 0).to_vec(), c);
            blocks.insert(part_key(3, 0).to_vec(), b);
        });
        assert_eq!(first_bad(folder.path()), Some(2));
    }

    #[test]
    fn a_flipped_byte_is_never_read_as_other_content() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        let whole = open(folder.path()).read(0, 10, 1 << 20).unwrap();
        let mut length = 0;
        rewrite(folder.path(), |blocks| length = blocks[&part_key(2, 0)[..]].len());
        for at in (0..length).step_by(7) {
            let flip = || {
                rewrite(folder.path(), |blocks| {
                    blocks.get_mut(&part_key(2, 0)[..]).unwrap()[at] ^= 0x40;
                });
            };
            flip();
            match Unrecovered::open(folder.path(), 64 << 20).unwrap().recover(&|_| {}) {
                Ok(log) => match log.read(0, 10, 1 << 20) {
                    Err(ReadError::Damaged { seq, .. }) => assert_eq!(seq, 2),
                    // A section that only the fold reads.
                    Ok(read) => {
                        assert!(read == whole);
                        let folded = log.entries(0, 10, &mut |_| {});
                        assert!(
                            matches!(folded, Err(ReadError::Damaged { seq: 2, .. })),
                            "byte {at}: {folded:?}"
                        );
                    }
                    other => panic!("byte {at}: {other:?}"),
                },
                Err(OpenError::Diverged { seq, .. }) => assert_eq!(seq, 2),
                Err(other) => panic!("byte {at}: {other}"),
            }
            flip();
        }
        assert!(open(folder.path()).read(0, 10, 1 << 20).unwrap() == whole);
    }

    #[test]
    fn a_half_written_snapshot_does_not_keep_the_log_from_opening() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        let store = folder.path().join("store");
        for entry in fs::read_dir(&store).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            }
        }
        fs::write(store.join("snap.00000000000000FF.generating"), b"half").unwrap();
        assert_eq!(open(folder.path()).head(), 4);
    }

    #[test]
    fn a_folder_that_is_in_use_is_not_opened_twice() {
        let folder = tempfile::tempdir().unwrap();
        let _log = open(folder.path());
        assert!(matches!(Unrecovered::open(folder.path(), 64 << 20), Err(OpenError::InUse(_))));
    }
}
