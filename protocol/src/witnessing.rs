//! What an author asks of a witness, and what it answers: the messages of c2sp.org/tlog-witness (SPEC 17.3).
//!
//! Only the messages: who decides is the [engine](crate::engine).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::digest::Digest;
use crate::note::{MAX_NOTE, Note, NoteError, SignatureLine};
use crate::tree::proof::MAX_PROOF;

/// Longest request: the line of the old size, the proof, and a note.
pub const MAX_REQUEST: usize = 32 + MAX_PROOF * 45 + MAX_NOTE;

/// A request for a cosignature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddCheckpoint {
    /// The size that the witness cosigned last, as far as whoever asks knows.
    pub old: u64,
    /// That the tree of that size is a prefix of the new one.
    pub proof: Vec<Digest>,
    /// What is to be cosigned, with the log's signature.
    pub checkpoint: Note,
}

/// What a witness answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WitnessAnswer {
    /// 200: its signature lines.
    Cosigned(Vec<SignatureLine>),
    /// 409: it cosigned another size last.
    Conflict(u64),
    /// It does not cosign this.
    Refused(Reproach),
}

/// Why a witness does not cosign.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reproach {
    /// 400: the old size is larger than the new one.
    Backwards = 400,
    /// 403: the log's key has not signed it.
    NotSigned = 403,
    /// 404: no log that it is a witness of.
    UnknownLog = 404,
    /// 422: it contradicts what was cosigned before, or the log is frozen.
    Contradiction = 422,
}

/// Why bytes are no message of a witness or to one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WitnessingError {
    /// Not `old`, hashes, an empty line, a note.
    #[error("malformed request to a witness")]
    Request,
    /// The checkpoint in it.
    #[error("malformed checkpoint in a request to a witness")]
    Note(#[from] NoteError),
    /// Not what belongs to the status.
    #[error("malformed answer of a witness")]
    Answer,
}

impl AddCheckpoint {
    /// Reads a request.
    pub fn parse(text: &str) -> Result<Self, WitnessingError> {
        let (head, note) = text.split_once("\n\n").ok_or(WitnessingError::Request)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(number);
        let mut proof = Vec::new();
        for line in lines {
            let hash = BASE64.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
            proof.push(Digest(hash.ok_or(WitnessingError::Request)?));
            if proof.len() > MAX_PROOF {
                return Err(WitnessingError::Request);
            }
        }
        let checkpoint = Note::parse(note.as_bytes())?;
        Ok(Self { old: old.ok_or(WitnessingError::Request)?, proof, checkpoint })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", BASE64.encode(hash.as_bytes())))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl WitnessAnswer {
    /// The status of HTTP that C2SP gives it.
    pub fn status(&self) -> u64 {
        match self {
            Self::Cosigned(_) => 200,
            Self::Conflict(_) => 409,
            Self::Refused(reproach) => *reproach as u64,
        }
    }

    /// What goes with the status.
    pub fn body(&self) -> String {
        match self {
            Self::Cosigned(lines) => lines.iter().map(|line| format!("{line}\n")).collect(),
            Self::Conflict(size) => format!("{size}\n"),
            Self::Refused(_) => String::new(),
        }
    }

    /// Reads an answer; `None` for a status that this version does not know.
    pub fn parse(status: u64, body: &str) -> Result<Option<Self>, WitnessingError> {
        let refused =
            |reproach| if body.is_empty() { Ok(Self::Refused(reproach)) } else { Err(WitnessingError::Answer) };
        let answer = match status {
            200 => Self::Cosigned(SignatureLine::parse_all(body)?),
            409 => Self::Conflict(body.strip_suffix('\n').and_then(number).ok_or(WitnessingError::Answer)?),
            400 => refused(Reproach::Backwards)?,
            403 => refused(Reproach::NotSigned)?,
            404 => refused(Reproach::UnknownLog)?,
            422 => refused(Reproach::Contradiction)?,
            _ => return Ok(None),
        };
        Ok(Some(answer))
    }
}

/// A number in its one spelling.
fn number(digits: &str) -> Option<u64> {
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "old 1\nKhWNiv1I4/iMtBld/bKp5IF9lfpX/TREDZP5quXE+Cs=\n\nvector.example/log\n3\n\
        OF2jDzkXKCyJOd/4UZV+UZqxhGsTUaFMCts7EWMnQqo=\n\n\
        — vector.example/log zGIGn/nlvqkGLmG1WOAqSgo/uk2JlU54wT2EOToof9wN5CQ2OqvUXl/4nyVhVrTEzr86XIANLTN9CaGDmVRW3aCcigM=\n";

    #[test]
    fn requests_read_back_in_their_one_spelling() {
        let request = AddCheckpoint::parse(REQUEST).unwrap();
        assert_eq!((request.old, request.proof.len()), (1, 1));
        assert_eq!(request.to_string(), REQUEST);
        let first = REQUEST.replace("old 1\nKhWNiv1I4/iMtBld/bKp5IF9lfpX/TREDZP5quXE+Cs=\n", "old 0\n");
        assert_eq!(AddCheckpoint::parse(&first).unwrap().to_string(), first);
        for bad in [
            REQUEST.replace("old 1", "old 01"),
            REQUEST.replace("old 1", "old -1"),
            REQUEST.replace("old 1", "new 1"),
            REQUEST.replace("+Cs=\n", "+Cs\n"),
            REQUEST.replace("KhWN", ""),
            REQUEST.replacen("\n\n", "\n", 1),
            REQUEST.replacen("KhWN", &"OF2jDzkXKCyJOd/4UZV+UZqxhGsTUaFMCts7EWMnQqo=\n".repeat(MAX_PROOF + 1), 1),
            String::new(),
        ] {
            assert!(AddCheckpoint::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_read_back() {
        let line = SignatureLine { name: "w".to_owned(), id: 7, blob: vec![1; 72] };
        for answer in [
            WitnessAnswer::Cosigned(vec![line]),
            WitnessAnswer::Conflict(12),
            WitnessAnswer::Refused(Reproach::Backwards),
            WitnessAnswer::Refused(Reproach::NotSigned),
            WitnessAnswer::Refused(Reproach::UnknownLog),
            WitnessAnswer::Refused(Reproach::Contradiction),
        ] {
            assert_eq!(WitnessAnswer::parse(answer.status(), &answer.body()), Ok(Some(answer)));
        }
        assert_eq!(WitnessAnswer::parse(503, "later"), Ok(None), "a later version may know more");
        for (status, body) in [(200, ""), (200, "x\n"), (409, "12"), (409, "x\n"), (404, "x")] {
            assert!(WitnessAnswer::parse(status, body).is_err(), "{status} {body}");
        }
    }
}
