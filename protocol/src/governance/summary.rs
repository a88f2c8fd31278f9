//! How two nodes find out what the other lacks, with little talk (SPEC 21.7).
//!
//! One digest says whether there is anything to talk about. Then who asks tells which charters it has adopted, sparsely, and a
//! digest of each of 256 parts of what else it holds; who answers sends what differs, so much at a time.

use std::collections::BTreeMap;

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::{Document, Governance};
use crate::charter::Role;
use crate::codec;
use crate::digest::{CharterId, Digest};

/// Parts that are compared one by one.
const PARTS: usize = 256;

/// Charters in a locator: enough for 2^64 versions.
const MAX_LOCATOR: usize = 72;

/// Where a node stands: what it says of itself with its heads.
#[derive(Clone, Copy, Debug, Default, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Position {
    /// The charter in force.
    pub tip: CharterId,
    /// Its version.
    pub version: u64,
    /// Over everything else that it holds. Nodes with the same one have nothing to tell each other.
    pub digest: Digest,
}

/// What a node holds, for somebody to answer with what it lacks. Encoded, about 5 KiB at most.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Summary {
    /// Adopted charters, the newest first, farther and farther apart; version 0 last.
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_LOCATOR>")]
    pub locator: Vec<CharterId>,
    /// The first bytes of the digest of each part of proposals, cards and proofs.
    #[serde(deserialize_with = "codec::at_most::<_, _, PARTS>")]
    pub parts: Vec<u64>,
}

/// Part of what somebody lacks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// Documents, to be taken in this order.
    pub documents: Vec<Document>,
    /// With this the next part is asked for; absent after the last one.
    pub next: Option<Digest>,
}

impl Governance {
    /// Where this node stands.
    pub fn position(&self) -> Position {
        let items = self.items();
        let ids: Vec<&[u8]> = items.keys().map(|id| &id.as_bytes()[..]).collect();
        Position { tip: self.tip().id(), version: self.tip().body().version, digest: Digest::of(&ids) }
    }

    /// What this node holds.
    pub fn summary(&self) -> Summary {
        let mut locator = Vec::new();
        let (mut at, mut step) = (self.adopted.len() - 1, 1);
        loop {
            locator.push(self.adopted[at]);
            if at == 0 {
                break;
            }
            at = at.saturating_sub(step);
            step *= if locator.len() < 4 { 1 } else { 2 };
        }
        Summary { locator, parts: self.parts() }
    }

    /// Some of what a node with this summary lacks, of at most so many bytes unless a single document has more. Charters come first, then
    /// what is loose after `after`.
    pub fn missing_for(&self, peer: &Summary, after: Option<Digest>, most: usize) -> Answer {
        let mut answer = Answer { documents: Vec::new(), next: None };
        let mut room = most;
        if after.is_none() && !self.tell_chain(peer, &mut room, &mut answer) {
            // The rest is about charters that the peer does not know yet.
            return answer;
        }
        let ours = self.parts();
        let differs = |id: &Digest| {
            let part = usize::from(id.as_bytes()[0]);
            peer.parts.get(part) != ours.get(part)
        };
        let mut last = after;
        for (id, documents) in self.items() {
            if after.is_some_and(|after| id <= after) || !differs(&id) {
                continue;
            }
            let documents = documents.build(self);
            if !fits(&documents, &mut room, answer.documents.is_empty()) {
                answer.next = Some(last.unwrap_or_default());
                return answer;
            }
            answer.documents.extend(documents);
            last = Some(id);
        }
        answer
    }

    /// Adopted charters after the newest that the peer has too. False if they have no room.
    fn tell_chain(&self, peer: &Summary, room: &mut usize, answer: &mut Answer) -> bool {
        let place = |id: &CharterId| self.adopted.iter().rposition(|ours| ours == id);
        let common = peer.locator.iter().filter_map(place).max().unwrap_or(0);
        for id in &self.adopted[common + 1..] {
            let documents = self.document(self.held(*id));
            if !fits(&documents, room, answer.documents.is_empty()) {
                return false;
            }
            answer.documents.extend(documents);
        }
        true
    }

    fn parts(&self) -> Vec<u64> {
        let mut parts = vec![Vec::new(); PARTS];
        for id in self.items().keys() {
            parts[usize::from(id.as_bytes()[0])].extend_from_slice(id.as_bytes());
        }
        let short = |part: Vec<u8>| {
            let bytes = Digest::of(&[&part]).0;
            bytes[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        parts.into_iter().map(|part| if part.is_empty() { 0 } else { short(part) }).collect()
    }

    /// What is held beside the adopted charters, each with an id that is the same wherever the same is held. Of signatures
    /// that is who has signed: a member can make many of one message.
    fn items(&self) -> BTreeMap<Digest, Item> {
        let mut items = BTreeMap::new();
        for (id, held) in self.aside() {
            let signers: Vec<_> = held.voices.keys().map(|(member, role)| (member, *role == Role::Vote)).collect();
            let digest = Digest::of(&[b"charter", &codec::encode(&(id, signers))]);
            items.insert(digest, Item::Charter(id));
        }
        for card in self.cards() {
            items.insert(card.id().0, Item::Card(card.body().member, card.id()));
        }
        for member in self.double_votes.keys() {
            items.insert(Digest::of(&[b"double vote", member.as_str().as_bytes()]), Item::DoubleVote(*member));
        }
        for (id, member) in self.withdrawn.keys() {
            let digest = Digest::of(&[b"withdrawal", &codec::encode(&(id, member))]);
            items.insert(digest, Item::Withdrawal(*id, *member));
        }
        for record in self.addresses.values() {
            items.insert(Digest::of(&[b"addresses", &record.bytes()]), Item::Addresses(record.body().node));
        }
        items
    }
}

/// Something that is held.
enum Item {
    Charter(CharterId),
    Card(crate::names::MemberId, crate::digest::CardId),
    DoubleVote(crate::names::MemberId),
    Addresses(crate::key::PublicKey),
    Withdrawal(CharterId, crate::names::MemberId),
}

impl Item {
    fn build(&self, governance: &Governance) -> Vec<Document> {
        match self {
            Self::Charter(id) => governance.tree.get(*id).map(|held| governance.document(held)).unwrap_or_default(),
            Self::Card(member, id) => {
                let card = governance.card(*member, *id).cloned();
                card.map(|card| Document::Card(Box::new(card))).into_iter().collect()
            }
            Self::DoubleVote(member) => {
                let proof = governance.double_votes.get(member).cloned();
                proof.map(|proof| Document::DoubleVote(Box::new(proof))).into_iter().collect()
            }
            Self::Withdrawal(id, member) => {
                let withdrawal = governance.withdrawn.get(&(*id, *member)).cloned();
                withdrawal.map(Document::Withdrawal).into_iter().collect()
            }
            Self::Addresses(node) => {
                let record = governance.addresses.get(node).cloned();
                record.map(|record| Document::Addresses(Box::new(record))).into_iter().collect()
            }
        }
    }
}

/// Whether documents have room; the first ones always have.
fn fits(documents: &[Document], room: &mut usize, are_first: bool) -> bool {
    let size: usize = documents.iter().map(|document| document.encode().len()).sum();
    if size > *room && !are_first {
        return false;
    }
    *room = room.saturating_sub(size);
    true
}
