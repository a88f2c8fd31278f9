//! What a node keeps of the logs: leaves, openings, checkpoints, and how far each log has come (SPEC 15).
//!
//! The logs are the only truth. Everything else in the process (the ledger, the catalog, the indices, the trees) is derived
//! from them at start, by the same code that runs live; so a store that is lost or damaged is rebuilt from peers.
//!
//! The interface is narrow on purpose: `sled` is not maintained, and must be replaceable in a day. No type of it crosses
//! this module's border, and the same contract tests run over it and over the simulator's disk.

mod disk;
mod groups;
mod heads;
mod holes;
mod load;
mod open;
mod vault;

use std::path::PathBuf;
use std::sync::Arc;

use hashmesh_protocol::checkpoint::SignedCheckpoint;
use hashmesh_protocol::cosignature::{SettledCheckpoint, SettlementError};
use hashmesh_protocol::entries::{EntriesError, Entry, LateOpening};
use hashmesh_protocol::evidence::{Evidence, EvidenceError};
use hashmesh_protocol::ledger::{Admitted, Damage, Mark};
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::note::Note;
use hashmesh_protocol::serve::Archive;
use hashmesh_protocol::time::Timestamp;

pub use disk::{DiskArchive, DiskStore};
pub use heads::{HeadsFile, Shrunk};
pub use load::{Loaded, load};
pub use open::unless_damaged;

use crate::folder::FolderError;

/// Something that must be made durable.
#[derive(Clone, Debug)]
pub enum Record {
    /// Admitted leaves with their openings, the mark that they lead to, and their checkpoint if they have one.
    Leaves(Arc<Admitted>),
    /// An opening that was missing.
    Opening(Arc<LateOpening>),
    /// A settled checkpoint, whose leaves are stored or in the same commit.
    Settled(LogId, Arc<SettledCheckpoint>),
    /// Evidence, for ever.
    Evidence(Arc<Evidence>),
}

/// What is stored of a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredLog {
    /// Which.
    pub log: LogId,
    /// How far it had come at the last commit.
    pub mark: Mark,
    /// How far at the one before: what holds if the last one did not reach the disk whole.
    pub before: Mark,
}

/// Where logs are kept.
pub trait Store: Archive<Error = StoreError> + Sized + Sync {
    /// What is stored.
    fn logs(&self) -> Result<Vec<StoredLog>, StoreError>;

    /// Takes note of leaves that were read back and that the ledger has taken, in order: what [`Archive::subtree`] answers
    /// from is derived from them, and which openings [`Archive::bundles`] hides because they are erased.
    fn restored(&self, admitted: &Admitted);

    /// Only the first `size` leaves of a log count: what the others erase is not hidden.
    fn freeze(&self, log: LogId, size: u64);

    /// Makes this mark, which the log has reached, its end: whatever is stored beyond is cut off, and appending goes on here.
    fn resume(&mut self, log: LogId, end: Mark) -> Result<(), StoreError>;

    /// Makes records durable. When this returns, they survive the loss of power; when it fails, the process must end.
    fn commit(&mut self, records: &[Record]) -> Result<(), StoreError>;

    /// Does not hold the openings of these leaves from now on, by this node's own decision (SPEC 20.7). Durable when this returns; they are
    /// hidden at once, and gone with the next [`shred`](Self::shred).
    fn forget(&mut self, places: &[(LogId, u64)]) -> Result<(), StoreError>;

    /// Of which of these leaves of a log the opening is still stored although such are not to be held: it was committed while that
    /// was decided, or the process ended in between.
    fn left_over<'a>(&self, log: LogId, entries: impl Iterator<Item = (u64, &'a Entry)>) -> Vec<u64>;

    /// The same of what its authors have erased and is not deleted yet: nothing else knows what it is about.
    fn left_over_in_hold(&self) -> Result<Vec<(LogId, u64)>, StoreError>;

    /// All that it does not hold by its own decision.
    fn all_forgotten(&self) -> Vec<(LogId, u64)>;

    /// All evidence that was committed.
    fn all_evidence(&self) -> Result<Vec<Vec<u8>>, StoreError>;

    /// The largest settled checkpoint that was committed of a log.
    fn settled(&self, log: LogId) -> Result<Option<Note>, StoreError>;

    /// Deletes for good the openings that were erased before a moment. When this returns, nothing that is stored opens them.
    fn shred(&mut self, before: Timestamp) -> Result<u64, StoreError>;

    /// Writes down a checkpoint whose leaves are stored. Durable with the next commit.
    fn keep_checkpoint(&mut self, log: LogId, checkpoint: &SignedCheckpoint) -> Result<(), StoreError>;
}

/// Why the store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database.
    #[error("the store at {path} cannot be used")]
    Database {
        /// Where it is.
        path: PathBuf,
        /// What it says.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file beside it.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// What opens the openings is not there.
    #[error(
        "the openings in {path} are locked: {why}; put back openings.keys and the key of the store (store.key there, or the \
         service manager's credential), or move the store away to fetch everything from peers again"
    )]
    Locked {
        /// The store.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Its folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Written by newer software.
    #[error(
        "the store at {path} has format {found}, this version of hashmesh knows up to {known}: use a newer version"
    )]
    Newer {
        /// Where it is.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// Another process has it open.
    #[error("the store at {path} is in use by another process")]
    InUse {
        /// Where it is.
        path: PathBuf,
    },
    /// What is stored is not what was committed.
    #[error("the store is damaged")]
    Damaged(#[from] Damage),
    /// What is stored of a log is no leaves.
    #[error("the store is damaged: {0}")]
    Leaves(LogId, #[source] EntriesError),
    /// What is stored as settled is not.
    #[error("the store is damaged: what is settled of {0}")]
    Settled(LogId, #[source] SettlementError),
    /// What is stored as evidence is none.
    #[error("the store is damaged: what it holds as evidence")]
    Evidence(#[source] EvidenceError),
    /// What is stored cannot even be read.
    #[error("the store at {path} is damaged: {what}")]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl StoreError {
    /// Whether the files are at fault, and setting them aside and fetching everything from peers again is the way on.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged(_) | Self::Leaves(..) | Self::Settled(..) | Self::Evidence(_) | Self::Unreadable { .. }
        )
    }
}
