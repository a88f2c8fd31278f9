//! Batches: consecutive leaves, their openings, and the checkpoint that signs a tree with them (SPEC 7). The unit of gossip
//! and of catch-up.
//!
//! Where the batch ends below the size of its checkpoint, a consistency proof leads from its end to there: so any range can
//! be verified against any checkpoint that covers it, and no node depends on which checkpoints others have kept.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec::{self, CodecError};
use crate::digest::Digest;
use crate::entries::{Entries, EntriesError};
use crate::names::OriginPrefix;
use crate::note::{Note, NoteError};
use crate::tree::proof::MAX_PROOF;

/// The version of batches that this software writes.
const FORMAT: u64 = 1;

/// Longest batch on the wire, in bytes (SPEC 7.2): what one frame between peers may hold, and a node reads at a time.
pub const MAX_BATCH: usize = 1024 * 1024;

/// Why bytes are not a batch of this federation.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// Not canonical bytes of a batch.
    #[error("not a batch")]
    Codec(#[from] CodecError),
    /// Written by newer software.
    #[error("batch format {0} is not known here")]
    Format(u64),
    /// Of another federation.
    #[error("{0:?} is not an origin of this federation")]
    Origin(String),
    /// The leaves or their openings.
    #[error(transparent)]
    Entries(#[from] EntriesError),
    /// The checkpoint is no note.
    #[error("its checkpoint is malformed")]
    Checkpoint(#[from] NoteError),
}

impl BatchError {
    /// Whether newer software may have written it: then nobody is to blame.
    pub fn is_from_the_future(&self) -> bool {
        matches!(self, Self::Format(_))
    }
}

/// A batch whose leaves are well-formed. Nothing has been checked against its checkpoint yet; the ledger does that.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Batch {
    /// The leaves and their openings.
    pub entries: Entries,
    /// The checkpoint, unverified.
    pub checkpoint: Note,
    /// From the end of the leaves to the checkpoint; empty where they end together.
    pub proof: Vec<Digest>,
}

/// The wire form.
#[derive(Deserialize_tuple, Serialize_tuple)]
struct BatchForm {
    format: u64,
    origin: String,
    first: u64,
    #[serde(with = "serde_bytes")]
    leaves: Vec<u8>,
    #[serde(with = "serde_bytes")]
    openings: Vec<u8>,
    checkpoint: String,
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_PROOF>")]
    proof: Vec<Digest>,
}

impl Batch {
    /// Reads a batch.
    pub fn read(bytes: &[u8], origins: &OriginPrefix) -> Result<Self, BatchError> {
        let form: BatchForm = codec::decode(bytes, MAX_BATCH)?;
        if form.format != FORMAT {
            return Err(BatchError::Format(form.format));
        }
        let origin = || BatchError::Origin(form.origin.chars().take(120).collect());
        let log = origins.log(&form.origin).ok_or_else(origin)?;
        let checkpoint = Note::parse(form.checkpoint.as_bytes())?;
        let entries = Entries::read(log, form.first, form.leaves, form.openings)?;
        Ok(Self { entries, checkpoint, proof: form.proof })
    }

    /// The canonical bytes.
    pub fn encode(&self, origins: &OriginPrefix) -> Vec<u8> {
        encode(
            origins.origin(self.entries.log()),
            self.entries.first(),
            self.entries.leaves().to_vec(),
            self.entries.openings().to_vec(),
            &self.checkpoint,
            self.proof.clone(),
        )
    }
}

/// The canonical bytes of a batch that is put together from stored bundles, without reading them again.
pub fn encode(
    origin: String,
    first: u64,
    leaves: Vec<u8>,
    openings: Vec<u8>,
    checkpoint: &Note,
    proof: Vec<Digest>,
) -> Vec<u8> {
    let checkpoint = checkpoint.to_string();
    codec::encode(&BatchForm { format: FORMAT, origin, first, leaves, openings, checkpoint, proof })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, SignedCheckpoint};
    use crate::entries::tests::{adds, log};
    use crate::federation::tests::federation;

    #[test]
    fn a_batch_reads_back_and_other_federations_batches_do_not() {
        let (federation, keys) = federation(&["acme", "bolt"]);
        let key = &federation.logs()[&log()];
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: 3, root: Digest([1; 32]) };
        let note = SignedCheckpoint::sign(checkpoint, key, &keys[&log().member].log).note().clone();
        let batch = Batch { entries: adds(0, 0..3), checkpoint: note, proof: vec![] };
        let bytes = batch.encode(federation.origins());
        assert_eq!(Batch::read(&bytes, federation.origins()), Ok(batch.clone()));

        let (other, _) = crate::federation::tests::federation(&["acme", "bolt", "crab"]);
        assert!(matches!(Batch::read(&bytes, other.origins()), Err(BatchError::Origin(_))));
        let long = Batch { proof: vec![Digest::default(); 65], ..batch.clone() };
        let refused = Batch::read(&long.encode(federation.origins()), federation.origins());
        assert!(matches!(refused, Err(BatchError::Codec(_))), "a longer proof than any tree has");
        for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(Batch::read(&bytes[..cut], federation.origins()).is_err());
        }
        let mut newer = bytes;
        newer[1] = 2;
        assert!(Batch::read(&newer, federation.origins()).unwrap_err().is_from_the_future());
    }
}
