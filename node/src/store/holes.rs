//! Since when openings are erased, and which of them are deleted (SPEC 20.3).
//!
//! What is erased follows from the leaves. Since when is this node's own knowledge, and so it is written down: a thief who
//! could date it back would have no hold to wait for.

use std::collections::{BTreeMap, BTreeSet};

use hashmesh_protocol::names::LogId;
use hashmesh_protocol::time::Timestamp;

/// An opening that is erased, or was until that turned out to be void.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hole {
    /// Since when, by this node's clock, or by the leaf's time if that is later.
    pub(super) since: Timestamp,
    /// Whether nothing is left of it.
    pub(super) gone: bool,
    /// Whether this node does not hold it by its own decision (SPEC 20.7): then there is nothing to wait for.
    pub(super) local: bool,
}

impl Hole {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = self.since.0.to_be_bytes().to_vec();
        row.push(u8::from(self.gone) | u8::from(self.local) << 1);
        row
    }

    pub(super) fn parse(row: &[u8]) -> Option<Self> {
        let (since, gone) = row.split_first_chunk()?;
        let [flags @ 0..=3] = gone else { return None };
        let since = Timestamp(u64::from_be_bytes(*since));
        Some(Self { since, gone: flags & 1 == 1, local: flags & 2 == 2 })
    }
}

/// All of them: those that are held back and those of which nothing is left apart, for only the first are looked through again and again.
#[derive(Debug, Default)]
pub(super) struct Holes {
    held: BTreeMap<LogId, BTreeMap<u64, Hole>>,
    gone: BTreeMap<LogId, BTreeMap<u64, Hole>>,
    /// Those that this node does not hold by its own decision.
    local: BTreeMap<LogId, BTreeSet<u64>>,
}

impl Holes {
    pub(super) fn insert(&mut self, log: LogId, index: u64, hole: Hole) {
        let (to, from) = if hole.gone { (&mut self.gone, &mut self.held) } else { (&mut self.held, &mut self.gone) };
        from.entry(log).or_default().remove(&index);
        to.entry(log).or_default().insert(index, hole);
        if hole.local {
            self.local.entry(log).or_default().insert(index);
        }
    }

    pub(super) fn get(&self, log: LogId, index: u64) -> Option<Hole> {
        [&self.held, &self.gone].into_iter().find_map(|holes| holes.get(&log)?.get(&index).copied())
    }

    /// What of some leaves this node does not hold by its own decision.
    pub(super) fn local_in(&self, log: LogId, range: std::ops::Range<u64>) -> Vec<u64> {
        self.local.get(&log).map(|local| local.range(range).copied().collect()).unwrap_or_default()
    }

    /// All that this node does not hold by its own decision.
    pub(super) fn all_local(&self) -> Vec<(LogId, u64, Timestamp)> {
        let all = self.local.iter().flat_map(|(log, local)| local.iter().map(|index| (*log, *index)));
        all.filter_map(|(log, index)| Some((log, index, self.get(log, index)?.since))).collect()
    }

    /// Those of which something is left, erased by their authors.
    pub(super) fn in_hold(&self) -> Vec<(LogId, u64)> {
        let all = self.held.iter().flat_map(|(log, holes)| holes.iter().map(|(index, hole)| (*log, *index, hole)));
        all.filter(|(_, _, hole)| !hole.local).map(|(log, index, _)| (log, index)).collect()
    }

    /// Which are to be deleted: erased since before a moment and still, by what the leaves say now; log by log.
    pub(super) fn due(&self, before: Timestamp, erased: impl Fn(LogId, u64) -> bool) -> BTreeMap<LogId, Vec<u64>> {
        let mut due = BTreeMap::new();
        for (log, holes) in &self.held {
            let is_due = |index: u64, hole: &Hole| hole.local || (hole.since <= before && erased(*log, index));
            let due_now = holes.iter().filter(|(index, hole)| is_due(**index, hole));
            let indices: Vec<u64> = due_now.map(|(index, _)| *index).collect();
            if !indices.is_empty() {
                due.insert(*log, indices);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_again() {
        let hole = Hole { since: Timestamp(77), gone: true, local: true };
        assert_eq!(Hole::parse(&hole.encode()), Some(hole));
        assert_eq!(Hole::parse(&hole.encode()[1..]), None);
    }

    #[test]
    fn what_is_not_erased_any_more_is_not_deleted() {
        let log = LogId { member: "acme".parse().unwrap(), epoch: 0 };
        let mut holes = Holes::default();
        for (index, since, gone) in [(1, 5, false), (2, 9, false), (3, 1, true), (4, 2, false)] {
            holes.insert(log, index, Hole { since: Timestamp(since), gone, local: false });
        }
        let due = |holes: &Holes| holes.due(Timestamp(5), |_, index| index != 4);
        assert_eq!(due(&holes), [(log, vec![1])].into());
        holes.insert(log, 1, Hole { since: Timestamp(5), gone: true, local: false });
        assert!(due(&holes).is_empty());
        assert_eq!(holes.get(log, 1), Some(Hole { since: Timestamp(5), gone: true, local: false }));
        // This node's own decision waits for nothing.
        holes.insert(log, 8, Hole { since: Timestamp(99), gone: false, local: true });
        assert_eq!(due(&holes), [(log, vec![8])].into());
        holes.insert(log, 8, Hole { since: Timestamp(99), gone: true, local: true });
        assert!(due(&holes).is_empty());
        assert_eq!(holes.local_in(log, 0..9), [8]);
        // It was void, came back, and is erased again.
        holes.insert(log, 1, Hole { since: Timestamp(5), gone: false, local: false });
        assert_eq!(due(&holes), [(log, vec![1])].into());
    }
}
