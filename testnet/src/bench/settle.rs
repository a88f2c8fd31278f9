//! How soon what a member says is settled: seven nodes on loopback, one statement at a time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use hashmesh::api::form::{PublishAnswer, StatementForm, StatementsRequest};
use hashmesh::client::Client;
use hashmesh_protocol::engine::ROUND;
use serde_json::json;

use crate::cluster::{Cluster, Program};
use crate::sim::pdq;

const MEMBERS: [(&str, &str, &str); 7] = [
    ("one", "One", "FR"),
    ("two", "Two", "DE"),
    ("three", "Three", "US"),
    ("four", "Four", "JP"),
    ("five", "Five", "BR"),
    ("six", "Six", "KE"),
    ("seven", "Seven", "IN"),
];

/// How soon statements are settled.
#[derive(Args, Debug)]
pub struct Settle {
    /// Statements, one after the other.
    #[arg(long, default_value_t = 30)]
    count: u64,
}

impl Settle {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let folder = tempfile::Builder::new().prefix("hashmesh-bench-").tempdir()?;
        let mut cluster = Cluster::found(folder.path(), &Program::own()?, &MEMBERS)?;
        cluster.start_all()?;
        cluster.connected(Duration::from_secs(60)).await?;
        let mut client = Client::admin(&cluster.member(0).folder).await?;
        let (mut signed, mut settled) = (Vec::new(), Vec::new());
        // The first makes the streams, and finds out what each witness cosigned last.
        for number in 0..=self.count {
            // An idle log is settled at once, a busy one once a round.
            tokio::time::sleep(ROUND + Duration::from_millis(200)).await;
            let statements = vec![StatementForm::add(&pdq(number), "demo")];
            let begun = Instant::now();
            let answer: PublishAnswer =
                client.post("/v1/statements?wait=settled", &StatementsRequest { statements, wait: None }).await?;
            ensure!(answer.settled == Some(true), "not settled: {:?}", answer.unsettled);
            let whole = begun.elapsed();
            // A second call that waits for the signature alone tells how much of that was settling.
            tokio::time::sleep(ROUND + Duration::from_millis(200)).await;
            let statements = vec![StatementForm::add(&pdq(1 << 32 | number), "demo")];
            let begun = Instant::now();
            let _answer: PublishAnswer =
                client.post("/v1/statements", &StatementsRequest { statements, wait: None }).await?;
            if number > 0 {
                signed.push(begun.elapsed());
                settled.push(whole);
            }
        }
        let median = |times: &mut Vec<Duration>| -> anyhow::Result<f64> {
            times.sort();
            Ok(times.get(times.len() / 2).context("count is at least 1")?.as_secs_f64() * 1000.0)
        };
        let (signed_ms, whole_ms) = (median(&mut signed)?, median(&mut settled)?);
        let last = settled.last().map_or(0.0, |time| time.as_secs_f64() * 1000.0);
        println!(
            "{}",
            json!({
                "bench": "settle", "nodes": MEMBERS.len(), "count": self.count,
                "signed_ms": signed_ms, "published_to_settled_ms": whole_ms,
                "checkpoint_to_settled_ms": whole_ms - signed_ms, "slowest_ms": last,
            })
        );
        Ok(())
    }
}
