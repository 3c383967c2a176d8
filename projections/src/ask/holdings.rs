//! The things that a log holds of a directory, for a comparison with its source: as under the
//! policy that retains inactive users, and with the roles of the snapshots.

use crate::ask::lists::{DirectoryRow, EntityRow};
use crate::ground::event_type::EventType;
use crate::ground::fact::DirectoryChange;
use crate::ground::order::{Cut, Millis};
use crate::ground::symbols::Sym;
use crate::ground::walks::walk;
use crate::sight::Sight;
use crate::state::entities::{EntityKind, Part};
use crate::views::Views;

/// The kinds of thing that belong to a directory and have an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeldKind {
    /// Groups.
    Group,
    /// Users.
    User,
}

/// A user or group that exists at a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its row, without roles of a mapping.
    pub row: EntityRow,
    /// Its directory.
    pub directory: String,
    /// False for a user whose state is not active.
    pub active: bool,
    /// The `updated_at` of its version, if that has one.
    pub updated_at: Option<Millis>,
}

/// A part of a walk over what is held.
#[derive(Debug, PartialEq, Eq)]
pub struct HoldingsStep<T> {
    /// In ascending order of id.
    pub items: Vec<T>,
    /// The id after which to continue, if there may be more.
    pub next: Option<String>,
}

/// A directory that any record ever named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldDirectory {
    /// Its id.
    pub id: String,
    /// Its row, if it exists.
    pub row: Option<DirectoryRow>,
    /// True if its latest deletion is an operator's, and no later activation is known.
    pub deleted_here: bool,
}

impl EntityRow {
    /// Returns the row of a user or group that no record names.
    pub fn unknown() -> EntityRow {
        EntityRow {
            id: String::new(),
            seq: 0,
            part: Part::Data,
            occurred_at: 0,
            created_at: 0,
            directory: None,
            organization: None,
            foreign_organization: false,
            roles: None,
        }
    }
}

impl DirectoryRow {
    /// Returns the row of a directory that no record names.
    pub fn unknown() -> DirectoryRow {
        DirectoryRow {
            id: String::new(),
            version: None,
            active: true,
            organization: String::new(),
            name: String::new(),
            created_at: 0,
            updated_at: 0,
        }
    }
}

impl HeldKind {
    fn entity(self) -> EntityKind {
        match self {
            HeldKind::Group => EntityKind::Group,
            HeldKind::User => EntityKind::User,
        }
    }
}

impl Views {
    /// Returns every directory that a record ever named, in order of id, without those that identity
    /// providers push into: the source does not know them.
    pub fn held_directories(&self, cut: Cut) -> Vec<HeldDirectory> {
        let roster = self.directories.roster();
        walk(roster, cut, None, false, |directory| self.directories.id(directory))
            .filter(|directory| !self.is_hosted(*directory))
            .map(|directory| self.held_directory_of(directory, cut))
            .collect()
    }

    /// Returns a directory, if a record ever named it and identity providers do not push into it.
    pub fn held_directory(&self, id: &str, cut: Cut) -> Option<HeldDirectory> {
        let directory = self.directories.find(id).filter(|one| !self.is_hosted(*one))?;
        Some(self.held_directory_of(directory, cut))
    }

    fn is_hosted(&self, directory: Sym) -> bool {
        self.scim.directory(self.directories.id(directory)).is_some()
    }

    fn held_directory_of(&self, directory: Sym, cut: Cut) -> HeldDirectory {
        let id = self.directories.id(directory);
        HeldDirectory {
            id: id.to_owned(),
            row: self.seen_by(&Sight::All).directory(id, cut),
            deleted_here: self.was_deleted_by_operator(directory, cut),
        }
    }

    /// Tells if the latest activation or deletion of a directory is an operator's deletion.
    pub(crate) fn was_deleted_by_operator(&self, directory: Sym, cut: Cut) -> bool {
        let Some(directory) = self.directories.get(directory) else { return false };
        let deciding = directory.events().latest_first(cut).find(|version| version.decides());
        deciding.filter(|version| version.change == DirectoryChange::Deleted).is_some_and(
            |version| {
                let line = self.events.get(u64::from(version.place.seq));
                line.is_some_and(|(line, _)| {
                    self.events.event_types.text(line.event_type)
                        == EventType::OperatorDirectoryDeleted.name()
                })
            },
        )
    }

    /// Tells if a record ever named a user or group.
    pub fn ever_held(&self, kind: HeldKind, id: &str) -> bool {
        self.find(kind.entity(), id).is_some()
    }

    /// Returns a user or group, if it exists at the cut. O(log n).
    pub fn holding(&self, kind: HeldKind, id: &str, cut: Cut) -> Option<Holding> {
        self.holding_of(kind.entity(), self.find(kind.entity(), id)?, cut)
    }

    /// Returns the `updated_at` of the latest version of a user or group, deletions included.
    pub fn last_updated_at(&self, kind: HeldKind, id: &str, cut: Cut) -> Option<Millis> {
        let entities = self.entities(kind.entity());
        entities.get(entities.find(id)?)?.version(cut)?.place.known_updated_at()
    }

    /// Returns the `updated_at` of the latest of a directory's own events, deletions included.
    pub fn directory_updated_at(&self, id: &str, cut: Cut) -> Option<Millis> {
        let directory = self.directories.get(self.directories.find(id)?)?;
        directory.events().latest(cut)?.place.known_updated_at()
    }

    fn holding_of(&self, kind: EntityKind, sym: Sym, cut: Cut) -> Option<Holding> {
        let version = self.exists(kind, sym, cut)?;
        Some(Holding {
            row: self.seen_by(&Sight::All).row(kind, sym, version, cut),
            directory: self.directories.id(version.directory).to_owned(),
            active: version.active,
            updated_at: version.place.known_updated_at(),
        })
    }

    /// Returns users or groups of a directory: those whose ids follow `after`, among the next
    /// `limit` candidates.
    pub fn holdings(
        &self,
        kind: HeldKind,
        directory: &str,
        cut: Cut,
        after: Option<&str>,
        limit: usize,
    ) -> HoldingsStep<Holding> {
        let kind = kind.entity();
        let directory = self.directories.find(directory);
        let roster = directory.and_then(|directory| self.entities(kind).roster(directory));
        let Some(roster) = roster else { return HoldingsStep { items: Vec::new(), next: None } };
        let id = |sym| self.entities(kind).id(sym);
        let mut candidates = walk(roster, cut, after, false, id);
        step(&mut candidates, limit, id, |sym| {
            let version = self.exists(kind, sym, cut)?;
            (Some(version.directory) == directory).then(|| self.holding_of(kind, sym, cut))?
        })
    }

    /// Returns the ids of members of a group that exists: those that follow `after`, among the next
    /// `limit` candidates.
    pub fn held_members(
        &self,
        group: &str,
        cut: Cut,
        after: Option<&str>,
        limit: usize,
    ) -> HoldingsStep<String> {
        let group = self.groups.find(group);
        let living = group.filter(|group| self.exists(EntityKind::Group, *group, cut).is_some());
        let roster = living.and_then(|group| self.memberships.of_group(group));
        let Some(roster) = roster else { return HoldingsStep { items: Vec::new(), next: None } };
        let id = |pair| self.memberships.user_id(self.users.ids(), pair);
        let mut candidates = walk(roster, cut, after, false, id);
        step(&mut candidates, limit, id, |number| {
            let pair = self.memberships.get(number)?;
            self.exists(EntityKind::User, pair.user, cut)?;
            self.holds_between_living(pair, cut).then(|| id(number).to_owned())
        })
    }

    /// Tells if a membership holds at the cut, between a user and a group that exist.
    pub fn holds_membership(&self, user: &str, group: &str, cut: Cut) -> bool {
        let (Some(user), Some(group)) = (self.users.find(user), self.groups.find(group)) else {
            return false;
        };
        self.exists(EntityKind::User, user, cut).is_some()
            && self.exists(EntityKind::Group, group, cut).is_some()
            && self
                .memberships
                .find(user, group)
                .is_some_and(|pair| self.holds_between_living(pair, cut))
    }

    /// Tells if a record ever connected a user and a group.
    pub fn ever_connected(&self, user: &str, group: &str) -> bool {
        let ends = self.users.find(user).zip(self.groups.find(group));
        ends.is_some_and(|(user, group)| self.memberships.find(user, group).is_some())
    }
}

/// Takes the items of the next `limit` candidates.
fn step<'a, T>(
    candidates: &mut dyn Iterator<Item = u32>,
    limit: usize,
    id: impl Fn(u32) -> &'a str,
    judged: impl Fn(u32) -> Option<T>,
) -> HoldingsStep<T> {
    let (mut items, mut last) = (Vec::new(), None);
    for (at, candidate) in candidates.enumerate() {
        if at == limit {
            return HoldingsStep { items, next: last.map(|last| id(last).to_owned()) };
        }
        last = Some(candidate);
        items.extend(judged(candidate));
    }
    HoldingsStep { items, next: None }
}
