//! Observations: the writer decides each one over all that is folded, as it decides acts, and
//! records those that change something.

use std::collections::HashSet;

use rollcall_projections::{Finding, Millis, ObservedThing, Seq, Verdict};
use serde_json::Value;
use tokio::sync::oneshot;

use super::acts::outcome_seq;
use super::writer::Job;
use super::{Engine, IngestError};
use crate::log::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX};
use crate::verify::{Facts, Observation, Observed, Origin, Statement, Verified};
use crate::{json, time};

/// The member of the source's objects that is left out: memberships are observed on their own.
const GROUPS: &str = "groups";

/// The largest object that is recorded, and the most levels of objects and arrays in it. The rest
/// of a record adds a few hundred bytes and two levels.
const OBJECT_BYTES_MAX: usize = 8 << 20;
const OBJECT_LEVELS_MAX: usize = 126;

/// An answer of the source that differs from what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The answer, with the source's object as it was sent.
    pub observation: Observation,
    /// The record that described the thing when it was compared, if it was there. Of a membership
    /// it is not looked at.
    pub compared_with: Option<Seq>,
}

/// The writer's decision on one observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservationOutcome {
    /// It is durable and folded, as this record.
    Recorded(Seq),
    /// It would change nothing.
    Unchanged,
    /// Something about the thing, at or after the moment of the question, is known, or it was
    /// described anew since it was compared.
    NewerEvent,
    /// It is a membership of a user who is not there.
    UnknownUser,
    /// An operator deleted its directory here.
    DeletedHere,
    /// The object cannot be recorded: it is not a JSON object, too large, too deep, or describes
    /// something else.
    Unusable,
}

/// Observations in the queue of the writer, or the end of their reconciliation.
pub(super) struct QueuedObservations {
    origin: Origin,
    work: ObservationWork,
    reply: oneshot::Sender<Decided>,
}

/// The decisions of the writer on some observations.
type Decided = Result<Vec<ObservationOutcome>, IngestError>;

/// The outcomes of observations that the writer has not decided yet.
#[derive(Debug)]
#[must_use]
pub struct AwaitedOutcomes {
    steps: Vec<oneshot::Receiver<Decided>>,
}

impl AwaitedOutcomes {
    /// Blocks until all are durable and folded.
    ///
    /// # Errors
    /// [`IngestError::Unavailable`] if events are refused. Some may be recorded then; deciding them
    /// again records nothing twice.
    pub fn wait(self) -> Result<Vec<ObservationOutcome>, IngestError> {
        let mut outcomes = Vec::new();
        for step in self.steps {
            outcomes.extend(step.blocking_recv().unwrap_or(Err(IngestError::Unavailable))?);
        }
        Ok(outcomes)
    }
}

enum ObservationWork {
    Decide(Vec<Discovery>),
    End { run: String, started_at: Millis, data: Value },
}

impl Engine {
    /// Has the writer decide some observations in their order and record those that change
    /// something. Blocks while the writer's queue is full. Directories come before what is in them,
    /// and users and groups before their memberships.
    ///
    /// # Errors
    /// [`IngestError::Unavailable`] while events are refused. Some may be recorded then; deciding
    /// them again records nothing twice.
    pub fn begin_to_observe(
        &self,
        origin: &Origin,
        mut discoveries: Vec<Discovery>,
    ) -> Result<AwaitedOutcomes, IngestError> {
        let mut steps = Vec::new();
        while !discoveries.is_empty() {
            let rest = discoveries.split_off(discoveries.len().min(BATCH_EVENTS_MAX));
            let work = ObservationWork::Decide(core::mem::replace(&mut discoveries, rest));
            steps.push(self.queue_observations(origin, work)?);
        }
        Ok(AwaitedOutcomes { steps })
    }

    /// Records the end of the reconciliation `run`, which began at `started_at`. `data` are the
    /// fields of its data; `started_at` is added to them. Blocks until it is durable and folded.
    ///
    /// # Errors
    /// [`IngestError::Unavailable`] while events are refused.
    pub fn end_reconciliation(
        &self,
        origin: &Origin,
        run: &str,
        started_at: Millis,
        mut data: Value,
    ) -> Result<Seq, IngestError> {
        if let Value::Object(fields) = &mut data {
            fields.insert("started_at".into(), time::format(started_at).into());
        }
        let work = ObservationWork::End { run: run.into(), started_at, data };
        let steps = vec![self.queue_observations(origin, work)?];
        let awaited = AwaitedOutcomes { steps };
        match awaited.wait()?.first() {
            Some(ObservationOutcome::Recorded(seq)) => Ok(*seq),
            _ => Err(IngestError::Unavailable),
        }
    }

    fn queue_observations(
        &self,
        origin: &Origin,
        work: ObservationWork,
    ) -> Result<oneshot::Receiver<Decided>, IngestError> {
        if self.refuses_events() {
            return Err(IngestError::Unavailable);
        }
        let (reply, answer) = oneshot::channel();
        let queued = QueuedObservations { origin: origin.clone(), work, reply };
        self.enqueue_when_free(Job::Observe(Box::new(queued)))?;
        Ok(answer)
    }

    /// Decides queued observations; runs on the writer's thread.
    pub(super) fn decide_observations(&self, queued: QueuedObservations) {
        let QueuedObservations { origin, work, reply } = queued;
        let done = match work {
            ObservationWork::Decide(discoveries) => self.decide_in_steps(&origin, discoveries),
            ObservationWork::End { run, started_at, data } => self
                .record_now(|now| vec![Verified::reconciled(&origin, &run, started_at, &data, now)])
                .map(|outcomes| outcomes.into_iter().map(recorded).collect()),
        };
        let _ = reply.send(done);
    }

    fn decide_in_steps(
        &self,
        origin: &Origin,
        discoveries: Vec<Discovery>,
    ) -> Result<Vec<ObservationOutcome>, IngestError> {
        let mut outcomes = Vec::with_capacity(discoveries.len());
        let mut rest = discoveries.as_slice();
        while !rest.is_empty() {
            let (step, later) = rest.split_at(step_len(rest));
            outcomes.extend(self.decide_step(origin, step)?);
            rest = later;
        }
        Ok(outcomes)
    }

    /// Decides observations of one kind of different things, of which none depends on another, and
    /// records them in one commit.
    fn decide_step(
        &self,
        origin: &Origin,
        step: &[Discovery],
    ) -> Result<Vec<ObservationOutcome>, IngestError> {
        let mut decided = Vec::with_capacity(step.len());
        let appended = self.record_now(|now| {
            let verdicts = self.judge(step);
            let mut events = Vec::with_capacity(step.len());
            for (discovery, verdict) in step.iter().zip(verdicts) {
                let (outcome, event) = written(origin, &discovery.observation, verdict, now);
                decided.push(outcome);
                events.extend(event);
            }
            events
        })?;
        let mut seqs = appended.into_iter().map(recorded);
        // Of those that are written the outcome is that of the log.
        Ok(decided.into_iter().filter_map(|outcome| outcome.or_else(|| seqs.next())).collect())
    }

    fn judge(&self, step: &[Discovery]) -> Vec<Verdict> {
        let views = self.views();
        let judge = |discovery: &Discovery| views.judge_finding(&finding(discovery));
        step.iter().map(judge).collect()
    }
}

fn recorded(outcome: crate::log::Outcome) -> ObservationOutcome {
    ObservationOutcome::Recorded(outcome_seq(outcome))
}

/// Returns the number of the next observations that are decided together: of one kind, of
/// different things, and with no more bytes than one batch may have.
fn step_len(rest: &[Discovery]) -> usize {
    let kind = rest.first().map(|first| first.observation.observed.event_type());
    let (mut things, mut bytes) = (HashSet::new(), 0);
    let fitting = rest.iter().take(BATCH_EVENTS_MAX).take_while(|discovery| {
        let observed = &discovery.observation.observed;
        // About the bytes of the rest of a record.
        bytes += 2048 + object_of(observed).map_or(0, str::len);
        Some(observed.event_type()) == kind
            && things.insert(named(observed))
            && (things.len() == 1 || bytes <= BATCH_BYTES_MAX)
    });
    fitting.count().max(1)
}

/// Returns the ids that tell a thing from others of its kind.
fn named(observed: &Observed) -> (&str, &str) {
    match observed {
        Observed::Directory { id, .. } | Observed::User { id, .. } | Observed::Group { id, .. } => {
            (id, "")
        }
        Observed::Membership { user, group, .. } => (user, group),
    }
}

fn object_of(observed: &Observed) -> Option<&str> {
    match observed {
        Observed::Directory { object, .. }
        | Observed::User { object, .. }
        | Observed::Group { object, .. } => object.as_deref(),
        Observed::Membership { .. } => None,
    }
}

/// Returns a discovery in the form in which the views judge it.
fn finding(discovery: &Discovery) -> Finding<'_> {
    let Observation { observed, observed_at, .. } = &discovery.observation;
    let thing = match observed {
        Observed::Directory { id, .. } => ObservedThing::Directory(id),
        Observed::User { id, directory, .. } => ObservedThing::User(id, directory),
        Observed::Group { id, directory, .. } => ObservedThing::Group(id, directory),
        Observed::Membership { user, group, directory, .. } => {
            ObservedThing::Membership(user, group, directory)
        }
    };
    let updated_at = object_of(observed)
        .and_then(|object| json::present_fields(object, ["updated_at"]))
        .and_then(|[updated_at]| json::string(updated_at))
        .and_then(|text| time::parse(&text));
    Finding {
        thing,
        present: observed.is_present(),
        updated_at,
        observed_at: *observed_at,
        compared_with: discovery.compared_with,
    }
}

/// Writes an observation that is to be recorded. Returns the outcome of one that is not, or the
/// event of one that is.
fn written(
    origin: &Origin,
    observation: &Observation,
    verdict: Verdict,
    now: Millis,
) -> (Option<ObservationOutcome>, Option<Verified>) {
    let effective_at = match verdict {
        Verdict::Occurs(effective_at) => effective_at,
        Verdict::Unchanged => return (Some(ObservationOutcome::Unchanged), None),
        Verdict::Newer => return (Some(ObservationOutcome::NewerEvent), None),
        Verdict::DeletedHere => return (Some(ObservationOutcome::DeletedHere), None),
        Verdict::UnknownUser => return (Some(ObservationOutcome::UnknownUser), None),
    };
    let event = stripped(observation)
        .and_then(|observation| Verified::observed(origin, &observation, effective_at, now).ok())
        .filter(|event| is_usable(event, observation));
    match event {
        Some(event) => (None, Some(event)),
        None => (Some(ObservationOutcome::Unusable), None),
    }
}

/// Returns an observation without the groups in its object; `None` if the object cannot be
/// recorded.
fn stripped(observation: &Observation) -> Option<Observation> {
    let mut observation = observation.clone();
    let object = match &mut observation.observed {
        Observed::Directory { object, .. }
        | Observed::User { object, .. }
        | Observed::Group { object, .. } => object,
        Observed::Membership { .. } => return Some(observation),
    };
    if let Some(text) = object {
        if text.len() > OBJECT_BYTES_MAX || json::is_deeper(text.as_bytes(), OBJECT_LEVELS_MAX) {
            return None;
        }
        *text = json::without(text, GROUPS)?;
    }
    Some(observation)
}

/// Tells if the facts of an observation are those of the thing about which the source was asked.
fn is_usable(event: &Verified, observation: &Observation) -> bool {
    let facts = Facts::decode(event.facts());
    facts.is_some_and(|facts| match (&facts.statement, &observation.observed) {
        (Statement::Directory { id: stated, .. }, Observed::Directory { id, .. }) => stated == id,
        (Statement::User { user, .. }, Observed::User { id, .. }) => user.id == *id,
        (Statement::Group { group, .. }, Observed::Group { id, .. }) => group.id == *id,
        (Statement::ObservedMembership { .. }, Observed::Membership { .. }) => true,
        _ => false,
    })
}
