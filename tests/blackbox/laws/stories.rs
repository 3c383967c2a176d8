//! The stories in `fixtures/`: every question has the answer that the story gives.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rollcall::engine::{Discovery, Engine, ObservationOutcome};
use rollcall::log::{Log, MemoryLog};
use rollcall::verify::Observation;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::calls::openapi::faults;
use crate::kit::case::{described_by, observed, source};
use crate::kit::model::observations::Thing;
use crate::kit::model::read_time;
use crate::kit::road::{AsyncAsk, act, asking, engine, get, memory_log, post};
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

/// What the source said when it was asked, or the end of a comparison with it.
#[derive(Deserialize)]
pub struct Answer {
    /// The number of events delivered before it.
    pub after: usize,
    asked_at: Option<String>,
    user: Option<String>,
    group: Option<String>,
    directory: Option<String>,
    /// The source's object, `true` for a membership, or null if the thing is not there.
    object: Option<Value>,
    occurs_at: Option<String>,
    because: Option<String>,
    /// Of a comparison: when it began, and the directories that it compared without a doubt.
    started_at: Option<String>,
    clean: Option<Vec<String>>,
}

impl Answer {
    /// Records it, and checks when it occurs.
    fn record(&self, engine: &Engine, log: &MemoryLog) {
        let moment = |text: &Option<String>| text.as_deref().and_then(read_time).unwrap();
        if let Some(clean) = &self.clean {
            let run = format!("run_{}", self.started_at.as_deref().unwrap());
            let data = json!({ "clean_directories": clean });
            engine.end_reconciliation(&source(), &run, moment(&self.started_at), data).unwrap();
            return;
        }
        let id = |id: &Option<String>| id.clone().unwrap();
        let thing = match (&self.user, &self.group) {
            (Some(user), Some(group)) => {
                Thing::Membership(user.clone(), group.clone(), id(&self.directory))
            }
            (Some(user), None) => Thing::User(user.clone(), id(&self.directory)),
            (None, Some(group)) => Thing::Group(group.clone(), id(&self.directory)),
            (None, None) => Thing::Directory(id(&self.directory)),
        };
        let compared_with = described_by(engine, &thing);
        let observation = Observation {
            observed: observed(&thing, self.object.as_ref().map(Value::to_string)),
            observed_at: moment(&self.asked_at),
            run: "run_1".to_owned(),
        };
        let discovery = Discovery { observation, compared_with };
        let found = engine.begin_to_observe(&source(), vec![discovery]).unwrap().wait().unwrap();
        let [ObservationOutcome::Recorded(seq)] = found[..] else { panic!("{thing:?}: {found:?}") };
        let body: Value = serde_json::from_slice(&log.bodies(&[seq]).unwrap()[0]).unwrap();
        assert_eq!(body["created_at"].as_str(), self.occurs_at.as_deref(), "{:?}", self.because);
    }
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
    /// What the source said, in order.
    pub answers: Vec<Answer>,
    pub deciding: Vec<String>,
    pub questions: Vec<Question>,
}

/// Returns the stories of webhooks and acts.
pub fn stories() -> Vec<Story> {
    all_stories().into_iter().filter(|story| story.answers.is_empty()).collect()
}

pub fn all_stories() -> Vec<Story> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut folders: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // Others are made of requests of identity providers: see `scim/stories.rs`.
        .filter(|path| path.join("events.jsonl").is_file())
        .collect();
    folders.sort();
    folders.into_iter().map(read_story).collect()
}

fn read_story(folder: PathBuf) -> Story {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let lines = |name: &str| read(name).lines().map(str::to_owned).collect::<Vec<String>>();
    let lines_if_any =
        |name: &str| if folder.join(name).exists() { lines(name) } else { Vec::new() };
    let story: Value = serde_json::from_str(&read("story.json")).unwrap();
    Story {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        events: lines("events.jsonl"),
        acts: lines_if_any("acts.jsonl")
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
        answers: lines_if_any("observations.jsonl")
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
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

/// The calls whose answers about observations are compared with the schemas that describe them.
const DESCRIBED: [(&str, &str); 3] = [
    ("/rollcall/v1/deprovisionings", "/rollcall/v1/deprovisionings"),
    ("/rollcall/v1/links", "/rollcall/v1/links"),
    ("/rollcall/v1/users/", "/rollcall/v1/users/{id}/access"),
];

impl Story {
    /// Plays the story to the routes of this process, where the source's answers have the moments
    /// that the story gives them.
    fn play(&self, engine: Arc<Engine>, log: &MemoryLog) -> HashMap<String, (u16, Value)> {
        let told = engine.clone();
        asking(Some(engine), async |server| {
            for at in 0..=self.events.len() {
                for answer in self.answers.iter().filter(|answer| answer.after == at) {
                    // It waits for the writer, which a thread of the routes must not.
                    std::thread::scope(|scope| {
                        scope.spawn(|| answer.record(&told, log)).join().unwrap();
                    });
                }
                for deed in self.acts.iter().filter(|act| act.after == at) {
                    let (status, answer) = server.call(act(deed)).await;
                    self.check_act(deed, status.as_u16(), &answer);
                }
                if let Some(event) = self.events.get(at) {
                    assert_eq!(server.call(post(event.as_bytes())).await.0.as_u16(), 200);
                }
            }
            self.ask_all(server).await
        })
    }

    /// Asks every question, and checks that the answers have the shapes that are described.
    async fn ask_all(&self, server: &dyn AsyncAsk) -> HashMap<String, (u16, Value)> {
        let (_, document) = server.call(get("/openapi.json")).await;
        let mut answers = HashMap::new();
        for Question { ask, .. } in &self.questions {
            let (status, answer) = server.call(get(ask)).await;
            let described = DESCRIBED.iter().find(|(begin, _)| ask.starts_with(begin));
            if let Some((_, path)) = described.filter(|_| status.as_u16() == 200) {
                let faults = faults(&document, path, &answer);
                assert!(faults.is_empty(), "{}: {ask}: {faults:?}", self.name);
            }
            answers.insert(ask.clone(), (status.as_u16(), answer));
        }
        answers
    }
}

#[test]
fn every_question_of_a_story_with_observations_is_answered_as_it_says() {
    let stories: Vec<Story> =
        all_stories().into_iter().filter(|story| !story.answers.is_empty()).collect();
    assert!(!stories.is_empty());
    for story in stories {
        let log = memory_log([]);
        let all = 0..story.questions.len();
        let answers = story.play(engine(log.clone()), &log);
        story.check(all.clone(), "as written", |path| answers[path].clone());
        // And again by one that folds from zero.
        let answers = asking(Some(engine(log)), async |server| story.ask_all(server).await);
        story.check(all, "after a restart", |path| answers[path].clone());
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
