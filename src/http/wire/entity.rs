//! Users and groups, written from their documents and rows.

use rollcall_projections::EntityRow;

use crate::documents::{Document, DocumentKey, Shape, open_entity};

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

/// Appends a field with the next documents as an array.
pub(crate) fn push_nested(
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
