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

    /// Checks what can be checked before the body is there: the form of the header, and its time.
    ///
    /// # Errors
    /// The first mistake.
    pub fn admit(&self, header: Option<&[u8]>, now_ms: Millis) -> Result<(), Rejection> {
        self.check_time(&parsed(header)?, now_ms)
    }

    /// Tells if a header has the time of a probe. The signature of a probe is judged, and then its
    /// time, so that the refusal says whether header and body came through; it is never accepted.
    pub fn is_probe(header: Option<&[u8]>) -> bool {
        parsed(header).is_ok_and(|header| header.t == PROBE_TIME)
    }

    fn check_time(&self, header: &Header<'_>, now_ms: Millis) -> Result<(), Rejection> {
        if header.t.abs_diff(now_ms) > self.tolerance_ms {
            return Err(Rejection::OutsideTolerance);
        }
        Ok(())
    }

    /// Checks the signature in `header` over `body`. Every signature is tried with every secret, in
    /// constant time.
    pub(super) fn verify(
        &self,
        header: Option<&[u8]>,
        body: &[u8],
        now_ms: Millis,
    ) -> Result<Proof, Rejection> {
        let header = parsed(header)?;
        let mut proof = None;
        for key in &self.keys {
            let expected = key.signature(header.t_text.as_bytes(), body);
            for v1 in &header.signatures {
                if bool::from(v1.ct_eq(&expected)) {
                    proof = Some(Proof::Webhook { t: header.t, v1: *v1, key_id: key.id });
                }
            }
        }
        let proof = proof.ok_or(Rejection::Mismatch)?;
        self.check_time(&header, now_ms)?;
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

fn parsed(header: Option<&[u8]>) -> Result<Header<'_>, Rejection> {
    Header::parse(header.ok_or(Rejection::Missing)?).ok_or(Rejection::Malformed)
}

/// A parsed header.
struct Header<'a> {
    /// The time as sent: it is signed as text.
    t_text: &'a str,
    t: Millis,
    signatures: Vec<[u8; 32]>,
}

impl<'a> Header<'a> {
    /// Parses the parts in any order, ignoring white space around them and unknown labels. There
    /// must be exactly one time and at least one signature.
    fn parse(header: &'a [u8]) -> Option<Header<'a>> {
        let header = std::str::from_utf8(header).ok()?;
        let (mut time, mut signatures, mut labelled) = (None, Vec::new(), false);
        for part in header.split(',') {
            let Some((label, value)) = part.trim().split_once('=') else { continue };
            let value = value.trim();
            match label.trim() {
                "t" if time.is_some() => return None,
                "t" => time = Some(value),
                "v1" if value.is_empty() => return None,
                "v1" => {
                    labelled = true;
                    let mut signature = [0; 32];
                    if signatures.len() < SIGNATURES_MAX
                        && hex::decode_to_slice(value, &mut signature).is_ok()
                    {
                        signatures.push(signature);
                    }
                }
                _ => {}
            }
        }
        // The record keeps the time as a number, from which the signed text must follow: no sign,
        // no leading zero.
        let t_text = time.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
        let t: Millis = t_text.parse().ok().filter(|t: &Millis| t.to_string() == t_text)?;
        // A `v1` that is not a SHA-256 in hex fits no body: that is a mismatch, not a malformed
        // header.
        labelled.then_some(Header { t_text, t, signatures })
    }
}
