//! Looking for openings that are missing, of anyone who may have them (SPEC 5.4, 14.5).
//!
//! Whoever passes leaves on without their openings does nothing wrong, so there may be a million to look for, and some that
//! nobody has. Sweep after sweep goes over all that are missing, from the first to the last: several peers are asked at a
//! time, each for its own share, and asked again as soon as they answer. Each sweep gives each share to another peer than the
//! sweep before. So what exists somewhere is found, and what exists nowhere is in nobody's way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::catch_up::{PATIENCE, PAUSE};
use super::heads::Peer;
use super::{Effect, Engine, Misdeed};
use crate::entries::LateOpening;
use crate::key::PublicKey;
use crate::ledger::Log;
use crate::names::LogId;
use crate::time::Timestamp;
use crate::wire::{Answer, MAX_OPENINGS, Request};

/// Peers that are asked for openings of one log at a time.
const PER_LOG: usize = 4;

/// Logs of whose openings one peer is asked at a time. Each question is 256 reads from its disk.
const PER_PEER: usize = 4;

/// Leaves that are looked for at one peer together: as many as a question may name.
const BLOCK: u64 = MAX_OPENINGS as u64;

/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(1);

/// After every peer was asked for everything, and had nothing: it may come with a peer that is away. A guess; what settles it
/// is how long members really are away.
const REST: Duration = Duration::from_secs(60);

/// What is being looked for.
#[derive(Default)]
pub(super) struct Searches {
    logs: BTreeMap<LogId, Search>,
}

/// The sweeps over one log.
#[derive(Default)]
struct Search {
    /// Who is asked, since when.
    asked: BTreeMap<PublicKey, Timestamp>,
    /// Whom this sweep asks, and where each one's share goes on.
    shares: Vec<(PublicKey, u64)>,
    /// Which sweep it is, and how many in a row have found nothing.
    sweep: u64,
    fruitless: usize,
    /// When the next sweep begins, once this one has come to the end. What is new beyond that is asked for meanwhile.
    again: Option<Timestamp>,
}

impl Searches {
    /// Nothing more will come from this peer.
    pub(super) fn forget(&mut self, key: PublicKey) {
        for search in self.logs.values_mut() {
            search.asked.remove(&key);
            search.shares.retain(|(known, _)| *known != key);
        }
    }

    /// This peer has a log of which something is looked for. If it is not one of those who had nothing, it is asked soon.
    pub(super) fn met(&mut self, key: PublicKey, log: LogId, now: Timestamp) {
        if let Some(search) = self.logs.get_mut(&log)
            && !search.shares.iter().any(|(known, _)| *known == key)
        {
            search.found(now);
        }
    }

    fn load(&self, key: &PublicKey) -> usize {
        self.logs.values().filter(|search| search.asked.contains_key(key)).count()
    }
}

impl Search {
    /// Begins a sweep if it is time.
    fn begin(&mut self, now: Timestamp, able: impl Iterator<Item = PublicKey>) {
        if self.shares.is_empty() || self.again.is_some_and(|at| at <= now) {
            self.shares = able.map(|key| (key, 0)).collect();
            self.again = None;
            self.sweep = self.sweep.wrapping_add(1);
        }
    }

    /// Notes that nothing is left to be asked for in this sweep.
    fn end(&mut self, now: Timestamp) {
        if self.again.is_none() {
            self.fruitless += 1;
            let all_asked = self.fruitless.is_multiple_of(self.shares.len().max(1));
            self.again = Some(now + if all_asked { REST } else { SWEEP });
        }
    }

    /// What is to be asked next of the peer with this number: the leaves are dealt out in blocks, each sweep otherwise.
    fn next_of(&self, number: usize, log: &Log) -> Vec<u64> {
        let peers = self.shares.len() as u64;
        let mine = (number as u64).wrapping_add(self.sweep) % peers;
        let missing = log.missing_from(self.shares[number].1);
        missing.filter(|index| index / BLOCK % peers == mine).take(MAX_OPENINGS).collect()
    }

    /// Something has been found, or somebody has come, so there may be more.
    fn found(&mut self, now: Timestamp) {
        self.fruitless = 0;
        self.again = self.again.map(|at| at.min(now + SWEEP));
    }
}

impl Engine {
    /// Gives up on questions that were asked too long ago, and goes on with every search.
    pub(super) fn review_searches(&mut self, effects: &mut Vec<Effect>) {
        let (now, ledger) = (self.now, &self.ledger);
        self.searches.logs.retain(|log, _| ledger.log(*log).is_some_and(|log| log.missing() > 0));
        for Search { asked, shares, .. } in self.searches.logs.values_mut() {
            let slow = |key: &PublicKey| asked.get(key).is_some_and(|since| now.since(*since) >= PATIENCE);
            // Who is slow loses the rest of its share, or it could make a sweep last for ever.
            shares.iter_mut().filter(|(key, _)| slow(key)).for_each(|(_, next)| *next = u64::MAX);
            asked.retain(|_, since| now.since(*since) < PATIENCE);
        }
        let lacking: Vec<LogId> = ledger.logs().filter(|(_, log)| log.missing() > 0).map(|(id, _)| id).collect();
        for log in lacking {
            self.search(log, effects);
        }
    }

    /// Asks for what is missing of a log, as far as the bounds allow.
    fn search(&mut self, id: LogId, effects: &mut Vec<Effect>) {
        let Some(log) = self.ledger.log(id).filter(|log| log.missing() > 0) else { return };
        let first = log.missing_from(0).next().unwrap_or_default();
        let able = |peer: &Peer| {
            let has = peer.has.get(&id).is_some_and(|has| *has > first);
            has && !peer.diverged.contains(&id) && !peer.keeps_openings
        };
        let load: BTreeMap<PublicKey, usize> = self.peers.keys().map(|key| (*key, self.searches.load(key))).collect();
        let search = self.searches.logs.entry(id).or_default();
        search.begin(self.now, self.peers.iter().filter(|(_, peer)| able(peer)).map(|(key, _)| *key));
        let mut done = !search.shares.is_empty();
        for number in 0..search.shares.len() {
            let key = search.shares[number].0;
            let Some(peer) = self.peers.get(&key) else { continue };
            let indices = search.next_of(number, log);
            let Some(last) = indices.last().copied() else { continue };
            done = false;
            let busy = search.asked.contains_key(&key) || peer.busy_until > self.now || load[&key] >= PER_PEER;
            if search.asked.len() < PER_LOG && !busy {
                search.shares[number].1 = last + 1;
                search.asked.insert(key, self.now);
                effects.push(Effect::Ask { peer: key, request: Request::Openings { log: id, indices } });
            }
        }
        if done {
            search.end(self.now);
        }
    }

    /// A peer has answered; what it had came before, as [`Input::Opened`](super::Input::Opened).
    pub(super) fn openings_answered(
        &mut self,
        key: PublicKey,
        log: LogId,
        answer: Option<Answer>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(search) = self.searches.logs.get_mut(&log) {
            search.asked.remove(&key);
        }
        match answer {
            Some(Answer::Openings { .. }) => {}
            // Who only does not have them answers with none. It hands out none (14.8), and is not asked again for as long as it is
            // connected.
            Some(Answer::NotHeld) => {
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.keeps_openings = true;
                }
                for search in self.searches.logs.values_mut() {
                    search.shares.retain(|(known, _)| *known != key);
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
        self.search(log, effects);
    }

    /// Takes openings that were missing.
    pub(super) fn opened(&mut self, openings: Vec<LateOpening>, effects: &mut Vec<Effect>) {
        for late in openings {
            if self.ledger.opened(&late) {
                if let Some(search) = self.searches.logs.get_mut(&late.log()) {
                    search.found(self.now);
                }
                let late = Arc::new(late);
                effects.push(Effect::CommitOpening(Arc::clone(&late)));
                effects.push(Effect::ShowOpening(late));
            }
        }
    }
}
