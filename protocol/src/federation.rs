//! A federation as it stands: the charter in force, and the keys of its members' cards in force (SPEC 9, 10).
//!
//! Answers "whose is this key" and "which key may sign this". Does not know how charters and cards come to be adopted.

use std::collections::{BTreeMap, HashMap};

use crate::card::Card;
use crate::charter::{Charter, Genesis};
use crate::key::PublicKey;
use crate::names::{LogId, MemberId, OriginPrefix};
use crate::note::{KeyType, VerifierKey};

/// The charter and the keys in force.
#[derive(Clone, Debug)]
pub struct Federation {
    charter: Charter,
    origins: OriginPrefix,
    logs: BTreeMap<LogId, VerifierKey>,
    witnesses: BTreeMap<MemberId, VerifierKey>,
    nodes: HashMap<PublicKey, MemberId>,
    cards: BTreeMap<MemberId, Card>,
}

impl Federation {
    /// The federation at its beginning.
    pub fn new(genesis: &Genesis) -> Self {
        let charter = genesis.charter().clone();
        let origins = charter.origins();
        let (logs, witnesses, nodes) = (BTreeMap::new(), BTreeMap::new(), HashMap::new());
        let mut federation = Self { charter, origins, logs, witnesses, nodes, cards: genesis.cards().clone() };
        for (&member, card) in genesis.cards() {
            let body = card.body();
            let log = LogId { member, epoch: body.epoch };
            federation.logs.insert(log, verifier(&federation.origins.origin(log), KeyType::Log, body.log));
            let name = federation.origins.witness(member);
            federation.witnesses.insert(member, verifier(&name, KeyType::Cosigner, body.witness));
            federation.nodes.extend(body.nodes.iter().map(|node| (*node, member)));
        }
        federation
    }

    /// The charter in force.
    pub fn charter(&self) -> &Charter {
        &self.charter
    }

    /// What the origins of its logs begin with.
    pub fn origins(&self) -> &OriginPrefix {
        &self.origins
    }

    /// All logs that may be written, with the keys that sign their checkpoints.
    pub fn logs(&self) -> &BTreeMap<LogId, VerifierKey> {
        &self.logs
    }

    /// A member's card in force.
    pub fn card(&self, member: MemberId) -> Option<&Card> {
        self.cards.get(&member)
    }

    /// The keys that cosign, by member.
    pub fn witnesses(&self) -> &BTreeMap<MemberId, VerifierKey> {
        &self.witnesses
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
