//! Refusals of requests, in the shape of RFC 7644, section 3.12.

use serde::Serialize;

/// A request that is refused, and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The error's keyword in RFC 7644, table 9, if it has one.
    pub scim_type: Option<&'static str>,
    /// A sentence for people. It has no personal attribute.
    pub detail: String,
}

#[derive(Serialize)]
struct Body<'a> {
    schemas: [&'static str; 1],
    status: String,
    #[serde(rename = "scimType", skip_serializing_if = "Option::is_none")]
    scim_type: Option<&'static str>,
    detail: &'a str,
}

impl Refusal {
    /// Makes a refusal without a keyword.
    pub fn new(status: u16, detail: impl Into<String>) -> Refusal {
        Refusal { status, scim_type: None, detail: detail.into() }
    }

    /// Makes a refusal with a keyword and the status 400.
    pub fn bad(scim_type: &'static str, detail: impl Into<String>) -> Refusal {
        Refusal { status: 400, scim_type: Some(scim_type), detail: detail.into() }
    }

    /// Makes the refusal of a body that is not what the call takes.
    pub fn syntax(detail: impl Into<String>) -> Refusal {
        Refusal::bad("invalidSyntax", detail)
    }

    /// Makes the refusal of a value.
    pub fn value(detail: impl Into<String>) -> Refusal {
        Refusal::bad("invalidValue", detail)
    }

    /// Makes the refusal of a filter.
    pub fn filter(detail: impl Into<String>) -> Refusal {
        Refusal::bad("invalidFilter", detail)
    }

    /// Makes the refusal of a path.
    pub fn path(detail: impl Into<String>) -> Refusal {
        Refusal::bad("invalidPath", detail)
    }

    /// Makes the refusal of a second resource with a value that only one may have.
    pub fn uniqueness(detail: impl Into<String>) -> Refusal {
        Refusal { status: 409, scim_type: Some("uniqueness"), detail: detail.into() }
    }

    /// Makes the refusal of what is too large.
    pub fn too_large(detail: impl Into<String>) -> Refusal {
        Refusal { status: 413, scim_type: None, detail: detail.into() }
    }

    /// Returns the body of the answer as JSON.
    pub fn body(&self) -> String {
        let body = Body {
            schemas: ["urn:ietf:params:scim:api:messages:2.0:Error"],
            status: self.status.to_string(),
            scim_type: self.scim_type,
            detail: &self.detail,
        };
        serde_json::to_string(&body).unwrap_or_default()
    }
}
