//! Ids that may be personal. Sources and callers do use emails and names as ids.

/// The text that replaces what is not an opaque id.
pub const WITHHELD: &str = "withheld";

/// Tells if an id may be an email or a name, also one that was encoded.
pub fn may_be_personal(id: &str) -> bool {
    // A percent sign may hide a character that was encoded twice.
    id.contains(['@', '＠', '%']) || id.chars().any(char::is_whitespace)
}
