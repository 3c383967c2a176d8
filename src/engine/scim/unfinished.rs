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

/// The most bytes of a record of members, but for what a request writes of them: names, and ids in
/// another form.
const MEMBERS_BYTES_MAX: usize = 430_000;

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

/// What an earlier change of a directory left to be appended.
pub(super) enum Rest {
    /// The batches of a change.
    Batches(Box<Unfinished>),
    /// That of the request in this record, which could not be decided again.
    OfRequest(Seq),
}

/// The last request of a directory, after which something may be missing.
struct Suspect {
    directory: String,
    seq: Seq,
    /// True if membership events of it are missing.
    owes_events: bool,
    /// The number of the directory's records after it.
    records_after: u32,
}

/// Returns true if a request and its records of members may be more than one batch, so that a stop
/// between two of them is possible: as many bytes as are there, and one record more.
fn may_be_in_parts(request_bytes: usize, records_after: u32) -> bool {
    let members = (records_after as usize + 1).saturating_mul(MEMBERS_BYTES_MAX);
    // What the request writes is in its own record, in the records that are there, and in the next.
    request_bytes.saturating_mul(3).saturating_add(members) > BATCH_BYTES_MAX
}

impl Engine {
    /// Finishes the changes that a stop broke off. What cannot be finished is tried again before the
    /// next change of its directory.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn finish_scim_changes(self: &Arc<Self>) -> Result<(), ReadError> {
        for Suspect { directory, seq, .. } in self.suspects()? {
            let finished = self.finish_scim_change(&directory, seq);
            if let Err(error) = finished {
                tracing::error!(directory, seq, %error, "a change could not be finished");
            }
        }
        Ok(())
    }

    fn finish_scim_change(self: &Arc<Self>, directory: &str, seq: Seq) -> Result<(), ScimError> {
        let mut turn = self.scim_turn_now(directory)?;
        turn.left(Rest::OfRequest(seq));
        turn.finish()
    }

    /// Returns the last requests of directories after which something may be missing.
    fn suspects(&self) -> Result<Vec<Suspect>, ReadError> {
        let mut suspects = Vec::new();
        for suspect in self.suspects_in_views() {
            let is_suspect = suspect.owes_events || {
                let bodies = self.log.bodies(&[suspect.seq])?;
                let bytes = bodies.first().map_or(0, |body| body.len());
                may_be_in_parts(bytes, suspect.records_after)
            };
            if is_suspect {
                suspects.push(suspect);
            }
        }
        Ok(suspects)
    }

    /// Returns the last requests of directories after which something may be missing as far as the
    /// views know.
    fn suspects_in_views(&self) -> Vec<Suspect> {
        let views = self.views();
        let scim = views.scim();
        let last = |(id, directory): (&str, &rollcall_projections::ScimDirectory)| {
            let (seq, records_after) = scim.last_request(id).filter(|_| directory.is_there())?;
            let owes_events = scim.owes_events(id);
            // Events come after all changes of members: with one of them, those are all there.
            let has_events = scim.events_of_request(scim.request(seq)?, 0).0 > 0;
            let suspect = Suspect { directory: id.to_owned(), seq, owes_events, records_after };
            (owes_events || !has_events).then_some(suspect)
        };
        scim.directories().filter_map(last).collect()
    }

    /// Decides the request in a record again, over the views before it. `None` if nothing is to be
    /// appended after it.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(super) fn broken_off(
        &self,
        directory: &str,
        seq: Seq,
    ) -> Result<Option<Unfinished>, ReadError> {
        let record = self.record(seq)?;
        let Some(credential) = ScimCredential::of_record(&record.proof) else { return Ok(None) };
        let Some(asked) = asked_again(directory, &record) else { return Ok(None) };
        let before: Views = fold_before(&*self.log, seq)?;
        let known = Known::before(self, &before);
        let plan = match decide(known, &asked, None) {
            Ok(Decision::Change(plan)) => plan,
            Ok(Decision::Unchanged(_)) => return Ok(None),
            Err(ScimError::Read(error)) => return Err(error),
            Err(error) => {
                // Another version of the program may have taken what this one refuses.
                tracing::error!(directory, seq, %error, "a change cannot be decided again");
                return Ok(None);
            }
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scim::{ScimCaller, ScimCommand, ScimDone, ScimShowing};
    use crate::engine::{NewDirectory, NewToken};
    use crate::keys::ApiKeys;
    use crate::log::{History, MemoryLog};
    use crate::scim::Projection;
    use bytes::Bytes;
    use rollcall_projections::{Deactivation, Sight};
    use serde_json::{Value, json};

    fn start(log: Arc<MemoryLog>) -> Arc<Engine> {
        Engine::start(log, 1 << 20, crate::time::now_ms, |_| {}).unwrap()
    }

    /// Creates a directory, and returns the holder of its token.
    fn create_directory(engine: &Engine) -> ScimCaller {
        let operator = ApiKeys::unrestricted(["sk_test"]).identify("sk_test").unwrap();
        let new = NewDirectory {
            name: "Acme".to_owned(),
            organization: "org_a".to_owned(),
            directory_type: "generic scim v2.0".to_owned(),
            deactivation: Deactivation::Delete,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let made = engine.create_directory(operator, Sight::All, new, None);
        let NewToken { directory, token, .. } = runtime.block_on(made).unwrap();
        engine.scim_caller(&directory, &token).unwrap()
    }

    /// Carries a command out. Returns the id of its resource.
    fn send(
        engine: &Arc<Engine>,
        caller: &ScimCaller,
        (method, kind, id): (ScimMethod, Kind, Option<&str>),
        body: &Value,
    ) -> String {
        let command = ScimCommand {
            caller: caller.clone(),
            method,
            kind,
            id: id.map(str::to_owned),
            body: body.to_string().into(),
            user_agent: "a test".to_owned(),
            expected: None,
        };
        let showing = ScimShowing { base: String::new(), projection: Projection::default() };
        let turn = engine.scim_turn_now(&caller.directory).unwrap();
        let (ScimDone::Created(shown) | ScimDone::Shown(shown)) =
            turn.carry_out(command, &showing).unwrap()
        else {
            panic!("nothing is shown")
        };
        shown.location.rsplit('/').next().unwrap().to_owned()
    }

    /// Copies the first records of a log, as a kill leaves them.
    fn cut_off(log: &MemoryLog, head: Seq) -> Arc<MemoryLog> {
        let cut = MemoryLog::new([7; 16]);
        for record in log.read(0, head as usize, usize::MAX).unwrap() {
            let event = Verified::recorded(
                record.source,
                record.proof,
                record.event_id.unwrap_or_default(),
                record.event_type.unwrap_or_default(),
                record.unusable_at_first,
                record.body,
            );
            crate::log::Log::append(&cut, vec![event], record.recorded_at).unwrap();
        }
        Arc::new(cut)
    }

    fn bodies_after(log: &MemoryLog, seq: Seq) -> Vec<Bytes> {
        let records = log.read(seq, 100, usize::MAX).unwrap();
        records.into_iter().map(|record| record.body).collect()
    }

    /// Returns the bodies of all batches.
    fn batches(engine: &Engine, mut unfinished: Unfinished) -> Vec<Bytes> {
        let mut bodies = Vec::new();
        while let Some(batch) = unfinished.next_batch(engine).unwrap() {
            bodies.extend(batch.iter().map(|event| event.body().clone()));
            unfinished.batch_is_appended();
        }
        bodies
    }

    #[test]
    fn a_removal_by_a_filter_that_was_cut_off_anywhere_is_decided_as_it_was() {
        let log = Arc::new(MemoryLog::new([7; 16]));
        let engine = start(log.clone());
        let caller = create_directory(&engine);
        let members: Vec<Value> = (0..4)
            .map(|number| {
                let user = json!({ "userName": format!("u{number}") });
                let id = send(&engine, &caller, (ScimMethod::Create, Kind::User, None), &user);
                json!({ "value": id, "display": if number % 2 == 0 { "Goes" } else { "Stays" } })
            })
            .collect();
        let group = json!({ "displayName": "g", "members": members });
        let group = send(&engine, &caller, (ScimMethod::Create, Kind::Group, None), &group);
        let before = log.head();
        let operations = json!([
            { "op": "replace", "path": "displayName", "value": "h" },
            { "op": "remove", "path": "members[display eq \"goes\"]" },
        ]);
        let body = json!({ "Operations": operations });
        send(&engine, &caller, (ScimMethod::Patch, Kind::Group, Some(&group)), &body);
        engine.close();
        let records = log.read(before, 100, usize::MAX).unwrap();
        let types: Vec<&str> =
            records.iter().filter_map(|record| record.event_type.as_deref()).collect();
        let expected = [
            "rollcall.scim.request",
            "rollcall.scim.members",
            "dsync.group.updated",
            "dsync.group.user_removed",
            "dsync.group.user_removed",
        ];
        assert_eq!(types, expected);
        let whole = bodies_after(&log, before);
        for there in 1..=whole.len() {
            let cut = cut_off(&log, before + there as Seq);
            let engine = start(cut.clone());
            let unfinished = engine.broken_off(&caller.directory, before + 1).unwrap().unwrap();
            assert_eq!(batches(&engine, unfinished), whole[1..], "{there} records are there");
            engine.finish_scim_change(&caller.directory, before + 1).unwrap();
            engine.close();
            assert_eq!(bodies_after(&cut, before), whole, "{there} records were there");
        }
    }

    #[test]
    fn a_request_is_suspected_if_its_records_may_not_fit_into_one_batch() {
        for (request_bytes, records_after, expected) in [
            (1_000, 0, false),
            // Three times the request and one record of members: 3.43 MB of 4.19, and 4.33.
            (1_000_000, 0, false),
            (1_300_000, 0, true),
            (5_000_000, 0, true),
            // Nine records of members take 3.87 MB, and ten 4.3.
            (1_000, 8, false),
            (1_000, 9, true),
            (500_000, 6, true),
        ] {
            let found = may_be_in_parts(request_bytes, records_after);
            assert_eq!(found, expected, "{request_bytes} bytes, {records_after} records");
        }
    }
}
