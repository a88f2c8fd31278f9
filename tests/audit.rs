//! SPEC 19 on real processes: what a node exports verifies without it, in our tools and in others', and nothing else does.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hashmesh::api::form::StatementForm;
use hashmesh::documents::Found;
use hashmesh::keys;
use hashmesh::store::{DiskStore, Record, Store as _};
use hashmesh_protocol::armor;
use hashmesh_protocol::charter::Parameters;
use hashmesh_protocol::checkpoint::{Checkpoint, SignedCheckpoint};
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::cosignature::Cosignature;
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::evidence::Evidence;
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::key::SecretKey;
use hashmesh_protocol::names::{LogId, MemberId};
use hashmesh_protocol::statement::Reason;
use hashmesh_protocol::time::Timestamp;
use hashmesh_testnet::cluster::{Cluster, Member};
use hashmesh_testnet::founding::found_by;
use hashmesh_testnet::sim::pdq;
use serde_json::Value;

use super::loopback::{PATIENCE, add, eventually, founded, founded_with, publish};

/// Three nodes; the first has said something about many hashes, the second has disputed one.
pub(super) async fn talking(folder: &Path) -> Cluster {
    talk(founded(folder)).await
}

async fn talk(mut cluster: Cluster) -> Cluster {
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
pub(super) async fn settled(cluster: &Cluster) {
    cluster.settled(PATIENCE).await.unwrap();
}

fn export(member: &Member, folder: &Path, further: &[&str]) -> Output {
    member.attempt(&[&["audit", "export", "--out", folder.to_str().unwrap()], further].concat()).unwrap()
}

#[track_caller]
pub(super) fn exports(member: &Member, folder: &Path, further: &[&str]) {
    let output = export(member, folder, further);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Verifies a folder, as an auditor does: the member lends only the command.
#[track_caller]
pub(super) fn verify(member: &Member, folder: &Path, network: Option<&str>, code: i32) -> Value {
    let mut arguments = vec!["--json", "audit", "verify", folder.to_str().unwrap()];
    arguments.extend(network.iter().flat_map(|network| ["--network", network]));
    let output = member.attempt(&arguments).unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{error}");
    assert!(!error.contains("panicked"), "{error}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// All files of a folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
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

/// SPEC 19.10: that a statement is not live has a proof once its author has said what is; what is live has none.
#[tokio::test]
async fn what_is_not_live_any_more_is_proved_by_its_authors_state() {
    let folder = tempfile::tempdir().unwrap();
    let brisk = [("state_interval", 1000), ("observe_interval", 1000)];
    let cluster = talk(founded_with(folder.path(), &brisk)).await;
    let member = cluster.member(2);
    let network = member.status().await.unwrap().federation.network;
    let out = folder.path().join("proofs");
    let prove =
        |place: &str| member.attempt(&["audit", "prove", "--not-live", place, "--out", out.to_str().unwrap()]).unwrap();
    eventually("acme has said what is live", async || prove("acme/0/8").status.success()).await;
    let [file] = files(&out).try_into().unwrap();
    let check = |network: &str| {
        member.attempt(&["--json", "audit", "check", file.to_str().unwrap(), "--network", network]).unwrap()
    };
    let output = check(&network);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let proven: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&proven["member"], &proven["say"], &proven["not_live"]),
        (&"acme".into(), &"state".into(), &"0/8".into())
    );
    for (place, why) in [("acme/0/7", "it is live"), ("acme/0/9999", "has not said yet"), ("acme/9", "is not a place")]
    {
        let output = prove(place);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(why), "{place}: {error}");
    }
    settled(&cluster).await;
    let export = folder.path().join("export");
    exports(member, &export, &[]);
    let report = verify(member, &export, Some(&network), 0);
    assert!(report["logs"].as_array().unwrap().iter().any(|log| log["observes"].as_u64() > Some(0)), "{report}");
    let every = ["audit", "verify", export.to_str().unwrap(), "--network", &network, "--every-state"];
    assert_eq!(member.attempt(&every).unwrap().status.code(), Some(0));
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

/// Two checkpoints of one size that cannot both be true, of a member's first log.
fn contradiction(federation: &Federation, log: LogId) -> [Checkpoint; 2] {
    let origin = federation.logs()[&log].name().to_owned();
    [1, 2].map(|story| Checkpoint { origin: origin.clone(), size: 1000, root: Digest([story; 32]) })
}

fn against_log(federation: &Federation, member: MemberId, secret: &SecretKey) -> Evidence {
    let log = LogId { member, epoch: 0 };
    let signed = |checkpoint| SignedCheckpoint::sign(checkpoint, &federation.logs()[&log], secret);
    let [one, other] = contradiction(federation, log).map(signed);
    Evidence::same_size(federation, log, &one, &other).unwrap()
}

fn against_witness(federation: &Federation, witness: MemberId, of: MemberId, secret: &SecretKey) -> Evidence {
    let key = &federation.witnesses()[&witness];
    let cosigned =
        |checkpoint: Checkpoint| (checkpoint.to_string(), Cosignature::sign(&checkpoint, Timestamp(9000), key, secret));
    let [one, other] = contradiction(federation, LogId { member: of, epoch: 0 }).map(cosigned);
    Evidence::of_witness(federation, witness, (&one.0, &one.1), (&other.0, &other.1)).unwrap()
}

/// SPEC 19.1, 19.6: what a node holds as evidence convicts whom it is about wherever the export is read, and nothing else does.
#[tokio::test]
async fn evidence_is_exported_and_proves_equivocation() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = talking(folder.path()).await;
    let network = cluster.member(2).status().await.unwrap().federation.network;
    let (acme, bolt): (MemberId, MemberId) = ("acme".parse().unwrap(), "bolt".parse().unwrap());
    let secrets = [0, 1].map(|at| keys::load(&cluster.member(at).folder).unwrap());
    let founding = Found::in_files(&[cluster.member(2).folder.genesis()]).unwrap().genesis().unwrap();
    let federation = Federation::new(&founding);
    let held = [
        against_log(&federation, acme, &secrets[0].log),
        against_witness(&federation, bolt, acme, &secrets[1].witness),
    ];
    cluster.stop(2).unwrap();
    let records = held.clone().map(|evidence| Record::Evidence(evidence.into()));
    DiskStore::open(&cluster.member(2).folder.store()).unwrap().commit(&records).unwrap();
    cluster.start(2).unwrap();

    let (member, out) = (cluster.member(2), folder.path().join("export"));
    exports(member, &out, &["--member", "acme"]);
    let report = verify(member, &out, Some(&network), 3);
    assert_eq!(report["outcome"], "equivocation");
    let told = |report: &Value| {
        let findings = report["findings"].as_array().unwrap().iter();
        findings.map(|found| ["file", "log", "witness"].map(|name| found[name].clone())).collect::<Vec<_>>()
    };
    let of_log = ["evidence/acme-0-log.evidence".into(), "acme/0".into(), Value::Null];
    let of_witness = ["evidence/bolt-witness.evidence".into(), Value::Null, "bolt".into()];
    assert_eq!(told(&report), [of_log, of_witness]);
    let said = member.attempt(&["audit", "verify", out.to_str().unwrap(), "--network", &network]).unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    for line in [
        "evidence/acme-0-log.evidence: EQUIVOCATION PROVEN: the key of log acme/0",
        "evidence/bolt-witness.evidence: EQUIVOCATION PROVEN: the key of witness bolt",
        "No audit of an export can see",
    ] {
        assert!(said.contains(line), "{said}");
    }
    // What was settled before keeps its effect.
    let list = ["audit", "list", "--at", "2100-01-01T00:00:00Z", "--network", &network, out.to_str().unwrap()];
    assert_eq!(lines(member, &list, 3).len(), 300);
    exports(member, &out, &[]);
    verify(member, &out, Some(&network), 3);

    fs::remove_file(out.join("evidence/bolt-witness.evidence")).unwrap();
    let file = out.join("evidence/acme-0-log.evidence");
    let genuine = fs::read_to_string(&file).unwrap();
    let refused = |what: &str, place: &dyn Fn(&Path), why: &str| {
        fs::remove_file(&file).unwrap();
        place(&file);
        let report = verify(member, &out, Some(&network), 1);
        let found = &report["findings"][0];
        assert!(found["what"].as_str().unwrap().contains(why), "{what}: {found}");
        assert_eq!((found["equivocation"].as_bool(), &found["log"]), (Some(false), &Value::Null), "{what}");
        assert_eq!(report["findings"].as_array().unwrap().len(), 1, "{what}");
    };
    let forged = |path: &Path| {
        let mut bytes = genuine.clone().into_bytes();
        // In the signature of the second note.
        let at = bytes.len() - 120;
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        fs::write(path, bytes).unwrap();
    };
    refused("forged", &forged, "accuses nobody");
    let elsewhere = found_by(&["acme", "bolt"], Parameters::standard());
    let secret = &elsewhere.keys[&acme].log;
    let foreign = armor::write_evidence(&against_log(&Federation::new(&elsewhere.genesis), acme, secret));
    refused("another network's", &|path| fs::write(path, &foreign).unwrap(), "evidence of another network");
    refused("huge", &|path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap(), "longer");
    let outside = folder.path().join("outside");
    fs::write(&outside, &genuine).unwrap();
    refused("a link", &|path| symlink(&outside, path).unwrap(), "link");
    fs::remove_file(&file).unwrap();
    verify(member, &out, Some(&network), 0);
    fs::write(&file, &genuine).unwrap();
    verify(member, &out, Some(&network), 3);
    fs::write(out.join("evidence/remark"), "he did it").unwrap();
    assert_eq!(verify(member, &out, Some(&network), 3)["findings"].as_array().unwrap().len(), 2);
}

/// golang.org/x/mod/sumdb, the reference implementation of notes and tiles, on what was exported and on a proof. Skipped where
/// there is no Go, but not in CI.
#[tokio::test]
async fn the_tools_of_others_verify_an_export_and_a_proof() {
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
    let go = |log: &Path, proofs: &[&Path]| {
        let mut go = Command::new("go");
        go.arg("run").arg(&program).arg(log).args(proofs).env("GO111MODULE", "off").env("GOPATH", GOPATH);
        go.env("GOCACHE", folder.path().join("go-cache")).env("GOFLAGS", "").output().unwrap()
    };
    for (log, size) in [("acme/0", 301), ("bolt/0", 1)] {
        let output = go(&out.join("logs").join(log), &[]);
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{error}");
        assert_eq!(said.trim(), format!("{size} leaves verified"));
    }
    let (acme, proofs) = (out.join("logs/acme/0"), folder.path().join("proofs"));
    cluster.member(1).hashmesh(&["audit", "prove", "--place", "acme/0/7", "--out", proofs.to_str().unwrap()]).unwrap();
    let proof = proofs.join("acme-0-7.tlog-proof");
    let output = go(&acme, &[&proof]);
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("leaf 7 proved\n"), "{output:?}");
    let text = fs::read_to_string(&proof).unwrap();
    fs::write(&proof, text.replace("index 7", "index 6")).unwrap();
    assert!(!go(&acme, &[&proof]).status.success());
    let tile = acme.join("tile/entries/000");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[20] ^= 1;
    fs::write(&tile, bytes).unwrap();
    assert!(!go(&acme, &[]).status.success());
}
