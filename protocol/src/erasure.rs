//! What members take back of their own logs: what they void, and what they erase (SPEC 20).
//!
//! Both are said by leaves alone, so that every node and every auditor comes to the same result, in whatever order logs
//! arrive. Neither knows openings, clocks or disks: when something erased is deleted is the engine's business, how the store's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::bundle;
use crate::statement::{Position, Statement, Void};

/// From which leaf on each of a member's logs counts as never said.
///
/// A log loses its end because a later log of the member voids it, or because its key has signed two histories (SPEC 18.5).
/// What loses its effect voids nothing either: so a thief's `void` is undone by the owner's, and since only earlier logs
/// can be voided, there is always one answer.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    frozen: BTreeMap<u32, u64>,
    /// Which log voids which: the voided epoch and the speaking one to where that is said, ascending, and from where on,
    /// descending. What voids no more than what was said before in the same log is left out.
    voids: BTreeMap<(u32, u32), Vec<(u64, u64)>>,
    /// The result.
    cuts: BTreeMap<u32, u64>,
}

impl Cuts {
    /// Takes a `void` that stands at a place. `true` if something else counts now.
    pub fn void(&mut self, at: Position, void: Void) -> bool {
        if void.epoch >= at.epoch {
            return false;
        }
        let said = self.voids.entry((void.epoch, at.epoch)).or_default();
        if said.last().is_some_and(|(index, from)| *index >= at.index || *from <= void.from) {
            return false;
        }
        said.push((at.index, void.from));
        self.work_out()
    }

    /// Only the first `size` leaves of a log count: its key has signed two histories, and these are settled. Takes the place
    /// of what was said of the log before. `true` if something else counts now.
    pub fn freeze(&mut self, epoch: u32, size: u64) -> bool {
        self.frozen.insert(epoch, size) != Some(size) && self.work_out()
    }

    /// Whether the log is frozen.
    pub fn is_frozen(&self, epoch: u32) -> bool {
        self.frozen.contains_key(&epoch)
    }

    /// How many leaves of a log count at most; `u64::MAX` if all do.
    pub fn of(&self, epoch: u32) -> u64 {
        self.cuts.get(&epoch).copied().unwrap_or(u64::MAX)
    }

    /// Whether what stands there counts.
    pub fn has_effect(&self, at: Position) -> bool {
        at.index < self.of(at.epoch)
    }

    fn work_out(&mut self) -> bool {
        let before = std::mem::replace(&mut self.cuts, self.frozen.clone());
        // From the last log to the first: what can void a log has been decided when its turn comes.
        for (&(epoch, by), said) in self.voids.iter().rev() {
            let counts = self.of(by);
            let upto = said.partition_point(|(index, _)| *index < counts);
            if let Some((_, from)) = upto.checked_sub(1).map(|last| said[last]) {
                let cut = self.cuts.entry(epoch).or_insert(u64::MAX);
                *cut = from.min(*cut);
            }
        }
        before != self.cuts
    }
}

/// What may be erased now, or no longer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// What stands there.
    One(Position),
    /// Anything of the member's.
    Many,
}

/// What a member has erased.
#[derive(Clone, Debug, Default)]
pub struct Erasures {
    cuts: Cuts,
    /// What is erased, and by which leaves: of several some may be void.
    said: BTreeMap<Position, BTreeSet<Position>>,
}

impl Erasures {
    /// Takes the statement at a place, and tells what else may be erased now.
    pub fn take(&mut self, at: Position, statement: &Statement) -> Option<Change> {
        match statement {
            Statement::Erase(erase) if erase.position < at => {
                self.said.entry(erase.position).or_default().insert(at).then_some(Change::One(erase.position))
            }
            Statement::Void(void) => (self.cuts.void(at, *void) && !self.said.is_empty()).then_some(Change::Many),
            _ => None,
        }
    }

    /// Only the first `size` leaves of a log count. `true` if something else may be erased now.
    pub fn freeze(&mut self, epoch: u32, size: u64) -> bool {
        self.cuts.freeze(epoch, size) && !self.said.is_empty()
    }

    /// Whether a log is frozen.
    pub fn is_frozen(&self, epoch: u32) -> bool {
        self.cuts.is_frozen(epoch)
    }

    /// The first leaf that erases what stands at a place, if one does.
    pub fn by(&self, at: Position) -> Option<Position> {
        self.said.get(&at)?.iter().find(|by| self.cuts.has_effect(**by)).copied()
    }

    /// All that is erased of one log.
    pub fn of(&self, epoch: u32) -> impl Iterator<Item = u64> {
        self.within(epoch, 0..u64::MAX)
    }

    /// What is erased of these leaves of a log.
    pub fn within(&self, epoch: u32, leaves: Range<u64>) -> impl Iterator<Item = u64> {
        let places = Position { epoch, index: leaves.start }..Position { epoch, index: leaves.end.max(leaves.start) };
        self.said.range(places).filter(|(at, _)| self.by(**at).is_some()).map(|(at, _)| at.index)
    }

    /// A bundle of openings that begins at a leaf of a log, without those that are erased.
    pub fn hide(&self, epoch: u32, first: u64, count: u64, openings: Vec<u8>) -> Vec<u8> {
        bundle::without(openings, first, self.within(epoch, first..first.saturating_add(count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::Erase;

    fn at(epoch: u32, index: u64) -> Position {
        Position { epoch, index }
    }

    fn erase(epoch: u32, index: u64) -> Statement {
        Statement::Erase(Erase { position: at(epoch, index), basis: 1 })
    }

    /// SPEC 20.6.
    #[test]
    fn only_earlier_logs_are_voided_and_what_is_void_voids_nothing() {
        let mut cuts = Cuts::default();
        assert!(!cuts.void(at(1, 0), Void { epoch: 1, from: 0 }), "a log cannot void itself");
        assert!(!cuts.void(at(1, 0), Void { epoch: 2, from: 0 }), "nor a later one");
        assert!(cuts.void(at(1, 3), Void { epoch: 0, from: 7 }));
        assert!(!cuts.void(at(1, 4), Void { epoch: 0, from: 9 }), "it is void already");
        assert!(cuts.void(at(1, 5), Void { epoch: 0, from: 2 }));
        assert_eq!([cuts.of(0), cuts.of(1)], [2, u64::MAX]);
        assert!(cuts.has_effect(at(0, 1)) && !cuts.has_effect(at(0, 2)));
        assert!(cuts.void(at(2, 0), Void { epoch: 1, from: 4 }), "the second of both was a thief's");
        assert_eq!([cuts.of(0), cuts.of(1)], [7, 4]);
        assert!(cuts.freeze(2, 0), "and the third log was forked before anything in it was settled");
        assert_eq!([cuts.of(0), cuts.of(1), cuts.of(2)], [2, u64::MAX, 0]);
        assert!(cuts.freeze(2, 1));
        assert_eq!([cuts.of(0), cuts.of(1), cuts.of(2)], [7, 4, 1]);
    }

    /// SPEC 20.1, 20.6.
    #[test]
    fn what_is_erased_comes_back_if_the_erasure_is_void() {
        let mut erasures = Erasures::default();
        assert_eq!(erasures.take(at(0, 5), &erase(0, 5)), None, "nothing that comes later can be erased");
        assert_eq!(erasures.take(at(0, 5), &erase(0, 1)), Some(Change::One(at(0, 1))));
        assert_eq!(erasures.take(at(0, 6), &erase(0, 2)), Some(Change::One(at(0, 2))));
        assert_eq!(erasures.of(0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(erasures.by(at(0, 1)), Some(at(0, 5)));
        let openings = b"\x00\x01a\x00\x01b\x00\x01c".to_vec();
        assert_eq!(erasures.hide(0, 0, 3, openings.clone()), b"\x00\x01a\x00\x00\x00\x00");
        assert_eq!(erasures.hide(0, 3, 3, openings.clone()), openings);
        let void = Statement::Void(Void { epoch: 0, from: 5 });
        assert_eq!(erasures.take(at(1, 0), &void), Some(Change::Many));
        assert_eq!((erasures.of(0).count(), erasures.by(at(0, 1))), (0, None));
        assert_eq!(erasures.hide(0, 0, 3, openings.clone()), openings);
        assert_eq!(erasures.take(at(1, 1), &erase(0, 2)), Some(Change::One(at(0, 2))));
        assert_eq!(erasures.by(at(0, 2)), Some(at(1, 1)));
    }
}
