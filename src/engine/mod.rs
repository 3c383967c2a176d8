//! The road in one screen: verified events go through one writer into the log and from there into
//! the views; questions are cut in both clocks and answered from the views.

mod acts;
mod attributes;
mod changes;
mod cut;
mod errors;
mod proofs;
mod reads;
mod rebuild;
mod writer;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rollcall_projections::{Millis, Seq, Views};
use tokio::sync::watch;

pub use acts::{Expect, Prepared, not_in_future};
use attributes::{Progress, note_all};
pub use changes::{Feed, FeedPlace};
pub use cut::KnownAt;
pub use errors::{ActError, CutError, IngestError};
pub use proofs::{ChangeError, KeyChange};
pub use reads::ViewState;
pub use rebuild::Rebuild;
use writer::{FOLD_EVENTS, Job, Notes, QUEUE_EVENTS_MAX, Stamps, fold};

use crate::documents::Documents;
use crate::log::{Log, ReadError};
use crate::notary::Notary;

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

    /// Whether the log failed under way. What is folded can still be asked about; nothing new is
    /// taken.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// The views, as they stand.
    pub fn views(&self) -> RwLockReadGuard<'_, Views> {
        self.views.read()
    }

    /// When this engine was started.
    pub fn started_at(&self) -> Millis {
        self.started_at
    }

    /// How many deliveries since the start were there already.
    pub fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }
}
