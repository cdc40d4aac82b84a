//! How failures and tables look.

use crate::{
    cli::{Colour, Global, Output},
    client::Failure,
    commands::next_of_scenario,
};
use kula_operator::codes::SCENARIO;
use serde_json::{Value, json};
use std::{fmt::Display, io::IsTerminal};

/// A failure on standard error: what, the numbers, what next.
pub fn failure(failure: &Failure, global: &Global) {
    if global.output == Output::Json {
        let object = match failure {
            Failure::Problem(problem) => problem.clone(),
            Failure::Cluster(error) => {
                json!({ "title": error.to_string(), "code": error.code(), "detail": error.why(), "hint": error.next() })
            }
            Failure::Transfer(error) => {
                json!({ "title": error.to_string(), "code": error.code(), "detail": error.why(), "hint": error.next() })
            }
            Failure::Scenario(error) => json!({
                "title": error.to_string(), "code": SCENARIO.code, "hint": next_of_scenario(error)
            }),
            other => json!({ "title": other.to_string() }),
        };
        eprintln!("{object}");
        return;
    }
    let (red, plain) = if colour(global) { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
    match failure {
        Failure::Problem(problem) => {
            let text = |key: &str| problem[key].as_str().unwrap_or_default().to_string();
            eprintln!("{red}error {}{plain}: {}{}", text("code"), text("title"), numbers(problem));
            for (label, key) in [("why", "detail"), ("next", "hint")] {
                if !text(key).is_empty() {
                    eprintln!("  {label}: {}", text(key));
                }
            }
            for replica in replicas(problem) {
                eprintln!("  {replica}");
            }
            if problem["applied"] == "unknown" {
                eprintln!("  the write may or may not have happened");
            }
            eprintln!("  more: kula explain {}", text("code"));
        }
        Failure::Unreachable { at, .. } => {
            eprintln!("{red}error{plain}: {failure}");
            eprintln!("  next: is a node running there? `kula node` starts one; --at names another than {at}");
        }
        Failure::Cluster(error) => told((red, plain), error, error.code(), error.why(), &error.next()),
        Failure::Transfer(error) => told((red, plain), error, error.code(), error.why().as_deref(), &error.next()),
        Failure::Scenario(error) => {
            told((red, plain), error, Some(SCENARIO.code), None, &next_of_scenario(error));
        }
        Failure::Strange { .. } | Failure::Usage(_) | Failure::Local(_) => eprintln!("{red}error{plain}: {failure}"),
    }
}

/// A failure of this command's own: what, why, what next, and the page behind it.
fn told(colour: (&str, &str), what: &impl Display, code: Option<&str>, why: Option<&str>, next: &str) {
    let named = code.map(|code| format!(" {code}")).unwrap_or_default();
    eprintln!("{}error{named}{}: {what}", colour.0, colour.1);
    if let Some(why) = why {
        eprintln!("  why: {why}");
    }
    eprintln!("  next: {next}");
    if let Some(code) = code {
        eprintln!("  more: kula explain {code}");
    }
}

/// What each replica did, where a problem says it: `n2: no answer yet, 5000 ms`.
fn replicas(problem: &Value) -> Vec<String> {
    let line = |replica: &Value| {
        let (name, outcome) = (replica["name"].as_str()?, replica["outcome"].as_str()?);
        let wait = replica["wait_ms"].as_u64().filter(|&wait| wait > 0).map(|wait| format!(", {wait} ms"));
        Some(format!("{name}: {outcome}{}", wait.unwrap_or_default()))
    };
    problem["replicas"].as_array().into_iter().flatten().filter_map(line).collect()
}

/// The numbers of a problem, in one breath.
fn numbers(problem: &Value) -> String {
    let known = ["need", "alive", "acked", "limit", "found", "depth", "cap"];
    let pairs: Vec<String> =
        known.iter().filter_map(|key| problem[*key].as_u64().map(|number| format!("{key} {number}"))).collect();
    if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(", ")) }
}

/// Whether standard error takes colour.
fn colour(global: &Global) -> bool {
    wants_colour(global, std::io::stderr().is_terminal())
}

/// Whether standard output takes colour.
pub fn colour_of_stdout(global: &Global) -> bool {
    wants_colour(global, std::io::stdout().is_terminal())
}

fn wants_colour(global: &Global, is_terminal: bool) -> bool {
    match global.color {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none(),
    }
}

/// `text` in a style of the terminal's (the numbers between `ESC[` and `m`), where colour is wanted.
pub fn painted(text: &str, style: &str, colour: bool) -> String {
    if colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_string() }
}

/// Characters of a line of standard output; what is not a terminal has room.
pub fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map(|size| usize::from(size.ws_col)).ok().filter(|&columns| columns > 0).unwrap_or(120)
}

/// A plain table: headers, rows, two spaces between columns, no lines.
pub fn table(headers: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(headers.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Bytes as people read them: 182 MiB.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut scaled = count;
    let mut unit = 0;
    while scaled >= 1024 * 1024 && unit + 1 < UNITS.len() {
        scaled /= 1024;
        unit += 1;
    }
    let tenths = scaled * 10 / 1024;
    if tenths >= 100 {
        format!("{} {}", tenths / 10, UNITS[unit])
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// Microseconds as people read them.
pub fn micros(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} µs"),
        1_000..1_000_000 => format!("{}.{} ms", count / 1_000, count % 1_000 / 100),
        _ => format!("{}.{} s", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}

/// A count as people read it: 1.2k.
pub fn count(number: u64) -> String {
    const UNITS: [&str; 5] = ["k", "M", "G", "T", "P"];
    if number < 1000 {
        return number.to_string();
    }
    let mut scaled = number;
    let mut unit = 0;
    while scaled >= 1_000_000 && unit + 1 < UNITS.len() {
        scaled /= 1000;
        unit += 1;
    }
    if scaled >= 10_000 {
        format!("{}{}", scaled / 1000, UNITS[unit])
    } else {
        format!("{}.{}{}", scaled / 1000, scaled % 1000 / 100, UNITS[unit])
    }
}

/// A span of milliseconds in its largest whole unit, with `between` before the unit: 14 s, 3min.
pub fn span(millis: u64, between: &str) -> String {
    let seconds = millis / 1000;
    let (number, unit) = match seconds {
        0 => (millis, "ms"),
        1..120 => (seconds, "s"),
        120..7_200 => (seconds / 60, "min"),
        7_200..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{number}{between}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_each_replica_did() {
        let problem = json!({ "replicas": [
            { "name": "n1", "id": "x", "outcome": "applied", "wait_ms": 0 },
            { "name": "n2", "id": "y", "outcome": "no answer yet", "wait_ms": 5000 },
            "?",
        ]});
        assert_eq!(replicas(&problem), ["n1: applied", "n2: no answer yet, 5000 ms"]);
        assert!(replicas(&json!({})).is_empty());
    }

    #[test]
    fn sizes_and_spans_read_as_people_write_them() {
        assert_eq!(
            [0, 1023, 1024, 190_840_832, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "182 MiB", "16383 PiB"]
        );
        assert_eq!([7, 1_100, 61_000_000].map(micros), ["7 µs", "1.1 ms", "61.0 s"]);
        assert_eq!([7, 999, 1_200, 12_345, 999_999, 1_000_000].map(count), ["7", "999", "1.2k", "12k", "999k", "1.0M"]);
        let spans = [0, 14_200, 119_999, 150_000, 7_200_000, 172_800_000].map(|millis| span(millis, " "));
        assert_eq!(spans, ["0 ms", "14 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
