//! The specification, executed: one module a chapter. `README.md` says which rule is proved where.

mod crash;
mod gossip;
mod signing;
mod statements;
