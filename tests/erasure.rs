//! SPEC 20: what is erased is hidden at once and gone after the hold, and nothing else is.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hashmesh::api::form::StatementForm;
use hashmesh_protocol::charter::Parameters;
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::engine::{Draft, Outcome, Placed, Target, Unpublishable};
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::opening::Opening;
use hashmesh_protocol::policy::Decision;
use hashmesh_protocol::statement::{Basis, Position, Reason};
use hashmesh_testnet::cluster::Member;
use hashmesh_testnet::sim::{Sim, Weather, pdq};
use serde_json::Value;

use super::audit::{exports, files, settled, verify};
use super::forks::{Word, story};
use super::loopback::{PATIENCE, add, decisions, eventually, founded_with, publish, running};

const HOUR: Duration = Duration::from_secs(3600);

fn log(member: &str) -> LogId {
    LogId { member: member.parse().unwrap(), epoch: 0 }
}

fn federation(seed: u64) -> Sim {
    let parameters = Parameters { erase_hold: 3_600_000, ..Parameters::standard() };
    let mut net = Sim::with(&["alice", "bob", "carol", "mallory"], seed, Weather::default(), parameters);
    net.settle();
    net
}

fn erase(hash: ContentHash) -> StatementForm {
    StatementForm::Erase { hash: Some(hash.to_string()), position: None, basis: Basis::LegalOrder }
}

fn erases(net: &mut Sim, member: &str, hash: ContentHash) -> Result<Placed, Unpublishable> {
    let publication =
        net.publishes(member, vec![Draft::Erase { target: Target::Hash(hash), basis: Basis::LegalOrder }]);
    net.settle();
    match net.outcome(publication) {
        Some(Outcome::Done(results)) => results[0].clone(),
        other => panic!("{other:?}"),
    }
}

/// Openings of alice's that a node has on its disk, hidden or not.
fn held(net: &Sim, node: &str) -> Vec<usize> {
    let disk = &net.node(node).disk;
    (0..disk.leaves(log("alice")).len()).filter(|index| !disk.opening(log("alice"), *index).is_empty()).collect()
}

/// SPEC 20.1 to 20.3: everywhere, everything that was ever said about the hash, and nothing about others.
#[test]
fn what_is_erased_is_hidden_at_once_and_deleted_after_the_hold() {
    let mut net = federation(21);
    net.adds("alice", pdq(1));
    net.adds("alice", pdq(2));
    net.disputes("alice", pdq(1));
    net.adds("bob", pdq(1));
    net.settle();
    assert_eq!(erases(&mut net, "alice", pdq(1)), Ok(Placed::New(Position { epoch: 0, index: 3 })));
    for node in ["alice", "bob", "carol"] {
        assert_eq!(net.matches(node, pdq(1)), ["bob"], "{node}: what others say is theirs");
        assert!(net.disputers(node, pdq(1)).is_empty(), "{node}");
        assert_eq!(net.matches(node, pdq(2)), ["alice"], "{node}");
        assert_eq!(held(&net, node), [0, 1, 2], "{node}: held for now");
        let missing = net.node(node).engine().unwrap().ledger().log(log("alice")).unwrap().missing();
        assert_eq!(missing, 0, "{node}");
    }
    assert_eq!(erases(&mut net, "alice", pdq(1)), Err(Unpublishable::NothingLeft(pdq(1))));

    // Who comes now gets everything but what is hidden, and can cosign it.
    net.crash("carol");
    net.node_mut("carol").disk = Default::default();
    net.start("carol");
    net.settle();
    assert_eq!(held(&net, "carol"), [1]);
    assert_eq!(net.matches("carol", pdq(2)), ["alice"]);

    net.run(HOUR + HOUR / 60);
    for node in ["alice", "bob", "carol"] {
        assert_eq!(held(&net, node), [1], "{node}: gone");
        net.crash(node);
        net.start(node);
        net.settle();
        assert_eq!(net.matches(node, pdq(2)), ["alice"], "{node}");
        assert_eq!(net.node(node).engine().unwrap().ledger().log(log("alice")).unwrap().missing(), 0, "{node}");
    }
    net.adds("alice", pdq(1));
    net.settle();
    assert_eq!(net.matches("bob", pdq(1)), ["alice", "bob"], "it can be said anew");
    let size = net.node("bob").disk.leaves(log("alice")).len() as u64;
    assert_eq!(net.node("alice").settled("alice"), size, "openings that are erased keep nobody from settling");
    net.audit();
}

/// SPEC 20.3: a thief with a log key hides what was said until the fork is proved, and destroys nothing.
#[test]
fn what_a_thief_erases_in_a_history_that_nobody_settles_comes_back() {
    let mut net = federation(22);
    net.adds("mallory", pdq(1));
    net.settle();
    net.crash("mallory");
    // The witnesses are kept from settling what the thief says.
    net.partition(&["alice", "bob"], &["carol"]);
    net.inject("bob", "alice", story(&net, 1, &[Word::Erase(0)]));
    net.run(Duration::from_secs(5));
    assert!(net.matches("alice", pdq(1)).is_empty(), "hidden at once");
    net.inject("bob", "alice", story(&net, 1, &[Word::Add(pdq(9))]));
    net.run(Duration::from_secs(5));
    net.heal();
    net.run(2 * HOUR);
    for restarted in [false, true] {
        if restarted {
            net.crash("alice");
            net.start("alice");
        }
        assert_eq!(net.matches("alice", pdq(1)), ["mallory"], "restarted: {restarted}");
        assert!(!net.node("alice").disk.opening(log("mallory"), 0).is_empty());
    }
}

/// Whether bytes stand anywhere in the files of a folder.
fn stands_in(folder: &Path, bytes: &[u8]) -> bool {
    let found = |path: &Path| fs::read(path).is_ok_and(|file| file.windows(bytes.len()).any(|part| part == bytes));
    files(folder).iter().any(|path| found(path))
}

/// SPEC 20.3, 20.5 on real processes: nothing of it in any file, openable or not; every proof holds, and the audit lists it.
#[tokio::test]
async fn nothing_of_what_was_erased_is_in_any_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = founded_with(folder.path(), &[("erase_hold", 0)]);
    cluster.start_all().unwrap();
    cluster.connected(PATIENCE).await.unwrap();
    let note = "the name of a person";
    let mut told = vec![add(pdq(1)), add(pdq(2))];
    for form in &mut told {
        let StatementForm::Add { note: its, .. } = form else { unreachable!() };
        *its = Some(note.to_owned());
    }
    publish(cluster.member(0), told).await.unwrap();
    settled(&cluster).await;
    let stores: Vec<_> = cluster.members().iter().map(|member| member.folder.store()).collect();
    let before = folder.path().join("before");
    assert!(std::process::Command::new("cp").arg("-r").arg(&stores[1]).arg(&before).status().unwrap().success());
    let erase = ["erase", &pdq(1).to_string(), "--basis", "data-protection", "--wait", "settled"];
    cluster.member(0).hashmesh(&erase).unwrap();
    let shown = cluster.member(0).hashmesh(&["log", "acme", "--from", "0"]).unwrap();
    assert!(shown.contains("(erased)"), "{shown}");
    let again = cluster.member(0).attempt(&erase).unwrap();
    assert!(String::from_utf8_lossy(&again.stderr).contains("nothing of what this member has said"), "{again:?}");
    assert!(!cluster.member(0).attempt(&["erase", "--position", "0/77", "--basis", "other"]).unwrap().status.success());

    settled(&cluster).await;
    let network = cluster.member(2).status().await.unwrap().federation.network;
    let out = folder.path().join("export");
    eventually("the keys of what is erased are thrown away everywhere", async || {
        (0..3).all(|at| fs::read_to_string(cluster.member(at).log()).unwrap().contains("are deleted for good"))
    })
    .await;
    exports(cluster.member(2), &out, &["--with-openings"]);
    let report: Value = verify(cluster.member(2), &out, Some(&network), 0);
    let acme = &report["logs"][0];
    assert_eq!((&acme["opened"], &acme["unopened"], &acme["erases"]), (&1.into(), &1.into(), &1.into()), "{report}");
    assert_eq!(acme["erased"][0]["basis"], "data-protection");
    assert_eq!(acme["erased"][0]["position"], "0/0");

    // The other one's note is there to be read by whoever has the keys, so what is looked for could be found.
    assert!(stands_in(&out, note.as_bytes()));
    for (at, store) in stores.iter().enumerate() {
        cluster.stop(at).unwrap();
        assert!(!stands_in(store, note.as_bytes()), "encrypted");
    }
    // A copy of the database from before, with today's keys, opens what was left and not what was erased.
    let openings = |store: &Path| {
        use hashmesh_protocol::serve::Archive as _;
        let store = hashmesh::store::DiskStore::open(store).unwrap();
        let bundles = store.bundles(log("acme"), 0, 2, usize::MAX);
        bundles.map(|bundles| {
            hashmesh_protocol::bundle::entries(&bundles.openings).map(|o| o.unwrap().to_vec()).collect::<Vec<_>>()
        })
    };
    assert_eq!(openings(&before).unwrap().iter().filter(|opening| Opening::decode(opening).is_ok()).count(), 2);
    fs::copy(stores[1].join("openings.keys"), before.join("openings.keys")).unwrap();
    let error = openings(&before).unwrap_err();
    assert!(error.to_string().contains("do not open"), "{error}");
}

/// SPEC 20.7: what a node deletes for its own platform's reasons is gone there, whoever states it, now and later, and nowhere else; the
/// export says so, and verifies.
#[tokio::test]
async fn a_node_deletes_for_its_own_reasons_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = running(&folder.path().join("cluster")).await;
    let (acme, bolt, crab) = (cluster.member(0), cluster.member(1), cluster.member(2));
    let (hash, other) = (pdq(1), pdq(2));
    publish(bolt, vec![add(hash), add(other)]).await.unwrap();
    publish(crab, vec![add(hash)]).await.unwrap();
    eventually("both", async || decisions(acme, &[hash, other]).await == [Decision::Block, Decision::Review]).await;
    cluster.agree(PATIENCE).await.unwrap();
    let text = hash.to_string();
    let said = acme.hashmesh(&["forget", &text, "--reason", "an order of a court", "--yes"]).unwrap();
    assert!(said.contains("2 statements"), "{said}");
    let gone = async |member: &Member| decisions(member, &[hash, other]).await == [Decision::None, Decision::Review];
    assert!(gone(acme).await);
    assert_eq!(decisions(crab, &[hash]).await, [Decision::Block], "nowhere else");
    // Who states it later is not shown either, and nothing is missing.
    publish(acme, vec![add(pdq(3))]).await.unwrap();
    let dispute = StatementForm::Dispute { hash: text.clone(), reason: Reason::Lawful, note: None };
    publish(bolt, vec![dispute]).await.unwrap();
    cluster.agree(PATIENCE).await.unwrap();
    assert!(gone(acme).await);
    let told_hash = format!("order about {}", &text[4..]);
    for reason in [" ", "two\nlines", &told_hash] {
        assert!(!acme.attempt(&["forget", &text, "--reason", reason, "--yes"]).unwrap().status.success(), "{reason}");
    }
    let refused = acme.attempt(&["add", &text, "--label", "demo"]).unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("by its own decision"), "{why}");

    let export = folder.path().join("export").display().to_string();
    let network = acme.status().await.unwrap().federation.network;
    let mut cluster = cluster;
    cluster.stop(0).unwrap();
    cluster.start(0).unwrap();
    let acme = cluster.member(0);
    cluster.connected(PATIENCE).await.unwrap();
    assert!(gone(acme).await, "over a restart");
    let status = acme.status().await.unwrap();
    assert_eq!((status.forgotten, status.logs.iter().map(|log| log.missing).sum::<u64>()), (1, 0));
    acme.hashmesh(&["audit", "export", "--with-openings", "--out", &export]).unwrap();
    let said = acme.hashmesh(&["audit", "verify", &export, "--network", &network]).unwrap();
    assert!(said.contains("3 openings are not held"), "{said}");
    assert!(!stands_in(Path::new(&export), hash.value()), "in no file of the export");
    assert!(stands_in(Path::new(&export), other.value()));
    let list = acme.hashmesh(&["forget", "--list"]).unwrap();
    assert!(list.contains("an order of a court") && list.contains("bolt/0/0") && !list.contains(&text[4..]), "{list}");

    // What another node was about to delete when it was killed: the decision is durable, and nothing else of it.
    cluster.kill(2).unwrap();
    fs::copy(
        cluster.member(0).folder.root().join("forgotten.json"),
        cluster.member(2).folder.root().join("forgotten.json"),
    )
    .unwrap();
    cluster.start(2).unwrap();
    let crab = cluster.member(2);
    cluster.connected(PATIENCE).await.unwrap();
    assert!(gone(crab).await);
    let list = crab.hashmesh(&["forget", "--list"]).unwrap();
    assert!(list.contains("bolt/0/0") && list.contains("crab/0/0"), "{list}");
    assert!(crab.hashmesh(&["log", "bolt"]).unwrap().contains("(not held here)"));

    // What its author has erased, and can still come back, after a restart that has forgotten which hash it was.
    publish(cluster.member(1), vec![erase(other)]).await.unwrap();
    cluster.agree(PATIENCE).await.unwrap();
    cluster.stop(2).unwrap();
    cluster.start(2).unwrap();
    let crab = cluster.member(2);
    cluster.connected(PATIENCE).await.unwrap();
    let said = crab.hashmesh(&["forget", &other.to_string(), "--reason", "another order", "--yes"]).unwrap();
    assert!(said.contains("1 statement"), "{said}");
    assert!(crab.hashmesh(&["forget", "--list"]).unwrap().contains("bolt/0/1"));
}
