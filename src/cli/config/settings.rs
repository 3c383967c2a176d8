//! The settings of a server, in one table. Options, variables, the keys of `rollcall.toml`, the
//! messages about mistakes, `config show`, `config example` and docs/configuration.md come from it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::suggest::closest;
use crate::cli::client::without_secrets;
use crate::cli::publish::unusable;
use crate::http::{self, BODY_BYTES_LIMIT, ListenOn};
use crate::keys::may_be_secret;
use crate::log::ArchivePlace;
use crate::notary::PublishTarget;
use crate::sink::schema_fault;
use crate::sources::plain_url;
use crate::sources::reconcile::Guard;

/// A setting.
pub(in crate::cli) struct Setting {
    /// The key in the file. A secret's keys are this name with `_file` and `_env`.
    pub(super) name: &'static str,
    /// The option without its dashes. Secrets have none: other users can read the arguments of a
    /// process.
    pub(super) flag: Option<&'static str>,
    /// The variable of the option; empty if there is none.
    pub(super) variable: &'static str,
    /// The name of the value in the help; empty for a switch.
    pub(super) value_name: &'static str,
    /// The description, for the help, the example and the docs.
    pub(super) about: &'static str,
    pub(super) holds: Holds,
    /// The value if none is given; empty if there is none.
    pub(super) default: &'static str,
    /// A value for the example, in TOML. For a secret it is the name of a file.
    pub(super) example: &'static str,
    /// True if SIGHUP takes a new value. Any other needs a restart.
    pub(super) reloads: bool,
}

/// The values that a setting takes.
#[derive(Clone, Copy)]
pub(super) enum Holds {
    /// An address to listen on.
    Address,
    /// Addresses to listen on.
    Addresses,
    /// The URL of this server.
    Url,
    /// A file or folder.
    Path,
    /// Paths that receive webhooks.
    WebhookPaths,
    /// Folders and URLs to which checkpoints go.
    Places,
    /// A whole number.
    Number { min: u64, max: u64, unit: &'static str },
    /// A number and a unit of time, in milliseconds at least and at most.
    Period { ms_min: u64, ms_max: u64 },
    /// Yes or no.
    Switch,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A filter of log lines.
    Filter,
    /// The URL of the server to pull from.
    Source,
    /// A part in percent, or `off`.
    Share,
    /// The folder or bucket of the archive.
    Archive,
    /// A schema of PostgreSQL.
    Schema,
    /// Secrets, in these variables or in files that the same variables name with `_FILE`.
    Secrets(&'static [&'static str]),
}

/// The variables of the secrets that verify webhooks.
pub(in crate::cli) const WEBHOOK_SECRETS: [&str; 2] =
    ["ROLLCALL_WEBHOOK_SECRETS", "WORKOS_WEBHOOK_SECRET"];
/// The variable of the key with which the source is asked.
pub(super) const SOURCE_KEY: [&str; 1] = ["WORKOS_API_KEY"];
/// The variable of the URL of PostgreSQL.
pub(super) const POSTGRES_URL: [&str; 1] = ["ROLLCALL_POSTGRES_URL"];
/// The variables of what it takes to ask for an archive in a bucket.
pub(in crate::cli) const ACCESS_KEY_ID: [&str; 1] = ["AWS_ACCESS_KEY_ID"];
pub(in crate::cli) const SECRET_ACCESS_KEY: [&str; 1] = ["AWS_SECRET_ACCESS_KEY"];
pub(in crate::cli) const SESSION_TOKEN: [&str; 1] = ["AWS_SESSION_TOKEN"];
pub(in crate::cli) const ENDPOINT_URL: [&str; 1] = ["AWS_ENDPOINT_URL"];
pub(in crate::cli) const REGION: [&str; 1] = ["AWS_REGION"];
/// The variable of the keys with all rights.
pub(super) const API_KEYS: [&str; 1] = ["ROLLCALL_API_KEYS"];

/// The filter of log lines by default. actix logs more about its workers and signals than Rollcall
/// about everything else.
pub(super) const LOG: &str = "info,actix_server=warn";

const SETTING: Setting = Setting {
    name: "",
    flag: None,
    variable: "",
    value_name: "",
    about: "",
    holds: Holds::Path,
    default: "",
    example: "",
    reloads: false,
};

/// Every setting but `[[keys]]`, which is a table.
pub(in crate::cli) const SETTINGS: &[Setting] = &[
    Setting {
        name: "listen",
        flag: Some("listen"),
        variable: "ROLLCALL_LISTEN",
        value_name: "ADDRESS",
        about: "Address to listen on, HOST:PORT or unix:/path/to.sock; may be given several \
                times. Port 0 takes a free one. A socket has mode 600, or the mode that it says: \
                unix:/path/to.sock?mode=660",
        holds: Holds::Addresses,
        default: "127.0.0.1:8080",
        example: r#"["127.0.0.1:8080", "unix:/run/rollcall/api.sock?mode=660"]"#,
        ..SETTING
    },
    Setting {
        name: "admin_listen",
        flag: Some("admin-listen"),
        variable: "ROLLCALL_ADMIN_LISTEN",
        value_name: "ADDRESS",
        about: "One more address, for monitors and operators: every call but webhooks, and \
                /healthz, /readyz and /metrics with threads of their own. All calls but /metrics \
                stay on --listen too",
        holds: Holds::Address,
        example: r#""127.0.0.1:8081""#,
        ..SETTING
    },
    Setting {
        name: "public_url",
        flag: Some("public-url"),
        variable: "ROLLCALL_PUBLIC_URL",
        value_name: "URL",
        about: "The URL at which others reach this server. Addresses of SCIM begin with it, and \
                `config check --probe` sends a signed webhook there",
        holds: Holds::Url,
        example: r#""https://rollcall.example.com""#,
        ..SETTING
    },
    Setting {
        name: "data",
        flag: Some("data"),
        variable: "ROLLCALL_DATA",
        value_name: "DATA",
        about: "Data folder: one WorkOS environment",
        holds: Holds::Path,
        default: "./rollcall-data",
        example: r#""/var/lib/rollcall""#,
        ..SETTING
    },
    Setting {
        name: "webhook_paths",
        flag: Some("webhook-path"),
        variable: "ROLLCALL_WEBHOOK_PATH",
        value_name: "PATH",
        about: "Path that receives webhooks; may be given several times",
        holds: Holds::WebhookPaths,
        default: http::WEBHOOK_PATH,
        example: r#"["/webhooks/workos"]"#,
        ..SETTING
    },
    Setting {
        name: "webhook_secrets",
        about: "Secrets that sign webhooks; several during a rotation",
        holds: Holds::Secrets(&WEBHOOK_SECRETS),
        example: r#""/etc/rollcall/webhook-secrets""#,
        reloads: true,
        ..SETTING
    },
    Setting {
        name: "api_keys",
        about: "Keys with all rights, which readers send as `Authorization: Bearer KEY`. Prefer \
                [[keys]], whose rights are limited",
        holds: Holds::Secrets(&API_KEYS),
        example: r#""/etc/rollcall/api-keys""#,
        reloads: true,
        ..SETTING
    },
    Setting {
        name: "body_bytes_max",
        flag: Some("body-bytes-max"),
        variable: "ROLLCALL_BODY_BYTES_MAX",
        value_name: "BYTES",
        about: "The largest body of a webhook that is taken, in bytes; at most 12,000,000",
        holds: Holds::Number { min: 1, max: BODY_BYTES_LIMIT as u64, unit: "bytes" },
        default: "4194304",
        example: "4194304",
        reloads: true,
    },
    Setting {
        name: "tolerance",
        flag: Some("tolerance"),
        variable: "ROLLCALL_TOLERANCE",
        value_name: "TIME",
        about: "How far a signature's time may be from this machine's clock, before or after, \
                e.g. 5m",
        holds: Holds::Period { ms_min: 0, ms_max: DAY_MS },
        default: "180s",
        example: r#""180s""#,
        reloads: true,
    },
    Setting {
        name: "checkpoint_key",
        flag: Some("checkpoint-key"),
        variable: "ROLLCALL_CHECKPOINT_KEY",
        value_name: "FILE",
        about: "The private key that signs checkpoints; by default DATA/checkpoint-key. Created \
                at the first start",
        holds: Holds::Path,
        example: r#""/etc/rollcall/checkpoint-key""#,
        ..SETTING
    },
    Setting {
        name: "replace_checkpoint_key",
        flag: Some("replace-checkpoint-key"),
        variable: "ROLLCALL_REPLACE_CHECKPOINT_KEY",
        about: "Replace a lost key by a new one, and record that. Auditors must be given the new \
                key",
        holds: Holds::Switch,
        default: "false",
        example: "false",
        ..SETTING
    },
    Setting {
        name: "publish_checkpoints",
        flag: Some("publish-checkpoints"),
        variable: "ROLLCALL_PUBLISH_CHECKPOINTS",
        value_name: "DIR|URL",
        about: "Publish checkpoints into this folder, or post them to this http or https URL; \
                may be given several times",
        holds: Holds::Places,
        example: r#"["https://auditor.example.com/checkpoints"]"#,
        ..SETTING
    },
    Setting {
        name: "publish_every",
        flag: Some("publish-every"),
        variable: "ROLLCALL_PUBLISH_EVERY",
        value_name: "TIME",
        about: "How often to publish, e.g. 5m; skipped while the log has not grown",
        holds: Holds::Period { ms_min: 1, ms_max: u64::MAX },
        default: "1h",
        example: r#""1h""#,
        ..SETTING
    },
    Setting {
        name: "log",
        flag: Some("log"),
        variable: "ROLLCALL_LOG",
        value_name: "FILTER",
        about: "What to log on standard error: off, error, warn, info, debug, trace, or a filter \
                such as error,rollcall::access=info",
        holds: Holds::Filter,
        default: LOG,
        example: r#""info,actix_server=warn""#,
        reloads: true,
    },
    Setting {
        name: "log_format",
        flag: Some("log-format"),
        variable: "ROLLCALL_LOG_FORMAT",
        value_name: "FORMAT",
        about: "Format of the log on standard error: text for people, json for programs",
        holds: Holds::Word(&["text", "json"]),
        default: "text",
        example: r#""json""#,
        ..SETTING
    },
    Setting {
        name: "document_cache_mib",
        flag: Some("document-cache-mib"),
        variable: "ROLLCALL_DOCUMENT_CACHE_MIB",
        value_name: "MIB",
        about: "Memory for cached documents and answers, in MiB; any size gives the same answers",
        holds: Holds::Number { min: 1, max: 1_048_576, unit: "MiB" },
        default: "256",
        example: "256",
        ..SETTING
    },
    Setting {
        name: "store_cache_mib",
        flag: Some("store-cache-mib"),
        variable: "ROLLCALL_STORE_CACHE_MIB",
        value_name: "MIB",
        about: "Memory for cached pages of the store, in MiB",
        holds: Holds::Number { min: 16, max: 1_048_576, unit: "MiB" },
        default: "512",
        example: "512",
        ..SETTING
    },
    Setting {
        name: "mapping_memory_mib",
        flag: Some("mapping-memory-mib"),
        variable: "ROLLCALL_MAPPING_MEMORY_MIB",
        value_name: "MIB",
        about: "Memory for all role mappings that were ever set, in MiB, about: one that would \
                need more is refused",
        holds: Holds::Number { min: 1, max: 1_048_576, unit: "MiB" },
        default: "256",
        example: "256",
        ..SETTING
    },
    Setting {
        name: "disk_reserve_mib",
        flag: Some("disk-reserve-mib"),
        variable: "ROLLCALL_DISK_RESERVE_MIB",
        value_name: "MIB",
        about: "The free disk space, in MiB, below which events are refused and only questions \
                are answered; 0 uses the disk up",
        holds: Holds::Number { min: 0, max: 1_048_576, unit: "MiB" },
        default: "16",
        example: "16",
        ..SETTING
    },
    Setting {
        name: "scrub_mib_per_second",
        flag: Some("scrub-mib-per-second"),
        variable: "ROLLCALL_SCRUB_MIB_PER_SECOND",
        value_name: "MIB",
        about: "How fast the store is read from the disk and checked while the server runs, in \
                MiB a second; 0 checks it only at starts",
        holds: Holds::Number { min: 0, max: 10_240, unit: "MiB" },
        default: "4",
        example: "4",
        ..SETTING
    },
    Setting {
        name: "scrub_every",
        flag: Some("scrub-every"),
        variable: "ROLLCALL_SCRUB_EVERY",
        value_name: "TIME",
        about: "How often that begins again",
        holds: Holds::Period { ms_min: 1, ms_max: 366 * DAY_MS },
        default: "24h",
        example: r#""24h""#,
        ..SETTING
    },
    Setting {
        name: "accept_clock",
        flag: Some("accept-clock"),
        variable: "ROLLCALL_ACCEPT_CLOCK",
        about: "Believe a clock that is more than 366 days after the last record. Set it for one \
                start",
        holds: Holds::Switch,
        default: "false",
        example: "false",
        ..SETTING
    },
    Setting {
        name: "accept_fork",
        flag: Some("accept-fork"),
        variable: "ROLLCALL_ACCEPT_FORK",
        about: "Go on without records that the archive, or a published checkpoint, has and this \
                log lacks: with another id and key for the log. Set it for one start",
        holds: Holds::Switch,
        default: "false",
        example: "false",
        ..SETTING
    },
    Setting {
        name: "archive.to",
        flag: Some("archive"),
        variable: "ROLLCALL_ARCHIVE",
        value_name: "DIR|URL",
        about: "Keep a second copy of the log in this folder, or in a bucket as \
                s3://BUCKET/PREFIX. Without it there is none",
        holds: Holds::Archive,
        example: r#""s3://backups/rollcall""#,
        ..SETTING
    },
    Setting {
        name: "archive.every",
        flag: Some("archive-every"),
        variable: "ROLLCALL_ARCHIVE_EVERY",
        value_name: "TIME",
        about: "How long a record may wait until it is archived, at least 1s",
        holds: Holds::Period { ms_min: 1000, ms_max: DAY_MS },
        default: "10s",
        example: r#""10s""#,
        ..SETTING
    },
    Setting {
        name: "archive.records",
        flag: Some("archive-records"),
        variable: "ROLLCALL_ARCHIVE_RECORDS",
        value_name: "NUMBER",
        about: "How many records may wait until they are archived",
        holds: Holds::Number { min: 1, max: 1_000_000, unit: "records" },
        default: "1000",
        example: "1000",
        ..SETTING
    },
    Setting {
        name: "archive.access_key_id",
        about: "The id of the access key of an archive in a bucket",
        holds: Holds::Secrets(&ACCESS_KEY_ID),
        example: r#""/etc/rollcall/aws-access-key-id""#,
        ..SETTING
    },
    Setting {
        name: "archive.secret_access_key",
        about: "The secret of that access key",
        holds: Holds::Secrets(&SECRET_ACCESS_KEY),
        example: r#""/etc/rollcall/aws-secret-access-key""#,
        ..SETTING
    },
    Setting {
        name: "archive.session_token",
        about: "The session token of that access key, if it has one: it is not renewed",
        holds: Holds::Secrets(&SESSION_TOKEN),
        example: r#""/etc/rollcall/aws-session-token""#,
        ..SETTING
    },
    Setting {
        name: "archive.endpoint_url",
        about: "The URL of the server of that bucket, if it is not Amazon's",
        holds: Holds::Secrets(&ENDPOINT_URL),
        example: r#""/etc/rollcall/aws-endpoint-url""#,
        ..SETTING
    },
    Setting {
        name: "archive.region",
        about: "The region of that bucket; us-east-1 if none is given",
        holds: Holds::Secrets(&REGION),
        example: r#""/etc/rollcall/aws-region""#,
        ..SETTING
    },
    Setting {
        name: "postgres.url",
        about: "The URL of a PostgreSQL database in which the state and its past are kept as \
                tables, such as postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full. \
                Without it there are none",
        holds: Holds::Secrets(&POSTGRES_URL),
        example: r#""/etc/rollcall/postgres-url""#,
        ..SETTING
    },
    Setting {
        name: "postgres.schema",
        flag: Some("postgres-schema"),
        variable: "ROLLCALL_POSTGRES_SCHEMA",
        value_name: "NAME",
        about: "The schema of those tables, which is made if it is missing",
        holds: Holds::Schema,
        default: "rollcall",
        example: r#""rollcall""#,
        ..SETTING
    },
    Setting {
        name: "pull.url",
        flag: Some("pull"),
        variable: "ROLLCALL_PULL_URL",
        value_name: "URL",
        about: "Pull events from this server, and compare its state with the views: \
                https://api.workos.com, or another server with its API. Without it nothing is \
                pulled",
        holds: Holds::Source,
        example: r#""https://api.workos.com""#,
        ..SETTING
    },
    Setting {
        name: "pull.key",
        about: "The API key with which the source is asked",
        holds: Holds::Secrets(&SOURCE_KEY),
        example: r#""/etc/rollcall/workos-api-key""#,
        ..SETTING
    },
    Setting {
        name: "pull.every",
        flag: Some("pull-every"),
        variable: "ROLLCALL_PULL_EVERY",
        value_name: "TIME",
        about: "How often to ask the source for new events, e.g. 10s or 5m",
        holds: Holds::Period { ms_min: 1, ms_max: DAY_MS },
        default: "30s",
        example: r#""30s""#,
        ..SETTING
    },
    Setting {
        name: "pull.rate",
        flag: Some("pull-rate"),
        variable: "ROLLCALL_PULL_RATE",
        value_name: "NUMBER",
        about: "The most requests a second to the source; four may follow each other at once",
        holds: Holds::Number { min: 1, max: 10_000, unit: "requests a second" },
        default: "4",
        example: "4",
        ..SETTING
    },
    Setting {
        name: "pull.reconcile_every",
        flag: Some("reconcile-every"),
        variable: "ROLLCALL_RECONCILE_EVERY",
        value_name: "TIME",
        about: "How often to compare the source's state with the views, e.g. 12h; 0 only on demand",
        holds: Holds::Period { ms_min: 0, ms_max: 366 * DAY_MS },
        default: "24h",
        example: r#""24h""#,
        ..SETTING
    },
    Setting {
        name: "pull.guard",
        flag: Some("guard"),
        variable: "ROLLCALL_GUARD",
        value_name: "PERCENT",
        about: "The part of a directory, and of all users, from 0% to 100%, that a reconciliation \
                may end; ten of a kind always may. If more would end, all of it waits for an \
                operator. `off` holds nothing",
        holds: Holds::Share,
        default: "10%",
        example: r#""10%""#,
        ..SETTING
    },
];

/// Returns the keys of the file that are settings.
pub(super) fn file_keys() -> impl Iterator<Item = String> {
    SETTINGS.iter().flat_map(Setting::file_keys)
}

impl Setting {
    /// Returns the names of the variables, for the docs.
    #[cfg(test)]
    pub(super) fn variables(&self) -> Vec<String> {
        match self.holds {
            Holds::Secrets(names) => {
                names.iter().flat_map(|name| [(*name).into(), format!("{name}_FILE")]).collect()
            }
            _ => vec![self.variable.into()],
        }
    }

    /// Returns the keys in the file.
    pub(super) fn file_keys(&self) -> Vec<String> {
        match self.holds {
            Holds::Secrets(_) => ["file", "env"].map(|end| format!("{}_{end}", self.name)).into(),
            _ => vec![self.name.into()],
        }
    }
}

impl Holds {
    /// Returns true if several values may be given.
    pub(super) fn is_list(self) -> bool {
        matches!(self, Holds::Addresses | Holds::WebhookPaths | Holds::Places)
    }

    /// Returns a value as a message may show it.
    pub(super) fn shown(self, text: &str) -> String {
        match self {
            _ if may_be_secret(text) => "(not shown: it begins as secrets do)".into(),
            Holds::Places | Holds::Url | Holds::Source => without_secrets(text),
            _ => text.to_owned(),
        }
    }

    /// Returns what is wrong with a value, and what it must be.
    pub(super) fn fault(self, text: &str) -> Option<String> {
        let fault = match self {
            Holds::Places => return unusable(&PublishTarget::parse(text)).map(str::to_owned),
            Holds::Archive => return ArchivePlace::fault(text).map(str::to_owned),
            Holds::Address | Holds::Addresses => text.parse::<ListenOn>().err(),
            Holds::Url => url(text).err(),
            Holds::Source => source_url(text).err(),
            Holds::Share => guard(text).err(),
            Holds::Path => text.is_empty().then(|| "it must be a path".into()),
            Holds::WebhookPaths => webhook_path(text).err(),
            Holds::Number { min, max, unit } => number(text, min, max, unit).err(),
            Holds::Period { ms_min, ms_max } => period(text, ms_min, ms_max).err(),
            Holds::Schema => schema_fault(text).map(str::to_owned),
            Holds::Switch | Holds::Secrets(_) => None,
            Holds::Word(words) => one_of(text, words).err().map(|says| format!("it {says}")),
            Holds::Filter => crate::cli::logging::filter(text).err(),
        };
        fault.map(|fault| format!("cannot be used: {fault}"))
    }
}

fn number(text: &str, min: u64, max: u64, unit: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("it must be a whole number of {unit} from {min} to {max}"))
}

/// Reads a number and a unit, such as `180s`.
///
/// # Errors
/// A sentence that says what it must be.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
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

const DAY_MS: u64 = 24 * 3_600_000;

fn period(text: &str, ms_min: u64, ms_max: u64) -> Result<Duration, String> {
    let period = duration(text)?;
    if period < Duration::from_millis(ms_min) {
        return Err(match ms_min {
            1 => "it must be more than nothing".into(),
            ms_min => format!("it must be at least {}s", ms_min / 1000),
        });
    }
    if period > Duration::from_millis(ms_max) {
        return Err(format!("it must be at most {}h", ms_max / 3_600_000));
    }
    Ok(period)
}

/// Checks that a text is one of some words.
///
/// # Errors
/// The end of a sentence about it.
pub(super) fn one_of(text: &str, words: &[&str]) -> Result<(), String> {
    if words.contains(&text) {
        return Ok(());
    }
    let suggested = closest(text, words.iter().copied());
    let suggestion = suggested.map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
    Err(format!("must be one of {}{suggestion}", words.join(", ")))
}

fn url(text: &str) -> Result<(), String> {
    let advice = "it must be a URL such as https://rollcall.example.com, without a query";
    let parsed = text.parse::<ureq::http::Uri>().map_err(|_| advice)?;
    let schemed = matches!(parsed.scheme_str(), Some("http" | "https"));
    let hosted = parsed.host().is_some_and(|host| !host.is_empty());
    let plain = parsed.query().is_none() && !text.contains(['#', '@']);
    if !has_good_port(&parsed) {
        return Err("its port must be a number from 1 to 65535".into());
    }
    if schemed && hosted && plain { Ok(()) } else { Err(advice.into()) }
}

/// Refuses a URL to which the key would go in the clear.
fn source_url(text: &str) -> Result<(), String> {
    let plain = plain_url(text);
    url(&plain).map_err(|_| "it must be a URL such as https://api.workos.com")?;
    let parsed = plain.parse::<ureq::http::Uri>().map_err(|error| error.to_string())?;
    let host = parsed.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if parsed.scheme_str() == Some("http") && !is_here {
        return Err("over http the key could be read on its way: use https".into());
    }
    Ok(())
}

fn guard(text: &str) -> Result<Guard, String> {
    text.parse().map_err(|()| "it must be from 0% to 100%, or `off`".into())
}

pub(super) fn has_good_port(url: &ureq::http::Uri) -> bool {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let behind_host = authority.rsplit(']').next().unwrap_or(authority);
    let port = behind_host.rsplit_once(':').map(|(_, port)| port);
    port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn webhook_path(text: &str) -> Result<(), String> {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.~".contains(c));
    if !text.starts_with('/') || !plain {
        return Err("it must begin with `/` and hold only letters, digits and -_.~".into());
    }
    let first = text.split('/').nth(1).unwrap_or("");
    // The paths of SCIM are taken in any case.
    if http::OWN_PATHS.contains(&first) || http::is_scim(text) {
        return Err(format!("paths below `/{first}` are the server's own"));
    }
    Ok(())
}

/// Returns the file of the key that signs checkpoints.
pub(super) fn key_file(data: &Path, given: Option<&PathBuf>) -> PathBuf {
    given.cloned().unwrap_or_else(|| data.join("checkpoint-key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> &'static Setting {
        SETTINGS.iter().find(|setting| setting.name == name).unwrap()
    }

    #[test]
    fn every_default_and_every_name_is_good() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            let earlier = SETTINGS.iter().take(at);
            assert!(earlier.clone().all(|other| other.name != setting.name), "{}", setting.name);
            assert!(!setting.about.is_empty() && !setting.example.is_empty(), "{}", setting.name);
            let flag = setting.flag.map(|flag| flag.to_uppercase().replace('-', "_"));
            // What --pull takes is a URL, and the name of its variable says so.
            let end = if setting.name == "pull.url" { "_URL" } else { "" };
            let variable = flag.map_or(String::new(), |flag| format!("ROLLCALL_{flag}{end}"));
            assert_eq!(setting.variable, variable, "{}", setting.name);
            if !setting.default.is_empty() {
                assert_eq!(setting.holds.fault(setting.default), None, "{}", setting.name);
            }
        }
    }

    #[test]
    fn a_value_that_cannot_be_used_is_refused_with_what_it_must_be() {
        for (name, text, advice) in [
            ("listen", "nowhere", "HOST:PORT"),
            ("listen", "::1:8080", "[::1]:8080"),
            ("listen", "unix:relative.sock", "unix:/"),
            ("listen", "unix:/a.sock?mode=999", "mode"),
            ("listen", "unix:/a.sock?mod=600", "mode"),
            ("public_url", "rollcall.example.com", "https://"),
            ("public_url", "https://h/?q=1", "without a query"),
            ("public_url", "ftp://h/", "https://"),
            ("webhook_paths", "webhooks", "begin with `/`"),
            ("webhook_paths", "/events/x", "the server's own"),
            ("webhook_paths", "/scim/x", "the server's own"),
            ("webhook_paths", "/SCIM/x", "the server's own"),
            ("body_bytes_max", "12000001", "from 1 to 12000000"),
            ("body_bytes_max", "-1", "from 1 to 12000000"),
            ("store_cache_mib", "15", "from 16"),
            ("tolerance", "soon", "unit"),
            ("tolerance", "86401s", "at most 24h"),
            ("public_url", "http://h:70000", "from 1 to 65535"),
            ("listen", "unix:/a.sock?mode=0", "mode"),
            ("listen", "unix:/a.sock?mode=+660", "mode"),
            ("publish_every", "0s", "more than nothing"),
            ("publish_checkpoints", "/no/such/folder", "is not a folder"),
            ("log_format", "jsn", "did you mean `json`?"),
            ("log", "rollcall=loud", "error, warn, info, debug"),
            ("archive.to", "/no/such/folder", "is not a folder"),
            ("archive.to", "s3:///prefix", "s3://BUCKET/PREFIX"),
            ("archive.every", "500ms", "at least 1s"),
            ("archive.records", "0", "from 1"),
            ("data", "", "a path"),
            ("pull.url", "api.workos.com", "https://api.workos.com"),
            ("pull.url", "http://api.workos.com", "use https"),
            ("pull.url", "http://127.0.0.1.example.com", "use https"),
            ("pull.url", "ftp://127.0.0.1", "https://"),
            ("postgres.schema", "Rollcall", "small letters"),
            ("pull.rate", "0", "from 1"),
            ("pull.guard", "10", "0% to 100%"),
            ("pull.guard", "101%", "0% to 100%"),
        ] {
            let fault = named(name).holds.fault(text);
            assert!(fault.as_ref().is_some_and(|fault| fault.contains(advice)), "{fault:?}");
        }
        for (name, text) in [
            ("listen", "[::1]:0"),
            ("listen", "localhost:80"),
            ("listen", "unix:/a.sock?mode=660"),
            ("public_url", "http://h:1/below"),
            ("tolerance", "0"),
            ("tolerance", "24h"),
            ("public_url", "http://[::1]:8080"),
            ("public_url", "http://[::1]"),
            ("log", "error,rollcall::access=info"),
            ("archive.to", "/"),
            ("archive.to", "s3://backups"),
            ("archive.to", "s3://backups/a/b"),
            ("archive.every", "1s"),
            ("pull.url", "https://api.workos.com"),
            ("pull.url", "http://127.0.0.1:8080"),
            ("pull.url", "http://[::1]:8080"),
            ("pull.url", "http://localhost"),
            ("pull.url", "https://me:secret@h/x?token=secret"),
            ("pull.reconcile_every", "0"),
            ("pull.guard", "0%"),
            ("pull.guard", "off"),
        ] {
            assert_eq!(named(name).holds.fault(text), None, "{text}");
        }
    }
}
