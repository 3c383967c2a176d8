//! Webhook signatures, as a sender makes them: HMAC-SHA256 over `t.body`.

use hmac::{Hmac, KeyInit, Mac};
use rollcall_projections::Millis;
use sha2::Sha256;

/// Returns the value of the `WorkOS-Signature` header for `body`, signed at `t`.
pub fn sign(secret: &str, t: Millis, body: &[u8]) -> String {
    let mut mac = keyed(secret);
    mac.update(t.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("t={t}, v1={}", hex::encode(mac.finalize().into_bytes()))
}

#[allow(
    clippy::expect_used,
    reason = "the only error of this constructor is a key length, and HMAC has none"
)]
fn keyed(secret: &str) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.as_bytes()).expect("hmac takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_hmac_of_the_time_and_the_body() {
        // printf '%s' '1767600000000.{}' | openssl dgst -sha256 -hmac secret
        let expected = "2bcb16e0d2e1510c76f49db06acc0edfda472401623a2a78f63bda75eefb15f5";
        assert_eq!(
            sign("secret", 1_767_600_000_000, b"{}"),
            format!("t=1767600000000, v1={expected}")
        );
    }
}
