//! `/openapi.json` as schemathesis sees it: it makes requests from the document, valid and invalid
//! ones, and judges each answer by it, with all its checks.

use std::time::Duration;

use super::kit::{self, Server};
use super::libraries;
use super::{Case, Needs};

/// The time for which requests are made, in seconds, unless `ROLLCALL_CLIENTS_SCHEMA_S` says
/// otherwise.
const RUN_S: u64 = 25;

/// The time that schemathesis may take beyond that to start and to report.
const MORE: Duration = Duration::from_secs(120);

/// The phases of a short run. A longer one has time to follow answers from call to call as well.
const PHASES: &str = "examples,coverage,fuzzing";
const MORE_PHASES: &str = "examples,coverage,fuzzing,stateful";

pub fn cases() -> Vec<Case> {
    vec![Case::new("the_server_answers_as_its_document_says", Needs::Python, as_described)]
}

fn as_described() {
    let seconds =
        std::env::var("ROLLCALL_CLIENTS_SCHEMA_S").map_or(RUN_S, |text| text.parse().unwrap());
    let seed = std::env::var("ROLLCALL_CLIENTS_SCHEMA_SEED").unwrap_or_else(|_| "1".to_owned());
    let phases = if seconds > RUN_S { MORE_PHASES } else { PHASES };
    let server = Server::start();
    for story in kit::stories() {
        server.send(&story.join("events.jsonl"));
    }
    let mut command = libraries::schemathesis();
    command
        .args(["run", &format!("{}/openapi.json", server.url)])
        .args(["--header", &format!("Authorization: Bearer {}", kit::API_KEY)])
        // Those of SCIM have a key of their own, and are judged by testers of their own.
        .args(["--exclude-path-regex", "^/scim/"])
        .args(["--phases", phases, "--checks", "all", "--continue-on-failure"])
        .args(["--seed", &seed, "--max-time", &seconds.to_string(), "--workers", "1"])
        .args(["--request-timeout", "40", "--generation-database", "none"])
        .args(["--no-color", "--output-truncate", "false"])
        .env("SCHEMATHESIS_HOOKS", libraries::sources().join("python/schema_hooks.py"))
        .current_dir(server.folder());
    let printed = kit::finished(command, Duration::from_secs(seconds) + MORE)
        .unwrap_or_else(|said| panic!("schemathesis: {said}"));
    assert!(printed.contains("generated"), "{printed}");
}
