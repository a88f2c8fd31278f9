//! Opening the database, around the faults that it is known to have.
//!
//! Measured on sled 0.34.7: a kill while it opens can leave a `snap.*.generating` file, after which it refuses to open; a
//! damaged snapshot likewise, though everything in it can be had from the log; a file cut short can make it panic; the lock
//! of a killed process can outlive it for seconds.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::StoreError;
use crate::folder::make_private;
use crate::panics::caught;

/// How long to wait for the lock of a process that is still dying.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Pages that the database keeps in memory. What it answers is read once, at start, or sent to peers; 64 MiB is where
/// smaller caches begin to cost more memory than they save (through garbage).
const CACHE: u64 = 64 * 1024 * 1024;

/// An open database and the file that must be synced after each flush.
pub(super) struct Opened {
    pub(super) db: sled::Db,
    pub(super) file: File,
}

/// Does something with the database in `path`, which panics over damaged files where it should say so.
pub fn unless_damaged<T, E: From<StoreError>>(path: &Path, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    caught(work).unwrap_or_else(|| {
        let what = "the database cannot make out its own files".to_owned();
        Err(StoreError::Unreadable { path: path.to_owned(), what }.into())
    })
}

/// Opens the database in `path`, making it if it is not there.
pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
    let file_error = |path: &Path, error| StoreError::File { path: path.to_owned(), error };
    let is_new = !path.join("db").exists();
    make_private(path)?;
    remove_unfinished_snapshots(path).map_err(|error| file_error(path, error))?;
    let db = match open_patiently(path) {
        Err(StoreError::Unreadable { .. }) if set_snapshots_aside(path).map_err(|e| file_error(path, e))? => {
            open_patiently(path)?
        }
        opened => opened?,
    };
    let data = path.join("db");
    let file = File::options().read(true).write(true).open(&data).map_err(|error| file_error(&data, error))?;
    if is_new {
        // Without this the power may fail before the database's own settings are on the disk, and it would not open again.
        for name in ["conf", "db", "."] {
            let path = path.join(name);
            File::open(&path).and_then(|file| file.sync_all()).map_err(|error| file_error(&path, error))?;
        }
    }
    Ok(Opened { db, file })
}

fn open_patiently(path: &Path) -> Result<sled::Db, StoreError> {
    let begun = Instant::now();
    loop {
        // The flusher thread is also the database's only garbage collector: its interval is the one measured best.
        let config = sled::Config::new().path(path).cache_capacity(CACHE).flush_every_ms(Some(500));
        let opened = unless_damaged(path, || Ok::<_, StoreError>(config.open()))?;
        match opened {
            Ok(db) => return Ok(db),
            Err(error) if is_locked(&error) => {
                if begun.elapsed() > LOCK_PATIENCE {
                    return Err(StoreError::InUse { path: path.to_owned() });
                }
                sleep(Duration::from_millis(100));
            }
            Err(sled::Error::Corruption { .. }) => {
                let what = "it does not open".to_owned();
                return Err(StoreError::Unreadable { path: path.to_owned(), what });
            }
            Err(error) => return Err(StoreError::Database { path: path.to_owned(), error: Box::new(error) }),
        }
    }
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

fn snapshots(path: &Path) -> io::Result<Vec<fs::DirEntry>> {
    let all = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(|entry| entry.file_name().to_string_lossy().starts_with("snap.")).collect())
}

fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    for entry in snapshots(path)? {
        if entry.file_name().to_string_lossy().ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Takes snapshots out of the database's way; `false` if there were none.
fn set_snapshots_aside(path: &Path) -> io::Result<bool> {
    let snapshots = snapshots(path)?;
    for entry in &snapshots {
        let name = entry.file_name().to_string_lossy().replacen("snap.", "aside.", 1);
        fs::rename(entry.path(), path.join(name))?;
    }
    Ok(!snapshots.is_empty())
}
