//! What this platform believes: rules that turn statements into a verdict (SPEC 12).
//!
//! Pure and local. The same statements, charter, policy, tripped breakers and moment give the same verdict on every node;
//! nothing in the charter and nothing that a member says can force one, and the policy never leaves the platform.

mod form;
#[cfg(test)]
mod oracle;
mod rule;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub use form::PolicyError;
use rule::{Case, Rule};
use serde::{Deserialize, Serialize};

use crate::catalog::{Attributes, Catalog, ContentId, Said};
use crate::charter::{Charter, Departure};
use crate::content_hash::{ContentHash, MIN_PDQ_QUALITY};
use crate::digest::Digest;
use crate::names::MemberId;
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
    /// Of which former members what they said still counts.
    former: HashSet<Departure>,
    negative: HashSet<ContentHash>,
    disabled: HashMap<ContentHash, Timestamp>,
    breakers: Breakers,
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

impl<'a> Matched<'a> {
    /// A hash of the catalog and what is said about it; `None` if nobody stands by it any more.
    pub fn of(catalog: &'a Catalog, id: ContentId, distance: u32) -> Option<Self> {
        let said: Vec<_> = catalog.said(id).collect();
        (!said.is_empty()).then(|| Self { hash: catalog.hash(id), distance, said })
    }
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

# Of which former members what they said still counts: left, expelled, resolved (their keys were stolen or lost).
former = [\"left\", \"resolved\"]

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

/// The labels under which a statement adds its hash now, if it does.
pub fn effect(said: &Said<'_>, charter: &Charter, as_of: Timestamp) -> Option<Labels> {
    let Attributes::Add { labels, quality, expiry, .. } = said.attributes else { return None };
    charter.speaker(said.log.member)?;
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
    use super::*;
    use crate::charter::tests::charter;
    use crate::content_hash::HashKind;
    use crate::names::LogId;

    pub(super) fn add(labels: &[u16], quality: Option<u8>, expiry: Option<u64>) -> Attributes {
        let labels = Labels::new(labels).unwrap();
        Attributes::Add { labels, media: 1, quality, expiry: expiry.map(Timestamp), incident: None }
    }

    pub(super) fn said<'a>(member: &str, attributes: &'a Attributes) -> Said<'a> {
        let log = LogId { member: member.parse().unwrap(), epoch: 0 };
        Said { log, index: 0, time: Timestamp(1000), attributes, settled: false }
    }

    pub(super) const DISPUTE: Attributes = Attributes::Dispute { reason: 3 };

    pub(super) fn pdq() -> ContentHash {
        ContentHash::new(HashKind::Pdq, &[0x0f; 32]).unwrap()
    }

    pub(super) fn tripped(members: &[&str], hashes: &[ContentHash]) -> Tripped {
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
}
