//! What a member says that signs two histories: for benchmarks and tests of what becomes of it.

use hashmesh_protocol::batch::Batch;
use hashmesh_protocol::checkpoint::{Checkpoint, SignedCheckpoint};
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::entries::Entries;
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::key::SecretKey;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::opening::{Opening, Salt, commitment};
use hashmesh_protocol::statement::{Add, Labels, Leaf, Statement};
use hashmesh_protocol::time::Timestamp;
use hashmesh_protocol::tree::edge::Edge;
use hashmesh_protocol::tree::leaf_hash;
use hashmesh_protocol::wire::Gossip;

/// A log key in the wrong hands, and the leaves that everybody holds.
pub struct Forger<'a> {
    /// The federation.
    pub federation: &'a Federation,
    /// The log.
    pub log: LogId,
    /// Its key.
    pub secret: &'a SecretKey,
    /// The log so far.
    pub leaves: &'a [Vec<u8>],
}

impl Forger<'_> {
    /// A history that goes on with the additions of these hashes, as one gossip message.
    pub fn history(&self, time: Timestamp, hashes: &[ContentHash]) -> Vec<u8> {
        let mut edge = Edge::default();
        self.leaves.iter().for_each(|leaf| edge.push(leaf_hash(leaf)));
        let mut composer = Entries::compose(self.log, edge.size());
        for hash in hashes {
            let opening = Opening::of(hash, Salt([9; 16]), None).encode();
            let statement = Statement::Add(Add {
                kind: hash.kind() as u64,
                commitment: commitment(&opening),
                labels: Labels::new(&[1]).expect("one label"),
                media: 2,
                quality: None,
                expiry: None,
                incident: None,
                replaces: None,
            });
            composer.push(Leaf { time, statement }, Some((&opening, *hash)));
        }
        let entries = composer.finish().expect("a few short leaves");
        entries.iter().for_each(|(_, entry)| edge.push(entry.leaf_hash));
        let key = &self.federation.logs()[&self.log];
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: edge.size(), root: edge.root() };
        let checkpoint = SignedCheckpoint::sign(checkpoint, key, self.secret).note().clone();
        let batch = Batch { entries, checkpoint, proof: Vec::new() };
        Gossip::encode_batch(batch.encode(self.federation.origins()))
    }
}
