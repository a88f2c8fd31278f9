//! SPEC 11: who says what about a content hash, across a federation.

use std::time::Duration;

use hashmesh_protocol::engine::{Draft, Outcome, Placed, Target, Unpublishable};
use hashmesh_protocol::statement::{Labels, Position, Reason};
use hashmesh_testnet::sim::{BRIEF, Sim, pdq};

fn position(index: u64) -> Position {
    Position { epoch: 0, index }
}

/// What became of the one draft of a publication.
fn outcome(net: &Sim, publication: u64) -> Result<Placed, Unpublishable> {
    match net.outcome(publication) {
        Some(Outcome::Done(results)) => results[0].clone(),
        other => panic!("{other:?}"),
    }
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

    let placed = |publication| outcome(&net, publication).unwrap();
    assert_eq!(placed(first), Placed::New(position(0)));
    assert_eq!(placed(again), Placed::Known(position(0)));
    assert_eq!(placed(later), Placed::Known(position(0)));
    assert_eq!(placed(instead), Placed::New(position(1)));
    assert_eq!(placed(back), Placed::New(position(2)));
    assert_eq!(net.matches("bob", pdq(1)), ["alice"]);
    assert!(net.disputers("bob", pdq(1)).is_empty());
    net.audit_agreement();
}

/// SPEC 11.2, 11.7: however something was revoked, it can be said again; and what has ended cannot be revoked.
#[test]
fn what_was_revoked_by_position_can_be_added_again() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    net.adds("alice", pdq(1));
    net.revokes_at("alice", 0);
    let again = net.adds("alice", pdq(1));
    net.settle();
    assert_eq!(outcome(&net, again), Ok(Placed::New(position(2))));
    assert_eq!(net.matches("bob", pdq(1)), ["alice"]);

    // In one request, hours later, and after a restart.
    let revoke = Draft::Revoke { target: Target::Position(position(2)), reason: Reason::Mistake };
    let add = Draft::add(pdq(1), Labels::new(&[1]).unwrap(), net.salt(), None).unwrap();
    let both = net.publishes("alice", vec![revoke, add]);
    let placed = |index| Ok(Placed::New(position(index)));
    assert_eq!(net.outcome(both), Some(&Outcome::Done(vec![placed(3), placed(4)])));
    net.run(Duration::from_secs(3 * 60 * 60));
    net.revokes_at("alice", 4);
    net.settle();
    assert!(net.matches("bob", pdq(1)).is_empty());
    net.crash("alice");
    net.start("alice");
    let again = net.adds("alice", pdq(1));
    net.settle();
    assert_eq!(outcome(&net, again), Ok(Placed::New(position(6))));
    assert_eq!(net.matches("bob", pdq(1)), ["alice"]);
    net.audit_agreement();
}

/// SPEC 11.7: a revocation that would end nothing is refused, and puts no leaf into the log.
#[test]
fn a_place_where_nothing_is_live_cannot_be_revoked() {
    let mut net = Sim::of(["alice", "bob"]);
    net.settle();
    net.adds("alice", pdq(1));
    net.disputes("alice", pdq(1));
    net.revokes_at("alice", 1);
    let refused = [
        (net.revokes("alice", pdq(1)), Unpublishable::NotSaid(pdq(1))),
        (net.revokes_at("alice", 0), Unpublishable::Ended(position(0))),
        (net.revokes_at("alice", 1), Unpublishable::Ended(position(1))),
        (net.revokes_at("alice", 2), Unpublishable::NoPosition(position(2))),
        (net.revokes_at("alice", 3), Unpublishable::NoPosition(position(3))),
    ];
    for (publication, error) in refused {
        assert_eq!(outcome(&net, publication), Err(error));
    }
    assert_eq!(net.node("alice").disk.leaves(net.node("alice").engine().unwrap().own().unwrap()).len(), 3);
    let twice = Draft::Revoke { target: Target::Position(position(3)), reason: Reason::Mistake };
    let add = Draft::add(pdq(2), Labels::new(&[1]).unwrap(), net.salt(), None).unwrap();
    let together = net.publishes("alice", vec![add, twice.clone(), twice]);
    let expected =
        vec![Ok(Placed::New(position(3))), Ok(Placed::New(position(4))), Err(Unpublishable::Ended(position(3)))];
    assert_eq!(net.outcome(together), Some(&Outcome::Done(expected)));
    net.audit();
}

/// SPEC 11.5, 11.7: what is not retained any longer has no effect, so saying it again says something.
#[test]
fn what_is_retained_no_longer_can_be_added_again() {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    let brief = |net: &mut Sim| {
        let draft = Draft::add(pdq(1), Labels::new(&[BRIEF]).unwrap(), net.salt(), None).unwrap();
        net.publishes("alice", vec![draft])
    };
    let (first, again) = (brief(&mut net), brief(&mut net));
    assert_eq!(outcome(&net, first), Ok(Placed::New(position(0))));
    assert_eq!(outcome(&net, again), Ok(Placed::Known(position(0))));
    for member in ["alice", "bob", "carol"] {
        net.node_mut(member).skew += 25 * 60 * 60 * 1000;
    }
    net.settle();
    let (renewed, again) = (brief(&mut net), brief(&mut net));
    net.settle();
    assert_eq!(outcome(&net, renewed), Ok(Placed::New(position(1))));
    assert_eq!(outcome(&net, again), Ok(Placed::Known(position(1))));
    net.audit_agreement();
}

/// SPEC 3.4: what says nothing about content is refused where somebody can still put it right.
#[test]
fn empty_hashes_are_not_published() {
    let mut net = Sim::of(["alice", "bob"]);
    net.settle();
    let empty = "md5:d41d8cd98f00b204e9800998ecf8427e".parse().unwrap();
    for publication in [net.adds("alice", empty), net.disputes("alice", empty)] {
        assert!(matches!(outcome(&net, publication), Err(Unpublishable::Empty(_))));
    }
    assert_eq!(net.node("alice").disk.leaves(net.node("alice").engine().unwrap().own().unwrap()).len(), 0);
}
