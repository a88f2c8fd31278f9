//! Federations on one machine: a simulator that runs the real engine in virtual time, and clusters of real processes.

pub mod bench;
pub mod cluster;
pub mod demo;
pub mod forger;
pub mod founding;
pub mod sim;
pub mod story;
pub mod tell;
