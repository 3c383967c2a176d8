//! The log on disk as a server uses it: where its disk is full or read-only, it refuses batches,
//! stays readable, and opens its store again once the disk takes writes.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rollcall_projections::{Entry, Millis, Seq};

use super::answered::AnsweredFile;
use super::deferred::{DeferredCheck, DeferredProgress, DeferredStep, DeferredVerdict};
use super::disk::{Disk, DiskFault, DiskSpace};
use super::kept::KeptBytes;
use super::lost_leaves::LostLeaves;
use super::open::{Checked, OpenError, Unrecovered};
use super::ranges::Ranges;
use super::raw::records;
use super::scrub::{Looked, ReadThrough, ScrubFinding, ScrubState};
use super::sled_log::{SledLog, not_acknowledged};
use super::{AppendError, DurableHead, History, Identity, Log, Outcome, ReadError, Record};
use crate::time;
use crate::verify::{Proof, Verified};

/// The number of findings of the scrub that are logged.
const REPORTED_MAX: usize = 20;

/// A log on disk that is opened again in place after its disk took no writes.
pub struct DiskLog {
    /// `None` only after opening it again has failed, until that succeeds.
    current: RwLock<Option<SledLog>>,
    disk: Disk,
    folder: PathBuf,
    store_cache_bytes: u64,
    identity: Identity,
    answered: Mutex<AnsweredFile>,
    /// The moment that the file kept when it was opened.
    answered_before: Millis,
    /// The head of every log that `current` holds in turn.
    head: Arc<DurableHead>,
    /// `None` without a scrub, and without a deferred check.
    scrub: Mutex<Option<ScrubState>>,
    /// The check of the records that the start took from a snapshot, until it ends.
    deferred: Mutex<Option<DeferredCheck>>,
    /// The records that it found damaged, which are refused when they are read.
    refused: RwLock<Ranges>,
}

impl DiskLog {
    /// Opens a log, which then refuses batches while less than `reserve_bytes` of disk space are
    /// free.
    ///
    /// # Errors
    /// Those of [`Checked::open`].
    pub fn open(mut checked: Checked, reserve_bytes: u64) -> Result<DiskLog, OpenError> {
        let deferred = checked.take_deferred();
        let (folder, store_cache_bytes) = checked.source();
        let io_error = |error| OpenError::io(folder.clone(), error);
        let log = checked.open()?;
        log.set_unchecked(deferred.as_ref().map_or(0, DeferredCheck::until));
        let disk = Disk::of(&folder, reserve_bytes).map_err(io_error)?;
        let answered = AnsweredFile::open(&folder.join("answered")).map_err(io_error)?;
        let scrub = deferred.as_ref().map(|deferred| ScrubState {
            deferred: Some(deferred.progress()),
            ..ScrubState::default()
        });
        Ok(DiskLog {
            identity: log.identity(),
            head: log.shared_head(),
            current: RwLock::new(Some(log)),
            answered_before: answered.kept(),
            answered: Mutex::new(answered),
            scrub: Mutex::new(scrub),
            deferred: Mutex::new(deferred),
            refused: RwLock::default(),
            disk,
            folder,
            store_cache_bytes,
        })
    }

    /// Returns the path of the store's file.
    pub(super) fn store_file(&self) -> PathBuf {
        self.folder.join("store").join("db")
    }

    /// Returns the path of the store's folder of large messages.
    pub(super) fn blobs(&self) -> PathBuf {
        self.folder.join("store").join("blobs")
    }

    /// Changes the state of the scrub.
    pub(super) fn keep_scrub_state(&self, change: impl FnOnce(&mut ScrubState)) {
        change(self.scrub.lock().get_or_insert_default());
    }

    /// Compares every block in a segment of the store's file with its leaves: see
    /// [`SledLog::look_at`].
    pub(super) fn look_at(&self, segment: &[u8], newest: u64) -> Looked {
        let current = self.current.read_recursive();
        current.as_ref().map(|log| log.look_at(segment, newest)).unwrap_or_default()
    }

    /// Reads the next records after `after` through the log: see [`SledLog::read_through`].
    pub(super) fn read_through(&self, after: Seq) -> ReadThrough {
        let current = self.current.read_recursive();
        current.as_ref().map(|log| log.read_through(after)).unwrap_or_default()
    }

    /// Logs what a pass of the scrub found.
    pub(super) fn report(&self, findings: &[ScrubFinding], doubtful: u64, doubtful_at: &[u64]) {
        let folder = self.folder.display();
        for ScrubFinding { first, last, what, in_memory } in findings.iter().take(REPORTED_MAX) {
            let named = records(&[(*first, *last)]);
            match in_memory {
                true => tracing::error!(
                    first,
                    last,
                    what,
                    "{named}: {what}: `rollcall backup --out NEW` saves every record that the server \
                    has, and a start would refuse the folder"
                ),
                false => tracing::error!(
                    first,
                    last,
                    what,
                    "{named} cannot be read any more: stop the server, then `rollcall salvage --data \
                    {folder} --out NEW` takes out all others, and takes these from a copy that is \
                    given as --from"
                ),
            }
        }
        if findings.is_empty() && doubtful > 0 {
            tracing::warn!(
                doubtful,
                ?doubtful_at,
                "the store's file is damaged, and no record is known that needs the damaged bytes: \
                `rollcall backup --out NEW` saves everything now; the next start may refuse the \
                folder, and `rollcall salvage --data {folder} --out NEW` then takes out everything"
            );
        }
    }

    fn read_by<T>(
        &self,
        read: impl FnOnce(&SledLog) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        match &*self.current.read_recursive() {
            Some(log) => read(log),
            None => {
                Err(ReadError::Store("it is not open, because its disk takes no writes".into()))
            }
        }
    }

    /// Returns the first record after `after` that is refused, and how many of `events_max` records
    /// may be read before it.
    ///
    /// # Errors
    /// If it is the next record.
    fn before_refused(
        &self,
        after: Seq,
        events_max: usize,
    ) -> Result<(Option<Seq>, usize), ReadError> {
        let next = after.saturating_add(1);
        match self.refused.read().first_from(next) {
            None => Ok((None, events_max)),
            Some(refused) if refused == next => Err(not_acknowledged(refused)),
            Some(refused) => {
                let before = usize::try_from(refused - next).unwrap_or(usize::MAX);
                Ok((Some(refused), events_max.min(before)))
            }
        }
    }

    /// Refuses to read any of some records if it is damaged.
    fn refuse(&self, seqs: &[Seq]) -> Result<(), ReadError> {
        let refused = self.refused.read();
        let damaged = seqs.iter().find(|seq| refused.has(**seq, **seq));
        damaged.map_or(Ok(()), |seq| Err(not_acknowledged(*seq)))
    }

    /// Notes how far the deferred check is, and what it found.
    fn note_deferred(&self, check: &DeferredCheck, is_finished: bool) {
        let now = time::now_ms();
        if *check.damaged() != *self.refused.read() {
            *self.refused.write() = check.damaged().clone();
        }
        let findings = check.findings();
        self.keep_scrub_state(|state| {
            let finished_at = is_finished.then_some(now);
            state.deferred = Some(DeferredProgress { finished_at, ..check.progress() });
            if !findings.is_empty() {
                state.found_at = state.found_at.or(Some(now));
                let damaged = check.damaged().iter().map(|(first, last)| last - first + 1).sum();
                state.damaged = state.damaged.max(damaged);
                state.findings = findings.to_vec();
            }
        });
        if is_finished {
            self.report(findings, 0, &[]);
        }
    }

    /// Lets the operating system report errors, the last first, when the deferred check reads blocks.
    /// 0 is none.
    #[cfg(test)]
    pub(super) fn fail_reads(&self, codes: Vec<i32>) {
        if let Some(log) = &*self.current.read_recursive() {
            *log.read_faults.lock() = codes;
        }
    }

    /// Lets the operating system report errors, the last first, when the deferred check compares
    /// conflicts with earlier records.
    #[cfg(test)]
    pub(super) fn fail_comparisons(&self, codes: Vec<i32>) {
        if let Some(log) = &*self.current.read_recursive() {
            *log.earlier_faults.lock() = codes;
        }
    }

    fn blocked(&self, fault: DiskFault) -> AppendError {
        AppendError::Blocked { cause: self.disk.message(fault), in_doubt: false }
    }

    /// Refuses a batch of `bytes` for which the disk has no room. If it has room for a small one,
    /// that does not stop others.
    fn check_room(&self, log: &SledLog, bytes: u64) -> Result<(), AppendError> {
        let fault = |bytes| match self.disk.fault(bytes) {
            Some(fault) => Err(self.blocked(fault)),
            None => log.allocate(bytes).map_err(|error| self.error(&error)),
        };
        match fault(bytes) {
            Err(AppendError::Blocked { cause, .. }) if bytes > 0 => {
                fault(0)?;
                Err(AppendError::Rejected(format!("{bytes} bytes are too many: {cause}")))
            }
            checked => checked,
        }
    }

    fn error(&self, error: &io::Error) -> AppendError {
        match DiskFault::of(error) {
            Some(fault) => self.blocked(fault),
            None => AppendError::Unknown(error.to_string()),
        }
    }

    /// Closes the store and opens it again. Readers wait meanwhile.
    fn reopen(&self) -> Result<(), AppendError> {
        let mut current = self.current.write();
        if current.is_some() && !self.refused.read().is_empty() {
            let cause = "the store is not opened again, because it has damaged records and would be \
                refused: it stays readable; stop the server and run `rollcall salvage`";
            return Err(AppendError::Blocked { cause: cause.into(), in_doubt: false });
        }
        // Nothing is closed before a write has succeeded, so that the store stays readable.
        self.disk.probe().map_err(|error| self.error(&error))?;
        let head = self.head.get();
        let root = match &*current {
            Some(log) => {
                log.prepare_to_close().map_err(|error| self.error(&error))?;
                log.root(head).ok()
            }
            None => None,
        };
        let old = current.take();
        // sled may panic when it cannot sync at its end.
        if catch_unwind(AssertUnwindSafe(|| drop(old))).is_err() {
            return Err(AppendError::Unknown("the store panicked while it was closed".into()));
        }
        let opened = Unrecovered::open(&self.folder, self.store_cache_bytes)
            .and_then(|unrecovered| unrecovered.check(&|_| {}))
            .and_then(|checked| checked.open_as(self.head.clone()));
        let log = opened.map_err(|error| match error {
            OpenError::Blocked { fault, .. } => self.blocked(fault),
            other => AppendError::Unknown(other.to_string()),
        })?;
        let is_same = root.is_none_or(|root| log.root(head) == Ok(root));
        *current = Some(log);
        if is_same {
            return Ok(());
        }
        let what = "the records are not the same after the store was opened again; stop the server \
            and run `rollcall verify`";
        Err(AppendError::Unknown(what.into()))
    }
}

impl History for DiskLog {
    fn read(
        &self,
        after: Seq,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let (refused, events_max) = self.before_refused(after, events_max)?;
        let mut records = self.read_by(|log| log.read(after, events_max, bytes_max))?;
        if let Some(refused) = refused {
            // Lost records may be before it.
            if records.first().is_some_and(|record| record.seq >= refused) {
                return Err(not_acknowledged(refused));
            }
            records.retain(|record| record.seq < refused);
        }
        Ok(records)
    }

    fn head(&self) -> Seq {
        self.head.get()
    }

    fn identity(&self) -> Identity {
        self.identity
    }

    fn root(&self, size: Seq) -> Result<[u8; 32], ReadError> {
        self.read_by(|log| log.root(size))
    }

    fn lost_leaves(&self) -> Result<LostLeaves, ReadError> {
        self.read_by(History::lost_leaves)
    }
}

impl Log for DiskLog {
    fn append(
        &self,
        batch: Vec<Verified>,
        recorded_at: Millis,
    ) -> Result<Vec<Outcome>, AppendError> {
        let bytes = batch.iter().map(|event| event.body().len() as u64).sum();
        match &*self.current.read_recursive() {
            Some(log) => {
                self.check_room(log, bytes)?;
                log.append(batch, recorded_at)
            }
            None => Err(self.blocked(DiskFault::NoSpace)),
        }
    }

    fn resume(&self) -> Result<(), AppendError> {
        match &*self.current.read_recursive() {
            Some(log) if !log.is_poisoned() => return self.check_room(log, 0),
            _ => {}
        }
        self.disk.fault(0).map_or(Ok(()), |fault| Err(self.blocked(fault)))?;
        self.reopen()
    }

    fn disk_space(&self) -> Option<DiskSpace> {
        self.disk.space()
    }

    fn answered(&self) -> Millis {
        self.answered_before
    }

    fn keep_answered(&self, moment: Millis) -> io::Result<Millis> {
        self.answered.lock().answer(moment)
    }

    fn entries(
        &self,
        after: Seq,
        events_max: usize,
        each: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<Seq, ReadError> {
        let (refused, events_max) = self.before_refused(after, events_max)?;
        let Some(refused) = refused else {
            return self.read_by(|log| log.entries(after, events_max, each));
        };
        let mut each_before = |entry: &Entry<'_>| {
            if entry.seq < refused {
                each(entry);
            }
        };
        let last = self.read_by(|log| log.entries(after, events_max, &mut each_before))?;
        Ok(last.min(refused - 1))
    }

    fn bodies(&self, seqs: &[Seq]) -> Result<Vec<Bytes>, ReadError> {
        self.refuse(seqs)?;
        self.read_by(|log| log.bodies(seqs))
    }

    fn proofs(&self, seqs: &[Seq]) -> Result<Vec<Proof>, ReadError> {
        self.refuse(seqs)?;
        self.read_by(|log| log.proofs(seqs))
    }

    fn find(&self, event_id: &str) -> Result<Option<Seq>, ReadError> {
        self.read_by(|log| log.find(event_id))
    }

    fn may_repeat(&self, event: &Verified, head: Seq) -> Vec<Seq> {
        // While the store is opened again events wait for the writer, and not for this lock.
        let current = self.current.try_read_recursive();
        let log = current.as_ref().and_then(|current| current.as_ref());
        log.map(|log| log.may_repeat(event, head)).unwrap_or_default()
    }

    fn repeats_recent(&self, event: &Verified, among: &[Seq]) -> Option<Outcome> {
        self.current.try_read_recursive()?.as_ref()?.repeats_recent(event, among)
    }

    fn repeats(&self, event: &Verified, among: &[Seq]) -> Result<Option<Outcome>, ReadError> {
        self.read_by(|log| log.repeats(event, among))
    }

    fn lost(&self) -> Vec<(Seq, Seq)> {
        self.current.read_recursive().as_ref().map(SledLog::lost).unwrap_or_default()
    }

    fn keep(&self) -> Option<KeptBytes> {
        self.current.read_recursive().as_ref().and_then(SledLog::keep)
    }

    fn check_deferred(&self) -> Result<DeferredStep, ReadError> {
        let mut deferred = self.deferred.lock();
        let Some(check) = deferred.as_mut() else {
            return Ok(DeferredStep::Ended(DeferredVerdict::Sound));
        };
        let step = || self.read_by(|log| log.check_deferred(check));
        // What it took in before it panicked is whole.
        let step = catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|_| {
            Err(ReadError::Store("it panicked while its records were checked".into()))
        });
        let is_finished = matches!(step, Ok(DeferredStep::Ended(_)));
        self.note_deferred(check, is_finished);
        let step = step?;
        if is_finished {
            // Of damaged records some stay in the index and may not have been compared.
            if check.damaged().is_empty() {
                let current = self.current.read_recursive();
                current.iter().for_each(|log| log.set_unchecked(0));
            }
            *deferred = None;
        }
        Ok(step)
    }

    fn scrub(&self) -> Option<ScrubState> {
        self.scrub.lock().clone()
    }

    fn wait(&self, after: Seq, timeout: Duration) -> Seq {
        self.head.wait(after, timeout)
    }

    fn inclusion(&self, seq: Seq, size: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        self.read_by(|log| log.inclusion(seq, size))
    }

    fn consistency(&self, from: Seq, to: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        self.read_by(|log| log.consistency(from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::super::sled_log::{Step, StepFault};
    use super::*;
    use crate::verify::Keyring;
    use rollcall_generator::sign;

    const NOW: Millis = 1_760_000_000_000;

    fn event(id: &str) -> Verified {
        let body = format!(
            concat!(
                r#"{{"id":"{id}","event":"x.y","data":{{}},"#,
                r#""created_at":"2025-01-01T00:00:00Z"}}"#,
            ),
            id = id
        );
        let header = sign("s", NOW, body.as_bytes());
        Verified::webhook(&Keyring::new(["s"], 0), Some(header.as_bytes()), body.into(), NOW)
            .unwrap()
    }

    #[test]
    fn a_log_whose_disk_was_full_is_opened_again_in_place_and_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let unrecovered = Unrecovered::open(folder.path(), 16 << 20).unwrap();
        let log = DiskLog::open(unrecovered.check(&|_| {}).unwrap(), 0).unwrap();
        log.append(vec![event("a")], NOW).unwrap();
        // In the order of the steps: what the store has after each failure.
        for (step, is_done, head) in
            [(Step::Put, false, 1), (Step::Put, true, 2), (Step::Sync, false, 3)]
        {
            let fault = StepFault { step, is_done, error: io::ErrorKind::StorageFull };
            *log.current.read().as_ref().unwrap().step_fault.lock() = Some(fault);
            let id = format!("{step:?} {is_done}");
            let before = log.head();
            let error = log.append(vec![event(&id)], NOW).unwrap_err();
            assert!(matches!(error, AppendError::Blocked { in_doubt: true, .. }), "{id}");
            let told = error.to_string();
            assert!(told.starts_with("no space left in `"), "{told}");
            assert_eq!((log.head(), log.bodies(&[1]).unwrap().len()), (before, 1), "{id}");
            assert_eq!(log.resume(), Ok(()), "{id}");
            assert_eq!(log.head(), head, "{id}");
        }
        let outcomes = ["a", "Put true", "Sync false", "Put false"]
            .map(|id| log.append(vec![event(id)], NOW).unwrap().remove(0));
        assert_eq!(
            outcomes,
            [
                Outcome::Duplicate { seq: 1, differs: false },
                Outcome::Duplicate { seq: 2, differs: false },
                Outcome::Duplicate { seq: 3, differs: false },
                Outcome::New(4)
            ]
        );
        assert_eq!(log.wait(3, Duration::ZERO), 4);
    }

    #[test]
    fn a_disk_with_less_space_than_the_reserve_refuses_batches_before_it_writes() {
        let folder = tempfile::tempdir().unwrap();
        let unrecovered = Unrecovered::open(folder.path(), 16 << 20).unwrap();
        let log = DiskLog::open(unrecovered.check(&|_| {}).unwrap(), u64::MAX).unwrap();
        for batch in [vec![event("a")], Vec::new()] {
            let error = log.append(batch, NOW).unwrap_err();
            assert!(matches!(error, AppendError::Blocked { in_doubt: false, .. }), "{error}");
        }
        assert!(matches!(log.resume(), Err(AppendError::Blocked { .. })));
        assert_eq!(log.read(0, 10, 1 << 20), Ok(Vec::new()));
    }
}
