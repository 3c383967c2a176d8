//! The stories in `fixtures/`: every question has the answer that the story gives.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::kit::server::{Server, holds};

#[derive(Deserialize)]
pub struct Question {
    pub ask: String,
    pub status: u16,
    pub expect: Value,
    pub because: String,
}

/// An operator's request in the middle of a story.
#[derive(Deserialize)]
pub struct Act {
    /// The number of events delivered before it.
    pub after: usize,
    pub method: String,
    pub path: String,
    pub body: Option<Value>,
    pub status: u16,
    pub expect: Value,
    pub because: String,
}

/// One step of a story.
pub enum Step<'a> {
    Event(&'a str),
    Act(&'a Act),
}

pub struct Story {
    pub name: String,
    pub events: Vec<String>,
    pub acts: Vec<Act>,
    pub deciding: Vec<String>,
    pub questions: Vec<Question>,
}

pub fn stories() -> Vec<Story> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut folders: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders.into_iter().map(read_story).collect()
}

fn read_story(folder: PathBuf) -> Story {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let lines = |name: &str| read(name).lines().map(str::to_owned).collect::<Vec<String>>();
    let story: Value = serde_json::from_str(&read("story.json")).unwrap();
    Story {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        events: lines("events.jsonl"),
        acts: if folder.join("acts.jsonl").exists() {
            lines("acts.jsonl").iter().map(|line| serde_json::from_str(line).unwrap()).collect()
        } else {
            Vec::new()
        },
        deciding: story["deciding"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_str().unwrap().to_owned())
            .collect(),
        questions: lines("questions.jsonl")
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    }
}

impl Story {
    /// Checks that `ask` gets the answers that the story gives.
    pub fn check(
        &self,
        questions: impl Iterator<Item = usize>,
        order: &str,
        ask: impl Fn(&str) -> (u16, Value),
    ) {
        for question in questions.map(|at| &self.questions[at]) {
            let (status, answer) = ask(&question.ask);
            assert!(
                status == question.status && holds(&question.expect, &answer),
                "{} ({order}): {}\n expected {} {}\n because {}\n but got {status} {answer}",
                self.name,
                question.ask,
                question.status,
                question.expect,
                question.because
            );
        }
    }

    /// Checks that an act gets the answer that the story gives.
    pub fn check_act(&self, act: &Act, status: u16, answer: &Value) {
        let Act { after, method, path, body, status: expected, expect, because } = act;
        let body = body.clone().unwrap_or_default();
        assert!(
            status == *expected && holds(expect, answer),
            "{}, after {after} events: {method} {path} {body}\n expected {expected} {expect}\n \
             because {because}\n but got {status} {answer}",
            self.name
        );
    }

    /// The acts that change something, at their places: what the others are answered depends on
    /// which events came before them.
    pub fn deeds(&self) -> impl Iterator<Item = &Act> + Clone {
        self.acts.iter().filter(|act| {
            act.status == 200 && act.method != "GET" && !act.path.ends_with("/preview")
        })
    }

    /// Events, with acts each after as many of them as it stands behind.
    pub fn steps<'a>(
        events: impl IntoIterator<Item = &'a str>,
        acts: impl Iterator<Item = &'a Act> + Clone,
    ) -> Vec<Step<'a>> {
        let events: Vec<&str> = events.into_iter().collect();
        let mut steps = Vec::new();
        for at in 0..=events.len() {
            steps.extend(acts.clone().filter(|act| act.after == at).map(Step::Act));
            steps.extend(events.get(at).map(|event| Step::Event(event)));
        }
        steps
    }

    /// The questions whose answers do not depend on the order of delivery.
    pub fn orderless(&self) -> impl Iterator<Item = usize> {
        let fixed = |question: &Question| {
            ["known_at=", "/quarantine", "/changes"].iter().any(|part| question.ask.contains(part))
        };
        self.questions
            .iter()
            .enumerate()
            .filter(move |(_, question)| !fixed(question))
            .map(|(at, _)| at)
    }

    /// The events with the deciding six in the `number`th of their 720 orders.
    pub fn reordered(&self, number: usize) -> Vec<&str> {
        let is_deciding = |event: &str| {
            let id = serde_json::from_str::<Value>(event)
                .ok()
                .and_then(|event| Some(event["id"].as_str()?.to_owned()));
            id.is_some_and(|id| self.deciding.contains(&id))
        };
        let (six, rest): (Vec<&str>, Vec<&str>) =
            self.events.iter().map(String::as_str).partition(|event| is_deciding(event));
        assert_eq!(six.len(), 6, "{}", self.name);
        let first = self.events.iter().position(|event| is_deciding(event)).unwrap();
        let mut events = rest[..first].to_vec();
        events.extend(permutation(number, six));
        events.extend(&rest[first..]);
        events
    }
}

/// The `number`th permutation, by the factorial number system.
fn permutation<T>(mut number: usize, mut items: Vec<T>) -> Vec<T> {
    let mut out = Vec::new();
    while !items.is_empty() {
        let at = number % items.len();
        number /= items.len();
        out.push(items.remove(at));
    }
    out
}

#[test]
fn the_permutations_are_720_different_ones() {
    let all: std::collections::BTreeSet<Vec<u8>> =
        (0..720).map(|number| permutation(number, vec![0, 1, 2, 3, 4, 5])).collect();
    assert_eq!(all.len(), 720);
}

#[test]
fn every_question_of_every_story_is_answered_as_it_says() {
    let stories = stories();
    assert!(stories.len() >= 8);
    for story in stories {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path());
        assert!(story.acts.iter().all(|act| act.after <= story.events.len()), "{}", story.name);
        for step in Story::steps(story.events.iter().map(String::as_str), story.acts.iter()) {
            match step {
                Step::Event(event) => drop(server.deliver(event)),
                Step::Act(act) => {
                    let answer = server.act(&act.method, &act.path, act.body.as_ref());
                    story.check_act(act, answer.status, &answer.json());
                }
            }
        }
        let ask = |path: &str| {
            let answer = server.get(path);
            (answer.status, answer.json())
        };
        story.check(0..story.questions.len(), "as written", ask);
        // And again from the disk, by a server that folds from zero.
        assert_eq!(server.stop(), 0);
        let server = Server::start(folder.path());
        let ask = |path: &str| {
            let answer = server.get(path);
            (answer.status, answer.json())
        };
        story.check(0..story.questions.len(), "after a restart", ask);
    }
}

#[test]
fn six_orders_of_the_deciding_events_give_the_same_answers_over_http() {
    for story in stories() {
        for number in [1, 100, 250, 444, 600, 719] {
            let folder = tempfile::tempdir().unwrap();
            let server = Server::start(folder.path());
            for step in Story::steps(story.reordered(number), story.deeds()) {
                match step {
                    Step::Event(event) => drop(server.deliver(event)),
                    Step::Act(act) => assert_eq!(
                        server.act(&act.method, &act.path, act.body.as_ref()).status,
                        act.status
                    ),
                }
            }
            let ask = |path: &str| {
                let answer = server.get(path);
                (answer.status, answer.json())
            };
            story.check(story.orderless(), &format!("order {number}"), ask);
        }
    }
}
