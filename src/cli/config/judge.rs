//! The one judge of a configuration: the start, a reload and `config check` ask it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rollcall_projections::Millis;

use super::document::{Mistakes, Origin, Spot};
use super::given::{Flags, Given, Resolved};
use super::keys::KeySpot;
use super::settings::{Holds, duration};
use crate::archive::Archiver;
use crate::cli::publish::Publish;
use crate::cli::running::{Caches, Conditions};
use crate::delivery::EndpointSettings;
use crate::http::ListenOn;
use crate::keys::{ApiKey, ApiKeys, Operator, Scope};
use crate::log::{ArchivePlace, S3Access, ScrubPace};
use crate::sink::{PostgresUrl, Sink};
use crate::sources::reconcile::Guard;
use crate::sources::{Source, SourceSettings, plain_url};
use crate::time;
use crate::verify::SECRETS_MAX;

/// A configuration without a mistake.
pub(in crate::cli) struct Config {
    pub(in crate::cli) given: Given,
    pub(in crate::cli) listen: Vec<ListenOn>,
    pub(in crate::cli) admin_listen: Option<ListenOn>,
    pub(in crate::cli) public_url: Option<String>,
    pub(in crate::cli) data: PathBuf,
    pub(in crate::cli) webhook_paths: Vec<String>,
    pub(in crate::cli) checkpoint_key: Option<PathBuf>,
    pub(in crate::cli) replace_checkpoint_key: bool,
    pub(in crate::cli) publish_checkpoints: Vec<String>,
    pub(in crate::cli) publish: Publish,
    /// The archive to write.
    pub(in crate::cli) archive: Option<Arc<Archiver>>,
    /// The source to pull from.
    pub(in crate::cli) source: Option<Arc<Source>>,
    /// The receivers of webhooks.
    pub(in crate::cli) endpoints: Vec<EndpointSettings>,
    /// The tables to keep in PostgreSQL.
    pub(in crate::cli) sink: Option<Arc<Sink>>,
    pub(in crate::cli) logs_json: bool,
    pub(in crate::cli) caches: Caches,
    pub(in crate::cli) conditions: Conditions,
    pub(in crate::cli) reloadable: Reloadable,
    /// Sentences about what is not wrong and may not be meant.
    pub(in crate::cli) warnings: Vec<String>,
}

/// The use that is made of a configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Purpose {
    /// Everything is taken.
    Start,
    /// Only the settings that reload are taken. Faults of the others are warnings, so that they
    /// keep no key from being revoked.
    Reload,
}

/// The part of a configuration that a reload takes.
pub(in crate::cli) struct Reloadable {
    /// The secrets that verify webhooks.
    pub(in crate::cli) webhook_secrets: Vec<String>,
    /// The keys with all rights, whole.
    pub(in crate::cli) whole_keys: Vec<WholeKey>,
    /// All keys.
    pub(in crate::cli) api_keys: ApiKeys,
    /// The holder of the first key that may act on everything.
    pub(in crate::cli) first_operator: Option<Operator>,
    pub(in crate::cli) tolerance_ms: u64,
    pub(in crate::cli) body_bytes_max: usize,
    /// The filter of log lines.
    pub(in crate::cli) log: String,
}

/// A key that the configuration has whole, and the place that it is from.
pub(in crate::cli) struct WholeKey {
    pub(in crate::cli) key: String,
    pub(in crate::cli) from: String,
}

impl Flags {
    /// Reads the configuration: these options, the environment, and the file.
    ///
    /// # Errors
    /// All mistakes.
    pub(in crate::cli) fn read(&self, purpose: Purpose) -> Result<Config, Mistakes> {
        let mut mistakes = Mistakes::default();
        let given = self.gather(&mut mistakes);
        judge(given, mistakes, purpose)
    }
}

/// Judges what was given.
fn judge(given: Given, mut mistakes: Mistakes, purpose: Purpose) -> Result<Config, Mistakes> {
    let said_so_far = mistakes.sentences().len();
    let mut waiting = Mistakes::default();
    for resolved in &given.resolved {
        let taken = purpose == Purpose::Start || resolved.setting.reloads;
        judge_values(resolved, if taken { &mut mistakes } else { &mut waiting });
    }
    judge_addresses(&given, if purpose == Purpose::Start { &mut mistakes } else { &mut waiting });
    let taken = if purpose == Purpose::Start { &mut mistakes } else { &mut waiting };
    taken.extend(&given.endpoint_mistakes);
    let now = time::now_ms();
    judge_secrets(&given, said_so_far > 0, now, &mut mistakes);
    if purpose == Purpose::Start {
        judge_replacement(&given, now, &mut mistakes);
        judge_source_key(&given, said_so_far > 0, &mut mistakes);
        judge_source_place(&given, &mut mistakes);
    }
    let places = given.texts("publish_checkpoints");
    // The authorities of https are read only if all else is good.
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let publish = match purpose {
        Purpose::Start => Publish::to(&places, period(&given, "publish_every")),
        Purpose::Reload => Ok(Publish::nowhere()),
    };
    let publish = publish.map_err(|says| mistakes.add_whole(says));
    let whole = given.texts("api_keys");
    let whole = whole.iter().map(|key| ApiKey::unrestricted(key));
    let keys = ApiKeys::new(given.keys.iter().map(|spot| spot.key.clone()).chain(whole));
    let keys = keys.map_err(|error| mistakes.add_whole(error.to_string()));
    let source = match purpose {
        Purpose::Start => source(&given).map_err(|says| mistakes.add_whole(says)),
        Purpose::Reload => Ok(None),
    };
    let archive = match purpose {
        Purpose::Start => archive(&given).map_err(|says| mistakes.add_whole(says)),
        Purpose::Reload => Ok(None),
    };
    let sink = match purpose {
        Purpose::Start => sink(&given, &mut mistakes),
        Purpose::Reload => None,
    };
    let (Ok(publish), Ok(keys), Ok(source), Ok(archive)) = (publish, keys, source, archive) else {
        return Err(mistakes);
    };
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let mut warnings = waiting.sentences().to_vec();
    warnings.extend(sink.as_ref().filter(|sink| sink.is_unverified()).map(|sink| unverified(sink)));
    warnings.extend(given.keys.iter().filter(|spot| spot.key.has_expired(now)).map(expired));
    Ok(Config { warnings, archive, sink, ..config(given, publish, source, keys) })
}

/// Makes the sink, and refuses a URL that cannot be used without repeating it.
fn sink(given: &Given, mistakes: &mut Mistakes) -> Option<Arc<Sink>> {
    let urls = given.values("postgres.url");
    let spot = urls.first()?;
    if urls.len() > 1 {
        let says = "`postgres.url`: give one URL, and write a comma in it as %2C";
        mistakes.add(&spot.at, says);
        return None;
    }
    let url = PostgresUrl::parse(&spot.value.to_string_lossy());
    let url = url.map_err(|says| mistakes.add(&spot.at, format!("`postgres.url`: {says}"))).ok()?;
    let schema = given.text("postgres.schema").unwrap_or_default();
    Some(Arc::new(Sink::new(url, schema)))
}

/// Says that another server could get the rows.
fn unverified(sink: &Sink) -> String {
    format!(
        "`postgres.url`: the certificate of {} is not verified: add sslmode=verify-full to the URL",
        sink.place()
    )
}

/// Makes the archive that was judged.
fn archive(given: &Given) -> Result<Option<Arc<Archiver>>, String> {
    let Some(to) = given.text("archive.to") else { return Ok(None) };
    let access = S3Access {
        access_key_id: given.text("archive.access_key_id"),
        secret_access_key: given.text("archive.secret_access_key"),
        session_token: given.text("archive.session_token"),
        endpoint_url: given.text("archive.endpoint_url"),
        region: given.text("archive.region"),
    };
    let place = ArchivePlace::parse(&to, &access);
    let place = place.map_err(|says| format!("--archive: `{to}` {says}"))?;
    let data = given.path("data").unwrap_or_default();
    if let ArchivePlace::Folder(folder) = &place
        && is_within(folder, &data)
    {
        return Err(format!(
            "--archive: `{to}` is in the data folder, and would be lost with it; name another disk"
        ));
    }
    let (every, records) = (period(given, "archive.every"), number(given, "archive.records"));
    Ok(Some(Arc::new(Archiver::new(place, every, records))))
}

/// Returns whether a folder is the data folder, or in it. Either may be missing yet.
fn is_within(folder: &Path, data: &Path) -> bool {
    let real = |path: &Path| {
        let found = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
        found.unwrap_or_else(|_| path.to_owned())
    };
    real(folder).starts_with(real(data))
}

/// Makes the source that was judged.
fn source(given: &Given) -> Result<Option<Arc<Source>>, String> {
    let Some(url) = given.text("pull.url") else { return Ok(None) };
    let settings = SourceSettings {
        url,
        key: given.text("pull.key").unwrap_or_default(),
        every: period(given, "pull.every"),
        rate: u32::try_from(number(given, "pull.rate")).unwrap_or(u32::MAX),
        reconcile_every: period(given, "pull.reconcile_every"),
        guard: given.text("pull.guard").and_then(|text| text.parse().ok()).unwrap_or(Guard::Off),
    };
    let takes_webhooks = !given.values("webhook_secrets").is_empty();
    let source = Source::new(&settings, &given.path("data").unwrap_or_default(), takes_webhooks);
    source.map(|source| Some(Arc::new(source))).map_err(|error| format!("--pull: {error}"))
}

/// Refuses a source without a key, or with one that a header cannot carry.
fn judge_source_key(given: &Given, unread: bool, mistakes: &mut Mistakes) {
    let keys = given.values("pull.key");
    if given.values("pull.url").is_empty() {
        return;
    }
    if keys.len() > 1 {
        mistakes.add_whole("the source is asked with one key: give one in WORKOS_API_KEY");
    } else if keys.is_empty() && !unread {
        mistakes.add_whole(
            "no key for the source of --pull is set: set WORKOS_API_KEY to a key of its \
             environment, or WORKOS_API_KEY_FILE or `pull.key_file` to a file that holds it",
        );
    }
    judge_sendable(keys, mistakes);
}

/// Refuses a source that is this server itself, from which nothing new would ever come.
fn judge_source_place(given: &Given, mistakes: &mut Mistakes) {
    let Some(spot) = given.values("pull.url").first() else { return };
    let url = plain_url(&spot.value.to_string_lossy());
    let is_public = given.text("public_url").is_some_and(|own| plain_url(&own) == url);
    let own = ["listen", "admin_listen"].map(|name| given.texts(name)).concat();
    if is_public || own.iter().any(|address| is_address_of(&url, address)) {
        let says = format!(
            "`pull.url`: `{url}` is this server itself: give the URL of WorkOS, or of another \
             server with its API"
        );
        mistakes.add(&spot.at, says);
    }
}

/// Returns true if a server that listens on an address answers at a URL.
fn is_address_of(url: &str, address: &str) -> bool {
    let Ok(uri) = url.parse::<ureq::http::Uri>() else { return false };
    let numeric = |host: &str| host.to_lowercase().replace("localhost", "127.0.0.1");
    let asked = format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
    let [asked, own] = [asked.as_str(), address].map(|text| numeric(text).parse::<ListenOn>().ok());
    // The server itself speaks no TLS.
    let is_plain = uri.scheme_str() == Some("http");
    is_plain && asked.zip(own).is_some_and(|(asked, own)| asked.conflicts_with(&own))
}

/// Says that a key is refused because its time is over.
fn expired(spot: &KeySpot) -> String {
    let at = spot.key.expires_at.map(time::format).unwrap_or_default();
    format!("{}: the key `{}` expired at {at}: remove its entry", spot.at, spot.key.name())
}

/// Returns true if a key may act on everything, and so may be named as the one who did.
fn may_act(key: &ApiKey, now: Millis) -> bool {
    key.scopes.has(Scope::Operate) && key.organizations.is_none() && !key.has_expired(now)
}

/// Refuses to replace the key of checkpoints if no key could be named for it in the record.
fn judge_replacement(given: &Given, now: Millis, mistakes: &mut Mistakes) {
    let is_asked = given.text("replace_checkpoint_key").is_some_and(|text| text == "true");
    let has_operator = !given.values("api_keys").is_empty()
        || given.keys.iter().any(|spot| may_act(&spot.key, now));
    if let Some(spot) = given.values("replace_checkpoint_key").first()
        && is_asked
        && !has_operator
    {
        mistakes.add(
            &spot.at,
            "`replace_checkpoint_key` is recorded as the act of a key, and no key may act: add one \
             with the scope `operate` that has not expired and is bound to no organization",
        );
    }
}

/// Returns the holder of the first whole key, or else of the first that may act on everything.
fn first_operator(given: &Given, keys: &ApiKeys) -> Option<Operator> {
    let now = time::now_ms();
    let may_act = |key: &&ApiKey| may_act(key, now);
    let whole = given.text("api_keys").and_then(|key| keys.identify(&key));
    whole.or_else(|| {
        given.keys.iter().map(|spot| &spot.key).find(may_act).and_then(|key| keys.holder(key))
    })
}

fn whole_keys(given: &Given) -> Vec<WholeKey> {
    let keys = given.values("api_keys").iter();
    keys.map(|spot| WholeKey {
        key: spot.value.to_string_lossy().into_owned(),
        from: spot.at.to_string(),
    })
    .collect()
}

/// Reads the number of a setting that was judged.
fn number(given: &Given, name: &str) -> u64 {
    given.text(name).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Reads the period of a setting that was judged.
fn period(given: &Given, name: &str) -> Duration {
    given.text(name).and_then(|text| duration(&text).ok()).unwrap_or_default()
}

fn reloadable(given: &Given, api_keys: ApiKeys) -> Reloadable {
    Reloadable {
        webhook_secrets: given.texts("webhook_secrets"),
        whole_keys: whole_keys(given),
        first_operator: first_operator(given, &api_keys),
        api_keys,
        tolerance_ms: period(given, "tolerance").as_millis().try_into().unwrap_or(u64::MAX),
        body_bytes_max: usize::try_from(number(given, "body_bytes_max")).unwrap_or(usize::MAX),
        log: given.text("log").unwrap_or_default(),
    }
}

fn config(
    given: Given,
    publish: Publish,
    source: Option<Arc<Source>>,
    api_keys: ApiKeys,
) -> Config {
    let listen = |name: &str| given.texts(name).into_iter().filter_map(|text| text.parse().ok());
    let is = |name: &str, word: &str| given.text(name).is_some_and(|text| text == word);
    let caches = Caches {
        documents: number(&given, "document_cache_mib") << 20,
        store: number(&given, "store_cache_mib") << 20,
    };
    Config {
        listen: listen("listen").collect(),
        admin_listen: listen("admin_listen").next(),
        public_url: given.text("public_url"),
        data: given.path("data").unwrap_or_default(),
        webhook_paths: webhook_paths(&given),
        checkpoint_key: given.path("checkpoint_key"),
        replace_checkpoint_key: is("replace_checkpoint_key", "true"),
        publish_checkpoints: given.texts("publish_checkpoints"),
        publish,
        archive: None,
        sink: None,
        source,
        endpoints: given.endpoints.iter().map(|spot| spot.settings.clone()).collect(),
        logs_json: is("log_format", "json"),
        caches,
        conditions: Conditions {
            disk_reserve_bytes: number(&given, "disk_reserve_mib") << 20,
            mapping_bytes_max: number(&given, "mapping_memory_mib") << 20,
            accept_clock: is("accept_clock", "true"),
            accept_fork: is("accept_fork", "true"),
            scrub: scrub(&given),
        },
        reloadable: reloadable(&given, api_keys),
        warnings: Vec::new(),
        given,
    }
}

/// Returns how fast and how often the store is scrubbed.
fn scrub(given: &Given) -> Option<ScrubPace> {
    let bytes_per_second = number(given, "scrub_mib_per_second") << 20;
    (bytes_per_second > 0)
        .then(|| ScrubPace { bytes_per_second, every: period(given, "scrub_every") })
}

/// Returns the paths of webhooks. Without a secret there are none.
fn webhook_paths(given: &Given) -> Vec<String> {
    match given.values("webhook_secrets") {
        [] => Vec::new(),
        _ => given.texts("webhook_paths"),
    }
}

/// Judges each value of a setting by itself.
fn judge_values(resolved: &Resolved, mistakes: &mut Mistakes) {
    let holds = resolved.setting.holds;
    let count = resolved.values.len();
    for (at, Spot { value, at: origin }) in resolved.values.iter().enumerate() {
        let Some(text) = value.to_str() else {
            // Only paths may be other bytes.
            if !matches!(holds, Holds::Path) {
                mistakes.add_whole(format!("{origin} is not UTF-8 text"));
            }
            continue;
        };
        let Some(fault) = holds.fault(text) else { continue };
        let shown = holds.shown(text);
        match (origin, resolved.setting.flag) {
            // A piece of a variable is not shown: it may be a piece of a URL that has a comma, and
            // the piece a secret.
            (Origin::Variable(_), Some(flag)) if holds.is_list() => mistakes.add(
                origin,
                format_args!(
                    "value {} of {count} {fault}; commas separate the values: give one that has a \
                     comma with --{flag}",
                    at + 1
                ),
            ),
            (Origin::Line(..), _) => {
                mistakes.add(origin, format_args!("`{}`: `{shown}` {fault}", resolved.setting.name))
            }
            _ => mistakes.add(origin, format_args!("`{shown}` {fault}")),
        }
    }
}

/// Refuses an address that is given twice, or that another one holds already.
fn judge_addresses(given: &Given, mistakes: &mut Mistakes) {
    let mut earlier: Vec<ListenOn> = Vec::new();
    for name in ["listen", "admin_listen"] {
        for spot in given.values(name) {
            let Some(listen) = spot.value.to_str().and_then(|text| text.parse().ok()) else {
                continue;
            };
            if earlier.iter().any(|other| other.conflicts_with(&listen)) {
                let says = format!(
                    "`{name}`: `{listen}` is given twice, or another address holds its port: \
                     leave one out"
                );
                mistakes.add(&spot.at, says);
            }
            earlier.push(listen);
        }
    }
}

/// Judges the secrets and keys as wholes. If the file or a file of secrets could not be read,
/// missing ones are no mistake of their own.
fn judge_secrets(given: &Given, unread: bool, now: Millis, mistakes: &mut Mistakes) {
    let (secrets, keys) = (given.values("webhook_secrets"), given.values("api_keys"));
    if secrets.is_empty() && given.values("pull.url").is_empty() && !unread {
        add_missing(
            given,
            mistakes,
            "no webhook secret is set: set ROLLCALL_WEBHOOK_SECRETS to the signing secret of your \
             WorkOS webhook endpoint (several: comma-separated), or ROLLCALL_WEBHOOK_SECRETS_FILE \
             or `webhook_secrets_file` to a file that holds it; with --pull none is needed",
        );
    }
    if let Some(beyond) = secrets.get(SECRETS_MAX) {
        let says = format!(
            "at most {SECRETS_MAX} webhook secrets may be active at once, and {} are given: leave \
             out those that are not in use any more",
            secrets.len()
        );
        mistakes.add(&beyond.at, says);
    }
    let usable = given.keys.iter().any(|spot| !spot.key.has_expired(now));
    if keys.is_empty() && !usable && !given.keys.is_empty() {
        given.keys.iter().for_each(|spot| mistakes.add_whole(expired(spot)));
        add_missing(
            given,
            mistakes,
            "no API key is left that has not expired: add an entry of `rollcall key new` to the \
             configuration",
        );
    } else if keys.is_empty() && !usable && !unread {
        add_missing(
            given,
            mistakes,
            "no API key is set: add an entry of `rollcall key new` to the configuration, or set \
             ROLLCALL_API_KEYS to the key that readers will send as `Authorization: Bearer <key>`, \
             or ROLLCALL_API_KEYS_FILE to a file that holds it",
        );
    }
    judge_sendable(keys, mistakes);
}

/// Adds a mistake about what is nowhere: it names the file, if there is one.
fn add_missing(given: &Given, mistakes: &mut Mistakes, says: &str) {
    match &given.file {
        Some(file) => mistakes.add_whole(format!("{}: {says}", file.display())),
        None => mistakes.add_whole(says),
    }
}

/// Refuses keys that a header cannot carry.
fn judge_sendable(keys: &[Spot<OsString>], mistakes: &mut Mistakes) {
    let is_sendable = |key: &Spot<OsString>| {
        key.value.to_str().is_some_and(|key| key.bytes().all(|byte| byte.is_ascii_graphic()))
    };
    for (at, key) in keys.iter().enumerate().filter(|(_, key)| !is_sendable(key)) {
        let says = format!(
            "key {} has a character that a header cannot carry: use ASCII letters, digits and signs",
            at + 1
        );
        mistakes.add(&key.at, says);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_that_of_a_server_which_listens_there() {
        for (url, address, expected) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
            ("http://localhost:8080/below", "127.0.0.1:8080", true),
            ("http://127.0.0.1:8080", "localhost:8080", true),
            ("http://[::1]:8080", "[::]:8080", true),
            ("http://127.0.0.1:8080", "0.0.0.0:8080", true),
            ("http://127.0.0.1", "127.0.0.1:80", true),
            ("http://127.0.0.1:8081", "127.0.0.1:8080", false),
            ("http://127.0.0.2:8080", "127.0.0.1:8080", false),
            ("https://127.0.0.1:8080", "127.0.0.1:8080", false),
            ("http://127.0.0.1:8080", "127.0.0.1:0", false),
            ("http://127.0.0.1:8080", "unix:/run/rollcall.sock", false),
        ] {
            assert_eq!(is_address_of(url, address), expected, "{url} {address}");
        }
    }
}
