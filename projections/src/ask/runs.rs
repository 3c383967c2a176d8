//! Runs: the stretches of time in which something holds, found from the moments at which it may
//! change, some at a time.
//!
//! A page of a long history costs the moments of that page, and not the whole history.

use core::iter::Peekable;

use smallvec::SmallVec;

use crate::ground::order::{Cut, Millis, Place};
use crate::ground::symbols::Sym;
use crate::ground::timeline::{MomentWalk, Placed, Respects};
use crate::state::entities::{Entity, EntityVersion};
use crate::views::Views;

/// A part of a list of periods, which are in order of their beginnings.
#[derive(Clone, Copy, Debug)]
pub struct PeriodsWindow<'a> {
    /// The beginning and the name of the period behind which to begin; `None` for the list's end.
    pub start: Option<(Millis, &'a str)>,
    /// From the last to the first.
    pub descending: bool,
    /// The highest number of periods.
    pub limit: usize,
}

impl PeriodsWindow<'_> {
    /// The whole list.
    pub const ALL: PeriodsWindow<'static> =
        PeriodsWindow { start: None, descending: false, limit: usize::MAX };

    /// Tells if a period is behind the start.
    pub(crate) fn has(&self, from: Millis, name: &str) -> bool {
        self.start.is_none_or(|start| {
            let place = (from, name);
            if self.descending { place < start } else { place > start }
        })
    }

    /// Returns the window in the moments at which periods begin, for those with a name.
    pub(crate) fn beginnings(&self, name: &str) -> RunsWindow {
        let Some((moment, _)) = self.start else {
            let first = if self.descending { Millis::MAX } else { Millis::MIN };
            return RunsWindow { first, descending: self.descending };
        };
        let first = match (self.has(moment, name), self.descending) {
            (true, _) => moment,
            (false, true) => moment.saturating_sub(1),
            (false, false) => moment.saturating_add(1),
        };
        RunsWindow { first, descending: self.descending }
    }
}

/// The first moment at which a wanted run may begin, and the direction from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunsWindow {
    pub(crate) first: Millis,
    pub(crate) descending: bool,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its first moment.
    pub(crate) from: Millis,
    /// The first moment after it; `None` if it lasts.
    pub(crate) until: Option<Millis>,
}

/// Moments of several walks in one order, each once.
pub(crate) struct MergedMoments<'a> {
    walks: SmallVec<[Peekable<MomentWalk<'a>>; 8]>,
    descending: bool,
}

impl<'a> MergedMoments<'a> {
    /// Merges walks, all in the same order.
    pub(crate) fn of(
        walks: impl IntoIterator<Item = MomentWalk<'a>>,
        descending: bool,
    ) -> MergedMoments<'a> {
        let walks = walks.into_iter().map(Iterator::peekable).collect();
        MergedMoments { walks, descending }
    }

    /// Adds those of some moments, in any order, that lie within the cut from a moment on, or back
    /// from it.
    pub(crate) fn add(&mut self, moments: impl Iterator<Item = Millis>, from: Millis, cut: Cut) {
        let within =
            if self.descending { Millis::MIN..=from.min(cut.as_of) } else { from..=cut.as_of };
        let mut moments: Vec<Millis> = moments.filter(|at| within.contains(at)).collect();
        moments.sort_unstable();
        if self.descending {
            moments.reverse();
        }
        let walk: MomentWalk<'a> = Box::new(moments.into_iter());
        self.walks.push(walk.peekable());
    }
}

impl Iterator for MergedMoments<'_> {
    type Item = Millis;

    fn next(&mut self) -> Option<Millis> {
        let heads = self.walks.iter_mut().filter_map(|walk| walk.peek().copied());
        let next = if self.descending { heads.max() } else { heads.min() }?;
        for walk in &mut self.walks {
            while walk.next_if_eq(&next).is_some() {}
        }
        Some(next)
    }
}

/// Iterates over the runs in which something holds, from a window on. `moments` gives the moments
/// at which that may change, from one on: up to the cut, or back.
pub(crate) fn runs<'a>(
    window: RunsWindow,
    moments: impl Fn(Millis, bool) -> MergedMoments<'a>,
    holds: impl Fn(Millis) -> bool + 'a,
) -> Box<dyn Iterator<Item = Run> + 'a> {
    let RunsWindow { first, descending } = window;
    if descending {
        return runs_back(first, &moments, holds);
    }
    let mut moments = moments(first, false);
    let mut held = first > Millis::MIN && holds(first - 1);
    let mut next_turn = move |to: bool| {
        moments.find(|moment| {
            let had = core::mem::replace(&mut held, holds(*moment));
            had != held && held == to
        })
    };
    Box::new(core::iter::from_fn(move || {
        let from = next_turn(true)?;
        Some(Run { from, until: next_turn(false) })
    }))
}

/// Iterates over the runs that begin at a moment or before it, the last first.
fn runs_back<'a>(
    last: Millis,
    moments: &impl Fn(Millis, bool) -> MergedMoments<'a>,
    holds: impl Fn(Millis) -> bool + 'a,
) -> Box<dyn Iterator<Item = Run> + 'a> {
    // The run at the moment may end after it.
    let mut until = if last < Millis::MAX && holds(last) {
        moments(last + 1, false).find(|moment| !holds(*moment))
    } else {
        None
    };
    let mut moments = moments(last, true).peekable();
    Box::new(core::iter::from_fn(move || {
        while let Some(moment) = moments.next() {
            if !holds(moment) {
                until = Some(moment);
            } else if moments.peek().is_none_or(|before| !holds(*before)) {
                return Some(Run { from: moment, until });
            }
        }
        None
    }))
}

/// The parts of a user's or a group's versions on which something depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    /// The existence.
    Presence,
    /// The existence, and the state of a user.
    Access,
    /// Both, and the label: the name of a group, or the roles that the source gives a user.
    Label,
}

impl Concern {
    /// Returns the respects in which versions say the same if they are alike.
    fn respects(self) -> Respects {
        let access = EntityVersion::EXISTENCE | EntityVersion::STATE;
        match self {
            Concern::Presence => EntityVersion::EXISTENCE,
            Concern::Access => access,
            Concern::Label => access | EntityVersion::LABEL,
        }
    }
}

/// Walks over the moments of some versions, in order, without those that repeat the one before
/// them.
pub(crate) fn changes<'a>(
    versions: impl Iterator<Item = &'a EntityVersion> + 'a,
    repeats: impl Fn(&EntityVersion, &EntityVersion) -> bool + 'a,
) -> MomentWalk<'a> {
    let mut before = None;
    let is_change = move |version: &&'a EntityVersion| {
        let before = before.replace(*version);
        before.is_none_or(|before| !repeats(before, version))
    };
    Box::new(versions.filter(is_change).map(|version| version.place.occurred_at))
}

/// Does the same for versions in the opposite order.
pub(crate) fn changes_back<'a>(
    versions: impl Iterator<Item = &'a EntityVersion> + 'a,
    repeats: impl Fn(&EntityVersion, &EntityVersion) -> bool + 'a,
) -> MomentWalk<'a> {
    let mut versions = versions.peekable();
    Box::new(core::iter::from_fn(move || {
        loop {
            let version = versions.next()?;
            if versions.peek().is_none_or(|before| !repeats(before, version)) {
                return Some(version.place.occurred_at);
            }
        }
    }))
}

impl Views {
    /// Returns walks over the moments, from one on or back from it, at which an entity may begin
    /// to mean something else for a concern: its turns, and the versions that may bring it back
    /// after its directory was deleted.
    ///
    /// A turn that repeats the seen one before it is passed over: seen versions that differ are
    /// turns, so nothing came between the two, and the snapshots that stand in never come back
    /// once a version of its own is seen.
    pub(crate) fn turn_walks<'a>(
        &'a self,
        entity: &'a Entity,
        concern: Concern,
        from: Millis,
        descending: bool,
        cut: Cut,
    ) -> [MomentWalk<'a>; 2] {
        if !entity.has_turns() {
            return [
                entity.explicit().moments(from, descending, cut),
                entity.stand_ins().moments(from, descending, cut),
            ];
        }
        let mut revivals = self.revivals(entity, cut);
        if descending {
            revivals.retain(|moment| *moment <= from);
            revivals.reverse();
        } else {
            revivals.retain(|moment| *moment >= from);
        }
        let turns = entity.turns().changes(concern.respects(), from, descending, cut);
        [turns, Box::new(revivals.into_iter())]
    }

    /// Returns, in order, the moments of the first versions after each deletion of an entity's
    /// directories.
    fn revivals(&self, entity: &Entity, cut: Cut) -> Vec<Millis> {
        let directories = entity.listed_in().iter().filter_map(|sym| self.directories.get(*sym));
        let deletions = directories.flat_map(|directory| directory.deletions().iter());
        let mut revivals = Vec::new();
        for deletion in deletions.filter(|deletion| cut.sees(**deletion)) {
            let is_next = |place: &Place| self.ids.is_later(*place, *deletion);
            let since = deletion.occurred_at;
            let explicit =
                entity.explicit().seen_since(since, cut).map(Placed::place).find(is_next);
            let stand_in =
                entity.stand_ins().seen_since(since, cut).map(Placed::place).find(is_next);
            let first = [explicit, stand_in].into_iter().flatten();
            revivals.extend(first.map(|place| place.occurred_at));
        }
        revivals.sort_unstable();
        revivals
    }

    /// Returns walks over the moments of directories' events, from one on or back from it.
    pub(crate) fn directory_walks<'a>(
        &'a self,
        directories: impl IntoIterator<Item = Sym>,
        from: Millis,
        descending: bool,
        cut: Cut,
    ) -> Vec<MomentWalk<'a>> {
        let walk = |sym| Some(self.directories.get(sym)?.events().moments(from, descending, cut));
        directories.into_iter().filter_map(walk).collect()
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::ask::touched::TouchedUsers;
    use crate::ground::event_type::EventType;
    use crate::ground::fact::{
        Change, DirectoryChange, Entry, Fact, GroupData, InactiveUsers, MembershipData, Provenance,
        RecordStatus, UserData,
    };
    use crate::ground::mapping::{GroupPattern, Mapping, Matches, Mode, NameText, Rule};
    use crate::ground::order::Seq;
    use crate::sight::{Seen, Sight};
    use crate::state::compiled_mapping::GroundKey;
    use crate::state::entities::EntityKind;

    /// The moments of a history are below this.
    const MOMENTS: Millis = 40;

    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % bound
        }
    }

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

    fn group(id: &'static str) -> GroupData<'static> {
        GroupData { id, name: id, compared_name: None, directory: Some("D"), organization: None }
    }

    fn directory(change: DirectoryChange) -> Fact<'static> {
        Fact::Directory { change, id: "D", organization: None, name: "", domain: None }
    }

    /// The roles that the mappings of the histories give.
    const ROLES: [&str; 3] = ["admin", "editor", "member"];

    /// Returns one of some mappings: those of most histories make the members of group `G` admins
    /// and all other users members; others give each group roles of its own, with a default or
    /// without one, or only the highest.
    fn mapping(dice: &mut Dice) -> Fact<'static> {
        let names =
            |roles: &[&str]| roles.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>();
        let rule = |group: GroupPattern, roles: &[&str]| {
            let matches = Matches::Group { group, roles: names(roles) };
            Arc::new(Rule { matches, directory: None, organization: None })
        };
        let name = |name| GroupPattern::Name(NameText::new(name, name));
        let admins = || rule(name("G"), &["admin"]);
        let (mode, rules, defaults): (Mode, Vec<Arc<Rule>>, &[&str]) = match dice.below(5) {
            0 => (Mode::All, vec![admins(), rule(name("H"), &["editor"])], &[]),
            1 => (Mode::All, vec![admins(), rule(GroupPattern::Id("H".into()), &["admin"])], &[]),
            2 => (Mode::HighestPriority, vec![admins(), rule(name("H"), &["editor"])], &["member"]),
            _ => (Mode::All, vec![admins()], &["member"]),
        };
        let mapping = Mapping {
            mode,
            rules,
            default_roles: names(defaults).into(),
            priority: names(&ROLES).into(),
        };
        Fact::Mapping { mapping, effective_from: dice.below(12) as Millis }
    }

    fn policy(dice: &mut Dice) -> Fact<'static> {
        let inactive_users =
            if dice.below(2) == 0 { InactiveUsers::Delete } else { InactiveUsers::Retain };
        Fact::Policy { inactive_users, effective_from: dice.below(MOMENTS as u64) as Millis }
    }

    fn fact(dice: &mut Dice) -> (EventType, Fact<'static>) {
        let id = if dice.below(2) == 0 { "G" } else { "H" };
        let member = |added| {
            let user = user(true);
            let group = group(id);
            Fact::Membership(MembershipData {
                added,
                directory: "D",
                organization: None,
                user,
                group,
            })
        };
        let renamed = GroupData { name: if dice.below(2) == 0 { "G" } else { "X" }, ..group(id) };
        let sourced = UserData { roles: "admin", ..user(true) };
        match dice.below(30) {
            0 => (EventType::DirectoryDeleted, directory(DirectoryChange::Deleted)),
            1 => (EventType::DirectoryDeactivated, directory(DirectoryChange::Deactivated)),
            2 | 3 => (EventType::DirectoryActivated, directory(DirectoryChange::Activated)),
            4 => (EventType::UserDeleted, Fact::User(Change::Deleted, user(true))),
            5 | 6 => (EventType::UserUpdated, Fact::User(Change::Set, user(false))),
            7 => (EventType::GroupDeleted, Fact::Group(Change::Deleted, group(id))),
            8 | 9 => (EventType::GroupUpdated, Fact::Group(Change::Set, group(id))),
            10..=13 => (EventType::MemberAdded, member(true)),
            14 | 15 => (EventType::MemberRemoved, member(false)),
            16 | 17 => (EventType::MappingSet, mapping(dice)),
            18 => (EventType::PolicySet, policy(dice)),
            19 => (EventType::GroupUpdated, Fact::Group(Change::Set, renamed)),
            20 => (EventType::UserUpdated, Fact::User(Change::Set, sourced)),
            21 | 22 => (EventType::MemberAdded, member(true)),
            23 => (EventType::MemberRemoved, member(false)),
            _ => (EventType::UserUpdated, Fact::User(Change::Set, user(true))),
        }
    }

    /// Does the same for a long history in which one user is in one group nearly all the time, and
    /// joins and leaves another; the one group is renamed again and again, and the user's state
    /// changes as often.
    fn fact_of_steady_group(dice: &mut Dice) -> (EventType, Fact<'static>) {
        let id = if dice.below(8) == 0 { "H" } else { "G" };
        let member = |added| {
            let (user, group) = (user(true), group(id));
            let (directory, organization) = ("D", None);
            Fact::Membership(MembershipData { added, directory, organization, user, group })
        };
        let name = ["H", "X", "Y", "G"][dice.below(4) as usize];
        let renamed = GroupData { name, ..group("H") };
        match dice.below(80) {
            0 => fact(dice),
            1 => (EventType::MappingSet, mapping(dice)),
            2..=30 => (EventType::GroupUpdated, Fact::Group(Change::Set, renamed)),
            31..=55 => (EventType::UserUpdated, Fact::User(Change::Set, user(dice.below(2) == 0))),
            56..=67 => (EventType::MemberAdded, member(true)),
            _ if id == "G" => (EventType::MemberRemoved, member(false)),
            _ => (EventType::MemberAdded, member(true)),
        }
    }

    /// The records of a history, and of one with a steady group.
    const RECORDS: Seq = 40;
    const STEADY_RECORDS: Seq = 400;

    /// Folds a random history of one user, in any order of time.
    fn history(seed: u64) -> Views {
        history_with(seed, |_, _, _| {})
    }

    /// Does the same, and calls `each` with each record after it was folded, and its moment.
    fn history_with(seed: u64, each: impl FnMut(&Views, &TouchedUsers, Millis)) -> Views {
        fold_history(seed, RECORDS, fact, each)
    }

    /// Folds records of some facts at random moments.
    fn fold_history(
        seed: u64,
        records: Seq,
        fact: impl Fn(&mut Dice) -> (EventType, Fact<'static>),
        mut each: impl FnMut(&Views, &TouchedUsers, Millis),
    ) -> Views {
        let (mut views, mut dice) = (Views::new(), Dice(seed));
        for seq in 1..=records {
            let occurred_at = dice.below(MOMENTS as u64) as Millis;
            let (event_type, fact) = fact(&mut dice);
            let entry = Entry {
                unusable_at_first: None,
                seq,
                recorded_at: 1000 + seq as Millis,
                occurred_at,
                claimed_at: None,
                updated_at: None,
                observed_at: None,
                event_id: &format!("event_{seq:05}"),
                event_type: event_type.name(),
                status: RecordStatus::Counts,
                former_directories: &[],
                former_organizations: &[],
                provenance: Provenance::Source,
                fact,
            };
            views.apply(&entry);
            each(&views, &TouchedUsers::by(&entry), occurred_at);
        }
        views
    }

    /// Returns the runs in which something holds, by looking at each moment.
    fn plain_runs(cut: Cut, holds: impl Fn(Millis) -> bool) -> Vec<(Millis, Option<Millis>)> {
        let mut runs: Vec<(Millis, Option<Millis>)> = Vec::new();
        let mut held = false;
        for moment in 0..=cut.as_of.min(MOMENTS) {
            match (core::mem::replace(&mut held, holds(moment)), held) {
                (false, true) => runs.push((moment, None)),
                (true, false) => runs.last_mut().into_iter().for_each(|run| run.1 = Some(moment)),
                _ => {}
            }
        }
        runs
    }

    /// Checks that each page of a list is a part of the whole list.
    fn check_pages<T: PartialEq + core::fmt::Debug>(
        list: impl Fn(PeriodsWindow<'_>) -> Vec<T>,
        place: impl Fn(&T) -> (Millis, String),
    ) {
        let all = list(PeriodsWindow::ALL);
        let mut starts: Vec<Option<(Millis, String)>> = vec![None];
        starts.extend(all.iter().map(&place).map(Some));
        starts.extend([0, 7, 20, 39].map(|moment| Some((moment, "H".to_owned()))));
        for (start, limit) in starts.iter().flat_map(|start| [1, 2, 50].map(|limit| (start, limit)))
        {
            for descending in [false, true] {
                let start = start.as_ref().map(|(from, name)| (*from, name.as_str()));
                let window = PeriodsWindow { start, descending, limit };
                let has = |item: &&T| {
                    let (from, name) = place(item);
                    window.has(from, &name)
                };
                let mut wanted: Vec<&T> = all.iter().filter(has).collect();
                if descending {
                    wanted.reverse();
                }
                wanted.truncate(limit);
                let found = list(window);
                assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{window:?}");
            }
        }
    }

    fn cuts(records: Seq) -> [Cut; 4] {
        [
            Cut::LATEST,
            Cut { as_of: 25, ..Cut::LATEST },
            Cut { as_of: Millis::MAX, known_at: records * 5 / 8 },
            Cut { as_of: 30, known_at: records * 5 / 6 },
        ]
    }

    /// Calls `check` with some short histories and a few with a steady group, each with each of
    /// some cuts.
    fn check_histories(short: u64, steady: u64, mut check: impl FnMut(&Views, Cut, u64)) {
        for seed in 0..short {
            let views = history(seed);
            cuts(RECORDS).into_iter().for_each(|cut| check(&views, cut, seed));
        }
        for seed in 0..steady {
            let views = fold_history(seed, STEADY_RECORDS, fact_of_steady_group, |_, _, _| {});
            cuts(STEADY_RECORDS).into_iter().for_each(|cut| check(&views, cut, seed));
        }
    }

    fn spans<T>(
        periods: &[T],
        span: impl Fn(&T) -> (Millis, Option<Millis>),
    ) -> Vec<(Millis, Option<Millis>)> {
        periods.iter().map(span).collect()
    }

    fn check(seen: &Seen<'_>, cut: Cut) {
        let Some(user) = seen.find(EntityKind::User, "U").filter(|_| seen.knows_user("U", cut))
        else {
            return;
        };
        let then = |as_of| Cut { as_of, ..cut };
        let access = seen.access_periods("U", cut).unwrap();
        assert_eq!(
            spans(&access, |period| (period.from, period.end.as_ref().map(|end| end.at))),
            plain_runs(cut, |as_of| seen.access_basis(user, then(as_of)).has_access())
        );
        check_pages(
            |window| seen.access_periods_in("U", cut, window).unwrap(),
            |period| (period.from, String::new()),
        );
        let roles = seen.role_periods("U", cut).unwrap();
        for role in ROLES {
            let of_role: Vec<_> = roles.iter().filter(|period| period.role == role).collect();
            let has = |as_of: Millis| {
                let is_mapped = seen.roles.in_force(then(as_of)).is_some();
                is_mapped && seen.roles_held(user, then(as_of)).iter().any(|held| held == role)
            };
            let found = spans(&of_role, |period| (period.from, period.until));
            assert_eq!(found, plain_runs(cut, has), "{role}");
        }
        check_pages(
            |window| seen.role_periods_in("U", cut, window).unwrap(),
            |period| (period.from, period.role.clone()),
        );
        let memberships = seen.membership_periods_of_user("U", cut).unwrap();
        for id in ["G", "H"] {
            let of_group: Vec<_> = memberships.iter().filter(|period| period.group == id).collect();
            let group = seen.find(EntityKind::Group, id);
            let pair = group.and_then(|group| seen.memberships.find(user, group));
            let has = |as_of: Millis| {
                pair.is_some_and(|pair| seen.membership_basis(pair, then(as_of)).holds())
            };
            let found = spans(&of_group, |period| (period.from, period.until));
            assert_eq!(found, plain_runs(cut, has), "{id}");
        }
        check_pages(
            |window| seen.membership_periods_in("U", cut, window).unwrap(),
            |period| (period.from, period.group.clone()),
        );
    }

    #[test]
    fn pages_of_periods_are_parts_of_the_list_and_the_list_is_that_of_all_moments() {
        check_histories(110, 3, |views, cut, _| check(&views.seen_by(&Sight::All), cut));
    }

    #[test]
    fn roles_are_held_since_the_first_moment_of_an_unbroken_time() {
        check_histories(150, 20, |views, cut, seed| {
            let seen = views.seen_by(&Sight::All);
            let Some(user) = seen.find(EntityKind::User, "U") else { return };
            let periods = seen.role_periods("U", cut).unwrap_or_default();
            let lasting = periods.iter().filter(|period| period.until.is_none());
            let mut wanted: Vec<(&str, Millis)> =
                lasting.map(|period| (period.role.as_str(), period.from)).collect();
            wanted.sort_unstable();
            let held = seen.held_since(user, cut).roles;
            let mut found: Vec<(&str, Millis)> =
                held.iter().map(|(role, since)| (seen.roles.role(*role), *since)).collect();
            found.sort_unstable();
            assert_eq!(found, wanted, "{seed} {cut:?}");
        });
    }

    #[test]
    fn grounds_are_held_since_the_first_moment_of_an_unbroken_time() {
        check_histories(200, 20, |views, cut, seed| {
            let Some(user) = views.find(EntityKind::User, "U") else { return };
            let last = cut.as_of.min(MOMENTS);
            let has = |ground: &GroundKey, moment: Millis| {
                let then = views.roles_at(user, moment, cut);
                then.is_some_and(|then| then.grounds.contains(ground))
            };
            let now = views.roles_at(user, last, cut).map(|now| now.grounds);
            let wanted: Vec<(GroundKey, Millis)> = now
                .into_iter()
                .flatten()
                .map(|ground| {
                    let past = (0..=last).rev().take_while(|moment| has(&ground, *moment));
                    (ground, past.last().unwrap())
                })
                .collect();
            let held = views.held_since(user, cut).grounds;
            assert_eq!(held.into_iter().collect::<Vec<_>>(), wanted, "{seed} {cut:?}");
        });
    }

    #[test]
    fn a_user_ended_at_the_first_moment_of_the_unbroken_time_without_it() {
        let (mut ended, mut there) = (0, 0);
        check_histories(300, 10, |views, cut, seed| {
            let Some(user) = views.find(EntityKind::User, "U") else { return };
            let last = cut.as_of.min(MOMENTS);
            let named = |moment: Millis| {
                let entity = views.entity(EntityKind::User, user);
                entity.is_some_and(|it| it.version(Cut { as_of: moment, ..cut }).is_some())
            };
            let lacks = |moment: Millis| {
                let then = Cut { as_of: moment, ..cut };
                named(moment) && views.alive(EntityKind::User, user, then).is_none()
            };
            let wanted = (0..=last).rev().take_while(|moment| lacks(*moment)).last();
            let found = views.end_of_user(user, cut).map(|end| end.at);
            assert_eq!(found, wanted, "{seed} {cut:?}");
            *(if wanted.is_some() { &mut ended } else { &mut there }) += 1;
        });
        assert!(ended > 100 && there > 100, "{ended} and {there}");
    }

    /// Checks that the groups from which each mapping gives roles are those that ever had a name, or
    /// have an id, that a rule fits. Returns the numbers of those and of the others.
    fn check_giving(views: &Views) -> (usize, usize) {
        let (mut giving, mut others) = (0, 0);
        for (sym, group) in views.groups.iter() {
            let id = views.groups.id(sym);
            for mapping in views.roles.iter() {
                let fits = |version: &EntityVersion| {
                    !mapping.rules_of_group(id, version.label, views.roles.patterns()).is_empty()
                };
                let gives = group.versions().any(fits);
                assert_eq!(views.gives_roles(sym, &[mapping]), gives, "{id}");
                *(if gives { &mut giving } else { &mut others }) += 1;
            }
        }
        (giving, others)
    }

    #[test]
    fn a_group_gives_roles_if_a_rule_fits_any_name_that_it_ever_had() {
        let (mut giving, mut others) = (0, 0);
        for seed in 0..60 {
            let views = history_with(seed, |views, _, _| {
                let found = check_giving(views);
                (giving, others) = (giving + found.0, others + found.1);
            });
            let mut bytes = Vec::new();
            views.pack(&mut |piece| bytes.extend_from_slice(piece));
            let mut pieces = bytes.chunks(1000);
            let read = Views::unpack(&mut |into| {
                pieces.next().map(|piece| into.extend_from_slice(piece)).is_some()
            });
            check_giving(&read.unwrap());
        }
        assert!(giving > 1000 && others > 1000, "{giving} and {others}");
    }

    #[test]
    fn what_may_differ_between_two_moments_has_all_that_differs() {
        let (mut narrowed, mut different) = (0, 0);
        for seed in 0..150 {
            let mut touched: Vec<(TouchedUsers, Millis)> = Vec::new();
            let views = history_with(seed, |_, record, at| touched.push((record.clone(), at)));
            let seen = views.seen_by(&Sight::All);
            for (first, length) in [(2, 1), (5, 3), (11, 2), (20, 1), (21, 6), (37, 60)] {
                for known_at in [25, Seq::MAX] {
                    let mut cuts = [first, first + length].map(|as_of| Cut { as_of, known_at });
                    let between: Vec<TouchedUsers> = touched
                        .iter()
                        .filter(|(record, moment)| {
                            let happened = first < *moment && *moment <= first + length;
                            happened && record.seq <= known_at
                        })
                        .map(|(record, _)| record.clone())
                        .collect();
                    let seqs: Vec<Seq> = between.iter().map(|record| record.seq).collect();
                    let records = views.records_between(first, first + length, known_at, 40);
                    assert_eq!(records, Some(seqs), "{seed} {cuts:?}");
                    for _ in 0..2 {
                        cuts.reverse();
                        let among = seen.diff_candidates(cuts, &between);
                        let Some(among) = among else { continue };
                        let found = seen.differences(None, Some(&among), cuts, None, usize::MAX);
                        let whole = seen.differences(None, None, cuts, None, usize::MAX);
                        assert_eq!(found, whole, "{seed} {cuts:?}");
                        narrowed += 1;
                        different += usize::from(!whole.0.is_empty());
                    }
                }
            }
        }
        assert!(narrowed > 250 && different > 100, "{narrowed} and {different}");
    }

    #[test]
    fn a_record_that_may_not_turn_anything_changes_nothing() {
        let (mut turning, mut steady) = (0, 0);
        for seed in 0..300 {
            history_with(seed, |views, touched, _| {
                let turns = views.turning_between(touched.seq - 1, touched.seq).next().is_some();
                let changes = views.seen_by(&Sight::All).access_changes(touched, None, usize::MAX);
                assert!(turns || changes.found.is_empty(), "{seed}: {:?}", changes.found);
                *(if turns { &mut turning } else { &mut steady }) += 1;
            });
        }
        assert!(turning > 1000 && steady > 1000, "{turning} and {steady}");
    }
}
