//! Previews: the roles that another mapping would change.

use std::collections::{BTreeMap, BTreeSet};

use crate::ask::assignments::Ground;
use crate::ground::mapping::{Mapping, Matches};
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::symbols::Sym;
use crate::judge::MemberGroups;
use crate::state::attributes::Attributes;
use crate::state::compiled_mapping::{Compiled, DEFAULT, RoleGround};
use crate::state::entities::{EntityKind, EntityVersion, SnapshotRef};
use crate::views::Views;

/// A mapping that is not set, ready to be compared with the one in force.
pub struct Proposal {
    compiled: Compiled,
    attributes: Attributes,
    effective_from: Option<Millis>,
}

/// The changes that a proposal makes for one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// The record that describes the user, and the part of it that does.
    pub snapshot: SnapshotRef,
    /// The user.
    pub user: String,
    /// The user's directory.
    pub directory: String,
    /// Roles gained, with the grounds of the proposal.
    pub gained: Vec<(String, Vec<Ground>)>,
    /// Roles lost, with the grounds of the mapping in force.
    pub lost: Vec<(String, Vec<Ground>)>,
    /// True if only defaults are left.
    pub default_only: bool,
}

/// The changes of a proposal as a whole, for the users counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Users with access.
    pub users: u64,
    /// Those whose roles change.
    pub changed: u64,
    /// Those who gain a role.
    pub gaining: u64,
    /// Those who lose one.
    pub losing: u64,
    /// Those who have only defaults afterwards.
    pub default_only: u64,
    /// By role.
    pub roles: BTreeMap<String, RoleCounts>,
}

/// Users counted by one role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleCounts {
    /// Users who gain it.
    pub gaining: u64,
    /// Users who lose it.
    pub losing: u64,
    /// Users who have it before.
    pub before: u64,
    /// Users who have it after.
    pub after: u64,
}

/// The rules and groups of a proposal that match nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// The rules about groups that fit no group alive at the cut in their scope, from 0.
    pub rules: Vec<usize>,
    /// The number of groups that no rule fits.
    pub groups: u64,
    /// The first of them, by id.
    pub first_groups: Vec<UnmatchedGroup>,
}

/// A group that no rule fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmatchedGroup {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: String,
}

/// One side of a comparison: a mapping, if any, and the attributes that it looks at.
#[derive(Clone, Copy)]
struct Side<'a> {
    mapping: Option<&'a Compiled>,
    attributes: &'a Attributes,
}

/// A user's grounds on one side, by role.
type GroundsByRole<'a> = BTreeMap<&'a str, Vec<RoleGround>>;

impl Views {
    /// Makes a mapping ready to be compared. `attributes` says what the snapshots of all users
    /// have.
    pub fn propose(
        &self,
        mapping: Mapping,
        attributes: Attributes,
        effective_from: Option<Millis>,
    ) -> Proposal {
        Proposal { compiled: self.roles.compile(mapping, &attributes), attributes, effective_from }
    }

    /// Compares a proposal with the mapping in force, for the next users in order of id, looking at
    /// no more than `limit` candidates. Returns the id after which to continue, if there may be
    /// more.
    pub fn compare(
        &self,
        proposal: &Proposal,
        cut: Cut,
        after: Option<&str>,
        limit: usize,
        comparison: &mut Comparison,
        changes: &mut Vec<RoleChange>,
    ) -> Option<String> {
        let old = Side { mapping: self.roles.in_force(cut), attributes: self.roles.attributes() };
        // A mapping that takes effect later than the moment asked about changes nothing then.
        let new = if proposal.effective_from.is_some_and(|moment| moment > cut.as_of) {
            old
        } else {
            Side { mapping: Some(&proposal.compiled), attributes: &proposal.attributes }
        };
        self.each_with_access(cut, after, limit, |user, version| {
            changes.extend(self.compare_user(user, version, old, new, cut, comparison));
        })
    }

    /// Compares and counts one user. Returns the change, if the roles do change.
    fn compare_user(
        &self,
        user: Sym,
        version: &EntityVersion,
        old: Side<'_>,
        new: Side<'_>,
        cut: Cut,
        comparison: &mut Comparison,
    ) -> Option<RoleChange> {
        let groups = self.groups_of(user, cut);
        let before = self.grounds_by_role(old, &groups, version, cut);
        let after = self.grounds_by_role(new, &groups, version, cut);
        let change = RoleChange {
            snapshot: SnapshotRef { seq: Seq::from(version.place.seq), part: version.part },
            user: self.users.id(user).to_owned(),
            directory: self.directories.id(version.directory).to_owned(),
            gained: self.roles_only_in(&after, &before, new.mapping, cut),
            lost: self.roles_only_in(&before, &after, old.mapping, cut),
            default_only: after.values().flatten().all(|ground| ground.rule == DEFAULT),
        };
        comparison.count(&change, &before, &after);
        (!change.gained.is_empty() || !change.lost.is_empty()).then_some(change)
    }

    fn grounds_by_role<'a>(
        &self,
        side: Side<'a>,
        groups: &MemberGroups<'_>,
        version: &EntityVersion,
        cut: Cut,
    ) -> GroundsByRole<'a> {
        let mut by_role = GroundsByRole::new();
        let Some(mapping) = side.mapping else { return by_role };
        for ground in self.grounds_in_groups(mapping, side.attributes, groups, version, cut) {
            by_role.entry(mapping.role(ground.role)).or_default().push(ground);
        }
        by_role
    }

    /// Returns the roles of `here` that are not in `there`, with their grounds written out.
    fn roles_only_in(
        &self,
        here: &GroundsByRole<'_>,
        there: &GroundsByRole<'_>,
        mapping: Option<&Compiled>,
        cut: Cut,
    ) -> Vec<(String, Vec<Ground>)> {
        let Some(mapping) = mapping else { return Vec::new() };
        let only = here.iter().filter(|(role, _)| !there.contains_key(*role));
        let written = only.map(|(role, grounds)| {
            let mut grounds: Vec<Ground> =
                grounds.iter().map(|ground| self.ground(mapping, *ground, cut)).collect();
            grounds.sort();
            ((*role).to_owned(), grounds)
        });
        written.collect()
    }

    /// Returns the rules about groups that fit no group alive at the cut in their scope; and the
    /// groups that no rule fits, the first `limit` by name.
    pub fn unmatched(&self, proposal: &Proposal, cut: Cut, limit: usize) -> Unmatched {
        let mapping = &proposal.compiled;
        let mut fitted: BTreeSet<u16> = BTreeSet::new();
        let mut without: Vec<(&str, &EntityVersion)> = Vec::new();
        for group in 0..self.groups.len() as Sym {
            let Some(version) = self.alive(EntityKind::Group, group, cut) else { continue };
            let (id, scope) = (self.groups.id(group), self.scope(version, cut));
            let mut rules = mapping.rules_of_group(id, version.label).peekable();
            if rules.peek().is_none() {
                without.push((id, version));
            }
            fitted.extend(rules.filter(|rule| mapping.counts_in(*rule, &scope)));
        }
        without.sort_by_key(|(id, _)| *id);
        let numbered = mapping.mapping.rules.iter().enumerate();
        Unmatched {
            rules: numbered
                .filter(|(_, rule)| matches!(rule.matches, Matches::Group { .. }))
                .map(|(number, _)| number)
                .filter(|number| !fitted.contains(&(*number as u16)))
                .collect(),
            groups: without.len() as u64,
            first_groups: without
                .iter()
                .take(limit)
                .map(|(id, version)| UnmatchedGroup {
                    id: (*id).to_owned(),
                    name: self.texts.text(version.label).to_owned(),
                    directory: self.directories.id(version.directory).to_owned(),
                })
                .collect(),
        }
    }
}

impl Comparison {
    fn count(
        &mut self,
        change: &RoleChange,
        before: &GroundsByRole<'_>,
        after: &GroundsByRole<'_>,
    ) {
        let RoleChange { gained, lost, default_only, .. } = change;
        self.users += 1;
        self.changed += u64::from(!gained.is_empty() || !lost.is_empty());
        self.gaining += u64::from(!gained.is_empty());
        self.losing += u64::from(!lost.is_empty());
        self.default_only += u64::from(*default_only);
        gained.iter().for_each(|(role, _)| self.role(role).gaining += 1);
        lost.iter().for_each(|(role, _)| self.role(role).losing += 1);
        before.keys().for_each(|role| self.role(role).before += 1);
        after.keys().for_each(|role| self.role(role).after += 1);
    }

    fn role(&mut self, role: &str) -> &mut RoleCounts {
        self.roles.entry(role.to_owned()).or_default()
    }
}
