//! Cards: a member's working keys, signed by its governance key and by every key that is new (SPEC 9).
//!
//! A card decides nothing about membership: the charter names each member's first card by id. Addresses are not in it;
//! a node signs its own.

mod draft;
mod succession;

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

pub use draft::CardDraft;
pub use succession::SuccessionError;

use crate::codec::{self, CodecError};
use crate::digest::{CardId, Digest, NetworkId};
use crate::key::{Context, KeyError, Kind, PublicKey, SecretKey, Signature};
use crate::names::{Jurisdiction, MemberId};
use crate::text::is_plain;

/// The version of cards that this software writes.
const FORMAT: u64 = 1;

/// Longest card with its signatures, in bytes.
pub const MAX_CARD: usize = 16 * 1024;

/// Most epochs of a member, all told: as many ends fit a card.
pub const MAX_EPOCHS: usize = 256;

/// Most evidence that a card cites.
pub const MAX_CITED: usize = 8;

/// Most node keys on a card: a few machines, each with an old and a new key while it changes over.
pub const MAX_NODES: usize = 8;

/// Longest name of a member, in bytes of UTF-8.
pub const MAX_NAME: usize = 128;

/// What a card says.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct CardBody {
    /// The version of this form: 1.
    pub format: u64,
    /// The federation; absent on a first card, which is made before there is one.
    pub network: Option<NetworkId>,
    /// Whose card.
    pub member: MemberId,
    /// 0 for the first card, then one more each.
    pub counter: u64,
    /// The card before; absent on the first.
    pub previous: Option<CardId>,
    /// The key that votes on charters and signs cards; kept offline.
    pub governance: PublicKey,
    /// Which of the member's logs is being written.
    pub epoch: u32,
    /// The key that signs its checkpoints.
    pub log: PublicKey,
    /// The key that cosigns others' checkpoints.
    pub witness: PublicKey,
    /// The keys of the member's nodes (libp2p identities), ascending.
    pub nodes: Vec<PublicKey>,
    /// What the member asks the charter to say of it; on first cards only.
    pub application: Option<Application>,
    /// Where the member's earlier logs end, one entry an epoch from 0 on; of one that leaves, also where its last one does.
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_EPOCHS>")]
    pub ended: Vec<End>,
    /// The evidence against the epoch that this card ends: the SHA-256 of each, ascending.
    #[serde(deserialize_with = "codec::at_most::<_, _, MAX_CITED>")]
    pub evidence: Vec<Digest>,
    /// Whether the member leaves. It stays a member, without a voice, until a charter says so.
    pub leaving: bool,
}

/// Where a log ends.
#[derive(Clone, Copy, Debug, Deserialize_tuple, Eq, Ord, PartialEq, PartialOrd, Serialize_tuple)]
pub struct End {
    /// Which of a member's logs.
    pub epoch: u32,
    /// After so many leaves.
    pub size: u64,
    /// The root of its tree there.
    pub root: Digest,
}

impl End {
    /// The end of a log in which nothing was said.
    pub fn nothing(epoch: u32) -> Self {
        Self { epoch, size: 0, root: Digest::of(&[]) }
    }
}

/// How an applicant describes itself. The charter that admits it repeats these words, and they count there.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct Application {
    /// The organisation's name.
    pub name: String,
    /// Where it answers to the law.
    pub jurisdiction: Jurisdiction,
}

/// Why something is not a valid card.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CardError {
    /// Not canonical bytes of a card.
    #[error("not a card")]
    Codec(#[from] CodecError),
    /// Written by newer software.
    #[error("card format {0} is not known here; a newer version of hashmesh has written it")]
    Format(u64),
    /// A field that does not fit the others.
    #[error("{0}")]
    Rule(&'static str),
    /// A key that must have signed has not.
    #[error("the {role} key has not signed the card")]
    NotSigned {
        /// Which key.
        role: &'static str,
    },
    /// A signature that does not hold.
    #[error("a signature on the card is wrong")]
    Signature(#[from] KeyError),
}

/// A card whose keys have all signed it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Card {
    body: CardBody,
    id: CardId,
    bytes: Vec<u8>,
    signers: Vec<PublicKey>,
}

/// The wire form: the body's bytes as they were signed, and the signatures, ascending by key.
#[derive(Deserialize_tuple, Serialize_tuple)]
struct CardForm {
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    signatures: Vec<(PublicKey, Signature)>,
}

/// The four keys of a member, as `init` makes them.
pub struct MemberKeys {
    /// Votes on charters and signs cards; kept offline.
    pub governance: SecretKey,
    /// Signs checkpoints of the own log.
    pub log: SecretKey,
    /// Cosigns others' checkpoints.
    pub witness: SecretKey,
    /// The libp2p identity.
    pub node: SecretKey,
}

impl Card {
    /// Makes and signs a member's first card.
    pub fn first(member: MemberId, application: Application, keys: &MemberKeys) -> Result<Self, CardError> {
        let body = CardBody {
            format: FORMAT,
            network: None,
            member,
            counter: 0,
            previous: None,
            governance: keys.governance.public(),
            epoch: 0,
            log: keys.log.public(),
            witness: keys.witness.public(),
            nodes: vec![keys.node.public()],
            application: Some(application),
            ended: Vec::new(),
            evidence: Vec::new(),
            leaving: false,
        };
        Self::sign(&body, [&keys.governance, &keys.log, &keys.witness, &keys.node])
    }

    /// What the next card says if nothing changes.
    pub fn successor(&self, network: NetworkId) -> CardBody {
        CardBody {
            network: Some(network),
            counter: self.body.counter.saturating_add(1),
            previous: Some(self.id),
            application: None,
            evidence: Vec::new(),
            ..self.body.clone()
        }
    }

    /// Signs a card with the governance key and those keys on it that are new. Whether they are all is for
    /// [`follows`](Self::follows) to say.
    pub fn sign<'a>(body: &CardBody, keys: impl IntoIterator<Item = &'a SecretKey>) -> Result<Self, CardError> {
        body.check()?;
        let bytes = codec::encode(body);
        let sign = |secret: &SecretKey| (secret.public(), secret.sign(body.context(), &bytes));
        let mut signatures: Vec<_> = keys.into_iter().map(sign).collect();
        signatures.sort();
        Self::read(&codec::encode(&CardForm { body: bytes, signatures }))
    }

    /// Reads a card and verifies every signature on it. A first card must be signed by all its keys, a later one by the
    /// governance key on it; which others must have signed that depends on the card before ([`follows`](Self::follows)).
    pub fn read(bytes: &[u8]) -> Result<Self, CardError> {
        let form: CardForm = codec::decode(bytes, MAX_CARD)?;
        let body: CardBody = codec::decode(&form.body, MAX_CARD)?;
        body.check()?;
        if !form.signatures.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(CardError::Rule("signatures must ascend by key, one a key"));
        }
        for (signer, signature) in &form.signatures {
            if !body.keys().any(|(_, key)| key == *signer) {
                return Err(CardError::Rule("signed by a key that is not on the card"));
            }
            signer.verify(body.context(), &form.body, signature)?;
        }
        let signers: Vec<_> = form.signatures.into_iter().map(|(signer, _)| signer).collect();
        let must_sign = |role: &str| body.counter == 0 || role == "governance";
        let missing = body.keys().find(|(role, key)| must_sign(role) && signers.binary_search(key).is_err());
        if let Some((role, _)) = missing {
            return Err(CardError::NotSigned { role });
        }
        Ok(Self { id: CardId::of(&form.body), body, bytes: bytes.to_vec(), signers })
    }

    /// What it says.
    pub fn body(&self) -> &CardBody {
        &self.body
    }

    /// The id of the body; signatures are not part of it.
    pub fn id(&self) -> CardId {
        self.id
    }

    /// The signed bytes, as received.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl CardBody {
    fn context(&self) -> Context {
        Context { network: self.network.unwrap_or_default(), kind: Kind::Card }
    }

    /// Every key on the card, with what it is for.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, PublicKey)> + '_ {
        [("governance", self.governance), ("log", self.log), ("witness", self.witness)]
            .into_iter()
            .chain(self.nodes.iter().map(|node| ("node", *node)))
    }

    fn check(&self) -> Result<(), CardError> {
        let rule = |holds: bool, rule| if holds { Ok(()) } else { Err(CardError::Rule(rule)) };
        if self.format != FORMAT {
            return Err(CardError::Format(self.format));
        }
        let first = self.counter == 0;
        rule(first == self.previous.is_none(), "the first card, and no other, has none before it")?;
        rule(first == self.network.is_none(), "the first card, and no other, is of no federation yet")?;
        rule(first == self.application.is_some(), "the first card, and no other, is an application")?;
        rule((1..=MAX_NODES).contains(&self.nodes.len()), "a card has 1 to 8 node keys")?;
        rule(self.nodes.is_sorted_by(|a, b| a < b), "node keys must ascend and appear once")?;
        let begins = self.epoch == 0 && !self.leaving && self.evidence.is_empty();
        rule(!first || begins, "a first card begins with epoch 0; it neither ends a log nor leaves")?;
        // All earlier epochs have ended; of one that leaves, the last one too.
        let ends = u64::from(self.epoch) + u64::from(self.leaving);
        let complete = self.ended.len() as u64 == ends && (0u32..).zip(&self.ended).all(|(n, end)| end.epoch == n);
        rule(complete, "a card says where each earlier log ends, one entry an epoch from 0 on")?;
        rule(self.evidence.is_sorted_by(|a, b| a < b), "cited evidence must ascend, each once")?;
        // One key in two roles could sign in one what is meant for the other.
        let mut keys: Vec<_> = self.keys().map(|(_, key)| key).collect();
        keys.sort();
        rule(keys.is_sorted_by(|a, b| a < b), "a key may have one role only")?;
        self.application.as_ref().map_or(Ok(()), Application::check)
    }
}

impl Application {
    /// Checks the name.
    pub fn check(&self) -> Result<(), CardError> {
        let printable = !self.name.trim().is_empty() && self.name.chars().all(is_plain);
        if printable && self.name.len() <= MAX_NAME {
            return Ok(());
        }
        Err(CardError::Rule(
            "a member's name has 1 to 128 bytes, none of which control a terminal or hide or reorder text",
        ))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn keys(seed: u8) -> MemberKeys {
        let key = |role: u8| SecretKey::from_seed(&[seed.wrapping_mul(8).wrapping_add(role); 32]);
        MemberKeys { governance: key(1), log: key(2), witness: key(3), node: key(4) }
    }

    pub(crate) fn card(member: &str, jurisdiction: &str, seed: u8) -> Card {
        let application =
            Application { name: member.to_uppercase(), jurisdiction: jurisdiction.parse().expect("two capitals") };
        Card::first(member.parse().expect("a member id"), application, &keys(seed)).expect("a valid card")
    }

    fn form(card: &Card) -> CardForm {
        codec::decode(card.bytes(), MAX_CARD).unwrap()
    }

    #[test]
    fn a_first_card_reads_back_and_names_its_keys() {
        let card = card("acme", "FR", 1);
        let again = Card::read(card.bytes()).unwrap();
        assert_eq!(again, card);
        assert_eq!(again.body().nodes, [keys(1).node.public()]);
        assert_eq!(again.body().application.as_ref().unwrap().name, "ACME");
    }

    /// SPEC 9.2: possession of every key is proved.
    #[test]
    fn a_card_without_the_signature_of_each_of_its_keys_is_refused() {
        let card = card("acme", "FR", 1);
        for missing in 0..4 {
            let mut form = form(&card);
            form.signatures.remove(missing);
            assert!(matches!(Card::read(&codec::encode(&form)), Err(CardError::NotSigned { .. })), "{missing}");
        }
        let mut swapped = form(&card);
        swapped.signatures[0].1 = swapped.signatures[1].1;
        assert_eq!(Card::read(&codec::encode(&swapped)), Err(CardError::Signature(KeyError::BadSignature)));
        let mut extra = form(&card);
        extra.signatures.push((keys(2).log.public(), extra.signatures[0].1));
        extra.signatures.sort();
        assert!(matches!(Card::read(&codec::encode(&extra)), Err(CardError::Rule(_))));
    }

    #[test]
    fn rules_of_the_body_are_checked() {
        let change = |change: fn(&mut CardBody)| {
            let mut body = card("acme", "FR", 1).body().clone();
            change(&mut body);
            body.check()
        };
        assert_eq!(change(|_| ()), Ok(()));
        assert_eq!(change(|body| body.format = 2), Err(CardError::Format(2)));
        for broken in [
            change(|body| body.counter = 1),
            change(|body| body.network = Some(NetworkId::default())),
            change(|body| body.application = None),
            change(|body| body.nodes.clear()),
            change(|body| body.nodes = vec![body.nodes[0]; 2]),
            change(|body| body.log = body.witness),
            change(|body| body.leaving = true),
            change(|body| body.epoch = 1),
            change(|body| body.evidence = vec![Digest::default()]),
            change(|body| body.application.as_mut().unwrap().name = " ".into()),
            change(|body| body.application.as_mut().unwrap().name = "a\u{7}".into()),
            change(|body| body.application.as_mut().unwrap().name = "x".repeat(129)),
        ] {
            assert!(matches!(broken, Err(CardError::Rule(_))), "{broken:?}");
        }
    }
}
