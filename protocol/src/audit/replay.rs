//! Which statements of a member are live, by its leaves alone (SPEC 11.2, 11.3, 20.1, 20.6).
//!
//! Takes the logs of a member from the last to the first: what a log says of earlier ones, be it that they are void, is known
//! before they are read.

use std::collections::BTreeMap;

use crate::statement::{Erase, Position, Void};

/// What a leaf does to what is live.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Says something, or ends something, or both, or neither.
    Say {
        /// Whether it is an add or a dispute.
        committed: bool,
        /// What it revokes or takes the place of.
        ends: Option<Position>,
    },
    /// Erases something.
    Erase(Erase),
    /// Voids the end of an earlier log.
    Void(Void),
}

/// Two bits a leaf, for all logs of one member.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    logs: BTreeMap<u32, Leaves>,
    /// From where on logs are void.
    void: BTreeMap<u32, u64>,
    /// What is erased, by which leaf and on what basis.
    erased: BTreeMap<Position, (Position, u64)>,
}

#[derive(Clone, Debug, Default)]
struct Leaves {
    size: u64,
    /// Whether it is an add or a dispute.
    says: Vec<u64>,
    /// Whether a later leaf has ended it.
    ended: Vec<u64>,
}

impl Replay {
    /// Makes room for a log of so many leaves: none beyond is live, and what is said of them is nothing.
    pub fn expect(&mut self, epoch: u32, size: u64) {
        let words = usize::try_from(size.div_ceil(64)).expect("leaves that have been read are few enough");
        self.logs.insert(epoch, Leaves { size, says: vec![0; words], ended: vec![0; words] });
    }

    /// Takes the leaf at a position. Logs are taken from the last to the first, the leaves of each in order; all of them were
    /// expected before the first leaf is taken.
    pub fn take(&mut self, at: Position, act: Act) {
        if self.void.get(&at.epoch).is_some_and(|from| at.index >= *from) {
            return;
        }
        let ends = match act {
            Act::Say { committed, ends } => {
                if committed && let Some(leaves) = self.logs.get_mut(&at.epoch) {
                    set(&mut leaves.says, at.index);
                }
                ends
            }
            Act::Erase(erase) => Some(erase.position),
            Act::Void(void) => {
                if void.epoch < at.epoch {
                    let from = self.void.entry(void.epoch).or_insert(void.from);
                    *from = void.from.min(*from);
                }
                None
            }
        };
        // Only what is earlier can be ended.
        let Some(ended) = ends.filter(|ended| *ended < at) else { return };
        let Some(leaves) = self.logs.get_mut(&ended.epoch).filter(|leaves| ended.index < leaves.size) else { return };
        set(&mut leaves.ended, ended.index);
        if let Act::Erase(erase) = act {
            let first = self.erased.entry(ended).or_insert((at, erase.basis));
            *first = (at, erase.basis).min(*first);
        }
    }

    /// Whether an add or dispute stands there that has effect and that nothing has ended.
    pub fn is_live(&self, at: Position) -> bool {
        let leaves = self.logs.get(&at.epoch).filter(|leaves| at.index < leaves.size);
        leaves.is_some_and(|leaves| is_set(&leaves.says, at.index) && !is_set(&leaves.ended, at.index))
    }

    /// What is erased of one log, in order: each index with the first leaf that erases it, and the number of its basis.
    pub fn erased(&self, epoch: u32) -> impl Iterator<Item = (u64, Position, u64)> {
        let all = Position { epoch, index: 0 }..=Position { epoch, index: u64::MAX };
        self.erased.range(all).map(|(at, (by, basis))| (at.index, *by, *basis))
    }

    /// How many statements of one log are live.
    pub fn live(&self, epoch: u32) -> u64 {
        let live = |leaves: &Leaves| {
            leaves.says.iter().zip(&leaves.ended).map(|(says, ended)| u64::from((says & !ended).count_ones())).sum()
        };
        self.logs.get(&epoch).map_or(0, live)
    }
}

fn set(bits: &mut [u64], index: u64) {
    if let Some(word) = usize::try_from(index / 64).ok().and_then(|word| bits.get_mut(word)) {
        *word |= 1 << (index % 64);
    }
}

fn is_set(bits: &[u64], index: u64) -> bool {
    let word = usize::try_from(index / 64).ok().and_then(|word| bits.get(word));
    word.is_some_and(|word| word & 1 << (index % 64) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u32, index: u64) -> Position {
        Position { epoch, index }
    }

    fn say(committed: bool, ends: Option<Position>) -> Act {
        Act::Say { committed, ends }
    }

    fn replay(logs: &[(u32, &[Act])]) -> Replay {
        let mut replay = Replay::default();
        logs.iter().for_each(|(epoch, acts)| replay.expect(*epoch, acts.len() as u64));
        for (epoch, acts) in logs.iter().rev() {
            (0..).zip(*acts).for_each(|(index, act)| replay.take(at(*epoch, index), *act));
        }
        replay
    }

    #[test]
    fn only_what_stands_before_can_be_ended() {
        let first = [
            say(true, None),
            say(true, Some(at(0, 0))),
            say(true, Some(at(0, 2))),
            say(true, Some(at(0, 9))),
            say(false, Some(at(0, 4))),
            say(true, Some(at(7, 0))),
        ];
        let alone = replay(&[(0, &first)]);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|index| alone.is_live(at(0, index))), [false, true, true, true, false, true]);
        assert_eq!(alone.live(0), 4);
        let both = replay(&[(0, &first), (1, &[say(false, Some(at(0, 1))), say(false, Some(at(0, 1)))])]);
        assert_eq!((both.live(0), both.live(1)), (3, 0));
        assert!(!both.is_live(at(0, u64::MAX)) && !both.is_live(at(5, 0)));
    }

    /// SPEC 20.1, 20.6.
    #[test]
    fn what_is_void_neither_says_nor_ends_nor_erases_nor_voids() {
        let erase = |index| Act::Erase(Erase { position: at(0, index), basis: 3 });
        let first = [say(true, None), say(true, None), erase(0), say(false, Some(at(0, 1))), say(true, None)];
        let said = replay(&[(0, &first)]);
        let erased = |replay: &Replay| replay.erased(0).collect::<Vec<_>>();
        assert_eq!((said.live(0), erased(&said)), (1, vec![(0, at(0, 2), 3)]));
        let void = |epoch, from| Act::Void(Void { epoch, from });
        let undone = replay(&[(0, &first), (1, &[void(0, 2)])]);
        assert_eq!((undone.live(0), erased(&undone)), (2, vec![]));
        assert!(undone.is_live(at(0, 0)) && undone.is_live(at(0, 1)) && !undone.is_live(at(0, 4)));
        let again = replay(&[(0, &first), (1, &[void(0, 2)]), (2, &[void(1, 0)])]);
        assert_eq!((again.live(0), erased(&again)), (1, vec![(0, at(0, 2), 3)]));
    }
}
