//! The naive model and the server agree: random histories, random deliveries, random questions in
//! both clocks.

use std::collections::BTreeMap;
use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::calls::shapes::check_against_bodies;
use crate::kit::compare::check_histories;
use crate::kit::histories::{EVENT_TYPES, Question, ask_for_types, history, question};
use crate::kit::model::{Cut, World};
use crate::kit::server::{Server, holds, now_ms};
use crate::kit::stage::deliver_recorded;

/// Histories in a run at scale 1.
const HISTORIES: u64 = 20;
const QUESTIONS: usize = 100;

#[derive(Default)]
struct Tally {
    by_endpoint: BTreeMap<String, u64>,
    not_empty: u64,
    asked: u64,
}

#[test]
fn any_question_at_any_cut_after_any_delivery_is_answered_as_the_model_says() {
    let tally = Mutex::new(Tally::default());
    let histories = check_histories(HISTORIES, |seed| check(seed, &tally));
    let tally = tally.into_inner().unwrap();
    println!("{} questions, {} not empty, {:?}", tally.asked, tally.not_empty, tally.by_endpoint);
    assert_eq!(tally.asked, histories * QUESTIONS as u64);
    assert!(tally.not_empty * 2 >= tally.asked);
    assert_eq!(tally.by_endpoint.len(), 7);
    assert!(tally.by_endpoint.values().all(|asked| *asked >= histories * 5));
}

fn check(seed: u64, tally: &Mutex<Tally>) {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
    let (mut world, mut server) = (World::new(), Server::start(folder.path()));
    let mut known_then = Vec::new();
    let history = history(seed);
    let restart_after = rng.random_range(0..history.deliveries.len() * 2);
    let mut follower = seed.is_multiple_of(FOLLOWED_EACH).then(|| Follower::new(&mut rng));
    for (index, delivery) in history.deliveries.iter().enumerate() {
        let t_ms = now_ms() + delivery.shift_ms;
        let answer = server.post_at(&delivery.body, t_ms);
        let receipt = deliver_recorded(&mut world, &server, &delivery.body, t_ms);
        let expected = json!({"seq": receipt.seq, "event_id": receipt.event_id,
            "duplicate": receipt.duplicate, "conflict": receipt.conflict});
        let text = String::from_utf8_lossy(&delivery.body);
        assert_eq!(
            (answer.status, answer.json()),
            (200, expected),
            "history {seed}, delivery {index}: {text}"
        );
        if rng.random_bool(0.02) {
            // The moment after an answer and before the next: what `known_at` in time is asked
            // with.
            let moment = now_ms();
            while now_ms() == moment {}
            known_then.push((moment, world.head()));
        }
        if index == restart_after {
            assert_eq!(server.stop(), 0);
            server = Server::start(folder.path());
        }
        if let Some(follower) = follower.as_mut().filter(|_| world.head() <= FOLLOWED_MAX) {
            follower.ask_again(seed, &server, &world);
        }
    }
    for _ in 0..QUESTIONS {
        compare(seed, &server, &world, &question(&mut rng, &world), tally);
    }
    for _ in 0..WALKS {
        walk(seed, &server, &world, &mut rng);
    }
    let latest = server.get(&format!(
        "/events?events={}&limit=100&known_at={}",
        EVENT_TYPES.join(","),
        world.head()
    ));
    check_against_bodies(&latest.body, &world.sent());
    for (moment, head) in known_then {
        let mut question = question(&mut rng, &world);
        question.cut.known_at = Some(head);
        let by_seq = server.get(&question.url());
        question.cut.known_at = None;
        let separator = if question.url().contains('?') { '&' } else { '?' };
        let by_time = server.get(&format!(
            "{}{separator}known_at={}",
            question.url(),
            crate::kit::model::rfc3339(moment)
        ));
        assert_eq!(by_time.body, by_seq.body, "history {seed}, known at {moment}: {question:?}");
        // A question that is refused was not cut.
        if by_time.status != 422 && by_time.status != 400 {
            assert_eq!(by_time.header("rollcall-known-at"), Some(head.to_string().as_str()));
        }
    }
    let listed = server.get("/rollcall/v1/quarantine?limit=1000").json();
    let keys = ["seq", "event_id", "event", "reason"];
    let listed: Vec<Value> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| json!(keys.map(|key| &entry[key])))
        .collect();
    let expected: Vec<Value> = world.quarantine().into_iter().map(|entry| json!(entry)).collect();
    assert_eq!(listed, expected, "history {seed}");
}

fn compare(seed: u64, server: &Server, world: &World, question: &Question, tally: &Mutex<Tally>) {
    let (status, expected) = world.get(&question.path, &question.query, question.cut);
    let answer = server.get(&question.url());
    let found = answer.json();
    // Of a refusal the model knows the code alone.
    let same = if status == 422 { holds(&expected, &found) } else { expected == found };
    assert!(
        answer.status == status && same,
        "history {seed}: {}\n server {} {found}\n model  {status} {expected}\n {}",
        question.url(),
        answer.status,
        first_difference(&found, &expected)
    );
    let endpoint = match question.path.match_indices('/').nth(1) {
        Some((at, _)) => format!("{}/{{id}}", &question.path[..at]),
        None => question.path.clone(),
    };
    let mut tally = tally.lock().unwrap();
    *tally.by_endpoint.entry(endpoint).or_default() += 1;
    tally.asked += 1;
    tally.not_empty += u64::from(status == 200 && expected["data"] != json!([]));
}

/// Returns the first place in which two answers differ.
pub fn first_difference(server: &Value, model: &Value) -> String {
    match (server, model) {
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let parted =
                left.iter().zip(right).enumerate().find(|(_, (left, right))| left != right);
            parted.map_or(String::new(), |(at, (left, right))| {
                format!("[{at}]{}", first_difference(left, right))
            })
        }
        (Value::Object(left), Value::Object(right)) => {
            let parted =
                left.keys().chain(right.keys()).find(|key| left.get(*key) != right.get(*key));
            parted.map_or(String::new(), |key| {
                format!(".{key}{}", first_difference(&server[key], &model[key]))
            })
        }
        _ => format!(": server {server}, model {model}"),
    }
}

// --- Events, page by page ---

/// Lists of events that are walked to their end, in each history.
const WALKS: usize = 3;

/// One history of `FOLLOWED_EACH` is followed while it is delivered, up to `FOLLOWED_MAX` records.
const FOLLOWED_EACH: u64 = 8;
const FOLLOWED_MAX: u64 = 150;

/// All pages of a list, by `after`.
fn all_pages(server: &Server, question: &Question) -> Vec<Value> {
    let mut items = Vec::new();
    let mut page = question.clone();
    loop {
        let answer = server.get(&page.url());
        assert_eq!(answer.status, 200, "{}: {}", page.url(), answer.json());
        let body = answer.json();
        let data = body["data"].as_array().unwrap();
        items.extend(data.iter().cloned());
        let Some(after) = body["list_metadata"]["after"].as_str() else { return items };
        assert_eq!(data.last().unwrap()["id"], after, "{}", page.url());
        page = question.clone();
        // A range goes with the first page only.
        page.query.retain(|(key, _)| !key.starts_with("range_"));
        page.query.push(("after".to_owned(), after.to_owned()));
    }
}

/// Checks that the pages of a random list make up the list.
fn walk(seed: u64, server: &Server, world: &World, rng: &mut StdRng) {
    let mut cut = question(rng, world).cut;
    if rng.random_bool(0.5) {
        cut = Cut::default();
    }
    let count = if rng.random_bool(0.5) {
        EVENT_TYPES.len()
    } else {
        rng.random_range(1..EVENT_TYPES.len())
    };
    let types: Vec<&str> = EVENT_TYPES.sample(rng, count).copied().collect();
    let mut query = vec![("limit".to_owned(), rng.random_range(1..=30).to_string())];
    ask_for_types(rng, &types, &mut query);
    if let (Some(organization), true) =
        (world.ids().organizations.choose(rng), rng.random_bool(0.5))
    {
        query.push(("organization_id".to_owned(), organization.clone()));
    }
    let walked = Question { path: "/events".to_owned(), query, cut };
    let items = all_pages(server, &walked);
    let expected = world.all_events(&walked.query, cut);
    assert_eq!(items.len(), expected.len(), "history {seed}: {}", walked.url());
    for (item, expected) in items.iter().zip(&expected) {
        assert_eq!(
            item,
            expected,
            "history {seed}: {}\n {}",
            walked.url(),
            first_difference(item, expected)
        );
    }
}

/// A reader that asks from the beginning after each delivery, and must find all it found before,
/// unchanged and in the same place.
struct Follower {
    types: Vec<&'static str>,
    /// By organization, the empty one for all: what was found.
    found: BTreeMap<String, Vec<Value>>,
}

impl Follower {
    fn new(rng: &mut StdRng) -> Follower {
        let count = rng.random_range(6..=EVENT_TYPES.len());
        Follower {
            types: EVENT_TYPES.sample(rng, count).copied().collect(),
            found: BTreeMap::new(),
        }
    }

    fn ask_again(&mut self, seed: u64, server: &Server, world: &World) {
        // One after the other: each is asked about every few deliveries.
        let mut organizations = world.ids().organizations;
        organizations.push(String::new());
        let organization = &organizations[world.head() as usize % organizations.len()];
        let mut query = vec![
            ("events".to_owned(), self.types.join(",")),
            ("limit".to_owned(), "100".to_owned()),
        ];
        if !organization.is_empty() {
            query.push(("organization_id".to_owned(), organization.clone()));
        }
        let now =
            all_pages(server, &Question { path: "/events".to_owned(), query, cut: Cut::default() });
        let before = self.found.insert(organization.clone(), now.clone()).unwrap_or_default();
        assert!(
            now.starts_with(&before),
            "history {seed}, after record {}, organization `{organization}`",
            world.head()
        );
    }
}
