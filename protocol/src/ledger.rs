//! All admitted logs, by what must be known of them to admit more: the right edge of each tree, the time of the last leaf,
//! the newest checkpoints (SPEC 7).
//!
//! Admission is context-free: canonical form, time order, tree and signature decide, never labels, openings or the charter,
//! or else one odd leaf would make a log unreadable for everybody who comes later. What a statement's effect is, the
//! [catalog](crate::catalog) says.
//!
//! There is one way in. Own statements, gossip, catch-up and replay at start differ only in what vouches for the root: the
//! signer that will sign it, a checkpoint, or the mark that an earlier commit left.

mod log;
mod remarks;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use log::{Log, Mark};
pub use remarks::Remarks;

use crate::batch::Batch;
use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::cosignature::{CosignatureError, SettledCheckpoint, SettlementError};
use crate::digest::Digest;
use crate::entries::{Entries, LateOpening};
use crate::erasure::{Change, Erasures};
use crate::federation::Federation;
use crate::names::{LogId, MemberId};
use crate::note::{Note, NoteError};
use crate::statement::{Position, Statement};
use crate::tree::tile::TILE_HEIGHT;

/// Every log of a federation, as far as this node has it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    logs: BTreeMap<LogId, Log>,
    /// What members have erased: that is looked for no longer, and missed by nobody (SPEC 20.3).
    erasures: BTreeMap<MemberId, Erasures>,
}

/// Leaves that have been admitted: well-formed, in their place, and part of the tree that is vouched for.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The leaves.
    pub entries: Entries,
    /// Inner nodes of the tree from the height of a tile on that these leaves finished, in order: level and hash.
    pub subtrees: Vec<(u32, Digest)>,
    /// The root over all leaves up to the end of these.
    pub root: Digest,
    /// The signed checkpoint that ends where they end. Absent for own leaves, which are signed after they are durable, and
    /// in the middle of a catch-up.
    pub checkpoint: Option<SignedCheckpoint>,
}

/// What became of a batch or a checkpoint that was not refused.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Leaves that were not known.
    New(Box<Admitted>),
    /// A checkpoint beyond what is held: leaves to be fetched.
    Ahead(SignedCheckpoint),
    /// A checkpoint over exactly what is held, where only an older one was kept: with it the leaves can be served.
    Sealed(SignedCheckpoint),
    /// A checkpoint of fewer leaves than are held. Whether it is of the same history only the leaves can tell.
    Behind(SignedCheckpoint),
    /// Nothing new.
    Known,
}

/// Why leaves or a checkpoint are not admitted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// SPEC 7.3: only logs of the charter's members are admitted. A newer charter may know it.
    #[error("{0} is no log of the federation")]
    Stranger(LogId),
    /// SPEC 9.4: leaves beyond the end of a log, or of one that may not be written now. Not everybody may have heard of it yet.
    #[error("{log} has ended; nothing is taken beyond {size}")]
    Ended {
        /// The log.
        log: LogId,
        /// Where it ends here.
        size: u64,
    },
    /// SPEC 7.5: a log has no holes. Nobody's fault: the leaves between are still on their way.
    #[error("{log} is at {have}, so leaves from {got} must wait")]
    Gap {
        /// The log.
        log: LogId,
        /// Its size here.
        have: u64,
        /// The first leaf offered.
        got: u64,
    },
    /// SPEC 4.4: the first leaf is older than the last one held.
    #[error("leaf {index} of {log} is older than the one before it")]
    TimeGoesBack {
        /// The log.
        log: LogId,
        /// The leaf.
        index: u64,
    },
    /// SPEC 7.6: the checkpoint is not signed by the log's key, or of another log.
    #[error("the checkpoint of {log} does not hold")]
    Checkpoint {
        /// The log.
        log: LogId,
        /// Why.
        #[source]
        error: CheckpointError,
    },
    /// SPEC 17.1, 17.4: cosignatures that do not hold, or too few.
    #[error("the checkpoint of {log} is not settled")]
    Settlement {
        /// The log.
        log: LogId,
        /// Why.
        #[source]
        error: SettlementError,
    },
    /// SPEC 7.6: the checkpoint covers fewer leaves than are offered under it.
    #[error("the checkpoint of {log} covers {size} leaves, {end} are offered")]
    NotCovered {
        /// The log.
        log: LogId,
        /// The checkpoint's size.
        size: u64,
        /// Where the leaves end.
        end: u64,
    },
    /// SPEC 7.6: leaves and proof do not lead to the signed root. Either the relayer changed something or the author has
    /// signed two histories; a consistency proof would tell.
    #[error("the leaves of {log} from {from} do not lead to its checkpoint of {size}")]
    Diverges {
        /// The log.
        log: LogId,
        /// Where the leaves begin that are not held.
        from: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// SPEC 7.7: the author signed two histories: two roots for one size, or a larger tree that does not contain the
    /// smaller one.
    #[error("{log} signed two histories, of {} and of {} leaves", .both.0.size(), .both.1.size())]
    Fork {
        /// The log.
        log: LogId,
        /// The checkpoint held and the one offered.
        both: Box<(SignedCheckpoint, SignedCheckpoint)>,
    },
    /// SPEC 8.5: the own log as others have it is not what this node has signed.
    #[error("{log} with {size} leaves is not what was signed here")]
    NotWhatWasSigned {
        /// The own log.
        log: LogId,
        /// How large the other one is.
        size: u64,
    },
}

/// Whom a refusal speaks against.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// Nobody: it happens between honest nodes.
    Nobody,
    /// Whoever handed it over: an honest node would have refused it too.
    Relayer,
    /// Whose log it is.
    Author,
}

impl Refusal {
    /// Whom this speaks against, which is all that the network layer needs to know.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Stranger(_) | Self::Ended { .. } | Self::Gap { .. } | Self::Diverges { .. } => Blame::Nobody,
            // Other cards than ours may name another key. That of a member's first log is known by its first card.
            Self::Checkpoint { log, error: CheckpointError::Note(NoteError::NotSigned(_)) }
            | Self::Settlement {
                log,
                error:
                    SettlementError::Cosignature(CosignatureError::Checkpoint(CheckpointError::Note(NoteError::NotSigned(
                        _,
                    )))),
            } if log.epoch > 0 => Blame::Nobody,
            // Another charter than ours may ask for fewer, or for others.
            Self::Settlement { error: SettlementError::Unsettled(_) | SettlementError::Stranger(_), .. } => {
                Blame::Nobody
            }
            Self::Settlement { .. } => Blame::Relayer,
            Self::TimeGoesBack { .. } | Self::Checkpoint { .. } | Self::NotCovered { .. } => Blame::Relayer,
            Self::Fork { .. } | Self::NotWhatWasSigned { .. } => Blame::Author,
        }
    }
}

/// What is stored of a log is not what was committed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Damage {
    /// The stored leaves do not lead to the root that was committed.
    #[error("the stored leaves of {log} do not lead to the committed root at {size}")]
    Root {
        /// The log.
        log: LogId,
        /// The committed size.
        size: u64,
    },
    /// Leaves are missing.
    #[error("{log} has {have} stored leaves, {size} were committed")]
    Short {
        /// The log.
        log: LogId,
        /// How many are there.
        have: u64,
        /// The committed size.
        size: u64,
    },
    /// A leaf out of order or in time before the one in front.
    #[error("the stored leaves of {log} are out of order at {index}")]
    Order {
        /// The log.
        log: LogId,
        /// Where.
        index: u64,
    },
    /// A checkpoint that does not verify.
    #[error("the stored checkpoint of {log} does not verify")]
    Checkpoint {
        /// The log.
        log: LogId,
        /// Why.
        #[source]
        error: CheckpointError,
    },
}

impl Ledger {
    /// Empty logs for every log of the federation.
    pub fn new(federation: &Federation) -> Self {
        let mut ledger = Self::default();
        ledger.reform(federation);
        ledger
    }

    /// Takes note of what charter and cards in force say of logs: which there are, which have ended, and where. A log whose key
    /// is another one now than that of the leaves that are held is named; it is left as it is, and nothing new is admitted to it.
    pub fn reform(&mut self, federation: &Federation) -> Vec<LogId> {
        let mut others = Vec::new();
        for (&id, key) in federation.logs() {
            let log = self.logs.entry(id).or_insert_with(|| Log::new(key.clone()));
            if log.key() != key && log.size() == 0 {
                *log = Log::new(key.clone());
            }
            let is_other = log.key() != key;
            let state = federation.log_state(id).filter(|_| !is_other);
            let writable = state.is_some_and(|state| state.writable);
            log.end_is(writable, state.and_then(|state| state.end));
            if is_other {
                others.push(id);
            }
        }
        for (id, log) in &mut self.logs {
            if !federation.logs().contains_key(id) {
                log.end_is(false, None);
            }
        }
        others
    }

    /// This node does not hold the opening of a leaf, by its own decision: it is not missing, and nobody is asked for it (SPEC 20.7).
    pub fn forget(&mut self, id: LogId, index: u64) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.forget(index);
        }
    }

    /// Takes note that the leaves which are held at a log's end are the ones that it ends with, or that they are others.
    pub fn ends_as_held(&mut self, id: LogId, is_so: bool) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.ends_as_held(is_so);
        }
    }

    /// One log.
    pub fn log(&self, id: LogId) -> Option<&Log> {
        self.logs.get(&id)
    }

    /// All logs.
    pub fn logs(&self) -> impl Iterator<Item = (LogId, &Log)> {
        self.logs.iter().map(|(&id, log)| (id, log))
    }

    /// Admits a batch that somebody has handed over.
    pub fn admit(&mut self, batch: Batch) -> Result<Admission, Refusal> {
        let id = batch.entries.log();
        let log = self.logs.get_mut(&id).ok_or(Refusal::Stranger(id))?;
        let have = log.size();
        // Cheap checks first; the signature costs as much as 500 leaf hashes.
        if batch.entries.first() > have {
            return match log.hear(id, batch.checkpoint)? {
                Admission::Known | Admission::Behind(_) => {
                    Err(Refusal::Gap { log: id, have, got: batch.entries.first() })
                }
                heard => Ok(heard),
            };
        }
        if batch.entries.end() <= have {
            return log.hear(id, batch.checkpoint);
        }
        if batch.entries.end() > log.limit() {
            return Err(Refusal::Ended { log: id, size: log.limit() });
        }
        let entries = if batch.entries.first() < have { batch.entries.starting_at(have) } else { batch.entries };
        let checkpoint = log.verify(id, batch.checkpoint)?;
        if checkpoint.size() < entries.end() {
            return Err(Refusal::NotCovered { log: id, size: checkpoint.size(), end: entries.end() });
        }
        let grown = log.grow(&entries);
        if !grown.leads_to(&checkpoint, &batch.proof) {
            return Err(Refusal::Diverges { log: id, from: have, size: checkpoint.size() });
        }
        // Only now: leaves of another history than ours may well be older than our last one, and who holds that history
        // honestly has done nothing wrong.
        if !grown.keeps_time {
            return Err(Refusal::TimeGoesBack { log: id, index: have });
        }
        if let Some(ahead) = log.ahead().filter(|_| !grown.keeps_ahead) {
            return Err(Refusal::Fork { log: id, both: Box::new((ahead.clone(), checkpoint)) });
        }
        if let Some(settling) = log.settling().filter(|_| !grown.keeps_settling) {
            let settled = settling.cosigned().checkpoint().clone();
            return Err(Refusal::Fork { log: id, both: Box::new((settled, checkpoint)) });
        }
        if log.ends_otherwise(&grown) {
            return Err(Refusal::Diverges { log: id, from: have, size: checkpoint.size() });
        }
        if !grown.keeps_promise {
            return Err(Refusal::NotWhatWasSigned { log: id, size: checkpoint.size() });
        }
        let (root, subtrees) = log.accept(grown, &entries);
        log.keep(checkpoint.clone());
        self.note_erasures(&entries);
        let checkpoint = (checkpoint.size() == entries.end()).then_some(checkpoint);
        Ok(Admission::New(Box::new(Admitted { entries, subtrees, root, checkpoint })))
    }

    /// Hears of a checkpoint without leaves.
    pub fn hear(&mut self, id: LogId, note: Note) -> Result<Admission, Refusal> {
        self.logs.get_mut(&id).ok_or(Refusal::Stranger(id))?.hear(id, note)
    }

    /// Takes leaves of the own log that are about to be made durable and signed.
    pub fn append(&mut self, entries: Entries) -> Result<Admitted, Refusal> {
        let id = entries.log();
        let log = self.logs.get_mut(&id).ok_or(Refusal::Stranger(id))?;
        if entries.first() != log.size() {
            return Err(Refusal::Gap { log: id, have: log.size(), got: entries.first() });
        }
        let grown = log.grow(&entries);
        if !grown.keeps_time {
            return Err(Refusal::TimeGoesBack { log: id, index: entries.first() });
        }
        let (root, subtrees) = log.accept(grown, &entries);
        self.note_erasures(&entries);
        Ok(Admitted { entries, subtrees, root, checkpoint: None })
    }

    /// Notes what leaves that were just accepted erase, and void.
    fn note_erasures(&mut self, entries: &Entries) {
        let LogId { member, epoch } = entries.log();
        for (index, entry) in entries.iter() {
            let statement = &entry.leaf.statement;
            if !matches!(statement, Statement::Erase(_) | Statement::Void(_)) {
                continue;
            }
            let erasures = self.erasures.entry(member).or_default();
            match erasures.take(Position { epoch, index }, statement) {
                Some(Change::One(at)) if erasures.by(at).is_some() => {
                    if let Some(log) = self.logs.get_mut(&LogId { member, epoch: at.epoch }) {
                        log.erase(at.index);
                    }
                }
                Some(Change::Many) => self.review_erased(member),
                _ => {}
            }
        }
    }

    /// Works out anew what is erased of a member's logs.
    fn review_erased(&mut self, member: MemberId) {
        let Some(erasures) = self.erasures.get(&member) else { return };
        for (id, log) in self.logs.iter_mut().filter(|(id, _)| id.member == member) {
            log.erased_are(erasures.of(id.epoch));
        }
    }

    /// Nothing of a log counts beyond what is settled, or beyond its end: its key has signed two histories, or it has ended.
    /// How much of it counts comes back.
    pub fn freeze(&mut self, id: LogId) -> u64 {
        let counts = self.logs.get(&id).map_or(0, Log::counting);
        if self.erasures.entry(id.member).or_default().freeze(id.epoch, counts) {
            self.review_erased(id.member);
        }
        counts
    }

    /// The leaf that erases what stands at a place of a log, if one does.
    pub fn erased_by(&self, id: LogId, index: u64) -> Option<Position> {
        self.erasures.get(&id.member)?.by(Position { epoch: id.epoch, index })
    }

    /// Takes a checkpoint that the own signer has made over leaves that are held.
    pub fn sealed(&mut self, id: LogId, checkpoint: SignedCheckpoint) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.keep(checkpoint);
        }
    }

    /// Takes a settled checkpoint, as [`Log::settled`] or, if the leaves do not reach it yet, as [`Log::settling`]. The
    /// caller has made sure that they do not contradict it.
    pub fn settle(&mut self, id: LogId, settled: Arc<SettledCheckpoint>) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.settle(settled);
        }
        self.refreeze(id);
    }

    /// More may be settled of a frozen log.
    fn refreeze(&mut self, id: LogId) {
        if self.erasures.get(&id.member).is_some_and(|erasures| erasures.is_frozen(id.epoch)) {
            self.freeze(id);
        }
    }

    /// The settled checkpoint that the leaves of a log have just reached, if so.
    pub fn reached(&mut self, id: LogId) -> Option<Arc<SettledCheckpoint>> {
        let reached = self.logs.get_mut(&id)?.reached();
        self.refreeze(id);
        reached
    }

    /// Makes a log the own one: it must lead to what this node itself has signed in it, once it reaches that far, and is
    /// never other than what this node puts into it.
    pub fn promise(&mut self, id: LogId, signed: Mark) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.promise(signed);
        }
    }

    /// Notes that an opening that was missing is here now. `false` if it was not missing.
    pub fn opened(&mut self, late: &LateOpening) -> bool {
        self.logs.get_mut(&late.log()).is_some_and(|log| log.opened(late.index()))
    }

    /// Takes leaves back from the store, in order. [`restored`](Self::restored) tells whether they are what was committed.
    pub fn restore(&mut self, entries: Entries) -> Result<Admitted, Damage> {
        let id = entries.log();
        self.append(entries).map_err(|refusal| match refusal {
            Refusal::TimeGoesBack { log, index } | Refusal::Gap { log, got: index, .. } => Damage::Order { log, index },
            _ => Damage::Order { log: id, index: 0 },
        })
    }

    /// Checks what was restored of a log against the mark of its last commit, and takes its checkpoint.
    pub fn restored(&mut self, id: LogId, mark: &Mark, checkpoint: Option<Note>) -> Result<(), Damage> {
        let Some(log) = self.logs.get_mut(&id) else { return Ok(()) };
        mark.check(id, log.size(), log.root())?;
        let Some(note) = checkpoint else { return Ok(()) };
        let checkpoint = SignedCheckpoint::open(note, log.key());
        log.keep(checkpoint.map_err(|error| Damage::Checkpoint { log: id, error })?);
        Ok(())
    }
}

/// The levels of inner nodes that [`Admitted::subtrees`] reports.
const REPORTED: std::ops::RangeFrom<u32> = TILE_HEIGHT..;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::MemberKeys;
    use crate::checkpoint::Checkpoint;
    use crate::entries::tests::{adds, log};
    use crate::federation::tests::federation;
    use crate::names::MemberId;
    use crate::tree::leaf_hash;
    use crate::tree::prover::consistency;
    use crate::tree::prover::tests::Naive;

    struct World {
        federation: Federation,
        keys: BTreeMap<MemberId, MemberKeys>,
        ledger: Ledger,
    }

    fn world() -> World {
        let (federation, keys) = federation(&["acme", "bolt"]);
        let ledger = Ledger::new(&federation);
        World { federation, keys, ledger }
    }

    fn tree(size: u64) -> Naive {
        let all = adds(0, 0..size);
        Naive(all.iter().map(|(_, entry)| entry.leaf_hash).collect())
    }

    impl World {
        fn sign(&self, size: u64, root: Digest) -> Note {
            let key = &self.federation.logs()[&log()];
            let checkpoint = Checkpoint { origin: key.name().to_owned(), size, root };
            SignedCheckpoint::sign(checkpoint, key, &self.keys[&log().member].log).note().clone()
        }

        /// Leaves from..to under the checkpoint of `size`, as an honest node serves them.
        fn batch(&self, from: u64, to: u64, size: u64) -> Batch {
            let Ok(root) = crate::tree::prover::root(&tree(size), size);
            let Ok(proof) = consistency(&tree(size), to, size);
            Batch { entries: adds(from, from..to), checkpoint: self.sign(size, root), proof }
        }

        fn admit(&mut self, batch: Batch) -> &'static str {
            match self.ledger.admit(batch) {
                Ok(Admission::New(_)) => "new",
                Ok(Admission::Ahead(_)) => "ahead",
                Ok(Admission::Sealed(_)) => "sealed",
                Ok(Admission::Behind(_)) => "behind",
                Ok(Admission::Known) => "known",
                Err(refusal) => match refusal {
                    Refusal::Stranger(_) => "stranger",
                    Refusal::Gap { .. } => "gap",
                    Refusal::TimeGoesBack { .. } => "time",
                    Refusal::Checkpoint { .. } => "checkpoint",
                    Refusal::Settlement { .. } => "not settled",
                    Refusal::NotCovered { .. } => "not covered",
                    Refusal::Diverges { .. } => "diverges",
                    Refusal::Fork { .. } => "fork",
                    Refusal::NotWhatWasSigned { .. } => "not what was signed",
                    Refusal::Ended { .. } => "ended",
                },
            }
        }

        fn size(&self) -> u64 {
            self.ledger.log(log()).unwrap().size()
        }
    }

    /// SPEC 20.3.
    #[test]
    fn what_is_erased_is_not_missing_unless_the_erasure_does_not_count() {
        let mut ledger = world().ledger;
        let closed = |entries: Entries| {
            let none = [0, 0].repeat(usize::try_from(entries.end() - entries.first()).unwrap());
            Entries::read(log(), entries.first(), entries.leaves().to_vec(), none).unwrap()
        };
        ledger.append(closed(adds(0, 0..3))).unwrap();
        let state = |ledger: &Ledger| {
            let log = ledger.log(log()).unwrap();
            (log.missing_from(0).collect::<Vec<_>>(), log.missing(), log.is_whole_to(2))
        };
        assert_eq!(state(&ledger), (vec![0, 1, 2], 3, false));
        let mut composer = Entries::compose(log(), 3);
        for index in [0, 1, 1, 7] {
            let position = Position { epoch: 0, index };
            let statement = Statement::Erase(crate::statement::Erase { position, basis: 1 });
            composer.push(crate::statement::Leaf { time: crate::time::Timestamp(1000), statement }, None);
        }
        ledger.append(composer.finish().unwrap()).unwrap();
        assert_eq!(state(&ledger), (vec![2], 1, true));
        let by = |index| ledger.erased_by(log(), index);
        assert_eq!(
            [0, 1, 2, 7].map(by),
            [Some(3), Some(4), None, None].map(|by| by.map(|index| Position { epoch: 0, index }))
        );
        ledger.freeze(log());
        assert_eq!(state(&ledger), (vec![0, 1, 2], 3, false), "nothing of it is settled");
    }

    #[test]
    fn batches_extend_a_log_once() {
        let mut world = world();
        let (first, second) = (world.batch(0, 3, 3), world.batch(3, 5, 5));
        assert_eq!(world.admit(first.clone()), "new");
        assert_eq!(world.admit(first), "known");
        assert_eq!(world.admit(second), "new");
        assert_eq!(world.size(), 5);
    }

    /// SPEC 7.5: what overlaps is used from where it is new.
    #[test]
    fn overlapping_batches_are_used_from_where_they_are_new() {
        let mut world = world();
        for (from, to) in [(0, 3), (1, 5), (0, 9)] {
            assert_eq!(world.admit(world.batch(from, to, to)), "new", "{from}..{to}");
        }
        assert_eq!(world.size(), 9);
        assert_eq!(
            world.ledger.log(log()).unwrap().root(),
            tree(9).0[..]
                .iter()
                .fold(crate::tree::edge::Edge::default(), |mut edge, hash| {
                    edge.push(*hash);
                    edge
                },)
                .root()
        );
    }

    #[test]
    fn a_range_is_verified_against_any_checkpoint_that_covers_it() {
        let mut world = world();
        assert_eq!(world.admit(world.batch(0, 4, 11)), "new");
        let log_now = world.ledger.log(log()).unwrap();
        assert_eq!(log_now.whole(), None);
        assert_eq!(log_now.ahead().unwrap().size(), 11);
        assert_eq!(world.admit(world.batch(4, 7, 7)), "new");
        assert_eq!(world.ledger.log(log()).unwrap().whole().unwrap().size(), 7);
        assert_eq!(world.admit(world.batch(7, 11, 11)), "new");
        let log_now = world.ledger.log(log()).unwrap();
        assert_eq!((log_now.whole().unwrap().size(), log_now.ahead()), (11, None));
    }

    /// Leaves that were admitted in the middle of a larger tree can be served once their own checkpoint is there.
    #[test]
    fn a_checkpoint_over_what_is_held_is_kept_if_only_an_older_one_was() {
        let mut world = world();
        assert_eq!(world.admit(world.batch(0, 4, 11)), "new");
        assert_eq!(world.ledger.log(log()).unwrap().whole(), None);
        let head = world.batch(0, 4, 4).checkpoint;
        assert!(matches!(world.ledger.hear(log(), head.clone()), Ok(Admission::Sealed(_))));
        assert_eq!(world.ledger.log(log()).unwrap().whole().unwrap().size(), 4);
        assert_eq!(world.ledger.log(log()).unwrap().ahead().unwrap().size(), 11);
        assert!(matches!(world.ledger.hear(log(), head), Ok(Admission::Known)));
    }

    #[test]
    fn what_comes_too_early_is_remembered_by_its_checkpoint() {
        let mut world = world();
        assert_eq!(world.admit(world.batch(2, 4, 4)), "ahead");
        assert_eq!(world.admit(world.batch(2, 4, 4)), "gap", "heard of already");
        assert_eq!(world.size(), 0);
        assert_eq!(world.admit(world.batch(0, 4, 4)), "new");
    }

    #[test]
    fn nothing_is_admitted_that_does_not_lead_to_a_signed_root() {
        let mut world = world();
        let good = world.batch(0, 4, 4);
        let mut other_leaves = good.clone();
        other_leaves.entries = adds(0, [0, 1, 2, 9]);
        assert_eq!(world.admit(other_leaves), "diverges");
        let mut cut = good.clone();
        cut.entries = adds(0, 0..3);
        assert_eq!(world.admit(cut), "diverges");
        let mut needless_proof = good.clone();
        needless_proof.proof = vec![Digest::default()];
        assert_eq!(world.admit(needless_proof), "diverges");
        let mut uncovered = good.clone();
        uncovered.checkpoint = world.batch(0, 3, 3).checkpoint;
        assert_eq!(world.admit(uncovered), "not covered");
        let mut forged = good.clone();
        let text = forged.checkpoint.to_string().replace("\n4\n", "\n5\n");
        forged.checkpoint = Note::parse(text.as_bytes()).unwrap();
        assert_eq!(world.admit(forged), "checkpoint");
        let mut stranger = good.clone();
        stranger.entries =
            Entries::read(LogId { epoch: 1, ..log() }, 0, good.entries.leaves().into(), good.entries.openings().into())
                .unwrap();
        assert_eq!(world.admit(stranger), "stranger");
        assert_eq!(world.size(), 0);
        assert_eq!(world.admit(good), "new");
    }

    /// SPEC 7.7.
    #[test]
    fn two_roots_for_one_size_are_a_fork() {
        let mut world = world();
        world.admit(world.batch(0, 4, 4));
        let rival = world.sign(4, leaf_hash(b"rival"));
        let refusal = world.ledger.hear(log(), rival).unwrap_err();
        assert_eq!(refusal.blame(), Blame::Author);
        assert!(matches!(refusal, Refusal::Fork { .. }));
        let ahead = world.sign(6, leaf_hash(b"one"));
        assert!(matches!(world.ledger.hear(log(), ahead), Ok(Admission::Ahead(_))));
        let rival = world.sign(6, leaf_hash(b"two"));
        assert!(matches!(world.ledger.hear(log(), rival), Err(Refusal::Fork { .. })));
    }

    /// SPEC 7.7: the leaves held are proof enough, also where no checkpoint of their size was ever heard.
    #[test]
    fn a_signed_root_that_the_leaves_do_not_have_is_a_fork() {
        let mut world = world();
        world.admit(world.batch(0, 4, 11));
        let rival = world.sign(4, leaf_hash(b"rival"));
        assert!(matches!(world.ledger.hear(log(), rival.clone()), Err(Refusal::Fork { .. })));

        let mut own = Ledger::new(&world.federation);
        own.promise(log(), Mark::default());
        own.append(adds(0, 0..4)).unwrap();
        let refusal = own.hear(log(), rival).unwrap_err();
        assert_eq!(refusal, Refusal::NotWhatWasSigned { log: log(), size: 4 }, "signed while ours was not yet");
    }

    /// SPEC 7.7, the form that no single size shows: a larger tree that does not contain the smaller one.
    #[test]
    fn a_larger_tree_that_lacks_what_was_signed_before_is_a_fork() {
        let mut world = world();
        let other = world.sign(3, leaf_hash(b"another history"));
        assert!(matches!(world.ledger.hear(log(), other), Ok(Admission::Ahead(_))));
        assert_eq!(world.admit(world.batch(0, 5, 5)), "fork");
        assert_eq!(world.size(), 0);
    }

    /// SPEC 8.5.
    #[test]
    fn the_own_log_is_refilled_only_with_what_was_signed() {
        let mut world = world();
        let mark = |size: u64| Mark { size, root: crate::tree::prover::root(&tree(size), size).unwrap() };
        world.ledger.promise(log(), Mark { size: 4, root: mark(3).root });
        assert_eq!(world.admit(world.batch(0, 5, 5)), "not what was signed");
        world.ledger.promise(log(), mark(4));
        assert_eq!(world.admit(world.batch(0, 5, 5)), "new");
    }

    #[test]
    fn time_never_goes_back_across_batches() {
        let mut world = world();
        world.admit(world.batch(0, 1, 1));
        let mut composer = Entries::compose(log(), 1);
        let statement = crate::statement::Statement::Revoke(crate::statement::Revoke {
            position: crate::statement::Position { epoch: 0, index: 0 },
            reason: 1,
        });
        composer.push(crate::statement::Leaf { time: crate::time::Timestamp(999), statement }, None);
        let entries = composer.finish().unwrap();
        assert!(matches!(world.ledger.append(entries.clone()), Err(Refusal::TimeGoesBack { index: 1, .. })));

        let mut edge = crate::tree::edge::Edge::default();
        tree(1).0.into_iter().chain(entries.iter().map(|(_, entry)| entry.leaf_hash)).for_each(|leaf| edge.push(leaf));
        let signed = world.sign(2, edge.root());
        let batch = Batch { entries: entries.clone(), checkpoint: signed, proof: vec![] };
        assert_eq!(world.admit(batch), "time", "whoever holds these leaves has let them in");
        let elsewhere = world.sign(2, leaf_hash(b"another history"));
        let batch = Batch { entries, checkpoint: elsewhere, proof: vec![] };
        assert_eq!(world.admit(batch), "diverges", "what comes before may be older there, too");
    }

    #[test]
    fn what_is_restored_must_be_what_was_committed() {
        let mut world = world();
        world.admit(world.batch(0, 5, 5));
        let mark = world.ledger.log(log()).unwrap().mark();
        let note = world.batch(0, 5, 5).checkpoint;
        let restore = |numbers: &[u64]| {
            let mut ledger = Ledger::new(&world.federation);
            ledger.restore(adds(0, numbers.iter().copied())).unwrap();
            ledger.restored(log(), &mark, Some(note.clone()))
        };
        assert_eq!(restore(&[0, 1, 2, 3, 4]), Ok(()));
        assert_eq!(restore(&[0, 1, 2, 3]), Err(Damage::Short { log: log(), have: 4, size: 5 }));
        assert_eq!(restore(&[0, 1, 2, 3, 5]), Err(Damage::Root { log: log(), size: 5 }));
    }

    #[test]
    fn finished_subtrees_from_the_height_of_a_tile_on_are_reported() {
        let mut world = world();
        let admitted = world.ledger.append(adds(0, 0..600)).unwrap();
        assert_eq!(admitted.subtrees.iter().map(|(level, _)| *level).collect::<Vec<_>>(), [8, 8, 9]);
        assert_eq!(admitted.root, world.ledger.log(log()).unwrap().root());
    }
}
