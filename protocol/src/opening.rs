//! Commitments and openings (SPEC 5): a leaf holds only a salted digest of the content hash; what opens it travels and is
//! stored beside the leaves, so that it can be withheld from an auditor, or erased, without breaking a proof.

use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec::{self, CodecError};
use crate::content_hash::{ContentHash, HashKind};
use crate::digest::{Digest, Messages};

const TAG: &[u8] = b"hashmesh/opening/v1";

/// Longest opening on the wire, in bytes: 16 of salt, 64 of value, [`MAX_NOTE`] of note, and the heads of four items.
pub const MAX_OPENING: usize = 640;

/// Longest note, in bytes of UTF-8.
pub const MAX_NOTE: usize = 512;

/// Longest value, in bytes; room for kinds to come.
const MAX_VALUE: usize = 64;

/// What opens a commitment. Borrowed, since openings are read by the million.
#[derive(Clone, Copy, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Opening<'a> {
    /// 16 random bytes, never derived: or else whoever holds the content could confirm a commitment.
    pub salt: Salt,
    /// The value of the content hash; its kind stands in the leaf.
    #[serde(borrow, with = "serde_bytes")]
    pub value: &'a [u8],
    /// A remark for the other members' people. Erased together with the value.
    #[serde(borrow)]
    pub note: Option<&'a str>,
}

/// The salt of an opening.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Salt(pub [u8; 16]);

impl Serialize for Salt {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Salt {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        codec::fixed_bytes(deserializer).map(Self)
    }
}

impl<'a> Opening<'a> {
    /// Opens a commitment to this hash.
    pub fn of(hash: &'a ContentHash, salt: Salt, note: Option<&'a str>) -> Self {
        Self { salt, value: hash.value(), note }
    }

    /// The canonical bytes, which are what is committed to.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let opening: Self = codec::decode(bytes, MAX_OPENING)?;
        let note = opening.note.map_or(0, str::len);
        match (opening.value.len(), note) {
            (len, _) if len > MAX_VALUE => Err(CodecError::TooLong { len, max: MAX_VALUE }),
            (_, len) if len > MAX_NOTE => Err(CodecError::TooLong { len, max: MAX_NOTE }),
            _ => Ok(opening),
        }
    }

    /// The content hash, if this opens a commitment of a leaf of that kind. An author who has committed to something else
    /// has said nothing: such a statement stays in the log and has no effect.
    pub fn content_hash(&self, kind: HashKind) -> Option<ContentHash> {
        ContentHash::new(kind, self.value).ok()
    }
}

/// The commitment that these bytes open: SHA-256 of the tag, 0x00, the bytes. Of bytes, not of an [`Opening`], because an
/// author may have committed to bytes that are none.
pub fn commitment(opening: &[u8]) -> Digest {
    Digest::of(&[TAG, &[0], opening])
}

/// The commitments to many openings.
pub fn commitments<'a>(openings: impl IntoIterator<Item = &'a [u8]>) -> Vec<Digest> {
    let mut messages = Messages::default();
    openings.into_iter().for_each(|opening| messages.push(&[TAG, &[0], opening]));
    messages.digests()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening() -> Opening<'static> {
        Opening { salt: Salt([1; 16]), value: &[7; 16], note: None }
    }

    /// SPEC 5.1, 5.2.
    #[test]
    fn the_bytes_are_salt_value_note() {
        let bytes = opening().encode();
        assert_eq!(hex::encode(&bytes), format!("8350{}50{}f6", "01".repeat(16), "07".repeat(16)));
        assert_eq!(Opening::decode(&bytes), Ok(opening()));
        assert_eq!(commitment(&bytes), Digest::of(&[b"hashmesh/opening/v1\0", &bytes]));
    }

    #[test]
    fn a_value_of_another_length_opens_nothing() {
        assert!(opening().content_hash(HashKind::Md5).is_some());
        assert_eq!(opening().content_hash(HashKind::Sha1), None);
    }

    #[test]
    fn the_longest_opening_fits_and_one_byte_more_does_not() {
        let note = "x".repeat(MAX_NOTE + 1);
        let longest = Opening { salt: Salt([0; 16]), value: &[0; MAX_VALUE], note: Some(&note[1..]) };
        assert!(longest.encode().len() <= MAX_OPENING);
        assert_eq!(Opening::decode(&longest.encode()), Ok(longest));
        let longer = Opening { note: Some(&note), ..longest };
        assert!(Opening::decode(&longer.encode()).is_err());
    }

    #[test]
    fn a_short_salt_is_refused() {
        let bytes = hex::decode(format!("834f{}50{}f6", "01".repeat(15), "07".repeat(16))).unwrap();
        assert!(matches!(Opening::decode(&bytes), Err(CodecError::Shape(_))));
    }
}
