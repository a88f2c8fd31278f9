//! How long a node with a long list takes from its start until it answers, and what memory and disk it takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use hashmesh::client::Client;
use hashmesh::folder::Folder;
use hashmesh_protocol::content_hash::{ContentHash, HashKind};
use serde_json::{Value, json};

use super::alone::{TWO, alone};
use super::list::{self, List};
use super::measure::{folder_size, median, memory};
use crate::cluster::Cluster;

/// How fast a node with a long list starts.
#[derive(Args, Debug)]
pub struct Start {
    /// Hashes in the list, a quarter each of PDQ, MD5, SHA-1 and SHA-256.
    #[arg(long, default_value_t = 10_000_000)]
    count: u64,
    /// How often it is started; medians count.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

impl Start {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let folder = tempfile::Builder::new().prefix("hashmesh-bench-").tempdir()?;
        let mut cluster = alone(&folder.path().join("nodes"), &TWO).await?;
        let path = folder.path().join("list");
        list::write(&path, List::Mixed.hashes(self.count, 1))?;
        let begun = Instant::now();
        cluster.member(0).hashmesh(&["import", "--label", "demo", &path.to_string_lossy()])?;
        eprintln!("imported in {:.2?}", begun.elapsed());
        let process = |cluster: &Cluster| cluster.member(0).pid().map(|pid| pid.to_string()).context("it runs");
        let after_import = memory(&process(&cluster)?, "VmRSS")?;
        let last: Vec<ContentHash> =
            List::Mixed.hashes(self.count, 1).skip(self.count.saturating_sub(4) as usize).collect();
        let (mut exact, mut near, mut resident) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.runs {
            cluster.stop(0)?;
            let node = cluster.member(0).folder.clone();
            let of = |pdq: bool| last.iter().copied().find(|hash| (hash.kind() == HashKind::Pdq) == pdq);
            let (other, pdq) = (of(false).context("four kinds")?, of(true).context("four kinds")?);
            let begun = Instant::now();
            let asking = tokio::spawn(async move {
                let exact = answered(&node, other, begun).await?;
                anyhow::Ok((exact, answered(&node, pdq, begun).await?))
            });
            let started = tokio::task::spawn_blocking(move || cluster.start(0).map(|()| cluster));
            let answered = asking.await??;
            cluster = started.await??;
            exact.push(answered.0);
            near.push(answered.1);
            resident.push(memory(&process(&cluster)?, "VmRSS")? as f64);
            eprintln!("exact after {:.2} s, near after {:.2} s", answered.0, answered.1);
        }
        let disk = folder_size(&cluster.member(0).folder.store())?;
        println!(
            "{}",
            json!({
                "bench": "start", "count": self.count, "runs": self.runs,
                "exact_s": median(&mut exact), "near_s": median(&mut near),
                "memory_per_statement_after_import": after_import / self.count,
                "memory_per_statement": median(&mut resident) as u64 / self.count,
                "disk_per_statement": disk / self.count,
            })
        );
        Ok(())
    }
}

/// Asks for a hash of the list until there is an answer, which must be that it is there; how long that took.
async fn answered(node: &Folder, hash: ContentHash, begun: Instant) -> anyhow::Result<f64> {
    while begun.elapsed() < Duration::from_secs(300) {
        if let Ok(mut client) = Client::query(node).await
            && let Ok(answer) = client.get::<Value>(&format!("/v1/match/{hash}")).await
        {
            ensure!(answer["decisions"][0] != "none", "{hash}: {answer}");
            return Ok(begun.elapsed().as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("no answer about {hash}")
}
