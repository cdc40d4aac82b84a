//! The end of a node's log: for people who ask, and the line that says why a start failed.

use super::limits::{LOG_LINE_CHARS, LOG_TAIL_BYTES};
use serde_json::Value;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// The lines from `from` on, of at most the last few mebibytes.
pub fn tail(file: &Path, from: u64) -> io::Result<Vec<String>> {
    let mut file = File::options().read(true).open(file)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(LOG_TAIL_BYTES).max(from.min(length));
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // A line that began before what was read is not whole.
    let whole = if start > from { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
    Ok(whole.lines().map(str::to_string).collect())
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

/// What a line is about, if it says so.
pub fn event(line: &str) -> Option<String> {
    let line = serde_json::from_str::<Value>(line).ok()?;
    Some(line.get("event")?.as_str()?.to_string())
}

/// A JSON line as a terminal shows it: the time of day first. Any other line as it is.
pub fn for_people(line: &str) -> String {
    let time = serde_json::from_str::<Value>(line).ok().and_then(|line| {
        let stamp = line.get("ts")?.as_str()?.trim_end_matches('Z').to_string();
        stamp.split_once('T').map(|(_, time)| format!("{} ", time.get(..12).unwrap_or(time)))
    });
    time.unwrap_or_default() + &readable(line)
}

/// A JSON line without its time and node; any other line as it is.
fn readable(line: &str) -> String {
    let Ok(Value::Object(line)) = serde_json::from_str::<Value>(line) else { return line.trim().to_string() };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let head = ["level", "actor", "msg"].iter().filter_map(|key| line.get(*key).map(text));
    // A mailbox line says everything in its message; its keys are for machines.
    let says_all = line.get("event").is_some_and(|event| event == "mailbox");
    let rest = line
        .iter()
        .filter(|(key, _)| !says_all && !["ts", "level", "node", "actor", "event", "msg"].contains(&key.as_str()))
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

    #[test]
    fn a_line_for_people_has_its_time_and_no_key_twice() {
        let mailbox = r#"{"ts":"2026-11-21T16:18:15.098533Z","level":"INFO","node":"n1","actor":"replica/0","event":"mailbox","msg":"mailbox 0/1024","depth":0}"#;
        let other = r#"{"ts":"2026-11-21T16:18:15.098533Z","level":"INFO","actor":"ring","event":"ring_changed","msg":"ring changed","version":1}"#;
        assert_eq!(for_people(mailbox), "16:18:15.098 INFO replica/0 mailbox 0/1024");
        assert_eq!(for_people(other), "16:18:15.098 INFO ring ring changed version=1");
        assert_eq!(for_people("error K0603: taken"), "error K0603: taken");
        assert_eq!((event(mailbox).as_deref(), event("x")), (Some("mailbox"), None));
    }

    #[allow(clippy::disallowed_methods, reason = "a test's own file")]
    #[test]
    fn a_tail_begins_where_asked() {
        let file = std::env::temp_dir().join(format!("kula-tail-{}", std::process::id()));
        std::fs::write(&file, "one\ntwo\nthree\n").unwrap();
        let read = |from| tail(&file, from).unwrap().join(" ");
        assert_eq!(["one two three", "two three", ""], [read(0), read(4), read(99)]);
        assert_eq!(length(&file), 14);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(length(&file), 0);
        assert!(tail(&file, 0).is_err());
    }
}
