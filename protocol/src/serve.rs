//! Answering what peers ask, from what is stored (SPEC 13.4).
//!
//! Reads only: serving others never enters the write path. Works over any [`Archive`], so that the daemon and the simulator
//! answer alike. Does not know who asks; who may ask for what is decided where the connection is.

use crate::batch::{self, MAX_BATCH};
use crate::bundle;
use crate::digest::Digest;
use crate::entries::MAX_LEAVES;
use crate::evidence::Accused;
use crate::names::{LogId, OriginPrefix};
use crate::note::{MAX_NOTE, Note};
use crate::statement::Position;
use crate::tree::proof::MAX_PROOF;
use crate::tree::prover::{self, Subtrees};
use crate::wire::{Answer, MAX_OPENINGS};

/// What a node has stored, for reading.
pub trait Archive {
    /// What can go wrong when it is read.
    type Error;

    /// The largest checkpoint kept of a log with a size in `above + 1 ..= up_to`; all its leaves are stored.
    fn checkpoint(&self, log: LogId, above: u64, up_to: u64) -> Result<Option<(u64, Note)>, Self::Error>;

    /// Leaves from `from` on, none from `to` on, as many as fit `max_bytes` together with their openings.
    fn bundles(&self, log: LogId, from: u64, to: u64, max_bytes: usize) -> Result<Bundles, Self::Error>;

    /// By which leaf an opening is erased, if it is; [`bundles`](Self::bundles) shows it no more.
    fn erased(&self, log: LogId, index: u64) -> Option<Position>;

    /// The evidence against a key.
    fn evidence(&self, accused: Accused) -> Result<Option<Vec<u8>>, Self::Error>;

    /// A hash of the log's tree, as [`Subtrees::subtree`].
    fn subtree(&self, log: LogId, level: u32, index: u64) -> Result<Digest, Self::Error>;
}

/// Stored leaves and openings.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Bundles {
    /// How many leaves.
    pub count: u64,
    /// The bundle of leaves.
    pub leaves: Vec<u8>,
    /// The bundle of openings, empty entries where there is none.
    pub openings: Vec<u8>,
}

/// An archive from which no opening is handed out: for who may verify everything, and see no content hash (SPEC 14.8).
#[derive(Clone, Copy, Debug)]
pub struct WithoutOpenings<'a, A>(pub &'a A);

impl<A: Archive> Archive for WithoutOpenings<'_, A> {
    type Error = A::Error;

    fn checkpoint(&self, log: LogId, above: u64, up_to: u64) -> Result<Option<(u64, Note)>, A::Error> {
        self.0.checkpoint(log, above, up_to)
    }

    fn bundles(&self, log: LogId, from: u64, to: u64, max_bytes: usize) -> Result<Bundles, A::Error> {
        let mut bundles = self.0.bundles(log, from, to, max_bytes)?;
        bundles.openings.clear();
        (0..bundles.count).for_each(|_| bundle::push(&mut bundles.openings, &[]));
        Ok(bundles)
    }

    fn erased(&self, log: LogId, index: u64) -> Option<Position> {
        self.0.erased(log, index)
    }

    fn evidence(&self, accused: Accused) -> Result<Option<Vec<u8>>, A::Error> {
        self.0.evidence(accused)
    }

    fn subtree(&self, log: LogId, level: u32, index: u64) -> Result<Digest, A::Error> {
        self.0.subtree(log, level, index)
    }
}

/// What of a batch on the wire is not leaves and openings, at most: the checkpoint, the proof, the origin, heads of items.
const ENVELOPE: usize = MAX_NOTE + MAX_PROOF * 34 + 512;

/// One log of an archive, as a tree.
struct Tree<'a, A> {
    archive: &'a A,
    log: LogId,
}

impl<A: Archive> Subtrees for Tree<'_, A> {
    type Error = A::Error;

    fn subtree(&self, level: u32, index: u64) -> Result<Digest, A::Error> {
        self.archive.subtree(self.log, level, index)
    }
}

/// The proof that the first `old` leaves of a log are a prefix of the first `new`, `old <= new`; all of them are stored.
pub fn consistency<A: Archive>(archive: &A, log: LogId, old: u64, new: u64) -> Result<Vec<Digest>, A::Error> {
    prover::consistency(&Tree { archive, log }, old, new)
}

/// The root over the first `size` leaves of a log; all of them are stored.
pub fn root<A: Archive>(archive: &A, log: LogId, size: u64) -> Result<Digest, A::Error> {
    prover::root(&Tree { archive, log }, size)
}

/// Answers a request for leaves: the frame to send.
///
/// Ends, if it can, where a checkpoint ends, so that whoever gets the leaves can serve them on at once; else a proof leads to
/// the newest checkpoint.
pub fn range<A: Archive>(
    archive: &A,
    origins: &OriginPrefix,
    log: LogId,
    from: u64,
    to: u64,
) -> Result<Vec<u8>, A::Error> {
    let not_held = || Ok(Answer::NotHeld.encode(origins));
    let Some((newest_size, newest)) = archive.checkpoint(log, from, u64::MAX)? else { return not_held() };
    let to = to.min(newest_size).min(from.saturating_add(MAX_LEAVES as u64));
    let mut bundles = archive.bundles(log, from, to, MAX_BATCH - ENVELOPE)?;
    if bundles.count == 0 {
        return not_held();
    }
    let (note, proof) = match archive.checkpoint(log, from, from + bundles.count)? {
        Some((size, note)) => {
            if size < from + bundles.count {
                bundles = archive.bundles(log, from, size, MAX_BATCH - ENVELOPE)?;
            }
            (note, Vec::new())
        }
        None => (newest, consistency(archive, log, from + bundles.count, newest_size)?),
    };
    let batch = batch::encode(origins.origin(log), from, bundles.leaves, bundles.openings, &note, proof);
    Ok(Answer::encode_range(batch))
}

/// Answers a request for evidence: the frame to send.
pub fn evidence<A: Archive>(archive: &A, origins: &OriginPrefix, accused: Accused) -> Result<Vec<u8>, A::Error> {
    let held = archive.evidence(accused)?;
    Ok(held.map_or(Answer::NotHeld, Answer::Evidence).encode(origins))
}

/// The inclusion proof of a stored leaf in the tree of the first `size` leaves, `index < size`.
pub fn inclusion<A: Archive>(archive: &A, log: LogId, index: u64, size: u64) -> Result<Vec<Digest>, A::Error> {
    prover::inclusion(&Tree { archive, log }, index, size)
}

/// Answers a request for openings: the frame to send.
pub fn openings<A: Archive>(
    archive: &A,
    origins: &OriginPrefix,
    log: LogId,
    indices: &[u64],
) -> Result<Vec<u8>, A::Error> {
    let (mut found, mut erased) = (Vec::new(), Vec::new());
    for &index in indices.iter().take(MAX_OPENINGS) {
        let Some(end) = index.checked_add(1) else { continue };
        let bundles = archive.bundles(log, index, end, MAX_BATCH)?;
        if let Some(Ok(opening)) = bundle::entries(&bundles.openings).next()
            && !opening.is_empty()
        {
            found.push((index, opening.to_vec()));
        } else if let Some(by) = archive.erased(log, index) {
            erased.push((index, by));
        }
    }
    Ok(Answer::Openings { found, erased }.encode(origins))
}
