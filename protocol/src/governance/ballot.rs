//! What a governance key has voted for, and what it may vote for next (SPEC 21.6).
//!
//! Order alone does not keep two histories apart: it takes that no honest member votes for children of two siblings. So whoever
//! signs keeps a ballot beside the key, which is durable *before* the signature is made, and can only grow.
//!
//! Knows what a bundle tells it: a governance key is used on a machine that has no node.

use std::time::Duration;

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::bundle::Bundle;
use crate::charter::{AmendmentError, Charter};
use crate::codec::{self, CodecError};
use crate::digest::{CharterId, NetworkId};
use crate::key::PublicKey;
use crate::names::MemberId;
use crate::time::Timestamp;

/// The version of ballots that this software reads and writes.
const FORMAT: u64 = 1;

/// Votes that are kept. None is ever forgotten: which versions are decided only a proposal's file would say, and whoever made that could
/// have a key forget what it has voted for.
const MAX_VOTES: usize = 4096;

/// Longest ballot, in bytes.
pub const MAX_BALLOT: usize = MAX_VOTES * 104 + 256;

/// Everything that a member has voted for with its governance key.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Ballot {
    /// The version of this form: 1.
    pub format: u64,
    /// The federation.
    pub network: NetworkId,
    /// Whose votes.
    pub member: MemberId,
    /// The votes, in the order in which they were given.
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_VOTES>")]
    pub votes: Vec<Vote>,
}

/// One vote.
#[derive(Clone, Copy, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Vote {
    /// The charter before the one that was voted for.
    pub previous: CharterId,
    /// The version voted on.
    pub version: u64,
    /// The attempt.
    pub attempt: u16,
    /// The charter voted for.
    pub charter: CharterId,
    /// When, by the clock of the machine with the key.
    pub at: Timestamp,
    /// For how long it excludes votes on rivals, in milliseconds: `relock` of the charter before. Were that looked up later, a charter
    /// that shortens it would set voters free too early.
    pub relock: u64,
}

/// Why a charter must not be signed, or not yet. Each variant is one rule.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VoteRefusal {
    /// The ballot is of another federation or member.
    #[error("the record of votes beside the key is of {member} in another federation, or of another member")]
    OtherBallot {
        /// Whose it is.
        member: MemberId,
    },
    /// Not a member, or with another key, in the charter before it.
    #[error("{0} does not vote on it with this key")]
    NoVoter(MemberId),
    /// It cannot follow the charter in force.
    #[error("it cannot follow the charter in force")]
    Amendment(#[from] AmendmentError),
    /// One body for each charter before it and attempt.
    #[error("{other} was signed for attempt {attempt} already; another charter needs a higher attempt")]
    Voted {
        /// The attempt.
        attempt: u16,
        /// What was voted for.
        other: CharterId,
    },
    /// Never back to a lower attempt.
    #[error("attempt {0} was signed already; a lower one must not be signed any more")]
    Lower(u16),
    /// A higher attempt only where a lower one is seen to hang.
    #[error("attempt {0} needs a proposal of the attempt before it, signed by a member, in the bundle")]
    NoLowerAttempt(u16),
    /// The charter before it must have been in force for a while.
    #[error("the charter before it has not been in force for long enough; sign it in {} s", .0.as_secs())]
    CoolDown(Duration),
    /// Having signed a child of one charter, nothing that follows its siblings.
    #[error("{charter} was signed, which excludes this one for another {} s", .left.as_secs())]
    Locked {
        /// What was voted for.
        charter: CharterId,
        /// For how much longer.
        left: Duration,
    },
    /// The record is full.
    #[error("the record of votes is full")]
    Full,
}

impl Ballot {
    /// The ballot of a key that has never voted.
    pub fn new(network: NetworkId, member: MemberId) -> Self {
        Self { format: FORMAT, network, member, votes: Vec::new() }
    }

    /// Reads a ballot.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let ballot: Self = codec::decode(bytes, MAX_BALLOT)?;
        if ballot.format == FORMAT { Ok(ballot) } else { Err(CodecError::Shape("a newer version's ballot".into())) }
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Whether this key may vote for what a bundle proposes. If so, what comes back must be durable before anything is signed;
    /// it is the same ballot where the same was signed before.
    pub fn judge(&self, bundle: &Bundle, key: &PublicKey, now: Timestamp) -> Result<Self, VoteRefusal> {
        let (parent, child) = (bundle.parent(), bundle.proposed());
        if self.network != parent.network() {
            return Err(VoteRefusal::OtherBallot { member: self.member });
        }
        if parent.member(self.member).is_none_or(|member| member.governance != *key) {
            return Err(VoteRefusal::NoVoter(self.member));
        }
        let body = child.body();
        let vote = Vote {
            previous: parent.id(),
            version: body.version,
            attempt: body.attempt,
            charter: child.id(),
            at: now,
            relock: parent.body().parameters.relock,
        };
        if self.votes.iter().any(|known| known.charter == vote.charter) {
            return Ok(self.clone());
        }
        self.check_attempt(&vote, bundle)?;
        self.check_lock(&vote, now)?;
        check_cool_down(bundle, parent, now)?;
        let mut next = self.clone();
        if next.votes.len() >= MAX_VOTES {
            return Err(VoteRefusal::Full);
        }
        next.votes.push(vote);
        Ok(next)
    }

    fn check_attempt(&self, vote: &Vote, bundle: &Bundle) -> Result<(), VoteRefusal> {
        for known in self.votes.iter().filter(|known| known.previous == vote.previous) {
            if known.attempt == vote.attempt {
                return Err(VoteRefusal::Voted { attempt: vote.attempt, other: known.charter });
            }
            if known.attempt > vote.attempt {
                return Err(VoteRefusal::Lower(known.attempt));
            }
        }
        let Some(lower) = vote.attempt.checked_sub(1) else { return Ok(()) };
        // Enough votes alone decide nothing: what they are for may wait for ever for somebody's consent. Were it valid, it would be
        // in force where the bundle was made.
        let seen = bundle.candidates().any(|(motion, votes)| motion.attempt == lower && !votes.is_empty());
        if seen { Ok(()) } else { Err(VoteRefusal::NoLowerAttempt(vote.attempt)) }
    }

    /// Having voted on a version, a member votes for `relock` on no other child of that version's parents, nor on earlier ones.
    fn check_lock(&self, vote: &Vote, now: Timestamp) -> Result<(), VoteRefusal> {
        let excludes = |old: &&Vote| old.version >= vote.version && old.previous != vote.previous;
        let left = |old: &Vote| Duration::from_millis(old.relock).saturating_sub(now.since(old.at));
        let locked = self.votes.iter().filter(excludes).map(|old| (old, left(old)));
        match locked.max_by_key(|(_, left)| *left).filter(|(_, left)| !left.is_zero()) {
            Some((old, left)) => Err(VoteRefusal::Locked { charter: old.charter, left }),
            None => Ok(()),
        }
    }
}

fn check_cool_down(bundle: &Bundle, parent: &Charter, now: Timestamp) -> Result<(), VoteRefusal> {
    let parameters = &parent.body().parameters;
    let span = if bundle.amendment().expels() { parameters.cool_down_expulsion } else { parameters.cool_down };
    let left = Duration::from_millis(span).saturating_sub(now.since(bundle.since()));
    if left.is_zero() { Ok(()) } else { Err(VoteRefusal::CoolDown(left)) }
}
