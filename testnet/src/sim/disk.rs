//! A simulated disk: what was committed survives, what was only written may not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use hashmesh::store::{Record, Store, StoreError, StoredLog};
use hashmesh_protocol::bundle;
use hashmesh_protocol::checkpoint::SignedCheckpoint;
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::entries::Entry;
use hashmesh_protocol::erasure::Erasures;
use hashmesh_protocol::evidence::Accused;
use hashmesh_protocol::ledger::{Admitted, Mark};
use hashmesh_protocol::names::{LogId, MemberId};
use hashmesh_protocol::note::Note;
use hashmesh_protocol::serve::{Archive, Bundles};
use hashmesh_protocol::statement::{Leaf, Position};
use hashmesh_protocol::time::Timestamp;
use hashmesh_protocol::tree::{leaf_hash, node_hash};

/// A store in memory that can lose what was not committed.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    logs: BTreeMap<LogId, Stored>,
    evidence: BTreeMap<Accused, Vec<u8>>,
    /// What is not held by this node's own decision.
    forgotten: BTreeSet<(LogId, u64)>,
    /// Charters and cards, as they were stored last.
    pub(super) governance: Option<Vec<u8>>,
    /// Since when something is erased, and whether it is deleted.
    since: BTreeMap<(LogId, u64), (Timestamp, bool)>,
    /// The time, for what becomes erased.
    pub(super) now: Timestamp,
    /// How much of a log counts whose key has signed two histories.
    frozen: Arc<Mutex<BTreeMap<LogId, u64>>>,
}

#[derive(Clone, Debug, Default)]
struct Stored {
    leaves: Vec<Vec<u8>>,
    openings: Vec<Vec<u8>>,
    checkpoints: BTreeMap<u64, Note>,
    /// Written since the last commit: lost when the power fails.
    volatile: BTreeMap<u64, Note>,
    settled: Option<Note>,
    mark: Mark,
    before: Mark,
}

/// How much of a commit reaches the disk when the power fails in the middle of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Torn {
    /// The leaves, not the mark.
    NoMark,
    /// The mark, and half of the leaves.
    HalfTheLeaves,
}

impl Disk {
    /// The power fails.
    pub(super) fn lose_power(&mut self) {
        self.logs.values_mut().for_each(|stored| stored.volatile.clear());
    }

    /// The power fails in the middle of a commit.
    pub(super) fn tear(&mut self, record: &Record, torn: Torn) {
        let Record::Leaves(admitted) = record else { return };
        let log = admitted.entries.log();
        let had = self.logs.entry(log).or_default().clone();
        self.write(record);
        let stored = self.logs.get_mut(&log).expect("just written");
        match torn {
            Torn::NoMark => (stored.mark, stored.before) = (had.mark, had.before),
            Torn::HalfTheLeaves => {
                let half = usize::midpoint(had.leaves.len(), stored.leaves.len());
                stored.leaves.truncate(half);
                stored.openings.truncate(half);
            }
        }
    }

    fn write(&mut self, record: &Record) {
        match record {
            Record::Leaves(admitted) => {
                for (log, index, time) in admitted.entries.erasures() {
                    self.since.entry((log, index)).or_insert((time.max(self.now), false));
                }
                let stored = self.logs.entry(admitted.entries.log()).or_default();
                let first = usize::try_from(admitted.entries.first()).expect("small in simulations");
                stored.leaves.truncate(first);
                stored.openings.truncate(first);
                let own = |entries: &[u8]| bundle::entries(entries).flatten().map(<[u8]>::to_vec).collect::<Vec<_>>();
                stored.leaves.extend(own(admitted.entries.leaves()));
                stored.openings.extend(own(admitted.entries.openings()));
                stored.before = stored.mark;
                stored.mark = Mark { size: admitted.entries.end(), root: admitted.root };
                if let Some(checkpoint) = &admitted.checkpoint {
                    stored.checkpoints.insert(checkpoint.size(), checkpoint.note().clone());
                }
            }
            Record::Opening(late) => {
                let index = usize::try_from(late.index()).expect("small in simulations");
                let stored = self.logs.entry(late.log()).or_default();
                if let Some(place) = stored.openings.get_mut(index) {
                    *place = late.opening().to_vec();
                }
            }
            Record::Evidence(evidence) => {
                self.evidence.insert(evidence.accused(), evidence.bytes().to_vec());
            }
            Record::Settled(log, settled) => {
                self.logs.entry(*log).or_default().settled = Some(Note::clone(settled.note()));
            }
        }
    }

    /// What a member has erased.
    fn erasures(&self, member: MemberId) -> Erasures {
        let mut erasures = Erasures::default();
        for (log, stored) in self.logs.iter().filter(|(log, _)| log.member == member) {
            for (index, leaf) in (0..).zip(stored.leaves.iter().filter_map(|leaf| Leaf::decode(leaf).ok())) {
                erasures.take(Position { epoch: log.epoch, index }, &leaf.statement);
            }
        }
        for (log, size) in self.frozen.lock().expect("no holder panics").iter().filter(|(log, _)| log.member == member)
        {
            erasures.freeze(log.epoch, *size);
        }
        erasures
    }

    /// Forgets the opening of a leaf, as if it had never been received.
    pub fn forget_opening(&mut self, log: LogId, index: usize) {
        self.put_opening(log, index, Vec::new());
    }

    /// Puts something in the place of the opening of a leaf.
    pub fn put_opening(&mut self, log: LogId, index: usize, opening: Vec<u8>) {
        if let Some(place) = self.logs.get_mut(&log).and_then(|stored| stored.openings.get_mut(index)) {
            *place = opening;
        }
    }

    /// The opening of a leaf; empty where there is none.
    pub fn opening(&self, log: LogId, index: usize) -> &[u8] {
        self.logs.get(&log).and_then(|stored| stored.openings.get(index)).map_or(&[], Vec::as_slice)
    }

    /// The leaves of a log.
    pub fn leaves(&self, log: LogId) -> &[Vec<u8>] {
        self.logs.get(&log).map_or(&[], |stored| &stored.leaves)
    }
}

impl Store for Disk {
    fn logs(&self) -> Result<Vec<StoredLog>, StoreError> {
        let stored =
            |(log, stored): (&LogId, &Stored)| StoredLog { log: *log, mark: stored.mark, before: stored.before };
        Ok(self.logs.iter().map(stored).collect())
    }

    fn restored(&self, _admitted: &Admitted) {}

    fn freeze(&self, log: LogId, size: u64) {
        self.frozen.lock().expect("no holder panics").insert(log, size);
    }

    fn resume(&mut self, log: LogId, end: Mark) -> Result<(), StoreError> {
        let stored = self.logs.entry(log).or_default();
        let size = usize::try_from(end.size).expect("small in simulations");
        stored.leaves.truncate(size);
        stored.openings.truncate(size);
        stored.checkpoints.retain(|size, _| *size <= end.size);
        (stored.mark, stored.before) = (end, end);
        Ok(())
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), StoreError> {
        records.iter().for_each(|record| self.write(record));
        for stored in self.logs.values_mut() {
            stored.checkpoints.append(&mut stored.volatile);
        }
        Ok(())
    }

    fn shred(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let old = self.since.iter().filter(|(_, (since, gone))| !gone && *since <= before).map(|(at, _)| *at);
        let due: Vec<_> = old.filter(|(log, index)| self.erased(*log, *index).is_some()).collect();
        for (log, index) in &due {
            self.since.entry((*log, *index)).and_modify(|(_, gone)| *gone = true);
            self.forget_opening(*log, usize::try_from(*index).expect("small in simulations"));
        }
        Ok(due.len() as u64)
    }

    // Decisions are made at places here, not of hashes.
    fn left_over<'a>(&self, _: LogId, _: impl Iterator<Item = (u64, &'a Entry)>) -> Vec<u64> {
        Vec::new()
    }

    fn left_over_in_hold(&self) -> Result<Vec<(LogId, u64)>, StoreError> {
        Ok(Vec::new())
    }

    fn forget(&mut self, places: &[(LogId, u64)]) -> Result<(), StoreError> {
        for (log, index) in places {
            self.forgotten.insert((*log, *index));
            let index = usize::try_from(*index).expect("small in simulations");
            if let Some(opening) = self.logs.get_mut(log).and_then(|stored| stored.openings.get_mut(index)) {
                opening.clear();
            }
        }
        Ok(())
    }

    fn all_forgotten(&self) -> Vec<(LogId, u64)> {
        self.forgotten.iter().copied().collect()
    }

    fn all_evidence(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self.evidence.values().cloned().collect())
    }

    fn settled(&self, log: LogId) -> Result<Option<Note>, StoreError> {
        Ok(self.logs.get(&log).and_then(|stored| stored.settled.clone()))
    }

    fn keep_checkpoint(&mut self, log: LogId, checkpoint: &SignedCheckpoint) -> Result<(), StoreError> {
        let stored = self.logs.entry(log).or_default();
        stored.volatile.insert(checkpoint.size(), checkpoint.note().clone());
        Ok(())
    }
}

impl Archive for Disk {
    type Error = StoreError;

    fn checkpoint(&self, log: LogId, above: u64, up_to: u64) -> Result<Option<(u64, Note)>, StoreError> {
        let Some(stored) = self.logs.get(&log) else { return Ok(None) };
        let up_to = up_to.min(stored.leaves.len() as u64);
        if above >= up_to {
            return Ok(None);
        }
        let both = [&stored.checkpoints, &stored.volatile];
        let last = both.into_iter().filter_map(|notes| notes.range(above + 1..=up_to).next_back());
        Ok(last.max_by_key(|(size, _)| **size).map(|(size, note)| (*size, note.clone())))
    }

    fn bundles(&self, log: LogId, from: u64, to: u64, max_bytes: usize) -> Result<Bundles, StoreError> {
        let mut bundles = Bundles::default();
        let Some(stored) = self.logs.get(&log) else { return Ok(bundles) };
        for index in from..to {
            let at = usize::try_from(index).expect("small in simulations");
            let (Some(leaf), Some(opening)) = (stored.leaves.get(at), stored.openings.get(at)) else { break };
            let bytes = bundles.leaves.len() + bundles.openings.len() + leaf.len() + opening.len() + 4;
            if bytes > max_bytes && bundles.count > 0 {
                break;
            }
            bundle::push(&mut bundles.leaves, leaf);
            bundle::push(&mut bundles.openings, opening);
            bundles.count += 1;
        }
        bundles.openings = self.erasures(log.member).hide(log.epoch, from, bundles.count, bundles.openings);
        Ok(bundles)
    }

    fn erased(&self, log: LogId, index: u64) -> Option<Position> {
        self.erasures(log.member).by(Position { epoch: log.epoch, index })
    }

    fn evidence(&self, accused: Accused) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.evidence.get(&accused).cloned())
    }

    fn subtree(&self, log: LogId, level: u32, index: u64) -> Result<Digest, StoreError> {
        let start = usize::try_from(index << level).expect("small in simulations");
        let leaves = &self.logs[&log].leaves[start..start + (1 << level)];
        let mut hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        while hashes.len() > 1 {
            hashes = hashes.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        }
        Ok(hashes[0])
    }
}
