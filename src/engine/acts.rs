//! Operators' acts: the writer decides each one over all that is folded, and records it like any
//! event.

use rollcall_projections::{
    Attributes, Cut, InactiveUsers, Mapping, MappingSet, Millis, Policy, Seq, Sight,
};
use tokio::sync::oneshot;

use super::attributes::{all_snapshots, read_attributes};
use super::writer::{ActReply, Decision, Job, QueuedAct};
use super::{ActError, Engine, Prepared};
use crate::keys::Operator;
use crate::log::Outcome;
use crate::verify::{Act, Verified};

/// The condition on the mapping that is set now, under which an act may replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No condition.
    NoMatter,
    /// Some mapping is set.
    Exists,
    /// The latest version is this one; 0 means that none is set yet.
    Version(usize),
}

impl Expect {
    /// Returns true if the condition holds for the latest version of the mapping.
    fn holds_for(self, latest: usize) -> bool {
        match self {
            Expect::NoMatter => true,
            Expect::Exists => latest > 0,
            Expect::Version(version) => version == latest,
        }
    }
}

/// Refuses a moment of effect that is later than now.
///
/// # Errors
/// [`ActError::EffectiveFromInFuture`].
pub fn not_in_future(effective_from: Option<Millis>, now: Millis) -> Result<(), ActError> {
    if effective_from.is_some_and(|moment| moment > now) {
        Err(ActError::EffectiveFromInFuture)
    } else {
        Ok(())
    }
}

impl Engine {
    /// Sets how inactive users are treated, from `effective_from` or from now on. Answers once it
    /// is durable and folded.
    ///
    /// # Errors
    /// [`ActError`]; a moment in the future is refused.
    pub async fn set_policy(
        &self,
        operator: Operator,
        inactive_users: InactiveUsers,
        effective_from: Option<Millis>,
        note: Option<String>,
    ) -> Result<Policy, ActError> {
        let decide = move |_: &Engine, now: Millis| {
            not_in_future(effective_from, now)?;
            Ok(vec![Act::PolicySet { inactive_users, effective_from }])
        };
        let seq = self.act(operator, note, Box::new(decide)).await?.ok_or(ActError::Unavailable)?;
        self.views().policy_set_by(seq).ok_or(ActError::Unavailable)
    }

    /// Deletes a directory: its users, groups and memberships end. Returns `None` if it is deleted
    /// already. The source is not called.
    ///
    /// # Errors
    /// [`ActError`]; a directory that nothing ever named, or that is not seen, is unknown.
    pub async fn delete_directory(
        &self,
        operator: Operator,
        sight: Sight,
        id: String,
    ) -> Result<Option<Seq>, ActError> {
        let decide = move |engine: &Engine, _: Millis| engine.decide_deletion(&sight, id);
        self.act(operator, None, Box::new(decide)).await
    }

    /// Decides the deletion of a directory; none if it is deleted already.
    fn decide_deletion(&self, sight: &Sight, id: String) -> Result<Vec<Act>, ActError> {
        let (last_at, is_there) = {
            let views = self.views();
            let views = views.seen_by(sight);
            if !views.knows_directory(&id) {
                return Err(ActError::UnknownDirectory);
            }
            let is_there = views.directory(&id, Cut::LATEST).is_some();
            (views.directory_last_event_at(&id), is_there)
        };
        if !is_there {
            return Ok(Vec::new());
        }
        // Its own events may be dated ahead of our clock.
        let not_before = last_at.map_or(Millis::MIN, |moment| moment.saturating_add(1));
        let (not_before, told) = self.end_of_hosted(&id, not_before)?;
        Ok([Act::DirectoryDeleted { id, not_before }].into_iter().chain(told).collect())
    }

    /// Sets a role mapping, from `effective_from` or from now on: records it and installs the
    /// prepared index, in one step.
    ///
    /// # Errors
    /// [`ActError`].
    pub async fn set_mapping(
        &self,
        operator: Operator,
        mapping: Mapping,
        prepared: Prepared,
        expect: Expect,
        effective_from: Option<Millis>,
        note: Option<String>,
    ) -> Result<MappingSet, ActError> {
        let decide = move |engine: &Engine, now: Millis| {
            not_in_future(effective_from, now)?;
            if !expect.holds_for(engine.views().mapping_versions()) {
                return Err(ActError::VersionConflict);
            }
            engine.install(prepared, &mapping)?;
            Ok(vec![Act::MappingSet { mapping, effective_from }])
        };
        let seq = self.act(operator, note, Box::new(decide)).await?.ok_or(ActError::Unavailable)?;
        self.views().mapping_set_by(seq).ok_or(ActError::Unavailable)
    }

    /// Brings the prepared indexes up to the head and lets them serve. No answer changes, because
    /// the mapping is not folded yet.
    fn install(&self, prepared: Prepared, mapping: &Mapping) -> Result<(), ActError> {
        let Prepared { attributes, until, matches } = prepared;
        let attributes = attributes.map(|mut attributes| {
            let head = self.views().head();
            let since = all_snapshots(|| self.views(), until, head);
            let read = read_attributes(&*self.log, &mut attributes, &since, &|| true);
            read.map(|_| attributes)
        });
        let attributes = attributes.transpose().map_err(|error| {
            tracing::error!(%error, "the log could not be read");
            ActError::Unavailable
        })?;
        let asked = Attributes::of([mapping]);
        let mut views = self.views.write();
        let serving = views.attributes();
        // Another mapping may have been set meanwhile.
        let covers_all = attributes.as_ref().is_none_or(|attributes| attributes.covers(serving));
        if !covers_all || !attributes.as_ref().unwrap_or(serving).covers(&asked) {
            return Err(ActError::Overtaken);
        }
        if let Some(attributes) = attributes {
            views.install_attributes(attributes);
        }
        views.expect_mapping(mapping.clone(), matches);
        Ok(())
    }

    async fn act(
        &self,
        operator: Operator,
        note: Option<String>,
        decision: Decision,
    ) -> Result<Option<Seq>, ActError> {
        Ok(self.acts(operator, note, decision).await?.first().copied())
    }

    /// Does several acts in one step. Answers once they are durable and folded, with the seqs of
    /// their records in the same order.
    pub(super) async fn acts(
        &self,
        operator: Operator,
        note: Option<String>,
        decision: Decision,
    ) -> Result<Vec<Seq>, ActError> {
        self.enqueue_act(operator, note, decision)?.await.unwrap_or(Err(ActError::Unavailable))
    }

    /// Does an act and blocks until it is durable and folded.
    pub(super) fn act_blocking(
        &self,
        operator: Operator,
        note: Option<String>,
        decision: Decision,
    ) -> Result<Option<Seq>, ActError> {
        let done = self.enqueue_act(operator, note, decision)?.blocking_recv();
        Ok(done.unwrap_or(Err(ActError::Unavailable))?.first().copied())
    }

    fn enqueue_act(
        &self,
        operator: Operator,
        note: Option<String>,
        decision: Decision,
    ) -> Result<ActReply, ActError> {
        if self.refuses_events() {
            return Err(ActError::Unavailable);
        }
        let (reply, answer) = oneshot::channel();
        self.enqueue(Job::Act(Box::new(QueuedAct { operator, note, decision, reply })))?;
        Ok(answer)
    }

    /// Decides acts and records them; runs on the writer's thread.
    pub(super) fn perform(&self, action: QueuedAct) {
        let QueuedAct { operator, note, decision, reply } = action;
        let _acting = self.acting.lock();
        let mut refused = None;
        let outcomes = self.record_now(|now| {
            let events = decision(self, now).and_then(|acts| {
                let written = |act: &Act| written(&operator, act, note.as_deref(), now);
                acts.iter().map(written).collect()
            });
            events.unwrap_or_else(|error| {
                refused = Some(error);
                Vec::new()
            })
        });
        let done = match (refused, outcomes) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(error.into()),
            (None, Ok(outcomes)) => Ok(outcomes.into_iter().map(outcome_seq).collect()),
        };
        let _ = reply.send(done);
    }
}

fn written(
    operator: &Operator,
    act: &Act,
    note: Option<&str>,
    now: Millis,
) -> Result<Verified, ActError> {
    Verified::operator(operator, act, note, now).map_err(|_| ActError::Unavailable)
}

/// Returns the record of an outcome.
pub(super) fn outcome_seq(outcome: Outcome) -> Seq {
    match outcome {
        Outcome::New(seq) | Outcome::Duplicate { seq, .. } | Outcome::Conflict { seq, .. } => seq,
    }
}
