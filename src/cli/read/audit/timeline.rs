//! The timeline of a user: versions, access, groups and roles, which the API lists one by one, in
//! one chronological order.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use rollcall_projections::{EventEffect, EventType};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::super::Failure;
use super::super::objects::{ChangedField, EventCause, NamedGroup, between_ms, parse};
use super::super::print::one_line;

/// A field with a missed update, and its two values in JSON as they were written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MissedField {
    pub(super) name: String,
    /// The value that was known here.
    pub(super) known: String,
    /// The earlier value according to the event.
    pub(super) said: String,
}

/// One thing that an event changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UserChange {
    /// The user's own fields changed.
    Version {
        /// `created`, `updated`, `deleted`, or `snapshot` for an event of something else that
        /// describes the user.
        change: String,
        changed: Vec<ChangedField>,
        missed: Vec<MissedField>,
    },
    AccessBegan,
    AccessEnded {
        reason: String,
        /// The last time at which the source showed the user, if the end was observed.
        last_seen: Option<String>,
    },
    Joined(NamedGroup),
    Left(NamedGroup),
    RoleGained(String),
    RoleLost(String),
}

/// All that one event changed at one moment. The moment may be before the event, since a mapping
/// can be set for the past.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at: String,
    pub(super) cause: EventCause,
    /// The milliseconds from the first record of a later step to the record of this one; `None` if
    /// no later step was recorded earlier.
    pub(super) overtaken_ms: Option<i64>,
    /// The word for how the record came, if it is in the history of the user.
    pub(super) proof: Option<String>,
    pub(super) changes: Vec<UserChange>,
}

impl Step {
    /// Returns true if the event happened at another moment than the one that it changes.
    pub(super) fn is_for_the_past(&self) -> bool {
        self.at != self.cause.occurred_at
    }

    /// Returns the milliseconds from the moment of the step to its record; negative if the source's
    /// clock is ahead.
    pub(super) fn delay_ms(&self) -> i64 {
        between_ms(&self.at, &self.cause.recorded_at)
    }
}

/// The lists of the API about one user, each object as it came.
#[derive(Default)]
pub(super) struct UserLists {
    pub(super) history: Vec<Box<RawValue>>,
    pub(super) access: Vec<Box<RawValue>>,
    pub(super) groups: Vec<Box<RawValue>>,
    pub(super) roles: Vec<Box<RawValue>>,
}

/// A period in which a user had access.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ApiAccess {
    pub(super) from: String,
    pub(super) until: Option<String>,
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) not_before: Option<String>,
    pub(super) start: EventCause,
    pub(super) end: Option<EventCause>,
}

#[derive(Deserialize)]
struct ApiVersion<'a> {
    change: String,
    #[serde(borrow)]
    changed: BTreeMap<String, ApiChanged<'a>>,
    #[serde(borrow)]
    missed: Option<BTreeMap<String, ApiMissed<'a>>>,
    proof: Option<String>,
    cause: EventCause,
}

#[derive(Deserialize)]
struct ApiChanged<'a> {
    #[serde(borrow)]
    from: &'a RawValue,
    #[serde(borrow)]
    to: &'a RawValue,
}

#[derive(Deserialize)]
struct ApiMissed<'a> {
    #[serde(borrow)]
    known: &'a RawValue,
    #[serde(borrow)]
    said: &'a RawValue,
}

#[derive(Deserialize)]
struct ApiMembership {
    group_id: String,
    group_name: String,
    from: String,
    until: Option<String>,
    start: EventCause,
    end: Option<EventCause>,
}

#[derive(Deserialize)]
struct ApiRole {
    role: String,
    from: String,
    until: Option<String>,
    start: EventCause,
    end: Option<EventCause>,
}

/// A change with its moment and its event.
struct DatedChange {
    at: String,
    cause: EventCause,
    change: UserChange,
}

/// The changes of a user, not yet in order.
#[derive(Default)]
struct DatedChanges(Vec<DatedChange>);

impl DatedChanges {
    fn add(&mut self, at: String, cause: EventCause, change: UserChange) {
        self.0.push(DatedChange { at, cause, change });
    }

    /// Adds the end of a period, if it ended.
    fn add_end(&mut self, until: Option<String>, end: Option<EventCause>, change: UserChange) {
        if let (Some(until), Some(end)) = (until, end) {
            self.add(until, end, change);
        }
    }

    fn add_access(&mut self, access: ApiAccess) {
        let ApiAccess { from, until, reason, not_before: last_seen, start, end, .. } = access;
        self.add(from, start, UserChange::AccessBegan);
        let reason = reason.unwrap_or_default();
        self.add_end(until, end, UserChange::AccessEnded { reason, last_seen });
    }

    fn add_membership(&mut self, membership: ApiMembership) {
        let ApiMembership { group_id: id, group_name: name, from, until, start, end } = membership;
        let group = NamedGroup { id, name };
        self.add(from, start, UserChange::Joined(group.clone()));
        self.add_end(until, end, UserChange::Left(group));
    }

    fn add_role(&mut self, role: ApiRole) {
        let ApiRole { role, from, until, start, end } = role;
        self.add(from, start, UserChange::RoleGained(role.clone()));
        self.add_end(until, end, UserChange::RoleLost(role));
    }

    fn add_version(&mut self, version: ApiVersion<'_>) {
        let ApiVersion { change, changed, missed, cause, .. } = version;
        let changed = changed
            .into_iter()
            .map(|(name, ApiChanged { from, to })| ChangedField {
                name,
                from: written(from),
                to: written(to),
            })
            .collect();
        let missed = missed
            .into_iter()
            .flatten()
            .map(|(name, ApiMissed { known, said })| MissedField {
                name,
                known: written(known),
                said: written(said),
            })
            .collect();
        let change = UserChange::Version { change, changed, missed };
        self.add(cause.occurred_at.clone(), cause, change);
    }
}

fn written(value: &RawValue) -> String {
    one_line(value.get()).into_owned()
}

impl UserLists {
    /// Returns the periods of access, by their beginning.
    ///
    /// # Errors
    /// Ours, if the server sent something else.
    pub(super) fn access_periods(&self) -> Result<Vec<ApiAccess>, Failure> {
        self.access.iter().map(|object| parse(object)).collect()
    }

    /// Returns the steps in chronological order.
    ///
    /// # Errors
    /// Ours, if the server sent something else.
    pub(super) fn steps(&self) -> Result<Vec<Step>, Failure> {
        let mut all = DatedChanges::default();
        // Only the history knows the order of events of the same millisecond.
        let mut places: BTreeMap<u64, usize> = BTreeMap::new();
        let mut proofs: BTreeMap<u64, String> = BTreeMap::new();
        for object in &self.history {
            let mut version: ApiVersion<'_> = parse(object)?;
            places.insert(version.cause.seq, places.len());
            proofs.extend(version.proof.take().map(|proof| (version.cause.seq, proof)));
            all.add_version(version);
        }
        self.access_periods()?.into_iter().for_each(|access| all.add_access(access));
        for object in &self.groups {
            all.add_membership(parse(object)?);
        }
        for object in &self.roles {
            all.add_role(parse(object)?);
        }
        let mut steps = in_order(all.0, &places);
        for step in &mut steps {
            step.proof = proofs.get(&step.cause.seq).cloned();
        }
        Ok(steps)
    }
}

/// Sorts the changes, and groups them into steps. `places` has the order of the history by seq.
/// Among events of one millisecond those that end something come last.
fn in_order(mut all: Vec<DatedChange>, places: &BTreeMap<u64, usize>) -> Vec<Step> {
    // Moments with milliseconds and Z sort as texts.
    all.sort_by_cached_key(|DatedChange { at, cause, change }| {
        (
            at.clone(),
            cause.occurred_at.clone(),
            cause.event_type().map(EventType::effect) == Some(EventEffect::Ends),
            places.get(&cause.seq).copied().unwrap_or(usize::MAX),
            cause.seq,
            rank(change),
        )
    });
    let mut steps: Vec<Step> = Vec::new();
    for DatedChange { at, cause, change } in all {
        match steps.last_mut().filter(|step| step.at == at && step.cause.seq == cause.seq) {
            Some(step) => step.changes.push(change),
            None => {
                let changes = vec![change];
                steps.push(Step { at, cause, overtaken_ms: None, proof: None, changes });
            }
        }
    }
    mark_overtaken(&mut steps);
    steps
}

/// Sets `overtaken_ms` of every step. Events for the past overtake nothing.
fn mark_overtaken(steps: &mut [Step]) {
    let mut earliest: Option<(u64, String)> = None;
    for step in steps.iter_mut().rev().filter(|step| !step.is_for_the_past()) {
        match &earliest {
            Some((seq, recorded_at)) if *seq < step.cause.seq => {
                step.overtaken_ms = Some(between_ms(recorded_at, &step.cause.recorded_at));
            }
            _ => earliest = Some((step.cause.seq, step.cause.recorded_at.clone())),
        }
    }
}

/// Returns the place of a change within its step: the user's fields, then access, groups and roles,
/// in each of these what ends before what begins.
fn rank(change: &UserChange) -> (u8, Reverse<bool>, String) {
    let (place, ends, name) = match change {
        UserChange::Version { .. } => (0, false, ""),
        UserChange::AccessEnded { .. } => (1, true, ""),
        UserChange::AccessBegan => (1, false, ""),
        UserChange::Left(group) => (2, true, group.name.as_str()),
        UserChange::Joined(group) => (2, false, group.name.as_str()),
        UserChange::RoleLost(role) => (3, true, role.as_str()),
        UserChange::RoleGained(role) => (3, false, role.as_str()),
    };
    (place, Reverse(ends), name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_overtaken_by_the_first_record_of_a_later_step() {
        let cause = |day: u32, seq: u64, recorded: &str| EventCause {
            event_id: format!("event_{seq}"),
            event: "dsync.user.updated".into(),
            occurred_at: format!("2026-03-0{day}T09:00:00.000Z"),
            recorded_at: recorded.into(),
            seq,
        };
        let setting = EventCause {
            event: "rollcall.mapping.set".into(),
            ..cause(9, 1, "2026-03-09T09:00:00.000Z")
        };
        let causes = [
            cause(1, 3, "2026-04-01T00:00:00.000Z"),
            cause(2, 7, "2026-04-01T00:00:10.250Z"),
            cause(3, 5, "2026-04-01T00:00:00.600Z"),
            cause(4, 6, "2026-04-01T00:00:07.000Z"),
            cause(5, 4, "2026-04-01T00:00:00.500Z"),
        ];
        let mut all = DatedChanges::default();
        for cause in causes {
            all.add(cause.occurred_at.clone(), cause, UserChange::AccessBegan);
        }
        // A mapping set on another day for the last day overtakes nothing, though it was recorded
        // first.
        all.add("2026-03-06T09:00:00.000Z".into(), setting, UserChange::RoleLost("admin".into()));
        let steps = in_order(all.0, &BTreeMap::new());
        // Record 4 came 9.75 s before record 7, 100 ms before record 5 and 6.5 s before record 6.
        // No record came before record 3.
        assert_eq!(
            steps.iter().map(|step| step.overtaken_ms).collect::<Vec<_>>(),
            [None, Some(9750), Some(100), Some(6500), None, None]
        );
        let delays: Vec<i64> = steps.iter().map(Step::delay_ms).collect();
        // From 6 March to 9 March.
        assert_eq!(
            (delays.last(), steps.iter().filter(|step| step.is_for_the_past()).count()),
            (Some(&259_200_000), 1)
        );
    }
}
