//! The content hashes of one kind: a number for each, and the way from hash to number.
//!
//! Open addressing over words of (tag, number), in shards that grow one at a time, so that no insertion ever moves more than
//! a small part. The tag is the hash's position before it is cut to the table's size: growing reads no content hash.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use siphasher::sip::SipHasher13;

use super::{Column, Column32};
use crate::content_hash::{ContentHash, HashKind};

/// Shards of a shelf. At 10 million hashes one has 40,000 entries and grows in a millisecond.
const SHARDS: usize = 256;

/// Slots of a new shard.
const FIRST_SLOTS: usize = 16;

pub(super) struct Shelf {
    kind: HashKind,
    key: [u64; 2],
    len: AtomicU32,
    /// `words_each` words a hash.
    words: Column,
    /// The first row of each hash's chain.
    heads: Column32,
    shards: Box<[Shard]>,
}

struct Shard {
    table: ArcSwap<Box<[AtomicU64]>>,
    /// Written by the curator only.
    used: AtomicU32,
}

/// A slot that holds nothing. Numbers in slots are one higher.
const EMPTY: u64 = 0;

impl Shelf {
    pub(super) fn new(kind: HashKind, key: [u64; 2]) -> Self {
        let shard = || Shard { table: ArcSwap::from_pointee(slots(FIRST_SLOTS)), used: AtomicU32::new(0) };
        Self {
            kind,
            key,
            len: AtomicU32::new(0),
            words: Column::default(),
            heads: Column32::default(),
            shards: (0..SHARDS).map(|_| shard()).collect(),
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn find(&self, hash: &ContentHash) -> Option<u32> {
        let (shard, tag) = self.place(hash);
        let table = self.shards[shard].table.load();
        self.probe(&table, tag, hash).ok()
    }

    pub(super) fn hash(&self, number: u32) -> ContentHash {
        let mut bytes = [0; 32];
        for (word, chunk) in (0..self.words_each()).zip(bytes.chunks_exact_mut(8)) {
            chunk.copy_from_slice(&self.word(number, word).to_le_bytes());
        }
        ContentHash::new(self.kind, &bytes[..self.kind.width()]).expect("as long as its kind")
    }

    pub(super) fn words(&self, number: u32) -> [u64; 4] {
        [0, 1, 2, 3].map(|word| if word < self.words_each() { self.word(number, word) } else { 0 })
    }

    pub(super) fn head(&self, number: u32) -> u32 {
        self.heads.get(number)
    }

    pub(super) fn set_head(&self, number: u32, row: u32) {
        self.heads.set(number, row);
    }

    /// The number of a hash, a new one if it has none. Called by the curator only.
    pub(super) fn insert(&self, hash: &ContentHash) -> u32 {
        let (shard, tag) = self.place(hash);
        let shard = &self.shards[shard];
        let mut table = shard.table.load_full();
        let mut slot = match self.probe(&table, tag, hash) {
            Ok(number) => return number,
            Err(slot) => slot,
        };
        let used = shard.used.load(Ordering::Relaxed) as usize + 1;
        if used * 4 > table.len() * 3 {
            table = std::sync::Arc::new(grown(&table));
            shard.table.store(table.clone());
            slot = free_slot(&table, tag);
        }
        let number = self.len.load(Ordering::Relaxed);
        for (word, chunk) in (0..self.words_each()).zip(hash.padded().chunks_exact(8)) {
            let value = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            self.words.set(number * self.words_each() + word, value);
        }
        shard.used.store(u32::try_from(used).expect("fewer than 2^32"), Ordering::Relaxed);
        self.len.store(number + 1, Ordering::Release);
        table[slot].store(u64::from(tag) << 32 | u64::from(number + 1), Ordering::Release);
        number
    }

    /// The number of a hash, or the slot where it belongs.
    fn probe(&self, table: &[AtomicU64], tag: u32, hash: &ContentHash) -> Result<u32, usize> {
        let mask = table.len() - 1;
        let mut slot = tag as usize & mask;
        loop {
            let entry = table[slot].load(Ordering::Acquire);
            if entry == EMPTY {
                return Err(slot);
            }
            let number = (entry as u32).wrapping_sub(1);
            if (entry >> 32) as u32 == tag && self.is(number, hash) {
                return Ok(number);
            }
            slot = (slot + 1) & mask;
        }
    }

    fn is(&self, number: u32, hash: &ContentHash) -> bool {
        let mut chunks = (0..self.words_each()).zip(hash.padded().chunks_exact(8));
        chunks.all(|(word, chunk)| self.word(number, word).to_le_bytes() == chunk)
    }

    fn word(&self, number: u32, word: u32) -> u64 {
        self.words.get(number * self.words_each() + word)
    }

    fn words_each(&self) -> u32 {
        match self.kind {
            HashKind::Md5 => 2,
            HashKind::Sha1 => 3,
            HashKind::Pdq | HashKind::Sha256 => 4,
        }
    }

    /// Shard and tag of a hash.
    fn place(&self, hash: &ContentHash) -> (usize, u32) {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write(hash.value());
        let digest = hasher.finish();
        ((digest >> 56) as usize, digest as u32)
    }
}

fn slots(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(EMPTY)).collect()
}

/// A copy of twice the size. Readers of the old one miss nothing but what is inserted after it was replaced.
fn grown(table: &[AtomicU64]) -> Box<[AtomicU64]> {
    let larger = slots(table.len() * 2);
    for entry in table.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|entry| *entry != EMPTY) {
        larger[free_slot(&larger, (entry >> 32) as u32)].store(entry, Ordering::Relaxed);
    }
    larger
}

fn free_slot(table: &[AtomicU64], tag: u32) -> usize {
    let mask = table.len() - 1;
    let mut slot = tag as usize & mask;
    while table[slot].load(Ordering::Relaxed) != EMPTY {
        slot = (slot + 1) & mask;
    }
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(kind: HashKind, number: u32) -> ContentHash {
        let digest = crate::digest::Digest::of(&[&number.to_be_bytes()]);
        ContentHash::new(kind, &digest.0[..kind.width()]).unwrap()
    }

    #[test]
    fn every_hash_keeps_its_number_while_the_shelf_grows() {
        for kind in HashKind::ALL {
            let shelf = Shelf::new(kind, [1, 2]);
            for number in 0..20_000 {
                assert_eq!(shelf.find(&hash(kind, number)), None);
                assert_eq!(shelf.insert(&hash(kind, number)), number);
            }
            for number in 0..20_000 {
                assert_eq!(shelf.find(&hash(kind, number)), Some(number));
                assert_eq!(shelf.hash(number), hash(kind, number));
                assert_eq!(shelf.insert(&hash(kind, number)), number, "again");
            }
            assert_eq!(shelf.len(), 20_000);
        }
    }

    #[test]
    fn readers_find_whatever_was_inserted_before_they_looked() {
        let shelf = Shelf::new(HashKind::Sha256, [1, 2]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..50_000).for_each(|number| assert_eq!(shelf.insert(&hash(HashKind::Sha256, number)), number))
            });
            scope.spawn(|| {
                let mut seen = 0;
                while seen < 50_000 {
                    let len = shelf.len();
                    // The last one may be between its number and its slot.
                    for number in seen..len.saturating_sub(1) {
                        assert_eq!(shelf.find(&hash(HashKind::Sha256, number)), Some(number));
                    }
                    seen = len;
                }
            });
        });
    }
}
