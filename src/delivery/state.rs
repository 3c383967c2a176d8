//! The state that the threads of an endpoint share: what is kept, what waits, what fails.

use std::collections::btree_map::Entry;
use std::io;
use std::time::{Duration, Instant};

use rollcall_projections::{Millis, Seq};

use super::message::Message;
use super::position::{Kept, Line, PositionFile};
use super::queue::{Limits, Queue, Reading};
use crate::engine::{FeedPlace, Owed};

/// The time of failure after which an endpoint has stalled.
const STALLED_AFTER_MS: Millis = 3 * 86_400_000;

/// The longest that a delivery is not synced.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The condition of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// Nothing fails.
    Ok,
    /// A webhook has failed and is sent again.
    Retrying,
    /// A webhook has failed for three days.
    Stalled,
    /// Nothing is sent until an operator acts.
    Paused,
}

impl EndpointState {
    /// Every state.
    pub const ALL: [EndpointState; 4] =
        [EndpointState::Ok, EndpointState::Retrying, EndpointState::Stalled, EndpointState::Paused];

    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            EndpointState::Ok => "ok",
            EndpointState::Retrying => "retrying",
            EndpointState::Stalled => "stalled",
            EndpointState::Paused => "paused",
        }
    }
}

/// The cause of a pause, which also says how the pause ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PausedBy {
    /// The receiver has answered with 410: a retry ends the pause.
    Receiver,
    /// The position does not fit the log: a skip or a replay ends the pause.
    Position,
}

impl PausedBy {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            PausedBy::Receiver => "receiver",
            PausedBy::Position => "position",
        }
    }
}

/// What the threads of an endpoint share.
pub(super) struct State {
    pub(super) is_stopped: bool,
    /// True once another one has the position.
    pub(super) is_retired: bool,
    /// Counts the replays: what was begun before one is not counted any more.
    pub(super) epoch: u64,
    /// The threads that have nothing to do.
    pub(super) idle: usize,
    /// The requests that are not answered yet, also those that are not counted any more.
    pub(super) in_flight: usize,
    pub(super) kept: Kept,
    pub(super) file: PositionFile,
    pub(super) queue: Queue,
    /// Why the position cannot be used.
    pub(super) mismatch: Option<String>,
    /// An error of the log or of the file.
    pub(super) disk_error: Option<String>,
    pub(super) last_error: Option<String>,
    pub(super) is_dirty: bool,
    pub(super) synced: Instant,
    pub(super) delivered: u64,
    pub(super) failures: u64,
}

impl State {
    pub(super) fn new(file: PositionFile) -> State {
        let kept = Kept::at(String::new(), FeedPlace::after(0), None);
        State {
            is_stopped: false,
            is_retired: false,
            epoch: 0,
            idle: 0,
            in_flight: 0,
            queue: Queue::at(&kept, true, Limits::SERVER),
            kept,
            file,
            mismatch: None,
            disk_error: None,
            last_error: None,
            is_dirty: false,
            synced: Instant::now(),
            delivered: 0,
            failures: 0,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused_by().is_some()
    }

    pub(super) fn paused_by(&self) -> Option<PausedBy> {
        let by_receiver = self.kept.gone.as_ref().map(|_| PausedBy::Receiver);
        self.mismatch.as_ref().map(|_| PausedBy::Position).or(by_receiver)
    }

    pub(super) fn failing_since(&self) -> Option<Millis> {
        self.kept.failing.values().copied().min()
    }

    pub(super) fn condition(&self, now: Millis) -> EndpointState {
        match self.failing_since() {
            _ if self.is_paused() => EndpointState::Paused,
            Some(since) if now - since >= STALLED_AFTER_MS => EndpointState::Stalled,
            Some(_) => EndpointState::Retrying,
            None if self.disk_error.is_some() => EndpointState::Retrying,
            None => EndpointState::Ok,
        }
    }

    /// Returns what to tell an operator about the condition.
    pub(super) fn error(&self) -> Option<String> {
        let gone = self.kept.gone.as_ref();
        let error = self.mismatch.as_ref().or(gone).or(self.disk_error.as_ref());
        let error = error.or(self.last_error.as_ref())?.clone();
        if !self.queue.is_full(&self.kept) {
            return Some(error);
        }
        let parked = self.kept.parked.len();
        Some(format!(
            "{error}; {parked} users, groups and directories wait for what fails, and all others \
             until these are fewer"
        ))
    }

    /// Moves the position behind all that is delivered or parked. Returns the line that says so, if
    /// it moved.
    pub(super) fn settle(&mut self) -> Option<Line> {
        let place = self.queue.settled();
        if place <= self.kept.place {
            return None;
        }
        self.kept.move_to(place);
        if let Some(anchor) = self.queue.anchor(place.seq) {
            self.kept.reach(anchor);
        }
        self.queue.forget_leaves(self.kept.settled_seq());
        if self.kept.failing.is_empty() {
            self.last_error = None;
        }
        Some(Line::Up { place: place.into(), anchor: self.kept.anchor.clone() })
    }

    /// Notes that something of a record was delivered or tried. Returns the line that says so, or
    /// `None` if the anchor is already as far.
    pub(super) fn reach(&mut self, seq: Seq) -> Option<Line> {
        let anchor = self.queue.anchor(seq)?;
        self.kept.reach(anchor.clone()).then_some(Line::Reached(anchor))
    }

    pub(super) fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        self.is_dirty = true;
        self.file.append(lines, &self.kept)
    }

    /// Takes the sync of the file, if it is due: no other thread does it then. A thread that may
    /// have something to send leaves it for a while to an idle one.
    pub(super) fn take_sync(&mut self, is_idle: bool) -> bool {
        let patience = if self.idle > 0 && !is_idle { 2 * SYNC_EVERY } else { SYNC_EVERY };
        let is_due = self.is_dirty && self.synced.elapsed() >= patience;
        if is_due {
            self.synced = Instant::now();
        }
        is_due
    }

    /// Tells if another request may be in flight. The threads bound those that are not in order.
    pub(super) fn may_send(&self) -> bool {
        self.in_flight == 0 || !self.queue.is_ordered()
    }

    /// Returns the moment at which there is something to do without any news.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let sync = self.is_dirty.then(|| self.synced + SYNC_EVERY);
        let is_waiting = !self.is_paused() && self.may_send();
        let queue = if is_waiting { self.queue.wakes_at() } else { None };
        [sync, queue].into_iter().flatten().min()
    }

    /// Replaces the file, synced.
    pub(super) fn replace(&mut self) -> io::Result<()> {
        if self.is_retired {
            let says = "the configuration of the endpoint was just read again: try again";
            return Err(io::Error::other(says));
        }
        self.is_dirty = false;
        self.file.replace(&self.kept)
    }

    /// Tells if a webhook that was sent in an epoch still counts.
    pub(super) fn counts(&self, place: FeedPlace, epoch: u64) -> bool {
        self.epoch == epoch && self.queue.is_busy(place)
    }

    /// Parks what leaves no room for others, and frees what is parked no more. Returns the lines
    /// that say so.
    pub(super) fn tidy(&mut self, head: Seq, now: Instant) -> Vec<Line> {
        let mut lines = self.queue.tidy(head, &mut self.kept, now);
        if !lines.is_empty() {
            lines.extend(self.settle());
        }
        lines
    }

    /// Adds what was read. Returns the lines that say what is parked and passed over.
    pub(super) fn fill(
        &mut self,
        reading: Reading,
        owed: Owed,
        messages: Vec<(FeedPlace, Message)>,
    ) -> Vec<Line> {
        let mut lines = self.queue.fill(reading, owed, messages, &mut self.kept);
        lines.extend(self.settle());
        lines
    }

    /// Notes that a webhook is delivered. Returns the lines that say so.
    pub(super) fn succeed(&mut self, place: FeedPlace) -> Vec<Line> {
        self.delivered += 1;
        let has_failed = self.kept.failing.remove(&place).is_some();
        if self.kept.failing.is_empty() {
            self.last_error = None;
        }
        let mut lines: Vec<Line> = self.queue.succeed(place, &mut self.kept).into_iter().collect();
        lines.extend(self.settle());
        if self.kept.place < place {
            // It covers what the line before says only if that comes first.
            lines.extend(self.reach(place.seq));
        }
        if self.kept.place < place || has_failed {
            lines.push(Line::Done(place.into()));
        }
        lines
    }

    /// Notes that a webhook has failed, and is sent again at a moment. Returns the lines that say
    /// so.
    pub(super) fn fail(&mut self, place: FeedPlace, until: Instant, now: Millis) -> Vec<Line> {
        self.queue.fail(place, until, &mut self.kept);
        let Entry::Vacant(since) = self.kept.failing.entry(place) else { return Vec::new() };
        since.insert(now);
        let mut lines: Vec<Line> = self.reach(place.seq).into_iter().collect();
        lines.push(Line::Failing(place.into(), now));
        lines
    }
}

#[cfg(test)]
mod tests;
