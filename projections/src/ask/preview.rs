//! Previews: the roles that another mapping would change.

use std::collections::BTreeMap;

use crate::ask::assignments::Ground;
use crate::ground::mapping::Mapping;
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::symbols::Sym;
use crate::judge::MemberGroups;
use crate::state::attributes::Attributes;
use crate::state::compiled_mapping::{Compiled, DEFAULT, RoleGround};
use crate::state::entities::{EntityKind, EntityVersion, SnapshotRef};
use crate::state::name_matches::{GroupName, NameMatches};
use crate::views::Views;

/// The work of one step of a comparison: about the number of users, groups and grounds.
const STEP_WORK: usize = 1 << 14;

/// The bytes of names that are copied in one step.
const NAMES_BYTES: usize = 1 << 18;

/// The most grounds of one user that are compared.
const GROUNDS_MAX: usize = 100_000;

/// A mapping that is not set, ready to be compared with the one in force.
pub struct Proposal {
    pub(crate) compiled: Compiled,
    pub(crate) attributes: Attributes,
    effective_from: Option<Millis>,
}

impl Proposal {
    /// Returns the mapping that is proposed.
    pub fn mapping(&self) -> &Mapping {
        &self.compiled.mapping
    }
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

/// One step of a comparison.
pub struct ComparisonStep {
    /// The changes, in order of the users' ids.
    pub changes: Vec<RoleChange>,
    /// The id after which to continue, if there may be more.
    pub next: Option<String>,
    /// True if a user has more grounds than are compared; nothing that follows counts.
    pub too_many_grounds: bool,
}

/// One side of a comparison: a mapping, if any, and the attributes that it looks at.
#[derive(Clone, Copy)]
struct Side<'a> {
    mapping: Option<&'a Compiled>,
    attributes: &'a Attributes,
}

/// A user's grounds on one side, by role.
type GroundsByRole<'a> = BTreeMap<&'a str, Vec<RoleGround>>;

impl Proposal {
    /// Indexes a mapping. `attributes` says what the snapshots of all users have, `matches` which
    /// rules the names of groups fit.
    pub fn new(
        mapping: Mapping,
        attributes: Attributes,
        matches: NameMatches,
        effective_from: Option<Millis>,
    ) -> Proposal {
        let compiled = Compiled::new(mapping, matches, &attributes);
        Proposal { compiled, attributes, effective_from }
    }
}

impl Views {
    /// Makes a proposal fit for a comparison: matches the names of groups that are new to it.
    pub fn catch_up(&self, proposal: &mut Proposal) {
        self.roles.catch_up(&mut proposal.compiled);
    }

    /// Returns the next names of groups behind the first `seen` ones, to be matched with a mapping:
    /// those up to some bytes, and at least one if there are more.
    pub fn group_names(&self, seen: usize) -> Vec<GroupName> {
        let mut bytes = 0;
        let fits = |name: &&GroupName| {
            let is_first = bytes == 0;
            bytes += 64 + name.compared.len();
            is_first || bytes <= NAMES_BYTES
        };
        self.roles.group_names(seen).iter().take_while(fits).cloned().collect()
    }

    /// Keeps the rules that names of groups fit for a mapping that is about to be set.
    pub fn expect_mapping(&mut self, mapping: Mapping, matches: NameMatches) {
        self.roles.expect(mapping, matches);
    }

    /// Compares a proposal with the mapping in force, for the next users in order of id. Ends after
    /// some thousand candidates and grounds.
    pub fn compare(
        &self,
        proposal: &Proposal,
        cut: Cut,
        after: Option<&str>,
        comparison: &mut Comparison,
    ) -> ComparisonStep {
        let old = Side { mapping: self.roles.in_force(cut), attributes: self.roles.attributes() };
        // A mapping that takes effect later than the moment asked about changes nothing then.
        let new = if proposal.effective_from.is_some_and(|moment| moment > cut.as_of) {
            old
        } else {
            Side { mapping: Some(&proposal.compiled), attributes: &proposal.attributes }
        };
        let mut step = ComparisonStep { changes: Vec::new(), next: None, too_many_grounds: false };
        let mut work = 0;
        for user in self.users_walk(None, None, cut, after, false) {
            let version = self.alive(EntityKind::User, user, cut);
            if let Some(version) = version.filter(|version| self.has_access(version, cut)) {
                work += self.compare_user(user, version, [old, new], cut, comparison, &mut step);
            }
            work += 1;
            if work >= STEP_WORK {
                step.next = Some(self.users.id(user).to_owned());
                break;
            }
        }
        step
    }

    /// Compares and counts one user, and adds the change, if the roles do change. Returns the
    /// number of groups and grounds looked at. Of a user with too many grounds only their number is
    /// noted.
    fn compare_user(
        &self,
        user: Sym,
        version: &EntityVersion,
        [old, new]: [Side<'_>; 2],
        cut: Cut,
        comparison: &mut Comparison,
        step: &mut ComparisonStep,
    ) -> usize {
        let groups = self.groups_of(user, cut);
        let [by_old, by_new] = [old, new].map(|side| self.rules_fitting(side, &groups));
        step.too_many_grounds |= by_old.max(by_new) > GROUNDS_MAX;
        if step.too_many_grounds {
            return STEP_WORK;
        }
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
        if !change.gained.is_empty() || !change.lost.is_empty() {
            step.changes.push(change);
        }
        groups.len() + by_old + by_new
    }

    /// Returns how many rules fit a user's groups, in any scope.
    fn rules_fitting(&self, side: Side<'_>, groups: &MemberGroups<'_>) -> usize {
        let Some(mapping) = side.mapping else { return 0 };
        let fitting = groups.iter().map(|(group, version)| {
            let id = self.groups.id(*group);
            mapping.rules_of_group(id, version.label, self.roles.patterns()).len()
        });
        fitting.sum()
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
