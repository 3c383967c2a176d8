//! One role mapping, indexed so that a user's roles cost a look-up for each group.

use crate::ground::mapping::{GroupPattern, Mapping, Matches, Mode};
use crate::ground::order::{Millis, Seq, Seq32};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::state::attributes::Attributes;
use crate::state::entities::Part;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;
use std::collections::{BTreeSet, HashMap};

/// The number of a role in its mapping: the highest first.
pub(crate) type Rank = u16;

/// The rule of a reason that is none: the defaults.
pub(crate) const DEFAULT: u16 = u16::MAX;

/// Why a user has a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RoleGround {
    pub(crate) role: Rank,
    /// The first of the rules that mean the same, or [`DEFAULT`].
    pub(crate) rule: u16,
    /// The group through which it matches, or [`NO_SYM`].
    pub(crate) group: Sym,
}

pub(crate) type RoleGrounds = SmallVec<[RoleGround; 8]>;

/// What a reason is over time, also from one mapping to the next: a role, what gives it, and
/// through which group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GroundKey {
    pub(crate) role: Sym,
    /// What the rule matches and where; [`NO_SYM`] for a default.
    pub(crate) meaning: Sym,
    pub(crate) group: Sym,
}

/// A mapping, set or only proposed, with its indexes.
#[derive(Clone)]
pub(crate) struct Compiled {
    pub(crate) version: usize,
    pub(crate) seq: Seq,
    pub(crate) set_at: Millis,
    pub(crate) effective_from: Millis,
    pub(crate) mapping: Mapping,
    /// Every role that can be given, by rank: those in `priority` in its order, then the others by
    /// name.
    pub(crate) roles: Vec<String>,
    pub(super) rules: Vec<CompiledRule>,
    pub(super) by_group_id: HashMap<String, SmallVec<[u16; 2]>>,
    /// Of every group name ever seen: the rules that it fits.
    pub(super) by_group_name: HashMap<Sym, SmallVec<[u16; 2]>, FxBuildHasher>,
    /// By an attribute's key: the rule, and the roles that this value gives.
    pub(super) by_key: HashMap<u32, SmallVec<[Gift; 1]>, FxBuildHasher>,
    pub(super) defaults: SmallVec<[Rank; 2]>,
    /// The word of each role, and of what each rule means, once it is set.
    pub(super) words: [Vec<Sym>; 2],
}

/// Roles that are given, each with the rule that is named as its reason.
pub(super) type RolesGiven = SmallVec<[(Rank, u16); 2]>;

/// A rule, and what it gives for one value.
pub(super) type Gift = (u16, RolesGiven);

#[derive(Clone)]
pub(super) struct CompiledRule {
    directory: Option<String>,
    organization: Option<String>,
    /// What a group gives.
    roles: RolesGiven,
}

/// Where a user stands, as far as rules are narrowed by it.
pub(crate) struct Scope<'a> {
    pub(crate) directory: &'a str,
    pub(crate) organization: &'a str,
}

impl Compiled {
    /// Indexes a mapping over the group names seen so far; `attributes` numbers the values that its
    /// rules name.
    pub(crate) fn new<'n>(
        mapping: Mapping,
        names: impl Iterator<Item = (Sym, &'n str)>,
        attributes: &Attributes,
    ) -> Compiled {
        let mut roles: Vec<String> =
            mapping.roles().cloned().collect::<BTreeSet<String>>().into_iter().collect();
        let places: HashMap<&String, usize> = mapping.priority.iter().zip(0..).collect();
        roles.sort_by_key(|role| places.get(role).copied().unwrap_or(usize::MAX));
        let rank_of: HashMap<&String, Rank> = roles.iter().zip(0..).collect();
        let rank = |role: &String| rank_of.get(role).copied().unwrap_or(0);
        let ranks = |roles: &[String]| roles.iter().map(rank).collect::<SmallVec<[Rank; 2]>>();
        let mut meanings: HashMap<Meaning<'_>, u16> = HashMap::new();
        let firsts: Vec<u16> = mapping
            .rules
            .iter()
            .zip(0..)
            .map(|(rule, number)| *meanings.entry(meaning(rule)).or_insert(number))
            .collect();
        // Of the rules that mean the same and may give a role, the first is named as its reason.
        let mut named: HashMap<(u16, Rank), u16> = HashMap::new();
        for (number, (rule, first)) in mapping.rules.iter().zip(&firsts).enumerate() {
            for role in rule.roles() {
                named.entry((*first, rank(role))).or_insert(number as u16);
            }
        }
        let (mut rules, mut by_group_id, mut by_key) =
            (Vec::new(), HashMap::<_, SmallVec<_>>::new(), HashMap::<_, SmallVec<_>, _>::default());
        for (number, (rule, first)) in mapping.rules.iter().zip(firsts).enumerate() {
            let given = |roles: &[String]| -> RolesGiven {
                let name = |role: Rank| named.get(&(first, role)).copied().unwrap_or(number as u16);
                ranks(roles).into_iter().map(|role| (role, name(role))).collect()
            };
            let mut roles = RolesGiven::new();
            match &rule.matches {
                Matches::Group { group, roles: to_members } => {
                    roles = given(to_members);
                    if let GroupPattern::Id(id) = group {
                        by_group_id.entry(id.clone()).or_default().push(number as u16);
                    }
                }
                Matches::Attribute { path, values } => {
                    for (value, roles) in values {
                        if let Some(key) = attributes.key(path, value) {
                            by_key.entry(key).or_default().push((number as u16, given(roles)));
                        }
                    }
                }
            }
            rules.push(CompiledRule {
                directory: rule.directory.clone(),
                organization: rule.organization.clone(),
                roles,
            });
        }
        let defaults = ranks(&mapping.default_roles);
        let (version, seq, set_at, effective_from) = (0, 0, Millis::MIN, Millis::MIN);
        let by_group_name = HashMap::default();
        let mut compiled = Compiled {
            version,
            seq,
            set_at,
            effective_from,
            mapping,
            roles,
            rules,
            by_group_id,
            by_group_name,
            by_key,
            defaults,
            words: [vec![], vec![]],
        };
        for (name, text) in names {
            compiled.note_group_name(name, text);
        }
        compiled
    }

    pub(super) fn note_group_name(&mut self, sym: Sym, text: &str) {
        let fits = |rule: &crate::ground::mapping::Rule| match &rule.matches {
            Matches::Group { group: GroupPattern::Id(_), .. } | Matches::Attribute { .. } => false,
            Matches::Group { group, .. } => group.fits("", text),
        };
        let rules: SmallVec<[u16; 2]> = self
            .mapping
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| fits(rule))
            .map(|(number, _)| number as u16)
            .collect();
        if !rules.is_empty() {
            self.by_group_name.insert(sym, rules);
        }
    }

    /// The rules that a group fits, wherever they count.
    pub(crate) fn rules_of_group(&self, id: &str, sym: Sym) -> impl Iterator<Item = u16> {
        let by_id = if self.by_group_id.is_empty() { None } else { self.by_group_id.get(id) };
        by_id.into_iter().chain(self.by_group_name.get(&sym)).flatten().copied()
    }

    fn counts(&self, rule: &CompiledRule, scope: &Scope<'_>) -> bool {
        rule.directory.as_ref().is_none_or(|directory| directory == scope.directory)
            && rule
                .organization
                .as_ref()
                .is_none_or(|organization| organization == scope.organization)
    }

    /// Whether rule `number` counts where the scope says.
    pub(crate) fn counts_in(&self, number: u16, scope: &Scope<'_>) -> bool {
        self.rules.get(usize::from(number)).is_some_and(|rule| self.counts(rule, scope))
    }

    /// Why somebody with access has which roles, ordered, each reason once.
    ///
    /// `groups` are those that the user is a member of, `snapshot` the record that describes the
    /// user.
    pub(crate) fn reasons<'g>(
        &self,
        groups: impl Iterator<Item = (Sym, &'g str, Sym)>,
        snapshot: (Seq32, Part),
        scope: &Scope<'_>,
        attributes: &Attributes,
    ) -> RoleGrounds {
        let mut reasons = RoleGrounds::new();
        let mut give = |number: u16, roles: Option<&[(Rank, u16)]>, group: Sym| {
            let Some(rule) =
                self.rules.get(usize::from(number)).filter(|rule| self.counts(rule, scope))
            else {
                return;
            };
            let roles = roles.unwrap_or(&rule.roles);
            reasons.extend(roles.iter().map(|(role, rule)| RoleGround {
                role: *role,
                rule: *rule,
                group,
            }));
        };
        for (group, id, name) in groups {
            self.rules_of_group(id, name).for_each(|rule| give(rule, None, group));
        }
        if !self.by_key.is_empty() {
            for key in attributes.of_snapshot(snapshot.0, snapshot.1) {
                for (rule, roles) in self.by_key.get(key).into_iter().flatten() {
                    give(*rule, Some(roles), NO_SYM);
                }
            }
        }
        if reasons.is_empty() {
            reasons.extend(self.defaults.iter().map(|role| RoleGround {
                role: *role,
                rule: DEFAULT,
                group: NO_SYM,
            }));
        }
        if self.mapping.mode == Mode::HighestPriority
            && let Some(highest) = reasons.iter().map(|reason| reason.role).min()
        {
            reasons.retain(|reason| reason.role == highest);
        }
        reasons.sort_unstable();
        reasons.dedup();
        reasons
    }

    /// The keys of attributes by which a role is given.
    pub(crate) fn keys_giving(&self, role: Rank) -> impl Iterator<Item = u32> {
        let gives = move |given: &[Gift]| {
            given.iter().any(|(_, roles)| roles.iter().any(|(given, _)| *given == role))
        };
        self.by_key.iter().filter(move |(_, given)| gives(given)).map(|(key, _)| *key)
    }

    /// Whether a rule gives a role to a group's members.
    pub(crate) fn gives(&self, number: u16, role: Rank) -> bool {
        self.rules
            .get(usize::from(number))
            .is_some_and(|rule| rule.roles.iter().any(|(given, _)| *given == role))
    }

    /// Whether a role is among the defaults.
    pub(crate) fn is_default(&self, role: Rank) -> bool {
        self.defaults.contains(&role)
    }

    pub(crate) fn rank(&self, role: &str) -> Option<Rank> {
        self.roles.iter().position(|other| other == role).map(|rank| rank as Rank)
    }

    pub(crate) fn role(&self, rank: Rank) -> &str {
        self.roles.get(usize::from(rank)).map_or("", |role| role)
    }

    /// What a reason is over time.
    pub(crate) fn key(&self, reason: RoleGround) -> GroundKey {
        let [roles, meanings] = &self.words;
        let word = |words: &[Sym], at: u16| words.get(usize::from(at)).copied().unwrap_or(NO_SYM);
        GroundKey {
            role: word(roles, reason.role),
            meaning: word(meanings, reason.rule),
            group: reason.group,
        }
    }

    /// The path of an attribute's rule.
    pub(crate) fn attribute(&self, rule: u16) -> Option<&str> {
        match &self.mapping.rules.get(usize::from(rule))?.matches {
            Matches::Attribute { path, .. } => Some(path),
            Matches::Group { .. } => None,
        }
    }
}

pub(super) type Meaning<'a> =
    (Option<&'a GroupPattern>, Option<&'a str>, Option<&'a str>, Option<&'a str>);

/// What a rule matches and where, whatever it gives.
pub(super) fn meaning(rule: &crate::ground::mapping::Rule) -> Meaning<'_> {
    let (group, path) = match &rule.matches {
        Matches::Group { group, .. } => (Some(group), None),
        Matches::Attribute { path, .. } => (None, Some(path.as_str())),
    };
    (group, path, rule.directory.as_deref(), rule.organization.as_deref())
}
