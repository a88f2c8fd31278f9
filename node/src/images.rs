//! Hashing files: MD5, SHA-1 and SHA-256 of any, PDQ of pictures.
//!
//! The picture is decoded within limits before anything is computed on it: a few kilobytes can unfold to gigabytes.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use hashmesh_protocol::content_hash::{ContentHash, HashKind, MIN_PDQ_QUALITY};
use image::{DynamicImage, ImageDecoder as _, ImageError, ImageReader, Limits};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Longest side of a picture, in pixels.
const MAX_SIDE: u32 = 20_000;

/// Most pixels: 300 MB once every pixel has its three bytes.
const MAX_PIXELS: u64 = 100_000_000;

/// Most memory that decoding may take beside, in bytes.
const MAX_MEMORY: u64 = 512 * 1024 * 1024;

/// The hashes of a file.
#[derive(Clone, Debug)]
pub struct FileHashes {
    /// MD5, SHA-1, SHA-256, in this order.
    pub exact: [ContentHash; 3],
    /// PDQ, or why there is none.
    pub pdq: Result<Pdq, NoPdq>,
}

/// A PDQ hash with its quality.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pdq {
    /// The hash.
    pub hash: ContentHash,
    /// How much there was to hash, 0 to 100.
    pub quality: u8,
}

/// Why a file has no PDQ hash.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoPdq {
    /// Not a picture in a known format.
    #[error("not a picture of a known format (JPEG, PNG, GIF, WebP, BMP, TIFF)")]
    NotAPicture,
    /// A picture that cannot be decoded.
    #[error("a damaged picture: {0}")]
    Damaged(String),
    /// Too large to be decoded safely.
    #[error("a picture that unfolds to more than {MAX_SIDE} pixels a side or {} megapixels", MAX_PIXELS / 1_000_000)]
    TooLarge,
    /// Smaller than PDQ can see.
    #[error("a picture of less than 5 by 5 pixels")]
    TooSmall,
    /// So uniform that its hash says nothing.
    #[error("too little in the picture to tell it from others (quality {0}, at least {MIN_PDQ_QUALITY} is needed)")]
    LowQuality(u8),
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}")]
pub struct FileError {
    path: PathBuf,
    #[source]
    error: io::Error,
}

impl FileHashes {
    /// All hashes that can be published or asked about.
    pub fn all(&self) -> impl Iterator<Item = (ContentHash, Option<u8>)> {
        let pdq = self.pdq.as_ref().ok().map(|pdq| (pdq.hash, Some(pdq.quality)));
        pdq.into_iter().chain(self.exact.map(|hash| (hash, None)))
    }
}

/// Hashes a file, reading it once for the exact hashes and once for the picture.
pub fn hash_file(path: &Path) -> Result<FileHashes, FileError> {
    let failed = |error| FileError { path: path.to_owned(), error };
    // A pipe or a device may never end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let mut file = File::open(path).map_err(failed)?;
    let exact = exact(&mut file).map_err(failed)?;
    file.rewind().map_err(failed)?;
    Ok(FileHashes { exact, pdq: pdq(BufReader::new(file)) })
}

fn exact(file: &mut File) -> io::Result<[ContentHash; 3]> {
    let (mut md5, mut sha1, mut sha256) = (Md5::new(), Sha1::new(), Sha256::new());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        md5.update(&buffer[..read]);
        sha1.update(&buffer[..read]);
        sha256.update(&buffer[..read]);
    }
    let hash = |kind, value: &[u8]| ContentHash::new(kind, value).expect("digests are as long as their kind");
    Ok([
        hash(HashKind::Md5, &md5.finalize()),
        hash(HashKind::Sha1, &sha1.finalize()),
        hash(HashKind::Sha256, &sha256.finalize()),
    ])
}

/// PDQ of a picture, as it is stored: orientation tags are not applied, as in the reference implementation.
fn pdq(file: impl io::BufRead + io::Seek) -> Result<Pdq, NoPdq> {
    let mut reader = ImageReader::new(file).with_guessed_format().map_err(|_| NoPdq::NotAPicture)?;
    if reader.format().is_none() {
        return Err(NoPdq::NotAPicture);
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    let refused = |error| match error {
        ImageError::Limits(_) => NoPdq::TooLarge,
        ImageError::Unsupported(_) => NoPdq::NotAPicture,
        error => NoPdq::Damaged(error.to_string()),
    };
    let decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || decoder.total_bytes() > MAX_MEMORY {
        return Err(NoPdq::TooLarge);
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(refused)?;
    let rgb = picture.into_rgb8();
    let (width, height) = rgb.dimensions();
    let rgb = pdqhash::image::RgbImage::from_raw(width, height, rgb.into_raw()).expect("three bytes a pixel");
    let picture = pdqhash::image::DynamicImage::ImageRgb8(rgb);
    let (value, quality) = pdqhash::generate_pdq(&picture).ok_or(NoPdq::TooSmall)?;
    let hash = ContentHash::new(HashKind::Pdq, &value).expect("32 bytes");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0.0 to 1.0 becomes 0 to 100")]
    let quality = (quality.clamp(0.0, 1.0) * 100.0) as u8;
    if quality < MIN_PDQ_QUALITY || hash.emptiness().is_some() {
        return Err(NoPdq::LowQuality(quality));
    }
    Ok(Pdq { hash, quality })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{ImageFormat, Rgb, RgbImage};

    use super::*;

    /// Something with structure at every scale.
    fn drawing(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
            let wave = |f: f32, g: f32| ((x * f).sin() * (y * g).cos() * 0.5 + 0.5) * 255.0;
            Rgb([wave(9.0, 5.0) as u8, wave(23.0, 17.0) as u8, wave(41.0, 3.0) as u8])
        })
    }

    fn save(folder: &Path, name: &str, picture: &RgbImage, format: ImageFormat) -> PathBuf {
        let path = folder.join(name);
        picture.save_with_format(&path, format).unwrap();
        path
    }

    #[test]
    fn copies_in_other_sizes_and_formats_are_near() {
        let folder = tempfile::tempdir().unwrap();
        let original = hash_file(&save(folder.path(), "a.png", &drawing(640, 480), ImageFormat::Png)).unwrap();
        let original_pdq = original.pdq.unwrap();
        let smaller = image::imageops::resize(&drawing(640, 480), 320, 240, image::imageops::FilterType::Triangle);
        for (name, picture, format) in [
            ("b.jpg", &drawing(640, 480), ImageFormat::Jpeg),
            ("c.gif", &drawing(640, 480), ImageFormat::Gif),
            ("d.webp", &smaller, ImageFormat::WebP),
            ("e.bmp", &smaller, ImageFormat::Bmp),
            ("f.tiff", &smaller, ImageFormat::Tiff),
        ] {
            let copy = hash_file(&save(folder.path(), name, picture, format)).unwrap();
            let distance = copy.pdq.unwrap().hash.distance(&original_pdq.hash).unwrap();
            assert!(distance <= 31, "{name} is {distance} away");
            assert_ne!(copy.exact, original.exact);
        }
    }

    #[test]
    fn any_file_has_exact_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let hashes = hash_file(&path).unwrap();
        assert_eq!(hashes.exact[0].to_string(), "md5:900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hashes.exact[1].to_string(), "sha1:a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            hashes.exact[2].to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(hashes.pdq, Err(NoPdq::NotAPicture));
        assert!(hash_file(&folder.path().join("missing")).is_err());
        assert!(hash_file(Path::new("/dev/zero")).is_err(), "it has no end");
    }

    #[test]
    fn pictures_that_say_nothing_or_unfold_too_far_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let pdq = |name: &str, picture: &RgbImage| {
            hash_file(&save(folder.path(), name, picture, ImageFormat::Png)).unwrap().pdq
        };
        assert!(matches!(pdq("blank.png", &RgbImage::new(100, 100)), Err(NoPdq::LowQuality(0))));
        assert_eq!(pdq("tiny.png", &drawing(4, 4)), Err(NoPdq::TooSmall));
        assert_eq!(pdq("wide.png", &RgbImage::new(20_001, 1)), Err(NoPdq::TooLarge));
        // 20,000 by 6,000 pixels, in a file of a few hundred kilobytes.
        let bomb = folder.path().join("bomb.png");
        image::GrayImage::new(20_000, 6_000).save_with_format(&bomb, ImageFormat::Png).unwrap();
        assert!(fs::metadata(&bomb).unwrap().len() < 1_000_000);
        assert_eq!(hash_file(&bomb).unwrap().pdq, Err(NoPdq::TooLarge));
        let whole = fs::read(save(folder.path(), "cut.png", &drawing(64, 64), ImageFormat::Png)).unwrap();
        let cut = folder.path().join("cut.png");
        fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(hash_file(&cut).unwrap().pdq, Err(NoPdq::Damaged(_))));
    }
}
