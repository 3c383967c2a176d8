//! Who has which role, and why.

use std::collections::{BTreeMap, BTreeSet};

use crate::ask::causes::{Cause, runs};
use crate::ground::order::{Cut, Millis};
use crate::ground::page::resolve;
use crate::ground::symbols::{NO_SYM, Sym};
use crate::state::compiled::{Compiled, DEFAULT, Rank, RoleGround};
use crate::state::entities::EntityKind;
use crate::state::entities::EntityVersion;
use crate::views::Views;

/// How many candidates are looked at in one go.
const CANDIDATES_MAX: usize = 2048;

/// Sixty-four of it stand behind every role.
const LAST_ROLE: &str = "\u{10ffff}";

/// Why somebody has a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because {
    /// By which rule, and through what.
    pub ground: Ground,
    /// Since when it holds without a break.
    pub since: Millis,
    /// What made it so.
    pub cause: Cause,
}

/// A role that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Who.
    pub user: String,
    /// In which directory.
    pub directory: String,
    /// That directory's organization; empty while unknown.
    pub organization: String,
    /// Which role.
    pub role: String,
    /// Since when without a break, for whatever reason.
    pub since: Millis,
    /// Every reason, in order of rules and groups.
    pub because: Vec<Because>,
}

/// Some assignments, and the user and role to go on behind, if there may be more.
pub type Assignments = (Vec<Assignment>, Option<(String, String)>);

/// Which assignments a list is narrowed to; all that are given must fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct AssignmentFilter<'a> {
    /// Of this user.
    pub user: Option<&'a str>,
    /// Of this role.
    pub role: Option<&'a str>,
    /// For which this group is a reason.
    pub group: Option<&'a str>,
    /// Of users of this directory.
    pub directory: Option<&'a str>,
    /// Of users of this organization's directories.
    pub organization: Option<&'a str>,
}

/// Why a role is held, gained or lost, without its time; ordered by rule and group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ground {
    /// The rule's place in its mapping, from 0; `None` for a default.
    pub rule: Option<usize>,
    /// The group through which it matches, by id and name.
    pub group: Option<(String, String)>,
    /// The path of the attribute that matches.
    pub attribute: Option<String>,
}

/// Answering.
impl Views {
    /// Every assignment of a user at the cut, by role.
    fn assignments_of(
        &self,
        user: Sym,
        version: &EntityVersion,
        cut: Cut,
        wanted: impl Fn(&Compiled, &[RoleGround], Rank) -> bool,
    ) -> Vec<Assignment> {
        let Some(mapping) = self.roles.in_force(cut) else { return Vec::new() };
        let mut reasons = self.reasons(mapping, self.roles.attributes(), user, version, cut);
        let roles: BTreeSet<Rank> = reasons
            .iter()
            .map(|reason| reason.role)
            .filter(|role| wanted(mapping, &reasons, *role))
            .collect();
        reasons.retain(|reason| roles.contains(&reason.role));
        // The history is the dear part: only for those who are shown.
        if reasons.is_empty() {
            return Vec::new();
        }
        let roles_over_time = self.roles_over_time(user, cut);
        let (runs, role_runs) =
            (runs(&roles_over_time, |key| key), runs(&roles_over_time, |key| key.role));
        let scope = self.scope(version, cut);
        let mut assignments: BTreeMap<&str, Assignment> = BTreeMap::new();
        for reason in &reasons {
            let key = mapping.key(*reason);
            let Some(since) = runs.get(&key).copied() else { continue };
            let Some(cause) = self.cause(user, key, since, cut).map(|turn| self.cause_of(turn))
            else {
                continue;
            };
            let role = mapping.role(reason.role);
            let assignment = assignments.entry(role).or_insert_with(|| Assignment {
                user: self.users.id(user).to_owned(),
                directory: scope.directory.to_owned(),
                organization: scope.organization.to_owned(),
                role: role.to_owned(),
                since: role_runs.get(&key.role).copied().unwrap_or(since),
                because: Vec::new(),
            });
            assignment.because.push(Because {
                ground: self.ground(mapping, *reason, cut),
                since,
                cause,
            });
        }
        for assignment in assignments.values_mut() {
            assignment.because.sort_by(|a, b| a.ground.cmp(&b.ground));
        }
        assignments.into_values().collect()
    }

    pub(crate) fn ground(&self, mapping: &Compiled, reason: RoleGround, cut: Cut) -> Ground {
        let group = (reason.group != NO_SYM).then(|| {
            let name = self
                .alive(EntityKind::Group, reason.group, cut)
                .map_or("", |version| self.texts.text(version.label));
            (self.groups.id(reason.group).to_owned(), name.to_owned())
        });
        let rule = (reason.rule != DEFAULT).then_some(usize::from(reason.rule));
        Ground { rule, group, attribute: mapping.attribute(reason.rule).map(str::to_owned) }
    }

    /// Some assignments, by the user's id and the role's name, behind a place in that order; and
    /// the place to go on behind, if there may be more. It may find none and still say where to go
    /// on.
    ///
    /// Looks at no more than some thousand candidates of the narrowest index, and works out the
    /// history of roles of those whom it gives.
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
        let directory = resolve(filter.directory, |id| self.directories.find(id))?;
        let organization = resolve(filter.organization, |id| self.texts.find(id))?;
        let group = resolve(filter.group, |id| self.groups.find(id))?;
        let user = resolve(filter.user, |id| self.users.find(id))?;
        let rank = resolve(filter.role, |role| mapping.rank(role))?;
        let start = after.map(|(user, _)| user);
        // The cursor's user may have more roles behind the cursor.
        let first = start
            .and_then(|start| self.users.find(start))
            .filter(|name| user.is_none_or(|user| user == *name));
        let candidates: Box<dyn Iterator<Item = Sym> + '_> = match (user, group, rank) {
            (Some(user), ..) => {
                let id = self.users.id(user);
                let beyond =
                    start.is_none_or(|start| if descending { id < start } else { id > start });
                Box::new(beyond.then_some(user).into_iter())
            }
            (None, Some(group), _) => self.members_walk(vec![group], cut, start, descending),
            (None, None, Some(rank)) => {
                self.role_walk(mapping, rank, directory, organization, cut, start, descending)
            }
            (None, None, None) => self.users_walk(directory, organization, cut, start, descending),
        };
        let mut items: Vec<Assignment> = Vec::new();
        for (looked_at, name) in first.into_iter().chain(candidates).enumerate() {
            let id = self.users.id(name);
            if looked_at == CANDIDATES_MAX {
                // Before this one, whatever its roles.
                let role = if descending { LAST_ROLE.repeat(64) } else { String::new() };
                return Some((items, Some((id.to_owned(), role))));
            }
            let Some(version) = self.alive(EntityKind::User, name, cut) else { continue };
            let fits = directory.is_none_or(|directory| version.directory == directory)
                && organization.is_none_or(|organization| {
                    self.organization_of(version.directory, cut) == organization
                });
            if !fits {
                continue;
            }
            let wanted = |mapping: &Compiled, reasons: &[RoleGround], role: Rank| {
                let place = (id, mapping.role(role));
                rank.is_none_or(|rank| rank == role)
                    && group.is_none_or(|group| {
                        reasons.iter().any(|reason| reason.role == role && reason.group == group)
                    })
                    && after
                        .is_none_or(|after| if descending { place < after } else { place > after })
            };
            let mut assignments = self.assignments_of(name, version, cut, wanted);
            if descending {
                assignments.reverse();
            }
            items.append(&mut assignments);
            if items.len() >= limit {
                items.truncate(limit);
                let next = items.last().map(|last| (last.user.clone(), last.role.clone()));
                return Some((items, next));
            }
        }
        Some((items, None))
    }
}
