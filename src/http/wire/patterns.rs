//! Tests that the regular expressions in `/openapi.json` admit exactly the texts that are read.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rollcall_projections::{DifferencePlace, EventPlace, Millis};
use serde_json::json;

use super::api::{MOMENT_PATTERN, Takes};
use super::paging::{CursorPlace, ItemNumber};
use super::question::parse_moment;
use crate::time;
use crate::verify::{ATTRIBUTE_PATH_PATTERN, is_path};

/// The number of changed texts that are judged for each pattern.
const TEXTS: usize = 20_000;

/// Changes texts at random and asserts that the pattern and the judge agree on each, and that both
/// kinds of answer came up.
pub(crate) fn assert_agree(
    pattern: &str,
    reads: impl Fn(&str) -> bool,
    texts: &[&str],
    characters: &str,
) {
    let validator = jsonschema::validator_for(&json!({ "pattern": pattern })).unwrap();
    let characters: Vec<char> = characters.chars().collect();
    let mut random = StdRng::seed_from_u64(1);
    let mut answers = [0, 0];
    for number in 0..TEXTS {
        let mut text: Vec<char> = texts[number % texts.len()].chars().collect();
        for _ in 0..random.random_range(0..4) {
            let at = random.random_range(0..=text.len());
            let character = characters[random.random_range(0..characters.len())];
            match random.random_range(0..3) {
                0 => text.insert(at, character),
                1 if at < text.len() => drop(text.remove(at)),
                _ if at < text.len() => text[at] = character,
                _ => {}
            }
        }
        let text: String = text.into_iter().collect();
        let read = reads(&text);
        answers[usize::from(read)] += 1;
        assert_eq!(validator.is_valid(&json!(text)), read, "{text:?} and {pattern}");
    }
    assert!(answers.iter().all(|count| *count > TEXTS / 50), "{answers:?} for {pattern}");
}

fn cursor_pattern<P: CursorPlace>() -> String {
    super::openapi::schema(Takes::Cursor(P::PATTERNS))["pattern"].as_str().unwrap().to_owned()
}

const MOMENTS: [&str; 12] = [
    "2026-01-15T12:00:00.000Z",
    "2026-03-31t23:59:59z",
    "2026-04-30 20:05:31.093",
    "2024-02-29T19:07:33.155+0000",
    "2023-02-28T19:07:33.1559999-02:30",
    "2000-02-29T19:07:33.1+23:59",
    "1900-02-28T00:00:00",
    "0000-01-01T00:00:00+00:01",
    "9999-12-31T23:59:59.999-00:01",
    "2026-01-15T12:00:00 01:00",
    "1996-02-29T12:00:00Z",
    "2026-11-30T19:07:33Z",
];

const MOMENT_CHARACTERS: &str = "0123456789-+:TtZz. é";

#[test]
fn moments_of_a_body_are_those_of_their_pattern() {
    let reads = |text: &str| time::parse_bound(text).is_some();
    assert_agree(time::PATTERN, reads, &MOMENTS, MOMENT_CHARACTERS);
}

#[test]
fn moments_of_a_query_are_those_of_their_pattern() {
    let reads = |text: &str| parse_moment(text).is_some();
    assert_agree(MOMENT_PATTERN, reads, &MOMENTS, MOMENT_CHARACTERS);
}

#[test]
fn every_day_of_every_kind_of_year_is_in_the_pattern_if_the_calendar_has_it() {
    let validator = jsonschema::validator_for(&json!({ "pattern": time::PATTERN })).unwrap();
    for year in ["0000", "1900", "2000", "2023", "2024", "2100", "2400", "9996", "9999"] {
        for (month, day) in (0..14).flat_map(|month| (0..33).map(move |day| (month, day))) {
            let text = format!("{year}-{month:02}-{day:02}T00:00:00Z");
            let read = time::parse_bound(&text).is_some();
            assert_eq!(validator.is_valid(&json!(text)), read, "{text}");
        }
    }
}

#[test]
fn cursors_are_those_of_their_pattern() {
    fn check<P: CursorPlace>(texts: &[&str]) {
        let reads = |text: &str| P::read(text).is_some();
        assert_agree(&cursor_pattern::<P>(), reads, texts, "0123456789-.AQgwz_=+/ uo");
    }
    check::<ItemNumber>(&["1", "25", "99999999999999999999", "100000000000000000"]);
    check::<(Millis, String)>(&[
        "1772442000000.dXNlcl8x",
        "-5.",
        "99999999999999999999.AA",
        "0.AAA",
    ]);
    check::<(String, Millis)>(&["dXNlcl8x.1772442000000", ".-99999999999999999999", "gA.0"]);
    check::<(String, String)>(&["dXNlcl8x.", "AA.AAA", "."]);
    check::<DifferencePlace>(&["user.dXNlcl8x.", "group..AA", "membership.AA.AA", "role.AAA.A_-w"]);
    check::<EventPlace>(&["1768478400000.0..ZXZlbnRfMQ", "-1.1.-2.AA", "0.0.17.", "0.1.5.AAA"]);
}

#[test]
fn paths_of_attributes_are_those_of_their_pattern() {
    let paths = [
        r#"custom_attributes."cost.center""#,
        r#""a"."b""#,
        r#"a.b.c"#,
        r#""\u0041\ud83d\ude00""#,
        r#"a"b.c"#,
        r#""\n\"".x"#,
        r#""""#,
    ];
    assert_agree(ATTRIBUTE_PATH_PATTERN, is_path, &paths, "abc\"\\.u0dD8fnrt/é\u{1}");
}
