//! The driver: the one thread that owns the engine, and the one order in which everything is done (SPEC 15.2).
//!
//! Step, commit, show, speak. All that has arrived is stepped through, then everything that must be durable is made durable
//! in one commit, then queries may see it, then callers and peers are told. An idle node commits at once; a busy one commits
//! together what arrived while the last commit was under way. There is no timer in between.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use hashmesh_protocol::card::Card;
use hashmesh_protocol::catalog::{ContentId, Curator};
use hashmesh_protocol::charter::Charter;
use hashmesh_protocol::engine::{Alarm, Effect, Engine, Input, Outcome, Status, Ungoverned};
use hashmesh_protocol::entries::{Entries, Entry};
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::governance::{Addresses, Document, Stored, Taken};
use hashmesh_protocol::key::SecretKey;
use hashmesh_protocol::ledger::Log;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::policy::Policy;
use hashmesh_protocol::serve;
use hashmesh_protocol::survey;
use hashmesh_protocol::time::Timestamp;
use hashmesh_protocol::wire::{Heads, Request};
use hashmesh_protocol::witnessing::{AddCheckpoint, WitnessAnswer};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock;
use crate::feed::Feed;
use crate::folder::{Folder, FolderError};
use crate::governance::{Current, GovernanceFile};
use crate::index::Matcher;
use crate::keys;
use crate::mailbox::Mailbox;
use crate::net::Net;
use crate::pen::Pen;
use crate::quarantine::{Pace, Quarantine, Subject};
use crate::sentence::sentence;
use crate::signer::SignerError;
use crate::store::{DiskStore, HeadsFile, Record, Store as _, StoreError};

/// How often the engine is told that time has passed.
const TICK: Duration = Duration::from_secs(1);

/// How old the status that readers see may be.
const SHARED: Duration = Duration::from_millis(10);

/// How often it is looked for openings that are to be deleted for good.
const SHRED: Duration = Duration::from_secs(10);

/// How often the heads file is written.
const HEADS: Duration = Duration::from_secs(60);

/// Callers that wait for what becomes of their publication, by its number.
pub type Callers = Waiting<Outcome>;

/// Callers that wait for what becomes of charters and cards that they have handed in.
pub type Submitters = Waiting<Vec<Result<Taken, Ungoverned>>>;

/// Who waits for an answer of the driver, by number.
pub struct Waiting<T> {
    waiting: Mutex<(u64, HashMap<u64, oneshot::Sender<T>>)>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<T> Waiting<T> {
    /// A number for a question, and where its answer will arrive.
    pub fn enter(&self) -> (u64, oneshot::Receiver<T>) {
        let (tell, told) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.0 += 1;
        let number = waiting.0;
        waiting.1.insert(number, tell);
        (number, told)
    }

    /// A caller no longer waits; `false` if it has been told already.
    pub fn leave(&self, number: u64) -> bool {
        self.waiting.lock().1.remove(&number).is_some()
    }

    /// Whether a caller still waits under this number.
    fn waits(&self, number: u64) -> bool {
        self.waiting.lock().1.contains_key(&number)
    }

    /// Nobody will be told any more.
    fn dismiss(&self) {
        self.waiting.lock().1.clear();
    }

    fn tell(&self, number: u64, outcome: T) {
        if let Some(caller) = self.waiting.lock().1.remove(&number) {
            // A caller that has gone away in this moment need not be told.
            drop(caller.send(outcome));
        }
    }
}

/// What readers see of the engine.
pub struct Shared {
    /// Its status, 10 ms old at most while the driver is not in the middle of a commit.
    pub status: ArcSwap<Status>,
    /// Charters and cards.
    pub governance: Arc<Current>,
    /// The newest heads, for peers that ask.
    pub heads: Arc<ArcSwap<Heads>>,
    /// The last alarms, newest last.
    pub alarms: Mutex<VecDeque<(Timestamp, Alarm)>>,
    /// Why nothing is published or received any more, if so.
    pub stopped: ArcSwapOption<String>,
}

/// Alarms that are kept for the status.
const ALARMS: usize = 100;

/// What tells peers where this node can be reached.
pub struct Announcer {
    /// The node's identity.
    pub node: SecretKey,
    /// The addresses.
    pub places: Vec<String>,
}

/// What the driver owns.
pub struct Driver {
    /// The decisions.
    pub engine: Engine,
    /// The writer of the catalog.
    pub curator: Curator,
    /// The disk.
    pub store: DiskStore,
    /// What signs in the member's name; none of a follower.
    pub pen: Option<Pen>,
    /// The node's files.
    pub folder: Folder,
    /// What keeps charters and cards.
    pub governance: GovernanceFile,
    /// Where this node says that it can be reached.
    pub announcer: Option<Announcer>,
    /// The second witness of how long the logs are.
    pub heads: HeadsFile,
    /// The network.
    pub net: Arc<Net>,
    /// The way in.
    pub mailbox: Arc<Mailbox<Input>>,
    /// Who waits for what.
    pub callers: Arc<Callers>,
    /// Who has handed in charters and cards.
    pub submitters: Arc<Submitters>,
    /// What readers see.
    pub shared: Arc<Shared>,
    /// Matching, which is told that there is more to match.
    pub matcher: Arc<Matcher>,
    /// How much each member says.
    pub pace: Pace,
    /// What says how much is too much.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Where those go who said it.
    pub quarantine: Arc<Quarantine>,
    /// Who is told which hashes something else is said about, if anybody.
    pub feed: Option<Arc<Feed>>,
}

/// Why the driver ended before it was told to. Nothing may be decided any more: what the engine believes is ahead of the
/// disk, and only a restart brings them together. Queries, which see only what was committed, are answered on.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Nothing can be made durable.
    #[error("what was said could not be made durable; restart the node once the cause is mended")]
    Store(#[from] StoreError),
    /// Charters and cards cannot be made durable.
    #[error("charters and cards could not be made durable; restart the node once the cause is mended")]
    Governance(#[from] FolderError),
    /// Nothing can be signed.
    #[error("the signer file could not be moved forward; restart the node once the cause is mended")]
    Signer(#[from] SignerError),
}

impl Driver {
    /// Runs on a thread of its own until the mailbox is closed.
    pub fn spawn(self) -> JoinHandle<Result<(), DriverError>> {
        let thread = thread::Builder::new().name("driver".to_owned());
        thread.spawn(move || self.run()).expect("the system can start a thread")
    }

    fn run(self) -> Result<(), DriverError> {
        let (mailbox, callers, submitters) = (self.mailbox.clone(), self.callers.clone(), self.submitters.clone());
        let shared = self.shared.clone();
        let ended = self.work();
        if let Err(error) = &ended {
            // Before anybody is dismissed: whoever waits asks for the reason then.
            shared.stopped.store(Some(Arc::new(sentence(error))));
        }
        mailbox.close();
        callers.dismiss();
        submitters.dismiss();
        ended
    }

    fn work(mut self) -> Result<(), DriverError> {
        let mut ticked: Option<Instant> = None;
        let mut shared = Instant::now();
        let mut heads_written = Instant::now();
        let mut shredded: Option<Instant> = None;
        // Whether readers have not seen yet what was done last.
        let mut unseen = true;
        self.announce()?;
        while let Some(inputs) = self.mailbox.receive(if unseen { SHARED } else { TICK }) {
            unseen |= !inputs.is_empty();
            self.handle(inputs)?;
            if ticked.is_none_or(|at| at.elapsed() >= TICK) {
                ticked = Some(Instant::now());
                unseen = true;
                self.handle(vec![Input::Tick])?;
                self.take_identity()?;
            }
            if unseen && shared.elapsed() >= SHARED {
                shared = Instant::now();
                unseen = false;
                self.share();
            }
            if shredded.is_none_or(|at| at.elapsed() >= SHRED) {
                shredded = Some(Instant::now());
                self.shred()?;
            }
            if heads_written.elapsed() >= HEADS {
                heads_written = Instant::now();
                self.write_heads();
            }
        }
        self.write_heads();
        Ok(())
    }

    /// Steps through inputs and performs what follows.
    fn handle(&mut self, inputs: Vec<Input>) -> Result<(), DriverError> {
        let now = clock::now();
        let mut effects = Vec::new();
        for input in inputs {
            if is_wanted(&input, &self.callers) {
                effects.append(&mut self.engine.step(input, now));
            }
        }
        while !effects.is_empty() {
            effects = self.perform(effects)?;
        }
        Ok(())
    }

    /// Performs effects: first all commits as one, then the rest in order. Every commit comes before what depends on it in
    /// the list, so doing all of them first breaks no order. What signing leads to comes back.
    fn perform(&mut self, effects: Vec<Effect>) -> Result<Vec<Effect>, DriverError> {
        let records: Vec<Record> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Commit(admitted) => Some(Record::Leaves(admitted.clone())),
                Effect::CommitOpening(late) => Some(Record::Opening(late.clone())),
                Effect::CommitSettled(log, settled) => Some(Record::Settled(*log, settled.clone())),
                Effect::CommitEvidence(evidence) => Some(Record::Evidence(evidence.clone())),
                _ => None,
            })
            .collect();
        // Of several, the last one has everything.
        let governed = effects.iter().rev().find_map(|effect| match effect {
            Effect::CommitGovernance(stored) => Some(stored),
            _ => None,
        });
        if let Some(stored) = governed {
            self.governance.write(stored)?;
        }
        if !records.is_empty() {
            // A crash inside: nobody has been told of any of this, and loading finds out how far it went.
            self.store.commit(&records)?;
        }
        let mut further = Vec::new();
        for effect in effects {
            match effect {
                Effect::Commit(_)
                | Effect::CommitOpening(_)
                | Effect::CommitSettled(..)
                | Effect::CommitEvidence(_)
                | Effect::CommitGovernance(_) => {}
                Effect::Govern(stored) => further.append(&mut self.govern(stored)),
                Effect::GossipDocument(message) => self.net.gossip_document(message),
                Effect::ReplyGoverned { ticket, outcomes } => self.submitters.tell(ticket, outcomes),
                Effect::Sign { log, mark } => {
                    // A crash before the signature: the signer file says what may be signed, and the leaves are there.
                    let key = self.engine.ledger().log(log).expect("the engine has it").key().clone();
                    let checkpoint = self.pen().sign(&key, mark)?;
                    further.append(&mut self.engine.step(Input::Signed(checkpoint), clock::now()));
                }
                Effect::KeepCheckpoint(log, checkpoint) => self.store.keep_checkpoint(log, &checkpoint)?,
                Effect::Cosign { ticket, log, mark, key } => {
                    // A crash before the answer: the signer file says what was cosigned, and whoever asked asks again.
                    let origin = self.engine.federation().origins().origin(log);
                    let line = self.pen().cosign(&key, origin, mark)?;
                    self.net.answer_witness(ticket, Some(WitnessAnswer::Cosigned(vec![line])));
                }
                Effect::AnswerWitness { ticket, answer } => self.net.answer_witness(ticket, answer),
                Effect::AskWitness { peer, log, old, checkpoint } => {
                    let proof = serve::consistency(&self.store, log, old, checkpoint.size())?;
                    let request = AddCheckpoint { old, proof, checkpoint: checkpoint.note().clone() };
                    self.net.ask(peer, Request::Cosign(log, Box::new(request)));
                }
                Effect::Compare { log, rival, signed } => {
                    let size = rival.size();
                    let root = serve::root(&self.store, log, size)?;
                    let proof =
                        if signed < size { Vec::new() } else { serve::consistency(&self.store, log, size, signed)? };
                    let compared = Input::Compared { log, rival, root, proof, signed };
                    further.append(&mut self.engine.step(compared, clock::now()));
                }
                Effect::Survey(logs) => self.survey(logs),
                Effect::Freeze(log, counts) => self.showing(|this, changed| {
                    this.store.freeze(log, counts);
                    this.curator.freeze(log, counts, changed);
                }),
                Effect::Forget(places) => {
                    self.store.forget(&places)?;
                    self.showing(|this, changed| {
                        places.iter().for_each(|(log, index)| this.curator.forget(*log, *index, &mut *changed));
                    });
                }
                Effect::GossipEvidence(message) => self.net.gossip_evidence(message),
                Effect::ShowSettled(log, size) => self.showing(|this, changed| {
                    // Of a frozen log, what is settled after all has effect again.
                    if this.curator.is_frozen(log) {
                        let counts = this.engine.ledger().log(log).map_or(0, Log::counting);
                        this.store.freeze(log, counts);
                        this.curator.freeze(log, counts, &mut *changed);
                    }
                    this.curator.settle(log, size).for_each(changed);
                }),
                Effect::Show(admitted) => {
                    further.append(&mut self.leave_out(admitted.entries.log(), admitted.entries.iter()));
                    self.show(&admitted.entries);
                }
                Effect::ShowOpening(late) => {
                    further.append(&mut self.leave_out(late.log(), [(late.index(), late.entry())].into_iter()));
                    self.showing(|this, changed| this.curator.open(&late, changed));
                }
                Effect::Reply { publication, outcome } => self.callers.tell(publication, outcome),
                Effect::Judge { delivery, relay } => self.net.judge(delivery, relay),
                Effect::Gossip(message) => self.net.gossip(message),
                Effect::Ask { peer, request } => self.net.ask(peer, request),
                Effect::Shun { peer, misdeed } => self.net.shun(peer, &misdeed),
                Effect::Alarm(alarm) => self.alarm(alarm),
            }
        }
        Ok(further)
    }

    /// Acts on charters and cards as they are now. What follows for the engine comes back.
    fn govern(&mut self, stored: Arc<Stored>) -> Vec<Effect> {
        let before = self.shared.governance.federation();
        let federation = stored.governance.federation();
        self.shared.governance.store(stored);
        self.net.reform();
        let mut further = Vec::new();
        if !Arc::ptr_eq(&before, &federation) {
            self.policy_follows(federation.charter());
            further.append(&mut self.load_keys(&federation));
        }
        further.append(&mut self.announcement());
        further
    }

    /// The labels and members that the policy names are those of the charter.
    fn policy_follows(&self, charter: &Charter) {
        match Policy::parse(self.policy.load().text(), charter) {
            Ok(policy) => self.policy.store(Arc::new(policy)),
            Err(error) => {
                tracing::warn!(%error, "the policy does not fit the charter in force now; it stays as it is until it is set right");
            }
        }
        if let Some(feed) = &self.feed {
            feed.sweep();
        }
    }

    /// Reads the keys again if a card names others than are held: they may lie beside the old ones.
    fn load_keys(&mut self, federation: &Federation) -> Vec<Effect> {
        let Some(pen) = &mut self.pen else { return Vec::new() };
        let Some(card) = federation.card(pen.member).map(Card::body) else { return Vec::new() };
        if pen.keys.holds_all(card.nodes.iter().chain([&card.log, &card.witness])) {
            return Vec::new();
        }
        match keys::load(&self.folder) {
            Ok(keys) => pen.keys = keys,
            Err(error) => tracing::error!(error = sentence(&error), "the keys on this member's card cannot be read"),
        }
        let known = pen.known();
        self.engine.step(Input::Keys(known), clock::now())
    }

    /// Takes the newer node key on this member's card once peers know that card: sooner, they would turn it away. The present
    /// one is kept no longer than it is on a card.
    fn take_identity(&mut self) -> Result<(), DriverError> {
        let (Some(pen), Some(announcer)) = (&self.pen, &mut self.announcer) else { return Ok(()) };
        let federation = self.engine.federation();
        let newer = pen.keys.node_on(federation.card(pen.member));
        let (old, new) = (announcer.node.public(), newer.public());
        let is_on_a_card = |node| federation.nodes().contains_key(node);
        if new == old || !is_on_a_card(&new) || (is_on_a_card(&old) && !self.engine.agrees_with_peers()) {
            return Ok(());
        }
        let newer = newer.clone();
        announcer.node = newer.clone();
        self.announce()?;
        self.net.rename(newer);
        Ok(())
    }

    fn announce(&mut self) -> Result<(), DriverError> {
        let mut effects = self.announcement();
        while !effects.is_empty() {
            effects = self.perform(effects)?;
        }
        Ok(())
    }

    /// Says where this node can be reached, if it is on a card and that is not what it has said last.
    fn announcement(&mut self) -> Vec<Effect> {
        let Some(Announcer { node, places }) = &self.announcer else { return Vec::new() };
        let (stored, now) = (self.engine.governance(), clock::now());
        let federation = stored.governance.federation();
        let said = stored.governance.addresses().find(|record| record.body().node == node.public());
        if !federation.nodes().contains_key(&node.public()) || said.is_some_and(|said| said.body().places == *places) {
            return Vec::new();
        }
        let time = now.max(said.map_or(now, |said| said.body().time + Duration::from_millis(1)));
        match Addresses::sign(federation.charter().network(), node, time, places) {
            Ok(record) => {
                let documents = vec![Document::Addresses(Box::new(record))];
                self.engine.step(Input::Submit { ticket: 0, documents, cut: false }, now)
            }
            Err(error) => {
                tracing::warn!(%error, "peers are not told where this node is");
                Vec::new()
            }
        }
    }

    /// Deletes for good what has been erased for as long as the charter wants it held.
    fn shred(&mut self) -> Result<(), DriverError> {
        let hold = self.engine.federation().charter().body().parameters.erase_hold;
        let count = self.store.shred(Timestamp(clock::now().0.saturating_sub(hold)))?;
        if count > 0 {
            tracing::info!(openings = count, "erased openings are deleted for good");
        }
        Ok(())
    }

    /// What was committed while it was decided that such is not held here.
    fn leave_out<'a>(&mut self, log: LogId, entries: impl Iterator<Item = (u64, &'a Entry)>) -> Vec<Effect> {
        let left_over = self.store.left_over(log, entries);
        if left_over.is_empty() {
            return Vec::new();
        }
        let places = left_over.into_iter().map(|index| (log, index)).collect();
        self.engine.step(Input::Forget(places), clock::now())
    }

    fn show(&mut self, entries: &Entries) {
        self.showing(|this, changed| this.curator.show(entries, changed));
        if let Ok(near) = self.matcher.near() {
            near.grown();
        }
        let log = entries.log();
        let (began, live) = (self.curator.began(log).unwrap_or_default(), self.curator.live(log.member));
        let (count, limits) = (entries.end() - entries.first(), self.policy.load().breakers());
        let quotas = &self.engine.federation().charter().body().parameters;
        if let Some(why) = self.pace.grown(log, (count, live), began, limits, quotas, clock::now()) {
            self.quarantine.hold(Subject::Member(log.member), why);
        }
    }

    /// Shows something, and tells the feed which hashes it is about.
    fn showing<T>(&mut self, show: impl FnOnce(&mut Self, &mut dyn FnMut(ContentId)) -> T) -> T {
        let Some(feed) = self.feed.clone() else { return show(self, &mut |_| ()) };
        let mut changed = Vec::new();
        let shown = show(self, &mut |id| changed.push(id));
        feed.changed(&changed);
        shown
    }

    /// Works out what is live on a thread of its own: of ten million statements that takes seconds.
    fn survey(&self, logs: Vec<(LogId, u64)>) {
        let (archive, mailbox) = (self.store.archive().clone(), self.mailbox.clone());
        let thread = thread::Builder::new().name("survey".to_owned());
        let surveyed = thread.spawn(move || {
            let survey = survey::survey(&*archive, &logs);
            let survey = survey.inspect_err(|error| tracing::warn!(%error, "the own list was not surveyed")).ok();
            mailbox.post(Input::Surveyed { logs, survey });
        });
        surveyed.expect("the system can start a thread");
    }

    fn pen(&mut self) -> &mut Pen {
        self.pen.as_mut().expect("an engine that speaks for no member asks for no signature")
    }

    fn alarm(&self, alarm: Alarm) {
        tracing::error!(%alarm, "alarm");
        let mut alarms = self.shared.alarms.lock();
        if alarms.len() == ALARMS {
            alarms.pop_front();
        }
        alarms.push_back((clock::now(), alarm));
    }

    fn share(&mut self) {
        let status = self.engine.status();
        let current = status.logs.iter().filter(|log| log.size >= log.known);
        current.for_each(|log| self.pace.is_current(log.log));
        self.shared.status.store(Arc::new(status));
        self.shared.heads.store(Arc::new(self.engine.heads()));
    }

    fn write_heads(&self) {
        if let Err(error) = self.heads.write(self.engine.ledger()) {
            tracing::warn!(%error, "the heads file was not written; the store itself is not affected");
        }
    }
}

/// Whether somebody still waits for what an input leads to. A caller that gives up while its publication is in the mailbox
/// has been told that nothing was signed, and its withdrawal has overtaken what it withdraws.
fn is_wanted(input: &Input, callers: &Callers) -> bool {
    match input {
        Input::Publish(publication) => callers.waits(publication.id),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use hashmesh_protocol::engine::Publication;

    use super::*;
    use crate::mailbox::Lane;

    #[test]
    fn what_its_caller_has_given_up_is_not_published() {
        let (mailbox, callers) = (Mailbox::<Input>::default(), Callers::default());
        let publish = || {
            let (id, told) = callers.enter();
            mailbox.try_send(Lane::Bulk, Input::Publish(Publication { id, drafts: Vec::new() })).unwrap();
            (id, told)
        };
        let ((given_up, _), (waiting, _told)) = (publish(), publish());
        assert!(callers.leave(given_up));
        mailbox.post(Input::Withdraw(given_up));

        let inputs = mailbox.receive(Duration::ZERO).unwrap();
        assert!(matches!(inputs[0], Input::Withdraw(_)), "it overtakes");
        let wanted = inputs.into_iter().filter(|input| is_wanted(input, &callers)).filter_map(|input| match input {
            Input::Publish(publication) => Some(publication.id),
            _ => None,
        });
        assert_eq!(wanted.collect::<Vec<_>>(), [waiting]);
    }
}
