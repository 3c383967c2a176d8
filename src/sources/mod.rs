//! The source: the server whose directories the log keeps. Its events are pulled, and its state is
//! compared with the views.
//!
//! Everything here runs on threads of its own, and never on one that answers requests.

mod bell;
mod bucket;
mod circle;
mod client;
mod cursor;
mod events;
pub mod reconcile;
mod status;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bell::Bell;
pub use client::{Breakage, SourceAnswer, SourceClient, SourceError, SourcePage, Tries, plain_url};
use cursor::CursorFile;
use events::Progress;
pub use events::{PullError, Take};
use parking_lot::Mutex;
use reconcile::Guard;
use rollcall_projections::Millis;
pub use status::{SourceCounts, SourceFault, SourceMoments, SourceState, SourceStatus};

use crate::engine::Engine;
use crate::time;
use crate::trust::TrustError;

/// The longest that a stop waits for the thread. One that waits for an answer is left behind: it
/// holds nothing.
const FINISH_WITHIN: Duration = Duration::from_millis(500);
const FINISH_PAUSE: Duration = Duration::from_millis(5);

/// A source as it is configured.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Its address. User information and query are not used.
    pub url: String,
    /// The key of its API.
    pub key: String,
    /// The pause between two pulls.
    pub every: Duration,
    /// The requests a second.
    pub rate: u32,
    /// The pause between two reconciliations; zero for none but those that are asked for.
    pub reconcile_every: Duration,
    /// The guard of reconciliations that name none of their own.
    pub guard: Guard,
}

/// A source, and the state of pulling from it.
pub struct Source {
    client: SourceClient,
    status: Arc<SourceStatus>,
    bell: Arc<Bell>,
    cursor: CursorFile,
    every: Duration,
    reconcile_every: Duration,
    guard: Guard,
    /// True if webhooks are taken: then young events are left to them.
    signs_webhooks: bool,
    pulling: Mutex<Progress>,
    runs: reconcile::Runs,
    /// True while the source is asked for a caller who waits.
    is_looking: AtomicBool,
}

/// The thread that pulls.
pub struct Pulling(JoinHandle<()>);

impl Source {
    /// Makes a source for the log in the folder `data`, and asks nothing yet.
    ///
    /// # Errors
    /// If there is no certificate where one must be.
    pub fn new(
        settings: &SourceSettings,
        data: &Path,
        signs_webhooks: bool,
    ) -> Result<Source, TrustError> {
        let SourceSettings { url, key, every, rate, reconcile_every, guard } = settings;
        let (bell, status): (Arc<Bell>, Arc<SourceStatus>) = Default::default();
        Ok(Source {
            client: SourceClient::new(url, key, *rate, bell.clone(), status.clone())?,
            status,
            bell,
            cursor: CursorFile::in_folder(data),
            every: *every,
            reconcile_every: *reconcile_every,
            guard: *guard,
            signs_webhooks,
            pulling: Mutex::default(),
            runs: reconcile::Runs::in_folder(data),
            is_looking: AtomicBool::new(false),
        })
    }

    /// Pulls on a thread of its own, which does not keep the engine from being closed.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(self: &Arc<Source>, engine: &Arc<Engine>) -> std::io::Result<Pulling> {
        self.schedule(engine)?;
        let (source, engine) = (self.clone(), Arc::downgrade(engine));
        let pull = move || events::run(&source, &engine);
        thread::Builder::new().name("pull".into()).spawn(pull).map(Pulling)
    }

    /// Asks for a pull now. Returns a moment: the pull that begins then or later answers it.
    pub fn request_pull(&self) -> Millis {
        // A pull that began before, but within the same millisecond, does not answer it.
        thread::sleep(Duration::from_millis(1));
        let now = time::now_ms();
        self.bell.ring();
        now
    }

    /// Ends everything that waits.
    pub fn stop(&self) {
        self.bell.stop();
    }

    /// Returns true once it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.bell.is_stopped()
    }

    /// Returns its address, without user information and query.
    pub fn url(&self) -> &str {
        self.client.origin().url()
    }

    /// Returns the client of all requests to it.
    pub fn client(&self) -> &SourceClient {
        &self.client
    }

    /// Returns its state.
    pub fn status(&self) -> &SourceStatus {
        &self.status
    }
}

impl Pulling {
    /// Waits a moment for the thread, whose source was stopped.
    pub fn finish(self) {
        let begun = Instant::now();
        while !self.0.is_finished() && begun.elapsed() < FINISH_WITHIN {
            thread::sleep(FINISH_PAUSE);
        }
    }
}
