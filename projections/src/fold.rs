//! Folding: how each entry changes the views. Nothing else writes to them.

use crate::ground::fact::{
    Change, DirectoryChange, Entry, Fact, GroupData, MembershipData, RecordStatus, UserData,
};
use crate::ground::order::{Cut, EventIds, Millis, NO_UPDATED_AT, Place, Seq, seq32};
use crate::ground::quarantine::{Quarantined, Reason};
use crate::ground::roster::Gone;
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::timeline::Placed;
use crate::state::attributes::Attributes;
use crate::state::directories::DirectoryVersion;
use crate::state::entities::{Entities, Entity, EntityKind, EntityVersion, Part};
use crate::state::memberships::Grant;
use crate::views::Views;

/// An event dated further ahead of its recording than this is remarked upon.
const CLOCK_AHEAD_MS: Millis = 5 * 60 * 1000;

impl Views {
    /// Folds the next record. Entries come in order of seq, without gaps: the log's reader sees to
    /// it.
    ///
    /// Costs O(log n) for what comes in order, and moves the later versions of the same thing for
    /// what comes late. A directory's deletion, or what brings it back, also visits everything that
    /// was ever in the directory.
    pub fn apply(&mut self, entry: &Entry<'_>) {
        self.head = entry.seq;
        match self.recorded.last_mut() {
            Some((recorded_at, last)) if *recorded_at == entry.recorded_at => *last = entry.seq,
            _ => self.recorded.push((entry.recorded_at, entry.seq)),
        }
        match self.fold(entry) {
            Some((organization, directory)) => {
                let shown = if organization != NO_SYM {
                    organization
                } else {
                    self.organization_of(
                        directory,
                        Cut { as_of: entry.occurred_at, known_at: entry.seq },
                    )
                };
                self.events.list(
                    entry.event_type,
                    shown,
                    directory,
                    entry.occurred_at,
                    entry.recorded_at,
                );
            }
            None => self.events.skip(entry.occurred_at),
        }
    }

    /// Folds an entry into the timelines. Gives the organization that the event itself carries and
    /// the directory that it belongs to, if it counts.
    fn fold(&mut self, entry: &Entry<'_>) -> Option<(Sym, Sym)> {
        if let RecordStatus::Conflict { first } = entry.status {
            self.list(entry.seq, Reason::Conflict { first });
            return None;
        }
        let closing = match &entry.fact {
            Fact::Unusable(reason) => {
                self.list(entry.seq, *reason);
                return None;
            }
            Fact::Unrelated { organization } => return Some((self.text(*organization), NO_SYM)),
            Fact::Policy { inactive_users, effective_from } => {
                self.ids.push(seq32(entry.seq), entry.event_id);
                self.policies.set(entry.seq, entry.recorded_at, *effective_from, *inactive_users);
                return Some((NO_SYM, NO_SYM));
            }
            Fact::Mapping { mapping, effective_from } => {
                self.ids.push(seq32(entry.seq), entry.event_id);
                self.roles.set(mapping.clone(), entry.seq, entry.recorded_at, *effective_from);
                return Some((NO_SYM, NO_SYM));
            }
            Fact::Directory { change, .. } => *change != DirectoryChange::Activated,
            Fact::User(change, _) | Fact::Group(change, _) => *change == Change::Deleted,
            Fact::Membership(data) => !data.added,
        };
        if entry.occurred_at.saturating_sub(entry.recorded_at) > CLOCK_AHEAD_MS {
            self.list(entry.seq, Reason::ClockAhead);
        }
        let place = Place {
            occurred_at: entry.occurred_at,
            updated_at: entry.updated_at.unwrap_or(NO_UPDATED_AT),
            seq: seq32(entry.seq),
            closing,
        };
        self.ids.push(place.seq, entry.event_id);
        match entry.fact {
            Fact::Directory { change, id, organization, name, domain } => {
                Some(self.directory_event(place, change, id, [organization, Some(name), domain]))
            }
            Fact::User(_, data) => Some(self.user_event(place, &data)),
            Fact::Group(_, data) => Some(self.group_event(place, &data)),
            Fact::Membership(data) => Some(self.membership_event(place, &data)),
            Fact::Unrelated { .. }
            | Fact::Unusable(_)
            | Fact::Policy { .. }
            | Fact::Mapping { .. } => None,
        }
    }

    fn list(&mut self, seq: Seq, reason: Reason) {
        self.quarantine.push(Quarantined { seq, reason });
    }

    fn text(&mut self, text: Option<&str>) -> Sym {
        text.map_or(NO_SYM, |text| self.texts.intern(text))
    }

    fn directory_event(
        &mut self,
        place: Place,
        change: DirectoryChange,
        id: &str,
        texts: [Option<&str>; 3],
    ) -> (Sym, Sym) {
        let [organization, name, domain] = texts.map(|text| self.text(text));
        let directory = self.directories.note_named(id, place, NO_SYM, &self.ids);
        self.associate(organization, directory);
        let Some(item) = self.directories.get_mut(directory) else {
            return (organization, directory);
        };
        item.events
            .insert(DirectoryVersion { place, change, organization, name, domain }, &self.ids);
        if change == DirectoryChange::Deleted {
            item.deletions.insert(place, &self.ids);
        }
        if change != DirectoryChange::Activated {
            self.endings.note_directory(directory, place.occurred_at);
        }
        // Only a deletion ends what is in a directory, and only what comes after one can bring
        // anything back.
        if change != DirectoryChange::Deactivated && item.deletions.newest().is_some() {
            for kind in [EntityKind::User, EntityKind::Group] {
                let listed: Vec<Sym> = self
                    .entities(kind)
                    .roster(directory)
                    .map_or(Vec::new(), |roster| roster.items().collect());
                for name in listed {
                    self.refresh(kind, name);
                }
            }
        }
        (organization, directory)
    }

    fn user_event(&mut self, place: Place, data: &UserData<'_>) -> (Sym, Sym) {
        let directory =
            data.directory.map_or(NO_SYM, |id| self.intern_directory(id, place, data.organization));
        let version = self.user_version(place, Part::Data, directory, data);
        let name = self.announce(EntityKind::User, data.id, version);
        self.hold_fingerprints(name, version);
        (version.organization, self.directory_of_event(EntityKind::User, name, version))
    }

    fn group_event(&mut self, place: Place, data: &GroupData<'_>) -> (Sym, Sym) {
        let directory =
            data.directory.map_or(NO_SYM, |id| self.intern_directory(id, place, data.organization));
        let version = self.group_version(place, Part::Data, directory, data);
        let name = self.announce(EntityKind::Group, data.id, version);
        (version.organization, self.directory_of_event(EntityKind::Group, name, version))
    }

    fn membership_event(&mut self, place: Place, data: &MembershipData<'_>) -> (Sym, Sym) {
        let MembershipData { added, user, group, .. } = *data;
        let organization =
            self.text(data.organization.or(group.organization).or(user.organization));
        let own = |end: Option<&str>| end.is_none_or(|id| id == data.directory);
        let carried = data
            .organization
            .or(group.organization.filter(|_| own(group.directory)))
            .or(user.organization.filter(|_| own(user.directory)));
        let directory = self.intern_directory(data.directory, place, carried);
        // Of two organizations that one event carries for one directory the group's counts, as
        // above.
        let group_directory = group
            .directory
            .map_or(directory, |id| self.intern_directory(id, place, group.organization));
        let user_directory = user
            .directory
            .map_or(directory, |id| self.intern_directory(id, place, user.organization));
        // A snapshot is a version of an entity, not the end of one.
        let snapshot = |version: EntityVersion| EntityVersion { deleted: false, ..version };
        let version = snapshot(self.user_version(place, Part::User, user_directory, &user));
        let user = self.stand_in(EntityKind::User, user.id, version);
        self.hold_fingerprints(user, version);
        let version = snapshot(self.group_version(place, Part::Group, group_directory, &group));
        let group = self.stand_in(EntityKind::Group, group.id, version);

        let number = self.memberships.intern(user, group, self.groups.ids());
        let is_in = |entity: Option<&Entity>| {
            entity.is_some_and(|entity| entity.listed_in.contains(&directory))
        };
        if !is_in(self.users.get(user)) && !is_in(self.groups.get(group)) {
            self.memberships.note_foreign(directory, number);
        }
        let held =
            self.memberships.get(number).is_some_and(|pair| self.user_end_holds(pair, Cut::LATEST));
        let Some(pair) = self.memberships.get_mut(number) else { return (organization, directory) };
        let newest = pair.grants.insert(Grant::new(place, directory), &self.ids);
        if !(held && added && newest) {
            self.memberships.see(number, place.occurred_at, place.seq, self.users.ids());
            self.refresh_pair(number);
        }
        (organization, directory)
    }

    /// Takes notice of a directory that another kind of event names.
    fn intern_directory(&mut self, id: &str, place: Place, organization: Option<&str>) -> Sym {
        let organization = self.text(organization);
        let directory = self.directories.note_named(id, place, organization, &self.ids);
        self.associate(organization, directory);
        directory
    }

    /// Remembers that something in the directory carried the organization.
    fn associate(&mut self, organization: Sym, directory: Sym) {
        if organization != NO_SYM && directory != NO_SYM {
            self.organizations.insert((organization, directory));
        }
    }

    fn user_version(
        &mut self,
        place: Place,
        part: Part,
        directory: Sym,
        data: &UserData<'_>,
    ) -> EntityVersion {
        EntityVersion {
            place,
            directory,
            organization: self.text(data.organization),
            email: self.emails.intern(data.email),
            idp_id: self.idp_ids.intern(data.idp_id),
            label: self.texts.intern(data.roles),
            part,
            active: data.active,
            deleted: place.closing,
            directory_from_event: data.directory.is_none(),
        }
    }

    fn group_version(
        &mut self,
        place: Place,
        part: Part,
        directory: Sym,
        data: &GroupData<'_>,
    ) -> EntityVersion {
        EntityVersion {
            place,
            directory,
            organization: self.text(data.organization),
            email: NO_SYM,
            idp_id: NO_SYM,
            label: self.intern_group_name(data.name),
            part,
            active: true,
            deleted: place.closing,
            directory_from_event: data.directory.is_none(),
        }
    }

    /// A group's name, known to every mapping from now on.
    fn intern_group_name(&mut self, text: &str) -> Sym {
        let name = self.texts.intern(text);
        self.roles.note_group_name(name, text);
        name
    }

    fn hold_fingerprints(&mut self, user: Sym, version: EntityVersion) {
        self.emails.hold(version.email, user);
        self.idp_ids.hold(version.idp_id, user);
    }

    /// Folds a creation, update or deletion.
    fn announce(&mut self, kind: EntityKind, id: &str, version: EntityVersion) -> Sym {
        self.add_version(kind, id, version, |entity, ids| {
            if version.deleted {
                entity.tombstones.insert(version.place, ids);
            }
            entity.explicit.insert(version, ids);
        })
    }

    /// Folds the snapshot in a membership event. One that an explicit event makes invisible for
    /// ever is not kept.
    fn stand_in(&mut self, kind: EntityKind, id: &str, version: EntityVersion) -> Sym {
        let name = self.entities_mut(kind).0.intern(id);
        if self.entities(kind).is_announced_by(name, version.place) {
            return name;
        }
        self.add_version(kind, id, version, |entity, ids| {
            entity.stand_ins.insert(version, ids);
        })
    }

    fn add_version(
        &mut self,
        kind: EntityKind,
        id: &str,
        version: EntityVersion,
        insert: impl FnOnce(&mut Entity, &EventIds),
    ) -> Sym {
        let Place { occurred_at, seq, .. } = version.place;
        let name = self.entities_mut(kind).0.intern(id);
        // An entity that was there to the end, and goes on in the same directory, changes no index.
        let before = self.exists(kind, name, Cut::LATEST);
        let goes_on = |before: &EntityVersion| {
            before.directory == version.directory && self.ids.is_later(version.place, before.place)
        };
        let steady = !version.deleted && before.is_some_and(goes_on);
        let (entities, ids) = self.entities_mut(kind);
        if let Some(entity) = entities.get_mut(name) {
            insert(entity, ids);
            entity.seen.note(version.place, ids);
        }
        let was_in = entities.get(name).map_or(0, |entity| entity.listed_in.len());
        if version.directory != NO_SYM && !steady {
            entities.see(name, version.directory, occurred_at, seq);
        }
        if let (EntityKind::User, Some(entity)) = (kind, self.users.get(name)) {
            let moved = entity.listed_in.len() > was_in && was_in > 0;
            self.endings.note_user(name, entity, &version, moved);
        }
        self.associate(version.organization, version.directory);
        if !steady {
            self.refresh(kind, name);
        }
        name
    }

    /// Recomputes since when an entity is gone, and its memberships with it.
    fn refresh(&mut self, kind: EntityKind, sym: Sym) {
        let gone = match self.exists(kind, sym, Cut::LATEST) {
            Some(_) => None,
            None => {
                Some(Gone { occurred_at: self.last_occurred(kind, sym), seq: seq32(self.head) })
            }
        };
        self.entities_mut(kind).0.set_gone(sym, gone);
        if let EntityKind::User = kind {
            for number in self.memberships.of_user(sym).to_vec() {
                self.refresh_pair(number);
            }
        }
    }

    /// Recomputes since when a membership is gone as far as its user's end decides. The group's end
    /// is judged once a question, so that what happens to a group does not touch every member.
    fn refresh_pair(&mut self, number: u32) {
        let Some(pair) = self.memberships.get(number) else { return };
        let gone = if self.user_end_holds(pair, Cut::LATEST) {
            None
        } else {
            let grant = pair.grants.newest();
            let said = grant.map_or(Millis::MIN, |grant| grant.place().occurred_at);
            let directory =
                grant.map_or(Millis::MIN, |grant| self.directory_last_occurred(grant.directory()));
            let occurred_at =
                said.max(directory).max(self.last_occurred(EntityKind::User, pair.user));
            Some(Gone { occurred_at, seq: seq32(self.head) })
        };
        self.memberships.set_gone(number, gone, self.users.ids());
    }

    /// The time after which nothing more is known that could change whether the entity is alive.
    fn last_occurred(&self, kind: EntityKind, sym: Sym) -> Millis {
        let Some(entity) = self.entities(kind).get(sym) else { return Millis::MIN };
        let directories =
            entity.listed_in.iter().map(|directory| self.directory_last_occurred(*directory));
        directories.fold(entity.last_occurred(), Millis::max)
    }

    fn directory_last_occurred(&self, directory: Sym) -> Millis {
        let newest =
            self.directories.get(directory).and_then(|directory| directory.events.newest());
        newest.map_or(Millis::MIN, |version| version.place.occurred_at)
    }

    /// The entities to change, with the event ids beside them.
    fn entities_mut(&mut self, kind: EntityKind) -> (&mut Entities, &EventIds) {
        match kind {
            EntityKind::User => (&mut self.users, &self.ids),
            EntityKind::Group => (&mut self.groups, &self.ids),
        }
    }

    /// Notes what one snapshot of a user has, for the mappings set.
    pub fn note_attributes(&mut self, seq: Seq, part: Part, user: &str, keys: &[u32]) {
        if let Some(user) = self.users.find(user) {
            self.roles.attributes.note(seq, part, user, keys);
        }
    }

    /// Puts attributes in the place of those noted so far; they must ask for at least as much and
    /// know as many records.
    pub fn install_attributes(&mut self, attributes: Attributes) {
        self.roles.install(attributes);
    }
}
