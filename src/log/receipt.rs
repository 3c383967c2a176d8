//! The leaf of a record in the Merkle tree. Its bytes are fixed for ever; docs/format.md specifies
//! them.

use rollcall_projections::{Millis, Seq};
use sha2::{Digest, Sha256};

use super::{LogId, Record};
use crate::hashes::{self, Hash};
use crate::verify::{Proof, Source};

const RECEIPT_VERSION: u8 = 1;
const RECEIPT_BYTES: usize = 192;
/// Distinguishes the leaf of a lost record from every other: no receipt begins like this.
const LOST: &[u8] = b"rollcall lost record";
const PROOF_WEBHOOK: u8 = 1;
const PROOF_OPERATOR: u8 = 2;
const PROOF_PULLED: u8 = 3;
const PROOF_OBSERVED: u8 = 4;
const PROOF_IMPORTED: u8 = 5;
const PROOF_SCIM: u8 = 6;

/// Returns the leaf of a lost record in a log that was made without knowing the leaf which the record
/// had in the log before.
pub(super) fn lost_leaf(log_id: LogId, seq: Seq) -> Hash {
    let digest = Sha256::new().chain_update([0]).chain_update(LOST);
    digest.chain_update(log_id).chain_update(seq.to_be_bytes()).finalize().into()
}

/// Everything about a record but its salt and body.
pub(super) struct Receipt<'a> {
    pub(super) log_id: LogId,
    pub(super) seq: Seq,
    pub(super) recorded_at: Millis,
    pub(super) source: Source,
    pub(super) event_id: Option<&'a str>,
    pub(super) event_type: Option<&'a str>,
    pub(super) proof: &'a Proof,
}

impl Receipt<'_> {
    /// Encodes it.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Nearly every receipt fits, so that hashing a record allocates once.
        let mut out = Vec::with_capacity(RECEIPT_BYTES);
        out.push(RECEIPT_VERSION);
        out.extend(self.log_id);
        out.extend(self.seq.to_be_bytes());
        out.extend(self.recorded_at.to_be_bytes());
        push_text(&mut out, self.source.name());
        push_text(&mut out, self.event_id.unwrap_or(""));
        push_text(&mut out, self.event_type.unwrap_or(""));
        match self.proof {
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
            Proof::Scim { key_id } => {
                out.push(PROOF_SCIM);
                out.extend(key_id);
            }
        }
        out
    }
}

impl Record {
    /// Encodes the receipt: everything about the record but its salt and body.
    pub fn receipt(&self) -> Vec<u8> {
        let receipt = Receipt {
            log_id: self.log_id,
            seq: self.seq,
            recorded_at: self.recorded_at,
            source: self.source,
            event_id: self.event_id.as_deref(),
            event_type: self.event_type.as_deref(),
            proof: &self.proof,
        };
        receipt.encode()
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
            unusable_at_first: None,
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
    #[test]
    fn the_receipts_of_records_without_a_signature_name_how_they_came() {
        let (url, key_id) = ("https://source.example", *b"KEYKEYKE");
        let run = "run_0190f1e2-0000-7000-8000-000000000001";
        let at = 1_700_000_000_000;
        let pulled = Proof::Pulled { url: url.into(), key_id, pulled_at: at };
        let observed =
            Proof::Observed { url: url.into(), key_id, observed_at: at, run: run.into() };
        let (key, moment) = ("4b45594b45594b45", "0000018bcfe56800");
        let address = "0000001668747470733a2f2f736f757263652e6578616d706c65";
        let named = format!("00000028{}", hex::encode(run));
        let (workos, own) = ("00000006776f726b6f73", "00000008726f6c6c63616c6c");
        let provider = "000000047363696d";
        // python3: as in the test above.
        for (source, proof, ends, leaf) in [
            (
                Source::Workos,
                pulled,
                [workos, "03", address, key, moment, ""],
                "e1e70e9a7fe7c458e5782544202777c60fdd8ccfd9645d6743af0c0a668108f8",
            ),
            (
                Source::Rollcall,
                observed,
                [own, "04", address, key, moment, &named],
                "7a7fc379eea4ca63e9ef6320e4a2de99453ccf2b2ab03078068d15caf6ac122d",
            ),
            (
                Source::Workos,
                Proof::Imported { key_id },
                [workos, "05", key, "", "", ""],
                "b5eb4c9a8c703a64e0c91ebf045ed08f90629481f566446e6d94cd69b0430077",
            ),
            (
                Source::Scim,
                Proof::Scim { key_id },
                [provider, "06", key, "", "", ""],
                "98ca7f09cb23308dcd7ccb7ce6bd83515a707925070815357d0decd492a5b8c4",
            ),
        ] {
            let record = Record {
                log_id: *b"0123456789abcdef",
                seq: 7,
                recorded_at: 1_700_000_000_123,
                source,
                event_id: Some("event_01".into()),
                event_type: None,
                status: RecordStatus::Counts,
                proof: proof.clone(),
                salt: *b"salt salt salt s",
                unusable_at_first: None,
                body: bytes::Bytes::from_static(b"{}"),
            };
            let begin = "013031323334353637383961626364656600000000000000070000018bcfe5687b";
            let ids = "000000086576656e745f303100000000";
            let [source, proof_bytes @ ..] = ends;
            let expected = [begin, source, ids].concat() + &proof_bytes.concat();
            assert_eq!(hex::encode(record.receipt()), expected);
            assert_eq!(hex::encode(record.leaf()), leaf);
            // An auditor reads it back.
            let read = crate::notary::Receipt::parse(&record.receipt()).unwrap();
            assert_eq!((read.proof, read.source.as_str()), (proof, record.source.name()));
            let whole = record.receipt();
            for length in 0..whole.len() {
                assert!(crate::notary::Receipt::parse(&whole[..length]).is_err(), "{length}");
            }
        }
    }
}
