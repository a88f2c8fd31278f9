//! One query through one segment.
//!
//! Exact multi-index hashing (Norouzi, Punjani, Fleet: Fast Search in Hamming Space with Multi-Index Hashing, CVPR 2012) with
//! the bound of the pigeonring (Qin, Xiao: Pigeonring, PVLDB 12(1), 2018). If two hashes differ in at most *r* bits, then on
//! the ring of 16 parts there is one from which on every run of *l* parts differs in at most ⌊l·r/16⌋ bits. So some part
//! differs in at most ⌊r/16⌋ bits, one or none, which names the buckets; and it and the next one together differ in at most
//! ⌊2r/16⌋ bits, which the fingerprints in the bucket decide without looking anywhere else. What is left is compared whole.
//!
//! Memory is what takes the time. So everything is asked for before it is needed: the bounds of the buckets two parts
//! ahead, the buckets one part ahead, and the hashes that are left all together.

use std::ops::Range;
use std::sync::atomic::AtomicU64;

use hashmesh_protocol::catalog::Catalog;

use super::kernel::{Kernel, Work, distance};
use super::secret::{Assignment, Keys, PARTS};
use super::segment::Segment;

/// Buckets that are looked into for one part: its own, and those one bit away.
const PROBES: usize = 17;

/// A search for everything within a distance.
pub(super) struct Search<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) assignment: &'a Assignment,
    pub(super) segments: &'a [Segment],
    /// Numbers in no segment yet.
    pub(super) tail: Range<u32>,
    pub(super) wanted: [u64; 4],
    pub(super) distance: u32,
}

/// What a search found: number and distance, in no order, once each; and whether a segment had to be scanned.
#[derive(Default)]
pub(super) struct Found {
    pub(super) near: Vec<(u32, u32)>,
    pub(super) scans: u32,
}

impl Work for Search<'_> {
    type Output = Found;

    #[inline(always)]
    fn with<K: Kernel>(self, kernel: K) -> Found {
        let mut found = Found::default();
        let keys = self.assignment.keys(kernel, self.wanted);
        for segment in self.segments {
            if segment.len() == 0 {
                continue;
            }
            let before = found.near.len();
            if !self.probe(kernel, segment, &keys, &mut found.near) {
                found.scans += 1;
                found.near.truncate(before);
                self.scan(segment.range.clone(), &mut found.near);
            }
        }
        self.scan(self.tail.clone(), &mut found.near);
        // A hash can be found by several parts, and by two segments while one takes the other in.
        found.near.sort_unstable();
        found.near.dedup();
        found
    }
}

impl Search<'_> {
    /// Looks into the buckets. Gives up and says `false` where a scan will be faster: in a list that was made so that
    /// buckets overflow, or when half the list is near.
    #[inline(always)]
    fn probe<K: Kernel>(&self, kernel: K, segment: &Segment, keys: &Keys, near: &mut Vec<(u32, u32)>) -> bool {
        let most_compared = 2 * u64::from(segment.len()) + (64 << 10);
        let most_left = segment.len() as usize / 64 + 1024;
        let flips = self.distance >= PARTS as u32;
        let ring = (2 * self.distance / PARTS as u32) as u16;
        let mut buckets: [[Range<u32>; PROBES]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| 0..0));
        let mut left: Vec<&u32> = Vec::with_capacity(256);
        let mut compared = 0;
        for step in 0..PARTS + 2 {
            if let Some(part) = segment.parts.get(step) {
                for probe in 0..part.probes(flips) {
                    part.prefetch_bounds(kernel, keys[step], probe);
                }
            }
            if let Some(at) = step.checked_sub(1).filter(|at| *at < PARTS) {
                let part = &segment.parts[at];
                for (probe, bucket) in buckets[at % 2].iter_mut().enumerate().take(part.probes(flips)) {
                    *bucket = part.bounds(keys[at], probe);
                    compared += u64::from(bucket.end - bucket.start);
                    part.prefetch(kernel, bucket);
                }
                if compared > most_compared {
                    return false;
                }
            }
            if let Some(at) = step.checked_sub(2) {
                let (part, next) = (&segment.parts[at], keys[(at + 1) % PARTS]);
                for (probe, bucket) in buckets[at % 2].iter().enumerate().take(part.probes(flips)) {
                    // In a bucket one bit away the first part has used up one bit of what both may differ in.
                    let bound = if probe == 0 { ring } else { ring - 1 };
                    part.compare(kernel, bucket, next, bound, |entry| {
                        let number = part.number(entry);
                        kernel.prefetch(number);
                        left.push(number);
                    });
                }
                if left.len() > most_left {
                    return false;
                }
            }
        }
        self.verify(kernel, &left, near);
        true
    }

    /// Compares whole hashes.
    #[inline(always)]
    fn verify<K: Kernel>(&self, kernel: K, left: &[&u32], near: &mut Vec<(u32, u32)>) {
        let words = |number: u32| -> &[AtomicU64] {
            self.catalog.pdq_words(number..number + 1).next().expect("numbers in a segment are in the catalog")
        };
        let stored: Vec<_> = left
            .iter()
            .map(|number| {
                let words = words(**number);
                kernel.prefetch(words.as_ptr());
                words
            })
            .collect();
        for (number, words) in left.iter().zip(stored) {
            let distance = distance(words, &self.wanted);
            if distance <= self.distance {
                near.push((**number, distance));
            }
        }
    }

    /// Compares every hash of a range.
    #[inline(always)]
    fn scan(&self, range: Range<u32>, near: &mut Vec<(u32, u32)>) {
        let mut number = range.start;
        for slice in self.catalog.pdq_words(range) {
            for words in slice.chunks_exact(4) {
                let distance = distance(words, &self.wanted);
                if distance <= self.distance {
                    near.push((number, distance));
                }
                number += 1;
            }
        }
    }
}
