//! Users and groups: both are created, change, end and come back by the same rules.

use core::cmp::Ordering;

use crate::ground::memory;
use crate::ground::order::{Cut, EventIds, Millis, Place, Seq, Seq32};
use crate::ground::pack::{pack_fields, pack_variants};
use crate::ground::roster::{Gone, Roster};
use crate::ground::symbols::{NO_SYM, Sym, Symbols};
use crate::ground::table::Table;
use crate::ground::timeline::{Placed, Rare, Respects, Timeline};

/// The two kinds of entity.
#[derive(Clone, Copy)]
pub(crate) enum EntityKind {
    User,
    Group,
}

/// The part of a record's body that is the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// `data`
    Data,
    /// `data.user`
    User,
    /// `data.group`
    Group,
    /// `data.object`
    Object,
}

impl Part {
    /// Tells if the snapshot is in a record about the thing itself, and not in one about a
    /// membership.
    pub(crate) fn is_explicit(self) -> bool {
        match self {
            Part::Data | Part::Object => true,
            Part::User | Part::Group => false,
        }
    }
}

/// The place of a snapshot in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRef {
    /// The record whose body holds it.
    pub seq: Seq,
    /// The part of that body that is the snapshot.
    pub part: Part,
}

/// One event's statement about a user or a group.
#[derive(Clone, Copy)]
pub(crate) struct EntityVersion {
    pub(crate) place: Place,
    pub(crate) directory: Sym,
    pub(crate) organization: Sym,
    pub(crate) email: Sym,
    pub(crate) idp_id: Sym,
    /// A group's name, or the roles that the source gives a user, as in [`crate::UserData`].
    pub(crate) label: Sym,
    pub(crate) part: Part,
    pub(crate) active: bool,
    pub(crate) deleted: bool,
    /// True if the directory is the event's, since the snapshot has none of its own.
    pub(crate) directory_from_event: bool,
}

impl EntityVersion {
    /// The respects in which versions are compared: the existence in a directory, the state of a
    /// user, and the label.
    pub(crate) const EXISTENCE: Respects = 1;
    pub(crate) const STATE: Respects = 1 << 1;
    pub(crate) const LABEL: Respects = 1 << 2;

    /// Tells if two versions mean the same for the access and the roles of a user, or for the
    /// members of a group, the values of attributes left aside.
    pub(crate) fn is_like(&self, other: &EntityVersion) -> bool {
        self.label == other.label
            && self.directory == other.directory
            && self.deleted == other.deleted
            && self.active == other.active
            && self.idp_id == other.idp_id
    }
}

impl Placed for EntityVersion {
    fn place(&self) -> Place {
        self.place
    }

    fn alike(&self, other: &EntityVersion) -> Respects {
        let exists_alike = self.part.is_explicit() == other.part.is_explicit()
            && self.directory == other.directory
            && self.deleted == other.deleted;
        let when = |is_alike: bool, respects: Respects| if is_alike { respects } else { 0 };
        when(exists_alike, EntityVersion::EXISTENCE)
            | when(self.active == other.active, EntityVersion::STATE)
            | when(self.label == other.label, EntityVersion::LABEL)
    }
}

/// The versions of a user that are looked at one by one; few in debug builds, so that the short
/// histories of tests have turns.
const FEW_VERSIONS: usize = if cfg!(debug_assertions) { 2 } else { 32 };

/// A user or a group: all its versions.
pub(crate) struct Entity {
    /// Creations, updates and deletions.
    explicit: Timeline<EntityVersion>,
    /// `None` while all of it is empty.
    further: Option<Box<Further>>,
    /// The first event that names it: when it occurred, and its record; 0 if there is none.
    first_occurred: Millis,
    first_seq: Seq32,
    /// The first directory whose roster lists it; [`NO_SYM`] before that.
    listed_in: Sym,
    /// The record of the version that was added last.
    last_seq: Seq32,
    /// True if its versions show several ids at the identity provider.
    has_several_idp_ids: bool,
}

/// The parts of an entity that are empty for most.
#[derive(Default)]
struct Further {
    /// The deletions among the explicit versions.
    tombstones: Rare<Place>,
    /// Snapshots in membership events, which count while nothing explicit is seen.
    stand_ins: Rare<EntityVersion>,
    /// The versions unlike the one before them, and some more; of a user only if there are many
    /// versions. What depends on it can change at no other version, unless its directory was
    /// deleted.
    turns: Rare<EntityVersion>,
    /// Events that were known to be the first before an earlier one came, in order of seq.
    seen_before: Vec<FirstSeen>,
    /// All directories whose rosters list it, if they are several.
    all_listed_in: Vec<Sym>,
}

/// The first event that names an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FirstSeen {
    pub(crate) occurred_at: Millis,
    pub(crate) seq: Seq32,
}

static NO_PLACES: Rare<Place> = Rare::EMPTY;
static NO_VERSIONS: Rare<EntityVersion> = Rare::EMPTY;

impl Default for Entity {
    fn default() -> Self {
        Entity {
            explicit: Timeline::default(),
            further: None,
            first_occurred: Millis::MAX,
            first_seq: 0,
            listed_in: NO_SYM,
            last_seq: 0,
            has_several_idp_ids: false,
        }
    }
}

impl Entity {
    /// Returns its latest version at the cut, tombstones included.
    pub(crate) fn version(&self, cut: Cut) -> Option<&EntityVersion> {
        self.explicit.latest(cut).or_else(|| self.stand_ins().latest(cut))
    }

    /// Returns the cut up to which its stand-ins count: while they are older than everything that
    /// the source says of the thing itself.
    pub(crate) fn before_explicit(&self, cut: Cut) -> Cut {
        let first = self.explicit.seen_since(Millis::MIN, cut).next();
        let before = first.map(|version| version.place.occurred_at.saturating_sub(1));
        Cut { as_of: before.map_or(cut.as_of, |before| before.min(cut.as_of)), ..cut }
    }

    pub(crate) fn explicit(&self) -> &Timeline<EntityVersion> {
        &self.explicit
    }

    pub(crate) fn tombstones(&self) -> &Rare<Place> {
        self.further.as_ref().map_or(&NO_PLACES, |further| &further.tombstones)
    }

    pub(crate) fn stand_ins(&self) -> &Rare<EntityVersion> {
        self.further.as_ref().map_or(&NO_VERSIONS, |further| &further.stand_ins)
    }

    pub(crate) fn turns(&self) -> &Rare<EntityVersion> {
        self.further.as_ref().map_or(&NO_VERSIONS, |further| &further.turns)
    }

    /// Tells if its turns are noted. Those of others are all their versions.
    pub(crate) fn has_turns(&self) -> bool {
        self.turns().newest().is_some()
    }

    fn first(&self) -> Option<FirstSeen> {
        let (occurred_at, seq) = (self.first_occurred, self.first_seq);
        (seq != 0).then_some(FirstSeen { occurred_at, seq })
    }

    /// Returns the first known event that names it, if `cut` sees that.
    pub(crate) fn first_seen(&self, cut: Cut) -> Option<FirstSeen> {
        let known_at = cut.known_at32();
        let first = if self.first_seq <= known_at {
            self.first()
        } else {
            let before = &self.further.as_ref()?.seen_before;
            let known = before.partition_point(|first| first.seq <= known_at);
            known.checked_sub(1).and_then(|last| before.get(last)).copied()
        };
        first.filter(|first| first.occurred_at <= cut.as_of)
    }

    pub(crate) fn listed_in(&self) -> &[Sym] {
        match &self.further {
            Some(further) if !further.all_listed_in.is_empty() => &further.all_listed_in,
            _ if self.listed_in == NO_SYM => &[],
            _ => core::slice::from_ref(&self.listed_in),
        }
    }

    /// Iterates over its newest explicit version and its newest stand-in, as far as there are any.
    fn newest(&self) -> impl Iterator<Item = &EntityVersion> {
        [self.explicit.newest(), self.stand_ins().newest()].into_iter().flatten()
    }

    /// Returns its newest version, an explicit one if there is any.
    pub(crate) fn newest_version(&self) -> Option<&EntityVersion> {
        self.newest().next()
    }

    /// Returns the version that was added last, unless a later one of its kind was there.
    pub(crate) fn last_added(&self) -> Option<&EntityVersion> {
        self.newest().find(|version| version.place.seq == self.last_seq)
    }

    /// Returns the only id at the identity provider that its versions show, if there are any
    /// versions; `None` if they show several.
    pub(crate) fn only_idp_id(&self) -> Option<Sym> {
        self.newest().next().filter(|_| !self.has_several_idp_ids).map(|version| version.idp_id)
    }

    /// Iterates over all versions: the explicit ones, then the stand-ins.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &EntityVersion> {
        self.explicit.iter().chain(self.stand_ins().iter())
    }

    /// Iterates over the versions at which it may begin to mean something else: its turns, or all
    /// versions if its turns are not noted.
    pub(crate) fn turning(&self) -> impl Iterator<Item = &EntityVersion> {
        let all = (!self.has_turns()).then(|| self.versions());
        self.turns().iter().chain(all.into_iter().flatten())
    }

    /// Returns the time of the last of its versions.
    pub(crate) fn last_occurred(&self) -> Millis {
        self.newest().map(|version| version.place.occurred_at).max().unwrap_or(Millis::MIN)
    }

    /// Returns the place of the version that a record gave it at a moment.
    pub(crate) fn place_of(&self, moment: Millis, seq: Seq32) -> Option<Place> {
        let versions = self.explicit.at(moment).chain(self.stand_ins().at(moment));
        versions.map(|version| version.place).find(|place| place.seq == seq)
    }

    fn further_mut(&mut self) -> &mut Further {
        self.further.get_or_insert_default()
    }

    fn add(&mut self, version: EntityVersion, ids: &EventIds) {
        self.last_seq = version.place.seq;
        let has_other = self.newest().any(|other| other.idp_id != version.idp_id);
        self.has_several_idp_ids |= has_other;
        if version.part.is_explicit() {
            if version.deleted {
                self.further_mut().tombstones.insert(version.place, ids);
            }
            self.explicit.insert(version, ids);
        } else {
            self.further_mut().stand_ins.insert(version, ids);
        }
        self.note_seen(version.place, ids);
    }

    /// Notes the event of a version that was just added, if it is earlier than all before it.
    fn note_seen(&mut self, place: Place, ids: &EventIds) {
        if let Some(first) = self.first() {
            let is_earlier = match place.occurred_at.cmp(&first.occurred_at) {
                Ordering::Less => true,
                Ordering::Equal => self
                    .place_of(first.occurred_at, first.seq)
                    .is_some_and(|first| ids.is_later(first, place)),
                Ordering::Greater => false,
            };
            if !is_earlier {
                return;
            }
            self.further_mut().seen_before.push(first);
        }
        (self.first_occurred, self.first_seq) = (place.occurred_at, place.seq);
    }

    /// Lists it in a directory's roster.
    fn list_in(&mut self, directory: Sym) {
        if self.listed_in().contains(&directory) {
            return;
        }
        if self.listed_in == NO_SYM {
            self.listed_in = directory;
            return;
        }
        let first = self.listed_in;
        let all = &mut self.further_mut().all_listed_in;
        if all.is_empty() {
            all.push(first);
        }
        all.push(directory);
    }

    /// Returns about the bytes of memory that it takes outside of itself.
    fn heap_bytes(&self) -> usize {
        let of_further = |further: &Further| {
            memory::of_box::<Further>()
                + further.tombstones.heap_bytes()
                + further.stand_ins.heap_bytes()
                + further.turns.heap_bytes()
                + memory::of_vec(&further.seen_before)
                + memory::of_vec(&further.all_listed_in)
        };
        self.explicit.heap_bytes() + self.further.as_deref().map_or(0, of_further)
    }

    /// Notes a version of a user that was just added, and the one after it, where they are turns
    /// and its versions are many. Those from before there were many are all noted.
    fn note_turns_of_many(&mut self, version: EntityVersion, ids: &EventIds) {
        if self.has_turns() {
            self.note_turns(version, ids);
        } else if self.explicit.len() + self.stand_ins().len() > FEW_VERSIONS {
            let all: Vec<EntityVersion> = self.versions().copied().collect();
            let turns = &mut self.further_mut().turns;
            all.into_iter().for_each(|version| turns.insert(version, ids));
        }
    }

    /// Notes a version that was just added, and the one after it, where they are turns.
    ///
    /// A version whose neighbours at some `known_at` are alike may be one all the same, because of
    /// what was learnt later; one whose neighbours differ always is.
    fn note_turns(&mut self, version: EntityVersion, ids: &EventIds) {
        let Place { occurred_at, seq, .. } = version.place;
        let (before, after) = if version.part.is_explicit() {
            self.explicit.neighbours(occurred_at, Seq::from(seq))
        } else {
            self.stand_ins().neighbours(occurred_at, Seq::from(seq))
        };
        let after = after.filter(|after| !after.is_like(&version)).copied();
        if version.deleted || before.is_none_or(|before| !before.is_like(&version)) {
            self.further_mut().turns.insert(version, ids);
        }
        let Some(after) = after else { return };
        let is_it = |turn: &EntityVersion| turn.place.seq == after.place.seq;
        if !self.turns().at(after.place.occurred_at).any(is_it) {
            self.further_mut().turns.insert(after, ids);
        }
    }
}

/// All users, or all groups.
#[derive(Default)]
pub(crate) struct Entities {
    ids: Symbols,
    items: Table<Entity>,
    /// By directory: those that were ever in it.
    rosters: Vec<Roster>,
}

impl Entities {
    /// Returns the symbol of an id, new if no event named it before.
    pub(crate) fn intern(&mut self, id: &str) -> Sym {
        let sym = self.ids.intern(id);
        if self.items.len() <= sym as usize {
            self.items.push(Entity::default());
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

    pub(crate) fn ids(&self) -> &Symbols {
        &self.ids
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns about the bytes of memory that their ids, their versions and the rosters take.
    pub(crate) fn heap_bytes(&self) -> [usize; 3] {
        let of_items = self.items.iter().map(Entity::heap_bytes);
        let of_rosters = self.rosters.iter().map(Roster::heap_bytes);
        [
            self.ids.heap_bytes(),
            self.items.heap_bytes() + of_items.sum::<usize>(),
            memory::of_vec(&self.rosters) + of_rosters.sum::<usize>(),
        ]
    }

    /// Iterates over all of them, in order of symbol.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Sym, &Entity)> {
        (0..).zip(self.items.iter())
    }

    pub(crate) fn get(&self, sym: Sym) -> Option<&Entity> {
        self.items.get(sym as usize)
    }

    /// Adds a version: an explicit one if it is the whole `data`, else a stand-in.
    pub(crate) fn add(&mut self, sym: Sym, version: EntityVersion, ids: &EventIds) {
        if let Some(entity) = self.items.get_mut(sym as usize) {
            entity.add(version, ids);
        }
    }

    /// Notes the turns that a version, just added, makes.
    pub(crate) fn note_turns(
        &mut self,
        kind: EntityKind,
        sym: Sym,
        version: EntityVersion,
        ids: &EventIds,
    ) {
        let Some(entity) = self.items.get_mut(sym as usize) else { return };
        match kind {
            EntityKind::User => entity.note_turns_of_many(version, ids),
            EntityKind::Group => entity.note_turns(version, ids),
        }
    }

    /// Lists the entity in the directory's roster from an event on.
    pub(crate) fn see(&mut self, sym: Sym, directory: Sym, occurred_at: Millis, seq: Seq32) {
        let Some(entity) = self.items.get_mut(sym as usize) else { return };
        entity.list_in(directory);
        while self.rosters.len() <= directory as usize {
            self.rosters.push(Roster::default());
        }
        let ids = &self.ids;
        if let Some(roster) = self.rosters.get_mut(directory as usize) {
            roster.see(sym, occurred_at, seq, |other| ids.compare(other, sym));
        }
    }

    /// Sets in every roster since when the entity is gone; `None` while it is alive.
    pub(crate) fn set_gone(&mut self, sym: Sym, gone: Option<Gone>) {
        let Some(entity) = self.items.get(sym as usize) else { return };
        let ids = &self.ids;
        for directory in entity.listed_in() {
            if let Some(roster) = self.rosters.get_mut(*directory as usize) {
                roster.set_gone(gone, |other| ids.compare(other, sym));
            }
        }
    }

    pub(crate) fn rosters(&self) -> impl Iterator<Item = &Roster> {
        self.rosters.iter()
    }

    pub(crate) fn roster(&self, directory: Sym) -> Option<&Roster> {
        self.rosters.get(directory as usize)
    }

    /// Tells if an explicit event no later than `place` makes a stand-in at `place` invisible for
    /// ever.
    pub(crate) fn is_announced_by(&self, sym: Sym, place: Place) -> bool {
        let until = Cut { as_of: place.occurred_at, ..Cut::LATEST };
        self.get(sym).is_some_and(|entity| entity.explicit.latest(until).is_some())
    }
}

pack_variants!(Part { Data = 0, User = 1, Group = 2, Object = 3 });
pack_fields!(EntityVersion {
    place,
    directory,
    organization,
    email,
    idp_id,
    label,
    part,
    active,
    deleted,
    directory_from_event,
});
pack_fields!(Entity {
    explicit,
    further,
    first_occurred,
    first_seq,
    listed_in,
    last_seq,
    has_several_idp_ids,
});
pack_fields!(Further { tombstones, stand_ins, turns, seen_before, all_listed_in });
pack_fields!(FirstSeen { occurred_at, seq });
pack_fields!(Entities { ids, items, rosters });
