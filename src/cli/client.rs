//! The HTTP client of the commands that talk to a server.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::Value;

use super::Failure;
use crate::time;
use crate::verify::sign;

/// How often a webhook is tried when the server says 503 or does not answer, and the first pause
/// between.
const TRIES_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// At most so many bytes in an answer: a hundred groups of a thousand large members are less.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// How long an act may take: the roles of everybody may have to be worked out before a mapping is
/// set.
const ACT_WITHIN: Duration = Duration::from_secs(600);

/// A client that takes every status as an answer.
pub(super) fn agent() -> ureq::Agent {
    patient().build().into()
}

fn patient() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
}

/// What a webhook's sender got back.
pub(super) struct Delivered {
    pub(super) status: u16,
    pub(super) answer: Value,
}

/// A URL as an error may show it: without user, password and query.
pub(super) fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let rest = rest.split(['?', '#']).next().unwrap_or("");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
}

/// Signs and posts one event, as WorkOS would: a fresh time for each try, a pause that doubles
/// between tries.
pub(super) fn deliver(
    agent: &ureq::Agent,
    url: &str,
    secret: &str,
    body: &[u8],
) -> Result<Delivered, Failure> {
    let mut pause = PAUSE;
    let mut tries = 1;
    loop {
        let header = sign(secret, time::now_ms(), body);
        let request = agent
            .post(url)
            .header("WorkOS-Signature", &header)
            .header("Content-Type", "application/json");
        let result = request.send(body);
        match result {
            Ok(response) if response.status() == 503 && tries < TRIES_MAX => {}
            Ok(mut response) => {
                let status = response.status().as_u16();
                let answer = response.body_mut().read_json().unwrap_or(Value::Null);
                return Ok(Delivered { status, answer });
            }
            Err(_) if tries < TRIES_MAX => {}
            Err(error) => {
                return Err(Failure::Ours(format!(
                    "cannot post to `{}`: {error}",
                    without_secrets(url)
                )));
            }
        }
        std::thread::sleep(pause);
        pause *= 2;
        tries += 1;
    }
}

/// Asks one server with one API key.
pub(super) struct Client {
    pub(super) agent: ureq::Agent,
    pub(super) base: String,
    api_key: String,
}

/// What a server answered to a question.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The cut at which it holds, as its two headers say.
    pub(super) as_of: Option<String>,
    pub(super) known_at: Option<String>,
    /// The same of the first of two moments, where two are compared.
    pub(super) from_as_of: Option<String>,
    pub(super) from_known_at: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// Ours, if it is something else: what answered is no Rollcall.
    pub(super) fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| Failure::unexpected_answer())
    }

    /// The stable code of an error; empty for anything else.
    pub(super) fn code(&self) -> String {
        let code = self
            .json::<Value>()
            .ok()
            .and_then(|error| Some(error.get("code")?.as_str()?.to_owned()));
        code.unwrap_or_default()
    }
}

impl Client {
    /// `base` is the server's URL, a slash at its end or not.
    pub(super) fn new(base: &str, api_key: &str) -> Client {
        Client {
            agent: agent(),
            base: base.trim_end_matches('/').to_owned(),
            api_key: api_key.to_owned(),
        }
    }

    /// For a server on this machine that nobody else knows: no proxy of the environment can reach
    /// it.
    pub(super) fn loopback(base: &str, api_key: &str) -> Client {
        Client { agent: patient().proxy(None).build().into(), ..Client::new(base, api_key) }
    }

    /// Asks; whatever the status, it is an answer.
    ///
    /// # Errors
    /// Ours, if the server cannot be reached or breaks off.
    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        let request = self
            .agent
            .get(format!("{}{path}", self.base))
            .header("Authorization", &format!("Bearer {}", self.api_key));
        self.answer(request.call().map_err(|error| self.failed(&error))?)
    }

    /// Posts a body of JSON, or none.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub(super) fn post(&self, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.answer(
            self.act(self.agent.post(format!("{}{path}", self.base)), None)
                .send(&body)
                .map_err(|error| self.failed(&error))?,
        )
    }

    /// Puts a body of JSON in the place of what is there; with a version only in that one's place.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub(super) fn put(
        &self,
        path: &str,
        body: &Value,
        version: Option<u64>,
    ) -> Result<Answer, Failure> {
        let request = self.act(self.agent.put(format!("{}{path}", self.base)), version);
        self.answer(request.send(&body.to_string()).map_err(|error| self.failed(&error))?)
    }

    /// Posts a body of JSON and hands over each line of the answer, as it comes, until `each` has
    /// had enough. An answer that is no list of lines is handed back.
    ///
    /// # Errors
    /// As of [`Client::get`], and those of `each`.
    pub(super) fn post_for_lines(
        &self,
        path: &str,
        body: &Value,
        mut each: impl FnMut(&str) -> Result<bool, Failure>,
    ) -> Result<Option<Answer>, Failure> {
        // As long as lines come there is no end to wait for.
        let request = self
            .act(self.agent.post(format!("{}{path}", self.base)), None)
            .config()
            .timeout_global(None);
        let request = request
            .timeout_recv_response(Some(ACT_WITHIN))
            .build()
            .header("Accept", "application/x-ndjson");
        let mut response = request.send(&body.to_string()).map_err(|error| self.failed(&error))?;
        if response.status() != 200 {
            return self.answer(response).map(Some);
        }
        let mut lines = BufReader::new(response.body_mut().with_config().limit(u64::MAX).reader());
        let mut line = String::new();
        loop {
            line.clear();
            let read = lines
                .read_line(&mut line)
                .map_err(|error| Failure::Ours(format!("`{}` broke off: {error}", self.base)))?;
            if read == 0 || !each(line.trim_end_matches('\n'))? {
                return Ok(None);
            }
        }
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
        Failure::Ours(format!("cannot ask `{}`: {error}", without_secrets(&self.base)))
    }

    fn answer(&self, mut response: ureq::http::Response<ureq::Body>) -> Result<Answer, Failure> {
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (as_of, known_at) = (header("rollcall-as-of"), header("rollcall-known-at"));
        let (from_as_of, from_known_at) =
            (header("rollcall-from-as-of"), header("rollcall-from-known-at"));
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .map_err(|error| self.failed(&error))?;
        Ok(Answer {
            status: response.status().as_u16(),
            as_of,
            known_at,
            from_as_of,
            from_known_at,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn no_error_shows_what_may_be_secret_in_a_url() {
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
