//! The road in one screen: verified events go through one writer into the log and from there into
//! the views; questions are cut in both clocks and answered from the views.

mod acts;
mod attributes;
mod changes;
mod proofs;
mod rebuild;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rollcall_projections::{Cut, EventRow, Millis, Seq, View, Views};
use sha2::{Digest, Sha256};
use tokio::sync::{oneshot, watch};

use acts::Action;
pub use acts::{ActError, Expect, Prepared, not_in_future};
use attributes::{Fresh, Progress, note_all};
pub use changes::{Feed, FeedPlace};
pub use proofs::{ChangeError, KeyChange};
pub use rebuild::Rebuild;

use crate::documents::{Document, DocumentKey, Documents, ShownEvent, show_event};
use crate::log::{AppendError, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Log, Outcome, ReadError, Record};
use crate::notary::Notary;
use crate::verify::Verified;

/// How many verified events may wait for the writer, and how many bytes of bodies.
const QUEUE_EVENTS_MAX: usize = 8192;
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// How many records are folded under one lock while catching up.
const FOLD_EVENTS: usize = 4096;

/// How many items of a view are dumped under one lock.
const DUMP_ITEMS: usize = 2048;

/// The log, its views, and the one thread that appends.
pub struct Engine {
    log: Arc<dyn Log>,
    views: RwLock<Views>,
    documents: Documents,
    /// Who signs its checkpoints.
    notary: OnceLock<Notary>,
    /// `None` once closed.
    queue: Mutex<Option<SyncSender<Job>>>,
    queued_bytes: AtomicUsize,
    stamps: Mutex<Stamps>,
    /// Told after each fold.
    folded: watch::Sender<Seq>,
    writer: Mutex<Option<JoinHandle<()>>>,
    digests: Mutex<Option<(Seq, Vec<ViewState>)>>,
    /// The last rebuild.
    rebuild: Mutex<Option<Arc<Rebuild>>>,
    /// Held while an act is done, and while rebuilt views take their place: what an act installs
    /// must still be there when its record is folded.
    acting: Mutex<()>,
    clock: fn() -> Millis,
    started_at: Millis,
    /// Deliveries that appended nothing, since the start: the log does not keep them.
    duplicates: AtomicU64,
    /// Set for ever by the first batch of which nobody knows what became of it.
    failed: AtomicBool,
    /// Set for ever as a stop begins: nobody waits any more for what may come.
    closing: AtomicBool,
    on_failure: Box<dyn Fn(&str) + Send + Sync>,
}

/// What waits for the writer.
enum Job {
    Deliver(Delivery),
    Act(Box<Action>),
}

/// One verified event on its way, and who waits for it.
struct Delivery {
    event: Verified,
    reply: oneshot::Sender<Result<Outcome, IngestError>>,
}

/// What `known_at=<time>` needs to answer the same for ever.
struct Stamps {
    /// No record is stamped earlier than this.
    not_before: Millis,
    /// The stamp of the batch that is being appended and folded.
    in_flight: Option<Millis>,
    /// The stamp of a batch of which nobody knows whether it was appended: it may be there when the
    /// log is opened again.
    unknown: Option<Millis>,
}

/// Why an event was not acknowledged. Sending it again is always right.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IngestError {
    /// Too many events wait.
    #[error("too many events are waiting to be written")]
    QueueFull,
    /// It could not be made durable, or nobody knows.
    #[error("the event could not be made durable")]
    Unavailable,
}

/// Why a cut is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutError {
    /// `as_of` is later than our clock.
    AsOfInFuture,
    /// `known_at` is above the head, or a time in the future.
    KnownAtOutOfRange,
    /// By the time of `known_at` a batch was stamped of which nobody knows whether it was appended.
    Unsettled,
}

/// `known_at` as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownAt {
    /// By this record.
    Seq(Seq),
    /// By this moment.
    Time(Millis),
}

/// How a view stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewState {
    /// Which view.
    pub view: View,
    /// Of role mappings the latest version; of other views the version of their rules.
    pub version: usize,
    /// The last record that it holds.
    pub seq: Seq,
    /// How many items it has by then.
    pub items: usize,
    /// SHA-256 of its canonical dump.
    pub sha256: [u8; 32],
}

impl Engine {
    /// Folds the whole log, then starts the writer. `document_bytes_max` bounds the document cache.
    ///
    /// `on_failure` is told once if the log fails later: from then on nothing is taken, and only
    /// opening the log again helps.
    ///
    /// # Errors
    /// The first record that cannot be read: an engine over half a log does not start.
    pub fn start(
        log: Arc<dyn Log>,
        document_bytes_max: u64,
        clock: fn() -> Millis,
        on_failure: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Arc<Engine>, ReadError> {
        let mut views = Views::new();
        while views.head() < log.head() {
            fold(&*log, &mut views, FOLD_EVENTS, Notes::Later)?;
        }
        note_all(&*log, &mut views, &Progress::default())?;
        let (queue, jobs) = sync_channel(QUEUE_EVENTS_MAX);
        let engine = Arc::new(Engine {
            log,
            folded: watch::Sender::new(views.head()),
            stamps: Mutex::new(Stamps {
                not_before: views.recorded_at(),
                in_flight: None,
                unknown: None,
            }),
            views: RwLock::new(views),
            documents: Documents::new(document_bytes_max),
            notary: OnceLock::new(),
            queue: Mutex::new(Some(queue)),
            queued_bytes: AtomicUsize::new(0),
            writer: Mutex::default(),
            digests: Mutex::default(),
            rebuild: Mutex::default(),
            acting: Mutex::default(),
            clock,
            started_at: clock(),
            duplicates: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            on_failure: Box::new(on_failure),
        });
        let writer = engine.clone();
        let thread = thread::Builder::new().name("writer".into()).spawn(move || writer.write(jobs));
        *engine.writer.lock() = Some(thread.map_err(|error| ReadError::Store(error.to_string()))?);
        Ok(engine)
    }

    /// Hands a verified event to the writer. The answer comes once it is durable and folded;
    /// dropping the receiver does not stop it.
    ///
    /// # Errors
    /// [`IngestError::QueueFull`] at once, without waiting.
    pub fn submit(
        &self,
        event: Verified,
    ) -> Result<oneshot::Receiver<Result<Outcome, IngestError>>, IngestError> {
        if self.has_failed() {
            return Err(IngestError::Unavailable);
        }
        let bytes = event.body().len();
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(IngestError::QueueFull);
        }
        let (reply, answer) = oneshot::channel();
        let sent = self.enqueue(Job::Deliver(Delivery { event, reply }));
        if sent.is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent.map(|()| answer)
    }

    fn enqueue(&self, job: Job) -> Result<(), IngestError> {
        match &*self.queue.lock() {
            Some(queue) => queue.try_send(job).map_err(|error| match error {
                TrySendError::Full(_) => IngestError::QueueFull,
                TrySendError::Disconnected(_) => IngestError::Unavailable,
            }),
            None => Err(IngestError::Unavailable),
        }
    }

    /// Lets go of everybody who waits for something to come, since a stop has begun.
    pub fn begin_shutdown(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.folded.send_modify(|_| {});
    }

    /// Whether a stop has begun.
    pub fn is_shutting_down(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Takes no more events, writes those that wait, and returns once all is synced.
    pub fn close(&self) {
        drop(self.queue.lock().take());
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }

    /// The writer: takes what waits into one batch, without lingering, makes it durable, folds it,
    /// and only then answers.
    fn write(&self, jobs: Receiver<Job>) {
        let mut carried = None;
        loop {
            let first = match carried.take() {
                Some(job) => job,
                None => match jobs.recv_timeout(Duration::from_secs(1)) {
                    Ok(job) => job,
                    Err(stopped) => {
                        // Nobody waits: leave nothing unsynced.
                        if !self.has_failed()
                            && let Err(error) = self.log.append(Vec::new(), (self.clock)())
                        {
                            self.fail(&error.to_string());
                        }
                        match stopped {
                            RecvTimeoutError::Timeout => continue,
                            RecvTimeoutError::Disconnected => return,
                        }
                    }
                },
            };
            let work: Box<dyn FnOnce() + '_> = match first {
                Job::Act(action) => Box::new(|| self.perform(*action)),
                Job::Deliver(first) => {
                    let (mut bytes, mut batch) = (first.event.body().len(), vec![first]);
                    while batch.len() < BATCH_EVENTS_MAX {
                        match jobs.try_recv() {
                            Ok(Job::Deliver(delivery))
                                if bytes + delivery.event.body().len() <= BATCH_BYTES_MAX =>
                            {
                                bytes += delivery.event.body().len();
                                batch.push(delivery);
                            }
                            Ok(job) => {
                                carried = Some(job);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    Box::new(|| self.write_batch(batch))
                }
            };
            // A store that panics must not leave anybody waiting for ever.
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                let mut stamps = self.stamps.lock();
                stamps.unknown = stamps.unknown.or(stamps.in_flight.take());
                drop(stamps);
                self.folded.send_modify(|_| {});
                self.fail("the store panicked");
            }
        }
    }

    fn fail(&self, cause: &str) {
        if !self.failed.swap(true, Ordering::SeqCst) {
            tracing::error!(cause, "the log has failed; nothing is taken until it is opened again");
            (self.on_failure)(cause);
        }
    }

    /// Whether the log failed under way. What is folded can still be asked about; nothing new is
    /// taken.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    fn write_batch(&self, batch: Vec<Delivery>) {
        let bytes: usize = batch.iter().map(|delivery| delivery.event.body().len()).sum();
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let (events, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|delivery| (delivery.event, delivery.reply)).unzip();
        match self.record_now(|_| events) {
            Ok(outcomes) => {
                let known = |outcome: &&Outcome| {
                    matches!(
                        outcome,
                        Outcome::Duplicate(_) | Outcome::Conflict { duplicate: true, .. }
                    )
                };
                self.duplicates
                    .fetch_add(outcomes.iter().filter(known).count() as u64, Ordering::Relaxed);
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    let _ = reply.send(Ok(outcome));
                }
            }
            Err(error) => {
                replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone()))))
            }
        }
    }

    /// Stamps what `events` gives for a moment, appends it and folds it.
    fn record_now(
        &self,
        events: impl FnOnce(Millis) -> Vec<Verified>,
    ) -> Result<Vec<Outcome>, IngestError> {
        if self.has_failed() {
            return Err(IngestError::Unavailable);
        }
        let recorded_at = {
            let mut stamps = self.stamps.lock();
            let recorded_at = (self.clock)().max(stamps.not_before);
            stamps.not_before = recorded_at;
            stamps.in_flight = Some(recorded_at);
            recorded_at
        };
        let events = events(recorded_at);
        let outcomes = if events.is_empty() {
            Ok(Vec::new())
        } else {
            self.log.append(events, recorded_at).and_then(|outcomes| {
                // What is acknowledged has been read back from the log.
                let folded =
                    self.fold_new().map_err(|error| AppendError::Unknown(error.to_string()));
                folded.map(|()| outcomes)
            })
        };
        {
            let mut stamps = self.stamps.lock();
            stamps.in_flight = None;
            if let Err(AppendError::Unknown(_)) = &outcomes {
                stamps.unknown.get_or_insert(recorded_at);
            }
        }
        self.folded.send_replace(self.views.read().head());
        outcomes.map_err(|error| {
            match error {
                AppendError::Unknown(cause) => self.fail(&cause),
                AppendError::Rejected(cause) => tracing::error!(cause, "a batch was not appended"),
            }
            IngestError::Unavailable
        })
    }

    fn fold_new(&self) -> Result<(), ReadError> {
        let head = self.log.head();
        let mut views = self.views.write();
        while views.head() < head {
            fold(&*self.log, &mut views, FOLD_EVENTS, Notes::Now)?;
        }
        Ok(())
    }

    /// Turns what was asked into a cut that is fixed for ever.
    ///
    /// A `known_at` in time waits until everything stamped by then is folded, and no later record
    /// is stamped so again.
    ///
    /// # Errors
    /// [`CutError`]: a cut ahead of what is known, or one that could not be repeated.
    pub async fn cut(
        &self,
        as_of: Option<Millis>,
        known_at: Option<KnownAt>,
    ) -> Result<Cut, CutError> {
        if as_of.is_some_and(|as_of| as_of > (self.clock)()) {
            return Err(CutError::AsOfInFuture);
        }
        let known_at = match known_at {
            None => self.views.read().head(),
            Some(KnownAt::Seq(seq)) if seq <= self.views.read().head() => seq,
            Some(KnownAt::Time(moment)) if moment <= (self.clock)() => self.settle(moment).await?,
            Some(_) => return Err(CutError::KnownAtOutOfRange),
        };
        Ok(Cut { as_of: as_of.unwrap_or(Millis::MAX), known_at })
    }

    async fn settle(&self, moment: Millis) -> Result<Seq, CutError> {
        let mut folded = self.folded.subscribe();
        loop {
            folded.borrow_and_update();
            let waits = {
                let mut stamps = self.stamps.lock();
                if stamps.unknown.is_some_and(|stamp| stamp <= moment) {
                    return Err(CutError::Unsettled);
                }
                stamps.not_before = stamps.not_before.max(moment.saturating_add(1));
                stamps.in_flight.is_some_and(|stamp| stamp <= moment)
            };
            if !waits || folded.changed().await.is_err() {
                return Ok(self.views.read().known_at(moment));
            }
        }
    }

    /// The views, as they stand.
    pub fn views(&self) -> RwLockReadGuard<'_, Views> {
        self.views.read()
    }

    /// The documents, if none must be read from the log.
    pub fn cached_documents(&self, keys: &[DocumentKey]) -> Option<Vec<Document>> {
        self.documents.cached(keys)
    }

    /// The documents. Blocks while it reads the log.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn load_documents(&self, keys: &[DocumentKey]) -> Result<Vec<Document>, ReadError> {
        self.documents.load(&*self.log, keys)
    }

    /// The bodies of records, in the order asked for. Blocks while it reads the log; not cached.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn load_bodies(&self, seqs: &[Seq]) -> Result<Vec<Bytes>, ReadError> {
        self.log.bodies(seqs)
    }

    /// The record that counts under an event id. Blocks while it reads the log.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn find_event(&self, event_id: &str) -> Result<Option<Seq>, ReadError> {
        self.log.find(event_id)
    }

    /// Events as the Events API shows them. Blocks while it reads the log; not cached, since those
    /// who follow read each event once.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn load_events(&self, rows: &[EventRow]) -> Result<Vec<ShownEvent>, ReadError> {
        let seqs: Vec<Seq> = rows.iter().map(|row| row.seq).collect();
        let bodies = self.log.bodies(&seqs)?;
        Ok(rows
            .iter()
            .zip(bodies)
            .map(|(row, body)| show_event(&body, *row, &self.views))
            .collect())
    }

    /// When this engine was started.
    pub fn started_at(&self) -> Millis {
        self.started_at
    }

    /// How many deliveries since the start were there already.
    pub fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }

    /// Empties the document cache. No answer changes.
    pub fn forget_documents(&self) {
        self.documents.clear();
    }

    /// One record, whole.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub fn record(&self, seq: Seq) -> Result<Record, ReadError> {
        let records = self.log.read(seq.saturating_sub(1), 1, 0)?;
        records.into_iter().next().ok_or(ReadError::Absent { seq })
    }

    /// Every view with the digest of its dump, all at one seq. Costs a pass over all timelines, in
    /// short locks; the last answer is kept while the head stands still.
    pub fn view_states(&self) -> Vec<ViewState> {
        let mut kept = self.digests.lock();
        let seq = self.views.read().head();
        match &*kept {
            Some((at, states)) if *at == seq => states.clone(),
            _ => {
                let states: Vec<ViewState> =
                    View::ALL.into_iter().map(|view| self.view_state(view, seq)).collect();
                *kept = Some((seq, states.clone()));
                states
            }
        }
    }

    fn view_state(&self, view: View, seq: Seq) -> ViewState {
        let (mut digest, mut first, mut items, mut text) = (Sha256::new(), 0, 0, String::new());
        loop {
            let views = self.views.read();
            let size = views.size(view);
            // Writing to a string cannot fail.
            items += views.dump(view, seq, first, DUMP_ITEMS, &mut text).unwrap_or(0);
            drop(views);
            digest.update(&text);
            text.clear();
            first += DUMP_ITEMS;
            if first >= size {
                let version = if view == View::Mappings { items } else { 1 };
                return ViewState { view, version, seq, items, sha256: digest.finalize().into() };
            }
        }
    }
}

/// When attributes are noted of what is folded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Notes {
    /// With each fold.
    Now,
    /// All of them once the whole log is folded, when it is known which are asked for.
    Later,
}

/// Folds the next records. The same function catches up at the start and follows live.
fn fold(
    log: &dyn Log,
    views: &mut Views,
    events_max: usize,
    notes: Notes,
) -> Result<(), ReadError> {
    let before = views.head();
    let (mut gap, mut fresh) = (None, Fresh::default());
    let noting = notes == Notes::Now && !views.attributes().is_empty();
    log.entries(before, events_max, &mut |entry| {
        if gap.is_none() && entry.seq == views.head() + 1 {
            views.apply(entry);
            if noting {
                fresh.see(entry);
            }
        } else {
            gap.get_or_insert(views.head() + 1);
        }
    })?;
    // A log that shows nothing though its head is further has lost it.
    match gap.or((views.head() == before).then_some(before + 1)) {
        Some(seq) => Err(ReadError::Absent { seq }),
        None => fresh.note(log, views),
    }
}
