//! SPEC 17: witnesses, and what is settled.

use std::time::Duration;

use hashmesh_protocol::charter::Parameters;
use hashmesh_protocol::engine::ROUND;
use hashmesh_protocol::names::LogId;
use hashmesh_testnet::sim::{Sim, Weather, pdq};

fn settled_everywhere(net: &Sim, member: &str, size: u64) {
    for node in net.members() {
        assert_eq!(net.node(node.as_str()).settled(member), size, "{member}'s log at {node}, seed {}", net.seed());
    }
}

/// SPEC 17.4, 17.5: what is said while nothing else is going on is settled at once.
#[test]
fn what_is_said_is_settled_on_every_node() {
    let mut net = Sim::of(["alice", "bob", "carol", "dave"]);
    net.settle();
    net.adds("alice", pdq(1));
    net.run(Duration::from_millis(300));
    settled_everywhere(&net, "alice", 1);
    net.audit_agreement();
}

/// SPEC 17.4: three of three others are needed among four, so one that is away holds settling up. Matching goes on.
#[test]
fn a_log_settles_once_enough_witnesses_are_back() {
    let mut net = Sim::of(["alice", "bob", "carol", "dave"]);
    net.settle();
    net.isolate("dave");
    net.adds("alice", pdq(1));
    net.adds("alice", pdq(2));
    net.run(Duration::from_secs(60));
    settled_everywhere(&net, "alice", 0);
    assert_eq!(net.matches("bob", pdq(1)), ["alice"]);
    // A round begins at the newest checkpoint once the last one has gone stale.
    net.heal();
    net.run(Duration::from_secs(60));
    settled_everywhere(&net, "alice", 2);
    net.audit_agreement();
}

/// SPEC 17.4, 17.6: who was away learns what is settled from anybody, also when the author is gone.
#[test]
fn a_newcomer_learns_what_is_settled_with_the_heads() {
    let members = ["alice", "bob", "carol", "dave", "erin", "frank", "grace"];
    let mut net = Sim::with(&members, 3, Weather::default(), Parameters::standard());
    net.settle();
    net.isolate("grace");
    for number in 0..5 {
        net.adds("alice", pdq(number));
        net.run(ROUND);
    }
    net.crash("alice");
    net.heal();
    net.settle();
    assert_eq!(net.node("grace").settled("alice"), 5);
}

/// SPEC 17.4: what was settled is so after a restart, before anybody is heard.
#[test]
fn what_is_settled_stays_so_over_restarts() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    net.adds("alice", pdq(1));
    net.settle();
    for node in ["alice", "bob"] {
        net.crash(node);
        net.isolate(node);
        net.start(node);
        assert_eq!(net.node(node).settled("alice"), 1);
    }
}

/// SPEC 17.2: a witness does not cosign leaves whose openings it does not have.
#[test]
fn a_witness_wants_every_opening_first() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    net.isolate("carol");
    net.adds("alice", pdq(1));
    net.settle();
    settled_everywhere(&net, "carol", 0);
    let log = LogId { member: "alice".parse().unwrap(), epoch: 0 };
    for member in ["alice", "bob"] {
        net.crash(member);
        net.node_mut(member).disk.forget_opening(log, 0);
        net.start(member);
    }
    net.heal();
    net.settle();
    assert_eq!(net.node("carol").engine().unwrap().ledger().log(log).unwrap().size(), 1);
    settled_everywhere(&net, "alice", 0);
}

/// SPEC 17.5: an unchanged log is cosigned anew once a day.
#[test]
fn what_is_settled_is_cosigned_anew() {
    let parameters = Parameters { recosign: 60_000, ..Parameters::standard() };
    let mut net = Sim::with(&["alice", "bob", "carol"], 1, Weather::default(), parameters);
    net.settle();
    net.adds("alice", pdq(1));
    net.run(Duration::from_secs(1));
    let log = LogId { member: "alice".parse().unwrap(), epoch: 0 };
    let time =
        |net: &Sim, node: &str| net.node(node).engine().unwrap().ledger().log(log).unwrap().settled().unwrap().time();
    let first = time(&net, "carol");
    net.run(Duration::from_secs(90));
    for node in ["alice", "bob", "carol"] {
        assert!(time(&net, node) >= first + Duration::from_secs(60), "{node}");
    }
}

/// SPEC 17.5: a log that is written all the time is settled all the time, at most once a round.
#[test]
fn a_busy_log_settles_round_after_round() {
    for seed in 0..5 {
        let weather = Weather { loss: 0.2, busy: 20, ..Weather::default() };
        let mut net = Sim::with(&["alice", "bob", "carol", "dave"], seed, weather, Parameters::standard());
        net.settle();
        let mut before = 0;
        for round in 0..5 {
            for number in 0..40 {
                net.adds("alice", pdq(round * 100 + number));
                net.run(Duration::from_millis(150));
            }
            let now = net.node("bob").settled("alice");
            assert!(now > before, "nothing was settled in six seconds (seed {seed})");
            before = now;
        }
        net.settle();
        net.run(ROUND * 3);
        settled_everywhere(&net, "alice", 200);
        net.audit_agreement();
    }
}
