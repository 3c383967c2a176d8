//! Passwords are taken out of a request's text before anything else sees it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use serde_json::value::RawValue;

use super::tokens::secret_values;
use super::{DEPTH_MAX, OPERATIONS_MAX, Refusal};
use crate::json::{array, levels, pairs, string};

/// A request's text without passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted {
    /// The JSON text as it was sent, with `"redacted"` in place of each password.
    pub body: String,
    /// The place of each, as JSON pointers (RFC 6901).
    pub places: Vec<String>,
}

/// The most passwords of a body: one of each operation.
const PASSWORDS_MAX: usize = OPERATIONS_MAX;

/// The most commas of a body. A value in a tree takes more bytes than a digit in a text.
const COMMAS_MAX: usize = 2_000_000;

/// A body of more bytes is a list of members, and has at most this many levels: reading costs the
/// size by the depth.
const LARGE_BYTES: usize = 1 << 20;
const LARGE_DEPTH_MAX: usize = 8;

/// What is written in place of a password.
const REDACTED: &str = "\"redacted\"";

/// Replaces each password of a request's text; every other byte stays, but for a byte order mark
/// and blanks around it.
///
/// A password is the value of each key that is `password`, or ends in `:password` or `.password`, or
/// leads into one, and the `value` of each object whose `path` does: in any case, with blanks around
/// it, however it is escaped.
/// The cost is the size of the text by its depth.
///
/// # Errors
/// The text is not a JSON object, or is nested too deep; 413 if it has too many values or passwords,
/// or is large and nested as no list of members is.
pub fn redact(body: &[u8]) -> Result<Redacted, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::syntax("the body is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    let depth = levels(text.as_bytes());
    if depth > DEPTH_MAX {
        return Err(Refusal::syntax(format!("the body is nested deeper than {DEPTH_MAX} levels")));
    }
    let is_heavy = text.len() > LARGE_BYTES && depth > LARGE_DEPTH_MAX;
    if is_heavy || memchr::memchr_iter(b',', text.as_bytes()).count() > COMMAS_MAX {
        return Err(Refusal::too_large("the body is too large for what a request can change"));
    }
    let whole: &RawValue = serde_json::from_str(text)
        .ok()
        .filter(|_| text.starts_with('{'))
        .ok_or_else(|| Refusal::syntax("the body is not a JSON object"))?;
    let mut search = Search { text, steps: Vec::new(), found: Vec::new() };
    search.walk(whole);
    if search.found.len() > PASSWORDS_MAX {
        return Err(Refusal::too_large(format!(
            "the body has more than {PASSWORDS_MAX} passwords"
        )));
    }
    Ok(search.redacted())
}

/// A search for passwords in a text.
struct Search<'a> {
    text: &'a str,
    /// The keys and positions that lead to the value being searched.
    steps: Vec<Cow<'a, str>>,
    found: Vec<Found>,
}

/// A text to be replaced.
struct Found {
    place: Range<usize>,
    /// Where it is, as a JSON pointer.
    pointer: String,
    /// What is written in its place, as JSON.
    instead: String,
}

impl<'a> Search<'a> {
    /// Searches a value. Its depth is bounded: it was counted before.
    fn walk(&mut self, value: &'a RawValue) {
        match value.get().as_bytes().first() {
            Some(b'{') => self.walk_object(value.get()),
            Some(b'[') => {
                for (at, element) in array(Some(value)).unwrap_or_default().into_iter().enumerate()
                {
                    if matches!(element.get().as_bytes().first(), Some(b'{' | b'[')) {
                        self.steps.push(at.to_string().into());
                        self.walk(element);
                        self.steps.pop();
                    }
                }
            }
            _ => {}
        }
    }

    fn walk_object(&mut self, text: &'a str) {
        let members = pairs(text);
        let leads_there = members.iter().any(|(key, value)| {
            is_key(key, "path") && string(Some(value)).is_some_and(|path| is_password_path(&path))
        });
        for (key, value) in members {
            let is_secret = is_password_path(&key) || (leads_there && is_key(&key, "value"));
            let is_path = is_key(&key, "path");
            let renamed = shorn(&key);
            let place = renamed.as_ref().and_then(|_| self.place_of_key(value));
            self.steps.push(renamed.clone().map_or(key, Cow::Owned));
            if let Some((place, instead)) = place.zip(renamed) {
                self.find(place, json_text(&instead));
            }
            let path = string(Some(value).filter(|_| is_path)).and_then(|path| shorn(&path));
            if is_secret {
                self.find(self.place(value), REDACTED.to_owned());
            } else if let Some(path) = path {
                self.find(self.place(value), json_text(&path));
            } else {
                self.walk(value);
            }
            self.steps.pop();
        }
    }

    fn find(&mut self, place: Range<usize>, instead: String) {
        if self.found.len() <= PASSWORDS_MAX {
            self.found.push(Found { place, pointer: self.pointer(), instead });
        }
    }

    /// Returns where the key of a value is in the text.
    fn place_of_key(&self, value: &RawValue) -> Option<Range<usize>> {
        let before = self.text.get(..self.place(value).start)?.trim_end();
        let key = before.strip_suffix(':')?.trim_end();
        let inner = key.strip_suffix('"')?;
        let is_open = |at: &usize| {
            let escapes = inner.bytes().take(*at).rev().take_while(|byte| *byte == b'\\').count();
            escapes % 2 == 0
        };
        let start = inner.rmatch_indices('"').map(|(at, _)| at).find(is_open)?;
        Some(start..key.len())
    }

    /// Returns where a value is in the text.
    fn place(&self, value: &RawValue) -> Range<usize> {
        let start = value.get().as_ptr() as usize - self.text.as_ptr() as usize;
        start..start + value.get().len()
    }

    fn pointer(&self) -> String {
        let step = |step: &Cow<'_, str>| format!("/{}", step.replace('~', "~0").replace('/', "~1"));
        self.steps.iter().map(step).collect()
    }

    /// Writes the text anew.
    fn redacted(self) -> Redacted {
        let (mut body, mut places) = (String::with_capacity(self.text.len()), Vec::new());
        let (mut copied, mut seen) = (0, HashSet::new());
        for Found { place, pointer, instead } in self.found {
            body.push_str(self.text.get(copied..place.start).unwrap_or_default());
            body.push_str(&instead);
            copied = place.end;
            if seen.insert(pointer.clone()) {
                places.push(pointer);
            }
        }
        body.push_str(self.text.get(copied..).unwrap_or_default());
        Redacted { body, places }
    }
}

/// Returns a path whose filter compares a password, with another text in the password's place.
/// `None` for any other.
fn shorn(path: &str) -> Option<String> {
    if !path.contains('[') {
        return None;
    }
    let places = secret_values(path, is_password);
    let mut shorn = path.to_owned();
    places.iter().rev().for_each(|place| shorn.replace_range(place.clone(), REDACTED));
    (shorn != path).then_some(shorn)
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn is_key(key: &str, name: &str) -> bool {
    key.trim().eq_ignore_ascii_case(name)
}

/// Reports if a key or path is that of a password: what follows the last colon or dot, if there is
/// one.
pub(super) fn is_password(name: &str) -> bool {
    is_key(name.rsplit([':', '.']).next().unwrap_or(name), "password")
}

/// Reports if a key or path leads to a password, or into one.
fn is_password_path(path: &str) -> bool {
    let head = path.split('[').next().unwrap_or(path);
    let name = head.rsplit(':').next().unwrap_or(head);
    is_password(path) || name.split('.').any(|part| is_key(part, "password"))
}
