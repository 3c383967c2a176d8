//! `rollcall serve`

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Failure;
use super::publish::Publish;
use super::read::print::coloured;
use super::running::{Caches, Running, Signing};
use crate::http::{self, Settings, WEBHOOK_PATH};
use crate::notary::PublishTarget;
use crate::verify::{ApiKeys, Keyring, SECRETS_MAX};

/// Receive webhooks and answer questions until stopped.
///
/// Prints the server's URL as the first line on standard output. On SIGTERM or SIGINT it stops
/// accepting requests, finishes those in flight, syncs, and exits with 0.
#[derive(Args)]
#[command(after_help = "\
Environment:
  ROLLCALL_WEBHOOK_SECRETS  comma-separated secrets that sign webhooks; several during a rotation
  WORKOS_WEBHOOK_SECRET     one more such secret
  ROLLCALL_API_KEYS         comma-separated keys that readers send as `Authorization: Bearer <key>`
  ROLLCALL_LOG              what to log on standard error: error, warn, info, debug;
                            default: info,actix_server=warn.
                            error,rollcall::access=info keeps the access log of questions about
                            histories and the past, refused ones included, except those
                            without a known key

Example:
  ROLLCALL_WEBHOOK_SECRETS=whsec_… ROLLCALL_API_KEYS=sk_… \\
      rollcall serve --listen 0.0.0.0:8080 --data /var/lib/rollcall")]
pub(super) struct ServeArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Data folder: one WorkOS environment
    #[arg(long, default_value = "./rollcall-data")]
    data: PathBuf,
    /// Path that receives webhooks; may be given several times
    #[arg(long = "webhook-path", default_value = WEBHOOK_PATH, value_parser = webhook_path)]
    webhook_paths: Vec<String>,
    /// How far a signature's time may be from this machine's clock, before or after, e.g. 5m
    #[arg(long, default_value = "180s", value_parser = duration)]
    tolerance: Duration,
    /// The private key that signs checkpoints; by default DATA/checkpoint-key. Created at the first
    /// start
    #[arg(long, env = "ROLLCALL_CHECKPOINT_KEY", value_name = "FILE")]
    checkpoint_key: Option<PathBuf>,
    /// Replace a lost key by a new one, and record that. Auditors must be given the new key
    #[arg(long)]
    replace_checkpoint_key: bool,
    /// Publish checkpoints into this folder, or post them to this http or https URL; may be given
    /// several times
    #[arg(long, value_name = "DIR|URL")]
    publish_checkpoints: Vec<String>,
    /// How often to publish, e.g. 5m; skipped while the log has not grown
    #[arg(long, default_value = "1h", value_parser = period, value_name = "TIME")]
    publish_every: Duration,
    /// Format of the log on standard error
    #[arg(long, env = "ROLLCALL_LOG_FORMAT", value_enum, default_value_t, hide_env_values = true)]
    log_format: LogFormat,
    /// Memory for cached documents, in MiB; any size gives the same answers
    #[arg(
        long,
        default_value_t = 256,
        value_parser = clap::value_parser!(u64).range(1..=1_048_576)
    )]
    document_cache_mib: u64,
    /// Memory for cached pages of the store, in MiB
    #[arg(
        long,
        default_value_t = 512,
        value_parser = clap::value_parser!(u64).range(16..=1_048_576)
    )]
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

/// Logs which API key has which name: the log of records shows only names, the configuration only
/// keys.
fn log_key_names(api_keys: &[String]) {
    for (at, key) in api_keys.iter().enumerate() {
        if let Some(operator) = ApiKeys::new([key.as_str()]).identify(key) {
            tracing::info!("{} is number {} of ROLLCALL_API_KEYS", operator.name(), at + 1);
        }
    }
}

/// Reads a number and a unit, such as `180s`.
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

/// Reads a duration of at least a millisecond.
fn period(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|period| {
        if period.is_zero() { Err("it must be more than nothing".into()) } else { Ok(period) }
    })
}

impl ServeArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        log_to_stderr(self.log_format);
        let secrets = webhook_secrets()?;
        let api_keys = api_keys()?;
        log_key_names(&api_keys);
        let publish = Publish {
            places: self
                .publish_checkpoints
                .iter()
                .map(|place| PublishTarget::parse(place))
                .collect(),
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

/// Reads the secrets that verify webhooks.
///
/// # Errors
/// The caller's, if there are none or too many.
fn webhook_secrets() -> Result<Vec<String>, Failure> {
    let secrets = secrets(&["ROLLCALL_WEBHOOK_SECRETS", "WORKOS_WEBHOOK_SECRET"]);
    if secrets.is_empty() {
        return Err(Failure::Caller(
            "no webhook secret is set: set ROLLCALL_WEBHOOK_SECRETS to the signing secret of your \
             WorkOS webhook endpoint (several: comma-separated)"
                .into(),
        ));
    }
    if secrets.len() > SECRETS_MAX {
        return Err(Failure::Caller(format!(
            "at most {SECRETS_MAX} webhook secrets may be active at once"
        )));
    }
    Ok(secrets)
}

/// Reads the keys of readers.
///
/// # Errors
/// The caller's, if there are none, or one cannot be sent in a header.
fn api_keys() -> Result<Vec<String>, Failure> {
    let keys = secrets(&["ROLLCALL_API_KEYS"]);
    if keys.is_empty() {
        return Err(Failure::Caller(
            "no API key is set: set ROLLCALL_API_KEYS to the key that readers will send as \
             `Authorization: Bearer <key>`"
                .into(),
        ));
    }
    let unsendable = keys.iter().position(|key| !key.bytes().all(|byte| byte.is_ascii_graphic()));
    match unsendable {
        Some(at) => Err(Failure::Caller(format!(
            "key {} of ROLLCALL_API_KEYS has a character that a header cannot carry: use ASCII \
             letters, digits and signs",
            at + 1
        ))),
        None => Ok(keys),
    }
}

/// Returns the values of comma-separated environment variables.
pub(super) fn secrets(names: &[&str]) -> Vec<String> {
    let values = names.iter().filter_map(|name| std::env::var(name).ok());
    values
        .flat_map(|value| value.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>())
        .filter(|part| !part.is_empty())
        .collect()
}

/// The format of the log on standard error.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    #[default]
    Text,
    /// For programs: one object a line
    Json,
}

/// The filter unless ROLLCALL_LOG sets another one. actix logs more about its workers and signals
/// than Rollcall about everything else.
const LOG: &str = "info,actix_server=warn";

/// Leaves out the error that actix logs for each request that is not HTTP, which anyone can send.
const UNPARSED: &str = "actix_http::h1::dispatcher=off";

fn log_to_stderr(format: LogFormat) {
    let with_unparsed = |filter: &str| format!("{UNPARSED},{filter}");
    let asked = std::env::var("ROLLCALL_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = asked
        .and_then(|filter| tracing_subscriber::EnvFilter::try_new(with_unparsed(&filter)).ok())
        .unwrap_or_else(|| with_unparsed(LOG).into());
    // A closed stderr must not stop the server: lines that cannot be written are dropped, and the
    // subscriber must not complain about them on stderr.
    let fmt = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // Fails if a subscriber is set already, which then stays.
    let _ = match format {
        LogFormat::Text => fmt.with_ansi(coloured(&std::io::stderr())).try_init(),
        LogFormat::Json => {
            fmt.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
    };
}
