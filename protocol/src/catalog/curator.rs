//! The one that writes the catalog.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{
    Attributes, Catalog, ContentId, ENDED, LogEntry, NO_ROW, Place, TOGETHER, UNOPENED, join, pack, split, unpack,
};
use crate::entries::{Entries, Entry, LateOpening};
use crate::names::{LogId, MemberId};
use crate::statement::{Position, Statement};
use crate::time::Timestamp;

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
    /// From which leaf on a log's statements have no effect.
    frozen: HashMap<LogId, u64>,
}

/// One log, as far as only the writer needs it.
#[derive(Default)]
struct Shown {
    /// Leaves that ended before they were opened. Only these: what has a row carries a flag.
    ended_unopened: BTreeSet<u64>,
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
            frozen: HashMap::new(),
        }
    }

    /// The catalog, for reading.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Shows admitted leaves, which follow those shown before of their log. Readers see each statement at once or not at
    /// all, in the order of the leaves.
    pub fn show(&mut self, entries: &Entries, mut changed: impl FnMut(ContentId)) {
        let number = self.log_number(entries.log());
        for (first, together) in entries.chunks(TOGETHER) {
            let tags = self.catalog.touch(together.iter().map(Entry::hash));
            for ((index, entry), tag) in (first..).zip(together).zip(tags) {
                self.keep_time(number, index, entry.leaf.time);
                if entry.leaf.statement.commitment().is_some() {
                    self.catalog.logs[usize::from(number)].rows.set(row_at(index), UNOPENED);
                }
                // The new statement first, then the end of the old one: between the two the member counts once all the same.
                self.say(number, index, entry, tag, &mut changed);
                if let Some(position) = entry.leaf.statement.ends() {
                    self.end(entries.log(), index, position, &mut changed);
                }
            }
        }
    }

    /// Shows a statement whose opening was missing when its leaf was shown.
    pub fn open(&mut self, late: &LateOpening, changed: impl FnMut(ContentId)) {
        let number = self.log_number(late.log());
        if self.frozen_from(late.log()).is_some_and(|from| late.index() >= from) {
            return;
        }
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

    /// Takes the effect from these leaves, the last ones of a log, whose author has signed two histories: as if they had never
    /// been shown. `revived` are earlier leaves that only these have ended.
    pub fn freeze(
        &mut self,
        log: LogId,
        tail: Range<u64>,
        revived: &BTreeSet<u64>,
        mut changed: impl FnMut(ContentId),
    ) {
        let number = self.log_number(log);
        self.frozen.insert(log, tail.start);
        let rows = |catalog: &Catalog, index| match catalog.logs[usize::from(number)].rows.get(row_at(index)) {
            NO_ROW | UNOPENED => None,
            row => Some(row - 1),
        };
        let catalog = Arc::clone(&self.catalog);
        let about = |row| unpack(catalog.rows.contents.get(row));
        let touched = tail.clone().chain(revived.iter().copied()).filter_map(|index| rows(&catalog, index)).map(about);
        let before: BTreeMap<ContentId, usize> = touched.map(|id| (id, self.stand(id))).collect();
        self.logs[usize::from(number)].ended_unopened.split_off(&tail.start);
        for index in revived {
            self.logs[usize::from(number)].ended_unopened.remove(index);
            if let Some(row) = rows(&catalog, *index) {
                catalog.rows.places.set(row, catalog.rows.places.get(row) & !ENDED);
            }
        }
        // The newest word that is left of the member about each hash, which the tail may have taken the place of.
        let mut newest: BTreeMap<ContentId, u32> = BTreeMap::new();
        if !before.is_empty() {
            for row in (0..tail.start).filter_map(|index| rows(&catalog, index)) {
                if before.contains_key(&about(row)) {
                    newest.insert(about(row), row);
                }
            }
        }
        for row in tail.clone().filter_map(|index| rows(&catalog, index)) {
            catalog.rows.places.set(row, catalog.rows.places.get(row) | ENDED);
        }
        for (id, before) in before {
            self.replace_tail(id, number, tail.start, newest.get(&id).copied());
            self.count(log.member, id, before);
            changed(id);
        }
    }

    /// Puts a row, or none, into the place of a log's row beyond an index in the chain of a content hash.
    fn replace_tail(&mut self, id: ContentId, log: u16, from: u64, by: Option<u32>) {
        let (rows, shelf) = (&self.catalog.rows, self.catalog.shelf(id.kind));
        let mut before = None;
        let mut at = shelf.head(id.number);
        while at != NO_ROW {
            let (attributes, next) = split(rows.links.get(at - 1));
            let place = Place(rows.places.get(at - 1));
            if place.log() == log && place.index() >= from {
                let instead = by.map_or(next, |row| {
                    let (its_attributes, _) = split(rows.links.get(row));
                    rows.links.set(row, join(its_attributes, next));
                    row + 1
                });
                match before {
                    None => shelf.set_head(id.number, instead),
                    Some((previous, its_attributes)) => rows.links.set(previous, join(its_attributes, instead)),
                }
                return;
            }
            before = Some((at - 1, attributes));
            at = next;
        }
    }

    /// From which leaf on a log's statements have no effect.
    pub fn frozen_from(&self, log: LogId) -> Option<u64> {
        self.frozen.get(&log).copied()
    }

    /// Shows leaves of a frozen log after all, the first of those that have no effect: they were settled.
    pub fn thaw(&mut self, entries: &Entries, changed: impl FnMut(ContentId)) {
        self.frozen.insert(entries.log(), entries.end());
        self.show(entries, changed);
    }

    /// Gives a statement its row, if it is of a known kind and its content hash, which has this tag, is known.
    fn say(&mut self, log: u16, index: u64, entry: &Entry, tag: u32, mut changed: impl FnMut(ContentId)) {
        let Some(hash) = entry.hash() else { return };
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
            | Statement::Observe(_)
            | Statement::State(_)
            | Statement::Unknown => return,
        };
        let attributes = self.intern(attributes);
        let kind = hash.kind();
        let id = ContentId { kind, number: self.catalog.shelf(kind).insert(tag, &hash) };
        let row = self.rows;
        let shown = &mut self.logs[usize::from(log)];
        let ended = shown.ended_unopened.remove(&index);
        let before = self.stand(id);
        let mut place = Place::new(index, log);
        if ended {
            place.0 |= ENDED;
        }
        self.catalog.rows.places.set(row, place.0);
        self.catalog.rows.contents.set(row, pack(id));
        self.catalog.logs[usize::from(log)].rows.set(row_at(index), row + 1);
        self.rows += 1;
        if self.link(id, row, attributes) {
            let by = self.catalog.logs[usize::from(log)].id.member;
            self.count(by, id, before);
            changed(id);
        }
    }

    /// Puts a row into the chain of its content hash, in the place of the same member's older one. An older statement than
    /// the one that is there stays out: the newest word counts, even where it has ended. `false` if so.
    fn link(&mut self, id: ContentId, row: u32, attributes: u32) -> bool {
        let rows = &self.catalog.rows;
        let shelf = self.catalog.shelf(id.kind);
        let place = Place(rows.places.get(row));
        let member = self.catalog.logs[usize::from(place.log())].id.member;
        // Out of the chain too, its row says what it says: it may come back when newer ones lose their effect.
        rows.links.set(row, join(attributes, NO_ROW));
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
    fn end(&mut self, by: LogId, index: u64, position: Position, mut changed: impl FnMut(ContentId)) {
        // SPEC 11.3: only backwards.
        if (position.epoch, position.index) >= (by.epoch, index) {
            return;
        }
        let Some(&log) = self.numbers.get(&LogId { member: by.member, epoch: position.epoch }) else { return };
        let Ok(at) = u32::try_from(position.index) else { return };
        let row = match self.catalog.logs[usize::from(log)].rows.get(at) {
            NO_ROW => return,
            UNOPENED => {
                self.logs[usize::from(log)].ended_unopened.insert(position.index);
                return;
            }
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
        self.count(by.member, id, before);
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
    use crate::statement::{Add, Dispute, Labels, Leaf, Revoke};

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
    }

    /// One leaf: a word, and the index of an earlier own leaf that it ends.
    type Line = (Word, Option<u64>);

    fn entries(log: LogId, first: u64, lines: &[Line]) -> Entries {
        let mut composer = Entries::compose(log, first);
        for (word, ends) in lines {
            let replaces = ends.map(|index| Position { epoch: 0, index });
            let (Word::Add(number) | Word::Dispute(number)) = *word else {
                let position = replaces.unwrap_or(Position { epoch: 9, index: 0 });
                let statement = Statement::Revoke(Revoke { position, reason: 1 });
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
        let lines = [(Word::Add(1), None), (Word::Dispute(1), Some(0)), (Word::Add(2), None), (Word::Revoke, Some(2))];
        curator.show(&entries(log("acme"), 0, &lines), |_| ());
        assert_eq!(said(&catalog, 1), [("acme".into(), 1, false)]);
        assert_eq!(said(&catalog, 2), []);
        assert_eq!(catalog.live(HashKind::Md5), 1);

        let lines =
            [(Word::Revoke, Some(1)), (Word::Revoke, Some(3)), (Word::Add(3), Some(7)), (Word::Revoke, Some(9))];
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
        curator.show(&entries(log("acme"), 3, &[(Word::Revoke, Some(2))]), |_| ());
        assert_eq!(said(&catalog, 1), []);
        curator.show(&entries(log("acme"), 4, &[(Word::Add(1), None)]), |_| ());
        assert_eq!(said(&catalog, 1), [("acme".into(), 4, true)]);
    }

    #[test]
    fn every_place_says_what_stands_there() {
        let (mut curator, catalog) = world();
        let lines = [(Word::Add(1), None), (Word::Add(2), None), (Word::Revoke, Some(0)), (Word::Dispute(3), None)];
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

    /// The rules of SPEC 11 in a few lines, over everything that was ever said.
    fn oracle(logs: &BTreeMap<MemberId, Vec<Line>>, number: u8) -> Vec<(String, u64, bool)> {
        let mut all = Vec::new();
        for (member, lines) in logs {
            let about = |line: &Line| match line.0 {
                Word::Add(n) | Word::Dispute(n) => n == number,
                Word::Revoke => false,
            };
            let Some(newest) = lines.iter().rposition(about) else { continue };
            let ended = lines[newest..].iter().skip(1).any(|line| line.1 == Some(newest as u64));
            if !ended {
                all.push((member.to_string(), newest as u64, matches!(lines[newest].0, Word::Add(_))));
            }
        }
        all
    }

    /// Whether the catalog is that of the rules, its counts too.
    fn agrees(curator: &Curator, logs: &BTreeMap<MemberId, Vec<Line>>) -> Result<(), TestCaseError> {
        let catalog = curator.catalog();
        let mut live = 0;
        for number in 0..4 {
            let expected = oracle(logs, number);
            live += u64::from(!expected.is_empty());
            prop_assert_eq!(said(catalog, number), expected, "hash {}", number);
        }
        prop_assert_eq!(catalog.live(HashKind::Md5), live);
        for member in logs.keys() {
            let name = member.to_string();
            let by_rules = (0..4).filter(|n| oracle(logs, *n).iter().any(|said| said.0 == name)).count();
            prop_assert_eq!(curator.live(*member), by_rules as u64, "{}", name);
        }
        Ok(())
    }

    fn line() -> impl Strategy<Value = Line> {
        let word = prop_oneof![(0u8..4).prop_map(Word::Add), (0u8..4).prop_map(Word::Dispute), Just(Word::Revoke)];
        (word, proptest::option::of(0u64..12))
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
            let acme = log("acme");
            let (mut curator, _) = world();
            let (shown, late) = close(&entries(acme, 0, &lines), &missing);
            curator.show(&shown, |_| ());
            curator.show(&entries(log("bolt"), 0, &others), |_| ());
            let ends = |range: std::ops::Range<u64>| {
                let at = |index: u64| (index, lines[usize::try_from(index).unwrap()].1);
                range.map(at).filter_map(|(index, ended)| ended.filter(|ended| *ended < index)).collect::<BTreeSet<_>>()
            };
            let revived: BTreeSet<u64> =
                ends(from..size).difference(&ends(0..from)).copied().filter(|index| *index < from).collect();
            curator.freeze(acme, from..size, &revived, |_| ());
            late.iter().for_each(|late| curator.open(late, |_| ()));
            let check = |curator: &Curator, upto: u64| {
                let kept = lines[..usize::try_from(upto).unwrap()].to_vec();
                let logs = BTreeMap::from([(acme.member, kept), (log("bolt").member, others.clone())]);
                agrees(curator, &logs)
            };
            check(&curator, from)?;
            if until > from {
                let piece = &lines[usize::try_from(from).unwrap()..usize::try_from(until).unwrap()];
                curator.thaw(&entries(acme, from, piece), |_| ());
                prop_assert_eq!(curator.frozen_from(acme), Some(until));
                check(&curator, until)?;
            }
        }

        /// Whatever order batches and late openings arrive in, the catalog is the same: that of the rules.
        #[test]
        fn the_catalog_is_that_of_the_rules_in_any_order(
            lines in proptest::collection::vec((0usize..3, line()), 1..40),
            missing in proptest::collection::btree_set(0u64..40, 0..10),
            order in proptest::collection::vec(any::<u16>(), 40),
        ) {
            let members = ["acme", "bolt", "crab"].map(|id| id.parse::<MemberId>().unwrap());
            let (mut curator, _) = world();
            let mut logs: BTreeMap<MemberId, Vec<Line>> = BTreeMap::new();
            let mut waiting: Vec<LateOpening> = Vec::new();
            for (step, (member, line)) in lines.into_iter().enumerate() {
                let id = LogId { member: members[member], epoch: 0 };
                let so_far = logs.entry(id.member).or_default();
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
            for member in members {
                logs.entry(member).or_default();
            }
            agrees(&curator, &logs)?;
        }
    }
}
