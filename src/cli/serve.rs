//! `rollcall serve`

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::Failure;
use super::config::{Config, Flags, Given, Mistakes, Purpose, Reloadable, WholeKey};
use super::copies::Copies;
use super::logging::Logging;
use super::running::{Listen, Running, Signing};
use super::service_manager::ServiceManager;
use super::signals::Hangups;
use crate::delivery::Deliveries;
use crate::http::{KeySet, Keys, Settings};
use crate::keys::{ApiKey, CHARS_MIN, Expiries};
use crate::sources::Source;
use crate::stderr;
use crate::verify::Keyring;

/// Receive webhooks and answer questions until stopped.
///
/// Prints the server's URL as the first line on standard output, and that of --admin-listen as the
/// second. On SIGTERM or SIGINT it stops accepting requests, finishes those in flight, syncs, and
/// exits with 0. On SIGHUP it reads the configuration file and the files of secrets again. It
/// reports to systemd, or another service manager, when it is ready, reloads and stops.
#[derive(Args)]
#[command(after_help = "\
Environment:
  ROLLCALL_WEBHOOK_SECRETS  secrets that sign webhooks; several during a rotation
  WORKOS_WEBHOOK_SECRET     one more such secret
  ROLLCALL_API_KEYS         keys that readers send as `Authorization: Bearer <key>`
                            Commas or lines separate several. Each may be in a file instead, which
                            ROLLCALL_WEBHOOK_SECRETS_FILE, WORKOS_WEBHOOK_SECRET_FILE or
                            ROLLCALL_API_KEYS_FILE names
  WORKOS_API_KEY            the key with which --pull asks, or WORKOS_API_KEY_FILE for its file
  ROLLCALL_POSTGRES_URL     the PostgreSQL database in which tables are kept, or
                            ROLLCALL_POSTGRES_URL_FILE for the file of its URL
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_ENDPOINT_URL, AWS_REGION
                            the bucket of --archive s3://…; each may be in a file that the variable
                            with _FILE names
  ROLLCALL_LOG              error,rollcall::access=info keeps the access log of questions about
                            histories and the past, refused ones included, except those
                            without a known key

Examples:
  ROLLCALL_WEBHOOK_SECRETS=whsec_… ROLLCALL_API_KEYS=sk_… \\
      rollcall serve --listen 0.0.0.0:8080 --data /var/lib/rollcall

  WORKOS_API_KEY=sk_… ROLLCALL_API_KEYS=sk_your_own_choice \\
      rollcall serve --pull https://api.workos.com --data /var/lib/rollcall

  rollcall config example > rollcall.toml
  rollcall serve --config rollcall.toml")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    flags: Flags,
}

impl ServeArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        stderr::start().map_err(Failure::ours)?;
        let served = self.serve();
        stderr::flush();
        served
    }

    fn serve(self) -> Result<(), Failure> {
        let hangups = Hangups::receive()?;
        let config = self
            .flags
            .read(Purpose::Start)
            .map_err(|mistakes| Failure::Caller(mistakes.to_string()))?;
        let logging = Logging::begin(&config.reloadable.log, config.logs_json);
        let logging = logging.map_err(Failure::Caller)?;
        log_key_names(&config.reloadable);
        let Config { listen, admin_listen, data, caches, publish, archive, given, .. } = config;
        let copies = Copies { publish, archive };
        let listen = Listen { main: listen, admin: admin_listen };
        let first = config.reloadable.first_operator.clone();
        let signing = Signing::Own {
            file: config.checkpoint_key,
            replace_by: first.filter(|_| config.replace_checkpoint_key),
        };
        let deliveries = Deliveries::new(config.endpoints, &data);
        let deliveries = deliveries.map_err(|error| Failure::Caller(error.to_string()))?;
        let deliveries = Arc::new(deliveries);
        let settings = Settings {
            public_url: config.public_url,
            deliveries: deliveries.clone(),
            sink: config.sink,
            ..settings(&config.reloadable, config.webhook_paths, config.source)
        };
        let conditions = config.conditions;
        let running =
            Running::start_with(&listen, &data, settings, caches, conditions, signing, copies)?;
        let reload = Reload {
            flags: self.flags,
            started: given,
            keys: running.keys(),
            deliveries,
            logging,
            service_manager: running.service_manager(),
        };
        warn_of_expiries(running.keys());
        hangups.each(move || reload.run());
        print_urls(&running)?;
        running.until_stopped(std::future::pending())
    }
}

/// How often the ends of keys are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Warns of keys whose time ends, on a thread of its own, until the process ends.
fn warn_of_expiries(keys: Keys) {
    std::thread::spawn(move || {
        let mut expiries = Expiries::default();
        loop {
            keys.warn_of_expiries(&mut expiries);
            std::thread::sleep(LOOK_EVERY);
        }
    });
}

/// Prints the URL of the first address, and that of the address for monitors and operators. The
/// log has all.
fn print_urls(running: &Running) -> Result<(), Failure> {
    for url in running.urls() {
        tracing::info!("listening on {url}");
    }
    if let Some(url) = running.admin_url() {
        tracing::info!("listening for monitors and operators on {url}");
    }
    let first = running.urls().first().map(String::as_str);
    let lines: Vec<&str> = first.into_iter().chain(running.admin_url()).collect();
    writeln!(std::io::stdout(), "{}", lines.join("\n"))
        .map_err(|error| Failure::Ours(format!("cannot print: {error}")))
}

fn keyring(reloadable: &Reloadable) -> Keyring {
    let secrets = reloadable.webhook_secrets.iter().map(String::as_str);
    Keyring::new(secrets, reloadable.tolerance_ms)
}

fn settings(
    reloadable: &Reloadable,
    webhook_paths: Vec<String>,
    source: Option<Arc<Source>>,
) -> Settings {
    Settings {
        webhook_paths,
        body_bytes_max: reloadable.body_bytes_max,
        source,
        ..Settings::new(keyring(reloadable), reloadable.api_keys.clone())
    }
}

/// Logs which whole key has which name: the log of records shows only names, the configuration only
/// keys.
fn log_key_names(reloadable: &Reloadable) {
    for (at, WholeKey { key, from }) in reloadable.whole_keys.iter().enumerate() {
        let name = ApiKey::unrestricted(key).name();
        tracing::info!("{name} is number {} of {from}", at + 1);
        if key.len() < CHARS_MIN {
            tracing::warn!(
                "{name} of {from} is shorter than {CHARS_MIN} characters and may be guessed: make a \
                key with `rollcall key new`"
            );
        }
    }
}

/// The reaction to SIGHUP.
struct Reload {
    flags: Flags,
    /// The configuration of the start.
    started: Given,
    keys: Keys,
    deliveries: Arc<Deliveries>,
    logging: Logging,
    service_manager: Arc<ServiceManager>,
}

impl Reload {
    /// Reads the configuration again, and takes what can be taken without a restart. With any
    /// mistake, all stays as it was.
    fn run(&self) {
        self.service_manager.report_reload(|| match self.flags.read(Purpose::Reload) {
            Ok(config) => {
                self.take(&config);
                true
            }
            Err(mistakes) => {
                refuse(&mistakes);
                false
            }
        });
    }

    fn take(&self, config: &Config) {
        let reloadable = &config.reloadable;
        self.keys.replace(KeySet {
            keyring: keyring(reloadable),
            api_keys: reloadable.api_keys.clone(),
            body_bytes_max: reloadable.body_bytes_max,
        });
        if !self.logging.set_filter(&reloadable.log) {
            tracing::error!("SIGHUP: the filter of the log could not be replaced");
        }
        let secrets = reloadable.webhook_secrets.len();
        let api_keys = reloadable.api_keys.len();
        tracing::info!(secrets, api_keys, "SIGHUP: read the configuration again");
        for warning in &config.warnings {
            tracing::warn!(warning, "SIGHUP: a part that is not taken now is not right");
        }
        for name in self.started.waiting_for_restart(&config.given) {
            tracing::warn!("SIGHUP: `{name}` has changed, which needs a restart");
        }
        log_key_names(reloadable);
        // Last: it waits for webhooks in flight to endpoints that have changed.
        if config.given.has_good_endpoints()
            && let Err(error) = self.deliveries.replace(config.endpoints.clone())
        {
            tracing::error!(%error, "SIGHUP: the endpoints could not be replaced");
        }
    }
}

fn refuse(mistakes: &Mistakes) {
    for mistake in mistakes.sentences() {
        tracing::error!(
            mistake,
            "SIGHUP: the configuration cannot be read again, and the one before stays in force"
        );
    }
}
