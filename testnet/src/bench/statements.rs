//! Statements to fill a catalog with, as a member would have made them.

use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::entries::Entries;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::opening::{Opening, Salt, commitment};
use hashmesh_protocol::statement::{Add, Labels, Leaf, Position, Revoke, Statement};
use hashmesh_protocol::time::Timestamp;

fn log(member: &str) -> LogId {
    LogId { member: member.parse().expect("a member's name"), epoch: 0 }
}

/// A member's additions, from index `first` on.
pub(super) fn adds(member: &str, first: u64, hashes: impl Iterator<Item = ContentHash>) -> Entries {
    let mut composer = Entries::compose(log(member), first);
    for hash in hashes {
        let opening = Opening::of(&hash, Salt([7; 16]), None).encode();
        let statement = Statement::Add(Add {
            kind: hash.kind() as u64,
            commitment: commitment(&opening),
            labels: Labels::new(&[1]).expect("one label"),
            media: 1,
            quality: None,
            expiry: None,
            incident: None,
            replaces: None,
        });
        composer.push(Leaf { time: Timestamp(1), statement }, Some((&opening, hash)));
    }
    composer.finish().expect("not empty")
}

/// A member's revocations of what it said at these indices.
pub(super) fn revokes(member: &str, first: u64, indices: impl Iterator<Item = u64>) -> Entries {
    let mut composer = Entries::compose(log(member), first);
    for index in indices {
        let statement = Statement::Revoke(Revoke { position: Position { epoch: 0, index }, reason: 1 });
        composer.push(Leaf { time: Timestamp(1), statement }, None);
    }
    composer.finish().expect("not empty")
}
