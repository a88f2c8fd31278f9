//! Founding federations for tests: keys from a seed, a charter that all founders have signed.

use std::collections::BTreeMap;

use hashmesh_protocol::card::{Application, Card, MemberKeys};
use hashmesh_protocol::charter::{Charter, Genesis, Label, Parameters, found};
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::key::SecretKey;
use hashmesh_protocol::names::MemberId;

/// Jurisdictions that members are given in turn.
const JURISDICTIONS: [&str; 4] = ["FR", "DE", "US", "JP"];

/// A founded federation and every key of it.
pub struct Founding {
    /// The signed beginning.
    pub genesis: Genesis,
    /// The founders' keys.
    pub keys: BTreeMap<MemberId, MemberKeys>,
}

/// Keys that depend on nothing but the name: tests must give the same bytes on every machine.
pub fn keys_of(member: &str) -> MemberKeys {
    let key = |role: &str| SecretKey::from_seed(&Digest::of(&[b"test key", member.as_bytes(), role.as_bytes()]).0);
    MemberKeys { governance: key("governance"), log: key("log"), witness: key("witness"), node: key("node") }
}

/// The first card of a member with such keys.
pub fn card_of(member: &str, jurisdiction: &str) -> Card {
    let jurisdiction = jurisdiction.parse().expect("a jurisdiction");
    let application = Application { name: member.to_owned(), jurisdiction };
    Card::first(member.parse().expect("a member id"), application, &keys_of(member)).expect("a valid card")
}

/// Labels `demo` (1) and `csam-a1` (2).
pub fn labels() -> Vec<Label> {
    let label = |code, name: &str| Label {
        code,
        name: name.to_owned(),
        description: format!("what tests call {name}"),
        retention_days: None,
    };
    vec![label(1, "demo"), label(2, "csam-a1")]
}

/// A charter of these members, unsigned.
pub fn charter_of(members: &[&str], parameters: Parameters) -> (Charter, Vec<Card>) {
    charter_with(members, labels(), parameters)
}

fn charter_with(members: &[&str], labels: Vec<Label>, parameters: Parameters) -> (Charter, Vec<Card>) {
    let cards: Vec<Card> =
        members.iter().zip(JURISDICTIONS.iter().cycle()).map(|(id, place)| card_of(id, place)).collect();
    let federation = "sim.example".parse().expect("a federation name");
    (found(federation, &cards, labels, parameters).expect("valid founders"), cards)
}

/// Founds a federation.
pub fn found_by(members: &[&str], parameters: Parameters) -> Founding {
    found_with(members, labels(), parameters)
}

/// Founds a federation with a vocabulary of its own.
pub fn found_with(members: &[&str], labels: Vec<Label>, parameters: Parameters) -> Founding {
    let (charter, cards) = charter_with(members, labels, parameters);
    let keys: BTreeMap<MemberId, MemberKeys> =
        members.iter().map(|id| (id.parse().expect("a member id"), keys_of(id))).collect();
    let approvals: Vec<_> = keys.iter().map(|(id, keys)| charter.approve(*id, &keys.governance)).collect();
    let genesis = Genesis::open(charter, &cards, approvals).expect("signed by all");
    Founding { genesis, keys }
}
