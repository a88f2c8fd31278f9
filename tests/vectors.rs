//! Bytes never drift: documents made from fixed keys, compared with files. `HASHMESH_BLESS=1` writes the files anew, which
//! needs a line in the changelog.

use std::fs;
use std::path::Path;

use hashmesh::documents::{Found, write_genesis};
use hashmesh_protocol::armor::{self, Document};
use hashmesh_protocol::batch::Batch;
use hashmesh_protocol::charter::Parameters;
use hashmesh_protocol::checkpoint::{Checkpoint, SignedCheckpoint};
use hashmesh_protocol::content_hash::ContentHash;
use hashmesh_protocol::entries::Entries;
use hashmesh_protocol::federation::Federation;
use hashmesh_protocol::names::LogId;
use hashmesh_protocol::opening::{Opening, Salt, commitment};
use hashmesh_protocol::statement::{Add, Dispute, Labels, Leaf, Position, Revoke, Statement};
use hashmesh_protocol::time::Timestamp;
use hashmesh_protocol::tree::edge::Edge;
use hashmesh_protocol::wire::{Gossip, Heads, Request};
use hashmesh_testnet::founding::{card_of, found_by};
use hashmesh_testnet::sim::pdq;

fn golden(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    if std::env::var_os("HASHMESH_BLESS").is_some() {
        fs::write(&path, bytes).unwrap();
    }
    let expected = fs::read(&path).unwrap();
    assert!(expected == bytes, "{name} has changed:\n{}", String::from_utf8_lossy(bytes));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn cards_and_charters_keep_their_bytes() {
    golden("acme.card", armor::write(&[Document::Card(Box::new(card_of("acme", "FR")))]).as_bytes());
    let genesis = found_by(&["acme", "bolt", "crab", "dove"], Parameters::standard()).genesis;
    golden("genesis.charter", write_genesis(&genesis).as_bytes());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/genesis.charter");
    assert_eq!(Found::in_files(&[path]).unwrap().genesis().unwrap(), genesis, "the file is what it was made of");
}

/// An add, a dispute and a revocation, with their openings, as a batch and as what travels.
#[test]
fn statements_batches_and_frames_keep_their_bytes() {
    let founding = found_by(&["acme", "bolt", "crab", "dove"], Parameters::standard());
    let federation = Federation::new(&founding.genesis);
    let log = LogId { member: "acme".parse().unwrap(), epoch: 0 };
    let mut composer = Entries::compose(log, 0);
    let time = Timestamp(1_767_225_600_000);
    let mut text = String::new();
    let md5: ContentHash = "md5:900150983cd24fb0d6963f7d28e17f72".parse().unwrap();
    let hashes = [(pdq(1), None), (md5, Some("wrong file".to_owned()))];
    let openings = hashes.map(|(hash, note)| (hash, Opening::of(&hash, Salt([7; 16]), note).encode()));
    let add = Statement::Add(Add {
        kind: 1,
        commitment: commitment(&openings[0].1),
        labels: Labels::new(&[1, 2]).unwrap(),
        media: 2,
        quality: Some(98),
        expiry: Some(Timestamp(1_798_761_600_000)),
        incident: Some(17),
        replaces: None,
    });
    let dispute =
        Statement::Dispute(Dispute { kind: 2, commitment: commitment(&openings[1].1), reason: 3, replaces: None });
    let revoke = Statement::Revoke(Revoke { position: Position { epoch: 0, index: 0 }, reason: 2 });
    for (statement, opening) in [(add, Some(&openings[0])), (dispute, Some(&openings[1])), (revoke, None)] {
        let leaf = Leaf { time, statement };
        text.push_str(&format!("leaf    {}\n", hex(&leaf.encode())));
        if let Some((_, opening)) = opening {
            text.push_str(&format!("opening {}\n", hex(opening)));
        }
        composer.push(leaf, opening.map(|(hash, bytes)| (bytes.as_slice(), *hash)));
    }
    let entries = composer.finish().unwrap();
    let mut edge = Edge::default();
    entries.iter().for_each(|(_, entry)| edge.push(entry.leaf_hash));
    let key = &federation.logs()[&log];
    let checkpoint = Checkpoint { origin: key.name().to_owned(), size: 3, root: edge.root() };
    let note = SignedCheckpoint::sign(checkpoint, key, &founding.keys[&log.member].log).note().clone();
    golden("acme.checkpoint", note.to_string().as_bytes());
    golden("acme.vkey", format!("{key}\n").as_bytes());
    let origins = federation.origins();
    let batch = Batch { entries, checkpoint: note.clone(), proof: Vec::new() };
    text.push_str(&format!("batch   {}\n", hex(&batch.encode(origins))));
    text.push_str(&format!("gossip  {}\n", hex(&Gossip::encode_checkpoint(&note))));
    let heads = Request::Heads(Heads { time, heads: vec![(log, note)], ..Heads::default() });
    text.push_str(&format!("heads   {}\n", hex(&heads.encode(origins))));
    text.push_str(&format!("range   {}\n", hex(&Request::Range { log, from: 0, to: 3 }.encode(origins))));
    text.push_str(&format!("ask     {}\n", hex(&Request::Openings { log, indices: vec![0, 1] }.encode(origins))));
    golden("statements.txt", text.as_bytes());
}
