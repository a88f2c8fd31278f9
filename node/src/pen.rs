//! What a member's voice signs with: its keys, and the file that remembers what was signed (SPEC 8, 17.2).
//!
//! A follower has none of this, and so can sign nothing, whatever it is asked for.

use hashmesh_protocol::checkpoint::{Checkpoint, SignedCheckpoint};
use hashmesh_protocol::cosignature::Cosignature;
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::key::SecretKey;
use hashmesh_protocol::ledger::Mark;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::note::SignatureLine;

use crate::clock;
use crate::signer::{Signer, SignerError};

/// Signs in a member's name.
pub struct Pen {
    /// The member's newest log.
    pub own: LogId,
    /// The signer file.
    pub signer: Signer,
    /// The key that it guards.
    pub log: SecretKey,
    /// The key that cosigns, likewise.
    pub witness: SecretKey,
}

impl Pen {
    /// Signs a checkpoint of the own log, after the file says so.
    pub fn sign(&mut self, federation: &Federation, log: LogId, mark: Mark) -> Result<SignedCheckpoint, SignerError> {
        let key = federation.logs()[&log].clone();
        self.signer.advance(key.name(), mark)?;
        self.signer.remembers()?;
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: mark.size, root: mark.root };
        Ok(SignedCheckpoint::sign(checkpoint, &key, &self.log))
    }

    /// Cosigns a checkpoint of somebody else's log, likewise.
    pub fn cosign(&mut self, federation: &Federation, log: LogId, mark: Mark) -> Result<SignatureLine, SignerError> {
        let origin = federation.origins().origin(log);
        let key = federation.witnesses()[&self.own.member].clone();
        self.signer.advance_cosigned(&origin, mark)?;
        let checkpoint = Checkpoint { origin, size: mark.size, root: mark.root };
        Ok(Cosignature::sign(&checkpoint, clock::now(), &key, &self.witness).line().clone())
    }
}
