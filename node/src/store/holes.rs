//! Since when openings are erased, and which of them are deleted (SPEC 20.3).
//!
//! What is erased follows from the leaves. Since when is this node's own knowledge, and so it is written down: a thief who
//! could date it back would have no hold to wait for.

use std::collections::BTreeMap;

use hashmesh_protocol::names::LogId;
use hashmesh_protocol::time::Timestamp;

/// An opening that is erased, or was until that turned out to be void.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hole {
    /// Since when, by this node's clock, or by the leaf's time if that is later.
    pub(super) since: Timestamp,
    /// Whether nothing is left of it.
    pub(super) gone: bool,
}

impl Hole {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = self.since.0.to_be_bytes().to_vec();
        row.push(u8::from(self.gone));
        row
    }

    pub(super) fn parse(row: &[u8]) -> Option<Self> {
        let (since, gone) = row.split_first_chunk()?;
        let [gone @ (0 | 1)] = gone else { return None };
        Some(Self { since: Timestamp(u64::from_be_bytes(*since)), gone: *gone == 1 })
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Holes(BTreeMap<LogId, BTreeMap<u64, Hole>>);

impl Holes {
    pub(super) fn insert(&mut self, log: LogId, index: u64, hole: Hole) {
        self.0.entry(log).or_default().insert(index, hole);
    }

    pub(super) fn get(&self, log: LogId, index: u64) -> Option<Hole> {
        self.0.get(&log)?.get(&index).copied()
    }

    /// Which are to be deleted: erased since before a moment and still, by what the leaves say now; log by log.
    pub(super) fn due(&self, before: Timestamp, erased: impl Fn(LogId, u64) -> bool) -> BTreeMap<LogId, Vec<u64>> {
        let mut due = BTreeMap::new();
        for (log, holes) in &self.0 {
            let old = holes.iter().filter(|(_, hole)| !hole.gone && hole.since <= before).map(|(index, _)| *index);
            let indices: Vec<u64> = old.filter(|index| erased(*log, *index)).collect();
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
        let hole = Hole { since: Timestamp(77), gone: true };
        assert_eq!(Hole::parse(&hole.encode()), Some(hole));
        assert_eq!(Hole::parse(&hole.encode()[1..]), None);
    }

    #[test]
    fn what_is_not_erased_any_more_is_not_deleted() {
        let log = LogId { member: "acme".parse().unwrap(), epoch: 0 };
        let mut holes = Holes::default();
        for (index, since, gone) in [(1, 5, false), (2, 9, false), (3, 1, true), (4, 2, false)] {
            holes.insert(log, index, Hole { since: Timestamp(since), gone });
        }
        let due = holes.due(Timestamp(5), |_, index| index != 4);
        assert_eq!(due, [(log, vec![1])].into());
    }
}
