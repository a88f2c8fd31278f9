//! Time, links and nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hashmesh_protocol::digest::{CharterId, NetworkId};
use hashmesh_protocol::governance::{Ballot, Document, Governance, Position};
use hashmesh_protocol::names::MemberId;
use hashmesh_protocol::time::Timestamp;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::rogue::Hoard;
use super::{Ground, Outcome};
use crate::sim::BEGIN;

pub(super) const MINUTE: u64 = 60_000;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;

/// So much of what is told is lost, until nodes compare what they hold.
const LOSS: f64 = 0.1;

/// Most bytes of an answer when nodes compare.
const ROOM: usize = 64 * 1024;

/// Something that is going to happen.
pub(super) enum Event {
    /// An honest member looks at what is proposed.
    Look(usize),
    /// A node compares what it holds with another one.
    Compare(usize),
    /// A node restarts.
    Restart(usize),
    /// An honest member hands over what it has signed.
    Publish(usize, Vec<Document>),
    /// Documents arrive.
    Arrive(usize, Vec<Document>),
    /// A member that votes for everything does so.
    Plot(MemberId),
    /// It hands its vote on a charter to some.
    Release(MemberId, CharterId, Vec<usize>),
    /// The federation comes apart, and together again.
    Cut,
    Heal,
}

/// An honest member: its node, and the ballot beside its key.
pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) governance: Governance,
    /// When its node adopted the charter in force.
    pub(super) since: Timestamp,
    pub(super) ballot: Ballot,
    /// Until when its ballot is known to refuse whatever follows the charter in force.
    pub(super) locked: Timestamp,
    /// On which side of a partition it is.
    pub(super) side: bool,
    /// The chain that it has adopted, and when each of it.
    pub(super) chain: Vec<(CharterId, Timestamp)>,
    /// Where it stands, as long as nothing is new.
    position: Option<Position>,
}

impl Member {
    pub(super) fn new(id: MemberId, governance: Governance, now: Timestamp) -> Self {
        let network = NetworkId::from(governance.charters().next().map(|(root, _)| root.id()).unwrap_or_default());
        let chain = vec![(governance.tip().id(), now)];
        let ballot = Ballot::new(network, id);
        Self { id, governance, since: now, ballot, locked: now, side: false, chain, position: None }
    }

    pub(super) fn position(&mut self) -> Position {
        *self.position.get_or_insert_with(|| self.governance.position())
    }
}

/// A federation, and those who attack it.
pub(super) struct World<'a> {
    pub(super) ground: &'a Ground,
    pub(super) rng: ChaCha8Rng,
    pub(super) now: Timestamp,
    /// The honest ones: founders, then those who joined.
    pub(super) members: Vec<Member>,
    /// Those that vote for everything.
    pub(super) rogues: Vec<MemberId>,
    /// What they know.
    pub(super) hoard: Hoard,
    pub(super) queue: BTreeMap<(Timestamp, u64), Event>,
    count: u64,
    is_cut: bool,
    /// At the end nothing is lost.
    pub(super) is_over: bool,
    /// Of each version, when the first node adopted a charter.
    pub(super) first: BTreeMap<u64, Timestamp>,
    /// Charters that were adopted somewhere and then were not.
    pub(super) displaced: BTreeSet<CharterId>,
    pub(super) outcome: Outcome,
}

impl<'a> World<'a> {
    pub(super) fn new(ground: &'a Ground, seed: u64) -> Self {
        let scenario = &ground.scenario;
        let genesis = &ground.founding.genesis;
        let ids: Vec<_> = genesis.charter().body().members.iter().map(|member| member.id).collect();
        let (rogues, honest) = ids.split_at(scenario.double_signers);
        let mut world = Self {
            ground,
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: BEGIN,
            members: honest.iter().map(|id| Member::new(*id, Governance::new(genesis), BEGIN)).collect(),
            rogues: rogues.to_vec(),
            hoard: Hoard::default(),
            queue: BTreeMap::new(),
            count: 0,
            is_cut: false,
            is_over: false,
            first: BTreeMap::new(),
            displaced: BTreeSet::new(),
            outcome: Outcome::default(),
        };
        for at in 0..world.members.len() {
            world.wake(at);
            if world.rng.random_bool(0.5) {
                let time = world.rng.random_range(0..scenario.days * DAY);
                world.after(time, Event::Restart(at));
            }
        }
        for rogue in world.rogues.clone() {
            world.after_some(HOUR, 8 * HOUR, Event::Plot(rogue));
        }
        if scenario.partitions.1 > 0 {
            world.after_some(HOUR, 5 * DAY, Event::Cut);
        }
        world
    }

    /// A node begins to compare, and its operator to look.
    fn wake(&mut self, at: usize) {
        self.after_some(0, 8 * HOUR, Event::Look(at));
        self.after_some(0, 8 * HOUR, Event::Compare(at));
    }

    pub(super) fn after(&mut self, millis: u64, event: Event) {
        self.count += 1;
        self.queue.insert((self.now + Duration::from_millis(millis), self.count), event);
    }

    pub(super) fn after_some(&mut self, least: u64, most: u64, event: Event) {
        let millis = self.rng.random_range(least..=most);
        self.after(millis, event);
    }

    /// A share of the time for which a ballot binds, in milliseconds.
    pub(super) fn of_relock(&self, percent: u64) -> u64 {
        self.ground.founding.genesis.charter().body().parameters.relock * percent / 100
    }

    /// Lets all days of the scenario pass.
    pub(super) fn run(&mut self) {
        let end = BEGIN + Duration::from_millis(self.ground.scenario.days * DAY);
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            self.now = entry.key().0;
            let event = entry.remove();
            self.happen(event);
        }
        self.now = end;
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Look(at) => {
                self.look(at);
                self.after_some(3 * HOUR, 9 * HOUR, Event::Look(at));
            }
            Event::Compare(at) => {
                let other = self.rng.random_range(0..self.members.len());
                if other != at && self.is_linked(at, other) {
                    self.pull(at, other);
                    self.pull(other, at);
                }
                self.after_some(6 * HOUR, 12 * HOUR, Event::Compare(at));
            }
            Event::Restart(at) => self.restart(at),
            Event::Publish(from, documents) => self.publish(from, documents),
            Event::Arrive(to, documents) => {
                self.hand(to, documents);
            }
            Event::Plot(rogue) => {
                self.plot(rogue);
                self.after_some(4 * HOUR, 8 * HOUR, Event::Plot(rogue));
            }
            Event::Release(rogue, charter, to) => self.release(rogue, charter, &to),
            Event::Cut => {
                for member in &mut self.members {
                    member.side = self.rng.random_bool(0.5);
                }
                (self.is_cut, self.outcome.partitions) = (true, self.outcome.partitions + 1);
                let (least, most) = self.ground.scenario.partitions;
                self.after_some(self.of_relock(least), self.of_relock(most), Event::Heal);
            }
            Event::Heal => {
                self.is_cut = false;
                self.after_some(DAY, 4 * DAY, Event::Cut);
            }
        }
    }

    fn is_linked(&self, a: usize, b: usize) -> bool {
        !self.is_cut || self.is_over || self.members[a].side == self.members[b].side
    }

    /// Takes in what the own operator has signed, and tells it to all that can be reached.
    pub(super) fn publish(&mut self, from: usize, documents: Vec<Document>) {
        self.hoard.overhear(&documents);
        for to in 0..self.members.len() {
            let arrives = self.is_over || !self.rng.random_bool(LOSS);
            if to != from && self.is_linked(from, to) && arrives {
                self.after_some(10, 20_000, Event::Arrive(to, documents.clone()));
            }
        }
        self.hand(from, documents);
    }

    /// Asks another node for what this one lacks. Whether there was anything.
    pub(super) fn pull(&mut self, to: usize, from: usize) -> bool {
        if self.members[to].position() == self.members[from].position() {
            return false;
        }
        let summary = self.members[to].governance.summary();
        let (mut after, mut new) = (None, false);
        loop {
            let answer = self.members[from].governance.missing_for(&summary, after, ROOM);
            for document in answer.documents {
                match self.members[to].governance.take(document) {
                    Ok(taken) => new |= taken.is_new(),
                    Err(error) if error.is_relayers_fault() => {
                        self.fault(format!("{} blames {}: {error}", self.members[to].id, self.members[from].id));
                    }
                    Err(_) => {}
                }
            }
            after = answer.next;
            if after.is_none() {
                break;
            }
        }
        if new {
            self.moved(to);
        }
        new
    }

    /// Hands documents to a node. Signatures may be on what it does not know, or has forgotten.
    pub(super) fn hand(&mut self, to: usize, documents: Vec<Document>) {
        for document in documents {
            let _kept_or_not = self.members[to].governance.take(document);
        }
        self.moved(to);
    }

    /// What follows from what a node has taken in.
    pub(super) fn moved(&mut self, at: usize) {
        let (now, founders) = (self.now, self.ground.scenario.members - self.rogues.len());
        let member = &mut self.members[at];
        member.position = None;
        let tip = member.governance.tip().id();
        let federation = member.governance.federation();
        if federation.charter().id() != tip || federation.logs().is_empty() || federation.nodes().is_empty() {
            let id = member.id;
            self.fault(format!("{id} has nothing to match with"));
            return;
        }
        if member.chain.last().is_some_and(|(last, _)| *last == tip) {
            return;
        }
        (member.since, member.locked) = (now, now);
        let before = std::mem::take(&mut member.chain);
        for (version, (charter, _)) in member.governance.charters().enumerate() {
            let known = before.get(version).filter(|(id, _)| *id == charter.id());
            member.chain.push(*known.unwrap_or(&(charter.id(), now)));
        }
        if at >= founders {
            return;
        }
        self.displaced.extend(before.iter().map(|(id, _)| *id).filter(|id| !member.chain.iter().any(|(c, _)| c == id)));
        for version in 1..member.chain.len() as u64 {
            self.first.entry(version).or_insert(now);
        }
        self.welcome(at);
    }

    /// Who has joined starts a node. It was told of the last charter before its own: that one will not be displaced.
    fn welcome(&mut self, at: usize) {
        let body = self.members[at].governance.tip().body().clone();
        for entry in body.members.iter().filter(|entry| self.ground.newcomers.contains_key(&entry.id)) {
            if self.members.iter().any(|member| member.id == entry.id) {
                continue;
            }
            let mut governance = Governance::new(&self.ground.founding.genesis);
            governance.must_contain(body.previous.unwrap_or_default());
            self.members.push(Member::new(entry.id, governance, self.now));
            self.wake(self.members.len() - 1);
        }
    }

    /// A node stops and starts again from what it has stored.
    pub(super) fn restart(&mut self, at: usize) {
        let before = self.members[at].position();
        let member = &mut self.members[at];
        let (id, tip, conflict) = (member.id, member.governance.tip().id(), member.governance.conflict());
        let stored: Vec<Vec<u8>> = member.governance.documents().iter().map(Document::encode).collect();
        let read: Result<Vec<_>, _> = stored.iter().map(|bytes| Document::decode(bytes)).collect();
        let Ok(documents) = read else { return self.fault(format!("{id} cannot read what it has stored")) };
        let pins = member.governance.pins().clone();
        let (governance, refused) = Governance::load(&self.ground.founding.genesis, documents, Some(tip), pins);
        let is_same = governance.position() == before && governance.conflict().is_some() == conflict.is_some();
        let ballot = Ballot::decode(&member.ballot.encode());
        member.governance = governance;
        self.outcome.restarts += 1;
        if !refused.is_empty() || !is_same || ballot.is_ok_and(|ballot| ballot != self.members[at].ballot) {
            self.fault(format!("{id} starts as something else than it was"));
        }
        self.moved(at);
    }

    pub(super) fn fault(&mut self, what: String) {
        self.outcome.faults.push(what);
    }
}
