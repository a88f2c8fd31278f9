//! Saying something: from a caller's drafts to a signed batch (SPEC 8).
//!
//! One batch is in the making at a time. While it is being made durable and signed, what else comes in queues up and makes
//! the next: so an idle node signs at once, and a busy one signs large batches, without any timer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::{Draft, Effect, Engine, Silence, Target};
use crate::batch::Batch;
use crate::catalog::{Attributes, Catalog, Said, Standing};
use crate::charter::Charter;
use crate::checkpoint::SignedCheckpoint;
use crate::content_hash::{ContentHash, Emptiness, MIN_PDQ_QUALITY};
use crate::entries::{Composer, Entries, MAX_LEAVES};
use crate::ledger::{Admitted, Ledger, Mark};
use crate::names::LogId;
use crate::policy::effect;
use crate::statement::{Erase, Leaf, Position, Revoke, Statement, Void};
use crate::time::Timestamp;
use crate::wire::Gossip;

/// Drafts that may wait to be published; more are turned away. Eight batches of the largest size.
const MAX_QUEUED: usize = 65_536;

/// Publications of up to so many drafts go before larger ones: a revocation must not wait behind an import.
const SMALL: usize = 64;

/// Milliseconds in an hour.
const HOUR: u64 = 3_600_000;

/// What a caller wants to say.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The caller's number, for the reply.
    pub id: u64,
    /// What, in order.
    pub drafts: Vec<Draft>,
}

/// What became of a publication.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Every draft has been dealt with, in order; what is placed is durable and signed.
    Done(Vec<Result<Placed, Unpublishable>>),
    /// Too much is waiting already.
    Busy {
        /// Why nothing is being signed, if so.
        silence: Option<Silence>,
    },
    /// This node speaks for nobody.
    Mute,
}

/// Where a statement stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Placed {
    /// It has been published there.
    New(Position),
    /// The same had been said there before, and has effect still. The remark in the opening plays no part: what somebody
    /// repeats to be sure must not be published once more.
    Known(Position),
}

/// Why a draft was not published.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unpublishable {
    /// SPEC 3.4.
    #[error("{0}")]
    Empty(Emptiness),
    /// The charter has no such label.
    #[error("the charter has no label with code {0}")]
    Label(u16),
    /// SPEC 3.4.
    #[error("PDQ quality {0} is below {MIN_PDQ_QUALITY}: the picture has too little in it to be told from others")]
    Quality(u8),
    /// It would have no effect from the beginning.
    #[error("its expiry has passed")]
    Expired,
    /// There is nothing to withdraw.
    #[error("this member says nothing about {0} now, so there is nothing to revoke")]
    NotSaid(ContentHash),
    /// There is no such statement.
    #[error("neither an add nor a dispute stands at {0} of this member's log")]
    NoPosition(Position),
    /// There is nothing to erase.
    #[error("nothing of what this member has said about {0} is left to be erased")]
    NothingLeft(ContentHash),
    /// It was erased before.
    #[error("the statement at {0} is erased already")]
    Erased(Position),
    /// SPEC 20.6: only what stands in an earlier log can be voided.
    #[error("{0} is no earlier log of this member: a stolen log key is replaced first (hashmesh card rotate)")]
    NotEarlier(u32),
    /// SPEC 12.9: more than the charter allows in 24 hours.
    #[error("the charter allows {0} statements a member in 24 hours, and they have been made; try again later")]
    Quota(u64),
    /// Nothing stands there.
    #[error("nothing stands from {0} on")]
    NothingFrom(Position),
    /// It was replaced or withdrawn before.
    #[error("the statement at {0} has ended already, so there is nothing to revoke")]
    Ended(Position),
}

/// Publications on their way.
#[derive(Default)]
pub(super) struct Publishing {
    small: VecDeque<Waiting>,
    large: VecDeque<Waiting>,
    /// What is being made durable and signed.
    in_flight: Option<InFlight>,
    /// What the batch says that was composed last, as long as the catalog may not show it yet.
    unshown: Saying,
    /// What was said by hour of the last 24, newest last, since this node started.
    hours: VecDeque<(u64, u64)>,
}

/// What one batch says.
#[derive(Default)]
struct Saying {
    /// By content hash: the word that is left on it; `None` once revoked.
    words: HashMap<ContentHash, Option<Word>>,
    /// Which hash each of its adds and disputes is about.
    about: HashMap<Position, ContentHash>,
    /// Which statements it ends.
    ended: HashSet<Position>,
    /// Which of them it erases.
    erased: HashSet<Position>,
}

/// The member's word on a hash: where it stands, since when, and what it says.
#[derive(Clone)]
struct Word {
    position: Position,
    time: Timestamp,
    attributes: Attributes,
}

struct Waiting {
    id: u64,
    drafts: VecDeque<Draft>,
    results: Vec<Result<Placed, Unpublishable>>,
}

/// What the signer has been asked for.
struct InFlight {
    log: LogId,
    mark: Mark,
    /// The leaves that this signs, if they are new.
    admitted: Option<Arc<Admitted>>,
    /// Whom to tell once it is signed.
    done: Vec<(u64, Vec<Result<Placed, Unpublishable>>)>,
}

impl Publishing {
    /// Drafts that wait.
    pub(super) fn queued(&self) -> usize {
        self.small.iter().chain(&self.large).map(|waiting| waiting.drafts.len()).sum()
    }

    /// Drops what has not been begun.
    pub(super) fn withdraw(&mut self, id: u64) {
        for queue in [&mut self.small, &mut self.large] {
            queue.retain(|waiting| waiting.id != id || !waiting.results.is_empty());
        }
    }

    /// Everything that was signed is in the catalog now.
    pub(super) fn all_shown(&mut self) {
        if self.in_flight.is_none() {
            self.unshown = Saying::default();
        }
    }

    /// How many more statements may be made now, of so many in 24 hours.
    fn left(&self, now: Timestamp, most: u64) -> u64 {
        let hour = now.0 / HOUR;
        let said: u64 = self.hours.iter().filter(|(at, _)| at + 24 > hour).map(|(_, count)| count).sum();
        most.saturating_sub(said)
    }

    fn said(&mut self, now: Timestamp, count: u64) {
        let hour = now.0 / HOUR;
        self.hours.retain(|(at, _)| at + 24 > hour);
        match self.hours.back_mut() {
            Some((at, so_far)) if *at == hour => *so_far += count,
            _ => self.hours.push_back((hour, count)),
        }
    }

    fn is_idle(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }
}

impl Engine {
    /// Queues a publication.
    pub(super) fn take(&mut self, publication: Publication, effects: &mut Vec<Effect>) {
        let Publication { id, drafts } = publication;
        let outcome = if self.own.is_none() {
            Outcome::Mute
        } else if self.publishing.queued() + drafts.len() > MAX_QUEUED {
            Outcome::Busy { silence: self.silence() }
        } else {
            let queue = if drafts.len() <= SMALL { &mut self.publishing.small } else { &mut self.publishing.large };
            queue.push_back(Waiting { id, drafts: drafts.into(), results: Vec::new() });
            return;
        };
        effects.push(Effect::Reply { publication: id, outcome });
    }

    /// Makes the next batch out of what waits, unless one is in flight or nothing may be signed.
    pub(super) fn compose(&mut self, effects: &mut Vec<Effect>) {
        if self.publishing.in_flight.is_some() || self.silence().is_some() {
            return;
        }
        let Some((own, log)) = self.own.and_then(|own| Some((own, self.ledger.log(own)?))) else { return };
        let signed = self.voice.mark();
        if log.size() == signed.size && log.whole().map_or(0, SignedCheckpoint::size) < signed.size {
            // The node stopped after the signer had moved and before the checkpoint was safe: peers may never have seen it,
            // and leaves that were answered for would stay here until something else is said (SPEC 8.8).
            self.publishing.in_flight = Some(InFlight { log: own, mark: signed, admitted: None, done: Vec::new() });
            effects.push(Effect::Sign { log: own, mark: signed });
            return;
        }
        if self.publishing.is_idle() && self.remarking.next.is_empty() {
            return;
        }
        let charter = self.federation.charter();
        let limit = charter.body().parameters.batch_leaves as usize;
        let left = self.publishing.left(self.now, charter.body().parameters.statements_per_day);
        let Publishing { small, large, unshown, .. } = &mut self.publishing;
        let mut place = Place {
            charter,
            catalog: &self.catalog,
            ledger: &self.ledger,
            unshown,
            own,
            now: self.now,
            time: self.now.max(log.last_time()),
            composer: Entries::compose(own, log.size()),
            said: Saying::default(),
            voids: false,
            left,
        };
        for statement in self.remarking.next.drain(..) {
            place.composer.push(Leaf { time: place.time, statement }, None);
        }
        let mut done = Vec::new();
        // What is voided is known here once it is shown: nothing else is said in that batch.
        while place.composer.len() < limit && !place.voids {
            // What has been begun is finished first, or its results would be spread over many batches.
            let begun = large.front().is_some_and(|waiting| !waiting.results.is_empty());
            let queue = if small.is_empty() || begun { &mut *large } else { &mut *small };
            let Some(waiting) = queue.front_mut() else { break };
            while place.composer.len() < limit
                && !place.voids
                && let Some(draft) = waiting.drafts.pop_front()
            {
                waiting.results.push(place.draft(&draft));
            }
            if waiting.drafts.is_empty() {
                done.extend(queue.pop_front().map(|waiting| (waiting.id, waiting.results)));
            }
        }
        let (composer, said) = (place.composer, place.said);
        let Some(entries) = composer.finish() else {
            Self::reply(done, effects);
            return;
        };
        self.publishing.said(self.now, entries.end() - entries.first());
        let admitted = self.ledger.append(entries);
        let admitted = Arc::new(admitted.expect("composed at the end of the own log, not before its time"));
        let mark = Mark { size: admitted.entries.end(), root: admitted.root };
        effects.push(Effect::Commit(admitted.clone()));
        effects.push(Effect::Sign { log: own, mark });
        self.publishing.in_flight = Some(InFlight { log: own, mark, admitted: Some(admitted), done });
        self.publishing.unshown = said;
    }

    /// What is in flight is durable and signed: show it, answer for it, spread it.
    pub(super) fn signed(&mut self, checkpoint: SignedCheckpoint, effects: &mut Vec<Effect>) {
        let Some(InFlight { log, mark, admitted, done }) = self.publishing.in_flight.take() else { return };
        self.signed.insert(log, mark);
        // The member may speak in another log by now.
        if self.own == Some(log) {
            self.voice.signed(mark);
        }
        self.ledger.sealed(log, checkpoint.clone());
        effects.push(Effect::KeepCheckpoint(log, checkpoint.clone()));
        let message = match &admitted {
            Some(admitted) => self.announcement(admitted, &checkpoint),
            None => Gossip::encode_checkpoint(checkpoint.note()),
        };
        effects.extend(admitted.map(Effect::Show));
        Self::reply(done, effects);
        effects.push(Effect::Gossip(message));
    }

    /// A small batch travels whole, of a larger one only the checkpoint (SPEC 14.3).
    fn announcement(&self, admitted: &Admitted, checkpoint: &SignedCheckpoint) -> Vec<u8> {
        let limit = self.federation.charter().body().parameters.gossip_bytes as usize;
        let entries = &admitted.entries;
        if entries.leaves().len() + entries.openings().len() <= limit {
            let batch = Batch { entries: entries.clone(), checkpoint: checkpoint.note().clone(), proof: Vec::new() };
            let bytes = batch.encode(self.federation.origins());
            if bytes.len() <= limit {
                return Gossip::encode_batch(bytes);
            }
        }
        Gossip::encode_checkpoint(checkpoint.note())
    }

    fn reply(done: Vec<(u64, Vec<Result<Placed, Unpublishable>>)>, effects: &mut Vec<Effect>) {
        let replies = done
            .into_iter()
            .map(|(publication, results)| Effect::Reply { publication, outcome: Outcome::Done(results) });
        effects.extend(replies);
    }
}

/// Placing drafts in the batch that is being made.
struct Place<'a> {
    charter: &'a Charter,
    catalog: &'a Catalog,
    ledger: &'a Ledger,
    unshown: &'a Saying,
    own: LogId,
    now: Timestamp,
    time: Timestamp,
    composer: Composer,
    /// What this batch says.
    said: Saying,
    /// Whether something is voided in it.
    voids: bool,
    /// How many more additions and disputes the charter allows today.
    left: u64,
}

impl Place<'_> {
    /// Places one draft: a new leaf, or the place where the same stands already, or why not.
    fn draft(&mut self, draft: &Draft) -> Result<Placed, Unpublishable> {
        draft.check(self.charter, self.now)?;
        match draft {
            Draft::Revoke { target, reason } => self.revoke(*target, *reason as u64),
            Draft::Erase { target, basis } => self.erase(*target, *basis as u64),
            Draft::Void { epoch, from } => self.void(*epoch, *from),
            // What withdraws something is never kept waiting.
            Draft::Add { .. } | Draft::Dispute { .. } if self.left == 0 => {
                Err(Unpublishable::Quota(self.charter.body().parameters.statements_per_day))
            }
            Draft::Add { .. } | Draft::Dispute { .. } => Ok(self.state(draft)),
        }
    }

    /// Adds or disputes, in the place of what the member says of that hash now.
    fn state(&mut self, draft: &Draft) -> Placed {
        let (hash, attributes) = draft.content().zip(draft.attributes()).expect("not a revocation");
        let standing = self.word(&hash);
        if let Some(word) = &standing
            && word.attributes == attributes
            && self.still_counts(word)
        {
            return Placed::Known(word.position);
        }
        let replaces = standing.map(|word| word.position);
        let (statement, opening, hash) = draft.statement(replaces).expect("not a revocation");
        let position = self.here();
        self.left = self.left.saturating_sub(1);
        self.composer.push(Leaf { time: self.time, statement }, Some((opening, hash)));
        self.said.ended.extend(replaces);
        self.said.about.insert(position, hash);
        self.said.words.insert(hash, Some(Word { position, time: self.time, attributes }));
        Placed::New(position)
    }

    /// Withdraws what is live, and nothing else: whoever is told that something was revoked must be able to rely on it.
    fn revoke(&mut self, target: Target, reason: u64) -> Result<Placed, Unpublishable> {
        let (position, hash) = match target {
            Target::Hash(hash) => {
                let word = self.word(&hash).ok_or(Unpublishable::NotSaid(hash))?;
                (word.position, Some(hash))
            }
            Target::Position(position) => (position, self.about(position)?),
        };
        let here = self.here();
        self.composer.push(Leaf { time: self.time, statement: Statement::Revoke(Revoke { position, reason }) }, None);
        self.said.ended.insert(position);
        if let Some(hash) = hash
            && self.word(&hash).is_some_and(|word| word.position == position)
        {
            self.said.words.insert(hash, None);
        }
        Ok(Placed::New(here))
    }

    /// Erases what was said at a place, live or not; or everything that was ever said about a hash, as far as one batch holds it:
    /// what was replaced has an opening with the same value.
    fn erase(&mut self, target: Target, basis: u64) -> Result<Placed, Unpublishable> {
        let erased = |position: &Position| {
            let log = LogId { epoch: position.epoch, ..self.own };
            let batches = [&self.said, self.unshown];
            self.ledger.erased_by(log, position.index).is_some()
                || batches.iter().any(|batch| batch.erased.contains(position))
        };
        let positions = match target {
            Target::Hash(hash) => {
                let mut all =
                    self.catalog.find(&hash).map(|id| self.catalog.all_of(self.own.member, id)).unwrap_or_default();
                for batch in [self.unshown, &self.said] {
                    all.extend(batch.about.iter().filter(|(_, about)| **about == hash).map(|(position, _)| *position));
                }
                all.retain(|position| !erased(position));
                all.sort();
                all.dedup();
                all.truncate(MAX_LEAVES.saturating_sub(self.composer.len()).max(1));
                if all.is_empty() {
                    return Err(Unpublishable::NothingLeft(hash));
                }
                all
            }
            Target::Position(position) if erased(&position) => return Err(Unpublishable::Erased(position)),
            Target::Position(position) => match self.about(position) {
                Ok(_) | Err(Unpublishable::Ended(_)) => vec![position],
                Err(error) => return Err(error),
            },
        };
        let here = self.here();
        for position in positions {
            let statement = Statement::Erase(Erase { position, basis });
            self.composer.push(Leaf { time: self.time, statement }, None);
            self.said.ended.insert(position);
            self.said.erased.insert(position);
            let its = self.about_any(position);
            if let Some(hash) = its
                && self.word(&hash).is_some_and(|word| word.position == position)
            {
                self.said.words.insert(hash, None);
            }
        }
        Ok(Placed::New(here))
    }

    /// Voids what stands in an earlier log from a place on.
    fn void(&mut self, epoch: u32, from: u64) -> Result<Placed, Unpublishable> {
        let log = self.ledger.log(LogId { epoch, ..self.own }).filter(|_| epoch < self.own.epoch);
        let log = log.ok_or(Unpublishable::NotEarlier(epoch))?;
        if from >= log.size() {
            return Err(Unpublishable::NothingFrom(Position { epoch, index: from }));
        }
        let here = self.here();
        self.composer.push(Leaf { time: self.time, statement: Statement::Void(Void { epoch, from }) }, None);
        self.voids = true;
        Ok(Placed::New(here))
    }

    /// Which hash a statement is about, live or not.
    fn about_any(&self, position: Position) -> Option<ContentHash> {
        let batches = [&self.said, self.unshown];
        batches.iter().find_map(|batch| batch.about.get(&position)).copied().or_else(|| {
            match self.catalog.standing(LogId { epoch: position.epoch, ..self.own }, position.index) {
                Standing::Opened { hash, .. } => Some(hash),
                Standing::Unopened | Standing::Nothing => None,
            }
        })
    }

    /// Where the next leaf will stand.
    fn here(&self) -> Position {
        Position { epoch: self.own.epoch, index: self.composer.next() }
    }

    /// Whether a word that says the same makes a new one needless. One whose labels are not retained any longer does not.
    fn still_counts(&self, word: &Word) -> bool {
        let log = LogId { epoch: word.position.epoch, ..self.own };
        let said =
            Said { log, index: word.position.index, time: word.time, attributes: &word.attributes, settled: false };
        matches!(word.attributes, Attributes::Dispute { .. }) || effect(&said, self.charter, self.now).is_some()
    }

    /// Which hash the live statement at a place is about; `None` where its opening is missing.
    fn about(&self, position: Position) -> Result<Option<ContentHash>, Unpublishable> {
        let batches = [&self.said, self.unshown];
        if batches.iter().any(|batch| batch.ended.contains(&position)) {
            return Err(Unpublishable::Ended(position));
        }
        if let Some(hash) = batches.iter().find_map(|batch| batch.about.get(&position)) {
            return Ok(Some(*hash));
        }
        match self.catalog.standing(LogId { epoch: position.epoch, ..self.own }, position.index) {
            Standing::Opened { hash, live: true } => Ok(Some(hash)),
            Standing::Opened { live: false, .. } => Err(Unpublishable::Ended(position)),
            Standing::Unopened => Ok(None),
            Standing::Nothing => Err(Unpublishable::NoPosition(position)),
        }
    }

    /// The member's word on a hash, shown by the catalog or not yet.
    fn word(&self, hash: &ContentHash) -> Option<Word> {
        if let Some(word) = self.said.words.get(hash).or_else(|| self.unshown.words.get(hash)) {
            return word.clone();
        }
        let said = self.catalog.word_of(self.own.member, self.catalog.find(hash)?)?;
        Some(Word { position: said.position(), time: said.time, attributes: said.attributes.clone() })
    }
}
