//! The tree of a log, worked out from its leaves: an audit's own, to be held against the tiles and the signed roots.

use crate::digest::Digest;
use crate::tree::tile::{TILE_HEIGHT, TILE_WIDTH, Tile, TileKind};
use crate::tree::{empty_root, node_hash, node_hashes};

/// A tree that grows by complete subtrees.
#[derive(Clone, Debug, Default)]
pub(super) struct Growth {
    /// Height and root of the complete subtrees at the right edge, largest first.
    peaks: Vec<(u32, Digest)>,
}

impl Growth {
    /// Appends a complete subtree, which is no larger than the smallest that is there.
    pub(super) fn push(&mut self, height: u32, root: Digest) {
        let (mut height, mut root) = (height, root);
        while let Some((_, left)) = self.peaks.pop_if(|(last, _)| *last == height) {
            root = node_hash(&left, &root);
            height += 1;
        }
        self.peaks.push((height, root));
    }

    /// The root over everything.
    pub(super) fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev().map(|(_, root)| *root);
        let last = peaks.next();
        last.map_or_else(empty_root, |last| peaks.fold(last, |right, left| node_hash(&left, &right)))
    }
}

/// The hash tiles above those of the leaves, as they must be.
#[derive(Clone, Debug, Default)]
pub(super) struct Above {
    /// Roots of the full tiles below, of which no tile has been made yet, from level 1 on.
    rows: Vec<Vec<Digest>>,
    made: Vec<u64>,
}

impl Above {
    /// Takes the root of a full tile of leaf hashes; gives each tile that it completes.
    pub(super) fn push(&mut self, root: Digest) -> Vec<(Tile, Vec<Digest>)> {
        let (mut tiles, mut root) = (Vec::new(), root);
        for level in 1u8.. {
            let at = usize::from(level) - 1;
            if self.rows.len() == at {
                self.rows.push(Vec::new());
                self.made.push(0);
            }
            self.rows[at].push(root);
            if self.rows[at].len() as u64 != TILE_WIDTH {
                break;
            }
            let row = std::mem::take(&mut self.rows[at]);
            root = complete(&row);
            tiles.push((Tile { kind: TileKind::Hashes(level), index: self.made[at], width: 256 }, row));
            self.made[at] += 1;
        }
        tiles
    }

    /// The tiles that the log's end has left unfinished.
    pub(super) fn finish(self) -> Vec<(Tile, Vec<Digest>)> {
        let rows = (1u8..).zip(self.made).zip(self.rows).filter(|(_, row)| !row.is_empty());
        rows.map(|((level, index), row)| {
            let width = u16::try_from(row.len()).expect("below 256");
            (Tile { kind: TileKind::Hashes(level), index, width }, row)
        })
        .collect()
    }
}

/// The height of a full tile's subtree.
pub(super) const HEIGHT: u32 = TILE_HEIGHT;

/// The root of a complete subtree with these hashes in one row.
pub(super) fn complete(row: &[Digest]) -> Digest {
    let mut row = row.to_vec();
    while row.len() > 1 {
        row = node_hashes(&row);
    }
    row[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Cutter;

    #[test]
    fn the_audit_and_the_export_work_out_the_same_tree() {
        let (mut growth, mut above, mut cutter) = (Growth::default(), Above::default(), Cutter::default());
        let mut row = Vec::new();
        for number in 0..70_000u64 {
            if number % 1111 == 0 {
                assert_eq!(growth.root(), cutter.root(), "{number}");
            }
            let leaf = Digest::of(&[&number.to_be_bytes()]);
            growth.push(0, leaf);
            row.push(leaf);
            let mut expected = Vec::new();
            cutter.push(leaf, |tile, hashes| expected.push((tile, hashes.to_vec())));
            if row.len() == 256 {
                let made = above.push(complete(&std::mem::take(&mut row)));
                assert_eq!(made, expected[1..], "{number}");
            }
        }
        let partial: Vec<_> = cutter.partial().skip(1).map(|(tile, hashes)| (tile, hashes.to_vec())).collect();
        assert_eq!(above.finish(), partial);
    }
}
