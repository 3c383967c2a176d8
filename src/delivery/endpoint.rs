//! One endpoint: its threads, and the state that they share.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
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
use super::position::{Anchor, Found, Kept, Line, PositionFile, before};
use super::queue::{LaneName, Limits, ORDER, Queue, Reading, Ready};
use super::state::{EndpointState, PausedBy, State};
use super::{Beginning, EndpointSettings};
use crate::engine::{Engine, FeedPlace, Owed, OwedItem, OwedReader};
use crate::log::ReadError;
use crate::time;

/// The pause before the first retry, about; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// The longest wait for what is in flight, which is at most the time of a request and a little.
const RETIRE_WITHIN: Duration = Duration::from_secs(15);

/// The pause after an error of the log or of the file of the position.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// The state of an endpoint, for those who operate the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointReport {
    /// Its name.
    pub name: String,
    /// Its URL without what may be secret.
    pub url: String,
    /// Its condition.
    pub state: EndpointState,
    /// The cause of its pause; `None` if it is not paused.
    pub paused_by: Option<PausedBy>,
    /// The record up to which everything owed is delivered.
    pub position: Seq,
    /// The number of records behind it.
    pub lag: u64,
    /// The number of users, groups and directories whose webhooks wait for one that fails, as far as
    /// only a place is kept of them.
    pub parked: usize,
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
    /// Wakes a thread that waits for the disk.
    disk: Condvar,
    /// Wakes the one that waits for the end of what is in flight.
    ended: Condvar,
}

/// What a thread does next.
enum Task {
    Read(Reading, u64),
    Send(Sending),
    Sync,
}

/// A webhook in flight.
struct Sending {
    place: FeedPlace,
    /// `None` if it must be read again.
    message: Option<Arc<Message>>,
    epoch: u64,
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
            disk: Condvar::new(),
            ended: Condvar::new(),
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
            let kept = self.without_parked_if_ordered(kept);
            state.queue = self.queue_at(&kept);
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

    fn queue_at(&self, kept: &Kept) -> Queue {
        Queue::at(kept, self.settings.ordered, Limits::SERVER)
    }

    /// Moves the position of an endpoint that is ordered now, and was not, back to the first
    /// webhook that is not delivered. What was delivered behind that one comes again.
    fn without_parked_if_ordered(&self, kept: Kept) -> Kept {
        if !self.settings.ordered || kept.parked.is_empty() {
            return kept;
        }
        let place = kept.delivered();
        let failing = kept.failing.into_iter().filter(|(failing, _)| *failing > place).collect();
        Kept { place, failing, parked: BTreeMap::new(), ahead: BTreeSet::new(), ..kept }
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
        // One more reads ahead and syncs the position while a webhook is in flight.
        let threads = if self.settings.ordered { 2 } else { self.settings.max_in_flight };
        (0..threads).map(work).collect()
    }

    /// Tells if it has these settings.
    pub(super) fn has(&self, settings: &EndpointSettings) -> bool {
        self.settings == *settings
    }

    /// Tells it the newest record.
    pub(super) fn wake(&self, head: Seq) {
        self.head.fetch_max(head, Ordering::SeqCst);
        // Between a look at the head and the wait for a wake no thread may miss it.
        drop(self.state.lock());
        self.idle.notify_one();
    }

    /// Stops, waits until nothing is in flight any more, and syncs the position: then another one
    /// has it, and this one writes no more.
    pub(super) fn retire(&self) {
        self.stop();
        let mut state = self.state.lock();
        let latest = Instant::now() + RETIRE_WITHIN;
        while state.in_flight > 0 && !self.ended.wait_until(&mut state, latest).timed_out() {}
        state.is_retired = true;
        drop(state);
        self.sync();
    }

    /// Begins no further request.
    pub(super) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.wake_all();
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
            parked: state.kept.parked.len(),
            last_error: state.error(),
            failing_since: state.failing_since(),
            delivered: state.delivered,
            failures: state.failures,
        }
    }

    fn work(&self) {
        while let Some(task) = self.next_task() {
            match task {
                Task::Read(reading, epoch) => self.read(reading, epoch),
                Task::Send(sending) => self.deliver(sending),
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
            if state.take_sync(false) {
                return Some(Task::Sync);
            }
            if let Some(task) = self.take(&mut state) {
                return Some(task);
            }
            if state.take_sync(true) {
                return Some(Task::Sync);
            }
            state.idle += 1;
            match state.wakes_at() {
                Some(at) if at > Instant::now() => drop(self.idle.wait_until(&mut state, at)),
                Some(_) => {}
                None => self.idle.wait(&mut state),
            }
            state.idle -= 1;
        }
    }

    /// Takes a webhook that can be sent, or else a reader. Wakes another thread if there is more to
    /// do.
    fn take(&self, state: &mut MutexGuard<'_, State>) -> Option<Task> {
        if state.is_paused() {
            return None;
        }
        let (head, now) = (self.head.load(Ordering::SeqCst), Instant::now());
        let lines = state.tidy(head, now);
        self.write(state, &lines);
        let may_send = state.may_send();
        let State { queue, kept, epoch, in_flight, .. } = &mut **state;
        // Others send meanwhile.
        let reads_first = self.settings.max_in_flight > 1 && queue.is_low(head, kept);
        let takes = may_send && !reads_first;
        let task = match takes.then(|| queue.take_ready(now)).flatten() {
            Some(Ready { place, message }) => {
                *in_flight += 1;
                Task::Send(Sending { place, message, epoch: *epoch })
            }
            None => Task::Read(queue.begin_read(head, kept)?, *epoch),
        };
        let has_more = queue.has_ready(now) || queue.has_readable(head, kept);
        if state.idle > 0 && (has_more || state.queue.wakes_at().is_some()) {
            self.idle.notify_one();
        }
        Some(task)
    }

    /// Reads some of what is owed.
    fn read(&self, mut reading: Reading, epoch: u64) {
        let Some(engine) = self.engine.get().and_then(Weak::upgrade) else {
            return self.stop();
        };
        let owed = match reading.lane {
            LaneName::Front => self.owed(&engine, &mut reading.reader),
            LaneName::Sweep => engine.owed(&self.settings.wanted, &mut reading.reader),
        };
        drop(engine);
        let messages = owed.as_ref().map_or(Vec::new(), |owed| self.messages(owed));
        let mut state = self.state.lock();
        if state.epoch != epoch {
            return;
        }
        match owed {
            Ok(owed) => {
                state.disk_error = None;
                let lines = state.fill(reading, owed, messages);
                self.write(&mut state, &lines);
            }
            Err(error) => {
                state.queue.unread(reading.lane);
                self.wait_for_disk(&mut state, format!("the log cannot be read: {error}"));
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
        owed.items.iter().filter_map(|item| Some((item.place, self.message(item)?))).collect()
    }

    fn message(&self, item: &OwedItem) -> Option<Message> {
        let place = item.place;
        let about = self.settings.ordered.then(|| vec![ORDER]);
        let message = Message::new(&self.settings.signer, Some(place), &item.json, about);
        if message.is_none() {
            tracing::error!(endpoint = self.name(), %place, "a webhook cannot be written");
        }
        message
    }

    /// Reads one webhook again. Returns nothing if it is not owed any more: its record is lost, or
    /// the endpoint wants it no more.
    fn message_at(&self, engine: &Engine, place: FeedPlace) -> Result<Option<Message>, ReadError> {
        let mut reader = OwedReader::behind(before(place));
        while reader.through() < place && !engine.is_shutting_down() {
            let owed = engine.owed(&self.settings.wanted, &mut reader)?;
            if let Some(item) = owed.items.iter().find(|item| item.place == place) {
                return Ok(self.message(item));
            }
        }
        Ok(None)
    }

    /// Sends a webhook once.
    fn deliver(&self, sending: Sending) {
        let message = match &sending.message {
            Some(message) => Ok(Some(message.clone())),
            None => {
                let Some(engine) = self.engine.get().and_then(Weak::upgrade) else {
                    return self.stop();
                };
                self.message_at(&engine, sending.place).map(|message| message.map(Arc::new))
            }
        };
        let sent = match message {
            Ok(Some(message)) => self.post(&message),
            Ok(None) => Ok(()),
            Err(error) => Err(Fault::new(format!("the log cannot be read: {error}"))),
        };
        let mut state = self.state.lock();
        if state.counts(sending.place, sending.epoch) {
            match sent {
                Ok(()) => self.end(&mut state, sending.place),
                Err(fault) => self.note_failure(&mut state, sending.place, &fault),
            }
        }
        state.in_flight = state.in_flight.saturating_sub(1);
        if state.is_stopped {
            self.ended.notify_all();
        }
    }

    fn post(&self, message: &Message) -> Result<(), Fault> {
        let headers = message.headers(&self.settings.signer, time::now_ms());
        self.client.post(headers, message.body())
    }

    /// Notes that a webhook is delivered.
    fn end(&self, state: &mut MutexGuard<'_, State>, place: FeedPlace) {
        let has_failed = !state.kept.failing.is_empty();
        let lines = state.succeed(place);
        if has_failed && state.kept.failing.is_empty() {
            tracing::info!(endpoint = self.name(), "an endpoint answers again");
        }
        self.write(state, &lines);
    }

    /// Appends lines to the file. Waits until that succeeds: without it, more than was in flight
    /// would be sent again.
    fn write(&self, state: &mut MutexGuard<'_, State>, lines: &[Line]) {
        if lines.is_empty() || state.is_retired {
            return;
        }
        while let Err(error) = state.append(lines) {
            self.wait_for_disk(state, format!("the position cannot be written: {error}"));
            if state.is_stopped {
                return;
            }
        }
        state.disk_error = None;
    }

    /// Notes an error of the disk, and waits before another try.
    fn wait_for_disk(&self, state: &mut MutexGuard<'_, State>, says: String) {
        self.note_disk_error(state, says);
        self.disk.wait_for(state, DISK_PAUSE);
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
        let until = Instant::now() + pause(state.queue.failures(place) + 1, random());
        let lines = state.fail(place, until, now);
        self.write(state, &lines);
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
        state.queue.ring(Instant::now());
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
        } else if place > state.kept.delivered() {
            if let Some(anchor) = fresh.anchor {
                state.kept.reach(anchor);
            }
            let further = place.max(state.kept.place);
            let State { queue, kept, .. } = &mut *state;
            kept.forget_failing(place);
            queue.skip(place, kept);
            kept.move_to(further);
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
        let message = Message::new(&self.settings.signer, None, &event, None);
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
        state.queue = self.queue_at(&position);
        state.kept = Kept { gone: state.kept.gone.take(), ..position };
        state.last_error = None;
    }

    fn wake_all(&self) {
        self.idle.notify_all();
        self.disk.notify_all();
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
    use super::*;

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
