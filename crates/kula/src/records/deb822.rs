//! deb822, the form of Debian's package indexes: stanzas of `Field: value` with an empty line between them.
//!
//! A line that begins with a space or tab continues the field above it: the value goes on behind a line break, without
//! that one character. `#` at the beginning of a line is a comment. Field names are compared without case; two of the same
//! name in one stanza are a fault, as Debian's policy (5.1) has it.

use super::{
    Fault, Record,
    limits::{FIELDS_MAX, RECORD_BYTES_MAX},
    lines::{Lines, Next},
    value::{self, Field, Unfit, shortened},
};
use std::io::BufRead;

pub struct Reader<R> {
    lines: Lines<R>,
    key: Option<String>,
    buffer: Vec<u8>,
}

impl<R: BufRead> Reader<R> {
    pub fn new(source: R, key: Option<String>) -> Self {
        Reader { lines: Lines::new(source), key, buffer: Vec::new() }
    }

    pub fn offset(&self) -> u64 {
        self.lines.offset()
    }

    /// The next stanza. One with a fault is passed over to its end.
    pub fn next(&mut self) -> Result<Option<Record>, Fault> {
        let mut fields: Vec<(String, String)> = Vec::new();
        let (mut first, mut bytes, mut fault) = (None, 0, None);
        loop {
            self.buffer.clear();
            let next = self.lines.next(&mut self.buffer, RECORD_BYTES_MAX)?;
            let line = self.lines.number();
            let text = line_of(&self.buffer);
            match next {
                Next::End => break,
                Next::Line if text.iter().all(|byte| matches!(byte, b' ' | b'\t')) => {
                    if first.is_some() {
                        break;
                    }
                    continue;
                }
                Next::Line if text.starts_with(b"#") => continue,
                Next::Line | Next::TooLong => {}
            }
            let began = *first.get_or_insert(line);
            bytes += text.len();
            if fault.is_some() {
                continue;
            }
            if next == Next::TooLong || bytes > RECORD_BYTES_MAX {
                fault = Some(Fault::TooLarge { line: began, what: "the stanza", most: RECORD_BYTES_MAX });
                fields.clear();
            } else if let Err(what) = take(&mut fields, text) {
                fault = Some(Fault::Malformed { line, what });
            }
        }
        match (fault, first) {
            (Some(fault), _) => Err(fault),
            (None, None) => Ok(None),
            (None, Some(line)) => value::record(fields, self.key.as_deref(), str::eq_ignore_ascii_case, line).map(Some),
        }
    }
}

/// A line without its end. Carriage returns belong to it however many there are, so that writing never has to end a line
/// with one.
fn line_of(mut line: &[u8]) -> &[u8] {
    line = line.strip_suffix(b"\n").unwrap_or(line);
    while let Some(shorter) = line.strip_suffix(b"\r") {
        line = shorter;
    }
    line
}

/// Takes one line of a stanza.
fn take(fields: &mut Vec<(String, String)>, line: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_string())?;
    if let Some(more) = text.strip_prefix([' ', '\t']) {
        let (_, value) = fields.last_mut().ok_or("a line that continues nothing")?;
        value.push('\n');
        value.push_str(more);
        return Ok(());
    }
    let (name, value) =
        text.split_once(':').ok_or_else(|| format!("no field, and no continuation of one: {:?}", shortened(text)))?;
    if !is_name(name) {
        return Err(format!("{:?} is no name of a field", shortened(name)));
    }
    if fields.len() >= FIELDS_MAX {
        return Err(format!("more than {FIELDS_MAX} fields"));
    }
    if fields.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
        return Err(format!("two fields {}", shortened(name)));
    }
    fields.push((name.to_string(), value.trim_start_matches([' ', '\t']).to_string()));
    Ok(())
}

/// Printable ASCII without space and colon, and neither a comment nor an option to begin with.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['#', '-'])
        && name.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b':')
}

/// Appends one stanza and the empty line behind it, or nothing.
pub fn write(fields: &[Field<'_>], out: &mut Vec<u8>) -> Result<(), Unfit> {
    for (place, Field { name, text, .. }) in fields.iter().enumerate() {
        if !is_name(name) {
            return Err(Unfit::Name(shortened(name)));
        }
        if fields[..place].iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
            return Err(Unfit::Twice(shortened(name)));
        }
        if let Some(what) = why_not(text) {
            return Err(Unfit::Text { field: shortened(name), what });
        }
    }
    for Field { name, text, .. } in fields {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        for line in text.split('\n').enumerate() {
            match line {
                (0, "") => {}
                (0, line) => out.extend([b" ", line.as_bytes()].concat()),
                (_, line) => out.extend([b"\n ", line.as_bytes()].concat()),
            }
        }
        out.push(b'\n');
    }
    out.push(b'\n');
    Ok(())
}

/// Why reading the text would not give it back.
fn why_not(text: &str) -> Option<&'static str> {
    let mut lines = text.split('\n');
    if lines.next().is_some_and(|first| first.starts_with([' ', '\t'])) {
        return Some("begins with a space");
    }
    if lines.any(|line| line.trim_matches([' ', '\t', '\r']).is_empty()) {
        return Some("has an empty line, which ends a stanza");
    }
    text.split('\n').any(|line| line.ends_with('\r')).then_some("has a carriage return at the end of a line")
}
