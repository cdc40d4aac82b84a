//! jsonl: one JSON object a line. The line is the value, character for character; nothing is written anew.
//!
//! ```text
//! {"_key":"0ad","Package":"0ad","Version":"0.0.26"}               a record; the value is what follows the key
//! {"_key":"note","_type":"text/plain","_text":"a\nb"}             any other text
//! {"_key_base64url":"_wA","_type":"image/png","_base64":"iVBO"}   anything
//! ```

use super::{
    Fault, Record, Stored,
    limits::RECORD_BYTES_MAX,
    lines::{Lines, Next},
    value::{self, BASE64, JSON, KEY, KEY_BASE64URL, TEXT, TYPE, Unfit},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, io::BufRead};

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

    pub fn next(&mut self) -> Result<Option<Record>, Fault> {
        loop {
            self.buffer.clear();
            match self.lines.next(&mut self.buffer, RECORD_BYTES_MAX)? {
                Next::End => return Ok(None),
                Next::TooLong => {
                    let line = self.lines.number();
                    return Err(Fault::TooLarge { line, what: "the line", most: RECORD_BYTES_MAX });
                }
                Next::Line => {}
            }
            let line = self.lines.number();
            let text = std::str::from_utf8(&self.buffer)
                .map_err(|_| Fault::Malformed { line, what: "it is not UTF-8".into() })?;
            let text = text.trim_ascii();
            if !text.is_empty() {
                return record(text, self.key.as_deref(), line).map(Some);
            }
        }
    }
}

/// What stands before a value, as far as a line has it. The rest of the line begins behind the last of them.
#[derive(Default)]
struct Before<'a> {
    key: Option<Vec<u8>>,
    content_type: Option<Cow<'a, str>>,
    value: Option<Vec<u8>>,
    /// Behind what was taken.
    rest: usize,
    /// Something in it cannot be read.
    fault: Option<&'static str>,
}

fn record(text: &str, key: Option<&str>, line: u64) -> Result<Record, Fault> {
    let malformed = |what: String| Fault::Malformed { line, what };
    let mut before = Before::default();
    let (mut is_before, mut named) = (true, Vec::new());
    let mut names: Vec<String> = Vec::new();
    let walked = value::walk(text, |name, member| {
        is_before = is_before && key != Some(KEY) && before.take(text, &name, member);
        if !is_before && key == Some(&*name) && named.len() < 2 {
            named.push(member);
        }
        if !is_before && names.len() < 16 {
            names.push(value::shortened(&name));
        }
    });
    walked.map_err(|error| malformed(complaint(&error)))?;
    if let Some(fault) = before.fault {
        return Err(malformed(fault.into()));
    }
    let found = match key {
        Some(_) if before.value.is_some() => before.key.clone(),
        Some(field) if named.len() > 1 => return Err(malformed(format!("two fields {}", value::shortened(field)))),
        Some(field) => match named.first().map(|member| key_of(member)) {
            Some(None) => {
                return Err(malformed(format!("the key {} is neither text nor a number", value::shortened(field))));
            }
            found => found.flatten(),
        },
        None => before.key.clone(),
    };
    let key = found.ok_or_else(|| value::no_key(line, key, names.iter().map(String::as_str)))?;
    let content_type = before.content_type.map_or(Cow::Borrowed(JSON), |text| Cow::Owned(text.into_owned()));
    let value = match before.value {
        Some(_) if !names.is_empty() => return Err(malformed(format!("a field follows {TEXT} or {BASE64}"))),
        Some(value) => value,
        None if before.key.is_some() => [b"{", &text.as_bytes()[before.rest..]].concat(),
        None => text.as_bytes().to_vec(),
    };
    Ok(Record { line, key, value, content_type })
}

/// A text, or a number as it is written.
fn key_of(member: &RawValue) -> Option<Vec<u8>> {
    let is_fit = member.get().starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit());
    value::text_of(member).filter(|_| is_fit).map(|text| text.into_owned().into_bytes())
}

/// The parser's words, which count lines within the line.
fn complaint(error: &serde_json::Error) -> String {
    let told = error.to_string();
    let what = told.split(" at line ").next().unwrap_or(&told);
    format!("not a JSON object: {what}, column {}", error.column())
}

impl<'a> Before<'a> {
    /// Takes this member if it stands before the value.
    fn take(&mut self, text: &str, name: &str, member: &'a RawValue) -> bool {
        match name {
            KEY | KEY_BASE64URL if self.key.is_none() => {
                let written = value::text_of(member);
                self.key = match written {
                    Some(key) if name == KEY => Some(key.into_owned().into_bytes()),
                    Some(key) => URL_SAFE_NO_PAD.decode(key.as_bytes()).ok(),
                    None => None,
                };
                if self.key.is_none() {
                    self.fault = Some("its key cannot be decoded");
                }
            }
            TYPE if self.key.is_some() && self.content_type.is_none() && self.value.is_none() => {
                self.content_type = value::text_of(member);
            }
            TEXT if self.key.is_some() && self.value.is_none() => {
                self.value = value::text_of(member).map(|text| text.into_owned().into_bytes());
            }
            BASE64 if self.key.is_some() && self.value.is_none() => {
                self.value = value::text_of(member).and_then(|text| STANDARD.decode(text.as_bytes()).ok());
                if self.value.is_none() {
                    self.fault = Some("its value is not base64");
                }
            }
            _ => return false,
        }
        self.rest = behind(text, member);
        true
    }
}

/// Where the text goes on behind a member, and behind its comma.
fn behind(text: &str, member: &RawValue) -> usize {
    let end = member.get().as_ptr().addr() - text.as_ptr().addr() + member.get().len();
    let spaces = text[end..].len() - text[end..].trim_ascii_start().len();
    if text[end + spaces..].starts_with(',') { end + spaces + 1 } else { end }
}

/// Appends one line, or nothing.
pub fn write(stored: Stored<'_>, key: Option<&str>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let object = std::str::from_utf8(stored.value).ok().filter(|text| is_a_line(text));
    match key {
        Some(field) => {
            write_plain(stored, object, field)?;
            out.extend_from_slice(stored.value);
        }
        None => write_whole(stored, object, out),
    }
    out.push(b'\n');
    Ok(())
}

/// Checks that the value says everything by itself.
fn write_plain(stored: Stored<'_>, object: Option<&str>, field: &str) -> Result<(), Unfit> {
    if stored.content_type != JSON {
        return Err(Unfit::OtherType(stored.content_type.to_string()));
    }
    let key = std::str::from_utf8(stored.key).map_err(|_| Unfit::KeyNotText)?;
    let mut held = None;
    let walked = object.map(|text| {
        value::walk(text, |name, member| {
            if name == field {
                held = value::text_of(member);
            }
        })
    });
    match walked {
        Some(Ok(())) => value::is_key(held.as_deref(), field, key),
        None if stored.value.contains(&b'\n') || stored.value.contains(&b'\r') => Err(Unfit::Lines),
        Some(Err(_)) | None => Err(Unfit::NotAnObject),
    }
}

fn write_whole(stored: Stored<'_>, object: Option<&str>, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut member = |name: &str, text: &str| {
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        value::push_string(out, name);
        out.push(b':');
        value::push_string(out, text);
    };
    match std::str::from_utf8(stored.key) {
        Ok(key) => member(KEY, key),
        Err(_) => member(KEY_BASE64URL, &URL_SAFE_NO_PAD.encode(stored.key)),
    }
    if stored.content_type != JSON {
        member(TYPE, stored.content_type);
    }
    if let Some(rest) = object.filter(|text| is_plain_object(text)).map(|_| &stored.value[1..]) {
        if rest.trim_ascii_start() != b"}" {
            out.push(b',');
        }
        out.extend_from_slice(rest);
        return;
    }
    match std::str::from_utf8(stored.value) {
        Ok(text) => member(TEXT, text),
        Err(_) => member(BASE64, &STANDARD.encode(stored.value)),
    }
    out.push(b'}');
}

/// Whether this is a JSON object's line, which reading trims no character from.
fn is_a_line(text: &str) -> bool {
    text.starts_with('{') && text.ends_with('}') && !text.contains(['\n', '\r'])
}

/// Whether the text is an object whose beginning is not taken for what stands before a value.
fn is_plain_object(text: &str) -> bool {
    let mut first = None;
    let walked = value::walk(text, |name, _| {
        first.get_or_insert(name);
    });
    walked.is_ok() && !first.is_some_and(|name| [TYPE, TEXT, BASE64].contains(&&*name))
}
