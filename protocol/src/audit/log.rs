//! One log of an export: everything in its folder, held against everything else in it.

use super::erased::Erased;
use super::growth::{Above, Growth, HEIGHT};
use super::piece::{self, PIECE, Piece, Tally, compare};
use super::remarks::{MAX_REMARKS, Remark};
use super::replay::{Act, Replay};
use super::{Fault, Files, Finding, cosigned};
use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::digest::Digest;
use crate::export;
use crate::federation::Federation;
use crate::names::LogId;
use crate::note::{MAX_NOTE, Note, VerifierKey};
use crate::statement::Position;
use crate::time::Timestamp;
use crate::tree::tile::{Tile, TileKind};

/// Pieces that are read together: 65,536 leaves, of which 30 MB at most are held.
const TOGETHER: u64 = 256;

/// What was found out about a log.
#[derive(Clone, Debug)]
pub struct LogReport {
    /// Which.
    pub log: LogId,
    /// The newest checkpoint.
    pub checkpoint: Checkpoint,
    /// The largest checkpoint that a quorum of witnesses has cosigned, if there is one.
    pub settled: Option<Settled>,
    /// All checkpoints that are there, ascending, each a prefix of the next.
    pub checkpoints: Vec<Covered>,
    /// What the leaves say.
    pub tally: Tally,
    /// How many of the adds and disputes are live, as far as this log tells: later ones of its member may have ended more.
    pub live: u64,
    /// The author's times of the first and the last leaf, if there is one.
    pub times: Option<(Timestamp, Timestamp)>,
    /// What its author has erased of it, in order.
    pub erased: Vec<Erased>,
    /// What it erases and voids itself, by index.
    pub(super) takes_back: Vec<(u64, Act)>,
    /// What its author remarks, by index.
    pub(super) remarks: Vec<(u64, Remark)>,
}

/// A checkpoint that has been verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Covered {
    /// How many leaves it covers.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
    /// When the last witness of a quorum had seen it, if enough have.
    pub settled: Option<Timestamp>,
}

/// A settled checkpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settled {
    /// How many leaves it covers.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
    /// When the last witness of the quorum had seen it.
    pub at: Timestamp,
}

/// A checkpoint that the log has signed, and who else.
struct Kept {
    file: String,
    checkpoint: Checkpoint,
    settled: Option<Timestamp>,
}

impl Kept {
    fn covered(&self) -> Covered {
        Covered { size: self.checkpoint.size, root: self.checkpoint.root, settled: self.settled }
    }
}

/// Verifies a log; `None` if the export has none of its files.
pub(super) fn verify<F: Files>(
    files: &F,
    federation: &Federation,
    log: LogId,
) -> Option<(Option<LogReport>, Vec<Finding>)> {
    let folder = export::log(log);
    match files.names(&folder) {
        Ok(names) if names.is_empty() => return None,
        Ok(_) => {}
        Err(error) => return Some((None, vec![Finding::of(folder, error.into()).in_log(log)])),
    }
    let mut audit = Audit { files, federation, log, folder, findings: Vec::new() };
    let report = audit.run();
    Some((report, audit.findings))
}

struct Audit<'a, F> {
    files: &'a F,
    federation: &'a Federation,
    log: LogId,
    folder: String,
    findings: Vec<Finding>,
}

impl<F: Files> Audit<'_, F> {
    fn run(&mut self) -> Option<LogReport> {
        let key = self.federation.logs()[&self.log].clone();
        self.vkey(&key);
        let newest = match self.checkpoint(&key, format!("{}/{}", self.folder, export::CHECKPOINT)) {
            Ok((newest, bad)) => {
                self.findings.extend(bad);
                newest
            }
            Err(finding) => {
                self.findings.push(*finding);
                return None;
            }
        };
        let older = self.older(&key, &newest);
        let walked = self.walk(&newest, &older)?;
        let settled = [&newest].into_iter().chain(older.iter().rev()).find_map(|kept| {
            let Checkpoint { size, root, .. } = kept.checkpoint;
            Some(Settled { size, root, at: kept.settled? })
        });
        Some(LogReport {
            log: self.log,
            settled,
            checkpoints: older.iter().chain([&newest]).map(Kept::covered).collect(),
            checkpoint: newest.checkpoint,
            tally: walked.tally,
            live: walked.replay.live(self.log.epoch),
            times: walked.times,
            erased: Vec::new(),
            takes_back: walked.takes_back,
            remarks: walked.remarks,
        })
    }

    fn wrong(&self, file: impl ToString, fault: impl Into<Fault>) -> Finding {
        Finding::of(file, fault.into()).in_log(self.log)
    }

    fn vkey(&mut self, key: &VerifierKey) {
        let path = format!("{}/{}", self.folder, export::VKEY);
        match self.files.read(&path, 1024) {
            Ok(bytes) if bytes == format!("{key}\n").as_bytes() => {}
            Ok(_) => self.findings.push(self.wrong(path, Fault::Vkey)),
            Err(error) => self.findings.push(self.wrong(path, error)),
        }
    }

    /// Reads a checkpoint and its cosignatures; gives it with those that do not hold.
    fn checkpoint(&self, key: &VerifierKey, file: String) -> Result<(Kept, Vec<Finding>), Box<Finding>> {
        let bytes = self.files.read(&file, MAX_NOTE).map_err(|error| self.wrong(&file, error))?;
        let note = Note::parse(&bytes).map_err(|error| self.wrong(&file, Fault::Checkpoint(error.into())))?;
        let signed = SignedCheckpoint::open(note.clone(), key).map_err(|error| self.wrong(&file, error))?;
        let (settled, bad) = cosigned::settled(self.federation, self.log, &note);
        let bad = bad.into_iter().map(|member| self.wrong(&file, Fault::Cosignature(member))).collect();
        Ok((Kept { file, checkpoint: signed.checkpoint().clone(), settled }, bad))
    }

    /// The older checkpoints that hold, ascending.
    fn older(&mut self, key: &VerifierKey, newest: &Kept) -> Vec<Kept> {
        let folder = format!("{}/{}", self.folder, export::CHECKPOINTS);
        let names = match self.files.names(&folder) {
            Ok(names) => names,
            Err(error) => {
                self.findings.push(self.wrong(folder, error));
                return Vec::new();
            }
        };
        let read = |at: usize| self.checkpoint(key, format!("{folder}/{}", names[at]));
        let (mut older, mut findings) = (Vec::new(), Vec::new());
        for (name, read) in names.iter().zip(self.files.each(names.len(), read)) {
            let kept = match read {
                Ok((kept, bad)) => {
                    findings.extend(bad);
                    kept
                }
                Err(finding) => {
                    findings.push(*finding);
                    continue;
                }
            };
            let (here, there) = (&kept.checkpoint, &newest.checkpoint);
            if *name != here.size.to_string() {
                findings.push(self.wrong(&kept.file, Fault::OtherSize(here.size)));
            } else if here.size == there.size && here.root != there.root {
                findings.push(self.two_histories(&kept, newest));
            } else if here.size > there.size {
                findings.push(self.wrong(&kept.file, Fault::Beyond));
            } else {
                older.push(kept);
            }
        }
        self.findings.extend(findings);
        older.sort_by_key(|kept| kept.checkpoint.size);
        older
    }

    fn two_histories(&self, one: &Kept, other: &Kept) -> Finding {
        self.wrong(&one.file, Fault::Equivocation { size: one.checkpoint.size, other: other.file.clone() })
    }

    /// Goes through all leaves.
    fn walk(&mut self, newest: &Kept, older: &[Kept]) -> Option<Walk> {
        let size = newest.checkpoint.size;
        let sizes: Vec<u64> = older.iter().map(|kept| kept.checkpoint.size).collect();
        let mut walk = Walk::default();
        walk.replay.expect(self.log.epoch, size);
        let (files, log) = (self.files, self.log);
        let mut number = 0;
        while number < size.div_ceil(PIECE) {
            let count = (size.div_ceil(PIECE) - number).min(TOGETHER);
            let pieces = files.each(count as usize, |at| piece::read(files, log, number + at as u64, size));
            files.progress(pieces.iter().map(|piece| piece.hashes.len() as u64).sum());
            for mut piece in pieces {
                self.findings.append(&mut piece.findings);
                if !piece.whole {
                    return None;
                }
                if walk.times.is_some_and(|(_, last)| last > piece.times.0) {
                    let file = format!("{}/{}", self.folder, export::bundle(TileKind::Entries, number, size));
                    self.findings.push(self.wrong(file, Fault::TimeGoesBack).at(walk.size));
                }
                walk.takes_back.append(&mut piece.takes_back);
                walk.remarks.append(&mut piece.remarks);
                if walk.remarks.len() > MAX_REMARKS {
                    walk.remarks.truncate(MAX_REMARKS);
                    let file = format!("{}/{}", self.folder, export::bundle(TileKind::Entries, number, size));
                    self.findings.push(self.wrong(file, Fault::TooManyRemarks));
                }
                let tiles = walk.take(log, &piece, &sizes);
                self.tiles(tiles);
                number += 1;
            }
        }
        self.tiles(std::mem::take(&mut walk.above).finish());
        let root = walk.growth.root();
        if root != newest.checkpoint.root {
            self.findings.push(self.wrong(&newest.file, Fault::Root));
            return Some(walk);
        }
        // Two signed checkpoints of which one is no prefix of the other: the leaves between them are the proof.
        walk.prefixes.resize(older.len(), root);
        for (kept, root) in older.iter().zip(&walk.prefixes) {
            if kept.checkpoint.root != *root {
                self.findings.push(self.two_histories(kept, newest));
            }
        }
        Some(walk)
    }

    fn tiles(&mut self, tiles: Vec<(Tile, Vec<Digest>)>) {
        for (tile, hashes) in tiles {
            let path = format!("{}/{tile}", self.folder);
            if let Some((_, fault)) = compare(self.files, &path, &hashes) {
                self.findings.push(self.wrong(path, fault));
            }
        }
    }
}

/// What has been gathered on the way through a log.
#[derive(Default)]
struct Walk {
    size: u64,
    growth: Growth,
    above: Above,
    /// The roots at the sizes that were asked for, as far as they have been passed.
    prefixes: Vec<Digest>,
    replay: Replay,
    tally: Tally,
    times: Option<(Timestamp, Timestamp)>,
    takes_back: Vec<(u64, Act)>,
    remarks: Vec<(u64, Remark)>,
}

impl Walk {
    /// Takes the next piece; notes the roots at these sizes, which ascend; gives the tiles that it completes.
    fn take(&mut self, log: LogId, piece: &Piece, sizes: &[u64]) -> Vec<(Tile, Vec<Digest>)> {
        let end = self.size + piece.hashes.len() as u64;
        while let Some(&size) = sizes.get(self.prefixes.len()).filter(|size| **size < end) {
            let mut growth = self.growth.clone();
            piece.hashes.iter().zip(self.size..size).for_each(|(hash, _)| growth.push(0, *hash));
            self.prefixes.push(growth.root());
        }
        for (index, act) in (self.size..).zip(&piece.says) {
            self.replay.take(Position { epoch: log.epoch, index }, *act);
        }
        self.tally.add(&piece.tally);
        self.times = Some((self.times.map_or(piece.times.0, |(first, _)| first), piece.times.1));
        self.size = end;
        match piece.top {
            Some(top) => {
                self.growth.push(HEIGHT, top);
                self.above.push(top)
            }
            None => {
                piece.hashes.iter().for_each(|hash| self.growth.push(0, *hash));
                Vec::new()
            }
        }
    }
}
