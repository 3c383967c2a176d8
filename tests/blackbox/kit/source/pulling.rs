//! A server that pulls, and waits for what it has pulled.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kit::server::{Server, binary};

/// Only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is started.
#[derive(Clone, Copy)]
pub struct Puller<'a> {
    pub data: &'a Path,
    pub url: &'a str,
    /// Options besides `--pull`. The source is asked every 100 ms, up to 1000 times a second, and
    /// nothing is compared, unless they say otherwise.
    pub options: &'a [&'a str],
    /// False for a server without a webhook secret.
    pub takes_webhooks: bool,
    pub key: &'a str,
}

impl Puller<'_> {
    pub fn of<'a>(data: &'a Path, url: &'a str) -> Puller<'a> {
        let key = super::stand_in::SOURCE_KEY;
        Puller { data, url, options: &[], takes_webhooks: false, key }
    }

    /// Starts the server, whose standard error is kept.
    pub fn start(self) -> Server {
        let mut command = Command::new(binary());
        command.env("WORKOS_API_KEY", self.key).env("ROLLCALL_LOG", "info").stderr(Stdio::piped());
        if !self.takes_webhooks {
            // Empty counts as not set.
            command.env("ROLLCALL_WEBHOOK_SECRETS", "");
        }
        let mut arguments = vec!["--pull", self.url];
        for [name, value] in
            [["--pull-every", "100ms"], ["--pull-rate", "1000"], ["--reconcile-every", "0"]]
        {
            if !self.options.contains(&name) {
                arguments.extend([name, value]);
            }
        }
        arguments.extend(self.options);
        Server::start_command(command, self.data, &arguments).keep_stderr()
    }
}

/// The only source of a server.
pub fn source_of(server: &Server) -> Value {
    server.get("/rollcall/v1/sources").json()["data"][0].clone()
}

/// Waits until the source of a server is as wanted, and returns it.
pub fn until(server: &Server, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let source = source_of(server);
        if wanted(&source) {
            return source;
        }
        assert!(begun.elapsed() < PATIENCE, "{source}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asks for a pull, and waits until one that began later has reached the end.
pub fn pull(server: &Server) -> Value {
    let asked = server.act("post", "/rollcall/v1/pull", None);
    assert_eq!(asked.status, 202);
    let requested_at = asked.json()["requested_at"].as_str().unwrap().to_owned();
    until(server, |source| source["caught_up_at"].as_str() >= Some(&requested_at))
}
