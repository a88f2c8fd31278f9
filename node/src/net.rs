//! The network: libp2p over TCP, Noise and Yamux, closed to everybody who is on no card (SPEC 13, 14).
//!
//! One task owns the swarm and does nothing but poll it and pass messages on. Gossip is read on a thread of its own; each
//! peer has one long-lived stream each way for questions and answers, in tasks of their own. Nothing here decides anything:
//! what comes in goes into the driver's [`Mailbox`], what goes out the driver has ordered.
//!
//! This module and those below it are the only ones that name `libp2p`.

mod dial;
mod exchange;
mod frame;
mod gate;
mod gossip;
mod introduce;
mod pace;
mod quiet;
mod swarm;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use hashmesh_protocol::engine::{Input, Misdeed, Relay};
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::key::{PublicKey, SecretKey};
use hashmesh_protocol::names::{MemberId, OriginPrefix};
use hashmesh_protocol::wire::{Heads, Request};
use hashmesh_protocol::witnessing::WitnessAnswer;
use libp2p::identity::{Keypair, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};

use self::gate::GuestList;
use self::gossip::Topic;
pub use self::introduce::{IntroductionError, introduce};
use crate::config::{Config, Follower};
use crate::driver::Submitters;
use crate::governance::Current;
use crate::mailbox::{Lane, Mailbox};
use crate::sentence::sentence;
use crate::store::DiskArchive;

/// Orders to the swarm that wait. When it is full, gossip is dropped, which catch-up repairs.
const ORDERS: usize = 1024;

/// Questions to one peer that wait.
const QUESTIONS: usize = 64;

/// Why the network cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// An address that is none, or not of a kind that is dialled.
    #[error("{0:?} is not an address that can be used here: {1} (example: /ip4/127.0.0.1/tcp/4600)")]
    Address(String, &'static str),
    /// An address to listen on that cannot be had.
    #[error("cannot listen on {address}; is another node running there?")]
    Listen {
        /// The address.
        address: String,
        /// What libp2p says.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A setting that libp2p refuses.
    #[error("libp2p: {0}")]
    Setting(String),
}

/// What the network needs to run.
pub struct Setup {
    /// Charters and cards.
    pub governance: Arc<Current>,
    /// This node's identity.
    pub node: SecretKey,
    /// Addresses.
    pub config: Config,
    /// Where everything goes.
    pub mailbox: Arc<Mailbox<Input>>,
    /// Who is told what becomes of cards that strangers hand in.
    pub submitters: Arc<Submitters>,
    /// What peers are served from.
    pub archive: Arc<DiskArchive>,
    /// The newest heads, kept up to date by the driver.
    pub heads: Arc<ArcSwap<Heads>>,
}

/// The driver's hand on the network.
pub struct Net {
    orders: mpsc::Sender<Order>,
    identity: watch::Sender<SecretKey>,
    shared: Arc<Shared>,
}

/// What the tasks of the network have in common.
struct Shared {
    governance: Arc<Current>,
    origins: OriginPrefix,
    /// The short form of the federation's id, for names.
    network: String,
    roster: ArcSwap<Roster>,
    mailbox: Arc<Mailbox<Input>>,
    archive: Arc<DiskArchive>,
    heads: Arc<ArcSwap<Heads>>,
    exchange: StreamProtocol,
    /// Apart from the exchange: a witness answers once it has everything, and nothing else may wait for that.
    witness: StreamProtocol,
    orders: mpsc::Sender<Order>,
    guests: GuestList,
    config: Config,
    /// Where to put questions to a connected peer.
    questions: RwLock<HashMap<PublicKey, Questions>>,
    /// Requests for cosignatures that wait for the driver's answer.
    tickets: Mutex<Tickets>,
    /// Where this node can be reached, once it listens.
    listening: RwLock<Vec<String>>,
    counters: Counters,
}

/// Who is who, by libp2p identity.
#[derive(Default)]
struct Roster {
    /// The members' nodes.
    members: HashMap<PeerId, (PublicKey, MemberId)>,
    /// Who may read along.
    followers: Followers,
}

/// Followers by libp2p identity: name, key, and whether they get openings.
type Followers = HashMap<PeerId, (MemberId, Follower)>;

/// The ways to a peer's two streams.
#[derive(Clone)]
struct Questions {
    exchange: mpsc::Sender<Request>,
    witness: mpsc::Sender<Request>,
}

/// Who waits for a witness's answer, by number.
#[derive(Default)]
struct Tickets {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Option<WitnessAnswer>>>,
}

/// What went wrong, counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// Gossip messages that were dropped because too many came at once.
    pub gossip_dropped: AtomicU64,
    /// Orders and questions that were dropped because the network was behind.
    pub orders_dropped: AtomicU64,
    /// Connections refused because nobody's card has the key.
    pub strangers_refused: AtomicU64,
    /// Peers cut off for what no honest node does.
    pub shunned: AtomicU64,
}

/// An order to the swarm.
enum Order {
    Gossip(Topic, Vec<u8>),
    Judge { delivery: u64, relay: Relay },
}

impl Net {
    /// Starts listening and dialling. The tasks run until the runtime ends.
    pub async fn start(setup: Setup) -> Result<Self, NetError> {
        let (orders, orders_in) = mpsc::channel(ORDERS);
        let federation = setup.governance.federation();
        let network = federation.charter().network().short();
        let roster = Roster::of(&federation, &setup.config);
        let name = |what: &str| protocol(&format!("/hashmesh/{network}/{what}/{}", hashmesh_protocol::wire::PROTOCOL));
        let shared = Arc::new(Shared {
            exchange: name("exchange")?,
            witness: name("witness")?,
            origins: federation.origins().clone(),
            network,
            governance: setup.governance,
            guests: GuestList::new(roster.guests()),
            roster: ArcSwap::from_pointee(roster),
            config: setup.config,
            mailbox: setup.mailbox,
            archive: setup.archive,
            heads: setup.heads,
            orders: orders.clone(),
            questions: RwLock::default(),
            tickets: Mutex::default(),
            listening: RwLock::default(),
            counters: Counters::default(),
        });
        let (identity, identities) = watch::channel(setup.node);
        swarm::start(&shared, identities, orders_in).await?;
        introduce::listen(&shared, &setup.submitters, &shared.config.introductions).await?;
        Ok(Self { orders, identity, shared })
    }

    /// Floods a message.
    pub fn gossip(&self, message: Vec<u8>) {
        self.order(Order::Gossip(Topic::Statements, message));
    }

    /// Floods a message that carries evidence.
    pub fn gossip_evidence(&self, message: Vec<u8>) {
        self.order(Order::Gossip(Topic::Evidence, message));
    }

    /// Floods a message that carries a document of governance.
    pub fn gossip_document(&self, message: Vec<u8>) {
        self.order(Order::Gossip(Topic::Governance, message));
    }

    /// Goes on under another node key: all connections are closed, and made anew.
    pub fn rename(&self, node: SecretKey) {
        self.identity.send_replace(node);
    }

    /// Other charters or cards are in force: who is on none any more is disconnected, and who is new let in.
    pub fn reform(&self) {
        let roster = Roster::of(&self.shared.governance.federation(), &self.shared.config);
        self.shared.guests.replace(roster.guests());
        self.shared.roster.store(Arc::new(roster));
        self.shared.guests.tell();
    }

    /// Says what is to become of a message.
    pub fn judge(&self, delivery: u64, relay: Relay) {
        self.order(Order::Judge { delivery, relay });
    }

    /// Disconnects a peer and keeps away from it for a while.
    pub fn shun(&self, peer: PublicKey, misdeed: &Misdeed) {
        if let Some(peer) = peer_id(&peer) {
            self.shared.shun(peer, &sentence(misdeed));
        }
    }

    /// Puts a question to a peer. What becomes of it comes back through the mailbox; if the peer is gone, nothing does.
    pub fn ask(&self, peer: PublicKey, request: Request) {
        let unsent = self.shared.questions.read().get(&peer).and_then(|questions| {
            let way = if matches!(request, Request::Cosign(..)) { &questions.witness } else { &questions.exchange };
            way.try_send(request).err()
        });
        if let Some(mpsc::error::TrySendError::Full(request)) = unsent {
            self.shared.counters.orders_dropped.fetch_add(1, Ordering::Relaxed);
            let failed = Input::Answered { peer, request, answer: None };
            // A full mailbox drops this too; then the engine gives up on the question by itself.
            drop(self.shared.mailbox.try_send(Lane::Urgent, failed));
        }
    }

    /// Answers a peer's request for a cosignature; `None`: not now.
    pub fn answer_witness(&self, ticket: u64, answer: Option<WitnessAnswer>) {
        if let Some(waiting) = self.shared.tickets.lock().waiting.remove(&ticket) {
            // Whoever asked may be gone.
            drop(waiting.send(answer));
        }
    }

    /// Where this node can be reached.
    pub fn listening(&self) -> Vec<String> {
        self.shared.listening.read().clone()
    }

    /// Where this node can be reached, for others: without its identity, and without what only this machine reaches, unless that
    /// is all.
    pub fn places(&self) -> Vec<String> {
        let parsed = self.listening().iter().filter_map(|text| text.parse::<Multiaddr>().ok()).collect::<Vec<_>>();
        let is_local = |address: &Multiaddr| {
            address.iter().any(|part| match part {
                Protocol::Ip4(ip) => ip.is_loopback(),
                Protocol::Ip6(ip) => ip.is_loopback(),
                _ => false,
            })
        };
        let wide: Vec<_> = parsed.iter().filter(|address| !is_local(address)).collect();
        let told = if wide.is_empty() { parsed.iter().collect() } else { wide };
        let without_identity = |address: &Multiaddr| -> Multiaddr {
            address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
        };
        told.into_iter().map(|address| without_identity(address).to_string()).collect()
    }

    /// What went wrong so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            self.shared.counters.orders_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shared {
    /// Cuts a peer off and keeps it away for a while. Not an order: those are dropped when there are too many.
    fn shun(&self, peer: PeerId, why: &str) {
        if self.guests.shun(peer) {
            self.counters.shunned.fetch_add(1, Ordering::Relaxed);
            let roster = self.roster.load();
            let member = roster.members.get(&peer).map(|(_, member)| member.to_string());
            let follower = roster.followers.get(&peer).map(|(name, _)| name.to_string());
            tracing::warn!(%peer, member, follower, why, "peer shunned for ten minutes");
        }
    }
}

/// Whether this is an address that a node can be found at.
pub fn check_address(text: &str) -> Result<(), NetError> {
    dial::parse(text).map(|_| ())
}

/// Whether this is an address that a node can listen on, and that others can be told.
pub fn check_listen(text: &str) -> Result<(), NetError> {
    dial::parse_listen(text).map(|_| ())
}

/// The libp2p identity of a node key.
fn peer_id(key: &PublicKey) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(key.as_bytes()).ok()?;
    Some(libp2p::identity::PublicKey::from(key).to_peer_id())
}

fn keypair(secret: &SecretKey) -> Result<Keypair, NetError> {
    Keypair::ed25519_from_bytes(secret.to_seed()).map_err(|error| NetError::Setting(error.to_string()))
}

fn protocol(name: &str) -> Result<StreamProtocol, NetError> {
    StreamProtocol::try_from_owned(name.to_owned()).map_err(|error| NetError::Setting(error.to_string()))
}

impl Roster {
    fn of(federation: &Federation, config: &Config) -> Self {
        Self { members: nodes_by_id(federation), followers: followers_by_id(federation, config) }
    }

    /// Who may connect.
    fn guests(&self) -> HashSet<PeerId> {
        self.members.keys().chain(self.followers.keys()).copied().collect()
    }
}

/// The members' nodes by libp2p identity.
fn nodes_by_id(federation: &Federation) -> HashMap<PeerId, (PublicKey, MemberId)> {
    let nodes = federation.nodes().iter();
    nodes.filter_map(|(key, member)| Some((peer_id(key)?, (*key, *member)))).collect()
}

/// Those who may follow. Who is on a card is more than that already.
fn followers_by_id(federation: &Federation, config: &Config) -> Followers {
    let followers = config.followers.iter().filter(|(name, follower)| {
        let member = federation.nodes().get(&follower.key);
        if let Some(member) = member {
            tracing::warn!(%name, %member, "[followers] in config.toml names a member's node, which is a peer in any case");
        }
        member.is_none()
    });
    followers.filter_map(|(name, follower)| Some((peer_id(&follower.key)?, (*name, *follower)))).collect()
}

/// The text of a multiaddress, for status and logs.
fn text(address: &Multiaddr) -> String {
    address.to_string()
}
