//! Lists of one hash a line.

use std::io::{self, BufRead};

use hashmesh_protocol::content_hash::{ContentHash, HashKind, Media};

use super::{LineError, MAX_LINE, Row};

/// Reads lines that say something, with their numbers, holding one at a time.
#[derive(Default)]
pub(super) struct Lines {
    number: u64,
}

impl Lines {
    pub(super) fn next(&mut self, list: &mut impl BufRead) -> io::Result<Option<(u64, Result<String, LineError>)>> {
        loop {
            let mut line = Vec::new();
            let read = read_line(list, &mut line)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if read > MAX_LINE {
                return Ok(Some((self.number, Err(LineError::TooLong))));
            }
            match std::str::from_utf8(&line) {
                Ok(text) => {
                    let text = if self.number == 1 { text.trim_start_matches('\u{feff}') } else { text }.trim();
                    if !text.is_empty() && !text.starts_with('#') {
                        return Ok(Some((self.number, Ok(text.to_owned()))));
                    }
                }
                Err(_) => return Ok(Some((self.number, Err(LineError::NotText)))),
            }
        }
    }
}

/// Reads up to a newline and says how long the line is; keeps no more of it than a line may have.
fn read_line(list: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    loop {
        let buffer = list.fill_buf()?;
        if buffer.is_empty() {
            return Ok(length);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffer.len(), |at| at + 1);
        if length + taken <= MAX_LINE {
            line.extend_from_slice(&buffer[..taken]);
        }
        length += taken;
        list.consume(taken);
        if end.is_some() {
            return Ok(length);
        }
    }
}

/// What a line says.
pub(super) fn parse(line: &str, kind: Option<HashKind>) -> Result<Row, LineError> {
    if let Some((name, value)) = line.split_once(':')
        && !name.contains(char::is_whitespace)
    {
        return row(name, value.trim());
    }
    let Some((first, rest)) = line.split_once(char::is_whitespace) else {
        return match kind {
            Some(kind) => Ok(Row::of(ContentHash::from_hex(kind, line)?, None)),
            None if is_hex(line) => Err(LineError::NoKind),
            None => Err(LineError::Unknown),
        };
    };
    if let Some(digits) = sum(line) {
        return Ok(Row::of(digest(digits, kind)?, None));
    }
    if let Some(digest) = tagged(line) {
        return Ok(Row::of(digest?, None));
    }
    match named(first) {
        Ok(_) => row(first, rest.trim()),
        Err(_) => Err(LineError::Unknown),
    }
}

/// A row from the name of a kind and its value.
pub(super) fn row(name: &str, value: &str) -> Result<Row, LineError> {
    let (kind, media) = named(name)?;
    Ok(Row::of(ContentHash::from_hex(kind, value)?, media))
}

/// A kind by our name or by that of python-threatexchange, which also says what was hashed.
fn named(name: &str) -> Result<(HashKind, Option<Media>), LineError> {
    match name {
        "video_md5" => Ok((HashKind::Md5, Some(Media::Video))),
        "video_sha256" => Ok((HashKind::Sha256, Some(Media::Video))),
        name => Ok((name.to_ascii_lowercase().parse()?, None)),
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The digits of a line as md5sum, sha1sum and sha256sum write them: a space and a space or an asterisk stand between them
/// and the file's name. A backslash in front means that the name is escaped. Other tools put other things behind a value,
/// as its quality; what they mean is not guessed.
fn sum(line: &str) -> Option<&str> {
    let (digits, rest) = line.strip_prefix('\\').unwrap_or(line).split_once(' ')?;
    (is_hex(digits) && rest.starts_with([' ', '*'])).then_some(digits)
}

/// The digest of such a line. Its length says which of the three it is, unless the kind is given: then it is of that kind or
/// wrong, because 64 digits may be PDQ or SHA-256, and what is published cannot be taken out of the log again.
fn digest(digits: &str, kind: Option<HashKind>) -> Result<ContentHash, LineError> {
    if let Some(kind) = kind {
        return Ok(ContentHash::from_hex(kind, digits)?);
    }
    let kinds = [HashKind::Md5, HashKind::Sha1, HashKind::Sha256];
    kinds.into_iter().find_map(|kind| ContentHash::from_hex(kind, digits).ok()).ok_or(LineError::Unknown)
}

/// The other form of these tools: `MD5 (FILE) = DIGEST`.
fn tagged(line: &str) -> Option<Result<ContentHash, LineError>> {
    let (name, rest) = line.split_once(" (")?;
    let kind = match name {
        "MD5" => HashKind::Md5,
        "SHA1" => HashKind::Sha1,
        "SHA256" => HashKind::Sha256,
        _ => return None,
    };
    let (_, digits) = rest.rsplit_once(") = ")?;
    Some(ContentHash::from_hex(kind, digits).map_err(LineError::from))
}

impl Row {
    pub(super) fn of(hash: ContentHash, media: Option<Media>) -> Self {
        Self { hash, media, quality: None, labels: Vec::new() }
    }
}
