//! `cargo xtask promises`: what Kula promises, the tests that prove it, and the last figures, as one page made from the code.
//!
//! The sentences stand in `promises.toml`, the tests say themselves what they prove (`marks`), the chores record what they
//! reached (`figures`). Tidy makes the page again in memory: a test that was renamed cannot leave a stale page behind.

mod marks;
mod page;

use crate::{
    figures::{self, Figures},
    tidy::{self, Fault, Source},
};
use anyhow::Context;
use marks::Mark;
use serde::Deserialize;
use std::path::Path;

const PAGE: &str = "docs/promises.md";
const LIST: &str = include_str!("promises.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    promise: Vec<Promise>,
    /// What is promised once it is there.
    later: Vec<Later>,
    bug: Vec<Bug>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Promise {
    number: String,
    title: String,
    sentence: String,
    /// Names of records whose figures say how far it was tried.
    #[serde(default)]
    figures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Later {
    number: String,
    what: String,
}

/// A bug that another system had.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bug {
    number: String,
    what: String,
}

fn list() -> anyhow::Result<List> {
    toml::from_str(LIST).context("xtask/src/promises/promises.toml")
}

/// Folds the figures of the chores that ran here into the committed ones, and writes the page.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let figures = figures::fold(root)?;
    let (marks, faults) = marks::of(&tidy::sources_below(root)?);
    for fault in &faults {
        println!("{fault}");
    }
    let page = page::text(&list()?, &marks, &figures);
    figures::write(&root.join(PAGE), &page)?;
    println!("{PAGE}: {} tests and mutants of {} marks", distinct(&marks), marks.len());
    Ok(())
}

fn distinct(marks: &[Mark]) -> usize {
    let mut names: Vec<_> = marks.iter().map(|mark| (&mark.file, &mark.name)).collect();
    names.sort();
    names.dedup();
    names.len()
}

/// The page agrees with the code, and no promise is listed that no test proves.
pub fn check(root: &Path, sources: &[Source], faults: &mut Vec<Fault>) -> anyhow::Result<()> {
    let (marks, wrong) = marks::of(sources);
    faults.extend(wrong);
    let page = sources.iter().find(|source| source.name == PAGE).map_or("", |source| source.text.as_str());
    disagreements(&list()?, &marks, &figures::committed(root)?, page, faults);
    Ok(())
}

fn disagreements(list: &List, marks: &[Mark], figures: &Figures, page: &str, faults: &mut Vec<Fault>) {
    let mut fault = |file: &str, line: usize, what: String| faults.push(Fault { file: file.into(), line, what });
    for promise in &list.promise {
        if !marks.iter().any(|mark| mark.number == promise.number && !mark.is_mutant) {
            fault(PAGE, 0, format!("{} is listed and no test is marked with it", promise.number));
        }
    }
    let is_known = |number: &str| {
        list.promise.iter().any(|promise| promise.number == number) || list.bug.iter().any(|bug| bug.number == number)
    };
    for mark in marks.iter().filter(|mark| !is_known(&mark.number)) {
        fault(&mark.file, mark.line, format!("{} is in no list: xtask/src/promises/promises.toml", mark.number));
    }
    if page::text(list, marks, figures) != page {
        fault(PAGE, 0, "does not say what the code says: cargo xtask promises writes it".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> List {
        let text = "
            bug = []
            later = []
            [[promise]]
            number = 'P1'
            title = 'Kept'
            sentence = 'It is kept.'
        ";
        toml::from_str(text).unwrap()
    }

    fn marks(test: &str) -> Vec<Mark> {
        let text = format!("// Promise: P1\n#[test]\nfn {test}() {{}}\n");
        marks::of(&[Source { name: "crates/x/src/lib.rs".into(), text }]).0
    }

    fn faults(marks: &[Mark], page: &str) -> Vec<String> {
        let mut faults = Vec::new();
        disagreements(&list(), marks, &Figures::default(), page, &mut faults);
        faults.into_iter().map(|fault| fault.what).collect()
    }

    #[test]
    fn a_renamed_test_makes_the_page_stale() {
        let page = page::text(&list(), &marks("it_is_kept"), &Figures::default());
        assert_eq!(faults(&marks("it_is_kept"), &page), [""; 0]);
        assert_eq!(faults(&marks("it_is_kept_well"), &page).len(), 1);
    }

    #[test]
    fn a_promise_without_a_test_and_a_mark_without_a_promise_are_faults() {
        let page = page::text(&list(), &[], &Figures::default());
        assert_eq!(faults(&[], &page), ["P1 is listed and no test is marked with it"]);
        let mut marks = marks("it_is_kept");
        marks.push(Mark { number: "P99".into(), ..marks[0].clone() });
        let page = page::text(&list(), &marks, &Figures::default());
        assert!(faults(&marks, &page)[0].starts_with("P99 is in no list"));
    }
}
