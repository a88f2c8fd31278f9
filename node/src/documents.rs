//! Charters, cards, signatures and what else is mailed between members, in files.

use std::path::{Path, PathBuf};

use hashmesh_protocol::armor::{self, ArmorError, Document, MAX_FILE};
use hashmesh_protocol::card::{Card, CardDraft};
use hashmesh_protocol::charter::{Approval, Charter, Genesis, GenesisError};
use hashmesh_protocol::governance::{self, Bundle, Invitation, Withdrawal};

use crate::folder::{FolderError, read_text};

/// Everything that was found in some files.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Charters, each once.
    pub charters: Vec<Charter>,
    /// Cards, each once.
    pub cards: Vec<Card>,
    /// Signatures.
    pub approvals: Vec<Approval>,
    /// Proposals.
    pub proposals: Vec<Bundle>,
    /// Cards that their governance keys have not signed yet.
    pub drafts: Vec<CardDraft>,
    /// Invitations.
    pub invitations: Vec<Invitation>,
    /// Votes that were thought better of.
    pub withdrawals: Vec<Withdrawal>,
}

/// Why files have no documents.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// The file.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What is in a text.
    #[error(transparent)]
    Text(#[from] ArmorError),
    /// What is in it.
    #[error("{path}")]
    Armor {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: ArmorError,
    },
    /// No charter in any of them.
    #[error("no charter in these files")]
    NoCharter,
    /// More than one.
    #[error("{0} different charters in these files; one is needed")]
    Charters(usize),
    /// Not the beginning of a federation.
    #[error("this is not the beginning of a federation yet")]
    Genesis(#[from] GenesisError),
}

impl Found {
    /// Reads files and puts together what is in them.
    pub fn in_files(paths: &[impl AsRef<Path>]) -> Result<Self, DocumentsError> {
        let mut found = Self::default();
        for path in paths {
            let path = path.as_ref();
            let text = read_text(path, MAX_FILE as u64)?;
            let added = found.add(&text);
            added.map_err(|error| DocumentsError::Armor { path: path.to_owned(), error })?;
        }
        Ok(found)
    }

    /// Puts together what is in a text.
    pub fn in_text(text: &str) -> Result<Self, DocumentsError> {
        let mut found = Self::default();
        found.add(text)?;
        Ok(found)
    }

    fn add(&mut self, text: &str) -> Result<(), ArmorError> {
        for document in armor::read(text)? {
            match document {
                Document::Charter(charter) if !self.charters.contains(&charter) => self.charters.push(*charter),
                Document::Card(card) if !self.cards.contains(&card) => self.cards.push(*card),
                Document::Approval(approval) => self.approvals.push(approval),
                Document::Proposal(proposal) => self.proposals.push(*proposal),
                Document::Draft(draft) => self.drafts.push(*draft),
                Document::Invitation(invitation) => self.invitations.push(invitation),
                Document::Withdrawal(withdrawal) => self.withdrawals.push(withdrawal),
                Document::Charter(_) | Document::Card(_) => {}
            }
        }
        Ok(())
    }

    /// The signed beginning of a federation; and what is here of what came after it.
    pub fn begin(&self) -> Result<(Genesis, Self), DocumentsError> {
        let (begun, later): (Vec<_>, Vec<_>) =
            self.charters.iter().cloned().partition(|charter| charter.body().version == 0);
        let first = Self { charters: begun, ..self.clone() };
        let id = first.charter()?.id();
        let (begun, after): (Vec<_>, Vec<_>) =
            self.approvals.iter().cloned().partition(|approval| approval.charter == id);
        let cards = self.cards.iter().filter(|card| card.body().counter == 0).cloned().collect();
        let genesis = Self { approvals: begun, cards, ..first }.genesis()?;
        Ok((genesis, Self { charters: later, approvals: after, ..self.clone() }))
    }

    /// As nodes exchange it: charters in the order of their versions with signatures and cards, then what is loose. What stands in
    /// proposals counts like what stands by itself. Version 0 is known to every node, so only what came after it is there.
    pub fn governance(&self) -> Vec<governance::Document> {
        let proposed = self.proposals.iter().map(Bundle::proposed);
        let mut charters: Vec<&Charter> =
            self.charters.iter().chain(proposed).filter(|charter| charter.body().version > 0).collect();
        charters.sort_by_key(|charter| (charter.body().version, charter.id()));
        charters.dedup_by_key(|charter| charter.id());
        let mut cards: Vec<&Card> = self.cards.iter().chain(self.proposals.iter().flat_map(Bundle::cards)).collect();
        cards.sort_by_key(|card| (card.body().member, card.body().counter, card.id()));
        cards.dedup_by_key(|card| card.id());
        let mut documents = Vec::new();
        for charter in &charters {
            let approvals =
                self.approvals.iter().filter(|approval| approval.charter == charter.id()).cloned().collect();
            let cards = cards.iter().map(|card| (*card).clone()).collect();
            documents.push(governance::Document::Charter { charter: Box::new((*charter).clone()), approvals, cards });
        }
        let is_loose = |approval: &&Approval| charters.iter().all(|charter| charter.id() != approval.charter);
        let loose = self.approvals.iter().filter(is_loose).cloned();
        documents.extend(loose.map(governance::Document::Approval));
        documents.extend(self.withdrawals.iter().cloned().map(governance::Document::Withdrawal));
        // A first card is an application: without a charter that names it nobody takes it.
        let later = cards.into_iter().filter(|card| card.body().counter > 0);
        documents.extend(later.map(|card| governance::Document::Card(Box::new(card.clone()))));
        documents
    }

    /// The one charter.
    pub fn charter(&self) -> Result<&Charter, DocumentsError> {
        match self.charters.as_slice() {
            [charter] => Ok(charter),
            [] => Err(DocumentsError::NoCharter),
            several => Err(DocumentsError::Charters(several.len())),
        }
    }

    /// The signed beginning of a federation.
    pub fn genesis(&self) -> Result<Genesis, DocumentsError> {
        Ok(Genesis::open(self.charter()?.clone(), &self.cards, self.approvals.iter().cloned())?)
    }
}

/// The file of a signed beginning: charter, cards, signatures.
pub fn write_genesis(genesis: &Genesis) -> String {
    let charter = Document::Charter(Box::new(genesis.charter().clone()));
    let cards = genesis.cards().values().cloned().map(Box::new).map(Document::Card);
    let approvals = genesis.approvals().iter().cloned().map(Document::Approval);
    let all: Vec<Document> = std::iter::once(charter).chain(cards).chain(approvals).collect();
    armor::write(&all)
}
