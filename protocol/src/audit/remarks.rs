//! What members remark about others' logs and about their own lists, held against the logs (SPEC 19.9).

use std::collections::BTreeMap;

use super::growth::Growth;
use super::list::state_before;
use super::log::LogReport;
use super::piece::PIECE;
use super::{Fault, FileFault, Files, Finding};
use crate::digest::Digest;
use crate::export;
use crate::federation::Federation;
use crate::names::LogId;
use crate::statement::{Observe, State};
use crate::tree::tile::{TILE_HEIGHT, TILE_WIDTH, Tile, TileKind};

/// Most remarks of one log that are looked at: one an hour for a hundred years.
pub(super) const MAX_REMARKS: usize = 1 << 20;

/// A remark.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Remark {
    Observe(Observe),
    State(State),
}

/// A checkpoint that somebody has observed, and where it says so.
struct Seen {
    root: Digest,
    file: String,
    by: LogId,
    index: u64,
}

/// Holds all observations against the logs and against each other, and the last state of each member against its leaves. The
/// logs have been verified, but for what they remark.
pub(super) fn verify<F: Files>(files: &F, federation: &Federation, logs: &[LogReport]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen: BTreeMap<(LogId, u64), Seen> = BTreeMap::new();
    for by in logs {
        for (index, remark) in &by.remarks {
            let Remark::Observe(observe) = remark else { continue };
            let file = entries(by, *index);
            let wrong = |fault: Fault| Finding::of(&file, fault).in_log(by.log).at(*index);
            for observation in observe.all() {
                let (log, size) = (observation.log(), observation.size);
                // Of a log that the documents do not know nothing can be said.
                let Some(key) = federation.logs().get(&log) else { continue };
                if seen.get(&(log, size)).is_some_and(|other| other.root == observation.root) {
                    continue;
                }
                if observation.open(key).is_none() {
                    findings.push(wrong(Fault::NeverSigned { log, size }));
                    continue;
                }
                match seen.get(&(log, size)) {
                    Some(other) => {
                        let other = format!("{} ({}/{})", other.file, other.by, other.index);
                        findings.push(wrong(Fault::Observed { log, size, other }));
                    }
                    None => {
                        let (file, root) = (file.clone(), observation.root);
                        seen.insert((log, size), Seen { root, file, by: by.log, index: *index });
                    }
                }
            }
        }
    }
    for log in logs {
        for ((_, size), seen) in seen.range((log.log, 0)..=(log.log, log.checkpoint.size)) {
            let wrong = |fault: Fault| Finding::of(&seen.file, fault).in_log(seen.by).at(seen.index);
            match root_at(files, log, *size) {
                Ok(root) if root == seen.root => {}
                Ok(_) => {
                    let other = format!("{}/{}", export::log(log.log), export::CHECKPOINT);
                    findings.push(wrong(Fault::Observed { log: log.log, size: *size, other }));
                }
                Err(fault) => findings.push(wrong(fault.into())),
            }
        }
    }
    findings
        .extend(last_states(logs).filter_map(|(log, index, state)| hold(files, (federation, logs), log, index, state)));
    findings
}

/// Holds all states against the leaves: each is as much work as a list.
pub(super) fn every_state<F: Files>(files: &F, federation: &Federation, logs: &[LogReport]) -> Vec<Finding> {
    let states =
        logs.iter().flat_map(|log| log.remarks.iter().filter_map(move |(index, remark)| state(log, *index, remark)));
    states.filter_map(|(log, index, state)| hold(files, (federation, logs), log, index, state)).collect()
}

/// Where a member says what is live.
type Stated<'a> = (&'a LogReport, u64, &'a State);

fn state<'a>(log: &'a LogReport, index: u64, remark: &'a Remark) -> Option<Stated<'a>> {
    if let Remark::State(state) = remark { Some((log, index, state)) } else { None }
}

/// The last one of each member.
fn last_states(logs: &[LogReport]) -> impl Iterator<Item = Stated<'_>> {
    logs.chunk_by(|a, b| a.log.member == b.log.member).filter_map(|of_one| {
        let mut all = of_one.iter().rev().flat_map(|log| log.remarks.iter().rev().map(move |remark| (log, remark)));
        all.find_map(|(log, (index, remark))| state(log, *index, remark))
    })
}

fn hold<F: Files>(
    files: &F,
    (federation, logs): (&Federation, &[LogReport]),
    log: &LogReport,
    index: u64,
    said: &State,
) -> Option<Finding> {
    let wrong = |fault: Fault| Finding::of(entries(log, index), fault).in_log(log.log).at(index);
    if said.before.epoch > log.log.epoch || (said.before.epoch == log.log.epoch && said.before.index > index) {
        return Some(wrong(Fault::State));
    }
    let of_one: Vec<_> = logs.iter().filter(|other| other.log.member == log.log.member).collect();
    match state_before(files, federation, &of_one, said.before) {
        Ok(found) if found == (said.root, said.count) => None,
        Ok(_) => Some(wrong(Fault::State)),
        Err(finding) => Some(*finding),
    }
}

fn entries(log: &LogReport, index: u64) -> String {
    format!("{}/{}", export::log(log.log), export::bundle(TileKind::Entries, index / PIECE, log.checkpoint.size))
}

/// The root that a verified log has at a size, from its tiles: no more than 255 hashes of each level are looked at.
fn root_at<F: Files>(files: &F, log: &LogReport, size: u64) -> Result<Digest, FileFault> {
    let (mut growth, mut at) = (Growth::default(), 0);
    for level in (0..=5u8).rev() {
        let height = u32::from(level) * TILE_HEIGHT;
        let nodes = log.checkpoint.size >> height;
        let mut tile: Option<(u64, Vec<u8>)> = None;
        while at + (1 << height) <= size {
            let node = at >> height;
            let (index, place) = (node / TILE_WIDTH, node % TILE_WIDTH);
            if tile.as_ref().is_none_or(|(held, _)| *held != index) {
                let width = u16::try_from((nodes - index * TILE_WIDTH).min(TILE_WIDTH)).expect("at most 256");
                let path = format!("{}/{}", export::log(log.log), Tile { kind: TileKind::Hashes(level), index, width });
                tile = Some((index, files.read(&path, usize::from(width) * 32)?));
            }
            let bytes = tile.as_ref().map_or(&[][..], |(_, bytes)| bytes);
            let hash = bytes.chunks_exact(32).nth(usize::try_from(place).expect("below 256"));
            let hash = hash.ok_or(FileFault::Missing)?;
            growth.push(height, Digest(hash.try_into().expect("32 bytes")));
            at += 1 << height;
        }
    }
    Ok(growth.root())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::World;
    use crate::audit::{Outcome, every_state as check_states, verify as audit};
    use crate::statement::{Observation, Position, Statement};

    /// What bolt says that it has seen of acme's log, in an export with both.
    fn seen_by_bolt(acme: &World, observed: &[(&World, usize)]) -> crate::audit::Report {
        let mut bolt = World::of("bolt");
        for (shown, size) in observed {
            let observation = Observation::of(acme.log, &shown.checkpoint(*size)).unwrap();
            bolt.say(Statement::Observe(Observe::new(vec![observation]).unwrap()), Vec::new());
        }
        let mut files = acme.export(&[3]);
        files.0.extend(bolt.export(&[]).0);
        audit(&files, Some(acme.network())).unwrap()
    }

    fn many(count: u64) -> World {
        let mut world = World::new();
        (0..count).for_each(|number| world.add(number, None));
        world
    }

    #[test]
    fn what_others_have_seen_of_a_log_is_what_the_log_is() {
        let acme = many(700);
        let sizes = [1, 2, 255, 256, 257, 512, 513, 699, 700];
        let report = seen_by_bolt(&acme, &sizes.map(|size| (&acme, size)));
        assert_eq!((report.outcome(), report.findings.as_slice()), (Outcome::Verified, &[][..]));
    }

    /// SPEC 19.9: two members' logs alone show a split view.
    #[test]
    fn a_log_that_showed_another_history_to_an_observer_is_convicted() {
        let (acme, mut other) = (World::of_all_kinds(), World::of_all_kinds());
        other.leaves[2] = World::of_all_kinds().leaves[3].clone();
        let report = seen_by_bolt(&acme, &[(&acme, 2), (&other, 5)]);
        assert_eq!(report.outcome(), Outcome::Equivocation);
        assert!(matches!(report.findings[0].fault, Fault::Observed { size: 5, .. }), "{:?}", report.findings);
        // Beyond what is there, two observations convict it as well; one alone says nothing.
        let (mut long, mut longer) = (World::of_all_kinds(), World::of_all_kinds());
        (0..5).for_each(|number| long.add(number + 50, None));
        (0..5).for_each(|number| longer.add(number + 60, None));
        assert_eq!(seen_by_bolt(&acme, &[(&long, 14)]).outcome(), Outcome::Verified);
        assert_eq!(seen_by_bolt(&acme, &[(&long, 14), (&longer, 14)]).outcome(), Outcome::Equivocation);
    }

    #[test]
    fn who_says_to_have_seen_what_was_never_signed_accuses_only_itself() {
        let acme = World::of_all_kinds();
        let mut bolt = World::of("bolt");
        let mut observation = Observation::of(acme.log, &acme.checkpoint(4)).unwrap();
        observation.root.0[0] ^= 1;
        bolt.say(Statement::Observe(Observe::new(vec![observation]).unwrap()), Vec::new());
        let mut files = acme.export(&[]);
        files.0.extend(bolt.export(&[]).0);
        let report = audit(&files, Some(acme.network())).unwrap();
        assert_eq!(report.outcome(), Outcome::Broken);
        assert_eq!((report.findings[0].log, report.findings[0].index), (Some(bolt.log), Some(0)));
        assert!(matches!(report.findings[0].fault, Fault::NeverSigned { size: 4, .. }));
        assert!(report.is_whole(), "nobody's list or backup is lost with it");
    }

    #[test]
    fn the_last_state_of_a_member_is_held_against_its_leaves_and_all_on_request() {
        let mut world = many(6);
        world.add(2, Some(2));
        world.revoke(4);
        let state = |world: &World, size: usize| {
            let files = world.export(&[]);
            let report = audit(&files, Some(world.network())).unwrap();
            let before = Position { epoch: 0, index: size as u64 };
            let (root, count) = state_before(&files, &world.federation, &[&report.logs[0]], before).unwrap();
            State { before, root, count }
        };
        let (early, late) = (state(&world, 5), state(&world, 8));
        assert_eq!((early.count, late.count), (5, 5));
        world.say(Statement::State(State { count: 4, ..early }), Vec::new());
        world.say(Statement::State(late), Vec::new());
        let files = world.export(&[]);
        let mut report = audit(&files, Some(world.network())).unwrap();
        assert_eq!((report.outcome(), report.findings.as_slice()), (Outcome::Verified, &[][..]));
        check_states(&files, &mut report);
        assert_eq!((report.findings.len(), report.findings[0].index), (1, Some(8)));
        assert_eq!(report.findings[0].fault, Fault::State);

        world.say(Statement::State(State { root: early.root, ..late }), Vec::new());
        let report = audit(&world.export(&[]), Some(world.network())).unwrap();
        assert_eq!(report.findings[0].fault, Fault::State);
        assert!(report.is_whole());
        // Nobody can know what will be live.
        world.leaves.pop();
        world.say(Statement::State(State { before: Position { epoch: 0, index: 99 }, ..late }), Vec::new());
        let report = audit(&world.export(&[]), Some(world.network())).unwrap();
        assert_eq!(report.findings[0].fault, Fault::State);
    }
}
