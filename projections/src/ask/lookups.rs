//! Single look-ups: facts about one directory, user or group, the policy, the list of events.

use std::borrow::Cow;

use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::page::resolve;
use crate::ground::quarantine::{Quarantined, Reason};
use crate::sight::Seen;
use crate::state::entities::EntityKind;
use crate::state::events::{EventFilter, EventSight, EventsStep, Start};
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

impl Seen<'_> {
    /// Tells if any known record names it; a role, if any known mapping gives it. When that
    /// happened or takes effect does not matter.
    pub fn ever_named(&self, named: Named<'_>, cut: Cut) -> bool {
        let latest = Cut { as_of: Millis::MAX, ..cut };
        match named {
            Named::User(id) => self.knows_user(id, cut),
            Named::Group(id) => self.knows_group(id, cut),
            Named::Directory(id) => self
                .directory_sym(id, cut)
                .and_then(|directory| self.directories.get(directory)?.named().at(latest))
                .is_some(),
            Named::Organization(id) => self
                .organization_sym(id)
                .and_then(|organization| self.organizations_named.get(&organization))
                .is_some_and(|first| Seq::from(*first) <= cut.known_at),
            Named::Role(role) => self
                .roles
                .iter()
                .any(|mapping| mapping.seq <= cut.known_at && mapping.rank(role).is_some()),
        }
    }

    /// Tells if any known event names a user, whenever it happened.
    pub fn knows_user(&self, id: &str, cut: Cut) -> bool {
        self.known_sym(EntityKind::User, id, cut).is_some()
    }

    /// Tells if any known event names a group, whenever it happened.
    pub fn knows_group(&self, id: &str, cut: Cut) -> bool {
        self.known_sym(EntityKind::Group, id, cut).is_some()
    }

    /// Tells if any event ever named a directory.
    pub fn knows_directory(&self, id: &str) -> bool {
        self.directory_sym(id, Cut::LATEST).is_some()
    }

    /// Returns the next events of a walk over the list from `start`, at most `limit`.
    pub fn events_step(
        &self,
        filter: &EventFilter<'_>,
        cut: Cut,
        start: Start,
        limit: usize,
    ) -> EventsStep {
        let Some(organization) = resolve(filter.organization, |id| self.organization_sym(id))
        else {
            return EventsStep { items: Vec::new(), next: None };
        };
        let sight = EventSight { organization, own: self.own() };
        self.events.step(filter, sight, cut, start, limit)
    }

    /// Iterates over the types of the events that are listed up to a record, in the order in which
    /// they first came.
    pub fn event_types_listed(&self, known_at: Seq) -> impl Iterator<Item = &str> {
        self.views.events.types_recorded(known_at)
    }

    /// Returns the organization of an event, as it was known when the event was folded; empty if
    /// there is none, or if the record is not listed.
    pub fn event_organization(&self, seq: Seq) -> &str {
        let line = self.views.events.get(seq);
        line.map_or("", |(line, _)| self.views.texts.text(line.organization))
    }

    /// Returns what is listed in the quarantine, in order of seq. A record that is not an event
    /// belongs to no organization.
    pub fn quarantine(&self) -> Cow<'_, [Quarantined]> {
        self.entries_seen(self.views.quarantine())
    }

    /// Returns the records that could not be used when they were recorded, and can now, in order of
    /// seq, with the reason of then. They have their full effect, and are neither listed as events
    /// nor in the feed of changes.
    pub fn resolved(&self) -> Cow<'_, [Quarantined]> {
        self.entries_seen(&self.views.resolved)
    }

    /// Returns those of some entries that are seen.
    fn entries_seen<'a>(&'a self, entries: &'a [Quarantined]) -> Cow<'a, [Quarantined]> {
        if self.own().is_none() {
            return Cow::Borrowed(entries);
        }
        let seen = entries.iter().filter(|entry| self.sees_event(entry.seq));
        Cow::Owned(seen.copied().collect())
    }

    /// Counts what is listed in the quarantine up to record `until`, by the place of the reason in
    /// [`Reason::CODES`]: `limit` entries from number `first` on. Returns the number at which to
    /// continue, if there may be more.
    pub fn count_quarantine(
        &self,
        first: usize,
        until: Seq,
        limit: usize,
        counts: &mut [u64; Reason::CODES.len()],
    ) -> Option<usize> {
        let all = self.views.quarantine().get(first..).unwrap_or_default();
        let wanted = |entry: &&Quarantined| entry.seq <= until && self.sees_event(entry.seq);
        for entry in all.iter().take(limit).filter(wanted) {
            let code = entry.reason.code();
            for (count, _) in counts.iter_mut().zip(Reason::CODES).filter(|(_, one)| *one == code) {
                *count += 1;
            }
        }
        (all.len() > limit).then_some(first + limit)
    }

    /// Returns the counts of a directory's incoming events; `None` if none came. For a caller who
    /// sees some organizations only, counts the events that tell of the directory's own alone.
    pub fn intake(&self, directory: &str, cut: Cut) -> Option<Intake> {
        let directory = self.directory_sym(directory, cut)?;
        let intake = match self.own() {
            None => self.events.intake(directory),
            Some(_) => self.events.intake_of_one(directory, self.organization_of(directory, cut)),
        };
        intake.copied()
    }
}

impl Views {
    /// Returns the records up to one that happened after a moment and up to another, in order of
    /// seq. `None` if they are more than `limit`, or far apart in the log.
    pub fn records_between(
        &self,
        after: Millis,
        until: Millis,
        known_at: Seq,
        limit: usize,
    ) -> Option<Vec<Seq>> {
        self.events.happened_between(after, until, known_at, limit)
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

    /// Returns the time of the latest of a directory's own events.
    pub fn directory_last_event_at(&self, id: &str) -> Option<Millis> {
        self.directories
            .get(self.directories.find(id)?)?
            .events()
            .newest()
            .map(|version| version.place.occurred_at)
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
        Some(entities.get(entities.find(id)?)?.first_seen(cut)?.occurred_at)
    }

    fn directory_of_last(&self, kind: EntityKind, id: &str, cut: Cut) -> &str {
        let sym = self.find(kind, id);
        sym.map_or("", |sym| self.directories.id(self.last_directory(kind, sym, cut)))
    }
}
