//! Webhooks that are read and not delivered yet, each behind the earlier ones about the same.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::Message;
use crate::engine::{FeedPlace, OwedReader};

/// The condition of a webhook in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is not sent yet.
    Waiting,
    /// It is in flight since a moment.
    Busy(Instant),
    /// It has failed, and is sent again later.
    Resting,
}

/// A webhook in a lane.
struct Item {
    message: Arc<Message>,
    stage: Stage,
    /// The number of its subjects that an earlier webhook is about.
    behind: usize,
}

/// A stretch of the log that is read in order, and its webhooks. One is ready once it is the first
/// about each of its subjects.
pub(super) struct Lane {
    /// `None` while a thread reads with it.
    pub(super) reader: Option<OwedReader>,
    /// The place up to which all is read.
    pub(super) through: FeedPlace,
    items: BTreeMap<FeedPlace, Item>,
    /// The bytes of all bodies.
    bytes: usize,
    /// The webhooks about each subject, in order.
    by_subject: HashMap<u64, VecDeque<FeedPlace>>,
    ready: BTreeSet<FeedPlace>,
}

impl Lane {
    /// Begins behind a place.
    pub(super) fn behind(place: FeedPlace) -> Lane {
        Lane {
            reader: Some(OwedReader::behind(place)),
            through: place,
            items: BTreeMap::new(),
            bytes: 0,
            by_subject: HashMap::new(),
            ready: BTreeSet::new(),
        }
    }

    /// Takes back the reader, which has read up to a place.
    pub(super) fn read_to(&mut self, through: FeedPlace, reader: OwedReader) {
        // A skip may have gone further meanwhile, or the reader may be too far.
        self.through = self.through.max(through);
        let fits = reader.through() == self.through;
        self.reader = Some(if fits { reader } else { OwedReader::behind(self.through) });
    }

    /// Adds a webhook behind all others.
    pub(super) fn insert(&mut self, place: FeedPlace, message: Arc<Message>) {
        if self.items.last_key_value().is_some_and(|(last, _)| *last >= place) {
            return;
        }
        let mut behind = 0;
        for subject in &message.subjects {
            let places = self.by_subject.entry(*subject).or_default();
            behind += usize::from(!places.is_empty());
            places.push_back(place);
        }
        if behind == 0 {
            self.ready.insert(place);
        }
        self.bytes += message.body().len();
        self.items.insert(place, Item { message, stage: Stage::Waiting, behind });
    }

    /// Takes the first webhook that is ready, which is in flight from now on.
    pub(super) fn take(&mut self, now: Instant) -> Option<(FeedPlace, Arc<Message>)> {
        let place = self.ready.pop_first()?;
        self.send(place, now).map(|message| (place, message))
    }

    /// Takes a webhook that rests or is ready.
    pub(super) fn send(&mut self, place: FeedPlace, now: Instant) -> Option<Arc<Message>> {
        let item = self.items.get_mut(&place)?;
        item.stage = Stage::Busy(now);
        Some(item.message.clone())
    }

    /// Lets a webhook that has failed rest. Returns false if it is not here.
    pub(super) fn rest(&mut self, place: FeedPlace) -> bool {
        let item = self.items.get_mut(&place);
        item.map(|item| item.stage = Stage::Resting).is_some()
    }

    /// Removes a webhook. Those behind it may be ready then. Returns its subjects.
    pub(super) fn remove(&mut self, place: FeedPlace) -> Option<Vec<u64>> {
        let item = self.items.remove(&place)?;
        self.ready.remove(&place);
        self.bytes -= item.message.body().len();
        for subject in &item.message.subjects {
            self.leave(*subject, place);
        }
        Some(item.message.subjects.clone())
    }

    fn leave(&mut self, subject: u64, place: FeedPlace) {
        let Some(places) = self.by_subject.get_mut(&subject) else { return };
        if places.back() == Some(&place) {
            places.pop_back();
        } else if places.front() == Some(&place) {
            places.pop_front();
            let next = places.front().copied();
            if let Some((next, item)) =
                next.and_then(|next| Some((next, self.items.get_mut(&next)?)))
            {
                item.behind = item.behind.saturating_sub(1);
                if item.behind == 0 {
                    self.ready.insert(next);
                }
            }
        } else {
            places.retain(|one| *one != place);
        }
        if self.by_subject.get(&subject).is_some_and(VecDeque::is_empty) {
            self.by_subject.remove(&subject);
        }
    }

    /// Removes some webhooks, with all that are behind each of them, from the last to the first.
    pub(super) fn remove_all(&mut self, places: &[FeedPlace]) {
        for place in places.iter().rev() {
            self.remove(*place);
        }
    }

    /// Returns in order the webhooks that rest and those behind them, and those behind one that is
    /// in flight for at least a time. Cost: the number of webhooks.
    pub(super) fn stuck(&self, now: Instant, after: Duration) -> Vec<FeedPlace> {
        self.closure(|_, item| match item.stage {
            Stage::Resting => Reach::Whole,
            Stage::Busy(since) if now.saturating_duration_since(since) >= after => Reach::Behind,
            Stage::Busy(_) | Stage::Waiting => Reach::Nothing,
        })
    }

    /// Returns in order a webhook and those behind it.
    pub(super) fn behind_one(&self, first: FeedPlace) -> Vec<FeedPlace> {
        self.closure(|place, _| if place == first { Reach::Whole } else { Reach::Nothing })
    }

    /// Returns in order those that `reach` names, and the waiting ones behind them.
    fn closure(&self, reach: impl Fn(FeedPlace, &Item) -> Reach) -> Vec<FeedPlace> {
        let mut hit: HashSet<u64> = HashSet::new();
        let mut found = Vec::new();
        for (place, item) in &self.items {
            let subjects = &item.message.subjects;
            let is_behind =
                || item.stage == Stage::Waiting && subjects.iter().any(|one| hit.contains(one));
            match reach(*place, item) {
                Reach::Nothing if !is_behind() => continue,
                Reach::Behind => {}
                Reach::Nothing | Reach::Whole => found.push(*place),
            }
            hit.extend(subjects);
        }
        found
    }

    /// Forgets all up to a place.
    pub(super) fn skip(&mut self, place: FeedPlace) {
        while let Some((first, _)) = self.items.first_key_value()
            && *first <= place
        {
            let first = *first;
            self.remove(first);
        }
        if self.through < place {
            self.through = place;
            self.reader = self.reader.take().map(|_| OwedReader::behind(place));
        }
    }

    /// Returns the first webhook about a subject.
    pub(super) fn first_of(&self, subject: u64) -> Option<FeedPlace> {
        self.by_subject.get(&subject)?.front().copied()
    }

    /// Returns the first webhook and its stage.
    pub(super) fn first(&self) -> Option<(FeedPlace, Stage)> {
        self.items.first_key_value().map(|(place, item)| (*place, item.stage))
    }

    pub(super) fn stage(&self, place: FeedPlace) -> Option<Stage> {
        self.items.get(&place).map(|item| item.stage)
    }

    pub(super) fn subjects(&self, place: FeedPlace) -> Vec<u64> {
        self.items.get(&place).map(|item| item.message.subjects.clone()).unwrap_or_default()
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns the bytes of all bodies.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The part of a webhook, and of those behind it, that is looked for.
enum Reach {
    Nothing,
    /// Those behind it.
    Behind,
    /// It and those behind it.
    Whole,
}
