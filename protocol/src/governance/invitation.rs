//! What whoever joins needs to know, and is handed by a member (SPEC 21.5).
//!
//! The network id says which federation; the charter's id, that a history which old keys could found is not taken for it. The addresses
//! are where to begin.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::address::MAX_PLACES;
use crate::codec::{self, CodecError};
use crate::digest::{CharterId, NetworkId};
use crate::names::MemberId;

/// The version of invitations that this software reads and writes.
const FORMAT: u64 = 1;

/// Longest invitation, in bytes.
pub const MAX_INVITATION: usize = 64 * 1024;

/// Most members whose addresses are in it: each one that is reached leads to all others.
const MAX_HOSTS: usize = 32;

/// An invitation.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Invitation {
    /// The version of this form: 1.
    pub format: u64,
    /// The federation.
    pub network: NetworkId,
    /// A recent charter: chains without it do not count for whoever joins.
    pub charter: CharterId,
    /// Where members' nodes are.
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_HOSTS>")]
    pub hosts: Vec<Host>,
}

/// Where a member's node is.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Host {
    /// Whose.
    pub member: MemberId,
    /// Multiaddresses.
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_PLACES>")]
    pub places: Vec<String>,
}

impl Invitation {
    /// An invitation; of more hosts than fit the first ones.
    pub fn new(network: NetworkId, charter: CharterId, hosts: impl IntoIterator<Item = Host>) -> Self {
        Self { format: FORMAT, network, charter, hosts: hosts.into_iter().take(MAX_HOSTS).collect() }
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads one.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let invitation: Self = codec::decode(bytes, MAX_INVITATION)?;
        if invitation.format == FORMAT { Ok(invitation) } else { Err(CodecError::Shape("a newer invitation".into())) }
    }
}
