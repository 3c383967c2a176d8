//! Mappings: those that were set, what they need, and what another one would change.

use std::collections::{BTreeMap, BTreeSet};

use crate::ask::assignments::Ground;
use crate::ground::mapping::{Mapping, Matches, Rule};
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::symbols::Sym;
use crate::state::attributes::Attributes;
use crate::state::compiled::{Compiled, DEFAULT, RoleGround, RoleGrounds};
use crate::state::entities::EntityKind;
use crate::state::entities::{EntityVersion, Part};
use crate::views::Views;

/// A mapping that is not set, ready to be compared with the one in force.
pub struct Proposal {
    compiled: Compiled,
    attributes: Attributes,
    effective_from: Option<Millis>,
}

/// What a proposal changes for somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// The record that describes the user, and where in it.
    pub snapshot: (Seq, Part),
    /// Who.
    pub user: String,
    /// In which directory.
    pub directory: String,
    /// Roles gained, with the grounds of the proposal.
    pub gained: Vec<(String, Vec<Ground>)>,
    /// Roles lost, with the grounds of the mapping in force.
    pub lost: Vec<(String, Vec<Ground>)>,
    /// Whether nothing but defaults is left.
    pub default_only: bool,
}

/// What a proposal does as a whole, as far as it was counted.
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
    /// Those who have nothing but defaults afterwards.
    pub default_only: u64,
    /// By role: how many gain it, lose it, have it before, have it after.
    pub roles: BTreeMap<String, [u64; 4]>,
}

/// What would change.
impl Views {
    /// Makes a mapping ready to be compared; `attributes` says what everybody's snapshots have.
    pub fn propose(
        &self,
        mapping: Mapping,
        attributes: Attributes,
        effective_from: Option<Millis>,
    ) -> Proposal {
        Proposal { compiled: self.roles.compile(mapping, &attributes), attributes, effective_from }
    }

    /// Compares a proposal with the mapping in force, for the next users in order of id, looking at
    /// no more than `limit` candidates. Says where to go on.
    pub fn compare(
        &self,
        proposal: &Proposal,
        cut: Cut,
        after: Option<&str>,
        limit: usize,
        comparison: &mut Comparison,
        changes: &mut Vec<RoleChange>,
    ) -> Option<String> {
        let old = self.roles.in_force(cut);
        // A mapping that takes effect later than the moment asked about changes nothing then.
        let late = proposal.effective_from.is_some_and(|moment| moment > cut.as_of);
        let new = if late { old } else { Some(&proposal.compiled) };
        let new_attributes = if late { self.roles.attributes() } else { &proposal.attributes };
        self.each_with_access(cut, after, limit, |name, version| {
            let groups = self.groups_of(name, cut);
            let by = |mapping: Option<&Compiled>, attributes: &Attributes| {
                mapping.map_or(RoleGrounds::new(), |mapping| {
                    self.reasons_by(mapping, attributes, &groups, version, cut)
                })
            };
            let (before, after) = (by(old, self.roles.attributes()), by(new, new_attributes));
            let roles = |mapping: Option<&Compiled>,
                         reasons: &RoleGrounds|
             -> BTreeMap<String, Vec<RoleGround>> {
                let mut roles: BTreeMap<String, Vec<RoleGround>> = BTreeMap::new();
                for reason in reasons {
                    roles
                        .entry(mapping.map_or("", |mapping| mapping.role(reason.role)).to_owned())
                        .or_default()
                        .push(*reason);
                }
                roles
            };
            let (had, has) = (roles(old, &before), roles(new, &after));
            let default_only = after.iter().all(|reason| reason.rule == DEFAULT);
            let describe = |mapping: Option<&Compiled>, reasons: &[RoleGround]| -> Vec<Ground> {
                let grounds = mapping.into_iter().flat_map(|mapping| {
                    reasons.iter().map(|reason| self.ground(mapping, *reason, cut))
                });
                let mut grounds: Vec<Ground> = grounds.collect();
                grounds.sort();
                grounds
            };
            let missing = |from: &BTreeMap<String, Vec<RoleGround>>,
                           other: &BTreeMap<String, Vec<RoleGround>>,
                           mapping|
             -> Vec<(String, Vec<Ground>)> {
                let only = from.iter().filter(|(role, _)| !other.contains_key(*role));
                only.map(|(role, reasons)| (role.clone(), describe(mapping, reasons))).collect()
            };
            let (gained, lost) = (missing(&has, &had, new), missing(&had, &has, old));
            comparison.users += 1;
            comparison.changed += u64::from(!gained.is_empty() || !lost.is_empty());
            comparison.gaining += u64::from(!gained.is_empty());
            comparison.losing += u64::from(!lost.is_empty());
            comparison.default_only += u64::from(default_only);
            let mut count = |role: &str, which: usize| {
                if let Some(count) =
                    comparison.roles.entry(role.to_owned()).or_default().get_mut(which)
                {
                    *count += 1;
                }
            };
            gained.iter().for_each(|(role, _)| count(role, 0));
            lost.iter().for_each(|(role, _)| count(role, 1));
            had.keys().for_each(|role| count(role, 2));
            has.keys().for_each(|role| count(role, 3));
            if !gained.is_empty() || !lost.is_empty() {
                changes.push(RoleChange {
                    snapshot: (Seq::from(version.place.seq), version.part),
                    user: self.users.id(name).to_owned(),
                    directory: self.directories.id(version.directory).to_owned(),
                    gained,
                    lost,
                    default_only,
                });
            }
        })
    }

    /// The rules that fit no group alive at the cut, where they count; and the groups that no rule
    /// fits, by id: how many, and the first `limit` with their names and directories.
    pub fn unmatched(
        &self,
        proposal: &Proposal,
        cut: Cut,
        limit: usize,
    ) -> (Vec<usize>, u64, Vec<[String; 3]>) {
        let mapping = &proposal.compiled;
        let mut fitted: BTreeSet<u16> = BTreeSet::new();
        let mut without: Vec<(&str, &EntityVersion)> = Vec::new();
        for group in 0..self.groups.len() as Sym {
            let Some(version) = self.alive(EntityKind::Group, group, cut) else { continue };
            let (id, scope) = (self.groups.id(group), self.scope(version, cut));
            let mut any = false;
            for rule in mapping.rules_of_group(id, version.label) {
                any = true;
                if mapping.counts_in(rule, &scope) {
                    fitted.insert(rule);
                }
            }
            if !any {
                without.push((id, version));
            }
        }
        let is_group_rule = |rule: &Rule| matches!(rule.matches, Matches::Group { .. });
        let rules =
            mapping.mapping.rules.iter().enumerate().filter(|(_, rule)| is_group_rule(rule));
        let unfitted = rules
            .map(|(number, _)| number)
            .filter(|number| !fitted.contains(&(*number as u16)))
            .collect();
        without.sort_by_key(|(id, _)| *id);
        let shown = without.iter().take(limit).map(|(id, version)| {
            let (name, directory) =
                (self.texts.text(version.label), self.directories.id(version.directory));
            [(*id).to_owned(), name.to_owned(), directory.to_owned()]
        });
        (unfitted, without.len() as u64, shown.collect())
    }
}
