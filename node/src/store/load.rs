//! From the store back to a running node: every leaf through the same admission as ever.

use std::sync::Arc;

use hashmesh_protocol::catalog::Curator;
use hashmesh_protocol::cosignature::SettledCheckpoint;
use hashmesh_protocol::entries::Entries;
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::ledger::{Admitted, Damage, Ledger, Log, Mark};
use hashmesh_protocol::names::LogId;

use super::{Store, StoreError, StoredLog};

/// Leaves that are read together.
const PIECE: u64 = 4096;

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The logs.
    pub ledger: Ledger,
    /// Logs whose last commit had not reached the disk whole, or was never signed, with the size that they were cut down to.
    /// Nobody had been told of what is gone.
    pub cut: Vec<(LogId, u64)>,
}

/// Loads every log of the federation and shows its statements.
///
/// `signed` bounds the own log: leaves beyond it were durable but not signed when the process ended, so nobody has been told
/// of them, and they are dropped. `progress` is told how many leaves have been loaded since it was told last.
pub fn load<S: Store>(
    store: &mut S,
    federation: &Federation,
    curator: &mut Curator,
    signed: Option<(LogId, Mark)>,
    mut progress: impl FnMut(u64),
) -> Result<Loaded, StoreError> {
    let mut ledger = Ledger::new(federation);
    let mut cut = Vec::new();
    for stored in store.logs()? {
        let log = stored.log;
        if ledger.log(log).is_none() {
            continue;
        }
        let mut show = |store: &mut S, admitted: &Admitted| {
            store.restored(admitted);
            curator.show(&admitted.entries, |_| ());
            progress(admitted.entries.end() - admitted.entries.first());
        };
        let limit = signed.filter(|(own, mark)| *own == log && mark.size < stored.mark.size).map(|(_, mark)| mark);
        let safe = limit.unwrap_or(stored.before);
        while let Some(admitted) = next_piece(store, &mut ledger, log, safe.size)? {
            show(store, &admitted);
        }
        let mut end = safe;
        if limit.is_none()
            && let Some(last) = last_commit(store, &mut ledger, &stored)?
        {
            last.iter().for_each(|admitted| show(store, admitted));
            end = stored.mark;
        }
        if end != stored.mark {
            cut.push((log, end.size));
        }
        store.resume(log, end)?;
        let checkpoint = store.checkpoint(log, 0, end.size)?.map(|(_, note)| note);
        ledger.restored(log, &end, checkpoint)?;
        if let Some(note) = store.settled(log)? {
            // What it has beyond the leaves was in a commit that did not reach the disk whole; it is true all the same.
            let settled = SettledCheckpoint::open(note, log, federation).map_err(|e| StoreError::Settled(log, e))?;
            ledger.settle(log, Arc::new(settled));
            curator.settle(log, ledger.log(log).map_or(0, Log::settled_size), |_| ());
        }
    }
    Ok(Loaded { ledger, cut })
}

/// What the last commit wrote of a log, if all of it is there: the power may have failed in the middle of it. If not, the
/// ledger is left as it was.
fn last_commit<S: Store>(
    store: &S,
    ledger: &mut Ledger,
    stored: &StoredLog,
) -> Result<Option<Vec<Admitted>>, StoreError> {
    let (log, mut trial, mut last) = (stored.log, ledger.clone(), Vec::new());
    loop {
        match next_piece(store, &mut trial, log, stored.mark.size) {
            Ok(Some(admitted)) => last.push(admitted),
            Ok(None) => break,
            Err(error) if error.is_damage() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    if trial.log(log).map(Log::mark) != Some(stored.mark) {
        return Ok(None);
    }
    *ledger = trial;
    Ok(Some(last))
}

/// Reads the next leaves of a log into the ledger; `None` once it has reached a size.
fn next_piece<S: Store>(store: &S, ledger: &mut Ledger, log: LogId, end: u64) -> Result<Option<Admitted>, StoreError> {
    let from = ledger.log(log).map_or(0, Log::size);
    if from >= end {
        return Ok(None);
    }
    let bundles = store.bundles(log, from, end.min(from + PIECE), usize::MAX)?;
    if bundles.count == 0 {
        return Err(Damage::Short { log, have: from, size: end }.into());
    }
    let entries = Entries::read(log, from, bundles.leaves, bundles.openings);
    Ok(Some(ledger.restore(entries.map_err(|error| StoreError::Leaves(log, error))?)?))
}
