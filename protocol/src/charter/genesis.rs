//! How a federation begins: version 0, and the signatures of all its founders (SPEC 10.2).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Approval, Charter, CharterBody, CharterError, FORMAT, Label, Member, Parameters, Ratio, Succeeds, Witnesses,
};
use crate::card::Card;
use crate::names::{FederationName, MemberId};

/// Why a federation cannot begin like this.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GenesisError {
    /// The document itself.
    #[error(transparent)]
    Charter(#[from] CharterError),
    /// Not version 0.
    #[error("version {0} of a charter is no beginning")]
    NotGenesis(u64),
    /// Founders who have not signed.
    #[error("not signed yet by {}", list(.0))]
    NotSigned(Vec<MemberId>),
    /// Members whose cards are not there.
    #[error("the cards of these members are missing: {}", list(.0))]
    NoCard(Vec<MemberId>),
    /// A card that says something else than the charter.
    #[error("the card of {0} says something else than the charter: {1}")]
    OtherCard(MemberId, &'static str),
    /// A card that is not a first one.
    #[error("the card of {0} is not its first")]
    LaterCard(MemberId),
    /// Two cards of one member.
    #[error("two cards of {0}")]
    TwoCards(MemberId),
    /// A key on two cards.
    #[error("{0} and {1} have a key in common")]
    SharedKey(MemberId, MemberId),
}

fn list(members: &[MemberId]) -> String {
    members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Builds version 0 from the founders' cards: the same bytes whoever builds it from the same cards, labels and parameters,
/// in whatever order. All founders are witnesses as far as there is room, ascending by id, and k is floor(2n/3)+1 of the
/// n that are left for each log.
pub fn found(
    federation: FederationName,
    cards: &[Card],
    labels: Vec<Label>,
    parameters: Parameters,
) -> Result<Charter, GenesisError> {
    refound(federation, cards, labels, parameters, None)
}

/// The same for a federation that takes over from one which has lost its quorum.
pub fn refound(
    federation: FederationName,
    cards: &[Card],
    mut labels: Vec<Label>,
    parameters: Parameters,
    succeeds: Option<Succeeds>,
) -> Result<Charter, GenesisError> {
    let cards = by_member(cards)?.into_iter();
    let members = cards.map(|(id, card)| Member::of(card).ok_or(GenesisError::LaterCard(id)));
    let members = members.collect::<Result<Vec<_>, _>>()?;
    labels.sort_by_key(|label| label.code);
    let witnesses = Witnesses::standard(members.iter().map(|member| member.id).take(super::MAX_WITNESSES).collect());
    let charter = Charter::new(CharterBody {
        format: FORMAT,
        network: None,
        version: 0,
        attempt: 0,
        previous: None,
        federation,
        threshold: Ratio { numerator: 2, denominator: 3 },
        members,
        departed: Vec::new(),
        witnesses,
        labels,
        parameters,
        succeeds,
        note: String::new(),
    })?;
    Ok(charter)
}

/// A charter of version 0 that all its founders have signed, and their cards: what a node needs to take part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Genesis {
    charter: Charter,
    cards: BTreeMap<MemberId, Card>,
    approvals: BTreeSet<Approval>,
}

impl Genesis {
    /// Checks that everything is there and fits. Wrong signatures are errors, not just missing ones, so that whoever
    /// collects them hears of it.
    pub fn open(
        charter: Charter,
        cards: &[Card],
        approvals: impl IntoIterator<Item = Approval>,
    ) -> Result<Self, GenesisError> {
        if charter.body().version != 0 {
            return Err(GenesisError::NotGenesis(charter.body().version));
        }
        let mut cards = by_member(cards)?;
        cards.retain(|id, _| charter.member(*id).is_some());
        let missing: Vec<_> = founders(&charter).filter(|id| !cards.contains_key(id)).collect();
        if !missing.is_empty() {
            return Err(GenesisError::NoCard(missing));
        }
        for member in &charter.body().members {
            let card = &cards[&member.id];
            let same = |holds: bool, what| if holds { Ok(()) } else { Err(GenesisError::OtherCard(member.id, what)) };
            same(card.id() == member.card, "its id")?;
            let Some(application) = &card.body().application else { return Err(GenesisError::LaterCard(member.id)) };
            same(card.body().governance == member.governance, "its governance key")?;
            same(application.name == member.name, "its name")?;
            same(application.jurisdiction == member.jurisdiction, "its jurisdiction")?;
        }
        let approvals: BTreeSet<_> = approvals.into_iter().collect();
        for approval in &approvals {
            charter.verify_approval(approval)?;
        }
        let missing: Vec<_> = founders(&charter).filter(|id| !approvals.iter().any(|a| a.member == *id)).collect();
        if !missing.is_empty() {
            return Err(GenesisError::NotSigned(missing));
        }
        let cards = cards.into_iter().map(|(id, card)| (id, card.clone())).collect();
        Ok(Self { charter, cards, approvals })
    }

    /// The charter.
    pub fn charter(&self) -> &Charter {
        &self.charter
    }

    /// The founders' cards.
    pub fn cards(&self) -> &BTreeMap<MemberId, Card> {
        &self.cards
    }

    /// The founders' signatures.
    pub fn approvals(&self) -> &BTreeSet<Approval> {
        &self.approvals
    }
}

fn founders(charter: &Charter) -> impl Iterator<Item = MemberId> + '_ {
    charter.body().members.iter().map(|member| member.id)
}

/// Cards by member; the same card twice counts once. No two may share a key in any role.
fn by_member(cards: &[Card]) -> Result<BTreeMap<MemberId, &Card>, GenesisError> {
    let mut found = BTreeMap::new();
    let mut keys = BTreeMap::new();
    for card in cards {
        let member = card.body().member;
        match found.insert(member, card) {
            Some(before) if before.id() != card.id() => return Err(GenesisError::TwoCards(member)),
            _ => {}
        }
        for (_, key) in card.body().keys() {
            match keys.insert(key, member) {
                Some(other) if other != member => return Err(GenesisError::SharedKey(other, member)),
                _ => {}
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::tests::{card, keys};
    use crate::charter::tests::labels;

    const FOUNDERS: [(&str, &str); 4] = [("acme", "FR"), ("bolt", "DE"), ("crab", "US"), ("dove", "JP")];

    fn cards() -> Vec<Card> {
        (0u8..).zip(FOUNDERS).map(|(seed, (id, place))| card(id, place, seed)).collect()
    }

    fn build(cards: &[Card]) -> Result<Charter, GenesisError> {
        found("safety.example".parse().unwrap(), cards, labels(), Parameters::standard())
    }

    fn approvals(charter: &Charter) -> Vec<Approval> {
        (0u8..)
            .zip(FOUNDERS)
            .map(|(seed, (id, _))| charter.approve(id.parse().unwrap(), &keys(seed).governance))
            .collect()
    }

    /// SPEC 10.2: whoever builds it, from the cards in whatever order, gets the same bytes.
    #[test]
    fn the_genesis_charter_is_the_same_whoever_builds_it() {
        let charter = build(&cards()).unwrap();
        let mut shuffled = cards();
        shuffled.reverse();
        shuffled.push(shuffled[1].clone());
        assert_eq!(build(&shuffled).unwrap().bytes(), charter.bytes());
        assert_eq!(charter.body().witnesses.quorum, 3, "of three others, all");
        let fewer = build(&cards()[..3]).unwrap();
        assert_eq!(fewer.body().witnesses.quorum, 2);
        assert!(matches!(build(&cards()[..1]), Err(GenesisError::Charter(CharterError::Rule(_)))));
    }

    #[test]
    fn it_holds_once_all_founders_have_signed() {
        let charter = build(&cards()).unwrap();
        let all = approvals(&charter);
        for missing in 0..4 {
            let mut some = all.clone();
            let left_out = some.remove(missing).member;
            // Somebody else's signature once more does not make up for it.
            some.push(some[0].clone());
            let error = Genesis::open(charter.clone(), &cards(), some).unwrap_err();
            assert_eq!(error, GenesisError::NotSigned(vec![left_out]));
        }
        let genesis = Genesis::open(charter.clone(), &cards(), all).unwrap();
        assert_eq!(genesis.cards().len(), 4);
    }

    #[test]
    fn wrong_signatures_and_wrong_cards_are_refused() {
        let charter = build(&cards()).unwrap();
        let mut all = approvals(&charter);
        all[0].signature = all[1].signature;
        let error = Genesis::open(charter.clone(), &cards(), all).unwrap_err();
        assert!(matches!(error, GenesisError::Charter(CharterError::Signature(..))));

        let other = found("other.example".parse().unwrap(), &cards(), labels(), Parameters::standard()).unwrap();
        let error = Genesis::open(charter.clone(), &cards(), approvals(&other)).unwrap_err();
        assert!(matches!(error, GenesisError::Charter(CharterError::Rule(_))));

        let mut stranger = approvals(&charter);
        stranger[0].member = "eve".parse().unwrap();
        let error = Genesis::open(charter.clone(), &cards(), stranger).unwrap_err();
        assert!(matches!(error, GenesisError::Charter(CharterError::Stranger(_))));

        let three = &cards()[..3];
        let error = Genesis::open(charter.clone(), three, approvals(&charter)).unwrap_err();
        assert_eq!(error, GenesisError::NoCard(vec!["dove".parse().unwrap()]));

        let mut changed = cards();
        changed[3] = card("dove", "JP", 9);
        let error = Genesis::open(charter.clone(), &changed, approvals(&charter)).unwrap_err();
        assert_eq!(error, GenesisError::OtherCard("dove".parse().unwrap(), "its id"));
    }

    #[test]
    fn no_two_founders_share_a_key_and_none_has_two_cards() {
        let mut shared = cards();
        shared[3] = card("dove", "JP", 0);
        assert!(matches!(build(&shared), Err(GenesisError::SharedKey(..))));
        let mut twice = cards();
        twice.push(card("dove", "JP", 9));
        assert!(matches!(build(&twice), Err(GenesisError::TwoCards(_))));
    }
}
