//! How failures and tables look.

use crate::{
    cli::{Colour, Global, Output},
    client::Failure,
};
use serde_json::{Value, json};
use std::io::IsTerminal;

/// A failure on standard error: what, the numbers, what next.
pub fn failure(failure: &Failure, global: &Global) {
    if global.output == Output::Json {
        let object = match failure {
            Failure::Problem(problem) => problem.clone(),
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
            if problem["applied"] == "unknown" {
                eprintln!("  the write may or may not have happened");
            }
            eprintln!("  more: kula explain {}", text("code"));
        }
        Failure::Unreachable { at, .. } => {
            eprintln!("{red}error{plain}: {failure}");
            eprintln!("  next: is a node running there? `kula node` starts one; --at names another than {at}");
        }
        other => eprintln!("{red}error{plain}: {other}"),
    }
}

/// The numbers of a problem, in one breath.
fn numbers(problem: &Value) -> String {
    let known = ["need", "alive", "acked", "limit", "found", "depth", "cap"];
    let pairs: Vec<String> =
        known.iter().filter_map(|key| problem[*key].as_u64().map(|number| format!("{key} {number}"))).collect();
    if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(", ")) }
}

/// Whether standard error takes colour.
pub fn colour(global: &Global) -> bool {
    match global.color {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_read_as_people_write_them() {
        assert_eq!(
            [0, 1023, 1024, 190_840_832, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "182 MiB", "16383 PiB"]
        );
        assert_eq!([7, 1_100, 61_000_000].map(micros), ["7 µs", "1.1 ms", "61.0 s"]);
    }
}
