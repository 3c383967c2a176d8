//! The users who ever had a fingerprint: the index of the `email` and `idp_id` filters.

use std::collections::BTreeSet;
use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::ground::fact::Fingerprint;
use crate::ground::symbols::{NO_SYM, Sym};

/// Fingerprints, numbered in order of first appearance, and the items that ever had each.
#[derive(Default)]
pub(crate) struct HolderIndex {
    numbers: HashMap<Fingerprint, Sym, FxBuildHasher>,
    prints: Vec<Fingerprint>,
    holders: BTreeSet<(Sym, u32)>,
}

impl HolderIndex {
    /// Returns the number of `print`; [`NO_SYM`] for none.
    pub(crate) fn intern(&mut self, print: Option<Fingerprint>) -> Sym {
        let Some(print) = print else { return NO_SYM };
        let next = self.prints.len() as Sym;
        let number = *self.numbers.entry(print).or_insert(next);
        if number == next {
            self.prints.push(print);
        }
        number
    }

    pub(crate) fn find(&self, print: Fingerprint) -> Option<Sym> {
        self.numbers.get(&print).copied()
    }

    pub(crate) fn get(&self, sym: Sym) -> Option<&Fingerprint> {
        self.prints.get(sym as usize)
    }

    /// Remembers that a version of `item` has the print.
    pub(crate) fn hold(&mut self, sym: Sym, item: u32) {
        if sym != NO_SYM {
            self.holders.insert((sym, item));
        }
    }

    /// Returns the items that ever had it.
    pub(crate) fn holders(&self, sym: Sym) -> impl Iterator<Item = u32> {
        self.holders.range((sym, 0)..=(sym, u32::MAX)).map(|(_, item)| *item)
    }
}
