//! Users and groups, written from their documents and rows.

use std::sync::Arc;

use actix_web::HttpResponse;
use rollcall_projections::{Cut, DirectoryRow, EntityRow, Named, Nested, Sight, SnapshotRef};

use super::answer::{Problem, pinned_with_roles};
use super::paging::PAGE_BYTES_MAX;
use super::threads::blocking;
use crate::documents::{Document, DocumentKey, Shape, open_entity, push_directory};
use crate::engine::Engine;
use crate::percent::encoded;

/// Refuses filters by what no known record ever named, or what is not seen: an empty list would
/// look like an answer to a question that was misspelt.
///
/// # Errors
/// 404 for the first of them.
pub(crate) fn must_be_named<'a>(
    engine: &Engine,
    sight: &Sight,
    cut: Cut,
    filters: impl IntoIterator<Item = Option<Named<'a>>>,
) -> Result<(), Problem> {
    let views = engine.views();
    let views = views.seen_by(sight);
    match filters.into_iter().flatten().find(|named| !views.ever_named(*named, cut)) {
        None => Ok(()),
        Some(Named::User(id)) => Err(Problem::entity_not_found("Directory User", id)),
        Some(Named::Group(id)) => Err(Problem::entity_not_found("Directory Group", id)),
        Some(Named::Directory(id)) => Err(Problem::entity_not_found("Directory", id)),
        Some(Named::Organization(id)) => Err(Problem::entity_not_found("Organization", id)),
        Some(Named::Role(role)) => Err(Problem::entity_not_found("Role", role)),
    }
}

/// Refuses filters as [`must_be_named`] does, with the headers of an answer about roles.
pub(crate) fn refused_with_roles<'a>(
    engine: &Engine,
    sight: &Sight,
    cut: Cut,
    filters: impl IntoIterator<Item = Option<Named<'a>>>,
) -> Option<HttpResponse> {
    let problem = must_be_named(engine, sight, cut, filters).err()?;
    Some(pinned_with_roles(cut, engine.views().mapping_version(cut), Err::<Vec<u8>, _>(problem)))
}

/// Returns what tells if the operator sees an organization or directory that a snapshot names;
/// `None` if it sees all.
pub(crate) fn what_is_seen<'a>(
    engine: &'a Engine,
    sight: &'a Sight,
    cut: Cut,
) -> Option<impl Fn(Named<'_>) -> bool + use<'a>> {
    let is_seen = move |named: Named<'_>| engine.views().seen_by(sight).ever_named(named, cut);
    (*sight != Sight::All).then_some(is_seen)
}

/// Returns the key of a row's document.
pub(crate) fn key(row: &EntityRow, shape: Shape) -> DocumentKey {
    DocumentKey { seq: row.seq, part: row.part, shape }
}

/// The number of documents that are read at once.
const DOCUMENTS_AT_ONCE: usize = 64;

/// The bytes of documents from which on an answer is written on a thread of its own.
const BYTES_AT_ONCE_MAX: usize = 256 << 10;

/// Documents, read a few at a time as they are written, so that an answer that ends early reads no
/// more than it shows.
pub(crate) struct Reading<'a> {
    engine: &'a Engine,
    keys: std::vec::IntoIter<DocumentKey>,
    documents: std::vec::IntoIter<Document>,
}

impl Reading<'_> {
    /// Begins to read documents. Blocks while it reads the log.
    pub(crate) fn of(engine: &Engine, keys: Vec<DocumentKey>) -> Reading<'_> {
        Reading { engine, keys: keys.into_iter(), documents: Vec::new().into_iter() }
    }

    /// Returns the next document, if there is one.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<Document>, Problem> {
        self.read_more()?;
        Ok(self.documents.next())
    }

    fn read_more(&mut self) -> Result<(), Problem> {
        if self.documents.len() == 0 {
            let keys: Vec<DocumentKey> = self.keys.by_ref().take(DOCUMENTS_AT_ONCE).collect();
            self.documents = self.engine.load_documents(&keys)?.into_iter();
        }
        Ok(())
    }

    /// Returns the bytes of the next documents, as far as they are read.
    pub(crate) fn bytes_ahead(&mut self, count: usize) -> Result<usize, Problem> {
        self.read_more()?;
        Ok(self.documents.as_slice().iter().take(count).map(Document::bytes).sum())
    }

    /// Leaves documents out.
    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            if self.documents.next().is_none() {
                self.keys.next();
            }
        }
    }
}

/// Writes documents out: at once if they are few and cached, else on a thread that may block on the
/// log.
pub(crate) async fn with_documents<T: Send + 'static>(
    engine: Arc<Engine>,
    keys: Vec<DocumentKey>,
    write: impl FnOnce(&mut Reading<'_>) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    if keys.len() <= DOCUMENTS_AT_ONCE
        && let Some(documents) = engine.cached_documents(&keys)
        && documents.iter().map(Document::bytes).sum::<usize>() <= BYTES_AT_ONCE_MAX
    {
        let (keys, documents) = (Vec::new().into_iter(), documents.into_iter());
        return write(&mut Reading { engine: &engine, keys, documents });
    }
    blocking(move || write(&mut Reading::of(&engine, keys))).await?
}

/// Appends the next document, completed from its row, without the closing brace.
///
/// # Errors
/// If the log cannot be read.
pub(crate) fn push_open(
    out: &mut Vec<u8>,
    documents: &mut Reading<'_>,
    row: &EntityRow,
) -> Result<(), Problem> {
    if let Some(document) = documents.next()? {
        open_entity(out, &document, row);
    }
    Ok(())
}

/// A list within an object, and the call that has all of it.
pub(crate) struct NestedList {
    pub(crate) name: &'static str,
    /// The path and query of the call, up to the value of its filter.
    pub(crate) call: &'static str,
}

impl NestedList {
    /// Appends the list, filled with the next documents. If it was cut, because it has too many
    /// items or too many bytes, three more fields say so: the number of all and the call that has
    /// them; `of` is the id of the object, which begins at `object_at`.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(crate) fn push(
        &self,
        out: &mut Vec<u8>,
        documents: &mut Reading<'_>,
        nested: &Nested,
        of: &str,
        object_at: usize,
    ) -> Result<(), Problem> {
        let shown = self.push_array(out, documents, &nested.rows, object_at)?;
        if nested.total > shown {
            let NestedList { name, call } = self;
            let id = encoded(of);
            let sign = format!(
                r#","{name}_truncated":true,"{name}_total":{},"{name}_url":"{call}{id}""#,
                nested.total
            );
            out.extend_from_slice(sign.as_bytes());
        }
        Ok(())
    }

    /// Appends the next documents as an array, until the object is as large as a page. Returns the
    /// number of documents in it.
    fn push_array(
        &self,
        out: &mut Vec<u8>,
        documents: &mut Reading<'_>,
        rows: &[EntityRow],
        object_at: usize,
    ) -> Result<usize, Problem> {
        out.push(b',');
        crate::json::push_string(out, self.name);
        out.extend_from_slice(b":[");
        let mut shown = 0;
        for row in rows {
            let before = out.len();
            if shown > 0 {
                out.push(b',');
            }
            push_open(out, documents, row)?;
            out.push(b'}');
            if out.len() - object_at > PAGE_BYTES_MAX {
                out.truncate(before);
                documents.skip(rows.len() - shown - 1);
                break;
            }
            shown += 1;
        }
        out.push(b']');
        Ok(shown)
    }
}

/// Writes a directory as `GET /directories/{id}` shows it.
///
/// # Errors
/// If the log cannot be read.
pub(crate) async fn directory_written(
    engine: Arc<Engine>,
    row: DirectoryRow,
) -> Result<Vec<u8>, Problem> {
    let key = directory_key(&row);
    let write = move |documents: &mut Reading<'_>| {
        let mut out = Vec::with_capacity(512);
        write_directory(&mut out, &row, documents)?;
        Ok(out)
    };
    with_documents(engine, key, write).await
}

/// Returns the key of a directory's document, if it has one.
pub(crate) fn directory_key(row: &DirectoryRow) -> Vec<DocumentKey> {
    let key = |SnapshotRef { seq, part }| DocumentKey { seq, part, shape: Shape::Directory };
    row.version.map(key).into_iter().collect()
}

/// Appends a directory as an object of the API.
///
/// # Errors
/// If its document cannot be read.
pub(crate) fn write_directory(
    out: &mut Vec<u8>,
    row: &DirectoryRow,
    documents: &mut Reading<'_>,
) -> Result<(), Problem> {
    let document = row.version.map_or(Ok(None), |_| documents.next())?;
    push_directory(out, document.as_ref(), row);
    Ok(())
}
