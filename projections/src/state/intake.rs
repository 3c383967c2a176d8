//! Intake: the events of one directory as they came in, and its initial sync.

use crate::ground::event_type::{EventEffect, EventSubject, EventType};
use crate::ground::order::Millis;
use crate::ground::pack::pack_fields;

/// An initial sync is over after a pause of this length in either clock.
pub const INITIAL_SYNC_PAUSE_MS: Millis = 5 * 60 * 1000;

/// An initial sync is taken to be in progress until this time passes without more of it.
const INITIAL_SYNC_SILENCE_MS: Millis = 60 * 1000;

/// The counts of one directory's incoming events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// When its last event was recorded.
    pub last_recorded_at: Millis,
    /// Its latest initial sync; none while no activation was received.
    pub initial_sync: Option<InitialSync>,
    /// The creations before any activation was received: it may come late.
    before: Option<InitialSync>,
}

/// The burst of creations around an activation, received in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitialSync {
    /// When its first event was recorded.
    pub started_at: Millis,
    /// When the last creation or addition of the burst was recorded.
    pub last_at: Millis,
    /// When the latest of them occurred.
    last_occurred: Millis,
    /// True once an event of the directory came after its end.
    over: bool,
    /// Users created.
    pub users: u64,
    /// Groups created.
    pub groups: u64,
    /// Memberships added.
    pub memberships: u64,
}

impl Intake {
    /// Notes the directory's next event.
    pub(crate) fn note(&mut self, event_type: &str, occurred_at: Millis, recorded_at: Millis) {
        self.last_recorded_at = recorded_at;
        let event_type = EventType::parse(event_type);
        let begun = InitialSync {
            started_at: recorded_at,
            last_at: recorded_at,
            last_occurred: occurred_at,
            over: false,
            users: 0,
            groups: 0,
            memberships: 0,
        };
        if event_type == Some(EventType::DirectoryActivated) {
            match &mut self.initial_sync {
                Some(sync) if sync.goes_on(occurred_at, recorded_at) => {}
                sync => *sync = Some(self.before.take().unwrap_or(begun)),
            }
        }
        let created = event_type.and_then(created_by);
        let sync = match &mut self.initial_sync {
            Some(sync) => sync,
            None if created.is_some() => self.before.get_or_insert(begun),
            None => return,
        };
        if !sync.goes_on(occurred_at, recorded_at) {
            sync.over = true;
        } else if let Some(count) = created {
            *count(sync) += 1;
            sync.last_at = recorded_at;
            sync.last_occurred = sync.last_occurred.max(occurred_at);
        }
    }
}

/// Returns the count of an initial sync to which a type of event adds, if it does.
fn created_by(event_type: EventType) -> Option<fn(&mut InitialSync) -> &mut u64> {
    if event_type.effect() != EventEffect::Begins {
        return None;
    }
    match event_type.subject() {
        EventSubject::User => Some(|sync| &mut sync.users),
        EventSubject::Group => Some(|sync| &mut sync.groups),
        EventSubject::Membership => Some(|sync| &mut sync.memberships),
        EventSubject::Directory
        | EventSubject::Token
        | EventSubject::Mapping
        | EventSubject::Policy
        | EventSubject::CheckpointKey
        | EventSubject::Link
        | EventSubject::Reconciliation
        | EventSubject::ScimResource => None,
    }
}

impl InitialSync {
    /// Tells if an event still belongs to it: after no long pause by either clock, so that a
    /// history that is sent again at once is not taken for one sync.
    fn goes_on(&self, occurred_at: Millis, recorded_at: Millis) -> bool {
        let pauses = [
            recorded_at.saturating_sub(self.last_at),
            occurred_at.saturating_sub(self.last_occurred),
        ];
        pauses.iter().all(|pause| *pause <= INITIAL_SYNC_PAUSE_MS)
    }

    /// Tells if more of it is likely to come at `now`.
    pub fn is_in_progress(&self, now: Millis) -> bool {
        !self.over && now.saturating_sub(self.last_at) <= INITIAL_SYNC_SILENCE_MS
    }
}

pack_fields!(Intake { last_recorded_at, initial_sync, before });
pack_fields!(InitialSync { started_at, last_at, last_occurred, over, users, groups, memberships });

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Millis = INITIAL_SYNC_PAUSE_MS;

    /// Counts some events, each with its `occurred_at` and `recorded_at`.
    fn counted(events: &[(&str, Millis, Millis)]) -> Option<(Millis, Millis, [u64; 3])> {
        let mut intake = Intake::default();
        for (kind, occurred_at, recorded_at) in events {
            intake.note(kind, *occurred_at, *recorded_at);
        }
        intake.initial_sync.map(|sync| {
            (sync.started_at, sync.last_at, [sync.users, sync.groups, sync.memberships])
        })
    }

    #[test]
    fn an_initial_sync_counts_until_the_first_pause_of_either_clock() {
        let (activated, user, group, member) = (
            "dsync.activated",
            "dsync.user.created",
            "dsync.group.created",
            "dsync.group.user_added",
        );
        let started = [
            (activated, 0, 1000),
            (user, 10, 2000),
            ("dsync.user.updated", 15, 2500),
            (group, 20, 2000 + PAUSE),
        ];
        let so_far = Some((1000, 2000 + PAUSE, [1, 1, 0]));
        assert_eq!(counted(&started), so_far);
        // A pause in what is recorded, or in what happened, ends it.
        assert_eq!(
            counted(
                &[&started[..], &[(member, 30, 2001 + 2 * PAUSE), (user, 40, 2002 + 2 * PAUSE)]]
                    .concat()
            ),
            so_far
        );
        assert_eq!(
            counted(
                &[
                    &started[..],
                    &[(user, 21 + PAUSE, 2001 + PAUSE), (member, 22 + PAUSE, 2002 + PAUSE)]
                ]
                .concat()
            ),
            so_far
        );
        assert_eq!(
            counted(&[&started[..], &[(member, 20 + PAUSE, 2001 + PAUSE)]].concat()),
            Some((1000, 2001 + PAUSE, [1, 1, 1]))
        );
        // Another activation begins anew, unless it is of the same burst.
        assert_eq!(
            counted(&[&started[..], &[(activated, 9 * PAUSE, 9 * PAUSE)]].concat()),
            Some((9 * PAUSE, 9 * PAUSE, [0, 0, 0]))
        );
        assert_eq!(counted(&[&started[..], &[(activated, 30, 2001 + PAUSE)]].concat()), so_far);
    }

    #[test]
    fn an_activation_that_comes_late_finds_what_came_before_it() {
        let (activated, user, member) =
            ("dsync.activated", "dsync.user.created", "dsync.group.user_added");
        let before = [(user, 10, 1000), (member, 20, 1100), (user, 15, 1200)];
        assert_eq!(counted(&before), None, "without an activation there is no sync");
        assert_eq!(
            counted(&[&before[..], &[(activated, 0, 1300), (user, 30, 1400)]].concat()),
            Some((1000, 1400, [3, 0, 1]))
        );
        assert_eq!(
            counted(&[&before[..], &[(activated, 0, 1300 + 2 * PAUSE)]].concat()),
            Some((1000, 1200, [2, 0, 1]))
        );
    }

    #[test]
    fn a_sync_is_in_progress_while_more_may_come() {
        let mut intake = Intake::default();
        intake.note("dsync.activated", 0, 1000);
        let Some(sync) = intake.initial_sync else { panic!("it began") };
        assert!(sync.is_in_progress(61_000) && !sync.is_in_progress(61_001));
    }

    #[test]
    fn a_sync_whose_directory_has_a_later_event_is_done() {
        let is_in_progress = |later: &str, occurred_at| {
            let mut intake = Intake::default();
            intake.note("dsync.activated", 0, 1000);
            intake.note("dsync.user.created", 10, 1001);
            intake.note(later, occurred_at, 1002);
            intake.initial_sync.is_some_and(|sync| sync.is_in_progress(1003))
        };
        for later in ["dsync.user.updated", "dsync.user.created", "dsync.group.user_removed"] {
            assert!(is_in_progress(later, 10 + PAUSE), "{later}");
            assert!(!is_in_progress(later, 11 + PAUSE), "{later}");
        }
    }
}
