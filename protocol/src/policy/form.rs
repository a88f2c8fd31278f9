//! The policy file, as people write it: TOML. Unknown keys are errors: a misspelt limit must not be an absent one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use serde::Deserialize;

use super::rule::{Disputes, Rule};
use super::{Breakers, Decision, MAX_DISTANCE, Policy, Stage};
use crate::charter::{Charter, Departure};
use crate::content_hash::{ContentHash, ContentHashError};
use crate::digest::Digest;
use crate::names::MemberId;
use crate::time::Timestamp;

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
    /// Somebody whom the charter does not have.
    #[error("{place}: the charter has no member {member:?} (it has: {known})")]
    UnknownMember {
        /// Where it stands.
        place: String,
        /// The member.
        member: String,
        /// Who there is.
        known: String,
    },
    /// A kind that does not exist.
    #[error("rule {0:?}")]
    Kind(String, #[source] ContentHashError),
    /// A value out of bounds.
    #[error("{0}: {1}")]
    Value(String, String),
    /// A hash that is none.
    #[error("{0}")]
    Hash(&'static str, #[source] ContentHashError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyForm {
    #[serde(default = "not_expelled")]
    former: Vec<String>,
    #[serde(default)]
    rule: Vec<RuleForm>,
    #[serde(default)]
    weights: BTreeMap<String, u32>,
    #[serde(default)]
    negative: NegativeForm,
    #[serde(default)]
    disabled: Vec<DisabledForm>,
    #[serde(default)]
    breakers: Breakers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleForm {
    name: String,
    labels: Option<Vec<String>>,
    kinds: Option<Vec<String>>,
    members: Option<Vec<String>>,
    min_members: usize,
    #[serde(default)]
    min_jurisdictions: usize,
    #[serde(default)]
    min_weight: u64,
    max_distance: Option<u32>,
    #[serde(default)]
    min_quality: u8,
    #[serde(default)]
    settled: bool,
    min_age: Option<String>,
    stage: Stage,
    #[serde(default)]
    disputes: DisputesForm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DisputesForm {
    #[serde(default = "two")]
    members: usize,
    #[serde(default = "two")]
    jurisdictions: usize,
    #[serde(default = "review")]
    lower_to: Decision,
}

fn not_expelled() -> Vec<String> {
    [Departure::Left, Departure::Resolved].map(|kind| kind.name().to_owned()).to_vec()
}

fn two() -> usize {
    2
}

fn review() -> Decision {
    Decision::Review
}

impl Default for DisputesForm {
    fn default() -> Self {
        Self { members: two(), jurisdictions: two(), lower_to: review() }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NegativeForm {
    #[serde(default)]
    hashes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DisabledForm {
    hash: String,
    until: String,
}

/// Reads a policy and checks it against the charter.
pub(super) fn parse(text: &str, charter: &Charter) -> Result<Policy, PolicyError> {
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
        rules.push(check(rule, charter)?);
    }
    let hash = |place, text: &String| text.parse::<ContentHash>().map_err(|error| PolicyError::Hash(place, error));
    let weights = form.weights.iter().map(|(name, weight)| Ok((member("[weights]", name, charter)?, *weight)));
    let negative = form.negative.hashes.iter().map(|text| hash("[negative] hashes", text));
    let disabled = form.disabled.iter().map(|entry| {
        let until = humantime::parse_rfc3339(&entry.until).ok();
        let until = until.and_then(|until| until.duration_since(std::time::UNIX_EPOCH).ok());
        let why = || format!("until = {:?} is no moment; as in \"2026-12-31T00:00:00Z\"", entry.until);
        let until = until.ok_or_else(|| PolicyError::Value("[[disabled]]".to_owned(), why()))?;
        Ok((hash("[[disabled]] hash", &entry.hash)?, Timestamp::default() + until))
    });
    if form.breakers.member_share > 100 {
        let why = "member_share is a percentage, 0 to 100".to_owned();
        return Err(PolicyError::Value("[breakers]".to_owned(), why));
    }
    Ok(Policy {
        id: Digest::of(&[text.as_bytes()]),
        text: text.to_owned(),
        rules,
        weights: weights.collect::<Result<_, _>>()?,
        former: form.former.iter().map(|name| departure(name)).collect::<Result<_, _>>()?,
        negative: negative.collect::<Result<_, _>>()?,
        disabled: disabled.collect::<Result<HashMap<_, _>, _>>()?,
        breakers: form.breakers,
    })
}

fn check(form: RuleForm, charter: &Charter) -> Result<Rule, PolicyError> {
    let place = format!("rule {:?}", form.name);
    let refuse = |why: &str| Err(PolicyError::Value(place.clone(), why.to_owned()));
    let RuleForm { name, labels, kinds, members, min_members, min_jurisdictions, min_weight, .. } = form;
    let max_distance = form.max_distance.unwrap_or(MAX_DISTANCE);
    let voters = members.as_ref().map_or(charter.body().members.len(), Vec::len);
    if min_members == 0 {
        return refuse("min_members must be at least 1");
    }
    if min_members > voters {
        return refuse(&format!("min_members = {min_members} can never be reached: {voters} members count"));
    }
    if min_jurisdictions > min_members {
        // Not an impossible rule, but one in which min_members says nothing: most likely the two were mixed up.
        return refuse("min_jurisdictions is more than min_members; each member has one jurisdiction");
    }
    if max_distance > MAX_DISTANCE {
        return refuse(&format!("max_distance must be 0 to {MAX_DISTANCE}"));
    }
    if form.min_quality > 100 {
        return refuse("min_quality must be 0 to 100");
    }
    if form.disputes.members == 0 {
        return refuse("disputes.members must be at least 1");
    }
    let min_age = form.min_age.as_ref().map_or(Ok(Duration::ZERO), |age| humantime::parse_duration(age));
    let Ok(min_age) = min_age else { return refuse("min_age is no span of time; as in \"24h\" or \"7days\"") };
    let code = |label: &String| {
        charter.label_named(label).map(|label| label.code).ok_or_else(|| PolicyError::UnknownLabel {
            rule: name.clone(),
            label: label.clone(),
            known: charter.body().labels.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    };
    let labels = labels.map(|labels| labels.iter().map(code).collect()).transpose()?;
    let kind = |kind: &String| kind.parse().map_err(|error| PolicyError::Kind(name.clone(), error));
    let kinds = kinds.map(|kinds| kinds.iter().map(kind).collect()).transpose()?;
    let members = members.map(|members| members.iter().map(|name| member(&place, name, charter)).collect());
    let members: Option<BTreeSet<MemberId>> = members.transpose()?;
    let DisputesForm { members: disputers, jurisdictions, lower_to } = form.disputes;
    Ok(Rule {
        labels,
        kinds,
        members,
        min_members,
        min_jurisdictions,
        min_weight,
        max_distance,
        min_quality: form.min_quality,
        settled: form.settled,
        min_age,
        stage: form.stage,
        disputes: Disputes { members: disputers, jurisdictions, lower_to },
        name: name.into(),
    })
}

fn departure(name: &str) -> Result<Departure, PolicyError> {
    let known = Departure::ALL.into_iter().find(|kind| kind.name() == name);
    known.ok_or_else(|| {
        let names = Departure::ALL.map(Departure::name).join(", ");
        PolicyError::Value("former".to_owned(), format!("{name:?} is no way to depart (known: {names})"))
    })
}

fn member(place: &str, name: &str, charter: &Charter) -> Result<MemberId, PolicyError> {
    let id = name.parse().ok().filter(|id| charter.speaker(*id).is_some());
    id.ok_or_else(|| PolicyError::UnknownMember {
        place: place.to_owned(),
        member: name.to_owned(),
        known: charter.body().members.iter().map(|member| member.id.to_string()).collect::<Vec<_>>().join(", "),
    })
}
