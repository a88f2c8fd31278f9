//! The list at a moment: which statements were live in the largest checkpoints of that time (SPEC 19.8).

use serde_tuple::Serialize_tuple;

use super::growth::Growth;
use super::log::{Covered, LogReport};
use super::piece::{self, PIECE};
use super::replay::Replay;
use super::{Fault, Files, Finding, Report};
use crate::bundle;
use crate::codec;
use crate::content_hash::ContentHash;
use crate::digest::Digest;
use crate::export;
use crate::federation::Federation;
use crate::names::LogId;
use crate::opening::Opening;
use crate::statement::{Leaf, Position};
use crate::time::Timestamp;
use crate::tree::leaf_hash;
use crate::tree::tile::TileKind;

const TAG: &[u8] = b"hashmesh/list/v1";

/// Pieces that are read together: 16,384 leaves, of which 30 MB at most are held with their openings.
const TOGETHER: u64 = 64;

/// The list.
#[derive(Clone, Debug)]
pub struct List {
    /// The logs that it is made of, each with the part of it that counts.
    pub logs: Vec<Listed>,
    /// Stands for all of it: two auditors with one digest have one list, whether or not they have the openings.
    pub digest: Digest,
}

/// One log's part of the list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Which log.
    pub log: LogId,
    /// Its origin.
    pub origin: String,
    /// How many of its leaves count.
    pub size: u64,
    /// The signed root over them.
    pub root: Digest,
    /// When that was settled; `None` if nothing of this log is settled, and its author's own clock has decided.
    pub settled: Option<Timestamp>,
    /// How many statements were live.
    pub live: u64,
    /// The root over the places and leaf hashes of those.
    pub tree: Digest,
}

/// A live statement.
#[derive(Clone, Debug)]
pub struct Live {
    /// In this log
    pub log: LogId,
    /// at this place
    pub index: u64,
    /// it says this
    pub leaf: Leaf,
    /// about this hash, if its opening is there and is one.
    pub hash: Option<ContentHash>,
}

/// What the digest is made of.
#[derive(Serialize_tuple)]
struct Line<'a> {
    origin: &'a str,
    size: u64,
    root: Digest,
    live: u64,
    tree: Digest,
}

/// Works out the list at a moment from an export that has been verified. Every live statement is handed out, log by log, in
/// order.
///
/// # Errors
/// If files have changed since.
pub fn list<F: Files>(
    files: &F,
    report: &Report,
    at: Timestamp,
    mut visit: impl FnMut(&Live),
) -> Result<List, Box<Finding>> {
    let mut logs = Vec::new();
    for logs_of_one in report.logs.chunk_by(|a, b| a.log.member == b.log.member) {
        let mut replay = Replay::default();
        let mut chosen = Vec::new();
        for log in logs_of_one {
            if let Some(covered) = choose(files, log, counting(report, log), at)? {
                replay.expect(log.log.epoch, covered.size);
                chosen.push((log, covered));
            }
        }
        for (log, covered) in chosen.iter().rev() {
            replay_to(files, log, covered.size, &mut replay)?;
        }
        for (log, Covered { size, root, settled }) in chosen {
            let mut tree = Growth::default();
            live_of(files, log, size, &replay, &mut tree, &mut visit)?;
            let tree = tree.root();
            let (id, origin) = (log.log, log.checkpoint.origin.clone());
            logs.push(Listed { log: id, origin, size, root, settled, live: replay.live(id.epoch), tree });
        }
    }
    let line = |log: &Listed| {
        let Listed { ref origin, size, root, live, tree, .. } = *log;
        codec::encode(&Line { origin, size, root, live, tree })
    };
    let lines: Vec<u8> = logs.iter().flat_map(line).collect();
    Ok(List { digest: Digest::of(&[TAG, &[0], &lines]), logs })
}

/// The root over what was live of all that a member had said before a position, and how much that was.
pub(super) fn state_before<F: Files>(
    files: &F,
    federation: &Federation,
    logs: &[&LogReport],
    before: Position,
) -> Result<(Digest, u64), Box<Finding>> {
    let sizes = logs.iter().filter(|log| log.log.epoch <= before.epoch).map(|log| {
        let size = log.checkpoint.size.min(ended(federation, log));
        (*log, if log.log.epoch == before.epoch { size.min(before.index) } else { size })
    });
    let sizes: Vec<_> = sizes.collect();
    let mut replay = Replay::default();
    sizes.iter().for_each(|(log, size)| replay.expect(log.log.epoch, *size));
    for (log, size) in sizes.iter().rev() {
        replay_to(files, log, *size, &mut replay)?;
    }
    let (mut growth, mut count) = (Growth::default(), 0);
    for (log, size) in sizes {
        live_of(files, log, size, &replay, &mut growth, &mut |_| count += 1)?;
    }
    Ok((growth.root(), count))
}

/// How many leaves of a log count because it has ended: those up to its end, and what is settled beyond.
fn ended(federation: &Federation, log: &LogReport) -> u64 {
    let settled = log.checkpoints.iter().rev().find(|kept| kept.settled.is_some()).map_or(0, |kept| kept.size);
    let end = federation.log_state(log.log).and_then(|state| state.end);
    end.map_or(u64::MAX, |end| end.size.max(settled))
}

/// How many leaves of a log count that are not settled: none of one that is forked, those up to its end of one that has ended.
fn counting(report: &Report, log: &LogReport) -> u64 {
    let end = report.federation.log_state(log.log).and_then(|state| state.end);
    if report.is_forked(log.log) { 0 } else { end.map_or(u64::MAX, |end| end.size) }
}

/// The part of a log that counts at a moment: up to the largest checkpoint that was settled by then; where nothing is settled,
/// up to the largest whose last leaf is not younger by its author's clock, of those of at most `counting` leaves.
fn choose<F: Files>(files: &F, log: &LogReport, counting: u64, at: Timestamp) -> Result<Option<Covered>, Box<Finding>> {
    let kept = &log.checkpoints[..log.checkpoints.partition_point(|kept| kept.size <= counting)];
    if counting == 0 || log.checkpoints.iter().any(|kept| kept.settled.is_some()) {
        let kept = &log.checkpoints;
        let last = kept.iter().rev().find(|kept| kept.settled.is_some_and(|time| time <= at));
        return Ok(last.copied());
    }
    let (mut low, mut high) = (0, kept.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        let by_then = match kept[middle].size.checked_sub(1) {
            None => true,
            Some(last) => leaf_at(files, log, last)?.time <= at,
        };
        if by_then { low = middle + 1 } else { high = middle }
    }
    Ok(low.checked_sub(1).map(|last| kept[last]))
}

fn changed(log: &LogReport, number: u64, kind: TileKind, fault: Fault) -> Box<Finding> {
    let file = format!("{}/{}", export::log(log.log), export::bundle(kind, number, log.checkpoint.size));
    Box::new(Finding::of(file, fault).in_log(log.log))
}

fn leaf_at<F: Files>(files: &F, log: &LogReport, index: u64) -> Result<Leaf, Box<Finding>> {
    let number = index / PIECE;
    let wrong = |fault: Fault| changed(log, number, TileKind::Entries, fault);
    let bytes = piece::bytes(files, log.log, TileKind::Entries, number, log.checkpoint.size);
    let bytes = bytes.map_err(|error| wrong(error.into()))?;
    let entry = bundle::entries(&bytes).nth(usize::try_from(index % PIECE).expect("below 256"));
    let entry = entry.and_then(Result::ok).ok_or_else(|| wrong(Fault::CutShort))?;
    Leaf::decode(entry).map_err(|error| wrong(error.into()))
}

/// Works out what is live after the first `size` leaves of a log.
fn replay_to<F: Files>(files: &F, log: &LogReport, size: u64, replay: &mut Replay) -> Result<(), Box<Finding>> {
    let mut index = 0;
    while index < size {
        let first = index / PIECE;
        let count = (size.div_ceil(PIECE) - first).min(TOGETHER);
        let read = |at: usize| piece::read(files, log.log, first + at as u64, log.checkpoint.size);
        for mut piece in files.each(count as usize, read) {
            if let Some(finding) = piece.findings.pop() {
                return Err(Box::new(finding));
            }
            for act in piece.says {
                if index < size {
                    replay.take(Position { epoch: log.log.epoch, index }, act);
                }
                index += 1;
            }
        }
    }
    Ok(())
}

/// Hands out what is live of the first `size` leaves of a log, and adds it to a tree.
fn live_of<F: Files>(
    files: &F,
    log: &LogReport,
    size: u64,
    replay: &Replay,
    growth: &mut Growth,
    visit: &mut impl FnMut(&Live),
) -> Result<(), Box<Finding>> {
    let pieces = size.div_ceil(PIECE);
    for first in (0..pieces).step_by(TOGETHER as usize) {
        let count = (pieces - first).min(TOGETHER);
        let read = |at: usize| live_in(files, log, first + at as u64, size, replay);
        for piece in files.each(count as usize, read) {
            for (live, hash) in piece? {
                growth.push(0, leaf_hash(&codec::encode(&(live.log.epoch, live.index, hash))));
                visit(&live);
            }
        }
    }
    Ok(())
}

/// What is live in one piece, with the leaf hashes.
fn live_in<F: Files>(
    files: &F,
    log: &LogReport,
    number: u64,
    size: u64,
    replay: &Replay,
) -> Result<Vec<(Live, Digest)>, Box<Finding>> {
    let wrong = |fault: Fault| changed(log, number, TileKind::Entries, fault);
    let read = |kind| piece::bytes(files, log.log, kind, number, log.checkpoint.size);
    let leaves = read(TileKind::Entries).map_err(|error| wrong(error.into()))?;
    let openings = read(TileKind::Openings).unwrap_or_default();
    let mut openings = bundle::entries(&openings);
    let mut all = Vec::new();
    for (index, entry) in (number * PIECE..size).zip(bundle::entries(&leaves)) {
        let entry = entry.map_err(|_| wrong(Fault::CutShort))?;
        let opening = openings.next().and_then(Result::ok).unwrap_or_default();
        if replay.is_live(Position { epoch: log.log.epoch, index }) {
            let leaf = Leaf::decode(entry).map_err(|error| wrong(error.into()))?;
            let hash = || Opening::decode(opening).ok()?.content_hash(leaf.statement.hash_kind()?);
            let hash = hash();
            all.push((Live { log: log.log, index, leaf, hash }, leaf_hash(entry)));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::World;
    use crate::audit::verify;
    use crate::entries::tests::pdq;

    fn listed(world: &World, files: &impl Files, at: u64) -> (List, Vec<(u64, Option<ContentHash>)>) {
        let report = verify(files, Some(world.network())).unwrap();
        let mut all = Vec::new();
        let list = list(files, &report, Timestamp(at), |live| all.push((live.index, live.hash))).unwrap();
        (list, all)
    }

    /// SPEC 19.8: checkpoints are settled at 1,000 s (of three leaves) and at 2,000 s (of ten).
    #[test]
    fn the_list_of_a_moment_is_that_of_the_largest_checkpoint_settled_by_then() {
        let world = World::of_all_kinds();
        let files = world.export(&[3]);
        let (list, all) = listed(&world, &files, 1_999_999);
        assert_eq!((list.logs[0].size, list.logs[0].settled), (3, Some(Timestamp(1_000_000))));
        assert_eq!(all, [0, 1, 2].map(|number| (number, Some(pdq(number)))));
        let (later, all) = listed(&world, &files, 2_000_000);
        let expected = [(0, 0), (1, 1), (3, 3), (5, 5), (6, 2), (8, 9)].map(|(at, number)| (at, Some(pdq(number))));
        assert_eq!(all, expected);
        assert_eq!((later.logs[0].size, later.logs[0].live), (10, 6));
        assert_ne!(later.digest, list.digest);
        // It was settled for the first time before, and has been cosigned anew since.
        let mut files = files;
        files.0.insert("logs/acme/0/checkpoints/10".to_owned(), world.cosigned(10, 1500).into_bytes());
        assert_eq!(listed(&world, &files, 1_499_999).0.logs[0].size, 3);
        assert_eq!(listed(&world, &files, 1_500_000).0.digest, later.digest);
        let (before, all) = listed(&world, &files, 999_999);
        assert!(before.logs.is_empty() && all.is_empty());
    }

    #[test]
    fn who_may_not_see_the_hashes_gets_the_same_digest() {
        let world = World::of_all_kinds();
        let mut files = world.export(&[3]);
        let (with, _) = listed(&world, &files, u64::MAX);
        files.0.retain(|path, _| !path.contains("/openings/"));
        let (without, all) = listed(&world, &files, u64::MAX);
        assert_eq!(with.digest, without.digest);
        assert!(all.iter().all(|(_, hash)| hash.is_none()) && all.len() == 6);
    }

    #[test]
    fn where_nothing_is_settled_the_author_s_clock_decides() {
        let world = World::of_all_kinds();
        let mut files = world.export(&[3, 7]);
        for (name, size) in [("checkpoints/3", 3), ("checkpoints/7", 7), ("checkpoint", 10)] {
            let note = world.checkpoint(size).note().to_string();
            files.0.insert(format!("logs/acme/0/{name}"), note.into_bytes());
        }
        let at = |after: u64| listed(&world, &files, 1_700_000_000_000 + after).0;
        assert!(at(1).logs.is_empty());
        assert_eq!((at(2).logs[0].size, at(5).logs[0].size, at(6).logs[0].size), (3, 3, 7));
        assert_eq!((at(1000).logs[0].size, at(1000).logs[0].settled), (10, None));
    }
}
