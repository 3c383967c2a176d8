//! Users and groups: both are born, change, end and come back by the same rules.

use smallvec::SmallVec;

use crate::ground::order::{Cut, Millis, Place, Seq32};
use crate::ground::roster::{Gone, Roster};
use crate::ground::symbols::{Sym, Symbols};
use crate::ground::timeline::{Earliest, Placed, Rare, Timeline};

#[derive(Clone, Copy)]
pub(crate) enum EntityKind {
    User,
    Group,
}

/// Which part of a record's body is the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// `data`
    Data,
    /// `data.user`
    User,
    /// `data.group`
    Group,
}

/// TouchedSubject one event says about a user or a group.
#[derive(Clone, Copy)]
pub(crate) struct EntityVersion {
    pub(crate) place: Place,
    pub(crate) directory: Sym,
    pub(crate) organization: Sym,
    pub(crate) email: Sym,
    pub(crate) idp_id: Sym,
    /// A group's name; of a user the roles that the source gives, as in [`crate::UserData`].
    pub(crate) label: Sym,
    pub(crate) part: Part,
    pub(crate) active: bool,
    pub(crate) deleted: bool,
    /// The directory is the event's, since the snapshot has none of its own.
    pub(crate) directory_from_event: bool,
}

impl Placed for EntityVersion {
    fn place(&self) -> Place {
        self.place
    }
}

#[derive(Default)]
pub(crate) struct Entity {
    /// Creations, updates and deletions.
    pub(crate) explicit: Timeline<EntityVersion>,
    /// The deletions among them.
    pub(crate) tombstones: Rare<Place>,
    /// Snapshots in membership events, which count while nothing explicit is seen.
    pub(crate) stand_ins: Rare<EntityVersion>,
    /// The first event that speaks of it.
    pub(crate) seen: Earliest<Place>,
    /// The directories in whose rosters it stands.
    pub(crate) listed_in: SmallVec<[Sym; 2]>,
}

impl Entity {
    /// Its latest version at the cut, tombstones included.
    pub(crate) fn version(&self, cut: Cut) -> Option<&EntityVersion> {
        self.explicit.latest(cut).or_else(|| self.stand_ins.latest(cut))
    }

    /// The time of the last thing said about it.
    pub(crate) fn last_occurred(&self) -> Millis {
        let last =
            |version: Option<&EntityVersion>| version.map_or(Millis::MIN, |v| v.place.occurred_at);
        last(self.explicit.newest()).max(last(self.stand_ins.newest()))
    }
}

/// All users, or all groups.
#[derive(Default)]
pub(crate) struct Entities {
    ids: Symbols,
    pub(crate) items: Vec<Entity>,
    /// By directory: those that were ever in it.
    rosters: Vec<Roster>,
}

impl Entities {
    pub(crate) fn intern(&mut self, id: &str) -> Sym {
        let name = self.ids.intern(id);
        if self.items.len() <= name as usize {
            self.items.push(Entity::default());
        }
        name
    }

    /// The symbol of an id, if any event ever named it.
    pub(crate) fn find(&self, id: &str) -> Option<Sym> {
        self.ids.find(id)
    }

    pub(crate) fn id(&self, sym: Sym) -> &str {
        self.ids.text(sym)
    }

    pub(crate) fn ids(&self) -> &Symbols {
        &self.ids
    }

    pub(crate) fn get(&self, sym: Sym) -> Option<&Entity> {
        self.items.get(sym as usize)
    }

    pub(crate) fn get_mut(&mut self, sym: Sym) -> Option<&mut Entity> {
        self.items.get_mut(sym as usize)
    }

    /// Lists the entity in the directory from an event on.
    pub(crate) fn see(&mut self, sym: Sym, directory: Sym, occurred_at: Millis, seq: Seq32) {
        let Some(entity) = self.items.get_mut(sym as usize) else { return };
        if !entity.listed_in.contains(&directory) {
            entity.listed_in.push(directory);
        }
        while self.rosters.len() <= directory as usize {
            self.rosters.push(Roster::default());
        }
        let (ids, id) = (&self.ids, self.ids.text(sym));
        if let Some(roster) = self.rosters.get_mut(directory as usize) {
            roster.see(sym, occurred_at, seq, |other| ids.text(other).cmp(id));
        }
    }

    /// Says in every roster whether the entity is gone.
    pub(crate) fn set_gone(&mut self, sym: Sym, gone: Option<Gone>) {
        let Some(entity) = self.items.get(sym as usize) else { return };
        let (ids, id) = (&self.ids, self.ids.text(sym));
        for directory in &entity.listed_in {
            if let Some(roster) = self.rosters.get_mut(*directory as usize) {
                roster.set_gone(gone, |other| ids.text(other).cmp(id));
            }
        }
    }

    pub(crate) fn rosters(&self) -> impl Iterator<Item = &Roster> {
        self.rosters.iter()
    }

    pub(crate) fn roster(&self, directory: Sym) -> Option<&Roster> {
        self.rosters.get(directory as usize)
    }

    /// Whether an explicit event no later than `place` makes a stand-in at `place` invisible for
    /// ever.
    pub(crate) fn is_announced_by(&self, sym: Sym, place: Place) -> bool {
        let until = Cut { as_of: place.occurred_at, ..Cut::LATEST };
        self.get(sym).is_some_and(|entity| entity.explicit.latest(until).is_some())
    }
}
