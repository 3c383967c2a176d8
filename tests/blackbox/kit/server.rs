//! A server in a process of its own, signatures, and requests.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::source::stand_in::SOURCE_KEY;

pub const SECRET: &str = "whsec_test";
pub const API_KEY: &str = "sk_test";

/// The longest a server may take to start, in steps of 10 ms: only a hang takes so long.
const START_TRIES_MAX: u32 = 3000;

/// A running `rollcall serve`. Killed when dropped.
pub struct Server {
    child: Child,
    pub url: String,
    /// The address for monitors and operators, with `--admin-listen`.
    pub admin_url: Option<String>,
    agent: ureq::Agent,
    /// Reads its standard error, if that is kept.
    said: Option<JoinHandle<String>>,
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The answer's stable code.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The ids of a list's items.
    pub fn ids(&self) -> Vec<String> {
        self.json()["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Server {
    pub fn start(data: &Path) -> Server {
        Server::start_with(data, &[])
    }

    pub fn start_with(data: &Path, arguments: &[&str]) -> Server {
        Server::start_command(Command::new(binary()), data, arguments)
    }

    /// Starts `command`, which runs the binary, perhaps through another program.
    pub fn start_command(command: Command, data: &Path, arguments: &[&str]) -> Server {
        Server::start_listening(command, "127.0.0.1:0", data, arguments)
    }

    /// Starts it at a given address, perhaps that of a server that has stopped.
    pub fn start_listening(
        mut command: Command,
        listen: &str,
        data: &Path,
        arguments: &[&str],
    ) -> Server {
        command.args(["serve", "--listen", listen, "--data"]).arg(data).args(arguments);
        let defaults = [
            ("ROLLCALL_WEBHOOK_SECRETS", SECRET),
            ("ROLLCALL_API_KEYS", API_KEY),
            ("ROLLCALL_LOG", "error"),
            ("WORKOS_API_KEY", SOURCE_KEY),
        ];
        for (name, value) in defaults {
            let is_set = command.get_envs().any(|(set, value)| set == name && value.is_some());
            if !is_set {
                command.env(name, value);
            }
        }
        command.env_remove("WORKOS_WEBHOOK_SECRET");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut url = || {
            let line = lines.next().unwrap().unwrap();
            assert!(line.starts_with("http://127.0.0.1:"), "a line is `{line}`");
            line
        };
        let (first, has_second) = (url(), arguments.contains(&"--admin-listen"));
        let admin_url = has_second.then(url);
        let server = Server { child, url: first, admin_url, agent: agent(), said: None };
        for _ in 0..START_TRIES_MAX {
            if server.get("/readyz").status == 200 {
                return server;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server did not become ready");
    }

    /// Takes the standard error of a server that was started with a pipe for it.
    pub fn take_stderr(&mut self) -> std::process::ChildStderr {
        self.child.stderr.take().unwrap()
    }

    /// Keeps what it says on its standard error, which must be a pipe. A pipe that is not read
    /// fills, and then the server refuses questions whose access cannot be logged.
    pub fn keep_stderr(mut self) -> Server {
        let mut stderr = self.take_stderr();
        self.said = Some(std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        }));
        self
    }

    /// Stops it, and returns all that it has said. Its standard error must be kept.
    pub fn stop_and_say(mut self) -> String {
        let said = self.said.take().unwrap();
        assert_eq!(self.stop(), 0);
        said.join().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn get(&self, path: &str) -> Answer {
        get(&self.agent, &self.url, path, &[("Authorization", &format!("Bearer {API_KEY}"))])
    }

    /// Sends an operator's request, with a body or without.
    pub fn act(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.send(
            method,
            &format!("{}{path}", self.url),
            API_KEY,
            &body.map(Value::to_string).unwrap_or_default(),
        )
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        get(&self.agent, &self.url, path, headers)
    }

    /// Puts `body` to `path`, with the key and more headers.
    pub fn put_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let request = keyed(self.agent.put(format!("{}{path}", self.url)), headers);
        answer(request.send(body.to_string()).unwrap_or_else(|error| panic!("{error}: {path}")))
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.put_with(path, body, &[])
    }

    pub fn delete(&self, path: &str) -> Answer {
        let request = self
            .agent
            .delete(format!("{}{path}", self.url))
            .header("Authorization", format!("Bearer {API_KEY}"));
        answer(request.call().unwrap_or_else(|error| panic!("{error}: {path}")))
    }

    /// Posts `body` to `path`, with the key and more headers.
    pub fn ask_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let request = keyed(self.agent.post(format!("{}{path}", self.url)), headers);
        answer(request.send(body.to_string()).unwrap_or_else(|error| panic!("{error}: {path}")))
    }

    /// Sends a request of any method.
    pub fn send(&self, method: &str, url: &str, key: &str, body: &str) -> Answer {
        ask(&self.agent, method, url, key, body)
    }

    /// Signs `body` with a time of `t_ms` and posts it.
    pub fn post_at(&self, body: &[u8], t_ms: i64) -> Answer {
        self.post_with(body, &[("WorkOS-Signature", &signature(SECRET, &t_ms.to_string(), body))])
    }

    pub fn post(&self, body: &[u8]) -> Answer {
        self.post_at(body, now_ms())
    }

    pub fn post_with(&self, body: &[u8], headers: &[(&str, &str)]) -> Answer {
        post(&self.agent, &format!("{}/webhooks/workos", self.url), body, headers).unwrap()
    }

    /// Posts an event, expects 200, and returns its seq.
    pub fn deliver(&self, body: &str) -> u64 {
        let answer = self.post(body.as_bytes());
        assert_eq!(answer.status, 200, "{body}");
        answer.json()["seq"].as_u64().unwrap()
    }

    /// Returns the newest record that is folded.
    pub fn head(&self) -> u64 {
        self.get("/readyz").json()["seq"].as_u64().unwrap()
    }

    /// Returns the body of a record, as it is in the log.
    pub fn body_of(&self, seq: u64) -> Vec<u8> {
        let entry = self.get(&format!("/rollcall/v1/log/entries/{seq}")).json();
        BASE64_STANDARD.decode(entry["body"].as_str().unwrap()).unwrap()
    }

    /// Sends SIGTERM, waits, and returns the exit code.
    pub fn stop(self) -> i32 {
        signal(self.child.id(), "TERM");
        self.wait()
    }

    /// Waits until it ends, and returns the exit code.
    pub fn wait(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_rollcall"))
}

pub fn signal(pid: u32, name: &str) {
    assert!(
        Command::new("kill")
            .args([&format!("-{name}"), &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into()
}

pub fn get(agent: &ureq::Agent, url: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = agent.get(format!("{url}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request.call().unwrap_or_else(|error| panic!("{error}: {path}")))
}

/// Sends a request of any method.
pub fn ask(agent: &ureq::Agent, method: &str, url: &str, key: &str, body: &str) -> Answer {
    ask_as(agent, method, url, key, None, body)
}

/// Asks as an identity provider does, which names the media type of its body.
pub fn ask_scim(method: &str, url: &str, token: &str, body: &str) -> Answer {
    ask_as(&agent(), method, url, token, Some("application/scim+json"), body)
}

fn ask_as(
    agent: &ureq::Agent,
    method: &str,
    url: &str,
    key: &str,
    media_type: Option<&str>,
    body: &str,
) -> Answer {
    let method = method.to_uppercase().parse::<ureq::http::Method>().unwrap();
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(url)
        .header("Authorization", format!("Bearer {key}"));
    if let Some(media_type) = media_type {
        request = request.header("Content-Type", media_type);
    }
    let request = request.body(body.to_owned()).unwrap();
    answer(agent.run(request).unwrap_or_else(|error| panic!("{error}: {url}")))
}

fn keyed(
    request: ureq::RequestBuilder<ureq::typestate::WithBody>,
    headers: &[(&str, &str)],
) -> ureq::RequestBuilder<ureq::typestate::WithBody> {
    let request = request
        .header("Authorization", format!("Bearer {API_KEY}"))
        .header("Content-Type", "application/json");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

/// Posts `body`. Returns `None` if the connection broke.
pub fn post(
    agent: &ureq::Agent,
    url: &str,
    body: &[u8],
    headers: &[(&str, &str)],
) -> Option<Answer> {
    let mut request = agent.post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send(body).ok().map(answer)
}

fn answer(response: ureq::http::Response<ureq::Body>) -> Answer {
    try_answer(response).unwrap()
}

/// Reads an answer. Returns an error if the connection breaks within its body.
pub fn try_answer(mut response: ureq::http::Response<ureq::Body>) -> std::io::Result<Answer> {
    let text =
        |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers =
        response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let mut body = Vec::new();
    response.body_mut().as_reader().read_to_end(&mut body)?;
    Ok(Answer { status: response.status().as_u16(), headers, body })
}

pub fn now_ms() -> i64 {
    #[allow(
        clippy::disallowed_methods,
        reason = "the tests stand outside, with a clock of their own"
    )]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Computes HMAC-SHA256 over `t.body`, in hex.
pub fn mac(secret: &str, t: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(t.as_bytes());
    mac.update(b".");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

pub fn signature(secret: &str, t: &str, body: &[u8]) -> String {
    format!("t={t}, v1={}", mac(secret, t, body))
}

/// Returns whether `answer` has every key of `expected` with an equal value. Arrays match one by
/// one.
pub fn holds(expected: &Value, answer: &Value) -> bool {
    match (expected, answer) {
        (Value::Object(expected), Value::Object(answer)) => expected
            .iter()
            .all(|(key, value)| answer.get(key).is_some_and(|other| holds(value, other))),
        (Value::Array(expected), Value::Array(answer)) => {
            expected.len() == answer.len()
                && expected.iter().zip(answer).all(|(value, other)| holds(value, other))
        }
        _ => expected == answer,
    }
}

pub fn user(
    id: &str,
    directory: &str,
    name: &str,
    created_at: &str,
    event_id: &str,
    event: &str,
) -> String {
    serde_json::json!({
        "object": "event", "id": event_id, "event": event, "created_at": created_at, "context": {},
        "data": {
            "object": "directory_user", "id": id, "directory_id": directory,
            "organization_id": "org_1", "idp_id": id,
            "email": format!("{name}@foo.example"), "first_name": name, "state": "active",
            "raw_attributes": {},
            "custom_attributes": {}, "created_at": created_at, "updated_at": created_at,
        },
    })
    .to_string()
}

/// Returns a command without the variables of Rollcall.
pub fn bare_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    let ours = |name: &str| name.starts_with("ROLLCALL_") || name.starts_with("WORKOS_");
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// Forwards the rest of `Log` to `self.log`; the wrapper has its own `append`, `entries` and
/// `bodies`.
macro_rules! delegate_log {
    () => {
        fn find(&self, event_id: &str) -> Result<Option<Seq>, ReadError> {
            self.log.find(event_id)
        }

        fn wait(&self, after: Seq, timeout: Duration) -> Seq {
            self.log.wait(after, timeout)
        }

        fn inclusion(&self, seq: Seq, size: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
            self.log.inclusion(seq, size)
        }

        fn consistency(&self, from: Seq, to: Seq) -> Result<Vec<[u8; 32]>, ReadError> {
            self.log.consistency(from, to)
        }
    };
}
pub(crate) use delegate_log;

/// Forwards all of `History` to the `log` of a wrapper.
macro_rules! delegate_history {
    ($wrapper:ty) => {
        impl History for $wrapper {
            fn read(
                &self,
                after: Seq,
                events_max: usize,
                bytes_max: usize,
            ) -> Result<Vec<Record>, ReadError> {
                self.log.read(after, events_max, bytes_max)
            }

            fn head(&self) -> Seq {
                self.log.head()
            }

            fn identity(&self) -> Identity {
                self.log.identity()
            }

            fn root(&self, size: Seq) -> Result<[u8; 32], ReadError> {
                self.log.root(size)
            }
        }
    };
}
pub(crate) use delegate_history;
