//! Histories: every version of one user or group that the cut sees, in order.

use core::ops::Range;

use crate::ask::causes::{Cause, Trigger};
use crate::ground::order::{Cut, IdBuffer, Millis, Place, Seq, Seq32};
use crate::sight::Seen;
use crate::state::entities::EntityKind;
use crate::state::entities::{EntityVersion, Part};

/// An event's place in the order of events. It can be compared without knowing the record: by its
/// fields, in their order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventPlace {
    /// When it happened at the source.
    pub occurred_at: Millis,
    /// True if it ends something.
    pub closing: bool,
    /// The source's `data.updated_at`, if it has one.
    pub updated_at: Option<Millis>,
    /// Its id.
    pub event_id: String,
}

/// The kind of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionKind {
    /// From an event of its own: a creation or an update.
    Explicit,
    /// From a deletion.
    Tombstone,
    /// From a membership event, standing in while no event of its own is known.
    Snapshot,
}

/// The place of a version's snapshot, and its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRef {
    /// The record whose body holds the snapshot.
    pub seq: Seq,
    /// The part of that body that it is.
    pub part: Part,
    /// Its kind.
    pub kind: VersionKind,
}

/// A version in a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    /// The version.
    pub version: VersionRef,
    /// The one before it in the history; `None` for the first, and if it is not seen.
    pub previous: Option<VersionRef>,
    /// True if a later version of the history was recorded earlier.
    pub late: bool,
    /// Its place in the history.
    pub place: EventPlace,
    /// Its event.
    pub cause: Cause,
}

/// Some versions; true if there are more after them.
pub type Versions = (Vec<VersionRow>, bool);

/// A version that the caller sees.
struct SeenVersion<'v> {
    version: &'v EntityVersion,
    /// True if the caller sees the one before it, too.
    follows: bool,
}

impl<'v> Seen<'v> {
    /// Returns at most `limit` versions of a user after a place in their order, or before it if
    /// `descending`; true if there are more. Empty for a user that no event names: see
    /// [`Seen::knows_user`].
    ///
    /// Looks at every version of the user, and writes out those that it returns.
    pub fn user_history(
        &self,
        id: &str,
        cut: Cut,
        start: Option<&EventPlace>,
        descending: bool,
        limit: usize,
    ) -> Versions {
        self.history(EntityKind::User, id, cut, start, descending, limit)
    }

    /// Does the same for a group.
    pub fn group_history(
        &self,
        id: &str,
        cut: Cut,
        start: Option<&EventPlace>,
        descending: bool,
        limit: usize,
    ) -> Versions {
        self.history(EntityKind::Group, id, cut, start, descending, limit)
    }

    fn history(
        &self,
        kind: EntityKind,
        id: &str,
        cut: Cut,
        start: Option<&EventPlace>,
        descending: bool,
        limit: usize,
    ) -> Versions {
        let versions = self.versions(kind, id, cut);
        let range = self.range_from(&versions, start, descending);
        let more = range.len() > limit;
        let shown = if descending {
            range.end.saturating_sub(limit).max(range.start)..range.end
        } else {
            range.start..range.end.min(range.start + limit)
        };
        let late = lateness(&versions);
        let row = |at: usize| self.version_row(&versions, &late, at);
        let rows = if descending {
            shown.rev().filter_map(row).collect()
        } else {
            shown.filter_map(row).collect()
        };
        (rows, more)
    }

    /// Returns the range of versions after a place in their order, or before it if descending. The
    /// place itself need not be there.
    fn range_from(
        &self,
        versions: &[SeenVersion<'_>],
        start: Option<&EventPlace>,
        descending: bool,
    ) -> Range<usize> {
        let Some(start) = start else { return 0..versions.len() };
        let compare = |version: &SeenVersion<'_>| self.compare_to(version.version.place, start);
        if descending {
            0..versions.partition_point(|version| compare(version).is_lt())
        } else {
            versions.partition_point(|version| compare(version).is_le())..versions.len()
        }
    }

    fn version_row(
        &self,
        versions: &[SeenVersion<'_>],
        late: &[bool],
        at: usize,
    ) -> Option<VersionRow> {
        let SeenVersion { version, follows } = versions.get(at)?;
        let previous = at.checked_sub(1).filter(|_| *follows);
        let previous = previous.and_then(|before| versions.get(before));
        let mut cause = self.cause_of(Trigger::Event(version.place));
        self.conceal(&mut cause);
        Some(VersionRow {
            version: version_ref(version),
            previous: previous.map(|previous| version_ref(previous.version)),
            late: late.get(at).copied().unwrap_or(false),
            place: self.event_place(version.place),
            cause,
        })
    }

    /// Returns every version that the cut sees and the caller too, in order: those of its own
    /// events, and before the first of them the snapshots that stand in.
    fn versions(&self, kind: EntityKind, id: &str, cut: Cut) -> Vec<SeenVersion<'v>> {
        let sym = self.entity_sym(kind, id, cut);
        let Some((sym, entity)) = sym.and_then(|sym| Some((sym, self.views.entity(kind, sym)?)))
        else {
            return Vec::new();
        };
        let seen = |version: &&EntityVersion| cut.sees(version.place);
        let first = entity.explicit().iter().find(seen).map(|version| version.place.occurred_at);
        let stands_in =
            |version: &&EntityVersion| first.is_none_or(|first| version.place.occurred_at < first);
        let stand_ins = entity.stand_ins().iter().filter(seen).filter(stands_in);
        let mut follows = false;
        let shown = |version: &'v EntityVersion| {
            let shown = self.sees(self.directory_of_event(kind, sym, *version), cut)
                && self.may_name(Seq::from(version.place.seq));
            let follows = core::mem::replace(&mut follows, shown);
            shown.then_some(SeenVersion { version, follows })
        };
        stand_ins.chain(entity.explicit().iter().filter(seen)).filter_map(shown).collect()
    }

    fn compare_to(&self, place: Place, other: &EventPlace) -> core::cmp::Ordering {
        let times = (place.occurred_at, place.closing, place.known_updated_at()).cmp(&(
            other.occurred_at,
            other.closing,
            other.updated_at,
        ));
        times.then_with(|| {
            self.ids.text(place.seq, &mut IdBuffer::default()).cmp(other.event_id.as_str())
        })
    }

    fn event_place(&self, place: Place) -> EventPlace {
        let event_id = self.ids.text(place.seq, &mut IdBuffer::default()).to_owned();
        EventPlace {
            occurred_at: place.occurred_at,
            closing: place.closing,
            updated_at: place.known_updated_at(),
            event_id,
        }
    }
}

/// Tells for each version if one after it was recorded earlier.
fn lateness(versions: &[SeenVersion<'_>]) -> Vec<bool> {
    let mut lowest = Seq32::MAX;
    let mut late = Vec::with_capacity(versions.len());
    for SeenVersion { version, .. } in versions.iter().rev() {
        late.push(lowest < version.place.seq);
        lowest = lowest.min(version.place.seq);
    }
    late.reverse();
    late
}

fn version_ref(version: &EntityVersion) -> VersionRef {
    let kind = match version {
        EntityVersion { deleted: true, .. } => VersionKind::Tombstone,
        EntityVersion { part: Part::Data | Part::Object, .. } => VersionKind::Explicit,
        _ => VersionKind::Snapshot,
    };
    VersionRef { seq: Seq::from(version.place.seq), part: version.part, kind }
}
