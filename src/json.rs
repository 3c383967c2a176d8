//! JSON read in place: fields are picked out of a text without building a tree, so that values pass
//! through byte for byte.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

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
/// not a JSON object, or a key is not valid Unicode.
pub fn entries(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(text).ok()
}

struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(key) = map.next_key::<BorrowedKey<'de>>()? {
                    pairs.push((key.0, map.next_value()?));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

/// A key that is copied only where it is escaped: serde's own `Cow` always copies.
#[derive(serde::Deserialize)]
struct BorrowedKey<'a>(#[serde(borrow)] Cow<'a, str>);

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
        while let Some(at) = map.next_key_seed(NamePosition(&self.names))? {
            match at.and_then(|at| found.get_mut(at)) {
                Some(slot) => *slot = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Reads a key as its position among the wanted names.
struct NamePosition<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for NamePosition<'_> {
    type Value = Option<usize>;

    fn deserialize<D: de::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NamePosition<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

/// Returns the value as a string, if it is one.
pub fn string<'a>(value: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    let text = value?.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(text).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Returns the value's text, if it is an object.
pub fn object(value: Option<&RawValue>) -> Option<&str> {
    value.map(RawValue::get).filter(|text| text.starts_with('{'))
}

/// Returns the elements of an array, if the value is one.
pub fn array(value: Option<&RawValue>) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.map(RawValue::get).filter(|text| text.starts_with('['))?).ok()
}

/// The depth from which [`equal`] compares texts.
const DEPTH_MAX: usize = 64;

/// Compares two values as JSON: the order of keys and white space do not matter, numbers are
/// compared by their text.
///
/// Values nested deeper than 64 levels, and those with text that is not valid Unicode, are equal
/// only if they are written alike.
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
        Some(b'{') => entries(a).zip(entries(b)).is_some_and(|(a, b)| {
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

/// Appends `text` as a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    // Writing to a vector cannot fail, and a string always serializes.
    let _ = serde_json::to_writer(out, text);
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
