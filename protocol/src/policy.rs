//! What this platform believes: rules that turn statements into a verdict (SPEC 12).
//!
//! Pure and local. The same statements, charter, policy, tripped breakers and moment give the same verdict on every node;
//! nothing in the charter and nothing that a member says can force one, and the policy never leaves the platform.

mod form;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

pub use form::PolicyError;
use serde::{Deserialize, Serialize};

use crate::catalog::{Attributes, Said};
use crate::charter::Charter;
use crate::content_hash::{ContentHash, HashKind, MIN_PDQ_QUALITY};
use crate::digest::Digest;
use crate::names::{Jurisdiction, MemberId};
use crate::statement::Labels;
use crate::time::Timestamp;

/// The largest PDQ distance that can match: the field's threshold, and the radius that the near index is built for.
pub const MAX_DISTANCE: u32 = 31;

/// What to do with content, in rising severity.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Nothing is known against it.
    #[default]
    None,
    /// A person should look.
    Review,
    /// It should not be shown.
    Block,
}

/// How far a rule has been brought into use.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// It does nothing.
    Off,
    /// It decides nothing; answers say that it would have.
    Shadow,
    /// It calls for a person.
    Review,
    /// It blocks.
    Block,
}

/// A policy that has been checked against the charter.
#[derive(Clone, Debug)]
pub struct Policy {
    id: Digest,
    text: String,
    rules: Vec<Rule>,
    /// Members that weigh something else than 1.
    weights: HashMap<MemberId, u32>,
    negative: HashSet<ContentHash>,
    disabled: HashMap<ContentHash, Timestamp>,
    breakers: Breakers,
}

/// A rule: if so many say so, do so.
#[derive(Clone, Debug)]
struct Rule {
    name: Arc<str>,
    /// Codes; absent: any.
    labels: Option<HashSet<u16>>,
    kinds: Option<HashSet<HashKind>>,
    /// Whose word counts; absent: everybody's.
    members: Option<BTreeSet<MemberId>>,
    min_members: usize,
    min_jurisdictions: usize,
    min_weight: u64,
    max_distance: u32,
    min_quality: u8,
    settled: bool,
    min_age: Duration,
    stage: Stage,
    disputes: Disputes,
}

/// How many have to dispute a hash so that a rule decides less about it.
#[derive(Clone, Copy, Debug)]
struct Disputes {
    members: usize,
    jurisdictions: usize,
    lower_to: Decision,
}

/// When a person has to look before more is blocked.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Breakers {
    /// Statements that a member may make in 24 hours, whatever it has said before; 0: no limit.
    pub member_changes: u64,
    /// The same in percent of its live statements. The larger of both counts.
    pub member_share: u8,
    /// How often a stored hash may match in an hour; 0: no limit.
    pub hash_matches: u32,
}

impl Default for Breakers {
    fn default() -> Self {
        Self { member_changes: 1000, member_share: 5, hash_matches: 10_000 }
    }
}

/// What has tripped a breaker and waits for a person: nothing is blocked on its account, only reviewed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tripped {
    /// Members whose additions are worth a review at most.
    pub members: HashSet<MemberId>,
    /// Stored hashes about which a review is decided at most.
    pub hashes: HashSet<ContentHash>,
}

/// What a verdict depends on beside the statements and the policy.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The charter in force.
    pub charter: &'a Charter,
    /// What has tripped a breaker.
    pub tripped: &'a Tripped,
    /// The moment.
    pub as_of: Timestamp,
}

/// A stored content hash that a query matches.
#[derive(Clone, Debug)]
pub struct Matched<'a> {
    /// The stored hash.
    pub hash: ContentHash,
    /// How far from the query: 0 for exact kinds.
    pub distance: u32,
    /// What the members say about it.
    pub said: Vec<Said<'a>>,
}

/// What a policy makes of one matched hash.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// What to do.
    pub decision: Decision,
    /// The rule that says so; none for [`Decision::None`].
    pub rule: Option<Arc<str>>,
    /// Why it is not more.
    pub lowered: Vec<Lowered>,
    /// Rules in the shadow stage that would have acted.
    pub shadow: Vec<String>,
}

/// Why less is decided than the additions alone would give.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lowered {
    /// The hash is on the platform's own negative list.
    Negative,
    /// The platform has disabled the hash until a moment that has not come yet.
    Disabled,
    /// Enough members dispute it.
    Disputed,
    /// A member or the hash waits in quarantine until a person has looked.
    Quarantined,
}

impl Policy {
    /// What a platform has until it writes its own: two members of two jurisdictions block, one is a case for people. MD5
    /// and SHA-1 never block: for a few dollars somebody can make two files with one such hash.
    pub const STANDARD: &str = "\
# What this platform does with what the members say. Checked when the node starts; see `hashmesh policy --help`.
#
# Every rule that fires counts; the most severe decision wins. Left out: labels, kinds, members (any will do);
# min_jurisdictions, min_weight, min_quality (0); max_distance (31); settled (false); min_age (none).

[[rule]]
name = \"corroborated\"
kinds = [\"pdq\", \"sha256\"]
min_members = 2
min_jurisdictions = 2
max_distance = 31        # PDQ only: bits that may differ, 0 to 31
stage = \"block\"          # off, shadow (only told in answers), review, block

[rule.disputes]          # so many members from so many jurisdictions who dispute the hash lower the decision
members = 2
jurisdictions = 2
lower_to = \"review\"

[[rule]]
name = \"single source\"
min_members = 1
max_distance = 31
stage = \"review\"

# What a member's word weighs where a rule has min_weight: whole numbers, 1 if not named. 0: it counts for nothing.
[weights]

# Until a person has looked (hashmesh quarantine), nothing is blocked on account of a member that says more than this
# in 24 hours, or of a hash that matches more often than this in an hour.
[breakers]
member_changes = 1000
member_share = 5         # percent of its live statements, if that is more
hash_matches = 10000

# Content that is never matched, whoever lists it: KIND:HEX, exactly.
[negative]
hashes = []

# [[disabled]]           # the same until a moment
# hash = \"KIND:HEX\"
# until = \"2026-12-31T00:00:00Z\"
";

    /// Reads a policy and checks it against the charter.
    pub fn parse(text: &str, charter: &Charter) -> Result<Self, PolicyError> {
        form::parse(text, charter)
    }

    /// The SHA-256 of the file, which answers carry.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// When a person has to look.
    pub fn breakers(&self) -> Breakers {
        self.breakers
    }

    /// The largest distance at which any rule looks: how far the near index must search.
    pub fn reach(&self) -> u32 {
        let in_use = self.rules.iter().filter(|rule| rule.stage != Stage::Off);
        in_use.map(|rule| rule.max_distance).max().unwrap_or(0)
    }

    /// Judges one matched hash.
    pub fn judge(&self, matched: &Matched<'_>, at: &Circumstances<'_>) -> Verdict {
        if self.negative.contains(&matched.hash) {
            return Verdict { lowered: vec![Lowered::Negative], ..Verdict::default() };
        }
        if self.disabled.get(&matched.hash).is_some_and(|until| at.as_of < *until) {
            return Verdict { lowered: vec![Lowered::Disabled], ..Verdict::default() };
        }
        let case = Case::new(self, matched, at);
        let mut verdict = Verdict::default();
        for rule in &self.rules {
            let (decision, lowered) = rule.decide(&case);
            if rule.stage == Stage::Shadow {
                if decision > Decision::None {
                    verdict.shadow.push(rule.name.to_string());
                }
                continue;
            }
            // Of rules with one decision the first in the file, which is the order that people give them.
            if decision > verdict.decision {
                verdict.decision = decision;
                verdict.rule = Some(rule.name.clone());
            }
            verdict.lowered.extend(lowered);
        }
        verdict.lowered.sort_unstable();
        verdict.lowered.dedup();
        verdict
    }

    fn weight(&self, member: MemberId) -> u32 {
        self.weights.get(&member).copied().unwrap_or(1)
    }
}

/// What is said about a hash, as far as it can count.
struct Case<'a> {
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
    fn new(policy: &Policy, matched: &'a Matched<'a>, at: &'a Circumstances<'a>) -> Self {
        let mut case = Self { matched, at, adds: Vec::new(), disputes: Vec::new() };
        for said in &matched.said {
            let weight = policy.weight(said.log.member);
            let Some(member) = at.charter.member(said.log.member).filter(|_| weight > 0) else { continue };
            let voice = |labels| Voice { said, jurisdiction: member.jurisdiction, weight, labels };
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
    fn decide(&self, case: &Case<'_>) -> (Decision, Vec<Lowered>) {
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

/// The labels under which a statement adds its hash now, if it does.
pub fn effect(said: &Said<'_>, charter: &Charter, as_of: Timestamp) -> Option<Labels> {
    let Attributes::Add { labels, quality, expiry, .. } = said.attributes else { return None };
    charter.member(said.log.member)?;
    if quality.is_some_and(|quality| quality < MIN_PDQ_QUALITY) || expiry.is_some_and(|expiry| expiry <= as_of) {
        return None;
    }
    // A label that the charter does not have makes the whole statement wait for a charter that has it.
    if labels.codes().iter().any(|code| charter.label(*code).is_none()) {
        return None;
    }
    let retained = |days: u32| as_of.since(said.time).as_secs() < u64::from(days) * 24 * 60 * 60;
    let in_force = |code| charter.label(code).is_some_and(|label| label.retention_days.is_none_or(retained));
    labels.filter(|code| expiry.is_some() || in_force(code))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::charter::tests::charter;
    use crate::names::LogId;

    fn add(labels: &[u16], quality: Option<u8>, expiry: Option<u64>) -> Attributes {
        let labels = Labels::new(labels).unwrap();
        Attributes::Add { labels, media: 1, quality, expiry: expiry.map(Timestamp), incident: None }
    }

    fn said<'a>(member: &str, attributes: &'a Attributes) -> Said<'a> {
        let log = LogId { member: member.parse().unwrap(), epoch: 0 };
        Said { log, index: 0, time: Timestamp(1000), attributes, settled: false }
    }

    const DISPUTE: Attributes = Attributes::Dispute { reason: 3 };

    fn pdq() -> ContentHash {
        ContentHash::new(HashKind::Pdq, &[0x0f; 32]).unwrap()
    }

    fn tripped(members: &[&str], hashes: &[ContentHash]) -> Tripped {
        Tripped {
            members: members.iter().map(|member| member.parse().unwrap()).collect(),
            hashes: hashes.iter().copied().collect(),
        }
    }

    fn verdict(policy: &str, distance: u32, said: Vec<Said<'_>>, tripped: &Tripped) -> Verdict {
        let charter = charter();
        let policy = Policy::parse(policy, &charter).unwrap();
        let at = Circumstances { charter: &charter, tripped, as_of: Timestamp(5000) };
        policy.judge(&Matched { hash: pdq(), distance, said }, &at)
    }

    fn judge(policy: &str, distance: u32, said: Vec<Said<'_>>) -> (Decision, Option<Arc<str>>) {
        let verdict = verdict(policy, distance, said, &Tripped::default());
        (verdict.decision, verdict.rule)
    }

    #[test]
    fn the_standard_policy_reviews_one_member_and_blocks_on_two() {
        let add = add(&[1], None, None);
        let (acme, bolt) = (said("acme", &add), said("bolt", &add));
        assert_eq!(judge(Policy::STANDARD, 0, vec![]), (Decision::None, None));
        assert_eq!(judge(Policy::STANDARD, 3, vec![acme]), (Decision::Review, Some("single source".into())));
        assert_eq!(judge(Policy::STANDARD, 31, vec![acme, bolt]), (Decision::Block, Some("corroborated".into())));
        assert_eq!(judge(Policy::STANDARD, 32, vec![acme, bolt]), (Decision::None, None));
    }

    #[test]
    fn under_the_standard_policy_collidable_kinds_never_block() {
        let charter = charter();
        let policy = Policy::parse(Policy::STANDARD, &charter).unwrap();
        let add = add(&[1], None, None);
        for (kind, expected) in
            [(HashKind::Md5, Decision::Review), (HashKind::Sha1, Decision::Review), (HashKind::Sha256, Decision::Block)]
        {
            let hash = ContentHash::new(kind, &[7; 32][..kind.width()]).unwrap();
            let matched = Matched { hash, distance: 0, said: vec![said("acme", &add), said("bolt", &add)] };
            let at = Circumstances { charter: &charter, tripped: &Tripped::default(), as_of: Timestamp(5000) };
            assert_eq!(policy.judge(&matched, &at).decision, expected, "{kind}");
        }
    }

    /// SPEC 11.5.
    #[test]
    fn statements_without_effect_count_for_nothing() {
        let one = |member: &str, attributes: &Attributes| judge(Policy::STANDARD, 0, vec![said(member, attributes)]).0;
        assert_eq!(one("acme", &add(&[1], Some(50), None)), Decision::Review);
        assert_eq!(one("acme", &add(&[1], Some(49), None)), Decision::None, "too little in the picture");
        assert_eq!(one("acme", &add(&[1], None, Some(5000))), Decision::None, "expired");
        assert_eq!(one("acme", &add(&[1], None, Some(5001))), Decision::Review);
        assert_eq!(one("acme", &add(&[1, 99], None, None)), Decision::None, "a label the charter does not have");
        assert_eq!(one("eve", &add(&[1], None, None)), Decision::None, "no member");
        assert_eq!(one("acme", &DISPUTE), Decision::None);
    }

    /// A rule of which only the rest is given.
    fn rule(rest: &str) -> String {
        let members = if rest.contains("min_members") { "" } else { "min_members = 1\n" };
        let stage = if rest.contains("stage") { "" } else { "stage = \"block\"\n" };
        format!("[[rule]]\nname = \"r\"\n{members}{stage}{rest}")
    }

    #[test]
    fn each_condition_narrows_a_rule() {
        let good = add(&[1], Some(80), None);
        let one = |rest: &str, distance| judge(&rule(rest), distance, vec![said("acme", &good)]).0;
        assert_eq!(one("", 31), Decision::Block);
        assert_eq!(one("labels = [\"demo\"]", 0), Decision::Block);
        assert_eq!(one("labels = [\"csam-a1\"]", 0), Decision::None);
        assert_eq!(one("kinds = [\"md5\"]", 0), Decision::None);
        assert_eq!(one("kinds = [\"md5\", \"pdq\"]", 0), Decision::Block);
        assert_eq!(one("max_distance = 10", 10), Decision::Block);
        assert_eq!(one("max_distance = 10", 11), Decision::None);
        assert_eq!(one("members = [\"acme\"]", 0), Decision::Block);
        assert_eq!(one("members = [\"bolt\"]", 0), Decision::None);
        assert_eq!(one("min_quality = 80", 0), Decision::Block);
        assert_eq!(one("min_quality = 81", 0), Decision::None);
        assert_eq!(one("min_age = \"4s\"", 0), Decision::Block);
        assert_eq!(one("min_age = \"5s\"", 0), Decision::None);
        assert_eq!(one("min_weight = 2", 0), Decision::None);
        assert_eq!(one("min_weight = 2\n[weights]\nacme = 2", 0), Decision::Block);
        assert_eq!(one("[weights]\nacme = 0", 0), Decision::None, "who weighs nothing counts for nothing");
        assert_eq!(one("settled = true", 0), Decision::None);
        let settled = Said { settled: true, ..said("acme", &good) };
        assert_eq!(judge(&rule("settled = true"), 0, vec![settled]).0, Decision::Block);
        assert_eq!(one(&format!("[negative]\nhashes = [\"{}\"]", pdq()), 0), Decision::None);
        let disabled = |until: &str| format!("[[disabled]]\nhash = \"{}\"\nuntil = \"{until}\"", pdq());
        assert_eq!(one(&disabled("1970-01-01T00:00:06Z"), 0), Decision::None);
        assert_eq!(one(&disabled("1970-01-01T00:00:05Z"), 0), Decision::Block, "the moment has come");
    }

    #[test]
    fn jurisdictions_are_counted_once_each() {
        let add = add(&[1], None, None);
        let places = rule("min_members = 2\nmin_jurisdictions = 2");
        let same = said("acme", &add);
        assert_eq!(judge(&places, 0, vec![same, said("bolt", &add)]).0, Decision::Block);
        let mut charter = charter();
        let policy = Policy::parse(&places, &charter).unwrap();
        charter = crate::charter::tests::charter_in(&["FR", "FR", "US", "JP"]);
        let at = Circumstances { charter: &charter, tripped: &Tripped::default(), as_of: Timestamp(5000) };
        let judge = |said| policy.judge(&Matched { hash: pdq(), distance: 0, said }, &at).decision;
        assert_eq!(judge(vec![same, said("bolt", &add)]), Decision::None);
        assert_eq!(judge(vec![same, said("bolt", &add), said("crab", &add)]), Decision::Block);
    }

    #[test]
    fn stages_bring_a_rule_into_use_step_by_step() {
        let add = add(&[1], None, None);
        let at = |stage: &str| {
            let rest = format!("stage = \"{stage}\"");
            let verdict = verdict(&rule(&rest), 0, vec![said("acme", &add)], &Tripped::default());
            (verdict.decision, verdict.shadow)
        };
        assert_eq!(at("off"), (Decision::None, vec![]));
        assert_eq!(at("shadow"), (Decision::None, vec!["r".to_owned()]));
        assert_eq!(at("review"), (Decision::Review, vec![]));
        assert_eq!(at("block"), (Decision::Block, vec![]));
    }

    #[test]
    fn two_disputers_of_two_jurisdictions_move_block_to_review() {
        let add = add(&[1], None, None);
        let with = |rest: &str, disputers: &[&str]| {
            let said = [said("acme", &add)].into_iter().chain(disputers.iter().map(|member| said(member, &DISPUTE)));
            let verdict = verdict(&rule(rest), 0, said.collect(), &Tripped::default());
            (verdict.decision, verdict.lowered)
        };
        assert_eq!(with("", &["bolt"]), (Decision::Block, vec![]));
        assert_eq!(with("", &["bolt", "crab"]), (Decision::Review, vec![Lowered::Disputed]));
        assert_eq!(with("", &["bolt", "eve"]), (Decision::Block, vec![]), "who is no member disputes nothing");
        assert_eq!(with("stage = \"review\"", &["bolt", "crab"]), (Decision::Review, vec![]), "nothing moves to none");
        let none = "[rule.disputes]\nmembers = 1\njurisdictions = 1\nlower_to = \"none\"";
        assert_eq!(with(none, &["bolt"]), (Decision::None, vec![Lowered::Disputed]));
    }

    #[test]
    fn what_has_tripped_a_breaker_is_reviewed_at_most() {
        let add = add(&[1], None, None);
        let both = || vec![said("acme", &add), said("bolt", &add)];
        let with = |rest: &str, tripped: &Tripped| {
            let verdict = verdict(&rule(rest), 0, both(), tripped);
            (verdict.decision, verdict.lowered)
        };
        let quarantined = (Decision::Review, vec![Lowered::Quarantined]);
        assert_eq!(with("min_members = 2", &tripped(&["acme"], &[])), quarantined);
        assert_eq!(with("min_members = 1", &tripped(&["acme"], &[])), (Decision::Block, vec![]), "bolt is enough");
        assert_eq!(with("min_members = 1", &tripped(&[], &[pdq()])), quarantined);
    }

    #[test]
    fn mistakes_in_the_file_are_named() {
        let error = |text: &str| Policy::parse(text, &charter()).unwrap_err();
        assert_eq!(error(""), PolicyError::NoRules);
        for typo in ["min_member = 2", "[negatives]\nhashes = []", "stage = \"blok\"", "[breakers]\nmembers = 3"] {
            assert!(matches!(error(&rule(typo)), PolicyError::Form(message) if message.contains("expected")), "{typo}");
        }
        assert_eq!(error(&rule("").repeat(2)), PolicyError::TwoRules("r".into()));
        for value in [
            "min_members = 0",
            "min_members = 5",
            "min_jurisdictions = 2",
            "max_distance = 32",
            "min_quality = 101",
            "min_age = \"soon\"",
            "[rule.disputes]\nmembers = 0",
            "[breakers]\nmember_share = 101",
            "[[disabled]]\nhash = \"md5:00000000000000000000000000000000\"\nuntil = \"later\"",
        ] {
            assert!(matches!(error(&rule(value)), PolicyError::Value(..)), "{value}: {:?}", error(&rule(value)));
        }
        assert!(matches!(error(&rule("kinds = [\"crc\"]")), PolicyError::Kind(..)));
        let unknown = error(&rule("labels = [\"nope\"]"));
        assert_eq!(unknown.to_string(), "rule \"r\": the charter has no label \"nope\" (it has: demo, csam-a1)");
        for nobody in ["members = [\"eve\"]", "[weights]\neve = 2"] {
            assert!(matches!(error(&rule(nobody)), PolicyError::UnknownMember { .. }), "{nobody}");
        }
        assert!(matches!(error(&rule("[negative]\nhashes = [\"pdq:0\"]")), PolicyError::Hash(..)));
    }

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
            policy.judge(&matched, &Circumstances { charter, tripped: &tripped, as_of: Timestamp(AS_OF) }).decision
                as usize
        }
    }

    fn word() -> impl Strategy<Value = Option<Word>> {
        let quality = prop_oneof![Just(None), Just(Some(49)), Just(Some(50)), Just(Some(80))];
        let add = (1u16..3, quality, proptest::bool::weighted(0.1), any::<bool>(), 0u64..3).prop_map(
            |(label, quality, expired, settled, age)| Some(Word::Add { label, quality, expired, settled, age }),
        );
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
}
