//! Every role mapping that was set, and the attributes that they ask for.

use smallvec::SmallVec;

use crate::ground::mapping::Mapping;
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::symbols::{Sym, Symbols};
use crate::state::attributes::Attributes;
use crate::state::compiled_mapping::Compiled;
use crate::state::entities::Part;
use crate::state::name_matches::{GroupName, GroupNames, NameMatches};

/// Every mapping set so far, and the attributes that they ask for.
#[derive(Default)]
pub(crate) struct Roles {
    /// In order of seq.
    mappings: Vec<Compiled>,
    group_names: GroupNames,
    /// A mapping that is about to be set, and the rules that names of groups fit.
    expected: Option<(Mapping, NameMatches)>,
    attributes: Attributes,
    /// The symbols of roles and of rules' meanings, for grounds that outlast a mapping.
    symbols: Symbols,
}

impl Roles {
    pub(crate) fn set(
        &mut self,
        mapping: Mapping,
        seq: Seq,
        set_at: Millis,
        effective_from: Millis,
    ) {
        self.attributes.want(&mapping);
        let expected = self.expected.take().filter(|(expected, _)| *expected == mapping);
        let matches = expected.map_or_else(NameMatches::default, |(_, matches)| matches);
        let mut compiled = self.compile(mapping, matches, &self.attributes);
        compiled.version = self.mappings.len() + 1;
        compiled.seq = seq;
        compiled.set_at = set_at;
        compiled.effective_from = effective_from;
        compiled.intern(&mut self.symbols);
        self.mappings.push(compiled);
    }

    /// Indexes a mapping that is not set. `matches` spares the work for the names that it covers.
    pub(crate) fn compile(
        &self,
        mapping: Mapping,
        matches: NameMatches,
        attributes: &Attributes,
    ) -> Compiled {
        let mut compiled = Compiled::new(mapping, matches, attributes);
        compiled.catch_up(&self.group_names);
        compiled
    }

    /// Keeps the rules that names of groups fit for a mapping that is about to be set.
    pub(crate) fn expect(&mut self, mapping: Mapping, matches: NameMatches) {
        self.expected = Some((mapping, matches));
    }

    /// Notes a group's name, as it is written and as it is compared.
    pub(crate) fn note_group_name(&mut self, name: Sym, written: &str, compared: &str) {
        if self.group_names.add(name, written, compared) {
            for mapping in &mut self.mappings {
                mapping.catch_up(&self.group_names);
            }
        }
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

    /// Returns the one in force: of those that are effective and known the newest.
    pub(crate) fn in_force(&self, cut: Cut) -> Option<&Compiled> {
        self.mappings.iter().rev().find(|mapping| mapping.is_seen(cut))
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
        for mapping in &mut self.mappings {
            mapping.renumber_keys(&self.attributes);
        }
    }

    /// Returns a role by its symbol.
    pub(crate) fn role(&self, role: Sym) -> &str {
        self.symbols.text(role)
    }
}
