//! Matching: from a content hash that somebody asks about to the stored ones it matches, and the verdict (SPEC 12).
//!
//! Exact kinds are looked up in the catalog; PDQ hashes are looked for within a distance by the [`Near`] index. Whatever is
//! found is judged by what the members say about it at that moment.

pub mod near;

use std::sync::Arc;

use hashmesh_protocol::catalog::{Catalog, Said};
use hashmesh_protocol::charter::Charter;
use hashmesh_protocol::content_hash::{ContentHash, HashKind};
use hashmesh_protocol::policy::{Decision, MAX_DISTANCE, Matched, Policy, Verdict};
use hashmesh_protocol::time::Timestamp;
use near::Near;

/// Matches listed in one answer; those beyond are counted. The decision takes all of them into account.
pub const MAX_LISTED: usize = 100;

/// Answers match queries.
pub struct Matcher {
    catalog: Arc<Catalog>,
    near: Near,
}

/// What is known about a content hash.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The most severe decision over all matches.
    pub decision: Decision,
    /// The matches, most severe first, then nearest; at most [`MAX_LISTED`].
    pub matches: Vec<Match<'a>>,
    /// How many matches there are, listed or not.
    pub found: usize,
}

/// A stored hash that matches.
#[derive(Debug)]
pub struct Match<'a> {
    /// The stored hash, its distance, and who says what about it.
    pub matched: Matched<'a>,
    /// What the policy makes of it.
    pub verdict: Verdict,
}

impl Matcher {
    /// A matcher over a catalog.
    pub fn new(catalog: Arc<Catalog>, near: Near) -> Self {
        Self { catalog, near }
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Answers what is known about a hash. PDQ hashes match up to `distance`, or as far as the policy reaches if that is
    /// less; other kinds match exactly.
    pub fn ask(
        &self,
        hash: &ContentHash,
        distance: Option<u32>,
        policy: &Policy,
        charter: &Charter,
        as_of: Timestamp,
    ) -> Answer<'_> {
        let near = match hash.kind() {
            HashKind::Pdq => {
                let reach = distance.unwrap_or(MAX_DISTANCE).min(policy.reach());
                self.near.within(hash, reach)
            }
            _ => self.catalog.find(hash).map(|id| (id, 0)).into_iter().collect(),
        };
        let mut matches: Vec<Match<'_>> = near
            .into_iter()
            .filter_map(|(id, distance)| {
                let said: Vec<Said<'_>> = self.catalog.said(id).collect();
                if said.is_empty() {
                    return None;
                }
                let matched = Matched { hash: self.catalog.hash(id), distance, said };
                let verdict = policy.judge(&matched, charter, as_of);
                Some(Match { matched, verdict })
            })
            .collect();
        let found = matches.len();
        let decision = matches.iter().map(|m| m.verdict.decision).max().unwrap_or_default();
        matches.sort_by_key(|m| (std::cmp::Reverse(m.verdict.decision), m.matched.distance, m.matched.hash));
        matches.truncate(MAX_LISTED);
        Answer { decision, matches, found }
    }
}
