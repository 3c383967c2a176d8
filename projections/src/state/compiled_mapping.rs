//! One role mapping, indexed so that a user's roles cost a look-up for each group.

use alloc::sync::Arc;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};

use smallvec::SmallVec;

use crate::ground::mapping::{GroupPattern, Mapping, Matches, Mode, RoleNames, Rule};
use crate::ground::order::{Cut, Millis, Seq, Seq32};
use crate::ground::symbols::{NO_SYM, Sym, Symbols};
use crate::state::attributes::Attributes;
use crate::state::entities::Part;
use crate::state::name_matches::{GroupNames, NameMatches, NamePatterns, PatternRule};

/// The number of a role in its mapping: the highest is 0.
pub(crate) type Rank = u16;

/// The rule of a ground that has none: the role is a default.
pub(crate) const DEFAULT: u16 = u16::MAX;

/// One of the grounds on which a user has a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RoleGround {
    pub(crate) role: Rank,
    /// The first of the rules that mean the same, or [`DEFAULT`].
    pub(crate) rule: u16,
    /// The group through which it matches, or [`NO_SYM`].
    pub(crate) group: Sym,
}

pub(crate) type RoleGrounds = SmallVec<[RoleGround; 8]>;

/// The identity of a ground over time, also from one mapping to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GroundKey {
    pub(crate) role: Sym,
    /// The meaning of the rule; [`NO_SYM`] for a default.
    pub(crate) meaning: Sym,
    pub(crate) group: Sym,
}

/// A mapping, set or only proposed, with its indexes. Each index is shared with the mapping set
/// before it if they are equal: an operator may set many mappings that differ little.
#[derive(Clone)]
pub(crate) struct Compiled {
    pub(crate) version: usize,
    pub(crate) seq: Seq,
    pub(crate) set_at: Millis,
    pub(crate) effective_from: Millis,
    pub(crate) mapping: Mapping,
    /// Every role that can be given, by rank: those in `priority` in its order, then the others by
    /// name.
    roles: RoleNames,
    /// By rule: the roles of a matching group's members; none for a rule about attributes.
    group_roles: Arc<[GivenRoles]>,
    by_group_id: Arc<GroupIds>,
    by_group_name: RulesOfNames,
    /// The rules that name a value of an attribute, in order of the value's key.
    by_key: Arc<[ValueRule]>,
    defaults: SmallVec<[Rank; 2]>,
    /// By rank: the role's symbol, the same in all mappings. Empty until the mapping is set.
    role_symbols: Arc<[Sym]>,
    /// By rule: the symbol of its meaning, the same in all mappings. Empty until the mapping is
    /// set.
    meaning_symbols: Arc<[Sym]>,
}

/// The rules that names of groups fit.
#[derive(Clone)]
enum RulesOfNames {
    /// Those of a mapping that is not set, by name.
    OfNames(NameMatches),
    /// Those of one that is set, by the patterns that it shares with others.
    OfPatterns(Arc<[PatternRule]>),
}

/// The rules that a group fits.
pub(crate) type FittingRules = SmallVec<[u16; 4]>;

/// A role that a rule gives, and the rule that is named as its ground.
#[derive(Clone, Copy, PartialEq, Eq)]
struct GivenRole {
    role: Rank,
    rule: u16,
}

type GivenRoles = SmallVec<[GivenRole; 2]>;

/// The rules that name a group by its id.
type GroupIds = HashMap<Arc<str>, SmallVec<[u16; 2]>>;

/// A rule, and one role that it gives for one value of an attribute. There are many of them: a
/// mapping of 1 MiB may have a hundred thousand.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ValueRule {
    key: u32,
    rule: u16,
    given: GivenRole,
}

/// A user's directory and organization, by which rules are narrowed.
pub(crate) struct RuleScope<'a> {
    pub(crate) directory: &'a str,
    pub(crate) organization: &'a str,
}

/// A group that a user is a member of.
pub(crate) struct MemberOf<'a> {
    pub(crate) group: Sym,
    pub(crate) id: &'a str,
    pub(crate) name: Sym,
}

impl Compiled {
    /// Indexes a mapping. `matches` are the rules that names of groups fit, `attributes` numbers the
    /// values that its rules name.
    pub(crate) fn new(mapping: Mapping, matches: NameMatches, attributes: &Attributes) -> Compiled {
        let roles = ranked_roles(&mapping);
        let compiler = Compiler::new(&mapping, &roles);
        let group_roles = compiler.group_roles();
        let by_key = compiler.by_key(attributes);
        let defaults = compiler.ranks(&mapping.default_roles).collect();
        let by_group_id = by_group_id(&mapping);
        Compiled {
            version: 0,
            seq: 0,
            set_at: Millis::MIN,
            effective_from: Millis::MIN,
            mapping,
            roles,
            group_roles,
            by_group_id,
            by_group_name: RulesOfNames::OfNames(matches),
            by_key,
            defaults,
            role_symbols: Arc::default(),
            meaning_symbols: Arc::default(),
        }
    }

    /// Has the rules about names found by the patterns that all mappings set share.
    pub(super) fn set_patterns(&mut self, rules: Arc<[PatternRule]>) {
        self.by_group_name = RulesOfNames::OfPatterns(rules);
    }

    /// Interns the roles and meanings, by which grounds are recognized in other mappings.
    pub(super) fn intern(&mut self, roles: &mut Symbols, meanings: &mut Meanings) {
        self.role_symbols = self.roles.iter().map(|role| roles.intern(role)).collect();
        self.meaning_symbols =
            self.mapping.rules.iter().map(|rule| meanings.intern(rule)).collect();
    }

    /// Shares the indexes that equal those of the mapping set before.
    pub(super) fn share(&mut self, before: &Compiled) {
        share(&mut self.mapping.default_roles, &before.mapping.default_roles);
        share(&mut self.mapping.priority, &before.mapping.priority);
        share(&mut self.roles, &before.roles);
        share(&mut self.group_roles, &before.group_roles);
        share(&mut self.by_group_id, &before.by_group_id);
        share(&mut self.by_key, &before.by_key);
        if let (RulesOfNames::OfPatterns(mine), RulesOfNames::OfPatterns(other)) =
            (&mut self.by_group_name, &before.by_group_name)
        {
            share(mine, other);
        }
        share(&mut self.role_symbols, &before.role_symbols);
        share(&mut self.meaning_symbols, &before.meaning_symbols);
    }

    /// Matches the names of groups that were not looked at yet, of a mapping that is not set.
    pub(super) fn catch_up(&mut self, names: &GroupNames) {
        if let RulesOfNames::OfNames(matches) = &mut self.by_group_name {
            matches.add(&self.mapping, names.behind(matches.seen()));
        }
    }

    /// Numbers the keys anew by other attributes.
    pub(super) fn renumber_keys(&mut self, attributes: &Attributes) {
        self.by_key = Compiler::new(&self.mapping, &self.roles).by_key(attributes);
    }

    /// Tells if the mapping is known and effective at the cut.
    pub(super) fn is_seen(&self, cut: Cut) -> bool {
        self.seq <= cut.known_at && self.effective_from <= cut.as_of
    }

    /// Returns the rules that a group fits, in any scope: those with its id, then those with its
    /// name, each in the order written.
    pub(crate) fn rules_of_group(
        &self,
        id: &str,
        name: Sym,
        patterns: &NamePatterns,
    ) -> FittingRules {
        match &self.by_group_name {
            RulesOfNames::OfNames(matches) => {
                let mut rules = self.rules_of_id(id);
                rules.extend_from_slice(matches.rules(name));
                rules
            }
            RulesOfNames::OfPatterns(_) => self.rules_of_patterns(id, patterns.fitting(name)),
        }
    }

    fn rules_of_id(&self, id: &str) -> FittingRules {
        let by_id = if self.by_group_id.is_empty() { None } else { self.by_group_id.get(id) };
        by_id.into_iter().flatten().copied().collect()
    }

    /// Returns the same rules for a group whose name fits some patterns. The mapping must be set.
    fn rules_of_patterns(&self, id: &str, patterns: &[u32]) -> FittingRules {
        let mut rules = self.rules_of_id(id);
        if let RulesOfNames::OfPatterns(by_pattern) = &self.by_group_name {
            let before = rules.len();
            for pattern in patterns {
                rules.extend(rules_of_pattern(by_pattern, *pattern));
            }
            if let Some(of_name) = rules.get_mut(before..) {
                of_name.sort_unstable();
            }
        }
        rules
    }

    /// Tells if such a group fits any rule. Looks no further than the first pattern with a rule.
    pub(super) fn has_rule_of_patterns(&self, id: &str, patterns: &[u32]) -> bool {
        let RulesOfNames::OfPatterns(by_pattern) = &self.by_group_name else { return false };
        (!self.by_group_id.is_empty() && self.by_group_id.contains_key(id))
            || patterns.iter().any(|number| rules_of_pattern(by_pattern, *number).next().is_some())
    }

    /// Tells if one of these rules writes the name of its group.
    pub(crate) fn names_one_of(&self, rules: &[u16]) -> bool {
        rules
            .iter()
            .filter_map(|number| self.mapping.rules.get(usize::from(*number)))
            .any(|rule| matches!(rule.matches, Matches::Group { group: GroupPattern::Name(_), .. }))
    }

    /// Tells if two mappings differ in nothing but their rules and the order in which roles are
    /// shown.
    pub(crate) fn differs_in_rules_only(&self, other: &Compiled) -> bool {
        let (a, b) = (&self.mapping, &other.mapping);
        let ranks_alike = a.mode == Mode::All || a.priority == b.priority;
        a.mode == b.mode && ranks_alike && a.default_roles == b.default_roles
    }

    /// Tells if a user without any matching rule has roles.
    pub(crate) fn has_defaults(&self) -> bool {
        !self.defaults.is_empty()
    }

    /// Iterates over the keys of attributes by which a role is given.
    pub(crate) fn keys(&self) -> impl Iterator<Item = u32> {
        self.by_key.chunk_by(|a, b| a.key == b.key).filter_map(|rules| Some(rules.first()?.key))
    }

    /// Iterates over the keys to which two mappings do not give the same by the same rules.
    pub(crate) fn keys_unlike<'a>(&'a self, other: &'a Compiled) -> impl Iterator<Item = u32> {
        let is_unlike = move |key: &u32| !self.rules_of_key(*key).eq(other.rules_of_key(*key));
        self.keys().chain(other.keys()).filter(is_unlike)
    }

    /// Iterates over the rules that name an attribute's value, as they were written.
    pub(super) fn rules_of_key(&self, key: u32) -> impl Iterator<Item = &Rule> {
        let rules = self.values(key).chunk_by(|a, b| a.rule == b.rule);
        rules.filter_map(|values| self.rule(values.first()?.rule))
    }

    /// Returns the rules that name an attribute's value, in the order written, each once for every
    /// role.
    fn values(&self, key: u32) -> &[ValueRule] {
        let start = self.by_key.partition_point(|value| value.key < key);
        let behind = self.by_key.get(start..).unwrap_or(&[]);
        let length = behind.partition_point(|value| value.key == key);
        behind.get(..length).unwrap_or(&[])
    }

    fn rule(&self, number: u16) -> Option<&Rule> {
        self.mapping.rules.get(usize::from(number)).map(|rule| &**rule)
    }

    /// Tells if the same rules of two mappings fit a group.
    pub(crate) fn treats_alike(
        &self,
        other: &Compiled,
        id: &str,
        name: Sym,
        patterns: &NamePatterns,
    ) -> bool {
        self.fitting(id, name, patterns).eq(other.fitting(id, name, patterns))
    }

    /// Iterates over the rules that a group fits, as they were written.
    fn fitting(&self, id: &str, name: Sym, patterns: &NamePatterns) -> impl Iterator<Item = &Rule> {
        let rules = self.rules_of_group(id, name, patterns).into_iter();
        rules.filter_map(|number| self.rule(number))
    }

    /// Tells if a rule asks for an organization.
    pub(crate) fn asks_for_organizations(&self) -> bool {
        self.mapping.rules.iter().any(|rule| rule.organization.is_some())
    }

    /// Tells if rule `number` counts in a scope.
    pub(crate) fn counts_in(&self, number: u16, scope: &RuleScope<'_>) -> bool {
        self.rule(number).is_some_and(|rule| scope.has(rule))
    }

    /// Returns the roles that a rule gives to a group's members.
    fn group_roles(&self, number: u16) -> &[GivenRole] {
        self.group_roles.get(usize::from(number)).map_or(&[], |roles| roles)
    }

    /// Returns the grounds of all roles of a user with access, ordered, each once.
    ///
    /// `groups` are those that the user is a member of, `snapshot` is the record that describes the
    /// user.
    pub(crate) fn grounds<'g>(
        &self,
        groups: impl Iterator<Item = MemberOf<'g>>,
        snapshot: (Seq32, Part),
        scope: &RuleScope<'_>,
        attributes: &Attributes,
        patterns: &NamePatterns,
    ) -> RoleGrounds {
        let mut grounds = RoleGrounds::new();
        for MemberOf { group, id, name } in groups {
            for number in self.rules_of_group(id, name, patterns) {
                if self.counts_in(number, scope) {
                    let roles = self.group_roles(number).iter();
                    grounds.extend(roles.map(|given| given.through(group)));
                }
            }
        }
        if !self.by_key.is_empty() {
            for key in attributes.of_snapshot(snapshot.0, snapshot.1) {
                let values = self.values(*key).iter();
                let counting = values.filter(|value| self.counts_in(value.rule, scope));
                grounds.extend(counting.map(|value| value.given.through(NO_SYM)));
            }
        }
        if grounds.is_empty() {
            let defaults = self.defaults.iter();
            grounds.extend(
                defaults.map(|role| GivenRole { role: *role, rule: DEFAULT }.through(NO_SYM)),
            );
        }
        if self.mapping.mode == Mode::HighestPriority
            && let Some(highest) = grounds.iter().map(|ground| ground.role).min()
        {
            grounds.retain(|ground| ground.role == highest);
        }
        grounds.sort_unstable();
        grounds.dedup();
        grounds
    }

    /// Returns the keys of attributes by which a role is given.
    pub(crate) fn keys_giving(&self, role: Rank) -> impl Iterator<Item = u32> {
        let keys = self.by_key.chunk_by(|a, b| a.key == b.key);
        keys.filter_map(move |values| values.iter().find(|value| value.given.role == role))
            .map(|value| value.key)
    }

    /// Tells if a rule gives a role to a group's members.
    pub(crate) fn gives(&self, number: u16, role: Rank) -> bool {
        self.group_roles(number).iter().any(|given| given.role == role)
    }

    /// Tells if a user has all roles that the rules give, so that none hides another.
    pub(crate) fn gives_all(&self) -> bool {
        self.mapping.mode == Mode::All
    }

    fn role_symbol(&self, rank: Rank) -> Sym {
        self.role_symbols.get(usize::from(rank)).copied().unwrap_or(NO_SYM)
    }

    /// Tells if a role is among the defaults.
    pub(crate) fn is_default(&self, role: Rank) -> bool {
        self.defaults.contains(&role)
    }

    pub(crate) fn rank(&self, role: &str) -> Option<Rank> {
        self.roles.iter().position(|other| other == role).map(|rank| rank as Rank)
    }

    /// Iterates over every role that can be given.
    pub(crate) fn all_roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(String::as_str)
    }

    pub(crate) fn role(&self, rank: Rank) -> &str {
        self.roles.get(usize::from(rank)).map_or("", |role| role)
    }

    /// Returns the identity of a ground over time. The mapping must be set.
    pub(crate) fn key(&self, ground: RoleGround) -> GroundKey {
        let meaning = self.meaning_symbols.get(usize::from(ground.rule)).copied();
        GroundKey {
            role: self.role_symbol(ground.role),
            meaning: meaning.unwrap_or(NO_SYM),
            group: ground.group,
        }
    }

    /// Returns the path of an attribute's rule.
    pub(crate) fn attribute(&self, rule: u16) -> Option<&str> {
        match &self.rule(rule)?.matches {
            Matches::Attribute { path, .. } => Some(path),
            Matches::Group { .. } => None,
        }
    }
}

/// Iterates over the rules of a pattern.
fn rules_of_pattern(by_pattern: &[PatternRule], pattern: u32) -> impl Iterator<Item = u16> {
    let start = by_pattern.partition_point(|rule| rule.pattern < pattern);
    let behind = by_pattern.get(start..).unwrap_or(&[]).iter();
    behind.take_while(move |rule| rule.pattern == pattern).map(|rule| rule.rule)
}

/// Takes the place of an equal value, which is dropped.
fn share<T: PartialEq + ?Sized>(mine: &mut Arc<T>, other: &Arc<T>) {
    if *mine == *other {
        *mine = other.clone();
    }
}

impl RuleScope<'_> {
    /// Tells if a rule counts here.
    fn has(&self, rule: &Rule) -> bool {
        rule.directory.as_ref().is_none_or(|directory| directory == self.directory)
            && rule
                .organization
                .as_ref()
                .is_none_or(|organization| organization == self.organization)
    }
}

impl GivenRole {
    fn through(self, group: Sym) -> RoleGround {
        RoleGround { role: self.role, rule: self.rule, group }
    }
}

/// The numbers that compiling one mapping needs.
struct Compiler<'m> {
    mapping: &'m Mapping,
    rank_of: HashMap<&'m String, Rank>,
    /// By rule: the first rule that means the same.
    firsts: Vec<u16>,
    /// By such a first rule and a role: the first of the rules of that meaning that gives it.
    named: HashMap<(u16, Rank), u16>,
}

impl<'m> Compiler<'m> {
    fn new(mapping: &'m Mapping, roles: &'m [String]) -> Compiler<'m> {
        let rank_of = roles.iter().zip(0..).collect();
        let mut meanings: HashMap<Meaning<'_>, u16> = HashMap::new();
        let numbered = mapping.rules.iter().zip(0..);
        let firsts = numbered
            .map(|(rule, number)| *meanings.entry(meaning(rule)).or_insert(number))
            .collect();
        let mut compiler = Compiler { mapping, rank_of, firsts, named: HashMap::new() };
        for (number, rule) in mapping.rules.iter().enumerate() {
            for role in rule.roles() {
                let key = (compiler.first(number), compiler.rank(role));
                compiler.named.entry(key).or_insert(number as u16);
            }
        }
        compiler
    }

    fn first(&self, rule: usize) -> u16 {
        self.firsts.get(rule).copied().unwrap_or(rule as u16)
    }

    fn rank(&self, role: &String) -> Rank {
        self.rank_of.get(role).copied().unwrap_or(0)
    }

    fn ranks(&self, roles: &[String]) -> impl Iterator<Item = Rank> {
        roles.iter().map(|role| self.rank(role))
    }

    /// Returns the roles that a rule gives. The ground of each is the first rule that means the
    /// same and may give it.
    fn given(&self, rule: usize, roles: &[String]) -> impl Iterator<Item = GivenRole> {
        let first = self.first(rule);
        let named = move |role| self.named.get(&(first, role)).copied().unwrap_or(rule as u16);
        self.ranks(roles).map(move |role| GivenRole { role, rule: named(role) })
    }

    fn group_roles(&self) -> Arc<[GivenRoles]> {
        let numbered = self.mapping.rules.iter().enumerate();
        let compile = |(number, rule): (usize, &Arc<Rule>)| match &rule.matches {
            Matches::Group { roles, .. } => self.given(number, roles).collect(),
            Matches::Attribute { .. } => GivenRoles::new(),
        };
        numbered.map(compile).collect()
    }

    fn by_key(&self, attributes: &Attributes) -> Arc<[ValueRule]> {
        let mut by_key = Vec::new();
        for (number, rule) in self.mapping.rules.iter().enumerate() {
            let Matches::Attribute { path, values } = &rule.matches else { continue };
            for (value, roles) in values {
                if let Some(key) = attributes.key(path, value) {
                    let rule = number as u16;
                    let given = self.given(number, roles);
                    by_key.extend(given.map(|given| ValueRule { key, rule, given }));
                }
            }
        }
        by_key.sort_by_key(|value| value.key);
        by_key.into()
    }
}

/// Returns every role of a mapping, the highest first: those in `priority` in its order, then the
/// others by name.
fn ranked_roles(mapping: &Mapping) -> RoleNames {
    let names: BTreeSet<String> = mapping.roles().cloned().collect();
    let mut roles: Vec<String> = names.into_iter().collect();
    let priorities: HashMap<&String, usize> = mapping.priority.iter().zip(0..).collect();
    roles.sort_by_key(|role| priorities.get(role).copied().unwrap_or(usize::MAX));
    roles.into()
}

fn by_group_id(mapping: &Mapping) -> Arc<GroupIds> {
    let mut by_group_id = GroupIds::new();
    for (number, rule) in (0..).zip(&mapping.rules) {
        if let Matches::Group { group: GroupPattern::Id(id), .. } = &rule.matches {
            by_group_id.entry(id.clone()).or_default().push(number);
        }
    }
    Arc::new(by_group_id)
}

/// The meanings of the rules of all mappings set, each with its symbol.
#[derive(Default)]
pub(super) struct Meanings(HashMap<SameMeaning, Sym>);

impl Meanings {
    fn intern(&mut self, rule: &Arc<Rule>) -> Sym {
        let next = self.0.len() as Sym;
        *self.0.entry(SameMeaning(rule.clone())).or_insert(next)
    }
}

/// A rule that equals each rule of the same meaning. Its text is the rule's and not copied.
struct SameMeaning(Arc<Rule>);

impl PartialEq for SameMeaning {
    fn eq(&self, other: &SameMeaning) -> bool {
        meaning(&self.0) == meaning(&other.0)
    }
}

impl Eq for SameMeaning {}

impl Hash for SameMeaning {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        meaning(&self.0).hash(hasher);
    }
}

/// The condition of a rule, without the roles that it gives. Two rules of one meaning are one
/// ground.
type Meaning<'a> =
    (Option<(&'static str, &'a str)>, Option<&'a str>, Option<&'a str>, Option<&'a str>);

fn meaning(rule: &Rule) -> Meaning<'_> {
    let (group, path) = match &rule.matches {
        Matches::Group { group, .. } => (Some(group.meaning()), None),
        Matches::Attribute { path, .. } => (None, Some(path.as_str())),
    };
    (group, path, rule.directory.as_deref(), rule.organization.as_deref())
}
