//! The tree over the leaves: RFC 6962, section 2.1. Arithmetic only; the hashes are stored
//! elsewhere (docs/decisions/0011).
//!
//! A **node** is the root of a complete subtree: node `index` of level `level` covers the `2^level`
//! leaves from `index * 2^level` on, counted from 0. Nodes never change once their leaves are
//! there, so only nodes are stored and asked for.

use rollcall_projections::Seq;

use super::ReadError;
pub(super) use crate::hashes::{Hash, empty_root, parent};

/// The number of levels of the largest log: see `check_batch`.
const LEVELS_MAX: u32 = 32;

/// A source of node hashes.
pub(super) trait Nodes {
    /// Returns the hash of a node whose leaves are all there.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    fn node(&self, level: u32, index: u64) -> Result<Hash, ReadError>;
}

/// Returns the tree hash over the first `size` leaves.
pub(super) fn root(nodes: &impl Nodes, size: Seq) -> Result<Hash, ReadError> {
    if size == 0 { Ok(empty_root()) } else { subtree(nodes, 0, size) }
}

/// Returns the audit path of leaf `index`, counted from 0, in the tree of `size`: siblings from the
/// leaf upward (section 2.1.1). `index` must be below `size`.
pub(super) fn inclusion(nodes: &impl Nodes, index: u64, size: Seq) -> Result<Vec<Hash>, ReadError> {
    let (mut low, mut high) = (0, size);
    let mut path = Vec::new();
    while high - low > 1 {
        let middle = middle(low, high);
        // The siblings are collected on the way down.
        if index < middle {
            path.push(subtree(nodes, middle, high)?);
            high = middle;
        } else {
            path.push(subtree(nodes, low, middle)?);
            low = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Returns the proof that the tree of `to` begins with the tree of `from` (section 2.1.2); empty
/// where there is nothing to prove. `from` must be at most `to`.
pub(super) fn consistency(nodes: &impl Nodes, from: Seq, to: Seq) -> Result<Vec<Hash>, ReadError> {
    if from == 0 || from == to {
        return Ok(Vec::new());
    }
    let (mut low, mut high) = (0, to);
    let mut path = Vec::new();
    while from != high {
        let middle = middle(low, high);
        if from <= middle {
            path.push(subtree(nodes, middle, high)?);
            high = middle;
        } else {
            path.push(subtree(nodes, low, middle)?);
            low = middle;
        }
    }
    // Where the old tree is one node of the new, the checker has its hash already.
    if low > 0 {
        path.push(subtree(nodes, low, high)?);
    }
    path.reverse();
    Ok(path)
}

/// Returns the leaf at which a tree of more than one leaf is split: the left subtree has the
/// largest power of two below its size.
fn middle(low: u64, high: u64) -> u64 {
    let last = high - low - 1;
    low + (1 << last.max(1).ilog2())
}

/// Returns the tree hash over the leaves from `low`, where a subtree of that size may begin, to
/// before `high`.
fn subtree(nodes: &impl Nodes, low: u64, high: u64) -> Result<Hash, ReadError> {
    let size = high - low;
    if size.is_power_of_two() {
        let level = size.ilog2();
        return nodes.node(level, low >> level);
    }
    let middle = middle(low, high);
    Ok(parent(&subtree(nodes, low, middle)?, &subtree(nodes, middle, high)?))
}

/// The right edge of a growing tree: all that growing needs, at most one hash for each level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Edge {
    size: Seq,
    /// The largest nodes that together cover all leaves, from the left: one for each bit of `size`
    /// that is set.
    nodes: Vec<Hash>,
}

impl Edge {
    /// Reads the edge of the tree over the first `size` leaves.
    pub(super) fn of(nodes: &impl Nodes, size: Seq) -> Result<Edge, ReadError> {
        let levels = (0..LEVELS_MAX).rev().filter(|level| (size >> level) % 2 == 1);
        let nodes =
            levels.map(|level| nodes.node(level, (size >> level) - 1)).collect::<Result<_, _>>()?;
        Ok(Edge { size, nodes })
    }

    /// Returns the number of leaves.
    pub(super) fn size(&self) -> Seq {
        self.size
    }

    /// Adds a leaf and shows each node that it completes, itself first: level, index, hash.
    pub(super) fn push(&mut self, leaf: Hash, mut each: impl FnMut(u32, u64, &Hash)) {
        let (mut level, mut index, mut hash) = (0, self.size, leaf);
        each(level, index, &hash);
        while index % 2 == 1 {
            // An odd index has its left neighbour on the edge.
            let Some(left) = self.nodes.pop() else { break };
            hash = parent(&left, &hash);
            (level, index) = (level + 1, index / 2);
            each(level, index, &hash);
        }
        self.nodes.push(hash);
        self.size += 1;
    }

    /// Returns the tree hash.
    pub(super) fn root(&self) -> Hash {
        let mut from_the_right = self.nodes.iter().rev();
        let Some(last) = from_the_right.next() else { return empty_root() };
        from_the_right.fold(*last, |right, left| parent(left, &right))
    }

    /// Returns the hash of a node, if it is on the edge.
    pub(super) fn node(&self, level: u32, index: u64) -> Option<&Hash> {
        let on_edge =
            level < LEVELS_MAX && self.size >> level == index + 1 && (self.size >> level) % 2 == 1;
        // The edge has one node before it for each higher bit.
        on_edge.then(|| self.nodes.get((index >> 1).count_ones() as usize)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    // Leaves, roots and proofs of the reference tests of Certificate Transparency, as
    // transparency-dev/merkle has them in testonly/reference_test.go.
    const LEAVES: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];

    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    /// Index, size, path.
    const PATHS: [(u64, Seq, &[&str]); 7] = [
        (0, 1, &[]),
        (0, 2, &["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"]),
        (1, 2, &["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"]),
        (2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            1,
            5,
            &[
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
        (
            0,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
    ];

    /// From, to, proof.
    const PROOFS: [(Seq, Seq, &[&str]); 5] = [
        (0, 8, &[]),
        (1, 1, &[]),
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            2,
            5,
            &[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
        (
            6,
            8,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
    ];

    fn leaf(input: &str) -> Hash {
        Sha256::new().chain_update([0]).chain_update(hex::decode(input).unwrap()).finalize().into()
    }

    /// The nodes of a small tree, hashed whenever they are asked for.
    struct Leaves(Vec<Hash>);

    impl Nodes for Leaves {
        fn node(&self, level: u32, index: u64) -> Result<Hash, ReadError> {
            match level {
                0 => Ok(self.0[index as usize]),
                _ => Ok(parent(
                    &self.node(level - 1, 2 * index)?,
                    &self.node(level - 1, 2 * index + 1)?,
                )),
            }
        }
    }

    fn in_hex(hashes: &[Hash]) -> Vec<String> {
        hashes.iter().map(hex::encode).collect()
    }

    #[test]
    fn roots_and_proofs_match_the_vectors_of_certificate_transparency() {
        let leaves = Leaves(LEAVES.map(leaf).to_vec());
        for (size, expected) in ROOTS.iter().enumerate() {
            assert_eq!(hex::encode(root(&leaves, size as Seq).unwrap()), *expected, "{size}");
        }
        for (index, size, expected) in PATHS {
            assert_eq!(
                in_hex(&inclusion(&leaves, index, size).unwrap()),
                expected,
                "{index} in {size}"
            );
        }
        for (from, to, expected) in PROOFS {
            assert_eq!(
                in_hex(&consistency(&leaves, from, to).unwrap()),
                expected,
                "{from} to {to}"
            );
        }
    }

    #[test]
    fn the_right_edge_has_the_root_and_shows_every_node_once() {
        let mut leaves = Leaves(Vec::new());
        let (mut edge, mut shown) = (Edge::default(), Vec::new());
        for size in 0..=70 {
            assert_eq!((edge.size(), edge.root()), (size, root(&leaves, size).unwrap()));
            assert_eq!(Edge::of(&leaves, size), Ok(edge.clone()));
            for level in 0..8 {
                let last = (size >> level).checked_sub(1).filter(|index| index % 2 == 0);
                let expected = last.map(|index| leaves.node(level, index).unwrap());
                for index in 0..80 {
                    assert_eq!(
                        edge.node(level, index).copied(),
                        expected.filter(|_| Some(index) == last),
                        "{level} {index} of {size}"
                    );
                }
            }
            leaves.0.push(leaf(&format!("{size:02x}")));
            edge.push(*leaves.0.last().unwrap(), |level, index, hash| {
                assert_eq!(*hash, leaves.node(level, index).unwrap());
                shown.push((level, index));
            });
        }
        shown.sort_unstable();
        let all: Vec<(u32, u64)> =
            (0..7).flat_map(|level| (0..71 >> level).map(move |index| (level, index))).collect();
        assert_eq!(shown, all);
    }
}
