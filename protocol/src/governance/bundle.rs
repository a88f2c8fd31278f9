//! A proposal with everything that a governance key needs to know, on a machine without a node (SPEC 21.6).

use std::collections::BTreeSet;

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::Governance;
use super::tree::Held;
use crate::card::{Card, CardError};
use crate::charter::{Amendment, AmendmentError, Approval, Charter, CharterError, Motion, Role};
use crate::codec::{self, CodecError};
use crate::key::{PublicKey, Signature};
use crate::names::MemberId;
use crate::time::Timestamp;

/// The version of bundles that this software reads and writes.
const FORMAT: u64 = 1;

/// Longest bundle, in bytes: two charters, cards, and who has signed what.
pub const MAX_BUNDLE: usize = 8 * 1024 * 1024;

/// Most other proposals in a bundle.
const MAX_CANDIDATES: usize = super::bounds::MAX_OPEN;

/// A proposal, and what is known of the moment in which it is to be signed. Holding one proves that it may follow the charter that
/// it brings along, and that every signature in it holds. That this charter is in force, and since when, is the word of
/// the node that made it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    form: BundleForm,
    parent: Charter,
    proposed: Charter,
    cards: Vec<Card>,
    candidates: Vec<(Motion, BTreeSet<MemberId>)>,
}

#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
struct BundleForm {
    format: u64,
    #[serde(with = "serde_bytes")]
    parent: Vec<u8>,
    since: Timestamp,
    used: Vec<PublicKey>,
    #[serde(with = "serde_bytes")]
    proposed: Vec<u8>,
    cards: Vec<serde_bytes::ByteBuf>,
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_CANDIDATES>")]
    candidates: Vec<Candidate>,
}

/// Another charter that follows the same one, or the proposed one itself, and who has voted for it.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Candidate {
    /// Which.
    pub motion: Motion,
    /// The votes.
    pub votes: Vec<(MemberId, Signature)>,
}

/// Why something is no bundle.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BundleError {
    /// Not canonical bytes of one.
    #[error("not a proposal")]
    Codec(#[from] CodecError),
    /// Written by newer software.
    #[error("a proposal of format {0}, which is not known here")]
    Format(u64),
    /// A charter in it.
    #[error("a charter in it is not valid")]
    Charter(#[from] CharterError),
    /// A card in it.
    #[error("a card in it is not valid")]
    Card(#[from] CardError),
    /// What is proposed cannot follow.
    #[error("what is proposed cannot follow the charter in force")]
    Amendment(#[from] AmendmentError),
    /// A vote in it that is none.
    #[error("a vote of {0} in it does not hold")]
    Vote(MemberId),
}

impl Bundle {
    /// Reads and verifies a bundle.
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        let form: BundleForm = codec::decode(bytes, MAX_BUNDLE)?;
        Self::open(form)
    }

    fn open(form: BundleForm) -> Result<Self, BundleError> {
        if form.format != FORMAT {
            return Err(BundleError::Format(form.format));
        }
        let (parent, proposed) = (Charter::read(&form.parent)?, Charter::read(&form.proposed)?);
        let mut used: BTreeSet<_> = form.used.iter().copied().collect();
        used.extend(parent.body().members.iter().map(|member| member.governance));
        Amendment::check(&parent, &proposed, &used)?;
        let cards = form.cards.iter().map(|card| Card::read(card)).collect::<Result<_, _>>()?;
        let mut candidates = Vec::new();
        for Candidate { motion, votes } in &form.candidates {
            let mut voters = BTreeSet::new();
            for (id, signature) in votes {
                let member = parent.member(*id).filter(|_| motion.previous == Some(parent.id()));
                let held = member.is_some_and(|m| motion.verify(parent.network(), &m.governance, signature).is_ok());
                if !held {
                    return Err(BundleError::Vote(*id));
                }
                voters.insert(*id);
            }
            candidates.push((*motion, voters));
        }
        Ok(Self { form, parent, proposed, cards, candidates })
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&self.form)
    }

    /// The charter in force, by the word of the node that made the bundle.
    pub fn parent(&self) -> &Charter {
        &self.parent
    }

    /// Since when it has been in force there.
    pub fn since(&self) -> Timestamp {
        self.form.since
    }

    /// What is to be signed.
    pub fn proposed(&self) -> &Charter {
        &self.proposed
    }

    /// The cards that it names.
    pub fn cards(&self) -> &[Card] {
        &self.cards
    }

    /// What it changes.
    pub fn amendment(&self) -> Amendment<'_> {
        Amendment::checked(&self.parent, &self.proposed)
    }

    /// What has been proposed to follow the same charter, and who has voted for each.
    pub fn candidates(&self) -> impl Iterator<Item = (&Motion, &BTreeSet<MemberId>)> {
        self.candidates.iter().map(|(motion, votes)| (motion, votes))
    }
}

impl Governance {
    /// A bundle for a charter that could follow the one in force: one that is held, or one that nobody has signed yet, with the
    /// cards that it names. `since` is when this node has adopted the charter in force.
    pub fn bundle(&self, proposed: &Charter, cards: &[Card], since: Timestamp) -> Result<Bundle, BundleError> {
        let tip = self.tip();
        let named = self.tree.get(proposed.id()).map(|held| self.document(held)).unwrap_or_default();
        let known = named.into_iter().flat_map(|document| match document {
            super::Document::Charter { cards, .. } => cards,
            super::Document::Card(card) => vec![*card],
            _ => Vec::new(),
        });
        let mut cards: Vec<Card> = cards.iter().cloned().chain(known).collect();
        cards.sort_by_key(|card| (card.body().member, card.body().counter, card.id()));
        cards.dedup_by_key(|card| card.id());
        let children = self.tree.iter().map(|(_, held)| held).filter(|h| h.charter.body().previous == Some(tip.id()));
        // Of more than fit, those with the most votes say most.
        let mut candidates: Vec<Candidate> = children.map(candidate).collect();
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.votes.len()));
        candidates.truncate(MAX_CANDIDATES);
        Bundle::open(BundleForm {
            format: FORMAT,
            parent: tip.bytes().to_vec(),
            since,
            used: self.tree.governance(tip.id()).into_keys().collect(),
            proposed: proposed.bytes().to_vec(),
            cards: cards.iter().map(|card| serde_bytes::ByteBuf::from(card.bytes())).collect(),
            candidates,
        })
    }
}

fn candidate(held: &Held) -> Candidate {
    let vote = |((member, role), approval): (&(MemberId, Role), &Approval)| {
        (*role == Role::Vote).then_some((*member, approval.signature))
    };
    Candidate { motion: held.charter.motion(), votes: held.voices.iter().filter_map(vote).collect() }
}
