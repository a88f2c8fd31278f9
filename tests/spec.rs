//! The specification, executed: one module a chapter. `README.md` says which rule is proved where.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod architecture;
mod audit;
mod backup;
mod crash;
mod erasure;
mod followers;
mod forks;
mod gossip;
mod governing;
mod hostile;
mod loopback;
mod membership;
mod pdq;
mod remarks;
mod settling;
mod signing;
mod statements;
mod store;
mod vectors;
