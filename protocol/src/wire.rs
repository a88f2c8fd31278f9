//! What peers say to each other (SPEC 13): gossip about new statements, and requests and answers on a stream.
//!
//! Frames are canonical CBOR like everything else, and reading one checks all that can be checked without knowing the
//! state of any log: so it can happen away from the thread that admits.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::batch::{Batch, BatchError, MAX_BATCH};
use crate::codec::{self, CodecError};
use crate::digest::Digest;
use crate::evidence::{Accused, Evidence, MAX_EVIDENCE};
use crate::governance::{self, Document, DocumentError, Summary};
use crate::names::{LogId, MemberId, OriginPrefix};
use crate::note::{Note, NoteError};
use crate::opening::MAX_OPENING;
use crate::statement::Position;
use crate::time::Timestamp;
use crate::witnessing::{AddCheckpoint, MAX_REQUEST, WitnessAnswer, WitnessingError};

/// The major version of the protocol, which stands in the names of its libp2p protocols.
pub const PROTOCOL: u32 = 1;

/// Longest frame on a stream, in bytes: a batch in its envelope.
pub const MAX_FRAME: usize = MAX_BATCH + 64;

/// Longest gossip message, in bytes.
pub const MAX_GOSSIP: usize = 64 * 1024;

/// Most heads in one message.
pub const MAX_HEADS: usize = 2000;

/// Bytes of settled checkpoints in one message: those of 50 logs with 40 witnesses, or of 500 with four. What is left out
/// comes with a later message.
pub const SETTLED_BYTES: usize = 256 * 1024;

/// Bytes of documents in one answer, unless a single one has more.
pub const DOCUMENT_BYTES: usize = 512 * 1024;

/// Most documents in one answer.
const MAX_DOCUMENTS: usize = 8192;

/// Most openings asked for at once.
pub const MAX_OPENINGS: usize = 256;

/// Why bytes from a peer are not what they should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// Not a frame.
    #[error("malformed frame")]
    Codec(#[from] CodecError),
    /// A kind of frame that this version does not know.
    #[error("a frame of unknown kind {0}")]
    Unknown(u64),
    /// A checkpoint in it is no note.
    #[error("malformed checkpoint")]
    Note(#[from] NoteError),
    /// The batch in it.
    #[error("malformed batch")]
    Batch(#[from] BatchError),
    /// A message to or of a witness.
    #[error(transparent)]
    Witnessing(#[from] WitnessingError),
    /// A document of governance.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A log of another federation.
    #[error("a log of another federation")]
    Origin,
    /// SPEC 14.4: a node has one newest checkpoint of a log.
    #[error("two heads of one log")]
    TwoHeads,
    /// SPEC 5.1: a longer opening than there is.
    #[error("an opening of more than {MAX_OPENING} bytes")]
    LongOpening,
}

impl WireError {
    /// Whether newer software may have written it: then nobody is to blame.
    pub fn is_from_the_future(&self) -> bool {
        match self {
            Self::Unknown(_) => true,
            Self::Batch(error) => error.is_from_the_future(),
            Self::Document(error) => error.is_from_the_future(),
            _ => false,
        }
    }
}

/// What is flooded to everybody.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Gossip {
    /// A small batch, whole.
    Batch(Batch),
    /// That a log has grown; its leaves are to be fetched.
    Checkpoint(LogId, Note),
    /// That a checkpoint is settled, with the cosignatures that settle it.
    Settled(LogId, Note),
    /// That a key has signed two histories, with the proof.
    Evidence(Vec<u8>),
    /// A document of governance.
    Document(Box<Document>),
}

/// The newest checkpoints that a node has, and what time it is there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Heads {
    /// The sender's clock.
    pub time: Timestamp,
    /// Where it stands with charters and cards.
    pub governance: governance::Position,
    /// For every log of which it has leaves: the newest checkpoint whose leaves it holds.
    pub heads: Vec<(LogId, Note)>,
    /// Of the logs of whoever is told: larger checkpoints that the sender has heard of, and does not hold the leaves of. A
    /// member that has lost its memory must not sign behind them (SPEC 8.5).
    pub heard: Vec<(LogId, Note)>,
    /// The largest settled checkpoints, with their cosignatures; of many logs only some at a time.
    pub settled: Vec<(LogId, Arc<Note>)>,
    /// The keys that the sender has evidence against.
    pub evidence: Vec<Accused>,
}

/// What a node asks another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// "These are my heads; which are yours?"
    Heads(Heads),
    /// Leaves from `from` on, at most up to `to`.
    Range {
        /// Of which log.
        log: LogId,
        /// The first.
        from: u64,
        /// The one after the last.
        to: u64,
    },
    /// Openings that are missing here.
    Openings {
        /// Of which log.
        log: LogId,
        /// Of which leaves.
        indices: Vec<u64>,
    },
    /// Evidence against this key.
    Evidence(Accused),
    /// A cosignature.
    Cosign(LogId, Box<AddCheckpoint>),
    /// Documents of governance that whoever holds this lacks; after this one of those that are in no order.
    Documents(Box<Summary>, Option<Digest>),
}

/// What it answers. Answers come in the order of the requests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The newest checkpoints here.
    Heads(Heads),
    /// Leaves that begin where asked, some of those asked for at least.
    Range(Box<Batch>),
    /// Openings.
    Openings {
        /// Those that are here, of those asked for.
        found: Vec<(u64, Vec<u8>)>,
        /// Those that are erased, with the leaf that did it, to be believed once that leaf is here.
        erased: Vec<(u64, Position)>,
    },
    /// What a witness answers.
    Witness(WitnessAnswer),
    /// Evidence, nothing of which has been verified.
    Evidence(Vec<u8>),
    /// Documents of governance, and after which to ask for more.
    Documents(governance::Answer),
    /// What was asked for is not here.
    NotHeld,
    /// Too busy; ask somebody else, or later.
    Busy,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct BatchForm {
    kind: u64,
    #[serde(with = "serde_bytes")]
    batch: Vec<u8>,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct CheckpointForm {
    kind: u64,
    checkpoint: String,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct HeadsForm {
    kind: u64,
    time: Timestamp,
    governance: governance::Position,
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_HEADS>")]
    heads: Vec<String>,
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_HEADS>")]
    heard: Vec<String>,
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_HEADS>")]
    settled: Vec<String>,
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_HEADS>")]
    evidence: Vec<String>,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct RangeForm {
    kind: u64,
    origin: String,
    from: u64,
    to: u64,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct IndicesForm {
    kind: u64,
    origin: String,
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_OPENINGS>")]
    indices: Vec<u64>,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct OpeningForm {
    index: u64,
    #[serde(with = "serde_bytes")]
    opening: Vec<u8>,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct OpeningsForm {
    kind: u64,
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_OPENINGS>")]
    openings: Vec<OpeningForm>,
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_OPENINGS>")]
    erased: Vec<(u64, Position)>,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct SummaryForm {
    kind: u64,
    summary: Summary,
    after: Option<Digest>,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct DocumentsForm {
    kind: u64,
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_DOCUMENTS>")]
    documents: Vec<serde_bytes::ByteBuf>,
    next: Option<Digest>,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct StatusForm {
    kind: u64,
    status: u64,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct WitnessForm {
    kind: u64,
    status: u64,
    body: String,
}

/// Numbers of frame kinds (SPEC 13.3). Gossip, requests and answers travel apart and share the numbers.
const HEADS: u64 = 1;
const RANGE: u64 = 2;
const OPENINGS: u64 = 3;
const STATUS: u64 = 4;
const COSIGN: u64 = 5;
const EVIDENCE: u64 = 6;
const DOCUMENTS: u64 = 7;
const GOSSIP_BATCH: u64 = 1;
const GOSSIP_CHECKPOINT: u64 = 2;
const GOSSIP_SETTLED: u64 = 3;
const GOSSIP_EVIDENCE: u64 = 4;
const GOSSIP_DOCUMENT: u64 = 5;

/// Numbers of status answers.
const NOT_HELD: u64 = 1;
const BUSY: u64 = 2;

fn kind(bytes: &[u8], max: usize) -> Result<u64, WireError> {
    codec::scan(bytes, max)?;
    let leading = codec::leading_integers(bytes);
    let (_, [kind]) = leading.ok_or_else(|| CodecError::Shape("a frame begins with its kind".to_owned()))?;
    Ok(kind)
}

/// The log that a checkpoint says it is of.
fn log_of(note: &Note, origins: &OriginPrefix) -> Result<LogId, WireError> {
    note.text().split('\n').next().and_then(|origin| origins.log(origin)).ok_or(WireError::Origin)
}

impl Gossip {
    /// The bytes of a message that carries an encoded batch.
    pub fn encode_batch(batch: Vec<u8>) -> Vec<u8> {
        codec::encode(&BatchForm { kind: GOSSIP_BATCH, batch })
    }

    /// The bytes of a message that announces a checkpoint.
    pub fn encode_checkpoint(note: &Note) -> Vec<u8> {
        codec::encode(&CheckpointForm { kind: GOSSIP_CHECKPOINT, checkpoint: note.to_string() })
    }

    /// The bytes of a message that says that a checkpoint is settled.
    pub fn encode_settled(note: &Note) -> Vec<u8> {
        codec::encode(&CheckpointForm { kind: GOSSIP_SETTLED, checkpoint: note.to_string() })
    }

    /// The bytes of a message that accuses.
    pub fn encode_evidence(evidence: &Evidence) -> Vec<u8> {
        codec::encode(&BatchForm { kind: GOSSIP_EVIDENCE, batch: evidence.bytes().to_vec() })
    }

    /// The bytes of a message that carries a document; `None` if it is too long to be gossiped.
    pub fn encode_document(document: &Document) -> Option<Vec<u8>> {
        let message = codec::encode(&BatchForm { kind: GOSSIP_DOCUMENT, batch: document.encode() });
        (message.len() <= MAX_GOSSIP).then_some(message)
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8], origins: &OriginPrefix) -> Result<Self, WireError> {
        match kind(bytes, MAX_GOSSIP)? {
            GOSSIP_BATCH => {
                let form: BatchForm = codec::decode(bytes, MAX_GOSSIP)?;
                Ok(Self::Batch(Batch::read(&form.batch, origins)?))
            }
            kind @ (GOSSIP_CHECKPOINT | GOSSIP_SETTLED) => {
                let form: CheckpointForm = codec::decode(bytes, MAX_GOSSIP)?;
                let note = Note::parse(form.checkpoint.as_bytes())?;
                let log = log_of(&note, origins)?;
                let settled = kind == GOSSIP_SETTLED;
                Ok(if settled { Self::Settled(log, note) } else { Self::Checkpoint(log, note) })
            }
            GOSSIP_EVIDENCE => {
                let form: BatchForm = codec::decode(bytes, MAX_EVIDENCE + 16)?;
                Ok(Self::Evidence(form.batch))
            }
            GOSSIP_DOCUMENT => {
                let form: BatchForm = codec::decode(bytes, MAX_GOSSIP)?;
                Ok(Self::Document(Box::new(Document::decode(&form.batch)?)))
            }
            other => Err(WireError::Unknown(other)),
        }
    }
}

impl Heads {
    /// As a member is told them: of what is only heard of, its own logs. Who speaks for nobody is told none of that.
    #[must_use]
    pub fn told_to(&self, member: Option<MemberId>, time: Timestamp) -> Self {
        let heard = self.heard.iter().filter(|(log, _)| Some(log.member) == member).cloned().collect();
        let (heads, settled, evidence) = (self.heads.clone(), self.some_settled(time), self.evidence.clone());
        Self { time, governance: self.governance, heads, heard, settled, evidence }
    }

    /// As many settled checkpoints as [`SETTLED_BYTES`] hold, from another one on each time.
    fn some_settled(&self, time: Timestamp) -> Vec<(LogId, Arc<Note>)> {
        let count = self.settled.len();
        let start = usize::try_from(time.0).unwrap_or_default().checked_rem(count).unwrap_or_default();
        let from_start = self.settled.iter().cycle().skip(start).take(count);
        let mut bytes = 0;
        let fits = from_start.take_while(|(_, note)| {
            bytes += note.length();
            bytes <= SETTLED_BYTES
        });
        fits.cloned().collect()
    }

    fn form(&self, origins: &OriginPrefix) -> HeadsForm {
        let texts = |notes: &[(LogId, Note)]| notes.iter().map(|(_, note)| note.to_string()).collect();
        let (heads, heard) = (texts(&self.heads), texts(&self.heard));
        let settled = self.settled.iter().map(|(_, note)| note.to_string()).collect();
        let evidence = self.evidence.iter().map(|accused| accused.name(origins)).collect();
        HeadsForm { kind: HEADS, time: self.time, governance: self.governance, heads, heard, settled, evidence }
    }

    fn decode(bytes: &[u8], origins: &OriginPrefix) -> Result<Self, WireError> {
        let form: HeadsForm = codec::decode(bytes, MAX_FRAME)?;
        let read = |text: &String| {
            let note = Note::parse(text.as_bytes())?;
            Ok((log_of(&note, origins)?, note))
        };
        let notes = |texts: &[String]| texts.iter().map(read).collect::<Result<Vec<_>, WireError>>();
        let (heads, heard, settled) = (notes(&form.heads)?, notes(&form.heard)?, notes(&form.settled)?);
        // Each may cost the engine a signature check: as many as there are logs, not as many as fit.
        for told in [&heads, &heard, &settled] {
            let logs: BTreeSet<LogId> = told.iter().map(|(log, _)| *log).collect();
            if logs.len() < told.len() {
                return Err(WireError::TwoHeads);
            }
        }
        let evidence = form.evidence.iter().map(|name| Accused::named(name, origins).ok_or(WireError::Origin));
        let settled = settled.into_iter().map(|(log, note)| (log, Arc::new(note))).collect();
        let (time, governance) = (form.time, form.governance);
        Ok(Self { time, governance, heads, heard, settled, evidence: evidence.collect::<Result<_, _>>()? })
    }
}

impl Request {
    /// The bytes of a frame.
    pub fn encode(&self, origins: &OriginPrefix) -> Vec<u8> {
        match self {
            Self::Heads(heads) => codec::encode(&heads.form(origins)),
            Self::Range { log, from, to } => {
                codec::encode(&RangeForm { kind: RANGE, origin: origins.origin(*log), from: *from, to: *to })
            }
            Self::Openings { log, indices } => {
                let (origin, indices) = (origins.origin(*log), indices.clone());
                codec::encode(&IndicesForm { kind: OPENINGS, origin, indices })
            }
            Self::Evidence(accused) => {
                codec::encode(&CheckpointForm { kind: EVIDENCE, checkpoint: accused.name(origins) })
            }
            Self::Cosign(_, request) => {
                codec::encode(&CheckpointForm { kind: COSIGN, checkpoint: request.to_string() })
            }
            Self::Documents(summary, after) => {
                codec::encode(&SummaryForm { kind: DOCUMENTS, summary: (**summary).clone(), after: *after })
            }
        }
    }

    /// Reads a frame.
    pub fn decode(bytes: &[u8], origins: &OriginPrefix) -> Result<Self, WireError> {
        match kind(bytes, MAX_FRAME)? {
            HEADS => Ok(Self::Heads(Heads::decode(bytes, origins)?)),
            RANGE => {
                let form: RangeForm = codec::decode(bytes, MAX_FRAME)?;
                let log = origins.log(&form.origin).ok_or(WireError::Origin)?;
                Ok(Self::Range { log, from: form.from, to: form.to })
            }
            OPENINGS => {
                let form: IndicesForm = codec::decode(bytes, MAX_FRAME)?;
                let log = origins.log(&form.origin).ok_or(WireError::Origin)?;
                Ok(Self::Openings { log, indices: form.indices })
            }
            EVIDENCE => {
                let form: CheckpointForm = codec::decode(bytes, MAX_FRAME)?;
                Ok(Self::Evidence(Accused::named(&form.checkpoint, origins).ok_or(WireError::Origin)?))
            }
            COSIGN => {
                let form: CheckpointForm = codec::decode(bytes, MAX_REQUEST + 16)?;
                let request = AddCheckpoint::parse(&form.checkpoint)?;
                Ok(Self::Cosign(log_of(&request.checkpoint, origins)?, Box::new(request)))
            }
            DOCUMENTS => {
                let form: SummaryForm = codec::decode(bytes, MAX_FRAME)?;
                Ok(Self::Documents(Box::new(form.summary), form.after))
            }
            other => Err(WireError::Unknown(other)),
        }
    }
}

impl Answer {
    /// The bytes of a frame that carries an encoded batch.
    pub fn encode_range(batch: Vec<u8>) -> Vec<u8> {
        codec::encode(&BatchForm { kind: RANGE, batch })
    }

    /// The bytes of a frame.
    pub fn encode(&self, origins: &OriginPrefix) -> Vec<u8> {
        let status = |status| codec::encode(&StatusForm { kind: STATUS, status });
        match self {
            Self::Heads(heads) => codec::encode(&heads.form(origins)),
            Self::Range(batch) => Self::encode_range(batch.encode(origins)),
            Self::Openings { found, erased } => {
                let form = |(index, opening): &(u64, Vec<u8>)| OpeningForm { index: *index, opening: opening.clone() };
                codec::encode(&OpeningsForm {
                    kind: OPENINGS,
                    openings: found.iter().map(form).collect(),
                    erased: erased.clone(),
                })
            }
            Self::Witness(answer) => {
                codec::encode(&WitnessForm { kind: COSIGN, status: answer.status(), body: answer.body() })
            }
            Self::Evidence(evidence) => codec::encode(&BatchForm { kind: EVIDENCE, batch: evidence.clone() }),
            Self::Documents(answer) => {
                let documents = answer.documents.iter().map(|document| serde_bytes::ByteBuf::from(document.encode()));
                codec::encode(&DocumentsForm { kind: DOCUMENTS, documents: documents.collect(), next: answer.next })
            }
            Self::NotHeld => status(NOT_HELD),
            Self::Busy => status(BUSY),
        }
    }

    /// Reads a frame.
    pub fn decode(bytes: &[u8], origins: &OriginPrefix) -> Result<Self, WireError> {
        match kind(bytes, MAX_FRAME)? {
            HEADS => Ok(Self::Heads(Heads::decode(bytes, origins)?)),
            RANGE => {
                let form: BatchForm = codec::decode(bytes, MAX_FRAME)?;
                Ok(Self::Range(Box::new(Batch::read(&form.batch, origins)?)))
            }
            OPENINGS => {
                let form: OpeningsForm = codec::decode(bytes, MAX_FRAME)?;
                if form.openings.iter().any(|form| form.opening.len() > MAX_OPENING) {
                    return Err(WireError::LongOpening);
                }
                let found = form.openings.into_iter().map(|form| (form.index, form.opening)).collect();
                Ok(Self::Openings { found, erased: form.erased })
            }
            COSIGN => {
                let form: WitnessForm = codec::decode(bytes, MAX_FRAME)?;
                let answer = WitnessAnswer::parse(form.status, &form.body)?;
                Ok(Self::Witness(answer.ok_or(WireError::Unknown(form.status))?))
            }
            EVIDENCE => {
                let form: BatchForm = codec::decode(bytes, MAX_EVIDENCE + 16)?;
                Ok(Self::Evidence(form.batch))
            }
            DOCUMENTS => {
                let form: DocumentsForm = codec::decode(bytes, MAX_FRAME)?;
                let documents = form.documents.iter().map(|bytes| Document::decode(bytes));
                let documents = documents.collect::<Result<_, _>>()?;
                Ok(Self::Documents(governance::Answer { documents, next: form.next }))
            }
            STATUS => {
                let form: StatusForm = codec::decode(bytes, MAX_FRAME)?;
                match form.status {
                    NOT_HELD => Ok(Self::NotHeld),
                    BUSY => Ok(Self::Busy),
                    other => Err(WireError::Unknown(other)),
                }
            }
            other => Err(WireError::Unknown(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::{Checkpoint, SignedCheckpoint};
    use crate::digest::Digest;
    use crate::entries::tests::{adds, log};
    use crate::federation::Federation;
    use crate::federation::tests::federation;

    fn world() -> (Federation, Note) {
        let (federation, keys) = federation(&["acme", "bolt"]);
        let key = &federation.logs()[&log()];
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: 3, root: Digest([1; 32]) };
        let note = SignedCheckpoint::sign(checkpoint, key, &keys[&log().member].log).note().clone();
        (federation, note)
    }

    #[test]
    fn every_frame_reads_back() {
        let (federation, note) = world();
        let origins = federation.origins();
        let one = || vec![(log(), note.clone())];
        let heads = Heads {
            time: Timestamp(7),
            governance: governance::Position { version: 3, ..governance::Position::default() },
            heads: one(),
            heard: one(),
            settled: vec![(log(), Arc::new(note.clone()))],
            evidence: vec![Accused::Log(log())],
        };
        let (genesis, _) = crate::federation::tests::genesis(&["acme", "bolt"]);
        let governance = crate::governance::Governance::new(&genesis);
        let documents = governance.documents();
        let witnessing = AddCheckpoint { old: 1, proof: vec![Digest([3; 32])], checkpoint: note.clone() };
        for request in [
            Request::Heads(heads.clone()),
            Request::Range { log: log(), from: 5, to: 9 },
            Request::Openings { log: log(), indices: vec![1, 2, 9] },
            Request::Cosign(log(), Box::new(witnessing)),
            Request::Evidence(Accused::Log(log())),
            Request::Evidence(Accused::Witness(log().member)),
            Request::Documents(Box::new(governance.summary()), None),
            Request::Documents(Box::new(governance.summary()), Some(Digest([5; 32]))),
        ] {
            assert_eq!(Request::decode(&request.encode(origins), origins), Ok(request));
        }
        let batch = Batch { entries: adds(0, 0..3), checkpoint: note.clone(), proof: vec![Digest([2; 32])] };
        for answer in [
            Answer::Heads(heads),
            Answer::Range(Box::new(batch.clone())),
            Answer::Openings { found: vec![(4, vec![1, 2, 3])], erased: vec![(5, Position { epoch: 0, index: 9 })] },
            Answer::Witness(WitnessAnswer::Cosigned(note.signatures().to_vec())),
            Answer::Witness(WitnessAnswer::Conflict(7)),
            Answer::Evidence(vec![1, 2]),
            Answer::Documents(governance::Answer { documents: documents.clone(), next: Some(Digest([6; 32])) }),
            Answer::NotHeld,
            Answer::Busy,
        ] {
            assert_eq!(Answer::decode(&answer.encode(origins), origins), Ok(answer));
        }
        let gossip = Gossip::encode_document(&documents[0]).unwrap();
        assert_eq!(Gossip::decode(&gossip, origins), Ok(Gossip::Document(Box::new(documents[0].clone()))));
        let gossip = Gossip::encode_batch(batch.encode(origins));
        assert_eq!(Gossip::decode(&gossip, origins), Ok(Gossip::Batch(batch)));
        let gossip = Gossip::encode_checkpoint(&note);
        assert_eq!(Gossip::decode(&gossip, origins), Ok(Gossip::Checkpoint(log(), note.clone())));
        let gossip = Gossip::encode_settled(&note);
        assert_eq!(Gossip::decode(&gossip, origins), Ok(Gossip::Settled(log(), note)));
    }

    #[test]
    fn the_largest_batch_of_ordinary_statements_fits_a_frame() {
        let (federation, note) = world();
        let batch = Batch { entries: adds(1 << 30, 0..8192), checkpoint: note, proof: vec![Digest::default(); 33] };
        let bytes = Answer::Range(Box::new(batch)).encode(federation.origins());
        assert!(bytes.len() <= MAX_FRAME, "{} bytes", bytes.len());
    }

    /// SPEC 13.3.
    #[test]
    fn lists_have_a_largest_length() {
        let (federation, note) = world();
        let origins = federation.origins();
        for (count, good) in [(MAX_HEADS, true), (MAX_HEADS + 1, false)] {
            let (some, none) = (vec![String::new(); count], Vec::new);
            let lists = [(some.clone(), none(), none()), (none(), some.clone(), none()), (none(), none(), some)];
            for (heads, heard, settled) in lists {
                let bytes = codec::encode(&HeadsForm {
                    kind: HEADS,
                    time: Timestamp(7),
                    governance: governance::Position::default(),
                    heads,
                    heard,
                    settled,
                    evidence: none(),
                });
                // Within the bounds they are read, and found to be no notes.
                assert_eq!(matches!(Request::decode(&bytes, origins), Err(WireError::Note(_))), good, "{count}");
            }
        }
        let openings =
            |count| Answer::Openings { found: vec![(1, vec![2]); count], erased: Vec::new() }.encode(origins);
        assert!(Answer::decode(&openings(MAX_OPENINGS), origins).is_ok());
        assert!(matches!(Answer::decode(&openings(MAX_OPENINGS + 1), origins), Err(WireError::Codec(_))));

        let one = || vec![(log(), note.clone())];
        let all = Heads { time: Timestamp(7), heads: one(), heard: one(), ..Heads::default() };
        assert_eq!(all.told_to(Some(log().member), Timestamp(8)).heard.len(), 1);
        assert!(all.told_to(Some("bolt".parse().unwrap()), Timestamp(8)).heard.is_empty());
        assert!(all.told_to(None, Timestamp(8)).heard.is_empty());
    }

    #[test]
    fn what_a_later_version_may_send_is_nobodys_fault() {
        let (federation, _) = world();
        let error = Request::decode(&codec::encode(&StatusForm { kind: 99, status: 1 }), federation.origins());
        assert_eq!(error, Err(WireError::Unknown(99)));
        assert!(error.unwrap_err().is_from_the_future());
        let too_many = Request::Openings { log: log(), indices: vec![0; 257] }.encode(federation.origins());
        let error = Request::decode(&too_many, federation.origins()).unwrap_err();
        assert!(!error.is_from_the_future());
    }

    /// SPEC 14.4.
    #[test]
    fn a_log_has_one_head() {
        let (federation, note) = world();
        let heads = vec![(log(), note.clone()), (log(), note)];
        let twice = Heads { time: Timestamp(7), heads, ..Heads::default() };
        let bytes = Request::Heads(twice).encode(federation.origins());
        assert_eq!(Request::decode(&bytes, federation.origins()), Err(WireError::TwoHeads));
    }

    /// Settled checkpoints of many logs are told in turn.
    #[test]
    fn all_settled_checkpoints_are_told_in_time() {
        let (_, note) = world();
        let count = 3 * SETTLED_BYTES / note.length();
        let note = Arc::new(note);
        let settled: Vec<_> =
            (0..count).map(|epoch| (LogId { epoch: u32::try_from(epoch).unwrap(), ..log() }, note.clone())).collect();
        let all = Heads { settled, ..Heads::default() };
        let mut told = BTreeSet::new();
        for second in 0..20 {
            let some = all.told_to(Some(log().member), Timestamp(1_767_225_600_000 + second * 10_037)).settled;
            assert!(some.len() <= count / 3);
            told.extend(some.into_iter().map(|(log, _)| log));
        }
        assert_eq!(told.len(), count);
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(bytes: Vec<u8>) {
            let (federation, _) = world();
            let origins = federation.origins();
            prop_assert!(Request::decode(&bytes, origins).is_err());
            prop_assert!(Answer::decode(&bytes, origins).is_err() || bytes.len() == 3);
            prop_assert!(Gossip::decode(&bytes, origins).is_err());
        }
    }
}
