//! How fast hashes are matched in this process: the same data, the same questions and the same form of result as the scripts
//! that measure other libraries, so that both can be run in turn and set side by side.

use std::collections::HashMap;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use hashmesh::index::near::Near;
use hashmesh::pages::want_huge;
use hashmesh_protocol::catalog::{Catalog, ContentId, Curator};
use hashmesh_protocol::content_hash::{ContentHash, HashKind};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::measure::{median, memory, percentile, pin, processor_time};
use super::statements::adds;

/// How fast hashes are matched, in process.
#[derive(Args, Debug)]
pub struct Match {
    /// A folder with `list.bin` (32 bytes a PDQ hash), `queries.bin`, `truth.txt` (`query number distance` a line: every true
    /// match) and `meta.json`.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Without a folder: hashes drawn at random.
    #[arg(long, default_value_t = 1_000_000)]
    count: u32,
    /// What is looked up.
    #[arg(long, default_value = "near")]
    kind: Kind,
    /// Passes over the queries; medians count.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// The most time that the passes take together, in seconds.
    #[arg(long, default_value_t = 20.0)]
    max_seconds: f64,
    /// The core to measure on; -1: any.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    cpu: i32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Kind {
    /// PDQ hashes within a distance, by the near index.
    Near,
    /// The same by a plain scan.
    Scan,
    /// SHA-256 hashes, by the exact index.
    Exact,
    /// The near index on lists of which a tenth was made to slow it down.
    Hostile,
    /// An addition or a removal until it is matched, under load.
    Fresh,
}

/// What is searched and asked.
struct Data {
    list: Vec<[u8; 32]>,
    queries: Vec<ContentHash>,
    /// For each query the true matches, number and distance, in order.
    truth: Option<Vec<Vec<(u32, u32)>>>,
    radius: u32,
    seed: Value,
    dist: Value,
}

impl Data {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).with_context(|| path.display().to_string())
        };
        let hashes = |bytes: &[u8]| bytes.as_chunks::<32>().0.to_vec();
        let meta: Value = serde_json::from_slice(&read("meta.json")?)?;
        let queries: Vec<_> = hashes(&read("queries.bin")?).iter().map(|bytes| hash(HashKind::Pdq, bytes)).collect();
        let mut truth = vec![Vec::new(); queries.len()];
        for line in String::from_utf8(read("truth.txt")?)?.lines() {
            let numbers: Result<Vec<u32>, _> = line.split(' ').map(str::parse).collect();
            let [query, number, distance] = numbers?[..] else { anyhow::bail!("truth.txt: {line:?}") };
            truth.get_mut(query as usize).context("truth.txt: no such query")?.push((number, distance));
        }
        let radius = meta["radius"].as_u64().context("meta.json: radius")? as u32;
        let (seed, dist) = (meta["seed"].clone(), meta["dist"].clone());
        Ok(Self { list: hashes(&read("list.bin")?), queries, truth: Some(truth), radius, seed, dist })
    }

    /// As the scripts make it: random hashes; half of the queries are members with up to 31 bits changed.
    fn random(count: u32) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let list: Vec<[u8; 32]> = (0..count).map(|_| random.random()).collect();
        let queries = (0..4000).map(|query| {
            let mut bytes: [u8; 32] = random.random();
            if query % 2 == 0 {
                bytes = list[random.random_range(0..list.len())];
                let flips = random.random_range(0..32);
                flip(&mut bytes, flips, &mut random);
            }
            hash(HashKind::Pdq, &bytes)
        });
        let queries = queries.collect();
        Self { list, queries, truth: None, radius: 31, seed: json!(1), dist: json!("uniform") }
    }
}

fn hash(kind: HashKind, bytes: &[u8; 32]) -> ContentHash {
    ContentHash::new(kind, bytes).expect("32 bytes")
}

/// Changes so many different bits.
fn flip(bytes: &mut [u8; 32], count: usize, random: &mut ChaCha8Rng) {
    for bit in rand::seq::index::sample(random, 256, count) {
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// A catalog in which one member has added the whole list.
struct Filled {
    curator: Curator,
    catalog: Arc<Catalog>,
    /// The time that showing the statements took, without making them.
    showing: Duration,
}

fn fill(kind: HashKind, list: &[[u8; 32]]) -> Filled {
    let (mut curator, catalog) = Catalog::told([rand::random(), rand::random()], want_huge);
    let mut showing = Duration::ZERO;
    for (piece, first) in list.chunks(4096).zip((0..).step_by(4096)) {
        let entries = adds("acme", first, piece.iter().map(|bytes| hash(kind, bytes)));
        let begun = Instant::now();
        curator.show(&entries, |_| ());
        showing += begun.elapsed();
    }
    Filled { curator, catalog, showing }
}

impl Match {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.kind == Kind::Hostile {
            return self.hostile();
        }
        let data = match &self.dir {
            Some(folder) => Data::read(folder)?,
            None => Data::random(self.count),
        };
        match self.kind {
            Kind::Near | Kind::Scan => self.near(&data),
            Kind::Exact => self.exact(&data),
            Kind::Fresh => self.fresh(&data),
            Kind::Hostile => unreachable!("returned above"),
        }
    }

    fn near(&self, data: &Data) -> anyhow::Result<()> {
        let before = memory("self", "RssAnon")?;
        let filled = fill(HashKind::Pdq, &data.list);
        let in_catalog = memory("self", "RssAnon")? - before;
        // Repeated hashes have one number in the catalog: the first of their places in the list.
        let numbers = self.numbers(data, &filled.catalog);
        let begun = Instant::now();
        let near = Near::build(filled.catalog.clone())?;
        let building = begun.elapsed();
        let status = near.status();
        pin(self.cpu)?;
        let ask = |query: &ContentHash| match self.kind {
            Kind::Scan => near.scan(query, data.radius),
            _ => near.within(query, data.radius),
        };
        let measured = self.measure(&data.queries, ask);
        let mut line = json!({
            "kind": if self.kind == Kind::Scan { "hashmesh:scan" } else { "hashmesh" },
            "what": "Near::within over a Catalog", "exact": true,
            "n": data.list.len(), "queries": data.queries.len(), "seed": data.seed, "dist": data.dist,
            "radius": data.radius, "threads": 1, "cpu": self.cpu, "runs": self.runs,
            "build_s": (filled.showing + building).as_secs_f64(),
            "index_build_s": building.as_secs_f64(), "catalog_build_s": filled.showing.as_secs_f64(),
            "index_bytes_per_hash": status.bytes as f64 / data.list.len() as f64,
            "bytes_per_hash": status.bytes as f64 / data.list.len() as f64 + 32.0,
            "process_bytes_per_hash": (in_catalog + status.bytes) as f64 / data.list.len() as f64,
            "peak_rss_mb": memory("self", "VmHWM")? / (1 << 20),
            "scans": near.status().scans,
        });
        measured.write(&mut line);
        if let Some(truth) = &data.truth {
            let (mut hit, mut wrong) = (0, 0);
            for (query, truth) in data.queries.iter().zip(truth) {
                let mut expected: Vec<_> =
                    truth.iter().map(|(number, distance)| (numbers[number], *distance)).collect();
                expected.sort_unstable();
                expected.dedup();
                let found = ask(query);
                hit += found.iter().filter(|found| expected.contains(found)).count();
                wrong += found.iter().filter(|found| !expected.contains(found)).count();
                ensure!(found.len() <= expected.len() || wrong > 0, "something was found twice");
            }
            let all: usize = truth.iter().map(Vec::len).sum();
            line["recall"] = json!(hit as f64 / all as f64);
            line["true_matches"] = json!(all);
            line["false_matches"] = json!(wrong);
        }
        println!("{line}");
        Ok(())
    }

    /// The catalog's id for each place in the list that is a true match.
    fn numbers(&self, data: &Data, catalog: &Catalog) -> HashMap<u32, ContentId> {
        let places = data.truth.iter().flatten().flatten().map(|(number, _)| *number);
        let id = |number: u32| catalog.find(&hash(HashKind::Pdq, &data.list[number as usize])).expect("added");
        places.map(|number| (number, id(number))).collect()
    }

    fn exact(&self, data: &Data) -> anyhow::Result<()> {
        let before = memory("self", "RssAnon")?;
        let filled = fill(HashKind::Sha256, &data.list);
        let used = memory("self", "RssAnon")? - before;
        pin(self.cpu)?;
        // Half hits.
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let queries: Vec<ContentHash> = (0..1_000_000)
            .map(|query| {
                let bytes =
                    if query % 2 == 0 { data.list[random.random_range(0..data.list.len())] } else { random.random() };
                hash(HashKind::Sha256, &bytes)
            })
            .collect();
        let (mut rates, mut together) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            let begun = Instant::now();
            let hits = queries.iter().filter(|query| black_box(filled.catalog.find(query)).is_some()).count();
            rates.push(queries.len() as f64 / begun.elapsed().as_secs_f64());
            ensure!(hits >= queries.len() / 2, "a member was not found");
            let begun = Instant::now();
            let hits: usize =
                queries.chunks(1000).map(|queries| filled.catalog.find_all(queries).iter().flatten().count()).sum();
            together.push(queries.len() as f64 / begun.elapsed().as_secs_f64());
            ensure!(hits >= queries.len() / 2, "a member was not found");
        }
        let bytes = filled.catalog.exact_bytes(HashKind::Sha256);
        println!(
            "{}",
            json!({
                "kind": "hashmesh:exact", "n": data.list.len(), "cpu": self.cpu, "runs": self.runs,
                "build_s": filled.showing.as_secs_f64(), "lookups_per_s": median(&mut rates),
                "lookups_together_per_s": median(&mut together),
                "bytes_per_key": bytes as f64 / data.list.len() as f64,
                "process_bytes_per_statement": used as f64 / data.list.len() as f64,
            })
        );
        Ok(())
    }

    fn hostile(&self) -> anyhow::Result<()> {
        let count = self.count as usize;
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let centre: [u8; 32] = random.random();
        let honest: Vec<[u8; 32]> = (0..count - count / 10).map(|_| random.random()).collect();
        let near_centre = |flips: usize, random: &mut ChaCha8Rng| {
            let mut bytes = centre;
            flip(&mut bytes, flips, random);
            bytes
        };
        pin(self.cpu)?;
        for attack in ["share 16 bits", "share 192 bits", "within 40 flips", "within 8 flips", "within 8 flips, 60 off"]
        {
            let mut list = honest.clone();
            for _ in 0..count / 10 {
                list.push(match attack {
                    "share 16 bits" | "share 192 bits" => {
                        let shared = if attack == "share 16 bits" { 2 } else { 24 };
                        let mut bytes: [u8; 32] = random.random();
                        bytes[..shared].copy_from_slice(&centre[..shared]);
                        bytes
                    }
                    "within 40 flips" => {
                        let flips = random.random_range(0..=40);
                        near_centre(flips, &mut random)
                    }
                    _ => {
                        let flips = random.random_range(0..=8);
                        near_centre(flips, &mut random)
                    }
                });
            }
            let filled = fill(HashKind::Pdq, &list);
            let near = Near::build(filled.catalog.clone())?;
            let aimed: Vec<_> = (0..100)
                .map(|_| {
                    let flips = if attack.ends_with("off") { 60 } else { random.random_range(0..16) };
                    hash(HashKind::Pdq, &near_centre(flips, &mut random))
                })
                .collect();
            let unaimed: Vec<_> = (0..2000).map(|_| hash(HashKind::Pdq, &random.random())).collect();
            for query in aimed.iter().chain(&unaimed[..10]) {
                ensure!(near.within(query, 31) == near.scan(query, 31), "{attack}: the index and the scan disagree");
            }
            let at_aimed = self.measure(&aimed, |query| near.within(query, 31));
            let scanned = self.measure(&aimed, |query| near.scan(query, 31));
            let at_random = self.measure(&unaimed, |query| near.within(query, 31));
            println!(
                "{}",
                json!({
                    "kind": "hashmesh:hostile", "attack": attack, "n": list.len(), "cpu": self.cpu,
                    "aimed_p50_us": at_aimed.p50, "aimed_p99_us": at_aimed.p99,
                    "scan_p50_us": scanned.p50, "scan_p99_us": scanned.p99,
                    "p99_to_scan": at_aimed.p99 / scanned.p99,
                    "random_p50_us": at_random.p50, "random_p99_us": at_random.p99, "recall": 1.0,
                })
            );
        }
        Ok(())
    }

    /// Adds and removes one at a time while two threads ask all the time.
    fn fresh(&self, data: &Data) -> anyhow::Result<()> {
        let Filled { mut curator, catalog, .. } = fill(HashKind::Pdq, &data.list);
        let near = Near::build(catalog.clone())?;
        let stop = std::sync::atomic::AtomicBool::new(false);
        let live = |hash: &ContentHash| near.within(hash, 31).iter().any(|(id, _)| catalog.said(*id).next().is_some());
        let mut times = Vec::new();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for query in data.queries.iter().cycle() {
                        black_box(near.within(query, data.radius));
                        if stop.load(std::sync::atomic::Ordering::Relaxed) {
                            break;
                        }
                    }
                });
            }
            let mut random = ChaCha8Rng::seed_from_u64(4);
            let mut next = data.list.len() as u64;
            for _ in 0..self.runs * 2000 {
                let fresh = hash(HashKind::Pdq, &random.random());
                let entries = adds("acme", next, [fresh].into_iter());
                let revoked = super::statements::revokes("acme", next + 1, [next].into_iter());
                next += 2;
                for (change, expected) in [(&entries, true), (&revoked, false)] {
                    let begun = Instant::now();
                    curator.show(change, |_| ());
                    near.grown();
                    while live(&fresh) != expected {}
                    times.push(begun.elapsed().as_secs_f64() * 1e6);
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        times.sort_by(f64::total_cmp);
        println!(
            "{}",
            json!({
                "kind": "hashmesh:fresh", "n": data.list.len(), "changes": times.len(),
                "to_answer_p50_us": percentile(&times, 0.5), "to_answer_p99_us": percentile(&times, 0.99),
                "to_answer_max_us": times.last(), "tail": near.status().tail,
            })
        );
        Ok(())
    }

    /// Asks one query after the other, several times.
    fn measure<T>(&self, queries: &[ContentHash], ask: impl Fn(&ContentHash) -> T) -> Measured {
        let budget = Duration::from_secs_f64(self.max_seconds / self.runs as f64);
        let (mut p50, mut p90, mut p99, mut mean, mut rate) = (vec![], vec![], vec![], vec![], vec![]);
        let mut asked = 0;
        let (begun, used) = (Instant::now(), processor_time());
        for _ in 0..self.runs {
            let mut times = Vec::with_capacity(queries.len());
            let started = Instant::now();
            for query in queries {
                let begun = Instant::now();
                black_box(ask(query));
                times.push(begun.elapsed().as_secs_f64() * 1e6);
                if started.elapsed() > budget && times.len() >= 20 {
                    break;
                }
            }
            asked = asked.max(times.len());
            mean.push(times.iter().sum::<f64>() / times.len() as f64);
            times.sort_by(f64::total_cmp);
            p50.push(percentile(&times, 0.5));
            p90.push(percentile(&times, 0.9));
            p99.push(percentile(&times, 0.99));
            let begun = Instant::now();
            queries[..times.len()].iter().for_each(|query| drop(black_box(ask(query))));
            rate.push(times.len() as f64 / begun.elapsed().as_secs_f64());
        }
        let cpu_share = (processor_time() - used).as_secs_f64() / begun.elapsed().as_secs_f64();
        Measured {
            p50: median(&mut p50),
            p90: median(&mut p90),
            p99: median(&mut p99),
            mean: median(&mut mean),
            rate: median(&mut rate),
            asked,
            cpu_share,
        }
    }
}

/// Medians over the passes; times in microseconds.
struct Measured {
    p50: f64,
    p90: f64,
    p99: f64,
    mean: f64,
    rate: f64,
    asked: usize,
    cpu_share: f64,
}

impl Measured {
    fn write(&self, line: &mut Value) {
        line["single_p50_us"] = json!(self.p50);
        line["single_p90_us"] = json!(self.p90);
        line["single_p99_us"] = json!(self.p99);
        line["single_mean_us"] = json!(self.mean);
        line["single_asked"] = json!(self.asked);
        line["batch_qps"] = json!(self.rate);
        line["batch_asked"] = json!(self.asked);
        line["cpu_share"] = json!(self.cpu_share);
    }
}
