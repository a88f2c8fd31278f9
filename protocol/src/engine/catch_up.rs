//! Fetching leaves that are missing: ranges from several peers, verified in order (SPEC 14.5).
//!
//! Bounded everywhere: so many requests a log, so many a peer, so many in all; what has arrived out of order counts as one
//! of them. A range that fails is asked of somebody else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Effect, Engine, Misdeed};
use crate::batch::Batch;
use crate::checkpoint::SignedCheckpoint;
use crate::key::PublicKey;
use crate::ledger::{Admission, Admitted};
use crate::names::LogId;
use crate::time::Timestamp;
use crate::wire::{Answer, Request};

/// Ranges of one log that are asked for or held at a time: enough to hide a round trip of 60 ms behind 8,192 leaves each.
const PER_LOG: usize = 4;

/// Requests for ranges to one peer at a time.
const PER_PEER: usize = 8;

/// Ranges that are asked for or held in all; each takes up to 3 MB once read.
const IN_ALL: usize = 32;

/// A peer that has not answered for so long is asked no more for this; a batch takes milliseconds, a slow line seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a peer that said it was busy is left alone.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// What is being fetched.
#[derive(Default)]
pub(super) struct CatchUp {
    logs: BTreeMap<LogId, Fetch>,
}

#[derive(Default)]
struct Fetch {
    /// By first leaf.
    asked: BTreeMap<u64, Flight>,
    /// Arrived out of order, by first leaf.
    held: BTreeMap<u64, (PublicKey, Batch)>,
}

struct Flight {
    peer: PublicKey,
    to: u64,
    since: Timestamp,
}

impl CatchUp {
    /// Drops everything that a peer was asked for: it is gone.
    pub(super) fn forget(&mut self, key: PublicKey) {
        for fetch in self.logs.values_mut() {
            fetch.asked.retain(|_, flight| flight.peer != key);
        }
    }

    fn load(&self, key: PublicKey) -> usize {
        self.logs.values().flat_map(|fetch| fetch.asked.values()).filter(|flight| flight.peer == key).count()
    }

    fn in_all(&self) -> usize {
        self.logs.values().map(Fetch::count).sum()
    }
}

impl Fetch {
    fn count(&self) -> usize {
        self.asked.len() + self.held.len()
    }

    /// The first stretch of `from..to` that is neither asked for nor held.
    fn gap(&self, from: u64, to: u64) -> Option<(u64, u64)> {
        let mut taken: Vec<(u64, u64)> = self.asked.iter().map(|(first, flight)| (*first, flight.to)).collect();
        taken.extend(self.held.iter().map(|(first, (_, batch))| (*first, batch.entries.end())));
        taken.sort_unstable();
        let mut start = from;
        for (first, end) in taken {
            if first > start {
                return Some((start, first.min(to)));
            }
            start = start.max(end);
        }
        (start < to).then_some((start, to))
    }
}

impl Engine {
    /// Asks for whatever is known to be missing, as far as the bounds allow.
    pub(super) fn fetch(&mut self, effects: &mut Vec<Effect>) {
        let step = u64::from(self.federation.charter().body().parameters.batch_leaves);
        let behind: Vec<(LogId, u64, u64)> = self
            .ledger
            .logs()
            .filter_map(|(id, log)| {
                let settling = log.settling().map(|settling| settling.size());
                let ahead = [log.ahead().map(SignedCheckpoint::size), settling, log.end().map(|end| end.size)];
                let target = ahead.into_iter().flatten().max()?.min(self.taken_up_to(id));
                (target > log.size()).then_some((id, log.size(), target))
            })
            .collect();
        self.catch_up.logs.retain(|id, _| behind.iter().any(|(log, ..)| log == id));
        for (id, have, target) in behind {
            loop {
                let fetch = self.catch_up.logs.entry(id).or_default();
                if fetch.count() >= PER_LOG {
                    break;
                }
                let Some((from, end)) = fetch.gap(have, target) else { break };
                // The range that everything else waits for may always be asked for, or full bounds could block it.
                if self.catch_up.in_all() >= IN_ALL && from != have {
                    break;
                }
                let Some((peer, to)) = self.source(id, from, end.min(from + step)) else { break };
                let flight = Flight { peer, to, since: self.now };
                self.catch_up.logs.entry(id).or_default().asked.insert(from, flight);
                effects.push(Effect::Ask { peer, request: Request::Range { log: id, from, to } });
            }
        }
    }

    /// The least busy peer that has leaves from `from` on, and how far it can give them.
    fn source(&self, log: LogId, from: u64, to: u64) -> Option<(PublicKey, u64)> {
        let able = self.peers.iter().filter_map(|(key, peer)| {
            let has = *peer.has.get(&log)?;
            let willing = peer.busy_until <= self.now && !peer.diverged.contains(&log);
            let load = self.catch_up.load(*key);
            (has > from && willing && load < PER_PEER).then_some((load, *key, has.min(to)))
        });
        able.min_by_key(|(load, _, has)| (*load, u64::MAX - has)).map(|(_, key, to)| (key, to))
    }

    /// Takes what a peer has answered.
    pub(super) fn answered(
        &mut self,
        key: PublicKey,
        request: Request,
        answer: Option<Answer>,
        effects: &mut Vec<Effect>,
    ) {
        match (request, answer) {
            (Request::Heads(_), Some(Answer::Heads(heads))) => self.told(key, heads, effects),
            (Request::Range { log, from, to }, answer) => self.range_answered(key, log, (from, to), answer, effects),
            (Request::Openings { log, .. }, answer) => self.openings_answered(key, log, answer, effects),
            (Request::Cosign(_, request), answer) => self.witness_answered(key, &request.checkpoint, answer, effects),
            (Request::Documents(..), answer) => self.documents_answered(key, answer, effects),
            (Request::Evidence(_), Some(Answer::Evidence(bytes))) => {
                self.hear_evidence(key, &bytes, effects);
            }
            (Request::Heads(_) | Request::Evidence(_), None | Some(Answer::Busy | Answer::NotHeld)) => {}
            (Request::Heads(_) | Request::Evidence(_), Some(_)) => {
                effects.push(Effect::Shun { peer: key, misdeed: Misdeed::OtherAnswer });
            }
        }
    }

    fn range_answered(
        &mut self,
        key: PublicKey,
        log: LogId,
        (from, to): (u64, u64),
        answer: Option<Answer>,
        effects: &mut Vec<Effect>,
    ) {
        let fetch = self.catch_up.logs.entry(log).or_default();
        let asked = fetch.asked.get(&from).is_some_and(|flight| flight.peer == key);
        if asked {
            fetch.asked.remove(&from);
        }
        match answer {
            Some(Answer::Range(batch)) => {
                let entries = &batch.entries;
                if entries.log() != log || entries.first() != from || entries.end() > to {
                    effects.push(Effect::Shun { peer: key, misdeed: Misdeed::OtherAnswer });
                } else if asked {
                    fetch.held.insert(from, (key, *batch));
                }
            }
            // It does not have what it said it had, or not any more.
            Some(Answer::NotHeld) => {
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.has.insert(log, from);
                }
            }
            Some(Answer::Busy) | None => {
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.busy_until = self.now + PAUSE;
                }
            }
            Some(_) => {
                effects.push(Effect::Shun { peer: key, misdeed: Misdeed::OtherAnswer });
            }
        }
        self.admit_held(log, effects);
        self.watch_own_log(effects);
        self.fetch(effects);
    }

    /// Admits what has arrived, in order, as far as there is no gap.
    fn admit_held(&mut self, log: LogId, effects: &mut Vec<Effect>) {
        loop {
            let Some(size) = self.ledger.log(log).map(crate::ledger::Log::size) else { return };
            let Some(fetch) = self.catch_up.logs.get_mut(&log) else { return };
            let Some(entry) = fetch.held.first_entry().filter(|entry| *entry.key() <= size) else { return };
            let (peer, batch) = entry.remove();
            if batch.entries.end() > self.taken_up_to(log) {
                continue;
            }
            match self.ledger.admit(batch) {
                Ok(Admission::New(admitted)) => {
                    let admitted: Arc<Admitted> = Arc::from(admitted);
                    effects.push(Effect::Commit(Arc::clone(&admitted)));
                    effects.push(Effect::Show(Arc::clone(&admitted)));
                    self.settle_reached(log, effects);
                    self.heed(&admitted, effects);
                }
                Ok(Admission::Sealed(checkpoint)) => effects.push(Effect::KeepCheckpoint(log, checkpoint)),
                Ok(Admission::Behind(checkpoint)) => self.compare(log, checkpoint, effects),
                Ok(Admission::Ahead(_) | Admission::Known) => {}
                Err(refusal) => self.refused(peer, refusal, effects),
            }
        }
    }

    /// Gives up on what has been asked for too long ago.
    pub(super) fn review_requests(&mut self, effects: &mut Vec<Effect>) {
        let now = self.now;
        let mut slow = Vec::new();
        for fetch in self.catch_up.logs.values_mut() {
            fetch.asked.retain(|_, flight| {
                let patient = now.since(flight.since) < PATIENCE;
                if !patient {
                    slow.push(flight.peer);
                }
                patient
            });
        }
        for key in slow {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.busy_until = now + PATIENCE;
            }
        }
        self.fetch(effects);
    }

    /// Notes that whoever announced a checkpoint, and its author, can be asked for its leaves.
    pub(super) fn announced(&mut self, from: PublicKey, log: LogId, size: u64) {
        for (key, peer) in &mut self.peers {
            if *key == from || peer.member == log.member {
                let has = peer.has.entry(log).or_default();
                *has = size.max(*has);
                self.searches.met(*key, log, self.now);
            }
        }
    }
}
