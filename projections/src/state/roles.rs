//! Every role mapping that was set, and the attributes that they ask for.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::ground::mapping::Mapping;
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::symbols::{Sym, Symbols};
use crate::state::attributes::Attributes;
use crate::state::compiled_mapping::Compiled;
use crate::state::entities::Part;

/// Every mapping set so far, and the attributes that they ask for.
#[derive(Default)]
pub(crate) struct Roles {
    /// In order of seq.
    mappings: Vec<Compiled>,
    /// Symbols that a group ever had.
    group_names: HashMap<Sym, String, FxBuildHasher>,
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
        let mut compiled = self.compile(mapping, &self.attributes);
        compiled.version = self.mappings.len() + 1;
        compiled.seq = seq;
        compiled.set_at = set_at;
        compiled.effective_from = effective_from;
        compiled.intern(&mut self.symbols);
        self.mappings.push(compiled);
    }

    /// Indexes a mapping that is not set.
    pub(crate) fn compile(&self, mapping: Mapping, attributes: &Attributes) -> Compiled {
        Compiled::new(
            mapping,
            self.group_names.iter().map(|(name, text)| (*name, text.as_str())),
            attributes,
        )
    }

    pub(crate) fn note_group_name(&mut self, sym: Sym, text: &str) {
        if self.group_names.contains_key(&sym) {
            return;
        }
        self.group_names.insert(sym, text.to_owned());
        for mapping in &mut self.mappings {
            mapping.note_group_name(sym, text);
        }
    }

    /// Returns the one in force: of those that are effective and known the newest.
    pub(crate) fn in_force(&self, cut: Cut) -> Option<&Compiled> {
        self.mappings.iter().rev().find(|mapping| mapping.is_seen(cut))
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Compiled> + ExactSizeIterator {
        self.mappings.iter()
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
