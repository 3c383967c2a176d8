//! The HTTP client of the commands that talk to a server.

use std::time::Duration;

use serde_json::Value;

use super::Failure;
use crate::time;
use crate::verify::sign;

/// How often a webhook is tried when the server says 503 or does not answer, and the first pause between.
const TRIES_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// At most so many bytes in an answer: a hundred groups of a thousand large members are less.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// A client that takes every status as an answer.
pub(super) fn agent() -> ureq::Agent {
    patient().build().into()
}

fn patient() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(30)))
}

/// What a webhook's sender got back.
pub(super) struct Delivered {
    pub(super) status: u16,
    pub(super) answer: Value,
}

/// Signs and posts one event, as WorkOS would: a fresh time for each try, a pause that doubles between tries.
pub(super) fn deliver(agent: &ureq::Agent, url: &str, secret: &str, body: &[u8]) -> Result<Delivered, Failure> {
    let mut pause = PAUSE;
    let mut tries = 1;
    loop {
        let header = sign(secret, time::now_ms(), body);
        let request = agent.post(url).header("WorkOS-Signature", &header).header("Content-Type", "application/json");
        let result = request.send(body);
        match result {
            Ok(response) if response.status() == 503 && tries < TRIES_MAX => {}
            Ok(mut response) => {
                let status = response.status().as_u16();
                let answer = response.body_mut().read_json().unwrap_or(Value::Null);
                return Ok(Delivered { status, answer });
            }
            Err(_) if tries < TRIES_MAX => {}
            Err(error) => return Err(Failure::Ours(format!("cannot post to `{url}`: {error}"))),
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
pub(super) struct Answer {
    pub(super) status: u16,
    /// The cut at which it holds, as its two headers say.
    pub(super) as_of: Option<String>,
    pub(super) known_at: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// Ours, if it is something else: what answered is no Rollcall.
    pub(super) fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| Failure::Ours("the answer is not one that Rollcall gives".into()))
    }
}

impl Client {
    /// `base` is the server's URL, a slash at its end or not.
    pub(super) fn new(base: &str, api_key: &str) -> Client {
        Client { agent: agent(), base: base.trim_end_matches('/').to_owned(), api_key: api_key.to_owned() }
    }

    /// For a server on this machine that nobody else knows: no proxy of the environment can reach it.
    pub(super) fn loopback(base: &str, api_key: &str) -> Client {
        Client { agent: patient().proxy(None).build().into(), ..Client::new(base, api_key) }
    }

    /// Asks; whatever the status, it is an answer.
    ///
    /// # Errors
    /// Ours, if the server cannot be reached or breaks off.
    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        let request = self.agent.get(format!("{}{path}", self.base)).header("Authorization", &format!("Bearer {}", self.api_key));
        let failed = |error: ureq::Error| Failure::Ours(format!("cannot ask `{}`: {error}", self.base));
        let mut response = request.call().map_err(failed)?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (as_of, known_at) = (header("rollcall-as-of"), header("rollcall-known-at"));
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(failed)?;
        Ok(Answer { status: response.status().as_u16(), as_of, known_at, body })
    }
}
