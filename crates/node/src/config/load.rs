//! Configuration from its layers: flags beat the environment, which beats the file, which beats the defaults.
//!
//! The file alone is read first, so that its errors point at a line; then the layers above are laid over it, and an
//! error there names the flag or the variable. Nothing is guessed: an unknown key is an error with a suggestion.

use super::{Config, ConfigError, keys};
use std::collections::BTreeMap;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Default,
    File,
    Environment,
    Flag,
}

/// What the user said, by layer.
#[derive(Default)]
pub struct Layers {
    /// Name and text of the configuration file.
    pub file: Option<(String, String)>,
    /// Variables that begin with `KULA_`.
    pub environment: Vec<(String, String)>,
    /// (key, value) as flags gave them.
    pub flags: Vec<(String, String)>,
}

/// A configuration and where each of its values came from.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Every key of `keys::KEYS` that is not a default.
    pub origins: BTreeMap<String, Origin>,
}

/// Reads and checks all layers.
pub fn load(layers: &Layers) -> Result<Loaded, ConfigError> {
    let mut origins = BTreeMap::new();
    let mut table = toml::Table::new();
    let mut said = Vec::new();
    if let Some((name, text)) = &layers.file {
        table = from_file(name, text)?;
        for key in keys::KEYS.iter().filter(|key| get(&table, key.name).is_some()) {
            origins.insert(key.name.to_string(), Origin::File);
        }
    }
    for (variable, value) in &layers.environment {
        if let Some(key) = key_of_variable(variable)? {
            set(&mut table, key, value, variable)?;
            said.push(Said { key: key.name, at: variable, text: value });
            origins.insert(key.name.to_string(), Origin::Environment);
        }
    }
    for (name, value) in &layers.flags {
        let key = known(name)?;
        set(&mut table, key, value, name)?;
        said.push(Said { key: key.name, at: name, text: value });
        origins.insert(key.name.to_string(), Origin::Flag);
    }
    let config: Config = table.try_into().map_err(|error| blame(&said, &error))?;
    config.check()?;
    Ok(Loaded { config, origins })
}

/// One value of the environment or of a flag.
struct Said<'a> {
    key: &'static str,
    /// The variable or the flag.
    at: &'a str,
    text: &'a str,
}

/// The complaint with the word that it is about. The file was read alone before, so one of these is at fault.
fn blame(said: &[Said], error: &toml::de::Error) -> ConfigError {
    // serde tells the path of what it did not like in its last line only: "in `listen.http`".
    let full = error.to_string();
    let path = full.lines().rev().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`')).unwrap_or("");
    let is_below =
        |said: &&Said| said.key.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let suspects = || said.iter().rev().filter(is_below);
    let culprit = suspects().find(|said| error.message().contains(said.text)).or_else(|| suspects().next());
    let why = plain(error.message());
    match culprit {
        Some(Said { at, text, .. }) => {
            ConfigError::Value { at: at.to_string(), shown: String::new(), why: format!("{text:?} is refused: {why}") }
        }
        None => ConfigError::Value { at: "the environment or a flag".into(), shown: String::new(), why },
    }
}

/// serde's words without those of Rust.
fn plain(message: &str) -> String {
    let line = message.lines().next().unwrap_or("").replace("unknown variant", "unknown value");
    let Some((found, wanted)) = line.split_once("expected ") else { return line };
    let wanted = match wanted {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "f32" | "f64" => "a number",
        enumeration if enumeration.starts_with("internally tagged enum ") => "a section such as { mode = \"group\" }",
        section if section.starts_with("struct ") => "a section",
        other => other,
    };
    format!("{found}expected {wanted}")
}

/// Known keys and their effective values, as the operator sees them.
pub fn effective(loaded: &Loaded) -> Vec<(&'static keys::Key, String, Origin)> {
    let table = toml::Table::try_from(&loaded.config).unwrap_or_default();
    let value = |key: &keys::Key| get(&table, key.name).map_or(key.default.to_string(), shown);
    let origin = |key: &keys::Key| loaded.origins.get(key.name).copied().unwrap_or(Origin::Default);
    keys::KEYS.iter().map(|key| (key, value(key), origin(key))).collect()
}

fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn from_file(name: &str, text: &str) -> Result<toml::Table, ConfigError> {
    let table: toml::Table = toml::from_str(text).map_err(|error| at_line(name, text, &error))?;
    if let Some(later) = keys::LATER.iter().find(|later| get(&table, later).is_some()) {
        return Err(ConfigError::NotThereYet { key: later.to_string() });
    }
    // Read whole once more, so that serde's complaints carry the place in the file.
    toml::from_str::<Config>(text).map_err(|error| at_line(name, text, &error))?;
    Ok(table)
}

/// The complaint with its line, a caret and, for an unknown key, the nearest known one.
fn at_line(name: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let span = error.span().unwrap_or(0..0);
    let start = span.start.min(text.len());
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_number = text[..start].matches('\n').count() + 1;
    let line = text[line_start..].lines().next().unwrap_or("");
    let column = text[line_start..start].chars().count();
    let width =
        text.get(start..span.end.min(line_start + line.len())).map_or(1, |marked| marked.chars().count().max(1));
    let gutter = " ".repeat(line_number.to_string().len());
    let caret = format!("{}{}", " ".repeat(column), "^".repeat(width));
    let shown = format!("{gutter} |\n{line_number} | {line}\n{gutter} | {caret}");
    let at = format!("{name}, line {line_number}");
    let message = plain(error.message());
    match message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        Some(field) => {
            let section = section_at(text, start);
            let key = if section.is_empty() { field.to_string() } else { format!("{section}.{field}") };
            let nearest = keys::nearest(&key).map(str::to_string);
            ConfigError::UnknownKey { key, at, shown, nearest }
        }
        None => ConfigError::Value { at, shown, why: message },
    }
}

/// The `[section]` that a place in the file belongs to.
fn section_at(text: &str, place: usize) -> String {
    let header = |line: &str| Some(line.trim().strip_prefix('[')?.split(']').next()?.trim().to_string());
    // A fault inside a header line names the section itself.
    let before = &text[..place];
    let whole_lines = before.rfind('\n').map_or("", |newline| &before[..newline]);
    whole_lines.lines().filter_map(header).next_back().unwrap_or_default()
}

fn key_of_variable(variable: &str) -> Result<Option<&'static keys::Key>, ConfigError> {
    if let Some(key) = keys::KEYS.iter().find(|key| key.variable() == *variable) {
        return Ok(Some(key));
    }
    let sections = ["NODE", "LISTEN", "JOIN", "GOSSIP", "HINTS", "STORAGE", "ACTORS", "LOG"];
    // Other programs of the project have variables of their own; only a section's name makes it ours.
    let ours = sections.iter().any(|section| variable.starts_with(&format!("KULA_{section}_")));
    if !ours {
        return Ok(None);
    }
    let dotted = variable.trim_start_matches("KULA_").to_ascii_lowercase().replacen('_', ".", 1);
    let nearest = keys::nearest(&dotted).and_then(|name| keys::KEYS.iter().find(|key| key.name == name));
    Err(ConfigError::UnknownKey {
        key: variable.to_string(),
        at: "the environment".into(),
        shown: String::new(),
        nearest: nearest.map(keys::Key::variable),
    })
}

fn known(name: &str) -> Result<&'static keys::Key, ConfigError> {
    if let Some(key) = keys::KEYS.iter().find(|key| key.name == name) {
        return Ok(key);
    }
    let later = |later: &&&str| name == **later || name.starts_with(&format!("{later}."));
    if let Some(later) = keys::LATER.iter().find(later) {
        return Err(ConfigError::NotThereYet { key: later.to_string() });
    }
    Err(ConfigError::UnknownKey {
        key: name.to_string(),
        at: "a flag".into(),
        shown: String::new(),
        nearest: keys::nearest(name).map(str::to_string),
    })
}

fn get<'a>(table: &'a toml::Table, name: &str) -> Option<&'a toml::Value> {
    match name.split_once('.') {
        None => table.get(name),
        Some((section, rest)) => get(table.get(section)?.as_table()?, rest),
    }
}

fn set(table: &mut toml::Table, key: &keys::Key, text: &str, at: &str) -> Result<(), ConfigError> {
    let refuse = |what: &str| ConfigError::Value {
        at: at.to_string(),
        shown: String::new(),
        why: format!("{text:?} is not {what}"),
    };
    let value = match key.kind {
        keys::Kind::Text => toml::Value::String(text.to_string()),
        keys::Kind::Boolean => toml::Value::Boolean(text.parse().map_err(|_| refuse("true or false"))?),
        keys::Kind::List => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            toml::Value::Array(items.map(|item| toml::Value::String(item.to_string())).collect())
        }
        keys::Kind::Number => match text.parse::<i64>() {
            Ok(whole) => toml::Value::Integer(whole),
            Err(_) => toml::Value::Float(text.parse().map_err(|_| refuse("a number"))?),
        },
    };
    put(table, key.name, value);
    Ok(())
}

fn put(table: &mut toml::Table, name: &str, value: toml::Value) {
    match name.split_once('.') {
        None => {
            table.insert(name.to_string(), value);
        }
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if !inner.is_table() {
                *inner = toml::Value::Table(toml::Table::new());
            }
            if let Some(inner) = inner.as_table_mut() {
                put(inner, rest, value);
            }
        }
    }
}
