//! Cosignatures (c2sp.org/tlog-cosignature v1.0.1): witnesses say that they have seen a checkpoint, and when (SPEC 17).
//!
//! Three values, each of which is a proof: a [`Cosignature`] verifies; a [`CosignedCheckpoint`] holds nothing but the log's
//! own signature and cosignatures that verify; a [`SettledCheckpoint`] has as many of them as the charter wants.
//!
//! Does not know when a witness may cosign: that it has verified and stored everything, and nothing else at that size.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::federation::Federation;
use crate::key::{SecretKey, Signature};
use crate::ledger::Mark;
use crate::names::{LogId, MemberId};
use crate::note::{KeyType, Note, SignatureLine, VerifierKey};
use crate::time::Timestamp;

/// What follows the key id in a signature line: eight bytes of time and a signature.
const BLOB: usize = 8 + 64;

/// A verified cosignature of one checkpoint. There is no other way to get one than to sign or to verify.
///
/// It means: at that time this was the largest tree of this log that the witness had seen, and it had all of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cosignature {
    seconds: u64,
    line: SignatureLine,
}

/// Why a signature line is not a cosignature by this key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CosignatureError {
    /// The checkpoint itself does not hold.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The line of a known key that is not a time and a signature, does not verify, or is there twice.
    #[error("bad cosignature of {0}")]
    Bad(String),
    /// Cosignatures of another checkpoint cannot be merged.
    #[error("cosignatures of another checkpoint")]
    OtherCheckpoint,
}

impl Cosignature {
    /// Cosigns, at a time that is cut to seconds. The caller has made sure, durably, that this witness has cosigned no other
    /// root of this size, and holds all leaves (SPEC 17.2).
    pub fn sign(checkpoint: &Checkpoint, time: Timestamp, key: &VerifierKey, secret: &SecretKey) -> Self {
        let seconds = time.0 / 1000;
        let mut blob = seconds.to_be_bytes().to_vec();
        blob.extend_from_slice(&secret.sign_text(&message(&checkpoint.to_string(), seconds)).0);
        Self { seconds, line: SignatureLine { name: key.name().to_owned(), id: key.id(), blob } }
    }

    /// Verifies a line under the text of a checkpoint.
    pub fn open(text: &str, line: &SignatureLine, key: &VerifierKey) -> Result<Self, CosignatureError> {
        let bad = || CosignatureError::Bad(key.name().to_owned());
        let blob: &[u8; BLOB] = line.blob.as_slice().try_into().map_err(|_| bad())?;
        let (time, signature) = blob.split_first_chunk().expect("longer than eight bytes");
        let seconds = u64::from_be_bytes(*time);
        let signature = Signature(signature.try_into().expect("64 bytes are left"));
        // Times are signed numbers in the format; what does not fit one has no meaning.
        if !is_of(line, key) || key.key_type() != KeyType::Cosigner || i64::try_from(seconds).is_err() {
            return Err(bad());
        }
        key.key().verify_text(&message(text, seconds), &signature).map_err(|_| bad())?;
        Ok(Self { seconds, line: line.clone() })
    }

    /// The time in the middle of those that a note's lines claim, none of them checked.
    pub fn claimed_time(note: &Note) -> Timestamp {
        let own_first = note.signatures().iter().skip(1);
        let mut times: Vec<u64> =
            own_first.filter_map(|line| Some(u64::from_be_bytes(*line.blob.split_first_chunk::<8>()?.0))).collect();
        times.sort_unstable();
        Timestamp(times.get(times.len() / 2).copied().unwrap_or_default().saturating_mul(1000))
    }

    /// When, by the witness's clock.
    pub fn time(&self) -> Timestamp {
        Timestamp(self.seconds.saturating_mul(1000))
    }

    /// The signature line.
    pub fn line(&self) -> &SignatureLine {
        &self.line
    }
}

/// What a witness signs.
fn message(text: &str, seconds: u64) -> String {
    format!("cosignature/v1\ntime {seconds}\n{text}")
}

fn is_of(line: &SignatureLine, key: &VerifierKey) -> bool {
    line.id == key.id() && line.name == key.name()
}

/// A checkpoint signed by its log, and verified cosignatures of it, at most one a witness.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CosignedCheckpoint {
    checkpoint: SignedCheckpoint,
    cosignatures: BTreeMap<MemberId, Cosignature>,
}

impl CosignedCheckpoint {
    /// A checkpoint that nobody has cosigned yet.
    pub fn new(checkpoint: SignedCheckpoint) -> Self {
        Self { checkpoint, cosignatures: BTreeMap::new() }
    }

    /// Verifies a note: the log's own signature, and the line of every witness given. A bad or second line of one of them
    /// refuses the note; lines of anybody else are dropped, for nobody has checked them.
    pub fn open<'a>(
        note: Note,
        log: &VerifierKey,
        witnesses: impl IntoIterator<Item = (MemberId, &'a VerifierKey)>,
    ) -> Result<Self, CosignatureError> {
        let lines = note.signatures().to_vec();
        let mut opened = Self::new(SignedCheckpoint::open(note, log)?);
        for (witness, key) in witnesses {
            for line in lines.iter().filter(|line| is_of(line, key)) {
                let cosignature = Cosignature::open(opened.text(), line, key)?;
                if opened.cosignatures.insert(witness, cosignature).is_some() {
                    return Err(CosignatureError::Bad(key.name().to_owned()));
                }
            }
        }
        Ok(opened)
    }

    /// Takes a witness's cosignature in; of two by one witness the later one. The caller has opened it with that witness's
    /// key and this checkpoint's [`text`](Self::text). `false` if it changes nothing.
    pub fn insert(&mut self, witness: MemberId, cosignature: Cosignature) -> bool {
        let known = self.cosignatures.get(&witness);
        let newer = known.is_none_or(|known| known.seconds < cosignature.seconds);
        if newer {
            self.cosignatures.insert(witness, cosignature);
        }
        newer
    }

    /// Takes in the cosignatures of the same checkpoint that somebody else has. `Ok(false)` if none was new.
    pub fn merge(&mut self, other: &Self) -> Result<bool, CosignatureError> {
        if self.text() != other.text() {
            return Err(CosignatureError::OtherCheckpoint);
        }
        let mut news = false;
        for (witness, cosignature) in &other.cosignatures {
            news |= self.insert(*witness, cosignature.clone());
        }
        Ok(news)
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// The three lines that everybody has signed.
    pub fn text(&self) -> &str {
        self.checkpoint.note().text()
    }

    /// By witness.
    pub fn cosignatures(&self) -> &BTreeMap<MemberId, Cosignature> {
        &self.cosignatures
    }

    /// The note: the log's own line, then those of the witnesses, ascending by member.
    pub fn note(&self) -> Note {
        let lines = self.cosignatures.values().map(|cosignature| cosignature.line.clone());
        self.checkpoint.note().clone().signed_also(lines)
    }
}

/// A checkpoint that enough witnesses have cosigned, by the charter in force when it was judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SettledCheckpoint {
    cosigned: CosignedCheckpoint,
    /// Made once: peers are told it again and again.
    note: Arc<Note>,
}

/// Too few of the charter's witnesses, the log's own member left out, have cosigned.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("cosigned by {have} of {need} witnesses")]
pub struct Unsettled {
    /// So many have.
    pub have: usize,
    /// So many must.
    pub need: usize,
}

impl SettledCheckpoint {
    /// Judges by the charter and the cards in force. What is in a [`CosignedCheckpoint`] is counted again, because its keys
    /// may have been others.
    pub fn judge(cosigned: CosignedCheckpoint, log: LogId, federation: &Federation) -> Result<Self, Unsettled> {
        counted(&cosigned, log, federation)?;
        Ok(Self { note: Arc::new(cosigned.note()), cosigned })
    }

    /// Whether it is one by the charter and the cards in force, too.
    pub fn is_current(&self, log: LogId, federation: &Federation) -> bool {
        counted(&self.cosigned, log, federation).is_ok()
    }

    /// Verifies a note of a log that nobody writes any more, and so nobody has cosigned anew: by any charter that has been in force, with any
    /// key that a witness's cards have named.
    pub fn open_ended(note: Note, log: LogId, federation: &Federation) -> Result<Self, SettlementError> {
        let settled = Self::reopen(note, log, federation)?;
        let counts = |member: &&MemberId| **member != log.member && settled.cosigned.cosignatures.contains_key(*member);
        let by_set = federation
            .witness_sets()
            .iter()
            .map(|set| Unsettled { have: set.members.iter().filter(counts).count(), need: usize::from(set.quorum) });
        match by_set.min_by_key(|count| count.need.saturating_sub(count.have)) {
            Some(unsettled) if unsettled.have < unsettled.need => Err(unsettled.into()),
            _ => Ok(settled),
        }
    }

    /// Verifies a note of a log by the charter and the cards in force: opens it, and judges.
    pub fn open(note: Note, log: LogId, federation: &Federation) -> Result<Self, SettlementError> {
        let key = federation.logs().get(&log).ok_or(SettlementError::Stranger(log))?;
        let cosigned = CosignedCheckpoint::open(note, key, federation.witnesses_of(log))?;
        Ok(Self::judge(cosigned, log, federation)?)
    }

    /// Opens a note that this node itself has found to be settled, by the charter and the cards of then. It is not judged again:
    /// what is settled stays so, also where witnesses have other keys by now. Cosignatures are verified with every key that a member's
    /// cards have named.
    pub fn reopen(note: Note, log: LogId, federation: &Federation) -> Result<Self, SettlementError> {
        let key = federation.logs().get(&log).ok_or(SettlementError::Stranger(log))?;
        let keys = federation.past_witnesses();
        let known = keys.iter().filter(|(_, key)| note.signatures().iter().any(|line| is_of(line, key)));
        let cosigned = CosignedCheckpoint::open(note.clone(), key, known.map(|(member, key)| (*member, key)))?;
        Ok(Self { note: Arc::new(cosigned.note()), cosigned })
    }

    /// The checkpoint with its cosignatures.
    pub fn cosigned(&self) -> &CosignedCheckpoint {
        &self.cosigned
    }

    /// Its note.
    pub fn note(&self) -> &Arc<Note> {
        &self.note
    }

    /// How many leaves are settled.
    pub fn size(&self) -> u64 {
        self.cosigned.checkpoint.size()
    }

    /// Size and root.
    pub fn mark(&self) -> Mark {
        Mark { size: self.size(), root: self.cosigned.checkpoint.root() }
    }

    /// When it was cosigned, by the clock in the middle: a few that lie do not move it far.
    pub fn time(&self) -> Timestamp {
        let mut times: Vec<_> = self.cosigned.cosignatures.values().map(Cosignature::time).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }
}

/// Whether enough witnesses have cosigned, by the charter and the cards in force.
fn counted(cosigned: &CosignedCheckpoint, log: LogId, federation: &Federation) -> Result<(), Unsettled> {
    let counts = |(witness, key): (MemberId, &VerifierKey)| {
        cosigned.cosignatures.get(&witness).is_some_and(|cosignature| is_of(&cosignature.line, key))
    };
    let have = federation.witnesses_of(log).filter(|witness| counts(*witness)).count();
    let need = federation.quorum();
    if have < need { Err(Unsettled { have, need }) } else { Ok(()) }
}

/// Why a note does not settle a checkpoint of this log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SettlementError {
    /// No such log.
    #[error("{0} is no log of the federation")]
    Stranger(LogId),
    /// A signature is wrong.
    #[error(transparent)]
    Cosignature(#[from] CosignatureError),
    /// Too few signatures.
    #[error(transparent)]
    Unsettled(#[from] Unsettled),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::{COSIGNED, vector_key};
    use crate::digest::Digest;
    use crate::federation::tests::federation;

    fn witness_key() -> VerifierKey {
        "vector.example/witness+0b222f45+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU".parse().unwrap()
    }

    fn witness() -> MemberId {
        "witness".parse().unwrap()
    }

    fn open(note: &str) -> Result<CosignedCheckpoint, CosignatureError> {
        let note = Note::parse(note.as_bytes()).unwrap();
        CosignedCheckpoint::open(note, &vector_key(), [(witness(), &witness_key())])
    }

    #[test]
    fn a_cosignature_of_another_implementation_opens() {
        let opened = open(COSIGNED).unwrap();
        assert_eq!(opened.cosignatures()[&witness()].time(), Timestamp(1_767_225_600_000));
        assert_eq!(opened.note().to_string(), COSIGNED);
    }

    #[test]
    fn cosigning_the_vector_gives_its_bytes() {
        let secret = SecretKey::from_seed(&[2; 32]);
        let key = VerifierKey::new("vector.example/witness", KeyType::Cosigner, secret.public()).unwrap();
        assert_eq!(key, witness_key());
        let signed = SignedCheckpoint::read(COSIGNED.as_bytes(), &vector_key()).unwrap();
        let time = Timestamp(1_767_225_600_999);
        let cosignature = Cosignature::sign(signed.checkpoint(), time, &key, &secret);
        assert_eq!(Cosignature::open(signed.note().text(), cosignature.line(), &key), Ok(cosignature.clone()));
        let mut cosigned = CosignedCheckpoint::new(signed);
        assert!(cosigned.insert(witness(), cosignature));
        assert_eq!(cosigned.note().to_string(), COSIGNED);
    }

    /// SPEC 17.1.
    #[test]
    fn lines_of_strangers_are_dropped_and_bad_lines_of_witnesses_refuse_the_note() {
        let line = COSIGNED.lines().last().unwrap();
        let head = COSIGNED.strip_suffix(&format!("{line}\n")).unwrap();
        assert!(open(head).unwrap().cosignatures().is_empty());
        let stranger = format!("{COSIGNED}— somebody {}\n", line.rsplit(' ').next().unwrap());
        assert_eq!(open(&stranger).unwrap().note().to_string(), COSIGNED);
        for bad in [
            format!("{COSIGNED}{line}\n"),
            COSIGNED.replace("CyIvRQAAAABpVbkA", "CyIvRQAAAABpVbkB"),
            COSIGNED.replace("CyIvRQAAAABpVbkA", "CyIvRYAAAABpVbkA"),
            format!("{head}— vector.example/witness CyIvRQAAAABpVbkA\n"),
            COSIGNED.replacen('3', "4", 1),
        ] {
            assert!(open(&bad).is_err(), "{bad}");
        }
        // A log's signature under a witness's name and key would be a cosignature without a time.
        let log_as_witness = Cosignature::open(
            head.split_once("\n\n").unwrap().0,
            open(COSIGNED).unwrap().cosignatures()[&witness()].line(),
            &vector_key(),
        );
        assert!(log_as_witness.is_err());
    }

    #[test]
    fn of_two_cosignatures_by_one_witness_the_later_one_is_kept() {
        let secret = SecretKey::from_seed(&[2; 32]);
        let opened = open(COSIGNED).unwrap();
        let at = |seconds: u64| {
            let mut other = CosignedCheckpoint::new(opened.checkpoint().clone());
            let time = Timestamp(seconds * 1000);
            let cosignature = Cosignature::sign(other.checkpoint.checkpoint(), time, &witness_key(), &secret);
            other.insert(witness(), cosignature);
            other
        };
        let mut merged = opened.clone();
        assert_eq!(merged.merge(&at(1_767_225_599)), Ok(false));
        assert_eq!(merged, opened);
        assert_eq!(merged.merge(&at(1_767_225_601)), Ok(true));
        assert_eq!(merged, at(1_767_225_601));
        let other = SignedCheckpoint::sign(
            Checkpoint { size: 4, ..opened.checkpoint().checkpoint().clone() },
            &vector_key(),
            &SecretKey::from_seed(&[1; 32]),
        );
        assert_eq!(merged.merge(&CosignedCheckpoint::new(other)), Err(CosignatureError::OtherCheckpoint));
    }

    /// SPEC 17.4: of four witnesses the three others count, and all three are needed.
    #[test]
    fn a_checkpoint_is_settled_by_enough_witnesses_other_than_its_author() {
        let (federation, keys) = federation(&["acme", "bolt", "crab", "dune"]);
        let log = LogId { member: "acme".parse().unwrap(), epoch: 0 };
        let key = &federation.logs()[&log];
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: 3, root: Digest([1; 32]) };
        let mut cosigned =
            CosignedCheckpoint::new(SignedCheckpoint::sign(checkpoint.clone(), key, &keys[&log.member].log));
        let need = federation.quorum();
        assert_eq!(need, 3);
        for (have, name) in ["acme", "bolt", "crab", "dune"].into_iter().enumerate() {
            let member: MemberId = name.parse().unwrap();
            let key = &federation.witnesses()[&member];
            assert!(
                cosigned.insert(member, Cosignature::sign(&checkpoint, Timestamp(9000), key, &keys[&member].witness))
            );
            let judged = SettledCheckpoint::judge(cosigned.clone(), log, &federation);
            match name {
                "dune" => assert_eq!(judged.unwrap().size(), 3),
                _ => assert_eq!(judged, Err(Unsettled { have, need }), "the author's own does not count"),
            }
        }
        // On the way the author's own line is dropped: it says nothing that the log's signature does not.
        let opened = SettledCheckpoint::open(cosigned.note(), log, &federation).unwrap();
        assert_eq!(opened.cosigned().cosignatures().len(), 3);
        let few = cosigned.checkpoint().note().clone();
        let refused = SettledCheckpoint::open(few, log, &federation);
        assert_eq!(refused, Err(SettlementError::Unsettled(Unsettled { have: 0, need })));
    }
}
