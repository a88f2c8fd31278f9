//! The signer file: what was signed last, and what was cosigned last of each log, written before it is signed (SPEC 8, 17.2).
//!
//! The one file of a node that must never go back in time: so it lies outside of the database, is changed in place, holds
//! few bytes, and is bound to the machine and the inode it was made on. A copy of the data folder has another inode and is
//! refused; so is a second process.
//!
//! Layout: a header of 512 bytes, then two slots of 512 bytes for each origin. A write goes to the older slot and is synced
//! before anything is signed: if the power fails in the middle, the other slot still holds what was signed before.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::engine::Restored;
use hashmesh_protocol::ledger::Mark;

use crate::folder::{self, FolderError};
use crate::making::Making;

const MAGIC: &[u8; 16] = b"hashmesh-signer\n";
const FORMAT: u32 = 1;
const SLOT: usize = 512;

/// Longest origin that a slot takes: federation, network, member and epoch need 64 + 32 + 32 + 10 and three slashes, and
/// [`COSIGNED`].
const MAX_ORIGIN: usize = 256;

/// Stands before the origins of what the witness key has signed: no origin holds a space.
const COSIGNED: &str = "cosigned ";

/// The marks of a file that was restored from a backup: the log key, the witness key. At 1 what was signed with the key since the
/// backup is not known; at 2 that is over.
const RESTORED: [&str; 2] = ["restored log", "restored witness"];

/// The open, locked signer file.
#[derive(Debug)]
pub struct Signer {
    path: PathBuf,
    file: File,
    origins: BTreeMap<String, Place>,
}

/// What is known of an origin, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    mark: Mark,
    /// Counts writes; the slot with the higher number holds.
    sequence: u64,
    /// Which pair of slots, counted from 0.
    pair: u64,
}

/// Why the signer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// SPEC 8.2: only `init` makes the file.
    #[error(
        "{path} is missing. It remembers what this member has signed, and without it this node could sign a second history \
         of its log. If it is lost, the log key must be replaced: start a new epoch"
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Made on another machine, or copied.
    #[error(
        "{path} was made elsewhere: this folder is a copy, or was moved to another machine or disk. Two nodes with one log \
         key would sign two histories. If the other one is gone for good, run: hashmesh signer adopt \
         --only-one-of MEMBER"
    )]
    Copied {
        /// Which file.
        path: PathBuf,
    },
    /// Another process runs in this folder.
    #[error("{path} is in use: a node is running in this folder already")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// Not what this software wrote.
    #[error(
        "{path} is damaged ({what}). Do not restore it from a backup: what was signed since would be forgotten. If it \
         cannot be repaired, start a new epoch"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Something was about to be signed that must never be.
    #[error("refusing to sign {origin} at {to}: {signed} leaves have been signed, with another history")]
    Backwards {
        /// The log.
        origin: String,
        /// What was signed.
        signed: u64,
        /// What was to be signed.
        to: u64,
    },
    /// The file itself.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl Signer {
    /// Makes the file for a new node. Only `init` calls this.
    pub fn create(path: &Path, making: &mut Making) -> Result<(), SignerError> {
        making.file(path, 0o600, &[])?;
        let file = OpenOptions::new().write(true).open(path).map_err(|error| folder::at(path, error))?;
        bind(&file, path)
    }

    /// Makes the file for a node that is restored from a backup, which says that at least this was signed. Anything may have been
    /// signed since.
    pub fn restore(path: &Path, marks: &BTreeMap<String, Mark>) -> Result<(), SignerError> {
        folder::write_new(path, 0o600, &[])?;
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| folder::at(path, error))?;
        bind(&file, path)?;
        let mut signer = Self { path: path.to_owned(), file, origins: BTreeMap::new() };
        for (origin, mark) in marks.iter().filter(|(origin, _)| !RESTORED.contains(&origin.as_str())) {
            signer.advance(origin, *mark)?;
        }
        RESTORED.into_iter().try_for_each(|name| signer.advance(name, state(1)))
    }

    /// What was signed and cosigned last, by origin, beside a node that may be running.
    pub fn marks(path: &Path) -> Result<BTreeMap<String, Mark>, SignerError> {
        let file = File::open(path).map_err(|error| folder::at(path, error))?;
        let origins = read_slots(&file, path)?;
        Ok(origins.into_iter().map(|(origin, place)| (origin, place.mark)).collect())
    }

    /// With which keys more may have been signed than is known here.
    pub fn restored(&self) -> Restored {
        let [log, witness] = RESTORED.map(|name| self.mark(name).size == 1);
        Restored { log, witness }
    }

    /// The log key has signed again, after everybody was asked: from now on all is known.
    pub fn remembers(&mut self) -> Result<(), SignerError> {
        if self.restored().log { self.advance(RESTORED[0], state(2)) } else { Ok(()) }
    }

    /// A person vouches that nothing was cosigned since the backup. `false` if nobody had to.
    pub fn cosign_again(path: &Path) -> Result<bool, SignerError> {
        let mut signer = Self::open(path)?;
        let had_to = signer.restored().witness;
        if had_to {
            signer.advance(RESTORED[1], state(2))?;
        }
        Ok(had_to)
    }

    /// Opens and locks the file.
    pub fn open(path: &Path) -> Result<Self, SignerError> {
        let file = lock(path)?;
        let mut header = [0; SLOT];
        file.read_exact_at(&mut header, 0).map_err(|_| damaged(path, "it has no header"))?;
        check_header(&header, path)?;
        if header[20..60] != binding(&file, path)? {
            return Err(SignerError::Copied { path: path.to_owned() });
        }
        let origins = read_slots(&file, path)?;
        Ok(Self { path: path.to_owned(), file, origins })
    }

    /// Binds a file that was moved here deliberately to this machine and inode.
    pub fn adopt(path: &Path) -> Result<(), SignerError> {
        let file = lock(path)?;
        let mut header = [0; SLOT];
        file.read_exact_at(&mut header, 0).map_err(|_| damaged(path, "it has no header"))?;
        check_header(&header, path)?;
        read_slots(&file, path)?;
        bind(&file, path)
    }

    /// What was signed last of an origin: nothing, if it was never asked to.
    pub fn mark(&self, origin: &str) -> Mark {
        self.origins.get(origin).map_or(Mark::default(), |place| place.mark)
    }

    /// What was signed last, by origin.
    pub fn all_signed(&self) -> impl Iterator<Item = (&str, Mark)> {
        let own = self.origins.iter().filter(|(origin, _)| !origin.starts_with(COSIGNED));
        own.map(|(origin, place)| (origin.as_str(), place.mark))
    }

    /// What was cosigned last, by origin.
    pub fn all_cosigned(&self) -> impl Iterator<Item = (&str, Mark)> {
        self.origins.iter().filter_map(|(origin, place)| Some((origin.strip_prefix(COSIGNED)?, place.mark)))
    }

    /// Moves what may be cosigned of an origin forward, durably.
    pub fn advance_cosigned(&mut self, origin: &str, to: Mark) -> Result<(), SignerError> {
        self.advance(&format!("{COSIGNED}{origin}"), to)
    }

    /// Moves an origin forward, durably: what may be signed once this returns. The same mark again is allowed.
    pub fn advance(&mut self, origin: &str, to: Mark) -> Result<(), SignerError> {
        let known = self.origins.get(origin).copied();
        let before = known.map_or(Mark::default(), |place| place.mark);
        if to == before && known.is_some() {
            return Ok(());
        }
        if to.size <= before.size && known.is_some() {
            let (origin, signed) = (origin.to_owned(), before.size);
            return Err(SignerError::Backwards { origin, signed, to: to.size });
        }
        let place = match known {
            Some(place) => Place { mark: to, sequence: place.sequence + 1, ..place },
            None => Place { mark: to, sequence: 0, pair: self.origins.len() as u64 },
        };
        let slot = write_slot(origin, &place);
        let offset = SLOT as u64 * (1 + place.pair * 2 + place.sequence % 2);
        let io = |error| folder::at(&self.path, error);
        self.file.write_all_at(&slot, offset).map_err(io)?;
        // A crash before this line: the other slot holds. After it: this one does, and nothing was signed yet.
        self.file.sync_all().map_err(io)?;
        self.origins.insert(origin.to_owned(), place);
        Ok(())
    }
}

/// The mark of a name that is no origin.
fn state(number: u64) -> Mark {
    Mark { size: number, ..Mark::default() }
}

fn damaged(path: &Path, what: &'static str) -> SignerError {
    SignerError::Damaged { path: path.to_owned(), what }
}

fn lock(path: &Path) -> Result<File, SignerError> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SignerError::Missing { path: path.to_owned() },
        _ => folder::at(path, error).into(),
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SignerError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(folder::at(path, error).into()),
    }
}

/// Machine and inode: what a copy cannot have in common with the original.
fn binding(file: &File, path: &Path) -> Result<[u8; 40], SignerError> {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let machine = Digest::of(&[b"hashmesh/machine/v1\0", machine.trim().as_bytes()]);
    let inode = file.metadata().map_err(|error| folder::at(path, error))?.ino();
    let mut binding = [0; 40];
    binding[..32].copy_from_slice(machine.as_bytes());
    binding[32..].copy_from_slice(&inode.to_be_bytes());
    Ok(binding)
}

fn bind(file: &File, path: &Path) -> Result<(), SignerError> {
    let mut header = [0; SLOT];
    header[..16].copy_from_slice(MAGIC);
    header[16..20].copy_from_slice(&FORMAT.to_be_bytes());
    header[20..60].copy_from_slice(&binding(file, path)?);
    seal(&mut header);
    let written = file.write_all_at(&header, 0).and_then(|()| file.sync_all());
    written.and_then(|()| folder::sync_parent(path)).map_err(|error| folder::at(path, error).into())
}

fn check_header(header: &[u8; SLOT], path: &Path) -> Result<(), SignerError> {
    if &header[..16] != MAGIC || !is_sealed(header) {
        return Err(damaged(path, "its header is not one"));
    }
    if header[16..20] != FORMAT.to_be_bytes() {
        return Err(damaged(path, "a newer version of hashmesh wrote it"));
    }
    Ok(())
}

/// Puts a checksum into the last 32 bytes.
fn seal(slot: &mut [u8; SLOT]) {
    let (content, checksum) = slot.split_at_mut(SLOT - 32);
    checksum.copy_from_slice(Digest::of(&[content]).as_bytes());
}

fn is_sealed(slot: &[u8; SLOT]) -> bool {
    let (content, checksum) = slot.split_at(SLOT - 32);
    checksum == Digest::of(&[content]).as_bytes()
}

fn write_slot(origin: &str, place: &Place) -> [u8; SLOT] {
    assert!(origin.len() <= MAX_ORIGIN, "origins are made of names with caps");
    let mut slot = [0; SLOT];
    slot[..8].copy_from_slice(&place.sequence.to_be_bytes());
    slot[8..16].copy_from_slice(&place.mark.size.to_be_bytes());
    slot[16..48].copy_from_slice(place.mark.root.as_bytes());
    slot[48..50].copy_from_slice(&u16::try_from(origin.len()).expect("at most 256").to_be_bytes());
    slot[50..50 + origin.len()].copy_from_slice(origin.as_bytes());
    seal(&mut slot);
    slot
}

fn read_slot(slot: &[u8; SLOT], pair: u64) -> Option<(String, Place)> {
    let number = |at: usize| u64::from_be_bytes(slot[at..at + 8].try_into().expect("eight bytes"));
    let len = usize::from(u16::from_be_bytes([slot[48], slot[49]]));
    if !is_sealed(slot) || len > MAX_ORIGIN {
        return None;
    }
    let root = Digest(slot[16..48].try_into().expect("32 bytes"));
    let origin = std::str::from_utf8(&slot[50..50 + len]).ok()?;
    Some((origin.to_owned(), Place { mark: Mark { size: number(8), root }, sequence: number(0), pair }))
}

fn read_slots(file: &File, path: &Path) -> Result<BTreeMap<String, Place>, SignerError> {
    let io = |error| folder::at(path, error);
    let len = file.metadata().map_err(io)?.len();
    let mut origins = BTreeMap::new();
    let slots = len.div_ceil(SLOT as u64).saturating_sub(1);
    for pair in 0..slots.div_ceil(2) {
        let mut newest: Option<(String, Place)> = None;
        let mut written = 0;
        for half in 0..2 {
            let mut slot = [0; SLOT];
            let offset = SLOT as u64 * (1 + pair * 2 + half);
            // The last pair may have one slot, and that one may be cut short: then it was never synced.
            let there = usize::try_from(len.saturating_sub(offset)).unwrap_or(SLOT).min(SLOT);
            file.read_exact_at(&mut slot[..there], offset).map_err(io)?;
            written += usize::from(slot.iter().any(|byte| *byte != 0));
            let read = read_slot(&slot, pair);
            newest = match (newest, read) {
                (Some(one), Some(other)) => Some(if one.1.sequence > other.1.sequence { one } else { other }),
                (one, other) => one.or(other),
            };
        }
        match newest {
            Some((origin, place)) => {
                origins.insert(origin, place);
            }
            // The first write to a new origin was torn: nothing was signed.
            None if written <= 1 && pair + 1 == slots.div_ceil(2) => {}
            None => return Err(damaged(path, "both slots of an origin are unreadable")),
        }
    }
    Ok(origins)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn mark(size: u64) -> Mark {
        Mark { size, root: Digest([u8::try_from(size).unwrap(); 32]) }
    }

    fn new() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signer");
        let mut making = Making::default();
        Signer::create(&path, &mut making).unwrap();
        making.finish();
        (folder, path)
    }

    fn cosigned(signer: &Signer, origin: &str) -> Mark {
        signer.all_cosigned().find(|(known, _)| *known == origin).map(|(_, mark)| mark).unwrap_or_default()
    }

    #[test]
    fn what_was_signed_is_remembered() {
        let (_folder, path) = new();
        for size in 1..20 {
            let mut signer = Signer::open(&path).unwrap();
            assert_eq!(signer.mark("a/0"), if size == 1 { Mark::default() } else { mark(size - 1) });
            signer.advance("a/0", mark(size)).unwrap();
            signer.advance("a/0", mark(size)).unwrap();
            signer.advance("b/0", mark(size)).unwrap();
        }
        let mut signer = Signer::open(&path).unwrap();
        assert_eq!(signer.mark("b/0"), mark(19));
        signer.advance_cosigned("b/0", mark(3)).unwrap();
        drop(signer);
        let signer = Signer::open(&path).unwrap();
        assert_eq!(
            (signer.mark("b/0"), cosigned(&signer, "b/0"), cosigned(&signer, "a/0")),
            (mark(19), mark(3), Mark::default())
        );
        assert_eq!(fs::metadata(&path).unwrap().len(), 6 * SLOT as u64);
    }

    /// SPEC 8.1.
    #[test]
    fn it_never_goes_back_or_sideways() {
        let (_folder, path) = new();
        let mut signer = Signer::open(&path).unwrap();
        signer.advance("a/0", mark(5)).unwrap();
        let sideways = Mark { size: 5, root: Digest([9; 32]) };
        for wrong in [mark(4), Mark::default(), sideways] {
            assert!(matches!(signer.advance("a/0", wrong), Err(SignerError::Backwards { signed: 5, .. })));
        }
        assert_eq!(signer.mark("a/0"), mark(5));
    }

    #[test]
    fn a_torn_write_leaves_what_was_signed_before() {
        let (_folder, path) = new();
        let mut signer = Signer::open(&path).unwrap();
        for size in 1..=3 {
            signer.advance("a/0", mark(size)).unwrap();
        }
        drop(signer);
        let whole = fs::read(&path).unwrap();
        // The third write went to the first slot.
        for damaged in SLOT..2 * SLOT {
            let mut bytes = whole.clone();
            bytes[damaged] ^= 0x40;
            overwrite(&path, &bytes);
            assert_eq!(Signer::open(&path).unwrap().mark("a/0"), mark(2), "byte {damaged}");
        }
        let mut both = whole;
        both[SLOT] ^= 1;
        both[2 * SLOT] ^= 1;
        overwrite(&path, &both);
        assert!(matches!(Signer::open(&path), Err(SignerError::Damaged { .. })));
    }

    fn overwrite(path: &Path, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }

    /// SPEC 8.2.
    #[test]
    fn a_copy_a_second_process_and_a_missing_file_are_refused() {
        let (folder, path) = new();
        let signer = Signer::open(&path).unwrap();
        assert!(matches!(Signer::open(&path), Err(SignerError::InUse { .. })));
        drop(signer);
        let copy = folder.path().join("copy");
        fs::copy(&path, &copy).unwrap();
        assert!(matches!(Signer::open(&copy), Err(SignerError::Copied { .. })));
        Signer::adopt(&copy).unwrap();
        assert!(Signer::open(&copy).is_ok());
        let missing = folder.path().join("missing");
        assert!(matches!(Signer::open(&missing), Err(SignerError::Missing { .. })));
        fs::write(&missing, b"").unwrap();
        assert!(matches!(Signer::open(&missing), Err(SignerError::Damaged { .. })));
    }
}
