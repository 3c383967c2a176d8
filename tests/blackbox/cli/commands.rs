//! The command line: exit codes, messages, and the two commands of README.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::kit::server::{SECRET, Server, agent, binary, now_ms, post, signature};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    for name in [
        "ROLLCALL_WEBHOOK_SECRETS",
        "WORKOS_WEBHOOK_SECRET",
        "ROLLCALL_API_KEYS",
        "ROLLCALL_WEBHOOK_SECRET",
    ] {
        command.env_remove(name);
    }
    command.args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn the_demo_tells_its_story_and_exits_with_0() {
    let output = run(&["demo"], &[]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let wanted = [
        "1. Who is in Field Service now?",
        "Jonah Abernathy one millisecond later",
        "404 Directory User not found",
        "And what did we believe about that day before the late event came?",
        "Mei-Lin Castellanos",
        "All 34 questions of the story were answered as it says.",
        "- member      blindgren@larkspur-freight.example  because default",
        "1 group has no rule: Product Engineering",
        "version 2 is set, in force from 2026-02-09T09:00:00.000Z, record 21",
        "10. And what did we believe about that day before the second mapping was set?",
        "All 36 questions of the story were answered as it says.",
    ];
    for part in wanted {
        assert!(text.contains(part), "`{part}` is missing from: {text}");
    }
}

#[test]
fn without_its_settings_the_server_refuses_to_start_and_says_what_to_set() {
    let data = tempfile::tempdir().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data", data.path().to_str().unwrap()];
    for (environment, wanted) in [
        (vec![], "set ROLLCALL_WEBHOOK_SECRETS"),
        (vec![("ROLLCALL_WEBHOOK_SECRETS", " , ")], "set ROLLCALL_WEBHOOK_SECRETS"),
        (vec![("WORKOS_WEBHOOK_SECRET", "s")], "set ROLLCALL_API_KEYS"),
        (
            vec![("ROLLCALL_WEBHOOK_SECRETS", "s"), ("ROLLCALL_API_KEYS", ",")],
            "set ROLLCALL_API_KEYS",
        ),
    ] {
        let output = run(&serve, &environment);
        assert_eq!(output.status.code(), Some(1), "{environment:?}");
        assert!(said(&output).contains(wanted), "{}", said(&output));
    }
}

#[test]
fn a_mistake_in_the_arguments_exits_with_1_and_help_with_0() {
    for arguments in [
        &["serve", "--tolerance", "soon"][..],
        &["serve", "--webhook-path", "no-slash"],
        &["serve", "--webhook-path", "/directories"],
        &["serve", "--webhook-path", "/rollcall/v1/hook"],
        &["serve", "--document-cache-mib", "0"],
        &["send", "--url", "notaurl", "--secret", "s", "Cargo.toml"],
        &["unheard-of"],
        &[],
        &["send", "--url", "http://127.0.0.1:1/", "--secret", "s", "/no/such/file"],
    ] {
        let output =
            run(arguments, &[("ROLLCALL_WEBHOOK_SECRETS", "s"), ("ROLLCALL_API_KEYS", "k")]);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
    }
    for (arguments, wanted) in [
        (&["--help"][..], "Exit codes"),
        (&["serve", "--help"], "ROLLCALL_WEBHOOK_SECRETS"),
        (&["send", "--help"], "Example"),
        (&["demo", "--help"], "--serve"),
        (&["roles", "--help"], "Example"),
        (&["audit", "--help"], "Example"),
        (&["deprovisioned", "--help"], "Example"),
        (&["changes", "--help"], "Example"),
        (&["serve", "--help"], "--log-format"),
        (&["mapping", "--help"], "Example"),
        (&["mapping", "show", "--help"], "Example"),
        (&["mapping", "versions", "--help"], "Example"),
        (&["mapping", "preview", "--help"], "A mapping in TOML"),
        (&["mapping", "set", "--help"], "Example"),
        (&["policy", "--help"], "Example"),
        (&["rebuild", "--help"], "Example"),
        (&["health", "--help"], "Needs no API key"),
        (&["--version"], "rollcall 0."),
    ] {
        let output = run(arguments, &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(said(&output).contains(wanted), "{}", said(&output));
    }
}

#[test]
fn a_data_folder_in_use_and_an_address_in_use_are_the_callers_fault() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let settings = [("ROLLCALL_WEBHOOK_SECRETS", "s"), ("ROLLCALL_API_KEYS", "k")];
    let output = run(
        &["serve", "--listen", "127.0.0.1:0", "--data", data.path().to_str().unwrap()],
        &settings,
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("in use by another process"), "{}", said(&output));
    let other = tempfile::tempdir().unwrap();
    let address = server.url.strip_prefix("http://").unwrap();
    let output =
        run(&["serve", "--listen", address, "--data", other.path().to_str().unwrap()], &settings);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("cannot listen on"), "{}", said(&output));
}

#[test]
fn send_posts_each_line_once_and_counts_the_answers() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let url = format!("{}/webhooks/workos", server.url);
    let events = "{\"id\":\"a\",\"event\":\"x\"}\n\n{\"id\":\"b\",\
        \"event\":\"x\"}\r\n{\"id\":\"a\",\"event\":\"x\"}\n{\"id\":\"a\",\"event\":\"y\"}";
    let send = |secret: &str, concurrency: &str| {
        let mut command = Command::new(binary());
        command.args(["send", "--url", &url, "--secret", secret, "--concurrency", concurrency]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(events.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = send(SECRET, "1");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let lines: Vec<String> = said(&output)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(lines, ["answer events", "200 conflict 1", "200 duplicate 1", "200 new 2"]);
    let output = send("wrong", "4");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("4 events were refused"), "{}", said(&output));
    drop(server);
    let events = "fixtures/0001-reorganisation/events.jsonl";
    let output = run(&["send", "--url", "http://127.0.0.1:1/", "--secret", "s", events], &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn a_stop_in_the_middle_of_load_answers_what_it_took_and_exits_with_0() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let url = format!("{}/webhooks/workos", server.url);
    let [stopped, failed] = [(); 2].map(|()| AtomicBool::new(false));
    let taken = AtomicU64::new(0);
    let send = &|client: u64| {
        let agent = agent();
        for n in 0..100_000 {
            let body = format!(r#"{{"id":"{client}_{n}","event":"x"}}"#);
            let header = signature(SECRET, &now_ms().to_string(), body.as_bytes());
            let headers = [("WorkOS-Signature", header.as_str())];
            match post(&agent, &url, body.as_bytes(), &headers) {
                Some(answer) if answer.status == 200 => taken.fetch_add(1, Ordering::SeqCst),
                _ if stopped.load(Ordering::SeqCst) => break,
                // A connection that breaks before the stop was an answer lost.
                _ => {
                    failed.store(true, Ordering::SeqCst);
                    break;
                }
            };
        }
    };
    std::thread::scope(|scope| {
        for client in 0..4 {
            scope.spawn(move || send(client));
        }
        while taken.load(Ordering::SeqCst) < 100 && !failed.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        stopped.store(true, Ordering::SeqCst);
        assert_eq!(server.stop(), 0);
    });
    assert!(!failed.into_inner(), "a request before the stop was not answered with 200");
    let server = Server::start(data.path());
    let (head, taken) = (server.get("/readyz").json()["seq"].as_u64().unwrap(), taken.into_inner());
    assert!(head >= taken, "{head} records for {taken} acknowledgements");
}

#[test]
fn a_demo_that_nobody_reads_any_more_ends() {
    use std::io::{BufRead, BufReader};
    let mut child = Command::new(binary())
        .args(["demo", "--serve"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert!(line.starts_with("A server is listening at http://127.0.0.1:"), "{line}");
    drop(output);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_health_check_knows_two_exit_codes_and_needs_no_key() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let health = |arguments: &[&str], url: &str| {
        run(&[&["health"], arguments].concat(), &[("ROLLCALL_URL", url)])
    };
    let output = health(&[], &server.url);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let words: Vec<&str> = text.lines().map(|line| line.split(" since ").next().unwrap()).collect();
    // The scrub waits at first.
    let (scrub, others): (Vec<&str>, Vec<&str>) =
        words.iter().partition(|line| line.starts_with("scrub: "));
    assert_eq!(
        others,
        [
            "ready",
            "access_log: open",
            "clock: believed",
            "fold: current",
            "log: open",
            "snapshot: none"
        ]
    );
    assert!(scrub == ["scrub: waiting"] || scrub == ["scrub: sound"], "{text}");
    let output = health(&["--alive"], &format!("{}/", server.url));
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), "ok\n"));
    let output = health(&["--json"], &server.url);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["status"], &json["seq"]), (&"ready".into(), &0.into()));
    // Another program, which answers all with 404, and no program at all.
    for (url, wanted) in [
        (format!("{}/no/such", server.url), "answered 404"),
        ("http://127.0.0.1:1".to_owned(), "does not answer"),
    ] {
        let output = health(&[], &url);
        assert_eq!(output.status.code(), Some(1), "a container takes 2 for something else");
        assert!(said(&output).contains(wanted), "{}", said(&output));
    }
}
