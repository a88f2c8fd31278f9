//! SPEC 8: never sign twice.

use std::time::Duration;

use hashmesh_protocol::batch::Batch;
use hashmesh_protocol::charter::Parameters;
use hashmesh_protocol::checkpoint::{Checkpoint, SignedCheckpoint};
use hashmesh_protocol::engine::{Alarm, Draft, Restored, Silence};
use hashmesh_protocol::entries::Entries;
use hashmesh_protocol::statement::{Labels, Leaf, Position, Revoke, Statement};
use hashmesh_protocol::tree::edge::Edge;
use hashmesh_protocol::tree::leaf_hash;
use hashmesh_protocol::wire::Gossip;
use hashmesh_testnet::sim::{Sim, Weather, pdq};

/// SPEC 8.6: before its first signature a node hears from a majority what they hold of its log.
#[test]
fn nothing_is_signed_before_a_majority_was_heard() {
    let members = ["alice", "bob", "carol", "dave", "erin"];
    let mut net = Sim::with(&members, 1, Weather::default(), Parameters::standard());
    net.settle();
    net.partition(&["alice", "bob"], &["carol", "dave", "erin"]);
    net.crash("alice");
    net.start("alice");
    let waiting = net.adds("alice", pdq(1));
    net.settle();
    assert_eq!(net.silence("alice"), Some(Silence::Listening { heard: 1, needed: 2 }));
    assert_eq!(net.outcome(waiting), None, "queued, neither refused nor forgotten");

    net.heal();
    net.settle();
    assert!(net.outcome(waiting).is_some());
    assert_eq!(net.matches("erin", pdq(1)), ["alice"]);
    net.audit_agreement();
}

#[test]
fn an_operator_can_order_a_node_to_sign_alone() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.crash("alice");
    net.isolate("alice");
    net.start("alice");
    net.adds("alice", pdq(1));
    net.settle();
    assert!(net.matches("alice", pdq(1)).is_empty());
    net.sign_alone("alice");
    net.settle();
    assert_eq!(net.matches("alice", pdq(1)), ["alice"]);
    net.heal();
    net.settle();
    net.audit_agreement();
}

/// SPEC 8.5: the common fork is an accident: yesterday's backup of the store, with today's signer file.
#[test]
fn a_restored_store_is_refilled_before_anything_is_signed() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    net.adds("alice", pdq(1));
    net.settle();
    let backup = net.node("alice").disk.clone();
    net.adds("alice", pdq(2));
    net.adds("alice", pdq(3));
    net.settle();

    net.crash("alice");
    net.node_mut("alice").disk = backup;
    net.start("alice");
    let later = net.adds("alice", pdq(4));
    assert_eq!(net.silence("alice"), Some(Silence::Behind { have: 1, signed: 3 }));
    net.settle();
    assert!(net.alarms("alice").contains(&Alarm::Behind { have: 1, signed: 3 }));
    assert!(net.outcome(later).is_some(), "peers have refilled it");
    assert_eq!(net.matches("bob", pdq(4)), ["alice"]);
    net.audit_agreement();
}

/// SPEC 8.5: store and signer file both restored from yesterday: only the peers know better.
#[test]
fn a_restored_machine_hears_from_its_peers_that_it_is_behind() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    net.adds("alice", pdq(1));
    net.settle();
    let backup = (net.node("alice").disk.clone(), net.node("alice").signer.clone());
    net.adds("alice", pdq(2));
    net.settle();

    net.crash("alice");
    (net.node_mut("alice").disk, net.node_mut("alice").signer) = backup;
    net.start("alice");
    net.adds("alice", pdq(3));
    net.settle();
    assert_eq!(net.matches("bob", pdq(2)), ["alice"]);
    assert_eq!(net.matches("bob", pdq(3)), ["alice"]);
    net.audit_agreement();
}

/// SPEC 8.5: a large batch is announced by its checkpoint alone. The machine is restored from a backup before anybody could
/// fetch the leaves: they exist nowhere any more, but they were signed, and those who have heard so say it.
#[test]
fn a_restored_machine_hears_of_a_checkpoint_that_nobody_holds_the_leaves_of() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    net.adds("alice", pdq(0));
    net.settle();
    let backup = (net.node("alice").disk.clone(), net.node("alice").signer.clone());
    let labels = Labels::new(&[1]).unwrap();
    let drafts = (1..1000).map(|number| Draft::add(pdq(number), labels, net.salt(), None).unwrap()).collect();
    let signed = net.publishes("alice", drafts);
    assert!(net.outcome(signed).is_some());
    let announcement = net.node("alice").engine().unwrap().heads().heads[0].1.clone();
    net.crash("alice");
    net.inject("carol", "bob", Gossip::encode_checkpoint(&announcement));
    net.run(Duration::from_secs(1));

    (net.node_mut("alice").disk, net.node_mut("alice").signer) = backup;
    net.start("alice");
    let unsaid = net.adds("alice", pdq(2000));
    net.settle();
    assert_eq!(net.silence("alice"), Some(Silence::Behind { have: 1, signed: 1000 }));
    assert_eq!(net.outcome(unsaid), None);
}

/// SPEC 8.9: what was signed last went to one member alone, which is away when the machine is restored from an older backup. The
/// majority knows nothing of it.
#[test]
fn a_node_that_is_restored_hears_from_everybody_and_cosigns_nothing() {
    let mut net = Sim::of(["alice", "bob", "carol", "dave"]);
    net.settle();
    net.adds("alice", pdq(1));
    net.settle();
    let alice = net.node("alice");
    let backup = (alice.disk.clone(), alice.signer.clone(), alice.cosigned.clone());
    net.partition(&["alice", "dave"], &["bob", "carol"]);
    net.adds("alice", pdq(2));
    net.settle();
    assert_eq!(net.matches("dave", pdq(2)), ["alice"]);

    net.crash("alice");
    net.heal();
    net.partition(&["alice", "bob", "carol"], &["dave"]);
    let alice = net.node_mut("alice");
    (alice.disk, alice.signer, alice.cosigned) = backup;
    alice.restored = Restored { log: true, witness: true };
    net.start("alice");
    let waiting = net.adds("alice", pdq(3));
    net.settle();
    assert_eq!(net.silence("alice"), Some(Silence::Listening { heard: 2, needed: 3 }));
    assert_eq!(net.outcome(waiting), None, "a majority would have made it sign another second leaf");

    net.heal();
    net.settle();
    assert!(net.outcome(waiting).is_some());
    for member in ["bob", "dave"] {
        assert_eq!(net.matches(member, pdq(2)), ["alice"]);
        assert_eq!(net.matches(member, pdq(3)), ["alice"]);
    }
    net.audit_agreement();

    // All three other witnesses are needed here.
    net.adds("bob", pdq(4));
    net.settle();
    assert_eq!(net.node("carol").settled("bob"), 0);
    net.crash("alice");
    net.node_mut("alice").restored.witness = false;
    net.start("alice");
    net.run(Duration::from_secs(60));
    assert_eq!(net.node("carol").settled("bob"), 1);
}

/// SPEC 8.5: what was signed and what peers hold contradict each other: never sign again.
#[test]
fn a_node_whose_log_is_not_what_it_signed_stays_silent() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    net.adds("alice", pdq(1));
    net.settle();
    net.crash("alice");
    net.node_mut("alice").signer.values_mut().for_each(|mark| mark.root = hashmesh_protocol::digest::Digest([7; 32]));
    net.start("alice");
    let refused = net.adds("alice", pdq(2));
    net.settle();
    assert_eq!(net.silence("alice"), Some(Silence::Diverged));
    assert_eq!(net.outcome(refused), None);
}

/// A batch that somebody else has signed with a member's key: one leaf more than the member's own disk has.
fn rival(net: &Sim, member: &str) -> Vec<u8> {
    let node = net.node(member);
    let (engine, member) = (node.engine().unwrap(), member.parse().unwrap());
    let log = engine.own().unwrap();
    let mut edge = Edge::default();
    node.disk.leaves(log).iter().for_each(|leaf| edge.push(leaf_hash(leaf)));
    let mut composer = Entries::compose(log, edge.size());
    let revoke = Revoke { position: Position { epoch: 0, index: 0 }, reason: 1 };
    composer.push(Leaf { time: net.now(), statement: Statement::Revoke(revoke) }, None);
    let entries = composer.finish().unwrap();
    entries.iter().for_each(|(_, entry)| edge.push(entry.leaf_hash));
    let key = &engine.federation().logs()[&log];
    let checkpoint = Checkpoint { origin: key.name().to_owned(), size: edge.size(), root: edge.root() };
    let checkpoint = SignedCheckpoint::sign(checkpoint, key, &net.founding().keys[&member].log).note().clone();
    let batch = Batch { entries, checkpoint, proof: Vec::new() };
    Gossip::encode_batch(batch.encode(engine.federation().origins()))
}

/// SPEC 7.7, 8.5: a second instance has signed another statement at the same place. When the two histories meet, everybody
/// notices, nobody who passed one on is blamed, and the node signs no third.
#[test]
fn a_node_that_sees_its_own_log_forked_signs_nothing_again() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    net.adds("alice", pdq(1));
    net.settle();
    let other = rival(&net, "alice");
    net.isolate("alice");
    net.adds("alice", pdq(2));
    net.inject("carol", "bob", other);
    net.settle();
    assert!(net.matches("carol", pdq(1)).is_empty(), "the other instance has revoked it");

    net.heal();
    net.settle();
    let log = net.node("alice").engine().unwrap().own().unwrap();
    assert!(net.alarms("bob").contains(&Alarm::Fork(log)));
    assert_eq!(net.alarms("alice"), [Alarm::Diverged]);
    for (by, whom) in [("alice", "bob"), ("bob", "alice"), ("carol", "alice")] {
        assert_eq!(net.shunned(by, whom), 0, "{by} shuns {whom}");
    }
    for _ in 0..2 {
        let unsaid = net.adds("alice", pdq(3));
        net.settle();
        assert_eq!(net.silence("alice"), Some(Silence::Diverged));
        assert_eq!(net.outcome(unsaid), None);
        net.crash("alice");
        net.start("alice");
    }
}

/// SPEC 8.7: an author with a wrong clock does not publish.
#[test]
fn a_clock_that_is_far_off_silences_its_node() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.node_mut("alice").skew = 11 * 60 * 1000;
    net.settle();
    net.adds("alice", pdq(1));
    net.settle();
    assert!(matches!(net.silence("alice"), Some(Silence::Clock { ahead }) if ahead > 600_000));
    assert!(net.matches("bob", pdq(1)).is_empty());
    net.node_mut("alice").skew = 1000;
    net.settle();
    assert_eq!(net.matches("bob", pdq(1)), ["alice"]);
    net.audit_agreement();
}
