//! Ed25519 keys and the bytes they sign (SPEC 2).
//!
//! One strict check for everybody: `verify_strict`, canonical encodings, no keys of small order. Implementations are known
//! to disagree about signatures at the edges (<https://hdevalence.ca/blog/2020-10-04-its-25519am>), and two nodes
//! that disagree about a signature hold two different federations.
//!
//! What we sign is either the text of a C2SP note ([`SecretKey::sign_text`]), which cannot contain a zero byte, or a
//! [`Context`] followed by a body, which always does: so no signature of one is ever valid for the other, nor in
//! another network, nor for a document of another kind.
//!
//! This is the only module that names `ed25519_dalek`. It does not know what roles keys have.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::NetworkId;

/// Begins every signed message that is not a C2SP note; 0x00 follows it.
const TAG: &[u8] = b"hashmesh/v1";

/// What kind of document a signature is for (SPEC 2.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// A motion to adopt a charter, signed by governance keys.
    Charter = 1,
    /// A card's body, signed by a governance key and by every key that is new in it.
    Card = 2,
    /// Where a node can be reached, signed by its key.
    Address = 3,
    /// That a member has thought better of its vote.
    Withdrawal = 4,
}

/// Where a signature is valid: one network, one kind of document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Context {
    /// The federation; all zeros for a first card, which is signed before there is one.
    pub network: NetworkId,
    /// The kind of document.
    pub kind: Kind,
}

impl Context {
    fn message(self, body: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(TAG.len() + 34 + body.len());
        message.extend_from_slice(TAG);
        message.push(0);
        message.extend_from_slice(self.network.0.as_bytes());
        message.push(self.kind as u8);
        message.extend_from_slice(body);
        message
    }
}

/// Why bytes are not a key, or a signature does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// Not the canonical encoding of a point on the curve.
    #[error("not an Ed25519 public key")]
    NotAKey,
    /// A key of small order, for which anybody can make signatures.
    #[error("a weak Ed25519 key (of small order)")]
    Weak,
    /// The signature is not this key's for this message.
    #[error("the signature does not verify")]
    BadSignature,
    /// A private key file that is not PKCS#8 PEM with an Ed25519 key in it.
    #[error("not an Ed25519 private key in PKCS#8 PEM form")]
    NotASecret,
}

/// A public key that has been checked: on the curve, canonical, not weak.
#[derive(Clone, Copy)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Parses 32 bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAKey)?;
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        // Decompression accepts y coordinates above the field's prime; what encodes otherwise is a second name of a key.
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(KeyError::NotAKey);
        }
        Ok(Self(key))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Checks a signature over a body in a context.
    pub fn verify(&self, context: Context, body: &[u8], signature: &Signature) -> Result<(), KeyError> {
        self.verify_bytes(&context.message(body), signature)
    }

    /// Checks a signature over the text of a C2SP note.
    pub fn verify_text(&self, text: &str, signature: &Signature) -> Result<(), KeyError> {
        self.verify_bytes(text.as_bytes(), signature)
    }

    fn verify_bytes(&self, message: &[u8], signature: &Signature) -> Result<(), KeyError> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(message, &signature).map_err(|_| KeyError::BadSignature)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for PublicKey {}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", hex::encode(&self.as_bytes()[..6]))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(self.as_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = crate::codec::fixed_bytes(deserializer)?;
        Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
    }
}

/// 64 bytes that are said to be a signature.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", hex::encode(&self.0[..6]))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::codec::fixed_bytes(deserializer).map(Self)
    }
}

/// A private key. Never printed; wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of a 32-byte seed, which must come from the operating system's random source.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, for handing the key to a library that keeps keys in a type of its own.
    pub fn to_seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Reads a PKCS#8 PEM file (RFC 8410), as `openssl genpkey -algorithm ed25519` writes it.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        SigningKey::from_pkcs8_pem(pem.trim()).map(Self).map_err(|_| KeyError::NotASecret)
    }

    /// The key as a PKCS#8 PEM file (RFC 8410).
    pub fn to_pem(&self) -> String {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF).expect("an Ed25519 key has a PKCS#8 form");
        pem.to_string()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a body in a context.
    pub fn sign(&self, context: Context, body: &[u8]) -> Signature {
        Signature(self.0.sign(&context.message(body)).to_bytes())
    }

    /// Signs the text of a C2SP note. Deterministic (RFC 8032): the same text gives the same signature for ever.
    ///
    /// # Panics
    /// If the text holds a zero byte: then it could be read as a message of a [`Context`].
    pub fn sign_text(&self, text: &str) -> Signature {
        assert!(!text.contains('\0'), "note texts hold no zero byte");
        Signature(self.0.sign(text.as_bytes()).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn context(network: u8, kind: Kind) -> Context {
        Context { network: NetworkId(Digest([network; 32])), kind }
    }

    /// RFC 8032 section 7.1, test 2.
    #[test]
    fn the_signature_is_that_of_rfc_8032() {
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let secret = SecretKey::from_seed(hex::decode(seed).unwrap().as_slice().try_into().unwrap());
        assert_eq!(secret.public().to_string(), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(
            hex::encode(secret.sign_text("r").0),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
    }

    /// SPEC 2.3.
    #[test]
    fn a_signature_is_valid_in_its_own_context_only() {
        let secret = SecretKey::from_seed(&[7; 32]);
        let here = context(1, Kind::Charter);
        let signature = secret.sign(here, b"body");
        assert_eq!(secret.public().verify(here, b"body", &signature), Ok(()));
        for (elsewhere, body) in
            [(context(2, Kind::Charter), &b"body"[..]), (context(1, Kind::Card), b"body"), (here, b"bodY")]
        {
            assert_eq!(secret.public().verify(elsewhere, body, &signature), Err(KeyError::BadSignature));
        }
    }

    #[test]
    fn weak_and_misspelt_keys_are_refused() {
        // The neutral element, a point of order 8, and p + 1, a second spelling of the neutral element.
        for hex in [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            let bytes: [u8; 32] = hex::decode(hex).unwrap().try_into().unwrap();
            assert!(PublicKey::from_bytes(&bytes).is_err(), "{hex}");
        }
        assert_eq!(PublicKey::from_bytes(&[2; 32]), Err(KeyError::NotAKey));
    }

    #[test]
    fn a_secret_survives_its_pem_form_and_is_never_printed() {
        let secret = SecretKey::from_seed(&[9; 32]);
        let pem = secret.to_pem();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert_eq!(SecretKey::from_pem(&pem).unwrap().public(), secret.public());
        assert_eq!(SecretKey::from_pem("nothing").unwrap_err(), KeyError::NotASecret);
        assert_eq!(format!("{secret:?}"), "SecretKey(redacted)");
    }
}
