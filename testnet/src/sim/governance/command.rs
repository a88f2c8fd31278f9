//! `hashmesh-testnet sim governance`: the table.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Ground, Outcome, SCENARIOS, Scenario};
use crate::tell::tell;

/// Simulate.
#[derive(Debug, Subcommand)]
pub enum Simulation {
    /// Whether members agree on the charter under attack, over many seeds.
    Governance(Run),
}

impl Simulation {
    /// Runs a simulation.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Governance(run) => run.run(),
        }
    }
}

/// Whether members agree on the charter under attack, over many seeds.
#[derive(Args, Debug)]
pub struct Run {
    /// Seeds within the bound, in all scenarios together; beyond it there are a fifth as many on top.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed of each scenario.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

/// All seeds of a scenario, summed up.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// How many.
    pub seeds: u64,
    /// Versions that were adopted for good.
    pub versions: u64,
    /// Charters that were adopted somewhere and gave way.
    pub displaced: u64,
    /// Members that were found to have voted twice.
    pub double_voters: u64,
    /// Partitions.
    pub partitions: u64,
    /// Signatures that were held back.
    pub held_back: u64,
    /// Votes that were taken back.
    pub withdrawn: u64,
    /// Restarts.
    pub restarts: u64,
    /// Members that joined or were expelled.
    pub changes: u64,
    /// Votes that a ballot refused because of an earlier one on another branch.
    pub locked: u64,
    /// The highest attempt.
    pub attempts: u16,
    /// Histories in which nodes did not agree though all had been delivered and their operators had chosen the same.
    pub diverged: Vec<u64>,
    /// Histories with a conflict that everybody was told of.
    pub conflicts: Vec<u64>,
    /// Histories in which nodes did not agree, and not all of them said so.
    pub silent: Vec<u64>,
    /// Histories after which nothing could be decided any more.
    pub deadlocks: Vec<u64>,
    /// Of each version, how long it took until all had it.
    pub agreed: Vec<Duration>,
    /// What must never be, with its seed.
    pub faults: Vec<(u64, String)>,
}

impl Row {
    /// Sums up.
    pub fn of(outcomes: impl IntoIterator<Item = (u64, Outcome)>) -> Self {
        let mut row = Self::default();
        for (seed, outcome) in outcomes {
            row.seeds += 1;
            row.versions += outcome.versions;
            row.displaced += outcome.displaced;
            row.double_voters += outcome.double_voters;
            row.partitions += outcome.partitions;
            row.held_back += outcome.held_back;
            row.withdrawn += outcome.withdrawn;
            row.restarts += outcome.restarts;
            row.changes += outcome.changes;
            row.locked += outcome.locked;
            row.attempts = row.attempts.max(outcome.attempts);
            row.diverged.extend(outcome.diverged.then_some(seed));
            row.conflicts.extend(outcome.conflict.then_some(seed));
            row.silent.extend(outcome.silent.then_some(seed));
            row.deadlocks.extend(outcome.deadlock.then_some(seed));
            row.agreed.extend(outcome.agreed);
            row.faults.extend(outcome.faults.into_iter().map(|fault| (seed, fault)));
        }
        row.agreed.sort();
        row
    }

    /// Whether what must never be has not been, and within the bound nothing else either.
    pub fn holds(&self, scenario: &Scenario) -> bool {
        let apart = self.diverged.len() + self.silent.len() + self.deadlocks.len() + self.faults.len();
        apart == 0 && (self.conflicts.is_empty() || !scenario.within)
    }

    /// The median and the longest time to agree.
    pub fn agreement(&self) -> (Duration, Duration) {
        let median = self.agreed.get(self.agreed.len() / 2).copied().unwrap_or_default();
        (median, self.agreed.last().copied().unwrap_or_default())
    }
}

impl Run {
    fn run(self) -> anyhow::Result<()> {
        if !self.json {
            tell(heading())?;
        }
        let mut broken = Vec::new();
        for scenario in SCENARIOS {
            let begun = Instant::now();
            let count = (self.seeds * scenario.share / 1000).max(1);
            let row = Row::of(Ground::of(scenario).run_all(self.seed, count));
            tell(if self.json { in_json(&scenario, &row, begun.elapsed()) } else { in_table(&scenario, &row) })?;
            if !row.holds(&scenario) {
                broken.push(format!("{} of {}: {}", scenario.name, scenario.members, what_broke(&row)));
            }
        }
        ensure!(broken.is_empty(), "a rule was broken: {}", broken.join("; "));
        Ok(())
    }
}

fn heading() -> String {
    "| scenario | members | double-signers | partitions, days | held back, days | seeds | versions | displaced | apart for good | conflicts | \
     silent | deadlocks | to agree, p50 | longest |\n\
     | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        .to_owned()
}

/// A share of the time for which a ballot binds, in days.
fn days(percent: u64) -> f64 {
    14.0 * percent as f64 / 100.0
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{:.1} d", seconds as f64 / 86_400.0),
    }
}

fn in_table(scenario: &Scenario, row: &Row) -> String {
    let Scenario { name, within, members, double_signers, partitions: (least, most), held_back, .. } = scenario;
    let beyond = if *within { "" } else { "beyond: " };
    let partitions = if *most == 0 { "none".to_owned() } else { format!("{} to {}", days(*least), days(*most)) };
    let (median, longest) = row.agreement();
    let counts =
        [&row.diverged, &row.conflicts, &row.silent, &row.deadlocks].map(|seeds| seeds.len().to_string()).join(" | ");
    format!(
        "| {beyond}{name} | {members} | {double_signers} | {partitions} | {} | {} | {} | {} | {counts} | {} | {} |",
        days(*held_back),
        row.seeds,
        row.versions,
        row.displaced,
        span(median),
        span(longest),
    )
}

fn in_json(scenario: &Scenario, row: &Row, took: Duration) -> String {
    let (median, longest) = row.agreement();
    json!({
        "sim": "governance", "scenario": scenario.name, "within": scenario.within, "members": scenario.members,
        "double_signers": scenario.double_signers, "partition_days": [days(scenario.partitions.0), days(scenario.partitions.1)],
        "held_back_days": days(scenario.held_back), "seeds": row.seeds, "versions": row.versions, "displaced": row.displaced,
        "diverged": row.diverged.len(), "conflicts": row.conflicts.len(), "silent": row.silent.len(),
        "deadlocks": row.deadlocks.len(), "faults": row.faults.len(), "agree_p50_s": median.as_secs_f64(),
        "agree_max_s": longest.as_secs_f64(), "double_voters": row.double_voters, "partitions": row.partitions,
        "held_back": row.held_back, "withdrawn": row.withdrawn, "restarts": row.restarts, "changes": row.changes, "locked": row.locked,
        "attempts": row.attempts, "seconds": took.as_secs_f64(), "broken": what_broke(row),
    })
    .to_string()
}

/// Which seeds broke what, so that each can be run again.
fn what_broke(row: &Row) -> String {
    let seeds = |what: &str, seeds: &[u64]| match seeds {
        [] => None,
        seeds => Some(format!("{what} with seeds {:?}", &seeds[..seeds.len().min(5)])),
    };
    let kinds = [
        seeds("apart for good", &row.diverged),
        seeds("conflicts", &row.conflicts),
        seeds("silently apart", &row.silent),
        seeds("deadlocks", &row.deadlocks),
        row.faults.first().map(|(seed, fault)| format!("{} faults, with seed {seed}: {fault}", row.faults.len())),
    ];
    kinds.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
