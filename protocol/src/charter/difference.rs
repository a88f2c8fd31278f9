//! What two charters say differently, for people: nobody signs what they have not seen (SPEC 21.8).

use std::fmt;

use super::{Charter, Departure, Label, Member};
use crate::card::End;
use crate::digest::CardId;
use crate::key::PublicKey;
use crate::names::{Jurisdiction, MemberId};
use crate::text::escaped;

/// One thing that a charter says differently from another one. Its text is one line.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are what the variant's sentence is about: before, after")]
pub enum Difference {
    /// A member more.
    Joins { id: MemberId, name: String, jurisdiction: Jurisdiction, governance: PublicKey },
    /// A member less.
    Departs { id: MemberId, kind: Departure, ends: Vec<End> },
    /// A member has another name.
    Name { id: MemberId, from: String, to: String },
    /// A member answers to the law elsewhere.
    Jurisdiction { id: MemberId, from: Jurisdiction, to: Jurisdiction },
    /// A member votes with another key.
    Governance { id: MemberId, from: PublicKey, to: PublicKey },
    /// It is decided which of a member's cards holds.
    Card { id: MemberId, to: CardId },
    /// So many of so many must sign the version after.
    Threshold { from: (usize, usize), to: (usize, usize) },
    /// A member cosigns.
    WitnessAdded(MemberId),
    /// A member does not cosign any more.
    WitnessRemoved(MemberId),
    /// So many cosignatures settle.
    Quorum { from: u16, to: u16 },
    /// A label more.
    LabelAdded { code: u16, name: String },
    /// A label means something else.
    LabelChanged { code: u16, name: String, what: &'static str },
    /// A parameter has another value.
    Parameter { name: &'static str, from: u64, to: u64 },
}

/// What `new` says differently from `old`, members first. What every version changes (version, attempt, note) is not listed.
pub fn differences(old: &Charter, new: &Charter) -> Vec<Difference> {
    let mut found = Vec::new();
    for member in &new.body().members {
        match old.member(member.id) {
            Some(before) => of_member(before, member, &mut found),
            None => found.push(Difference::Joins {
                id: member.id,
                name: member.name.clone(),
                jurisdiction: member.jurisdiction,
                governance: member.governance,
            }),
        }
    }
    let departing = new.body().departed.iter().filter(|departed| old.departed(departed.id).is_none());
    found.extend(departing.map(|d| Difference::Departs { id: d.id, kind: d.kind, ends: d.ends.clone() }));
    let counts = |charter: &Charter| (charter.threshold(), charter.body().members.len());
    if old.body().threshold != new.body().threshold || counts(old) != counts(new) {
        found.push(Difference::Threshold { from: counts(old), to: counts(new) });
    }
    let (were, are) = (&old.body().witnesses, &new.body().witnesses);
    found.extend(are.members.iter().filter(|id| !were.members.contains(id)).map(|id| Difference::WitnessAdded(*id)));
    found.extend(were.members.iter().filter(|id| !are.members.contains(id)).map(|id| Difference::WitnessRemoved(*id)));
    if were.quorum != are.quorum {
        found.push(Difference::Quorum { from: were.quorum, to: are.quorum });
    }
    found.extend(new.body().labels.iter().filter_map(|label| of_label(old.label(label.code), label)));
    let values = old.body().parameters.entries().into_iter().zip(new.body().parameters.entries());
    let changed = values.filter(|((_, from), (_, to))| from != to);
    found.extend(changed.map(|((name, from), (_, to))| Difference::Parameter { name, from, to }));
    found
}

fn of_member(old: &Member, new: &Member, found: &mut Vec<Difference>) {
    let id = new.id;
    if old.name != new.name {
        found.push(Difference::Name { id, from: old.name.clone(), to: new.name.clone() });
    }
    if old.jurisdiction != new.jurisdiction {
        found.push(Difference::Jurisdiction { id, from: old.jurisdiction, to: new.jurisdiction });
    }
    if old.governance != new.governance {
        found.push(Difference::Governance { id, from: old.governance, to: new.governance });
    }
    if old.card != new.card {
        found.push(Difference::Card { id, to: new.card });
    }
}

fn of_label(old: Option<&Label>, new: &Label) -> Option<Difference> {
    let (code, name) = (new.code, new.name.clone());
    let Some(old) = old else { return Some(Difference::LabelAdded { code, name }) };
    let what = match (old.description != new.description, old.retention_days != new.retention_days) {
        (false, false) => return None,
        (true, false) => "its description",
        (false, true) => "how long it is kept",
        (true, true) => "its description and how long it is kept",
    };
    Some(Difference::LabelChanged { code, name, what })
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joins { id, name, jurisdiction, governance } => {
                write!(f, "{id} joins: {}, {jurisdiction}, governance key {governance}", escaped(name))
            }
            Self::Departs { id, kind, ends } => {
                write!(f, "{id} {}; its logs end at", departure(*kind))?;
                for (at, end) in ends.iter().enumerate() {
                    write!(f, "{} {id}/{} size {}", if at > 0 { "," } else { "" }, end.epoch, end.size)?;
                }
                if ends.is_empty() { write!(f, " nothing") } else { Ok(()) }
            }
            Self::Name { id, from, to } => write!(f, "{id} is called {}, was {}", escaped(to), escaped(from)),
            Self::Jurisdiction { id, from, to } => write!(f, "{id} answers to {to}, did to {from}"),
            Self::Governance { id, from, to } => write!(f, "{id} votes with key {to}, did with {from}"),
            Self::Card { id, to } => write!(f, "the cards of {id} go on from card {to}"),
            Self::Threshold { from, to } => {
                write!(f, "{} of {} members must sign the version after, were {} of {}", to.0, to.1, from.0, from.1)
            }
            Self::WitnessAdded(id) => write!(f, "{id} becomes a witness"),
            Self::WitnessRemoved(id) => write!(f, "{id} is no witness any more"),
            Self::Quorum { from, to } => write!(f, "{to} witnesses settle a checkpoint, were {from}"),
            Self::LabelAdded { code, name } => write!(f, "label {code} is new: {name}"),
            Self::LabelChanged { code, name, what } => write!(f, "label {code}, {name}, changes {what}"),
            Self::Parameter { name, from, to } => write!(f, "{name} is {to}, was {from}"),
        }
    }
}

fn departure(kind: Departure) -> &'static str {
    match kind {
        Departure::Left => "leaves",
        Departure::Expelled => "is expelled",
        Departure::Resolved => "is closed, its keys being lost or stolen",
    }
}
