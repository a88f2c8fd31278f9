//! Proof that a member has voted for two charters of which it may vote for one (SPEC 21.6).

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::charter::Motion;
use crate::digest::NetworkId;
use crate::key::{KeyError, PublicKey, Signature};
use crate::names::MemberId;

/// Longest proof, in bytes: two motions with their signatures.
pub const MAX_DOUBLE_VOTE: usize = 512;

/// Two charters with one parent and one attempt, signed by one member. Read from outside it proves nothing before
/// [`verify`](Self::verify).
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct DoubleVote {
    /// Who has signed both.
    pub member: MemberId,
    /// One of them; the one with the lower id.
    pub one: Motion,
    /// Its signature.
    pub one_signature: Signature,
    /// The other one.
    pub other: Motion,
    /// Its signature.
    pub other_signature: Signature,
}

/// Why it is no proof.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DoubleVoteError {
    /// The two do not exclude each other.
    #[error("the two charters do not exclude each other")]
    NoContradiction,
    /// Not in the only order.
    #[error("the lower id comes first")]
    Order,
    /// The member is not in the charter before them, as far as it is known here.
    #[error("{0} is in no charter here that the two follow")]
    Stranger(MemberId),
    /// A signature that does not hold.
    #[error("not signed by {0}")]
    Signature(MemberId, #[source] KeyError),
}

impl DoubleVote {
    /// Makes a proof of two votes; `None` if they do not exclude each other.
    pub fn of(member: MemberId, a: (Motion, Signature), b: (Motion, Signature)) -> Option<Self> {
        let (one, other) = if a.0.charter < b.0.charter { (a, b) } else { (b, a) };
        let proof = Self { member, one: one.0, one_signature: one.1, other: other.0, other_signature: other.1 };
        proof.contradicts().then_some(proof)
    }

    fn contradicts(&self) -> bool {
        let place = |motion: &Motion| (motion.previous, motion.version, motion.attempt);
        self.one.previous.is_some() && place(&self.one) == place(&self.other) && self.one.charter != self.other.charter
    }

    /// Checks it against the governance key that the member has in the charter before the two.
    pub fn verify(&self, network: NetworkId, key: &PublicKey) -> Result<(), DoubleVoteError> {
        if !self.contradicts() {
            return Err(DoubleVoteError::NoContradiction);
        }
        if self.one.charter > self.other.charter {
            return Err(DoubleVoteError::Order);
        }
        let wrong = |error| DoubleVoteError::Signature(self.member, error);
        self.one.verify(network, key, &self.one_signature).map_err(wrong)?;
        self.other.verify(network, key, &self.other_signature).map_err(wrong)
    }
}
