//! Directories: their own events, and the traces of those never announced.

use crate::ground::fact::DirectoryChange;
use crate::ground::order::{Cut, EventIds, Millis, Place};
use crate::ground::pack::pack_fields;
use crate::ground::roster::Roster;
use crate::ground::symbols::{NO_SYM, Sym, Symbols};
use crate::ground::timeline::{Earliest, Placed, Rare, Timeline};
use crate::state::entities::Part;

/// One of a directory's own events.
#[derive(Clone, Copy)]
pub(crate) struct DirectoryVersion {
    pub(crate) place: Place,
    pub(crate) change: DirectoryChange,
    pub(crate) organization: Sym,
    pub(crate) name: Sym,
    pub(crate) domain: Sym,
    /// The part of the record that describes it.
    pub(crate) part: Part,
}

/// An event that names a directory and carries an organization for it.
#[derive(Clone, Copy)]
pub(crate) struct NamedWith {
    pub(crate) place: Place,
    pub(crate) organization: Sym,
}

impl DirectoryVersion {
    /// Tells if it decides whether the directory exists: a deactivation says so only if the source
    /// was asked and showed the directory.
    pub(crate) fn decides(&self) -> bool {
        self.change != DirectoryChange::Deactivated || self.part == Part::Object
    }

    /// Tells if the directory exists from it on, also if it was deleted before.
    pub(crate) fn brings_back(&self) -> bool {
        self.decides() && self.change != DirectoryChange::Deleted
    }
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

/// A directory: its own events, and the first of the others that name it.
#[derive(Default)]
pub(crate) struct Directory {
    events: Timeline<DirectoryVersion>,
    /// The deletions among them.
    deletions: Rare<Place>,
    /// The first event that names it, its own included.
    named: Earliest<Place>,
    /// The first event of another kind that names it and carries an organization.
    named_with: Earliest<NamedWith>,
}

/// A directory's state at a cut.
#[derive(Clone, Copy)]
pub(crate) enum DirectoryState {
    Absent,
    /// Named by other events, never announced: active, nearly empty.
    Stub,
    Live(DirectoryVersion),
}

impl Directory {
    pub(crate) fn events(&self) -> &Timeline<DirectoryVersion> {
        &self.events
    }

    pub(crate) fn deletions(&self) -> &Rare<Place> {
        &self.deletions
    }

    pub(crate) fn named(&self) -> &Earliest<Place> {
        &self.named
    }

    pub(crate) fn named_with(&self) -> &Earliest<NamedWith> {
        &self.named_with
    }

    pub(crate) fn state(&self, cut: Cut) -> DirectoryState {
        match self.events.latest(cut) {
            None if self.named.at(cut).is_some() => DirectoryState::Stub,
            Some(version) if !self.is_deleted(cut) => DirectoryState::Live(*version),
            _ => DirectoryState::Absent,
        }
    }

    /// Tells if it exists and is active, so that its active users have access.
    pub(crate) fn is_active(&self, cut: Cut) -> bool {
        match self.state(cut) {
            DirectoryState::Absent => false,
            DirectoryState::Stub => true,
            DirectoryState::Live(version) => version.change == DirectoryChange::Activated,
        }
    }

    /// Tells if the latest of its events that decides whether it exists is a deletion.
    pub(crate) fn is_deleted(&self, cut: Cut) -> bool {
        let deciding = match self.events.latest(cut) {
            Some(latest) if !latest.decides() => {
                self.events.latest_first(cut).find(|version| version.decides())
            }
            latest => latest,
        };
        deciding.is_some_and(|version| version.change == DirectoryChange::Deleted)
    }

    /// Returns the first known event of another kind that names it with an organization, whenever
    /// it happened.
    pub(crate) fn first_named_with(&self, cut: Cut) -> Option<Place> {
        self.named_with.at(Cut { as_of: Millis::MAX, ..cut }).map(|named| named.place)
    }

    /// Returns the latest organization of its own events, else that of the first event that names
    /// it with one; [`NO_SYM`] while unknown.
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
    items: Vec<Directory>,
    /// In order of id.
    roster: Roster,
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

    /// Returns the symbol of an id, if any event ever named it.
    pub(crate) fn find(&self, id: &str) -> Option<Sym> {
        self.ids.find(id)
    }

    pub(crate) fn id(&self, sym: Sym) -> &str {
        self.ids.text(sym)
    }

    pub(crate) fn get(&self, sym: Sym) -> Option<&Directory> {
        self.items.get(sym as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Adds one of the directory's own events.
    pub(crate) fn add(&mut self, sym: Sym, version: DirectoryVersion, event_ids: &EventIds) {
        let Some(directory) = self.items.get_mut(sym as usize) else { return };
        directory.events.insert(version, event_ids);
        if version.change == DirectoryChange::Deleted {
            directory.deletions.insert(version.place, event_ids);
        }
    }
}

pack_fields!(DirectoryVersion { place, change, organization, name, domain, part });
pack_fields!(NamedWith { place, organization });
pack_fields!(Directory { events, deletions, named, named_with });
pack_fields!(Directories { ids, items, roster });
