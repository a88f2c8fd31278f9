//! Cosigning what others have signed (SPEC 17.2, 17.3).
//!
//! A witness cosigns what it has verified and stored whole, openings included. Whoever asks before everything is here waits
//! a little: an author tells its witnesses and asks them in the same moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Effect, Engine, Rival};
use crate::checkpoint::SignedCheckpoint;
use crate::digest::Digest;
use crate::key::PublicKey;
use crate::ledger::{Admission, Mark};
use crate::names::LogId;
use crate::time::Timestamp;
use crate::tree::proof::verify_consistency;
use crate::witnessing::{AddCheckpoint, Reproach, WitnessAnswer};

/// How long a request waits for the leaves that it is about. Whoever has asked asks again.
const HOLD: Duration = Duration::from_secs(10);

/// What this node has cosigned, and who waits.
#[derive(Default)]
pub(super) struct Witness {
    marks: BTreeMap<LogId, Mark>,
    /// More may have been cosigned than that: nothing is cosigned any more.
    restored: bool,
    /// One a log, of its author: it asks for one checkpoint at a time.
    held: BTreeMap<LogId, Held>,
}

struct Held {
    ticket: u64,
    from: PublicKey,
    since: Timestamp,
    size: u64,
    request: AddCheckpoint,
}

impl Witness {
    pub(super) fn new(marks: BTreeMap<LogId, Mark>, restored: bool) -> Self {
        Self { marks, restored, held: BTreeMap::new() }
    }

    /// Nobody waits any more.
    pub(super) fn forget(&mut self, key: PublicKey) {
        self.held.retain(|_, held| held.from != key);
    }
}

impl Engine {
    /// Somebody wants a cosignature.
    pub(super) fn asked_to_cosign(
        &mut self,
        (ticket, from): (u64, PublicKey),
        log: LogId,
        request: AddCheckpoint,
        effects: &mut Vec<Effect>,
    ) {
        let checkpoint = match self.judge_request(from, log, &request, effects) {
            Ok(checkpoint) => checkpoint,
            Err(answer) => return effects.push(Effect::AnswerWitness { ticket, answer: Some(answer) }),
        };
        let Some(held) = self.ledger.log(log) else { return };
        let size = checkpoint.size();
        if self.clock_error().is_some() {
            return effects.push(Effect::AnswerWitness { ticket, answer: None });
        }
        if held.is_whole_to(size) {
            if size == held.size() {
                let root = held.root();
                self.cosign(ticket, log, &checkpoint, root, effects);
            } else {
                let rival = Rival::ToCosign { ticket, checkpoint };
                effects.push(Effect::Compare { log, rival, signed: 0 });
            }
            return;
        }
        let mut out = Some(ticket);
        if self.federation.nodes().get(&from) == Some(&log.member) {
            self.announced(from, log, size);
            let held = Held { ticket, from, since: self.now, size, request };
            out = self.witness.held.insert(log, held).map(|before| before.ticket);
        }
        // Nothing is fetched for this: a small batch is on its way already, and the rest is asked for with the next tick.
        effects.extend(out.map(|ticket| Effect::AnswerWitness { ticket, answer: None }));
    }

    /// The checks of C2SP tlog-witness, but for having the leaves.
    fn judge_request(
        &mut self,
        from: PublicKey,
        log: LogId,
        request: &AddCheckpoint,
        effects: &mut Vec<Effect>,
    ) -> Result<SignedCheckpoint, WitnessAnswer> {
        let refused = |reproach| Err(WitnessAnswer::Refused(reproach));
        let federation = Arc::clone(&self.federation);
        let mut witnesses = federation.witnesses_of(log);
        let is_witness = witnesses.any(|(member, key)| Some(member) == self.member && self.keys.contains(key.key()));
        let Some(key) = federation.logs().get(&log).filter(|_| is_witness && !self.witness.restored) else {
            return refused(Reproach::UnknownLog);
        };
        let Ok(checkpoint) = SignedCheckpoint::open(request.checkpoint.clone(), key) else {
            return refused(Reproach::NotSigned);
        };
        if self.ledger.log(log).is_none_or(|held| checkpoint.size() > held.limit()) {
            return refused(Reproach::UnknownLog);
        }
        // What it says of the log is news like any other; it may be the proof of a fork.
        if self.is_frozen(log) {
            return refused(Reproach::Contradiction);
        }
        match self.ledger.hear(log, request.checkpoint.clone()) {
            Ok(Admission::Behind(checkpoint)) => self.compare(log, checkpoint, effects),
            Ok(_) => {}
            Err(refusal) => {
                self.refused(from, refusal, effects);
                return refused(Reproach::Contradiction);
            }
        }
        let mark = self.witness.marks.get(&log).copied().unwrap_or_default();
        if request.old > checkpoint.size() {
            return refused(Reproach::Backwards);
        }
        if request.old != mark.size {
            return Err(WitnessAnswer::Conflict(mark.size));
        }
        let extends = verify_consistency(mark.size, mark.root, checkpoint.size(), checkpoint.root(), &request.proof);
        if extends.is_err() { refused(Reproach::Contradiction) } else { Ok(checkpoint) }
    }

    /// Cosigns, if the leaves here have the root that was signed.
    pub(super) fn cosign(
        &mut self,
        ticket: u64,
        log: LogId,
        checkpoint: &SignedCheckpoint,
        root: Digest,
        effects: &mut Vec<Effect>,
    ) {
        if root != checkpoint.root() {
            let answer = Some(WitnessAnswer::Refused(Reproach::Contradiction));
            return effects.push(Effect::AnswerWitness { ticket, answer });
        }
        let key = self.member.and_then(|member| self.federation.witnesses().get(&member)).cloned();
        // While this was being compared another card may have come into force.
        let Some(key) = key.filter(|key| self.keys.contains(key.key())) else {
            return effects.push(Effect::AnswerWitness { ticket, answer: None });
        };
        let mark = Mark { size: checkpoint.size(), root };
        let before = self.witness.marks.insert(log, mark).unwrap_or_default();
        if before.size > mark.size {
            // Another request was faster, while this one was being compared.
            self.witness.marks.insert(log, before);
            let answer = Some(WitnessAnswer::Conflict(before.size));
            return effects.push(Effect::AnswerWitness { ticket, answer });
        }
        effects.push(Effect::Cosign { ticket, log, mark, key: Box::new(key) });
    }

    /// Looks again at the requests that waited for leaves or openings.
    pub(super) fn review_held(&mut self, effects: &mut Vec<Effect>) {
        let (now, ledger) = (self.now, &self.ledger);
        let ready = |log: LogId, held: &Held| ledger.log(log).is_some_and(|log| log.is_whole_to(held.size));
        let due: Vec<LogId> = self
            .witness
            .held
            .iter()
            .filter(|(log, held)| ready(**log, held) || now.since(held.since) >= HOLD)
            .map(|(log, _)| *log)
            .collect();
        for log in due {
            let Some(held) = self.witness.held.remove(&log) else { continue };
            if now.since(held.since) >= HOLD {
                effects.push(Effect::AnswerWitness { ticket: held.ticket, answer: None });
            } else {
                self.asked_to_cosign((held.ticket, held.from), log, held.request, effects);
            }
        }
    }
}
