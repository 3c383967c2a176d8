//! Passwords are taken out of a request's text before anything else sees it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use serde_json::value::RawValue;

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
    found: Vec<(Range<usize>, String)>,
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
            self.steps.push(key);
            if !is_secret {
                self.walk(value);
            } else if self.found.len() <= PASSWORDS_MAX {
                self.found.push((self.place(value), self.pointer()));
            }
            self.steps.pop();
        }
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
        for (range, pointer) in self.found {
            body.push_str(self.text.get(copied..range.start).unwrap_or_default());
            body.push_str(REDACTED);
            copied = range.end;
            if seen.insert(pointer.clone()) {
                places.push(pointer);
            }
        }
        body.push_str(self.text.get(copied..).unwrap_or_default());
        Redacted { body, places }
    }
}

fn is_key(key: &str, name: &str) -> bool {
    key.trim().eq_ignore_ascii_case(name)
}

/// Reports if a key or path is that of a password: what follows the last colon or dot, if there is
/// one.
fn is_password(name: &str) -> bool {
    is_key(name.rsplit([':', '.']).next().unwrap_or(name), "password")
}

/// Reports if a key or path leads to a password, or into one.
fn is_password_path(path: &str) -> bool {
    let head = path.split('[').next().unwrap_or(path);
    let name = head.rsplit(':').next().unwrap_or(head);
    is_password(path) || name.split('.').any(|part| is_key(part, "password"))
}
