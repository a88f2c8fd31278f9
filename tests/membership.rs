//! SPEC 9, 10, 21: who is a member and which keys it has, as nodes find out and act on it. The rules themselves are tested beside
//! them; here is what follows from them for connections, logs and statements.

use std::time::Duration;

use hashmesh::api::form::GovernanceAnswer;
use hashmesh::client::Client;
use hashmesh_protocol::card::{Card, CardBody, End, MemberKeys};
use hashmesh_protocol::charter::{Approval, Charter, CharterBody, Departed, Departure, Member, Parameters};
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::engine::{Alarm, Draft, Outcome, Placed, Ungoverned, Unpublishable};
use hashmesh_protocol::federation::Standing;
use hashmesh_protocol::governance::{Document, GovernanceError, Taken, Withdrawal};
use hashmesh_protocol::key::SecretKey;
use hashmesh_protocol::ledger::Log;
use hashmesh_protocol::names::{LogId, MemberId};
use hashmesh_protocol::statement::Position;
use hashmesh_protocol::wire::Gossip;
use hashmesh_testnet::founding::{card_of, keys_of};
use hashmesh_testnet::sim::{Sim, Weather, pdq};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::loopback::{PATIENCE, eventually, founded};

const MEMBERS: [&str; 4] = ["alice", "bob", "carol", "mallory"];

fn federation(seed: u64) -> Sim {
    Sim::with(&MEMBERS, seed, Weather::default(), Parameters::standard())
}

fn id(member: &str) -> MemberId {
    member.parse().unwrap()
}

fn log(member: &str, epoch: u32) -> LogId {
    LogId { member: id(member), epoch }
}

fn tip(net: &Sim, node: &str) -> Charter {
    net.node(node).engine().unwrap().governance().governance.tip().clone()
}

fn held(net: &Sim, node: &str, log: LogId) -> Log {
    net.node(node).engine().unwrap().ledger().log(log).unwrap().clone()
}

fn amend(parent: &Charter, change: impl FnOnce(&mut CharterBody)) -> Charter {
    let mut body = parent.successor();
    change(&mut body);
    Charter::new(body).unwrap()
}

fn sign(charter: &Charter, signers: &[&str]) -> Vec<Approval> {
    signers.iter().map(|signer| charter.approve(id(signer), &keys_of(signer).governance)).collect()
}

fn document(charter: &Charter, signers: &[&str], cards: &[Card]) -> Document {
    Document::Charter { charter: Box::new(charter.clone()), approvals: sign(charter, signers), cards: cards.to_vec() }
}

/// A charter that admits somebody with this card.
fn admitting(parent: &Charter, card: &Card) -> Charter {
    amend(parent, |charter| {
        charter.members.push(Member::of(card).unwrap());
        charter.members.sort_by_key(|member| member.id);
    })
}

/// A charter without a member, whose logs end there.
fn without(parent: &Charter, member: &str, kind: Departure, ends: Vec<End>) -> Charter {
    amend(parent, |charter| {
        let at = charter.members.iter().position(|entry| entry.id == id(member)).unwrap();
        let gone = charter.members.remove(at);
        charter.witnesses.members.retain(|witness| *witness != gone.id);
        charter.witnesses.quorum =
            charter.witnesses.quorum.min(u16::try_from(charter.witnesses.members.len()).unwrap() - 1);
        charter.departed.push(Departed::of(&gone, kind, gone.card, ends));
    })
}

fn end(net: &Sim, node: &str, member: &str) -> End {
    let log = held(net, node, log(member, 0));
    End { epoch: 0, size: log.size(), root: log.root() }
}

/// Another card of a member, changed, and signed by its governance key and these.
fn next_card(net: &Sim, node: &str, member: &str, change: impl FnOnce(&mut CardBody), new: &[&SecretKey]) -> Card {
    let stored = net.node(node).engine().unwrap().governance().clone();
    let federation = stored.governance.federation();
    let mut body = federation.card(id(member)).unwrap().successor(federation.charter().network());
    change(&mut body);
    let governance = keys_of(member).governance;
    Card::sign(&body, std::iter::once(&governance).chain(new.iter().copied())).unwrap()
}

fn fresh(name: &str) -> SecretKey {
    SecretKey::from_seed(&Digest::of(&[b"another key", name.as_bytes()]).0)
}

fn new_member() -> (Card, MemberKeys) {
    (card_of("eve", "JP"), keys_of("eve"))
}

/// SPEC 10.9, 21.1: a fifth member is admitted while all run. Nobody restarts; from then on it speaks and witnesses like the others.
#[test]
fn a_member_is_admitted_while_all_run() {
    let mut net = federation(1);
    net.adds("alice", pdq(1));
    net.settle();
    let (card, keys) = new_member();
    net.applies("eve", &keys);
    net.run(Duration::from_secs(30));
    assert!(net.matches("eve", pdq(1)).is_empty(), "nobody lets an applicant in");

    let charter = admitting(&tip(&net, "alice"), &card);
    let proposed = net.submits("alice", vec![document(&charter, &["alice"], &[card])]);
    assert_eq!(proposed, [Ok(Taken::Kept)]);
    net.run(Duration::from_secs(2));
    for (member, signer) in [("bob", "bob"), ("carol", "carol")] {
        let approval = sign(&charter, &[signer]).remove(0);
        assert_eq!(net.submits(member, vec![Document::Approval(approval)]), [Ok(Taken::Kept)], "{member}");
        net.run(Duration::from_secs(2));
    }
    assert_eq!(tip(&net, "mallory").body().version, 0, "it has not agreed yet");
    // The applicant has no connection: whoever has its signature hands it in.
    let consent = sign(&charter, &["eve"]).remove(0);
    assert_eq!(net.submits("mallory", vec![Document::Approval(consent)]), [Ok(Taken::Adopted(charter.id()))]);
    net.settle();
    for node in ["alice", "bob", "carol", "mallory", "eve"] {
        assert_eq!(tip(&net, node).id(), charter.id(), "{node}");
    }
    assert_eq!(net.matches("eve", pdq(1)), ["alice"]);

    net.adds("eve", pdq(2));
    net.adds("bob", pdq(3));
    net.settle();
    for node in ["alice", "bob", "carol", "mallory", "eve"] {
        assert_eq!(net.matches(node, pdq(2)), ["eve"], "{node}");
        assert_eq!(net.node(node).settled("eve"), 1, "{node}");
    }
    for node in ["alice", "eve"] {
        net.crash(node);
        net.start(node);
        net.settle();
        assert_eq!(tip(&net, node).id(), charter.id(), "{node}: over a restart");
    }
    assert_eq!(net.matches("eve", pdq(3)), ["bob"]);
    net.audit();
}

/// SPEC 17.5: where more must cosign than before, what was settled is cosigned anew; and what nobody can have cosigned anew, because its
/// log has ended, is settled for who comes later all the same.
#[test]
fn what_was_settled_is_settled_for_who_comes_later() {
    let mut net = federation(12);
    for (member, at) in [("alice", 1), ("carol", 2)] {
        net.adds(member, pdq(at));
    }
    net.settle();
    let (key, settled) = (fresh("carol log"), end(&net, "alice", "carol"));
    let rotate = |body: &mut CardBody| {
        (body.epoch, body.log) = (1, key.public());
        body.ended.push(settled);
    };
    let card = next_card(&net, "carol", "carol", rotate, &[&key]);
    net.holds("carol", [key.clone()]);
    assert_eq!(net.submits("carol", vec![Document::Card(Box::new(card))]), [Ok(Taken::Card(id("carol")))]);
    net.settle();

    let (card, keys) = new_member();
    net.applies("eve", &keys);
    let parent = tip(&net, "alice");
    let charter = amend(&parent, |charter| {
        charter.members.clone_from(&admitting(&parent, &card).body().members);
        charter.witnesses.members.push(id("eve"));
        charter.witnesses.members.sort();
        charter.witnesses.quorum = 4;
    });
    let signers = ["alice", "bob", "carol", "eve"];
    assert_eq!(net.submits("alice", vec![document(&charter, &signers, &[card])]), [Ok(Taken::Adopted(charter.id()))]);
    net.settle();
    for node in ["eve", "bob"] {
        assert_eq!(net.node(node).settled("alice"), 1, "{node}");
        assert_eq!(net.node(node).settled("carol"), 1, "{node}");
        let log = held(&net, node, log("alice", 0));
        assert_eq!(log.settled().unwrap().cosigned().cosignatures().len(), 4, "{node}");
    }
    net.audit();
}

/// SPEC 9.4, 10.8: who is expelled is cut off at once; what it says from then on is taken from nobody, whoever relays it; what it said
/// before stays as history, and what is settled counts.
#[test]
fn who_is_expelled_is_heard_no_more() {
    let mut net = federation(2);
    net.adds("mallory", pdq(1));
    net.settle();
    let expelled = without(&tip(&net, "alice"), "mallory", Departure::Expelled, vec![end(&net, "alice", "mallory")]);
    // Carol does not hear of it yet, and goes on listening to mallory.
    net.isolate("carol");
    net.submits("alice", vec![document(&expelled, &["alice", "bob", "carol"], &[])]);
    net.run(Duration::from_secs(1));
    for node in ["alice", "bob"] {
        assert_eq!(tip(&net, node).id(), expelled.id(), "{node}");
        let status = net.node(node).engine().unwrap().status();
        assert!(status.peers.iter().all(|peer| peer.member != id("mallory")), "{node} is still connected");
    }
    net.adds("mallory", pdq(2));
    net.run(Duration::from_secs(5));
    let later = story(&net);
    net.inject("alice", "bob", later);
    net.run(Duration::from_secs(5));
    for node in ["alice", "bob"] {
        assert!(net.matches(node, pdq(2)).is_empty(), "{node}");
        assert_eq!(net.matches(node, pdq(1)), ["mallory"], "{node}: history stays; what it weighs the policy says");
        let state = held(&net, node, log("mallory", 0));
        assert_eq!((state.size(), state.is_writable()), (1, false), "{node}");
        let standing = net.node(node).engine().unwrap().federation().standing(id("mallory"));
        assert_eq!(standing, Some(Standing::Expelled), "{node}");
    }
    assert_eq!(net.shunned("bob", "alice"), 0, "whoever relays it may not have heard of the charter");
    net.heal();
    net.settle();
    assert_eq!(tip(&net, "carol").id(), expelled.id());
    // A newcomer to the logs, too, gets what counts and no more.
    net.crash("bob");
    net.node_mut("bob").disk = Default::default();
    net.start("bob");
    net.settle();
    assert_eq!(tip(&net, "bob").id(), expelled.id());
    assert_eq!(held(&net, "bob", log("mallory", 0)).counting(), 1);
    assert_eq!(net.matches("bob", pdq(1)), ["mallory"]);
    assert!(net.matches("bob", pdq(2)).is_empty());
    net.adds("alice", pdq(7));
    net.settle();
    assert_eq!(net.node("carol").settled("alice"), 1, "the others settle without it");
    net.audit();
}

/// What mallory has signed last, as it would gossip it.
fn story(net: &Sim) -> Vec<u8> {
    let node = net.node("mallory");
    let engine = node.engine().unwrap();
    let log = log("mallory", 0);
    let batch = hashmesh_protocol::serve::range(&node.disk, engine.federation().origins(), log, 1, 2).unwrap();
    let origins = engine.federation().origins();
    let Ok(hashmesh_protocol::wire::Answer::Range(batch)) = hashmesh_protocol::wire::Answer::decode(&batch, origins)
    else {
        panic!("a range")
    };
    Gossip::encode_batch(batch.encode(origins))
}

/// SPEC 9.4, 20.6: a stolen log key is replaced by a card; the thief's tail ends, and what it got settled is voided.
#[test]
fn a_stolen_log_key_is_survived() {
    let mut net = federation(3);
    net.adds("bob", pdq(1));
    net.settle();
    // The thief says this in bob's name, and it is settled.
    net.adds("bob", pdq(2));
    net.settle();
    let (key, settled) = (fresh("bob log"), end(&net, "alice", "bob"));
    assert_eq!(settled.size, 2);
    let rotate = |body: &mut CardBody| {
        (body.epoch, body.log) = (1, key.public());
        body.ended.push(settled);
    };
    let card = next_card(&net, "bob", "bob", rotate, &[&key]);
    net.holds("bob", [key.clone()]);
    assert_eq!(net.submits("bob", vec![Document::Card(Box::new(card))]), [Ok(Taken::Card(id("bob")))]);
    net.settle();
    let void = net.publishes("bob", vec![Draft::Void { epoch: 0, from: 1 }]);
    net.settle();
    assert!(matches!(net.outcome(void), Some(Outcome::Done(results)) if results[0].is_ok()));
    net.adds("bob", pdq(3));
    net.settle();
    let check = |net: &Sim, node: &str| {
        assert_eq!(net.matches(node, pdq(1)), ["bob"], "{node}");
        assert!(net.matches(node, pdq(2)).is_empty(), "{node}: it was never said");
        assert_eq!(net.matches(node, pdq(3)), ["bob"], "{node}");
        let new = held(net, node, log("bob", 1));
        assert_eq!((new.size(), new.settled_size()), (2, 2), "{node}");
        assert!(!held(net, node, log("bob", 0)).is_writable(), "{node}");
    };
    for node in MEMBERS {
        check(&net, node);
    }
    for node in ["bob", "carol"] {
        net.crash(node);
        net.start(node);
        net.settle();
        check(&net, node);
    }
    let again = net.publishes("bob", vec![Draft::Void { epoch: 1, from: 0 }]);
    net.settle();
    assert!(matches!(net.outcome(again), Some(Outcome::Done(results)) if results[0].is_err()), "not in the log itself");
    net.audit();
}

/// SPEC 9.7, 10.10: a lost governance key is replaced by a charter; cards go on under the new one, and no longer under the old one.
#[test]
fn a_lost_governance_key_is_replaced_by_a_charter() {
    let mut net = federation(12);
    net.settle();
    let (governance, witness) = (fresh("bob governance"), fresh("bob witness"));
    let before = net.node("bob").engine().unwrap().federation().card(id("bob")).unwrap().clone();
    let charter = amend(&tip(&net, "alice"), |charter| {
        let bob = charter.members.iter_mut().find(|member| member.id == id("bob")).unwrap();
        (bob.governance, bob.card) = (governance.public(), before.id());
    });
    let votes = document(&charter, &["alice", "carol", "mallory"], &[]);
    assert_eq!(net.submits("alice", vec![votes]), [Ok(Taken::Kept)], "the new key has not agreed");
    let consent = charter.approve(id("bob"), &governance);
    assert_eq!(net.submits("alice", vec![Document::Approval(consent)]), [Ok(Taken::Adopted(charter.id()))]);
    net.settle();
    let network = charter.network();
    let mut body = before.successor(network);
    body.witness = witness.public();
    let stolen = Card::sign(&body, [&keys_of("bob").governance, &witness]).unwrap();
    assert_eq!(net.submits("carol", vec![Document::Card(Box::new(stolen))]), [Ok(Taken::Kept)], "it has no effect");
    body.governance = governance.public();
    let card = Card::sign(&body, [&governance, &witness]).unwrap();
    net.holds("bob", [witness.clone()]);
    assert_eq!(net.submits("carol", vec![Document::Card(Box::new(card))]), [Ok(Taken::Card(id("bob")))]);
    net.adds("alice", pdq(1));
    net.settle();
    for node in MEMBERS {
        let federation = net.node(node).engine().unwrap().federation().clone();
        assert_eq!(*federation.witnesses()[&id("bob")].key(), witness.public(), "{node}");
        assert_eq!(net.node(node).settled("alice"), 1, "{node}");
    }
}

/// SPEC 9.4: a card that would cut off what was just said is not taken by the own node unless that is meant.
#[test]
fn a_card_does_not_cut_off_what_was_said_unless_that_is_meant() {
    let mut net = federation(4);
    net.adds("bob", pdq(1));
    net.settle();
    let key = fresh("bob log");
    let settled = end(&net, "alice", "bob");
    let rotate = |body: &mut CardBody| {
        (body.epoch, body.log) = (1, key.public());
        body.ended.push(settled);
    };
    let card = next_card(&net, "bob", "bob", rotate, &[&key]);
    net.holds("bob", [key.clone()]);
    net.isolate("bob");
    let Some(Outcome::Done(_)) = ({
        let said = net.adds("bob", pdq(2));
        net.run(Duration::from_secs(1));
        net.outcome(said).cloned()
    }) else {
        panic!("it says something that nobody has heard")
    };
    let refused = net.submits("bob", vec![Document::Card(Box::new(card.clone()))]);
    assert_eq!(refused, [Err(Ungoverned::CutsShort { end: 1, size: 2, settled: 1 })]);
    assert_eq!(net.cuts("bob", card), [Ok(Taken::Card(id("bob")))]);
    assert!(net.matches("bob", pdq(2)).is_empty());
    net.heal();
    net.settle();
    let said = net.adds("bob", pdq(2));
    net.settle();
    let Some(Outcome::Done(placed)) = net.outcome(said) else { panic!("said") };
    assert_eq!(placed[..], [Ok(Placed::New(Position { epoch: 1, index: 0 }))], "it is said again, in the new log");
    for node in MEMBERS {
        assert_eq!(net.matches(node, pdq(2)), ["bob"], "{node}");
    }
}

/// SPEC 9.4, 9.6: what was said under an end that others do not have yet is admitted up to that end and no further; and a member that
/// leaves is cut off without a vote.
#[test]
fn who_leaves_needs_no_vote() {
    let mut net = federation(5);
    net.adds("carol", pdq(1));
    net.settle();
    let last = end(&net, "alice", "carol");
    let leave = |body: &mut CardBody| {
        body.leaving = true;
        body.ended.push(last);
    };
    let card = next_card(&net, "carol", "carol", leave, &[]);
    assert_eq!(net.submits("carol", vec![Document::Card(Box::new(card))]), [Ok(Taken::Card(id("carol")))]);
    net.settle();
    for node in ["alice", "bob", "mallory"] {
        let engine = net.node(node).engine().unwrap();
        assert_eq!(engine.federation().standing(id("carol")), Some(Standing::Leaving), "{node}");
        assert!(engine.status().peers.iter().all(|peer| peer.member != id("carol")), "{node}");
        assert_eq!(net.matches(node, pdq(1)), ["carol"], "{node}");
    }
    let mute = net.adds("carol", pdq(2));
    net.run(Duration::from_secs(1));
    assert!(matches!(net.outcome(mute), Some(Outcome::Mute)));
}

/// SPEC 17.5: what witnesses with a new key have settled before stays settled, over restarts, and they settle on.
#[test]
fn witnesses_change_their_keys_and_nothing_unsettles() {
    let mut net = federation(6);
    net.adds("alice", pdq(1));
    net.settle();
    for member in ["bob", "carol", "mallory"] {
        let key = fresh(member);
        let card = next_card(&net, member, member, |body| body.witness = key.public(), &[&key]);
        net.holds(member, [key.clone()]);
        assert_eq!(net.submits(member, vec![Document::Card(Box::new(card))]), [Ok(Taken::Card(id(member)))]);
    }
    net.settle();
    for node in ["alice", "bob"] {
        net.crash(node);
        net.start(node);
    }
    net.settle();
    assert_eq!(net.node("bob").settled("alice"), 1, "by keys that are no more");
    net.adds("alice", pdq(2));
    net.settle();
    for node in MEMBERS {
        assert_eq!(net.node(node).settled("alice"), 2, "{node}");
    }
    net.audit();
}

/// SPEC 9.7: two cards with one number: the one before stays in force everywhere, nothing is written, until a charter names one.
#[test]
fn of_rival_cards_a_charter_names_one() {
    let mut net = federation(7);
    net.adds("bob", pdq(1));
    net.settle();
    let keys = ["one", "two"].map(fresh);
    let settled = end(&net, "alice", "bob");
    let cards = keys.each_ref().map(|key| {
        let rotate = |body: &mut CardBody| {
            (body.epoch, body.log) = (1, key.public());
            body.ended.push(settled);
        };
        next_card(&net, "bob", "bob", rotate, &[key])
    });
    net.partition(&["alice", "bob"], &["carol", "mallory"]);
    net.holds("bob", keys.clone());
    net.submits("alice", vec![Document::Card(Box::new(cards[0].clone()))]);
    net.submits("carol", vec![Document::Card(Box::new(cards[1].clone()))]);
    net.run(Duration::from_secs(5));
    net.adds("bob", pdq(2));
    net.run(Duration::from_secs(5));
    net.heal();
    net.settle();
    for node in ["alice", "carol"] {
        assert!(
            net.alarms(node).iter().any(|alarm| matches!(alarm, Alarm::RivalCards(member) if *member == id("bob"))),
            "{node}"
        );
        assert_eq!(net.matches(node, pdq(1)), ["bob"], "{node}: matching goes on");
    }
    for (a, b) in [("alice", "carol"), ("carol", "alice"), ("carol", "bob"), ("bob", "mallory")] {
        assert_eq!(net.shunned(a, b), 0, "{a} has shunned {b} for what a third has done");
    }
    let charter = amend(&tip(&net, "alice"), |charter| {
        charter.members.iter_mut().find(|member| member.id == id("bob")).unwrap().card = cards[0].id();
    });
    let taken = net.submits("mallory", vec![document(&charter, &["alice", "carol", "mallory"], &[])]);
    assert_eq!(taken, [Ok(Taken::Adopted(charter.id()))]);
    net.settle();
    net.adds("bob", pdq(3));
    net.settle();
    for node in MEMBERS {
        assert_eq!(net.matches(node, pdq(2)), ["bob"], "{node}");
        assert_eq!(net.matches(node, pdq(3)), ["bob"], "{node}");
        assert_eq!(net.node(node).engine().unwrap().ledger().log(log("bob", 1)).unwrap().settled_size(), 2, "{node}");
    }
    net.audit();
}

/// Nothing that one member can hand in changes who is a member.
#[test]
fn one_member_alone_changes_nothing() {
    let mut net = federation(8);
    net.settle();
    let (before, (card, _)) = (tip(&net, "alice"), new_member());
    let others = |member: &str| MEMBERS.into_iter().find(|other| *other != member).unwrap();
    for member in MEMBERS {
        let admit = admitting(&before, &card);
        let expel = without(&before, others(member), Departure::Expelled, vec![End::nothing(0)]);
        for charter in [admit, expel] {
            // Each its own, or one after the other they would agree.
            let charter = Charter::new(CharterBody { note: member.to_owned(), ..charter.body().clone() }).unwrap();
            let approvals = [sign(&charter, &[member]), sign(&charter, &[member]), sign(&charter, &["eve"])].concat();
            let approvals = if charter.member(id("eve")).is_some() { approvals } else { approvals[..2].to_vec() };
            let cards = vec![card.clone()];
            let all = Document::Charter { charter: Box::new(charter.clone()), approvals, cards };
            let taken = net.submits(member, vec![all, Document::Card(Box::new(card.clone()))]);
            assert_eq!(taken[0], Ok(Taken::Kept), "{member}");
            let chosen = net.chooses(member, charter.id());
            assert_eq!(chosen, [Err(Ungoverned::Governance(GovernanceError::NoSuchCharter))], "{member}");
        }
    }
    net.settle();
    for node in MEMBERS {
        assert_eq!(tip(&net, node).id(), before.id(), "{node}");
    }
}

/// SPEC 21.17: a vote that was thought better of is shown as such, everywhere and over a restart, and stays a vote.
#[test]
fn a_vote_can_be_withdrawn_and_stays_a_vote() {
    let mut net = federation(11);
    net.settle();
    let charter = amend(&tip(&net, "alice"), |charter| charter.note = "a thought".to_owned());
    net.submits("alice", vec![document(&charter, &["alice"], &[])]);
    let network = charter.network();
    let withdrawal = |member: &str, key: &str| {
        Document::Withdrawal(Withdrawal::sign(network, charter.id(), id(member), &keys_of(key).governance))
    };
    assert_eq!(net.submits("alice", vec![withdrawal("alice", "alice")]), [Ok(Taken::Kept)]);
    let others = net.submits("alice", vec![withdrawal("bob", "bob"), withdrawal("alice", "bob")]);
    assert!(matches!(others[..], [Err(_), Ok(Taken::Known)]), "{others:?}: who has not voted withdraws nothing");
    net.settle();
    net.crash("bob");
    net.start("bob");
    net.settle();
    for node in MEMBERS {
        let stored = net.node(node).engine().unwrap().governance().clone();
        assert_eq!(stored.governance.proposal(charter.id()).unwrap().withdrawn, [id("alice")], "{node}");
    }
    net.submits("carol", vec![document(&charter, &["bob", "carol"], &[])]);
    net.settle();
    assert_eq!(tip(&net, "mallory").id(), charter.id());
    // It is no proposal any more: whether somebody had heard of the withdrawal makes no difference, to others or after a restart.
    let stands = |net: &Sim, node: &str| net.node(node).engine().unwrap().governance().governance.position();
    let before = stands(&net, "alice");
    net.crash("alice");
    net.start("alice");
    for node in MEMBERS {
        assert_eq!(stands(&net, node), before, "{node}");
    }
}

/// SPEC 21.13: a flag day is a vote. A node that is too old for it takes up no more charters, says so, and goes on with everything else.
#[test]
fn after_a_flag_day_an_old_node_takes_up_no_more_charters() {
    let mut net = federation(9);
    net.settle();
    let flag = amend(&tip(&net, "alice"), |charter| charter.parameters.min_protocol += 1);
    let taken = net.submits("alice", vec![document(&flag, &["alice", "bob", "carol"], &[])]);
    assert_eq!(taken, [Ok(Taken::Adopted(flag.id()))]);
    net.settle();
    let next = amend(&flag, |charter| charter.note = "after it".to_owned());
    let taken = net.submits("bob", vec![document(&next, &["alice", "bob", "carol"], &[])]);
    assert!(matches!(taken[..], [Err(Ungoverned::Governance(GovernanceError::TooOld(2)))]), "{taken:?}");
    net.adds("carol", pdq(1));
    net.settle();
    for node in MEMBERS {
        assert!(net.alarms(node).contains(&Alarm::TooOld(2)), "{node}");
        assert_eq!(net.matches(node, pdq(1)), ["carol"], "{node}");
        assert!(net.shunned("alice", node) == 0, "{node}");
    }
}

/// SPEC 12.9: an author keeps to the charter's quota; withdrawing is never kept waiting.
#[test]
fn an_author_keeps_to_the_quota() {
    let parameters = Parameters { statements_per_day: 3, ..Parameters::standard() };
    let mut net = Sim::with(&["alice", "bob"], 10, Weather::default(), parameters);
    net.settle();
    let said: Vec<u64> = (0..4).map(|number| net.adds("alice", pdq(number))).collect();
    net.settle();
    let result = |net: &Sim, said: u64| match net.outcome(said) {
        Some(Outcome::Done(results)) => results[0].clone(),
        other => panic!("{other:?}"),
    };
    assert!(said[..3].iter().all(|said| result(&net, *said).is_ok()));
    assert_eq!(result(&net, said[3]), Err(Unpublishable::Quota(3)));
    let revoked = net.revokes("alice", pdq(0));
    net.settle();
    assert!(result(&net, revoked).is_ok());
    net.run(Duration::from_secs(26 * 3600));
    let again = net.adds("alice", pdq(3));
    net.settle();
    assert!(result(&net, again).is_ok(), "another day");
}

/// SPEC 14.10: nobody is locked out: a stranger can hand in a card, one that a member's governance key has signed, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_any_node_key_hands_in_its_card() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = founded(&folder.path().join("cluster"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let config = cluster.member(1).folder.config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("introductions = [\"{address}\"]\n{text}")).unwrap();
    cluster.start_all().unwrap();
    cluster.connected(PATIENCE).await.unwrap();
    let crab = cluster.member(2);
    let text = |name: &str| folder.path().join(name).display().to_string();
    let (draft, card) = (text("crab.draft"), text("crab-1.card"));
    let key = folder.path().join("cluster/crab-governance/governance.key").display().to_string();
    crab.hashmesh(&["card", "rotate", "--node", "--output", &draft]).unwrap();
    crab.hashmesh(&["card", "sign", &draft, "--key", &key, "--output", &card]).unwrap();
    let first = crab.folder.root().join("crab.card").display().to_string();
    let refused = |card: &str| {
        let output = crab.attempt(&["card", "introduce", card, &address]).unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&first).contains("propose"), "a first card introduces nobody");
    // Strangers that say something else get nothing.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], &[0xff; 4096]] {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut answer, _cut_off) = (Vec::new(), stream.write_all(bytes).await);
        let _cut_off = stream.shutdown().await;
        let _cut_off = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{answer:?}");
    }
    assert!(crab.hashmesh(&["card", "introduce", &card, &address]).unwrap().starts_with("taken"));
    assert!(crab.hashmesh(&["card", "introduce", &card, &address]).unwrap().starts_with("known"));
    for member in cluster.members() {
        eventually("the card", async || {
            let mut client = Client::admin(&member.folder).await.unwrap();
            let seen: GovernanceAnswer = client.get("/v1/governance").await.unwrap();
            seen.members.iter().any(|member| member.id == "crab" && member.number == Some(1))
        })
        .await;
    }
}

/// The whole story, on real processes, by the command line: at each step all nodes have the same charter.
#[tokio::test(flavor = "multi_thread")]
async fn a_federation_governs_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    let program = crate::loopback::program();
    let say = |line: &str| {
        told.push(line.to_owned());
        Ok(())
    };
    let ended = hashmesh_testnet::story::tell_governance(folder.path(), &program, say).await;
    assert!(ended.is_ok(), "{ended:?} after {told:#?}");
    assert!(told.iter().filter(|line| line.starts_with("version ")).count() >= 7, "{told:#?}");
}
