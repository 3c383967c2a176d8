//! Objects and events as a source writes them.

use serde_json::{Value, json};

/// Writes a moment as RFC 3339 with milliseconds.
pub fn moment(ms: i64) -> String {
    rollcall::time::format(ms)
}

/// A directory of the state API.
pub fn directory(id: &str, name: &str, at_ms: i64) -> Value {
    json!({
        "object": "directory", "id": id, "organization_id": "org_1", "external_key": "key",
        "type": "okta scim v2.0", "state": "linked", "name": name,
        "created_at": moment(at_ms), "updated_at": moment(at_ms),
    })
}

/// A user, as in events and, with `groups`, in the state API.
pub fn user(id: &str, directory: &str, first_name: &str, at_ms: i64) -> Value {
    json!({
        "object": "directory_user", "id": id, "directory_id": directory,
        "organization_id": "org_1", "idp_id": format!("idp-{id}"),
        "email": format!("{id}@foo.example"), "first_name": first_name, "last_name": "Roe",
        "name": format!("{first_name} Roe"), "emails": [], "job_title": null, "username": null,
        "state": "active", "raw_attributes": {}, "custom_attributes": { "department": "Sales" },
        "created_at": moment(at_ms), "updated_at": moment(at_ms),
    })
}

/// A group.
pub fn group(id: &str, directory: &str, name: &str, at_ms: i64) -> Value {
    json!({
        "object": "directory_group", "id": id, "directory_id": directory,
        "organization_id": "org_1", "idp_id": format!("idp-{id}"), "name": name,
        "raw_attributes": {}, "created_at": moment(at_ms), "updated_at": moment(at_ms),
    })
}

/// An event with this data.
pub fn event(id: &str, event: &str, at_ms: i64, data: &Value) -> String {
    let at = moment(at_ms);
    let mut data = data.clone();
    if event == "dsync.activated" {
        data["state"] = "active".into();
        data["domains"] = json!([]);
    }
    json!({
        "object": "event", "id": id, "event": event, "created_at": at, "context": {},
        "data": data,
    })
    .to_string()
}

/// The data of `user_added` and `user_removed`.
pub fn membership(group: &Value, user: &Value) -> Value {
    json!({ "directory_id": group["directory_id"], "user": user, "group": group })
}
