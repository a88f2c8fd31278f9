//! One log of the ledger.

use std::sync::Arc;

use rangemap::RangeSet;

use super::remarks::Remarks;
use super::{Admission, Damage, REPORTED, Refusal};
use crate::card::End;
use crate::checkpoint::SignedCheckpoint;
use crate::cosignature::SettledCheckpoint;
use crate::digest::Digest;
use crate::entries::{Disclosure, Entries};
use crate::names::LogId;
use crate::note::{Note, VerifierKey};
use crate::time::Timestamp;
use crate::tree::edge::Edge;
use crate::tree::empty_root;
use crate::tree::proof::verify_consistency;

/// A log as far as this node has it.
#[derive(Clone, Debug)]
pub struct Log {
    key: VerifierKey,
    edge: Edge,
    last_time: Timestamp,
    whole: Option<SignedCheckpoint>,
    ahead: Option<SignedCheckpoint>,
    /// The largest settled checkpoint that the leaves here lead to.
    settled: Option<Arc<SettledCheckpoint>>,
    /// One that they do not reach yet.
    settling: Option<Arc<SettledCheckpoint>>,
    /// Whether leaves may be added.
    writable: bool,
    /// Where it is said to end, and whether the leaves that are held there are those; `None` while that is not known.
    end: Option<(Mark, Option<bool>)>,
    /// For the own log: what this node itself had signed when it started.
    promised: Option<Mark>,
    missing: RangeSet<u64>,
    /// How many of them: the ranges may be a million.
    missing_count: u64,
    /// Leaves whose opening is erased.
    erased: RangeSet<u64>,
    /// Those of them whose opening is not here: looked for again if the erasure turns out to be void.
    gone: RangeSet<u64>,
    /// Leaves whose opening this node does not hold by its own decision.
    forgotten: RangeSet<u64>,
    remarks: Remarks,
}

/// How far a log had come at a commit: what the stored leaves must lead to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark {
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

/// The mark of an empty log.
impl Default for Mark {
    fn default() -> Self {
        Self { size: 0, root: empty_root() }
    }
}

/// A tree with leaves that are not accepted yet.
pub(super) struct Grown {
    edge: Edge,
    subtrees: Vec<(u32, Digest)>,
    /// Whether its first new leaf is no older than the last one held.
    pub(super) keeps_time: bool,
    /// Whether it has the root that the newest checkpoint heard of says, if it reaches that size.
    pub(super) keeps_ahead: bool,
    /// Whether it has the root that is settled, if it reaches that size.
    pub(super) keeps_settling: bool,
    /// Whether it has the root that it is said to end with, if it has just reached that size.
    pub(super) ends: Option<bool>,
    /// Whether it has the root that this node itself has signed, if it reaches that size.
    pub(super) keeps_promise: bool,
}

impl Grown {
    /// Whether this tree is that of the checkpoint, or provably a prefix of it.
    pub(super) fn leads_to(&self, checkpoint: &SignedCheckpoint, proof: &[Digest]) -> bool {
        let (size, root) = (self.edge.size(), self.edge.root());
        verify_consistency(size, root, checkpoint.size(), checkpoint.root(), proof).is_ok()
    }
}

impl Log {
    pub(super) fn new(key: VerifierKey) -> Self {
        Self {
            key,
            edge: Edge::default(),
            last_time: Timestamp::default(),
            whole: None,
            ahead: None,
            settled: None,
            settling: None,
            writable: true,
            end: None,
            promised: None,
            missing: RangeSet::new(),
            missing_count: 0,
            erased: RangeSet::new(),
            gone: RangeSet::new(),
            forgotten: RangeSet::new(),
            remarks: Remarks::default(),
        }
    }

    /// The key that signs its checkpoints.
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// How many leaves are held.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The root over them.
    pub fn root(&self) -> Digest {
        self.edge.root()
    }

    /// The author's time of the last leaf.
    pub fn last_time(&self) -> Timestamp {
        self.last_time
    }

    /// The newest checkpoint whose leaves are all held.
    pub fn whole(&self) -> Option<&SignedCheckpoint> {
        self.whole.as_ref()
    }

    /// The newest checkpoint that covers leaves that are not held.
    pub fn ahead(&self) -> Option<&SignedCheckpoint> {
        self.ahead.as_ref()
    }

    /// The largest settled checkpoint that the leaves here lead to.
    pub fn settled(&self) -> Option<&Arc<SettledCheckpoint>> {
        self.settled.as_ref()
    }

    /// A settled checkpoint that the leaves here do not reach yet.
    pub fn settling(&self) -> Option<&Arc<SettledCheckpoint>> {
        self.settling.as_ref()
    }

    /// How many leaves are settled.
    pub fn settled_size(&self) -> u64 {
        self.settled.as_ref().map_or(0, |settled| settled.size())
    }

    /// Whether the first `size` leaves are here, with all their openings but those that are erased.
    pub fn is_whole_to(&self, size: u64) -> bool {
        size <= self.size() && self.missing_from(0).next().is_none_or(|index| index >= size)
    }

    /// How many leaves' openings are missing. Those that are erased are not.
    pub fn missing(&self) -> u64 {
        self.missing_count
    }

    /// The leaves from `index` on whose openings are missing.
    pub fn missing_from(&self, index: u64) -> impl Iterator<Item = u64> {
        let ranges = self.missing.overlapping(index.min(u64::MAX - 1)..u64::MAX);
        ranges.flat_map(move |range| range.start.max(index)..range.end)
    }

    /// What its author remarked last.
    pub fn remarks(&self) -> &Remarks {
        &self.remarks
    }

    /// Whether leaves may be added: it has not ended, and its member's cards are not disputed.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Where it is said to end.
    pub fn end(&self) -> Option<Mark> {
        self.end.map(|(end, _)| end)
    }

    /// Whether it must still be found out if the leaves that are held at its end are those that it ends with.
    pub fn ends_unseen(&self) -> Option<Mark> {
        self.end.filter(|(end, as_held)| as_held.is_none() && end.size <= self.size()).map(|(end, _)| end)
    }

    /// Beyond this nothing is admitted: everything that is settled is, and what is there already, unless it has ended.
    pub fn limit(&self) -> u64 {
        if self.writable {
            return u64::MAX;
        }
        let settled = self.known_settled();
        match self.end {
            Some((end, as_held)) if as_held != Some(false) => settled.max(end.size),
            _ => settled,
        }
    }

    /// How much of it is settled, whether or not the leaves are here.
    fn known_settled(&self) -> u64 {
        self.settled_size().max(self.settling.as_ref().map_or(0, |settling| settling.size()))
    }

    /// Whether a grown tree is another one than that with which it is said to end. What is settled beyond that counts in any case.
    pub(super) fn ends_otherwise(&self, grown: &Grown) -> bool {
        grown.ends == Some(false) && self.end().is_some_and(|end| end.size > self.known_settled())
    }

    /// How many leaves count if not all do: those that are settled, and those up to its end, once they are known to be that.
    pub fn counting(&self) -> u64 {
        let settled = self.settled_size();
        match self.end {
            Some((end, Some(true))) => settled.max(end.size),
            Some((end, None)) if end.size > self.size() => settled.max(end.size),
            _ => settled,
        }
    }

    /// Takes note of what charter and cards say.
    pub(super) fn end_is(&mut self, writable: bool, end: Option<End>) {
        self.writable = writable;
        let end = end.map(|end| Mark { size: end.size, root: end.root });
        if end != self.end() {
            let (size, root) = (self.size(), self.root());
            self.end = end.map(|end| (end, (end.size == size).then_some(end.root == root)));
        }
    }

    pub(super) fn ends_as_held(&mut self, is_so: bool) {
        if let Some((_, as_held)) = &mut self.end {
            *as_held = Some(is_so);
        }
    }

    /// Makes this the own log: its leaves must lead to what this node itself has signed, once they reach that far.
    pub(super) fn promise(&mut self, signed: Mark) {
        self.promised = Some(signed);
    }

    /// Size and root, for the store.
    pub fn mark(&self) -> Mark {
        Mark { size: self.size(), root: self.root() }
    }

    /// Opens a checkpoint, or recognises it: a claim that has been verified is not verified again.
    pub(super) fn verify(&self, id: LogId, note: Note) -> Result<SignedCheckpoint, Refusal> {
        let known = [&self.ahead, &self.whole].into_iter().flatten();
        for known in known {
            if known.note().text() == note.text() {
                return Ok(known.clone());
            }
        }
        let opened = SignedCheckpoint::open(note, &self.key);
        let opened = opened.map_err(|error| Refusal::Checkpoint { log: id, error })?;
        for known in [&self.ahead, &self.whole].into_iter().flatten() {
            if known.size() == opened.size() {
                return Err(Refusal::Fork { log: id, both: Box::new((known.clone(), opened)) });
            }
        }
        if opened.size() == self.size() && opened.root() != self.root() {
            return Err(self.contradicted(id, opened));
        }
        Ok(opened)
    }

    /// What a signed root says that the leaves do not have.
    fn contradicted(&self, id: LogId, opened: SignedCheckpoint) -> Refusal {
        let size = opened.size();
        // The leaves were admitted because they provably are in the larger tree of `ahead`, if it is there still.
        match (&self.ahead, self.promised) {
            (Some(ahead), _) => Refusal::Fork { log: id, both: Box::new((ahead.clone(), opened)) },
            (None, Some(_)) => Refusal::NotWhatWasSigned { log: id, size },
            (None, None) => Refusal::Diverges { log: id, from: size, size },
        }
    }

    /// Remembers a checkpoint if it is beyond what is held and what was heard of, or the first one over exactly what is held.
    pub(super) fn hear(&mut self, id: LogId, note: Note) -> Result<Admission, Refusal> {
        let checkpoint = self.verify(id, note)?;
        if checkpoint.size() > self.limit() {
            return Err(Refusal::Ended { log: id, size: self.limit() });
        }
        let newest = |kept: &Option<SignedCheckpoint>| kept.as_ref().map_or(0, SignedCheckpoint::size);
        if checkpoint.size() == self.size() && newest(&self.whole) < self.size() {
            self.keep(checkpoint.clone());
            return Ok(Admission::Sealed(checkpoint));
        }
        if checkpoint.size() < newest(&self.whole) {
            return Ok(Admission::Behind(checkpoint));
        }
        if checkpoint.size() <= newest(&self.ahead).max(newest(&self.whole)).max(self.size()) {
            return Ok(Admission::Known);
        }
        self.ahead = Some(checkpoint.clone());
        Ok(Admission::Ahead(checkpoint))
    }

    /// The tree with these leaves, which begin where it ends. Changes nothing yet.
    pub(super) fn grow(&self, entries: &Entries) -> Grown {
        let mut grown = Grown {
            edge: self.edge.clone(),
            subtrees: Vec::new(),
            keeps_time: entries.times().0 >= self.last_time,
            keeps_ahead: true,
            keeps_settling: true,
            ends: None,
            keeps_promise: true,
        };
        let ahead = self.ahead.as_ref().map(|ahead| Mark { size: ahead.size(), root: ahead.root() });
        let settling = self.settling.as_ref().map(|settling| settling.mark());
        let breaks = |said: Option<Mark>, edge: &Edge| {
            said.is_some_and(|said| said.size == edge.size() && said.root != edge.root())
        };
        for (_, entry) in entries.iter() {
            grown.edge.push_reporting(entry.leaf_hash, |level, hash| {
                if REPORTED.contains(&level) {
                    grown.subtrees.push((level, hash));
                }
            });
            grown.keeps_ahead &= !breaks(ahead, &grown.edge);
            grown.keeps_settling &= !breaks(settling, &grown.edge);
            if let Some(end) = self.end().filter(|end| end.size == grown.edge.size()) {
                grown.ends = Some(end.root == grown.edge.root());
            }
            grown.keeps_promise &= !breaks(self.promised, &grown.edge);
        }
        grown
    }

    /// Makes a grown tree the tree.
    pub(super) fn accept(&mut self, grown: Grown, entries: &Entries) -> (Digest, Vec<(u32, Digest)>) {
        self.edge = grown.edge;
        if let Some((_, as_held)) = &mut self.end {
            *as_held = as_held.or(grown.ends);
        }
        self.last_time = entries.times().1;
        self.remarks.note(entries, self.promised.is_some());
        for (index, entry) in entries.iter() {
            if entry.disclosure == Disclosure::Missing {
                self.miss(index);
            }
        }
        (self.edge.root(), grown.subtrees)
    }

    /// Keeps a verified checkpoint if it is newer than what is kept of its kind.
    pub(super) fn keep(&mut self, checkpoint: SignedCheckpoint) {
        if checkpoint.size() > self.size() {
            if self.ahead.as_ref().is_none_or(|ahead| ahead.size() < checkpoint.size()) {
                self.ahead = Some(checkpoint);
            }
            return;
        }
        if self.whole.as_ref().is_none_or(|whole| whole.size() < checkpoint.size()) {
            self.whole = Some(checkpoint);
        }
        if self.ahead.as_ref().is_some_and(|ahead| ahead.size() <= self.size()) {
            self.ahead = None;
        }
    }

    /// Takes a settled checkpoint. The caller knows that the leaves here lead to it, if they reach it at all.
    pub(super) fn settle(&mut self, settled: Arc<SettledCheckpoint>) {
        if settled.size() > self.size() {
            // The first that is to be reached: or else one that others replace all the time would never be.
            self.settling.get_or_insert(settled);
        } else if settled.size() >= self.settled_size() {
            self.settled = Some(settled);
        }
    }

    /// The settled checkpoint that the leaves have reached, if they have just reached one.
    pub(super) fn reached(&mut self) -> Option<Arc<SettledCheckpoint>> {
        let reached = self.settling.take_if(|settling| settling.size() <= self.edge.size())?;
        self.settle(Arc::clone(&reached));
        Some(reached)
    }

    /// The opening of a leaf is not here.
    fn miss(&mut self, index: u64) {
        if self.forgotten.contains(&index) {
            return;
        }
        if self.erased.contains(&index) {
            self.gone.insert(index..index + 1);
        } else {
            self.missing.insert(index..index + 1);
            self.missing_count += 1;
        }
    }

    /// The opening of a leaf is not held, and not missed.
    pub(super) fn forget(&mut self, index: u64) {
        if let Some(end) = index.checked_add(1) {
            self.forgotten.insert(index..end);
            self.gone.remove(index..end);
            let _was_missing = self.opened(index);
        }
    }

    /// The opening of a leaf, which may not be here yet, is erased.
    pub(super) fn erase(&mut self, index: u64) {
        let Some(end) = index.checked_add(1) else { return };
        self.erased.insert(index..end);
        if self.opened(index) {
            self.gone.insert(index..end);
        }
    }

    /// These are all that are erased.
    pub(super) fn erased_are(&mut self, indices: impl Iterator<Item = u64>) {
        self.erased = RangeSet::new();
        for gone in std::mem::take(&mut self.gone).iter() {
            self.missing.insert(gone.clone());
            self.missing_count += gone.end - gone.start;
        }
        indices.for_each(|index| self.erase(index));
    }

    /// The opening of a leaf is missing no longer; `false` if it was not.
    pub(super) fn opened(&mut self, index: u64) -> bool {
        let missing = self.missing.contains(&index);
        if missing {
            self.missing.remove(index..index + 1);
            self.missing_count -= 1;
        }
        missing
    }
}

/// A mark that stored leaves do not reach is damage; so is one that they reach with another root.
impl Mark {
    /// Compares with what the leaves lead to.
    pub fn check(&self, log: LogId, have: u64, root: Digest) -> Result<(), Damage> {
        if have != self.size {
            return Err(Damage::Short { log, have, size: self.size });
        }
        if root != self.root { Err(Damage::Root { log, size: self.size }) } else { Ok(()) }
    }
}
