//! Who ever had a fingerprint: the index behind the `email` and `idp_id` filters.

use std::collections::BTreeSet;
use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use crate::ground::fact::Fingerprint;
use crate::ground::names::{NO_NAME, Name};

/// Fingerprints, numbered in order of first appearance, and the items that ever had each.
#[derive(Default)]
pub(crate) struct HolderIndex {
    numbers: HashMap<Fingerprint, Name, FxBuildHasher>,
    prints: Vec<Fingerprint>,
    holders: BTreeSet<(Name, u32)>,
}

impl HolderIndex {
    /// The number of `print`; [`NO_NAME`] for none.
    pub(crate) fn intern(&mut self, print: Option<Fingerprint>) -> Name {
        let Some(print) = print else { return NO_NAME };
        let next = self.prints.len() as Name;
        let number = *self.numbers.entry(print).or_insert(next);
        if number == next {
            self.prints.push(print);
        }
        number
    }

    pub(crate) fn find(&self, print: Fingerprint) -> Option<Name> {
        self.numbers.get(&print).copied()
    }

    pub(crate) fn get(&self, name: Name) -> Option<&Fingerprint> {
        self.prints.get(name as usize)
    }

    /// Remembers that a version of `item` has the print.
    pub(crate) fn hold(&mut self, name: Name, item: u32) {
        if name != NO_NAME {
            self.holders.insert((name, item));
        }
    }

    /// The items that ever had it.
    pub(crate) fn holders(&self, name: Name) -> impl Iterator<Item = u32> {
        self.holders.range((name, 0)..=(name, u32::MAX)).map(|(_, item)| *item)
    }
}
