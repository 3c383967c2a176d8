//! Users and groups, written from their documents and rows.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rollcall_projections::{Cut, EntityRow, Named, Nested, Sight};

use super::answer::Problem;
use crate::documents::{Document, DocumentKey, Shape, open_entity};
use crate::engine::Engine;

/// The characters that are escaped in the value of a query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Refuses filters by what no known record ever named, or what is not seen: an empty list would look like an
/// answer to a question that was misspelt.
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

/// Appends the next document, completed from its row, without the closing brace.
pub(crate) fn push_open(
    out: &mut Vec<u8>,
    documents: &mut std::slice::Iter<'_, Document>,
    row: &EntityRow,
) {
    if let Some(document) = documents.next() {
        open_entity(out, document, row);
    }
}

/// A list within an object, and the call that has all of it.
pub(crate) struct NestedList {
    pub(crate) name: &'static str,
    /// The path and query of the call, up to the value of its filter.
    pub(crate) call: &'static str,
}

impl NestedList {
    /// Appends the list, filled with the next documents. If it was cut, three more fields say so:
    /// the number of all and the call that has them; `of` is the id of the object.
    pub(crate) fn push(
        &self,
        out: &mut Vec<u8>,
        documents: &mut std::slice::Iter<'_, Document>,
        nested: &Nested,
        of: &str,
    ) {
        push_array(out, self.name, documents, &nested.rows);
        if nested.total > nested.rows.len() {
            let NestedList { name, call } = self;
            let id = utf8_percent_encode(of, ENCODED);
            let sign = format!(
                r#","{name}_truncated":true,"{name}_total":{},"{name}_url":"{call}{id}""#,
                nested.total
            );
            out.extend_from_slice(sign.as_bytes());
        }
    }
}

/// Appends a field with the next documents as an array.
fn push_array(
    out: &mut Vec<u8>,
    name: &str,
    documents: &mut std::slice::Iter<'_, Document>,
    rows: &[EntityRow],
) {
    out.push(b',');
    crate::json::push_string(out, name);
    out.extend_from_slice(b":[");
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_open(out, documents, row);
        out.push(b'}');
    }
    out.push(b']');
}
