//! How far a federation is from losing its quorum (SPEC 21.9).

use std::collections::BTreeMap;

use crate::names::MemberId;

/// Who uses its governance key, by the signatures in the chain of charters: the only thing about it that all can see.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// The version of the charter in force.
    pub version: u64,
    /// So many must sign the next version.
    pub threshold: usize,
    /// Of each member the last version that it has signed.
    pub signed: BTreeMap<MemberId, Option<u64>>,
}

impl Health {
    /// The members that have signed nothing since a version.
    pub fn silent_since(&self, version: u64) -> impl Iterator<Item = MemberId> {
        let silent = self.signed.iter().filter(move |(_, signed)| signed.is_none_or(|signed| signed < version));
        silent.map(|(member, _)| *member)
    }

    /// How many members more than needed have signed something since a version; `None` if there were fewer: then nobody
    /// knows whether the next version can still be signed.
    pub fn margin(&self, since: u64) -> Option<usize> {
        (self.signed.len() - self.silent_since(since).count()).checked_sub(self.threshold)
    }
}
