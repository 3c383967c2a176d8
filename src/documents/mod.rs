//! Documents: the snapshots in the bodies of records, in the shapes of the WorkOS API.
//!
//! The views hold the fields that questions filter by. All other fields are read from the log,
//! completed into the API's shape once, and kept in a cache bounded in bytes. Emptying or shrinking
//! the cache never changes an answer.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rollcall_projections::{Part, Seq};

use crate::json::{fields, fields_of, string};
use crate::log::{Log, ReadError};

mod changes;
mod event;
mod shapes;

pub use changes::{
    FieldChange, MissedChange, changed_fields, conceal, conceal_missed, missed_fields, snapshot,
    stated_previous,
};
pub use event::{ShownEvent, show_event};
pub use shapes::{open_entity, push_directory, served_state, state_of};

/// The kind of object that a document describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A directory.
    Directory,
    /// A user.
    User,
    /// A group.
    Group,
}

/// The key of a document in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DocumentKey {
    /// The document's record.
    pub seq: Seq,
    /// Its part of the body.
    pub part: Part,
    /// Its shape.
    pub shape: Shape,
}

/// An API object without the fields that depend on the question: an open JSON object.
///
/// It is one allocation: a byte of flags for the times that the JSON has, four bytes for the offset
/// of what follows the JSON, and the JSON. What follows are a user's roles of the source, or the
/// observed state of a directory. A page of the past reads a hundred documents
/// that are in no cache of the processor, and pays for each memory access.
#[derive(Clone)]
pub struct Document(Arc<[u8]>);

const HAS_CREATED_AT: u8 = 1;
const HAS_UPDATED_AT: u8 = 2;

impl Document {
    fn new(times: u8, json: &[u8], tail: &[u8]) -> Document {
        let tail_at = json.len() as u32;
        Document([&[times][..], &tail_at.to_le_bytes(), json, tail].concat().into())
    }

    /// Returns the JSON, and what follows it.
    fn json(&self) -> (&[u8], &[u8]) {
        let behind_times = self.0.split_first().and_then(|(_, rest)| rest.split_first_chunk::<4>());
        let (tail_at, json) = behind_times.unwrap_or((&[0; 4], &[]));
        json.split_at_checked(u32::from_le_bytes(*tail_at) as usize).unwrap_or((json, &[]))
    }

    /// Returns the email of a user.
    pub fn email(&self) -> Option<String> {
        let whole = [self.json().0, b"}"].concat();
        let [email] = fields(std::str::from_utf8(&whole).ok()?, ["email"])?;
        string(email).map(Into::into)
    }

    /// Returns its size in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    fn has(&self, time: u8) -> bool {
        self.0.first().is_some_and(|times| times & time != 0)
    }
}

/// The cache of documents.
pub struct Documents {
    cache: Cache<DocumentKey, Document, ByBytes>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<DocumentKey, Document> for ByBytes {
    fn weight(&self, _: &DocumentKey, document: &Document) -> u64 {
        // The bytes, and about the overhead of an entry in the cache.
        document.0.len() as u64 + 128
    }
}

impl Documents {
    /// Makes an empty cache of at most `bytes_max`.
    pub fn new(bytes_max: u64) -> Documents {
        let items = (bytes_max / 1024).max(16) as usize;
        Documents { cache: Cache::with_weighter(items, bytes_max, ByBytes) }
    }

    /// Returns the documents if all of them are cached.
    pub fn cached(&self, keys: &[DocumentKey]) -> Option<Vec<Document>> {
        keys.iter().map(|key| self.cache.get(key)).collect()
    }

    /// Returns the documents, and reads those that are not cached from the log. Each frame of the
    /// log is unpacked once.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn load(&self, log: &dyn Log, keys: &[DocumentKey]) -> Result<Vec<Document>, ReadError> {
        let mut found: Vec<Option<Document>> = keys.iter().map(|key| self.cache.get(key)).collect();
        let mut missing: Vec<usize> = found
            .iter()
            .enumerate()
            .filter(|(_, document)| document.is_none())
            .map(|(at, _)| at)
            .collect();
        missing.sort_by_key(|at| keys.get(*at).map(|key| key.seq));
        let seqs: Vec<Seq> =
            missing.iter().filter_map(|at| keys.get(*at)).map(|key| key.seq).collect();
        for (at, body) in missing.into_iter().zip(log.bodies(&seqs)?) {
            let (Some(key), Some(slot)) = (keys.get(at), found.get_mut(at)) else { continue };
            let document = Document::read(&body, *key);
            self.cache.insert(*key, document.clone());
            *slot = Some(document);
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// Returns the memory that it takes, in bytes, about.
    pub fn weight(&self) -> u64 {
        self.cache.weight()
    }

    /// Empties the cache.
    pub fn clear(&self) {
        self.cache.clear();
    }
}

impl Document {
    /// Completes the snapshot in `body` into the API's shape. A field of the wrong type counts as
    /// absent.
    fn read(body: &[u8], DocumentKey { part, shape, .. }: DocumentKey) -> Document {
        let snapshot = snapshot(body, part);
        match (shape, part) {
            (Shape::Directory, Part::Object) => shapes::observed_directory(snapshot),
            (Shape::User | Shape::Group, Part::Object) => {
                let document = read_snapshot(shape, snapshot);
                if shapes::names_directory(snapshot) {
                    document
                } else {
                    document.with("directory_id", &listed_in(body))
                }
            }
            _ => read_snapshot(shape, snapshot),
        }
    }

    /// Returns the document with one more field.
    fn with(&self, key: &str, value: &str) -> Document {
        let (json, tail) = self.json();
        let mut object = shapes::Object(json.to_vec());
        object.text(key, value);
        Document::new(self.0.first().copied().unwrap_or(0), &object.0, tail)
    }
}

/// Returns the directory in which the source listed what an observation is about.
fn listed_in(body: &[u8]) -> String {
    let text = std::str::from_utf8(body).unwrap_or("{}");
    let [data] = fields(text, ["data"]).unwrap_or_default();
    let [directory] = fields_of(data, ["directory_id"]).unwrap_or_default();
    string(directory).unwrap_or_default().into()
}

/// Completes a snapshot into the API's shape. A field of the wrong type counts as absent.
pub fn read_snapshot(shape: Shape, snapshot: &str) -> Document {
    match shape {
        Shape::Directory => shapes::directory(snapshot),
        Shape::User => shapes::user(snapshot),
        Shape::Group => shapes::group(snapshot),
    }
}
