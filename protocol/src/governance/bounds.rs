//! How much is kept of what members can make many of (SPEC 21.10).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::Governance;
use super::tree::Held;
use crate::charter::Role;
use crate::digest::{CardId, CharterId};
use crate::key::PublicKey;
use crate::names::MemberId;

/// Most proposals that are held at once: far above what people can discuss, and as many as those who vote for everything can keep alive
/// ([`MAX_BACKED`] each) where they are few enough to prove nothing, in federations of up to 190 members.
pub(super) const MAX_OPEN: usize = 256;

/// Most bytes of proposals, signatures not counted.
const MAX_OPEN_BYTES: usize = 16 * 1024 * 1024;

/// Most proposals with one parent that one member can keep alive: of those that it has voted for, those of the highest attempts.
pub(super) const MAX_BACKED: usize = 4;

/// Most valid charters beside the longest chain. Each takes a quorum, and its voters either moved to a higher attempt or voted twice.
pub(super) const MAX_ASIDE: u64 = 256;

impl Governance {
    /// Forgets proposals for versions that are decided, and those that are too many.
    pub(super) fn prune(&mut self) {
        let decided = self.tip().body().version;
        let stale = self.tree.open().filter(|(_, held)| held.charter.body().version < decided).map(|(id, _)| id);
        let mut gone: Vec<_> = stale.collect();
        gone.extend(self.surplus());
        if gone.is_empty() {
            return;
        }
        for id in gone {
            self.tree.remove(id);
        }
        let tree = &self.tree;
        self.withdrawn.retain(|(charter, _), _| tree.get(*charter).is_some());
        self.prune_cards();
    }

    /// Forgets cards that only proposals have named which are forgotten.
    fn prune_cards(&mut self) {
        let mut keys: BTreeSet<(MemberId, PublicKey)> = BTreeSet::new();
        let mut named: BTreeSet<(MemberId, CardId)> = BTreeSet::new();
        for (_, held) in self.tree.iter() {
            let body = held.charter.body();
            keys.extend(body.members.iter().map(|member| (member.id, member.governance)));
            named.extend(body.members.iter().map(|member| (member.id, member.card)));
            named.extend(body.departed.iter().map(|departed| (departed.id, departed.card)));
        }
        for (member, cards) in &mut self.cards {
            let lines = named.iter().filter(|(id, _)| id == member).filter_map(|(_, card)| cards.line_to(*card));
            let wanted: BTreeSet<CardId> = lines.flatten().map(|card| card.id()).collect();
            cards.retain(|card| {
                let is_later = card.body().counter > 0 && keys.contains(&(*member, card.body().governance));
                is_later || wanted.contains(&card.id())
            });
        }
        self.cards.retain(|_, cards| !cards.is_empty());
    }

    /// Valid charters beside the longest chain. That chain may have any length, and while a node loads it is not adopted yet.
    pub(super) fn valid_aside(&self) -> u64 {
        let mut versions: Vec<_> = self.tree.valid().map(|(_, held)| held.charter.body().version).collect();
        versions.sort();
        (versions.len() as u64).saturating_sub(versions.last().map_or(0, |longest| longest + 1))
    }

    /// The proposals for which there is no room. Those that follow the charter in force stay, then those with the most votes, then those
    /// of the highest attempt; of what a member has voted for to follow one charter, only the last few, or else one member could crowd
    /// out the others. A member that moved to a higher attempt, or on to another charter, does not go back, and must not be
    /// kept from moving on by what hangs there.
    pub(super) fn surplus(&self) -> Vec<CharterId> {
        let tip = self.tip().id();
        let mut open: Vec<_> = self.tree.open().collect();
        let voters = |held: &Held| -> Vec<MemberId> {
            held.voices.keys().filter(|(_, role)| *role == Role::Vote).map(|(member, _)| *member).collect()
        };
        let rank = |id: &CharterId, held: &Held| {
            let body = held.charter.body();
            Reverse((body.previous == Some(tip), voters(held).len(), body.attempt, Reverse(*id)))
        };
        open.sort_by_cached_key(|(id, held)| rank(id, held));
        // By member and what they follow.
        let mut backed: BTreeMap<_, Vec<(u16, CharterId)>> = BTreeMap::new();
        for (id, held) in &open {
            let body = held.charter.body();
            for member in voters(held) {
                backed.entry((member, body.previous)).or_default().push((body.attempt, *id));
            }
        }
        let last = backed.into_values().flat_map(|mut charters| {
            charters.sort_by_key(|(attempt, _)| Reverse(*attempt));
            charters.truncate(MAX_BACKED);
            charters
        });
        let alive: BTreeSet<CharterId> = last.map(|(_, id)| id).collect();
        let (mut kept, mut bytes) = (0, 0);
        let mut surplus = Vec::new();
        for (id, held) in open {
            let size = held.charter.bytes().len();
            if alive.contains(&id) && kept < MAX_OPEN && bytes + size <= MAX_OPEN_BYTES {
                (kept, bytes) = (kept + 1, bytes + size);
            } else {
                surplus.push(id);
            }
        }
        surplus
    }
}
