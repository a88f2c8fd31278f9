//! What platforms share: perceptual and cryptographic hashes of content, never the content (SPEC 3).
//!
//! Not to be confused with hashes of ours (roots, leaf hashes, ids), which are [`Digest`](crate::digest::Digest)s.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The kinds of content hashes, with their registry numbers (SPEC 3.1).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum HashKind {
    /// PDQ, 256 bits, of images (<https://github.com/facebook/ThreatExchange/tree/main/pdq>).
    Pdq = 1,
    /// MD5, 128 bits.
    Md5 = 2,
    /// SHA-1, 160 bits.
    Sha1 = 3,
    /// SHA-256, 256 bits.
    Sha256 = 4,
}

impl HashKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Pdq, Self::Md5, Self::Sha1, Self::Sha256];

    /// The kind with this registry number; `None` for numbers of later versions.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| u64::from(*kind as u8) == number)
    }

    /// The name in text: that of python-threatexchange where it has one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pdq => "pdq",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// The length of a value, in bytes.
    pub fn width(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Pdq | Self::Sha256 => 32,
        }
    }

    /// What the hash is of, where nobody says otherwise.
    pub fn usual_media(self) -> Media {
        if self == Self::Pdq { Media::Image } else { Media::File }
    }
}

impl fmt::Display for HashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for HashKind {
    type Err = ContentHashError;

    fn from_str(text: &str) -> Result<Self, ContentHashError> {
        let unknown = || ContentHashError::UnknownKind(text.chars().take(32).collect());
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(unknown)
    }
}

/// What was hashed, with registry numbers (SPEC 3.2).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Media {
    /// A file of any kind.
    #[default]
    File = 1,
    /// A picture.
    Image = 2,
    /// A film.
    Video = 3,
}

impl Media {
    /// The medium with this registry number; `None` for numbers of later versions.
    pub fn from_number(number: u64) -> Option<Self> {
        [Self::File, Self::Image, Self::Video].into_iter().find(|media| u64::from(*media as u8) == number)
    }

    /// The name in text.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Image => "image",
            Self::Video => "video",
        }
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Text or bytes that are not a content hash.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ContentHashError {
    /// No such kind.
    #[error("{0:?} is not a kind of hash (known: pdq, md5, sha1, sha256)")]
    UnknownKind(String),
    /// No kind in front of the value.
    #[error("expected KIND:HEX, as in pdq:f8f8…, got {0:?}")]
    NoKind(String),
    /// Not as long as its kind is.
    #[error("a {kind} hash has {} hex digits, this one has {digits}", kind.width() * 2)]
    WrongLength {
        /// The kind.
        kind: HashKind,
        /// How many digits there are.
        digits: usize,
    },
    /// Something else than hex digits.
    #[error("{0:?} is not hexadecimal")]
    NotHex(String),
}

/// A content hash: a kind, and a value of that kind's length.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ContentHash {
    kind: HashKind,
    // Shorter kinds are followed by zeros.
    bytes: [u8; 32],
}

impl ContentHash {
    /// A hash of this kind, if the value has its length.
    pub fn new(kind: HashKind, value: &[u8]) -> Result<Self, ContentHashError> {
        if value.len() != kind.width() {
            return Err(ContentHashError::WrongLength { kind, digits: value.len() * 2 });
        }
        let mut bytes = [0; 32];
        bytes[..value.len()].copy_from_slice(value);
        Ok(Self { kind, bytes })
    }

    /// Reads the hex digits of a value, in either case.
    pub fn from_hex(kind: HashKind, digits: &str) -> Result<Self, ContentHashError> {
        let mut bytes = [0; 32];
        if !digits.is_ascii() {
            return Err(ContentHashError::NotHex(digits.chars().take(80).collect()));
        }
        if digits.len() != kind.width() * 2 {
            return Err(ContentHashError::WrongLength { kind, digits: digits.len() });
        }
        hex::decode_to_slice(digits, &mut bytes[..kind.width()])
            .map_err(|_| ContentHashError::NotHex(digits.to_owned()))?;
        Ok(Self { kind, bytes })
    }

    /// The kind.
    pub fn kind(&self) -> HashKind {
        self.kind
    }

    /// The value, as long as its kind is.
    pub fn value(&self) -> &[u8] {
        &self.bytes[..self.kind.width()]
    }

    /// The value followed by zeros.
    pub fn padded(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The number of bits in which two PDQ hashes differ, 0..=256; `None` for other kinds, which have no distance.
    pub fn distance(&self, other: &Self) -> Option<u32> {
        if self.kind != HashKind::Pdq || other.kind != HashKind::Pdq {
            return None;
        }
        Some(self.bytes.iter().zip(other.bytes).map(|(a, b)| (a ^ b).count_ones()).sum())
    }

    /// Why this hash says nothing about content, if so (SPEC 3.4). Such hashes are refused when published and have no
    /// effect when received.
    pub fn emptiness(&self) -> Option<Emptiness> {
        if self.kind == HashKind::Pdq {
            let ones: u32 = self.bytes.iter().map(|byte| byte.count_ones()).sum();
            return (!PDQ_ONES.contains(&ones)).then_some(Emptiness::DegeneratePdq { ones });
        }
        EMPTY_FILE.contains(self).then_some(Emptiness::EmptyFile)
    }
}

/// The hashes of zero bytes.
static EMPTY_FILE: LazyLock<[ContentHash; 3]> = LazyLock::new(|| {
    [
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ]
    .map(|text| text.parse().expect("written correctly above"))
});

/// How many bits of a usable PDQ hash are set. PDQ compares with a median, so real ones have 128, give or take a few.
const PDQ_ONES: std::ops::RangeInclusive<u32> = 80..=176;

/// The lowest PDQ quality that is published or matched (SPEC 3.4): below it, pictures have too little in them to tell
/// them apart. The value is the field's.
pub const MIN_PDQ_QUALITY: u8 = 50;

/// The highest PDQ quality.
pub const MAX_PDQ_QUALITY: u8 = 100;

/// Why a hash says nothing about content.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Emptiness {
    /// The hash of zero bytes.
    #[error("the hash of the empty file, which is on no list for a reason")]
    EmptyFile,
    /// Too uniform: a blank picture, or no PDQ at all.
    #[error("a degenerate PDQ hash ({ones} bits set, expected {} to {})", PDQ_ONES.start(), PDQ_ONES.end())]
    DegeneratePdq {
        /// How many bits are set.
        ones: u32,
    },
}

/// `kind:hex`.
impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, hex::encode(self.value()))
    }
}

/// Shortened: whole values are confidential, and debug output ends in logs.
impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}…", self.kind, hex::encode(&self.bytes[..4]))
    }
}

impl FromStr for ContentHash {
    type Err = ContentHashError;

    fn from_str(text: &str) -> Result<Self, ContentHashError> {
        let no_kind = || ContentHashError::NoKind(text.chars().take(80).collect());
        let (kind, digits) = text.split_once(':').ok_or_else(no_kind)?;
        Self::from_hex(kind.parse()?, digits)
    }
}

impl Serialize for ContentHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_kind_and_value() {
        let md5: ContentHash = "md5:00112233445566778899aabbccddeeff".parse().unwrap();
        assert_eq!(md5.kind(), HashKind::Md5);
        assert_eq!(md5.value().len(), 16);
        assert_eq!(md5.to_string(), "md5:00112233445566778899aabbccddeeff");
        assert_eq!("md5:00112233445566778899AABBCCDDEEFF".parse(), Ok(md5), "either case is read");
    }

    #[test]
    fn what_is_wrong_with_a_hash_is_said() {
        let error = |text: &str| text.parse::<ContentHash>().unwrap_err().to_string();
        assert_eq!(error("abc"), "expected KIND:HEX, as in pdq:f8f8…, got \"abc\"");
        assert_eq!(error("crc:00"), "\"crc\" is not a kind of hash (known: pdq, md5, sha1, sha256)");
        assert_eq!(error("sha1:00"), "a sha1 hash has 40 hex digits, this one has 2");
        assert_eq!(
            error("md5:0011223344556677889900112233445g"),
            "\"0011223344556677889900112233445g\" is not hexadecimal"
        );
    }

    /// As a Japanese keyboard types them: as many as are needed, in three times as many bytes.
    #[test]
    fn full_width_digits_are_no_digits() {
        let error = format!("md5:{}", "０".repeat(32)).parse::<ContentHash>().unwrap_err();
        assert!(error.to_string().ends_with("is not hexadecimal"), "{error}");
    }

    #[test]
    fn distance_is_the_number_of_differing_bits_of_pdq() {
        let zero = ContentHash::new(HashKind::Pdq, &[0; 32]).unwrap();
        let ones = ContentHash::new(HashKind::Pdq, &[0xff; 32]).unwrap();
        assert_eq!(zero.distance(&ones), Some(256));
        assert_eq!(zero.distance(&zero), Some(0));
        let sha = ContentHash::new(HashKind::Sha256, &[0; 32]).unwrap();
        assert_eq!(zero.distance(&sha), None);
        assert_ne!(zero, sha, "the kind is part of a hash");
    }

    /// SPEC 3.4.
    #[test]
    fn hashes_of_nothing_are_told_apart() {
        for hash in EMPTY_FILE.iter() {
            assert_eq!(hash.emptiness(), Some(Emptiness::EmptyFile));
        }
        assert_eq!("md5:d41d8cd98f00b204e9800998ecf8427f".parse::<ContentHash>().unwrap().emptiness(), None);
        let pdq = |ones: usize| {
            let mut bytes = [0; 32];
            (0..ones).for_each(|bit| bytes[bit / 8] |= 1 << (bit % 8));
            ContentHash::new(HashKind::Pdq, &bytes).unwrap().emptiness()
        };
        for (ones, empty) in [(0, true), (79, true), (80, false), (128, false), (176, false), (177, true), (256, true)]
        {
            assert_eq!(pdq(ones).is_some(), empty, "{ones} bits");
        }
    }
}
