//! Charters and cards: what comes in, what is passed on, and what changes with them (SPEC 21).
//!
//! Whether a document holds, and what is in force, [`Governance`](crate::governance::Governance) says. Here it is made durable, then acted on, then told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::heads::Peer;
use super::{Alarm, Effect, Engine, Misdeed, Relay, Rival};
use crate::digest::{CharterId, Digest};
use crate::evidence::Accused;
use crate::governance::{Document, GovernanceError, Position, Stored, Summary, Taken};
use crate::key::PublicKey;
use crate::ledger::Mark;
use crate::names::LogId;
use crate::time::Timestamp;
use crate::wire::{Answer, Gossip, PROTOCOL, Request};

/// A node's addresses are taken at most so often; what comes faster comes later, with catch-up.
const MOVES: Duration = Duration::from_secs(10);

/// Documents that a peer may answer with before it is asked no more until its next heads: in parts, with progress, or without.
const ROUNDS: usize = 64;

/// What the engine remembers of governance beside the documents.
pub(super) struct Governing {
    pub(super) stored: Arc<Stored>,
    pub(super) position: Position,
    summary: Summary,
    /// Peers that were asked for documents: since when, and how often in a row.
    asked: BTreeMap<PublicKey, (Timestamp, usize)>,
    moved: BTreeMap<PublicKey, Timestamp>,
}

impl Governing {
    pub(super) fn new(stored: Stored) -> Self {
        let (position, summary) = (stored.governance.position(), stored.governance.summary());
        let stored = Arc::new(stored);
        Self { stored, position, summary, asked: BTreeMap::new(), moved: BTreeMap::new() }
    }

    pub(super) fn forget(&mut self, key: PublicKey) {
        self.asked.remove(&key);
    }
}

/// What is new of some documents.
#[derive(Default)]
struct News {
    any: bool,
    /// What is to be told of it once it is durable.
    told: Vec<Effect>,
}

/// Why an operator's choice of a charter, or a document that was handed in, is not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Ungoverned {
    /// It does not hold, or does not fit.
    #[error(transparent)]
    Governance(#[from] GovernanceError),
    /// The card of this node's own member would end its log before its end.
    #[error(
        "the card ends the log after {end} leaves, but {size} have been signed and {settled} are settled; make a new card once \
         they are settled, or hand this one in with --cut if what is beyond is to be lost"
    )]
    CutsShort {
        /// Where the card ends the log.
        end: u64,
        /// What was signed.
        size: u64,
        /// What is settled.
        settled: u64,
    },
}

impl Engine {
    /// Charters and cards as they stand.
    pub fn governance(&self) -> &Arc<Stored> {
        &self.governing.stored
    }

    /// Takes documents that an operator has handed in, in order, and tells what became of each.
    pub(super) fn submitted(&mut self, ticket: u64, documents: Vec<Document>, cut: bool, effects: &mut Vec<Effect>) {
        let (mut outcomes, mut news) = (Vec::new(), News::default());
        for document in documents {
            outcomes.push(match self.cuts_short(&document).filter(|_| !cut) {
                Some(refusal) => Err(refusal),
                None => self.take_document(document, &mut news).map_err(Ungoverned::from),
            });
        }
        self.governed(news, effects);
        effects.push(Effect::ReplyGoverned { ticket, outcomes });
    }

    /// Goes on from a charter that the operator has named.
    pub(super) fn chosen(&mut self, ticket: u64, id: CharterId, effects: &mut Vec<Effect>) {
        let taken = Arc::make_mut(&mut self.governing.stored).governance.choose(id);
        self.governed(News { any: taken.is_ok(), told: Vec::new() }, effects);
        effects.push(Effect::ReplyGoverned { ticket, outcomes: vec![taken.map_err(Ungoverned::from)] });
    }

    /// Whether a document is a card of the own member that would make void what was signed here and is not settled.
    fn cuts_short(&self, document: &Document) -> Option<Ungoverned> {
        let own = self.own?;
        let Document::Card(card) = document else { return None };
        let ended =
            card.body().ended.iter().find(|end| end.epoch == own.epoch).filter(|_| card.body().member == own.member)?;
        let log = self.ledger.log(own)?;
        let (end, size, settled) = (ended.size, log.size(), log.settled_size());
        (end.max(settled) < size).then_some(Ungoverned::CutsShort { end, size, settled })
    }

    /// A document that a peer has gossiped.
    pub(super) fn hear_document(&mut self, from: PublicKey, document: Document, effects: &mut Vec<Effect>) -> Relay {
        if let Document::Addresses(record) = &document {
            let last = self.governing.moved.get(&record.body().node);
            if last.is_some_and(|last| self.now.since(*last) < MOVES) {
                return Relay::Ignore;
            }
        }
        let mut news = News::default();
        let taken = self.take_document(document, &mut news);
        self.governed(news, effects);
        match taken {
            Ok(taken) if taken.is_new() => Relay::Accept,
            Ok(_) => Relay::Ignore,
            Err(GovernanceError::Unconnected) => {
                self.ask_documents(from, None, effects);
                Relay::Ignore
            }
            Err(error) if error.is_relayers_fault() => {
                effects.push(Effect::Shun { peer: from, misdeed: Misdeed::Governed(error) });
                Relay::Reject
            }
            Err(_) => Relay::Ignore,
        }
    }

    /// Takes a document. What is new must be acted on ([`governed`](Self::governed)), once for all that came together.
    fn take_document(&mut self, document: Document, news: &mut News) -> Result<Taken, GovernanceError> {
        if let Some(wanted) =
            self.too_old().filter(|_| matches!(document, Document::Charter { .. } | Document::Approval(_)))
        {
            return Err(GovernanceError::TooOld(wanted));
        }
        let message = Gossip::encode_document(&document);
        let moved = if let Document::Addresses(record) = &document { Some(record.body().node) } else { None };
        let taken = Arc::make_mut(&mut self.governing.stored).governance.take(document)?;
        if !taken.is_new() {
            return Ok(taken);
        }
        if let Some(node) = moved {
            self.governing.moved.insert(node, self.now);
        }
        news.any = true;
        news.told.extend(message.map(Effect::GossipDocument));
        news.told.extend(match &taken {
            Taken::Rivals(member) => Some(Effect::Alarm(Alarm::RivalCards(*member))),
            Taken::DoubleVote(member) => Some(Effect::Alarm(Alarm::DoubleVote(*member))),
            Taken::Conflict(conflict) => Some(Effect::Alarm(Alarm::CharterConflict(*conflict))),
            Taken::Known | Taken::Kept | Taken::Adopted(_) | Taken::Card(_) | Taken::Moved(_) => None,
        });
        Ok(taken)
    }

    /// If something is held that was not before, it becomes durable, and whatever depends on charter and cards follows; then it is told.
    fn governed(&mut self, mut news: News, effects: &mut Vec<Effect>) {
        if !news.any {
            return;
        }
        let before = self.federation.charter().id();
        let now = self.now;
        let stored = Arc::make_mut(&mut self.governing.stored);
        if stored.governance.tip().id() != before {
            stored.since = now;
        }
        let governance = &self.governing.stored.governance;
        (self.governing.position, self.governing.summary) = (governance.position(), governance.summary());
        let federation = governance.federation();
        effects.push(Effect::CommitGovernance(Arc::clone(&self.governing.stored)));
        if !Arc::ptr_eq(&federation, &self.federation) {
            self.federation = federation;
            self.reform(effects);
        }
        effects.push(Effect::Govern(Arc::clone(&self.governing.stored)));
        // Whoever is told no document hears by this that there is one.
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for key in peers {
            self.ask_heads(key, effects);
        }
        effects.append(&mut news.told);
    }

    /// The protocol that the charter in force wants at least, if this software speaks an older one: then it takes up no more charters,
    /// which may hold what it does not understand, and goes on matching (SPEC 21.13).
    fn too_old(&self) -> Option<u32> {
        let wanted = self.governing.stored.governance.tip().body().parameters.min_protocol;
        (wanted > PROTOCOL).then_some(wanted)
    }

    /// Other charters or cards are in force.
    pub(super) fn reform(&mut self, effects: &mut Vec<Effect>) {
        effects.extend(self.too_old().map(|wanted| Effect::Alarm(Alarm::TooOld(wanted))));
        for log in self.ledger.reform(&self.federation) {
            effects.push(Effect::Alarm(Alarm::OtherKey(log)));
        }
        let federation = Arc::clone(&self.federation);
        let nodes = federation.nodes();
        let gone: Vec<PublicKey> = self.peers.keys().filter(|key| !nodes.contains_key(*key)).copied().collect();
        for key in gone {
            self.peer_down(key, effects);
        }
        self.shown.retain(|key| nodes.contains_key(key));
        self.speak_in_the_newest_log();
        self.close_ended(effects);
        self.fetch(effects);
    }

    /// What has ended counts up to its end. Where it is not known whether the leaves here are those that it ends with, that is
    /// found out.
    pub(super) fn close_ended(&mut self, effects: &mut Vec<Effect>) {
        let ended: Vec<(LogId, Option<Mark>)> = self
            .ledger
            .logs()
            .filter(|(_, log)| log.end().is_some())
            .map(|(id, log)| (id, log.ends_unseen()))
            .collect();
        for (log, unseen) in ended {
            self.close(log, effects);
            if let Some(end) = unseen.filter(|end| end.size > 0) {
                effects.push(Effect::Compare { log, rival: Rival::Ended(end), signed: 0 });
            }
        }
    }

    /// Lets nothing of a log count beyond what is settled or its end.
    fn close(&mut self, log: LogId, effects: &mut Vec<Effect>) {
        let counts = self.ledger.freeze(log);
        effects.push(Effect::Freeze(log, counts));
    }

    /// What [`Rival::Ended`] has come to.
    pub(super) fn compared_end(&mut self, log: LogId, end: Mark, root: Digest, effects: &mut Vec<Effect>) {
        if self.ledger.log(log).and_then(|log| log.ends_unseen()) != Some(end) {
            return;
        }
        self.ledger.ends_as_held(log, root == end.root);
        if root != end.root {
            effects.push(Effect::Alarm(Alarm::EndsElsewhere(log)));
        }
        self.close(log, effects);
    }

    /// Which log this node speaks in: the one that its member may write, if the key is here.
    pub(super) fn speak_in_the_newest_log(&mut self) {
        let may_be_written = self.member.and_then(|member| self.federation.writable_log(member));
        let own = may_be_written.filter(|log| {
            let key = self.federation.logs().get(log).map(|key| *key.key());
            key.is_some_and(|key| self.keys.contains(&key)) && !self.forks_too_often(*log)
        });
        if own == self.own {
            return;
        }
        self.own = own;
        let mark = own.and_then(|own| self.signed.get(&own).copied()).unwrap_or_default();
        if let Some(own) = own {
            self.ledger.promise(own, mark);
        }
        let diverged = own.is_some_and(|own| self.evidence.contains_key(&Accused::Log(own)));
        self.voice.speaks_in(mark, diverged);
        self.settling = super::Settling::default();
        self.remarking = super::Remarking::default();
    }

    /// Whether a member has forked two logs at least, and goes on by a card that no charter names (SPEC 9.5).
    fn forks_too_often(&self, log: LogId) -> bool {
        let forked = |accused: &&Accused| matches!(accused, Accused::Log(other) if other.member == log.member && other.epoch < log.epoch);
        let named = self.federation.charter().member(log.member).map(|member| member.card);
        let is_named = self.federation.card_of(log).is_some_and(|card| Some(card.id()) == named);
        self.evidence.keys().filter(forked).count() >= 2 && !is_named
    }

    /// Whether most of the nodes that are connected have said that they hold the same charters and cards as this one.
    pub fn agrees_with_peers(&self) -> bool {
        let agrees = |peer: &&Peer| peer.stands == Some(self.governing.position);
        2 * self.peers.values().filter(agrees).count() > self.peers.len()
    }

    /// A peer has told where it stands.
    pub(super) fn hear_position(&mut self, from: PublicKey, position: Position, effects: &mut Vec<Effect>) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.stands = Some(position);
        }
        if position != self.governing.position {
            self.ask_documents(from, None, effects);
        }
    }

    fn ask_documents(&mut self, from: PublicKey, after: Option<Digest>, effects: &mut Vec<Effect>) {
        let rounds = match self.governing.asked.get(&from) {
            Some((since, _)) if after.is_none() && self.now.since(*since) < super::catch_up::PATIENCE => return,
            Some((_, rounds)) => rounds + 1,
            None => 0,
        };
        self.governing.asked.insert(from, (self.now, rounds));
        let summary = Box::new(self.governing.summary.clone());
        effects.push(Effect::Ask { peer: from, request: Request::Documents(summary, after) });
    }

    /// A peer has answered with documents.
    pub(super) fn documents_answered(&mut self, from: PublicKey, answer: Option<Answer>, effects: &mut Vec<Effect>) {
        let answer = match answer {
            Some(Answer::Documents(answer)) => answer,
            None | Some(Answer::Busy | Answer::NotHeld) => return self.governing.forget(from),
            Some(_) => return effects.push(Effect::Shun { peer: from, misdeed: Misdeed::OtherAnswer }),
        };
        let mut news = News::default();
        let taken = answer.documents.into_iter().map(|document| self.take_document(document, &mut news));
        let fault = taken.filter_map(Result::err).find(GovernanceError::is_relayers_fault);
        let any = news.any;
        self.governed(news, effects);
        if let Some(error) = fault {
            return effects.push(Effect::Shun { peer: from, misdeed: Misdeed::Governed(error) });
        }
        let rounds = self.governing.asked.get(&from).map_or(0, |(_, rounds)| *rounds);
        let goes_on = self.peers.contains_key(&from) && rounds < ROUNDS;
        match answer.next {
            Some(after) if goes_on => self.ask_documents(from, Some(after), effects),
            // What it left out for want of room it will say now.
            None if goes_on && any => {
                self.governing.asked.insert(from, (Timestamp::default(), rounds));
                self.ask_documents(from, None, effects);
            }
            _ => self.governing.forget(from),
        }
    }
}
