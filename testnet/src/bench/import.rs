//! How fast a list becomes durable, signed statements: on one node alone, and until four nodes hold them all.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use hashmesh::client::Client;
use serde_json::json;

use super::alone::{FOUR, sign_alone};
use super::list::{self, List};
use super::measure::{folder_size, memory};
use crate::cluster::{Cluster, Member, Program};

/// How fast lists are imported.
#[derive(Args, Debug)]
pub struct Import {
    /// Hashes in the list.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Nodes: 1 (alone, of a federation of four) or up to 4.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    nodes: u8,
    /// What the list is made of.
    #[arg(long, default_value = "mixed")]
    list: List,
    /// How often; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// One run.
struct Run {
    /// Until the command line said that all is durable and signed.
    imported: Duration,
    /// Until all nodes held the same.
    agreed: Duration,
    cpu: f64,
    peak_memory: u64,
    disk: u64,
}

impl Import {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut runs = Vec::new();
        for number in 0..self.runs {
            runs.push(self.once(number as u64).await?);
            let last = runs.last().context("just pushed")?;
            eprintln!("run {}: imported in {:.2?}, everywhere after {:.2?}", number + 1, last.imported, last.agreed);
        }
        runs.sort_by_key(|run| run.agreed);
        let median = &runs[runs.len() / 2];
        let rate = |time: Duration| (self.count as f64 / time.as_secs_f64()).round();
        println!(
            "{}",
            json!({
                "bench": "import", "nodes": self.nodes, "list": format!("{:?}", self.list).to_lowercase(),
                "count": self.count, "runs": self.runs,
                "imported_s": median.imported.as_secs_f64(), "statements_per_s": rate(median.imported),
                "everywhere_s": median.agreed.as_secs_f64(), "statements_per_s_everywhere": rate(median.agreed),
                "cpu_s_all_nodes": median.cpu,
                "peak_memory_mb": median.peak_memory / 1_000_000,
                "memory_per_statement": median.peak_memory / self.count,
                "disk_per_statement": median.disk / self.count,
            })
        );
        Ok(())
    }

    async fn once(&self, seed: u64) -> anyhow::Result<Run> {
        let folder = tempfile::Builder::new().prefix("hashmesh-bench-").tempdir()?;
        let list = folder.path().join("list");
        list::write(&list, self.list.hashes(self.count, seed))?;
        let mut cluster = Cluster::found(folder.path(), &Program::own()?, &FOUR)?;
        for at in 0..usize::from(self.nodes) {
            cluster.start(at)?;
        }
        if self.nodes == 1 {
            sign_alone(cluster.member(0)).await?;
        } else {
            cluster.connected(Duration::from_secs(30)).await?;
        }
        let mut import = cluster.member(0).command(&["--json", "import", "--label", "demo"]);
        import.arg(&list).stdout(std::process::Stdio::piped());
        let begun = Instant::now();
        let output = tokio::task::spawn_blocking(move || import.output()).await??;
        let imported = begun.elapsed();
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let totals: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        ensure!(totals["added"] == self.count, "{totals}");
        if self.nodes > 1 {
            everywhere(&cluster, usize::from(self.nodes), self.count).await?;
        }
        let agreed = begun.elapsed();
        let nodes = || cluster.members().iter().take(usize::from(self.nodes));
        let mut run = Run { imported, agreed, cpu: 0.0, peak_memory: 0, disk: 0 };
        for node in nodes() {
            let (cpu, memory) = usage(node)?;
            run.cpu += cpu;
            run.peak_memory = run.peak_memory.max(memory);
            run.disk = run.disk.max(folder_size(&node.folder.store())?);
        }
        Ok(run)
    }
}

/// Waits until every node holds everything.
async fn everywhere(cluster: &Cluster, nodes: usize, count: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut clients = Vec::new();
    for member in &cluster.members()[..nodes] {
        clients.push(Client::admin(&member.folder).await?);
    }
    loop {
        let mut roots = Vec::new();
        for client in &mut clients {
            let status: hashmesh::api::form::StatusAnswer = client.get("/v1/status").await?;
            let log = status.logs.into_iter().find(|log| log.member == "one").context("every member has a log")?;
            roots.push((log.size, log.root));
        }
        if roots.iter().all(|root| *root == roots[0] && root.0 == count) {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(600), "the nodes do not agree");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// CPU seconds and peak memory of a node's process, as the kernel counts them.
fn usage(member: &Member) -> anyhow::Result<(f64, u64)> {
    let pid = member.pid().context("it runs")?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("the name is in brackets")?.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    // A hundred ticks a second on every Linux that user space can see.
    Ok((ticks / 100.0, memory(&pid.to_string(), "VmHWM")?))
}
