//! What each record changed: whose access and roles are others with it than without it.
//!
//! Nothing is kept for this. What was known before a record and with it are two cuts in the same
//! timelines; the record says who may be concerned.

use std::collections::BTreeSet;

use crate::ask::access::{AccessLoss, AccessPeriod};
use crate::ask::causes::Cause;
use crate::ground::fact::{Entry, Fact, RecordStatus};
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::state::entities::EntityKind;
use crate::state::entities::EntityVersion;
use crate::views::Views;

/// How many states of users are worked out in one go: each is a user's access and roles at one cut.
const STATES_MAX: usize = 2048;

/// What a record is about, as far as somebody's access or roles may follow from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The record.
    pub seq: Seq,
    /// From when on it may change anything.
    from: Millis,
    what: TouchedSubject,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TouchedSubject {
    Nobody,
    User { user: String, directory: Option<String> },
    Group { group: String, directory: Option<String> },
    Membership { user: String, group: String, directories: Vec<String> },
    Directory(String),
    Everybody,
}

impl Touched {
    /// Reads it off an entry.
    pub fn by(entry: &Entry<'_>) -> Touched {
        let own = |id: Option<&str>| id.map(str::to_owned);
        let (from, what) = match &entry.fact {
            _ if entry.status != RecordStatus::Counts => {
                (entry.occurred_at, TouchedSubject::Nobody)
            }
            Fact::User(_, user) => (
                entry.occurred_at,
                TouchedSubject::User { user: user.id.to_owned(), directory: own(user.directory) },
            ),
            Fact::Group(_, group) => (
                entry.occurred_at,
                TouchedSubject::Group {
                    group: group.id.to_owned(),
                    directory: own(group.directory),
                },
            ),
            Fact::Membership(data) => {
                let directories = [Some(data.directory), data.group.directory, data.user.directory];
                let directories = directories.into_iter().flatten().map(str::to_owned).collect();
                let (user, group) = (data.user.id.to_owned(), data.group.id.to_owned());
                (entry.occurred_at, TouchedSubject::Membership { user, group, directories })
            }
            Fact::Directory { id, .. } => {
                (entry.occurred_at, TouchedSubject::Directory((*id).to_owned()))
            }
            Fact::Policy { effective_from, .. } | Fact::Mapping { effective_from, .. } => {
                (*effective_from, TouchedSubject::Everybody)
            }
            Fact::Unrelated { .. } | Fact::Unusable(_) => {
                (entry.occurred_at, TouchedSubject::Nobody)
            }
        };
        Touched { seq: entry.seq, from, what }
    }

    /// What is known with the record, and what was without it.
    fn cuts(&self) -> (Cut, Cut) {
        let with = Cut { as_of: Millis::MAX, known_at: self.seq };
        (with, Cut { known_at: self.seq.saturating_sub(1), ..with })
    }
}

/// What became of somebody's access or roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
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
    /// Nothing now, but something in the past.
    HistoryChanged,
}

/// One consequence of a record for one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessChange {
    /// The number of the user, in order of first appearance in the log.
    pub number: u32,
    /// Who.
    pub user: String,
    /// The directory of the user's latest version that has one; empty if none.
    pub directory: String,
    /// The organization that this version shows; empty while unknown.
    pub organization: String,
    /// What.
    pub became: Became,
    /// When it took effect.
    pub occurred_at: Millis,
    /// The record's event.
    pub cause: Cause,
}

/// Some consequences of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessChanges {
    /// By the users' numbers; each user's stand together.
    pub found: Vec<AccessChange>,
    /// The number of the user to go on behind, if there may be more.
    pub next: Option<u32>,
    /// How many states of users were worked out.
    pub states: usize,
}

/// Access and roles at one cut.
#[derive(PartialEq, Eq)]
struct AccessState {
    access: bool,
    roles: BTreeSet<String>,
}

impl Views {
    fn state(&self, user: Sym, cut: Cut) -> AccessState {
        AccessState {
            access: self.access_basis(user, cut).has_access(),
            roles: self.roles_held(user, cut).into_iter().collect(),
        }
    }

    /// What a record changed, of the users behind number `after`, in order of their numbers; and
    /// the number to go on behind, if there may be more.
    ///
    /// Compares what is known up to the record with what was known before it. Costs two states for
    /// each user that may be concerned, and where the record came late a state for each later
    /// moment of that user's history; stops after some thousand.
    pub fn access_changes(&self, touched: &Touched, after: Option<u32>) -> AccessChanges {
        let mut changes = AccessChanges::default();
        let candidates = self.concerned(touched);
        let start = after.map_or(0, |after| candidates.partition_point(|name| *name <= after));
        for name in candidates.iter().skip(start).copied() {
            changes.states += self.changes_of(name, touched, &mut changes.found);
            if changes.states >= STATES_MAX {
                changes.next = Some(name);
                break;
            }
        }
        changes
    }

    /// Everybody whose access or roles may hang on a record, in order of number. Conservative.
    fn concerned(&self, touched: &Touched) -> Vec<Sym> {
        let find = |id: &str| self.directories.find(id);
        let mut users: BTreeSet<Sym> = BTreeSet::new();
        let mut named = Vec::new();
        match &touched.what {
            TouchedSubject::Nobody => {}
            TouchedSubject::Everybody => return (0..self.users.len() as Sym).collect(),
            TouchedSubject::User { user, directory } => {
                users.extend(self.users.find(user));
                named.extend(directory.as_deref().and_then(find));
            }
            TouchedSubject::Group { group, directory } => {
                users.extend(
                    self.groups.find(group).into_iter().flat_map(|group| self.ever_members(group)),
                );
                named.extend(directory.as_deref().and_then(find));
            }
            TouchedSubject::Membership { user, group, directories } => {
                users.extend(self.users.find(user));
                let group =
                    self.groups.find(group).filter(|group| self.stands_in_anew(*group, touched));
                users.extend(group.into_iter().flat_map(|group| self.ever_members(group)));
                named.extend(directories.iter().filter_map(|directory| find(directory)));
            }
            TouchedSubject::Directory(directory) => users.extend(
                find(directory).into_iter().flat_map(|directory| self.ever_concerned_by(directory)),
            ),
        }
        // Whoever names a directory first with an organization says whose it is.
        for directory in named {
            if self
                .directories
                .get(directory)
                .is_some_and(|item| item.named_with().has(touched.seq))
            {
                users.extend(self.ever_concerned_by(directory));
            }
        }
        users.into_iter().collect()
    }

    /// Tells if the snapshot of a group in a membership event stands in for a version of it, and
    /// makes a difference to its other members.
    fn stands_in_anew(&self, group: Sym, touched: &Touched) -> bool {
        let Some(entity) = self.groups.get(group) else { return false };
        let (with, without) = touched.cuts();
        let like = |a: &EntityVersion, b: &EntityVersion| {
            a.label == b.label && a.directory == b.directory && !b.deleted
        };
        let goes_on = |now: &EntityVersion| {
            Seq::from(now.place.seq) == touched.seq
                && entity.version(without).is_some_and(|before| like(now, before))
        };
        let stands_in =
            entity.stand_ins().iter().any(|version| Seq::from(version.place.seq) == touched.seq);
        stands_in && !entity.version(with).is_some_and(goes_on)
    }

    fn ever_members(&self, group: Sym) -> impl Iterator<Item = Sym> {
        let numbers =
            self.memberships.of_group(group).into_iter().flat_map(|roster| roster.items());
        numbers.filter_map(|number| self.memberships.get(number)).map(|pair| pair.user)
    }

    /// Returns users who were ever in a directory, or in a group of it, or added to a group by an
    /// event of it.
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

    /// Adds what a record changed for one user. Gives how many states it worked out.
    fn changes_of(&self, user: Sym, touched: &Touched, found: &mut Vec<AccessChange>) -> usize {
        let (with, without) = touched.cuts();
        let (now, before) = (self.state(user, with), self.state(user, without));
        let mut states = 2;
        let mut add = |became: Became, occurred_at: Millis| {
            let (directory, organization) = self.place_of(user, with);
            let cause = self.cause_of_record(touched.seq);
            found.push(AccessChange {
                number: user,
                user: self.users.id(user).to_owned(),
                directory,
                organization,
                became,
                occurred_at,
                cause,
            });
        };
        let since = |from: Millis| -> Vec<Millis> {
            self.moments_since(user, from, with)
                .union(&self.moments_since(user, from, without))
                .copied()
                .collect()
        };
        if now == before {
            // Where nothing is known to have happened later, now is all that a record can change.
            if self.last_moment(user, with) > touched.from {
                let later = since(touched.from);
                states += 2 * later.len();
                if let Some(moment) = self.first_difference(user, &later, with, without) {
                    add(Became::HistoryChanged, moment);
                }
            }
            return states;
        }
        let moments = since(Millis::MIN);
        states += 2 * moments.len();
        let differ =
            || self.first_difference(user, &moments, with, without).unwrap_or(touched.from);
        if now.access != before.access {
            let periods = self.periods_of_access(user, with);
            match (now.access, periods.last()) {
                (true, last) => {
                    let became = if periods.len() > 1 {
                        Became::AccessRestored
                    } else {
                        Became::AccessGranted
                    };
                    add(became, last.map_or_else(differ, |last| last.from));
                }
                (false, Some(AccessPeriod { end: Some(end), .. })) => {
                    add(Became::AccessEnded(end.reason), end.at)
                }
                (false, _) => add(
                    Became::AccessEnded(
                        self.lack_of_access(user, with).unwrap_or(AccessLoss::UserDeleted),
                    ),
                    differ(),
                ),
            }
        }
        let held = |role: &str, moment: Millis| {
            self.roles_held(user, Cut { as_of: moment, ..with }).iter().any(|held| held == role)
        };
        // The first moment of the unbroken time up to the end.
        let unbroken_since = |role: &str, holds: bool| {
            let mut unbroken =
                moments.iter().rev().copied().take_while(|moment| held(role, *moment) == holds);
            let first = unbroken.by_ref().last();
            first.filter(|first| holds || moments.first() != Some(first)).unwrap_or_else(differ)
        };
        for role in now.roles.difference(&before.roles) {
            add(Became::RoleGained(role.clone()), unbroken_since(role, true));
        }
        for role in before.roles.difference(&now.roles) {
            add(Became::RoleLost(role.clone()), unbroken_since(role, false));
        }
        states
    }

    /// Returns the first of some moments at which a user's access or roles are others by one cut
    /// than by the other.
    fn first_difference(
        &self,
        user: Sym,
        moments: &[Millis],
        with: Cut,
        without: Cut,
    ) -> Option<Millis> {
        let at = |moment: Millis, cut: Cut| self.state(user, Cut { as_of: moment, ..cut });
        moments.iter().copied().find(|moment| at(*moment, with) != at(*moment, without))
    }

    /// Returns the directory of a user's latest version that has one, and the organization that
    /// this version shows.
    fn place_of(&self, user: Sym, cut: Cut) -> (String, String) {
        let version = self.placed_version(EntityKind::User, user, cut);
        let organization = version.map_or(NO_SYM, |version| self.shown_organization(version, cut));
        let directory = version.map_or(NO_SYM, |version| version.directory);
        (self.directories.id(directory).to_owned(), self.texts.text(organization).to_owned())
    }
}
