//! Charters, cards and signatures in files.

use std::path::{Path, PathBuf};

use hashmesh_protocol::armor::{self, ArmorError, Document, MAX_FILE};
use hashmesh_protocol::card::Card;
use hashmesh_protocol::charter::{Approval, Charter, Genesis, GenesisError};

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
}

/// Why files have no documents.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// The file.
    #[error(transparent)]
    Folder(#[from] FolderError),
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
            let documents = armor::read(&text);
            for document in documents.map_err(|error| DocumentsError::Armor { path: path.to_owned(), error })? {
                match document {
                    Document::Charter(charter) if !found.charters.contains(&charter) => found.charters.push(*charter),
                    Document::Card(card) if !found.cards.contains(&card) => found.cards.push(*card),
                    Document::Approval(approval) => found.approvals.push(approval),
                    Document::Charter(_) | Document::Card(_) => {}
                }
            }
        }
        Ok(found)
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
