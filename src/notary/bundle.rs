//! Bundles: one record with its proof in one file of JSON. A bundle is made from the log, and
//! checked with nothing but the file and a public key. docs/proofs.md specifies its form.

use base64::prelude::*;
use rollcall_projections::{Millis, Seq};
use serde::{Deserialize, Serialize};

use super::note::{Checkpoint, Note, NoteError, Verifier};
use super::{origin, tree};
use crate::hashes::leaf;
use crate::verify::{KEY_ID_BYTES, Proof};

/// The version of the bundle's form.
const FORMAT: u32 = 1;

/// The longest bundle that is read, in bytes. A body of 12,000,000 bytes and many
/// checkpoints are less.
const BUNDLE_BYTES_MAX: usize = 16 << 20;

/// A record and its proof. Bytes are base64.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    format: u32,
    /// A signed note: the checkpoint whose tree has the record.
    checkpoint: String,
    seq: Seq,
    receipt: String,
    salt: String,
    body: String,
    /// The audit path from the record's leaf to the checkpoint's root.
    inclusion: Vec<String>,
    /// Checkpoints published before, each with the proof that this one continues it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    older: Vec<OlderCheckpoint>,
}

/// An older checkpoint, with its consistency proof to the bundle's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OlderCheckpoint {
    /// A signed note.
    pub checkpoint: String,
    /// The hashes of the proof, in base64.
    pub consistency: Vec<String>,
}

/// Why a bundle is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It is not a bundle.
    #[error("it is not a Rollcall proof: {0}")]
    Malformed(String),
    /// Its form is of another version.
    #[error("its form has version {0}, and this program knows version {FORMAT}")]
    Format(u32),
    /// A field has another form than it should.
    #[error("its `{0}` is not base64 of what belongs there")]
    Field(&'static str),
    /// Its checkpoint is refused.
    #[error("its checkpoint is not believed: {0}")]
    Checkpoint(NoteError),
    /// One of its older checkpoints is refused.
    #[error("its older checkpoint of {size} records is not believed: {error}")]
    OlderCheckpoint {
        /// The size that it claims.
        size: Seq,
        /// Why it is refused.
        error: NoteError,
    },
    /// A checkpoint that the auditor holds is refused.
    #[error("the checkpoint of {size} records that you hold is not believed: {error}")]
    Held {
        /// The size that it claims.
        size: Seq,
        /// Why it is refused.
        error: NoteError,
    },
    /// The receipt cannot be read.
    #[error("its receipt cannot be read: {0}")]
    Receipt(ReceiptError),
    /// Receipt and bundle differ.
    #[error("its receipt is of record {receipt}, and it says {bundle}")]
    Seq {
        /// The seq in the receipt.
        receipt: Seq,
        /// The seq in the bundle.
        bundle: Seq,
    },
    /// The receipt, or another checkpoint, is of another log.
    #[error("it is of the log `{one}`, and its checkpoint is of `{other}`")]
    OtherLog {
        /// The log of the receipt or other checkpoint.
        one: String,
        /// The log of the bundle's checkpoint.
        other: String,
    },
    /// The leaf is not in the tree.
    #[error("the record is not in the tree of its checkpoint: something in it was changed")]
    NotIncluded,
    /// Two checkpoints are of different histories.
    #[error(
        "its checkpoint of {to} records does not continue the one of {from}: either the proof was \
        changed, or the log's past was"
    )]
    Inconsistent {
        /// The smaller size.
        from: Seq,
        /// The larger size.
        to: Seq,
    },
    /// Two checkpoints of one size differ.
    #[error(
        "there are two different checkpoints of {0} records, both signed: the log has shown two \
        histories, so keep both as evidence"
    )]
    Forked(Seq),
    /// A checkpoint that the auditor holds is not tied to the bundle's.
    #[error(
        "nothing in it ties it to the checkpoint of {0} records that you hold: have it made again \
        by `rollcall prove` with --checkpoint"
    )]
    Untied(Seq),
}

/// The facts that a bundle proves.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The checkpoint whose tree has the record.
    pub checkpoint: Checkpoint,
    /// Everything about the record but its salt and body.
    pub receipt: Receipt,
    /// Its leaf.
    pub leaf: [u8; 32],
    /// The body, in the bytes that were received.
    pub body: Vec<u8>,
    /// The sizes of the auditor's checkpoints, which are of the same history.
    pub held: Vec<Seq>,
}

impl Bundle {
    /// Makes a bundle from the answers of a log. `receipt`, `salt` and `body` are base64.
    pub fn new(
        checkpoint: String,
        seq: Seq,
        [receipt, salt, body]: [String; 3],
        inclusion: Vec<String>,
        older: Vec<OlderCheckpoint>,
    ) -> Bundle {
        Bundle { format: FORMAT, checkpoint, seq, receipt, salt, body, inclusion, older }
    }

    /// Reads a bundle.
    ///
    /// # Errors
    /// If it is not a bundle, is too long, or is of another version.
    pub fn parse(bytes: &[u8]) -> Result<Bundle, BundleError> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::Malformed("it is too long".into()));
        }
        let bundle: Bundle = serde_json::from_slice(bytes)
            .map_err(|error| BundleError::Malformed(error.to_string()))?;
        if bundle.format == FORMAT { Ok(bundle) } else { Err(BundleError::Format(bundle.format)) }
    }

    /// Checks everything in the bundle, trusting only `keys`, and that its checkpoint continues
    /// each checkpoint in `held`, which the auditor holds.
    ///
    /// # Errors
    /// The first fault.
    pub fn prove(&self, keys: &[Verifier], held: &[Note]) -> Result<Proven, BundleError> {
        let note = Note::parse(self.checkpoint.as_bytes()).map_err(BundleError::Checkpoint)?;
        let checkpoint = note.open(keys).map_err(BundleError::Checkpoint)?.clone();
        let (receipt_bytes, body) = (bytes(&self.receipt, "receipt")?, bytes(&self.body, "body")?);
        let salt: [u8; 16] =
            bytes(&self.salt, "salt")?.try_into().map_err(|_| BundleError::Field("salt"))?;
        let receipt = Receipt::parse(&receipt_bytes).map_err(BundleError::Receipt)?;
        if receipt.seq != self.seq {
            return Err(BundleError::Seq { receipt: receipt.seq, bundle: self.seq });
        }
        same_log(&origin(receipt.log_id), &checkpoint)?;
        let leaf = leaf(&receipt_bytes, &salt, &body);
        let path = hashes(&self.inclusion, "inclusion")?;
        if !tree::includes(&checkpoint.root, checkpoint.size, receipt.seq, &leaf, &path) {
            return Err(BundleError::NotIncluded);
        }
        let held = self.prove_held(keys, held, &checkpoint)?;
        Ok(Proven { checkpoint, receipt, leaf, body, held })
    }

    /// Checks that `checkpoint`, the bundle's own, continues the older ones in the bundle, and that
    /// each held checkpoint is among all of these. Returns the sizes of the held ones.
    fn prove_held(
        &self,
        keys: &[Verifier],
        held: &[Note],
        checkpoint: &Checkpoint,
    ) -> Result<Vec<Seq>, BundleError> {
        let mut tied = vec![checkpoint.clone()];
        for older in &self.older {
            tied.push(older.open(keys, checkpoint)?);
        }
        // Two roots of one size are the gravest finding, and no proof leads from one to the other:
        // this is reported first.
        for held in held {
            fork(held, keys, &tied)?;
        }
        for (older, opened) in self.older.iter().zip(tied.iter().skip(1)) {
            older.prove(opened, checkpoint)?;
        }
        held.iter().map(|note| tie(note, keys, &tied)).collect()
    }
}

impl OlderCheckpoint {
    /// Returns its checkpoint, if a key has signed it and it is of the same log.
    fn open(&self, keys: &[Verifier], checkpoint: &Checkpoint) -> Result<Checkpoint, BundleError> {
        let note = Note::parse(self.checkpoint.as_bytes())
            .map_err(|error| BundleError::OlderCheckpoint { size: 0, error })?;
        let older = note
            .open(keys)
            .map_err(|error| BundleError::OlderCheckpoint { size: note.claims().size, error })?;
        same_log(&older.origin, checkpoint)?;
        Ok(older.clone())
    }

    /// Checks that the bundle's checkpoint continues it.
    fn prove(&self, older: &Checkpoint, checkpoint: &Checkpoint) -> Result<(), BundleError> {
        let hashes = hashes(&self.consistency, "consistency")?;
        if tree::is_consistent(older.size, &older.root, checkpoint.size, &checkpoint.root, &hashes)
        {
            return Ok(());
        }
        Err(BundleError::Inconsistent { from: older.size, to: checkpoint.size })
    }
}

/// Refuses a held checkpoint if another of the same log and size has another root.
fn fork(held: &Note, keys: &[Verifier], others: &[Checkpoint]) -> Result<(), BundleError> {
    let held =
        held.open(keys).map_err(|error| BundleError::Held { size: held.claims().size, error })?;
    let forked = |other: &Checkpoint| {
        other.origin == held.origin && other.size == held.size && other.root != held.root
    };
    if others.iter().any(forked) { Err(BundleError::Forked(held.size)) } else { Ok(()) }
}

/// Finds a held checkpoint among those that are proven to be of one history. Returns its size.
fn tie(held: &Note, keys: &[Verifier], tied: &[Checkpoint]) -> Result<Seq, BundleError> {
    let held =
        held.open(keys).map_err(|error| BundleError::Held { size: held.claims().size, error })?;
    for checkpoint in tied {
        same_log(&held.origin, checkpoint)?;
        if checkpoint.size == held.size && checkpoint.root == held.root {
            return Ok(held.size);
        }
    }
    Err(BundleError::Untied(held.size))
}

fn same_log(origin: &str, checkpoint: &Checkpoint) -> Result<(), BundleError> {
    if origin == checkpoint.origin {
        return Ok(());
    }
    Err(BundleError::OtherLog { one: origin.to_owned(), other: checkpoint.origin.clone() })
}

fn bytes(text: &str, field: &'static str) -> Result<Vec<u8>, BundleError> {
    BASE64_STANDARD.decode(text).map_err(|_| BundleError::Field(field))
}

fn hashes(texts: &[String], field: &'static str) -> Result<Vec<[u8; 32]>, BundleError> {
    texts
        .iter()
        .map(|text| bytes(text, field)?.try_into().map_err(|_| BundleError::Field(field)))
        .collect()
}

/// The contents of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The id of the log.
    pub log_id: [u8; 16],
    /// The record's seq.
    pub seq: Seq,
    /// When the log took it, by its own clock.
    pub recorded_at: Millis,
    /// Where it came from.
    pub source: String,
    /// The source's id; empty if it has no usable one.
    pub event_id: String,
    /// The event's type; empty if it has none.
    pub event_type: String,
    /// The proof of its sender.
    pub proof: Proof,
}

/// Why bytes are not a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It is of an unknown version.
    #[error("its version is {0}, and this program knows version 1")]
    Version(u8),
    /// Its proof is of an unknown kind.
    #[error("it has a proof of kind {0}, which this program does not know")]
    Proof(u8),
    /// It is too short, too long, or has bytes that are not text where text belongs.
    #[error("it is cut off or has more than belongs there")]
    Malformed,
}

impl Receipt {
    /// Reads the bytes that docs/format.md specifies, all of them.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn parse(bytes: &[u8]) -> Result<Receipt, ReceiptError> {
        let mut rest = bytes;
        match take::<1>(&mut rest)? {
            [1] => {}
            [version] => return Err(ReceiptError::Version(version)),
        }
        let (log_id, seq) = (take(&mut rest)?, Seq::from_be_bytes(take(&mut rest)?));
        let recorded_at = Millis::from_be_bytes(take(&mut rest)?);
        let (source, event_id, event_type) =
            (take_text(&mut rest)?, take_text(&mut rest)?, take_text(&mut rest)?);
        let proof = match take::<1>(&mut rest)? {
            [1] => Proof::Webhook {
                t: Millis::from_be_bytes(take(&mut rest)?),
                v1: take(&mut rest)?,
                key_id: take(&mut rest)?,
            },
            [2] => Proof::Operator { key_id: take::<KEY_ID_BYTES>(&mut rest)? },
            [3] => Proof::Pulled {
                url: take_text(&mut rest)?.into(),
                key_id: take(&mut rest)?,
                pulled_at: Millis::from_be_bytes(take(&mut rest)?),
            },
            [4] => Proof::Observed {
                url: take_text(&mut rest)?.into(),
                key_id: take(&mut rest)?,
                observed_at: Millis::from_be_bytes(take(&mut rest)?),
                run: take_text(&mut rest)?.into(),
            },
            [5] => Proof::Imported { key_id: take(&mut rest)? },
            [6] => Proof::Scim { key_id: take(&mut rest)? },
            [kind] => return Err(ReceiptError::Proof(kind)),
        };
        if !rest.is_empty() {
            return Err(ReceiptError::Malformed);
        }
        Ok(Receipt { log_id, seq, recorded_at, source, event_id, event_type, proof })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ReceiptError> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(ReceiptError::Malformed)?;
    *rest = left;
    Ok(*taken)
}

fn take_text(rest: &mut &[u8]) -> Result<String, ReceiptError> {
    let length = u32::from_be_bytes(take(rest)?);
    let (text, left) = usize::try_from(length)
        .ok()
        .and_then(|length| rest.split_at_checked(length))
        .ok_or(ReceiptError::Malformed)?;
    *rest = left;
    String::from_utf8(text.to_owned()).map_err(|_| ReceiptError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of docs/format.md.
    const RECEIPT: &str = "\
        013031323334353637383961626364656600000000000000070000018bcfe5687b00000006776f726b6f730000\
        00086576656e745f303100000000010000018bcfe56800abababababababababababababababababababababab\
        abababababababababab4b45594b45594b45";

    #[test]
    fn a_receipt_is_read_as_the_format_specifies() {
        let bytes = hex::decode(RECEIPT).unwrap();
        let expected = Receipt {
            log_id: *b"0123456789abcdef",
            seq: 7,
            recorded_at: 1_700_000_000_123,
            source: "workos".into(),
            event_id: "event_01".into(),
            event_type: String::new(),
            proof: Proof::Webhook { t: 1_700_000_000_000, v1: [0xab; 32], key_id: *b"KEYKEYKE" },
        };
        assert_eq!(Receipt::parse(&bytes), Ok(expected));
        let leaf = leaf(&bytes, b"salt salt salt s", b"{}");
        assert_eq!(
            hex::encode(leaf),
            "43afa27ebe670f95e7b56318f47053a47bc5b17b765b925a41fedcb93ca85a12"
        );
        for length in 0..bytes.len() {
            assert!(Receipt::parse(&bytes[..length]).is_err(), "{length}");
        }
        assert_eq!(Receipt::parse(&[&bytes[..], &[0]].concat()), Err(ReceiptError::Malformed));
        assert_eq!(Receipt::parse(&[2]), Err(ReceiptError::Version(2)));
        let mut other = bytes.clone();
        let kind = bytes.len() - 49;
        other[kind] = 7;
        assert_eq!(Receipt::parse(&other), Err(ReceiptError::Proof(7)));
    }
}
