//! SPEC 8, 15: a node may stop after any effect, in the middle of any write. Nothing acknowledged is lost, and its log
//! never has two histories.

use std::time::Duration;

use hashmesh_protocol::charter::Parameters;
use hashmesh_protocol::engine::{Outcome, Placed};
use hashmesh_protocol::statement::Position;
use hashmesh_testnet::sim::{Crash, Sim, Weather, pdq};

/// One run: bob publishes, receives and catches up, stops at one effect, starts again, and goes on. Whether he stopped. With
/// a driver that is `busy`, what arrives together is decided together, and the writes come before all the rest.
fn run(crash: Crash, seed: u64, busy: u64) -> bool {
    let mut parameters = Parameters::standard();
    parameters.batch_leaves = 4;
    let weather = Weather { busy, ..Weather::default() };
    let mut net = Sim::with(&["alice", "bob", "carol"], seed, weather, parameters);
    net.settle();
    net.node_mut("bob").crash_at(crash);
    for number in 0..6 {
        net.adds("alice", pdq(number));
        net.adds("bob", pdq(100 + number));
        net.adds("bob", pdq(number));
        net.run(Duration::from_millis(15));
    }
    net.revokes("bob", pdq(100));
    net.settle();
    let stopped = !net.node("bob").is_running();
    if stopped {
        for number in 6..12 {
            net.adds("alice", pdq(number));
        }
        net.start("bob");
    }
    net.node_mut("bob").spare();
    net.settle();
    // Bob says nothing more: whatever he has answered for must be everywhere by now.
    net.audit_agreement();
    for number in (0..12).chain(100..106) {
        let bobs = net.matches("bob", pdq(number));
        for other in ["alice", "carol"] {
            assert_eq!(net.matches(other, pdq(number)), bobs, "{number} at {other}, {crash:?}, seed {seed}");
        }
    }
    for number in 0..6 {
        net.adds("bob", pdq(200 + number));
    }
    net.settle();
    for number in 200..206 {
        assert_eq!(net.matches("carol", pdq(number)), ["bob"], "{crash:?}, seed {seed}");
    }
    net.audit_agreement();
    stopped
}

/// SPEC 8.8: a checkpoint is not flushed when it is written, and gossip may not have left. The leaves behind it were
/// answered for, so the node signs for them again, and does not wait until it has something new to say.
#[test]
fn a_node_that_was_killed_right_after_it_acknowledged_is_heard_by_all_after_its_restart() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    net.isolate("bob");
    let told = net.adds("bob", pdq(1));
    assert!(net.outcome(told).is_some(), "it was acknowledged");
    net.crash("bob");
    net.heal();
    net.start("bob");
    net.settle();
    assert_eq!(net.matches("carol", pdq(1)), ["bob"]);
    net.audit_agreement();
}

/// SPEC 8.8: between the move of the signer and the signature.
#[test]
fn a_node_that_was_killed_before_it_had_signed_signs_after_its_restart() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    net.node_mut("bob").crash_at(Crash::InsideNoMark(1));
    let lost = net.adds("bob", pdq(1));
    assert!(!net.node("bob").is_running() && net.outcome(lost).is_none());
    net.start("bob");
    let again = net.adds("bob", pdq(1));
    net.settle();
    let known = Placed::Known(Position { epoch: 0, index: 0 });
    assert_eq!(net.outcome(again), Some(&Outcome::Done(vec![Ok(known)])), "what is known is signed");
    assert_eq!(net.matches("carol", pdq(1)), ["bob"]);
    net.audit_agreement();
}

#[test]
fn a_node_may_stop_before_any_effect() {
    for busy in [0, 30] {
        let mut at = 0;
        while run(Crash::Before(at), 1, busy) {
            at += 1;
        }
        assert!(at > 50, "only {at} effects were reached");
    }
}

#[test]
fn a_node_may_stop_inside_any_write() {
    for (inside, busy) in [Crash::InsideNoMark, Crash::InsideHalf].into_iter().flat_map(|at| [(at, 0), (at, 30)]) {
        let mut at = 0;
        while run(inside(at), 2, busy) {
            at += 1;
        }
        assert!(at > 50, "only {at} effects were reached");
    }
}
