//! A card on its way to its governance key, which is on another machine than the working keys (SPEC 9.2).

use super::{Card, CardBody, CardError, CardForm, MAX_CARD};
use crate::codec;
use crate::key::{PublicKey, SecretKey, Signature};

/// A card that its new keys have signed, and its governance key not yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CardDraft {
    body: CardBody,
    signatures: Vec<(PublicKey, Signature)>,
}

impl CardDraft {
    /// Signs with the keys that are new on it.
    pub fn sign<'a>(body: &CardBody, new: impl IntoIterator<Item = &'a SecretKey>) -> Result<Self, CardError> {
        body.check()?;
        let bytes = codec::encode(body);
        let mut signatures: Vec<_> =
            new.into_iter().map(|secret| (secret.public(), secret.sign(body.context(), &bytes))).collect();
        signatures.sort();
        Self::read(&codec::encode(&CardForm { body: bytes, signatures }))
    }

    /// Reads a draft, and verifies the signatures on it.
    pub fn read(bytes: &[u8]) -> Result<Self, CardError> {
        let form: CardForm = codec::decode(bytes, MAX_CARD)?;
        let body: CardBody = codec::decode(&form.body, MAX_CARD)?;
        body.check()?;
        for (signer, signature) in &form.signatures {
            if !body.keys().any(|(role, key)| key == *signer && role != "governance") {
                return Err(CardError::Rule("a draft is signed by the new keys on it"));
            }
            signer.verify(body.context(), &form.body, signature)?;
        }
        Ok(Self { body, signatures: form.signatures })
    }

    /// What it says.
    pub fn body(&self) -> &CardBody {
        &self.body
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        codec::encode(&CardForm { body: codec::encode(&self.body), signatures: self.signatures.clone() })
    }

    /// Makes it a card.
    pub fn complete(&self, governance: &SecretKey) -> Result<Card, CardError> {
        let body = codec::encode(&self.body);
        let mut signatures = self.signatures.clone();
        signatures.push((governance.public(), governance.sign(self.body.context(), &body)));
        signatures.sort();
        Card::read(&codec::encode(&CardForm { body, signatures }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{card, keys};
    use super::*;
    use crate::digest::NetworkId;

    #[test]
    fn a_draft_becomes_the_card_that_its_keys_would_have_made_together() {
        let (first, new) = (card("acme", "FR", 0), keys(9).witness);
        let mut body = first.successor(NetworkId::default());
        body.witness = new.public();
        let draft = CardDraft::sign(&body, [&new]).unwrap();
        assert_eq!(CardDraft::read(&draft.bytes()), Ok(draft.clone()));
        let governance = keys(0).governance;
        assert_eq!(draft.complete(&governance), Card::sign(&body, [&governance, &new]));
        assert!(draft.complete(&keys(1).governance).is_err(), "another member's key");
        assert!(CardDraft::sign(&body, [&governance]).is_err());
    }
}
