//! Directories, users and groups at a cut: one by id, or a page of them.

use crate::ground::fact::{DirectoryChange, Fingerprint};
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::page::{Page, Window, page, resolve};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::walks::{walk, walk_merged, walk_sorted};
use crate::state::directories::{DirectoryState, DirectoryVersion};
use crate::state::entities::{EntityKind, EntityVersion, Part};
use crate::views::Views;
use core::cmp::Ordering;

/// At most so many groups stand in a user's object, and so many members in a group's.
const NESTED_MAX: usize = 1000;

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

/// A user or group at a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// The record whose body describes it.
    pub seq: Seq,
    /// Where in that body.
    pub part: Part,
    /// When that version occurred.
    pub occurred_at: Millis,
    /// The smallest `occurred_at` of its events seen: its creation, where its document says
    /// nothing.
    pub created_at: Millis,
    /// Its directory, where the snapshot has none of its own.
    pub directory: Option<String>,
    /// Its directory's organization, where the snapshot has none of its own; empty while unknown.
    pub organization: Option<String>,
    /// A user's roles by the mapping in force, the highest first; `None` before the first mapping,
    /// when they are the source's.
    pub roles: Option<Vec<String>>,
}

/// A directory at a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryRow {
    /// Its id.
    pub id: String,
    /// The record whose body describes it; none for a stub.
    pub version: Option<Seq>,
    /// Whether it is active.
    pub active: bool,
    /// Its organization; empty while unknown.
    pub organization: String,
    /// Its name; empty for a stub.
    pub name: String,
    /// The smallest `occurred_at` of what names it: its creation, where its document says nothing.
    pub created_at: Millis,
    /// When its version occurred; for a stub as `created_at`.
    pub updated_at: Millis,
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

impl Views {
    /// The directory, if it exists at the cut. O(log n).
    pub fn directory(&self, id: &str, cut: Cut) -> Option<DirectoryRow> {
        self.directory_row(self.directories.find(id)?, cut)
    }

    /// The user with its groups, if alive at the cut. O(log n) for it and for each group it was
    /// ever in.
    pub fn user(&self, id: &str, cut: Cut) -> Option<UserRow> {
        let name = self.users.find(id)?;
        Some(self.user_row(name, self.alive(EntityKind::User, name, cut)?, cut))
    }

    /// The group, if alive at the cut, with its members if they are asked for.
    pub fn group(&self, id: &str, members: bool, cut: Cut) -> Option<GroupRow> {
        let name = self.groups.find(id)?;
        Some(self.group_row(name, self.alive(EntityKind::Group, name, cut)?, members, cut))
    }

    /// A page of directories.
    pub fn directories(
        &self,
        filter: &DirectoryFilter<'_>,
        cut: Cut,
        window: Window<'_>,
    ) -> Page<DirectoryRow> {
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
            walk(&self.directories.roster, cut, start, descending, |item| self.directories.id(item))
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
        let directory = resolve(filter.directory, |id| self.directories.find(id))?;
        let group = resolve(filter.group, |id| self.groups.find(id))?;
        let organization = resolve(filter.organization, |id| self.texts.find(id))?;
        let email = resolve(filter.email, |print| self.emails.find(print))?;
        let idp_id = resolve(filter.idp_id, |print| self.idp_ids.find(print))?;
        if let Some(group) = group {
            self.alive(EntityKind::Group, group, cut)?;
        }
        let fits = |version: &EntityVersion| {
            directory.is_none_or(|directory| version.directory == directory)
                && email.is_none_or(|email| version.email == email)
                && idp_id.is_none_or(|idp_id| version.idp_id == idp_id)
                && filter.active.is_none_or(|active| version.active == active)
                && organization.is_none_or(|organization| {
                    self.shown_organization(version, cut) == organization
                })
        };
        let has_role = |sym: Sym, version: &EntityVersion| {
            filter.role.is_none_or(|role| self.has_role(role, sym, version, cut))
        };
        let accept = |sym: Sym| {
            let version = self.alive(EntityKind::User, sym, cut)?;
            (fits(version) && has_role(sym, version)).then(|| self.user_row(sym, version, cut))
        };
        let is_member = |sym: Sym| {
            let pair = group.map(|group| self.memberships.find(sym, group));
            pair.is_none_or(|pair| pair.is_some_and(|pair| self.holds_between_living(pair, cut)))
        };
        let ids = |item: u32| self.users.id(item);
        let print = email
            .map(|email| (&self.emails, email))
            .or(idp_id.map(|idp_id| (&self.idp_ids, idp_id)));
        let found = if let Some((prints, number)) = print {
            let mut holders: Vec<Sym> = prints.holders(number).collect();
            holders.sort_by(|a, b| ids(*a).cmp(ids(*b)));
            page(
                window,
                |start, descending| {
                    walk_sorted(&holders, start, descending, ids).filter(|sym| is_member(*sym))
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
            let by_role = resolve(by_role, |(role, mapping)| Some((mapping, mapping.rank(role)?)))?;
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
        let directory = resolve(filter.directory, |id| self.directories.find(id))?;
        let user = resolve(filter.user, |id| self.users.find(id))?;
        let organization = resolve(filter.organization, |id| self.texts.find(id))?;
        if let Some(user) = user {
            self.alive(EntityKind::User, user, cut)?;
        }
        let accept = |sym: Sym| {
            let version = self.alive(EntityKind::Group, sym, cut)?;
            let fits = directory.is_none_or(|directory| version.directory == directory)
                && organization.is_none_or(|organization| {
                    self.shown_organization(version, cut) == organization
                })
                && user.is_none_or(|user| {
                    self.memberships
                        .find(user, sym)
                        .is_some_and(|pair| self.holds_between_living(pair, cut))
                });
            fits.then(|| self.group_row(sym, version, members, cut))
        };
        let ids = |item: u32| self.groups.id(item);
        Some(if let Some(user) = user {
            let of_user: Vec<Sym> = self
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
            let rosters = self.rosters(EntityKind::Group, directory, organization);
            page(
                window,
                |start, descending| walk_merged(&rosters, cut, start, descending, ids),
                accept,
                group_id,
            )
        })
    }

    fn directory_row(&self, sym: Sym, cut: Cut) -> Option<DirectoryRow> {
        let directory = self.directories.get(sym)?;
        let created_at = directory.named.at(cut)?.occurred_at;
        let (version, active, updated_at, shown) = match directory.state(cut) {
            DirectoryState::Absent => return None,
            DirectoryState::Stub => (None, true, created_at, NO_SYM),
            DirectoryState::Live(DirectoryVersion { place, change, name, .. }) => (
                Some(Seq::from(place.seq)),
                change == DirectoryChange::Activated,
                place.occurred_at,
                name,
            ),
        };
        let [organization, shown] =
            [directory.organization(cut), shown].map(|text| self.texts.text(text).to_owned());
        let id = self.directories.id(sym).to_owned();
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

    pub(crate) fn user_row(&self, sym: Sym, version: &EntityVersion, cut: Cut) -> UserRow {
        let groups = self.groups_of(sym, cut);
        let rows = groups
            .iter()
            .take(NESTED_MAX)
            .map(|(group, version)| self.row(EntityKind::Group, *group, version, cut));
        let roles = self.roles_of(&groups, version, cut);
        UserRow {
            groups: rows.collect(),
            user: Row { roles, ..self.row(EntityKind::User, sym, version, cut) },
        }
    }

    pub(crate) fn group_row(
        &self,
        sym: Sym,
        version: &EntityVersion,
        members: bool,
        cut: Cut,
    ) -> GroupRow {
        let members = members.then(|| {
            let Some(roster) = self.memberships.of_group(sym) else { return Vec::new() };
            let rows = roster.ascending(cut, &|_| Ordering::Greater).filter_map(|number| {
                let pair = self.memberships.get(number)?;
                let user = self.alive(EntityKind::User, pair.user, cut)?;
                self.holds_between_living(pair, cut).then(|| {
                    let groups = self.groups_of(pair.user, cut);
                    Row {
                        roles: self.roles_of(&groups, user, cut),
                        ..self.row(EntityKind::User, pair.user, user, cut)
                    }
                })
            });
            rows.take(NESTED_MAX).collect()
        });
        GroupRow { group: self.row(EntityKind::Group, sym, version, cut), members }
    }

    fn row(&self, kind: EntityKind, sym: Sym, version: &EntityVersion, cut: Cut) -> Row {
        let entities = self.entities(kind);
        let seen = entities.get(sym).and_then(|entity| entity.seen.at(cut));
        let directory =
            version.directory_from_event.then(|| self.directories.id(version.directory).to_owned());
        let organization = (version.organization == NO_SYM)
            .then(|| self.texts.text(self.shown_organization(version, cut)).to_owned());
        Row {
            id: entities.id(sym).to_owned(),
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
