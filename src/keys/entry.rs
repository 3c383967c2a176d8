//! Entries `[[keys]]` of the configuration.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{ApiKey, Scope, Scopes, may_be_secret};
use crate::hashes::Hash;
use crate::time;
use crate::verify::KEY_ID_BYTES;
use rollcall_projections::Millis;

/// The longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The beginning of a fingerprint, which a name must not pass for.
const FINGERPRINT: &str = "key_";

/// The longest id of an organization, in bytes. The views take ids of at most as many.
const ID_BYTES_MAX: usize = 255;

/// The most organizations that one key is bound to.
const ORGANIZATIONS_MAX: usize = 1000;

/// One entry as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The key's unique name.
    pub name: String,
    /// The SHA-256 of the key, in hex.
    pub sha256: String,
    /// The words of its scopes.
    pub scopes: Vec<String>,
    /// The organizations that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organizations: Option<Vec<String>>,
    /// The RFC 3339 time from which it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The requests that it may make in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u32>,
}

/// A mistake in an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {message}")]
pub struct EntryFault {
    /// The field.
    pub field: &'static str,
    /// The mistake, as the rest of a sentence that begins with the field.
    pub message: String,
}

fn fault<T>(field: &'static str, message: impl Into<String>) -> Result<T, EntryFault> {
    Err(EntryFault { field, message: message.into() })
}

impl KeyEntry {
    /// Writes it as a table of the configuration file.
    pub fn to_toml(&self) -> String {
        // Every JSON text is a text of TOML, and so is every array of texts.
        let texts = |texts: &[String]| {
            let texts: Vec<String> = texts.iter().map(|text| json!(text).to_string()).collect();
            format!("[{}]", texts.join(", "))
        };
        let mut table = format!(
            "[[keys]]\nname = {}\nsha256 = {}\nscopes = {}\n",
            json!(self.name),
            json!(self.sha256),
            texts(&self.scopes)
        );
        let fields = [
            ("organizations", self.organizations.as_deref().map(texts)),
            ("expires_at", self.expires_at.as_ref().map(|moment| json!(moment).to_string())),
            ("rate_limit", self.rate_limit.map(|limit| limit.to_string())),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                table.push_str(&format!("{name} = {value}\n"));
            }
        }
        table
    }

    /// Reads the entry.
    ///
    /// # Errors
    /// The first mistake.
    pub fn read(&self) -> Result<ApiKey, EntryFault> {
        check_name(&self.name)?;
        let sha256 = read_digest(&self.sha256)?;
        let scopes = read_scopes(&self.scopes)?;
        check_organizations(self.organizations.as_deref())?;
        let expires_at = self.expires_at.as_deref().map(|text| match read_end(text) {
            Some(moment) => Ok(moment),
            None => fault(
                "expires_at",
                "is not a time: write an RFC 3339 time with its offset, such as \
                 2026-06-01T00:00:00Z",
            ),
        });
        if self.rate_limit == Some(0) {
            return fault("rate_limit", "is 0: leave it out for a key without a limit");
        }
        let mut key_id = [0; KEY_ID_BYTES];
        key_id.iter_mut().zip(sha256).for_each(|(to, from)| *to = from);
        Ok(ApiKey {
            name: Some(self.name.clone()),
            sha256,
            key_id,
            scopes,
            organizations: self.organizations.clone(),
            expires_at: expires_at.transpose()?,
            rate_limit: self.rate_limit,
        })
    }
}

/// Checks the name of a key.
///
/// # Errors
/// Says which names may be given.
pub(super) fn check_name(name: &str) -> Result<(), EntryFault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    if !fits || !name.bytes().all(plain) || name.starts_with(['-', '_', '.']) {
        // What is not a name may be a secret, and is not repeated.
        let message = format!(
            "is not a name: write 1 to {NAME_BYTES_MAX} letters, digits and `-_.`, \
             beginning with a letter or digit"
        );
        return fault("name", message);
    }
    if may_be_secret(name) {
        return fault("name", "begins as secrets do: write another name");
    }
    if name.starts_with(FINGERPRINT) {
        let message = format!("begins with `{FINGERPRINT}`, as only fingerprints do");
        return fault("name", message);
    }
    Ok(())
}

/// Reads the moment at which a key ends. Without an offset it would end at another hour than it says
/// where the server is.
fn read_end(text: &str) -> Option<Millis> {
    let clock = text.get(10..)?;
    let has_offset = clock.ends_with(['Z', 'z']) || clock.contains(['+', '-']);
    time::parse(text).filter(|_| has_offset)
}

fn read_digest(text: &str) -> Result<Hash, EntryFault> {
    let mut digest = Hash::default();
    match hex::decode_to_slice(text, &mut digest) {
        Ok(()) => Ok(digest),
        Err(_) => fault("sha256", "is not 64 hex digits: write the SHA-256 of the key"),
    }
}

fn read_scopes(words: &[String]) -> Result<Scopes, EntryFault> {
    if words.is_empty() {
        return fault("scopes", format!("is empty: name one or more of {}", scope_words()));
    }
    let scopes: Result<Vec<Scope>, EntryFault> = words
        .iter()
        .map(|word| match Scope::of_word(word) {
            Some(scope) => Ok(scope),
            None => fault("scopes", format!("{}: the scopes are {}", unknown(word), scope_words())),
        })
        .collect();
    Ok(Scopes::of(scopes?))
}

/// The most characters of a word that is repeated.
const WORD_CHARS_MAX: usize = 12;

/// Says what a word is. One that has not the form of a scope may be a secret, and is not repeated.
fn unknown(word: &str) -> String {
    if word.contains(',') {
        return "has a comma in a word; write a list such as [\"read\", \"audit\"]".into();
    }
    let plain = word.bytes().all(|byte| byte.is_ascii_alphabetic());
    if plain && (1..=WORD_CHARS_MAX).contains(&word.len()) {
        return format!("has `{word}`");
    }
    "has a word that is not a scope".into()
}

fn scope_words() -> String {
    Scope::ALL.map(|scope| format!("`{}`", scope.word())).join(", ")
}

fn check_organizations(organizations: Option<&[String]>) -> Result<(), EntryFault> {
    let Some(organizations) = organizations else { return Ok(()) };
    if organizations.is_empty() {
        return fault("organizations", "is empty: leave it out for a key that sees all of them");
    }
    if organizations.len() > ORGANIZATIONS_MAX {
        return fault("organizations", format!("has more than {ORGANIZATIONS_MAX} ids"));
    }
    let usable = |id: &&String| {
        (1..=ID_BYTES_MAX).contains(&id.len())
            && !id.chars().any(|c| c.is_control() || c.is_whitespace())
            && !may_be_secret(id)
    };
    match organizations.iter().find(|id| !usable(id)) {
        None => Ok(()),
        Some(_) => fault("organizations", "has a text that is not an organization's id"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> KeyEntry {
        KeyEntry {
            name: "login".into(),
            sha256: "ab".repeat(32),
            scopes: vec!["read".into(), "audit".into()],
            organizations: None,
            expires_at: None,
            rate_limit: None,
        }
    }

    #[test]
    fn an_entry_is_a_key() {
        let full = KeyEntry {
            organizations: Some(vec!["org_1".into()]),
            expires_at: Some("2026-03-01T00:00:00Z".into()),
            rate_limit: Some(60),
            ..entry()
        };
        let key = full.read().unwrap();
        assert_eq!(
            (key.name(), key.fingerprint()),
            ("login".into(), "key_abababababababab".into())
        );
        assert_eq!(key.scopes, Scopes::of([Scope::Audit, Scope::Read]));
        assert_eq!(key.organizations, Some(vec!["org_1".to_owned()]));
        let expires_at = time::parse("2026-03-01T00:00:00Z").unwrap();
        assert_eq!(key.expires_at, Some(expires_at));
        assert!(!key.has_expired(expires_at - 1) && key.has_expired(expires_at));
        assert!(!entry().read().unwrap().has_expired(i64::MAX));
    }

    #[test]
    fn an_entry_is_written_as_a_table() {
        let full = KeyEntry {
            organizations: Some(vec!["org_1".into(), "o\"\\".into()]),
            expires_at: Some("2026-03-01T00:00:00.000Z".into()),
            rate_limit: Some(60),
            ..entry()
        };
        let sha256 = "ab".repeat(32);
        let head = format!(
            "[[keys]]\nname = \"login\"\nsha256 = \"{sha256}\"\nscopes = [\"read\", \"audit\"]\n"
        );
        let rest = concat!(
            "organizations = [\"org_1\", \"o\\\"\\\\\"]\n",
            "expires_at = \"2026-03-01T00:00:00.000Z\"\n",
            "rate_limit = 60\n",
        );
        assert_eq!(entry().to_toml(), head);
        assert_eq!(full.to_toml(), format!("{head}{rest}"));
    }

    #[test]
    fn a_mistake_is_named_with_its_field() {
        let long = "x".repeat(65);
        let mistakes = [
            ("name", KeyEntry { name: String::new(), ..entry() }),
            ("name", KeyEntry { name: "a b".into(), ..entry() }),
            ("name", KeyEntry { name: "_a".into(), ..entry() }),
            ("name", KeyEntry { name: "key_1".into(), ..entry() }),
            ("name", KeyEntry { name: long, ..entry() }),
            ("sha256", KeyEntry { sha256: "ab".repeat(31), ..entry() }),
            ("sha256", KeyEntry { sha256: "xy".repeat(32), ..entry() }),
            ("scopes", KeyEntry { scopes: Vec::new(), ..entry() }),
            ("scopes", KeyEntry { scopes: vec!["Read".into()], ..entry() }),
            ("name", KeyEntry { name: "sk_a".into(), ..entry() }),
            ("name", KeyEntry { name: "rollcall_a".into(), ..entry() }),
            ("organizations", KeyEntry { organizations: Some(vec!["a b".into()]), ..entry() }),
            ("organizations", KeyEntry { organizations: Some(Vec::new()), ..entry() }),
            ("organizations", KeyEntry { organizations: Some(vec!["".into()]), ..entry() }),
            ("organizations", KeyEntry { organizations: Some(vec!["a\n".into()]), ..entry() }),
            ("expires_at", KeyEntry { expires_at: Some("tomorrow".into()), ..entry() }),
            ("expires_at", KeyEntry { expires_at: Some("2026-03-01".into()), ..entry() }),
            ("expires_at", KeyEntry { expires_at: Some("2026-03-01T00:00:00".into()), ..entry() }),
            ("rate_limit", KeyEntry { rate_limit: Some(0), ..entry() }),
        ];
        for (field, entry) in mistakes {
            assert_eq!(entry.read().err().map(|fault| fault.field), Some(field), "{entry:?}");
        }
    }
}
