//! Leaves and openings packed into rows.
//!
//! A row holds 64 consecutive leaves, or their openings, as a bundle: about 3.5 KB, which is what the database handles best
//! (a row a statement takes four times the disk and minutes to load). Rows begin at multiples of 64, so that any leaf is
//! found without an index, and the last row of a log is written again until it is full.

use std::collections::BTreeMap;

use hashmesh_protocol::bundle;

/// Leaves in a full row.
pub(super) const GROUP: u64 = 64;

/// The number of a log in keys.
pub(super) type LogNumber = u32;

/// The key of a row.
pub(super) fn key(log: LogNumber, group: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&log.to_be_bytes());
    key[4..].copy_from_slice(&group.to_be_bytes());
    key
}

/// Rows that are to be written, by key.
pub(super) type Rows = BTreeMap<[u8; 12], Vec<u8>>;

/// The row at the end of a log that is not full yet, or just is.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    size: u64,
    row: Vec<u8>,
}

impl Tail {
    /// A tail for a log of this size, whose last row begins with `row`.
    pub(super) fn new(size: u64, row: &[u8]) -> Self {
        let mut tail = Self { size: size - size % GROUP, row: Vec::new() };
        for entry in bundle::entries(row).take(usize::try_from(size % GROUP).unwrap_or(0)).flatten() {
            bundle::push(&mut tail.row, entry);
            tail.size += 1;
        }
        tail
    }

    /// Appends a bundle and adds every row that it fills or touches.
    pub(super) fn append(&mut self, log: LogNumber, bundle: &[u8], rows: &mut Rows) {
        for entry in bundle::entries(bundle).flatten() {
            if self.size.is_multiple_of(GROUP) {
                self.row.clear();
            }
            bundle::push(&mut self.row, entry);
            self.size += 1;
            if self.size.is_multiple_of(GROUP) {
                rows.insert(key(log, self.size / GROUP - 1), self.row.clone());
            }
        }
        if !self.size.is_multiple_of(GROUP) {
            rows.insert(key(log, self.size / GROUP), self.row.clone());
        }
    }

    /// Replaces an entry of the last row, if the index lies there.
    pub(super) fn replace(&mut self, index: u64, entry: &[u8]) {
        let last_row = self.size.saturating_sub(1) / GROUP;
        if self.size > index && index / GROUP == last_row {
            self.row = with_entry(&self.row, index, entry);
        }
    }
}

/// A row with one entry replaced.
pub(super) fn with_entry(row: &[u8], index: u64, entry: &[u8]) -> Vec<u8> {
    let mut changed = Vec::with_capacity(row.len() + entry.len());
    for (place, old) in (0..).zip(bundle::entries(row).flatten()) {
        bundle::push(&mut changed, if place == index % GROUP { entry } else { old });
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle_of(range: std::ops::Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        range.for_each(|number| bundle::push(&mut bytes, &number.to_be_bytes()));
        bytes
    }

    #[test]
    fn rows_are_the_same_however_the_leaves_arrive() {
        for steps in [vec![0, 200], vec![0, 1, 2, 63, 64, 65, 127, 128, 129, 200], vec![0, 64, 200]] {
            let (mut tail, mut rows) = (Tail::default(), Rows::new());
            for pair in steps.windows(2) {
                tail.append(7, &bundle_of(pair[0]..pair[1]), &mut rows);
                tail = Tail::new(pair[1], &tail.row);
            }
            let expected: Rows =
                (0..4).map(|group| (key(7, group), bundle_of(group * 64..(group * 64 + 64).min(200)))).collect();
            assert_eq!(rows, expected, "{steps:?}");
        }
    }

    #[test]
    fn an_entry_is_replaced_in_its_place() {
        let row = bundle_of(64..70);
        let changed = with_entry(&row, 66, b"new");
        let entries: Vec<_> = bundle::entries(&changed).flatten().collect();
        assert_eq!(entries[2], b"new");
        assert_eq!((entries.len(), entries[3]), (6, &67u64.to_be_bytes()[..]));
        let mut tail = Tail::new(70, &row);
        tail.replace(66, b"new");
        assert_eq!(tail.row, changed);
        tail.replace(3, b"elsewhere");
        assert_eq!(tail.row, changed);
    }
}
