//! New keys: 32 random bytes, in a form that scanners for leaked secrets can recognise.

use sha2::{Digest, Sha256};

use crate::hashes::Hash;

/// The beginning of each new key.
pub const PREFIX: &str = "rollcall_";

/// The length of the checksum, in bytes.
const CHECK_BYTES: usize = 4;

/// A key that was just made. It is kept nowhere.
pub struct NewKey {
    /// The key itself: [`PREFIX`], 64 hex digits, and 8 more of their checksum.
    pub text: String,
    /// Its SHA-256, by which the configuration knows it.
    pub sha256: Hash,
}

impl NewKey {
    /// Makes a key.
    ///
    /// # Errors
    /// If the operating system has no random bytes.
    pub fn make() -> Result<NewKey, getrandom::Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        Ok(NewKey::of(random))
    }

    fn of(random: [u8; 32]) -> NewKey {
        let mut text = format!("{PREFIX}{}", hex::encode(random));
        // Without it a scanner would take other texts of this form for keys.
        let check: Vec<u8> = Sha256::digest(&text).iter().take(CHECK_BYTES).copied().collect();
        text.push_str(&hex::encode(check));
        let sha256 = Sha256::digest(&text).into();
        NewKey { text, sha256 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_prefix_and_a_checksum() {
        // python3: t = "rollcall_" + "07" * 32
        // t + hashlib.sha256(t.encode()).hexdigest()[:8]
        let key = NewKey::of([7; 32]);
        assert_eq!(key.text, format!("rollcall_{}776de87e", "07".repeat(32)));
        let (one, two) = (NewKey::make().unwrap(), NewKey::make().unwrap());
        assert_ne!(one.text, two.text);
        assert_eq!(one.text.len(), PREFIX.len() + 64 + 8);
    }
}
