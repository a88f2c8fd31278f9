//! One rule, and whether what is said about a hash satisfies it (SPEC 12.2).

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Circumstances, Decision, Lowered, Matched, Policy, Stage, effect};
use crate::catalog::{Attributes, Said};
use crate::content_hash::HashKind;
use crate::names::{Jurisdiction, MemberId};
use crate::statement::Labels;
use crate::time::Timestamp;

/// A rule: if so many say so, do so.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: Arc<str>,
    /// Codes; absent: any.
    pub(super) labels: Option<HashSet<u16>>,
    pub(super) kinds: Option<HashSet<HashKind>>,
    /// Whose word counts; absent: everybody's.
    pub(super) members: Option<BTreeSet<MemberId>>,
    pub(super) min_members: usize,
    pub(super) min_jurisdictions: usize,
    pub(super) min_weight: u64,
    pub(super) max_distance: u32,
    pub(super) min_quality: u8,
    pub(super) settled: bool,
    pub(super) min_age: Duration,
    pub(super) stage: Stage,
    pub(super) disputes: Disputes,
}

/// How many have to dispute a hash so that a rule decides less about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disputes {
    pub(super) members: usize,
    pub(super) jurisdictions: usize,
    pub(super) lower_to: Decision,
}

/// What is said about a hash, as far as it can count.
pub(super) struct Case<'a> {
    matched: &'a Matched<'a>,
    at: &'a Circumstances<'a>,
    adds: Vec<Voice<'a>>,
    disputes: Vec<Voice<'a>>,
}

/// A member whose word counts.
struct Voice<'a> {
    said: &'a Said<'a>,
    jurisdiction: Jurisdiction,
    weight: u32,
    /// Labels in force; none for disputes.
    labels: Option<Labels>,
}

impl<'a> Case<'a> {
    pub(super) fn new(policy: &Policy, matched: &'a Matched<'a>, at: &'a Circumstances<'a>) -> Self {
        let mut case = Self { matched, at, adds: Vec::new(), disputes: Vec::new() };
        for said in &matched.said {
            let weight = policy.weight(said.log.member);
            let speaker = at.charter.speaker(said.log.member).filter(|_| weight > 0);
            let Some((jurisdiction, departure)) = speaker else { continue };
            if departure.is_some_and(|departure| !policy.former.contains(&departure)) {
                continue;
            }
            let voice = |labels| Voice { said, jurisdiction, weight, labels };
            match said.attributes {
                Attributes::Dispute { .. } => case.disputes.push(voice(None)),
                Attributes::Add { .. } => {
                    let labels = effect(said, at.charter, at.as_of);
                    if labels.is_some() && matched.hash.emptiness().is_none() {
                        case.adds.push(voice(labels));
                    }
                }
            }
        }
        case
    }
}

/// How many members from how many jurisdictions, and their weight.
#[derive(Default)]
struct Count {
    members: usize,
    jurisdictions: Vec<Jurisdiction>,
    weight: u64,
}

impl Count {
    fn of<'a>(voices: impl Iterator<Item = &'a Voice<'a>>) -> Self {
        let mut count = Self::default();
        for voice in voices {
            count.members += 1;
            count.weight += u64::from(voice.weight);
            if !count.jurisdictions.contains(&voice.jurisdiction) {
                count.jurisdictions.push(voice.jurisdiction);
            }
        }
        count
    }
}

impl Rule {
    /// What the rule decides, and what kept it from deciding more.
    pub(super) fn decide(&self, case: &Case<'_>) -> (Decision, Vec<Lowered>) {
        let (matched, at) = (case.matched, case.at);
        let most = match self.stage {
            Stage::Off => Decision::None,
            Stage::Review => Decision::Review,
            Stage::Shadow | Stage::Block => Decision::Block,
        };
        let about = self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&matched.hash.kind()))
            && matched.distance <= self.max_distance;
        if most == Decision::None || !about || !self.reached(case, |_| true) {
            return (Decision::None, Vec::new());
        }
        let (mut decision, mut lowered) = (most, Vec::new());
        let quarantined = at.tripped.hashes.contains(&matched.hash)
            || !self.reached(case, |voice| !at.tripped.members.contains(&voice.said.log.member));
        if quarantined && decision == Decision::Block {
            decision = Decision::Review;
            lowered.push(Lowered::Quarantined);
        }
        let against = Count::of(case.disputes.iter());
        let disputed =
            against.members >= self.disputes.members && against.jurisdictions.len() >= self.disputes.jurisdictions;
        if disputed && decision > self.disputes.lower_to {
            decision = self.disputes.lower_to;
            lowered.push(Lowered::Disputed);
        }
        (decision, lowered)
    }

    /// Whether enough members add the hash in the way that the rule wants, of those who may count.
    fn reached(&self, case: &Case<'_>, may_count: impl Fn(&Voice<'_>) -> bool) -> bool {
        let count = Count::of(case.adds.iter().filter(|voice| self.wants(voice, case.at.as_of) && may_count(voice)));
        count.members >= self.min_members
            && count.jurisdictions.len() >= self.min_jurisdictions
            && count.weight >= self.min_weight
    }

    fn wants(&self, voice: &Voice<'_>, as_of: Timestamp) -> bool {
        let quality = match voice.said.attributes {
            Attributes::Add { quality, .. } => *quality,
            Attributes::Dispute { .. } => None,
        };
        self.labels.as_ref().is_none_or(|wanted| {
            voice.labels.is_some_and(|labels| labels.filter(|code| wanted.contains(&code)).is_some())
        }) && self.members.as_ref().is_none_or(|members| members.contains(&voice.said.log.member))
            && quality.is_none_or(|quality| quality >= self.min_quality)
            && (voice.said.settled || !self.settled)
            && as_of.since(voice.said.time) >= self.min_age
    }
}
