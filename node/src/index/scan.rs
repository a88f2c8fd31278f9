//! The plainest near index there is: every known hash, one after the other. Correct, and the oracle for faster ones.

use std::sync::Arc;

use hashmesh_protocol::catalog::{Catalog, ContentId};
use hashmesh_protocol::content_hash::{ContentHash, HashKind};

use super::NearIndex;

/// Scans the catalog's PDQ hashes.
pub struct Scan(pub Arc<Catalog>);

impl NearIndex for Scan {
    fn within(&self, query: &ContentHash, distance: u32) -> Vec<(ContentId, u32)> {
        let words = |bytes: &[u8; 32]| {
            let mut words = [0; 4];
            for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            }
            words
        };
        let query = words(query.padded());
        let mut near = Vec::new();
        for number in 0..self.0.known(HashKind::Pdq) {
            let stored = self.0.pdq_words(number);
            let differing: u32 = query.iter().zip(stored).map(|(a, b)| (a ^ b).count_ones()).sum();
            if differing <= distance {
                near.push((ContentId { kind: HashKind::Pdq, number }, differing));
            }
        }
        near
    }
}
