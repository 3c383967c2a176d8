//! Single look-ups: facts about one directory, user or group, the policy, the list of events.

use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::page::{Page, resolve};
use crate::ground::symbols::Sym;
use crate::state::entities::EntityKind;
use crate::state::events::{EventFilter, EventRow, Start};
use crate::state::intake::Intake;
use crate::state::policies::Policy;
use crate::views::Views;

/// Something that a question asks about by its id, or a role by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// A user.
    User(&'a str),
    /// A group.
    Group(&'a str),
    /// A directory.
    Directory(&'a str),
    /// An organization.
    Organization(&'a str),
    /// A role of a mapping.
    Role(&'a str),
}

impl Views {
    /// Tells if any record up to `known_at` names it; a role, if any mapping up to then gives it.
    /// When that happened or takes effect does not matter.
    pub fn ever_named(&self, named: Named<'_>, known_at: Seq) -> bool {
        let cut = Cut { as_of: Millis::MAX, known_at };
        match named {
            Named::User(id) => self.find_known(EntityKind::User, id, cut).is_some(),
            Named::Group(id) => self.find_known(EntityKind::Group, id, cut).is_some(),
            Named::Directory(id) => self.directory_named_at(id, cut).is_some(),
            Named::Organization(id) => self
                .texts
                .find(id)
                .and_then(|organization| self.organizations_named.get(&organization))
                .is_some_and(|first| Seq::from(*first) <= known_at),
            Named::Role(role) => self
                .roles
                .iter()
                .any(|mapping| mapping.seq <= known_at && mapping.rank(role).is_some()),
        }
    }

    /// Returns a directory's organization; empty while unknown.
    pub fn organization(&self, directory: &str, cut: Cut) -> &str {
        self.directories
            .find(directory)
            .map_or("", |sym| self.texts.text(self.organization_of(sym, cut)))
    }

    /// Returns the policy in force; `None` before the first.
    pub fn policy(&self, cut: Cut) -> Option<Policy> {
        self.policies.in_force(cut).copied()
    }

    /// Returns the policy that a record set.
    pub fn policy_set_by(&self, seq: Seq) -> Option<Policy> {
        self.policies.set_by(seq).copied()
    }

    /// Tells if any event ever named a directory.
    pub fn knows_directory(&self, id: &str) -> bool {
        self.directories.find(id).is_some()
    }

    /// Returns the time of the latest of a directory's own events.
    pub fn directory_last_event_at(&self, id: &str) -> Option<Millis> {
        self.directories
            .get(self.directories.find(id)?)?
            .events()
            .newest()
            .map(|version| version.place.occurred_at)
    }

    /// Returns a page of events, in ascending order of seq.
    ///
    /// Costs the page, plus the events of the rarest index that the filter refuses.
    pub fn events(
        &self,
        filter: &EventFilter<'_>,
        cut: Cut,
        start: Start,
        limit: usize,
    ) -> Page<EventRow> {
        match resolve(filter.organization, |id| self.texts.find(id)) {
            Some(organization) => self.events.page(filter, organization, cut, start, limit),
            None => Page::empty(),
        }
    }

    /// Returns the counts of a directory's incoming events; `None` if none came.
    pub fn intake(&self, directory: &str) -> Option<Intake> {
        self.events.intake(self.directories.find(directory)?).copied()
    }

    /// Returns the smallest `occurred_at` of the events that name a directory.
    pub fn directory_named_at(&self, id: &str, cut: Cut) -> Option<Millis> {
        Some(self.directories.get(self.directories.find(id)?)?.named().at(cut)?.occurred_at)
    }

    /// Returns the smallest `occurred_at` of the events that name a user.
    pub fn user_seen_at(&self, id: &str, cut: Cut) -> Option<Millis> {
        self.seen_at(EntityKind::User, id, cut)
    }

    /// Returns the smallest `occurred_at` of the events that name a group.
    pub fn group_seen_at(&self, id: &str, cut: Cut) -> Option<Millis> {
        self.seen_at(EntityKind::Group, id, cut)
    }

    /// Returns the directory of a user's latest version that has one; empty if none has.
    pub fn user_directory(&self, id: &str, cut: Cut) -> &str {
        self.directory_of_last(EntityKind::User, id, cut)
    }

    /// Returns the directory of a group's latest version that has one; empty if none has.
    pub fn group_directory(&self, id: &str, cut: Cut) -> &str {
        self.directory_of_last(EntityKind::Group, id, cut)
    }

    fn seen_at(&self, kind: EntityKind, id: &str, cut: Cut) -> Option<Millis> {
        let entities = self.entities(kind);
        Some(entities.get(entities.find(id)?)?.seen().at(cut)?.occurred_at)
    }

    fn directory_of_last(&self, kind: EntityKind, id: &str, cut: Cut) -> &str {
        let sym = self.find(kind, id);
        sym.map_or("", |sym| self.directories.id(self.last_directory(kind, sym, cut)))
    }

    /// Returns the symbol of a user or group that any known event names, whenever it happened.
    pub(crate) fn find_known(&self, kind: EntityKind, id: &str, cut: Cut) -> Option<Sym> {
        let sym = self.find(kind, id)?;
        self.entity(kind, sym)?.seen().at(Cut { as_of: Millis::MAX, ..cut })?;
        Some(sym)
    }
}
