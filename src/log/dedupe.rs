//! Which events are already there. Idempotent by event id for ever, and by content where there is
//! no id or the id is taken.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use rollcall_projections::Seq;

use super::{Outcome, ReadError};
use crate::verify::{self, Verified};

/// What a record is found by.
#[derive(Clone, Copy, Hash)]
pub(super) enum Key<'a> {
    /// The id under which a content counts.
    Id(&'a str),
    /// A further content under an id that is taken.
    Conflict(&'a str, &'a [u8]),
    /// A body without a usable id.
    Body(&'a [u8]),
}

/// The index: a fingerprint and a seq for each record, 16 bytes and the table's slack. Whatever a
/// fingerprint finds is compared in full.
#[derive(Default)]
pub(super) struct Dedupe {
    hasher: RandomState,
    table: HashTable<(u64, u32)>,
}

/// A record that may be the one sought.
pub(super) struct Candidate {
    pub(super) event_id: Option<String>,
    pub(super) conflict: bool,
    pub(super) body: bytes::Bytes,
}

impl Candidate {
    /// Whether both are found by the same key: only one of them would have been appended.
    pub(super) fn is_same(&self, other: &Candidate) -> bool {
        let counts_by_id = self.event_id.is_some() && !self.conflict;
        self.event_id == other.event_id
            && self.conflict == other.conflict
            && (counts_by_id || self.body == other.body)
    }

    /// Whether a body under this id is another content than this record's, which counts under it.
    pub(super) fn conflicts_with(&self, event_id: Option<&str>, body: &[u8]) -> bool {
        event_id.is_some_and(|id| counts_as(self, id)) && !verify::identical(&self.body, body)
    }
}

impl Dedupe {
    pub(super) fn insert(&mut self, key: Key<'_>, seq: Seq) {
        self.insert_print(self.hasher.hash_one(key), seq);
    }

    /// The records that may have the key of which [`Dedupe::prints`] made this.
    pub(super) fn known(&self, print: u64) -> Vec<Seq> {
        let found = self.table.iter_hash(print).filter(|(other, _)| *other == print);
        found.map(|(_, seq)| Seq::from(*seq)).collect()
    }

    /// Inserts what [`Dedupe::prints`] made of a key.
    pub(super) fn insert_print(&mut self, print: u64, seq: Seq) {
        self.table.insert_unique(print, (print, seq as u32), |(print, _)| *print);
    }

    /// Makes the fingerprints of this index elsewhere.
    pub(super) fn prints(&self) -> impl Fn(Key<'_>) -> u64 + Sync + use<> {
        let hasher = self.hasher.clone();
        move |key| hasher.hash_one(key)
    }

    /// The record under `key` for which `fits` holds.
    fn find(
        &self,
        key: Key<'_>,
        load: Load<'_>,
        fits: impl Fn(&Candidate) -> bool,
    ) -> Result<Option<(Seq, Candidate)>, ReadError> {
        first_fitting(self.seqs(key), load, fits)
    }

    fn seqs(&self, key: Key<'_>) -> Vec<Seq> {
        self.known(self.hasher.hash_one(key))
    }

    /// The records up to `head` that may be the one that counts under `event_id`: for
    /// [`find_among`], which needs no lock.
    pub(super) fn candidates(&self, event_id: &str, head: Seq) -> Vec<Seq> {
        let mut seqs = self.seqs(Key::Id(event_id));
        seqs.retain(|seq| *seq <= head);
        seqs
    }

    /// What becomes of the event with this id and body, which would be record `next`. Remembers it
    /// if it is to be appended. `load` must know the records of this batch, too.
    pub(super) fn judge(
        &mut self,
        event_id: Option<&str>,
        body: &[u8],
        next: Seq,
        load: Load<'_>,
    ) -> Result<Outcome, ReadError> {
        let Some(id) = event_id else {
            let known = self.find(Key::Body(body), load, |known| {
                known.event_id.is_none() && known.body == body
            })?;
            return Ok(known.map_or_else(
                || self.append(Key::Body(body), next),
                |(seq, _)| Outcome::Duplicate(seq),
            ));
        };
        let Some((first, known)) = self.find(Key::Id(id), load, |known| counts_as(known, id))?
        else {
            return Ok(self.append(Key::Id(id), next));
        };
        if verify::identical(&known.body, body) {
            return Ok(Outcome::Duplicate(first));
        }
        let key = Key::Conflict(id, body);
        let known = self.find(key, load, |known| {
            known.conflict && known.event_id.as_deref() == Some(id) && known.body == body
        })?;
        let (seq, duplicate) = match known {
            Some((seq, _)) => (seq, true),
            None => {
                self.insert(key, next);
                (next, false)
            }
        };
        Ok(Outcome::Conflict { seq, first, duplicate })
    }

    /// Forgets what was remembered of records after `head`: they were not appended.
    fn forget_after(&mut self, head: Seq) {
        self.table.retain(|(_, seq)| Seq::from(*seq) <= head);
    }

    fn append(&mut self, key: Key<'_>, next: Seq) -> Outcome {
        self.insert(key, next);
        Outcome::New(next)
    }
}

type Load<'a> = &'a dyn Fn(Seq) -> Result<Candidate, ReadError>;

fn first_fitting(
    seqs: Vec<Seq>,
    load: Load<'_>,
    fits: impl Fn(&Candidate) -> bool,
) -> Result<Option<(Seq, Candidate)>, ReadError> {
    for seq in seqs {
        let candidate = load(seq)?;
        if fits(&candidate) {
            return Ok(Some((seq, candidate)));
        }
    }
    Ok(None)
}

/// The record that counts under `event_id`, if it is among some candidates.
pub(super) fn find_among(
    candidates: Vec<Seq>,
    event_id: &str,
    load: Load<'_>,
) -> Result<Option<Seq>, ReadError> {
    let found = first_fitting(candidates, load, |known| counts_as(known, event_id))?;
    Ok(found.map(|(seq, _)| seq))
}

fn counts_as(known: &Candidate, event_id: &str) -> bool {
    !known.conflict && known.event_id.as_deref() == Some(event_id)
}

/// Judges a batch that begins after `head`: the outcome of each event, and those to append with
/// whom they conflict.
#[allow(clippy::type_complexity, reason = "named once, here")]
pub(super) fn judge_batch(
    dedupe: &mut Dedupe,
    batch: Vec<Verified>,
    head: Seq,
    load: Load<'_>,
) -> Result<(Vec<Outcome>, Vec<(Verified, Option<Seq>)>), ReadError> {
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut pending: Vec<(Verified, Option<Seq>)> = Vec::with_capacity(batch.len());
    for event in batch {
        let next = head + 1 + pending.len() as Seq;
        let load_any =
            |seq: Seq| match seq.checked_sub(head + 1).and_then(|at| pending.get(at as usize)) {
                Some((event, first)) => Ok(Candidate {
                    event_id: event.event_id().map(Into::into),
                    conflict: first.is_some(),
                    body: event.body().clone(),
                }),
                None => load(seq),
            };
        let outcome = match dedupe.judge(event.event_id(), event.body(), next, &load_any) {
            Ok(outcome) => outcome,
            Err(error) => {
                dedupe.forget_after(head);
                return Err(error);
            }
        };
        outcomes.push(outcome);
        match outcome {
            Outcome::New(_) => pending.push((event, None)),
            Outcome::Conflict { first, duplicate: false, .. } => pending.push((event, Some(first))),
            Outcome::Duplicate(_) | Outcome::Conflict { .. } => {}
        }
    }
    Ok((outcomes, pending))
}
