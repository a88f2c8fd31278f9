//! The thread that decides what is on the list: hashes about which something else is said at once, all others in sweeps.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hashmesh_protocol::catalog::{Catalog, ContentId};
use hashmesh_protocol::content_hash::HashKind;
use hashmesh_protocol::policy::{Circumstances, Decision, Matched, Policy};

use super::{Basis, Feed};
use crate::clock;
use crate::governance::Current;
use crate::quarantine::{Quarantine, Subject};

/// How often everything is judged anew although nobody has said or set anything: statements expire, labels' retention and
/// bans of the policy end, additions reach a rule's age.
const EVERY: Duration = Duration::from_secs(10 * 60);

/// Hashes of a sweep that are judged before what has arrived meanwhile: about a millisecond.
const PIECE: u32 = 4096;

/// What the feed's thread works with.
pub struct Judge {
    /// Where the decisions go.
    pub feed: Arc<Feed>,
    /// What is said.
    pub catalog: Arc<Catalog>,
    /// Charters and cards.
    pub governance: Arc<Current>,
    /// What this platform believes.
    pub policy: Arc<ArcSwap<Policy>>,
    /// What waits for a person.
    pub quarantine: Arc<Quarantine>,
}

impl Judge {
    /// Works on a thread of its own until the feed is closed. It has nothing to finish, so nobody need wait for its end.
    pub fn spawn(self) {
        let (feed, catalog) = (self.feed.clone(), self.catalog.clone());
        self.quarantine.tell(move |subject| match subject {
            Subject::Member(_) => feed.sweep(),
            Subject::Hash(hash) => feed.changed(&catalog.find(&hash).into_iter().collect::<Vec<_>>()),
        });
        let thread = thread::Builder::new().name("feed".to_owned());
        thread.spawn(move || self.work()).expect("the system can start a thread");
    }

    fn work(self) {
        let begun = Instant::now();
        let mut filled = false;
        let mut sweep = Sweep::default();
        sweep.begin();
        let mut swept = begun;
        let mut basis = self.basis();
        loop {
            let patience = if sweep.under_way() { Duration::ZERO } else { EVERY.saturating_sub(swept.elapsed()) };
            let Some(inbox) = self.feed.receive(patience) else { return };
            if inbox.sweep || !sweep.under_way() && swept.elapsed() >= EVERY {
                // The basis first: what is judged from here on is judged by it or by something newer.
                basis = self.basis();
                swept = Instant::now();
                sweep.begin();
            }
            let sweeping = sweep.under_way();
            let mut ids = inbox.changed;
            sweep.advance(|kind| self.catalog.known(kind), |id| ids.push(id));
            let decided = self.decide(&ids);
            let done = sweeping && !sweep.under_way();
            self.feed.record(ids.into_iter().zip(decided), done.then_some(basis));
            if done && !filled {
                filled = true;
                tracing::info!(ms = begun.elapsed().as_millis(), "the change feed is filled");
            }
        }
    }

    fn basis(&self) -> Basis {
        Basis { policy: self.policy.load().id(), as_of: clock::now() }
    }

    /// What is decided about each hash by what is said about exactly that one.
    fn decide(&self, ids: &[ContentId]) -> Vec<Decision> {
        let (policy, tripped) = (self.policy.load_full(), self.quarantine.tripped());
        let federation = self.governance.federation();
        let at = Circumstances { charter: federation.charter(), tripped: &tripped, as_of: clock::now() };
        let decide = |id: &ContentId| {
            let matched = Matched::of(&self.catalog, *id, 0);
            matched.map_or(Decision::None, |matched| policy.judge(&matched, &at).decision)
        };
        ids.iter().map(decide).collect()
    }
}

/// A kind's place in [`HashKind::ALL`], and a number.
type Place = (usize, u32);

const START: Place = (0, 0);
const END: Place = (HashKind::ALL.len(), 0);

/// A walk over all content hashes, in pieces. One that is begun under way goes on from where it is and around: however often
/// that happens, every hash has its turn.
#[derive(Default)]
struct Sweep {
    next: Place,
    until: Place,
    /// Afterwards from the start to here.
    then: Place,
}

impl Sweep {
    fn begin(&mut self) {
        self.until = END;
        self.then = self.next;
    }

    fn under_way(&self) -> bool {
        self.next < self.until || self.then > START
    }

    /// The next piece. Hashes that become known meanwhile may be left out: they are new, so the driver names them.
    fn advance(&mut self, known: impl Fn(HashKind) -> u32, mut visit: impl FnMut(ContentId)) {
        let mut room = PIECE;
        while room > 0 && self.under_way() {
            if self.next >= self.until {
                self.next = START;
                self.until = std::mem::take(&mut self.then);
                continue;
            }
            let (at, number) = self.next;
            let kind = HashKind::ALL[at];
            let (end, after) = if at == self.until.0 { (self.until.1, self.until) } else { (known(kind), (at + 1, 0)) };
            let piece = number..end.min(number.saturating_add(room)).max(number);
            self.next = if piece.end < end { (at, piece.end) } else { after };
            room -= piece.end - piece.start;
            piece.for_each(|number| visit(ContentId { kind, number }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sweep_visits_everything_once() {
        let known = |kind: HashKind| [PIECE * 2 + 5, 0, 3, PIECE][kind as usize - 1];
        let mut sweep = Sweep::default();
        for _ in 0..2 {
            sweep.begin();
            let mut visited = Vec::new();
            while sweep.under_way() {
                let before = visited.len();
                sweep.advance(known, |id| visited.push(id));
                assert!(visited.len() - before <= PIECE as usize);
            }
            assert_eq!(visited.len(), (PIECE * 3 + 8) as usize);
            assert!(visited.is_sorted() && visited.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }

    proptest! {
        /// However often a sweep is begun under way, all is visited after the last beginning, and it comes to an end.
        #[test]
        fn a_sweep_that_is_begun_again_still_visits_everything(
            known in proptest::array::uniform4(0u32..10_000),
            begins in proptest::collection::vec(0usize..6, 1..6),
        ) {
            let known = |kind: HashKind| known[kind as usize - 1];
            let all: u64 = HashKind::ALL.iter().map(|kind| u64::from(known(*kind))).sum();
            let mut sweep = Sweep::default();
            let mut visited = BTreeMap::new();
            for pieces in begins {
                sweep.begin();
                visited.clear();
                for _ in 0..pieces {
                    sweep.advance(known, |id| *visited.entry(id).or_insert(0) += 1);
                }
            }
            while sweep.under_way() {
                sweep.advance(known, |id| *visited.entry(id).or_insert(0) += 1);
            }
            prop_assert_eq!(visited.len() as u64, all);
            prop_assert!(visited.values().all(|times| *times == 1));
        }
    }
}
