//! What governance is made of, as it is gossiped, stored and served: one form for all of it (SPEC 21.2).

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::address::{Addresses, AddressesError, MAX_ADDRESSES};
use super::double_vote::{DoubleVote, MAX_DOUBLE_VOTE};
use super::withdrawal::{MAX_WITHDRAWAL, Withdrawal};
use crate::card::{Card, CardError, MAX_CARD};
use crate::charter::{Approval, Charter, CharterError, MAX_CHARTER, MAX_MEMBERS};
use crate::codec::{self, CodecError};
use crate::digest::Digest;

/// Longest document, in bytes: it fits a frame (SPEC 13.3).
pub const MAX_DOCUMENT: usize = 1024 * 1024;

/// Most cards that travel with a charter; what has no room there travels by itself.
const MAX_CARDS: usize = 256;

const CHARTER: u64 = 1;
const APPROVAL: u64 = 2;
const CARD: u64 = 3;
const DOUBLE_VOTE: u64 = 4;
const ADDRESSES: u64 = 5;
const WITHDRAWAL: u64 = 6;

/// A document of governance. Signatures on charters are not verified yet: only the federation knows the keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Document {
    /// A charter, proposed or adopted, with signatures and the cards that it names.
    Charter {
        /// The charter.
        charter: Box<Charter>,
        /// Signatures on it.
        approvals: Vec<Approval>,
        /// Cards that it names, and those between them and what is known without it.
        cards: Vec<Card>,
    },
    /// One signature on a charter.
    Approval(Approval),
    /// A card.
    Card(Box<Card>),
    /// Proof that a member has signed two charters of which one may be signed.
    DoubleVote(Box<DoubleVote>),
    /// Where a node can be reached.
    Addresses(Box<Addresses>),
    /// That a member has thought better of its vote.
    Withdrawal(Withdrawal),
}

/// Why bytes are no document.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DocumentError {
    /// Not canonical bytes of one.
    #[error("not a document of governance")]
    Codec(#[from] CodecError),
    /// Written by newer software.
    #[error("a document of a kind that is not known here")]
    Kind,
    /// The charter in it.
    #[error("the charter in it is not valid")]
    Charter(#[from] CharterError),
    /// A card in it.
    #[error("a card in it is not valid")]
    Card(#[from] CardError),
    /// The addresses in it.
    #[error(transparent)]
    Addresses(#[from] AddressesError),
}

impl DocumentError {
    /// Whether newer software may have written it.
    pub fn is_from_the_future(&self) -> bool {
        matches!(self, Self::Kind | Self::Charter(CharterError::Format(_)) | Self::Card(CardError::Format(_)))
    }
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct CharterForm {
    kind: u64,
    #[serde(with = "serde_bytes")]
    charter: Vec<u8>,
    #[serde(deserialize_with = "codec::at_most::<_, _, { 2 * MAX_MEMBERS }>")]
    approvals: Vec<Approval>,
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_CARDS>")]
    cards: Vec<serde_bytes::ByteBuf>,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct ApprovalForm {
    kind: u64,
    approval: Approval,
}

/// A card, a proof or addresses: bytes that were signed as they are.
#[derive(Deserialize_tuple, Serialize_tuple)]
struct BytesForm {
    kind: u64,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

impl Document {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Charter { charter, approvals, cards } => codec::encode(&CharterForm {
                kind: CHARTER,
                charter: charter.bytes().to_vec(),
                approvals: approvals.clone(),
                cards: cards.iter().map(|card| serde_bytes::ByteBuf::from(card.bytes())).collect(),
            }),
            Self::Approval(approval) => codec::encode(&ApprovalForm { kind: APPROVAL, approval: approval.clone() }),
            Self::Card(card) => codec::encode(&BytesForm { kind: CARD, bytes: card.bytes().to_vec() }),
            Self::DoubleVote(proof) => codec::encode(&BytesForm { kind: DOUBLE_VOTE, bytes: codec::encode(&**proof) }),
            Self::Withdrawal(withdrawal) => {
                codec::encode(&BytesForm { kind: WITHDRAWAL, bytes: codec::encode(withdrawal) })
            }
            Self::Addresses(record) => codec::encode(&BytesForm { kind: ADDRESSES, bytes: record.bytes() }),
        }
    }

    /// Reads a document of at most [`MAX_DOCUMENT`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DocumentError> {
        codec::scan(bytes, MAX_DOCUMENT)?;
        match codec::leading_integers(bytes) {
            Some((_, [CHARTER])) => {
                let form: CharterForm = codec::decode(bytes, MAX_DOCUMENT)?;
                if form.charter.len() > MAX_CHARTER {
                    return Err(CodecError::TooLong { len: form.charter.len(), max: MAX_CHARTER }.into());
                }
                let cards = form.cards.iter().map(|card| Card::read(card)).collect::<Result<_, _>>()?;
                let charter = Box::new(Charter::read(&form.charter)?);
                Ok(Self::Charter { charter, approvals: form.approvals, cards })
            }
            Some((_, [APPROVAL])) => Ok(Self::Approval(codec::decode::<ApprovalForm>(bytes, 1024)?.approval)),
            Some((_, [CARD])) => {
                let form: BytesForm = codec::decode(bytes, MAX_CARD + 16)?;
                Ok(Self::Card(Box::new(Card::read(&form.bytes)?)))
            }
            Some((_, [DOUBLE_VOTE])) => {
                let form: BytesForm = codec::decode(bytes, MAX_DOUBLE_VOTE + 16)?;
                Ok(Self::DoubleVote(Box::new(codec::decode(&form.bytes, MAX_DOUBLE_VOTE)?)))
            }
            Some((_, [WITHDRAWAL])) => {
                let form: BytesForm = codec::decode(bytes, MAX_WITHDRAWAL + 16)?;
                Ok(Self::Withdrawal(codec::decode(&form.bytes, MAX_WITHDRAWAL)?))
            }
            Some((_, [ADDRESSES])) => {
                let form: BytesForm = codec::decode(bytes, MAX_ADDRESSES + 16)?;
                Ok(Self::Addresses(Box::new(Addresses::read(&form.bytes)?)))
            }
            _ => Err(DocumentError::Kind),
        }
    }

    /// Its id: of its bytes, so that the same document counts once wherever it comes from.
    pub fn id(&self) -> Digest {
        Digest::of(&[b"hashmesh/document/v1", &[0], &self.encode()])
    }

    /// A charter with what travels with it, split where it would be too long: the charter first, then cards that have no room.
    pub(super) fn of_charter(charter: &Charter, approvals: Vec<Approval>, cards: Vec<Card>) -> Vec<Self> {
        // What is left of a document of the largest charter with all its signatures.
        let room = MAX_DOCUMENT.saturating_sub(charter.bytes().len() + approvals.len() * 140 + 1024);
        let mut used = 0;
        let (mut with, mut alone) = (Vec::new(), Vec::new());
        for card in cards {
            used += card.bytes().len() + 8;
            if used <= room && with.len() < MAX_CARDS {
                with.push(card);
            } else {
                alone.push(Self::Card(Box::new(card)));
            }
        }
        let mut documents = vec![Self::Charter { charter: Box::new(charter.clone()), approvals, cards: with }];
        documents.extend(alone);
        documents
    }
}
