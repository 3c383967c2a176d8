//! Memberships over time: the times in which a user was in a group, and the events that began and
//! ended them.
//!
//! A membership holds while three things do: the grant to the pair, its user, and its group. The
//! one that changed at a moment names the cause.

use core::cmp::Ordering;
use std::collections::BTreeSet;

use crate::ask::causes::{Cause, Trigger, last_moment};
use crate::ask::runs::{Concern, MergedMoments, PeriodsWindow, Run, RunsWindow, runs};
use crate::ground::fact::{DirectoryChange, InactiveUsers};
use crate::ground::order::{Cut, Millis, Place, around};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::timeline::Placed;
use crate::ground::walks::merge_by;
use crate::sight::Seen;
use crate::state::entities::{EntityKind, EntityVersion};
use crate::state::memberships::Pair;
use crate::state::policies::Policy;
use crate::views::Views;

/// A time in which a user was a member of a group without a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipPeriod {
    /// The member.
    pub user: String,
    /// The group.
    pub group: String,
    /// The last name that the group had in that time; empty if none.
    pub group_name: String,
    /// Its first moment.
    pub from: Millis,
    /// The first moment without it; `None` while it lasts.
    pub until: Option<Millis>,
    /// The event that began it.
    pub start: Cause,
    /// The event that ended it.
    pub end: Option<Cause>,
}

/// Some periods, and the user and beginning after which to continue, if there may be more.
pub type MembershipPeriods = (Vec<MembershipPeriod>, Option<(String, Millis)>);

/// One call looks at no more than this many members of a group.
const MEMBERS_MAX: usize = 256;

/// The three things that a membership depends on, at one moment.
#[derive(Clone, Copy)]
pub(crate) struct MembershipBasis<'a> {
    granted: bool,
    user: Option<&'a EntityVersion>,
    group: Option<&'a EntityVersion>,
}

impl MembershipBasis<'_> {
    pub(crate) fn holds(self) -> bool {
        self.granted && self.user.is_some() && self.group.is_some()
    }
}

impl Views {
    pub(crate) fn membership_basis(&self, pair: &Pair, cut: Cut) -> MembershipBasis<'_> {
        MembershipBasis {
            granted: self.holds_between_living(pair, cut),
            user: self.alive(EntityKind::User, pair.user, cut),
            group: self.alive(EntityKind::Group, pair.group, cut),
        }
    }

    /// Walks over the moments, known and up to the cut, that a membership depends on: from one on,
    /// or back from one.
    fn membership_walk<'a>(
        &'a self,
        pair: &'a Pair,
        from: Millis,
        descending: bool,
        cut: Cut,
    ) -> MergedMoments<'a> {
        let ends = [
            (self.users.get(pair.user), self.presence_of_users()),
            (self.groups.get(pair.group), Concern::Presence),
        ];
        let ends = ends.into_iter().filter_map(|(end, concern)| Some((end?, concern)));
        let listed = ends.clone().flat_map(|(end, _)| end.listed_in().iter().copied());
        let directories: BTreeSet<Sym> =
            listed.chain(self.memberships.foreign_directories(pair)).collect();
        let mut walks = self.directory_walks(directories, from, descending, cut);
        for (entity, concern) in ends {
            walks.extend(self.turn_walks(entity, concern, from, descending, cut));
        }
        walks.push(pair.grants().moments(from, descending, cut));
        let mut moments = MergedMoments::of(walks, descending);
        let known = self.policies.iter().filter(|policy| policy.seq <= cut.known_at);
        moments.add(known.map(|policy| policy.effective_from), from, cut);
        moments
    }

    /// Returns the parts of a user's versions that say if it exists: its state as well, where a
    /// policy hides those who are not active.
    pub(crate) fn presence_of_users(&self) -> Concern {
        let hides = |policy: &Policy| policy.inactive_users == InactiveUsers::Delete;
        if self.policies.iter().any(hides) { Concern::Access } else { Concern::Presence }
    }

    /// Iterates over the periods of a pair that begin in a window.
    pub(crate) fn periods_of_pair<'a>(
        &'a self,
        pair: &'a Pair,
        cut: Cut,
        window: RunsWindow,
    ) -> impl Iterator<Item = MembershipPeriod> + 'a {
        let moments = move |from, descending| self.membership_walk(pair, from, descending, cut);
        let basis = move |as_of| self.membership_basis(pair, Cut { as_of, ..cut });
        let runs = runs(window, moments, move |as_of| basis(as_of).holds());
        runs.filter_map(move |Run { from, until }| {
            let cause = |moment: Millis| {
                let before = if moment == Millis::MIN {
                    MembershipBasis { granted: false, user: None, group: None }
                } else {
                    basis(moment - 1)
                };
                let trigger = self.membership_trigger(pair, before, basis(moment), moment, cut);
                trigger.map(|trigger| self.cause_of(trigger))
            };
            let start = cause(from)?;
            let last = Cut { as_of: last_moment(until, cut), ..cut };
            let group = self.groups.get(pair.group).and_then(|group| group.version(last));
            let group_name = group.map_or("", |version| self.texts.text(version.label));
            Some(MembershipPeriod {
                user: self.users.id(pair.user).to_owned(),
                group: self.groups.id(pair.group).to_owned(),
                group_name: group_name.to_owned(),
                from,
                until,
                start,
                end: until.and_then(cause),
            })
        })
    }

    /// Returns the last trigger of a beginning or end at a moment.
    fn membership_trigger(
        &self,
        pair: &Pair,
        before: MembershipBasis<'_>,
        now: MembershipBasis<'_>,
        moment: Millis,
        cut: Cut,
    ) -> Option<Trigger> {
        let (begins, (then, _)) = (now.holds(), around(moment, cut));
        let mut triggers: Vec<Trigger> = Vec::new();
        if before.granted != now.granted {
            triggers.extend(self.grant_triggers(pair, begins, then));
        }
        if before.user.is_some() != now.user.is_some() {
            triggers.extend(self.entity_triggers(EntityKind::User, pair.user, before.user, then));
        }
        if before.group.is_some() != now.group.is_some() {
            triggers.extend(self.entity_triggers(
                EntityKind::Group,
                pair.group,
                before.group,
                then,
            ));
        }
        self.last_trigger(triggers.into_iter())
    }

    /// Returns the events of a moment that give or take a membership by the pair's own grants.
    fn grant_triggers(&self, pair: &Pair, begins: bool, then: Cut) -> Vec<Trigger> {
        let is_now = |place: &Place| place.occurred_at == then.as_of;
        let latest = pair.grants().latest(then).map(|grant| grant.place()).filter(is_now);
        if begins {
            return latest.map(Trigger::Event).into_iter().collect();
        }
        let removed = latest.filter(|place| place.closing);
        let user = self
            .users
            .get(pair.user)
            .and_then(|user| user.tombstones().latest(then).copied())
            .filter(is_now);
        let group = self
            .groups
            .get(pair.group)
            .and_then(|group| group.tombstones().latest(then).copied())
            .filter(is_now);
        let granted = pair.grants().latest_first(then).find(|grant| grant.added());
        let directory = granted.and_then(|grant| self.directories.get(grant.directory()));
        let deletion = directory
            .and_then(|directory| directory.deletions().latest(then).copied())
            .filter(is_now);
        [removed, user, group, deletion].into_iter().flatten().map(Trigger::Event).collect()
    }

    /// Returns the triggers of a moment that bring a user or group to life or end it.
    fn entity_triggers(
        &self,
        kind: EntityKind,
        sym: Sym,
        before: Option<&EntityVersion>,
        then: Cut,
    ) -> Vec<Trigger> {
        let version = self.entities(kind).get(sym).and_then(|entity| entity.version(then));
        let Some(version) = version else { return Vec::new() };
        let place = Some(version.place).filter(|place| place.occurred_at == then.as_of);
        // A deletion does not move a user.
        let lived = if version.deleted {
            self.last_version(kind, sym, then, |version| !version.deleted)
        } else {
            Some(version)
        };
        let directory = lived.or(before).map_or(NO_SYM, |version| version.directory);
        // An entity that comes to life may owe that to its directory's activation. One that ends
        // owes it to its directory only if that is deleted.
        let directory = match (before, self.directories.get(directory)) {
            (None, Some(_)) => self.directory_brought_back(directory, then),
            (Some(_), Some(item)) if self.ended_by(item, version, then) => {
                self.directory_turned(directory, DirectoryChange::Deleted, then)
            }
            _ => None,
        };
        let policy =
            self.policies.in_force(then).filter(|policy| policy.effective_from == then.as_of);
        let policy = policy
            .filter(|_| matches!(kind, EntityKind::User) && !version.active && !version.deleted);
        place
            .into_iter()
            .chain(directory)
            .map(Trigger::Event)
            .chain(policy.map(|policy| Trigger::Policy(policy.seq)))
            .collect()
    }

    /// Returns the pairs of all who were ever in a group, at any cut, in order of the member's id
    /// from a place on. The place's own member comes first: it may have more periods.
    fn members_from(
        &self,
        group: Sym,
        after: Option<(&str, Millis)>,
        descending: bool,
    ) -> Box<dyn Iterator<Item = u32> + '_> {
        let id = move |number: u32| self.memberships.user_id(self.users.ids(), number);
        let start = after.map(|(user, _)| user);
        let Some(roster) = self.memberships.of_group(group) else {
            return Box::new(core::iter::empty());
        };
        // The place's own member is one of them.
        let first = if descending { Ordering::Less } else { Ordering::Greater };
        let order = |number: u32| start.map_or(first, |start| id(number).cmp(start).then(first));
        if descending {
            Box::new(roster.all_descending(&order))
        } else {
            Box::new(roster.all_ascending(&order))
        }
    }
}

impl Seen<'_> {
    /// Iterates over the times of a pair at whose ends both its user and its group were seen.
    fn seen_periods<'a>(
        &'a self,
        pair: &'a Pair,
        cut: Cut,
        window: RunsWindow,
    ) -> impl Iterator<Item = MembershipPeriod> + 'a {
        let seen = move |period: &MembershipPeriod| {
            let last = last_moment(period.until, cut);
            self.saw(EntityKind::User, pair.user, last, cut)
                && self.saw(EntityKind::Group, pair.group, last, cut)
        };
        self.periods_of_pair(pair, cut, window).filter(seen).map(move |mut period| {
            self.conceal(&mut period.start);
            period.end.iter_mut().for_each(|end| self.conceal(end));
            period
        })
    }

    /// Returns every time in which a user was in a group, up to the cut, in order of beginning and
    /// of the group's id. `None` for a user that no known event names.
    ///
    /// Costs a look-up for each event that each of the memberships depends on.
    pub fn membership_periods_of_user(
        &self,
        user: &str,
        cut: Cut,
    ) -> Option<Vec<MembershipPeriod>> {
        self.membership_periods_in(user, cut, PeriodsWindow::ALL)
    }

    /// Returns the same for a part of the list, in which a period has the name of its group's id.
    /// Costs the changes of the periods that it returns, and of one more of each group that the
    /// user was ever in.
    pub fn membership_periods_in(
        &self,
        user: &str,
        cut: Cut,
        window: PeriodsWindow<'_>,
    ) -> Option<Vec<MembershipPeriod>> {
        let user = self.known_sym(EntityKind::User, user, cut)?;
        let walks = self.pairs_of(user).map(|pair| {
            let beginnings = window.beginnings(self.groups.id(pair.group));
            self.seen_periods(pair, cut, beginnings)
        });
        let order = |a: &MembershipPeriod, b: &MembershipPeriod| {
            a.from.cmp(&b.from).then_with(|| a.group.cmp(&b.group))
        };
        let periods = merge_by(walks.collect(), window.descending, order);
        Some(periods.take(window.limit).collect())
    }

    /// Returns some times in which a user was in a group, up to the cut, by the member's id and the
    /// beginning, after a place in that order; and the place after which to continue, if there may
    /// be more. It may find none and still return such a place. `None` for a group that no known
    /// event names.
    ///
    /// Looks at no more than some hundred members, each at the cost of
    /// [`Seen::membership_periods_of_user`] for one group.
    pub fn membership_periods_of_group(
        &self,
        group: &str,
        cut: Cut,
        after: Option<(&str, Millis)>,
        descending: bool,
        limit: usize,
    ) -> Option<MembershipPeriods> {
        let group = self.known_sym(EntityKind::Group, group, cut)?;
        let mut found = Vec::new();
        for (looked_at, number) in self.members_from(group, after, descending).enumerate() {
            if looked_at == MEMBERS_MAX {
                // Before all periods of this member.
                let far = if descending { Millis::MAX } else { Millis::MIN };
                let user = self.memberships.user_id(self.users.ids(), number);
                return Some((found, Some((user.to_owned(), far))));
            }
            let Some(pair) = self.memberships.get(number) else { continue };
            let own = after.filter(|(user, _)| *user == self.users.id(pair.user));
            // Periods of one pair have the name of its group, which takes no part here.
            let start = own.map(|(_, from)| (from, ""));
            let window = PeriodsWindow { start, descending, limit }.beginnings("");
            found.extend(self.seen_periods(pair, cut, window).take(limit - found.len()));
            if found.len() >= limit {
                let next = found.last().map(|last| (last.user.clone(), last.from));
                return Some((found, next));
            }
        }
        Some((found, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::event_type::EventType;
    use crate::ground::fact::{
        Entry, Fact, GroupData, MembershipData, Provenance, RecordStatus, UserData,
    };
    use crate::sight::Sight;

    /// More than one step looks at.
    const MEMBERS: u64 = MEMBERS_MAX as u64 + 40;

    fn id(number: u64) -> String {
        // Ids do not follow the order in which members come.
        format!("U{:04}", number * 7919 % 10_000)
    }

    /// Folds the comings and goings of members of one group: each comes and goes up to three times,
    /// some more stay away, and the moments have nothing to do with the order of records.
    fn views() -> Views {
        let mut views = Views::new();
        for turn in 0..6 {
            for number in (0..MEMBERS).filter(|number| turn < number % 7) {
                let seq = views.head() + 1;
                let user = id(number);
                let user = UserData {
                    id: &user,
                    directory: Some("D"),
                    organization: None,
                    active: true,
                    roles: "",
                    email: None,
                    idp_id: None,
                };
                let group = GroupData {
                    id: "G",
                    name: "G",
                    compared_name: None,
                    directory: Some("D"),
                    organization: None,
                };
                let added = turn.is_multiple_of(2);
                let data =
                    MembershipData { added, directory: "D", organization: None, user, group };
                let kind = if added { EventType::MemberAdded } else { EventType::MemberRemoved };
                views.apply(&Entry {
                    unusable_at_first: None,
                    seq,
                    recorded_at: 1_000_000 + seq as Millis,
                    occurred_at: (100 * turn + number * 37 % 90) as Millis,
                    claimed_at: None,
                    updated_at: None,
                    observed_at: None,
                    event_id: &format!("event_{seq:05}"),
                    event_type: kind.name(),
                    status: RecordStatus::Counts,
                    former_directories: &[],
                    former_organizations: &[],
                    provenance: Provenance::Source,
                    fact: Fact::Membership(data),
                });
            }
        }
        views
    }

    /// Reads a part of a group's list to its end, a page of `limit` periods at a time.
    fn pages(
        seen: &Seen<'_>,
        cut: Cut,
        after: Option<(String, Millis)>,
        descending: bool,
        limit: usize,
    ) -> Vec<MembershipPeriod> {
        let (mut all, mut after) = (Vec::new(), after);
        loop {
            let start = after.as_ref().map(|(user, from)| (user.as_str(), *from));
            let page = seen.membership_periods_of_group("G", cut, start, descending, limit);
            let (found, next) = page.unwrap();
            assert!(found.len() <= limit);
            all.extend(found);
            after = next;
            if after.is_none() {
                return all;
            }
        }
    }

    #[test]
    fn pages_of_a_group_are_the_periods_of_its_members_in_either_direction() {
        let views = views();
        let seen = views.seen_by(&Sight::All);
        for cut in [Cut::LATEST, Cut { as_of: 250, known_at: 600 }] {
            let mut users: Vec<String> = (0..MEMBERS).map(id).collect();
            users.sort();
            let of_user = |user: &String| seen.membership_periods_of_user(user, cut);
            let whole: Vec<MembershipPeriod> = users.iter().filter_map(of_user).flatten().collect();
            assert!(whole.len() > 300, "{}", whole.len());
            let place = |period: &MembershipPeriod| (period.user.clone(), period.from);
            let mut starts: Vec<Option<(String, Millis)>> = vec![None];
            starts.extend([0, 1, 150, 299].map(|at| Some(place(&whole[at]))));
            starts.push(Some(("U5".to_owned(), 250)));
            for (start, limit) in
                starts.into_iter().flat_map(|start| [3, 50].map(|limit| (start.clone(), limit)))
            {
                for descending in [false, true] {
                    let is_behind = |period: &&MembershipPeriod| {
                        start.as_ref().is_none_or(|start| {
                            let place = place(period);
                            if descending { place < *start } else { place > *start }
                        })
                    };
                    let mut wanted: Vec<&MembershipPeriod> =
                        whole.iter().filter(is_behind).collect();
                    if descending {
                        wanted.reverse();
                    }
                    let found = pages(&seen, cut, start.clone(), descending, limit);
                    let found: Vec<&MembershipPeriod> = found.iter().collect();
                    assert_eq!(found, wanted, "{start:?} {descending}");
                }
            }
        }
    }
}
