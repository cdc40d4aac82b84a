//! A record as it is stored: one JSON object on one line, its fields in the file's order; and what stands beside it in a
//! file, so that a table of any values can be written and read back.
//!
//! In a file, fields that begin with an underscore and come first stand beside the value: `_key`, then what a value that is
//! no such object needs: `_type`, its content type; `_text` or `_base64`, the value itself.

use super::{Fault, Record, Stored, limits::FIELDS_MAX};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// The content type of a record.
pub const JSON: &str = "application/json";
/// The key, where no field of the record is.
pub const KEY: &str = "_key";
/// The same, of a key that is no text.
pub const KEY_BASE64URL: &str = "_key_base64url";
/// The content type, where it is not that of a record.
pub const TYPE: &str = "_type";
/// The value, where it is text and no JSON object.
pub const TEXT: &str = "_text";
/// The value, where it is no text.
pub const BASE64: &str = "_base64";

/// How many names a complaint lists.
const NAMES_SHOWN_MAX: usize = 12;

/// Why what is stored cannot be written in this format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("its value is no JSON object")]
    NotAnObject,
    #[error("its content type is {0}, not {JSON}")]
    OtherType(String),
    #[error("its value is not on one line")]
    Lines,
    #[error("the key is no text")]
    KeyNotText,
    #[error("it has no field {0}")]
    NoKeyField(String),
    #[error("its field {field} holds {found:?}, not the key")]
    OtherKey { field: String, found: String },
    #[error("{0:?} cannot be the name of a field")]
    Name(String),
    #[error("it has two fields {0}")]
    Twice(String),
    #[error("its field {field} {what}")]
    Text { field: String, what: &'static str },
    #[error("there are more than {FIELDS_MAX} fields")]
    TooManyFields,
}

impl Unfit {
    /// Whether the format is at fault, and jsonl would take it.
    pub fn fits_jsonl(&self) -> bool {
        !matches!(self, Unfit::NoKeyField(_) | Unfit::OtherKey { .. })
    }
}

/// Calls `each` with the members of the object that `text` is; the whole text is checked.
pub fn walk<'a>(text: &'a str, each: impl FnMut(Cow<'a, str>, &'a RawValue)) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Walk(each).deserialize(&mut deserializer)?;
    deserializer.end()
}

struct Walk<F>(F);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue)> DeserializeSeed<'de> for Walk<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue)> Visitor<'de> for Walk<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut members: M) -> Result<(), M::Error> {
        while let Some(Name(name)) = members.next_key()? {
            (self.0)(name, members.next_value()?);
        }
        Ok(())
    }
}

/// A value as text: a string's own, anything else as JSON writes it. `None` if a string's escapes are no text.
pub fn text_of(value: &RawValue) -> Option<Cow<'_, str>> {
    let written = value.get();
    if written.starts_with('"') {
        serde_json::from_str::<Name<'_>>(written).ok().map(|name| name.0)
    } else {
        Some(Cow::Borrowed(written))
    }
}

/// The object of these fields, on one line.
pub fn object(fields: &[(String, String)]) -> Vec<u8> {
    let room = fields.iter().map(|(name, text)| name.len() + text.len() + 8).sum();
    let mut object = Vec::with_capacity(room);
    object.push(b'{');
    for (place, (name, text)) in fields.iter().enumerate() {
        if place > 0 {
            object.push(b',');
        }
        push_string(&mut object, name);
        object.push(b':');
        push_string(&mut object, text);
    }
    object.push(b'}');
    object
}

/// Appends a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    // Text always has a JSON form, and a vector takes it.
    let written = serde_json::to_writer(&mut *out, text);
    debug_assert!(written.is_ok());
}

/// The record of these fields. Field names are compared as they are, or without case.
pub fn record(
    mut fields: Vec<(String, String)>,
    key: Option<&str>,
    same: fn(&str, &str) -> bool,
    line: u64,
) -> Result<Record, Fault> {
    let has_own = fields.first().is_some_and(|(name, _)| name == KEY) && key != Some(KEY);
    let own = has_own.then(|| fields.remove(0).1);
    let found = match key {
        None => own,
        Some(field) => fields.iter().find(|(name, _)| same(name, field)).map(|(_, text)| text.clone()),
    };
    let names = fields.iter().map(|(name, _)| name.as_str());
    let key = found.ok_or_else(|| no_key(line, key, names))?;
    Ok(Record { line, key: key.into_bytes(), value: object(&fields), content_type: Cow::Borrowed(JSON) })
}

/// What to say of a record without a key.
pub fn no_key<'a>(line: u64, key: Option<&str>, names: impl Iterator<Item = &'a str>) -> Fault {
    let names: Vec<&str> = names.take(NAMES_SHOWN_MAX + 1).collect();
    let shown = names.iter().take(NAMES_SHOWN_MAX).map(|name| shortened(name)).collect::<Vec<_>>().join(", ");
    let more = if names.len() > NAMES_SHOWN_MAX { ", .." } else { "" };
    let what = match key {
        Some(field) => format!("the record has no field {}; it has {shown}{more}", shortened(field)),
        None => format!("which field is the key? --key names one of {shown}{more}"),
    };
    Fault::NoKey { line, what }
}

/// A name as a complaint shows it, however long it is.
pub fn shortened(name: &str) -> String {
    let cut: String = name.chars().take(64).collect();
    if cut.len() < name.len() { format!("{cut}..") } else { cut }
}

/// A field as csv and deb822 hold it.
#[derive(Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: Cow<'a, str>,
    pub text: Cow<'a, str>,
    /// It was no text.
    pub turned: bool,
}

/// The fields of what is stored, with `_key` first unless `key` names the one that holds it.
pub fn fields_to_write<'a>(stored: Stored<'a>, key: Option<&str>) -> Result<Vec<Field<'a>>, Unfit> {
    if stored.content_type != JSON {
        return Err(Unfit::OtherType(stored.content_type.to_string()));
    }
    let key_text = std::str::from_utf8(stored.key).map_err(|_| Unfit::KeyNotText)?;
    let text = std::str::from_utf8(stored.value).map_err(|_| Unfit::NotAnObject)?;
    let mut fields = Vec::new();
    if key.is_none() {
        fields.push(Field { name: Cow::Borrowed(KEY), text: Cow::Borrowed(key_text), turned: false });
    }
    let mut fits = true;
    let walked = walk(text, |name, value| {
        let turned = !value.get().starts_with('"');
        match text_of(value) {
            Some(text) if fields.len() < FIELDS_MAX => fields.push(Field { name, text, turned }),
            _ => fits = false,
        }
    });
    walked.map_err(|_| Unfit::NotAnObject)?;
    if !fits {
        return Err(Unfit::TooManyFields);
    }
    let twice = fields.iter().enumerate().find(|(place, field)| fields[..*place].iter().any(|f| f.name == field.name));
    if let Some((_, field)) = twice {
        return Err(Unfit::Twice(field.name.to_string()));
    }
    if let Some(key) = key {
        let held = fields.iter().find(|field| field.name == key);
        is_key(held.map(|field| &*field.text), key, key_text)?;
    }
    Ok(fields)
}

/// Checks that the field which is to hold the key does.
pub fn is_key(held: Option<&str>, field: &str, key: &str) -> Result<(), Unfit> {
    match held {
        None => Err(Unfit::NoKeyField(field.to_string())),
        Some(held) if held != key => Err(Unfit::OtherKey { field: field.to_string(), found: shortened(held) }),
        Some(_) => Ok(()),
    }
}
