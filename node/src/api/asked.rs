//! Hashes as they are asked about: read straight from the body, without a copy of their text.

use std::fmt;

use hashmesh_protocol::content_hash::{ContentHash, HashKind};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::query::MAX_HASHES;

/// The hashes of a request, at most [`MAX_HASHES`] of them; `over` counts those beyond.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) hashes: Vec<ContentHash>,
    pub(super) over: usize,
}

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hashes;

        impl<'de> Visitor<'de> for Hashes {
            type Value = Asked;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of hashes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Asked, A::Error> {
                let mut asked = Asked::default();
                loop {
                    let item = asked.hashes.len();
                    let named = |error| A::Error::custom(format_args!("hashes[{item}]: {error}"));
                    match items.next_element::<One>().map_err(named)? {
                        None => return Ok(asked),
                        Some(_) if item == MAX_HASHES => asked.over += 1,
                        Some(One(hash)) => asked.hashes.push(hash),
                    }
                }
            }
        }

        deserializer.deserialize_seq(Hashes)
    }
}

struct One(ContentHash);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hash;

        impl Visitor<'_> for Hash {
            type Value = One;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a hash as text, KIND:HEX, or in CBOR as bytes, the kind's number and the value")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<One, E> {
                text.parse().map(One).map_err(E::custom)
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<One, E> {
                let (kind, value) = bytes.split_first().ok_or_else(|| E::invalid_length(0, &self))?;
                let kind = HashKind::from_number(u64::from(*kind));
                let kind = kind.ok_or_else(|| E::custom("the first byte is not the number of a kind"))?;
                ContentHash::new(kind, value).map(One).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Hash)
    }
}
