//! What a member's voice signs with: its keys, and the file that remembers what was signed (SPEC 8, 17.2).
//!
//! A follower has none of this, and so can sign nothing, whatever it is asked for.

use std::collections::BTreeSet;

use hashmesh_protocol::checkpoint::{Checkpoint, SignedCheckpoint};
use hashmesh_protocol::cosignature::Cosignature;
use hashmesh_protocol::key::{PublicKey, SecretKey};
use hashmesh_protocol::ledger::Mark;
use hashmesh_protocol::names::MemberId;
use hashmesh_protocol::note::{SignatureLine, VerifierKey};

use crate::clock;
use crate::keys::NodeKeys;
use crate::signer::{Signer, SignerError};

/// Signs in a member's name.
pub struct Pen {
    /// The member.
    pub member: MemberId,
    /// The signer file.
    pub signer: Signer,
    /// The keys that it guards, and the identity of the node.
    pub keys: NodeKeys,
}

impl Pen {
    /// The public keys that it signs and cosigns with.
    pub fn known(&self) -> BTreeSet<PublicKey> {
        self.keys.signing().map(SecretKey::public).collect()
    }

    /// Signs a checkpoint of an own log, after the file says so.
    pub fn sign(&mut self, key: &VerifierKey, mark: Mark) -> Result<SignedCheckpoint, SignerError> {
        self.signer.advance(key.name(), mark)?;
        self.signer.remembers()?;
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: mark.size, root: mark.root };
        Ok(SignedCheckpoint::sign(checkpoint, key, self.secret(key.key())))
    }

    /// Cosigns a checkpoint of somebody else's log, likewise.
    pub fn cosign(&mut self, key: &VerifierKey, origin: String, mark: Mark) -> Result<SignatureLine, SignerError> {
        self.signer.advance_cosigned(&origin, mark)?;
        let checkpoint = Checkpoint { origin, size: mark.size, root: mark.root };
        Ok(Cosignature::sign(&checkpoint, clock::now(), key, self.secret(key.key())).line().clone())
    }

    fn secret(&self, key: &PublicKey) -> &SecretKey {
        self.keys.signing().find(|secret| secret.public() == *key).expect("the engine asks only for keys that are here")
    }
}
