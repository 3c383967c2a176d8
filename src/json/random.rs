//! Random JSON for tests, and random changes of it.

use rand::RngExt;
use rand::rngs::StdRng;

/// Keys: some twice in other spellings, and some that are no text at all.
const KEYS: [&str; 26] = [
    "id",
    "i\\u0064",
    "event",
    "data",
    "d\\u0061ta",
    "context",
    "created_at",
    "updated_at",
    "object",
    "directory_id",
    "organization_id",
    "state",
    "name",
    "domain",
    "domains",
    "email",
    "emails",
    "idp_id",
    "role",
    "roles",
    "slug",
    "primary",
    "value",
    "previous_attributes",
    "previous\\u005fattributes",
    "\\ud83d",
];

/// Values without others in them.
const PLAIN: [&str; 36] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1.10",
    "-12.5e+3",
    "1E400",
    "12345678901234567890123",
    "\"\"",
    "\"a\"",
    "\"directory_1\"",
    "\"directory_user_1\"",
    "\"directory_group_1\"",
    "\"directory\"",
    "\"directory_user\"",
    "\"directory_group\"",
    "\"active\"",
    "\"\\u0061ctive\"",
    "\"inactive\"",
    "\"2026-03-01T09:00:00.000Z\"",
    "\"2026-03-01 09:00:00\"",
    "\"2026-03-01T09:00:60Z\"",
    "\"Ana@A.example\"",
    "\" e\u{301}va@a.example\"",
    "\"Zo\\u00eb \\\"Z\\\" \\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\"\\\\ud83d\"",
    "\"gr\u{fc}n \u{1f600} and some more bytes\"",
    "\"a/b\\/c\\b\\f\\n\\r\\t\"",
    "[]",
    "{}",
    // These are not JSON.
    "01",
    "\"\u{1}\"",
    "\"\\x\"",
    "tru",
];

/// Pieces of text that changes put in.
const PIECES: [&str; 16] = [
    "\"", "\\", "{", "}", "[", "]", ",", ":", " ", "\n", "0", "\\u", "\\ud800", "null", "\u{e9}",
    "\u{0}",
];

/// White space, mostly none.
const GAPS: [&str; 8] = ["", "", "", "", "", "", " ", "\r\n\t"];

/// Returns one of some things.
pub(crate) fn one_of<T: Copy>(random: &mut StdRng, all: &[T]) -> T {
    all[random.random_range(0..all.len())]
}

/// Writes a random value with values in it, up to some levels. One in some hundred is not JSON.
pub(crate) fn value(random: &mut StdRng, levels: usize) -> String {
    let gap = one_of(random, &GAPS);
    match random.random_range(0..6) {
        0 | 1 if levels > 0 => {
            let count = random.random_range(0..8);
            let members: Vec<String> = (0..count)
                .map(|_| {
                    let (key, value) = (one_of(random, &KEYS), value(random, levels - 1));
                    format!("\"{key}\"{gap}:{value}")
                })
                .collect();
            format!("{gap}{{{gap}{}}}", members.join(","))
        }
        2 if levels > 0 => {
            let count = random.random_range(0..4);
            let elements: Vec<String> = (0..count).map(|_| value(random, levels - 1)).collect();
            format!("[{}{gap}]{gap}", elements.join(","))
        }
        _ => {
            // Those that are not JSON are at the end.
            let usual = PLAIN.len() - if random.random_range(0..50) == 0 { 0 } else { 4 };
            format!("{gap}{}{gap}", one_of(random, &PLAIN[..usual]))
        }
    }
}

/// Changes a text in some places.
pub(crate) fn change(random: &mut StdRng, text: &mut String) {
    for _ in 0..random.random_range(1..3) {
        let mut place = || {
            let at = random.random_range(0..=text.len());
            (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
        };
        let (one, other) = (place(), place());
        match random.random_range(0..3) {
            0 => text.insert_str(one, one_of(random, &PIECES)),
            1 => text.truncate(one),
            _ if one < other && other - one < 12 => text.replace_range(one..other, ""),
            _ => text.replace_range(one..one, "}"),
        }
    }
}
