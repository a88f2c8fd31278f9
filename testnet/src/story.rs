//! Stories: what happens to a federation over years, on real processes, in a minute.

mod governance;

use clap::Subcommand;

pub use governance::{Governance, tell_governance};

/// Let something happen to a federation of real nodes on loopback, and show how it goes on.
#[derive(Debug, Subcommand)]
pub enum Story {
    /// Members come and go, keys are stolen, charters are rivals.
    Governance(Governance),
}

impl Story {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Governance(story) => story.run().await,
        }
    }
}
