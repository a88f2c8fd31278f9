//! What an auditor does with an export (SPEC 19): believes nothing in it, and needs nothing else but the federation's id.
//!
//! Shares with the code that wrote the logs the primitives (hash, signature, encoding of leaves and documents) and no
//! computation: trees, tiles, time order and liveness are worked out here a second time, so that a mistake in one is found
//! by the other. Reads whatever has files ([`Files`]); what is found is returned, never printed.

pub(crate) mod cosigned;
mod documents;
mod erased;
mod evidence;
mod files;
mod finding;
mod growth;
mod list;
mod log;
mod piece;
mod remarks;
mod replay;

pub use documents::Unusable;
pub use erased::Erased;
pub use files::{FileFault, Files};
pub use finding::{Fault, Finding};
pub use list::{List, Listed, Live, list};
pub use log::{Covered, LogReport, Settled};
pub use piece::Tally;
pub use replay::{Act, Replay};

use crate::digest::NetworkId;
use crate::evidence::Accused;
use crate::export;
use crate::federation::Federation;
use crate::names::LogId;
use crate::note::Note;
use crate::time::Timestamp;

/// Findings that are told one by one; of more, how many.
const MAX_FINDINGS: usize = 1000;

/// What an audit has found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The federation that the export is of, by its own charter.
    pub federation: Federation,
    /// Whether the auditor named the federation. If not, somebody may have made all of it up.
    pub pinned: bool,
    /// Each log that is there.
    pub logs: Vec<LogReport>,
    /// Logs of the federation that the export leaves out.
    pub absent: Vec<LogId>,
    /// The openings that whoever exported does not hold, by its own decision and word: log, leaf, since when.
    pub not_held: Vec<(LogId, u64, Timestamp)>,
    /// What is wrong, at most 1,000 of it.
    pub findings: Vec<Finding>,
    /// How much more is wrong.
    pub more: u64,
    /// Whether bytes are not as they must be.
    damaged: bool,
}

/// What it comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Everything that is there is as it must be, and of the federation that was named.
    Verified,
    /// The same, but no federation was named.
    SelfConsistent,
    /// Something is not as it must be.
    Broken,
    /// Somebody has signed two histories, and the export proves it.
    Equivocation,
}

impl Report {
    /// What it comes to.
    pub fn outcome(&self) -> Outcome {
        if self.findings.iter().any(|finding| finding.fault.is_equivocation()) {
            Outcome::Equivocation
        } else if !self.findings.is_empty() {
            Outcome::Broken
        } else if self.pinned {
            Outcome::Verified
        } else {
            Outcome::SelfConsistent
        }
    }

    /// Whether the export itself is as it must be. Evidence against somebody, and what members say that is not so, takes nothing from
    /// that.
    pub fn is_whole(&self) -> bool {
        !self.damaged
    }

    /// Whether its key has signed two histories of a log.
    fn is_forked(&self, log: LogId) -> bool {
        self.findings.iter().any(|finding| match finding.fault {
            Fault::Proven(accused) => accused == Accused::Log(log),
            Fault::Observed { log: observed, .. } => observed == log,
            _ => false,
        })
    }

    fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            self.damaged |= !finding.fault.is_said();
            // A proof must not be lost behind a thousand damaged tiles.
            if self.findings.len() < MAX_FINDINGS || finding.fault.is_equivocation() {
                self.findings.push(finding);
            } else {
                self.more += 1;
            }
        }
    }
}

/// When a checkpoint of a log was settled: when the last of a quorum of witnesses had seen it.
pub fn settled_at(federation: &Federation, log: LogId, note: &Note) -> Option<Timestamp> {
    cosigned::settled(federation, log, note).0
}

/// Verifies an export. `network` is the id of the federation, from anywhere but the export.
pub fn verify<F: Files>(files: &F, network: Option<NetworkId>) -> Result<Report, Unusable> {
    let read = documents::read(files)?;
    let federation = read.federation;
    let mut report = Report {
        pinned: network.is_some(),
        logs: Vec::new(),
        absent: Vec::new(),
        not_held: Vec::new(),
        findings: Vec::new(),
        more: 0,
        damaged: false,
        federation: federation.clone(),
    };
    report.add(read.findings);
    let found = federation.charter().network();
    if let Some(wanted) = network.filter(|wanted| *wanted != found) {
        report.add([Finding::of(export::charter(0), Fault::OtherNetwork { found, wanted })]);
        return Ok(report);
    }
    match documents::text(files, export::POLICY) {
        Ok(policy) if policy == export::policy(&federation) => {}
        Ok(_) => report.add([Finding::of(export::POLICY, Fault::Policy)]),
        Err(fault) => report.add([Finding::of(export::POLICY, fault.into())]),
    }
    match documents::not_held(files) {
        Ok(not_held) => report.not_held = not_held,
        Err(fault) => report.add([Finding::of(export::NOT_HELD, fault)]),
    }
    report.add(evidence::verify(files, &federation));
    for &id in federation.logs().keys() {
        match log::verify(files, &federation, id) {
            Some((log, findings)) => {
                report.logs.extend(log);
                report.add(findings);
            }
            None => report.absent.push(id),
        }
    }
    erased::list(&mut report.logs);
    // What is remarked is held against whole logs only: damage must convict nobody.
    if report.is_whole() {
        report.add(remarks::verify(files, &federation, &report.logs));
    }
    if report.logs.is_empty() && report.findings.is_empty() {
        return Err(Unusable::NoLogs);
    }
    Ok(report)
}

/// Holds also the earlier `state` statements of an export that has been verified against its leaves (SPEC 19.9).
pub fn every_state<F: Files>(files: &F, report: &mut Report) {
    let findings = remarks::every_state(files, &report.federation, &report.logs);
    let known = std::mem::take(&mut report.findings);
    report.add(findings.into_iter().filter(|finding| !known.contains(finding)));
    report.findings.splice(0..0, known);
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::files::tests::Memory;
    use super::*;
    use crate::bundle;
    use crate::card::MemberKeys;
    use crate::charter::Genesis;
    use crate::checkpoint::{Checkpoint, SignedCheckpoint};
    use crate::content_hash::HashKind;
    use crate::entries::tests::pdq;
    use crate::export::Cutter;
    use crate::federation::tests::genesis;
    use crate::names::MemberId;
    use crate::note::VerifierKey;
    use crate::opening::{Opening, Salt, commitment};
    use crate::statement::{Dispute, Leaf, Position, Revoke, Statement, tests::add};
    use crate::tree::leaf_hash;
    use crate::tree::tile::{Tile, TileKind};

    /// A federation of two whose first member has said something.
    pub(crate) struct World {
        pub(crate) genesis: Genesis,
        pub(crate) federation: Federation,
        pub(crate) keys: BTreeMap<MemberId, MemberKeys>,
        pub(crate) log: LogId,
        pub(crate) leaves: Vec<(Vec<u8>, Vec<u8>)>,
    }

    impl World {
        pub(crate) fn new() -> Self {
            Self::of("acme")
        }

        /// Where one of the two is to say something.
        pub(crate) fn of(member: &str) -> Self {
            let (genesis, keys) = genesis(&["acme", "bolt"]);
            let log = LogId { member: member.parse().unwrap(), epoch: 0 };
            Self { federation: Federation::new(&genesis), genesis, keys, log, leaves: Vec::new() }
        }

        pub(crate) fn network(&self) -> NetworkId {
            self.federation.charter().network()
        }

        pub(crate) fn say(&mut self, statement: Statement, opening: Vec<u8>) {
            let time = Timestamp(1_700_000_000_000 + self.leaves.len() as u64);
            self.leaves.push((Leaf { time, statement }.encode(), opening));
        }

        pub(crate) fn add(&mut self, number: u64, replaces: Option<u64>) {
            let opening = Opening::of(&pdq(number), Salt([number as u8; 16]), None).encode();
            let replaces = replaces.map(|index| Position { epoch: 0, index });
            self.say(add(commitment(&opening), replaces), opening);
        }

        pub(crate) fn revoke(&mut self, index: u64) {
            let position = Position { epoch: 0, index };
            self.say(Statement::Revoke(Revoke { position, reason: 2 }), Vec::new());
        }

        /// A few leaves of every kind.
        pub(crate) fn of_all_kinds() -> Self {
            let mut world = Self::new();
            (0..6).for_each(|number| world.add(number, None));
            world.add(2, Some(2));
            world.revoke(4);
            let opening = Opening::of(&pdq(9), Salt([9; 16]), Some("a note")).encode();
            let dispute =
                Dispute { kind: HashKind::Pdq as u64, commitment: commitment(&opening), reason: 3, replaces: None };
            world.say(Statement::Dispute(dispute), opening);
            // A kind that nobody knows yet.
            world.leaves.push((crate::codec::encode(&(1, 1_700_000_000_100u64, 99, "?")), Vec::new()));
            world
        }

        fn key(&self) -> VerifierKey {
            self.federation.logs()[&self.log].clone()
        }

        pub(crate) fn checkpoint(&self, size: usize) -> SignedCheckpoint {
            let mut cutter = Cutter::default();
            self.leaves[..size].iter().for_each(|(leaf, _)| cutter.push(leaf_hash(leaf), |_, _| ()));
            let checkpoint =
                Checkpoint { origin: self.key().name().to_owned(), size: size as u64, root: cutter.root() };
            self.sign(checkpoint)
        }

        fn sign(&self, checkpoint: Checkpoint) -> SignedCheckpoint {
            SignedCheckpoint::sign(checkpoint, &self.key(), &self.keys[&self.log.member].log)
        }

        /// The checkpoint with the cosignature of the other member at a moment.
        pub(crate) fn cosigned(&self, size: usize, seconds: u64) -> String {
            use base64::Engine as _;
            let note = self.checkpoint(size).note().clone();
            let witness = &self.federation.witnesses()[&"bolt".parse().unwrap()];
            let signed = format!("cosignature/v1\ntime {seconds}\n{}", note.text());
            let signature = self.keys[&"bolt".parse().unwrap()].witness.sign_text(&signed);
            let line = [&witness.id().to_be_bytes()[..], &seconds.to_be_bytes(), &signature.0].concat();
            format!("{note}— {} {}\n", witness.name(), base64::engine::general_purpose::STANDARD.encode(line))
        }

        /// An export of everything, with older checkpoints of these sizes.
        pub(crate) fn export(&self, older: &[usize]) -> Memory {
            let mut files = BTreeMap::new();
            let folder = export::log(self.log);
            let mut cutter = Cutter::default();
            let mut put = |name: &dyn std::fmt::Display, bytes: Vec<u8>| {
                files.insert(format!("{folder}/{name}"), bytes);
            };
            let bytes_of =
                |hashes: &[crate::digest::Digest]| hashes.iter().flat_map(|hash| hash.0).collect::<Vec<u8>>();
            for (leaf, _) in &self.leaves {
                cutter.push(leaf_hash(leaf), |tile, hashes| put(&tile, bytes_of(hashes)));
            }
            for (tile, hashes) in cutter.partial() {
                put(&tile, bytes_of(hashes));
            }
            for (index, entries) in (0..).zip(self.leaves.chunks(256)) {
                let (mut leaves, mut openings) = (Vec::new(), Vec::new());
                for (leaf, opening) in entries {
                    bundle::push(&mut leaves, leaf);
                    bundle::push(&mut openings, opening);
                }
                let tile = Tile { kind: TileKind::Entries, index, width: entries.len() as u16 };
                put(&tile, leaves);
                put(&Tile { kind: TileKind::Openings, ..tile }, openings);
            }
            for size in older {
                put(&format_args!("checkpoints/{size}"), self.cosigned(*size, 1000).into_bytes());
            }
            put(&"checkpoint", self.cosigned(self.leaves.len(), 2000).into_bytes());
            put(&"vkey", format!("{}\n", self.key()).into_bytes());
            files.insert(export::POLICY.to_owned(), export::policy(&self.federation).into_bytes());
            files.extend(
                export::documents(&crate::governance::Governance::new(&self.genesis))
                    .into_iter()
                    .map(|(path, text)| (path, text.into_bytes())),
            );
            Memory(files)
        }

        #[track_caller]
        fn fault(&self, files: &Memory) -> (Option<u64>, Fault) {
            let report = verify(files, Some(self.network())).unwrap();
            let [finding] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
            (finding.index, finding.fault.clone())
        }
    }

    fn path(name: &str) -> String {
        format!("logs/acme/0/{name}")
    }

    #[test]
    fn an_export_verifies_and_says_what_is_in_it() {
        let world = World::of_all_kinds();
        let files = world.export(&[0, 3, 7]);
        let report = verify(&files, Some(world.network())).unwrap();
        assert_eq!((report.outcome(), report.findings.as_slice()), (Outcome::Verified, &[][..]));
        let log = &report.logs[0];
        assert_eq!(log.tally, Tally { adds: 7, disputes: 1, revokes: 1, unknown: 1, opened: 8, ..Tally::default() });
        assert_eq!((log.live, log.checkpoints.len()), (6, 4));
        let settled = log.settled.unwrap();
        assert_eq!((settled.size, settled.at), (10, Timestamp(2_000_000)));
        assert_eq!(report.absent, [LogId { member: "bolt".parse().unwrap(), epoch: 0 }]);
        assert_eq!(verify(&files, None).unwrap().outcome(), Outcome::SelfConsistent);
        let other = NetworkId::default();
        let report = verify(&files, Some(other)).unwrap();
        assert_eq!(report.outcome(), Outcome::Broken);
        assert!(matches!(report.findings[0].fault, Fault::OtherNetwork { wanted, .. } if wanted == other));
    }

    /// Every tile boundary that a log of some size has, with checkpoints on all sides of them.
    #[test]
    fn logs_of_many_sizes_verify() {
        let mut world = World::new();
        (0..600).for_each(|number| world.add(number, None));
        let all = std::mem::take(&mut world.leaves);
        for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 600] {
            world.leaves = all[..size].to_vec();
            let older: Vec<_> = [0, 1, 100, 255, 256, 257, 511, 512, 600].into_iter().filter(|s| *s <= size).collect();
            let report = verify(&world.export(&older), Some(world.network())).unwrap();
            assert_eq!((report.outcome(), report.findings.as_slice()), (Outcome::Verified, &[][..]), "{size}");
            assert_eq!(report.logs[0].live, size as u64);
        }
    }

    /// Flips every bit of every file. What is not found can only be a signature line that has become somebody else's, whose
    /// lines are ignored (SPEC 6.3): then everything else in the checkpoint is as it was.
    #[test]
    fn every_flipped_bit_is_found() {
        let world = World::of_all_kinds();
        let files = world.export(&[3]);
        let ignored = std::sync::Mutex::new(0);
        let paths: Vec<_> = files.0.keys().cloned().collect();
        let check = |path: &String| {
            let mut files = files.clone();
            for bit in 0..files.0[path].len() * 8 {
                let flip = |files: &mut Memory| files.0.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
                flip(&mut files);
                let found =
                    verify(&files, Some(world.network())).is_ok_and(|report| report.outcome() == Outcome::Verified);
                if found {
                    let text = std::str::from_utf8(&files.0[path]).unwrap();
                    let own: String = text.split_inclusive('\n').take(5).collect();
                    assert!(path.contains("/checkpoint"), "{path} {bit}");
                    let size = if path.ends_with("/3") { 3 } else { 10 };
                    assert_eq!(own, world.checkpoint(size).note().to_string(), "{path} {bit}");
                    let note = Note::parse(text.as_bytes()).unwrap();
                    let witness = &world.federation.witnesses()[&"bolt".parse().unwrap()];
                    let line = &note.signatures()[1];
                    assert!((line.name.as_str(), line.id) != (witness.name(), witness.id()), "{path} {bit}");
                    *ignored.lock().unwrap() += 1;
                }
                flip(&mut files);
            }
        };
        std::thread::scope(|scope| {
            let (odd, even): (Vec<_>, Vec<_>) = paths.iter().enumerate().partition(|(number, _)| number % 2 == 1);
            for half in [odd, even] {
                scope.spawn(move || half.into_iter().for_each(|(_, path)| check(path)));
            }
        });
        assert!(ignored.into_inner().unwrap() > 0, "names of witnesses can be flipped");
    }

    #[test]
    fn two_signed_histories_are_proven() {
        let world = World::of_all_kinds();
        let mut other = World::new();
        (0..5).for_each(|number| other.add(number + 100, None));
        let mut files = world.export(&[3]);
        let forked = other.checkpoint(5).note().to_string().into_bytes();
        files.0.insert(path("checkpoints/5"), forked.clone());
        let (_, fault) = world.fault(&files);
        assert_eq!(fault, Fault::Equivocation { size: 5, other: path("checkpoint") });
        let report = verify(&files, Some(world.network())).unwrap();
        assert_eq!(report.outcome(), Outcome::Equivocation);
        assert_eq!(verify(&files, None).unwrap().outcome(), Outcome::Equivocation);

        // Two roots for one size prove it even where leaves are missing.
        let mut files = other.export(&[]);
        files.0.insert(path("checkpoints/5"), world.checkpoint(5).note().to_string().into_bytes());
        files.0.remove(&path("tile/entries/000.p/5"));
        assert_eq!(verify(&files, Some(world.network())).unwrap().outcome(), Outcome::Equivocation);
    }

    /// Nobody is convicted by what the author has not signed.
    #[test]
    fn damage_is_no_equivocation() {
        let world = World::of_all_kinds();
        let mut files = world.export(&[3]);
        let forged = world.cosigned(3, 1000).replacen("\n3\n", "\n5\n", 1);
        files.0.insert(path("checkpoints/5"), forged.into_bytes());
        assert!(matches!(world.fault(&files), (None, Fault::Checkpoint(_))));
        let mut files = world.export(&[]);
        files.0.insert(path("checkpoints/7"), world.checkpoint(3).note().to_string().into_bytes());
        assert_eq!(world.fault(&files), (None, Fault::OtherSize(3)));
        let mut files = world.export(&[]);
        let mut longer = World::of_all_kinds();
        longer.add(50, None);
        files.0.insert(path("checkpoints/11"), longer.checkpoint(11).note().to_string().into_bytes());
        assert_eq!(world.fault(&files), (None, Fault::Beyond));
        // Leaves that do not lead to the newest root say nothing about older ones.
        let mut files = longer.export(&[3]);
        let mut changed = World::of_all_kinds();
        changed.leaves.swap(0, 1);
        changed.add(50, None);
        let swapped = changed.export(&[]);
        for name in ["tile/entries/000.p/11", "tile/0/000.p/11", "openings/000.p/11"] {
            files.0.insert(path(name), swapped.0[&path(name)].clone());
        }
        let report = verify(&files, Some(world.network())).unwrap();
        assert_eq!(report.outcome(), Outcome::Broken);
        assert!(report.findings.iter().any(|finding| finding.fault == Fault::Root));
    }

    #[test]
    fn what_is_missing_cut_short_or_too_long_is_told_with_its_place() {
        let world = World::of_all_kinds();
        let files = world.export(&[3]);
        for (name, fault) in [
            ("tile/entries/000.p/10", FileFault::Missing),
            ("tile/0/000.p/10", FileFault::Missing),
            ("vkey", FileFault::Missing),
            ("checkpoint", FileFault::Missing),
        ] {
            let mut files = files.clone();
            files.0.remove(&path(name));
            assert_eq!(world.fault(&files), (None, Fault::File(fault)), "{name}");
        }
        let mut huge = files.clone();
        huge.0.insert(path("tile/entries/000.p/10"), vec![0; 1 << 20]);
        assert!(matches!(world.fault(&huge), (None, Fault::File(FileFault::TooLong(_)))));
        let mut cut = files.clone();
        cut.0.get_mut(&path("tile/entries/000.p/10")).unwrap().pop();
        assert_eq!(world.fault(&cut), (Some(9), Fault::CutShort));
        let mut without = files.clone();
        without.0.remove(&path("openings/000.p/10"));
        let report = verify(&without, Some(world.network())).unwrap();
        assert_eq!((report.outcome(), report.logs[0].tally.opened), (Outcome::Verified, 0), "openings may be withheld");
        let mut wrong = files.clone();
        let openings = wrong.0.get_mut(&path("openings/000.p/10")).unwrap();
        let last = openings.len() - 20;
        openings[last] ^= 1;
        assert_eq!(world.fault(&wrong), (Some(8), Fault::Opening));
        let mut nothing = files.clone();
        nothing.0.retain(|path, _| !path.starts_with("logs/"));
        assert_eq!(verify(&nothing, None).unwrap_err(), Unusable::NoLogs);
        assert_eq!(verify(&Memory::default(), None).unwrap_err(), Unusable::NoCharter);
        // What does not belong there, or is missing beside the logs, hides nothing of what can be read.
        let mut stray = files.clone();
        stray.0.insert("cards/stray".to_owned(), b"no card".to_vec());
        stray.0.remove("policy");
        let report = verify(&stray, Some(world.network())).unwrap();
        let found: Vec<_> = report.findings.iter().map(|finding| (finding.file.as_str(), &finding.fault)).collect();
        assert_eq!(found, [("cards/stray", &Fault::NotAsWritten), ("policy", &Fault::File(FileFault::Missing))]);
        assert_eq!((report.logs.len(), report.is_whole()), (1, false));
        let mut no_card = files;
        no_card.0.retain(|path, _| !path.starts_with("cards/bolt"));
        assert!(matches!(verify(&no_card, None), Err(Unusable::Documents(_))));
    }

    /// The tiles of an export, as golang.org/x/mod/sumdb/tlog wants them.
    struct Theirs(Memory);

    impl tlog_tiles::tile::TileReader for Theirs {
        fn height(&self) -> u8 {
            8
        }

        fn read_tiles(&self, tiles: &[tlog_tiles::tile::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::tlog::Error> {
            Ok(tiles.iter().map(|tile| self.0.0[&path(&tile.path().replacen("tile/8/", "tile/", 1))].clone()).collect())
        }

        fn save_tiles(&self, _: &[tlog_tiles::tile::Tile], _: &[Vec<u8>]) {}
    }

    /// `tlog_tiles` and `signed_note` are ports of golang.org/x/mod/sumdb: every leaf is proved from an export by them alone.
    #[test]
    fn what_is_exported_is_what_other_tools_expect() {
        use signed_note::{Note as TheirNote, StandardVerifier, VerifierList};
        use tlog_tiles::checkpoint::Checkpoint as TheirCheckpoint;
        use tlog_tiles::tile::TileHashReader;
        use tlog_tiles::tlog::{check_record, prove_record, record_hash};
        let mut world = World::new();
        (0..600).for_each(|number| world.add(number, None));
        let files = world.export(&[]);
        let vkey = std::str::from_utf8(&files.0[&path("vkey")]).unwrap().trim_end();
        let note = TheirNote::from_bytes(&files.0[&path("checkpoint")]).unwrap();
        let verifier = StandardVerifier::new(vkey).unwrap();
        let (good, unknown) = note.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
        assert_eq!((good.len(), unknown.len()), (1, 1));
        let checkpoint = TheirCheckpoint::from_bytes(note.text()).unwrap();
        let theirs = Theirs(files);
        let reader = TileHashReader::new(checkpoint.size(), *checkpoint.hash(), &theirs);
        for (number, (leaf, _)) in (0..).zip(&world.leaves) {
            let proof = prove_record(checkpoint.size(), number, &reader).unwrap();
            check_record(&proof, checkpoint.size(), *checkpoint.hash(), number, record_hash(leaf)).unwrap();
        }
    }
}
