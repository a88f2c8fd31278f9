//! Charters and cards of an export: whose keys are whose, and since when.

use super::{Fault, FileFault, Files, Finding};
use crate::armor::{self, Document, MAX_FILE};
use crate::export::{self, DocumentsError};
use crate::federation::Federation;
use crate::names::LogId;
use crate::time::Timestamp;

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
    /// No charter.
    #[error("there is no charter in {}/: is this the folder of an export?", export::CHARTERS)]
    NoCharter,
    /// Charters, signatures and cards that do not go together.
    #[error("charters, signatures and cards do not go together")]
    Documents(#[from] DocumentsError),
    /// No log.
    #[error("there is no log in {}/", export::LOGS)]
    NoLogs,
}

/// The federation as the documents have it, and what is odd about their files.
pub(super) struct Documents {
    pub(super) federation: Federation,
    pub(super) findings: Vec<Finding>,
}

/// Reads the charters and the cards.
pub(super) fn read<F: Files>(files: &F) -> Result<Documents, Unusable> {
    let (mut all, mut kept, mut findings) = (Vec::new(), Vec::new(), Vec::new());
    for folder in [export::CHARTERS, export::CARDS] {
        let names = files.names(folder).map_err(|error| Unusable::File { file: folder.to_owned(), error })?;
        for name in names {
            let file = format!("{folder}/{name}");
            // A file that is none of an export's must not keep anybody from reading the others.
            let text = match text(files, &file) {
                Ok(text) => text,
                Err(fault) => {
                    findings.push(Finding::of(file, fault.into()));
                    continue;
                }
            };
            let Ok(documents) = armor::read(&text) else {
                findings.push(Finding::of(file, Fault::NotAsWritten));
                continue;
            };
            if armor::write(&documents) != text {
                findings.push(Finding::of(file.clone(), Fault::NotAsWritten));
            }
            kept.push((file, documents.first().cloned()));
            all.extend(documents);
        }
    }
    if !all.iter().any(|document| matches!(document, Document::Charter(_))) {
        return Err(Unusable::NoCharter);
    }
    let (_, governance) = export::governance(all)?;
    let federation = governance.federation();
    for (file, first) in kept {
        let named = match first {
            Some(Document::Charter(charter)) => export::charter(charter.body().version),
            Some(Document::Card(card)) => export::file_of(&card, &federation),
            _ => String::new(),
        };
        if named != file {
            findings.push(Finding::of(file, Fault::NotAsWritten));
        }
    }
    Ok(Documents { federation: Federation::clone(&federation), findings })
}

/// What the export says that whoever made it does not hold. Without such a file it says nothing of the kind.
pub(super) fn not_held<F: Files>(files: &F) -> Result<Vec<(LogId, u64, Timestamp)>, Fault> {
    let bytes = match files.read(export::NOT_HELD, MAX_FILE) {
        Err(FileFault::Missing) => return Ok(Vec::new()),
        read => read?,
    };
    let text = String::from_utf8(bytes).map_err(|_| Fault::NotAsWritten)?;
    let parse = |line: &str| {
        let (place, since) = line.split_once(' ')?;
        let mut parts = place.split('/');
        let (member, epoch, index) =
            (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((LogId { member, epoch }, index, Timestamp(since.parse().ok()?)))
    };
    let places: Vec<_> = text.lines().map(parse).collect::<Option<_>>().ok_or(Fault::NotAsWritten)?;
    let again: String = places.iter().map(|(log, index, since)| export::not_held(*log, *index, *since)).collect();
    let ascends = places.windows(2).all(|pair| (pair[0].0, pair[0].1) < (pair[1].0, pair[1].1));
    if again == text && ascends { Ok(places) } else { Err(Fault::NotAsWritten) }
}

/// A file of text.
pub(super) fn text<F: Files>(files: &F, path: &str) -> Result<String, FileFault> {
    let bytes = files.read(path, MAX_FILE)?;
    String::from_utf8(bytes).map_err(|_| FileFault::Unreadable("it is not UTF-8 text".to_owned()))
}
