//! Matching: from a content hash that somebody asks about to the stored ones it matches, and the verdict (SPEC 12).
//!
//! Exact kinds are looked up in the catalog; PDQ hashes are looked for within a distance by the [`Near`] index. Whatever is
//! found is judged by what the members say about it at that moment.

pub mod near;

use std::cmp::Reverse;
use std::sync::{Arc, OnceLock};

use hashmesh_protocol::catalog::{Catalog, ContentId};
use hashmesh_protocol::content_hash::{ContentHash, HashKind};
use hashmesh_protocol::policy::{Circumstances, Decision, MAX_DISTANCE, Matched, Policy, Verdict};
use near::Near;

use crate::keys::KeysError;

/// Matches listed in one answer; those beyond are counted. The decision takes all of them into account.
pub const MAX_LISTED: usize = 100;

/// Answers match queries.
pub struct Matcher {
    catalog: Arc<Catalog>,
    near: OnceLock<Near>,
}

/// The near index is still being built: exact kinds are answered, PDQ hashes not yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the index of {0} PDQ hashes is still being built; other kinds are answered")]
pub struct Indexing(u32);

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
    /// The stored hash, in the catalog.
    pub id: ContentId,
    /// The stored hash, its distance, and who says what about it.
    pub matched: Matched<'a>,
    /// What the policy makes of it.
    pub verdict: Verdict,
}

impl Matcher {
    /// A matcher over a catalog, for exact kinds at first.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog, near: OnceLock::new() }
    }

    /// Builds the near index; from then on PDQ hashes are answered.
    pub fn build_near(&self) -> Result<(), KeysError> {
        let near = Near::build(self.catalog.clone())?;
        // Only ever built once; if not, the first one serves.
        let _second = self.near.set(near);
        Ok(())
    }

    /// The near index, once it is there.
    pub fn near(&self) -> Result<&Near, Indexing> {
        self.near.get().ok_or_else(|| Indexing(self.catalog.known(HashKind::Pdq)))
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Answers what is known about hashes, one after the other. PDQ hashes match up to `distance`, or as far as the policy
    /// reaches if that is less; other kinds match exactly.
    pub fn ask(
        &self,
        hashes: &[ContentHash],
        distance: Option<u32>,
        policy: &Policy,
        at: &Circumstances<'_>,
        mut answered: impl FnMut(&ContentHash, Answer<'_>),
    ) -> Result<(), Indexing> {
        let exact: Vec<ContentHash> = hashes.iter().filter(|hash| hash.kind() != HashKind::Pdq).copied().collect();
        let mut exact = self.catalog.find_all(&exact).into_iter();
        for hash in hashes {
            let answer = if hash.kind() == HashKind::Pdq {
                let reach = distance.unwrap_or(MAX_DISTANCE).min(policy.reach());
                self.judge(self.near()?.within(hash, reach), policy, at)
            } else {
                self.judge(exact.next().flatten().map(|id| (id, 0)), policy, at)
            };
            answered(hash, answer);
        }
        Ok(())
    }

    fn judge(
        &self,
        found: impl IntoIterator<Item = (ContentId, u32)>,
        policy: &Policy,
        at: &Circumstances<'_>,
    ) -> Answer<'_> {
        let mut answer = Answer { decision: Decision::None, matches: Vec::new(), found: 0 };
        for (id, distance) in found {
            let Some(matched) = Matched::of(&self.catalog, id, distance) else { continue };
            let verdict = policy.judge(&matched, at);
            answer.found += 1;
            answer.decision = answer.decision.max(verdict.decision);
            answer.matches.push(Match { id, matched, verdict });
            // All are judged; those that will not be listed are not kept.
            if answer.matches.len() == 2 * MAX_LISTED {
                answer.shorten();
            }
        }
        answer.shorten();
        answer
    }
}

impl Answer<'_> {
    /// Keeps what is to be listed.
    fn shorten(&mut self) {
        self.matches.sort_by_key(|m| (Reverse(m.verdict.decision), m.matched.distance, m.matched.hash));
        self.matches.truncate(MAX_LISTED);
    }
}
