//! The endpoint for identity providers as two testers of SCIM see it. Each gets a directory of its
//! own, for it leaves things behind. scim2-tester makes its checks of the schemas that the server
//! publishes: their number is a part of the result.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::kit::{self, API_KEY, Server};
use super::libraries;
use super::{Case, Needs};

/// Time for a tester: only a hang runs into it.
const WITHIN: Duration = Duration::from_secs(180);

/// The checks of scim2-tester, and of scim-sanity.
const SCIM2_CHECKS: usize = 135;
const SANITY_CHECKS: usize = 28;

/// The variable that names a collection of requests for Postman, ready for any server of SCIM.
const COLLECTION: &str = "ROLLCALL_SCIM_COLLECTION";

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("scim2_tester_finds_all_checks_passed", Needs::Python, scim2_tester),
        Case::new("scim_sanity_finds_all_checks_passed", Needs::Python, scim_sanity),
    ];
    if let Ok(collection) = std::env::var(COLLECTION) {
        let run = move || postman(&collection);
        cases.push(Case::new("a_collection_for_postman_passes", Needs::Node, run));
    }
    cases
}

/// Runs a collection whose variables are `Protocol`, `Server`, `Port`, `Api` and `token`.
fn postman(collection: &str) {
    let server = Server::start();
    let (url, token) = directory(&server, "org_postman");
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let port = host.rsplit(':').next().unwrap();
    let mut command = Command::new("npx");
    command.args(["-y", "newman@6.2.2", "run", collection]);
    for variable in [
        "Protocol=http".to_owned(),
        "Server=127.0.0.1".to_owned(),
        format!("Port=:{port}"),
        format!("Api={path}"),
        format!("token={token}"),
    ] {
        command.args(["--env-var", &variable]);
    }
    command.current_dir(server.folder());
    let printed =
        kit::finished(command, WITHIN * 3).unwrap_or_else(|said| panic!("newman: {said}"));
    println!("{printed}");
}

/// The address and the token of a new directory.
fn directory(server: &Server, organization: &str) -> (String, String) {
    server.wait_until_ready();
    let body = json!({ "name": "Acme", "organization_id": organization });
    let made = ureq::post(format!("{}/rollcall/v1/directories", server.url))
        .header("Authorization", format!("Bearer {API_KEY}"))
        .content_type("application/json")
        .send(body.to_string());
    let text = made.unwrap().body_mut().read_to_string().unwrap();
    let made: Value = serde_json::from_str(&text).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&made["scim"]["url"]), text(&made["scim"]["token"]["token"]))
}

fn scim2_tester() {
    let server = Server::start();
    let (url, token) = directory(&server, "org_scim2");
    let mut command = libraries::scim2_tester();
    command
        .args(["--url", &url, "test"])
        .env("SCIM_CLI_HEADERS", format!("Authorization: Bearer {token}"))
        .current_dir(server.folder());
    let printed = kit::finished(command, WITHIN).unwrap_or_else(|said| panic!("scim2: {said}"));
    let results: Vec<&str> = printed.lines().filter(|line| !line.starts_with(' ')).collect();
    // The first line says what is checked.
    let passed = results.iter().filter(|line| line.contains("SUCCESS")).count();
    assert_eq!((passed, results.len()), (SCIM2_CHECKS, SCIM2_CHECKS + 1), "{printed}");
}

fn scim_sanity() {
    let server = Server::start();
    let (url, token) = directory(&server, "org_sanity");
    let mut command = libraries::scim_sanity();
    command
        .args(["probe", &url, "--token", &token, "--i-accept-side-effects"])
        .current_dir(server.folder());
    let printed =
        kit::finished(command, WITHIN).unwrap_or_else(|said| panic!("scim-sanity: {said}"));
    let expected = format!("{SANITY_CHECKS} passed");
    assert!(printed.contains(&expected) && !printed.contains("failed, "), "{printed}");
}
