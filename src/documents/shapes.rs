//! Snapshots in the shapes of the WorkOS API, field by field. A field of the wrong type counts as
//! absent.

use std::borrow::Cow;

use rollcall_projections::{DirectoryRow, EntityRow, Millis};
use serde_json::value::RawValue;

use super::{Document, HAS_CREATED_AT, HAS_UPDATED_AT};
use crate::json::{array, into_well_formed, object, others, present_fields, push_string, string};
use crate::time;
use crate::verify::{filled, first_domain, is_active, shown_email};

/// The types of directory that client libraries know; any other is shown as the generic one.
pub(super) const DIRECTORY_TYPES: [&str; 21] = [
    "azure scim v2.0",
    "bamboohr",
    "breathe hr",
    "cezanne hr",
    "cyberark scim v2.0",
    "fourth hr",
    GENERIC_TYPE,
    "gsuite directory",
    "hibob",
    "sailpoint scim v2.0",
    "jump cloud scim v2.0",
    "okta scim v2.0",
    "onelogin scim v2.0",
    "people hr",
    "personio",
    "pingfederate scim v2.0",
    "rippling scim v2.0",
    "s3",
    "sftp",
    "sftp workday",
    "workday",
];
pub(super) const GENERIC_TYPE: &str = "generic scim v2.0";

/// A JSON object that is being written.
pub(super) struct Object(pub(super) Vec<u8>);

impl Object {
    pub(super) fn new(kind: &str) -> Object {
        let mut object = Object(b"{".to_vec());
        object.text("object", kind);
        object
    }

    pub(super) fn raw(&mut self, key: &str, value: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        push_string(&mut self.0, key);
        self.0.push(b':');
        self.0.extend_from_slice(value.as_bytes());
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.raw(key, "");
        push_string(&mut self.0, value);
    }

    fn nullable(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.raw(key, "null"),
        }
    }

    /// Writes a time if the value is one; returns true if so.
    fn time(&mut self, key: &str, value: Option<&RawValue>) -> bool {
        let moment = string(value).and_then(|text| time::parse(&text));
        if let Some(moment) = moment {
            self.text(key, &time::format(moment));
        }
        moment.is_some()
    }

    /// Writes the value if it is a time, else `otherwise`.
    pub(super) fn time_or(
        &mut self,
        key: &str,
        value: Option<&RawValue>,
        otherwise: impl FnOnce() -> Millis,
    ) {
        if !self.time(key, value) {
            self.text(key, &time::format(otherwise()));
        }
    }

    /// Ends the document; `tail` is what some answers put behind it.
    fn finish(mut self, own: &OwnFields<'_>, tail: &[u8]) -> Document {
        let created_at = if self.time("created_at", own.created_at) { HAS_CREATED_AT } else { 0 };
        let updated_at = if self.time("updated_at", own.updated_at) { HAS_UPDATED_AT } else { 0 };
        // Attributes are passed through as they were written.
        Document::new(created_at | updated_at, &into_well_formed(self.0), tail)
    }
}

/// Returns a snapshot's own directory. The views refuse longer ids, so that such a directory counts
/// as missing.
pub(super) fn directory_id(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    filled(value).filter(|id| id.len() <= 255)
}

/// Returns true if a snapshot names its own directory.
pub(super) fn names_directory(snapshot: &str) -> bool {
    let [directory] = present_fields(snapshot, ["directory_id"]).unwrap_or_default();
    directory_id(directory).is_some()
}

/// The fields of a snapshot that are completed from elsewhere if it lacks them.
#[derive(Default)]
pub(super) struct OwnFields<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) directory: Option<Cow<'a, str>>,
    pub(super) organization: Option<Cow<'a, str>>,
    pub(super) created_at: Option<&'a RawValue>,
    pub(super) updated_at: Option<&'a RawValue>,
}

/// Writes a directory as an event describes it. Its state is that of the view.
pub(super) fn directory(snapshot: &str) -> Document {
    directory_with(snapshot, None)
}

/// Writes a directory as the source showed it when it was asked, with its state.
pub(super) fn observed_directory(snapshot: &str) -> Document {
    let [state] = present_fields(snapshot, ["state"]).unwrap_or_default();
    directory_with(snapshot, Some(served_state(string(state).as_deref())))
}

/// Returns the state of an observed directory in the words of the API. Any other word than these is
/// that of a directory in use.
pub fn served_state(state: Option<&str>) -> &'static str {
    match state {
        Some("unlinked" | "inactive") => "unlinked",
        Some("validating") => "validating",
        Some("invalid_credentials") => "invalid_credentials",
        Some("deleting") => "deleting",
        _ => "linked",
    }
}

fn directory_with(snapshot: &str, state: Option<&str>) -> Document {
    let names =
        ["id", "external_key", "type", "name", "domain", "domains", "created_at", "updated_at"];
    let [id, external_key, kind, name, domain, domains, created_at, updated_at] =
        present_fields(snapshot, names).unwrap_or_default();
    let mut out = Object::new("directory");
    out.text("id", &string(id).unwrap_or_default());
    out.text("external_key", &string(external_key).unwrap_or_default());
    let kind = string(kind).filter(|kind| DIRECTORY_TYPES.contains(&kind.as_ref()));
    out.text("type", kind.as_deref().unwrap_or(GENERIC_TYPE));
    out.text("name", &string(name).unwrap_or_default());
    if let Some(domain) = first_domain(domain, domains) {
        out.text("domain", &domain);
    }
    let own = OwnFields { created_at, updated_at, ..OwnFields::default() };
    out.finish(&own, state.unwrap_or_default().as_bytes())
}

pub(super) fn user(snapshot: &str) -> Document {
    let mut out = Object::new("directory_user");
    let own = user_fields(&mut out, snapshot);
    // They come last, so that the roles of a mapping can replace them.
    let mut roles = Object(b"{".to_vec());
    push_roles_of(&mut roles, snapshot);
    let given_any = roles.0.len() > 1;
    match roles.0.first_mut() {
        Some(first) if given_any => *first = b',',
        _ => roles.0.clear(),
    }
    out.finish(&own, &roles.0)
}

pub(super) fn group(snapshot: &str) -> Document {
    let mut out = Object::new("directory_group");
    let own = group_fields(&mut out, snapshot);
    out.finish(&own, &[])
}

/// The fields of a user that [`user_fields`] writes or returns.
pub(super) const USER_FIELDS: [&str; 19] = [
    "object",
    "id",
    "directory_id",
    "organization_id",
    "idp_id",
    "email",
    "first_name",
    "last_name",
    "name",
    "job_title",
    "username",
    "emails",
    "state",
    "raw_attributes",
    "custom_attributes",
    "role",
    "roles",
    "created_at",
    "updated_at",
];

/// Writes a user's fields except the roles and the times.
pub(super) fn user_fields<'a>(out: &mut Object, snapshot: &'a str) -> OwnFields<'a> {
    let [id, directory_id, organization_id, idp_id, email, emails, state, created_at, updated_at] =
        present_fields(
            snapshot,
            [
                "id",
                "directory_id",
                "organization_id",
                "idp_id",
                "email",
                "emails",
                "state",
                "created_at",
                "updated_at",
            ],
        )
        .unwrap_or_default();
    let nullable = ["first_name", "last_name", "name", "job_title", "username"];
    let objects = ["raw_attributes", "custom_attributes"];
    let own = identity(out, id, directory_id, organization_id);
    out.text("idp_id", &string(idp_id).unwrap_or_default());
    out.nullable("email", shown_email(email, emails).as_deref());
    for (key, value) in
        nullable.into_iter().zip(present_fields(snapshot, nullable).unwrap_or_default())
    {
        out.nullable(key, string(value).as_deref());
    }
    let whole =
        array(emails).is_some_and(|emails| emails.iter().all(|email| email.get().starts_with('{')));
    out.raw("emails", emails.filter(|_| whole).map_or("[]", RawValue::get));
    out.text("state", if is_active(state) { "active" } else { "inactive" });
    for (key, value) in
        objects.into_iter().zip(present_fields(snapshot, objects).unwrap_or_default())
    {
        out.raw(key, object(value).unwrap_or("{}"));
    }
    OwnFields { created_at, updated_at, ..own }
}

/// Writes the roles of the source, if it gives any.
pub(super) fn push_roles_of(out: &mut Object, snapshot: &str) {
    let [role, roles] = present_fields(snapshot, ["role", "roles"]).unwrap_or_default();
    if let Some(slug) = role.and_then(slug) {
        out.raw("role", &slug);
    }
    if let Some(roles) = array(roles) {
        let slugs: Vec<String> = roles.into_iter().filter_map(slug).collect();
        out.raw("roles", &format!("[{}]", slugs.join(",")));
    }
}

/// The fields of a group that [`group_fields`] writes or returns, and `role`, which old groups
/// carried and which is not passed on.
pub(super) const GROUP_FIELDS: [&str; 10] = [
    "object",
    "id",
    "directory_id",
    "organization_id",
    "idp_id",
    "name",
    "raw_attributes",
    "role",
    "created_at",
    "updated_at",
];

/// Writes a group's fields except the times.
pub(super) fn group_fields<'a>(out: &mut Object, snapshot: &'a str) -> OwnFields<'a> {
    let names = [
        "id",
        "directory_id",
        "organization_id",
        "idp_id",
        "name",
        "raw_attributes",
        "created_at",
        "updated_at",
    ];
    let [id, directory_id, organization_id, idp_id, name, raw_attributes, created_at, updated_at] =
        present_fields(snapshot, names).unwrap_or_default();
    let own = identity(out, id, directory_id, organization_id);
    out.text("idp_id", &string(idp_id).unwrap_or_default());
    out.text("name", &string(name).unwrap_or_default());
    out.raw("raw_attributes", object(raw_attributes).unwrap_or("{}"));
    OwnFields { created_at, updated_at, ..own }
}

/// Writes the snapshot's id, and its directory and organization if it has them; the caller
/// completes missing ones.
fn identity<'a>(
    out: &mut Object,
    id: Option<&'a RawValue>,
    directory_id: Option<&'a RawValue>,
    organization_id: Option<&'a RawValue>,
) -> OwnFields<'a> {
    let id = string(id).unwrap_or_default();
    let directory = self::directory_id(directory_id);
    let organization = filled(organization_id);
    out.text("id", &id);
    if let Some(directory) = &directory {
        out.text("directory_id", directory);
    }
    if let Some(organization) = &organization {
        out.text("organization_id", organization);
    }
    OwnFields { id, directory, organization, ..OwnFields::default() }
}

/// Returns a role reduced to its slug.
fn slug(role: &RawValue) -> Option<String> {
    let [slug] = present_fields(role.get(), ["slug"])?;
    let mut out = Object(b"{".to_vec());
    out.text("slug", &string(slug)?);
    out.0.push(b'}');
    String::from_utf8(out.0).ok()
}

/// Writes a user or group as an open object, so that its groups or members can follow.
pub fn open_entity(out: &mut Vec<u8>, document: &Document, row: &EntityRow) {
    let (json, roles) = document.json();
    if row.foreign_organization {
        push_without_organization(out, json);
    } else {
        out.extend_from_slice(json);
    }
    match &row.roles {
        None => out.extend_from_slice(roles),
        Some(roles) => push_roles(out, roles),
    }
    if let Some(directory) = &row.directory {
        push_field(out, "directory_id", directory);
    }
    if let Some(organization) = &row.organization {
        push_field(out, "organization_id", organization);
    }
    if !document.has(HAS_CREATED_AT) {
        push_field(out, "created_at", &time::format(row.created_at));
    }
    if !document.has(HAS_UPDATED_AT) {
        push_field(out, "updated_at", &time::format(row.occurred_at));
    }
}

/// Writes an open object without the organization that it has.
fn push_without_organization(out: &mut Vec<u8>, json: &[u8]) {
    let whole = [json, b"}"].concat();
    let mut object = Object(b"{".to_vec());
    for (key, value) in others(std::str::from_utf8(&whole).unwrap_or("{}"), &["organization_id"]) {
        object.raw(&key, value.get());
    }
    out.append(&mut object.0);
}

/// Writes a field behind others.
fn push_field(out: &mut Vec<u8>, key: &str, value: &str) {
    out.push(b',');
    push_string(out, key);
    out.push(b':');
    push_string(out, value);
}

fn push_slug(out: &mut Vec<u8>, role: &str) {
    out.extend_from_slice(b"{\"slug\":");
    push_string(out, role);
    out.push(b'}');
}

/// Writes the roles that the mapping in force gives. The first is the highest and becomes `role`.
fn push_roles(out: &mut Vec<u8>, roles: &[String]) {
    if let Some(first) = roles.first() {
        out.extend_from_slice(b",\"role\":");
        push_slug(out, first);
    }
    out.extend_from_slice(b",\"roles\":[");
    for (at, role) in roles.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_slug(out, role);
    }
    out.push(b']');
}

/// Returns the state of a directory: the one that was observed, if its version is an observation.
pub fn state_of<'a>(document: Option<&'a Document>, row: &DirectoryRow) -> &'a str {
    let observed = document.and_then(|document| std::str::from_utf8(document.json().1).ok());
    match observed {
        Some(state) if !state.is_empty() => state,
        _ if row.active => "linked",
        _ => "unlinked",
    }
}

/// Writes a directory; a stub has no document.
pub fn push_directory(out: &mut Vec<u8>, document: Option<&Document>, row: &DirectoryRow) {
    let mut object = match document {
        Some(document) => Object(document.json().0.to_vec()),
        None => {
            let mut object = Object::new("directory");
            object.text("id", &row.id);
            object.text("external_key", "");
            object.text("type", GENERIC_TYPE);
            object.text("name", "");
            object
        }
    };
    object.text("organization_id", &row.organization);
    object.text("state", state_of(document, row));
    if !document.is_some_and(|document| document.has(HAS_CREATED_AT)) {
        object.text("created_at", &time::format(row.created_at));
    }
    if !document.is_some_and(|document| document.has(HAS_UPDATED_AT)) {
        object.text("updated_at", &time::format(row.updated_at));
    }
    out.append(&mut object.0);
    out.push(b'}');
}
