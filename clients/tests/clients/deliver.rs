//! The receivers of docs/deliver.md: Rollcall sends, and the official library for Node and that of
//! Standard Webhooks for Python verify.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::kit::{self, API_KEY, Server, started};
use super::libraries;
use super::{Case, Needs};

const NODE_SECRET: &str = "a secret of this test";
const PYTHON_SECRET: &str = "whsec_YSBzZWNyZXQgb2YgdGhpcyB0ZXN0";

/// Time until everything is delivered: only a hang takes so long.
const WITHIN: Duration = Duration::from_secs(60);

pub fn cases() -> Vec<Case> {
    vec![Case::new(
        "the_receivers_of_the_docs_verify_all_that_is_sent",
        Needs::NodeAndPython,
        sends,
    )]
}

/// A receiver of the docs. Killed when dropped.
struct Receiver {
    child: Child,
    output: BufReader<ChildStdout>,
    url: String,
}

impl Receiver {
    fn start(mut command: Command, secret: &str) -> Receiver {
        command.env("WEBHOOK_SECRET", secret).env("PORT", "0");
        let (child, output, url) = started(command);
        Receiver { child, output, url }
    }

    /// Ends it, and returns the lines that it printed.
    fn end(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        (&mut self.output).lines().map(Result::unwrap).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first program of docs/deliver.md in a language.
fn program(language: &str) -> String {
    let docs = libraries::sources().join("../docs/deliver.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let (_, rest) = docs.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

fn node(folder: &Path, version: u32) -> Receiver {
    let script = folder.join(format!("receiver-{version}.mjs"));
    let library = libraries::node_library(version);
    let text = program("js").replace("\"@workos-inc/node\"", &format!("\"{library}\""));
    std::fs::write(&script, text).unwrap();
    let mut command = Command::new("node");
    command.arg(script).env_remove("NODE_OPTIONS");
    Receiver::start(command, NODE_SECRET)
}

fn python(folder: &Path) -> Receiver {
    let script = folder.join("receiver.py");
    std::fs::write(&script, program("python")).unwrap();
    let mut command = libraries::standardwebhooks();
    command.arg(script);
    Receiver::start(command, PYTHON_SECRET)
}

fn sends() {
    let folder = tempfile::tempdir().unwrap();
    let receivers = [
        ("node_11", node(folder.path(), 11), "workos"),
        ("node_10", node(folder.path(), 10), "workos"),
        ("node_7", node(folder.path(), 7), "workos"),
        ("python", python(folder.path()), "standard"),
    ];
    let tables: Vec<String> = receivers
        .iter()
        .map(|(name, receiver, format)| {
            let secret = if *format == "workos" { "NODE_SECRET" } else { "PYTHON_SECRET" };
            format!(
                "[[endpoints]]\nname = \"{name}\"\nurl = \"{}/webhooks\"\nsecret_env = \
                 \"{secret}\"\nformat = \"{format}\"\nallow_private = true\n",
                receiver.url
            )
        })
        .collect();
    let config = folder.path().join("rollcall.toml");
    std::fs::write(&config, tables.concat()).unwrap();
    let server = Server::start_as(|command| {
        command.env("NODE_SECRET", NODE_SECRET).env("PYTHON_SECRET", PYTHON_SECRET);
        command.arg("--config").arg(&config);
    });
    // Numbers, keys and texts that JavaScript writes in another way, and the end of an access.
    let user = |id: &str, event: &str, attributes: &str| {
        format!(
            r#"{{"id":"{id}","event":"{event}","created_at":"2026-01-15T12:00:00.000Z","data":{{"id":"user_odd","directory_id":"directory_odd","organization_id":"org_odd","state":"active","first_name":"Zo\u00eb \/ \ud83d\ude00","custom_attributes":{attributes}}}}}"#
        )
    };
    let odd = r#"{"b":1.0,"10":1e2,"9":-0,"big":12345678901234567890,"huge":1e400,"s":"\u2028\u007f\ud800x","4294967295":0,"4294967294":1,"__proto__":{"\u0061":1},"a":{"2":[],"1":{}},"a":{"2":[0.1e-6, 5E-324],"01":null}}"#;
    server.send_lines([
        &*user("event_odd_1", "dsync.user.created", odd),
        &user("event_odd_2", "dsync.user.deleted", "{}"),
    ]);
    server.send(&kit::story("events.jsonl"));
    let began = Instant::now();
    loop {
        let endpoints = endpoints(&server);
        if endpoints.iter().all(|one| one["lag"] == 0) {
            assert!(endpoints.iter().all(|one| one["failures"] == 0), "{endpoints:?}");
            break;
        }
        assert!(began.elapsed() < WITHIN, "{endpoints:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    for (name, receiver, _) in receivers {
        let printed = receiver.end();
        assert!(
            printed.iter().any(|line| line == "end the sessions of user_odd"),
            "{name}: {printed:?}"
        );
    }
}

fn endpoints(server: &Server) -> Vec<Value> {
    let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
    let request = agent.get(format!("{}/rollcall/v1/endpoints", server.url));
    let answer = request.header("Authorization", format!("Bearer {API_KEY}")).call();
    let text = answer.unwrap().body_mut().read_to_string().unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer["data"].as_array().unwrap().clone()
}
