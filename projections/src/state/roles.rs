//! Every role mapping that was set, and the attributes that they ask for.

use alloc::sync::Arc;
use std::collections::{BTreeSet, HashMap, HashSet};

use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use crate::ground::mapping::{Mapping, Mode, RoleNames, Rule};
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::pack::{Pack, Packer, Unpacker, pack_fields};
use crate::ground::symbols::{Sym, Symbols};
use crate::state::attributes::Attributes;
use crate::state::compiled_mapping::{Compiled, Meanings};
use crate::state::entities::{Entities, Entity, Part};
use crate::state::name_matches::{GroupName, GroupNames, NameMatches, NamePatterns};

/// The number of mappings of a block.
const BLOCK: usize = 64;

/// The turns of a group whose names are looked at one by one; few in debug builds, so that the short
/// histories of tests have groups with more.
const FEW_TURNS: usize = if cfg!(debug_assertions) { 2 } else { 8 };

/// Every mapping set so far, and the attributes that they ask for.
#[derive(Default)]
pub(crate) struct Roles {
    /// In order of seq.
    mappings: Vec<Compiled>,
    /// The earliest moment at which a mapping takes effect, of each [`BLOCK`] mappings.
    earliest: Vec<Millis>,
    group_names: GroupNames,
    patterns: NamePatterns,
    /// The patterns that any name of a group fits, of the groups with more than [`FEW_TURNS`].
    patterns_of_renamed: HashMap<Sym, SmallVec<[u32; 2]>, FxBuildHasher>,
    /// Each name that one of those groups ever had, and the group.
    names_of_renamed: BTreeSet<(Sym, Sym)>,
    /// A mapping that is about to be set, and the rules that names of groups fit.
    expected: Option<(Mapping, NameMatches)>,
    attributes: Attributes,
    /// Every rule of every mapping: equal rules are stored once.
    rules: HashSet<Arc<Rule>>,
    /// About the bytes of memory that all mappings take.
    bytes: usize,
    /// The symbols of roles and of rules' meanings, for grounds that outlast a mapping.
    symbols: Symbols,
    meanings: Meanings,
}

impl Roles {
    /// Adds a mapping. Patterns that no mapping had before cost a look at each name that is new to
    /// its preparation, and one for each group of the names that fit them.
    pub(crate) fn set(
        &mut self,
        mut mapping: Mapping,
        seq: Seq,
        set_at: Millis,
        effective_from: Millis,
    ) {
        let known_patterns = self.patterns.count();
        self.bytes += self.bytes_of(&mapping);
        mapping.rules.iter_mut().for_each(|rule| self.share_rule(rule));
        mapping.rules.shrink_to_fit();
        self.attributes.want(&mapping);
        let expected = self.expected.take().filter(|(expected, _)| *expected == mapping);
        let matches = expected.map_or_else(NameMatches::default, |(_, matches)| matches);
        let mut newly_fitting = Vec::new();
        let by_pattern =
            self.patterns.add_mapping(&mapping, &matches, &self.group_names, &mut newly_fitting);
        newly_fitting.into_iter().for_each(|name| self.rematch_groups(name, known_patterns));
        let mut compiled = Compiled::new(mapping, NameMatches::default(), &self.attributes);
        compiled.set_patterns(by_pattern);
        compiled.version = self.mappings.len() + 1;
        compiled.seq = seq;
        compiled.set_at = set_at;
        compiled.effective_from = effective_from;
        compiled.intern(&mut self.symbols, &mut self.meanings);
        if let Some(before) = self.mappings.last() {
            compiled.share(before);
        }
        match self.earliest.last_mut() {
            Some(earliest) if !self.mappings.len().is_multiple_of(BLOCK) => {
                *earliest = effective_from.min(*earliest);
            }
            _ => self.earliest.push(effective_from),
        }
        self.mappings.push(compiled);
    }

    /// Adds the patterns from number `first` on that a name fits to those of the groups with many
    /// turns that ever had it.
    fn rematch_groups(&mut self, name: Sym, first: u32) {
        for (_, group) in self.names_of_renamed.range((name, Sym::MIN)..=(name, Sym::MAX)) {
            if let Some(patterns) = self.patterns_of_renamed.get_mut(group) {
                self.patterns.add_fitting(name, first, patterns);
            }
        }
    }

    /// Returns about the bytes of memory that all mappings set take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns about the bytes that another mapping would take: those of the rules that no mapping
    /// has yet, and of its indexes.
    pub(crate) fn bytes_of(&self, mapping: &Mapping) -> usize {
        let of_rule = |rule: &Arc<Rule>| {
            let own = if self.rules.contains(rule) { 0 } else { rule.bytes() };
            own + rule.shared_bytes()
        };
        mapping.rules.iter().map(of_rule).sum()
    }

    /// Puts the rule that is known already in the place of an equal one.
    fn share_rule(&mut self, rule: &mut Arc<Rule>) {
        match self.rules.get(rule) {
            Some(known) => *rule = known.clone(),
            None => drop(self.rules.insert(rule.clone())),
        }
    }

    /// Matches the names of groups that are new to a mapping.
    pub(crate) fn catch_up(&self, compiled: &mut Compiled) {
        compiled.catch_up(&self.group_names);
    }

    /// Keeps the rules that names of groups fit for a mapping that is about to be set.
    pub(crate) fn expect(&mut self, mapping: Mapping, matches: NameMatches) {
        self.expected = Some((mapping, matches));
    }

    /// Notes a group's name, as it is written and as it is compared.
    pub(crate) fn note_group_name(&mut self, name: Sym, written: &str, compared: &str) {
        if self.group_names.add(name, written, compared) {
            self.patterns.add_name(name, compared);
        }
    }

    /// Notes the name of a version that was just added to a group.
    pub(crate) fn note_version_of_group(&mut self, sym: Sym, group: &Entity, name: Sym) {
        if self.patterns_of_renamed.contains_key(&sym) {
            self.note_name_of_renamed(sym, name);
        } else {
            self.note_names_of(sym, group);
        }
    }

    /// Notes the names of all groups with many turns. Costs a look at each group, and at each turn
    /// of those.
    pub(crate) fn note_names_of_all(&mut self, groups: &Entities) {
        groups.iter().for_each(|(sym, group)| self.note_names_of(sym, group));
    }

    /// Notes every name that a group ever had, if it has many turns.
    fn note_names_of(&mut self, sym: Sym, group: &Entity) {
        if group.turns().len() > FEW_TURNS {
            group.turns().iter().for_each(|turn| self.note_name_of_renamed(sym, turn.label));
        }
    }

    fn note_name_of_renamed(&mut self, sym: Sym, name: Sym) {
        let patterns = self.patterns_of_renamed.entry(sym).or_default();
        if self.names_of_renamed.insert((name, sym)) {
            self.patterns.add_fitting(name, 0, patterns);
        }
    }

    /// Tells if a rule of a mapping, which must be set, fits a group by its id or by any name that
    /// it ever had. Costs a look at each of its names if they are few, and else at each pattern
    /// that they fit.
    pub(crate) fn ever_fits(&self, mapping: &Compiled, sym: Sym, id: &str, group: &Entity) -> bool {
        if let Some(patterns) = self.patterns_of_renamed.get(&sym) {
            return mapping.has_rule_of_patterns(id, patterns);
        }
        let mut before = None;
        let names = group.turns().iter().map(|turn| turn.label);
        let mut names = names.filter(|name| before.replace(*name) != Some(*name));
        names.any(|name| mapping.has_rule_of_patterns(id, self.patterns.fitting(name)))
    }

    /// Returns the patterns of names in the rules of the mappings set.
    pub(crate) fn patterns(&self) -> &NamePatterns {
        &self.patterns
    }

    /// Returns a group's name as it is compared.
    pub(crate) fn compared_name(&self, name: Sym) -> &str {
        self.group_names.compared(name)
    }

    /// Tells if some group's name with this compared form is written in another form.
    pub(crate) fn is_rewritten(&self, compared: &str) -> bool {
        self.group_names.is_rewritten(compared)
    }

    /// Returns the names of groups behind the first `seen`.
    pub(crate) fn group_names(&self, seen: usize) -> &[GroupName] {
        self.group_names.behind(seen)
    }

    /// Returns the one in force: of those that are effective and known the newest. Those that take
    /// effect later are passed over in blocks.
    pub(crate) fn in_force(&self, cut: Cut) -> Option<&Compiled> {
        let mut end = self.mappings.partition_point(|mapping| mapping.seq <= cut.known_at);
        while let Some(last) = end.checked_sub(1) {
            let first = last / BLOCK * BLOCK;
            if self.earliest.get(last / BLOCK).is_some_and(|earliest| *earliest <= cut.as_of) {
                let block = self.mappings.get(first..end).unwrap_or_default();
                let found = block.iter().rev().find(|mapping| mapping.is_seen(cut));
                if found.is_some() {
                    return found;
                }
            }
            end = first;
        }
        None
    }

    /// Returns the mappings that are known and in force at any moment from `from` on, the newest
    /// first. The others are overridden by newer ones.
    pub(crate) fn in_force_since(&self, from: Millis, known_at: Seq) -> SmallVec<[&Compiled; 4]> {
        let mut found: SmallVec<[&Compiled; 4]> = SmallVec::new();
        let mut until = None;
        for mapping in self.mappings.iter().rev().filter(|mapping| mapping.seq <= known_at) {
            if until.is_some_and(|until| until <= from) {
                break;
            }
            if until.is_none_or(|until| mapping.effective_from < until) {
                until = Some(mapping.effective_from);
                found.push(mapping);
            }
        }
        found
    }

    /// Tells if there is a moment, `from` or later, at which no known mapping is in force.
    pub(crate) fn is_unmapped_since(&self, from: Millis, known_at: Seq) -> bool {
        self.known(known_at).all(|mapping| mapping.effective_from > from)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Compiled> + ExactSizeIterator {
        self.mappings.iter()
    }

    /// Iterates over those known at `known_at`, in force or not.
    pub(crate) fn known(&self, known_at: Seq) -> impl Iterator<Item = &Compiled> {
        self.mappings.iter().take_while(move |mapping| mapping.seq <= known_at)
    }

    pub(crate) fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Notes the keys that a snapshot of a user has.
    pub(crate) fn note_attributes(&mut self, seq: Seq, part: Part, user: Sym, keys: &[u32]) {
        self.attributes.note(seq, part, user, keys);
    }

    /// Replaces the attributes kept so far. The new ones must ask for at least as much; keys are
    /// numbered anew.
    pub(crate) fn install_attributes(&mut self, attributes: Attributes) {
        let old = std::mem::replace(&mut self.attributes, attributes);
        debug_assert!(self.attributes.covers(&old));
        let mut before: Option<&Compiled> = None;
        for mapping in &mut self.mappings {
            mapping.renumber_keys(&self.attributes);
            if let Some(before) = before {
                mapping.share(before);
            }
            before = Some(mapping);
        }
    }

    /// Returns a role by its symbol.
    pub(crate) fn role(&self, role: Sym) -> &str {
        self.symbols.text(role)
    }
}

/// A mapping as it was set, with the numbers of its rules among those of all mappings.
struct PackedMapping {
    mode: Mode,
    default_roles: RoleNames,
    priority: RoleNames,
    rules: Vec<u32>,
    seq: Seq,
    set_at: Millis,
    effective_from: Millis,
}

pack_fields!(PackedMapping { mode, default_roles, priority, rules, seq, set_at, effective_from });

impl Roles {
    /// Writes it: the mappings as they were set, what names of groups fit, and the keys that the
    /// versions of `users` have. Everything else is made anew from the mappings.
    pub(crate) fn pack(&self, users: &Entities, to: &mut Packer<'_>) {
        let Roles {
            mappings,
            earliest: _,
            group_names,
            patterns,
            patterns_of_renamed: _,
            names_of_renamed: _,
            expected: _,
            attributes,
            rules: _,
            bytes: _,
            symbols: _,
            meanings: _,
        } = self;
        group_names.pack(to);
        patterns.pack(to);
        let (mut rules, mut numbers) = (Vec::new(), HashMap::<_, u32, FxBuildHasher>::default());
        for rule in mappings.iter().flat_map(|compiled| &compiled.mapping.rules) {
            numbers.entry(Arc::as_ptr(rule)).or_insert_with(|| {
                rules.push(rule);
                rules.len() as u32 - 1
            });
        }
        to.all(rules);
        to.count(mappings.len());
        for compiled in mappings {
            let Mapping { mode, default_roles, priority, rules } = &compiled.mapping;
            let rules = rules.iter().filter_map(|rule| numbers.get(&Arc::as_ptr(rule)).copied());
            PackedMapping {
                mode: *mode,
                default_roles: default_roles.clone(),
                priority: priority.clone(),
                rules: rules.collect(),
                seq: compiled.seq,
                set_at: compiled.set_at,
                effective_from: compiled.effective_from,
            }
            .pack(to);
        }
        let wanted = Attributes::of(mappings.iter().map(|compiled| &compiled.mapping));
        attributes.pack_notes(users, &wanted, to);
    }

    /// Reads what [`Roles::pack`] wrote. [`Roles::note_names_of_all`] is to follow.
    pub(crate) fn unpack(from: &mut Unpacker<'_>) -> Option<Roles> {
        let mut roles = Roles {
            group_names: Pack::unpack(from)?,
            patterns: Pack::unpack(from)?,
            ..Roles::default()
        };
        let rules: Vec<Arc<Rule>> = Pack::unpack(from)?;
        for _ in 0..from.count()? {
            let packed = PackedMapping::unpack(from)?;
            let own = packed.rules.iter().map(|number| rules.get(*number as usize).cloned());
            let mapping = Mapping {
                mode: packed.mode,
                default_roles: packed.default_roles,
                priority: packed.priority,
                rules: own.collect::<Option<_>>()?,
            };
            roles.set(mapping, packed.seq, packed.set_at, packed.effective_from);
        }
        roles.attributes.unpack_notes(from)?;
        Some(roles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::mapping::{GroupPattern, Matches, NameText};

    fn rule(group: &str, role: &str) -> Arc<Rule> {
        let group = GroupPattern::Name(NameText::new(group, group));
        let matches = Matches::Group { group, roles: vec![role.to_owned()] };
        Arc::new(Rule { matches, directory: None, organization: None })
    }

    fn rule_of_value(path: &str, values: &[(&str, &[&str])]) -> Arc<Rule> {
        let roles = |roles: &[&str]| roles.iter().map(|role| (*role).to_owned()).collect();
        let values = values.iter().map(|(value, given)| ((*value).to_owned(), roles(given)));
        let matches = Matches::Attribute { path: path.to_owned(), values: values.collect() };
        Arc::new(Rule { matches, directory: None, organization: None })
    }

    fn with_rules(rules: impl IntoIterator<Item = Vec<Arc<Rule>>>) -> Roles {
        let mut roles = Roles::default();
        for (seq, rules) in (1..).zip(rules) {
            roles.set(Mapping { rules, ..Mapping::default() }, seq, 0, 0);
        }
        roles
    }

    #[test]
    fn the_mapping_in_force_is_the_newest_known_and_effective_one() {
        let mut roles = Roles::default();
        // Each takes effect at a moment that has nothing to do with its place.
        let moment = |seq: Seq| (seq * 7919 % 1000) as Millis;
        for seq in 1..=300 {
            roles.set(Mapping::default(), seq, 0, moment(seq));
        }
        for as_of in [-1, 0, 3, 40, 500, 999, 1000] {
            for known_at in [0, 1, 63, 64, 65, 130, 299, 300, 9999] {
                let cut = Cut { as_of, known_at };
                let found = roles.in_force(cut).map(|mapping| mapping.seq);
                let wanted = (1..=known_at.min(300)).rev().find(|seq| moment(*seq) <= as_of);
                assert_eq!(found, wanted, "{cut:?}");
            }
        }
    }

    #[test]
    fn mappings_share_the_rules_that_they_have_in_common() {
        let roles = with_rules([
            vec![rule("a", "r"), rule("b", "r")],
            vec![rule("c", "r"), rule("a", "r")],
            vec![rule("a", "s"), rule("b", "r")],
        ]);
        let [first, second, third] = &roles.mappings[..] else { panic!("three were set") };
        let rule = |of: &Compiled, number: usize| of.mapping.rules[number].clone();
        assert!(Arc::ptr_eq(&rule(first, 0), &rule(second, 1)));
        assert!(Arc::ptr_eq(&rule(first, 1), &rule(third, 1)));
        assert!(!Arc::ptr_eq(&rule(first, 0), &rule(third, 0)));
        assert_eq!(roles.rules.len(), 4);
    }

    fn rule_of_glob(glob: &str) -> Arc<Rule> {
        let group = GroupPattern::Glob(NameText::new(glob, glob));
        let matches = Matches::Group { group, roles: vec!["r".to_owned()] };
        Arc::new(Rule { matches, directory: None, organization: None })
    }

    #[test]
    fn a_name_fits_the_rules_of_each_mapping_whichever_of_both_came_first() {
        let names = ["a", "b", "ab", "abc", "", "b*", "other"];
        let globs = |globs: &[&str]| globs.iter().map(|glob| rule_of_glob(glob)).collect();
        let mappings: Vec<Vec<Arc<Rule>>> = vec![
            vec![rule("ab", "r"), rule_of_glob("a*"), rule("b*", "s"), rule("ab", "s")],
            globs(&["a*", "*b", "?", "a*"]),
            vec![rule_of_value("p", &[("x", &["r"])]), rule("other", "r"), rule_of_glob("*")],
            globs(&["*b", "nothing"]),
            vec![rule("never", "r")],
        ];
        // A mapping may be prepared when some names are known, and be set after others came.
        for (prepared_at, set_at) in [(0, 0), (0, 3), (2, 2), (2, 5), (4, 7), (7, 7)] {
            let mut roles = Roles::default();
            let note = |roles: &mut Roles, number: usize| {
                roles.note_group_name(number as Sym, names[number], names[number]);
            };
            let mut prepared = Vec::new();
            for number in 0..set_at.max(prepared_at) {
                if number == prepared_at {
                    prepared = matches_of(&roles, &mappings);
                }
                note(&mut roles, number);
            }
            if prepared_at == set_at {
                prepared = matches_of(&roles, &mappings);
            }
            for (rules, matches) in mappings.iter().zip(prepared) {
                let mapping = Mapping { rules: rules.clone(), ..Mapping::default() };
                roles.expect(mapping.clone(), matches);
                roles.set(mapping, 1, 0, 0);
            }
            (set_at..names.len()).for_each(|number| note(&mut roles, number));
            for compiled in roles.iter() {
                for (number, name) in names.iter().enumerate() {
                    let fits = |rule: &Rule| match &rule.matches {
                        Matches::Group { group, .. } => group.fits_name(name, &mut 0),
                        Matches::Attribute { .. } => false,
                    };
                    let rules = (0..).zip(&compiled.mapping.rules);
                    let wanted: Vec<u16> =
                        rules.filter(|(_, rule)| fits(rule)).map(|(number, _)| number).collect();
                    let found = compiled.rules_of_group("id", number as Sym, roles.patterns());
                    assert_eq!(found.to_vec(), wanted, "{name} of {}", compiled.version);
                }
            }
        }
    }

    fn matches_of(roles: &Roles, mappings: &[Vec<Arc<Rule>>]) -> Vec<NameMatches> {
        let matches = mappings.iter().map(|rules| {
            let mut matches = NameMatches::default();
            let mapping = Mapping { rules: rules.clone(), ..Mapping::default() };
            matches.add(&mapping, roles.group_names(0));
            matches
        });
        matches.collect()
    }

    #[test]
    fn a_name_that_is_compared_as_it_is_written_is_stored_once() {
        let [plain, accent] = [NameText::new("a", "a"), NameText::new("e\u{301}", "\u{e9}")];
        assert!(Arc::ptr_eq(&plain.written, &plain.compared));
        assert_eq!((&*accent.written, &*accent.compared), ("e\u{301}", "\u{e9}"));
    }

    #[test]
    fn a_key_has_its_rules_in_the_order_written_and_each_once() {
        let roles = with_rules([vec![
            rule_of_value("p", &[("y", &["r"]), ("x", &["r", "s"])]),
            rule_of_value("q", &[("x", &["s"])]),
            rule_of_value("p", &[("x", &["t"])]),
        ]]);
        let [mapping] = &roles.mappings[..] else { panic!("one was set") };
        let key = |path, value| roles.attributes.key(path, value).unwrap();
        let rules = |key| -> Vec<*const Rule> {
            mapping.rules_of_key(key).map(std::ptr::from_ref).collect()
        };
        let written = |number: usize| std::ptr::from_ref(&*mapping.mapping.rules[number]);
        assert_eq!(rules(key("p", "x")), [written(0), written(2)]);
        assert_eq!(rules(key("p", "y")), [written(0)]);
        assert_eq!(rules(key("q", "x")), [written(1)]);
        assert_eq!(rules(3), []);
        assert_eq!(mapping.keys().collect::<Vec<_>>(), [0, 1, 2]);
        let giving = |role| {
            let mut keys: Vec<u32> = mapping.keys_giving(mapping.rank(role).unwrap()).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(giving("s"), [key("p", "x"), key("q", "x")]);
        assert_eq!(giving("t"), [key("p", "x")]);
    }
}
