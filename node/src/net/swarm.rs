//! The swarm and the task that owns it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use hashmesh_protocol::engine::{Input, Relay};
use hashmesh_protocol::key::{PublicKey, SecretKey};
use hashmesh_protocol::names::MemberId;
use hashmesh_protocol::wire::Gossip;
use libp2p::gossipsub::{self, MessageAcceptance, MessageId, PublishError};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, Swarm, SwarmBuilder, connection_limits, noise, ping, tcp, yamux};
use libp2p_stream as stream;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::dial::{self, Dialler};
use super::gate::{Gate, Guarded};
use super::gossip::{Gossipsub, PACE, gossipsub};
use super::pace::Buckets;
use super::quiet::Quiet;
use super::{NetError, Order, QUESTIONS, Questions, Shared, exchange, keypair, text};
use crate::mailbox::Lane;
use crate::sentence::sentence;

/// Connections that are being set up at a time, from outside and to outside.
const PENDING_IN: u32 = 64;
const PENDING_OUT: u32 = 32;

/// Connections, far above what the largest federation has: who may connect, the gate decides.
const ESTABLISHED: u32 = 4096;

/// Gossip messages that wait to be read.
const UNREAD: usize = 512;

/// Gossip messages whose verdict is awaited. Beyond, the oldest are forgotten, and so not passed on.
const UNJUDGED: usize = 4096;

/// How often the dialler is asked who is due.
const DIAL_INTERVAL: Duration = Duration::from_millis(250);

/// Before it is tried again to listen under another node key.
const PAUSE: Duration = Duration::from_secs(1);

/// Pings that may fail in a row; libp2p itself no longer closes a connection over them.
const PINGS: u32 = 2;

/// The parts of the swarm. The gate is first: they are asked in order, and a stranger must not reach the others.
#[derive(NetworkBehaviour)]
struct Behaviour {
    gate: Gate,
    limits: connection_limits::Behaviour,
    gossip: Quiet<Gossipsub>,
    ping: ping::Behaviour,
    stream: stream::Behaviour,
}

/// Builds the swarm, listens, and starts the tasks.
pub(super) async fn start(
    shared: &Arc<Shared>,
    mut identity: watch::Receiver<SecretKey>,
    orders: mpsc::Receiver<Order>,
) -> Result<(), NetError> {
    let node = identity.borrow_and_update().clone();
    let (swarm, missed) = listen(shared, &node).await?;
    let (unread, messages) = mpsc::channel(UNREAD);
    read_gossip(Arc::clone(shared), messages);
    let task = Task {
        dialler: Dialler::new(*swarm.local_peer_id(), targets(shared)?),
        control: serve(shared, &swarm)?,
        shared: Arc::clone(shared),
        connected: HashMap::new(),
        unread,
        buckets: Buckets::new(PACE),
        unjudged: Unjudged::default(),
        asking: HashMap::new(),
        failed_pings: HashMap::new(),
    };
    tokio::spawn(task.live((swarm, missed), identity, orders));
    Ok(())
}

/// A swarm, and what has happened in it that nobody has looked at.
type Begun = (Swarm<Behaviour>, Vec<SwarmEvent<BehaviourEvent>>);

/// A swarm that listens. Peers may have connected at one address while the next one was taken.
async fn listen(shared: &Shared, node: &SecretKey) -> Result<Begun, NetError> {
    let (mut swarm, mut missed) = (build(shared, node)?, Vec::new());
    shared.listening.write().clear();
    for text in &shared.config.listen {
        let address = dial::parse_listen(text)?;
        let refused =
            |error: Box<dyn std::error::Error + Send + Sync>| NetError::Listen { address: text.clone(), error };
        // libp2p lets several sockets share a port, and the system would spread the peers over both nodes.
        dial::is_free(&address).map_err(|error| refused(Box::new(error)))?;
        swarm.listen_on(address).map_err(|error| refused(Box::new(error)))?;
        // Whether the port can be had is known only once the listener has been polled.
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => {
                    shared.listening.write().push(super::text(&address));
                    break;
                }
                SwarmEvent::ListenerClosed { reason: Err(error), .. } => return Err(refused(Box::new(error))),
                SwarmEvent::ListenerError { error, .. } => return Err(refused(Box::new(error))),
                event => missed.push(event),
            }
        }
    }
    Ok((swarm, missed))
}

/// Answers what is asked through a swarm, and lets this node ask.
fn serve(shared: &Arc<Shared>, swarm: &Swarm<Behaviour>) -> Result<stream::Control, NetError> {
    let mut control = swarm.behaviour().stream.new_control();
    for protocol in [&shared.exchange, &shared.witness] {
        let incoming = control.accept(protocol.clone()).map_err(|error| NetError::Setting(error.to_string()))?;
        tokio::spawn(exchange::serve_all(Arc::clone(shared), incoming));
    }
    Ok(control)
}

fn build(shared: &Shared, node: &SecretKey) -> Result<Swarm<Behaviour>, NetError> {
    let list = &shared.guests;
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_IN))
        .with_max_pending_outgoing(Some(PENDING_OUT))
        .with_max_established_per_peer(Some(2))
        .with_max_established(Some(ESTABLISHED));
    let members = shared.governance.federation().size();
    let gossip = shared.config.member.map(|_| gossipsub(&shared.network, members)).transpose()?;
    let behaviour = Behaviour {
        gate: Gate::new(list.clone()),
        limits: connection_limits::Behaviour::new(limits),
        gossip: Quiet::new(gossip, shared.roster.load().followers.keys().copied().collect()),
        ping: ping::Behaviour::new(
            ping::Config::new().with_interval(Duration::from_secs(10)).with_timeout(Duration::from_secs(5)),
        ),
        stream: stream::Behaviour::new(),
    };
    let setting = |error: &dyn std::fmt::Display| NetError::Setting(error.to_string());
    let secure = |keypair: &libp2p::identity::Keypair| {
        noise::Config::new(keypair).map(|upgrade| Guarded { upgrade, list: list.clone() })
    };
    let swarm = SwarmBuilder::with_existing_identity(keypair(node)?)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), secure, yamux::Config::default)
        .map_err(|error| setting(&error))?
        .with_behaviour(|_| behaviour)
        .map_err(|error| setting(&error))?
        // Connections are kept for as long as both are members; the default is ten seconds without a stream.
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(24 * 60 * 60)))
        .build();
    Ok(swarm)
}

/// The addresses of the members' nodes: where the configuration says that a member is every node key of that member is tried; then
/// where the node itself says that it is.
fn targets(shared: &Shared) -> Result<HashMap<PeerId, Vec<libp2p::Multiaddr>>, NetError> {
    let (config, roster, stored) = (&shared.config, shared.roster.load(), shared.governance.load());
    let said: HashMap<PublicKey, &[String]> =
        stored.governance.addresses().map(|record| (record.body().node, record.body().places.as_slice())).collect();
    let mut targets = HashMap::new();
    for (peer, (key, member)) in roster.members.iter().filter(|(_, (_, member))| Some(*member) != config.member) {
        let known = config.peers.get(member).map(Vec::as_slice).unwrap_or_default();
        let mut addresses = known.iter().map(|text| dial::parse(text)).collect::<Result<Vec<_>, _>>()?;
        // What cannot be dialled here may be of use to others.
        let said = said.get(key).copied().unwrap_or_default().iter().filter_map(|text| dial::parse(text).ok());
        addresses.extend(said.filter(|address| !known.iter().any(|text| *text == address.to_string())));
        if !addresses.is_empty() {
            targets.insert(*peer, addresses);
        }
    }
    Ok(targets)
}

/// Reads gossip on a thread of its own, so that a flood of it costs the swarm nothing.
fn read_gossip(shared: Arc<Shared>, mut messages: mpsc::Receiver<(u64, PublicKey, PeerId, Vec<u8>)>) {
    let read = move || {
        while let Some((delivery, from, peer, bytes)) = messages.blocking_recv() {
            let input = match Gossip::decode(&bytes, &shared.origins) {
                Ok(message) => Some(Input::Gossiped { delivery, from, message }),
                Err(error) => {
                    let relay = if error.is_from_the_future() { Relay::Ignore } else { Relay::Reject };
                    if relay == Relay::Reject {
                        shared.shun(peer, &sentence(&error));
                    }
                    drop(shared.orders.blocking_send(Order::Judge { delivery, relay }));
                    None
                }
            };
            if let Some(input) = input
                && shared.mailbox.try_send(Lane::Urgent, input).is_err()
            {
                shared.counters.gossip_dropped.fetch_add(1, Ordering::Relaxed);
                drop(shared.orders.blocking_send(Order::Judge { delivery, relay: Relay::Ignore }));
            }
        }
    };
    thread::Builder::new().name("gossip".to_owned()).spawn(read).expect("the system can start a thread");
}

/// Messages whose verdict is awaited.
#[derive(Default)]
struct Unjudged {
    next: u64,
    waiting: VecDeque<(u64, MessageId, PeerId)>,
}

impl Unjudged {
    fn insert(&mut self, id: MessageId, source: PeerId) -> u64 {
        self.next += 1;
        if self.waiting.len() == UNJUDGED {
            self.waiting.pop_front();
        }
        self.waiting.push_back((self.next, id, source));
        self.next
    }

    fn remove(&mut self, delivery: u64) -> Option<(MessageId, PeerId)> {
        let at = self.waiting.binary_search_by_key(&delivery, |(number, ..)| *number).ok()?;
        self.waiting.remove(at).map(|(_, id, source)| (id, source))
    }
}

struct Task {
    shared: Arc<Shared>,
    /// Members' nodes that are connected: whose they were then.
    connected: HashMap<PeerId, (PublicKey, MemberId)>,
    dialler: Dialler,
    control: stream::Control,
    unread: mpsc::Sender<(u64, PublicKey, PeerId, Vec<u8>)>,
    buckets: Buckets,
    unjudged: Unjudged,
    /// The tasks that ask connected peers.
    asking: HashMap<PeerId, [AbortHandle; 2]>,
    failed_pings: HashMap<ConnectionId, u32>,
}

/// Why a swarm is not polled any more.
enum Ended {
    /// The node ends.
    Over,
    /// It is to have another identity.
    Renamed,
}

impl Task {
    /// Runs one swarm after the other: each has one identity.
    async fn live(
        mut self,
        (mut swarm, mut missed): Begun,
        mut identity: watch::Receiver<SecretKey>,
        mut orders: mpsc::Receiver<Order>,
    ) {
        loop {
            missed.drain(..).for_each(|event| self.happened(&mut swarm, event));
            if let Ended::Over = self.run(&mut swarm, &mut identity, &mut orders).await {
                return;
            }
            // The addresses must be free before they are taken again.
            drop(swarm);
            let connected: Vec<_> = self.connected.keys().copied().collect();
            connected.into_iter().for_each(|peer| self.down(peer));
            self.unjudged.waiting.clear();
            self.failed_pings.clear();
            (swarm, missed) = loop {
                let node = identity.borrow_and_update().clone();
                match self.begin(&node).await {
                    Ok(begun) => break begun,
                    Err(error) => tracing::error!(error = sentence(&error), "no peer is connected; trying again"),
                }
                sleep(PAUSE).await;
            };
            tracing::info!(peer = %swarm.local_peer_id(), "connecting under another node key");
        }
    }

    /// Begins to listen, serve and dial under an identity.
    async fn begin(&mut self, node: &SecretKey) -> Result<Begun, NetError> {
        let (swarm, missed) = listen(&self.shared, node).await?;
        self.control = serve(&self.shared, &swarm)?;
        self.dialler = Dialler::new(*swarm.local_peer_id(), targets(&self.shared)?);
        Ok((swarm, missed))
    }

    async fn run(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        identity: &mut watch::Receiver<SecretKey>,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Ended {
        let (resolved, mut to_dial) = mpsc::channel(64);
        let mut ticks = interval(DIAL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = self.shared.clone();
        loop {
            // Whatever is ready gets its turn: none of these may starve the others, least of all dialling.
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(swarm, order),
                    None => return Ended::Over,
                },
                Ok(()) = identity.changed() => return Ended::Renamed,
                () = shared.guests.news() => {
                    for peer in shared.guests.shunned() {
                        if swarm.disconnect_peer_id(peer).is_ok() {
                            tracing::debug!(%peer, "disconnected for what it did");
                        }
                    }
                    let gone = swarm.connected_peers().filter(|peer| !shared.guests.has(peer));
                    for peer in gone.copied().collect::<Vec<_>>() {
                        tracing::info!(%peer, "disconnected: on no member's card any more");
                        let _gone = swarm.disconnect_peer_id(peer);
                    }
                    match targets(&shared) {
                        Ok(targets) => self.dialler.retarget(targets),
                        Err(error) => tracing::warn!(error = sentence(&error), "peers are dialled where they were before"),
                    }
                }
                event = swarm.select_next_some() => self.happened(swarm, event),
                Some((peer, addresses)) = to_dial.recv() => {
                    let options = DialOpts::peer_id(peer).addresses(addresses);
                    let options = options.condition(PeerCondition::DisconnectedAndNotDialing).build();
                    if let Err(error) = swarm.dial(options) {
                        tracing::debug!(%peer, %error, "not dialled");
                    }
                }
                _ = ticks.tick() => {
                    let counters = &shared.counters;
                    counters.strangers_refused.store(shared.guests.refused(), Ordering::Relaxed);
                    for (peer, addresses) in self.dialler.due(|peer| swarm.is_connected(peer)) {
                        let resolved = resolved.clone();
                        tokio::spawn(async move {
                            let mut found = Vec::new();
                            for address in addresses {
                                found.extend(dial::resolve(address).await);
                            }
                            drop(resolved.send((peer, found)).await);
                        });
                    }
                }
            }
        }
    }

    fn obey(&mut self, swarm: &mut Swarm<Behaviour>, order: Order) {
        match order {
            Order::Gossip(topic, message) => {
                let topic = topic.of(&self.shared.network);
                let Some(gossip) = swarm.behaviour_mut().gossip.inner() else { return };
                match gossip.publish(topic, message) {
                    Ok(_) | Err(PublishError::Duplicate | PublishError::NoPeersSubscribedToTopic) => {}
                    Err(error) => tracing::warn!(%error, "gossip was not sent; peers will fetch it"),
                }
            }
            Order::Judge { delivery, relay } => {
                let acceptance = match relay {
                    Relay::Accept => MessageAcceptance::Accept,
                    Relay::Ignore => MessageAcceptance::Ignore,
                    Relay::Reject => MessageAcceptance::Reject,
                };
                if let Some((id, source)) = self.unjudged.remove(delivery)
                    && let Some(gossip) = swarm.behaviour_mut().gossip.inner()
                {
                    gossip.report_message_validation_result(&id, &source, acceptance);
                }
            }
        }
    }

    fn happened(&mut self, swarm: &mut Swarm<Behaviour>, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, num_established, endpoint, .. }
                if num_established.get() == 1 =>
            {
                self.up(peer_id, &text(endpoint.get_remote_address()));
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.failed_pings.remove(&connection_id);
                if num_established == 0 {
                    self.down(peer_id);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            })) => self.gossiped(swarm, propagation_source, message_id, message.data),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { peer, connection, result })) => {
                let failed = self.failed_pings.entry(connection).or_default();
                *failed = if result.is_err() { *failed + 1 } else { 0 };
                if *failed >= PINGS {
                    tracing::info!(%peer, "no answer to pings; connection closed");
                    swarm.close_connection(connection);
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => self.shared.listening.write().push(text(&address)),
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                tracing::debug!(?peer_id, %error, "no connection");
            }
            SwarmEvent::IncomingConnectionError { error, .. } => tracing::debug!(%error, "connection refused"),
            _ => {}
        }
    }

    fn gossiped(&mut self, swarm: &mut Swarm<Behaviour>, source: PeerId, id: MessageId, data: Vec<u8>) {
        let Some((key, _)) = self.connected.get(&source) else { return };
        if self.buckets.take(source, 1.0, Instant::now()) {
            let delivery = self.unjudged.insert(id.clone(), source);
            if self.unread.try_send((delivery, *key, source, data)).is_ok() {
                return;
            }
            self.unjudged.remove(delivery);
        }
        self.shared.counters.gossip_dropped.fetch_add(1, Ordering::Relaxed);
        if let Some(gossip) = swarm.behaviour_mut().gossip.inner() {
            gossip.report_message_validation_result(&id, &source, MessageAcceptance::Ignore);
        }
    }

    fn up(&mut self, peer: PeerId, address: &str) {
        let roster = self.shared.roster.load_full();
        if let Some((name, _)) = roster.followers.get(&peer) {
            // It asks; nothing is asked of it, and the engine does not know it.
            tracing::info!(follower = %name, address, "connected");
        }
        let Some(&(key, member)) = roster.members.get(&peer) else { return };
        self.connected.insert(peer, (key, member));
        tracing::info!(%member, address, "connected");
        self.dialler.connected(&peer);
        let ((exchange, asked), (witness, to_cosign)) = (mpsc::channel(QUESTIONS), mpsc::channel(QUESTIONS));
        self.shared.questions.write().insert(key, Questions { exchange, witness });
        let asking = [(&self.shared.exchange, asked), (&self.shared.witness, to_cosign)].map(|(protocol, asked)| {
            let ask = exchange::ask(self.shared.clone(), self.control.clone(), key, protocol.clone(), asked);
            tokio::spawn(ask).abort_handle()
        });
        if let Some(old) = self.asking.insert(peer, asking) {
            old.iter().for_each(AbortHandle::abort);
        }
        self.shared.mailbox.post(Input::PeerUp(key));
    }

    fn down(&mut self, peer: PeerId) {
        if let Some((name, _)) = self.shared.roster.load().followers.get(&peer) {
            tracing::info!(follower = %name, "disconnected");
        }
        let Some((key, member)) = self.connected.remove(&peer) else { return };
        tracing::info!(%member, "disconnected");
        self.dialler.gone(&peer);
        self.shared.questions.write().remove(&key);
        if let Some(asking) = self.asking.remove(&peer) {
            asking.iter().for_each(AbortHandle::abort);
        }
        self.shared.mailbox.post(Input::PeerDown(key));
    }
}
