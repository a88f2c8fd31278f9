//! Which bits of a hash make up which part: a secret of this process.
//!
//! Members choose what stands in the list. If they knew the parts, they could fill one bucket with hashes that share one
//! part; and pictures have some patterns more often than others. A random assignment takes the target from the first, and
//! spreads the second.

use super::kernel::Kernel;

/// Parts of a hash, and bits of each.
pub(super) const PARTS: usize = 16;

/// The 16 parts of a hash.
pub(super) type Keys = [u16; PARTS];

/// For each part the bits of each word that belong to it. The order of bits within a part does not matter: distances do not
/// change with it.
pub(super) struct Assignment([[u64; 4]; PARTS]);

impl Assignment {
    /// An assignment drawn with `random`, which must give numbers that nobody can guess.
    pub(super) fn random(mut random: impl FnMut() -> u64) -> Self {
        let mut bits: Vec<usize> = (0..256).collect();
        let mut masks = [[0; 4]; PARTS];
        for place in (0..bits.len()).rev() {
            // Fisher and Yates. 64 random bits modulo at most 256: no bias that matters.
            bits.swap(place, (random() % (place as u64 + 1)) as usize);
            masks[place % PARTS][bits[place] / 64] |= 1 << (bits[place] % 64);
        }
        Self(masks)
    }

    /// One part of a hash.
    #[inline(always)]
    pub(super) fn part<K: Kernel>(&self, kernel: K, part: usize, words: [u64; 4]) -> u16 {
        let masks = &self.0[part];
        let mut key = kernel.extract(words[0], masks[0]);
        for word in 1..4 {
            key = key << masks[word].count_ones() | kernel.extract(words[word], masks[word]);
        }
        key as u16
    }

    /// All parts of a hash.
    #[inline(always)]
    pub(super) fn keys<K: Kernel>(&self, kernel: K, words: [u64; 4]) -> Keys {
        std::array::from_fn(|part| self.part(kernel, part, words))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::kernel::{Processor, Work};
    use super::*;

    struct Split<'a>(&'a Assignment, [u64; 4]);

    impl Work for Split<'_> {
        type Output = Keys;
        #[inline(always)]
        fn with<K: Kernel>(self, kernel: K) -> Keys {
            self.0.keys(kernel, self.1)
        }
    }

    proptest! {
        #[test]
        fn each_bit_is_in_one_part_and_distances_are_kept(seed: u64, a: [u64; 4], b: [u64; 4]) {
            let mut state = seed;
            let assignment = Assignment::random(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 11
            });
            for part in &assignment.0 {
                prop_assert_eq!(part.iter().map(|mask| mask.count_ones()).sum::<u32>(), 16);
            }
            for word in 0..4 {
                prop_assert_eq!(assignment.0.iter().fold(0, |all, part| all ^ part[word]), u64::MAX);
            }
            let differing: u32 = a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum();
            for processor in Processor::available() {
                let (a, b) = (processor.run(Split(&assignment, a)), processor.run(Split(&assignment, b)));
                let split: u32 = a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum();
                prop_assert_eq!(split, differing);
            }
        }
    }
}
