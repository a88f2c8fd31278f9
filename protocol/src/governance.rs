//! Governance: which charter is in force, and which cards (SPEC 9, 10, 21).
//!
//! Membership is decided by a quorum of members, without a consensus protocol: two valid children of one charter are each the will
//! of more than two thirds, so which of them comes first is only a matter of order, and a fixed rule decides it. What that rule
//! cannot decide without taking back what nodes have acted on is a conflict, which a person settles. Everything here is a function of
//! documents, in whatever order they come, but for one thing: what was adopted, and has a child, is not taken back.
//!
//! Does not know the network, the disk, or the time. Whoever holds the private keys keeps to the rules of [`ballot`].

pub mod address;
pub mod ballot;
mod bounds;
pub mod bundle;
mod cards;
pub mod document;
pub mod double_vote;
mod health;
pub mod invitation;
mod keep;
pub mod stored;
pub mod summary;
mod tree;
pub mod withdrawal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use address::{Addresses, AddressesError};
pub use ballot::{Ballot, Vote, VoteRefusal};
pub use bundle::{Bundle, BundleError, Candidate};
pub use cards::CardRefusal;
pub use document::{Document, DocumentError, MAX_DOCUMENT};
pub use double_vote::{DoubleVote, DoubleVoteError};
pub use health::Health;
pub use invitation::{Host, Invitation};
pub use stored::Stored;
pub use summary::{Answer, Position, Summary};
pub use withdrawal::Withdrawal;

use crate::card::{Card, CardBody};
use crate::charter::{AmendmentError, Approval, Charter, Genesis, Tally, Witnesses};
use crate::digest::{CardId, CharterId, NetworkId};
use crate::federation::{Federation, Line};
use crate::key::PublicKey;
use crate::names::MemberId;
use cards::Cards;
use tree::{Held, Tree};

/// The charters and cards that a node holds, and which of them are in force.
#[derive(Clone, Debug)]
pub struct Governance {
    network: NetworkId,
    tree: Tree,
    /// The charters that were adopted, version 0 first. Never empty.
    adopted: Vec<CharterId>,
    cards: BTreeMap<MemberId, Cards>,
    double_votes: BTreeMap<MemberId, DoubleVote>,
    /// Votes on proposals that their members have thought better of.
    withdrawn: BTreeMap<(CharterId, MemberId), Withdrawal>,
    /// Where nodes can be reached that are on cards in force.
    addresses: BTreeMap<PublicKey, Addresses>,
    pins: BTreeSet<CharterId>,
    conflict: Option<Conflict>,
    /// The governance keys of all charters up to the one of `federation`.
    keys: BTreeMap<PublicKey, MemberId>,
    federation: Arc<Federation>,
}

/// There are two histories that nodes have acted on. Adoption stands still until somebody chooses; matching goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// The first version about which the two differ.
    pub version: u64,
    /// The end of the chain that was adopted.
    pub ours: CharterId,
    /// The end of the best other one.
    pub theirs: CharterId,
}

/// What came of a document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Taken {
    /// Nothing: it was known.
    Known,
    /// It is new and kept: store it, pass it on.
    Kept,
    /// It is new, and another charter is in force now.
    Adopted(CharterId),
    /// It is new, and what holds of this member's cards is something else now.
    Card(MemberId),
    /// It is new, and this member's cards are disputed.
    Rivals(MemberId),
    /// It is new, and proves that this member voted twice.
    DoubleVote(MemberId),
    /// It is new: a node can be reached elsewhere.
    Moved(PublicKey),
    /// It is new, and adoption stands still until somebody chooses.
    Conflict(Conflict),
}

impl Taken {
    /// Whether the document was not known before.
    pub fn is_new(&self) -> bool {
        *self != Self::Known
    }
}

/// Why a document is not kept.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GovernanceError {
    /// What it follows is not here: it may be on its way.
    #[error("the charter before it, or the charter that it is about, is not here")]
    Unconnected,
    /// A proposal for a version that has long been decided.
    #[error("a proposal for version {0}, which has been decided")]
    Stale(u64),
    /// A proposal that no member has signed.
    #[error("no member has signed the proposal")]
    Unsigned,
    /// More proposals than are kept, or more by one member.
    #[error("too many proposals")]
    TooMany,
    /// It cannot follow, or a signature on it does not hold.
    #[error(transparent)]
    Amendment(#[from] AmendmentError),
    /// A card of somebody who is in no charter here, or with a governance key that is in none.
    #[error("the card is not of a member, or not by its governance key")]
    NoMembersCard,
    /// A card that cannot be kept.
    #[error(transparent)]
    Card(#[from] CardRefusal),
    /// No proof.
    #[error(transparent)]
    DoubleVote(#[from] DoubleVoteError),
    /// Addresses of a node that is on no card in force.
    #[error("the node is on no member's card")]
    NoMembersNode,
    /// Addresses of another federation.
    #[error("addresses of another federation")]
    OtherNetwork,
    /// A flag day has passed for this software.
    #[error(
        "the charter in force wants protocol {0} at least, this software speaks an older one: install a newer version"
    )]
    TooOld(u32),
    /// The charter to be chosen is not held, or not valid.
    #[error("no valid charter with this id is here")]
    NoSuchCharter,
}

impl GovernanceError {
    /// Whether an honest node would not have handed it over.
    pub fn is_relayers_fault(&self) -> bool {
        match self {
            Self::TooOld(_)
            | Self::Unconnected
            | Self::Stale(_)
            | Self::TooMany
            | Self::NoMembersCard
            | Self::NoMembersNode
            | Self::NoSuchCharter => false,
            Self::Card(refusal) => matches!(refusal, CardRefusal::Succession(_)),
            Self::DoubleVote(error) => !matches!(error, DoubleVoteError::Stranger(_)),
            Self::Unsigned | Self::Amendment(_) | Self::OtherNetwork => true,
        }
    }
}

/// A proposal, as people see it.
#[derive(Clone, Debug)]
pub struct Proposal<'a> {
    /// What is proposed.
    pub charter: &'a Charter,
    /// The signatures on it.
    pub approvals: Vec<&'a Approval>,
    /// Who has signed, and what is missing.
    pub tally: Tally,
    /// Who has thought better of it.
    pub withdrawn: Vec<MemberId>,
    /// Cards that it names and that are not here, or do not fit what it says.
    pub cards_missing: Vec<(MemberId, CardId)>,
    /// Whether it would follow the charter in force.
    pub follows_the_tip: bool,
}

impl Governance {
    /// A federation at its beginning.
    pub fn new(genesis: &Genesis) -> Self {
        let (tree, mut cards) = (Tree::new(genesis), BTreeMap::<MemberId, Cards>::new());
        for (member, card) in genesis.cards() {
            cards.entry(*member).or_default().insert_named(card.clone());
        }
        Self {
            network: genesis.charter().network(),
            keys: tree.governance(genesis.charter().id()),
            tree,
            adopted: vec![genesis.charter().id()],
            cards,
            double_votes: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            addresses: BTreeMap::new(),
            pins: BTreeSet::new(),
            conflict: None,
            federation: Arc::new(Federation::new(genesis)),
        }
    }

    /// A federation as it was stored: its documents in any order, the charter that was in force, what was chosen. Documents that
    /// do not hold are handed back.
    pub fn load(
        genesis: &Genesis,
        documents: impl IntoIterator<Item = Document>,
        tip: Option<CharterId>,
        pins: impl IntoIterator<Item = CharterId>,
    ) -> (Self, Vec<(Document, GovernanceError)>) {
        let mut governance = Self::new(genesis);
        governance.pins.extend(pins);
        let is_address = |document: &Document| matches!(document, Document::Addresses(_));
        let (addresses, mut waiting): (Vec<_>, Vec<_>) = documents.into_iter().partition(is_address);
        let mut refused = Vec::new();
        loop {
            let before = waiting.len();
            for document in std::mem::take(&mut waiting) {
                match governance.keep(document.clone()) {
                    Ok(_) => governance.validate(),
                    // What it follows may come after it.
                    Err(error) if !error.is_relayers_fault() => {
                        waiting.push(document.clone());
                        refused.push((document, error));
                    }
                    Err(error) => refused.push((document, error)),
                }
            }
            if waiting.len() == before || waiting.is_empty() {
                break;
            }
            refused.retain(|(_, error)| error.is_relayers_fault());
        }
        // What was in force is in force again, whatever else is held; anything else would make a restart decide a conflict.
        if let Some(tip) = tip.filter(|tip| governance.tree.get(*tip).is_some_and(|held| held.valid)) {
            governance.adopted = governance.tree.chain(tip);
        }
        governance.adopt();
        governance.derive();
        // Whose they are the cards in force say.
        for document in addresses {
            if let Err(error) = governance.keep(document.clone()) {
                refused.push((document, error));
            }
        }
        (governance, refused)
    }

    /// Takes a document in.
    pub fn take(&mut self, document: Document) -> Result<Taken, GovernanceError> {
        let (tip, conflict) = (self.tip().id(), self.conflict);
        let Some(what) = self.keep(document)? else { return Ok(Taken::Known) };
        self.validate();
        self.adopt();
        let disputed = self.is_disputed(&what);
        let before = Arc::clone(&self.federation);
        if self.tip().id() != tip || matches!(what, New::Card(_) | New::Charter { cards: true }) {
            self.derive();
        }
        self.prune();
        if let Some(conflict) = self.conflict.filter(|now| conflict != Some(*now)) {
            return Ok(Taken::Conflict(conflict));
        }
        if self.tip().id() != tip {
            return Ok(Taken::Adopted(self.tip().id()));
        }
        Ok(match what {
            New::Card(member) if !disputed && self.is_disputed(&New::Card(member)) => Taken::Rivals(member),
            New::Card(member) if before.line(member) != self.federation.line(member) => Taken::Card(member),
            New::DoubleVote(member) => Taken::DoubleVote(member),
            New::Addresses(node) => Taken::Moved(node),
            New::Card(_) | New::Charter { .. } | New::Withdrawal => Taken::Kept,
        })
    }

    /// Takes a charter in, with signatures and cards.
    pub fn take_charter(
        &mut self,
        charter: Charter,
        approvals: Vec<Approval>,
        cards: Vec<Card>,
    ) -> Result<Taken, GovernanceError> {
        self.take(Document::Charter { charter: Box::new(charter), approvals, cards })
    }

    /// Takes a signature in.
    pub fn take_approval(&mut self, approval: Approval) -> Result<Taken, GovernanceError> {
        self.take(Document::Approval(approval))
    }

    /// Takes a card in.
    pub fn take_card(&mut self, card: Card) -> Result<Taken, GovernanceError> {
        self.take(Document::Card(Box::new(card)))
    }

    /// Goes on from a charter that a person has chosen: it, and what leads to it, is in force from now on whatever else is
    /// valid. It ends a conflict about that charter. The choice must be made durable ([`pins`](Self::pins)).
    pub fn choose(&mut self, id: CharterId) -> Result<Taken, GovernanceError> {
        if !self.tree.get(id).is_some_and(|held| held.valid) {
            return Err(GovernanceError::NoSuchCharter);
        }
        let tip = self.tip().id();
        let chain = self.tree.chain(id);
        let leads_here = |pin: &CharterId| chain.contains(pin) || self.tree.chain(*pin).contains(&id);
        self.pins = self.pins.iter().copied().filter(leads_here).collect();
        self.pins.insert(id);
        self.conflict = None;
        let chains = self.tree.chains(&self.pins);
        self.adopted = self.tree.best(chains.clone()).unwrap_or(chain);
        // What both histories have in common decides nothing between them.
        self.look_for_conflict(&chains);
        self.derive();
        Ok(match self.conflict {
            Some(conflict) => Taken::Conflict(conflict),
            None if self.tip().id() == tip => Taken::Known,
            None => Taken::Adopted(self.tip().id()),
        })
    }

    /// From now on only chains that contain this charter count, as soon as it is valid here: a recent one, from an
    /// invitation, so that old keys cannot found another history (SPEC 21.5).
    pub fn must_contain(&mut self, id: CharterId) {
        self.pins.insert(id);
        self.adopt();
        self.derive();
    }

    /// What was pinned and chosen, to be stored.
    pub fn pins(&self) -> &BTreeSet<CharterId> {
        &self.pins
    }

    /// Whether everything that was pinned is in the chain: until then the node does not know where the federation stands.
    pub fn has_joined(&self) -> bool {
        self.pins.iter().all(|pin| self.adopted.contains(pin))
    }

    /// The federation as it stands.
    pub fn federation(&self) -> Arc<Federation> {
        Arc::clone(&self.federation)
    }

    /// The charter in force.
    pub fn tip(&self) -> &Charter {
        &self.held(self.tip_id()).charter
    }

    fn tip_id(&self) -> CharterId {
        *self.adopted.last().expect("version 0 is always adopted")
    }

    fn held(&self, id: CharterId) -> &Held {
        self.tree.get(id).expect("adopted charters are held")
    }

    /// The charters that were adopted, version 0 first, with the signatures on them.
    pub fn charters(&self) -> impl DoubleEndedIterator<Item = (&Charter, Vec<&Approval>)> {
        self.adopted.iter().map(|id| self.held(*id)).map(|held| (&held.charter, held.voices.values().collect()))
    }

    /// A charter that is held, adopted or not.
    pub fn charter(&self, id: CharterId) -> Option<&Charter> {
        self.tree.get(id).map(|held| &held.charter)
    }

    /// Whether the charter in force may still be displaced, once, by a better one with the same parent: it has no child.
    /// True of every tip but version 0.
    pub fn is_provisional(&self) -> bool {
        self.adopted.len() > 1
    }

    /// The proposals, and valid charters that were not adopted.
    pub fn proposals(&self) -> impl Iterator<Item = Proposal<'_>> {
        self.aside().filter_map(|(_, held)| self.proposal_of(held))
    }

    /// What is held and was not adopted.
    fn aside(&self) -> impl Iterator<Item = (CharterId, &Held)> {
        let adopted: BTreeSet<_> = self.adopted.iter().copied().collect();
        self.tree.iter().filter(move |(id, _)| !adopted.contains(id))
    }

    /// One of them, or an adopted one.
    pub fn proposal(&self, id: CharterId) -> Option<Proposal<'_>> {
        self.proposal_of(self.tree.get(id)?)
    }

    fn proposal_of<'a>(&'a self, held: &'a Held) -> Option<Proposal<'a>> {
        Some(Proposal {
            charter: &held.charter,
            approvals: held.voices.values().collect(),
            tally: self.tree.tally(held)?,
            withdrawn: self.withdrawn_of(held.charter.id()),
            cards_missing: self.cards_missing(held),
            follows_the_tip: held.charter.body().previous == Some(self.tip_id()),
        })
    }

    fn withdrawn_of(&self, id: CharterId) -> Vec<MemberId> {
        self.withdrawn.keys().filter(|(charter, _)| *charter == id).map(|(_, member)| *member).collect()
    }

    /// All cards that are held, rivals too.
    pub fn cards(&self) -> impl Iterator<Item = &Card> {
        self.cards.values().flat_map(Cards::iter)
    }

    /// A card that is held.
    pub fn card(&self, member: MemberId, id: CardId) -> Option<&Card> {
        self.cards.get(&member)?.get(id)
    }

    /// The conflict that somebody must settle.
    pub fn conflict(&self) -> Option<Conflict> {
        self.conflict
    }

    /// Members that are known to have voted twice.
    pub fn double_votes(&self) -> &BTreeMap<MemberId, DoubleVote> {
        &self.double_votes
    }

    /// Where the members' nodes can be reached, by their own word.
    pub fn addresses(&self) -> impl Iterator<Item = &Addresses> {
        self.addresses.values()
    }

    /// Who uses its governance key.
    pub fn health(&self) -> Health {
        let tip = self.tip().body();
        let mut signed: BTreeMap<_, _> = tip.members.iter().map(|member| (member.id, None)).collect();
        for (charter, approvals) in self.charters() {
            for approval in approvals {
                if let Some(last) = signed.get_mut(&approval.member) {
                    *last = Some(charter.body().version);
                }
            }
        }
        Health { version: tip.version, threshold: self.tip().threshold(), signed }
    }

    /// Everything that is held, to be stored or exported: charters in the order of their versions, then what is loose.
    pub fn documents(&self) -> Vec<Document> {
        let mut held: Vec<_> = self.tree.iter().map(|(_, held)| held).collect();
        held.sort_by_key(|held| (held.charter.body().version, held.charter.id()));
        let charters = held.into_iter().filter(|held| held.charter.body().version > 0);
        let mut documents: Vec<_> = charters.flat_map(|held| self.document(held)).collect();
        let mut cards: Vec<_> = self.cards().collect();
        cards.sort_by_key(|card| (card.body().member, card.body().counter, card.id()));
        documents.extend(cards.into_iter().map(|card| Document::Card(Box::new(card.clone()))));
        documents.extend(self.double_votes.values().map(|proof| Document::DoubleVote(Box::new(proof.clone()))));
        documents.extend(self.withdrawn.values().cloned().map(Document::Withdrawal));
        documents.extend(self.addresses.values().map(|record| Document::Addresses(Box::new(record.clone()))));
        documents
    }

    /// A charter that is held, with its signatures and the cards that it names.
    pub fn documents_of(&self, id: CharterId) -> Option<Vec<Document>> {
        Some(self.document(self.tree.get(id)?))
    }

    /// A charter with its signatures and with the cards that it names.
    fn document(&self, held: &Held) -> Vec<Document> {
        let named = self.named(held).into_iter().filter_map(|(member, id)| self.cards.get(&member)?.line_to(id));
        Document::of_charter(&held.charter, held.voices.values().cloned().collect(), named.flatten().collect())
    }

    /// The cards that a charter names and the one before it did not.
    fn named(&self, held: &Held) -> Vec<(MemberId, CardId)> {
        let Some(amendment) = self.tree.amendment(held) else { return Vec::new() };
        let carded = amendment.carded().map(|member| (member.id, member.card));
        carded.chain(amendment.departing().map(|departed| (departed.id, departed.card))).collect()
    }

    fn cards_missing(&self, held: &Held) -> Vec<(MemberId, CardId)> {
        let parent = self.tree.parent(held).map(|parent| &parent.charter);
        let is_missing = |(member, id): &(MemberId, CardId)| !self.fits(parent, &held.charter, *member, *id);
        self.named(held).into_iter().filter(is_missing).collect()
    }

    /// Whether a card that a charter names is here, with all before it, and is what the charter says it is.
    fn fits(&self, parent: Option<&Charter>, charter: &Charter, member: MemberId, id: CardId) -> bool {
        let Some(cards) = self.cards.get(&member) else { return false };
        let Some(line) = cards.line_to(id) else { return false };
        if !line.windows(2).all(|pair| pair[1].follows(&pair[0], self.network).is_ok()) {
            return false;
        }
        let first = line.first().map(Card::id);
        match (parent.and_then(|parent| parent.member(member)), charter.member(member)) {
            // A member's line goes on from where it began.
            (Some(before), _) => cards.line_to(before.card).is_some_and(|line| line.first().map(Card::id) == first),
            (None, Some(entry)) => {
                line.len() == 1 && line.first().is_some_and(|card| is_application(card.body(), entry))
            }
            (None, None) => false,
        }
    }

    fn is_disputed(&self, what: &New) -> bool {
        let New::Card(member) = what else { return false };
        self.federation.line(*member).is_some_and(|line| !line.rivals.is_empty())
    }

    /// Marks what has all that it needs: signatures, cards, a valid charter before it.
    fn validate(&mut self) {
        loop {
            let is_valid = |held: &Held| {
                self.tree.parent(held).is_some_and(|parent| parent.valid)
                    && self.tree.tally(held).is_some_and(|tally| tally.is_complete())
                    && self.cards_missing(held).is_empty()
            };
            let now: Vec<_> = self.tree.open().filter(|(_, held)| is_valid(held)).map(|(id, _)| id).collect();
            if now.is_empty() {
                return;
            }
            for id in now {
                if let Some(held) = self.tree.get_mut(id) {
                    held.valid = true;
                }
                // It is no proposal any more. Who hears of the withdrawal only now does not keep it either.
                self.withdrawn.retain(|(charter, _), _| *charter != id);
            }
        }
    }

    /// Goes on to the best chain, unless there are two histories that are both final.
    fn adopt(&mut self) {
        let chains = self.tree.chains(&self.pins);
        if !self.tree.contains_pins(&self.adopted, &self.pins) {
            // A person has said that what was adopted is not the federation.
            self.adopted = self.tree.best(chains.clone()).unwrap_or_else(|| self.adopted.clone());
            self.conflict = None;
        }
        self.look_for_conflict(&chains);
        if self.conflict.is_none() {
            // This takes back a charter without a child at most.
            self.adopted = self.tree.best(chains.clone()).unwrap_or_else(|| self.adopted.clone());
            self.look_for_conflict(&chains);
        }
    }

    /// Two valid children of one charter that both have valid children: nodes have acted on either. It is raised whichever is
    /// the better one, so that both sides hear of it.
    fn look_for_conflict(&mut self, chains: &[Vec<CharterId>]) {
        if self.conflict.is_some() {
            return;
        }
        let common = |chain: &[CharterId]| self.adopted.iter().zip(chain).take_while(|(a, b)| a == b).count();
        let excludes = |chain: &&Vec<CharterId>| chain.len().min(self.adopted.len()) >= common(chain) + 2;
        let rival = self.tree.best(chains.iter().filter(excludes).cloned());
        self.conflict = rival.and_then(|rival| {
            Some(Conflict { version: common(&rival) as u64, ours: self.tip_id(), theirs: *rival.last()? })
        });
    }

    /// Derives the federation from charter and cards.
    fn derive(&mut self) {
        let tip = self.tip();
        let of = |member: MemberId, named, governance| {
            let line = self.cards.get(&member).map(|cards| cards.line(named, governance));
            (member, line.unwrap_or_default())
        };
        let members = tip.body().members.iter().map(|entry| of(entry.id, entry.card, Some(entry.governance)));
        let departed = tip.body().departed.iter().map(|entry| of(entry.id, entry.card, None));
        let lines: BTreeMap<MemberId, Line> = members.chain(departed).collect();
        let (tip, is_same) = (tip.clone(), tip.id() == self.federation.charter().id());
        if !is_same {
            self.keys = self.tree.governance(tip.id());
        }
        let mut sets: Vec<Witnesses> = Vec::new();
        for (charter, _) in self.charters() {
            let set = &charter.body().witnesses;
            if sets.last() != Some(set) {
                sets.push(set.clone());
            }
        }
        self.federation = Arc::new(Federation::of(tip, lines, &self.keys, sets));
        let federation = &self.federation;
        self.addresses.retain(|node, _| federation.nodes().contains_key(node));
    }
}

/// What is new in a document.
enum New {
    /// A charter, or signatures on one; and cards that it names, or none.
    Charter {
        cards: bool,
    },
    Card(MemberId),
    DoubleVote(MemberId),
    Addresses(PublicKey),
    Withdrawal,
}

/// Whether a first card says what the charter says.
fn is_application(card: &CardBody, entry: &crate::charter::Member) -> bool {
    let says = |application: &crate::card::Application| {
        application.name == entry.name && application.jurisdiction == entry.jurisdiction
    };
    card.governance == entry.governance && card.application.as_ref().is_some_and(says)
}

#[cfg(test)]
mod tests;
