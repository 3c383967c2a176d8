//! The hashes of the Merkle tree (RFC 6962, section 2.1, with SHA-256), shared by the code that
//! builds the tree and the code that checks a proof, and the fingerprints of texts. The hashed
//! bytes are fixed for ever; docs/format.md specifies them.

use rollcall_projections::Fingerprint;
use sha2::{Digest, Sha256};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// Returns the leaf of a record: SHA-256(0x00 ‖ receipt ‖ SHA-256(salt ‖ body)).
///
/// The body enters by a salted digest, so that it can one day be made unreadable while the leaf
/// still proves the rest.
pub fn leaf(receipt: &[u8], salt: &[u8; 16], body: &[u8]) -> Hash {
    leaf_of_digest(receipt, &salted_digest(salt, body))
}

/// Returns the digest by which a body enters its leaf.
pub fn salted_digest(salt: &[u8; 16], body: &[u8]) -> Hash {
    Sha256::new().chain_update(salt).chain_update(body).finalize().into()
}

/// Returns the leaf of a record whose body has this salted digest: see [`leaf`].
pub fn leaf_of_digest(receipt: &[u8], body: &Hash) -> Hash {
    Sha256::new().chain_update([0]).chain_update(receipt).chain_update(body).finalize().into()
}

/// Returns the hash of a node over its two children.
pub fn parent(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Returns the hash of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Returns the fingerprint under which the views index a text: the first 16 bytes of its SHA-256.
pub fn fingerprint(text: &str) -> Fingerprint {
    let digest: Hash = Sha256::digest(text.as_bytes()).into();
    Fingerprint(digest.first_chunk().copied().unwrap_or_default())
}
