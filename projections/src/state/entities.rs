//! Users and groups: both are born, change, end and come back by the same rules.

use smallvec::SmallVec;

use crate::ground::names::{Name, Names};
use crate::ground::order::{Cut, Millis, Place, Seq32};
use crate::ground::roster::{Gone, Roster};
use crate::ground::timeline::{Earliest, Placed, Rare, Timeline};

#[derive(Clone, Copy)]
pub(crate) enum Kind {
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

/// What one event says about a user or a group.
#[derive(Clone, Copy)]
pub(crate) struct Version {
    pub(crate) place: Place,
    pub(crate) directory: Name,
    pub(crate) organization: Name,
    pub(crate) email: Name,
    pub(crate) idp_id: Name,
    /// A group's name; of a user the roles that the source gives, as in [`crate::UserData`].
    pub(crate) label: Name,
    pub(crate) part: Part,
    pub(crate) active: bool,
    pub(crate) deleted: bool,
    /// The directory is the event's, since the snapshot has none of its own.
    pub(crate) directory_is_events: bool,
}

impl Placed for Version {
    fn place(&self) -> Place {
        self.place
    }
}

#[derive(Default)]
pub(crate) struct Entity {
    /// Creations, updates and deletions.
    pub(crate) explicit: Timeline<Version>,
    /// The deletions among them.
    pub(crate) tombstones: Rare<Place>,
    /// Snapshots in membership events, which count while nothing explicit is seen.
    pub(crate) stand_ins: Rare<Version>,
    /// The first event that speaks of it.
    pub(crate) seen: Earliest<Place>,
    /// The directories in whose rosters it stands.
    pub(crate) listed_in: SmallVec<[Name; 2]>,
}

impl Entity {
    /// Its latest version at the cut, tombstones included.
    pub(crate) fn version(&self, cut: Cut) -> Option<&Version> {
        self.explicit.latest(cut).or_else(|| self.stand_ins.latest(cut))
    }

    /// The time of the last thing said about it.
    pub(crate) fn last_occurred(&self) -> Millis {
        let last = |version: Option<&Version>| version.map_or(Millis::MIN, |v| v.place.occurred_at);
        last(self.explicit.newest()).max(last(self.stand_ins.newest()))
    }
}

/// All users, or all groups.
#[derive(Default)]
pub(crate) struct Entities {
    pub(crate) names: Names,
    pub(crate) items: Vec<Entity>,
    /// By directory: those that were ever in it.
    rosters: Vec<Roster>,
}

impl Entities {
    pub(crate) fn intern(&mut self, id: &str) -> Name {
        let name = self.names.intern(id);
        if self.items.len() <= name as usize {
            self.items.push(Entity::default());
        }
        name
    }

    pub(crate) fn get(&self, name: Name) -> Option<&Entity> {
        self.items.get(name as usize)
    }

    pub(crate) fn get_mut(&mut self, name: Name) -> Option<&mut Entity> {
        self.items.get_mut(name as usize)
    }

    /// Lists the entity in the directory from an event on.
    pub(crate) fn see(&mut self, name: Name, directory: Name, occurred_at: Millis, seq: Seq32) {
        let Some(entity) = self.items.get_mut(name as usize) else { return };
        if !entity.listed_in.contains(&directory) {
            entity.listed_in.push(directory);
        }
        while self.rosters.len() <= directory as usize {
            self.rosters.push(Roster::default());
        }
        let (names, id) = (&self.names, self.names.text(name));
        if let Some(roster) = self.rosters.get_mut(directory as usize) {
            roster.see(name, occurred_at, seq, |other| names.text(other).cmp(id));
        }
    }

    /// Says in every roster whether the entity is gone.
    pub(crate) fn set_gone(&mut self, name: Name, gone: Option<Gone>) {
        let Some(entity) = self.items.get(name as usize) else { return };
        let (names, id) = (&self.names, self.names.text(name));
        for directory in &entity.listed_in {
            if let Some(roster) = self.rosters.get_mut(*directory as usize) {
                roster.set_gone(gone, |other| names.text(other).cmp(id));
            }
        }
    }

    pub(crate) fn rosters(&self) -> impl Iterator<Item = &Roster> {
        self.rosters.iter()
    }

    pub(crate) fn roster(&self, directory: Name) -> Option<&Roster> {
        self.rosters.get(directory as usize)
    }

    /// Whether an explicit event no later than `place` makes a stand-in at `place` invisible for
    /// ever.
    pub(crate) fn is_announced_by(&self, name: Name, place: Place) -> bool {
        let until = Cut { as_of: place.occurred_at, ..Cut::LATEST };
        self.get(name).is_some_and(|entity| entity.explicit.latest(until).is_some())
    }
}
