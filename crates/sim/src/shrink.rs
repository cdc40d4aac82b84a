//! The shrinker: leaves out operations and faults of a failing plan while it still fails, so that people read little.

use crate::{Plan, Report, run};

/// Tries at most so many runs: what is left then is small enough to read.
pub const TRIES_MAX: usize = 160;

/// A smaller plan that fails with the same kind of violation, and what it came to.
pub fn shrink(plan: &Plan, failed: &Report) -> (Plan, Report) {
    let kind = kind_of(failed);
    let mut keeps = vec![true; plan.size()];
    let mut best = (plan.clone(), run(plan, true));
    let mut piece = keeps.len().div_ceil(2);
    let mut tries = 0;
    while piece > 0 && tries < TRIES_MAX {
        let mut from = 0;
        let mut is_smaller = false;
        while from < keeps.len() && tries < TRIES_MAX {
            let to = (from + piece).min(keeps.len());
            if keeps[from..to].iter().any(|kept| *kept) {
                let mut fewer = keeps.clone();
                fewer[from..to].fill(false);
                tries += 1;
                let smaller = plan.without(|index| fewer[index]);
                let report = run(&smaller, true);
                if !report.violations.is_empty() && kind_of(&report) == kind {
                    (keeps, best, is_smaller) = (fewer, (smaller, report), true);
                }
            }
            from = to;
        }
        // As long as large pieces can go, larger than one, they are tried again before smaller ones.
        if !is_smaller || piece == 1 {
            piece /= 2;
        }
    }
    best
}

/// A violation without its numbers and names: another one of the same kind will do.
fn kind_of(report: &Report) -> String {
    let first = report.violations.first().map(String::as_str).unwrap_or_default();
    let line = first.lines().next().unwrap_or_default();
    line.split_whitespace()
        .filter(|word| word.chars().all(|letter| letter.is_ascii_alphabetic()))
        .take(6)
        .collect::<Vec<_>>()
        .join(" ")
}
