//! The views: how an entry changes them, and how they answer at a cut.

use std::collections::BTreeSet;

use crate::ask::deprovisionings::Endings;
use crate::ask::traffic::Counted;
use crate::ground::fact::{
    Change, DirectoryChange, Entry, Fact, Fingerprint, GroupData, InactiveUsers, MembershipData,
    RecordStatus, UserData,
};
use crate::ground::holders::HolderIndex;
use crate::ground::names::{NO_NAME, Name, Names};
use crate::ground::order::{Cut, EventIds, Millis, NO_UPDATED_AT, Place, Seq, seq32};
use crate::ground::page::{Page, Window, page};
use crate::ground::quarantine::{Quarantined, Reason};
use crate::ground::roster::{Gone, Roster};
use crate::ground::timeline::Placed;
use crate::ground::walks::{Walk, merge, walk, walk_merged, walk_sorted};
use crate::state::directories::{
    Directories, Directory, DirectoryRow, DirectoryState, DirectoryVersion,
};
use crate::state::entities::{Entities, Entity, Part, Row, Version};
use crate::state::events::{EventFilter, EventRow, Events, Intake, Start};
use crate::state::memberships::{Grant, Memberships, Pair};
use crate::state::policies::{Policies, Policy};
use crate::state::roles::Roles;

/// An event dated further ahead of its recording than this is remarked upon.
const CLOCK_AHEAD_MS: Millis = 5 * 60 * 1000;

/// At most so many groups stand in a user's object, and so many members in a group's.
const NESTED_MAX: usize = 1000;

/// All views over one log.
#[derive(Default)]
pub struct Views {
    head: Seq,
    /// The last record of each moment of recording, in order.
    recorded: Vec<(Millis, Seq)>,
    pub(crate) ids: EventIds,
    /// Organizations, and the names and domains of directories.
    pub(crate) texts: Names,
    pub(crate) emails: HolderIndex,
    pub(crate) idp_ids: HolderIndex,
    pub(crate) directories: Directories,
    pub(crate) users: Entities,
    pub(crate) groups: Entities,
    pub(crate) memberships: Memberships,
    /// Pairs of an organization and a directory in which anything ever carried it.
    organizations: BTreeSet<(Name, Name)>,
    pub(crate) quarantine: Vec<Quarantined>,
    pub(crate) events: Events,
    pub(crate) policies: Policies,
    pub(crate) roles: Roles,
    pub(crate) endings: Endings,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    User,
    Group,
}

/// Which users a list is narrowed to; all that are given must fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserFilter<'a> {
    /// In this directory.
    pub directory: Option<&'a str>,
    /// Member of this group.
    pub group: Option<&'a str>,
    /// Showing this organization.
    pub organization: Option<&'a str>,
    /// Showing an email with this fingerprint.
    pub email: Option<Fingerprint>,
    /// Showing an identity provider's id with this fingerprint.
    pub idp_id: Option<Fingerprint>,
    /// Active, or not.
    pub active: Option<bool>,
    /// With this role.
    pub role: Option<&'a str>,
}

/// Which groups a list is narrowed to; all that are given must fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupFilter<'a> {
    /// In this directory.
    pub directory: Option<&'a str>,
    /// With this member.
    pub user: Option<&'a str>,
    /// Showing this organization.
    pub organization: Option<&'a str>,
}

/// Which directories a list is narrowed to; all that are given must fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectoryFilter<'a> {
    /// Of this organization.
    pub organization: Option<&'a str>,
    /// With this text in its name, whatever the case.
    pub search: Option<&'a str>,
    /// With this domain.
    pub domain: Option<&'a str>,
}

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// The user.
    pub user: Row,
    /// The groups it is a member of, in ascending order of id, at most 1000.
    pub groups: Vec<Row>,
}

/// A group, with its members where they were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    /// The group.
    pub group: Row,
    /// Its members, in ascending order of id, at most 1000.
    pub members: Option<Vec<Row>>,
}

/// Folding.
impl Views {
    /// Views over nothing.
    pub fn new() -> Views {
        Views::default()
    }

    /// The last record folded; 0 before the first.
    pub fn head(&self) -> Seq {
        self.head
    }

    /// The last record that was recorded at or before `moment`; 0 if there is none. O(log n).
    pub fn known_at(&self, moment: Millis) -> Seq {
        let until = self.recorded.partition_point(|(recorded_at, _)| *recorded_at <= moment);
        until.checked_sub(1).and_then(|last| self.recorded.get(last)).map_or(0, |(_, seq)| *seq)
    }

    /// Everything listed, in order of seq.
    pub fn quarantine(&self) -> &[Quarantined] {
        &self.quarantine
    }

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
                let shown = if organization != NO_NAME {
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
    fn fold(&mut self, entry: &Entry<'_>) -> Option<(Name, Name)> {
        if let RecordStatus::Conflict { first } = entry.status {
            self.list(entry.seq, Reason::Conflict { first });
            return None;
        }
        let closing = match &entry.fact {
            Fact::Unusable(reason) => {
                self.list(entry.seq, *reason);
                return None;
            }
            Fact::Unrelated { organization } => return Some((self.text(*organization), NO_NAME)),
            Fact::Policy { inactive_users, effective_from } => {
                self.ids.push(seq32(entry.seq), entry.event_id);
                self.policies.set(entry.seq, entry.recorded_at, *effective_from, *inactive_users);
                return Some((NO_NAME, NO_NAME));
            }
            Fact::Mapping { mapping, effective_from } => {
                self.ids.push(seq32(entry.seq), entry.event_id);
                self.roles.set(mapping.clone(), entry.seq, entry.recorded_at, *effective_from);
                return Some((NO_NAME, NO_NAME));
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

    fn text(&mut self, text: Option<&str>) -> Name {
        text.map_or(NO_NAME, |text| self.texts.intern(text))
    }

    fn directory_event(
        &mut self,
        place: Place,
        change: DirectoryChange,
        id: &str,
        texts: [Option<&str>; 3],
    ) -> (Name, Name) {
        let [organization, name, domain] = texts.map(|text| self.text(text));
        let directory = self.directories.name(id, place, NO_NAME, &self.ids);
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
            for kind in [Kind::User, Kind::Group] {
                let listed: Vec<Name> = self
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

    fn user_event(&mut self, place: Place, data: &UserData<'_>) -> (Name, Name) {
        let directory =
            data.directory.map_or(NO_NAME, |id| self.name_directory(id, place, data.organization));
        let version = self.user_version(place, Part::Data, directory, data);
        let name = self.announce(Kind::User, data.id, version);
        self.hold_prints(name, version);
        (version.organization, self.directory_of_event(Kind::User, name, version))
    }

    fn group_event(&mut self, place: Place, data: &GroupData<'_>) -> (Name, Name) {
        let directory =
            data.directory.map_or(NO_NAME, |id| self.name_directory(id, place, data.organization));
        let version = self.group_version(place, Part::Data, directory, data);
        let name = self.announce(Kind::Group, data.id, version);
        (version.organization, self.directory_of_event(Kind::Group, name, version))
    }

    fn membership_event(&mut self, place: Place, data: &MembershipData<'_>) -> (Name, Name) {
        let MembershipData { added, user, group, .. } = *data;
        let organization =
            self.text(data.organization.or(group.organization).or(user.organization));
        let own = |end: Option<&str>| end.is_none_or(|id| id == data.directory);
        let carried = data
            .organization
            .or(group.organization.filter(|_| own(group.directory)))
            .or(user.organization.filter(|_| own(user.directory)));
        let directory = self.name_directory(data.directory, place, carried);
        // Of two organizations that one event carries for one directory the group's counts, as
        // above.
        let group_directory = group
            .directory
            .map_or(directory, |id| self.name_directory(id, place, group.organization));
        let user_directory = user
            .directory
            .map_or(directory, |id| self.name_directory(id, place, user.organization));
        // A snapshot is a version of an entity, not the end of one.
        let snapshot = |version: Version| Version { deleted: false, ..version };
        let version = snapshot(self.user_version(place, Part::User, user_directory, &user));
        let user = self.stand_in(Kind::User, user.id, version);
        self.hold_prints(user, version);
        let version = snapshot(self.group_version(place, Part::Group, group_directory, &group));
        let group = self.stand_in(Kind::Group, group.id, version);

        let number = self.memberships.intern(user, group, &self.groups.names);
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
            self.memberships.see(number, place.occurred_at, place.seq, &self.users.names);
            self.refresh_pair(number);
        }
        (organization, directory)
    }

    /// Takes notice of a directory that another kind of event names.
    fn name_directory(&mut self, id: &str, place: Place, organization: Option<&str>) -> Name {
        let organization = self.text(organization);
        let directory = self.directories.name(id, place, organization, &self.ids);
        self.associate(organization, directory);
        directory
    }

    /// Remembers that something in the directory carried the organization.
    fn associate(&mut self, organization: Name, directory: Name) {
        if organization != NO_NAME && directory != NO_NAME {
            self.organizations.insert((organization, directory));
        }
    }

    fn user_version(
        &mut self,
        place: Place,
        part: Part,
        directory: Name,
        data: &UserData<'_>,
    ) -> Version {
        Version {
            place,
            directory,
            organization: self.text(data.organization),
            email: self.emails.intern(data.email),
            idp_id: self.idp_ids.intern(data.idp_id),
            label: self.texts.intern(data.roles),
            part,
            active: data.active,
            deleted: place.closing,
            directory_is_events: data.directory.is_none(),
        }
    }

    fn group_version(
        &mut self,
        place: Place,
        part: Part,
        directory: Name,
        data: &GroupData<'_>,
    ) -> Version {
        Version {
            place,
            directory,
            organization: self.text(data.organization),
            email: NO_NAME,
            idp_id: NO_NAME,
            label: self.groups_named(data.name),
            part,
            active: true,
            deleted: place.closing,
            directory_is_events: data.directory.is_none(),
        }
    }

    /// A group's name, known to every mapping from now on.
    fn groups_named(&mut self, text: &str) -> Name {
        let name = self.texts.intern(text);
        self.roles.name_group(name, text);
        name
    }

    fn hold_prints(&mut self, user: Name, version: Version) {
        self.emails.hold(version.email, user);
        self.idp_ids.hold(version.idp_id, user);
    }

    pub(crate) fn entity(&self, kind: Kind, name: Name) -> Option<&Entity> {
        self.entities(kind).get(name)
    }

    /// The number of a user's or group's id, if it was ever heard of.
    pub(crate) fn named(&self, kind: Kind, id: &str) -> Option<Name> {
        self.entities(kind).names.find(id)
    }

    pub(crate) fn entities(&self, kind: Kind) -> &Entities {
        match kind {
            Kind::User => &self.users,
            Kind::Group => &self.groups,
        }
    }

    /// The entities to change, with the event ids beside them.
    fn entities_mut(&mut self, kind: Kind) -> (&mut Entities, &EventIds) {
        match kind {
            Kind::User => (&mut self.users, &self.ids),
            Kind::Group => (&mut self.groups, &self.ids),
        }
    }

    /// Folds a creation, update or deletion.
    fn announce(&mut self, kind: Kind, id: &str, version: Version) -> Name {
        self.add_version(kind, id, version, |entity, ids| {
            if version.deleted {
                entity.tombstones.insert(version.place, ids);
            }
            entity.explicit.insert(version, ids);
        })
    }

    /// Folds the snapshot in a membership event. One that an explicit event makes invisible for
    /// ever is not kept.
    fn stand_in(&mut self, kind: Kind, id: &str, version: Version) -> Name {
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
        kind: Kind,
        id: &str,
        version: Version,
        insert: impl FnOnce(&mut Entity, &EventIds),
    ) -> Name {
        let Place { occurred_at, seq, .. } = version.place;
        let name = self.entities_mut(kind).0.intern(id);
        // An entity that was there to the end, and goes on in the same directory, changes no index.
        let before = self.exists(kind, name, Cut::LATEST);
        let goes_on = |before: &Version| {
            before.directory == version.directory && self.ids.is_later(version.place, before.place)
        };
        let steady = !version.deleted && before.is_some_and(goes_on);
        let (entities, ids) = self.entities_mut(kind);
        if let Some(entity) = entities.get_mut(name) {
            insert(entity, ids);
            entity.seen.note(version.place, ids);
        }
        let was_in = entities.get(name).map_or(0, |entity| entity.listed_in.len());
        if version.directory != NO_NAME && !steady {
            entities.see(name, version.directory, occurred_at, seq);
        }
        if let (Kind::User, Some(entity)) = (kind, self.users.get(name)) {
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
    fn refresh(&mut self, kind: Kind, name: Name) {
        let gone = match self.exists(kind, name, Cut::LATEST) {
            Some(_) => None,
            None => {
                Some(Gone { occurred_at: self.last_occurred(kind, name), seq: seq32(self.head) })
            }
        };
        self.entities_mut(kind).0.set_gone(name, gone);
        if let Kind::User = kind {
            for number in self.memberships.of_user(name).to_vec() {
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
            let occurred_at = said.max(directory).max(self.last_occurred(Kind::User, pair.user));
            Some(Gone { occurred_at, seq: seq32(self.head) })
        };
        self.memberships.set_gone(number, gone, &self.users.names);
    }

    /// The time after which nothing more is known that could change whether the entity is alive.
    fn last_occurred(&self, kind: Kind, name: Name) -> Millis {
        let Some(entity) = self.entities(kind).get(name) else { return Millis::MIN };
        let directories =
            entity.listed_in.iter().map(|directory| self.directory_last_occurred(*directory));
        directories.fold(entity.last_occurred(), Millis::max)
    }

    fn directory_last_occurred(&self, directory: Name) -> Millis {
        let newest =
            self.directories.get(directory).and_then(|directory| directory.events.newest());
        newest.map_or(Millis::MIN, |version| version.place.occurred_at)
    }
}

/// Judging, from timelines alone.
impl Views {
    /// The entity's version at the cut, if it is alive.
    pub(crate) fn alive(&self, kind: Kind, name: Name, cut: Cut) -> Option<&Version> {
        let version = self.exists(kind, name, cut)?;
        let reads_as_deleted = |policy: &Policy| policy.inactive_users == InactiveUsers::Delete;
        if matches!(kind, Kind::User)
            && !version.active
            && self.policies.in_force(cut).is_some_and(reads_as_deleted)
        {
            return None;
        }
        Some(version)
    }

    /// The entity's version at the cut, if it is alive whatever the policy says. Indexes are kept
    /// by this: a policy may be set for the past at any time, and must not touch every user.
    fn exists(&self, kind: Kind, name: Name, cut: Cut) -> Option<&Version> {
        let version = self.entities(kind).get(name)?.version(cut)?;
        if version.deleted {
            return None;
        }
        (!self.ended(version, cut)).then_some(version)
    }

    /// Whether a version's directory is deleted, or was after it.
    pub(crate) fn ended(&self, version: &Version, cut: Cut) -> bool {
        self.directories
            .get(version.directory)
            .is_some_and(|directory| self.ended_by(directory, version, cut))
    }

    /// Whether a directory is deleted, or was after a version.
    pub(crate) fn ended_by(&self, directory: &Directory, version: &Version, cut: Cut) -> bool {
        directory.is_deleted(cut)
            || directory
                .deletions
                .latest(cut)
                .is_some_and(|deletion| !self.ids.is_later(version.place, *deletion))
    }

    /// Whether the membership holds as far as its own events, its directory and its user decide.
    fn user_end_holds(&self, pair: &Pair, cut: Cut) -> bool {
        self.outlasts_ends(pair, cut, None) && self.exists(Kind::User, pair.user, cut).is_some()
    }

    /// Whether the membership holds, its user and its group being alive: whoever asks has seen to
    /// that once.
    pub(crate) fn holds_between_living(&self, pair: &Pair, cut: Cut) -> bool {
        self.outlasts_ends(
            pair,
            cut,
            self.groups.get(pair.group).and_then(|group| group.tombstones.latest(cut)),
        )
    }

    /// Whether the pair's last word is an addition, later than every end of its user and its
    /// directory, and than `end`.
    fn outlasts_ends(&self, pair: &Pair, cut: Cut, end: Option<&Place>) -> bool {
        let Some(grant) = pair.grants.latest(cut).filter(|grant| grant.added()) else {
            return false;
        };
        let user = self.users.get(pair.user).and_then(|user| user.tombstones.latest(cut));
        let directory = self
            .directories
            .get(grant.directory())
            .and_then(|directory| directory.deletions.latest(cut));
        let place = grant.place();
        [user, directory, end].into_iter().flatten().all(|end| self.ids.is_later(place, *end))
    }

    /// The organization that a version shows: its own, else its directory's.
    pub(crate) fn shown_organization(&self, version: &Version, cut: Cut) -> Name {
        if version.organization != NO_NAME {
            return version.organization;
        }
        self.organization_of(version.directory, cut)
    }

    pub(crate) fn organization_of(&self, directory: Name, cut: Cut) -> Name {
        self.directories.get(directory).map_or(NO_NAME, |directory| directory.organization(cut))
    }

    /// The directory of an entity's latest version that has one.
    pub(crate) fn last_directory(&self, kind: Kind, name: Name, cut: Cut) -> Name {
        let mut versions = self
            .entities(kind)
            .get(name)
            .into_iter()
            .flat_map(|entity| entity.explicit.latest_first(cut));
        versions
            .find(|version| version.directory != NO_NAME)
            .map_or(NO_NAME, |version| version.directory)
    }

    /// The directory that an event belongs to: a deletion may leave out its own.
    fn directory_of_event(&self, kind: Kind, name: Name, version: Version) -> Name {
        let Place { occurred_at, seq, .. } = version.place;
        let then = Cut { as_of: occurred_at, known_at: Seq::from(seq) };
        if version.directory == NO_NAME {
            self.last_directory(kind, name, then)
        } else {
            version.directory
        }
    }
}

/// Answering.
impl Views {
    /// The directory, if it exists at the cut. O(log n).
    pub fn directory(&self, id: &str, cut: Cut) -> Option<DirectoryRow> {
        self.directory_row(self.directories.names.find(id)?, cut)
    }

    /// The user with its groups, if alive at the cut. O(log n) for it and for each group it was
    /// ever in.
    pub fn user(&self, id: &str, cut: Cut) -> Option<UserRow> {
        let name = self.users.names.find(id)?;
        Some(self.user_row(name, self.alive(Kind::User, name, cut)?, cut))
    }

    /// The group, if alive at the cut, with its members if they are asked for.
    pub fn group(&self, id: &str, members: bool, cut: Cut) -> Option<GroupRow> {
        let name = self.groups.names.find(id)?;
        Some(self.group_row(name, self.alive(Kind::Group, name, cut)?, members, cut))
    }

    /// A page of directories.
    pub fn directories(
        &self,
        filter: &DirectoryFilter<'_>,
        cut: Cut,
        window: Window<'_>,
    ) -> Page<DirectoryRow> {
        let names = &self.directories.names;
        let search = filter.search.map(str::to_lowercase);
        let accept = |name: u32| {
            let row = self.directory_row(name, cut)?;
            let shown = match self.directories.get(name)?.state(cut) {
                DirectoryState::Live(version) => {
                    (self.texts.text(version.name), self.texts.text(version.domain))
                }
                _ => ("", ""),
            };
            let fits =
                filter.organization.is_none_or(|organization| row.organization == organization)
                    && filter.domain.is_none_or(|domain| shown.1 == domain)
                    && search
                        .as_ref()
                        .is_none_or(|text| shown.0.to_lowercase().contains(text.as_str()));
            fits.then_some(row)
        };
        let walk = |start: Option<&str>, descending| {
            walk(&self.directories.roster, cut, start, descending, |item| names.text(item))
        };
        page(window, walk, accept, |row: &DirectoryRow| &row.id)
    }

    /// A page of users, each with its groups.
    ///
    /// Costs the page, plus the candidates that the narrowest index proposes in vain.
    pub fn users(&self, filter: &UserFilter<'_>, cut: Cut, window: Window<'_>) -> Page<UserRow> {
        self.users_found(filter, cut, window).unwrap_or_else(Page::empty)
    }

    fn users_found(
        &self,
        filter: &UserFilter<'_>,
        cut: Cut,
        window: Window<'_>,
    ) -> Option<Page<UserRow>> {
        let directory = find(filter.directory, |id| self.directories.names.find(id))?;
        let group = find(filter.group, |id| self.groups.names.find(id))?;
        let organization = find(filter.organization, |id| self.texts.find(id))?;
        let email = find(filter.email, |print| self.emails.find(print))?;
        let idp_id = find(filter.idp_id, |print| self.idp_ids.find(print))?;
        if let Some(group) = group {
            self.alive(Kind::Group, group, cut)?;
        }
        let fits = |version: &Version| {
            directory.is_none_or(|directory| version.directory == directory)
                && email.is_none_or(|email| version.email == email)
                && idp_id.is_none_or(|idp_id| version.idp_id == idp_id)
                && filter.active.is_none_or(|active| version.active == active)
                && organization.is_none_or(|organization| {
                    self.shown_organization(version, cut) == organization
                })
        };
        let has_role = |name: Name, version: &Version| {
            filter.role.is_none_or(|role| self.has_role(role, name, version, cut))
        };
        let accept = |name: Name| {
            let version = self.alive(Kind::User, name, cut)?;
            (fits(version) && has_role(name, version)).then(|| self.user_row(name, version, cut))
        };
        let is_member = |name: Name| {
            let pair = group.map(|group| self.memberships.find(name, group));
            pair.is_none_or(|pair| pair.is_some_and(|pair| self.holds_between_living(pair, cut)))
        };
        let ids = |item: u32| self.users.names.text(item);
        let print = email
            .map(|email| (&self.emails, email))
            .or(idp_id.map(|idp_id| (&self.idp_ids, idp_id)));
        let found = if let Some((prints, number)) = print {
            let mut holders: Vec<Name> = prints.holders(number).collect();
            holders.sort_by(|a, b| ids(*a).cmp(ids(*b)));
            page(
                window,
                |start, descending| {
                    walk_sorted(&holders, start, descending, ids).filter(|name| is_member(*name))
                },
                accept,
                user_id,
            )
        } else if let Some(group) = group {
            page(
                window,
                |start, descending| self.members_walk(vec![group], cut, start, descending),
                accept,
                user_id,
            )
        } else {
            let by_role = filter.role.zip(self.roles.in_force(cut));
            let by_role = find(by_role, |(role, mapping)| Some((mapping, mapping.rank(role)?)))?;
            let walk = |start: Option<&str>, descending| match by_role {
                Some((mapping, rank)) => {
                    self.role_walk(mapping, rank, directory, organization, cut, start, descending)
                }
                None => self.users_walk(directory, organization, cut, start, descending),
            };
            page(window, walk, accept, user_id)
        };
        Some(found)
    }

    /// Users who may be in a directory, in an organization's directories, or in any, in order of
    /// id.
    pub(crate) fn users_walk(
        &self,
        directory: Option<Name>,
        organization: Option<Name>,
        cut: Cut,
        start: Option<&str>,
        descending: bool,
    ) -> Walk<'_> {
        let rosters = match (directory, organization) {
            (None, None) => self.users.rosters().collect(),
            _ => self.rosters(Kind::User, directory, organization),
        };
        walk_merged(&rosters, cut, start, descending, |user| self.users.names.text(user))
    }

    /// Users who are members of some groups, as far as that does not hang on themselves, in order
    /// of id. The groups must be alive.
    pub(crate) fn members_walk(
        &self,
        groups: Vec<Name>,
        cut: Cut,
        start: Option<&str>,
        descending: bool,
    ) -> Walk<'_> {
        let members = |group: Name| -> Option<Walk<'_>> {
            let roster = self.memberships.of_group(group)?;
            let pairs = walk(roster, cut, start, descending, |pair| {
                self.memberships.user_id(&self.users.names, pair)
            });
            let holds = move |pair: &&Pair| self.holds_between_living(pair, cut);
            Some(Box::new(pairs.filter_map(move |number| {
                self.memberships.get(number).filter(holds).map(|pair| pair.user)
            })))
        };
        self.merged(groups.into_iter().filter_map(members).collect(), descending)
    }

    /// Several walks over users in order of id as one, each user once.
    pub(crate) fn merged<'a>(&'a self, walks: Vec<Walk<'a>>, descending: bool) -> Walk<'a> {
        merge(walks, descending, |user| self.users.names.text(user))
    }

    /// A page of groups.
    pub fn groups(
        &self,
        filter: &GroupFilter<'_>,
        members: bool,
        cut: Cut,
        window: Window<'_>,
    ) -> Page<GroupRow> {
        self.groups_found(filter, members, cut, window).unwrap_or_else(Page::empty)
    }

    fn groups_found(
        &self,
        filter: &GroupFilter<'_>,
        members: bool,
        cut: Cut,
        window: Window<'_>,
    ) -> Option<Page<GroupRow>> {
        let directory = find(filter.directory, |id| self.directories.names.find(id))?;
        let user = find(filter.user, |id| self.users.names.find(id))?;
        let organization = find(filter.organization, |id| self.texts.find(id))?;
        if let Some(user) = user {
            self.alive(Kind::User, user, cut)?;
        }
        let accept = |name: Name| {
            let version = self.alive(Kind::Group, name, cut)?;
            let fits = directory.is_none_or(|directory| version.directory == directory)
                && organization.is_none_or(|organization| {
                    self.shown_organization(version, cut) == organization
                })
                && user.is_none_or(|user| {
                    self.memberships
                        .find(user, name)
                        .is_some_and(|pair| self.holds_between_living(pair, cut))
                });
            fits.then(|| self.group_row(name, version, members, cut))
        };
        let ids = |item: u32| self.groups.names.text(item);
        Some(if let Some(user) = user {
            let of_user: Vec<Name> = self
                .memberships
                .of_user(user)
                .iter()
                .filter_map(|number| Some(self.memberships.get(*number)?.group))
                .collect();
            page(
                window,
                |start, descending| walk_sorted(&of_user, start, descending, ids),
                accept,
                group_id,
            )
        } else {
            let rosters = self.rosters(Kind::Group, directory, organization);
            page(
                window,
                |start, descending| walk_merged(&rosters, cut, start, descending, ids),
                accept,
                group_id,
            )
        })
    }

    /// The rosters in which everything of a directory, or of an organization's directories, is
    /// listed.
    fn rosters(
        &self,
        kind: Kind,
        directory: Option<Name>,
        organization: Option<Name>,
    ) -> Vec<&Roster> {
        let roster = |directory| self.entities(kind).roster(directory);
        match (directory, organization) {
            (Some(directory), _) => roster(directory).into_iter().collect(),
            (None, Some(organization)) => {
                let directories =
                    self.organizations.range((organization, 0)..=(organization, Name::MAX));
                directories.filter_map(|(_, directory)| roster(*directory)).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    /// The policy in force; `None` before the first.
    pub fn policy(&self, cut: Cut) -> Option<Policy> {
        self.policies.in_force(cut).copied()
    }

    /// The policy that a record set.
    pub fn policy_set_by(&self, seq: Seq) -> Option<Policy> {
        self.policies.set_by(seq).copied()
    }

    /// Whether anything known ever named a directory.
    pub fn knows_directory(&self, id: &str) -> bool {
        self.directories.names.find(id).is_some()
    }

    /// When the latest of a directory's own events occurred.
    pub fn directory_said_at(&self, id: &str) -> Option<Millis> {
        self.directories
            .get(self.directories.names.find(id)?)?
            .events
            .newest()
            .map(|version| version.place.occurred_at)
    }

    /// When the last record was recorded.
    pub fn recorded_at(&self) -> Millis {
        self.recorded.last().map_or(Millis::MIN, |(recorded_at, _)| *recorded_at)
    }

    /// A page of events, in ascending order of seq.
    ///
    /// Costs the page, plus the events of the rarest index that the filter refuses in vain.
    pub fn events(
        &self,
        filter: &EventFilter<'_>,
        cut: Cut,
        start: Start,
        limit: usize,
    ) -> Page<EventRow> {
        match find(filter.organization, |id| self.texts.find(id)) {
            Some(organization) => self.events.page(filter, organization, cut, start, limit),
            None => Page::empty(),
        }
    }

    /// What came in for a directory; `None` if nothing did.
    pub fn intake(&self, directory: &str) -> Option<Intake> {
        self.events.intake(self.directories.names.find(directory)?).copied()
    }

    /// A directory's organization; empty while unknown.
    pub fn organization(&self, directory: &str, cut: Cut) -> &str {
        self.directories
            .names
            .find(directory)
            .map_or("", |name| self.texts.text(self.organization_of(name, cut)))
    }

    /// The smallest `occurred_at` of what names a directory.
    pub fn directory_named_at(&self, id: &str, cut: Cut) -> Option<Millis> {
        Some(self.directories.get(self.directories.names.find(id)?)?.named.at(cut)?.occurred_at)
    }

    /// The smallest `occurred_at` of what speaks of a user.
    pub fn user_seen_at(&self, id: &str, cut: Cut) -> Option<Millis> {
        self.seen_at(Kind::User, id, cut)
    }

    /// The smallest `occurred_at` of what speaks of a group.
    pub fn group_seen_at(&self, id: &str, cut: Cut) -> Option<Millis> {
        self.seen_at(Kind::Group, id, cut)
    }

    /// The directory that the latest event with one gave a user; empty where none did.
    pub fn user_directory(&self, id: &str, cut: Cut) -> &str {
        self.directory_given(Kind::User, id, cut)
    }

    /// The directory that the latest event with one gave a group; empty where none did.
    pub fn group_directory(&self, id: &str, cut: Cut) -> &str {
        self.directory_given(Kind::Group, id, cut)
    }

    fn seen_at(&self, kind: Kind, id: &str, cut: Cut) -> Option<Millis> {
        let entities = self.entities(kind);
        Some(entities.get(entities.names.find(id)?)?.seen.at(cut)?.occurred_at)
    }

    fn directory_given(&self, kind: Kind, id: &str, cut: Cut) -> &str {
        let found = self.entities(kind).names.find(id);
        found.map_or("", |name| self.directories.names.text(self.last_directory(kind, name, cut)))
    }

    /// When record `first` and each one after it was recorded.
    pub(crate) fn recorded_from(&self, first: Seq) -> impl Iterator<Item = (Millis, Seq)> {
        let run = self.recorded.partition_point(|(_, last)| *last < first);
        let mut next = first.max(1);
        self.recorded.iter().skip(run).flat_map(move |(recorded_at, last)| {
            let seqs = next..=*last;
            next = *last + 1;
            seqs.map(|seq| (*recorded_at, seq))
        })
    }

    /// Counts what is alive in a directory, in order of id.
    pub(crate) fn count(
        &self,
        kind: Kind,
        directory: &str,
        cut: Cut,
        after: Option<&str>,
        limit: usize,
    ) -> Counted {
        let mut counted = Counted::default();
        let Some(directory) = self.directories.names.find(directory) else { return counted };
        let entities = self.entities(kind);
        let Some(roster) = entities.roster(directory) else { return counted };
        for (looked_at, name) in
            walk(roster, cut, after, false, |item| entities.names.text(item)).enumerate()
        {
            match self.alive(kind, name, cut).filter(|version| version.directory == directory) {
                Some(version) if version.active => counted.active += 1,
                Some(_) => counted.inactive += 1,
                None => {}
            }
            if looked_at + 1 >= limit {
                counted.next = Some(entities.names.text(name).to_owned());
                break;
            }
        }
        counted
    }

    fn directory_row(&self, name: Name, cut: Cut) -> Option<DirectoryRow> {
        let directory = self.directories.get(name)?;
        let created_at = directory.named.at(cut)?.occurred_at;
        let (version, active, updated_at, shown) = match directory.state(cut) {
            DirectoryState::Absent => return None,
            DirectoryState::Stub => (None, true, created_at, NO_NAME),
            DirectoryState::Live(DirectoryVersion { place, change, name, .. }) => (
                Some(Seq::from(place.seq)),
                change == DirectoryChange::Activated,
                place.occurred_at,
                name,
            ),
        };
        let [organization, shown] =
            [directory.organization(cut), shown].map(|text| self.texts.text(text).to_owned());
        let id = self.directories.names.text(name).to_owned();
        Some(DirectoryRow {
            id,
            version,
            active,
            organization,
            name: shown,
            created_at,
            updated_at,
        })
    }

    fn user_row(&self, name: Name, version: &Version, cut: Cut) -> UserRow {
        let groups = self.groups_of(name, cut);
        let rows = groups
            .iter()
            .take(NESTED_MAX)
            .map(|(group, version)| self.row(Kind::Group, *group, version, cut));
        let roles = self.roles_of(&groups, version, cut);
        UserRow {
            groups: rows.collect(),
            user: Row { roles, ..self.row(Kind::User, name, version, cut) },
        }
    }

    fn group_row(&self, name: Name, version: &Version, members: bool, cut: Cut) -> GroupRow {
        let members = members.then(|| {
            let Some(roster) = self.memberships.of_group(name) else { return Vec::new() };
            let rows =
                roster.ascending(cut, &|_| core::cmp::Ordering::Greater).filter_map(|number| {
                    let pair = self.memberships.get(number)?;
                    let user = self.alive(Kind::User, pair.user, cut)?;
                    self.holds_between_living(pair, cut).then(|| {
                        let groups = self.groups_of(pair.user, cut);
                        Row {
                            roles: self.roles_of(&groups, user, cut),
                            ..self.row(Kind::User, pair.user, user, cut)
                        }
                    })
                });
            rows.take(NESTED_MAX).collect()
        });
        GroupRow { group: self.row(Kind::Group, name, version, cut), members }
    }

    fn row(&self, kind: Kind, name: Name, version: &Version, cut: Cut) -> Row {
        let entities = self.entities(kind);
        let seen = entities.get(name).and_then(|entity| entity.seen.at(cut));
        let directory = version
            .directory_is_events
            .then(|| self.directories.names.text(version.directory).to_owned());
        let organization = (version.organization == NO_NAME)
            .then(|| self.texts.text(self.shown_organization(version, cut)).to_owned());
        Row {
            id: entities.names.text(name).to_owned(),
            seq: Seq::from(version.place.seq),
            part: version.part,
            occurred_at: version.place.occurred_at,
            created_at: seen.map_or(version.place.occurred_at, |place| place.occurred_at),
            directory,
            organization,
            roles: None,
        }
    }
}

fn user_id(row: &UserRow) -> &str {
    &row.user.id
}

fn group_id(row: &GroupRow) -> &str {
    &row.group.id
}

/// Resolves what a filter names. `None`: it names something never heard of, so nothing fits.
/// `Some(None)`: it names nothing.
pub(crate) fn find<T, N>(
    named: Option<T>,
    lookup: impl FnOnce(T) -> Option<N>,
) -> Option<Option<N>> {
    match named {
        None => Some(None),
        Some(named) => lookup(named).map(Some),
    }
}
