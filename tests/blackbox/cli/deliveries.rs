//! `[[endpoints]]` in the configuration, and `rollcall deliveries`.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::calls::shapes::check as check_shape;
use crate::kit::machine::TestMachine;
use crate::kit::receiver::{
    OUT_SECRET, Reaction, Receiver, STANDARD_SECRET, config_with, endpoint, start_sending,
    state_of, wait_for_state, wait_until_delivered,
};
use crate::kit::server::{API_KEY, SECRET, Server, bare_command, user};

fn check(file: &Path, arguments: &[&str]) -> Output {
    let mut command = bare_command(&["config"]);
    command.args(arguments).arg("--config").arg(file);
    command.env("ROLLCALL_WEBHOOK_SECRETS", SECRET).env("ROLLCALL_API_KEYS", API_KEY);
    command.env("OUT_SECRET", "secret-of-out").env("STANDARD_SECRET", STANDARD_SECRET);
    command.env("TWO_SECRETS", "one,two");
    command.output().unwrap()
}

const GOOD: &str = "[[endpoints]]\nname = \"app\"\nurl = \"https://app.example.com/x?t=hidden\"\n\
    secret_env = \"OUT_SECRET\"\n";

#[test]
fn each_mistake_in_an_endpoint_is_named_with_its_line_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollcall.toml");
    let said = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = check(&file, &["check"]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = said(GOOD);
    assert_eq!(code, Some(0), "{error}");
    let with = |line: &str| format!("{GOOD}{line}\n");
    let url = |url: &str| GOOD.replace("https://app.example.com/x?t=hidden", url);
    for (text, line, words) in [
        (url("https://127.0.0.1/x"), 3, "allow_private"),
        (url("https://[::ffff:10.0.0.1]/x"), 3, "allow_private"),
        (url("http://app.example.com"), 3, "allow_private"),
        (url("https://me:hidden@app.example.com"), 3, "no password"),
        (url("app.example.com"), 3, "https://"),
        (GOOD.replace("\"app\"", "\"a/b\""), 2, "letters, digits"),
        (GOOD.replace("name = \"app\"\n", ""), 1, "no `name`"),
        (GOOD.replace("secret_env = \"OUT_SECRET\"\n", ""), 1, "secret_env"),
        (GOOD.replace("OUT_SECRET", "NO_SECRET"), 4, "NO_SECRET is not set"),
        (GOOD.replace("OUT_SECRET", "TWO_SECRETS"), 4, "several"),
        (with("secret_file = \"/x\""), 4, "leave one out"),
        (with("secret = \"whsec_x\""), 5, "secret_env"),
        (with("format = \"xml\""), 5, "`format` must be one of workos, standard"),
        (with("format = \"standrad\""), 5, "did you mean `standard`?"),
        (with("format = \"standard\""), 4, "Base64"),
        (with("events = [\"dsync.*\", \"user.*\"]"), 5, "text 2 of 2 fits nothing"),
        (with("events = [\"whsec_hidden\"]"), 5, "fits nothing"),
        (with("events = \"whsec_hidden\""), 5, "fits nothing"),
        (GOOD.replace("\"app\"", "\"whsec_hidden\""), 2, "begins as secrets do"),
        (GOOD.replace("\"app\"", "\"sk_hidden\""), 2, "begins as secrets do"),
        (GOOD.replace("\"app\"", "\"rollcall_hidden\""), 2, "begins as secrets do"),
        (with("events = [\"rollcall.policy.set\"]"), 5, "fits nothing"),
        (with("events = []"), 5, "is empty"),
        (with("organizations = []"), 5, "is empty"),
        (with("from = \"yesterday\""), 5, "number of a record"),
        (with("from = 0"), 5, "number of a record"),
        (with("ordered = \"no\""), 5, "true or false"),
        (with("max_in_flight = 65"), 5, "from 1 to 64"),
        (with("alow_private = true"), 5, "did you mean `allow_private`?"),
        (with("listen = \"127.0.0.1:0\""), 5, "above the first `[[endpoints]]`"),
        (format!("{GOOD}{GOOD}"), 5, "same `name`"),
    ] {
        let (code, error) = said(&text);
        assert_eq!(code, Some(1), "{text}");
        let place = format!("rollcall.toml:{line}: ");
        assert!(error.contains(&place) && error.contains(words), "{text}\n{error}");
        assert!(!error.contains("hidden") && !error.contains("secret-of-out"), "{error}");
    }
    // With leave they are good.
    for address in ["http://127.0.0.1:9/x", "https://[::1]/x", "http://app.example.com"] {
        let (code, error) = said(&format!("{}allow_private = true\n", url(address)));
        assert_eq!(code, Some(0), "{error}");
    }
}

#[test]
fn the_endpoints_of_a_configuration_are_shown_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollcall.toml");
    std::fs::write(&file, format!("{GOOD}from = 7\nordered = false\n")).unwrap();
    let text = |arguments: &[&str]| {
        let output = check(&file, arguments);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text(&["check"]).contains("1 endpoint"));
    let (table, shown) = (text(&["show"]), text(&["show", "--json"]));
    assert!(table.contains("https://app.example.com/x") && table.contains("workos"), "{table}");
    for text in [&table, &shown] {
        assert!(!text.contains("hidden") && !text.contains("secret-of-out"), "{text}");
    }
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let one = &shown["endpoints"][0];
    let expected = json!({
        "name": "app", "url": "https://app.example.com/x", "format": "workos", "events": ["*"],
        "organizations": null, "begins": "7", "ordered": false, "max_in_flight": 16,
        "allow_private": false, "from": format!("{}:1", file.display()),
    });
    assert!(crate::kit::server::holds(&expected, one), "{one}");
}

/// Runs `rollcall deliveries`.
fn deliveries(server: &Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = bare_command(&["deliveries"]);
    command.args(arguments).env("ROLLCALL_URL", &server.url).env("ROLLCALL_API_KEY", API_KEY);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn deliveries_are_shown_and_acted_on() {
    let folder = tempfile::tempdir().unwrap();
    let app = Receiver::reacting(|_| Reaction::Answer(500));
    let other = Receiver::start();
    let more = "events = [\"dsync.*\"]";
    let endpoints = [endpoint("app", &app.address, more), endpoint("other", &other.address, more)];
    let server = start_sending(folder.path(), &endpoints);
    let at = "2026-01-01T00:00:00.000Z";
    for id in ["a", "b", "c"] {
        server.deliver(&user(id, "d", id, at, &format!("event_{id}"), "dsync.user.created"));
    }
    wait_until_delivered(&server, "other");
    wait_for_state(&server, "app", |state| state["state"] == "retrying");
    let (code, json, _) = deliveries(&server, &["--json"]);
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines.len()), (Some(0), 2));
    let expected = json!([
        { "name": "app", "state": "retrying", "position": 0, "lag": 3, "last_error": "status 500",
          "url": format!("http://{}/webhooks", app.address) },
        { "name": "other", "state": "ok", "position": 3, "lag": 0, "last_error": null },
    ]);
    assert!(crate::kit::server::holds(&expected, &json!(lines)), "{json}");
    let (code, table, _) = deliveries(&server, &[]);
    assert!(
        code == Some(0) && table.contains("retrying") && table.contains("status 500"),
        "{table}"
    );
    let (code, _, error) = deliveries(&server, &["test", "app"]);
    assert!(code == Some(2) && error.contains("status 500"), "{error}");
    assert_eq!(deliveries(&server, &["skip", "app", "2"]).0, Some(0));
    app.react_by(|_| Reaction::Answer(200));
    assert_eq!(deliveries(&server, &["retry", "app"]).0, Some(0));
    let state = wait_until_delivered(&server, "app");
    assert_eq!(state["delivered"], 1, "only the third: {state}");
    assert_eq!(deliveries(&server, &["test", "app"]), (Some(0), "delivered\n".into(), "".into()));
    assert_eq!(deliveries(&server, &["replay", "other", "--from", "2"]).0, Some(0));
    other.wait_for(5);
    assert_eq!(other.places(), ["1", "2", "3", "2", "3"]);
    for wrong in [&["skip", "app", "4"][..], &["skip", "app", "0"], &["retry", "none"]] {
        let (code, _, error) = deliveries(&server, wrong);
        assert_eq!(code, Some(1), "{wrong:?}: {error}");
    }
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    for line in [
        "rollcall_delivery_lag_records{endpoint=\"app\"} 0",
        "rollcall_delivery_state{endpoint=\"app\",state=\"ok\"} 1",
        "rollcall_delivery_state{endpoint=\"app\",state=\"stalled\"} 0",
        "rollcall_deliveries_total{endpoint=\"other\"} 5",
        "rollcall_delivery_failures_total{endpoint=\"other\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    let stats = server.get("/rollcall/v1/stats").json();
    check_shape("rollcall.json#/$defs/stats", &stats, "with endpoints");
    assert_eq!(stats["endpoints"][1]["name"], "other");
}

#[test]
fn an_endpoint_that_fails_for_three_days_is_stalled_still_tried_and_recovers() {
    let Some(machine) = TestMachine::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let app = Receiver::reacting(|_| Reaction::Answer(500));
    let endpoints = [endpoint("app", &app.address, "events = [\"dsync.*\"]")];
    let config = config_with(folder.path(), &endpoints);
    let mut command = machine.command();
    command.env("TEST_OUT_SECRET", OUT_SECRET);
    let arguments = ["--config", config.to_str().unwrap()];
    let server = Server::start_command(command, &folder.path().join("data"), &arguments);
    let body = user("a", "d", "a", "2026-01-01T00:00:00.000Z", "event_a", "dsync.user.created");
    assert_eq!(machine.post(&server, &body).status, 200);
    wait_for_state(&server, "app", |state| state["state"] == "retrying");
    let days_ms = 3 * 86_400_000;
    machine.set_clock_ahead_by(days_ms - 600_000);
    assert_eq!(state_of(&server, "app")["state"], "retrying");
    machine.set_clock_ahead_by(days_ms);
    let failed = state_of(&server, "app")["failures"].as_u64().unwrap();
    let stats = server.get("/rollcall/v1/stats").json();
    assert_eq!(stats["endpoints"][0]["state"], "stalled", "{stats}");
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    for line in [
        "rollcall_delivery_state{endpoint=\"app\",state=\"stalled\"} 1",
        "rollcall_delivery_state{endpoint=\"app\",state=\"retrying\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    let (code, json, _) = deliveries(&server, &["--json"]);
    let shown: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &shown["state"]), (Some(0), &json!("stalled")));
    // It is tried without anything that an operator does, and takes what comes then.
    wait_for_state(&server, "app", |state| state["failures"].as_u64() > Some(failed));
    app.react_by(|_| Reaction::Answer(200));
    // /readyz names no head while the clock has jumped.
    let state = wait_for_state(&server, "app", |state| state["lag"] == 0);
    assert_eq!((&state["state"], &state["failing_since"]), (&json!("ok"), &Value::Null));
}
