//! The simulator: whole federations in one thread, in virtual time, from one seed (SPEC 16).
//!
//! Each node is the real engine, catalog, loader and serving code around a simulated disk and signer; only sockets, files
//! and clocks are replaced. Messages are delayed, reordered and lost; links are cut; nodes stop after any effect and start
//! again from what was durable. The same seed gives the same run, and every scenario prints its seed when it fails.
//!
//! After every step of every node the promises that hold in any case are checked: see [`audit`].

pub mod audit;
mod disk;
pub mod governance;
mod network;
mod node;

use std::collections::BTreeMap;
use std::time::Duration;

pub use disk::Disk;
use hashmesh::store::Store as _;
use hashmesh_protocol::card::{Card, MemberKeys};
use hashmesh_protocol::charter::{Label, Parameters};
use hashmesh_protocol::content_hash::{ContentHash, HashKind};
use hashmesh_protocol::digest::CharterId;
use hashmesh_protocol::engine::{Alarm, Draft, Input, Outcome, Publication, Silence, Target, Ungoverned};
use hashmesh_protocol::governance::{Document, Taken};
use hashmesh_protocol::key::SecretKey;
use hashmesh_protocol::ledger::Mark;
use hashmesh_protocol::names::MemberId;
use hashmesh_protocol::opening::Salt;
use hashmesh_protocol::statement::{Labels, Position, Reason};
use hashmesh_protocol::time::Timestamp;
use network::{Event, Network};
pub use node::{Crash, Node};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::founding::{Founding, found_with, labels};

/// When simulations begin: 2026-01-01.
const BEGIN: Timestamp = Timestamp(1_767_225_600_000);

/// How often nodes tick.
const TICK: Duration = Duration::from_secs(1);

/// The code of a label that is retained for one day.
pub const BRIEF: u16 = 3;

/// What the links are like.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Shortest and longest delay of a message, in milliseconds.
    pub delay: (u64, u64),
    /// The share of gossip that is lost, 0.0 to 1.0. What runs over streams arrives or breaks the connection.
    pub loss: f64,
    /// How long a driver may be busy, in milliseconds: what arrives meanwhile is stepped through together, and only then
    /// performed, as the daemon does it. With 0 every input is handled by itself, at once.
    pub busy: u64,
}

impl Default for Weather {
    fn default() -> Self {
        Self { delay: (1, 40), loss: 0.0, busy: 0 }
    }
}

/// A simulated federation.
pub struct Sim {
    seed: u64,
    now: Timestamp,
    rng: ChaCha8Rng,
    founding: Founding,
    nodes: BTreeMap<MemberId, Node>,
    network: Network,
    publications: BTreeMap<u64, (MemberId, Option<Outcome>)>,
    record: audit::Record,
    /// What became of documents that operators handed in.
    governed: BTreeMap<u64, Vec<Result<Taken, Ungoverned>>>,
    tickets: u64,
}

impl Sim {
    /// A federation of these members, all running and connected, from seed 1.
    pub fn of<const N: usize>(members: [&str; N]) -> Self {
        Self::with(&members, 1, Weather::default(), Parameters::standard())
    }

    /// A federation with everything chosen.
    pub fn with(members: &[&str], seed: u64, weather: Weather, parameters: Parameters) -> Self {
        let brief = Label { code: BRIEF, name: "brief".to_owned(), retention_days: Some(1), ..labels().remove(0) };
        let founding = found_with(members, labels().into_iter().chain([brief]).collect(), parameters);
        let mut sim = Self {
            seed,
            now: BEGIN,
            rng: ChaCha8Rng::seed_from_u64(seed),
            nodes: BTreeMap::new(),
            network: Network::new(weather),
            publications: BTreeMap::new(),
            record: audit::Record::default(),
            governed: BTreeMap::new(),
            tickets: 0,
            founding,
        };
        for id in members {
            let member: MemberId = id.parse().expect("a member id");
            sim.nodes.insert(member, Node::new(member, &sim.founding.keys[&member], &sim.founding));
            sim.start(id);
        }
        sim
    }

    /// The seed of this run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// A node.
    pub fn node(&self, member: &str) -> &Node {
        &self.nodes[&id(member)]
    }

    /// A node, to be tampered with.
    pub fn node_mut(&mut self, member: &str) -> &mut Node {
        self.nodes.get_mut(&id(member)).expect("a member of the simulation")
    }

    /// The members.
    pub fn members(&self) -> Vec<MemberId> {
        self.nodes.keys().copied().collect()
    }

    /// The founders' keys.
    pub fn founding(&self) -> &Founding {
        &self.founding
    }

    // What members do.

    /// A member adds a content hash with the label `demo`.
    pub fn adds(&mut self, member: &str, hash: ContentHash) -> u64 {
        let labels = Labels::new(&[1]).expect("one label");
        let draft = Draft::add(hash, labels, self.salt(), None).expect("no note");
        self.publishes(member, vec![draft])
    }

    /// A member disputes a content hash.
    pub fn disputes(&mut self, member: &str, hash: ContentHash) -> u64 {
        let draft = Draft::dispute(hash, Reason::Lawful, self.salt(), None).expect("no note");
        self.publishes(member, vec![draft])
    }

    /// A member revokes what it says about a content hash.
    pub fn revokes(&mut self, member: &str, hash: ContentHash) -> u64 {
        self.publishes(member, vec![Draft::Revoke { target: Target::Hash(hash), reason: Reason::Mistake }])
    }

    /// A member revokes what stands at a place of its log.
    pub fn revokes_at(&mut self, member: &str, index: u64) -> u64 {
        let target = Target::Position(Position { epoch: 0, index });
        self.publishes(member, vec![Draft::Revoke { target, reason: Reason::Mistake }])
    }

    /// A member publishes drafts. The number is that of the publication.
    pub fn publishes(&mut self, member: &str, drafts: Vec<Draft>) -> u64 {
        let publication = u64::try_from(self.publications.len()).expect("fewer than 2^64");
        let member = id(member);
        self.publications.insert(publication, (member, None));
        self.step(member, Input::Publish(Publication { id: publication, drafts }));
        publication
    }

    /// What became of a publication; `None` while nothing was heard.
    pub fn outcome(&self, publication: u64) -> Option<&Outcome> {
        self.publications[&publication].1.as_ref()
    }

    /// A fresh salt, from the seed.
    pub fn salt(&mut self) -> Salt {
        let mut salt = [0; 16];
        self.rng.fill_bytes(&mut salt);
        Salt(salt)
    }

    /// Who adds a content hash, as a node knows it: members with a live add of exactly this hash.
    pub fn matches(&self, member: &str, hash: ContentHash) -> Vec<String> {
        self.node(member).adders(&hash)
    }

    /// Who disputes a content hash, as a node knows it.
    pub fn disputers(&self, member: &str, hash: ContentHash) -> Vec<String> {
        self.node(member).disputers(&hash)
    }

    /// Why a node signs nothing, if so.
    pub fn silence(&self, member: &str) -> Option<Silence> {
        self.node(member).engine()?.silence()
    }

    /// What operators were told.
    pub fn alarms(&self, member: &str) -> &[Alarm] {
        self.node(member).alarms()
    }

    // Charters and cards.

    /// An applicant sets up a node, which waits to be admitted.
    pub fn applies(&mut self, member: &str, keys: &MemberKeys) {
        self.nodes.insert(id(member), Node::new(id(member), keys, &self.founding));
        self.start(member);
    }

    /// An operator hands documents to its node; what became of each.
    pub fn submits(&mut self, member: &str, documents: Vec<Document>) -> Vec<Result<Taken, Ungoverned>> {
        self.hands_in(member, documents, false)
    }

    /// An operator hands in a card that ends a log before what was signed in it, if it comes to that.
    pub fn cuts(&mut self, member: &str, card: Card) -> Vec<Result<Taken, Ungoverned>> {
        self.hands_in(member, vec![Document::Card(Box::new(card))], true)
    }

    fn hands_in(&mut self, member: &str, documents: Vec<Document>, cut: bool) -> Vec<Result<Taken, Ungoverned>> {
        self.tickets += 1;
        let ticket = self.tickets;
        self.step(id(member), Input::Submit { ticket, documents, cut });
        self.governed.remove(&ticket).unwrap_or_default()
    }

    /// An operator names the charter to go on from.
    pub fn chooses(&mut self, member: &str, charter: CharterId) -> Vec<Result<Taken, Ungoverned>> {
        self.tickets += 1;
        let ticket = self.tickets;
        self.step(id(member), Input::Choose { ticket, charter });
        self.governed.remove(&ticket).unwrap_or_default()
    }

    /// An operator lays new working keys beside the others.
    pub fn holds(&mut self, member: &str, secrets: impl IntoIterator<Item = SecretKey>) {
        let keys = self.node_mut(member).holds(secrets);
        self.step(id(member), Input::Keys(keys));
    }

    // What befalls them.

    /// Cuts a node off from all others.
    pub fn isolate(&mut self, member: &str) {
        let others: Vec<_> = self.nodes.keys().copied().filter(|other| *other != id(member)).collect();
        self.cut(&[id(member)], &others);
    }

    /// Cuts every link between two groups.
    pub fn partition(&mut self, one: &[&str], other: &[&str]) {
        let ids = |names: &[&str]| names.iter().map(|name| id(name)).collect::<Vec<_>>();
        self.cut(&ids(one), &ids(other));
    }

    fn cut(&mut self, one: &[MemberId], other: &[MemberId]) {
        for &a in one {
            for &b in other {
                self.network.cut(a, b);
                self.disconnect(a, b);
            }
        }
    }

    /// Mends every link.
    pub fn heal(&mut self) {
        self.network.mend();
        self.connect_all();
    }

    /// Stops a node as if its machine had lost power.
    pub fn crash(&mut self, member: &str) {
        self.stop(id(member));
    }

    /// Starts a node that has stopped.
    pub fn start(&mut self, member: &str) {
        let member = id(member);
        let mut key = [0; 16];
        self.rng.fill_bytes(&mut key);
        self.nodes.get_mut(&member).expect("a member of the simulation").start(key, self.now);
        self.step(member, Input::Tick);
        let offset = self.rng.random_range(0..1000);
        self.network.at(self.now + Duration::from_millis(offset), Event::Tick(member));
        self.connect_all();
    }

    /// Lets an operator order a node to sign though it could not hear enough others.
    pub fn sign_alone(&mut self, member: &str) {
        self.step(id(member), Input::SignAlone);
    }

    /// Hands a node a gossip message, as if `from` had sent it.
    pub fn inject(&mut self, from: &str, to: &str, message: Vec<u8>) {
        let event = self.network.gossip(id(from), id(to), message);
        self.network.at(self.now, event);
    }

    /// How often a node has shunned another.
    pub fn shunned(&self, by: &str, whom: &str) -> usize {
        self.record.shunned.iter().filter(|(a, b)| *a == id(by) && *b == id(whom)).count()
    }

    // Time.

    /// Lets time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((at, event)) = self.network.next(end) {
            self.now = self.now.max(at);
            self.happen(event);
        }
        self.now = end;
    }

    /// Lets time pass until nothing is on its way any more but what repeats, and three rounds of heads beyond.
    pub fn settle(&mut self) {
        let round = Duration::from_millis(self.founding.genesis.charter().body().parameters.heads_interval);
        for _ in 0..600 {
            let before = self.marks();
            self.run(round * 3 + TICK);
            if self.marks() == before {
                return;
            }
        }
        panic!("the federation does not come to rest (seed {})", self.seed);
    }

    fn marks(&self) -> Vec<Vec<Mark>> {
        let marks = |node: &Node| node.engine().map(|e| e.ledger().logs().map(|(_, log)| log.mark()).collect());
        self.nodes.values().filter_map(marks).collect()
    }

    /// Deletes for good what a node has held for long enough.
    fn shred(&mut self, member: MemberId) {
        let hold = self.founding.genesis.charter().body().parameters.erase_hold;
        let node = self.nodes.get_mut(&member).expect("a member");
        let before = node.clock(self.now).0.saturating_sub(hold);
        node.disk.shred(Timestamp(before)).expect("a simulated disk does not fail");
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(member) => {
                if self.nodes[&member].is_running() {
                    self.step(member, Input::Tick);
                    self.shred(member);
                    self.network.at(self.now + TICK, Event::Tick(member));
                }
            }
            Event::Handle(member) => self.handle(member),
            Event::Gossip { from, to, message } => self.gossip_arrives(from, to, message),
            Event::Request { from, to, line, request } => self.request_arrives(from, to, line, request),
            Event::Answer { from, to, line, request, answer } => self.answer_arrives(from, to, line, request, answer),
        }
    }
}

/// The id of a member.
pub(crate) fn id(member: &str) -> MemberId {
    member.parse().expect("a member id")
}

/// A PDQ hash made of a number: half of its bits are set, and two different ones are far apart.
pub fn pdq(number: u64) -> ContentHash {
    let digest = hashmesh_protocol::digest::Digest::of(&[b"picture", &number.to_be_bytes()]);
    let mut value = [0; 32];
    for (half, byte) in digest.0[..16].iter().enumerate() {
        value[2 * half] = *byte;
        value[2 * half + 1] = !*byte;
    }
    ContentHash::new(HashKind::Pdq, &value).expect("32 bytes")
}
