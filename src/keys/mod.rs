//! API keys: what each may do, whose things it may see, and until when.
//!
//! A key comes from an entry `[[keys]]` of the configuration, which holds only its SHA-256, or whole
//! from `ROLLCALL_API_KEYS`. It is found by its digest, so the time of a look-up depends on digests
//! only. An attacker who learns a digest in that way still has to find a text with that digest.

mod bucket;
mod entry;
mod expiry;
mod mint;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rollcall_projections::Millis;
use sha2::{Digest, Sha256};

pub use bucket::Allowance;
use bucket::Bucket;
pub use entry::{EntryFault, KeyEntry};
pub use expiry::Expiries;
pub use mint::{NewKey, PREFIX};

use crate::hashes::Hash;
use crate::verify::{KEY_ID_BYTES, api_key_id, key_name};

/// The length below which a key of `ROLLCALL_API_KEYS` can be guessed, in characters.
pub const CHARS_MIN: usize = 16;

/// The beginnings of secrets: of webhooks, of whole keys, and of new keys.
const SECRET_BEGINNINGS: [&str; 3] = ["whsec_", "sk_", PREFIX];

/// Returns true if a text begins as secrets do. One that is written in a wrong place is not shown.
pub fn may_be_secret(text: &str) -> bool {
    let text = text.trim_start();
    SECRET_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}

/// A part of the calls, for which a key needs the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Import.
    Ingest,
    /// The present.
    Read,
    /// The past, histories, proofs and events.
    Audit,
    /// Mapping, policy, and every other act.
    Operate,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 4] = [Scope::Ingest, Scope::Read, Scope::Audit, Scope::Operate];

    /// Returns its word in the configuration and in `/openapi.json`.
    pub const fn word(self) -> &'static str {
        match self {
            Scope::Ingest => "ingest",
            Scope::Read => "read",
            Scope::Audit => "audit",
            Scope::Operate => "operate",
        }
    }

    /// Finds a scope by its word.
    pub fn of_word(word: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.word() == word)
    }
}

/// The scopes of a key. None of them implies another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope.
    pub const ALL: Scopes = Scopes(0b1111);

    /// Makes a set.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Scopes {
        Scopes(scopes.into_iter().fold(0, |set, scope| set | 1 << scope as u8))
    }

    /// Returns true if the set has the scope.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Returns the scopes in it.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

/// An API key as the server knows it. It does not hold the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// The name of its entry; `None` for a key of `ROLLCALL_API_KEYS`, which is named by its
    /// fingerprint.
    pub name: Option<String>,
    /// The SHA-256 of the key.
    pub sha256: Hash,
    /// The fingerprint that records and the access log hold.
    pub key_id: [u8; KEY_ID_BYTES],
    /// The calls that it may make.
    pub scopes: Scopes,
    /// The organizations whose things it sees; `None` if it sees those of all.
    pub organizations: Option<Vec<String>>,
    /// The moment from which it is refused.
    pub expires_at: Option<Millis>,
    /// The requests that it may make in a minute; `None` for any number.
    pub rate_limit: Option<u32>,
}

impl ApiKey {
    /// Makes a key with all scopes of its whole text, as `ROLLCALL_API_KEYS` has it.
    pub fn unrestricted(key: &str) -> ApiKey {
        ApiKey {
            name: None,
            sha256: Sha256::digest(key).into(),
            key_id: api_key_id(key),
            scopes: Scopes::ALL,
            organizations: None,
            expires_at: None,
            rate_limit: None,
        }
    }

    /// Returns its name; of a key of `ROLLCALL_API_KEYS` its fingerprint.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.fingerprint())
    }

    /// Returns its fingerprint, which does not reveal the key.
    pub fn fingerprint(&self) -> String {
        key_name(self.key_id)
    }

    /// Returns true if it is refused at this moment because its time is over.
    pub fn has_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }
}

/// The holder of an API key. Only [`ApiKeys`] makes one.
#[derive(Clone, Debug)]
pub struct Operator(Arc<Held>);

/// A key with the requests that it may still make.
#[derive(Debug)]
struct Held {
    key: ApiKey,
    /// `None` for a key without a limit.
    bucket: Option<Arc<Bucket>>,
}

impl Held {
    fn new(key: ApiKey) -> Arc<Held> {
        let bucket = key.rate_limit.map(|limit| Arc::new(Bucket::new(limit)));
        Arc::new(Held { key, bucket })
    }
}

impl PartialEq for Operator {
    fn eq(&self, other: &Operator) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Operator {}

impl Operator {
    /// Returns the key, which says what the operator may do and see.
    pub fn key(&self) -> &ApiKey {
        &self.0.key
    }

    /// Counts one more request against the key's limit; `None` if it has none.
    pub fn count(&self, now: Instant) -> Option<Allowance> {
        self.0.bucket.as_ref().map(|bucket| bucket.take(now))
    }
}

/// The keys of a server, by their digests.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys {
    keys: BTreeMap<Hash, Arc<Held>>,
    /// True if some key has a limit on its requests.
    have_limits: bool,
}

/// Two keys that cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Duplicate {
    /// Two keys have one name.
    #[error("two keys are named `{0}`: give each its own name")]
    Name(String),
    /// Two entries hold one key.
    #[error("`{0}` and `{1}` are the same key: remove one of them")]
    Key(String, String),
}

impl ApiKeys {
    /// Makes the set of these keys. A key of `ROLLCALL_API_KEYS` may be there twice.
    ///
    /// # Errors
    /// If two keys have one name, or two entries hold one key.
    pub fn new(keys: impl IntoIterator<Item = ApiKey>) -> Result<ApiKeys, Duplicate> {
        let mut set = ApiKeys::default();
        for key in keys {
            let same_name = set.iter().find(|other| key.name.is_some() && other.name == key.name);
            if let Some(other) = same_name {
                return Err(Duplicate::Name(other.name()));
            }
            set.have_limits |= key.rate_limit.is_some();
            match set.keys.get(&key.sha256) {
                Some(other) if other.key != key => {
                    return Err(Duplicate::Key(other.key.name(), key.name()));
                }
                _ => set.keys.insert(key.sha256, Held::new(key)),
            };
        }
        Ok(set)
    }

    /// Makes the set of the given whole keys, each with all scopes.
    pub fn unrestricted<'a>(keys: impl IntoIterator<Item = &'a str>) -> ApiKeys {
        let keys = keys.into_iter().map(ApiKey::unrestricted);
        let keys = keys.map(|key| (key.sha256, Held::new(key))).collect();
        ApiKeys { keys, have_limits: false }
    }

    /// Returns the holder of `key`, also of one that has expired.
    pub fn identify(&self, key: &str) -> Option<Operator> {
        let digest: Hash = Sha256::digest(key).into();
        self.keys.get(&digest).cloned().map(Operator)
    }

    /// Takes over the counts of requests from the keys before, so that reading the configuration
    /// again does not reset them.
    pub fn continuing(mut self, before: &ApiKeys) -> ApiKeys {
        for (digest, held) in &mut self.keys {
            let same = before.keys.get(digest);
            let same = same.filter(|other| other.key.rate_limit == held.key.rate_limit);
            if let Some(other) = same {
                let (key, bucket) = (held.key.clone(), other.bucket.clone());
                *held = Arc::new(Held { key, bucket });
            }
        }
        self
    }

    /// Returns true if some key has a limit on its requests.
    pub fn have_limits(&self) -> bool {
        self.have_limits
    }

    /// Returns the present holder of an operator's key; `None` if the key is not in the set.
    pub fn present(&self, operator: &Operator) -> Option<Operator> {
        self.holder(operator.key())
    }

    /// Returns the holder of the key of an entry, for an act that the operator of the machine asks
    /// for at the start; `None` if the key is not in the set.
    pub fn holder(&self, key: &ApiKey) -> Option<Operator> {
        self.keys.get(&key.sha256).cloned().map(Operator)
    }

    /// Returns the keys, in order of their digests.
    pub fn iter(&self) -> impl Iterator<Item = &ApiKey> {
        self.keys.values().map(|held| &held.key)
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns true if there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_identified_as_a_whole_and_its_name_does_not_reveal_it() {
        let keys = ApiKeys::unrestricted(["sk_one", "sk_two"]);
        let (one, two) = (keys.identify("sk_one").unwrap(), keys.identify("sk_two").unwrap());
        assert_ne!(one, two);
        for wrong in ["", "sk_on", "sk_one ", "SK_ONE", "sk_oneX"] {
            assert_eq!(keys.identify(wrong), None, "{wrong}");
        }
        // python3: hmac.new(b"sk_one", b"rollcall: name of this API key",
        // "sha256").hexdigest()[:16]
        assert_eq!(one.key().name(), "key_d106596dd66439f8");
        let again = ApiKeys::unrestricted(["sk_one"]).identify("sk_one");
        assert_eq!(again, Some(one), "the same name at every start");
    }

    #[test]
    fn a_limit_goes_on_where_it_was_after_the_keys_are_read_again() {
        let limited = |limit| ApiKey { rate_limit: Some(limit), ..ApiKey::unrestricted("k") };
        let keys = |limit| ApiKeys::new([limited(limit)]).unwrap();
        let now = Instant::now();
        let count = |keys: &ApiKeys| keys.identify("k").unwrap().count(now).unwrap().remaining;
        let before = keys(5);
        assert_eq!([count(&before), count(&before)], [4, 3]);
        assert_eq!(count(&keys(5).continuing(&before)), 2);
        assert_eq!(count(&keys(6).continuing(&before)), 5, "another limit begins anew");
        let free = ApiKeys::unrestricted(["k"]);
        assert!(free.identify("k").unwrap().count(now).is_none());
        assert!(before.have_limits() && !free.have_limits());
    }

    #[test]
    fn no_scope_implies_another() {
        for scope in Scope::ALL {
            let only = Scopes::of([scope]);
            assert_eq!(only.iter().collect::<Vec<_>>(), [scope]);
            assert!(Scopes::ALL.has(scope));
            assert_eq!(Scope::of_word(scope.word()), Some(scope));
        }
    }

    #[test]
    fn two_keys_that_cannot_be_told_apart_are_refused() {
        let named =
            |name: &str, key| ApiKey { name: Some(name.into()), ..ApiKey::unrestricted(key) };
        let (one, two) = (named("one", "1"), named("two", "2"));
        assert_eq!(ApiKeys::new([one.clone(), two.clone()]).unwrap().len(), 2);
        assert_eq!(
            ApiKeys::new([one.clone(), named("one", "2")]).err(),
            Some(Duplicate::Name("one".into()))
        );
        assert_eq!(
            ApiKeys::new([one.clone(), named("two", "1")]).err(),
            Some(Duplicate::Key("one".into(), "two".into()))
        );
        let plain = ApiKey::unrestricted("1");
        assert_eq!(ApiKeys::new([plain.clone(), plain.clone()]).unwrap().len(), 1);
        assert!(ApiKeys::new([plain, one]).is_err());
    }
}
