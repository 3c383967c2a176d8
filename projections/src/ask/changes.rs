//! Changes by record: the users whose access or roles differ with and without it.
//!
//! Nothing is stored for this. The knowledge before a record and with it are two cuts in the same
//! timelines; the record says which users it may concern.

use core::cell::{Cell, OnceCell};

use smallvec::SmallVec;

use crate::ask::access::AccessLoss;
use crate::ask::causes::Cause;
use crate::ask::touched::{TouchedSubject, TouchedUsers};
use crate::ground::order::{Cut, Millis};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::timeline::Placed;
use crate::sight::Seen;
use crate::state::entities::{Entity, EntityKind};
use crate::views::Views;

/// The number of users that are passed over for the cost of one state.
const SKIPPED_PER_STATE: usize = 8;

/// The effect of a record on one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Access, for the first time.
    AccessGranted,
    /// Access again.
    AccessRestored,
    /// No access any more.
    AccessEnded(AccessLoss),
    /// A role held now.
    RoleGained(String),
    /// A role no longer held.
    RoleLost(String),
    /// No change now, but one in the past.
    HistoryChanged,
}

/// One consequence of a record for one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessChange {
    /// The user.
    pub user: String,
    /// The directory of the user's latest version that has one; empty if none.
    pub directory: String,
    /// The organization that this version shows; empty while unknown.
    pub organization: String,
    /// The application user that the user is linked to.
    pub app_user: Option<String>,
    /// The effect.
    pub became: Effect,
    /// When it took effect.
    pub occurred_at: Millis,
    /// The record's event.
    pub cause: Cause,
    /// True if the caller sees the user: its directory is of an organization that the caller sees.
    pub is_seen: bool,
}

/// Some consequences of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessChanges {
    /// In order of the users' ids; of each user first access, then the roles gained, then those
    /// lost, by name.
    pub found: Vec<AccessChange>,
    /// The id of the user after whom to continue, if there may be more.
    pub next: Option<String>,
    /// The work done: for each state of a user at one cut one, and one more for each of its groups.
    pub work: usize,
}

/// A user's access and roles at one cut.
#[derive(PartialEq, Eq)]
struct AccessState<'v> {
    access: bool,
    /// In order of name.
    roles: SmallVec<[&'v str; 4]>,
}

/// A stretch of time up to the end in which something holds.
struct Run {
    /// Its first moment, if there is any.
    first: Option<Millis>,
    /// True if it holds from the first known moment on.
    whole: bool,
}

/// One user, and a record that may concern it.
struct TouchedUser<'v> {
    views: &'v Views,
    user: Sym,
    touched: &'v TouchedUsers,
    /// The cost of one state.
    state_work: usize,
    work: Cell<usize>,
    /// The moments from the record's on.
    later: OnceCell<Vec<Millis>>,
    /// The moments before the record's.
    earlier: OnceCell<Vec<Millis>>,
}

impl Seen<'_> {
    /// Returns the changes that a record made to users whose id is greater than `after`, in order
    /// of their ids; and the id after which to continue, if there may be more. Those that are not
    /// seen are among them, so that each has the same number for everyone.
    ///
    /// Compares the knowledge up to the record with the knowledge before it. Costs two states for
    /// each user that may be concerned, and if the record came late a state for each later moment
    /// of that user's history. Stops behind the user with whom the work reaches `work_max`.
    pub fn access_changes(
        &self,
        touched: &TouchedUsers,
        after: Option<&str>,
        work_max: usize,
    ) -> AccessChanges {
        let mut changes = AccessChanges::default();
        let mut candidates = self.concerned(touched, after);
        let mut skipped = 0;
        while let Some(user) = candidates.walk.next() {
            if candidates.include(self.views, user) {
                let user = TouchedUser::new(self.views, user, touched);
                user.add_changes(&mut changes.found);
                changes.work += user.work.get();
            } else {
                skipped += 1;
            }
            if changes.work + skipped / SKIPPED_PER_STATE >= work_max {
                changes.next = Some(self.users.id(user).to_owned());
                break;
            }
        }
        changes.work += skipped / SKIPPED_PER_STATE;
        for change in &mut changes.found {
            self.judge(change, touched.with());
        }
        changes
    }

    /// Decides if a change is seen, which the user's home says, and leaves out what is not. The
    /// home takes the place of a directory that a deletion names and that is not seen.
    fn judge(&self, change: &mut AccessChange, cut: Cut) {
        if self.own().is_none() {
            return;
        }
        let user = self.entity_sym(EntityKind::User, &change.user, cut);
        let home = user.and_then(|user| self.home(EntityKind::User, user, cut)).unwrap_or(NO_SYM);
        change.is_seen = user.is_some();
        self.conceal(&mut change.cause);
        if self.directory_sym(&change.directory, cut).is_none() {
            change.directory = self.directories.id(home).to_owned();
        }
        if self.organization_sym(&change.organization).is_none() {
            change.organization = self.texts.text(self.organization_of(home, cut)).to_owned();
        }
    }
}

impl Views {
    /// Returns the last moment at which a record may make a difference to a user: a version that is
    /// no deletion makes none once the next one is there, nor does an addition to a group, or a
    /// removal, once the next one is there.
    fn last_difference(&self, user: Sym, touched: &TouchedUsers) -> Millis {
        let Some(after) = touched.from.checked_add(1) else { return Millis::MAX };
        if self.role_sources(touched).ask_for_organizations() {
            return Millis::MAX;
        }
        match &touched.subject {
            TouchedSubject::User { ends: false, .. } => {
                let with = touched.with();
                let user = self.users.get(user);
                let explicit = user.map(|user| user.explicit().seen_since(after, with));
                first_moment(explicit.into_iter().flatten())
            }
            TouchedSubject::Membership { user: named, group, .. } => {
                let group = self.groups.find(group).filter(|_| self.users.id(user) == named);
                let pair = group.and_then(|group| self.memberships.find(user, group));
                let Some(pair) = pair else { return Millis::MAX };
                let ends = [self.users.get(user), self.groups.get(pair.group)];
                let presented = ends.into_iter().flatten().filter(|end| is_presented(end, touched));
                let with = touched.with();
                let snapshots =
                    presented.map(|end| first_moment(end.stand_ins().seen_since(after, with)));
                snapshots.fold(first_moment(pair.grants().seen_since(after, with)), Millis::max)
            }
            _ => Millis::MAX,
        }
    }
}

/// Returns when the first of some versions happened.
fn first_moment<'v, V: Placed + 'v>(mut versions: impl Iterator<Item = &'v V>) -> Millis {
    versions.next().map_or(Millis::MAX, |version| version.place().occurred_at)
}

/// Tells if a record's snapshot of a user or a group is kept as a stand-in.
fn is_presented(entity: &Entity, touched: &TouchedUsers) -> bool {
    entity.stand_ins().at(touched.from).any(|version| touched.made(version.place))
}

impl<'v> TouchedUser<'v> {
    fn new(views: &'v Views, user: Sym, touched: &'v TouchedUsers) -> TouchedUser<'v> {
        TouchedUser {
            views,
            user,
            touched,
            state_work: 1 + views.memberships.of_user(user).len(),
            work: Cell::new(0),
            later: OnceCell::new(),
            earlier: OnceCell::new(),
        }
    }

    fn spend(&self, work: usize) {
        self.work.set(self.work.get() + work);
    }

    /// Adds the changes that the record made to the user.
    fn add_changes(&self, found: &mut Vec<AccessChange>) {
        let (now, before) = (self.state(self.touched.with()), self.state(self.touched.without()));
        if now == before {
            let moment = self.first_past_difference();
            found.extend(moment.map(|moment| self.change(Effect::HistoryChanged, moment)));
            return;
        }
        let at_once = self.takes_effect_at_once();
        if now.access != before.access {
            found.push(self.access_change(now.access, at_once));
        }
        for role in now.roles.iter().filter(|role| !before.roles.contains(role)) {
            let since = if at_once { self.touched.from } else { self.role_since(role) };
            found.push(self.change(Effect::RoleGained((*role).to_owned()), since));
        }
        for role in before.roles.iter().filter(|role| !now.roles.contains(role)) {
            let since = if at_once { self.touched.from } else { self.lacks_role_since(role) };
            found.push(self.change(Effect::RoleLost((*role).to_owned()), since));
        }
    }

    fn state(&self, cut: Cut) -> AccessState<'v> {
        self.spend(self.state_work);
        let basis = self.views.access_basis(self.user, cut);
        let Some(version) = basis.version.filter(|_| basis.has_access()) else {
            return AccessState { access: false, roles: SmallVec::new() };
        };
        let roles = self.views.roles_with_access(self.user, version, cut);
        let mut roles = SmallVec::from_vec(roles);
        roles.sort_unstable();
        AccessState { access: true, roles }
    }

    /// Tells if nothing but the record is known to happen at its moment or later, so that its
    /// changes are those of this moment.
    fn takes_effect_at_once(&self) -> bool {
        let TouchedUsers { seq, from, ref subject } = *self.touched;
        let (views, user) = (self.views, self.user);
        self.spend(self.state_work);
        !views.may_turn_since(user, from, seq.saturating_sub(1))
            && (*subject != TouchedSubject::Mapping || self.is_last_at(from))
    }

    /// Tells if nothing is known to happen after a moment.
    fn is_last_at(&self, moment: Millis) -> bool {
        let after = moment.checked_add(1);
        after.is_none_or(|after| !self.views.may_turn_since(self.user, after, self.touched.seq))
    }

    /// Returns the first moment at which the two histories differ, if they do not at the end.
    fn first_past_difference(&self) -> Option<Millis> {
        // If nothing is known to have happened later, the record can change only the present.
        if self.is_last_at(self.touched.from) {
            return None;
        }
        let until = self.views.last_difference(self.user, self.touched);
        self.first_difference(&self.moments(self.touched.from, until))
    }

    fn first_difference(&self, moments: &[Millis]) -> Option<Millis> {
        let at = |as_of: Millis, cut: Cut| self.state(Cut { as_of, ..cut });
        let (with, without) = (self.touched.with(), self.touched.without());
        moments.iter().copied().find(|moment| at(*moment, with) != at(*moment, without))
    }

    /// Returns the moments of a stretch that the user's access and roles depend on, by either cut.
    fn moments(&self, from: Millis, until: Millis) -> Vec<Millis> {
        let moments = |cut| self.views.moments_in(self.user, from..=until, cut);
        let mut all = moments(self.touched.with());
        // Only these hide something that was known without them.
        if self.touched.subject == TouchedSubject::Mapping
            || self.views.role_sources(self.touched).ask_for_organizations()
        {
            all.extend(moments(self.touched.without()));
            all.sort_unstable();
            all.dedup();
        }
        self.spend(all.len());
        all
    }

    fn later(&self) -> &[Millis] {
        self.later.get_or_init(|| self.moments(self.touched.from, Millis::MAX))
    }

    fn earlier(&self) -> &[Millis] {
        self.earlier.get_or_init(|| match self.touched.from.checked_sub(1) {
            Some(before) => self.moments(Millis::MIN, before),
            None => Vec::new(),
        })
    }

    fn change(&self, became: Effect, occurred_at: Millis) -> AccessChange {
        let (views, user) = (self.views, self.user);
        let cut = self.touched.with();
        let version = views.placed_version(EntityKind::User, user, cut);
        let directory = version.map_or(NO_SYM, |version| version.directory);
        let organization = version.map_or(NO_SYM, |version| views.shown_organization(version, cut));
        AccessChange {
            user: views.users.id(user).to_owned(),
            directory: views.directories.id(directory).to_owned(),
            organization: views.texts.text(organization).to_owned(),
            app_user: views.app_user(views.users.id(user), cut).map(str::to_owned),
            became,
            occurred_at,
            cause: views.cause_of_record(self.touched.seq),
            is_seen: true,
        }
    }

    /// Returns the change to access, which is there now or is not.
    fn access_change(&self, has_access: bool, at_once: bool) -> AccessChange {
        let run = if at_once {
            Run { first: Some(self.touched.from), whole: false }
        } else {
            self.run(|as_of| self.has_access(as_of) == has_access)
        };
        if has_access {
            let since = run.first.unwrap_or_else(|| self.took_effect());
            let again = !run.whole && self.had_access_before(since);
            let became = if again { Effect::AccessRestored } else { Effect::AccessGranted };
            return self.change(became, since);
        }
        let cut = self.touched.with();
        let end = run.first.filter(|_| !run.whole);
        if let Some(end) = end.and_then(|end| self.views.access_end(self.user, end, cut)) {
            return self.change(Effect::AccessEnded(end.reason), end.at);
        }
        let loss = self.views.lack_of_access(self.user, cut).unwrap_or(AccessLoss::UserDeleted);
        self.change(Effect::AccessEnded(loss), self.took_effect())
    }

    fn has_access(&self, as_of: Millis) -> bool {
        self.spend(1);
        self.views.access_basis(self.user, Cut { as_of, ..self.touched.with() }).has_access()
    }

    fn had_access_before(&self, moment: Millis) -> bool {
        let with = self.touched.with();
        let moments = self.views.access_walk(self.user, Millis::MIN, false, with);
        moments.take_while(|other| *other < moment).any(|other| self.has_access(other))
    }

    fn took_effect(&self) -> Millis {
        self.first_difference(self.later()).unwrap_or(self.touched.from)
    }

    /// Returns the stretch of time up to the end in which something holds that holds at the end.
    fn run(&self, holds: impl Fn(Millis) -> bool) -> Run {
        let back = |moments: &[Millis]| {
            moments.iter().rev().copied().take_while(|moment| holds(*moment)).last()
        };
        let later = self.later();
        let first = back(later);
        let before = self.touched.from.checked_sub(1);
        let goes_on = first == later.first().copied() && before.is_none_or(&holds);
        if !goes_on {
            return Run { first, whole: false };
        }
        let earlier = self.earlier();
        let sooner = back(earlier);
        Run { first: sooner.or(first), whole: sooner == earlier.first().copied() }
    }

    fn holds_role(&self, role: &str, as_of: Millis) -> bool {
        let state = self.state(Cut { as_of, ..self.touched.with() });
        state.roles.contains(&role)
    }

    /// Returns the first moment of the unbroken time up to the end in which a role is held.
    fn role_since(&self, role: &str) -> Millis {
        let run = self.run(|as_of| self.holds_role(role, as_of));
        run.first.unwrap_or_else(|| self.took_effect())
    }

    /// Returns the first moment of the unbroken time up to the end in which a role is not held.
    fn lacks_role_since(&self, role: &str) -> Millis {
        let run = self.run(|as_of| !self.holds_role(role, as_of));
        run.first.filter(|_| !run.whole).unwrap_or_else(|| self.took_effect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::fact::{
        Change, DirectoryChange, Entry, Fact, GroupData, InactiveUsers, MembershipData, Provenance,
        RecordStatus, UserData,
    };
    use alloc::sync::Arc;

    use crate::ground::mapping::{GroupPattern, Mapping, Matches, NameText, Rule};
    use crate::ground::order::Seq;
    use crate::sight::Sight;

    const MEMBERS: usize = 300;

    /// Views, and what each record touched.
    #[derive(Default)]
    struct Story {
        views: Views,
        touched: Vec<TouchedUsers>,
    }

    impl Story {
        /// Folds an event of a moment. Returns its seq.
        fn fold(&mut self, occurred_at: Millis, fact: Fact<'_>) -> Seq {
            let seq = self.views.head() + 1;
            let entry = Entry {
                seq,
                recorded_at: 1_000_000 + seq as Millis,
                occurred_at,
                claimed_at: None,
                updated_at: None,
                observed_at: None,
                event_id: &format!("event_{seq:05}"),
                event_type: "",
                status: RecordStatus::Counts,
                former_directories: &[],
                former_organizations: &[],
                provenance: Provenance::Source,
                unusable_at_first: None,
                fact,
            };
            self.touched.push(TouchedUsers::by(&entry));
            self.views.apply(&entry);
            seq
        }

        fn add(&mut self, occurred_at: Millis, user: &str, name: &str) -> Seq {
            let data = MembershipData {
                added: true,
                directory: "d",
                organization: None,
                user: user_data(user),
                group: group_data(name),
            };
            self.fold(occurred_at, Fact::Membership(data))
        }

        fn map(&mut self, effective_from: Millis, rules: &[(&str, &str)]) -> Seq {
            let rule = |(group, role): &(&str, &str)| Rule {
                matches: Matches::Group {
                    group: GroupPattern::Name(NameText::new(group, group)),
                    roles: vec![(*role).to_owned()],
                },
                directory: None,
                organization: None,
            };
            let rules = rules.iter().map(rule).map(Arc::new).collect();
            let mapping = Mapping { rules, ..Mapping::default() };
            self.fold(effective_from, Fact::Mapping { mapping, effective_from })
        }

        /// Returns the changes by a record in pages, and the work that they cost.
        fn changes(&self, seq: Seq) -> AccessChanges {
            let mut all = AccessChanges::default();
            loop {
                let touched = &self.touched[seq as usize - 1];
                let page = self.views.seen_by(&Sight::All).access_changes(
                    touched,
                    all.next.as_deref(),
                    64,
                );
                all.found.extend(page.found);
                all.work += page.work;
                all.next = page.next;
                if all.next.is_none() {
                    return all;
                }
            }
        }

        fn cost(&self, seq: Seq) -> (usize, usize) {
            let changes = self.changes(seq);
            (changes.found.len(), changes.work)
        }
    }

    fn user_data(id: &str) -> UserData<'_> {
        UserData {
            id,
            directory: Some("d"),
            organization: Some("o"),
            active: true,
            roles: "",
            email: None,
            idp_id: None,
        }
    }

    fn group_data(name: &str) -> GroupData<'_> {
        GroupData {
            id: "g",
            name,
            compared_name: None,
            directory: Some("d"),
            organization: Some("o"),
        }
    }

    /// A group that is known from its memberships alone, at the moments 100, 110, 120 and so on.
    fn synced(rules: &[(&str, &str)]) -> Story {
        let mut story = Story::default();
        story.map(0, rules);
        for number in 0..MEMBERS {
            let user = format!("u{number:04}");
            story.add(100 + 10 * number as Millis, &user, "Design");
        }
        story
    }

    #[test]
    fn a_late_event_of_a_known_group_costs_nothing_where_it_says_the_same() {
        for rules in [&[][..], &[("Design", "designer")]] {
            for moment in [50, 105, 1_000_000] {
                let mut story = synced(rules);
                let created = story.fold(moment, Fact::Group(Change::Set, group_data("Design")));
                assert_eq!(story.cost(created), (0, 0), "at {moment}");
            }
        }
    }

    #[test]
    fn a_rename_costs_the_members_only_if_a_rule_fits_one_of_the_names() {
        for (rules, changed) in
            [(("Design", "designer"), MEMBERS), (("Dev", "dev"), MEMBERS), (("Sales", "s"), 0)]
        {
            let mut story = synced(&[rules]);
            let renamed = story.fold(1_000_000, Fact::Group(Change::Set, group_data("Dev")));
            let (found, work) = story.cost(renamed);
            assert_eq!(found, changed, "{rules:?}");
            assert!(work <= 100 * changed, "{rules:?}: {work}");
        }
    }

    #[test]
    fn each_new_member_costs_the_same_however_large_the_group_is() {
        let story = synced(&[("Design", "designer")]);
        for seq in 2..=1 + MEMBERS as Seq {
            let (found, work) = story.cost(seq);
            // Access and the role.
            assert_eq!(found, 2);
            assert!(work <= 20, "record {seq} costs {work}");
        }
    }

    #[test]
    fn a_late_update_costs_the_time_up_to_the_next_one() {
        let mut story = Story::default();
        for moment in 0..500 {
            story.fold(100 + 10 * moment, Fact::User(Change::Set, user_data("u")));
        }
        let inactive = UserData { active: false, ..user_data("u") };
        let same = story.fold(105, Fact::User(Change::Set, user_data("u")));
        let other = story.fold(106, Fact::User(Change::Set, inactive));
        let (found, work) = story.cost(same);
        assert!(found == 0 && work <= 10, "{found} changes, {work}");
        let (found, work) = story.cost(other);
        assert!(found == 1 && work <= 10, "{found} changes, {work}");
    }

    #[test]
    fn what_says_nothing_new_of_a_directory_costs_nothing() {
        let mut story = synced(&[("Design", "designer")]);
        let directory = |change| Fact::Directory {
            change,
            id: "d",
            organization: Some("o"),
            name: "",
            domain: None,
        };
        let activated = story.fold(50, directory(DirectoryChange::Activated));
        let again = story.fold(500_000, directory(DirectoryChange::Activated));
        let ended = story.fold(600_000, directory(DirectoryChange::Deleted));
        let late = story.fold(40, Fact::User(Change::Set, user_data("u9999")));
        assert_eq!([activated, again].map(|seq| story.cost(seq)), [(0, 0), (0, 0)]);
        assert_eq!(story.cost(ended).0, 2 * MEMBERS);
        assert!(story.cost(late).1 <= 20);
    }

    #[test]
    fn a_policy_or_a_mapping_costs_those_whom_it_can_change() {
        let mut story = synced(&[("Sales", "seller")]);
        let policy =
            Fact::Policy { inactive_users: InactiveUsers::Delete, effective_from: 1_000_000 };
        let policy = story.fold(1_000_000, policy);
        let same = story.map(1_000_000, &[("Sales", "closer")]);
        let other = story.map(1_000_000, &[("Sales", "closer"), ("Design", "designer")]);
        assert_eq!([policy, same].map(|seq| story.cost(seq)), [(0, 0), (0, 0)]);
        assert_eq!(story.cost(other).0, MEMBERS);
    }

    #[test]
    fn changes_come_by_user_id_and_kind_whatever_came_first() {
        let mut story = Story::default();
        story.map(0, &[("Design", "b"), ("Design", "a")]);
        for (moment, user) in [(100, "u2"), (110, "u3"), (120, "u1")] {
            story.add(moment, user, "Design");
        }
        let ended = story.fold(
            200,
            Fact::Directory {
                change: DirectoryChange::Deleted,
                id: "d",
                organization: None,
                name: "",
                domain: None,
            },
        );
        let said: Vec<String> = story
            .changes(ended)
            .found
            .iter()
            .map(|change| match &change.became {
                Effect::AccessEnded(_) => format!("{} ended", change.user),
                Effect::RoleLost(role) => format!("{} {role}", change.user),
                other => format!("{} {other:?}", change.user),
            })
            .collect();
        let expected =
            ["u1", "u2", "u3"].map(|user| ["ended", "a", "b"].map(|what| format!("{user} {what}")));
        assert_eq!(said, expected.concat());
    }

    #[test]
    fn mappings_that_are_overridden_cost_a_record_nothing() {
        let cost_of_last = |mappings: usize| {
            let mut story = Story::default();
            for _ in 0..mappings {
                story.map(0, &[("Design", "old"), ("Sales", "seller")]);
            }
            story.map(0, &[("Dev", "dev")]);
            for moment in 100..105 {
                story.add(moment, "u1", "Dev");
            }
            let gives = story.add(110, "u2", "Dev");
            // The group gave a role by the name that it had, and by no mapping in force.
            let renamed = story.fold(120, Fact::Group(Change::Set, group_data("Design")));
            let gives_none = story.add(130, "u2", "Design");
            [gives, renamed, gives_none].map(|seq| story.cost(seq))
        };
        assert_eq!(cost_of_last(40), cost_of_last(1));
        let mut story = Story::default();
        story.map(0, &[("Sales", "seller")]);
        story.add(100, "u", "Design");
        let again = story.add(110, "u", "Design");
        assert_eq!(story.cost(again), (0, 0));
    }

    #[test]
    fn the_first_mapping_costs_those_whom_its_rules_or_the_source_give_roles() {
        let mut story = Story::default();
        for number in 0..MEMBERS as Millis {
            let user = format!("u{number:04}");
            story.fold(100 + number, Fact::User(Change::Set, user_data(&user)));
        }
        story.add(1000, "u0007", "Design");
        let sourced = UserData { roles: "admin", ..user_data("u0009") };
        story.fold(1001, Fact::User(Change::Set, sourced));
        let first = story.map(2000, &[("Design", "designer")]);
        let (found, work) = story.cost(first);
        assert_eq!(found, 2);
        assert!(work <= 20 + MEMBERS / SKIPPED_PER_STATE, "{work}");
    }

    #[test]
    fn those_who_were_gone_before_a_record_cost_nothing() {
        let mut story = synced(&[("Design", "designer")]);
        let deleted = Fact::Directory {
            change: DirectoryChange::Deleted,
            id: "d",
            organization: None,
            name: "",
            domain: None,
        };
        story.fold(500_000, deleted.clone());
        let again = story.fold(600_000, deleted);
        let mapping = story.map(600_000, &[("Design", "drawer")]);
        let named = story.fold(700_000, Fact::Group(Change::Set, group_data("Design")));
        assert_eq!([again, mapping, named].map(|seq| story.cost(seq)), [(0, 0); 3]);
    }

    #[test]
    fn a_late_addition_costs_the_time_up_to_the_next_one() {
        let mut story = synced(&[("Design", "designer")]);
        for number in 0..500 {
            story.add(10_000 + 10 * number, "u0001", "Design");
        }
        let late = story.add(10_005, "u0001", "Design");
        let (found, work) = story.cost(late);
        assert!(found == 0 && work <= 20, "{found} changes, {work}");
    }

    #[test]
    fn a_step_ends_with_the_user_with_whom_it_reaches_its_work() {
        let mut story = synced(&[("Design", "designer")]);
        let other = story.map(1_000_000, &[("Sales", "seller")]);
        let touched = &story.touched[other as usize - 1];
        let whole = story.views.seen_by(&Sight::All).access_changes(touched, None, usize::MAX);
        let one = whole.work / MEMBERS;
        let (mut after, mut steps, mut found) = (None, 0, Vec::new());
        loop {
            let step = story.views.seen_by(&Sight::All).access_changes(
                touched,
                after.as_deref(),
                10 * one,
            );
            assert!(step.work <= 11 * one, "{}", step.work);
            found.extend(step.found);
            steps += 1;
            after = step.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, whole.found);
        assert!((MEMBERS / 11..=MEMBERS / 10 + 1).contains(&steps), "{steps} steps");
    }
}
