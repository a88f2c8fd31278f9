//! The specification, executed.
