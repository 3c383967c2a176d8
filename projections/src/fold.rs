//! Folding: how each entry changes the views. Nothing else writes to them.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::ground::event_type::{EventSubject, EventType, OWN_PREFIX};
use crate::ground::fact::{
    Change, Deactivation, DirectoryChange, Entry, Fact, GroupData, MembershipData, Provenance,
    RecordStatus, UserData,
};
use crate::ground::order::{Cut, EventIds, Millis, NO_UPDATED_AT, Place, Seq, Seq32, seq32};
use crate::ground::quarantine::{Quarantined, Reason};
use crate::ground::roster::Gone;
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::timeline::Placed;
use crate::state::attributes::Attributes;
use crate::state::directories::DirectoryVersion;
use crate::state::entities::{Entities, Entity, EntityKind, EntityVersion, Part};
use crate::state::events::EventLine;
use crate::state::links::NewLink;
use crate::state::living::LivingAs;
use crate::state::memberships::Grant;
use crate::state::observations::Run;
use crate::state::scim::ScimPlace;
use crate::views::Views;

/// The organization and the directory under which an event is listed.
struct Listing {
    /// The one that the event itself carries; [`NO_SYM`] if none.
    organization: Sym,
    /// [`NO_SYM`] if the event belongs to none.
    directory: Sym,
    told: Told,
}

/// The directories and organizations of which an event tells, by its text or its effect.
#[derive(Default)]
struct Told {
    /// Those that it names, and those in which its user or group was before it and is after it.
    directories: SmallVec<[Sym; 8]>,
    /// Those that it carries, and that of its directory before it.
    organizations: SmallVec<[Sym; 4]>,
}

impl Listing {
    fn of(organization: Sym, directory: Sym) -> Listing {
        Listing { organization, directory, told: Told::default() }
    }

    fn nowhere() -> Listing {
        Listing::of(NO_SYM, NO_SYM)
    }
}

impl Views {
    /// Folds the next record. Entries come in order of seq, without gaps: the log's reader sees to
    /// it.
    ///
    /// Costs O(log n) for what comes in order, and moves the later versions of the same thing for
    /// what comes late. A directory's deletion, or what brings it back, also visits everything that
    /// was ever in the directory.
    pub fn apply(&mut self, entry: &Entry<'_>) {
        self.head = entry.seq;
        self.recorded.note(entry.recorded_at, entry.seq);
        match self.fold(entry) {
            Some(listing) => {
                self.note_scim_event(entry, listing.directory);
                self.list_event(entry, listing);
                self.remark_on(entry);
            }
            None => self.events.skip(entry.occurred_at),
        }
        let turns = self.may_turn(entry);
        self.turning.push(turns);
    }

    /// Notes the attributes that one snapshot of a user has, for the mappings set.
    pub fn note_attributes(&mut self, seq: Seq, part: Part, user: &str, keys: &[u32]) {
        if let Some(user) = self.users.find(user) {
            self.roles.note_attributes(seq, part, user, keys);
        }
    }

    /// Replaces the attributes noted so far. The new ones must ask for at least as much and know as
    /// many records.
    pub fn install_attributes(&mut self, attributes: Attributes) {
        self.roles.install_attributes(attributes);
    }

    /// Folds an entry into the timelines. Returns `None` if the event does not count.
    fn fold(&mut self, entry: &Entry<'_>) -> Option<Listing> {
        let without_effect = match entry.status {
            RecordStatus::Counts => None,
            RecordStatus::Conflict { first } => Some(Reason::Conflict { first }),
            RecordStatus::Repeat { of } => Some(Reason::Repeated { of }),
        };
        if let Some(reason) = without_effect {
            self.list_in_quarantine(entry.seq, reason);
            return None;
        }
        if entry.provenance == Provenance::Source && self.names_hosted(&entry.fact) {
            self.list_in_quarantine(entry.seq, Reason::ForeignDirectory);
            return None;
        }
        match &entry.fact {
            Fact::Unusable(reason) => {
                self.list_in_quarantine(entry.seq, *reason);
                None
            }
            Fact::Link { user, directory, app_user } => {
                Some(self.fold_link(entry, user, directory, *app_user))
            }
            Fact::HostedDirectory { .. }
            | Fact::DirectoryToken { .. }
            | Fact::ScimRequest(_)
            | Fact::ScimMembers { .. } => self.fold_scim(entry),
            Fact::Unrelated { organization } => {
                Some(Listing::of(self.organization_sym(*organization), NO_SYM))
            }
            Fact::Policy { inactive_users, effective_from } => {
                self.ids.push(seq32(entry.seq), entry.event_id);
                self.policies.set(entry.seq, entry.recorded_at, *effective_from, *inactive_users);
                Some(Listing::nowhere())
            }
            Fact::Mapping { mapping, effective_from } => {
                self.ids.push(seq32(entry.seq), entry.event_id);
                let (mapping, set_at) = (mapping.clone(), entry.recorded_at);
                self.roles.set(mapping, entry.seq, set_at, *effective_from);
                Some(Listing::nowhere())
            }
            Fact::Directory { change, id, organization, name, domain } => {
                let version = DirectoryVersion {
                    place: self.enter(entry, *change != DirectoryChange::Activated),
                    change: *change,
                    organization: self.organization_sym(*organization),
                    name: self.texts.intern(name),
                    domain: self.text(*domain),
                    part: part_of(entry),
                };
                if entry.event_type == EventType::OperatorDirectoryDeleted.name() {
                    self.scim.delete_directory(scim_place(entry), id);
                }
                Some(self.fold_directory(id, version))
            }
            Fact::User(change, data) => {
                let place = self.enter(entry, *change == Change::Deleted);
                Some(self.fold_user(place, part_of(entry), data))
            }
            Fact::Group(change, data) => {
                let place = self.enter(entry, *change == Change::Deleted);
                Some(self.fold_group(place, part_of(entry), data))
            }
            Fact::Membership(data) => {
                let place = self.enter(entry, !data.added);
                Some(self.fold_membership(place, data))
            }
            Fact::ObservedMembership { present, directory, user, group } => {
                let place = self.enter(entry, !present);
                Some(self.fold_observed_membership(place, directory, user, group))
            }
            Fact::Reconciled { started_at, clean } => {
                Some(self.fold_reconciliation(entry, *started_at, clean))
            }
        }
    }

    /// Folds what an operator or an identity provider says of a directory of SCIM.
    fn fold_scim(&mut self, entry: &Entry<'_>) -> Option<Listing> {
        let place = scim_place(entry);
        match &entry.fact {
            Fact::HostedDirectory { id, organization, deactivation } => {
                Some(self.fold_hosted_directory(entry, id, *organization, *deactivation))
            }
            Fact::DirectoryToken { directory, id, created } => {
                self.ids.push(seq32(entry.seq), entry.event_id);
                self.scim.set_token(place, directory, id, created.as_ref());
                Some(self.listing_in_scim(directory, None))
            }
            Fact::ScimRequest(data) => {
                self.ids.push(seq32(entry.seq), entry.event_id);
                self.scim.apply_request(place, data);
                Some(self.listing_in_scim(data.directory, data.organization))
            }
            Fact::ScimMembers { directory, group, added, removed } => {
                self.ids.push(seq32(entry.seq), entry.event_id);
                self.scim.change_members(place, *group, added, removed);
                Some(self.listing_in_scim(directory, None))
            }
            _ => None,
        }
    }

    /// Tells if a statement names a directory that only identity providers write into, or a user or
    /// group that is or was last in one.
    fn names_hosted(&self, fact: &Fact<'_>) -> bool {
        let is_hosted = |directory: &str| self.scim.directory(directory).is_some();
        self.scim.is_used() && self.names_directory(fact, Cut::LATEST, &is_hosted)
    }

    /// Returns whether the fact of record `seq`, which a source sent, is about a directory, or about a
    /// user or group that was in it, or last in it, by what was known before that record.
    pub fn is_about_directory(&self, fact: &Fact<'_>, seq: Seq, directory: &str) -> bool {
        let before = Cut { known_at: seq.saturating_sub(1), ..Cut::LATEST };
        self.names_directory(fact, before, &|named| named == directory)
    }

    /// Returns whether a fact of a source is about one of some directories, or about a user or group
    /// that is or was last in one by what is known at a cut.
    fn names_directory(&self, fact: &Fact<'_>, cut: Cut, is_one: &dyn Fn(&str) -> bool) -> bool {
        let hosts = |directory: Option<&str>| directory.is_some_and(is_one);
        let is_in = |kind: EntityKind, id: &str| {
            let home = self.find(kind, id).and_then(|sym| self.home(kind, sym, cut));
            home.is_some_and(|home| hosts(Some(self.directories.id(home))))
        };
        let (user, group) = (EntityKind::User, EntityKind::Group);
        match fact {
            Fact::Directory { id, .. } => hosts(Some(id)),
            Fact::User(_, data) => hosts(data.directory) || is_in(user, data.id),
            Fact::Group(_, data) => hosts(data.directory) || is_in(group, data.id),
            Fact::Membership(data) => {
                let directories = [Some(data.directory), data.user.directory, data.group.directory];
                directories.into_iter().any(hosts)
                    || is_in(user, data.user.id)
                    || is_in(group, data.group.id)
            }
            Fact::ObservedMembership { directory, user: user_id, group: group_id, .. } => {
                hosts(Some(directory)) || is_in(user, user_id) || is_in(group, group_id)
            }
            Fact::HostedDirectory { .. }
            | Fact::DirectoryToken { .. }
            | Fact::ScimRequest(_)
            | Fact::ScimMembers { .. }
            | Fact::Reconciled { .. }
            | Fact::Link { .. }
            | Fact::Unrelated { .. }
            | Fact::Unusable(_)
            | Fact::Policy { .. }
            | Fact::Mapping { .. } => false,
        }
    }

    /// Folds the creation of a directory that identity providers push into.
    fn fold_hosted_directory(
        &mut self,
        entry: &Entry<'_>,
        id: &str,
        organization: Option<&str>,
        deactivation: Deactivation,
    ) -> Listing {
        let place = self.enter(entry, false);
        self.scim.create_directory(scim_place(entry), id, deactivation);
        let directory = self.intern_directory(id, place, organization);
        let organization = self.organization_sym(organization);
        Listing::of(organization, directory)
    }

    /// Returns the listing of a record of SCIM in a directory.
    fn listing_in_scim(&mut self, directory: &str, organization: Option<&str>) -> Listing {
        let organization = self.organization_sym(organization);
        Listing::of(organization, self.directories.find(directory).unwrap_or(NO_SYM))
    }

    /// Notes a directory-sync event that an identity provider caused.
    fn note_scim_event(&mut self, entry: &Entry<'_>, directory: Sym) {
        let is_own = entry.event_type.starts_with(OWN_PREFIX);
        if entry.provenance == Provenance::Scim && !is_own && directory != NO_SYM {
            let parsed = EventType::parse(entry.event_type);
            let is_membership = parsed.is_some_and(|one| one.subject() == EventSubject::Membership);
            let directory = self.directories.id(directory);
            self.scim.note_event(scim_place(entry), directory, is_membership);
        }
    }

    /// Folds the end of a comparison with the source, which found nothing in doubt in the
    /// directories `clean`.
    fn fold_reconciliation(
        &mut self,
        entry: &Entry<'_>,
        started_at: Millis,
        clean: &[Cow<'_, str>],
    ) -> Listing {
        let (occurred_at, seq) = (entry.occurred_at, seq32(entry.seq));
        self.ids.push(seq, entry.event_id);
        let clean = clean.iter().filter_map(|id| self.directories.find(id));
        self.observations.note_run(Run { started_at, occurred_at, seq }, clean);
        Listing::nowhere()
    }

    /// Folds the setting or the removal of a link, which is listed in the user's directory.
    fn fold_link(
        &mut self,
        entry: &Entry<'_>,
        user: &str,
        directory: &str,
        app_user: Option<&str>,
    ) -> Listing {
        let seq = seq32(entry.seq);
        self.ids.push(seq, entry.event_id);
        match app_user {
            Some(app_user) => {
                let link = NewLink { app_user, user, directory };
                let contradicting = self.contradicting(link);
                self.links.set(seq, entry.recorded_at, link, &contradicting);
                let known = self.users.find(user).and_then(|user| self.users.get(user));
                let directories = known.into_iter().flat_map(|user| user.listed_in());
                directories.for_each(|directory| self.links.note_directory(user, *directory));
            }
            None => self.links.remove(seq, user),
        }
        Listing::of(NO_SYM, self.directories.find(directory).unwrap_or(NO_SYM))
    }

    /// Returns the other users of a new link's directory to whom its application user is linked.
    /// Each user is in the directory in which it is by all that is known at the present record.
    fn contradicting(&self, link: NewLink<'_>) -> SmallVec<[Sym; 2]> {
        let home = self.last_directory_of_user(link.user).unwrap_or(link.directory);
        let lasting = self.links.of_app_user(link.app_user, Seq32::MAX);
        let there = lasting.filter(|span| self.directory_of_link(span, Cut::LATEST) == home);
        there.map(|span| span.user).collect()
    }

    /// Enters an event in the order of events, and returns its place there.
    fn enter(&mut self, entry: &Entry<'_>, closing: bool) -> Place {
        let seq = seq32(entry.seq);
        self.ids.push(seq, entry.event_id);
        let place = Place {
            occurred_at: entry.occurred_at,
            updated_at: entry.updated_at.unwrap_or(NO_UPDATED_AT),
            seq,
            closing,
        };
        if let Some(observed_at) = entry.observed_at {
            self.observations.note(place, observed_at);
        }
        place
    }

    /// Adds an event to the list of events. Its organization is fixed by what is known now. One that
    /// could not be used when it was recorded is noted and not listed: a reader who has passed its
    /// place would never find it.
    fn list_event(&mut self, entry: &Entry<'_>, listing: Listing) {
        let Listing { organization, directory, told } = listing;
        let cut = Cut { as_of: entry.occurred_at, known_at: entry.seq };
        let shown = if organization != NO_SYM {
            organization
        } else {
            self.organization_of(directory, cut)
        };
        let own = match entry.unusable_at_first {
            None => self.events.list(entry.event_type, shown, directory, entry.occurred_at),
            Some(reason) => {
                self.resolved.push(Quarantined { seq: entry.seq, reason });
                self.events.note(entry.event_type, shown, directory, entry.occurred_at)
            }
        };
        let others = self.others_told(entry, own, told);
        self.events.note_others(others);
        self.events.count_intake(entry.event_type, entry.occurred_at, entry.recorded_at);
    }

    /// Returns the organizations other than its own of which an event tells; [`NO_SYM`] for one
    /// that is not known. Directories are judged by all that is known at the record: a moment after
    /// the event may be the first that says whose one is.
    fn others_told(&mut self, entry: &Entry<'_>, own: EventLine, told: Told) -> SmallVec<[Sym; 2]> {
        let known = Cut { as_of: Millis::MAX, known_at: entry.seq };
        let named = told.directories.into_iter().filter(|directory| *directory != NO_SYM);
        let former = entry.former_directories.iter();
        let former = former.map(|id| self.directories.find(id).unwrap_or(NO_SYM));
        let by_directory = named
            .chain(former)
            .map(|directory| (directory, self.organization_of(directory, known)))
            .filter(|(directory, one)| {
                *one != NO_SYM || *directory == NO_SYM || *directory != own.directory
            });
        let mut others: SmallVec<[Sym; 2]> = by_directory.map(|(_, one)| one).collect();
        others.extend(told.organizations.into_iter().filter(|one| *one != NO_SYM));
        others.extend(entry.former_organizations.iter().map(|id| self.texts.intern(id)));
        others.retain(|one| *one != own.organization);
        others.sort_unstable();
        others.dedup();
        others
    }

    /// Lists an event that counts, if an administrator should look at it all the same.
    fn remark_on(&mut self, entry: &Entry<'_>) {
        if let Some(claimed_at) = entry.claimed_at {
            self.list_in_quarantine(entry.seq, Reason::ClockAhead { claimed_at });
        }
        if let Some(later) = self.overtaken_by(entry) {
            self.list_in_quarantine(entry.seq, Reason::Overtaken { later });
        }
    }

    fn list_in_quarantine(&mut self, seq: Seq, reason: Reason) {
        self.quarantine.push(Quarantined { seq, reason });
    }

    fn text(&mut self, text: Option<&str>) -> Sym {
        text.map_or(NO_SYM, |text| self.texts.intern(text))
    }

    /// Returns the symbol of an organization that the present record names.
    fn organization_sym(&mut self, id: Option<&str>) -> Sym {
        let organization = self.text(id);
        if organization != NO_SYM {
            self.organizations_named.entry(organization).or_insert(seq32(self.head));
        }
        organization
    }

    fn fold_directory(&mut self, id: &str, version: DirectoryVersion) -> Listing {
        let DirectoryVersion { place, change, organization, .. } = version;
        let decides = version.decides();
        let before = self.directories.find(id);
        let before =
            before.map_or(NO_SYM, |directory| self.organization_of(directory, before_it(place)));
        let directory = self.directories.note_named(id, place, NO_SYM, &self.ids);
        self.associate(organization, directory);
        self.directories.add(directory, version, &self.ids);
        if change != DirectoryChange::Activated {
            self.loss_index.note_directory(directory, place.occurred_at);
        }
        // Only a deletion ends what is in a directory, and only what comes after one can bring
        // anything back.
        if decides && self.was_ever_deleted(directory) {
            self.refresh_listed(EntityKind::User, directory);
            self.refresh_listed(EntityKind::Group, directory);
        }
        let told = Told {
            directories: SmallVec::from_slice(&[directory]),
            organizations: SmallVec::from_slice(&[before]),
        };
        Listing { organization, directory, told }
    }

    fn was_ever_deleted(&self, directory: Sym) -> bool {
        let directory = self.directories.get(directory);
        directory.is_some_and(|directory| directory.deletions().newest().is_some())
    }

    fn fold_user(&mut self, place: Place, part: Part, data: &UserData<'_>) -> Listing {
        let directory = self.intern_own_directory(data.directory, data.organization, place);
        let version = self.user_version(place, part, directory, data);
        let before = self.home_before(EntityKind::User, data.id, place);
        let user = self.add_explicit(EntityKind::User, data.id, version);
        self.hold_fingerprints(user, version);
        self.listing_of(EntityKind::User, user, version, before)
    }

    fn fold_group(&mut self, place: Place, part: Part, data: &GroupData<'_>) -> Listing {
        let directory = self.intern_own_directory(data.directory, data.organization, place);
        let version = self.group_version(place, part, directory, data);
        let before = self.home_before(EntityKind::Group, data.id, place);
        let group = self.add_explicit(EntityKind::Group, data.id, version);
        self.listing_of(EntityKind::Group, group, version, before)
    }

    /// Returns the listing of an event of a user or group itself.
    fn listing_of(
        &self,
        kind: EntityKind,
        sym: Sym,
        version: EntityVersion,
        before: Sym,
    ) -> Listing {
        let directory = self.directory_of_event(kind, sym, version);
        let after = self.home_after(kind, sym, version.place);
        Listing {
            organization: version.organization,
            directory,
            told: Told {
                directories: SmallVec::from_slice(&[directory, before, after]),
                organizations: SmallVec::new(),
            },
        }
    }

    /// Returns the directory in which a user or group was before an event; [`NO_SYM`] if none.
    fn home_before(&self, kind: EntityKind, id: &str, place: Place) -> Sym {
        let sym = self.find(kind, id);
        sym.and_then(|sym| self.home(kind, sym, before_it(place))).unwrap_or(NO_SYM)
    }

    /// Returns the directory in which a user or group is after an event; [`NO_SYM`] if none.
    fn home_after(&self, kind: EntityKind, sym: Sym, place: Place) -> Sym {
        let then = Cut { as_of: place.occurred_at, known_at: Seq::from(place.seq) };
        self.home(kind, sym, then).unwrap_or(NO_SYM)
    }

    fn fold_membership(&mut self, place: Place, data: &MembershipData<'_>) -> Listing {
        let MembershipData { user, group, .. } = data;
        let organization =
            self.organization_sym(data.organization.or(group.organization).or(user.organization));
        let directory =
            self.intern_directory(data.directory, place, organization_of_directory(data));
        // The group's directory comes first: of two organizations that one event carries for one
        // directory, the first noted counts, and that is the group's.
        let group_directory = group
            .directory
            .map_or(directory, |id| self.intern_directory(id, place, group.organization));
        let user_directory = user
            .directory
            .map_or(directory, |id| self.intern_directory(id, place, user.organization));
        let user_before = self.home_before(EntityKind::User, user.id, place);
        let group_before = self.home_before(EntityKind::Group, group.id, place);
        let user = self.fold_user_snapshot(place, user_directory, user);
        let group = self.fold_group_snapshot(place, group_directory, group);
        self.fold_grant(place, directory, user, group);
        let mut directories = SmallVec::from_slice(&[
            directory,
            user_directory,
            group_directory,
            user_before,
            group_before,
            self.home_after(EntityKind::User, user, place),
            self.home_after(EntityKind::Group, group, place),
        ]);
        directories.dedup();
        let carried = [data.organization, data.user.organization, data.group.organization];
        let organizations = carried.into_iter().filter_map(|id| self.texts.find(id?)).collect();
        Listing { organization, directory, told: Told { directories, organizations } }
    }

    /// Folds the observation of a user in a group, or out of it if `place` is closing. It describes
    /// neither of them.
    fn fold_observed_membership(
        &mut self,
        place: Place,
        directory: &str,
        user: &str,
        group: &str,
    ) -> Listing {
        let directory = self.intern_directory(directory, place, None);
        let user = self.users.intern(user);
        let group = self.groups.intern(group);
        self.fold_grant(place, directory, user, group);
        let directories = SmallVec::from_slice(&[
            directory,
            self.home_after(EntityKind::User, user, place),
            self.home_after(EntityKind::Group, group, place),
        ]);
        Listing { told: Told { directories, ..Told::default() }, ..Listing::of(NO_SYM, directory) }
    }

    fn fold_user_snapshot(&mut self, place: Place, directory: Sym, data: &UserData<'_>) -> Sym {
        let version = self.user_version(place, Part::User, directory, data);
        let user = self.add_stand_in(EntityKind::User, data.id, version);
        self.hold_fingerprints(user, version);
        user
    }

    fn fold_group_snapshot(&mut self, place: Place, directory: Sym, data: &GroupData<'_>) -> Sym {
        let version = self.group_version(place, Part::Group, directory, data);
        self.add_stand_in(EntityKind::Group, data.id, version)
    }

    /// Folds the addition of a user to a group, or the removal if `place` is closing.
    fn fold_grant(&mut self, place: Place, directory: Sym, user: Sym, group: Sym) {
        let number = self.memberships.intern(user, group, self.groups.ids());
        let was_in = |entity: Option<&Entity>| {
            entity.is_some_and(|entity| entity.listed_in().contains(&directory))
        };
        if !was_in(self.users.get(user)) && !was_in(self.groups.get(group)) {
            self.memberships.note_foreign(directory, number);
        }
        let held =
            self.memberships.get(number).is_some_and(|pair| self.user_end_holds(pair, Cut::LATEST));
        let newest = self.memberships.add(number, Grant::new(place, directory), &self.ids);
        if !(held && !place.closing && newest) {
            let Place { occurred_at, seq, .. } = place;
            let is_open = self.memberships.see(number, occurred_at, seq, self.users.ids());
            let gone = self.gone_pair(number);
            if !is_open || gone.is_some() {
                self.memberships.set_gone(number, gone, self.users.ids());
            }
        }
    }

    /// Notes an event of another kind that names a directory. Returns the directory's symbol.
    fn intern_directory(&mut self, id: &str, place: Place, organization: Option<&str>) -> Sym {
        let organization = self.organization_sym(organization);
        let directory = self.directories.note_named(id, place, organization, &self.ids);
        self.associate(organization, directory);
        directory
    }

    fn intern_own_directory(
        &mut self,
        id: Option<&str>,
        organization: Option<&str>,
        place: Place,
    ) -> Sym {
        id.map_or(NO_SYM, |id| self.intern_directory(id, place, organization))
    }

    /// Notes that something in the directory carried the organization.
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
        // Most events of a user show the email and the id of its version before.
        let known = self.users.find(data.id).and_then(|user| self.users.get(user));
        let before = known.and_then(|user| user.newest_version());
        let (email, idp_id) = before.map_or((NO_SYM, NO_SYM), |known| (known.email, known.idp_id));
        EntityVersion {
            place,
            directory,
            organization: self.organization_sym(data.organization),
            email: self.emails.intern(data.email, email),
            idp_id: self.idp_ids.intern(data.idp_id, idp_id),
            label: self.texts.intern(data.roles),
            part,
            active: data.active,
            deleted: is_deletion(place, part),
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
            organization: self.organization_sym(data.organization),
            email: NO_SYM,
            idp_id: NO_SYM,
            label: self.intern_group_name(data),
            part,
            active: true,
            deleted: is_deletion(place, part),
            directory_from_event: data.directory.is_none(),
        }
    }

    /// Interns a group's name, and matches it with the rules of every mapping.
    fn intern_group_name(&mut self, data: &GroupData<'_>) -> Sym {
        let name = self.texts.intern(data.name);
        self.roles.note_group_name(name, data.name, data.compared_name.unwrap_or(data.name));
        name
    }

    fn hold_fingerprints(&mut self, user: Sym, version: EntityVersion) {
        self.emails.hold(version.email, user);
        self.idp_ids.hold(version.idp_id, user);
    }

    fn entities_mut(&mut self, kind: EntityKind) -> (&mut Entities, &EventIds) {
        match kind {
            EntityKind::User => (&mut self.users, &self.ids),
            EntityKind::Group => (&mut self.groups, &self.ids),
        }
    }

    /// Adds the version that a creation, update or deletion gives.
    fn add_explicit(&mut self, kind: EntityKind, id: &str, version: EntityVersion) -> Sym {
        let sym = self.entities_mut(kind).0.intern(id);
        self.add_version(kind, sym, version);
        sym
    }

    /// Adds the snapshot in a membership event, unless an explicit event makes it invisible for
    /// ever.
    fn add_stand_in(&mut self, kind: EntityKind, id: &str, version: EntityVersion) -> Sym {
        let sym = self.entities_mut(kind).0.intern(id);
        if !self.entities(kind).is_announced_by(sym, version.place) {
            self.add_version(kind, sym, version);
        }
        sym
    }

    fn add_version(&mut self, kind: EntityKind, sym: Sym, version: EntityVersion) {
        let Place { occurred_at, seq, .. } = version.place;
        let steady = self.goes_on(kind, sym, &version);
        let living_before = self.living_as(kind, sym, Cut::LATEST);
        let (entities, ids) = self.entities_mut(kind);
        entities.add(sym, version, ids);
        entities.note_turns(kind, sym, version, ids);
        let directories_before = entities.get(sym).map_or(0, |entity| entity.listed_in().len());
        if version.directory != NO_SYM && !steady {
            entities.see(sym, version.directory, occurred_at, seq);
            if let EntityKind::User = kind {
                self.links.note_directory(self.users.id(sym), version.directory);
            }
        }
        if let (EntityKind::User, Some(user)) = (kind, self.users.get(sym)) {
            let entered = user.listed_in().len() > directories_before;
            self.loss_index.note_user(sym, user, &version, entered);
        }
        if let (EntityKind::Group, Some(group)) = (kind, self.groups.get(sym)) {
            self.roles.note_version_of_group(sym, group, version.label);
        }
        self.associate(version.organization, version.directory);
        if !steady {
            self.refresh(kind, sym);
        }
        let living = self.living_as(kind, sym, Cut::LATEST);
        self.living.change(living_before, living);
    }

    /// Returns the count to which an entity belongs, if it exists at the cut.
    fn living_as(&self, kind: EntityKind, sym: Sym, cut: Cut) -> Option<LivingAs> {
        self.exists(kind, sym, cut).map(|version| LivingAs::of(kind, version))
    }

    /// Tells if an entity that was alive to the end goes on in the same directory with a version
    /// that is about to be added. Such a version changes no index.
    fn goes_on(&self, kind: EntityKind, sym: Sym, version: &EntityVersion) -> bool {
        !version.deleted
            && self.exists(kind, sym, Cut::LATEST).is_some_and(|before| {
                before.directory == version.directory
                    && self.ids.is_later(version.place, before.place)
            })
    }

    /// Refreshes everything that was ever in a directory.
    fn refresh_listed(&mut self, kind: EntityKind, directory: Sym) {
        let roster = self.entities(kind).roster(directory);
        let listed: Vec<Sym> = roster.map_or(Vec::new(), |roster| roster.items().collect());
        let before = Cut { known_at: self.head.saturating_sub(1), ..Cut::LATEST };
        for sym in listed {
            self.refresh(kind, sym);
            let living_before = self.living_as(kind, sym, before);
            let living = self.living_as(kind, sym, Cut::LATEST);
            self.living.change(living_before, living);
        }
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

    /// Recomputes since when a membership is gone.
    fn refresh_pair(&mut self, number: u32) {
        let gone = self.gone_pair(number);
        self.memberships.set_gone(number, gone, self.users.ids());
    }

    /// Returns since when a membership is gone as far as its user's end decides. The group's end is
    /// judged once a question, so that what happens to a group does not touch every member.
    fn gone_pair(&self, number: u32) -> Option<Gone> {
        let pair = self.memberships.get(number)?;
        if self.user_end_holds(pair, Cut::LATEST) {
            return None;
        }
        let grant = pair.grants().newest();
        let granted = grant.map_or(Millis::MIN, |grant| grant.place().occurred_at);
        let directory =
            grant.map_or(Millis::MIN, |grant| self.directory_last_occurred(grant.directory()));
        let user = self.last_occurred(EntityKind::User, pair.user);
        let occurred_at = granted.max(directory).max(user);
        Some(Gone { occurred_at, seq: seq32(self.head) })
    }

    /// Returns the time after which nothing known can change whether the entity is alive.
    fn last_occurred(&self, kind: EntityKind, sym: Sym) -> Millis {
        let Some(entity) = self.entities(kind).get(sym) else { return Millis::MIN };
        let directories =
            entity.listed_in().iter().map(|directory| self.directory_last_occurred(*directory));
        directories.fold(entity.last_occurred(), Millis::max)
    }

    fn directory_last_occurred(&self, directory: Sym) -> Millis {
        let newest =
            self.directories.get(directory).and_then(|directory| directory.events().newest());
        newest.map_or(Millis::MIN, |version| version.place.occurred_at)
    }
}

/// Returns the place of a record of SCIM.
fn scim_place(entry: &Entry<'_>) -> ScimPlace {
    ScimPlace { seq: entry.seq, occurred_at: entry.occurred_at }
}

/// Returns the cut at an event's own moment that does not know the event.
fn before_it(place: Place) -> Cut {
    Cut { as_of: place.occurred_at, known_at: Seq::from(place.seq).saturating_sub(1) }
}

/// Tells if an event deletes the entity whose snapshot is `part` of it. A membership event never
/// does: its snapshot is a version of an entity, not the end of one.
fn is_deletion(place: Place, part: Part) -> bool {
    place.closing && part.is_explicit()
}

/// Returns the part of a record about a user or a group that is its snapshot.
fn part_of(entry: &Entry<'_>) -> Part {
    if entry.observed_at.is_some() { Part::Object } else { Part::Data }
}

/// Returns the organization that a membership event carries for its own directory.
fn organization_of_directory<'a>(data: &MembershipData<'a>) -> Option<&'a str> {
    let MembershipData { user, group, directory, .. } = *data;
    let is_own = |end: Option<&str>| end.is_none_or(|id| id == directory);
    data.organization
        .or(group.organization.filter(|_| is_own(group.directory)))
        .or(user.organization.filter(|_| is_own(user.directory)))
}
