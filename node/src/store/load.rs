//! From the store back to a running node: every leaf through the same admission as ever.

use std::sync::Arc;

use hashmesh_protocol::catalog::Curator;
use hashmesh_protocol::cosignature::SettledCheckpoint;
use hashmesh_protocol::entries::Entries;
use hashmesh_protocol::evidence::{Accused, Evidence, EvidenceError};
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::ledger::{Admitted, Damage, Ledger, Log, Mark};
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::note::NoteError;
use hashmesh_protocol::serve;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use super::{Store, StoreError, StoredLog};

/// Leaves that are read together.
const PIECE: u64 = 1024;

/// Pieces that are read ahead: few enough that they are still in the processor's cache when they are taken in.
const AHEAD: u64 = 8;

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The logs.
    pub ledger: Ledger,
    /// Logs whose last commit had not reached the disk whole, or was never signed, with the size that they were cut down to.
    /// Nobody had been told of what is gone.
    pub cut: Vec<(LogId, u64)>,
    /// What is proved against keys.
    pub evidence: Vec<Evidence>,
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
    mut progress: impl FnMut(u64) + Send,
) -> Result<Loaded, StoreError> {
    let mut ledger = Ledger::new(federation);
    if let Some((own, mark)) = signed {
        ledger.promise(own, mark);
    }
    for (log, index) in store.all_forgotten() {
        ledger.forget(log, index);
    }
    let (mut cut, mut left_over) = (Vec::new(), Vec::new());
    for stored in store.logs()? {
        let log = stored.log;
        if ledger.log(log).is_none() {
            continue;
        }
        if is_under_another_key(&*store, &ledger, log)? {
            store.resume(log, Mark::default())?;
            cut.push((log, 0));
            continue;
        }
        let mut show = |admitted: &Admitted| {
            store.restored(admitted);
            left_over.extend(store.left_over(log, admitted.entries.iter()).into_iter().map(|index| (log, index)));
            curator.show(&admitted.entries, |_| ());
            progress(admitted.entries.end() - admitted.entries.first());
        };
        let limit = signed.filter(|(own, mark)| *own == log && mark.size < stored.mark.size).map(|(_, mark)| mark);
        let safe = limit.unwrap_or(stored.before);
        restore(&*store, log, 0, safe.size, &mut ledger, &mut show)?;
        let mut end = safe;
        if limit.is_none()
            && let Some(last) = last_commit(&*store, &mut ledger, &stored)?
        {
            last.iter().for_each(&mut show);
            end = stored.mark;
        }
        if end != stored.mark {
            cut.push((log, end.size));
        }
        store.resume(log, end)?;
        let checkpoint = store.checkpoint(log, 0, end.size)?.map(|(_, note)| note);
        ledger.restored(log, &end, checkpoint)?;
        if let Some(note) = store.settled(log)? {
            // What it has beyond the leaves was in a commit that did not reach the disk whole; it is true all the same. It was judged by
            // the keys that were in force then: what has been settled stays settled.
            let settled = SettledCheckpoint::reopen(note, log, federation).map_err(|e| StoreError::Settled(log, e))?;
            ledger.settle(log, Arc::new(settled));
            let _nobody_asks_yet = curator.settle(log, ledger.log(log).map_or(0, Log::settled_size));
        }
    }
    left_over.append(&mut store.left_over_in_hold()?);
    store.forget(&left_over)?;
    left_over.iter().for_each(|(log, index)| ledger.forget(*log, *index));
    let mut evidence = Vec::new();
    for bytes in store.all_evidence()? {
        match Evidence::read(&bytes, federation) {
            Ok(read) => evidence.push(read),
            // Of a card that has no effect any more.
            Err(EvidenceError::NotItsCard) => {}
            Err(error) => return Err(StoreError::Evidence(error)),
        }
    }
    let convicted = evidence.iter().map(Evidence::accused).filter_map(|accused| match accused {
        Accused::Log(log) => Some(log),
        Accused::Witness(_) => None,
    });
    let ended = ledger.logs().filter(|(_, log)| log.end().is_some()).map(|(id, _)| id);
    let closed: Vec<LogId> = convicted.chain(ended).collect();
    for log in closed {
        if let Some(end) = ledger.log(log).and_then(Log::ends_unseen) {
            ledger.ends_as_held(log, serve::root(&*store, log, end.size)? == end.root);
        }
        let counts = ledger.freeze(log);
        store.freeze(log, counts);
        curator.freeze(log, counts, |_| ());
    }
    Ok(Loaded { ledger, cut, evidence })
}

/// Whether what is stored of a log was signed with another key than that which the cards in force name: two cards were rivals, and a
/// charter has named the other one. It is fetched again.
fn is_under_another_key<S: Store>(store: &S, ledger: &Ledger, log: LogId) -> Result<bool, StoreError> {
    let Some(held) = ledger.log(log).filter(|_| log.epoch > 0) else { return Ok(false) };
    let Some((_, note)) = store.checkpoint(log, 0, u64::MAX)? else { return Ok(false) };
    Ok(matches!(note.verify(held.key()), Err(NoteError::NotSigned(_))))
}

/// Takes the leaves `from..to` of a log into the ledger, then hands them to `taken`. Three things are done at a time, on as many
/// cores: handing on, taking in, and whatever can be done without knowing what comes before (reading, decoding, hashing,
/// opening), for as many pieces as there are cores.
fn restore<S: Store>(
    store: &S,
    log: LogId,
    from: u64,
    to: u64,
    ledger: &mut Ledger,
    mut taken: impl FnMut(&Admitted) + Send,
) -> Result<(), StoreError> {
    let read = |from: u64| -> Result<Vec<Entries>, StoreError> {
        let starts: Vec<u64> = (0..AHEAD).map(|piece| from + piece * PIECE).filter(|start| *start < to).collect();
        starts.into_par_iter().map(|start| piece(store, log, start, to.min(start + PIECE))).collect()
    };
    let mut take = |pieces: Vec<Entries>| -> Result<Vec<Admitted>, StoreError> {
        pieces.into_iter().map(|entries| Ok(ledger.restore(entries)?)).collect()
    };
    let (mut from, mut pieces, mut admitted) = (from, read(from)?, Vec::new());
    while !pieces.is_empty() || !admitted.is_empty() {
        from += AHEAD * PIECE;
        let hand_on = || admitted.iter().for_each(&mut taken);
        let ((), (next_admitted, next_pieces)) = rayon::join(hand_on, || rayon::join(|| take(pieces), || read(from)));
        (admitted, pieces) = (next_admitted?, next_pieces?);
    }
    Ok(())
}

/// Reads the leaves `from..to` of a log, all of them.
fn piece<S: Store>(store: &S, log: LogId, from: u64, to: u64) -> Result<Entries, StoreError> {
    let bundles = store.bundles(log, from, to, usize::MAX)?;
    if bundles.count != to - from {
        return Err(Damage::Short { log, have: from + bundles.count, size: to }.into());
    }
    Entries::read(log, from, bundles.leaves, bundles.openings).map_err(|error| StoreError::Leaves(log, error))
}

/// What the last commit wrote of a log, if all of it is there: the power may have failed in the middle of it. If not, the
/// ledger is left as it was.
fn last_commit<S: Store>(
    store: &S,
    ledger: &mut Ledger,
    stored: &StoredLog,
) -> Result<Option<Vec<Admitted>>, StoreError> {
    let (log, mut trial, mut last) = (stored.log, ledger.clone(), Vec::new());
    let from = trial.log(log).map_or(0, Log::size);
    match restore(store, log, from, stored.mark.size, &mut trial, |admitted| last.push(admitted.clone())) {
        Err(error) if error.is_damage() => return Ok(None),
        restored => restored?,
    }
    if trial.log(log).map(Log::mark) != Some(stored.mark) {
        return Ok(None);
    }
    *ledger = trial;
    Ok(Some(last))
}
