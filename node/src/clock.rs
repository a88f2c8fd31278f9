//! The wall clock, and the only place that reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use hashmesh_protocol::time::Timestamp;

/// The time now. A clock before 1970 reads as 1970.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
