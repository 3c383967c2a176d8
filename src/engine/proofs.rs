//! Proofs about the log, and the key that signs its checkpoints.

use std::sync::atomic::Ordering;

use rollcall_projections::{Cut, EventFilter, EventType, Millis, Seq, Sight, Start};
use serde_json::Value;

use super::{ActError, Engine};
use crate::keys::Operator;
use crate::log::{LogId, ReadError, Record, ScrubState};
use crate::notary::{KeyError, KeyEvent, KeyHistory, Notary, origin};
use crate::verify::{Act, Proof, Source, author_name};

/// The number of changes of the key that are read under one lock.
const CHANGES: usize = 100;

/// A change of the key that signs checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The record of the change.
    pub seq: Seq,
    /// The moment at which it was recorded.
    pub recorded_at: Millis,
    /// The author of the change: the name and fingerprint of the operator's API key.
    pub by: Option<String>,
    /// The operator's note, if there is one.
    pub note: Option<String>,
    /// The public key that signed until then.
    pub from: String,
    /// The public key that signs from then on.
    pub to: String,
}

/// A change of the key that failed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The engine has no notary: only `serve` appoints one.
    #[error("this server has no key that signs checkpoints")]
    NoKey,
    /// The key's files cannot be written.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It could not be recorded.
    #[error("the change of the key could not be recorded: {0}")]
    Act(ActError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Engine {
    /// Returns the seq of the newest durable record; 0 before the first.
    pub fn head(&self) -> Seq {
        self.log.head()
    }

    /// Returns the state of the standing scrub of the log; `None` if there is none.
    pub fn scrub(&self) -> Option<ScrubState> {
        self.log.scrub()
    }

    /// Returns the id of the log.
    pub fn log_id(&self) -> LogId {
        self.log.identity().log_id
    }

    /// Returns the tree hash over the first `size` records. Blocks while it reads the log, unless
    /// `size` is the head.
    ///
    /// # Errors
    /// [`ReadError::Absent`] past the head.
    pub fn root(&self, size: Seq) -> Result<[u8; 32], ReadError> {
        self.log.root(size)
    }

    /// Returns the audit path of record `seq` in the tree of the first `size`. Blocks while it
    /// reads the log.
    ///
    /// # Errors
    /// [`ReadError::Absent`] past the head, or past `size`.
    pub fn inclusion(&self, seq: Seq, size: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        self.log.inclusion(seq, size)
    }

    /// Returns the proof that the tree of the first `to` records begins with that of the first
    /// `from`. Blocks while it reads the log.
    ///
    /// # Errors
    /// [`ReadError::Absent`] past the head, or past `to`.
    pub fn consistency(&self, from: Seq, to: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        self.log.consistency(from, to)
    }

    /// Appoints the notary that signs checkpoints. Further calls have no effect.
    pub fn set_notary(&self, notary: Notary) {
        let _ = self.notary.set(notary);
    }

    /// Returns the notary; `None` if the engine only reads a folder, without its key.
    pub fn notary(&self) -> Option<&Notary> {
        self.notary.get()
    }

    /// Returns the signed checkpoint of the first `size` records; `None` without a notary. Blocks
    /// while it reads the log.
    ///
    /// # Errors
    /// [`ReadError::Absent`] past the head; [`ReadError::Store`] if the log names another key.
    pub fn checkpoint(&self, size: Seq) -> Result<Option<String>, ReadError> {
        self.refuse_other_key()?;
        let note = self.notary().map(|notary| notary.checkpoint(size, || self.root(size)));
        let note = note.transpose()?;
        if note.is_some() && size == self.head() {
            self.note_checkpointed();
        }
        Ok(note)
    }

    /// Judges the notary once the views are those of the log: a snapshot that was different and covered
    /// the first `covered` records may have left out a change of the key. If the log names another key
    /// than the one that has signed since the start, nothing is signed any more. Blocks while it reads
    /// the log.
    ///
    /// # Errors
    /// If the record of a change cannot be read.
    pub(super) fn judge_notary(&self, covered: Seq) -> Result<(), ReadError> {
        let Some(notary) = self.notary() else { return Ok(()) };
        let own = format!("{}+", notary.origin());
        let mut changes = self.key_changes()?;
        changes.retain(|change| change.to.starts_with(&own));
        let later = changes.split_off(changes.partition_point(|change| change.seq <= covered));
        let Some(named) = changes.last() else { return Ok(()) };
        // A change that was recorded since begins with the key before it.
        let first = later.first().map(|change| change.from.clone());
        if named.to != first.unwrap_or_else(|| notary.verifier().to_string()) {
            self.has_other_key.store(true, Ordering::Relaxed);
            tracing::error!(
                key = named.to,
                "the snapshot of the start left out that this key signs the checkpoints: those that \
                 were signed since are signed by another, and no more are; stop the server, and put \
                 the file of this key back"
            );
        }
        Ok(())
    }

    /// Refuses to sign with a key that the log does not name.
    fn refuse_other_key(&self) -> Result<(), ReadError> {
        let what = "its checkpoints are not signed, because the key is another than the one that the \
                    log names: stop the server, and put the right file back";
        match self.has_other_key.load(Ordering::Relaxed) {
            true => Err(ReadError::Store(what.into())),
            false => Ok(()),
        }
    }

    /// Notes that a checkpoint of all records is with those who keep it.
    pub fn note_checkpointed(&self) {
        self.checkpointed_at.store(self.clock.now_ms(), Ordering::Relaxed);
    }

    /// Returns every change of the key so far, in order. Blocks while it reads the log.
    ///
    /// # Errors
    /// If the record of a change cannot be read.
    pub fn key_changes(&self) -> Result<Vec<KeyChange>, ReadError> {
        let (mut changes, mut start) = (Vec::new(), Some(Start::After(0)));
        let event_types = [EventType::CheckpointKeyChanged.name().to_owned()];
        let filter =
            EventFilter { event_types: &event_types, organization: None, from: None, until: None };
        while let Some(place) = start {
            let views = self.views();
            let step = views.seen_by(&Sight::All).events_step(&filter, Cut::LATEST, place, CHANGES);
            drop(views);
            for row in &step.items {
                changes.extend(KeyChange::of(&self.record(row.seq)?));
            }
            start = step.next;
        }
        Ok(changes)
    }

    /// Returns every change of the key so far in the form that the notary needs. Blocks while it
    /// reads the log.
    ///
    /// # Errors
    /// If the record of a change cannot be read.
    pub fn key_history(&self) -> Result<KeyHistory, ReadError> {
        KeyChange::history(self.log_id(), self.key_changes()?, |size| self.root(size))
    }

    /// Records that the key changed. Blocks until it is durable and folded.
    ///
    /// # Errors
    /// [`ActError`].
    pub fn record_key_change(
        &self,
        operator: Operator,
        from: String,
        to: String,
        note: Option<String>,
    ) -> Result<Seq, ActError> {
        let decide = move |_: &Engine, _: Millis| Ok(vec![Act::CheckpointKeyChanged { from, to }]);
        self.act_blocking(operator, note, Box::new(decide))?.ok_or(ActError::Unavailable)
    }

    /// Makes a new key, records the change, and signs with the new key from then on. Blocks, and
    /// must not be interrupted; if the process ends in between, the next start completes the
    /// change. Returns the checkpoint that ends with the change, signed by both keys.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn change_checkpoint_key(
        &self,
        operator: Operator,
        note: Option<String>,
    ) -> Result<String, ChangeError> {
        self.refuse_other_key()?;
        let change = self.notary().ok_or(ChangeError::NoKey)?.change()?;
        match self.record_key_change(operator, change.from.clone(), change.to.clone(), note) {
            Ok(seq) => Ok(change.adopt(seq, self.root(seq)?)),
            Err(ActError::QueueFull) => {
                change.take_back();
                Err(ChangeError::Act(ActError::QueueFull))
            }
            // The change may be in the log: the file of the next key stays until the next start
            // finds out.
            Err(error) => Err(ChangeError::Act(error)),
        }
    }
}

impl KeyChange {
    /// Reads a change of the key from a record; `None` unless an operator's API key proves it.
    pub fn of(record: &Record) -> Option<KeyChange> {
        let Proof::Operator { key_id } = record.proof else { return None };
        let body: Value = serde_json::from_slice(&record.body).ok()?;
        let text = |name: &str| body.pointer(name).and_then(Value::as_str).map(str::to_owned);
        let (from, to) = (text("/data/from")?, text("/data/to")?);
        let by = (record.source == Source::Rollcall).then(|| author_name(key_id, &record.body));
        Some(KeyChange {
            seq: record.seq,
            recorded_at: record.recorded_at,
            by,
            note: text("/data/note"),
            from,
            to,
        })
    }

    /// Returns the changes of the key of the log `log_id` in the form that the notary needs. A log
    /// that was made of another one has that one's changes as well. `root` returns the tree hash
    /// over as many records.
    ///
    /// # Errors
    /// Those of `root`.
    pub fn history<E>(
        log_id: LogId,
        changes: impl IntoIterator<Item = KeyChange>,
        root: impl FnOnce(Seq) -> Result<[u8; 32], E>,
    ) -> Result<KeyHistory, E> {
        let own = format!("{}+", origin(log_id));
        let events = changes.into_iter().filter(|change| change.to.starts_with(&own));
        let events: Vec<KeyEvent> = events
            .map(|change| KeyEvent { size: change.seq, from: change.from, to: change.to })
            .collect();
        let root = events.last().map(|event| root(event.size)).transpose()?.unwrap_or_default();
        Ok(KeyHistory { events, root })
    }
}
