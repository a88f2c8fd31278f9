//! Gossip: what comes without having been asked for (SPEC 14.3).

use std::sync::Arc;

use super::{Blame, Effect, Engine, Relay};
use crate::key::PublicKey;
use crate::ledger::{Admission, Admitted, Refusal};
use crate::wire::Gossip;

impl Engine {
    /// Takes a gossip message and gives its verdict, which comes after the commit: only what is verified and stored is
    /// passed on.
    pub(super) fn gossiped(&mut self, delivery: u64, from: PublicKey, message: Gossip, effects: &mut Vec<Effect>) {
        let log = match &message {
            Gossip::Batch(batch) => batch.entries.log(),
            Gossip::Checkpoint(log, _) | Gossip::Settled(log, _) => *log,
            Gossip::Evidence(bytes) => {
                let relay = self.hear_evidence(from, bytes, effects);
                return effects.push(Effect::Judge { delivery, relay });
            }
            Gossip::Document(document) => {
                let relay = self.hear_document(from, (**document).clone(), effects);
                return effects.push(Effect::Judge { delivery, relay });
            }
        };
        // Whichever history came first would be taken up here, and perhaps another elsewhere (SPEC 18.4).
        if self.is_frozen(log) && !matches!(message, Gossip::Settled(..)) {
            effects.push(Effect::Judge { delivery, relay: Relay::Ignore });
            return;
        }
        let (admission, bare) = match message {
            Gossip::Batch(batch) => (self.ledger.admit(batch), false),
            Gossip::Checkpoint(log, note) => (self.ledger.hear(log, note), true),
            Gossip::Settled(log, note) => {
                let relay = self.hear_settled(from, log, &note, effects);
                effects.push(Effect::Judge { delivery, relay });
                return self.fetch(effects);
            }
            Gossip::Evidence(_) | Gossip::Document(_) => unreachable!("taken above"),
        };
        let relay = match admission {
            Ok(Admission::New(admitted)) => {
                let admitted: Arc<Admitted> = Arc::from(admitted);
                self.announced(from, log, admitted.entries.end());
                effects.push(Effect::Commit(Arc::clone(&admitted)));
                effects.push(Effect::Show(Arc::clone(&admitted)));
                self.settle_reached(log, effects);
                self.heed(&admitted, effects);
                Relay::Accept
            }
            Ok(Admission::Ahead(checkpoint)) => {
                self.announced(from, log, checkpoint.size());
                // A bare checkpoint is all that there was to verify; leaves that came too early are not.
                if bare { Relay::Accept } else { Relay::Ignore }
            }
            Ok(Admission::Sealed(checkpoint)) => {
                self.announced(from, log, checkpoint.size());
                effects.push(Effect::KeepCheckpoint(log, checkpoint));
                Relay::Accept
            }
            Ok(Admission::Behind(checkpoint)) => {
                self.compare(log, checkpoint, effects);
                Relay::Ignore
            }
            Ok(Admission::Known) => Relay::Ignore,
            Err(refusal) => {
                let relay = if refusal.blame() == Blame::Relayer { Relay::Reject } else { Relay::Ignore };
                if !matches!(refusal, Refusal::Gap { .. }) {
                    self.refused(from, refusal, effects);
                }
                relay
            }
        };
        effects.push(Effect::Judge { delivery, relay });
        self.watch_own_log(effects);
        self.fetch(effects);
    }

    /// What is due from time to time.
    pub(super) fn tick(&mut self, effects: &mut Vec<Effect>) {
        self.ask_due_heads(effects);
        self.review_requests(effects);
        self.review_searches(effects);
        self.watch_own_log(effects);
        self.remark(effects);
    }
}
