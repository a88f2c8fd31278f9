//! The Merkle tree of RFC 6962 section 2.1 with SHA-256: hashing here, growing at the right edge in [`edge`], making
//! proofs in [`prover`], checking them in [`proof`], and cutting the tree into C2SP tiles in [`tile`].
//!
//! Prover and verifier share nothing but the two functions below, so that a mistake in one is caught by the other.

pub mod edge;
pub mod proof;
pub mod prover;
pub mod tile;

use sha2::{Digest as _, Sha256};

use crate::digest::{Digest, Messages};

/// The root of the empty tree: SHA-256 of nothing.
pub fn empty_root() -> Digest {
    Digest::of(&[])
}

/// The leaf hash of an entry: SHA-256(0x00, entry).
pub fn leaf_hash(entry: &[u8]) -> Digest {
    let mut hasher = Sha256::new_with_prefix([0]);
    hasher.update(entry);
    Digest(hasher.finalize().into())
}

/// The hash of an inner node: SHA-256(0x01, left, right).
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut message = [1; 65];
    message[1..33].copy_from_slice(&left.0);
    message[33..].copy_from_slice(&right.0);
    Digest(Sha256::digest(message).into())
}

/// The leaf hashes of many entries.
pub fn leaf_hashes<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Vec<Digest> {
    let mut messages = Messages::default();
    entries.into_iter().for_each(|entry| messages.push(&[&[0], entry]));
    messages.digests()
}

/// The hashes of the inner nodes over a row of hashes, two by two; a last one without another is left out.
pub fn node_hashes(row: &[Digest]) -> Vec<Digest> {
    let mut messages = Messages::default();
    row.chunks_exact(2).for_each(|pair| messages.push(&[&[1], &pair[0].0, &pair[1].0]));
    messages.digests()
}

/// The largest power of two smaller than `size`: where RFC 6962 splits a tree of `size` leaves.
///
/// `size` must be at least 2.
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// RFC 6962's definition, word for word and slow: the oracle for everything else.
    pub(crate) fn naive_root(leaf_hashes: &[Digest]) -> Digest {
        match leaf_hashes {
            [] => empty_root(),
            [one] => *one,
            many => {
                let k = usize::try_from(split(many.len() as u64)).unwrap();
                node_hash(&naive_root(&many[..k]), &naive_root(&many[k..]))
            }
        }
    }

    /// The eight leaves that CT implementations have tested with since 2013.
    pub(crate) fn classic_leaves() -> Vec<Vec<u8>> {
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
            .map(|hex| hex::decode(hex).unwrap())
            .to_vec()
    }

    #[test]
    fn hashes_are_those_of_the_published_vectors() {
        assert_eq!(leaf_hash(b"").to_string(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(
            leaf_hash(b"L123456").to_string(),
            "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
        );
        let node = Digest::of(&[&[1], b"N123", b"N456"]);
        assert_eq!(node.to_string(), "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb");
    }

    #[test]
    fn the_classic_eight_leaves_have_their_roots() {
        let hashes: Vec<_> = classic_leaves().iter().map(|leaf| leaf_hash(leaf)).collect();
        let begins = ["6e340b9c", "fac54203", "aeb6bcfe", "d37ee418", "4e3bbb1f", "76e67dad", "ddb89be4", "5dc9da79"];
        for (size, begin) in (1..).zip(begins) {
            assert!(naive_root(&hashes[..size]).to_string().starts_with(begin), "size {size}");
        }
        assert_eq!(naive_root(&hashes).to_string(), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }

    #[test]
    fn a_tree_splits_at_the_largest_smaller_power_of_two() {
        for (size, k) in [(2, 1), (3, 2), (4, 2), (5, 4), (8, 4), (9, 8), (u64::MAX, 1 << 63)] {
            assert_eq!(split(size), k, "{size}");
        }
    }
}
