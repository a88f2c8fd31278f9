//! The charter: who is a member, what the labels mean, and every limit (SPEC 10).
//!
//! The charter decides who may speak, never what matches. It is one canonical document, chained by hash to the one before;
//! the id of version 0 is the id of the network. No parameter has a default in a node: what is not in the charter
//! does not exist, so that two nodes of different versions cannot disagree about a limit.

mod amendment;
mod departed;
mod difference;
mod genesis;
mod parameters;

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

pub use amendment::{Amendment, AmendmentError, Role, Tally, most_joins, most_removals};
pub use departed::{Departed, Departure, OldEnd, Succeeds, UnknownDeparture};
pub use difference::{Difference, differences};
pub use genesis::{Genesis, GenesisError, found, refound};
pub use parameters::{ParameterError, Parameters};

use crate::card::{Application, Card, MAX_NAME};
use crate::codec::{self, CodecError};
use crate::digest::{CardId, CharterId, NetworkId};
use crate::key::{Context, KeyError, Kind, PublicKey, SecretKey, Signature};
use crate::names::{FederationName, Jurisdiction, MemberId, OriginPrefix};
use crate::text::is_plain;

/// The version of charters that this software reads and writes.
const FORMAT: u64 = 1;

/// Longest charter, in bytes, signatures not counted.
pub const MAX_CHARTER: usize = 512 * 1024;

/// Most members.
pub const MAX_MEMBERS: usize = 1000;

/// Most witnesses, so that a checkpoint with all their cosignatures fits everybody's tools.
pub const MAX_WITNESSES: usize = 40;

/// What a charter says.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct CharterBody {
    /// The version of this form: 1.
    pub format: u64,
    /// The federation; absent in version 0, whose id it is.
    pub network: Option<NetworkId>,
    /// 0 for the genesis charter, then one more each.
    pub version: u64,
    /// Tells proposals for one version apart.
    pub attempt: u16,
    /// The charter before; absent in version 0.
    pub previous: Option<CharterId>,
    /// What origins begin with.
    pub federation: FederationName,
    /// More than this share of the members must sign the next version.
    pub threshold: Ratio,
    /// The members, ascending by id.
    pub members: Vec<Member>,
    /// The former members, ascending by id.
    pub departed: Vec<Departed>,
    /// Whose cosignatures settle a checkpoint.
    pub witnesses: Witnesses,
    /// What statements can be labelled with, ascending by code.
    pub labels: Vec<Label>,
    /// Every limit and span of time.
    pub parameters: Parameters,
    /// The federation that this one takes over from; in version 0 only.
    pub succeeds: Option<Succeeds>,
    /// Why this version; for people.
    pub note: String,
}

/// A member, as the charter has it.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name.
    pub name: String,
    /// Where it answers to the law. Changes here only.
    pub jurisdiction: Jurisdiction,
    /// The key that votes and signs cards.
    pub governance: PublicKey,
    /// The card from which its cards go on: its first one, until a charter decides otherwise.
    pub card: CardId,
}

impl Member {
    /// The entry of whoever applies with this card; `None` if it is not a first card.
    pub fn of(card: &Card) -> Option<Self> {
        let body = card.body();
        let Application { name, jurisdiction } = body.application.clone()?;
        Some(Self { id: body.member, name, jurisdiction, governance: body.governance, card: card.id() })
    }
}

/// The witness set and how many of it settle a checkpoint.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Witnesses {
    /// The members that cosign, ascending.
    pub members: Vec<MemberId>,
    /// k: this many cosignatures of witnesses other than the log's own member settle.
    pub quorum: u16,
}

impl Witnesses {
    /// These, and as many as nothing else has been said about: more than two thirds of those other than the log's own member.
    pub fn standard(members: Vec<MemberId>) -> Self {
        let others = members.len().saturating_sub(1);
        let quorum = (others * 2 / 3 + 1).min(others);
        Self { members, quorum: u16::try_from(quorum).unwrap_or(u16::MAX) }
    }
}

/// A word of the vocabulary.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Label {
    /// What stands in statements. Never given to another label.
    pub code: u16,
    /// What people write: 1 to 32 of a-z, 0-9 and -.
    pub name: String,
    /// What it means.
    pub description: String,
    /// After so many days an add without an expiry of its own loses its effect; absent: never.
    pub retention_days: Option<u32>,
}

/// A share of the members.
#[derive(Clone, Copy, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Ratio {
    /// Of this many
    pub numerator: u16,
    /// in this many.
    pub denominator: u16,
}

impl Ratio {
    /// How many of n members must sign: more than the ratio, and more than half.
    pub fn threshold(self, members: usize) -> usize {
        let share = members * usize::from(self.numerator) / usize::from(self.denominator.max(1));
        (share + 1).max(members / 2 + 1)
    }

    /// Whether it lies in (1/2, 4/5] (SPEC 10.4).
    fn is_allowed(self) -> bool {
        let (n, d) = (u32::from(self.numerator), u32::from(self.denominator));
        2 * n > d && 5 * n <= 4 * d
    }
}

/// Why something is not a valid charter. Each rule is one sentence of SPEC 10.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CharterError {
    /// Not canonical bytes of a charter.
    #[error("not a charter")]
    Codec(#[from] CodecError),
    /// Written by newer software.
    #[error("charter format {0} is not known here; a newer version of hashmesh has written it")]
    Format(u64),
    /// A field that breaks a rule.
    #[error("{0}")]
    Rule(&'static str),
    /// A signature by somebody who is not a member.
    #[error("signed by {0}, who is not a member")]
    Stranger(MemberId),
    /// A signature that does not hold.
    #[error("the signature of {0} is wrong")]
    Signature(MemberId, #[source] KeyError),
}

/// A charter that keeps the rules of its own document. Whether it is adopted depends on signatures, see [`Genesis`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Charter {
    body: CharterBody,
    id: CharterId,
    bytes: Vec<u8>,
}

/// What a signature on a charter is over: enough to prove by it alone that somebody has signed two charters of which one
/// may be signed only (SPEC 10.10, 21.6), and no more, since the id binds the rest.
#[derive(Clone, Copy, Debug, Deserialize_tuple, Eq, Ord, PartialEq, PartialOrd, Serialize_tuple)]
pub struct Motion {
    /// The charter's id.
    pub charter: CharterId,
    /// Its version.
    pub version: u64,
    /// Its attempt.
    pub attempt: u16,
    /// The charter before it.
    pub previous: Option<CharterId>,
}

impl Motion {
    /// Checks a signature.
    pub fn verify(&self, network: NetworkId, key: &PublicKey, signature: &Signature) -> Result<(), KeyError> {
        key.verify(Context { network, kind: Kind::Charter }, &codec::encode(self), signature)
    }
}

/// A member's signature on a charter.
#[derive(Clone, Debug, Deserialize_tuple, Eq, Ord, PartialEq, PartialOrd, Serialize_tuple)]
pub struct Approval {
    /// The charter.
    pub charter: CharterId,
    /// Who signed.
    pub member: MemberId,
    /// With its governance key.
    pub signature: Signature,
}

impl Charter {
    /// Checks a body and fixes its bytes.
    pub fn new(body: CharterBody) -> Result<Self, CharterError> {
        Self::read(&codec::encode(&body))
    }

    /// Reads a charter.
    pub fn read(bytes: &[u8]) -> Result<Self, CharterError> {
        let body: CharterBody = codec::decode(bytes, MAX_CHARTER)?;
        body.check()?;
        Ok(Self { body, id: CharterId::of(bytes), bytes: bytes.to_vec() })
    }

    /// What it says.
    pub fn body(&self) -> &CharterBody {
        &self.body
    }

    /// Its id.
    pub fn id(&self) -> CharterId {
        self.id
    }

    /// The federation that it is a charter of.
    pub fn network(&self) -> NetworkId {
        self.body.network.unwrap_or(self.id.into())
    }

    /// The canonical bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the origins of its members' logs begin with.
    pub fn origins(&self) -> OriginPrefix {
        OriginPrefix::new(&self.body.federation, &self.network())
    }

    /// The entry of a member.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        let members = &self.body.members;
        members.binary_search_by_key(&id, |member| member.id).ok().map(|at| &members[at])
    }

    /// The label with this code.
    pub fn label(&self, code: u16) -> Option<&Label> {
        let labels = &self.body.labels;
        labels.binary_search_by_key(&code, |label| label.code).ok().map(|at| &labels[at])
    }

    /// The label with this name.
    pub fn label_named(&self, name: &str) -> Option<&Label> {
        self.body.labels.iter().find(|label| label.name == name)
    }

    /// The entry of a former member.
    pub fn departed(&self, id: MemberId) -> Option<&Departed> {
        let departed = &self.body.departed;
        departed.binary_search_by_key(&id, |departed| departed.id).ok().map(|at| &departed[at])
    }

    /// Where a member, or a former one, answers to the law, and how it departed, if so.
    pub fn speaker(&self, id: MemberId) -> Option<(Jurisdiction, Option<Departure>)> {
        let member = self.member(id).map(|member| (member.jurisdiction, None));
        member.or_else(|| self.departed(id).map(|departed| (departed.jurisdiction, Some(departed.kind))))
    }

    /// How many members must sign the next version.
    pub fn threshold(&self) -> usize {
        self.body.threshold.threshold(self.body.members.len())
    }

    /// What the next version says if nothing changes.
    pub fn successor(&self) -> CharterBody {
        CharterBody {
            network: Some(self.network()),
            version: self.body.version.saturating_add(1),
            attempt: 0,
            previous: Some(self.id),
            succeeds: None,
            note: String::new(),
            ..self.body.clone()
        }
    }

    /// What is signed on it.
    pub fn motion(&self) -> Motion {
        let CharterBody { version, attempt, previous, .. } = self.body;
        Motion { charter: self.id, version, attempt, previous }
    }

    /// Signs it for a member.
    pub fn approve(&self, member: MemberId, governance: &SecretKey) -> Approval {
        let signature = governance.sign(self.context(), &codec::encode(&self.motion()));
        Approval { charter: self.id, member, signature }
    }

    /// Whether a key has signed it.
    fn is_signed(&self, key: &PublicKey, signature: &Signature) -> bool {
        self.motion().verify(self.network(), key, signature).is_ok()
    }

    /// Checks that a member of *this* charter has signed this charter.
    pub fn verify_approval(&self, approval: &Approval) -> Result<(), CharterError> {
        let member = self.member(approval.member).ok_or(CharterError::Stranger(approval.member))?;
        if approval.charter != self.id {
            return Err(CharterError::Rule("a signature for another charter"));
        }
        let held = self.motion().verify(self.network(), &member.governance, &approval.signature);
        held.map_err(|error| CharterError::Signature(member.id, error))
    }

    fn context(&self) -> Context {
        Context { network: self.network(), kind: Kind::Charter }
    }
}

impl CharterBody {
    fn check(&self) -> Result<(), CharterError> {
        let rule = |holds: bool, rule| if holds { Ok(()) } else { Err(CharterError::Rule(rule)) };
        if self.format != FORMAT {
            return Err(CharterError::Format(self.format));
        }
        let genesis = self.version == 0;
        rule(genesis == self.network.is_none(), "version 0, and no other, names no network: its id is the network's")?;
        rule(genesis == self.previous.is_none(), "version 0, and no other, has no charter before it")?;
        rule(self.threshold.is_allowed(), "the threshold must be above 1/2 and at most 4/5")?;
        rule((2..=MAX_MEMBERS).contains(&self.members.len()), "a federation has 2 to 1000 members")?;
        rule(self.members.is_sorted_by(|a, b| a.id < b.id), "members must ascend by id, each once")?;
        rule(self.members.iter().all(|member| is_text(&member.name, MAX_NAME)), "a member's name has 1 to 128 bytes")?;
        let mut keys: Vec<_> = self.members.iter().map(|member| member.governance).collect();
        keys.sort();
        rule(keys.is_sorted_by(|a, b| a < b), "two members have one governance key")?;
        let departed = &self.departed;
        rule(departed.is_sorted_by(|a, b| a.id < b.id), "former members must ascend by id, each once")?;
        let has_come_back = |member: &Member| departed.binary_search_by_key(&member.id, |gone| gone.id).is_ok();
        rule(!self.members.iter().any(has_come_back), "nobody comes back under the id of a former member")?;
        rule(departed.iter().all(|gone| is_text(&gone.name, MAX_NAME)), "a former member's name has 1 to 128 bytes")?;
        rule(
            departed.iter().all(|gone| departed::are_complete(&gone.ends)),
            "the ends of a former member's logs are one an epoch, from 0 on",
        )?;
        rule(!genesis || departed.is_empty(), "version 0 has no former members")?;
        rule(genesis || self.succeeds.is_none(), "only version 0 takes over from another federation")?;
        let old_ends = self.succeeds.as_ref().map_or(&[][..], |succeeds| &succeeds.ends);
        rule(
            old_ends.is_sorted_by(|a, b| (a.member, a.end.epoch) < (b.member, b.end.epoch)),
            "what is taken over must ascend by member and epoch, each once",
        )?;
        let witnesses = &self.witnesses.members;
        rule((2..=MAX_WITNESSES).contains(&witnesses.len()), "there must be 2 to 40 witnesses")?;
        rule(witnesses.is_sorted_by(|a, b| a < b), "witnesses must ascend, each once")?;
        let is_member = |id: &MemberId| self.members.binary_search_by_key(id, |member| member.id).is_ok();
        rule(witnesses.iter().all(is_member), "witnesses must be members")?;
        // A witness's own log has one witness less, and must still be able to settle.
        let quorum = usize::from(self.witnesses.quorum);
        rule((1..witnesses.len()).contains(&quorum), "the witness quorum must be at least 1 and below their number")?;
        rule(!self.labels.is_empty(), "there must be a label at least")?;
        rule(self.labels.is_sorted_by(|a, b| a.code < b.code), "labels must ascend by code, each once")?;
        rule(
            self.labels.iter().all(Label::is_valid),
            "a label has a name of 1 to 32 of a-z, 0-9 and -, and a description",
        )?;
        let mut names: Vec<_> = self.labels.iter().map(|label| &label.name).collect();
        names.sort();
        rule(names.is_sorted_by(|a, b| a < b), "two labels have one name")?;
        rule(self.note.len() <= 1024, "the note has at most 1024 bytes")?;
        self.parameters.check().map_err(CharterError::Rule)
    }
}

impl Label {
    fn is_valid(&self) -> bool {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=32).contains(&self.name.len()) && self.name.bytes().all(letters) && is_text(&self.description, 500)
    }
}

fn is_text(text: &str, max: usize) -> bool {
    !text.trim().is_empty() && text.len() <= max && text.chars().all(is_plain)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::card::tests::card;

    pub(crate) fn labels() -> Vec<Label> {
        [(1, "demo"), (2, "csam-a1")]
            .map(|(code, name)| Label {
                code,
                name: name.into(),
                description: format!("what is called {name}"),
                retention_days: None,
            })
            .to_vec()
    }

    pub(crate) fn charter() -> Charter {
        charter_in(&["FR", "DE", "US", "JP"])
    }

    pub(crate) fn charter_in(places: &[&str; 4]) -> Charter {
        let cards = ["acme", "bolt", "crab", "dove"].into_iter().zip(places);
        let cards: Vec<_> = (0u8..).zip(cards).map(|(seed, (id, place))| card(id, place, seed)).collect();
        found("safety.example".parse().unwrap(), &cards, labels(), Parameters::standard()).unwrap()
    }

    #[test]
    fn thresholds_are_those_of_the_design() {
        let two_thirds = Ratio { numerator: 2, denominator: 3 };
        for (members, threshold) in [(2, 2), (3, 3), (4, 3), (5, 4), (7, 5), (10, 7), (25, 17), (50, 34), (100, 67)] {
            assert_eq!(two_thirds.threshold(members), threshold, "{members} members");
        }
        for (numerator, denominator, allowed) in
            [(1, 2, false), (2, 3, true), (4, 5, true), (5, 6, false), (1, 0, false)]
        {
            assert_eq!(Ratio { numerator, denominator }.is_allowed(), allowed, "{numerator}/{denominator}");
        }
    }

    #[test]
    fn a_charter_reads_back_and_finds_members_and_labels() {
        let charter = charter();
        assert_eq!(Charter::read(charter.bytes()), Ok(charter.clone()));
        assert_eq!(charter.network(), charter.id().into());
        assert_eq!(charter.member("bolt".parse().unwrap()).unwrap().name, "BOLT");
        assert_eq!(charter.member("nobody".parse().unwrap()), None);
        assert_eq!(charter.label(2).unwrap().name, "csam-a1");
        assert_eq!(charter.label_named("demo").unwrap().code, 1);
        assert_eq!(charter.label(3), None);
    }

    #[test]
    fn rules_of_the_document_are_checked() {
        let change = |change: &dyn Fn(&mut CharterBody)| {
            let mut body = charter().body().clone();
            change(&mut body);
            Charter::new(body)
        };
        assert!(change(&|_| ()).is_ok());
        assert_eq!(change(&|body| body.format = 2), Err(CharterError::Format(2)));
        let broken: [&dyn Fn(&mut CharterBody); 18] = [
            &|body| body.version = 1,
            &|body| body.network = Some(NetworkId::default()),
            &|body| body.previous = Some(CharterId::default()),
            &|body| body.threshold = Ratio { numerator: 1, denominator: 2 },
            &|body| body.members.truncate(1),
            &|body| body.members.swap(0, 1),
            &|body| body.members[1] = body.members[0].clone(),
            &|body| body.members[1].governance = body.members[0].governance,
            &|body| body.members[1].name = String::new(),
            &|body| body.witnesses.members.swap(0, 1),
            &|body| body.witnesses.members[0] = "aaaa".parse().unwrap(),
            &|body| body.witnesses.quorum = 0,
            &|body| body.witnesses.quorum = 4,
            &|body| body.labels.clear(),
            &|body| body.labels[1].code = 1,
            &|body| body.labels[1].name = "demo".into(),
            &|body| body.labels[1].name = "A1".into(),
            &|body| body.note = "x".repeat(1025),
        ];
        for (number, broken) in broken.into_iter().enumerate() {
            assert!(matches!(change(broken), Err(CharterError::Rule(_))), "{number}");
        }
    }
}
