//! Webhook signatures: `WorkOS-Signature: t=<ms>, v1=<hex>`, HMAC-SHA256 over `t.body`.
//!
//! Header and tolerance are those of <https://workos.com/docs/events/data-syncing/webhooks>;
//! parsing is liberal where senders differ.

use hmac::{Hmac, KeyInit, Mac};
use rollcall_projections::Millis;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::Proof;

/// The length of the id that names a secret in a proof, in bytes.
pub const KEY_ID_BYTES: usize = 8;

/// The most secrets that may be active at once.
pub const SECRETS_MAX: usize = 16;

/// The time of the webhooks that `rollcall config check --probe` sends: it is outside of every
/// tolerance that can be set.
pub const PROBE_TIME: Millis = 0;

/// The most `v1` of a header that are tried.
const SIGNATURES_MAX: usize = 16;

/// A request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub enum Rejection {
    /// There is no header.
    Missing,
    /// The header has no integer time, or no signature.
    Malformed,
    /// No signature fits the body under any active secret.
    Mismatch,
    /// Its time is too far from our clock.
    OutsideTolerance,
}

impl Rejection {
    /// Returns a sentence for people.
    pub fn message(self) -> &'static str {
        match self {
            Rejection::Missing => "the `WorkOS-Signature` header is missing",
            Rejection::Malformed => {
                "the `WorkOS-Signature` header is not of the form `t=<milliseconds>, v1=<hex>`"
            }
            Rejection::Mismatch => "no signature in the `WorkOS-Signature` header fits this body",
            Rejection::OutsideTolerance => "the signature's time is outside the tolerance",
        }
    }
}

/// The secrets that verify webhooks. Several may be active at once, so that one can be replaced
/// without a gap.
pub struct Keyring {
    keys: Vec<KeyedSecret>,
    tolerance_ms: u64,
}

/// A secret, keyed into the MAC once: a request clones the state.
struct KeyedSecret {
    mac: Hmac<Sha256>,
    id: [u8; KEY_ID_BYTES],
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Keyring of {} secrets", self.keys.len())
    }
}

impl Keyring {
    /// Makes a keyring of whole secrets, with their prefix `whsec_`. Signatures count for
    /// `tolerance_ms` before and after our clock.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>, tolerance_ms: u64) -> Keyring {
        let keys = secrets.into_iter().take(SECRETS_MAX).map(KeyedSecret::new).collect();
        Keyring { keys, tolerance_ms }
    }

    /// Returns the fingerprint of each secret, as proofs hold it. It does not reveal the secret.
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys.iter().map(|key| hex::encode(key.id)).collect()
    }

    /// Checks the signature that a record keeps again, without regard to its time; `None` if the
    /// secret that verified it is not in the keyring.
    pub fn check_again(
        &self,
        t: Millis,
        v1: &[u8; 32],
        key_id: &[u8; KEY_ID_BYTES],
        body: &[u8],
    ) -> Option<bool> {
        let key = self.keys.iter().find(|key| key.id == *key_id)?;
        Some(v1.ct_eq(&key.signature(t.to_string().as_bytes(), body)).into())
    }

    /// Checks what can be checked before the body is there: the time of a header.
    ///
    /// # Errors
    /// [`Rejection::OutsideTolerance`].
    pub fn admit(&self, header: &SignatureHeader, now_ms: Millis) -> Result<(), Rejection> {
        if header.t.abs_diff(now_ms) > self.tolerance_ms {
            return Err(Rejection::OutsideTolerance);
        }
        Ok(())
    }

    /// Checks the signature in `header` over `body`. Every signature is tried with every secret, in
    /// constant time.
    pub(super) fn verify(
        &self,
        header: &SignatureHeader,
        body: &[u8],
        now_ms: Millis,
    ) -> Result<Proof, Rejection> {
        let (t_text, mut proof) = (header.t.to_string(), None);
        for key in &self.keys {
            let expected = key.signature(t_text.as_bytes(), body);
            for v1 in &header.signatures {
                if bool::from(v1.ct_eq(&expected)) {
                    proof = Some(Proof::Webhook { t: header.t, v1: *v1, key_id: key.id });
                }
            }
        }
        let proof = proof.ok_or(Rejection::Mismatch)?;
        self.admit(header, now_ms)?;
        Ok(proof)
    }
}

impl KeyedSecret {
    fn new(secret: &str) -> KeyedSecret {
        let mac = mac_of(secret);
        let mut naming = mac.clone();
        naming.update(b"rollcall: name of this webhook secret");
        let name: [u8; 32] = naming.finalize().into_bytes().into();
        let mut id = [0; KEY_ID_BYTES];
        id.iter_mut().zip(name).for_each(|(to, from)| *to = from);
        KeyedSecret { mac, id }
    }

    /// Computes the signature over a time, as text, and a body.
    fn signature(&self, t_text: &[u8], body: &[u8]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(t_text);
        mac.update(b".");
        mac.update(body);
        mac.finalize().into_bytes().into()
    }
}

/// Keys a MAC with a secret of any length.
#[allow(
    clippy::expect_used,
    reason = "the only error of this constructor is a key length, and HMAC has none"
)]
pub(super) fn mac_of(secret: &str) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.as_bytes()).expect("hmac takes keys of any length")
}

/// The header of a signature, read but not checked.
pub struct SignatureHeader {
    t: Millis,
    signatures: Vec<[u8; 32]>,
}

impl SignatureHeader {
    /// Reads the values of the header. Those of several headers count as one.
    ///
    /// # Errors
    /// [`Rejection::Missing`] if there is none, and [`Rejection::Malformed`].
    pub fn read<'a>(
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<SignatureHeader, Rejection> {
        let mut values = values.into_iter().peekable();
        values.peek().ok_or(Rejection::Missing)?;
        SignatureHeader::parse(values).ok_or(Rejection::Malformed)
    }

    /// Tells if it has the time of a probe. The signature of a probe is judged, and then its time, so
    /// that the refusal says whether header and body came through; it is never accepted.
    pub fn is_probe(&self) -> bool {
        self.t == PROBE_TIME
    }

    /// Parses the parts in any order, ignoring white space around them and unknown labels. There
    /// must be exactly one time and at least one signature.
    fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<SignatureHeader> {
        let (mut time, mut signatures, mut labelled) = (None, Vec::new(), false);
        for value in values {
            for part in std::str::from_utf8(value).ok()?.split(',') {
                let Some((label, value)) = part.trim().split_once('=') else { continue };
                let value = value.trim();
                match label.trim() {
                    "t" if time.is_some() => return None,
                    "t" => time = Some(value),
                    "v1" if value.is_empty() => return None,
                    "v1" => {
                        labelled = true;
                        signatures
                            .extend(digest(value).filter(|_| signatures.len() < SIGNATURES_MAX));
                    }
                    _ => {}
                }
            }
        }
        // A `v1` that is not a SHA-256 in hex fits no body: that is a mismatch, not a malformed
        // header.
        labelled.then_some(SignatureHeader { t: signed_time(time?)?, signatures })
    }
}

/// Reads a SHA-256 in hex.
fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(hex, &mut digest).ok()?;
    Some(digest)
}

/// Reads a time. The record keeps it as a number, from which the signed text must follow: no sign, no
/// leading zero.
fn signed_time(text: &str) -> Option<Millis> {
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    let is_written_so = !has_leading_zero && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_written_so)
}
