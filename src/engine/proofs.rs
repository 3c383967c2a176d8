//! What the log proves about itself, and the key that signs it.

use rollcall_projections::{Cut, EventFilter, EventType, Millis, Seq, Start};
use serde_json::Value;

use super::{ActError, Engine};
use crate::log::{LogId, ReadError, Record};
use crate::notary::{KeyError, KeyEvent, KeyHistory, Notary};
use crate::verify::{Act, Operator, Proof, Source, key_name};

/// How many changes of the key are read under one lock.
const CHANGES: usize = 100;

/// A change of the key that signs checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The record that says so.
    pub seq: Seq,
    /// When it was recorded.
    pub recorded_at: Millis,
    /// Who did it, by the API key's name.
    pub by: Option<String>,
    /// Why, if it was said.
    pub note: Option<String>,
    /// The public key that signed until then.
    pub from: String,
    /// The public key that signs from then on.
    pub to: String,
}

/// Why the key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is none: only a server that was started for good has one.
    #[error("there is no key")]
    NoKey,
    /// Its files cannot be written.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It could not be recorded.
    #[error("the change could not be recorded: {0:?}")]
    Act(ActError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Engine {
    /// The last durable record; 0 before the first.
    pub fn head(&self) -> Seq {
        self.log.head()
    }

    /// Which log it is.
    pub fn log_id(&self) -> LogId {
        self.log.identity().log_id
    }

    /// The tree hash over the first `size` records. Blocks while it reads the log, unless `size` is
    /// the head.
    ///
    /// # Errors
    /// [`ReadError::Absent`] past the head.
    pub fn root(&self, size: Seq) -> Result<[u8; 32], ReadError> {
        self.log.root(size)
    }

    /// The audit path of record `seq` in the tree of the first `size`. Blocks while it reads the
    /// log.
    ///
    /// # Errors
    /// [`ReadError::Absent`] past the head, or past `size`.
    pub fn inclusion(&self, seq: Seq, size: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        self.log.inclusion(seq, size)
    }

    /// The proof that the tree of the first `to` records begins with that of the first `from`.
    /// Blocks while it reads the log.
    ///
    /// # Errors
    /// [`ReadError::Absent`] past the head, or past `to`.
    pub fn consistency(&self, from: Seq, to: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
        self.log.consistency(from, to)
    }

    /// Gives it the notary that signs its checkpoints. The first one stays.
    pub fn appoint(&self, notary: Notary) {
        let _ = self.notary.set(notary);
    }

    /// Who signs checkpoints; `None` where only a folder is read that has no key.
    pub fn notary(&self) -> Option<&Notary> {
        self.notary.get()
    }

    /// The signed checkpoint of the first `size` records; `None` without a notary. Blocks while it
    /// reads the log.
    ///
    /// # Errors
    /// [`ReadError::Absent`] past the head.
    pub fn checkpoint(&self, size: Seq) -> Result<Option<String>, ReadError> {
        self.notary().map(|notary| notary.checkpoint(size, || self.root(size))).transpose()
    }

    /// Every change of the key so far, in order. Blocks while it reads the log.
    ///
    /// # Errors
    /// If a record of one cannot be read.
    pub fn key_changes(&self) -> Result<Vec<KeyChange>, ReadError> {
        let (mut changes, mut after) = (Vec::new(), 0);
        let kinds = [EventType::CheckpointKeyChanged.name().to_owned()];
        loop {
            let filter = EventFilter { kinds: &kinds, organization: None, from: None, until: None };
            let page = self.views().events(&filter, Cut::LATEST, Start::After(after), CHANGES);
            for row in &page.items {
                changes.extend(change(&self.record(row.seq)?));
                after = row.seq;
            }
            if !page.more_after {
                return Ok(changes);
            }
        }
    }

    /// Every change of the key so far, as the notary needs it. Blocks while it reads the log.
    ///
    /// # Errors
    /// If a record of one cannot be read.
    pub fn key_history(&self) -> Result<KeyHistory, ReadError> {
        let changes = self.key_changes()?.into_iter();
        let events: Vec<KeyEvent> = changes
            .map(|change| KeyEvent { size: change.seq, from: change.from, to: change.to })
            .collect();
        let root =
            events.last().map(|event| self.root(event.size)).transpose()?.unwrap_or_default();
        Ok(KeyHistory { events, root })
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
        let plan = move |_: &Engine, _: Millis| Ok(Some(Act::CheckpointKeyChanged { from, to }));
        self.act_blocking(operator, note, Box::new(plan))?.ok_or(ActError::Unavailable)
    }

    /// Makes a new key, records the change, and signs with it from then on. Blocks, and must not be
    /// broken off in between: where it is, the next start goes on. What comes back is the
    /// checkpoint that ends with the change, signed by both keys.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn change_checkpoint_key(
        &self,
        operator: Operator,
        note: Option<String>,
    ) -> Result<String, ChangeError> {
        let change = self.notary().ok_or(ChangeError::NoKey)?.change()?;
        match self.record_key_change(operator, change.from.clone(), change.to.clone(), note) {
            Ok(seq) => Ok(change.adopt(seq, self.root(seq)?)),
            Err(ActError::QueueFull) => {
                change.take_back();
                Err(ChangeError::Act(ActError::QueueFull))
            }
            // It may be in the log: the next start sees, and the file of the next key waits for it.
            Err(error) => Err(ChangeError::Act(error)),
        }
    }
}

/// What a record says about a change of the key. Nobody but an operator can say such a thing.
fn change(record: &Record) -> Option<KeyChange> {
    let Proof::Operator { key_id } = record.proof else { return None };
    let body: Value = serde_json::from_slice(&record.body).ok()?;
    let text = |name: &str| body.pointer(name).and_then(Value::as_str).map(str::to_owned);
    let (from, to) = (text("/data/from")?, text("/data/to")?);
    let by = (record.source == Source::Rollcall).then(|| key_name(key_id));
    Some(KeyChange {
        seq: record.seq,
        recorded_at: record.recorded_at,
        by,
        note: text("/data/note"),
        from,
        to,
    })
}
