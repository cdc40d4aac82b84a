//! csv as RFC 4180 has it: a line of column names, then a line a record; a cell in quotes may hold anything.
//!
//! Our own reader, because a library cannot say what we need: a cell without characters is a field that is not there, and
//! `""` one that is empty (so what is written comes back); and a quote that never closes must not bring the rest of the
//! file into memory.

use super::{
    Fault, Record,
    limits::{FIELDS_MAX, RECORD_BYTES_MAX},
    lines::{Lines, Next},
    value::{self, Field, Unfit, shortened},
};
use kula_types::Map;
use std::io::BufRead;

pub struct Reader<R> {
    lines: Lines<R>,
    key: Option<String>,
    header: Option<Vec<String>>,
    buffer: Vec<u8>,
}

/// A cell; `None` if there is nothing, not even quotes.
type Cell = Option<String>;

impl<R: BufRead> Reader<R> {
    pub fn new(source: R, key: Option<String>) -> Self {
        Reader { lines: Lines::new(source), key, header: None, buffer: Vec::new() }
    }

    pub fn offset(&self) -> u64 {
        self.lines.offset()
    }

    pub fn next(&mut self) -> Result<Option<Record>, Fault> {
        if self.header.is_none() {
            // Without its names nothing in the file means anything.
            let unusable = |fault| match fault {
                Fault::Malformed { line, what } | Fault::NoKey { line, what } => Fault::Header { line, what },
                Fault::TooLarge { line, what, most } => {
                    Fault::Header { line, what: format!("{what} is more than {most} bytes") }
                }
                other => other,
            };
            let Some((line, cells)) = self.row().map_err(unusable)? else { return Ok(None) };
            self.header = Some(header(cells, self.key.as_deref(), line)?);
        }
        let Some((line, cells)) = self.row()? else { return Ok(None) };
        let header = self.header.as_deref().unwrap_or_default();
        if cells.len() != header.len() {
            let what = format!("cells: {}, columns: {}", cells.len(), header.len());
            return Err(Fault::Malformed { line, what });
        }
        let fields = header.iter().zip(cells).filter_map(|(name, cell)| Some((name.clone(), cell?))).collect();
        value::record(fields, self.key.as_deref(), |name, key| name == key, line).map(Some)
    }

    /// The next row that is not an empty line, and where it begins.
    fn row(&mut self) -> Result<Option<(u64, Vec<Cell>)>, Fault> {
        loop {
            self.buffer.clear();
            let began = self.lines.number() + 1;
            let mut row = Row::default();
            loop {
                let from = self.buffer.len();
                match self.lines.next(&mut self.buffer, RECORD_BYTES_MAX)? {
                    Next::End if from == 0 => return Ok(None),
                    Next::End => {
                        let what = "a quote that is opened here never closes".into();
                        return Err(Fault::Malformed { line: began, what });
                    }
                    Next::TooLong => {
                        return Err(Fault::TooLarge { line: began, what: "the row", most: RECORD_BYTES_MAX });
                    }
                    Next::Line => {}
                }
                row.take(&self.buffer[from..]).map_err(|what| Fault::Malformed { line: began, what: what.into() })?;
                if row.at != At::Quoted {
                    break;
                }
            }
            let cells = row.end().map_err(|what| Fault::Malformed { line: began, what: what.into() })?;
            if cells.iter().any(Option::is_some) || cells.len() > 1 {
                return Ok(Some((began, cells)));
            }
        }
    }
}

fn header(cells: Vec<Cell>, key: Option<&str>, line: u64) -> Result<Vec<String>, Fault> {
    let refuse = |what: String| Err(Fault::Header { line, what });
    let mut names: Vec<String> = Vec::new();
    for cell in cells {
        match cell.filter(|name| !name.is_empty()) {
            None => return refuse("a column without a name".into()),
            Some(name) if names.contains(&name) => return refuse(format!("two columns {}", shortened(&name))),
            Some(name) => names.push(name),
        }
    }
    let has_key = key.map_or_else(
        || names.first().is_some_and(|name| name == value::KEY),
        |key| names.iter().any(|name| name == key),
    );
    if has_key {
        return Ok(names);
    }
    match value::no_key(line, key, names.iter().map(String::as_str)) {
        Fault::NoKey { line, what } => {
            Err(Fault::NoKeyColumn { line, what: what.replacen("the record", "the file", 1) })
        }
        other => Err(other),
    }
}

/// Where in a row the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// At the beginning of a cell.
    #[default]
    Start,
    Plain,
    Quoted,
    /// Behind a quote in a quoted cell: its end, or the first of two.
    Quote,
    /// Behind a CR outside of quotes.
    Return,
    /// Behind the line's end.
    Over,
}

/// A row as far as it was read.
#[derive(Default)]
struct Row {
    at: At,
    cells: Vec<Cell>,
    cell: Vec<u8>,
    /// The cell has quotes.
    is_quoted: bool,
}

impl Row {
    fn take(&mut self, line: &[u8]) -> Result<(), &'static str> {
        for &byte in line {
            self.at = match (self.at, byte) {
                (At::Quoted, b'"') => At::Quote,
                (At::Quoted, _) | (At::Plain, b'"') => self.push(byte, self.at),
                (At::Quote, b'"') => self.push(byte, At::Quoted),
                (At::Start, b'"') => {
                    self.is_quoted = true;
                    At::Quoted
                }
                (At::Start | At::Plain | At::Quote, b',') => {
                    self.close()?;
                    At::Start
                }
                (_, b'\n') => At::Over,
                (At::Start | At::Plain | At::Quote, b'\r') => At::Return,
                (At::Start | At::Plain, _) => self.push(byte, At::Plain),
                (At::Quote, _) => return Err("characters behind a closing quote"),
                (At::Return | At::Over, _) => return Err("a carriage return outside of quotes"),
            };
        }
        Ok(())
    }

    fn push(&mut self, byte: u8, at: At) -> At {
        self.cell.push(byte);
        at
    }

    fn close(&mut self) -> Result<(), &'static str> {
        let text = String::from_utf8(std::mem::take(&mut self.cell)).map_err(|_| "it is not UTF-8")?;
        let is_there = std::mem::take(&mut self.is_quoted) || !text.is_empty();
        self.cells.push(is_there.then_some(text));
        if self.cells.len() > FIELDS_MAX { Err("more than 1024 cells") } else { Ok(()) }
    }

    fn end(mut self) -> Result<Vec<Cell>, &'static str> {
        self.close()?;
        Ok(self.cells)
    }
}
const _: () = assert!(FIELDS_MAX == 1_024);

/// The columns of a table, in the order in which they were first seen.
#[derive(Debug, Default)]
pub struct Columns {
    names: Vec<String>,
    places: Map<String, usize>,
}

impl Columns {
    pub fn take(&mut self, fields: &[Field<'_>]) -> Result<(), Unfit> {
        for field in fields {
            if self.places.contains_key(&*field.name) {
                continue;
            }
            if field.name.is_empty() {
                return Err(Unfit::Name(String::new()));
            }
            if self.names.len() >= FIELDS_MAX {
                return Err(Unfit::TooManyFields);
            }
            self.places.insert(field.name.to_string(), self.names.len());
            self.names.push(field.name.to_string());
        }
        Ok(())
    }

    pub fn write_head(&self, out: &mut Vec<u8>) {
        if !self.names.is_empty() {
            write_row(self.names.iter().map(|name| Some(name.as_str())), out);
        }
    }

    /// Appends one row, or nothing.
    pub fn write(&self, fields: &[Field<'_>], out: &mut Vec<u8>) -> Result<(), Unfit> {
        let mut cells: Vec<Option<&str>> = vec![None; self.names.len()];
        for field in fields {
            // It was looked at before.
            let place = self.places.get(&*field.name).ok_or_else(|| Unfit::Name(shortened(&field.name)))?;
            cells[*place] = Some(&field.text);
        }
        write_row(cells.into_iter(), out);
        Ok(())
    }
}

fn write_row<'a>(cells: impl Iterator<Item = Option<&'a str>>, out: &mut Vec<u8>) {
    for (place, cell) in cells.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        match cell {
            None => {}
            Some(text) if text.is_empty() || text.contains(['"', ',', '\n', '\r']) => {
                out.push(b'"');
                out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
                out.push(b'"');
            }
            Some(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
    out.push(b'\n');
}
