//! Hashing files: MD5, SHA-1 and SHA-256 of any, PDQ of pictures.
//!
//! The picture is decoded within limits before anything is computed on it: a few kilobytes can unfold to gigabytes. Of a file
//! with several pictures (animations, pages) the first one is hashed. Pixels are taken as the reference implementation takes
//! them: as they are stored, without turning them by the camera's note, and without what makes them transparent.

mod pdq;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use hashmesh_protocol::content_hash::{ContentHash, HashKind, MIN_PDQ_QUALITY};
use image::error::UnsupportedErrorKind;
use image::{DynamicImage, ImageBuffer, ImageDecoder as _, ImageError, ImageFormat, ImageReader, Limits, Pixel};
use md5::Md5;
use rustix::fs::OFlags;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

pub use self::pdq::Turn;

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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pdq {
    /// The hash.
    pub hash: ContentHash,
    /// How much there was to hash, 0 to 100.
    pub quality: u8,
    turned: [ContentHash; 8],
}

impl Pdq {
    /// The hashes that the picture would have if it were turned or mirrored; first its own.
    pub fn turned(&self) -> impl Iterator<Item = (Turn, ContentHash)> {
        Turn::ALL.into_iter().zip(self.turned)
    }
}

/// Why a file has no PDQ hash.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoPdq {
    /// Not a picture in a known format.
    #[error("not a picture of a known format (JPEG, PNG, GIF, WebP, BMP, TIFF)")]
    NotAPicture,
    /// A known format, in a form that no decoder here knows.
    #[error("a picture in a form that cannot be read: {0}")]
    Unsupported(String),
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
///
/// Only what has an end is read: pipes, sockets and devices are errors, and folders too.
pub fn hash_file(path: &Path) -> Result<FileHashes, FileError> {
    let failed = |error| FileError { path: path.to_owned(), error };
    let mut file = open(path).map_err(failed)?;
    let exact = exact(&mut file).map_err(failed)?;
    file.rewind().map_err(failed)?;
    Ok(FileHashes { exact, pdq: pdq(BufReader::new(file)) })
}

/// Opens a regular file. Looked at before, because opening a device can do things; and after, because it may be another file
/// by then, whose opening must not wait for a writer.
fn open(path: &Path) -> io::Result<File> {
    let regular = |metadata: fs::Metadata| {
        let refusal = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        metadata.is_file().then_some(()).ok_or_else(refusal)
    };
    regular(fs::metadata(path)?)?;
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    regular(file.metadata()?)?;
    Ok(file)
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

/// Decodes a picture within the limits and hashes it.
fn pdq(mut file: BufReader<File>) -> Result<Pdq, NoPdq> {
    let damaged = |error: io::Error| NoPdq::Damaged(error.to_string());
    let mut reader = ImageReader::new(&mut file).with_guessed_format().map_err(damaged)?;
    if reader.format().is_none() {
        return Err(NoPdq::NotAPicture);
    }
    let is_jpeg = reader.format() == Some(ImageFormat::Jpeg);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    let refused = |error| match error {
        ImageError::Limits(_) => NoPdq::TooLarge,
        ImageError::Unsupported(error) if matches!(error.kind(), UnsupportedErrorKind::Format(_)) => NoPdq::NotAPicture,
        ImageError::Unsupported(error) => NoPdq::Unsupported(error.to_string()),
        error => NoPdq::Damaged(error.to_string()),
    };
    let decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(NoPdq::TooLarge);
    }
    if decoder.total_bytes() > MAX_MEMORY {
        return Err(NoPdq::TooLarge);
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(refused)?;
    if is_jpeg && !jpeg_is_whole(&mut file).map_err(damaged)? {
        return Err(NoPdq::Damaged("it ends before the picture does".to_owned()));
    }
    let (values, quality) = hashes(&picture).ok_or(NoPdq::TooSmall)?;
    let turned = values.map(|value| ContentHash::new(HashKind::Pdq, &value).expect("32 bytes"));
    if quality < MIN_PDQ_QUALITY || turned[0].emptiness().is_some() {
        return Err(NoPdq::LowQuality(quality));
    }
    Ok(Pdq { hash: turned[0], quality, turned })
}

/// Whether a JPEG goes on to its end marker. The decoder paints what is missing grey, and says nothing.
fn jpeg_is_whole(file: &mut BufReader<File>) -> io::Result<bool> {
    const END: u8 = 0xd9;
    let next = |file: &mut BufReader<File>| -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((file.read(&mut byte)? == 1).then_some(byte[0]))
    };
    file.seek(SeekFrom::Start(2))?;
    while let Some(byte) = next(file)? {
        if byte != 0xff {
            continue;
        }
        let mut marker = Some(byte);
        while marker == Some(0xff) {
            marker = next(file)?;
        }
        match marker {
            None => return Ok(false),
            Some(END) => return Ok(true),
            // What stands alone: escaped data, restarts.
            Some(0x00..=0x01 | 0xd0..=0xd8) => (),
            Some(_) => {
                let mut length = [0; 2];
                if file.read_exact(&mut length).is_err() {
                    return Ok(false);
                }
                file.seek_relative(i64::from(u16::from_be_bytes(length)).max(2) - 2)?;
            }
        }
    }
    Ok(false)
}

/// Hashes pixels row by row, without a copy of the picture.
fn hashes(picture: &DynamicImage) -> Option<([[u8; 32]; 8], u8)> {
    match picture {
        DynamicImage::ImageLuma8(picture) => hashes_of(picture, |&[y]: &[u8; 1]| [y; 3]),
        DynamicImage::ImageLumaA8(picture) => hashes_of(picture, |&[y, _]: &[u8; 2]| [y; 3]),
        DynamicImage::ImageRgb8(picture) => hashes_of(picture, |&rgb: &[u8; 3]| rgb),
        DynamicImage::ImageRgba8(picture) => hashes_of(picture, |&[r, g, b, _]: &[u8; 4]| [r, g, b]),
        DynamicImage::ImageLuma16(picture) => hashes_of(picture, |&[y]: &[u16; 1]| [high(y); 3]),
        DynamicImage::ImageLumaA16(picture) => hashes_of(picture, |&[y, _]: &[u16; 2]| [high(y); 3]),
        DynamicImage::ImageRgb16(picture) => hashes_of(picture, |rgb: &[u16; 3]| rgb.map(high)),
        DynamicImage::ImageRgba16(picture) => hashes_of(picture, |&[r, g, b, _]: &[u16; 4]| [r, g, b].map(high)),
        other => hashes_of(&other.to_rgb8(), |&rgb: &[u8; 3]| rgb),
    }
}

/// The reference's readers cut sixteen bits to eight.
fn high(value: u16) -> u8 {
    value.to_be_bytes()[0]
}

#[expect(clippy::cast_possible_truncation, reason = "0 to 255")]
fn hashes_of<P: Pixel, const N: usize>(
    picture: &ImageBuffer<P, Vec<P::Subpixel>>,
    rgb: impl Fn(&[P::Subpixel; N]) -> [u8; 3],
) -> Option<([[u8; 32]; 8], u8)> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (pixels, _) = picture.as_raw().as_chunks::<N>();
    pdq::hashes(width, height, |y, row| {
        for (pixel, luma) in pixels[y * width..].iter().zip(row) {
            let [r, g, b] = rgb(pixel).map(f64::from);
            *luma = (0.299 * r + 0.587 * g + 0.114 * b) as f32;
        }
    })
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

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

    /// A few bytes that claim 50,000 by 50,000 pixels (WebP can claim no more than 16,383).
    #[test]
    fn headers_that_claim_too_much_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let le = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let png = {
            let sides = [50_000_u32.to_be_bytes(), 50_000_u32.to_be_bytes()].concat();
            let header = [b"IHDR".as_slice(), &sides, &[8, 2, 0, 0, 0]].concat();
            let crc = 0xc4cd_aa9d_u32;
            [b"\x89PNG\r\n\x1a\n\0\0\0\x0d".as_slice(), &header, &crc.to_be_bytes(), b"\0\0\0\0IDAT\x35\xaf\x06\x1e"]
                .concat()
        };
        let gif = [b"GIF89a\x0a\0\x0a\0\x80\0\0\0\0\0\0\0\0,\0\0\0\0".as_slice(), &[0x50, 0xc3, 0x50, 0xc3]].concat();
        let gif = [gif.as_slice(), b"\0\x02\x02\x4c\x01\0;"].concat();
        let bmp = [le(&[40, 50_000, 50_000, 1 | 24 << 16]), le(&[0; 6]), vec![0; 4]].concat();
        let bmp = [b"BM".as_slice(), &le(&[58, 0, 54]), &bmp].concat();
        let entries =
            [(256, 50_000), (257, 50_000), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 50_000), (279, 1)];
        let entries = entries.iter().flat_map(|&(tag, value)| le(&[tag | 4 << 16, 1, value]));
        let tiff = [b"II*\0\x08\0\0\0\x09\0".as_slice(), &entries.collect::<Vec<u8>>(), &[0; 4]].concat();
        let webp =
            [b"RIFF\x3a\0\0\0WEBPVP8L\x2d\0\0\0\x2f".as_slice(), &le(&[16_382 | 16_382 << 14]), &[0; 41]].concat();
        for (name, bytes) in [("png", png), ("gif", gif), ("bmp", bmp), ("tiff", tiff), ("webp", webp)] {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            assert_eq!(hash_file(&path).unwrap().pdq, Err(NoPdq::TooLarge), "{name}");
        }
    }

    #[test]
    fn files_cut_short_have_no_hash() {
        let folder = tempfile::tempdir().unwrap();
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::Gif,
            ImageFormat::WebP,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
        ] {
            let path = save(folder.path(), "whole", &drawing(200, 200), format);
            let whole = fs::read(&path).unwrap();
            assert!(hash_file(&path).unwrap().pdq.is_ok(), "{format:?}");
            for part in [50, 95] {
                fs::write(&path, &whole[..whole.len() * part / 100]).unwrap();
                let pdq = hash_file(&path).unwrap().pdq;
                assert!(matches!(pdq, Err(NoPdq::Damaged(_))), "{part} % of {format:?}: {pdq:?}");
            }
        }
    }

    #[test]
    fn what_has_no_end_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), Path::new("/dev/zero"), folder.path()] {
            let error = hash_file(path).unwrap_err();
            assert_eq!(error.source().unwrap().to_string(), "not a regular file", "{error}");
        }
    }
}
