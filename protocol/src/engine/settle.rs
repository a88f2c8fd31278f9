//! Settling: gathering cosignatures of the own log, and hearing of other logs' (SPEC 17.4 to 17.7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::catch_up::PATIENCE;
use super::{Effect, Engine, Misdeed, Relay, Rival};
use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::cosignature::{Cosignature, CosignedCheckpoint, SettledCheckpoint};
use crate::digest::Digest;
use crate::evidence::Accused;
use crate::key::PublicKey;
use crate::ledger::{Blame, Refusal};
use crate::names::{LogId, MemberId};
use crate::note::{Note, SignatureLine};
use crate::time::Timestamp;
use crate::wire::{Answer, Gossip};
use crate::witnessing::{Reproach, WitnessAnswer};

/// Between the beginnings of two rounds (SPEC 17.5): cosignatures cost every witness a write that is synced, and settling a
/// busy log once in two seconds is as good as at each batch.
pub const ROUND: Duration = Duration::from_secs(2);

/// A round that has not come to an end after so long is given up for one about the newest checkpoint. A witness that fetches
/// a large batch over a slow line needs this long.
const STALE: Duration = Duration::from_secs(30);

/// Before a witness that was busy, or did not answer, is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The own log on its way to being settled.
#[derive(Default)]
pub(super) struct Settling {
    round: Option<Round>,
    /// When the last round began.
    began: Option<Timestamp>,
    /// When the last one came to its end, by this node's clock.
    ended: Option<Timestamp>,
    /// What each witness cosigned last.
    olds: BTreeMap<MemberId, u64>,
}

/// One checkpoint that all witnesses are asked to cosign.
struct Round {
    cosigned: CosignedCheckpoint,
    /// Who is asked, since when.
    asked: BTreeMap<PublicKey, Timestamp>,
    /// Who is not asked before when.
    later: BTreeMap<MemberId, Timestamp>,
    /// Who will not cosign this.
    refused: BTreeSet<MemberId>,
}

/// Why a log does not settle further now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CannotSettle {
    /// Too few of its witnesses were heard lately.
    Unheard {
        /// Those that were, this node among them if it is one.
        heard: usize,
        /// How many must cosign.
        needed: usize,
        /// Those that were not.
        absent: Vec<MemberId>,
    },
    /// Too many of its witnesses have refused.
    Refused(Vec<MemberId>),
    /// Its key has signed two histories.
    TwoHistories,
}

impl std::fmt::Display for CannotSettle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |members: &[MemberId]| members.iter().map(MemberId::as_str).collect::<Vec<_>>().join(", ");
        match self {
            Self::Unheard { heard, needed, absent } => {
                let absent = names(absent);
                write!(f, "{needed} witnesses must cosign, {heard} were heard lately; not heard: {absent}")
            }
            Self::Refused(by) => write!(f, "{} will not cosign it; their nodes' status says why", names(by)),
            Self::TwoHistories => f.write_str("its key has signed two histories"),
        }
    }
}

impl Settling {
    /// Nothing more will come from this peer.
    pub(super) fn forget(&mut self, key: PublicKey) {
        if let Some(round) = &mut self.round {
            round.asked.remove(&key);
        }
    }
}

impl Engine {
    /// Begins rounds, and goes on with the one that is under way.
    pub(super) fn settle_own(&mut self, effects: &mut Vec<Effect>) {
        let Some((own, log)) = self.own.and_then(|own| Some((own, self.ledger.log(own)?))) else { return };
        let Some(newest) = log.whole().filter(|_| !self.is_frozen(own)) else { return };
        let pace = |span| self.settling.began.is_none_or(|began| self.now.since(began) >= span);
        let due = match &self.settling.round {
            Some(round) => newest.size() > round.cosigned.checkpoint().size() && pace(STALE),
            None => pace(ROUND) && newest.size() > 0 && (newest.size() > log.settled_size() || self.is_stale(own)),
        };
        if due {
            let cosigned = CosignedCheckpoint::new(newest.clone());
            let (asked, later, refused) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
            self.settling.began = Some(self.now);
            self.settling.round = Some(Round { cosigned, asked, later, refused });
        }
        self.ask_witnesses(own, effects);
    }

    /// SPEC 17.5: what is settled is cosigned anew after `recosign`, and when charter or cards have changed so that whoever learns of it now
    /// would not find it settled.
    fn is_stale(&self, own: LogId) -> bool {
        let recosign = Duration::from_millis(self.federation.charter().body().parameters.recosign);
        let settled = self.ledger.log(own).and_then(|log| log.settled());
        settled.is_some_and(|settled| {
            self.now.since(self.settling.ended.unwrap_or(settled.time())) >= recosign
                || !settled.is_current(own, &self.federation)
        })
    }

    fn ask_witnesses(&mut self, own: LogId, effects: &mut Vec<Effect>) {
        let now = self.now;
        let witnesses: BTreeSet<MemberId> = self.federation.witnesses_of(own).map(|(member, _)| member).collect();
        let Settling { round: Some(round), olds, .. } = &mut self.settling else { return };
        round.asked.retain(|_, since| now.since(*since) < PATIENCE);
        let busy: BTreeSet<MemberId> =
            round.asked.keys().filter_map(|key| self.federation.nodes().get(key)).copied().collect();
        let mut turn = busy;
        for (key, peer) in &self.peers {
            let member = peer.member;
            let early = round.later.get(&member).is_some_and(|later| *later > now);
            let done = round.cosigned.cosignatures().contains_key(&member) || round.refused.contains(&member);
            if !witnesses.contains(&member) || early || done || !turn.insert(member) {
                continue;
            }
            round.asked.insert(*key, now);
            let old = olds.get(&member).copied().unwrap_or_default().min(round.cosigned.checkpoint().size());
            let checkpoint = round.cosigned.checkpoint().clone();
            effects.push(Effect::AskWitness { peer: *key, log: own, old, checkpoint });
        }
    }

    /// A witness has answered.
    pub(super) fn witness_answered(
        &mut self,
        key: PublicKey,
        checkpoint: &Note,
        answer: Option<Answer>,
        effects: &mut Vec<Effect>,
    ) {
        let now = self.now;
        let Some(&member) = self.federation.nodes().get(&key) else { return };
        let Some(round) = &mut self.settling.round else { return };
        if round.cosigned.text() != checkpoint.text() {
            return;
        }
        round.asked.remove(&key);
        match answer {
            Some(Answer::Witness(WitnessAnswer::Cosigned(lines))) => self.cosigned(key, member, &lines, effects),
            Some(Answer::Witness(WitnessAnswer::Conflict(size))) => {
                // It says what to ask for; if that is no news, it need not be asked again at once.
                let told = self.settling.olds.insert(member, size);
                if told == Some(size) || size > round.cosigned.checkpoint().size() {
                    round.later.insert(member, now + AGAIN);
                }
            }
            Some(Answer::Witness(WitnessAnswer::Refused(Reproach::Contradiction))) => {
                round.refused.insert(member);
            }
            Some(Answer::Witness(WitnessAnswer::Refused(_)) | Answer::Busy | Answer::NotHeld) | None => {
                round.later.insert(member, now + AGAIN);
            }
            Some(_) => {
                effects.push(Effect::Shun { peer: key, misdeed: Misdeed::OtherAnswer });
            }
        }
    }

    /// Takes a witness's lines in, and settles the own log if they are enough.
    fn cosigned(&mut self, peer: PublicKey, member: MemberId, lines: &[SignatureLine], effects: &mut Vec<Effect>) {
        let (Some(own), Some(round)) = (self.own, &mut self.settling.round) else { return };
        let Some(key) = self.federation.witnesses().get(&member) else { return };
        let opened = lines.iter().map(|line| Cosignature::open(round.cosigned.text(), line, key));
        match opened.collect::<Result<Vec<_>, _>>() {
            Ok(cosignatures) => {
                for cosignature in cosignatures {
                    round.cosigned.insert(member, cosignature);
                }
            }
            Err(error) => {
                round.refused.insert(member);
                return effects.push(Effect::Shun { peer, misdeed: Misdeed::Cosigned(error) });
            }
        }
        self.settling.olds.insert(member, round.cosigned.checkpoint().size());
        let Ok(settled) = SettledCheckpoint::judge(round.cosigned.clone(), own, &self.federation) else { return };
        self.settling.round = None;
        self.settling.ended = Some(self.now);
        let message = Gossip::encode_settled(settled.note());
        self.settle(own, Arc::new(settled), effects);
        effects.push(Effect::Gossip(message));
    }

    /// Makes known, durably first, that a log is settled up to here. The leaves here lead to it.
    fn settle(&mut self, log: LogId, settled: Arc<SettledCheckpoint>, effects: &mut Vec<Effect>) {
        let size = settled.size();
        self.ledger.settle(log, Arc::clone(&settled));
        effects.push(Effect::CommitSettled(log, settled));
        effects.push(Effect::ShowSettled(log, size));
    }

    /// Leaves have come: they may reach what is known to be settled.
    pub(super) fn settle_reached(&mut self, log: LogId, effects: &mut Vec<Effect>) {
        if let Some(settled) = self.ledger.reached(log) {
            self.settle(log, settled, effects);
        }
    }

    /// Somebody says that a checkpoint is settled.
    pub(super) fn hear_settled(
        &mut self,
        from: PublicKey,
        log: LogId,
        note: &Note,
        effects: &mut Vec<Effect>,
    ) -> Relay {
        if self.settled_is_known(log, note) {
            return Relay::Ignore;
        }
        // Nobody cosigns anew what has ended, or is frozen.
        let is_closed = self.ledger.log(log).is_some_and(|log| log.end().is_some())
            || self.evidence.contains_key(&Accused::Log(log));
        let open = if is_closed { SettledCheckpoint::open_ended } else { SettledCheckpoint::open };
        let settled = match open(note.clone(), log, &self.federation) {
            Ok(settled) => Arc::new(settled),
            Err(error) => {
                let refusal = Refusal::Settlement { log, error };
                let relay = if refusal.blame() == Blame::Relayer { Relay::Reject } else { Relay::Ignore };
                self.refused(from, refusal, effects);
                return relay;
            }
        };
        self.accuse_witnesses(log, &settled, effects);
        // Lines that nobody here has checked are not passed on.
        let verified = **settled.note() == *note;
        let heard = self.ledger.hear(log, settled.cosigned().checkpoint().note().clone());
        // What is settled counts, whatever charter or card say of the log's end.
        if let Err(refusal) = heard
            && !matches!(refusal, Refusal::Ended { .. })
        {
            self.refused(from, refusal, effects);
            return Relay::Ignore;
        }
        self.announced(from, log, settled.size());
        let (have, root) = self.ledger.log(log).map(|held| (held.size(), held.root())).unwrap_or_default();
        match settled.size().cmp(&have) {
            std::cmp::Ordering::Greater => self.ledger.settle(log, settled),
            std::cmp::Ordering::Equal => self.compared_settled(log, settled, (root, Vec::new()), 0, effects),
            std::cmp::Ordering::Less => {
                let signed = self.ledger.log(log).and_then(|log| log.whole()).map_or(0, SignedCheckpoint::size);
                effects.push(Effect::Compare { log, rival: Rival::Settled(settled), signed });
            }
        }
        if verified { Relay::Accept } else { Relay::Ignore }
    }

    /// What the leaves here have as their root at the size of a settled checkpoint.
    pub(super) fn compared_settled(
        &mut self,
        log: LogId,
        settled: Arc<SettledCheckpoint>,
        (root, proof): (Digest, Vec<Digest>),
        signed: u64,
        effects: &mut Vec<Effect>,
    ) {
        if root != settled.mark().root {
            let checkpoint = settled.cosigned().checkpoint();
            return self.compared_heard(log, checkpoint, (root, proof), signed, effects);
        }
        if settled.size() >= self.ledger.log(log).map_or(0, |log| log.settled_size()) {
            self.settle(log, settled, effects);
        }
    }

    /// Whether a note, nothing of which has been verified, says no more than is known.
    fn settled_is_known(&self, id: LogId, note: &Note) -> bool {
        let Some(log) = self.ledger.log(id) else { return true };
        let Ok(said) = Checkpoint::parse(note.text()) else { return false };
        // Another root of a size that is settled proves something against its author and its witnesses.
        let mut known = [log.settled(), log.settling()].into_iter().flatten();
        if known.any(|known| known.size() == said.size && known.mark().root != said.root) {
            return self.is_frozen(id);
        }
        let Some(settled) = log.settled() else {
            return log.settling().is_some_and(|settling| said.size >= settling.size());
        };
        if said.size == settled.size() {
            // SPEC 17.5: it is taken again if it was cosigned anew.
            let recosign = self.federation.charter().body().parameters.recosign / 2;
            let time = Cosignature::claimed_time(note);
            let is_newer = time >= settled.time() + Duration::from_millis(recosign);
            return !is_newer && (time <= settled.time() || settled.is_current(id, &self.federation));
        }
        said.size < settled.size() || log.settling().is_some_and(|settling| said.size >= settling.size())
    }

    /// The members of whom fresh heads were heard, and this node's own.
    pub(super) fn members_heard(&self) -> BTreeSet<MemberId> {
        let limit = Duration::from_millis(self.federation.charter().body().parameters.isolation);
        let fresh = self.peers.values().filter(|peer| peer.heard.is_some_and(|(at, _)| self.now.since(at) <= limit));
        fresh.map(|peer| peer.member).chain(self.member).collect()
    }

    /// Why a log cannot settle further now, if this node knows a reason: of its own log it also knows who has refused.
    pub(super) fn cannot_settle(&self, log: LogId, members_heard: &BTreeSet<MemberId>) -> Option<CannotSettle> {
        if self.is_frozen(log) {
            return Some(CannotSettle::TwoHistories);
        }
        let witnesses: Vec<MemberId> = self.federation.witnesses_of(log).map(|(member, _)| member).collect();
        let needed = self.federation.quorum();
        let (heard, absent): (Vec<_>, Vec<_>) = witnesses.iter().partition(|member| members_heard.contains(member));
        if heard.len() < needed {
            return Some(CannotSettle::Unheard { heard: heard.len(), needed, absent });
        }
        let round = self.settling.round.as_ref().filter(|_| self.own == Some(log))?;
        let refused: Vec<_> = witnesses.into_iter().filter(|member| round.refused.contains(member)).collect();
        let left = heard.iter().filter(|member| !refused.contains(member)).count();
        (left < needed).then_some(CannotSettle::Refused(refused))
    }

    /// The settled checkpoints, as peers are told them.
    pub(super) fn all_settled(&self) -> Vec<(LogId, Arc<Note>)> {
        let settled = |(id, log): (LogId, &crate::ledger::Log)| Some((id, Arc::clone(log.settled()?.note())));
        self.ledger.logs().filter_map(settled).collect()
    }
}

impl Rival {
    /// Of how many leaves it is.
    pub fn size(&self) -> u64 {
        match self {
            Self::Heard(checkpoint) | Self::ToCosign { checkpoint, .. } => checkpoint.size(),
            Self::Settled(settled) => settled.size(),
            Self::Ended(end) => end.size,
        }
    }
}
