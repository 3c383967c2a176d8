//! The users who ever had a fingerprint: the index of the `email` and `idp_id` filters.

use std::collections::BTreeSet;

use hashbrown::HashTable;

use crate::ground::fact::Fingerprint;
use crate::ground::memory;
use crate::ground::pack::{Pack, Packer, Unpacker};
use crate::ground::symbols::{NO_SYM, Sym, hash};
use crate::ground::table::Table;

/// Fingerprints, numbered in order of first appearance, and the items that ever had each.
#[derive(Default)]
pub(crate) struct HolderIndex {
    numbers: HashTable<Sym>,
    /// Each with the first item that had it; [`NO_SYM`] before that. Most have no other.
    fingerprints: Table<(Fingerprint, u32)>,
    /// The further items that had each.
    others: BTreeSet<(Sym, u32)>,
}

impl HolderIndex {
    /// Returns the symbol of a fingerprint, new if it was never seen; [`NO_SYM`] for none. Costs least
    /// if it is `likely`.
    pub(crate) fn intern(&mut self, fingerprint: Option<Fingerprint>, likely: Sym) -> Sym {
        let Some(fingerprint) = fingerprint else { return NO_SYM };
        if self.get(likely) == Some(&fingerprint) {
            return likely;
        }
        if let Some(known) = self.find(fingerprint) {
            return known;
        }
        let sym = self.fingerprints.len() as Sym;
        self.fingerprints.push((fingerprint, NO_SYM));
        let fingerprints = &self.fingerprints;
        self.numbers.insert_unique(hash(fingerprint), sym, |sym| {
            fingerprints.get(*sym as usize).map_or(0, |(fingerprint, _)| hash(fingerprint))
        });
        sym
    }

    pub(crate) fn find(&self, fingerprint: Fingerprint) -> Option<Sym> {
        self.numbers.find(hash(fingerprint), |sym| self.get(*sym) == Some(&fingerprint)).copied()
    }

    pub(crate) fn get(&self, sym: Sym) -> Option<&Fingerprint> {
        self.fingerprints.get(sym as usize).map(|(fingerprint, _)| fingerprint)
    }

    /// Notes that a version of `item` has the fingerprint.
    pub(crate) fn hold(&mut self, sym: Sym, item: u32) {
        let Some((_, first)) = self.fingerprints.get_mut(sym as usize) else { return };
        if *first == NO_SYM {
            *first = item;
        } else if *first != item {
            self.others.insert((sym, item));
        }
    }

    /// Iterates over the items that ever had it, in ascending order.
    pub(crate) fn holders(&self, sym: Sym) -> impl Iterator<Item = u32> {
        self.holders_from(sym, 0)
    }

    /// Iterates over the items from `from` on that ever had it, in ascending order.
    pub(crate) fn holders_from(&self, sym: Sym, from: u32) -> impl Iterator<Item = u32> {
        let first = self.fingerprints.get(sym as usize).map_or(NO_SYM, |(_, first)| *first);
        let before = self.others.range((sym, from)..(sym, first.max(from)));
        let after = self.others.range((sym, first.max(from))..=(sym, u32::MAX));
        let first = Some(first).filter(|first| *first != NO_SYM && *first >= from);
        let item = |(_, item): &(Sym, u32)| *item;
        before.map(item).chain(first).chain(after.map(item))
    }

    /// Returns about the bytes of memory that it takes outside of itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.numbers.allocation_size()
            + self.fingerprints.heap_bytes()
            + memory::of_set(&self.others)
    }
}

impl Pack for HolderIndex {
    fn pack(&self, to: &mut Packer<'_>) {
        // The numbers are made anew from the fingerprints.
        let HolderIndex { numbers: _, fingerprints, others } = self;
        fingerprints.pack(to);
        others.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let fingerprints: Table<(Fingerprint, u32)> = Table::unpack(from)?;
        let others = BTreeSet::unpack(from)?;
        let mut numbers = HashTable::with_capacity(fingerprints.len());
        let hash_of = |sym: &Sym| {
            fingerprints.get(*sym as usize).map_or(0, |(fingerprint, _)| hash(fingerprint))
        };
        for sym in 0..fingerprints.len() as Sym {
            numbers.insert_unique(hash_of(&sym), sym, hash_of);
        }
        Some(HolderIndex { numbers, fingerprints, others })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holders_of_a_fingerprint_come_in_ascending_order_from_any_of_them() {
        let fingerprint = |n: u8| Some(Fingerprint([n; 16]));
        let mut index = HolderIndex::default();
        let [a, b, c] = [1, 2, 3].map(|n| index.intern(fingerprint(n), NO_SYM));
        assert_eq!([a, b, c, NO_SYM].map(|likely| index.intern(fingerprint(1), likely)), [a; 4]);
        assert_eq!(index.intern(None, a), NO_SYM);
        for item in [5, 9, 2, 5, 7, 2] {
            index.hold(a, item);
        }
        index.hold(b, 0);
        let from = |sym, first| index.holders_from(sym, first).collect::<Vec<_>>();
        assert_eq!(from(a, 0), [2, 5, 7, 9]);
        assert_eq!(from(a, 3), [5, 7, 9]);
        assert_eq!(from(a, 5), [5, 7, 9]);
        assert_eq!(from(a, 6), [7, 9]);
        assert_eq!(from(a, 10), []);
        assert_eq!((from(b, 0), from(c, 0), from(NO_SYM, 0)), (vec![0], vec![], vec![]));
    }
}
