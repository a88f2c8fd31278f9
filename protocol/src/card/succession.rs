//! From one card of a member to the next (SPEC 9.3 to 9.6).
//!
//! Rules that look at the card before alone are in [`Card::follows`]; those that look at all cards before in [`Card::fits`]. Whether
//! a card that keeps them is in force is decided in [`governance`](crate::governance): it may have a rival.

use super::{Card, CardBody};
use crate::digest::NetworkId;
use crate::key::PublicKey;

/// Why a card cannot follow another one. Each variant is one rule.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SuccessionError {
    /// SPEC 9.3: of another member, or of another federation.
    #[error("a card of another member, or of another federation")]
    Foreign,
    /// SPEC 9.3: not the next one.
    #[error("card number {got} does not follow number {before}")]
    Counter {
        /// The number of the card before.
        before: u64,
        /// The number that was to follow.
        got: u64,
    },
    /// SPEC 9.3: follows another card.
    #[error("it follows another card")]
    OtherCard,
    /// SPEC 9.4: a new log key is a new epoch, and nothing else is.
    #[error("a new log key is the next epoch, and nothing else is")]
    Epoch,
    /// SPEC 9.4: an end was changed.
    #[error("where an earlier log ended was changed")]
    EndChanged,
    /// SPEC 9.6: who leaves has left.
    #[error("who leaves does not come back")]
    Returned,
    /// SPEC 9.5: cites evidence, and goes on as before.
    #[error("evidence is cited by a card that ends the epoch")]
    CitedInVain,
    /// SPEC 9.5: a second fork needs a charter.
    #[error("evidence was cited before; a second time needs a charter")]
    SecondFork,
    /// SPEC 9.2: a new key has not signed, or one that is not new has.
    #[error("it must be signed by the governance key and by every key that is new on it, and by no other")]
    Signers,
    /// SPEC 9.2: a key in another role, or of an earlier log.
    #[error("a key on it had another role before, or belongs to an earlier log")]
    KeyReused,
}

impl Card {
    /// Checks a card against the one that it names as the one before it.
    pub fn follows(&self, before: &Card, network: NetworkId) -> Result<(), SuccessionError> {
        let (next, last) = (&self.body, &before.body);
        if next.member != last.member || next.network != Some(network) {
            return Err(SuccessionError::Foreign);
        }
        if last.counter.checked_add(1) != Some(next.counter) {
            return Err(SuccessionError::Counter { before: last.counter, got: next.counter });
        }
        if next.previous != Some(before.id) {
            return Err(SuccessionError::OtherCard);
        }
        let step = u32::from(next.log != last.log);
        if last.epoch.checked_add(step) != Some(next.epoch) {
            return Err(SuccessionError::Epoch);
        }
        if last.leaving && (!next.leaving || step != 0) {
            return Err(SuccessionError::Returned);
        }
        if !next.ended.starts_with(&last.ended) {
            return Err(SuccessionError::EndChanged);
        }
        if !next.evidence.is_empty() && step == 0 {
            return Err(SuccessionError::CitedInVain);
        }
        let must_sign = |(role, key): &(&str, PublicKey)| *role == "governance" || !has(last, *key);
        let mut signers: Vec<_> = next.keys().filter(must_sign).map(|(_, key)| key).collect();
        signers.sort();
        if signers == self.signers { Ok(()) } else { Err(SuccessionError::Signers) }
    }

    /// Checks a card, which [`follows`](Self::follows) the last of them, against all cards of the member before it.
    pub fn fits(&self, before: &[Card]) -> Result<(), SuccessionError> {
        let cites = |card: &Card| !card.body.evidence.is_empty();
        if cites(self) && before.iter().any(cites) {
            return Err(SuccessionError::SecondFork);
        }
        let is_reused = |earlier: &Card| {
            let mut keys = self.body.keys();
            let other_role = keys.any(|(role, key)| earlier.body.keys().any(|(was, old)| old == key && was != role));
            other_role || (earlier.body.log == self.body.log && earlier.body.epoch != self.body.epoch)
        };
        if before.iter().any(is_reused) { Err(SuccessionError::KeyReused) } else { Ok(()) }
    }
}

fn has(body: &CardBody, key: PublicKey) -> bool {
    body.keys().any(|(_, known)| known == key)
}
