//! Memberships: the grants and removals of each pair of a user and a group.

use std::collections::BTreeSet;

use hashbrown::HashTable;

use crate::ground::memory;
use crate::ground::order::{EventIds, Millis, NO_UPDATED_AT, Place, Seq32};
use crate::ground::roster::{Gone, Roster};
use crate::ground::symbols::{Sym, Symbols, hash};
use crate::ground::timeline::{Placed, Timeline};

/// One event's statement about a membership, in 16 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Grant {
    occurred_at: Millis,
    seq: Seq32,
    /// The event's directory, and in the lowest bit whether the user was added.
    directory_added: u32,
}

impl Grant {
    pub(crate) fn new(place: Place, directory: Sym) -> Grant {
        let added = u32::from(!place.closing);
        Grant {
            occurred_at: place.occurred_at,
            seq: place.seq,
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
        Place { occurred_at, updated_at: NO_UPDATED_AT, seq, closing: !self.added() }
    }
}

/// A user and a group that were ever connected.
pub(crate) struct Pair {
    pub(crate) user: Sym,
    pub(crate) group: Sym,
    grants: Timeline<Grant>,
    /// The record of the grant that was added last.
    last_seq: Seq32,
}

impl Pair {
    /// Returns the grant that was added last, unless a later one was there.
    pub(crate) fn last_added(&self) -> Option<&Grant> {
        self.grants.newest().filter(|grant| grant.seq == self.last_seq)
    }

    pub(crate) fn grants(&self) -> &Timeline<Grant> {
        &self.grants
    }
}

/// All memberships.
#[derive(Default)]
pub(crate) struct Memberships {
    pairs: Vec<Pair>,
    numbers: HashTable<u32>,
    /// By group: its pairs, ordered by the user's id.
    by_group: Vec<Roster>,
    /// By user: its pairs, ordered by the group's id.
    by_user: Vec<Vec<u32>>,
    /// Directories of events, each with a pair whose user and group were never in it then.
    foreign: BTreeSet<(Sym, u32)>,
    /// The same by user and group.
    foreign_of: BTreeSet<(Sym, Sym, Sym)>,
}

impl Memberships {
    pub(crate) fn find(&self, user: Sym, group: Sym) -> Option<&Pair> {
        let number = self.numbers.find(hash((user, group)), |n| self.is(*n, user, group))?;
        self.get(*number)
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
        let of_users = self.by_user.iter().map(memory::of_vec);
        [
            memory::of_vec(&self.pairs) + of_grants.sum::<usize>(),
            self.numbers.allocation_size(),
            memory::of_vec(&self.by_group)
                + of_groups.sum::<usize>()
                + memory::of_set(&self.foreign),
            memory::of_vec(&self.by_user) + of_users.sum::<usize>(),
        ]
    }

    /// Adds a grant to a pair; true if it is now the newest.
    pub(crate) fn add(&mut self, number: u32, grant: Grant, ids: &EventIds) -> bool {
        let pair = self.pairs.get_mut(number as usize);
        pair.is_some_and(|pair| {
            pair.last_seq = grant.seq;
            pair.grants.insert(grant, ids)
        })
    }

    /// Returns the number of a pair, new if the two were never connected.
    pub(crate) fn intern(&mut self, user: Sym, group: Sym, groups: &Symbols) -> u32 {
        let hashed = hash((user, group));
        if let Some(number) = self.numbers.find(hashed, |n| self.is(*n, user, group)) {
            return *number;
        }
        let number = self.pairs.len() as u32;
        self.pairs.push(Pair { user, group, grants: Timeline::default(), last_seq: 0 });
        let pairs = &self.pairs;
        self.numbers.insert_unique(hashed, number, |n| {
            pairs.get(*n as usize).map_or(0, |pair| hash((pair.user, pair.group)))
        });
        while self.by_user.len() <= user as usize {
            self.by_user.push(Vec::new());
        }
        if let Some(of_user) = self.by_user.get_mut(user as usize) {
            let id = groups.text(group);
            let at = of_user.partition_point(|n| {
                pairs.get(*n as usize).is_some_and(|pair| groups.text(pair.group) < id)
            });
            of_user.insert(at, number);
        }
        number
    }

    /// Lists the pair's user in the group's roster from an event on.
    pub(crate) fn see(&mut self, number: u32, occurred_at: Millis, seq: Seq32, users: &Symbols) {
        let Memberships { pairs, by_group, .. } = self;
        let Some(pair) = pairs.get(number as usize) else { return };
        while by_group.len() <= pair.group as usize {
            by_group.push(Roster::default());
        }
        if let Some(roster) = by_group.get_mut(pair.group as usize) {
            roster.see(number, occurred_at, seq, |other| {
                user_id(pairs, users, other).cmp(users.text(pair.user))
            });
        }
    }

    /// Sets in the group's roster since when the membership is gone; `None` while it may hold.
    pub(crate) fn set_gone(&mut self, number: u32, gone: Option<Gone>, users: &Symbols) {
        let Memberships { pairs, by_group, .. } = self;
        let Some(pair) = pairs.get(number as usize) else { return };
        if let Some(roster) = by_group.get_mut(pair.group as usize) {
            roster.set_gone(gone, |other| user_id(pairs, users, other).cmp(users.text(pair.user)));
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
        self.by_user.get(user as usize).map_or(&[], |pairs| pairs)
    }

    /// Returns the id of a pair's user.
    pub(crate) fn user_id<'a>(&self, users: &'a Symbols, number: u32) -> &'a str {
        user_id(&self.pairs, users, number)
    }
}

fn user_id<'a>(pairs: &[Pair], users: &'a Symbols, number: u32) -> &'a str {
    pairs.get(number as usize).map_or("", |pair| users.text(pair.user))
}
