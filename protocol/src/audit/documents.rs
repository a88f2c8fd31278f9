//! Charters and cards of an export: whose keys are whose.

use super::{Fault, FileFault, Files, Finding};
use crate::armor::{self, ArmorError, Document, MAX_FILE};
use crate::charter::{Genesis, GenesisError};
use crate::export;
use crate::federation::Federation;

/// Why files are no export that could be looked at.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unusable {
    /// A file without which nothing can be said.
    #[error("{file}")]
    File {
        /// Which.
        file: String,
        /// Why not.
        #[source]
        error: FileFault,
    },
    /// A file that holds no document.
    #[error("{file}")]
    Document {
        /// Which.
        file: String,
        /// Why not.
        #[source]
        error: ArmorError,
    },
    /// No charter.
    #[error("there is no charter in {}/: is this the folder of an export?", export::CHARTERS)]
    NoCharter,
    /// Later versions, of newer software.
    #[error(
        "{0} versions of the charter, of which this version of hashmesh can follow only the first: use a newer one"
    )]
    LaterCharters(usize),
    /// Charter, signatures and cards that do not go together.
    #[error("charter, signatures and cards do not go together")]
    Genesis(#[from] GenesisError),
    /// No log.
    #[error("there is no log in {}/", export::LOGS)]
    NoLogs,
}

/// The federation as the documents have it, and what is odd about their files.
pub(super) struct Documents {
    pub(super) federation: Federation,
    pub(super) findings: Vec<Finding>,
}

/// Reads the charter and the cards.
pub(super) fn read<F: Files>(files: &F) -> Result<Documents, Unusable> {
    let (mut charters, mut cards, mut approvals, mut findings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for folder in [export::CHARTERS, export::CARDS] {
        let names = files.names(folder).map_err(|error| Unusable::File { file: folder.to_owned(), error })?;
        for name in names {
            let file = format!("{folder}/{name}");
            let text = text(files, &file)?;
            let documents = armor::read(&text).map_err(|error| Unusable::Document { file: file.clone(), error })?;
            let named = match documents.first() {
                Some(Document::Charter(charter)) => export::charter(charter.body().version),
                Some(Document::Card(card)) => export::card(card.body().member, card.body().counter),
                _ => String::new(),
            };
            if named != file || armor::write(&documents) != text {
                findings.push(Finding::of(file, Fault::NotAsWritten));
            }
            for document in documents {
                match document {
                    Document::Charter(charter) => charters.push(*charter),
                    Document::Card(card) => cards.push(*card),
                    Document::Approval(approval) => approvals.push(approval),
                }
            }
        }
    }
    let count = charters.len();
    let charter = charters.pop().ok_or(Unusable::NoCharter)?;
    if count > 1 {
        return Err(Unusable::LaterCharters(count));
    }
    let genesis = Genesis::open(charter, &cards, approvals)?;
    Ok(Documents { federation: Federation::new(&genesis), findings })
}

/// A file of text.
pub(super) fn text<F: Files>(files: &F, path: &str) -> Result<String, Unusable> {
    let unusable = |error| Unusable::File { file: path.to_owned(), error };
    let bytes = files.read(path, MAX_FILE).map_err(unusable)?;
    String::from_utf8(bytes).map_err(|_| unusable(FileFault::Unreadable("it is not UTF-8 text".to_owned())))
}
