//! Links, messages on their way, and the shells around the engines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hashmesh::store::{Record, Store};
use hashmesh_protocol::bundle;
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::engine::{Effect, Input, Relay};
use hashmesh_protocol::entries::LateOpening;
use hashmesh_protocol::key::PublicKey;
use hashmesh_protocol::ledger::Log;
use hashmesh_protocol::names::MemberId;
use hashmesh_protocol::serve::{self, Archive};
use hashmesh_protocol::survey;
use hashmesh_protocol::time::Timestamp;
use hashmesh_protocol::wire::{Answer, DOCUMENT_BYTES, Gossip, Request};
use hashmesh_protocol::witnessing::{AddCheckpoint, WitnessAnswer};
use rand::RngExt;

use super::{Sim, Weather};

/// Something on its way.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Tick(MemberId),
    Handle(MemberId),
    Gossip { from: MemberId, to: MemberId, message: Vec<u8> },
    Request { from: MemberId, to: MemberId, line: u64, request: Vec<u8> },
    Answer { from: MemberId, to: MemberId, line: u64, request: Vec<u8>, answer: Vec<u8> },
}

/// The links and what is on them.
pub(super) struct Network {
    weather: Weather,
    queue: BTreeMap<(Timestamp, u64), Event>,
    count: u64,
    cut: BTreeSet<(MemberId, MemberId)>,
    /// Connections that are up, with a number that no other has: what was sent on an earlier one is lost.
    lines: BTreeMap<(MemberId, MemberId), u64>,
    /// When the last thing sent on a stream arrives: streams keep their order.
    streams: BTreeMap<(MemberId, MemberId), Timestamp>,
    /// Gossip messages that a node has seen.
    seen: BTreeSet<(MemberId, Digest)>,
    deliveries: u64,
    /// Verdicts that are waited for: who passes on what.
    judged: BTreeMap<u64, (MemberId, MemberId, Vec<u8>)>,
    /// Requests for cosignatures that wait: who asks whom for what.
    tickets: BTreeMap<u64, (MemberId, MemberId, u64, Vec<u8>)>,
}

fn pair(a: MemberId, b: MemberId) -> (MemberId, MemberId) {
    if a < b { (a, b) } else { (b, a) }
}

impl Network {
    pub(super) fn new(weather: Weather) -> Self {
        Self {
            weather,
            queue: BTreeMap::new(),
            count: 0,
            cut: BTreeSet::new(),
            lines: BTreeMap::new(),
            streams: BTreeMap::new(),
            seen: BTreeSet::new(),
            deliveries: 0,
            judged: BTreeMap::new(),
            tickets: BTreeMap::new(),
        }
    }

    pub(super) fn at(&mut self, time: Timestamp, event: Event) {
        self.count += 1;
        self.queue.insert((time, self.count), event);
    }

    pub(super) fn next(&mut self, end: Timestamp) -> Option<(Timestamp, Event)> {
        let entry = self.queue.first_entry().filter(|entry| entry.key().0 <= end)?;
        let at = entry.key().0;
        Some((at, entry.remove()))
    }

    pub(super) fn cut(&mut self, a: MemberId, b: MemberId) {
        self.cut.insert(pair(a, b));
    }

    pub(super) fn mend(&mut self) {
        self.cut.clear();
    }

    pub(super) fn gossip(&mut self, from: MemberId, to: MemberId, message: Vec<u8>) -> Event {
        Event::Gossip { from, to, message }
    }

    fn line(&self, a: MemberId, b: MemberId) -> Option<u64> {
        self.lines.get(&pair(a, b)).copied()
    }
}

impl Sim {
    /// Connects every two running nodes whose link is whole.
    pub(super) fn connect_all(&mut self) {
        let members = self.members();
        for (at, &a) in members.iter().enumerate() {
            for &b in &members[at + 1..] {
                let whole = !self.network.cut.contains(&(a, b)) && self.network.line(a, b).is_none();
                let lets_in = |one: MemberId, other: MemberId| {
                    let one = &self.nodes[&one];
                    one.is_running() && one.federation.nodes().contains_key(&self.nodes[&other].key)
                };
                if whole && lets_in(a, b) && lets_in(b, a) {
                    self.network.count += 1;
                    self.network.lines.insert((a, b), self.network.count);
                    for (one, other) in [(a, b), (b, a)] {
                        let key = self.nodes[&other].key;
                        self.step(one, Input::PeerUp(key));
                    }
                }
            }
        }
    }

    pub(super) fn disconnect(&mut self, a: MemberId, b: MemberId) {
        if self.network.lines.remove(&pair(a, b)).is_some() {
            self.network.streams.retain(|(x, y), _| pair(*x, *y) != pair(a, b));
            for (one, other) in [(a, b), (b, a)] {
                let key = self.nodes[&other].key;
                self.step(one, Input::PeerDown(key));
            }
        }
    }

    pub(super) fn stop(&mut self, member: MemberId) {
        self.nodes.get_mut(&member).expect("a member").stop();
        for other in self.members() {
            self.disconnect(member, other);
        }
    }

    /// Puts an input into a node's mailbox, if it runs.
    pub(super) fn step(&mut self, member: MemberId, input: Input) {
        let Some(live) = self.nodes.get_mut(&member).and_then(|node| node.live.as_mut()) else { return };
        live.mailbox.push(input);
        if self.network.weather.busy == 0 {
            // One that is in the middle of its effects takes it when they are done.
            if !live.handling {
                self.handle(member);
            }
        } else if live.mailbox.len() == 1 {
            let busy = Duration::from_millis(self.rng.random_range(0..=self.network.weather.busy));
            self.network.at(self.now + busy, Event::Handle(member));
        }
    }

    /// Steps through what is in a node's mailbox and performs what follows, in the order of the daemon's driver.
    pub(super) fn handle(&mut self, member: MemberId) {
        let clock = self.nodes[&member].clock(self.now);
        while let Some(live) = self.nodes.get_mut(&member).and_then(|node| node.live.as_mut())
            && !live.mailbox.is_empty()
        {
            live.handling = true;
            let inputs = std::mem::take(&mut live.mailbox);
            let effects = inputs.into_iter().flat_map(|input| live.engine.step(input, clock)).collect();
            self.perform_all(member, effects);
            if let Some(live) = self.nodes.get_mut(&member).and_then(|node| node.live.as_mut()) {
                live.handling = false;
            }
        }
    }

    fn perform_all(&mut self, member: MemberId, mut effects: Vec<Effect>) {
        while !effects.is_empty() {
            let is_commit = |effect: &Effect| {
                matches!(
                    effect,
                    Effect::Commit(_)
                        | Effect::CommitOpening(_)
                        | Effect::CommitSettled(..)
                        | Effect::CommitEvidence(_)
                        | Effect::CommitGovernance(_)
                )
            };
            let (commits, rest): (Vec<_>, Vec<_>) = effects.into_iter().partition(is_commit);
            let mut further = Vec::new();
            for effect in commits.into_iter().chain(rest) {
                further.append(&mut self.perform(member, effect));
                if !self.nodes[&member].is_running() {
                    return;
                }
            }
            effects = further;
        }
    }

    /// Performs one effect; what signing leads to comes back.
    fn perform(&mut self, member: MemberId, effect: Effect) -> Vec<Effect> {
        let clock = self.nodes[&member].clock(self.now);
        let node = self.nodes.get_mut(&member).expect("a member");
        let record = match &effect {
            Effect::Commit(admitted) => Some(Record::Leaves(admitted.clone())),
            Effect::CommitOpening(late) => Some(Record::Opening(late.clone())),
            Effect::CommitSettled(log, settled) => Some(Record::Settled(*log, settled.clone())),
            Effect::CommitEvidence(evidence) => Some(Record::Evidence(evidence.clone())),
            _ => None,
        };
        if node.crashes_now(record.as_ref(), &effect) {
            self.stop(member);
            return Vec::new();
        }
        if let Some(record) = record {
            node.disk.now = clock;
            node.commit(record);
            return Vec::new();
        }
        let live = node.live.as_mut().expect("it runs");
        match effect {
            Effect::Commit(_) | Effect::CommitOpening(_) | Effect::CommitSettled(..) | Effect::CommitEvidence(_) => {
                unreachable!("performed above")
            }
            Effect::CommitGovernance(stored) => node.disk.governance = Some(stored.encode()),
            Effect::Govern(stored) => {
                let federation = stored.governance.federation();
                node.federation = Arc::clone(&federation);
                let others = self.nodes.values().filter(|other| !federation.nodes().contains_key(&other.key));
                let gone: Vec<_> = others.map(|other| other.member).filter(|other| *other != member).collect();
                gone.into_iter().for_each(|other| self.disconnect(member, other));
                self.connect_all();
            }
            Effect::GossipDocument(message) => self.flood(member, None, &message),
            Effect::ReplyGoverned { ticket, outcomes } => {
                self.governed.insert(ticket, outcomes);
            }
            Effect::Sign { log, mark } => {
                let checkpoint = node.sign(log, mark);
                self.record.signed(log, mark, self.seed);
                let live = node.live.as_mut().expect("it runs");
                return live.engine.step(Input::Signed(checkpoint), clock);
            }
            Effect::KeepCheckpoint(log, checkpoint) => {
                node.disk.keep_checkpoint(log, &checkpoint).expect("a simulated disk does not fail");
            }
            Effect::Cosign { ticket, log, mark, key } => {
                let line = node.cosign(&key, log, mark, self.now);
                self.record.cosigned(member, log, mark, self.seed);
                self.answer_witness(ticket, Some(WitnessAnswer::Cosigned(vec![line])));
            }
            Effect::AnswerWitness { ticket, answer } => self.answer_witness(ticket, answer),
            Effect::AskWitness { peer, log, old, checkpoint } => {
                let proof = serve::consistency(&node.disk, log, old, checkpoint.size()).expect("it does not fail");
                let request = AddCheckpoint { old, proof, checkpoint: checkpoint.note().clone() };
                self.ask(member, peer, &Request::Cosign(log, Box::new(request)));
            }
            Effect::Compare { log, rival, signed } => {
                let size = rival.size();
                let root = serve::root(&node.disk, log, size).expect("it does not fail");
                let proof = serve::consistency(&node.disk, log, size, signed.max(size)).expect("it does not fail");
                return live.engine.step(Input::Compared { log, rival, root, proof, signed }, clock);
            }
            Effect::Survey(logs) => {
                let survey = survey::survey(&node.disk, &logs).ok();
                return live.engine.step(Input::Surveyed { logs, survey }, clock);
            }
            Effect::Freeze(log, counts) => {
                node.disk.freeze(log, counts);
                live.curator.freeze(log, counts, |_| ());
            }
            Effect::Forget(places) => {
                node.disk.forget(&places).expect("a simulated disk does not fail");
                places.iter().for_each(|(log, index)| live.curator.forget(*log, *index, |_| ()));
            }
            Effect::GossipEvidence(message) => self.flood(member, None, &message),
            Effect::ShowSettled(log, size) => {
                if live.curator.is_frozen(log) {
                    let counts = live.engine.ledger().log(log).map_or(0, Log::counting);
                    node.disk.freeze(log, counts);
                    live.curator.freeze(log, counts, |_| ());
                }
                let _nobody_asks = live.curator.settle(log, size);
            }
            Effect::Show(admitted) => live.curator.show(&admitted.entries, |_| ()),
            Effect::ShowOpening(late) => live.curator.open(&late, |_| ()),
            Effect::Reply { publication, outcome } => {
                self.record.acknowledged(member, &outcome);
                self.publications.get_mut(&publication).expect("published here").1 = Some(outcome);
            }
            Effect::Judge { delivery, relay } => {
                let (_, from, message) = self.network.judged.remove(&delivery).expect("delivered before");
                if relay == Relay::Accept {
                    self.flood(member, Some(from), &message);
                }
            }
            Effect::Gossip(message) => self.flood(member, None, &message),
            Effect::Ask { peer, request } => self.ask(member, peer, &request),
            Effect::Shun { peer, .. } => {
                let other = self.member_of(peer);
                self.record.shunned.push((member, other));
                self.disconnect(member, other);
            }
            Effect::Alarm(alarm) => node.alarms.push(alarm),
        }
        Vec::new()
    }

    fn member_of(&self, key: PublicKey) -> MemberId {
        self.nodes.values().find(|node| node.key == key).expect("a node of the simulation").member
    }

    fn delay(&mut self) -> Duration {
        let (shortest, longest) = self.network.weather.delay;
        Duration::from_millis(self.rng.random_range(shortest..=longest))
    }

    fn flood(&mut self, from: MemberId, except: Option<MemberId>, message: &[u8]) {
        self.network.seen.insert((from, Digest::of(&[message])));
        for to in self.members() {
            let linked = self.network.line(from, to).is_some() && Some(to) != except;
            if linked && self.rng.random::<f64>() >= self.network.weather.loss {
                let at = self.now + self.delay();
                self.network.at(at, Event::Gossip { from, to, message: message.to_vec() });
            }
        }
    }

    pub(super) fn gossip_arrives(&mut self, from: MemberId, to: MemberId, message: Vec<u8>) {
        let fresh = self.network.seen.insert((to, Digest::of(&[&message])));
        if self.network.line(from, to).is_none() || !fresh {
            return;
        }
        let origins = self.nodes[&to].federation.origins().clone();
        let from_key = self.nodes[&from].key;
        match Gossip::decode(&message, &origins) {
            Ok(read) => {
                let delivery = self.network.deliveries;
                self.network.deliveries += 1;
                self.network.judged.insert(delivery, (to, from, message));
                self.step(to, Input::Gossiped { delivery, from: from_key, message: read });
            }
            Err(error) => {
                if !error.is_from_the_future() {
                    self.record.shunned.push((to, from));
                    self.disconnect(to, from);
                }
            }
        }
    }

    fn ask(&mut self, from: MemberId, peer: PublicKey, request: &Request) {
        let to = self.member_of(peer);
        let Some(line) = self.network.line(from, to) else { return };
        let request = request.encode(self.nodes[&from].federation.origins());
        let at = self.on_stream(from, to);
        self.network.at(at, Event::Request { from, to, line, request });
    }

    /// When something sent now on the stream arrives: after everything sent before.
    fn on_stream(&mut self, from: MemberId, to: MemberId) -> Timestamp {
        let at = self.now + self.delay();
        let last = self.network.streams.entry((from, to)).or_default();
        *last = (*last).max(at);
        *last
    }

    pub(super) fn request_arrives(&mut self, from: MemberId, to: MemberId, line: u64, request: Vec<u8>) {
        if self.network.line(from, to) != Some(line) {
            return;
        }
        let node = &self.nodes[&to];
        let origins = node.federation.origins().clone();
        let answer = match Request::decode(&request, &origins).expect("honest nodes ask well") {
            Request::Heads(heads) => {
                let now = node.clock(self.now);
                let ours = node.engine().map(|engine| engine.heads().told_to(Some(from), now)).unwrap_or_default();
                let from_key = self.nodes[&from].key;
                self.step(to, Input::Told { from: from_key, heads });
                Answer::Heads(ours).encode(&origins)
            }
            Request::Range { log, from, to } => {
                serve::range(&node.disk, &origins, log, from, to).expect("a simulated disk does not fail")
            }
            Request::Openings { log, indices } => {
                serve::openings(&node.disk, &origins, log, &indices).expect("a simulated disk does not fail")
            }
            Request::Evidence(accused) => {
                serve::evidence(&node.disk, &origins, accused).expect("a simulated disk does not fail")
            }
            Request::Documents(summary, after) => {
                let governance = node.engine().map(|engine| &engine.governance().governance);
                let missing = governance.map(|governance| governance.missing_for(&summary, after, DOCUMENT_BYTES));
                missing.map_or(Answer::NotHeld, Answer::Documents).encode(&origins)
            }
            Request::Cosign(log, asked) => {
                let ticket = self.network.deliveries;
                self.network.deliveries += 1;
                self.network.tickets.insert(ticket, (from, to, line, request));
                let from = self.nodes[&from].key;
                return self.step(to, Input::AskedToCosign { ticket, from, log, request: asked });
            }
        };
        let at = self.on_stream(to, from);
        self.network.at(at, Event::Answer { from: to, to: from, line, request, answer });
    }

    /// A witness has decided: its answer travels on a stream of its own.
    fn answer_witness(&mut self, ticket: u64, answer: Option<WitnessAnswer>) {
        let (from, to, line, request) = self.network.tickets.remove(&ticket).expect("it was asked for");
        let answer = answer.map_or(Answer::Busy, Answer::Witness).encode(self.nodes[&to].federation.origins());
        let at = self.now + self.delay();
        self.network.at(at, Event::Answer { from: to, to: from, line, request, answer });
    }

    pub(super) fn answer_arrives(
        &mut self,
        from: MemberId,
        to: MemberId,
        line: u64,
        request: Vec<u8>,
        answer: Vec<u8>,
    ) {
        if self.network.line(from, to) != Some(line) {
            return;
        }
        let node = &self.nodes[&to];
        let peer = self.nodes[&from].key;
        let origins = node.federation.origins();
        let request = Request::decode(&request, origins).expect("it was ours");
        let answer = Answer::decode(&answer, origins).expect("honest nodes answer well");
        if let (Request::Openings { log, .. }, Answer::Openings { found, .. }) = (&request, &answer) {
            let mut checked = Vec::new();
            for (index, opening) in found {
                let stored = node.disk.bundles(*log, *index, index + 1, usize::MAX).expect("it does not fail");
                let leaf = bundle::entries(&stored.leaves).next().expect("it was asked for").expect("whole");
                checked.extend(LateOpening::check(*log, *index, leaf, opening.clone()));
            }
            self.step(to, Input::Opened(checked));
        }
        self.step(to, Input::Answered { peer, request, answer: Some(answer) });
    }
}
