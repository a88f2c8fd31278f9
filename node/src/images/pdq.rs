//! PDQ, the perceptual hash of pictures, from pixels to bits, as the reference implementation computes it
//! (ThreatExchange, `pdq/cpp`; the paper is beside it).
//!
//! Made here because the one crate that makes PDQ shrinks large pictures with another filter, does not round gradients before
//! it sums them (so that its quality is another number), and keeps the coefficients that the turned pictures need to itself.
//!
//! The reference blurs rows, columns, rows, columns, and then keeps 64 by 64 points. Blurs of rows and of columns commute, so
//! here both blurs of a row come first, and only the 64 points that are kept of it are remembered: a picture of any size
//! needs 256 bytes a row. Sums are rounded elsewhere than in the reference. That moves no bit of a picture, but many of
//! drawings that are symmetric to the pixel: half of their frequencies are zero but for rounding, on either side.
//!
//! Knows nothing of files and of what a quality is worth.

use std::f64::consts::PI;

/// Points a side of the shrunk picture.
const SIDE: usize = 64;

/// Frequencies a side.
const WAVES: usize = 16;

/// Shortest side that says anything, as in the reference.
pub(super) const MIN_SIDE: usize = 5;

type Shrunk = [[f32; SIDE]; SIDE];
type Waves = [[f32; WAVES]; WAVES];

/// How a picture was turned or mirrored, in the order and with the names of the reference.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// As it is.
    Original,
    /// A quarter, counterclockwise.
    Rotate90,
    /// A half.
    Rotate180,
    /// A quarter, clockwise.
    Rotate270,
    /// Upside down.
    FlipX,
    /// Left and right swapped.
    FlipY,
    /// Rows and columns swapped.
    FlipPlus1,
    /// Rows and columns swapped, along the other diagonal.
    FlipMinus1,
}

impl Turn {
    /// All, the original first.
    pub const ALL: [Self; 8] = [
        Self::Original,
        Self::Rotate90,
        Self::Rotate180,
        Self::Rotate270,
        Self::FlipX,
        Self::FlipY,
        Self::FlipPlus1,
        Self::FlipMinus1,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Rotate90 => "rotate90",
            Self::Rotate180 => "rotate180",
            Self::Rotate270 => "rotate270",
            Self::FlipX => "flipx",
            Self::FlipY => "flipy",
            Self::FlipPlus1 => "flipplus1",
            Self::FlipMinus1 => "flipminus1",
        }
    }

    /// The frequencies of the turned picture. Mirroring negates every other frequency; a quarter swaps rows and columns too.
    fn of(self, waves: &Waves) -> Waves {
        let (swap, rows, columns) = match self {
            Self::Original => (false, false, false),
            Self::Rotate90 => (true, false, true),
            Self::Rotate180 => (false, true, true),
            Self::Rotate270 => (true, true, false),
            Self::FlipX => (false, true, false),
            Self::FlipY => (false, false, true),
            Self::FlipPlus1 => (true, false, false),
            Self::FlipMinus1 => (true, true, true),
        };
        let mut turned = [[0.0; WAVES]; WAVES];
        for (i, row) in waves.iter().enumerate() {
            for (j, &wave) in row.iter().enumerate() {
                let negated = (rows && i % 2 == 0) != (columns && j % 2 == 0);
                let (i, j) = if swap { (j, i) } else { (i, j) };
                turned[i][j] = if negated { -wave } else { wave };
            }
        }
        turned
    }
}

/// The hashes of a picture and of its turned copies, in the order of [`Turn::ALL`], and the quality, 0 to 100.
///
/// `luma` is called once a row, from the top, and fills in the brightness of the row's pixels, 0 to 255. `None` if the picture
/// is smaller than [`MIN_SIDE`].
pub(super) fn hashes(
    width: usize,
    height: usize,
    mut luma: impl FnMut(usize, &mut [f32]),
) -> Option<([[u8; 32]; 8], u8)> {
    if width < MIN_SIDE || height < MIN_SIDE {
        return None;
    }
    let mut columns = vec![vec![0.0; height]; SIDE];
    let mut across = Blur::new(width);
    let mut row = vec![0.0; width];
    for y in 0..height {
        luma(y, &mut row);
        across.twice(&mut row);
        for (x, column) in columns.iter_mut().enumerate() {
            column[y] = row[kept(x, width)];
        }
    }
    let mut down = Blur::new(height);
    let mut shrunk = [[0.0; SIDE]; SIDE];
    for (x, column) in columns.iter_mut().enumerate() {
        down.twice(column);
        for (y, row) in shrunk.iter_mut().enumerate() {
            row[x] = column[kept(y, height)];
        }
    }
    let waves = waves(&shrunk);
    Some((Turn::ALL.map(|turn| bits(&turn.of(&waves))), quality(&shrunk)))
}

/// The point in the middle of one of the 64 parts of a side.
fn kept(part: usize, length: usize) -> usize {
    (2 * part + 1) * length / (2 * SIDE)
}

/// A moving average over one side's hundred-and-twenty-eighth part, narrower at both ends.
struct Blur {
    window: usize,
    spare: Vec<f32>,
}

impl Blur {
    fn new(length: usize) -> Self {
        Self { window: length.div_ceil(2 * SIDE), spare: vec![0.0; length] }
    }

    fn twice(&mut self, line: &mut [f32]) {
        if self.window > 1 {
            average(line, &mut self.spare, self.window);
            average(&self.spare, line, self.window);
        }
    }
}

/// Averages `window` points around each, of which the larger half lies after it.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "few points of 0 to 255")]
fn average(from: &[f32], to: &mut [f32], window: usize) {
    let after = window / 2;
    let before = window - after;
    let mut sum: f64 = from[..after.min(from.len())].iter().map(|&point| f64::from(point)).sum();
    let (mut first, mut end) = (0, after.min(from.len()));
    for (place, out) in to.iter_mut().enumerate() {
        if end < from.len() {
            sum += f64::from(from[end]);
            end += 1;
        }
        if first + before <= place {
            sum -= f64::from(from[first]);
            first += 1;
        }
        *out = (sum / (end - first) as f64) as f32;
    }
}

/// The sum of the steps between neighbours, each in whole hundredths of the range: what is fainter counts nothing.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole hundredths, at most 100 of them")]
fn quality(shrunk: &Shrunk) -> u8 {
    let step = |a: f32, b: f32| u32::from(((a - b) * 100.0 / 255.0).abs() as u8);
    let down = shrunk.windows(2).flat_map(|rows| rows[0].iter().zip(&rows[1]));
    let across = shrunk.iter().flat_map(|row| row.iter().zip(&row[1..]));
    let sum: u32 = down.chain(across).map(|(&a, &b)| step(a, b)).sum();
    (sum / 90).min(100) as u8
}

/// The 16 lowest frequencies each way, without the constant one.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "the reference computes in f32")]
fn waves(shrunk: &Shrunk) -> Waves {
    let scale = (2.0 / SIDE as f32).sqrt();
    let mut cosines = [[0.0_f32; SIDE]; WAVES];
    for (i, row) in cosines.iter_mut().enumerate() {
        for (j, cosine) in row.iter_mut().enumerate() {
            let angle = PI / (2 * SIDE) as f64 * ((i + 1) * (2 * j + 1)) as f64;
            *cosine = (f64::from(scale) * angle.cos()) as f32;
        }
    }
    let mut waves = [[0.0; WAVES]; WAVES];
    for (cosine, row) in cosines.iter().zip(&mut waves) {
        let mut line = [0.0; SIDE];
        for (factor, points) in cosine.iter().zip(shrunk) {
            for (sum, point) in line.iter_mut().zip(points) {
                *sum += factor * point;
            }
        }
        for (cosine, wave) in cosines.iter().zip(row) {
            *wave = line.iter().zip(cosine).map(|(a, b)| a * b).sum();
        }
    }
    waves
}

/// One bit a frequency, the last first: whether it is above the median, which is the lower of the two in the middle.
fn bits(waves: &Waves) -> [u8; 32] {
    let all = waves.as_flattened();
    let mut sorted = all.to_vec();
    let (_, &mut median, _) = sorted.select_nth_unstable_by(all.len() / 2 - 1, f32::total_cmp);
    let mut hash = [0; 32];
    for (place, &wave) in all.iter().enumerate() {
        if wave > median {
            hash[31 - place / 8] |= 1 << (place % 8);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something without symmetry, brightness of a place from 0 to 1.
    fn scene(x: f32, y: f32) -> f32 {
        ((x * 9.0).sin() * (y * 5.0).cos() + (x * 23.0 + y * 31.0).sin() + (y * y * 40.0).cos()) / 6.0 + 0.5
    }

    fn of(width: usize, height: usize, place: impl Fn(f32, f32) -> (f32, f32)) -> ([[u8; 32]; 8], u8) {
        let part = |at: usize, of: usize| (at as f32 + 0.5) / of as f32;
        let row = |y, row: &mut [f32]| {
            for (x, point) in row.iter_mut().enumerate() {
                let (x, y) = place(part(x, width), part(y, height));
                *point = scene(x, y) * 255.0;
            }
        };
        hashes(width, height, row).unwrap()
    }

    fn distance(a: &[u8; 32], b: &[u8; 32]) -> u32 {
        a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
    }

    #[test]
    fn averages_reach_as_far_as_the_reference_does() {
        let from = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
        let averaged = |window| {
            let mut to = [0.0; 6];
            average(&from, &mut to, window);
            to
        };
        assert_eq!(averaged(1), from);
        assert_eq!(averaged(2), [1.5, 3.0, 6.0, 12.0, 24.0, 32.0]);
        assert_eq!(averaged(3), [1.5, 7.0 / 3.0, 14.0 / 3.0, 28.0 / 3.0, 56.0 / 3.0, 24.0]);
        assert_eq!(averaged(4), [7.0 / 3.0, 3.75, 7.5, 15.0, 56.0 / 3.0, 24.0]);
    }

    #[test]
    fn a_turned_picture_has_the_hash_that_its_turn_foretells() {
        let (original, _) = of(256, 384, |x, y| (x, y));
        type Place = fn(f32, f32) -> (f32, f32);
        let turns: [(Turn, Place); 8] = [
            (Turn::Original, |x, y| (x, y)),
            (Turn::Rotate90, |x, y| (1.0 - y, x)),
            (Turn::Rotate180, |x, y| (1.0 - x, 1.0 - y)),
            (Turn::Rotate270, |x, y| (y, 1.0 - x)),
            (Turn::FlipX, |x, y| (x, 1.0 - y)),
            (Turn::FlipY, |x, y| (1.0 - x, y)),
            (Turn::FlipPlus1, |x, y| (y, x)),
            (Turn::FlipMinus1, |x, y| (1.0 - y, 1.0 - x)),
        ];
        for (foretold, (turn, place)) in original.iter().zip(turns) {
            let (turned, _) = of(320, 320, place);
            let near = distance(foretold, &turned[0]);
            assert!(near <= 16, "{} is {near} away", turn.name());
        }
    }

    #[test]
    fn any_size_is_hashed_from_five_by_five_on() {
        let (_, quality) = of(300, 300, |x, y| (x, y));
        assert!(quality >= 50);
        for (width, height) in [(5, 5), (5, 3000), (3000, 5), (64, 64), (127, 129)] {
            of(width, height, |x, y| (x, y));
        }
        for (width, height) in [(4, 100), (100, 4), (1, 1), (0, 0)] {
            assert!(hashes(width, height, |_, _| ()).is_none());
        }
        let (_, blank) = hashes(100, 100, |_, row| row.fill(7.0)).unwrap();
        assert_eq!(blank, 0);
    }
}
