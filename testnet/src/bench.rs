//! `hashmesh-testnet bench`: figures that anyone can repeat, one JSON object a line.

mod alone;
mod audit;
mod busy;
pub mod forks;
mod import;
mod list;
mod matching;
mod measure;
mod settle;
mod socket;
mod start;
mod statements;

use clap::Subcommand;

/// Measure.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// How long queries take while a list is imported.
    Busy(busy::Busy),
    /// How soon a member that signs two histories is convicted everywhere, among ten nodes.
    Forks(forks::Forks),
    /// How fast an export is written and verified.
    Audit(audit::Audit),
    /// How fast lists are imported, with the command line that operators use.
    Import(import::Import),
    /// How fast hashes are matched, in process.
    Match(matching::Match),
    /// How soon statements are settled, among seven nodes.
    Settle(settle::Settle),
    /// How fast a node answers over its socket.
    Socket(socket::Socket),
    /// How fast a node with a long list starts, and what memory and disk it takes.
    Start(start::Start),
}

impl Bench {
    /// Runs a benchmark.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Busy(busy) => busy.run().await,
            Self::Audit(audit) => audit.run().await,
            Self::Forks(forks) => forks.run().await,
            Self::Import(import) => import.run().await,
            Self::Settle(settle) => settle.run().await,
            Self::Socket(socket) => socket.run().await,
            Self::Start(start) => start.run().await,
            Self::Match(matching) => tokio::task::block_in_place(|| matching.run()),
        }
    }
}
