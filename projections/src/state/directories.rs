//! Directories: their own events, and the traces of those never announced.

use crate::ground::fact::DirectoryChange;
use crate::ground::order::{Cut, EventIds, Millis, Place};
use crate::ground::roster::Roster;
use crate::ground::symbols::{NO_SYM, Sym, Symbols};
use crate::ground::timeline::{Earliest, Placed, Rare, Timeline};

/// TouchedSubject a directory's event says.
#[derive(Clone, Copy)]
pub(crate) struct DirectoryVersion {
    pub(crate) place: Place,
    pub(crate) change: DirectoryChange,
    pub(crate) organization: Sym,
    pub(crate) name: Sym,
    pub(crate) domain: Sym,
}

/// An event that names a directory and carries an organization for it.
#[derive(Clone, Copy)]
pub(crate) struct NamedWith {
    pub(crate) place: Place,
    pub(crate) organization: Sym,
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

    pub(crate) fn organization(&self, cut: Cut) -> Sym {
        let own = self
            .events
            .latest_first(cut)
            .map(|version| version.organization)
            .find(|name| *name != NO_SYM);
        own.or_else(|| self.named_with.at(cut).map(|named| named.organization)).unwrap_or(NO_SYM)
    }
}

/// All directories.
#[derive(Default)]
pub(crate) struct Directories {
    ids: Symbols,
    pub(crate) items: Vec<Directory>,
    pub(crate) roster: Roster,
}

impl Directories {
    /// Notes an event that names the directory; `organization` is the one that the event carries
    /// for it, [`NO_SYM`] for the directory's own events. Returns the directory's symbol.
    pub(crate) fn note_named(
        &mut self,
        id: &str,
        place: Place,
        organization: Sym,
        event_ids: &EventIds,
    ) -> Sym {
        let sym = self.ids.intern(id);
        if self.items.len() <= sym as usize {
            self.items.push(Directory::default());
        }
        let Some(directory) = self.items.get_mut(sym as usize) else { return sym };
        if directory.named.note(place, event_ids) {
            let ids = &self.ids;
            self.roster.see(sym, place.occurred_at, place.seq, |other| ids.text(other).cmp(id));
        }
        if organization != NO_SYM {
            directory.named_with.note(NamedWith { place, organization }, event_ids);
        }
        sym
    }

    /// The symbol of an id, if any event ever named it.
    pub(crate) fn find(&self, id: &str) -> Option<Sym> {
        self.ids.find(id)
    }

    pub(crate) fn id(&self, sym: Sym) -> &str {
        self.ids.text(sym)
    }

    pub(crate) fn get(&self, sym: Sym) -> Option<&Directory> {
        self.items.get(sym as usize)
    }

    pub(crate) fn get_mut(&mut self, sym: Sym) -> Option<&mut Directory> {
        self.items.get_mut(sym as usize)
    }
}
