//! All charters that are held: the valid ones, and the proposals (SPEC 21.1, 21.3, 21.4).
//!
//! Which chain of valid charters is the best is a function of the documents alone, so that all who hold the same ones agree.
//! Does not know which of them was adopted, nor cards.

use std::collections::{BTreeMap, BTreeSet};

use crate::charter::{Amendment, Approval, Charter, Genesis, Role, Tally};
use crate::digest::CharterId;
use crate::key::PublicKey;
use crate::names::MemberId;

/// Signatures on a charter: one a member and role, however many there are.
pub(super) type Voices = BTreeMap<(MemberId, Role), Approval>;

/// A charter that is held.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub charter: Charter,
    pub voices: Voices,
    /// Whether it and all before it have all that they need.
    pub valid: bool,
}

/// Charters by id; the parent of each is held too.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    held: BTreeMap<CharterId, Held>,
}

impl Tree {
    pub(super) fn new(genesis: &Genesis) -> Self {
        let (charter, root) = (genesis.charter().clone(), genesis.charter().id());
        let voices = genesis.approvals().iter().map(|a| ((a.member, Role::Vote), a.clone())).collect();
        Self { held: BTreeMap::from([(root, Held { charter, voices, valid: true })]) }
    }

    pub(super) fn get(&self, id: CharterId) -> Option<&Held> {
        self.held.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: CharterId) -> Option<&mut Held> {
        self.held.get_mut(&id)
    }

    pub(super) fn insert(&mut self, charter: Charter) {
        let (id, held) = (charter.id(), Held { charter, voices: Voices::new(), valid: false });
        self.held.entry(id).or_insert(held);
    }

    pub(super) fn remove(&mut self, id: CharterId) {
        self.held.remove(&id);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (CharterId, &Held)> {
        self.held.iter().map(|(id, held)| (*id, held))
    }

    /// The proposals: what is held and is not valid yet.
    pub(super) fn open(&self) -> impl Iterator<Item = (CharterId, &Held)> {
        self.iter().filter(|(_, held)| !held.valid)
    }

    /// The charters that have all that they need.
    pub(super) fn valid(&self) -> impl Iterator<Item = (CharterId, &Held)> {
        self.iter().filter(|(_, held)| held.valid)
    }

    /// The charter before one that is held.
    pub(super) fn parent(&self, held: &Held) -> Option<&Held> {
        self.held.get(&held.charter.body().previous?)
    }

    /// What a charter that is held changes; `None` for version 0.
    pub(super) fn amendment<'a>(&'a self, held: &'a Held) -> Option<Amendment<'a>> {
        Some(Amendment::checked(&self.parent(held)?.charter, &held.charter))
    }

    /// Who has signed a charter.
    pub(super) fn tally(&self, held: &Held) -> Option<Tally> {
        Some(self.amendment(held)?.tally(held.voices.keys().copied()))
    }

    /// The chain that ends in a charter, version 0 first.
    pub(super) fn chain(&self, id: CharterId) -> Vec<CharterId> {
        let before = |id: &CharterId| self.held.get(id)?.charter.body().previous;
        let mut chain: Vec<_> = std::iter::successors(Some(id), before).collect();
        chain.reverse();
        chain
    }

    /// The governance keys of a charter and of all before it, with whose they are.
    pub(super) fn governance(&self, id: CharterId) -> BTreeMap<PublicKey, MemberId> {
        let charters = self.chain(id).into_iter().filter_map(|id| self.held.get(&id));
        let members = charters.flat_map(|held| &held.charter.body().members);
        members.map(|member| (member.governance, member.id)).collect()
    }

    /// The chains of valid charters, each to its end, that contain all of `pins` that are valid.
    pub(super) fn chains(&self, pins: &BTreeSet<CharterId>) -> Vec<Vec<CharterId>> {
        let parents: BTreeSet<_> =
            self.held.values().filter(|held| held.valid).filter_map(|held| held.charter.body().previous).collect();
        let ends = self.held.iter().filter(|(id, held)| held.valid && !parents.contains(id));
        let chains = ends.map(|(id, _)| self.chain(*id));
        chains.filter(|chain| self.contains_pins(chain, pins)).collect()
    }

    /// Whether a chain contains all of `pins` that are valid.
    pub(super) fn contains_pins(&self, chain: &[CharterId], pins: &BTreeSet<CharterId>) -> bool {
        let mut valid = pins.iter().filter(|pin| self.held.get(pin).is_some_and(|held| held.valid));
        valid.all(|pin| chain.contains(pin))
    }

    /// The best of some chains.
    pub(super) fn best(&self, chains: impl IntoIterator<Item = Vec<CharterId>>) -> Option<Vec<CharterId>> {
        chains.into_iter().reduce(|best, chain| if self.is_better(&chain, &best) { chain } else { best })
    }

    /// SPEC 21.3: the longer chain; at the first difference the higher attempt, then the lower id.
    fn is_better(&self, chain: &[CharterId], other: &[CharterId]) -> bool {
        if chain.len() != other.len() {
            return chain.len() > other.len();
        }
        let attempt = |id: &CharterId| self.held.get(id).map(|held| held.charter.body().attempt);
        let different = chain.iter().zip(other).find(|(a, b)| a != b);
        different.is_some_and(|(a, b)| (attempt(a), std::cmp::Reverse(a)) > (attempt(b), std::cmp::Reverse(b)))
    }
}
