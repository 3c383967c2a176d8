//! The forms in which emails and the names of groups are compared: several spellings mean the same.

use std::borrow::Cow;

use rollcall_projections::{Fingerprint, NameText};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::hashes::fingerprint;

/// Returns the text in Unicode normalization form C: a letter and its accent become one character.
pub(super) fn normalized(text: &str) -> Cow<'_, str> {
    // No character of ASCII composes with another.
    let is_normalized = text.is_ascii() || is_nfc(text);
    if is_normalized { Cow::Borrowed(text) } else { Cow::Owned(text.nfc().collect()) }
}

/// Returns the name of a group or directory as names are compared.
pub fn compared_name(name: &str) -> String {
    normalized(name).into_owned()
}

/// Makes the text of a rule, as it was written and as it is compared.
pub(super) fn name_text(written: &str) -> NameText {
    NameText::new(written, &normalized(written))
}

/// Returns the fingerprint under which the views index an email.
///
/// Emails are compared without white space around them, in normalization form C and without regard
/// to case. A bare space counts as `+`: no address holds one, and in a query it is a `+` that was
/// not percent-encoded.
pub fn email_fingerprint(email: &str) -> Fingerprint {
    let lower = normalized(&with_plus(email.trim())).to_lowercase();
    // A letter in lower case may compose with an accent where its capital does not.
    fingerprint(&normalized(&lower))
}

/// Replaces the spaces outside double quotes by `+`.
fn with_plus(email: &str) -> Cow<'_, str> {
    if !email.contains(' ') {
        return Cow::Borrowed(email);
    }
    let mut quoted = false;
    let replaced = email.chars().map(|char| {
        quoted ^= char == '"';
        if char == ' ' && !quoted { '+' } else { char }
    });
    Cow::Owned(replaced.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_have_one_fingerprint() {
        let table = [
            ("ana+test@a.example", "ana test@a.example", true),
            ("ana+test@a.example", " \t\u{a0}Ana+Test@a.example\n", true),
            ("\u{c9}va@a.example", "e\u{301}va@a.example", true),
            ("e\u{301}va@a.example", "E\u{301}VA@A.example", true),
            ("J\u{30c}an@a.example", "\u{1f0}an@a.example", true),
            ("eva@a.example", "\u{e9}va@a.example", false),
            ("ana+test@a.example", "anatest@a.example", false),
            ("\"ana b\"@a.example", "\"ana+b\"@a.example", false),
            ("\"ana b\"@a.example", "\"Ana b\"@a.example", true),
        ];
        for (one, other, same) in table {
            let equal = email_fingerprint(one) == email_fingerprint(other);
            assert_eq!(equal, same, "{one:?} {other:?}");
        }
    }
}
