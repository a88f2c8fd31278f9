//! SPEC 19 on real processes: what a node exports verifies without it, in our tools and in others', and nothing else does.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hashmesh::api::form::StatementForm;
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::statement::Reason;
use hashmesh_testnet::cluster::{Cluster, Member};
use hashmesh_testnet::sim::pdq;
use serde_json::Value;

use super::loopback::{PATIENCE, add, eventually, founded, publish};

/// Three nodes; the first has said something about many hashes, the second has disputed one.
async fn talking(folder: &Path) -> Cluster {
    let mut cluster = founded(folder);
    cluster.start_all().unwrap();
    cluster.connected(PATIENCE).await.unwrap();
    let all = (0..300).map(|number| add(pdq(number))).collect();
    assert_eq!(publish(cluster.member(0), all).await.unwrap().added, 300);
    let dispute = StatementForm::Dispute { hash: pdq(7).to_string(), reason: Reason::Lawful, note: None };
    assert_eq!(publish(cluster.member(1), vec![dispute]).await.unwrap().added, 1);
    let revoke = StatementForm::Revoke { hash: Some(pdq(8).to_string()), position: None, reason: Reason::Appeal };
    assert_eq!(publish(cluster.member(0), vec![revoke]).await.unwrap().added, 1);
    settled(&cluster).await;
    cluster
}

/// Waits until every node holds the same, and knows all of it to be settled.
async fn settled(cluster: &Cluster) {
    cluster.agree(PATIENCE).await.unwrap();
    eventually("everything is settled everywhere", async || {
        for member in cluster.members() {
            let status = member.status().await.unwrap();
            if status.logs.iter().any(|log| log.settled < log.size) {
                return false;
            }
        }
        true
    })
    .await;
}

fn export(member: &Member, folder: &Path, further: &[&str]) -> Output {
    member.attempt(&[&["audit", "export", "--out", folder.to_str().unwrap()], further].concat()).unwrap()
}

#[track_caller]
fn exports(member: &Member, folder: &Path, further: &[&str]) {
    let output = export(member, folder, further);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Verifies a folder, as an auditor does: the member lends only the command.
#[track_caller]
fn verify(member: &Member, folder: &Path, network: Option<&str>, code: i32) -> Value {
    let mut arguments = vec!["--json", "audit", "verify", folder.to_str().unwrap()];
    arguments.extend(network.iter().flat_map(|network| ["--network", network]));
    let output = member.attempt(&arguments).unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{error}");
    assert!(!error.contains("panicked"), "{error}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// All files of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found.sort();
    found
}

fn holds(folder: &Path, hash: ContentHash) -> bool {
    files(folder).iter().any(|file| fs::read(file).unwrap().windows(hash.value().len()).any(|w| w == hash.value()))
}

/// SPEC 19.
#[tokio::test]
async fn an_export_is_verified_without_the_node_and_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = talking(folder.path()).await;
    let member = cluster.member(2);
    let network = member.status().await.unwrap().federation.network;
    let out = folder.path().join("export");
    exports(member, &out, &[]);
    assert!(!holds(&out, pdq(5)), "without openings there is no content hash in it");
    let report = verify(member, &out, Some(&network), 0);
    assert_eq!(report["outcome"], "verified");
    let acme = &report["logs"][0];
    let counts = ["size", "adds", "revokes", "live", "opened"].map(|name| acme[name].as_u64().unwrap());
    assert_eq!(counts, [301, 300, 1, 299, 0]);
    assert_eq!(acme["settled"]["size"], 301, "the export has the cosignatures");
    assert_eq!(report["absent"][0], "crab/0", "crab has said nothing");
    assert_eq!(verify(member, &out, None, 4)["outcome"], "self-consistent");
    let other = "0".repeat(64);
    let report = verify(member, &out, Some(&other), 1);
    assert!(report["findings"][0]["what"].as_str().unwrap().contains(&other));
    verify(member, &folder.path().join("nothing"), Some(&network), 2);
    verify(member, folder.path(), Some(&network), 2);

    // More is said, and the same folder is continued, now with openings.
    let more = (300..600).map(|number| add(pdq(number))).collect();
    assert_eq!(publish(cluster.member(0), more).await.unwrap().added, 300);
    settled(&cluster).await;
    exports(member, &out, &["--with-openings"]);
    assert!(holds(&out, pdq(5)) && holds(&out, pdq(555)));
    let report = verify(member, &out, Some(&network), 0);
    assert_eq!((report["logs"][0]["size"].as_u64(), report["logs"][0]["opened"].as_u64()), (Some(601), Some(600)));
    assert!(out.join("logs/acme/0/checkpoints/301").exists(), "what was exported before is still accounted for");
    let fresh = folder.path().join("fresh");
    exports(member, &fresh, &["--with-openings"]);
    let names = |root: &Path| {
        let all = files(root).into_iter().map(|file| file.strip_prefix(root).unwrap().to_owned());
        all.filter(|file| !file.to_string_lossy().contains("/checkpoints/")).collect::<Vec<_>>()
    };
    assert_eq!(names(&out), names(&fresh), "nothing of the earlier export is left over");
    for name in names(&out) {
        assert_eq!(fs::read(out.join(&name)).unwrap(), fs::read(fresh.join(&name)).unwrap(), "{}", name.display());
    }

    let refused = export(member, &out, &[]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has openings"), "{refused:?}");
    let refused = export(member, folder.path(), &[]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("give another folder"), "{refused:?}");
    let one = folder.path().join("one");
    exports(member, &one, &["--member", "bolt"]);
    assert_eq!(verify(member, &one, Some(&network), 0)["logs"].as_array().unwrap().len(), 1);
    let refused = export(member, &one, &["--member", "eve"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("eve has no log"), "{refused:?}");
    let early = folder.path().join("early");
    let refused = export(member, &early, &["--at", "2001-01-01T00:00:00Z"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("of that time"), "{refused:?}");
}

/// Runs a command whose result is JSON, a line of it each.
#[track_caller]
fn lines(member: &Member, arguments: &[&str], code: i32) -> Vec<Value> {
    let output = member.attempt(&[&["--json"], arguments].concat()).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// SPEC 19.8.
#[tokio::test]
async fn the_list_at_a_moment_is_worked_out_from_an_export() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = talking(folder.path()).await;
    let (member, other) = (cluster.member(2), cluster.member(1));
    let network = member.status().await.unwrap().federation.network;
    let (with, without) = (folder.path().join("with"), folder.path().join("without"));
    exports(member, &with, &["--with-openings"]);
    exports(other, &without, &[]);
    let list = |export: &Path, at: &str| {
        lines(member, &["audit", "list", "--at", at, "--network", &network, export.to_str().unwrap()], 0)
    };
    let now = list(&with, "2100-01-01T00:00:00Z");
    let (summary, statements) = now.split_last().unwrap();
    assert_eq!(statements.len(), 300, "299 that acme stands by, and what bolt disputes");
    let about = |number: u64| statements.iter().filter(|line| line["about"] == pdq(number).to_string()).count();
    assert_eq!([5, 7, 8].map(about), [1, 2, 0]);
    let hidden = list(&without, "2100-01-01T00:00:00Z");
    assert_eq!(
        hidden.last().unwrap()["digest"],
        summary["digest"],
        "the same from another node, and without the hashes"
    );
    assert!(hidden[0]["about"].as_str().unwrap().starts_with("commitment:"));
    let before = list(&with, "2001-01-01T00:00:00Z");
    assert_eq!((before.len(), before[0]["logs"].as_array().unwrap().len()), (1, 0));
    fs::write(with.join("logs/acme/0/tile/0/000"), b"").unwrap();
    let refused = ["audit", "list", "--at", "2100-01-01T00:00:00Z", "--network", &network, with.to_str().unwrap()];
    assert!(lines(member, &refused, 1).is_empty(), "of an export that does not verify there is no list");
}

/// SPEC 19.7.
#[tokio::test]
async fn a_proof_is_checked_without_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = talking(folder.path()).await;
    let member = cluster.member(2);
    let network = member.status().await.unwrap().federation.network;
    let out = folder.path().join("proofs");
    let hash = pdq(7).to_string();
    member.hashmesh(&["audit", "prove", &hash, "--out", out.to_str().unwrap()]).unwrap();
    let names: Vec<_> = files(&out).iter().map(|file| file.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["acme-0-7.tlog-proof", "bolt-0-0.tlog-proof"]);
    let file = out.join("acme-0-7.tlog-proof");
    let check = |network: &[&str]| {
        member.attempt(&[&["--json", "audit", "check", file.to_str().unwrap()], network].concat()).unwrap()
    };
    let output = check(&["--network", &network]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let proven: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!proven["settled"].is_null(), "cosigned by a quorum");
    assert_eq!((&proven["member"], &proven["say"], &proven["hash"]), (&"acme".into(), &"add".into(), &hash.into()));
    assert_eq!(check(&[]).status.code(), Some(4));
    assert_eq!(check(&["--network", &"0".repeat(64)]).status.code(), Some(1));
    // What was revoked can be proved too, by its place; and that nobody says anything is no proof.
    member.hashmesh(&["audit", "prove", "--place", "acme/0/300", "--out", out.to_str().unwrap()]).unwrap();
    let revoked = pdq(8).to_string();
    assert!(member.hashmesh(&["audit", "prove", &revoked]).unwrap_err().to_string().contains("nobody says"));
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("index 7", "index 6")).unwrap();
    assert_eq!(check(&["--network", &network]).status.code(), Some(1));
    fs::remove_file(&file).unwrap();
    assert_eq!(check(&["--network", &network]).status.code(), Some(2));
}

/// An export that was interrupted is continued, whatever state its unfinished end is in.
#[tokio::test]
async fn an_interrupted_export_is_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = talking(folder.path()).await;
    let member = cluster.member(0);
    let network = member.status().await.unwrap().federation.network;
    let out = folder.path().join("export");
    let log = out.join("logs/acme/0");
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("the checkpoint was not written", |_| ()),
        ("tiles are cut short", |log| fs::write(log.join("tile/0/000"), [0; 100]).unwrap()),
        ("bundles are empty", |log| fs::write(log.join("tile/entries/000"), []).unwrap()),
        ("leaves are missing", |log| fs::remove_file(log.join("tile/entries/000")).unwrap()),
    ];
    for (what, damage) in damages {
        exports(member, &out, &[]);
        fs::remove_file(log.join("checkpoint")).unwrap();
        damage(&log);
        exports(member, &out, &[]);
        assert_eq!(verify(member, &out, Some(&network), 0)["outcome"], "verified", "{what}");
    }
}

/// What is done to files by accident, or by somebody who does not want them to be read.
#[tokio::test]
async fn damaged_exports_do_not_verify() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = talking(folder.path()).await;
    let member = cluster.member(0);
    let network = member.status().await.unwrap().federation.network;
    let (out, log) = (folder.path().join("export"), folder.path().join("export/logs/acme/0"));
    let outside = folder.path().join("outside");
    exports(member, &out, &["--with-openings"]);
    let finding = |what: &str, damage: &dyn Fn(&Path), file: &str| {
        let path = log.join(file);
        let good = fs::read(&path).unwrap();
        damage(&path);
        let report = verify(member, &out, Some(&network), 1);
        let finding = &report["findings"][0];
        assert_eq!((finding["log"].as_str(), report["outcome"].as_str()), (Some("acme/0"), Some("broken")), "{what}");
        let _link_or_folder = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        fs::write(&path, good).unwrap();
        finding.clone()
    };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[20] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    assert_eq!(finding("a bit", &flip, "tile/0/000")["index"], 0);
    finding("a bit", &flip, "tile/1/000.p/1");
    finding("a bit", &flip, "openings/000");
    finding("gone", &|path| fs::remove_file(path).unwrap(), "tile/entries/001.p/45");
    finding("cut", &|path| fs::write(path, &fs::read(path).unwrap()[..100]).unwrap(), "tile/entries/000");
    let huge = |path: &Path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
    assert!(finding("huge", &huge, "tile/entries/000")["what"].as_str().unwrap().contains("longer"));
    let link = |path: &Path| {
        fs::rename(path, &outside).unwrap();
        symlink(&outside, path).unwrap();
    };
    assert!(finding("a link", &link, "tile/entries/000")["what"].as_str().unwrap().contains("link"));
    let device = |path: &Path| {
        fs::remove_file(path).unwrap();
        symlink("/dev/zero", path).unwrap();
    };
    finding("a device", &device, "checkpoint");
    let as_folder = |path: &Path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    };
    finding("a folder", &as_folder, "vkey");
    verify(member, &out, Some(&network), 0);
    // The whole folder of tiles by way of a link: the same bytes, but not of the export.
    fs::rename(log.join("tile"), outside.with_extension("tile")).unwrap();
    symlink(outside.with_extension("tile"), log.join("tile")).unwrap();
    verify(member, &out, Some(&network), 1);
}

/// golang.org/x/mod/sumdb, the reference implementation of notes and tiles, on what was exported. Skipped where there is no Go,
/// but not in CI.
#[tokio::test]
async fn the_tools_of_others_verify_an_export() {
    const GOPATH: &str = "/usr/share/gocode";
    let there = Path::new(GOPATH).join("src/golang.org/x/mod/sumdb/tlog").exists();
    if !there {
        assert!(std::env::var_os("CI").is_none(), "golang-go and golang-golang-x-mod-dev must be there in CI");
        eprintln!("SKIPPED: no golang-go and golang-golang-x-mod-dev on this machine");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cluster = talking(folder.path()).await;
    let out = folder.path().join("export");
    exports(cluster.member(1), &out, &[]);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("audit/verify.go");
    let go = |log: &Path| {
        let mut go = Command::new("go");
        go.arg("run").arg(&program).arg(log).env("GO111MODULE", "off").env("GOPATH", GOPATH);
        go.env("GOCACHE", folder.path().join("go-cache")).env("GOFLAGS", "").output().unwrap()
    };
    for (log, size) in [("acme/0", 301), ("bolt/0", 1)] {
        let output = go(&out.join("logs").join(log));
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{error}");
        assert_eq!(said.trim(), format!("{size} leaves verified"));
    }
    let tile = out.join("logs/acme/0/tile/entries/000");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[20] ^= 1;
    fs::write(&tile, bytes).unwrap();
    assert!(!go(&out.join("logs/acme/0")).status.success());
}
