//! Whose cosignatures a checkpoint carries (c2sp.org/tlog-cosignature, `cosignature/v1`).

use std::collections::BTreeMap;

use crate::cosignature::Cosignature;
use crate::federation::Federation;
use crate::names::{LogId, MemberId};
use crate::note::{Note, VerifierKey};
use crate::time::Timestamp;

/// When a checkpoint of a log was settled, if it was; and the witnesses in whose name there is a line that does not hold.
pub(crate) fn settled(federation: &Federation, log: LogId, note: &Note) -> (Option<Timestamp>, Vec<MemberId>) {
    let (times, bad) = witnessed(federation, log, note);
    // By the witness set of any charter that has been in force: what was settled stays so.
    let by_set = federation.witness_sets().iter().filter_map(|set| {
        let of_set = set.members.iter().filter_map(|member| times.get(member)).copied().collect();
        quorum(of_set, usize::from(set.quorum))
    });
    (by_set.min(), bad)
}

/// Who has cosigned a checkpoint of a log, and when: with any key that a member's cards have named. And those in whose name there is
/// a line that does not hold.
pub(crate) fn witnessed(
    federation: &Federation,
    log: LogId,
    note: &Note,
) -> (BTreeMap<MemberId, Timestamp>, Vec<MemberId>) {
    let (mut times, mut bad) = (BTreeMap::new(), Vec::new());
    for (member, key) in federation.past_witnesses().into_iter().filter(|(member, _)| *member != log.member) {
        match by(note, &key) {
            Ok(time) => times.extend(time.map(|time| (member, time))),
            Err(Wrong) => bad.push(member),
        }
    }
    (times, bad)
}

/// A line that does not hold, or a second one of the same key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Wrong;

/// When a witness says that it has seen the checkpoint; `None` if it says nothing.
fn by(note: &Note, key: &VerifierKey) -> Result<Option<Timestamp>, Wrong> {
    let mut lines = note.signatures().iter().filter(|line| line.id == key.id() && line.name == key.name());
    let Some(line) = lines.next() else { return Ok(None) };
    let held = Cosignature::open(note.text(), line, key).map_err(|_| Wrong)?;
    if lines.next().is_some() { Err(Wrong) } else { Ok(Some(held.time())) }
}

/// When the last witness of a quorum had seen it, from the times of those who have.
fn quorum(mut times: Vec<Timestamp>, quorum: usize) -> Option<Timestamp> {
    times.sort();
    times.get(quorum.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by the Python package aics-tlog and verified by Go; see `formats.md`.
    const COSIGNED: &str = "vector.example/log\n3\nOF2jDzkXKCyJOd/4UZV+UZqxhGsTUaFMCts7EWMnQqo=\n\n\
        — vector.example/log zGIGn/nlvqkGLmG1WOAqSgo/uk2JlU54wT2EOToof9wN5CQ2OqvUXl/4nyVhVrTEzr86XIANLTN9CaGDmVRW3aCcigM=\n\
        — vector.example/witness CyIvRQAAAABpVbkA7yeRAV+gPu1bV0YXWSgetBAVnJunmAatc3jX3jLVn6hX3svpsIsdhUd/7KlXiDpCZgExQhE5zpORgwCuSRLVCA==\n";

    #[test]
    fn the_cosignature_of_another_implementation_holds_with_its_time() {
        let key = "vector.example/witness+0b222f45+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU".parse().unwrap();
        let note = Note::parse(COSIGNED.as_bytes()).unwrap();
        assert_eq!(by(&note, &key), Ok(Some(Timestamp(1_767_225_600_000))));
        let later = COSIGNED.replace("AABpVbkA", "AABpVbkB");
        assert_eq!(by(&Note::parse(later.as_bytes()).unwrap(), &key), Err(Wrong));
        let other = "vector.example/log+cc62069f+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c".parse().unwrap();
        assert_eq!(by(&note, &other), Err(Wrong), "a log's signature is no cosignature");
    }

    #[test]
    fn a_checkpoint_is_settled_when_the_last_of_a_quorum_has_seen_it() {
        let times = || [30, 10, 20].map(Timestamp).to_vec();
        assert_eq!(quorum(times(), 2), Some(Timestamp(20)));
        assert_eq!(quorum(times(), 4), None);
    }
}
