//! SPEC 8: never sign twice.

use hashmesh_protocol::charter::Parameters;
use hashmesh_protocol::engine::{Alarm, Silence};
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
    let backup = (net.node("alice").disk.clone(), net.node("alice").signer);
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

/// SPEC 8.5: what was signed and what peers hold contradict each other: never sign again.
#[test]
fn a_node_whose_log_is_not_what_it_signed_stays_silent() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    net.adds("alice", pdq(1));
    net.settle();
    net.crash("alice");
    net.node_mut("alice").signer.root = hashmesh_protocol::digest::Digest([7; 32]);
    net.start("alice");
    let refused = net.adds("alice", pdq(2));
    net.settle();
    assert_eq!(net.silence("alice"), Some(Silence::Diverged));
    assert_eq!(net.outcome(refused), None);
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
