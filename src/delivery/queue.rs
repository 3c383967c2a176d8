//! The webhooks of an endpoint that are read and not delivered yet.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rollcall_projections::Seq;

use super::message::Message;
use super::position::{Anchor, Kept};
use crate::engine::{FeedPlace, Owed, OwedReader};
use crate::hashes::Hash;

/// The most webhooks that wait, and the bytes of their bodies from which on no more are read.
const WAITING_MAX: usize = 512;
const WAITING_BYTES: usize = 8 << 20;

/// The most webhooks that are delivered before an earlier one.
const AHEAD_MAX: usize = 65_536;

/// The webhooks that wait or are in flight, and the place up to which all are read.
pub(super) struct Queue {
    reader: Option<OwedReader>,
    through: FeedPlace,
    waiting: BTreeMap<FeedPlace, Arc<Message>>,
    waiting_bytes: usize,
    /// Those in flight, and those that wait to be sent again.
    busy: BTreeMap<FeedPlace, Arc<Message>>,
    /// The leaves of the records at which the position may be later.
    leaves: BTreeMap<Seq, Hash>,
}

impl Queue {
    /// Begins behind a place.
    pub(super) fn behind(place: FeedPlace) -> Queue {
        Queue {
            reader: Some(OwedReader::behind(place)),
            through: place,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            busy: BTreeMap::new(),
            leaves: BTreeMap::new(),
        }
    }

    /// Takes the reader, if more may be read now. It is given back by [`Queue::fill`] or
    /// [`Queue::unread`].
    pub(super) fn begin_read(
        &mut self,
        head: Seq,
        kept: &Kept,
        ordered: bool,
    ) -> Option<OwedReader> {
        let has_room = match ordered {
            true => self.waiting.is_empty() && self.busy.is_empty(),
            false => {
                self.waiting.len() < WAITING_MAX
                    && self.waiting_bytes < WAITING_BYTES
                    && kept.ahead.len() < AHEAD_MAX
            }
        };
        let has_more = self.through < FeedPlace::after(head);
        if has_room && has_more { self.reader.take() } else { None }
    }

    /// Takes back the reader after an error.
    pub(super) fn unread(&mut self) {
        self.reader = Some(OwedReader::behind(self.through));
    }

    /// Adds what was read but is not delivered yet.
    pub(super) fn fill(
        &mut self,
        reader: OwedReader,
        owed: Owed,
        messages: Vec<(FeedPlace, Message)>,
        kept: &Kept,
    ) {
        // A skip may have gone further meanwhile.
        let is_behind = owed.through < self.through;
        self.through = self.through.max(owed.through);
        self.reader = Some(if is_behind { OwedReader::behind(self.through) } else { reader });
        self.leaves.extend(owed.leaves);
        for (place, message) in messages {
            if place > kept.place && !kept.ahead.contains(&place) {
                self.put_back(place, Arc::new(message));
            }
        }
    }

    /// Lets a webhook wait.
    fn put_back(&mut self, place: FeedPlace, message: Arc<Message>) {
        self.waiting_bytes += message.body().len();
        self.waiting.insert(place, message);
    }

    /// Takes the next webhook that may be sent: the first of all, or the first that is about nothing
    /// that an earlier one is about.
    pub(super) fn take_ready(&mut self, ordered: bool) -> Option<(FeedPlace, Arc<Message>)> {
        let place = match ordered {
            true if !self.busy.is_empty() => None,
            true => self.waiting.first_key_value().map(|(place, _)| *place),
            false => {
                let subjects = |message: &Arc<Message>| message.subjects.clone();
                let mut taken: HashSet<u64> = self.busy.values().flat_map(subjects).collect();
                let ready = self.waiting.iter().find(|(_, message)| {
                    let is_free = !message.subjects.iter().any(|one| taken.contains(one));
                    taken.extend(&message.subjects);
                    is_free
                });
                ready.map(|(place, _)| *place)
            }
        }?;
        let message = self.waiting.remove(&place)?;
        self.waiting_bytes -= message.body().len();
        self.busy.insert(place, message.clone());
        Some((place, message))
    }

    /// Returns true while a webhook is in flight or is to be sent again.
    pub(super) fn is_busy(&self, place: FeedPlace) -> bool {
        self.busy.contains_key(&place)
    }

    /// Lets a webhook in flight wait again.
    pub(super) fn release(&mut self, place: FeedPlace) {
        if let Some(message) = self.busy.remove(&place) {
            self.put_back(place, message);
        }
    }

    /// Ends a webhook that is delivered.
    pub(super) fn end(&mut self, place: FeedPlace) {
        self.busy.remove(&place);
    }

    /// Returns true if webhooks wait.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Forgets all up to a place.
    pub(super) fn skip(&mut self, place: FeedPlace) {
        self.waiting.retain(|waiting, _| *waiting > place);
        self.waiting_bytes = self.waiting.values().map(|message| message.body().len()).sum();
        self.busy.retain(|busy, _| *busy > place);
        if self.through < place {
            self.through = place;
            self.reader = self.reader.take().map(|_| OwedReader::behind(place));
        }
    }

    /// Returns the place up to which everything is delivered.
    pub(super) fn delivered(&self) -> FeedPlace {
        let first = [self.waiting.first_key_value(), self.busy.first_key_value()];
        let first = first.into_iter().flatten().map(|(place, _)| *place).min();
        match first {
            None => self.through,
            Some(FeedPlace { seq, item: 0 }) => FeedPlace::after(seq.saturating_sub(1)),
            Some(FeedPlace { seq, item }) => FeedPlace { seq, item: item - 1 },
        }
    }

    /// Returns the last record up to `seq` whose leaf is known.
    pub(super) fn anchor(&self, seq: Seq) -> Option<Anchor> {
        self.leaves.range(..=seq).next_back().map(|(seq, leaf)| Anchor::new(*seq, leaf))
    }

    /// Forgets the leaves up to a record.
    pub(super) fn forget_leaves(&mut self, seq: Seq) {
        self.leaves = self.leaves.split_off(&seq.saturating_add(1));
    }
}
