//! Append-only arrays that one thread writes while others read: blocks that double in size and never move.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytemuck::Zeroable;
use bytemuck::allocation::zeroed_slice_box;

/// Elements in the first block.
const FIRST: u32 = 1 << 10;

/// Blocks: the first holds [`FIRST`] elements, each later one as many as all before it, until 2^32 are reached.
const BLOCKS: usize = 23;

/// A column of 64-bit words.
pub(super) type Column = Blocks<AtomicU64>;

/// A column of 32-bit words.
pub(super) type Column32 = Blocks<AtomicU32>;

/// An array of atomics, all zero at first, addressable without bound up to 2^32 elements.
pub(super) struct Blocks<A> {
    blocks: [OnceLock<Box<[A]>>; BLOCKS],
    on_block: OnBlock,
}

/// Is told where a block of memory lies, and how many bytes long it is, before it is used. It must not be read or written.
pub type OnBlock = fn(*const u8, usize);

impl<A> Blocks<A> {
    pub(super) const fn new(on_block: OnBlock) -> Self {
        Self { blocks: [const { OnceLock::new() }; BLOCKS], on_block }
    }
}

impl<A: Zeroable> Blocks<A> {
    /// Where an element lies: which block, and where in it.
    #[inline]
    fn locate(index: u32) -> (usize, usize) {
        if index < FIRST {
            return (0, index as usize);
        }
        let power = index.ilog2();
        ((power - FIRST.ilog2() + 1) as usize, (index - (1 << power)) as usize)
    }

    /// The element, if its block exists.
    #[inline]
    fn at(&self, index: u32) -> Option<&A> {
        let (block, offset) = Self::locate(index);
        Some(&self.blocks[block].get()?[offset])
    }

    /// The element, in a block that is made if need be.
    fn reserve(&self, index: u32) -> &A {
        let (block, offset) = Self::locate(index);
        let len = if block == 0 { FIRST as usize } else { (FIRST as usize) << (block - 1) };
        // Zeroed by the system, so that the part of a block which is not used yet takes no memory.
        let make = || {
            let block = zeroed_slice_box::<A>(len);
            (self.on_block)(block.as_ptr().cast(), size_of_val(&*block));
            block
        };
        &self.blocks[block].get_or_init(make)[offset]
    }

    /// Some elements that lie in one block, all of them if there is such a block.
    #[inline]
    pub(super) fn run(&self, from: u32, len: u32) -> &[A] {
        let (block, offset) = Self::locate(from);
        self.blocks[block].get().map_or(&[], |block| &block[offset..offset + len as usize])
    }

    /// The elements of a range as they lie in memory: one slice a block.
    #[inline]
    pub(super) fn slices(&self, range: Range<u32>) -> impl Iterator<Item = &[A]> {
        let mut from = range.start;
        std::iter::from_fn(move || {
            if from >= range.end {
                return None;
            }
            let (block, offset) = Self::locate(from);
            let block = self.blocks[block].get()?;
            let len = (block.len() - offset).min((range.end - from) as usize);
            from += len as u32;
            Some(&block[offset..offset + len])
        })
    }
}

impl Column {
    /// Reads a word; zero where none was written. Ordered after whatever published the index.
    #[inline]
    pub(super) fn get(&self, index: u32) -> u64 {
        self.at(index).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Writes a word; everything written before is visible to whoever reads it.
    pub(super) fn set(&self, index: u32, value: u64) {
        self.reserve(index).store(value, Ordering::Release);
    }
}

impl Column32 {
    /// Reads a word; zero where none was written.
    #[inline]
    pub(super) fn get(&self, index: u32) -> u32 {
        self.at(index).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Writes a word; everything written before is visible to whoever reads it.
    pub(super) fn set(&self, index: u32, value: u32) {
        self.reserve(index).store(value, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_places_across_blocks() {
        let column = Column32::new(|_, _| ());
        assert_eq!(column.get(5_000_000), 0);
        let indices = [0, 1, 1023, 1024, 1025, 2047, 2048, 4095, 4096, 3_000_000];
        for index in indices {
            column.set(index, index + 1);
        }
        for index in indices {
            assert_eq!(column.get(index), index + 1);
        }
        assert_eq!(column.get(3), 0);
        assert_eq!(Column32::locate(u32::MAX), (BLOCKS - 1, (1 << 31) - 1));
    }
}
