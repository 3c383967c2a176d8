//! The HTTP client of the commands that talk to a server.

use std::time::Duration;

use serde_json::Value;

use super::Failure;
use crate::time;
use crate::verify::sign;

/// How often a webhook is tried when the server says 503 or does not answer, and the first pause between.
const TRIES_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// A client that takes every status as an answer.
pub(super) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(30)));
    config.build().into()
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

/// Asks, and reads the JSON of the answer.
pub(super) fn ask(agent: &ureq::Agent, base: &str, api_key: &str, path: &str) -> Result<(u16, Value), Failure> {
    let request = agent.get(format!("{base}{path}")).header("Authorization", &format!("Bearer {api_key}"));
    let mut response = request.call().map_err(|error| Failure::Ours(format!("cannot ask `{base}`: {error}")))?;
    let answer = response.body_mut().read_json().map_err(Failure::ours)?;
    Ok((response.status().as_u16(), answer))
}
