//! What the server says of itself: RFC 7643, sections 5 to 7.

use super::Kind;

/// Returns the ServiceProviderConfig as JSON.
pub fn service_provider_config(base: &str) -> String {
    let _ = base;
    String::new()
}

/// Returns the ListResponse of all resource types as JSON.
pub fn resource_types(base: &str) -> String {
    let _ = base;
    String::new()
}

/// Returns one resource type as JSON.
pub fn resource_type(base: &str, kind: Kind) -> String {
    let _ = (base, kind);
    String::new()
}

/// Returns the ListResponse of all schemas as JSON.
pub fn schemas(base: &str) -> String {
    let _ = base;
    String::new()
}

/// Returns one schema as JSON; `None` if there is none of this URN, in any case.
pub fn schema(base: &str, urn: &str) -> Option<String> {
    let _ = (base, urn);
    None
}
