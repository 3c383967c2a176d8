//! The checks of Merkle proofs over RFC 6962's tree, by the algorithms of RFC 9162, sections
//! 2.1.3.2 and 2.1.4.2. They need no log.

use rollcall_projections::Seq;

use crate::hashes::{Hash, empty_root, parent};

/// The longest proof: the path in a tree of 2^64 leaves, and one hash more for consistency.
const HASHES_MAX: usize = 65;

/// Returns whether `leaf` is that of record `seq` in the tree of `size` records with hash `root`.
pub fn includes(root: &Hash, size: Seq, seq: Seq, leaf: &Hash, hashes: &[Hash]) -> bool {
    if seq == 0 || seq > size || hashes.len() > HASHES_MAX {
        return false;
    }
    let (mut at, mut last, mut hash) = (seq - 1, size - 1, *leaf);
    for other in hashes {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = parent(other, &hash);
            skip_left(&mut at, &mut last);
        } else {
            hash = parent(&hash, other);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Returns whether the tree of `to` records with the hash `to_root` begins with the `from` records
/// of the tree with the hash `from_root`.
pub fn is_consistent(
    from: Seq,
    from_root: &Hash,
    to: Seq,
    to_root: &Hash,
    hashes: &[Hash],
) -> bool {
    if from > to || hashes.len() > HASHES_MAX {
        return false;
    }
    if from == 0 {
        return hashes.is_empty() && *from_root == empty_root();
    }
    if from == to {
        return hashes.is_empty() && from_root == to_root;
    }
    // If the older tree is a complete subtree of the newer, its hash is left out of the proof.
    let split =
        if from.is_power_of_two() { Some((from_root, hashes)) } else { hashes.split_first() };
    let Some((first, rest)) = split else { return false };
    let (mut at, mut last) = (from - 1, to - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut old, mut new) = (*first, *first);
    for other in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            (old, new) = (parent(other, &old), parent(other, &new));
            skip_left(&mut at, &mut last);
        } else {
            new = parent(&new, other);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old == *from_root && new == *to_root
}

/// Skips the levels at which there is nothing to the right.
fn skip_left(at: &mut Seq, last: &mut Seq) {
    while *at & 1 == 0 && *at != 0 {
        (*at, *last) = (*at >> 1, *last >> 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    /// Computes the tree hash of RFC 6962, section 2.1, recursively.
    fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                parent(&root(left), &root(right))
            }
        }
    }

    fn path(at: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let half = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(half);
        let (mut hashes, other) = if at < half {
            (path(at, left), root(right))
        } else {
            (path(at - half, right), root(left))
        };
        hashes.push(other);
        hashes
    }

    fn proof(from: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if from == leaves.len() {
            return if whole { Vec::new() } else { vec![root(leaves)] };
        }
        let half = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(half);
        let (mut hashes, other) = if from <= half {
            (proof(from, left, whole), root(right))
        } else {
            (proof(from - half, right, false), root(left))
        };
        hashes.push(other);
        hashes
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|at| Sha256::digest([0, at as u8]).into()).collect()
    }

    #[test]
    fn every_leaf_is_proven_and_no_other_place_or_hash_is() {
        for count in 1..=33 {
            let leaves = leaves(count);
            let top = root(&leaves);
            for at in 0..count {
                let (size, seq, hashes) = (count as Seq, at as Seq + 1, path(at, &leaves));
                assert!(includes(&top, size, seq, &leaves[at], &hashes));
                assert!(!includes(&top, size, seq, &[9; 32], &hashes));
                assert!(!includes(&[9; 32], size, seq, &leaves[at], &hashes));
                for other in (0..=count as Seq + 1).filter(|other| *other != seq) {
                    assert!(
                        !includes(&top, size, other, &leaves[at], &hashes),
                        "{count}: {seq} as {other}"
                    );
                }
                assert!(!includes(
                    &top,
                    size,
                    seq,
                    &leaves[at],
                    &[&hashes[..], &[[9; 32]]].concat()
                ));
                for changed in 0..hashes.len() {
                    let mut wrong = hashes.clone();
                    wrong[changed][31] ^= 1;
                    assert!(!includes(&top, size, seq, &leaves[at], &wrong));
                    wrong.remove(changed);
                    assert!(!includes(&top, size, seq, &leaves[at], &wrong));
                }
            }
        }
    }

    #[test]
    fn a_tree_is_consistent_with_its_own_past_and_with_no_other() {
        for count in 1..=33 {
            let leaves = leaves(count);
            let top = root(&leaves);
            for from in 1..=count {
                let (old, hashes) = (root(&leaves[..from]), proof(from, &leaves, true));
                let check = |old: &Hash, top: &Hash, hashes: &[Hash]| {
                    is_consistent(from as Seq, old, count as Seq, top, hashes)
                };
                assert!(check(&old, &top, &hashes), "{from} to {count}");
                assert!(!check(&[9; 32], &top, &hashes) && !check(&old, &[9; 32], &hashes));
                assert!(!check(&old, &top, &[&hashes[..], &[[9; 32]]].concat()));
                for changed in 0..hashes.len() {
                    let mut wrong = hashes.clone();
                    wrong[changed][0] ^= 1;
                    assert!(!check(&old, &top, &wrong), "{from} to {count}");
                    wrong.remove(changed);
                    assert!(!check(&old, &top, &wrong), "{from} to {count}");
                }
                assert!(
                    from == count || !is_consistent(count as Seq, &top, from as Seq, &old, &hashes)
                );
            }
            assert!(is_consistent(0, &empty_root(), count as Seq, &top, &[]));
            assert!(!is_consistent(0, &[9; 32], count as Seq, &top, &[]));
        }
    }

    #[test]
    fn absurd_sizes_end() {
        let hashes = vec![[1; 32]; 64];
        assert!(!includes(&[1; 32], u64::MAX, u64::MAX, &[1; 32], &hashes));
        assert!(!is_consistent(1 << 63, &[1; 32], u64::MAX, &[1; 32], &hashes));
        assert!(!is_consistent(u64::MAX - 1, &[1; 32], u64::MAX, &[1; 32], &hashes));
        assert!(!includes(&[1; 32], 2, 1, &[1; 32], &vec![[1; 32]; 1000]));
    }
}
