//! A few seeds with every `cargo test`; many with `cargo xtask sim`.

use kula_sim::{Plan, run, shrink::shrink, suite::canary};

// Promise: P1, P2, P3, P8, P14
#[test]
fn some_seeds_hold_every_promise() {
    for seed in 1..=6 {
        let report = run(&Plan::of(seed), false);
        assert!(report.violations.is_empty(), "cargo xtask sim --seed {seed}: {}", report.violations[0]);
        assert!(report.trace.counts().contains_key("writes acknowledged"), "seed {seed} does nothing");
    }
}

#[test]
fn one_seed_makes_one_history() {
    let story = || {
        let report = run(&Plan::of(7), true);
        (report.hash, report.events, report.trace.lines().to_vec())
    };
    assert!(story() == story());
}

#[test]
fn the_canary_is_found_out_and_made_short() {
    let failed = canary();
    assert!(!failed.violations.is_empty(), "a suite that finds nothing proves nothing");
    let plan = Plan { is_canary: true, ..Plan::of(failed.seed) };
    let (shrunk, report) = shrink(&plan, &failed);
    assert!(!report.violations.is_empty());
    assert_eq!((shrunk.operations.len(), shrunk.faults.len()), (1, 0), "one write is enough");
}
