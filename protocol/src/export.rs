//! What an export of a federation's logs is made of (SPEC 19): names of files, and logs cut into the tiles of
//! c2sp.org/tlog-tiles.
//!
//! Writes nothing: whoever has a disk asks for names and bytes. What an auditor makes of an export is in
//! [`audit`](crate::audit), which shares the names with this module and no computation.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::armor::{self, Document};
use crate::card::Card;
use crate::charter::{Charter, Genesis, GenesisError};
use crate::digest::Digest;
use crate::evidence::Accused;
use crate::federation::Federation;
use crate::governance::{Governance, GovernanceError};
use crate::names::{LogId, MemberId};
use crate::time::Timestamp;
use crate::tree::tile::{TILE_WIDTH, Tile, TileKind};
use crate::tree::{empty_root, node_hash};

/// The file that names logs, witnesses and quorum, as c2sp.org/tlog-policy has it.
pub const POLICY: &str = "policy";

/// The folder of charters with their signatures.
pub const CHARTERS: &str = "charters";

/// The folder of cards.
pub const CARDS: &str = "cards";

/// The folder of proofs that somebody has signed two histories.
pub const EVIDENCE: &str = "evidence";

/// The file that says which openings whoever exports does not hold by its own decision, a line each (SPEC 20.7).
pub const NOT_HELD: &str = "not-held";

/// The folder of logs; each has one of its own in it, see [`log`].
pub const LOGS: &str = "logs";

/// In a log's folder: its newest checkpoint.
pub const CHECKPOINT: &str = "checkpoint";

/// In a log's folder: older checkpoints, named by their size.
pub const CHECKPOINTS: &str = "checkpoints";

/// In a log's folder: the key that signs its checkpoints, as other tools take it.
pub const VKEY: &str = "vkey";

/// The folder of a log.
pub fn log(log: LogId) -> String {
    format!("{LOGS}/{log}")
}

/// The file of a charter.
pub fn charter(version: u64) -> String {
    format!("{CHARTERS}/{version}.charter")
}

/// The file of a card.
pub fn card(member: MemberId, counter: u64) -> String {
    format!("{CARDS}/{member}-{counter}.card")
}

/// A line of that file: where the statement stands, and since when its opening is not held.
pub fn not_held(log: LogId, index: u64, since: Timestamp) -> String {
    format!("{log}/{index} {}\n", since.0)
}

/// The file of the evidence against a key.
pub fn evidence(accused: Accused) -> String {
    match accused {
        Accused::Log(LogId { member, epoch }) => format!("{EVIDENCE}/{member}-{epoch}-log.evidence"),
        Accused::Witness(member) => format!("{EVIDENCE}/{member}-witness.evidence"),
    }
}

/// The entries of a log that stand in its bundle of this number, if the log has so many.
pub fn bundle(kind: TileKind, index: u64, size: u64) -> Tile {
    let width = size.saturating_sub(index * TILE_WIDTH).min(TILE_WIDTH);
    Tile { kind, index, width: u16::try_from(width).expect("at most 256") }
}

/// The documents of a federation by their files: each adopted charter with its signatures, and each card that is held.
pub fn documents(governance: &Governance) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for (adopted, approvals) in governance.charters() {
        let approvals = approvals.into_iter().cloned().map(Document::Approval);
        let signed: Vec<_> = std::iter::once(Document::Charter(Box::new(adopted.clone()))).chain(approvals).collect();
        files.push((charter(adopted.body().version), armor::write(&signed)));
    }
    let federation = governance.federation();
    for held in governance.cards() {
        files.push((file_of(held, &federation), armor::write([&Document::Card(Box::new(held.clone()))])));
    }
    files
}

/// The file of a card: under its number if it is or was in force, else with its id as well.
pub(crate) fn file_of(held: &Card, federation: &Federation) -> String {
    let (member, counter) = (held.body().member, held.body().counter);
    let line = federation.line(member).map(|line| line.cards.as_slice()).unwrap_or_default();
    if line.iter().any(|known| known.id() == held.id()) {
        card(member, counter)
    } else {
        format!("{CARDS}/{member}-{counter}-{}.card", held.id())
    }
}

/// Why documents are not those of a federation.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DocumentsError {
    /// No charter.
    #[error("there is no charter in it")]
    NoCharter,
    /// Charter, signatures and cards of version 0 that do not go together.
    #[error("charter, signatures and cards do not go together")]
    Genesis(#[from] GenesisError),
    /// A later one that does not hold.
    #[error("version {version} of the charter does not hold")]
    Charter {
        /// Which.
        version: u64,
        /// Why.
        #[source]
        error: GovernanceError,
    },
    /// A later one that has too few signatures, or lacks cards.
    #[error("version {0} of the charter lacks signatures or cards")]
    Incomplete(u64),
    /// Two charters of one version.
    #[error("there are two charters of version {0}")]
    TwoCharters(u64),
}

/// The federation of a chain of charters with signatures and cards, everything verified anew. Cards that nothing speaks for are
/// passed over.
pub fn governance(documents: Vec<Document>) -> Result<(Genesis, Governance), DocumentsError> {
    let (mut charters, mut cards, mut approvals) = (BTreeMap::new(), Vec::new(), Vec::new());
    for document in documents {
        match document {
            Document::Charter(charter) => {
                let version = charter.body().version;
                if charters.insert(version, *charter).is_some() {
                    return Err(DocumentsError::TwoCharters(version));
                }
            }
            Document::Card(card) => cards.push(*card),
            Document::Approval(approval) => approvals.push(approval),
            Document::Proposal(_) | Document::Draft(_) | Document::Invitation(_) | Document::Withdrawal(_) => {}
        }
    }
    let first = charters.remove(&0).ok_or(DocumentsError::NoCharter)?;
    let of = |charter: &Charter| approvals.iter().filter(|a| a.charter == charter.id()).cloned().collect::<Vec<_>>();
    let (begun, later): (Vec<Card>, Vec<Card>) = cards.into_iter().partition(|card| card.body().counter == 0);
    let signed = of(&first);
    let founders: Vec<Card> = begun.iter().filter(|card| first.member(card.body().member).is_some()).cloned().collect();
    let genesis = Genesis::open(first, &founders, signed)?;
    let mut governance = Governance::new(&genesis);
    // Each names the cards that it needs, whichever they are.
    let named: Vec<Card> = begun.into_iter().chain(later.iter().cloned()).collect();
    for (version, charter) in charters {
        let (id, signed) = (charter.id(), of(&charter));
        let taken = governance.take_charter(charter, signed, named.clone());
        taken.map_err(|error| DocumentsError::Charter { version, error })?;
        if governance.tip().id() != id {
            return Err(DocumentsError::Incomplete(version));
        }
    }
    let mut later = later;
    later.sort_by_key(|card| (card.body().member, card.body().counter, card.id()));
    for card in later {
        let _nobody_speaks_for_it = governance.take_card(card);
    }
    Ok((genesis, governance))
}

/// The policy by which tools of others say whether a checkpoint is settled: the logs, the witnesses, and how many of them.
pub fn policy(federation: &Federation) -> String {
    let mut text = String::new();
    for key in federation.logs().values() {
        writeln!(text, "log {key}").expect("writing to memory");
    }
    let witnesses = &federation.charter().body().witnesses;
    let mut names = Vec::new();
    for member in &witnesses.members {
        // One whose card says that it leaves cosigns no more.
        let Some(key) = federation.witnesses().get(member) else { continue };
        let name = format!("{member}/witness");
        writeln!(text, "witness {name} {key}").expect("writing to memory");
        names.push(name);
    }
    writeln!(text, "group witnesses {} {}", witnesses.quorum, names.join(" ")).expect("writing to memory");
    text.push_str("quorum witnesses\n");
    text
}

/// Cuts a growing log into hash tiles.
#[derive(Clone, Debug)]
pub struct Cutter {
    /// By level, the hashes that fill no tile yet.
    pending: Vec<Vec<Digest>>,
    /// By level, how many tiles are full.
    full: Vec<u64>,
}

/// Hashes in a full tile.
const WIDTH: usize = TILE_WIDTH as usize;

impl Default for Cutter {
    fn default() -> Self {
        Self { pending: vec![Vec::new()], full: vec![0] }
    }
}

impl Cutter {
    /// Goes on after so many full tiles of leaf hashes. Those that are needed, and of the levels above, are read back.
    pub fn resume<E>(tiles: u64, mut read: impl FnMut(Tile) -> Result<Vec<Digest>, E>) -> Result<Self, E> {
        let mut cutter = Self { pending: vec![Vec::new()], full: vec![tiles] };
        let mut below = tiles;
        for level in 0u8.. {
            if below == 0 {
                break;
            }
            let unfinished = below - below % TILE_WIDTH..below;
            let tops =
                unfinished.map(|index| Ok(top(&read(Tile { kind: TileKind::Hashes(level), index, width: 256 })?)));
            cutter.pending.push(tops.collect::<Result<_, E>>()?);
            below /= TILE_WIDTH;
            cutter.full.push(below);
        }
        Ok(cutter)
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.full[0] * TILE_WIDTH + self.pending[0].len() as u64
    }

    /// Appends a leaf by its hash, and hands out every tile that it fills.
    pub fn push(&mut self, leaf_hash: Digest, mut filled: impl FnMut(Tile, &[Digest])) {
        let mut hash = leaf_hash;
        for level in 0u8.. {
            let at = usize::from(level);
            if at == self.pending.len() {
                self.pending.push(Vec::new());
                self.full.push(0);
            }
            self.pending[at].push(hash);
            if self.pending[at].len() < WIDTH {
                break;
            }
            let tile = std::mem::take(&mut self.pending[at]);
            filled(Tile { kind: TileKind::Hashes(level), index: self.full[at], width: 256 }, &tile);
            self.full[at] += 1;
            hash = top(&tile);
        }
    }

    /// The tiles at the right edge that are not full.
    pub fn partial(&self) -> impl Iterator<Item = (Tile, &[Digest])> {
        (0u8..).zip(self.pending.iter().zip(&self.full)).filter(|(_, (pending, _))| !pending.is_empty()).map(
            |(level, (pending, full))| {
                let width = u16::try_from(pending.len()).expect("fewer than 256");
                (Tile { kind: TileKind::Hashes(level), index: *full, width }, pending.as_slice())
            },
        )
    }

    /// The root over all leaves.
    pub fn root(&self) -> Digest {
        let mut right = None;
        for pending in &self.pending {
            // The complete subtrees of this level's unfinished tile: the smallest is the last.
            let mut rest = pending.as_slice();
            while !rest.is_empty() {
                let (before, subtree) = rest.split_at(rest.len() - (1 << rest.len().trailing_zeros()));
                let left = top(subtree);
                right = Some(right.map_or(left, |right| node_hash(&left, &right)));
                rest = before;
            }
        }
        right.unwrap_or_else(empty_root)
    }
}

/// The root of a complete subtree, from the hashes of one of its levels.
fn top(hashes: &[Digest]) -> Digest {
    let mut hashes = hashes.to_vec();
    while hashes.len() > 1 {
        hashes = hashes.chunks(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    hashes[0]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;
    use crate::federation::tests::federation;
    use crate::tree::tests::naive_root;
    use crate::tree::tile::tiles;

    fn leaf(number: u64) -> Digest {
        Digest::of(&[&number.to_be_bytes()])
    }

    /// The tiles of a log of this size, by path, and its cutter.
    fn cut(size: u64) -> (BTreeMap<String, Vec<Digest>>, Cutter) {
        let (mut files, mut cutter) = (BTreeMap::new(), Cutter::default());
        for number in 0..size {
            cutter
                .push(leaf(number), |tile, hashes| assert!(files.insert(tile.to_string(), hashes.to_vec()).is_none()));
        }
        files.extend(cutter.partial().map(|(tile, hashes)| (tile.to_string(), hashes.to_vec())));
        (files, cutter)
    }

    #[test]
    fn a_log_is_cut_into_the_tiles_that_it_must_have() {
        for size in [0, 1, 255, 256, 257, 511, 512, 70_000] {
            let (files, cutter) = cut(size);
            let mut expected: Vec<_> = tiles(size)
                .filter(|tile| tile.kind != TileKind::Entries)
                .map(|tile| (tile.to_string(), usize::from(tile.width)))
                .collect();
            expected.sort();
            let got: Vec<_> = files.iter().map(|(path, hashes)| (path.clone(), hashes.len())).collect();
            assert_eq!(got, expected, "{size}");
            assert_eq!(cutter.size(), size);
            let leaves: Vec<_> = (0..size).map(leaf).collect();
            assert_eq!(cutter.root(), naive_root(&leaves), "{size}");
        }
    }

    #[test]
    fn cutting_goes_on_where_full_tiles_end() {
        let (files, whole) = cut(70_000);
        for tiles in [0, 1, 2, 255, 256, 257, 273] {
            let read = |tile: Tile| Ok::<_, Infallible>(files[&tile.to_string()].clone());
            let mut cutter = Cutter::resume(tiles, read).unwrap();
            assert_eq!(cutter.size(), tiles * 256);
            let mut further = BTreeMap::new();
            for number in tiles * 256..70_000 {
                cutter.push(leaf(number), |tile, hashes| {
                    further.insert(tile.to_string(), hashes.to_vec());
                });
            }
            assert_eq!(cutter.root(), whole.root(), "{tiles}");
            assert!(further.iter().all(|(path, hashes)| files.get(path) == Some(hashes)));
        }
    }

    #[test]
    fn the_policy_names_logs_witnesses_and_quorum() {
        let (federation, _) = federation(&["acme", "bolt", "crab"]);
        let text = policy(&federation);
        let first: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(first, ["log", "log", "log", "witness", "witness", "witness", "group", "quorum"]);
        assert!(
            text.ends_with("group witnesses 2 acme/witness bolt/witness crab/witness\nquorum witnesses\n"),
            "{text}"
        );
        assert!(text.contains(&format!("log {}\n", federation.logs().values().next().unwrap())));
    }
}
