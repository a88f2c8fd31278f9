//! Reading hash lists: what platforms and tools write, line by line, never a whole list at a time.
//!
//! Understood are `kind:value`, `kind value`, bare values of a kind that is given, the output of md5sum, sha1sum and
//! sha256sum (both of its forms), and CSV with a header. What a line is not is said with its number, and reading goes on.

mod csv;
mod lines;

use std::io::{self, BufRead};

use hashmesh_protocol::content_hash::{ContentHash, ContentHashError, HashKind, Media};

/// Longest line, in bytes. A longer one is reported and passed over.
const MAX_LINE: usize = 64 * 1024;

/// One hash of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// The hash.
    pub hash: ContentHash,
    /// What was hashed, where the list says so.
    pub media: Option<Media>,
    /// The PDQ quality, where the list says so.
    pub quality: Option<u8>,
    /// Labels, where the list has them.
    pub labels: Vec<String>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LineError {
    /// The hash.
    #[error(transparent)]
    Hash(#[from] ContentHashError),
    /// A value without a kind, where none was given.
    #[error("a bare value; say which kind it is with --kind")]
    NoKind,
    /// Nothing that is understood.
    #[error("neither KIND:HEX, nor KIND HEX, nor a line of md5sum, sha1sum or sha256sum")]
    Unknown,
    /// Too long to be anything.
    #[error("longer than {MAX_LINE} bytes")]
    TooLong,
    /// Not text.
    #[error("not UTF-8 text")]
    NotText,
    /// A row of CSV.
    #[error("{0}")]
    Csv(String),
}

/// A line of a list: its number, counted from 1, and what it says. Empty lines and comments are left out; a row of CSV with
/// several hashes comes once for each.
pub type Numbered = (u64, Result<Row, LineError>);

/// Reads a list. `kind` is that of bare values.
pub fn read<R: BufRead>(
    mut list: R,
    kind: Option<HashKind>,
    mut visit: impl FnMut(Numbered) -> io::Result<()>,
) -> io::Result<()> {
    let mut lines = lines::Lines::default();
    // The header of a CSV file is its first line that says anything.
    match lines.next(&mut list)? {
        Some((_, Ok(line))) if lines::parse(&line, kind).is_err() && csv::is_header(&line) => {
            return csv::read(&line, kind, &mut lines, list, &mut visit);
        }
        Some((number, line)) => visit((number, line.and_then(|line| lines::parse(&line, kind))))?,
        None => return Ok(()),
    }
    while let Some((number, line)) = lines.next(&mut list)? {
        visit((number, line.and_then(|line| lines::parse(&line, kind))))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(list: &str, kind: Option<HashKind>) -> Vec<(u64, Result<String, String>)> {
        let mut rows = Vec::new();
        read(list.as_bytes(), kind, |(number, row)| {
            let text = row.map(|row| {
                let media = row.media.map(|media| format!(" {media}")).unwrap_or_default();
                let quality = row.quality.map(|quality| format!(" q{quality}")).unwrap_or_default();
                format!("{}{media}{quality} {}", row.hash, row.labels.join("+")).trim().to_owned()
            });
            rows.push((number, text.map_err(|error| error.to_string())));
            Ok(())
        })
        .unwrap();
        rows
    }

    fn hashes(list: &str, kind: Option<HashKind>) -> Vec<String> {
        read_all(list, kind).into_iter().map(|(_, row)| row.unwrap()).collect()
    }

    const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";

    #[test]
    fn lines_of_every_form_are_read() {
        let sha256 = "ab".repeat(32);
        let list = format!(
            "# a comment\n\nmd5:{MD5}\nmd5 {MD5}\r\npdq {sha256}\n{MD5}  usr/share/doc/a file\n{MD5} *binary\n\
             {sha256}  x\nMD5 (a (b)) = {MD5}\nSHA256 (x) = {sha256}\n\\{MD5}  a\\nb\nvideo_md5 {MD5}\n"
        );
        let md5 = format!("md5:{MD5}");
        assert_eq!(
            hashes(&list, None),
            [
                md5.clone(),
                md5.clone(),
                format!("pdq:{sha256}"),
                md5.clone(),
                md5.clone(),
                format!("sha256:{sha256}"),
                md5.clone(),
                format!("sha256:{sha256}"),
                md5.clone(),
                format!("{md5} video"),
            ]
        );
    }

    /// What Windows writes in front of text: the first line of such a list was lost.
    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        assert_eq!(hashes(&format!("\u{feff}md5:{MD5}\n"), None), [format!("md5:{MD5}")]);
        assert_eq!(hashes(&format!("\u{feff}kind,hash\nmd5,{MD5}\n"), None), [format!("md5:{MD5}")]);
    }

    #[test]
    fn bare_values_need_a_kind() {
        assert_eq!(hashes(&format!("{MD5}\n{MD5}"), Some(HashKind::Md5)).len(), 2);
        assert_eq!(read_all(MD5, None), [(1, Err("a bare value; say which kind it is with --kind".into()))]);
    }

    /// With `--kind pdq`, a PDQ hash with something behind it was taken for the output of sha256sum.
    #[test]
    fn a_kind_that_was_given_is_not_overruled_by_the_length_of_a_value() {
        let value = "ab".repeat(32);
        let lines = format!("{value}  a picture.jpg\n{value} *x\n");
        assert_eq!(hashes(&lines, Some(HashKind::Pdq)), [format!("pdq:{value}"), format!("pdq:{value}")]);
        assert_eq!(hashes(&lines, None)[0], format!("sha256:{value}"));
        let wrong = read_all(&format!("{MD5}  x\n"), Some(HashKind::Pdq));
        assert_eq!(wrong, [(1, Err("a pdq hash has 64 hex digits, this one has 32".into()))]);
        // A value and its quality, as other tools write them.
        for unclear in [format!("{value} 97\n"), format!("{value}\t97\n")] {
            for kind in [None, Some(HashKind::Pdq)] {
                assert!(read_all(&unclear, kind)[0].1.as_ref().unwrap_err().starts_with("neither"), "{unclear}");
            }
        }
    }

    #[test]
    fn bad_lines_are_numbered_and_reading_goes_on() {
        let list = format!("md5:{MD5}\nnonsense\nmd5:12\n\ncrc:12\n{}\nmd5:{MD5}\n", "x".repeat(70_000));
        let rows = read_all(&list, None);
        assert_eq!(rows.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 5, 6, 7]);
        assert!(rows[0].1.is_ok() && rows[5].1.is_ok());
        assert!(rows[1].1.as_ref().unwrap_err().starts_with("neither KIND:HEX"));
        assert_eq!(rows[2].1, Err("a md5 hash has 32 hex digits, this one has 2".into()));
        assert_eq!(rows[4].1, Err("longer than 65536 bytes".into()));
        let mut bytes = b"md5:\xff\nmd5:".to_vec();
        bytes.extend(MD5.bytes());
        let mut kinds = Vec::new();
        read(&bytes[..], None, |(_, row)| {
            kinds.push(row.is_ok());
            Ok(())
        })
        .unwrap();
        assert_eq!(kinds, [false, true]);
    }

    #[test]
    fn csv_is_read_by_the_names_of_its_columns() {
        let sha1 = "cd".repeat(20);
        assert_eq!(
            hashes(&format!("kind,hash,quality,labels\nmd5,{MD5},,\nsha1,{sha1},80,\"demo csam-a1\"\n"), None),
            [format!("md5:{MD5}"), format!("sha1:{sha1} q80 demo+csam-a1")]
        );
        assert_eq!(hashes(&format!("id,hash\n1,md5:{MD5}\n"), None), [format!("md5:{MD5}")]);
        assert_eq!(hashes(&format!("name;md5\nx;{MD5}\n"), None), [format!("md5:{MD5}")]);
        // What `tx dataset -P --csv` of python-threatexchange writes; its tags are not labels of the charter.
        let dataset = format!("signal_type,signal_str,collab,category,tags\nvideo_md5,{MD5},c,POSITIVE_CLASS,a b\n");
        assert_eq!(hashes(&dataset, None), [format!("md5:{MD5} video")]);
        // A kind that is given counts where neither the row nor the hash says one.
        let list = format!("name,hash\nx,{MD5}\ny,sha1:{sha1}\n");
        assert_eq!(hashes(&list, Some(HashKind::Md5)), [format!("md5:{MD5}"), format!("sha1:{sha1}")]);
        assert_eq!(read_all(&list, None)[0].1, Err("a bare value; say which kind it is with --kind".into()));
        assert_eq!(hashes(&format!("hash\nmd5:{MD5}\n"), None), [format!("md5:{MD5}")], "one column");
        assert_eq!(hashes(&format!("md5\n{MD5}\n"), None), [format!("md5:{MD5}")]);
        assert_eq!(
            hashes(&format!("md5,sha1,quality\n{MD5},{sha1},\n,{sha1},\n"), None),
            [format!("md5:{MD5}"), format!("sha1:{sha1}"), format!("sha1:{sha1}")],
            "every column of hashes counts"
        );
        assert_eq!(read_all("md5,sha1\n,\n", None), [(2, Err("no hash in this row".into()))]);
        assert_eq!(hashes(&format!("md5\t{MD5}\n"), None), [format!("md5:{MD5}")], "a line, not a header");
        let rows = read_all(&format!("kind,hash\nmd5,{MD5}\nmd5,1\nmd5\nmd5,{MD5}\n"), None);
        assert_eq!(
            rows.iter().map(|(n, row)| (*n, row.is_ok())).collect::<Vec<_>>(),
            [(2, true), (3, false), (4, false), (5, true)]
        );
    }
}
