//! How long queries take while a list is imported, beside how long they take when nothing else happens.
//!
//! As an operator would set it up who has two cores to give: the threads that answer queries, and whoever asks, on one; the
//! driver, everything else of the node, and the import on the other.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Args;
use hashmesh_protocol::content_hash::ContentHash;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::json;

use super::alone::{TWO, alone};
use super::list::{self, List};
use super::measure::{percentile, pin};

/// How long queries take while a list is imported.
#[derive(Args, Debug)]
pub struct Busy {
    /// Hashes that are there before.
    #[arg(long, default_value_t = 1_000_000)]
    before: u64,
    /// Hashes that are imported meanwhile.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Seconds of asking when nothing else happens.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

impl Busy {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let folder = tempfile::Builder::new().prefix("hashmesh-bench-").tempdir()?;
        let cluster = alone(&folder.path().join("nodes"), &TWO).await?;
        let member = cluster.member(0);
        let lists = [(1, self.before), (2, self.count)].map(|(seed, count)| {
            let path = folder.path().join(format!("list-{seed}"));
            list::write(&path, List::Mixed.hashes(count, seed)).map(|()| path)
        });
        let [before, meanwhile] = lists;
        member.hashmesh(&["import", "--label", "demo", &before?.to_string_lossy()])?;
        spread(member.pid().context("it runs")?)?;
        let socket = member.folder.query_socket();
        let questions: Vec<Vec<u8>> =
            List::Mixed.hashes(self.before.min(100_000), 1).map(|hash| question(&hash)).collect();
        let ask = |stop: &dyn Fn() -> bool| -> anyhow::Result<Vec<f64>> {
            pin(0)?;
            let mut stream = UnixStream::connect(&socket)?;
            let (mut times, mut answer) = (Vec::new(), vec![0; 1 << 16]);
            for question in questions.iter().cycle() {
                let begun = Instant::now();
                stream.write_all(question)?;
                let read = stream.read(&mut answer)?;
                times.push(begun.elapsed().as_secs_f64() * 1e6);
                ensure!(answer[..read].starts_with(b"HTTP/1.1 200"), "a query failed");
                if stop() {
                    break;
                }
            }
            times.sort_by(f64::total_cmp);
            Ok(times)
        };
        let begun = Instant::now();
        let idle =
            std::thread::scope(|scope| scope.spawn(|| ask(&|| begun.elapsed().as_secs_f64() > self.seconds)).join());
        let idle = idle.expect("asking does not panic")?;
        let done = AtomicBool::new(false);
        let path = meanwhile?;
        let (busy, imported) = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(&|| done.load(Ordering::Relaxed)));
            let importing = scope.spawn(|| {
                pin(1)?;
                let begun = Instant::now();
                let imported = member.hashmesh(&["import", "--label", "demo", &path.to_string_lossy()]);
                done.store(true, Ordering::Relaxed);
                imported.map(|_| begun.elapsed())
            });
            (asking.join(), importing.join())
        });
        let (busy, imported) = (busy.expect("asking does not panic")?, imported.expect("importing does not panic")?);
        println!(
            "{}",
            json!({
                "bench": "busy", "before": self.before, "count": self.count,
                "imported_s": imported.as_secs_f64(), "failed": 0,
                "idle_queries": idle.len(), "idle_p50_us": percentile(&idle, 0.5), "idle_p99_us": percentile(&idle, 0.99),
                "busy_queries": busy.len(), "busy_p50_us": percentile(&busy, 0.5), "busy_p99_us": percentile(&busy, 0.99),
                "busy_worst_us": percentile(&busy, 1.0),
                "p99_ratio": percentile(&busy, 0.99) / percentile(&idle, 0.99),
            })
        );
        Ok(())
    }
}

fn question(hash: &ContentHash) -> Vec<u8> {
    format!("GET /v1/match/{hash} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes()
}

/// Puts the threads of a node that answer queries on core 0, and all others on core 1.
fn spread(process: u32) -> anyhow::Result<()> {
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let path = thread?.path();
        let name = fs::read_to_string(path.join("comm"))?;
        let id = path.file_name().and_then(|id| id.to_str()?.parse().ok()).and_then(Pid::from_raw);
        let mut set = CpuSet::new();
        set.set(usize::from(name.trim() != "query"));
        sched_setaffinity(Some(id.context("a thread has a number")?), &set)?;
    }
    Ok(())
}
