//! What this platform believes: rules that turn statements into a verdict (SPEC 12).
//!
//! Pure and local. The same statements, charter, policy and moment give the same verdict on every node; nothing in the
//! charter and nothing that a member says can force one, and the policy never leaves the platform.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::catalog::{Attributes, Said};
use crate::charter::Charter;
use crate::content_hash::{ContentHash, ContentHashError, HashKind, MIN_PDQ_QUALITY};
use crate::digest::Digest;
use crate::names::MemberId;
use crate::time::Timestamp;

/// The largest PDQ distance that can match: the field's threshold, and the radius that the near index is built for.
pub const MAX_DISTANCE: u32 = 31;

/// What to do with content, in rising severity.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
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

/// The file, as people write it. Unknown keys are errors: a misspelt limit must not be an absent one.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct PolicyForm {
    #[serde(default)]
    rule: Vec<RuleForm>,
    #[serde(default)]
    negative: NegativeForm,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct RuleForm {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kinds: Option<Vec<String>>,
    min_members: usize,
    #[serde(default = "max_distance")]
    max_distance: u32,
    decision: Decision,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct NegativeForm {
    #[serde(default)]
    hashes: Vec<String>,
}

fn max_distance() -> u32 {
    MAX_DISTANCE
}

/// Why a file is not a policy for this federation.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// Not the TOML of a policy; says where.
    #[error("{0}")]
    Form(String),
    /// Nothing in it.
    #[error("a policy without a [[rule]] would match nothing")]
    NoRules,
    /// Two rules cannot be told apart in answers.
    #[error("two rules are called {0:?}")]
    TwoRules(String),
    /// A label that the charter does not have.
    #[error("rule {rule:?}: the charter has no label {label:?} (it has: {known})")]
    UnknownLabel {
        /// The rule.
        rule: String,
        /// The label.
        label: String,
        /// What there is.
        known: String,
    },
    /// A kind that does not exist.
    #[error("rule {0:?}")]
    Kind(String, #[source] ContentHashError),
    /// A number out of bounds.
    #[error("rule {0:?}: {1}")]
    Number(String, &'static str),
    /// A hash on the negative list that is none.
    #[error("[negative] hashes")]
    Negative(#[source] ContentHashError),
}

/// A policy that has been checked against the charter.
#[derive(Clone, Debug)]
pub struct Policy {
    id: Digest,
    rules: Vec<Rule>,
    negative: HashSet<ContentHash>,
}

/// A rule: if so many members say so, decide so.
#[derive(Clone, Debug)]
struct Rule {
    name: String,
    /// Codes; absent: any.
    labels: Option<HashSet<u16>>,
    kinds: Option<HashSet<HashKind>>,
    min_members: usize,
    max_distance: u32,
    decision: Decision,
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
    pub rule: Option<String>,
    /// Whether the hash is on the platform's own negative list.
    pub negative: bool,
}

impl Policy {
    /// What a platform has until it writes its own: two members block, one is a case for people.
    pub const STANDARD: &str = "\
# What this platform does with what the members say. Checked when the node starts.
#
# Every rule that fires counts; the most severe decision wins. `labels` and `kinds` may be left out: then any will do.

[[rule]]
name = \"corroborated\"
min_members = 2
max_distance = 31        # PDQ only: bits that may differ, 0 to 31
decision = \"block\"

[[rule]]
name = \"single source\"
min_members = 1
max_distance = 31
decision = \"review\"

# Content that is never matched, whoever lists it: KIND:HEX, exactly.
[negative]
hashes = []
";

    /// Reads a policy and checks it against the charter.
    pub fn parse(text: &str, charter: &Charter) -> Result<Self, PolicyError> {
        let form: PolicyForm = toml::from_str(text).map_err(|error| PolicyError::Form(error.to_string()))?;
        if form.rule.is_empty() {
            return Err(PolicyError::NoRules);
        }
        let mut names = HashSet::new();
        let mut rules = Vec::new();
        for rule in form.rule {
            if !names.insert(rule.name.clone()) {
                return Err(PolicyError::TwoRules(rule.name));
            }
            rules.push(Rule::check(rule, charter)?);
        }
        let negative = form.negative.hashes.iter().map(|text| text.parse().map_err(PolicyError::Negative));
        Ok(Self { id: Digest::of(&[text.as_bytes()]), rules, negative: negative.collect::<Result<_, _>>()? })
    }

    /// The SHA-256 of the file, which answers carry.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The largest distance at which any rule looks: how far the near index must search.
    pub fn reach(&self) -> u32 {
        self.rules.iter().map(|rule| rule.max_distance).max().unwrap_or(0)
    }

    /// Judges one matched hash.
    pub fn judge(&self, matched: &Matched<'_>, charter: &Charter, as_of: Timestamp) -> Verdict {
        if self.negative.contains(&matched.hash) {
            return Verdict { negative: true, ..Verdict::default() };
        }
        let adds = effective_adds(matched, charter, as_of);
        let fired = self.rules.iter().filter(|rule| rule.fires(matched, &adds));
        // Of rules with one decision the first in the file, which is the order that people give them.
        let worst = fired.rev().max_by_key(|rule| rule.decision);
        worst.map_or(Verdict::default(), |rule| Verdict {
            decision: rule.decision,
            rule: Some(rule.name.clone()),
            negative: false,
        })
    }
}

/// Who adds the hash with effect, and with which labels (SPEC 11.5).
fn effective_adds(matched: &Matched<'_>, charter: &Charter, as_of: Timestamp) -> BTreeMap<MemberId, Vec<u16>> {
    let mut adds = BTreeMap::new();
    if matched.hash.emptiness().is_some() {
        return adds;
    }
    for said in &matched.said {
        if let Some(labels) = effect(said, charter, as_of) {
            adds.insert(said.log.member, labels);
        }
    }
    adds
}

/// The labels under which a statement adds its hash now, if it does.
pub fn effect(said: &Said<'_>, charter: &Charter, as_of: Timestamp) -> Option<Vec<u16>> {
    let Attributes::Add { labels, quality, expiry, .. } = said.attributes else { return None };
    charter.member(said.log.member)?;
    if quality.is_some_and(|quality| quality < MIN_PDQ_QUALITY) || expiry.is_some_and(|expiry| expiry <= as_of) {
        return None;
    }
    let mut in_force = Vec::new();
    for &code in labels.codes() {
        // A label that the charter does not have makes the whole statement wait for a charter that has it.
        let label = charter.label(code)?;
        let retained = |days: u32| as_of.since(said.time).as_secs() < u64::from(days) * 24 * 60 * 60;
        if expiry.is_some() || label.retention_days.is_none_or(retained) {
            in_force.push(code);
        }
    }
    (!in_force.is_empty()).then_some(in_force)
}

impl Rule {
    fn check(form: RuleForm, charter: &Charter) -> Result<Self, PolicyError> {
        let RuleForm { name, labels, kinds, min_members, max_distance, decision } = form;
        if min_members == 0 {
            return Err(PolicyError::Number(name, "min_members must be at least 1"));
        }
        if max_distance > MAX_DISTANCE {
            return Err(PolicyError::Number(name, "max_distance must be 0 to 31"));
        }
        let code = |label: &String| {
            let known = || charter.body().labels.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(", ");
            charter.label_named(label).map(|label| label.code).ok_or_else(|| PolicyError::UnknownLabel {
                rule: name.clone(),
                label: label.clone(),
                known: known(),
            })
        };
        let labels = labels.map(|labels| labels.iter().map(code).collect()).transpose()?;
        let kind = |kind: &String| kind.parse().map_err(|error| PolicyError::Kind(name.clone(), error));
        let kinds = kinds.map(|kinds| kinds.iter().map(kind).collect()).transpose()?;
        Ok(Self { labels, kinds, min_members, max_distance, decision, name })
    }

    fn fires(&self, matched: &Matched<'_>, adds: &BTreeMap<MemberId, Vec<u16>>) -> bool {
        let wanted =
            |codes: &[u16]| self.labels.as_ref().is_none_or(|labels| codes.iter().any(|code| labels.contains(code)));
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&matched.hash.kind()))
            && matched.distance <= self.max_distance
            && adds.values().filter(|codes| wanted(codes)).count() >= self.min_members
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charter::tests::charter;
    use crate::names::LogId;
    use crate::statement::Labels;

    fn add(labels: &[u16], quality: Option<u8>, expiry: Option<u64>) -> Attributes {
        let labels = Labels::new(labels).unwrap();
        Attributes::Add { labels, media: 1, quality, expiry: expiry.map(Timestamp), incident: None }
    }

    fn said<'a>(member: &str, attributes: &'a Attributes) -> Said<'a> {
        let log = LogId { member: member.parse().unwrap(), epoch: 0 };
        Said { log, index: 0, time: Timestamp(1000), attributes }
    }

    fn pdq() -> ContentHash {
        ContentHash::new(HashKind::Pdq, &[0x0f; 32]).unwrap()
    }

    fn judge(policy: &str, distance: u32, said: Vec<Said<'_>>) -> (Decision, Option<String>) {
        let policy = Policy::parse(policy, &charter()).unwrap();
        let verdict = policy.judge(&Matched { hash: pdq(), distance, said }, &charter(), Timestamp(5000));
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
        assert_eq!(one("acme", &Attributes::Dispute { reason: 3 }), Decision::None);
    }

    #[test]
    fn labels_kinds_and_distances_narrow_a_rule() {
        let policy = |extra: &str| format!("[[rule]]\nname = \"r\"\nmin_members = 1\ndecision = \"block\"\n{extra}");
        let add = add(&[1], None, None);
        let one = |extra: &str, distance| judge(&policy(extra), distance, vec![said("acme", &add)]).0;
        assert_eq!(one("", 31), Decision::Block);
        assert_eq!(one("labels = [\"demo\"]", 0), Decision::Block);
        assert_eq!(one("labels = [\"csam-a1\"]", 0), Decision::None);
        assert_eq!(one("kinds = [\"md5\"]", 0), Decision::None);
        assert_eq!(one("kinds = [\"md5\", \"pdq\"]", 0), Decision::Block);
        assert_eq!(one("max_distance = 10", 10), Decision::Block);
        assert_eq!(one("max_distance = 10", 11), Decision::None);
        assert_eq!(one(&format!("[negative]\nhashes = [\"{}\"]", pdq()), 0), Decision::None);
    }

    #[test]
    fn mistakes_in_the_file_are_named() {
        let error = |text: &str| Policy::parse(text, &charter()).unwrap_err();
        let rule = "[[rule]]\nname = \"r\"\nmin_members = 1\ndecision = \"block\"\n";
        assert_eq!(error(""), PolicyError::NoRules);
        for typo in ["min_member = 2", "[negatives]\nhashes = []", "decision = \"blok\""] {
            let text = if typo.starts_with('d') {
                rule.replace("decision = \"block\"", typo)
            } else {
                format!("{rule}{typo}")
            };
            assert!(matches!(error(&text), PolicyError::Form(message) if message.contains("expected")), "{typo}");
        }
        assert_eq!(error(&rule.repeat(2)), PolicyError::TwoRules("r".into()));
        assert!(matches!(error(&rule.replace('1', "0")), PolicyError::Number(..)));
        assert!(matches!(error(&format!("{rule}max_distance = 32")), PolicyError::Number(..)));
        assert!(matches!(error(&format!("{rule}kinds = [\"crc\"]")), PolicyError::Kind(..)));
        let unknown = error(&format!("{rule}labels = [\"nope\"]"));
        assert_eq!(unknown.to_string(), "rule \"r\": the charter has no label \"nope\" (it has: demo, csam-a1)");
        assert!(matches!(error(&format!("{rule}[negative]\nhashes = [\"pdq:0\"]")), PolicyError::Negative(_)));
    }
}
