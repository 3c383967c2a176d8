//! What the hashes of the Merkle tree are made of (RFC 6962, section 2.1, with SHA-256): bytes that
//! are fixed for ever, for those who build the tree and those who check a proof alike.
//! docs/format.md says them.

use rollcall_projections::Fingerprint;
use sha2::{Digest, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// SHA-256(0x00 ‖ receipt ‖ SHA-256(salt ‖ body)).
///
/// The body stands behind a salted digest, so that one day it can be made unreadable and the leaf
/// still proves the rest.
pub fn leaf(receipt: &[u8], salt: &[u8; 16], body: &[u8]) -> Hash {
    let body = Sha256::new().chain_update(salt).chain_update(body).finalize();
    Sha256::new().chain_update([0]).chain_update(receipt).chain_update(body).finalize().into()
}

/// The hash over two subtrees that stand side by side.
pub fn parent(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The hash of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Returns the fingerprint under which the views index a text: the first 16 bytes of its SHA-256.
pub fn fingerprint(text: &str) -> Fingerprint {
    let digest: Hash = Sha256::digest(text.as_bytes()).into();
    Fingerprint(digest.first_chunk().copied().unwrap_or_default())
}
