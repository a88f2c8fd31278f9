//! All cards of one member, rivals included, and which of them hold (SPEC 9.3 to 9.7).
//!
//! A card names the one before it by hash, so up to the card that the charter names the line proves itself. Beyond it a card
//! holds if the member's governance key has signed it, it keeps the rules, and it is the only one to do so: two with one
//! counter hold back each other. So what holds depends on charter and cards alone, not on which came first.

use std::collections::{BTreeMap, BTreeSet};

use crate::card::{Card, SuccessionError};
use crate::digest::{CardId, NetworkId};
use crate::federation::Line;
use crate::key::PublicKey;

/// Most cards that one governance key may have signed. A thief of an old key cannot take the room of the new one.
const MAX_CARDS: usize = 512;

/// Most cards of one governance key that follow the same card: two hold back each other, more change nothing.
const MAX_RIVALS: usize = 4;

/// The cards of one member.
#[derive(Clone, Debug, Default)]
pub(super) struct Cards(BTreeMap<CardId, Card>);

/// Why a card is not kept.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CardRefusal {
    /// The card before it is not here: it may be on its way.
    #[error("the card before it is not here")]
    Unconnected,
    /// More of them than one governance key may sign.
    #[error("too many cards by one governance key")]
    TooMany,
    /// Breaks a rule.
    #[error(transparent)]
    Succession(#[from] SuccessionError),
}

impl Cards {
    pub(super) fn contains(&self, id: CardId) -> bool {
        self.0.contains_key(&id)
    }

    pub(super) fn get(&self, id: CardId) -> Option<&Card> {
        self.0.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Card> {
        self.0.values()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Card) -> bool) {
        self.0.retain(|_, card| keep(card));
    }

    /// Keeps a card that a charter names by its id.
    pub(super) fn insert_named(&mut self, card: Card) {
        self.0.insert(card.id(), card);
    }

    /// Keeps a later card.
    pub(super) fn insert(&mut self, card: Card, network: NetworkId) -> Result<(), CardRefusal> {
        let before = card.body().previous.and_then(|id| self.0.get(&id)).ok_or(CardRefusal::Unconnected)?;
        card.follows(before, network)?;
        let by_key = || self.0.values().filter(|other| other.body().governance == card.body().governance);
        let rivals = by_key().filter(|other| other.body().previous == card.body().previous).count();
        if by_key().count() >= MAX_CARDS || rivals >= MAX_RIVALS {
            return Err(CardRefusal::TooMany);
        }
        self.0.insert(card.id(), card);
        Ok(())
    }

    /// The cards from the first one to this one; `None` while one of them is missing.
    pub(super) fn line_to(&self, id: CardId) -> Option<Vec<Card>> {
        let mut line = vec![self.0.get(&id)?.clone()];
        while let Some(before) = line.last().and_then(|card| card.body().previous) {
            line.push(self.0.get(&before)?.clone());
        }
        line.reverse();
        Some(line)
    }

    /// The cards that hold: up to the one that the charter names, and on from there with the governance key that it
    /// names; with none for a former member, whose line ends.
    pub(super) fn line(&self, named: CardId, governance: Option<PublicKey>) -> Line {
        let Some(cards) = self.line_to(named) else { return Line::default() };
        let mut line = Line { cards, ..Line::default() };
        let Some(governance) = governance else { return line };
        loop {
            let mut next = self.after(&line.cards, governance);
            match next.len() {
                0 => return line,
                1 => line.cards.extend(next.pop().cloned()),
                _ => {
                    line.rivals = next.iter().map(|card| card.id()).collect();
                    line.disputed = self.disputed(next, governance);
                    return line;
                }
            }
        }
    }

    /// The cards that may follow a line, ascending by id.
    fn after(&self, line: &[Card], governance: PublicKey) -> Vec<&Card> {
        let last = line.last().map(Card::id);
        let follows = |card: &&Card| card.body().previous == last && card.body().governance == governance;
        self.0.values().filter(follows).filter(|card| card.fits(line).is_ok()).collect()
    }

    /// The keys of the epochs that rivals and what follows them name, where they agree.
    fn disputed(&self, rivals: Vec<&Card>, governance: PublicKey) -> BTreeMap<u32, PublicKey> {
        let mut keys: BTreeMap<u32, BTreeSet<PublicKey>> = BTreeMap::new();
        let mut open = rivals;
        while let Some(card) = open.pop() {
            keys.entry(card.body().epoch).or_default().insert(card.body().log);
            let follows =
                |next: &&Card| next.body().previous == Some(card.id()) && next.body().governance == governance;
            open.extend(self.0.values().filter(follows));
        }
        let agreed = keys.into_iter().filter(|(_, keys)| keys.len() == 1);
        agreed.filter_map(|(epoch, keys)| Some((epoch, keys.into_iter().next()?))).collect()
    }
}
