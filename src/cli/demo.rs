//! `rollcall demo`

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, deliver};
use super::serve::{Caches, Running};
use super::{Failure, print, table};
use crate::http::{Settings, WEBHOOK_PATH};
use crate::verify::Keyring;

const EVENTS: &str = include_str!("../../fixtures/0001-reorganisation/events.jsonl");
const QUESTIONS: &str = include_str!("../../fixtures/0001-reorganisation/questions.jsonl");

const SECRET: &str = "whsec_demo";
const API_KEY: &str = "sk_demo";

/// Show what it is for: a real server, a story of webhooks, and questions about the past.
///
/// Needs no setting. Everything happens in a temporary folder and on a free port of this machine.
#[derive(Args)]
pub(super) struct Demo {
    /// Stay up afterwards, and print lines to try
    #[arg(long)]
    serve: bool,
}

/// A line of a story's questions.
#[derive(Deserialize)]
struct Question {
    title: Option<String>,
    ask: String,
    status: u16,
    expect: Value,
    because: String,
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Failure> {
        let folder = tempfile::tempdir().map_err(Failure::ours)?;
        let settings =
            Settings { keyring: Keyring::new([SECRET], 180_000), api_keys: vec![API_KEY.into()], webhook_paths: vec![WEBHOOK_PATH.into()] };
        let caches = Caches { documents: 16 << 20, store: 64 << 20 };
        let running = Running::start("127.0.0.1:0", folder.path(), settings, caches)?;
        let stays_up = self.serve;
        running.beside(API_KEY, stays_up, move |client| {
            tell(client)?;
            if stays_up { print(&lines_to_try(&client.base)) } else { Ok(()) }
        })
    }
}

/// Sends the story, asks every question of it, and prints those with a title.
fn tell(client: &Client) -> Result<(), Failure> {
    let base = &client.base;
    print(&format!("A server is listening at {base}, its log in an empty temporary folder.\n\n"))?;
    let webhooks = format!("{base}{WEBHOOK_PATH}");
    let mut records = 0;
    for event in EVENTS.lines() {
        let delivered = deliver(&client.agent, &webhooks, SECRET, event.as_bytes())?;
        if delivered.status != 200 {
            return Err(Failure::Ours(format!("a webhook was answered with {}: {}", delivered.status, delivered.answer)));
        }
        records = delivered.answer.get("seq").and_then(Value::as_u64).unwrap_or(records);
    }
    let sent = EVENTS.lines().count();
    print(&format!("Sent {sent} signed webhooks; each was answered once it was on disk and folded. The log has {records} records.\n"))?;
    let (mut asked, mut number) = (0, 0);
    for line in QUESTIONS.lines() {
        let question: Question = serde_json::from_str(line).map_err(Failure::ours)?;
        let answer = client.get(&question.ask)?;
        let (status, answer) = (answer.status, answer.json::<Value>()?);
        if status != question.status || !holds(&question.expect, &answer) {
            return Err(Failure::Ours(format!("`{}` was answered with {status} and {answer}, but {}", question.ask, question.because)));
        }
        asked += 1;
        if let Some(title) = &question.title {
            number += 1;
            let shown: String = show(status, &answer).lines().map(|line| format!("      {line}\n")).collect();
            // A story's reason begins with the rule's number in docs/semantics.md.
            let (_, reason) = question.because.split_once(": ").unwrap_or(("", &question.because));
            print(&format!("\n{number}. {title}\n   GET {}\n\n{shown}\n   Because {reason}.\n", shortened(&question.ask)))?;
        }
    }
    print(&format!("\nAll {asked} questions of the story were answered as it says.\n"))
}

/// Whether every key of `expected` is in `answer` with an equal value; arrays match one by one.
fn holds(expected: &Value, answer: &Value) -> bool {
    match (expected, answer) {
        (Value::Object(expected), Value::Object(answer)) => {
            expected.iter().all(|(key, value)| answer.get(key).is_some_and(|other| holds(value, other)))
        }
        (Value::Array(expected), Value::Array(answer)) => {
            expected.len() == answer.len() && expected.iter().zip(answer).all(|(value, other)| holds(value, other))
        }
        _ => expected == answer,
    }
}

/// A path with ids cut down to their ends, for the eye.
fn shortened(path: &str) -> String {
    let short = |part: &str| match part.rsplit_once('_') {
        Some((kind, ulid)) if ulid.len() == 26 => format!("{kind}_…{}", ulid.get(22..).unwrap_or(ulid)),
        _ => part.to_owned(),
    };
    path.split_inclusive(['/', '?', '&', '='])
        .map(|part| {
            let (text, end) = part.split_at(part.trim_end_matches(['/', '?', '&', '=']).len());
            short(text) + end
        })
        .collect()
}

/// People as a table, or the message of an error.
fn show(status: u16, answer: &Value) -> String {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    if status != 200 {
        return format!("{status} {}", text(answer, "message"));
    }
    let people = answer.get("data").and_then(Value::as_array).cloned().unwrap_or_else(|| vec![answer.clone()]);
    let rows: Vec<Vec<String>> = people
        .iter()
        .map(|person| {
            let groups = person.get("groups").and_then(Value::as_array).into_iter().flatten();
            let groups: Vec<String> = groups.map(|group| text(group, "name")).collect();
            let name = format!("{} {}", text(person, "first_name"), text(person, "last_name"));
            vec![name, text(person, "email"), groups.join(", ")]
        })
        .collect();
    table::draw(&["name", "email", "groups"], &rows)
}

fn lines_to_try(base: &str) -> String {
    let paths = [
        "/directories",
        "/directory_users?directory=directory_01K424MH00XFE6WM17PR9ASN2Y",
        "/directory_users?directory=directory_01K424MH00XFE6WM17PR9ASN2Y&as_of=2026-03-02T08:59:59.999Z",
        "/directory_users/directory_user_01K424MJ3048WHJA7G74J4MK1K?as_of=2026-03-20T17:29:59.999Z",
        "/rollcall/v1/projections",
    ];
    let lines = paths.map(|path| format!("  curl -s -H 'Authorization: Bearer {API_KEY}' '{base}{path}'\n"));
    format!("\nThe server stays up until Ctrl-C. To try:\n\n{}", lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_may_say_more_than_a_story_expects_but_nothing_else() {
        let answer = json!({"a": 1, "b": [{"c": 2, "d": 3}]});
        assert!(holds(&json!({"b": [{"c": 2}]}), &answer));
        for wrong in [json!({"a": 2}), json!({"b": []}), json!({"b": [{"c": 2}, {}]}), json!({"e": null}), json!([])] {
            assert!(!holds(&wrong, &answer), "{wrong}");
        }
    }

    #[test]
    fn ids_are_cut_for_the_eye() {
        assert_eq!(
            shortened("/directory_users/directory_user_01K424MJ3048WHJA7G74J4MK1K?limit=1"),
            "/directory_users/directory_user_…MK1K?limit=1"
        );
    }
}
