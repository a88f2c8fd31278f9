//! SPEC 14: what is said reaches everybody, whatever the network does.

use std::sync::Arc;
use std::time::Duration;

use hashmesh_protocol::catalog::Catalog;
use hashmesh_protocol::charter::Parameters;
use hashmesh_protocol::checkpoint::{Checkpoint, SignedCheckpoint};
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::engine::{Draft, Effect, Engine, Input, Restored, Start};
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::governance::Stored;
use hashmesh_protocol::ledger::Ledger;
use hashmesh_protocol::names::{LogId, MemberId};
use hashmesh_protocol::note::Note;
use hashmesh_protocol::statement::Labels;
use hashmesh_protocol::time::Timestamp;
use hashmesh_protocol::wire::{Gossip, Heads};
use hashmesh_testnet::founding::found_by;
use hashmesh_testnet::sim::{Sim, Weather, pdq};

/// SPEC 14.3, 14.5: gossip may lose anything; catch-up repairs it.
#[test]
fn every_statement_arrives_though_most_gossip_is_lost() {
    for seed in 0..20 {
        let weather = Weather { delay: (1, 300), loss: 0.8, busy: 20 };
        let members = ["alice", "bob", "carol", "dave", "erin"];
        let mut net = Sim::with(&members, seed, weather, Parameters::standard());
        net.settle();
        for number in 0..40 {
            net.adds(members[number as usize % 5], pdq(number));
            net.run(Duration::from_millis(50));
        }
        net.settle();
        for number in 0..40 {
            assert_eq!(net.matches("erin", pdq(number)), [members[number as usize % 5]], "seed {seed}");
        }
        net.audit_agreement();
    }
}

/// SPEC 14.5: both sides of a partition go on, and agree when it heals.
#[test]
fn a_partition_heals() {
    let members = ["alice", "bob", "carol", "dave", "erin"];
    let mut net = Sim::with(&members, 7, Weather::default(), Parameters::standard());
    net.settle();
    net.partition(&["alice", "bob"], &["carol", "dave", "erin"]);
    for number in 0..30 {
        net.adds(members[number as usize % 5], pdq(number));
    }
    net.settle();
    assert_eq!(net.matches("bob", pdq(0)), ["alice"]);
    assert!(net.matches("erin", pdq(0)).is_empty());
    net.heal();
    net.settle();
    assert_eq!(net.matches("erin", pdq(0)), ["alice"]);
    net.audit_agreement();
}

/// SPEC 14.5: a node that was away fetches everything, in ranges, from whoever has it.
#[test]
fn a_node_that_was_away_catches_up() {
    let mut parameters = Parameters::standard();
    parameters.batch_leaves = 16;
    let mut net = Sim::with(&["alice", "bob", "carol"], 3, Weather::default(), parameters);
    net.settle();
    net.crash("carol");
    for round in 0..50 {
        for number in 0..10 {
            net.adds("alice", pdq(round * 10 + number));
        }
        net.run(Duration::from_millis(20));
    }
    net.settle();
    net.crash("alice");
    net.start("carol");
    net.settle();
    for number in 0..500 {
        assert_eq!(net.matches("carol", pdq(number)), ["alice"], "from bob, since alice is gone");
    }
    net.start("alice");
    net.settle();
    net.audit_agreement();
}

/// Bob is down, and comes back without the opening of what alice says at index 3 of her log.
fn bob_lacks_an_opening() -> (Sim, LogId) {
    let mut net = Sim::of(["alice", "bob", "carol"]);
    net.settle();
    for number in 0..10 {
        net.adds("alice", pdq(number));
    }
    net.settle();
    let log = net.node("alice").engine().unwrap().own().unwrap();
    net.crash("bob");
    net.node_mut("bob").disk.forget_opening(log, 3);
    (net, log)
}

/// SPEC 5.4: an opening that is missing is asked for from anyone.
#[test]
fn a_missing_opening_is_found() {
    let (mut net, _) = bob_lacks_an_opening();
    net.start("bob");
    assert!(net.matches("bob", pdq(3)).is_empty());
    net.settle();
    assert_eq!(net.matches("bob", pdq(3)), ["alice"]);
    net.crash("bob");
    net.start("bob");
    assert_eq!(net.matches("bob", pdq(3)), ["alice"], "it was stored");
    net.audit_agreement();
}

/// SPEC 14.5: whoever strips the openings off is not to blame, so a whole log may lack them, and some may exist nowhere any
/// more. The others are found soon all the same, wherever they are.
#[test]
fn openings_that_exist_nowhere_delay_no_others() {
    let mut net = Sim::of(["alice", "bob", "carol", "dave"]);
    net.settle();
    let labels = Labels::new(&[1]).unwrap();
    let drafts = (0..4000).map(|number| Draft::add(pdq(number), labels, net.salt(), None).unwrap()).collect();
    net.publishes("alice", drafts);
    net.settle();
    let log = net.node("alice").engine().unwrap().own().unwrap();
    net.crash("bob");
    for index in 0..4000 {
        net.node_mut("bob").disk.forget_opening(log, index);
        // The first 600 are gone everywhere; of the rest, each is left with one of the three.
        for (holder, member) in ["alice", "carol", "dave"].into_iter().enumerate() {
            if index < 600 || index % 3 != holder {
                net.node_mut(member).disk.forget_opening(log, index);
            }
        }
    }
    net.start("bob");
    net.run(Duration::from_secs(10));
    let missing = |net: &Sim| net.node("bob").engine().unwrap().ledger().log(log).unwrap().missing();
    assert_eq!(missing(&net), 600);
    assert!(net.matches("bob", pdq(599)).is_empty());
    assert_eq!(net.matches("bob", pdq(3999)), ["alice"]);

    // What comes later is found though the search for the others goes on.
    net.adds("alice", pdq(5000));
    net.settle();
    assert_eq!(net.matches("bob", pdq(5000)), ["alice"]);
    assert_eq!(missing(&net), 600);
    net.audit();
}

/// SPEC 5.4: where the author has signed two histories, an honest peer may hold the opening of another leaf.
#[test]
fn an_opening_of_another_history_is_nobodys_fault() {
    let (mut net, log) = bob_lacks_an_opening();
    let other = net.node("carol").disk.opening(log, 4).to_vec();
    net.node_mut("carol").disk.put_opening(log, 3, other);
    net.start("bob");
    net.settle();
    assert_eq!(net.matches("bob", pdq(3)), ["alice"], "alice has it");
    assert_eq!(net.shunned("bob", "carol"), 0);
    net.audit_agreement();
}

/// SPEC 14.6: whoever passes on what an honest node refuses is cut off; nothing is lost and nobody else suffers.
#[test]
fn garbage_is_refused_and_its_sender_shunned() {
    let mut net = Sim::of(["alice", "bob", "mallory"]);
    net.settle();
    net.adds("alice", pdq(1));
    net.settle();
    let head = net.node("alice").engine().unwrap().heads().heads[0].1.clone();
    let forged = head.to_string().replace("\n1\n", "\n2\n");
    let forged = hashmesh_protocol::note::Note::parse(forged.as_bytes()).unwrap();
    for (round, message) in [vec![0xff; 40], Gossip::encode_checkpoint(&forged), Vec::new()].into_iter().enumerate() {
        net.heal();
        net.inject("mallory", "bob", message);
        net.run(Duration::from_secs(1));
        assert_eq!(net.shunned("bob", "mallory"), round + 1);
    }
    assert_eq!(net.shunned("bob", "alice"), 0);
    net.heal();
    net.adds("alice", pdq(2));
    net.settle();
    assert_eq!(net.matches("bob", pdq(2)), ["alice"]);
    net.audit_agreement();
}

/// One frame of heads may not take the thread that decides for long: one head a log is read, and none after one that an
/// honest node would not have passed on.
#[test]
fn heads_beyond_one_a_log_are_not_read() {
    let founding = found_by(&["alice", "bob", "mallory"], Parameters::standard());
    let federation = Arc::new(Federation::new(&founding.genesis));
    let logs: Vec<LogId> = federation.logs().keys().copied().collect();
    let head = |log: LogId, size: u64, by: &str| {
        let key = &federation.logs()[&log];
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size, root: Digest([9; 32]) };
        let signer = &founding.keys[&by.parse::<MemberId>().unwrap()].log;
        (log, SignedCheckpoint::sign(checkpoint, key, signer).note().clone())
    };
    let forged = |size| head(logs[0], size, "mallory");
    let good = |size| head(logs[2], size, "mallory");
    let stranger = LogId { epoch: 7, ..logs[1] };
    let shuns = |heads: Vec<(LogId, Note)>| {
        let (_, catalog) = Catalog::new([1, 2]);
        let start = Start {
            governance: Stored::new(&founding.genesis, Timestamp(1000)),
            member: Some(logs[1].member),
            keys: std::collections::BTreeSet::new(),
            ledger: Ledger::new(&federation),
            catalog,
            signed: std::collections::BTreeMap::new(),
            cosigned: std::collections::BTreeMap::new(),
            restored: Restored::default(),
            evidence: Vec::new(),
        };
        let mut engine = Engine::new(start);
        let mallory = *federation.nodes().iter().find(|(_, member)| member.as_str() == "mallory").unwrap().0;
        engine.step(Input::PeerUp(mallory), Timestamp(1000));
        let told = Input::Told { from: mallory, heads: Heads { time: Timestamp(1000), heads, ..Heads::default() } };
        let effects = engine.step(told, Timestamp(1000));
        let known = engine.status().logs.iter().map(|log| log.known).max().unwrap();
        (effects.iter().filter(|effect| matches!(effect, Effect::Shun { .. })).count(), known)
    };
    assert_eq!(shuns(vec![good(5)]), (0, 5));
    assert_eq!(shuns(vec![forged(1), forged(2), good(5)]), (1, 0), "the first is enough");
    let many = (1..2000).map(good).chain([forged(1)]);
    assert_eq!(shuns(many.collect()), (0, 3), "of three logs there are three heads");
    assert_eq!(shuns(vec![(stranger, good(9).1), good(4)]), (0, 4), "a log that is not known here is nobody's fault");
}
