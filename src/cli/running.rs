//! A running server: the wiring of production, which `serve`, the demo, and the commands that read
//! a data folder share.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rollcall_projections::{Millis, Seq};
use rustix::fs::Access;
use rustix::process::{Resource, Rlimit};
use tokio::sync::oneshot;

use super::Failure;
use super::client::Client;
use super::copies::{Copies, contradicts, judge_published, judge_start};
use super::publish::Publishers;
use super::service_manager::ServiceManager;
use super::signals::stops;
use super::verify::{inspect_files, key_files, key_findings};
use crate::allocator;
use crate::archive::Archiving;
use crate::delivery::Deliveries;
use crate::engine::{
    Beginning, Engine, FoldAhead, KeyChange, MAPPING_BYTES_MAX, ReadSnapshot, Snapshots, Tallying,
    fold_checked,
};
use crate::http::{self, ListenError, ListenOn, Settings};
use crate::keys::Operator;
use crate::log::{
    Checked, DISK_RESERVE_BYTES, Damage, DiskLog, History, Log, OpenError, Prefix, Scrub,
    ScrubPace, StoppedFolder, Unrecovered, finish_fork, fork,
};
use crate::notary::{KeyError, KeyFiles, KeyHistory, Notary, Verifier, replace_key};
use crate::sink::{Sink, Sinking};
use crate::sources::{Pulling, Source};
use crate::time::{self, Clock};

/// Milliseconds that a stop waits for the server's threads to release the engine. If they hold it
/// longer, the log is safe, but not marked as closed.
const RELEASE_TRIES_MAX: u32 = 500;

/// The longest that a stop waits until the store is closed.
const CLOSE_WITHIN: Duration = Duration::from_secs(15);
const CLOSE_PAUSE: Duration = Duration::from_millis(1);

const HANGS: &str = "the disk of the data folder does not answer: the stop does not wait for it; \
    the process, and its lock of the folder, end once it answers";

/// How far the clock may be ahead of the last record at a start unless it is accepted, and from
/// where on that is warned of. A server may have been stopped for that long.
const AHEAD_MAX_MS: Millis = 366 * 86_400_000;
const AHEAD_WARNED_OF_MS: Millis = 86_400_000;

/// How far the clock may be behind the last record without a warning.
const BEHIND_WARNED_OF_MS: Millis = 10_000;

/// The memory that the caches may take, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Caches {
    pub(super) documents: u64,
    pub(super) store: u64,
}

/// The conditions under which events and acts are taken.
#[derive(Clone, Copy)]
pub(super) struct Conditions {
    /// The disk space that must be free, in bytes.
    pub(super) disk_reserve_bytes: u64,
    /// The memory that all mappings may take, in bytes.
    pub(super) mapping_bytes_max: u64,
    /// True if a clock that is far ahead of the last record is right.
    pub(super) accept_clock: bool,
    /// True if the log may go on without records that a copy of it has.
    pub(super) accept_fork: bool,
    /// How fast and how often the store is read again while the server runs.
    pub(super) scrub: Option<ScrubPace>,
}

impl Default for Conditions {
    fn default() -> Conditions {
        Conditions {
            disk_reserve_bytes: DISK_RESERVE_BYTES,
            mapping_bytes_max: MAPPING_BYTES_MAX,
            accept_clock: true,
            accept_fork: false,
            scrub: None,
        }
    }
}

/// The key that signs checkpoints.
pub(super) enum Signing {
    /// The log's own key, in `file` or else in the data folder. If it is lost and `replace_by` is
    /// given, a new key is made and recorded as this operator's act.
    Own { file: Option<PathBuf>, replace_by: Option<Operator> },
    /// The log's own key if it is there. Nothing is made or written.
    Look,
}

impl Signing {
    /// Returns the file of the key, if it is not in the data folder, where it would move along when
    /// the log becomes another one.
    fn file_elsewhere(&self) -> Option<&Path> {
        let Signing::Own { file, .. } = self else { return None };
        file.as_deref().filter(|file| file.exists())
    }

    /// Checks that the key of a log that becomes another one can make room for a new one, before
    /// anything is changed.
    fn check_fork(&self) -> Result<(), Failure> {
        let Some(file) = self.file_elsewhere() else { return Ok(()) };
        let around = file.parent().filter(|around| !around.as_os_str().is_empty());
        let access = Access::WRITE_OK | Access::EXEC_OK;
        let writable = rustix::fs::access(around.unwrap_or(Path::new(".")), access);
        writable.map_err(|error| not_renamed(file, error.into()))
    }

    /// Makes room for the new key of a log that became another one. The key of the log before is
    /// kept in `kept`, or next to its file.
    fn after_fork(&self, kept: &Path) -> Result<(), Failure> {
        let Some(file) = self.file_elsewhere() else { return Ok(()) };
        let mut former = file.as_os_str().to_owned();
        former.push(".");
        former.push(kept.file_name().unwrap_or_default());
        std::fs::rename(file, &former).map_err(|error| not_renamed(file, error))
    }

    /// Gives the engine its notary.
    fn appoint(self, engine: &Engine, data: &Path) -> Result<(), Failure> {
        let history = engine.key_history();
        match self {
            Signing::Look => {
                // The tree over what is left of a damaged log is not signed.
                let Ok(history) = history else { return Ok(()) };
                let files = key_files(data);
                if let Some(notary) = Notary::open_read_only(files, engine.log_id(), &history) {
                    engine.set_notary(notary);
                }
            }
            Signing::Own { file, replace_by } => {
                let files = KeyFiles::of(data, file);
                let history = history.map_err(Failure::ours)?;
                engine.set_notary(open_notary(engine, files, &history, replace_by)?);
            }
        }
        Ok(())
    }

    /// Checks that the key of the log is there, or can be made for a new one, before anything in its
    /// folder is changed. Returns the public keys that have signed its checkpoints.
    fn check(&self, checked: &Checked, data: &Path) -> Result<Vec<Verifier>, Failure> {
        let Signing::Own { file, replace_by } = self else { return Ok(Vec::new()) };
        // A log that is not there yet has no id, and no key.
        let log_id = checked.log_id().unwrap_or_default();
        let changes: Vec<KeyChange> =
            checked.key_changes().iter().filter_map(KeyChange::of).collect();
        let former: Vec<String> = changes.iter().map(|change| change.from.clone()).collect();
        let history = KeyChange::history(log_id, changes, |size| checked.root(size));
        let history = history.map_err(Failure::ours)?;
        let present = match Notary::check(&KeyFiles::of(data, file.clone()), log_id, &history) {
            Err(KeyError::Lost { expected, .. }) if replace_by.is_some() => Some(expected),
            found => found.map_err(key_failure)?,
        };
        let keys = former.iter().chain(&present);
        Ok(keys.filter_map(|key| Verifier::parse(key).ok()).collect())
    }
}

fn not_renamed(file: &Path, error: io::Error) -> Failure {
    let file = file.display();
    Failure::Caller(format!(
        "--accept-fork makes a new key, and `{file}` cannot be renamed: {error}; name a new file \
         with --checkpoint-key"
    ))
}

fn open_notary(
    engine: &Engine,
    files: KeyFiles,
    history: &KeyHistory,
    replace_by: Option<Operator>,
) -> Result<Notary, Failure> {
    let opened = Notary::open(files.clone(), engine.log_id(), history);
    match (opened, replace_by) {
        (Err(KeyError::Lost { expected, .. }), Some(operator)) => {
            replace_lost_key(engine, files, expected, operator)
        }
        (opened, Some(_)) => {
            tracing::warn!(
                "--replace-checkpoint-key has no effect: the key is there; leave the option out"
            );
            opened.map_err(key_failure)
        }
        (opened, None) => opened.map_err(key_failure),
    }
}

fn replace_lost_key(
    engine: &Engine,
    files: KeyFiles,
    lost: String,
    operator: Operator,
) -> Result<Notary, Failure> {
    tracing::warn!(lost, "a new checkpoint key replaces one that is lost");
    let record = |to: &str| {
        let note = Some("the key before was lost".to_owned());
        engine.record_key_change(operator, lost.clone(), to.to_owned(), note).is_ok()
    };
    replace_key(&files, engine.log_id(), record).map_err(key_failure)?;
    let history = engine.key_history().map_err(Failure::ours)?;
    Notary::open(files, engine.log_id(), &history).map_err(key_failure)
}

/// Blames the caller for a key file that is missing or is another key's: the right one may be at
/// another path. One that is damaged is a fault of the data, as for `rollcall verify`.
fn key_failure(error: KeyError) -> Failure {
    match error {
        KeyError::Lost { .. } | KeyError::Exchanged { .. } => Failure::Caller(error.to_string()),
        KeyError::Malformed(_)
        | KeyError::Public { .. }
        | KeyError::Io { .. }
        | KeyError::Random(_)
        | KeyError::Unrecorded
        | KeyError::Pending(_) => Failure::ours(error),
    }
}

/// Blames the caller for a data folder that is in use, has another format or is another user's.
pub(super) fn open_failure(error: OpenError) -> Failure {
    match error {
        OpenError::InUse(_) | OpenError::Format { .. } | OpenError::OfUser { .. } => {
            Failure::Caller(error.to_string())
        }
        OpenError::Io { .. }
        | OpenError::Blocked { .. }
        | OpenError::Damaged { .. }
        | OpenError::Harmed { .. }
        | OpenError::Diverged { .. }
        | OpenError::Disputed { .. } => Failure::ours(error),
    }
}

/// The addresses of a server.
pub(super) struct Listen {
    pub(super) main: Vec<ListenOn>,
    /// The address for monitors and operators.
    pub(super) admin: Option<ListenOn>,
}

impl Listen {
    /// Returns a free port that only this machine can reach.
    pub(super) fn loopback() -> Listen {
        Listen { main: vec![ListenOn::Tcp("127.0.0.1:0".into())], admin: None }
    }
}

/// The reason why a server did not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The data folder does not open for reading.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The data folder does not open to be served.
    #[error("the data folder cannot be served")]
    Serve(Failure),
    /// An address is not available.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Signals cannot be received.
    #[error(transparent)]
    Signals(#[from] io::Error),
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        match error {
            StartError::Open(error) => open_failure(error),
            StartError::Serve(failure) => failure,
            StartError::Listen(error) => Failure::Caller(error.to_string()),
            StartError::Signals(error) => Failure::Ours(error.to_string()),
        }
    }
}

/// The threads other than those that answer: they ask other servers, count, and read the log again.
struct Asking {
    publishers: Publishers,
    pulling: Option<Pulling>,
    sinking: Option<Sinking>,
    archiving: Option<Archiving>,
    tallying: Option<Tallying>,
    scrub: Option<Scrub>,
    deliveries: Arc<Deliveries>,
    snapshots: Option<Snapshots>,
}

impl Asking {
    fn begin(
        copies: Copies,
        source: Option<&Arc<Source>>,
        sink: Option<&Arc<Sink>>,
        deliveries: Arc<Deliveries>,
        opened: &Opened,
        served: Option<&Path>,
    ) -> Result<Asking, Failure> {
        let Copies { publish, archive } = copies;
        let Opened { engine, to_scrub, .. } = opened;
        let tallying = served.map(|_| engine.begin_tally()).transpose().map_err(Failure::ours)?;
        let snapshots = served.map(|data| engine.keep_snapshots(data)).transpose();
        let snapshots = snapshots.map_err(Failure::ours)?;
        let scrub = to_scrub.as_ref().map(|(log, pace)| Scrub::start(log, *pace)).transpose();
        let scrub = scrub.map_err(Failure::ours)?;
        let pulling = source.map(|source| source.start(engine)).transpose();
        let pulling = pulling.map_err(Failure::ours)?;
        let sinking = sink.map(|sink| sink.start(engine)).transpose();
        let sinking = sinking.map_err(Failure::ours)?;
        let archiving = archive.map(|archive| archive.start(engine)).transpose();
        let archiving = archiving.map_err(Failure::ours)?;
        deliveries.start(engine).map_err(Failure::ours)?;
        let publishers = publish.start(engine);
        Ok(Asking {
            publishers,
            pulling,
            sinking,
            archiving,
            tallying,
            scrub,
            deliveries,
            snapshots,
        })
    }

    /// Ends them, after what they do last.
    fn finish(self) {
        drop(self.scrub);
        self.tallying.into_iter().for_each(Tallying::finish);
        self.publishers.finish();
        self.pulling.into_iter().for_each(Pulling::finish);
        self.sinking.into_iter().for_each(Sinking::finish);
        self.archiving.into_iter().for_each(Archiving::finish);
        self.deliveries.finish();
        self.snapshots.into_iter().for_each(Snapshots::finish);
    }
}

/// The start of a server that listens already, on a thread of its own.
struct Start {
    data: PathBuf,
    copies: Copies,
    conditions: Conditions,
    caches: Caches,
    source: Option<Arc<Source>>,
    sink: Option<Arc<Sink>>,
    deliveries: Arc<Deliveries>,
    /// Gets what is wrong with a folder that is only read.
    condition: Arc<OnceLock<FolderCondition>>,
    /// Gets the failure of the log while the server runs, which ends the server.
    failed: mpsc::Sender<Failure>,
    handle: http::Handle,
}

impl Start {
    /// Folds the log of the folder, and starts the threads other than those that answer.
    fn run(self, folder: Folder, signing: Signing) -> Result<(Asking, Arc<Engine>), Failure> {
        let Start { data, copies, conditions, caches, source, sink, deliveries, .. } = self;
        let (failed, handle) = (self.failed, self.handle);
        let on_failure = move |cause: &str| {
            let _ = failed.send(Failure::Ours(format!("the log has failed: {cause}")));
            drop(handle.stop(true));
        };
        let serves = matches!(signing, Signing::Own { .. });
        let opening = Opening { folder, data: &data, copies: &copies, conditions, caches };
        let mut opened = opening.engine(signing, on_failure)?;
        if serves {
            // It belongs to this log's state: no question is answered from half a change.
            opened.engine.finish_scim_changes().map_err(Failure::ours)?;
        }
        let _ = self.condition.set(std::mem::take(&mut opened.condition));
        let (source, sink, served) = (source.as_ref(), sink.as_ref(), serves.then_some(&*data));
        let asking = Asking::begin(copies, source, sink, deliveries, &opened, served)?;
        Ok((asking, opened.engine))
    }
}

/// A server that listens, and whose engine is ready or folds the log.
pub(super) struct Running {
    server: http::Server,
    engine: Arc<OnceLock<Arc<Engine>>>,
    source: Option<Arc<Source>>,
    deliveries: Arc<Deliveries>,
    /// Sent before the engine is set.
    asking: mpsc::Receiver<Asking>,
    failures: mpsc::Receiver<Failure>,
    service_manager: Arc<ServiceManager>,
    /// Sent at SIGTERM or SIGINT.
    stops: oneshot::Receiver<()>,
    /// What is wrong with a folder that is only read. Set before the engine is.
    condition: Arc<OnceLock<FolderCondition>>,
}

/// What is wrong with a data folder that is only read.
#[derive(Clone, Default)]
pub(super) struct FolderCondition {
    pub(super) damage: Option<Damage>,
    /// The records without which the log was once restored.
    pub(super) lost: Vec<(Seq, Seq)>,
    /// What else is to be known.
    pub(super) remarks: Vec<String>,
}

impl Running {
    /// Listens on a free port of this machine, opens the data folder for reading, and folds the log
    /// on another thread. Changes nothing in the folder and copies nothing elsewhere.
    pub(super) fn start(
        data: &Path,
        settings: Settings,
        caches: Caches,
    ) -> Result<Running, StartError> {
        let (listen, conditions) = (Listen::loopback(), Conditions::default());
        let (signing, copies) = (Signing::Look, Copies::nowhere());
        Running::start_with(&listen, data, settings, caches, conditions, signing, copies)
    }

    /// Starts as [`Running::start`] does, with a key that signs checkpoints and places to which they
    /// and the log are copied.
    pub(super) fn start_with(
        listen: &Listen,
        data: &Path,
        settings: Settings,
        caches: Caches,
        conditions: Conditions,
        signing: Signing,
        copies: Copies,
    ) -> Result<Running, StartError> {
        let stops = stops()?;
        raise_descriptor_limit();
        let engine: Arc<OnceLock<Arc<Engine>>> = Arc::default();
        // A start that cannot listen leaves no folder.
        let Listen { main, admin } = listen;
        let (source, sink) = (settings.source.clone(), settings.sink.clone());
        let deliveries = settings.deliveries.clone();
        let server = http::serve(main, admin.as_ref(), settings, engine.clone())?;
        let folder = Folder::open(data, &signing, &copies, caches.store)?;
        let service_manager = Arc::new(match folder {
            Folder::ToRead(_) => ServiceManager::unheard(),
            Folder::ToServe { .. } => ServiceManager::starting(),
        });
        let handle = server.handle.clone();
        let (failed, failures) = mpsc::channel();
        let (begun, asking) = mpsc::channel();
        let condition: Arc<OnceLock<FolderCondition>> = Arc::default();
        let start = Start {
            data: data.to_owned(),
            copies,
            conditions,
            caches,
            source: source.clone(),
            sink,
            deliveries: deliveries.clone(),
            condition: condition.clone(),
            failed: failed.clone(),
            handle: handle.clone(),
        };
        let (slot, started) = (engine.clone(), service_manager.clone());
        thread::spawn(move || match start.run(folder, signing) {
            Ok((asking, engine)) => {
                let _ = begun.send(asking);
                allocator::give_back();
                let head = engine.head();
                drop(slot.set(engine));
                tracing::info!(head, "ready");
                started.ready(head);
            }
            Err(failure) => {
                // A server without its log is useless. The cause is sent before the stop, so
                // that it is there when the server has ended.
                let _ = failed.send(failure);
                drop(handle.stop(false));
            }
        });
        Ok(Running {
            server,
            engine,
            source,
            deliveries,
            asking,
            failures,
            service_manager,
            stops,
            condition,
        })
    }

    /// Returns the server's secrets, which can be replaced while it serves.
    pub(super) fn keys(&self) -> http::Keys {
        self.server.keys.clone()
    }

    /// Returns the service manager, to which reloads are reported.
    pub(super) fn service_manager(&self) -> Arc<ServiceManager> {
        self.service_manager.clone()
    }

    /// Returns the URL of each address, in the order given.
    pub(super) fn urls(&self) -> &[String] {
        &self.server.urls
    }

    /// Returns the URL of the address for monitors and operators.
    pub(super) fn admin_url(&self) -> Option<&str> {
        self.server.admin_url.as_deref()
    }

    /// Returns what is wrong with a folder that is only read, which is known once the log is folded.
    pub(super) fn condition(&self) -> Arc<OnceLock<FolderCondition>> {
        self.condition.clone()
    }

    /// Serves while `work` runs on a thread of its own, which begins once the log is folded, and
    /// then stops in order. With `stays`, the server runs on until a signal, unless the work
    /// failed. Returns the work's result, or why the server failed.
    pub(super) fn run_with<T: Send + 'static>(
        self,
        api_key: &str,
        stays: bool,
        work: impl FnOnce(&Client) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let mut client = Client::loopback(&self.urls().concat(), api_key);
        let (stop, stopped) = oneshot::channel::<()>();
        let condition = self.condition();
        let worker = thread::spawn(move || {
            let ready = wait_until_ready(&client);
            client.damage = condition.get().and_then(|condition| condition.damage.clone());
            let done = ready.and_then(|()| work(&client));
            // Its connections are closed first, so that the stop does not wait for them.
            drop(client);
            // The server stops when `stop` is dropped, also if the work panics.
            let hold = (stays && done.is_ok()).then_some(stop);
            (done, hold)
        });
        self.until_stopped(async move { drop(stopped.await) })?;
        let (done, _) = worker
            .join()
            .unwrap_or_else(|_| (Err(Failure::Ours("the command panicked".into())), None));
        done
    }

    /// Serves until SIGTERM, SIGINT, or the end of `stopped`, then stops in order: it accepts no
    /// new connection, finishes requests in flight, and writes and syncs what waits.
    pub(super) fn until_stopped(
        self,
        stopped: impl Future<Output = ()> + 'static,
    ) -> Result<(), Failure> {
        let Running { server, engine, source, deliveries, asking, failures, .. } = self;
        let Running { service_manager, stops, .. } = self;
        let (handle, slot) = (server.handle.clone(), engine.clone());
        let served = actix_web::rt::System::new().block_on(async move {
            let stopper = actix_web::rt::spawn(async move {
                tokio::select! {
                    _ = stops => {}
                    () = stopped => {}
                }
                tracing::info!("stopping");
                service_manager.stopping();
                if let Some(source) = source {
                    source.stop();
                }
                deliveries.stop();
                if let Some(engine) = slot.get() {
                    engine.begin_shutdown();
                }
                handle.stop(true).await;
            });
            let served = server.run().await;
            stopper.abort();
            served
        });
        served.map_err(Failure::ours)?;
        // A server that is stopped while it catches up has taken nothing that must be synced.
        if let Some(ready) = engine.get() {
            if !ready.close_in_time() {
                // What it holds cannot be closed: the lock stays until the disk has answered.
                std::mem::forget(engine);
                return Err(Failure::Ours(HANGS.into()));
            }
            if let Ok(asking) = asking.try_recv() {
                asking.finish();
            }
            wait_for_release(&engine);
        }
        let closed = close_in_time(engine);
        failures.try_recv().map_or(closed, Err)
    }
}

/// Closes the log, for a limited time. A store that panics at its end is a failure of Rollcall like
/// any other.
fn close_in_time(engine: Arc<OnceLock<Arc<Engine>>>) -> Result<(), Failure> {
    let closing = thread::spawn(move || drop(engine));
    let begun = Instant::now();
    while !closing.is_finished() {
        if begun.elapsed() > CLOSE_WITHIN {
            return Err(Failure::Ours(HANGS.into()));
        }
        thread::sleep(CLOSE_PAUSE);
    }
    let panicked = |_| Failure::Ours("the store panicked while it was closed".into());
    closing.join().map_err(panicked)
}

/// Lets this process open as many files as the system allows it: each connection is one.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit { current: limit.maximum, maximum: limit.maximum },
    );
    if let Err(error) = raised {
        tracing::warn!(%error, limit.current, "the number of open files cannot be raised");
    }
}

/// Waits until the caller holds the engine alone: the log is marked as closed only when the last
/// holder drops it, and the server's threads do so a moment after the server has stopped.
fn wait_for_release(engine: &Arc<OnceLock<Arc<Engine>>>) {
    for _ in 0..RELEASE_TRIES_MAX {
        if Arc::strong_count(engine) == 1 {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the server answers from the whole log. A server that cannot fold its log stops, and
/// then the request fails.
fn wait_until_ready(client: &Client) -> Result<(), Failure> {
    while client.get("/readyz")?.status != 200 {
        thread::sleep(Duration::from_millis(25));
    }
    Ok(())
}

/// A data folder that is open, and whose records are not yet checked.
enum Folder {
    ToServe {
        unrecovered: Unrecovered,
        snapshot: JoinHandle<ReadSnapshot>,
    },
    /// Nothing in it is changed.
    ToRead(Box<StoppedFolder>),
}

impl Folder {
    /// Opens a data folder, to serve it with its own key or only to read it.
    fn open(
        data: &Path,
        signing: &Signing,
        copies: &Copies,
        cache_bytes: u64,
    ) -> Result<Folder, StartError> {
        if matches!(signing, Signing::Look) {
            return Ok(Folder::ToRead(Box::new(StoppedFolder::open(data)?)));
        }
        finish_fork(data).map_err(|error| StartError::Serve(copies.open_failure(error)))?;
        // Both read a long file on one core. Whether the snapshot is of the log is known later.
        let snapshot = ReadSnapshot::begin(data);
        let snapshot = snapshot.map_err(|error| StartError::Serve(Failure::ours(error)))?;
        let opened = Unrecovered::open(data, cache_bytes);
        let unrecovered = opened.map_err(|error| StartError::Serve(copies.open_failure(error)))?;
        Ok(Folder::ToServe { unrecovered, snapshot })
    }
}

fn announce_fold(records: Seq) {
    if records > 0 {
        tracing::info!(records, "folding the log");
    }
}

/// A log, and the views over the first of its records, or all.
struct Folded {
    log: Arc<dyn Log>,
    beginning: Beginning,
    to_scrub: Option<ToScrub>,
    condition: FolderCondition,
}

/// A log that is to be read again while the server runs.
type ToScrub = (Arc<DiskLog>, ScrubPace);

/// An engine whose log is folded.
struct Opened {
    engine: Arc<Engine>,
    /// The log, if it is to be read again while the server runs.
    to_scrub: Option<ToScrub>,
    /// What is wrong with a folder that is only read.
    condition: FolderCondition,
}

impl Opened {
    /// Adds the damage to the files of the key of a folder that is only read.
    fn inspect_key(&mut self, data: &Path) {
        // The tree over what is left of a damaged log proves no change of the key.
        let Ok(history) = self.engine.key_history() else { return };
        let lost = self.engine.log().lost();
        let key = inspect_files(data, self.engine.log_id(), &history, &lost);
        let found = key_findings(&key);
        if !found.is_empty() {
            self.condition.damage.get_or_insert_default().files.extend(found);
        }
    }
}

/// A data folder that is about to be served.
struct Opening<'a> {
    folder: Folder,
    data: &'a Path,
    copies: &'a Copies,
    conditions: Conditions,
    caches: Caches,
}

impl Opening<'_> {
    /// Folds the log and appoints the notary. A panic of the store becomes a failure.
    fn engine(
        self,
        signing: Signing,
        on_failure: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Opened, Failure> {
        let data = self.data;
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut opened = self.catch_up(&signing, on_failure)?;
            if matches!(signing, Signing::Look) {
                opened.inspect_key(data);
            }
            signing.appoint(&opened.engine, data).inspect_err(|_| opened.engine.close())?;
            Ok(opened)
        }));
        opened.unwrap_or_else(|_| {
            Err(Failure::Ours("the store panicked while it was read; run `rollcall verify`".into()))
        })
    }

    fn catch_up(
        self,
        signing: &Signing,
        on_failure: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Opened, Failure> {
        let Opening { folder, data, copies, conditions, caches } = self;
        let clock = Clock::of_this_machine();
        let judge = Judge { data, copies, conditions, clock: &clock, signing };
        let Folded { log, beginning, to_scrub, condition } = match folder {
            Folder::ToServe { mut unrecovered, snapshot } => {
                let joined = snapshot.join();
                let mut snapshot = joined.unwrap_or_else(|_| ReadSnapshot::none());
                let prefix = snapshot.take_prefix();
                let ahead = fold_ahead(&mut unrecovered, &snapshot);
                let checked = judge.judge(unrecovered, prefix, caches.store)?;
                let key_changes = checked.key_changes().iter().filter_map(KeyChange::of);
                snapshot.refuse_without(key_changes.map(|change| change.seq));
                let beginning = snapshot.beginning(&checked);
                announce_fold(checked.head().saturating_sub(beginning.seq()));
                let ahead = ahead.and_then(|ahead| ahead.finish(&checked));
                let beginning = ahead.unwrap_or(beginning);
                let beginning = fold_checked(beginning, &checked).map_err(Failure::ours)?;
                let opened = DiskLog::open(checked, conditions.disk_reserve_bytes);
                let log = Arc::new(opened.map_err(|error| copies.open_failure(error))?);
                let to_scrub = conditions.scrub.map(|pace| (log.clone(), pace));
                Folded { log, beginning, to_scrub, condition: FolderCondition::default() }
            }
            Folder::ToRead(stopped) => {
                let remarks = stopped.remarks().map_err(Failure::ours)?;
                let (log, damage) = stopped.recover_remaining(&|_| {}).map_err(open_failure)?;
                announce_fold(log.head());
                let condition = FolderCondition { damage, lost: log.once_lost(), remarks };
                let beginning = Beginning::default();
                Folded { log: Arc::new(log), beginning, to_scrub: None, condition }
            }
        };
        let (documents, begun) = (caches.documents, clock.clone());
        let engine = Engine::start_folded(log, beginning, documents, begun, on_failure)
            .map_err(Failure::ours)?;
        engine.set_mapping_bytes_max(conditions.mapping_bytes_max);
        warn_of_clock(engine.views().recorded_at(), clock.now_ms());
        Ok(Opened { engine, to_scrub, condition })
    }
}

/// Begins to fold records before they are checked, if there is no snapshot to begin with. Without a
/// thread for that they are folded later.
fn fold_ahead(unrecovered: &mut Unrecovered, snapshot: &ReadSnapshot) -> Option<FoldAhead> {
    let unchecked = if snapshot.is_whole() { None } else { unrecovered.unchecked() };
    unchecked.and_then(|unchecked| FoldAhead::begin(unchecked).ok())
}

/// What decides if a server may start over a data folder. Until it has decided nothing in the folder
/// is changed.
struct Judge<'a> {
    data: &'a Path,
    copies: &'a Copies,
    conditions: Conditions,
    clock: &'a Clock,
    signing: &'a Signing,
}

impl Judge<'_> {
    /// Checks the records, and whatever else may keep a server from starting. A log that lacks
    /// records that a copy of it has becomes another one, if that is accepted.
    fn judge(
        &self,
        unrecovered: Unrecovered,
        prefix: Option<Prefix>,
        cache_bytes: u64,
    ) -> Result<Checked, Failure> {
        let checked = self.check(unrecovered, prefix)?;
        let is_new = checked.log_id().is_none();
        if is_new || !self.conditions.accept_fork || !contradicts(self.copies, &checked) {
            return Ok(checked);
        }
        self.signing.check_fork()?;
        drop(checked);
        self.signing.after_fork(&begin_anew(self.data)?)?;
        let opened = Unrecovered::open(self.data, cache_bytes);
        self.check(opened.map_err(|error| self.copies.open_failure(error))?, None)
    }

    fn check(&self, unrecovered: Unrecovered, prefix: Option<Prefix>) -> Result<Checked, Failure> {
        let Judge { data, copies, conditions, clock, signing } = *self;
        // A folder that is refused is not created.
        if unrecovered.is_new() && !conditions.accept_fork {
            judge_start(copies, None, data)?;
        }
        let refused = |error| copies.open_failure(error);
        let mut checked = unrecovered.check_after(prefix, &|_| {}).map_err(refused)?;
        refuse_clock(checked.recorded_at(), clock.now_ms(), conditions.accept_clock)?;
        let keys = match signing.check(&checked, data) {
            Err(_) if checked.has_spared_records() => {
                tracing::warn!(
                    "the key of the checkpoints is not the one of the snapshot, which may leave out a \
                     change of it: every record is checked"
                );
                checked = checked.check_all(&|_| {}).map_err(refused)?;
                signing.check(&checked, data)?
            }
            keys => keys?,
        };
        if checked.log_id().is_some() && !conditions.accept_fork {
            judge_start(copies, Some(&checked), data)?;
            judge_published(copies, &checked, &keys, data)?;
        }
        Ok(checked)
    }
}

/// Lets the log in a folder go on as another one. Returns the folder of the log before.
fn begin_anew(data: &Path) -> Result<PathBuf, Failure> {
    tracing::warn!(
        data = %data.display(),
        "the log lacks records that a copy of it has: it goes on as another log, with another id \
         and key"
    );
    let kept = fork(data, &|_| {}).map_err(Failure::ours)?;
    tracing::warn!(kept = %kept.display(), "the log before is kept");
    Ok(kept)
}

/// Compares the clock with the stamp of the last record: nothing else is known of a clock at a
/// start.
///
/// # Errors
/// The caller's, who must say that a clock is right that is more than 366 days ahead.
fn refuse_clock(last: Millis, now: Millis, is_accepted: bool) -> Result<(), Failure> {
    if last == Millis::MIN || now.saturating_sub(last) <= AHEAD_MAX_MS || is_accepted {
        return Ok(());
    }
    let (clock, last) = (time::format(now), time::format(last));
    Err(Failure::Caller(format!(
        "this machine's clock says {clock}, more than 366 days after the last record, of {last}: \
         set it right, or, if it is right, start once with --accept-clock"
    )))
}

/// Warns of a clock that is far from the stamp of the last record.
fn warn_of_clock(last: Millis, now: Millis) {
    if last == Millis::MIN {
        return;
    }
    let ahead_ms = now.saturating_sub(last);
    let (clock, last) = (time::format(now), time::format(last));
    if ahead_ms > AHEAD_WARNED_OF_MS {
        tracing::warn!(clock, last, "the clock is more than a day ahead of the last record");
    } else if ahead_ms < -BEHIND_WARNED_OF_MS {
        tracing::warn!(
            clock,
            last,
            "the clock is behind the last record: later records get its time until the clock has \
             passed it"
        );
    }
}
