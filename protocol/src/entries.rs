//! Consecutive leaves of one log with what opens them: the bytes as they were signed, and what they say (SPEC 7).
//!
//! Reading them checks everything that can be checked without knowing the log: canonical form, time order, openings against
//! commitments, caps. It is pure and needs no ledger, so large stretches are read away from the thread that admits.

use crate::bundle::{self, CutShort};
use crate::codec::CodecError;
use crate::content_hash::ContentHash;
use crate::digest::Digest;
use crate::names::LogId;
use crate::opening::{MAX_OPENING, Opening, commitment, commitments};
use crate::statement::{Leaf, MAX_LEAF, Position, Statement};
use crate::time::Timestamp;
use crate::tree::{leaf_hash, leaf_hashes};

/// Most leaves that are read together (SPEC 7.1); charters may set a lower limit for batches.
pub const MAX_LEAVES: usize = 8192;

/// Highest index of a leaf plus one: positions are kept in 40 bits.
pub const MAX_LOG_SIZE: u64 = 1 << 40;

/// Why leaves cannot be read, whatever log they are of.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EntriesError {
    /// No leaves.
    #[error("no leaves")]
    None,
    /// More than [`MAX_LEAVES`], or past [`MAX_LOG_SIZE`].
    #[error("more leaves than are allowed")]
    TooMany,
    /// A bundle ends inside an entry.
    #[error(transparent)]
    CutShort(#[from] CutShort),
    /// SPEC 4.1: not the canonical bytes of a leaf.
    #[error("leaf {index} is malformed")]
    Leaf {
        /// Which.
        index: u64,
        /// How.
        #[source]
        error: CodecError,
    },
    /// SPEC 4.4: a leaf older than the one before it.
    #[error("leaf {index} is older than the one before it")]
    TimeGoesBack {
        /// Which.
        index: u64,
    },
    /// Not one opening (or empty place) a leaf.
    #[error("{leaves} leaves, but {openings} openings")]
    Openings {
        /// How many leaves.
        leaves: usize,
        /// How many openings.
        openings: usize,
    },
    /// SPEC 5.4: an opening that does not open the leaf's commitment, or one for a leaf that has none.
    #[error("the opening of leaf {index} does not open it")]
    WrongOpening {
        /// Which.
        index: u64,
    },
}

/// What is known of the content hash of a leaf.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disclosure {
    /// The leaf commits to nothing.
    NotCommitted,
    /// The opening is not here.
    Missing,
    /// The opening is here; the author may have committed to something that is no hash of that kind.
    Present(Option<ContentHash>),
}

/// One leaf, read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What it says.
    pub leaf: Leaf,
    /// Its place in the tree.
    pub leaf_hash: Digest,
    /// Its content hash.
    pub disclosure: Disclosure,
}

impl Entry {
    /// Its content hash, if it is known here.
    pub fn hash(&self) -> Option<ContentHash> {
        match self.disclosure {
            Disclosure::Present(hash) => hash,
            Disclosure::NotCommitted | Disclosure::Missing => None,
        }
    }
}

/// Consecutive leaves of one log. Holding them means that they are well-formed; not that their author signed them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entries {
    log: LogId,
    first: u64,
    entries: Vec<Entry>,
    leaves: Vec<u8>,
    openings: Vec<u8>,
}

impl Entries {
    /// The openings that these leaves want deleted: of which log of the author's and which leaf, and when it says so. Only what stands
    /// before a leaf can be (SPEC 11.3).
    pub fn erasures(&self) -> impl Iterator<Item = (LogId, u64, Timestamp)> {
        let log = self.log;
        self.iter().filter_map(move |(index, entry)| {
            let Statement::Erase(erase) = &entry.leaf.statement else { return None };
            let (at, by) = (erase.position, Position { epoch: log.epoch, index });
            (at < by).then_some((LogId { epoch: at.epoch, ..log }, at.index, entry.leaf.time))
        })
    }

    /// Reads the leaves that begin at index `first`, and their openings: two bundles with one entry a leaf, where an empty
    /// opening means that there is none.
    pub fn read(log: LogId, first: u64, leaves: Vec<u8>, openings: Vec<u8>) -> Result<Self, EntriesError> {
        let hashes = leaf_hashes(bundle::entries(&leaves).map_while(Result::ok).take(MAX_LEAVES));
        let mut entries: Vec<Entry> = Vec::with_capacity(hashes.len());
        for leaf_bytes in bundle::entries(&leaves) {
            let leaf_bytes = leaf_bytes?;
            if entries.len() == MAX_LEAVES || first.saturating_add(entries.len() as u64) >= MAX_LOG_SIZE {
                return Err(EntriesError::TooMany);
            }
            let index = first + entries.len() as u64;
            let leaf = Leaf::decode(leaf_bytes).map_err(|error| EntriesError::Leaf { index, error })?;
            if entries.last().is_some_and(|before| before.leaf.time > leaf.time) {
                return Err(EntriesError::TimeGoesBack { index });
            }
            entries.push(Entry { leaf, leaf_hash: hashes[entries.len()], disclosure: Disclosure::NotCommitted });
        }
        if entries.is_empty() {
            return Err(EntriesError::None);
        }
        let opened = commitments(bundle::entries(&openings).map_while(Result::ok).take(entries.len()));
        let mut count = 0;
        for opening in bundle::entries(&openings) {
            let opening = opening?;
            if let Some(entry) = entries.get_mut(count) {
                let index = first + count as u64;
                let disclosure = disclose(&entry.leaf, opening, || opened[count]);
                entry.disclosure = disclosure.ok_or(EntriesError::WrongOpening { index })?;
            }
            count += 1;
        }
        if count != entries.len() {
            return Err(EntriesError::Openings { leaves: entries.len(), openings: count });
        }
        Ok(Self { log, first, entries, leaves, openings })
    }

    /// No leaves yet, to be composed from `first` on.
    pub fn compose(log: LogId, first: u64) -> Composer {
        Composer(Self { log, first, entries: Vec::new(), leaves: Vec::new(), openings: Vec::new() })
    }

    /// The log that they are said to be of.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// The index of the first leaf.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The index after the last leaf: the size of the log with them.
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// What was read, with the indices.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        (self.first..).zip(&self.entries)
    }

    /// What was read, so many at a time, each with the index of its first.
    pub(crate) fn chunks(&self, size: usize) -> impl Iterator<Item = (u64, &[Entry])> {
        (self.first..).step_by(size).zip(self.entries.chunks(size))
    }

    /// The author's times of the first and the last leaf.
    pub fn times(&self) -> (Timestamp, Timestamp) {
        let time = |entry: Option<&Entry>| entry.expect("there are leaves").leaf.time;
        (time(self.entries.first()), time(self.entries.last()))
    }

    /// The bundle of leaves.
    pub fn leaves(&self) -> &[u8] {
        &self.leaves
    }

    /// The bundle of openings, one entry a leaf, empty where there is none.
    pub fn openings(&self) -> &[u8] {
        &self.openings
    }

    /// Without the leaves before `index`, which must be after the first and before the end.
    #[must_use]
    pub fn starting_at(&self, index: u64) -> Self {
        let skipped = usize::try_from(index - self.first).expect("fewer leaves than MAX_LEAVES");
        let rest = |bundle: &[u8]| {
            let skip: usize =
                bundle::entries(bundle).take(skipped).map(|entry| entry.map_or(0, |bytes| bytes.len() + 2)).sum();
            bundle[skip..].to_vec()
        };
        Self {
            log: self.log,
            first: index,
            entries: self.entries[skipped..].to_vec(),
            leaves: rest(&self.leaves),
            openings: rest(&self.openings),
        }
    }
}

/// Checks an opening, with the commitment to it, against a leaf: `None` if it is wrong, or if there must be none.
fn disclose(leaf: &Leaf, opening: &[u8], commitment: impl FnOnce() -> Digest) -> Option<Disclosure> {
    match leaf.statement.commitment() {
        None => opening.is_empty().then_some(Disclosure::NotCommitted),
        Some(_) if opening.is_empty() => Some(Disclosure::Missing),
        Some((_, committed)) => {
            let fits = opening.len() <= MAX_OPENING && commitment() == committed;
            let hash = || Opening::decode(opening).ok()?.content_hash(leaf.statement.hash_kind()?);
            fits.then(|| Disclosure::Present(hash()))
        }
    }
}

/// An opening that has been checked against the leaf it opens: one that was missing and has been found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LateOpening {
    log: LogId,
    index: u64,
    entry: Entry,
    opening: Vec<u8>,
}

impl LateOpening {
    /// Checks an opening against the bytes of the leaf at `index`, as this node has them.
    pub fn check(log: LogId, index: u64, leaf: &[u8], opening: Vec<u8>) -> Result<Self, EntriesError> {
        let decoded = Leaf::decode(leaf).map_err(|error| EntriesError::Leaf { index, error })?;
        match disclose(&decoded, &opening, || commitment(&opening)) {
            Some(disclosure @ Disclosure::Present(_)) => {
                let entry = Entry { leaf: decoded, leaf_hash: leaf_hash(leaf), disclosure };
                Ok(Self { log, index, entry, opening })
            }
            _ => Err(EntriesError::WrongOpening { index }),
        }
    }

    /// The log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// The leaf.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// What the leaf says, with its content hash.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The bytes of the opening.
    pub fn opening(&self) -> &[u8] {
        &self.opening
    }
}

/// Own leaves in the making.
pub struct Composer(Entries);

impl Composer {
    /// The index that the next leaf will have.
    pub fn next(&self) -> u64 {
        self.0.end()
    }

    /// How many leaves there are.
    pub fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.entries.is_empty()
    }

    /// Appends a leaf, with the opening of its commitment and the hash in it if it has one.
    ///
    /// # Panics
    /// If the leaf or its opening is over its cap: what is published has been checked before.
    pub fn push(&mut self, leaf: Leaf, opening: Option<(&[u8], ContentHash)>) {
        let bytes = leaf.encode();
        assert!(bytes.len() <= MAX_LEAF, "leaves of known kinds have at most 1 KiB");
        let (opening, disclosure) = match opening {
            Some((bytes, hash)) => (bytes, Disclosure::Present(Some(hash))),
            None => (&[][..], Disclosure::NotCommitted),
        };
        bundle::push(&mut self.0.leaves, &bytes);
        bundle::push(&mut self.0.openings, opening);
        self.0.entries.push(Entry { leaf, leaf_hash: leaf_hash(&bytes), disclosure });
    }

    /// The leaves; `None` if there are none.
    pub fn finish(self) -> Option<Entries> {
        (!self.0.entries.is_empty()).then_some(self.0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::content_hash::HashKind;
    use crate::opening::Salt;
    use crate::statement::tests::add;
    use crate::statement::{Position, Revoke, Statement};

    pub(crate) fn log() -> LogId {
        LogId { member: "acme".parse().expect("a member id"), epoch: 0 }
    }

    pub(crate) fn pdq(number: u64) -> ContentHash {
        let mut value = [0x0f; 32];
        value[..8].copy_from_slice(&number.to_be_bytes());
        ContentHash::new(HashKind::Pdq, &value).expect("32 bytes")
    }

    /// Adds of `pdq(n)`, one a number, from index `first`.
    pub(crate) fn adds(first: u64, numbers: impl IntoIterator<Item = u64>) -> Entries {
        let mut composer = Entries::compose(log(), first);
        for number in numbers {
            let opening = Opening::of(&pdq(number), Salt([1; 16]), None).encode();
            let leaf = Leaf { time: Timestamp(1000), statement: add(commitment(&opening), None) };
            composer.push(leaf, Some((&opening, pdq(number))));
        }
        composer.finish().expect("some leaves")
    }

    fn reread(entries: &Entries) -> Result<Entries, EntriesError> {
        Entries::read(entries.log, entries.first, entries.leaves.clone(), entries.openings.clone())
    }

    fn revoke(time: u64) -> Leaf {
        let position = Position { epoch: 0, index: 0 };
        Leaf { time: Timestamp(time), statement: Statement::Revoke(Revoke { position, reason: 1 }) }
    }

    #[test]
    fn what_is_composed_reads_back() {
        let entries = adds(7, 0..20);
        assert_eq!(reread(&entries), Ok(entries.clone()));
        assert_eq!((entries.first(), entries.end()), (7, 27));
        let hashes: Vec<_> = entries.iter().map(|(index, entry)| (index, entry.disclosure)).collect();
        assert_eq!(hashes[3], (10, Disclosure::Present(Some(pdq(3)))));
    }

    #[test]
    fn a_later_start_leaves_the_rest_as_it_was() {
        let all = adds(7, 0..20);
        let rest = all.starting_at(10);
        assert_eq!(reread(&rest), Ok(rest.clone()));
        assert_eq!(rest, adds(10, 3..20));
    }

    /// SPEC 5.3.
    #[test]
    fn an_opening_may_be_missing_but_never_wrong() {
        let entries = adds(0, 0..3);
        let replace = |at: usize, opening: &[u8]| {
            let mut openings = Vec::new();
            for (number, old) in bundle::entries(&entries.openings).enumerate() {
                bundle::push(&mut openings, if number == at { opening } else { old.unwrap() });
            }
            Entries::read(log(), 0, entries.leaves.clone(), openings)
        };
        let missing = replace(1, &[]).unwrap();
        assert_eq!(missing.entries[1].disclosure, Disclosure::Missing);
        let other = Opening::of(&pdq(1), Salt([2; 16]), None).encode();
        assert_eq!(replace(1, &other), Err(EntriesError::WrongOpening { index: 1 }));

        let leaf = bundle::entries(&entries.leaves).nth(1).unwrap().unwrap();
        let right = bundle::entries(&entries.openings).nth(1).unwrap().unwrap();
        let late = LateOpening::check(log(), 1, leaf, right.to_vec()).unwrap();
        assert_eq!(late.entry(), &entries.entries[1]);
        assert!(LateOpening::check(log(), 1, leaf, other).is_err());
        assert!(LateOpening::check(log(), 1, leaf, Vec::new()).is_err());
    }

    #[test]
    fn an_author_may_commit_to_nonsense_without_stopping_its_log() {
        let nonsense = b"\xff\xff";
        let mut composer = Entries::compose(log(), 0);
        let leaf = Leaf { time: Timestamp(1), statement: add(commitment(nonsense), None) };
        composer.push(leaf, Some((nonsense, pdq(0))));
        let read = reread(&composer.finish().unwrap()).unwrap();
        assert_eq!(read.entries[0].disclosure, Disclosure::Present(None));
    }

    #[test]
    fn malformed_stretches_are_refused() {
        let mut composer = Entries::compose(log(), 0);
        composer.push(revoke(2), None);
        composer.push(revoke(1), None);
        assert_eq!(reread(&composer.finish().unwrap()), Err(EntriesError::TimeGoesBack { index: 1 }));

        let good = adds(0, 0..3);
        let read = |leaves: &[u8], openings: &[u8]| Entries::read(log(), 0, leaves.to_vec(), openings.to_vec());
        assert_eq!(read(&[], &[]), Err(EntriesError::None));
        assert_eq!(read(&good.leaves, &[]), Err(EntriesError::Openings { leaves: 3, openings: 0 }));
        let twice = [&good.openings[..], &good.openings[..]].concat();
        assert_eq!(read(&good.leaves, &twice), Err(EntriesError::Openings { leaves: 3, openings: 6 }));
        assert_eq!(read(&good.leaves[..50], &good.openings), Err(CutShort.into()));
        assert!(matches!(read(&[0, 1, 0], &[0, 0]), Err(EntriesError::Leaf { index: 0, .. })));
        assert_eq!(read(&[0, 0].repeat(2), &[]).unwrap_err().to_string(), "leaf 0 is malformed");

        let mut one = Vec::new();
        bundle::push(&mut one, &revoke(1).encode());
        assert!(read(&one, &[0, 0]).is_ok());
        assert_eq!(read(&one, &[0, 1, 7]), Err(EntriesError::WrongOpening { index: 0 }));
        assert_eq!(read(&one.repeat(8193), &[0, 0].repeat(8193)), Err(EntriesError::TooMany));
        let past_the_end = Entries::read(log(), MAX_LOG_SIZE, one, vec![0, 0]);
        assert_eq!(past_the_end, Err(EntriesError::TooMany));
    }
}
