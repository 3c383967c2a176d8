//! Documents: the snapshots in the bodies of records, in the shapes of the WorkOS API.
//!
//! The views hold what is asked by; everything that is only shown is read from the log, completed into the API's shape once, and kept in
//! a cache bounded in bytes. The cache holds nothing that cannot be read again: emptying or shrinking it never changes an answer.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rollcall_projections::{DirectoryRow, Part, Row, Seq};
use serde_json::value::RawValue;

use crate::json::{array, fields, object, push_string, string};
use crate::log::{Log, ReadError};
use crate::time;
use crate::verify::{first_domain, shown_email};

/// The types of directory that client libraries know; any other is shown as the generic one.
const DIRECTORY_TYPES: [&str; 21] = [
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
const GENERIC_TYPE: &str = "generic scim v2.0";

/// What a document describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A directory.
    Directory,
    /// A user.
    User,
    /// A group.
    Group,
}

/// Where a document stands, and what it describes.
pub type DocumentKey = (Seq, Part, Shape);

/// An API object but for what depends on the question: an open JSON object without its last fields.
///
/// One allocation, its first byte saying which times the JSON holds: a page of the past reads a hundred documents that no cache of the
/// processor has, and pays for each place it must look at.
#[derive(Clone)]
pub struct Document(Arc<[u8]>);

const HAS_CREATED_AT: u8 = 1;
const HAS_UPDATED_AT: u8 = 2;

impl Document {
    fn json(&self) -> &[u8] {
        self.0.get(1..).unwrap_or_default()
    }

    fn has(&self, time: u8) -> bool {
        self.0.first().is_some_and(|times| times & time != 0)
    }
}

/// Documents by record, cached.
pub struct Documents {
    cache: Cache<DocumentKey, Document, ByBytes>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<DocumentKey, Document> for ByBytes {
    fn weight(&self, _: &DocumentKey, document: &Document) -> u64 {
        // The bytes, and about what the cache itself keeps for an entry.
        document.0.len() as u64 + 128
    }
}

impl Documents {
    /// An empty cache of at most `bytes_max`.
    pub fn new(bytes_max: u64) -> Documents {
        let items = (bytes_max / 1024).max(16) as usize;
        Documents { cache: Cache::with_weighter(items, bytes_max, ByBytes) }
    }

    /// The documents, if all of them are cached.
    pub fn cached(&self, keys: &[DocumentKey]) -> Option<Vec<Document>> {
        keys.iter().map(|key| self.cache.get(key)).collect()
    }

    /// The documents, read from the log where they are not cached. Each frame of the log is unpacked once.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn load(&self, log: &dyn Log, keys: &[DocumentKey]) -> Result<Vec<Document>, ReadError> {
        let mut found: Vec<Option<Document>> = keys.iter().map(|key| self.cache.get(key)).collect();
        let mut missing: Vec<usize> = found.iter().enumerate().filter(|(_, document)| document.is_none()).map(|(at, _)| at).collect();
        missing.sort_by_key(|at| keys.get(*at).map(|key| key.0));
        let seqs: Vec<Seq> = missing.iter().filter_map(|at| keys.get(*at)).map(|key| key.0).collect();
        for (at, body) in missing.into_iter().zip(log.bodies(&seqs)?) {
            let (Some(key), Some(slot)) = (keys.get(at), found.get_mut(at)) else { continue };
            let document = Document::read(&body, *key);
            self.cache.insert(*key, document.clone());
            *slot = Some(document);
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.cache.clear();
    }
}

/// An API object in the making.
struct Object(Vec<u8>);

impl Object {
    fn new(kind: &str) -> Object {
        let mut object = Object(b"{".to_vec());
        object.text("object", kind);
        object
    }

    fn raw(&mut self, key: &str, value: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        push_string(&mut self.0, key);
        self.0.push(b':');
        self.0.extend_from_slice(value.as_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.raw(key, "");
        push_string(&mut self.0, value);
    }

    fn nullable(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.raw(key, "null"),
        }
    }

    /// Writes a time if there is one; says whether there was.
    fn time(&mut self, key: &str, value: Option<&RawValue>) -> bool {
        let moment = string(value).and_then(|text| time::parse(&text));
        if let Some(moment) = moment {
            self.text(key, &time::format(moment));
        }
        moment.is_some()
    }

    fn finish(mut self, created_at: Option<&RawValue>, updated_at: Option<&RawValue>) -> Document {
        let created_at = if self.time("created_at", created_at) { HAS_CREATED_AT } else { 0 };
        let updated_at = if self.time("updated_at", updated_at) { HAS_UPDATED_AT } else { 0 };
        self.0.insert(0, created_at | updated_at);
        Document(self.0.into())
    }
}

/// An id or organization that counts as given.
fn given<'a>(value: Option<&'a RawValue>) -> Option<std::borrow::Cow<'a, str>> {
    string(value).filter(|text| !text.is_empty())
}

impl Document {
    /// Completes the snapshot in `body` into the API's shape. A field of the wrong type counts as absent.
    fn read(body: &[u8], (_, part, shape): DocumentKey) -> Document {
        let text = std::str::from_utf8(body).unwrap_or("{}");
        let [data] = fields(text, ["data"]).unwrap_or_default();
        let within = |name: &str| fields(data?.get(), [name]).and_then(|[value]| value);
        let snapshot = match part {
            Part::Data => data,
            Part::User => within("user"),
            Part::Group => within("group"),
        };
        let snapshot = object(snapshot).unwrap_or("{}");
        match shape {
            Shape::Directory => directory(snapshot),
            Shape::User => user(snapshot),
            Shape::Group => group(snapshot),
        }
    }
}

fn directory(snapshot: &str) -> Document {
    let names = ["id", "external_key", "type", "name", "domain", "domains", "created_at", "updated_at"];
    let [id, external_key, kind, name, domain, domains, created_at, updated_at] = fields(snapshot, names).unwrap_or_default();
    let mut out = Object::new("directory");
    out.text("id", &string(id).unwrap_or_default());
    out.text("external_key", &string(external_key).unwrap_or_default());
    let kind = string(kind).filter(|kind| DIRECTORY_TYPES.contains(&kind.as_ref()));
    out.text("type", kind.as_deref().unwrap_or(GENERIC_TYPE));
    out.text("name", &string(name).unwrap_or_default());
    if let Some(domain) = first_domain(domain, domains) {
        out.text("domain", &domain);
    }
    out.finish(created_at, updated_at)
}

fn user(snapshot: &str) -> Document {
    let [id, directory_id, organization_id, idp_id, email, emails, state, created_at, updated_at] =
        fields(snapshot, ["id", "directory_id", "organization_id", "idp_id", "email", "emails", "state", "created_at", "updated_at"])
            .unwrap_or_default();
    let nullable = ["first_name", "last_name", "name", "job_title", "username"];
    let objects = ["raw_attributes", "custom_attributes"];
    let mut out = Object::new("directory_user");
    out.text("id", &string(id).unwrap_or_default());
    ends(&mut out, directory_id, organization_id);
    out.text("idp_id", &string(idp_id).unwrap_or_default());
    out.nullable("email", shown_email(email, emails).as_deref());
    for (key, value) in nullable.into_iter().zip(fields(snapshot, nullable).unwrap_or_default()) {
        out.nullable(key, string(value).as_deref());
    }
    let whole = array(emails).is_some_and(|emails| emails.iter().all(|email| email.get().starts_with('{')));
    out.raw("emails", emails.filter(|_| whole).map_or("[]", RawValue::get));
    let active = state.is_none() || string(state).is_some_and(|state| state == "active");
    out.text("state", if active { "active" } else { "inactive" });
    for (key, value) in objects.into_iter().zip(fields(snapshot, objects).unwrap_or_default()) {
        out.raw(key, object(value).unwrap_or("{}"));
    }
    let [role, roles] = fields(snapshot, ["role", "roles"]).unwrap_or_default();
    if let Some(slug) = role.and_then(slug) {
        out.raw("role", &slug);
    }
    if let Some(roles) = array(roles) {
        let slugs: Vec<String> = roles.into_iter().filter_map(slug).collect();
        out.raw("roles", &format!("[{}]", slugs.join(",")));
    }
    out.finish(created_at, updated_at)
}

fn group(snapshot: &str) -> Document {
    let names = ["id", "directory_id", "organization_id", "idp_id", "name", "raw_attributes", "created_at", "updated_at"];
    let [id, directory_id, organization_id, idp_id, name, raw_attributes, created_at, updated_at] =
        fields(snapshot, names).unwrap_or_default();
    let mut out = Object::new("directory_group");
    out.text("id", &string(id).unwrap_or_default());
    ends(&mut out, directory_id, organization_id);
    out.text("idp_id", &string(idp_id).unwrap_or_default());
    out.text("name", &string(name).unwrap_or_default());
    out.raw("raw_attributes", object(raw_attributes).unwrap_or("{}"));
    out.finish(created_at, updated_at)
}

/// The snapshot's own directory and organization; where it has none the row brings them.
fn ends(out: &mut Object, directory_id: Option<&RawValue>, organization_id: Option<&RawValue>) {
    // An id longer than the views take is none of its own.
    if let Some(directory_id) = given(directory_id).filter(|id| id.len() <= 255) {
        out.text("directory_id", &directory_id);
    }
    if let Some(organization_id) = given(organization_id) {
        out.text("organization_id", &organization_id);
    }
}

/// A role, down to its slug.
fn slug(role: &RawValue) -> Option<String> {
    let [slug] = fields(role.get(), ["slug"])?;
    let mut out = Object(b"{".to_vec());
    out.text("slug", &string(slug)?);
    out.0.push(b'}');
    String::from_utf8(out.0).ok()
}

/// A user or group as an object that is still open, so that its groups or members can follow.
pub fn open_entity(out: &mut Vec<u8>, document: &Document, row: &Row) {
    out.extend_from_slice(document.json());
    let mut field = |key: &str, value: &str| {
        out.extend_from_slice(key.as_bytes());
        push_string(out, value);
    };
    if let Some(directory) = &row.directory {
        field(",\"directory_id\":", directory);
    }
    if let Some(organization) = &row.organization {
        field(",\"organization_id\":", organization);
    }
    if !document.has(HAS_CREATED_AT) {
        field(",\"created_at\":", &time::format(row.created_at));
    }
    if !document.has(HAS_UPDATED_AT) {
        field(",\"updated_at\":", &time::format(row.occurred_at));
    }
}

/// A directory; a stub has no document.
pub fn push_directory(out: &mut Vec<u8>, document: Option<&Document>, row: &DirectoryRow) {
    let mut object = match document {
        Some(document) => Object(document.json().to_vec()),
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
    object.text("state", if row.active { "linked" } else { "unlinked" });
    if !document.is_some_and(|document| document.has(HAS_CREATED_AT)) {
        object.text("created_at", &time::format(row.created_at));
    }
    if !document.is_some_and(|document| document.has(HAS_UPDATED_AT)) {
        object.text("updated_at", &time::format(row.updated_at));
    }
    out.append(&mut object.0);
    out.push(b'}');
}
