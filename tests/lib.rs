//! The specification, executed: see `spec.rs`.
