//! Lists as CSV with a header.
//!
//! Columns are found by name: `hash`, `value` or `signal_str` holds a hash; `kind`, `type` or `signal_type` its kind, unless
//! the hash names it or a kind is given for all; and columns that are called `pdq`, `md5`, `sha1` or `sha256` hold hashes of
//! theirs. A row may have several hashes; empty fields are none. `quality` (of the PDQ hash, where there are several) and
//! `labels` (separated by spaces) are used where they are there. Others are passed over.

use std::io::{self, BufRead};

use csv::{ReaderBuilder, StringRecord};
use hashmesh_protocol::content_hash::HashKind;

use super::lines::{Lines, row};
use super::{LineError, Numbered, Row};

const VALUE: [&str; 3] = ["hash", "value", "signal_str"];
const KIND: [&str; 3] = ["kind", "type", "signal_type"];

/// Which columns mean something.
struct Columns {
    values: Vec<Value>,
    quality: Option<usize>,
    labels: Option<usize>,
}

enum Value {
    /// In this column, with its kind in that one if there is one.
    Named(usize, Option<usize>),
    /// In a column of its kind's name.
    Own(usize, HashKind),
}

/// Whether a line that is no hash is the header of a list as CSV, be it of one column.
pub(super) fn is_header(line: &str) -> bool {
    Columns::find(&split(line, delimiter(line))).is_some()
}

fn delimiter(line: &str) -> u8 {
    [b',', b';', b'\t'].into_iter().find(|delimiter| line.as_bytes().contains(delimiter)).unwrap_or(b',')
}

fn split(line: &str, delimiter: u8) -> StringRecord {
    let mut reader = ReaderBuilder::new().has_headers(false).delimiter(delimiter).from_reader(line.as_bytes());
    let first = reader.records().next();
    first.and_then(Result::ok).unwrap_or_default()
}

impl Columns {
    fn find(header: &StringRecord) -> Option<Self> {
        let names: Vec<String> = header.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        let find = |wanted: &[&str]| names.iter().position(|name| wanted.contains(&name.as_str()));
        let named = find(&VALUE).map(|at| Value::Named(at, find(&KIND)));
        let own = HashKind::ALL.into_iter().filter_map(|kind| Some(Value::Own(find(&[kind.name()])?, kind)));
        let values: Vec<Value> = named.into_iter().chain(own).collect();
        (!values.is_empty()).then(|| Self { values, quality: find(&["quality"]), labels: find(&["labels"]) })
    }

    /// The hashes of a row; `kind` is that of values that do not say theirs.
    fn rows(&self, record: &StringRecord, kind: Option<HashKind>) -> Result<Vec<Row>, LineError> {
        let field = |at: usize| record.get(at).map(str::trim).unwrap_or_default();
        let quality = match self.quality.map(field).filter(|text| !text.is_empty()) {
            Some(text) => {
                let bad = || LineError::Csv(format!("{text:?} is not a quality (0 to 100)"));
                Some(text.parse().ok().filter(|quality| *quality <= 100).ok_or_else(bad)?)
            }
            None => None,
        };
        let labels = self.labels.map(field).unwrap_or_default();
        let mut rows = Vec::new();
        for value in self.values.iter().filter(|value| !field(value.place()).is_empty()) {
            let text = field(value.place());
            let mut read = match value {
                Value::Own(_, kind) => row(kind.name(), text)?,
                Value::Named(_, Some(kind)) if !field(*kind).is_empty() => row(field(*kind), text)?,
                Value::Named(..) => match (text.split_once(':'), kind) {
                    (Some((name, digits)), _) => row(name, digits)?,
                    (None, Some(kind)) => row(kind.name(), text)?,
                    (None, None) => return Err(LineError::NoKind),
                },
            };
            if self.values.len() == 1 || read.hash.kind() == HashKind::Pdq {
                read.quality = quality;
            }
            read.labels = labels.split_whitespace().map(str::to_owned).collect();
            rows.push(read);
        }
        if rows.is_empty() {
            return Err(LineError::Csv("no hash in this row".to_owned()));
        }
        Ok(rows)
    }
}

impl Value {
    /// The column with the hash.
    fn place(&self) -> usize {
        match self {
            Self::Named(at, _) | Self::Own(at, _) => *at,
        }
    }
}

/// Reads the rows below a header, a line each: a quoted field cannot run over several lines, so that a stray quote costs a
/// line and not the rest of the file.
pub(super) fn read<R: BufRead>(
    header: &str,
    kind: Option<HashKind>,
    lines: &mut Lines,
    mut list: R,
    visit: &mut dyn FnMut(Numbered) -> io::Result<()>,
) -> io::Result<()> {
    let delimiter = delimiter(header);
    let names = split(header, delimiter);
    let Some(columns) = Columns::find(&names) else { return Ok(()) };
    while let Some((number, line)) = lines.next(&mut list)? {
        let rows = line.and_then(|line| {
            let record = split(&line, delimiter);
            if record.len() == names.len() {
                return columns.rows(&record, kind);
            }
            let (have, fields) = (record.len(), if record.len() == 1 { "field" } else { "fields" });
            Err(LineError::Csv(format!("{have} {fields}, the header has {}", names.len())))
        });
        match rows {
            Ok(rows) => rows.into_iter().try_for_each(|row| visit((number, Ok(row))))?,
            Err(error) => visit((number, Err(error)))?,
        }
    }
    Ok(())
}
