//! Random changes of real headers, bodies, queries and mappings: nothing panics, and what is read
//! twice is read alike. `ROLLCALL_FUZZ_S` makes each run for so many seconds, with fresh seeds.
//!
//! Each run begins with tests/blackbox/corpus: for each outcome that was ever seen, the first text
//! that had it. `ROLLCALL_FUZZ_KEEP=1` adds the texts of this run that have a new outcome.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall::verify::{
    Facts, Keyring, SignatureHeader, Verified, extract, mapping_json, parse_mapping,
};
use serde_json::Value;

use crate::kit::server::{SECRET, Server, now_ms, signature, user};

/// The random changes that the ordinary tests make of each text.
const CASES: u64 = 3000;

/// The most bytes of a text of the corpus, and the most texts of each kind.
const KEPT_BYTES_MAX: usize = 400;
const KEPT_MAX: usize = 120;

/// Pieces that the grammars give a meaning.
const PIECES: [&str; 32] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "=",
    "&",
    "%",
    "%00",
    "%C3",
    "null",
    "true",
    "-1",
    "0",
    "1e400",
    "18446744073709551616",
    "\\ud800",
    "\\u0000",
    "é",
    "\u{202e}",
    "\u{1b}[2J",
    " ",
    "\n",
    "*",
    "?",
    "v1=",
    "t=",
    "\"id\":",
    "latest",
];

/// The texts of one kind that are kept in a file, one on each line, with the outcomes seen so far.
struct Corpus {
    path: PathBuf,
    texts: Vec<Vec<u8>>,
    outcomes: BTreeSet<String>,
}

impl Corpus {
    fn read(kind: &str) -> Corpus {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox/corpus");
        let path = folder.join(format!("{kind}.txt"));
        let lines = fs::read_to_string(&path).unwrap_or_default();
        let texts = lines.lines().map(unescape).collect();
        Corpus { path, texts, outcomes: BTreeSet::new() }
    }

    /// Keeps a text if its outcome is new and it is to be kept.
    fn note(&mut self, text: &[u8], outcome: String) {
        let is_new = self.outcomes.insert(outcome);
        let has_room = text.len() <= KEPT_BYTES_MAX && self.texts.len() < KEPT_MAX;
        if keeps() && is_new && has_room && !self.texts.iter().any(|kept| kept == text) {
            self.texts.push(text.to_vec());
        }
    }

    fn write(&self) {
        if keeps() {
            let lines = self.texts.iter().map(|text| format!("{}\n", text.escape_ascii()));
            fs::write(&self.path, lines.collect::<String>()).unwrap();
        }
    }
}

fn keeps() -> bool {
    std::env::var_os("ROLLCALL_FUZZ_KEEP").is_some()
}

/// Reads what [`slice::escape_ascii`] has written.
fn unescape(line: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), line.bytes());
    while let Some(byte) = rest.next() {
        let escaped = if byte == b'\\' { rest.next() } else { None };
        bytes.push(match escaped {
            None => byte,
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            Some(other) => other,
        });
    }
    bytes
}

/// Returns what is left of a value's debug text without its texts and numbers.
fn shape(debugged: &str) -> String {
    let outside = debugged.split('"').step_by(2).collect::<String>();
    outside.chars().filter(|c| !c.is_ascii_digit() && !c.is_whitespace()).collect()
}

/// Calls `check`, which returns the outcome, with the corpus and with changes of `texts` until the
/// run is over.
fn each_change(kind: &str, texts: &[String], mut check: impl FnMut(&[u8]) -> String) {
    let mut corpus = Corpus::read(kind);
    assert!(keeps() || !corpus.texts.is_empty(), "the corpus of {kind} is there");
    for text in corpus.texts.clone() {
        let outcome = check(&text);
        corpus.note(&text, outcome);
    }
    each_random_change(texts, |text| {
        let outcome = check(text);
        corpus.note(text, outcome);
    });
    corpus.write();
}

fn each_random_change(texts: &[String], mut check: impl FnMut(&[u8])) {
    let seconds = std::env::var("ROLLCALL_FUZZ_S").ok().map(|text| text.parse().unwrap());
    let first = if seconds.is_some() { now_ms() as u64 } else { 0 };
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    texts.iter().for_each(|text| check(text.as_bytes()));
    for seed in first.. {
        let is_over = until.map_or(seed >= CASES, |until| Instant::now() >= until);
        if is_over {
            println!("{} changes of {} texts", seed - first, texts.len());
            return;
        }
        let mut rng = StdRng::seed_from_u64(seed);
        let mut text = texts[rng.random_range(0..texts.len())].clone().into_bytes();
        for _ in 0..rng.random_range(1..6) {
            change(&mut rng, &mut text, texts);
        }
        // A failure names its seed.
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&text)));
        assert!(shown.is_ok(), "seed {seed}: {}", String::from_utf8_lossy(&text));
    }
}

fn change(rng: &mut StdRng, text: &mut Vec<u8>, texts: &[String]) {
    let at = rng.random_range(0..=text.len());
    let end = rng.random_range(at..=text.len().min(at + 40));
    match rng.random_range(0..6) {
        0 => drop(text.drain(at..end)),
        1 => {
            let piece = PIECES[rng.random_range(0..PIECES.len())];
            text.splice(at..at, piece.bytes());
        }
        2 => {
            let copy = text[at..end].repeat(rng.random_range(1..200));
            text.splice(at..at, copy);
        }
        3 => {
            let other = &texts[rng.random_range(0..texts.len())].as_bytes();
            let from = rng.random_range(0..=other.len());
            text.splice(at..end, other[from..].iter().copied());
        }
        4 => text.insert(at, rng.random()),
        _ => {
            if let Some(byte) = text.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
    }
}

#[test]
fn a_changed_header_is_never_taken_for_a_signature() {
    let (now, body) = (1_768_478_400_000, b"{}");
    let good = signature(SECRET, &now.to_string(), body);
    let keyring = Keyring::new([SECRET], 180_000);
    // The corpus has the same secret and time, so its signatures are right for ever.
    let texts = [
        good.clone(),
        good.replace(", ", ","),
        format!("t={now}"),
        format!("v1={},t={now}", "0".repeat(64)),
        format!("{good},v1=00,v1=,v2=x"),
    ];
    let (_, mac) = good.split_once("v1=").unwrap();
    each_change("headers", &texts, |header| {
        let verified = Verified::webhook(&keyring, Some(header), body.to_vec().into(), now);
        let read = SignatureHeader::read([header]);
        let admitted = read.and_then(|header| keyring.admit(&header, now));
        if verified.is_ok() {
            // The MAC cannot be guessed: it must be there, and the time that it covers.
            let text = String::from_utf8_lossy(header).to_lowercase();
            assert!(text.contains(mac) && text.contains(&now.to_string()), "{text}");
            assert!(admitted.is_ok());
        }
        format!("{:?} {:?}", verified.map(drop), admitted)
    });
}

#[test]
fn any_body_is_extracted_and_its_facts_are_stored_and_read_alike() {
    let time = "2026-03-01T09:00:00.000Z";
    let texts = [
        user("u", "d", "ana", time, "e1", "dsync.user.created"),
        user("u", "d", "ana", time, "event_01H5Q3V3J7P7Y3Z9K0R2F5T8WX", "dsync.user.deleted"),
        r#"{"id":"e","event":"dsync.group.user_added","data":{"directory_id":"d","user":{"id":"u"},"group":{"id":"g","name":"n"}}}"#.to_owned(),
        r#"{"id":"e","event":"dsync.activated","data":{"id":"d","organization_id":"o","name":"n","domains":[{"domain":"x.example"}]}}"#.to_owned(),
        r#"{"id":"e","event":"user.created","data":{"updated_at":"2026-03-01T09:00:00Z"}}"#.to_owned(),
        "[]".to_owned(),
    ];
    each_change("bodies", &texts, |body| {
        let extracted = extract(body, Some(1_768_478_400_000));
        let stored = extracted.facts.encode();
        assert_eq!(Facts::decode(&stored).as_ref(), Some(&extracted.facts));
        if let Some(id) = &extracted.event_id {
            let is_own = ["op_", "obs_", "run_"].iter().any(|prefix| id.starts_with(prefix));
            assert!((1..=255).contains(&id.len()) && !is_own);
        }
        // The fold takes whatever was extracted.
        let again = extract(body, Some(1_768_478_400_000));
        assert_eq!(again.facts, extracted.facts);
        shape(&format!("{:?} {:?}", extracted.event_id.is_some(), extracted.facts))
    });
}

#[test]
fn a_mapping_that_is_taken_is_written_and_read_alike() {
    let texts = [
        r#"{"mode":"all","default_roles":["member"],"priority":[],"rules":[{"group":{"name":"Eng"},"roles":["dev"]}]}"#.to_owned(),
        r#"{"mode":"highest_priority","default_roles":[],"priority":["a","b"],"rules":[{"group":{"name_glob":"*x?"},"roles":["a"],"directory":"d"},{"group":{"id":"g"},"roles":["b"],"organization":"o"}]}"#.to_owned(),
        r#"{"mode":"all","default_roles":[],"priority":[],"rules":[{"attribute":"custom_attributes.level","values":{"3":["dev"]}}]}"#.to_owned(),
    ];
    let mut taken = 0;
    each_change("mappings", &texts, |text| {
        let Ok(value) = serde_json::from_slice::<Value>(text) else { return "no JSON".into() };
        match parse_mapping(&value) {
            Ok(mapping) => {
                taken += 1;
                let written = mapping_json(&mapping);
                assert_eq!(parse_mapping(&written).as_ref(), Ok(&mapping), "{written}");
                shape(&format!("{mapping:?}"))
            }
            Err(errors) => {
                assert!(!errors.is_empty());
                let named = errors.iter().map(|error| format!("{} {:?},", error.field, error.code));
                named.collect::<String>().replace(|c: char| c.is_ascii_digit(), "")
            }
        }
    });
    assert!(taken > 0);
}

#[test]
fn any_query_is_answered_or_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let time = "2026-03-01T09:00:00.000Z";
    server.deliver(&user("u", "d", "ana", time, "e1", "dsync.user.created"));
    let texts = [
        "directories?limit=1&order=asc&after=d&as_of=latest&known_at=1",
        "directory_users?directory=d&email=ana%40foo.example&state=active&limit=100",
        "directory_groups?user=u&members=true&before=x",
        "events?events=dsync.user.created&after=e1&range_start=2026-01-01T00:00:00Z",
        "rollcall/v1/diff?from=2026-01-01T00:00:00Z&to=latest&from_known_at=0&limit=5",
        "rollcall/v1/changes?after=0.1&wait=0",
        "rollcall/v1/users/u/history?after=1768478400000.0..ZXZlbnRfMQ&order=desc",
        "rollcall/v1/role_assignments?role=x&user=u&directory=d",
        "rollcall/v1/deprovisionings?since=2026-01-01T00:00:00Z&email=a",
        "rollcall/v1/log/proof/consistency?from=1&to=1",
    ]
    .map(str::to_owned);
    each_change("queries", &texts, |query| {
        // The path and the query must be a URL; all else is the server's to judge.
        let safe = |byte: &u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#[]".contains(byte);
        let query: String =
            query.iter().filter(|byte| safe(byte)).map(|byte| *byte as char).collect();
        if query.len() > 8000 || query.contains("wait=") && !query.contains("wait=0") {
            return "not asked".into();
        }
        let answer = server.get(&format!("/{query}"));
        assert!([200, 400, 404, 414, 422].contains(&answer.status), "{}: {query}", answer.status);
        if answer.status == 200 {
            return format!("200 {}", shape(&String::from_utf8_lossy(&answer.body)));
        }
        assert!(!answer.code().is_empty(), "{query}");
        let errors = answer.json()["errors"].as_array().cloned().unwrap_or_default();
        let codes = errors.iter().map(|error| format!("{} ", error["code"]));
        format!("{} {} {}", answer.status, answer.code(), codes.collect::<String>())
    });
}
