//! What an accepted request makes of a resource.

use super::document::Document;
use super::edit::{Edit, Operation};
use super::filter::Filter;
use super::value::{Object, Value};
use super::{DEPTH_MAX, Kind, Refusal};

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
    RemoveWhere(Box<Filter>),
    /// Those that the filter of a value path finds make way for others, or stay if there are none:
    /// only a part of them was given then, which is not kept. The filter must find one.
    ReplaceWhere(Box<Filter>, Option<Vec<Member>>),
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

/// Makes a resource of the body of a POST. A user is active unless the body says otherwise.
///
/// # Errors
/// `invalidSyntax` if the body is not a JSON object; `invalidValue` if it has no `userName` or
/// `displayName`, or a value that the RFC does not allow; 413 if it is too large.
pub fn create(kind: Kind, body: &str) -> Result<Draft, Refusal> {
    let mut edit = Edit::new(kind, Document::default());
    edit.apply_object(Operation::Add, object(body)?)?;
    let mut draft = edit.finish()?;
    if kind == Kind::User && draft.active.is_none() {
        draft.document.0.set("active", Value::Bool(true));
        draft.active = Some(true);
    }
    Ok(draft)
}

/// Replaces a resource by the body of a PUT. `externalId` and `active` stay as they were if the body
/// lacks them, `externalId` also if it is null or empty there; a group without `members` becomes
/// empty.
///
/// # Errors
/// As [`create`].
pub fn replace(kind: Kind, before: &Document, body: &str) -> Result<Draft, Refusal> {
    let mut edit = Edit::new(kind, Document::default());
    edit.apply_object(Operation::Replace, object(body)?)?;
    // Null is the same as nothing, but for `active`, which is no longer shown then.
    let lacks = [("externalId", !edit.has("externalId")), ("active", !edit.touched("active"))];
    for (name, _) in lacks.into_iter().filter(|(_, is_lacking)| *is_lacking) {
        if let Some(value) = before.0.get(name) {
            edit.keep(name, value.clone());
        }
    }
    if kind == Kind::Group && !edit.touched("members") {
        edit.clear_members();
    }
    Ok(edit.finish()?.or_unchanged(before))
}

impl Draft {
    /// Takes the document before if this one says the same.
    pub(crate) fn or_unchanged(mut self, before: &Document) -> Draft {
        if self.document == *before {
            self.document = before.clone();
        }
        self
    }
}

/// Reads a body that must be an object.
pub(crate) fn object(body: &str) -> Result<Object, Refusal> {
    match Value::parse(body) {
        Some(Value::Object(object)) => Ok(object),
        _ => Err(Refusal::syntax(format!(
            "the body is not a JSON object of at most {DEPTH_MAX} levels"
        ))),
    }
}

/// Reads members: a list, one object, or bare ids. The id is the `value`, else it is in the `$ref`;
/// what has none is passed over.
pub(crate) fn members(value: Value) -> Vec<Member> {
    match value {
        Value::List(elements) => elements.into_iter().filter_map(member).collect(),
        value => member(value).into_iter().collect(),
    }
}

fn member(value: Value) -> Option<Member> {
    let object = match value {
        Value::Object(object) => object,
        value => {
            let value = value.scalar().filter(|id| !id.is_empty())?.to_owned();
            return Some(Member { value, kind: None, display: None });
        }
    };
    let referred = object.text("$ref").and_then(referred);
    let value = object.get("value").and_then(Value::scalar).filter(|id| !id.is_empty());
    let value = value.or(referred.map(|(_, id)| id))?.to_owned();
    let kind = object.text("type").and_then(Kind::parse).or(referred.map(|(kind, _)| kind));
    let display = object.text("display").filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Member { value, kind, display })
}

/// Returns the kind and the id of the resource that a URL names.
fn referred(url: &str) -> Option<(Kind, &str)> {
    [Kind::User, Kind::Group].into_iter().find_map(|kind| {
        let (_, id) = url.rsplit_once(&format!("/{}/", kind.route()))?;
        Some((kind, id)).filter(|_| !id.is_empty() && !id.contains('/'))
    })
}
