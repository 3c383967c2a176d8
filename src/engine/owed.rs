//! What is owed to a receiver of webhooks: for each record its own event, then its consequences, in
//! the order of the log.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use rollcall_projections::{
    AccessChange, Cut, Effect, EventFilter, EventRow, Millis, Seq, Sight, Start, events_in_steps,
};
use tokio::sync::watch;

use super::{Engine, FeedCursor, FeedPlace, PageBounds, show_change};
use crate::documents::show_event;
use crate::hashes::Hash;
use crate::json::push_string;
use crate::log::{ReadError, Record};
use crate::time;

/// The most events, and the most consequences, that are read at once.
const EVENTS: usize = 64;
const CHANGES: usize = 64;

/// The bytes of bodies after which no more are read at once. One body may be larger.
const BODY_BYTES: usize = 2 << 20;

const BOUNDS: PageBounds =
    PageBounds { time: Duration::from_millis(8), work_min: 4096, step_work: 4096 };

/// The types of consequences. They are not recorded, so no record has one of them.
pub const CONSEQUENCES: [&str; 6] = [
    "rollcall.access.granted",
    "rollcall.access.ended",
    "rollcall.access.restored",
    "rollcall.role.gained",
    "rollcall.role.lost",
    "rollcall.history.changed",
];

fn consequence(effect: &Effect) -> &'static str {
    let [granted, ended, restored, gained, lost, history] = CONSEQUENCES;
    match effect {
        Effect::AccessGranted => granted,
        Effect::AccessEnded(_) => ended,
        Effect::AccessRestored => restored,
        Effect::RoleGained(_) => gained,
        Effect::RoleLost(_) => lost,
        Effect::HistoryChanged => history,
    }
}

/// The events and consequences that a receiver wants.
pub trait Selection {
    /// Tells if it wants a type.
    fn wants(&self, event_type: &str) -> bool;

    /// Tells if it wants what is of an organization; empty for what is of none.
    fn wants_organization(&self, organization: &str) -> bool;
}

/// One webhook that is owed.
#[derive(Debug)]
pub struct OwedItem {
    /// Its place: the record, and the number of the consequence; 0 for the record's own event.
    pub place: FeedPlace,
    /// The event, in the shape of the Events API.
    pub json: Vec<u8>,
}

/// A stretch of what is owed.
#[derive(Debug)]
pub struct Owed {
    /// The webhooks, in order.
    pub items: Vec<OwedItem>,
    /// The place up to which all that is owed is in `items` or was read before.
    pub through: FeedPlace,
    /// The leaves of the records that were read.
    pub leaves: BTreeMap<Seq, Hash>,
}

/// A place up to which what is owed has been read.
#[derive(Debug)]
pub struct OwedReader {
    through: FeedPlace,
    feed: FeedCursor,
    /// Consequences behind `through` that are read already, up to `feed`.
    ahead: VecDeque<(FeedPlace, AccessChange)>,
}

impl OwedReader {
    /// Begins behind a place. A place within a record is behind the record's own event.
    pub fn behind(place: FeedPlace) -> OwedReader {
        OwedReader { through: place, feed: place.into(), ahead: VecDeque::new() }
    }

    /// Returns the place up to which all has been read.
    pub fn through(&self) -> FeedPlace {
        self.through
    }
}

impl Engine {
    /// Returns the newest folded record, again and again.
    pub fn folded_heads(&self) -> watch::Receiver<Seq> {
        self.folded.subscribe()
    }

    /// Returns the leaf of a record.
    ///
    /// # Errors
    /// If the record does not exist, is lost or is damaged.
    pub fn leaf(&self, seq: Seq) -> Result<Hash, ReadError> {
        self.record(seq).map(|record| record.leaf())
    }

    /// Reads some of what is owed, and moves `reader` behind it. Blocks while it reads the log.
    ///
    /// # Errors
    /// The first record that cannot be read; `reader` has not moved then.
    pub fn owed(
        &self,
        selection: &dyn Selection,
        reader: &mut OwedReader,
    ) -> Result<Owed, ReadError> {
        let head = self.folded_head();
        let (rows, last) = self.owed_rows(selection, reader.through.seq, head);
        let all = FeedPlace::after(last);
        let end = if CONSEQUENCES.iter().any(|name| selection.wants(name)) {
            self.read_ahead(reader, all)?;
            all.min(reader.feed.place)
        } else {
            reader.feed = all.into();
            all
        };
        let rows = rows.into_iter().filter(|row| row.seq <= end.seq).collect();
        let changes = reader.ahead.partition_point(|(place, _)| *place <= end);
        let read = self.read_owed(selection, rows, reader, 0..changes, end)?;
        reader.ahead.retain(|(place, _)| *place > read.through);
        reader.through = read.through;
        Ok(read)
    }

    /// Returns the next events that are wanted, and the last record up to which there are no
    /// others.
    fn owed_rows(&self, selection: &dyn Selection, after: Seq, head: Seq) -> (Vec<EventRow>, Seq) {
        let event_types: Vec<String> = {
            let views = self.views();
            let seen = views.seen_by(&Sight::All);
            let wanted = seen.event_types_listed(head).filter(|name| selection.wants(name));
            wanted.map(str::to_owned).collect()
        };
        if event_types.is_empty() {
            return (Vec::new(), head);
        }
        let filter =
            EventFilter { event_types: &event_types, organization: None, from: None, until: None };
        let cut = Cut { as_of: Millis::MAX, known_at: head };
        let page = events_in_steps(Start::After(after), EVENTS, |start, limit| {
            self.views().seen_by(&Sight::All).events_step(&filter, cut, start, limit)
        });
        let last = page.items.last().filter(|_| page.more_after).map_or(head, |row| row.seq);
        let views = self.views();
        let seen = views.seen_by(&Sight::All);
        let wanted =
            |row: &EventRow| selection.wants_organization(seen.event_organization(row.seq));
        (page.items.into_iter().filter(wanted).collect(), last)
    }

    /// Reads consequences ahead until some are there, or the feed is read up to `end`.
    fn read_ahead(&self, reader: &mut OwedReader, end: FeedPlace) -> Result<(), ReadError> {
        while reader.feed.place < end && reader.ahead.len() < CHANGES && !self.is_shutting_down() {
            let limit = CHANGES - reader.ahead.len();
            let feed = self.feed_within(&Sight::All, &reader.feed, limit, &BOUNDS)?;
            reader.ahead.extend(feed.items);
            reader.feed = feed.next;
        }
        Ok(())
    }

    /// Reads the records of events and consequences, as far as there is room.
    fn read_owed(
        &self,
        selection: &dyn Selection,
        rows: Vec<EventRow>,
        reader: &OwedReader,
        changes: Range<usize>,
        end: FeedPlace,
    ) -> Result<Owed, ReadError> {
        let wanted = |change: &AccessChange| {
            selection.wants(consequence(&change.became))
                && selection.wants_organization(&change.organization)
        };
        let changes = reader.ahead.range(changes).filter(|(_, change)| wanted(change));
        let mut by_record: BTreeMap<Seq, OwedOf<'_>> = BTreeMap::new();
        for row in rows {
            by_record.entry(row.seq).or_default().event = Some(row);
        }
        for (place, change) in changes {
            by_record.entry(place.seq).or_default().changes.push((*place, change));
        }
        let seqs: Vec<Seq> = by_record.keys().copied().collect();
        let (records, last) = self.read_records(&seqs)?;
        let through = last.map_or(end, |last| end.min(FeedPlace::after(last)));
        let mut owed = Owed { items: Vec::new(), through, leaves: BTreeMap::new() };
        for (seq, of_record) in by_record.range(..=through.seq) {
            let record = records.get(seq);
            if let Some(record) = record {
                owed.leaves.insert(*seq, record.leaf());
            }
            if let Some((row, record)) = of_record.event.zip(record) {
                let place = FeedPlace { seq: *seq, item: 0 };
                let json = show_event(&record.body, row, &self.views).json;
                owed.items.push(OwedItem { place, json });
            }
            let consequences = of_record.changes.iter().filter(|(place, _)| *place <= through);
            owed.items.extend(
                consequences.map(|(place, change)| OwedItem {
                    place: *place,
                    json: event_of(*place, change),
                }),
            );
        }
        Ok(owed)
    }

    /// Reads records in order until there is no more room. Returns them, and the last one that was
    /// read if it is not the last one asked for. Lost records are left out.
    fn read_records(
        &self,
        seqs: &[Seq],
    ) -> Result<(BTreeMap<Seq, Record>, Option<Seq>), ReadError> {
        let (mut records, mut bytes) = (BTreeMap::new(), 0);
        for run in seqs.chunk_by(|one, next| one + 1 == *next) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let mut after = first - 1;
            while after < *last {
                if bytes >= BODY_BYTES {
                    return Ok((records, Some(after)));
                }
                let read = self.log.read(after, (last - after) as usize, BODY_BYTES - bytes)?;
                let read: Vec<Record> =
                    read.into_iter().filter(|record| record.seq <= *last).collect();
                after = read.last().map_or(*last, |record| record.seq);
                bytes += read.iter().map(|record| record.body.len()).sum::<usize>();
                records.extend(read.into_iter().map(|record| (record.seq, record)));
            }
        }
        Ok((records, None))
    }
}

/// What is owed for one record.
#[derive(Default)]
struct OwedOf<'a> {
    event: Option<EventRow>,
    changes: Vec<(FeedPlace, &'a AccessChange)>,
}

/// Writes a consequence as an event.
fn event_of(place: FeedPlace, change: &AccessChange) -> Vec<u8> {
    let mut out = br#"{"object":"event","id":"change_"#.to_vec();
    out.extend(place.to_string().bytes());
    out.extend(br#"","event":"#);
    push_string(&mut out, consequence(&change.became));
    out.extend(br#","data":"#);
    out.extend(show_change(place, change));
    out.extend(br#","created_at":"#);
    push_string(&mut out, &time::format(change.occurred_at));
    out.extend(br#","context":{}}"#);
    out
}
