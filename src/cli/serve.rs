//! `rollcall serve`

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::Failure;
use super::client::Client;
use super::publish::{Publish, Publishers};
use super::read::print::coloured;
use crate::engine::Engine;
use crate::http::{self, Settings, WEBHOOK_PATH};
use crate::log::{OpenError, Unrecovered};
use crate::notary::{KeyError, KeyFiles, Notary, Place, replace_key};
use crate::time;
use crate::verify::{ApiKeys, Keyring, Operator, SECRETS_MAX};

/// Receive webhooks and answer questions, until stopped.
///
/// The first line on standard output is the server's URL. On SIGTERM or SIGINT it stops accepting,
/// finishes what is in flight, syncs, and exits with 0.
#[derive(Args)]
#[command(after_help = "\
Environment:
  ROLLCALL_WEBHOOK_SECRETS  comma-separated secrets that sign webhooks; several during a rotation
  WORKOS_WEBHOOK_SECRET     one more such secret
  ROLLCALL_API_KEYS         comma-separated keys that readers send as `Authorization: Bearer <key>`
  ROLLCALL_LOG              what to log on standard error: error, warn, info, debug; by default info,actix_server=warn;
                            error,rollcall::access=info keeps who asked about histories and the past, refused ones included, but for
                            those without a known key

Example:
  ROLLCALL_WEBHOOK_SECRETS=whsec_… ROLLCALL_API_KEYS=sk_… rollcall serve --listen 0.0.0.0:8080 --data /var/lib/rollcall")]
pub(super) struct Serve {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Data folder: one WorkOS environment
    #[arg(long, default_value = "./rollcall-data")]
    data: PathBuf,
    /// Path that receives webhooks; may be given several times
    #[arg(long = "webhook-path", default_value = WEBHOOK_PATH, value_parser = webhook_path)]
    webhook_paths: Vec<String>,
    /// How far a signature's time may be from this machine's clock, before or after: 180s, 5m
    #[arg(long, default_value = "180s", value_parser = duration)]
    tolerance: Duration,
    /// The private key that signs checkpoints; without it, DATA/checkpoint-key. Made at the first
    /// start
    #[arg(long, env = "ROLLCALL_CHECKPOINT_KEY", value_name = "FILE")]
    checkpoint_key: Option<PathBuf>,
    /// Make a new key in the place of one that is lost, and record that. Auditors will have to be
    /// told the new key
    #[arg(long)]
    replace_checkpoint_key: bool,
    /// Put checkpoints into this folder, or post them to this http or https URL; may be given
    /// several times
    #[arg(long, value_name = "DIR|URL")]
    publish_checkpoints: Vec<String>,
    /// How often; nothing is published where the log has not grown: 1h, 5m
    #[arg(long, default_value = "1h", value_parser = period, value_name = "TIME")]
    publish_every: Duration,
    /// How to log on standard error
    #[arg(long, env = "ROLLCALL_LOG_FORMAT", value_enum, default_value_t, hide_env_values = true)]
    log_format: LogFormat,
    /// Memory for documents that are shown, in MiB; any size gives the same answers
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    document_cache_mib: u64,
    /// Memory for pages of the store, in MiB
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(16..=1_048_576))]
    store_cache_mib: u64,
}

fn webhook_path(text: &str) -> Result<String, String> {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.~".contains(c));
    if !text.starts_with('/') || !plain {
        return Err("it must begin with `/` and hold only letters, digits and -_.~".into());
    }
    let first = text.split('/').nth(1).unwrap_or("");
    if http::OWN_PATHS.contains(&first) {
        Err(format!("paths below `/{first}` are the server's own"))
    } else {
        Ok(text.into())
    }
}

/// Which key stands behind each name in the log: a reviewer has the names, and whoever set the keys
/// only the keys.
fn tell_names(api_keys: &[String]) {
    for (at, key) in api_keys.iter().enumerate() {
        if let Some(operator) = ApiKeys::new([key.as_str()]).identify(key) {
            tracing::info!("{} is number {} of ROLLCALL_API_KEYS", operator.name(), at + 1);
        }
    }
}

/// A number and a unit: `180s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit_ms = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("the unit must be ms, s, m or h".into()),
    };
    let number: u64 = number.parse().map_err(|_| "it must be a number and a unit, like 180s")?;
    Ok(Duration::from_millis(number.saturating_mul(unit_ms)))
}

/// A duration of at least a millisecond.
fn period(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|period| {
        if period.is_zero() { Err("it must be more than nothing".into()) } else { Ok(period) }
    })
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        log_to_stderr(self.log_format);
        let secrets = secrets(&["ROLLCALL_WEBHOOK_SECRETS", "WORKOS_WEBHOOK_SECRET"]);
        if secrets.is_empty() {
            return Err(Failure::Caller(
                "no webhook secret is set: set ROLLCALL_WEBHOOK_SECRETS to the signing secret of your WorkOS webhook endpoint (several: comma-separated)"
                    .into(),
            ));
        }
        if secrets.len() > SECRETS_MAX {
            return Err(Failure::Caller(format!(
                "at most {SECRETS_MAX} webhook secrets may be active at once"
            )));
        }
        let api_keys = secrets_or(&["ROLLCALL_API_KEYS"]).ok_or_else(|| {
            Failure::Caller(
                "no API key is set: set ROLLCALL_API_KEYS to the key that readers will send as `Authorization: Bearer <key>`".into(),
            )
        })?;
        if let Some(at) =
            api_keys.iter().position(|key| !key.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(Failure::Caller(format!(
                "key {} of ROLLCALL_API_KEYS has a character that no reader can send: use letters, digits and signs of ASCII",
                at + 1
            )));
        }
        tell_names(&api_keys);
        let publish = Publish {
            places: self.publish_checkpoints.iter().map(|place| Place::parse(place)).collect(),
            every: self.publish_every,
        };
        publish.check()?;
        let first = api_keys.first().and_then(|key| ApiKeys::new([key.as_str()]).identify(key));
        let signing = Signing::Own {
            file: self.checkpoint_key,
            replace_by: first.filter(|_| self.replace_checkpoint_key),
        };
        let keyring = Keyring::new(
            secrets.iter().map(String::as_str),
            self.tolerance.as_millis().try_into().unwrap_or(u64::MAX),
        );
        let settings = Settings { keyring, api_keys, webhook_paths: self.webhook_paths };
        let caches =
            Caches { documents: self.document_cache_mib << 20, store: self.store_cache_mib << 20 };
        let running =
            Running::start_with(&self.listen, &self.data, settings, caches, signing, publish)?;
        writeln!(std::io::stdout(), "http://{}", running.address())
            .map_err(|error| Failure::Ours(format!("cannot print: {error}")))?;
        running.until_stopped(std::future::pending())
    }
}

/// The values of comma-separated environment variables.
pub(super) fn secrets(names: &[&str]) -> Vec<String> {
    let values = names.iter().filter_map(|name| std::env::var(name).ok());
    values
        .flat_map(|value| value.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>())
        .filter(|part| !part.is_empty())
        .collect()
}

fn secrets_or(names: &[&str]) -> Option<Vec<String>> {
    Some(secrets(names)).filter(|values| !values.is_empty())
}

/// How lines of the log are written.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    #[default]
    Text,
    /// For programs: one object a line
    Json,
}

/// What is logged unless ROLLCALL_LOG says otherwise. Of its workers and signals the HTTP server
/// tells more than Rollcall of itself.
const LOG: &str = "info,actix_server=warn";

fn log_to_stderr(format: LogFormat) {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("ROLLCALL_LOG").unwrap_or_else(|_| LOG.into());
    // Nor may a reader of standard error who left end anything: what cannot be written is lost, and
    // not told to the same reader.
    let fmt = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // A second subscriber is refused, and the first is as good.
    let _ = match format {
        LogFormat::Text => fmt.with_ansi(coloured(&std::io::stderr())).try_init(),
        LogFormat::Json => {
            fmt.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
    };
}

/// How long a stop waits for the server's threads to end, in steps of a millisecond. A log that
/// they keep longer is safe, but not called closed.
const LET_GO_TRIES_MAX: u32 = 500;

/// How much memory the caches may take, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Caches {
    pub(super) documents: u64,
    pub(super) store: u64,
}

/// Who signs checkpoints.
pub(super) enum Signing {
    /// The log's own key, in a file or else in the data folder. Where it is lost, a new one,
    /// recorded as this operator's act.
    Own { file: Option<PathBuf>, replace_by: Option<Operator> },
    /// The log's own key if it is there. Nothing is made or written.
    Look,
}

impl Signing {
    /// Gives the engine its notary.
    fn appoint(self, engine: &Engine, data: &Path) -> Result<(), Failure> {
        let log_id = engine.log_id();
        let history = engine.key_history().map_err(Failure::ours)?;
        match self {
            Signing::Look => {
                let files = KeyFiles::of(
                    data,
                    std::env::var_os("ROLLCALL_CHECKPOINT_KEY").map(PathBuf::from),
                );
                if let Some(notary) = Notary::look(files, log_id, &history) {
                    engine.appoint(notary);
                }
            }
            Signing::Own { file, replace_by } => {
                let files = KeyFiles::of(data, file);
                let notary = match (Notary::open(files.clone(), log_id, &history), replace_by) {
                    (Err(KeyError::Lost { expected, .. }), Some(operator)) => {
                        tracing::warn!(
                            lost = expected,
                            "a new checkpoint key takes the place of one that is lost"
                        );
                        let record = |to: &str| {
                            let note = Some("the key before was lost".to_owned());
                            engine
                                .record_key_change(operator, expected.clone(), to.to_owned(), note)
                                .is_ok()
                        };
                        replace_key(&files, log_id, record).map_err(key_failure)?;
                        Notary::open(files, log_id, &engine.key_history().map_err(Failure::ours)?)
                    }
                    (opened, Some(_)) => {
                        tracing::warn!(
                            "--replace-checkpoint-key is given and nothing is replaced: leave it out once the key is there"
                        );
                        opened
                    }
                    (opened, None) => opened,
                };
                engine.appoint(notary.map_err(key_failure)?);
            }
        }
        Ok(())
    }
}

/// A file that is not there or not the right one is the caller's to bring back.
fn key_failure(error: KeyError) -> Failure {
    match error {
        KeyError::Lost { .. }
        | KeyError::Exchanged { .. }
        | KeyError::Malformed(_)
        | KeyError::Public { .. } => Failure::Caller(error.to_string()),
        KeyError::Io { .. } | KeyError::Random(_) | KeyError::Unrecorded | KeyError::Pending(_) => {
            Failure::ours(error)
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The data folder does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The address cannot be had.
    #[error("cannot listen on `{listen}`: {error}")]
    Listen { listen: String, error: std::io::Error },
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        match error {
            StartError::Open(error) => open_failure(error),
            StartError::Listen { .. } => Failure::Caller(error.to_string()),
        }
    }
}

/// A server at work: the wiring of production, which the demo and the commands that read a folder
/// use as well.
pub(super) struct Running {
    server: http::Server,
    engine: Arc<OnceLock<Arc<Engine>>>,
    /// There before the engine is.
    publishers: mpsc::Receiver<Publishers>,
    failures: mpsc::Receiver<Failure>,
}

impl Running {
    /// Opens the data folder, listens, and folds the log beside. Only looks for a key, and
    /// publishes nothing.
    pub(super) fn start(
        listen: &str,
        data: &Path,
        settings: Settings,
        caches: Caches,
    ) -> Result<Running, StartError> {
        Running::start_with(listen, data, settings, caches, Signing::Look, Publish::nowhere())
    }

    /// The same with a key that signs checkpoints, and places for them.
    pub(super) fn start_with(
        listen: &str,
        data: &Path,
        settings: Settings,
        caches: Caches,
        signing: Signing,
        publish: Publish,
    ) -> Result<Running, StartError> {
        let unrecovered = Unrecovered::open(data, caches.store)?;
        let engine: Arc<OnceLock<Arc<Engine>>> = Arc::default();
        let server = http::serve(listen, settings, engine.clone())
            .map_err(|error| StartError::Listen { listen: listen.to_owned(), error })?;
        let handle = server.handle.clone();
        let (done, failures) = mpsc::channel();
        let (begun, publishers) = mpsc::channel();
        let (slot, data) = (engine.clone(), data.to_owned());
        thread::spawn(move || {
            let on_failure = {
                let (done, handle) = (done.clone(), handle.clone());
                move |cause: &str| {
                    let _ = done.send(Failure::Ours(format!("the log has failed: {cause}")));
                    drop(handle.stop(true));
                }
            };
            let caught_up = catch_unwind(AssertUnwindSafe(|| {
                let engine = catch_up(unrecovered, caches.documents, on_failure)?;
                if let Err(failure) = signing.appoint(&engine, &data) {
                    engine.close();
                    return Err(failure);
                }
                Ok(engine)
            }));
            let broke_off = || {
                Failure::Ours(
                    "the store panicked while it was read; restore the data folder from a backup"
                        .into(),
                )
            };
            match caught_up.unwrap_or_else(|_| Err(broke_off())) {
                Ok(engine) => {
                    let _ = begun.send(publish.start(&engine));
                    tracing::info!(head = engine.head(), "ready");
                    drop(slot.set(engine));
                }
                Err(failure) => {
                    // Without its log the server is of no use: end it, the cause being told first.
                    let _ = done.send(failure);
                    drop(handle.stop(false));
                }
            }
        });
        Ok(Running { server, engine, publishers, failures })
    }

    pub(super) fn address(&self) -> std::net::SocketAddr {
        self.server.address
    }

    /// Serves while `work` asks, which it does on a thread of its own once the log is folded, and
    /// then stops in order; a server that `stays` stops on a signal, unless the work failed. The
    /// work's result, or why the server failed.
    pub(super) fn beside<T: Send + 'static>(
        self,
        api_key: &str,
        stays: bool,
        work: impl FnOnce(&Client) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let client = Client::loopback(&format!("http://{}", self.address()), api_key);
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = thread::spawn(move || {
            let done = wait_until_ready(&client).and_then(|()| work(&client));
            // The server stays up as long as somebody holds `stop`: a worker that fails, or breaks
            // off, lets go of it. Its connections are closed before, so that the server does not
            // wait for them.
            drop(client);
            let hold = (stays && done.is_ok()).then_some(stop);
            (done, hold)
        });
        self.until_stopped(async move { drop(stopped.await) })?;
        let (done, _) = worker
            .join()
            .unwrap_or_else(|_| (Err(Failure::Ours("the command broke off".into())), None));
        done
    }

    /// Serves until SIGTERM, SIGINT, or `told`, then stops in order: no new connection, requests in
    /// flight finished, what waits written and synced.
    pub(super) fn until_stopped(
        self,
        told: impl Future<Output = ()> + 'static,
    ) -> Result<(), Failure> {
        let Running { server, engine, publishers, failures } = self;
        let (handle, waited_on) = (server.handle.clone(), engine.clone());
        let served = actix_web::rt::System::new().block_on(async move {
            let stopper = actix_web::rt::spawn(async move {
                let (Ok(mut term), Ok(mut int)) =
                    (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
                else {
                    return;
                };
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                    () = told => {}
                }
                tracing::info!("stopping");
                if let Some(engine) = waited_on.get() {
                    engine.begin_shutdown();
                }
                handle.stop(true).await;
            });
            let served = server.running.await;
            stopper.abort();
            served
        });
        served.map_err(Failure::ours)?;
        // A stop in the middle of catching up has nothing to sync: nothing was taken.
        if let Some(ready) = engine.get() {
            ready.close();
            if let Ok(publishers) = publishers.try_recv() {
                publishers.finish();
            }
            // The server's threads let go of the log a moment after it has stopped, and only then
            // does the log call itself closed.
            for _ in 0..LET_GO_TRIES_MAX {
                if Arc::strong_count(&engine) == 1 {
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
        failures.try_recv().map_or(Ok(()), Err)
    }
}

/// A server that cannot fold its log stops, and then does not answer any more.
fn wait_until_ready(client: &Client) -> Result<(), Failure> {
    while client.get("/readyz")?.status != 200 {
        thread::sleep(Duration::from_millis(25));
    }
    Ok(())
}

fn catch_up(
    unrecovered: Unrecovered,
    document_bytes_max: u64,
    on_failure: impl Fn(&str) + Send + Sync + 'static,
) -> Result<Arc<Engine>, Failure> {
    let log = unrecovered.recover(&|_| {}).map_err(open_failure)?;
    let log: Arc<dyn crate::log::Log> = Arc::new(log);
    let head = log.head();
    if head > 0 {
        tracing::info!(head, "folding the log");
    }
    Engine::start(log, document_bytes_max, time::now_ms, on_failure).map_err(Failure::ours)
}

pub(super) fn open_failure(error: OpenError) -> Failure {
    match error {
        OpenError::InUse(_) | OpenError::Format { .. } => Failure::Caller(error.to_string()),
        OpenError::Io { .. }
        | OpenError::Damaged { .. }
        | OpenError::Diverged { .. }
        | OpenError::Disputed { .. } => Failure::ours(error),
    }
}
