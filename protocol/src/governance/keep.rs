//! What is kept of a document, once everything in it has been verified (SPEC 9.7, 10.10, 21.1, 21.2).
//!
//! Nothing here decides what is in force.

use std::collections::{BTreeMap, BTreeSet};

use super::bounds::MAX_ASIDE;
use super::tree::Held;
use super::{
    Addresses, CardRefusal, Document, DoubleVote, DoubleVoteError, Governance, GovernanceError, New, Withdrawal,
};
use crate::card::Card;
use crate::charter::{Amendment, AmendmentError, Approval, Charter, Role};
use crate::digest::{CardId, CharterId};
use crate::key::PublicKey;
use crate::names::MemberId;

impl Governance {
    /// Keeps a document, if it holds; `None` if there is nothing new in it.
    pub(super) fn keep(&mut self, document: Document) -> Result<Option<New>, GovernanceError> {
        match document {
            Document::Charter { charter, approvals, cards } => self.keep_charter(*charter, approvals, cards),
            Document::Approval(approval) => {
                let held = self.tree.get(approval.charter).ok_or(GovernanceError::Unconnected)?;
                let role = self.voice(held, &approval)?;
                Ok(self.add_voices(approval.charter, vec![(role, approval)]).then_some(New::Charter { cards: false }))
            }
            Document::Card(card) => self.keep_card(*card),
            Document::DoubleVote(proof) => self.keep_double_vote(*proof),
            Document::Addresses(record) => self.keep_addresses(*record),
            Document::Withdrawal(withdrawal) => self.keep_withdrawal(withdrawal),
        }
    }

    fn keep_charter(
        &mut self,
        charter: Charter,
        approvals: Vec<Approval>,
        cards: Vec<Card>,
    ) -> Result<Option<New>, GovernanceError> {
        let id = charter.id();
        let mut new = false;
        if let Some(held) = self.tree.get(id) {
            let voices = self.voices(held, approvals)?;
            new |= self.add_voices(id, voices);
        } else {
            let version = charter.body().version;
            let parent = charter.body().previous.and_then(|parent| self.tree.get(parent));
            let parent = parent.filter(|parent| parent.valid).ok_or(GovernanceError::Unconnected)?;
            let used: BTreeSet<PublicKey> = self.tree.governance(parent.charter.id()).into_keys().collect();
            let amendment = Amendment::check(&parent.charter, &charter, &used)?;
            let mut voices = Vec::new();
            for approval in approvals {
                voices.push((amendment.role(&approval)?, approval));
            }
            let tally = amendment.tally(voices.iter().map(|(role, approval)| (approval.member, *role)));
            if tally.votes.is_empty() {
                return Err(GovernanceError::Unsigned);
            }
            let is_quorate = tally.votes.len() >= tally.threshold;
            if !is_quorate && version < self.tip().body().version {
                return Err(GovernanceError::Stale(version));
            }
            if is_quorate && self.valid_aside() >= MAX_ASIDE {
                return Err(GovernanceError::TooMany);
            }
            self.tree.insert(charter);
            self.add_voices(id, voices);
            if !is_quorate && self.surplus().contains(&id) {
                self.tree.remove(id);
                return Err(GovernanceError::TooMany);
            }
            new = true;
        }
        let cards = self.keep_named(id, cards);
        Ok((new || cards).then_some(New::Charter { cards }))
    }

    /// Keeps the cards that come with a charter: those that it names, and those before them.
    fn keep_named(&mut self, id: CharterId, cards: Vec<Card>) -> bool {
        let mut wanted: BTreeSet<(MemberId, CardId)> = self.named(self.held(id)).into_iter().collect();
        let mut by_id: BTreeMap<_, _> = cards.into_iter().map(|card| ((card.body().member, card.id()), card)).collect();
        let mut new = false;
        while let Some((member, id)) = wanted.pop_first() {
            let Some(card) = by_id.remove(&(member, id)) else { continue };
            wanted.extend(card.body().previous.map(|before| (member, before)));
            let cards = self.cards.entry(member).or_default();
            if !cards.contains(id) {
                cards.insert_named(card);
                new = true;
            }
        }
        new
    }

    /// The signatures on a charter that is held which are new, each verified. One that does not hold spoils all.
    fn voices(&self, held: &Held, approvals: Vec<Approval>) -> Result<Vec<(Role, Approval)>, GovernanceError> {
        approvals.into_iter().map(|approval| Ok((self.voice(held, &approval)?, approval))).collect()
    }

    fn voice(&self, held: &Held, approval: &Approval) -> Result<Role, GovernanceError> {
        if let Some(((_, role), _)) = held.voices.iter().find(|(_, known)| *known == approval) {
            return Ok(*role);
        }
        let amendment = self.tree.amendment(held).ok_or(AmendmentError::OtherParent)?;
        Ok(amendment.role(approval)?)
    }

    fn add_voices(&mut self, id: CharterId, voices: Vec<(Role, Approval)>) -> bool {
        let mut new = false;
        for (role, approval) in voices {
            let Some(held) = self.tree.get_mut(id) else { return new };
            // A member can make many signatures of one message; the first one counts.
            if held.voices.contains_key(&(approval.member, role)) {
                continue;
            }
            held.voices.insert((approval.member, role), approval.clone());
            new = true;
            if role == Role::Vote {
                self.look_for_double_vote(id, &approval);
            }
        }
        new
    }

    fn look_for_double_vote(&mut self, id: CharterId, approval: &Approval) {
        let member = approval.member;
        if self.double_votes.contains_key(&member) {
            return;
        }
        let ours = (self.held(id).charter.motion(), approval.signature);
        let proof = self.tree.iter().filter(|(other, _)| *other != id).find_map(|(_, held)| {
            let vote = held.voices.get(&(member, Role::Vote))?;
            DoubleVote::of(member, ours, (held.charter.motion(), vote.signature))
        });
        self.double_votes.extend(proof.map(|proof| (member, proof)));
    }

    fn keep_card(&mut self, card: Card) -> Result<Option<New>, GovernanceError> {
        let (member, id) = (card.body().member, card.id());
        if self.cards.get(&member).is_some_and(|cards| cards.contains(id)) {
            return Ok(None);
        }
        if card.body().counter == 0 {
            let is_named = self.tree.iter().any(|(_, held)| held.charter.member(member).is_some_and(|m| m.card == id));
            if !is_named {
                return Err(GovernanceError::NoMembersCard);
            }
            self.cards.entry(member).or_default().insert_named(card);
            return Ok(Some(New::Card(member)));
        }
        let entries = self.tree.iter().filter_map(|(_, held)| held.charter.member(member));
        let mut keys = entries.map(|entry| entry.governance);
        if !keys.any(|key| key == card.body().governance) {
            return Err(GovernanceError::NoMembersCard);
        }
        let cards = self.cards.get_mut(&member).ok_or(CardRefusal::Unconnected)?;
        cards.insert(card, self.network)?;
        Ok(Some(New::Card(member)))
    }

    fn keep_withdrawal(&mut self, withdrawal: Withdrawal) -> Result<Option<New>, GovernanceError> {
        let (id, member) = (withdrawal.charter, withdrawal.member);
        let held = self.tree.get(id).filter(|held| held.voices.contains_key(&(member, Role::Vote)));
        let held = held.ok_or(GovernanceError::Unconnected)?;
        if self.withdrawn.contains_key(&(id, member)) {
            return Ok(None);
        }
        if held.valid {
            return Err(GovernanceError::Stale(held.charter.body().version));
        }
        let entry = self.tree.parent(held).and_then(|parent| parent.charter.member(member));
        let entry = entry.ok_or(AmendmentError::Stranger(member))?;
        withdrawal.verify(self.network, &entry.governance).map_err(|_| AmendmentError::Signature(member))?;
        self.withdrawn.insert((id, member), withdrawal);
        Ok(Some(New::Withdrawal))
    }

    fn keep_addresses(&mut self, record: Addresses) -> Result<Option<New>, GovernanceError> {
        let body = record.body();
        if body.network != self.network {
            return Err(GovernanceError::OtherNetwork);
        }
        let node = body.node;
        if !self.federation.nodes().contains_key(&node) {
            return Err(GovernanceError::NoMembersNode);
        }
        if self.addresses.get(&node).is_some_and(|known| known.body().time >= body.time) {
            return Ok(None);
        }
        self.addresses.insert(node, record);
        Ok(Some(New::Addresses(node)))
    }

    fn keep_double_vote(&mut self, proof: DoubleVote) -> Result<Option<New>, GovernanceError> {
        let member = proof.member;
        if self.double_votes.contains_key(&member) {
            return Ok(None);
        }
        let parent = proof.one.previous.and_then(|parent| self.tree.get(parent));
        let entry = parent.and_then(|parent| parent.charter.member(member)).ok_or(DoubleVoteError::Stranger(member))?;
        proof.verify(self.network, &entry.governance)?;
        self.double_votes.insert(member, proof);
        Ok(Some(New::DoubleVote(member)))
    }
}
