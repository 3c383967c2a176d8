//! Changes by record: the users whose access or roles differ with and without it.
//!
//! Nothing is stored for this. The knowledge before a record and with it are two cuts in the same
//! timelines; the record says which users it may concern.

use std::collections::BTreeSet;

use crate::ask::access::{AccessLoss, AccessPeriod};
use crate::ask::causes::Cause;
use crate::ground::fact::{Entry, Fact, RecordStatus};
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::state::entities::{EntityKind, EntityVersion};
use crate::views::Views;

/// One call stops after working out this many states, each a user's access and roles at one cut.
const STATES_MAX: usize = 2048;

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
    User { user: String, directory: Option<String> },
    Group { group: String, directory: Option<String> },
    Membership { user: String, group: String, directories: Vec<String> },
    Directory(String),
    AllUsers,
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
}

impl TouchedSubject {
    fn of(entry: &Entry<'_>) -> TouchedSubject {
        if entry.status != RecordStatus::Counts {
            return TouchedSubject::Nothing;
        }
        match &entry.fact {
            Fact::User(_, user) => TouchedSubject::User {
                user: user.id.to_owned(),
                directory: user.directory.map(str::to_owned),
            },
            Fact::Group(_, group) => TouchedSubject::Group {
                group: group.id.to_owned(),
                directory: group.directory.map(str::to_owned),
            },
            Fact::Membership(data) => {
                let directories = [Some(data.directory), data.group.directory, data.user.directory];
                TouchedSubject::Membership {
                    user: data.user.id.to_owned(),
                    group: data.group.id.to_owned(),
                    directories: directories.into_iter().flatten().map(str::to_owned).collect(),
                }
            }
            Fact::Directory { id, .. } => TouchedSubject::Directory((*id).to_owned()),
            Fact::Policy { .. } | Fact::Mapping { .. } => TouchedSubject::AllUsers,
            Fact::Unrelated { .. } | Fact::Unusable(_) => TouchedSubject::Nothing,
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
    /// The number of the user, in order of first appearance in the log.
    pub number: u32,
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
}

/// Some consequences of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessChanges {
    /// In order of the users' numbers, so that each user's are together.
    pub found: Vec<AccessChange>,
    /// The number of the user after whom to continue, if there may be more.
    pub next: Option<u32>,
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
    /// The moments, by either cut, that the user's access and roles depend on.
    moments: Vec<Millis>,
}

impl Views {
    /// Returns the changes that a record made to users whose number is greater than `after`, in
    /// order of their numbers; and the number after which to continue, if there may be more.
    ///
    /// Compares the knowledge up to the record with the knowledge before it. Costs two states for
    /// each user that may be concerned, and if the record came late a state for each later moment
    /// of that user's history; stops after some thousand.
    pub fn access_changes(&self, touched: &TouchedUsers, after: Option<u32>) -> AccessChanges {
        let mut changes = AccessChanges::default();
        let candidates = self.concerned(touched);
        let start = after.map_or(0, |after| candidates.partition_point(|user| *user <= after));
        for user in candidates.iter().skip(start).copied() {
            changes.states += self.changes_of(user, touched, &mut changes.found);
            if changes.states >= STATES_MAX {
                changes.next = Some(user);
                break;
            }
        }
        changes
    }

    fn state(&self, user: Sym, cut: Cut) -> AccessState {
        AccessState {
            access: self.access_basis(user, cut).has_access(),
            roles: self.roles_held(user, cut).into_iter().collect(),
        }
    }

    /// Returns all users whose access or roles may depend on a record, in order of number.
    /// Conservative.
    fn concerned(&self, touched: &TouchedUsers) -> Vec<Sym> {
        let find = |id: &str| self.directories.find(id);
        let mut users: BTreeSet<Sym> = BTreeSet::new();
        let mut named = Vec::new();
        match &touched.subject {
            TouchedSubject::Nothing => {}
            TouchedSubject::AllUsers => return (0..self.users.len() as Sym).collect(),
            TouchedSubject::User { user, directory } => {
                users.extend(self.users.find(user));
                named.extend(directory.as_deref().and_then(find));
            }
            TouchedSubject::Group { group, directory } => {
                let group = self.groups.find(group);
                users.extend(group.into_iter().flat_map(|group| self.ever_members(group)));
                named.extend(directory.as_deref().and_then(find));
            }
            TouchedSubject::Membership { user, group, directories } => {
                users.extend(self.users.find(user));
                let group = self.groups.find(group);
                let changed = group.filter(|group| self.stands_in_anew(*group, touched));
                users.extend(changed.into_iter().flat_map(|group| self.ever_members(group)));
                named.extend(directories.iter().filter_map(|directory| find(directory)));
            }
            TouchedSubject::Directory(directory) => {
                let directory = find(directory);
                users.extend(directory.into_iter().flat_map(|sym| self.ever_concerned_by(sym)));
            }
        }
        // The first event that names a directory with an organization gives it that organization.
        for sym in named {
            let directory = self.directories.get(sym);
            if directory.is_some_and(|directory| directory.named_with().has(touched.seq)) {
                users.extend(self.ever_concerned_by(sym));
            }
        }
        users.into_iter().collect()
    }

    /// Tells if the snapshot of a group in a membership event is a stand-in that differs, for the
    /// other members, from the version before it.
    fn stands_in_anew(&self, group: Sym, touched: &TouchedUsers) -> bool {
        let Some(entity) = self.groups.get(group) else { return false };
        let is_alike = |a: &EntityVersion, b: &EntityVersion| {
            a.label == b.label && a.directory == b.directory && !b.deleted
        };
        let goes_on = |now: &EntityVersion| {
            Seq::from(now.place.seq) == touched.seq
                && entity.version(touched.without()).is_some_and(|before| is_alike(now, before))
        };
        let stands_in =
            entity.stand_ins().iter().any(|version| Seq::from(version.place.seq) == touched.seq);
        stands_in && !entity.version(touched.with()).is_some_and(goes_on)
    }

    fn ever_members(&self, group: Sym) -> impl Iterator<Item = Sym> {
        let numbers =
            self.memberships.of_group(group).into_iter().flat_map(|roster| roster.items());
        numbers.filter_map(|number| self.memberships.get(number)).map(|pair| pair.user)
    }

    /// Returns the users who were ever in a directory, or in a group of it, or added to a group by
    /// an event of it.
    fn ever_concerned_by(&self, directory: Sym) -> BTreeSet<Sym> {
        let listed = |kind| {
            self.entities(kind).roster(directory).into_iter().flat_map(|roster| roster.items())
        };
        let members = listed(EntityKind::Group).flat_map(|group| self.ever_members(group));
        let foreign = self
            .memberships
            .granted_from(directory)
            .filter_map(|number| self.memberships.get(number))
            .map(|pair| pair.user);
        listed(EntityKind::User).chain(members).chain(foreign).collect()
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
            let touched_user = TouchedUser::new(self, user, touched, touched.from);
            let moment = touched_user.first_difference();
            found.extend(moment.map(|moment| touched_user.change(Effect::HistoryChanged, moment)));
            return 2 + 2 * touched_user.moments.len();
        }
        let touched_user = TouchedUser::new(self, user, touched, Millis::MIN);
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
        2 + 2 * touched_user.moments.len()
    }
}

impl<'v> TouchedUser<'v> {
    fn new(
        views: &'v Views,
        user: Sym,
        touched: &'v TouchedUsers,
        from: Millis,
    ) -> TouchedUser<'v> {
        let mut moments = views.moments_since(user, from, touched.with());
        moments.extend(views.moments_since(user, from, touched.without()));
        TouchedUser { views, user, touched, moments: moments.into_iter().collect() }
    }

    fn change(&self, became: Effect, occurred_at: Millis) -> AccessChange {
        let TouchedUser { views, user, .. } = *self;
        let cut = self.touched.with();
        let version = views.placed_version(EntityKind::User, user, cut);
        let directory = version.map_or(NO_SYM, |version| version.directory);
        let organization = version.map_or(NO_SYM, |version| views.shown_organization(version, cut));
        AccessChange {
            number: user,
            user: views.users.id(user).to_owned(),
            directory: views.directories.id(directory).to_owned(),
            organization: views.texts.text(organization).to_owned(),
            became,
            occurred_at,
            cause: views.cause_of_record(self.touched.seq),
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
        self.moments.iter().copied().find(|moment| at(*moment, with) != at(*moment, without))
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
        let moments = self.moments.iter().rev().copied();
        let first = moments.take_while(|moment| held(*moment) == holds).last();
        first
            .filter(|first| holds || self.moments.first() != Some(first))
            .unwrap_or_else(|| self.took_effect())
    }
}
