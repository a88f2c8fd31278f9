//! What each peer has: heads, and clocks (SPEC 14.4).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Blame, Effect, Engine, Relay, Rollback};
use crate::checkpoint::Checkpoint;
use crate::governance::Position;
use crate::key::PublicKey;
use crate::ledger::{Admission, Refusal};
use crate::names::{LogId, MemberId};
use crate::note::Note;
use crate::time::Timestamp;
use crate::wire::{Heads, Request};

/// A connected node of a member.
pub(super) struct Peer {
    pub(super) member: MemberId,
    /// How much of each log it says that it has.
    pub(super) has: BTreeMap<LogId, u64>,
    /// Logs that look different there.
    pub(super) diverged: BTreeSet<LogId>,
    /// When its heads were heard last, and how far its clock was ahead, in milliseconds.
    pub(super) heard: Option<(Timestamp, i64)>,
    asked: Option<Timestamp>,
    /// Which charters and cards it says that it has.
    pub(super) stands: Option<Position>,
    /// Nothing is asked of it before this moment.
    pub(super) busy_until: Timestamp,
    /// It hands out no openings, at least not to this node.
    pub(super) keeps_openings: bool,
}

/// How much of each log each node has shown. Nodes and logs are those of the federation: there are not too many.
#[derive(Default)]
pub(super) struct Shown {
    heads: BTreeMap<(PublicKey, LogId), Show>,
}

struct Show {
    member: MemberId,
    /// By the clock of the node: what it said later may arrive before what it said earlier.
    said: Timestamp,
    shows: u64,
    most: u64,
}

impl Shown {
    fn show(&mut self, key: PublicKey, member: MemberId, log: LogId, said: Timestamp, size: u64) {
        let show = self.heads.entry((key, log)).or_insert(Show { member, said, shows: size, most: size });
        if said >= show.said {
            (show.said, show.shows) = (said, size);
            show.most = size.max(show.most);
        }
    }

    /// Forgets nodes that are none of a member's any more.
    pub(super) fn retain(&mut self, is_known: impl Fn(&PublicKey) -> bool) {
        self.heads.retain(|(key, _), _| is_known(key));
    }

    pub(super) fn rollbacks(&self) -> impl Iterator<Item = Rollback> {
        let less = self.heads.iter().filter(|(_, show)| show.shows < show.most);
        less.map(|((_, log), show)| Rollback { member: show.member, log: *log, showed: show.most, shows: show.shows })
    }
}

impl Engine {
    pub(super) fn peer_up(&mut self, key: PublicKey, effects: &mut Vec<Effect>) {
        let Some(&member) = self.federation.nodes().get(&key) else { return };
        self.peers.entry(key).or_insert_with(|| Peer {
            member,
            has: BTreeMap::new(),
            diverged: BTreeSet::new(),
            heard: None,
            asked: None,
            stands: None,
            busy_until: Timestamp::default(),
            keeps_openings: false,
        });
        self.ask_heads(key, effects);
    }

    pub(super) fn peer_down(&mut self, key: PublicKey, effects: &mut Vec<Effect>) {
        self.peers.remove(&key);
        self.catch_up.forget(key);
        self.searches.forget(key);
        self.settling.forget(key);
        self.witness.forget(key);
        self.governing.forget(key);
        self.fetch(effects);
    }

    pub(super) fn ask_heads(&mut self, key: PublicKey, effects: &mut Vec<Effect>) {
        let heads = self.heads();
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.asked = Some(self.now);
            let heads = heads.told_to(Some(peer.member), self.now);
            effects.push(Effect::Ask { peer: key, request: Request::Heads(heads) });
        }
    }

    /// Asks those whose heads are due.
    pub(super) fn ask_due_heads(&mut self, effects: &mut Vec<Effect>) {
        let interval = Duration::from_millis(self.federation.charter().body().parameters.heads_interval);
        let due = |peer: &Peer| peer.asked.is_none_or(|asked| self.now.since(asked) >= interval);
        let due: Vec<_> = self.peers.iter().filter(|(_, peer)| due(peer)).map(|(key, _)| *key).collect();
        for key in due {
            self.ask_heads(key, effects);
        }
    }

    /// A peer has told its heads, asked or not.
    pub(super) fn told(&mut self, from: PublicKey, heads: Heads, effects: &mut Vec<Effect>) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let ahead = i64::try_from(heads.time.0).unwrap_or(i64::MAX).saturating_sub_unsigned(now.0);
        peer.heard = Some((now, ahead));
        self.voice.heard(peer.member);
        // An honest node tells one head a log: what is beyond that is not read, or else one frame could take a tenth of a
        // second of the one thread that decides.
        for (log, note) in heads.heads.into_iter().take(self.federation.logs().len()) {
            if self.ledger.log(log).is_none() {
                continue;
            }
            let size = Checkpoint::parse(note.text()).map_or(0, |checkpoint| checkpoint.size);
            match self.heard_head(log, size, note) {
                Ok(admission) => {
                    if let Some(peer) = self.peers.get_mut(&from) {
                        peer.has.insert(log, size);
                        self.shown.show(from, peer.member, log, heads.time, size);
                        self.searches.met(from, log, self.now);
                    }
                    match admission {
                        Admission::Sealed(checkpoint) => effects.push(Effect::KeepCheckpoint(log, checkpoint)),
                        Admission::Behind(checkpoint) => self.compare(log, checkpoint, effects),
                        Admission::New(_) | Admission::Ahead(_) | Admission::Known => {}
                    }
                }
                // It says more than counts, and has what does.
                Err(Refusal::Ended { .. }) => {
                    if let Some(peer) = self.peers.get_mut(&from) {
                        peer.has.insert(log, size);
                    }
                }
                Err(refusal) => {
                    let relayer = refusal.blame() == Blame::Relayer;
                    self.refused(from, refusal, effects);
                    if relayer {
                        break;
                    }
                }
            }
        }
        self.hear_position(from, heads.governance, effects);
        self.hear_accused(from, heads.evidence, effects);
        for (log, note) in heads.settled {
            if self.hear_settled(from, log, &note, effects) == Relay::Reject {
                break;
            }
        }
        // The peer does not hold these, so it cannot be asked for them; but they were signed.
        for (log, note) in heads.heard {
            if Some(log) == self.own {
                match self.ledger.hear(log, note) {
                    Ok(Admission::Sealed(checkpoint)) => effects.push(Effect::KeepCheckpoint(log, checkpoint)),
                    Ok(Admission::Behind(checkpoint)) => self.compare(log, checkpoint, effects),
                    Ok(_) => {}
                    Err(refusal) => self.refused(from, refusal, effects),
                }
            }
        }
        self.watch_own_log(effects);
        self.fetch(effects);
    }

    /// What a peer's head says. One that is the same as the log here, or was found to be the beginning of it, needs no
    /// signature check: it only says what may be asked of this peer. Any other may be the proof of a fork.
    fn heard_head(&mut self, log: LogId, size: u64, note: Note) -> Result<Admission, Refusal> {
        let known = self.is_compared(log, &note);
        let nothing_new = self.ledger.log(log).is_some_and(|log| {
            (known && size < log.size()) || log.whole().is_some_and(|whole| whole.note().text() == note.text())
        });
        if nothing_new || (self.is_frozen(log) && self.ledger.log(log).is_some()) {
            return Ok(Admission::Known);
        }
        self.ledger.hear(log, note)
    }

    /// How far the own clock is ahead of the median of the peers', in milliseconds; `None` without any.
    ///
    /// Of an even number the one in the middle that is nearer to the own clock: or else one peer of two that lies would
    /// silence a node that the other agrees with.
    pub(super) fn clock_offset(&self) -> Option<i64> {
        let mut offsets: Vec<i64> = self.peers.values().filter_map(|peer| Some(peer.heard?.1)).collect();
        offsets.sort_unstable();
        let upper = offsets.len() / 2;
        let lower = offsets.len().saturating_sub(1) / 2;
        let median =
            [*offsets.get(lower)?, *offsets.get(upper)?].into_iter().min_by_key(|offset| offset.unsigned_abs());
        median.map(i64::saturating_neg)
    }

    /// Whether fresh heads were heard from too few members: then what this node knows may be old.
    pub fn is_isolated(&self) -> bool {
        let members = self.members_heard();
        let others = members.iter().filter(|member| Some(**member) != self.member).count();
        others < self.federation.size() / 2
    }
}
