//! The node's decisions: one input in, a list of effects out (SPEC 7, 8, 14).
//!
//! No I/O, no clock, no randomness, no error. The daemon and the simulator are two thin shells around this: they feed inputs
//! and perform the effects in order, those of [`Input::Signed`] and [`Input::Compared`] before they feed anything else. The order is what the
//! guarantees rest on:
//! **step** (decide), **commit** (make durable), **show** (make visible to queries), **speak** (tell callers and peers).
//!
//! The engine holds what decides: the ledger, the queue of what is to be published, what each peer has. It does not hold
//! what answers: the catalog is updated when an effect says so, after the commit, and only read here.

mod accuse;
mod catch_up;
mod draft;
mod govern;
mod heads;
mod openings;
mod publish;
mod receive;
mod remark;
mod settle;
mod status;
mod voice;
mod witness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use catch_up::CatchUp;
pub use draft::{Draft, DraftError, Target};
use govern::Governing;
pub use govern::Ungoverned;
use heads::{Peer, Shown};
use openings::Searches;
use publish::Publishing;
pub use publish::{Outcome, Placed, Publication, Unpublishable};
use remark::Remarking;
use settle::Settling;
pub use settle::{CannotSettle, ROUND};
pub use status::{LogStatus, PeerStatus, Rollback, Status};
pub use voice::Silence;
use voice::Voice;
use witness::Witness;

use crate::catalog::Catalog;
use crate::checkpoint::SignedCheckpoint;
use crate::cosignature::{CosignatureError, SettledCheckpoint};
use crate::digest::{CharterId, Digest};
use crate::entries::LateOpening;
use crate::evidence::{Accused, Evidence, EvidenceError};
use crate::federation::Federation;
use crate::governance::{Conflict, Document, GovernanceError, Stored, Taken};
use crate::key::PublicKey;
use crate::ledger::{Admitted, Blame, Ledger, Log, Mark, Refusal};
use crate::names::{LogId, MemberId};
use crate::note::VerifierKey;
use crate::survey::Survey;
use crate::time::Timestamp;
use crate::wire::{Answer, Gossip, Heads, Request};
use crate::witnessing::{AddCheckpoint, WitnessAnswer};

/// Something that has happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A local caller has something to say in the member's name.
    Publish(Publication),
    /// The caller has gone away; what it wanted to say is dropped unless it is being signed already.
    Withdraw(u64),
    /// The signer has signed what [`Effect::Sign`] asked for.
    Signed(SignedCheckpoint),
    /// An operator has decided to sign although too few members could be heard (SPEC 8.6).
    SignAlone,
    /// A connection to a member's node is there.
    PeerUp(PublicKey),
    /// The last connection to it is gone.
    PeerDown(PublicKey),
    /// A gossip message, read.
    Gossiped {
        /// Under this number the verdict is given.
        delivery: u64,
        /// Who handed it over.
        from: PublicKey,
        /// What it says.
        message: Gossip,
    },
    /// A peer has told its heads on its own account, with a request for ours.
    Told {
        /// Who.
        from: PublicKey,
        /// What.
        heads: Heads,
    },
    /// What became of an [`Effect::Ask`].
    Answered {
        /// Who was asked.
        peer: PublicKey,
        /// What.
        request: Request,
        /// The answer; `None` if none came.
        answer: Option<Answer>,
    },
    /// A peer wants a cosignature.
    AskedToCosign {
        /// Under this number it is answered.
        ticket: u64,
        /// Who.
        from: PublicKey,
        /// Of which log.
        log: LogId,
        /// What.
        request: Box<AddCheckpoint>,
    },
    /// What [`Effect::Compare`] asked for.
    Compared {
        /// The log.
        log: LogId,
        /// What was compared.
        rival: Rival,
        /// The root of the leaves here at that size.
        root: Digest,
        /// The proof that they are a prefix of the first `signed`, if those are not fewer.
        proof: Vec<Digest>,
        /// As in the question.
        signed: u64,
    },
    /// What [`Effect::Survey`] asked for; `None` if it failed.
    Surveyed {
        /// As in the question.
        logs: Vec<(LogId, u64)>,
        /// What is live of them.
        survey: Option<Survey>,
    },
    /// An operator hands in charters, signatures or cards.
    Submit {
        /// Under this number it is answered.
        ticket: u64,
        /// The documents, to be taken in this order.
        documents: Vec<Document>,
        /// Whether a card of the own member may end its log before what was signed in it.
        cut: bool,
    },
    /// An operator names the charter to go on from.
    Choose {
        /// Under this number it is answered.
        ticket: u64,
        /// Which.
        charter: CharterId,
    },
    /// These are the working keys that this node holds.
    Keys(BTreeSet<PublicKey>),
    /// This node is to hold the openings of these leaves no longer, by its operator's decision.
    Forget(Vec<(LogId, u64)>),
    /// Openings that were missing, checked against the leaves that they open.
    Opened(Vec<LateOpening>),
    /// Time has passed.
    Tick,
}

/// Something that must now be done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make leaves, openings, mark and checkpoint durable before anything later in the list is done. If that fails the
    /// process must end: the engine is ahead of the disk by then, and only a restart brings them together.
    Commit(Arc<Admitted>),
    /// Likewise for an opening that was missing.
    CommitOpening(Arc<LateOpening>),
    /// Move the signer forward to this mark, durably; then sign it with the log's key in the ledger, and feed [`Input::Signed`]. Inputs that were stepped
    /// before the signature is there are no harm: until then nothing else is put into the own log by this node.
    Sign {
        /// The own log.
        log: LogId,
        /// What is to be signed.
        mark: Mark,
    },
    /// Write the checkpoint down. Need not be durable: an own one is signed again after a start without it, with the same
    /// bytes, and that of another log is told again.
    KeepCheckpoint(LogId, SignedCheckpoint),
    /// Make a settled checkpoint durable, likewise.
    CommitSettled(LogId, Arc<SettledCheckpoint>),
    /// Move the mark of the witness key forward to this, durably; then cosign, and answer under this number. Everything that
    /// is cosigned has been committed before.
    Cosign {
        /// Under this number it is answered.
        ticket: u64,
        /// Of which log.
        log: LogId,
        /// What.
        mark: Mark,
        /// With this key.
        key: Box<VerifierKey>,
    },
    /// Answer a request for a cosignature otherwise; `None`: not now.
    AnswerWitness {
        /// Under this number.
        ticket: u64,
        /// With this.
        answer: Option<WitnessAnswer>,
    },
    /// Ask a witness to cosign a checkpoint of stored leaves, with the proof that `old` leaves are a prefix of it. What becomes of
    /// it comes back as [`Input::Answered`].
    AskWitness {
        /// Whom.
        peer: PublicKey,
        /// Of which log.
        log: LogId,
        /// What it cosigned last.
        old: u64,
        /// What it is to cosign.
        checkpoint: SignedCheckpoint,
    },
    /// Make evidence durable, likewise.
    CommitEvidence(Arc<Evidence>),
    /// Make charters and cards durable, before anything later in the list is done.
    CommitGovernance(Arc<Stored>),
    /// Act on charters and cards as they are now: who may connect, what answers say, which keys sign.
    Govern(Arc<Stored>),
    /// Flood this message, which carries a document of governance.
    GossipDocument(Vec<u8>),
    /// Tell an operator what became of documents.
    ReplyGoverned {
        /// Under this number.
        ticket: u64,
        /// Of each.
        outcomes: Vec<Result<Taken, Ungoverned>>,
    },
    /// Delete the openings of these leaves here, and let queries see them no more.
    Forget(Vec<(LogId, u64)>),
    /// Let queries see that nothing beyond so many leaves of a log has effect any more.
    Freeze(LogId, u64),
    /// Flood this message, which carries evidence.
    GossipEvidence(Vec<u8>),
    /// Work out the root of the stored leaves at the size of a smaller checkpoint, and the proof that leads from there to
    /// the first `signed` leaves if those are not fewer, and feed [`Input::Compared`].
    Compare {
        /// The log.
        log: LogId,
        /// The checkpoint.
        rival: Rival,
        /// The size of the newest checkpoint whose leaves are held; 0 if no proof is wanted.
        signed: u64,
    },
    /// Work out what is live of the first leaves, so many of each, of these logs of one member, and feed [`Input::Surveyed`]. Takes
    /// long: to be done beside everything else.
    Survey(Vec<(LogId, u64)>),
    /// Let queries see that so many leaves of a log are settled.
    ShowSettled(LogId, u64),
    /// Let queries see these statements.
    Show(Arc<Admitted>),
    /// Let queries see this one.
    ShowOpening(Arc<LateOpening>),
    /// Tell a caller what became of its publication.
    Reply {
        /// The publication's number.
        publication: u64,
        /// What became of it.
        outcome: Outcome,
    },
    /// Tell gossip what to do with a message.
    Judge {
        /// The message's number.
        delivery: u64,
        /// What to do.
        relay: Relay,
    },
    /// Flood this message.
    Gossip(Vec<u8>),
    /// Ask a peer; what becomes of it comes back as [`Input::Answered`].
    Ask {
        /// Whom.
        peer: PublicKey,
        /// What.
        request: Request,
    },
    /// A peer has done what no honest node does: disconnect it, and keep away from it for a while.
    Shun {
        /// Who.
        peer: PublicKey,
        /// What it has done.
        misdeed: Misdeed,
    },
    /// Tell the operator.
    Alarm(Alarm),
}

/// What is said of fewer leaves than are held, whose root must be compared with that of the leaves.
#[derive(Clone, Debug)]
pub enum Rival {
    /// Somebody has it as its newest.
    Heard(SignedCheckpoint),
    /// It is settled.
    Settled(Arc<SettledCheckpoint>),
    /// This node is asked to cosign it.
    ToCosign {
        /// Under this number it is answered.
        ticket: u64,
        /// What.
        checkpoint: SignedCheckpoint,
    },
    /// The log is said to have ended so.
    Ended(Mark),
}

/// What gossip does with a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relay {
    /// Pass it on: it is verified, new, and stored.
    Accept,
    /// Do not pass it on, and blame nobody.
    Ignore,
    /// Do not pass it on; whoever did is at fault.
    Reject,
}

/// What no honest node does.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Misdeed {
    /// It handed over something that it must have refused itself.
    #[error("handed over what an honest node refuses")]
    Relayed(#[source] Refusal),
    /// It answered with something that was not asked for.
    #[error("answered with something else than was asked")]
    OtherAnswer,
    /// It cosigned with something that is no cosignature.
    #[error("handed over a cosignature that does not hold")]
    Cosigned(#[source] CosignatureError),
    /// It accused somebody falsely.
    #[error("handed over what is no evidence")]
    Accused(#[source] EvidenceError),
    /// It handed over a charter, signature or card that does not hold.
    #[error("handed over a charter, signature or card that does not hold")]
    Governed(#[source] GovernanceError),
}

/// What an operator must hear of.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Alarm {
    /// A member signed two histories.
    #[error("{0} has signed two different histories; of its statements only those that are settled have effect")]
    Fork(LogId),
    /// A witness cosigned two histories.
    #[error("the witness of {0} has cosigned two different histories of one log")]
    FalseWitness(MemberId),
    /// Leaves from a peer contradict what is held, and it cannot be said who is wrong.
    #[error("{log} looks different at {peer}; its author or that peer is at fault")]
    Diverges {
        /// The log.
        log: LogId,
        /// The peer.
        peer: MemberId,
    },
    /// The own log is shorter here than what has been signed.
    #[error(
        "the own log has {have} leaves, but {signed} have been signed; nothing is signed until peers have refilled it"
    )]
    Behind {
        /// Leaves here.
        have: u64,
        /// Leaves signed.
        signed: u64,
    },
    /// What has been signed is not what peers hold.
    #[error("the own log at peers is not the one that was signed here; this node will not sign again")]
    Diverged,
    /// Two charters are final.
    #[error(
        "charter_conflict: there are two histories of charters from version {} on, ending with {} here and {} elsewhere; none is \
         adopted any more until an operator names one (hashmesh charter choose)", .0.version, .0.ours, .0.theirs
    )]
    CharterConflict(Conflict),
    /// A member voted twice.
    #[error("{0} has signed two charters of which one may be signed only")]
    DoubleVote(MemberId),
    /// A member has two cards with one number.
    #[error("{0} has signed two cards with one number; the one before stays in force until a charter names one")]
    RivalCards(MemberId),
    /// A flag day has passed for this software.
    #[error(
        "the charter in force wants protocol {0} at least, which this software does not speak: no further charters are taken up; install a \
         newer version"
    )]
    TooOld(u32),
    /// The key of a log is another one now.
    #[error(
        "the key of {0} is another one than that with which it was stored here; restart the node to fetch it again"
    )]
    OtherKey(LogId),
    /// A log is said to end with other leaves than are here.
    #[error("{0} is said to end with other leaves than are held here; only what is settled of it has effect")]
    EndsElsewhere(LogId),
}

/// What an engine starts from.
pub struct Start {
    /// Charters and cards.
    pub governance: Stored,
    /// The member that this node speaks for, if it does.
    pub member: Option<MemberId>,
    /// The working keys that this node holds.
    pub keys: BTreeSet<PublicKey>,
    /// The logs, as the store has given them back.
    pub ledger: Ledger,
    /// The catalog of their statements.
    pub catalog: Arc<Catalog>,
    /// What the signer file says was signed last in the member's logs.
    pub signed: BTreeMap<LogId, Mark>,
    /// What the signer file says was cosigned last, by log.
    pub cosigned: BTreeMap<LogId, Mark>,
    /// Which of that is as old as a backup.
    pub restored: Restored,
    /// What the store has given back as proved against keys.
    pub evidence: Vec<Evidence>,
}

/// Which keys may have signed more than the signer file knows, because it was restored from a backup (SPEC 8.9).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Restored {
    /// The log key, until the node has signed again.
    pub log: bool,
    /// The witness key.
    pub witness: bool,
}

/// The engine. See [`Input`] and [`Effect`].
pub struct Engine {
    federation: Arc<Federation>,
    governing: Governing,
    member: Option<MemberId>,
    keys: BTreeSet<PublicKey>,
    own: Option<LogId>,
    signed: BTreeMap<LogId, Mark>,
    ledger: Ledger,
    catalog: Arc<Catalog>,
    voice: Voice,
    publishing: Publishing,
    remarking: Remarking,
    peers: BTreeMap<PublicKey, Peer>,
    shown: Shown,
    catch_up: CatchUp,
    searches: Searches,
    settling: Settling,
    witness: Witness,
    evidence: BTreeMap<Accused, Arc<Evidence>>,
    /// Smaller checkpoints that were compared with the leaves held.
    compared: BTreeMap<LogId, VecDeque<Digest>>,
    now: Timestamp,
}

impl Engine {
    /// An engine that has seen nothing since its start.
    pub fn new(start: Start) -> Self {
        let Start { governance, member, keys, mut ledger, catalog, signed, cosigned, restored, evidence } = start;
        let evidence: BTreeMap<Accused, Arc<Evidence>> =
            evidence.into_iter().map(|evidence| (evidence.accused(), Arc::new(evidence))).collect();
        for accused in evidence.keys() {
            if let Accused::Log(log) = accused {
                ledger.freeze(*log);
            }
        }
        let mut engine = Self {
            voice: Voice::default(),
            federation: governance.governance.federation(),
            governing: Governing::new(governance),
            member,
            keys,
            own: None,
            signed,
            ledger,
            catalog,
            publishing: Publishing::default(),
            remarking: Remarking::default(),
            peers: BTreeMap::new(),
            shown: Shown::default(),
            catch_up: CatchUp::default(),
            searches: Searches::default(),
            settling: Settling::default(),
            witness: Witness::new(cosigned, restored.witness),
            evidence,
            compared: BTreeMap::new(),
            now: Timestamp::default(),
        };
        engine.speak_in_the_newest_log();
        engine.voice.was_restored(restored.log);
        engine
    }

    /// Advances the node by one input and says what must now be done, in order.
    ///
    /// Forgetting is not harmless: a node that restarts behind what it has said would sign a second history of its own log
    /// and convict itself of a fork. So [`Effect::Commit`] comes first, and nothing is said before it is done.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        self.now = now;
        if !matches!(input, Input::Signed(_) | Input::Compared { .. }) {
            self.publishing.all_shown();
        }
        let mut effects = Vec::new();
        match input {
            Input::Publish(publication) => self.take(publication, &mut effects),
            Input::Withdraw(publication) => self.publishing.withdraw(publication),
            Input::Signed(checkpoint) => self.signed(checkpoint, &mut effects),
            Input::SignAlone => self.voice.sign_alone(),
            Input::PeerUp(peer) => self.peer_up(peer, &mut effects),
            Input::PeerDown(peer) => self.peer_down(peer, &mut effects),
            Input::Gossiped { delivery, from, message } => self.gossiped(delivery, from, message, &mut effects),
            Input::Told { from, heads } => self.told(from, heads, &mut effects),
            Input::Answered { peer, request, answer } => self.answered(peer, request, answer, &mut effects),
            Input::AskedToCosign { ticket, from, log, request } => {
                self.asked_to_cosign((ticket, from), log, *request, &mut effects);
            }
            Input::Compared { log, rival, root, proof, signed } => match rival {
                Rival::Heard(heard) => self.compared_heard(log, &heard, (root, proof), signed, &mut effects),
                Rival::Settled(settled) => self.compared_settled(log, settled, (root, proof), signed, &mut effects),
                Rival::ToCosign { ticket, checkpoint } => self.cosign(ticket, log, &checkpoint, root, &mut effects),
                Rival::Ended(end) => self.compared_end(log, end, root, &mut effects),
            },
            Input::Surveyed { logs, survey } => self.surveyed(&logs, survey),
            Input::Submit { ticket, documents, cut } => self.submitted(ticket, documents, cut, &mut effects),
            Input::Choose { ticket, charter } => self.chosen(ticket, charter, &mut effects),
            Input::Keys(keys) => {
                self.keys = keys;
                self.speak_in_the_newest_log();
            }
            Input::Forget(places) => {
                places.iter().for_each(|(log, index)| self.ledger.forget(*log, *index));
                effects.push(Effect::Forget(places));
            }
            Input::Opened(openings) => self.opened(openings, &mut effects),
            Input::Tick => self.tick(&mut effects),
        }
        self.review_held(&mut effects);
        self.compose(&mut effects);
        self.settle_own(&mut effects);
        effects
    }

    /// The logs.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The federation.
    pub fn federation(&self) -> &Arc<Federation> {
        &self.federation
    }

    /// The own log, if this node speaks for a member.
    pub fn own(&self) -> Option<LogId> {
        self.own
    }

    /// The newest checkpoints, of leaves that are held and of more; [`Heads::told_to`] picks what a peer is told.
    pub fn heads(&self) -> Heads {
        let held = |(id, log): (LogId, &Log)| Some((id, log.whole()?.note().clone()));
        let heard = |(id, log): (LogId, &Log)| Some((id, log.ahead()?.note().clone()));
        let logs = || self.ledger.logs();
        let (heads, heard) = (logs().filter_map(held).collect(), logs().filter_map(heard).collect());
        let evidence = self.evidence.keys().copied().collect();
        let governance = self.governing.position;
        Heads { time: self.now, governance, heads, heard, settled: self.all_settled(), evidence }
    }

    /// Passes a refusal on to whom it concerns.
    fn refused(&mut self, from: PublicKey, refusal: Refusal, effects: &mut Vec<Effect>) {
        match refusal.blame() {
            Blame::Relayer => effects.push(Effect::Shun { peer: from, misdeed: Misdeed::Relayed(refusal) }),
            Blame::Author => {
                let (Refusal::Fork { log, .. } | Refusal::NotWhatWasSigned { log, .. }) = &refusal else { return };
                let log = *log;
                if let Refusal::Fork { both, .. } = &refusal {
                    self.contradiction(log, (&both.0, &both.1), effects);
                }
                if Some(log) != self.own {
                    self.diverges_at(from, log, effects);
                } else if self.voice.diverges() {
                    // Proved or not: the own log as others have it is not what was signed here.
                    effects.push(Effect::Alarm(Alarm::Diverged));
                }
            }
            Blame::Nobody => {
                if let Refusal::Diverges { log, .. } = refusal {
                    self.diverges_at(from, log, effects);
                }
            }
        }
    }

    /// A log looks different at a peer. Nothing more of it is asked of that peer, and the operator is told, unless it is
    /// proved already whose fault that is.
    fn diverges_at(&mut self, from: PublicKey, log: LogId, effects: &mut Vec<Effect>) {
        let proved = self.is_frozen(log);
        if let Some(peer) = self.peers.get_mut(&from)
            && peer.diverged.insert(log)
            && !proved
        {
            effects.push(Effect::Alarm(Alarm::Diverges { log, peer: peer.member }));
        }
    }
}
