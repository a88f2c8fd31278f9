//! A node of a hashmesh federation.

pub mod index;
pub mod store;
