//! Which statements of a member are live, by its leaves alone (SPEC 11.2, 11.3).

use std::collections::BTreeMap;

use crate::statement::Position;

/// Two bits a leaf, for all logs of one member.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    logs: BTreeMap<u32, Leaves>,
}

#[derive(Clone, Debug, Default)]
struct Leaves {
    /// Whether it is an add or a dispute.
    says: Vec<u64>,
    /// Whether a later leaf has ended it.
    ended: Vec<u64>,
    live: u64,
}

impl Replay {
    /// Takes the leaf at a position, after all before it: whether it is an add or a dispute, and what it ends.
    pub fn take(&mut self, at: Position, says: bool, ends: Option<Position>) {
        if says {
            let leaves = self.logs.entry(at.epoch).or_default();
            leaves.live += 1;
            set(&mut leaves.says, at.index);
        }
        // Only what is said already can end: of later positions nothing is known yet.
        if let Some(ended) = ends.filter(|ended| *ended < at)
            && self.is_live(ended)
        {
            let leaves = self.logs.entry(ended.epoch).or_default();
            leaves.live -= 1;
            set(&mut leaves.ended, ended.index);
        }
    }

    /// Whether an add or dispute stands there that nothing has ended.
    pub fn is_live(&self, at: Position) -> bool {
        let leaves = self.logs.get(&at.epoch);
        leaves.is_some_and(|leaves| is_set(&leaves.says, at.index) && !is_set(&leaves.ended, at.index))
    }

    /// How many statements of one log are live.
    pub fn live(&self, epoch: u32) -> u64 {
        self.logs.get(&epoch).map_or(0, |leaves| leaves.live)
    }
}

fn set(bits: &mut Vec<u64>, index: u64) {
    let word = usize::try_from(index / 64).expect("leaves that have been read are few enough");
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    bits[word] |= 1 << (index % 64);
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

    #[test]
    fn only_what_stands_before_can_be_ended() {
        let mut replay = Replay::default();
        replay.take(at(0, 0), true, None);
        replay.take(at(0, 1), true, Some(at(0, 0)));
        replay.take(at(0, 2), true, Some(at(0, 2)));
        replay.take(at(0, 3), true, Some(at(0, 9)));
        replay.take(at(0, 4), false, Some(at(0, 4)));
        replay.take(at(0, 9), true, Some(at(7, 0)));
        assert_eq!(
            [0, 1, 2, 3, 4, 9].map(|index| replay.is_live(at(0, index))),
            [false, true, true, true, false, true]
        );
        assert_eq!(replay.live(0), 4);
        replay.take(at(1, 0), false, Some(at(0, 1)));
        replay.take(at(1, 1), false, Some(at(0, 1)));
        assert_eq!((replay.live(0), replay.live(1)), (3, 0));
        assert!(!replay.is_live(at(0, u64::MAX)) && !replay.is_live(at(5, 0)));
    }
}
