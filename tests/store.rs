//! SPEC 15: the contract of a store, on the real one and on the simulator's.

use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::Path;
use std::sync::Arc;

use hashmesh::store::{DiskStore, HeadsFile, Record, Shrunk, Store, StoreError, load, unless_damaged};
use hashmesh_protocol::batch::Batch;
use hashmesh_protocol::bundle;
use hashmesh_protocol::catalog::{Catalog, Curator};
use hashmesh_protocol::charter::Parameters;
use hashmesh_protocol::checkpoint::{Checkpoint, SignedCheckpoint};
use hashmesh_protocol::cosignature::{Cosignature, CosignedCheckpoint, SettledCheckpoint};
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::entries::{Entries, LateOpening};
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::ledger::{Admission, Admitted, Ledger, Mark};
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::opening::{Opening, Salt, commitment};
use hashmesh_protocol::serve::{self, Archive};
use hashmesh_protocol::statement::{Add, Labels, Leaf, MAX_LEAF, Statement};
use hashmesh_protocol::time::Timestamp;
use hashmesh_protocol::tree::leaf_hash;
use hashmesh_protocol::tree::prover::{self, Subtrees};
use hashmesh_protocol::wire::Answer;
use hashmesh_testnet::founding::{Founding, found_by};
use hashmesh_testnet::sim::{Disk, pdq};

struct World {
    founding: Founding,
    federation: Federation,
    ledger: Ledger,
    log: LogId,
    openings: Vec<Vec<u8>>,
}

fn world() -> World {
    let founding = found_by(&["acme", "bolt"], Parameters::standard());
    let federation = Federation::new(&founding.genesis);
    let log = LogId { member: "acme".parse().unwrap(), epoch: 0 };
    World { ledger: Ledger::new(&federation), federation, founding, log, openings: Vec::new() }
}

fn leaf(number: u64, commitment: Digest) -> Leaf {
    let add = Add {
        kind: 1,
        commitment,
        labels: Labels::new(&[1]).unwrap(),
        media: 2,
        quality: None,
        expiry: None,
        incident: None,
        replaces: None,
    };
    Leaf { time: Timestamp(1000 + number / 100), statement: Statement::Add(add) }
}

impl World {
    /// The next leaves of the log, as admitted, signed where they end if wanted. Openings at multiples of `missing` are left out.
    fn grow(&mut self, count: u64, signed: bool, missing: Option<u64>) -> Arc<Admitted> {
        let first = self.ledger.log(self.log).unwrap().size();
        let (mut leaves, mut openings) = (Vec::new(), Vec::new());
        for number in first..first + count {
            let opening = Opening::of(&pdq(number), Salt([1; 16]), None).encode();
            bundle::push(&mut leaves, &leaf(number, commitment(&opening)).encode());
            let left_out = missing.is_some_and(|every| number % every == 0);
            bundle::push(&mut openings, if left_out { &[] } else { &opening });
            self.openings.push(opening);
        }
        self.admit(leaves, openings, signed)
    }

    /// The next leaves of the log, every other one as long as a leaf can be, with notes as long as notes can be.
    fn grow_long(&mut self, count: u64) -> Arc<Admitted> {
        let first = self.ledger.log(self.log).unwrap().size();
        let (mut leaves, mut openings) = (Vec::new(), Vec::new());
        for number in first..first + count {
            let opening = if number % 2 == 0 {
                let opening = Opening::of(&pdq(number), Salt([1; 16]), Some(&"n".repeat(512))).encode();
                bundle::push(&mut leaves, &leaf(number, commitment(&opening)).encode());
                opening
            } else {
                // A leaf of a kind to come (SPEC 4.6).
                let mut long = vec![0x84, 1, 0x19];
                long.extend(u16::try_from(1000 + number / 100).unwrap().to_be_bytes());
                long.extend([0x18, 99, 0x59, 0x03, 0xf6]);
                long.resize(MAX_LEAF, 7);
                bundle::push(&mut leaves, &long);
                Vec::new()
            };
            bundle::push(&mut openings, &opening);
            self.openings.push(opening);
        }
        self.admit(leaves, openings, true)
    }

    fn admit(&mut self, leaves: Vec<u8>, openings: Vec<u8>, signed: bool) -> Arc<Admitted> {
        let first = self.ledger.log(self.log).unwrap().size();
        let entries = Entries::read(self.log, first, leaves, openings).unwrap();
        if !signed {
            return Arc::new(self.ledger.append(entries).unwrap());
        }
        let mut trial = self.ledger.clone();
        trial.append(entries.clone()).unwrap();
        let mark = trial.log(self.log).unwrap().mark();
        let checkpoint = self.sign(mark).note().clone();
        match self.ledger.admit(Batch { entries, checkpoint, proof: Vec::new() }).unwrap() {
            Admission::New(admitted) => Arc::from(admitted),
            other => panic!("{other:?}"),
        }
    }

    fn sign(&self, mark: Mark) -> SignedCheckpoint {
        let key = &self.federation.logs()[&self.log];
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: mark.size, root: mark.root };
        SignedCheckpoint::sign(checkpoint, key, &self.founding.keys[&self.log.member].log)
    }

    fn mark(&self) -> Mark {
        self.ledger.log(self.log).unwrap().mark()
    }

    /// Loads a store as a node does at its start.
    fn load<S: Store>(&self, store: &mut S, signed: Option<Mark>) -> (Ledger, Arc<Catalog>, Vec<(LogId, u64)>) {
        let (mut curator, catalog): (Curator, _) = Catalog::new([1, 2]);
        let loaded = load(store, &self.federation, &mut curator, signed.map(|mark| (self.log, mark)), |_| ()).unwrap();
        (loaded.ledger, catalog, loaded.cut)
    }
}

/// A store that can be closed and opened again.
trait Shelf {
    type Store: Store;

    fn open(&mut self) -> Self::Store;

    fn close(&mut self, store: Self::Store);
}

struct OnDisk(tempfile::TempDir);

impl Shelf for OnDisk {
    type Store = DiskStore;

    fn open(&mut self) -> DiskStore {
        DiskStore::open(&self.0.path().join("store")).unwrap()
    }

    fn close(&mut self, store: DiskStore) {
        drop(store);
    }
}

#[derive(Default)]
struct InMemory(Disk);

impl Shelf for InMemory {
    type Store = Disk;

    fn open(&mut self) -> Disk {
        self.0.clone()
    }

    fn close(&mut self, store: Disk) {
        self.0 = store;
    }
}

fn commits_are_loaded_again(shelf: &mut impl Shelf) {
    let mut world = world();
    for (count, signed) in
        [(1, true), (1, true), (61, true), (1, true), (1, false), (300, true), (8192, true), (5, true)]
    {
        let mut store = shelf.open();
        let (before, _, cut) = world.load(&mut store, None);
        assert_eq!(before.log(world.log).unwrap().mark(), world.mark());
        assert_eq!(cut, []);
        let admitted = world.grow(count, signed, None);
        store.commit(&[Record::Leaves(admitted)]).unwrap();
        shelf.close(store);
    }
    let mut store = shelf.open();
    let (ledger, catalog, _) = world.load(&mut store, None);
    let size = world.mark().size;
    assert_eq!(ledger.log(world.log).unwrap().mark(), world.mark());
    assert_eq!(ledger.log(world.log).unwrap().whole().unwrap().size(), size);
    for number in (0..size).step_by(97) {
        assert!(catalog.find(&pdq(number)).is_some(), "{number}");
    }
}

#[test]
fn whatever_was_committed_is_loaded_again() {
    commits_are_loaded_again(&mut OnDisk(tempfile::tempdir().unwrap()));
    commits_are_loaded_again(&mut InMemory::default());
}

/// SPEC 15.3. The database puts what grows too large into files of their own, in `blobs`, which nobody syncs. An import with
/// notes of 200 bytes got there, and the loss of power would have taken what had been acknowledged.
#[test]
fn nothing_is_so_long_that_it_is_stored_where_it_is_not_synced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let blobs = || std::fs::read_dir(path.join("blobs")).map_or(0, Iterator::count);
    let mut world = world();
    for counts in [vec![1, 1, 61, 2, 300, 40], vec![24, 1200, 1, 7]] {
        let mut store = DiskStore::open(&path).unwrap();
        let (before, ..) = world.load(&mut store, None);
        assert_eq!(before.log(world.log).unwrap().mark(), world.mark());
        for count in counts {
            let admitted = world.grow_long(count);
            store.commit(&[Record::Leaves(admitted)]).unwrap();
            assert_eq!(blobs(), 0, "after {count} at {}", world.mark().size);
        }
    }
    let mut store = DiskStore::open(&path).unwrap();
    let (ledger, catalog, _) = world.load(&mut store, None);
    assert_eq!(ledger.log(world.log).unwrap().mark(), world.mark());
    let size = world.mark().size;
    assert!((0..size).step_by(2).all(|number| catalog.find(&pdq(number)).is_some()));
    let stored = store.bundles(world.log, 0, size, usize::MAX).unwrap();
    assert!(bundle::entries(&stored.openings).map(Result::unwrap).eq(world.openings.iter()));
}

/// Late openings make rows longer from within: their pieces are never mixed up with those of before.
#[test]
fn openings_that_come_late_find_their_places_in_rows_of_any_length() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world();
    let mut store = DiskStore::open(&folder.path().join("store")).unwrap();
    world.load(&mut store, None);
    let (mut leaves, mut openings) = (Vec::new(), Vec::new());
    for number in 0..100 {
        let opening = Opening::of(&pdq(number), Salt([1; 16]), Some(&"n".repeat(512))).encode();
        bundle::push(&mut leaves, &leaf(number, commitment(&opening)).encode());
        bundle::push(&mut openings, &[]);
        world.openings.push(opening);
    }
    let admitted = world.admit(leaves, openings, true);
    store.commit(&[Record::Leaves(admitted.clone())]).unwrap();
    for number in (0..100).rev() {
        let leaf = bundle::entries(admitted.entries.leaves()).nth(number).unwrap().unwrap();
        let late = LateOpening::check(world.log, number as u64, leaf, world.openings[number].clone()).unwrap();
        store.commit(&[Record::Opening(Arc::new(late))]).unwrap();
        let stored = store.bundles(world.log, 0, 100, usize::MAX).unwrap();
        let known: Vec<&[u8]> = bundle::entries(&stored.openings).map(Result::unwrap).collect();
        assert!(known[..number].iter().all(|opening| opening.is_empty()));
        assert!(known[number..].iter().eq(&world.openings[number..]));
    }
}

fn several_records_in_one_commit(shelf: &mut impl Shelf) {
    let mut world = world();
    let mut store = shelf.open();
    world.load(&mut store, None);
    let first = world.grow(70, true, Some(3));
    let second = world.grow(70, true, None);
    let leaf = bundle::entries(first.entries.leaves()).nth(66).unwrap().unwrap();
    let late = LateOpening::check(world.log, 66, leaf, world.openings[66].clone()).unwrap();
    store.commit(&[Record::Leaves(first), Record::Leaves(second), Record::Opening(Arc::new(late))]).unwrap();
    shelf.close(store);

    let mut store = shelf.open();
    let (ledger, catalog, _) = world.load(&mut store, None);
    let log = ledger.log(world.log).unwrap();
    assert_eq!(log.mark(), world.mark());
    let missing: Vec<u64> = log.missing_from(0).collect();
    assert_eq!(missing, (0..70).filter(|number| number % 3 == 0 && *number != 66).collect::<Vec<_>>());
    assert!(catalog.find(&pdq(66)).is_some() && catalog.find(&pdq(63)).is_none());
}

#[test]
fn several_records_make_one_commit() {
    several_records_in_one_commit(&mut OnDisk(tempfile::tempdir().unwrap()));
    several_records_in_one_commit(&mut InMemory::default());
}

fn unsigned_leaves_are_dropped(shelf: &mut impl Shelf) {
    let mut world = world();
    let mut store = shelf.open();
    world.load(&mut store, None);
    let admitted = world.grow(100, true, None);
    store.commit(&[Record::Leaves(admitted)]).unwrap();
    let signed = world.mark();
    let before = world.ledger.clone();
    let admitted = world.grow(30, false, None);
    store.commit(&[Record::Leaves(admitted)]).unwrap();
    shelf.close(store);

    let mut store = shelf.open();
    let (ledger, catalog, cut) = world.load(&mut store, Some(signed));
    assert_eq!(ledger.log(world.log).unwrap().mark(), signed);
    assert_eq!(cut, [(world.log, 100)]);
    assert!(catalog.find(&pdq(110)).is_none());

    // Something else is said from there on, and nothing of the dropped leaves comes back.
    world.ledger = before;
    world.openings.truncate(100);
    let admitted = world.grow(7, true, None);
    store.commit(&[Record::Leaves(admitted)]).unwrap();
    shelf.close(store);
    let mut store = shelf.open();
    let (ledger, ..) = world.load(&mut store, Some(world.mark()));
    assert_eq!(ledger.log(world.log).unwrap().mark(), world.mark());
    assert_eq!(store.bundles(world.log, 0, 1000, usize::MAX).unwrap().count, 107);
}

/// SPEC 8.4.
#[test]
fn leaves_that_were_never_signed_are_dropped_at_start() {
    unsigned_leaves_are_dropped(&mut OnDisk(tempfile::tempdir().unwrap()));
    unsigned_leaves_are_dropped(&mut InMemory::default());
}

/// All leaf hashes of a log, from its stored leaves.
struct Naive(Vec<Digest>);

impl Subtrees for Naive {
    type Error = std::convert::Infallible;

    fn subtree(&self, level: u32, index: u64) -> Result<Digest, Self::Error> {
        let mut hashes = self.0[(index << level) as usize..((index + 1) << level) as usize].to_vec();
        while hashes.len() > 1 {
            hashes = hashes.chunks(2).map(|pair| hashmesh_protocol::tree::node_hash(&pair[0], &pair[1])).collect();
        }
        Ok(hashes[0])
    }
}

fn ranges_and_proofs(shelf: &mut impl Shelf) {
    let mut world = world();
    let mut store = shelf.open();
    world.load(&mut store, None);
    for _ in 0..5 {
        let admitted = world.grow(300, true, None);
        store.commit(&[Record::Leaves(admitted)]).unwrap();
    }
    shelf.close(store);
    let mut store = shelf.open();
    world.load(&mut store, None);
    let all = store.bundles(world.log, 0, 1500, usize::MAX).unwrap();
    let leaves: Vec<&[u8]> = bundle::entries(&all.leaves).map(Result::unwrap).collect();
    assert_eq!(leaves.len(), 1500);
    for (from, to) in [(0, 1), (63, 65), (64, 128), (100, 1300), (1499, 1500), (1499, 9999)] {
        let part = store.bundles(world.log, from, to, usize::MAX).unwrap();
        let expected = &leaves[from as usize..to.min(1500) as usize];
        assert_eq!(bundle::entries(&part.leaves).map(Result::unwrap).collect::<Vec<_>>(), expected, "{from}..{to}");
        assert_eq!(part.count, expected.len() as u64);
    }
    assert_eq!(store.bundles(world.log, 1500, 1600, usize::MAX).unwrap().count, 0);
    let few = store.bundles(world.log, 10, 1500, 2000).unwrap();
    assert!(few.count > 5 && few.leaves.len() + few.openings.len() <= 2000, "cut by bytes: {}", few.count);
    assert_eq!(store.bundles(world.log, 10, 1500, 1).unwrap().count, 1, "one at least, or nobody gets on");

    let naive = Naive(leaves.iter().map(|leaf| leaf_hash(leaf)).collect());
    for (level, index) in [(0, 0), (0, 1499), (3, 100), (7, 5), (8, 0), (8, 4), (9, 1), (10, 0)] {
        let Ok(expected) = naive.subtree(level, index);
        assert_eq!(store.subtree(world.log, level, index).unwrap(), expected, "level {level}, index {index}");
    }

    // What is served is accepted by a ledger that has nothing, in however many steps.
    let origins = world.federation.origins();
    let mut fresh = Ledger::new(&world.federation);
    let mut from = 0;
    while from < 1500 {
        let served = serve::range(&store, origins, world.log, from, from + 170).unwrap();
        let Answer::Range(batch) = Answer::decode(&served, origins).unwrap() else { panic!("leaves were asked for") };
        assert!(matches!(fresh.admit(*batch), Ok(Admission::New(_))), "from {from}");
        from = fresh.log(world.log).unwrap().size();
    }
    assert_eq!(fresh.log(world.log).unwrap().mark(), world.mark());
    let Ok(root) = prover::root(&naive, 1500);
    assert_eq!(fresh.log(world.log).unwrap().root(), root);
    let beyond = serve::range(&store, origins, world.log, 1500, 1600).unwrap();
    assert_eq!(Answer::decode(&beyond, origins), Ok(Answer::NotHeld));
}

#[test]
fn any_range_can_be_read_served_and_verified() {
    ranges_and_proofs(&mut OnDisk(tempfile::tempdir().unwrap()));
    ranges_and_proofs(&mut InMemory::default());
}

/// SPEC 13.4: rows can be seen while they are written; what is served is durable, and its tree is there.
fn only_what_is_stored_is_served(shelf: &mut impl Shelf) {
    let mut world = world();
    let mut store = shelf.open();
    world.load(&mut store, None);
    store.commit(&[Record::Leaves(world.grow(300, true, None))]).unwrap();
    let early = world.grow(300, true, None);
    store.keep_checkpoint(world.log, early.checkpoint.as_ref().unwrap()).unwrap();
    let newest = |store: &_| Archive::checkpoint(store, world.log, 0, u64::MAX).unwrap().unwrap().0;
    assert_eq!(newest(&store), 300);
    store.commit(&[Record::Leaves(early)]).unwrap();
    assert_eq!(newest(&store), 600);
}

#[test]
fn a_checkpoint_whose_leaves_are_not_stored_yet_is_not_served() {
    only_what_is_stored_is_served(&mut OnDisk(tempfile::tempdir().unwrap()));
    only_what_is_stored_is_served(&mut InMemory::default());
}

/// SPEC 15.5: no gap between kept checkpoints is wider than a batch, however small the batches were.
#[test]
fn checkpoints_are_thinned_but_never_too_far_apart() {
    let mut shelf = OnDisk(tempfile::tempdir().unwrap());
    let mut world = world();
    let mut store = shelf.open();
    world.load(&mut store, None);
    for _ in 0..100 {
        let admitted = world.grow(500, true, None);
        store.commit(&[Record::Leaves(admitted)]).unwrap();
    }
    let mut kept = Vec::new();
    let mut below = 50_000;
    while let Some((size, _)) = store.checkpoint(world.log, 0, below).unwrap() {
        kept.push(size);
        below = size - 1;
    }
    kept.reverse();
    assert_eq!(kept.last(), Some(&50_000));
    assert!(kept[0] <= 8192 && kept.windows(2).all(|pair| pair[1] - pair[0] <= 8192), "{kept:?}");
    assert!(kept.len() <= 14, "{} of 100 kept", kept.len());
}

/// A half-written snapshot, as a kill while opening leaves it, is no reason to refuse.
#[test]
fn a_snapshot_that_was_not_finished_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(DiskStore::open(&path).unwrap());
    std::fs::write(path.join("snap.00000000000FFFFF.generating"), b"torn").unwrap();
    DiskStore::open(&path).unwrap();
}

/// SPEC 15.6: whatever happens to the file of the database, a node ends up with everything, or finds the damage: by an
/// error, by a panic of the database that is caught, or by the heads beside it. It never ends and never lies.
#[test]
fn a_damaged_store_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, heads) = (folder.path().join("whole"), HeadsFile::new(folder.path().join("heads")));
    let mut world = world();
    let mut store = DiskStore::open(&whole).unwrap();
    world.load(&mut store, None);
    for _ in 0..20 {
        let admitted = world.grow(500, true, None);
        store.commit(&[Record::Leaves(admitted)]).unwrap();
    }
    heads.write(&world.ledger).unwrap();
    assert_eq!(heads.compare(&world.ledger, &world.federation), []);
    drop(store);
    // The database writes its snapshot when it is opened.
    drop(DiskStore::open(&whole).unwrap());

    let (mut found, mut shrunk) = (0, 0);
    let length = std::fs::metadata(whole.join("db")).unwrap().len();
    let cuts = (0..8).map(|part| (Some(length * part / 8), 0));
    let flips = (0..24).map(|part| (None, length * part / 24 + 4321));
    for (number, (cut, flip)) in cuts.chain(flips).enumerate() {
        for with_snapshot in [true, false] {
            let copy = folder.path().join(format!("{number}-{with_snapshot}"));
            copy_files(&whole, &copy, with_snapshot);
            let data = std::fs::OpenOptions::new().read(true).write(true).open(copy.join("db")).unwrap();
            match cut {
                Some(length) => data.set_len(length).unwrap(),
                None => {
                    let mut byte = [0];
                    if data.read_at(&mut byte, flip).unwrap() == 1 {
                        data.write_at(&[byte[0] ^ 0x10], flip).unwrap();
                    }
                }
            }
            let loaded = unless_damaged(&copy, || {
                let mut store = DiskStore::open(&copy)?;
                let (mut curator, _) = Catalog::new([1, 2]);
                Ok(load(&mut store, &world.federation, &mut curator, None, |_| ())?.ledger)
            });
            match loaded {
                Ok(ledger) if ledger.log(world.log).unwrap().mark() == world.mark() => {}
                Ok(ledger) => {
                    let had = world.mark().size;
                    let have = ledger.log(world.log).unwrap().size();
                    assert_eq!(heads.compare(&ledger, &world.federation), [Shrunk { log: world.log, have, had }]);
                    shrunk += 1;
                }
                Err::<_, StoreError>(error) => {
                    assert!(error.is_damage(), "cut to {cut:?}, flipped at {flip}: {error:?}");
                    found += 1;
                }
            }
            std::fs::remove_dir_all(&copy).unwrap();
        }
    }
    assert!(found > 5 && shrunk > 0, "{found} errors, {shrunk} shrunk");
}

fn copy_files(from: &Path, to: &Path, with_snapshot: bool) {
    std::fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let is_snapshot = entry.file_name().to_string_lossy().starts_with("snap.");
        if entry.file_type().unwrap().is_file() && (with_snapshot || !is_snapshot) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// SPEC 19.5: a checkpoint that is cosigned anew is kept as it was settled first as well, for who asks what stood in the log by then.
#[test]
fn what_is_cosigned_anew_is_kept_as_it_was_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut world = world();
    let log = world.log;
    let settled = |world: &World, seconds: u64| {
        let bolt = "bolt".parse().unwrap();
        let signed = world.sign(world.ledger.log(log).unwrap().mark());
        let mut cosigned = CosignedCheckpoint::new(signed.clone());
        let (key, secret) = (&world.federation.witnesses()[&bolt], &world.founding.keys[&bolt].witness);
        cosigned.insert(bolt, Cosignature::sign(signed.checkpoint(), Timestamp(seconds * 1000), key, secret));
        Arc::new(SettledCheckpoint::judge(cosigned, log, &world.federation).unwrap())
    };
    let mut store = DiskStore::open(&path).unwrap();
    let admitted = world.grow(10, true, None);
    let [first, second, third] = [1_000, 90_000, 180_000].map(|seconds| settled(&world, seconds));
    store.commit(&[Record::Leaves(admitted.clone()), Record::Settled(log, first.clone())]).unwrap();
    store.restored(&admitted);
    let times = |store: &DiskStore, up_to: u64| {
        let (size, notes) = store.archive().checkpoints(log, up_to).unwrap().unwrap();
        (size, notes.iter().map(|note| Cosignature::claimed_time(note).0 / 1000).collect::<Vec<_>>())
    };
    assert_eq!(times(&store, u64::MAX), (10, vec![1_000]));
    store.commit(&[Record::Settled(log, second)]).unwrap();
    store.commit(&[Record::Settled(log, third)]).unwrap();
    assert_eq!(times(&store, u64::MAX), (10, vec![1_000, 180_000]));
    // Of the hour of the third one, another checkpoint is kept; the first one stays.
    let more = world.grow(5, true, None);
    let later = settled(&world, 180_100);
    store.commit(&[Record::Leaves(more.clone()), Record::Settled(log, later)]).unwrap();
    store.restored(&more);
    assert_eq!(times(&store, u64::MAX), (15, vec![180_100]));
    assert_eq!(times(&store, 14).1[0], 1_000);
    drop(store);
    let (mut store, mut curator) = (DiskStore::open(&path).unwrap(), Catalog::new([1, 2]).0);
    load(&mut store, &world.federation, &mut curator, None, |_| ()).unwrap();
    assert_eq!(times(&store, 14).1[0], 1_000);
}
