//! What happened to a user, in order: versions, access, groups and roles as the API lists them,
//! made one line of time.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::super::Failure;
use super::super::print::one_line;
use crate::time;

/// The event that made something so.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Cause {
    pub(super) event_id: String,
    pub(super) event: String,
    pub(super) occurred_at: String,
    pub(super) recorded_at: String,
    pub(super) seq: u64,
}

impl Cause {
    /// How many milliseconds after it happened it was recorded; negative where the source's clock
    /// is ahead.
    pub(super) fn delay_ms(&self) -> i64 {
        between_ms(&self.occurred_at, &self.recorded_at)
    }

    /// Whether it ends something: of two events of one millisecond such a one comes last.
    fn closes(&self) -> bool {
        self.event.ends_with(".deleted") || self.event.ends_with(".user_removed")
    }
}

/// How many milliseconds lie between two moments of the API; negative if the second is the earlier
/// one.
fn between_ms(from: &str, to: &str) -> i64 {
    let moment = |text: &str| time::parse(text).unwrap_or(0);
    moment(to).saturating_sub(moment(from))
}

/// A field with two values, each in JSON as it was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) values: [String; 2],
}

/// One thing that happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Somebody said how the user is: `created`, `updated`, `deleted`, or a `snapshot` that stands
    /// in.
    Version {
        change: String,
        /// From, and to.
        changed: Vec<Field>,
        /// Known, and said to have been.
        missed: Vec<Field>,
    },
    AccessBegan,
    /// With the reason.
    AccessEnded(String),
    Joined(Group),
    Left(Group),
    RoleGained(String),
    RoleLost(String),
}

/// A group as it was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) id: String,
    pub(super) name: String,
}

/// What one event brought about at one moment. It may take effect before it happened: a mapping can
/// be set for the past.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at: String,
    pub(super) cause: Cause,
    /// How many milliseconds earlier than this something was recorded that stands later here;
    /// `None` if nothing was.
    pub(super) overtaken_ms: Option<i64>,
    pub(super) whats: Vec<What>,
}

impl Step {
    /// Whether it was done at another moment, for this one.
    pub(super) fn is_for_the_past(&self) -> bool {
        self.at != self.cause.occurred_at
    }

    /// How many milliseconds after the moment at which it stands it was recorded; negative where
    /// the source's clock is ahead.
    pub(super) fn delay_ms(&self) -> i64 {
        between_ms(&self.at, &self.cause.recorded_at)
    }
}

/// The lists of the API about one user, each object as it came.
pub(super) struct Lists {
    pub(super) history: Vec<Box<RawValue>>,
    pub(super) access: Vec<Box<RawValue>>,
    pub(super) groups: Vec<Box<RawValue>>,
    pub(super) roles: Vec<Box<RawValue>>,
}

/// A time in which a user had access.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Access {
    pub(super) from: String,
    pub(super) until: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) start: Cause,
    pub(super) end: Option<Cause>,
}

#[derive(Deserialize)]
struct Version<'a> {
    change: String,
    #[serde(borrow)]
    changed: BTreeMap<String, Changed<'a>>,
    #[serde(borrow)]
    missed: Option<BTreeMap<String, Missed<'a>>>,
    cause: Cause,
}

#[derive(Deserialize)]
struct Changed<'a> {
    #[serde(borrow)]
    from: &'a RawValue,
    #[serde(borrow)]
    to: &'a RawValue,
}

#[derive(Deserialize)]
struct Missed<'a> {
    #[serde(borrow)]
    known: &'a RawValue,
    #[serde(borrow)]
    said: &'a RawValue,
}

#[derive(Deserialize)]
struct Membership {
    group_id: String,
    group_name: String,
    from: String,
    until: Option<String>,
    start: Cause,
    end: Option<Cause>,
}

#[derive(Deserialize)]
struct Role {
    role: String,
    from: String,
    until: Option<String>,
    start: Cause,
    end: Option<Cause>,
}

/// Reads an object that the server sent.
///
/// # Errors
/// Ours, if it is another one.
pub(super) fn read<'a, T: Deserialize<'a>>(object: &'a RawValue) -> Result<T, Failure> {
    serde_json::from_str(object.get())
        .map_err(|_| Failure::Ours("the answer is not one that Rollcall gives".into()))
}

/// Everything that happened, each at its moment with its cause, in no order yet.
#[derive(Default)]
struct Happened(Vec<(String, Cause, What)>);

impl Happened {
    fn add(&mut self, at: String, cause: Cause, what: What) {
        self.0.push((at, cause, what));
    }

    /// A time that began, and perhaps ended.
    fn add_period(
        &mut self,
        from: (String, Cause, What),
        until: Option<String>,
        end: Option<Cause>,
        what: What,
    ) {
        self.0.push(from);
        if let (Some(until), Some(end)) = (until, end) {
            self.add(until, end, what);
        }
    }
}

impl Lists {
    /// Every time in which the user had access, by beginning.
    ///
    /// # Errors
    /// Ours, if the server sent something else.
    pub(super) fn periods(&self) -> Result<Vec<Access>, Failure> {
        self.access.iter().map(|object| read(object)).collect()
    }

    /// What happened, step by step, in chronological order.
    ///
    /// # Errors
    /// Ours, if the server sent something else.
    pub(super) fn steps(&self) -> Result<Vec<Step>, Failure> {
        let mut all = Happened::default();
        // Where events of one millisecond stand in the order of events only the history says.
        let mut places: BTreeMap<u64, usize> = BTreeMap::new();
        for object in &self.history {
            let Version { change, changed, missed, cause } = read(object)?;
            let written = |value: &RawValue| one_line(value.get()).into_owned();
            let field =
                |(name, Changed { from, to })| Field { name, values: [written(from), written(to)] };
            let changed = changed.into_iter().map(field).collect();
            let field = |(name, Missed { known, said })| Field {
                name,
                values: [written(known), written(said)],
            };
            let missed = missed.into_iter().flatten().map(field).collect();
            places.insert(cause.seq, places.len());
            all.add(cause.occurred_at.clone(), cause, What::Version { change, changed, missed });
        }
        for Access { from, until, reason, start, end } in self.periods()? {
            all.add_period(
                (from, start, What::AccessBegan),
                until,
                end,
                What::AccessEnded(reason.unwrap_or_default()),
            );
        }
        for object in &self.groups {
            let Membership { group_id: id, group_name: name, from, until, start, end } =
                read(object)?;
            let group = Group { id, name };
            all.add_period(
                (from, start, What::Joined(group.clone())),
                until,
                end,
                What::Left(group),
            );
        }
        for object in &self.roles {
            let Role { role, from, until, start, end } = read(object)?;
            all.add_period(
                (from, start, What::RoleGained(role.clone())),
                until,
                end,
                What::RoleLost(role),
            );
        }
        Ok(in_order(all.0, &places))
    }
}

/// Puts what happened in order and together what one event brought about at one moment. Written
/// with milliseconds and Z, moments are in the order of their texts.
fn in_order(mut all: Vec<(String, Cause, What)>, places: &BTreeMap<u64, usize>) -> Vec<Step> {
    let place = |seq: u64| places.get(&seq).copied().unwrap_or(usize::MAX);
    all.sort_by_cached_key(|(at, cause, what)| {
        (
            at.clone(),
            cause.occurred_at.clone(),
            cause.closes(),
            place(cause.seq),
            cause.seq,
            rank(what),
        )
    });
    let mut steps: Vec<Step> = Vec::new();
    for (at, cause, what) in all {
        match steps.last_mut().filter(|step| step.at == at && step.cause.seq == cause.seq) {
            Some(step) => step.whats.push(what),
            None => steps.push(Step { at, cause, overtaken_ms: None, whats: vec![what] }),
        }
    }
    let mut earliest: Option<(u64, String)> = None;
    for step in steps.iter_mut().rev().filter(|step| !step.is_for_the_past()) {
        match &earliest {
            Some((seq, recorded_at)) if *seq < step.cause.seq => {
                step.overtaken_ms = Some(between_ms(recorded_at, &step.cause.recorded_at))
            }
            _ => earliest = Some((step.cause.seq, step.cause.recorded_at.clone())),
        }
    }
    steps
}

/// In which order the things that one event brings about are told: first what it says, then access,
/// groups and roles, what ends before what begins.
fn rank(what: &What) -> (u8, Reverse<bool>, String) {
    match what {
        What::Version { .. } => (0, Reverse(false), String::new()),
        What::AccessEnded(_) => (1, Reverse(true), String::new()),
        What::AccessBegan => (1, Reverse(false), String::new()),
        What::Left(group) => (2, Reverse(true), group.name.clone()),
        What::Joined(group) => (2, Reverse(false), group.name.clone()),
        What::RoleLost(role) => (3, Reverse(true), role.clone()),
        What::RoleGained(role) => (3, Reverse(false), role.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_overtaken_by_the_first_record_of_what_stands_later() {
        let cause = |day: u32, seq: u64, recorded: &str| Cause {
            event_id: format!("event_{seq}"),
            event: "dsync.user.updated".into(),
            occurred_at: format!("2026-03-0{day}T09:00:00.000Z"),
            recorded_at: recorded.into(),
            seq,
        };
        let at = |cause: &Cause| cause.occurred_at.clone();
        let setting = Cause {
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
        let mut all: Vec<(String, Cause, What)> =
            causes.iter().map(|cause| (at(cause), cause.clone(), What::AccessBegan)).collect();
        // What is done at another moment for the last day, though recorded first, overtakes
        // nothing.
        all.push(("2026-03-06T09:00:00.000Z".into(), setting, What::RoleLost("admin".into())));
        let steps = in_order(all, &BTreeMap::new());
        // Record 4 was there 9.75 s before record 7, 100 ms before record 5 and 6.5 s before record
        // 6; before record 3 nothing was.
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
