//! Records in files: jsonl, csv and Debian's deb822, each read as a stream and written so that reading it gives the same.
//!
//! Every format becomes the same thing, one JSON object a record, so that any of them may be exported as any other. What
//! is read is bounded by `limits` however hostile the file: a line without end is passed over, not held.

mod csv;
mod deb822;
mod digest;
mod jsonl;
pub mod limits;
mod lines;
mod value;

#[cfg(test)]
mod tests;

pub use digest::{Digest, key_hash, record_hash};
pub use value::{Unfit, shortened};

use clap::ValueEnum;
use std::{
    borrow::Cow,
    fmt,
    io::{self, BufRead},
    path::Path,
};

/// How a file holds its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line
    Jsonl,
    /// A line of column names, then a line a record (RFC 4180)
    Csv,
    /// Stanzas of `Field: value`, as Debian's package index has them
    Deb822,
}

impl Format {
    /// What a file's name says.
    pub fn of(file: &Path) -> Option<Format> {
        let name = file.file_name()?.to_str()?.to_ascii_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if ends(&[".jsonl", ".ndjson"]) {
            Some(Format::Jsonl)
        } else if ends(&[".csv"]) {
            Some(Format::Csv)
        } else if name == "packages" || ends(&[".deb822", "_packages", ".packages"]) {
            Some(Format::Deb822)
        } else {
            None
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
            Format::Deb822 => "deb822",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One record of a file, as it will be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it begins; the first line is 1.
    pub line: u64,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub content_type: Cow<'static, str>,
}

/// Why a record, or the file, cannot be read. Nothing was stored of it.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The whole file is of no use.
    #[error("line {line}: {what}")]
    Header { line: u64, what: String },
    /// The same: no column holds the key.
    #[error("line {line}: {what}")]
    NoKeyColumn { line: u64, what: String },
    #[error("line {line}: {what}")]
    Malformed { line: u64, what: String },
    #[error("line {line}: {what}")]
    NoKey { line: u64, what: String },
    #[error("line {line}: {what} is more than {most} bytes")]
    TooLarge { line: u64, what: &'static str, most: usize },
}

impl Fault {
    /// Whether the next record may still be good.
    pub fn is_of_one_record(&self) -> bool {
        match self {
            Fault::Io(_) | Fault::Header { .. } | Fault::NoKeyColumn { .. } => false,
            Fault::Malformed { .. } | Fault::NoKey { .. } | Fault::TooLarge { .. } => true,
        }
    }
}

/// Reads records one by one. After a fault of one record the next call goes on behind it.
pub struct Reader<R>(Form<R>);

enum Form<R> {
    Jsonl(jsonl::Reader<R>),
    Csv(csv::Reader<R>),
    Deb822(deb822::Reader<R>),
}

impl<R: BufRead> Reader<R> {
    /// `key` names the field that holds the key; without one, a field `_key` that comes first holds it and is taken out.
    pub fn new(source: R, format: Format, key: Option<&str>) -> Self {
        let key = key.map(str::to_string);
        Reader(match format {
            Format::Jsonl => Form::Jsonl(jsonl::Reader::new(source, key)),
            Format::Csv => Form::Csv(csv::Reader::new(source, key)),
            Format::Deb822 => Form::Deb822(deb822::Reader::new(source, key)),
        })
    }

    /// The next record; `None` at the end of the file.
    pub fn next(&mut self) -> Result<Option<Record>, Fault> {
        let read = match &mut self.0 {
            Form::Jsonl(reader) => reader.next(),
            Form::Csv(reader) => reader.next(),
            Form::Deb822(reader) => reader.next(),
        };
        read.and_then(|record| record.map(fits).transpose())
    }

    /// Bytes of the file that were read for the records so far.
    pub fn offset(&self) -> u64 {
        match &self.0 {
            Form::Jsonl(reader) => reader.offset(),
            Form::Csv(reader) => reader.offset(),
            Form::Deb822(reader) => reader.offset(),
        }
    }
}

/// A record that a node would refuse is refused here, where its line is known.
fn fits(record: Record) -> Result<Record, Fault> {
    let line = record.line;
    if record.key.is_empty() {
        return Err(Fault::NoKey { line, what: "the key is empty".into() });
    }
    for (what, bytes, most) in [
        ("the key", record.key.len(), limits::KEY_BYTES_MAX),
        ("the record", record.value.len(), limits::VALUE_BYTES_MAX),
        ("the content type", record.content_type.len(), limits::CONTENT_TYPE_BYTES_MAX),
    ] {
        if bytes > most {
            return Err(Fault::TooLarge { line, what, most });
        }
    }
    Ok(record)
}

/// What stands in a table under one key.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub content_type: &'a str,
}

/// Writes records so that reading them gives the same. A csv's columns are known before its first record is written.
pub struct Writer {
    format: Format,
    key: Option<String>,
    columns: Option<csv::Columns>,
    /// Fields that were no text, and would come back as text.
    pub turned_to_text: u64,
}

impl Writer {
    /// `key` names the field that holds the key; without one, a field `_key` is written first.
    pub fn new(format: Format, key: Option<&str>) -> Self {
        let columns = (format == Format::Csv).then(csv::Columns::default);
        Writer { format, key: key.map(str::to_string), columns, turned_to_text: 0 }
    }

    /// Takes the columns of one record into account; only a csv has any.
    pub fn look_at(&mut self, stored: Stored<'_>) -> Result<(), Unfit> {
        let Some(columns) = &mut self.columns else { return Ok(()) };
        let fields = value::fields_to_write(stored, self.key.as_deref())?;
        columns.take(&fields)
    }

    /// What stands before the first record.
    pub fn head(&self, out: &mut Vec<u8>) {
        if let Some(columns) = &self.columns {
            columns.write_head(out);
        }
    }

    /// Appends one record to `out`; on a refusal nothing was appended.
    pub fn write(&mut self, stored: Stored<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
        if self.format == Format::Jsonl {
            return jsonl::write(stored, self.key.as_deref(), out);
        }
        let fields = value::fields_to_write(stored, self.key.as_deref())?;
        match &self.columns {
            Some(columns) => columns.write(&fields, out)?,
            None => deb822::write(&fields, out)?,
        }
        self.turned_to_text += fields.iter().map(|field| u64::from(field.turned)).sum::<u64>();
        Ok(())
    }
}
