//! Changes that are too large for one batch of the log. Their request and the changes of members
//! are appended first: they alone decide what SCIM shows. Their events follow in ordinary batches,
//! so that other directories' records come between. No other change of the directory does.
//!
//! A stop in the middle leaves a request whose events are not all there. A start finds it, decides
//! it again over the views before its record, and appends what is missing: the ids are a pure
//! function of the request, so that what is there already is a duplicate.

use std::collections::VecDeque;
use std::sync::Arc;

use rollcall_projections::{ScimId, Seq, Views};

use super::ScimError;
use super::plan::{Asked, Decision, Following, Plan, ScimMethod, decide};
use super::resource::Known;
use super::write::Batch;
use crate::engine::{Engine, fold_before};
use crate::json;
use crate::log::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, ReadError, Record};
use crate::scim::{Kind, Redacted};
use crate::time;
use crate::verify::{ScimCredential, Verified};

/// The bytes of a request's body from which on it may be alone in its batch.
const LARGE_BYTES: usize = 2 << 20;

/// The records of members from which on they may be more than one batch.
const MANY_RECORDS: u32 = 24;

/// A change of which some batches are not appended yet.
pub(super) struct Unfinished {
    request_id: String,
    credential: ScimCredential,
    /// The events of the batch that is being appended, and of those after it.
    waiting: VecDeque<Verified>,
    /// The number of the first of them that are being appended.
    in_flight: usize,
    following: Following,
}

impl Unfinished {
    pub(super) fn begin(
        request_id: String,
        credential: ScimCredential,
        records: Vec<Verified>,
        following: Following,
    ) -> Unfinished {
        Unfinished { request_id, credential, waiting: records.into(), in_flight: 0, following }
    }

    /// Returns the next batch; again the same one until it is appended; `None` after the last.
    pub(super) fn next_batch(
        &mut self,
        engine: &Engine,
    ) -> Result<Option<Vec<Verified>>, ScimError> {
        if self.waiting.is_empty() && self.following.len() > 0 {
            let mut batch = Batch::new(self.credential);
            let events = self.following.take(engine, BATCH_EVENTS_MAX)?;
            events.iter().for_each(|event| batch.push(event));
            self.waiting = batch.events.into();
        }
        let mut bytes = 0;
        let fitting = self.waiting.iter().take(BATCH_EVENTS_MAX).take_while(|event| {
            bytes += event.body().len();
            bytes <= BATCH_BYTES_MAX
        });
        self.in_flight = fitting.count().max(1).min(self.waiting.len());
        let batch: Vec<Verified> = self.waiting.iter().take(self.in_flight).cloned().collect();
        Ok((!batch.is_empty()).then_some(batch))
    }

    pub(super) fn batch_is_appended(&mut self) {
        self.waiting.drain(..self.in_flight);
        self.in_flight = 0;
    }

    /// Tells if its first record is in the log.
    pub(super) fn is_in_log(&self, engine: &Engine) -> Result<bool, ReadError> {
        Ok(engine.log.find(&self.request_id)?.is_some())
    }
}

/// A request after which something may be missing.
struct Suspect {
    directory: String,
    seq: Seq,
}

impl Engine {
    /// Finishes the changes that a stop broke off. What cannot be finished is tried again before the
    /// next change of its directory.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn finish_scim_changes(self: &Arc<Self>) -> Result<(), ReadError> {
        for Suspect { directory, seq } in self.suspects()? {
            let finished = self.finish_scim_change(&directory, seq);
            if let Err(error) = finished {
                tracing::error!(directory, seq, %error, "a change could not be finished");
            }
        }
        Ok(())
    }

    fn finish_scim_change(self: &Arc<Self>, directory: &str, seq: Seq) -> Result<(), ScimError> {
        let mut turn = self.scim_turn_now(directory)?;
        let Some(unfinished) = self.broken_off(directory, seq)? else { return Ok(()) };
        tracing::info!(directory, seq, "a change that a stop broke off is finished");
        turn.resume(unfinished)
    }

    /// Returns the last requests of directories after which something may be missing.
    fn suspects(&self) -> Result<Vec<Suspect>, ReadError> {
        let mut suspects = Vec::new();
        for (suspect, is_certain) in self.suspects_in_views() {
            if is_certain || self.is_large(suspect.seq)? {
                suspects.push(suspect);
            }
        }
        Ok(suspects)
    }

    /// Returns the last requests of directories after which something may be missing as far as the
    /// views know. With each comes false if it is a suspect only if it is large.
    fn suspects_in_views(&self) -> Vec<(Suspect, bool)> {
        let views = self.views();
        let scim = views.scim();
        let last = |(id, directory): (&str, &rollcall_projections::ScimDirectory)| {
            let (seq, records_after) = scim.last_request(id).filter(|_| directory.is_there())?;
            let owes_events = scim.owes_events(id);
            // Events come after all changes of members: with one of them, those are all there.
            let has_events = scim.events_of_request(scim.request(seq)?, 0).0 > 0;
            let is_certain = owes_events || records_after >= MANY_RECORDS;
            let suspect = Suspect { directory: id.to_owned(), seq };
            (owes_events || !has_events).then_some((suspect, is_certain))
        };
        scim.directories().filter_map(last).collect()
    }

    /// Tells if a request may have been alone in its batch.
    fn is_large(&self, seq: Seq) -> Result<bool, ReadError> {
        let bodies = self.log.bodies(&[seq])?;
        Ok(bodies.first().is_some_and(|body| body.len() >= LARGE_BYTES))
    }

    /// Decides the request in a record again, over the views before it.
    fn broken_off(&self, directory: &str, seq: Seq) -> Result<Option<Unfinished>, ScimError> {
        let record = self.record(seq)?;
        let Some(credential) = ScimCredential::of_record(&record.proof) else { return Ok(None) };
        let Some(asked) = asked_again(directory, &record) else { return Ok(None) };
        let before: Views = fold_before(&*self.log, seq)?;
        let known = Known { engine: self, before: Some(&before) };
        let Decision::Change(plan) = decide(known, &asked, None)? else { return Ok(None) };
        let Plan { records, following } = *plan;
        let mut batch = Batch::new(credential);
        // The request itself is there.
        records.iter().skip(1).for_each(|record| batch.push(record));
        Ok(Some(Unfinished::begin(asked.request_id, credential, batch.events, following)))
    }
}

/// Reads a command from its record.
fn asked_again(directory: &str, record: &Record) -> Option<Asked> {
    let text = std::str::from_utf8(&record.body).ok()?;
    let [id, created_at, data] = json::fields(text, ["id", "created_at", "data"])?;
    let names = ["token_id", "method", "user_agent", "body", "redacted", "resource"];
    let [token, method, user_agent, body, redacted, resource] = json::fields_of(data, names)?;
    let [kind, resource] = json::fields_of(resource, ["type", "id"])?;
    let places = redacted.and_then(|places| serde_json::from_str(places.get()).ok());
    let body = json::present(body)
        .map(|body| Redacted { body: body.get().to_owned(), places: places.unwrap_or_default() });
    Some(Asked {
        directory: directory.to_owned(),
        token: json::string(token)?.into_owned(),
        method: ScimMethod::parse(&json::string(method)?)?,
        kind: Kind::parse(&json::string(kind)?)?,
        id: ScimId::parse(&json::string(resource)?)?.to_string(),
        body,
        user_agent: json::string(user_agent)?.into_owned(),
        is_whole: true,
        request_id: json::string(id)?.into_owned(),
        occurred_at: time::parse(&json::string(created_at)?)?,
    })
}
