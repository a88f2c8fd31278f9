//! The near index: every PDQ hash within a distance of a given one, exactly, in microseconds, and fresh.
//!
//! The catalog numbers its hashes in the order in which they come, and never changes one. So the index is a row of
//! immutable segments over ranges of numbers: a large base, a smaller one that takes up what came since, and after the last
//! a tail that is in no segment and is compared hash by hash. A hash can be found as soon as the catalog has it. A thread of
//! its own keeps the tail short and the segments few; what it has built becomes visible by exchanging one pointer. Queries
//! never wait. Hashes that nobody stands by any more stay in the index; whoever judges what is found leaves them out.

mod kernel;
mod search;
mod secret;
mod segment;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use hashmesh_protocol::catalog::{Catalog, ContentId};
use hashmesh_protocol::content_hash::{ContentHash, HashKind};
use kernel::Processor;
use search::{Found, Search};
use secret::Assignment;
use segment::{Segment, Source};

use crate::keys::{KeysError, random};

/// Hashes that may wait in the tail, at least: about two microseconds of a query.
const SHORT_TAIL: u32 = 4096;

/// Hashes that may wait in the tail, at most, before they are taken up.
const LONG_TAIL: u32 = 16_384;

/// A segment beside the base is merged into it when it has more hashes than this, and than an eighth of the base.
const SMALL_SEGMENT: u32 = 1 << 18;

/// The index. Dropping it ends its thread.
pub struct Near {
    shared: Arc<Shared>,
    merger: Option<JoinHandle<()>>,
}

struct Shared {
    catalog: Arc<Catalog>,
    assignment: Assignment,
    processor: Processor,
    /// The base, and what follows it without a gap.
    segments: ArcSwap<Vec<Segment>>,
    scans: AtomicU64,
    ending: AtomicBool,
}

/// How the index stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct NearStatus {
    /// Hashes in segments.
    pub indexed: u64,
    /// Hashes that are compared one by one until they are taken up.
    pub tail: u64,
    /// Memory of the segments, in bytes. The hashes themselves are the catalog's.
    pub bytes: u64,
    /// Segments that a query has scanned whole, because looking into buckets would have taken longer.
    pub scans: u64,
}

impl Near {
    /// Indexes what the catalog holds, on all cores, and goes on with what comes.
    pub fn build(catalog: Arc<Catalog>) -> Result<Self, KeysError> {
        let mut random_words = Vec::new();
        for _ in 0..256 {
            random_words.push(u64::from_le_bytes(random::<8>()?));
        }
        let assignment = Assignment::random(|| random_words.pop().expect("256 bits to place"));
        Ok(Self::with(catalog, assignment, Processor::best()))
    }

    fn with(catalog: Arc<Catalog>, assignment: Assignment, processor: Processor) -> Self {
        let known = catalog.known(HashKind::Pdq);
        let shared = Shared {
            catalog,
            assignment,
            processor,
            segments: ArcSwap::default(),
            scans: AtomicU64::new(0),
            ending: AtomicBool::new(false),
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        shared.segments.store(Arc::new(vec![shared.build(0..known, threads), Segment::empty(known)]));
        let shared = Arc::new(shared);
        let merging = shared.clone();
        let merger = thread::Builder::new().name("near index".to_owned());
        let merger = merger.spawn(move || merging.merge_while_needed()).expect("the system can start a thread");
        Self { shared, merger: Some(merger) }
    }

    /// Says that the catalog has grown. Cheap, to be called often.
    pub fn grown(&self) {
        if self.shared.tail(&self.shared.segments.load()).len() > SHORT_TAIL as usize
            && let Some(merger) = &self.merger
        {
            merger.thread().unpark();
        }
    }

    /// Every known PDQ hash within `distance` (at most 31) of `query`, with its distance, in the order of the catalog. Hashes
    /// that nobody stands by any more may be among them.
    pub fn within(&self, query: &ContentHash, distance: u32) -> Vec<(ContentId, u32)> {
        let shared = &*self.shared;
        let segments = shared.segments.load();
        let search = shared.search(&segments, shared.tail(&segments), query, distance);
        shared.result(shared.processor.run(search))
    }

    /// The same, by comparing every hash: what the index is measured against.
    pub fn scan(&self, query: &ContentHash, distance: u32) -> Vec<(ContentId, u32)> {
        let all = 0..self.shared.catalog.known(HashKind::Pdq);
        self.shared.result(self.shared.processor.run(self.shared.search(&[], all, query, distance)))
    }

    /// How the index stands.
    pub fn status(&self) -> NearStatus {
        let segments = self.shared.segments.load();
        NearStatus {
            indexed: segments.iter().map(|segment| u64::from(segment.len())).sum(),
            tail: self.shared.tail(&segments).len() as u64,
            bytes: segments.iter().map(|segment| segment.bytes() as u64).sum(),
            scans: self.shared.scans.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        if let Some(merger) = self.merger.take() {
            merger.thread().unpark();
            // A merger that has panicked has said so already.
            drop(merger.join());
        }
    }
}

impl Shared {
    fn search<'a>(
        &'a self,
        segments: &'a [Segment],
        tail: Range<u32>,
        query: &ContentHash,
        distance: u32,
    ) -> Search<'a> {
        debug_assert_eq!(query.kind(), HashKind::Pdq);
        let mut wanted = [0; 4];
        for (word, bytes) in wanted.iter_mut().zip(query.padded().chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        }
        Search { catalog: &self.catalog, assignment: &self.assignment, segments, tail, wanted, distance }
    }

    fn result(&self, found: Found) -> Vec<(ContentId, u32)> {
        if found.scans > 0 {
            self.scans.fetch_add(u64::from(found.scans), Ordering::Relaxed);
        }
        let id = |number| ContentId { kind: HashKind::Pdq, number };
        found.near.into_iter().map(|(number, distance)| (id(number), distance)).collect()
    }

    /// What is in no segment yet.
    fn tail(&self, segments: &[Segment]) -> Range<u32> {
        segments.last().map_or(0, |last| last.range.end)..self.catalog.known(HashKind::Pdq)
    }

    fn build(&self, range: Range<u32>, threads: usize) -> Segment {
        Segment::build(&self.source(), range, threads)
    }

    fn source(&self) -> Source<'_> {
        Source { catalog: &self.catalog, assignment: &self.assignment, processor: self.processor }
    }

    /// The life of the merger.
    fn merge_while_needed(&self) {
        while !self.ending.load(Ordering::Relaxed) {
            if !self.take_up_tail() {
                thread::park();
                continue;
            }
            let segments = self.segments.load_full();
            let [base, last] = &segments[..] else { unreachable!("two segments outside of a merge") };
            if last.len() > SMALL_SEGMENT.max(base.len() / 8) {
                self.merge(&segments);
            }
        }
    }

    /// Takes the tail up into the last segment, if it is long.
    fn take_up_tail(&self) -> bool {
        let mut segments = Vec::clone(&self.segments.load());
        let tail = self.tail(&segments);
        let last = segments.last_mut().expect("never without a segment");
        if tail.len() <= (last.len() / 8).clamp(SHORT_TAIL, LONG_TAIL) as usize {
            return false;
        }
        *last = self.build(last.range.start..tail.end, 1);
        self.segments.store(Arc::new(segments));
        true
    }

    /// Builds a new base of both segments, and puts it in the old one's place part by part, so that there is never more than
    /// one part too many in memory. What comes meanwhile goes into a third segment.
    fn merge(&self, segments: &[Segment]) {
        let mut segments = segments.to_vec();
        let end = segments[1].range.end;
        segments.push(Segment::empty(end));
        self.segments.store(Arc::new(segments));
        let mut replaced = 0;
        self.source().parts(0..end, |part, built| {
            let mut segments = Vec::clone(&self.segments.load());
            segments[0].parts[part] = Arc::new(built);
            self.segments.store(Arc::new(segments));
            replaced += 1;
            self.take_up_tail();
            !self.ending.load(Ordering::Relaxed)
        });
        if replaced == secret::PARTS {
            let mut segments = Vec::clone(&self.segments.load());
            segments.remove(1);
            segments[0].range = 0..end;
            self.segments.store(Arc::new(segments));
        }
    }
}

#[cfg(test)]
mod tests {
    use hashmesh_protocol::catalog::Curator;
    use hashmesh_protocol::entries::Entries;
    use hashmesh_protocol::names::LogId;
    use hashmesh_protocol::opening::{Opening, Salt, commitment};
    use hashmesh_protocol::statement::{Add, Labels, Leaf, Statement};
    use hashmesh_protocol::time::Timestamp;
    use proptest::prelude::*;

    use super::*;

    /// Numbers that look random, the same each time.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        }

        fn hash(&mut self) -> [u8; 32] {
            let words = [(); 4].map(|()| self.next().to_le_bytes());
            words.concat().try_into().unwrap()
        }

        fn flipped(&mut self, mut hash: [u8; 32], most: u64) -> [u8; 32] {
            for _ in 0..self.next() % (most + 1) {
                let bit = self.next() as usize % 256;
                hash[bit / 8] ^= 1 << (bit % 8);
            }
            hash
        }

        fn assignment(&mut self) -> Assignment {
            Assignment::random(|| self.next())
        }
    }

    fn pdq(bytes: [u8; 32]) -> ContentHash {
        ContentHash::new(HashKind::Pdq, &bytes).unwrap()
    }

    fn show(curator: &mut Curator, first: u64, hashes: &[[u8; 32]]) {
        let log = LogId { member: "acme".parse().unwrap(), epoch: 0 };
        let mut composer = Entries::compose(log, first);
        for bytes in hashes {
            let opening = Opening::of(&pdq(*bytes), Salt([1; 16]), None).encode();
            let statement = Statement::Add(Add {
                kind: HashKind::Pdq as u64,
                commitment: commitment(&opening),
                labels: Labels::new(&[1]).unwrap(),
                media: 1,
                quality: None,
                expiry: None,
                incident: None,
                replaces: None,
            });
            composer.push(Leaf { time: Timestamp(1), statement }, Some((&opening, pdq(*bytes))));
        }
        if let Some(entries) = composer.finish() {
            curator.show(&entries, |_| ());
        }
    }

    /// A list with near duplicates, and queries of which most are near something.
    fn list(numbers: &mut Numbers, count: usize) -> Vec<[u8; 32]> {
        let mut list: Vec<[u8; 32]> = Vec::new();
        for _ in 0..count {
            let hash = match list.len() {
                len if len > 0 && numbers.next().is_multiple_of(3) => {
                    let of = list[numbers.next() as usize % len];
                    numbers.flipped(of, 40)
                }
                _ => numbers.hash(),
            };
            list.push(hash);
        }
        list
    }

    #[track_caller]
    fn agrees(near: &Near, numbers: &mut Numbers, list: &[[u8; 32]], queries: usize) {
        for _ in 0..queries {
            let of = list[numbers.next() as usize % list.len()];
            let query = pdq(numbers.flipped(of, 40));
            for distance in [0, 1, 7, 8, 15, 16, 24, 30, 31] {
                assert_eq!(near.within(&query, distance), near.scan(&query, distance), "{query} at {distance}");
            }
        }
    }

    #[test]
    fn every_kernel_finds_what_a_scan_finds_at_every_size() {
        let mut numbers = Numbers(1);
        for count in [1, 2, 15, 300, 5_000, 70_000] {
            let list = list(&mut numbers, count);
            for processor in Processor::available() {
                let (mut curator, catalog) = Catalog::new([1, 2]);
                list.chunks(4096).zip((0..).step_by(4096)).for_each(|(piece, first)| show(&mut curator, first, piece));
                let near = Near::with(catalog, numbers.assignment(), processor);
                agrees(&near, &mut numbers, &list, 60);
                assert_eq!(near.status().tail, 0);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// The bounds of parts and of neighbours leave nothing out, however the differing bits lie.
        #[test]
        fn nothing_within_the_distance_is_missed(seed: u64, bits in proptest::collection::btree_set(0usize..256, 0..=31)) {
            let mut numbers = Numbers(seed);
            let mut list = list(&mut numbers, 2_000);
            let query = list[1_000];
            let mut stored = query;
            bits.iter().for_each(|bit| stored[bit / 8] ^= 1 << (bit % 8));
            list.push(stored);
            let (mut curator, catalog) = Catalog::new([1, 2]);
            show(&mut curator, 0, &list);
            let stored = catalog.find(&pdq(stored)).unwrap();
            let near = Near::with(catalog, numbers.assignment(), Processor::best());
            prop_assert!(near.within(&pdq(query), bits.len() as u32).contains(&(stored, bits.len() as u32)));
        }
    }

    #[test]
    fn what_is_added_is_found_at_once_and_while_segments_are_merged() {
        let mut numbers = Numbers(2);
        let list = list(&mut numbers, 400_000);
        let (mut curator, catalog) = Catalog::new([1, 2]);
        let near = Near::with(catalog.clone(), numbers.assignment(), Processor::best());
        let mut shown = 0;
        for piece in list.chunks(4096) {
            show(&mut curator, shown, piece);
            near.grown();
            shown += piece.len() as u64;
            for hash in [piece[0], piece[piece.len() - 1], list[numbers.next() as usize % shown as usize]] {
                let query = pdq(numbers.flipped(hash, 31));
                assert_eq!(near.within(&query, 31), near.scan(&query, 31));
            }
        }
        let begun = std::time::Instant::now();
        while near.status().tail > u64::from(LONG_TAIL) || near.shared.segments.load().len() > 2 {
            assert!(begun.elapsed().as_secs() < 60, "the tail is not taken up");
            near.grown();
            std::thread::yield_now();
        }
        agrees(&near, &mut numbers, &list, 20);
    }

    #[test]
    fn a_list_made_to_overflow_buckets_is_scanned_instead() {
        let mut numbers = Numbers(3);
        let centre = numbers.hash();
        let list: Vec<_> = (0..100_000).map(|_| numbers.flipped(centre, 8)).collect();
        let (mut curator, catalog) = Catalog::new([1, 2]);
        list.chunks(4096).zip((0..).step_by(4096)).for_each(|(piece, first)| show(&mut curator, first, piece));
        let near = Near::with(catalog, numbers.assignment(), Processor::best());
        assert_eq!(near.within(&pdq(centre), 31), near.scan(&pdq(centre), 31));
        assert_eq!(near.status().scans, 1);
        let elsewhere = pdq(numbers.hash());
        assert_eq!(near.within(&elsewhere, 31), []);
        assert_eq!(near.status().scans, 1, "other queries are not slowed down");
    }
}
