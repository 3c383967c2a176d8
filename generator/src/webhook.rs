//! Webhook bodies in the shapes that WorkOS sends today, with every key in its order.

use rollcall_projections::Millis;
use serde::Serialize;
use serde_json::{Map, Value};
use ulid::Ulid;

use crate::timestamp;

/// Returns an id that ends in a ULID of `at`, a moment after 1970, and the lower 80 bits of
/// `entropy`.
pub(super) fn id(kind: &str, at: Millis, entropy: u128) -> String {
    format!("{kind}_{}", Ulid::from_parts(at.max(0).unsigned_abs(), entropy))
}

#[derive(Serialize)]
struct Envelope<'a, D> {
    object: &'static str,
    id: &'a str,
    event: &'a str,
    data: D,
    created_at: String,
    context: Empty,
}

/// Returns the body of an event, as compact as `JSON.stringify` writes it.
pub(super) fn body(id: &str, event: &str, at: Millis, data: impl Serialize) -> String {
    let envelope =
        Envelope { object: "event", id, event, data, created_at: timestamp(at), context: Empty {} };
    // Text keys and plain values always serialize.
    serde_json::to_string(&envelope).unwrap_or_default()
}

/// `{}`
#[derive(Clone, Serialize)]
pub(super) struct Empty {}

#[derive(Serialize)]
pub(super) struct Directory {
    pub(super) object: &'static str,
    pub(super) id: String,
    pub(super) organization_id: String,
    /// Absent in a deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) external_key: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) state: String,
    pub(super) name: String,
    pub(super) created_at: String,
    pub(super) updated_at: String,
    /// Absent in a deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) domains: Option<Vec<Domain>>,
}

#[derive(Serialize)]
pub(super) struct Domain {
    pub(super) object: &'static str,
    pub(super) id: String,
    pub(super) organization_id: String,
    pub(super) domain: String,
}

#[derive(Clone, Serialize)]
pub(super) struct User {
    pub(super) object: &'static str,
    pub(super) id: String,
    pub(super) directory_id: String,
    pub(super) organization_id: String,
    pub(super) idp_id: String,
    pub(super) email: Option<String>,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
    pub(super) name: Option<String>,
    pub(super) emails: Vec<Email>,
    pub(super) job_title: Option<String>,
    pub(super) username: Option<String>,
    pub(super) state: String,
    pub(super) raw_attributes: Empty,
    pub(super) custom_attributes: Map<String, Value>,
    pub(super) created_at: String,
    pub(super) updated_at: String,
    /// Present only in an update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) previous_attributes: Option<Value>,
}

#[derive(Clone, Serialize)]
pub(super) struct Email {
    pub(super) primary: bool,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) value: String,
}

impl Email {
    /// Returns the list for a user with one address.
    pub(super) fn work(value: &str) -> Vec<Email> {
        vec![Email { primary: true, kind: "work", value: value.into() }]
    }
}

#[derive(Clone, Serialize)]
pub(super) struct Group {
    pub(super) object: &'static str,
    pub(super) id: String,
    pub(super) idp_id: String,
    pub(super) directory_id: String,
    pub(super) organization_id: String,
    pub(super) name: String,
    pub(super) raw_attributes: Empty,
    pub(super) created_at: String,
    pub(super) updated_at: String,
    /// Present only in an update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) previous_attributes: Option<Value>,
}

#[derive(Serialize)]
pub(super) struct Membership {
    pub(super) directory_id: String,
    pub(super) user: User,
    pub(super) group: Group,
}

/// Returns `previous_attributes`: the old values of the fields that differ, `null` for a new field.
/// `custom_attributes` is compared field by field. The time of the update itself is left out.
pub(super) fn previous_attributes(before: &impl Serialize, after: &impl Serialize) -> Value {
    let (before, after) = (fields(before), fields(after));
    let mut previous = differing(&before, &after);
    previous.retain(|key, _| key != "updated_at" && key != "previous_attributes");
    if let Some(attributes) = previous.get_mut("custom_attributes") {
        let before = fields(&before.get("custom_attributes"));
        let after = fields(&after.get("custom_attributes"));
        *attributes = differing(&before, &after).into();
    }
    previous.into()
}

/// Returns the fields of an object; none for anything else.
fn fields(object: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(object) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn differing(before: &Map<String, Value>, after: &Map<String, Value>) -> Map<String, Value> {
    let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
    let differ = keys.filter(|key| before.get(*key) != after.get(*key));
    differ.map(|key| (key.clone(), before.get(key).cloned().unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn previous_attributes_are_the_old_values_of_what_differs_and_null_for_new_fields() {
        let before = json!({
            "a": 1, "b": [1], "gone": "x", "updated_at": "1",
            "custom_attributes": {"same": 1, "old": 2},
        });
        let after = json!({
            "a": 1, "b": [2], "new": "y", "updated_at": "2",
            "custom_attributes": {"same": 1, "young": 3},
        });
        let expected = json!({
            "b": [1], "gone": "x", "new": null,
            "custom_attributes": {"old": 2, "young": null},
        });
        assert_eq!(previous_attributes(&before, &after), expected);
        assert_eq!(previous_attributes(&before, &before), json!({}));
    }

    #[test]
    fn an_id_holds_its_time() {
        let id = id("event", 1_767_600_000_000, u128::MAX);
        let ulid = id.strip_prefix("event_").unwrap();
        assert_eq!(Ulid::from_string(ulid).unwrap().timestamp_ms(), 1_767_600_000_000);
        assert!(ulid.ends_with("ZZZZZZZZZZZZZZZZ"), "{ulid}");
    }
}
