//! Lists of hashes as operators have them, in the form that `hashmesh import` reads.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use clap::ValueEnum;
use hashmesh_protocol::content_hash::{ContentHash, HashKind};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// What a list is made of.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum List {
    /// A quarter each of PDQ, MD5, SHA-1 and SHA-256.
    Mixed,
    /// PDQ only.
    Pdq,
    /// MD5 only.
    Md5,
    /// SHA-256 only.
    Sha256,
}

impl List {
    /// Random hashes, the same ones for the same seed.
    pub(super) fn hashes(self, count: u64, seed: u64) -> impl Iterator<Item = ContentHash> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(move |number| {
            let kind = match self {
                Self::Mixed => HashKind::ALL[(number % 4) as usize],
                Self::Pdq => HashKind::Pdq,
                Self::Md5 => HashKind::Md5,
                Self::Sha256 => HashKind::Sha256,
            };
            let mut value = [0; 32];
            rng.fill_bytes(&mut value);
            if kind == HashKind::Pdq {
                // Half of the bits of a real PDQ hash are set.
                for at in 0..16 {
                    value[16 + at] = !value[at];
                }
            }
            ContentHash::new(kind, &value[..kind.width()]).expect("as long as its kind")
        })
    }
}

/// Writes a list, a hash a line.
pub(super) fn write(path: &Path, hashes: impl IntoIterator<Item = ContentHash>) -> anyhow::Result<()> {
    let mut file = BufWriter::new(fs::File::create(path)?);
    for hash in hashes {
        writeln!(file, "{hash}")?;
    }
    Ok(file.flush()?)
}
