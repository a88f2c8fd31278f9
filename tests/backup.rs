//! SPEC 8.9 and 15.12 on real processes: what a backup holds is restored, and what was signed after it was made is never signed again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::policy::Decision;
use hashmesh_testnet::cluster::{Cluster, Member};
use hashmesh_testnet::sim::pdq;

use super::audit::{files, settled, talking, verify};
use super::loopback::{PATIENCE, add, decisions, eventually, program, publish};

fn backs_up(member: &Member, out: &Path, further: &[&str]) {
    let output = member.attempt(&[&["backup", out.to_str().unwrap()], further].concat()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Restores into a folder.
fn restore(backup: &Path, data: &Path, further: &[&str]) -> Output {
    let mut command = program().command(data);
    command.arg("restore").arg(backup).args(further).output().unwrap()
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!error.contains("panicked"), "{error}");
    error
}

/// Loses the machine of a member: only the backup is left of it.
fn lose(cluster: &mut Cluster, at: usize) {
    cluster.kill(at).unwrap();
    let data = cluster.member(at).folder.root().to_owned();
    fs::rename(&data, data.with_extension("lost")).unwrap();
}

/// SPEC 8.9: the newest statements of a machine that was lost are with its peers. It is restored from an older backup, and goes on
/// behind them.
#[tokio::test]
async fn a_machine_that_was_lost_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = talking(folder.path()).await;
    let network = cluster.member(0).status().await.unwrap().federation.network;
    let backup = folder.path().join("backup");
    backs_up(cluster.member(0), &backup, &["--with-keys"]);
    verify(cluster.member(1), &backup.join("export"), Some(&network), 0);
    assert_eq!(publish(cluster.member(0), vec![add(pdq(1000))]).await.unwrap().added, 1);
    settled(&cluster).await;

    lose(&mut cluster, 0);
    cluster.stop(2).unwrap();
    let data = cluster.member(0).folder.root().to_owned();
    let restored = restore(&backup, &data, &[]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    cluster.start(0).unwrap();
    let status = cluster.member(0).status().await.unwrap();
    assert_eq!(
        status.logs.iter().find(|log| Some(&log.member) == status.member.as_ref()).unwrap().size,
        301,
        "of the backup"
    );
    // Bolt alone is a majority with itself, and has refilled it; what coda has nobody knows.
    eventually("refilled by bolt", async || {
        let status = cluster.member(0).status().await.unwrap();
        let own = status.logs.iter().find(|log| Some(&log.member) == status.member.as_ref()).unwrap();
        own.size == 302 && status.silent.is_some_and(|why| why.contains("2 other members"))
    })
    .await;

    cluster.start(2).unwrap();
    assert_eq!(publish(cluster.member(0), vec![add(pdq(1001))]).await.unwrap().added, 1);
    cluster.agree(PATIENCE).await.unwrap();
    // Near matches come a moment after the statement is held.
    eventually("matched by coda", async || decisions(cluster.member(2), &[pdq(1001)]).await == [Decision::Review])
        .await;
    assert_eq!(decisions(cluster.member(0), &[pdq(5)]).await, [Decision::Review], "what the backup held");

    // It does not cosign before a person says so.
    let said = publish(cluster.member(1), vec![add(pdq(1002))]).await.unwrap();
    assert_eq!(said.added, 1);
    cluster.agree(PATIENCE).await.unwrap();
    cluster.stop(0).unwrap();
    let member = cluster.member(0);
    let again = ["signer", "cosign-again", "--only-one-of"];
    assert!(refused(&member.attempt(&[&again[..], &["bolt"]].concat()).unwrap()).contains("acme's"));
    assert!(member.attempt(&[&again[..], &["acme"]].concat()).unwrap().status.success());
    assert!(refused(&member.attempt(&[&again[..], &["acme"]].concat()).unwrap()).contains("already"));
    cluster.start(0).unwrap();
    settled(&cluster).await;
}

/// SPEC 15.12: nothing that is not whole is restored, nothing is overwritten, and nothing is left of an attempt that failed.
#[tokio::test]
async fn a_backup_that_is_not_whole_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = talking(folder.path()).await;
    let member = cluster.member(0);
    let (backup, data) = (folder.path().join("backup"), folder.path().join("restored"));
    backs_up(member, &backup, &[]);
    backs_up(member, &backup, &[]);
    let secrets = fs::read_dir(member.folder.keys()).unwrap().flatten().map(|key| fs::read(key.path()).unwrap());
    let secrets: Vec<_> = secrets.collect();
    assert!(files(&backup).iter().all(|file| !secrets.contains(&fs::read(file).unwrap())), "no keys unless asked for");

    assert!(refused(&restore(&backup, &data, &[])).contains("--keys"));
    let (own, others) = (member.folder.keys(), cluster.member(1).folder.keys());
    let keys = ["--keys", own.to_str().unwrap()];
    assert!(refused(&restore(&backup, member.folder.root(), &keys)).contains("not empty"));
    let others = ["--keys", others.to_str().unwrap()];
    assert!(refused(&restore(&backup, &data, &others)).contains("card"));
    assert!(refused(&restore(folder.path(), &data, &keys)).contains("no whole backup"));

    let wanted = |file: &PathBuf| file.starts_with(backup.join("export/logs")) || file.ends_with("signed.json");
    for file in files(&backup).iter().filter(|file| wanted(file)) {
        let whole = fs::read(file).unwrap();
        fs::write(file, &whole[..whole.len() / 2]).unwrap();
        let error = refused(&restore(&backup, &data, &keys));
        assert!(error.contains("damaged"), "{}: {error}", file.display());
        assert!(!data.exists(), "nothing is left");
        fs::write(file, &whole).unwrap();
    }
    let restored = restore(&backup, &data, &keys);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let digest = |path: &Path| Digest::of(&[&fs::read(path).unwrap()]);
    for name in ["config.toml", "policy.toml", "genesis.charter", "decisions.log", "acme.card"] {
        let root = member.folder.root();
        assert!(name == "decisions.log" || digest(&root.join(name)) == digest(&data.join(name)), "{name}");
    }
}
