//! What the processor does best, chosen when the process starts.
//!
//! Each kernel does the same; tests hold them against the plainest one. A search is written once, as a [`Work`] that knows
//! nothing of processors, and compiled once a kernel.

#![expect(unsafe_code, reason = "vector instructions and prefetching have no safe form")]

use std::sync::atomic::{AtomicU64, Ordering};

/// Fingerprints that are compared at once.
pub(super) const LANES: usize = 32;

/// What a search needs of a processor.
pub(super) trait Kernel: Copy {
    /// Which of the fingerprints differ from `wanted` in at most `bound` bits: bit *i* for the *i*-th.
    fn near(self, fingerprints: &[u16; LANES], wanted: u16, bound: u16) -> u32;

    /// The bits of `word` which `mask` selects, moved together at the low end.
    fn extract(self, word: u64, mask: u64) -> u64;

    /// Asks for the memory at this place to be fetched; it may lie anywhere.
    fn prefetch<T>(self, at: *const T);
}

/// How many bits of four words differ.
#[inline(always)]
pub(super) fn distance(stored: &[AtomicU64], wanted: &[u64; 4]) -> u32 {
    stored.iter().zip(wanted).map(|(a, b)| (a.load(Ordering::Relaxed) ^ b).count_ones()).sum()
}

/// Something that is compiled once a kernel. `with` must be `#[inline(always)]`, or it is compiled for none.
pub(super) trait Work {
    type Output;
    fn with<K: Kernel>(self, kernel: K) -> Self::Output;
}

/// The kernels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Processor {
    /// Any.
    Portable,
    /// x86-64 from 2013 on.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// x86-64 with AVX-512 BITALG: from 2019 on, on servers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Processor {
    /// Those that this machine can run, the best one last.
    pub(super) fn available() -> Vec<Self> {
        let mut available = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
        {
            available.push(Self::Avx2);
            if is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bitalg")
            {
                available.push(Self::Avx512);
            }
        }
        available
    }

    /// The best that this machine can run.
    pub(super) fn best() -> Self {
        Self::available().pop().unwrap_or(Self::Portable)
    }

    /// Does the work with this kernel. `self` must be one of the [`available`](Self::available) ones.
    pub(super) fn run<W: Work>(self, work: W) -> W::Output {
        match self {
            Self::Portable => work.with(Portable),
            // SAFETY: only `available` hands these out, after asking the processor.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::avx2(work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::avx512(work) },
        }
    }
}

/// No instruction that not every processor has.
#[derive(Clone, Copy)]
struct Portable;

impl Kernel for Portable {
    #[inline(always)]
    fn near(self, fingerprints: &[u16; LANES], wanted: u16, bound: u16) -> u32 {
        let mut found = 0;
        for (lane, fingerprint) in fingerprints.iter().enumerate() {
            found |= u32::from((fingerprint ^ wanted).count_ones() <= u32::from(bound)) << lane;
        }
        found
    }

    #[inline(always)]
    fn extract(self, word: u64, mut mask: u64) -> u64 {
        let (mut extracted, mut to) = (0, 0);
        while mask != 0 {
            extracted |= (word >> mask.trailing_zeros() & 1) << to;
            mask &= mask - 1;
            to += 1;
        }
        extracted
    }

    #[inline(always)]
    fn prefetch<T>(self, _: *const T) {}
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm256_add_epi8, _mm256_and_si256, _mm256_cmpgt_epi16, _mm256_loadu_si256,
        _mm256_maddubs_epi16, _mm256_movemask_epi8, _mm256_packs_epi16, _mm256_permute4x64_epi64, _mm256_set1_epi8,
        _mm256_set1_epi16, _mm256_setr_epi8, _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_xor_si256,
        _mm512_cmple_epu16_mask, _mm512_loadu_si512, _mm512_popcnt_epi16, _mm512_set1_epi16, _mm512_xor_si512,
        _pext_u64,
    };

    use super::{Kernel, LANES, Work};

    /// Made only by [`avx2`], where the processor has been asked.
    #[derive(Clone, Copy)]
    pub(super) struct Avx2(());

    /// Made only by [`avx512`], where the processor has been asked. What has no wider form it does as [`Avx2`].
    #[derive(Clone, Copy)]
    pub(super) struct Avx512(Avx2);

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) fn avx2<W: Work>(work: W) -> W::Output {
        work.with(Avx2(()))
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512bitalg")]
    pub(super) fn avx512<W: Work>(work: W) -> W::Output {
        work.with(Avx512(Avx2(())))
    }

    impl Kernel for Avx2 {
        #[inline(always)]
        fn near(self, fingerprints: &[u16; LANES], wanted: u16, bound: u16) -> u32 {
            // SAFETY: the processor has AVX2, or there would be no `Avx2`; the loads stay within the array.
            unsafe {
                let wanted = _mm256_set1_epi16(wanted as i16);
                let bound = _mm256_set1_epi16(bound as i16);
                let low = _mm256_set1_epi8(0x0f);
                // Bits in a nibble, for all sixteen, in both halves.
                #[rustfmt::skip]
                let counts = _mm256_setr_epi8(
                    0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                    0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                );
                let beyond = |half: usize| {
                    let stored = _mm256_loadu_si256(fingerprints.as_ptr().add(half * 16).cast());
                    let differing = _mm256_xor_si256(stored, wanted);
                    let of_low = _mm256_shuffle_epi8(counts, _mm256_and_si256(differing, low));
                    let of_high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(differing, 4), low));
                    let of_bytes = _mm256_add_epi8(of_low, of_high);
                    let of_words = _mm256_maddubs_epi16(of_bytes, _mm256_set1_epi8(1));
                    _mm256_cmpgt_epi16(of_words, bound)
                };
                // Packing works within each half of the register; the permutation puts the quarters in order again.
                let packed = _mm256_permute4x64_epi64(_mm256_packs_epi16(beyond(0), beyond(1)), 0b11_01_10_00);
                !_mm256_movemask_epi8(packed) as u32
            }
        }

        #[inline(always)]
        fn extract(self, word: u64, mask: u64) -> u64 {
            // SAFETY: the processor has BMI2, or there would be no `Avx2`.
            unsafe { _pext_u64(word, mask) }
        }

        #[inline(always)]
        fn prefetch<T>(self, at: *const T) {
            // SAFETY: prefetching never faults, wherever it points.
            unsafe { _mm_prefetch(at.cast(), _MM_HINT_T0) }
        }
    }

    impl Kernel for Avx512 {
        #[inline(always)]
        fn near(self, fingerprints: &[u16; LANES], wanted: u16, bound: u16) -> u32 {
            // SAFETY: the processor has AVX-512 BW and BITALG, or there would be no `Avx512`; the load is the whole array.
            unsafe {
                let stored = _mm512_loadu_si512(fingerprints.as_ptr().cast());
                let differing = _mm512_xor_si512(stored, _mm512_set1_epi16(wanted as i16));
                _mm512_cmple_epu16_mask(_mm512_popcnt_epi16(differing), _mm512_set1_epi16(bound as i16))
            }
        }

        #[inline(always)]
        fn extract(self, word: u64, mask: u64) -> u64 {
            self.0.extract(word, mask)
        }

        #[inline(always)]
        fn prefetch<T>(self, at: *const T) {
            self.0.prefetch(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Near([u16; LANES], u16, u16);

    impl Work for Near {
        type Output = u32;
        #[inline(always)]
        fn with<K: Kernel>(self, kernel: K) -> u32 {
            kernel.near(&self.0, self.1, self.2)
        }
    }

    struct Extract(u64, u64);

    impl Work for Extract {
        type Output = u64;
        #[inline(always)]
        fn with<K: Kernel>(self, kernel: K) -> u64 {
            kernel.extract(self.0, self.1)
        }
    }

    proptest! {
        #[test]
        fn every_kernel_does_what_the_portable_one_does(
            close in any::<[(u16, u16, u16); LANES]>(), wanted: u16, bound in 0u16..=16, word: u64, mask: u64,
        ) {
            // Random bits that differ in about an eighth, so that all distances come up.
            let fingerprints = close.map(|(a, b, c)| wanted ^ (a & b & c));
            let expected: u32 = fingerprints.iter().enumerate()
                .map(|(lane, f)| u32::from((f ^ wanted).count_ones() <= u32::from(bound)) << lane)
                .sum();
            for processor in Processor::available() {
                prop_assert_eq!(processor.run(Near(fingerprints, wanted, bound)), expected, "{:?}", processor);
                let extracted = processor.run(Extract(word, mask));
                prop_assert_eq!(extracted, Processor::Portable.run(Extract(word, mask)), "{:?}", processor);
                prop_assert_eq!(extracted.count_ones(), (word & mask).count_ones());
            }
        }
    }
}
