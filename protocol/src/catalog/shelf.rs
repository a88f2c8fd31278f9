//! The content hashes of one kind: a number for each, and the way from hash to number.

use std::hash::Hasher;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use siphasher::sip::SipHasher13;

use super::column::{Column, Column32, OnBlock};
use super::directory::Directory;
use crate::content_hash::{ContentHash, HashKind};

pub(super) struct Shelf {
    kind: HashKind,
    key: [u64; 2],
    len: AtomicU32,
    /// `words_each` words a hash.
    words: Column,
    /// The first row of each hash's chain.
    heads: Column32,
    numbers: Directory,
}

impl Shelf {
    pub(super) fn new(kind: HashKind, key: [u64; 2], on_block: OnBlock) -> Self {
        Self {
            kind,
            key,
            len: AtomicU32::new(0),
            words: Column::new(on_block),
            heads: Column32::new(on_block),
            numbers: Directory::new(on_block),
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn find(&self, hash: &ContentHash) -> Option<u32> {
        self.find_by(self.tag(hash), hash)
    }

    /// The same, with the hash's [`tag`](Self::tag).
    pub(super) fn find_by(&self, tag: u32, hash: &ContentHash) -> Option<u32> {
        self.numbers.find(tag, |number| self.is(number, hash))
    }

    /// The number that a hash with this tag has, most likely, if it has one; else 0.
    #[inline]
    pub(super) fn guess(&self, tag: u32) -> u32 {
        self.numbers.guess(tag)
    }

    /// A word of a hash.
    #[inline]
    pub(super) fn first_word(&self, number: u32) -> u64 {
        self.word(number, 0)
    }

    pub(super) fn hash(&self, number: u32) -> ContentHash {
        let mut bytes = [0; 32];
        for (word, chunk) in (0..self.words_each()).zip(bytes.chunks_exact_mut(8)) {
            chunk.copy_from_slice(&self.word(number, word).to_le_bytes());
        }
        ContentHash::new(self.kind, &bytes[..self.kind.width()]).expect("as long as its kind")
    }

    /// The hashes with these numbers as they lie in memory, in order: `words_each` words a hash. Numbers not given away yet
    /// are left out.
    #[inline]
    pub(super) fn words(&self, numbers: Range<u32>) -> impl Iterator<Item = &[AtomicU64]> {
        let each = self.words_each();
        let end = numbers.end.min(self.len());
        self.words.slices(numbers.start.min(end) * each..end * each)
    }

    /// Memory of hashes and directory. What has been reserved for more hashes and never touched is not in memory.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.len()) * u64::from(self.words_each()) * 8 + self.numbers.bytes()
    }

    pub(super) fn head(&self, number: u32) -> u32 {
        self.heads.get(number)
    }

    pub(super) fn set_head(&self, number: u32, row: u32) {
        self.heads.set(number, row);
    }

    /// The number of a hash with this tag, a new one if it has none. Called by the curator only.
    pub(super) fn insert(&self, tag: u32, hash: &ContentHash) -> u32 {
        if let Some(number) = self.find_by(tag, hash) {
            return number;
        }
        let number = self.len.load(Ordering::Relaxed);
        for (word, chunk) in (0..self.words_each()).zip(hash.padded().chunks_exact(8)) {
            let value = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            self.words.set(number * self.words_each() + word, value);
        }
        self.len.store(number + 1, Ordering::Release);
        self.numbers.insert(tag, number);
        number
    }

    fn is(&self, number: u32, hash: &ContentHash) -> bool {
        let stored = self.words.run(number * self.words_each(), self.words_each());
        let mut pairs = stored.iter().zip(hash.padded().chunks_exact(8));
        pairs.all(|(word, chunk)| word.load(Ordering::Relaxed).to_le_bytes() == chunk)
    }

    fn word(&self, number: u32, word: u32) -> u64 {
        self.words.get(number * self.words_each() + word)
    }

    #[inline]
    fn words_each(&self) -> u32 {
        match self.kind {
            HashKind::Md5 => 2,
            // One more than SHA-1 needs: a power of two never lies across two blocks.
            HashKind::Sha1 | HashKind::Pdq | HashKind::Sha256 => 4,
        }
    }

    /// What the directory knows a hash by. Keyed, so that nobody who chooses content hashes can make them collide.
    pub(super) fn tag(&self, hash: &ContentHash) -> u32 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write(hash.value());
        hasher.finish() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(kind: HashKind, number: u32) -> ContentHash {
        let digest = crate::digest::Digest::of(&[&number.to_be_bytes()]);
        ContentHash::new(kind, &digest.0[..kind.width()]).unwrap()
    }

    fn insert(shelf: &Shelf, number: u32) -> u32 {
        let hash = hash(shelf.kind, number);
        shelf.insert(shelf.tag(&hash), &hash)
    }

    #[test]
    fn every_hash_keeps_its_number_while_the_shelf_grows() {
        for kind in HashKind::ALL {
            let shelf = Shelf::new(kind, [1, 2], |_, _| ());
            for number in 0..20_000 {
                assert_eq!(shelf.find(&hash(kind, number)), None);
                assert_eq!(insert(&shelf, number), number);
            }
            for number in 0..20_000 {
                assert_eq!(shelf.find(&hash(kind, number)), Some(number));
                assert_eq!(shelf.hash(number), hash(kind, number));
                assert_eq!(insert(&shelf, number), number, "again");
            }
            assert_eq!(shelf.len(), 20_000);
        }
    }

    #[test]
    fn readers_find_whatever_was_inserted_before_they_looked() {
        let shelf = Shelf::new(HashKind::Sha256, [1, 2], |_, _| ());
        std::thread::scope(|scope| {
            scope.spawn(|| (0..50_000).for_each(|number| assert_eq!(insert(&shelf, number), number)));
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
