//! What an accepted request makes of a resource.

use super::document::Document;
use super::filter::Filter;
use super::{Kind, Refusal};

/// A member of a group, as a client names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The SCIM id of a user or group; it may name nothing.
    pub value: String,
    /// What the client says that it is.
    pub kind: Option<Kind>,
    /// The client's name for it.
    pub display: Option<String>,
}

/// One change of a group's members. Changes apply in order.
#[derive(Clone, Debug, PartialEq)]
pub enum MemberChange {
    /// These come, unless they are there.
    Add(Vec<Member>),
    /// These leave, if they are there.
    Remove(Vec<String>),
    /// All leave.
    Clear,
    /// These are the members from now on.
    Replace(Vec<Member>),
    /// Those leave that the filter of a value path finds.
    RemoveWhere(Filter),
}

/// What a request makes of a resource, before it is compared with what is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The resource as it would be stored. It is the document before if nothing in it changes.
    pub document: Document,
    /// If the user is active; `None` leaves that as it was.
    pub active: Option<bool>,
    /// The changes of a group's members.
    pub members: Vec<MemberChange>,
}

/// Makes a resource of the body of a POST.
///
/// # Errors
/// The body is not a JSON object, or has a value that the RFC does not allow.
pub fn create(kind: Kind, body: &str) -> Result<Draft, Refusal> {
    let _ = (kind, body);
    Err(Refusal::new(501, "not there yet"))
}

/// Replaces a resource by the body of a PUT.
///
/// # Errors
/// As [`create`].
pub fn replace(kind: Kind, before: &Document, body: &str) -> Result<Draft, Refusal> {
    let _ = (kind, before, body);
    Err(Refusal::new(501, "not there yet"))
}
