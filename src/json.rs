//! JSON read in place: fields are picked out of a text without building a tree, so that values pass
//! through byte for byte.

mod index;
#[cfg(test)]
pub(crate) mod random;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::de::{self, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

pub use index::{INDEXED_LEVELS_MAX, Index, Value};

/// Picks the fields `names` out of an object. The last of a repeated key counts. `None` if `text`
/// is not a JSON object.
pub fn fields<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = deserializer.deserialize_map(Fields { names }).ok()?;
    deserializer.end().ok()?;
    Some(fields)
}

/// Picks fields out of a value; `None` if the value is absent or not an object.
pub fn fields_of<'a, const N: usize>(
    value: Option<&'a RawValue>,
    names: [&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    fields(value?.get(), names)
}

/// Returns the value unless it is `null`, which counts as absent by rule 14 of docs/semantics.md.
pub fn present(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != "null")
}

/// Does the same as [`fields`], and drops fields of `null`.
pub fn present_fields<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    fields(text, names).map(|found| found.map(present))
}

/// Does the same as [`fields_of`], and drops fields of `null`.
pub fn present_fields_of<'a, const N: usize>(
    value: Option<&'a RawValue>,
    names: [&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    present_fields(value?.get(), names)
}

/// Returns the fields of an object except `named`, in the order of the text. The last of a repeated
/// key counts. Empty if `text` is not a JSON object.
pub fn others<'a>(text: &'a str, named: &[&str]) -> Vec<(Cow<'a, str>, &'a RawValue)> {
    let mut all = pairs(text);
    let mut seen: HashSet<Cow<'a, str>> = HashSet::new();
    all.reverse();
    all.retain(|(key, _)| !named.contains(&key.as_ref()) && seen.insert(key.clone()));
    all.reverse();
    all
}

/// Returns every field of an object, including each of a repeated key, in the order of the text.
/// Empty if `text` is not a JSON object.
pub fn pairs(text: &str) -> Vec<(Cow<'_, str>, &RawValue)> {
    serde_json::from_str::<Pairs<'_>>(text).map_or(Vec::new(), |Pairs(pairs)| pairs)
}

/// Returns the fields of an object by key. The last of a repeated key counts. `None` if `text` is
/// not a JSON object.
pub fn entries(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    let Pairs(pairs) = serde_json::from_str(text).ok()?;
    Some(pairs.into_iter().map(|(key, value)| (key.into_owned(), value)).collect())
}

/// Returns the text of an object without its members `key`: each is cut out with one comma, and
/// every other byte stays. `None` if `text` is not a JSON object.
pub fn without(text: &str, key: &str) -> Option<String> {
    let Members(members) = serde_json::from_str(text).ok()?;
    let start_of = |value: &RawValue| value.get().as_ptr() as usize - text.as_ptr() as usize;
    let end_of = |value: &RawValue| start_of(value) + value.get().len();
    let mut kept = String::with_capacity(text.len());
    let mut end = None;
    for (name, value) in &members {
        // A member that stays keeps the comma before it, unless it is the first that stays.
        let from = match (&end, kept.is_empty()) {
            (Some(end), false) => *end,
            _ => start_of(name),
        };
        end = Some(end_of(value));
        if string(Some(name)).is_none_or(|name| name != key) {
            kept.push_str(text.get(from..end_of(value))?);
        }
    }
    let Some(((first, _), end)) = members.first().zip(end) else { return Some(text.to_owned()) };
    Some([text.get(..start_of(first))?, &kept, text.get(end..)?].concat())
}

/// The members of an object in the order of the text, each with its key as it was written.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(key) = map.next_key::<&'de RawValue>()? {
                    members.push((key, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Members(members) = Members::deserialize(deserializer)?;
        let pair = |(key, value)| (string(Some(key)).unwrap_or_default(), value);
        Ok(Pairs(members.into_iter().map(pair).collect()))
    }
}

struct Fields<'n, const N: usize> {
    names: [&'n str; N],
}

impl<'de, const N: usize> Visitor<'de> for Fields<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        // A key is read raw, so that an unpaired surrogate in one does not spoil the others.
        while let Some(key) = map.next_key::<&'de RawValue>()? {
            match self.position(key).and_then(|at| found.get_mut(at)) {
                Some(slot) => *slot = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

impl<const N: usize> Fields<'_, N> {
    /// Returns the position of a key among the wanted names.
    fn position(&self, key: &RawValue) -> Option<usize> {
        let key = string(Some(key))?;
        self.names.iter().position(|name| *name == key)
    }
}

/// Returns the value as a string, if it is one. An unpaired surrogate becomes U+FFFD.
pub fn string<'a>(value: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    string_in(value?.get())
}

/// Returns the text of a value as a string, if it is one.
fn string_in(text: &str) -> Option<Cow<'_, str>> {
    let inner = inner(text)?;
    if inner.contains('\\') {
        serde_json::from_str(&well_formed(text)).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Returns what is between the quotes of a string.
fn inner(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

/// Returns the value as a string that names something: `None` if it has an unpaired surrogate,
/// since replacing it would give two names the same text.
pub fn name<'a>(value: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    name_in(value?.get())
}

/// Returns the text of a value as a string that names something: see [`name`].
fn name_in(text: &str) -> Option<Cow<'_, str>> {
    match well_formed(text) {
        Cow::Borrowed(_) => string_in(text),
        Cow::Owned(_) => None,
    }
}

/// Returns JSON in which each escape of an unpaired surrogate is one of U+FFFD: many readers refuse
/// a whole answer for such an escape.
pub fn well_formed(text: &str) -> Cow<'_, str> {
    let unpaired = unpaired_surrogates(text);
    if unpaired.is_empty() {
        return Cow::Borrowed(text);
    }
    let (mut out, mut copied) = (String::with_capacity(text.len()), 0);
    for at in unpaired {
        out.push_str(text.get(copied..at).unwrap_or_default());
        out.push_str("\\ufffd");
        copied = at + ESCAPE_BYTES;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// Does the same to JSON that was just written.
pub fn into_well_formed(json: Vec<u8>) -> Vec<u8> {
    match std::str::from_utf8(&json).map(well_formed) {
        Ok(Cow::Owned(replaced)) => replaced.into(),
        Ok(Cow::Borrowed(_)) | Err(_) => json,
    }
}

/// The length of an escape `\uXXXX`.
const ESCAPE_BYTES: usize = 6;

/// Returns the offsets of the escapes that are surrogates without their other half.
fn unpaired_surrogates(text: &str) -> Vec<usize> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(step) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += step;
        match (surrogate(text, at), surrogate(text, at + ESCAPE_BYTES)) {
            (Some(Surrogate::High), Some(Surrogate::Low)) => at += 2 * ESCAPE_BYTES,
            (Some(_), _) => {
                found.push(at);
                at += ESCAPE_BYTES;
            }
            // Another escape, of which the second character may be a backslash.
            (None, _) => at += 2,
        }
    }
    found
}

/// One half of a pair in UTF-16.
enum Surrogate {
    High,
    Low,
}

/// Returns the surrogate that the escape at an offset writes, if it writes one.
fn surrogate(text: &str, at: usize) -> Option<Surrogate> {
    let digits = text.get(at..at + ESCAPE_BYTES)?.strip_prefix("\\u")?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Surrogate::High),
        0xdc00..=0xdfff => Some(Surrogate::Low),
        _ => None,
    }
}

/// Returns the value's text, if it is an object.
pub fn object(value: Option<&RawValue>) -> Option<&str> {
    value.map(RawValue::get).filter(|text| text.starts_with('{'))
}

/// Returns the elements of an array, if the value is one.
pub fn array(value: Option<&RawValue>) -> Option<Vec<&RawValue>> {
    array_in(value?.get())
}

/// Returns the elements of an array, if a value's text is one.
fn array_in(text: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(Some(text).filter(|text| text.starts_with('['))?).ok()
}

/// Returns true if more than `levels_max` objects and arrays of a JSON text are within each other.
pub fn is_deeper(text: &[u8], levels_max: usize) -> bool {
    // Nearly every text has no more of them in all.
    memchr::memchr2_iter(b'{', b'[', text).nth(levels_max).is_some() && levels(text) > levels_max
}

/// Returns how many objects and arrays of a JSON text are within each other at the deepest place.
pub fn levels(text: &[u8]) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The depth from which [`equal`] compares texts.
const DEPTH_MAX: usize = 64;

/// Compares two values as JSON: the order of keys and white space do not matter, numbers are
/// compared by their text.
///
/// Values nested deeper than 64 levels, and those with an unpaired surrogate, are equal only if they
/// are written alike.
pub fn equal(a: Option<&RawValue>, b: Option<&RawValue>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => equal_at(a.get(), b.get(), 0),
        (None, None) => true,
        _ => false,
    }
}

fn equal_at(a: &str, b: &str, depth: usize) -> bool {
    if a == b {
        return true;
    }
    if depth == DEPTH_MAX || a.as_bytes().first() != b.as_bytes().first() {
        return false;
    }
    fn parsed<'a, T: serde::Deserialize<'a>>(a: &'a str, b: &'a str) -> Option<(T, T)> {
        Some((serde_json::from_str(a).ok()?, serde_json::from_str(b).ok()?))
    }
    match a.as_bytes().first() {
        Some(b'{') => exact_entries(a).zip(exact_entries(b)).is_some_and(|(a, b)| {
            a.len() == b.len()
                && a.iter()
                    .zip(&b)
                    .all(|((k, v), (l, w))| k == l && equal_at(v.get(), w.get(), depth + 1))
        }),
        Some(b'[') => parsed::<Vec<&RawValue>>(a, b).is_some_and(|(a, b)| {
            a.len() == b.len()
                && a.iter().zip(&b).all(|(v, w)| equal_at(v.get(), w.get(), depth + 1))
        }),
        Some(b'"') => parsed::<String>(a, b).is_some_and(|(a, b)| a == b),
        _ => false,
    }
}

/// Returns the fields of an object by key; `None` if a key has an unpaired surrogate.
fn exact_entries(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(text).ok()
}

/// Appends `text` as a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    // Writing to a vector cannot fail, and a string always serializes.
    let _ = serde_json::to_writer(out, text);
}

/// Sets a field of an object; any other value stays as it is.
pub(crate) fn set(object: &mut serde_json::Value, key: &str, value: serde_json::Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn fields_are_found_in_any_order_and_the_last_of_a_repeated_key_counts() {
        let text = r#" {"b":1,"a":{"x":[1.10]},"\u0062":"two","c":null} "#;
        let [a, b, c, d] =
            fields(text, ["a", "b", "c", "d"]).unwrap().map(|field| field.map(RawValue::get));
        assert_eq!((a, b, c, d), (Some(r#"{"x":[1.10]}"#), Some(r#""two""#), Some("null"), None));
        for text in ["[]", "null", "", "{", "{} {}", r#"{"a":01}"#, "\u{feff}{}"] {
            assert!(fields(text, ["a"]).is_none(), "{text}");
        }
    }

    #[test]
    fn a_field_of_null_is_absent_where_only_present_ones_are_wanted() {
        let text = r#"{"a":null,"b":1,"b": null ,"c":"null","d":false,"e":null,"e":2}"#;
        let found = present_fields(text, ["a", "b", "c", "d", "e", "f"]).unwrap();
        let [a, b, c, d, e, f] = found.map(|field| field.map(RawValue::get));
        assert_eq!((a, b, f), (None, None, None));
        assert_eq!((c, d, e), (Some(r#""null""#), Some("false"), Some("2")));
    }

    #[test]
    fn other_fields_keep_their_order_and_the_last_of_a_repeated_key_counts() {
        let text = r#"{"b":1,"a":{"x":[1.10]},"\u0062":"two","c":null,"d":1,"b":3}"#;
        let found: Vec<(String, &str)> = others(text, &["a", "x"])
            .into_iter()
            .map(|(key, value)| (key.into(), value.get()))
            .collect();
        assert_eq!(found, [("c".into(), "null"), ("d".into(), "1"), ("b".into(), "3")]);
        assert!(others("[1]", &[]).is_empty() && others("{", &[]).is_empty());
    }

    #[test]
    fn a_member_is_cut_out_with_one_comma_and_every_other_byte_stays() {
        for (text, expected) in [
            (r#"{"groups":[]}"#, "{}"),
            (r#"{"groups":[],"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1,"groups":[]}"#, r#"{"a":1}"#),
            (r#"{ "a" : 1 , "groups" : [ {"a":1} ] , "b" : 2 }"#, r#"{ "a" : 1 , "b" : 2 }"#),
            (r#"{ "groups":1, "gr\u006fups" : 2 , "b":1.10 }"#, r#"{ "b":1.10 }"#),
            (r#"{"groups":1,"groups":2}"#, "{}"),
            (r#"{"groups":1,"a":1,"groups":2,"a":2,"groups":3}"#, r#"{"a":1,"a":2}"#),
            (
                r#"{"a":{"groups":[1]},"Groups":1,"b":"groups"}"#,
                r#"{"a":{"groups":[1]},"Groups":1,"b":"groups"}"#,
            ),
            (" { } ", " { } "),
            ("{\"groups\":1\n}", "{\n}"),
        ] {
            assert_eq!(without(text, "groups").as_deref(), Some(expected), "{text}");
        }
        for text in ["", "[]", "null", "{", r#"{"groups":}"#, r#"{"a":1}{}"#, r#"{"groups":1,}"#] {
            assert_eq!(without(text, "groups"), None, "{text}");
        }
    }

    #[test]
    fn an_object_without_a_member_has_the_same_others_in_the_same_bytes() {
        let keys = [r#""groups""#, r#""gr\u006fups""#, r#""a""#, r#""\u0061""#, r#""groups ""#];
        let values = ["1.10", r#"{"groups":[1,{"a":"\ud800"}],"a":2}"#, "[]", r#""gröups,\"""#];
        let gaps = ["", " ", "\n\t"];
        let mut random = 7_u64;
        let mut below = |bound: usize| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as usize % bound
        };
        for _ in 0..2000 {
            let members: Vec<[&str; 6]> = (0..below(6))
                .map(|_| {
                    let gap = [gaps[below(3)], gaps[below(3)], gaps[below(3)], gaps[below(3)]];
                    [gap[0], keys[below(5)], gap[1], gap[2], values[below(4)], gap[3]]
                })
                .collect();
            let written =
                members.iter().map(|[a, key, b, c, value, d]| format!("{a}{key}{b}:{c}{value}{d}"));
            let text = format!("{{{}}}", written.collect::<Vec<_>>().join(","));
            let cut = without(&text, "groups").unwrap();
            let all = |text| -> Vec<(String, &str)> {
                let pairs = pairs(text).into_iter();
                pairs.map(|(key, value)| (key.into_owned(), value.get())).collect()
            };
            let mut expected = all(text.as_str());
            expected.retain(|(key, _)| key != "groups");
            assert_eq!(all(cut.as_str()), expected, "{text}");
            assert_eq!(without(&cut, "groups").as_deref(), Some(cut.as_str()));
            if expected.len() == members.len() {
                assert_eq!(cut, text);
            }
        }
    }

    #[test]
    fn an_unpaired_surrogate_is_replaced_and_the_rest_is_kept() {
        let table = [
            (r#""Schmidt \ud83d""#, "Schmidt \u{fffd}"),
            (r#""\ude00 Schmidt""#, "\u{fffd} Schmidt"),
            (r#""\uD83d\uDe00""#, "\u{1f600}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\ud83d\n\ude00""#, "\u{fffd}\n\u{fffd}"),
            (r#""\\ud83d""#, r"\ud83d"),
            (r#""\\\ud83d""#, "\\\u{fffd}"),
            (r#""\"\ud83d\"é""#, "\"\u{fffd}\"é"),
        ];
        for (written, expected) in table {
            assert_eq!(string(Some(&raw(written))).unwrap(), expected, "{written}");
            let expected_name = (!expected.contains('\u{fffd}')).then_some(expected);
            assert_eq!(name(Some(&raw(written))).as_deref(), expected_name, "{written}");
            let parsed: String = serde_json::from_str(&well_formed(written)).unwrap();
            assert_eq!(parsed, expected, "{written}");
        }
    }

    #[test]
    fn an_unpaired_surrogate_in_one_key_leaves_the_others_readable() {
        let text = r#"{"\ud83d":1,"a":{"\ude00 b":2},"b":"c"}"#;
        let [a, b] = fields(text, ["a", "b"]).unwrap().map(|field| field.map(RawValue::get));
        assert_eq!((a, b), (Some(r#"{"\ude00 b":2}"#), Some(r#""c""#)));
        let keys: Vec<String> = pairs(text).into_iter().map(|(key, _)| key.into()).collect();
        assert_eq!(keys, ["\u{fffd}", "a", "b"]);
        assert!(entries(text).unwrap().contains_key("\u{fffd}"));
        for text in ["{\"a\nb\":1}", "{\"a\":1,1:2}", "{\"a\\x\":1}"] {
            assert!(fields(text, ["a"]).is_none() && pairs(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn values_that_differ_in_an_unpaired_surrogate_are_not_equal() {
        let pairs = [
            (r#""\ud83d""#, r#""\ud83c""#),
            (r#"{"a":"\ud83d"}"#, r#"{"a":"\ufffd"}"#),
            (r#"{"\ud83d":1}"#, r#"{"\ud83c":1}"#),
        ];
        for (a, b) in pairs {
            assert!(!equal(Some(&raw(a)), Some(&raw(b))), "{a} {b}");
            assert!(equal(Some(&raw(a)), Some(&raw(a))), "{a}");
        }
    }

    #[test]
    fn levels_are_counted_outside_of_strings() {
        for (text, expected) in [
            ("1", 0),
            ("{}", 1),
            (r#"{"a":[1,{"b":2}],"c":[]}"#, 3),
            (r#"["[[[[","\"[[[","\\",[]]"#, 2),
            (r#"{"{{[\"":1}"#, 1),
        ] {
            assert_eq!(levels(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn values_are_compared_as_json() {
        let table = [
            (r#"{"a":1,"b":[true,"x"]}"#, r#"{ "b" : [ true, "\u0078" ], "a" : 1 }"#, true),
            (r#"{"a":2,"a":1}"#, r#"{"a":1}"#, true),
            ("1.0", "1.00", false),
            ("1", "1 ", true),
            ("12345678901234567890123", "12345678901234567890124", false),
            ("null", "false", false),
            (r#"{"a":null}"#, "{}", false),
            ("[1,2]", "[2,1]", false),
        ];
        for (a, b, expected) in table {
            assert_eq!(equal(Some(&raw(a)), Some(&raw(b))), expected, "{a} {b}");
        }
        assert!(!equal(None, Some(&raw("null"))));
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(70), "]".repeat(70));
        assert!(equal(Some(&raw(&deep("1"))), Some(&raw(&deep("1")))));
        assert!(!equal(Some(&raw(&deep("1"))), Some(&raw(&deep(" 1")))));
    }
}
