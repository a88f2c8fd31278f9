//! How fast a node answers over its Unix socket, beside Redis on the same cores in the same run.
//!
//! One node with a list of random SHA-256 hashes; one client thread with many connections, which waits for each answer before
//! it asks on that connection again. Half of the questions are about members of the list.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use hashmesh_protocol::content_hash::{ContentHash, HashKind};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::alone::{TWO, alone};
use super::list;
use super::measure::{median, percentile, pin, unpin};

/// How fast a node answers over its socket.
#[derive(Args, Debug)]
pub struct Socket {
    /// Hashes in the list.
    #[arg(long, default_value_t = 1_000_000)]
    count: u32,
    /// Seconds of each pass.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Passes; medians count.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where the server runs: on the client's core, or anywhere (both cores).
    #[arg(long, default_value = "same")]
    cores: Cores,
    /// Also measure Redis, if redis-server and redis-benchmark are installed.
    #[arg(long)]
    redis: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Cores {
    /// Client and server on core 0.
    Same,
    /// Wherever the system puts them.
    Any,
}

/// What one message asks, and how.
#[derive(Clone, Copy, Debug)]
enum Form {
    Get,
    Post,
    Json,
    Cbor,
}

/// Hashes in a message of [`Form::Json`] and [`Form::Cbor`].
const BATCH: usize = 1000;

impl Form {
    fn hashes(self) -> usize {
        match self {
            Self::Get | Self::Post => 1,
            Self::Json | Self::Cbor => BATCH,
        }
    }

    fn request(self, hashes: &[ContentHash]) -> Vec<u8> {
        let post = |kind: &str, body: Vec<u8>| {
            let head = format!(
                "POST /v1/match HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            [head.into_bytes(), body].concat()
        };
        match self {
            Self::Get => format!("GET /v1/match/{} HTTP/1.1\r\nhost: x\r\n\r\n", hashes[0]).into_bytes(),
            Self::Post | Self::Json => {
                let texts: Vec<String> = hashes.iter().map(ToString::to_string).collect();
                post("application/json", json!({ "hashes": texts }).to_string().into_bytes())
            }
            Self::Cbor => {
                // {"hashes": [byte strings]}
                let mut body = b"\xa1\x66hashes\x99".to_vec();
                body.extend((hashes.len() as u16).to_be_bytes());
                for hash in hashes {
                    body.extend([0x58, 33, hash.kind() as u8]);
                    body.extend(hash.value());
                }
                post("application/cbor", body)
            }
        }
    }
}

impl Socket {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if self.cores == Cores::Same {
            pin(0)?;
        }
        let folder = tempfile::Builder::new().prefix("hashmesh-bench-").tempdir()?;
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let any = |random: &mut ChaCha8Rng| {
            ContentHash::new(HashKind::Sha256, &random.random::<[u8; 32]>()).expect("32 bytes")
        };
        let list: Vec<ContentHash> = (0..self.count).map(|_| any(&mut random)).collect();
        let queries: Vec<ContentHash> = (0..200_000)
            .map(|at| if at % 2 == 0 { list[random.random_range(0..list.len())] } else { any(&mut random) })
            .collect();
        let redis = if self.redis { Some(Redis::start(folder.path(), list.len())?) } else { None };
        let socket = {
            let mut cluster = alone(&folder.path().join("nodes"), &TWO).await?;
            let path = folder.path().join("list");
            list::write(&path, list.iter().copied())?;
            cluster.member(0).hashmesh(&["import", "--label", "demo", &path.to_string_lossy()])?;
            // Restarted, so that what the import did beside is over.
            cluster.stop(0)?;
            cluster.start(0)?;
            let socket = cluster.member(0).folder.query_socket();
            (cluster, socket)
        };
        for (form, connections) in [
            (Form::Get, 1),
            (Form::Get, 50),
            (Form::Post, 1),
            (Form::Post, 50),
            (Form::Json, 1),
            (Form::Json, 8),
            (Form::Cbor, 1),
            (Form::Cbor, 8),
        ] {
            let mut rates = Vec::new();
            let (mut p50, mut p99, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..self.runs {
                let mut times = self.pass(&socket.1, form, connections, &queries).await?;
                rates.push((times.len() * form.hashes()) as f64 / self.seconds);
                times.sort_by(f64::total_cmp);
                p50.push(percentile(&times, 0.5));
                p99.push(percentile(&times, 0.99));
                if let Some(redis) = &redis {
                    let (clients, pipeline) = if form.hashes() > 1 { (50, 16) } else { (connections, 1) };
                    theirs.push(redis.benchmark(clients, pipeline)?);
                }
            }
            let rate = median(&mut rates);
            let mut line = json!({
                "kind": "hashmesh:socket", "form": format!("{form:?}").to_lowercase(), "connections": connections,
                "hashes_per_message": form.hashes(), "n": self.count, "cores": format!("{:?}", self.cores).to_lowercase(),
                "runs": self.runs, "hashes_per_s": rate.round(), "p50_us": median(&mut p50), "p99_us": median(&mut p99),
            });
            if redis.is_some() {
                let theirs = median(&mut theirs);
                line["redis_per_s"] = json!(theirs.round());
                line["ratio"] = json!(rate / theirs);
            }
            println!("{line}");
        }
        if self.cores == Cores::Same {
            unpin()?;
        }
        Ok(())
    }

    /// Asks for a while; the time of each message in microseconds.
    async fn pass(
        &self,
        socket: &Path,
        form: Form,
        connections: usize,
        queries: &[ContentHash],
    ) -> anyhow::Result<Vec<f64>> {
        let messages: Vec<Vec<u8>> =
            queries.chunks_exact(form.hashes()).take(20_000).map(|hashes| form.request(hashes)).collect();
        let (socket, seconds) = (socket.to_owned(), self.seconds);
        // A thread of its own with the simplest runtime: as little as possible between the clock and the socket.
        let asking = move || -> anyhow::Result<Vec<f64>> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let messages = &messages;
            runtime.block_on(async {
                let until = Instant::now() + Duration::from_secs_f64(seconds);
                let asking = (0..connections).map(|first| {
                    let socket = socket.clone();
                    async move {
                        let mut stream = UnixStream::connect(socket).await?;
                        let (mut times, mut answer) = (Vec::new(), Vec::with_capacity(1 << 16));
                        for message in messages.iter().cycle().skip(first * 97 % messages.len()) {
                            let begun = Instant::now();
                            stream.write_all(message).await?;
                            read_answer(&mut stream, &mut answer).await?;
                            times.push(begun.elapsed().as_secs_f64() * 1e6);
                            if Instant::now() > until {
                                break;
                            }
                        }
                        anyhow::Ok(times)
                    }
                });
                Ok(futures::future::try_join_all(asking).await?.concat())
            })
        };
        tokio::task::spawn_blocking(asking).await?
    }
}

/// Reads one whole answer, which must be a good one.
async fn read_answer(stream: &mut UnixStream, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    answer.clear();
    loop {
        ensure!(stream.read_buf(answer).await? > 0, "the node closed the connection");
        let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&answer[..head])?;
        ensure!(text.starts_with("HTTP/1.1 200"), "{text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).context("a length")?;
        let whole = head + 4 + length.parse::<usize>()?;
        while answer.len() < whole {
            ensure!(stream.read_buf(answer).await? > 0, "the node closed the connection");
        }
        return Ok(());
    }
}

/// A Redis with the same hashes in a set.
struct Redis {
    server: Child,
    socket: String,
}

impl Redis {
    /// What `redis-benchmark` asks about: a prefix and twelve random digits, 32 bytes in all; half of them are in the set.
    const PREFIX: &str = "hashmesh-benchmark-k";

    fn start(folder: &Path, count: usize) -> anyhow::Result<Self> {
        let socket = folder.join("redis.sock").to_string_lossy().into_owned();
        let server = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", &socket, "--save", "", "--appendonly", "no", "--daemonize", "no"])
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server")?;
        let redis = Self { server, socket };
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(&redis.socket).is_err() {
            ensure!(begun.elapsed() < Duration::from_secs(10), "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut pipe = Command::new("redis-cli")
            .args(["-s", &redis.socket, "--pipe"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("redis-cli")?;
        let mut input = std::io::BufWriter::new(pipe.stdin.take().context("a pipe")?);
        for number in 0..count {
            let key = format!("{}{:012}", Self::PREFIX, number * 2);
            write!(input, "*3\r\n$4\r\nSADD\r\n$4\r\nlist\r\n${}\r\n{key}\r\n", key.len())?;
        }
        drop(input);
        ensure!(pipe.wait()?.success(), "redis-cli");
        Ok(redis)
    }

    /// Requests a second.
    fn benchmark(&self, clients: usize, pipeline: usize) -> anyhow::Result<f64> {
        let count = if pipeline > 1 {
            2_000_000
        } else if clients > 1 {
            300_000
        } else {
            100_000
        };
        let (clients, pipeline, count) = (clients.to_string(), pipeline.to_string(), count.to_string());
        let key = format!("{}__rand_int__", Self::PREFIX);
        let output = Command::new("redis-benchmark")
            .args(["-s", &self.socket, "-c", &clients, "-P", &pipeline, "-n", &count, "-r", "2000000", "--csv"])
            .args(["SISMEMBER", "list", &key])
            .output()
            .context("redis-benchmark")?;
        let text = String::from_utf8(output.stdout)?;
        let rate =
            text.lines().last().and_then(|line| line.split("\",\"").nth(1)).context("redis-benchmark's figures")?;
        rate.parse().with_context(|| format!("redis-benchmark: {text}"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It holds nothing that anybody needs.
        let _gone = self.server.kill();
        let _gone = self.server.wait();
    }
}
