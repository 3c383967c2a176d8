//! Previews: the roles that another mapping would change.

use std::collections::{BTreeMap, BTreeSet};

use crate::ask::assignments::Ground;
use crate::ground::mapping::{GroupPattern, Mapping, Matches};
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

/// The rules of a mapping to warn of, and the groups that none of them fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// The rules to warn of, in their order, some more than once.
    pub warnings: Vec<RuleWarning>,
    /// The number of groups that no rule fits.
    pub groups: u64,
    /// The first of them, by id.
    pub first_groups: Vec<UnmatchedGroup>,
}

/// A rule of a mapping that may not do what was meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleWarning {
    /// The rule, from 0.
    pub rule: usize,
    /// The reason for the warning.
    pub reason: WarningReason,
}

/// The reason for a warning about a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WarningReason {
    /// It fits no group alive at the cut in its scope.
    NoGroup,
    /// No user with access at the cut in its scope has one of its values.
    NoUser {
        /// The path of its attribute.
        path: String,
    },
    /// It takes two texts for the same name: those of two groups, or its own and a group's.
    NamesAlike {
        /// The name as it is compared.
        name: String,
    },
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

    /// Returns the warnings about a proposal; and the groups that no rule fits, the first `limit` by
    /// id.
    pub fn unmatched(&self, proposal: &Proposal, cut: Cut, limit: usize) -> Unmatched {
        self.unmatched_by(&proposal.compiled, &proposal.attributes, cut, limit)
    }

    /// Returns the warnings about a mapping that is set.
    pub fn warnings(&self, version: usize, cut: Cut) -> Vec<RuleWarning> {
        let mut mappings = self.roles.iter();
        let mapping = mappings.find(|mapping| mapping.version == version);
        mapping.map_or(Vec::new(), |mapping| {
            self.unmatched_by(mapping, self.roles.attributes(), cut, 0).warnings
        })
    }

    fn unmatched_by(
        &self,
        compiled: &Compiled,
        attributes: &Attributes,
        cut: Cut,
        limit: usize,
    ) -> Unmatched {
        let (mut fitted, mut without) = (BTreeSet::new(), Vec::new());
        let mut names = NamesOfRules::of(&compiled.mapping);
        for group in 0..self.groups.len() as Sym {
            let Some(version) = self.alive(EntityKind::Group, group, cut) else { continue };
            let (id, scope) = (self.groups.id(group), self.scope(version, cut));
            let mut rules = compiled.rules_of_group(id, version.label).peekable();
            if rules.peek().is_none() {
                without.push((id, version));
            }
            let name = self.roles.compared_name(version.label);
            for rule in rules.filter(|rule| compiled.counts_in(*rule, &scope)) {
                fitted.insert(rule);
                names.add(rule, name, self.texts.text(version.label));
            }
        }
        without.sort_by_key(|(id, _)| *id);
        let mut warnings = names.warnings();
        warnings.extend(self.rules_without_match(compiled, attributes, &fitted, cut));
        warnings.sort();
        Unmatched {
            warnings,
            groups: without.len() as u64,
            first_groups: without
                .iter()
                .take(limit)
                .map(|(id, version)| self.unmatched_group(id, version))
                .collect(),
        }
    }

    fn unmatched_group(&self, id: &str, version: &EntityVersion) -> UnmatchedGroup {
        UnmatchedGroup {
            id: id.to_owned(),
            name: self.texts.text(version.label).to_owned(),
            directory: self.directories.id(version.directory).to_owned(),
        }
    }

    /// Returns the warnings about rules that match no group or user. `fitted` are the rules that fit
    /// a group.
    fn rules_without_match<'a>(
        &'a self,
        mapping: &'a Compiled,
        attributes: &'a Attributes,
        fitted: &'a BTreeSet<u16>,
        cut: Cut,
    ) -> impl Iterator<Item = RuleWarning> + 'a {
        mapping.mapping.rules.iter().enumerate().filter_map(move |(rule, written)| {
            let number = rule as u16;
            let reason = match &written.matches {
                Matches::Group { .. } if fitted.contains(&number) => return None,
                Matches::Group { .. } => WarningReason::NoGroup,
                Matches::Attribute { path, values } => {
                    let mut keys =
                        values.iter().filter_map(|(value, _)| attributes.key(path, value));
                    if keys.any(|key| self.is_held(key, number, mapping, attributes, cut)) {
                        return None;
                    }
                    WarningReason::NoUser { path: path.clone() }
                }
            };
            Some(RuleWarning { rule, reason })
        })
    }

    /// Tells if a user with access, in the scope of a rule, has the value with this key.
    fn is_held(
        &self,
        key: u32,
        rule: u16,
        mapping: &Compiled,
        attributes: &Attributes,
        cut: Cut,
    ) -> bool {
        attributes.holders(key).any(|user| {
            self.alive(EntityKind::User, user, cut).is_some_and(|version| {
                attributes.of_snapshot(version.place.seq, version.part).contains(&key)
                    && self.has_access(version, cut)
                    && mapping.counts_in(rule, &self.scope(version, cut))
            })
        })
    }
}

/// The names that each rule takes for the same, as they are written.
struct NamesOfRules<'a> {
    /// By rule and compared name: the first text seen.
    written: BTreeMap<(u16, &'a str), &'a str>,
    alike: BTreeSet<(u16, &'a str)>,
}

impl<'a> NamesOfRules<'a> {
    /// Begins with the names that the rules themselves write.
    fn of(mapping: &'a Mapping) -> NamesOfRules<'a> {
        let mut names = NamesOfRules { written: BTreeMap::new(), alike: BTreeSet::new() };
        for (number, rule) in (0..).zip(&mapping.rules) {
            if let Matches::Group { group: GroupPattern::Name(name), .. } = &rule.matches {
                names.add(number, &name.compared, &name.written);
            }
        }
        names
    }

    /// Adds the name of a group that a rule fits.
    fn add(&mut self, rule: u16, compared: &'a str, written: &'a str) {
        if *self.written.entry((rule, compared)).or_insert(written) != written {
            self.alike.insert((rule, compared));
        }
    }

    fn warnings(self) -> Vec<RuleWarning> {
        let alike = self.alike.into_iter().map(|(rule, name)| RuleWarning {
            rule: usize::from(rule),
            reason: WarningReason::NamesAlike { name: name.to_owned() },
        });
        alike.collect()
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
