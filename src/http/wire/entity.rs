//! Users and groups, written from their documents and rows.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rollcall_projections::{EntityRow, Nested};

use crate::documents::{Document, DocumentKey, Shape, open_entity};

/// The characters that are escaped in the value of a query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Returns the key of a row's document.
pub(crate) fn key(row: &EntityRow, shape: Shape) -> DocumentKey {
    (row.seq, row.part, shape)
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
