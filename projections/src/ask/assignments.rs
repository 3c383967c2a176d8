//! Role assignments: each role of each user, and the grounds for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::ask::causes::Cause;
use crate::ground::order::{Cut, Millis};
use crate::ground::page::resolve;
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::walks::{IdWalk, is_beyond};
use crate::sight::Seen;
use crate::state::compiled_mapping::{Compiled, DEFAULT, Rank, RoleGround, RoleGrounds};
use crate::state::entities::{EntityKind, EntityVersion};
use crate::views::Views;

/// The highest number of candidates that one call looks at.
const CANDIDATES_MAX: usize = 2048;

/// Sixty-four of it sort behind every role.
const LAST_ROLE: &str = "\u{10ffff}";

/// One of the grounds on which a role is held, with its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because {
    /// The rule, and the group or attribute through which it matches.
    pub ground: Ground,
    /// Since when it holds without a break.
    pub since: Millis,
    /// The event since which it holds.
    pub cause: Cause,
}

/// A role that a user has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The user.
    pub user: String,
    /// The user's directory.
    pub directory: String,
    /// That directory's organization; empty while unknown.
    pub organization: String,
    /// The role.
    pub role: String,
    /// Since when it is held without a break, on any ground.
    pub since: Millis,
    /// Every ground that is seen, in order of rules and groups.
    pub because: Vec<Because>,
}

/// Some assignments, and the user and role after which to continue, if there may be more.
pub type Assignments = (Vec<Assignment>, Option<(String, String)>);

/// A filter of assignments; all parts that are given must fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct AssignmentFilter<'a> {
    /// Held by this user.
    pub user: Option<&'a str>,
    /// For this role.
    pub role: Option<&'a str>,
    /// With a ground through this group.
    pub group: Option<&'a str>,
    /// Held by users of this directory.
    pub directory: Option<&'a str>,
    /// Held by users of this organization's directories.
    pub organization: Option<&'a str>,
}

/// The ground on which a role is held, gained or lost, without its time; ordered by rule and group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ground {
    /// The rule's place in its mapping, from 0; `None` for a default.
    pub rule: Option<usize>,
    /// The group through which it matches, by id and name.
    pub group: Option<(String, String)>,
    /// The path of the attribute that matches.
    pub attribute: Option<String>,
}

/// An [`AssignmentFilter`] with its ids resolved, and the place after which to begin.
struct AssignmentQuery<'a> {
    user: Option<Sym>,
    rank: Option<Rank>,
    group: Option<Sym>,
    directory: Option<Sym>,
    organization: Option<Sym>,
    /// The user and the role after which to begin.
    after: Option<(&'a str, &'a str)>,
    descending: bool,
}

impl AssignmentQuery<'_> {
    /// Tells if a user's role is wanted, which is held on some of `grounds`.
    fn wants(&self, user: &str, role: &str, rank: Rank, grounds: &[RoleGround]) -> bool {
        self.rank.is_none_or(|wanted| wanted == rank)
            && self.group.is_none_or(|group| {
                grounds.iter().any(|ground| ground.role == rank && ground.group == group)
            })
            && self.after.is_none_or(|after| {
                let place = (user, role);
                if self.descending { place < after } else { place > after }
            })
    }
}

impl Seen<'_> {
    /// Returns some assignments, by the user's id and the role's name, after a place in that order;
    /// and the place after which to continue, if there may be more. It may find none and still
    /// return such a place.
    ///
    /// Looks at no more than some thousand candidates of the narrowest index, and works out the
    /// history of roles for the users that it returns.
    pub fn assignments(
        &self,
        filter: &AssignmentFilter<'_>,
        cut: Cut,
        after: Option<(&str, &str)>,
        descending: bool,
        limit: usize,
    ) -> Assignments {
        self.assignments_found(filter, cut, after, descending, limit).unwrap_or_default()
    }

    fn assignments_found(
        &self,
        filter: &AssignmentFilter<'_>,
        cut: Cut,
        after: Option<(&str, &str)>,
        descending: bool,
        limit: usize,
    ) -> Option<Assignments> {
        let mapping = self.roles.in_force(cut)?;
        let query = AssignmentQuery {
            directory: resolve(filter.directory, |id| self.directory_sym(id, cut))?,
            organization: resolve(filter.organization, |id| self.organization_sym(id))?,
            group: resolve(filter.group, |id| self.entity_sym(EntityKind::Group, id, cut))?,
            user: resolve(filter.user, |id| self.entity_sym(EntityKind::User, id, cut))?,
            rank: resolve(filter.role, |role| mapping.rank(role))?,
            after,
            descending,
        };
        let candidates = self.assignment_candidates(mapping, &query, cut);
        let mut items: Vec<Assignment> = Vec::new();
        for (looked_at, user) in candidates.enumerate() {
            if looked_at == CANDIDATES_MAX {
                return Some((items, Some(self.place_before(user, descending))));
            }
            items.append(&mut self.assignments_of(user, mapping, &query, cut));
            if items.len() >= limit {
                items.truncate(limit);
                let next = items.last().map(|last| (last.user.clone(), last.role.clone()));
                return Some((items, next));
            }
        }
        Some((items, None))
    }

    /// Returns the place before all roles of a user.
    fn place_before(&self, user: Sym, descending: bool) -> (String, String) {
        let role = if descending { LAST_ROLE.repeat(64) } else { String::new() };
        (self.users.id(user).to_owned(), role)
    }

    /// Returns users who may have a wanted assignment, in order of id.
    fn assignment_candidates<'a>(
        &'a self,
        mapping: &'a Compiled,
        query: &AssignmentQuery<'_>,
        cut: Cut,
    ) -> impl Iterator<Item = Sym> + use<'a> {
        let AssignmentQuery { directory, organization, descending, .. } = *query;
        let start = query.after.map(|(user, _)| user);
        // The cursor's user may have more roles after the cursor.
        let first = start
            .and_then(|start| self.users.find(start))
            .filter(|first| query.user.is_none_or(|user| user == *first));
        let others: IdWalk<'a> = match (query.user, query.group, query.rank) {
            (Some(user), ..) => {
                let beyond = is_beyond(self.users.id(user), start, descending);
                Box::new(beyond.then_some(user).into_iter())
            }
            (None, Some(group), _) => self.members_walk(vec![group], cut, start, descending),
            (None, None, Some(rank)) if self.own().is_none() => {
                self.role_walk(mapping, rank, directory, organization, cut, start, descending)
            }
            // Of a role the others would be walked over, too.
            (None, None, _) => self.seen_walk(directory, organization, cut, start, descending),
        };
        first.into_iter().chain(others)
    }

    /// Returns the wanted assignments of one user at the cut, in the query's order.
    fn assignments_of(
        &self,
        user: Sym,
        mapping: &Compiled,
        query: &AssignmentQuery<'_>,
        cut: Cut,
    ) -> Vec<Assignment> {
        let Some(version) = self.visible(EntityKind::User, user, cut) else { return Vec::new() };
        let fits = query.directory.is_none_or(|directory| version.directory == directory)
            && query.organization.is_none_or(|organization| {
                self.organization_of(version.directory, cut) == organization
            });
        if !fits {
            return Vec::new();
        }
        let id = self.users.id(user);
        let mut grounds = self.grounds(mapping, self.roles.attributes(), user, version, cut);
        let wanted: BTreeSet<Rank> = grounds
            .iter()
            .map(|ground| ground.role)
            .filter(|rank| query.wants(id, mapping.role(*rank), *rank, &grounds))
            .collect();
        grounds.retain(|ground| wanted.contains(&ground.role));
        // The history is expensive: only for those who are shown.
        if grounds.is_empty() {
            return Vec::new();
        }
        let mut assignments = self.assignments_on(&grounds, user, version, mapping, cut);
        if query.descending {
            assignments.reverse();
        }
        assignments
    }

    /// Returns the assignments that a user has on some grounds, in order of role.
    fn assignments_on(
        &self,
        grounds: &RoleGrounds,
        user: Sym,
        version: &EntityVersion,
        mapping: &Compiled,
        cut: Cut,
    ) -> Vec<Assignment> {
        let held = self.held_since(user, cut);
        let scope = self.scope(version, cut);
        let mut assignments: BTreeMap<&str, Assignment> = BTreeMap::new();
        for ground in grounds {
            let key = mapping.key(*ground);
            let Some(since) = held.grounds.get(&key).copied() else { continue };
            let Some(trigger) = self.trigger(user, key, since, cut) else { continue };
            let role = mapping.role(ground.role);
            let assignment = assignments.entry(role).or_insert_with(|| Assignment {
                user: self.users.id(user).to_owned(),
                directory: scope.directory.to_owned(),
                organization: scope.organization.to_owned(),
                role: role.to_owned(),
                since: held.roles.get(&key.role).copied().unwrap_or(since),
                because: Vec::new(),
            });
            // The role is held whether or not its group is seen.
            if ground.group != NO_SYM && !self.saw(EntityKind::Group, ground.group, cut.as_of, cut)
            {
                continue;
            }
            let mut cause = self.cause_of(trigger);
            self.conceal(&mut cause);
            let ground = self.ground(mapping, *ground, cut);
            assignment.because.push(Because { ground, since, cause });
        }
        for assignment in assignments.values_mut() {
            assignment.because.sort_by(|a, b| a.ground.cmp(&b.ground));
        }
        assignments.into_values().collect()
    }
}

impl Views {
    /// Writes out a ground, with the group's name at the cut.
    pub(crate) fn ground(&self, mapping: &Compiled, ground: RoleGround, cut: Cut) -> Ground {
        let group = (ground.group != NO_SYM).then(|| {
            let name = self
                .alive(EntityKind::Group, ground.group, cut)
                .map_or("", |version| self.texts.text(version.label));
            (self.groups.id(ground.group).to_owned(), name.to_owned())
        });
        let rule = (ground.rule != DEFAULT).then_some(usize::from(ground.rule));
        Ground { rule, group, attribute: mapping.attribute(ground.rule).map(str::to_owned) }
    }
}
