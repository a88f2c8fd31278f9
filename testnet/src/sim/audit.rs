//! What must hold in every run, whatever happens in it.

use std::collections::{BTreeMap, BTreeSet};

use hashmesh::store::Store as _;

use hashmesh_protocol::checkpoint::SignedCheckpoint;
use hashmesh_protocol::engine::{Outcome, Placed};
use hashmesh_protocol::ledger::Mark;
use hashmesh_protocol::names::{LogId, MemberId};
use hashmesh_protocol::statement::Position;
use hashmesh_protocol::tree::edge::Edge;
use hashmesh_protocol::tree::leaf_hash;

use super::Sim;

/// What the simulator keeps in mind of a run.
#[derive(Default)]
pub(super) struct Record {
    signed: BTreeMap<(LogId, u64), Mark>,
    cosigned: BTreeMap<(MemberId, LogId, u64), Mark>,
    acknowledged: BTreeMap<MemberId, Vec<Position>>,
    /// Who shunned whom.
    pub(super) shunned: Vec<(MemberId, MemberId)>,
}

impl Record {
    /// SPEC 8.1: no key ever signs two roots for one size.
    pub(super) fn signed(&mut self, log: LogId, mark: Mark, seed: u64) {
        let before = *self.signed.entry((log, mark.size)).or_insert(mark);
        assert_eq!(before, mark, "{log} signed two histories (seed {seed})");
    }

    /// SPEC 17.2: no witness ever cosigns two roots for one size.
    pub(super) fn cosigned(&mut self, witness: MemberId, log: LogId, mark: Mark, seed: u64) {
        let before = *self.cosigned.entry((witness, log, mark.size)).or_insert(mark);
        assert_eq!(before, mark, "{witness} cosigned two histories of {log} (seed {seed})");
    }

    pub(super) fn acknowledged(&mut self, member: MemberId, outcome: &Outcome) {
        let Outcome::Done(results) = outcome else { return };
        let positions = results.iter().filter_map(|result| match result {
            Ok(Placed::New(position) | Placed::Known(position)) => Some(*position),
            Err(_) => None,
        });
        self.acknowledged.entry(member).or_default().extend(positions);
    }
}

impl Sim {
    /// Checks a run: what was acknowledged is durable, what was signed is one history, every copy of a log is a prefix of
    /// the longest. Scenarios end with it.
    pub fn audit(&self) {
        for (member, positions) in &self.record.acknowledged {
            for position in positions {
                let log = LogId { member: *member, epoch: position.epoch };
                let stored = self.nodes[member].disk.leaves(log).len() as u64;
                assert!(
                    position.index < stored,
                    "{member} lost {position}, which it had acknowledged (seed {})",
                    self.seed
                );
            }
        }
        let logs = self.nodes.values().flat_map(|node| node.disk.logs().expect("a simulated disk does not fail"));
        let logs: BTreeSet<LogId> = logs.map(|stored| stored.log).collect();
        for log in logs {
            let copies = self.nodes.values().map(|node| node.disk.leaves(log));
            let longest = copies.clone().max_by_key(|leaves| leaves.len()).unwrap_or_default();
            for copy in copies {
                assert!(longest.starts_with(copy), "two histories of {log} (seed {})", self.seed);
            }
            let mut edge = Edge::default();
            for leaf in longest {
                edge.push(leaf_hash(leaf));
                if let Some(signed) = self.record.signed.get(&(log, edge.size())) {
                    assert_eq!(signed.root, edge.root(), "{log} is not what was signed (seed {})", self.seed);
                }
            }
        }
    }

    /// Checks that all running nodes hold the same logs, with the checkpoints that they need to serve them.
    pub fn audit_agreement(&self) {
        self.audit();
        let mut running = self.nodes.values().filter_map(|node| Some((node, node.engine()?)));
        let Some((first, engine)) = running.next() else { return };
        let expected_heads = engine.heads().heads;
        let expected: Vec<_> = engine.ledger().logs().map(|(id, log)| (id, log.mark())).collect();
        for (log, held) in engine.ledger().logs() {
            let signed = held.whole().map_or(0, SignedCheckpoint::size);
            assert_eq!(signed, held.size(), "{} cannot serve {log} (seed {})", first.member, self.seed);
        }
        for (node, engine) in running {
            assert_eq!(
                engine.heads().heads,
                expected_heads,
                "the heads of {} and {} differ (seed {})",
                node.member,
                first.member,
                self.seed
            );
            let marks: Vec<_> = engine.ledger().logs().map(|(id, log)| (id, log.mark())).collect();
            assert_eq!(marks, expected, "{} and {} differ (seed {})", node.member, first.member, self.seed);
        }
    }
}
