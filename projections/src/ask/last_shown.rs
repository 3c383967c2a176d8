//! The last moment at which the source showed a user.

use crate::ground::event_type::EventType;
use crate::ground::order::{Cut, Millis, Place, Seq};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::timeline::Placed;
use crate::state::entities::{Entity, EntityKind};
use crate::state::memberships::Grant;
use crate::views::Views;

impl Views {
    /// Tells if a record is an observation.
    pub(crate) fn is_observation(&self, seq: Seq) -> bool {
        self.known_type(seq).is_some_and(EventType::is_observation)
    }

    /// Returns the type of a record, if the record is listed and the type is known.
    pub(crate) fn known_type(&self, seq: Seq) -> Option<EventType> {
        let (line, _) = self.events.get(seq)?;
        EventType::parse(self.events.event_types.text(line.event_type))
    }

    /// Returns the latest moment before another at which the source showed a user, as far as the
    /// cut sees: by an event when it occurred, by an observation when the source was asked, by a
    /// reconciliation that compared the user's directory without a doubt when it began.
    ///
    /// Costs a look-up for each event of the user, and for each later reconciliation.
    pub(crate) fn last_shown(&self, user: Sym, before: Millis, cut: Cut) -> Option<Millis> {
        let versions = self.users.get(user).into_iter().flat_map(Entity::versions);
        let versions = versions.filter(|version| !version.deleted).map(Placed::place);
        let grants = self.pairs_of(user).flat_map(|pair| pair.grants().iter());
        let grants = grants.filter(|grant| self.shows_user(grant)).map(Placed::place);
        let shown = versions.chain(grants).filter(|place| cut.sees(*place));
        let shown = shown.map(|place: Place| self.observations.seen_at(place));
        let shown = shown.filter(|moment| *moment < before).max();
        self.last_compared(user, shown, before, cut).or(shown)
    }

    /// Tells if a membership event shows its user: it carries a snapshot of it. An observation
    /// carries none, and shows only those who are in the group.
    fn shows_user(&self, grant: &Grant) -> bool {
        grant.added() || !self.is_observation(Seq::from(grant.place().seq))
    }

    /// Returns the start of the latest reconciliation, after one moment and before another, that
    /// found a user in its directory: one that was there when it began and when it ended, with
    /// access at both or at none, by all that was known then. The reconciliation that finds the end
    /// does not show the user as it was before.
    fn last_compared(
        &self,
        user: Sym,
        after: Option<Millis>,
        before: Millis,
        cut: Cut,
    ) -> Option<Millis> {
        let then = Cut { as_of: before.saturating_sub(1), ..cut };
        let version = self.users.get(user)?.version(then)?;
        let directory = Some(version.directory).filter(|directory| *directory != NO_SYM)?;
        let after = after.unwrap_or(Millis::MIN);
        let mut runs = self.observations.runs_between(directory, after, before, cut);
        let found = runs.find(|run| {
            let has_access = |as_of: Millis| {
                let then = Cut { as_of, known_at: Seq::from(run.seq) };
                let version = self.exists(EntityKind::User, user, then);
                let there = version.filter(|version| version.directory == directory);
                there.map(|_| self.access_basis(user, then).has_access())
            };
            let begun = has_access(run.started_at);
            begun.is_some() && begun == has_access(run.occurred_at)
        });
        found.map(|run| run.started_at)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::ask::access::{AccessLoss, AccessPeriod};
    use crate::ground::fact::{
        Change, DirectoryChange, Entry, Fact, GroupData, MembershipData, Provenance, RecordStatus,
        UserData,
    };
    use crate::ground::quarantine::Reason;
    use crate::sight::Sight;

    /// A record: its moment, the moment at which the source was asked, its type and its fact.
    type Told<'a> = (Millis, Option<Millis>, EventType, Fact<'a>);

    fn user(active: bool) -> UserData<'static> {
        UserData {
            id: "U",
            directory: Some("D"),
            organization: None,
            active,
            roles: "",
            email: None,
            idp_id: None,
        }
    }

    fn said(at: Millis, change: Change, active: bool) -> Told<'static> {
        let event_type = match change {
            Change::Set => EventType::UserUpdated,
            Change::Deleted => EventType::UserDeleted,
        };
        (at, None, event_type, Fact::User(change, user(active)))
    }

    fn updated(at: Millis) -> Told<'static> {
        said(at, Change::Set, true)
    }

    fn deleted(at: Millis) -> Told<'static> {
        said(at, Change::Deleted, true)
    }

    fn seen(effective: Millis, asked: Millis) -> Told<'static> {
        let fact = Fact::User(Change::Set, user(true));
        (effective, Some(asked), EventType::UserObserved, fact)
    }

    fn absent(at: Millis) -> Told<'static> {
        (at, Some(at), EventType::UserObserved, Fact::User(Change::Deleted, user(true)))
    }

    fn inactive(effective: Millis, asked: Millis) -> Told<'static> {
        let fact = Fact::User(Change::Set, user(false));
        (effective, Some(asked), EventType::UserObserved, fact)
    }

    fn directory(at: Millis, observed: bool, change: DirectoryChange) -> Told<'static> {
        let event_type = match (observed, change) {
            (true, _) => EventType::DirectoryObserved,
            (false, DirectoryChange::Activated) => EventType::DirectoryActivated,
            (false, DirectoryChange::Deactivated) => EventType::DirectoryDeactivated,
            (false, DirectoryChange::Deleted) => EventType::DirectoryDeleted,
        };
        let fact = Fact::Directory { change, id: "D", organization: None, name: "", domain: None };
        (at, observed.then_some(at), event_type, fact)
    }

    fn member(at: Millis, added: bool) -> Told<'static> {
        let group = GroupData {
            id: "G",
            name: "",
            compared_name: None,
            directory: Some("D"),
            organization: None,
        };
        let data =
            MembershipData { added, directory: "D", organization: None, user: user(true), group };
        let event_type = if added { EventType::MemberAdded } else { EventType::MemberRemoved };
        (at, None, event_type, Fact::Membership(data))
    }

    fn found_in(at: Millis, present: bool) -> Told<'static> {
        let fact = Fact::ObservedMembership { present, directory: "D", user: "U", group: "G" };
        (at, Some(at), EventType::MembershipObserved, fact)
    }

    const CLEAN: &[Cow<'static, str>] = &[Cow::Borrowed("D")];

    fn compared(started_at: Millis, at: Millis) -> Told<'static> {
        let fact = Fact::Reconciled { started_at, clean: CLEAN };
        (at, None, EventType::ReconciliationCompleted, fact)
    }

    fn folded(story: &[Told<'_>]) -> Views {
        let mut views = Views::new();
        for (told, seq) in story.iter().zip(1..) {
            let (occurred_at, observed_at, event_type, fact) = told;
            views.apply(&Entry {
                seq,
                recorded_at: 1_000,
                occurred_at: *occurred_at,
                claimed_at: None,
                updated_at: None,
                observed_at: *observed_at,
                event_id: &format!("event_{seq:05}"),
                event_type: event_type.name(),
                status: RecordStatus::Counts,
                former_directories: &[],
                former_organizations: &[],
                provenance: Provenance::Source,
                unusable_at_first: None,
                fact: fact.clone(),
            });
        }
        views
    }

    fn periods(story: &[Told<'_>], cut: Cut) -> Vec<AccessPeriod> {
        folded(story).seen_by(&Sight::All).access_periods("U", cut).unwrap_or_default()
    }

    type End = (Millis, AccessLoss, bool, Option<Millis>);

    /// A period of access: its beginning, if that was observed, and its end.
    type Period = (Millis, bool, Option<End>);

    /// A story, and what follows from it.
    type Expected<'a, T> = (&'a [Told<'a>], &'a [T]);

    /// Returns each period of access: its beginning, if that was observed, and its end.
    fn access(story: &[Told<'_>]) -> Vec<Period> {
        let end = |period: &AccessPeriod| {
            let end = period.end.as_ref()?;
            Some((end.at, end.reason, end.cause.is_observation(), end.not_before))
        };
        let periods = periods(story, Cut::LATEST).into_iter();
        periods.map(|period| (period.from, period.start.is_observation(), end(&period))).collect()
    }

    fn memberships(story: &[Told<'_>]) -> Vec<(Millis, Option<Millis>)> {
        let views = folded(story);
        let periods = views.seen_by(&Sight::All).membership_periods_of_user("U", Cut::LATEST);
        let periods = periods.unwrap_or_default().into_iter();
        periods.map(|period| (period.from, period.until)).collect()
    }

    fn gone(at: Millis, not_before: Millis) -> Option<End> {
        Some((at, AccessLoss::UserAbsent, true, Some(not_before)))
    }

    #[test]
    fn an_observation_takes_its_place_among_events_whenever_these_arrive() {
        let by_event = |at| Some((at, AccessLoss::UserDeleted, false, None));
        let cases: [Expected<'_, Period>; 8] = [
            (&[updated(10), absent(50)], &[(10, false, gone(50, 10))]),
            (&[updated(10), absent(50), updated(30)], &[(10, false, gone(50, 30))]),
            // The real event comes late: the end moves to it.
            (&[updated(10), absent(50), deleted(40)], &[(10, false, by_event(40))]),
            // A backdated observation is overtaken.
            (&[seen(20, 100), deleted(50)], &[(20, true, by_event(50))]),
            (
                &[updated(10), absent(50), updated(60)],
                &[(10, false, gone(50, 10)), (60, false, None)],
            ),
            (&[absent(50)], &[]),
            (&[seen(20, 100)], &[(20, true, None)]),
            // In one millisecond the end wins.
            (&[updated(10), absent(50), updated(50)], &[(10, false, gone(50, 10))]),
        ];
        for (story, expected) in cases {
            assert_eq!(access(story), expected, "{story:?}");
            let reversed: Vec<Told<'_>> = story.iter().rev().cloned().collect();
            assert_eq!(access(&reversed), expected, "{reversed:?}");
        }
    }

    #[test]
    fn an_observed_membership_takes_its_place_and_describes_neither_end() {
        let cases: [Expected<'_, (Millis, Option<Millis>)>; 6] = [
            (&[updated(1), found_in(50, true), member(40, false)], &[(50, None)]),
            (
                &[updated(1), member(20, true), found_in(50, true), member(40, false)],
                &[(20, Some(40)), (50, None)],
            ),
            (&[member(20, true), found_in(50, false)], &[(20, Some(50))]),
            (
                &[member(20, true), found_in(50, false), member(60, true)],
                &[(20, Some(50)), (60, None)],
            ),
            // Without a snapshot there is no user and no group.
            (&[found_in(50, true)], &[]),
            (&[updated(1), found_in(50, true)], &[]),
        ];
        for (story, expected) in cases {
            assert_eq!(memberships(story), expected, "{story:?}");
            let reversed: Vec<Told<'_>> = story.iter().rev().cloned().collect();
            assert_eq!(memberships(&reversed), expected, "{reversed:?}");
        }
        let views = folded(&[found_in(50, true)]);
        assert!(!views.seen_by(&Sight::All).knows_user("U", Cut::LATEST));
    }

    #[test]
    fn an_end_names_what_the_source_said_about_the_user_or_its_directory() {
        let ends = [
            (absent(50), AccessLoss::UserAbsent),
            (inactive(50, 50), AccessLoss::UserInactive),
            (directory(50, true, DirectoryChange::Deleted), AccessLoss::DirectoryAbsent),
            (directory(50, true, DirectoryChange::Deactivated), AccessLoss::DirectoryDeactivated),
            (directory(50, false, DirectoryChange::Deleted), AccessLoss::DirectoryDeleted),
        ];
        for (end, reason) in ends {
            let observed = end.1.is_some();
            let not_before = observed.then_some(10);
            let expected = [(10, false, Some((50, reason, observed, not_before)))];
            assert_eq!(access(&[updated(10), end]), expected);
        }
    }

    #[test]
    fn a_user_was_last_shown_by_an_event_an_observation_or_a_clean_comparison() {
        let cases: [(&[Told<'_>], Millis); 12] = [
            (&[updated(10)], 10),
            (&[updated(10), updated(30)], 30),
            (&[updated(10), member(35, true)], 35),
            // Its snapshot shows the user, although it ends a membership.
            (&[updated(10), member(35, false)], 35),
            (&[updated(10), found_in(36, true)], 36),
            (&[updated(10), found_in(36, false)], 10),
            // The source was asked later than the object was changed.
            (&[seen(10, 40)], 40),
            (&[updated(5), seen(10, 60)], 5),
            (&[updated(10), compared(30, 45)], 30),
            (&[updated(10), compared(30, 45), compared(20, 25), member(28, true)], 30),
            // It began before the user was there, or not before the end.
            (&[updated(10), compared(9, 15)], 10),
            (&[updated(10), compared(50, 55)], 10),
        ];
        for (story, shown) in cases {
            let mut story = story.to_vec();
            story.push(absent(50));
            let found = access(&story).first().and_then(|period| period.2);
            assert_eq!(found, gone(50, shown), "{story:?}");
        }
        // A comparison does not show a user who was not known when it ended.
        let late = [compared(30, 45), updated(10), absent(50)];
        assert_eq!(access(&late), [(10, false, gone(50, 10))]);
    }

    #[test]
    fn a_comparison_that_finds_the_end_does_not_show_the_user() {
        let [off, gone] = [DirectoryChange::Deactivated, DirectoryChange::Deleted];
        for (end, reason) in [
            (absent(50), AccessLoss::UserAbsent),
            (inactive(50, 50), AccessLoss::UserInactive),
            (directory(50, true, off), AccessLoss::DirectoryDeactivated),
            (directory(50, true, gone), AccessLoss::DirectoryAbsent),
        ] {
            let story = [updated(10), compared(30, 35), end, compared(45, 60)];
            assert_eq!(access(&story), [(10, false, Some((50, reason, true, Some(30))))]);
        }
    }

    #[test]
    fn both_cuts_bound_the_last_moment_at_which_a_user_was_shown() {
        let story = [updated(10), compared(30, 60), absent(50), updated(40)];
        for (as_of, known_at, shown) in
            [(70, 4, 40), (70, 3, 30), (60, 3, 30), (59, 3, 10), (50, 3, 10)]
        {
            let found = periods(&story, Cut { as_of, known_at });
            let end = found.first().and_then(|period| period.end.as_ref());
            assert_eq!(end.and_then(|end| end.not_before), Some(shown), "{as_of} {known_at}");
        }
    }

    #[test]
    fn a_late_deletion_that_an_observation_outvotes_is_listed_as_overtaken() {
        let views = folded(&[updated(10), seen(20, 100), deleted(15)]);
        let reasons: Vec<Reason> = views.quarantine().iter().map(|one| one.reason).collect();
        assert_eq!(reasons, [Reason::Overtaken { later: 2 }]);
        let views = folded(&[updated(10), seen(20, 100), deleted(50)]);
        assert_eq!(views.quarantine(), []);
    }

    #[test]
    fn an_observed_directory_lives_and_ends_as_by_its_events() {
        let [begun, suspended, ended] =
            [DirectoryChange::Activated, DirectoryChange::Deactivated, DirectoryChange::Deleted];
        let story = [
            directory(10, true, begun),
            seen(12, 12),
            directory(20, true, suspended),
            directory(30, true, begun),
            directory(40, true, ended),
            directory(50, true, begun),
            seen(60, 60),
        ];
        let deactivated = Some((20, AccessLoss::DirectoryDeactivated, true, Some(12)));
        let ended = Some((40, AccessLoss::DirectoryAbsent, true, Some(12)));
        let expected = [(12, true, deactivated), (30, true, ended), (60, true, None)];
        assert_eq!(access(&story), expected);
        let reversed: Vec<Told<'_>> = story.iter().rev().cloned().collect();
        assert_eq!(access(&reversed), expected);
    }
}
