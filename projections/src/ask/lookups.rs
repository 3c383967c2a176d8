//! Single facts about one directory, user, group, policy or the list of events.

use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::page::{Page, resolve};
use crate::ground::symbols::Sym;
use crate::state::entities::EntityKind;
use crate::state::events::{EventFilter, EventRow, Start};
use crate::state::intake::Intake;
use crate::state::policies::Policy;
use crate::views::Views;

impl Views {
    /// A directory's organization; empty while unknown.
    pub fn organization(&self, directory: &str, cut: Cut) -> &str {
        self.directories
            .find(directory)
            .map_or("", |name| self.texts.text(self.organization_of(name, cut)))
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
        self.directories.find(id).is_some()
    }

    /// When the latest of a directory's own events occurred.
    pub fn directory_said_at(&self, id: &str) -> Option<Millis> {
        self.directories
            .get(self.directories.find(id)?)?
            .events()
            .newest()
            .map(|version| version.place.occurred_at)
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
        match resolve(filter.organization, |id| self.texts.find(id)) {
            Some(organization) => self.events.page(filter, organization, cut, start, limit),
            None => Page::empty(),
        }
    }

    /// What came in for a directory; `None` if nothing did.
    pub fn intake(&self, directory: &str) -> Option<Intake> {
        self.events.intake(self.directories.find(directory)?).copied()
    }

    /// The smallest `occurred_at` of what names a directory.
    pub fn directory_named_at(&self, id: &str, cut: Cut) -> Option<Millis> {
        Some(self.directories.get(self.directories.find(id)?)?.named().at(cut)?.occurred_at)
    }

    /// The smallest `occurred_at` of what speaks of a user.
    pub fn user_seen_at(&self, id: &str, cut: Cut) -> Option<Millis> {
        self.seen_at(EntityKind::User, id, cut)
    }

    /// The smallest `occurred_at` of what speaks of a group.
    pub fn group_seen_at(&self, id: &str, cut: Cut) -> Option<Millis> {
        self.seen_at(EntityKind::Group, id, cut)
    }

    /// The directory that the latest event with one gave a user; empty where none did.
    pub fn user_directory(&self, id: &str, cut: Cut) -> &str {
        self.directory_given(EntityKind::User, id, cut)
    }

    /// The directory that the latest event with one gave a group; empty where none did.
    pub fn group_directory(&self, id: &str, cut: Cut) -> &str {
        self.directory_given(EntityKind::Group, id, cut)
    }

    fn seen_at(&self, kind: EntityKind, id: &str, cut: Cut) -> Option<Millis> {
        let entities = self.entities(kind);
        Some(entities.get(entities.find(id)?)?.seen().at(cut)?.occurred_at)
    }

    fn directory_given(&self, kind: EntityKind, id: &str, cut: Cut) -> &str {
        let found = self.entities(kind).find(id);
        found.map_or("", |name| self.directories.id(self.last_directory(kind, name, cut)))
    }

    /// The number of a user or group of which anything known speaks, whenever it happened.
    pub(crate) fn heard_of(&self, kind: EntityKind, id: &str, cut: Cut) -> Option<Sym> {
        let name = self.entities(kind).find(id)?;
        self.entities(kind).get(name)?.seen().at(Cut { as_of: Millis::MAX, ..cut })?;
        Some(name)
    }
}
