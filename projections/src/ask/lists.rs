//! Directories, users and groups at a cut: one by id, or a page of them.

use crate::ground::fact::{DirectoryChange, Fingerprint};
use crate::ground::holders::HolderIndex;
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::page::{Page, Step, Window, page_in_steps, resolve, step};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::walks::{IdWalk, first_beyond, walk, walk_merged, walk_sorted};
use crate::sight::Seen;
use crate::state::directories::{DirectoryState, DirectoryVersion};
use crate::state::entities::{EntityKind, EntityVersion, Part, SnapshotRef};

/// A user's object shows at most this many groups, and a group's this many members.
pub const NESTED_MAX: usize = 1000;

/// A filter of users; all parts that are given must fit.
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

/// A filter of groups; all parts that are given must fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupFilter<'a> {
    /// In this directory.
    pub directory: Option<&'a str>,
    /// With this member.
    pub user: Option<&'a str>,
    /// Showing this organization.
    pub organization: Option<&'a str>,
}

/// A filter of directories; all parts that are given must fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectoryFilter<'a> {
    /// Belonging to this organization.
    pub organization: Option<&'a str>,
    /// With this text in its name, in any case.
    pub search: Option<&'a str>,
    /// With this domain.
    pub domain: Option<&'a str>,
}

/// A user or group at a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityRow {
    /// Its id.
    pub id: String,
    /// The record whose body describes it.
    pub seq: Seq,
    /// The part of that body that is its snapshot.
    pub part: Part,
    /// When that version occurred.
    pub occurred_at: Millis,
    /// The smallest `occurred_at` of its events seen: its creation, if its document does not give
    /// one.
    pub created_at: Millis,
    /// Its directory, if the snapshot has none of its own.
    pub directory: Option<String>,
    /// Its directory's organization, if the snapshot has none of its own, or one that is not seen;
    /// empty while unknown.
    pub organization: Option<String>,
    /// True if the snapshot has an organization of its own that is not seen.
    pub foreign_organization: bool,
    /// A user's roles by the mapping in force, the highest first; `None` before the first mapping,
    /// when they are the source's.
    pub roles: Option<Vec<String>>,
}

/// A directory at a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryRow {
    /// Its id.
    pub id: String,
    /// The place of its description; none for a stub.
    pub version: Option<SnapshotRef>,
    /// True if it is active.
    pub active: bool,
    /// Its organization; empty while unknown.
    pub organization: String,
    /// Its name; empty for a stub.
    pub name: String,
    /// The smallest `occurred_at` of the events that name it: its creation, if its document does
    /// not give one.
    pub created_at: Millis,
    /// When its version occurred; for a stub as `created_at`.
    pub updated_at: Millis,
}

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// The user.
    pub user: EntityRow,
    /// The groups it is a member of, in ascending order of id.
    pub groups: Nested,
}

/// Some of the members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembersStep {
    /// The first of them, in ascending order of id.
    pub rows: Vec<EntityRow>,
    /// The number of all of them.
    pub count: usize,
    /// The id after which to continue, if there may be more.
    pub next: Option<String>,
}

/// The groups of a user, or the members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nested {
    /// The first of them, at most 1000.
    pub rows: Vec<EntityRow>,
    /// The number of all.
    pub total: usize,
}

/// The next part of a list that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct ListStep<'a> {
    /// Only what follows this id in the direction of the walk. It need not exist.
    pub start: Option<&'a str>,
    /// From the highest id down.
    pub descending: bool,
    /// The highest number of items.
    pub limit: usize,
}

/// A [`UserFilter`] with its ids resolved.
struct UserQuery<'a> {
    directory: Option<Sym>,
    group: Option<Sym>,
    organization: Option<Sym>,
    email: Option<Sym>,
    idp_id: Option<Sym>,
    active: Option<bool>,
    role: Option<&'a str>,
}

/// A [`GroupFilter`] with its ids resolved.
struct GroupQuery {
    directory: Option<Sym>,
    user: Option<Sym>,
    organization: Option<Sym>,
}

impl Seen<'_> {
    /// Returns the directory, if it exists at the cut. O(log n).
    pub fn directory(&self, id: &str, cut: Cut) -> Option<DirectoryRow> {
        self.directory_row(self.directory_sym(id, cut)?, cut)
    }

    /// Returns the user with its groups, if alive at the cut. O(log n) for it and for each group it
    /// was ever in.
    pub fn user(&self, id: &str, cut: Cut) -> Option<UserRow> {
        let user = self.users.find(id)?;
        Some(self.user_row(user, self.visible(EntityKind::User, user, cut)?, cut))
    }

    /// Returns the group, if alive at the cut.
    pub fn group(&self, id: &str, cut: Cut) -> Option<EntityRow> {
        let group = self.groups.find(id)?;
        let version = self.visible(EntityKind::Group, group, cut)?;
        Some(self.row(EntityKind::Group, group, version, cut))
    }

    /// Returns a page of directories, all under one lock.
    pub fn directories(
        &self,
        filter: &DirectoryFilter<'_>,
        cut: Cut,
        window: Window<'_>,
    ) -> Page<DirectoryRow> {
        let step = |start: Option<&str>, descending, limit| {
            self.directories_step(filter, cut, ListStep { start, descending, limit })
        };
        page_in_steps(window, step, |row| &row.id)
    }

    /// Returns the next directories of a list.
    pub fn directories_step(
        &self,
        filter: &DirectoryFilter<'_>,
        cut: Cut,
        wanted: ListStep<'_>,
    ) -> Step<DirectoryRow> {
        let search = filter.search.map(str::to_lowercase);
        let id = |directory: Sym| self.directories.id(directory);
        let roster = self.directories.roster();
        let candidates = walk(roster, cut, wanted.start, wanted.descending, id);
        let accept = |directory: Sym| {
            let row = self.sees(directory, cut).then(|| self.directory_row(directory, cut))??;
            self.directory_fits(directory, &row, filter, search.as_deref(), cut).then_some(row)
        };
        step(candidates, wanted.limit, accept, id)
    }

    /// Tells if a directory fits a filter; `search` is the filter's, in lower case.
    fn directory_fits(
        &self,
        directory: Sym,
        row: &DirectoryRow,
        filter: &DirectoryFilter<'_>,
        search: Option<&str>,
        cut: Cut,
    ) -> bool {
        let state = self.directories.get(directory).map(|directory| directory.state(cut));
        let (name, domain) = match state {
            Some(DirectoryState::Live(version)) => {
                (self.texts.text(version.name), self.texts.text(version.domain))
            }
            _ => ("", ""),
        };
        filter.organization.is_none_or(|organization| row.organization == organization)
            && filter.domain.is_none_or(|wanted| domain == wanted)
            && search.is_none_or(|text| name.to_lowercase().contains(text))
    }

    /// Returns a page of users, each with its groups, all under one lock.
    ///
    /// Costs the page, plus the candidates of the narrowest index that the rest of the filter
    /// refuses.
    pub fn users(&self, filter: &UserFilter<'_>, cut: Cut, window: Window<'_>) -> Page<UserRow> {
        let step = |start: Option<&str>, descending, limit| {
            self.users_step(filter, cut, ListStep { start, descending, limit })
        };
        page_in_steps(window, step, |row| &row.user.id)
    }

    /// Returns the next users of a list, each with its groups.
    pub fn users_step(
        &self,
        filter: &UserFilter<'_>,
        cut: Cut,
        wanted: ListStep<'_>,
    ) -> Step<UserRow> {
        let found = self.user_query(filter, cut).and_then(|query| {
            let candidates = self.user_candidates(&query, cut, wanted)?;
            let is_candidate = |user: Sym| match (self.fingerprint_of(&query), query.group) {
                (Some(_), Some(group)) => self.is_member(user, group, cut),
                _ => true,
            };
            let accept = |user: Sym| {
                is_candidate(user).then(|| self.fitting_user(user, &query, cut)).flatten()
            };
            Some(step(candidates, wanted.limit, accept, |user| self.users.id(user)))
        });
        found.unwrap_or_else(Step::end)
    }

    /// Returns the users of the narrowest index for a query, in order of id: as many as one step
    /// looks at, or more. They are still to be judged. `None` if there are none.
    fn user_candidates<'s>(
        &'s self,
        query: &UserQuery<'_>,
        cut: Cut,
        wanted: ListStep<'_>,
    ) -> Option<IdWalk<'s>> {
        let ListStep { start, descending, .. } = wanted;
        let UserQuery { directory, organization, .. } = *query;
        if let Some((index, fingerprint)) = self.fingerprint_of(query) {
            let id = |user: Sym| self.users.id(user);
            let holders = first_beyond(index.holders(fingerprint), start, descending, id);
            return Some(Box::new(holders.into_iter()));
        }
        if let Some(group) = query.group {
            return Some(self.members_walk(vec![group], cut, start, descending));
        }
        if let Some((role, mapping)) = query.role.zip(self.roles.in_force(cut)) {
            let rank = mapping.rank(role)?;
            return Some(self.role_walk(
                mapping,
                rank,
                directory,
                organization,
                cut,
                start,
                descending,
            ));
        }
        Some(self.users_walk(directory, organization, cut, start, descending))
    }

    /// Resolves a filter. Returns `None` if it names something unknown, or a group that is not
    /// alive: no user fits.
    fn user_query<'a>(&self, filter: &UserFilter<'a>, cut: Cut) -> Option<UserQuery<'a>> {
        let query = UserQuery {
            directory: resolve(filter.directory, |id| self.directory_sym(id, cut))?,
            group: resolve(filter.group, |id| self.groups.find(id))?,
            organization: resolve(filter.organization, |id| self.organization_sym(id))?,
            email: resolve(filter.email, |email| self.emails.find(email))?,
            idp_id: resolve(filter.idp_id, |idp_id| self.idp_ids.find(idp_id))?,
            active: filter.active,
            role: filter.role,
        };
        if let Some(group) = query.group {
            self.visible(EntityKind::Group, group, cut)?;
        }
        Some(query)
    }

    /// Returns the fingerprint that a query asks for, with its index; the email's if both.
    fn fingerprint_of(&self, query: &UserQuery<'_>) -> Option<(&HolderIndex, Sym)> {
        let email = query.email.map(|email| (&self.emails, email));
        email.or(query.idp_id.map(|idp_id| (&self.idp_ids, idp_id)))
    }

    /// Returns a candidate's row if it is alive and fits all of a query but its group.
    fn fitting_user(&self, user: Sym, query: &UserQuery<'_>, cut: Cut) -> Option<UserRow> {
        let version = self.visible(EntityKind::User, user, cut)?;
        let fits = query.directory.is_none_or(|directory| version.directory == directory)
            && query.email.is_none_or(|email| version.email == email)
            && query.idp_id.is_none_or(|idp_id| version.idp_id == idp_id)
            && query.active.is_none_or(|active| version.active == active)
            && query
                .organization
                .is_none_or(|organization| self.shown_or_own(version, cut, cut) == organization)
            && query.role.is_none_or(|role| self.has_role(role, user, version, cut));
        fits.then(|| self.user_row(user, version, cut))
    }

    /// Tells if a user is a member of a group, both being alive.
    fn is_member(&self, user: Sym, group: Sym, cut: Cut) -> bool {
        let pair = self.memberships.find(user, group);
        pair.is_some_and(|pair| self.holds_between_living(pair, cut))
    }

    /// Returns a page of groups, all under one lock.
    pub fn groups(
        &self,
        filter: &GroupFilter<'_>,
        cut: Cut,
        window: Window<'_>,
    ) -> Page<EntityRow> {
        let step = |start: Option<&str>, descending, limit| {
            self.groups_step(filter, cut, ListStep { start, descending, limit })
        };
        page_in_steps(window, step, |row| &row.id)
    }

    /// Returns the next groups of a list.
    pub fn groups_step(
        &self,
        filter: &GroupFilter<'_>,
        cut: Cut,
        wanted: ListStep<'_>,
    ) -> Step<EntityRow> {
        let Some(query) = self.group_query(filter, cut) else { return Step::end() };
        let ListStep { start, descending, limit } = wanted;
        let accept = |group: Sym| self.fitting_group(group, &query, cut);
        let id = |group: Sym| self.groups.id(group);
        if let Some(user) = query.user {
            let pairs = self.memberships.of_user(user).iter();
            let of_user: Vec<Sym> =
                pairs.filter_map(|number| Some(self.memberships.get(*number)?.group)).collect();
            step(walk_sorted(&of_user, start, descending, id), limit, accept, id)
        } else {
            let rosters = self.rosters(EntityKind::Group, query.directory, query.organization);
            step(walk_merged(&rosters, cut, start, descending, id), limit, accept, id)
        }
    }

    /// Resolves a filter. Returns `None` if it names something unknown, or a user that is not
    /// alive: no group fits.
    fn group_query(&self, filter: &GroupFilter<'_>, cut: Cut) -> Option<GroupQuery> {
        let query = GroupQuery {
            directory: resolve(filter.directory, |id| self.directory_sym(id, cut))?,
            user: resolve(filter.user, |id| self.users.find(id))?,
            organization: resolve(filter.organization, |id| self.organization_sym(id))?,
        };
        if let Some(user) = query.user {
            self.visible(EntityKind::User, user, cut)?;
        }
        Some(query)
    }

    /// Returns a candidate's row if it is alive and fits a query.
    fn fitting_group(&self, group: Sym, query: &GroupQuery, cut: Cut) -> Option<EntityRow> {
        let version = self.visible(EntityKind::Group, group, cut)?;
        let fits = query.directory.is_none_or(|directory| version.directory == directory)
            && query
                .organization
                .is_none_or(|organization| self.shown_or_own(version, cut, cut) == organization)
            && query.user.is_none_or(|user| self.is_member(user, group, cut));
        fits.then(|| self.row(EntityKind::Group, group, version, cut))
    }

    fn directory_row(&self, sym: Sym, cut: Cut) -> Option<DirectoryRow> {
        let directory = self.directories.get(sym)?;
        let created_at = directory.named().at(cut)?.occurred_at;
        let state = directory.state(cut);
        if let DirectoryState::Absent = state {
            return None;
        }
        let stub = DirectoryRow {
            id: self.directories.id(sym).to_owned(),
            version: None,
            active: true,
            organization: self.texts.text(directory.organization(cut)).to_owned(),
            name: String::new(),
            created_at,
            updated_at: created_at,
        };
        let DirectoryState::Live(DirectoryVersion { place, change, name, part, .. }) = state else {
            return Some(stub);
        };
        Some(DirectoryRow {
            version: Some(SnapshotRef { seq: Seq::from(place.seq), part }),
            active: change == DirectoryChange::Activated,
            name: self.texts.text(name).to_owned(),
            updated_at: place.occurred_at,
            ..stub
        })
    }

    fn user_row(&self, user: Sym, version: &EntityVersion, cut: Cut) -> UserRow {
        let groups = self.groups_of(user, cut);
        let mut seen = groups.iter().filter(|(_, version)| self.sees(version.directory, cut));
        let first = seen.by_ref().take(NESTED_MAX);
        // A filter does not know how many pass it.
        let mut rows: Vec<EntityRow> = Vec::with_capacity(groups.len().min(NESTED_MAX));
        rows.extend(
            first.map(|(group, version)| self.row(EntityKind::Group, *group, version, cut)),
        );
        UserRow {
            groups: Nested { total: rows.len() + seen.count(), rows },
            user: EntityRow {
                roles: self.roles_of(&groups, version, cut),
                ..self.row(EntityKind::User, user, version, cut)
            },
        }
    }

    /// Returns members of a group that is alive at the cut: those whose ids follow `after`, among
    /// the next `limit` candidates. The first `rows_max` are described, the rest only counted.
    pub fn members_step(
        &self,
        group: &str,
        cut: Cut,
        after: Option<&str>,
        rows_max: usize,
        limit: usize,
    ) -> MembersStep {
        let mut step = MembersStep::default();
        let roster = self.groups.find(group).and_then(|group| self.memberships.of_group(group));
        let Some(roster) = roster else { return step };
        let id = |pair| self.memberships.user_id(self.users.ids(), pair);
        let mut last = None;
        for (at, pair) in walk(roster, cut, after, false, id).enumerate() {
            if at == limit {
                step.next = last.map(|pair| id(pair).to_owned());
                break;
            }
            last = Some(pair);
            let Some((user, version)) = self.member(pair, cut) else { continue };
            step.count += 1;
            if step.rows.len() < rows_max {
                step.rows.push(self.member_row(user, version, cut));
            }
        }
        step
    }

    /// Returns the user of a pair that holds, the group being alive.
    fn member(&self, pair: u32, cut: Cut) -> Option<(Sym, &EntityVersion)> {
        let pair = self.memberships.get(pair)?;
        let version = self.visible(EntityKind::User, pair.user, cut)?;
        self.holds_between_living(pair, cut).then_some((pair.user, version))
    }

    fn member_row(&self, user: Sym, version: &EntityVersion, cut: Cut) -> EntityRow {
        EntityRow {
            roles: self.roles_of(&self.groups_of(user, cut), version, cut),
            ..self.row(EntityKind::User, user, version, cut)
        }
    }

    /// Returns an entity's row, without roles.
    pub(crate) fn row(
        &self,
        kind: EntityKind,
        sym: Sym,
        version: &EntityVersion,
        cut: Cut,
    ) -> EntityRow {
        let entities = self.entities(kind);
        let seen = entities.get(sym).and_then(|entity| entity.first_seen(cut));
        let directory =
            version.directory_from_event.then(|| self.directories.id(version.directory).to_owned());
        let foreign_organization =
            version.organization != NO_SYM && !self.owns(version.organization);
        let organization = (version.organization == NO_SYM || foreign_organization)
            .then(|| self.texts.text(self.organization_of(version.directory, cut)).to_owned());
        EntityRow {
            id: entities.id(sym).to_owned(),
            seq: Seq::from(version.place.seq),
            part: version.part,
            occurred_at: version.place.occurred_at,
            created_at: seen.map_or(version.place.occurred_at, |place| place.occurred_at),
            directory,
            organization,
            foreign_organization,
            roles: None,
        }
    }
}
