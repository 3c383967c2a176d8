//! Runs every `curl` session of README and docs/.
//!
//! A session is a line `$ curl …` in a fenced block tagged `console`. The lines up to the next `$`
//! or the end of the block are what it prints; `[…]` on a line of its own means any lines. The
//! commands find the server by `ROLLCALL_URL` and `ROLLCALL_API_KEY`, as a reader's do.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::kit::{self, Server, fixtures};
use super::libraries::sources;
use super::{Case, Needs};

/// The pages with sessions, in order. A page that gains or loses its sessions fails the test until
/// this list says so.
const PAGES: [&str; 2] = ["README.md", "docs/api.md"];

const WITHIN: Duration = Duration::from_secs(60);

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("curl::every_session_of_the_pages_prints_what_it_shows", Needs::Curl, pages),
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

/// Returns the sessions of a Markdown text, in its order. A command that ends with a backslash
/// continues on the next line.
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

/// Compares what was printed with what is expected, in which `[…]` means any lines, also none.
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

/// Runs every session of a Markdown text against a server that has received the first story, and
/// returns their number.
fn run(markdown: &str) -> Result<usize, String> {
    let sessions = sessions(markdown);
    if sessions.is_empty() {
        return Ok(0);
    }
    let server = Server::with(&fixtures().join("0001-reorganisation/events.jsonl"));
    for Session { command, expected } in &sessions {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).env("no_proxy", "*");
        shell.env("ROLLCALL_URL", &server.url).env("ROLLCALL_API_KEY", kit::API_KEY);
        let printed =
            kit::finished(shell, WITHIN).map_err(|said| format!("$ {command}\n{said}"))?;
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

fn pages() {
    let root = sources().join("..");
    let mut found = vec!["README.md".to_owned()];
    found.extend(fs::read_dir(root.join("docs")).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.ends_with(".md").then(|| format!("docs/{name}"))
    }));
    found.retain(|page| {
        let text = fs::read_to_string(root.join(page)).unwrap();
        run(&text).unwrap_or_else(|error| panic!("{page}: {error}")) > 0
    });
    found.sort();
    assert_eq!(found, PAGES, "the pages with sessions: see PAGES");
}

const SMALL: &str = r#"
```console
$ cargo run -- serve
[…]
$ curl -sS -H "Authorization: Bearer $ROLLCALL_API_KEY" \
    $ROLLCALL_URL/directories/directory_01K424MH00XFE6WM17PR9ASN2Y \
    | python3 -c 'import json, sys; print(json.load(sys.stdin)["name"])'
Halden Robotics
$ curl -s $ROLLCALL_URL/directories
{"message":"Unauthorized","code":"unauthorized"}
$ curl -s -i $ROLLCALL_URL/healthz
HTTP/1.1 200 OK
[…]
```

```sh
curl $ROLLCALL_URL/not/a/session
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
            "curl -sS -H \"Authorization: Bearer $ROLLCALL_API_KEY\" \
             $ROLLCALL_URL/directories/directory_01K424MH00XFE6WM17PR9ASN2Y \
             | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"name\"])'",
            "curl -s $ROLLCALL_URL/directories",
            "curl -s -i $ROLLCALL_URL/healthz",
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
