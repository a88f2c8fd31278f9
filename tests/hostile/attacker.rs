//! The peer that does what no node would: a member's keys, bare streams, and no manners.
//!
//! It speaks libp2p itself instead of running a node's network, because a node's network would refuse to say most of this.
//! Frames and gossip messages are written byte by byte. It does not know what a victim should make of them.

use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use hashmesh::clock;
use hashmesh::documents::Found;
use hashmesh::folder::Folder;
use hashmesh::keys::{self, NodeKeys};
use hashmesh_protocol::batch::Batch;
use hashmesh_protocol::charter::{Approval, Charter};
use hashmesh_protocol::checkpoint::{Checkpoint, SignedCheckpoint};
use hashmesh_protocol::content_hash::{HashKind, Media};
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::entries::Entries;
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::names::{LogId, MemberId, OriginPrefix};
use hashmesh_protocol::note::Note;
use hashmesh_protocol::opening::{Opening, Salt, commitment};
use hashmesh_protocol::statement::{Add, Labels, Leaf, Statement};
use hashmesh_protocol::time::Timestamp;
use hashmesh_protocol::tree::edge::Edge;
use hashmesh_protocol::wire::{Answer, Gossip, Heads, PROTOCOL, Request};
use hashmesh_testnet::sim::pdq;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, SwarmBuilder, noise, tcp, yamux};
use libp2p_stream::{Behaviour, Control, IncomingStreams};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::loopback::PATIENCE;

/// The member whose keys the attacker has: it can sign whatever it likes in that member's name.
pub(super) struct Crab {
    pub(super) federation: Federation,
    pub(super) log: LogId,
    keys: NodeKeys,
}

impl Crab {
    pub(super) fn of(folder: &Folder) -> Self {
        let genesis = Found::in_files(&[&folder.genesis()]).unwrap().genesis().unwrap();
        let log = LogId { member: "crab".parse().unwrap(), epoch: 0 };
        Self { federation: Federation::new(&genesis), log, keys: keys::load(folder).unwrap() }
    }

    pub(super) fn origins(&self) -> &OriginPrefix {
        self.federation.origins()
    }

    /// Leaves of its log; one `story` is one history.
    pub(super) fn entries(&self, story: u64, from: u64, to: u64) -> Entries {
        self.entries_at(story, from, to, |_| Timestamp(1_767_225_600_000))
    }

    pub(super) fn entries_at(&self, story: u64, from: u64, to: u64, time: impl Fn(u64) -> Timestamp) -> Entries {
        let mut composer = Entries::compose(self.log, from);
        for index in from..to {
            let hash = pdq((story + 1) << 32 | index);
            let opening = Opening::of(&hash, Salt([7; 16]), None).encode();
            let statement = Statement::Add(Add {
                kind: HashKind::Pdq as u64,
                commitment: commitment(&opening),
                labels: Labels::new(&[1]).unwrap(),
                media: Media::Image as u64,
                quality: None,
                expiry: None,
                incident: None,
                replaces: None,
            });
            composer.push(Leaf { time: time(index), statement }, Some((&opening, hash)));
        }
        composer.finish().unwrap()
    }

    /// The root of its log in this story.
    pub(super) fn root(&self, story: u64, size: u64) -> Digest {
        root_of(&self.entries(story, 0, size))
    }

    pub(super) fn checkpoint(&self, size: u64, root: Digest) -> Note {
        self.forge(self.log.member, size, root)
    }

    /// A vote in its name, with a key that has none.
    pub(super) fn approve(&self, charter: &Charter) -> Approval {
        charter.approve(self.log.member, &self.keys.log)
    }

    /// A checkpoint in somebody's name, signed with the only key there is.
    pub(super) fn forge(&self, member: MemberId, size: u64, root: Digest) -> Note {
        let key = &self.federation.logs()[&LogId { member, epoch: 0 }];
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size, root };
        SignedCheckpoint::sign(checkpoint, key, &self.keys.log).note().clone()
    }

    /// Leaves as an honest author publishes them.
    pub(super) fn batch(&self, story: u64, from: u64, to: u64) -> Batch {
        let checkpoint = self.checkpoint(to, self.root(story, to));
        Batch { entries: self.entries(story, from, to), checkpoint, proof: Vec::new() }
    }

    pub(super) fn gossip(&self, batch: &Batch) -> Vec<u8> {
        Gossip::encode_batch(batch.encode(self.origins()))
    }

    /// A frame that tells these heads at this time.
    pub(super) fn heads(&self, time: Timestamp, heads: &[Note]) -> Vec<u8> {
        let heads = heads.iter().map(|note| (self.log, note.clone())).collect();
        framed(&Answer::Heads(Heads { time, heads, ..Heads::default() }).encode(self.origins()))
    }

    pub(super) fn range(&self, batch: &Batch) -> Vec<u8> {
        framed(&Answer::encode_range(batch.encode(self.origins())))
    }

    pub(super) fn answer(&self, answer: &Answer) -> Vec<u8> {
        framed(&answer.encode(self.origins()))
    }

    pub(super) fn question(&self, request: &Request) -> Vec<u8> {
        framed(&request.encode(self.origins()))
    }
}

pub(super) fn root_of(entries: &Entries) -> Digest {
    let mut edge = Edge::default();
    entries.iter().for_each(|(_, entry)| edge.push(entry.leaf_hash));
    edge.root()
}

/// What is written for a question, as it is: a frame, several, or none.
pub(super) type Answers = fn(&Crab, Request) -> Vec<u8>;

/// What a node answers that has nothing.
pub(super) fn meek(crab: &Crab, request: Request) -> Vec<u8> {
    match request {
        Request::Heads(_) => crab.heads(clock::now(), &[]),
        _ => crab.answer(&Answer::NotHeld),
    }
}

/// A peer of one node.
pub(super) struct Attacker {
    victim: PeerId,
    control: Control,
    network: String,
    gossip: Option<Stream>,
    dial: mpsc::Sender<()>,
    ended: watch::Receiver<u64>,
}

impl Attacker {
    /// With the member's key.
    pub(super) fn member(crab: &Arc<Crab>, victim: MemberId, address: &str, answers: Answers) -> Self {
        let keypair = Keypair::ed25519_from_bytes(crab.keys.node.to_seed()).unwrap();
        Self::with(keypair, crab, victim, address, answers)
    }

    /// With a key that is on no card.
    pub(super) fn stranger(crab: &Arc<Crab>, victim: MemberId, address: &str) -> Self {
        Self::with(Keypair::generate_ed25519(), crab, victim, address, meek)
    }

    /// With a follower's key.
    pub(super) fn follower(crab: &Arc<Crab>, follower: &Folder, victim: MemberId, address: &str) -> Self {
        let secret = keys::load_node(follower).unwrap();
        Self::with(Keypair::ed25519_from_bytes(secret.to_seed()).unwrap(), crab, victim, address, meek)
    }

    fn with(keypair: Keypair, crab: &Arc<Crab>, victim: MemberId, address: &str, answers: Answers) -> Self {
        let (key, _) = crab.federation.nodes().iter().find(|(_, member)| **member == victim).unwrap();
        let victim = PublicKey::from(ed25519::PublicKey::try_from_bytes(key.as_bytes()).unwrap()).to_peer_id();
        let address: Multiaddr = address.split("/p2p/").next().unwrap().parse().unwrap();
        let mut swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| Behaviour::new())
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
            .build();
        let mut control = swarm.behaviour().new_control();
        let network = crab.federation.charter().network().short();
        tokio::spawn(answer_all(crab.clone(), control.accept(exchange(&network)).unwrap(), answers));
        // A node takes no gossip from a peer to which it cannot send any.
        tokio::spawn(swallow_all(control.accept(gossip(&network)).unwrap()));
        let (dial, mut dialled) = mpsc::channel(1);
        let (end, ended) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    order = dialled.recv() => match order {
                        Some(()) => {
                            let options = DialOpts::peer_id(victim).addresses(vec![address.clone()]).build();
                            if swarm.dial(options).is_err() {
                                end.send_modify(|count| *count += 1);
                            }
                        }
                        None => return,
                    },
                    event = swarm.select_next_some() => {
                        if matches!(
                            event,
                            SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. }
                        ) {
                            end.send_modify(|count| *count += 1);
                        }
                    }
                }
            }
        });
        Self { victim, control, network, gossip: None, dial, ended }
    }

    /// Begins a connection. What comes of it, the victim knows.
    pub(super) async fn dial(&mut self) {
        self.ended.mark_unchanged();
        self.dial.send(()).await.unwrap();
    }

    /// Whether a connection has ended, or has not come about, since the last [`dial`](Self::dial).
    pub(super) fn has_ended(&self) -> bool {
        self.ended.has_changed().unwrap()
    }

    /// Waits until the last connection has ended.
    pub(super) async fn end(&mut self) {
        timeout(PATIENCE, self.ended.changed()).await.unwrap().unwrap();
        self.gossip = None;
    }

    /// A stream for questions; none if the victim has gone.
    pub(super) async fn exchange(&mut self) -> Option<Stream> {
        self.open(exchange(&self.network)).await
    }

    async fn open(&mut self, protocol: StreamProtocol) -> Option<Stream> {
        // Without a connection the library may wait for one for ever.
        let mut ended = self.ended.clone();
        let opening = async {
            tokio::select! {
                opened = self.control.open_stream(self.victim, protocol) => opened.ok(),
                _ = ended.changed() => None,
            }
        };
        timeout(PATIENCE, opening).await.unwrap()
    }

    /// Writes bytes where questions are expected, on a stream of their own, which stays open as long as what is returned.
    pub(super) async fn asks(&mut self, bytes: &[u8]) -> Option<Stream> {
        let mut stream = self.exchange().await?;
        throw(&mut stream, bytes).await;
        Some(stream)
    }

    /// Sends gossip messages, each in a frame that gossip itself has nothing against.
    pub(super) async fn gossips(&mut self, messages: &[Vec<u8>]) {
        let topic = format!("hashmesh/{}/{PROTOCOL}/statements", self.network);
        let frames: Vec<u8> = messages.iter().flat_map(|message| rpc(&topic, message)).collect();
        self.gossips_raw(&frames).await;
    }

    /// Writes bytes where gossip is expected.
    pub(super) async fn gossips_raw(&mut self, bytes: &[u8]) {
        if self.gossip.is_none() {
            self.gossip = self.open(gossip(&self.network)).await;
        }
        if let Some(stream) = &mut self.gossip {
            throw(stream, bytes).await;
        }
    }

    /// Whether the victim takes gossip from it at all.
    pub(super) async fn may_gossip(&mut self) -> bool {
        self.open(gossip(&self.network)).await.is_some()
    }

    /// The next bytes for gossip go onto a new stream.
    pub(super) fn drops_gossip(&mut self) {
        self.gossip = None;
    }
}

/// Writes what can be written: a victim may well have cut the line by then, which is what it is there for.
pub(super) async fn throw(stream: &mut Stream, bytes: &[u8]) {
    let writing = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    let _cut_off = timeout(PATIENCE, writing).await.unwrap();
}

/// A frame on a stream (SPEC 13.3).
pub(super) fn framed(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// Reads a frame; none where the stream has ended.
pub(super) async fn frame(stream: &mut (impl futures::AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await.ok()?;
    let mut frame = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

fn exchange(network: &str) -> StreamProtocol {
    StreamProtocol::try_from_owned(format!("/hashmesh/{network}/exchange/{PROTOCOL}")).unwrap()
}

fn gossip(network: &str) -> StreamProtocol {
    StreamProtocol::try_from_owned(format!("/hashmesh/{network}/gossip/1.1.0")).unwrap()
}

async fn answer_all(crab: Arc<Crab>, mut incoming: IncomingStreams, answers: Answers) {
    while let Some((_, mut stream)) = incoming.next().await {
        let crab = Arc::clone(&crab);
        tokio::spawn(async move {
            while let Some(question) = frame(&mut stream).await {
                let request = Request::decode(&question, crab.origins()).unwrap();
                // It knows of no other charters and cards than everybody.
                let governs = matches!(request, Request::Documents(..));
                let answer = if governs { crab.answer(&Answer::NotHeld) } else { answers(&crab, request) };
                throw(&mut stream, &answer).await;
            }
        });
    }
}

async fn swallow_all(mut incoming: IncomingStreams) {
    while let Some((_, mut stream)) = incoming.next().await {
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
        });
    }
}

/// A gossipsub frame with one message: length, then `publish` (2) of a message with `data` (2) and `topic` (4).
pub(super) fn rpc(topic: &str, data: &[u8]) -> Vec<u8> {
    let message = [field(2, data), field(4, topic.as_bytes())].concat();
    let rpc = field(2, &message);
    [varint(rpc.len()), rpc].concat()
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], varint(bytes.len()), bytes.to_vec()].concat()
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
