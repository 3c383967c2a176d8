//! A resource as SCIM shows it.

use rollcall_projections::Millis;

use super::document::Document;
use super::{Kind, Refusal};

/// A member of a group as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberOf {
    /// Its SCIM id.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// The client's name for it.
    pub display: Option<String>,
}

/// A group of a user as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOf {
    /// Its SCIM id.
    pub id: String,
    /// Its `displayName`.
    pub display: Option<String>,
}

/// The memberships of one resource, looked up when an answer or a filter needs them.
pub trait Related {
    /// Returns the members of the group.
    fn members(&self) -> Vec<MemberOf>;
    /// Reports if the group has a member with this SCIM id, without listing the others.
    fn is_member(&self, id: &str) -> bool;
    /// Returns the groups of the user.
    fn groups(&self) -> Vec<GroupOf>;
    /// Reports if the user is in the group with this SCIM id, without listing the others.
    fn is_in(&self, id: &str) -> bool;
}

/// A resource with all that an answer needs.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// A user or a group.
    pub kind: Kind,
    /// Its SCIM id.
    pub id: &'a str,
    /// What is stored of it.
    pub document: &'a Document,
    /// When it was made, in milliseconds.
    pub created: Millis,
    /// When it was last changed, in milliseconds.
    pub last_modified: Millis,
    /// The seq of the record of its last change.
    pub version: u64,
    /// The URL of the directory, without a slash at the end.
    pub base: &'a str,
    /// Its memberships.
    pub related: &'a dyn Related,
}

impl Shown<'_> {
    /// Returns the ETag, such as `W/"17"`.
    pub fn etag(&self) -> String {
        format!("W/\"{}\"", self.version)
    }

    /// Returns the URL of the resource.
    pub fn location(&self) -> String {
        format!("{}/{}/{}", self.base, self.kind.route(), self.id)
    }

    /// Returns the resource as JSON, with the attributes that are asked for.
    pub fn render(&self, projection: &Projection) -> String {
        let _ = projection;
        String::new()
    }
}

/// The attributes that a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projection;

impl Projection {
    /// Reads `attributes` and `excludedAttributes`; each text may have several names with commas.
    ///
    /// # Errors
    /// `invalidPath` for what is no name of an attribute, and for too many.
    pub fn parse(attributes: &[&str], excluded: &[&str]) -> Result<Projection, Refusal> {
        let _ = (attributes, excluded);
        Ok(Projection)
    }

    /// Reports if everything is asked for.
    pub fn is_whole(&self) -> bool {
        true
    }

    /// Reports if a core attribute, such as `members`, is asked for.
    pub fn shows(&self, name: &str) -> bool {
        let _ = name;
        true
    }
}

/// The attribute by which a list is sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortBy;

/// A resource's value of the attribute by which a list is sorted. A missing one is the greatest:
/// a descending list is the reverse of an ascending one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SortKey {
    /// A moment in milliseconds.
    Time(Millis),
    /// A text, folded unless it is compared exactly.
    Text(String),
    /// No value.
    Missing,
}

impl SortBy {
    /// Reads `sortBy`.
    ///
    /// # Errors
    /// `invalidPath`.
    pub fn parse(text: &str) -> Result<SortBy, Refusal> {
        let _ = text;
        Ok(SortBy)
    }

    /// Returns a resource's value.
    pub fn key(&self, resource: &Shown<'_>) -> SortKey {
        let _ = resource;
        SortKey::Missing
    }
}
