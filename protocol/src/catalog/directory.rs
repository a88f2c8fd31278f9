//! From a content hash's tag to its number.
//!
//! Extendible hashing (Fagin, Nievergelt, Pippenger, Strong: Extendible Hashing, TODS 4(3), 1979): a directory of pages, and
//! open addressing within each. A page that is full is split in two, so that no insertion ever moves more than a page; the
//! old page is used again at a later split.
//!
//! One writes, any number look, nobody waits, nothing is freed while the catalog lives: so a reader needs no guard, and the
//! processor can work on several lookups at once. A reader may look at a page that is being used again. What it finds there
//! is right all the same, since the content hash itself is compared; and when it finds nothing, it looks whether there was a
//! split meanwhile, and if so once more.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::column::{Column, Column32, OnBlock};

/// Slots of a page.
const PAGE: u32 = 1 << 12;

/// Used slots at which a page is split: above that, probing takes long.
const FULL: u32 = PAGE / 4 * 3;

/// Most bits of a tag that choose the page. The others choose the slot.
const MAX_DEPTH: usize = 20;

/// A slot that holds nothing. Others hold a tag, and a number plus one.
const EMPTY: u64 = 0;

pub(super) struct Directory {
    /// The pages. The 0th is never used, so that each lies in one block.
    slots: Column,
    /// The page of each prefix of tags, for each length of prefix that there has been.
    pages: [OnceLock<Box<[AtomicU32]>>; MAX_DEPTH + 1],
    /// The length of prefixes now.
    depth: AtomicU32,
    splits: AtomicU32,
    /// For each page, for the writer: slots in use, and the length of the prefix that its tags share.
    used: Column32,
    depths: Column32,
    /// Pages there are, with the 0th.
    made: AtomicU32,
    /// A page that a split has left; 0: none.
    spare: AtomicU32,
}

impl Directory {
    pub(super) fn new(on_block: OnBlock) -> Self {
        let this = Self {
            slots: Column::new(on_block),
            pages: [const { OnceLock::new() }; MAX_DEPTH + 1],
            depth: AtomicU32::new(0),
            splits: AtomicU32::new(0),
            used: Column32::new(on_block),
            depths: Column32::new(on_block),
            made: AtomicU32::new(1),
            spare: AtomicU32::new(0),
        };
        let first = this.take_page();
        this.pages[0].get_or_init(|| Box::new([AtomicU32::new(first)]));
        this
    }

    /// The number that was inserted with this tag, and of which `is` says that it is the one.
    pub(super) fn find(&self, tag: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        loop {
            let splits = self.splits.load(Ordering::Acquire);
            let page = self.slots.run(self.page(tag) * PAGE, PAGE);
            for at in probe(tag) {
                let entry = page[at].load(Ordering::Acquire);
                if entry == EMPTY {
                    break;
                }
                if (entry >> 32) as u32 == tag && is((entry as u32).wrapping_sub(1)) {
                    return Some(entry as u32 - 1);
                }
            }
            if self.splits.load(Ordering::Acquire) == splits {
                return None;
            }
        }
    }

    /// The number that was inserted with this tag, if it stands where it is looked for first; else 0. Says nothing yet; but once
    /// it has been read, looking is fast. Without a branch: the processor goes on while memory answers, and reads more.
    #[inline]
    pub(super) fn guess(&self, tag: u32) -> u32 {
        let entry = self.slots.get(self.page(tag) * PAGE + tag % PAGE);
        (entry as u32).saturating_sub(1) * u32::from((entry >> 32) as u32 == tag)
    }

    /// Inserts a number, which is not there yet. Called by the writer only. Readers find it from now on, with all that was
    /// written before.
    pub(super) fn insert(&self, tag: u32, number: u32) {
        let mut page = self.page(tag);
        while self.used.get(page) >= FULL && (self.depths.get(page) as usize) < MAX_DEPTH {
            self.split(page, tag);
            page = self.page(tag);
        }
        self.put(page, u64::from(tag) << 32 | u64::from(number + 1));
    }

    /// Memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.made.load(Ordering::Relaxed)) * u64::from(PAGE) * 8
    }

    fn page(&self, tag: u32) -> u32 {
        let depth = self.depth.load(Ordering::Acquire);
        let pages = self.pages[depth as usize].get().expect("made before the depth is set");
        pages[prefix(tag, depth)].load(Ordering::Acquire)
    }

    fn put(&self, page: u32, entry: u64) {
        let slots = self.slots.run(page * PAGE, PAGE);
        let free = probe((entry >> 32) as u32).find(|at| slots[*at].load(Ordering::Relaxed) == EMPTY);
        slots[free.expect("a page is split before it is full")].store(entry, Ordering::Release);
        self.used.set(page, self.used.get(page) + 1);
    }

    /// Splits a page by the next bit of its tags.
    fn split(&self, old: u32, tag: u32) {
        let local = self.depths.get(old);
        let halves = [self.take_page(), self.take_page()];
        for half in halves {
            self.depths.set(half, local + 1);
        }
        for slot in self.slots.run(old * PAGE, PAGE) {
            let entry = slot.load(Ordering::Relaxed);
            if entry != EMPTY {
                let second = entry >> (63 - local) & 1;
                self.put(halves[second as usize], entry);
            }
        }
        let mut depth = self.depth.load(Ordering::Relaxed);
        if depth == local {
            let pages = self.pages[depth as usize].get().expect("made before the depth is set");
            depth += 1;
            let twice = (0..pages.len() * 2).map(|at| AtomicU32::new(pages[at / 2].load(Ordering::Relaxed)));
            self.pages[depth as usize].get_or_init(|| twice.collect());
        }
        let pages = self.pages[depth as usize].get().expect("just made");
        let each = 1 << (depth - local - 1);
        let first = prefix(tag, local) * each * 2;
        for (at, page) in pages[first..first + each * 2].iter().enumerate() {
            page.store(halves[at / each], Ordering::Release);
        }
        self.depth.store(depth, Ordering::Release);
        // Only after this may the old page change: whoever sees it change then sees that it must look again.
        self.splits.fetch_add(1, Ordering::Release);
        self.spare.store(old, Ordering::Relaxed);
    }

    /// An empty page.
    fn take_page(&self) -> u32 {
        let spare = self.spare.swap(0, Ordering::Relaxed);
        if spare == 0 {
            let page = self.made.fetch_add(1, Ordering::Relaxed);
            // Makes the memory, if this is the first page in it.
            self.slots.set(page * PAGE, EMPTY);
            return page;
        }
        self.slots.run(spare * PAGE, PAGE).iter().for_each(|slot| slot.store(EMPTY, Ordering::Release));
        self.used.set(spare, 0);
        spare
    }
}

/// The first bits of a tag.
fn prefix(tag: u32, bits: u32) -> usize {
    (u64::from(tag) << bits >> 32) as usize
}

/// The slots of a page in the order in which a tag is looked for.
#[inline]
fn probe(tag: u32) -> impl Iterator<Item = usize> {
    (0..PAGE).map(move |step| (tag.wrapping_add(step) % PAGE) as usize)
}
