//! A tree that only grows: all that must be kept of it to append leaves and know the root.
//!
//! The edge of a tree of n leaves is one hash per set bit of n: the roots of the complete subtrees that it falls into,
//! largest first. At most 64 hashes, whatever the size.

use super::{empty_root, node_hash};
use crate::digest::Digest;

/// The right edge of a tree.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Edge {
    size: u64,
    peaks: Vec<Digest>,
}

impl Edge {
    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf_hash: Digest) {
        self.push_reporting(leaf_hash, |_, _| {});
    }

    /// Appends a leaf and reports every complete subtree of two leaves or more that it finishes, lowest first: `level` is
    /// the binary logarithm of its width.
    pub fn push_reporting(&mut self, leaf_hash: Digest, mut finished: impl FnMut(u32, Digest)) {
        let mut top = leaf_hash;
        for level in 1..=self.size.trailing_ones() {
            let left = self.peaks.pop().expect("an edge has one peak per set bit of its size");
            top = node_hash(&left, &top);
            finished(level, top);
        }
        self.peaks.push(top);
        self.size += 1;
    }

    /// The root of the tree.
    pub fn root(&self) -> Digest {
        let mut from_the_right = self.peaks.iter().rev();
        let Some(&last) = from_the_right.next() else { return empty_root() };
        from_the_right.fold(last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::leaf_hash;
    use crate::tree::tests::naive_root;

    #[test]
    fn the_root_is_the_naive_one_at_every_size() {
        let hashes: Vec<_> = (0..300u32).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let mut edge = Edge::default();
        for size in 0..hashes.len() {
            assert_eq!(edge.root(), naive_root(&hashes[..size]), "size {size}");
            assert_eq!(edge.size(), size as u64);
            edge.push(hashes[size]);
        }
    }

    #[test]
    fn finished_subtrees_are_reported_lowest_first() {
        let mut edge = Edge::default();
        let mut levels = Vec::new();
        for i in 0..8u8 {
            edge.push_reporting(leaf_hash(&[i]), |level, _| levels.push((i, level)));
        }
        assert_eq!(levels, [(1, 1), (3, 1), (3, 2), (5, 1), (7, 1), (7, 2), (7, 3)]);
    }
}
