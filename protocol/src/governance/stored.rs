//! Governance as a node keeps it over a restart (SPEC 21.12).

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::{Document, DocumentError, Governance, GovernanceError, MAX_DOCUMENT};
use crate::charter::Genesis;
use crate::codec::{self, CodecError};
use crate::digest::CharterId;
use crate::time::Timestamp;

/// The version of this form that this software reads and writes.
const FORMAT: u64 = 1;

/// Longest form, in bytes: far more than all that is ever kept.
const MAX_STORED: usize = 1024 * MAX_DOCUMENT;

/// Governance, and since when the charter in force has been so here.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Charters and cards.
    pub governance: Governance,
    /// When this node adopted the charter in force, by its clock; of version 0, when it joined.
    pub since: Timestamp,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct StoredForm {
    format: u64,
    tip: CharterId,
    since: Timestamp,
    pins: Vec<CharterId>,
    documents: Vec<serde_bytes::ByteBuf>,
}

/// Why it cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoredError {
    /// Not canonical bytes of it.
    #[error("not what a node stores of charters and cards")]
    Codec(#[from] CodecError),
    /// Written by newer software.
    #[error("charters and cards in format {0}, which is not known here: use a newer version")]
    Format(u64),
    /// A document in it.
    #[error("a document in it cannot be read")]
    Document(#[from] DocumentError),
    /// The charter that was in force is not among what is there.
    #[error("the charter {0}, which was in force, is not valid by what is there")]
    NoTip(CharterId),
}

impl Stored {
    /// The beginning of a federation, joined at this moment.
    pub fn new(genesis: &Genesis, since: Timestamp) -> Self {
        Self { governance: Governance::new(genesis), since }
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let documents = self.governance.documents();
        codec::encode(&StoredForm {
            format: FORMAT,
            tip: self.governance.tip().id(),
            since: self.since,
            pins: self.governance.pins().iter().copied().collect(),
            documents: documents.iter().map(|document| serde_bytes::ByteBuf::from(document.encode())).collect(),
        })
    }

    /// Reads it, verifying everything anew. What does not hold is handed back; that the charter which was in force is in force
    /// again is certain.
    pub fn decode(genesis: &Genesis, bytes: &[u8]) -> Result<(Self, Vec<(Document, GovernanceError)>), StoredError> {
        let form: StoredForm = codec::decode(bytes, MAX_STORED)?;
        if form.format != FORMAT {
            return Err(StoredError::Format(form.format));
        }
        let documents = form.documents.iter().map(|bytes| Document::decode(bytes)).collect::<Result<Vec<_>, _>>()?;
        let (governance, refused) = Governance::load(genesis, documents, Some(form.tip), form.pins);
        if governance.charter(form.tip).is_none() {
            return Err(StoredError::NoTip(form.tip));
        }
        Ok((Self { governance, since: form.since }, refused))
    }
}
