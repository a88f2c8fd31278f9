//! SHA-256 (FIPS 180-4) of many messages at once, side by side in the lanes of vector registers.
//!
//! Leaves, commitments and nodes are hashed by the thousand, and most are one to three blocks long. A processor with instructions for
//! SHA-256 takes them one by one; others take eight or sixteen together, three to six times as fast as one by one.

use sha2::block_api::compress256;

use super::Digest;

/// Bytes that SHA-256 takes at a time.
const BLOCK: usize = 64;

type Block = [u8; BLOCK];

/// The state that SHA-256 begins with (FIPS 180-4, 5.3.3).
const BEGIN: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// Messages to be hashed, in order.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    /// Of all messages, padded to whole blocks.
    blocks: Vec<Block>,
    /// Where each message ends.
    ends: Vec<usize>,
}

impl Messages {
    /// Adds the concatenation of `parts`.
    pub fn push(&mut self, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let from = self.blocks.len();
        // Behind the message a one bit, and at the very end its length in bits (FIPS 180-4, 5.1.1).
        self.blocks.resize(from + (length + 9).div_ceil(BLOCK), [0; BLOCK]);
        let padded = self.blocks[from..].as_flattened_mut();
        let mut at = 0;
        for part in parts {
            padded[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        padded[at] = 0x80;
        let end = padded.len();
        padded[end - 8..].copy_from_slice(&(length as u64 * 8).to_be_bytes());
        self.ends.push(self.blocks.len());
    }

    /// The digest of each.
    pub fn digests(&self) -> Vec<Digest> {
        lanes::digests(self)
    }

    fn message(&self, number: usize) -> &[Block] {
        let from = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.blocks[from..self.ends[number]]
    }

    fn one_by_one(&self) -> Vec<Digest> {
        let digest = |number| {
            let mut state = BEGIN;
            compress256(&mut state, self.message(number));
            digest(state)
        };
        (0..self.ends.len()).map(digest).collect()
    }

    /// So many at a time, the shortest first. `compress` takes a block of each.
    fn by<const LANES: usize>(&self, compress: impl Fn(&mut [[u32; LANES]; 8], &[&Block; LANES])) -> Vec<Digest> {
        let mut order: Vec<usize> = (0..self.ends.len()).collect();
        order.sort_by_key(|number| self.message(*number).len());
        let mut digests = vec![Digest::default(); order.len()];
        for together in order.chunks(LANES) {
            // Lanes for which there is none do what the first one does, and those that have come to their end go on for nothing.
            let messages: [&[Block]; LANES] =
                std::array::from_fn(|lane| self.message(*together.get(lane).unwrap_or(&together[0])));
            let longest = messages[together.len() - 1].len();
            let mut state = BEGIN.map(|word| [word; LANES]);
            for step in 0..longest {
                compress(&mut state, &messages.map(|message| &message[step.min(message.len() - 1)]));
                for (lane, number) in together.iter().enumerate() {
                    if messages[lane].len() == step + 1 {
                        digests[*number] = digest(state.map(|word| word[lane]));
                    }
                }
            }
        }
        digests
    }
}

fn digest(state: [u32; 8]) -> Digest {
    let mut bytes = [0; 32];
    bytes.chunks_exact_mut(4).zip(state).for_each(|(chunk, word)| chunk.copy_from_slice(&word.to_be_bytes()));
    Digest(bytes)
}

#[cfg(not(target_arch = "x86_64"))]
mod lanes {
    use super::{Digest, Messages};

    pub(super) fn digests(messages: &Messages) -> Vec<Digest> {
        messages.one_by_one()
    }
}

#[cfg(target_arch = "x86_64")]
mod lanes {
    #![expect(unsafe_code, reason = "whether the processor has an instruction is known only when it runs")]

    use super::{BLOCK, Block, Digest, Messages};

    /// The constants of the rounds (FIPS 180-4, 4.2.2).
    #[rustfmt::skip]
    const ROUNDS: [u32; 64] = [
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    ];

    /// Fewer than this are not worth the lanes that stay empty.
    const FEW: usize = 4;

    pub(super) fn digests(messages: &Messages) -> Vec<Digest> {
        if messages.ends.len() < FEW || is_x86_feature_detected!("sha") {
            messages.one_by_one()
        } else if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has it.
            messages.by(|state, blocks| unsafe { avx512(state, blocks) })
        } else if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has it.
            messages.by(|state, blocks| unsafe { avx2(state, blocks) })
        } else {
            messages.one_by_one()
        }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(state: &mut [[u32; 16]; 8], blocks: &[&Block; 16]) {
        compress(state, blocks);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(state: &mut [[u32; 8]; 8], blocks: &[&Block; 8]) {
        compress(state, blocks);
    }

    /// The compression function (FIPS 180-4, 6.2.2), on a block in each lane. Every inner loop is over the lanes: so the compiler makes
    /// vector instructions of it.
    #[inline(always)]
    pub(super) fn compress<const LANES: usize>(state: &mut [[u32; LANES]; 8], blocks: &[&Block; LANES]) {
        let mut words = [[0; LANES]; BLOCK / 4];
        for (lane, block) in blocks.iter().enumerate() {
            for (words, chunk) in words.iter_mut().zip(block.chunks_exact(4)) {
                words[lane] = u32::from_be_bytes(chunk.try_into().expect("four bytes"));
            }
        }
        let mut now = *state;
        for (round, constant) in ROUNDS.into_iter().enumerate() {
            if round >= 16 {
                let before = |ago: usize| words[(round - ago) % 16];
                let (two, seven, fifteen) = (before(2), before(7), before(15));
                let word = &mut words[round % 16];
                for lane in 0..LANES {
                    let (x, y) = (fifteen[lane], two[lane]);
                    let first = x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3);
                    let second = y.rotate_right(17) ^ y.rotate_right(19) ^ (y >> 10);
                    word[lane] = word[lane].wrapping_add(first).wrapping_add(seven[lane]).wrapping_add(second);
                }
            }
            let word = &words[round % 16];
            let [a, b, c, d, e, f, g, h] = now;
            let (mut new_a, mut new_e) = ([0; LANES], [0; LANES]);
            for lane in 0..LANES {
                let (x, y) = (e[lane], a[lane]);
                let choice = (x & f[lane]) ^ (!x & g[lane]);
                let majority = (y & b[lane]) ^ (y & c[lane]) ^ (b[lane] & c[lane]);
                let first = (x.rotate_right(6) ^ x.rotate_right(11) ^ x.rotate_right(25))
                    .wrapping_add(h[lane])
                    .wrapping_add(choice)
                    .wrapping_add(constant)
                    .wrapping_add(word[lane]);
                let second = (y.rotate_right(2) ^ y.rotate_right(13) ^ y.rotate_right(22)).wrapping_add(majority);
                new_a[lane] = first.wrapping_add(second);
                new_e[lane] = first.wrapping_add(d[lane]);
            }
            now = [new_a, a, b, c, new_e, e, f, g];
        }
        for (word, add) in state.iter_mut().zip(now) {
            for lane in 0..LANES {
                word[lane] = word[lane].wrapping_add(add[lane]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of every length around the ends of blocks, alone and together: as by the other implementation, on every path that this machine has.
    #[test]
    fn many_are_hashed_as_each_alone() {
        let bytes: Vec<u8> = (0..400u32).map(|at| (at * 37 + at / 7) as u8).collect();
        for count in [0, 1, 2, 7, 8, 9, 15, 16, 17, 300] {
            let mut messages = Messages::default();
            let mut expected = Vec::new();
            for number in 0..count {
                let (head, tail) = bytes[..(number * 13) % 311].split_at(number % 5 * ((number * 13) % 311) / 5);
                messages.push(&[head, tail]);
                expected.push(Digest::of(&[head, tail]));
            }
            assert_eq!(messages.digests(), expected, "{count}");
            assert_eq!(messages.one_by_one(), expected, "{count}");
            #[cfg(target_arch = "x86_64")]
            {
                assert_eq!(messages.by::<1>(lanes::compress), expected, "{count}");
                assert_eq!(messages.by::<8>(lanes::compress), expected, "{count}");
            }
        }
        for length in 0..200 {
            let mut messages = Messages::default();
            (0..19).for_each(|more| messages.push(&[&bytes[more..more + length + more % 3]]));
            let expected: Vec<_> = (0..19).map(|more| Digest::of(&[&bytes[more..more + length + more % 3]])).collect();
            assert_eq!(messages.digests(), expected, "{length}");
        }
    }
}
