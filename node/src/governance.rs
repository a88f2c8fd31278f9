//! Charters and cards as this node has them: what readers see, and the file that keeps them (SPEC 21.12).
//!
//! A file and not the store: they are needed before the store is opened, and stay where a damaged store is set aside.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hashmesh_protocol::charter::Genesis;
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::governance::Stored;
use hashmesh_protocol::governance::stored::StoredError;

use crate::clock;
use crate::documents::{DocumentsError, Found};
use crate::folder::{Folder, FolderError, at, replace};

/// What readers see. The driver sets it once it is durable.
pub struct Current(ArcSwap<Stored>);

impl Current {
    /// What was loaded.
    pub fn new(stored: Stored) -> Self {
        Self(ArcSwap::from_pointee(stored))
    }

    /// Charters and cards.
    pub fn load(&self) -> Arc<Stored> {
        self.0.load_full()
    }

    /// The federation as it stands.
    pub fn federation(&self) -> Arc<Federation> {
        self.0.load().governance.federation()
    }

    /// Something is held that was not before.
    pub fn store(&self, stored: Arc<Stored>) {
        self.0.store(stored);
    }
}

/// The federation as a node's folder has it, whether or not the node runs.
pub fn in_folder(folder: &Folder) -> Result<Stored, InFolderError> {
    let path = folder.genesis();
    if !path.exists() {
        return Err(InFolderError::NotJoined(path));
    }
    let genesis = Found::in_files(&[&path]).and_then(|found| found.genesis())?;
    Ok(GovernanceFile::new(folder.governance()).load(&genesis)?)
}

/// Why a folder has no federation.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each transparent variant is the error of the part it names")]
pub enum InFolderError {
    #[error(transparent)]
    Documents(#[from] DocumentsError),
    #[error(transparent)]
    File(#[from] GovernanceFileError),
    /// The node has joined no federation.
    #[error("{0} is missing: this node has joined no federation yet (hashmesh join)")]
    NotJoined(PathBuf),
}

/// Why the file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GovernanceFileError {
    /// The file.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What is in it.
    #[error(
        "{path} is damaged: put it back from a backup, or move it away: peers are asked for charters and cards again, and what was \
         chosen here (hashmesh charter choose) must be chosen again"
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: StoredError,
    },
}

/// The file `governance`.
pub struct GovernanceFile {
    path: PathBuf,
}

impl GovernanceFile {
    /// The file at this path, whether or not it is there.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Reads it; without it the federation is at its beginning.
    pub fn load(&self, genesis: &Genesis) -> Result<Stored, GovernanceFileError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Stored::new(genesis, clock::now()));
            }
            Err(error) => return Err(at(&self.path, error).into()),
        };
        let damaged = |error| GovernanceFileError::Damaged { path: self.path.clone(), error };
        let (stored, refused) = Stored::decode(genesis, &bytes).map_err(damaged)?;
        for (document, error) in refused {
            tracing::debug!(id = %document.id(), %error, "a stored charter or card has no effect any more");
        }
        Ok(stored)
    }

    /// Writes it, durably.
    pub fn write(&self, stored: &Stored) -> Result<(), FolderError> {
        replace(&self.path, &stored.encode()).map_err(|error| at(&self.path, error))
    }
}
