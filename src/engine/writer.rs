//! The writer: the one thread that appends to the log and folds the appended records.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rollcall_projections::{Entry, EventType, Millis, Seq, Views};
use tokio::sync::oneshot;

use super::attributes::Fresh;
use super::folder::Folder;
use super::metrics::IngestKind;
use super::observations::QueuedObservations;
use super::scim::QueuedRecords;
use super::{ActError, DifferingKind, Engine, IngestError};
use crate::keys::Operator;
use crate::log::{AppendError, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Log, Outcome, ReadError};
use crate::time::Jumped;
use crate::verify::{Act, Proof, Verified};

/// The most verified events that may be queued, and the most bytes of their bodies.
pub(super) const QUEUE_EVENTS_MAX: usize = 8192;
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// The largest body that is hashed on the thread which received it.
const SALTED_BYTES_MAX: usize = 64 << 10;

/// The number of records that are folded under one lock while catching up.
pub(super) const FOLD_EVENTS: usize = 4096;

/// The log is synced after this time without work.
const IDLE_SYNC: Duration = Duration::from_secs(1);

/// A job in the queue of the writer.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are events, which need no box")]
pub(super) enum Job {
    Deliver(QueuedEvent),
    Act(Box<QueuedAct>),
    Observe(Box<QueuedObservations>),
    /// Appends what an identity provider changed.
    Scim(Box<QueuedRecords>),
    /// Keeps that `known_at=<time>` is answered up to a moment; replies whether that is kept.
    Answer(Millis, oneshot::Sender<bool>),
}

/// One step of the writer.
enum Work {
    Batch(Vec<QueuedEvent>),
    Act(Box<QueuedAct>),
    Observe(Box<QueuedObservations>),
    Scim(Box<QueuedRecords>),
    Answer(Millis, oneshot::Sender<bool>),
}

/// A verified event in the queue, and the channel for its outcome.
pub(super) struct QueuedEvent {
    pub(super) event: Verified,
    reply: Reply,
}

/// A batch that is durable and not folded yet.
pub(super) struct Appended {
    recorded_at: Millis,
    kinds: Vec<DifferingKind>,
    outcomes: Vec<Outcome>,
    replies: Vec<Reply>,
}

/// The channel for the outcome of an event.
type Reply = oneshot::Sender<Result<Outcome, IngestError>>;

fn refuse_all(replies: Vec<Reply>, error: &IngestError) {
    replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone()))));
}

/// The stamps that `known_at=<time>` needs so that its answers repeat for ever.
pub(super) struct Stamps {
    /// No record is stamped earlier than this.
    pub(super) not_before: Millis,
    /// The latest moment for which the log keeps that `known_at=<time>` was answered.
    pub(super) answered: Millis,
    /// The stamps of the batches that are being appended or folded, in order.
    pub(super) in_flight: VecDeque<Millis>,
    /// The stamp of a batch whose outcome is unknown: it may be there when the log is opened again.
    pub(super) unknown: Option<Millis>,
}

/// An act in the queue, or several that are decided at once. No other record is written between
/// the decision and the records.
pub(super) struct QueuedAct {
    pub(super) operator: Operator,
    pub(super) note: Option<String>,
    pub(super) decision: Decision,
    pub(super) reply: oneshot::Sender<Result<Vec<Seq>, ActError>>,
}

/// Receives the seqs of the records of acts; none if there was nothing to do.
pub(super) type ActReply = oneshot::Receiver<Result<Vec<Seq>, ActError>>;

/// Decides which acts are recorded at a moment; none if there is nothing to do. They are one batch
/// of the log, which bounds their number and their bytes.
pub(super) type Decision = Box<dyn FnOnce(&Engine, Millis) -> Result<Vec<Act>, ActError> + Send>;

impl Engine {
    /// Returns the records that `event` may repeat, of those that are folded. Takes a short lock.
    pub fn may_repeat(&self, event: &Verified) -> Vec<Seq> {
        self.log.may_repeat(event, self.folded_head())
    }

    /// Returns the outcome of an event that repeats a record, and counts the event: it need not be
    /// submitted. `among` is what [`Engine::may_repeat`] returned. Reads the log.
    ///
    /// `None` leaves it to the writer: also while events are refused, and if the log cannot be read.
    pub fn repeated(&self, event: &Verified, among: &[Seq]) -> Option<Outcome> {
        if self.refuses_events() {
            return None;
        }
        let outcome = self.log.repeats(event, among).ok().flatten()?;
        Some(self.count_repeated(event, outcome))
    }

    /// Does the same as [`Engine::repeated`], but only for records that were appended lately, and
    /// without reading the log: `None` leaves it open. Hashes a small body, and passes over others.
    pub fn repeated_lately(&self, event: &Verified, among: &[Seq]) -> Option<Outcome> {
        if self.refuses_events() || event.body().len() > SALTED_BYTES_MAX {
            return None;
        }
        let outcome = self.log.repeats_recent(event, among)?;
        Some(self.count_repeated(event, outcome))
    }

    fn count_repeated(&self, event: &Verified, outcome: Outcome) -> Outcome {
        self.metrics.count(&IngestKind::of(event), &outcome);
        self.duplicates.fetch_add(1, Ordering::Relaxed);
        self.count_differing(&[kind_if_differing(event)], &[outcome]);
        outcome
    }

    /// Queues a verified event. The outcome is sent once the event is durable and folded; dropping
    /// the receiver does not stop that.
    ///
    /// # Errors
    /// [`IngestError::QueueFull`] at once, without waiting.
    pub fn submit(
        &self,
        mut event: Verified,
    ) -> Result<oneshot::Receiver<Result<Outcome, IngestError>>, IngestError> {
        if self.refuses_events() {
            return Err(IngestError::Unavailable);
        }
        let bytes = event.body().len();
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(IngestError::QueueFull);
        }
        // The writer salts the others.
        if bytes <= SALTED_BYTES_MAX {
            let _ = event.salt();
        }
        self.queued_events.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let sent = self.enqueue(Job::Deliver(QueuedEvent { event, reply }));
        if sent.is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.queued_events.fetch_sub(1, Ordering::Relaxed);
        }
        sent.map(|()| answer)
    }

    pub(super) fn enqueue(&self, job: Job) -> Result<(), IngestError> {
        match &*self.queue.lock() {
            Some(queue) => queue.try_send(job).map_err(|error| match error {
                TrySendError::Full(_) => IngestError::QueueFull,
                TrySendError::Disconnected(_) => IngestError::Unavailable,
            }),
            None => Err(IngestError::Unavailable),
        }
    }

    /// Puts a job into the writer's queue, and blocks while that is full.
    pub(super) fn enqueue_when_free(&self, job: Job) -> Result<(), IngestError> {
        // Others must not wait for the lock meanwhile.
        let queue = self.queue.lock().clone().ok_or(IngestError::Unavailable)?;
        queue.send(job).map_err(|_| IngestError::Unavailable)
    }

    /// Starts the writer and its folder. The writer ends when the queue is closed, and the folder
    /// with it.
    pub(super) fn start_writer(self: Arc<Self>, jobs: Receiver<Job>) -> io::Result<JoinHandle<()>> {
        let folder = Folder::start(self.clone())?;
        let writer = thread::Builder::new().name("writer".into());
        writer.spawn(move || self.write(jobs, folder))
    }

    /// Runs the writer until the queue is closed: each batch is made durable and folded before its
    /// outcomes are sent.
    fn write(&self, jobs: Receiver<Job>, folder: Folder) {
        let mut carried = None;
        while let Some(work) = self.next_work(&jobs, &mut carried, &folder) {
            // A store that panics must not leave callers without an answer.
            let done = catch_unwind(AssertUnwindSafe(|| match work {
                Work::Batch(batch) => {
                    let appended = self.append_queued(batch);
                    carried = carried.take().or_else(|| jobs.try_recv().ok());
                    if let Some(appended) = appended {
                        self.have_folded(appended, carried.is_some(), &folder);
                    }
                }
                Work::Act(action) => {
                    folder.wait();
                    self.perform(*action);
                }
                Work::Observe(queued) => {
                    folder.wait();
                    self.decide_observations(*queued);
                }
                Work::Scim(queued) => {
                    folder.wait();
                    self.append_scim(*queued);
                }
                Work::Answer(moment, reply) => drop(reply.send(self.keep_answered(moment))),
            }));
            if done.is_err() {
                self.fail_after_panic();
            }
        }
        folder.end();
    }

    /// Waits for work, and attends to the log once a second meanwhile; `None` once the queue is
    /// closed.
    fn next_work(
        &self,
        jobs: &Receiver<Job>,
        carried: &mut Option<Job>,
        folder: &Folder,
    ) -> Option<Work> {
        loop {
            let first = carried.take().map_or_else(|| jobs.recv_timeout(IDLE_SYNC), Ok);
            match first {
                Ok(Job::Act(action)) => return Some(Work::Act(action)),
                Ok(Job::Observe(queued)) => return Some(Work::Observe(queued)),
                Ok(Job::Scim(queued)) => return Some(Work::Scim(queued)),
                Ok(Job::Answer(moment, reply)) => return Some(Work::Answer(moment, reply)),
                Ok(Job::Deliver(first)) => return Some(Work::Batch(batch(first, jobs, carried))),
                Err(RecvTimeoutError::Timeout) => {
                    folder.wait();
                    self.attend();
                }
                Err(RecvTimeoutError::Disconnected) => {
                    folder.wait();
                    self.attend();
                    return None;
                }
            }
        }
    }

    /// Syncs what is not synced yet, or sees if a disk that took no writes takes them again.
    fn attend(&self) {
        self.watch_clock();
        if self.failed.load(Ordering::SeqCst) {
            return;
        }
        let attended = catch_unwind(AssertUnwindSafe(|| {
            if self.blocked.load(Ordering::SeqCst) { self.resume() } else { self.sync() }
        }));
        match attended {
            Ok(Ok(())) => {}
            Ok(Err(AppendError::Blocked { cause, .. })) => self.block(&cause),
            Ok(Err(error)) => self.fail(&error.to_string()),
            Err(_) => self.fail_after_panic(),
        }
    }

    /// Syncs what is not synced yet: an empty append does that.
    fn sync(&self) -> Result<(), AppendError> {
        self.disk_write.during(|| self.log.append(Vec::new(), self.clock.now_ms())).map(drop)
    }

    /// Takes events again, if the log does. A batch that was in doubt is settled by then: its
    /// records are in the log and are folded, or never will be.
    fn resume(&self) -> Result<(), AppendError> {
        self.log.resume()?;
        self.fold_new().map_err(|error| AppendError::Unknown(error.to_string()))?;
        self.stamps.lock().unknown = None;
        self.folded.send_replace(self.views.read().head());
        self.blocked.store(false, Ordering::SeqCst);
        self.note_log_state();
        tracing::warn!(head = self.log.head(), "the disk takes writes: events are taken again");
        Ok(())
    }

    /// Says once that the clock has jumped, and once that it is back.
    fn watch_clock(&self) {
        match (self.clock.believable_ms(), self.clock_is_doubted.load(Ordering::SeqCst)) {
            (Err(Jumped { offset_ms }), false) => tracing::error!(
                offset_ms,
                "the clock was set by more than five minutes: events are refused until it is back; \
                 if it is right now, restart the server with --accept-clock"
            ),
            (Ok(_), true) => tracing::warn!("the clock is back: events are taken again"),
            _ => return,
        }
        self.note_clock_state();
        self.clock_is_doubted.fetch_xor(true, Ordering::SeqCst);
    }

    /// Keeps that `known_at=<time>` is answered up to a moment. Returns false if it cannot be kept.
    fn keep_answered(&self, moment: Millis) -> bool {
        match self.disk_write.during(|| self.log.keep_answered(moment)) {
            Ok(answered) => {
                self.stamps.lock().answered = answered;
                true
            }
            Err(error) => {
                tracing::error!(%error, "the moment of a question cannot be kept");
                false
            }
        }
    }

    /// Refuses events until the log resumes.
    fn block(&self, cause: &str) {
        if !self.blocked.swap(true, Ordering::SeqCst) {
            self.note_log_state();
            tracing::error!(cause, "events are refused until the disk takes writes");
        }
    }

    /// Gives up the log: the batch that was being written may or may not be in it.
    pub(super) fn fail_after_panic(&self) {
        let mut stamps = self.stamps.lock();
        stamps.unknown = stamps.unknown.or(stamps.in_flight.front().copied());
        stamps.in_flight.clear();
        drop(stamps);
        self.folded.send_modify(|_| {});
        self.fail("the store panicked");
    }

    fn fail(&self, cause: &str) {
        if !self.failed.swap(true, Ordering::SeqCst) {
            self.note_log_state();
            tracing::error!(
                cause,
                "the log has failed; events are refused until it is opened again"
            );
            (self.on_failure)(cause);
        }
    }

    /// Appends a batch. Returns what is to be folded; `None` if it was refused.
    fn append_queued(&self, batch: Vec<QueuedEvent>) -> Option<Appended> {
        let bytes: usize = batch.iter().map(|queued| queued.event.body().len()).sum();
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.queued_events.fetch_sub(batch.len(), Ordering::Relaxed);
        let (events, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|queued| (queued.event, queued.reply)).unzip();
        let kinds = events.iter().map(kind_if_differing).collect();
        let appended = self.now().and_then(|now| {
            let recorded_at = self.stamp(now);
            let appended = self.append(events, recorded_at);
            let outcomes = appended.map_err(|error| self.refuse(recorded_at, error))?;
            Ok((recorded_at, outcomes))
        });
        match appended {
            Ok((recorded_at, outcomes)) => Some(Appended { recorded_at, kinds, outcomes, replies }),
            Err(error) => {
                refuse_all(replies, &error);
                None
            }
        }
    }

    /// Has a batch folded while the next one is being appended, or folds it at once if none waits.
    fn have_folded(&self, appended: Appended, is_next_waiting: bool, folder: &Folder) {
        if is_next_waiting || !folder.is_idle() {
            folder.fold(appended);
        } else if folder.has_panicked() {
            self.give_up(appended);
        } else {
            self.fold_batch(appended);
        }
    }

    /// Leaves a batch that is durable without an answer of its outcome, since the views are lost.
    pub(super) fn give_up(&self, Appended { recorded_at, replies, .. }: Appended) {
        let error = self.refuse(recorded_at, AppendError::Unknown("the fold panicked".into()));
        refuse_all(replies, &error);
    }

    /// Folds a batch that is durable, and answers for its events.
    pub(super) fn fold_batch(&self, appended: Appended) {
        let Appended { recorded_at, kinds, outcomes, replies } = appended;
        if let Err(error) = self.fold_stamped(recorded_at) {
            refuse_all(replies, &error);
            return;
        }
        self.count_differing(&kinds, &outcomes);
        let duplicates = outcomes.iter().filter(|outcome| is_duplicate(outcome)).count();
        self.duplicates.fetch_add(duplicates as u64, Ordering::Relaxed);
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            let _ = reply.send(Ok(outcome));
        }
    }

    /// Counts the dropped events that have another content than the record of their id, and names
    /// each kind of them once.
    fn count_differing(&self, kinds: &[DifferingKind], outcomes: &[Outcome]) {
        for (kind, outcome) in kinds.iter().zip(outcomes) {
            let Outcome::Duplicate { seq, differs: true } = *outcome else { continue };
            self.differing.fetch_add(1, Ordering::Relaxed);
            self.differing_webhooks.fetch_add(u64::from(kind.is_webhook), Ordering::Relaxed);
            let mut named = self.differing_named.lock();
            if !named.contains(kind) {
                named.push(*kind);
                warn_of_differing(*kind, seq);
            }
        }
    }

    /// Makes events for the moment of their record, appends them and folds them. All that was
    /// appended before must be folded.
    pub(super) fn record_now(
        &self,
        events: impl FnOnce(Millis) -> Vec<Verified>,
    ) -> Result<Vec<Outcome>, IngestError> {
        let recorded_at = self.stamp(self.now()?);
        let events = events(recorded_at);
        let appended =
            if events.is_empty() { Ok(Vec::new()) } else { self.append(events, recorded_at) };
        let outcomes = appended.map_err(|error| self.refuse(recorded_at, error))?;
        self.fold_stamped(recorded_at).map(|()| outcomes)
    }

    /// Ends a batch that was not appended, or may not have been.
    fn refuse(&self, recorded_at: Millis, error: AppendError) -> IngestError {
        self.end_stamp(recorded_at, Some(&error));
        self.folded.send_modify(|_| {});
        match error {
            AppendError::Unknown(cause) => self.fail(&cause),
            AppendError::Blocked { cause, .. } => self.block(&cause),
            AppendError::Rejected(cause) => tracing::error!(cause, "a batch was not appended"),
        }
        IngestError::Unavailable
    }

    /// Folds all records of the log, and ends the flight of the batch that was stamped so.
    fn fold_stamped(&self, recorded_at: Millis) -> Result<(), IngestError> {
        let folded = self.fold_new().map_err(|error| AppendError::Unknown(error.to_string()));
        if let Err(error) = folded {
            return Err(self.refuse(recorded_at, error));
        }
        self.end_stamp(recorded_at, None);
        self.folded.send_replace(self.views.read().head());
        Ok(())
    }

    /// Stamps the next batch, never earlier than the last.
    fn stamp(&self, now: Millis) -> Millis {
        let mut stamps = self.stamps.lock();
        let recorded_at = now.max(stamps.not_before);
        stamps.not_before = recorded_at;
        stamps.in_flight.push_back(recorded_at);
        recorded_at
    }

    /// Ends the flight of a batch, and keeps its stamp if its outcome is unknown.
    fn end_stamp(&self, recorded_at: Millis, error: Option<&AppendError>) {
        let mut stamps = self.stamps.lock();
        let own = stamps.in_flight.iter().position(|stamp| *stamp == recorded_at);
        own.and_then(|own| stamps.in_flight.remove(own));
        if let Some(AppendError::Unknown(_) | AppendError::Blocked { in_doubt: true, .. }) = error {
            stamps.unknown.get_or_insert(recorded_at);
        }
    }

    /// Appends events, and counts them. They are acknowledged only once they are read back from the
    /// log and folded.
    fn append(
        &self,
        events: Vec<Verified>,
        recorded_at: Millis,
    ) -> Result<Vec<Outcome>, AppendError> {
        let kinds: Vec<IngestKind> = events.iter().map(IngestKind::of).collect();
        let begun = Instant::now();
        let outcomes = self.disk_write.during(|| self.log.append(events, recorded_at))?;
        self.metrics.count_batch(begun.elapsed(), &kinds, &outcomes);
        Ok(outcomes)
    }

    fn fold_new(&self) -> Result<(), ReadError> {
        let head = self.log.head();
        let mut views = self.views.write();
        while views.head() < head {
            fold(&*self.log, &mut views, FOLD_EVENTS, Notes::Now)?;
        }
        Ok(())
    }
}

fn kind_if_differing(event: &Verified) -> DifferingKind {
    DifferingKind {
        event_type: event.event_type().and_then(EventType::parse),
        is_webhook: matches!(event.proof(), Proof::Webhook { .. }),
    }
}

/// Names the kind of an event that was dropped although it differs. Nothing that a sender chose is
/// in the line.
fn warn_of_differing(DifferingKind { event_type, is_webhook }: DifferingKind, seq: Seq) {
    let event = event_type.map_or("another type", EventType::name);
    if is_webhook {
        tracing::warn!(
            event,
            seq,
            "a signed webhook has another content than the record of its id, which was pulled or \
             imported and counts; further ones of this type are only counted"
        );
    } else {
        tracing::warn!(
            event,
            seq,
            "a pulled or imported event has another content than the record of its id, which \
             counts; further ones of this type are only counted"
        );
    }
}

fn is_duplicate(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Duplicate { .. } | Outcome::Conflict { duplicate: true, .. })
}

/// Collects `first` and the events queued behind it, without waiting, up to the limits of a batch.
/// The first job that does not fit is carried over.
fn batch(first: QueuedEvent, jobs: &Receiver<Job>, carried: &mut Option<Job>) -> Vec<QueuedEvent> {
    let mut bytes = first.event.body().len();
    let mut batch = vec![first];
    while batch.len() < BATCH_EVENTS_MAX {
        match jobs.try_recv() {
            Ok(Job::Deliver(next)) if bytes + next.event.body().len() <= BATCH_BYTES_MAX => {
                bytes += next.event.body().len();
                batch.push(next);
            }
            Ok(job) => {
                *carried = Some(job);
                break;
            }
            Err(_) => break,
        }
    }
    batch
}

/// The time at which the attributes of folded records are noted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Notes {
    /// With each fold.
    Now,
    /// Once the whole log is folded and all mappings are known.
    Later,
}

/// A source of entries for the fold: see [`Log::entries`].
pub(super) type Entries<'a> =
    &'a dyn Fn(Seq, usize, &mut dyn FnMut(&Entry<'_>)) -> Result<Seq, ReadError>;

/// Folds the next records, and notes the attributes that their mappings name.
pub(super) fn fold(
    log: &dyn Log,
    views: &mut Views,
    events_max: usize,
    notes: Notes,
) -> Result<(), ReadError> {
    let mut fresh = Fresh::default();
    let noting = notes == Notes::Now && !views.attributes().is_empty();
    fold_entries(&|after, max, each| log.entries(after, max, each), views, events_max, |entry| {
        if noting {
            fresh.collect(entry);
        }
    })?;
    fresh.note(log, views)
}

/// Folds the next records and shows each of them to `folded`. A start and the writer use this same
/// function.
pub(super) fn fold_entries(
    entries: Entries<'_>,
    views: &mut Views,
    events_max: usize,
    mut folded: impl FnMut(&Entry<'_>),
) -> Result<(), ReadError> {
    let before = views.head();
    let mut gap = None;
    entries(before, events_max, &mut |entry| {
        if gap.is_none() && entry.seq == views.head() + 1 {
            views.apply(entry);
            folded(entry);
        } else {
            gap.get_or_insert(views.head() + 1);
        }
    })?;
    // A log that shows no records below its head has lost them.
    match gap.or((views.head() == before).then_some(before + 1)) {
        Some(seq) => Err(ReadError::Absent { seq }),
        None => Ok(()),
    }
}
