//! Where nodes can be reached, by their own word (SPEC 21.11).
//!
//! Addresses are not on cards: they change far more often than keys, and no governance key should be needed for that.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec::{self, CodecError};
use crate::digest::NetworkId;
use crate::key::{Context, KeyError, Kind, PublicKey, SecretKey, Signature};
use crate::time::Timestamp;

/// Longest record, in bytes.
pub const MAX_ADDRESSES: usize = 2048;

/// Most addresses of a node.
pub const MAX_PLACES: usize = 8;

/// Longest address, in bytes: a name of 200 bytes, a port, and what multiaddresses put around them.
const MAX_PLACE: usize = 230;

/// Where a node can be reached. Holding one proves that the key on it has signed it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Addresses {
    body: AddressesBody,
    signature: Signature,
}

/// What it says.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct AddressesBody {
    /// The federation.
    pub network: NetworkId,
    /// The node key.
    pub node: PublicKey,
    /// When it was made, by the node's clock. Of two records the later one counts.
    pub time: Timestamp,
    /// Multiaddresses, without the node's identity: `/ip4/…/tcp/…`, `/ip6/…/tcp/…` or `/dns/…/tcp/…`. Whoever dials checks the form.
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_PLACES>")]
    pub places: Vec<String>,
}

#[derive(Deserialize_tuple, Serialize_tuple)]
struct AddressesForm {
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    signature: Signature,
}

/// Why it is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddressesError {
    /// Not canonical bytes of one.
    #[error("not a record of addresses")]
    Codec(#[from] CodecError),
    /// An address that cannot be one.
    #[error("an address has 1 to {MAX_PLACE} printable ASCII characters")]
    Place,
    /// A signature that does not hold.
    #[error("the record of addresses is not signed by the node that it is of")]
    Signature(#[from] KeyError),
}

impl Addresses {
    /// Makes and signs one. Places beyond [`MAX_PLACES`] are left out.
    pub fn sign(
        network: NetworkId,
        node: &SecretKey,
        time: Timestamp,
        places: &[String],
    ) -> Result<Self, AddressesError> {
        let places = places.iter().take(MAX_PLACES).cloned().collect();
        let body = AddressesBody { network, node: node.public(), time, places };
        let signature = node.sign(body.context(), &codec::encode(&body));
        Self::read(&codec::encode(&AddressesForm { body: codec::encode(&body), signature }))
    }

    /// Reads and verifies one.
    pub fn read(bytes: &[u8]) -> Result<Self, AddressesError> {
        let form: AddressesForm = codec::decode(bytes, MAX_ADDRESSES)?;
        let body: AddressesBody = codec::decode(&form.body, MAX_ADDRESSES)?;
        let is_place =
            |place: &String| (1..=MAX_PLACE).contains(&place.len()) && place.bytes().all(|b| b.is_ascii_graphic());
        if !body.places.iter().all(is_place) {
            return Err(AddressesError::Place);
        }
        body.node.verify(body.context(), &form.body, &form.signature)?;
        Ok(Self { body, signature: form.signature })
    }

    /// The canonical bytes.
    pub fn bytes(&self) -> Vec<u8> {
        codec::encode(&AddressesForm { body: codec::encode(&self.body), signature: self.signature })
    }

    /// What it says.
    pub fn body(&self) -> &AddressesBody {
        &self.body
    }
}

impl AddressesBody {
    fn context(&self) -> Context {
        Context { network: self.network, kind: Kind::Address }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_and_nothing_else_does() {
        let node = SecretKey::from_seed(&[7; 32]);
        let places = ["/ip4/192.0.2.1/tcp/4600".to_owned(), "/dns/hashmesh.acme.example/tcp/4600".to_owned()];
        let record = Addresses::sign(NetworkId::default(), &node, Timestamp(5), &places).unwrap();
        assert_eq!(Addresses::read(&record.bytes()), Ok(record.clone()));
        assert_eq!(record.body().places, places);
        let mut forged = record.clone();
        forged.body.time = Timestamp(6);
        assert!(matches!(Addresses::read(&forged.bytes()), Err(AddressesError::Signature(_))));
        for bad in ["", "two words", &"x".repeat(MAX_PLACE + 1)] {
            let refused = Addresses::sign(NetworkId::default(), &node, Timestamp(5), &[bad.to_owned()]);
            assert_eq!(refused, Err(AddressesError::Place), "{bad:?}");
        }
    }
}
