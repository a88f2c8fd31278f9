//! The data folder of a node: what lies where, and who may look at it.
//!
//! ```text
//! DATA/               0710
//!   config.toml       addresses to listen on, addresses of peers
//!   policy.toml       what this platform does with what the members say
//!   MEMBER.card       the member's card, for the other founders
//!   quarantine.json   who and what waits until a person has looked
//!   genesis.charter   the federation, once joined
//!   governance        later charters, cards, and what was chosen
//!   keys/             log.key, witness.key, node.key (0600, PKCS#8 PEM), and *.next.key while they are rotated
//!   forgotten.json    what this node does not hold by its own decision, by keyed digests; if there is such
//!   signer            what was signed last; never restored from a backup
//!   heads             the newest checkpoint of every log, a second witness beside the store
//!   store/            the database (0700); store.damaged-* are those that were set aside
//!   carried.jsonl     what is to be said again in a federation that was founded anew
//!   network-*         what belongs to the one before it
//!   decisions.log     every act through the admin socket, hash-chained
//!   run/              query.sock (0660), admin.sock (0600), feed.sock (0660) if wanted
//! ```
//!
//! The governance key is not here: it stays offline, in a folder of its own.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Longest policy file, in bytes: a negative list of 200,000 hashes.
pub const MAX_POLICY: u64 = 16 * 1024 * 1024;

/// A data folder.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

/// Why a file of the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file or folder.
    #[error("{path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// There is one already.
    #[error("{path} exists already; nothing was changed")]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// Others may read a secret.
    #[error("{path} can be read by others (mode {mode:03o}); run: chmod 600 {path}")]
    Loose {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Others may look into a folder that is the node's own.
    #[error("{path} is open to others (mode {mode:03o}); run: chmod 700 {path}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is no node here.
    #[error("{path} is missing: no node has been set up in this folder (hashmesh init), or --data names another one")]
    NoNode {
        /// What was looked for.
        path: PathBuf,
    },
}

impl Folder {
    /// The folder at this path, whether or not it is there.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `config.toml`.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// `policy.toml`.
    pub fn policy(&self) -> PathBuf {
        self.root.join("policy.toml")
    }

    /// `genesis.charter`.
    pub fn genesis(&self) -> PathBuf {
        self.root.join("genesis.charter")
    }

    /// `governance`.
    pub fn governance(&self) -> PathBuf {
        self.root.join("governance")
    }

    /// `keys/`.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// `quarantine.json`.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine.json")
    }

    /// `forgotten.json`.
    pub fn forgotten(&self) -> PathBuf {
        self.root.join("forgotten.json")
    }

    /// `signer`.
    pub fn signer(&self) -> PathBuf {
        self.root.join("signer")
    }

    /// `heads`.
    pub fn heads(&self) -> PathBuf {
        self.root.join("heads")
    }

    /// `store/`.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// `decisions.log`.
    pub fn decisions(&self) -> PathBuf {
        self.root.join("decisions.log")
    }

    /// `run/`.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// `run/query.sock`.
    pub fn query_socket(&self) -> PathBuf {
        self.run().join("query.sock")
    }

    /// `run/admin.sock`.
    pub fn admin_socket(&self) -> PathBuf {
        self.run().join("admin.sock")
    }

    /// `run/feed.sock`, if the node has one.
    pub fn feed_socket(&self) -> PathBuf {
        self.run().join("feed.sock")
    }

    /// Makes the folder, which the owner's group may pass through on its way to the query socket, and what only the owner
    /// may look into.
    pub fn create(&self) -> Result<(), FolderError> {
        make_folder(&self.root, 0o710)?;
        make_private(&self.keys())?;
        make_private(&self.store())
    }
}

/// Makes a folder with these permissions unless it is there.
pub fn make_folder(path: &Path, mode: u32) -> Result<(), FolderError> {
    if path.is_dir() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.and_then(|()| sync_parent(path)).map_err(|error| at(path, error))
}

/// Makes a folder that nobody but its owner may look into, unless it is there. One that is there and open to others is
/// refused: somebody must know who has looked.
pub fn make_private(path: &Path) -> Result<(), FolderError> {
    make_folder(path, 0o700)?;
    let mode = fs::metadata(path).map_err(|error| at(path, error))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FolderError::Open { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Writes a new file, durably, with these permissions from the first moment on. Never replaces one.
pub fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), FolderError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => FolderError::Exists { path: path.to_owned() },
        _ => at(path, error),
    })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
    written.map_err(|error| at(path, error))
}

/// Replaces a file, or makes it for its owner alone, so that after a crash either the old or the new one is there, whole. A file that
/// is there keeps its permissions.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    if let Ok(old) = fs::metadata(path) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_parent(path)
}

/// Makes an entry of a folder survive the loss of power.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Reads a text file of at most `max` bytes.
pub fn read_text(path: &Path, max: u64) -> Result<String, FolderError> {
    let size = fs::metadata(path).map_err(|error| at(path, error))?.len();
    if size > max {
        let error = io::Error::new(io::ErrorKind::FileTooLarge, format!("{size} bytes, more than {max}"));
        return Err(at(path, error));
    }
    fs::read_to_string(path).map_err(|error| at(path, error))
}

/// Reads a secret, which nobody but its owner may be able to read.
pub fn read_secret(path: &Path) -> Result<String, FolderError> {
    let metadata = fs::metadata(path).map_err(|error| at(path, error))?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FolderError::Loose { path: path.to_owned(), mode });
    }
    read_text(path, 64 * 1024)
}

/// An I/O error, with the path it is about.
pub fn at(path: &Path, error: io::Error) -> FolderError {
    FolderError::Io { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_that_others_can_read_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.key");
        write_new(&path, 0o600, b"secret").unwrap();
        assert_eq!(read_secret(&path).unwrap(), "secret");
        for mode in [0o640, 0o604, 0o644, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read_secret(&path).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn nothing_is_ever_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write_new(&path, 0o600, b"one").unwrap();
        assert!(matches!(write_new(&path, 0o600, b"two"), Err(FolderError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn folders_of_secrets_are_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        make_private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        for mode in [0o710, 0o750, 0o755, 0o701] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(make_private(&path).unwrap_err().to_string().contains("chmod 700"), "{mode:o}");
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        replace(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
