//! What this node has deleted for its own platform's legal reasons (SPEC 20.7): hashes of which it keeps no opening, whoever states them.
//!
//! So that a statement which comes later is recognised, a keyed digest of each value is kept, in a file of the node's own and not in the
//! store: it stays where the store is fetched again. Who has the file can try values out, and reads none.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::time::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::folder::{FolderError, at, read_text, replace};
use crate::keys::{KeysError, random};

/// Longest file, in bytes: a hundred thousand values.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// The values that this node does not hold.
pub struct Forgotten {
    path: PathBuf,
    key: Digest,
    values: ArcSwap<HashMap<Digest, Entry>>,
    writing: Mutex<()>,
}

/// Why and since when a value is not held.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Entry {
    /// Since when.
    pub since: Timestamp,
    /// Why, in the operator's words.
    pub reason: String,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each transparent variant is the error of the part it names")]
pub enum ForgottenError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// What is in it.
    #[error("{path} is damaged: put it back from a backup; without it the node would hold again what it must not")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: serde_json::Error,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Form {
    key: Digest,
    values: HashMap<Digest, Entry>,
}

impl Forgotten {
    /// Reads the file, if there is one.
    pub fn open(path: PathBuf) -> Result<Arc<Self>, ForgottenError> {
        let form = if path.exists() {
            let damaged = |error| ForgottenError::Damaged { path: path.clone(), error };
            serde_json::from_str(&read_text(&path, MAX_FILE)?).map_err(damaged)?
        } else {
            Form { key: Digest(random()?), values: HashMap::new() }
        };
        Ok(Arc::new(Self { path, key: form.key, values: ArcSwap::from_pointee(form.values), writing: Mutex::new(()) }))
    }

    fn digest(&self, hash: &ContentHash) -> Digest {
        Digest::of(&[b"hashmesh/forgotten/v1", &[0], self.key.as_bytes(), &[hash.kind() as u8], hash.value()])
    }

    /// Whether a value is not held here.
    pub fn has(&self, hash: &ContentHash) -> bool {
        self.values.load().contains_key(&self.digest(hash))
    }

    /// Whether everything is held here.
    pub fn is_empty(&self) -> bool {
        self.values.load().is_empty()
    }

    /// How many values are not held here.
    pub fn count(&self) -> usize {
        self.values.load().len()
    }

    /// Why and since when, the oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.values.load().values().cloned().collect();
        entries.sort_by_key(|entry| entry.since);
        entries
    }

    /// Does not hold a value from now on, durably. `false` if that was so already.
    pub fn add(&self, hash: &ContentHash, reason: String) -> Result<bool, ForgottenError> {
        let _one_at_a_time = self.writing.lock();
        let mut values = HashMap::clone(&self.values.load());
        if values.contains_key(&self.digest(hash)) {
            return Ok(false);
        }
        values.insert(self.digest(hash), Entry { since: clock::now(), reason });
        let text = serde_json::to_vec(&Form { key: self.key, values: values.clone() });
        let text = text.map_err(|error| at(&self.path, io::Error::other(error)))?;
        replace(&self.path, &text).map_err(|error| at(&self.path, error))?;
        self.values.store(Arc::new(values));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_recognised_over_a_restart_and_stands_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forgotten.json");
        let hash = |digit: char| format!("md5:{}", digit.to_string().repeat(32)).parse::<ContentHash>().unwrap();
        let forgotten = Forgotten::open(path.clone()).unwrap();
        assert!(!forgotten.has(&hash('a')));
        assert!(forgotten.add(&hash('a'), "an order of a court".to_owned()).unwrap());
        assert!(!forgotten.add(&hash('a'), "again".to_owned()).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&"a".repeat(32)) && text.contains("an order of a court"), "{text}");
        let again = Forgotten::open(path.clone()).unwrap();
        assert!(again.has(&hash('a')) && !again.has(&hash('b')));
        assert_eq!((again.count(), again.entries()[0].reason.as_str()), (1, "an order of a court"));
        std::fs::write(&path, &text[1..]).unwrap();
        assert!(matches!(Forgotten::open(path), Err(ForgottenError::Damaged { .. })));
    }
}
