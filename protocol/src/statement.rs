//! Statements: what one leaf of a log says (SPEC 4).
//!
//! A leaf is one canonical array of integers, byte strings and nulls, and can never be erased: so it holds no content hash
//! (only a commitment to one) and no free text (only registry numbers). Numbers that this version does not know are
//! kept and mean nothing yet; a member with newer software must not be able to stop everybody else's copy of its log.
//!
//! A statement speaks of its author's own log only: positions have no member in them, so revoking what somebody else has
//! said has no encoding.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::codec::{self, CodecError, Reader};
use crate::content_hash::{HashKind, Media};
use crate::digest::Digest;
use crate::entries::MAX_LOG_SIZE;
use crate::key::Signature;
use crate::names::{LogId, MemberId};
use crate::note::{Note, SignatureLine, VerifierKey};
use crate::time::Timestamp;

/// The version of leaves that this software writes.
pub const VERSION: u64 = 1;

/// Longest leaf, in bytes (SPEC 4.1).
pub const MAX_LEAF: usize = 1024;

/// Most labels on one statement.
pub const MAX_LABELS: usize = 8;

/// Most observations in one leaf: with the longest names they take less than 1 KiB.
pub const MAX_OBSERVATIONS: usize = 6;

/// Registry numbers of statement kinds (SPEC 4.2).
const ADD: u64 = 1;
const DISPUTE: u64 = 2;
const REVOKE: u64 = 3;
const ERASE: u64 = 4;
const VOID: u64 = 5;
const OBSERVE: u64 = 6;
const STATE: u64 = 7;

/// A place in a member's own logs.
#[derive(Clone, Copy, Debug, Deserialize_tuple, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize_tuple)]
pub struct Position {
    /// Which log of the member.
    pub epoch: u32,
    /// Which leaf of it, counted from 0.
    pub index: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.index)
    }
}

/// One leaf: when its author says it was written, and what it says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaf {
    /// The author's clock. Never decreasing in a log; a claim, not a fact.
    pub time: Timestamp,
    /// What is said.
    pub statement: Statement,
}

/// What a leaf says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Statement {
    /// This content hash belongs on the list.
    Add(Add),
    /// This content hash should not be acted on, whoever added it.
    Dispute(Dispute),
    /// The author withdraws an own add or dispute.
    Revoke(Revoke),
    /// What opens an own add or dispute must be deleted everywhere.
    Erase(Erase),
    /// The end of an earlier log of the author was never said: somebody else held its key.
    Void(Void),
    /// What the author has verified of other logs.
    Observe(Observe),
    /// What is live of all that the author has said.
    State(State),
    /// A version or kind that this software does not know. Kept, relayed, proved; without effect.
    Unknown,
}

/// `add`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Add {
    /// The kind of the content hash, by registry number.
    pub kind: u64,
    /// The commitment to its value.
    pub commitment: Digest,
    /// Codes of the charter's vocabulary.
    pub labels: Labels,
    /// What was hashed, by registry number.
    pub media: u64,
    /// PDQ's own measure of how much there was to hash, 0..=100; absent where nobody knows it.
    pub quality: Option<u8>,
    /// From then on it should not be acted on.
    pub expiry: Option<Timestamp>,
    /// The number of an incident, as members agree on it elsewhere.
    pub incident: Option<u64>,
    /// The author's earlier statement that this one takes the place of.
    pub replaces: Option<Position>,
}

/// `dispute`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dispute {
    /// The kind of the content hash, by registry number.
    pub kind: u64,
    /// The commitment to its value.
    pub commitment: Digest,
    /// Why, by registry number.
    pub reason: u64,
    /// The author's earlier statement that this one takes the place of.
    pub replaces: Option<Position>,
}

/// `revoke`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Revoke {
    /// What is withdrawn.
    pub position: Position,
    /// Why, by registry number.
    pub reason: u64,
}

/// `erase`: ends what it names, as `revoke` does, and demands that its opening is deleted (SPEC 20.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Erase {
    /// What is erased.
    pub position: Position,
    /// Why, by registry number.
    pub basis: u64,
}

/// `void`: leaves of an earlier log count as never said, settled or not (SPEC 20.6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Void {
    /// Which of the author's logs. Only an earlier one can be voided.
    pub epoch: u32,
    /// From this leaf on.
    pub from: u64,
}

/// `observe`: so that what two members have been shown can be compared by whoever has their logs (SPEC 4.7).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Observe(Vec<Observation>);

/// A checkpoint of another log, as its key has signed it.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Observation {
    /// Whose log.
    pub member: MemberId,
    /// Which of that member's logs.
    pub epoch: u32,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
    /// The log's signature under the text of that checkpoint.
    pub signature: Signature,
}

/// `state`: a tree over what is live, so that "no longer live" has a short proof (SPEC 4.8).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct State {
    /// It is about all that was said before this place.
    pub before: Position,
    /// The root over [epoch, index, leaf hash] of each live statement, in order.
    pub root: Digest,
    /// How many there are.
    pub count: u64,
}

impl Observe {
    /// Observations in ascending order of logs, each once; 1 to [`MAX_OBSERVATIONS`] of checkpoints that a log can have. `None` if
    /// these are not that.
    pub fn new(observations: Vec<Observation>) -> Option<Self> {
        let this = Self(observations);
        this.is_good().then_some(this)
    }

    fn is_good(&self) -> bool {
        (1..=MAX_OBSERVATIONS).contains(&self.0.len())
            && self.0.windows(2).all(|pair| pair[0].log() < pair[1].log())
            && self.0.iter().all(|observation| (1..=MAX_LOG_SIZE).contains(&observation.size))
    }

    /// The observations.
    pub fn all(&self) -> &[Observation] {
        &self.0
    }
}

impl Observation {
    /// Of a checkpoint that was verified.
    pub fn of(log: LogId, checkpoint: &SignedCheckpoint) -> Option<Self> {
        let blob = &checkpoint.note().signatures().first()?.blob;
        let signature = Signature(blob.as_slice().try_into().ok()?);
        let LogId { member, epoch } = log;
        Some(Self { member, epoch, size: checkpoint.size(), root: checkpoint.root(), signature })
    }

    /// The log.
    pub fn log(&self) -> LogId {
        LogId { member: self.member, epoch: self.epoch }
    }

    /// The checkpoint as its log has signed it, if `key` is the log's and the signature holds.
    pub fn open(&self, key: &VerifierKey) -> Option<SignedCheckpoint> {
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: self.size, root: self.root };
        let line = SignatureLine { name: key.name().to_owned(), id: key.id(), blob: self.signature.0.to_vec() };
        SignedCheckpoint::open(Note::signed(checkpoint.to_string(), line), key).ok()
    }
}

impl Statement {
    /// The commitment in it, if it has one, with the registry number of the hash kind.
    pub fn commitment(&self) -> Option<(u64, Digest)> {
        match self {
            Self::Add(add) => Some((add.kind, add.commitment)),
            Self::Dispute(dispute) => Some((dispute.kind, dispute.commitment)),
            Self::Revoke(_) | Self::Erase(_) | Self::Void(_) | Self::Observe(_) | Self::State(_) | Self::Unknown => {
                None
            }
        }
    }

    /// The kind of the content hash, if it has one of a kind known here.
    pub fn hash_kind(&self) -> Option<HashKind> {
        self.commitment().and_then(|(kind, _)| HashKind::from_number(kind))
    }

    /// The statement of the same author that this one ends, if any.
    pub fn ends(&self) -> Option<Position> {
        match self {
            Self::Add(add) => add.replaces,
            Self::Dispute(dispute) => dispute.replaces,
            Self::Revoke(revoke) => Some(revoke.position),
            Self::Erase(erase) => Some(erase.position),
            Self::Void(_) | Self::Observe(_) | Self::State(_) | Self::Unknown => None,
        }
    }
}

/// Why somebody disputes or revokes, with registry numbers (SPEC 4.5).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Reason {
    /// None of the others.
    Other = 1,
    /// The wrong hash or the wrong file was published.
    Mistake = 2,
    /// The content was looked at and is lawful.
    Lawful = 3,
    /// The content is unlawful, but not what the labels say.
    Mislabelled = 4,
    /// The hash also matches content that has nothing to do with it.
    TooBroad = 5,
    /// Somebody affected has appealed, and was right.
    Appeal = 6,
    /// A court or an authority demands it.
    LegalOrder = 7,
    /// No longer needed.
    Obsolete = 8,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Other,
        Self::Mistake,
        Self::Lawful,
        Self::Mislabelled,
        Self::TooBroad,
        Self::Appeal,
        Self::LegalOrder,
        Self::Obsolete,
    ];

    /// The reason with this registry number; `None` for numbers of later versions.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| u64::from(*reason as u8) == number)
    }

    /// The name in text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Mistake => "mistake",
            Self::Lawful => "lawful",
            Self::Mislabelled => "mislabelled",
            Self::TooBroad => "too-broad",
            Self::Appeal => "appeal",
            Self::LegalOrder => "legal-order",
            Self::Obsolete => "obsolete",
        }
    }

    /// What people are shown for a registry number: the name, or the number where this version knows none.
    pub fn name_of(number: u64) -> String {
        Self::from_number(number).map_or_else(|| number.to_string(), |reason| reason.to_string())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// On what basis an opening is deleted, with registry numbers (SPEC 4.9).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Basis {
    /// None of the others.
    Other = 1,
    /// A court or an authority demands it.
    LegalOrder = 2,
    /// Somebody whom it concerns has a right to it.
    DataProtection = 3,
    /// It should never have been published.
    Mistake = 4,
    /// It need not be kept any longer.
    Retention = 5,
}

impl Basis {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Other, Self::LegalOrder, Self::DataProtection, Self::Mistake, Self::Retention];

    /// The basis with this registry number; `None` for numbers of later versions.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|basis| u64::from(*basis as u8) == number)
    }

    /// The name in text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::LegalOrder => "legal-order",
            Self::DataProtection => "data-protection",
            Self::Mistake => "mistake",
            Self::Retention => "retention",
        }
    }

    /// What people are shown for a registry number: the name, or the number where this version knows none.
    pub fn name_of(number: u64) -> String {
        Self::from_number(number).map_or_else(|| number.to_string(), |basis| basis.to_string())
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The labels of a statement: 1 to [`MAX_LABELS`] codes of the charter's vocabulary, ascending, each once.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Labels {
    codes: [u16; MAX_LABELS],
    len: u8,
}

/// Codes that are not the labels of a statement.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LabelsError {
    /// None, or too many.
    #[error("a statement has 1 to {MAX_LABELS} labels, not {0}")]
    Count(usize),
    /// Not ascending, so that one set would have several encodings.
    #[error("labels must ascend and appear once")]
    Order,
}

impl Labels {
    /// Takes codes that are ascending already.
    pub fn new(ascending: &[u16]) -> Result<Self, LabelsError> {
        let count = ascending.len();
        let mut codes = [0; MAX_LABELS];
        match codes.get_mut(..count) {
            Some(slot) if count > 0 => slot.copy_from_slice(ascending),
            _ => return Err(LabelsError::Count(count)),
        }
        if ascending.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(LabelsError::Order);
        }
        Ok(Self { codes, len: u8::try_from(count).expect("at most 8") })
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (mut codes, len) = ([0; MAX_LABELS], usize::try_from(reader.array()?).ok()?);
        for code in codes.get_mut(..len)? {
            *code = reader.unsigned()?.try_into().ok()?;
        }
        Self::new(&codes[..len]).ok()
    }

    /// Those codes that are wanted, if any are.
    pub fn filter(&self, wanted: impl Fn(u16) -> bool) -> Option<Self> {
        let (mut codes, mut len) = ([0; MAX_LABELS], 0);
        for code in self.codes().iter().filter(|code| wanted(**code)) {
            codes[usize::from(len)] = *code;
            len += 1;
        }
        (len > 0).then_some(Self { codes, len })
    }

    /// The codes.
    pub fn codes(&self) -> &[u16] {
        &self.codes[..usize::from(self.len)]
    }
}

impl Serialize for Labels {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.codes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // At most one element a byte of a leaf that is at most 1 KiB: nothing worth a bounded reader.
        let codes = Vec::<u16>::deserialize(deserializer)?;
        Self::new(&codes).map_err(serde::de::Error::custom)
    }
}

/// The wire forms: version, time, kind, then the fields in their order.
#[derive(Deserialize_tuple, Serialize_tuple)]
struct AddForm {
    version: u64,
    time: u64,
    statement: u64,
    kind: u64,
    commitment: Digest,
    labels: Labels,
    media: u64,
    quality: Option<u8>,
    expiry: Option<Timestamp>,
    incident: Option<u64>,
    replaces: Option<Position>,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct DisputeForm {
    version: u64,
    time: u64,
    statement: u64,
    kind: u64,
    commitment: Digest,
    reason: u64,
    replaces: Option<Position>,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct RevokeForm {
    version: u64,
    time: u64,
    statement: u64,
    position: Position,
    reason: u64,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct EraseForm {
    version: u64,
    time: u64,
    statement: u64,
    position: Position,
    basis: u64,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct VoidForm {
    version: u64,
    time: u64,
    statement: u64,
    epoch: u32,
    from: u64,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct ObserveForm {
    version: u64,
    time: u64,
    statement: u64,
    observations: Observe,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct StateForm {
    version: u64,
    time: u64,
    statement: u64,
    before: Position,
    root: Digest,
    count: u64,
}

impl Leaf {
    /// The canonical bytes.
    ///
    /// # Panics
    /// For [`Statement::Unknown`], which nobody here can have composed.
    pub fn encode(&self) -> Vec<u8> {
        let (version, time) = (VERSION, self.time.0);
        match &self.statement {
            Statement::Add(add) => codec::encode(&AddForm {
                version,
                time,
                statement: ADD,
                kind: add.kind,
                commitment: add.commitment,
                labels: add.labels,
                media: add.media,
                quality: add.quality,
                expiry: add.expiry,
                incident: add.incident,
                replaces: add.replaces,
            }),
            Statement::Dispute(dispute) => codec::encode(&DisputeForm {
                version,
                time,
                statement: DISPUTE,
                kind: dispute.kind,
                commitment: dispute.commitment,
                reason: dispute.reason,
                replaces: dispute.replaces,
            }),
            Statement::Revoke(revoke) => codec::encode(&RevokeForm {
                version,
                time,
                statement: REVOKE,
                position: revoke.position,
                reason: revoke.reason,
            }),
            Statement::Erase(Erase { position, basis }) => {
                codec::encode(&EraseForm { version, time, statement: ERASE, position: *position, basis: *basis })
            }
            Statement::Void(Void { epoch, from }) => {
                codec::encode(&VoidForm { version, time, statement: VOID, epoch: *epoch, from: *from })
            }
            Statement::Observe(observe) => {
                codec::encode(&ObserveForm { version, time, statement: OBSERVE, observations: observe.clone() })
            }
            Statement::State(State { before, root, count }) => codec::encode(&StateForm {
                version,
                time,
                statement: STATE,
                before: *before,
                root: *root,
                count: *count,
            }),
            Statement::Unknown => panic!("a statement of an unknown kind has no encoding but the one it came in"),
        }
    }

    /// Reads a leaf. Every leaf of every version is a canonical array that begins with version, time, kind (SPEC 4.1).
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        Self::read(bytes).map_or_else(|| Self::decode_form(bytes), Ok)
    }

    /// The usual forms, five times as fast: logs are read whole when a node starts, catches up, and in audits. What is not
    /// read here is not refused yet.
    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_LEAF {
            return None;
        }
        let mut reader = Reader::new(bytes);
        let len = reader.array()?;
        let (version, time, statement) = (reader.unsigned()?, reader.unsigned()?, reader.unsigned()?);
        let position = |reader: &mut Reader<'_>| match reader.array()? {
            2 => Some(Position { epoch: reader.unsigned()?.try_into().ok()?, index: reader.unsigned()? }),
            _ => None,
        };
        let statement = match (version, statement, len) {
            (VERSION, ADD, 11) => Statement::Add(Add {
                kind: reader.unsigned()?,
                commitment: Digest(reader.bytes()?),
                labels: Labels::read(&mut reader)?,
                media: reader.unsigned()?,
                quality: reader.optional(|reader| reader.unsigned()?.try_into().ok())?,
                expiry: reader.optional(|reader| reader.unsigned().map(Timestamp))?,
                incident: reader.optional(Reader::unsigned)?,
                replaces: reader.optional(position)?,
            }),
            (VERSION, DISPUTE, 7) => Statement::Dispute(Dispute {
                kind: reader.unsigned()?,
                commitment: Digest(reader.bytes()?),
                reason: reader.unsigned()?,
                replaces: reader.optional(position)?,
            }),
            (VERSION, REVOKE, 5) => {
                Statement::Revoke(Revoke { position: position(&mut reader)?, reason: reader.unsigned()? })
            }
            (VERSION, ERASE, 5) => {
                Statement::Erase(Erase { position: position(&mut reader)?, basis: reader.unsigned()? })
            }
            (VERSION, VOID, 5) => {
                Statement::Void(Void { epoch: reader.unsigned()?.try_into().ok()?, from: reader.unsigned()? })
            }
            (VERSION, STATE, 6) => Statement::State(State {
                before: position(&mut reader)?,
                root: Digest(reader.bytes()?),
                count: reader.unsigned()?,
            }),
            _ => return None,
        };
        reader.end()?;
        Some(Self { time: Timestamp(time), statement })
    }

    /// Any leaf, by its form, or what is wrong with it.
    fn decode_form(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::scan(bytes, MAX_LEAF)?;
        let (_, [version, time, statement]) = codec::leading_integers(bytes)
            .ok_or_else(|| CodecError::Shape("a leaf begins with version, time and kind".to_owned()))?;
        let statement = match (version, statement) {
            (VERSION, ADD) => {
                let form: AddForm = codec::decode_scanned(bytes)?;
                Statement::Add(Add {
                    kind: form.kind,
                    commitment: form.commitment,
                    labels: form.labels,
                    media: form.media,
                    quality: form.quality,
                    expiry: form.expiry,
                    incident: form.incident,
                    replaces: form.replaces,
                })
            }
            (VERSION, DISPUTE) => {
                let form: DisputeForm = codec::decode_scanned(bytes)?;
                Statement::Dispute(Dispute {
                    kind: form.kind,
                    commitment: form.commitment,
                    reason: form.reason,
                    replaces: form.replaces,
                })
            }
            (VERSION, REVOKE) => {
                let form: RevokeForm = codec::decode_scanned(bytes)?;
                Statement::Revoke(Revoke { position: form.position, reason: form.reason })
            }
            (VERSION, ERASE) => {
                let EraseForm { position, basis, .. } = codec::decode_scanned(bytes)?;
                Statement::Erase(Erase { position, basis })
            }
            (VERSION, VOID) => {
                let VoidForm { epoch, from, .. } = codec::decode_scanned(bytes)?;
                Statement::Void(Void { epoch, from })
            }
            (VERSION, OBSERVE) => {
                let form: ObserveForm = codec::decode_scanned(bytes)?;
                let wrong = || CodecError::Shape("1 to 6 observations of checkpoints, ascending by log".to_owned());
                Statement::Observe(Some(form.observations).filter(Observe::is_good).ok_or_else(wrong)?)
            }
            (VERSION, STATE) => {
                let StateForm { before, root, count, .. } = codec::decode_scanned(bytes)?;
                Statement::State(State { before, root, count })
            }
            _ => Statement::Unknown,
        };
        Ok(Self { time: Timestamp(time), statement })
    }
}

impl Add {
    /// What was hashed, if its number is known here.
    pub fn media(&self) -> Option<Media> {
        Media::from_number(self.media)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn add(commitment: Digest, replaces: Option<Position>) -> Statement {
        Statement::Add(Add {
            kind: HashKind::Pdq as u64,
            commitment,
            labels: Labels::new(&[1]).unwrap(),
            media: Media::Image as u64,
            quality: Some(100),
            expiry: None,
            incident: None,
            replaces,
        })
    }

    fn observe(members: &[&str]) -> Statement {
        let observation = |member: &&str| Observation {
            member: member.parse().unwrap(),
            epoch: 0,
            size: 7,
            root: Digest([0xcc; 32]),
            signature: Signature([0xdd; 64]),
        };
        Statement::Observe(Observe(members.iter().map(observation).collect()))
    }

    /// SPEC 4.7.
    #[test]
    fn observations_are_few_and_ascend() {
        let longest: Vec<String> = (0..6).map(|number| format!("{number}{}", "a".repeat(31))).collect();
        let longest: Vec<&str> = longest.iter().map(String::as_str).collect();
        assert!(leaf(observe(&longest)).encode().len() < MAX_LEAF);
        let decoded = |members: &[&str]| Leaf::decode(&leaf(observe(members)).encode());
        assert_eq!(decoded(&longest).unwrap().statement, observe(&longest));
        assert!(decoded(&["a", "b", "c", "d", "e", "f"]).is_ok());
        for bad in [&[][..], &["b", "a"], &["a", "a"], &["a", "b", "c", "d", "e", "f", "g"]] {
            assert!(matches!(decoded(bad), Err(CodecError::Shape(_))), "{bad:?}");
        }
        for size in [0, MAX_LOG_SIZE + 1] {
            let Statement::Observe(mut observe) = observe(&["a"]) else { unreachable!() };
            observe.0[0].size = size;
            assert_eq!(Observe::new(observe.0), None);
        }
    }

    fn leaf(statement: Statement) -> Leaf {
        Leaf { time: Timestamp(1_767_225_600_000), statement }
    }

    /// SPEC 4.3, byte for byte.
    #[test]
    fn leaves_have_the_bytes_of_the_specification() {
        let commitment = Digest([0xcc; 32]);
        let time = "1b0000019b76daa800".to_owned();
        let cc = "cc".repeat(32);
        let cases = [
            (add(commitment, None), format!("8b01{time}01015820{cc}8101021864f6f6f6")),
            (
                Statement::Dispute(Dispute {
                    kind: 4,
                    commitment,
                    reason: Reason::Lawful as u64,
                    replaces: Some(Position { epoch: 0, index: 300 }),
                }),
                format!("8701{time}02045820{cc}03820019012c"),
            ),
            (
                Statement::Revoke(Revoke { position: Position { epoch: 2, index: 7 }, reason: 2 }),
                format!("8501{time}0382020702"),
            ),
            (
                Statement::Erase(Erase { position: Position { epoch: 2, index: 7 }, basis: 4 }),
                format!("8501{time}0482020704"),
            ),
            (Statement::Void(Void { epoch: 1, from: 300 }), format!("8501{time}050119012c")),
            (
                observe(&["acme"]),
                format!("8401{time}06818564{}00075820{cc}5840{}", hex::encode("acme"), "dd".repeat(64)),
            ),
            (
                Statement::State(State { before: Position { epoch: 0, index: 9 }, root: commitment, count: 4 }),
                format!("8601{time}078200095820{cc}04"),
            ),
        ];
        for (statement, hex) in cases {
            let leaf = leaf(statement);
            assert_eq!(hex::encode(leaf.encode()), hex);
            assert_eq!(Leaf::decode(&leaf.encode()), Ok(leaf));
        }
    }

    /// SPEC 4.6.
    #[test]
    fn unknown_kinds_and_versions_are_kept_if_they_are_canonical() {
        let unknown = |hex: &str| Leaf::decode(&hex::decode(hex).unwrap()).map(|leaf| leaf.statement);
        for good in ["83010008", "8401000941ff", "8402000181f6"] {
            assert_eq!(unknown(good), Ok(Statement::Unknown), "{good}");
        }
        for bad in
            ["8301001808", "820100", "83014101 08", "01", "83010008ff", "a0", "8301f608", "83010004", "8401000501"]
        {
            assert!(unknown(&bad.replace(' ', "")).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_of_later_registries_keep_their_liveness() {
        let Statement::Add(mut later) = add(Digest([1; 32]), Some(Position { epoch: 0, index: 1 })) else {
            unreachable!()
        };
        (later.kind, later.media) = (99, 99);
        let decoded = Leaf::decode(&leaf(Statement::Add(later.clone())).encode()).unwrap().statement;
        assert_eq!(decoded, Statement::Add(later));
        assert_eq!(decoded.hash_kind(), None);
        assert_eq!(decoded.ends(), Some(Position { epoch: 0, index: 1 }));
    }

    #[test]
    fn labels_are_one_to_eight_and_ascend() {
        assert_eq!(Labels::new(&[]), Err(LabelsError::Count(0)));
        assert_eq!(Labels::new(&[1; 9]), Err(LabelsError::Count(9)));
        assert_eq!(Labels::new(&[2, 1]), Err(LabelsError::Order));
        assert_eq!(Labels::new(&[1, 1]), Err(LabelsError::Order));
        assert_eq!(Labels::new(&[1, 2, 9]).unwrap().codes(), [1, 2, 9]);
    }

    #[test]
    fn a_leaf_longer_than_1_kib_is_refused() {
        let mut leaf = vec![0x84, 1, 0, 9, 0x59, 0x03, 0xf8];
        leaf.resize(7 + 0x3f8, 0);
        assert_eq!(leaf.len(), 1023);
        assert!(Leaf::decode(&leaf).is_ok());
        leaf[6] = 0xfa;
        leaf.resize(1025, 0);
        assert_eq!(Leaf::decode(&leaf), Err(CodecError::TooLong { len: 1025, max: 1024 }));
    }

    proptest! {
        #[test]
        fn leaves_come_back_as_they_were(
            time: u64, kind: u64, commitment: [u8; 32], labels in proptest::collection::btree_set(any::<u16>(), 1..8),
            media: u64, quality: Option<u8>, expiry: Option<u64>, incident: Option<u64>, epoch: u32, index: u64,
        ) {
            let labels: Vec<_> = labels.into_iter().collect();
            let leaf = Leaf {
                time: Timestamp(time),
                statement: Statement::Add(Add {
                    kind,
                    commitment: Digest(commitment),
                    labels: Labels::new(&labels).unwrap(),
                    media,
                    quality,
                    expiry: expiry.map(Timestamp),
                    incident,
                    replaces: Some(Position { epoch, index }),
                }),
            };
            prop_assert!(leaf.encode().len() <= MAX_LEAF);
            prop_assert_eq!(Leaf::decode(&leaf.encode()), Ok(leaf));
        }

        /// The two ways to read a leaf agree, on what is good and on what is nearly good.
        #[test]
        fn what_is_read_fast_is_what_is_read_by_its_form(
            statement in 0u8..6, at in 0usize..80, to: u8, cut in 0usize..80, changed: bool, replaced: bool,
        ) {
            let replaces = replaced.then_some(Position { epoch: 1, index: 70_000 });
            let mut bytes = leaf(match statement {
                0 => add(Digest([9; 32]), replaces),
                1 => Statement::Dispute(Dispute { kind: 1, commitment: Digest([7; 32]), reason: 1, replaces }),
                2 => Statement::State(State { before: Position { epoch: 0, index: 300 }, root: Digest([3; 32]), count: 1 << 40 }),
                3 => Statement::Erase(Erase { position: Position { epoch: 3, index: 9 }, basis: 4 }),
                4 => Statement::Void(Void { epoch: 1, from: 1 << 20 }),
                _ => Statement::Revoke(Revoke { position: Position { epoch: 0, index: 1 << 33 }, reason: 2 }),
            })
            .encode();
            prop_assert_eq!(Leaf::read(&bytes), Leaf::decode_form(&bytes).ok());
            if changed {
                let at = at % bytes.len();
                bytes[at] = to;
            } else {
                bytes.truncate(cut);
            }
            let form = Leaf::decode_form(&bytes).ok().filter(|leaf| leaf.statement != Statement::Unknown);
            prop_assert_eq!(Leaf::read(&bytes), form);
        }

        #[test]
        fn one_changed_byte_gives_another_leaf_or_none(at in 0usize..56, to: u8) {
            let mut bytes = leaf(add(Digest([9; 32]), None)).encode();
            let before = bytes.clone();
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(decoded) = Leaf::decode(&bytes) {
                prop_assert!(bytes == before || decoded != Leaf::decode(&before).unwrap());
            }
        }
    }
}
