//! A node of a hashmesh federation.

pub mod api;
pub mod audit;
pub mod backup;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod decisions;
pub mod documents;
pub mod driver;
pub mod export;
pub mod feed;
pub mod folder;
pub mod images;
pub mod import;
pub mod index;
pub mod keys;
pub mod mailbox;
pub mod making;
pub mod net;
pub mod pages;
pub mod panics;
pub mod quarantine;
mod sentence;
pub mod signer;
pub mod store;
