//! Backups: a folder that holds all a node needs to be made anew, but what must never go back in time.
//!
//! ```text
//! BACKUP/             0700
//!   export/           the logs with their openings, as `hashmesh audit export` writes and `audit verify` verifies them
//!   node/             config, policy, quarantine, card, charter, decision log, and what had been signed
//!   node/keys/        the working keys, only if they were asked for
//! ```
//!
//! What the database holds is written as statements, not as its files: consistent while the node runs, and whatever is
//! restored goes through the same admission as if it came from a peer. A folder is continued, as an export is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashmesh_protocol::armor;
use hashmesh_protocol::audit::{self, FileFault, Files as _, Unusable};
use hashmesh_protocol::bundle;
use hashmesh_protocol::checkpoint::{CheckpointError, SignedCheckpoint};
use hashmesh_protocol::cosignature::SettledCheckpoint;
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::entries::{Entries, MAX_LEAVES};
use hashmesh_protocol::evidence::Evidence;
use hashmesh_protocol::export;
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::ledger::{Ledger, Mark};
use hashmesh_protocol::names::{LogId, MemberId};
use hashmesh_protocol::note::{MAX_NOTE, Note};
use hashmesh_protocol::opening::MAX_OPENING;
use hashmesh_protocol::statement::MAX_LEAF;
use hashmesh_protocol::tree::tile::{TILE_WIDTH, TileKind};
use serde::{Deserialize, Serialize};

use crate::audit::ExportFolder;
use crate::client::Client;
use crate::config::{Config, ConfigError};
use crate::documents::{DocumentsError, Found};
use crate::export::{ExportError, Exported, Wanted};
use crate::folder::{Folder, FolderError, at, make_folder, make_private, read_text, replace, sync_parent, write_new};
use crate::governance::{GovernanceFile, GovernanceFileError};
use crate::keys::{self, KeysError};
use crate::sentence::sentence;
use crate::signer::{Signer, SignerError};
use crate::store::{DiskStore, Record, Store as _, StoreError};

/// The logs.
const EXPORT: &str = "export";

/// What is the node's own.
const NODE: &str = "node";

/// What had been signed when the backup was made.
const SIGNED: &str = "signed.json";

/// Files of the data folder that are copied if they are there. The card's name is the member's.
const COPIED: [&str; 7] = [
    "config.toml",
    "policy.toml",
    "quarantine.json",
    "forgotten.json",
    "genesis.charter",
    "governance",
    "decisions.log",
];

/// The working keys.
const KEYS: [&str; 3] = ["log.key", "witness.key", "node.key"];

/// Those that take their place, while they are rotated.
const NEXT_KEYS: [&str; 3] = ["log.next.key", "witness.next.key", "node.next.key"];

/// Longest `signed.json`, in bytes: a thousand members' logs and cosigned ones with some epochs.
const MAX_SIGNED: u64 = 16 * 1024 * 1024;

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each transparent variant is the error of the part it names")]
pub enum BackupError {
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Governance(#[from] GovernanceFileError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Signer(#[from] SignerError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Unusable(#[from] Unusable),
    /// No backup.
    #[error("{0} is missing: this is no whole backup")]
    NotABackup(PathBuf),
    /// Something is there.
    #[error("{0} is not empty: give an empty folder, or one that is not there (--data)")]
    NotEmpty(PathBuf),
    /// The charter in it.
    #[error("{path}")]
    Documents {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        error: DocumentsError,
    },
    /// Of a backup without keys.
    #[error("this backup holds no keys: name the folder with log.key, witness.key and node.key of {0} (--keys)")]
    NoKeys(MemberId),
    /// Keys of somebody else.
    #[error("the {0} key is not the one on the member's card")]
    OtherKey(&'static str),
    /// What does not verify.
    #[error(
        "the backup is damaged: {file}: {why}; nothing was restored. Another backup, or the other members, may have it whole"
    )]
    Damaged {
        /// The first file that shows it.
        file: String,
        /// What is wrong.
        why: String,
    },
}

/// What had been signed, as it is written down.
#[derive(Deserialize, Serialize)]
struct Signed {
    origin: String,
    size: u64,
    root: String,
}

/// Copies a running node into a folder. `progress` is told how many statements there are, and how many are written.
pub async fn backup(
    client: &mut Client,
    folder: &Folder,
    out: &Path,
    with_keys: bool,
    progress: impl FnMut(u64, u64),
) -> Result<Vec<Exported>, BackupError> {
    // A follower has nothing that its peers cannot give it again.
    let member = Config::load(&folder.config())?.speaker(&folder.config())?;
    make_private(out)?;
    let wanted = Wanted { folder: out.join(EXPORT), members: Vec::new(), openings: true, at: None };
    let exported = match crate::export::export(client, &wanted, progress).await {
        // Nobody has said anything yet.
        Err(ExportError::Nothing) => Vec::new(),
        exported => exported?,
    };
    let node = out.join(NODE);
    make_private(&node)?;
    for name in COPIED.into_iter().map(str::to_owned).chain([card_name(member)]) {
        copy(&folder.root().join(&name), &node.join(&name))?;
    }
    if with_keys {
        make_private(&node.join("keys"))?;
        for name in KEYS.iter().chain(&NEXT_KEYS) {
            copy(&folder.keys().join(name), &node.join("keys").join(name))?;
        }
    }
    // After the logs: what stands here covers all that was exported.
    let marks = Signer::marks(&folder.signer())?.into_iter();
    let signed: Vec<_> =
        marks.map(|(origin, mark)| Signed { origin, size: mark.size, root: mark.root.to_string() }).collect();
    let path = node.join(SIGNED);
    let text = serde_json::to_string_pretty(&signed).map_err(|error| at(&path, error.into()))?;
    replace(&path, text.as_bytes()).map_err(|error| at(&path, error))?;
    Ok(exported)
}

/// Makes a data folder from a backup. `keys`: where the working keys are, if not in the backup. `progress` is told how many
/// statements have been written since it was told last.
pub fn restore(
    folder: &Folder,
    backup: &Path,
    keys: Option<&Path>,
    progress: impl Fn(u64) + Sync,
) -> Result<MemberId, BackupError> {
    let root = folder.root();
    if fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(BackupError::NotEmpty(root.to_owned()));
    }
    let there = root.is_dir();
    let restored = restore_into(folder, backup, keys, progress);
    if restored.is_err() {
        // All of it was made here.
        let _left = fs::remove_dir_all(root);
        if there {
            let _left = make_folder(root, 0o710);
        }
    }
    restored
}

fn restore_into(
    folder: &Folder,
    backup: &Path,
    keys: Option<&Path>,
    progress: impl Fn(u64) + Sync,
) -> Result<MemberId, BackupError> {
    let node = backup.join(NODE);
    for needed in ["config.toml", "policy.toml", "genesis.charter", SIGNED] {
        if !node.join(needed).is_file() {
            return Err(BackupError::NotABackup(node.join(needed)));
        }
    }
    let config = node.join("config.toml");
    let member = Config::load(&config)?.speaker(&config)?;
    let path = node.join("genesis.charter");
    let genesis = Found::in_files(&[&path]).and_then(|found| found.genesis());
    let genesis = genesis.map_err(|error| BackupError::Documents { path, error })?;
    let stored = GovernanceFile::new(node.join("governance")).load(&genesis)?;
    let federation = stored.governance.federation();
    let keys = keys.map_or(node.join("keys"), Path::to_owned);
    if !keys.is_dir() {
        return Err(BackupError::NoKeys(member));
    }
    let signed = read_signed(&node.join(SIGNED))?;
    folder.create()?;
    for name in COPIED.into_iter().map(str::to_owned).chain([card_name(member)]) {
        copy(&node.join(&name), &folder.root().join(&name))?;
    }
    for name in KEYS {
        if !copy(&keys.join(name), &folder.keys().join(name))? {
            return Err(BackupError::NoKeys(member));
        }
    }
    for name in NEXT_KEYS {
        copy(&keys.join(name), &folder.keys().join(name))?;
    }
    let keys = keys::load(folder)?;
    if let Some(role) = federation.card(member).and_then(|card| keys.missing_on(card)) {
        return Err(BackupError::OtherKey(role));
    }
    fill(folder, &backup.join(EXPORT), &federation, progress)?;
    // Last of all: without it the node does not run.
    Signer::restore(&folder.signer(), &signed)?;
    Ok(member)
}

fn card_name(member: MemberId) -> String {
    format!("{member}.card")
}

/// Copies a file, durably, for its owner alone if it is a secret. `false` if there is none.
fn copy(from: &Path, to: &Path) -> Result<bool, FolderError> {
    let bytes = match fs::read(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        read => read.map_err(|error| at(from, error))?,
    };
    if to.exists() {
        replace(to, &bytes).map_err(|error| at(to, error))?;
    } else {
        write_new(to, 0o600, &bytes)?;
    }
    Ok(true)
}

fn read_signed(path: &Path) -> Result<BTreeMap<String, Mark>, BackupError> {
    let damaged = |why: String| BackupError::Damaged { file: path.display().to_string(), why };
    let signed: Vec<Signed> =
        serde_json::from_str(&read_text(path, MAX_SIGNED)?).map_err(|error| damaged(error.to_string()))?;
    let mark = |signed: Signed| {
        let root: Digest = signed.root.parse().map_err(|_| damaged(format!("{:?} is no root", signed.root)))?;
        Ok((signed.origin, Mark { size: signed.size, root }))
    };
    signed.into_iter().map(mark).collect()
}

/// Verifies the logs and writes them into the store.
fn fill(
    folder: &Folder,
    path: &Path,
    federation: &Federation,
    progress: impl Fn(u64) + Sync,
) -> Result<(), BackupError> {
    if !path.join(export::LOGS).is_dir() {
        return Ok(());
    }
    let files = ExportFolder::open(path, |_| ()).map_err(|error| at(path, error))?;
    let report = audit::verify(&files, Some(federation.charter().network()))?;
    if !report.is_whole() {
        let finding = report.findings.first();
        let (file, why) = finding.map(|finding| (finding.file.clone(), sentence(&finding.fault))).unwrap_or_default();
        return Err(BackupError::Damaged { file, why });
    }
    let mut store = DiskStore::open(&folder.store())?;
    let mut ledger = Ledger::new(federation);
    for (log, size) in report.logs.iter().map(|log| (log.log, log.checkpoint.size)) {
        Filling { files: &files, federation, log, size }.write(&mut store, &mut ledger, &progress)?;
    }
    for name in files.names(export::EVIDENCE).map_err(|fault| damaged(export::EVIDENCE, fault))? {
        let file = format!("{}/{name}", export::EVIDENCE);
        let text =
            String::from_utf8_lossy(&files.read(&file, armor::MAX_FILE).map_err(|e| damaged(&file, e))?).into_owned();
        let bytes = armor::read_evidence(&text).map_err(|error| damaged(&file, error))?;
        let evidence = Evidence::read(&bytes, federation).map_err(|error| damaged(&file, error))?;
        store.commit(&[Record::Evidence(Arc::new(evidence))])?;
    }
    sync_parent(&folder.store()).map_err(|error| at(&folder.store(), error))?;
    Ok(())
}

fn damaged(file: &str, why: impl ToString) -> BackupError {
    BackupError::Damaged { file: file.to_owned(), why: why.to_string() }
}

/// One log on its way from the backup into the store.
struct Filling<'a, P> {
    files: &'a ExportFolder<P>,
    federation: &'a Federation,
    log: LogId,
    size: u64,
}

impl<P: Fn(u64) + Sync> Filling<'_, P> {
    fn write(&self, store: &mut DiskStore, ledger: &mut Ledger, progress: &impl Fn(u64)) -> Result<(), BackupError> {
        let mut from = 0;
        for (size, name) in self.checkpoints()? {
            let note = self.note(&name)?;
            while from < size {
                let to = size.min(from + MAX_LEAVES as u64);
                let (leaves, openings) = self.bundles(from, to)?;
                let entries = Entries::read(self.log, from, leaves, openings);
                let entries = entries.map_err(|error| StoreError::Leaves(self.log, error))?;
                let mut admitted = ledger.restore(entries).map_err(StoreError::Damaged)?;
                admitted.checkpoint = (to == size).then(|| self.open(note.clone(), &name)).transpose()?;
                store.commit(&[Record::Leaves(Arc::new(admitted))])?;
                progress(to - from);
                from = to;
            }
            // By whatever charter that was: it was settled here, and stays so.
            if let Ok(settled) = SettledCheckpoint::open_ended(note, self.log, self.federation) {
                store.commit(&[Record::Settled(self.log, Arc::new(settled))])?;
            }
        }
        Ok(())
    }

    /// Sizes and files of the checkpoints, ascending.
    fn checkpoints(&self) -> Result<Vec<(u64, String)>, BackupError> {
        let folder = self.path(export::CHECKPOINTS);
        let names = self.files.names(&folder).map_err(|fault| damaged(&folder, fault))?;
        let older = names.iter().filter_map(|name| Some((name.parse().ok()?, format!("{folder}/{name}"))));
        let mut checkpoints: Vec<_> = older.collect();
        checkpoints.sort();
        // An older one of its size is that with which it was settled first.
        checkpoints.push((self.size, self.path(export::CHECKPOINT)));
        Ok(checkpoints)
    }

    fn note(&self, file: &str) -> Result<Note, BackupError> {
        let bytes = self.read(file, MAX_NOTE)?;
        Note::parse(&bytes).map_err(|error| damaged(file, error))
    }

    fn open(&self, note: Note, file: &str) -> Result<SignedCheckpoint, BackupError> {
        let opened = SignedCheckpoint::open(note, &self.federation.logs()[&self.log]);
        opened.map_err(|error: CheckpointError| damaged(file, error))
    }

    /// Leaves and openings `from..to`, as bundles.
    fn bundles(&self, from: u64, to: u64) -> Result<(Vec<u8>, Vec<u8>), BackupError> {
        let part = |kind, longest: usize| {
            let mut bundles = Vec::new();
            for number in from / TILE_WIDTH..to.div_ceil(TILE_WIDTH) {
                let file = self.path(export::bundle(kind, number, self.size));
                let bytes = self.read(&file, TILE_WIDTH as usize * (longest + 2))?;
                for (index, entry) in (number * TILE_WIDTH..).zip(bundle::entries(&bytes)) {
                    let entry = entry.map_err(|_| damaged(&file, "it is cut short"))?;
                    if (from..to).contains(&index) {
                        bundle::push(&mut bundles, entry);
                    }
                }
            }
            Ok::<_, BackupError>(bundles)
        };
        Ok((part(TileKind::Entries, MAX_LEAF)?, part(TileKind::Openings, MAX_OPENING)?))
    }

    fn read(&self, file: &str, max: usize) -> Result<Vec<u8>, BackupError> {
        self.files.read(file, max).map_err(|fault: FileFault| damaged(file, fault))
    }

    fn path(&self, file: impl std::fmt::Display) -> String {
        format!("{}/{file}", export::log(self.log))
    }
}
