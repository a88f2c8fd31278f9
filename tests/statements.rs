//! SPEC 11: who says what about a content hash, across a federation.

use hashmesh_protocol::engine::{Outcome, Placed, Unpublishable};
use hashmesh_protocol::statement::Position;
use hashmesh_testnet::sim::{Sim, pdq};

fn position(index: u64) -> Position {
    Position { epoch: 0, index }
}

/// SPEC 11.2: a revocation ends the match on every node that it has reached, and on no other.
#[test]
fn a_revoked_hash_stops_matching_once_the_news_arrives() {
    let mut net = Sim::of(["alice", "bob", "carol"]);

    net.adds("alice", pdq(1));
    net.settle();
    assert_eq!(net.matches("carol", pdq(1)), ["alice"]);

    net.isolate("carol");
    net.revokes("alice", pdq(1));
    net.settle();
    assert!(net.matches("bob", pdq(1)).is_empty());
    assert_eq!(net.matches("carol", pdq(1)), ["alice"], "carol cannot know yet");

    net.heal();
    net.settle();
    assert!(net.matches("carol", pdq(1)).is_empty());

    net.audit_agreement();
}

/// SPEC 11.1: members speak for themselves; what one revokes, others still say.
#[test]
fn a_member_withdraws_only_its_own_word() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    net.adds("alice", pdq(1));
    net.adds("bob", pdq(1));
    net.disputes("carol", pdq(1));
    net.settle();
    assert_eq!(net.matches("bob", pdq(1)), ["alice", "bob"]);
    assert_eq!(net.disputers("alice", pdq(1)), ["carol"]);

    net.revokes("alice", pdq(1));
    let nothing = net.revokes("alice", pdq(1));
    net.settle();
    assert_eq!(net.outcome(nothing), Some(&Outcome::Done(vec![Err(Unpublishable::NotSaid(pdq(1)))])));
    assert_eq!(net.matches("carol", pdq(1)), ["bob"]);
    assert_eq!(net.disputers("bob", pdq(1)), ["carol"]);
    net.audit_agreement();
}

/// SPEC 11.4: saying the same again adds nothing; saying something else takes the place of what was said.
#[test]
fn repeating_oneself_adds_nothing() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    let first = net.adds("alice", pdq(1));
    let again = net.adds("alice", pdq(1));
    net.settle();
    let later = net.adds("alice", pdq(1));
    let instead = net.disputes("alice", pdq(1));
    let back = net.adds("alice", pdq(1));
    net.settle();

    let placed = |publication| match net.outcome(publication) {
        Some(Outcome::Done(results)) => results[0].clone().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(placed(first), Placed::New(position(0)));
    assert_eq!(placed(again), Placed::Known(position(0)));
    assert_eq!(placed(later), Placed::Known(position(0)));
    assert_eq!(placed(instead), Placed::New(position(1)));
    assert_eq!(placed(back), Placed::New(position(2)));
    assert_eq!(net.matches("bob", pdq(1)), ["alice"]);
    assert!(net.disputers("bob", pdq(1)).is_empty());
    net.audit_agreement();
}

/// SPEC 3.4: what says nothing about content is refused where somebody can still put it right.
#[test]
fn empty_hashes_are_not_published() {
    let mut net = Sim::of(["alice", "bob"]);
    net.settle();
    let empty = "md5:d41d8cd98f00b204e9800998ecf8427e".parse().unwrap();
    let publication = net.adds("alice", empty);
    assert!(matches!(net.outcome(publication), Some(Outcome::Done(results)) if results[0].is_err()));
    assert_eq!(net.node("alice").disk.leaves(net.node("alice").engine().unwrap().own().unwrap()).len(), 0);
}
