//! Openings as they lie on the disk: encrypted, under keys that can be thrown away (SPEC 20.3).
//!
//! The database never overwrites: whatever was written stays in its files until it pleases to collect garbage. So what must
//! be deleted is made unreadable instead. Every 8,192 openings of a log have a key of their own, in a small file that *is*
//! rewritten; deleting an opening means to write the others under a new key and to throw the old one away.
//!
//! The file of keys is itself encrypted, under the key of the store: a file beside it, or a credential that the service
//! manager hands in, so that the disk alone opens nothing. Does not know what an opening is.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hashmesh_protocol::codec;
use hashmesh_protocol::digest::Digest;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::groups::{GROUP, LogNumber, key};
use crate::folder::{read_secret, replace, write_new};
use crate::keys::random;

/// Openings under one key: so many that the file of keys stays small (50 KB for ten million), so few that they are written
/// again in a moment.
pub(super) const CHUNK: u64 = 128 * GROUP;

/// Keys are made for so many chunks ahead: an import of a million is held up eight times for them, not 122 times.
const AHEAD: u64 = 16;

/// Longest file of keys: those of 2^32 openings.
const MAX_FILE: usize = 64 * 1024 * 1024;

/// Under this name a service manager hands in the key of the store (systemd: `LoadCredential=`).
const CREDENTIAL: &str = "hashmesh-store-key";

const NONCE: usize = 12;

/// A chunk of a log.
type Place = (LogNumber, u64);

/// The keys.
pub(super) struct Vault {
    file: PathBuf,
    master: [u8; 32],
    /// By chunk, the newest last: there are two only while one takes the place of the other.
    ring: RwLock<BTreeMap<Place, Vec<Slot>>>,
}

/// A key, with a number that no other key of its chunk had.
#[derive(Clone, Copy, Deserialize, Serialize)]
struct Slot(u32, Digest);

impl Vault {
    /// Opens the keys of a store, making those of a new one.
    pub(super) fn open(folder: &Path, is_new: bool) -> Result<Self, StoreError> {
        let (file, beside) = (folder.join("openings.keys"), folder.join("store.key"));
        let locked = |why: String| StoreError::Locked { path: folder.to_owned(), why };
        let master = match credential() {
            Some(path) => parse_master(&fs::read_to_string(&path).map_err(|error| file_error(&path, error))?),
            None if is_new && !beside.exists() => {
                let master: [u8; 32] = random().map_err(|error| locked(error.to_string()))?;
                write_new(&beside, 0o600, format!("{}\n", Digest(master)).as_bytes())?;
                Some(master)
            }
            None => parse_master(&read_secret(&beside).map_err(|error| locked(crate::sentence::sentence(&error)))?),
        };
        let master = master.ok_or_else(|| locked("the key of the store is not 64 hex digits".to_owned()))?;
        let vault = Self { file, master, ring: RwLock::default() };
        if is_new && !vault.file.exists() {
            vault.save(&BTreeMap::new())?;
            return Ok(vault);
        }
        let sealed = fs::read(&vault.file).map_err(|error| locked(format!("{}: {error}", vault.file.display())))?;
        let plain =
            open(&vault.master, b"", &sealed).ok_or_else(|| locked("they were locked with another key".to_owned()))?;
        let slots: Vec<(LogNumber, u64, Vec<Slot>)> =
            codec::decode(&plain, MAX_FILE).map_err(|error| locked(error.to_string()))?;
        *vault.ring.write() = slots.into_iter().map(|(log, chunk, slots)| ((log, chunk), slots)).collect();
        Ok(vault)
    }

    /// Makes keys for rows that are about to be written and have none. Durable before anything is written under them.
    pub(super) fn prepare<'a>(&self, rows: impl Iterator<Item = &'a [u8; 12]>) -> Result<(), StoreError> {
        let mut ring = self.ring.write();
        let mut made = false;
        for (log, group) in rows.map(split) {
            let chunk = group * GROUP / CHUNK;
            if ring.contains_key(&(log, chunk)) {
                continue;
            }
            for chunk in chunk..chunk + AHEAD {
                if let std::collections::btree_map::Entry::Vacant(vacant) = ring.entry((log, chunk)) {
                    vacant.insert(vec![Slot(0, self.fresh()?)]);
                }
            }
            made = true;
        }
        if made { self.save(&ring) } else { Ok(()) }
    }

    /// Seals a row under the newest key of its chunk, which [`prepare`](Self::prepare) has made.
    pub(super) fn seal(&self, row_key: &[u8; 12], row: &[u8]) -> Result<Vec<u8>, StoreError> {
        let (log, group) = split(row_key);
        let ring = self.ring.read();
        let slot = ring.get(&(log, group * GROUP / CHUNK)).and_then(|slots| slots.last());
        let Slot(number, secret) = slot.ok_or_else(|| self.unreadable())?;
        let mut sealed = number.to_be_bytes().to_vec();
        seal(secret.as_bytes(), row_key, row, self.nonce()?, &mut sealed);
        Ok(sealed)
    }

    /// Opens a row; an empty one has never been written.
    pub(super) fn unseal(&self, log: LogNumber, group: u64, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let Some((number, rest)) = sealed.split_first_chunk() else {
            return if sealed.is_empty() { Ok(Vec::new()) } else { Err(self.unreadable()) };
        };
        let ring = self.ring.read();
        let slots = ring.get(&(log, group * GROUP / CHUNK)).map_or(&[][..], Vec::as_slice);
        let slot = slots.iter().find(|slot| slot.0 == u32::from_be_bytes(*number));
        slot.and_then(|slot| open(slot.1.as_bytes(), &key(log, group), rest)).ok_or_else(|| self.unreadable())
    }

    /// Whether a sealed row is under the newest key of its chunk.
    pub(super) fn is_current(&self, log: LogNumber, group: u64, sealed: &[u8]) -> bool {
        let ring = self.ring.read();
        let newest = ring.get(&(log, group * GROUP / CHUNK)).and_then(|slots| slots.last()).map(|slot| slot.0);
        sealed.first_chunk().map(|number| u32::from_be_bytes(*number)) == newest
    }

    /// Gives a chunk a new key, beside those that it has: more than one if somebody was interrupted. A row that was written since under the
    /// newest of those may still hold what is to be gone, so no row counts as written anew that is not under this one.
    pub(super) fn renew(&self, log: LogNumber, chunk: u64) -> Result<(), StoreError> {
        let mut ring = self.ring.write();
        let Some(slots) = ring.get_mut(&(log, chunk)) else { return Ok(()) };
        let next = slots.last().map_or(0, |slot| slot.0.wrapping_add(1));
        slots.push(Slot(next, self.fresh()?));
        self.save(&ring)
    }

    /// Throws the old keys of chunks away, all of whose rows are durable under the new ones.
    pub(super) fn shred(&self, log: LogNumber, chunks: impl Iterator<Item = u64>) -> Result<(), StoreError> {
        let mut ring = self.ring.write();
        for chunk in chunks {
            if let Some(slots) = ring.get_mut(&(log, chunk)) {
                slots.drain(..slots.len().saturating_sub(1));
            }
        }
        self.save(&ring)
    }

    /// Writes the file anew, and writes over the old one: best effort, since some drives keep what was written over.
    fn save(&self, ring: &BTreeMap<Place, Vec<Slot>>) -> Result<(), StoreError> {
        let slots: Vec<_> = ring.iter().map(|((log, chunk), slots)| (*log, *chunk, slots)).collect();
        let mut sealed = Vec::new();
        seal(&self.master, b"", &codec::encode(&slots), self.nonce()?, &mut sealed);
        let saved = || {
            let old = OpenOptions::new().write(true).open(&self.file).ok();
            replace(&self.file, &sealed)?;
            old.map_or(Ok(()), overwrite)
        };
        saved().map_err(|error| file_error(&self.file, error))
    }

    fn fresh(&self) -> Result<Digest, StoreError> {
        random().map(Digest).map_err(|error| file_error(&self.file, io::Error::other(error)))
    }

    fn nonce(&self) -> Result<[u8; NONCE], StoreError> {
        random().map_err(|error| file_error(&self.file, io::Error::other(error)))
    }

    fn unreadable(&self) -> StoreError {
        StoreError::Unreadable { path: self.file.clone(), what: "openings that its keys do not open".to_owned() }
    }
}

fn overwrite(mut file: File) -> io::Result<()> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0).min(MAX_FILE);
    file.write_all(&vec![0; length])?;
    file.sync_all()
}

fn file_error(path: &Path, error: io::Error) -> StoreError {
    StoreError::File { path: path.to_owned(), error }
}

fn credential() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
    path.exists().then_some(path)
}

fn parse_master(text: &str) -> Option<[u8; 32]> {
    text.trim().parse::<Digest>().ok().map(|digest| digest.0)
}

fn split(row_key: &[u8; 12]) -> (LogNumber, u64) {
    let (log, group) = row_key.split_at(4);
    (LogNumber::from_be_bytes(log.try_into().expect("4 bytes")), u64::from_be_bytes(group.try_into().expect("8 bytes")))
}

/// ChaCha20-Poly1305 (RFC 8439) with a random nonce in front: a key seals far fewer than 2^32 rows.
fn seal(secret: &[u8; 32], about: &[u8], plain: &[u8], nonce: [u8; NONCE], sealed: &mut Vec<u8>) {
    let cipher = ChaCha20Poly1305::new(Key::from_slice(secret));
    let payload = Payload { msg: plain, aad: about };
    sealed.extend_from_slice(&nonce);
    sealed.extend(cipher.encrypt(Nonce::from_slice(&nonce), payload).expect("rows are shorter than 256 GiB"));
}

fn open(secret: &[u8; 32], about: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
    let cipher = ChaCha20Poly1305::new(Key::from_slice(secret));
    cipher.decrypt(Nonce::from_slice(nonce), Payload { msg: sealed, aad: about }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(folder: &Path) -> Vault {
        Vault::open(folder, !folder.join("openings.keys").exists()).unwrap()
    }

    #[test]
    fn a_row_is_opened_with_its_key_in_its_place_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let made = vault(folder.path());
        let (here, there) = (key(3, 5), key(3, 6));
        made.prepare([&here].into_iter()).unwrap();
        let sealed = made.seal(&here, b"salt and value").unwrap();
        assert_eq!(sealed.len(), 14 + 4 + NONCE + 16);
        assert!(!sealed.windows(4).any(|bytes| bytes == b"salt"));
        let again = vault(folder.path());
        assert_eq!(again.unseal(3, 5, &sealed).unwrap(), b"salt and value");
        assert!(again.unseal(3, 6, &sealed).is_err(), "it is another row's");
        assert_ne!(made.seal(&there, b"x").unwrap(), made.seal(&there, b"x").unwrap());
        assert_eq!(again.unseal(9, 9, &[]).unwrap(), b"");
        for place in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[place] ^= 1;
            assert!(again.unseal(3, 5, &bad).is_err(), "{place}");
        }
    }

    /// Rows that were not written again are gone, whoever has kept them.
    #[test]
    fn what_lies_under_a_key_that_was_thrown_away_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let made = vault(folder.path());
        let here = key(0, 1);
        made.prepare([&here].into_iter()).unwrap();
        let old = made.seal(&here, b"erased").unwrap();
        made.renew(0, 0).unwrap();
        let new = made.seal(&here, b"left").unwrap();
        assert!(made.is_current(0, 1, &new) && !made.is_current(0, 1, &old));
        // Interrupted here, both can be read still.
        let again = vault(folder.path());
        assert_eq!(again.unseal(0, 1, &old).unwrap(), b"erased");
        // The last row may have been written again since, with everything in it.
        let meanwhile = again.seal(&here, b"erased, and more").unwrap();
        again.renew(0, 0).unwrap();
        assert!(!again.is_current(0, 1, &new) && !again.is_current(0, 1, &meanwhile));
        let newest = again.seal(&here, b"left").unwrap();
        again.shred(0, [0].into_iter()).unwrap();
        for vault in [again, vault(folder.path())] {
            assert!([&old, &new, &meanwhile].iter().all(|row| vault.unseal(0, 1, row).is_err()));
            assert_eq!(vault.unseal(0, 1, &newest).unwrap(), b"left");
        }
    }

    #[test]
    fn without_the_key_of_the_store_nothing_is_opened_and_nothing_is_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        drop(vault(folder.path()));
        let master = folder.path().join("store.key");
        let kept = fs::read(&master).unwrap();
        fs::write(&master, format!("{}\n", "ab".repeat(32))).unwrap();
        let error = Vault::open(folder.path(), false).err().unwrap();
        assert!(matches!(error, StoreError::Locked { .. }) && !error.is_damage(), "{error}");
        fs::remove_file(&master).unwrap();
        assert!(matches!(Vault::open(folder.path(), false), Err(StoreError::Locked { .. })));
        fs::write(&master, kept).unwrap();
        assert!(Vault::open(folder.path(), false).is_err(), "others may read it");
    }
}
