//! The order in which the webhooks of an endpoint are sent.
//!
//! The front reads the log once, in order. A subject (a user, group or directory) whose webhook
//! fails is parked once the front is full of what waits for it: of a parked subject only the place
//! is kept up to which its webhooks are delivered. The later ones are read again by a sweep, a
//! second lane from there up to the front, once one of the subject's webhooks has succeeded.
//!
//! At a place that the front has read, the webhooks of a parked subject up to its place are
//! delivered, and none behind it is. A webhook that is not delivered and is not in the front has
//! only parked subjects, each with a place before it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_projections::Seq;

use super::lane::{Lane, Stage};
use super::message::Message;
use super::position::{Anchor, Kept, Line, before};
use crate::engine::{FeedPlace, Owed, OwedReader};
use crate::hashes::Hash;

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The webhooks of a lane, and the bytes of their bodies, from which on no more are read.
    pub(super) waiting: usize,
    pub(super) bytes: usize,
    /// The webhooks that are delivered before an earlier one, from which on no more are read.
    pub(super) ahead: usize,
    /// The number of them from which on an earlier one that fails is parked.
    pub(super) ahead_soft: usize,
    /// The parked subjects from which on the front reads no more.
    pub(super) parked: usize,
    /// The number of webhooks that have failed since the last success from which on the receiver is
    /// taken to be down: then no more is parked.
    pub(super) down_after: usize,
    /// The time after which a full front does not wait for a webhook in flight any more.
    pub(super) stuck_after: Duration,
}

impl Limits {
    /// The limits of a server. About 128 webhooks are read at once.
    pub(super) const SERVER: Limits = Limits {
        waiting: 384,
        bytes: 8 << 20,
        ahead: 65_536,
        ahead_soft: 4096,
        parked: 10_000,
        down_after: 1000,
        stuck_after: Duration::from_secs(1),
    };
}

/// The number of ready webhooks below which one of several threads reads before it sends.
const READY_MIN: usize = 32;

/// The subject of every webhook of an endpoint that is sent in order.
pub(super) const ORDER: u64 = 0;

/// One of the lanes of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneName {
    Front,
    Sweep,
}

/// A lane that must be read on, with its reader.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) lane: LaneName,
    pub(super) reader: OwedReader,
}

/// A webhook to be sent.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) place: FeedPlace,
    /// `None` if it must be read again.
    pub(super) message: Option<Arc<Message>>,
}

/// A webhook that has failed.
struct Failed {
    failures: u32,
    /// When it is sent again; `None` while it is in flight.
    until: Option<Instant>,
    subjects: Vec<u64>,
}

/// A lane of what parked subjects wait for.
struct Sweep {
    lane: Lane,
    start: FeedPlace,
    /// The subjects of which a webhook was passed over.
    blocked: HashSet<u64>,
}

/// Why a sweep passes over a webhook.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// It was read and must wait.
    Read,
    /// It was in the lane, behind one that has failed, or has failed itself. It is the first of
    /// each subject that was dropped.
    Dropped,
}

/// The webhooks that wait, are in flight or have failed.
pub(super) struct Queue {
    limits: Limits,
    /// True if all webhooks have one subject: none is parked then.
    ordered: bool,
    front: Lane,
    sweep: Option<Sweep>,
    /// The parked subjects for which a sweep must look.
    released: BTreeSet<u64>,
    failed: BTreeMap<FeedPlace, Failed>,
    timers: BTreeSet<(Instant, FeedPlace)>,
    /// The webhooks that have failed for the first time since the last success.
    newly_failed: usize,
    /// When the front is looked at again: before then nothing in it is stuck.
    look_at: Option<Instant>,
    /// The lane from which the next webhook is taken first.
    turn: LaneName,
    /// The leaves of the records at which the position may be later.
    leaves: BTreeMap<Seq, Hash>,
}

impl Queue {
    /// Begins at a position.
    pub(super) fn at(kept: &Kept, ordered: bool, limits: Limits) -> Queue {
        Queue {
            limits,
            ordered,
            front: Lane::behind(kept.place),
            sweep: None,
            released: kept.parked.keys().copied().collect(),
            failed: BTreeMap::new(),
            timers: BTreeSet::new(),
            newly_failed: 0,
            look_at: None,
            turn: LaneName::Front,
            leaves: BTreeMap::new(),
        }
    }

    /// Parks what the front is full of, and ends and begins sweeps. Returns the lines that say so.
    pub(super) fn tidy(&mut self, head: Seq, kept: &mut Kept, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.is_pressed(head, kept) {
            if self.look_at.is_none_or(|at| at <= now) {
                lines = self.park_stuck(kept, now);
            }
        } else {
            self.look_at = None;
        }
        lines.extend(self.end_sweep(kept));
        self.begin_sweep(kept);
        // The front may have read no further than where it begins.
        lines.extend(self.end_sweep(kept));
        lines
    }

    /// Returns true if more must be read, and what fails leaves no room.
    fn is_pressed(&self, head: Seq, kept: &Kept) -> bool {
        let is_down = self.newly_failed >= self.limits.down_after;
        if self.ordered || is_down || self.is_full(kept) {
            return false;
        }
        let is_held = kept.ahead.len() >= self.limits.ahead_soft
            && self.front.first().is_some_and(|(_, stage)| stage == Stage::Resting);
        let has_more = self.front.through < FeedPlace::after(head);
        is_held || has_more && !self.front.has_ready() && !self.has_room(&self.front)
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.ordered
    }

    /// Returns true if no more subjects can be parked.
    pub(super) fn is_full(&self, kept: &Kept) -> bool {
        kept.parked.len() >= self.limits.parked
    }

    fn has_room(&self, lane: &Lane) -> bool {
        lane.len() < self.limits.waiting && lane.bytes() < self.limits.bytes
    }

    fn park_stuck(&mut self, kept: &mut Kept, now: Instant) -> Vec<Line> {
        let stuck = self.front.stuck(now, self.limits.stuck_after);
        self.look_at = stuck.is_empty().then(|| now + self.limits.stuck_after);
        let mut parked: BTreeMap<FeedPlace, Vec<u64>> = BTreeMap::new();
        for place in &stuck {
            let subjects = self.front.subjects(*place);
            self.park(*place, &subjects, kept, &mut parked);
            // A sweep that has gone by took it as delivered.
            if let Some(sweep) = self.sweep.as_mut().filter(|sweep| *place <= sweep.lane.through) {
                sweep.blocked.extend(&subjects);
            }
        }
        self.front.remove_all(&stuck);
        lines_of(parked)
    }

    /// Parks the subjects of a webhook that does not stay in the front.
    fn park(
        &self,
        place: FeedPlace,
        subjects: &[u64],
        kept: &mut Kept,
        parked: &mut BTreeMap<FeedPlace, Vec<u64>>,
    ) {
        for subject in subjects {
            if let Entry::Vacant(vacant) = kept.parked.entry(*subject) {
                let first = self.front.first_of(*subject).map_or(place, |first| first.min(place));
                vacant.insert(before(first));
                parked.entry(before(first)).or_default().push(*subject);
            }
        }
    }

    /// Ends a sweep that has found all: subjects of which it has left nothing are parked no more.
    fn end_sweep(&mut self, kept: &mut Kept) -> Option<Line> {
        let sweep = self.sweep.as_ref()?;
        let is_over = sweep.lane.reader.is_some()
            && sweep.lane.len() == 0
            && sweep.lane.through >= self.front.through;
        if !is_over {
            return None;
        }
        let is_free = |(subject, place): &(&u64, &FeedPlace)| {
            **place >= sweep.start && !sweep.blocked.contains(*subject)
        };
        let free: Vec<u64> = kept.parked.iter().filter(is_free).map(|(one, _)| *one).collect();
        for subject in &free {
            kept.parked.remove(subject);
            self.released.remove(subject);
        }
        self.sweep = None;
        (!free.is_empty()).then_some(Line::Free(free))
    }

    fn begin_sweep(&mut self, kept: &Kept) {
        if self.sweep.is_some() {
            return;
        }
        let places = self.released.iter().filter_map(|one| kept.parked.get(one));
        let Some(start) = places.min().copied() else { return };
        self.sweep = Some(Sweep { lane: Lane::behind(start), start, blocked: HashSet::new() });
    }

    /// Returns the lane from which more may be read now.
    fn readable(&self, head: Seq, kept: &Kept) -> Option<LaneName> {
        let may_read = |lane: &Lane, end: FeedPlace| {
            lane.reader.is_some() && lane.through < end && self.has_room(lane)
        };
        if kept.ahead.len() >= self.limits.ahead {
            return None;
        }
        if !self.is_full(kept) && may_read(&self.front, FeedPlace::after(head)) {
            return Some(LaneName::Front);
        }
        let sweep = self.sweep.as_ref()?;
        may_read(&sweep.lane, self.front.through).then_some(LaneName::Sweep)
    }

    /// Returns true if few webhooks are ready and more may be read: one of several threads reads
    /// then, before none has anything to send.
    pub(super) fn is_low(&self, head: Seq, kept: &Kept) -> bool {
        !self.ordered
            && self.front.ready_len() < READY_MIN
            && self.readable(head, kept) == Some(LaneName::Front)
    }

    /// Takes a reader, if more may be read now. It is given back by [`Queue::fill`] or
    /// [`Queue::unread`].
    pub(super) fn begin_read(&mut self, head: Seq, kept: &Kept) -> Option<Reading> {
        let lane = self.readable(head, kept)?;
        let reader = self.lane(lane)?.reader.take()?;
        Some(Reading { lane, reader })
    }

    fn lane(&mut self, name: LaneName) -> Option<&mut Lane> {
        match name {
            LaneName::Front => Some(&mut self.front),
            LaneName::Sweep => self.sweep.as_mut().map(|sweep| &mut sweep.lane),
        }
    }

    /// Takes back a reader after an error.
    pub(super) fn unread(&mut self, name: LaneName) {
        if let Some(lane) = self.lane(name) {
            lane.reader = Some(OwedReader::behind(lane.through));
        }
    }

    /// Adds what was read but is not delivered yet. Returns the lines that say what is parked.
    pub(super) fn fill(
        &mut self,
        reading: Reading,
        owed: Owed,
        messages: Vec<(FeedPlace, Message)>,
        kept: &mut Kept,
    ) -> Vec<Line> {
        match reading.lane {
            LaneName::Front => {
                self.leaves.extend(owed.leaves);
                self.front.read_to(owed.through, reading.reader);
                self.fill_front(messages, kept)
            }
            LaneName::Sweep => {
                self.fill_sweep(messages, kept);
                let through = owed.through.min(self.front.through);
                if let Some(sweep) = &mut self.sweep {
                    sweep.lane.read_to(through, reading.reader);
                }
                Vec::new()
            }
        }
    }

    fn fill_front(&mut self, messages: Vec<(FeedPlace, Message)>, kept: &mut Kept) -> Vec<Line> {
        let mut parked = BTreeMap::new();
        for (place, message) in messages {
            if place <= kept.place || kept.ahead.contains(&place) {
                continue;
            }
            if kept.is_parked_before(place, &message.subjects) {
                self.park(place, &message.subjects, kept, &mut parked);
            } else {
                self.front.insert(place, Arc::new(message));
            }
        }
        lines_of(parked)
    }

    fn fill_sweep(&mut self, messages: Vec<(FeedPlace, Message)>, kept: &mut Kept) {
        for (place, message) in messages {
            let subjects = &message.subjects;
            let is_delivered =
                kept.ahead.contains(&place) || !kept.is_parked_before(place, subjects);
            if is_delivered || place > self.front.through {
                continue;
            }
            if self.is_blocked(place, subjects, kept) {
                self.block(place, subjects, Passed::Read, kept);
            } else if let Some(sweep) = &mut self.sweep {
                sweep.lane.insert(place, Arc::new(message));
            }
        }
    }

    /// Returns true if a sweep must pass over a webhook: it, or one before it about the same, is
    /// sent elsewhere or later.
    fn is_blocked(&self, place: FeedPlace, subjects: &[u64], kept: &Kept) -> bool {
        let Some(sweep) = &self.sweep else { return true };
        self.failed.contains_key(&place)
            || subjects.iter().any(|subject| {
                sweep.blocked.contains(subject)
                    || kept.parked.get(subject).is_some_and(|place| *place < sweep.start)
                    || self.front.first_of(*subject).is_some_and(|first| first <= place)
            })
    }

    /// Passes over a webhook in the sweep: all behind it must wait for another sweep. A subject
    /// that is not released must have the place before its first webhook that is not delivered: a
    /// sweep that begins behind its place does not look at it.
    fn block(&mut self, place: FeedPlace, subjects: &[u64], passed: Passed, kept: &mut Kept) {
        let Some(sweep) = &mut self.sweep else { return };
        for subject in subjects {
            let Some(delivered) = kept.parked.get_mut(subject) else { continue };
            let is_new = sweep.blocked.insert(*subject);
            if *delivered < sweep.start {
                continue;
            }
            // One that was released since it was blocked needs another sweep.
            if is_new {
                self.released.remove(subject);
            } else if passed == Passed::Read {
                continue;
            }
            let is_first = sweep.lane.first_of(*subject).is_none()
                && self.front.first_of(*subject).is_none_or(|first| first >= place);
            if is_first {
                *delivered = before(place).max(*delivered);
            }
        }
    }

    /// Returns true if a webhook can be taken now.
    pub(super) fn has_ready(&self, now: Instant) -> bool {
        let is_due = self.timers.first().is_some_and(|(at, _)| *at <= now);
        is_due
            || self.front.has_ready()
            || self.sweep.as_ref().is_some_and(|sweep| sweep.lane.has_ready())
    }

    /// Returns true if more may be read now.
    pub(super) fn has_readable(&self, head: Seq, kept: &Kept) -> bool {
        self.readable(head, kept).is_some()
    }

    /// Takes a webhook that may be sent: one that is to be sent again now, or the first that is
    /// ready of one of the lanes.
    pub(super) fn take_ready(&mut self, now: Instant) -> Option<Ready> {
        if let Some((at, place)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(failed) = self.failed.get_mut(&place) {
                failed.until = None;
            }
            let message = self.front.send(place, now);
            return Some(Ready { place, message });
        }
        let (first, second) = match self.turn {
            LaneName::Front => (LaneName::Front, LaneName::Sweep),
            LaneName::Sweep => (LaneName::Sweep, LaneName::Front),
        };
        self.turn = second;
        let taken = self.lane(first).and_then(|lane| lane.take(now));
        let taken = taken.or_else(|| self.lane(second)?.take(now));
        taken.map(|(place, message)| Ready { place, message: Some(message) })
    }

    /// Returns the moment at which there is something to do without any news.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.look_at].into_iter().flatten().min()
    }

    /// Returns true while a webhook is in flight.
    pub(super) fn is_busy(&self, place: FeedPlace) -> bool {
        let is_busy = |lane: &Lane| matches!(lane.stage(place), Some(Stage::Busy(_)));
        is_busy(&self.front)
            || self.sweep.as_ref().is_some_and(|sweep| is_busy(&sweep.lane))
            || self.failed.get(&place).is_some_and(|one| one.until.is_none())
    }

    /// Returns the number of failures in a row of a webhook.
    pub(super) fn failures(&self, place: FeedPlace) -> u32 {
        self.failed.get(&place).map_or(0, |failed| failed.failures)
    }

    /// Lets a webhook wait until a moment after a failure.
    pub(super) fn fail(&mut self, place: FeedPlace, until: Instant, kept: &mut Kept) {
        self.look_at = None;
        let is_in_front = self.front.rest(place);
        let subjects =
            if is_in_front { self.front.subjects(place) } else { self.fail_in_sweep(place, kept) };
        let failed = self.failed.entry(place).or_insert_with(|| {
            self.newly_failed += 1;
            Failed { failures: 0, until: None, subjects }
        });
        failed.failures = failed.failures.saturating_add(1);
        failed.until = Some(until);
        self.timers.insert((until, place));
    }

    /// Takes a webhook that has failed out of the sweep, with those behind it. Returns its
    /// subjects.
    fn fail_in_sweep(&mut self, place: FeedPlace, kept: &mut Kept) -> Vec<u64> {
        let Some(lane) = self.lane(LaneName::Sweep) else { return Vec::new() };
        let passed = lane.behind_one(place);
        let passed: Vec<(FeedPlace, Vec<u64>)> =
            passed.into_iter().map(|one| (one, lane.subjects(one))).collect();
        let places: Vec<FeedPlace> = passed.iter().map(|(one, _)| *one).collect();
        lane.remove_all(&places);
        let mut seen: HashSet<u64> = HashSet::new();
        for (one, subjects) in &passed {
            let first: Vec<u64> =
                subjects.iter().copied().filter(|subject| seen.insert(*subject)).collect();
            self.block(*one, &first, Passed::Dropped, kept);
        }
        passed.into_iter().next().map(|(_, subjects)| subjects).unwrap_or_default()
    }

    /// Ends a webhook that is delivered. Returns the line that says so of parked subjects.
    pub(super) fn succeed(&mut self, place: FeedPlace, kept: &mut Kept) -> Option<Line> {
        self.newly_failed = 0;
        let in_lanes = self.front.remove(place);
        let in_lanes = in_lanes.or_else(|| self.lane(LaneName::Sweep)?.remove(place));
        let failed = self.forget(place);
        let subjects = in_lanes.or(failed).unwrap_or_default();
        let mut moved = Vec::new();
        for subject in subjects {
            if let Some(delivered) = kept.parked.get_mut(&subject)
                && *delivered < place
            {
                *delivered = place;
                self.released.insert(subject);
                moved.push(subject);
            }
        }
        if place > kept.place {
            kept.ahead.insert(place);
        }
        (!moved.is_empty()).then(|| Line::Past(moved, place.into()))
    }

    /// Forgets that a webhook has failed. Returns its subjects.
    fn forget(&mut self, place: FeedPlace) -> Option<Vec<u64>> {
        let failed = self.failed.remove(&place)?;
        if let Some(until) = failed.until {
            self.timers.remove(&(until, place));
        }
        Some(failed.subjects)
    }

    /// Lets all that waits to be sent again be sent at once, with pauses as at the first failure.
    pub(super) fn ring(&mut self, now: Instant) {
        self.timers.clear();
        for (place, failed) in &mut self.failed {
            failed.failures = 0;
            if let Some(until) = &mut failed.until {
                *until = now;
                self.timers.insert((now, *place));
            }
        }
    }

    /// Forgets all up to a place.
    pub(super) fn skip(&mut self, place: FeedPlace, kept: &mut Kept) {
        self.front.skip(place);
        if let Some(lane) = self.lane(LaneName::Sweep) {
            lane.skip(place);
        }
        while let Some((first, _)) = self.failed.first_key_value()
            && *first <= place
        {
            let first = *first;
            self.forget(first);
        }
        for (subject, delivered) in kept.parked.iter_mut().filter(|(_, one)| **one < place) {
            *delivered = place;
            self.released.insert(*subject);
        }
    }

    /// Returns the place up to which everything is delivered or parked.
    pub(super) fn settled(&self) -> FeedPlace {
        self.front.first().map_or(self.front.through, |(place, _)| before(place))
    }

    /// Returns the number of webhooks in both lanes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.front.len() + self.sweep.as_ref().map_or(0, |sweep| sweep.lane.len())
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

fn lines_of(parked: BTreeMap<FeedPlace, Vec<u64>>) -> Vec<Line> {
    parked.into_iter().map(|(place, subjects)| Line::Past(subjects, place.into())).collect()
}
