//! Every `curl` line of README, run as it stands.
//!
//! In README each fenced block tagged `console` with lines that begin with `$ curl ` is a session:
//! what follows each of them up to the next `$` or the end of the block is what it prints. There
//! `[…]` on a line of its own stands for any lines.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::kit::{self, Server, fixtures};
use super::libraries::sources;
use super::{Case, Needs};

/// Whether README has such a session. With `true` their absence is a failure; with `false` their
/// presence is, so that this cannot be forgotten.
const README_HAS_SESSIONS: bool = true;

/// The address that README shows.
const SHOWN: &str = "localhost:8080";

const WITHIN: Duration = Duration::from_secs(60);

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("curl::every_line_of_readme_prints_what_readme_says", Needs::Curl, readme),
        Case::new("curl::a_session_is_run_and_compared", Needs::Curl, a_small_session),
        Case::new(
            "curl::sessions_are_found_and_compared_line_by_line",
            Needs::Nothing,
            sessions_are_found,
        ),
    ]
}

/// A command and the lines that it prints.
#[derive(Debug, PartialEq, Eq)]
struct Session {
    command: String,
    expected: Vec<String>,
}

/// The sessions of a Markdown text, in its order. A command that ends with a backslash goes on in
/// the next line.
fn sessions(markdown: &str) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    let (mut inside, mut ours) = (false, false);
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            (inside, ours) = (!inside && line == "```console", false);
        } else if !inside {
        } else if let Some(command) = line.strip_prefix("$ ") {
            let mut command = command.to_owned();
            while let Some(begun) = command.strip_suffix('\\') {
                command = format!("{begun}{}", lines.next().unwrap_or_default().trim_start());
            }
            ours = command.starts_with("curl ");
            if ours {
                sessions.push(Session { command, expected: Vec::new() });
            }
        } else if let Some(session) = sessions.last_mut().filter(|_| ours) {
            session.expected.push(line.trim_end().to_owned());
        }
    }
    sessions
}

/// Whether `printed` is what is expected; `[…]` stands for any lines, also for none.
fn fits(expected: &[String], printed: &[&str]) -> bool {
    match expected {
        [] => printed.is_empty(),
        [first, rest @ ..] if first.trim() == "[…]" => {
            (0..=printed.len()).any(|skipped| fits(rest, &printed[skipped..]))
        }
        [first, rest @ ..] => {
            printed.first().is_some_and(|line| line.trim_end() == first)
                && fits(rest, &printed[1..])
        }
    }
}

/// Runs every session of a Markdown text against a server that knows the first story; how many
/// there were.
fn run(markdown: &str) -> Result<usize, String> {
    let sessions = sessions(markdown);
    if sessions.is_empty() {
        return Ok(0);
    }
    let server = Server::with(&fixtures().join("0001-reorganisation/events.jsonl"));
    let address = server.url.strip_prefix("http://").unwrap();
    for Session { command, expected } in &sessions {
        let mut shell = Command::new("sh");
        shell.args(["-c", &command.replace(SHOWN, address)]).env("no_proxy", "*");
        let printed = kit::finished(shell, WITHIN)
            .map_err(|said| format!("$ {command}\n{said}"))?
            .replace(address, SHOWN);
        let lines: Vec<&str> = printed.lines().collect();
        if !fits(expected, &lines) {
            return Err(format!(
                "$ {command}\nprinted\n{printed}\nand not\n{}",
                expected.join("\n")
            ));
        }
    }
    Ok(sessions.len())
}

fn readme() {
    let readme = fs::read_to_string(sources().join("../README.md")).unwrap();
    let count = run(&readme).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        count > 0,
        README_HAS_SESSIONS,
        "README has {count} sessions with curl: see README_HAS_SESSIONS"
    );
}

const SMALL: &str = r#"
```console
$ cargo run -- serve
[…]
$ curl -s -H 'Authorization: Bearer sk_example' localhost:8080/directories/directory_01K424MH00XFE6WM17PR9ASN2Y \
    | python3 -c 'import json, sys; print(json.load(sys.stdin)["name"])'
Halden Robotics
$ curl -s localhost:8080/directories
{"message":"Unauthorized","code":"unauthorized"}
$ curl -s -i localhost:8080/healthz
HTTP/1.1 200 OK
[…]
```

```sh
curl localhost:8080/not/a/session
```
"#;

fn a_small_session() {
    // Without the line that needs Python: this case needs only curl.
    let text: String = SMALL.replace(
        "| python3 -c 'import json, sys; print(json.load(sys.stdin)[\"name\"])'",
        "| grep -o 'Halden Robotics'",
    );
    assert_eq!(run(&text), Ok(3));
    let wrong = text.replace("Halden Robotics\n$", "Halden Robots\n$");
    assert!(run(&wrong).unwrap_err().contains("Halden Robots"));
}

fn sessions_are_found() {
    let found = sessions(SMALL);
    let commands: Vec<&str> = found.iter().map(|session| session.command.as_str()).collect();
    assert_eq!(
        commands,
        [
            "curl -s -H 'Authorization: Bearer sk_example' localhost:8080/directories/directory_01K424MH00XFE6WM17PR9ASN2Y | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"name\"])'",
            "curl -s localhost:8080/directories",
            "curl -s -i localhost:8080/healthz",
        ]
    );
    assert_eq!(found[0].expected, ["Halden Robotics"]);
    assert_eq!(found[2].expected, ["HTTP/1.1 200 OK", "[…]"]);

    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (expected, printed, fitting) in [
        ("a\nb", "a\nb", true),
        ("a\nb", "a", false),
        ("a", "a\nb", false),
        ("a\n[…]", "a\nb\nc", true),
        ("a\n[…]", "a", true),
        ("[…]\nc", "a\nb\nc", true),
        ("[…]\nc", "a\nc\nd", false),
        ("a\n[…]\nc\n[…]\ne", "a\nb\nc\nd\ne", true),
        ("a\n[…]\nc", "b\nc", false),
        ("", "", true),
        ("", "a", false),
    ] {
        assert_eq!(
            fits(&lines(expected), &printed.lines().collect::<Vec<_>>()),
            fitting,
            "{expected:?} {printed:?}"
        );
    }
}
