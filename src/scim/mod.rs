//! SCIM 2.0 (RFC 7643, RFC 7644) as pure functions: what a request makes of a resource, which
//! resources a filter finds, how a resource is shown, and the events that follow a change.
//!
//! Nothing here knows the engine, the store, HTTP, a clock or chance. A request's text passes
//! through [`redact()`] before anything else sees it, then [`create`], [`replace`] or [`patch()`]
//! make a [`Draft`] of it. [`Shown`] is a resource with all that an answer needs.

pub mod discovery;
mod document;
mod draft;
mod edit;
mod elements;
mod events;
mod filter;
mod names;
mod patch;
mod path;
mod redact;
mod refusal;
mod shown;
#[cfg(test)]
mod tests;
mod tokens;
mod value;

pub use rollcall_projections::Deactivation;

pub use document::{Document, Keys, folded};
pub use draft::{Draft, Member, MemberChange, create, replace};
pub use events::{Consequence, EventMaker, GroupAfter, Snapshot, UserAfter, Written};
pub use filter::{Filter, Probe, ProbeKey};
pub use patch::patch;
pub use redact::{Redacted, redact};
pub use refusal::Refusal;
pub use shown::{GroupOf, MemberOf, Projection, Related, Shown, SortBy, SortKey};

/// The most levels of objects and arrays in a body.
pub const DEPTH_MAX: usize = 64;
/// The most operations of one PATCH.
pub const OPERATIONS_MAX: usize = 1000;
/// The most bytes of a filter or a path.
pub const FILTER_BYTES_MAX: usize = 8 << 10;
/// The most bytes of a stored document.
pub const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// The kind of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A user.
    User,
    /// A group.
    Group,
}

impl Kind {
    /// Returns the name of the resource type: `User` or `Group`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::User => "User",
            Kind::Group => "Group",
        }
    }

    /// Returns the segment of the resource's route: `Users` or `Groups`.
    pub fn route(self) -> &'static str {
        match self {
            Kind::User => "Users",
            Kind::Group => "Groups",
        }
    }

    /// Reads the name of a resource type, in any case.
    pub fn parse(name: &str) -> Option<Kind> {
        [Kind::User, Kind::Group].into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}
