//! The heads file: the newest checkpoint of every log, outside of the database.
//!
//! A database that was cut short can open as an empty one without a word. The heads beside it are signed and say how long
//! the logs were: a log that is shorter is damage, not an empty log.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use hashmesh_protocol::armor::MAX_FILE;
use hashmesh_protocol::checkpoint::SignedCheckpoint;
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::ledger::{Ledger, Log};
use hashmesh_protocol::names::LogId;

use super::StoreError;
use crate::folder::replace;

/// What stands between two notes: no note holds a form feed.
const BETWEEN: &str = "\u{c}\n";

/// The file.
pub struct HeadsFile {
    path: PathBuf,
}

/// A log that is shorter than the heads say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shrunk {
    /// Which.
    pub log: LogId,
    /// Leaves in the store.
    pub have: u64,
    /// Leaves that were there.
    pub had: u64,
}

impl HeadsFile {
    /// The file at this path, whether or not it is there.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Writes the heads of all logs, durably.
    pub fn write(&self, ledger: &Ledger) -> Result<(), StoreError> {
        let notes: Vec<String> = ledger.logs().filter_map(|(_, log)| Some(log.whole()?.note().to_string())).collect();
        replace(&self.path, notes.join(BETWEEN).as_bytes())
            .map_err(|error| StoreError::File { path: self.path.clone(), error })
    }

    /// Compares with what the store has given back. A file that is missing or damaged says nothing: it is a second witness,
    /// not the truth.
    pub fn compare(&self, ledger: &Ledger, federation: &Federation) -> Vec<Shrunk> {
        let mut shrunk = Vec::new();
        for (log, had) in self.read(federation) {
            let have = ledger.log(log).map_or(0, Log::size);
            if have < had {
                shrunk.push(Shrunk { log, have, had });
            }
        }
        shrunk
    }

    fn read(&self, federation: &Federation) -> BTreeMap<LogId, u64> {
        let mut heads = BTreeMap::new();
        let small = fs::metadata(&self.path).is_ok_and(|data| data.len() <= MAX_FILE as u64);
        let text = if small { fs::read_to_string(&self.path).unwrap_or_default() } else { String::new() };
        for note in text.split(BETWEEN) {
            let log = note.lines().next().and_then(|origin| federation.origins().log(origin));
            let Some((log, key)) = log.and_then(|log| Some((log, federation.logs().get(&log)?))) else { continue };
            if let Ok(head) = SignedCheckpoint::read(note.as_bytes(), key) {
                heads.insert(log, head.size());
            }
        }
        heads
    }
}
