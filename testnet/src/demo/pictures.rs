//! Pictures to work with: drawn here, so that they belong to nobody, and with enough in them to be told apart.

use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use image::{ImageFormat, Rgb, RgbImage};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// A drawing and copies of it, as they would turn up on a platform.
pub(super) struct Picture {
    /// A PNG of 640 by 480.
    pub(super) original: PathBuf,
    /// What was done to each copy, and where it is.
    pub(super) copies: Vec<(&'static str, PathBuf)>,
}

/// Draws a picture and its copies.
pub(super) fn draw(folder: &Path, number: u64) -> anyhow::Result<Picture> {
    let drawing = landscape(number);
    let original = folder.join(format!("picture-{number:02}.png"));
    drawing.save_with_format(&original, ImageFormat::Png)?;
    let jpeg = |name: &str, picture: &RgbImage, quality: u8| -> anyhow::Result<PathBuf> {
        let path = folder.join(format!("picture-{number:02}-{name}.jpg"));
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
        picture.write_with_encoder(JpegEncoder::new_with_quality(&mut file, quality))?;
        Ok(path)
    };
    let smaller = resize(&drawing, 320, 240, FilterType::Triangle);
    let larger = resize(&drawing, 1024, 768, FilterType::CatmullRom);
    let copies = vec![
        ("recompressed", jpeg("recompressed", &drawing, 35)?),
        ("half the size", jpeg("half", &smaller, 80)?),
        ("enlarged", jpeg("large", &larger, 90)?),
    ];
    Ok(Picture { original, copies })
}

/// Hills under a sky with a few discs in it: shapes of every size, edges and gradients.
fn landscape(number: u64) -> RgbImage {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    let mut colour = |low: u8| [0; 3].map(|_: u8| rng.random_range(low..=255));
    let (top, bottom) = (colour(0), colour(60));
    let ground: Vec<[u8; 3]> = (0..4).map(|_| colour(0)).collect();
    let discs: Vec<([u8; 3], f32, f32, f32)> = (0..9)
        .map(|_| {
            let colour = [0; 3].map(|_: u8| rng.random_range(0..=255));
            (colour, rng.random_range(0.0..640.0), rng.random_range(0.0..480.0), rng.random_range(12.0..110.0))
        })
        .collect();
    let hills: Vec<(f32, f32, f32)> = (0..4)
        .map(|_| (rng.random_range(15.0..80.0), rng.random_range(0.004..0.03), rng.random_range(0.0..6.0)))
        .collect();
    RgbImage::from_fn(640, 480, |x, y| {
        let (x, y) = (x as f32, y as f32);
        let mut pixel = [0, 1, 2].map(|c| {
            let (from, to) = (f32::from(top[c]), f32::from(bottom[c]));
            (from + (to - from) * y / 480.0) as u8
        });
        for (colour, cx, cy, radius) in &discs {
            if (x - cx).powi(2) + (y - cy).powi(2) < radius.powi(2) {
                pixel = *colour;
            }
        }
        for (layer, ((height, width, phase), colour)) in hills.iter().zip(&ground).enumerate() {
            let ridge = 250.0 + 55.0 * layer as f32 + height * (x * width + phase).sin();
            if y > ridge {
                pixel = *colour;
            }
        }
        Rgb(pixel)
    })
}
