//! The rules of hashmesh, without I/O: no socket, no file, no clock, no random numbers.

pub mod armor;
pub mod batch;
pub mod bundle;
pub mod card;
pub mod catalog;
pub mod charter;
pub mod checkpoint;
pub mod codec;
pub mod content_hash;
pub mod cosignature;
pub mod digest;
pub mod engine;
pub mod entries;
pub mod federation;
pub mod key;
pub mod ledger;
pub mod names;
pub mod note;
pub mod opening;
pub mod policy;
pub mod serve;
pub mod statement;
pub mod text;
pub mod time;
pub mod tree;
pub mod wire;
