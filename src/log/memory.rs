//! A log in memory, for tests: the same contract without a disk.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rollcall_projections::{Entry, Millis, RecordStatus, Seq};

use super::dedupe::{Candidate, Dedupe, JudgedBatch, PendingEvent, find_among, judge_batch};
use super::merkle::{self, Hash, Nodes, parent};
use super::{
    AppendError, DurableHead, History, Identity, Log, LogId, Outcome, ReadError, Record,
    check_batch, check_in_tree,
};
use crate::verify::{Verified, extract_from};

/// A log in memory, gone when it is dropped.
pub struct MemoryLog {
    log_id: LogId,
    dedupe: Mutex<Dedupe>,
    records: RwLock<Vec<Record>>,
    head: DurableHead,
}

impl MemoryLog {
    /// Creates an empty log.
    pub fn new(log_id: LogId) -> MemoryLog {
        MemoryLog {
            log_id,
            dedupe: Mutex::default(),
            records: RwLock::default(),
            head: DurableHead::default(),
        }
    }

    fn candidate(&self, seq: Seq) -> Result<Option<Candidate>, ReadError> {
        let records = self.records.read();
        let record = records.get(seq as usize - 1).ok_or(ReadError::Absent { seq })?;
        let conflict = record.status != RecordStatus::Counts;
        let copy = record.proof.is_copy();
        let (event_id, body) = (record.event_id.clone(), record.body.clone());
        Ok(Some(Candidate { event_id, conflict, copy, body }))
    }
}

/// Hashes each node from the records whenever it is asked for, so nothing is stored that could be
/// wrong.
impl Nodes for MemoryLog {
    fn node(&self, level: u32, index: u64) -> Result<Hash, ReadError> {
        match level.checked_sub(1) {
            Some(below) => {
                Ok(parent(&self.node(below, 2 * index)?, &self.node(below, 2 * index + 1)?))
            }
            None => self
                .records
                .read()
                .get(index as usize)
                .map(Record::leaf)
                .ok_or(ReadError::Absent { seq: index + 1 }),
        }
    }
}

impl History for MemoryLog {
    fn read(
        &self,
        after: Seq,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let records = self.records.read();
        let mut bytes = 0;
        let wanted = records.iter().skip(after as usize).take(events_max).take_while(|record| {
            let fits = bytes == 0 || bytes + record.body.len() <= bytes_max;
            bytes += record.body.len();
            fits
        });
        Ok(wanted.cloned().collect())
    }

    fn head(&self) -> Seq {
        self.head.get()
    }

    fn identity(&self) -> Identity {
        Identity { log_id: self.log_id, format: u32::from(super::block::FORMAT) }
    }

    fn root(&self, size: Seq) -> Result<[u8; 32], ReadError> {
        check_in_tree(0, size, self.head.get())?;
        merkle::root(self, size)
    }
}

impl Log for MemoryLog {
    fn append(
        &self,
        batch: Vec<Verified>,
        recorded_at: Millis,
    ) -> Result<Vec<Outcome>, AppendError> {
        let mut dedupe = self.dedupe.lock();
        let head = self.head.get();
        check_batch(&batch, head)?;
        let recorded_at = self
            .records
            .read()
            .last()
            .map_or(recorded_at, |last| recorded_at.max(last.recorded_at));
        let load = |seq| self.candidate(seq);
        let JudgedBatch { outcomes, pending } = judge_batch(&mut dedupe, batch, head, &load)
            .map_err(|error| AppendError::Rejected(error.to_string()))?;
        let mut records = self.records.write();
        for PendingEvent { event, status } in pending {
            let seq = records.len() as Seq + 1;
            records.push(Record::of(self.log_id, seq, recorded_at, &event, [0; 16], status));
        }
        self.head.set(records.len() as Seq);
        Ok(outcomes)
    }

    fn entries(
        &self,
        after: Seq,
        events_max: usize,
        each: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<Seq, ReadError> {
        let mut last = after;
        for record in self.records.read().iter().skip(after as usize).take(events_max) {
            let facts = extract_from(&record.proof, &record.body).facts;
            let Record { seq, recorded_at, source, event_id, event_type, status, .. } = record;
            let names = [event_id.as_deref(), event_type.as_deref()];
            each(&facts.entry(*seq, *recorded_at, *source, names, *status));
            last = record.seq;
        }
        Ok(last)
    }

    fn bodies(&self, seqs: &[Seq]) -> Result<Vec<Bytes>, ReadError> {
        let records = self.records.read();
        let body = |seq: &Seq| {
            records.get((*seq as usize).wrapping_sub(1)).map(|record| record.body.clone())
        };
        seqs.iter().map(|seq| body(seq).ok_or(ReadError::Absent { seq: *seq })).collect()
    }

    fn find(&self, event_id: &str) -> Result<Option<Seq>, ReadError> {
        let candidates = self.dedupe.lock().candidates(event_id, self.head.get());
        find_among(candidates, event_id, &|seq| self.candidate(seq))
    }

    fn wait(&self, after: Seq, timeout: Duration) -> Seq {
        self.head.wait(after, timeout)
    }

    fn inclusion(&self, seq: Seq, size: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        check_in_tree(seq, size, self.head.get())?;
        merkle::inclusion(self, seq.checked_sub(1).ok_or(ReadError::Absent { seq })?, size)
    }

    fn consistency(&self, from: Seq, to: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        check_in_tree(from, to, self.head.get())?;
        merkle::consistency(self, from, to)
    }
}
