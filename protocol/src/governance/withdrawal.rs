//! Taking a vote back as far as that can be (SPEC 21.17): the signature stays one, and whoever sees it sees that its member thinks otherwise by
//! now.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec;
use crate::digest::{CharterId, NetworkId};
use crate::key::{Context, KeyError, Kind, PublicKey, SecretKey, Signature};
use crate::names::MemberId;

/// Longest withdrawal, in bytes.
pub const MAX_WITHDRAWAL: usize = 256;

/// A member asks the others not to sign what it has signed.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Withdrawal {
    /// The proposal.
    pub charter: CharterId,
    /// Who has signed it.
    pub member: MemberId,
    /// With its governance key.
    pub signature: Signature,
}

impl Withdrawal {
    /// Signs one.
    pub fn sign(network: NetworkId, charter: CharterId, member: MemberId, governance: &SecretKey) -> Self {
        let signature =
            governance.sign(Context { network, kind: Kind::Withdrawal }, &codec::encode(&(charter, member)));
        Self { charter, member, signature }
    }

    /// Checks the signature.
    pub fn verify(&self, network: NetworkId, governance: &PublicKey) -> Result<(), KeyError> {
        let context = Context { network, kind: Kind::Withdrawal };
        governance.verify(context, &codec::encode(&(self.charter, self.member)), &self.signature)
    }
}
