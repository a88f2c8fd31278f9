//! What somebody wants to say, prepared away from the engine: salted, committed to, of legal size.

use crate::catalog::Attributes;
use crate::charter::Charter;
use crate::content_hash::{ContentHash, Emptiness, MAX_PDQ_QUALITY, MIN_PDQ_QUALITY, Media};
use crate::digest::Digest;
use crate::engine::Unpublishable;
use crate::opening::{MAX_NOTE, Opening, Salt, commitment};
use crate::statement::{Add, Basis, Dispute, Labels, Position, Reason, Statement};
use crate::text::is_plain;
use crate::time::Timestamp;

/// A statement that is to be published.
#[derive(Clone, Debug)]
pub enum Draft {
    /// Puts a content hash on the list.
    Add {
        /// The hash and what opens the commitment to it.
        content: Content,
        /// Codes of the charter's vocabulary.
        labels: Labels,
        /// What was hashed.
        media: Media,
        /// The PDQ quality, where known.
        quality: Option<u8>,
        /// From then on without effect.
        expiry: Option<Timestamp>,
        /// The number of an incident.
        incident: Option<u64>,
    },
    /// Speaks against acting on a content hash.
    Dispute {
        /// The hash and what opens the commitment to it.
        content: Content,
        /// Why.
        reason: Reason,
    },
    /// Withdraws an own statement.
    Revoke {
        /// Which.
        target: Target,
        /// Why.
        reason: Reason,
    },
    /// Withdraws an own statement, if it is live, and has its opening deleted everywhere.
    Erase {
        /// Which.
        target: Target,
        /// On what basis.
        basis: Basis,
    },
    /// Says that everything in an earlier log of the member, from a place on, was never said: a thief held the key.
    Void {
        /// Which log.
        epoch: u32,
        /// From this leaf on.
        from: u64,
    },
}

/// A content hash with its opening and commitment.
#[derive(Clone, Debug)]
pub struct Content {
    hash: ContentHash,
    opening: Vec<u8>,
    commitment: Digest,
}

/// What is to be withdrawn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// Whatever the member says about this hash now.
    Hash(ContentHash),
    /// The statement at this place.
    Position(Position),
}

/// Why something cannot even be drafted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DraftError {
    /// The remark is too long.
    #[error("a note has at most {MAX_NOTE} bytes, this one has {0}")]
    LongNote(usize),
    /// The remark would speak to terminals.
    #[error("a note is one line of text: it may not hold {0:?}")]
    NoteNotPlain(char),
    /// A quality that PDQ does not have.
    #[error("a PDQ quality is 0 to {MAX_PDQ_QUALITY}, this one is {0}")]
    HighQuality(u8),
}

impl Draft {
    /// Drafts an addition. `salt` must come from the operating system's random source, fresh for each draft.
    pub fn add(hash: ContentHash, labels: Labels, salt: Salt, note: Option<String>) -> Result<Self, DraftError> {
        let content = Content::new(hash, salt, note)?;
        let media = hash.kind().usual_media();
        Ok(Self::Add { content, labels, media, quality: None, expiry: None, incident: None })
    }

    /// Drafts a dispute. `salt` as for [`add`](Self::add).
    pub fn dispute(hash: ContentHash, reason: Reason, salt: Salt, note: Option<String>) -> Result<Self, DraftError> {
        Ok(Self::Dispute { content: Content::new(hash, salt, note)?, reason })
    }

    /// Sets the PDQ quality of an addition.
    pub fn rate(&mut self, to: Option<u8>) -> Result<(), DraftError> {
        if let Some(high) = to.filter(|quality| *quality > MAX_PDQ_QUALITY) {
            return Err(DraftError::HighQuality(high));
        }
        if let Self::Add { quality, .. } = self {
            *quality = to;
        }
        Ok(())
    }

    /// The content hash that it adds or disputes.
    pub(super) fn content(&self) -> Option<ContentHash> {
        match self {
            Self::Add { content, .. } | Self::Dispute { content, .. } => Some(content.hash),
            Self::Revoke { .. } | Self::Erase { .. } | Self::Void { .. } => None,
        }
    }

    /// What the catalog will say of it.
    pub(super) fn attributes(&self) -> Option<Attributes> {
        match self {
            Self::Add { labels, media, quality, expiry, incident, .. } => Some(Attributes::Add {
                labels: *labels,
                media: *media as u64,
                quality: *quality,
                expiry: *expiry,
                incident: *incident,
            }),
            Self::Dispute { reason, .. } => Some(Attributes::Dispute { reason: *reason as u64 }),
            Self::Revoke { .. } | Self::Erase { .. } | Self::Void { .. } => None,
        }
    }

    /// Whether it would have any effect when received (SPEC 11.5): what would not is refused here, where somebody can still
    /// put it right.
    pub(super) fn check(&self, charter: &Charter, now: Timestamp) -> Result<(), Unpublishable> {
        if let Some(emptiness) = self.content().and_then(|hash| hash.emptiness()) {
            return Err(Unpublishable::Empty(emptiness));
        }
        let Self::Add { labels, quality, expiry, .. } = self else { return Ok(()) };
        if let Some(unknown) = labels.codes().iter().find(|code| charter.label(**code).is_none()) {
            return Err(Unpublishable::Label(*unknown));
        }
        match (quality, expiry) {
            (Some(quality), _) if *quality < MIN_PDQ_QUALITY => Err(Unpublishable::Quality(*quality)),
            (_, Some(expiry)) if *expiry <= now => Err(Unpublishable::Expired),
            _ => Ok(()),
        }
    }

    /// The statement, in the place of an earlier one, with its opening and the hash in it. Not for what speaks of statements.
    pub(super) fn statement(&self, replaces: Option<Position>) -> Option<(Statement, &[u8], ContentHash)> {
        let (statement, content) = match self {
            Self::Add { content, labels, media, quality, expiry, incident } => {
                let add = Add {
                    kind: content.hash.kind() as u64,
                    commitment: content.commitment,
                    labels: *labels,
                    media: *media as u64,
                    quality: *quality,
                    expiry: *expiry,
                    incident: *incident,
                    replaces,
                };
                (Statement::Add(add), content)
            }
            Self::Dispute { content, reason } => {
                let (kind, reason) = (content.hash.kind() as u64, *reason as u64);
                (Statement::Dispute(Dispute { kind, commitment: content.commitment, reason, replaces }), content)
            }
            Self::Revoke { .. } | Self::Erase { .. } | Self::Void { .. } => return None,
        };
        Some((statement, &content.opening, content.hash))
    }
}

impl Content {
    fn new(hash: ContentHash, salt: Salt, note: Option<String>) -> Result<Self, DraftError> {
        if let Some(note) = note.as_ref().filter(|note| note.len() > MAX_NOTE) {
            return Err(DraftError::LongNote(note.len()));
        }
        if let Some(c) = note.iter().flat_map(|note| note.chars()).find(|c| !is_plain(*c)) {
            return Err(DraftError::NoteNotPlain(c));
        }
        let opening = Opening::of(&hash, salt, note.as_deref()).encode();
        let commitment = commitment(&opening);
        Ok(Self { hash, opening, commitment })
    }
}

impl From<Emptiness> for Unpublishable {
    fn from(emptiness: Emptiness) -> Self {
        Self::Empty(emptiness)
    }
}
