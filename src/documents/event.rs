//! Events as the Events API shows them: the body in today's envelope, with the fields that older
//! bodies lack.
//!
//! A missing field is completed from the records up to the event's own, at the moment at which it
//! occurred. An event that was served once is therefore served the same for ever.

use std::borrow::Cow;

use parking_lot::RwLock;
use rollcall_projections::{
    Cut, DirectoryChange, EventEffect, EventRow, EventType, Millis, TOKEN_PREFIX, Views,
    own_event_type,
};
use serde_json::value::RawValue;

use super::changes::previous_in;
use super::shapes::{
    DIRECTORY_TYPES, GENERIC_TYPE, GROUP_FIELDS, Object, OwnFields, USER_FIELDS, directory_id,
    group_fields, push_roles_of, user_fields,
};
use crate::json::{
    array, into_well_formed, object, others, present_fields, present_fields_of, string, without,
};
use crate::verify::filled;

/// Types of directory that only events know.
const EVENT_DIRECTORY_TYPES: [&str; 2] = ["gusto", "rippling"];
const DIRECTORY_STATES: [&str; 5] =
    ["active", "validating", "invalid_credentials", "inactive", "deleting"];
const DIRECTORY_FIELDS: [&str; 12] = [
    "object",
    "id",
    "organization_id",
    "external_key",
    "type",
    "state",
    "name",
    "domain",
    "domains",
    "created_at",
    "updated_at",
    "previous_attributes",
];

/// An event in the shape of the Events API.
pub struct ShownEvent {
    /// Its id.
    pub id: String,
    /// The whole object.
    pub json: Vec<u8>,
}

/// Returns the data of a record of SCIM without what the identity provider sent, and what is kept of
/// it. `None` if `data` is not a JSON object.
fn without_content(data: &str) -> Option<String> {
    let mut shown = data.to_owned();
    for member in ["body", "added", "removed"] {
        shown = without(&shown, member)?;
    }
    let [resource] = present_fields(&shown, ["resource"])?;
    let Some(resource) = resource.map(RawValue::get) else { return Some(shown) };
    let described = without(resource, "document")?;
    Some(shown.replacen(resource, &described, 1))
}

/// Shows the event whose record has `body`. Locks the views only if the body lacks a field.
pub fn show_event(body: &[u8], row: EventRow, views: &RwLock<Views>) -> ShownEvent {
    let text = std::str::from_utf8(body).unwrap_or("{}");
    let [id, event, data, context] =
        present_fields(text, ["id", "event", "data", "context"]).unwrap_or_default();
    let event_type = string(event).unwrap_or_default();
    let event = EventContext {
        row,
        views,
        previous_attributes: previous_attributes(&event_type, data, context),
    };
    let id = string(id).unwrap_or_default();
    let mut envelope = Object::new("event");
    envelope.text("id", &id);
    envelope.text("event", &event_type);
    envelope.raw("data", "");
    envelope.0.extend(event.data(&event_type, object(data).unwrap_or("{}")));
    envelope.text("created_at", &crate::time::format(row.occurred_at));
    envelope.raw("context", object(context).unwrap_or("{}"));
    envelope.0.push(b'}');
    ShownEvent { id: id.into(), json: into_well_formed(envelope.0) }
}

/// Returns the values that a change replaced: always for updates, for others only if the source
/// states them.
fn previous_attributes<'a>(
    event_type: &str,
    data: Option<&'a RawValue>,
    context: Option<&'a RawValue>,
) -> Option<&'a str> {
    let own = previous_in(data);
    let updates = match EventType::parse(event_type) {
        Some(known) => known.effect() == EventEffect::Changes,
        None => event_type.starts_with(TOKEN_PREFIX) && event_type.ends_with(".updated"),
    };
    if updates { own.or_else(|| previous_in(context)).or(Some("{}")) } else { own }
}

/// The context in which an event is shown.
struct EventContext<'a> {
    row: EventRow,
    views: &'a RwLock<Views>,
    previous_attributes: Option<&'a str>,
}

impl EventContext<'_> {
    fn data(&self, event_type: &str, data: &str) -> Vec<u8> {
        let (mut out, named) = match EventType::parse(event_type) {
            Some(EventType::DirectoryActivated) => {
                (self.directory(DirectoryChange::Activated, data), &DIRECTORY_FIELDS[..])
            }
            Some(EventType::DirectoryDeactivated) => {
                (self.directory(DirectoryChange::Deactivated, data), &DIRECTORY_FIELDS[..])
            }
            Some(EventType::DirectoryDeleted) => {
                (self.directory(DirectoryChange::Deleted, data), &DIRECTORY_FIELDS[..])
            }
            Some(EventType::UserCreated | EventType::UserUpdated | EventType::UserDeleted) => {
                (self.user(data, None), &USER_FIELDS[..])
            }
            Some(EventType::GroupCreated | EventType::GroupUpdated | EventType::GroupDeleted) => {
                (self.group(data, None), &GROUP_FIELDS[..])
            }
            Some(EventType::MemberAdded | EventType::MemberRemoved) => {
                (self.membership(data), &["directory_id", "user", "group"][..])
            }
            Some(EventType::TokenCreated | EventType::TokenRevoked) => {
                (self.token(data), &TOKEN_FIELDS[..])
            }
            None if event_type.starts_with(TOKEN_PREFIX) => (self.token(data), &TOKEN_FIELDS[..]),
            Some(EventType::ScimRequested | EventType::ScimMembersChanged) => {
                return without_content(data).unwrap_or_else(|| "{}".to_owned()).into_bytes();
            }
            // Rollcall's own events and those from outside directory sync are shown as they are.
            Some(own_event_type!()) | None => return data.as_bytes().to_vec(),
        };
        if let Some(previous) = self.previous_attributes {
            out.raw("previous_attributes", previous);
        }
        push_others(&mut out, data, &[named, &["previous_attributes"]].concat());
        out.0.push(b'}');
        out.0
    }

    /// Returns the cut at the event: its own moment, known by its own record.
    fn cut(&self) -> Cut {
        Cut { as_of: self.row.occurred_at, known_at: self.row.seq }
    }

    fn organization(&self, directory: &str) -> String {
        self.views.read().organization(directory, self.cut()).to_owned()
    }

    fn directory(&self, change: DirectoryChange, data: &str) -> Object {
        let names = [
            "id",
            "organization_id",
            "external_key",
            "type",
            "state",
            "name",
            "domain",
            "domains",
            "created_at",
            "updated_at",
        ];
        let [
            id,
            organization_id,
            external_key,
            type_,
            state,
            name,
            domain,
            domains,
            created_at,
            updated_at,
        ] = present_fields(data, names).unwrap_or_default();
        let id = string(id).unwrap_or_default();
        let organization = filled(organization_id).unwrap_or_else(|| self.organization(&id).into());
        let mut out = Object::new("directory");
        out.text("id", &id);
        out.text("organization_id", &organization);
        if change != DirectoryChange::Deleted {
            out.text("external_key", &string(external_key).unwrap_or_default());
        }
        out.text(
            "type",
            string(type_).filter(|name| is_known(name)).as_deref().unwrap_or(GENERIC_TYPE),
        );
        out.text("state", directory_state(change, string(state).as_deref()));
        out.text("name", &string(name).unwrap_or_default());
        if change != DirectoryChange::Deleted {
            out.raw("domains", "");
            push_domains(&mut out.0, domain, domains, &organization);
        }
        out.time_or("created_at", created_at, || {
            self.views.read().directory_named_at(&id, self.cut()).unwrap_or(self.row.occurred_at)
        });
        out.time_or("updated_at", updated_at, || self.row.occurred_at);
        out
    }

    /// Writes a user as an open object. `directory` is that of the membership event around it.
    fn user(&self, snapshot: &str, directory: Option<&str>) -> Object {
        let mut out = Object::new("directory_user");
        let own = user_fields(&mut out, snapshot);
        push_roles_of(&mut out, snapshot);
        self.complete(&mut out, &own, directory, Views::user_directory, Views::user_seen_at);
        out
    }

    /// Writes a group as an open object.
    fn group(&self, snapshot: &str, directory: Option<&str>) -> Object {
        let mut out = Object::new("directory_group");
        let own = group_fields(&mut out, snapshot);
        self.complete(&mut out, &own, directory, Views::group_directory, Views::group_seen_at);
        out
    }

    /// Writes the fields that the snapshot lacks.
    fn complete(
        &self,
        out: &mut Object,
        own: &OwnFields<'_>,
        directory: Option<&str>,
        last_directory: impl for<'v> Fn(&'v Views, &str, Cut) -> &'v str,
        seen_at: impl Fn(&Views, &str, Cut) -> Option<Millis>,
    ) {
        let directory = match (own.directory.as_deref(), directory) {
            (Some(directory), _) => directory.to_owned(),
            (None, Some(directory)) => directory.to_owned(),
            (None, None) => last_directory(&self.views.read(), &own.id, self.cut()).to_owned(),
        };
        if own.directory.is_none() {
            out.text("directory_id", &directory);
        }
        if own.organization.is_none() {
            out.text("organization_id", &self.organization(&directory));
        }
        out.time_or("created_at", own.created_at, || {
            seen_at(&self.views.read(), &own.id, self.cut()).unwrap_or(self.row.occurred_at)
        });
        out.time_or("updated_at", own.updated_at, || self.row.occurred_at);
    }

    fn membership(&self, data: &str) -> Object {
        let [directory, user, group] =
            present_fields(data, ["directory_id", "user", "group"]).unwrap_or_default();
        let directory = directory_id(directory)
            .or_else(|| directory_in(group))
            .or_else(|| directory_in(user))
            .unwrap_or_default();
        let mut out = Object(b"{".to_vec());
        out.text("directory_id", &directory);
        let snapshot = object(user).unwrap_or("{}");
        push_end(&mut out, "user", self.user(snapshot, Some(&directory)), snapshot, &USER_FIELDS);
        let snapshot = object(group).unwrap_or("{}");
        push_end(
            &mut out,
            "group",
            self.group(snapshot, Some(&directory)),
            snapshot,
            &GROUP_FIELDS,
        );
        out
    }

    fn token(&self, data: &str) -> Object {
        let [_, id, directory_id, organization_id, token_suffix, created_at] =
            present_fields(data, TOKEN_FIELDS).unwrap_or_default();
        let mut out = Object::new("directory_token");
        let texts = [
            ("id", id),
            ("directory_id", directory_id),
            ("organization_id", organization_id),
            ("token_suffix", token_suffix),
        ];
        for (key, value) in texts {
            out.text(key, &string(value).unwrap_or_default());
        }
        out.time_or("created_at", created_at, || self.row.occurred_at);
        out
    }
}

/// Returns true for a type of directory that client libraries know in events.
fn is_known(directory_type: &str) -> bool {
    DIRECTORY_TYPES.iter().chain(&EVENT_DIRECTORY_TYPES).any(|known| *known == directory_type)
}

/// Returns the directory that a snapshot names itself.
fn directory_in(snapshot: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let [directory] = present_fields_of(snapshot, ["directory_id"])?;
    directory_id(directory)
}

/// Writes the user or group of a membership event, with the fields that its shape does not name.
fn push_end(out: &mut Object, key: &str, mut end: Object, snapshot: &str, named: &[&str]) {
    push_others(&mut end, snapshot, named);
    end.0.push(b'}');
    out.raw(key, "");
    out.0.append(&mut end.0);
}

const TOKEN_FIELDS: [&str; 6] =
    ["object", "id", "directory_id", "organization_id", "token_suffix", "created_at"];

/// Returns the state of a directory in the words of events, which differ from those of directories.
/// A deactivation is always inactive.
fn directory_state(change: DirectoryChange, state: Option<&str>) -> &str {
    let state = match state {
        Some("linked") => Some("active"),
        Some("unlinked") => Some("inactive"),
        other => other.filter(|state| DIRECTORY_STATES.contains(state)),
    };
    match change {
        DirectoryChange::Activated => state.unwrap_or("active"),
        DirectoryChange::Deactivated => "inactive",
        DirectoryChange::Deleted => state.unwrap_or("deleting"),
    }
}

/// Writes the domains, each with every key that a client library needs.
fn push_domains(
    out: &mut Vec<u8>,
    domain: Option<&RawValue>,
    domains: Option<&RawValue>,
    organization: &str,
) {
    let elements: Vec<[Option<&RawValue>; 3]> = match array(domains) {
        Some(elements) => elements
            .iter()
            .filter_map(|element| {
                present_fields(element.get(), ["id", "organization_id", "domain"])
            })
            .collect(),
        None => vec![[None, None, domain]],
    };
    out.push(b'[');
    let mut first = true;
    for [id, organization_id, domain] in elements {
        let Some(domain) = filled(domain) else { continue };
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        let mut element = Object::new("organization_domain");
        element.text("id", &string(id).unwrap_or_default());
        element.text("organization_id", filled(organization_id).as_deref().unwrap_or(organization));
        element.text("domain", &domain);
        out.append(&mut element.0);
        out.push(b'}');
    }
    out.push(b']');
}

/// Appends the fields that the shape does not name, as they are.
fn push_others(out: &mut Object, text: &str, named: &[&str]) {
    for (key, value) in others(text, named) {
        out.raw(&key, value.get());
    }
}
