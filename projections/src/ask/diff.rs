//! Differences between two cuts: users, groups, memberships and roles, some at a time.

use core::ops::ControlFlow;
use std::collections::BTreeSet;

use crate::ask::touched::{TouchedSubject, TouchedUsers};
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::page::resolve;
use crate::ground::roster::Roster;
use crate::ground::symbols::Sym;
use crate::ground::walks::{IdWalk, merge, walk_merged, walk_sorted};
use crate::sight::Seen;
use crate::state::entities::EntityKind;
use crate::state::entities::{EntityVersion, Part};

/// One call judges at most this many users, groups and pairs of them.
const CANDIDATES_MAX: usize = 1024;

/// The kind of thing that differs. Differences are in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A user.
    User,
    /// A group.
    Group,
    /// A user's membership of a group.
    Membership,
    /// A role of a user.
    Role,
}

impl Subject {
    /// Every subject, in order.
    pub const ALL: [Subject; 4] =
        [Subject::User, Subject::Group, Subject::Membership, Subject::Role];
}

/// The change from the first cut to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// Present at the second cut only.
    Added,
    /// Present at the first cut only.
    Removed,
    /// A user or group that is present at both cuts but described by another record: the place of
    /// its snapshot at the first and at the second.
    Described([(Seq, Part); 2]),
}

/// Something that differs between two cuts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The thing that differs.
    pub place: DifferencePlace,
    /// The change from the first cut to the second.
    pub differs: DifferenceKind,
}

/// A place in the order of differences; they are compared by its fields, in their order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DifferencePlace {
    /// The kind of thing.
    pub subject: Subject,
    /// The id of the user, or of the group if it is about a group.
    pub id: String,
    /// The group's id for a membership, the role's name for a role, else empty.
    pub of: String,
}

/// Some differences, and the place after which to continue, if there may be more.
pub type Differences = (Vec<Difference>, Option<DifferencePlace>);

/// The users and groups that may differ between two cuts of one moment, or of one state of
/// knowledge, by the records that only one of them sees.
#[derive(Clone, Debug, Default)]
pub struct DiffCandidates {
    /// In order of id.
    users: Vec<Sym>,
    groups: Vec<Sym>,
}

/// A comparison of two cuts in progress, narrowed to a directory if one is given.
struct Walker<'v> {
    /// The only users and groups that may differ, if they are known.
    among: Option<&'v DiffCandidates>,
    views: &'v Seen<'v>,
    cuts: [Cut; 2],
    directory: Option<Sym>,
    limit: usize,
    found: Vec<Difference>,
    judged: usize,
}

impl Seen<'_> {
    /// Returns differences between two cuts, by subject and ids, after a place in that order. With
    /// a directory, only those of users and groups that are in it, at each cut separately. It may
    /// find none and still return a place after which to continue.
    ///
    /// At each cut a caller sees what it would see if it asked at that cut alone.
    ///
    /// Returns at most `limit`, and judges no more than about a thousand candidates, or one user's
    /// memberships; only those of `among`, if that is given.
    pub fn differences(
        &self,
        directory: Option<&str>,
        among: Option<&DiffCandidates>,
        cuts: [Cut; 2],
        after: Option<&DifferencePlace>,
        limit: usize,
    ) -> Differences {
        let seen_at_either = |id| cuts.into_iter().find_map(|cut| self.directory_sym(id, cut));
        let Some(directory) = resolve(directory, seen_at_either) else {
            return (Vec::new(), None);
        };
        let mut walker =
            Walker { among, views: self, cuts, directory, limit, found: Vec::new(), judged: 0 };
        let begin = after.map_or(Subject::User, |after| after.subject);
        for subject in Subject::ALL.into_iter().filter(|subject| *subject >= begin) {
            let after = after
                .filter(|after| after.subject == subject)
                .map(|after| (after.id.as_str(), after.of.as_str()));
            let next = match subject {
                Subject::User => walker.entities(EntityKind::User, subject, after),
                Subject::Group => walker.entities(EntityKind::Group, subject, after),
                Subject::Membership | Subject::Role => walker.of_users(subject, after),
            };
            if next.is_some() {
                return (walker.found, next);
            }
        }
        (walker.found, None)
    }

    /// Returns the users and groups that may differ between two cuts of one moment, or of one state
    /// of knowledge, if `touched` tells of all the records that only one of the cuts sees. `None`
    /// if any may: a directory is among the records, a mapping or the policy counts at one of the
    /// cuts alone, or the caller does not see everything.
    pub fn diff_candidates(
        &self,
        cuts: [Cut; 2],
        touched: &[TouchedUsers],
    ) -> Option<DiffCandidates> {
        let [from, to] = cuts;
        let of_one_moment = from.as_of == to.as_of;
        if self.own().is_some() || !of_one_moment && !self.has_same_settings(cuts) {
            return None;
        }
        let (mut users, mut groups) = (BTreeSet::new(), BTreeSet::new());
        for record in touched {
            match &record.subject {
                TouchedSubject::Nothing => {}
                TouchedSubject::Directory { .. }
                | TouchedSubject::Mapping
                | TouchedSubject::Policy => return None,
                TouchedSubject::User { user, .. } => users.extend(self.users.find(user)),
                TouchedSubject::Group { group, .. } => groups.extend(self.groups.find(group)),
                TouchedSubject::Membership { user, group, .. } => {
                    users.extend(self.users.find(user));
                    groups.extend(self.groups.find(group));
                }
            }
            // Those whose roles it may change.
            if of_one_moment {
                users.extend(self.concerned(record, None).walk);
            }
        }
        let means_otherwise = |group: &&Sym| {
            self.ends_differently(**group, cuts)
                || !of_one_moment && self.is_named_differently(**group, cuts)
        };
        for group in groups.iter().filter(means_otherwise) {
            let roster = self.memberships.of_group(*group).into_iter();
            let pairs = roster.flat_map(|roster| roster.items());
            let pairs = pairs.filter_map(|number| self.memberships.get(number));
            users.extend(pairs.map(|pair| pair.user));
        }
        let (mut users, mut groups) = (Vec::from_iter(users), Vec::from_iter(groups));
        users.sort_by_key(|user| self.users.id(*user));
        groups.sort_by_key(|group| self.groups.id(*group));
        Some(DiffCandidates { users, groups })
    }

    /// Tells if a group, as such, ends its memberships at one of two cuts and not at the other.
    fn ends_differently(&self, group: Sym, cuts: [Cut; 2]) -> bool {
        let [from, to] = cuts.map(|cut| {
            let entity = self.groups.get(group);
            let tombstone = entity.and_then(|entity| entity.tombstones().latest(cut));
            let is_alive = self.alive(EntityKind::Group, group, cut).is_some();
            (is_alive, tombstone.map(|tombstone| tombstone.seq))
        });
        from != to
    }

    /// Tells if a group that is there at two cuts has another name at each.
    fn is_named_differently(&self, group: Sym, cuts: [Cut; 2]) -> bool {
        let [from, to] = cuts.map(|cut| {
            let version = self.alive(EntityKind::Group, group, cut);
            version.map(|version| version.label)
        });
        from != to
    }

    /// Tells if two cuts of one state of knowledge have the same policy and the same mappings, and
    /// if no rule asks for an organization: any record may name that of a directory.
    fn has_same_settings(&self, cuts: [Cut; 2]) -> bool {
        let [from, to] = cuts;
        let (first, last) = (from.as_of.min(to.as_of), from.as_of.max(to.as_of));
        let counts_between = |seq: Seq, effective_from: Millis| {
            seq <= from.known_at && effective_from > first && effective_from <= last
        };
        let mut policies = self.policies.iter();
        let mut mappings = self.roles.known(from.known_at);
        from.known_at == to.known_at
            && !policies.any(|policy| counts_between(policy.seq, policy.effective_from))
            && !mappings.any(|mapping| {
                counts_between(mapping.seq, mapping.effective_from)
                    || mapping.asks_for_organizations()
            })
    }

    fn candidates(
        &self,
        kind: EntityKind,
        directory: Option<Sym>,
        cut: Cut,
        start: Option<&str>,
    ) -> IdWalk<'_> {
        let entities = self.entities(kind);
        let rosters: Vec<&Roster> = match directory {
            Some(directory) => entities.roster(directory).into_iter().collect(),
            None => self.all_rosters(kind),
        };
        walk_merged(&rosters, cut, start, false, |sym| entities.id(sym))
    }
}

impl<'v> Walker<'v> {
    /// Walks over the users or groups that may be present at either cut, in order of id.
    fn candidates(&self, kind: EntityKind, start: Option<&str>) -> IdWalk<'v> {
        let views = self.views;
        if let Some(DiffCandidates { users, groups }) = self.among {
            let among = match kind {
                EntityKind::User => users,
                EntityKind::Group => groups,
            };
            return walk_sorted(among, start, false, move |sym| views.entities(kind).id(sym));
        }
        let walks = self.cuts.map(|cut| views.candidates(kind, self.directory, cut, start));
        merge(walks.into(), false, move |sym| views.entities(kind).id(sym))
    }

    /// Returns the versions of a user or group at the two cuts, if it is present.
    fn there(&self, kind: EntityKind, sym: Sym) -> [Option<&'v EntityVersion>; 2] {
        let within = |version: &&EntityVersion| {
            self.directory.is_none_or(|directory| version.directory == directory)
        };
        self.cuts.map(|cut| self.views.visible(kind, sym, cut).filter(within))
    }

    /// Tells if this call has found or judged enough.
    fn is_full(&self) -> bool {
        self.found.len() >= self.limit || self.judged >= CANDIDATES_MAX
    }

    fn note(&mut self, subject: Subject, id: &str, of: &str, differs: DifferenceKind) {
        self.found.push(Difference { place: place(subject, id, of), differs });
    }

    /// Notes users or groups that differ. Returns the place after which to continue, if there may
    /// be more.
    fn entities(
        &mut self,
        kind: EntityKind,
        subject: Subject,
        after: Option<(&str, &str)>,
    ) -> Option<DifferencePlace> {
        for sym in self.candidates(kind, after.map(|(id, _)| id)) {
            let id = self.views.entities(kind).id(sym);
            self.judged += 1;
            let at = |version: &EntityVersion| (Seq::from(version.place.seq), version.part);
            match self.there(kind, sym) {
                [None, Some(_)] => self.note(subject, id, "", DifferenceKind::Added),
                [Some(_), None] => self.note(subject, id, "", DifferenceKind::Removed),
                [Some(before), Some(after)] if before.place.seq != after.place.seq => {
                    self.note(subject, id, "", DifferenceKind::Described([at(before), at(after)]));
                }
                _ => {}
            }
            if self.is_full() {
                return Some(place(subject, id, ""));
            }
        }
        None
    }

    /// Notes memberships or roles that differ. Returns the place after which to continue, if there
    /// may be more.
    fn of_users(
        &mut self,
        subject: Subject,
        after: Option<(&str, &str)>,
    ) -> Option<DifferencePlace> {
        let views = self.views;
        // The user at whom the last call ended may have more.
        let first = after.and_then(|(id, _)| views.users.find(id));
        let others = self.candidates(EntityKind::User, after.map(|(id, _)| id));
        for user in first.into_iter().chain(others) {
            let id = views.users.id(user);
            if self.is_full() {
                return Some(place(subject, id, ""));
            }
            let behind = after.filter(|(after, _)| *after == id).map_or("", |(_, of)| of);
            if self.of_user(subject, user, behind).is_break() {
                return self.found.last().map(|last| last.place.clone());
            }
        }
        None
    }

    /// Notes the memberships or roles of one user that differ, from behind `behind` on. Breaks if
    /// more are left when the limit is reached.
    fn of_user(&mut self, subject: Subject, user: Sym, behind: &str) -> ControlFlow<()> {
        self.judged += 1;
        let present = self.there(EntityKind::User, user).map(|version| version.is_some());
        if present == [false, false] {
            return ControlFlow::Continue(());
        }
        self.judged += self.views.memberships.of_user(user).len();
        let id = self.views.users.id(user);
        let [from, to] = self.cuts;
        let [was_present, is_present] = present;
        let held = |present: bool, cut: Cut| {
            if present { self.held(subject, user, cut) } else { BTreeSet::new() }
        };
        let (before, after) = (held(was_present, from), held(is_present, to));
        for of in before.symmetric_difference(&after).filter(|of| of.as_str() > behind) {
            if self.found.len() >= self.limit {
                return ControlFlow::Break(());
            }
            let differs =
                if before.contains(of) { DifferenceKind::Removed } else { DifferenceKind::Added };
            self.note(subject, id, of, differs);
        }
        ControlFlow::Continue(())
    }

    /// Returns the groups that a user, alive at the cut, is a member of; or the roles that it
    /// holds.
    fn held(&self, subject: Subject, user: Sym, cut: Cut) -> BTreeSet<String> {
        match subject {
            Subject::Role => self.views.roles_held(user, cut).into_iter().collect(),
            _ => self
                .views
                .groups_of(user, cut)
                .into_iter()
                .filter(|(_, version)| self.views.sees(version.directory, cut))
                .map(|(group, _)| self.views.groups.id(group).to_owned())
                .collect(),
        }
    }
}

fn place(subject: Subject, id: &str, of: &str) -> DifferencePlace {
    DifferencePlace { subject, id: id.to_owned(), of: of.to_owned() }
}
