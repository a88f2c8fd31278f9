//! Documents as files: PEM blocks (RFC 7468) that can be mailed, pasted, concatenated.
//!
//! Order and repetition mean nothing, so signature files are merged with `cat`. Text outside of the blocks is for people and
//! ignored; what counts is inside, and verified.

use std::fmt::Write as _;

use pem::{EncodeConfig, LineEnding, Pem};

use crate::card::{Card, CardDraft, CardError};
use crate::charter::{Approval, Charter, CharterError};
use crate::codec::{self, CodecError};
use crate::evidence::{Evidence, MAX_EVIDENCE};
use crate::governance::{Bundle, BundleError, Invitation, Withdrawal};

const CARD: &str = "HASHMESH CARD";
const CHARTER: &str = "HASHMESH CHARTER";
const APPROVAL: &str = "HASHMESH CHARTER SIGNATURE";
const EVIDENCE: &str = "HASHMESH EVIDENCE";
const PROPOSAL: &str = "HASHMESH PROPOSAL";
const DRAFT: &str = "HASHMESH CARD DRAFT";
const INVITATION: &str = "HASHMESH INVITATION";
const WITHDRAWAL: &str = "HASHMESH CHARTER WITHDRAWAL";

/// Longest file that is read: a charter of a thousand members with all their cards and signatures.
pub const MAX_FILE: usize = 16 * 1024 * 1024;

/// Longest file of evidence that is read: base64 with line ends, and a line for people.
pub const MAX_EVIDENCE_FILE: usize = MAX_EVIDENCE / 2 * 3 + 1024;

/// A document in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Document {
    /// A card, verified.
    Card(Box<Card>),
    /// A charter, without its signatures.
    Charter(Box<Charter>),
    /// A signature on a charter, unverified: only the charter knows the keys.
    Approval(Approval),
    /// A proposal with everything that a governance key needs to know, verified.
    Proposal(Box<Bundle>),
    /// A card that its governance key has not signed yet; the other signatures are verified.
    Draft(Box<CardDraft>),
    /// An invitation.
    Invitation(Invitation),
    /// That a member has thought better of its vote, unverified likewise.
    Withdrawal(Withdrawal),
}

/// Why a file has no documents of ours.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ArmorError {
    /// Longer than [`MAX_FILE`].
    #[error("longer than {MAX_FILE} bytes")]
    TooLong,
    /// Blocks that are damaged.
    #[error("a damaged block: {0}")]
    Damaged(String),
    /// No block at all.
    #[error("no -----BEGIN HASHMESH …----- block in it")]
    Nothing,
    /// Not evidence alone.
    #[error("not one -----BEGIN {EVIDENCE}----- block")]
    NotOneEvidence,
    /// A proposal that is not valid.
    #[error("the proposal in it is not valid")]
    Proposal(#[from] BundleError),
    /// A block of another kind.
    #[error("a block {0:?}, which is no document of hashmesh that is used here")]
    Foreign(String),
    /// A card that is not valid.
    #[error("the card in it is not valid")]
    Card(#[from] CardError),
    /// A charter that is not valid.
    #[error("the charter in it is not valid")]
    Charter(#[from] CharterError),
    /// A signature or an invitation that is not one.
    #[error("what is in it is damaged")]
    Approval(#[from] CodecError),
}

/// The documents of a file, in its order.
pub fn read(text: &str) -> Result<Vec<Document>, ArmorError> {
    blocks(text)?.iter().map(read_block).collect()
}

fn blocks(text: &str) -> Result<Vec<Pem>, ArmorError> {
    if text.len() > MAX_FILE {
        return Err(ArmorError::TooLong);
    }
    let blocks = pem::parse_many(text).map_err(|error| ArmorError::Damaged(error.to_string()))?;
    // The parser passes over blocks that it cannot make out; an operator must hear of them.
    let begun = text.matches("-----BEGIN ").count();
    match blocks.len() {
        0 if begun == 0 => return Err(ArmorError::Nothing),
        whole if whole != begun => return Err(ArmorError::Damaged(format!("{begun} blocks begin, {whole} are whole"))),
        _ => {}
    }
    Ok(blocks)
}

fn read_block(block: &Pem) -> Result<Document, ArmorError> {
    match block.tag() {
        CARD => Ok(Document::Card(Box::new(Card::read(block.contents())?))),
        CHARTER => Ok(Document::Charter(Box::new(Charter::read(block.contents())?))),
        APPROVAL => Ok(Document::Approval(codec::decode(block.contents(), 1024)?)),
        PROPOSAL => Ok(Document::Proposal(Box::new(Bundle::decode(block.contents())?))),
        DRAFT => Ok(Document::Draft(Box::new(CardDraft::read(block.contents())?))),
        INVITATION => Ok(Document::Invitation(Invitation::decode(block.contents())?)),
        WITHDRAWAL => Ok(Document::Withdrawal(codec::decode(block.contents(), 1024)?)),
        other => Err(ArmorError::Foreign(other.to_owned())),
    }
}

/// The file form of some documents, each with a line for people.
pub fn write<'a>(documents: impl IntoIterator<Item = &'a Document>) -> String {
    let mut text = String::new();
    for document in documents {
        let (caption, tag, bytes) = match document {
            Document::Card(card) => (caption_of_card(card), CARD, card.bytes().to_vec()),
            Document::Charter(charter) => {
                let (body, id) = (charter.body(), charter.id());
                let caption = format!("charter of {}, version {}, id {id}", body.federation, body.version);
                (caption, CHARTER, charter.bytes().to_vec())
            }
            Document::Approval(approval) => {
                let caption = format!("signature of {} on charter {}", approval.member, approval.charter);
                (caption, APPROVAL, codec::encode(approval))
            }
            Document::Proposal(bundle) => {
                let (body, id) = (bundle.proposed().body(), bundle.proposed().id());
                let caption = format!("proposal for {}, version {}, id {id}", body.federation, body.version);
                (caption, PROPOSAL, bundle.encode())
            }
            Document::Draft(draft) => {
                let body = draft.body();
                let caption =
                    format!("card of {}, number {}, to be signed by its governance key", body.member, body.counter);
                (caption, DRAFT, draft.bytes())
            }
            Document::Withdrawal(withdrawal) => {
                let caption =
                    format!("{} withdraws its signature on charter {}", withdrawal.member, withdrawal.charter);
                (caption, WITHDRAWAL, codec::encode(withdrawal))
            }
            Document::Invitation(invitation) => {
                let caption = format!("invitation to network {}, charter {}", invitation.network, invitation.charter);
                (caption, INVITATION, invitation.encode())
            }
        };
        write!(text, "{caption}\n{}", block(tag, bytes)).expect("writing to memory");
    }
    text
}

fn block(tag: &str, bytes: Vec<u8>) -> String {
    pem::encode_config(&Pem::new(tag, bytes), EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// The bytes of what a file says is evidence, unverified: only the federation knows the keys.
pub fn read_evidence(text: &str) -> Result<Vec<u8>, ArmorError> {
    match blocks(text)?.as_slice() {
        [block] if block.tag() == EVIDENCE => Ok(block.contents().to_vec()),
        _ => Err(ArmorError::NotOneEvidence),
    }
}

/// The file form of evidence, with a line for people.
pub fn write_evidence(evidence: &Evidence) -> String {
    format!("evidence against {}\n{}", evidence.accused(), block(EVIDENCE, evidence.bytes().to_vec()))
}

fn caption_of_card(card: &Card) -> String {
    let body = card.body();
    let mut caption = format!("card of {}", body.member);
    if let Some(application) = &body.application {
        // A name must not look like the beginning of a block.
        let name = application.name.replace("-----", "");
        write!(caption, " ({name}, {})", application.jurisdiction).expect("writing to memory");
    }
    write!(caption, ", number {}, id {}", body.counter, card.id()).expect("writing to memory");
    caption
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::tests::{card, keys};
    use crate::charter::tests::charter;

    fn documents() -> Vec<Document> {
        let approval = charter().approve("acme".parse().unwrap(), &keys(0).governance);
        vec![
            Document::Charter(Box::new(charter())),
            Document::Card(Box::new(card("acme", "FR", 0))),
            Document::Approval(approval),
            Document::Invitation(Invitation::new(charter().network(), charter().id(), [])),
        ]
    }

    #[test]
    fn documents_survive_their_file_form_and_files_are_merged_by_concatenation() {
        let text = write(&documents());
        assert_eq!(read(&text), Ok(documents()));
        assert!(text.starts_with("charter of safety.example, version 0, id "));
        let one_by_one: String = documents().iter().map(|document| write([document])).collect();
        assert_eq!(one_by_one, text);
        assert_eq!(read(&text.replace('\n', "\r\n")), Ok(documents()), "mailed by way of Windows");
    }

    #[test]
    fn damaged_and_foreign_files_are_refused() {
        let text = write(&documents());
        assert_eq!(read(""), Err(ArmorError::Nothing));
        assert_eq!(read("hello"), Err(ArmorError::Nothing));
        let cut = &text[..text.len() - 40];
        assert!(matches!(read(cut), Err(ArmorError::Damaged(_))), "{:?}", read(cut));
        let card = write(&documents()[1..2]);
        let cut = &card[..card.len() - 40];
        assert!(matches!(read(cut), Err(ArmorError::Damaged(_))), "the only block: {:?}", read(cut));
        let key = keys(0).log.to_pem();
        assert_eq!(read(&key), Err(ArmorError::Foreign("PRIVATE KEY".into())));
        let at = text.find("BEGIN HASHMESH CARD").unwrap() + 200;
        let mut flipped = text.into_bytes();
        flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
        assert!(read(std::str::from_utf8(&flipped).unwrap()).is_err());
    }
}
