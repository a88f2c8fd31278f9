//! The log of changes, compacted: of each content hash only the last change counts.
//!
//! So it is never longer than twice the hashes that were ever on the list, and a reader who was away for a year reads each of
//! them once. Places are sequence numbers, not indices: compaction moves entries and leaves every cursor valid.

use hashmesh_protocol::catalog::ContentId;
use hashmesh_protocol::content_hash::HashKind;
use hashmesh_protocol::policy::Decision;

/// Superseded entries that are kept in any case; a guess: compacting fewer is not worth the readers' wait.
const SPARE: usize = 1024;

/// A change of the list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Change {
    /// Its number, ascending.
    pub seq: u64,
    /// The content hash, in the catalog.
    pub id: ContentId,
    /// What is decided about it from then on; [`Decision::None`]: it is off the list.
    pub decision: Decision,
}

/// The log. Takes 8 bytes a known hash and 16 to 32 more for one that was ever on the list, and while it grows up to twice
/// that.
#[derive(Debug, Default)]
pub struct Changes {
    /// Ascending by number.
    entries: Vec<Entry>,
    /// By kind and number.
    last: [Vec<Last>; HashKind::ALL.len()],
    newest: u64,
    /// How many entries are the last of their hash.
    live: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    seq: u64,
    id: ContentId,
}

/// The last change of a hash: its number, and the decision in the lower two bits. Zero: there was none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Last(u64);

impl Last {
    fn new(seq: u64, decision: Decision) -> Self {
        Self(seq << 2 | decision as u64)
    }

    fn seq(self) -> u64 {
        self.0 >> 2
    }

    fn decision(self) -> Decision {
        match self.0 & 3 {
            0 => Decision::None,
            1 => Decision::Review,
            _ => Decision::Block,
        }
    }
}

impl Changes {
    /// The number of the last change; 0 if there was none.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Takes up what is decided about a hash, if it is not what was decided before.
    pub fn record(&mut self, id: ContentId, decision: Decision) {
        let before = self.last(id);
        if before.decision() == decision {
            return;
        }
        self.newest += 1;
        self.live += usize::from(before == Last::default());
        let (last, number) = (&mut self.last[id.kind as usize - 1], id.number as usize);
        if last.len() <= number {
            last.resize(number + 1, Last::default());
        }
        last[number] = Last::new(self.newest, decision);
        self.entries.push(Entry { seq: self.newest, id });
        if self.entries.len() > 2 * self.live + SPARE {
            self.compact();
        }
    }

    /// The changes after a number, at most `limit`, and whether there are more.
    pub fn after(&self, seq: u64, limit: usize) -> (Vec<Change>, bool) {
        let first = self.entries.partition_point(|entry| entry.seq <= seq);
        let mut live = self.entries[first..].iter().filter_map(|entry| {
            let last = self.last(entry.id);
            (last.seq() == entry.seq).then(|| Change { seq: entry.seq, id: entry.id, decision: last.decision() })
        });
        let changes = live.by_ref().take(limit).collect();
        (changes, live.next().is_some())
    }

    fn last(&self, id: ContentId) -> Last {
        self.last[id.kind as usize - 1].get(id.number as usize).copied().unwrap_or_default()
    }

    fn compact(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|entry| self.last(entry.id).seq() == entry.seq);
        self.entries = entries;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const KINDS: [HashKind; 2] = [HashKind::Pdq, HashKind::Sha256];

    fn id(number: u32) -> ContentId {
        ContentId { kind: KINDS[number as usize % 2], number: number / 2 }
    }

    #[test]
    fn only_the_last_change_of_a_hash_is_told_and_what_changes_nothing_is_none() {
        let mut changes = Changes::default();
        changes.record(id(3), Decision::None);
        assert_eq!((changes.newest(), changes.after(0, 10)), (0, (vec![], false)));
        changes.record(id(3), Decision::Review);
        changes.record(id(3), Decision::Review);
        changes.record(id(4), Decision::Block);
        changes.record(id(3), Decision::None);
        let told = [
            Change { seq: 2, id: id(4), decision: Decision::Block },
            Change { seq: 3, id: id(3), decision: Decision::None },
        ];
        assert_eq!(changes.after(0, 10), (told.to_vec(), false));
        assert_eq!(changes.after(0, 1), (told[..1].to_vec(), true));
        assert_eq!(changes.after(2, 10), (told[1..].to_vec(), false));
        assert_eq!(changes.after(3, 10), (vec![], false));
    }

    #[test]
    fn the_log_stays_as_long_as_the_list_and_cursors_stay_valid() {
        let mut changes = Changes::default();
        for round in 0..100u32 {
            for number in 0..100 {
                let decision = if (round + number) % 2 == 0 { Decision::Block } else { Decision::Review };
                changes.record(id(number), decision);
            }
            assert!(changes.entries.len() <= 2 * 100 + SPARE, "{}", changes.entries.len());
        }
        assert_eq!(changes.newest(), 10_000);
        let (all, more) = changes.after(0, 1000);
        assert!(!more && all.iter().map(|change| change.seq).eq(9_901..=10_000));
        for seq in [5_000, 9_900, 9_950] {
            assert_eq!(changes.after(seq, 1000).0.len() as u64, 10_000 - seq.max(9_900));
        }
    }

    proptest! {
        /// Readers that look in now and then, a few changes at a time, end up with the list as it is.
        #[test]
        fn every_reader_ends_with_the_list(
            steps in proptest::collection::vec((0u32..12, 0usize..3, proptest::option::of((0usize..3, 1usize..5))), 1..3000)
        ) {
            let mut changes = Changes::default();
            let mut list = BTreeMap::new();
            let mut readers = vec![(0u64, BTreeMap::new()); 3];
            let read = |changes: &Changes, (seq, copy): &mut (u64, BTreeMap<u32, Decision>), limit| {
                let (page, more) = changes.after(*seq, limit);
                for change in page {
                    assert!(change.seq > *seq, "in order");
                    *seq = change.seq;
                    let kind = KINDS.iter().position(|kind| *kind == change.id.kind).unwrap();
                    copy.insert(2 * change.id.number + u32::try_from(kind).unwrap(), change.decision);
                    copy.retain(|_, decision| *decision > Decision::None);
                }
                more
            };
            for (number, decision, looks) in steps {
                let decision = [Decision::None, Decision::Review, Decision::Block][decision];
                changes.record(id(number), decision);
                list.insert(number, decision);
                list.retain(|_, decision| *decision > Decision::None);
                if let Some((reader, limit)) = looks {
                    read(&changes, &mut readers[reader], limit);
                }
            }
            for reader in &mut readers {
                while read(&changes, reader, 5) {}
                prop_assert_eq!(&reader.1, &list);
            }
        }
    }
}
