//! The end of a node's log: for people who ask, and the line that says why a start failed.

use super::limits::{LOG_LINE_CHARS, LOG_TAIL_BYTES};
use serde_json::Value;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// The last `lines` lines from `from` on, of at most the last few mebibytes.
pub fn tail(file: &Path, from: u64, lines: usize) -> io::Result<Vec<String>> {
    let mut file = File::options().read(true).open(file)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(LOG_TAIL_BYTES).max(from.min(length));
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // A line that began before what was read is not whole.
    let whole = if start > from { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
    let all: Vec<&str> = whole.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(|line| line.to_string()).collect())
}

/// How long the log is now.
pub fn length(file: &Path) -> u64 {
    File::options().read(true).open(file).and_then(|file| file.metadata()).map_or(0, |metadata| metadata.len())
}

/// The line that says best why a node ended: its last complaint, else its last line.
pub fn verdict(lines: &[String]) -> Option<String> {
    complaint(lines).or_else(|| lines.iter().rev().find(|line| !line.trim().is_empty()).map(|line| short(line)))
}

/// Its last error, else its last warning.
pub fn complaint(lines: &[String]) -> Option<String> {
    let last = |wanted: fn(&str) -> bool| lines.iter().rev().find(|line| wanted(line));
    let found = last(|line| is_level(line, &["CRIT", "ERROR"]) || line.starts_with("error "))
        .or_else(|| last(|line| is_level(line, &["WARN"])))?;
    Some(short(found))
}

fn short(line: &str) -> String {
    let mut text = readable(line);
    if let Some((end, _)) = text.char_indices().nth(LOG_LINE_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn is_level(line: &str, levels: &[&str]) -> bool {
    levels.iter().any(|level| line.contains(&format!("\"level\":\"{level}\"")))
}

/// A JSON line as a person reads it; any other line as it is.
fn readable(line: &str) -> String {
    let Ok(Value::Object(line)) = serde_json::from_str::<Value>(line) else { return line.trim().to_string() };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let head = ["level", "actor", "msg"].iter().filter_map(|key| line.get(*key).map(text));
    let rest = line
        .iter()
        .filter(|(key, _)| !["ts", "level", "node", "actor", "event", "msg"].contains(&key.as_str()))
        .map(|(key, value)| format!("{key}={}", text(value)));
    head.chain(rest).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_speaks_before_later_lines() {
        let told = |lines: &[&str]| verdict(&lines.iter().map(|line| line.to_string()).collect::<Vec<_>>());
        let error = r#"{"ts":"x","level":"ERROR","node":"n2","actor":"ring","event":"lost","msg":"a ring is missing","file":"ring.state"}"#;
        let warning = r#"{"ts":"x","level":"WARN","node":"n2","actor":"gossip","msg":"nobody answers"}"#;
        let info = r#"{"level":"INFO","msg":"stopping"}"#;
        assert_eq!(told(&[warning, error, info]).unwrap(), "ERROR ring a ring is missing file=ring.state");
        assert_eq!(told(&[warning, info]).unwrap(), "WARN gossip nobody answers");
        assert_eq!(told(&[info, "error K0603: taken", "  next: .."]).unwrap(), "error K0603: taken");
        assert_eq!(told(&[info, ""]).unwrap(), "INFO stopping");
        assert_eq!(told(&[]), None);
        assert_eq!(complaint(&[info.to_string()]), None, "a node that runs and is not ready need not have complained");
        assert!(told(&["x".repeat(5000).as_str()]).unwrap().chars().count() <= LOG_LINE_CHARS + 1);
    }

    #[allow(clippy::disallowed_methods, reason = "a test's own file")]
    #[test]
    fn a_tail_begins_where_asked() {
        let file = std::env::temp_dir().join(format!("kula-tail-{}", std::process::id()));
        std::fs::write(&file, "one\ntwo\nthree\n").unwrap();
        let read = |from, lines| tail(&file, from, lines).unwrap().join(" ");
        assert_eq!(["one two three", "two three", "three", ""], [read(0, 9), read(4, 9), read(0, 1), read(99, 9)]);
        assert_eq!(length(&file), 14);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(length(&file), 0);
        assert!(tail(&file, 0, 1).is_err());
    }
}
