//! A member that turns on the others: crab's keys in the hands of somebody who speaks to two real nodes, acme and bolt,
//! whatever the protocol forbids (SPEC 13, 14).
//!
//! After every attack the same is asked of both nodes: that they run and answer on both sockets, that what one publishes
//! arrives at the other, that no log holds what nobody said, and that nothing in them has panicked.

mod attacker;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attacker::{Answers, Attacker, Crab, frame, framed, meek, root_of, rpc, throw};
use hashmesh::api::form::StatusAnswer;
use hashmesh::client::Client;
use hashmesh::clock;
use hashmesh_protocol::batch::Batch;
use hashmesh_protocol::bundle;
use hashmesh_protocol::charter::{Approval, Charter, CharterBody};
use hashmesh_protocol::codec;
use hashmesh_protocol::digest::CharterId;
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::entries::Entries;
use hashmesh_protocol::governance::{Addresses, Document, Position};
use hashmesh_protocol::key::SecretKey;
use hashmesh_protocol::names::{LogId, OriginPrefix};
use hashmesh_protocol::policy::Decision;
use hashmesh_protocol::time::Timestamp;
use hashmesh_protocol::wire::{Answer, Gossip, Heads, MAX_FRAME, MAX_GOSSIP, Request};
use hashmesh_protocol::witnessing::AddCheckpoint;
use hashmesh_testnet::cluster::Cluster;
use hashmesh_testnet::sim::pdq;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::loopback::{PATIENCE, add, decisions, eventually, founded, publish};

const ACME: usize = 0;
const BOLT: usize = 1;
const CRAB: usize = 2;

/// What an attack may add to the memory that a node has ever taken, in KiB: a guess, far below what any of the floods sends.
const GROWTH: u64 = 96 * 1024;

/// Two honest nodes, and the keys of the third.
struct Scene {
    cluster: Cluster,
    crab: Arc<Crab>,
    /// Statements of acme's, which has said nothing but what these tests made it say.
    said: u64,
    /// Leaves of crab's log that the nodes were given in proper form.
    taken: u64,
    _folder: TempDir,
}

impl Scene {
    async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = founded(folder.path());
        cluster.start(ACME).unwrap();
        cluster.start(BOLT).unwrap();
        cluster.connected(PATIENCE).await.unwrap();
        let crab = Arc::new(Crab::of(&cluster.member(CRAB).folder));
        Self { cluster, crab, said: 0, taken: 0, _folder: folder }
    }

    async fn status(&self, at: usize) -> StatusAnswer {
        self.cluster.member(at).status().await.unwrap()
    }

    async fn meets_crab(&self, at: usize) -> bool {
        self.status(at).await.peers.iter().any(|peer| peer.member == "crab")
    }

    /// Crab, connected to a node.
    async fn attacker(&self, at: usize, answers: Answers) -> Attacker {
        let mut attacker = Attacker::member(&self.crab, self.id(at), &self.address(at).await, answers);
        attacker.dial().await;
        eventually("crab gets in", async || {
            if attacker.has_ended() {
                attacker.dial().await;
            }
            self.meets_crab(at).await
        })
        .await;
        attacker
    }

    fn id(&self, at: usize) -> hashmesh_protocol::names::MemberId {
        self.cluster.member(at).id.parse().unwrap()
    }

    async fn address(&self, at: usize) -> String {
        self.status(at).await.listening[0].clone()
    }

    async fn metric(&self, at: usize, name: &str) -> u64 {
        let mut client = Client::query(&self.cluster.member(at).folder).await.unwrap();
        let text = client.text("/metrics").await.unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("hashmesh_{name} "))).unwrap().to_owned();
        line.split_whitespace().last().unwrap().parse().unwrap()
    }

    fn log(&self, at: usize) -> String {
        fs::read_to_string(self.cluster.member(at).log()).unwrap()
    }

    /// The most memory that a node has ever taken, in KiB.
    fn memory(&self, at: usize) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.cluster.member(at).pid().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn size(status: &StatusAnswer, member: &str) -> u64 {
        status.logs.iter().find(|log| log.member == member).unwrap().size
    }

    /// Waits until both nodes hold so much of crab's log.
    async fn takes(&mut self, leaves: u64) {
        for at in [ACME, BOLT] {
            eventually("leaves of crab's", async || Self::size(&self.status(at).await, "crab") == leaves).await;
        }
        self.taken = leaves;
    }

    /// That the nodes work as if nothing had happened, and hold what they should.
    async fn unharmed(&mut self, after: &str) {
        self.said += 1;
        let hash = pdq(self.said);
        let answer = publish(self.cluster.member(ACME), vec![add(hash)]).await.unwrap();
        assert_eq!(answer.added, 1, "{after}");
        for at in [ACME, BOLT] {
            let member = self.cluster.member(at);
            eventually(after, async || decisions(member, &[hash]).await == [Decision::Review]).await;
            // The status may be a few milliseconds older than what queries see.
            eventually(after, async || Self::size(&self.status(at).await, "acme") >= self.said).await;
            let status = self.status(at).await;
            let sizes = ["acme", "bolt", "crab"].map(|member| Self::size(&status, member));
            assert_eq!(sizes, [self.said, 0, self.taken], "{after}: what {} holds", member.id);
            assert_eq!(status.stopped, None, "{after}");
            let log = self.log(at);
            assert!(!log.contains("panicked"), "{after}: {log}");
        }
    }

    /// SPEC 14.6: that a node cuts crab off, says why, and does not let it in again.
    async fn shuns(&self, at: usize, mut attacker: Attacker, crime: &str, why: &str) {
        eventually(crime, async || !self.meets_crab(at).await).await;
        attacker.end().await;
        let log = self.log(at);
        let last = log.lines().rfind(|line| line.contains("peer shunned")).unwrap_or_default();
        assert!(last.contains(why), "{crime}: {last}");
        assert_eq!(self.metric(at, "peers_shunned").await, 1, "{crime}: the operator's numbers say so");
        attacker.dial().await;
        attacker.end().await;
        assert!(!self.meets_crab(at).await, "{crime}: kept away");
    }

    /// A node that has shunned crab, as new: it forgets that with its process.
    async fn forgives(&mut self, at: usize) {
        self.cluster.kill(at).unwrap();
        self.cluster.start(at).unwrap();
        self.cluster.connected(PATIENCE).await.unwrap();
    }
}

/// SPEC 14.6, 7.8: what an honest node would have refused is held against whoever brings it.
#[tokio::test(flavor = "multi_thread")]
async fn who_gossips_what_no_honest_node_passes_on_is_shunned() {
    let mut scene = Scene::set().await;
    let crab = Arc::clone(&scene.crab);
    let good = crab.batch(0, 0, 3);
    let bytes = crab.gossip(&good);
    let flip = |bit: usize| {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    };
    let mut openings = good.entries.openings().to_vec();
    *openings.last_mut().unwrap() ^= 1;
    let wrong_opening = codec::encode(&(
        1u64,
        crab.origins().origin(crab.log),
        0u64,
        Bytes(good.entries.leaves()),
        Bytes(&openings),
        good.checkpoint.to_string(),
        Vec::<Digest>::new(),
    ));
    let backwards = crab.entries_at(0, 0, 3, |index| Timestamp(1000 - index));
    let backwards = Batch { checkpoint: crab.checkpoint(3, root_of(&backwards)), entries: backwards, proof: vec![] };
    let forged = crab.forge("acme".parse().unwrap(), 900, Digest([9; 32]));
    let elsewhere = OriginPrefix::new(&"other.example".parse().unwrap(), &crab.federation.charter().network());
    let tip = crab.federation.charter();
    let proposed = Charter::new(CharterBody { note: "mine".to_owned(), ..tip.successor() }).unwrap();
    // The log key is no governance key.
    let vote = crab.approve(&proposed);
    let document = |approvals| Document::Charter { charter: Box::new(proposed.clone()), approvals, cards: vec![] };
    let document = |approvals| Gossip::encode_document(&document(approvals)).unwrap();
    let crimes: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("a charter that nobody has signed", vec![document(vec![])], "charter, signature or card that does not hold"),
        (
            "a vote with another key",
            vec![document(vec![vote.clone()])],
            "charter, signature or card that does not hold",
        ),
        ("random bytes", vec![vec![0x9b; 300]], "malformed frame"),
        ("nothing", vec![vec![]], "malformed frame"),
        ("a batch that ends too soon", vec![bytes[..bytes.len() / 2].to_vec()], "malformed frame"),
        ("a batch with any bit wrong", (0..bytes.len() * 8).step_by(5).map(flip).collect(), ""),
        ("a message too long", vec![codec::encode(&(99u64, Bytes(&vec![0; MAX_GOSSIP])))], "malformed frame"),
        ("a checkpoint in acme's name", vec![Gossip::encode_checkpoint(&forged)], "what an honest node refuses"),
        (
            "leaves beyond the checkpoint",
            vec![crab.gossip(&Batch { checkpoint: crab.checkpoint(2, crab.root(0, 2)), ..good.clone() })],
            "covers 2 leaves, 3 are offered",
        ),
        ("an opening that opens nothing", vec![Gossip::encode_batch(wrong_opening)], "does not open it"),
        ("time that goes back", vec![crab.gossip(&backwards)], "older than the one before"),
        ("another federation", vec![Gossip::encode_batch(good.encode(&elsewhere))], "not an origin of this federation"),
    ];
    for ((crime, messages, why), at) in crimes.into_iter().zip([ACME, BOLT].into_iter().cycle()) {
        let mut attacker = scene.attacker(at, meek).await;
        attacker.gossips(&messages).await;
        scene.shuns(at, attacker, crime, why).await;
        scene.unharmed(crime).await;
        scene.forgives(at).await;
    }
}

/// Bytes that are a byte string in CBOR, not an array of numbers.
struct Bytes<'a>(&'a [u8]);

impl serde::Serialize for Bytes<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// SPEC 7.6, 7.8, 13.5: what may come from newer software, from far ahead, or from an author who is at odds with the
/// relayer, is held against nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_nobodys_fault_is_held_against_nobody() {
    let mut scene = Scene::set().await;
    let crab = Arc::clone(&scene.crab);
    let good = crab.batch(0, 0, 3);
    let mut attackers = [scene.attacker(ACME, meek).await, scene.attacker(BOLT, meek).await];

    let lied = Batch { entries: crab.entries(1, 0, 3), ..good.clone() };
    let unknown_log = Entries::read(
        LogId { epoch: 7, ..crab.log },
        0,
        good.entries.leaves().to_vec(),
        good.entries.openings().to_vec(),
    );
    let unknown_log = Batch { entries: unknown_log.unwrap(), ..good.clone() };
    let nowhere = Approval { charter: CharterId::default(), ..crab.approve(crab.federation.charter()) };
    let network = crab.federation.charter().network();
    let strangers = Addresses::sign(network, &SecretKey::from_seed(&[9; 32]), Timestamp(1), &[]).unwrap();
    let oddities = [
        Gossip::encode_document(&Document::Approval(nowhere)).unwrap(),
        Gossip::encode_document(&Document::Addresses(Box::new(strangers))).unwrap(),
        crab.gossip(&lied),
        crab.gossip(&unknown_log),
        codec::encode(&(99u64, "from a later version")),
        crab.gossip(&Batch { entries: crab.entries(0, 40, 43), checkpoint: good.checkpoint.clone(), proof: vec![] }),
    ];
    for (at, attacker) in [ACME, BOLT].into_iter().zip(&mut attackers) {
        attacker.gossips(&oddities).await;
        eventually("word of leaves that lead elsewhere", async || {
            scene.status(at).await.alarms.iter().any(|alarm| alarm.text.contains("looks different at crab"))
        })
        .await;
    }
    scene.unharmed("what leads elsewhere, and what is not known yet").await;

    // What gossip itself cannot read never reaches a node. It ends the stream, and the next one is as good as the first.
    let topic = "hashmesh/elsewhere/1/statements";
    for bytes in [&[0xff; 64][..], &rpc(topic, &[7; 200]), &[0x80, 0x80, 0x40], &[5, 0x12, 0x7f, 0, 0, 0]] {
        attackers[ACME].gossips_raw(bytes).await;
        attackers[ACME].drops_gossip();
    }
    scene.unharmed("what is no gossip at all").await;
    assert!(scene.meets_crab(ACME).await && scene.meets_crab(BOLT).await);

    // The longest message there may be, and one more hard behind it: neither is lost for standing next to the other.
    drop(attackers);
    let mut attacker = scene.attacker(BOLT, meek).await;
    let longest = codec::encode(&(99u64, Bytes(&vec![0; MAX_GOSSIP - 16])));
    attacker.gossips(&[longest.clone(), crab.gossip(&good), longest, crab.gossip(&crab.batch(0, 3, 4))]).await;
    scene.takes(4).await;
    scene.unharmed("four messages in one breath").await;

    for _ in 0..50 {
        attacker.gossips(&[crab.gossip(&good), crab.gossip(&crab.batch(0, 3, 4))]).await;
        attacker.gossips(&[Gossip::encode_checkpoint(&good.checkpoint), crab.gossip(&crab.batch(0, 0, 2))]).await;
    }
    scene.unharmed("the same again and again").await;
    assert!(scene.meets_crab(BOLT).await, "what is known already is no crime");
}

/// SPEC 13.3, 14.6: a stream on which no questions come is the end of the peer.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_in_frames_that_are_none_is_shunned() {
    let mut scene = Scene::set().await;
    let crab = Arc::clone(&scene.crab);
    let elsewhere = OriginPrefix::new(&"other.example".parse().unwrap(), &crab.federation.charter().network());
    let range = Request::Range { log: crab.log, from: 0, to: 1 };
    let head = |size| crab.checkpoint(size, Digest([7; 32]));
    let one_over = u32::try_from(MAX_FRAME + 1).unwrap().to_be_bytes();
    let crimes: Vec<(&str, Vec<u8>, &str)> = vec![
        ("four gigabytes", [0xff; 5].to_vec(), "a frame of 4294967295 bytes"),
        ("one byte too many", [&one_over[..], &[0; 4096]].concat(), "a frame of 1048641 bytes"),
        ("random bytes", framed(&[0x9b; 300]), "malformed frame"),
        ("an empty frame", framed(&[]), "malformed frame"),
        (
            "more openings than may be asked for",
            crab.question(&Request::Openings { log: crab.log, indices: (0..257).collect() }),
            "a list of at most 256",
        ),
        ("another federation's log", framed(&range.encode(&elsewhere)), "a log of another federation"),
        ("two heads of one log", crab.heads(clock::now(), &[head(5), head(6)]), "two heads of one log"),
        (
            "a head that nobody has signed",
            crab.heads(clock::now(), &[crab.forge("acme".parse().unwrap(), 900, Digest([9; 32]))]),
            "what an honest node refuses",
        ),
    ];
    for ((crime, bytes, why), at) in crimes.into_iter().zip([ACME, BOLT].into_iter().cycle()) {
        let mut attacker = scene.attacker(at, meek).await;
        let _open = attacker.asks(&bytes).await;
        scene.shuns(at, attacker, crime, why).await;
        scene.unharmed(crime).await;
        scene.forgives(at).await;
    }
}

/// SPEC 14.6: answers that are none, and answers to something else.
#[tokio::test(flavor = "multi_thread")]
async fn who_answers_what_was_not_asked_is_shunned() {
    /// Heads that claim three leaves.
    fn claims(crab: &Crab, request: &Request) -> Option<Vec<u8>> {
        let claim = || crab.heads(clock::now(), &[crab.checkpoint(3, crab.root(0, 3))]);
        matches!(request, Request::Heads(_)).then(claim)
    }
    let mut scene = Scene::set().await;
    let crimes: Vec<(&str, Answers, &str)> = vec![
        ("leaves instead of heads", |crab, _| crab.range(&crab.batch(0, 0, 1)), "something else than was asked"),
        ("a frame of anything", |_, _| framed(&[0x9b; 300]), "malformed frame"),
        ("four gigabytes", |_, _| [0xff; 5].to_vec(), "a frame of 4294967295 bytes"),
        ("two answers to one question", |crab, request| meek(crab, request).repeat(2), "without having been asked"),
        (
            "leaves of another place",
            |crab, request| claims(crab, &request).unwrap_or_else(|| crab.range(&crab.batch(0, 1, 3))),
            "something else than was asked",
        ),
        (
            "openings instead of leaves",
            |crab, request| {
                claims(crab, &request)
                    .unwrap_or_else(|| crab.answer(&Answer::Openings { found: vec![], erased: vec![] }))
            },
            "something else than was asked",
        ),
        (
            "leaves under a checkpoint that nobody has signed",
            |crab, request| {
                let checkpoint = crab.forge("bolt".parse().unwrap(), 3, crab.root(0, 3));
                let forged = Batch { checkpoint, ..crab.batch(0, 0, 3) };
                claims(crab, &request).unwrap_or_else(|| crab.range(&forged))
            },
            "what an honest node refuses",
        ),
    ];
    for ((crime, answers, why), at) in crimes.into_iter().zip([ACME, BOLT].into_iter().cycle()) {
        let mut attacker = Attacker::member(&scene.crab, scene.id(at), &scene.address(at).await, answers);
        attacker.dial().await;
        eventually(crime, async || scene.metric(at, "peers_shunned").await > 0).await;
        scene.shuns(at, attacker, crime, why).await;
        scene.unharmed(crime).await;
        scene.forgives(at).await;
    }
}

/// SPEC 5.4: an opening that opens nothing is the fault of whoever hands it over, and so is one that nobody wanted.
#[tokio::test(flavor = "multi_thread")]
async fn openings_that_open_nothing_are_nobodys_fault_those_not_asked_for_are() {
    let mut scene = Scene::set().await;
    let crab = Arc::clone(&scene.crab);
    let whole = crab.batch(0, 0, 2);
    let mut attackers = [
        scene
            .attacker(ACME, |crab, request| match request {
                Request::Openings { .. } => {
                    crab.answer(&Answer::Openings { found: vec![(0, b"nonsense".to_vec())], erased: vec![] })
                }
                other => meek(crab, other),
            })
            .await,
        scene
            .attacker(BOLT, |crab, request| match request {
                Request::Openings { .. } => {
                    crab.answer(&Answer::Openings { found: vec![(u64::MAX, vec![])], erased: vec![] })
                }
                other => meek(crab, other),
            })
            .await,
    ];
    let closed = Entries::read(crab.log, 0, whole.entries.leaves().to_vec(), [0; 4].to_vec()).unwrap();
    attackers[ACME].gossips(&[crab.gossip(&Batch { entries: closed, ..whole.clone() })]).await;
    scene.takes(2).await;
    let [first, second] = attackers;
    scene.shuns(BOLT, second, "an opening of something else", "openings that were not asked for").await;
    scene.unharmed("wrong openings").await;
    assert_eq!(scene.status(ACME).await.logs.iter().map(|log| log.missing).sum::<u64>(), 2, "still wanted");

    // Who may hold the other history of a forked log has done nothing wrong, and is asked again.
    drop(first);
    let _attacker = scene
        .attacker(ACME, |crab, request| match request {
            Request::Openings { indices, .. } => {
                let whole = crab.batch(0, 0, 2);
                let openings: Vec<Vec<u8>> =
                    bundle::entries(whole.entries.openings()).map(|opening| opening.unwrap().to_vec()).collect();
                let found = indices.into_iter().map(|index| (index, openings[usize::try_from(index).unwrap()].clone()));
                crab.answer(&Answer::Openings { found: found.collect(), erased: vec![] })
            }
            Request::Heads(_) => {
                let whole = crab.batch(0, 0, 2);
                crab.heads(clock::now(), &[crab.checkpoint(2, root_of(&whole.entries))])
            }
            other => meek(crab, other),
        })
        .await;
    // The other one asks again when its peers have had a rest.
    eventually("the right openings", async || scene.status(ACME).await.logs.iter().all(|log| log.missing == 0)).await;
    scene.unharmed("right openings").await;
}

/// SPEC 13.4, 13.5, 14.5: as many questions as one likes, at one's own pace and nobody else's expense.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_questions_costs_the_others_nothing() {
    let mut scene = Scene::set().await;
    let crab = Arc::clone(&scene.crab);
    let acme = LogId { member: "acme".parse().unwrap(), epoch: 0 };
    let many: Vec<_> = (1..=300).map(|number| add(pdq(number))).collect();
    publish(scene.cluster.member(ACME), many).await.unwrap();
    scene.said = 300;
    scene.unharmed("a start").await;
    let mut attacker = scene.attacker(ACME, meek).await;
    let before = scene.memory(ACME);
    // All the while bolt waits for answers that begin and never end.
    let _stuck = scene.attacker(BOLT, |crab, request| meek(crab, request)[..3].to_vec()).await;

    // Whatever is asked for, there is an answer in its place, and the node asks nothing back.
    let range = |from, to| crab.question(&Request::Range { log: acme, from, to });
    let openings = |indices| crab.question(&Request::Openings { log: acme, indices });
    let not_held = crab.answer(&Answer::NotHeld)[4..].to_vec();
    let odd = [
        framed(&codec::encode(&(99u64, "from a later version"))),
        range(5, 5),
        range(9, 3),
        range(1 << 40, u64::MAX),
        range(u64::MAX, u64::MAX),
        crab.question(&Request::Range { log: LogId { epoch: 7, ..acme }, from: 0, to: 1 }),
    ];
    let mut stream = attacker.asks(&odd.concat()).await.unwrap();
    for (question, _) in odd.iter().enumerate() {
        let answer = timeout(PATIENCE, frame(&mut stream)).await.unwrap();
        assert_eq!(answer, Some(not_held.clone()), "odd question {question}");
    }
    throw(&mut stream, &openings(vec![u64::MAX, 1 << 41, 400, 0, 0])).await;
    let answer = Answer::decode(&timeout(PATIENCE, frame(&mut stream)).await.unwrap().unwrap(), crab.origins());
    assert!(matches!(answer, Ok(Answer::Openings { found, .. }) if found.iter().all(|(index, _)| *index == 0)));

    // 2,000 questions at once. They are answered, all and in order, while others are served as ever.
    let (mut answers, mut questions) = futures::AsyncReadExt::split(stream);
    let flood = range(0, 300).repeat(2000);
    let asking = tokio::spawn(async move {
        let _cut_off = futures::AsyncWriteExt::write_all(&mut questions, &flood).await;
        let _cut_off = futures::AsyncWriteExt::flush(&mut questions).await;
        questions
    });
    let answering = tokio::spawn(async move {
        let mut count = 0;
        while count < 2000 && timeout(PATIENCE, frame(&mut answers)).await.unwrap().is_some() {
            count += 1;
        }
        (count, answers)
    });
    scene.unharmed("a flood of questions").await;
    let (count, answers) = answering.await.unwrap();
    assert_eq!(count, 2000);
    drop((answers, asking.await.unwrap()));

    // Questions that never end, on as many streams as are served.
    let question = range(0, 1);
    let half = [attacker.asks(&question[..2]).await, attacker.asks(&question[..question.len() - 1]).await];
    scene.unharmed("half a question").await;
    drop(half);

    // Fifty streams at once, none of which reads what it has asked for.
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.extend(attacker.exchange().await);
    }
    let greedy = range(0, 300).repeat(300);
    let greed: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            let greedy = greedy.clone();
            tokio::spawn(async move {
                let _stuck = timeout(PATIENCE, futures::AsyncWriteExt::write_all(&mut stream, &greedy)).await;
                stream
            })
        })
        .collect();
    scene.unharmed("fifty streams that are never read").await;
    greed.iter().for_each(tokio::task::JoinHandle::abort);
    drop(greed);

    // Whoever behaves again finds a stream free.
    eventually("an answer to a peer that has come to its senses", async || {
        let Some(mut stream) = attacker.asks(&range(0, 1)).await else { return false };
        matches!(timeout(Duration::from_secs(1), frame(&mut stream)).await, Ok(Some(_)))
    })
    .await;
    assert!(
        scene.meets_crab(ACME).await && scene.meets_crab(BOLT).await,
        "neither many questions nor slow answers are a crime"
    );
    let after = scene.memory(ACME);
    assert!(after < before + GROWTH, "{before} KiB before, {after} KiB after");
    scene.unharmed("all of it").await;
}

/// SPEC 14.4: heads are told every now and then. Who tells more of them than anybody can make use of is answered, and
/// neither fills the node's memory nor keeps it from its work.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_heads_costs_the_others_nothing() {
    let mut scene = Scene::set().await;
    let crab = Arc::clone(&scene.crab);
    let mut attacker = scene.attacker(ACME, meek).await;
    let before = scene.memory(ACME);
    // As many heads as a frame may have, each of another log that there is not.
    let notes = |size| {
        let logs = (1..1500).map(|epoch| LogId { epoch, ..crab.log });
        let head = crab.checkpoint(size, Digest([7; 32]));
        let text = |log| head.to_string().replacen(&crab.origins().origin(crab.log), &crab.origins().origin(log), 1);
        let mut all: Vec<String> = logs.map(text).collect();
        all.push(head.to_string());
        let none = Vec::<String>::new;
        framed(&codec::encode(&(1u64, clock::now().0, Position::default(), all, none(), none(), none())))
    };
    let frames: Vec<u8> = (0..8).flat_map(|number| notes(1 << 30 | number)).collect();
    let begun = Instant::now();
    let (mut answers, mut questions) = futures::AsyncReadExt::split(attacker.exchange().await.unwrap());
    let asking = tokio::spawn(async move {
        for _ in 0..60 {
            let _cut_off = futures::AsyncWriteExt::write_all(&mut questions, &frames).await;
        }
        let _cut_off = futures::AsyncWriteExt::flush(&mut questions).await;
    });
    let answering = tokio::spawn(async move {
        let mut count = 0;
        while count < 480 && timeout(PATIENCE, frame(&mut answers)).await.unwrap().is_some() {
            count += 1;
        }
        count
    });
    scene.unharmed("a flood of heads").await;
    assert_eq!(answering.await.unwrap(), 480);
    asking.await.unwrap();
    scene.unharmed("a flood of heads, to its end").await;
    let after = scene.memory(ACME);
    assert!(after < before + GROWTH, "{before} KiB before, {after} KiB after, {:?}", begun.elapsed());
    assert!(scene.meets_crab(ACME).await, "logs that are not known here are no crime");
}

/// SPEC 7.7: who signs two histories is told of, and taken at its word no more; nobody else suffers.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_forks_its_log_harms_only_itself() {
    let mut scene = Scene::set().await;
    let crab = Arc::clone(&scene.crab);
    let mut attackers = [scene.attacker(ACME, meek).await, scene.attacker(BOLT, meek).await];
    attackers[ACME].gossips(&[crab.gossip(&crab.batch(0, 0, 1))]).await;
    scene.takes(1).await;

    let two = [0, 1].map(|story| Gossip::encode_checkpoint(&crab.checkpoint(2, crab.root(story, 2))));
    for (at, attacker) in [ACME, BOLT].into_iter().zip(&mut attackers) {
        attacker.gossips(&two).await;
        eventually("an alarm", async || {
            let status = scene.status(at).await;
            let alarm = status.alarms.iter().any(|alarm| alarm.text.contains("has signed two different histories"));
            alarm && status.logs.iter().any(|log| log.member == "crab" && log.forked)
        })
        .await;
    }
    scene.unharmed("a fork").await;
    assert!(scene.meets_crab(ACME).await && scene.meets_crab(BOLT).await, "the author is at fault, not the relayer");

    // What it says now is not taken up, in whichever history. The bad message at the end shows when both have read all.
    for (at, mut attacker) in [ACME, BOLT].into_iter().zip(attackers) {
        let more = [crab.gossip(&crab.batch(0, 1, 2)), crab.gossip(&crab.batch(0, 1, 3)), vec![0x9b; 9]];
        attacker.gossips(&more).await;
        scene.shuns(at, attacker, "the end", "malformed frame").await;
    }
    scene.unharmed("more of a forked log").await;
}

/// SPEC 8.7: with one clock of two that are heard in agreement with its own, a node has no reason to fall silent.
#[tokio::test(flavor = "multi_thread")]
async fn one_peer_with_a_wrong_clock_silences_nobody() {
    let mut scene = Scene::set().await;
    for answers in [
        (|crab, _| crab.heads(Timestamp(clock::now().0 + 86_400_000), &[])) as Answers,
        |crab, _| crab.heads(Timestamp(u64::MAX), &[]),
        |crab, _| crab.heads(Timestamp(0), &[]),
    ] {
        let attacker = scene.attacker(ACME, answers).await;
        eventually("crab is heard", async || {
            scene.status(ACME).await.peers.iter().any(|peer| peer.member == "crab" && peer.heard.is_some())
        })
        .await;
        assert_eq!(scene.status(ACME).await.silent, None);
        scene.unharmed("a wrong clock").await;
        drop(attacker);
        eventually("crab is gone", async || !scene.meets_crab(ACME).await).await;
    }
}

/// SPEC 14.1: a key that is on no card does not get as far as a stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_no_connection() {
    let mut scene = Scene::set().await;
    for _ in 0..10 {
        let mut stranger = Attacker::stranger(&scene.crab, scene.id(ACME), &scene.address(ACME).await);
        stranger.dial().await;
        let opened = stranger.asks(&framed(&[0x9b; 9])).await;
        if let Some(mut stream) = opened {
            assert_eq!(timeout(PATIENCE, frame(&mut stream)).await.unwrap(), None);
        }
        stranger.end().await;
        assert_eq!(scene.status(ACME).await.peers.len(), 1);
    }
    eventually("all are counted", async || scene.metric(ACME, "strangers_refused").await == 10).await;
    assert_eq!(scene.metric(ACME, "peers_shunned").await, 0, "nothing of theirs was read");
    scene.unharmed("strangers").await;
}

impl Scene {
    /// Nodes that let somebody follow, without openings; it does not run yet.
    async fn followed(&mut self, of: &[usize]) -> usize {
        let eye = self.cluster.follow("eye", of, false).unwrap();
        for &at in of {
            self.cluster.kill(at).unwrap();
            self.cluster.start(at).unwrap();
        }
        self.cluster.connected(PATIENCE).await.unwrap();
        eye
    }
}

/// SPEC 14.8: whatever a follower asks for, it gets what it may have; nothing that it says is heard; and it is cut off like anybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_what_it_may_have_and_is_not_heard() {
    let mut scene = Scene::set().await;
    let eye = scene.followed(&[ACME]).await;
    scene.unharmed("a follower is let in").await;
    let crab = scene.crab.clone();
    let folder = scene.cluster.member(eye).folder.clone();
    let mut eye = Attacker::follower(&crab, &folder, scene.id(ACME), &scene.address(ACME).await);
    eye.dial().await;
    // Before there is a connection, a stream would begin one of its own, to nowhere.
    eventually("eye gets in", async || {
        if eye.has_ended() {
            eye.dial().await;
        }
        scene.log(ACME).contains("connected follower=eye")
    })
    .await;
    let mut stream = eye.exchange().await.unwrap();
    let acme = LogId { member: "acme".parse().unwrap(), epoch: 0 };
    let add = AddCheckpoint { old: 0, proof: Vec::new(), checkpoint: crab.checkpoint(1, crab.root(0, 1)) };
    let far = Heads { time: Timestamp(u64::MAX), heads: vec![(crab.log, add.checkpoint.clone())], ..Heads::default() };
    let mut ask = async |request: Request| {
        throw(&mut stream, &crab.question(&request)).await;
        let answer = timeout(PATIENCE, frame(&mut stream)).await.unwrap().unwrap();
        Answer::decode(&answer, crab.origins()).unwrap()
    };
    let Answer::Heads(heads) = ask(Request::Heads(far)).await else { panic!("heads") };
    assert!(heads.heads.iter().any(|(log, _)| *log == acme) && heads.heard.is_empty());
    let Answer::Range(batch) = ask(Request::Range { log: acme, from: 0, to: 1 }).await else { panic!("leaves") };
    assert!(batch.entries.iter().all(|(_, entry)| entry.hash().is_none()), "no opening");
    assert_eq!(batch.entries.end(), 1);
    for request in [Request::Openings { log: acme, indices: vec![0] }, Request::Cosign(crab.log, Box::new(add))] {
        assert!(matches!(ask(request).await, Answer::NotHeld));
    }
    assert!(!eye.may_gossip().await);
    let status = scene.status(ACME).await;
    assert_eq!(status.peers.len(), 1, "it is no peer");
    assert!(status.peers.iter().all(|peer| peer.clock_ahead.is_none_or(|ahead| ahead.abs() < 60_000)));
    assert_eq!(Scene::size(&status, "crab"), 0);
    assert!(status.logs.iter().all(|log| log.lag == 0), "what it says that it holds is not looked for");
    scene.unharmed("a follower that says too much").await;

    eye.asks(&framed(&[0x9b; 9])).await;
    eye.end().await;
    eventually("it is shunned", async || scene.metric(ACME, "peers_shunned").await == 1).await;
    assert!(scene.log(ACME).lines().any(|line| line.contains("peer shunned") && line.contains("eye")));
    scene.unharmed("a follower that is cut off").await;
}

/// SPEC 19.11: whoever watches finds a fork, proved, with the code that says so.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_finds_a_fork() {
    let mut scene = Scene::set().await;
    let eye = scene.followed(&[ACME, BOLT]).await;
    scene.cluster.start(eye).unwrap();
    scene.unharmed("a follower").await;
    let watch = |scene: &Scene| {
        let output = scene.cluster.member(eye).attempt(&["audit", "watch", "--once"]).unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    eventually("nothing is found", async || watch(&scene).0 == Some(0)).await;

    let crab = Arc::clone(&scene.crab);
    let mut attacker = scene.attacker(ACME, meek).await;
    attacker.gossips(&[crab.gossip(&crab.batch(0, 0, 1))]).await;
    scene.takes(1).await;
    let two = [0, 1].map(|story| Gossip::encode_checkpoint(&crab.checkpoint(2, crab.root(story, 2))));
    attacker.gossips(&two).await;
    eventually("a proof", async || watch(&scene).0 == Some(3)).await;
    let (_, text) = watch(&scene);
    assert!(text.contains("EQUIVOCATION PROVEN"), "{text}");
}
