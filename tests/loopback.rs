//! Real processes on loopback: the wiring, the permissions, the bad inputs. Waits poll with a deadline; nothing sleeps and
//! hopes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use hashmesh::api::form::{
    ChangesAnswer, MatchAnswer, MatchRequest, PublishAnswer, PublishStatus, StatementForm, StatementsRequest,
    StatusAnswer,
};
use hashmesh::client::{Client, ClientError};
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::policy::Decision;
use hashmesh_testnet::cluster::{Cluster, Member, Program};
use hashmesh_testnet::sim::pdq;
use serde_json::{Value, json};

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The command that was built together with these tests.
pub(super) fn program() -> Program {
    Program::at(command())
}

fn command() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("hashmesh");
    assert!(path.exists(), "{} is missing: run the tests of the whole workspace", path.display());
    path
}

const MEMBERS: [(&str, &str, &str); 3] = [("acme", "Acme", "FR"), ("bolt", "Bolt", "DE"), ("crab", "Crab", "US")];

pub(super) fn founded(folder: &Path) -> Cluster {
    Cluster::found(folder, &program(), &MEMBERS).unwrap()
}

/// The same, with limits that differ from the standard ones.
pub(super) fn founded_with(folder: &Path, limits: &[(&str, u64)]) -> Cluster {
    Cluster::found_with(folder, &program(), &MEMBERS, limits).unwrap()
}

pub(super) async fn running(folder: &Path) -> Cluster {
    let mut cluster = founded(folder);
    cluster.start_all().unwrap();
    cluster.connected(PATIENCE).await.unwrap();
    cluster
}

pub(super) fn add(hash: ContentHash) -> StatementForm {
    StatementForm::add(&hash, "demo")
}

pub(super) async fn publish(member: &Member, statements: Vec<StatementForm>) -> Result<PublishAnswer, ClientError> {
    let mut client = Client::admin(&member.folder).await?;
    client.post("/v1/statements", &StatementsRequest { statements, wait: None }).await
}

pub(super) async fn decisions(member: &Member, hashes: &[ContentHash]) -> Vec<Decision> {
    let mut client = Client::query(&member.folder).await.unwrap();
    let hashes = hashes.iter().map(ToString::to_string).collect();
    let request = MatchRequest { hashes, max_distance: None, explain: false };
    let answer: MatchAnswer = client.post("/v1/match", &request).await.unwrap();
    answer.decisions
}

pub(super) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn own(status: &StatusAnswer) -> &hashmesh::api::form::LogForm {
    status.logs.iter().find(|log| Some(&log.member) == status.member.as_ref()).unwrap()
}

#[tokio::test]
async fn what_one_node_publishes_all_match_and_what_it_revokes_none() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = running(folder.path()).await;
    let hash = pdq(1);
    let answer = publish(cluster.member(0), vec![add(hash)]).await.unwrap();
    assert_eq!((answer.added, answer.results[0].position.as_deref()), (1, Some("0/0")));
    for member in cluster.members() {
        eventually("a match", async || decisions(member, &[hash]).await == [Decision::Review]).await;
    }
    publish(cluster.member(1), vec![add(hash)]).await.unwrap();
    let crab = cluster.member(2);
    eventually("corroboration", async || decisions(crab, &[hash]).await == [Decision::Block]).await;
    let revoke = StatementForm::Revoke {
        hash: Some(hash.to_string()),
        position: None,
        reason: hashmesh_protocol::statement::Reason::Appeal,
    };
    publish(cluster.member(0), vec![revoke.clone()]).await.unwrap();
    publish(cluster.member(1), vec![revoke]).await.unwrap();
    for member in cluster.members() {
        eventually("the end of the match", async || decisions(member, &[hash]).await == [Decision::None]).await;
    }
}

/// SPEC 17: a caller can wait until enough others have cosigned; without them it is told why not, and it settles when they
/// are back. What is settled is so after a restart.
#[tokio::test]
async fn what_is_said_is_settled_once_enough_others_have_cosigned() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = running(folder.path()).await;
    let settle = async |member: &Member, number: u64, wait: u64| -> PublishAnswer {
        let mut client = Client::admin(&member.folder).await.unwrap();
        let request = StatementsRequest { statements: vec![add(pdq(number))], wait: Some(wait) };
        client.post("/v1/statements?wait=settled", &request).await.unwrap()
    };
    let answer = settle(cluster.member(0), 1, 30).await;
    assert_eq!((answer.settled, answer.unsettled), (Some(true), None));
    let settled = async |member: &Member| {
        let status = member.status().await.unwrap();
        status.logs.iter().find(|log| log.member == "acme").unwrap().settled
    };
    for member in cluster.members() {
        eventually("everybody knows", async || settled(member).await == 1).await;
    }
    let mut client = Client::query(&cluster.member(2).folder).await.unwrap();
    let request = MatchRequest { hashes: vec![pdq(1).to_string()], max_distance: None, explain: true };
    let answer: MatchAnswer = client.post("/v1/match", &request).await.unwrap();
    assert!(answer.results.unwrap()[0].matches[0].adds[0].settled);

    // Of three members both others must cosign.
    cluster.kill(2).unwrap();
    let answer = settle(cluster.member(0), 2, 1).await;
    assert_eq!((answer.added, answer.settled), (1, Some(false)));
    assert!(answer.unsettled.unwrap().contains("it will settle later"));
    cluster.kill(0).unwrap();
    cluster.start(0).unwrap();
    assert_eq!(settled(cluster.member(0)).await, 1, "it is known before anybody is heard");
    cluster.start(2).unwrap();
    for member in cluster.members() {
        eventually("the second settles", async || settled(member).await == 2).await;
    }
    let log = cluster.member(1).hashmesh(&["log", "acme"]).unwrap();
    assert!(log.contains("2 of them settled"), "{log}");
}

/// SPEC 8, 15: whatever was acknowledged is there after SIGKILL, and the log stays one history.
#[tokio::test]
async fn nothing_acknowledged_is_lost_when_nodes_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = running(folder.path()).await;
    let list = folder.path().join("list");
    let mut acknowledged = Vec::new();
    for round in 0..6u64 {
        let lines: String = (0..20_000).map(|number| format!("{}\n", pdq(round << 32 | number))).collect();
        fs::write(&list, lines).unwrap();
        let mut import = cluster.member(0).command(&["import", "--label", "demo"]);
        let mut import = import.arg(&list).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Small publications beside the import, until the node is killed under them.
        let begun = Instant::now();
        let mut number = 1 << 20;
        while begun.elapsed() < Duration::from_millis(40 * (round + 1)) {
            let hash = pdq(round << 32 | number);
            if publish(cluster.member(0), vec![add(hash)]).await.is_ok_and(|answer| answer.added == 1) {
                acknowledged.push(hash);
            }
            number += 1;
        }
        cluster.kill(0).unwrap();
        import.wait().unwrap();
        cluster.start(0).unwrap();
        cluster.connected(PATIENCE).await.unwrap();
        for piece in acknowledged.chunks(1000) {
            let lost = decisions(cluster.member(0), piece).await.iter().filter(|d| **d == Decision::None).count();
            assert_eq!(lost, 0, "round {round}");
        }
    }
    assert!(acknowledged.len() > 20, "only {} publications got through", acknowledged.len());
    // The import goes on where it was cut off.
    let output = cluster.member(0).attempt(&["import", list.to_str().unwrap(), "--label", "demo"]).unwrap();
    assert!(output.status.success());
    let again = cluster.member(0).hashmesh(&["import", list.to_str().unwrap(), "--label", "demo"]).unwrap();
    assert!(again.contains(" 0 added, 20000 known"), "{again}");
    cluster.agree(PATIENCE).await.unwrap();
    for member in cluster.members() {
        let status = member.status().await.unwrap();
        assert!(status.alarms.is_empty(), "{:?}", status.alarms);
        assert_eq!(own(&status).missing, 0);
    }
}

/// Network notes, 4.3: a node that was killed and comes back with the same key hears gossip again at once.
#[tokio::test]
async fn a_restarted_node_is_heard_and_hears_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = running(folder.path()).await;
    for round in 0..3 {
        cluster.kill(2).unwrap();
        cluster.start(2).unwrap();
        cluster.connected(PATIENCE).await.unwrap();
        publish(cluster.member(2), vec![add(pdq(round))]).await.unwrap();
        publish(cluster.member(0), vec![add(pdq(100 + round))]).await.unwrap();
        let both = [pdq(round), pdq(100 + round)];
        for member in cluster.members() {
            eventually("news", async || !decisions(member, &both).await.contains(&Decision::None)).await;
        }
    }
}

/// Whoever reads its output may go away: once the pipe of the logs had no reader, the next line about a connection took the
/// network down with it, and the node stayed up without one.
#[tokio::test]
async fn a_node_outlives_whoever_reads_its_output() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = founded(folder.path());
    let mut run = cluster.member(0).command(&["run"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut deaf = run.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    drop(deaf.stderr.take());
    eventually("a node", async || cluster.member(0).status().await.is_ok()).await;
    cluster.start(1).unwrap();
    eventually("a connection", async || !cluster.member(0).status().await.unwrap().peers.is_empty()).await;
    cluster.kill(1).unwrap();
    eventually("its end", async || cluster.member(0).status().await.unwrap().peers.is_empty()).await;
    cluster.start(1).unwrap();
    eventually("another", async || !cluster.member(0).status().await.unwrap().peers.is_empty()).await;
    deaf.kill().unwrap();
    deaf.wait().unwrap();
}

/// SPEC 15.6: a store that is gone is rebuilt from peers, and nothing is signed before.
#[tokio::test]
async fn a_lost_store_is_rebuilt_from_peers() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = running(folder.path()).await;
    let hashes: Vec<ContentHash> = (0..500).map(pdq).collect();
    publish(cluster.member(0), hashes.iter().map(|hash| add(*hash)).collect()).await.unwrap();
    for member in cluster.members() {
        eventually("news", async || !decisions(member, &hashes).await.contains(&Decision::None)).await;
    }
    for damage in ["deleted", "cut short"] {
        cluster.kill(0).unwrap();
        let store = cluster.member(0).folder.store();
        if damage == "deleted" {
            fs::remove_dir_all(&store).unwrap();
        } else {
            let data = fs::OpenOptions::new().write(true).open(store.join("db")).unwrap();
            data.set_len(data.metadata().unwrap().len() / 2).unwrap();
        }
        cluster.start(0).unwrap();
        cluster.connected(PATIENCE).await.unwrap();
        cluster.agree(PATIENCE).await.unwrap();
        let found = decisions(cluster.member(0), &hashes).await;
        assert!(!found.contains(&Decision::None), "{damage}");
        assert_eq!(mode(store), 0o700, "{damage}: openings are nobody else's business");
        let again = publish(cluster.member(0), vec![add(hashes[0])]).await.unwrap();
        assert_eq!(again.known, 1, "{damage}: the own log is back");
        let last = pdq(10_000 + damage.len() as u64);
        publish(cluster.member(0), vec![add(last)]).await.unwrap();
        // Before the store is lost again: what only it held would be gone with it.
        for member in cluster.members() {
            eventually("news", async || decisions(member, &[last]).await != [Decision::None]).await;
        }
    }
}

/// SPEC 14.7, 15.4: when nothing can be made durable any more, as on a full disk (here: a limit on the size of files), queries
/// are answered on, and every answer says that it may be old.
#[tokio::test]
async fn a_node_that_cannot_write_answers_on_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    // Whoever writes beyond the limit is ended by a signal, unless that is ignored; a full disk sends none.
    let script = folder.path().join("hashmesh");
    fs::write(&script, format!("#!/bin/sh\ntrap '' XFSZ\nexec '{}' \"$@\"\n", command().display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let mut cluster = Cluster::found(&folder.path().join("cluster"), &Program::at(script), &MEMBERS).unwrap();
    cluster.start_all().unwrap();
    cluster.connected(PATIENCE).await.unwrap();
    let acme = cluster.member(0);
    publish(acme, vec![add(pdq(1))]).await.unwrap();
    eventually("a calm node", async || !acme.status().await.unwrap().isolated).await;

    let length = fs::metadata(acme.folder.store().join("db")).unwrap().len();
    let pid = rustix::process::Pid::from_raw(i32::try_from(acme.pid().unwrap()).unwrap()).unwrap();
    let limit = rustix::process::Rlimit { current: Some(length + 4096), maximum: None };
    rustix::process::prlimit(Some(pid), rustix::process::Resource::Fsize, limit).unwrap();
    let mut number = 10;
    eventually("a driver that has stopped", async || {
        number += 2000;
        // Refused, cut off or signed: that depends on when the disk is full.
        drop(publish(acme, (number..number + 2000).map(|number| add(pdq(number))).collect()).await);
        acme.status().await.unwrap().stopped.is_some()
    })
    .await;
    let mut client = Client::query(&acme.folder).await.unwrap();
    let answer: MatchAnswer = client.get(&format!("/v1/match/{}", pdq(1))).await.unwrap();
    assert_eq!(answer.decisions, [Decision::Review]);
    assert!(answer.basis.isolated);
    assert!(acme.status().await.unwrap().isolated);
    // Not for later: it does not pass by itself.
    let stopped = |error| matches!(error, ClientError::Refused { status: 503, .. });
    assert!(client.get::<Value>("/v1/ready").await.is_err_and(stopped));
    assert!(publish(acme, vec![add(pdq(2))]).await.is_err_and(stopped));
}

/// SPEC 14.1: keys that are on no card get nowhere, and members do not suffer.
#[tokio::test]
async fn strangers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = running(&folder.path().join("ours")).await;
    let address = cluster.member(0).status().await.unwrap().listening[0].clone();
    let address = address.split("/p2p/").next().unwrap().to_owned();

    // Members of the same names, of another federation: other keys, another network.
    let mut others = founded(&folder.path().join("theirs"));
    others.member(1).hashmesh(&["peers", "remove", "acme"]).unwrap();
    others.member(1).hashmesh(&["peers", "add", "acme", &address]).unwrap();
    others.start(1).unwrap();
    let metrics = || async {
        let mut stream = Client::query(&cluster.member(0).folder).await.unwrap();
        stream.text("/metrics").await.unwrap()
    };
    eventually("a refusal", async || {
        let text = metrics().await;
        let line = text.lines().find(|line| line.starts_with("hashmesh_strangers_refused")).unwrap().to_owned();
        line.split_whitespace().last().unwrap() != "0"
    })
    .await;
    assert_eq!(cluster.member(0).status().await.unwrap().peers.len(), 2);
    assert_eq!(others.member(1).status().await.unwrap().peers.len(), 0);
    publish(cluster.member(0), vec![add(pdq(1))]).await.unwrap();
    eventually("a match", async || decisions(cluster.member(2), &[pdq(1)]).await == [Decision::Review]).await;
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_node_refuses_to_run_where_it_must_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = founded(folder.path());
    let fails = |member: &Member, data: Option<&Path>| {
        let mut run = member.command(&["run"]);
        if let Some(data) = data {
            run.arg("--data").arg(data);
        }
        let output = run.stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(!error.contains("panicked"), "{error}");
        error
    };

    let acme = cluster.member(0);
    let data = acme.folder.root().to_owned();
    let key = data.join("keys/log.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(fails(acme, None).contains("chmod 600"), "a loose key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let governance = folder.path().join("acme-governance/governance.key");
    fs::create_dir_all(data.join("old/deep")).unwrap();
    for hidden in ["governance.key", "keys/notes.txt", "old/deep/copy.pem"] {
        fs::copy(&governance, data.join(hidden)).unwrap();
        assert!(fails(acme, None).contains("is a governance key"), "{hidden}");
        fs::remove_file(data.join(hidden)).unwrap();
    }

    fs::rename(&key, data.join("keys/aside")).unwrap();
    fs::copy(data.join("keys/witness.key"), &key).unwrap();
    assert!(fails(acme, None).contains("the log key in this folder is not the one on the member's card"));
    fs::rename(data.join("keys/aside"), &key).unwrap();

    let policy = data.join("policy.toml");
    let good = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, format!("{good}\nmin_member = 3\n")).unwrap();
    assert!(fails(acme, None).contains("min_member"), "an unknown key in the policy");
    fs::write(&policy, good).unwrap();

    let config = data.join("config.toml");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, good.replace("[peers]", "[peer]")).unwrap();
    assert!(fails(acme, None).contains("unknown field"), "an unknown key in the configuration");
    fs::write(&config, &good).unwrap();

    let signer = data.join("signer");
    fs::rename(&signer, data.join("signer-aside")).unwrap();
    assert!(fails(acme, None).contains("start a new epoch"), "no signer file");
    fs::copy(data.join("signer-aside"), &signer).unwrap();
    assert!(fails(acme, None).contains("signer adopt"), "a copied signer file");
    fs::rename(data.join("signer-aside"), &signer).unwrap();

    cluster.start(0).unwrap();
    assert!(fails(cluster.member(0), None).contains("is running in this folder already"), "a second instance");
    let copy = folder.path().join("copy");
    copy_folder(&data, &copy);
    assert!(fails(cluster.member(0), Some(&copy)).contains("signer adopt"), "a copy of the whole folder");

    assert_eq!(mode(data.join("run/query.sock")), 0o660);
    assert_eq!(mode(data.join("run/admin.sock")), 0o600);
    assert_eq!(mode(data.join("run")), 0o750);
    assert_eq!(mode(data.join("store")), 0o700);
    cluster.stop(0).unwrap();
    assert!(!data.join("run/query.sock").exists(), "a node that stops takes its sockets away");

    // Somebody else answers at the socket of a node that does not run.
    let listener = std::os::unix::net::UnixListener::bind(data.join("run/query.sock")).unwrap();
    assert!(fails(cluster.member(0), None).contains("in use"), "a socket in use");
    drop(listener);
    cluster.start(0).unwrap();
    assert!(cluster.member(0).status().await.is_ok(), "the socket of a dead process is replaced");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(&path, &target).unwrap();
        }
    }
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
}

/// What a running node is asked wrongly is refused with a sentence, and changes nothing.
#[tokio::test]
async fn bad_requests_are_refused_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = running(folder.path()).await;
    let acme = cluster.member(0);
    let good = pdq(1).to_string();
    let mut admin = Client::admin(&acme.folder).await.unwrap();
    let mut query = Client::query(&acme.folder).await.unwrap();
    async fn refused(client: &mut Client, path: &str, body: Value) -> (u16, String) {
        match client.post::<Value, Value>(path, &body).await {
            Err(ClientError::Refused { status, message }) => (status, message),
            other => panic!("{path}: {other:?}"),
        }
    }

    for (body, part) in [
        (json!({ "hashes": [good, "md5:12"] }), "hashes[1]: a md5 hash has 32 hex digits"),
        (json!({ "hashes": ["crc:00"] }), "not a kind of hash"),
        (json!({ "hashes": [good], "max_distance": 32 }), "max_distance must be 0 to 31"),
        (json!({ "hashes": [good], "distance": 3 }), "unknown field `distance`"),
        (json!({ "hash": good }), "unknown field `hash`"),
        (json!([1, 2]), "not what was expected"),
    ] {
        let (status, message) = refused(&mut query, "/v1/match", body).await;
        assert!(status == 400 && message.contains(part), "{status} {message}");
    }
    match query.get::<Value>("/v1/match/%ff%fe").await {
        Err(ClientError::Refused { status: 400, message }) => assert!(message.contains("UTF-8"), "{message}"),
        other => panic!("{other:?}"),
    }
    let many: Vec<&str> = std::iter::repeat_n(good.as_str(), 10_001).collect();
    assert_eq!(refused(&mut query, "/v1/match", json!({ "hashes": many })).await.0, 413);
    let large = "x".repeat(5_000_000);
    assert_eq!(refused(&mut query, "/v1/match", json!({ "hashes": [large] })).await.0, 413);
    let mut query = Client::query(&acme.folder).await.unwrap();
    assert_eq!(refused(&mut query, "/v1/statements", json!({})).await.0, 404, "no admin verb on the query socket");
    assert_eq!(refused(&mut query, "/v1/health", json!({})).await.0, 405);

    let say = |statement: Value| json!({ "statements": [statement] });
    for (body, part) in [
        (say(json!({ "say": "add", "hash": good })), "missing field `labels`"),
        (say(json!({ "say": "shout", "hash": good })), "unknown variant `shout`"),
        (say(json!({ "say": "add", "hash": good, "labels": ["demo"], "colour": 1 })), "unknown field `colour`"),
        (json!({ "statements": [], "urgent": true }), "unknown field `urgent`"),
    ] {
        let (status, message) = refused(&mut admin, "/v1/statements", body).await;
        assert!(status == 400 && message.contains(part), "{status} {message}");
    }
    for (statement, part) in [
        (
            json!({ "say": "add", "hash": good, "labels": ["nope"] }),
            "the charter has no label \"nope\" (it has: demo, csam",
        ),
        (json!({ "say": "add", "hash": good, "labels": [] }), "1 to 8 labels"),
        (json!({ "say": "add", "hash": "md5:12", "labels": ["demo"] }), "32 hex digits"),
        (json!({ "say": "add", "hash": "md5:d41d8cd98f00b204e9800998ecf8427e", "labels": ["demo"] }), "empty file"),
        (json!({ "say": "add", "hash": format!("pdq:{}", "0".repeat(64)), "labels": ["demo"] }), "degenerate"),
        (json!({ "say": "add", "hash": good, "labels": ["demo"], "quality": 49 }), "below 50"),
        (json!({ "say": "add", "hash": good, "labels": ["demo"], "expiry": "tomorrow" }), "2027-01-31T12:00:00Z"),
        (
            json!({ "say": "add", "hash": good, "labels": ["demo"], "expiry": "2001-01-01T00:00:00Z" }),
            "expiry has passed",
        ),
        (json!({ "say": "add", "hash": good, "labels": ["demo"], "quality": 101 }), "0 to 100"),
        (json!({ "say": "add", "hash": good, "labels": ["demo"], "note": "x".repeat(513) }), "at most 512 bytes"),
        (json!({ "say": "add", "hash": good, "labels": ["demo"], "note": "\u{1b}[2J" }), "one line of text"),
        (json!({ "say": "dispute", "hash": good, "reason": "lawful", "note": "a\nb" }), "one line of text"),
        (json!({ "say": "revoke", "hash": good, "reason": "mistake" }), "nothing to revoke"),
        (json!({ "say": "revoke", "position": "0/0", "reason": "mistake" }), "nor a dispute stands at 0/0"),
        (json!({ "say": "revoke", "position": "zero", "reason": "mistake" }), "not a position"),
        (json!({ "say": "revoke", "reason": "mistake" }), "either a hash or a position"),
    ] {
        let answer: PublishAnswer = admin.post("/v1/statements", &say(statement)).await.unwrap();
        let result = &answer.results[0];
        assert_eq!(result.status, PublishStatus::Refused);
        assert!(result.error.as_ref().unwrap().contains(part), "{:?}", result.error);
    }
    let wrong = refused(&mut admin, "/v1/sign-alone", json!({ "origin": "x" })).await;
    assert!(wrong.0 == 400 && wrong.1.contains("not the origin"), "{wrong:?}");
    assert_eq!(own(&acme.status().await.unwrap()).size, 0, "nothing was published");

    let unknown = acme.attempt(&["add", &good, "--label", "nope"]).unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no label \"nope\""));
    let part = acme.attempt(&["add", &good, "md5:d41d8cd98f00b204e9800998ecf8427e", "--label", "demo"]).unwrap();
    assert_eq!(part.status.code(), Some(4), "one of two");
}

#[tokio::test]
async fn lists_are_imported_with_every_bad_line_named() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = running(folder.path()).await;
    let list = folder.path().join("list.csv");
    fs::write(
        &list,
        format!(
            "kind,hash,quality\npdq,{},90\nmd5,12,\nmd5,d41d8cd98f00b204e9800998ecf8427e,\npdq,{},\n",
            &pdq(1).to_string()[4..],
            &pdq(2).to_string()[4..]
        ),
    )
    .unwrap();
    let import = |arguments: &[&str]| {
        let mut all = vec!["import", list.to_str().unwrap(), "--label", "demo"];
        all.extend(arguments);
        cluster.member(0).attempt(&all).unwrap()
    };
    let output = import(&[]);
    assert_eq!(output.status.code(), Some(4));
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(out, "4 lines: 2 added, 0 known before, 2 refused\n");
    assert!(error.contains("line 3: a md5 hash has 32 hex digits"), "{error}");
    assert!(error.contains("line 4: the hash of the empty file"), "{error}");
    let json = String::from_utf8(import(&["--json"]).stdout).unwrap();
    assert!(json.contains("{\"error\":\"a md5 hash has 32 hex digits, this one has 2\",\"line\":3}"), "{json}");
    assert!(json.contains("\"known\":2"), "{json}");
    let unknown = cluster.member(0).attempt(&["import", list.to_str().unwrap(), "--label", "nope"]).unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("the charter has no label"));
}

/// An import that ended early said nothing of what it had done.
#[tokio::test]
async fn an_import_that_ends_early_says_how_far_it_got() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = running(folder.path()).await;
    let mut import = cluster.member(0).command(&["import", "-", "--label", "demo"]);
    let mut import = import.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut list = import.stdin.take().unwrap();
    let lines = |numbers: std::ops::Range<u64>| numbers.map(|number| format!("{}\n", pdq(number))).collect::<String>();
    list.write_all(lines(0..20_000).as_bytes()).unwrap();
    let acme = cluster.member(0);
    eventually("two pieces", async || own(&acme.status().await.unwrap()).size == 2 * 8192).await;
    // A node that is told to stop still answers what it was asked.
    cluster.stop(0).unwrap();
    // Whether the rest is still read depends on how soon the command sees that the node is gone.
    drop(list.write_all(lines(20_000..60_000).as_bytes()));
    drop(list);
    let output = import.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(output.stdout.is_empty());
    assert!(error.contains(" 16384 added, 0 known before, 0 refused; importing the same list again"), "{error}");
    assert!(error.contains("no node answers"), "{error}");
}

/// SPEC 8.5: the order to sign alone stands in for members that cannot be heard, and for nothing else.
#[tokio::test]
async fn a_node_that_must_not_sign_says_so_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = running(folder.path()).await;
    publish(cluster.member(0), vec![add(pdq(1))]).await.unwrap();
    for at in 0..3 {
        cluster.stop(at).unwrap();
    }
    fs::remove_dir_all(cluster.member(0).folder.store()).unwrap();
    cluster.start(0).unwrap();
    let acme = cluster.member(0);
    let origin = acme.origin().await.unwrap();
    let output = acme.attempt(&["sign-alone", "--origin", &origin]).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("signs nothing all the same") && error.contains("but 1 were signed"), "{error}");
    assert!(output.stdout.is_empty());
}

/// SPEC 15.4: on a disk that takes no more, what is asked is refused at once and with the cause; queries are answered.
#[tokio::test]
async fn a_node_whose_disk_is_full_says_why_it_takes_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = running(folder.path()).await;
    publish(cluster.member(0), vec![add(pdq(1))]).await.unwrap();
    cluster.stop(0).unwrap();
    let mut full = std::process::Command::new("sh");
    let run = cluster.member(0).command(&["run"]);
    // No file may grow beyond 1 MiB: which a list of some size makes the database do.
    full.args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""]).arg(run.get_program()).args(run.get_args());
    let mut full = full.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let acme = cluster.member(0);
    eventually("a node", async || acme.status().await.is_ok_and(|status| status.silent.is_none())).await;
    let list = folder.path().join("list");
    fs::write(&list, (0..40_000).map(|number| format!("{}\n", pdq(number))).collect::<String>()).unwrap();
    let begun = Instant::now();
    for arguments in
        [&["import", list.to_str().unwrap(), "--label", "demo"][..], &["add", &pdq(7).to_string(), "--label", "demo"]]
    {
        let output = acme.attempt(arguments).unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("nothing is published any more: what was said could not be made durable"), "{error}");
        assert!(error.contains("os error") || error.contains("File too large"), "the cause: {error}");
    }
    assert!(begun.elapsed() < PATIENCE, "nobody waits for what does not pass");
    assert_eq!(decisions(acme, &[pdq(1)]).await, [Decision::Review], "queries are answered on");
    full.kill().unwrap();
    full.wait().unwrap();
}

/// libp2p lets sockets share a port: of two nodes with one address, each heard some of the others.
#[tokio::test]
async fn two_nodes_do_not_share_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = founded(folder.path());
    cluster.start(0).unwrap();
    let configs = [0, 1].map(|at| fs::read_to_string(cluster.member(at).folder.config()).unwrap());
    let listen = |config: &str| config.lines().find(|line| line.starts_with("listen")).unwrap().to_owned();
    let taken = configs[1].replace(&listen(&configs[1]), &listen(&configs[0]));
    fs::write(cluster.member(1).folder.config(), taken).unwrap();
    let output = cluster.member(1).attempt(&["run"]).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("is another node running there"), "{error}");
}

/// CBOR in, CBOR out; health, readiness, metrics, and a description of it all.
#[tokio::test]
async fn the_query_socket_speaks_what_services_expect() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = running(folder.path()).await;
    let acme = cluster.member(0);
    publish(acme, vec![add(pdq(1))]).await.unwrap();
    let mut client = Client::query(&acme.folder).await.unwrap();
    for path in ["/v1/health", "/v1/ready"] {
        let answer: Value = client.get(path).await.unwrap();
        assert_eq!(answer["status"], "ok");
    }
    let single: MatchAnswer = client.get(&format!("/v1/match/{}?explain=true", pdq(1))).await.unwrap();
    let found = &single.results.as_ref().unwrap()[0].matches[0];
    assert_eq!((found.adds[0].member.as_str(), found.adds[0].index, found.distance), ("acme", 0, 0));
    assert_eq!(found.rule.as_deref(), Some("single source"));
    assert_eq!(single.basis.charter_version, 0);
    let openapi: Value = client.get("/openapi.json").await.unwrap();
    assert!(openapi["paths"]["/v1/match"]["post"].is_object());
    let metrics = client.text("/metrics").await.unwrap();
    assert!(metrics.contains("hashmesh_queries_total{decision=\"review\"} 1"), "{metrics}");
    assert!(!metrics.contains(&pdq(1).to_string()[4..20]), "no content hash in metrics");

    // {"hashes": ["pdq:…"]} in CBOR, the map's length not in its shortest form: services need no canonical encoder.
    let hash = pdq(1).to_string();
    let mut body = vec![0xb8, 1, 0x66];
    body.extend(b"hashes\x81\x78");
    body.push(u8::try_from(hash.len()).unwrap());
    body.extend(hash.bytes());
    let answer = client.cbor("/v1/match", body).await.unwrap();
    let needle = b"idecisions\x81freview";
    assert!(answer.windows(needle.len()).any(|window| window == needle), "{answer:?}");
    // The same as a byte string: the kind's number, then the value.
    let mut body = b"\xa1\x66hashes\x81\x58\x21\x01".to_vec();
    body.extend(pdq(1).value());
    let bytes = client.cbor("/v1/match", body).await.unwrap();
    assert!(bytes.windows(needle.len()).any(|window| window == needle), "{bytes:?}");
}

/// SPEC 12.6, 12.7.
#[tokio::test]
async fn a_policy_is_compared_and_applied_and_what_trips_a_breaker_waits_for_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = founded(folder.path());
    let config = cluster.member(0).folder.config();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("remember_queries = 10\n{text}")).unwrap();
    cluster.start_all().unwrap();
    cluster.connected(PATIENCE).await.unwrap();
    let acme = cluster.member(0);
    publish(acme, vec![add(pdq(1))]).await.unwrap();
    assert_eq!(decisions(acme, &[pdq(1), pdq(2)]).await, [Decision::Review, Decision::None]);

    let rule = "[[rule]]\nname = \"alone\"\nmin_members = 1\nstage = \"block\"\n[breakers]\nhash_matches = 3\n";
    let mut admin = Client::admin(&acme.folder).await.unwrap();
    let diff: Value = admin.post("/v1/policy/diff", &json!({ "text": rule })).await.unwrap();
    assert_eq!((&diff["queries"], &diff["raised"], &diff["lowered"]), (&json!(2), &json!(1), &json!(0)));
    assert_eq!(diff["examples"][0]["rule_after"], "alone");
    let bad = admin.post::<_, Value>("/v1/policy", &json!({ "text": "[[rules]]" })).await.unwrap_err();
    assert!(bad.to_string().contains("unknown field"), "{bad}");
    assert_eq!(decisions(acme, &[pdq(1)]).await, [Decision::Review], "the old one stays in force");
    let _applied: Value = admin.post("/v1/policy", &json!({ "text": rule })).await.unwrap();
    assert_eq!(fs::read_to_string(acme.folder.policy()).unwrap(), rule);

    // The third and the fourth match of this hour; two came before.
    assert_eq!(decisions(acme, &[pdq(1)]).await, [Decision::Block]);
    decisions(acme, &[pdq(1)]).await;
    assert_eq!(decisions(acme, &[pdq(1)]).await, [Decision::Review]);
    let held: Value = admin.get("/v1/quarantine").await.unwrap();
    assert_eq!(held["held"][0]["subject"], pdq(1).to_string());
    let release = json!({ "subject": pdq(1).to_string() });
    let left: Value = admin.post("/v1/quarantine/release", &release).await.unwrap();
    assert_eq!(left["held"], json!([]));
    assert_eq!(decisions(acme, &[pdq(1)]).await, [Decision::Block]);
    assert!(admin.post::<_, Value>("/v1/quarantine/release", &release).await.is_err(), "not there any more");
}

/// A cache beside a node: a copy of its list, kept by the change feed alone.
struct Cache {
    client: Client,
    cursor: Option<String>,
    copy: BTreeMap<String, Decision>,
    seq: u64,
}

impl Cache {
    async fn beside(member: &Member) -> Self {
        let client = Client::feed(&member.folder).await.unwrap();
        Self { client, cursor: None, copy: BTreeMap::new(), seq: 0 }
    }

    /// Reads one page and takes it over.
    async fn read(&mut self, options: &str) -> ChangesAnswer {
        let after = self.cursor.as_ref().map_or_else(String::new, |cursor| format!("&after={cursor}"));
        let path = format!("/v1/changes?{options}{after}");
        let mut answer: Option<ChangesAnswer> = None;
        eventually("the list", async || {
            answer = match self.client.get(&path).await {
                Ok(answer) => Some(answer),
                Err(ClientError::Later(_)) => None,
                Err(error) => panic!("{path}: {error}"),
            };
            answer.is_some()
        })
        .await;
        let answer = answer.unwrap();
        if answer.reset {
            self.copy.clear();
            self.seq = 0;
        }
        for change in &answer.changes {
            assert!(change.seq > self.seq, "in order");
            self.seq = change.seq;
            self.copy.insert(change.hash.clone(), change.decision);
        }
        self.copy.retain(|_, decision| *decision > Decision::None);
        self.cursor = Some(answer.cursor.clone());
        answer
    }

    /// Waits for changes until the copy is as it should be; a wait that brings nothing is one too many.
    async fn becomes(&mut self, expected: &[(ContentHash, Decision)]) {
        let expected = expected.iter().map(|(hash, decision)| (hash.to_string(), *decision)).collect();
        while self.copy != expected {
            let answer = self.read("wait=60s&limit=3").await;
            assert!(!answer.changes.is_empty(), "{:?} instead of {expected:?}", self.copy);
        }
    }
}

/// SPEC 15.9 to 15.11: a copy that is kept by the feed is the list that the node acts on, whatever changes it.
#[tokio::test]
async fn a_cache_that_reads_the_change_feed_has_the_list_that_the_node_acts_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = founded(folder.path());
    let config = cluster.member(0).folder.config();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("feed = true\n{text}")).unwrap();
    cluster.start_all().unwrap();
    cluster.connected(PATIENCE).await.unwrap();
    let (acme, bolt) = (cluster.member(0), cluster.member(1));
    assert_eq!(mode(acme.folder.feed_socket()), 0o660);
    assert!(!bolt.folder.feed_socket().exists(), "off by default");

    let md5: ContentHash = "md5:d3b07384d113edec49eaa6238ad5ff00".parse().unwrap();
    let mut cache = Cache::beside(acme).await;
    let empty = cache.read("").await;
    assert_eq!((empty.changes.len(), empty.more, empty.reset), (0, false, false));

    // A reader that waits is woken by an addition, whoever makes it.
    let begun = Instant::now();
    let (woken, _added) = tokio::join!(cache.read("wait=60s"), publish(bolt, vec![add(md5)]));
    assert_eq!((woken.changes[0].hash.as_str(), woken.changes[0].decision), (&*md5.to_string(), Decision::Review));
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    publish(acme, (0..7).map(|number| add(pdq(number))).collect()).await.unwrap();
    let mut list: Vec<_> = (0..7).map(|number| (pdq(number), Decision::Review)).collect();
    list.push((md5, Decision::Review));
    cache.becomes(&list).await;
    publish(bolt, vec![add(pdq(3))]).await.unwrap();
    list[3].1 = Decision::Block;
    cache.becomes(&list).await;

    let revoke = |hash: ContentHash| StatementForm::Revoke {
        hash: Some(hash.to_string()),
        position: None,
        reason: hashmesh_protocol::statement::Reason::Mistake,
    };
    publish(acme, vec![revoke(pdq(0)), revoke(pdq(3))]).await.unwrap();
    list[3].1 = Decision::Review;
    list.remove(0);
    cache.becomes(&list).await;

    // A policy that blocks what one member says, all but one hash.
    let mut admin = Client::admin(&acme.folder).await.unwrap();
    let policy = format!(
        "[[rule]]\nname = \"alone\"\nmin_members = 1\nstage = \"block\"\n[negative]\nhashes = [\"{}\"]\n\
         [breakers]\nhash_matches = 1\n",
        pdq(6)
    );
    let applied: Value = admin.post("/v1/policy", &json!({ "text": policy })).await.unwrap();
    list.retain(|(hash, _)| *hash != pdq(6));
    list.iter_mut().for_each(|(_, decision)| *decision = Decision::Block);
    cache.becomes(&list).await;
    eventually("the end of the sweep", async || cache.read("").await.basis.policy == applied["id"]).await;

    // A breaker that trips, and a person that has looked.
    let hashes: Vec<ContentHash> = (0..8).map(pdq).chain([md5]).collect();
    assert_eq!(decisions(acme, &[md5]).await, [Decision::Block]);
    decisions(acme, &[md5]).await;
    list.last_mut().unwrap().1 = Decision::Review;
    cache.becomes(&list).await;
    let _left: Value = admin.post("/v1/quarantine/release", &json!({ "subject": md5.to_string() })).await.unwrap();
    list.last_mut().unwrap().1 = Decision::Block;
    cache.becomes(&list).await;
    let copied = |hash: &ContentHash| cache.copy.get(&hash.to_string()).copied().unwrap_or_default();
    assert_eq!(decisions(acme, &hashes).await, hashes.iter().map(copied).collect::<Vec<_>>());

    // Somebody who reads the log from its beginning, one change at a time, comes to the same.
    let mut second = Cache::beside(acme).await;
    while second.read("limit=1").await.more {}
    assert_eq!((&second.copy, &second.cursor), (&cache.copy, &cache.cursor));

    for (options, part) in [
        ("after=yesterday", "after is not a cursor"),
        ("wait=61s", "at most 60s"),
        ("wait=soon", "at most 60s"),
        ("limit=0", "limit must be 1 to 10000"),
        ("limit=10001", "limit must be 1 to 10000"),
        ("since=1", "unknown field `since`"),
    ] {
        match cache.client.get::<Value>(&format!("/v1/changes?{options}")).await {
            Err(ClientError::Refused { status: 400, message }) => assert!(message.contains(part), "{message}"),
            other => panic!("{options}: {other:?}"),
        }
    }
    let openapi: Value = cache.client.get("/openapi.json").await.unwrap();
    assert!(openapi["paths"]["/v1/changes"]["get"].is_object());
    assert!(cache.client.get::<Value>("/v1/health").await.is_ok());
    assert!(cache.client.get::<Value>(&format!("/v1/match/{md5}")).await.is_err(), "nothing else is there");

    // A node that stops lets nobody wait, and one that was started again begins anew.
    let path = format!("/v1/changes?wait=60s&after={}", second.cursor.unwrap());
    let begun = Instant::now();
    let waiting = tokio::spawn(async move { second.client.get::<ChangesAnswer>(&path).await });
    cluster.stop(0).unwrap();
    // Whether it had been heard before the node was told to stop is left to chance.
    let _answered_or_gone = waiting.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    assert!(!cluster.member(0).folder.feed_socket().exists());
    cluster.start(0).unwrap();
    cache.client = Client::feed(&cluster.member(0).folder).await.unwrap();
    let before = std::mem::take(&mut cache.copy);
    assert!(cache.read("limit=1").await.reset);
    while cache.read("limit=2").await.more {}
    assert_eq!(cache.copy, before);

    // Switched off, it leaves nothing behind, even if it was killed.
    cluster.kill(0).unwrap();
    fs::write(&config, text).unwrap();
    cluster.start(0).unwrap();
    assert!(!cluster.member(0).folder.feed_socket().exists());
}

/// A picture that somebody turned by 90 degrees has another hash; asked about as if it were turned, it is found.
#[tokio::test(flavor = "multi_thread")]
async fn a_turned_picture_is_found_by_its_rotations() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = running(&folder.path().join("nodes")).await;
    let acme = cluster.member(0);
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/pdq");
    let original = vectors.join("astronaut.jpg");
    let turned = folder.path().join("turned.png");
    image::open(&original).unwrap().rotate90().save(&turned).unwrap();
    acme.hashmesh(&["add", "--label", "demo", "--image", original.to_str().unwrap()]).unwrap();

    let asked = |more: &[&str]| -> Vec<Value> {
        let arguments = [&["--json", "match", "--image", turned.to_str().unwrap()], more].concat();
        let answer: Value = serde_json::from_str(&acme.hashmesh(&arguments).unwrap()).unwrap();
        let found = answer["results"].as_array().unwrap().iter().filter(|result| result["found"] != 0);
        found.cloned().collect()
    };
    assert_eq!(asked(&[]), [] as [Value; 0]);
    let [found] = asked(&["--rotations"]).try_into().unwrap();
    assert_eq!(found["rotation"], "rotate90");
    // The reference implementation is as far off: it, too, derives the hashes of turned pictures from the one it computed.
    assert_eq!(found["matches"][0]["distance"], 30);
}
