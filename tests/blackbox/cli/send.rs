//! `rollcall send`: the forms of its input, and its end after an error or an interrupt.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::read::{err, rollcall};
use crate::kit::server::{SECRET, Server, signal, user};

/// Returns the body of the event that creates a user.
fn created(id: &str) -> String {
    let event_id = format!("event_{id}");
    user(id, "d", id, "2026-01-01T00:00:00.000Z", &event_id, "dsync.user.created")
}

fn start(server: &Server, arguments: &[&str]) -> Child {
    let url = format!("{}/webhooks/workos", server.url);
    let mut command = rollcall(&["send", "--url", &url, "--secret", SECRET]);
    let command = command.args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn send_file(server: &Server, file: &Path, text: &[u8]) -> Output {
    std::fs::write(file, text).unwrap();
    start(server, &[file.to_str().unwrap()]).wait_with_output().unwrap()
}

fn send_input(server: &Server, text: &[u8]) -> Output {
    let mut child = start(server, &["--concurrency", "1"]);
    child.stdin.take().unwrap().write_all(text).unwrap();
    child.wait_with_output().unwrap()
}

/// Returns the rows of the summary, with one space between two cells.
fn counts(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.map(|row| row.join(" ")).collect()
}

#[test]
fn marks_line_ends_lists_and_pages_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let file = folder.path().join("events");
    let both = |n: u32| [created(&format!("a{n}")), created(&format!("b{n}"))];
    let page = |[a, b]: [String; 2]| {
        format!(r#"{{"object":"list","data":[{a},{b}],"list_metadata":{{"after":"event_b"}}}}"#)
    };
    let pretty = |text: String| {
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        serde_json::to_string_pretty(&value).unwrap()
    };
    let forms = [
        format!("\u{feff}{}", both(0).join("\n")),
        both(1).join("\r\n") + "\r\n",
        format!("[{}]", both(2).join(",")),
        pretty(format!("[{}]", both(3).join(","))),
        page(both(4)),
        format!("\u{feff}{}\r\n", pretty(page(both(5))).replace('\n', "\r\n")),
    ];
    for (n, text) in forms.iter().enumerate() {
        let output = send_file(&server, &file, text.as_bytes());
        assert_eq!(output.status.code(), Some(0), "{text}: {}", err(&output));
        assert_eq!(counts(&output), ["200 new 2"], "{text}");
        let output = send_input(&server, text.as_bytes());
        assert_eq!(counts(&output), ["200 duplicate 2"], "{text}");
        assert_eq!(server.head(), 2 * (n as u64 + 1));
    }
    let ids = server.get("/directory_users?directory=d&limit=100").ids();
    let stats = server.get("/rollcall/v1/stats").json();
    assert_eq!((ids.len(), stats["quarantine"]["not_an_event"].as_u64()), (12, Some(0)), "{stats}");
}

/// Inputs with one event before something that is not an event, and the line of the latter.
fn wrong_inputs() -> Vec<(String, u64)> {
    let [a, b] = [created("a"), created("b")];
    vec![
        (format!("{a}\n{}", &b[..b.len() / 2]), 2),
        (format!("{a}\n\n{b} {b}\n"), 3),
        (format!("{a}\nid,event\n"), 2),
        (format!("{a}\n{{\n\"id\":\"b\",\n\"event\":\"x\"\n}}\n"), 2),
        (format!("{a}\n{{\"id\":\"b\"}}\n"), 2),
        (format!("{a}\n[\n{b},\n{{\"object\":\"directory_user\",\"id\":\"u\"}}\n]\n"), 4),
        (format!("{a}\n[{b},7]\n"), 2),
        (format!("{a}\n\"{{}}\"\n"), 2),
    ]
}

#[test]
fn nothing_is_sent_of_a_file_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    for (text, line) in wrong_inputs() {
        let file = folder.path().join("events");
        let output = send_file(&server, &file, text.as_bytes());
        let told = err(&output);
        assert_eq!(output.status.code(), Some(1), "{text}: {told}");
        let begins = format!("rollcall: `{}`: line {line}: ", file.display());
        assert!(told.starts_with(&begins), "{text}: {told}");
        assert!(told.contains("nothing was sent"), "{text}: {told}");
        assert!(output.stdout.is_empty(), "{text}");
        assert_eq!(server.head(), 0, "{text}");
    }
}

#[test]
fn standard_input_is_sent_up_to_the_error_and_the_taken_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    for (at, (text, line)) in wrong_inputs().into_iter().enumerate() {
        let output = send_input(&server, text.as_bytes());
        let told = err(&output);
        assert_eq!(output.status.code(), Some(1), "{text}: {told}");
        let begins = format!("rollcall: standard input: line {line}: ");
        assert!(told.starts_with(&begins), "{text}: {told}");
        assert!(told.contains("1 event was taken"), "{text}: {told}");
        let class = if at == 0 { "200 new 1" } else { "200 duplicate 1" };
        assert_eq!(counts(&output), [class], "{text}");
        assert_eq!(server.head(), 1, "{text}");
    }
}

#[test]
fn an_interrupt_prints_what_was_taken_and_exits_with_130() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let mut child = start(&server, &[]);
    // Kept open: the command waits for more.
    let mut input = child.stdin.take().unwrap();
    for id in ["a", "b", "c"] {
        writeln!(input, "{}", created(id)).unwrap();
    }
    while server.head() < 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(child.id(), "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", err(&output));
    assert_eq!(counts(&output), ["200 new 3"]);
    assert_eq!(err(&output), "rollcall: interrupted; 3 events were taken\n");
    drop(input);
}

#[test]
fn the_first_secret_that_is_given_is_enough_whatever_the_next_variable_names() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let file = folder.path().join("event");
    std::fs::write(&file, created("a")).unwrap();
    let url = format!("{}/webhooks/workos", server.url);
    let run = |secret: Option<&str>| {
        let mut command = rollcall(&["send", "--url", &url, file.to_str().unwrap()]);
        command.env_remove("ROLLCALL_WEBHOOK_SECRET").env_remove("ROLLCALL_WEBHOOK_SECRETS");
        command.envs(secret.map(|secret| ("ROLLCALL_WEBHOOK_SECRET", secret)));
        command.env("ROLLCALL_WEBHOOK_SECRETS_FILE", "/no/such/file").output().unwrap()
    };
    let output = run(Some(SECRET));
    assert_eq!((output.status.code(), server.head()), (Some(0), 1), "{}", err(&output));
    let output = run(None);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains("/no/such/file"), "{}", err(&output));
}

#[test]
fn a_secret_may_come_through_a_pipe_that_is_not_too_long() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let url = format!("{}/webhooks/workos", server.url);
    let run = |file: &str, piped: &str| {
        let forge = ["send", "--url", &url, "--forge", "dsync.deleted", "--directory", "d"];
        let mut command = rollcall(&forge);
        command.env_remove("ROLLCALL_WEBHOOK_SECRET").env_remove("ROLLCALL_WEBHOOK_SECRETS");
        command.env("ROLLCALL_WEBHOOK_SECRET_FILE", file);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that needs no more than it has read closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(piped.as_bytes());
        child.wait_with_output().unwrap()
    };
    let output = run("/dev/stdin", &format!("{SECRET}\n"));
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(server.head(), 1);
    for (file, piped, told) in [
        ("/dev/stdin", &*"x".repeat(65 << 10), "is larger than 64 KiB"),
        ("/dev/zero", "", "is not a regular file or a pipe"),
    ] {
        let output = run(file, piped);
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        assert!(err(&output).contains(told), "{}", err(&output));
    }
}

/// A program that is not Rollcall. It answers every request alike, or never.
struct Foreign {
    url: String,
    /// One item for each request.
    asked: Receiver<()>,
}

impl Foreign {
    fn start(answer: Option<String>) -> Foreign {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/webhooks/workos", listener.local_addr().unwrap());
        let (asking, asked) = channel();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                read_request(&mut stream);
                if let Some(answer) = &answer {
                    // A client that has gone hears nothing.
                    let _ = stream.write_all(answer.as_bytes());
                } else {
                    open.push(stream);
                }
                if asking.send(()).is_err() {
                    return;
                }
            }
        });
        Foreign { url, asked }
    }

    fn answering(status: &str, headers: &str, body: &str) -> Foreign {
        let length = body.len();
        Foreign::start(Some(format!(
            "HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )))
    }
}

/// Reads the head and the body of a request.
fn read_request(stream: &mut TcpStream) {
    let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut chunk).unwrap_or(0);
        read.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&read).to_lowercase();
        let body = text.split_once("\r\n\r\n").map(|(head, body)| {
            let length = head.split("content-length: ").nth(1).unwrap_or("0");
            (length.lines().next().unwrap().parse::<usize>().unwrap(), body.len())
        });
        if count == 0 || body.is_some_and(|(length, got)| got >= length) {
            return;
        }
    }
}

fn start_to(url: &str) -> Child {
    let mut command = rollcall(&["send", "--url", url, "--secret", SECRET]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", created("a")).unwrap();
    child
}

#[test]
fn only_rollcalls_own_answer_counts_as_taken_and_no_redirect_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let to_server = format!("Location: {}/readyz\r\n", server.url);
    let foreign = "unconfirmed: 2xx, but the answer does not name a record 1";
    let redirects = "refused: the URL redirects, which is not followed 1";
    for (status, headers, body, count, code) in [
        ("200 OK", "", "{}", foreign, 2),
        ("200 OK", "", "<html>Welcome</html>", foreign, 2),
        ("200 OK", "", r#"{"ok":true,"duplicate":true}"#, foreign, 2),
        ("202 Accepted", "", "", foreign, 2),
        ("204 No Content", "", "", foreign, 2),
        ("302 Found", &to_server, "", redirects, 1),
        ("307 Temporary Redirect", &to_server, "", redirects, 1),
    ] {
        let program = Foreign::answering(status, headers, body);
        let output = start_to(&program.url).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{status} {body}: {}", err(&output));
        assert_eq!(counts(&output), [count], "{status} {body}");
        let told = "1 event was answered with 2xx by a program that does not say that it recorded";
        assert_eq!(err(&output).contains(told), count == foreign, "{}", err(&output));
    }
    assert_eq!(server.head(), 0);
}

#[test]
fn after_an_interrupt_no_answer_holds_up_the_counts() {
    for program in [Foreign::start(None), Foreign::answering("503 Service Unavailable", "", "")] {
        let child = start_to(&program.url);
        program.asked.recv_timeout(Duration::from_secs(20)).unwrap();
        let interrupted = Instant::now();
        signal(child.id(), "INT");
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", err(&output));
        assert!(interrupted.elapsed() < Duration::from_secs(4), "{:?}", interrupted.elapsed());
        let told = err(&output);
        assert!(told.starts_with("rollcall: interrupted; 0 events were taken"), "{told}");
    }
    let silent = Foreign::start(None);
    let child = start_to(&silent.url);
    silent.asked.recv_timeout(Duration::from_secs(20)).unwrap();
    signal(child.id(), "INT");
    let told = err(&child.wait_with_output().unwrap());
    let unknown = "1 event without an answer may have been taken";
    assert_eq!(told, format!("rollcall: interrupted; 0 events were taken; {unknown}\n"));
}
