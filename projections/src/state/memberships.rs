//! Memberships: the grants and removals of each pair of a user and a group.

use core::cmp::Ordering;
use core::num::NonZeroU32;
use std::collections::BTreeSet;

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::ground::memory;
use crate::ground::order::{EventIds, Millis, NO_UPDATED_AT, Place, Seq32};
use crate::ground::pack::{Pack, Packer, Unpacker, pack_fields};
use crate::ground::room;
use crate::ground::roster::{Gone, Roster};
use crate::ground::symbols::{NO_SYM, Sym, Symbols, hash};
use crate::ground::table::Table;
use crate::ground::timeline::{Placed, Timeline};

/// One event's statement about a membership, in 16 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Grant {
    occurred_at: Millis,
    /// The record. There is no record 0, which lets an absent grant take no more room.
    seq: NonZeroU32,
    /// The event's directory, and in the lowest bit whether the user was added.
    directory_added: u32,
}

impl Grant {
    pub(crate) fn new(place: Place, directory: Sym) -> Grant {
        let added = u32::from(!place.closing);
        Grant {
            occurred_at: place.occurred_at,
            seq: NonZeroU32::new(place.seq).unwrap_or(NonZeroU32::MIN),
            directory_added: directory << 1 | added,
        }
    }

    pub(crate) fn added(self) -> bool {
        self.directory_added & 1 == 1
    }

    pub(crate) fn directory(self) -> Sym {
        self.directory_added >> 1
    }
}

impl Placed for Grant {
    fn place(&self) -> Place {
        let Grant { occurred_at, seq, .. } = *self;
        Place { occurred_at, updated_at: NO_UPDATED_AT, seq: seq.get(), closing: !self.added() }
    }
}

/// A user and a group that were ever connected.
pub(crate) struct Pair {
    pub(crate) user: Sym,
    pub(crate) group: Sym,
    grants: Timeline<Grant>,
}

impl Pair {
    /// Returns the grant that was added last, unless a later one was there.
    pub(crate) fn last_added(&self) -> Option<&Grant> {
        self.grants.last_added()
    }

    pub(crate) fn grants(&self) -> &Timeline<Grant> {
        &self.grants
    }
}

/// The pairs of a user are looked through one by one as long as they are no more than this.
const FEW: usize = 16;

/// All memberships.
#[derive(Default)]
pub(crate) struct Memberships {
    pairs: Table<Pair>,
    /// The pairs of the users with more than [`FEW`].
    numbers: HashTable<u32>,
    /// By group: its pairs, ordered by the user's id.
    by_group: Table<Roster>,
    /// By user: its pairs, ordered by the group's id.
    by_user: Table<SmallVec<[u32; 4]>>,
    /// Directories of events, each with a pair whose user and group were never in it then.
    foreign: BTreeSet<(Sym, u32)>,
    /// The same by user and group.
    foreign_of: BTreeSet<(Sym, Sym, Sym)>,
}

impl Memberships {
    pub(crate) fn find(&self, user: Sym, group: Sym) -> Option<&Pair> {
        self.get(self.number(user, group)?)
    }

    pub(crate) fn number(&self, user: Sym, group: Sym) -> Option<u32> {
        let of_user = self.of_user(user);
        if of_user.len() <= FEW {
            return of_user.iter().copied().find(|number| self.is(*number, user, group));
        }
        self.numbers.find(hash((user, group)), |number| self.is(*number, user, group)).copied()
    }

    fn is(&self, number: u32, user: Sym, group: Sym) -> bool {
        self.get(number).is_some_and(|pair| pair.user == user && pair.group == group)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Pair> {
        self.pairs.get(number as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Returns about the bytes of memory that the pairs with their grants, the table of their
    /// numbers, the lists by group and those by user take.
    pub(crate) fn heap_bytes(&self) -> [usize; 4] {
        let of_grants = self.pairs.iter().map(|pair| pair.grants.heap_bytes());
        let of_groups = self.by_group.iter().map(Roster::heap_bytes);
        let of_users = self.by_user.iter().map(memory::of_small_vec);
        [
            self.pairs.heap_bytes() + of_grants.sum::<usize>(),
            self.numbers.allocation_size(),
            self.by_group.heap_bytes()
                + of_groups.sum::<usize>()
                + memory::of_set(&self.foreign)
                + memory::of_set(&self.foreign_of),
            self.by_user.heap_bytes() + of_users.sum::<usize>(),
        ]
    }

    /// Adds a grant to a pair; true if it is now the newest.
    pub(crate) fn add(&mut self, number: u32, grant: Grant, ids: &EventIds) -> bool {
        let pair = self.pairs.get_mut(number as usize);
        pair.is_some_and(|pair| pair.grants.insert(grant, ids))
    }

    /// Returns the number of a pair, new if the two were never connected.
    pub(crate) fn intern(&mut self, user: Sym, group: Sym, groups: &Symbols) -> u32 {
        if let Some(number) = self.number(user, group) {
            return number;
        }
        let number = self.pairs.len() as u32;
        self.pairs.push(Pair { user, group, grants: Timeline::default() });
        let Memberships { pairs, by_user, numbers, .. } = self;
        let Some(of_user) = by_user.at_mut(user as usize) else { return number };
        let at = of_user.partition_point(|n| {
            let other = pairs.get(*n as usize);
            other.is_some_and(|other| groups.compare(other.group, group).is_lt())
        });
        room::make_in_small(of_user);
        of_user.insert(at, number);
        let hash_of =
            |n: &u32| pairs.get(*n as usize).map_or(0, |pair| hash((pair.user, pair.group)));
        let unlisted: &[u32] = match of_user.len() {
            0..=FEW => &[],
            len if len == FEW + 1 => &of_user[..],
            _ => core::slice::from_ref(&number),
        };
        for number in unlisted {
            numbers.insert_unique(hash_of(number), *number, hash_of);
        }
        number
    }

    /// Lists the pair's user in the group's roster from an event on. Returns false if the roster has
    /// it that the membership is gone since some moment.
    pub(crate) fn see(
        &mut self,
        number: u32,
        occurred_at: Millis,
        seq: Seq32,
        users: &Symbols,
    ) -> bool {
        let Memberships { pairs, by_group, .. } = self;
        let Some(pair) = pairs.get(number as usize) else { return false };
        by_group.at_mut(pair.group as usize).is_some_and(|roster| {
            roster.see(number, occurred_at, seq, |other| compare_users(pairs, users, other, pair))
        })
    }

    /// Sets in the group's roster since when the membership is gone; `None` while it may hold.
    pub(crate) fn set_gone(&mut self, number: u32, gone: Option<Gone>, users: &Symbols) {
        let Memberships { pairs, by_group, .. } = self;
        let Some(pair) = pairs.get(number as usize) else { return };
        if let Some(roster) = by_group.get_mut(pair.group as usize) {
            roster.set_gone(gone, |other| compare_users(pairs, users, other, pair));
        }
    }

    /// Notes that an event of a directory in which neither end ever was speaks of the pair.
    pub(crate) fn note_foreign(&mut self, directory: Sym, number: u32) {
        self.foreign.insert((directory, number));
        if let Some(Pair { user, group, .. }) = self.pairs.get(number as usize) {
            self.foreign_of.insert((*user, *group, directory));
        }
    }

    /// Iterates over the directories that [`Memberships::note_foreign`] noted for a pair. Those of
    /// its other grants are among the directories of its user and its group.
    pub(crate) fn foreign_directories(&self, pair: &Pair) -> impl Iterator<Item = Sym> + '_ {
        let (user, group) = (pair.user, pair.group);
        let noted = self.foreign_of.range((user, group, 0)..=(user, group, Sym::MAX));
        noted.map(|(_, _, directory)| *directory)
    }

    /// Iterates over the pairs that [`Memberships::note_foreign`] noted for the directory.
    pub(crate) fn granted_from(&self, directory: Sym) -> impl Iterator<Item = u32> + '_ {
        self.foreign.range((directory, 0)..=(directory, u32::MAX)).map(|(_, number)| *number)
    }

    pub(crate) fn of_group(&self, group: Sym) -> Option<&Roster> {
        self.by_group.get(group as usize)
    }

    pub(crate) fn of_user(&self, user: Sym) -> &[u32] {
        self.by_user.get(user as usize).map_or(&[], |pairs| &pairs[..])
    }

    /// Returns the id of a pair's user.
    pub(crate) fn user_id<'a>(&self, users: &'a Symbols, number: u32) -> &'a str {
        user_id(&self.pairs, users, number)
    }
}

/// Compares the id of the user of a pair, which is given by its number, with that of another pair.
fn compare_users(pairs: &Table<Pair>, users: &Symbols, number: u32, with: &Pair) -> Ordering {
    let user = pairs.get(number as usize).map_or(NO_SYM, |pair| pair.user);
    users.compare(user, with.user)
}

fn user_id<'a>(pairs: &Table<Pair>, users: &'a Symbols, number: u32) -> &'a str {
    pairs.get(number as usize).map_or("", |pair| users.text(pair.user))
}

pack_fields!(Grant { occurred_at, seq, directory_added });
pack_fields!(Pair { user, group, grants });

impl Pack for Memberships {
    fn pack(&self, to: &mut Packer<'_>) {
        // The table of numbers is made anew from the lists by user.
        let Memberships { pairs, numbers: _, by_group, by_user, foreign, foreign_of } = self;
        pairs.pack(to);
        by_group.pack(to);
        by_user.pack(to);
        foreign.pack(to);
        foreign_of.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let pairs: Table<Pair> = Pack::unpack(from)?;
        let by_group = Pack::unpack(from)?;
        let by_user: Table<SmallVec<[u32; 4]>> = Pack::unpack(from)?;
        let many = || by_user.iter().filter(|of_user| of_user.len() > FEW);
        let mut numbers = HashTable::with_capacity(many().map(|of_user| of_user.len()).sum());
        let hash_of =
            |n: &u32| pairs.get(*n as usize).map_or(0, |pair| hash((pair.user, pair.group)));
        for number in many().flatten() {
            numbers.insert_unique(hash_of(number), *number, hash_of);
        }
        let (foreign, foreign_of) = Pack::unpack(from)?;
        Some(Memberships { pairs, numbers, by_group, by_user, foreign, foreign_of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_found_however_many_groups_its_user_has() {
        let mut groups = Symbols::default();
        let syms: Vec<Sym> = (0..50).map(|n| groups.intern(&format!("g{}", n * 37 % 50))).collect();
        let mut memberships = Memberships::default();
        for (count, group) in (1..).zip(&syms) {
            // The second user has a few of the groups of the first.
            let users = if count % 5 == 0 { 0..2 } else { 0..1 };
            for user in users {
                let number = memberships.intern(user, *group, &groups);
                assert_eq!(memberships.intern(user, *group, &groups), number);
            }
            for (other, group) in (1..).zip(&syms) {
                let found =
                    |user| memberships.find(user, *group).map(|pair| (pair.user, pair.group));
                assert_eq!(found(0), (other <= count).then_some((0, *group)));
                let has = other <= count && other % 5 == 0;
                assert_eq!(found(1), has.then_some((1, *group)));
            }
            assert_eq!(memberships.of_user(0).len(), count);
        }
        assert!(memberships.find(2, 0).is_none());
        let ids = memberships.of_user(0).iter().filter_map(|number| memberships.get(*number));
        assert!(ids.map(|pair| groups.text(pair.group)).is_sorted());
    }
}
