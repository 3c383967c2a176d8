//! PATCH: operations that apply to a copy of a resource, all or none.

use super::document::Document;
use super::draft::Draft;
use super::{Kind, Refusal};

/// Applies the operations of a PATCH to a copy of a resource, all or none.
///
/// It costs as much as the operations and the document; the members of a group do not count.
///
/// # Errors
/// The body is not a list of operations, or one of them cannot be applied.
pub fn patch(kind: Kind, before: &Document, body: &str) -> Result<Draft, Refusal> {
    let _ = (kind, before, body);
    Err(Refusal::new(501, "not there yet"))
}
