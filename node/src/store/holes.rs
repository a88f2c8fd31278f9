//! Openings that are erased (SPEC 20): hidden at once, deleted for good after the charter's hold.
//!
//! Which ones follows from the leaves; since when is written down, because that is this node's own knowledge: a thief who
//! could date it back would have no hold to wait for.

use std::collections::BTreeMap;

use hashmesh_protocol::bundle;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::statement::Position;
use hashmesh_protocol::time::Timestamp;

use super::groups::GROUP;

/// An opening that is not shown any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hole {
    /// By which leaf of the same member's.
    pub(super) by: Position,
    /// Since when, by this node's clock, or by the leaf's time if that is later.
    pub(super) since: Timestamp,
    /// Whether nothing is left of it.
    pub(super) gone: bool,
}

impl Hole {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = self.by.epoch.to_be_bytes().to_vec();
        row.extend_from_slice(&self.by.index.to_be_bytes());
        row.extend_from_slice(&self.since.0.to_be_bytes());
        row.push(u8::from(self.gone));
        row
    }

    pub(super) fn parse(row: &[u8]) -> Option<Self> {
        let (epoch, rest) = row.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let (since, gone) = rest.split_first_chunk()?;
        let [gone @ (0 | 1)] = gone else { return None };
        let by = Position { epoch: u32::from_be_bytes(*epoch), index: u64::from_be_bytes(*index) };
        Some(Self { by, since: Timestamp(u64::from_be_bytes(*since)), gone: *gone == 1 })
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

    /// A row of openings without those that are hidden.
    pub(super) fn cover(&self, log: LogId, group: u64, row: Vec<u8>) -> Vec<u8> {
        let of_log = self.0.get(&log);
        let Some(holes) = of_log.filter(|holes| holes.range(group * GROUP..(group + 1) * GROUP).next().is_some())
        else {
            return row;
        };
        let mut covered = Vec::with_capacity(row.len());
        for (index, opening) in (group * GROUP..).zip(bundle::entries(&row).flatten()) {
            bundle::push(&mut covered, if holes.contains_key(&index) { &[] } else { opening });
        }
        covered
    }

    /// Takes those away, unless they are gone, that leaves of this log have made, from this one on.
    pub(super) fn remove_by(&mut self, log: LogId, from: u64) -> Vec<(LogId, u64)> {
        let mut removed = Vec::new();
        for (of, holes) in self.0.iter_mut().filter(|(of, _)| of.member == log.member) {
            holes.retain(|index, hole| {
                let keep = hole.gone || hole.by.epoch != log.epoch || hole.by.index < from;
                if !keep {
                    removed.push((*of, *index));
                }
                keep
            });
        }
        removed
    }

    /// What is hidden since before a moment, and not gone yet, log by log.
    pub(super) fn due(&self, before: Timestamp) -> BTreeMap<LogId, Vec<u64>> {
        let of_log = |holes: &BTreeMap<u64, Hole>| -> Vec<u64> {
            holes.iter().filter(|(_, hole)| !hole.gone && hole.since <= before).map(|(index, _)| *index).collect()
        };
        let due = self.0.iter().map(|(log, holes)| (*log, of_log(holes)));
        due.filter(|(_, indices)| !indices.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_again() {
        let hole = Hole { by: Position { epoch: 3, index: 1 << 40 }, since: Timestamp(77), gone: true };
        assert_eq!(Hole::parse(&hole.encode()), Some(hole));
        assert_eq!(Hole::parse(&hole.encode()[1..]), None);
    }
}
