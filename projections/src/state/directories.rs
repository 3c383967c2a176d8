//! Directories: their own events, and the traces of those never announced.

use crate::ground::fact::DirectoryChange;
use crate::ground::names::{NO_NAME, Name, Names};
use crate::ground::order::{Cut, EventIds, Millis, Place};
use crate::ground::roster::Roster;
use crate::ground::timeline::{Earliest, Placed, Rare, Timeline};

/// What a directory's event says.
#[derive(Clone, Copy)]
pub(crate) struct DirectoryVersion {
    pub(crate) place: Place,
    pub(crate) change: DirectoryChange,
    pub(crate) organization: Name,
    pub(crate) name: Name,
    pub(crate) domain: Name,
}

/// An event that names a directory and carries an organization for it.
#[derive(Clone, Copy)]
pub(crate) struct NamedWith {
    pub(crate) place: Place,
    pub(crate) organization: Name,
}

impl Placed for DirectoryVersion {
    fn place(&self) -> Place {
        self.place
    }
}

impl Placed for NamedWith {
    fn place(&self) -> Place {
        self.place
    }
}

#[derive(Default)]
pub(crate) struct Directory {
    pub(crate) events: Timeline<DirectoryVersion>,
    pub(crate) deletions: Rare<Place>,
    /// The first event that names it, its own included.
    pub(crate) named: Earliest<Place>,
    /// The first event of another kind that names it and carries an organization.
    pub(crate) named_with: Earliest<NamedWith>,
}

/// How a directory stands at a cut.
#[derive(Clone, Copy)]
pub(crate) enum DirectoryState {
    Absent,
    /// Named by others, never announced: active, nearly empty.
    Stub,
    Live(DirectoryVersion),
}

impl Directory {
    pub(crate) fn state(&self, cut: Cut) -> DirectoryState {
        match self.events.latest(cut) {
            None if self.named.at(cut).is_some() => DirectoryState::Stub,
            Some(version) if !self.is_deleted(cut) => DirectoryState::Live(*version),
            _ => DirectoryState::Absent,
        }
    }

    /// Whether it lets anybody in.
    pub(crate) fn is_active(&self, cut: Cut) -> bool {
        match self.state(cut) {
            DirectoryState::Absent => false,
            DirectoryState::Stub => true,
            DirectoryState::Live(version) => version.change == DirectoryChange::Activated,
        }
    }

    /// Whether its latest activation or deletion is a deletion; deactivations decide nothing here.
    pub(crate) fn is_deleted(&self, cut: Cut) -> bool {
        match self.events.latest(cut).map(|version| version.change) {
            None | Some(DirectoryChange::Activated) => false,
            Some(DirectoryChange::Deleted) => true,
            Some(DirectoryChange::Deactivated) => {
                let deciding = self
                    .events
                    .latest_first(cut)
                    .find(|v| v.change != DirectoryChange::Deactivated);
                deciding.is_some_and(|v| v.change == DirectoryChange::Deleted)
            }
        }
    }

    /// The first event of another kind that names it with an organization, of those known, whenever
    /// it happened.
    pub(crate) fn first_named_with(&self, cut: Cut) -> Option<Place> {
        self.named_with.at(Cut { as_of: Millis::MAX, ..cut }).map(|named| named.place)
    }

    pub(crate) fn organization(&self, cut: Cut) -> Name {
        let own = self
            .events
            .latest_first(cut)
            .map(|version| version.organization)
            .find(|name| *name != NO_NAME);
        own.or_else(|| self.named_with.at(cut).map(|named| named.organization)).unwrap_or(NO_NAME)
    }
}

/// All directories.
#[derive(Default)]
pub(crate) struct Directories {
    pub(crate) names: Names,
    pub(crate) items: Vec<Directory>,
    pub(crate) roster: Roster,
}

impl Directories {
    /// Takes notice of an event that names the directory.
    pub(crate) fn name(
        &mut self,
        id: &str,
        place: Place,
        organization: Name,
        ids: &EventIds,
    ) -> Name {
        let name = self.names.intern(id);
        if self.items.len() <= name as usize {
            self.items.push(Directory::default());
        }
        let Some(directory) = self.items.get_mut(name as usize) else { return name };
        if directory.named.note(place, ids) {
            let names = &self.names;
            self.roster.see(name, place.occurred_at, place.seq, |other| names.text(other).cmp(id));
        }
        if organization != NO_NAME {
            directory.named_with.note(NamedWith { place, organization }, ids);
        }
        name
    }

    pub(crate) fn get(&self, name: Name) -> Option<&Directory> {
        self.items.get(name as usize)
    }

    pub(crate) fn get_mut(&mut self, name: Name) -> Option<&mut Directory> {
        self.items.get_mut(name as usize)
    }
}
