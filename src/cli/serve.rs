//! `rollcall serve`

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

use super::Failure;
use super::hangup::Hangups;
use super::list::List;
use super::publish::Publish;
use super::read::print::coloured;
use super::running::{Caches, Running, Signing};
use super::secrets::{given_as_files, secrets, variable};
use crate::http::{self, BODY_BYTES_LIMIT, BODY_BYTES_MAX, Settings, WEBHOOK_PATH};
use crate::stderr;
use crate::verify::{ApiKeys, Keyring, SECRETS_MAX};

/// Receive webhooks and answer questions until stopped.
///
/// Prints the server's URL as the first line on standard output. On SIGTERM or SIGINT it stops
/// accepting requests, finishes those in flight, syncs, and exits with 0. On SIGHUP it reads the
/// files of secrets again.
#[derive(Args)]
#[command(after_help = "\
Environment:
  ROLLCALL_WEBHOOK_SECRETS  secrets that sign webhooks; several during a rotation
  WORKOS_WEBHOOK_SECRET     one more such secret
  ROLLCALL_API_KEYS         keys that readers send as `Authorization: Bearer <key>`
                            Commas or lines separate several. Each may be in a file instead, which
                            ROLLCALL_WEBHOOK_SECRETS_FILE, WORKOS_WEBHOOK_SECRET_FILE or
                            ROLLCALL_API_KEYS_FILE names
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
    #[arg(long, env = "ROLLCALL_LISTEN", hide_env_values = true, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Data folder: one WorkOS environment
    #[arg(long, env = "ROLLCALL_DATA", hide_env_values = true, default_value = "./rollcall-data")]
    data: PathBuf,
    /// Path that receives webhooks; may be given several times. Commas separate several in the
    /// variable [env: ROLLCALL_WEBHOOK_PATH] [default: /webhooks/workos]
    // Not read by clap, which would split the option's values at commas as well.
    #[arg(long = "webhook-path", value_name = "PATH", value_parser = webhook_path)]
    webhook_paths: Vec<String>,
    /// The largest body of a webhook that is taken, in bytes; at most 12,000,000
    #[arg(
        long,
        env = "ROLLCALL_BODY_BYTES_MAX",
        hide_env_values = true,
        default_value_t = BODY_BYTES_MAX,
        value_parser = body_bytes,
        value_name = "BYTES"
    )]
    body_bytes_max: usize,
    /// How far a signature's time may be from this machine's clock, before or after, e.g. 5m
    #[arg(
        long,
        env = "ROLLCALL_TOLERANCE",
        hide_env_values = true,
        default_value = "180s",
        value_parser = duration
    )]
    tolerance: Duration,
    /// The private key that signs checkpoints; by default DATA/checkpoint-key. Created at the first
    /// start
    #[arg(long, env = "ROLLCALL_CHECKPOINT_KEY", hide_env_values = true, value_name = "FILE")]
    checkpoint_key: Option<PathBuf>,
    /// Replace a lost key by a new one, and record that. Auditors must be given the new key
    #[arg(
        long,
        env = "ROLLCALL_REPLACE_CHECKPOINT_KEY",
        hide_env_values = true,
        value_parser = FalseyValueParser::new()
    )]
    replace_checkpoint_key: bool,
    /// Publish checkpoints into this folder, or post them to this http or https URL; may be given
    /// several times. Commas separate several in the variable
    /// [env: ROLLCALL_PUBLISH_CHECKPOINTS]
    // Not read by clap, as above.
    #[arg(long, value_name = "DIR|URL")]
    publish_checkpoints: Vec<String>,
    /// How often to publish, e.g. 5m; skipped while the log has not grown
    #[arg(
        long,
        env = "ROLLCALL_PUBLISH_EVERY",
        hide_env_values = true,
        default_value = "1h",
        value_parser = period,
        value_name = "TIME"
    )]
    publish_every: Duration,
    /// Format of the log on standard error
    #[arg(long, env = "ROLLCALL_LOG_FORMAT", value_enum, default_value_t, hide_env_values = true)]
    log_format: LogFormat,
    /// Memory for cached documents, in MiB; any size gives the same answers
    #[arg(
        long,
        env = "ROLLCALL_DOCUMENT_CACHE_MIB", hide_env_values = true,
        default_value_t = 256,
        value_parser = clap::value_parser!(u64).range(1..=1_048_576)
    )]
    document_cache_mib: u64,
    /// Memory for cached pages of the store, in MiB
    #[arg(
        long,
        env = "ROLLCALL_STORE_CACHE_MIB", hide_env_values = true,
        default_value_t = 512,
        value_parser = clap::value_parser!(u64).range(16..=1_048_576)
    )]
    store_cache_mib: u64,
}

/// The variables of the secrets that verify webhooks.
pub(super) const WEBHOOK_SECRETS: [&str; 2] = ["ROLLCALL_WEBHOOK_SECRETS", "WORKOS_WEBHOOK_SECRET"];
/// The variable of the keys of readers.
const API_KEYS: &str = "ROLLCALL_API_KEYS";

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

/// Returns the paths of the option, of its variable, or the default.
fn webhook_paths(given: Vec<String>) -> Result<Vec<String>, Failure> {
    let list = List::read(given, "ROLLCALL_WEBHOOK_PATH")?;
    list.check("webhook-path", str::to_owned, |path| {
        webhook_path(path).err().map(|fault| format!("cannot be used: {fault}"))
    })?;
    Ok(if list.values.is_empty() { vec![WEBHOOK_PATH.into()] } else { list.values })
}

fn body_bytes(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|bytes| (1..=BODY_BYTES_LIMIT).contains(bytes)).ok_or_else(|| {
        format!("it must be a number of bytes from 1 to {BODY_BYTES_LIMIT}, such as 4194304")
    })
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
        log_to_stderr(self.log_format)?;
        stderr::start().map_err(Failure::ours)?;
        let served = self.serve();
        stderr::flush(FLUSH_WITHIN);
        served
    }

    fn serve(self) -> Result<(), Failure> {
        let hangups = Hangups::receive()?;
        let tolerance_ms = self.tolerance.as_millis().try_into().unwrap_or(u64::MAX);
        let secrets = webhook_secrets()?;
        let api_keys = api_keys()?;
        log_key_names(&api_keys);
        let webhook_paths = webhook_paths(self.webhook_paths)?;
        let places = List::read(self.publish_checkpoints, "ROLLCALL_PUBLISH_CHECKPOINTS")?;
        let publish = Publish::to(&places, self.publish_every)?;
        let first = api_keys.first().and_then(|key| ApiKeys::new([key.as_str()]).identify(key));
        let signing = Signing::Own {
            file: self.checkpoint_key,
            replace_by: first.filter(|_| self.replace_checkpoint_key),
        };
        let keyring = Keyring::new(secrets.iter().map(String::as_str), tolerance_ms);
        let settings =
            Settings { keyring, api_keys, webhook_paths, body_bytes_max: self.body_bytes_max };
        let caches =
            Caches { documents: self.document_cache_mib << 20, store: self.store_cache_mib << 20 };
        let running =
            Running::start_with(&self.listen, &self.data, settings, caches, signing, publish)?;
        let keys = running.keys();
        hangups.each(move || read_again(&keys, tolerance_ms));
        writeln!(std::io::stdout(), "http://{}", running.address())
            .map_err(|error| Failure::Ours(format!("cannot print: {error}")))?;
        running.until_stopped(std::future::pending())
    }
}

/// Replaces the server's secrets by what their files hold now. If any cannot be used, all stay.
fn read_again(keys: &http::Keys, tolerance_ms: u64) {
    let files = given_as_files(&[&WEBHOOK_SECRETS[..], &[API_KEYS]].concat());
    if files.is_empty() {
        tracing::info!("SIGHUP: no secret comes from a file, so there is nothing to read again");
        return;
    }
    match webhook_secrets().and_then(|secrets| Ok((secrets, api_keys()?))) {
        Ok((secrets, api_keys)) => {
            keys.replace(Keyring::new(secrets.iter().map(String::as_str), tolerance_ms), &api_keys);
            let (secrets, api_keys_count) = (secrets.len(), api_keys.len());
            tracing::info!(secrets, api_keys = api_keys_count, "SIGHUP: read the secrets again");
            log_key_names(&api_keys);
        }
        Err(Failure::Caller(reason) | Failure::Ours(reason)) => {
            tracing::error!(
                reason,
                "SIGHUP: the secrets cannot be read again, and those before stay in force"
            );
        }
        Err(Failure::Interrupted(_) | Failure::Unread) => {}
    }
}

/// Reads the secrets that verify webhooks.
///
/// # Errors
/// The caller's, if there are none or too many.
fn webhook_secrets() -> Result<Vec<String>, Failure> {
    let secrets = secrets(&WEBHOOK_SECRETS)?;
    if secrets.is_empty() {
        return Err(Failure::Caller(
            "no webhook secret is set: set ROLLCALL_WEBHOOK_SECRETS to the signing secret of your \
             WorkOS webhook endpoint (several: comma-separated), or \
             ROLLCALL_WEBHOOK_SECRETS_FILE to a file that holds it"
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
    let keys = secrets(&[API_KEYS])?;
    if keys.is_empty() {
        return Err(Failure::Caller(
            "no API key is set: set ROLLCALL_API_KEYS to the key that readers will send as \
             `Authorization: Bearer <key>`, or ROLLCALL_API_KEYS_FILE to a file that holds it"
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

/// The longest that a stop waits for a reader of the log.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Leaves out the error that actix logs for each request that is not HTTP, which anyone can send.
const UNPARSED: &str = "actix_http::h1::dispatcher=off";

/// Logs to standard error.
///
/// # Errors
/// The caller's, if ROLLCALL_LOG is not UTF-8.
fn log_to_stderr(format: LogFormat) -> Result<(), Failure> {
    let with_unparsed = |filter: &str| format!("{UNPARSED},{filter}");
    let filter = variable("ROLLCALL_LOG")?
        .and_then(|filter| tracing_subscriber::EnvFilter::try_new(with_unparsed(&filter)).ok())
        .unwrap_or_else(|| with_unparsed(LOG).into());
    // A closed stderr must not stop the server: lines that cannot be written are dropped, and the
    // subscriber must not complain about them on stderr.
    let fmt = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr::Lines)
        .log_internal_errors(false);
    // Fails if a subscriber is set already, which then stays.
    let _ = match format {
        LogFormat::Text => fmt.with_ansi(coloured(&std::io::stderr())).try_init(),
        LogFormat::Json => {
            fmt.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
    };
    Ok(())
}
