//! SPEC 8, 15: a node may stop after any effect, in the middle of any write. Nothing acknowledged is lost, and its log
//! never has two histories.

use std::time::Duration;

use hashmesh_protocol::charter::Parameters;
use hashmesh_testnet::sim::{Crash, Sim, Weather, pdq};

/// One run: bob publishes, receives and catches up, stops at one effect, starts again, and goes on. Whether he stopped.
fn run(crash: Crash, seed: u64) -> bool {
    let mut parameters = Parameters::standard();
    parameters.batch_leaves = 4;
    let mut net = Sim::with(&["alice", "bob", "carol"], seed, Weather::default(), parameters);
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

#[test]
fn a_node_may_stop_before_any_effect() {
    let mut at = 0;
    while run(Crash::Before(at), 1) {
        at += 1;
    }
    assert!(at > 50, "only {at} effects were reached");
}

#[test]
fn a_node_may_stop_inside_any_write() {
    for inside in [Crash::InsideNoMark, Crash::InsideHalf] {
        let mut at = 0;
        while run(inside(at), 2) {
            at += 1;
        }
        assert!(at > 50, "only {at} effects were reached");
    }
}
