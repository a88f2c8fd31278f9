//! How soon a member that signs two histories is convicted: the one is told to one half of the others, the other one to the other
//! half, in the same moment. In the simulator, over many seeds, and on real processes.
//!
//! On processes the forger is the network of a real node without an engine, once for each victim: what it sends goes over the
//! same libraries and the same lines as everything else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwap;
use clap::Args;
use hashmesh::api::form::{
    ExportAnswer, ExportRequest, MatchAnswer, MatchRequest, PublishAnswer, StatementForm, StatementsRequest,
    StatusAnswer,
};
use hashmesh::client::Client;
use hashmesh::clock;
use hashmesh::config::Config;
use hashmesh::documents::Found;
use hashmesh::governance::Current;
use hashmesh::keys;
use hashmesh::mailbox::Mailbox;
use hashmesh::net::{Net, Setup};
use hashmesh::store::DiskStore;
use hashmesh_protocol::bundle;
use hashmesh_protocol::charter::Parameters;
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::evidence::Accused;
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::governance::Stored;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::policy::Decision;
use hashmesh_protocol::serve::Archive as _;
use serde_json::json;
use tokio::time::sleep;

use crate::cluster::{Cluster, Program};
use crate::forger::Forger;
use crate::sim::{Sim, Weather, pdq};

/// Who signs two histories.
const FORGER: &str = "forger";

/// Statements that are settled before the fork, of the forger and of an honest member each.
const SETTLED: u64 = 20;

/// Statements of each history beyond that.
const TAIL: u64 = 3;

/// How long a conviction may take before it is called a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon a member that signs two histories is convicted everywhere.
#[derive(Args, Debug)]
pub struct Forks {
    /// Nodes, the forger's among them.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(4..=40))]
    nodes: u8,
    /// Federations of processes that see a fork, one after the other.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Simulated federations.
    #[arg(long, default_value_t = 50)]
    seeds: u64,
}

impl Forks {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let nodes = usize::from(self.nodes);
        if self.seeds > 0 {
            let seeds = self.seeds;
            let convicted = tokio::task::block_in_place(|| in_simulator(nodes, 1..=seeds))?;
            tell("simulator", nodes, seeds as usize, convicted);
        }
        let mut all = Vec::new();
        for _ in 0..self.rounds {
            let folder = tempfile::Builder::new().prefix("hashmesh-bench-").tempdir()?;
            all.extend(on_processes(folder.path(), &Program::own()?, nodes).await?);
        }
        if self.rounds > 0 {
            tell("processes", nodes, self.rounds, all);
        }
        Ok(())
    }
}

fn tell(world: &str, nodes: usize, rounds: usize, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)));
    let ms = |share| at(share).map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    println!(
        "{}",
        json!({
            "bench": "forks", "world": world, "nodes": nodes, "rounds": rounds, "convictions": times.len(),
            "p50_ms": ms(0.5), "p99_ms": ms(0.99), "slowest_ms": ms(1.0), "settled_verdicts_changed": 0,
        })
    );
}

fn names(nodes: usize) -> Vec<String> {
    (1..nodes).map(|number| format!("n{number:02}")).chain([FORGER.to_owned()]).collect()
}

fn log() -> LogId {
    LogId { member: FORGER.parse().expect("a member id"), epoch: 0 }
}

fn tail(history: u64) -> Vec<ContentHash> {
    (0..TAIL).map(|number| pdq(history << 32 | number)).collect()
}

/// How long it took each honest node of each simulated federation to hold evidence and to have frozen the log, in virtual time. An
/// error if one does not, or if what was settled weighs otherwise than before.
pub fn in_simulator(nodes: usize, seeds: impl IntoIterator<Item = u64>) -> anyhow::Result<Vec<Duration>> {
    let names = names(nodes);
    let members: Vec<&str> = names.iter().map(String::as_str).collect();
    let honest = &members[..nodes - 1];
    let mut times = Vec::new();
    for seed in seeds {
        let mut net = Sim::with(&members, seed, Weather::default(), Parameters::standard());
        net.settle();
        for number in 0..SETTLED {
            net.adds(FORGER, pdq(number));
        }
        net.settle();
        ensure!(honest.iter().all(|node| net.node(node).settled(FORGER) == SETTLED), "seed {seed}: not settled");
        net.crash(FORGER);
        let messages = {
            let node = net.node(honest[0]);
            let federation = node.engine().context("an honest node runs")?.federation();
            let secret = &net.founding().keys[&log().member].log;
            let forger = Forger { federation, log: log(), secret, leaves: node.disk.leaves(log()) };
            [1, 2].map(|history| forger.history(net.now(), &tail(history)))
        };
        for (place, node) in honest.iter().enumerate() {
            // Over the line of a neighbour: that of a node that is gone carries nothing.
            net.inject(honest[(place + 1) % honest.len()], node, messages[place % 2].clone());
        }
        let mut waiting = honest.to_vec();
        let (mut passed, step) = (Duration::ZERO, Duration::from_millis(1));
        while !waiting.is_empty() {
            ensure!(passed < PATIENCE, "seed {seed}: {waiting:?} have not convicted the forger");
            net.run(step);
            passed += step;
            waiting.retain(|node| {
                let holds = net.node(node).disk.evidence(Accused::Log(log())).is_ok_and(|evidence| evidence.is_some());
                if holds {
                    times.push(passed);
                }
                !holds
            });
        }
        net.run(Duration::from_secs(15));
        for node in honest {
            let weighs = |hash: ContentHash| !net.matches(node, hash).is_empty();
            ensure!((0..SETTLED).all(|number| weighs(pdq(number))), "seed {seed}: {node} forgets what was settled");
            let tails = tail(1).into_iter().chain(tail(2));
            ensure!(!tails.into_iter().any(weighs), "seed {seed}: {node} acts on what is not settled");
        }
    }
    Ok(times)
}

/// The same on real processes, for one federation, by the clock of this machine.
pub async fn on_processes(folder: &Path, program: &Program, nodes: usize) -> anyhow::Result<Vec<Duration>> {
    let names = names(nodes);
    let members: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_str(), "FR")).collect();
    let mut cluster = Cluster::found(folder, program, &members)?;
    cluster.start_all()?;
    cluster.connected(PATIENCE * 2).await?;
    let (forger, honest) = (nodes - 1, 0..nodes - 1);
    for (at, first) in [(forger, 0), (0, SETTLED)] {
        let statements = (first..first + SETTLED).map(|number| StatementForm::add(&pdq(number), "demo")).collect();
        let mut client = Client::admin(&cluster.member(at).folder).await?;
        let request = StatementsRequest { statements, wait: None };
        let answer: PublishAnswer = client.post("/v1/statements?wait=settled", &request).await?;
        ensure!(answer.settled == Some(true), "not settled: {:?}", answer.unsettled);
    }
    cluster.agree(PATIENCE).await?;
    settled(&cluster, honest.clone()).await?;
    cluster.stop(forger)?;
    let settled: Vec<ContentHash> = (0..2 * SETTLED).map(pdq).collect();
    let before = verdicts(&cluster, honest.clone(), &settled).await?;

    let forgery = Forgery::of(&cluster, forger, honest.clone()).await?;
    let begun = Instant::now();
    forgery.spread();
    let waits = honest.clone().map(|at| convicted(&cluster, at, begun));
    let times = futures::future::try_join_all(waits).await?;

    for at in honest.clone() {
        let mut client = Client::admin(&cluster.member(at).folder).await?;
        let answer: ExportAnswer = client.post("/v1/export", &ExportRequest { openings: false }).await?;
        ensure!(answer.evidence.iter().any(|file| file.file.contains(FORGER)), "{at} holds no evidence");
    }
    let after = verdicts(&cluster, honest.clone(), &settled).await?;
    ensure!(before == after, "verdicts that rest on settled statements have changed");
    let tails: Vec<_> = tail(1).into_iter().chain(tail(2)).collect();
    let of_tails = verdicts(&cluster, honest, &tails).await?;
    ensure!(of_tails.iter().flatten().all(|decision| *decision == Decision::None), "a tail that is not settled counts");
    Ok(times)
}

/// Waits until each node knows everything that it holds to be settled.
async fn settled(cluster: &Cluster, nodes: std::ops::Range<usize>) -> anyhow::Result<()> {
    let begun = Instant::now();
    for at in nodes {
        while cluster.member(at).status().await?.logs.iter().any(|log| log.settled < log.size) {
            ensure!(begun.elapsed() < PATIENCE, "not settled everywhere");
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

async fn verdicts(
    cluster: &Cluster,
    nodes: std::ops::Range<usize>,
    hashes: &[ContentHash],
) -> anyhow::Result<Vec<Vec<Decision>>> {
    let mut all = Vec::new();
    for at in nodes {
        let mut client = Client::query(&cluster.member(at).folder).await?;
        let hashes = hashes.iter().map(ToString::to_string).collect();
        let request = MatchRequest { hashes, max_distance: Some(0), explain: false };
        let answer: MatchAnswer = client.post("/v1/match", &request).await?;
        all.push(answer.decisions);
    }
    Ok(all)
}

/// Waits until a node holds evidence and has frozen the log.
async fn convicted(cluster: &Cluster, at: usize, begun: Instant) -> anyhow::Result<Duration> {
    let mut client = Client::admin(&cluster.member(at).folder).await?;
    loop {
        let status: StatusAnswer = client.get("/v1/status").await?;
        if status.logs.iter().any(|log| log.member == FORGER && log.forked) {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < PATIENCE, "{} has not convicted the forger", cluster.member(at).id);
        sleep(Duration::from_millis(1)).await;
    }
}

/// Two histories, and a line to each victim.
struct Forgery {
    lines: Vec<(Net, Vec<u8>)>,
    mailbox: Arc<Mailbox<hashmesh_protocol::engine::Input>>,
}

impl Forgery {
    async fn of(cluster: &Cluster, forger: usize, victims: std::ops::Range<usize>) -> anyhow::Result<Self> {
        let folder = &cluster.member(forger).folder;
        let genesis = Found::in_files(&[folder.genesis()])?.genesis()?;
        let federation = Federation::new(&genesis);
        let secrets = keys::load(folder)?;
        let store = DiskStore::open(&folder.store())?;
        let stored = store.archive().bundles(log(), 0, u64::MAX, usize::MAX)?;
        let leaves =
            bundle::entries(&stored.leaves).map(|leaf| Ok(leaf?.to_vec())).collect::<anyhow::Result<Vec<_>>>()?;
        let forged = Forger { federation: &federation, log: log(), secret: &secrets.log, leaves: &leaves };
        let histories = [1, 2].map(|history| forged.history(clock::now(), &tail(history)));
        let mailbox = Arc::new(Mailbox::default());
        let reading = Arc::clone(&mailbox);
        // What the victims say is of no interest; a full mailbox would keep the lines waiting.
        thread::spawn(move || while reading.receive(Duration::from_secs(1)).is_some() {});
        let config = Config::load(&folder.config())?;
        let mut lines = Vec::new();
        for at in victims {
            let victim = cluster.member(at);
            let peers = config.peers.iter().filter(|(member, _)| member.as_str() == victim.id);
            let peers: BTreeMap<_, _> = peers.map(|(member, addresses)| (*member, addresses.clone())).collect();
            let setup = Setup {
                governance: Arc::new(Current::new(Stored::new(&genesis, clock::now()))),
                node: secrets.node.clone(),
                config: Config { listen: Vec::new(), peers, ..config.clone() },
                mailbox: mailbox.clone(),
                submitters: Arc::default(),
                archive: store.archive().clone(),
                heads: Arc::new(ArcSwap::default()),
            };
            lines.push((Net::start(setup).await?, histories[at % 2].clone()));
            let begun = Instant::now();
            while !victim.status().await?.peers.iter().any(|peer| peer.member == FORGER) {
                ensure!(begun.elapsed() < PATIENCE, "the forger cannot reach {}", victim.id);
                sleep(Duration::from_millis(20)).await;
            }
        }
        // Gossip is sent to those whose subscriptions have been heard, a moment after they are connected.
        sleep(Duration::from_secs(2)).await;
        Ok(Self { lines, mailbox })
    }

    fn spread(&self) {
        for (net, history) in &self.lines {
            net.gossip(history.clone());
        }
    }
}

impl Drop for Forgery {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}
