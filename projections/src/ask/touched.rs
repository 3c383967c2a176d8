//! The users whose access or roles a record may change.
//!
//! A record costs as much as it can change: its own moment, the mappings that are in force from
//! then on, and the spans of those concerned leave out the others without a look at their history.

use core::cmp::Ordering;

use smallvec::SmallVec;

use crate::ground::fact::{Change, DirectoryChange, Entry, Fact, MembershipData, RecordStatus};
use crate::ground::order::{Cut, Millis, Place, Seq, seq32};
use crate::ground::roster::Roster;
use crate::ground::symbols::Sym;
use crate::ground::timeline::Placed;
use crate::ground::walks::{IdWalk, is_beyond};
use crate::state::compiled_mapping::Compiled;
use crate::state::directories::Directory;
use crate::state::entities::{Entity, EntityVersion};
use crate::views::Views;

/// The users that a record may concern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TouchedUsers {
    /// The record.
    pub seq: Seq,
    /// The first moment at which it may change anything.
    pub(super) from: Millis,
    pub(super) subject: TouchedSubject,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TouchedSubject {
    Nothing,
    Policy,
    User { user: String, directory: Option<String>, ends: bool },
    Group { group: String, directory: Option<String>, ends: bool },
    Membership { user: String, group: String, directories: Vec<String> },
    Directory { directory: String, ends: bool },
    Mapping,
}

impl TouchedUsers {
    /// Reads the users that a record may concern off its entry. One that could not be used when it
    /// was recorded concerns none: those who follow the changes have passed it.
    pub fn by(entry: &Entry<'_>) -> TouchedUsers {
        let touched = TouchedUsers::by_effect(entry);
        match entry.unusable_at_first {
            Some(_) => TouchedUsers { subject: TouchedSubject::Nothing, ..touched },
            None => touched,
        }
    }

    /// Reads the users that a record may concern off its entry, also if it could not be used when
    /// it was recorded: it has its effect all the same.
    pub fn by_effect(entry: &Entry<'_>) -> TouchedUsers {
        let from = match entry.fact {
            Fact::Policy { effective_from, .. } | Fact::Mapping { effective_from, .. }
                if entry.status == RecordStatus::Counts =>
            {
                effective_from
            }
            _ => entry.occurred_at,
        };
        TouchedUsers { seq: entry.seq, from, subject: TouchedSubject::of(entry) }
    }

    /// Returns the cut that knows the record.
    pub(super) fn with(&self) -> Cut {
        Cut { as_of: Millis::MAX, known_at: self.seq }
    }

    /// Returns the cut that knows only the records before it.
    pub(super) fn without(&self) -> Cut {
        Cut { as_of: Millis::MAX, known_at: self.seq.saturating_sub(1) }
    }

    /// Tells if a place is that of the record.
    pub(super) fn made(&self, place: Place) -> bool {
        Seq::from(place.seq) == self.seq
    }
}

impl TouchedSubject {
    fn of(entry: &Entry<'_>) -> TouchedSubject {
        if entry.status != RecordStatus::Counts {
            return TouchedSubject::Nothing;
        }
        match &entry.fact {
            Fact::User(change, user) => TouchedSubject::User {
                user: user.id.to_owned(),
                directory: user.directory.map(str::to_owned),
                ends: *change == Change::Deleted,
            },
            Fact::Group(change, group) => TouchedSubject::Group {
                group: group.id.to_owned(),
                directory: group.directory.map(str::to_owned),
                ends: *change == Change::Deleted,
            },
            Fact::Membership(data) => {
                let directories = [Some(data.directory), data.group.directory, data.user.directory];
                TouchedSubject::Membership {
                    user: data.user.id.to_owned(),
                    group: data.group.id.to_owned(),
                    directories: directories.into_iter().flatten().map(str::to_owned).collect(),
                }
            }
            Fact::ObservedMembership { user, group, directory, .. } => TouchedSubject::Membership {
                user: (*user).to_owned(),
                group: (*group).to_owned(),
                directories: vec![(*directory).to_owned()],
            },
            Fact::Directory { id, change, .. } => TouchedSubject::Directory {
                directory: (*id).to_owned(),
                ends: *change == DirectoryChange::Deleted,
            },
            Fact::Mapping { .. } => TouchedSubject::Mapping,
            Fact::Policy { .. } => TouchedSubject::Policy,
            Fact::Reconciled { .. }
            | Fact::Link { .. }
            | Fact::HostedDirectory { .. }
            | Fact::DirectoryToken { .. }
            | Fact::ScimRequest(_)
            | Fact::ScimMembers { .. }
            | Fact::Unrelated { .. }
            | Fact::Unusable(_) => TouchedSubject::Nothing,
        }
    }
}

/// The sources of roles from a record's moment on.
pub(super) struct RoleSources<'v> {
    /// The mappings in force at some moment, the newest first.
    mappings: SmallVec<[&'v Compiled; 4]>,
    /// True if at some moment none is, so that the roles are those of the source.
    unmapped: bool,
}

impl RoleSources<'_> {
    /// Tells if a rule asks for an attribute.
    fn ask_for_attributes(&self) -> bool {
        self.mappings.iter().any(|mapping| mapping.keys().next().is_some())
    }

    /// Tells if a rule asks for an organization.
    pub(super) fn ask_for_organizations(&self) -> bool {
        self.mappings.iter().any(|mapping| mapping.asks_for_organizations())
    }
}

/// The users whose roles a mapping may change.
struct MappingReach {
    /// The groups to which it gives other roles, in order of symbol.
    groups: Vec<Sym>,
    /// The keys of attributes to which it gives other roles.
    keys: Vec<u32>,
    /// True if it takes the place of the roles that the source gives.
    replaces_source: bool,
}

/// The users whom a record may concern, in order of id.
pub(super) struct Candidates<'v> {
    pub(super) walk: IdWalk<'v>,
    /// The reach of a mapping, by which those of the walk are chosen; `None` if all are.
    reach: Option<MappingReach>,
}

impl Candidates<'_> {
    /// Tells if a user of the walk may be concerned. Costs much less than comparing two states.
    pub(super) fn include(&self, views: &Views, user: Sym) -> bool {
        self.reach.as_ref().is_none_or(|reach| views.is_reached(user, reach))
    }
}

impl Views {
    /// Tells if the newest record may change the access or the roles of any user, as far as is
    /// known with it. True if that is not known at once.
    pub(crate) fn may_turn(&self, entry: &Entry<'_>) -> bool {
        if entry.status != RecordStatus::Counts {
            return false;
        }
        let touched = TouchedUsers {
            seq: entry.seq,
            from: entry.occurred_at,
            subject: TouchedSubject::Nothing,
        };
        let sources = self.role_sources(&touched);
        // The attributes of the record may be read later.
        let asks = sources.ask_for_organizations() || sources.ask_for_attributes();
        match &entry.fact {
            Fact::User(Change::Set, data) => {
                let user = self.users.find(data.id);
                asks || user.is_none_or(|user| self.turns_user(user, &touched, &sources))
            }
            Fact::Group(Change::Set, data) => {
                let group = self.groups.find(data.id);
                let turns = |group| self.turns_members(group, &touched, &sources, false);
                asks || group.is_none_or(turns)
            }
            Fact::Membership(MembershipData { user, group, .. }) => {
                let group = self.groups.find(group.id);
                let gives = group.is_none_or(|sym| self.gives_roles(sym, &sources.mappings));
                let user = self.users.find(user.id);
                asks || gives || user.is_none_or(|sym| self.presents(sym, &touched, &sources))
            }
            Fact::ObservedMembership { group, .. } => {
                let group = self.groups.find(group);
                asks || group.is_none_or(|sym| self.gives_roles(sym, &sources.mappings))
            }
            Fact::Policy { .. }
            | Fact::Reconciled { .. }
            | Fact::Link { .. }
            | Fact::HostedDirectory { .. }
            | Fact::DirectoryToken { .. }
            | Fact::ScimRequest(_)
            | Fact::ScimMembers { .. }
            | Fact::Unrelated { .. }
            | Fact::Unusable(_) => false,
            Fact::User(..) | Fact::Group(..) | Fact::Directory { .. } | Fact::Mapping { .. } => {
                true
            }
        }
    }

    /// Returns the sources of roles from a record's moment on, as known with it.
    pub(super) fn role_sources(&self, touched: &TouchedUsers) -> RoleSources<'_> {
        RoleSources {
            mappings: self.roles.in_force_since(touched.from, touched.seq),
            unmapped: self.roles.is_unmapped_since(touched.from, touched.seq),
        }
    }

    /// Returns the users whose access or roles a record may change, from the one after `after` on.
    /// Conservative.
    pub(super) fn concerned<'v>(
        &'v self,
        touched: &TouchedUsers,
        after: Option<&str>,
    ) -> Candidates<'v> {
        let sources = self.role_sources(touched);
        let mut walks = Vec::new();
        match &touched.subject {
            // A policy is about inactive users, who have neither access nor roles.
            TouchedSubject::Nothing | TouchedSubject::Policy => {}
            TouchedSubject::Mapping => return self.concerned_by_mapping(touched, after),
            TouchedSubject::User { user, directory, ends } => {
                let user = self.users.find(user);
                let turned = user.filter(|sym| *ends || self.turns_user(*sym, touched, &sources));
                walks.extend(self.one_user(turned, after));
                self.add_renamed(directory.as_slice(), touched, &sources, after, &mut walks);
            }
            TouchedSubject::Group { group, directory, ends } => {
                let group = self.groups.find(group);
                let turned = group.filter(|sym| self.turns_members(*sym, touched, &sources, *ends));
                walks.extend(turned.and_then(|group| self.members(group, touched, after)));
                self.add_renamed(directory.as_slice(), touched, &sources, after, &mut walks);
            }
            TouchedSubject::Membership { user, group, directories } => {
                let group = self.groups.find(group);
                let gives = group.is_some_and(|sym| self.gives_roles(sym, &sources.mappings));
                let user = self.users.find(user);
                let turned = user.filter(|sym| gives || self.presents(*sym, touched, &sources));
                walks.extend(self.one_user(turned, after));
                let group = group.filter(|sym| gives && self.stands_in_anew(*sym, touched));
                walks.extend(group.and_then(|group| self.members(group, touched, after)));
                self.add_renamed(directories, touched, &sources, after, &mut walks);
            }
            TouchedSubject::Directory { directory, ends } => {
                let directory = self.directories.find(directory);
                let turned =
                    directory.filter(|sym| self.turns_directory(*sym, touched, &sources, *ends));
                walks.extend(
                    turned.map(|sym| self.ever_concerned_by(sym, touched, &sources, after)),
                );
            }
        }
        Candidates { walk: self.merged(walks, false), reach: None }
    }

    fn one_user(&self, user: Option<Sym>, after: Option<&str>) -> Option<IdWalk<'_>> {
        let user = user.filter(|user| is_beyond(self.users.id(*user), after, false));
        user.map(|user| Box::new(core::iter::once(user)) as IdWalk<'_>)
    }

    /// Tells if a user's own version, no deletion, may change its access or roles.
    fn turns_user(&self, user: Sym, touched: &TouchedUsers, sources: &RoleSources<'_>) -> bool {
        let Some(entity) = self.users.get(user) else { return false };
        let mine = entity.explicit().at(touched.from).find(|version| touched.made(version.place));
        let Some(mine) = mine else { return true };
        if self.says_otherwise(entity, mine, touched, sources) {
            return true;
        }
        // It takes the place of the snapshots after it, if there was nothing of its kind before.
        let then = Cut { as_of: touched.from, ..touched.without() };
        let mut later = entity.stand_ins().since(touched.from);
        entity.explicit().latest(then).is_none()
            && later.any(|version| !self.is_alike(version, mine, sources))
    }

    /// Tells if a membership event is the one whose snapshot presents the user, in a way that may
    /// change its access or roles.
    fn presents(&self, user: Sym, touched: &TouchedUsers, sources: &RoleSources<'_>) -> bool {
        let Some(entity) = self.users.get(user) else { return false };
        let mine = entity.stand_ins().at(touched.from).find(|version| touched.made(version.place));
        mine.is_some_and(|mine| self.says_otherwise(entity, mine, touched, sources))
    }

    /// Tells if a version of a user may mean something else than the one before it.
    fn says_otherwise(
        &self,
        entity: &Entity,
        mine: &EntityVersion,
        touched: &TouchedUsers,
        sources: &RoleSources<'_>,
    ) -> bool {
        let before = entity.version(Cut { as_of: touched.from, ..touched.without() });
        before.is_none_or(|before| {
            !self.is_alike(before, mine, sources) || self.ended_since(Some(before), mine, touched)
        })
    }

    /// Tells if two versions of a user mean the same for its access and roles.
    fn is_alike(&self, a: &EntityVersion, b: &EntityVersion, sources: &RoleSources<'_>) -> bool {
        let keys = |version: &EntityVersion| {
            self.roles.attributes().of_snapshot(version.place.seq, version.part)
        };
        a.directory == b.directory
            && a.deleted == b.deleted
            && a.active == b.active
            && (!sources.unmapped || a.label == b.label)
            && (sources.mappings.is_empty() || keys(a) == keys(b))
    }

    /// Adds the users of directories of which a record is the first that says an organization, if
    /// rules ask for one.
    fn add_renamed<'v>(
        &'v self,
        directories: &[String],
        touched: &TouchedUsers,
        sources: &RoleSources<'_>,
        after: Option<&str>,
        walks: &mut Vec<IdWalk<'v>>,
    ) {
        if !sources.ask_for_organizations() {
            return;
        }
        let is_renamed = |sym: &Sym| {
            let directory = self.directories.get(*sym);
            directory.is_some_and(|directory| directory.named_with().has(touched.seq))
        };
        let named = directories.iter().filter_map(|directory| self.directories.find(directory));
        let named = named.filter(is_renamed);
        walks.extend(named.map(|sym| self.ever_concerned_by(sym, touched, sources, after)));
    }

    /// Tells if a group's own event may change what the group gives its members.
    fn turns_members(
        &self,
        group: Sym,
        touched: &TouchedUsers,
        sources: &RoleSources<'_>,
        ends: bool,
    ) -> bool {
        if !self.gives_roles(group, &sources.mappings) {
            return false;
        }
        let Some(entity) = self.groups.get(group) else { return false };
        let mine = entity.explicit().at(touched.from).find(|version| touched.made(version.place));
        let Some(mine) = mine.filter(|_| !ends) else { return true };
        let then = Cut { as_of: touched.from, ..touched.without() };
        let before = entity.version(then);
        // While there is no version there is no membership either.
        if before.is_some_and(|before| !before.is_like(mine))
            || self.ended_since(before, mine, touched)
        {
            return true;
        }
        // It takes the place of the snapshots after it, if there was nothing of its kind before.
        let replaces = entity.explicit().latest(then).is_none();
        let mut later = entity
            .turns()
            .seen_since(touched.from, touched.with())
            .filter(|turn| !turn.part.is_explicit());
        replaces && later.any(|turn| !turn.is_like(mine))
    }

    /// Tells if the directory of a record's version was deleted after the version before it, or at
    /// all if there was none.
    fn ended_since(
        &self,
        before: Option<&EntityVersion>,
        mine: &EntityVersion,
        touched: &TouchedUsers,
    ) -> bool {
        let deletion = self
            .directories
            .get(mine.directory)
            .and_then(|directory| directory.deletions().latest(touched.with()));
        deletion.is_some_and(|deletion| {
            before.is_none_or(|before| !self.ids.is_later(before.place, *deletion))
        })
    }

    /// Tells if the snapshot of a group in a membership event is a stand-in that differs, for the
    /// other members, from the version before it.
    fn stands_in_anew(&self, group: Sym, touched: &TouchedUsers) -> bool {
        let Some(entity) = self.groups.get(group) else { return false };
        let mine = entity.stand_ins().at(touched.from).find(|version| touched.made(version.place));
        let Some(mine) = mine else { return false };
        // While there is no version there is no other member either.
        let before = entity.version(Cut { as_of: touched.from, ..touched.without() });
        before.is_some_and(|before| {
            !before.is_like(mine) || self.ended_since(Some(before), mine, touched)
        })
    }

    /// Tells if a directory's own event may change anything for its users.
    fn turns_directory(
        &self,
        directory: Sym,
        touched: &TouchedUsers,
        sources: &RoleSources<'_>,
        ends: bool,
    ) -> bool {
        let Some(directory) = self.directories.get(directory) else { return false };
        if ends {
            return true;
        }
        let later = directory.events().seen_since(touched.from, touched.with());
        let later = later.map(Placed::place);
        let later = later.chain(directory.first_named_with(touched.without()));
        let seen = later.map(|place| place.occurred_at).filter(|moment| *moment >= touched.from);
        let names = sources.ask_for_organizations();
        let state = |cut: Cut| {
            let organization = names.then(|| directory.organization(cut));
            ((is_open(directory, cut), directory.is_deleted(cut)), organization)
        };
        core::iter::once(touched.from).chain(seen).any(|as_of| {
            state(Cut { as_of, ..touched.with() }) != state(Cut { as_of, ..touched.without() })
        })
    }

    /// Returns the users whose roles a mapping may change.
    fn concerned_by_mapping<'v>(
        &'v self,
        touched: &TouchedUsers,
        after: Option<&str>,
    ) -> Candidates<'v> {
        let reach = self.reach_of_mapping(touched);
        let by_groups =
            reach.as_ref().filter(|reach| reach.keys.is_empty() && !reach.replaces_source);
        if let Some(MappingReach { groups, .. }) = by_groups {
            let members = groups.iter().filter_map(|sym| self.members(*sym, touched, after));
            return Candidates { walk: self.merged(members.collect(), false), reach: None };
        }
        let rosters = self.users.rosters();
        let all = rosters.map(|users| self.listed(users, touched, after)).collect();
        Candidates { walk: self.merged(all, false), reach }
    }

    /// Returns the reach of a mapping; `None` if it may make a difference to any user.
    fn reach_of_mapping(&self, touched: &TouchedUsers) -> Option<MappingReach> {
        let mine = self.roles.known(touched.seq).last()?;
        let known_before = touched.without().known_at;
        let replaced = self.roles.in_force_since(touched.from, known_before);
        let replaces_source = self.roles.is_unmapped_since(touched.from, known_before);
        if replaces_source && mine.has_defaults()
            || !replaced.iter().all(|other| mine.differs_in_rules_only(other))
        {
            return None;
        }
        let patterns = self.roles.patterns();
        let is_given_otherwise = |(sym, entity): &(Sym, &Entity)| {
            let id = self.groups.id(*sym);
            entity.turns().iter().any(|turn| {
                replaces_source && !mine.rules_of_group(id, turn.label, patterns).is_empty()
                    || replaced
                        .iter()
                        .any(|other| !mine.treats_alike(other, id, turn.label, patterns))
            })
        };
        let groups = self.groups.iter().filter(is_given_otherwise).map(|(sym, _)| sym).collect();
        let mut keys: Vec<u32> =
            replaced.iter().flat_map(|other| mine.keys_unlike(other)).collect();
        keys.extend(mine.keys().filter(|_| replaces_source));
        Some(MappingReach { groups, keys, replaces_source })
    }

    /// Tells if a mapping may change the roles of a user: by a group that it was ever in, or by the
    /// attributes or the source's roles of any of its versions.
    fn is_reached(&self, user: Sym, reach: &MappingReach) -> bool {
        let is_in = |group: Sym| reach.groups.binary_search(&group).is_ok();
        if !reach.groups.is_empty() && self.pairs_of(user).any(|pair| is_in(pair.group)) {
            return true;
        }
        let attributes = self.roles.attributes();
        let has_key = |version: &EntityVersion| {
            let keys = attributes.of_snapshot(version.place.seq, version.part);
            keys.iter().any(|key| reach.keys.contains(key))
        };
        let has_source = |version: &EntityVersion| {
            reach.replaces_source && !self.texts.text(version.label).is_empty()
        };
        let mut versions = self.users.get(user).into_iter().flat_map(Entity::versions);
        versions.any(|version| has_source(version) || !reach.keys.is_empty() && has_key(version))
    }

    /// Walks over the members that a group had at the record's moment or later.
    fn members(
        &self,
        group: Sym,
        touched: &TouchedUsers,
        after: Option<&str>,
    ) -> Option<IdWalk<'_>> {
        let id = |pair: u32| self.memberships.user_id(self.users.ids(), pair);
        let roster = self.memberships.of_group(group)?;
        let start = |pair: u32| from_start(id(pair), after);
        let pairs = roster.since(touched.from, seq32(touched.seq), &start);
        let pairs = pairs.filter_map(|number| self.memberships.get(number));
        Some(Box::new(pairs.map(|pair| pair.user)))
    }

    fn listed<'v>(
        &'v self,
        users: &'v Roster,
        touched: &TouchedUsers,
        after: Option<&str>,
    ) -> IdWalk<'v> {
        let start = |user: Sym| from_start(self.users.id(user), after);
        Box::new(users.since(touched.from, seq32(touched.seq), &start))
    }

    /// Walks over the users who were in a directory at the record's moment or later, and if there
    /// are roles over those who were in a group of it, or added to a group by an event of it.
    fn ever_concerned_by(
        &self,
        directory: Sym,
        touched: &TouchedUsers,
        sources: &RoleSources<'_>,
        after: Option<&str>,
    ) -> IdWalk<'_> {
        let users = self.users.roster(directory);
        let mut walks: Vec<IdWalk<'_>> =
            users.into_iter().map(|users| self.listed(users, touched, after)).collect();
        if !sources.mappings.is_empty() {
            let groups = self.groups.roster(directory).into_iter().flat_map(|groups| {
                groups.since(Millis::MIN, seq32(touched.seq), &|_| Ordering::Greater)
            });
            let groups = groups.filter(|group| self.gives_roles(*group, &sources.mappings));
            walks.extend(groups.filter_map(|group| self.members(group, touched, after)));
            walks.push(self.foreign(directory, after));
        }
        self.merged(walks, false)
    }

    /// Walks over the users who were added to a group by an event of a directory in which neither
    /// ever was.
    fn foreign(&self, directory: Sym, after: Option<&str>) -> IdWalk<'_> {
        let numbers = self.memberships.granted_from(directory);
        let pairs = numbers.filter_map(|number| self.memberships.get(number));
        let id = |user: Sym| self.users.id(user);
        let mut users: Vec<Sym> =
            pairs.map(|pair| pair.user).filter(|user| is_beyond(id(*user), after, false)).collect();
        users.sort_unstable_by_key(|user| id(*user));
        Box::new(users.into_iter())
    }
}

/// Tells if a directory keeps none of its users out. One without events of its own does not.
fn is_open(directory: &Directory, cut: Cut) -> bool {
    directory.is_active(cut) || directory.events().latest(cut).is_none()
}

/// Compares an id with the one after which a walk begins.
fn from_start(id: &str, after: Option<&str>) -> Ordering {
    after.map_or(Ordering::Greater, |after| id.cmp(after))
}
