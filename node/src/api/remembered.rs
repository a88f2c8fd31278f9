//! The last queries, in memory only and only if the operator switched it on: to see what another policy would have done.

use std::collections::VecDeque;

use hashmesh_protocol::content_hash::ContentHash;
use parking_lot::Mutex;

/// A question: a hash, and how far away it was looked for.
type Query = (ContentHash, Option<u32>);

/// The last queries.
pub struct Remembered {
    most: usize,
    queries: Mutex<VecDeque<Query>>,
}

impl Remembered {
    /// Remembers so many; none with 0.
    pub fn new(most: u32) -> Self {
        Self { most: most as usize, queries: Mutex::default() }
    }

    pub(super) fn push(&self, hash: ContentHash, max_distance: Option<u32>) {
        if self.most == 0 {
            return;
        }
        let mut queries = self.queries.lock();
        if queries.len() == self.most {
            queries.pop_front();
        }
        queries.push_back((hash, max_distance));
    }

    /// All of them, oldest first; `None` if none are to be remembered.
    pub(super) fn all(&self) -> Option<Vec<Query>> {
        (self.most > 0).then(|| self.queries.lock().iter().copied().collect())
    }
}
