//! A federation as it stands: the charter in force, and the keys of its members' cards in force (SPEC 9, 10).
//!
//! Answers "whose is this key" and "which key may sign this". Does not know how charters and cards come to be adopted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::card::{Card, End};
use crate::charter::{Charter, Departure, Genesis, Witnesses};
use crate::digest::CardId;
use crate::key::PublicKey;
use crate::names::{LogId, MemberId, OriginPrefix};
use crate::note::{KeyType, VerifierKey};

/// The charter and the keys in force.
#[derive(Clone, Debug)]
pub struct Federation {
    charter: Charter,
    origins: OriginPrefix,
    logs: BTreeMap<LogId, VerifierKey>,
    states: BTreeMap<LogId, LogState>,
    witnesses: BTreeMap<MemberId, VerifierKey>,
    nodes: HashMap<PublicKey, MemberId>,
    cards: BTreeMap<MemberId, Line>,
    sets: Vec<Witnesses>,
    shared: BTreeSet<PublicKey>,
}

/// How a member stands, or a former one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Standing {
    /// A member that speaks.
    Active,
    /// A member whose card says that it leaves: counted until a charter says that it left, but not heard.
    Leaving,
    /// Left.
    Left,
    /// Expelled.
    Expelled,
    /// Closed: its keys were lost or stolen.
    Resolved,
}

impl Standing {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Leaving => "leaving",
            Self::Left => Departure::Left.name(),
            Self::Expelled => Departure::Expelled.name(),
            Self::Resolved => Departure::Resolved.name(),
        }
    }
}

impl From<Departure> for Standing {
    fn from(kind: Departure) -> Self {
        match kind {
            Departure::Left => Self::Left,
            Departure::Expelled => Self::Expelled,
            Departure::Resolved => Self::Resolved,
        }
    }
}

/// What charter and cards say of a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogState {
    /// How its member stands.
    pub standing: Standing,
    /// Whether leaves may be added: it is the last log of an active member whose cards are not disputed, nor its key shared.
    pub writable: bool,
    /// Where it is said to end. The effective end is never below what is settled: whoever knows that takes the larger one.
    pub end: Option<End>,
}

/// A member's cards from the first one to the one in force, in order; and what came after it, if that is disputed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Line {
    /// The cards, each following the one before; empty while the first one is missing.
    pub cards: Vec<Card>,
    /// Cards with one counter that all follow the one in force: none of them holds until a charter decides.
    pub rivals: Vec<CardId>,
    /// Keys of logs that only cards beyond the rivals name, where they agree: what was said there is not lost meanwhile.
    pub disputed: BTreeMap<u32, PublicKey>,
}

impl Federation {
    /// The federation at its beginning.
    pub fn new(genesis: &Genesis) -> Self {
        let line =
            |(&member, card): (&MemberId, &Card)| (member, Line { cards: vec![card.clone()], ..Line::default() });
        let lines = genesis.cards().iter().map(line).collect();
        let governance = genesis.charter().body().members.iter().map(|member| (member.governance, member.id)).collect();
        Self::of(genesis.charter().clone(), lines, &governance, Vec::new())
    }

    /// The federation of a charter, with the cards of all members and former members; `governance` are the governance keys
    /// of all charters up to this one, `sets` the witness sets of those before it.
    pub fn of(
        charter: Charter,
        cards: BTreeMap<MemberId, Line>,
        governance: &BTreeMap<PublicKey, MemberId>,
        mut sets: Vec<Witnesses>,
    ) -> Self {
        sets.retain(|set| *set != charter.body().witnesses);
        sets.push(charter.body().witnesses.clone());
        let origins = charter.origins();
        let shared = shared(&cards, governance);
        let (logs, states, witnesses, nodes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), HashMap::new());
        let mut federation = Self { charter, origins, logs, states, witnesses, nodes, cards, sets, shared };
        let lines: Vec<_> = federation.cards.iter().map(|(member, line)| (*member, line.clone())).collect();
        for (member, line) in lines {
            federation.add(member, &line);
        }
        federation
    }

    fn add(&mut self, member: MemberId, line: &Line) {
        let Some(last) = line.cards.last().map(Card::body) else { return };
        let departed = self.charter.departed(member).cloned();
        let standing = match &departed {
            Some(departed) => departed.kind.into(),
            None if last.leaving => Standing::Leaving,
            None => Standing::Active,
        };
        let mut keys: BTreeMap<u32, PublicKey> = line.disputed.clone();
        keys.extend(line.cards.iter().map(|card| (card.body().epoch, card.body().log)));
        for (epoch, key) in keys {
            let log = LogId { member, epoch };
            let at = usize::try_from(epoch).expect("an epoch fits");
            let end = match &departed {
                // Of an epoch that the charter does not list nothing counts.
                Some(departed) => Some(departed.ends.get(at).copied().unwrap_or(End::nothing(epoch))),
                None => last.ended.get(at).copied(),
            };
            let is_last = epoch == last.epoch && standing == Standing::Active && line.rivals.is_empty();
            let writable = is_last && end.is_none() && !self.shared.contains(&key);
            self.states.insert(log, LogState { standing, writable, end });
            self.logs.insert(log, verifier(&self.origins.origin(log), KeyType::Log, key));
        }
        if standing != Standing::Active {
            return;
        }
        if !self.shared.contains(&last.witness) {
            let name = self.origins.witness(member);
            self.witnesses.insert(member, verifier(&name, KeyType::Cosigner, last.witness));
        }
        let own = last.nodes.iter().filter(|node| !self.shared.contains(node));
        self.nodes.extend(own.map(|node| (*node, member)));
    }

    /// The charter in force.
    pub fn charter(&self) -> &Charter {
        &self.charter
    }

    /// What the origins of its logs begin with.
    pub fn origins(&self) -> &OriginPrefix {
        &self.origins
    }

    /// All logs of members and former members, ended ones too, with the keys that sign their checkpoints.
    pub fn logs(&self) -> &BTreeMap<LogId, VerifierKey> {
        &self.logs
    }

    /// What is said of a log.
    pub fn log_state(&self, log: LogId) -> Option<LogState> {
        self.states.get(&log).copied()
    }

    /// What is said of all logs.
    pub fn log_states(&self) -> &BTreeMap<LogId, LogState> {
        &self.states
    }

    /// The log that a member may write, if there is one.
    pub fn writable_log(&self, member: MemberId) -> Option<LogId> {
        let mut logs = self.states.range(LogId { member, epoch: 0 }..=LogId { member, epoch: u32::MAX }).rev();
        logs.find(|(_, state)| state.writable).map(|(log, _)| *log)
    }

    /// How a member or former member stands. `None` for whoever has never been one, or whose cards are not here yet.
    pub fn standing(&self, member: MemberId) -> Option<Standing> {
        let mut logs = self.states.range(LogId { member, epoch: 0 }..);
        logs.next().filter(|(log, _)| log.member == member).map(|(_, state)| state.standing)
    }

    /// A member's card in force, or the last one of a former member.
    pub fn card(&self, member: MemberId) -> Option<&Card> {
        self.cards.get(&member)?.cards.last()
    }

    /// A member's cards, from the first one to the one in force; and the rivals after it.
    pub fn line(&self, member: MemberId) -> Option<&Line> {
        self.cards.get(&member)
    }

    /// The card with which a log began.
    pub fn card_of(&self, log: LogId) -> Option<&Card> {
        self.cards.get(&log.member)?.cards.iter().find(|card| card.body().epoch == log.epoch)
    }

    /// The members whose cards are disputed: two with one counter (SPEC 9.7).
    pub fn disputed(&self) -> impl Iterator<Item = (MemberId, &[CardId])> {
        let disputed = self.cards.iter().filter(|(_, line)| !line.rivals.is_empty());
        disputed.map(|(member, line)| (*member, line.rivals.as_slice()))
    }

    /// Keys that stand on cards of two members, or in two roles: nobody's, until they are replaced (SPEC 9.8).
    pub fn shared_keys(&self) -> &BTreeSet<PublicKey> {
        &self.shared
    }

    /// The keys that cosign, by member.
    pub fn witnesses(&self) -> &BTreeMap<MemberId, VerifierKey> {
        &self.witnesses
    }

    /// Every key that members and former members have cosigned with, the one in force last.
    pub fn past_witnesses(&self) -> Vec<(MemberId, VerifierKey)> {
        let mut keys = Vec::new();
        for (&member, line) in &self.cards {
            let name = self.origins.witness(member);
            let mut cosigned: Vec<PublicKey> = line.cards.iter().map(|card| card.body().witness).collect();
            cosigned.dedup();
            keys.extend(cosigned.into_iter().map(|key| (member, verifier(&name, KeyType::Cosigner, key))));
        }
        keys
    }

    /// The witness sets of all charters up to the one in force, which is the last one.
    pub fn witness_sets(&self) -> &[Witnesses] {
        &self.sets
    }

    /// The witnesses whose cosignatures count for a log, with their keys: those of the charter, without the log's own member.
    pub fn witnesses_of(&self, log: LogId) -> impl Iterator<Item = (MemberId, &VerifierKey)> {
        let named = self.charter.body().witnesses.members.iter().filter(move |member| **member != log.member);
        named.filter_map(|member| Some((*member, self.witnesses.get(member)?)))
    }

    /// How many of them settle a checkpoint.
    pub fn quorum(&self) -> usize {
        usize::from(self.charter.body().witnesses.quorum)
    }

    /// The members' nodes: who may connect.
    pub fn nodes(&self) -> &HashMap<PublicKey, MemberId> {
        &self.nodes
    }

    /// The number of members.
    pub fn size(&self) -> usize {
        self.charter.body().members.len()
    }
}

/// The keys that more than one member has claimed, or one member in two roles.
fn shared(cards: &BTreeMap<MemberId, Line>, governance: &BTreeMap<PublicKey, MemberId>) -> BTreeSet<PublicKey> {
    let mut claims: HashMap<PublicKey, (MemberId, &'static str)> =
        governance.iter().map(|(key, member)| (*key, (*member, "governance"))).collect();
    let mut shared = BTreeSet::new();
    for (&member, line) in cards {
        for (role, key) in line.cards.iter().flat_map(|card| card.body().keys()) {
            if *claims.entry(key).or_insert((member, role)) != (member, role) {
                shared.insert(key);
            }
        }
    }
    shared
}

fn verifier(name: &str, key_type: KeyType, key: PublicKey) -> VerifierKey {
    VerifierKey::new(name, key_type, key).expect("origins are made of names that hold neither + nor white space")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::card::MemberKeys;
    use crate::card::tests::{card, keys};
    use crate::charter::tests::labels;
    use crate::charter::{Parameters, found};

    /// A federation of these members at its beginning, and their keys.
    pub(crate) fn genesis(members: &[&str]) -> (Genesis, BTreeMap<MemberId, MemberKeys>) {
        let cards: Vec<_> = (0u8..).zip(members).map(|(seed, id)| card(id, "FR", seed)).collect();
        let all_keys: BTreeMap<MemberId, MemberKeys> =
            (0u8..).zip(members).map(|(seed, id)| (id.parse().expect("a member id"), keys(seed))).collect();
        let charter =
            found("safety.example".parse().expect("a name"), &cards, labels(), Parameters::standard()).expect("valid");
        let approvals: Vec<_> = all_keys.iter().map(|(id, keys)| charter.approve(*id, &keys.governance)).collect();
        (Genesis::open(charter, &cards, approvals).expect("signed by all"), all_keys)
    }

    /// A federation of these members, and their keys.
    pub(crate) fn federation(members: &[&str]) -> (Federation, BTreeMap<MemberId, MemberKeys>) {
        let (genesis, keys) = genesis(members);
        (Federation::new(&genesis), keys)
    }

    #[test]
    fn keys_are_found_by_what_they_are_for() {
        let (federation, keys) = federation(&["acme", "bolt"]);
        let acme = "acme".parse().unwrap();
        let log = &federation.logs()[&LogId { member: acme, epoch: 0 }];
        assert_eq!(log.key(), &keys[&acme].log.public());
        assert_eq!(log.name(), format!("safety.example/{}/acme/0", federation.charter().network().short()));
        assert!(federation.witnesses()[&acme].name().ends_with("/acme/witness"));
        assert_eq!(federation.nodes()[&keys[&acme].node.public()], acme);
    }
}
