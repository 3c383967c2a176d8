//! Two objects compared as they would be served: derived fields, `null` as missing, numbers by
//! their text, and none of the keys that the form of a source adds.

use std::collections::BTreeMap;

use rollcall_projections::{DirectoryRow, EntityRow, Millis};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::documents::{Document, Shape, open_entity, push_directory, read_snapshot, served_state};
use crate::json::{array, entries, fields, object, present, push_string, string};
use crate::{time, verify};

/// Fields that are no difference: the version of the object, and what belongs to it.
const NOT_COMPARED: [&str; 4] = ["object", "id", "updated_at", "groups"];

/// Fields that are compared key by key.
const BY_KEY: [&str; 2] = ["custom_attributes", "raw_attributes"];

/// The fields of a directory that are compared.
const OF_DIRECTORY: [&str; 6] =
    ["name", "type", "external_key", "organization_id", "domain", "state"];

/// The field that is compared only where both sides have it: it is derived where it is missing.
const CREATED_AT: &str = "created_at";

/// The levels of a value from which on its text is taken as it is.
const LEVELS_MAX: usize = 64;

/// An object as it would be served: each field with its value in a form of its own, so that equal
/// values have equal texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    fields: BTreeMap<String, String>,
    /// The version of the object, if it has one.
    pub(crate) updated_at: Option<Millis>,
    /// False for a user, or a directory, whose state ends access.
    pub(crate) active: bool,
}

/// The short digest of an object: equal for equal ones.
pub(crate) type Digest = [u8; 16];

/// The directory in which an object was listed, for what the object leaves out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home<'a> {
    pub(crate) directory: &'a str,
    pub(crate) organization: &'a str,
}

impl Served {
    /// Reads a user or group of the source.
    pub(crate) fn theirs(shape: Shape, source: &str, home: Home<'_>) -> Served {
        let row = EntityRow::unknown();
        let mut served = Served::entity(&read_snapshot(shape, source), &row);
        // The row completes times that the object has not.
        let times = fields(source, [CREATED_AT, "updated_at"]).unwrap_or_default();
        let [created_at, updated_at] = times.map(moment);
        served.updated_at = updated_at;
        if created_at.is_none() {
            served.fields.remove(CREATED_AT);
        }
        // An id that is not usable is as one that is not given.
        if super::record::own_directory(source).is_none() {
            served.fields.remove("directory_id");
        }
        served.complete("directory_id", home.directory);
        served.complete("organization_id", home.organization);
        served
    }

    /// Reads a user or group as it is served; `document` is that of the row.
    pub(crate) fn ours(document: &Document, row: &EntityRow, updated_at: Option<Millis>) -> Served {
        Served { updated_at, ..Served::entity(document, row) }
    }

    /// Sets the directory in which the log has a user or group.
    pub(crate) fn in_directory(mut self, directory: &str) -> Served {
        self.fields.remove("directory_id");
        self.complete("directory_id", directory);
        self
    }

    fn entity(document: &Document, row: &EntityRow) -> Served {
        let mut json = Vec::with_capacity(1024);
        open_entity(&mut json, document, row);
        json.push(b'}');
        Served::of(std::str::from_utf8(&json).unwrap_or("{}"))
    }

    /// Reads a directory of the source.
    pub(crate) fn their_directory(source: &str) -> Served {
        let mut row = DirectoryRow::unknown();
        let [organization, state, updated_at] =
            fields(source, ["organization_id", "state", "updated_at"]).unwrap_or_default();
        row.organization = string(organization).unwrap_or_default().into_owned();
        let document = read_snapshot(Shape::Directory, source);
        let mut served = Served::our_directory(Some(&document), &row);
        served.set_state(&string(state).unwrap_or_default());
        served.updated_at = moment(updated_at);
        served
    }

    /// Reads a directory as it is served; a stub has no document.
    pub(crate) fn our_directory(document: Option<&Document>, row: &DirectoryRow) -> Served {
        let mut json = Vec::with_capacity(512);
        push_directory(&mut json, document, row);
        let mut served = Served::of(std::str::from_utf8(&json).unwrap_or("{}"));
        served.fields.retain(|field, _| OF_DIRECTORY.contains(&field.as_str()));
        let state = served.fields.get("state").cloned().unwrap_or_default();
        served.set_state(state.trim_matches('"'));
        served
    }

    /// Sets a directory's state in the words of the API, from those of the API or of events.
    fn set_state(&mut self, state: &str) {
        let state = served_state(Some(state));
        self.active = !matches!(state, "unlinked" | "deleting");
        let mut text = Vec::new();
        push_string(&mut text, state);
        self.fields.insert("state".into(), String::from_utf8(text).unwrap_or_default());
    }

    fn of(json: &str) -> Served {
        let mut served = Served::default();
        for (field, value) in entries(json).unwrap_or_default() {
            if field == "state" {
                served.active = value.get() == "\"active\"";
            }
            if NOT_COMPARED.contains(&field.as_str()) {
                continue;
            }
            let Some(value) = present(Some(value)) else { continue };
            served.add(field, value);
        }
        served
    }

    fn add(&mut self, field: String, value: &RawValue) {
        match entries(value.get()).filter(|_| BY_KEY.contains(&field.as_str())) {
            Some(inner) => {
                let given = inner.into_iter().filter(|(_, value)| present(Some(value)).is_some());
                self.fields.extend(
                    given.map(|(key, value)| (format!("{field}.{key}"), canonical(value.get(), 0))),
                );
            }
            // No organization is the same as one that is not given.
            None if field == "organization_id" && value.get() == "\"\"" => {}
            None => {
                self.fields.entry(field).or_insert_with(|| canonical(value.get(), 0));
            }
        }
    }

    fn complete(&mut self, field: &str, value: &str) {
        if !value.is_empty() && !self.fields.contains_key(field) {
            let mut text = Vec::new();
            push_string(&mut text, value);
            self.fields.insert(field.into(), String::from_utf8(text).unwrap_or_default());
        }
    }

    /// Returns the value of a field as JSON.
    pub(crate) fn value(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(String::as_str)
    }

    /// Returns a field that is a text and not empty.
    pub(crate) fn text(&self, field: &str) -> Option<String> {
        let text: String = serde_json::from_str(self.value(field)?).ok()?;
        Some(text).filter(|text| !text.is_empty())
    }

    /// Returns a digest that is equal for objects with the same fields.
    pub(crate) fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for (field, value) in &self.fields {
            for part in [field, value] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        let whole: [u8; 32] = hash.finalize().into();
        let mut digest = Digest::default();
        digest.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        digest
    }

    /// Returns the fields that differ, in order of name.
    pub(crate) fn differing(&self, other: &Served) -> Vec<String> {
        let mut names: Vec<&String> = self.fields.keys().chain(other.fields.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let differs = |name: &&String| {
            let sides = [self.fields.get(*name), other.fields.get(*name)];
            let derived = name.as_str() == CREATED_AT && sides.contains(&None);
            !derived && sides.first() != sides.last()
        };
        names.into_iter().filter(differs).cloned().collect()
    }
}

fn moment(value: Option<&RawValue>) -> Option<Millis> {
    string(value).and_then(|text| time::parse(&text))
}

/// Writes a JSON value so that equal values have equal texts: keys in order, strings with the same
/// escapes, numbers as they are.
fn canonical(value: &str, levels: usize) -> String {
    if levels == LEVELS_MAX {
        return value.to_owned();
    }
    let mut out = Vec::with_capacity(value.len());
    let raw = serde_json::from_str::<&RawValue>(value).ok();
    if object(raw).is_some() {
        out.push(b'{');
        for (at, (key, value)) in entries(value).unwrap_or_default().into_iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            push_string(&mut out, &key);
            out.push(b':');
            out.extend_from_slice(canonical(value.get(), levels + 1).as_bytes());
        }
        out.push(b'}');
    } else if let Some(items) = array(raw) {
        let items = items.into_iter().map(|item| canonical(item.get(), levels + 1));
        return format!("[{}]", items.collect::<Vec<_>>().join(","));
    } else if let Some(text) = string(raw) {
        push_string(&mut out, &text);
    } else {
        return value.to_owned();
    }
    String::from_utf8(out).unwrap_or_default()
}

/// Returns the id of an object of the source: of 1 to 255 bytes, and of its kind.
pub(crate) fn usable_id(shape: Shape, source: &str) -> Option<String> {
    let [id, kind] = fields(source, ["id", "object"])?;
    let id = verify::id(id)?;
    let word = match shape {
        Shape::Directory => "directory",
        Shape::User => "directory_user",
        Shape::Group => "directory_group",
    };
    let is_usable = !verify::is_of_another_kind(word, &id, kind) && !id.contains('\0');
    is_usable.then(|| id.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Home<'_> = Home { directory: "directory_1", organization: "org_1" };

    fn user(source: &str) -> Served {
        Served::theirs(Shape::User, source, HOME)
    }

    #[test]
    fn users_differ_where_they_would_be_served_differently() {
        let base = r#"{"id":"directory_user_1","state":"active","email":"a@x.example",
            "custom_attributes":{"department":"Ops","floor":3}}"#;
        for (other, expected) in [
            (base, &[][..]),
            // The form of the source adds keys, and another version is no difference.
            (
                r#"{"id":"directory_user_1","object":"directory_user","groups":[],"new_key":1,
                "state":"active","email":"a@x.example","updated_at":"2026-01-02T00:00:00.000Z",
                "created_at":"2026-01-01T00:00:00.000Z","organization_id":"org_1",
                "directory_id":"directory_1","first_name":null,"raw_attributes":{},"emails":[],
                "custom_attributes":{"floor":3,"department":"\u004fps","manager":null}}"#,
                &[],
            ),
            // The email is derived from the list of emails.
            (
                r#"{"id":"directory_user_1","state":"active","custom_attributes":
                {"department":"Ops","floor":3},"emails":[{"primary":true,"value":"a@x.example"}]}"#,
                &["emails"],
            ),
            (
                r#"{"id":"directory_user_1","state":"suspended","email":"a@x.example",
                "custom_attributes":{"department":"Ops","floor":3}}"#,
                &["state"],
            ),
            // Numbers are compared by their text.
            (
                r#"{"id":"directory_user_1","state":"active","email":"a@x.example",
                "custom_attributes":{"department":"Ops","floor":3.0}}"#,
                &["custom_attributes.floor"],
            ),
            (
                r#"{"id":"directory_user_1","state":"active","email":"b@x.example",
                "role":{"slug":"admin"},"custom_attributes":{"floor":3}}"#,
                &["custom_attributes.department", "email", "role"],
            ),
            (
                r#"{"id":"directory_user_1","state":"active","email":"a@x.example",
                "organization_id":"org_2","directory_id":"directory_2",
                "custom_attributes":{"department":"Ops","floor":3}}"#,
                &["directory_id", "organization_id"],
            ),
        ] {
            let (one, two) = (user(base), user(other));
            assert_eq!(one.differing(&two), expected, "{other}");
            assert_eq!(two.differing(&one), expected, "{other}");
        }
    }

    #[test]
    fn a_creation_is_compared_only_where_both_sides_have_one() {
        let at = |created_at: &str| {
            user(&format!(r#"{{"id":"u","state":"active","created_at":"{created_at}"}}"#))
        };
        let (first, same) = (at("2026-01-01T00:00:00Z"), at("2026-01-01 00:00:00.000+0000"));
        assert!(first.differing(&same).is_empty() && first.digest() == same.digest());
        assert_eq!(first.differing(&at("2026-01-02T00:00:00Z")), ["created_at"]);
        assert!(first.differing(&user(r#"{"id":"u","state":"active"}"#)).is_empty());
    }

    #[test]
    fn digests_are_equal_exactly_where_no_field_differs() {
        let sources = [
            r#"{"id":"u","state":"active","email":"a"}"#,
            r#"{"email":"a","id":"u","state":"active"}"#,
            r#"{"id":"u","state":"inactive","email":"a"}"#,
            r#"{"id":"u","state":"active","custom_attributes":{"a":{"x":1,"y":[2,"\u0041"]}}}"#,
            r#"{"id":"u","state":"active","custom_attributes":{"a":{"y":[2,"A"],"x":1}}}"#,
            r#"{"id":"u","state":"active","custom_attributes":{"a":{"y":[2,"A"],"x":1e0}}}"#,
            r#"{"id":"u","state":"active","custom_attributes":{"a.x":1}}"#,
        ];
        for one in sources {
            for two in sources {
                let (one, two) = (user(one), user(two));
                let same = one.differing(&two).is_empty();
                assert_eq!(one.digest() == two.digest(), same, "{one:?} {two:?}");
            }
        }
    }

    #[test]
    fn directories_are_compared_by_six_fields() {
        let base = r#"{"id":"d","name":"Foo","type":"okta scim v2.0","state":"linked",
            "organization_id":"org_1","external_key":"k","domain":"foo.example"}"#;
        for (other, expected) in [
            (
                r#"{"id":"d","name":"Foo","type":"okta scim v2.0","state":"active","metadata":{},
                "organization_id":"org_1","external_key":"k","domains":[{"domain":"foo.example"}],
                "created_at":"2020-01-01T00:00:00Z","updated_at":"2021-01-01T00:00:00Z"}"#,
                &[][..],
            ),
            (
                r#"{"id":"d","name":"Foo","type":"okta scim v2.0","state":"invalid_credentials",
                "organization_id":"org_1","external_key":"k","domain":"foo.example"}"#,
                &["state"],
            ),
            (
                r#"{"id":"d","name":"Bar","type":"workday","state":"inactive"}"#,
                &["domain", "external_key", "name", "organization_id", "state", "type"],
            ),
        ] {
            let (one, two) = (Served::their_directory(base), Served::their_directory(other));
            assert_eq!(one.differing(&two), expected, "{other}");
        }
        assert!(Served::their_directory(base).active);
        for (state, active) in
            [("unlinked", false), ("inactive", false), ("deleting", false), ("validating", true)]
        {
            let source = format!(r#"{{"id":"d","state":"{state}"}}"#);
            assert_eq!(Served::their_directory(&source).active, active, "{state}");
        }
    }

    #[test]
    fn an_id_is_one_of_its_kind() {
        for (shape, source, expected) in [
            (Shape::User, r#"{"id":"u"}"#, Some("u")),
            (Shape::User, r#"{"id":"u","object":"directory_user"}"#, Some("u")),
            (Shape::User, r#"{"id":"u","object":"directory_group"}"#, None),
            (Shape::User, r#"{"id":"directory_group_1"}"#, None),
            (Shape::Group, r#"{"id":"directory_user_1"}"#, None),
            (
                Shape::Group,
                r#"{"id":"directory_group_1","object":null}"#,
                Some("directory_group_1"),
            ),
            (Shape::Directory, r#"{"id":"directory_user_1"}"#, None),
            (Shape::Directory, r#"{"id":"directory_1","object":"directory"}"#, Some("directory_1")),
            (Shape::User, r#"{"id":""}"#, None),
            (Shape::User, r#"{"id":"a\u0000b"}"#, None),
            (Shape::User, r#"{"id":"\ud800"}"#, None),
            (Shape::User, r#"{"id":7}"#, None),
            (Shape::User, "[]", None),
        ] {
            assert_eq!(usable_id(shape, source).as_deref(), expected, "{source}");
        }
        let long = |bytes: usize| format!(r#"{{"id":"{}"}}"#, "u".repeat(bytes));
        assert!(usable_id(Shape::User, &long(255)).is_some());
        assert!(usable_id(Shape::User, &long(256)).is_none());
    }
}
