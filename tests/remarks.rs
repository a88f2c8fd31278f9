//! SPEC 4.7, 4.8: what members remark about others' logs and about their own lists.

use std::time::Duration;

use hashmesh_protocol::batch::Batch;
use hashmesh_protocol::charter::Parameters;
use hashmesh_protocol::engine::Alarm;
use hashmesh_protocol::entries::Entries;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::serve::Archive as _;
use hashmesh_protocol::statement::{Leaf, Statement};
use hashmesh_protocol::survey::{neighbours, survey};
use hashmesh_protocol::wire::Gossip;
use hashmesh_testnet::sim::{Sim, Weather, pdq};

use super::forks::{Word, story};

const MINUTE: Duration = Duration::from_secs(60);

fn log(member: &str) -> LogId {
    LogId { member: member.parse().unwrap(), epoch: 0 }
}

/// What stands in a member's log, as a node holds it.
fn said(net: &Sim, node: &str, member: &str) -> Vec<Statement> {
    let leaves = net.node(node).disk.leaves(log(member));
    leaves.iter().map(|leaf| Leaf::decode(leaf).unwrap().statement).collect()
}

fn brisk() -> Parameters {
    Parameters { observe_interval: 10 * 60_000, state_interval: 60 * 60_000, ..Parameters::standard() }
}

/// SPEC 4.7: what is said of content is observed once by everybody, and remarks give rise to no remarks.
#[test]
fn what_is_said_is_observed_and_then_all_fall_silent() {
    let mut net = Sim::with(&["alice", "bob", "carol"], 11, Weather::default(), brisk());
    net.settle();
    net.adds("alice", pdq(1));
    net.run(5 * MINUTE);
    assert_eq!(said(&net, "carol", "bob"), [], "not before it is due");
    net.run(60 * MINUTE);
    for (observer, size) in [("bob", 1), ("carol", 1)] {
        let remarks = said(&net, "alice", observer);
        let [Statement::Observe(observe)] = remarks.as_slice() else { panic!("{observer}: {remarks:?}") };
        let [seen] = observe.all() else { panic!("{observer}: {observe:?}") };
        assert_eq!((seen.log(), seen.size), (log("alice"), size), "{observer}");
        let federation = net.node("alice").engine().unwrap().federation();
        assert!(seen.open(&federation.logs()[&log("alice")]).is_some(), "signed by alice herself");
    }
    let [Statement::Add(_), Statement::State(_)] = said(&net, "bob", "alice")[..] else {
        panic!("{:?}", said(&net, "bob", "alice"));
    };
    net.run(10 * 60 * MINUTE);
    let sizes = ["alice", "bob", "carol"].map(|member| said(&net, "bob", member).len());
    assert_eq!(sizes, [2, 1, 1], "nobody has said anything since");
    net.audit();
}

/// SPEC 4.8: the author's word of what is live is what everybody's leaves say, and proves what is not.
#[test]
fn a_state_is_what_is_live_and_is_repeated_only_when_that_changes() {
    let mut net = Sim::with(&["alice", "bob"], 12, Weather::default(), brisk());
    net.settle();
    for number in 0..5 {
        net.adds("alice", pdq(number));
    }
    net.settle();
    net.revokes("alice", pdq(3));
    net.run(150 * MINUTE);
    let statements = said(&net, "bob", "alice");
    let Some((Statement::State(state), rest)) = statements.split_last() else { panic!("{statements:?}") };
    assert_eq!((state.count, state.before.index), (4, rest.len() as u64));
    let at_bob = &net.node("bob").disk;
    let logs = [(log("alice"), state.before.index)];
    let found = survey(at_bob, &logs).unwrap();
    assert_eq!((found.root, found.count), (state.root, state.count));
    let revoked = rest.iter().find_map(Statement::ends).unwrap();
    let around = neighbours(at_bob, &logs, revoked).unwrap().unwrap();
    assert!(around.into_iter().flatten().all(|neighbour| neighbour.position != revoked));
    let length = statements.len();
    net.run(150 * MINUTE);
    assert_eq!(said(&net, "bob", "alice").len(), length);

    net.crash("alice");
    net.start("alice");
    net.adds("alice", pdq(9));
    net.run(150 * MINUTE);
    let statements = said(&net, "bob", "alice");
    assert!(matches!(statements.last(), Some(Statement::State(state)) if state.count == 5), "{statements:?}");
    net.audit();
}

/// SPEC 18.3: two halves that never meet; the log of one who observed what was told to one half comes to the other.
#[test]
fn what_somebody_else_has_observed_convicts_a_log_that_is_another_here() {
    let mut net = Sim::with(&["alice", "bob", "carol", "dave", "mallory"], 13, Weather::default(), brisk());
    net.settle();
    net.adds("mallory", pdq(1));
    net.settle();
    net.crash("mallory");
    net.partition(&["alice", "bob"], &["carol", "dave"]);
    let (one, other) =
        (story(&net, 1, &[Word::Add(pdq(10))]), story(&net, 1, &[Word::Add(pdq(20)), Word::Add(pdq(21))]));
    net.inject("alice", "bob", one);
    net.inject("carol", "dave", other);
    net.run(30 * MINUTE);
    assert_eq!(net.alarms("carol"), []);
    let size = said(&net, "alice", "bob").len() as u64;
    assert!(size > 0, "bob has observed mallory");

    let archive = &net.node("bob").disk;
    let bundles = archive.bundles(log("bob"), 0, size, usize::MAX).unwrap();
    let (_, checkpoint) = archive.checkpoint(log("bob"), size - 1, size).unwrap().unwrap();
    let entries = Entries::read(log("bob"), 0, bundles.leaves, bundles.openings).unwrap();
    let batch = Batch { entries, checkpoint, proof: Vec::new() };
    let origins = net.node("carol").engine().unwrap().federation().origins().clone();
    net.inject("dave", "carol", Gossip::encode_batch(batch.encode(&origins)));
    net.run(MINUTE);
    for node in ["carol", "dave"] {
        assert!(net.alarms(node).contains(&Alarm::Fork(log("mallory"))), "{node}");
        assert!(net.matches(node, pdq(20)).is_empty(), "{node}: not settled");
        assert_eq!(net.matches(node, pdq(1)), ["mallory"], "{node}: settled");
    }
}
