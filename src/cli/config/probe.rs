//! `rollcall config check --probe`: tries what can be tried, and records nothing.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rollcall_generator::sign;
use rustix::fs::{Access, access};
use serde_json::{Value, json};

use super::judge::Config;
use super::settings::key_file;
use super::show::secret_name;
use crate::cli::client::{agent, text_field, without_secrets};
use crate::delivery::{EndpointSettings, reach};
use crate::http::ListenOn;
use crate::log::ArchivePlace;
use crate::notary::PublishTarget;
use crate::sink::Sink;
use crate::sources::{Source, SourceError, Tries};
use crate::verify::PROBE_TIME;

/// The longest that a try over the network may take.
const WITHIN: Duration = Duration::from_secs(10);

/// The body of the webhook. Its spaces, its escape and its end of line do not survive a proxy that
/// writes JSON anew.
const BODY: &[u8] =
    b"{ \"object\":\"event\",  \"event\":\"rollcall.probe\", \"id\":\"probe_\\u00e9\" }\n";

/// The finding about an address at which a Rollcall answers.
const SERVES: &str = "a Rollcall already serves there";

/// The result of one check.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Wrong,
    NotTried,
}

/// One line of the list.
pub(super) struct Item {
    verdict: Verdict,
    /// The setting and its value.
    subject: String,
    /// The finding.
    found: String,
    /// The advice, if there is something to do.
    remedy: Option<String>,
}

impl Item {
    fn ok(subject: &str, found: impl Into<String>) -> Item {
        Item { verdict: Verdict::Ok, subject: subject.into(), found: found.into(), remedy: None }
    }

    fn wrong(subject: &str, found: impl Into<String>, remedy: &str) -> Item {
        let remedy = Some(remedy.into());
        Item { verdict: Verdict::Wrong, remedy, ..Item::ok(subject, found) }
    }

    fn not_tried(subject: &str, found: impl Into<String>, remedy: &str) -> Item {
        let remedy = Some(remedy.into());
        Item { verdict: Verdict::NotTried, remedy, ..Item::ok(subject, found) }
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.verdict == Verdict::Wrong
    }

    fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Wrong => "wrong",
            Verdict::NotTried => "not tried",
        }
    }

    pub(super) fn text(&self) -> String {
        let line = format!("{:<9}  {}: {}\n", self.word(), self.subject, self.found);
        let remedy = self.remedy.as_ref().map(|remedy| format!("{:11}{remedy}\n", ""));
        line + &remedy.unwrap_or_default()
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "result": self.word().replace(' ', "_"),
            "subject": self.subject,
            "found": self.found,
            "remedy": self.remedy,
        })
    }
}

/// Makes every check.
pub(super) fn all(config: &Config) -> Vec<Item> {
    let mut items: Vec<Item> =
        config.listen.iter().map(|listen| address("listen", listen)).collect();
    let serves = items.iter().any(|item| item.found == SERVES);
    items.extend(config.admin_listen.iter().map(|listen| address("admin_listen", listen)));
    items.push(data_folder(&config.data));
    items.push(checkpoint_key(config));
    items.extend(config.publish_checkpoints.iter().map(|place| checkpoints(place)));
    items.extend(config.archive.iter().map(|archive| archived(archive.place())));
    items.extend(config.source.iter().map(|source| pulling(source)));
    items.extend(config.sink.iter().map(|sink| tables(sink)));
    items.extend(config.endpoints.iter().map(receiver));
    items.extend(webhooks(config, serves));
    items
}

/// Lists the logs in the archive, and writes nothing.
fn archived(place: &ArchivePlace) -> Item {
    let subject = format!("archive.to {place}");
    match place.folders() {
        Ok(_) => Item::ok(&subject, "it can be listed"),
        Err(error) => {
            let remedy =
                "check the folder, or the bucket, its key, AWS_ENDPOINT_URL and AWS_REGION";
            Item::wrong(&subject, error.what, remedy)
        }
    }
}

/// Asks the source for a directory and an event, each in one try. Another Rollcall must show all that
/// it has.
fn pulling(source: &Source) -> Item {
    let subject = format!("pull {}", source.url());
    let (client, once) = (source.client(), Tries::AtMost(1));
    let events = "/events?events=dsync.user.created&limit=1";
    let is_rollcall = |path: &str| client.page(path, once).map(|page| page.is_rollcall);
    let asked = is_rollcall("/directories?limit=1")
        .map_err(|error| ("directories", error))
        .and_then(|_| is_rollcall(events).map_err(|error| ("events", error)))
        .map(|is_rollcall| !is_rollcall || client.shows_all(once));
    let key = "set WORKOS_API_KEY to a key that may read the directories and events of the \
               environment; of another Rollcall, one with the scopes `read` and `audit` that is \
               bound to no organization";
    match asked {
        Ok(true) => Item::ok(&subject, "it answers and takes the key"),
        Ok(false) => {
            let found = "the key is bound to organizations: it shows only a part of the source";
            Item::wrong(&subject, found, key)
        }
        Err((what, SourceError::Forbidden)) => {
            Item::wrong(&subject, format!("the key may not read its {what} (403)"), key)
        }
        Err((_, error @ SourceError::Unauthorized)) => {
            Item::wrong(&subject, error.to_string(), key)
        }
        Err((_, error)) => {
            let remedy = "check the URL, and that this machine may reach it";
            Item::wrong(&subject, error.to_string(), remedy)
        }
    }
}

/// Connects to the receiver of webhooks that go out, and sends none.
fn receiver(endpoint: &EndpointSettings) -> Item {
    let subject = format!("endpoint {} {}", endpoint.name, endpoint.plain_url());
    match reach(endpoint, WITHIN) {
        Ok(address) => {
            let verified = if endpoint.is_https() { " and its certificate is trusted" } else { "" };
            let found = format!(
                "{address} can be connected to{verified}; that it takes webhooks was not tried"
            );
            Item::ok(&subject, found)
        }
        Err(says) => Item::wrong(
            &subject,
            says,
            "check the URL, its certificate (SSL_CERT_FILE names other authorities), and that this \
             machine may reach it; a receiver in your own network needs `allow_private = true`",
        ),
    }
}

/// Connects to the database, and changes nothing there.
fn tables(sink: &Sink) -> Item {
    let subject = format!("postgres {}", sink.place());
    match sink.probe() {
        Ok(()) => Item::ok(&subject, "it can be connected to"),
        Err(says) => {
            let remedy = "check the URL, its sslmode, and that this machine may reach the database";
            Item::wrong(&subject, says, remedy)
        }
    }
}

fn address(name: &str, listen: &ListenOn) -> Item {
    let subject = format!("{name} {listen}");
    let Some(error) = listen.try_bind() else { return Item::ok(&subject, "it can be bound") };
    if error.kind() != ErrorKind::AddrInUse {
        let remedy = "name an address of this machine, or a path in a folder that this user can \
                      write; ports below 1024 need a right";
        return Item::wrong(&subject, format!("it cannot be bound: {error}"), remedy);
    }
    if is_rollcall(listen) {
        return Item::ok(&subject, SERVES);
    }
    let remedy = "stop the other program, or name another address";
    Item::wrong(&subject, "another program listens there", remedy)
}

/// Returns true if a Rollcall answers at an address that is in use.
fn is_rollcall(listen: &ListenOn) -> bool {
    let answer = match listen {
        ListenOn::Tcp(address) => {
            let agent = plain_agent();
            let asked = agent.get(format!("http://{}/healthz", reachable(address))).call();
            asked.ok().and_then(|mut answer| answer.body_mut().read_to_string().ok())
        }
        ListenOn::Unix { path, .. } => ask_socket(path),
    };
    answer.is_some_and(|answer| answer.contains(r#""status":"ok""#))
}

/// Returns an address at which a server that listens on all can be asked.
fn reachable(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    match host {
        "0.0.0.0" => format!("127.0.0.1:{port}"),
        "[::]" => format!("[::1]:{port}"),
        _ => address.to_owned(),
    }
}

fn ask_socket(path: &Path) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = UnixStream::connect(path).ok()?;
    stream.set_read_timeout(Some(WITHIN)).ok()?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn data_folder(data: &Path) -> Item {
    let subject = format!("data {}", data.display());
    let Ok(found) = fs::metadata(data) else { return missing_folder(&subject, data) };
    let (user, owner) = (rustix::process::geteuid(), found.uid());
    let mode = found.permissions().mode() & 0o7777;
    let is_own = owner == user.as_raw();
    // Root may check what another user serves.
    let (found, remedy) = if !found.is_dir() {
        ("it is not a folder".into(), "name another path")
    } else if !is_own && !user.is_root() {
        (
            format!("it belongs to the user with id {owner}"),
            "run the check and the server as its owner, or give it to their user",
        )
    } else if !is_writable(data) || (!is_own && mode & 0o700 != 0o700) {
        ("its owner cannot write to it".into(), "chmod 700")
    } else if mode & 0o077 != 0 {
        (
            format!("it has mode {mode:o}, so others may read it"),
            "chmod 700; the start of the server does so too",
        )
    } else if is_own {
        return Item::ok(&subject, "it is this user's alone, and can be written");
    } else {
        let found =
            format!("it is that of the user with id {owner} alone, who must run the server");
        return Item::ok(&subject, found);
    };
    Item::wrong(&subject, found, remedy)
}

fn missing_folder(subject: &str, folder: &Path) -> Item {
    let around = nearest(folder);
    if around.is_some_and(is_writable) {
        return Item::ok(subject, "it will be made");
    }
    let around = around.unwrap_or(Path::new("/")).display();
    let remedy =
        format!("make it for the user of the server, or let that user write to `{around}`");
    Item::wrong(subject, "it is missing and cannot be made", &remedy)
}

/// Returns the nearest folder around a path that exists.
fn nearest(path: &Path) -> Option<&Path> {
    let around = path.ancestors().skip(1);
    let mut around =
        around.map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    around.find(|path| path.exists())
}

fn is_writable(path: &Path) -> bool {
    access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

fn checkpoint_key(config: &Config) -> Item {
    let file = key_file(&config.data, config.checkpoint_key.as_ref());
    let subject = format!("checkpoint_key {}", file.display());
    match fs::metadata(&file) {
        Ok(found) if !found.is_file() => {
            Item::wrong(&subject, "it is not a file", "name the file of the key")
        }
        Ok(_) if access(&file, Access::READ_OK).is_err() => {
            Item::wrong(&subject, "it cannot be read", "give it to the user of the server")
        }
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            let found = format!("it has mode {:o}", found.permissions().mode() & 0o777);
            Item::wrong(&subject, found, "chmod 600: another user could sign checkpoints with it")
        }
        Ok(_) => Item::ok(&subject, "it is this user's alone, and can be read"),
        Err(_) => match nearest(&file) {
            Some(around) if is_writable(around) => Item::ok(
                &subject,
                "it is made at the first start; a log that has a key is refused without it",
            ),
            _ => Item::wrong(
                &subject,
                "it is missing and cannot be made",
                "restore it, or let the user of the server write to its folder",
            ),
        },
    }
}

fn checkpoints(place: &str) -> Item {
    let subject = format!("publish_checkpoints {}", without_secrets(place));
    match PublishTarget::parse(place) {
        PublishTarget::Folder(folder) if is_writable(&folder) => {
            Item::ok(&subject, "it is a folder that can be written")
        }
        PublishTarget::Folder(_) => Item::wrong(
            &subject,
            "it cannot be written",
            "let the user of the server write to the folder",
        ),
        PublishTarget::Url(url) => match probe_agent(&url).map(|agent| agent.head(&url).call()) {
            Ok(Ok(answer)) => Item::ok(
                &subject,
                format!(
                    "it answers HEAD with {}; that it takes a checkpoint was not tried",
                    answer.status().as_u16()
                ),
            ),
            Ok(Err(error)) => Item::wrong(
                &subject,
                format!("it does not answer: {error}"),
                "check the URL and the way there; publishing is tried again at each interval",
            ),
            Err(says) => Item::wrong(&subject, says, "check the URL and SSL_CERT_FILE"),
        },
    }
}

fn plain_agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_global(Some(WITHIN)).proxy(None).build().into()
}

/// Returns an agent that follows no redirect: WorkOS follows none either.
fn probe_agent(url: &str) -> Result<ureq::Agent, String> {
    let agent = agent(url, None).map_err(|failure| match failure {
        crate::cli::Failure::Caller(says) | crate::cli::Failure::Ours(says) => says,
        _ => "interrupted".into(),
    })?;
    let tls = agent.config().tls_config().clone();
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(WITHIN))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .tls_config(tls);
    Ok(config.build().into())
}

/// Sends a webhook with each secret to each path through the public URL. `serves` is true if a
/// Rollcall serves at one of the addresses.
fn webhooks(config: &Config, serves: bool) -> Vec<Item> {
    if config.webhook_paths.is_empty() {
        return Vec::new();
    }
    let untried = |found, remedy| vec![Item::not_tried("webhook", found, remedy)];
    let Some(public_url) = &config.public_url else {
        return untried("public_url is not set", "set public_url, and probe again");
    };
    if !serves {
        let found = "no Rollcall serves at an address of listen";
        return untried(found, "start the server, and probe again");
    }
    let base = public_url.trim_end_matches('/');
    let agent = match probe_agent(base) {
        Ok(agent) => agent,
        Err(says) => return vec![Item::wrong("public_url", says, "check SSL_CERT_FILE")],
    };
    let mut items = Vec::new();
    for path in &config.webhook_paths {
        for secret in &config.reloadable.webhook_secrets {
            items.push(webhook(&agent, &format!("{base}{path}"), secret));
        }
    }
    items
}

/// Posts a webhook that is signed truly, with a time of 1970. A server with the secret refuses it
/// because of its time; of this one time it judges the signature before.
fn webhook(agent: &ureq::Agent, url: &str, secret: &str) -> Item {
    let subject = format!("webhook {url} with the secret {}", secret_name(secret));
    let sent = agent
        .post(url)
        .header("WorkOS-Signature", &sign(secret, PROBE_TIME, BODY))
        .header("Content-Type", "application/json")
        .send(BODY);
    let mut answer = match sent {
        Ok(answer) => answer,
        Err(error) => {
            let remedy = "check the URL, the proxy in front of the server and its certificate; \
                          this machine must reach the URL";
            return Item::wrong(&subject, format!("no answer: {error}"), remedy);
        }
    };
    let status = answer.status().as_u16();
    let said: Value = answer.body_mut().read_json().unwrap_or(Value::Null);
    judge_webhook(&subject, status, text_field(&said, "code"))
}

fn judge_webhook(subject: &str, status: u16, code: &str) -> Item {
    if code == "timestamp_outside_tolerance" {
        let found = "the path, the signature and the body came through unchanged, and the server \
                     there has this secret; not proven: that WorkOS can reach it";
        return Item::ok(subject, found);
    }
    let (found, remedy) = fault_of_webhook(status, code);
    Item::wrong(subject, found, remedy)
}

/// Returns what an answer shows, and what to do.
fn fault_of_webhook(status: u16, code: &str) -> (String, &'static str) {
    match code {
        _ if (200..300).contains(&status) => (
            format!("the webhook was accepted with {status}, though its time is of 1970"),
            "it is not a Rollcall with a tolerance of at most 24h; if it is an older one, it has \
             recorded the probe: set its tolerance to 180s",
        ),
        "signature_mismatch" => (
            "a Rollcall refused the signature".into(),
            "it has other secrets (reload it), or something on the way changes the body: a proxy \
             must pass its bytes on as they are",
        ),
        "signature_missing" | "signature_malformed" => (
            "the header WorkOS-Signature did not come through".into(),
            "let the proxy pass on the header WorkOS-Signature",
        ),
        "not_found" => (
            "a Rollcall has no such path for webhooks".into(),
            "add the path to webhook_paths and restart the server, or let the proxy keep the path",
        ),
        "not_ready" | "log_unavailable" | "queue_full" => (
            format!("a Rollcall is there, and takes nothing now: {code}"),
            "wait until /readyz answers 200, and probe again",
        ),
        "" => (
            format!("something that is not Rollcall answered with {status}"),
            "let the proxy pass POST requests of this path on; a redirect is not followed",
        ),
        code => (
            format!("a Rollcall answered with {status} `{code}`"),
            "let the proxy pass requests on unchanged",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_the_time_proves_that_a_webhook_came_through() {
        for code in ["timestamp_outside_tolerance", "signature_mismatch", "not_found", "", "other"]
        {
            let item = judge_webhook("x", 401, code);
            assert_eq!(item.is_wrong(), code != "timestamp_outside_tolerance", "{code}");
            assert_eq!(item.remedy.is_some(), item.is_wrong(), "{code}");
        }
    }
}
