//! What members have erased, over all logs of each: later logs erase what stands in earlier ones, and void what those erase
//! (SPEC 20.5, 20.6).

use super::log::LogReport;
use super::replay::{Act, Replay};
use crate::statement::Position;

/// An opening that its author has erased.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Erased {
    /// Of this leaf.
    pub index: u64,
    /// By this one.
    pub by: Position,
    /// On the basis with this registry number.
    pub basis: u64,
}

/// Says in each report what is erased of its log.
pub(super) fn list(reports: &mut [LogReport]) {
    for of_one in reports.chunk_by_mut(|a, b| a.log.member == b.log.member) {
        let said: Vec<_> =
            of_one.iter().map(|log| (log.log.epoch, log.checkpoint.size, log.takes_back.as_slice())).collect();
        let replay = replayed(&said);
        for log in of_one {
            let erased = replay.erased(log.log.epoch).map(|(index, by, basis)| Erased { index, by, basis });
            log.erased = erased.collect();
        }
    }
}

/// One log of a member: its epoch, its size, and what it erases and voids, by index.
type Said<'a> = (u32, u64, &'a [(u64, Act)]);

/// What is erased after all that the logs of one member say.
fn replayed(said: &[Said<'_>]) -> Replay {
    let mut replay = Replay::default();
    said.iter().for_each(|(epoch, size, _)| replay.expect(*epoch, *size));
    for (epoch, _, acts) in said.iter().rev() {
        acts.iter().for_each(|(index, act)| replay.take(Position { epoch: *epoch, index: *index }, *act));
    }
    replay
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{Erase, Void};

    /// SPEC 20.5, 20.6. A stolen key has erased two openings; the owner's next log voids what it said, and erases one of them.
    #[test]
    fn an_erasure_that_a_later_log_voids_is_not_listed() {
        let erase = |index| Act::Erase(Erase { position: Position { epoch: 0, index }, basis: 2 });
        let stolen = [(5, erase(1)), (6, erase(2))];
        let list = |said: &[Said<'_>]| {
            replayed(said).erased(0).map(|(index, by, _)| (index, by.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(list(&[(0, 7, &stolen)]), [(1, "0/5".to_owned()), (2, "0/6".to_owned())]);
        let owner = [(0, Act::Void(Void { epoch: 0, from: 5 })), (3, erase(2))];
        assert_eq!(list(&[(0, 7, &stolen), (1, 4, &owner)]), [(2, "1/3".to_owned())]);
    }
}
