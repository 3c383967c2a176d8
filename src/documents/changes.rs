//! Comparison of two snapshots of the source, field by field, with the values as they were written.

use std::collections::BTreeMap;

use rollcall_projections::{Named, Part};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::json::{entries, equal, fields, fields_of, object, present, string};

/// Fields that are not compared: they say which object it is, when the source wrote it, or what
/// belongs to it.
const NOT_COMPARED: [&str; 6] =
    ["object", "id", "created_at", "updated_at", "previous_attributes", "groups"];

/// Fields that are compared key by key.
const BY_KEY: [&str; 2] = ["custom_attributes", "raw_attributes"];

/// A field's value in two snapshots; `null` where it is absent.
#[derive(Debug, Serialize)]
pub struct FieldChange<'a> {
    from: Option<&'a RawValue>,
    to: Option<&'a RawValue>,
}

/// A field's value in the known version, and the replaced value that the source states; `null`
/// where it is absent.
#[derive(Debug, Serialize)]
pub struct MissedChange<'a> {
    known: Option<&'a RawValue>,
    said: Option<&'a RawValue>,
}

/// Leaves out the organizations and directories that are not seen, as if the snapshots had none.
pub fn conceal(changes: &mut BTreeMap<String, FieldChange<'_>>, sees: impl Fn(Named<'_>) -> bool) {
    for field in ["organization_id", "directory_id"] {
        let Some(change) = changes.get_mut(field) else { continue };
        let mut sides = [&mut change.from, &mut change.to];
        for side in &mut sides {
            **side = side.filter(|value| is_seen(field, value, &sees));
        }
        if sides.iter().all(|side| side.is_none()) {
            changes.remove(field);
        }
    }
}

/// Leaves out the missed changes of which a side is not seen: without it they would tell of another
/// change.
pub fn conceal_missed(
    missed: &mut BTreeMap<String, MissedChange<'_>>,
    sees: impl Fn(Named<'_>) -> bool,
) {
    missed.retain(|field, change| {
        let sides = [change.known, change.said];
        let named = matches!(field.as_str(), "organization_id" | "directory_id");
        !named || sides.into_iter().flatten().all(|side| is_seen(field, side, &sees))
    });
}

fn is_seen(field: &str, value: &RawValue, sees: impl Fn(Named<'_>) -> bool) -> bool {
    string(Some(value)).is_some_and(|id| match field {
        "organization_id" => sees(Named::Organization(&id)),
        _ => sees(Named::Directory(&id)),
    })
}

/// Returns the snapshot in a record's body; an empty object if there is none.
pub fn snapshot(body: &[u8], part: Part) -> &str {
    let [data] = fields(text(body), ["data"]).unwrap_or_default();
    let [snapshot] = match part {
        Part::Data => [data],
        Part::User => fields_of(data, ["user"]).unwrap_or_default(),
        Part::Group => fields_of(data, ["group"]).unwrap_or_default(),
        Part::Object => fields_of(data, ["object"]).unwrap_or_default(),
    };
    object(snapshot).unwrap_or("{}")
}

/// Returns the values that an event states as replaced: in its data, else in its context.
pub fn stated_previous(body: &[u8]) -> Option<&str> {
    let [data, context] = fields(text(body), ["data", "context"]).unwrap_or_default();
    previous_in(data).or_else(|| previous_in(context))
}

/// Returns the `previous_attributes` in an event's data or context.
pub(super) fn previous_in(value: Option<&RawValue>) -> Option<&str> {
    fields_of(value, ["previous_attributes"]).and_then(|[previous]| object(previous))
}

fn text(body: &[u8]) -> &str {
    std::str::from_utf8(body).unwrap_or("{}")
}

/// Returns the fields of two snapshots that differ as JSON values, numbers by their text. An absent
/// field equals `null`.
pub fn changed_fields<'a>(from: &'a str, to: &'a str) -> BTreeMap<String, FieldChange<'a>> {
    let differing = compare(from, to, Keys::OfBoth).into_iter();
    differing.map(|(field, [from, to])| (field, FieldChange { from, to })).collect()
}

/// Returns the fields whose replaced value, as the source states it, differs from the known
/// snapshot.
pub fn missed_fields<'a>(known: &'a str, said: &'a str) -> BTreeMap<String, MissedChange<'a>> {
    let differing = compare(known, said, Keys::OfSecond).into_iter();
    differing.map(|(field, [known, said])| (field, MissedChange { known, said })).collect()
}

/// The fields of two objects that are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    OfBoth,
    OfSecond,
}

type Entries<'a> = BTreeMap<String, &'a RawValue>;

/// Returns the fields that differ, with both values.
fn compare<'a>(
    first: &'a str,
    second: &'a str,
    keys: Keys,
) -> BTreeMap<String, [Option<&'a RawValue>; 2]> {
    let [first, second] = [first, second].map(|text| entries(text).unwrap_or_default());
    let mut differing = BTreeMap::new();
    for (field, values) in pairs(&first, &second, keys) {
        if NOT_COMPARED.contains(&field) {
            continue;
        }
        match by_key(field, values) {
            Some([first, second]) => {
                let inner =
                    pairs(&first, &second, keys).into_iter().filter(|(_, values)| differ(*values));
                differing.extend(inner.map(|(key, values)| (format!("{field}.{key}"), values)));
            }
            None if differ(values) => {
                // An attribute beats a root field of the same name.
                differing.entry(field.to_owned()).or_insert(values);
            }
            None => {}
        }
    }
    differing
}

/// Returns each key with its two values; `null` is absent.
fn pairs<'k, 'a>(
    first: &'k Entries<'a>,
    second: &'k Entries<'a>,
    keys: Keys,
) -> BTreeMap<&'k str, [Option<&'a RawValue>; 2]> {
    let also = first.keys().filter(|_| keys == Keys::OfBoth);
    second
        .keys()
        .chain(also)
        .map(|key| (key.as_str(), [given(first, key), given(second, key)]))
        .collect()
}

fn given<'a>(entries: &Entries<'a>, key: &str) -> Option<&'a RawValue> {
    present(entries.get(key).copied())
}

/// Returns the two sides of a field that is compared key by key; `None` unless each is absent or an
/// object.
fn by_key<'a>(field: &str, values: [Option<&'a RawValue>; 2]) -> Option<[Entries<'a>; 2]> {
    if !BY_KEY.contains(&field) {
        return None;
    }
    let [first, second] = values;
    Some([entries_or_none(first)?, entries_or_none(second)?])
}

/// Returns the entries of an object, none for an absent value; `None` for any other value.
fn entries_or_none(value: Option<&RawValue>) -> Option<Entries<'_>> {
    value.map_or(Some(Entries::new()), |value| entries(value.get()))
}

fn differ([first, second]: [Option<&RawValue>; 2]) -> bool {
    !equal(first, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: impl Serialize) -> String {
        serde_json::to_string(&value).unwrap()
    }

    #[test]
    fn snapshots_are_compared_field_by_field() {
        for (from, to, expected) in [
            ("{}", "{}", "{}"),
            (r#"{"email":"a@x"}"#, r#"{"email":"b@x"}"#, r#"{"email":{"from":"a@x","to":"b@x"}}"#),
            (r#"{"a":1}"#, r#"{"a":1.0}"#, r#"{"a":{"from":1,"to":1.0}}"#),
            (r#"{"a":1000}"#, r#"{"a":1e3}"#, r#"{"a":{"from":1000,"to":1e3}}"#),
            (r#"{"a":1e400,"b":"\ud800"}"#, r#"{"a":1e400,"b":"\ud800"}"#, "{}"),
            (r#"{"a":null}"#, "{}", "{}"),
            (r#"{"a":null}"#, r#"{"a":0}"#, r#"{"a":{"from":null,"to":0}}"#),
            (r#"{"a":"x\u00e9"}"#, r#"{"a":"xé"}"#, "{}"),
            (r#"{"e":[{"a":1,"b":2}]}"#, r#"{"e":[{"b":2,"a":1}]}"#, "{}"),
            (r#"{"e":[{"a":null}]}"#, r#"{"e":[{}]}"#, r#"{"e":{"from":[{"a":null}],"to":[{}]}}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#, "{}"),
            (
                r#"{"object":"x","id":"1","created_at":"1","updated_at":"1","previous_attributes":{"a":1},"groups":[1]}"#,
                r#"{"object":"y","id":"2","created_at":"2","updated_at":"2","previous_attributes":{"a":2},"groups":[]}"#,
                "{}",
            ),
        ] {
            assert_eq!(json(changed_fields(from, to)), expected, "{from} {to}");
        }
    }

    #[test]
    fn attributes_are_compared_key_by_key_where_both_sides_can_be() {
        for (from, to, expected) in [
            (
                r#"{"custom_attributes":{"a":1,"b":2}}"#,
                r#"{"custom_attributes":{"b":2,"c":3}}"#,
                r#"{"custom_attributes.a":{"from":1,"to":null},"custom_attributes.c":{"from":null,"to":3}}"#,
            ),
            (
                r#"{"raw_attributes":{"a":{"b":1}}}"#,
                r#"{"raw_attributes":{"a":{"b":2}}}"#,
                r#"{"raw_attributes.a":{"from":{"b":1},"to":{"b":2}}}"#,
            ),
            (r#"{"custom_attributes":{"a":null}}"#, r#"{"custom_attributes":null}"#, "{}"),
            (r#"{"custom_attributes":{}}"#, "{}", "{}"),
            (
                "{}",
                r#"{"custom_attributes":{"a":1}}"#,
                r#"{"custom_attributes.a":{"from":null,"to":1}}"#,
            ),
            (
                r#"{"custom_attributes":[1]}"#,
                r#"{"custom_attributes":{"a":1}}"#,
                r#"{"custom_attributes":{"from":[1],"to":{"a":1}}}"#,
            ),
            (
                r#"{"custom_attributes":"x"}"#,
                "{}",
                r#"{"custom_attributes":{"from":"x","to":null}}"#,
            ),
            (
                r#"{"custom_attributes":{"\ud800":1}}"#,
                "{}",
                "{\"custom_attributes.\u{fffd}\":{\"from\":1,\"to\":null}}",
            ),
            (
                r#"{"other":{"a":1}}"#,
                r#"{"other":{"a":2}}"#,
                r#"{"other":{"from":{"a":1},"to":{"a":2}}}"#,
            ),
            (
                r#"{"custom_attributes":{"a":1},"custom_attributes.a":5}"#,
                r#"{"custom_attributes":{"a":2},"custom_attributes.a":6}"#,
                r#"{"custom_attributes.a":{"from":1,"to":2}}"#,
            ),
        ] {
            assert_eq!(json(changed_fields(from, to)), expected, "{from} {to}");
        }
    }

    #[test]
    fn stated_replaced_values_are_compared_with_known_ones() {
        for (known, said, expected) in [
            (r#"{"email":"a@x","name":"A"}"#, r#"{"email":"a@x"}"#, "{}"),
            (
                r#"{"email":"a@x"}"#,
                r#"{"email":"b@x"}"#,
                r#"{"email":{"known":"a@x","said":"b@x"}}"#,
            ),
            ("{}", r#"{"email":null}"#, "{}"),
            (r#"{"email":"a@x"}"#, r#"{"email":null}"#, r#"{"email":{"known":"a@x","said":null}}"#),
            (r#"{"updated_at":"1"}"#, r#"{"updated_at":"2"}"#, "{}"),
            (r#"{"custom_attributes":{"a":1,"b":2}}"#, r#"{"custom_attributes":{"a":1}}"#, "{}"),
            (
                r#"{"custom_attributes":{"a":1,"b":2}}"#,
                r#"{"custom_attributes":{"a":1.0,"c":3}}"#,
                r#"{"custom_attributes.a":{"known":1,"said":1.0},"custom_attributes.c":{"known":null,"said":3}}"#,
            ),
        ] {
            assert_eq!(json(missed_fields(known, said)), expected, "{known} {said}");
        }
    }

    #[test]
    fn a_missed_change_with_a_side_that_is_not_seen_is_left_out() {
        let known = r#"{"directory_id":"d","organization_id":"a","name":"n"}"#;
        let said = r#"{"directory_id":"e","organization_id":"b","name":"m"}"#;
        let mut missed = missed_fields(known, said);
        assert_eq!(missed.len(), 3);
        conceal_missed(&mut missed, |named| {
            matches!(named, Named::Directory(_) | Named::Organization("a"))
        });
        assert_eq!(missed.keys().collect::<Vec<_>>(), ["directory_id", "name"]);
    }
}
