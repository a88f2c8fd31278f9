//! 256 leaves of a log with their tile and their openings: what can be checked of them without the others, and so on any
//! thread.

use super::growth::complete;
use super::remarks::Remark;
use super::replay::Act;
use super::{Fault, FileFault, Files, Finding};
use crate::bundle;
use crate::digest::Digest;
use crate::export;
use crate::names::LogId;
use crate::opening::{self, MAX_OPENING};
use crate::statement::{Leaf, MAX_LEAF, Statement};
use crate::time::Timestamp;
use crate::tree::leaf_hashes;
use crate::tree::tile::{TILE_WIDTH, TileKind};

/// Leaves in a piece.
pub(super) const PIECE: u64 = TILE_WIDTH;

/// Longest bundle, in bytes, of entries of at most so many.
const fn longest(entry: usize) -> usize {
    PIECE as usize * (entry + 2)
}

/// How many leaves say what, and how many of their commitments are opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Adds.
    pub adds: u64,
    /// Disputes.
    pub disputes: u64,
    /// Revocations.
    pub revokes: u64,
    /// Erasures.
    pub erases: u64,
    /// Leaves that void the end of an earlier log.
    pub voids: u64,
    /// Remarks about others' logs.
    pub observes: u64,
    /// Remarks about the own list.
    pub states: u64,
    /// Leaves of kinds or versions that are not known here.
    pub unknown: u64,
    /// Adds and disputes whose opening is there, and right.
    pub opened: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.adds += other.adds;
        self.disputes += other.disputes;
        self.revokes += other.revokes;
        self.erases += other.erases;
        self.voids += other.voids;
        self.observes += other.observes;
        self.states += other.states;
        self.unknown += other.unknown;
        self.opened += other.opened;
    }
}

/// A piece that has been read.
pub(super) struct Piece {
    /// The leaf hashes.
    pub(super) hashes: Vec<Digest>,
    /// The root over them, if they are 256.
    pub(super) top: Option<Digest>,
    /// What each leaf does to what is live.
    pub(super) says: Vec<Act>,
    /// What is erased and voided, by index.
    pub(super) takes_back: Vec<(u64, Act)>,
    /// What is remarked, by index.
    pub(super) remarks: Vec<(u64, Remark)>,
    /// The author's times of the first and the last leaf.
    pub(super) times: (Timestamp, Timestamp),
    pub(super) tally: Tally,
    /// What is wrong.
    pub(super) findings: Vec<Finding>,
    /// Whether all leaves could be read: if not, nothing can be said of what comes after.
    pub(super) whole: bool,
}

/// The bytes of a bundle of a log of this size.
pub(super) fn bytes<F: Files>(
    files: &F,
    log: LogId,
    kind: TileKind,
    number: u64,
    size: u64,
) -> Result<Vec<u8>, FileFault> {
    let entry = if kind == TileKind::Openings { MAX_OPENING } else { MAX_LEAF };
    files.read(&format!("{}/{}", export::log(log), export::bundle(kind, number, size)), longest(entry))
}

/// Reads the piece with this number of a log of this size, and checks it.
pub(super) fn read<F: Files>(files: &F, log: LogId, number: u64, size: u64) -> Piece {
    let mut piece = Piece {
        hashes: Vec::new(),
        top: None,
        says: Vec::new(),
        takes_back: Vec::new(),
        remarks: Vec::new(),
        times: Default::default(),
        tally: Tally::default(),
        findings: Vec::new(),
        whole: false,
    };
    let reader = Reader { log, first: number * PIECE, folder: export::log(log) };
    match reader.leaves(files, number, size, &mut piece) {
        Ok(commitments) => {
            reader.tile(files, number, size, &mut piece);
            reader.openings(files, number, size, &commitments, &mut piece);
        }
        Err(finding) => piece.findings.push(*finding),
    }
    piece
}

struct Reader {
    log: LogId,
    first: u64,
    folder: String,
}

impl Reader {
    fn path(&self, kind: TileKind, number: u64, size: u64) -> String {
        format!("{}/{}", self.folder, export::bundle(kind, number, size))
    }

    /// Reads the leaves; gives their commitments.
    fn leaves<F: Files>(
        &self,
        files: &F,
        number: u64,
        size: u64,
        piece: &mut Piece,
    ) -> Result<Vec<Option<Digest>>, Box<Finding>> {
        let path = self.path(TileKind::Entries, number, size);
        let wrong = |fault: Fault| Finding::of(&path, fault).in_log(self.log);
        let bytes = files.read(&path, longest(MAX_LEAF)).map_err(|error| wrong(error.into()))?;
        let mut commitments = Vec::with_capacity(PIECE as usize);
        piece.hashes = leaf_hashes(bundle::entries(&bytes).map_while(Result::ok));
        let mut last = None;
        for (index, entry) in (self.first..).zip(bundle::entries(&bytes)) {
            let entry = entry.map_err(|_| wrong(Fault::CutShort).at(index))?;
            let leaf = Leaf::decode(entry).map_err(|error| wrong(error.into()).at(index))?;
            if last.is_some_and(|last| last > leaf.time) {
                piece.findings.push(wrong(Fault::TimeGoesBack).at(index));
            }
            if last.is_none() {
                piece.times.0 = leaf.time;
            }
            last = Some(leaf.time);
            let commitment = leaf.statement.commitment().map(|(_, commitment)| commitment);
            piece.says.push(match &leaf.statement {
                Statement::Void(void) => Act::Void(*void),
                Statement::Erase(erase) => Act::Erase(*erase),
                statement => Act::Say { committed: commitment.is_some(), ends: statement.ends() },
            });
            commitments.push(commitment);
            let tally = &mut piece.tally;
            *match &leaf.statement {
                Statement::Add(_) => &mut tally.adds,
                Statement::Dispute(_) => &mut tally.disputes,
                Statement::Revoke(_) => &mut tally.revokes,
                Statement::Erase(erase) => {
                    piece.takes_back.push((index, Act::Erase(*erase)));
                    &mut tally.erases
                }
                Statement::Void(void) => {
                    piece.takes_back.push((index, Act::Void(*void)));
                    &mut tally.voids
                }
                Statement::Observe(observe) => {
                    piece.remarks.push((index, Remark::Observe(observe.clone())));
                    &mut tally.observes
                }
                Statement::State(state) => {
                    piece.remarks.push((index, Remark::State(*state)));
                    &mut tally.states
                }
                Statement::Unknown => &mut tally.unknown,
            } += 1;
        }
        let wanted = usize::from(export::bundle(TileKind::Entries, number, size).width);
        if piece.hashes.len() != wanted {
            return Err(wrong(Fault::Count { found: piece.hashes.len(), wanted }).into());
        }
        piece.times.1 = last.unwrap_or_default();
        piece.top = (wanted as u64 == PIECE).then(|| complete(&piece.hashes));
        piece.whole = true;
        Ok(commitments)
    }

    /// Holds the tile of leaf hashes against the leaves.
    fn tile<F: Files>(&self, files: &F, number: u64, size: u64, piece: &mut Piece) {
        let path = self.path(TileKind::Hashes(0), number, size);
        let findings = compare(files, &path, &piece.hashes).into_iter().map(|(place, fault)| {
            let finding = Finding::of(&path, fault).in_log(self.log);
            place.map_or(finding.clone(), |place| finding.at(self.first + place))
        });
        piece.findings.extend(findings);
    }

    /// Holds the openings, if they are there, against the commitments.
    fn openings<F: Files>(&self, files: &F, number: u64, size: u64, commitments: &[Option<Digest>], piece: &mut Piece) {
        let path = self.path(TileKind::Openings, number, size);
        let wrong = |fault: Fault| Finding::of(&path, fault).in_log(self.log);
        let bytes = match files.read(&path, longest(MAX_OPENING)) {
            Ok(bytes) => bytes,
            Err(FileFault::Missing) => return,
            Err(error) => return piece.findings.push(wrong(error.into())),
        };
        let opened = opening::commitments(bundle::entries(&bytes).map_while(Result::ok));
        let mut found = 0;
        for opening in bundle::entries(&bytes) {
            let index = self.first + found as u64;
            let Ok(opening) = opening else { return piece.findings.push(wrong(Fault::CutShort).at(index)) };
            match commitments.get(found) {
                _ if opening.is_empty() => {}
                Some(Some(committed)) if opened[found] == *committed => piece.tally.opened += 1,
                Some(_) => piece.findings.push(wrong(Fault::Opening).at(index)),
                None => {}
            }
            found += 1;
        }
        if found != commitments.len() {
            piece.findings.push(wrong(Fault::Count { found, wanted: commitments.len() }));
        }
    }
}

/// Holds a hash tile against what must be in it: what is wrong, and at which of its hashes.
pub(super) fn compare<F: Files>(files: &F, path: &str, hashes: &[Digest]) -> Option<(Option<u64>, Fault)> {
    let bytes = match files.read(path, longest(32)) {
        Ok(bytes) => bytes,
        Err(error) => return Some((None, error.into())),
    };
    if bytes.len() != hashes.len() * 32 {
        return Some((None, Fault::Count { found: bytes.len() / 32, wanted: hashes.len() }));
    }
    let differs = bytes.chunks_exact(32).zip(hashes).position(|(found, hash)| found != hash.as_bytes());
    differs.map(|place| (Some(place as u64), Fault::Tile))
}
