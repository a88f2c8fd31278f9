//! A range of the catalog's PDQ hashes, sorted into buckets 16 times over: once by each part. Never changed once built.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashmesh_protocol::catalog::Catalog;

use super::kernel::{Kernel, LANES, Processor, Work};
use super::secret::{Assignment, PARTS};
use crate::pages::zeroed;

/// Bits of a part that choose the bucket: all of them in a large segment, fewer in a small one, whose buckets would be empty.
const MAX_BITS: u32 = 16;

/// A large segment has about 2^this entries a bucket, until [`MAX_BITS`] are used up.
const FULL_BUCKET_BITS: u32 = 3;

/// The hashes of a range by one part.
pub(super) struct Part {
    /// How many low bits of the key choose the bucket.
    bits: u32,
    /// Where each bucket begins; one more, for the end of the last.
    offsets: Box<[u32]>,
    /// The next part of each hash, with [`LANES`] more at the end, so that whole registers can be read anywhere.
    fingerprints: Box<[u16]>,
    /// Which hash it is.
    numbers: Box<[u32]>,
}

impl Part {
    /// Sorts the hashes from number `first` on by `keys`; `nexts` are their next parts.
    fn build(first: u32, keys: &[u16], nexts: &[u16]) -> Self {
        let bits = (keys.len().max(1).ilog2().saturating_sub(FULL_BUCKET_BITS)).clamp(1, MAX_BITS);
        let mask = ((1u32 << bits) - 1) as u16;
        let mut offsets: Box<[u32]> = zeroed((1 << bits) + 1);
        for key in keys {
            offsets[usize::from(key & mask) + 1] += 1;
        }
        for bucket in 0..1 << bits {
            offsets[bucket + 1] += offsets[bucket];
        }
        let mut fingerprints: Box<[u16]> = zeroed(keys.len() + LANES);
        let mut numbers: Box<[u32]> = zeroed(keys.len());
        let mut ends = offsets.clone();
        for ((number, key), next) in (first..).zip(keys).zip(nexts) {
            let end = &mut ends[usize::from(key & mask)];
            fingerprints[*end as usize] = *next;
            numbers[*end as usize] = number;
            *end += 1;
        }
        Self { bits, offsets, fingerprints, numbers }
    }

    /// Buckets that can hold a hash whose key differs from another in one bit: the own one and those one bit away.
    #[inline(always)]
    pub(super) fn probes(&self, flips: bool) -> usize {
        if flips { self.bits as usize + 1 } else { 1 }
    }

    /// The bucket of a probe: the 0th is that of the key itself.
    #[inline(always)]
    fn bucket(&self, key: u16, probe: usize) -> usize {
        let own = usize::from(key) & ((1 << self.bits) - 1);
        if probe == 0 { own } else { own ^ 1 << (probe - 1) }
    }

    #[inline(always)]
    pub(super) fn prefetch_bounds<K: Kernel>(&self, kernel: K, key: u16, probe: usize) {
        kernel.prefetch(&raw const self.offsets[self.bucket(key, probe)]);
    }

    /// Where the entries of a probe begin and end.
    #[inline(always)]
    pub(super) fn bounds(&self, key: u16, probe: usize) -> Range<u32> {
        let bucket = self.bucket(key, probe);
        self.offsets[bucket]..self.offsets[bucket + 1]
    }

    /// Asks for the first fingerprints of entries that will be compared soon.
    #[inline(always)]
    pub(super) fn prefetch<K: Kernel>(&self, kernel: K, entries: &Range<u32>) {
        /// Fingerprints in a cache line.
        const LINE: usize = 32;
        /// Lines after which the processor has understood what is being read.
        const AHEAD: usize = 6;
        let (start, end) = (entries.start as usize, entries.end as usize);
        for line in 0..AHEAD {
            if start + line * LINE <= end {
                kernel.prefetch(&raw const self.fingerprints[start + line * LINE]);
            }
        }
    }

    /// Calls `found` with the place of every entry whose next part differs from `next` in at most `bound` bits.
    #[inline(always)]
    pub(super) fn compare<K: Kernel>(
        &self,
        kernel: K,
        entries: &Range<u32>,
        next: u16,
        bound: u16,
        mut found: impl FnMut(u32),
    ) {
        let mut at = entries.start;
        while at < entries.end {
            let lanes = self.fingerprints[at as usize..].first_chunk().expect("padded");
            let mut near = kernel.near(lanes, next, bound);
            let left = entries.end - at;
            if left < LANES as u32 {
                near &= (1 << left) - 1;
            }
            while near != 0 {
                found(at + near.trailing_zeros());
                near &= near - 1;
            }
            at += LANES as u32;
        }
    }

    #[inline(always)]
    pub(super) fn number(&self, entry: u32) -> &u32 {
        &self.numbers[entry as usize]
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.offsets) + size_of_val(&*self.fingerprints) + size_of_val(&*self.numbers)
    }
}

/// A range of the catalog, by all parts.
#[derive(Clone)]
pub(super) struct Segment {
    /// The numbers in it. While its parts are being replaced by larger ones, some of them hold more.
    pub(super) range: Range<u32>,
    pub(super) parts: [Arc<Part>; PARTS],
}

impl Segment {
    /// A segment of nothing, before a number.
    pub(super) fn empty(at: u32) -> Self {
        let part = Arc::new(Part::build(at, &[], &[]));
        Self { range: at..at, parts: std::array::from_fn(|_| part.clone()) }
    }

    /// Sorts a range of the catalog on so many threads.
    pub(super) fn build(source: &Source<'_>, range: Range<u32>, threads: usize) -> Self {
        let each = PARTS.div_ceil(threads.max(1));
        let parts = std::thread::scope(|scope| {
            let build = |first: usize| {
                let range = range.clone();
                scope.spawn(move || {
                    let mut parts = Vec::new();
                    source.some_parts(&range, first..(first + each).min(PARTS), |_, part| {
                        parts.push(Arc::new(part));
                        true
                    });
                    parts
                })
            };
            let builders: Vec<_> = (0..PARTS).step_by(each).map(build).collect();
            let built = builders.into_iter().map(|builder| builder.join().expect("building does not panic"));
            built.flatten().collect::<Vec<_>>()
        });
        let parts = parts.try_into().unwrap_or_else(|_| unreachable!("as many as there are parts"));
        Self { range, parts }
    }

    pub(super) fn len(&self) -> u32 {
        self.range.end - self.range.start
    }

    /// Memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes()).sum()
    }
}

/// What parts are built from.
pub(super) struct Source<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) assignment: &'a Assignment,
    pub(super) processor: Processor,
}

impl Source<'_> {
    /// Builds the parts of a range, one after the other, as long as `built` wants more.
    pub(super) fn parts(&self, range: Range<u32>, built: impl FnMut(usize, Part) -> bool) {
        self.some_parts(&range, 0..PARTS, built);
    }

    fn some_parts(&self, range: &Range<u32>, wanted: Range<usize>, mut built: impl FnMut(usize, Part) -> bool) {
        let mut keys = self.keys(range, wanted.start);
        for part in wanted {
            let nexts = self.keys(range, (part + 1) % PARTS);
            if !built(part, Part::build(range.start, &keys, &nexts)) {
                return;
            }
            keys = nexts;
        }
    }

    /// One part of every hash in a range.
    fn keys(&self, range: &Range<u32>, part: usize) -> Vec<u16> {
        self.processor.run(Keys { source: self, range, part })
    }
}

struct Keys<'a> {
    source: &'a Source<'a>,
    range: &'a Range<u32>,
    part: usize,
}

impl Work for Keys<'_> {
    type Output = Vec<u16>;

    #[inline(always)]
    fn with<K: Kernel>(self, kernel: K) -> Vec<u16> {
        let mut keys = Vec::with_capacity((self.range.end - self.range.start) as usize);
        for slice in self.source.catalog.pdq_words(self.range.clone()) {
            for words in slice.chunks_exact(4) {
                let words = std::array::from_fn(|word| words[word].load(Ordering::Relaxed));
                keys.push(self.source.assignment.part(kernel, self.part, words));
            }
        }
        keys
    }
}
