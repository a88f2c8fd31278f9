//! The change feed: the list that this platform acts on, as an ordered log of its changes (SPEC 15.9 to 15.11).
//!
//! What the driver shows, what operators set and what time does all end in one question, asked again and again on a thread of
//! the feed's own: what is decided about this exact hash now? Where the answer is not the last one, that is a change. The
//! driver only names hashes and never waits, readers read a log in memory and are woken when it grows. Does not know sockets.

mod changes;
mod judge;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use changes::{Change, Changes};
use hashmesh_protocol::catalog::ContentId;
use hashmesh_protocol::digest::Digest;
use hashmesh_protocol::policy::Decision;
use hashmesh_protocol::time::Timestamp;
pub use judge::Judge;
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::watch;

use crate::keys::{KeysError, random};

/// Most changes in one page.
pub const MAX_PAGE: usize = 10_000;

/// Hashes that wait to be judged, 2 MB of them. If an import brings more, all hashes are looked at instead.
const WAITING: usize = 1 << 18;

/// The feed, between those who change the list and those who read it.
pub struct Feed {
    /// Which run of the node this is: cursors of another one mean nothing here.
    run: u64,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    list: RwLock<List>,
    news: watch::Sender<News>,
}

#[derive(Default)]
struct Inbox {
    changed: Vec<ContentId>,
    sweep: bool,
    closed: bool,
}

#[derive(Default)]
struct List {
    changes: Changes,
    basis: Option<Basis>,
}

/// What readers wait for.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    newest: u64,
    closed: bool,
}

/// What the list rests on: every hash was judged by this policy or one put in force later, at this moment or later.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Basis {
    /// The policy's id.
    pub policy: Digest,
    /// The moment.
    pub as_of: Timestamp,
}

/// A place in the log of one run of the node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cursor {
    run: u64,
    seq: u64,
}

/// Text that is no cursor.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a cursor; give the one of the last answer as it is, or none to begin with the whole list")]
pub struct NotACursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.run, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let (run, seq) = text.split_once('-').ok_or(NotACursor)?;
        let run = u64::from_str_radix(run, 16).map_err(|_| NotACursor)?;
        let cursor = Self { run, seq: seq.parse().map_err(|_| NotACursor)? };
        if cursor.to_string() == text { Ok(cursor) } else { Err(NotACursor) }
    }
}

/// The list has not been put together yet since the node started.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the list is still being put together")]
pub struct Filling;

/// Some changes, in order.
#[derive(Clone, Debug)]
pub struct Page {
    /// The changes.
    pub changes: Vec<Change>,
    /// Where to go on.
    pub cursor: Cursor,
    /// Whether there are more already.
    pub more: bool,
    /// Whether the cursor could not be continued, so that this is the beginning of the list.
    pub reset: bool,
    /// What the list rests on.
    pub basis: Basis,
}

impl Feed {
    /// A feed of an empty list, for one [`Judge`] to fill.
    pub fn new() -> Result<Arc<Self>, KeysError> {
        Ok(Arc::new(Self {
            run: u64::from_le_bytes(random()?),
            inbox: Mutex::default(),
            arrived: Condvar::new(),
            list: RwLock::default(),
            news: watch::Sender::default(),
        }))
    }

    /// Something else is said about these hashes. Does not wait for anybody.
    pub fn changed(&self, ids: &[ContentId]) {
        if ids.is_empty() {
            return;
        }
        let mut inbox = self.inbox.lock();
        if inbox.changed.len() + ids.len() > WAITING {
            inbox.changed = Vec::new();
            inbox.sweep = true;
        } else {
            inbox.changed.extend_from_slice(ids);
        }
        self.arrived.notify_one();
    }

    /// What is decided about every hash may have changed. Does not wait for anybody.
    pub fn sweep(&self) {
        self.inbox.lock().sweep = true;
        self.arrived.notify_one();
    }

    /// The changes after a place, at most `limit`; from the beginning without one.
    pub fn read(&self, after: Option<Cursor>, limit: usize) -> Result<Page, Filling> {
        let list = self.list.read();
        let basis = list.basis.ok_or(Filling)?;
        let here = after.filter(|cursor| cursor.run == self.run && cursor.seq <= list.changes.newest());
        let from = here.map_or(0, |cursor| cursor.seq);
        let (changes, more) = list.changes.after(from, limit);
        // With nothing left, all that was superseded is behind the reader as well.
        let seq = if more { changes.last().map_or(from, |change| change.seq) } else { list.changes.newest() };
        Ok(Page {
            changes,
            cursor: Cursor { run: self.run, seq },
            more,
            reset: after.is_some() && here.is_none(),
            basis,
        })
    }

    /// Waits until there is something after a place, or the feed is closed, or the time is up.
    pub async fn wait(&self, after: Cursor, patience: Duration) {
        let mut news = self.news.subscribe();
        let moved = news.wait_for(|news| news.closed || news.newest > after.seq);
        let _moved_or_not = tokio::time::timeout(patience, moved).await;
    }

    /// Nobody waits any more, and nothing is judged any more.
    pub fn close(&self) {
        self.inbox.lock().closed = true;
        self.arrived.notify_one();
        self.news.send_modify(|news| news.closed = true);
    }

    /// Takes what has arrived, after `patience` at the latest. `None` once the feed is closed.
    fn receive(&self, patience: Duration) -> Option<Inbox> {
        let mut inbox = self.inbox.lock();
        if !inbox.closed && !inbox.sweep && inbox.changed.is_empty() && !patience.is_zero() {
            self.arrived.wait_for(&mut inbox, patience);
        }
        (!inbox.closed).then(|| std::mem::take(&mut *inbox))
    }

    /// Takes up what was decided, in this order. With a basis everything has now been judged on it.
    fn record(&self, decided: impl IntoIterator<Item = (ContentId, Decision)>, basis: Option<Basis>) {
        let mut list = self.list.write();
        let before = list.changes.newest();
        for (id, decision) in decided {
            list.changes.record(id, decision);
        }
        list.basis = basis.or(list.basis);
        let newest = list.changes.newest();
        drop(list);
        if newest > before {
            self.news.send_modify(|news| news.newest = newest);
        }
    }
}

#[cfg(test)]
mod tests {
    use hashmesh_protocol::content_hash::HashKind;

    use super::*;

    fn md5(number: u32) -> ContentId {
        ContentId { kind: HashKind::Md5, number }
    }

    fn basis() -> Basis {
        Basis { policy: Digest::of(&[b"policy"]), as_of: Timestamp(1) }
    }

    fn numbers(page: &Page) -> Vec<(u32, Decision)> {
        page.changes.iter().map(|change| (change.id.number, change.decision)).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let feed = Feed::new().unwrap();
        assert_eq!(feed.read(None, 10).unwrap_err(), Filling);
        feed.record((0..5).map(|number| (md5(number), Decision::Review)), Some(basis()));
        let first = feed.read(None, 3).unwrap();
        assert_eq!(numbers(&first), [(0, Decision::Review), (1, Decision::Review), (2, Decision::Review)]);
        assert!(first.more && !first.reset);
        feed.record([(md5(0), Decision::None), (md5(4), Decision::Block)], None);
        let second = feed.read(Some(first.cursor), 3).unwrap();
        assert_eq!(numbers(&second), [(3, Decision::Review), (0, Decision::None), (4, Decision::Block)]);
        assert!(!second.more && second.basis == basis());
        let third = feed.read(Some(second.cursor), 3).unwrap();
        assert_eq!((numbers(&third), third.cursor), (vec![], second.cursor));
    }

    #[test]
    fn a_cursor_that_means_nothing_here_starts_the_reader_again() {
        let (feed, other) = (Feed::new().unwrap(), Feed::new().unwrap());
        feed.record([(md5(0), Decision::Block)], Some(basis()));
        let cursor = feed.read(None, 10).unwrap().cursor;
        for foreign in [Cursor { run: other.run, ..cursor }, Cursor { seq: cursor.seq + 1, ..cursor }] {
            let page = feed.read(Some(foreign), 10).unwrap();
            assert!(page.reset);
            assert_eq!((numbers(&page), page.cursor), (vec![(0, Decision::Block)], cursor));
        }
    }

    #[test]
    fn cursors_read_back_and_nothing_else_does() {
        let cursor = Cursor { run: 0xab, seq: 12 };
        assert_eq!(cursor.to_string(), "00000000000000ab-12");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "12", "ab-12", "00000000000000AB-12", "00000000000000ab-012", "00000000000000ab-+1", "-"] {
            assert_eq!(text.parse::<Cursor>(), Err(NotACursor), "{text}");
        }
    }

    /// A page's wait ends with the next change, and with the feed; the time that it may take is never spent.
    #[tokio::test]
    async fn readers_are_woken() {
        const LONG: Duration = Duration::from_secs(3600);
        let feed = Feed::new().unwrap();
        feed.record([], Some(basis()));
        let start = feed.read(None, 10).unwrap().cursor;
        tokio::join!(feed.wait(start, LONG), async { feed.record([(md5(0), Decision::Block)], None) });
        feed.wait(start, LONG).await;
        let end = feed.read(Some(start), 10).unwrap().cursor;
        assert_ne!(end, start);
        tokio::join!(feed.wait(end, LONG), async { feed.close() });
        assert!(feed.receive(LONG).is_none());
    }

    #[test]
    fn what_is_too_much_to_remember_leads_to_a_sweep() {
        let feed = Feed::new().unwrap();
        feed.changed(&[md5(0)]);
        let inbox = feed.receive(Duration::ZERO).unwrap();
        assert_eq!((inbox.changed.len(), inbox.sweep), (1, false));
        feed.changed(&vec![md5(0); WAITING]);
        feed.changed(&[md5(1)]);
        let inbox = feed.receive(Duration::ZERO).unwrap();
        assert!(inbox.sweep && inbox.changed.is_empty());
        feed.changed(&[md5(2)]);
        assert_eq!(feed.receive(Duration::ZERO).unwrap().changed, [md5(2)]);
    }
}
