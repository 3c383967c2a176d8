//! The stories in `fixtures/` that are made of an identity provider's requests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::kit::scim::Directory;
use crate::kit::server::{Server, holds};
use crate::laws::stories::Question;

/// A request, what it is answered, and the events that it becomes.
#[derive(Deserialize)]
struct Request {
    method: String,
    path: String,
    body: Option<Value>,
    status: u16,
    #[serde(default)]
    expect: Option<Value>,
    events: Vec<Value>,
    /// Names for values of the answer and of the events, by their places.
    #[serde(default)]
    keep: BTreeMap<String, String>,
    because: String,
}

/// The names that lines use in braces.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    /// Returns a line with the values in place of their names.
    fn within(&self, line: &str) -> String {
        let put = |line: String, (name, value): (&String, &String)| {
            line.replace(&format!("{{{name}}}"), value)
        };
        self.0.iter().fold(line.to_owned(), put)
    }
}

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.join("requests.jsonl").is_file()).collect()
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

/// Sends the requests of a story, and expects what each is answered and becomes.
fn tell(directory: &Directory, folder: &Path, names: &mut Names) {
    let mut seen = 0;
    for line in read(folder, "requests.jsonl").lines() {
        let request: Request = serde_json::from_str(&names.within(line)).unwrap();
        let Request { method, path, body, status, expect, events, keep, because } = request;
        let answer = directory.call(&method, &path, body.as_ref());
        let shown: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let became: Vec<Value> = directory.events().into_iter().skip(seen).collect();
        seen += became.len();
        let about =
            format!("{method} {path}\n because {because}\n but got {} {shown}", answer.status);
        assert_eq!(answer.status, status, "{about}");
        assert!(expect.is_none_or(|expect| holds(&expect, &shown)), "{about}");
        assert!(holds(&json!(events), &json!(became)), "{about}\n and {became:?}");
        let all = json!({ "answer": shown, "events": became });
        for (name, place) in keep {
            let value = all.pointer(&place).and_then(Value::as_str);
            let value = value.unwrap_or_else(|| panic!("{about}: nothing is at {place}"));
            assert!(!names.0.values().any(|other| other == value), "{about}: the id is not new");
            names.0.insert(name, value.to_owned());
        }
    }
}

fn ask(server: &Server, folder: &Path, names: &Names) {
    for line in read(folder, "questions.jsonl").lines() {
        let question: Question = serde_json::from_str(&names.within(line)).unwrap();
        let answer = server.get(&question.ask);
        let (status, shown) = (answer.status, answer.json());
        assert!(
            status == question.status && holds(&question.expect, &shown),
            "{}\n because {}\n but got {status} {shown}",
            question.ask,
            question.because
        );
    }
}

#[test]
fn every_request_of_a_story_becomes_what_it_says() {
    let stories = stories();
    assert!(!stories.is_empty());
    for story in stories {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path());
        let told: Value = serde_json::from_str(&read(&story, "story.json")).unwrap();
        let deactivation = told["deactivation"].as_str().unwrap();
        let directory = Directory::create(&server, "org_brackwater", deactivation);
        let mut names = Names::default();
        names.0.insert("directory".to_owned(), directory.id.clone());
        tell(&directory, &story, &mut names);
        directory.expect_events_to_tell_all();
        ask(&server, &story, &names);
        // And again from the disk.
        assert_eq!(server.stop(), 0);
        let server = Server::start(folder.path());
        directory.on(&server).expect_events_to_tell_all();
        ask(&server, &story, &names);
    }
}
