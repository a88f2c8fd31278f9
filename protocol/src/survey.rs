//! The tree over what is live of all that a member has said (SPEC 4.8, 19.8), worked out from stored leaves.
//!
//! Goes over the leaves twice and holds two bits for each, and no more hashes than a tree is high: so a list of ten million
//! statements takes a few megabytes, beside everything else that the node does.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::bundle;
use crate::codec;
use crate::digest::Digest;
use crate::entries::{Entries, EntriesError, MAX_LEAVES};
use crate::erasure::Cuts;
use crate::names::LogId;
use crate::serve::Archive;
use crate::statement::{Position, Statement};
use crate::tree::edge::Edge;
use crate::tree::leaf_hash;

/// What is live of a member's logs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Survey {
    /// The root of the tree over it.
    pub root: Digest,
    /// How many statements.
    pub count: u64,
}

/// A live statement in the tree, with the proof that it is there.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Neighbour {
    /// Which of the tree's leaves, counted from 0.
    pub number: u64,
    /// Where the statement stands.
    pub position: Position,
    /// The hash of its leaf.
    pub hash: Digest,
    /// The inclusion proof, sibling of the leaf first.
    pub path: Vec<Digest>,
}

/// Why there is no survey.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError<E> {
    /// The store.
    #[error(transparent)]
    Archive(E),
    /// What it holds.
    #[error("what is stored of {0} is no leaves")]
    Entries(LogId, #[source] EntriesError),
    /// Leaves are missing.
    #[error("{0} is shorter than it was")]
    Short(LogId),
}

/// One leaf of the tree over what is live.
pub fn live_hash(position: Position, hash: Digest) -> Digest {
    leaf_hash(&codec::encode(&(position.epoch, position.index, hash)))
}

/// Surveys the first leaves, so many of each, of all logs of one member that count, in ascending order.
pub fn survey<A: Archive>(archive: &A, logs: &[(LogId, u64)]) -> Result<Survey, SurveyError<A::Error>> {
    let live = Live::after(archive, logs)?;
    let mut edge = Edge::default();
    live.each(archive, logs, |_, hash| edge.push(hash))?;
    Ok(Survey { root: edge.root(), count: edge.size() })
}

/// The live statements next to a place at which none is live: the last before it and the first after it, with their proofs.
/// `None` if the statement there is live.
pub fn neighbours<A: Archive>(
    archive: &A,
    logs: &[(LogId, u64)],
    at: Position,
) -> Result<Option<[Option<Neighbour>; 2]>, SurveyError<A::Error>> {
    let live = Live::after(archive, logs)?;
    if live.is_live(at) {
        return Ok(None);
    }
    let (count, before) = (live.count(|_| true), live.count(|position| position < at));
    let numbers = [before.checked_sub(1), (before < count).then_some(before)];
    let mut wanted = numbers.map(|number| number.map(|number| Path::new(number, count)));
    let mut number = 0;
    let mut found: [Option<Neighbour>; 2] = [None, None];
    live.each_statement(archive, logs, |position, hash| {
        let in_tree = live_hash(position, hash);
        for (path, found) in wanted.iter_mut().zip(&mut found) {
            let Some(path) = path else { continue };
            path.take(number, in_tree);
            if path.number == number {
                *found = Some(Neighbour { number, position, hash, path: Vec::new() });
            }
        }
        number += 1;
    })?;
    for (path, found) in wanted.into_iter().zip(&mut found) {
        if let (Some(path), Some(found)) = (path, found) {
            found.path = path.finish();
        }
    }
    Ok(Some(found))
}

/// An inclusion proof in the making, while the leaves go by: the roots of the subtrees beside the way from leaf to root
/// (RFC 6962, section 2.1.1).
struct Path {
    number: u64,
    /// What each hash of the proof is the root of, sibling of the leaf first.
    beside: Vec<(Range<u64>, Edge)>,
}

impl Path {
    fn new(number: u64, count: u64) -> Self {
        let (mut whole, mut beside) = (0..count, Vec::new());
        while whole.end - whole.start > 1 {
            // The largest power of two below the width.
            let split = whole.start + (1 << (whole.end - whole.start - 1).ilog2());
            let (left, right) = (whole.start..split, split..whole.end);
            let (on, off) = if left.contains(&number) { (left, right) } else { (right, left) };
            beside.push((off, Edge::default()));
            whole = on;
        }
        beside.reverse();
        Self { number, beside }
    }

    fn take(&mut self, number: u64, hash: Digest) {
        if let Some((_, edge)) = self.beside.iter_mut().find(|(range, _)| range.contains(&number)) {
            edge.push(hash);
        }
    }

    fn finish(self) -> Vec<Digest> {
        self.beside.into_iter().map(|(_, edge)| edge.root()).collect()
    }
}

/// Which statements are live, by epoch: a bit a leaf, and another while that is worked out.
#[derive(Default)]
struct Live(BTreeMap<u32, Vec<u64>>);

impl Live {
    fn after<A: Archive>(archive: &A, logs: &[(LogId, u64)]) -> Result<Self, SurveyError<A::Error>> {
        let bits = |size: u64| vec![0; usize::try_from(size.div_ceil(64)).expect("fewer leaves than memory has bits")];
        let mut live = Self(logs.iter().map(|(log, size)| (log.epoch, bits(*size))).collect());
        let mut ended = Self(live.0.clone());
        let mut cuts = Cuts::default();
        // The newest first: only later logs can void what is in earlier ones, so each is read no further than it counts.
        for &(log, size) in logs.iter().rev() {
            let size = size.min(cuts.of(log.epoch));
            read(archive, log, size, |entries| {
                for (index, entry) in entries.iter() {
                    let (here, statement) = (Position { epoch: log.epoch, index }, &entry.leaf.statement);
                    if statement.commitment().is_some() {
                        live.set(here);
                    }
                    if let Some(end) = statement.ends().filter(|end| *end < here) {
                        ended.set(end);
                    }
                    if let Statement::Void(void) = statement {
                        cuts.void(here, *void);
                    }
                }
            })?;
        }
        for (bits, ended) in live.0.values_mut().zip(ended.0.values()) {
            bits.iter_mut().zip(ended).for_each(|(bits, ended)| *bits &= !ended);
        }
        Ok(live)
    }

    /// Sets the bit of a leaf, if there is such a leaf.
    fn set(&mut self, at: Position) {
        let (Some(bits), Ok(word)) = (self.0.get_mut(&at.epoch), usize::try_from(at.index / 64)) else { return };
        if let Some(bits) = bits.get_mut(word) {
            *bits |= 1 << (at.index % 64);
        }
    }

    fn is_live(&self, at: Position) -> bool {
        let bits = || self.0.get(&at.epoch)?.get(usize::try_from(at.index / 64).ok()?);
        bits().is_some_and(|bits| bits >> (at.index % 64) & 1 == 1)
    }

    /// How many of the live positions are wanted; those that are wanted come first.
    fn count(&self, wanted: impl Fn(Position) -> bool) -> u64 {
        let mut count = 0;
        for (&epoch, bits) in &self.0 {
            for (word, bits) in (0..).zip(bits) {
                let last = Position { epoch, index: word * 64 + 63 };
                count += if wanted(last) {
                    u64::from(bits.count_ones())
                } else {
                    let in_word = (0..64).filter(|bit| bits >> bit & 1 == 1);
                    in_word.filter(|bit| wanted(Position { epoch, index: word * 64 + bit })).count() as u64
                };
            }
        }
        count
    }

    /// Hands out the hashes of the tree's leaves, in order.
    fn each<A: Archive>(
        &self,
        archive: &A,
        logs: &[(LogId, u64)],
        mut visit: impl FnMut(Position, Digest),
    ) -> Result<(), SurveyError<A::Error>> {
        self.each_statement(archive, logs, |position, hash| visit(position, live_hash(position, hash)))
    }

    /// Hands out the live statements with the hashes of their leaves, in order.
    fn each_statement<A: Archive>(
        &self,
        archive: &A,
        logs: &[(LogId, u64)],
        mut visit: impl FnMut(Position, Digest),
    ) -> Result<(), SurveyError<A::Error>> {
        for &(log, size) in logs {
            read(archive, log, size, |entries| {
                for (index, entry) in entries.iter() {
                    let position = Position { epoch: log.epoch, index };
                    if self.is_live(position) {
                        visit(position, entry.leaf_hash);
                    }
                }
            })?;
        }
        Ok(())
    }
}

/// Reads the first `size` leaves of a log.
fn read<A: Archive>(
    archive: &A,
    log: LogId,
    size: u64,
    mut visit: impl FnMut(&Entries),
) -> Result<(), SurveyError<A::Error>> {
    let mut from = 0;
    while from < size {
        let to = size.min(from + MAX_LEAVES as u64);
        let bundles = archive.bundles(log, from, to, usize::MAX).map_err(SurveyError::Archive)?;
        if bundles.count == 0 {
            return Err(SurveyError::Short(log));
        }
        // What opens the leaves has no part in it.
        let closed = unopened(bundles.count);
        let entries = Entries::read(log, from, bundles.leaves, closed);
        let entries = entries.map_err(|error| SurveyError::Entries(log, error))?;
        visit(&entries);
        from = entries.end();
    }
    Ok(())
}

/// A bundle of so many empty openings.
fn unopened(count: u64) -> Vec<u8> {
    let mut openings = Vec::new();
    (0..count).for_each(|_| bundle::push(&mut openings, &[]));
    openings
}
