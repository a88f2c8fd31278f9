//! Checkpoints (c2sp.org/tlog-checkpoint v1.0.0): the text that a log signs to say how large its tree is and what its root.
//!
//! [`Checkpoint`] is a claim; a [`SignedCheckpoint`] has been signed by its log. Compare claims, never bytes: witnesses add
//! signature lines to the same checkpoint.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::digest::Digest;
use crate::entries::MAX_LOG_SIZE;
use crate::key::SecretKey;
use crate::note::{Note, NoteError, VerifierKey};

/// What a log says of its tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The log.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

/// Why a note is not a checkpoint of this log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a note, or not signed by the log's key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Not three lines of origin, size and root.
    #[error("not the text of a checkpoint")]
    NotACheckpoint,
    /// SPEC 6.2: of more leaves than a log can have.
    #[error("the checkpoint is of {0} leaves, more than a log can have")]
    TooLarge(u64),
    /// The checkpoint of another log.
    #[error("the checkpoint is of {0}")]
    OtherOrigin(String),
}

impl Checkpoint {
    /// Reads the text of a checkpoint: exactly three lines, no extensions.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse_lines(text).ok_or(CheckpointError::NotACheckpoint)?;
        if checkpoint.size > MAX_LOG_SIZE { Err(CheckpointError::TooLarge(checkpoint.size)) } else { Ok(checkpoint) }
    }

    fn parse_lines(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, digits, root) = (lines.next()?, lines.next()?, lines.next()?);
        let size = digits.parse().ok()?;
        let root = BASE64.decode(root).ok()?.try_into().ok()?;
        // Rust's parser takes +1 and 01; the format has one spelling of a number.
        let one_spelling = lines.next().is_none() && !origin.is_empty() && digits == u64::to_string(&size);
        one_spelling.then(|| Self { origin: origin.to_owned(), size, root: Digest(root) })
    }
}

/// The three lines that are signed.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.as_bytes()))
    }
}

/// A checkpoint that its log's key has signed. There is no other way to get one than to sign or to verify.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Signs. The caller has made sure, durably, that nothing else is ever signed for this size (SPEC 8).
    pub fn sign(checkpoint: Checkpoint, key: &VerifierKey, secret: &SecretKey) -> Self {
        let note = Note::sign(checkpoint.to_string(), key, secret);
        Self { checkpoint, note }
    }

    /// Checks that this note is a checkpoint of the log whose key this is: signed by it, with its name as the origin. Lines of
    /// other keys are dropped: nobody has checked them, and whoever passes a note on must not carry what others wrote into it.
    pub fn open(note: Note, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::parse(note.text())?;
        if checkpoint.origin != key.name() {
            return Err(CheckpointError::OtherOrigin(checkpoint.origin));
        }
        note.verify(key)?;
        Ok(Self { checkpoint, note: note.signed_by_only(key) })
    }

    /// Reads and checks the bytes of a note.
    pub fn read(bytes: &[u8], key: &VerifierKey) -> Result<Self, CheckpointError> {
        Self::open(Note::parse(bytes)?, key)
    }

    /// What was signed.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// How many leaves.
    pub fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// The root over them.
    pub fn root(&self) -> Digest {
        self.checkpoint.root
    }

    /// The note, with the log's own signature line and no other.
    pub fn note(&self) -> &Note {
        &self.note
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::note::KeyType;

    /// Made by the Python package aics-tlog and verified by Go; see `formats.md`.
    pub(crate) const COSIGNED: &str = "vector.example/log\n3\nOF2jDzkXKCyJOd/4UZV+UZqxhGsTUaFMCts7EWMnQqo=\n\n\
        — vector.example/log zGIGn/nlvqkGLmG1WOAqSgo/uk2JlU54wT2EOToof9wN5CQ2OqvUXl/4nyVhVrTEzr86XIANLTN9CaGDmVRW3aCcigM=\n\
        — vector.example/witness CyIvRQAAAABpVbkA7yeRAV+gPu1bV0YXWSgetBAVnJunmAatc3jX3jLVn6hX3svpsIsdhUd/7KlXiDpCZgExQhE5zpORgwCuSRLVCA==\n";

    pub(crate) fn vector_key() -> VerifierKey {
        "vector.example/log+cc62069f+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c".parse().unwrap()
    }

    #[test]
    fn a_cosigned_checkpoint_of_another_implementation_opens() {
        let opened = SignedCheckpoint::read(COSIGNED.as_bytes(), &vector_key()).unwrap();
        assert_eq!(opened.size(), 3);
        let own = COSIGNED.split_inclusive('\n').take(5).collect::<String>();
        assert_eq!(opened.note().to_string(), own, "the witness's line was not checked, so it is not kept");
    }

    #[test]
    fn signing_the_vector_gives_its_bytes() {
        let secret = SecretKey::from_seed(&[1; 32]);
        let key = VerifierKey::new("vector.example/log", KeyType::Log, secret.public()).unwrap();
        assert_eq!(key, vector_key());
        let checkpoint =
            Checkpoint::parse(COSIGNED.split_inclusive('\n').take(3).collect::<String>().as_str()).unwrap();
        let signed = SignedCheckpoint::sign(checkpoint, &key, &secret);
        assert!(COSIGNED.starts_with(&signed.note().to_string()));
    }

    /// The checkpoint of the Go checksum database: the name of its key differs from its origin, which we do not allow.
    #[test]
    fn the_go_checksum_database_signs_as_somebody_else() {
        let note = "go.sum database tree\n35225469\nvt5T6GaLCXvyHFl9VUvvItR43XZxfLgftEcTyO3eJCQ=\n\n\
            — sum.golang.org Az3grpukl5AXaVfYkLiDGORx/DN2nlcS5kZHR5uYOBV2KA2HgXpD+gu9HHONebHLAyaKbbTM75QTtPydhKCExixSfwQ=\n";
        let key = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8".parse().unwrap();
        let note = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(note.verify(&key), Ok(()));
        assert_eq!(
            SignedCheckpoint::open(note, &key),
            Err(CheckpointError::OtherOrigin("go.sum database tree".into()))
        );
    }

    #[test]
    fn texts_with_a_second_spelling_are_refused() {
        let good = "a/b\n10\nOF2jDzkXKCyJOd/4UZV+UZqxhGsTUaFMCts7EWMnQqo=\n";
        assert_eq!(Checkpoint::parse(good).unwrap().to_string(), good);
        for bad in [
            good.replace("10", "010"),
            good.replace("10", "+10"),
            good.replace("10", "-1"),
            good.replace("10", ""),
            good.replace("10", "18446744073709551616"),
            good.replace("a/b", ""),
            good.replace("qo=", "qp="),
            good.replace("Qqo=", ""),
            good.replace("=\n", "="),
            format!("{good}extension\n"),
            format!("{good}\n"),
        ] {
            assert_eq!(Checkpoint::parse(&bad), Err(CheckpointError::NotACheckpoint), "{bad:?}");
        }
    }

    /// SPEC 6.2.
    #[test]
    fn a_log_has_a_largest_size() {
        let of = |size: u64| Checkpoint::parse(&format!("a/b\n{size}\nOF2jDzkXKCyJOd/4UZV+UZqxhGsTUaFMCts7EWMnQqo=\n"));
        assert_eq!(of(1 << 40).unwrap().size, 1 << 40);
        for size in [(1 << 40) + 1, i64::MAX as u64, u64::MAX] {
            assert_eq!(of(size), Err(CheckpointError::TooLarge(size)));
        }
    }
}
