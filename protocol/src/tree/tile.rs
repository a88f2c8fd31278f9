//! The tiles of c2sp.org/tlog-tiles v0.1.0: how a tree is cut into files, and what they are called.

use std::fmt;

/// Hashes across a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;

/// Levels of the binary tree in one level of tiles.
pub const TILE_HEIGHT: u32 = 8;

/// What a tile file holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TileKind {
    /// Hashes: of the complete subtrees of 256^level leaves, in order.
    Hashes(u8),
    /// Entries: each a big-endian u16 length and that many bytes.
    Entries,
    /// Openings of the entries, in bundles like theirs, beside the tiles: not part of the C2SP text.
    Openings,
}

/// One tile of a tree of some size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tile {
    /// What it holds.
    pub kind: TileKind,
    /// Which one along its level.
    pub index: u64,
    /// How many hashes or entries it holds, 1..=256; fewer than 256 at the right edge only.
    pub width: u16,
}

/// The relative path of the file, as the C2SP text has it.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
            TileKind::Openings => f.write_str("openings/")?,
        }
        // Groups of three digits, all but the last prefixed with x: 1234067 is x001/x234/067.
        let groups = self.index.checked_ilog(1000).unwrap_or(0);
        for group in (0..=groups).rev() {
            let digits = self.index / 1000u64.pow(group) % 1000;
            if group == 0 { write!(f, "{digits:03}")? } else { write!(f, "x{digits:03}/")? }
        }
        if u64::from(self.width) < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// All tiles of a tree of `size` leaves: entry bundles, then hashes level by level, each from the left. A level without a
/// complete subtree has none.
pub fn tiles(size: u64) -> impl Iterator<Item = Tile> {
    let levels = (0u8..8).map(TileKind::Hashes);
    std::iter::once(TileKind::Entries).chain(levels).flat_map(move |kind| {
        let items = match kind {
            TileKind::Entries | TileKind::Openings | TileKind::Hashes(0) => size,
            TileKind::Hashes(level) => size >> (u32::from(level) * TILE_HEIGHT),
        };
        (0..items.div_ceil(TILE_WIDTH)).map(move |index| {
            let width = (items - index * TILE_WIDTH).min(TILE_WIDTH);
            Tile { kind, index, width: u16::try_from(width).expect("at most 256") }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(kind: TileKind, index: u64, width: u16) -> String {
        Tile { kind, index, width }.to_string()
    }

    #[test]
    fn paths_are_those_of_the_c2sp_text() {
        assert_eq!(path(TileKind::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(TileKind::Hashes(0), 273, 112), "tile/0/273.p/112");
        assert_eq!(path(TileKind::Entries, 0, 256), "tile/entries/000");
        assert_eq!(path(TileKind::Entries, 1000, 1), "tile/entries/x001/000.p/1");
        assert_eq!(path(TileKind::Openings, 1000, 1), "openings/x001/000.p/1");
        assert_eq!(path(TileKind::Hashes(2), 999, 256), "tile/2/999");
        let last = "tile/0/x018/x446/x744/x073/x709/x551/615";
        assert_eq!(path(TileKind::Hashes(0), u64::MAX, 256), last, "no number is too large");
    }

    #[test]
    fn a_tree_of_70_000_has_the_tiles_of_the_c2sp_example() {
        let all: Vec<_> = tiles(70_000).collect();
        let of = |kind| all.iter().filter(move |t| t.kind == kind).map(Tile::to_string).collect::<Vec<_>>();
        assert_eq!(of(TileKind::Hashes(0)).len(), 274);
        assert_eq!(of(TileKind::Hashes(0)).last().unwrap(), "tile/0/273.p/112");
        assert_eq!(of(TileKind::Hashes(1)), ["tile/1/000", "tile/1/001.p/17"]);
        assert_eq!(of(TileKind::Hashes(2)), ["tile/2/000.p/1"]);
        assert!(of(TileKind::Hashes(3)).is_empty());
    }

    #[test]
    fn a_full_tile_is_followed_by_nothing_empty() {
        let paths: Vec<_> = tiles(256).map(|t| t.to_string()).collect();
        assert_eq!(paths, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
        assert_eq!(tiles(0).count(), 0);
    }
}
