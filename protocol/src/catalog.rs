//! Who says what about each content hash, now (SPEC 11).
//!
//! One [`Curator`] writes, any number of readers look, and none of them waits for another: everything is append-only
//! arrays of atomics, and a change becomes visible by storing one link. So a match query never stands behind an import, and
//! an import never behind a slow query.
//!
//! Derived from admitted leaves and openings alone, in any order in which they can arrive, with the same result. Does not
//! know the charter (which labels exist, who is a member still) nor the policy: those are asked when a verdict is needed.

mod column;
mod curator;
mod directory;
mod shelf;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use column::OnBlock;
use column::{Column, Column32};
pub use curator::{Curator, Hidden};
use shelf::Shelf;

use crate::content_hash::{ContentHash, HashKind};
use crate::names::{LogId, MemberId};
use crate::statement::{Labels, Position};
use crate::time::Timestamp;

/// A content hash in the catalog: its kind, and a number that counts up from 0 within the kind. Never given away again
/// while the process runs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ContentId {
    /// The kind.
    pub kind: HashKind,
    /// The number.
    pub number: u32,
}

/// What a statement says beside the content hash.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Attributes {
    /// It belongs on the list.
    Add {
        /// Codes of the charter's vocabulary.
        labels: Labels,
        /// What was hashed, by registry number.
        media: u64,
        /// The PDQ quality, where known.
        quality: Option<u8>,
        /// From then on without effect.
        expiry: Option<Timestamp>,
        /// The number of an incident.
        incident: Option<u64>,
    },
    /// It should not be acted on.
    Dispute {
        /// Why, by registry number.
        reason: u64,
    },
}

/// A member's live word on a content hash.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Said<'a> {
    /// The log that it stands in.
    pub log: LogId,
    /// Where it stands.
    pub index: u64,
    /// When, by the author's clock.
    pub time: Timestamp,
    /// What.
    pub attributes: &'a Attributes,
    /// Whether enough witnesses have cosigned a tree that holds it.
    pub settled: bool,
}

impl Said<'_> {
    /// Its place among the member's own statements.
    pub fn position(&self) -> Position {
        Position { epoch: self.log.epoch, index: self.index }
    }
}

/// What stands at a place of a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// No leaf that has been shown, or one that neither adds nor disputes.
    Nothing,
    /// An add or dispute without an opening: nobody can say of what, nor here whether it is live.
    Unopened,
    /// A statement about this hash.
    Opened {
        /// The hash.
        hash: ContentHash,
        /// Whether the statement is live.
        live: bool,
    },
}

/// The catalog, for reading.
pub struct Catalog {
    shelves: [Shelf; HashKind::ALL.len()],
    rows: Rows,
    attributes: boxcar::Vec<Attributes>,
    logs: boxcar::Vec<LogEntry>,
    live: [AtomicU64; HashKind::ALL.len()],
    on_block: OnBlock,
}

/// One log, as far as readers need it.
struct LogEntry {
    id: LogId,
    /// Where the author's time changes: first index, and the time from there on. A batch has one time or few.
    times: boxcar::Vec<(u64, Timestamp)>,
    /// How many of its leaves are settled.
    settled: AtomicU64,
    /// The row of each leaf that has one, counted from one; [`UNOPENED`] where it may still get one; else [`NO_ROW`].
    rows: Column32,
}

/// One row a statement.
///
/// A content hash has one row a member in its chain: that of the newest of its statements which has been opened, live or
/// not. So a chain is never longer than the federation has members, whatever a member repeats.
struct Rows {
    /// Index (40 bits), log number (16 bits), flags (8 bits).
    places: Column,
    /// Attributes (32 bits), next row (32 bits).
    links: Column,
    /// The content hash, packed; read by the writer only.
    contents: Column,
}

/// Hashes that are looked up together: about as many as the processor can wait for at once.
const TOGETHER: usize = 32;

/// In a link: there is no row. Row numbers in links are one higher than the row's.
const NO_ROW: u32 = 0;

/// In the place of a row: the leaf adds or disputes, and its content hash is not known.
const UNOPENED: u32 = u32::MAX;

/// The flag of a row whose statement has ended.
const ENDED: u64 = 1;

impl Catalog {
    /// An empty catalog and the one that may write it. `key` is random, so that nobody who chooses content hashes can make
    /// them collide.
    pub fn new(key: [u64; 2]) -> (Curator, Arc<Self>) {
        Self::told(key, |_, _| ())
    }

    /// The same; `on_block` is told of large pieces of memory, so that the system can be asked for large pages.
    pub fn told(key: [u64; 2], on_block: OnBlock) -> (Curator, Arc<Self>) {
        let column = || Column::new(on_block);
        let catalog = Arc::new(Self {
            shelves: HashKind::ALL.map(|kind| Shelf::new(kind, key, on_block)),
            rows: Rows { places: column(), links: column(), contents: column() },
            attributes: boxcar::Vec::new(),
            logs: boxcar::Vec::new(),
            live: Default::default(),
            on_block,
        });
        (Curator::new(catalog.clone()), catalog)
    }

    /// Looks a content hash up. Found or not says nothing about whether anybody stands by it: see [`said`](Self::said).
    pub fn find(&self, hash: &ContentHash) -> Option<ContentId> {
        let number = self.shelf(hash.kind()).find(hash)?;
        Some(ContentId { kind: hash.kind(), number })
    }

    /// Looks many up at once, so that the processor waits for memory once for all of them, not for each; and so that asking
    /// what is [`said`](Self::said) about them afterwards does not wait again.
    pub fn find_all(&self, hashes: &[ContentHash]) -> Vec<Option<ContentId>> {
        if let [hash] = hashes {
            return vec![self.find(hash)];
        }
        let mut found = Vec::with_capacity(hashes.len());
        let mut read = 0;
        for hashes in hashes.chunks(TOGETHER) {
            let (mut tags, mut guesses) = ([0; TOGETHER], [0; TOGETHER]);
            for (tag, hash) in tags.iter_mut().zip(hashes) {
                *tag = self.shelf(hash.kind()).tag(hash);
            }
            for ((guess, tag), hash) in guesses.iter_mut().zip(tags).zip(hashes) {
                *guess = self.shelf(hash.kind()).guess(tag);
            }
            for (number, hash) in guesses.into_iter().zip(hashes) {
                let shelf = self.shelf(hash.kind());
                read ^= shelf.first_word(number) ^ u64::from(shelf.head(number));
            }
            let first = found.len();
            found.extend(hashes.iter().zip(tags).map(|(hash, tag)| {
                let kind = hash.kind();
                Some(ContentId { kind, number: self.shelf(kind).find_by(tag, hash)? })
            }));
            for id in found[first..].iter().flatten() {
                let row = self.shelf(id.kind).head(id.number).saturating_sub(1);
                read ^= self.rows.places.get(row) ^ self.rows.links.get(row);
            }
        }
        // What was read is not needed, only that it was read.
        std::hint::black_box(read);
        found
    }

    /// The tags of up to [`TOGETHER`] hashes. Looking them up afterwards is fast: what that begins with has been read, so
    /// that the processor waits for memory once for all of them.
    fn touch(&self, hashes: impl Iterator<Item = Option<ContentHash>>) -> [u32; TOGETHER] {
        let (mut tags, mut shelves) = ([0; TOGETHER], [None; TOGETHER]);
        for ((tag, shelf), hash) in tags.iter_mut().zip(&mut shelves).zip(hashes) {
            if let Some(hash) = hash {
                *tag = shelf.insert(self.shelf(hash.kind())).tag(&hash);
            }
        }
        // What is read is not needed, only that it is read.
        for (tag, shelf) in tags.iter().zip(shelves) {
            std::hint::black_box(shelf.map(|shelf| shelf.guess(*tag)));
        }
        tags
    }

    /// The content hash with this id.
    pub fn hash(&self, id: ContentId) -> ContentHash {
        self.shelf(id.kind).hash(id.number)
    }

    /// The PDQ hashes with these numbers as they lie in memory: in order, in few slices, four little-endian words a hash.
    /// They never change and never move.
    #[inline]
    pub fn pdq_words(&self, numbers: Range<u32>) -> impl Iterator<Item = &[AtomicU64]> {
        self.shelf(HashKind::Pdq).words(numbers)
    }

    /// How many content hashes of a kind were ever opened here; their numbers are all below.
    pub fn known(&self, kind: HashKind) -> u32 {
        self.shelf(kind).len()
    }

    /// How many content hashes of a kind somebody stands by: with a live add or dispute.
    pub fn live(&self, kind: HashKind) -> u64 {
        self.live[kind as usize - 1].load(Ordering::Relaxed)
    }

    /// Memory that looking up hashes of a kind takes, in bytes: the hashes, and the way from hash to number.
    pub fn exact_bytes(&self, kind: HashKind) -> u64 {
        self.shelf(kind).bytes()
    }

    /// What the members say about a content hash: at most one statement each, live ones only, in no particular order.
    pub fn said(&self, id: ContentId) -> impl Iterator<Item = Said<'_>> {
        self.live_rows(id).map(|(place, attributes)| self.read(place, attributes))
    }

    /// Place and attributes of each live statement about a content hash.
    fn live_rows(&self, id: ContentId) -> impl Iterator<Item = (Place, u32)> {
        let mut next = self.shelf(id.kind).head(id.number);
        std::iter::from_fn(move || {
            let row = next.checked_sub(1)?;
            let place = Place(self.rows.places.get(row));
            let (attributes, after) = split(self.rows.links.get(row));
            next = after;
            Some((place, attributes))
        })
        .filter(|(place, _)| !place.ended())
    }

    /// What one member says about a content hash.
    pub fn word_of(&self, member: MemberId, id: ContentId) -> Option<Said<'_>> {
        self.said(id).find(|said| said.log.member == member)
    }

    /// What stands at a place of a log.
    pub fn standing(&self, log: LogId, index: u64) -> Standing {
        let entry = self.logs.iter().find(|(_, entry)| entry.id == log);
        let row = entry.and_then(|(_, entry)| Some(entry.rows.get(u32::try_from(index).ok()?)));
        match row {
            None | Some(NO_ROW) => Standing::Nothing,
            Some(UNOPENED) => Standing::Unopened,
            Some(row) => {
                let hash = self.hash(unpack(self.rows.contents.get(row - 1)));
                Standing::Opened { hash, live: !Place(self.rows.places.get(row - 1)).ended() }
            }
        }
    }

    /// Everything that a member has ever said about a content hash, live or not, in order. Goes over all that it has said.
    pub fn all_of(&self, member: MemberId, id: ContentId) -> Vec<Position> {
        let about = pack(id);
        let mut all = Vec::new();
        for (_, entry) in self.logs.iter().filter(|(_, entry)| entry.id.member == member) {
            let rows = entry.rows.slices(0..u32::MAX).flatten().map(|row| row.load(Ordering::Acquire));
            let rows = (0..).zip(rows);
            let said = rows.filter(|(_, row)| *row != NO_ROW && *row != UNOPENED);
            let same = said.filter(|(_, row)| self.rows.contents.get(row - 1) == about);
            all.extend(same.map(|(index, _)| Position { epoch: entry.id.epoch, index }));
        }
        all.sort();
        all
    }

    fn read(&self, place: Place, attributes: u32) -> Said<'_> {
        let log = &self.logs[usize::from(place.log())];
        let attributes = &self.attributes[attributes as usize];
        let settled = place.index() < log.settled.load(Ordering::Relaxed);
        Said { log: log.id, index: place.index(), time: log.time(place.index()), attributes, settled }
    }

    fn shelf(&self, kind: HashKind) -> &Shelf {
        &self.shelves[kind as usize - 1]
    }
}

impl LogEntry {
    fn new(id: LogId, on_block: OnBlock) -> Self {
        Self { id, times: boxcar::Vec::new(), settled: AtomicU64::new(0), rows: Column32::new(on_block) }
    }

    /// The time of a leaf: that of the last change at or before it.
    fn time(&self, index: u64) -> Timestamp {
        let (mut low, mut high) = (0, self.times.count());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.times[middle].0 <= index { low = middle + 1 } else { high = middle }
        }
        low.checked_sub(1).map_or(Timestamp::default(), |at| self.times[at].1)
    }
}

/// A packed place: index, log number, flags.
#[derive(Clone, Copy)]
struct Place(u64);

impl Place {
    fn new(index: u64, log: u16) -> Self {
        Self(index << 24 | u64::from(log) << 8)
    }

    fn index(self) -> u64 {
        self.0 >> 24
    }

    fn log(self) -> u16 {
        (self.0 >> 8) as u16
    }

    fn ended(self) -> bool {
        self.0 & ENDED != 0
    }
}

/// Packs attributes and link.
fn join(attributes: u32, next: u32) -> u64 {
    u64::from(attributes) << 32 | u64::from(next)
}

fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// Packs a content id.
fn pack(id: ContentId) -> u64 {
    u64::from(id.kind as u8) << 32 | u64::from(id.number)
}

fn unpack(word: u64) -> ContentId {
    let kind = HashKind::from_number(word >> 32).expect("written by pack");
    ContentId { kind, number: word as u32 }
}
