//! The rules of SPEC 12 once more, in the plainest words, held against the policy in 100,000 drawn cases.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::tests::{DISPUTE, add, pdq, said, tripped};
use super::{Circumstances, Matched, Policy};
use crate::charter::Charter;
use crate::time::Timestamp;

/// A rule and a case in small numbers, so that all borders are met often.
#[derive(Clone, Debug)]
struct Drawn {
    rules: Vec<DrawnRule>,
    weights: [u32; 4],
    /// For each of four members: nothing, an addition or a dispute.
    words: [Option<Word>; 4],
    distance: u32,
    tripped: [bool; 4],
    hash_tripped: bool,
}

#[derive(Clone, Debug)]
struct DrawnRule {
    label: Option<u16>,
    members: Option<[bool; 4]>,
    k: usize,
    j: usize,
    weight: u64,
    distance: u32,
    quality: u8,
    settled: bool,
    age: u64,
    stage: usize,
    disputes: (usize, usize, usize),
}

#[derive(Clone, Copy, Debug)]
enum Word {
    Add { label: u16, quality: Option<u8>, expired: bool, settled: bool, age: u64 },
    Dispute,
}

const MEMBERS: [&str; 4] = ["acme", "bolt", "crab", "dove"];
const PLACES: [&str; 4] = ["FR", "FR", "US", "JP"];
const STAGES: [&str; 4] = ["off", "shadow", "review", "block"];
const DECISIONS: [&str; 3] = ["none", "review", "block"];

impl Drawn {
    fn policy(&self) -> String {
        let mut text = String::new();
        for (number, rule) in self.rules.iter().enumerate() {
            let DrawnRule { k, j, weight, distance, quality, settled, age, .. } = rule;
            text += &format!("[[rule]]\nname = \"{number}\"\nmin_members = {k}\nmin_jurisdictions = {j}\n");
            text += &format!("min_weight = {weight}\nmax_distance = {distance}\nmin_quality = {quality}\n");
            text += &format!("settled = {settled}\nmin_age = \"{age}s\"\nstage = \"{}\"\n", STAGES[rule.stage]);
            if let Some(label) = rule.label {
                text += &format!("labels = [\"{}\"]\n", ["demo", "csam-a1"][usize::from(label) - 1]);
            }
            if let Some(members) = rule.members {
                let named: Vec<_> = (0..4).filter(|m| members[*m]).map(|m| format!("{:?}", MEMBERS[m])).collect();
                text += &format!("members = [{}]\n", named.join(", "));
            }
            let (members, places, to) = rule.disputes;
            text += &format!("[rule.disputes]\nmembers = {members}\njurisdictions = {places}\n");
            text += &format!("lower_to = \"{}\"\n", DECISIONS[to]);
        }
        text += "[weights]\n";
        for (member, weight) in MEMBERS.iter().zip(self.weights) {
            text += &format!("{member} = {weight}\n");
        }
        text
    }

    /// SPEC 12 in the plainest words.
    fn oracle(&self) -> usize {
        let mut worst = 0;
        for rule in &self.rules {
            let counts = |m: usize, without_tripped: bool| match self.words[m] {
                Some(Word::Add { label, quality, expired, settled, age }) => {
                    !expired
                        && quality.is_none_or(|q| q >= 50 && q >= rule.quality)
                        && rule.label.is_none_or(|wanted| wanted == label)
                        && rule.members.is_none_or(|members| members[m])
                        && (settled || !rule.settled)
                        && age >= rule.age
                        && self.weights[m] > 0
                        && !(without_tripped && self.tripped[m])
                }
                _ => false,
            };
            let places = |members: &[usize]| members.iter().map(|m| PLACES[*m]).collect::<BTreeSet<_>>().len();
            let enough = |without_tripped: bool| {
                let members: Vec<usize> = (0..4).filter(|m| counts(*m, without_tripped)).collect();
                let weight: u64 = members.iter().map(|m| u64::from(self.weights[*m])).sum();
                members.len() >= rule.k && places(&members) >= rule.j && weight >= rule.weight
            };
            if rule.stage < 2 || self.distance > rule.distance || !enough(false) {
                continue;
            }
            let mut decision = rule.stage - 1;
            if self.hash_tripped || !enough(true) {
                decision = decision.min(1);
            }
            let against: Vec<usize> =
                (0..4).filter(|m| matches!(self.words[*m], Some(Word::Dispute)) && self.weights[*m] > 0).collect();
            if against.len() >= rule.disputes.0 && places(&against) >= rule.disputes.1 {
                decision = decision.min(rule.disputes.2);
            }
            worst = worst.max(decision);
        }
        worst
    }

    fn decide(&self, policy: &Policy, charter: &Charter) -> usize {
        const AS_OF: u64 = 1_000_000;
        let attributes = self.words.map(|word| match word? {
            Word::Add { label, quality, expired, .. } => Some(add(&[label], quality, expired.then_some(AS_OF))),
            Word::Dispute => Some(DISPUTE),
        });
        let said = MEMBERS.iter().zip(self.words).zip(&attributes).filter_map(|((member, word), attributes)| {
            let mut said = said(member, attributes.as_ref()?);
            if let Some(Word::Add { settled, age, .. }) = word {
                (said.settled, said.time) = (settled, Timestamp(AS_OF - age * 1000));
            }
            Some(said)
        });
        let names: Vec<_> = (0..4).filter(|m| self.tripped[*m]).map(|m| MEMBERS[m]).collect();
        let hashes = if self.hash_tripped { vec![pdq()] } else { vec![] };
        let matched = Matched { hash: pdq(), distance: self.distance, said: said.collect() };
        let tripped = tripped(&names, &hashes);
        policy.judge(&matched, &Circumstances { charter, tripped: &tripped, as_of: Timestamp(AS_OF) }).decision as usize
    }
}

fn word() -> impl Strategy<Value = Option<Word>> {
    let quality = prop_oneof![Just(None), Just(Some(49)), Just(Some(50)), Just(Some(80))];
    let add = (1u16..3, quality, proptest::bool::weighted(0.1), any::<bool>(), 0u64..3)
        .prop_map(|(label, quality, expired, settled, age)| Some(Word::Add { label, quality, expired, settled, age }));
    prop_oneof![1 => Just(None), 3 => add, 1 => Just(Some(Word::Dispute))]
}

fn drawn_rule() -> impl Strategy<Value = DrawnRule> {
    let members = proptest::option::weighted(0.3, any::<[bool; 4]>());
    let label = proptest::option::weighted(0.3, 1u16..3);
    let quality = prop_oneof![3 => Just(0u8), 1 => Just(80)];
    let disputes = (1usize..4, 0usize..3, 0usize..3);
    let settled = proptest::bool::weighted(0.3);
    let numbers = (1usize..4, 0usize..4, 0u64..5, 29u32..32);
    (label, members, numbers, quality, settled, 0u64..3, 0usize..4, disputes).prop_map(
        |(label, members, (k, j, weight, distance), quality, settled, age, stage, disputes)| {
            let voters = members.map_or(4, |m| m.iter().filter(|m| **m).count());
            let members = members.filter(|_| voters > 0);
            let k = if members.is_some() { k.min(voters) } else { k };
            DrawnRule { label, members, k, j: j.min(k), weight, distance, quality, settled, age, stage, disputes }
        },
    )
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let rules = proptest::collection::vec(drawn_rule(), 1..4);
    let words = [word(), word(), word(), word()];
    let weights = [0u32..3, 0..3, 0..3, 0..3];
    let tripped = [(); 4].map(|()| proptest::bool::weighted(0.2));
    (rules, weights, words, 28u32..32, tripped, proptest::bool::weighted(0.1)).prop_map(
        |(rules, weights, words, distance, tripped, hash_tripped)| Drawn {
            rules,
            weights,
            words,
            distance,
            tripped,
            hash_tripped,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, ..ProptestConfig::default() })]

    /// The same as the plainest reading of the rules; one dispute more never raises a decision, one addition of
    /// somebody who said nothing never lowers it.
    #[test]
    fn verdicts_are_those_of_the_rules_and_monotone(drawn in drawn(), member in 0usize..4, more in word()) {
        static CHARTER: LazyLock<Charter> = LazyLock::new(|| crate::charter::tests::charter_in(&PLACES));
        let charter = &*CHARTER;
        let policy = Policy::parse(&drawn.policy(), charter).unwrap();
        let decision = drawn.decide(&policy, charter);
        prop_assert_eq!(decision, drawn.oracle());
        if let (None, Some(word)) = (drawn.words[member], more) {
            let mut changed = drawn.clone();
            changed.words[member] = Some(word);
            let after = changed.decide(&policy, charter);
            match word {
                Word::Add { .. } => prop_assert!(after >= decision, "an addition lowered it"),
                Word::Dispute => prop_assert!(after <= decision, "a dispute raised it"),
            }
        }
    }
}
