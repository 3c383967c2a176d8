//! Judging: deciding from timelines alone if something is alive or holds at a cut.

use smallvec::SmallVec;

use crate::ground::fact::InactiveUsers;
use crate::ground::order::{Cut, Millis, Place, Seq};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::timeline::Placed;
use crate::state::directories::Directory;
use crate::state::entities::{EntityKind, EntityVersion};
use crate::state::memberships::Pair;
use crate::state::policies::Policy;
use crate::views::Views;

/// The groups of one user with their versions, in order of id.
pub(crate) type MemberGroups<'a> = SmallVec<[(Sym, &'a EntityVersion); 8]>;

impl Views {
    /// Returns the entity's version at the cut, if it is alive.
    pub(crate) fn alive(&self, kind: EntityKind, sym: Sym, cut: Cut) -> Option<&EntityVersion> {
        let version = self.exists(kind, sym, cut)?;
        let reads_as_deleted = |policy: &Policy| policy.inactive_users == InactiveUsers::Delete;
        if matches!(kind, EntityKind::User)
            && !version.active
            && self.policies.in_force(cut).is_some_and(reads_as_deleted)
        {
            return None;
        }
        Some(version)
    }

    /// Returns the entity's version at the cut, if it is alive under any policy.
    ///
    /// Indexes follow this and not [`Views::alive`]: a policy may be set for the past at any time,
    /// and must not touch every user.
    pub(crate) fn exists(&self, kind: EntityKind, sym: Sym, cut: Cut) -> Option<&EntityVersion> {
        let version = self.entities(kind).get(sym)?.version(cut)?;
        if version.deleted {
            return None;
        }
        (!self.ended(version, cut)).then_some(version)
    }

    /// Tells if a version's directory is deleted, or was deleted after it.
    pub(crate) fn ended(&self, version: &EntityVersion, cut: Cut) -> bool {
        self.directories
            .get(version.directory)
            .is_some_and(|directory| self.ended_by(directory, version, cut))
    }

    /// Tells if a directory is deleted, or was deleted after a version.
    pub(crate) fn ended_by(
        &self,
        directory: &Directory,
        version: &EntityVersion,
        cut: Cut,
    ) -> bool {
        directory.is_deleted(cut)
            || directory
                .deletions()
                .latest(cut)
                .is_some_and(|deletion| !self.ids.is_later(version.place, *deletion))
    }

    /// Tells if the membership holds, the group's end left aside.
    pub(crate) fn user_end_holds(&self, pair: &Pair, cut: Cut) -> bool {
        self.outlasts_ends(pair, cut, None)
            && self.exists(EntityKind::User, pair.user, cut).is_some()
    }

    /// Tells if the membership holds. The caller has checked that its user and its group are
    /// alive.
    pub(crate) fn holds_between_living(&self, pair: &Pair, cut: Cut) -> bool {
        self.outlasts_ends(
            pair,
            cut,
            self.groups.get(pair.group).and_then(|group| group.tombstones().latest(cut)),
        )
    }

    /// Tells if the pair's latest grant is an addition, later than every end of its user and its
    /// directory, and than `end`.
    fn outlasts_ends(&self, pair: &Pair, cut: Cut, end: Option<&Place>) -> bool {
        let Some(grant) = pair.grants().latest(cut).filter(|grant| grant.added()) else {
            return false;
        };
        let user = self.users.get(pair.user).and_then(|user| user.tombstones().latest(cut));
        let directory = self
            .directories
            .get(grant.directory())
            .and_then(|directory| directory.deletions().latest(cut));
        let place = grant.place();
        [user, directory, end].into_iter().flatten().all(|end| self.ids.is_later(place, *end))
    }

    /// Returns the organization that a version shows: its own, else its directory's.
    pub(crate) fn shown_organization(&self, version: &EntityVersion, cut: Cut) -> Sym {
        if version.organization != NO_SYM {
            return version.organization;
        }
        self.organization_of(version.directory, cut)
    }

    pub(crate) fn organization_of(&self, directory: Sym, cut: Cut) -> Sym {
        self.directories.get(directory).map_or(NO_SYM, |directory| directory.organization(cut))
    }

    /// Returns the directory of an entity's latest version that has one, else that of the snapshot
    /// in a membership that stands in for it.
    pub(crate) fn last_directory(&self, kind: EntityKind, sym: Sym, cut: Cut) -> Sym {
        let mut versions = self
            .entities(kind)
            .get(sym)
            .into_iter()
            .flat_map(|entity| entity.explicit().latest_first(cut));
        let placed = versions.find(|version| version.directory != NO_SYM);
        let placed = placed.map(|version| version.directory);
        placed.or_else(|| self.home(kind, sym, cut)).unwrap_or(NO_SYM)
    }

    /// Returns the directory that an event belongs to: a deletion may leave out its own.
    pub(crate) fn directory_of_event(
        &self,
        kind: EntityKind,
        sym: Sym,
        version: EntityVersion,
    ) -> Sym {
        let Place { occurred_at, seq, .. } = version.place;
        let then = Cut { as_of: occurred_at, known_at: Seq::from(seq) };
        if version.directory == NO_SYM {
            self.last_directory(kind, sym, then)
        } else {
            version.directory
        }
    }

    /// Tells if a user has access: `version`, alive at the cut, is active, and so is its directory.
    pub(crate) fn has_access(&self, version: &EntityVersion, cut: Cut) -> bool {
        version.active
            && self
                .directories
                .get(version.directory)
                .is_none_or(|directory| directory.is_active(cut))
    }

    /// Returns the groups that a user is a member of, with their versions.
    pub(crate) fn groups_of(&self, user: Sym, cut: Cut) -> MemberGroups<'_> {
        let groups = self.memberships.of_user(user).iter().filter_map(|number| {
            let pair = self.memberships.get(*number)?;
            let group = self.alive(EntityKind::Group, pair.group, cut)?;
            self.holds_between_living(pair, cut).then_some((pair.group, group))
        });
        groups.collect()
    }

    /// Returns the directory of an entity's latest version that has one.
    pub(crate) fn directory_then(&self, kind: EntityKind, sym: Sym, then: Cut) -> Sym {
        self.placed_version(kind, sym, then).map_or(NO_SYM, |version| version.directory)
    }

    /// Returns an entity's latest version that has a directory: a deletion may leave it out.
    pub(crate) fn placed_version(
        &self,
        kind: EntityKind,
        sym: Sym,
        then: Cut,
    ) -> Option<&EntityVersion> {
        self.last_version(kind, sym, then, |version| version.directory != NO_SYM)
    }

    /// Returns the directory that a user or group is in, or was in when it ended: a deletion moves
    /// nothing. `None` before its first version.
    pub(crate) fn home(&self, kind: EntityKind, sym: Sym, cut: Cut) -> Option<Sym> {
        let lived = |version: &EntityVersion| !version.deleted && version.directory != NO_SYM;
        let version = self.last_version(kind, sym, cut, lived).filter(|version| lived(version));
        let version = version.or_else(|| self.placed_version(kind, sym, cut))?;
        Some(version.directory).filter(|directory| *directory != NO_SYM)
    }

    /// Tells if any known event names a user or group, whenever it happened.
    pub(crate) fn is_known(&self, kind: EntityKind, sym: Sym, cut: Cut) -> bool {
        let entity = self.entity(kind, sym);
        let latest = Cut { as_of: Millis::MAX, ..cut };
        entity.is_some_and(|entity| entity.first_seen(latest).is_some())
    }

    /// Returns the latest explicit version of a kind, else the latest snapshot from before all
    /// explicit ones.
    pub(crate) fn last_version(
        &self,
        kind: EntityKind,
        sym: Sym,
        then: Cut,
        wanted: impl Fn(&EntityVersion) -> bool,
    ) -> Option<&EntityVersion> {
        let entity = self.entity(kind, sym)?;
        let explicit = entity.explicit().latest_first(then).find(|version| wanted(version));
        explicit.or_else(|| entity.stand_ins().latest(entity.before_explicit(then)))
    }
}
