//! Leaves and openings packed into rows.
//!
//! A row holds 64 consecutive leaves, or their openings, as a bundle: about 3.5 KB, which is what the database handles best
//! (a row a statement takes four times the disk and minutes to load). Rows begin at multiples of 64, so that any leaf is
//! found without an index, and the last row of a log is written again until it is full.
//!
//! Long notes and long leaves make rows of up to 66 KB. The database puts a page that has grown too large into a file of its
//! own, which it never syncs; so longer rows are stored in pieces, and no page can get there.

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

/// Longest value in the database. A page holds up to 20 of them (17 before it is split, 3 more from a page merged into
/// it), and one beyond 128 KiB is not synced. Rows of common statements are 3.5 KB, and in one piece.
pub(super) const PIECE: usize = 6 * 1024;

/// Cuts a row into pieces, with their keys. The last piece is the one that is shorter than [`PIECE`], be it empty: so
/// whatever a longer row has left behind it is never read.
///
/// The pieces of a row must be written together, and not while they are read: or else some of the old and some of the new
/// would be taken for a row.
pub(super) fn pieces<'a>(key: &'a [u8; 12], row: &'a [u8]) -> impl Iterator<Item = (Vec<u8>, &'a [u8])> {
    let last = row.len() / PIECE;
    (0..=last).map(move |number| {
        let piece = &row[number * PIECE..row.len().min((number + 1) * PIECE)];
        (piece_key(key, u8::try_from(number).expect("rows are far shorter than 256 pieces")), piece)
    })
}

/// Puts the pieces of a row together again: empty if there is no such row, `None` if its end is missing.
pub(super) fn join<E>(
    key: &[u8; 12],
    mut read: impl FnMut(&[u8]) -> Result<Option<sled::IVec>, E>,
) -> Result<Option<Vec<u8>>, E> {
    let mut row = Vec::new();
    for number in 0..=u8::MAX {
        let Some(piece) = read(&piece_key(key, number))? else { return Ok((number == 0).then_some(row)) };
        row.extend_from_slice(&piece);
        if piece.len() != PIECE {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// The first piece stands under the key of the row, the others behind it.
fn piece_key(key: &[u8; 12], number: u8) -> Vec<u8> {
    let mut piece = key.to_vec();
    if number > 0 {
        piece.push(number);
    }
    piece
}

/// Rows that are to be written, by key; `None` for those that are to be removed.
pub(super) type Rows = BTreeMap<[u8; 12], Option<Vec<u8>>>;

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
                rows.insert(key(log, self.size / GROUP - 1), Some(self.row.clone()));
            }
        }
        if !self.size.is_multiple_of(GROUP) {
            rows.insert(key(log, self.size / GROUP), Some(self.row.clone()));
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
                (0..4).map(|group| (key(7, group), Some(bundle_of(group * 64..(group * 64 + 64).min(200))))).collect();
            assert_eq!(rows, expected, "{steps:?}");
        }
    }

    #[test]
    fn rows_of_any_length_are_the_same_after_they_were_cut_into_pieces() {
        let whole: Vec<u8> = (0..5 * PIECE).map(|place| place.to_be_bytes()[7]).collect();
        let mut stored = BTreeMap::new();
        // From long to short: what longer rows leave behind is there, and not read.
        for length in [5 * PIECE, 3 * PIECE + 1, 3 * PIECE, 2 * PIECE - 1, PIECE, PIECE - 1, 1, 0] {
            let row = &whole[..length];
            stored.extend(pieces(&key(7, 1), row).map(|(key, piece)| (key, sled::IVec::from(piece))));
            assert!(stored.values().all(|piece| piece.len() <= PIECE));
            let read = |key: &[u8]| Ok::<_, ()>(stored.get(key).cloned());
            assert_eq!(join(&key(7, 1), read), Ok(Some(row.to_vec())), "{length}");
            assert_eq!(join(&key(7, 2), read), Ok(Some(Vec::new())));
        }
        let cut_short = |key: &[u8]| Ok::<_, ()>((key.len() == 12).then(|| sled::IVec::from(&whole[..PIECE])));
        assert_eq!(join(&key(7, 1), cut_short), Ok(None));
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
