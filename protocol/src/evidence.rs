//! Evidence: the proof that a log key, or a witness key, has signed two histories (SPEC 18).
//!
//! Anyone who has the charter can check it, now or in ten years; nobody can make it but the owner of the key. So it holds
//! everything: the card that ties the key to the member, and what was signed, byte for byte.
//!
//! Knows nothing of what follows from it. Silence, or a proof that is missing, is never evidence.

use std::fmt;

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::card::{Card, CardError, MAX_CARD};
use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::codec::{self, CodecError};
use crate::cosignature::{Cosignature, CosignatureError};
use crate::digest::{Digest, NetworkId};
use crate::federation::Federation;
use crate::names::{LogId, MemberId, OriginPrefix};
use crate::note::{KeyType, MAX_NOTE, Note, NoteError, VerifierKey};
use crate::tree::proof::{MAX_PROOF, ProofError, verify_consistency};

/// The version of evidence that this software reads and writes.
const FORMAT: u64 = 1;

/// Longest evidence, in bytes: a card, two notes with one signature each, a proof.
pub const MAX_EVIDENCE: usize = MAX_CARD + 2 * MAX_NOTE + (MAX_PROOF + 1) * 34 + 128;

/// Numbers of the forms.
const LOG: u64 = 1;
const WITNESS: u64 = 2;

/// Proof that a key has signed what cannot both be true. Holding one *is* the proof: it was verified, whoever made it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Evidence {
    accused: Accused,
    bytes: Vec<u8>,
}

/// Whom evidence speaks against.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Accused {
    /// The key of a log has signed two histories of it.
    Log(LogId),
    /// The witness key of a member has cosigned two roots of one size.
    Witness(MemberId),
}

impl Accused {
    /// The name of the key: the origin of a log, or the name of a witness key.
    pub fn name(&self, origins: &OriginPrefix) -> String {
        match self {
            Self::Log(log) => origins.origin(*log),
            Self::Witness(member) => origins.witness(*member),
        }
    }

    /// The key of this name.
    pub fn named(name: &str, origins: &OriginPrefix) -> Option<Self> {
        if let Some(log) = origins.log(name) {
            return Some(Self::Log(log));
        }
        let member = name.strip_suffix("/witness")?.rsplit('/').next()?.parse().ok()?;
        (origins.witness(member) == name).then_some(Self::Witness(member))
    }
}

impl fmt::Display for Accused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => write!(f, "log {log}"),
            Self::Witness(member) => write!(f, "witness {member}"),
        }
    }
}

/// Why something is no evidence. Each variant is one way to accuse somebody falsely.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EvidenceError {
    /// Not canonical bytes of evidence.
    #[error("not evidence")]
    Codec(#[from] CodecError),
    /// Written by newer software.
    #[error("evidence of a form that is not known here")]
    Format,
    /// Replayed from elsewhere.
    #[error("evidence of another network")]
    OtherNetwork,
    /// The card does not hold.
    #[error("the card in the evidence does not hold")]
    Card(#[from] CardError),
    /// The card is valid, but not that of a member of this federation.
    #[error("the card in the evidence is no member's card in force")]
    NotItsCard,
    /// What was signed is not of the log whose key the card names.
    #[error("what was signed is of another log")]
    OtherLog,
    /// What was signed is no note.
    #[error("malformed note in the evidence")]
    Note(#[from] NoteError),
    /// Both say the same.
    #[error("both say the same, which anybody may sign twice")]
    SameRoot,
    /// Sizes and form do not belong together.
    #[error("the sizes do not fit the form of the evidence")]
    Sizes,
    /// The smaller one is a prefix of the larger.
    #[error("the smaller history is the beginning of the larger one")]
    OneHistory,
    /// The prefix is not that of the larger tree.
    #[error("the root of the prefix is not proved")]
    Proof(#[from] ProofError),
    /// Not signed by the key on the card.
    #[error("not signed by the key on the card")]
    Checkpoint(#[from] CheckpointError),
    /// Not cosigned by the key on the card.
    #[error("not cosigned by the key on the card")]
    Cosignature(#[from] CosignatureError),
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct LogForm {
    format: u64,
    kind: u64,
    network: NetworkId,
    #[serde(with = "serde_bytes")]
    card: Vec<u8>,
    smaller: String,
    larger: String,
    /// The root that the larger tree has at the size of the smaller one; absent where the sizes are the same.
    prefix: Option<Digest>,
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_PROOF>")]
    proof: Vec<Digest>,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct WitnessForm {
    format: u64,
    kind: u64,
    network: NetworkId,
    #[serde(with = "serde_bytes")]
    card: Vec<u8>,
    /// A checkpoint's text, an empty line, and the witness's line.
    one: String,
    other: String,
}

impl Evidence {
    /// Two checkpoints of one log with the same size and different roots.
    pub fn same_size(
        federation: &Federation,
        log: LogId,
        one: &SignedCheckpoint,
        other: &SignedCheckpoint,
    ) -> Result<Self, EvidenceError> {
        Self::of_log(federation, log, (one, other), None, Vec::new())
    }

    /// A checkpoint, and one of a larger tree that has another root at the first one's size: `prefix`, with the proof.
    pub fn larger(
        federation: &Federation,
        log: LogId,
        (smaller, larger): (&SignedCheckpoint, &SignedCheckpoint),
        prefix: Digest,
        proof: Vec<Digest>,
    ) -> Result<Self, EvidenceError> {
        Self::of_log(federation, log, (smaller, larger), Some(prefix), proof)
    }

    fn of_log(
        federation: &Federation,
        log: LogId,
        (smaller, larger): (&SignedCheckpoint, &SignedCheckpoint),
        prefix: Option<Digest>,
        proof: Vec<Digest>,
    ) -> Result<Self, EvidenceError> {
        let card = federation.card_of(log).ok_or(EvidenceError::NotItsCard)?;
        let form = LogForm {
            format: FORMAT,
            kind: LOG,
            network: federation.charter().network(),
            card: card.bytes().to_vec(),
            smaller: smaller.note().to_string(),
            larger: larger.note().to_string(),
            prefix,
            proof,
        };
        Self::read(&codec::encode(&form), federation)
    }

    /// Two checkpoints of one size and different roots, cosigned by one witness.
    pub fn of_witness(
        federation: &Federation,
        witness: MemberId,
        one: (&str, &Cosignature),
        other: (&str, &Cosignature),
    ) -> Result<Self, EvidenceError> {
        let card = federation.card(witness).ok_or(EvidenceError::NotItsCard)?;
        let text = |(text, cosignature): (&str, &Cosignature)| format!("{text}\n{}\n", cosignature.line());
        let form = WitnessForm {
            format: FORMAT,
            kind: WITNESS,
            network: federation.charter().network(),
            card: card.bytes().to_vec(),
            one: text(one),
            other: text(other),
        };
        Self::read(&codec::encode(&form), federation)
    }

    /// Reads and verifies evidence. Cheap checks first, signatures last.
    pub fn read(bytes: &[u8], federation: &Federation) -> Result<Self, EvidenceError> {
        codec::scan(bytes, MAX_EVIDENCE)?;
        let accused = match codec::leading_integers(bytes) {
            Some((_, [FORMAT, LOG])) => Self::check_log(&codec::decode(bytes, MAX_EVIDENCE)?, federation)?,
            Some((_, [FORMAT, WITNESS])) => Self::check_witness(&codec::decode(bytes, MAX_EVIDENCE)?, federation)?,
            _ => return Err(EvidenceError::Format),
        };
        Ok(Self { accused, bytes: bytes.to_vec() })
    }

    fn check_log(form: &LogForm, federation: &Federation) -> Result<Accused, EvidenceError> {
        if form.network != federation.charter().network() {
            return Err(EvidenceError::OtherNetwork);
        }
        let (smaller, larger) = (Note::parse(form.smaller.as_bytes())?, Note::parse(form.larger.as_bytes())?);
        let (small, large) = (Checkpoint::parse(smaller.text())?, Checkpoint::parse(larger.text())?);
        let log = federation.origins().log(&small.origin).ok_or(EvidenceError::OtherLog)?;
        if small.origin != large.origin {
            return Err(EvidenceError::OtherLog);
        }
        match form.prefix {
            None if small.size != large.size || !form.proof.is_empty() => return Err(EvidenceError::Sizes),
            None if small.root == large.root => return Err(EvidenceError::SameRoot),
            None => {}
            Some(_) if small.size >= large.size => return Err(EvidenceError::Sizes),
            Some(prefix) if prefix == small.root => return Err(EvidenceError::OneHistory),
            Some(prefix) => verify_consistency(small.size, prefix, large.size, large.root, &form.proof)?,
        }
        let card = card_of(&form.card, log.member, federation)?;
        // The key of the log is the one on the card, which may be an earlier one.
        let key = federation.logs().get(&log).filter(|key| *key.key() == card.body().log);
        let key = key.ok_or(EvidenceError::NotItsCard)?;
        for note in [smaller, larger] {
            if note.signatures().len() != 1 {
                // Lines that nobody has checked would make a second spelling of the same evidence.
                return Err(EvidenceError::Sizes);
            }
            SignedCheckpoint::open(note, key)?;
        }
        Ok(Accused::Log(log))
    }

    fn check_witness(form: &WitnessForm, federation: &Federation) -> Result<Accused, EvidenceError> {
        if form.network != federation.charter().network() {
            return Err(EvidenceError::OtherNetwork);
        }
        let (one, other) = (Note::parse(form.one.as_bytes())?, Note::parse(form.other.as_bytes())?);
        let (said, contradicted) = (Checkpoint::parse(one.text())?, Checkpoint::parse(other.text())?);
        if said.origin != contradicted.origin || federation.origins().log(&said.origin).is_none() {
            return Err(EvidenceError::OtherLog);
        }
        if said.size != contradicted.size {
            return Err(EvidenceError::Sizes);
        }
        if said.root == contradicted.root {
            return Err(EvidenceError::SameRoot);
        }
        let ([line], [other_line]) = (one.signatures(), other.signatures()) else { return Err(EvidenceError::Sizes) };
        // The key is the one on the card, which may be an earlier one.
        let card = Card::read(&form.card)?;
        let witness = card.body().member;
        is_known(&card, federation)?;
        let name = federation.origins().witness(witness);
        let key = VerifierKey::new(&name, KeyType::Cosigner, card.body().witness);
        let key = key.map_err(|_| EvidenceError::NotItsCard)?;
        Cosignature::open(one.text(), line, &key)?;
        Cosignature::open(other.text(), other_line, &key)?;
        Ok(Accused::Witness(witness))
    }

    /// Whom it speaks against.
    pub fn accused(&self) -> Accused {
        self.accused
    }

    /// The bytes, as they were verified.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A card that is a member's card in force, or was.
fn card_of(bytes: &[u8], member: MemberId, federation: &Federation) -> Result<Card, EvidenceError> {
    let card = Card::read(bytes)?;
    if card.body().member != member {
        return Err(EvidenceError::NotItsCard);
    }
    is_known(&card, federation)?;
    Ok(card)
}

fn is_known(card: &Card, federation: &Federation) -> Result<(), EvidenceError> {
    let line = federation.line(card.body().member).ok_or(EvidenceError::NotItsCard)?;
    if line.cards.iter().any(|known| known.id() == card.id()) { Ok(()) } else { Err(EvidenceError::NotItsCard) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::card::MemberKeys;
    use crate::entries::tests::log;
    use crate::federation::tests::federation;
    use crate::time::Timestamp;
    use crate::tree::leaf_hash;
    use crate::tree::prover::tests::Naive;
    use crate::tree::prover::{consistency, root};

    struct World {
        federation: Federation,
        keys: BTreeMap<MemberId, MemberKeys>,
    }

    fn world() -> World {
        let (federation, keys) = federation(&["acme", "bolt"]);
        World { federation, keys }
    }

    /// The first leaves of a history; histories have the first two leaves in common.
    fn tree(story: u8, size: u64) -> Naive {
        let leaf = |index: u64| leaf_hash(&[if index < 2 { 0 } else { story }, u8::try_from(index).unwrap()]);
        Naive((0..size).map(leaf).collect())
    }

    fn root_of(story: u8, size: u64) -> Digest {
        let Ok(root) = root(&tree(story, size), size);
        root
    }

    impl World {
        fn sign(&self, story: u8, size: u64) -> SignedCheckpoint {
            let key = &self.federation.logs()[&log()];
            let checkpoint = Checkpoint { origin: key.name().to_owned(), size, root: root_of(story, size) };
            SignedCheckpoint::sign(checkpoint, key, &self.keys[&log().member].log)
        }

        fn larger(&self, small: (u8, u64), large: (u8, u64)) -> Result<Evidence, EvidenceError> {
            let Ok(proof) = consistency(&tree(large.0, large.1), small.1, large.1);
            let both = (&self.sign(small.0, small.1), &self.sign(large.0, large.1));
            Evidence::larger(&self.federation, log(), both, root_of(large.0, small.1), proof)
        }

        fn change(&self, change: impl FnOnce(&mut LogForm)) -> EvidenceError {
            let evidence = self.larger((1, 3), (2, 7)).unwrap();
            let mut form = codec::decode(evidence.bytes(), MAX_EVIDENCE).unwrap();
            change(&mut form);
            Evidence::read(&codec::encode(&form), &self.federation).unwrap_err()
        }
    }

    /// SPEC 18.1: both forms, for every pair of sizes.
    #[test]
    fn two_histories_are_proved_in_both_forms() {
        let world = world();
        let one = Evidence::same_size(&world.federation, log(), &world.sign(1, 4), &world.sign(2, 4)).unwrap();
        assert_eq!(one.accused(), Accused::Log(log()));
        assert_eq!(Evidence::read(one.bytes(), &world.federation), Ok(one));
        for small in 1..9 {
            for large in small + 1..10 {
                let proved = world.larger((1, small), (2, large)).map(|evidence| evidence.accused());
                // Up to the second leaf both histories are one.
                let expected = if small > 2 { Ok(Accused::Log(log())) } else { Err(EvidenceError::OneHistory) };
                assert_eq!(proved, expected, "{small} {large}");
            }
        }
    }

    /// SPEC 18.2: each way to accuse somebody falsely has its own refusal.
    #[test]
    fn what_is_no_evidence_is_refused_with_its_reason() {
        let world = world();
        let (one, other) = (world.sign(1, 4), world.sign(2, 4));
        let same = Evidence::same_size(&world.federation, log(), &one, &one);
        assert_eq!(same, Err(EvidenceError::SameRoot));
        assert_eq!(Evidence::same_size(&world.federation, log(), &one, &world.sign(2, 5)), Err(EvidenceError::Sizes));
        let bolt: MemberId = "bolt".parse().unwrap();
        let elsewhere = NetworkId(Digest([9; 32]));
        assert_eq!(world.change(|form| form.network = elsewhere), EvidenceError::OtherNetwork);
        let others = world.federation.card(bolt).unwrap().bytes().to_vec();
        assert_eq!(world.change(|form| form.card = others), EvidenceError::NotItsCard);
        let stranger = crate::card::tests::card("acme", "FR", 9).bytes().to_vec();
        assert_eq!(world.change(|form| form.card = stranger), EvidenceError::NotItsCard);
        assert!(matches!(world.change(|form| form.card.truncate(9)), EvidenceError::Card(_)));
        assert!(matches!(world.change(|form| form.proof[0] = Digest([1; 32])), EvidenceError::Proof(_)));
        assert!(matches!(world.change(|form| form.prefix = Some(Digest([1; 32]))), EvidenceError::Proof(_)));
        assert_eq!(world.change(|form| form.prefix = None), EvidenceError::Sizes);
        assert_eq!(world.change(|form| form.prefix = Some(root_of(1, 3))), EvidenceError::OneHistory);
        let note = |story, size, key: &crate::key::SecretKey| {
            let verifier = &world.federation.logs()[&log()];
            let checkpoint = Checkpoint { origin: verifier.name().to_owned(), size, root: root_of(story, size) };
            SignedCheckpoint::sign(checkpoint, verifier, key).note().to_string()
        };
        let forged = note(1, 3, &world.keys[&bolt].log);
        assert!(matches!(world.change(|form| form.smaller = forged), EvidenceError::Checkpoint(_)));
        let witnessed = note(1, 3, &world.keys[&log().member].witness);
        assert!(matches!(world.change(|form| form.smaller = witnessed), EvidenceError::Checkpoint(_)), "wrong key");
        let of_bolt = note(1, 3, &world.keys[&bolt].log).replace("/acme/0", "/bolt/0");
        assert_eq!(world.change(|form| form.smaller = of_bolt), EvidenceError::OtherLog);
        let twice = world.sign(1, 3).note().to_string();
        let twice = format!("{twice}{}\n", twice.lines().last().unwrap());
        assert_eq!(world.change(|form| form.smaller = twice), EvidenceError::Sizes);
        assert_eq!(Evidence::read(&codec::encode(&(1u64, 9u64)), &world.federation), Err(EvidenceError::Format));
        drop(other);
    }

    /// SPEC 18.1.
    #[test]
    fn a_witness_that_cosigns_two_roots_is_proved_to_have_done_so() {
        let world = world();
        let bolt: MemberId = "bolt".parse().unwrap();
        let key = &world.federation.witnesses()[&bolt];
        let sign = |story, size, secret| {
            let checkpoint = world.sign(story, size).checkpoint().clone();
            (checkpoint.to_string(), Cosignature::sign(&checkpoint, Timestamp(9000), key, secret))
        };
        let accuse = |one: &(String, Cosignature), other: &(String, Cosignature)| {
            Evidence::of_witness(&world.federation, bolt, (&one.0, &one.1), (&other.0, &other.1))
                .map(|evidence| evidence.accused())
        };
        let secret = &world.keys[&bolt].witness;
        let (one, other) = (sign(1, 4, secret), sign(2, 4, secret));
        assert_eq!(accuse(&one, &other), Ok(Accused::Witness(bolt)));
        assert_eq!(accuse(&one, &one), Err(EvidenceError::SameRoot));
        assert_eq!(accuse(&one, &sign(2, 5, secret)), Err(EvidenceError::Sizes));
        let forged = sign(2, 4, &world.keys[&log().member].witness);
        assert!(matches!(accuse(&one, &forged), Err(EvidenceError::Cosignature(_))));
    }

    /// SPEC 18.2: against a log that has one history, whatever is made of all that it ever signed is no evidence: 100,000
    /// accusations, and evidence against another whose parts are replaced.
    #[test]
    fn nobody_is_convicted_who_signed_one_history() {
        let world = world();
        let mut state = 1u64;
        // Knuth's generator for MMIX: the same accusations in every run.
        let mut below = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % end
        };
        let notes: Vec<String> = (1..16).map(|size| world.sign(1, size).note().to_string()).collect();
        let card = world.federation.card(log().member).unwrap().bytes().to_vec();
        let network = world.federation.charter().network();
        for _ in 0..100_000 {
            let (a, b) = (below(15), below(15));
            let (small, large) = (a.min(b) + 1, a.max(b) + 1);
            let mut pick = |story| match below(4) {
                0 => root_of(1, below(16)),
                1 => root_of(2, below(16)),
                2 => root_of(story, small),
                _ => Digest([below(256) as u8; 32]),
            };
            let prefix = pick(1);
            let tampered: Vec<Digest> = (0..3).map(|_| pick(2)).collect();
            let Ok(mut proof) = consistency(&tree(1, large), small, large);
            match below(4) {
                0 => proof = tampered,
                1 => proof.truncate(below(4) as usize),
                2 if !proof.is_empty() => {
                    let at = below(proof.len() as u64) as usize;
                    proof[at] = tampered[0];
                }
                _ => {}
            }
            let prefix = (below(8) > 0).then_some(prefix);
            let note = |size: u64| notes[usize::try_from(size - 1).unwrap()].clone();
            let mut form = LogForm {
                format: FORMAT,
                kind: LOG,
                network,
                card: card.clone(),
                smaller: note(small),
                larger: note(large),
                prefix,
                proof,
            };
            if below(16) == 0 {
                std::mem::swap(&mut form.smaller, &mut form.larger);
            }
            let refused = Evidence::read(&codec::encode(&form), &world.federation);
            assert!(refused.is_err(), "{small} {large} {:?}", form.prefix);
        }
    }
}
