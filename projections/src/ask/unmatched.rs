//! The rules of a mapping that may not do what was meant, and the groups that none of them fits,
//! found in steps.

use std::collections::{BTreeMap, BTreeSet};

use crate::ask::preview::Proposal;
use crate::ground::mapping::{GroupPattern, Mapping, Matches, Rule};
use crate::ground::order::Cut;
use crate::ground::symbols::Sym;
use crate::state::attributes::Attributes;
use crate::state::compiled_mapping::Compiled;
use crate::state::entities::{EntityKind, EntityVersion};
use crate::views::Views;

/// The most warnings about one mapping.
const WARNINGS_MAX: usize = 1000;

/// The work of one step: about the number of rules and users that are looked at.
const STEP_WORK: usize = 1 << 16;

/// The rules of a mapping to warn of, and the groups that none of them fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unmatched {
    /// The rules to warn of, in their order, some more than once; at most 1000.
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

/// The mapping that a search looks at.
#[derive(Clone, Copy)]
pub enum Judged<'a> {
    /// One that is not set.
    Proposed(&'a Proposal),
    /// The one that was set with this version.
    Set(usize),
}

/// A search for what does not match, between two of its steps.
pub struct UnmatchedSearch {
    cut: Cut,
    groups_shown: usize,
    next_group: Sym,
    next_value: ValuePlace,
    /// The rules that fit a group or a user.
    fitted: RuleSet,
    names: WrittenNames,
    /// The first groups without a rule, by id.
    first_groups: BTreeMap<String, UnmatchedGroup>,
    groups: u64,
}

/// A value of a rule about an attribute.
#[derive(Clone, Copy, Default)]
struct ValuePlace {
    rule: usize,
    value: usize,
}

impl UnmatchedSearch {
    /// Begins a search at a cut, which must not be ahead of what is folded. The first
    /// `groups_shown` groups without a rule are described.
    pub fn new(cut: Cut, groups_shown: usize) -> UnmatchedSearch {
        UnmatchedSearch {
            cut,
            groups_shown,
            next_group: 0,
            next_value: ValuePlace::default(),
            fitted: RuleSet::default(),
            names: WrittenNames::default(),
            first_groups: BTreeMap::new(),
            groups: 0,
        }
    }

    fn add_group(&mut self, id: &str, describe: impl FnOnce() -> UnmatchedGroup) {
        self.groups += 1;
        let is_among_first = self.first_groups.len() < self.groups_shown
            || self.first_groups.last_key_value().is_some_and(|(last, _)| id < last.as_str());
        if is_among_first {
            self.first_groups.insert(id.to_owned(), describe());
            if self.first_groups.len() > self.groups_shown {
                self.first_groups.pop_last();
            }
        }
    }

    /// Returns what was found, after the last step. `mapping` is the one that was looked at.
    pub fn finish(self, mapping: &Mapping) -> Unmatched {
        let mut warnings = self.names.warnings(mapping);
        for (rule, written) in mapping.rules.iter().enumerate() {
            if !self.fitted.has(rule) {
                let reason = match &written.matches {
                    Matches::Group { .. } => WarningReason::NoGroup,
                    Matches::Attribute { path, .. } => WarningReason::NoUser { path: path.clone() },
                };
                warnings.insert(RuleWarning { rule, reason });
            }
        }
        let warnings = warnings.into_iter().take(WARNINGS_MAX).collect();
        let first_groups = self.first_groups.into_values().collect();
        Unmatched { warnings, groups: self.groups, first_groups }
    }
}

impl Views {
    /// Does the next step of a search. Returns true if it was the last one.
    pub fn search_unmatched(&self, judged: Judged<'_>, search: &mut UnmatchedSearch) -> bool {
        let (compiled, attributes) = match judged {
            Judged::Proposed(proposal) => (&proposal.compiled, &proposal.attributes),
            Judged::Set(version) => match self.roles.iter().nth(version.wrapping_sub(1)) {
                Some(compiled) => (compiled, self.roles.attributes()),
                None => return true,
            },
        };
        let mut work = 0;
        while (search.next_group as usize) < self.groups.len() {
            work += 8 + self.search_group(compiled, search.next_group, search);
            search.next_group += 1;
            if work > STEP_WORK {
                return false;
            }
        }
        while let Some(rule) = compiled.mapping.rules.get(search.next_value.rule) {
            work += 1 + self.search_value(compiled, attributes, &rule.matches, search);
            if work > STEP_WORK {
                return false;
            }
        }
        true
    }

    /// Notes the rules that fit a group, and returns their number.
    fn search_group(&self, mapping: &Compiled, group: Sym, search: &mut UnmatchedSearch) -> usize {
        let cut = search.cut;
        let Some(version) = self.alive(EntityKind::Group, group, cut) else { return 0 };
        let (id, scope) = (self.groups.id(group), self.scope(version, cut));
        let fitting = mapping.rules_of_group(id, version.label, self.roles.patterns());
        if fitting.is_empty() {
            search.add_group(id, || self.unmatched_group(id, version));
        }
        let mut counting = RuleSet::default();
        for rule in fitting.iter().filter(|rule| mapping.counts_in(**rule, &scope)) {
            search.fitted.add(usize::from(*rule));
            counting.add(usize::from(*rule));
        }
        let compared = self.roles.compared_name(version.label);
        // Other names have no second way in which they are written.
        if self.roles.is_rewritten(compared) || mapping.names_one_of(&fitting) {
            search.names.add(compared, self.texts.text(version.label), &counting);
        }
        fitting.len()
    }

    /// Looks at the next value of a rule, and returns the number of users that were looked at.
    fn search_value(
        &self,
        mapping: &Compiled,
        attributes: &Attributes,
        matches: &Matches,
        search: &mut UnmatchedSearch,
    ) -> usize {
        let place = search.next_value;
        search.next_value = ValuePlace { rule: place.rule + 1, value: 0 };
        let Matches::Attribute { path, values } = matches else { return 0 };
        let Some((value, _)) = values.get(place.value) else { return 0 };
        let Some(key) = attributes.key(path, value) else {
            search.next_value = ValuePlace { value: place.value + 1, ..place };
            return 0;
        };
        let mut looked_at = 0;
        let held = attributes.holders(key).any(|user| {
            looked_at += 8;
            self.is_held(key, user, place.rule as u16, mapping, attributes, search.cut)
        });
        if held {
            search.fitted.add(place.rule);
        } else {
            search.next_value = ValuePlace { value: place.value + 1, ..place };
        }
        looked_at
    }

    fn unmatched_group(&self, id: &str, version: &EntityVersion) -> UnmatchedGroup {
        UnmatchedGroup {
            id: id.to_owned(),
            name: self.texts.text(version.label).to_owned(),
            directory: self.directories.id(version.directory).to_owned(),
        }
    }

    /// Tells if a user has access, is in the scope of a rule, and has the value with this key.
    fn is_held(
        &self,
        key: u32,
        user: Sym,
        rule: u16,
        mapping: &Compiled,
        attributes: &Attributes,
        cut: Cut,
    ) -> bool {
        self.alive(EntityKind::User, user, cut).is_some_and(|version| {
            attributes.of_snapshot(version.place.seq, version.part).contains(&key)
                && self.has_access(version, cut)
                && mapping.counts_in(rule, &self.scope(version, cut))
        })
    }
}

/// A set of rules, by their numbers.
#[derive(Default)]
struct RuleSet(Vec<u64>);

impl RuleSet {
    fn add(&mut self, rule: usize) {
        if self.0.len() <= rule / 64 {
            self.0.resize(rule / 64 + 1, 0);
        }
        if let Some(word) = self.0.get_mut(rule / 64) {
            *word |= 1 << (rule % 64);
        }
    }

    fn add_all(&mut self, other: &RuleSet) {
        (0..other.0.len() * 64).filter(|rule| other.has(*rule)).for_each(|rule| self.add(rule));
    }

    fn has(&self, rule: usize) -> bool {
        self.0.get(rule / 64).is_some_and(|word| word >> (rule % 64) & 1 == 1)
    }
}

/// The ways in which names that are compared alike are written, each with the rules that fit it.
#[derive(Default)]
struct WrittenNames(BTreeMap<String, BTreeMap<String, RuleSet>>);

impl WrittenNames {
    /// Adds the name of a group and the rules that fit it.
    fn add(&mut self, compared: &str, written: &str, rules: &RuleSet) {
        let writings = self.0.entry(compared.to_owned()).or_default();
        writings.entry(written.to_owned()).or_default().add_all(rules);
    }

    /// Returns the first warnings about rules that take two of the writings for the same name.
    fn warnings(&self, mapping: &Mapping) -> BTreeSet<RuleWarning> {
        let mut warnings = BTreeSet::new();
        for (name, writings) in &self.0 {
            for (rule, written) in mapping.rules.iter().enumerate() {
                if is_written_in_two_ways(rule, written, name, writings) {
                    let reason = WarningReason::NamesAlike { name: name.clone() };
                    warnings.insert(RuleWarning { rule, reason });
                }
            }
            while warnings.len() > WARNINGS_MAX {
                warnings.pop_last();
            }
        }
        warnings
    }
}

/// Tells if two of the writings of a name fit a rule, counting the rule's own.
fn is_written_in_two_ways(
    number: usize,
    rule: &Rule,
    name: &str,
    writings: &BTreeMap<String, RuleSet>,
) -> bool {
    let Matches::Group { group, .. } = &rule.matches else { return false };
    let own = match group {
        GroupPattern::Name(own) if *own.compared == *name => Some(&*own.written),
        _ => None,
    };
    let of_groups = writings.iter().filter(|(_, rules)| rules.has(number));
    let mut all = own.into_iter().chain(of_groups.map(|(written, _)| written.as_str()));
    all.next().is_some_and(|first| all.any(|other| other != first))
}
