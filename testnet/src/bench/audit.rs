//! How fast an export is written and verified, and a proof: one member's log, with openings.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use hashmesh::audit::ExportFolder;
use hashmesh_protocol::audit::{Outcome, Report, verify};
use hashmesh_protocol::digest::NetworkId;
use hashmesh_protocol::proof::Proof;
use serde_json::json;

use super::alone::{FOUR, alone};
use super::list::{self, List};
use super::measure::{median, memory};
use crate::cluster::Member;

/// How fast an export is written and verified, and a proof.
#[derive(Args, Debug)]
pub struct Audit {
    /// Statements in the log: a quarter each of PDQ, MD5, SHA-1 and SHA-256.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// How often it is verified, and a statement proved; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

impl Audit {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let folder = tempfile::Builder::new().prefix("hashmesh-bench-").tempdir()?;
        let cluster = alone(folder.path(), &FOUR).await?;
        let member = cluster.member(0);
        let path = folder.path().join("list");
        list::write(&path, List::Mixed.hashes(self.count, 1))?;
        member.hashmesh(&["import", "--label", "demo", text(&path)?])?;
        let out = folder.path().join("export");
        let exported = timed(|| member.hashmesh(&["audit", "export", "--with-openings", "--out", text(&out)?]))?;
        let again = timed(|| member.hashmesh(&["audit", "export", "--with-openings", "--out", text(&out)?]))?;
        println!(
            "{}",
            json!({
                "bench": "audit-export", "count": self.count, "export_s": exported.as_secs_f64(),
                "statements_per_s": self.rate(exported), "continue_s": again.as_secs_f64(),
                "bytes_per_statement": size(&out)? / self.count, "files": count(&out)?,
            })
        );
        let network: NetworkId = member.status().await?.federation.network.parse()?;
        self.verify(&out, network)?;
        self.prove(member, folder.path(), network)
    }

    fn rate(&self, time: Duration) -> f64 {
        (self.count as f64 / time.as_secs_f64()).round()
    }

    fn verify(&self, out: &Path, network: NetworkId) -> anyhow::Result<()> {
        let mut times = Vec::new();
        for _ in 0..self.runs {
            let begun = Instant::now();
            let report: Report = verify(&ExportFolder::open(out, |_| ())?, Some(network))?;
            times.push(begun.elapsed().as_secs_f64());
            ensure!(report.outcome() == Outcome::Verified, "it does not verify: {:?}", report.findings);
            let opened: u64 = report.logs.iter().map(|log| log.tally.opened).sum();
            ensure!(opened == self.count, "{opened} openings");
        }
        let median = median(&mut times);
        println!(
            "{}",
            json!({
                "bench": "audit-verify", "count": self.count, "runs": self.runs, "verify_s": median,
                "statements_per_s": (self.count as f64 / median).round(),
                "peak_memory_mb": memory("self", "VmHWM")? / 1_000_000,
            })
        );
        Ok(())
    }
}

impl Audit {
    /// Proves the statement in the middle, by the command, and checks the proof.
    fn prove(&self, member: &Member, folder: &Path, network: NetworkId) -> anyhow::Result<()> {
        let (index, out) = (self.count / 2, folder.join("proofs"));
        let place = format!("{}/0/{index}", member.id);
        let (mut proving, mut checking, mut bytes) = (Vec::new(), Vec::new(), 0);
        for _ in 0..self.runs {
            let proved = timed(|| member.hashmesh(&["audit", "prove", "--place", &place, "--out", text(&out)?]))?;
            proving.push(proved.as_secs_f64());
            let proof = fs::read_to_string(out.join(format!("{}-0-{index}.tlog-proof", member.id)))?;
            let begun = Instant::now();
            Proof::parse(&proof)?.check(Some(network))?;
            checking.push(begun.elapsed().as_secs_f64());
            bytes = proof.len();
        }
        println!(
            "{}",
            json!({
                "bench": "audit-prove", "count": self.count, "runs": self.runs, "proof_bytes": bytes,
                "prove_s": median(&mut proving), "check_s": median(&mut checking),
            })
        );
        Ok(())
    }
}

fn timed(work: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("the temporary folder has a name that is no text")
}

/// The bytes of all files in a folder.
fn size(folder: &Path) -> anyhow::Result<u64> {
    each(folder, &|metadata| metadata.len())
}

/// The number of all files in a folder.
fn count(folder: &Path) -> anyhow::Result<u64> {
    each(folder, &|_| 1)
}

fn each(folder: &Path, of: &dyn Fn(fs::Metadata) -> u64) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { each(&entry.path(), of)? } else { of(metadata) };
    }
    Ok(sum)
}
