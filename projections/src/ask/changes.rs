//! Changes by record: the users whose access or roles differ with and without it.
//!
//! Nothing is stored for this. The knowledge before a record and with it are two cuts in the same
//! timelines; the record says which users it may concern.

use core::cell::OnceCell;
use core::cmp::Ordering;
use core::ops::RangeInclusive;
use std::collections::BTreeSet;

use crate::ask::access::{AccessLoss, AccessPeriod};
use crate::ask::causes::Cause;
use crate::ground::fact::{Change, DirectoryChange, Entry, Fact, RecordStatus};
use crate::ground::order::{Cut, Millis, Place, Seq, seq32};
use crate::ground::roster::Roster;
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::timeline::Placed;
use crate::ground::walks::{IdWalk, is_beyond};
use crate::sight::Seen;
use crate::state::compiled_mapping::Compiled;
use crate::state::directories::Directory;
use crate::state::entities::{Entity, EntityKind, EntityVersion, Part};
use crate::views::Views;

/// One call stops after working out this many states, each a user's access and roles at one cut.
const STATES_MAX: usize = 1024;

/// The users that a record may concern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TouchedUsers {
    /// The record.
    pub seq: Seq,
    /// The first moment at which it may change anything.
    from: Millis,
    subject: TouchedSubject,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TouchedSubject {
    Nothing,
    User { user: String, directory: Option<String>, ends: bool },
    Group { group: String, directory: Option<String>, ends: bool },
    Membership { user: String, group: String, directories: Vec<String> },
    Directory { directory: String, ends: bool },
    Mapping,
}

impl TouchedUsers {
    /// Reads the users that a record may concern off its entry.
    pub fn by(entry: &Entry<'_>) -> TouchedUsers {
        let from = match entry.fact {
            Fact::Policy { effective_from, .. } | Fact::Mapping { effective_from, .. }
                if entry.status == RecordStatus::Counts =>
            {
                effective_from
            }
            _ => entry.occurred_at,
        };
        TouchedUsers { seq: entry.seq, from, subject: TouchedSubject::of(entry) }
    }

    /// Returns the cut that knows the record.
    fn with(&self) -> Cut {
        Cut { as_of: Millis::MAX, known_at: self.seq }
    }

    /// Returns the cut that knows only the records before it.
    fn without(&self) -> Cut {
        Cut { as_of: Millis::MAX, known_at: self.seq.saturating_sub(1) }
    }

    /// Tells if a place is that of the record.
    fn made(&self, place: Place) -> bool {
        Seq::from(place.seq) == self.seq
    }
}

impl TouchedSubject {
    fn of(entry: &Entry<'_>) -> TouchedSubject {
        if entry.status != RecordStatus::Counts {
            return TouchedSubject::Nothing;
        }
        match &entry.fact {
            Fact::User(change, user) => TouchedSubject::User {
                user: user.id.to_owned(),
                directory: user.directory.map(str::to_owned),
                ends: *change == Change::Deleted,
            },
            Fact::Group(change, group) => TouchedSubject::Group {
                group: group.id.to_owned(),
                directory: group.directory.map(str::to_owned),
                ends: *change == Change::Deleted,
            },
            Fact::Membership(data) => {
                let directories = [Some(data.directory), data.group.directory, data.user.directory];
                TouchedSubject::Membership {
                    user: data.user.id.to_owned(),
                    group: data.group.id.to_owned(),
                    directories: directories.into_iter().flatten().map(str::to_owned).collect(),
                }
            }
            Fact::Directory { id, change, .. } => TouchedSubject::Directory {
                directory: (*id).to_owned(),
                ends: *change == DirectoryChange::Deleted,
            },
            Fact::Mapping { .. } => TouchedSubject::Mapping,
            // A policy is about inactive users, who have neither access nor roles.
            Fact::Policy { .. } | Fact::Unrelated { .. } | Fact::Unusable(_) => {
                TouchedSubject::Nothing
            }
        }
    }
}

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
    /// The number of states of users that were worked out.
    pub states: usize,
}

/// A user's access and roles at one cut.
#[derive(PartialEq, Eq)]
struct AccessState {
    access: bool,
    roles: BTreeSet<String>,
}

/// One user, and a record that may concern it.
struct TouchedUser<'v> {
    views: &'v Views,
    user: Sym,
    touched: &'v TouchedUsers,
    /// The time in which the moments are looked for.
    stretch: RangeInclusive<Millis>,
    moments: OnceCell<Vec<Millis>>,
}

impl Views {
    fn state(&self, user: Sym, cut: Cut) -> AccessState {
        AccessState {
            access: self.access_basis(user, cut).has_access(),
            roles: self.roles_held(user, cut).into_iter().collect(),
        }
    }

    /// Walks over the users whose access or roles a record may change, in order of id, from the one
    /// after `after` on. Conservative.
    fn concerned<'v>(&'v self, touched: &TouchedUsers, after: Option<&str>) -> IdWalk<'v> {
        let mut walks = Vec::new();
        match &touched.subject {
            TouchedSubject::Nothing => {}
            TouchedSubject::Mapping => match self.groups_given_otherwise(touched) {
                Some(groups) => {
                    let groups = groups.into_iter();
                    walks.extend(groups.filter_map(|sym| self.members(sym, touched.seq, after)));
                }
                None => {
                    let all = self.users.rosters();
                    walks.extend(all.map(|users| self.listed(users, touched.seq, after)));
                }
            },
            TouchedSubject::User { user, directory, .. } => {
                walks.extend(self.one_user(user, after));
                self.add_renamed(directory.as_slice(), touched.seq, after, &mut walks);
            }
            TouchedSubject::Group { group, directory, ends } => {
                let group = self.groups.find(group);
                let turned = group.filter(|group| self.turns_members(*group, touched, *ends));
                walks.extend(turned.and_then(|group| self.members(group, touched.seq, after)));
                self.add_renamed(directory.as_slice(), touched.seq, after, &mut walks);
            }
            TouchedSubject::Membership { user, group, directories } => {
                walks.extend(self.one_user(user, after));
                let group = self.groups.find(group);
                let turned = group.filter(|group| self.stands_in_anew(*group, touched));
                walks.extend(turned.and_then(|group| self.members(group, touched.seq, after)));
                self.add_renamed(directories, touched.seq, after, &mut walks);
            }
            TouchedSubject::Directory { directory, ends } => {
                let directory = self.directories.find(directory);
                let turned = directory.filter(|sym| self.turns_directory(*sym, touched, *ends));
                walks.extend(turned.map(|sym| self.ever_concerned_by(sym, touched.seq, after)));
            }
        }
        self.merged(walks, false)
    }

    fn one_user(&self, user: &str, after: Option<&str>) -> Option<IdWalk<'_>> {
        let user = self.users.find(user).filter(|_| is_beyond(user, after, false));
        user.map(|user| Box::new(core::iter::once(user)) as IdWalk<'_>)
    }

    /// Adds the users of directories of which a record is the first that says an organization, if
    /// rules ask for one.
    fn add_renamed<'v>(
        &'v self,
        directories: &[String],
        seq: Seq,
        after: Option<&str>,
        walks: &mut Vec<IdWalk<'v>>,
    ) {
        if !self.organizations_count(seq) {
            return;
        }
        let is_renamed = |sym: &Sym| {
            self.directories.get(*sym).is_some_and(|directory| directory.named_with().has(seq))
        };
        let named = directories.iter().filter_map(|directory| self.directories.find(directory));
        walks.extend(named.filter(is_renamed).map(|sym| self.ever_concerned_by(sym, seq, after)));
    }

    /// Tells if a rule of any known mapping asks for an organization.
    fn organizations_count(&self, known_at: Seq) -> bool {
        self.roles.known(known_at).any(Compiled::asks_for_organizations)
    }

    /// Tells if a group's own event may change what the group gives its members.
    fn turns_members(&self, group: Sym, touched: &TouchedUsers, ends: bool) -> bool {
        if !self.gives_roles(group, touched.seq) {
            return false;
        }
        let Some(entity) = self.groups.get(group) else { return false };
        let mine = entity.explicit().at(touched.from).find(|version| touched.made(version.place));
        let Some(mine) = mine.filter(|_| !ends) else { return true };
        let then = Cut { as_of: touched.from, ..touched.without() };
        let before = entity.version(then);
        // While there is no version there is no membership either.
        if before.is_some_and(|before| !before.is_like(mine))
            || self.ended_since(before, mine, touched)
        {
            return true;
        }
        // It takes the place of the snapshots after it, if there was nothing of its kind before.
        let replaces = entity.explicit().latest(then).is_none();
        let mut later = entity
            .turns()
            .since(touched.from)
            .filter(|turn| turn.part != Part::Data && touched.with().sees(turn.place));
        replaces && later.any(|turn| !turn.is_like(mine))
    }

    /// Tells if the directory of a record's version was deleted after the version before it, or at
    /// all if there was none.
    fn ended_since(
        &self,
        before: Option<&EntityVersion>,
        mine: &EntityVersion,
        touched: &TouchedUsers,
    ) -> bool {
        let deletion = self
            .directories
            .get(mine.directory)
            .and_then(|directory| directory.deletions().latest(touched.with()));
        deletion.is_some_and(|deletion| {
            before.is_none_or(|before| !self.ids.is_later(before.place, *deletion))
        })
    }

    /// Tells if the snapshot of a group in a membership event is a stand-in that differs, for the
    /// other members, from the version before it.
    fn stands_in_anew(&self, group: Sym, touched: &TouchedUsers) -> bool {
        let Some(entity) = self.groups.get(group) else { return false };
        let mine = entity.stand_ins().at(touched.from).find(|version| touched.made(version.place));
        let Some(mine) = mine else { return false };
        // While there is no version there is no other member either.
        let before = entity.version(Cut { as_of: touched.from, ..touched.without() });
        before.is_some_and(|before| {
            (!before.is_like(mine) || self.ended_since(Some(before), mine, touched))
                && self.gives_roles(group, touched.seq)
        })
    }

    /// Tells if a directory's own event may change anything for its users.
    fn turns_directory(&self, directory: Sym, touched: &TouchedUsers, ends: bool) -> bool {
        let Some(directory) = self.directories.get(directory) else { return false };
        if ends || self.organizations_count(touched.seq) {
            return true;
        }
        let later = directory.events().since(touched.from).map(Placed::place);
        let seen = later.filter(|place| touched.with().sees(*place)).map(|place| place.occurred_at);
        let state = |cut: Cut| (is_open(directory, cut), directory.is_deleted(cut));
        core::iter::once(touched.from).chain(seen).any(|as_of| {
            state(Cut { as_of, ..touched.with() }) != state(Cut { as_of, ..touched.without() })
        })
    }

    /// Returns the groups to which a mapping gives other roles than those that it replaces; `None`
    /// if it may make a difference to any user.
    fn groups_given_otherwise(&self, touched: &TouchedUsers) -> Option<Vec<Sym>> {
        let mine = self.roles.known(touched.seq).last()?;
        let then = Cut { as_of: touched.from, ..touched.without() };
        let first = self.roles.in_force(then)?;
        let known = self.roles.known(then.known_at);
        let later = known.filter(|mapping| mapping.effective_from > touched.from);
        let replaced: Vec<&Compiled> = core::iter::once(first).chain(later).collect();
        if !replaced.iter().all(|other| mine.differs_in_groups_only(other)) {
            return None;
        }
        let is_given_otherwise = |(sym, entity): &(Sym, &Entity)| {
            let id = self.groups.id(*sym);
            replaced.iter().any(|other| {
                entity.turns().iter().any(|turn| !mine.treats_alike(other, id, turn.label))
            })
        };
        Some(self.groups.iter().filter(is_given_otherwise).map(|(sym, _)| sym).collect())
    }

    /// Walks over the members that a group ever had.
    fn members(&self, group: Sym, known_at: Seq, after: Option<&str>) -> Option<IdWalk<'_>> {
        let id = |pair: u32| self.memberships.user_id(self.users.ids(), pair);
        let roster = self.memberships.of_group(group)?;
        let pairs = roster.known(seq32(known_at), &|pair| from_start(id(pair), after));
        let pairs = pairs.filter_map(|number| self.memberships.get(number));
        Some(Box::new(pairs.map(|pair| pair.user)))
    }

    fn listed<'v>(&'v self, users: &'v Roster, known_at: Seq, after: Option<&str>) -> IdWalk<'v> {
        let id = |user: Sym| self.users.id(user);
        Box::new(users.known(seq32(known_at), &|user| from_start(id(user), after)))
    }

    /// Walks over the users who were ever in a directory, and if there are roles over those who
    /// were in a group of it, or added to a group by an event of it.
    fn ever_concerned_by(&self, directory: Sym, known_at: Seq, after: Option<&str>) -> IdWalk<'_> {
        let users = self.users.roster(directory);
        let mut walks: Vec<IdWalk<'_>> =
            users.into_iter().map(|users| self.listed(users, known_at, after)).collect();
        if self.roles.known(known_at).next().is_some() {
            let groups = self.groups.roster(directory);
            let groups = groups
                .into_iter()
                .flat_map(|groups| groups.known(seq32(known_at), &|_| Ordering::Greater))
                .filter(|group| self.gives_roles(*group, known_at));
            walks.extend(groups.filter_map(|group| self.members(group, known_at, after)));
            walks.push(self.foreign(directory, after));
        }
        self.merged(walks, false)
    }

    /// Walks over the users who were added to a group by an event of a directory in which neither
    /// ever was.
    fn foreign(&self, directory: Sym, after: Option<&str>) -> IdWalk<'_> {
        let numbers = self.memberships.granted_from(directory);
        let pairs = numbers.filter_map(|number| self.memberships.get(number));
        let id = |user: Sym| self.users.id(user);
        let mut users: Vec<Sym> =
            pairs.map(|pair| pair.user).filter(|user| is_beyond(id(*user), after, false)).collect();
        users.sort_unstable_by_key(|user| id(*user));
        Box::new(users.into_iter())
    }

    /// Adds the changes that a record made to one user. Returns the number of states worked out.
    fn changes_of(
        &self,
        user: Sym,
        touched: &TouchedUsers,
        found: &mut Vec<AccessChange>,
    ) -> usize {
        let now = self.state(user, touched.with());
        let before = self.state(user, touched.without());
        if now == before {
            // If nothing is known to have happened later, the record can change only the present.
            if self.last_moment(user, touched.with()) <= touched.from {
                return 2;
            }
            let until = self.last_difference(user, touched);
            let touched_user = TouchedUser::new(self, user, touched, touched.from..=until);
            let moment = touched_user.first_difference();
            found.extend(moment.map(|moment| touched_user.change(Effect::HistoryChanged, moment)));
            return touched_user.states();
        }
        let touched_user = TouchedUser::new(self, user, touched, Millis::MIN..=Millis::MAX);
        if now.access != before.access {
            found.push(touched_user.access_change(now.access));
        }
        for role in now.roles.difference(&before.roles) {
            let since = touched_user.unbroken_since(role, true);
            found.push(touched_user.change(Effect::RoleGained(role.clone()), since));
        }
        for role in before.roles.difference(&now.roles) {
            let since = touched_user.unbroken_since(role, false);
            found.push(touched_user.change(Effect::RoleLost(role.clone()), since));
        }
        touched_user.states()
    }

    /// Returns the last moment at which a record may make a difference to a user: a version that is
    /// no deletion makes none once the next one is there.
    fn last_difference(&self, user: Sym, touched: &TouchedUsers) -> Millis {
        match &touched.subject {
            TouchedSubject::User { ends: false, .. } if !self.organizations_count(touched.seq) => {}
            _ => return Millis::MAX,
        }
        let Some(after) = touched.from.checked_add(1) else { return Millis::MAX };
        let later = self.users.get(user).into_iter().flat_map(|user| user.explicit().since(after));
        let mut seen = later.filter(|version| touched.with().sees(version.place));
        seen.next().map_or(Millis::MAX, |next| next.place.occurred_at)
    }
}

impl Seen<'_> {
    /// Returns the changes that a record made to users whose id is greater than `after`, in order
    /// of their ids; and the id after which to continue, if there may be more. Those that are not
    /// seen are among them, so that each has the same number for everyone.
    ///
    /// Compares the knowledge up to the record with the knowledge before it. Costs two states for
    /// each user that may be concerned, and if the record came late a state for each later moment
    /// of that user's history; stops after some hundred.
    pub fn access_changes(&self, touched: &TouchedUsers, after: Option<&str>) -> AccessChanges {
        let mut changes = AccessChanges::default();
        for user in self.concerned(touched, after) {
            changes.states += self.changes_of(user, touched, &mut changes.found);
            if changes.states >= STATES_MAX {
                changes.next = Some(self.users.id(user).to_owned());
                break;
            }
        }
        for change in &mut changes.found {
            self.judge(change, touched.with());
        }
        changes
    }

    /// Decides if a change is seen, and leaves out what is not.
    fn judge(&self, change: &mut AccessChange, cut: Cut) {
        let directory = self.directory_sym(&change.directory, cut);
        change.is_seen = self.own().is_none() || directory.is_some();
        self.conceal(&mut change.cause, cut);
        if self.own().is_some() && self.organization_sym(&change.organization).is_none() {
            let own = directory.map_or(NO_SYM, |directory| self.organization_of(directory, cut));
            change.organization = self.texts.text(own).to_owned();
        }
    }
}

/// Tells if a directory keeps none of its users out. One without events of its own does not.
fn is_open(directory: &Directory, cut: Cut) -> bool {
    directory.is_active(cut) || directory.events().latest(cut).is_none()
}

/// Compares an id with the one after which a walk begins.
fn from_start(id: &str, after: Option<&str>) -> Ordering {
    after.map_or(Ordering::Greater, |after| id.cmp(after))
}

impl<'v> TouchedUser<'v> {
    fn new(
        views: &'v Views,
        user: Sym,
        touched: &'v TouchedUsers,
        stretch: RangeInclusive<Millis>,
    ) -> TouchedUser<'v> {
        TouchedUser { views, user, touched, stretch, moments: OnceCell::new() }
    }

    /// Returns the moments, by either cut, that the user's access and roles depend on.
    fn moments(&self) -> &[Millis] {
        self.moments.get_or_init(|| {
            let moments = |cut| self.views.moments_in(self.user, self.stretch.clone(), cut);
            let mut all = moments(self.touched.with());
            all.extend(moments(self.touched.without()));
            all.into_iter().collect()
        })
    }

    /// Returns about the number of states that were worked out.
    fn states(&self) -> usize {
        2 + 2 * self.moments.get().map_or(0, Vec::len)
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
            became,
            occurred_at,
            cause: views.cause_of_record(self.touched.seq),
            is_seen: true,
        }
    }

    /// Returns the change to access, which is there now or is not.
    fn access_change(&self, has_access: bool) -> AccessChange {
        let cut = self.touched.with();
        let periods = self.views.periods_of_access(self.user, cut);
        if has_access {
            let again = periods.len() > 1;
            let became = if again { Effect::AccessRestored } else { Effect::AccessGranted };
            let from = periods.last().map(|last| last.from);
            return self.change(became, from.unwrap_or_else(|| self.took_effect()));
        }
        if let Some(AccessPeriod { end: Some(end), .. }) = periods.last() {
            return self.change(Effect::AccessEnded(end.reason), end.at);
        }
        let loss = self.views.lack_of_access(self.user, cut).unwrap_or(AccessLoss::UserDeleted);
        self.change(Effect::AccessEnded(loss), self.took_effect())
    }

    /// Returns the first moment at which the user's access or roles differ by the two cuts.
    fn first_difference(&self) -> Option<Millis> {
        let at = |as_of: Millis, cut: Cut| self.views.state(self.user, Cut { as_of, ..cut });
        let (with, without) = (self.touched.with(), self.touched.without());
        self.moments().iter().copied().find(|moment| at(*moment, with) != at(*moment, without))
    }

    fn took_effect(&self) -> Millis {
        self.first_difference().unwrap_or(self.touched.from)
    }

    /// Returns the first moment of the unbroken time up to the end in which the role is held, or is
    /// not.
    fn unbroken_since(&self, role: &str, holds: bool) -> Millis {
        let held = |as_of: Millis| {
            let roles = self.views.roles_held(self.user, Cut { as_of, ..self.touched.with() });
            roles.iter().any(|held| held == role)
        };
        let moments = self.moments().iter().rev().copied();
        let first = moments.take_while(|moment| held(*moment) == holds).last();
        first
            .filter(|first| holds || self.moments().first() != Some(first))
            .unwrap_or_else(|| self.took_effect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::fact::{GroupData, InactiveUsers, MembershipData, UserData};
    use crate::ground::mapping::{GroupPattern, Mapping, Matches, NameText, Rule};
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
                event_id: &format!("event_{seq:05}"),
                event_type: "",
                status: RecordStatus::Counts,
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
                    group: GroupPattern::Name(NameText {
                        written: (*group).to_owned(),
                        compared: (*group).to_owned(),
                    }),
                    roles: vec![(*role).to_owned()],
                },
                directory: None,
                organization: None,
            };
            let mapping = Mapping { rules: rules.iter().map(rule).collect(), ..Mapping::default() };
            self.fold(effective_from, Fact::Mapping { mapping, effective_from })
        }

        /// Returns the changes by a record in pages, and the number of states that they cost.
        fn changes(&self, seq: Seq) -> AccessChanges {
            let mut all = AccessChanges::default();
            loop {
                let touched = &self.touched[seq as usize - 1];
                let page =
                    self.views.seen_by(&Sight::All).access_changes(touched, all.next.as_deref());
                all.found.extend(page.found);
                all.states += page.states;
                all.next = page.next;
                if all.next.is_none() {
                    return all;
                }
            }
        }

        fn cost(&self, seq: Seq) -> (usize, usize) {
            let changes = self.changes(seq);
            (changes.found.len(), changes.states)
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
            let (found, states) = story.cost(renamed);
            assert_eq!(found, changed, "{rules:?}");
            assert!(states <= 100 * changed, "{rules:?}: {states} states");
        }
    }

    #[test]
    fn each_new_member_costs_the_same_however_large_the_group_is() {
        let story = synced(&[("Design", "designer")]);
        for seq in 2..=1 + MEMBERS as Seq {
            let (found, states) = story.cost(seq);
            // Access and the role.
            assert_eq!(found, 2);
            assert!(states <= 20, "record {seq} costs {states} states");
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
        let (found, states) = story.cost(same);
        assert!(found == 0 && states <= 10, "{found} changes, {states} states");
        let (found, states) = story.cost(other);
        assert!(found == 1 && states <= 10, "{found} changes, {states} states");
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
}
