//! The index of the events that are already in the log. Appending is idempotent by event id, and by
//! content where there is no id or the id is taken.

use std::hash::{BuildHasher, Hasher, RandomState};

use hashbrown::HashTable;
use rollcall_projections::{RecordStatus, Seq};
use siphasher::sip::SipHasher13;

use super::{Outcome, ReadError, Record};
use crate::verify::{self, Verified};

/// The key under which a record is indexed.
#[derive(Clone, Copy)]
pub(super) enum DedupeKey<'a> {
    /// The id under which a content counts.
    Id(&'a str),
    /// A further content under an id that is taken.
    Conflict(&'a str, &'a [u8]),
    /// A body without a usable id.
    Body(&'a [u8]),
}

/// The bits of a fingerprint. Among ten million records it is one chance in six that any two share
/// one, which costs a comparison of the two.
const FINGERPRINT_BITS: u32 = 48;

/// The length of a fingerprint as it is kept.
pub(super) const FINGERPRINT_BYTES: usize = FINGERPRINT_BITS as usize / 8;

/// The fingerprint of a record that is not indexed.
const NONE: u64 = (1 << FINGERPRINT_BITS) - 1;

/// The number of fingerprints in a chunk: a list that doubles would be copied while a batch waits.
const CHUNK: usize = 1 << 16;

/// The number of fingerprints that are copied under one lock: a batch waits meanwhile, for long if the
/// thread that copies is of low priority.
const KEPT_AT_ONCE: usize = 1 << 10;

/// The key of a log's fingerprints: random, so that no sender can choose events that share one.
pub(super) type FingerprintKey = [u8; 16];

/// The index: the fingerprint of each record, in order of seq, and a table of the seqs by their
/// fingerprints: 10 bytes, and the table's slack. Records that a fingerprint finds are compared in
/// full.
pub(super) struct Dedupe {
    key: FingerprintKey,
    fingerprints: Fingerprints,
    table: HashTable<u32>,
}

impl Default for Dedupe {
    fn default() -> Dedupe {
        let random = RandomState::new();
        let [low, high] = [0_u8, 1].map(|half| random.hash_one(half).to_le_bytes());
        let mut key = FingerprintKey::default();
        key.iter_mut().zip(low.into_iter().chain(high)).for_each(|(to, from)| *to = from);
        Dedupe { key, fingerprints: Fingerprints::default(), table: HashTable::new() }
    }
}

/// The fingerprints of the records up to the last that is indexed, in order.
#[derive(Default)]
struct Fingerprints {
    /// Each is full but the last.
    chunks: Vec<Vec<[u8; FINGERPRINT_BYTES]>>,
}

impl Fingerprints {
    fn count(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        full + self.chunks.last().map_or(0, Vec::len)
    }

    fn get(&self, seq: u32) -> u64 {
        let at = (seq as usize).wrapping_sub(1);
        let kept = self.chunks.get(at / CHUNK).and_then(|chunk| chunk.get(at % CHUNK));
        kept.map_or(NONE, of_bytes)
    }

    /// Adds to `to` those of the records `from` to `until - 1`, counted from 0. A record after the last
    /// that is indexed has none.
    fn copy(&self, mut from: usize, until: usize, to: &mut Vec<u8>) {
        while from < until {
            let within = from % CHUNK;
            let end = CHUNK.min(within + until - from);
            let chunk = self.chunks.get(from / CHUNK).map_or(&[][..], Vec::as_slice);
            let known = chunk.get(within..end.min(chunk.len())).unwrap_or_default();
            to.extend_from_slice(known.as_flattened());
            let absent = end - within - known.len();
            to.resize(to.len() + absent * FINGERPRINT_BYTES, u8::MAX);
            from += end - within;
        }
    }

    fn set(&mut self, seq: u32, fingerprint: u64) {
        let at = (seq as usize).wrapping_sub(1);
        while self.count() <= at {
            self.push(to_bytes(NONE));
        }
        let kept = self.chunks.get_mut(at / CHUNK).and_then(|chunk| chunk.get_mut(at % CHUNK));
        if let Some(kept) = kept {
            *kept = to_bytes(fingerprint);
        }
    }

    fn push(&mut self, fingerprint: [u8; FINGERPRINT_BYTES]) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(fingerprint),
            _ => {
                let mut chunk = Vec::with_capacity(if self.chunks.is_empty() { 1 } else { CHUNK });
                chunk.push(fingerprint);
                self.chunks.push(chunk);
            }
        }
    }

    fn truncate(&mut self, count: usize) {
        self.chunks.truncate(count.div_ceil(CHUNK));
        let before = self.chunks.len().saturating_sub(1) * CHUNK;
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.truncate(count - before);
        }
    }
}

fn of_bytes(bytes: &[u8; FINGERPRINT_BYTES]) -> u64 {
    let [f0, f1, f2, f3, f4, f5] = *bytes;
    u64::from_le_bytes([f0, f1, f2, f3, f4, f5, 0, 0])
}

fn to_bytes(fingerprint: u64) -> [u8; FINGERPRINT_BYTES] {
    let [f0, f1, f2, f3, f4, f5, ..] = fingerprint.to_le_bytes();
    [f0, f1, f2, f3, f4, f5]
}

/// Makes a fingerprint. The bytes that are hashed, and the hash, are part of the form of snapshots.
fn fingerprint(key: &FingerprintKey, of: DedupeKey<'_>) -> u64 {
    let mut hasher = SipHasher13::new_with_key(key);
    let (kind, id, body): (u8, &str, &[u8]) = match of {
        DedupeKey::Id(id) => (0, id, &[]),
        DedupeKey::Conflict(id, body) => (1, id, body),
        DedupeKey::Body(body) => (2, "", body),
    };
    hasher.write(&[kind]);
    hasher.write(&(id.len() as u64).to_le_bytes());
    hasher.write(id.as_bytes());
    hasher.write(body);
    (hasher.finish() >> (u64::BITS - FINGERPRINT_BITS)).min(NONE - 1)
}

/// Spreads a fingerprint over the bits of a hash: the table looks at the lowest and at the highest.
fn hash_of(fingerprint: u64) -> u64 {
    fingerprint.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A record that a fingerprint found.
pub(super) struct Candidate {
    pub(super) event_id: Option<String>,
    /// True if it does not count under its id.
    pub(super) conflict: bool,
    /// True if it was pulled or imported: see [`Proof::is_copy`](crate::verify::Proof::is_copy).
    pub(super) copy: bool,
    pub(super) body: bytes::Bytes,
}

impl From<Record> for Candidate {
    fn from(record: Record) -> Candidate {
        Candidate {
            conflict: record.status != RecordStatus::Counts,
            copy: record.proof.is_copy(),
            event_id: record.event_id,
            body: record.body,
        }
    }
}

impl Candidate {
    /// Returns whether both have the same key: only one of them would have been appended.
    pub(super) fn is_same(&self, other: &Candidate) -> bool {
        let counts_by_id = self.event_id.is_some() && !self.conflict;
        self.event_id == other.event_id
            && self.conflict == other.conflict
            && (counts_by_id || self.body == other.body)
    }

    /// Returns whether this record counts under the id of `event`, and the two conflict.
    pub(super) fn conflicts_with(&self, event: &EventContent<'_>) -> bool {
        event.event_id.is_some_and(|id| self.counts_as(id))
            && matches!(self.compared_with(event), Comparison::Conflicting)
    }

    /// Returns whether `event` is the same as that of this record, after which it would not have been
    /// appended.
    pub(super) fn is_repeated_by(&self, event: &EventContent<'_>) -> bool {
        if self.event_id.as_deref() != event.event_id {
            return false;
        }
        match self.event_id.is_some() && !self.conflict {
            true => !matches!(self.compared_with(event), Comparison::Conflicting),
            false => self.body == event.body,
        }
    }

    /// Compares this record, which counts under an event id, with an event of the same id.
    fn compared_with(&self, event: &EventContent<'_>) -> Comparison {
        if verify::identical(&self.body, event.body) {
            Comparison::Same
        } else if self.copy || event.copy {
            Comparison::Differing
        } else {
            Comparison::Conflicting
        }
    }

    /// Returns the outcome of an event of the same id as this record, `seq`, which counts; `None` if
    /// the two conflict.
    fn duplicate(&self, seq: Seq, event: &EventContent<'_>) -> Option<Outcome> {
        match self.compared_with(event) {
            Comparison::Same => Some(Outcome::Duplicate { seq, differs: false }),
            Comparison::Differing => Some(Outcome::Duplicate { seq, differs: true }),
            Comparison::Conflicting => None,
        }
    }

    /// Returns whether this record is `body`, under an id that another record has.
    fn conflicts_as(&self, event_id: &str, body: &[u8]) -> bool {
        self.conflict && self.event_id.as_deref() == Some(event_id) && self.body == body
    }

    /// Returns whether this record is `body`, without a usable id.
    fn is_plain(&self, body: &[u8]) -> bool {
        self.event_id.is_none() && self.body == body
    }

    /// Returns whether this record is the one that counts under `event_id`.
    fn counts_as(&self, event_id: &str) -> bool {
        !self.conflict && self.event_id.as_deref() == Some(event_id)
    }
}

/// An event by what identifies it.
#[derive(Clone, Copy)]
pub(super) struct EventContent<'a> {
    pub(super) event_id: Option<&'a str>,
    /// True if it was pulled or imported.
    pub(super) copy: bool,
    pub(super) body: &'a [u8],
}

impl<'a> EventContent<'a> {
    pub(super) fn of(event: &'a Verified) -> EventContent<'a> {
        let (event_id, copy) = (event.event_id(), event.proof().is_copy());
        EventContent { event_id, copy, body: event.body() }
    }
}

/// The relation of two events of one id.
enum Comparison {
    /// They have the same content.
    Same,
    /// They have not, but are two renderings by one sender, since one was pulled or imported.
    Differing,
    /// They were both signed, and contradict each other.
    Conflicting,
}

impl Dedupe {
    pub(super) fn insert(&mut self, key: DedupeKey<'_>, seq: Seq) {
        self.insert_fingerprint(self.fingerprinter()(key), seq);
    }

    /// Returns the records with this fingerprint, which [`Dedupe::fingerprinter`] made.
    pub(super) fn with_fingerprint(&self, fingerprint: u64) -> Vec<Seq> {
        let found = self.table.iter_hash(hash_of(fingerprint)).copied();
        let found = found.filter(|seq| self.fingerprints.get(*seq) == fingerprint);
        found.map(Seq::from).collect()
    }

    /// Inserts the fingerprint of a record, which [`Dedupe::fingerprinter`] made. A record has one.
    pub(super) fn insert_fingerprint(&mut self, fingerprint: u64, seq: Seq) {
        let (fingerprints, seq) = (&mut self.fingerprints, seq as u32);
        fingerprints.set(seq, fingerprint);
        let hash = |seq: &u32| hash_of(fingerprints.get(*seq));
        self.table.insert_unique(hash_of(fingerprint), seq, hash);
    }

    /// Returns the index of records whose fingerprints were kept, in order, by an index with `key`.
    pub(super) fn of_kept(key: FingerprintKey, kept: &[u8]) -> Dedupe {
        let kept = kept.as_chunks::<FINGERPRINT_BYTES>().0;
        let chunks: Vec<_> = kept.chunks(CHUNK).map(<[_]>::to_vec).collect();
        let (fingerprints, mut table) = (Fingerprints { chunks }, HashTable::new());
        let hash = |seq: &u32| hash_of(fingerprints.get(*seq));
        table.reserve(kept.len(), hash);
        for (seq, fingerprint) in (1_u32..).zip(kept.iter().map(of_bytes)) {
            if fingerprint != NONE {
                table.insert_unique(hash_of(fingerprint), seq, hash);
            }
        }
        Dedupe { key, fingerprints, table }
    }

    pub(super) fn key(&self) -> FingerprintKey {
        self.key
    }

    /// Adds to `kept` the fingerprints of the records from the one after those that are there up to
    /// `last`, at most a thousand of them. Returns whether that were all.
    pub(super) fn keep(&self, kept: &mut Vec<u8>, last: Seq) -> bool {
        let before = kept.len() / FINGERPRINT_BYTES;
        let until = (last as usize).min(before + KEPT_AT_ONCE);
        self.fingerprints.copy(before, until, kept);
        until == last as usize
    }

    /// Returns under what each of the records `first` to `last` is indexed.
    pub(super) fn indexed(&self, first: Seq, last: Seq) -> Vec<Option<u64>> {
        let known = (first..=last).map(|seq| self.fingerprints.get(seq as u32));
        known.map(|fingerprint| (fingerprint != NONE).then_some(fingerprint)).collect()
    }

    /// Returns whether a record is indexed under a fingerprint, or not at all where that is none.
    pub(super) fn is_indexed(&self, seq: Seq, fingerprint: Option<u64>) -> bool {
        self.fingerprints.get(seq as u32) == fingerprint.unwrap_or(NONE)
    }

    /// Indexes a record under a fingerprint, or not at all if that is none, in place of what it was
    /// indexed under.
    pub(super) fn put_right(&mut self, seq: Seq, fingerprint: Option<u64>) {
        let known = hash_of(self.fingerprints.get(seq as u32));
        if let Ok(slot) = self.table.find_entry(known, |other| Seq::from(*other) == seq) {
            slot.remove();
        }
        match fingerprint {
            Some(fingerprint) => self.insert_fingerprint(fingerprint, seq),
            None => self.fingerprints.set(seq as u32, NONE),
        }
    }

    /// Returns a function that makes the fingerprints of this index on other threads.
    pub(super) fn fingerprinter(&self) -> impl Fn(DedupeKey<'_>) -> u64 + Sync + use<> {
        let own = self.key;
        move |key| fingerprint(&own, key)
    }

    /// Returns the record under `key` for which `fits` holds.
    fn find(
        &self,
        key: DedupeKey<'_>,
        load: Load<'_>,
        fits: impl Fn(&Candidate) -> bool,
    ) -> Result<Option<(Seq, Candidate)>, ReadError> {
        first_fitting(self.seqs(key), load, fits)
    }

    fn seqs(&self, key: DedupeKey<'_>) -> Vec<Seq> {
        self.with_fingerprint(self.fingerprinter()(key))
    }

    /// Returns the records up to `head` that may be the one that counts under `event_id`.
    /// [`find_among`] picks it, and needs no lock.
    pub(super) fn candidates(&self, event_id: &str, head: Seq) -> Vec<Seq> {
        let mut seqs = self.seqs(DedupeKey::Id(event_id));
        seqs.retain(|seq| *seq <= head);
        seqs
    }

    /// Returns the records up to `head` that `event` may repeat. [`find_repeated`] picks it, and needs
    /// no lock.
    pub(super) fn may_repeat(&self, event: &EventContent<'_>, head: Seq) -> Vec<Seq> {
        let EventContent { event_id, body, .. } = *event;
        let mut seqs = self.seqs(event_id.map_or(DedupeKey::Body(body), DedupeKey::Id));
        // Nearly no event has a record of its id.
        if let Some(id) = event_id.filter(|_| !seqs.is_empty()) {
            seqs.extend(self.seqs(DedupeKey::Conflict(id, body)));
        }
        seqs.retain(|seq| *seq <= head);
        seqs
    }

    /// Judges an event, which would be record `next`. Remembers it if it is to be appended. `load`
    /// must also know the earlier records of this batch.
    pub(super) fn judge(
        &mut self,
        event: EventContent<'_>,
        next: Seq,
        load: Load<'_>,
    ) -> Result<Outcome, ReadError> {
        let EventContent { event_id, body, .. } = event;
        let Some(id) = event_id else { return self.judge_without_id(body, next, load) };
        let Some((seq, known)) = self.find(DedupeKey::Id(id), load, |known| known.counts_as(id))?
        else {
            return Ok(self.append(DedupeKey::Id(id), next));
        };
        match known.duplicate(seq, &event) {
            Some(duplicate) => Ok(duplicate),
            None => self.judge_conflict(id, body, seq, next, load),
        }
    }

    /// Judges a body without a usable id.
    fn judge_without_id(
        &mut self,
        body: &[u8],
        next: Seq,
        load: Load<'_>,
    ) -> Result<Outcome, ReadError> {
        let known = self.find(DedupeKey::Body(body), load, |known| known.is_plain(body))?;
        Ok(match known {
            Some((seq, _)) => Outcome::Duplicate { seq, differs: false },
            None => self.append(DedupeKey::Body(body), next),
        })
    }

    /// Judges another content under `id` than that of record `first`, which counts.
    fn judge_conflict(
        &mut self,
        id: &str,
        body: &[u8],
        first: Seq,
        next: Seq,
        load: Load<'_>,
    ) -> Result<Outcome, ReadError> {
        let key = DedupeKey::Conflict(id, body);
        let known = self.find(key, load, |known| known.conflicts_as(id, body))?;
        let (seq, duplicate) = match known {
            Some((seq, _)) => (seq, true),
            None => {
                self.insert(key, next);
                (next, false)
            }
        };
        Ok(Outcome::Conflict { seq, first, duplicate })
    }

    /// Forgets the records after `head`, which were not appended.
    fn forget_after(&mut self, head: Seq) {
        self.table.retain(|seq| Seq::from(*seq) <= head);
        self.fingerprints.truncate(self.fingerprints.count().min(head as usize));
    }

    fn append(&mut self, key: DedupeKey<'_>, next: Seq) -> Outcome {
        self.insert(key, next);
        Outcome::New(next)
    }
}

/// Reads a record; `None` if what is there is not the record that was acknowledged, so that no event is
/// compared with it.
type Load<'a> = &'a dyn Fn(Seq) -> Result<Option<Candidate>, ReadError>;

fn first_fitting(
    seqs: Vec<Seq>,
    load: Load<'_>,
    fits: impl Fn(&Candidate) -> bool,
) -> Result<Option<(Seq, Candidate)>, ReadError> {
    for seq in seqs {
        if let Some(candidate) = load(seq)?.filter(&fits) {
            return Ok(Some((seq, candidate)));
        }
    }
    Ok(None)
}

/// Returns the record that counts under `event_id`, if it is among some candidates.
pub(super) fn find_among(
    candidates: Vec<Seq>,
    event_id: &str,
    load: Load<'_>,
) -> Result<Option<Seq>, ReadError> {
    let found = first_fitting(candidates, load, |known| known.counts_as(event_id))?;
    Ok(found.map(|(seq, _)| seq))
}

/// Returns the outcome of an event that repeats one of some candidates; `None` if it may have to be
/// appended.
pub(super) fn find_repeated(
    candidates: &[Seq],
    event: &EventContent<'_>,
    load: Load<'_>,
) -> Result<Option<Outcome>, ReadError> {
    let find = |fits: &dyn Fn(&Candidate) -> bool| first_fitting(candidates.to_vec(), load, fits);
    let Some(id) = event.event_id else {
        let found = find(&|known| known.is_plain(event.body))?;
        return Ok(found.map(|(seq, _)| Outcome::Duplicate { seq, differs: false }));
    };
    let Some((first, counting)) = find(&|known| known.counts_as(id))? else { return Ok(None) };
    if let Some(duplicate) = counting.duplicate(first, event) {
        return Ok(Some(duplicate));
    }
    let conflict = find(&|known| known.conflicts_as(id, event.body))?;
    Ok(conflict.map(|(seq, _)| Outcome::Conflict { seq, first, duplicate: true }))
}

/// A batch, judged.
pub(super) struct JudgedBatch {
    /// The outcome of each event, in the order of the batch.
    pub(super) outcomes: Vec<Outcome>,
    /// The events to append, in order.
    pub(super) pending: Vec<PendingEvent>,
}

/// An event to append.
pub(super) struct PendingEvent {
    pub(super) event: Verified,
    pub(super) status: RecordStatus,
}

impl PendingEvent {
    fn candidate(&self) -> Candidate {
        Candidate {
            event_id: self.event.event_id().map(Into::into),
            conflict: self.status != RecordStatus::Counts,
            copy: self.event.proof().is_copy(),
            body: self.event.body().clone(),
        }
    }
}

/// Judges a batch whose first new event becomes the record after `head`. If a record cannot be
/// read, the index remembers nothing of the batch.
pub(super) fn judge_batch(
    dedupe: &mut Dedupe,
    batch: Vec<Verified>,
    head: Seq,
    load: Load<'_>,
) -> Result<JudgedBatch, ReadError> {
    judge(dedupe, batch, head, load, |_| None)
}

/// Judges the next records of a log that is restored: all are kept. One repeats another if the log
/// was without that one when it came. See [`judge_batch`].
pub(super) fn judge_recorded(
    dedupe: &mut Dedupe,
    batch: Vec<Verified>,
    head: Seq,
    load: Load<'_>,
) -> Result<Vec<PendingEvent>, ReadError> {
    let judged = judge(dedupe, batch, head, load, |of| Some(RecordStatus::Repeat { of }));
    judged.map(|judged| judged.pending)
}

/// `repeated` gives the status of an event that is there as a record already, if it is appended.
fn judge(
    dedupe: &mut Dedupe,
    batch: Vec<Verified>,
    head: Seq,
    load: Load<'_>,
    repeated: impl Fn(Seq) -> Option<RecordStatus>,
) -> Result<JudgedBatch, ReadError> {
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut pending: Vec<PendingEvent> = Vec::with_capacity(batch.len());
    for event in batch {
        let next = head + 1 + pending.len() as Seq;
        let load_any =
            |seq: Seq| match seq.checked_sub(head + 1).and_then(|at| pending.get(at as usize)) {
                Some(pending) => Ok(Some(pending.candidate())),
                None => load(seq),
            };
        let outcome = dedupe
            .judge(EventContent::of(&event), next, &load_any)
            .inspect_err(|_| dedupe.forget_after(head))?;
        outcomes.push(outcome);
        let status = match outcome {
            Outcome::New(_) => Some(RecordStatus::Counts),
            Outcome::Conflict { first, duplicate: false, .. } => {
                Some(RecordStatus::Conflict { first })
            }
            Outcome::Duplicate { seq, .. } | Outcome::Conflict { seq, .. } => repeated(seq),
        };
        pending.extend(status.map(|status| PendingEvent { event, status }));
    }
    Ok(JudgedBatch { outcomes, pending })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_siphash_1_3_of_the_kind_the_id_and_the_body() {
        // By an implementation of its own, in Python, after https://www.aumasson.jp/siphash/siphash.pdf.
        let key = std::array::from_fn(|at| at as u8);
        for (of, expected) in [
            (DedupeKey::Id("event_1"), 0xa67b_8a5c_9177),
            (DedupeKey::Conflict("event_1", b"{}"), 0xdeb0_a734_569a),
            (DedupeKey::Body(b"[1, 2]"), 0x8c5c_a648_775a),
        ] {
            assert_eq!(fingerprint(&key, of), expected);
        }
    }

    #[test]
    fn what_is_kept_is_the_fingerprint_of_each_record_across_chunks_and_past_the_last() {
        let mut dedupe = Dedupe::default();
        // Record 3 has no fingerprint, and neither have the last two.
        let indexed = CHUNK as Seq + 5;
        let expected = |seq: Seq| (seq != 3 && seq <= indexed).then_some(seq * 7);
        for (seq, own) in (1..=indexed).filter_map(|seq| Some((seq, expected(seq)?))) {
            dedupe.insert_fingerprint(own, seq);
        }
        let (last, mut kept) = (indexed + 2, Vec::new());
        while !dedupe.keep(&mut kept, last) {}
        let kept = kept.as_chunks::<FINGERPRINT_BYTES>().0;
        assert_eq!(kept.len() as Seq, last);
        for (seq, kept) in (1..).zip(kept) {
            assert_eq!(of_bytes(kept), expected(seq).unwrap_or(NONE), "{seq}");
        }
    }

    #[test]
    fn records_are_found_by_their_fingerprints_until_they_are_forgotten() {
        let mut dedupe = Dedupe::default();
        let id = |seq: Seq| format!("event_{seq}");
        // Record 3 has no fingerprint, and more than a chunk follow.
        let last = CHUNK as Seq + 5;
        for seq in (1..=last).filter(|seq| *seq != 3) {
            dedupe.insert(DedupeKey::Id(&id(seq)), seq);
        }
        let found = |dedupe: &Dedupe, seq: Seq| dedupe.candidates(&id(seq), last).contains(&seq);
        assert!((1..=last).all(|seq| found(&dedupe, seq) == (seq != 3)));
        dedupe.forget_after(CHUNK as Seq);
        assert!(found(&dedupe, CHUNK as Seq) && !found(&dedupe, CHUNK as Seq + 1));
        dedupe.insert(DedupeKey::Id("another"), CHUNK as Seq + 1);
        assert!(dedupe.candidates("another", last).contains(&(CHUNK as Seq + 1)));
        dedupe.forget_after(0);
        assert!((1..=last).all(|seq| !found(&dedupe, seq)));
    }
}
