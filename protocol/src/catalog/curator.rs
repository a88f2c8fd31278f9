//! The one that writes the catalog.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{
    Attributes, Catalog, ContentId, ENDED, LogEntry, NO_ROW, Place, TOGETHER, UNOPENED, join, pack, split, unpack,
};
use crate::content_hash::ContentHash;
use crate::entries::{Entries, Entry, LateOpening};
use crate::erasure::Cuts;
use crate::names::{LogId, MemberId};
use crate::statement::{Position, Statement};
use crate::time::Timestamp;

/// Says of which hashes nothing is shown.
pub type Hidden = Box<dyn Fn(&ContentHash) -> bool + Send>;

/// Turns admitted statements into the catalog. There is one a catalog.
pub struct Curator {
    catalog: Arc<Catalog>,
    numbers: HashMap<LogId, u16>,
    logs: Vec<Shown>,
    attributes: HashMap<Attributes, u32>,
    /// The attributes met last, and their number: most statements have those of the one before.
    last: Option<(Attributes, u32)>,
    rows: u32,
    /// How many content hashes each member stands by.
    live: HashMap<MemberId, u64>,
    /// What each member has ended, and what of its logs counts.
    members: HashMap<MemberId, Member>,
    hidden: Option<Hidden>,
}

/// One member, as far as only the writer needs it.
#[derive(Default)]
struct Member {
    /// From where on its logs count as never said.
    cuts: Cuts,
    /// What was said to end something, whether or not it counts and what it names is here. It may come to count, or what it
    /// names may come, in any order.
    ends: BTreeSet<End>,
}

/// A statement that a leaf ends, then that leaf: places as in [`row_at`].
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
struct End {
    epoch: u32,
    index: u32,
    by_epoch: u32,
    by_index: u32,
}

impl End {
    /// `None` where nothing can stand.
    fn new(of: Position, by: Position) -> Option<Self> {
        let at = |position: Position| u32::try_from(position.index).ok();
        Some(Self { epoch: of.epoch, index: at(of)?, by_epoch: by.epoch, by_index: at(by)? })
    }

    fn of(self) -> Position {
        Position { epoch: self.epoch, index: u64::from(self.index) }
    }

    fn by(self) -> Position {
        Position { epoch: self.by_epoch, index: u64::from(self.by_index) }
    }
}

impl Member {
    /// Whether what stands at a place counts and nothing that counts ends it.
    fn is_live(&self, at: Position) -> bool {
        let Ok(index) = u32::try_from(at.index) else { return false };
        let end = |by| End { epoch: at.epoch, index, by_epoch: by, by_index: by };
        let mut ends = self.ends.range(end(u32::MIN)..=end(u32::MAX));
        self.cuts.has_effect(at) && !ends.any(|end| self.cuts.has_effect(end.by()))
    }
}

/// One log, as far as only the writer needs it.
#[derive(Default)]
struct Shown {
    last_time: Option<Timestamp>,
    /// Leaves whose time is kept.
    timed: u64,
}

impl Curator {
    pub(super) fn new(catalog: Arc<Catalog>) -> Self {
        Self {
            catalog,
            numbers: HashMap::new(),
            logs: Vec::new(),
            attributes: HashMap::new(),
            last: None,
            rows: 0,
            live: HashMap::new(),
            members: HashMap::new(),
            hidden: None,
        }
    }

    /// Statements about these hashes are shown to nobody from now on: this node holds their openings no longer (SPEC 20.7).
    pub fn hides(&mut self, hidden: Hidden) {
        self.hidden = Some(hidden);
    }

    /// The opening of a leaf is not held any more, by this node's own decision.
    pub fn forget(&mut self, log: LogId, index: u64, mut changed: impl FnMut(ContentId)) {
        let number = self.log_number(log);
        let catalog = Arc::clone(&self.catalog);
        let rows_of_log = &catalog.logs[usize::from(number)].rows;
        let row = match u32::try_from(index).map(|index| rows_of_log.get(index)) {
            Ok(NO_ROW | UNOPENED) | Err(_) => return,
            Ok(row) => row - 1,
        };
        let (id, place) = (unpack(catalog.rows.contents.get(row)), catalog.rows.places.get(row));
        let before = self.stand(id);
        catalog.rows.places.set(row, place | ENDED);
        rows_of_log.set(row_at(index), UNOPENED);
        if !Place(place).ended() {
            self.count(log.member, id, before);
            changed(id);
        }
    }

    /// The catalog, for reading.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Shows admitted leaves, which follow those shown before of their log. Readers see each statement at once or not at
    /// all, in the order of the leaves; and after all of them, what they void of earlier logs.
    pub fn show(&mut self, entries: &Entries, mut changed: impl FnMut(ContentId)) {
        let log = entries.log();
        let number = self.log_number(log);
        let mut voids = Vec::new();
        for (first, together) in entries.chunks(TOGETHER) {
            let tags = self.catalog.touch(together.iter().map(Entry::hash));
            for ((index, entry), tag) in (first..).zip(together).zip(tags) {
                self.keep_time(number, index, entry.leaf.time);
                if entry.leaf.statement.commitment().is_some() {
                    self.catalog.logs[usize::from(number)].rows.set(row_at(index), UNOPENED);
                }
                // The new statement first, then the end of the old one: between the two the member counts once all the same.
                self.say(number, index, entry, tag, &mut changed);
                let here = Position { epoch: log.epoch, index };
                if let Some(position) = entry.leaf.statement.ends() {
                    self.end(log.member, here, position, &mut changed);
                }
                if let Statement::Void(void) = entry.leaf.statement {
                    voids.push((here, void));
                }
            }
        }
        if !voids.is_empty() {
            self.cut(log.member, |cuts| voids.into_iter().for_each(|(here, void)| _ = cuts.void(here, void)), changed);
        }
    }

    /// Shows a statement whose opening was missing when its leaf was shown.
    pub fn open(&mut self, late: &LateOpening, changed: impl FnMut(ContentId)) {
        let number = self.log_number(late.log());
        if self.catalog.logs[usize::from(number)].rows.get(row_at(late.index())) == UNOPENED {
            let [tag, ..] = self.catalog.touch(std::iter::once(late.entry().hash()));
            self.say(number, late.index(), late.entry(), tag, changed);
        }
    }

    /// The first `size` leaves of a log are settled. Never fewer than before: what is settled stays so. Gives what the newly
    /// settled ones are about, for whoever wants to know.
    pub fn settle(&mut self, log: LogId, size: u64) -> impl Iterator<Item = ContentId> {
        let number = self.log_number(log);
        let log = &self.catalog.logs[usize::from(number)];
        let before = log.settled.fetch_max(size, Ordering::Relaxed);
        (before..size).filter_map(|index| match log.rows.get(u32::try_from(index).ok()?) {
            NO_ROW | UNOPENED => None,
            row => Some(unpack(self.catalog.rows.contents.get(row - 1))),
        })
    }

    /// Only the first `size` leaves of a log count from now on, as if the others had never been shown: its key has signed two
    /// histories. May be said again with another size, when more of it has been settled.
    pub fn freeze(&mut self, log: LogId, size: u64, changed: impl FnMut(ContentId)) {
        self.cut(log.member, |cuts| _ = cuts.freeze(log.epoch, size), changed);
    }

    /// Whether a log has been frozen.
    pub fn is_frozen(&self, log: LogId) -> bool {
        self.members.get(&log.member).is_some_and(|member| member.cuts.is_frozen(log.epoch))
    }

    /// Changes what of a member's logs counts. Goes over all that the member has said if that changes anything: it takes
    /// another key, or a fork, to get here.
    fn cut(&mut self, member: MemberId, change: impl FnOnce(&mut Cuts), mut changed: impl FnMut(ContentId)) {
        let said = self.members.entry(member).or_default();
        let old = said.cuts.clone();
        change(&mut said.cuts);
        let said = &self.members[&member];
        let differs = |at: Position| old.has_effect(at) != said.cuts.has_effect(at);
        let catalog = Arc::clone(&self.catalog);
        let logs: BTreeMap<u32, u16> = self
            .numbers
            .iter()
            .filter(|(log, _)| log.member == member)
            .map(|(log, number)| (log.epoch, *number))
            .collect();
        let shown = |number: &u16| self.logs[usize::from(*number)].timed;
        let come_or_gone = logs.iter().flat_map(|(&epoch, number)| {
            let (before, after) = (old.of(epoch).min(shown(number)), said.cuts.of(epoch).min(shown(number)));
            (before.min(after)..before.max(after)).map(move |index| Position { epoch, index })
        });
        let ended = said.ends.iter().filter(|end| differs(end.by())).map(|end| end.of());
        let touched = || come_or_gone.clone().chain(ended.clone());
        let row = |at: Position| {
            let log = &catalog.logs[usize::from(*logs.get(&at.epoch)?)];
            match log.rows.get(u32::try_from(at.index).ok()?) {
                NO_ROW | UNOPENED => None,
                row => Some(row - 1),
            }
        };
        let about = |row| unpack(catalog.rows.contents.get(row));
        let before: BTreeMap<ContentId, usize> =
            touched().filter_map(row).map(|row| (about(row), self.stand(about(row)))).collect();
        if before.is_empty() {
            return;
        }
        for (at, row) in touched().filter_map(|at| Some((at, row(at)?))) {
            let place = catalog.rows.places.get(row) & !ENDED;
            catalog.rows.places.set(row, if said.is_live(at) { place } else { place | ENDED });
        }
        // The newest word that counts about each hash: what lay above it may be gone, or come back.
        let mut newest: BTreeMap<ContentId, u32> = BTreeMap::new();
        for (&epoch, number) in &logs {
            for row in (0..said.cuts.of(epoch).min(shown(number))).filter_map(|index| row(Position { epoch, index })) {
                if before.contains_key(&about(row)) {
                    newest.insert(about(row), row);
                }
            }
        }
        for (id, before) in before {
            self.relink(id, member, newest.get(&id).copied());
            self.count(member, id, before);
            changed(id);
        }
    }

    /// Puts a row, or none, into the place of a member's row in the chain of a content hash.
    fn relink(&mut self, id: ContentId, member: MemberId, by: Option<u32>) {
        let (rows, shelf) = (&self.catalog.rows, self.catalog.shelf(id.kind));
        let mut before = None;
        let mut at = shelf.head(id.number);
        let set_next = |row: u32, next: u32| rows.links.set(row, join(split(rows.links.get(row)).0, next));
        while at != NO_ROW {
            let (_, next) = split(rows.links.get(at - 1));
            let its_log = Place(rows.places.get(at - 1)).log();
            if self.catalog.logs[usize::from(its_log)].id.member == member {
                if by == Some(at - 1) {
                    return;
                }
                let instead = by.map_or(next, |row| {
                    set_next(row, next);
                    row + 1
                });
                match before {
                    None => shelf.set_head(id.number, instead),
                    Some(previous) => set_next(previous, instead),
                }
                return;
            }
            before = Some(at - 1);
            at = next;
        }
        if let Some(row) = by {
            set_next(row, shelf.head(id.number));
            shelf.set_head(id.number, row + 1);
        }
    }

    /// Gives a statement its row, if it is of a known kind and its content hash, which has this tag, is known.
    fn say(&mut self, log: u16, index: u64, entry: &Entry, tag: u32, mut changed: impl FnMut(ContentId)) {
        let Some(hash) = entry.hash().filter(|hash| !self.hidden.as_ref().is_some_and(|hidden| hidden(hash))) else {
            return;
        };
        let attributes = match &entry.leaf.statement {
            Statement::Add(add) => Attributes::Add {
                labels: add.labels,
                media: add.media,
                quality: add.quality,
                expiry: add.expiry,
                incident: add.incident,
            },
            Statement::Dispute(dispute) => Attributes::Dispute { reason: dispute.reason },
            Statement::Revoke(_)
            | Statement::Erase(_)
            | Statement::Void(_)
            | Statement::Observe(_)
            | Statement::State(_)
            | Statement::Unknown => return,
        };
        let attributes = self.intern(attributes);
        let kind = hash.kind();
        let id = ContentId { kind, number: self.catalog.shelf(kind).insert(tag, &hash) };
        let row = self.rows;
        let by = self.catalog.logs[usize::from(log)].id;
        let at = Position { epoch: by.epoch, index };
        let member = self.members.entry(by.member).or_default();
        let (counts, live) = (member.cuts.has_effect(at), member.is_live(at));
        let before = self.stand(id);
        let mut place = Place::new(index, log);
        if !live {
            place.0 |= ENDED;
        }
        self.catalog.rows.places.set(row, place.0);
        self.catalog.rows.contents.set(row, pack(id));
        self.catalog.logs[usize::from(log)].rows.set(row_at(index), row + 1);
        self.rows += 1;
        if self.link(id, row, attributes, counts) {
            self.count(by.member, id, before);
            changed(id);
        }
    }

    /// Puts a row into the chain of its content hash, in the place of the same member's older one. An older statement than
    /// the one that is there stays out: the newest word counts, even where it has ended; so does one that does not count.
    /// `false` if so.
    fn link(&mut self, id: ContentId, row: u32, attributes: u32, counts: bool) -> bool {
        let rows = &self.catalog.rows;
        let shelf = self.catalog.shelf(id.kind);
        let place = Place(rows.places.get(row));
        let member = self.catalog.logs[usize::from(place.log())].id.member;
        // Out of the chain too, its row says what it says: it may come back when newer ones lose their effect.
        rows.links.set(row, join(attributes, NO_ROW));
        if !counts {
            return false;
        }
        let mut before = None;
        let mut at = shelf.head(id.number);
        while at != NO_ROW {
            let (other_attributes, next) = split(rows.links.get(at - 1));
            let other = Place(rows.places.get(at - 1));
            let other_log = self.catalog.logs[usize::from(other.log())].id;
            if other_log.member == member {
                let this_log = self.catalog.logs[usize::from(place.log())].id;
                if (other_log.epoch, other.index()) > (this_log.epoch, place.index()) {
                    return false;
                }
                rows.links.set(row, join(attributes, next));
                match before {
                    None => shelf.set_head(id.number, row + 1),
                    Some((previous, its_attributes)) => rows.links.set(previous, join(its_attributes, row + 1)),
                }
                return true;
            }
            before = Some((at - 1, other_attributes));
            at = next;
        }
        rows.links.set(row, join(attributes, shelf.head(id.number)));
        shelf.set_head(id.number, row + 1);
        true
    }

    /// Ends the statement at an earlier position of the same member.
    fn end(&mut self, member: MemberId, by: Position, position: Position, mut changed: impl FnMut(ContentId)) {
        // SPEC 11.3: only backwards.
        let Some(end) = End::new(position, by).filter(|_| position < by) else { return };
        let said = self.members.entry(member).or_default();
        if !said.ends.insert(end) || !said.cuts.has_effect(by) {
            return;
        }
        let Some(&log) = self.numbers.get(&LogId { member, epoch: end.epoch }) else { return };
        let row = match self.catalog.logs[usize::from(log)].rows.get(end.index) {
            NO_ROW | UNOPENED => return,
            row => row,
        };
        let rows = &self.catalog.rows;
        let place = rows.places.get(row - 1);
        if Place(place).ended() {
            return;
        }
        let id = unpack(rows.contents.get(row - 1));
        let before = self.stand(id);
        rows.places.set(row - 1, place | ENDED);
        self.count(member, id, before);
        changed(id);
    }

    /// How many members stand by a content hash.
    fn stand(&self, id: ContentId) -> usize {
        self.catalog.live_rows(id).count()
    }

    /// Keeps the count of live hashes after a change.
    fn count(&mut self, by: MemberId, id: ContentId, before: usize) {
        let after = self.stand(id);
        // One member counts once about one hash, so it is this one that has come or gone.
        let its = self.live.entry(by).or_default();
        *its = (*its + after as u64).saturating_sub(before as u64);
        let live = &self.catalog.live[id.kind as usize - 1];
        match (before, after) {
            (0, 1..) => live.fetch_add(1, Ordering::Relaxed),
            (1.., 0) => live.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
    }

    /// How many content hashes a member stands by.
    pub fn live(&self, member: MemberId) -> u64 {
        self.live.get(&member).copied().unwrap_or(0)
    }

    /// When a log began, by its author's clock.
    pub fn began(&self, log: LogId) -> Option<Timestamp> {
        let log = &self.catalog.logs[usize::from(*self.numbers.get(&log)?)];
        log.times.get(0).map(|(_, time)| *time)
    }

    fn intern(&mut self, attributes: Attributes) -> u32 {
        if let Some((_, number)) = self.last.as_ref().filter(|(last, _)| *last == attributes) {
            return *number;
        }
        let number = *self.attributes.entry(attributes.clone()).or_insert_with_key(|attributes| {
            u32::try_from(self.catalog.attributes.push(attributes.clone())).expect("at most one a row")
        });
        self.last = Some((attributes, number));
        number
    }

    fn log_number(&mut self, log: LogId) -> u16 {
        if let Some(&number) = self.numbers.get(&log) {
            return number;
        }
        let number = self.catalog.logs.push(LogEntry::new(log, self.catalog.on_block));
        let number = u16::try_from(number).expect("a federation has fewer than 65,536 logs");
        self.numbers.insert(log, number);
        self.logs.push(Shown::default());
        number
    }

    fn keep_time(&mut self, log: u16, index: u64, time: Timestamp) {
        let shown = &mut self.logs[usize::from(log)];
        // What is shown a second time has its time already.
        let told = shown.timed > index;
        shown.timed = shown.timed.max(index + 1);
        if !told && shown.last_time != Some(time) {
            shown.last_time = Some(time);
            self.catalog.logs[usize::from(log)].times.push((index, time));
        }
    }
}

/// Where the row of a leaf is noted.
fn row_at(index: u64) -> u32 {
    u32::try_from(index).expect("as many leaves as rows at most, which are counted in 32 bits")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bundle;
    use crate::catalog::Standing;
    use crate::content_hash::{ContentHash, HashKind};
    use crate::names::MemberId;
    use crate::opening::{Opening, Salt, commitment};
    use crate::statement::{Add, Dispute, Erase, Labels, Leaf, Revoke, Void};

    fn log(member: &str) -> LogId {
        LogId { member: member.parse().unwrap(), epoch: 0 }
    }

    fn md5(number: u8) -> ContentHash {
        ContentHash::new(HashKind::Md5, &[number; 16]).unwrap()
    }

    /// What a test's member says.
    #[derive(Clone, Copy, Debug)]
    enum Word {
        Add(u8),
        Dispute(u8),
        Revoke,
        Erase,
        /// Of the log before, from there on.
        Void(u64),
    }

    /// One leaf: a word, and the place of an earlier own leaf that it ends.
    type Line = (Word, Option<Position>);

    /// A place in the first log.
    fn at(index: u64) -> Option<Position> {
        Some(Position { epoch: 0, index })
    }

    /// What everybody has said, log by log.
    type Logs = BTreeMap<LogId, Vec<Line>>;

    fn entries(log: LogId, first: u64, lines: &[Line]) -> Entries {
        let mut composer = Entries::compose(log, first);
        for (word, replaces) in lines {
            let replaces = *replaces;
            let (Word::Add(number) | Word::Dispute(number)) = *word else {
                let position = replaces.unwrap_or(Position { epoch: 9, index: 0 });
                let statement = match word {
                    Word::Void(from) => Statement::Void(Void { epoch: log.epoch.saturating_sub(1), from: *from }),
                    Word::Erase => Statement::Erase(Erase { position, basis: 1 }),
                    _ => Statement::Revoke(Revoke { position, reason: 1 }),
                };
                composer.push(Leaf { time: Timestamp(composer.next()), statement }, None);
                continue;
            };
            let opening = Opening::of(&md5(number), Salt([number; 16]), None).encode();
            let (kind, commitment) = (HashKind::Md5 as u64, commitment(&opening));
            let statement = match word {
                Word::Add(_) => Statement::Add(Add {
                    kind,
                    commitment,
                    labels: Labels::new(&[1]).unwrap(),
                    media: 1,
                    quality: None,
                    expiry: None,
                    incident: None,
                    replaces,
                }),
                _ => Statement::Dispute(Dispute { kind, commitment, reason: 1, replaces }),
            };
            composer.push(Leaf { time: Timestamp(composer.next()), statement }, Some((&opening, md5(number))));
        }
        composer.finish().unwrap()
    }

    /// The same leaves without the openings at these indices, and what opens them later.
    fn close(entries: &Entries, missing: &BTreeSet<u64>) -> (Entries, Vec<LateOpening>) {
        let (mut openings, mut late) = (Vec::new(), Vec::new());
        let both = bundle::entries(entries.leaves()).zip(bundle::entries(entries.openings()));
        for (index, (leaf, opening)) in (entries.first()..).zip(both) {
            let (leaf, opening) = (leaf.unwrap(), opening.unwrap());
            if missing.contains(&index) && !opening.is_empty() {
                late.push(LateOpening::check(entries.log(), index, leaf, opening.to_vec()).unwrap());
                bundle::push(&mut openings, &[]);
            } else {
                bundle::push(&mut openings, opening);
            }
        }
        (Entries::read(entries.log(), entries.first(), entries.leaves().to_vec(), openings).unwrap(), late)
    }

    fn said(catalog: &Catalog, number: u8) -> Vec<(String, u64, bool)> {
        let Some(id) = catalog.find(&md5(number)) else { return Vec::new() };
        let mut said: Vec<_> = catalog
            .said(id)
            .map(|said| {
                assert_eq!(said.time, Timestamp(said.index), "tests write the index as the time");
                (said.log.member.to_string(), said.index, matches!(said.attributes, Attributes::Add { .. }))
            })
            .collect();
        said.sort();
        said
    }

    fn world() -> (Curator, Arc<Catalog>) {
        Catalog::new([3, 4])
    }

    #[test]
    fn each_member_speaks_for_itself() {
        let (mut curator, catalog) = world();
        let mut changed = Vec::new();
        curator.show(&entries(log("acme"), 0, &[(Word::Add(1), None), (Word::Add(2), None)]), |id| changed.push(id));
        curator.show(&entries(log("bolt"), 0, &[(Word::Dispute(1), None)]), |id| changed.push(id));
        assert_eq!(said(&catalog, 1), [("acme".into(), 0, true), ("bolt".into(), 0, false)]);
        assert_eq!(said(&catalog, 2), [("acme".into(), 1, true)]);
        assert_eq!(said(&catalog, 3), []);
        assert_eq!(changed.len(), 3);
        assert_eq!((catalog.known(HashKind::Md5), catalog.live(HashKind::Md5)), (2, 2));
    }

    #[test]
    fn what_is_settled_is_marked_and_stays_so() {
        let (mut curator, catalog) = world();
        curator.show(&entries(log("acme"), 0, &[(Word::Add(1), None), (Word::Add(2), None)]), |_| ());
        let settled = |number| catalog.said(catalog.find(&md5(number)).unwrap()).all(|said| said.settled);
        assert!(!settled(1));
        let mut changed: Vec<_> = curator.settle(log("acme"), 1).collect();
        changed.extend(curator.settle(log("acme"), 0));
        assert!(settled(1) && !settled(2));
        assert_eq!(changed, [catalog.find(&md5(1)).unwrap()]);
    }

    /// SPEC 11.2, 11.3.
    #[test]
    fn a_statement_ends_when_its_author_replaces_or_revokes_it_and_by_nothing_else() {
        let (mut curator, catalog) = world();
        let lines = [(Word::Add(1), None), (Word::Dispute(1), at(0)), (Word::Add(2), None), (Word::Revoke, at(2))];
        curator.show(&entries(log("acme"), 0, &lines), |_| ());
        assert_eq!(said(&catalog, 1), [("acme".into(), 1, false)]);
        assert_eq!(said(&catalog, 2), []);
        assert_eq!(catalog.live(HashKind::Md5), 1);

        let lines = [(Word::Revoke, at(1)), (Word::Revoke, at(3)), (Word::Add(3), at(7)), (Word::Revoke, at(9))];
        curator.show(&entries(log("bolt"), 0, &lines), |_| ());
        assert_eq!(said(&catalog, 1), [("acme".into(), 1, false)], "bolt's index 1 is not acme's");
        assert_eq!(said(&catalog, 3), [("bolt".into(), 2, true)], "forward references end nothing");
    }

    /// SPEC 11.4: a member counts once, with its newest word; when that ends, older ones do not come back.
    #[test]
    fn a_member_counts_once_with_its_newest_word() {
        let (mut curator, catalog) = world();
        let repeated = [(Word::Add(1), None), (Word::Add(1), None), (Word::Dispute(1), None)];
        curator.show(&entries(log("acme"), 0, &repeated), |_| ());
        assert_eq!(said(&catalog, 1), [("acme".into(), 2, false)]);
        curator.show(&entries(log("acme"), 3, &[(Word::Revoke, at(2))]), |_| ());
        assert_eq!(said(&catalog, 1), []);
        curator.show(&entries(log("acme"), 4, &[(Word::Add(1), None)]), |_| ());
        assert_eq!(said(&catalog, 1), [("acme".into(), 4, true)]);
    }

    #[test]
    fn every_place_says_what_stands_there() {
        let (mut curator, catalog) = world();
        let lines = [(Word::Add(1), None), (Word::Add(2), None), (Word::Revoke, at(0)), (Word::Dispute(3), None)];
        let (shown, late) = close(&entries(log("acme"), 0, &lines), &BTreeSet::from([3]));
        curator.show(&shown, |_| ());
        let standing = |index| catalog.standing(log("acme"), index);
        let opened = |number, live| Standing::Opened { hash: md5(number), live };
        assert_eq!([0, 1].map(standing), [opened(1, false), opened(2, true)]);
        assert_eq!([2, 4, 1 << 40].map(standing), [Standing::Nothing; 3]);
        assert_eq!(standing(3), Standing::Unopened);
        curator.open(&late[0], |_| ());
        assert_eq!(catalog.standing(log("acme"), 3), opened(3, true));
        assert_eq!(catalog.standing(log("bolt"), 0), Standing::Nothing);
    }

    /// The rules of SPEC 11 and 20 in a few lines, over everything that was ever said.
    fn oracle(logs: &Logs, number: u8) -> Vec<(String, u64, bool)> {
        let counts = |log: &LogId, index: u64| index < void_from(logs, *log);
        let members: BTreeSet<MemberId> = logs.keys().map(|log| log.member).collect();
        let mut all = Vec::new();
        for member in members {
            let its = logs.iter().filter(|(log, _)| log.member == member);
            let counting: Vec<(Position, Line)> = its
                .flat_map(|(log, lines)| {
                    let lines = (0..).zip(lines).filter(|(index, _)| counts(log, *index));
                    lines.map(|(index, line)| (Position { epoch: log.epoch, index }, *line))
                })
                .collect();
            let about = |word: Word| matches!(word, Word::Add(n) | Word::Dispute(n) if n == number);
            let Some((newest, line)) = counting.iter().rfind(|(_, line)| about(line.0)) else { continue };
            if !counting.iter().any(|(by, line)| by > newest && line.1 == Some(*newest)) {
                all.push((member.to_string(), newest.index, matches!(line.0, Word::Add(_))));
            }
        }
        all.sort();
        all
    }

    /// From where on a log is void: by what counts of the next one.
    fn void_from(logs: &Logs, log: LogId) -> u64 {
        let next = LogId { epoch: log.epoch + 1, ..log };
        let Some(lines) = logs.get(&next) else { return u64::MAX };
        let counting = (0..).zip(lines).filter(|(index, _)| *index < void_from(logs, next));
        let void = counting.filter_map(|(_, line)| if let Word::Void(from) = line.0 { Some(from) } else { None });
        void.min().unwrap_or(u64::MAX)
    }

    /// Whether the catalog is that of the rules, its counts too.
    fn agrees(curator: &Curator, logs: &Logs) -> Result<(), TestCaseError> {
        let catalog = curator.catalog();
        let mut live = 0;
        for number in 0..4 {
            let expected = oracle(logs, number);
            live += u64::from(!expected.is_empty());
            prop_assert_eq!(said(catalog, number), expected, "hash {}", number);
        }
        prop_assert_eq!(catalog.live(HashKind::Md5), live);
        for log in logs.keys() {
            let name = log.member.to_string();
            let by_rules = (0..4).filter(|n| oracle(logs, *n).iter().any(|said| said.0 == name)).count();
            prop_assert_eq!(curator.live(log.member), by_rules as u64, "{}", name);
        }
        Ok(())
    }

    fn line() -> impl Strategy<Value = Line> {
        let word = prop_oneof![
            4 => (0u8..4).prop_map(Word::Add),
            4 => (0u8..4).prop_map(Word::Dispute),
            2 => Just(Word::Revoke),
            1 => Just(Word::Erase),
            1 => (0u64..12).prop_map(Word::Void),
        ];
        let place = (0u32..3, 0u64..12).prop_map(|(epoch, index)| Position { epoch, index });
        // A void ends nothing but what it voids.
        let ends = |word, place: Option<Position>| place.filter(|_| !matches!(word, Word::Void(_)));
        (word, proptest::option::of(place)).prop_map(move |(word, place)| (word, ends(word, place)))
    }

    /// SPEC 20.6: what a thief has said, revoked and erased.
    #[test]
    fn what_is_void_was_never_said_and_what_it_ended_is_live_again() {
        let (mut curator, catalog) = world();
        let lines = [(Word::Add(1), None), (Word::Add(2), None), (Word::Add(3), None)];
        curator.show(&entries(log("acme"), 0, &lines), |_| ());
        let thief = [(Word::Revoke, at(0)), (Word::Erase, at(1)), (Word::Dispute(3), at(2)), (Word::Add(4), None)];
        curator.show(&entries(log("acme"), 3, &thief), |_| ());
        assert_eq!([1, 2, 4].map(|number| said(&catalog, number).len()), [0, 0, 1]);
        assert_eq!(said(&catalog, 3), [("acme".into(), 5, false)]);

        let mut changed = BTreeSet::new();
        let next = LogId { epoch: 1, ..log("acme") };
        curator.show(&entries(next, 0, &[(Word::Void(3), None)]), |id| _ = changed.insert(id));
        assert_eq!(
            [1, 2, 3].map(|number| said(&catalog, number)),
            [0, 1, 2].map(|index| vec![("acme".into(), index, true)])
        );
        assert_eq!(said(&catalog, 4), []);
        assert_eq!((changed.len(), catalog.live(HashKind::Md5), curator.live(next.member)), (4, 3, 3));

        let owner = LogId { epoch: 2, ..next };
        curator.show(&entries(owner, 0, &[(Word::Void(0), None)]), |_| ());
        assert_eq!([1, 2, 4].map(|number| said(&catalog, number).len()), [0, 0, 1], "the void was the thief's");
    }

    proptest! {
        /// SPEC 18.5: a tail that loses its effect leaves the catalog as if it had never been said, whenever it is opened; and
        /// what is settled of it after all comes back.
        #[test]
        fn a_frozen_tail_was_never_said(
            lines in proptest::collection::vec(line(), 1..30),
            others in proptest::collection::vec(line(), 1..10),
            missing in proptest::collection::btree_set(0u64..30, 0..6),
            cut in any::<u16>(),
            again in any::<u16>(),
        ) {
            let size = lines.len() as u64;
            let from = u64::from(cut) % (size + 1);
            let until = from + u64::from(again) % (size - from + 1);
            let (first, acme) = (log("acme"), LogId { epoch: 1, ..log("acme") });
            let (mut curator, _) = world();
            let (shown, late) = close(&entries(acme, 0, &lines), &missing);
            curator.show(&shown, |_| ());
            curator.show(&entries(first, 0, &others), |_| ());
            curator.freeze(acme, from, |_| ());
            late.iter().for_each(|late| curator.open(late, |_| ()));
            prop_assert!(curator.is_frozen(acme) && !curator.is_frozen(first));
            for upto in [from, until] {
                curator.freeze(acme, upto, |_| ());
                let kept = lines[..usize::try_from(upto).unwrap()].to_vec();
                agrees(&curator, &BTreeMap::from([(acme, kept), (first, others.clone())]))?;
            }
        }

        /// SPEC 11.6: whatever order batches of all logs and late openings arrive in, the catalog is the same: that of the rules.
        #[test]
        fn the_catalog_is_that_of_the_rules_in_any_order(
            lines in proptest::collection::vec((0usize..2, 0u32..3, line()), 1..40),
            missing in proptest::collection::btree_set(0u64..40, 0..10),
            order in proptest::collection::vec(any::<u16>(), 40),
        ) {
            let members = ["acme", "bolt"].map(|id| id.parse::<MemberId>().unwrap());
            let (mut curator, _) = world();
            let mut logs = Logs::new();
            let mut waiting: Vec<LateOpening> = Vec::new();
            for (step, (member, epoch, line)) in lines.into_iter().enumerate() {
                let id = LogId { member: members[member], epoch };
                let so_far = logs.entry(id).or_default();
                let (shown, late) = close(&entries(id, so_far.len() as u64, &[line]), &missing);
                so_far.push(line);
                waiting.extend(late);
                curator.show(&shown, |_| ());
                if !waiting.is_empty() && order[step].is_multiple_of(3) {
                    let late = waiting.remove(usize::from(order[step]) % waiting.len());
                    curator.open(&late, |_| ());
                    curator.open(&late, |_| ());
                }
            }
            for late in waiting {
                curator.open(&late, |_| ());
            }
            agrees(&curator, &logs)?;
        }
    }
}
