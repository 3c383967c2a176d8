//! The users who ever had a fingerprint: the index of the `email` and `idp_id` filters.

use std::collections::BTreeSet;
use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::ground::fact::Fingerprint;
use crate::ground::memory;
use crate::ground::symbols::{NO_SYM, Sym};

/// Fingerprints, numbered in order of first appearance, and the items that ever had each.
#[derive(Default)]
pub(crate) struct HolderIndex {
    numbers: HashMap<Fingerprint, Sym, FxBuildHasher>,
    fingerprints: Vec<Fingerprint>,
    holders: BTreeSet<(Sym, u32)>,
}

impl HolderIndex {
    /// Returns the symbol of a fingerprint, new if it was never seen; [`NO_SYM`] for none.
    pub(crate) fn intern(&mut self, fingerprint: Option<Fingerprint>) -> Sym {
        let Some(fingerprint) = fingerprint else { return NO_SYM };
        let next = self.fingerprints.len() as Sym;
        let sym = *self.numbers.entry(fingerprint).or_insert(next);
        if sym == next {
            self.fingerprints.push(fingerprint);
        }
        sym
    }

    pub(crate) fn find(&self, fingerprint: Fingerprint) -> Option<Sym> {
        self.numbers.get(&fingerprint).copied()
    }

    pub(crate) fn get(&self, sym: Sym) -> Option<&Fingerprint> {
        self.fingerprints.get(sym as usize)
    }

    /// Notes that a version of `item` has the fingerprint.
    pub(crate) fn hold(&mut self, sym: Sym, item: u32) {
        if sym != NO_SYM {
            self.holders.insert((sym, item));
        }
    }

    /// Iterates over the items that ever had it.
    pub(crate) fn holders(&self, sym: Sym) -> impl Iterator<Item = u32> {
        self.holders_from(sym, 0)
    }

    /// Iterates over the items from `first` on that ever had it.
    pub(crate) fn holders_from(&self, sym: Sym, first: u32) -> impl Iterator<Item = u32> {
        self.holders.range((sym, first)..=(sym, u32::MAX)).map(|(_, item)| *item)
    }

    /// Returns about the bytes of memory that it takes outside of itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        let slots = (self.numbers.capacity() * 8).div_ceil(7);
        slots * (size_of::<(Fingerprint, Sym)>() + 1)
            + memory::of_vec(&self.fingerprints)
            + memory::of_set(&self.holders)
    }
}
