//! The thread that writes the archive. It never keeps an event from being recorded: if the archive
//! cannot be written, the records wait in the log, and it tries again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rollcall_projections::{Millis, Seq};

use super::judge::{ArchiveFault, damage_to, judge_lost, judge_newest, still_archived};
use super::status::ArchiveStatus;
use super::survey::{DamagedSegment, Survey};
use super::{SegmentBounds, first_public_key, handovers, part_of, read_records};
use crate::engine::Engine;
use crate::log::{
    ArchivePlace, ArchiveSegment, HANDOVERS, LostLeaves, PUBLIC_KEY, ReadError,
    SEGMENT_BODY_BYTES_MAX, SEGMENT_RECORDS_MAX, segments_among, write_lost_leaves,
};
use crate::time;

/// The pause after a try that failed, and the longest: it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How often the thread looks whether a segment is due.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The longest that a stop waits for the last segments, and how often it looks.
const FINISH_WITHIN: Duration = Duration::from_secs(8);
const FINISH_PAUSE: Duration = Duration::from_millis(5);

/// The records of a long segment. Once all of them are in the archive, they are written once more
/// in one segment, so that a restore does not read thousands of short ones.
const LONG_RECORDS: Seq = SEGMENT_RECORDS_MAX as Seq;

/// An archive as it is configured, and its state.
pub struct Archiver {
    place: ArchivePlace,
    every: Duration,
    records_max: u64,
    status: Arc<ArchiveStatus>,
}

/// The thread that writes it.
pub struct Archiving {
    stop: Sender<()>,
    is_stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Archiver {
    /// Makes an archive of which at most about `records_max` records, or those of the last `every`,
    /// are missing. Writes nothing yet.
    pub fn new(place: ArchivePlace, every: Duration, records_max: u64) -> Archiver {
        let status = Arc::new(ArchiveStatus::new(place.to_string()));
        Archiver { place, every, records_max: records_max.max(1), status }
    }

    /// Returns its place.
    pub fn place(&self) -> &ArchivePlace {
        &self.place
    }

    /// Writes it on a thread of its own, which does not keep the engine from being closed. The
    /// engine shows its state.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(self: &Arc<Archiver>, engine: &Arc<Engine>) -> std::io::Result<Archiving> {
        engine.set_archive(self.status.clone());
        let (stop, stopped) = mpsc::channel();
        let is_stopping: Arc<AtomicBool> = Arc::default();
        let mut writer = Writer {
            archiver: self.clone(),
            part: part_of(&self.place, engine.log_id()),
            engine: Arc::downgrade(engine),
            is_stopping: is_stopping.clone(),
            stopped,
            reached: None,
        };
        let thread = thread::Builder::new().name("archive".into()).spawn(move || writer.run())?;
        Ok(Archiving { stop, is_stopping, thread })
    }
}

impl Archiving {
    /// Archives what is new, in one try, and ends the thread. One that waits for an answer is left
    /// behind: it holds nothing.
    pub fn finish(self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        drop(self.stop);
        let begun = Instant::now();
        while !self.thread.is_finished() && begun.elapsed() < FINISH_WITHIN {
            thread::sleep(FINISH_PAUSE);
        }
        if self.thread.is_finished() {
            let _ = self.thread.join();
        } else {
            tracing::error!("the archive does not answer in time; the next start goes on with it");
        }
    }
}

/// The archive as it was found, and all that was added.
#[derive(Default)]
struct Reached {
    survey: Survey,
    /// The newest handover that is there.
    handovers: Seq,
    /// The leaves of lost records that are not there yet.
    lost: LostLeaves,
}

struct Writer {
    archiver: Arc<Archiver>,
    /// The log's part of the archive.
    part: ArchivePlace,
    engine: Weak<Engine>,
    is_stopping: Arc<AtomicBool>,
    stopped: Receiver<()>,
    /// `None` until the archive was read and compared with the log, and again after a failure.
    reached: Option<Reached>,
}

/// The end of a wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    Due,
    Stopped,
}

impl Writer {
    fn run(&mut self) {
        let mut pause = PAUSE;
        loop {
            let woken = self.wait_until_due();
            match self.catch_up() {
                Ok(()) => {
                    if pause > PAUSE {
                        tracing::info!(place = %self.part, "the log is archived again");
                    }
                    pause = PAUSE;
                    self.archiver.status.succeeded();
                }
                Err(fault) => {
                    self.reached = None;
                    self.archiver.status.failed(fault.to_string());
                    if woken == Woken::Stopped {
                        tracing::error!("the log is not archived: {fault}; this was the last try");
                        return;
                    }
                    if fault.is_contradiction() {
                        tracing::error!("the log is not archived any more: {fault}");
                        // Only another start may go on.
                        let _ = self.stopped.recv();
                        return;
                    }
                    tracing::error!(
                        retry_s = pause.as_secs(),
                        "the log is not archived: {fault}; trying again"
                    );
                    self.rest(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            if woken == Woken::Stopped {
                return;
            }
        }
    }

    fn rest(&self, time: Duration) -> Woken {
        match self.stopped.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Woken::Due,
            _ => Woken::Stopped,
        }
    }

    /// Waits until enough records wait, or one does for long enough. After a failure, and at the
    /// beginning, the archive is due at once.
    fn wait_until_due(&self) -> Woken {
        let Archiver { every, records_max, .. } = &*self.archiver;
        loop {
            let Some(Reached { survey, .. }) = &self.reached else {
                return self.rest(Duration::ZERO);
            };
            let through = survey.coverage.through();
            let Some(engine) = self.engine.upgrade() else { return Woken::Stopped };
            // The log wakes this thread when that many records wait.
            let head = engine.log().wait(through + records_max - 1, LOOK_EVERY);
            let since = waiting_since(&engine, through, head);
            drop(engine);
            self.archiver.status.reached(through, since);
            let waits_ms = since.map_or(0, |since| time::now_ms().saturating_sub(since));
            let waits = Duration::from_millis(waits_ms.try_into().unwrap_or(0));
            if self.rest(Duration::ZERO) == Woken::Stopped {
                return Woken::Stopped;
            }
            if head >= through + records_max || (since.is_some() && waits >= *every) {
                return Woken::Due;
            }
        }
    }

    /// Writes segments until the archive has every record that is in the log now; during a stop,
    /// until it has all, or the stop has waited for long enough.
    fn catch_up(&mut self) -> Result<(), ArchiveFault> {
        let mut reached = match self.reached.take() {
            Some(reached) => reached,
            None => self.reach()?,
        };
        let (mut stop_began, mut due) = (None, None);
        while let Some(engine) = self.engine.upgrade() {
            let head = engine.head();
            let through = reached.survey.coverage.through();
            self.archiver.status.reached(through, waiting_since(&engine, through, head));
            // Records that come while segments are written are not due yet: they wait together for
            // the next ones. Under load there would be a tiny segment for each commit otherwise.
            let due = *due.get_or_insert(head);
            let is_stopping = self.is_stopping.load(Ordering::SeqCst);
            let last_due = if is_stopping { head } else { due };
            let Some((first, last)) = reached.survey.coverage.first_gap(last_due) else { break };
            // Segments end where long ones do.
            let last = last.min(first.div_ceil(LONG_RECORDS) * LONG_RECORDS);
            let bounds = SegmentBounds { first, last, body_bytes_max: SEGMENT_BODY_BYTES_MAX };
            self.write(engine, bounds, &mut reached)?;
            if self.is_stopping.load(Ordering::SeqCst)
                && stop_began.get_or_insert_with(Instant::now).elapsed() > FINISH_WITHIN / 2
            {
                break;
            }
        }
        self.reached = Some(reached);
        Ok(())
    }

    /// Reads what is in the archive and compares it with the log.
    fn reach(&self) -> Result<Reached, ArchiveFault> {
        let Some(engine) = self.engine.upgrade() else { return Ok(Reached::default()) };
        let public_key = first_public_key(&engine)?;
        drop(engine);
        self.part.remove_unfinished()?;
        self.archiver.status.forget_damaged();
        if let Some(key) = public_key {
            self.keep(&self.part, PUBLIC_KEY, key.as_bytes())?;
        }
        let Some(engine) = self.engine.upgrade() else { return Ok(Reached::default()) };
        let files = self.part.list()?;
        let segments = segments_among(&files);
        let newest = judge_newest(&self.part, &segments, engine.log())?;
        let archived = judge_lost(&self.part, &files, engine.log())?;
        if let Some(seq) = still_archived(&self.part, &segments, engine.log())? {
            let place = &self.part;
            tracing::warn!(
                %place, seq,
                "the archive has a record without which the log was restored: stop the server, and \
                 `rollcall salvage --from` the archive and `rollcall restore` bring it back"
            );
        }
        let mut reached = Reached { lost: engine.log().lost_leaves()?, ..Reached::default() };
        drop(engine);
        reached.lost.retain(|seq, _| !archived.contains_key(seq));
        reached.survey = Survey::of(&self.part, segments, newest)?;
        for DamagedSegment { name, what, .. } in &reached.survey.damaged {
            self.archiver.status.found_damaged(&self.part.located(name), name, what);
        }
        // A kill may have come before those of the last segment.
        let through = reached.survey.coverage.through();
        self.put_lost(through, &mut reached)?;
        let place = &self.part;
        tracing::info!(%place, seq = through, "archiving the log");
        Ok(reached)
    }

    /// Makes a file that is written once. One that is there and is another is not touched.
    fn keep(&self, place: &ArchivePlace, name: &str, bytes: &[u8]) -> Result<(), ArchiveFault> {
        if !place.create(name, bytes)? && place.read(name)?.is_some_and(|found| found != bytes) {
            let what =
                "it is not what the server would write; once it is moved away, it is written";
            self.archiver.status.found_damaged(&place.located(name), name, what);
        }
        Ok(())
    }

    /// Writes the leaves of lost records up to `last`. Later ones would bind another log that goes on
    /// from what is archived now.
    fn put_lost(&self, last: Seq, reached: &mut Reached) -> Result<(), ArchiveFault> {
        let later = reached.lost.split_off(&(last + 1));
        let leaves = std::mem::replace(&mut reached.lost, later);
        Ok(write_lost_leaves(&self.part, &leaves)?)
    }

    /// Writes one segment, and a long one if it completes one.
    fn write(
        &self,
        engine: Arc<Engine>,
        bounds: SegmentBounds,
        reached: &mut Reached,
    ) -> Result<(), ArchiveFault> {
        let Some(segment) = read_under_free_name(&engine, bounds, &reached.survey)? else {
            reached.survey.coverage.add(bounds.first, bounds.last);
            drop(engine);
            return self.put_lost(bounds.last, reached);
        };
        let last = *segment.seqs().end();
        let handovers = handovers(&engine, reached.handovers, last);
        drop(engine);
        for (name, note) in handovers {
            self.keep(&self.part.within(HANDOVERS), &name, note.as_bytes())?;
        }
        reached.handovers = reached.handovers.max(last);
        if reached.survey.is_taken(&segment.seqs()) {
            let what = "there is no other name for its records yet".to_owned();
            return Err(ArchiveFault::Damaged { at: self.part.located(&segment.name()), what });
        }
        if !self.put(&segment, &mut reached.survey)? {
            // The next turn finds another name.
            return Ok(());
        }
        reached.survey.coverage.add(bounds.first.min(*segment.seqs().start()), last);
        self.put_lost(last, reached)?;
        let long = last.saturating_sub(LONG_RECORDS) + 1;
        let is_covered = reached.survey.coverage.through() >= last;
        if last % LONG_RECORDS == 0 && bounds.first > long && is_covered {
            self.write_long(long, last, &mut reached.survey)?;
        }
        Ok(())
    }

    /// Writes the records of many segments once more in as few as their sizes allow.
    fn write_long(&self, first: Seq, last: Seq, survey: &mut Survey) -> Result<(), ArchiveFault> {
        let mut next = first;
        while next <= last {
            let Some(engine) = self.engine.upgrade() else { return Ok(()) };
            let bounds =
                SegmentBounds { first: next, last, body_bytes_max: SEGMENT_BODY_BYTES_MAX };
            let Some(segment) = read_records(&engine, bounds)? else { return Ok(()) };
            drop(engine);
            // A short segment may still have a record that the log lost since.
            if segment.seqs().count() > segment.records.len() {
                return Ok(());
            }
            next = segment.seqs().end() + 1;
            // The short ones have its records, if one of its name is damaged.
            self.put(&segment, survey)?;
        }
        Ok(())
    }

    /// Writes a segment. One that is there already, after an answer that was lost, is left alone.
    /// Returns false, and notes it, if that one is damaged.
    fn put(&self, segment: &ArchiveSegment, survey: &mut Survey) -> Result<bool, ArchiveFault> {
        let name = segment.name();
        if !segment.create(&self.part)?
            && let Some(what) = damage_to(&self.part, &name, segment)?
        {
            self.archiver.status.found_damaged(&self.part.located(&name), &name, &what);
            survey.note(segment.seqs(), name, what);
            return Ok(false);
        }
        self.archiver.status.count_segment();
        Ok(true)
    }
}

/// Reads the records of a segment within `bounds` whose name no damaged one has: a shorter one, or
/// one that repeats records before or after it. Returns one with a taken name if there is none.
fn read_under_free_name(
    engine: &Engine,
    bounds: SegmentBounds,
    survey: &Survey,
) -> Result<Option<ArchiveSegment>, ReadError> {
    let is_taken = |segment: &ArchiveSegment| survey.is_taken(&segment.seqs());
    let Some(widest) = read_records(engine, bounds)? else { return Ok(None) };
    if !is_taken(&widest) {
        return Ok(Some(widest));
    }
    let read = |first, last| read_records(engine, SegmentBounds { first, last, ..bounds });
    let (first, last) = (bounds.first, *widest.seqs().end());
    // Each of these is read only if those before it are taken, of which there are few.
    let shorter = (first..last).rev().map(|last| (first, last));
    let before = (1..first).rev().map(|first| (first, last));
    let after = (last + 1..=engine.head()).map(|last| (first, last));
    for (first, last) in shorter.chain(before).chain(after) {
        if let Some(segment) = read(first, last)?.filter(|segment| !is_taken(segment)) {
            return Ok(Some(segment));
        }
    }
    Ok(Some(widest))
}

/// Returns the moment of the first record after `through`, if there is one.
fn waiting_since(engine: &Engine, through: Seq, head: Seq) -> Option<Millis> {
    let first = (head > through).then(|| engine.record(through + 1));
    // A record that cannot be read shows when it is to be archived.
    first.map(|record| record.map_or_else(|_| time::now_ms(), |record| record.recorded_at))
}
