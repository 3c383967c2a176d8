//! Snapshots of the views: read at a start, compared once with a fold of the log, and written again
//! in the background and at a clean stop.
//!
//! A program that can write to the data folder can write a snapshot that says anything. So after each
//! start from one, on a thread of low priority, the records that it covers are checked, and the log is
//! folded from its first record. A snapshot that is not what the fold gives is dropped, and the views
//! are rebuilt; one over damaged records is dropped too, and the next start checks them all.
//!
//! Views that are being written must not change, and writing them takes seconds. So the background
//! does not write the serving views but others, which it folds from the snapshot before: no lock is
//! taken, at the price of their memory for that time.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rollcall_projections::{Cut, EventFilter, EventType, Millis, Seq, Sight, Start, Views};

use super::Engine;
use super::attributes::{Noted, ReadProgress, note_rest};
use super::snapshot_file::{
    self, Binding, Digest32, Header, Snapshot, Unusable, digest_of, drop_snapshot,
};
use super::writer::{FOLD_EVENTS, Notes, fold};
use crate::allocator;
use crate::log::{DeferredStep, DeferredVerdict, History, Prefix, ReadError};

/// A snapshot is written once the log has this many records more than the last one, or a quarter
/// more if that is more: a start folds no more than that, and writing costs a few microseconds an
/// event.
const RECORDS_BETWEEN: Seq = 100_000;

/// The disk space that a snapshot may take for each record, at most about.
const BYTES_OF_RECORD: u64 = 512;

/// The records that are folded before the thread looks if it is to end: few, since on a busy machine
/// it gets little of a processor, and a stop waits for it.
const FOLDED_AT_ONCE: Seq = 256;

/// The time between two looks at whether a snapshot is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The time between two tries of a step of the deferred check, or of the comparison, that fails.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 60_000 });

/// The number of changes of the key that are looked up at once.
const KEY_CHANGES: usize = 64;

/// The priority of the thread, as `nice` counts it: everything else comes first.
const NICENESS: i32 = 19;

/// The views with which a start begins: of no record, or those of a snapshot.
#[derive(Default)]
pub struct Beginning {
    pub(super) views: Views,
    pub(super) noted: Noted,
    pub(super) snapshot: Option<Known>,
}

/// A snapshot whose content is known.
#[derive(Clone, Copy)]
pub(super) struct Known {
    seq: Seq,
    digest: Digest32,
}

/// The snapshot in a data folder as it was read, whether or not it is of use.
pub struct ReadSnapshot(Result<Snapshot, Unusable>);

impl ReadSnapshot {
    /// Reads the snapshot in a data folder.
    pub fn of(folder: &Path) -> ReadSnapshot {
        ReadSnapshot(snapshot_file::read(folder))
    }

    /// Returns none.
    pub fn none() -> ReadSnapshot {
        ReadSnapshot(Err(Unusable::Missing))
    }

    /// Returns true if it is whole. Whether it is of a log, the log decides.
    pub fn is_whole(&self) -> bool {
        self.0.is_ok()
    }

    /// Reads it on a thread of its own.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn begin(folder: &Path) -> io::Result<JoinHandle<ReadSnapshot>> {
        let folder = folder.to_owned();
        thread::Builder::new().name("read-snapshot".into()).spawn(move || ReadSnapshot::of(&folder))
    }

    /// Takes out what spares a start the check of the records that it covers.
    pub fn take_prefix(&mut self) -> Option<Prefix> {
        let Snapshot { header, views, kept } = self.0.as_mut().ok()?;
        let Binding { log_id, root, .. } = header.binding;
        let kept = kept.take()?;
        // Views that a forger made may be such as no fold leads to.
        let looked = || (views.recorded_at(), key_changes(views));
        let Ok((recorded_at, key_changes)) = catch_unwind(AssertUnwindSafe(looked)) else {
            self.0 = Err(Unusable::Damaged("its views cannot be looked at".into()));
            return None;
        };
        Some(Prefix { log_id, root, recorded_at, key_changes, kept })
    }

    /// Refuses it if it leaves out one of these records, which name another key for checkpoints: the
    /// views would say that another key signs.
    pub fn refuse_without(&mut self, changes: impl Iterator<Item = Seq>) {
        let Ok(Snapshot { header, views, .. }) = &self.0 else { return };
        let named = catch_unwind(AssertUnwindSafe(|| key_changes(views))).unwrap_or_default();
        let mut covered = changes.filter(|seq| *seq <= header.binding.seq);
        if covered.any(|seq| !named.contains(&seq)) {
            self.0 = Err(Unusable::Other("it leaves out a change of the checkpoint key"));
        }
    }

    /// Returns its views, if it covers the first records of a log. One that cannot be used is named
    /// in the log of this process, and costs the time of folding what it covers.
    pub fn beginning(self, history: &dyn History) -> Beginning {
        let fits = |read: Snapshot| read.header.check(history).map(|()| read);
        match self.0.and_then(fits) {
            Ok(Snapshot { header, views, .. }) => {
                let (seq, digest) = (header.binding.seq, header.digest);
                tracing::info!(seq, "the views up to this record are those of the snapshot");
                let noted = Noted::of(&views);
                Beginning { views, noted, snapshot: Some(Known { seq, digest }) }
            }
            Err(Unusable::Missing) => Beginning::default(),
            Err(unusable) => {
                let why = unusable.to_string();
                tracing::warn!(why, "the snapshot is not used: the whole log is folded");
                Beginning::default()
            }
        }
    }
}

/// Returns the records that name another key for checkpoints, in order.
fn key_changes(views: &Views) -> Vec<Seq> {
    let (mut seqs, mut start) = (Vec::new(), Some(Start::After(0)));
    let event_types = [EventType::CheckpointKeyChanged.name().to_owned()];
    let filter =
        EventFilter { event_types: &event_types, organization: None, from: None, until: None };
    while let Some(place) = start {
        let step = views.seen_by(&Sight::All).events_step(&filter, Cut::LATEST, place, KEY_CHANGES);
        seqs.extend(step.items.iter().map(|row| row.seq));
        start = step.next;
    }
    seqs
}

impl Beginning {
    /// Returns the last record that the views hold.
    pub fn seq(&self) -> Seq {
        self.views.head()
    }
}

/// The comparison of the snapshot of the start with a fold of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotComparison {
    /// The start used none.
    None,
    /// It has not ended.
    Pending,
    /// The snapshot is what the log folds to.
    Equal,
    /// It is not. It was dropped, and the views are rebuilt.
    Different,
    /// Records that it covers are damaged, so that nothing can be compared. It was dropped, so that
    /// the next start checks every record.
    Impossible,
}

impl SnapshotComparison {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            SnapshotComparison::None => "none",
            SnapshotComparison::Pending => "pending",
            SnapshotComparison::Equal => "equal",
            SnapshotComparison::Different => "different",
            SnapshotComparison::Impossible => "impossible",
        }
    }
}

/// The state of the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotState {
    /// The last record that the snapshot on the disk covers; 0 without one.
    pub seq: Seq,
    /// The length of its file, if this process has written it.
    pub bytes: Option<u64>,
    /// When this process wrote it.
    pub written_at: Option<Millis>,
    /// The last record that the snapshot of the start covered; 0 without one.
    pub started_from: Seq,
    /// Its comparison with a fold of the log.
    pub comparison: SnapshotComparison,
    /// The moment at which that ended.
    pub compared_at: Option<Millis>,
    /// True while the serving views may be those of a snapshot that is different, or over records that
    /// cannot be checked: then none is written.
    is_doubtful: bool,
}

impl SnapshotState {
    /// Returns the state after a start.
    pub(super) fn begun(snapshot: Option<Known>) -> SnapshotState {
        let seq = snapshot.map_or(0, |known| known.seq);
        let comparison = match snapshot {
            Some(_) => SnapshotComparison::Pending,
            None => SnapshotComparison::None,
        };
        SnapshotState {
            seq,
            bytes: None,
            written_at: None,
            started_from: seq,
            comparison,
            compared_at: None,
            is_doubtful: false,
        }
    }
}

/// What is known of the serving views, which may be those of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewsOrigin {
    /// They are what the log folds to.
    Log,
    /// The snapshot of the start is not compared yet, or was different and is still in use.
    Unproven,
    /// They replaced those of a snapshot that was different, and are what the log folds to.
    Rebuilt,
}

/// The reason why a step of the background ended.
enum Ended {
    Stopped,
    Failed(String),
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Ended {
        Ended::Failed(error.to_string())
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        match error.kind() {
            io::ErrorKind::Interrupted => Ended::Stopped,
            _ => Ended::Failed(error.to_string()),
        }
    }
}

/// Ends the waits and the work of the thread.
#[derive(Default)]
struct Stop {
    is_set: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Stop {
    fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    /// Waits; returns true if the thread is to end.
    fn wait(&self, time: Duration) -> bool {
        let mut lock = self.lock.lock();
        if !self.is_set() {
            self.changed.wait_for(&mut lock, time);
        }
        self.is_set()
    }
}

/// The thread that compares and writes snapshots.
pub struct Snapshots {
    folder: PathBuf,
    engine: Weak<Engine>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the thread that keeps the snapshot in a data folder.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn keep_snapshots(self: &Arc<Self>, folder: &Path) -> io::Result<Snapshots> {
        let stop = Arc::new(Stop::default());
        let (engine, folder) = (Arc::downgrade(self), folder.to_owned());
        let keeper = Keeper { engine: engine.clone(), folder: folder.clone(), stop: stop.clone() };
        let work = move || {
            // Without a process the calling thread is meant. A refusal only costs the order.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            keeper.run();
        };
        *self.snapshot.lock() = Some(SnapshotState::begun(self.begun_from));
        let thread = thread::Builder::new().name("snapshots".into()).spawn(work)?;
        Ok(Snapshots { folder, engine, stop, thread: Some(thread) })
    }

    /// Returns the state of the snapshot; `None` if none is kept.
    pub fn snapshot(&self) -> Option<SnapshotState> {
        *self.snapshot.lock()
    }

    /// Returns a digest of what the answers at a record depend on besides the records up to it: the
    /// version of the fold, and the records that are lost. Blocks while it reads the log.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn basis(&self, seq: Seq) -> Result<[u8; 32], ReadError> {
        snapshot_file::basis(&*self.log, seq)
    }

    /// Returns what is known of the serving views. After [`ViewsOrigin::Log`] and
    /// [`ViewsOrigin::Rebuilt`] it never changes.
    pub fn views_origin(&self) -> ViewsOrigin {
        let Some(state) = self.snapshot() else {
            let has_begun_from_one = self.begun_from.is_some();
            return if has_begun_from_one { ViewsOrigin::Unproven } else { ViewsOrigin::Log };
        };
        match state.comparison {
            SnapshotComparison::None | SnapshotComparison::Equal => ViewsOrigin::Log,
            SnapshotComparison::Different if !state.is_doubtful => ViewsOrigin::Rebuilt,
            SnapshotComparison::Pending
            | SnapshotComparison::Different
            | SnapshotComparison::Impossible => ViewsOrigin::Unproven,
        }
    }

    /// Returns true if there is room on the disk for a snapshot of some records.
    fn has_room_for_snapshot(&self, seq: Seq) -> bool {
        let needed = seq.saturating_mul(BYTES_OF_RECORD);
        let space = self.disk_space();
        space.is_none_or(|space| !space.is_low() && space.free > space.reserve + needed)
    }

    fn note_snapshot(&self, change: impl FnOnce(&mut SnapshotState)) {
        if let Some(state) = self.snapshot.lock().as_mut() {
            change(state);
        }
    }

    fn note_written(&self, seq: Seq, bytes: u64) {
        tracing::info!(seq, bytes, "a snapshot of the views was written");
        let (bytes, now) = (Some(bytes), Some(self.clock.now_ms()));
        self.note_snapshot(|state| {
            (state.seq, state.bytes, state.written_at) = (seq, bytes, now);
        });
    }
}

impl Snapshots {
    /// Ends the thread, and leaves a snapshot of all records. Is called when the writer has ended.
    pub fn finish(mut self) {
        self.stop.is_set.store(true, Ordering::Relaxed);
        drop(self.stop.lock.lock());
        self.stop.changed.notify_all();
        // After a panic nothing is known of the views.
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            return;
        }
        let Some(engine) = self.engine.upgrade() else { return };
        let has_failed = engine.failed.load(Ordering::SeqCst);
        let Some(state) = engine.snapshot().filter(|state| !state.is_doubtful) else { return };
        let seq = engine.folded_head();
        if has_failed || seq == state.seq || !engine.has_room_for_snapshot(seq) {
            return;
        }
        match self.write_serving(&engine) {
            Ok(Some(bytes)) => engine.note_written(seq, bytes),
            Ok(None) => {}
            Err(Ended::Failed(error)) => warn_of_unwritten(&error),
            Err(Ended::Stopped) => {}
        }
    }

    /// Writes the serving views. Returns the length of the file; `None` if they are not those of all
    /// records.
    fn write_serving(&self, engine: &Engine) -> Result<Option<u64>, Ended> {
        let (views, kept) = (engine.views(), engine.log.keep());
        if kept.as_ref().is_some_and(|kept| kept.seq != views.head()) {
            return Ok(None);
        }
        let binding = Binding::of(&*engine.log, views.head())?;
        let kept = kept.map_or_else(Vec::new, |kept| kept.bytes);
        Ok(Some(snapshot_file::write(&self.folder, binding, (&*views, kept.as_slice()), &|| true)?))
    }
}

fn warn_of_unwritten(error: &str) {
    tracing::warn!(error, "no snapshot of the views could be written: the next start takes longer");
}

/// The thread's own part of [`Snapshots`].
struct Keeper {
    engine: Weak<Engine>,
    folder: PathBuf,
    stop: Arc<Stop>,
}

impl Keeper {
    fn run(&self) {
        let Ok(mut folded) = self.prove() else { return };
        let mut failed_at = 0;
        while !self.stop.wait(LOOK_EVERY) {
            let Some(engine) = self.engine.upgrade() else { return };
            let Some(state) = engine.snapshot() else { return };
            let head = engine.folded_head();
            // After a failure the log must grow as much before the next try.
            let is_due = !state.is_doubtful && is_due(head, state.seq.max(failed_at));
            if !is_due || engine.refuses_events() {
                if folded.take().is_some() {
                    allocator::give_back();
                }
                continue;
            }
            if !engine.has_room_for_snapshot(head) {
                continue;
            }
            match self.write(&engine, folded.take(), state.seq) {
                Err(Ended::Stopped) => return,
                Err(Ended::Failed(error)) => {
                    failed_at = head;
                    warn_of_unwritten(&error);
                }
                Ok(()) => {}
            }
            allocator::give_back();
        }
    }

    fn engine(&self) -> Result<Arc<Engine>, Ended> {
        self.engine.upgrade().filter(|_| !self.stop.is_set()).ok_or(Ended::Stopped)
    }

    /// Folds further records of the log up to one, without a lock on the serving views.
    fn fold_up_to(&self, from: Beginning, seq: Seq) -> Result<Views, Ended> {
        let Beginning { mut views, noted, .. } = from;
        while views.head() < seq {
            let count = (seq - views.head()).min(FOLDED_AT_ONCE);
            fold(&*self.engine()?.log, &mut views, count as usize, Notes::Later)?;
        }
        note_rest(&*self.engine()?.log, &mut views, noted, &ReadProgress::default())?;
        Ok(views)
    }

    /// Checks the records that the start took from the snapshot. The first finding drops it: the
    /// process may end before the check does. A step that fails is taken again and again.
    fn check_deferred(&self) -> Result<DeferredVerdict, Ended> {
        let (mut has_dropped, mut has_warned, mut damaged) = (false, false, 0);
        loop {
            let engine = self.engine()?;
            let step = engine.log.check_deferred();
            let state = engine.log.scrub().unwrap_or_default();
            if state.damaged > damaged {
                damaged = state.damaged;
                engine.forget_documents();
            }
            let deferred = state.deferred;
            if !has_dropped && deferred.is_some_and(|deferred| deferred.has_found) {
                has_dropped = true;
                self.drop_of_damaged(&engine);
            }
            match step {
                Ok(DeferredStep::Ended(verdict)) => {
                    if has_warned && !has_dropped {
                        engine.note_snapshot(|state| state.is_doubtful = false);
                    }
                    return Ok(verdict);
                }
                Ok(DeferredStep::GoesOn) => {}
                Err(error) => {
                    if !has_warned {
                        has_warned = true;
                        let (error, after) = (error.to_string(), TRY_AGAIN_AFTER.as_secs());
                        tracing::warn!(
                            error,
                            "records that the snapshot of the start covers could not be checked: \
                             the server tries again every {after} s, and writes no snapshot before"
                        );
                        engine.note_snapshot(|state| state.is_doubtful = true);
                    }
                    drop(engine);
                    if self.stop.wait(TRY_AGAIN_AFTER) {
                        return Err(Ended::Stopped);
                    }
                }
            }
        }
    }

    /// Checks the records that the start took from the snapshot, if there was one, and compares the
    /// snapshot with a fold of the log. Returns the views of that fold. What fails is done again and
    /// again, and no snapshot is written before it succeeds: it would be made of views that nothing
    /// proves.
    fn prove(&self) -> Result<Option<Beginning>, Ended> {
        let verdict = self.check_deferred()?;
        let mut has_warned = false;
        loop {
            // The store may panic when it is read.
            let compared = catch_unwind(AssertUnwindSafe(|| self.compare(verdict)));
            let panicked = || Err(Ended::Failed("it panicked".into()));
            let error = match compared.unwrap_or_else(|_| panicked()) {
                Err(Ended::Failed(error)) => error,
                ended => return ended,
            };
            if !has_warned {
                has_warned = true;
                let after = TRY_AGAIN_AFTER.as_secs();
                tracing::warn!(
                    error,
                    "the snapshot of the start could not be compared with the log: the server tries \
                     again every {after} s, and writes no snapshot before"
                );
            }
            self.engine()?.note_snapshot(|state| state.is_doubtful = true);
            if self.stop.wait(TRY_AGAIN_AFTER) {
                return Err(Ended::Stopped);
            }
        }
    }

    /// Compares the snapshot of the start with a fold of the log, if its records are sound. Returns
    /// the views of that fold.
    fn compare(&self, verdict: DeferredVerdict) -> Result<Option<Beginning>, Ended> {
        match verdict {
            DeferredVerdict::Sound => {}
            DeferredVerdict::OtherIndex => return self.drop_different(&self.engine()?),
            DeferredVerdict::Damaged => return Ok(None),
        }
        let Some(known) = self.engine()?.begun_from else { return Ok(None) };
        if self.is_different() {
            return self.drop_different(&self.engine()?);
        }
        let views = self.fold_up_to(Beginning::default(), known.seq)?;
        let digest = digest_of(&views, &|| !self.stop.is_set());
        let engine = self.engine()?;
        let now = Some(engine.clock.now_ms());
        if views.head() == known.seq && digest == known.digest {
            engine.note_snapshot(|state| {
                (state.comparison, state.compared_at) = (SnapshotComparison::Equal, now);
                state.is_doubtful = false;
            });
            tracing::info!(seq = known.seq, "the snapshot of the start is what the log folds to");
            let noted = Noted::of(&views);
            return Ok(Some(Beginning { views, noted, snapshot: None }));
        }
        self.drop_different(&engine)
    }

    /// Drops the snapshot of the start, over records that are damaged: what is folded from them would
    /// not be what was acknowledged.
    fn drop_of_damaged(&self, engine: &Engine) {
        self.note_dropped(engine, SnapshotComparison::Impossible);
        engine.forget_documents();
        tracing::error!(
            "records that the snapshot of the start covers are damaged, and are refused when they \
             are read; the snapshot is dropped, so that the next start checks every record, and is \
             refused"
        );
        if let Err(error) = drop_snapshot(&self.folder) {
            let error = error.to_string();
            tracing::error!(error, "the file `snapshot` cannot be removed: do so before a start");
        }
    }

    fn note_dropped(&self, engine: &Engine, comparison: SnapshotComparison) {
        let now = Some(engine.clock.now_ms());
        engine.note_snapshot(|state| {
            (state.comparison, state.compared_at) = (comparison, now);
            (state.seq, state.is_doubtful) = (0, true);
        });
    }

    /// Returns whether the snapshot of the start is known to be different.
    fn is_different(&self) -> bool {
        let state = self.engine.upgrade().and_then(|engine| engine.snapshot());
        state.is_some_and(|state| state.comparison == SnapshotComparison::Different)
    }

    /// Drops the snapshot of the start, which is not what the log says, and rebuilds the views.
    fn drop_different(&self, engine: &Arc<Engine>) -> Result<Option<Beginning>, Ended> {
        // It was said if a try before has failed.
        if !self.is_different() {
            self.note_dropped(engine, SnapshotComparison::Different);
            tracing::error!(
                seq = engine.begun_from.map_or(0, |known| known.seq),
                "the snapshot of the start is not what the log folds to: answers since the start may \
                 have been wrong; it is dropped, and the views are rebuilt from the log"
            );
        }
        drop_snapshot(&self.folder)?;
        self.rebuild(engine)?;
        engine.judge_notary(engine.begun_from.map_or(0, |known| known.seq))?;
        // Last, since it is never taken back.
        engine.note_snapshot(|state| state.is_doubtful = false);
        Ok(None)
    }

    /// Replaces the serving views by those of the log.
    fn rebuild(&self, engine: &Arc<Engine>) -> Result<(), Ended> {
        let rebuild = engine.rebuild();
        while rebuild.finished_at().is_none() {
            if self.stop.wait(Duration::from_millis(10)) {
                return Err(Ended::Stopped);
            }
        }
        if rebuild.has_failed() {
            return Err(Ended::Failed("the views could not be rebuilt".into()));
        }
        Ok(())
    }

    /// Writes a snapshot of all records. `folded` are views to begin with; without them it begins
    /// with the snapshot before.
    fn write(&self, engine: &Engine, folded: Option<Beginning>, last: Seq) -> Result<(), Ended> {
        // Taken first: it is of all records that are there now.
        let kept = engine.log.keep();
        let seq = kept.as_ref().map_or_else(|| engine.folded_head(), |kept| kept.seq);
        let from = match folded {
            Some(folded) => folded,
            None if last > 0 => ReadSnapshot::of(&self.folder).beginning(&*engine.log),
            None => Beginning::default(),
        };
        let views = self.fold_up_to(from, seq)?;
        let binding = Binding::of(&*engine.log, seq)?;
        let goes_on = || !self.stop.is_set();
        let kept = kept.map_or_else(Vec::new, |kept| kept.bytes);
        let bytes =
            snapshot_file::write(&self.folder, binding, (&views, kept.as_slice()), &goes_on)?;
        engine.note_written(seq, bytes);
        Ok(())
    }
}

/// Tells if a snapshot is due that covers `head` records, where the last one covers `last`.
fn is_due(head: Seq, last: Seq) -> bool {
    head.saturating_sub(last) >= RECORDS_BETWEEN.max(last / 4)
}

/// The snapshot in the folder of a server that is stopped, compared with its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoppedSnapshot {
    /// There is none.
    Missing,
    /// A start would not use it, and make another.
    Unused(String),
    /// It is damaged: a start would not use it, and make another.
    Damaged(String),
    /// It is what the first records of the log fold to, up to this one.
    Equal(Seq),
    /// It is not what the first records of the log fold to, up to this one.
    Different(Seq),
}

/// Returns why no start would use the snapshot in a folder, whatever its log is; `None` if one may.
/// Reads its header only.
pub fn unusable_snapshot(folder: &Path) -> Option<StoppedSnapshot> {
    snapshot_file::read_header(folder).err().map(stopped)
}

fn stopped(unusable: Unusable) -> StoppedSnapshot {
    match unusable {
        Unusable::Missing => StoppedSnapshot::Missing,
        Unusable::Other(why) => StoppedSnapshot::Unused(why.to_owned()),
        unread @ Unusable::Unread(_) => StoppedSnapshot::Unused(unread.to_string()),
        Unusable::Damaged(what) => StoppedSnapshot::Damaged(what),
    }
}

/// Compares the snapshot in a folder with a fold of its log.
///
/// # Errors
/// The first record that cannot be read.
pub fn compare_snapshot(
    folder: &Path,
    log: &dyn crate::log::Log,
) -> Result<StoppedSnapshot, ReadError> {
    let read = snapshot_file::read(folder).map(|Snapshot { header, kept, .. }| (header, kept));
    let (header, kept) = match read.and_then(|read| read.0.check(log).map(|()| read)) {
        Ok(read) => read,
        Err(unusable) => return Ok(stopped(unusable)),
    };
    let Header { binding: Binding { seq, .. }, digest, .. } = header;
    let mut views = Views::new();
    while views.head() < seq {
        let count = (seq - views.head()).min(FOLD_EVENTS as Seq);
        fold(log, &mut views, count as usize, Notes::Later)?;
    }
    note_rest(log, &mut views, Noted::default(), &ReadProgress::default())?;
    let is_same = views.head() == seq && digest_of(&views, &|| true) == digest;
    let is_index = kept.map_or(Ok(true), |kept| kept.is_index_of(log))?;
    match is_same && is_index {
        true => Ok(StoppedSnapshot::Equal(seq)),
        false => Ok(StoppedSnapshot::Different(seq)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::sync::atomic::AtomicU64;

    use bytes::Bytes;
    use rollcall_projections::Entry;

    use super::*;
    use crate::keys::ApiKeys;
    use crate::log::{AppendError, Identity, Log, MemoryLog, Outcome, Record};
    use crate::notary::{KeyFiles, Notary};
    use crate::verify::{Keyring, Verified};
    use rollcall_generator::sign;

    pub(in crate::engine) const NOW: Millis = 1_760_000_000_000;

    pub(in crate::engine) fn event(number: u64) -> Verified {
        let body = format!(
            concat!(
                r#"{{"id":"e{number}","event":"dsync.user.created","data":{{"id":"u{user}","#,
                r#""directory_id":"d1","state":"active"}},"created_at":"2025-01-01T00:00:00Z"}}"#,
            ),
            number = number,
            user = number % 7
        );
        let header = sign("s", NOW, body.as_bytes());
        Verified::webhook(&Keyring::new(["s"], 0), Some(header.as_bytes()), body.into(), NOW)
            .unwrap()
    }

    #[test]
    fn the_background_writes_what_the_log_folds_to_from_the_snapshot_before() {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(MemoryLog::new([7; 16]));
        let mut before = 0;
        for round in 0..3 {
            for number in 10 * round..10 * round + 10 {
                log.append(vec![event(number)], NOW).unwrap();
            }
            let engine = Engine::start(log.clone(), 1 << 20, || NOW, |_| {}).unwrap();
            let keeper = Keeper {
                engine: Arc::downgrade(&engine),
                folder: folder.path().to_owned(),
                stop: Arc::default(),
            };
            assert!(keeper.write(&engine, None, before).is_ok());
            before = engine.folded_head();
            assert_eq!(before, 10 * round + 10);
            let equal = Ok(StoppedSnapshot::Equal(before));
            assert_eq!(compare_snapshot(folder.path(), &*log), equal);
            let read = ReadSnapshot::of(folder.path()).beginning(&*log);
            let digest = |views: &Views| digest_of(views, &|| true);
            assert_eq!(digest(&read.views), digest(&engine.views()));
            engine.close();
        }
        // Another log of as many records.
        let other = MemoryLog::new([8; 16]);
        (0..30).for_each(|number| drop(other.append(vec![event(number)], NOW).unwrap()));
        assert_eq!(ReadSnapshot::of(folder.path()).beginning(&other).seq(), 0);
        // The same log under other records.
        let other = MemoryLog::new([7; 16]);
        (1..31).for_each(|number| drop(other.append(vec![event(number)], NOW).unwrap()));
        assert_eq!(ReadSnapshot::of(folder.path()).beginning(&other).seq(), 0);
    }

    /// A log whose records up to one cannot be read for the fold, and none whole.
    struct Failing {
        log: MemoryLog,
        until: AtomicU64,
        is_unread: AtomicBool,
    }

    impl Failing {
        /// Returns one that can be read.
        fn not_yet() -> Arc<Failing> {
            let (until, is_unread) = (AtomicU64::new(0), AtomicBool::new(false));
            Arc::new(Failing { log: MemoryLog::new([7; 16]), until, is_unread })
        }
    }

    impl History for Failing {
        fn read(&self, after: Seq, events: usize, bytes: usize) -> Result<Vec<Record>, ReadError> {
            match self.is_unread.load(Ordering::Relaxed) {
                true => Err(ReadError::Disk { code: 5 }),
                false => self.log.read(after, events, bytes),
            }
        }

        fn head(&self) -> Seq {
            self.log.head()
        }

        fn identity(&self) -> Identity {
            self.log.identity()
        }

        fn root(&self, size: Seq) -> Result<[u8; 32], ReadError> {
            self.log.root(size)
        }
    }

    impl Log for Failing {
        fn append(&self, batch: Vec<Verified>, at: Millis) -> Result<Vec<Outcome>, AppendError> {
            self.log.append(batch, at)
        }

        fn entries(
            &self,
            after: Seq,
            events_max: usize,
            each: &mut dyn FnMut(&Entry<'_>),
        ) -> Result<Seq, ReadError> {
            match after < self.until.load(Ordering::Relaxed) {
                true => Err(ReadError::Disk { code: 5 }),
                false => self.log.entries(after, events_max, each),
            }
        }

        fn bodies(&self, seqs: &[Seq]) -> Result<Vec<Bytes>, ReadError> {
            self.log.bodies(seqs)
        }

        fn find(&self, event_id: &str) -> Result<Option<Seq>, ReadError> {
            self.log.find(event_id)
        }

        fn wait(&self, after: Seq, timeout: Duration) -> Seq {
            self.log.wait(after, timeout)
        }

        fn inclusion(&self, seq: Seq, size: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
            self.log.inclusion(seq, size)
        }

        fn consistency(&self, from: Seq, to: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
            self.log.consistency(from, to)
        }
    }

    #[test]
    fn no_snapshot_is_written_while_the_one_of_the_start_cannot_be_compared() {
        let folder = tempfile::tempdir().unwrap();
        let log = Failing::not_yet();
        let append = |numbers: std::ops::Range<u64>| {
            numbers.for_each(|number| drop(log.append(vec![event(number)], NOW).unwrap()));
        };
        append(0..10);
        let engine = Engine::start(log.clone(), 1 << 20, || NOW, |_| {}).unwrap();
        let stop = Arc::default();
        let keeper =
            Keeper { engine: Arc::downgrade(&engine), folder: folder.path().to_owned(), stop };
        assert!(keeper.write(&engine, None, 0).is_ok());
        engine.close();
        append(10..15);
        // The records of the snapshot cannot be folded; those behind it can.
        for (is_over, expected) in [(false, 10), (true, 15)] {
            log.until.store(10, Ordering::Relaxed);
            let beginning = ReadSnapshot::of(folder.path()).beginning(&*log);
            assert_eq!(beginning.seq(), 10);
            let engine =
                Engine::start_folded(log.clone(), beginning, 1 << 20, || NOW, |_| {}).unwrap();
            let snapshots = engine.keep_snapshots(folder.path()).unwrap();
            let wait_until = |is_so: &dyn Fn(SnapshotState) -> bool| {
                while !engine.snapshot().is_some_and(is_so) {
                    thread::yield_now();
                }
            };
            wait_until(&|state| state.is_doubtful);
            assert_eq!(engine.views_origin(), ViewsOrigin::Unproven);
            if is_over {
                log.until.store(0, Ordering::Relaxed);
                wait_until(&|state| state.comparison == SnapshotComparison::Equal);
                assert_eq!(engine.views_origin(), ViewsOrigin::Log);
            }
            engine.close();
            snapshots.finish();
            assert_eq!(ReadSnapshot::of(folder.path()).beginning(&*log).seq(), expected);
        }
    }

    #[test]
    fn rebuilt_views_are_called_so_only_once_the_checkpoint_key_is_judged() {
        let folder = tempfile::tempdir().unwrap();
        let log = Failing::not_yet();
        let notary = |engine: &Engine| {
            let (files, history) = (KeyFiles::of(folder.path(), None), engine.key_history());
            Notary::open(files, [7; 16], &history.unwrap()).unwrap()
        };
        let engine = Engine::start(log.clone(), 1 << 20, || NOW, |_| {}).unwrap();
        engine.set_notary(notary(&engine));
        let operator = ApiKeys::unrestricted(["sk"]).identify("sk").unwrap();
        engine.change_checkpoint_key(operator, None).unwrap();
        let stop = Arc::default();
        let keeper =
            Keeper { engine: Arc::downgrade(&engine), folder: folder.path().to_owned(), stop };
        *engine.snapshot.lock() =
            Some(SnapshotState::begun(Some(Known { seq: 1, digest: [0; 32] })));
        log.is_unread.store(true, Ordering::Relaxed);
        // The views are rebuilt, and the record that names the key cannot be read.
        assert!(matches!(keeper.drop_different(&engine), Err(Ended::Failed(_))));
        assert!(engine.rebuild.lock().as_ref().is_some_and(|rebuild| !rebuild.has_failed()));
        assert_eq!(engine.views_origin(), ViewsOrigin::Unproven);
        log.is_unread.store(false, Ordering::Relaxed);
        assert!(keeper.drop_different(&engine).is_ok());
        assert_eq!(engine.views_origin(), ViewsOrigin::Rebuilt);
        engine.close();
    }

    #[test]
    fn a_key_that_was_replaced_signs_no_more_once_the_snapshot_is_known_to_leave_that_out() {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(MemoryLog::new([7; 16]));
        let notary = |engine: &Engine| {
            let (files, history) = (KeyFiles::of(folder.path(), None), engine.key_history());
            Notary::open(files, [7; 16], &history.unwrap()).unwrap()
        };
        let operator = || ApiKeys::unrestricted(["sk"]).identify("sk").unwrap();
        let engine = Engine::start(log.clone(), 1 << 20, || NOW, |_| {}).unwrap();
        engine.set_notary(notary(&engine));
        let key = folder.path().join("checkpoint-key");
        let former = fs::read(&key).unwrap();
        engine.change_checkpoint_key(operator(), None).unwrap();
        engine.close();
        // A program that can write to the folder puts the key before back, and makes a snapshot in
        // which record 1 is another one.
        fs::write(&key, former).unwrap();
        fs::remove_dir_all(folder.path().join("checkpoint-key.handovers")).unwrap();
        let (other, mut views) = (MemoryLog::new([7; 16]), Views::new());
        other.append(vec![event(0)], NOW).unwrap();
        fold(&other, &mut views, 1, Notes::Now).unwrap();
        let binding = Binding::of(&*log, 1).unwrap();
        snapshot_file::write(folder.path(), binding, (&views, &[]), &|| true).unwrap();
        for (changes, seq) in [(vec![1], 0), (vec![2], 1), (vec![], 1)] {
            let mut read = ReadSnapshot::of(folder.path());
            read.refuse_without(changes.into_iter());
            assert_eq!(read.beginning(&*log).seq(), seq);
        }
        let beginning = ReadSnapshot::of(folder.path()).beginning(&*log);
        let engine = Engine::start_folded(log.clone(), beginning, 1 << 20, || NOW, |_| {}).unwrap();
        engine.set_notary(notary(&engine));
        assert!(engine.checkpoint(1).unwrap().is_some());
        let snapshots = engine.keep_snapshots(folder.path()).unwrap();
        while engine.checkpoint(1).is_ok() {
            thread::yield_now();
        }
        assert_eq!(engine.views_origin(), ViewsOrigin::Rebuilt);
        assert!(engine.change_checkpoint_key(operator(), None).is_err());
        engine.close();
        snapshots.finish();
    }

    #[test]
    fn a_key_that_changes_while_the_server_runs_is_not_taken_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(MemoryLog::new([7; 16]));
        let engine = Engine::start(log, 1 << 20, || NOW, |_| {}).unwrap();
        let (files, history) = (KeyFiles::of(folder.path(), None), engine.key_history().unwrap());
        engine.set_notary(Notary::open(files, [7; 16], &history).unwrap());
        for covered in 0..3 {
            let operator = ApiKeys::unrestricted(["sk"]).identify("sk").unwrap();
            engine.change_checkpoint_key(operator, None).unwrap();
            // The snapshot had none, one or all of the changes.
            for covered in 0..=covered + 1 {
                assert_eq!(engine.judge_notary(covered), Ok(()));
                assert!(engine.checkpoint(1).is_ok(), "{covered}");
            }
        }
        engine.close();
    }

    #[test]
    fn a_snapshot_that_the_system_does_not_let_read_is_not_called_damaged() {
        let judged = |error: io::Error| stopped(Unusable::from(error));
        let unused = |what: &str| StoppedSnapshot::Unused(format!("it cannot be read: {what}"));
        for (code, what) in
            [(5, "Input/output error (os error 5)"), (24, "Too many open files (os error 24)")]
        {
            assert_eq!(judged(io::Error::from_raw_os_error(code)), unused(what));
        }
        assert_eq!(judged(io::ErrorKind::NotFound.into()), StoppedSnapshot::Missing);
        let cut_off = StoppedSnapshot::Damaged("it ends too soon".into());
        assert_eq!(judged(io::ErrorKind::UnexpectedEof.into()), cut_off);
    }

    #[test]
    fn a_snapshot_is_due_when_the_log_has_grown_by_a_quarter_and_by_much() {
        let cases = [
            (0, 0, false),
            (99_999, 0, false),
            (100_000, 0, true),
            (299_999, 200_000, false),
            (300_000, 200_000, true),
            (1_249_999, 1_000_000, false),
            (1_250_000, 1_000_000, true),
            // After a log was replaced by a shorter one.
            (10, 1_000_000, false),
        ];
        for (head, last, expected) in cases {
            assert_eq!(is_due(head, last), expected, "{head} {last}");
        }
    }
}
