//! `hashmesh-testnet demo`: a federation of four from nothing to agreement, in a minute, told as it goes.

mod pictures;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use hashmesh::api::form::{MatchAnswer, MatchRequest, PublishAnswer, StatementForm, StatementsRequest};
use hashmesh::client::Client;
use hashmesh::images::hash_file;
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::policy::Decision;
use hashmesh_protocol::statement::Reason;
use pictures::{Picture, draw};
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cluster::{Cluster, Member, Program};
use crate::sim::pdq;
use crate::tell::tell;

/// The founders: id, name, jurisdiction.
const MEMBERS: [(&str, &str, &str); 4] = [
    ("acme", "Acme Video", "FR"),
    ("bolt", "Bolt Chat", "DE"),
    ("crab", "Crab Photos", "US"),
    ("dove", "Dove Forum", "JP"),
];

/// Where Debian keeps the checksums of what it has installed.
const DPKG: &str = "/var/lib/dpkg/info";

/// Pictures that are drawn.
const PICTURES: u64 = 9;

/// Publications that are timed.
const TIMED: u64 = 40;

/// Nodes agree within this time, or the demo has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Run a federation of four real nodes on loopback and show what it does.
#[derive(Args, Debug)]
pub struct Demo {
    /// Where to put everything; a temporary folder if absent.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave it running at the end, and say what to try.
    #[arg(long)]
    keep: bool,
    /// Leave an export of the finished federation there, for auditors and their tools.
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
    /// Run this hashmesh instead of the one built in.
    #[arg(long, value_name = "FILE")]
    hashmesh: Option<PathBuf>,
}

/// Says what comes next.
fn say(text: &str) -> anyhow::Result<()> {
    tell(format_args!("\n== {text}"))
}

impl Demo {
    /// Runs it; an error if anything is not as it should be.
    ///
    /// However it ends, by a signal too, no process and no temporary folder is left behind.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut told_to_end = Signals::listen()?;
        // Nodes are stopped before their folder goes: what is declared first is dropped last.
        let temporary = match &self.dir {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("hashmesh-demo-").tempdir()?),
        };
        let root = self.dir.as_deref().or(temporary.as_ref().map(TempDir::path)).context("one of the two")?;
        let cluster = tokio::select! {
            shown = self.show(root) => shown?,
            () = told_to_end.any() => bail!("interrupted; its nodes are stopped"),
        };
        if self.keep {
            keep(&cluster)?;
            told_to_end.any().await;
        }
        Ok(())
    }

    async fn show(&self, root: &Path) -> anyhow::Result<Cluster> {
        fs::create_dir_all(root)?;
        let program = self.hashmesh.clone().map_or_else(Program::own, |path| Ok(Program::at(path)))?;

        say("Four organisations found a federation")?;
        let mut cluster = Cluster::found(root, &program, &MEMBERS)?;
        cluster.start_all()?;
        cluster.connected(PATIENCE).await?;
        let status = cluster.member(0).status().await?;
        tell(format_args!(
            "{} members in {} jurisdictions, network {}",
            status.federation.members, status.federation.jurisdictions, status.federation.network
        ))?;
        tell("every node is a process of its own, connected to the three others")?;

        let pictures = self.pictures(root)?;
        publish_pictures(&cluster, &pictures).await?;
        cluster.agree(PATIENCE).await?;
        find_pictures(cluster.member(3), &pictures).await?;
        let publish = time_publication(&cluster).await?;
        let catch_up = import_and_kill(&mut cluster).await?;
        let revoke = revoke_one(&cluster, &pictures).await?;

        say("Measured on this machine, all four nodes on it")?;
        tell(format_args!("publish on one node to match on the farthest of four: median {publish:.1?} of {TIMED}"))?;
        tell(format_args!("revoke on one node to no match on any:                {revoke:.1?}"))?;
        tell(format_args!("start after SIGKILL to the same logs as the others:   {catch_up:.1?}"))?;

        cluster.agree(PATIENCE).await?;
        let equal = table(&cluster).await?;
        ensure!(equal, "the nodes do not agree");
        tell("\nAll nodes hold the same logs.")?;
        if let Some(folder) = &self.export {
            cluster.settled(PATIENCE).await?;
            export(cluster.member(3), folder).await?;
        }
        Ok(cluster)
    }

    fn pictures(&self, root: &Path) -> anyhow::Result<Vec<Picture>> {
        say("Some pictures, drawn for this, with resized and recompressed copies")?;
        let folder = root.join("pictures");
        fs::create_dir_all(&folder)?;
        let pictures = (0..PICTURES).map(|number| draw(&folder, number)).collect::<Result<Vec<_>, _>>()?;
        tell(format_args!(
            "{} pictures and {} copies of each, in {}",
            pictures.len(),
            pictures[0].copies.len(),
            folder.display()
        ))?;
        Ok(pictures)
    }
}

/// Two members publish the hashes of some of the pictures.
async fn publish_pictures(cluster: &Cluster, pictures: &[Picture]) -> anyhow::Result<()> {
    say("acme publishes pictures 0 to 5, bolt 3 to 7 (PDQ, MD5, SHA-1 and SHA-256 of each)")?;
    for (member, range) in [(cluster.member(0), 0..6), (cluster.member(1), 3..8)] {
        let mut add = member.command(&["add", "--label", "csam", "--image"]);
        add.args(pictures[range].iter().map(|picture| &picture.original));
        let output = add.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        tell(format_args!("{}: {} statements", member.id, String::from_utf8(output.stdout)?.lines().count() - 1))?;
    }
    Ok(())
}

/// A service of a third member asks about every file, on its own socket.
async fn find_pictures(member: &Member, pictures: &[Picture]) -> anyhow::Result<()> {
    say(&format!("A service of {} asks its node about every file, over the Unix socket", member.id))?;
    let mut client = Client::query(&member.folder).await?;
    tell(format_args!("{:<34} {:<8} {:<9} WHO", "FILE", "DECISION", "DISTANCE"))?;
    for (number, picture) in pictures.iter().enumerate() {
        let copies = picture.copies.iter().map(|(_, path)| path);
        for (place, path) in std::iter::once(&picture.original).chain(copies).enumerate() {
            let pdq = hash_file(path)?.pdq.map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?;
            let request = MatchRequest { hashes: vec![pdq.hash.to_string()], max_distance: None, explain: true };
            let answer: MatchAnswer = client.post("/v1/match", &request).await?;
            let result = answer.results.as_deref().and_then(<[_]>::first).context("an explanation")?;
            let nearest = result.matches.first();
            let who = nearest
                .map(|found| found.adds.iter().map(|claim| claim.member.as_str()).collect::<Vec<_>>().join(", "));
            let distance = nearest.map_or_else(String::new, |found| format!("{} bits", found.distance));
            let decision = format!("{:?}", result.decision).to_lowercase();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            tell(format_args!("{name:<34} {decision:<8} {distance:<9} {}", who.unwrap_or_default()))?;
            let expected = match number {
                0..3 | 6..8 => Decision::Review,
                3..6 => Decision::Block,
                _ => Decision::None,
            };
            ensure!(result.decision == expected, "{name}: {decision}, expected {expected:?}");
            ensure!(place > 0 || expected == Decision::None || nearest.is_some_and(|found| found.distance == 0));
        }
    }
    tell("One member: a person looks. Two members: blocked. That is this platform's own policy.")?;
    Ok(())
}

/// Whether a node decides anything about a hash.
async fn decided(client: &mut Client, hash: &ContentHash) -> anyhow::Result<bool> {
    let answer: MatchAnswer = client.get(&format!("/v1/match/{hash}")).await?;
    Ok(answer.decisions != [Decision::None])
}

/// Waits until a node decides something about a hash, or nothing any more.
async fn wait_for(folder: hashmesh::folder::Folder, hash: ContentHash, wanted: bool) -> anyhow::Result<Instant> {
    let mut client = Client::query(&folder).await?;
    let begun = Instant::now();
    while decided(&mut client, &hash).await? != wanted {
        ensure!(begun.elapsed() < PATIENCE, "{hash} did not reach {}", folder.root().display());
        // Short enough to measure milliseconds, long enough to leave the two cores to the nodes.
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    Ok(Instant::now())
}

/// The time from sending a statement until the last of all nodes acts on it.
async fn time_one(cluster: &Cluster, hash: ContentHash, say: StatementForm, wanted: bool) -> anyhow::Result<Duration> {
    let mut admin = Client::admin(&cluster.member(0).folder).await?;
    let begun = Instant::now();
    let waiting: Vec<_> =
        cluster.members().iter().map(|member| tokio::spawn(wait_for(member.folder.clone(), hash, wanted))).collect();
    let answer: PublishAnswer =
        admin.post("/v1/statements", &StatementsRequest { statements: vec![say], wait: None }).await?;
    ensure!(answer.added == 1, "not published: {:?}", answer.results);
    let mut last = begun;
    for waiting in waiting {
        last = last.max(waiting.await??);
    }
    Ok(last - begun)
}

async fn time_publication(cluster: &Cluster) -> anyhow::Result<Duration> {
    say(&format!("How long until everybody knows? acme publishes {TIMED} hashes, one at a time"))?;
    let mut times = Vec::new();
    for number in 0..TIMED {
        let hash = pdq(1_000_000 + number);
        let add = StatementForm::add(&hash, "demo");
        times.push(time_one(cluster, hash, add, true).await?);
    }
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    tell(format_args!(
        "to a match on the farthest of four nodes: median {:.1?}, p90 {:.1?}, worst {:.1?}",
        at(50),
        at(90),
        at(100)
    ))?;
    Ok(at(50))
}

/// Imports a real list, kills a node in the middle of it, and lets it come back.
async fn import_and_kill(cluster: &mut Cluster) -> anyhow::Result<Duration> {
    let list = cluster.root().join("list.md5sums");
    let lines = debian_list(&list)?;
    say(&format!("bolt imports a real list: {lines} MD5s of the files that Debian has installed here, labelled demo"))?;
    let mut import = cluster.member(1).command(&["import", "--label", "demo"]);
    let import = import.arg(&list).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn()?;
    let crab = 2;
    // In the middle: some of it has reached crab, not all of it.
    let begun = Instant::now();
    while size_of(cluster.member(crab), "bolt").await? < 1000 {
        ensure!(begun.elapsed() < PATIENCE, "nothing of the list reaches crab");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.kill(crab)?;
    tell("crab was killed (SIGKILL) in the middle of it")?;
    let done = tokio::task::spawn_blocking(move || import.wait_with_output()).await??;
    tell(format_args!("bolt: {}", String::from_utf8(done.stdout)?.trim()))?;
    // 4: some of the list was refused.
    ensure!(matches!(done.status.code(), Some(0 | 4)), "the import failed");
    if done.status.code() == Some(4) {
        tell("(refused are hashes of the empty file: many packages have one, and they say nothing about content)")?;
    }
    cluster.agree(PATIENCE).await?;
    let begun = Instant::now();
    cluster.start(crab)?;
    let started = begun.elapsed();
    cluster.agree(PATIENCE).await?;
    tell(format_args!(
        "crab is back after {started:.1?}, and has the same logs as the others after {:.1?}",
        begun.elapsed()
    ))?;
    Ok(begun.elapsed())
}

/// Puts the checksum lists of this machine's packages into one file; draws numbers where there are none.
fn debian_list(list: &Path) -> anyhow::Result<usize> {
    let mut text = String::new();
    for entry in fs::read_dir(DPKG).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "md5sums") {
            text.push_str(&fs::read_to_string(entry.path())?);
        }
    }
    if text.is_empty() {
        tell("\n(no checksums of Debian packages on this machine: made-up ones instead)")?;
        for number in 0u64..100_000 {
            let digest = hashmesh_protocol::digest::Digest::of(&[b"file", &number.to_be_bytes()]);
            text.push_str(&format!("{}  file-{number}\n", &digest.to_string()[..32]));
        }
    }
    fs::write(list, &text)?;
    Ok(text.lines().count())
}

async fn size_of(member: &Member, log: &str) -> anyhow::Result<u64> {
    let status = member.status().await?;
    Ok(status.logs.iter().find(|form| form.member == log).context("every member has a log")?.size)
}

/// acme revokes a hash that only acme has added; every node stops matching it.
async fn revoke_one(cluster: &Cluster, pictures: &[Picture]) -> anyhow::Result<Duration> {
    let original = &pictures[0].original;
    let hash = hash_file(original)?.pdq.map_err(|why| anyhow::anyhow!("{why}"))?.hash;
    say("acme revokes the PDQ hash of picture 0")?;
    let revoke = StatementForm::Revoke { hash: Some(hash.to_string()), position: None, reason: Reason::Mistake };
    let time = time_one(cluster, hash, revoke, false).await?;
    for member in cluster.members() {
        let mut client = Client::query(&member.folder).await?;
        if decided(&mut client, &hash).await? {
            bail!("{} still matches it", member.id);
        }
    }
    tell("no node matches it any more")?;
    Ok(time)
}

/// Prints every node's logs; whether all are equal.
async fn table(cluster: &Cluster) -> anyhow::Result<bool> {
    say("What every node holds")?;
    tell(format_args!("{:<6} {:<6} {:>8}  ROOT", "NODE", "LOG", "SIZE"))?;
    let expected = cluster.member(0).status().await?.logs;
    let mut all = true;
    for member in cluster.members() {
        for (log, first) in member.status().await?.logs.iter().zip(&expected) {
            let equal = (log.size, &log.root, log.missing) == (first.size, &first.root, 0);
            all &= equal;
            let verdict = if equal { "equal" } else { "DIFFERENT" };
            tell(format_args!(
                "{:<6} {:<6} {:>8}  {:<34} {verdict}",
                member.id,
                log.member,
                log.size,
                &log.root[..32]
            ))?;
        }
    }
    Ok(all)
}

/// Exports what a node holds, and verifies the export as an auditor would: without the node.
async fn export(member: &Member, folder: &Path) -> anyhow::Result<()> {
    say(&format!("{} exports all logs, and an auditor verifies them without any node", member.id))?;
    let network = member.status().await?.federation.network;
    let folder = folder.to_str().context("the folder of the export has a name that is no text")?;
    tell(member.hashmesh(&["audit", "export", "--with-openings", "--out", folder])?.trim_end())?;
    tell(member.hashmesh(&["audit", "verify", folder, "--network", &network])?.trim_end())?;
    Ok(())
}

/// Says what to try with a federation that goes on running.
fn keep(cluster: &Cluster) -> anyhow::Result<()> {
    let data = cluster.member(3).folder.root().display().to_string();
    say("It goes on running. Try, in another terminal:")?;
    tell(format_args!("  cargo run --release --bin hashmesh -- --data {data} status"))?;
    tell(format_args!(
        "  cargo run --release --bin hashmesh -- --data {data} match --image {}/pictures/picture-03-half.jpg",
        cluster.root().display()
    ))?;
    tell(format_args!("  cargo run --release --bin hashmesh -- --data {data} log acme"))?;
    tell(format_args!(
        "  curl --unix-socket {data}/run/query.sock 'http://localhost/v1/match/{}?explain=true'",
        pdq(1_000_000)
    ))?;
    tell("Ctrl-C ends it.")?;
    Ok(())
}

/// What ends a program in a terminal, in a script, and with the terminal.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be handled");
        Ok(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
