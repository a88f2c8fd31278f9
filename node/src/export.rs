//! Writing an export: what a running node hands out, put into files that any C2SP tool can read.
//!
//! A folder of an earlier export is continued, and so is one whose writing was interrupted. The order makes that safe: tiles,
//! then older checkpoints, then everything onto the disk, then the newest checkpoint, which says what is there; every file
//! under another name first. What is beyond the checkpoint of the folder is read back and hashed before it is believed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashmesh_protocol::armor;
use hashmesh_protocol::bundle;
use hashmesh_protocol::checkpoint::{CheckpointError, SignedCheckpoint};
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::entries::{Entries, EntriesError};
use hashmesh_protocol::export::{self, Cutter};
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::names::{LogId, MemberId};
use hashmesh_protocol::note::{Note, VerifierKey};
use hashmesh_protocol::statement::Leaf;
use hashmesh_protocol::time::Timestamp;
use hashmesh_protocol::tree::leaf_hash;
use hashmesh_protocol::tree::tile::{TILE_WIDTH, Tile, TileKind};
use rustix::fs::{FlockOperation, flock, syncfs};

use crate::api::form::{CheckpointsAnswer, ExportAnswer, ExportRequest, ExportedFile};
use crate::client::{Client, ClientError};
use crate::folder::{FolderError, at, make_folder};

/// Leaves that are asked for at a time: as many as one answer has.
const AT_ONCE: u64 = 4096;

/// Files are written under this name first, and then renamed.
const WRITING: &str = ".writing";

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The node.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Another export is being written there.
    #[error("{0} is being written by another export")]
    Busy(PathBuf),
    /// Something else lies there.
    #[error("{0} is neither empty nor an export of this federation; give another folder")]
    Foreign(PathBuf),
    /// What the node hands out makes no federation.
    #[error("the node's charter and cards do not go together")]
    Federation(#[from] export::DocumentsError),
    /// The same.
    #[error("the node's charter and cards cannot be read")]
    Documents(#[from] armor::ArmorError),
    /// A checkpoint that does not hold.
    #[error("a checkpoint of {log} does not hold")]
    Checkpoint {
        /// Of this log.
        log: LogId,
        /// Why.
        #[source]
        error: CheckpointError,
    },
    /// Leaves that are none.
    #[error("{log}: what the node hands out cannot be read")]
    Entries {
        /// Of this log.
        log: LogId,
        /// Why.
        #[source]
        error: EntriesError,
    },
    /// Fewer leaves than the checkpoint says.
    #[error("{log}: the node has no leaf {index}")]
    Short {
        /// Of this log.
        log: LogId,
        /// This one.
        index: u64,
    },
    /// The leaves lead elsewhere.
    #[error(
        "{log}: the leaves do not lead to the signed root of {size}: {path} was changed, or the node holds another history. \
         Keep the folder, export into another one, and compare"
    )]
    Root {
        /// Of this log.
        log: LogId,
        /// The checkpoint.
        size: u64,
        /// The log's folder.
        path: PathBuf,
    },
    /// The folder is ahead.
    #[error("{path} has {have} leaves of {log} already, more than the {size} that would be exported now")]
    Ahead {
        /// The log's folder.
        path: PathBuf,
        /// The log.
        log: LogId,
        /// There.
        have: u64,
        /// To be exported.
        size: u64,
    },
    /// Openings must all be there or none.
    #[error("{0} has openings of an earlier export: continue it with openings, or give another folder")]
    WithOpenings(PathBuf),
    /// No such member.
    #[error("{0} has no log at this node")]
    NoLog(MemberId),
    /// Nothing was said by then.
    #[error("no log has a checkpoint of that time or before")]
    Nothing,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where to.
    pub folder: PathBuf,
    /// Whose logs; all if empty.
    pub members: Vec<MemberId>,
    /// Whether with openings.
    pub openings: bool,
    /// Up to the largest checkpoints that had been settled by then, or all.
    pub at: Option<Timestamp>,
}

/// What was exported of a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exported {
    /// Which.
    pub log: LogId,
    /// How many leaves.
    pub size: u64,
    /// How many of them were there from an earlier export.
    pub before: u64,
    /// Whether the checkpoint was chosen by the author's clock, because none is settled.
    pub by_author: bool,
}

/// Exports what a running node holds. `progress` is told how many leaves there will be, and then how many are there.
pub async fn export(
    client: &mut Client,
    wanted: &Wanted,
    mut progress: impl FnMut(u64, u64),
) -> Result<Vec<Exported>, ExportError> {
    let answer: ExportAnswer = client.post("/v1/export", &ExportRequest { openings: wanted.openings }).await?;
    let federation = federation(&answer.documents)?;
    for &member in &wanted.members {
        if !answer.logs.iter().any(|log| log.member == member.as_str()) {
            return Err(ExportError::NoLog(member));
        }
    }
    let is_wanted = |log: &LogId| wanted.members.is_empty() || wanted.members.contains(&log.member);
    let there = |log: &LogId| answer.logs.iter().any(|l| l.member == log.member.as_str() && l.epoch == log.epoch);
    let logs: Vec<_> = federation.logs().iter().filter(|(log, _)| is_wanted(log) && there(log)).collect();
    let root = Root::open(&wanted.folder, &answer.documents)?;
    let mut planned = Vec::new();
    for (&log, key) in logs {
        let mut reader = Reader { client: &mut *client, log, openings: wanted.openings, first: 0, pairs: Vec::new() };
        let mut checkpoints = reader.checkpoints(key).await?;
        let by_author = match wanted.at {
            Some(at) => reader.until(&mut checkpoints, &federation, at).await?,
            None => false,
        };
        if let Some(newest) = checkpoints.pop() {
            planned.push((log, key, newest, checkpoints, by_author));
        }
    }
    if planned.is_empty() {
        return Err(ExportError::Nothing);
    }
    let total = planned.iter().map(|(_, _, newest, _, _)| newest.0.size()).sum();
    let (mut done, mut exported) = (0, Vec::new());
    for (log, key, newest, older, by_author) in planned {
        let reader = Reader { client: &mut *client, log, openings: wanted.openings, first: 0, pairs: Vec::new() };
        let size = newest.0.size();
        let before = LogFolder::open(&root, log, key)?
            .fill(reader, &newest, &older, |leaves| progress(total, done + leaves))
            .await?;
        done += size;
        exported.push(Exported { log, size, before, by_author });
    }
    root.write(export::POLICY, export::policy(&federation).as_bytes())?;
    make_folder(&root.path.join(export::EVIDENCE), 0o700)?;
    for file in answer.documents.iter().chain(&answer.evidence) {
        root.write(&file.file, file.text.as_bytes())?;
    }
    root.keep_only(&[export::CHARTERS, export::CARDS], &answer.documents)?;
    root.sync()?;
    Ok(exported)
}

/// The federation as the documents have it.
fn federation(files: &[ExportedFile]) -> Result<Arc<Federation>, ExportError> {
    let mut documents = Vec::new();
    for file in files {
        documents.extend(armor::read(&file.text)?);
    }
    let (_, governance) = export::governance(documents)?;
    Ok(governance.federation())
}

/// A checkpoint that the log has signed, with all lines that came with it.
type Kept = (SignedCheckpoint, Note);

/// The folder of an export, locked.
struct Root {
    path: PathBuf,
    lock: File,
}

impl Root {
    /// Opens or makes the folder, which must be empty, or an export of the same federation, or one that was begun.
    fn open(path: &Path, documents: &[ExportedFile]) -> Result<Self, ExportError> {
        make_folder(path, 0o700)?;
        let lock = File::open(path).map_err(|error| at(path, error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| ExportError::Busy(path.to_owned()))?;
        let root = Self { path: path.to_owned(), lock };
        let names = fs::read_dir(path).map_err(|error| at(path, error))?;
        let names: BTreeSet<_> = names.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        let charter = documents.first().map(|file| (path.join(&file.file), &file.text));
        let same = charter.is_some_and(|(path, text)| fs::read_to_string(path).is_ok_and(|there| there == *text));
        // One that was interrupted while it wrote its first file has that beside its place.
        let is_new = names.iter().all(|name| name == WRITING);
        if !is_new && !same {
            return Err(ExportError::Foreign(path.to_owned()));
        }
        // First of all, so that an export that is interrupted is known for what it is.
        if let Some(file) = documents.first() {
            root.write(&file.file, file.text.as_bytes())?;
        }
        Ok(root)
    }

    /// Puts a file in its place: whole, or not at all.
    fn write(&self, path: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let (whole, beside) = (self.path.join(path), self.path.join(WRITING));
        if let Some(folder) = whole.parent()
            && !folder.is_dir()
        {
            fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
        }
        fs::write(&beside, bytes).map_err(|error| at(&beside, error))?;
        fs::rename(&beside, &whole).map_err(|error| at(&whole, error))
    }

    /// Removes what an earlier export has left in these folders: a card may be in force by now and so have another name, a charter may have
    /// given way to another one.
    fn keep_only(&self, folders: &[&str], documents: &[ExportedFile]) -> Result<(), FolderError> {
        let kept: BTreeSet<PathBuf> = documents.iter().map(|file| self.path.join(&file.file)).collect();
        for folder in folders.iter().map(|folder| self.path.join(folder)).filter(|folder| folder.is_dir()) {
            for entry in fs::read_dir(&folder).map_err(|error| at(&folder, error))? {
                let path = entry.map_err(|error| at(&folder, error))?.path();
                if !kept.contains(&path) {
                    fs::remove_file(&path).map_err(|error| at(&path, error))?;
                }
            }
        }
        Ok(())
    }

    /// Makes everything written so far survive the loss of power.
    fn sync(&self) -> Result<(), FolderError> {
        syncfs(&self.lock).map_err(|error| at(&self.path, error.into()))
    }
}

/// A leaf and its opening, which is empty if there is none.
type Pair = (Vec<u8>, Vec<u8>);

/// Asks the node about one log.
struct Reader<'a> {
    client: &'a mut Client,
    log: LogId,
    openings: bool,
    /// What was fetched last: leaves and openings from this index on.
    first: u64,
    pairs: Vec<Pair>,
}

impl Reader<'_> {
    /// All checkpoints that are kept, ascending.
    async fn checkpoints(&mut self, key: &VerifierKey) -> Result<Vec<Kept>, ExportError> {
        let (mut kept, mut up_to) = (Vec::new(), i64::MAX as u64);
        loop {
            let path = format!("/v1/export/{}/checkpoints?up_to={up_to}", self.log);
            let answer: CheckpointsAnswer = self.client.get(&path).await?;
            if answer.checkpoints.is_empty() {
                kept.reverse();
                return Ok(kept);
            }
            for text in answer.checkpoints {
                let wrong = |error| ExportError::Checkpoint { log: self.log, error };
                let note = Note::parse(text.as_bytes()).map_err(|error| wrong(error.into()))?;
                let signed = SignedCheckpoint::open(note.clone(), key).map_err(wrong)?;
                // Of one size there may be two: the newest, and the one with which it was settled first.
                up_to = signed.size().saturating_sub(1);
                kept.push((signed, note));
            }
        }
    }

    /// Leaves those that had been settled by a moment; if none has been settled at all, those whose last leaf is not younger
    /// by its author's clock, and says so.
    async fn until(
        &mut self,
        checkpoints: &mut Vec<Kept>,
        federation: &Federation,
        at: Timestamp,
    ) -> Result<bool, ExportError> {
        let settled = |kept: &Kept| hashmesh_protocol::audit::settled_at(federation, self.log, &kept.1);
        if checkpoints.iter().any(|kept| settled(kept).is_some()) {
            let last = checkpoints.iter().rposition(|kept| settled(kept).is_some_and(|time| time <= at));
            checkpoints.truncate(last.map_or(0, |last| last + 1));
            return Ok(false);
        }
        let (mut low, mut high) = (0, checkpoints.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let size = checkpoints[middle].0.size();
            let (leaf, _) = self.pair(size - 1, size).await?.clone();
            let leaf = Leaf::decode(&leaf);
            let error =
                |error| ExportError::Entries { log: self.log, error: EntriesError::Leaf { index: size - 1, error } };
            if leaf.map_err(error)?.time <= at { low = middle + 1 } else { high = middle }
        }
        checkpoints.truncate(low);
        Ok(true)
    }

    /// The leaf at an index and its opening, fetched with those that follow it, if need be.
    async fn pair(&mut self, index: u64, size: u64) -> Result<&Pair, ExportError> {
        let held = self.first..self.first + self.pairs.len() as u64;
        if !held.contains(&index) {
            let to = size.min(index + AT_ONCE);
            let path = format!("/v1/export/{}/leaves?from={index}&to={to}&openings={}", self.log, self.openings);
            let bytes = self.client.bytes(&path).await?;
            self.pairs = self.split(&bytes, index)?;
            self.first = index;
        }
        let place = usize::try_from(index - self.first).ok();
        place.and_then(|place| self.pairs.get(place)).ok_or(ExportError::Short { log: self.log, index })
    }

    fn split(&self, bytes: &[u8], index: u64) -> Result<Vec<Pair>, ExportError> {
        let error = |error| ExportError::Entries { log: self.log, error };
        let cut_short = || error(bundle::CutShort.into());
        let (length, rest) = bytes.split_first_chunk().ok_or_else(cut_short)?;
        let (leaves, openings) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(cut_short)?;
        if leaves.is_empty() {
            return Ok(Vec::new());
        }
        let none = || vec![0; 2 * bundle::entries(leaves).count()];
        let openings = if self.openings { openings.to_vec() } else { none() };
        // The same checks as wherever leaves come in: what is exported has been read.
        let entries = Entries::read(self.log, index, leaves.to_vec(), openings).map_err(error)?;
        let both = bundle::entries(entries.leaves()).zip(bundle::entries(entries.openings()));
        both.map(|(leaf, opening)| Ok((leaf?.to_vec(), opening?.to_vec()))).collect::<Result<_, _>>().map_err(error)
    }
}

/// The folder of a log.
struct LogFolder<'a> {
    root: &'a Root,
    log: LogId,
    folder: String,
    key: &'a VerifierKey,
}

/// A tile's worth of entries, in the folder or fetched.
struct Block {
    leaves: Vec<u8>,
    hashes: Vec<Digest>,
    openings: Option<Vec<u8>>,
}

impl<'a> LogFolder<'a> {
    fn open(root: &'a Root, log: LogId, key: &'a VerifierKey) -> Result<Self, ExportError> {
        Ok(Self { root, log, folder: export::log(log), key })
    }

    fn path(&self, name: impl std::fmt::Display) -> PathBuf {
        self.root.path.join(&self.folder).join(name.to_string())
    }

    fn write(&self, name: impl std::fmt::Display, bytes: &[u8]) -> Result<(), FolderError> {
        self.root.write(&format!("{}/{name}", self.folder), bytes)
    }

    /// The checkpoint of the earlier export, if there was one: everything below it is on the disk.
    fn newest(&self) -> Result<Option<Kept>, ExportError> {
        let path = self.path(export::CHECKPOINT);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path, error).into()),
        };
        let wrong = |error| ExportError::Checkpoint { log: self.log, error };
        let note = Note::parse(&bytes).map_err(|error| wrong(error.into()))?;
        Ok(Some((SignedCheckpoint::open(note.clone(), self.key).map_err(wrong)?, note)))
    }

    /// Brings the folder up to a checkpoint; gives how many leaves it had before.
    async fn fill(
        &self,
        mut reader: Reader<'_>,
        (newest, note): &Kept,
        older: &[Kept],
        mut progress: impl FnMut(u64),
    ) -> Result<u64, ExportError> {
        let size = newest.size();
        let earlier = self.newest()?;
        let have = earlier.as_ref().map_or(0, |(checkpoint, _)| checkpoint.size());
        if have > size {
            return Err(ExportError::Ahead { path: self.path(""), log: self.log, have, size });
        }
        if !reader.openings && self.path("openings").exists() {
            return Err(ExportError::WithOpenings(self.path("")));
        }
        let synced = have / TILE_WIDTH;
        let mut cutter = Cutter::resume(synced, |tile| self.hashes(tile))?;
        let begin = if reader.openings { 0 } else { synced };
        for number in begin..size.div_ceil(TILE_WIDTH) {
            let tile = export::bundle(TileKind::Entries, number, size);
            let block = match self.held(tile, reader.openings) {
                Some(block) => block,
                None => {
                    let block = self.fetch(&mut reader, tile, size).await?;
                    self.write(tile, &block.leaves)?;
                    if let Some(openings) = &block.openings {
                        self.write(Tile { kind: TileKind::Openings, ..tile }, openings)?;
                    }
                    block
                }
            };
            if number >= synced {
                let mut filled = Vec::new();
                for hash in block.hashes {
                    cutter.push(hash, |tile, hashes| filled.push((tile, bytes_of(hashes))));
                }
                filled.iter().try_for_each(|(tile, bytes)| self.write(tile, bytes))?;
            }
            progress((number * TILE_WIDTH + u64::from(tile.width)).min(size));
        }
        if cutter.root() != newest.root() {
            return Err(ExportError::Root { log: self.log, size, path: self.path("") });
        }
        for (tile, hashes) in cutter.partial() {
            self.write(tile, &bytes_of(hashes))?;
        }
        let of_one_size = older.chunk_by(|(one, _), (other, _)| one.size() == other.size());
        for (checkpoint, note) in of_one_size.map(|kept| &kept[0]) {
            self.write(format_args!("{}/{}", export::CHECKPOINTS, checkpoint.size()), note.to_string().as_bytes())?;
        }
        // What was the newest says by when that stood in the log. One of the same size that has been cosigned anew says it of a later moment:
        // then the first one is kept beside it.
        if let Some((checkpoint, earlier)) = earlier.filter(|(_, earlier)| earlier != note) {
            let place = format!("{}/{}", export::CHECKPOINTS, checkpoint.size());
            if !self.path(&place).exists() {
                self.write(place, earlier.to_string().as_bytes())?;
            }
        }
        self.write(export::VKEY, format!("{}\n", self.key).as_bytes())?;
        self.root.sync()?;
        self.write(export::CHECKPOINT, note.to_string().as_bytes())?;
        self.remove_partials(synced, size)?;
        Ok(have)
    }

    /// The hashes of a tile of the earlier export.
    fn hashes(&self, tile: Tile) -> Result<Vec<Digest>, ExportError> {
        let path = self.path(tile);
        let bytes = fs::read(&path).map_err(|error| at(&path, error))?;
        let hashes: Vec<_> = bytes.chunks_exact(32).map(|hash| Digest(hash.try_into().expect("32 bytes"))).collect();
        if hashes.len() != usize::from(tile.width) {
            let error = io::Error::new(io::ErrorKind::InvalidData, "not the length of a full tile");
            return Err(at(&path, error).into());
        }
        Ok(hashes)
    }

    /// A bundle that is in the folder already with nothing missing that could be fetched. Of bundles that are not full nothing
    /// is believed.
    fn held(&self, tile: Tile, openings: bool) -> Option<Block> {
        if u64::from(tile.width) < TILE_WIDTH {
            return None;
        }
        let leaves = fs::read(self.path(tile)).ok()?;
        let entries: Vec<&[u8]> = bundle::entries(&leaves).collect::<Result<_, _>>().ok()?;
        let hashes: Vec<_> = entries.iter().map(|leaf| leaf_hash(leaf)).collect();
        let in_tile = fs::read(self.path(Tile { kind: TileKind::Hashes(0), ..tile })).ok()?;
        if hashes.len() as u64 != TILE_WIDTH || in_tile != bytes_of(&hashes) {
            return None;
        }
        if !openings {
            return Some(Block { leaves, hashes, openings: None });
        }
        let held = fs::read(self.path(Tile { kind: TileKind::Openings, ..tile })).ok()?;
        let opened: Vec<&[u8]> = bundle::entries(&held).collect::<Result<_, _>>().ok()?;
        let whole = entries.iter().zip(&opened).all(|(leaf, opening)| {
            let committed = Leaf::decode(leaf).is_ok_and(|leaf| leaf.statement.commitment().is_some());
            committed != opening.is_empty()
        });
        let whole = whole && opened.len() == entries.len();
        whole.then(|| Block { leaves: leaves.clone(), hashes, openings: Some(held) })
    }

    async fn fetch(&self, reader: &mut Reader<'_>, tile: Tile, size: u64) -> Result<Block, ExportError> {
        let (mut leaves, mut openings, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        let first = tile.index * TILE_WIDTH;
        for index in first..first + u64::from(tile.width) {
            let (leaf, opening) = reader.pair(index, size).await?;
            bundle::push(&mut leaves, leaf);
            bundle::push(&mut openings, opening);
            hashes.push(leaf_hash(leaf));
        }
        Ok(Block { leaves, hashes, openings: reader.openings.then_some(openings) })
    }

    /// Removes what an earlier export, or one that was interrupted, has left at its right edge.
    fn remove_partials(&self, synced: u64, size: u64) -> Result<(), ExportError> {
        let kinds = [TileKind::Entries, TileKind::Openings].into_iter().chain((0..8).map(TileKind::Hashes));
        for kind in kinds {
            let shift = if let TileKind::Hashes(level) = kind { u32::from(level) * 8 } else { 0 };
            let (first, items) = (synced >> shift, size >> shift);
            for index in first..=items / TILE_WIDTH {
                let kept = export::bundle(kind, index, items);
                let folder = self.path(Tile { width: 1, ..kept }).with_file_name("");
                let Ok(entries) = fs::read_dir(&folder) else { continue };
                for entry in entries.flatten() {
                    if entry.path() != self.path(kept) {
                        fs::remove_file(entry.path()).map_err(|error| at(&entry.path(), error))?;
                    }
                }
                // Stays where something is left in it.
                let _in_use = fs::remove_dir(&folder);
            }
        }
        Ok(())
    }
}

fn bytes_of(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}
