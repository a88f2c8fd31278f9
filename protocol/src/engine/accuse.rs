//! Forks: making evidence, taking it in, and what follows from it (SPEC 18).
//!
//! Whoever holds one branch and meets the other accuses. Two checkpoints of one size accuse by themselves; of two sizes,
//! the node that holds the larger tree can prove what it has at the smaller size.

use std::sync::Arc;

use super::{Alarm, Effect, Engine, Misdeed, Relay, Rival};
use crate::checkpoint::SignedCheckpoint;
use crate::cosignature::SettledCheckpoint;
use crate::digest::Digest;
use crate::evidence::{Accused, Evidence, EvidenceError};
use crate::key::PublicKey;
use crate::names::LogId;
use crate::note::Note;
use crate::wire::{Gossip, Request};

/// Smaller checkpoints of a log that are known to be of the history held: peers that lag tell them again and again.
const COMPARED: usize = 16;

impl Engine {
    /// Whether nothing more of a log is taken up, cosigned or asked for above what is settled.
    pub(super) fn is_frozen(&self, log: LogId) -> bool {
        self.evidence.contains_key(&Accused::Log(log)) || (Some(log) == self.own && self.voice.has_diverged())
    }

    /// How many leaves of a log may be taken up. Of a frozen one what is settled is still wanted: newcomers need it, and it
    /// keeps its effect.
    pub(super) fn taken_up_to(&self, log: LogId) -> u64 {
        let Some(held) = self.ledger.log(log) else { return 0 };
        if self.is_frozen(log) && held.end().is_none() {
            return held.settling().map_or(0, |settling| settling.size());
        }
        held.limit()
    }

    /// Two checkpoints that cannot both be true have met.
    pub(super) fn contradiction(
        &mut self,
        log: LogId,
        (one, other): (&SignedCheckpoint, &SignedCheckpoint),
        effects: &mut Vec<Effect>,
    ) {
        if self.evidence.contains_key(&Accused::Log(log)) {
            return;
        }
        if one.size() == other.size() {
            return self.convict(Evidence::same_size(&self.federation, log, one, other), effects);
        }
        // The leaves of the larger one are not held here, so it cannot be proved here what it has at the smaller size. Who
        // holds them can, once it has seen the smaller one.
        let smaller = if one.size() < other.size() { one } else { other };
        effects.push(Effect::Gossip(Gossip::encode_checkpoint(smaller.note())));
    }

    /// A checkpoint of fewer leaves than are held: it must be of the history held.
    pub(super) fn compare(&mut self, log: LogId, heard: SignedCheckpoint, effects: &mut Vec<Effect>) {
        let whole = self.ledger.log(log).and_then(|log| log.whole()).map_or(0, SignedCheckpoint::size);
        let known = self.is_compared(log, heard.note());
        if heard.size() < whole && !known && !self.evidence.contains_key(&Accused::Log(log)) {
            effects.push(Effect::Compare { log, rival: Rival::Heard(heard), signed: whole });
        }
    }

    /// Whether this was found to be the beginning of the history held.
    pub(super) fn is_compared(&self, log: LogId, note: &Note) -> bool {
        self.compared.get(&log).is_some_and(|known| known.contains(&text_id(note)))
    }

    /// What the leaves here have at the size of a smaller checkpoint.
    pub(super) fn compared_heard(
        &mut self,
        log: LogId,
        heard: &SignedCheckpoint,
        (root, proof): (Digest, Vec<Digest>),
        signed: u64,
        effects: &mut Vec<Effect>,
    ) {
        if root == heard.root() {
            let known = self.compared.entry(log).or_default();
            if known.len() == COMPARED {
                known.pop_front();
            }
            known.push_back(text_id(heard.note()));
            return;
        }
        let whole = self.ledger.log(log).and_then(|log| log.whole());
        let Some(whole) = whole.filter(|whole| whole.size() == signed && signed > heard.size()) else { return };
        let made = Evidence::larger(&self.federation, log, (heard, whole), root, proof);
        self.convict(made, effects);
    }

    /// Somebody has handed evidence over.
    pub(super) fn hear_evidence(&mut self, from: PublicKey, bytes: &[u8], effects: &mut Vec<Effect>) -> Relay {
        match Evidence::read(bytes, &self.federation) {
            Ok(evidence) if self.evidence.contains_key(&evidence.accused()) => Relay::Ignore,
            Ok(evidence) => {
                self.adopt(evidence, effects);
                Relay::Accept
            }
            // A card that is not here may be on its way.
            Err(EvidenceError::NotItsCard) => Relay::Ignore,
            Err(error) => {
                effects.push(Effect::Shun { peer: from, misdeed: Misdeed::Accused(error) });
                Relay::Reject
            }
        }
    }

    /// A peer says whom it has evidence against.
    pub(super) fn hear_accused(&mut self, from: PublicKey, accused: Vec<Accused>, effects: &mut Vec<Effect>) {
        // One key each has a log and a witness: more than that many nobody can have evidence against.
        let most = self.federation.logs().len() + self.federation.witnesses().len();
        for accused in accused.into_iter().take(most) {
            let exists = match accused {
                Accused::Log(log) => self.ledger.log(log).is_some(),
                Accused::Witness(member) => self.federation.witnesses().contains_key(&member),
            };
            if exists && !self.evidence.contains_key(&accused) {
                effects.push(Effect::Ask { peer: from, request: Request::Evidence(accused) });
            }
        }
    }

    /// Whether a witness has cosigned this settled checkpoint and another root of the same size, which is known here.
    pub(super) fn accuse_witnesses(&mut self, log: LogId, settled: &SettledCheckpoint, effects: &mut Vec<Effect>) {
        let Some(held) = self.ledger.log(log) else { return };
        let known: Vec<_> = [held.settled(), held.settling()].into_iter().flatten().cloned().collect();
        for known in known.iter().filter(|known| known.size() == settled.size() && known.mark() != settled.mark()) {
            let (one, other) = (known.cosigned(), settled.cosigned());
            for (witness, cosignature) in one.cosignatures() {
                let Some(second) = other.cosignatures().get(witness) else { continue };
                let (first, second) = ((one.text(), cosignature), (other.text(), second));
                self.convict(Evidence::of_witness(&self.federation, *witness, first, second), effects);
            }
        }
    }

    /// Takes evidence that was made here, and tells everybody. What cannot be verified, because the store has lost its way,
    /// accuses nobody.
    fn convict(&mut self, made: Result<Evidence, EvidenceError>, effects: &mut Vec<Effect>) {
        let Ok(evidence) = made else { return };
        if self.evidence.contains_key(&evidence.accused()) {
            return;
        }
        let message = Gossip::encode_evidence(&evidence);
        self.adopt(evidence, effects);
        effects.push(Effect::GossipEvidence(message));
    }

    /// Acts on evidence: durable first, then the log is frozen for queries too, then the operator is told.
    fn adopt(&mut self, evidence: Evidence, effects: &mut Vec<Effect>) {
        let accused = evidence.accused();
        let evidence = Arc::new(evidence);
        self.evidence.insert(accused, Arc::clone(&evidence));
        effects.push(Effect::CommitEvidence(evidence));
        match accused {
            Accused::Log(log) => {
                let counts = self.ledger.freeze(log);
                effects.push(Effect::Freeze(log, counts));
                if Some(log) == self.own {
                    // Somebody else signs with this member's key, or did: whatever this node signed next would be a fork.
                    if self.voice.diverges() {
                        effects.push(Effect::Alarm(Alarm::Diverged));
                    }
                } else {
                    effects.push(Effect::Alarm(Alarm::Fork(log)));
                }
            }
            Accused::Witness(member) => effects.push(Effect::Alarm(Alarm::FalseWitness(member))),
        }
    }
}

fn text_id(note: &Note) -> Digest {
    Digest::of(&[note.text().as_bytes()])
}
