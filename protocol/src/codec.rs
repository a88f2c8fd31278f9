//! The one door for bytes that come in, and the one encoder for bytes that are signed (SPEC 1).
//!
//! Everything of ours is canonical CBOR (RFC 8949 section 4.2.1) of a small subset: unsigned integers, byte strings, text,
//! arrays, booleans, null. `serde_cbor` alone accepts much more (long integers, indefinite lengths, tags, text for
//! bytes, duplicate keys), so it is fenced on both sides: [`scan`] walks the raw bytes first, within limits and without
//! allocating, and what was decoded is encoded again and must give the same bytes. Without that, two nodes could hold
//! different bytes for one statement, and one of them would refuse what the other has signed.
//!
//! This is the only module that names `serde_cbor`. It does not know what is inside the documents.

use std::marker::PhantomData;
use std::{fmt, io};

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_cbor::ser::IoWrite;

/// Arrays inside arrays, at most. The deepest document of ours (a charter's member list) has four.
pub const MAX_DEPTH: usize = 8;

/// Why bytes are not a canonical document.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CodecError {
    /// Longer than the cap of its kind.
    #[error("{len} bytes, more than the {max} allowed")]
    TooLong {
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// The bytes end inside an item, or a length promises more than there is.
    #[error("cut short")]
    CutShort,
    /// Bytes after the end of the document.
    #[error("bytes after the end")]
    Trailing,
    /// More than [`MAX_DEPTH`] arrays inside each other.
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// A CBOR item outside the subset: map, tag, float, negative number, indefinite length, unknown simple value.
    #[error("an item of a kind that is not used here (initial byte {0:#04x})")]
    Foreign(u8),
    /// An integer or a length that is not in its shortest form.
    #[error("an integer not in its shortest form")]
    LongInteger,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    NotText,
    /// Well-formed, but not a document of the expected shape.
    #[error("not of the expected shape: {0}")]
    Shape(String),
    /// Decodes, but encodes to other bytes.
    #[error("not in canonical form")]
    NotCanonical,
}

/// Encodes a document. Structs must be arrays on the wire (derive `Serialize_tuple`), never maps.
///
/// # Panics
/// Never for the types of this crate: writing to memory cannot fail and none of them has an unrepresentable value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_cbor::to_vec(value).expect("documents of this crate have no unrepresentable values")
}

/// Decodes a canonical document of at most `max` bytes; accepts exactly what [`encode`] gives, and nothing else.
pub fn decode<'a, T: Deserialize<'a> + Serialize>(bytes: &'a [u8], max: usize) -> Result<T, CodecError> {
    scan(bytes, max)?;
    decode_scanned(bytes)
}

/// The same, for bytes that [`scan`] has passed.
pub(crate) fn decode_scanned<'a, T: Deserialize<'a> + Serialize>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let value: T = serde_cbor::from_slice(bytes).map_err(|e| CodecError::Shape(e.to_string()))?;
    if encodes_to(&value, bytes) { Ok(value) } else { Err(CodecError::NotCanonical) }
}

/// Whether a document has this encoding. It is compared as it is made, not kept: leaves are decoded by the million.
fn encodes_to<T: Serialize>(value: &T, bytes: &[u8]) -> bool {
    /// What must still come.
    struct Expected<'a>(&'a [u8]);

    impl io::Write for Expected<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut expected = Expected(bytes);
    let encoded = value.serialize(&mut serde_cbor::Serializer::new(IoWrite::new(&mut expected)));
    encoded.is_ok() && expected.0.is_empty()
}

/// Checks that `bytes` are exactly one item of the subset, in canonical form, without looking at what it means.
///
/// Allocates nothing: a length is only ever compared with the bytes that are left. This is how statements of unknown
/// kinds are checked, which nobody can decode and encode again yet.
pub fn scan(bytes: &[u8], max: usize) -> Result<(), CodecError> {
    if bytes.len() > max {
        return Err(CodecError::TooLong { len: bytes.len(), max });
    }
    let mut rest = bytes;
    // How many items are still to come at each depth; the outermost level expects one.
    let mut expected = [0u64; MAX_DEPTH + 1];
    let mut depth = 0;
    expected[0] = 1;
    loop {
        while expected[depth] == 0 {
            if depth == 0 {
                return if rest.is_empty() { Ok(()) } else { Err(CodecError::Trailing) };
            }
            depth -= 1;
        }
        expected[depth] -= 1;
        let (head, after) = Head::read(rest)?;
        rest = after;
        match head {
            Head::Unsigned(_) | Head::Simple => {}
            Head::Bytes(len) | Head::Text(len) => {
                let len = usize::try_from(len).map_err(|_| CodecError::CutShort)?;
                let (content, after) = rest.split_at_checked(len).ok_or(CodecError::CutShort)?;
                if matches!(head, Head::Text(_)) && std::str::from_utf8(content).is_err() {
                    return Err(CodecError::NotText);
                }
                rest = after;
            }
            Head::Array(len) => {
                // Every item takes a byte at least, so a count above what is left is a lie.
                if len > rest.len() as u64 {
                    return Err(CodecError::CutShort);
                }
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(CodecError::TooDeep);
                }
                expected[depth] = len;
            }
        }
    }
}

/// Reads the unsigned integers that an array begins with, of bytes that [`scan`] has passed: how a statement's version,
/// time and kind are found before it is known what the rest means. `None` if it begins otherwise.
pub(crate) fn leading_integers<const N: usize>(scanned: &[u8]) -> Option<(u64, [u64; N])> {
    let (Head::Array(len), mut rest) = Head::read(scanned).ok()? else { return None };
    let mut integers = [0; N];
    for integer in &mut integers {
        let (Head::Unsigned(value), after) = Head::read(rest).ok()? else { return None };
        *integer = value;
        rest = after;
    }
    Some((len, integers))
}

/// Reads items of the subset one by one, each in its only form: for documents of which there are millions, by whoever knows
/// their shape. What has been read to its end was canonical. `None`: something else stands there.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn head(&mut self) -> Option<Head> {
        let (head, rest) = Head::read(self.0).ok()?;
        self.0 = rest;
        Some(head)
    }

    /// An array's length; its items come next.
    pub(crate) fn array(&mut self) -> Option<u64> {
        if let Head::Array(len) = self.head()? { Some(len) } else { None }
    }

    /// An unsigned integer.
    pub(crate) fn unsigned(&mut self) -> Option<u64> {
        if let Head::Unsigned(value) = self.head()? { Some(value) } else { None }
    }

    /// A byte string of exactly so many bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let Head::Bytes(len) = self.head()? else { return None };
        let (bytes, rest) = self.0.split_first_chunk().filter(|_| len == N as u64)?;
        self.0 = rest;
        Some(*bytes)
    }

    /// What `read` reads, or null.
    pub(crate) fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.0.split_first()? {
            (&NULL, rest) => {
                self.0 = rest;
                Some(None)
            }
            _ => read(self).map(Some),
        }
    }

    /// Nothing may follow.
    pub(crate) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// The item null.
const NULL: u8 = 0xf6;

#[derive(Clone, Copy)]
enum Head {
    Unsigned(u64),
    Bytes(u64),
    Text(u64),
    Array(u64),
    Simple,
}

impl Head {
    fn read(bytes: &[u8]) -> Result<(Self, &[u8]), CodecError> {
        let (&initial, rest) = bytes.split_first().ok_or(CodecError::CutShort)?;
        if matches!(initial, 0xf4..=0xf6) {
            return Ok((Self::Simple, rest));
        }
        let major = initial >> 5;
        if !matches!(major, 0 | 2 | 3 | 4) {
            return Err(CodecError::Foreign(initial));
        }
        let (argument, rest) = Self::argument(initial, rest)?;
        Ok((
            match major {
                0 => Self::Unsigned(argument),
                2 => Self::Bytes(argument),
                3 => Self::Text(argument),
                _ => Self::Array(argument),
            },
            rest,
        ))
    }

    fn argument(initial: u8, rest: &[u8]) -> Result<(u64, &[u8]), CodecError> {
        let short = initial & 0x1f;
        let width = match short {
            0..=23 => return Ok((u64::from(short), rest)),
            24..=27 => 1usize << (short - 24),
            _ => return Err(CodecError::Foreign(initial)),
        };
        let (digits, rest) = rest.split_at_checked(width).ok_or(CodecError::CutShort)?;
        let value = digits.iter().fold(0u64, |value, &digit| value << 8 | u64::from(digit));
        let shortest = match width {
            1 => value >= 24,
            2 => value > 0xff,
            4 => value > 0xffff,
            _ => value > 0xffff_ffff,
        };
        if shortest { Ok((value, rest)) } else { Err(CodecError::LongInteger) }
    }
}

/// Deserializes a byte string of exactly `N` bytes.
pub(crate) fn fixed_bytes<'de, const N: usize, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; N], D::Error> {
    struct Fixed<const N: usize>(PhantomData<[u8; N]>);

    impl<const N: usize> Visitor<'_> for Fixed<N> {
        type Value = [u8; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{N} bytes")
        }

        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
            bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
        }
    }

    deserializer.deserialize_bytes(Fixed(PhantomData))
}

/// Deserializes a list of at most `MAX` items, and makes room for no more.
pub(crate) fn at_most<'de, T: Deserialize<'de>, D: Deserializer<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct List<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            if let Some(len) = items.size_hint().filter(|len| *len > MAX) {
                return Err(A::Error::invalid_length(len, &self));
            }
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                list.push(item);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(List::<T, MAX>(PhantomData))
}

/// Deserializes text of at most `max` bytes.
pub(crate) fn bounded_text<'de, D: Deserializer<'de>>(deserializer: D, max: usize) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > max {
        return Err(D::Error::invalid_length(text.len(), &format!("at most {max} bytes").as_str()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_tuple::{Deserialize_tuple, Serialize_tuple};

    use super::*;

    #[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
    struct Sample {
        number: u64,
        name: String,
        list: Vec<u32>,
        absent: Option<u64>,
    }

    fn sample() -> Sample {
        Sample { number: 24, name: "a".into(), list: vec![1, 1000], absent: None }
    }

    fn decode(bytes: &[u8]) -> Result<Sample, CodecError> {
        super::decode(bytes, 1000)
    }

    #[test]
    fn a_struct_is_an_array_in_shortest_form() {
        assert_eq!(hex::encode(encode(&sample())), "8418186161820119 03e8f6".replace(' ', ""));
        assert_eq!(decode(&encode(&sample())), Ok(sample()));
    }

    /// What `serde_cbor` alone would accept, each in one example. SPEC 1.1.
    #[test]
    fn every_other_spelling_of_the_same_document_is_refused() {
        let cases = [
            ("84190018616182011903e8f6", CodecError::LongInteger),
            ("84181861618201190 3e8f6ff", CodecError::Trailing),
            ("9f18186161820119 03e8f6ff", CodecError::Foreign(0x9f)),
            ("8418186161820119 03e8f7", CodecError::Foreign(0xf7)),
            ("84c118186161820119 03e8f6", CodecError::Foreign(0xc1)),
            ("84381861618201 1903e8f6", CodecError::Foreign(0x38)),
            ("8418187f6161ff82011903e8f6", CodecError::Foreign(0x7f)),
            ("a418186161820119 03e8f6", CodecError::Foreign(0xa4)),
            ("8418186161820119 03e8", CodecError::CutShort),
            ("841818 61ff820119 03e8f6", CodecError::NotText),
            ("9bffffffffffffffff00", CodecError::CutShort),
            ("5bffffffffffffffff00", CodecError::CutShort),
            ("8181818181818181818100", CodecError::TooDeep),
            ("", CodecError::CutShort),
        ];
        for (hex, error) in cases {
            assert_eq!(decode(&hex::decode(hex.replace(' ', "")).unwrap()), Err(error), "{hex}");
        }
    }

    /// `serde_cbor` takes bytes for text and a shorter or longer array is a shape error; both must end here.
    #[test]
    fn another_shape_is_refused() {
        for hex in ["841818 4161 82011903e8f6", "831818 6161 82011903e8", "851818 6161 82011903e8 f6f6"] {
            let bytes = hex::decode(hex.replace(' ', "")).unwrap();
            assert!(matches!(decode(&bytes), Err(CodecError::Shape(_) | CodecError::NotCanonical)), "{hex}");
        }
    }

    #[test]
    fn the_size_is_checked_before_anything_else() {
        assert_eq!(scan(&[0xff; 11], 10), Err(CodecError::TooLong { len: 11, max: 10 }));
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_itself(number: u64, name in ".{0,40}", list: Vec<u32>, absent: Option<u64>) {
            let value = Sample { number, name, list, absent };
            prop_assert_eq!(super::decode::<Sample>(&encode(&value), 10_000), Ok(value));
        }

        /// Any bytes at all: either refused, or exactly what encoding gives back.
        #[test]
        fn whatever_decodes_is_canonical(bytes: Vec<u8>) {
            if let Ok(value) = decode(&bytes) {
                prop_assert_eq!(encode(&value), bytes);
            }
        }

        /// One changed byte of a good document is refused or is another document's canonical form.
        #[test]
        fn a_changed_byte_never_gives_a_second_spelling(at in 0usize..11, to: u8) {
            let mut bytes = encode(&sample());
            bytes[at] = to;
            if let Ok(value) = decode(&bytes) {
                prop_assert_eq!(encode(&value), bytes);
            }
        }
    }
}
