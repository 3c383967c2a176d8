//! One endpoint: its threads, and the state that they share.

use std::collections::btree_map::Entry;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rollcall_projections::{Millis, Seq};
use ureq::tls::RootCerts;

use super::client::{Client, Fault};
use super::message::{Message, test_event};
use super::position::{Anchor, Found, Kept, Line, PositionFile};
use super::queue::Queue;
use super::{Beginning, EndpointSettings};
use crate::engine::{Engine, FeedPlace, Owed, OwedReader};
use crate::log::ReadError;
use crate::time;

/// The pause before the first retry, about; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// The time of failure after which an endpoint has stalled.
const STALLED_AFTER_MS: Millis = 3 * 86_400_000;

/// The longest that a delivery is not synced.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The pause after an error of the log or of the file of the position.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// The condition of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// Nothing fails.
    Ok,
    /// A webhook has failed and is sent again.
    Retrying,
    /// A webhook fails since three days.
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

/// What pauses an endpoint, which says how the pause ends.
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

/// The state of an endpoint, for those who operate the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointReport {
    /// Its name.
    pub name: String,
    /// Its URL without what may be secret.
    pub url: String,
    /// Its condition.
    pub state: EndpointState,
    /// What paused it; `None` if it is not paused.
    pub paused_by: Option<PausedBy>,
    /// The record up to which everything owed is delivered.
    pub position: Seq,
    /// The number of records behind it.
    pub lag: u64,
    /// What failed last; `None` once it has succeeded.
    pub last_error: Option<String>,
    /// Since when it fails.
    pub failing_since: Option<Millis>,
    /// The webhooks that were delivered since the start.
    pub delivered: u64,
    /// The requests that failed since the start.
    pub failures: u64,
}

/// Why a command of an operator was refused.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The log has no such record yet.
    #[error("the log ends with record {0}: give one up to there")]
    BeyondHead(Seq),
    /// The position is of another log.
    #[error("{0}")]
    Mismatch(String),
    /// The position cannot be written.
    #[error("the position cannot be written: {0}")]
    Io(#[from] io::Error),
    /// The log cannot be read, or the server stops.
    #[error("the log cannot be read now")]
    Log,
}

/// One endpoint.
pub(crate) struct Endpoint {
    settings: EndpointSettings,
    client: Client,
    engine: OnceLock<Weak<Engine>>,
    head: AtomicU64,
    state: Mutex<State>,
    /// Wakes a thread that has nothing to do.
    idle: Condvar,
    /// Wakes the threads that wait to send something again.
    resting: Condvar,
}

struct State {
    is_stopped: bool,
    /// Counts the replays: what was begun before one is not counted any more.
    epoch: u64,
    /// Counts the wishes for a retry.
    rings: u64,
    kept: Kept,
    file: PositionFile,
    queue: Queue,
    /// Why the position cannot be used.
    mismatch: Option<String>,
    /// An error of the log or of the file.
    disk_error: Option<String>,
    last_error: Option<String>,
    is_dirty: bool,
    synced: Instant,
    delivered: u64,
    failures: u64,
}

/// What a thread does next.
enum Task {
    Read(OwedReader, u64),
    Send(Sending),
    Sync,
}

/// A webhook in flight.
struct Sending {
    place: FeedPlace,
    message: Arc<Message>,
    epoch: u64,
}

impl State {
    fn new(file: PositionFile) -> State {
        let nowhere = FeedPlace::after(0);
        State {
            is_stopped: false,
            epoch: 0,
            rings: 0,
            kept: Kept::at(String::new(), nowhere, None),
            file,
            queue: Queue::behind(nowhere),
            mismatch: None,
            disk_error: None,
            last_error: None,
            is_dirty: false,
            synced: Instant::now(),
            delivered: 0,
            failures: 0,
        }
    }

    fn is_paused(&self) -> bool {
        self.paused_by().is_some()
    }

    fn paused_by(&self) -> Option<PausedBy> {
        let by_receiver = self.kept.gone.as_ref().map(|_| PausedBy::Receiver);
        self.mismatch.as_ref().map(|_| PausedBy::Position).or(by_receiver)
    }

    fn failing_since(&self) -> Option<Millis> {
        self.kept.failing.values().copied().min()
    }

    fn condition(&self, now: Millis) -> EndpointState {
        match self.failing_since() {
            _ if self.is_paused() => EndpointState::Paused,
            Some(since) if now - since >= STALLED_AFTER_MS => EndpointState::Stalled,
            Some(_) => EndpointState::Retrying,
            None if self.disk_error.is_some() => EndpointState::Retrying,
            None => EndpointState::Ok,
        }
    }

    /// Returns what to tell an operator about the condition.
    fn error(&self) -> Option<&String> {
        let gone = self.kept.gone.as_ref();
        self.mismatch.as_ref().or(gone).or(self.disk_error.as_ref()).or(self.last_error.as_ref())
    }

    /// Moves the position behind all that is delivered. Returns the line that says so, if it moved.
    fn settle(&mut self) -> Option<Line> {
        let place = self.queue.delivered();
        if place <= self.kept.place {
            return None;
        }
        self.kept.move_to(place);
        if let Some(anchor) = self.queue.anchor(place.seq) {
            self.kept.reach(anchor);
        }
        self.queue.forget_leaves(self.kept.seq());
        if self.kept.failing.is_empty() {
            self.last_error = None;
        }
        Some(Line::Up { place: place.into(), anchor: self.kept.anchor.clone() })
    }

    /// Notes that something of a record was delivered or tried. Returns the line that says so, or
    /// `None` if the anchor is already as far.
    fn reach(&mut self, seq: Seq) -> Option<Line> {
        let anchor = self.queue.anchor(seq)?;
        self.kept.reach(anchor.clone()).then_some(Line::Reached(anchor))
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        self.is_dirty = true;
        self.file.append(line, &self.kept)
    }

    /// Replaces the file, synced.
    fn replace(&mut self) -> io::Result<()> {
        self.is_dirty = false;
        self.file.replace(&self.kept)
    }

    /// Tells if a webhook in flight still counts.
    fn counts(&self, sending: &Sending) -> bool {
        self.epoch == sending.epoch && self.queue.is_busy(sending.place)
    }
}

impl Endpoint {
    pub(super) fn new(settings: EndpointSettings, data: &Path, roots: RootCerts) -> Endpoint {
        let EndpointSettings { name, url, max_in_flight, allow_private, .. } = &settings;
        Endpoint {
            client: Client::new(url.clone(), *allow_private, *max_in_flight, roots),
            engine: OnceLock::new(),
            head: AtomicU64::new(0),
            state: Mutex::new(State::new(PositionFile::of(data, name))),
            settings,
            idle: Condvar::new(),
            resting: Condvar::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Finds the position in the log.
    pub(super) fn begin(&self, engine: &Arc<Engine>) {
        let _ = self.engine.set(Arc::downgrade(engine));
        self.head.store(engine.folded_head(), Ordering::SeqCst);
        let mut state = self.state.lock();
        let found = match state.file.read() {
            Found::Nothing => Ok(self.first_position(engine)),
            Found::Damaged(says) => Err(says),
            Found::Position(kept) => {
                let fits = fits(&kept, engine);
                state.kept = kept.clone();
                fits.map(|()| kept)
            }
        };
        let begun = found.and_then(|kept| {
            state.queue = Queue::behind(kept.place);
            state.kept = kept;
            state.replace().map_err(|error| format!("its position cannot be written: {error}"))
        });
        if let Err(says) = begun {
            let name = self.name();
            tracing::error!(endpoint = name, says, "an endpoint is paused");
            state.mismatch = Some(format!(
                "{says}; continue with `rollcall deliveries skip {name} SEQ`, or send again with \
                 `rollcall deliveries replay {name} --from SEQ`"
            ));
        }
    }

    /// Returns the position of an endpoint that has none yet.
    fn first_position(&self, engine: &Engine) -> Kept {
        let head = engine.folded_head();
        let seq = match self.settings.from {
            Beginning::Now => head,
            Beginning::Start => 0,
            Beginning::Seq(seq) => seq.saturating_sub(1),
        };
        let anchor = engine.leaf(seq.min(head)).ok().map(|leaf| Anchor::new(seq.min(head), &leaf));
        Kept::at(hex::encode(engine.log_id()), FeedPlace::after(seq), anchor)
    }

    /// Starts its threads.
    pub(super) fn start(self: &Arc<Endpoint>) -> io::Result<Vec<JoinHandle<()>>> {
        let work = |_| {
            let endpoint = self.clone();
            thread::Builder::new().name("delivery".into()).spawn(move || endpoint.work())
        };
        (0..self.settings.max_in_flight).map(work).collect()
    }

    /// Tells it the newest record. Returns false once it is stopped.
    pub(super) fn wake(&self, head: Seq) -> bool {
        self.head.store(head, Ordering::SeqCst);
        let is_stopped = self.state.lock().is_stopped;
        self.idle.notify_one();
        !is_stopped
    }

    /// Begins no further request.
    pub(super) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.idle.notify_all();
        self.resting.notify_all();
    }

    /// Syncs the position.
    pub(super) fn sync(&self) {
        let mut state = self.state.lock();
        (state.is_dirty, state.synced) = (false, Instant::now());
        let file = state.file.to_sync();
        drop(state);
        if let Some(Err(error)) = file.map(|file| file.sync_data()) {
            tracing::error!(endpoint = self.name(), %error, "a position cannot be synced");
        }
    }

    /// Returns its state.
    pub(crate) fn report(&self, head: Seq) -> EndpointReport {
        let state = self.state.lock();
        // It may be of another log, or of an endpoint that begins later.
        let position = state.kept.seq().min(head);
        EndpointReport {
            name: self.name().to_owned(),
            url: self.settings.plain_url(),
            state: state.condition(time::now_ms()),
            paused_by: state.paused_by(),
            position,
            lag: head.saturating_sub(position),
            last_error: state.error().cloned(),
            failing_since: state.failing_since(),
            delivered: state.delivered,
            failures: state.failures,
        }
    }

    fn work(&self) {
        while let Some(task) = self.next_task() {
            match task {
                Task::Read(reader, epoch) => self.read(reader, epoch),
                Task::Send(sending) => self.deliver(&sending),
                Task::Sync => self.sync(),
            }
        }
    }

    /// Waits until there is something to do. Returns nothing once it is stopped.
    fn next_task(&self) -> Option<Task> {
        let mut state = self.state.lock();
        loop {
            if state.is_stopped {
                return None;
            }
            if state.is_dirty && state.synced.elapsed() >= SYNC_EVERY {
                return Some(Task::Sync);
            }
            if !state.is_paused() {
                let State { queue, kept, epoch, .. } = &mut *state;
                let (ordered, epoch) = (self.settings.ordered, *epoch);
                if let Some((place, message)) = queue.take_ready(ordered) {
                    return Some(Task::Send(Sending { place, message, epoch }));
                }
                let head = self.head.load(Ordering::SeqCst);
                if let Some(reader) = queue.begin_read(head, kept, ordered) {
                    return Some(Task::Read(reader, epoch));
                }
            }
            if state.is_dirty {
                let due = state.synced + SYNC_EVERY;
                self.idle.wait_until(&mut state, due);
            } else {
                self.idle.wait(&mut state);
            }
        }
    }

    /// Reads some of what is owed.
    fn read(&self, mut reader: OwedReader, epoch: u64) {
        let Some(engine) = self.engine.get().and_then(Weak::upgrade) else {
            return self.stop();
        };
        let owed = self.owed(&engine, &mut reader);
        drop(engine);
        let messages = owed.as_ref().map_or(Vec::new(), |owed| self.messages(owed));
        let mut state = self.state.lock();
        if state.epoch != epoch {
            return;
        }
        match owed {
            Ok(owed) => {
                state.disk_error = None;
                let State { queue, kept, .. } = &mut *state;
                queue.fill(reader, owed, messages, kept);
                let line = state.settle();
                if state.queue.has_waiting() {
                    self.idle.notify_all();
                }
                self.write(&mut state, line);
            }
            Err(error) => {
                state.queue.unread();
                self.note_disk_error(&mut state, format!("the log cannot be read: {error}"));
                self.resting.wait_for(&mut state, DISK_PAUSE);
            }
        }
    }

    /// Reads some of what is owed, and the leaf of each record at which the position may be then:
    /// the last one, and those before a record whose own event is owed.
    fn owed(&self, engine: &Engine, reader: &mut OwedReader) -> Result<Owed, ReadError> {
        let before = reader.through().seq;
        let mut owed = engine.owed(&self.settings.wanted, reader)?;
        let events = owed.items.iter().filter(|item| item.place.item == 0);
        let passed = events.map(|item| item.place.seq.saturating_sub(1));
        let seqs: Vec<Seq> = passed.chain([owed.through.seq]).filter(|seq| *seq > before).collect();
        for seq in seqs {
            // One that cannot be read is not owed: an earlier one is the anchor then.
            if let Entry::Vacant(vacant) = owed.leaves.entry(seq)
                && let Ok(leaf) = engine.leaf(seq)
            {
                vacant.insert(leaf);
            }
        }
        Ok(owed)
    }

    fn messages(&self, owed: &Owed) -> Vec<(FeedPlace, Message)> {
        let message = |place, json: &[u8]| {
            let message = Message::new(&self.settings.signer, Some(place), json);
            if message.is_none() {
                tracing::error!(endpoint = self.name(), %place, "a webhook cannot be written");
            }
            Some((place, message?))
        };
        owed.items.iter().filter_map(|item| message(item.place, &item.json)).collect()
    }

    /// Sends a webhook until it is delivered, or is not to be sent now any more.
    fn deliver(&self, sending: &Sending) {
        let mut failures = 0;
        loop {
            let sent = self.post(&sending.message);
            let mut state = self.state.lock();
            if !state.counts(sending) {
                return;
            }
            match sent {
                Ok(()) => return self.end(state, sending),
                Err(fault) => {
                    failures += 1;
                    self.note_failure(&mut state, sending.place, &fault);
                    if !self.rest(&mut state, sending, &mut failures) {
                        return;
                    }
                }
            }
        }
    }

    fn post(&self, message: &Message) -> Result<(), Fault> {
        let headers = message.headers(&self.settings.signer, time::now_ms());
        self.client.post(headers, message.body())
    }

    /// Notes that a webhook is delivered.
    fn end(&self, mut state: MutexGuard<'_, State>, sending: &Sending) {
        let place = sending.place;
        state.delivered += 1;
        state.queue.end(place);
        if state.kept.failing.remove(&place).is_some() && state.kept.failing.is_empty() {
            tracing::info!(endpoint = self.name(), "an endpoint answers again");
            state.last_error = None;
        }
        let line = state.settle();
        let line = if state.kept.place < place {
            state.kept.ahead.insert(place);
            // It covers what the other line says only if that comes first.
            self.write(&mut state, line);
            let reached = state.reach(place.seq);
            self.write(&mut state, reached);
            Some(Line::Done(place.into()))
        } else {
            line
        };
        if state.queue.has_waiting() {
            self.idle.notify_one();
        }
        self.write(&mut state, line);
    }

    /// Appends a line to the file. Waits until that succeeds: without it, more than was in flight
    /// would be sent again.
    fn write(&self, state: &mut MutexGuard<'_, State>, line: Option<Line>) {
        let Some(line) = line else { return };
        while let Err(error) = state.append(&line) {
            self.note_disk_error(state, format!("the position cannot be written: {error}"));
            self.resting.wait_for(state, DISK_PAUSE);
            if state.is_stopped {
                return;
            }
        }
        state.disk_error = None;
    }

    fn note_disk_error(&self, state: &mut MutexGuard<'_, State>, says: String) {
        if state.disk_error.is_none() {
            tracing::error!(endpoint = self.name(), says, "an endpoint waits");
        }
        state.disk_error = Some(says);
    }

    fn note_failure(&self, state: &mut MutexGuard<'_, State>, place: FeedPlace, fault: &Fault) {
        let name = self.name();
        let now = time::now_ms();
        let before = state.condition(now);
        state.failures += 1;
        state.last_error = Some(fault.says.clone());
        if let Entry::Vacant(since) = state.kept.failing.entry(place) {
            since.insert(now);
            let reached = state.reach(place.seq);
            self.write(state, reached);
            self.write(state, Some(Line::Failing(place.into(), now)));
        }
        if before == EndpointState::Ok {
            tracing::warn!(
                endpoint = name,
                error = fault.says,
                "a webhook failed: it is sent again"
            );
        }
        if fault.is_gone {
            tracing::warn!(
                endpoint = name,
                "an endpoint wants no more: it is paused until a retry"
            );
            state.kept.gone = Some(fault.says.clone());
            if let Err(error) = state.replace() {
                self.note_disk_error(state, format!("the position cannot be written: {error}"));
            }
            self.resting.notify_all();
        }
    }

    /// Waits before a retry. Returns false if the webhook is not to be sent now.
    fn rest(
        &self,
        state: &mut MutexGuard<'_, State>,
        sending: &Sending,
        failures: &mut u32,
    ) -> bool {
        let end = Instant::now() + pause(*failures, random());
        let rings = state.rings;
        loop {
            if !state.counts(sending) || state.is_stopped {
                return false;
            }
            if state.is_paused() {
                state.queue.release(sending.place);
                return false;
            }
            if state.rings != rings {
                *failures = 0;
                return true;
            }
            if self.resting.wait_until(state, end).timed_out() {
                return true;
            }
        }
    }

    /// Sends again at once, also after the receiver wanted no more.
    ///
    /// # Errors
    /// If the position is of another log, or cannot be written.
    pub(crate) fn retry(&self) -> Result<(), CommandError> {
        let mut state = self.state.lock();
        if let Some(says) = &state.mismatch {
            return Err(CommandError::Mismatch(says.clone()));
        }
        state.kept.gone = None;
        state.replace()?;
        state.rings += 1;
        self.wake_all();
        Ok(())
    }

    /// Moves the position to a record, unless it is further.
    ///
    /// # Errors
    /// If there is no such record, or the position cannot be written.
    pub(crate) fn skip(&self, seq: Seq) -> Result<(), CommandError> {
        let fresh = self.position_at(seq)?;
        let mut state = self.state.lock();
        let place = fresh.place;
        if state.mismatch.take().is_some() {
            self.begin_anew(&mut state, fresh);
        } else if place > state.kept.place {
            state.queue.skip(place);
            if let Some(anchor) = fresh.anchor {
                state.kept.reach(anchor);
            }
            state.kept.move_to(place);
            state.settle();
        }
        if state.kept.failing.is_empty() {
            state.last_error = None;
        }
        state.replace()?;
        self.wake_all();
        Ok(())
    }

    /// Sends everything again from a record on.
    ///
    /// # Errors
    /// If there is no such record, or the position cannot be written.
    pub(crate) fn replay(&self, from: Seq) -> Result<(), CommandError> {
        let fresh = self.position_at(from.saturating_sub(1))?;
        let mut state = self.state.lock();
        state.mismatch = None;
        self.begin_anew(&mut state, fresh);
        state.replace()?;
        self.wake_all();
        Ok(())
    }

    /// Sends a webhook that is in no log. Blocks until it is answered.
    ///
    /// # Errors
    /// What failed.
    pub(crate) fn test(&self) -> Result<(), String> {
        let event = test_event(self.name(), time::now_ms());
        let message = Message::new(&self.settings.signer, None, &event);
        let message = message.ok_or("the webhook cannot be written")?;
        self.post(&message).map_err(|fault| fault.says)
    }

    /// Returns a position behind a record of the log.
    fn position_at(&self, seq: Seq) -> Result<Kept, CommandError> {
        let engine = self.engine.get().and_then(Weak::upgrade).ok_or(CommandError::Log)?;
        let head = engine.folded_head();
        if seq > head {
            return Err(CommandError::BeyondHead(head));
        }
        let anchor = match engine.leaf(seq) {
            Ok(leaf) => Some(Anchor::new(seq, &leaf)),
            Err(ReadError::Lost { .. } | ReadError::Absent { .. }) => None,
            Err(_) => return Err(CommandError::Log),
        };
        Ok(Kept::at(hex::encode(engine.log_id()), FeedPlace::after(seq), anchor))
    }

    /// Forgets all that is read, and begins at a position.
    fn begin_anew(&self, state: &mut MutexGuard<'_, State>, position: Kept) {
        state.epoch += 1;
        state.queue = Queue::behind(position.place);
        state.kept = Kept { gone: state.kept.gone.take(), ..position };
        state.last_error = None;
    }

    fn wake_all(&self) {
        self.idle.notify_all();
        self.resting.notify_all();
    }
}

/// Checks that a position is of this log.
///
/// # Errors
/// What does not fit.
fn fits(kept: &Kept, engine: &Engine) -> Result<(), String> {
    if kept.log != hex::encode(engine.log_id()) {
        return Err("its position is of another log".into());
    }
    let (last, head) = (kept.last_seq(), engine.folded_head());
    if last > head {
        return Err(format!(
            "its position knows record {last}, and the log ends with record {head}"
        ));
    }
    let Some(anchor) = &kept.anchor else { return Ok(()) };
    match engine.leaf(anchor.seq) {
        Ok(leaf) if Anchor::new(anchor.seq, &leaf) == *anchor => Ok(()),
        // A record that was lost since is the same one.
        Err(ReadError::Lost { .. }) => Ok(()),
        Ok(_) => {
            Err(format!("its position is at another record {} than that of this log", anchor.seq))
        }
        Err(error) => Err(format!("the record of its position cannot be read: {error}")),
    }
}

/// Returns a random number.
fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

/// Returns the pause after some failures in a row. It doubles with each of them, and is multiplied
/// by a factor from 0.5 to 1.5, which `random` chooses.
fn pause(failures: u32, random: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings);
    let share = 0.5 + f64::from(random) / f64::from(u32::MAX);
    pause.mul_f64(share).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::delivery::{Format, Signer};
    use crate::hashes::Hash;

    /// What is owed for records 5 and 6: the event of 5 with two consequences, and that of 6.
    fn queue_of_two_records() -> Queue {
        let signer = Signer::new(Format::Workos, "secret").unwrap();
        let message = |seq: Seq, item: u64| {
            let place = FeedPlace { seq, item };
            let event = test_event(&format!("{seq}-{item}"), 0);
            (place, Message::new(&signer, Some(place), &event).unwrap())
        };
        let messages = vec![message(5, 0), message(5, 1), message(5, 2), message(6, 0)];
        let leaves: BTreeMap<Seq, Hash> = (4..=6).map(|seq| (seq, [seq as u8; 32])).collect();
        let through = FeedPlace::after(6);
        let kept = Kept::at("ab".into(), FeedPlace::after(2), None);
        let mut queue = Queue::behind(kept.place);
        let reader = queue.begin_read(6, &kept, true).unwrap();
        queue.fill(reader, Owed { items: Vec::new(), through, leaves }, messages, &kept);
        queue
    }

    fn state(folder: &Path) -> State {
        let mut state = State::new(PositionFile::of(folder, "app"));
        state.kept = Kept::at("ab".into(), FeedPlace::after(2), Some(Anchor::new(2, &[2; 32])));
        state.queue = queue_of_two_records();
        state
    }

    fn anchor_after(state: &mut State) -> Option<Anchor> {
        state.settle();
        state.kept.anchor.clone()
    }

    #[test]
    fn the_anchor_is_the_last_record_of_which_anything_is_delivered_or_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = state(folder.path());
        // Records 3 and 4 are not owed.
        assert_eq!(anchor_after(&mut state), Some(Anchor::new(4, &[4; 32])));
        for (seq, item, anchor) in [(5, 0, 5), (5, 1, 5), (5, 2, 5), (6, 0, 6)] {
            let place = FeedPlace { seq, item };
            assert_eq!(state.queue.take_ready(true).map(|(place, _)| place), Some(place));
            state.queue.end(place);
            let expected = Anchor::new(anchor, &[anchor as u8; 32]);
            assert_eq!(anchor_after(&mut state), Some(expected), "after {place}");
        }
        assert_eq!(state.kept.place, FeedPlace::after(6));
    }

    #[test]
    fn the_anchor_goes_ahead_of_the_position_and_never_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = state(folder.path());
        state.settle();
        let reached = state.reach(6);
        let six = Anchor::new(6, &[6; 32]);
        assert!(matches!(reached, Some(Line::Reached(anchor)) if anchor == six));
        assert!(state.reach(6).is_none() && state.reach(5).is_none());
        let first = FeedPlace { seq: 5, item: 0 };
        assert_eq!(state.queue.take_ready(true).map(|(place, _)| place), Some(first));
        state.queue.end(first);
        assert_eq!(anchor_after(&mut state), Some(six));
        assert_eq!(state.kept.place, first);
    }

    #[test]
    fn pauses_double_from_about_100_ms_up_to_an_hour() {
        for (failures, shortest, longest) in
            [(1, 50, 150), (2, 100, 300), (5, 800, 2400), (15, 819_200, 2_457_600)]
        {
            assert_eq!(pause(failures, 0), Duration::from_millis(shortest), "{failures}");
            assert_eq!(pause(failures, u32::MAX), Duration::from_millis(longest), "{failures}");
        }
        assert_eq!(pause(40, u32::MAX), PAUSE_MAX);
        assert_eq!(pause(u32::MAX, 0), PAUSE_MAX);
    }
}
