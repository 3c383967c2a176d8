//! Histories: every version of one user or group that the cut sees, in order.

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
        KnownVersions {
            entity,
            cut,
            stand_ins: entity.stand_ins().count_until(entity.before_explicit(cut).as_of),
            explicit: entity.explicit().count_until(cut.as_of),
        }
    }

    fn len(&self) -> usize {
        self.stand_ins + self.explicit
    }

    /// Returns the version at a position.
    fn get(&self, at: usize) -> Option<&'v EntityVersion> {
        match at.checked_sub(self.stand_ins) {
            None => self.entity.stand_ins().get(at),
            Some(at) => self.entity.explicit().get(at),
        }
    }

    /// Returns the first position from one on that has a known version.
    fn next(&self, at: usize) -> Option<usize> {
        let (known_at, stand_ins) = (self.cut.known_at32(), self.stand_ins);
        let of_stand_ins = self.entity.stand_ins().next_known(at, known_at);
        let explicit = at.saturating_sub(stand_ins);
        let next = of_stand_ins
            .filter(|at| *at < stand_ins)
            .or_else(|| Some(self.entity.explicit().next_known(explicit, known_at)? + stand_ins));
        next.filter(|at| *at < self.len())
    }

    /// Returns the last position before one that has a known version.
    fn last(&self, before: usize) -> Option<usize> {
        let (known_at, stand_ins) = (self.cut.known_at32(), self.stand_ins);
        let explicit = before.min(self.len()).saturating_sub(stand_ins);
        let of_explicit = self.entity.explicit().last_known(explicit, known_at);
        of_explicit
            .map(|at| at + stand_ins)
            .or_else(|| self.entity.stand_ins().last_known(before.min(stand_ins), known_at))
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

impl<'v> Seen<'v> {
    /// Returns at most `limit` versions of a user after a place in their order, or before it if
    /// `descending`; true if there are more. Empty for a user that no event names: see
    /// [`Seen::knows_user`].
    ///
    /// Costs a look-up for each version that it returns, and for each before those that is not
    /// seen.
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
        let found = self.entity_sym(kind, id, cut);
        let entity = found.and_then(|sym| Some((sym, self.views.entity(kind, sym)?)));
        let Some((sym, entity)) = entity else { return (Vec::new(), false) };
        let shows = |version: &EntityVersion| {
            self.own().is_none()
                || self.sees(self.directory_of_event(kind, sym, *version), cut)
                    && self.may_name(Seq::from(version.place.seq))
        };
        self.page_of_history(&KnownVersions::of(entity, cut), shows, start, descending, limit)
    }

    /// Returns a page of a history; `shows` tells if a version is seen.
    fn page_of_history(
        &self,
        known: &KnownVersions<'v>,
        shows: impl Fn(&EntityVersion) -> bool,
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
        let next = |at: usize| if descending { known.last(at) } else { known.next(at + 1) };
        let first = if descending { known.last(begin) } else { known.next(begin) };
        let mut rows = Vec::new();
        for at in core::iter::successors(first, |at| next(*at)) {
            let Some(version) = known.get(at).filter(|version| shows(version)) else { continue };
            if rows.len() == limit {
                return (rows, true);
            }
            let before = known.last(at).and_then(|before| known.get(before));
            let mut cause = self.cause_of(Trigger::Event(version.place));
            self.conceal(&mut cause);
            rows.push(VersionRow {
                version: version_ref(version),
                previous: before.filter(|before| shows(before)).map(version_ref),
                late: self.is_late(known, at, &shows),
                place: self.event_place(version.place),
                cause,
            });
        }
        (rows, false)
    }

    /// Tells if a later version of a history, which is seen, was recorded earlier than the one at a
    /// position.
    fn is_late(
        &self,
        known: &KnownVersions<'v>,
        at: usize,
        shows: impl Fn(&EntityVersion) -> bool,
    ) -> bool {
        let Some(version) = known.get(at) else { return false };
        let seq = version.place.seq;
        if known.lowest_seq_after(at) >= seq {
            return false;
        }
        if self.own().is_none() {
            return true;
        }
        let later = core::iter::successors(known.next(at + 1), |at| known.next(at + 1));
        let mut later = later.filter_map(|at| known.get(at));
        later.any(|later| later.place.seq < seq && shows(later))
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

fn version_ref(version: &EntityVersion) -> VersionRef {
    let kind = match version {
        EntityVersion { deleted: true, .. } => VersionKind::Tombstone,
        EntityVersion { part: Part::Data | Part::Object, .. } => VersionKind::Explicit,
        _ => VersionKind::Snapshot,
    };
    VersionRef { seq: Seq::from(version.place.seq), part: version.part, kind }
}
