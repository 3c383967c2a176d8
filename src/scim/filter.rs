//! Filters: which resources a client asks for (RFC 7644, section 3.4.2.2).

use super::Refusal;
use super::shown::Shown;

/// A filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter;

/// The index in which a filter can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKey {
    /// The SCIM id, exact.
    Id,
    /// `userName`, folded.
    UserName,
    /// `externalId`, exact.
    ExternalId,
    /// `displayName`, folded.
    DisplayName,
    /// The value of one of `emails`, folded.
    Email,
    /// The SCIM id of one of a group's `members`, exact.
    Member,
}

/// A value that every resource which the filter finds must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The attribute.
    pub key: ProbeKey,
    /// The value, in the form that [`super::Keys`] has it.
    pub text: String,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// `invalidFilter`.
    pub fn parse(text: &str) -> Result<Filter, Refusal> {
        let _ = text;
        Err(Refusal::filter("not there yet"))
    }

    /// Returns a value that every resource which the filter finds must have, if there is an index
    /// of it. The filter must still be asked about each that the index names.
    pub fn probe(&self) -> Option<Probe> {
        None
    }

    /// Reports if the filter finds a resource.
    pub fn matches(&self, resource: &Shown<'_>) -> bool {
        let _ = resource;
        false
    }

    /// Reports if the filter of a value path finds a member of a group.
    pub fn matches_member(&self, member: &super::MemberOf) -> bool {
        let _ = member;
        false
    }
}
