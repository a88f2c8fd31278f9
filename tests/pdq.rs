//! PDQ as the reference implementation computes it: pictures, their hashes and qualities by the `pdqhash` of PyPI. `vectors/pdq`
//! holds them, with what made them.

use std::fs;
use std::path::Path;

use hashmesh::images::{NoPdq, hash_file};
use hashmesh_protocol::content_hash::{ContentHash, MIN_PDQ_QUALITY};

/// Bits that a hash may be away from the reference's: decoders differ in the last digit of a colour.
const MAX_DISTANCE: u32 = 10;

/// How much a quality may be off.
const MAX_OFF: u8 = 1;

/// SPEC 3.5: also turned and mirrored.
#[test]
fn pictures_have_the_hash_and_the_quality_of_the_reference() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/pdq");
    let expected = fs::read_to_string(folder.join("expected.txt")).unwrap();
    let mut hashed = 0;
    for line in expected.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, quality, hashes @ ..] = words.as_slice() else { panic!("{line}") };
        let quality: u8 = quality.parse().unwrap();
        match hash_file(&folder.join(name)).unwrap().pdq {
            Ok(pdq) => {
                assert!(pdq.quality.abs_diff(quality) <= MAX_OFF, "{name}: quality {}, not {quality}", pdq.quality);
                assert_eq!(hashes.len(), pdq.turned().count());
                for ((turn, ours), theirs) in pdq.turned().zip(hashes) {
                    let theirs: ContentHash = format!("pdq:{theirs}").parse().unwrap();
                    let distance = ours.distance(&theirs).unwrap();
                    assert!(distance <= MAX_DISTANCE, "{name} ({}) is {distance} away", turn.name());
                }
                hashed += 1;
            }
            Err(NoPdq::LowQuality(ours)) => {
                assert!(
                    quality < MIN_PDQ_QUALITY && ours.abs_diff(quality) <= MAX_OFF,
                    "{name}: {ours}, not {quality}"
                );
            }
            Err(why) => panic!("{name}: {why}"),
        }
    }
    assert!(hashed >= 20);
}
