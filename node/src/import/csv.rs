//! Lists as CSV with a header.
//!
//! Columns are found by name: `hash`, `value` or `signal_str` holds the hash; `kind`, `type` or `signal_type` its kind,
//! unless the hash names it; or a column is called `pdq`, `md5`, `sha1` or `sha256` itself. `quality` and `labels` (separated
//! by spaces) are used where they are there. Others are passed over.

use std::io::{self, BufRead};

use csv::{ReaderBuilder, StringRecord};
use hashmesh_protocol::content_hash::HashKind;

use super::lines::{Lines, row};
use super::{LineError, Numbered, Row};

const VALUE: [&str; 3] = ["hash", "value", "signal_str"];
const KIND: [&str; 3] = ["kind", "type", "signal_type"];

/// Which columns mean something.
struct Columns {
    value: Value,
    quality: Option<usize>,
    labels: Option<usize>,
}

enum Value {
    /// In this column, with its kind in that one if there is one.
    Named(usize, Option<usize>),
    /// In a column of its kind's name.
    Own(usize, HashKind),
}

/// Whether a line is the header of a list as CSV.
pub(super) fn is_header(line: &str) -> bool {
    delimiter(line).is_some_and(|delimiter| Columns::find(&split(line, delimiter)).is_some())
}

fn delimiter(line: &str) -> Option<u8> {
    [b',', b';', b'\t'].into_iter().find(|delimiter| line.as_bytes().contains(delimiter))
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
        let own = || HashKind::ALL.into_iter().find_map(|kind| Some(Value::Own(find(&[kind.name()])?, kind)));
        let value = find(&VALUE).map(|at| Value::Named(at, find(&KIND))).or_else(own)?;
        Some(Self { value, quality: find(&["quality"]), labels: find(&["labels"]) })
    }

    fn row(&self, record: &StringRecord) -> Result<Row, LineError> {
        let field = |at: usize| record.get(at).map(str::trim).unwrap_or_default();
        let mut read = match &self.value {
            Value::Own(at, kind) => row(kind.name(), field(*at))?,
            Value::Named(at, Some(kind)) if !field(*kind).is_empty() => row(field(*kind), field(*at))?,
            Value::Named(at, _) => {
                let (name, value) = field(*at).split_once(':').ok_or(LineError::NoKind)?;
                row(name, value)?
            }
        };
        if let Some(text) = self.quality.map(field).filter(|text| !text.is_empty()) {
            let bad = || LineError::Csv(format!("{text:?} is not a quality (0 to 100)"));
            read.quality = Some(text.parse().ok().filter(|quality| *quality <= 100).ok_or_else(bad)?);
        }
        read.labels = self.labels.map(field).unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        Ok(read)
    }
}

/// Reads the rows below a header, a line each: a quoted field cannot run over several lines, so that a stray quote costs a
/// line and not the rest of the file.
pub(super) fn read<R: BufRead>(
    header: &str,
    lines: &mut Lines,
    mut list: R,
    visit: &mut dyn FnMut(Numbered) -> io::Result<()>,
) -> io::Result<()> {
    let delimiter = delimiter(header).unwrap_or(b',');
    let names = split(header, delimiter);
    let Some(columns) = Columns::find(&names) else { return Ok(()) };
    while let Some((number, line)) = lines.next(&mut list)? {
        let row = line.and_then(|line| {
            let record = split(&line, delimiter);
            if record.len() == names.len() {
                return columns.row(&record);
            }
            Err(LineError::Csv(format!("{} fields, the header has {}", record.len(), names.len())))
        });
        visit((number, row))?;
    }
    Ok(())
}
