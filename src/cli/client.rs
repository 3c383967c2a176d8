//! The HTTP client of the commands that talk to a server.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use rollcall_generator::sign;
use serde_json::Value;
use ureq::tls::TlsConfig;

use super::Failure;
use crate::log::Damage;
use crate::time;
use crate::trust::authorities;

/// Tries for a webhook while the server answers 503 or not at all.
const TRIES_MAX: u32 = 5;
/// The pause after the first try. It doubles with each further one.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest answer that is kept, and the longest line, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// The timeout of an act. Before a mapping is set, the roles of all users may have to be computed.
const ACT_WITHIN: Duration = Duration::from_secs(600);

/// Returns an HTTP client for a URL that treats every status as an answer. Over https it trusts the
/// authorities of `ca_cert`, or else of the system.
///
/// # Errors
/// The caller's, if there is no certificate where one must be.
pub(super) fn agent(url: &str, ca_cert: Option<&Path>) -> Result<ureq::Agent, Failure> {
    // The scheme may be in capitals.
    if url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:")) {
        return Ok(config().build().into());
    }
    let trusted = authorities(ca_cert).map_err(|error| Failure::Caller(error.to_string()))?;
    let tls = TlsConfig::builder().root_certs(trusted).build();
    Ok(config().tls_config(tls).build().into())
}

fn config() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
}

/// The answer to a webhook.
pub(super) struct Delivered {
    pub(super) status: u16,
    pub(super) answer: Value,
}

/// Returns a URL as an error may show it: without user, password and query.
pub(super) fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let rest = rest.split(['?', '#']).next().unwrap_or("");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
}

/// Signs and posts one event as WorkOS would. Each retry is signed with the time of the retry.
/// There is none once `stopped` returns true.
pub(super) fn deliver(
    agent: &ureq::Agent,
    url: &str,
    secret: &str,
    body: &[u8],
    stopped: impl Fn() -> bool,
) -> Result<Delivered, Failure> {
    let mut pause = PAUSE;
    for _ in 1..TRIES_MAX {
        match post_signed(agent, url, secret, body) {
            Ok(delivered) if delivered.status != 503 => return Ok(delivered),
            answer if stopped() => return answer.map_err(|error| undelivered(url, &error)),
            Ok(_) | Err(_) => {}
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
    post_signed(agent, url, secret, body).map_err(|error| undelivered(url, &error))
}

fn undelivered(url: &str, error: &ureq::Error) -> Failure {
    let advice =
        "set ROLLCALL_URL to its URL, or ROLLCALL_WEBHOOK_URL or --url to the URL of its webhooks";
    unreachable("post to", url, error, advice)
}

fn post_signed(
    agent: &ureq::Agent,
    url: &str,
    secret: &str,
    body: &[u8],
) -> Result<Delivered, ureq::Error> {
    // The program behind a redirect is not the one that was asked, and the event would arrive there
    // as a GET without a body.
    let request = agent.post(url).config().max_redirects(0).build();
    let mut response = request
        .header("WorkOS-Signature", &sign(secret, time::now_ms(), body))
        .header("Content-Type", "application/json")
        .send(body)?;
    let status = response.status().as_u16();
    let answer = response.body_mut().read_json().unwrap_or(Value::Null);
    Ok(Delivered { status, answer })
}

/// Says why a server could not be reached, and what to do. `advice` is for a server that is at
/// another place.
fn unreachable(act: &str, url: &str, error: &ureq::Error, advice: &str) -> Failure {
    let shown = without_secrets(url);
    let reason = match error {
        ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
            format!("connection refused; is `rollcall serve` running there? {advice}")
        }
        ureq::Error::HostNotFound => format!("there is no such host; {advice}"),
        // The bytes that a server sends in plain text are no record of TLS.
        ureq::Error::Io(io) if io.to_string().contains("InvalidContentType") => {
            let server = shown.strip_prefix("https://").unwrap_or(&shown);
            format!("it speaks plain HTTP: use http://{server}")
        }
        ureq::Error::Io(io) if io.to_string().contains("invalid peer certificate") => {
            format!(
                "{io}; if an authority of your own signed it, give the authority's certificate \
                 with --ca-cert or SSL_CERT_FILE"
            )
        }
        error => error.to_string(),
    };
    Failure::Ours(format!("cannot {act} `{shown}`: {reason}"))
}

/// Returns a text field of an object; an empty text if it is missing.
pub(super) fn text_field<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or("")
}

/// A connection to one server with one API key.
pub(super) struct Client {
    pub(super) agent: ureq::Agent,
    pub(super) base: String,
    api_key: String,
    /// True for commands that may read a data folder instead.
    is_for_folders: bool,
    /// The damage to the folder that is read.
    pub(super) damage: Option<Damage>,
}

/// The answer to a request.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The cut of the answer, from its two headers.
    pub(super) as_of: Option<String>,
    pub(super) known_at: Option<String>,
    /// The cut of the first moment if two are compared.
    pub(super) from_as_of: Option<String>,
    pub(super) from_known_at: Option<String>,
    /// The seconds after which a retry may succeed, if the server says so.
    pub(super) retry_after_s: Option<u64>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Parses the body as JSON.
    ///
    /// # Errors
    /// Ours, if it has another shape: the server is not a Rollcall server.
    pub(super) fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| Failure::unexpected_answer())
    }

    /// Returns the stable code of an error; empty for any other answer.
    pub(super) fn code(&self) -> String {
        let code = self
            .json::<Value>()
            .ok()
            .and_then(|error| Some(error.get("code")?.as_str()?.to_owned()));
        code.unwrap_or_default()
    }
}

impl Client {
    /// `base` is the server's URL, with or without a slash at its end.
    ///
    /// # Errors
    /// Those of [`agent`].
    pub(super) fn new(
        base: &str,
        api_key: &str,
        ca_cert: Option<&Path>,
    ) -> Result<Client, Failure> {
        Ok(Client::with(agent(base, ca_cert)?, base, api_key))
    }

    fn with(agent: ureq::Agent, base: &str, api_key: &str) -> Client {
        let base = base.trim_end_matches('/').to_owned();
        Client { agent, base, api_key: api_key.to_owned(), is_for_folders: false, damage: None }
    }

    /// Returns the client of a command that may read a data folder instead.
    pub(super) fn or_folder(self) -> Client {
        Client { is_for_folders: true, ..self }
    }

    /// Returns a client for a server that this process runs: a proxy of the environment cannot
    /// reach it.
    pub(super) fn loopback(base: &str, api_key: &str) -> Client {
        Client::with(config().proxy(None).build().into(), base, api_key)
    }

    /// Sends a GET request. Every status is an answer.
    ///
    /// # Errors
    /// Ours, if the server cannot be reached or the answer breaks off.
    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        let request = self
            .agent
            .get(format!("{}{path}", self.base))
            .header("Authorization", &format!("Bearer {}", self.api_key));
        self.answer(request.call().map_err(|error| self.failed(&error))?)
    }

    /// Posts a JSON body, or an empty one.
    ///
    /// # Errors
    /// Those of [`Client::get`].
    pub(super) fn post(&self, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.answer(
            self.act(self.agent.post(format!("{}{path}", self.base)), None)
                .send(&body)
                .map_err(|error| self.failed(&error))?,
        )
    }

    /// Posts lines of JSON.
    ///
    /// # Errors
    /// Those of [`Client::get`].
    pub(super) fn post_lines(&self, path: &str, lines: &[u8]) -> Result<Answer, Failure> {
        let request = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("Authorization", &format!("Bearer {}", self.api_key))
            .header("Content-Type", "application/x-ndjson");
        self.answer(request.send(lines).map_err(|error| self.failed(&error))?)
    }

    /// Puts a JSON body. With a version, the server accepts it only if that version is the current
    /// one.
    ///
    /// # Errors
    /// Those of [`Client::get`].
    pub(super) fn put(
        &self,
        path: &str,
        body: &Value,
        version: Option<u64>,
    ) -> Result<Answer, Failure> {
        let request = self.act(self.agent.put(format!("{}{path}", self.base)), version);
        self.answer(request.send(&body.to_string()).map_err(|error| self.failed(&error))?)
    }

    /// Sends a DELETE request.
    ///
    /// # Errors
    /// Those of [`Client::get`].
    pub(super) fn delete(&self, path: &str) -> Result<Answer, Failure> {
        let request = self
            .agent
            .delete(format!("{}{path}", self.base))
            .header("Authorization", &format!("Bearer {}", self.api_key));
        self.answer(request.call().map_err(|error| self.failed(&error))?)
    }

    /// Posts a JSON body and calls `each` with every line of the answer as it arrives, until `each`
    /// returns false. Returns the answer itself if its status is not 200.
    ///
    /// # Errors
    /// Those of [`Client::get`], and those of `each`.
    pub(super) fn post_for_lines(
        &self,
        path: &str,
        body: &Value,
        mut each: impl FnMut(&str) -> Result<bool, Failure>,
    ) -> Result<Option<Answer>, Failure> {
        let request = self.post_without_end(path).header("Accept", "application/x-ndjson");
        let mut response = request.send(&body.to_string()).map_err(|error| self.failed(&error))?;
        if response.status() != 200 {
            return self.answer(response).map(Some);
        }
        let mut lines = BufReader::new(response.body_mut().with_config().limit(u64::MAX).reader());
        let mut line = String::new();
        loop {
            line.clear();
            let read = (&mut lines)
                .take(ANSWER_BYTES_MAX)
                .read_line(&mut line)
                .map_err(|error| Failure::Ours(format!("`{}` broke off: {error}", self.base)))?;
            if read as u64 == ANSWER_BYTES_MAX {
                return Err(self.too_large("a line"));
            }
            if read == 0 || !each(line.trim_end_matches('\n'))? {
                return Ok(None);
            }
        }
    }

    /// Posts nothing, and returns the answer with its body unread.
    ///
    /// # Errors
    /// Those of [`Client::get`].
    pub(super) fn post_for_body(
        &self,
        path: &str,
    ) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        self.post_without_end(path).send_empty().map_err(|error| self.failed(&error))
    }

    /// Begins a request of whose answer only the head has a timeout: its body has no time limit.
    fn post_without_end(&self, path: &str) -> ureq::RequestBuilder<ureq::typestate::WithBody> {
        let request = self.act(self.agent.post(format!("{}{path}", self.base)), None);
        let config = request.config().timeout_global(None);
        config.timeout_recv_response(Some(ACT_WITHIN)).build()
    }

    fn act<B>(
        &self,
        request: ureq::RequestBuilder<B>,
        version: Option<u64>,
    ) -> ureq::RequestBuilder<B> {
        let request = request.config().timeout_global(Some(ACT_WITHIN)).build();
        let request = request
            .header("Authorization", &format!("Bearer {}", self.api_key))
            .header("Content-Type", "application/json");
        match version {
            Some(version) => request.header("If-Match", &format!("\"{version}\"")),
            None => request,
        }
    }

    fn failed(&self, error: &ureq::Error) -> Failure {
        let advice = match self.is_for_folders {
            true => {
                "set ROLLCALL_URL or --url to its URL, or read the folder of a stopped server with \
                 --data"
            }
            false => "set ROLLCALL_URL or --url to its URL",
        };
        unreachable("ask", &self.base, error, advice)
    }

    fn too_large(&self, what: &str) -> Failure {
        let says = "which no Rollcall gives; check the URL";
        Failure::Ours(format!("`{}` gave {what} of more than 64 MiB, {says}", self.base))
    }

    /// Reads an answer to its end.
    ///
    /// # Errors
    /// Those of [`Client::get`].
    pub(super) fn answer(
        &self,
        mut response: ureq::http::Response<ureq::Body>,
    ) -> Result<Answer, Failure> {
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (as_of, known_at) = (header("rollcall-as-of"), header("rollcall-known-at"));
        let (from_as_of, from_known_at) =
            (header("rollcall-from-as-of"), header("rollcall-from-known-at"));
        let retry_after_s = header("retry-after").and_then(|text| text.parse().ok());
        let body =
            response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(
                |error| match error {
                    ureq::Error::BodyExceedsLimit(_) => self.too_large("an answer"),
                    error => self.failed(&error),
                },
            )?;
        Ok(Answer {
            status: response.status().as_u16(),
            as_of,
            known_at,
            from_as_of,
            from_known_at,
            retry_after_s,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn an_error_shows_no_secret_of_a_url() {
        for (url, shown) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://me:secret@h:1/p/q?token=secret#secret", "https://h:1/p/q"),
            ("htps://me:sec@ret@h?t=secret", "htps://h"),
            ("me:secret@h/x", "h/x"),
            ("/srv/auditor", "/srv/auditor"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
