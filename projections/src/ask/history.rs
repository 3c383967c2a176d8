//! Histories: every version of one user or group that the cut sees, in order.

use core::ops::Range;

use crate::ask::causes::{Cause, Trigger};
use crate::ground::order::{Cut, IdBuffer, Millis, Place, Seq, Seq32};
use crate::sight::Seen;
use crate::state::entities::{Entity, EntityKind, EntityVersion, Part};

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

/// The versions of a history by their positions: the snapshots from before everything that the
/// source says of the thing itself, then those of its own events. A position may have a version
/// that is not known at the cut.
struct KnownVersions<'v> {
    entity: &'v Entity,
    cut: Cut,
    stand_ins: usize,
    explicit: usize,
}

impl<'v> KnownVersions<'v> {
    fn of(entity: &'v Entity, cut: Cut) -> KnownVersions<'v> {
        let first = entity.explicit().iter().find(|version| cut.sees(version.place));
        let until = first.map_or(cut.as_of, |version| version.place.occurred_at.saturating_sub(1));
        KnownVersions {
            entity,
            cut,
            stand_ins: entity.stand_ins().count_until(until.min(cut.as_of)),
            explicit: entity.explicit().count_until(cut.as_of),
        }
    }

    fn len(&self) -> usize {
        self.stand_ins + self.explicit
    }

    /// Returns the version at a position, if it is known.
    fn get(&self, at: usize) -> Option<&'v EntityVersion> {
        let version = match at.checked_sub(self.stand_ins) {
            None => self.entity.stand_ins().get(at),
            Some(at) => self.entity.explicit().get(at),
        };
        version.filter(|version| self.cut.sees(version.place))
    }

    /// Returns the last known version before a position.
    fn before(&self, at: usize) -> Option<&'v EntityVersion> {
        (0..at).rev().find_map(|before| self.get(before))
    }

    fn partition_point(&self, is_before: impl Fn(&EntityVersion) -> bool) -> usize {
        let explicit = self.entity.explicit().partition_point(&is_before).min(self.explicit);
        if explicit > 0 {
            return self.stand_ins + explicit;
        }
        self.entity.stand_ins().partition_point(is_before).min(self.stand_ins)
    }

    /// Returns the lowest seq of the versions after a position. One that is lower than that of a
    /// known version is known as well.
    fn lowest_seq_after(&self, at: usize) -> Seq32 {
        let after = at + 1;
        let explicit = after.saturating_sub(self.stand_ins);
        let of_explicit = self.entity.explicit().lowest_seq(explicit, self.explicit);
        of_explicit.min(self.entity.stand_ins().lowest_seq(after, self.stand_ins))
    }
}

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
    /// Costs a look-up for each version that it returns, for a caller who sees everything; another
    /// looks at every version of the user.
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
        if self.own().is_none() {
            let entity = self.find(kind, id).and_then(|sym| self.views.entity(kind, sym));
            let known = entity.map(|entity| KnownVersions::of(entity, cut));
            return known.map_or((Vec::new(), false), |known| {
                self.page_of_history(&known, start, descending, limit)
            });
        }
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

    /// Returns a page of a history of which everything is seen.
    fn page_of_history(
        &self,
        known: &KnownVersions<'v>,
        start: Option<&EventPlace>,
        descending: bool,
        limit: usize,
    ) -> Versions {
        let is_before = |version: &EntityVersion| {
            start.is_some_and(|start| {
                let order = self.compare_to(version.place, start);
                if descending { order.is_lt() } else { order.is_le() }
            })
        };
        let begin = match start {
            None if descending => known.len(),
            _ => known.partition_point(is_before),
        };
        let positions: Box<dyn Iterator<Item = usize>> = if descending {
            Box::new((0..begin.min(known.len())).rev())
        } else {
            Box::new(begin..known.len())
        };
        let mut rows = Vec::new();
        for at in positions {
            let Some(version) = known.get(at) else { continue };
            if rows.len() == limit {
                return (rows, true);
            }
            rows.push(VersionRow {
                version: version_ref(version),
                previous: known.before(at).map(version_ref),
                late: known.lowest_seq_after(at) < version.place.seq,
                place: self.event_place(version.place),
                cause: self.cause_of(Trigger::Event(version.place)),
            });
        }
        (rows, false)
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
