//! Checking proofs: RFC 9162 sections 2.1.3.2 (inclusion) and 2.1.4.2 (consistency), which accept the proofs of RFC 6962.
//!
//! Knows nothing of how proofs are made.

use super::{empty_root, node_hash};
use crate::digest::Digest;

/// Hashes in a proof, at most: one a level of a tree of 2^63 leaves, and one for the start of a consistency proof.
pub const MAX_PROOF: usize = 64;

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProofError {
    /// The index lies outside of the tree, or the old tree is larger than the new one.
    #[error("the sizes make no sense together")]
    Sizes,
    /// More or fewer hashes than a proof for these sizes has.
    #[error("the proof has the wrong length")]
    Length,
    /// The hashes lead to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// Checks that the leaf with this hash is at `index` of the tree of `size` leaves with this root.
pub fn verify_inclusion(
    leaf_hash: Digest,
    index: u64,
    size: u64,
    root: Digest,
    proof: &[Digest],
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Sizes);
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf_hash);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if hash == root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks that the tree of `old_size` leaves is a prefix of the tree of `new_size` leaves.
pub fn verify_consistency(
    old_size: u64,
    old_root: Digest,
    new_size: u64,
    new_root: Digest,
    proof: &[Digest],
) -> Result<(), ProofError> {
    if old_size > new_size {
        return Err(ProofError::Sizes);
    }
    if old_size == 0 || old_size == new_size {
        // Every tree extends the empty one, and itself; there is nothing to prove and no hash to prove it with.
        let expected = if old_size == 0 { empty_root() } else { new_root };
        return match proof {
            [] if old_root == expected => Ok(()),
            [] => Err(ProofError::Root),
            _ => Err(ProofError::Length),
        };
    }
    // A complete old tree is its own first node, which proofs therefore leave out.
    let (first, rest) = match proof.split_first() {
        _ if old_size.is_power_of_two() => (old_root, proof),
        Some((first, rest)) => (*first, rest),
        None => return Err(ProofError::Length),
    };
    let shift = (old_size - 1).trailing_ones();
    let (mut node, mut last) = ((old_size - 1) >> shift, (new_size - 1) >> shift);
    let (mut old, mut new) = (first, first);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if old == old_root && new == new_root { Ok(()) } else { Err(ProofError::Root) }
}
