//! The leaf of a record in the Merkle tree. Its bytes are fixed for ever; docs/format.md specifies
//! them.

use super::Record;
use crate::hashes::{self, Hash};
use crate::verify::Proof;

const RECEIPT_VERSION: u8 = 1;
const RECEIPT_BYTES: usize = 192;
const PROOF_WEBHOOK: u8 = 1;
const PROOF_OPERATOR: u8 = 2;
const PROOF_PULLED: u8 = 3;
const PROOF_OBSERVED: u8 = 4;
const PROOF_IMPORTED: u8 = 5;

impl Record {
    /// Encodes the receipt: everything about the record but its salt and body.
    pub fn receipt(&self) -> Vec<u8> {
        // Nearly every receipt fits, so that hashing a record allocates once.
        let mut out = Vec::with_capacity(RECEIPT_BYTES);
        out.push(RECEIPT_VERSION);
        out.extend(self.log_id);
        out.extend(self.seq.to_be_bytes());
        out.extend(self.recorded_at.to_be_bytes());
        push_text(&mut out, self.source.name());
        push_text(&mut out, self.event_id.as_deref().unwrap_or(""));
        push_text(&mut out, self.event_type.as_deref().unwrap_or(""));
        match &self.proof {
            Proof::Webhook { t, v1, key_id } => {
                out.push(PROOF_WEBHOOK);
                out.extend(t.to_be_bytes());
                out.extend(v1);
                out.extend(key_id);
            }
            Proof::Operator { key_id } => {
                out.push(PROOF_OPERATOR);
                out.extend(key_id);
            }
            Proof::Pulled { url, key_id, pulled_at } => {
                out.push(PROOF_PULLED);
                push_text(&mut out, url);
                out.extend(key_id);
                out.extend(pulled_at.to_be_bytes());
            }
            Proof::Observed { url, key_id, observed_at, run } => {
                out.push(PROOF_OBSERVED);
                push_text(&mut out, url);
                out.extend(key_id);
                out.extend(observed_at.to_be_bytes());
                push_text(&mut out, run);
            }
            Proof::Imported { key_id } => {
                out.push(PROOF_IMPORTED);
                out.extend(key_id);
            }
        }
        out
    }

    /// Returns its leaf in the sense of RFC 6962, section 2.1: see [`hashes::leaf`].
    pub fn leaf(&self) -> Hash {
        hashes::leaf(&self.receipt(), &self.salt, &self.body)
    }
}

/// Appends the length in four bytes, big-endian, then the text.
fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u32).to_be_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Source;
    use rollcall_projections::RecordStatus;

    #[test]
    fn the_leaf_is_made_of_the_bytes_that_the_format_specifies() {
        let record = Record {
            log_id: *b"0123456789abcdef",
            seq: 7,
            recorded_at: 1_700_000_000_123,
            source: Source::Workos,
            event_id: Some("event_01".into()),
            event_type: None,
            status: RecordStatus::Counts,
            proof: Proof::Webhook { t: 1_700_000_000_000, v1: [0xab; 32], key_id: *b"KEYKEYKE" },
            salt: *b"salt salt salt s",
            body: bytes::Bytes::from_static(b"{}"),
        };
        let receipt = [
            "01",
            "30313233343536373839616263646566",
            "0000000000000007",
            "0000018bcfe5687b",
            "00000006776f726b6f73",
            "000000086576656e745f3031",
            "00000000",
            "01",
            "0000018bcfe56800",
            &"ab".repeat(32),
            "4b45594b45594b45",
        ];
        assert_eq!(hex::encode(record.receipt()), receipt.concat());
        // python3: sha256(b"\0" + receipt + sha256(b"salt salt salt s{}").digest())
        assert_eq!(
            hex::encode(record.leaf()),
            "43afa27ebe670f95e7b56318f47053a47bc5b17b765b925a41fedcb93ca85a12"
        );
    }
}
