//! What can be wrong with an export, and where.

use crate::armor::ArmorError;
use crate::audit::FileFault;
use crate::checkpoint::CheckpointError;
use crate::codec::CodecError;
use crate::digest::NetworkId;
use crate::evidence::{Accused, EvidenceError};
use crate::names::{LogId, MemberId};

/// Something that is not as it must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The file that shows it.
    pub file: String,
    /// The log that it concerns.
    pub log: Option<LogId>,
    /// The leaf of that log.
    pub index: Option<u64>,
    /// What it is.
    pub fault: Fault,
}

impl Finding {
    /// About a file.
    pub(super) fn of(file: impl ToString, fault: Fault) -> Self {
        Self { file: file.to_string(), log: None, index: None, fault }
    }

    /// About a log.
    pub(super) fn in_log(self, log: LogId) -> Self {
        Self { log: Some(log), ..self }
    }

    /// About a leaf of it.
    pub(super) fn at(self, index: u64) -> Self {
        Self { index: Some(index), ..self }
    }
}

/// What is wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// A file that cannot be had.
    #[error("{0}")]
    File(#[from] FileFault),
    /// Another federation than the one that was asked about.
    #[error("the charter is that of network {found}, not of {wanted}")]
    OtherNetwork {
        /// Of the charter.
        found: NetworkId,
        /// Asked about.
        wanted: NetworkId,
    },
    /// A document in a file that is named for another one, or with text around it.
    #[error("not exactly what an export writes there")]
    NotAsWritten,
    /// The policy for other tools says something else than charter and cards.
    #[error("it names other logs, witnesses or another quorum than charter and cards do")]
    Policy,
    /// The key for other tools is not the one on the card.
    #[error("not the key on the member's card")]
    Vkey,
    /// Not a checkpoint that the log's key has signed.
    #[error("{0}")]
    Checkpoint(#[from] CheckpointError),
    /// A cosignature of a witness that does not hold.
    #[error("the cosignature of {0} does not hold")]
    Cosignature(MemberId),
    /// A checkpoint of another size than its name says.
    #[error("it is a checkpoint of {0} leaves")]
    OtherSize(u64),
    /// A checkpoint of leaves that are not there.
    #[error("it is signed for more leaves than the newest checkpoint of the export")]
    Beyond,
    /// Two checkpoints that cannot both be prefixes of one log, both signed by it.
    #[error("EQUIVOCATION: the log's key has signed two histories, this one of {size} leaves and the one in {other}")]
    Equivocation {
        /// The size of the checkpoint in this file.
        size: u64,
        /// The file of the other one.
        other: String,
    },
    /// Evidence against a key, which holds.
    #[error("EQUIVOCATION PROVEN: the key of {0} has signed two histories")]
    Proven(Accused),
    /// A file among the evidence that is not the file form of any.
    #[error("it accuses nobody: {0}")]
    NoEvidence(#[from] ArmorError),
    /// What is said to be evidence and does not hold: nobody is accused by it.
    #[error("it accuses nobody: {0}")]
    Refused(#[from] EvidenceError),
    /// A member has been shown another history of a log than the one that is there, or than another member was.
    #[error("EQUIVOCATION: the key of {log} has signed another history of {size} leaves than the one in {other}")]
    Observed {
        /// The log that was observed.
        log: LogId,
        /// How many leaves of it.
        size: u64,
        /// Where the other history is.
        other: String,
    },
    /// Said to have been observed, and signed by nobody.
    #[error("it says to have seen {log} with {size} leaves, which the log's key has not signed")]
    NeverSigned {
        /// The log that is spoken of.
        log: LogId,
        /// How many leaves of it.
        size: u64,
    },
    /// More remarks than an auditor looks at.
    #[error("it remarks more than anybody has reason to; what comes after is not looked at")]
    TooManyRemarks,
    /// Another list than the one that the leaves lead to.
    #[error("what it says to be live is not what its leaves say")]
    State,
    /// The leaves do not lead to what was signed.
    #[error("the leaves do not lead to the signed root")]
    Root,
    /// Not as many entries as the tree has there.
    #[error("{found} entries where there must be {wanted}")]
    Count {
        /// There.
        found: usize,
        /// By the size of the log.
        wanted: usize,
    },
    /// Bytes that end inside an entry.
    #[error("cut short")]
    CutShort,
    /// Not the canonical bytes of a leaf.
    #[error("no canonical leaf: {0}")]
    Leaf(#[from] CodecError),
    /// A leaf older than the one before it.
    #[error("older than the leaf before it")]
    TimeGoesBack,
    /// A tile that says something else than what lies below it.
    #[error("its hash is not that of what lies below it")]
    Tile,
    /// An opening that does not open the leaf.
    #[error("the opening does not open the leaf's commitment, or the leaf has none")]
    Opening,
}

impl Fault {
    /// Whether it is something wrong that somebody has said or signed, in bytes that are whole: anybody with a log can bring that about, and
    /// it must not take the others' from whoever restores a backup or works out the list.
    pub fn is_said(&self) -> bool {
        matches!(
            self,
            Self::Observed { .. } | Self::Proven(_) | Self::NeverSigned { .. } | Self::TooManyRemarks | Self::State
        )
    }

    /// Whether it proves that somebody has signed two histories.
    pub fn is_equivocation(&self) -> bool {
        matches!(self, Self::Equivocation { .. } | Self::Observed { .. } | Self::Proven(_))
    }
}
