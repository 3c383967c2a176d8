//! The road in one screen: one writer appends verified events to the log and folds them into the
//! views; questions are cut in both clocks and answered from the views.

mod acts;
mod ahead;
mod answers;
mod attributes;
mod changes;
mod condition;
mod cut;
mod errors;
mod folder;
mod hang;
mod hosted;
mod links;
mod metrics;
mod observations;
mod owed;
mod preview;
mod proofs;
mod pulled;
mod reads;
mod rebuild;
mod scim;
mod shown_change;
mod snapshot_file;
mod snapshots;
mod tally;
mod traffic;
mod writer;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rollcall_projections::{Entry, EventType, Millis, Seq, Views};
use tokio::sync::watch;

pub use acts::{Expect, not_in_future};
pub use ahead::FoldAhead;
use answers::{ANSWERS_PART, Answers};
pub use answers::{AnswerKey, KeptAnswer};
use attributes::{ReadProgress, note_rest};
use changes::Marks;
pub use changes::{CountedUser, Feed, FeedCursor, FeedPlace, PageBounds};
use condition::StateMoments;
pub use condition::{LogState, Since};
pub use cut::KnownAt;
pub use errors::{ActError, CutError, IngestError};
use hang::DiskWrite;
pub use hosted::{NewDirectory, NewToken};
pub use links::{LINKS_AT_ONCE, LinkOutcome, LinkPair, LinkResult};
use metrics::EngineMetrics;
pub use observations::{AwaitedOutcomes, Discovery, ObservationOutcome};
pub use owed::{CONSEQUENCES, Owed, OwedItem, OwedReader, Selection};
pub use preview::{GoesOn, MappingMemory, Prepared, WorkError};
pub use proofs::{ChangeError, KeyChange};
use reads::Digests;
pub use reads::ViewState;
pub use rebuild::Rebuild;
pub use scim::{
    LastScimRequest, ScimCaller, ScimCommand, ScimCounts, ScimDone, ScimError, ScimMethod,
    ScimPage, ScimSearch, ScimShowing, ScimShown, ScimTurn,
};
use scim::{ScimDirectories, ScimDocuments};
pub use shown_change::show_change;
use snapshots::Known;
pub use snapshots::{
    Beginning, ReadSnapshot, SnapshotComparison, SnapshotState, Snapshots, StoppedSnapshot,
    ViewsOrigin, compare_snapshot, unusable_snapshot,
};
use tally::Tally;
pub use tally::Tallying;
use traffic::KeptTraffic;
pub use traffic::TrafficNow;
use writer::{Entries, FOLD_EVENTS, Job, QUEUE_EVENTS_MAX, Stamps, fold_entries};

use crate::archive::ArchiveStatus;
use crate::documents::Documents;
use crate::log::{Checked, DiskSpace, History, Log, ReadError};
use crate::notary::Notary;
use crate::time::Clock;

/// The longest that a start waits for its clock.
const WAIT_MAX_MS: Millis = 1500;

/// The longest that a close waits for one write to the disk, and for all of them.
const CLOSE_STALL_MAX: Duration = Duration::from_secs(15);
const CLOSE_MAX: Duration = Duration::from_secs(60);
const CLOSE_PAUSE: Duration = Duration::from_millis(1);

/// The most bytes of memory that all mappings may take, about, if nothing else is set.
pub const MAPPING_BYTES_MAX: u64 = 256 << 20;

/// The log, its views, and the one thread that appends.
pub struct Engine {
    log: Arc<dyn Log>,
    views: RwLock<Views>,
    documents: Documents,
    /// Finished answers.
    answers: Answers,
    /// The documents of the resources of SCIM.
    scim_documents: ScimDocuments,
    /// The order and the counts of identity providers' requests.
    scim: ScimDirectories,
    /// The signer of checkpoints.
    notary: OnceLock<Notary>,
    /// True once the log was found to name another key than the notary's.
    has_other_key: AtomicBool,
    /// The state of the archive, if there is one.
    archive: OnceLock<Arc<ArchiveStatus>>,
    /// The queue of the writer; `None` once closed.
    queue: Mutex<Option<SyncSender<Job>>>,
    queued_bytes: AtomicUsize,
    queued_events: AtomicUsize,
    stamps: Mutex<Stamps>,
    /// The newest folded record; sent after each fold.
    folded: watch::Sender<Seq>,
    writer: Mutex<Option<JoinHandle<()>>>,
    digests: Mutex<Digests>,
    traffic: KeptTraffic,
    marks: Marks,
    /// The last rebuild.
    rebuild: Mutex<Option<Arc<Rebuild>>>,
    /// The snapshot with which the start began.
    begun_from: Option<Known>,
    /// The state of the snapshot; `None` if none is kept.
    snapshot: Mutex<Option<SnapshotState>>,
    /// The most bytes of memory that all mappings may take, about.
    mapping_bytes_max: AtomicU64,
    /// Held while an act is done, and while rebuilt views replace the serving ones: an index that
    /// an act installs must still be there when its record is folded.
    acting: Mutex<()>,
    clock: Clock,
    /// True while the log of this process says last that the clock has jumped.
    clock_is_doubted: AtomicBool,
    started_at: Millis,
    moments: StateMoments,
    metrics: EngineMetrics,
    tally: Mutex<Tally>,
    /// The moment at which a checkpoint of all records was last given out.
    checkpointed_at: AtomicI64,
    /// Deliveries since the start that appended nothing; the log does not keep them.
    duplicates: AtomicU64,
    /// The duplicates among them with another content than the record of their id.
    differing: AtomicU64,
    /// The signed webhooks among those.
    differing_webhooks: AtomicU64,
    /// The kinds of differing duplicates that the log of this process has named.
    differing_named: Mutex<Vec<DifferingKind>>,
    /// Latched by the first batch whose outcome is unknown.
    failed: AtomicBool,
    /// Set while the disk takes no writes.
    blocked: AtomicBool,
    /// What the writer writes to the disk now.
    disk_write: DiskWrite,
    /// Latched when shutdown begins: long polls end.
    shutting_down: AtomicBool,
    on_failure: Box<dyn Fn(&str) + Send + Sync>,
}

impl Engine {
    /// Folds the whole log, then starts the writer. `document_bytes_max` bounds what is kept
    /// of documents and of finished answers.
    ///
    /// Calls `on_failure` once if the log fails later: from then on every event and act is refused
    /// until the log is opened again.
    ///
    /// # Errors
    /// The first record that cannot be read: the engine does not start over half a log.
    pub fn start(
        log: Arc<dyn Log>,
        document_bytes_max: u64,
        clock: impl Into<Clock>,
        on_failure: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Arc<Engine>, ReadError> {
        Engine::start_folded(log, Beginning::default(), document_bytes_max, clock, on_failure)
    }

    /// Starts as [`Engine::start`] does over a log whose first records are folded already.
    ///
    /// # Errors
    /// The first record that cannot be read.
    pub fn start_folded(
        log: Arc<dyn Log>,
        beginning: Beginning,
        document_bytes_max: u64,
        clock: impl Into<Clock>,
        on_failure: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Arc<Engine>, ReadError> {
        let clock = clock.into();
        let Beginning { views, noted, snapshot } = beginning;
        let mut views = fold_rest(views, &*log)?;
        note_rest(&*log, &mut views, noted, &ReadProgress::default())?;
        let not_before = views.recorded_at().max(log.answered().saturating_add(1));
        wait_until(&clock, not_before);
        let started_at = clock.now_ms();
        let (queue, jobs) = sync_channel(QUEUE_EVENTS_MAX);
        let engine = Arc::new(Engine {
            log,
            folded: watch::Sender::new(views.head()),
            stamps: Mutex::new(Stamps {
                not_before,
                answered: Millis::MIN,
                in_flight: VecDeque::new(),
                unknown: None,
            }),
            views: RwLock::new(views),
            documents: Documents::new(document_bytes_max - document_bytes_max / ANSWERS_PART),
            answers: Answers::new(document_bytes_max / ANSWERS_PART),
            scim_documents: ScimDocuments::default(),
            scim: ScimDirectories::default(),
            notary: OnceLock::new(),
            has_other_key: AtomicBool::new(false),
            archive: OnceLock::new(),
            queue: Mutex::new(Some(queue)),
            queued_bytes: AtomicUsize::new(0),
            queued_events: AtomicUsize::new(0),
            writer: Mutex::default(),
            digests: Mutex::default(),
            traffic: KeptTraffic::default(),
            marks: Marks::default(),
            rebuild: Mutex::default(),
            begun_from: snapshot,
            snapshot: Mutex::default(),
            mapping_bytes_max: AtomicU64::new(MAPPING_BYTES_MAX),
            acting: Mutex::default(),
            started_at,
            moments: StateMoments::begun(started_at),
            metrics: EngineMetrics::new(),
            tally: Mutex::default(),
            checkpointed_at: AtomicI64::new(started_at),
            clock,
            clock_is_doubted: AtomicBool::new(false),
            duplicates: AtomicU64::new(0),
            differing: AtomicU64::new(0),
            differing_webhooks: AtomicU64::new(0),
            differing_named: Mutex::default(),
            failed: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            disk_write: DiskWrite::none(),
            shutting_down: AtomicBool::new(false),
            on_failure: Box::new(on_failure),
        });
        let thread = engine.clone().start_writer(jobs);
        *engine.writer.lock() = Some(thread.map_err(|error| ReadError::Store(error.to_string()))?);
        Ok(engine)
    }

    /// Sets the most bytes of memory that all mappings may take, about. Those that were set before
    /// stay, whatever they take, and a warning says so if that is more.
    pub fn set_mapping_bytes_max(&self, bytes: u64) {
        self.mapping_bytes_max.store(bytes, Ordering::Relaxed);
        let taken = self.mapping_memory().taken;
        if taken > bytes {
            tracing::warn!(
                taken_mib = taken.div_ceil(1 << 20),
                mapping_memory_mib = bytes >> 20,
                "the mappings that were set take more memory than all may: they stay, and no other \
                 is taken until `mapping_memory_mib` is higher"
            );
        }
    }

    /// Begins the shutdown: wakes all long polls.
    pub fn begin_shutdown(&self) {
        self.shutting_down.store(true, Ordering::SeqCst);
        self.folded.send_modify(|_| {});
    }

    /// Returns true once shutdown has begun.
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::SeqCst)
    }

    /// Refuses further events, writes the queued ones, and returns once all are synced, or the disk
    /// does not answer.
    pub fn close(&self) {
        self.close_in_time();
    }

    /// Closes as [`Engine::close`] does. Returns false if the disk does not answer: the writer is
    /// left behind then, and what it has not acknowledged may be in the log or not.
    pub fn close_in_time(&self) -> bool {
        drop(self.queue.lock().take());
        let Some(writer) = self.writer.lock().take() else { return true };
        let begun = Instant::now();
        while !writer.is_finished() {
            if self.disk_write.so_far() > CLOSE_STALL_MAX || begun.elapsed() > CLOSE_MAX {
                return false;
            }
            thread::sleep(CLOSE_PAUSE);
        }
        let _ = writer.join();
        true
    }

    /// Returns true while new events and acts are refused: for ever once the log has failed, and
    /// for as long as its disk takes no writes, or has not answered one for five seconds, or the
    /// clock has jumped. Questions are still answered.
    pub fn refuses_events(&self) -> bool {
        self.now().is_err()
    }

    /// Returns the moment at which an event arrives: freshness is judged by the same clock that
    /// stamps records.
    ///
    /// # Errors
    /// [`IngestError::Unavailable`] while events are refused.
    pub fn now(&self) -> Result<Millis, IngestError> {
        let is_closed = self.failed.load(Ordering::SeqCst) || self.blocked.load(Ordering::SeqCst);
        if is_closed || self.disk_write.is_slow() {
            return Err(IngestError::Unavailable);
        }
        self.clock.believable_ms().map_err(|_| IngestError::Unavailable)
    }

    /// Returns the state of the clock.
    pub fn clock_state(&self) -> ClockState {
        let not_before = self.stamps.lock().not_before;
        let ahead_ms = not_before.saturating_sub(self.clock.now_ms());
        ClockState {
            offset_ms: self.clock.offset_ms(),
            stamps_ahead_ms: ahead_ms.max(0),
            is_believed: self.clock.believable_ms().is_ok(),
        }
    }

    /// Returns the space on the disk of the log; `None` if it cannot be known.
    pub fn disk_space(&self) -> Option<DiskSpace> {
        self.log.disk_space()
    }

    /// Returns the newest record that the views hold, without a lock on them.
    pub fn folded_head(&self) -> Seq {
        *self.folded.borrow()
    }

    /// Locks the views for reading.
    pub fn views(&self) -> RwLockReadGuard<'_, Views> {
        self.views.read()
    }

    /// Returns the moment when this engine was started.
    pub fn started_at(&self) -> Millis {
        self.started_at
    }

    /// Returns the number of deliveries since the start that were in the log already.
    pub fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }

    /// Returns the number of duplicates since the start whose content differs from that of the record
    /// of their id. Either of the two was pulled or imported; the later one is not kept.
    pub fn differing(&self) -> u64 {
        self.differing.load(Ordering::Relaxed)
    }

    /// Returns the number of signed webhooks among the differing duplicates: the records of their ids
    /// were pulled or imported.
    pub fn differing_webhooks(&self) -> u64 {
        self.differing_webhooks.load(Ordering::Relaxed)
    }
}

/// A kind of differing duplicates. Signed ones are a kind of their own, so that a type which pulled
/// copies have shown before does not hide that a webhook was dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
struct DifferingKind {
    /// The type, if Rollcall knows it.
    event_type: Option<EventType>,
    is_webhook: bool,
}

/// The state of the clock that stamps records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// By how much it was set ahead since the start; negative if it was set back.
    pub offset_ms: Millis,
    /// How far the next record's stamp is ahead of it, because no stamp is earlier than one before.
    pub stamps_ahead_ms: Millis,
    /// False while it has jumped, and events are refused.
    pub is_believed: bool,
}

/// Waits a moment for the clock, after a stop that was not clean, so that nothing is stamped ahead
/// of it. A clock that was set back is not waited for.
fn wait_until(clock: &Clock, moment: Millis) {
    let ahead_ms = moment.saturating_sub(clock.now_ms());
    if (1..=WAIT_MAX_MS).contains(&ahead_ms) {
        thread::sleep(Duration::from_millis(ahead_ms.unsigned_abs()));
    }
}

/// Folds all records of a log, without the attributes that its mappings name.
///
/// # Errors
/// The first record that cannot be read.
pub fn fold_log(log: &dyn Log) -> Result<Views, ReadError> {
    fold_rest(Views::new(), log)
}

/// Folds the records of a log that `views` do not hold yet.
fn fold_rest(views: Views, log: &dyn Log) -> Result<Views, ReadError> {
    fold_up_to(log.head(), views, &|after, max, each| log.entries(after, max, each))
}

/// Folds the records of a log before one.
///
/// # Errors
/// The first record that cannot be read.
fn fold_before(log: &dyn Log, seq: Seq) -> Result<Views, ReadError> {
    let mut views = Views::new();
    let last = seq.saturating_sub(1);
    while views.head() < last {
        let rest = usize::try_from(last - views.head()).unwrap_or(usize::MAX);
        let entries = |after, max, each: &mut dyn FnMut(&Entry<'_>)| log.entries(after, max, each);
        fold_entries(&entries, &mut views, rest.min(FOLD_EVENTS), |_| {})?;
    }
    Ok(views)
}

/// Folds the records of a data folder whose store is not open yet that `beginning` does not hold.
///
/// # Errors
/// The first record that cannot be read.
pub fn fold_checked(beginning: Beginning, checked: &Checked) -> Result<Beginning, ReadError> {
    let Beginning { views, noted, snapshot } = beginning;
    let entries: Entries<'_> = &|after, max, each| checked.entries(after, max, each);
    Ok(Beginning { views: fold_up_to(checked.head(), views, entries)?, noted, snapshot })
}

fn fold_up_to(head: Seq, mut views: Views, entries: Entries<'_>) -> Result<Views, ReadError> {
    while views.head() < head {
        fold_entries(entries, &mut views, FOLD_EVENTS, |_| {})?;
    }
    Ok(views)
}
