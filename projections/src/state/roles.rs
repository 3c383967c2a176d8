//! Every role mapping that was set, and what they need.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::ground::mapping::Mapping;
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::symbols::{Sym, Symbols};
use crate::state::attributes::Attributes;
use crate::state::compiled::{Compiled, meaning};
use crate::state::entities::Part;

/// Every mapping set so far, and what they need.
#[derive(Default)]
pub(crate) struct Roles {
    /// In order of seq.
    mappings: Vec<Compiled>,
    /// Symbols that a group ever had.
    group_names: HashMap<Sym, String, FxBuildHasher>,
    attributes: Attributes,
    /// Roles, and what rules mean, for reasons that outlast a mapping.
    words: Symbols,
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
        let compiled = self.compile(mapping, &self.attributes);
        let version = self.mappings.len() + 1;
        let roles = compiled.roles.iter().map(|role| self.words.intern(role)).collect();
        let meanings = compiled
            .mapping
            .rules
            .iter()
            .map(|rule| self.words.intern(&format!("{:?}", meaning(rule))))
            .collect();
        self.mappings.push(Compiled {
            version,
            seq,
            set_at,
            effective_from,
            words: [roles, meanings],
            ..compiled
        });
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

    /// The one in force: of those that are effective and known the newest.
    pub(crate) fn in_force(&self, cut: Cut) -> Option<&Compiled> {
        self.mappings
            .iter()
            .rev()
            .find(|mapping| mapping.seq <= cut.known_at && mapping.effective_from <= cut.as_of)
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
            // Compiled without a group's name, and of that only what is numbered anew.
            mapping.by_key =
                Compiled::new(mapping.mapping.clone(), core::iter::empty(), &self.attributes)
                    .by_key;
        }
    }

    /// The text of a role's word.
    pub(crate) fn word(&self, word: Sym) -> &str {
        self.words.text(word)
    }
}
