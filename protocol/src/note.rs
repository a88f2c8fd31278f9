//! Signed notes (c2sp.org/signed-note v1.0.0): text, and signatures over exactly that text by named keys.
//!
//! Stricter than the reference implementation in one place: Base64 has one spelling. Go's accepts four for a signature's
//! last character, so that a note could be changed without breaking it.
//!
//! Knows nothing of what notes say.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::digest::Digest;
use crate::key::{KeyError, PublicKey, SecretKey, Signature};

/// Longest note that is read: 40 witnesses with names of 100 bytes take 9 KB.
pub const MAX_NOTE: usize = 32 * 1024;

/// Most signature lines that are read, as golang.org/x/mod has it.
pub const MAX_SIGNATURES: usize = 100;

/// Signature types of c2sp.org/signed-note that we use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum KeyType {
    /// Ed25519 over the text of the note.
    Log = 0x01,
    /// `cosignature/v1`: Ed25519 over a time and the text of a checkpoint (c2sp.org/tlog-cosignature).
    Cosigner = 0x04,
}

/// A verifier key: who signs, how, and with which public key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifierKey {
    name: String,
    key_type: KeyType,
    key: PublicKey,
    id: u32,
}

impl VerifierKey {
    /// A key with a name. Names are not empty and hold neither `+` nor white space.
    pub fn new(name: &str, key_type: KeyType, key: PublicKey) -> Result<Self, NoteError> {
        if !is_name(name) {
            return Err(NoteError::BadName(name.to_owned()));
        }
        let digest = Digest::of(&[name.as_bytes(), b"\n", &[key_type as u8], key.as_bytes()]);
        let id = u32::from_be_bytes([digest.0[0], digest.0[1], digest.0[2], digest.0[3]]);
        Ok(Self { name: name.to_owned(), key_type, key, id })
    }

    /// The name in signature lines.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id in signature lines: a hash of name, type and key.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The public key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// How it signs.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }
}

/// `name+id+base64(type, key)`, as C2SP tools take it.
impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut blob = vec![self.key_type as u8];
        blob.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{:08x}+{}", self.name, self.id, BASE64.encode(blob))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let bad = || NoteError::BadVerifierKey(text.chars().take(200).collect());
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(blob)) = (parts.next(), parts.next(), parts.next()) else { return Err(bad()) };
        let blob = BASE64.decode(blob).map_err(|_| bad())?;
        let (&key_type, key) = blob.split_first().ok_or_else(bad)?;
        let key_type = match key_type {
            0x01 => KeyType::Log,
            0x04 => KeyType::Cosigner,
            _ => return Err(bad()),
        };
        let key = PublicKey::from_bytes(key.try_into().map_err(|_| bad())?).map_err(NoteError::Key)?;
        let key = Self::new(name, key_type, key)?;
        if format!("{:08x}", key.id) == id { Ok(key) } else { Err(bad()) }
    }
}

/// One signature line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignatureLine {
    /// The name of the key.
    pub name: String,
    /// The id of the key.
    pub id: u32,
    /// What follows the id: for [`KeyType::Log`] a bare signature, for [`KeyType::Cosigner`] a time and a signature.
    pub blob: Vec<u8>,
}

impl SignatureLine {
    /// Reads lines, one at least, each with its newline.
    pub fn parse_all(lines: &str) -> Result<Vec<Self>, NoteError> {
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let mut signatures = Vec::new();
        for (number, line) in lines.split('\n').enumerate() {
            if signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::TooMany);
            }
            signatures.push(parse_line(line).ok_or(NoteError::BadLine(number + 1))?);
        }
        Ok(signatures)
    }
}

impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.blob);
        write!(f, "— {} {}", self.name, BASE64.encode(bytes))
    }
}

/// Why bytes are not a signed note, or not one that this key signed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`MAX_NOTE`].
    #[error("longer than {MAX_NOTE} bytes")]
    TooLong,
    /// Not UTF-8, or with control characters.
    #[error("not plain text")]
    NotText,
    /// No empty line between text and signatures, or no signatures.
    #[error("no signatures after an empty line")]
    NoSignatures,
    /// A line that should be a signature and is not one.
    #[error("malformed signature line {0}")]
    BadLine(usize),
    /// More than [`MAX_SIGNATURES`].
    #[error("more than {MAX_SIGNATURES} signatures")]
    TooMany,
    /// The wanted key has not signed.
    #[error("not signed by {0}")]
    NotSigned(String),
    /// The wanted key's signature is wrong, or it is there twice.
    #[error("bad signature of {0}")]
    BadSignature(String),
    /// Not a name for a key.
    #[error("{0:?} cannot name a key (empty, or with + or white space)")]
    BadName(String),
    /// Not a verifier key.
    #[error("not a verifier key: {0:?}")]
    BadVerifierKey(String),
    /// The key in a verifier key is none.
    #[error(transparent)]
    Key(KeyError),
}

/// A note with its signatures, none of them checked yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

impl Note {
    /// Signs a text, which must end in a newline and have no control characters.
    pub fn sign(text: String, key: &VerifierKey, secret: &SecretKey) -> Self {
        let blob = secret.sign_text(&text).0.to_vec();
        Self { text, signatures: vec![SignatureLine { name: key.name.clone(), id: key.id, blob }] }
    }

    /// A text with one signature, unchecked.
    pub fn signed(text: String, line: SignatureLine) -> Self {
        Self { text, signatures: vec![line] }
    }

    /// Reads a note. Whatever is accepted is written back byte for byte by `Display`.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE {
            return Err(NoteError::TooLong);
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::NotText)?;
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::NotText);
        }
        // Signature lines hold no empty line, so the last one separates; the newline before it ends the text.
        let gap = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, lines) = (&note[..gap + 1], &note[gap + 2..]);
        Ok(Self { text: text.to_owned(), signatures: SignatureLine::parse_all(lines)? })
    }

    /// How many bytes it is written in, or a few more.
    pub fn length(&self) -> usize {
        let lines = self.signatures.iter().map(|line| line.name.len() + line.blob.len() * 4 / 3 + 16);
        self.text.len() + lines.sum::<usize>()
    }

    /// The signed text, with its last newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All signature lines in their order, unchecked.
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// The note with the signature lines of this key alone.
    #[must_use]
    pub fn signed_by_only(mut self, key: &VerifierKey) -> Self {
        self.signatures.retain(|line| line.id == key.id && line.name == key.name);
        self
    }

    /// The note with further signature lines.
    #[must_use]
    pub fn signed_also(mut self, lines: impl IntoIterator<Item = SignatureLine>) -> Self {
        self.signatures.extend(lines);
        self
    }

    /// Checks the signature of this key, of type [`KeyType::Log`]. Lines of other keys are ignored.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        let mut lines = self.signatures.iter().filter(|line| line.id == key.id && line.name == key.name);
        let line = lines.next().ok_or_else(|| NoteError::NotSigned(key.name.clone()))?;
        let bad = || NoteError::BadSignature(key.name.clone());
        let signature = Signature(line.blob.as_slice().try_into().map_err(|_| bad())?);
        if lines.next().is_some() || key.key_type != KeyType::Log {
            return Err(bad());
        }
        key.key.verify_text(&self.text, &signature).map_err(|_| bad())
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn parse_line(line: &str) -> Option<SignatureLine> {
    let (name, blob) = line.strip_prefix("— ")?.split_once(' ')?;
    if !is_name(name) {
        return None;
    }
    let bytes = BASE64.decode(blob).ok()?;
    let (id, blob) = bytes.split_first_chunk()?;
    if blob.is_empty() {
        return None;
    }
    Some(SignatureLine { name: name.to_owned(), id: u32::from_be_bytes(*id), blob: blob.to_vec() })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c == '+' || c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const PETERS_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn peter() -> VerifierKey {
        PETER.parse().unwrap()
    }

    #[test]
    fn the_note_of_the_reference_implementation_verifies() {
        let note = Note::parse(PETERS_NOTE.as_bytes()).unwrap();
        assert_eq!(note.verify(&peter()), Ok(()));
        assert_eq!(note.to_string(), PETERS_NOTE);
        assert_eq!(peter().to_string(), PETER);
    }

    #[test]
    fn unknown_signatures_are_ignored_and_bad_ones_are_not() {
        let with_stranger = format!("{PETERS_NOTE}— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n\n");
        assert_eq!(Note::parse(with_stranger.as_bytes()), Err(NoteError::BadLine(2)), "base64 without padding");
        let with_stranger = format!("{PETERS_NOTE}— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/\n");
        assert_eq!(Note::parse(with_stranger.as_bytes()).unwrap().verify(&peter()), Ok(()));
        let twice = format!("{PETERS_NOTE}{}\n", PETERS_NOTE.lines().last().unwrap());
        assert!(Note::parse(twice.as_bytes()).unwrap().verify(&peter()).is_err());
        let other_text = PETERS_NOTE.replacen("If", "if", 1);
        assert_eq!(
            Note::parse(other_text.as_bytes()).unwrap().verify(&peter()),
            Err(NoteError::BadSignature("PeterNeumann".into()))
        );
    }

    #[test]
    fn malformed_notes_are_refused() {
        let line = PETERS_NOTE.lines().last().unwrap();
        for note in [
            "".to_owned(),
            "text\n".to_owned(),
            "text\n\n".to_owned(),
            format!("text\n{line}\n"),
            format!("text\n\n{line}"),
            format!("text\n\n{line}\n\n"),
            format!("text\n\n-{}\n", &line[3..]),
            format!("text\n\n{}\n", line.replace("PeterNeumann", "Peter+Neumann")),
            format!("text\n\n{}\n", line.replace("PeterNeumann ", "PeterNeumann  ")),
            format!("te\u{1}xt\n\n{line}\n"),
            format!("text\n\n{}\n", line.replace("nAM=", "nAN=")),
            format!("text\n\n{}", format!("{line}\n").repeat(101)),
        ] {
            assert!(Note::parse(note.as_bytes()).is_err(), "{note:?}");
        }
        assert_eq!(Note::parse(b"\xff\n\n"), Err(NoteError::NotText));
        assert_eq!(Note::parse(&[b'a'; MAX_NOTE + 1]), Err(NoteError::TooLong));
    }

    #[test]
    fn malformed_verifier_keys_are_refused() {
        for text in [
            "",
            "PeterNeumann",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+",
            "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert!(text.parse::<VerifierKey>().is_err(), "{text:?}");
        }
    }

    proptest! {
        /// `signed_note` is a port of golang.org/x/mod/sumdb/note.
        #[test]
        fn our_notes_are_accepted_by_signed_note(seed: [u8; 32], text in "[a-z \n]{0,60}") {
            use signed_note::{Note as Theirs, StandardVerifier, VerifierList};
            let text = format!("{text}.\n");
            let secret = SecretKey::from_seed(&seed);
            let key = VerifierKey::new("example.org/log", KeyType::Log, secret.public()).unwrap();
            let note = Note::sign(text.clone(), &key, &secret);
            let verifier = StandardVerifier::new(&key.to_string()).unwrap();
            let theirs = Theirs::from_bytes(note.to_string().as_bytes()).unwrap();
            let (good, unknown) = theirs.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
            prop_assert_eq!((good.len(), unknown.len()), (1, 0));
            prop_assert_eq!(theirs.text(), text.as_bytes());
            prop_assert_eq!(Note::parse(note.to_string().as_bytes()).unwrap().verify(&key), Ok(()));
        }

        #[test]
        fn whatever_parses_is_written_back_byte_for_byte(bytes in "(.|\n){0,80}(\n\n)?(— [a-z]{1,4} [A-Za-z0-9+/=]{0,12}\n)?") {
            if let Ok(note) = Note::parse(bytes.as_bytes()) {
                prop_assert_eq!(note.to_string(), bytes);
            }
        }
    }
}
