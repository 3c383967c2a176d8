//! `rollcall demo`

use std::path::Path;

use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{Client, deliver, text_field};
use super::copies::Copies;
use super::read::{ASSIGNMENTS_PATH, assignments_text};
use super::running::{Caches, Conditions, Listen, Running, Signing};
use super::{Failure, mapping, print, table};
use crate::http::{Settings, WEBHOOK_PATH};
use crate::keys::ApiKeys;
use crate::verify::Keyring;

/// A story from `fixtures/`.
struct Story {
    events: &'static str,
    /// An operator's acts, each with the event that it follows.
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
A mapping gives roles to groups. In another company, on a server of its own, the members of the
group Engineering are developers, until the group is split and renamed.
";

const SECRET: &str = "whsec_demo";
const API_KEY: &str = "sk_demo";

/// Run a demo: a real server, two stories of webhooks, and questions about the past.
///
/// Needs no configuration. Uses a temporary folder and a free port of this machine.
#[derive(Args)]
pub(super) struct DemoArgs {
    /// Keep the server running afterwards, and print commands to try
    #[arg(long)]
    serve: bool,
}

/// A question of a story: one line of its questions.
#[derive(Deserialize)]
struct StoryQuestion {
    title: Option<String>,
    ask: String,
    status: u16,
    expect: Value,
    because: String,
}

/// An act of a story: one line of its acts.
#[derive(Deserialize)]
struct StoryAct {
    after: usize,
    title: Option<String>,
    method: String,
    path: String,
    body: Option<Value>,
    status: u16,
    expect: Value,
    because: String,
}

impl DemoArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let folder = tempfile::tempdir().map_err(Failure::ours)?;
        let stays_up = self.serve;
        start(folder.path())?.run_with(API_KEY, stays_up, move |client| {
            print(&format!(
                "A server is listening at {}, its log in an empty temporary folder.\n\n",
                client.base
            ))?;
            let mut player = Player::default();
            player.play(client, &PEOPLE)?;
            print(ROLES_BEGIN)?;
            let folder = tempfile::tempdir().map_err(Failure::ours)?;
            start(folder.path())?
                .run_with(API_KEY, false, move |client| player.play(client, &ROLES))?;
            if stays_up { print(&lines_to_try(&client.base)) } else { Ok(()) }
        })
    }
}

fn start(folder: &Path) -> Result<Running, Failure> {
    let settings = Settings::new(Keyring::new([SECRET], 180_000), ApiKeys::unrestricted([API_KEY]));
    let caches = Caches { documents: 16 << 20, store: 64 << 20 };
    let signing = Signing::Own { file: None, replace_by: None };
    let copies = Copies::nowhere();
    let conditions = Conditions::default();
    let listen = Listen::loopback();
    Ok(Running::start_with(&listen, folder, settings, caches, conditions, signing, copies)?)
}

/// Plays stories, and numbers the answers that it shows.
#[derive(Default)]
struct Player {
    number: u32,
}

impl Player {
    /// Sends a story's events, does its acts, asks its questions, and prints those with a title.
    fn play(&mut self, client: &Client, story: &Story) -> Result<(), Failure> {
        let acts: Vec<StoryAct> = lines_of(story.acts)?;
        let sent = story.events.lines().count();
        let mut records = 0;
        for (at, event) in story.events.lines().enumerate() {
            self.act(client, acts.iter().filter(|act| act.after == at))?;
            records = send(client, event)?.unwrap_or(records);
        }
        self.act(client, acts.iter().filter(|act| act.after >= sent))?;
        let gap = if acts.is_empty() { "" } else { "\n" };
        print(&format!(
            "{gap}Sent {sent} signed webhooks; each was answered once it was on disk and folded. \
             The log has {records} records.\n"
        ))?;
        let questions: Vec<StoryQuestion> = lines_of(story.questions)?;
        for question in &questions {
            self.ask(client, question)?;
        }
        print(&format!(
            "\nAll {} questions of the story were answered as it says.\n",
            questions.len()
        ))
    }

    fn ask(&mut self, client: &Client, question: &StoryQuestion) -> Result<(), Failure> {
        let StoryQuestion { title, ask, status, expect, because } = question;
        let answer = client.get(ask)?;
        let said = answer.json::<Value>()?;
        let is_right = answer.status == *status && holds(expect, &said);
        check(is_right, ask, answer.status, &said, because)?;
        let Some(title) = title else { return Ok(()) };
        let shown = if ask.starts_with(ASSIGNMENTS_PATH) {
            assignments_text(client, &answer)?
        } else {
            show(answer.status, &said)
        };
        self.show(title, &format!("GET {}", shortened(ask)), &shown, because)
    }

    fn act<'a>(
        &mut self,
        client: &Client,
        acts: impl Iterator<Item = &'a StoryAct>,
    ) -> Result<(), Failure> {
        for act in acts {
            let body = act.body.clone().unwrap_or_default();
            let answer = match act.method.as_str() {
                "PUT" => client.put(&act.path, &body, None),
                "POST" => client.post(&act.path, Some(&body)),
                _ => client.get(&act.path),
            }?;
            let (status, answer) = (answer.status, answer.json::<Value>()?);
            check(
                status == act.status && holds(&act.expect, &answer),
                &act.path,
                status,
                &answer,
                &act.because,
            )?;
            let Some(title) = &act.title else { continue };
            let shown = if act.path.ends_with("/preview") {
                mapping::preview_text(client, &body)?
            } else {
                mapping::set_text(&answer)
            };
            self.show(title, &format!("{} {}", act.method, act.path), &shown, &act.because)?;
        }
        Ok(())
    }

    /// Prints an answer below its question. A reason in a story begins with the number of its rule
    /// in docs/semantics.md, which is not printed.
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

fn lines_of<T: DeserializeOwned>(lines: &str) -> Result<Vec<T>, Failure> {
    lines.lines().map(|line| serde_json::from_str(line).map_err(Failure::ours)).collect()
}

/// Sends an event as a webhook. Returns the seq of its record.
fn send(client: &Client, event: &str) -> Result<Option<u64>, Failure> {
    let url = format!("{}{WEBHOOK_PATH}", client.base);
    let delivered = deliver(&client.agent, &url, SECRET, event.as_bytes(), || false)?;
    if delivered.status != 200 {
        return Err(Failure::Ours(format!(
            "a webhook was answered with {}: {}",
            delivered.status, delivered.answer
        )));
    }
    Ok(delivered.answer.get("seq").and_then(Value::as_u64))
}

/// Checks that an answer was the one that the story expects.
///
/// # Errors
/// Ours, if it was not.
fn check(
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

/// Returns whether every key of `expected` is in `answer` with an equal value. Arrays match one by
/// one.
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

/// Returns a path in which ids are shortened to their ends.
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

/// Returns users as a table, or the message of an error.
fn show(status: u16, answer: &Value) -> String {
    if status != 200 {
        return format!("{status} {}", text_field(answer, "message"));
    }
    let rows: Vec<Vec<String>> = match answer.get("data").and_then(Value::as_array) {
        Some(users) => users.iter().map(user_row).collect(),
        None => vec![user_row(answer)],
    };
    table::draw(&["name", "email", "groups"], &rows)
}

fn user_row(user: &Value) -> Vec<String> {
    let groups = user.get("groups").and_then(Value::as_array).into_iter().flatten();
    let groups: Vec<&str> = groups.map(|group| text_field(group, "name")).collect();
    let name = format!("{} {}", text_field(user, "first_name"), text_field(user, "last_name"));
    vec![name, text_field(user, "email").to_owned(), groups.join(", ")]
}

fn lines_to_try(base: &str) -> String {
    let paths = [
        "/directory_users?directory=directory_01K424MH00XFE6WM17PR9ASN2Y",
        "/directory_users?directory=directory_01K424MH00XFE6WM17PR9ASN2Y\
         &as_of=2026-03-02T08:59:59.999Z",
        "/directory_users/directory_user_01K424MJ3048WHJA7G74J4MK1K?as_of=2026-03-20T17:29:59.999Z",
    ];
    let requests = paths
        .map(|path| format!("  curl -sS -H 'Authorization: Bearer {API_KEY}' '{base}{path}'\n"));
    format!(
        "\nThe server with the first story runs until Ctrl-C. In another terminal:\n\n  \
         export ROLLCALL_URL={base} ROLLCALL_API_KEY={API_KEY}\n  \
         rollcall users --directory directory_01K424MH00XFE6WM17PR9ASN2Y\n  \
         rollcall audit jabernathy@halden-robotics.example\n\
         \nThe same over HTTP, now and at moments in the past:\n\n{}",
        requests.concat()
    )
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
    fn ids_are_shortened() {
        assert_eq!(
            shortened("/directory_users/directory_user_01K424MJ3048WHJA7G74J4MK1K?limit=1"),
            "/directory_users/directory_user_…MK1K?limit=1"
        );
    }
}
