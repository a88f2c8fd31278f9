//! SPEC 18: a member that signs two histories.

use std::time::Duration;

use hashmesh_protocol::batch::Batch;
use hashmesh_protocol::charter::Parameters;
use hashmesh_protocol::checkpoint::{Checkpoint, SignedCheckpoint};
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::cosignature::Cosignature;
use hashmesh_protocol::engine::{Alarm, CannotSettle};
use hashmesh_protocol::entries::Entries;
use hashmesh_protocol::evidence::Accused;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::opening::{Opening, Salt, commitment};
use hashmesh_protocol::serve::Archive as _;
use hashmesh_protocol::statement::{Add, Erase, Labels, Leaf, Position, Revoke, Statement};
use hashmesh_protocol::tree::edge::Edge;
use hashmesh_protocol::tree::leaf_hash;
use hashmesh_protocol::wire::Gossip;
use hashmesh_testnet::bench::forks::{in_simulator, on_processes};
use hashmesh_testnet::sim::{Sim, Weather, pdq};

use super::loopback::program;

fn log() -> LogId {
    LogId { member: "mallory".parse().unwrap(), epoch: 0 }
}

/// What a forked log goes on with.
pub(super) enum Word {
    Add(ContentHash),
    Revoke(u64),
    Erase(u64),
}

/// Statements signed with mallory's key, which follow the first `keep` of its log, as one gossip message.
pub(super) fn story(net: &Sim, keep: usize, words: &[Word]) -> Vec<u8> {
    let node = net.node("alice");
    let federation = node.engine().unwrap().federation();
    let mut edge = Edge::default();
    node.disk.leaves(log())[..keep].iter().for_each(|leaf| edge.push(leaf_hash(leaf)));
    let mut composer = Entries::compose(log(), edge.size());
    for word in words {
        let (statement, opening) = match word {
            Word::Add(hash) => {
                let opening = Opening::of(hash, Salt([9; 16]), None).encode();
                let add = Add {
                    kind: 1,
                    commitment: commitment(&opening),
                    labels: Labels::new(&[1]).unwrap(),
                    media: 2,
                    quality: None,
                    expiry: None,
                    incident: None,
                    replaces: None,
                };
                (Statement::Add(add), Some((opening, *hash)))
            }
            Word::Revoke(index) => {
                let position = Position { epoch: 0, index: *index };
                (Statement::Revoke(Revoke { position, reason: 1 }), None)
            }
            Word::Erase(index) => {
                let position = Position { epoch: 0, index: *index };
                (Statement::Erase(Erase { position, basis: 1 }), None)
            }
        };
        let opening = opening.as_ref().map(|(opening, hash)| (opening.as_slice(), *hash));
        composer.push(Leaf { time: net.now(), statement }, opening);
    }
    let entries = composer.finish().unwrap();
    entries.iter().for_each(|(_, entry)| edge.push(entry.leaf_hash));
    let key = &federation.logs()[&log()];
    let checkpoint = Checkpoint { origin: key.name().to_owned(), size: edge.size(), root: edge.root() };
    let checkpoint = SignedCheckpoint::sign(checkpoint, key, &net.founding().keys[&log().member].log).note().clone();
    let batch = Batch { entries, checkpoint, proof: Vec::new() };
    Gossip::encode_batch(batch.encode(federation.origins()))
}

const HONEST: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// A federation in which mallory has said something that is settled, and is gone since.
fn scene(seed: u64) -> Sim {
    let members = ["alice", "bob", "carol", "dave", "mallory"];
    let mut net = Sim::with(&members, seed, Weather::default(), Parameters::standard());
    net.settle();
    net.adds("mallory", pdq(1));
    net.adds("mallory", pdq(2));
    net.settle();
    assert_eq!(net.node("dave").settled("mallory"), 2);
    net.crash("mallory");
    net
}

fn convicted(net: &Sim) {
    for node in HONEST {
        let status = net.node(node).engine().unwrap().status();
        assert!(status.logs.iter().any(|status| status.log == log() && status.forked), "{node}, seed {}", net.seed());
        assert!(net.node(node).disk.evidence(Accused::Log(log())).unwrap().is_some(), "{node}");
        assert!(net.alarms(node).contains(&Alarm::Fork(log())), "{node}");
        for other in HONEST {
            assert_eq!(net.shunned(node, other), 0, "{node} shuns {other}: who relays is not at fault");
        }
    }
}

/// SPEC 18.3, 18.4: two histories, told to two halves that do not hear each other. One gossip round after they meet every
/// honest node has the evidence, has frozen the log, and acts on what was settled alone.
#[test]
fn a_member_that_signs_two_histories_is_convicted_by_all_as_soon_as_they_meet() {
    for (seed, sizes) in [(1, (1, 1)), (2, (1, 3)), (3, (4, 2)), (4, (3, 2))] {
        let mut net = scene(seed);
        let words =
            |from: u64, count: u64| (from..from + count).map(|number| Word::Add(pdq(number))).collect::<Vec<_>>();
        let (one, other) = (story(&net, 2, &words(100, sizes.0)), story(&net, 2, &words(200, sizes.1)));
        net.partition(&["alice", "bob"], &["carol", "dave"]);
        net.inject("alice", "bob", one);
        net.inject("carol", "dave", other);
        net.run(Duration::from_secs(5));
        assert_eq!(net.matches("bob", pdq(100)), ["mallory"]);
        assert_eq!(net.matches("dave", pdq(200)), ["mallory"]);

        net.heal();
        net.run(Duration::from_secs(1));
        convicted(&net);
        for node in HONEST {
            for number in [100, 200] {
                assert!(net.matches(node, pdq(number)).is_empty(), "{node} acts on what is not settled");
            }
            assert_eq!(net.matches(node, pdq(1)), ["mallory"], "{node}: what was settled keeps its effect");
            let status = net.node(node).engine().unwrap().status();
            let log = status.logs.iter().find(|log| log.forked).unwrap();
            assert_eq!(log.cannot_settle, Some(CannotSettle::TwoHistories), "{node}");
        }
    }
}

/// SPEC 18.5: a thief cannot wipe out what a member has said, neither by a second history of its first statement nor by
/// revoking everything in one that nobody has settled; not over restarts either.
#[test]
fn what_was_settled_keeps_its_effect_whatever_a_thief_signs() {
    let mut net = scene(5);
    // The witnesses are kept from settling what the thief says.
    net.partition(&["alice", "bob"], &["carol", "dave"]);
    let revoked = story(&net, 2, &[Word::Revoke(0), Word::Add(pdq(2)), Word::Add(pdq(3))]);
    net.inject("alice", "bob", revoked);
    net.run(Duration::from_secs(5));
    assert!(net.matches("bob", pdq(1)).is_empty() && net.matches("dave", pdq(1)) == ["mallory"]);
    net.inject("alice", "bob", story(&net, 0, &[Word::Add(pdq(9))]));
    net.run(Duration::from_secs(5));
    net.heal();
    net.run(Duration::from_secs(15));
    convicted(&net);
    for restarted in [false, true] {
        for node in HONEST {
            if restarted {
                net.crash(node);
                net.start(node);
            }
            let matches = [1, 2, 3, 9].map(|number| net.matches(node, pdq(number)).len());
            assert_eq!(matches, [1, 1, 0, 0], "{node}, restarted: {restarted}");
            assert_eq!(net.node(node).settled("mallory"), 2);
        }
    }
}

/// SPEC 18.3, 18.4: who comes later learns of it with the first heads, and still gets what was settled.
#[test]
fn a_newcomer_gets_the_evidence_and_what_is_settled() {
    let mut net = scene(6);
    net.isolate("dave");
    net.crash("dave");
    net.node_mut("dave").disk = hashmesh_testnet::sim::Disk::default();
    net.inject("alice", "bob", story(&net, 2, &[Word::Add(pdq(3))]));
    net.inject("alice", "carol", story(&net, 2, &[Word::Add(pdq(4))]));
    net.run(Duration::from_secs(2));
    net.heal();
    net.start("dave");
    net.settle();
    convicted(&net);
    assert_eq!(net.matches("dave", pdq(1)), ["mallory"]);
    assert!(net.matches("dave", pdq(3)).is_empty() && net.matches("dave", pdq(4)).is_empty());
}

/// The checkpoint of a story, cosigned by every witness with its own key.
fn cosigned(net: &Sim, story: &[u8]) -> Vec<u8> {
    let federation = net.node("alice").engine().unwrap().federation();
    let Ok(Gossip::Batch(batch)) = Gossip::decode(story, federation.origins()) else { panic!("a batch") };
    let checkpoint = Checkpoint::parse(batch.checkpoint.text()).unwrap();
    let lines = federation.witnesses_of(log()).map(|(member, key)| {
        let secret = &net.founding().keys[&member].witness;
        Cosignature::sign(&checkpoint, net.now(), key, secret).line().clone()
    });
    Gossip::encode_settled(&batch.checkpoint.clone().signed_also(lines))
}

/// SPEC 18.1, 18.3: witnesses that settle two histories convict themselves. What was settled first stays settled.
#[test]
fn witnesses_that_settle_two_histories_are_convicted_with_the_author() {
    let mut net = scene(9);
    let (one, other) = (story(&net, 2, &[Word::Add(pdq(3))]), story(&net, 2, &[Word::Add(pdq(4))]));
    let (first, second) = (cosigned(&net, &one), cosigned(&net, &other));
    for message in [one, first, second] {
        net.inject("alice", "bob", message);
        net.run(Duration::from_secs(1));
    }
    net.run(Duration::from_secs(12));
    convicted(&net);
    for node in HONEST {
        for witness in HONEST {
            let accused = Accused::Witness(witness.parse().unwrap());
            assert!(net.node(node).disk.evidence(accused).unwrap().is_some(), "{node} on {witness}");
            assert!(net.alarms(node).contains(&Alarm::FalseWitness(witness.parse().unwrap())));
        }
    }
    for node in ["bob", "carol", "dave"] {
        assert_eq!(net.matches(node, pdq(3)), ["mallory"], "{node}");
        assert_eq!(net.node(node).settled("mallory"), 3);
    }
}

/// SPEC 18.2: what is no evidence harms whoever hands it over, and nobody else.
#[test]
fn a_false_accusation_falls_back_on_the_accuser() {
    let mut net = scene(7);
    net.inject("alice", "bob", story(&net, 2, &[Word::Add(pdq(3))]));
    net.inject("alice", "carol", story(&net, 2, &[Word::Add(pdq(4))]));
    net.run(Duration::from_secs(2));
    let mut evidence = net.node("bob").disk.evidence(Accused::Log(log())).unwrap().unwrap();
    let last = evidence.len() - 80;
    evidence[last] ^= 1;
    let mut other = scene(8);
    let mut message = vec![0x82, 4, 0x59];
    message.extend(u16::try_from(evidence.len()).unwrap().to_be_bytes());
    message.extend(evidence);
    other.inject("alice", "bob", message);
    other.run(Duration::from_secs(1));
    assert_eq!(other.shunned("bob", "alice"), 1);
    assert!(other.node("bob").engine().unwrap().status().logs.iter().all(|log| !log.forked));
}

/// SPEC 18.3 to 18.5: of ten nodes, nine of which are told one of two histories in turn, all have convicted within a gossip round,
/// whatever the delays, and act on what was settled as before.
#[test]
fn ten_nodes_convict_within_a_round() {
    let mut times = in_simulator(10, 1..=10).unwrap();
    times.sort();
    assert_eq!(times.len(), 90);
    assert!(times[89] <= Duration::from_secs(1), "{times:?}");
}

/// The same on a few real processes, told over real lines.
#[tokio::test(flavor = "multi_thread")]
async fn real_nodes_convict_a_member_that_signs_two_histories() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(on_processes(folder.path(), &program(), 5).await.unwrap().len(), 4);
}
