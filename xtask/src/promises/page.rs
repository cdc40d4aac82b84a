//! The page as it is committed.

use super::{List, Promise, marks::Mark};
use crate::figures::{Figures, Record};
use std::collections::BTreeMap;

const HEAD: &str = "# Promises, and what proves them

Made by `cargo xtask promises` from the marks in tests and from what the long chores last reached; do not edit it. A test says what it
proves by `// Promise: P1` above it. Numbers with `R` are bugs that other systems had (below). Planted mistakes are built into a
simulated cluster one at a time, and each must be found (`docs/mechanism/simulation.md`).
";

pub fn text(list: &List, marks: &[Mark], figures: &Figures) -> String {
    let mut page = HEAD.to_string();
    for promise in &list.promise {
        page.push_str(&section(promise, marks, figures));
    }
    page.push_str("\n## Not there yet\n\n");
    for later in &list.later {
        page.push_str(&format!("- {}: {}\n", later.number, later.what));
    }
    page.push_str("\n## Bugs that other systems had\n\nEach has a test, or a planted mistake that is found.\n");
    for bug in &list.bug {
        let (tests, mutants) = proofs(&bug.number, marks);
        if !(tests.is_empty() && mutants.is_empty()) {
            page.push_str(&format!("\n**{}** {}\n{}", bug.number, bug.what, proof_lines(&tests, &mutants)));
        }
    }
    page.push_str("\n## Last figures\n\nThe last run of each chore that was folded in, with the machine's cores.\n\n");
    page.push_str("| run | figures | command | commit | date | cores |\n|---|---|---|---|---|---|\n");
    for (name, record) in figures {
        let Record { command, commit, date, cores, .. } = record;
        page.push_str(&format!("| {name} | {} | `{command}` | {commit} | {date} | {cores} |\n", said(record)));
    }
    if figures.is_empty() {
        page.push_str("| none yet | | | | | |\n");
    }
    page
}

fn section(promise: &Promise, marks: &[Mark], figures: &Figures) -> String {
    let Promise { number, title, sentence, .. } = promise;
    let (tests, mutants) = proofs(number, marks);
    let mut section = format!("\n## {number}: {title}\n\n{sentence}\n\n{}", proof_lines(&tests, &mutants));
    for name in &promise.figures {
        if let Some(record) = figures.get(name) {
            section.push_str(&format!("- Last figures, {name}, {}: {}\n", record.date, said(record)));
        }
    }
    section
}

/// By file: the tests, and the planted mistakes, that carry this number.
type ByFile<'a> = BTreeMap<&'a str, Vec<&'a str>>;

fn proofs<'a>(number: &str, marks: &'a [Mark]) -> (ByFile<'a>, ByFile<'a>) {
    let (mut tests, mut mutants) = (ByFile::new(), ByFile::new());
    for mark in marks.iter().filter(|mark| mark.number == number) {
        let of = if mark.is_mutant { &mut mutants } else { &mut tests };
        let names = of.entry(mark.file.as_str()).or_default();
        if !names.contains(&mark.name.as_str()) {
            names.push(&mark.name);
        }
    }
    (tests, mutants)
}

fn proof_lines(tests: &ByFile, mutants: &ByFile) -> String {
    let mut lines = String::new();
    for (file, names) in tests {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        lines.push_str(&format!("- [{file}](../{file}): {}\n", names.join(", ")));
    }
    for (file, names) in mutants {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        lines.push_str(&format!("- planted, [{file}](../{file}): {}\n", names.join(", ")));
    }
    lines
}

fn said(record: &Record) -> String {
    let each = record.figures.iter().map(|(what, figure)| format!("{what} {figure}"));
    each.collect::<Vec<_>>().join(", ")
}
