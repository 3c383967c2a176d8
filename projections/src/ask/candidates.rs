//! Walks over the users and groups that a list may show, in order of id.

use core::cmp::Ordering;

use crate::ground::order::Cut;
use crate::ground::roster::Roster;
use crate::ground::symbols::Sym;
use crate::ground::walks::{IdWalk, first_beyond, merge, walk, walk_merged};
use crate::sight::Seen;
use crate::state::compiled_mapping::{Compiled, Rank};
use crate::state::entities::{EntityKind, EntityVersion};
use crate::state::memberships::Pair;
use crate::views::Views;

/// The most users who ever had an attribute that are looked at for one step of a walk.
const HOLDERS_MAX: usize = 1 << 14;

impl Views {
    /// Walks over the users who may be in a directory, in an organization's directories, or in any,
    /// in order of id.
    pub(crate) fn users_walk(
        &self,
        directory: Option<Sym>,
        organization: Option<Sym>,
        cut: Cut,
        start: Option<&str>,
        descending: bool,
    ) -> IdWalk<'_> {
        let rosters = match (directory, organization) {
            (None, None) => self.users.rosters().collect(),
            _ => self.rosters(EntityKind::User, directory, organization),
        };
        walk_merged(&rosters, cut, start, descending, |user| self.users.id(user))
    }

    /// Walks over the members of some groups, in order of id. The groups must be alive; the members
    /// are still to be judged.
    pub(crate) fn members_walk(
        &self,
        groups: Vec<Sym>,
        cut: Cut,
        start: Option<&str>,
        descending: bool,
    ) -> IdWalk<'_> {
        let members = |group: Sym| -> Option<IdWalk<'_>> {
            let roster = self.memberships.of_group(group)?;
            let pairs = walk(roster, cut, start, descending, |pair| {
                self.memberships.user_id(self.users.ids(), pair)
            });
            let holds = move |pair: &&Pair| self.holds_between_living(pair, cut);
            Some(Box::new(pairs.filter_map(move |number| {
                self.memberships.get(number).filter(holds).map(|pair| pair.user)
            })))
        };
        self.merged(groups.into_iter().filter_map(members).collect(), descending)
    }

    /// Merges several walks over users into one, with each user once.
    pub(crate) fn merged<'a>(&'a self, walks: Vec<IdWalk<'a>>, descending: bool) -> IdWalk<'a> {
        merge(walks, descending, |user| self.users.id(user))
    }

    /// Returns the rosters in which everything of a directory, or of an organization's directories,
    /// is listed.
    pub(crate) fn rosters(
        &self,
        kind: EntityKind,
        directory: Option<Sym>,
        organization: Option<Sym>,
    ) -> Vec<&Roster> {
        let roster = |directory| self.entities(kind).roster(directory);
        match (directory, organization) {
            (Some(directory), _) => roster(directory).into_iter().collect(),
            (None, Some(organization)) => {
                let directories =
                    self.organizations.range((organization, 0)..=(organization, Sym::MAX));
                directories.filter_map(|(_, directory)| roster(*directory)).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    /// Walks over the users who may hold a role at the cut, in order of id: members of the groups
    /// that give it, those who ever had an attribute that gives it, and all users if it is a
    /// default. No more than one step may be taken: the walk ends behind as many holders.
    #[allow(clippy::too_many_arguments, reason = "each is one part of the question")]
    pub(crate) fn role_walk<'a>(
        &'a self,
        mapping: &'a Compiled,
        rank: Rank,
        directory: Option<Sym>,
        organization: Option<Sym>,
        cut: Cut,
        start: Option<&str>,
        descending: bool,
    ) -> IdWalk<'a> {
        if mapping.is_default(rank) {
            return self.users_walk(directory, organization, cut, start, descending);
        }
        let gives = |group: &Sym| {
            let Some(version) = self.alive(EntityKind::Group, *group, cut) else { return false };
            mapping
                .rules_of_group(self.groups.id(*group), version.label, self.roles.patterns())
                .into_iter()
                .any(|rule| mapping.gives(rule, rank))
        };
        let attributes = self.roles.attributes();
        let holders = mapping.keys_giving(rank).flat_map(|key| attributes.holders(key));
        // Where those who ever had an attribute are more than those who are there, the others are
        // looked at.
        let most = self.living_users(directory).min(HOLDERS_MAX);
        let holders: Vec<Sym> = holders.take(most + 1).collect();
        if holders.len() > most {
            return self.users_walk(directory, organization, cut, start, descending);
        }
        let rosters = self.groups.rosters();
        let there = rosters.flat_map(|roster| roster.ascending(cut, &|_| Ordering::Greater));
        let mut groups: Vec<Sym> = there.filter(gives).collect();
        groups.sort_unstable();
        groups.dedup();
        let members = self.members_walk(groups, cut, start, descending);
        let holders =
            first_beyond(holders.into_iter(), start, descending, |user| self.users.id(user));
        self.merged(vec![members, Box::new(holders.into_iter())], descending)
    }

    /// Returns the number of users who are in a directory now, or in any.
    fn living_users(&self, directory: Option<Sym>) -> usize {
        let counts = directory.map_or_else(|| self.living.total(), |one| self.living.of(one));
        usize::try_from(counts.active_users + counts.inactive_users).unwrap_or(usize::MAX)
    }

    /// Calls `each` for every user with access at the cut whose id follows `after`, in order of id,
    /// looking at no more than `limit` candidates. Returns the id after which to continue, if there
    /// may be more.
    pub(crate) fn each_with_access(
        &self,
        cut: Cut,
        after: Option<&str>,
        limit: usize,
        mut each: impl FnMut(Sym, &EntityVersion),
    ) -> Option<String> {
        for (looked_at, user) in self.users_walk(None, None, cut, after, false).enumerate() {
            if let Some(version) = self
                .alive(EntityKind::User, user, cut)
                .filter(|version| self.has_access(version, cut))
            {
                each(user, version);
            }
            if looked_at + 1 >= limit {
                return Some(self.users.id(user).to_owned());
            }
        }
        None
    }
}

impl<'v> Seen<'v> {
    /// Returns the rosters in which everything of all directories, or of those that may be seen, is
    /// listed.
    pub(crate) fn all_rosters(&self, kind: EntityKind) -> Vec<&'v Roster> {
        let views = self.views;
        let Some(own) = self.own() else { return views.entities(kind).rosters().collect() };
        let of_one = |organization: &Sym| views.rosters(kind, None, Some(*organization));
        own.iter().flat_map(of_one).collect()
    }

    /// Walks like [`Views::users_walk`], over the users who may be seen.
    pub(crate) fn seen_walk(
        &self,
        directory: Option<Sym>,
        organization: Option<Sym>,
        cut: Cut,
        start: Option<&str>,
        descending: bool,
    ) -> IdWalk<'v> {
        let views = self.views;
        if directory.is_some() || organization.is_some() {
            return views.users_walk(directory, organization, cut, start, descending);
        }
        let rosters = self.all_rosters(EntityKind::User);
        walk_merged(&rosters, cut, start, descending, |user| views.users.id(user))
    }
}
