//! Federations for benchmarks, and a node of one that runs without the others.

use std::path::Path;

use crate::cluster::{Cluster, Member, Program};

/// The members of a small federation.
pub(super) const TWO: [(&str, &str, &str); 2] = [("one", "One", "FR"), ("two", "Two", "DE")];

/// The members of a federation of the size that is recommended at least.
pub(super) const FOUR: [(&str, &str, &str); 4] =
    [("one", "One", "FR"), ("two", "Two", "DE"), ("three", "Three", "US"), ("four", "Four", "JP")];

/// Founds a federation in a folder and starts its first node, which signs although the others do not run.
pub(super) async fn alone(folder: &Path, members: &[(&str, &str, &str)]) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::found(folder, &Program::own()?, members)?;
    cluster.start(0)?;
    sign_alone(cluster.member(0)).await?;
    Ok(cluster)
}

/// Orders a node to sign although it can hear nobody.
pub(super) async fn sign_alone(member: &Member) -> anyhow::Result<()> {
    let origin = member.origin().await?;
    member.hashmesh(&["sign-alone", "--origin", &origin])?;
    Ok(())
}
