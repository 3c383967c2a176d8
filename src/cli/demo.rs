//! `rollcall demo`

use std::path::Path;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, deliver};
use super::publish::Publish;
use super::read::{ASSIGNMENTS_PATH, assignments_told};
use super::running::{Caches, Running, Signing};
use super::{Failure, mapping, print, table};
use crate::http::{Settings, WEBHOOK_PATH};
use crate::verify::Keyring;

/// A story of `fixtures/`.
struct Story {
    events: &'static str,
    /// What an operator does, and after which event.
    acts: &'static str,
    questions: &'static str,
}

const PEOPLE: Story = Story {
    events: include_str!("../../fixtures/0001-reorganisation/events.jsonl"),
    acts: "",
    questions: include_str!("../../fixtures/0001-reorganisation/questions.jsonl"),
};

const ROLES: Story = Story {
    events: include_str!("../../fixtures/0013-roles-after-a-reorganisation/events.jsonl"),
    acts: include_str!("../../fixtures/0013-roles-after-a-reorganisation/acts.jsonl"),
    questions: include_str!("../../fixtures/0013-roles-after-a-reorganisation/questions.jsonl"),
};

const ROLES_BEGIN: &str = "
Roles come from groups, by a mapping. Another company, on a server of its own: there whoever is in the group Engineering is a developer,
until the group is split, and renamed.
";

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

/// A line of a story's acts.
#[derive(Deserialize)]
struct Act {
    after: usize,
    title: Option<String>,
    method: String,
    path: String,
    body: Option<Value>,
    status: u16,
    expect: Value,
    because: String,
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Failure> {
        let folder = tempfile::tempdir().map_err(Failure::ours)?;
        let stays_up = self.serve;
        start(folder.path())?.beside(API_KEY, stays_up, move |client| {
            print(&format!(
                "A server is listening at {}, its log in an empty temporary folder.\n\n",
                client.base
            ))?;
            let mut teller = Teller::default();
            teller.tell(client, &PEOPLE)?;
            print(ROLES_BEGIN)?;
            let folder = tempfile::tempdir().map_err(Failure::ours)?;
            start(folder.path())?
                .beside(API_KEY, false, move |client| teller.tell(client, &ROLES))?;
            if stays_up { print(&lines_to_try(&client.base)) } else { Ok(()) }
        })
    }
}

fn start(folder: &Path) -> Result<Running, Failure> {
    let settings = Settings {
        keyring: Keyring::new([SECRET], 180_000),
        api_keys: vec![API_KEY.into()],
        webhook_paths: vec![WEBHOOK_PATH.into()],
    };
    let caches = Caches { documents: 16 << 20, store: 64 << 20 };
    let signing = Signing::Own { file: None, replace_by: None };
    Ok(Running::start_with("127.0.0.1:0", folder, settings, caches, signing, Publish::nowhere())?)
}

/// Tells stories, and counts what it shows of them.
#[derive(Default)]
struct Teller {
    number: u32,
}

impl Teller {
    /// Sends a story, does its acts, asks every question of it, and prints what has a title.
    fn tell(&mut self, client: &Client, story: &Story) -> Result<(), Failure> {
        let webhooks = format!("{}{WEBHOOK_PATH}", client.base);
        let acts: Vec<Act> = story
            .acts
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .map_err(Failure::ours)?;
        let (sent, mut records) = (story.events.lines().count(), 0);
        for (at, event) in story.events.lines().enumerate() {
            self.act(client, acts.iter().filter(|act| act.after == at))?;
            let delivered = deliver(&client.agent, &webhooks, SECRET, event.as_bytes())?;
            if delivered.status != 200 {
                return Err(Failure::Ours(format!(
                    "a webhook was answered with {}: {}",
                    delivered.status, delivered.answer
                )));
            }
            records = delivered.answer.get("seq").and_then(Value::as_u64).unwrap_or(records);
        }
        self.act(client, acts.iter().filter(|act| act.after >= sent))?;
        let began = if acts.is_empty() { "" } else { "\n" };
        print(&format!(
            "{began}Sent {sent} signed webhooks; each was answered once it was on disk and folded. The log has {records} records.\n"
        ))?;
        let mut asked = 0;
        for line in story.questions.lines() {
            let question: Question = serde_json::from_str(line).map_err(Failure::ours)?;
            let answer = client.get(&question.ask)?;
            let (status, said) = (answer.status, answer.json::<Value>()?);
            see(
                status == question.status && holds(&question.expect, &said),
                &question.ask,
                status,
                &said,
                &question.because,
            )?;
            asked += 1;
            if let Some(title) = &question.title {
                let is_roles = question.ask.starts_with(ASSIGNMENTS_PATH);
                let shown =
                    if is_roles { assignments_told(client, &answer)? } else { show(status, &said) };
                self.show(
                    title,
                    &format!("GET {}", shortened(&question.ask)),
                    &shown,
                    &question.because,
                )?;
            }
        }
        print(&format!("\nAll {asked} questions of the story were answered as it says.\n"))
    }

    fn act<'a>(
        &mut self,
        client: &Client,
        acts: impl Iterator<Item = &'a Act>,
    ) -> Result<(), Failure> {
        for act in acts {
            let body = act.body.clone().unwrap_or_default();
            let answer = match act.method.as_str() {
                "PUT" => client.put(&act.path, &body, None),
                "POST" => client.post(&act.path, Some(&body)),
                _ => client.get(&act.path),
            }?;
            let (status, answer) = (answer.status, answer.json::<Value>()?);
            see(
                status == act.status && holds(&act.expect, &answer),
                &act.path,
                status,
                &answer,
                &act.because,
            )?;
            let Some(title) = &act.title else { continue };
            let shown = if act.path.ends_with("/preview") {
                mapping::preview_told(client, &body)?
            } else {
                mapping::set_told(&answer)
            };
            self.show(title, &format!("{} {}", act.method, act.path), &shown, &act.because)?;
        }
        Ok(())
    }

    /// Prints an answer below its question. A story's reason begins with the rule's number in
    /// docs/semantics.md.
    fn show(
        &mut self,
        title: &str,
        asked: &str,
        shown: &str,
        because: &str,
    ) -> Result<(), Failure> {
        self.number += 1;
        let shown: String = shown
            .lines()
            .map(|line| if line.is_empty() { "\n".into() } else { format!("      {line}\n") })
            .collect();
        let (_, reason) = because.split_once(": ").unwrap_or(("", because));
        print(&format!("\n{}. {title}\n   {asked}\n\n{shown}\n   Because {reason}.\n", self.number))
    }
}

/// # Errors
/// Ours, unless an answer was the one that the story gives.
fn see(
    is_right: bool,
    asked: &str,
    status: u16,
    answer: &Value,
    because: &str,
) -> Result<(), Failure> {
    if is_right {
        Ok(())
    } else {
        Err(Failure::Ours(format!(
            "`{asked}` was answered with {status} and {answer}, but {because}"
        )))
    }
}

/// Whether every key of `expected` is in `answer` with an equal value; arrays match one by one.
fn holds(expected: &Value, answer: &Value) -> bool {
    match (expected, answer) {
        (Value::Object(expected), Value::Object(answer)) => expected
            .iter()
            .all(|(key, value)| answer.get(key).is_some_and(|other| holds(value, other))),
        (Value::Array(expected), Value::Array(answer)) => {
            expected.len() == answer.len()
                && expected.iter().zip(answer).all(|(value, other)| holds(value, other))
        }
        _ => expected == answer,
    }
}

/// A path with ids cut down to their ends, for the eye.
fn shortened(path: &str) -> String {
    let short = |part: &str| match part.rsplit_once('_') {
        Some((kind, ulid)) if ulid.len() == 26 => {
            format!("{kind}_…{}", ulid.get(22..).unwrap_or(ulid))
        }
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
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    if status != 200 {
        return format!("{status} {}", text(answer, "message"));
    }
    let people = answer
        .get("data")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_else(|| vec![answer.clone()]);
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
    let lines = paths
        .map(|path| format!("  curl -s -H 'Authorization: Bearer {API_KEY}' '{base}{path}'\n"));
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
        for wrong in [
            json!({"a": 2}),
            json!({"b": []}),
            json!({"b": [{"c": 2}, {}]}),
            json!({"e": null}),
            json!([]),
        ] {
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
