//! Making proofs, by the recursive definitions of RFC 6962 section 2.1.
//!
//! Works over any store of complete subtrees, so that a node can answer from what it keeps (hashes above the leaves, in
//! memory) and read leaves only at the ends. Knows nothing of how proofs are checked.

use super::{empty_root, node_hash, split};
use crate::digest::Digest;

/// Where the hashes of a tree can be had.
pub trait Subtrees {
    /// What can go wrong when they are fetched.
    type Error;

    /// The root of the complete subtree over the leaves `index << level .. (index + 1) << level`. Only asked for subtrees
    /// that lie inside the tree.
    fn subtree(&self, level: u32, index: u64) -> Result<Digest, Self::Error>;
}

/// The root of the first `size` leaves.
pub fn root<S: Subtrees>(tree: &S, size: u64) -> Result<Digest, S::Error> {
    if size == 0 { Ok(empty_root()) } else { range(tree, 0, size) }
}

/// The inclusion proof of the leaf at `index` in the tree of the first `size` leaves, `index < size`: sibling of the
/// leaf first.
pub fn inclusion<S: Subtrees>(tree: &S, index: u64, size: u64) -> Result<Vec<Digest>, S::Error> {
    let (mut start, mut width) = (0, size);
    let mut proof = Vec::new();
    while width > 1 {
        let k = split(width);
        if index - start < k {
            proof.push(range(tree, start + k, width - k)?);
            width = k;
        } else {
            proof.push(range(tree, start, k)?);
            start += k;
            width -= k;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The consistency proof between the trees of the first `old` and the first `new` leaves, `old <= new`.
pub fn consistency<S: Subtrees>(tree: &S, old: u64, new: u64) -> Result<Vec<Digest>, S::Error> {
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Ok(proof);
    }
    let (mut start, mut width) = (0, new);
    // As long as the old tree ends inside the subtree looked at, the half that it does not end in is part of the proof.
    while old - start != width {
        let k = split(width);
        if old - start <= k {
            proof.push(range(tree, start + k, width - k)?);
            width = k;
        } else {
            proof.push(range(tree, start, k)?);
            start += k;
            width -= k;
        }
    }
    // What is left is a complete end of the old tree; the verifier knows it already if it is the whole of it.
    if start != 0 {
        proof.push(range(tree, start, width)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root over `width >= 1` leaves from `start`, which lies where RFC 6962 splits: on a multiple of the next power of two.
fn range<S: Subtrees>(tree: &S, start: u64, width: u64) -> Result<Digest, S::Error> {
    if width.is_power_of_two() {
        let level = width.trailing_zeros();
        return tree.subtree(level, start >> level);
    }
    let k = split(width);
    Ok(node_hash(&range(tree, start, k)?, &range(tree, start + k, width - k)?))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::tree::leaf_hash;
    use crate::tree::proof::{ProofError, verify_consistency, verify_inclusion};
    use crate::tree::tests::{classic_leaves, naive_root};

    /// All leaf hashes in memory.
    pub(crate) struct Naive(pub(crate) Vec<Digest>);

    impl Subtrees for Naive {
        type Error = Infallible;

        fn subtree(&self, level: u32, index: u64) -> Result<Digest, Infallible> {
            let start = usize::try_from(index << level).unwrap();
            Ok(naive_root(&self.0[start..start + (1 << level)]))
        }
    }

    fn tree(size: u64) -> Naive {
        Naive((0..size).map(|i| leaf_hash(&i.to_be_bytes())).collect())
    }

    #[test]
    fn the_classic_tree_has_the_classic_proofs() {
        let classic = Naive(classic_leaves().iter().map(|leaf| leaf_hash(leaf)).collect());
        let begins = |proof: Vec<Digest>| proof.iter().map(|d| d.to_string()[..8].to_owned()).collect::<Vec<_>>();
        assert_eq!(begins(inclusion(&classic, 0, 8).unwrap()), ["96a296d2", "5f083f0a", "6b47aaf2"]);
        assert_eq!(begins(inclusion(&classic, 5, 8).unwrap()), ["bc1a0643", "ca854ea1", "d37ee418"]);
        assert_eq!(begins(inclusion(&classic, 2, 3).unwrap()), ["fac54203"]);
        assert_eq!(begins(consistency(&classic, 1, 8).unwrap()), ["96a296d2", "5f083f0a", "6b47aaf2"]);
        assert_eq!(begins(consistency(&classic, 6, 8).unwrap()), ["0ebc5d34", "ca854ea1", "d37ee418"]);
        assert_eq!(begins(consistency(&classic, 2, 5).unwrap()), ["5f083f0a", "bc1a0643"]);
    }

    /// Leaves alpha, beta, gamma: made by the Python package aics-tlog, verified by Go.
    #[test]
    fn the_small_case_of_another_implementation_has_its_roots_and_proofs() {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let tree = Naive(["alpha", "beta", "gamma"].map(|leaf| leaf_hash(leaf.as_bytes())).to_vec());
        let text = |digest: &Digest| STANDARD.encode(digest.as_bytes());
        let roots = [1, 2, 3].map(|size| text(&root(&tree, size).unwrap()));
        assert_eq!(
            roots,
            [
                "KhWNiv1I4/iMtBld/bKp5IF9lfpX/TREDZP5quXE+Cs=",
                "mDy1fATN3VJjTtqzinvvhXCKl08RS72aqexdTOZla0s=",
                "OF2jDzkXKCyJOd/4UZV+UZqxhGsTUaFMCts7EWMnQqo=",
            ]
        );
        let proof: Vec<_> = inclusion(&tree, 1, 3).unwrap().iter().map(text).collect();
        assert_eq!(proof, [&roots[0], "THnQ1i989cqIdBVfLTuHXyYl2iuzq8hrvWgz8lupDlE="]);
        let proof: Vec<_> = consistency(&tree, 2, 3).unwrap().iter().map(text).collect();
        assert_eq!(proof, ["THnQ1i989cqIdBVfLTuHXyYl2iuzq8hrvWgz8lupDlE="]);
    }

    #[test]
    fn every_proof_of_small_trees_verifies_and_no_shorter_or_longer_one() {
        for size in 0..=33u64 {
            let tree = tree(size);
            let now = root(&tree, size).unwrap();
            assert_eq!(now, naive_root(&tree.0));
            for index in 0..size {
                let mut proof = inclusion(&tree, index, size).unwrap();
                let leaf = tree.0[usize::try_from(index).unwrap()];
                assert_eq!(verify_inclusion(leaf, index, size, now, &proof), Ok(()));
                assert!(verify_inclusion(leaf, index + 1, size, now, &proof).is_err());
                proof.push(leaf);
                assert_eq!(verify_inclusion(leaf, index, size, now, &proof), Err(ProofError::Length));
                proof.truncate(proof.len().saturating_sub(2));
                if size > 1 {
                    assert_eq!(verify_inclusion(leaf, index, size, now, &proof), Err(ProofError::Length));
                }
            }
            for old in 0..=size {
                let then = root(&tree, old).unwrap();
                let mut proof = consistency(&tree, old, size).unwrap();
                assert_eq!(verify_consistency(old, then, size, now, &proof), Ok(()), "{old} {size}");
                let wrong = leaf_hash(b"wrong");
                assert!(verify_consistency(old, wrong, size, now, &proof).is_err());
                assert!(verify_consistency(old, then, size, wrong, &proof).is_err() || old == 0);
                proof.push(now);
                assert_eq!(verify_consistency(old, then, size, now, &proof), Err(ProofError::Length));
                proof.pop();
                if proof.pop().is_some() {
                    assert!(verify_consistency(old, then, size, now, &proof).is_err());
                }
            }
            assert_eq!(verify_consistency(size + 1, now, size, now, &[]), Err(ProofError::Sizes));
        }
    }

    proptest! {
        /// `ct-merkle` is an independent implementation by another author.
        #[test]
        fn roots_and_proofs_agree_with_ct_merkle(size in 1u64..700, a: u64, b: u64) {
            use ct_merkle::mem_backed_tree::MemoryBackedTree;
            let mut theirs = MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
            let mut hashes = Vec::new();
            for i in 0..size {
                theirs.push(i.to_be_bytes().to_vec());
                hashes.push(leaf_hash(&i.to_be_bytes()));
            }
            let ours = Naive(hashes);
            let bytes = |proof: &[Digest]| proof.iter().flat_map(|d| d.0).collect::<Vec<u8>>();
            prop_assert_eq!(theirs.root().as_bytes().to_vec(), root(&ours, size).unwrap().0.to_vec());
            let index = a % size;
            let proof = theirs.prove_inclusion(usize::try_from(index).unwrap());
            prop_assert_eq!(proof.as_bytes(), bytes(&inclusion(&ours, index, size).unwrap()));
            let old = 1 + b % size;
            if old < size {
                let proof = theirs.prove_consistency(usize::try_from(size - old).unwrap());
                prop_assert_eq!(proof.as_bytes(), bytes(&consistency(&ours, old, size).unwrap()));
            }
        }

        /// `tlog_tiles` is a port of golang.org/x/mod.
        #[test]
        fn proofs_are_accepted_by_tlog_tiles(size in 1u64..700, a: u64, b: u64) {
            use tlog_tiles::tlog::{Hash, check_record, check_tree};
            let ours = tree(size);
            let theirs = |digest: &Digest| Hash(digest.0);
            let now = theirs(&root(&ours, size).unwrap());
            let index = a % size;
            let proof: Vec<_> = inclusion(&ours, index, size).unwrap().iter().map(theirs).collect();
            let leaf = theirs(&ours.0[usize::try_from(index).unwrap()]);
            prop_assert!(check_record(&proof, size, now, index, leaf).is_ok());
            let old = 1 + b % size;
            let proof: Vec<_> = consistency(&ours, old, size).unwrap().iter().map(theirs).collect();
            prop_assert!(check_tree(&proof, size, now, old, theirs(&root(&ours, old).unwrap())).is_ok());
        }
    }
}
