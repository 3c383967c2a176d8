//! The attributes that rules name, read from a user's snapshot in one pass.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use rollcall_projections::{AttributePath, Part};
use serde_json::value::RawValue;

use crate::json::{array, fields, fields_of, pairs, present, string};

/// The field of the root that is not an attribute: replaced values.
const REPLACED: &str = "previous_attributes";

/// Reads the values at given paths.
pub struct AttributeReader<'a> {
    paths: Vec<Path<'a>>,
}

/// A path, and the values that rules name at it.
struct Path<'a> {
    steps: Vec<Step<'a>>,
    keys: &'a HashMap<String, u32>,
}

/// A part of a path.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    /// One key, written in double quotes.
    Quoted(String),
    /// Keys separated by dots; a key may have dots itself.
    Dotted(&'a str),
}

/// The part of a path that is still to be followed.
#[derive(Clone, Copy)]
struct Rest<'p> {
    /// Steps before the first are done, and of the first, if it is dotted, this text is left.
    steps: &'p [Step<'p>],
    dotted: &'p str,
    keys: &'p HashMap<String, u32>,
}

/// Writes the regular expression of a key: a JSON string in double quotes, in which surrogates come
/// in pairs, or a text without dots that does not begin with a quote.
macro_rules! attribute_key {
    () => {
        concat!(
            r#""(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u(?:[0-9abcefABCEF][0-9a-fA-F]{3}"#,
            r#"|[dD][0-7][0-9a-fA-F]{2}"#,
            r#"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})))*""#,
            r#"|[^".][^.]*"#
        )
    };
}

/// The paths that can be read, as a regular expression (ECMA-262).
pub const ATTRIBUTE_PATH_PATTERN: &str =
    concat!(r#"^(?:"#, attribute_key!(), r#")(?:\.(?:"#, attribute_key!(), r#"))*$"#);

/// Tells if a path can be read: keys that are not empty, separated by dots, each as it is or as a
/// JSON string in double quotes.
pub(crate) fn is_path(path: &str) -> bool {
    steps(path).is_some()
}

/// Splits a path at its quoted keys; `None` if it is not well written.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let (mut steps, mut rest) = (Vec::new(), path);
    loop {
        let (step, left) = if rest.starts_with('"') {
            let (key, left) = quoted(rest)?;
            (Step::Quoted(key), left)
        } else {
            let end = rest.find(".\"").unwrap_or(rest.len());
            let (dotted, left) = rest.split_at(end);
            if dotted.split('.').any(str::is_empty) {
                return None;
            }
            (Step::Dotted(dotted), left)
        };
        steps.push(step);
        if left.is_empty() {
            return Some(steps);
        }
        rest = left.strip_prefix('.')?;
    }
}

/// Reads the key in double quotes at the beginning of a text, and returns what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let key = strings.next()?.ok()?;
    text.get(strings.byte_offset()..).map(|left| (key, left))
}

impl<'a> AttributeReader<'a> {
    /// Makes a reader of paths.
    pub fn new(paths: &'a [AttributePath]) -> AttributeReader<'a> {
        let read = |AttributePath { path, keys }: &'a AttributePath| {
            // A mapping of the past may have a path that no setting would take today.
            let steps = steps(path).unwrap_or_else(|| vec![Step::Dotted(path)]);
            Path { steps, keys }
        };
        AttributeReader { paths: paths.iter().map(read).collect() }
    }

    /// Returns the numbers of the values that the snapshot in `body` has, ascending.
    pub fn read(&self, body: &[u8], part: Part) -> Vec<u32> {
        let mut found = Vec::new();
        if let Some(snapshot) = snapshot(body, part) {
            let rests = self.paths.iter().map(|path| Rest::of(&path.steps, path.keys));
            let rests: Vec<Rest<'_>> = rests.collect();
            follow(root_fields(snapshot), &rests, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn snapshot(body: &[u8], part: Part) -> Option<&RawValue> {
    let [data] = fields(std::str::from_utf8(body).ok()?, ["data"])?;
    let [snapshot] = match part {
        Part::Data => [data],
        Part::User => fields_of(data, ["user"])?,
        Part::Group => fields_of(data, ["group"])?,
        Part::Object => fields_of(data, ["object"])?,
    };
    snapshot
}

type Fields<'v> = Vec<(Cow<'v, str>, &'v RawValue)>;

fn root_fields(snapshot: &RawValue) -> Fields<'_> {
    let mut fields = pairs(snapshot.get());
    fields.retain(|(key, _)| key != REPLACED);
    fields
}

/// Follows the rests of some paths into the fields of an object, which is read once for all.
fn follow(fields: Fields<'_>, rests: &[Rest<'_>], found: &mut Vec<u32>) {
    let mut below: BTreeMap<usize, Vec<Rest<'_>>> = BTreeMap::new();
    for rest in rests {
        if let Some((at, rest)) = rest.step_into(&fields) {
            below.entry(at).or_default().push(rest);
        }
    }
    for (at, rests) in below {
        let Some((_, value)) = fields.get(at) else { continue };
        let (done, open): (Vec<_>, Vec<_>) = rests.into_iter().partition(Rest::is_done);
        for Rest { keys, .. } in done {
            match array(Some(value)) {
                Some(elements) => {
                    found.extend(elements.into_iter().filter_map(|element| key_of(keys, element)))
                }
                None => found.extend(key_of(keys, value)),
            }
        }
        if !open.is_empty() {
            follow(pairs(value.get()), &open, found);
        }
    }
}

impl<'p> Rest<'p> {
    fn of(steps: &'p [Step<'p>], keys: &'p HashMap<String, u32>) -> Rest<'p> {
        let dotted = match steps.first() {
            Some(Step::Dotted(dotted)) => dotted,
            Some(Step::Quoted(_)) | None => "",
        };
        Rest { steps, dotted, keys }
    }

    fn is_done(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the field that the path goes into, and the rest from there: of the keys that are
    /// there the longest. Of a repeated key the last counts, and `null` is not there.
    fn step_into(&self, fields: &Fields<'_>) -> Option<(usize, Rest<'p>)> {
        let mut fitting: Vec<(usize, usize)> = Vec::new();
        for (at, (key, value)) in fields.iter().enumerate().filter(|(_, (key, _))| self.fits(key)) {
            // Two keys of one length that fit are the same key.
            fitting.retain(|(length, _)| *length != key.len());
            if present(Some(value)).is_some() {
                fitting.push((key.len(), at));
            }
        }
        let (length, at) = fitting.into_iter().max()?;
        Some((at, self.after(length)))
    }

    fn fits(&self, key: &str) -> bool {
        match self.steps.first() {
            Some(Step::Quoted(quoted)) => quoted == key,
            Some(Step::Dotted(_)) => self
                .dotted
                .strip_prefix(key)
                .is_some_and(|left| left.is_empty() || left.starts_with('.')),
            None => false,
        }
    }

    /// Returns the rest behind a key of this length.
    fn after(&self, length: usize) -> Rest<'p> {
        match (self.steps.first(), self.dotted.get(length + 1..)) {
            (Some(Step::Dotted(_)), Some(dotted)) => Rest { dotted, ..*self },
            _ => Rest::of(self.steps.get(1..).unwrap_or_default(), self.keys),
        }
    }
}

/// Returns the number of a value: strings are compared as they are, numbers and booleans as they
/// are written.
fn key_of(keys: &HashMap<String, u32>, value: &RawValue) -> Option<u32> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'"' => keys.get(string(Some(value))?.as_ref()).copied(),
        b't' | b'f' | b'-' | b'0'..=b'9' => keys.get(text).copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_at_its_quoted_keys() {
        let (dotted, quoted) = (Step::Dotted, |key: &str| Step::Quoted(key.to_owned()));
        let table = [
            ("a", Some(vec![dotted("a")])),
            ("a.b.c", Some(vec![dotted("a.b.c")])),
            (r#"a."b.c".d.e"#, Some(vec![dotted("a"), quoted("b.c"), dotted("d.e")])),
            (r#""a"."b""#, Some(vec![quoted("a"), quoted("b")])),
            (r#""a \" \u002e .""#, Some(vec![quoted("a \" . .")])),
            (r#"a"b"."#, None),
            (r#"a"b".c"#, Some(vec![dotted(r#"a"b".c"#)])),
            (r#"a."""#, Some(vec![dotted("a"), quoted("")])),
            ("", None),
            ("a.", None),
            (".a", None),
            ("a..b", None),
            (r#"a."b"c"#, None),
            (r#"a."b"#, None),
            (r#"a."b"."#, None),
            (r#"a."\x""#, None),
        ];
        for (path, expected) in table {
            assert_eq!(steps(path), expected, "{path}");
        }
    }

    #[test]
    fn a_key_may_have_dots_and_the_longest_that_is_there_wins() {
        let keys = HashMap::from([("x".to_owned(), 1), ("y".to_owned(), 2)]);
        let long = "raw_attributes.urn:scim:2.0:User.department";
        let table: [(&str, &str, &[u32]); 18] = [
            ("a.b", r#"{"a.b":"x","a":{"b":"y"}}"#, &[1]),
            (r#""a.b""#, r#"{"a.b":"x","a":{"b":"y"}}"#, &[1]),
            (r#"a."b""#, r#"{"a.b":"x","a":{"b":"y"}}"#, &[2]),
            (r#""a"."b""#, r#"{"a.b":"x","a":{"b":"y"}}"#, &[2]),
            (r#""a.b""#, r#"{"a":{"b":"y"}}"#, &[]),
            ("a.b", r#"{"a.b":null,"a":{"b":"y"}}"#, &[2]),
            ("a.b", r#"{"a.b":"x","a.b":null,"a":{"b":"y"}}"#, &[2]),
            ("a.b", r#"{"a.b":"y","a.b":"x"}"#, &[1]),
            ("a.b.c", r#"{"a.b":{"c":"x"},"a":{"b.c":"y"}}"#, &[1]),
            ("a.b.c", r#"{"a.b":{"d":"x"},"a":{"b.c":"y"}}"#, &[]),
            ("a.b.c", r#"{"a":{"b.c":"y","b":{"c":"x"}}}"#, &[2]),
            ("a.b.c", r#"{"a.b.":{"c":"x"},"a.":{"b.c":"x"}}"#, &[]),
            (r#"a."b.c".d.e"#, r#"{"a":{"b.c":{"d.e":["x"]}}}"#, &[1]),
            (long, r#"{"raw_attributes":{"urn:scim:2.0:User":{"department":"x"}}}"#, &[1]),
            (long, r#"{"raw_attributes":{"urn:scim:2":{"0:User":{"department":"x"}}}}"#, &[1]),
            (r#""previous_attributes".a"#, r#"{"previous_attributes":{"a":"x"}}"#, &[]),
            ("b.previous_attributes", r#"{"b":{"previous_attributes":"x"}}"#, &[1]),
            (r#"a."b"#, r#"{"a":{"\"b":"x"}}"#, &[1]),
        ];
        for (path, snapshot, found) in table {
            let paths = [AttributePath { path: path.to_owned(), keys: keys.clone() }];
            let body = format!(r#"{{"data":{snapshot}}}"#);
            let read = AttributeReader::new(&paths).read(body.as_bytes(), Part::Data);
            assert_eq!(read, found, "{path} {snapshot}");
        }
    }

    #[test]
    fn a_value_is_found_where_its_path_leads() {
        let keys = |first: u32| {
            ["admin", "true", "7", "1.0", ""]
                .iter()
                .zip(first..)
                .map(|(key, number)| ((*key).to_owned(), number))
                .collect()
        };
        let path = |path: &str, first| AttributePath { path: path.to_owned(), keys: keys(first) };
        let paths = [
            path("a", 0),
            path("c.role", 10),
            path("c.role.deep", 20),
            path("previous_attributes.a", 30),
        ];
        let reader = AttributeReader::new(&paths);
        let table: [(&str, &[u32]); 14] = [
            (r#"{"a":"admin"}"#, &[0]),
            (r#"{"a":"Admin"}"#, &[]),
            (r#"{"a":true,"c":{"role":7}}"#, &[1, 12]),
            (r#"{"a":"true","c":{"role":1.0}}"#, &[1, 13]),
            (r#"{"a":7.0}"#, &[]),
            (r#"{"a":["x","admin",7,["true"],{"a":1}]}"#, &[0, 2]),
            (r#"{"a":null,"c":null}"#, &[]),
            (r#"{"a":""}"#, &[4]),
            (r#"{"a":{"a":"admin"}}"#, &[]),
            (r#"{"c":[{"role":"admin"}]}"#, &[]),
            (r#"{"c":{"role":{"deep":"admin"}}}"#, &[20]),
            (r#"{"a":"admin","a":"x"}"#, &[]),
            (r#"{"\u0061":"\u0061dmin"}"#, &[0]),
            (r#"{"previous_attributes":{"a":"admin"},"role":"admin"}"#, &[]),
        ];
        for (snapshot, found) in table {
            assert_eq!(
                reader.read(format!(r#"{{"data":{snapshot}}}"#).as_bytes(), Part::Data),
                found,
                "{snapshot}"
            );
            assert_eq!(
                reader.read(format!(r#"{{"data":{{"user":{snapshot}}}}}"#).as_bytes(), Part::User),
                found,
                "{snapshot}"
            );
        }
        for body in ["", "{}", r#"{"data":[]}"#, r#"{"data":{"user":1}}"#] {
            assert!(
                reader.read(body.as_bytes(), Part::Data).is_empty()
                    && reader.read(body.as_bytes(), Part::User).is_empty()
            );
        }
    }
}
