//! SPEC 14.8, 15.13, 19.11 on real processes: who reads along, what of it, and who watches.

use std::fs;

use hashmesh_protocol::policy::Decision;
use hashmesh_testnet::cluster::{Cluster, Member};
use hashmesh_testnet::sim::pdq;
use serde_json::Value;

use super::loopback::{PATIENCE, add, decisions, eventually, founded, publish};

const ACME: usize = 0;
const BOLT: usize = 1;

/// Three members' nodes, an auditor's follower without openings, and a replica with them, both of acme's and bolt's.
async fn followed(cluster: &mut Cluster) -> (usize, usize) {
    let inspector = cluster.follow("inspector", &[ACME, BOLT], false).unwrap();
    let replica = cluster.follow("replica", &[ACME, BOLT], true).unwrap();
    (0..3).for_each(|at| cluster.start(at).unwrap());
    cluster.connected(PATIENCE).await.unwrap();
    for at in [inspector, replica] {
        cluster.start(at).unwrap();
    }
    (inspector, replica)
}

async fn size(member: &Member) -> (u64, u64, u64) {
    let status = member.status().await.unwrap();
    let log = status.logs.iter().find(|log| log.member == "acme").unwrap();
    (log.size, log.settled, log.missing)
}

fn refused(member: &Member, arguments: &[&str], why: &str) {
    let output = member.attempt(arguments).unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains(why), "{arguments:?}: {text}");
}

/// SPEC 14.8, 15.13: a follower has everything that members say, with openings or without as it was allowed, and no voice.
#[tokio::test]
async fn a_follower_reads_along_and_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = founded(folder.path());
    let (inspector, replica) = followed(&mut cluster).await;
    publish(cluster.member(ACME), (0..300).map(|number| add(pdq(number))).collect()).await.unwrap();
    eventually("a replica", async || size(cluster.member(replica)).await == (300, 300, 0)).await;
    eventually("everything but openings", async || size(cluster.member(inspector)).await == (300, 300, 300)).await;
    assert_eq!(decisions(cluster.member(replica), &[pdq(7)]).await, [Decision::Review]);
    assert_eq!(decisions(cluster.member(inspector), &[pdq(7)]).await, [Decision::None]);
    for at in [inspector, replica] {
        let status = cluster.member(at).status().await.unwrap();
        assert_eq!((status.member, status.peers.len(), status.isolated), (None, 2, false));
        assert!(status.listening.is_empty(), "nobody connects to a follower");
    }
    for at in 0..3 {
        assert_eq!(cluster.member(at).status().await.unwrap().peers.len(), 2, "followers are no peers");
    }

    let follower = cluster.member(replica);
    let error = publish(follower, vec![add(pdq(1))]).await.unwrap_err();
    assert!(error.to_string().contains("speaks for no member"), "{error}");
    let out = folder.path().join("backup").display().to_string();
    let key = "00".repeat(32);
    for arguments in [
        &["sign-alone", "--origin", "x"][..],
        &["backup", &out],
        &["signer", "adopt", "--only-one-of", "acme"],
        &["revoke", &pdq(1).to_string()],
    ] {
        refused(follower, arguments, "speaks for no");
    }
    refused(follower, &["log"], "say whose log");
    refused(follower, &["followers", "add", "x", &key], "");
    assert!(follower.hashmesh(&["log", "acme"]).unwrap().contains(&pdq(299).to_string()));

    // Over a restart, and once it is let in no longer.
    cluster.stop(replica).unwrap();
    cluster.member(ACME).hashmesh(&["followers", "remove", "replica"]).unwrap();
    cluster.stop(ACME).unwrap();
    cluster.start(ACME).unwrap();
    cluster.start(replica).unwrap();
    assert_eq!(decisions(cluster.member(replica), &[pdq(7)]).await, [Decision::Review]);
    eventually("bolt still lets it in", async || cluster.member(replica).status().await.unwrap().peers.len() == 1)
        .await;
    let listed = cluster.member(ACME).hashmesh(&["followers", "list"]).unwrap();
    assert!(listed.contains("inspector") && !listed.contains("replica"), "{listed}");
}

fn watch(member: &Member, more: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let arguments = [&["--json", "audit", "watch", "--once"], more].concat();
    let output = member.attempt(&arguments).unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let events = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code(), events, String::from_utf8(output.stderr).unwrap())
}

/// SPEC 19.11: what is whole is found whole, with openings and without; what was changed behind the node's back is found.
#[tokio::test]
async fn whoever_watches_verifies_everything_and_finds_what_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = founded(folder.path());
    let (inspector, replica) = followed(&mut cluster).await;
    publish(cluster.member(ACME), (0..300).map(|number| add(pdq(number))).collect()).await.unwrap();
    for at in [inspector, replica] {
        eventually("everything", async || size(cluster.member(at)).await.1 == 300).await;
    }
    eventually("openings", async || size(cluster.member(replica)).await.2 == 0).await;
    for (at, more) in [(inspector, &[][..]), (replica, &["--with-openings"]), (inspector, &[]), (ACME, &[])] {
        let (code, events, complaint) = watch(cluster.member(at), more);
        assert_eq!(code, Some(0), "{events:?} {complaint}");
        assert_eq!((&events[0]["event"], &events[0]["statements"]), (&"verified".into(), &300.into()));
    }

    let audit = |at: usize| cluster.root().join(format!("{}-audit", cluster.member(at).id));
    let path = audit(inspector).join("logs/acme/0/tile/entries/000");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (code, events, _) = watch(cluster.member(inspector), &[]);
    assert_eq!(code, Some(1), "{events:?}");
    assert!(events.iter().any(|event| event["event"] == "finding" && event["equivocation"] == false), "{events:?}");
    // What was asked for with openings is not continued without.
    assert_eq!(watch(cluster.member(replica), &[]).0, Some(2));
    cluster.stop(inspector).unwrap();
    let (code, _, complaint) = watch(cluster.member(inspector), &[]);
    assert_eq!(code, Some(2), "{complaint}");
}
