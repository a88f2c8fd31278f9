//! The store on disk.
//!
//! Trees of the database: `meta` (format), `logs` (log to number), `leaves` and `openings` (rows of 64, see
//! [`groups`](super::groups)), `evidence` (by the number of the member's log and the kind of key), `checkpoints` and `settled`
//! (number and size to note, in pieces like the rows), `holes` (since when openings are erased, see [`holes`](super::holes)),
//! `marks` (number to how far the log has come, now and one commit ago). Openings are encrypted, see [`vault`](super::vault).
//! A write to one tree is atomic, across trees it is not: so `marks` comes last and is the commit mark, and what it says is
//! verified against the leaves when they are loaded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashmesh_protocol::bundle;
use hashmesh_protocol::checkpoint::SignedCheckpoint;
use hashmesh_protocol::content_hash::{ContentHash, HashKind};
use hashmesh_protocol::cosignature::SettledCheckpoint;
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::entries::{Entries, Entry, MAX_LEAVES};
use hashmesh_protocol::erasure::Erasures;
use hashmesh_protocol::evidence::{Accused, Evidence};
use hashmesh_protocol::ledger::{Admitted, Mark};
use hashmesh_protocol::names::{LogId, MemberId};
use hashmesh_protocol::note::Note;
use hashmesh_protocol::opening::Opening;
use hashmesh_protocol::serve::{Archive, Bundles};
use hashmesh_protocol::statement::{Position, Statement};
use hashmesh_protocol::time::Timestamp;
use hashmesh_protocol::tree::tile::TILE_HEIGHT;
use hashmesh_protocol::tree::{leaf_hash, node_hash};
use parking_lot::RwLock;

use super::groups::{GROUP, LogNumber, PIECE, Rows, Tail, join, key, pieces, with_entry};
use super::holes::{Hole, Holes};
use super::open::open;
use super::vault::{CHUNK, Vault};
use super::{Record, Store, StoreError, StoredLog};
use crate::clock;
use crate::forgotten::Forgotten;

/// The format of the store that this software reads and writes.
const FORMAT: u32 = 1;

/// Pieces of rows in one write to a tree, or those of one row. Each write locks the database against readers, and leaves
/// garbage behind that is collected by hand: 20 rows of 3.5 KB keep both small.
const PIECES_A_WRITE: usize = 20;

/// Milliseconds in an hour.
const HOUR: u64 = 3_600_000;

/// No two kept checkpoints of a log are farther apart than this, unless the batches were: so whoever fetches ranges finds a
/// checkpoint at their end.
const CHECKPOINT_GAP: u64 = MAX_LEAVES as u64;

/// The store, for writing. There is one a process.
pub struct DiskStore {
    archive: Arc<DiskArchive>,
    holes: sled::Tree,
    db: sled::Db,
    file: File,
    marks: sled::Tree,
    logs: sled::Tree,
    written: HashMap<LogId, Written>,
    forgotten: Option<Arc<Forgotten>>,
}

/// The store, for reading: any number of threads at a time, beside the one that writes.
pub struct DiskArchive {
    path: PathBuf,
    leaves: sled::Tree,
    openings: sled::Tree,
    checkpoints: sled::Tree,
    evidence: sled::Tree,
    settled: sled::Tree,
    /// The note with which a size was settled first, where it has been cosigned anew since.
    first_settled: sled::Tree,
    vault: Vault,
    holes: RwLock<Holes>,
    /// Held while rows are written, so that nobody reads some pieces of a row before that and others after.
    rows: RwLock<()>,
    numbers: RwLock<HashMap<LogId, LogNumber>>,
    /// Hashes of the trees from the height of a tile on, by log and level.
    subtrees: RwLock<HashMap<LogId, BTreeMap<u32, Vec<Digest>>>>,
    /// What members have erased: hidden from whoever reads.
    erasures: RwLock<HashMap<MemberId, Erasures>>,
    /// Leaves of each log that are durable and in the tree. Rows are visible before, as they are written.
    ends: RwLock<HashMap<LogId, u64>>,
}

/// One log, as far as only the writer needs it.
#[derive(Default)]
struct Written {
    number: LogNumber,
    mark: Mark,
    leaves: Tail,
    openings: Tail,
    /// Sizes of the last three checkpoints kept.
    checkpoints: [u64; 3],
    /// Size and hour of the last settled checkpoint kept.
    settled: Option<(u64, u64)>,
}

impl DiskStore {
    /// Opens the store in a folder, making it if it is not there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let opened = open(path)?;
        let database = |error: sled::Error| into_error(path, error);
        let tree = |name: &str| opened.db.open_tree(name).map_err(database);
        check_format(path, &tree("meta")?)?;
        let openings = tree("openings")?;
        let archive = DiskArchive {
            path: path.to_owned(),
            vault: Vault::open(path, openings.is_empty())?,
            holes: RwLock::default(),
            leaves: tree("leaves")?,
            openings,
            checkpoints: tree("checkpoints")?,
            evidence: tree("evidence")?,
            settled: tree("settled")?,
            first_settled: tree("first_settled")?,
            rows: RwLock::default(),
            numbers: RwLock::default(),
            subtrees: RwLock::default(),
            erasures: RwLock::default(),
            ends: RwLock::default(),
        };
        let (marks, logs) = (tree("marks")?, tree("logs")?);
        let mut written = HashMap::new();
        for row in logs.iter() {
            let (name, number) = row.map_err(database)?;
            let (log, number) = parse_log(&name, &number).ok_or_else(|| archive.unreadable("a log's name"))?;
            archive.numbers.write().insert(log, number);
            written.insert(log, Written { number, ..Written::default() });
        }
        let holes = tree("holes")?;
        let by_number: HashMap<LogNumber, LogId> =
            written.iter().map(|(log, written): (&LogId, &Written)| (written.number, *log)).collect();
        for row in holes.iter() {
            let (at, hole) = row.map_err(database)?;
            let parsed = || {
                let (number, index) = (at.get(..4)?.try_into().ok()?, at.get(4..)?.try_into().ok()?);
                let (number, index) = (u32::from_be_bytes(number), u64::from_be_bytes(index));
                Some((*by_number.get(&number)?, index, Hole::parse(&hole)?))
            };
            let (log, index, hole) = parsed().ok_or_else(|| archive.unreadable("what is erased"))?;
            archive.holes.write().insert(log, index, hole);
        }
        let (archive, forgotten) = (Arc::new(archive), None);
        Ok(Self { archive, holes, db: opened.db, file: opened.file, marks, logs, written, forgotten })
    }

    /// What this node does not hold by its own decision, from now on.
    pub fn without(&mut self, forgotten: Arc<Forgotten>) {
        self.forgotten = Some(forgotten);
    }

    /// What must not be held, if there is anything: opened hashes are looked at only then.
    fn forgotten(&self) -> Option<&Forgotten> {
        self.forgotten.as_deref().filter(|forgotten| !forgotten.is_empty())
    }

    fn must_not_hold(&self, entry: &Entry) -> bool {
        self.forgotten().is_some_and(|forgotten| entry.hash().is_some_and(|hash| forgotten.has(&hash)))
    }

    /// The store, for reading.
    pub fn archive(&self) -> &Arc<DiskArchive> {
        &self.archive
    }

    fn error(&self, error: sled::Error) -> StoreError {
        into_error(&self.archive.path, error)
    }

    /// Writes rows of one tree, a few at a time; none of them is ever written in part.
    fn write(&self, tree: &sled::Tree, rows: Rows) -> Result<(), StoreError> {
        let (mut batch, mut count) = (sled::Batch::default(), 0);
        for (key, row) in rows {
            let Some(row) = row else {
                for piece in tree.scan_prefix(key).keys() {
                    batch.remove(piece.map_err(|error| self.error(error))?);
                    count += 1;
                }
                continue;
            };
            if count > 0 && count + row.len() / PIECE >= PIECES_A_WRITE {
                self.apply(tree, std::mem::take(&mut batch))?;
                count = 0;
            }
            for (key, piece) in pieces(&key, &row) {
                batch.insert(key, piece);
                count += 1;
            }
        }
        if count > 0 { self.apply(tree, batch) } else { Ok(()) }
    }

    fn apply(&self, tree: &sled::Tree, batch: sled::Batch) -> Result<(), StoreError> {
        let writing = self.archive.rows.write();
        tree.apply_batch(batch).map_err(|error| self.error(error))?;
        drop(writing);
        // Every page change leaves garbage, which is otherwise collected far slower than an import makes it.
        for _ in 0..PIECES_A_WRITE / 5 {
            crossbeam_epoch::pin().flush();
        }
        Ok(())
    }

    /// Makes everything written so far survive the loss of power. The database's own flush does not: it leaves the data in
    /// the drive's cache.
    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|error| self.error(error))?;
        self.file.sync_data().map_err(|error| StoreError::File { path: self.archive.path.join("db"), error })
    }

    /// The number of a log, a new one if it has none.
    fn number(&mut self, log: LogId) -> Result<LogNumber, StoreError> {
        if let Some(written) = self.written.get(&log) {
            return Ok(written.number);
        }
        let number = u32::try_from(self.written.len()).expect("fewer logs than 2^32");
        self.logs.insert(log.to_string().as_bytes(), &number.to_be_bytes()).map_err(|error| self.error(error))?;
        self.archive.numbers.write().insert(log, number);
        self.written.insert(log, Written { number, ..Written::default() });
        Ok(number)
    }

    /// Adds what must be written for admitted leaves.
    fn add_leaves(&mut self, admitted: &Admitted, writes: &mut Writes) -> Result<(), StoreError> {
        let entries = &admitted.entries;
        let log = entries.log();
        let number = self.number(log)?;
        let written = self.written.get_mut(&log).expect("it has a number");
        written.leaves.append(number, entries.leaves(), &mut writes.leaves);
        written.openings.append(number, entries.openings(), &mut writes.openings);
        self.add_holes(entries, &mut writes.holes)?;
        // What is not to be held lies here for a moment, hidden, and goes with the next deletion.
        let forgotten = entries.iter().filter(|(_, entry)| self.must_not_hold(entry));
        writes.holes.extend(forgotten.map(|(index, _)| (log, index, local_hole())));
        let written = self.written.get_mut(&log).expect("it has a number");
        let mark = Mark { size: entries.end(), root: admitted.root };
        // Within one commit the mark before stays the one that the last commit left.
        let before = writes.marks.get(&number).map_or(written.mark, |(_, before)| *before);
        writes.marks.insert(number, (mark, before));
        written.mark = mark;
        if let Some(checkpoint) = &admitted.checkpoint {
            self.add_checkpoint(log, checkpoint, writes);
        }
        Ok(())
    }

    /// Notes since when leaves have erased what.
    fn add_holes(&mut self, entries: &Entries, holes: &mut Vec<(LogId, u64, Hole)>) -> Result<(), StoreError> {
        for (log, index, time) in entries.erasures() {
            self.number(log)?;
            // One that was void has no hold behind it; and what is not held anyway waits for nothing.
            if !self.archive.is_not_held(log, index) && self.archive.erased(log, index).is_none() {
                holes.push((log, index, Hole { since: time.max(clock::now()), gone: false, local: false }));
            }
        }
        Ok(())
    }

    fn write_holes(&self, holes: &[(LogId, u64, Hole)]) -> Result<(), StoreError> {
        for holes in holes.chunks(PIECES_A_WRITE) {
            let mut batch = sled::Batch::default();
            for (log, index, hole) in holes {
                batch.insert(&key(self.written[log].number, *index), hole.encode());
            }
            self.apply(&self.holes, batch)?;
        }
        Ok(())
    }

    /// Writes rows of openings, sealed.
    fn write_openings(&self, rows: Rows) -> Result<(), StoreError> {
        let vault = &self.archive.vault;
        vault.prepare(rows.keys())?;
        let seal =
            |(key, row): ([u8; 12], Option<Vec<u8>>)| Ok((key, row.map(|row| vault.seal(&key, &row)).transpose()?));
        let sealed = rows.into_iter().map(seal).collect::<Result<Rows, StoreError>>()?;
        self.write(&self.archive.openings, sealed)
    }

    /// Writes the openings of a chunk anew under its new key, without those that are to be gone.
    fn reseal(&mut self, log: LogId, chunk: u64, gone: &[u64]) -> Result<(), StoreError> {
        let number = self.written[&log].number;
        self.archive.vault.renew(number, chunk)?;
        let mut rows = Rows::new();
        for group in chunk * CHUNK / GROUP..(chunk + 1) * CHUNK / GROUP {
            let sealed = self.archive.row(&self.archive.openings, number, group)?;
            if sealed.is_empty() || self.archive.vault.is_current(number, group, &sealed) {
                continue;
            }
            let mut row = self.archive.vault.unseal(number, group, &sealed)?;
            for index in gone.iter().filter(|index| **index / GROUP == group) {
                row = with_entry(&row, *index, &[]);
                self.written.get_mut(&log).expect("it has a number").openings.replace(*index, &[]);
            }
            rows.insert(key(number, group), Some(row));
        }
        self.write_openings(rows)
    }

    fn add_checkpoint(&mut self, log: LogId, checkpoint: &SignedCheckpoint, writes: &mut Writes) {
        let Some(written) = self.written.get_mut(&log) else { return };
        let [older, middle, last] = written.checkpoints;
        let size = checkpoint.size();
        if size > last {
            // The last one stays until the new one's leaves are durable: until then it is what is served.
            let too_close = middle > 0 && last - older <= CHECKPOINT_GAP;
            if too_close {
                writes.checkpoints.insert(key(written.number, middle), None);
            }
            written.checkpoints = if too_close { [older, last, size] } else { [middle, last, size] };
        }
        writes.checkpoints.insert(key(written.number, size), Some(checkpoint.note().to_string().into_bytes()));
    }

    /// Keeps a settled checkpoint: of each hour the last one, as proof of what stood in the log by then. One that is cosigned anew is kept
    /// as it was first as well: it proves more.
    fn add_settled(&mut self, log: LogId, settled: &SettledCheckpoint, writes: &mut Writes) -> Result<(), StoreError> {
        let number = self.number(log)?;
        let written = self.written.get_mut(&log).expect("it has a number");
        let (size, hour) = (settled.size(), settled.time().0 / HOUR);
        if let Some((last, its_hour)) = written.settled.replace((size, hour))
            && last != size
            && its_hour == hour
        {
            writes.settled.insert(key(number, last), None);
        }
        let before = match writes.settled.get(&key(number, size)) {
            Some(before) => before.clone().unwrap_or_default(),
            None => self.archive.row(&self.archive.settled, number, size)?,
        };
        if !before.is_empty() && self.archive.row(&self.archive.first_settled, number, size)?.is_empty() {
            writes.first_settled.entry(key(number, size)).or_insert(Some(before));
        }
        writes.settled.insert(key(number, size), Some(settled.note().to_string().into_bytes()));
        Ok(())
    }

    /// Keeps evidence. One against a key is enough.
    fn add_evidence(&mut self, evidence: &Evidence, writes: &mut Writes) -> Result<(), StoreError> {
        let (log, kind) = place_of(evidence.accused());
        let number = self.number(log)?;
        writes.evidence.insert(key(number, kind), Some(evidence.bytes().to_vec()));
        Ok(())
    }

    /// Removes rows and checkpoints beyond a mark. The last row may hold leaves beyond it; they are written over.
    fn cut(&self, number: LogNumber, end: Mark) -> Result<(), StoreError> {
        let rows = key(number, end.size.div_ceil(GROUP))..key(number + 1, 0);
        let checkpoints = key(number, end.size + 1)..key(number + 1, 0);
        let archive = &self.archive;
        for (tree, range) in
            [(&archive.leaves, rows.clone()), (&archive.openings, rows), (&archive.checkpoints, checkpoints)]
        {
            let keys = tree.range(range).keys().collect::<Result<Vec<_>, _>>().map_err(|error| self.error(error))?;
            for keys in keys.chunks(PIECES_A_WRITE) {
                let mut batch = sled::Batch::default();
                keys.iter().for_each(|key| batch.remove(key));
                self.apply(tree, batch)?;
            }
        }
        self.write_marks([(number, (end, end))])?;
        self.sync()
    }

    /// Writes how far logs have come, now and one commit ago: of all of them or of none.
    fn write_marks(&self, marks: impl IntoIterator<Item = (LogNumber, (Mark, Mark))>) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (number, (mark, before)) in marks {
            batch.insert(&number.to_be_bytes(), encode_marks(mark, before));
        }
        self.apply(&self.marks, batch)
    }

    fn add_opening(&mut self, log: LogId, index: u64, opening: &[u8], writes: &mut Writes) -> Result<(), StoreError> {
        let Some(written) = self.written.get_mut(&log) else { return Ok(()) };
        let row_key = key(written.number, index / GROUP);
        let row = match writes.openings.get(&row_key) {
            Some(Some(row)) => row.clone(),
            _ => self.archive.opening_row(written.number, index / GROUP)?,
        };
        written.openings.replace(index, opening);
        writes.openings.insert(row_key, Some(with_entry(&row, index, opening)));
        Ok(())
    }
}

/// What one commit writes.
#[derive(Default)]
struct Writes {
    leaves: Rows,
    openings: Rows,
    holes: Vec<(LogId, u64, Hole)>,
    checkpoints: Rows,
    settled: Rows,
    first_settled: Rows,
    evidence: Rows,
    marks: BTreeMap<LogNumber, (Mark, Mark)>,
}

impl Store for DiskStore {
    fn logs(&self) -> Result<Vec<StoredLog>, StoreError> {
        let mut stored = Vec::new();
        for (&log, written) in &self.written {
            let row = self.marks.get(written.number.to_be_bytes()).map_err(|error| self.error(error))?;
            let Some(row) = row else { continue };
            let (mark, before) = parse_marks(&row).ok_or_else(|| self.archive.unreadable("a mark"))?;
            stored.push(StoredLog { log, mark, before });
        }
        stored.sort_by_key(|stored| stored.log);
        Ok(stored)
    }

    fn restored(&self, admitted: &Admitted) {
        self.archive.grow(admitted);
    }

    fn freeze(&self, log: LogId, size: u64) {
        self.archive.erasures.write().entry(log.member).or_default().freeze(log.epoch, size);
    }

    fn resume(&mut self, log: LogId, end: Mark) -> Result<(), StoreError> {
        let number = self.number(log)?;
        if self
            .marks
            .get(number.to_be_bytes())
            .map_err(|error| self.error(error))?
            .is_some_and(|row| parse_marks(&row).map(|(mark, _)| mark) != Some(end))
        {
            self.cut(number, end)?;
        }
        self.archive.ends.write().insert(log, end.size);
        let leaves = self.archive.row(&self.archive.leaves, number, end.size / GROUP)?;
        let openings = self.archive.opening_row(number, end.size / GROUP)?;
        let newest = self.archive.checkpoint(log, 0, end.size)?.map_or(0, |(size, _)| size);
        let below = |size: u64| -> Result<u64, StoreError> {
            Ok(self.archive.checkpoint(log, 0, size.saturating_sub(1))?.map_or(0, |(size, _)| size))
        };
        let middle = below(newest)?;
        let older = below(middle)?;
        let settled = self.written.get(&log).and_then(|written| written.settled);
        let written = Written {
            number,
            mark: end,
            settled,
            leaves: Tail::new(end.size, &leaves),
            openings: Tail::new(end.size, &openings),
            checkpoints: [older, middle, newest],
        };
        self.written.insert(log, written);
        Ok(())
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        for record in records {
            match record {
                Record::Leaves(admitted) => self.add_leaves(admitted, &mut writes)?,
                Record::Opening(late) if self.must_not_hold(late.entry()) => {
                    self.number(late.log())?;
                    writes.holes.push((late.log(), late.index(), Hole { gone: true, ..local_hole() }));
                }
                Record::Opening(late) => self.add_opening(late.log(), late.index(), late.opening(), &mut writes)?,
                Record::Evidence(evidence) => self.add_evidence(evidence, &mut writes)?,
                Record::Settled(log, settled) => self.add_settled(*log, settled, &mut writes)?,
            }
        }
        self.write_openings(writes.openings)?;
        self.write_holes(&writes.holes)?;
        self.write(&self.archive.leaves, writes.leaves)?;
        self.write(&self.archive.checkpoints, writes.checkpoints)?;
        self.write(&self.archive.evidence, writes.evidence)?;
        self.write(&self.archive.settled, writes.settled)?;
        self.write(&self.archive.first_settled, writes.first_settled)?;
        if !writes.marks.is_empty() {
            self.write_marks(writes.marks)?;
        }
        // A crash up to here loses records that nobody has been told of, or some of them; what is left of a log leads to
        // the mark before or to the new one, and loading finds out which.
        self.sync()?;
        for record in records {
            if let Record::Leaves(admitted) = record {
                self.archive.grow(admitted);
            }
        }
        let mut holes = self.archive.holes.write();
        writes.holes.into_iter().for_each(|(log, index, hole)| holes.insert(log, index, hole));
        Ok(())
    }

    fn shred(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let due = self.archive.holes.read().due(before, |log, index| self.archive.erased(log, index).is_some());
        let mut count = 0;
        for (log, indices) in due {
            let chunks: BTreeSet<u64> = indices.iter().map(|index| index / CHUNK).collect();
            for chunk in &chunks {
                self.reseal(log, *chunk, &indices)?;
            }
            // A crash up to here: the old keys are there still, and all of this is done again.
            self.sync()?;
            self.archive.vault.shred(self.written[&log].number, chunks.into_iter())?;
            let hole =
                |index: &u64| Some((log, *index, Hole { gone: true, ..self.archive.holes.read().get(log, *index)? }));
            let gone: Vec<_> = indices.iter().filter_map(hole).collect();
            self.write_holes(&gone)?;
            self.sync()?;
            count += gone.len() as u64;
            let mut holes = self.archive.holes.write();
            gone.into_iter().for_each(|(log, index, hole)| holes.insert(log, index, hole));
        }
        Ok(count)
    }

    fn forget(&mut self, places: &[(LogId, u64)]) -> Result<(), StoreError> {
        if places.is_empty() {
            return Ok(());
        }
        for (log, _) in places {
            self.number(*log)?;
        }
        let holes: Vec<_> = places.iter().map(|(log, index)| (*log, *index, local_hole())).collect();
        self.write_holes(&holes)?;
        self.sync()?;
        let mut all = self.archive.holes.write();
        holes.into_iter().for_each(|(log, index, hole)| all.insert(log, index, hole));
        Ok(())
    }

    fn left_over<'a>(&self, log: LogId, entries: impl Iterator<Item = (u64, &'a Entry)>) -> Vec<u64> {
        if self.forgotten().is_none() {
            return Vec::new();
        }
        let over = entries.filter(|(index, entry)| self.must_not_hold(entry) && !self.archive.is_not_held(log, *index));
        over.map(|(index, _)| index).collect()
    }

    fn left_over_in_hold(&self) -> Result<Vec<(LogId, u64)>, StoreError> {
        self.forgotten().map_or_else(|| Ok(Vec::new()), |forgotten| self.archive.in_hold(|hash| forgotten.has(hash)))
    }

    fn all_forgotten(&self) -> Vec<(LogId, u64)> {
        self.archive.not_held().into_iter().map(|(log, index, _)| (log, index)).collect()
    }

    fn all_evidence(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let numbers: Vec<LogNumber> = self.written.values().map(|written| written.number).collect();
        let mut all = Vec::new();
        for number in numbers {
            for kind in [OF_LOG, OF_WITNESS] {
                all.push(self.archive.row(&self.archive.evidence, number, kind)?);
            }
        }
        all.retain(|evidence| !evidence.is_empty());
        Ok(all)
    }

    fn settled(&self, log: LogId) -> Result<Option<Note>, StoreError> {
        let Some(number) = self.archive.number(log) else { return Ok(None) };
        let last_piece = [key(number, u64::MAX).as_slice(), &[u8::MAX]].concat();
        let settled = &self.archive.settled;
        let mut kept = settled.range(key(number, 0).to_vec()..=last_piece);
        Ok(self.archive.newest(settled, number, kept.next_back())?.map(|(_, note)| note))
    }

    fn keep_checkpoint(&mut self, log: LogId, checkpoint: &SignedCheckpoint) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        self.add_checkpoint(log, checkpoint, &mut writes);
        self.write(&self.archive.checkpoints, writes.checkpoints)
    }
}

impl Archive for DiskStore {
    type Error = StoreError;

    fn checkpoint(&self, log: LogId, above: u64, up_to: u64) -> Result<Option<(u64, Note)>, StoreError> {
        self.archive.checkpoint(log, above, up_to)
    }

    fn bundles(&self, log: LogId, from: u64, to: u64, max_bytes: usize) -> Result<Bundles, StoreError> {
        self.archive.bundles(log, from, to, max_bytes)
    }

    fn erased(&self, log: LogId, index: u64) -> Option<Position> {
        self.archive.erased(log, index)
    }

    fn evidence(&self, accused: Accused) -> Result<Option<Vec<u8>>, StoreError> {
        self.archive.evidence(accused)
    }

    fn subtree(&self, log: LogId, level: u32, index: u64) -> Result<Digest, StoreError> {
        self.archive.subtree(log, level, index)
    }
}

impl Archive for DiskArchive {
    type Error = StoreError;

    fn checkpoint(&self, log: LogId, above: u64, up_to: u64) -> Result<Option<(u64, Note)>, StoreError> {
        self.kept(&self.checkpoints, log, above, up_to)
    }

    fn bundles(&self, log: LogId, from: u64, to: u64, max_bytes: usize) -> Result<Bundles, StoreError> {
        let mut bundles = Bundles::default();
        let Some(number) = self.number(log) else { return Ok(bundles) };
        let mut index = from;
        while index < to {
            let leaves = self.row(&self.leaves, number, index / GROUP)?;
            let openings = self.opening_row(number, index / GROUP)?;
            let both = bundle::entries(&leaves).zip(bundle::entries(&openings));
            // What is taken of the row: from the first to the second place in leaves and in openings.
            let (mut from, mut end, mut full) = ([0; 2], [0; 2], false);
            let mut place = index - index % GROUP;
            for pair in both {
                let (Ok(leaf), Ok(opening)) = pair else { return Err(self.unreadable("a row cut short")) };
                let after = [end[0] + leaf.len() + 2, end[1] + opening.len() + 2];
                if place < index {
                    from = after;
                } else {
                    let bytes = bundles.leaves.len() + bundles.openings.len() + after[0] - from[0] + after[1] - from[1];
                    full = place == to || (bytes > max_bytes && (bundles.count > 0 || place > index));
                    if full {
                        break;
                    }
                }
                end = after;
                place += 1;
            }
            if place <= index {
                break;
            }
            bundles.leaves.extend_from_slice(&leaves[from[0]..end[0]]);
            bundles.openings.extend_from_slice(&openings[from[1]..end[1]]);
            bundles.count += place - index;
            index = place;
            if full || !index.is_multiple_of(GROUP) {
                break;
            }
        }
        if let Some(erasures) = self.erasures.read().get(&log.member) {
            bundles.openings = erasures.hide(log.epoch, from, bundles.count, bundles.openings);
        }
        let local = self.holes.read().local_in(log, from..from + bundles.count);
        bundles.openings = bundle::without(bundles.openings, from, local);
        Ok(bundles)
    }

    fn erased(&self, log: LogId, index: u64) -> Option<Position> {
        self.erasures.read().get(&log.member)?.by(Position { epoch: log.epoch, index })
    }

    fn evidence(&self, accused: Accused) -> Result<Option<Vec<u8>>, StoreError> {
        let (log, kind) = place_of(accused);
        let Some(number) = self.number(log) else { return Ok(None) };
        Ok(Some(self.row(&self.evidence, number, kind)?).filter(|evidence| !evidence.is_empty()))
    }

    fn subtree(&self, log: LogId, level: u32, index: u64) -> Result<Digest, StoreError> {
        if level >= TILE_HEIGHT {
            let subtrees = self.subtrees.read();
            let found = subtrees.get(&log).and_then(|levels| levels.get(&level)?.get(usize::try_from(index).ok()?));
            return found.copied().ok_or_else(|| self.unreadable("a part of a tree that is not there"));
        }
        let bundles = self.bundles(log, index << level, (index + 1) << level, usize::MAX)?;
        let mut hashes: Vec<Digest> = bundle::entries(&bundles.leaves).flatten().map(leaf_hash).collect();
        if hashes.len() != 1 << level {
            return Err(self.unreadable("leaves that are not there"));
        }
        while hashes.len() > 1 {
            hashes = hashes.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        }
        Ok(hashes[0])
    }
}

/// From now on, by this node's own decision.
fn local_hole() -> Hole {
    Hole { since: clock::now(), gone: false, local: true }
}

/// Which evidence a row holds.
const OF_LOG: u64 = 0;
const OF_WITNESS: u64 = 1;

/// Where evidence is kept: with the log, or with the witness's member's first log.
fn place_of(accused: Accused) -> (LogId, u64) {
    match accused {
        Accused::Log(log) => (log, OF_LOG),
        Accused::Witness(member) => (LogId { member, epoch: 0 }, OF_WITNESS),
    }
}

impl DiskArchive {
    /// The openings that this node does not hold by its own decision, and since when.
    pub fn not_held(&self) -> Vec<(LogId, u64, Timestamp)> {
        self.holes.read().all_local()
    }

    /// Whether this node does not hold the opening of a leaf by its own decision.
    pub fn is_not_held(&self, log: LogId, index: u64) -> bool {
        self.holes.read().get(log, index).is_some_and(|hole| hole.local)
    }

    /// The erased openings, not deleted yet, of a content hash like this. The catalog does not know them after a restart.
    pub fn in_hold(&self, is_wanted: impl Fn(&ContentHash) -> bool) -> Result<Vec<(LogId, u64)>, StoreError> {
        let is_wanted = |opening: &[u8]| {
            let Ok(opening) = Opening::decode(opening) else { return false };
            HashKind::ALL.into_iter().filter_map(|kind| opening.content_hash(kind)).any(|hash| is_wanted(&hash))
        };
        let held = self.holes.read().in_hold();
        let mut wanted = Vec::new();
        for in_row in held.chunk_by(|(log, index), (other, next)| log == other && index / GROUP == next / GROUP) {
            let (log, group) = (in_row[0].0, in_row[0].1 / GROUP);
            let Some(number) = self.number(log) else { continue };
            let row = self.opening_row(number, group)?;
            let openings: BTreeMap<u64, &[u8]> =
                (group * GROUP..).zip(bundle::entries(&row).map_while(Result::ok)).collect();
            let here = in_row.iter().filter(|(_, index)| openings.get(index).is_some_and(|opening| is_wanted(opening)));
            wanted.extend(here);
        }
        Ok(wanted)
    }

    fn number(&self, log: LogId) -> Option<LogNumber> {
        self.numbers.read().get(&log).copied()
    }

    /// A row; empty if there is none.
    fn row(&self, tree: &sled::Tree, log: LogNumber, group: u64) -> Result<Vec<u8>, StoreError> {
        let _reading = self.rows.read();
        self.read_row(tree, log, group)
    }

    /// A row of openings, hidden ones too; empty if there is none.
    fn opening_row(&self, log: LogNumber, group: u64) -> Result<Vec<u8>, StoreError> {
        // Opened while nothing is written: its key is thrown away once it has been written anew.
        let _reading = self.rows.read();
        self.vault.unseal(log, group, &self.read_row(&self.openings, log, group)?)
    }

    /// The largest checkpoint kept of a log with a size in `above + 1 ..= up_to`, with its cosignatures if it is settled: what
    /// is shown to others than peers. All its leaves are stored.
    pub fn signed(&self, log: LogId, above: u64, up_to: u64) -> Result<Option<(u64, Note)>, StoreError> {
        let own = self.kept(&self.checkpoints, log, above, up_to)?;
        let settled = self.kept(&self.settled, log, above, up_to)?;
        let size = |kept: &Option<(u64, Note)>| kept.as_ref().map_or(0, |(size, _)| *size);
        Ok(if size(&own) > size(&settled) { own } else { settled })
    }

    /// The checkpoints that are kept of the largest size of at most `up_to`: as [`signed`](Self::signed), and before it, if that has been
    /// cosigned anew, as it was settled first.
    pub fn checkpoints(&self, log: LogId, up_to: u64) -> Result<Option<(u64, Vec<Note>)>, StoreError> {
        let found = [self.kept(&self.first_settled, log, 0, up_to)?, self.signed(log, 0, up_to)?];
        let size = found.iter().flatten().map(|(size, _)| *size).max();
        let of_that_size =
            |size| found.into_iter().flatten().filter(|kept| kept.0 == size).map(|(_, note)| note).collect();
        Ok(size.map(|size| (size, of_that_size(size))))
    }

    /// The largest checkpoint in a tree whose leaves are stored.
    fn kept(&self, tree: &sled::Tree, log: LogId, above: u64, up_to: u64) -> Result<Option<(u64, Note)>, StoreError> {
        let Some(number) = self.number(log) else { return Ok(None) };
        let up_to = up_to.min(self.ends.read().get(&log).copied().unwrap_or_default());
        if above >= up_to {
            return Ok(None);
        }
        let _reading = self.rows.read();
        let last_piece = [key(number, up_to).as_slice(), &[u8::MAX]].concat();
        let mut kept = tree.range(key(number, above + 1).to_vec()..=last_piece);
        self.newest(tree, number, kept.next_back())
    }

    /// The note, with its size, whose last piece was found.
    fn newest(
        &self,
        tree: &sled::Tree,
        number: LogNumber,
        last_piece: Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Result<Option<(u64, Note)>, StoreError> {
        let Some(found) = last_piece else { return Ok(None) };
        let (key, _) = found.map_err(|error| into_error(&self.path, error))?;
        let size = key.get(4..12).and_then(|size| Some(u64::from_be_bytes(size.try_into().ok()?)));
        let size = size.ok_or_else(|| self.unreadable("the size of a checkpoint"))?;
        let note = Note::parse(&self.read_row(tree, number, size)?);
        Ok(Some((size, note.map_err(|_| self.unreadable("a checkpoint"))?)))
    }

    fn read_row(&self, tree: &sled::Tree, log: LogNumber, group: u64) -> Result<Vec<u8>, StoreError> {
        let row = join(&key(log, group), |piece| tree.get(piece)).map_err(|error| into_error(&self.path, error))?;
        row.ok_or_else(|| self.unreadable("a row cut short"))
    }

    fn grow(&self, admitted: &Admitted) {
        if !admitted.subtrees.is_empty() {
            let mut subtrees = self.subtrees.write();
            let levels = subtrees.entry(admitted.entries.log()).or_default();
            for (level, hash) in &admitted.subtrees {
                levels.entry(*level).or_default().push(*hash);
            }
        }
        let log = admitted.entries.log();
        for (index, entry) in admitted.entries.iter() {
            let statement = &entry.leaf.statement;
            if matches!(statement, Statement::Erase(_) | Statement::Void(_)) {
                let at = Position { epoch: log.epoch, index };
                self.erasures.write().entry(log.member).or_default().take(at, statement);
            }
        }
        self.ends.write().insert(log, admitted.entries.end());
    }

    fn unreadable(&self, what: &str) -> StoreError {
        StoreError::Unreadable { path: self.path.clone(), what: what.to_owned() }
    }
}

fn into_error(path: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. } => {
            StoreError::Unreadable { path: path.to_owned(), what: "a checksum is wrong".to_owned() }
        }
        error => StoreError::Database { path: path.to_owned(), error: Box::new(error) },
    }
}

fn check_format(path: &Path, meta: &sled::Tree) -> Result<(), StoreError> {
    let stored = meta.get("format").map_err(|error| into_error(path, error))?;
    let Some(stored) = stored else {
        meta.insert("format", &FORMAT.to_be_bytes()).map_err(|error| into_error(path, error))?;
        return Ok(());
    };
    match <[u8; 4]>::try_from(stored.as_ref()).map(u32::from_be_bytes) {
        Ok(FORMAT) => Ok(()),
        Ok(found) => Err(StoreError::Newer { path: path.to_owned(), found, known: FORMAT }),
        Err(_) => Err(StoreError::Unreadable { path: path.to_owned(), what: "its format".to_owned() }),
    }
}

fn parse_log(name: &[u8], number: &[u8]) -> Option<(LogId, LogNumber)> {
    let (member, epoch) = std::str::from_utf8(name).ok()?.split_once('/')?;
    let log = LogId { member: member.parse().ok()?, epoch: epoch.parse().ok()? };
    Some((log, u32::from_be_bytes(number.try_into().ok()?)))
}

fn encode_marks(mark: Mark, before: Mark) -> Vec<u8> {
    let mut row = Vec::with_capacity(80);
    for mark in [mark, before] {
        row.extend_from_slice(&mark.size.to_be_bytes());
        row.extend_from_slice(mark.root.as_bytes());
    }
    row
}

fn parse_marks(row: &[u8]) -> Option<(Mark, Mark)> {
    let (first, second) = row.split_at_checked(40)?;
    let parse = |bytes: &[u8]| {
        let (size, root) = bytes.split_first_chunk()?;
        Some(Mark { size: u64::from_be_bytes(*size), root: Digest(root.try_into().ok()?) })
    };
    Some((parse(first)?, parse(second)?))
}

#[cfg(test)]
mod tests {
    use hashmesh_protocol::content_hash::{ContentHash, HashKind};
    use hashmesh_protocol::opening::{Opening, Salt, commitment};
    use hashmesh_protocol::statement::{Add, Basis, Erase, Labels, Leaf};

    use super::*;

    /// One leaf of acme's log.
    fn admitted(index: u64, statement: Statement, opening: Option<(&[u8], ContentHash)>) -> Record {
        let log = LogId { member: "acme".parse().unwrap(), epoch: 0 };
        let mut composer = Entries::compose(log, index);
        composer.push(Leaf { time: Timestamp(1), statement }, opening);
        let (entries, root) = (composer.finish().unwrap(), Digest([u8::try_from(index).unwrap(); 32]));
        Record::Leaves(Arc::new(Admitted { entries, subtrees: Vec::new(), root, checkpoint: None }))
    }

    fn add(index: u64) -> (Record, Vec<u8>) {
        let hash = ContentHash::new(HashKind::Md5, &[u8::try_from(index).unwrap() + 1; 16]).unwrap();
        let opening = Opening::of(&hash, Salt([3; 16]), None).encode();
        let add = Add {
            kind: HashKind::Md5 as u64,
            commitment: commitment(&opening),
            labels: Labels::new(&[1]).unwrap(),
            media: 1,
            quality: None,
            expiry: None,
            incident: None,
            replaces: None,
        };
        (admitted(index, Statement::Add(add), Some((&opening, hash))), opening)
    }

    /// Opens a store of which these have been committed.
    fn reopened(path: &Path, committed: &[Record]) -> DiskStore {
        let mut store = DiskStore::open(path).unwrap();
        for record in committed {
            let Record::Leaves(admitted) = record else { continue };
            store.restored(admitted);
        }
        for StoredLog { log, mark, .. } in store.logs().unwrap() {
            store.resume(log, mark).unwrap();
        }
        store
    }

    /// SPEC 20.3. Killed when the new key was there and nothing lay under it, a node went on: the last row of the log, with the
    /// erased opening, was written under that key for the next statement; the deletion that was taken up again left it as it was.
    #[test]
    fn what_is_written_between_a_deletion_that_was_cut_short_and_the_next_is_deleted_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let erase = Erase { position: Position { epoch: 0, index: 0 }, basis: Basis::Mistake as u64 };
        let ((first, erased), (second, kept)) = (add(0), add(1));
        let committed = [first, second, admitted(2, Statement::Erase(erase), None)];
        let mut store = DiskStore::open(&path).unwrap();
        committed.iter().for_each(|record| store.commit(std::slice::from_ref(record)).unwrap());
        store.archive.vault.renew(0, 0).unwrap();
        drop(store);

        let mut store = reopened(&path, &committed);
        let (third, last) = add(3);
        store.commit(&[third]).unwrap();
        let openings = |store: &DiskStore| {
            let row = store.archive.opening_row(0, 0).unwrap();
            bundle::entries(&row).map(|opening| opening.unwrap().to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(openings(&store), [erased, kept.clone(), Vec::new(), last.clone()]);
        assert_eq!(store.shred(Timestamp(u64::MAX)).unwrap(), 1);
        assert_eq!(openings(&store), [Vec::new(), kept.clone(), Vec::new(), last.clone()]);
        assert_eq!(store.shred(Timestamp(u64::MAX)).unwrap(), 0);
        drop(store);
        assert_eq!(openings(&DiskStore::open(&path).unwrap()), [Vec::new(), kept, Vec::new(), last]);
    }

    /// Software that is older than its store must not touch it: it would take what it does not know for damage, and set it
    /// aside.
    #[test]
    fn a_store_of_newer_software_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = DiskStore::open(&path).unwrap();
        let meta = store.db.open_tree("meta").unwrap();
        meta.insert("format", &(FORMAT + 1).to_be_bytes()).unwrap();
        drop((meta, store));
        for _ in 0..2 {
            let Err(error) = DiskStore::open(&path) else { panic!("it was opened") };
            assert!(matches!(error, StoreError::Newer { found, known: FORMAT, .. } if found == FORMAT + 1), "{error}");
            assert!(!error.is_damage() && error.to_string().contains("use a newer version"));
        }
    }
}
