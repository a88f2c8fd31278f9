//! SPEC 20: what is erased is hidden at once, and missed by nobody.

use hashmesh_protocol::bundle;
use hashmesh_protocol::engine::{Draft, Outcome, Target, Unpublishable};
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::serve::Archive as _;
use hashmesh_protocol::statement::{Basis, Position};
use hashmesh_testnet::sim::{Sim, pdq};

const ALL: [&str; 4] = ["alice", "bob", "carol", "dave"];

fn log(member: &str) -> LogId {
    LogId { member: member.parse().unwrap(), epoch: 0 }
}

/// Which of the first openings of alice's log a node shows.
fn shown(net: &Sim, member: &str, count: u64) -> Vec<bool> {
    let bundles = net.node(member).disk.bundles(log("alice"), 0, count, usize::MAX).unwrap();
    bundle::entries(&bundles.openings).map(|opening| !opening.unwrap().is_empty()).collect()
}

/// SPEC 20.1, 20.2.
#[test]
fn what_is_erased_matches_nowhere_and_is_shown_to_nobody() {
    let mut net = Sim::of(ALL);
    net.settle();
    net.adds("alice", pdq(1));
    net.adds("alice", pdq(2));
    net.adds("bob", pdq(1));
    net.settle();
    net.erases("alice", pdq(1));
    net.settle();
    for member in ALL {
        assert_eq!(net.matches(member, pdq(1)), ["bob"], "others say it still");
        assert_eq!(net.matches(member, pdq(2)), ["alice"]);
        assert_eq!(shown(&net, member, 3), [false, true, false], "{member}");
        assert_eq!(net.node(member).settled("alice"), 3);
    }
    let erase = |target| vec![Draft::Erase { target, basis: Basis::Mistake }];
    let position = Position { epoch: 0, index: 0 };
    let again = net.publishes("alice", erase(Target::Position(position)));
    let by_hash = net.publishes("alice", erase(Target::Hash(pdq(1))));
    net.settle();
    let refused = |net: &Sim, publication| match net.outcome(publication) {
        Some(Outcome::Done(results)) => results[0].clone().unwrap_err(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&net, again), Unpublishable::Erased(position));
    assert_eq!(refused(&net, by_hash), Unpublishable::NotSaid(pdq(1)));
    net.audit_agreement();
}

/// SPEC 20.1: what has been revoked must be erasable all the same; it is not live, but its opening is everywhere.
#[test]
fn what_was_revoked_before_can_be_erased() {
    let mut net = Sim::of(ALL);
    net.settle();
    net.adds("alice", pdq(1));
    net.settle();
    net.revokes("alice", pdq(1));
    net.settle();
    assert_eq!(shown(&net, "dave", 2), [true, false]);
    let target = Target::Position(Position { epoch: 0, index: 0 });
    net.publishes("alice", vec![Draft::Erase { target, basis: Basis::LegalOrder }]);
    net.settle();
    assert_eq!(shown(&net, "dave", 3), [false, false, false]);
    net.audit_agreement();
}

/// SPEC 20.3.
#[test]
fn a_newcomer_joins_without_what_was_erased_and_everything_settles() {
    let mut net = Sim::of(ALL);
    net.isolate("dave");
    net.settle();
    net.adds("alice", pdq(1));
    net.adds("alice", pdq(2));
    net.settle();
    net.erases("alice", pdq(1));
    net.settle();

    net.heal();
    net.settle();
    net.adds("alice", pdq(3));
    net.settle();
    let dave = net.node("dave");
    assert_eq!(dave.disk.opening(log("alice"), 0), b"", "nobody has given it away");
    let ledger = dave.engine().unwrap().ledger();
    let its = ledger.log(log("alice")).unwrap();
    assert_eq!((its.size(), its.missing(), its.is_whole_to(4)), (4, 0, true));
    assert_eq!(ledger.erased_by(log("alice"), 0), Some(Position { epoch: 0, index: 2 }));
    for member in ALL {
        assert_eq!(net.node(member).settled("alice"), 4, "{member}");
        assert_eq!(net.matches(member, pdq(2)), ["alice"]);
    }
    net.crash("dave");
    net.start("dave");
    net.settle();
    assert_eq!(net.node("dave").engine().unwrap().ledger().log(log("alice")).unwrap().missing(), 0);
    net.audit_agreement();
}
