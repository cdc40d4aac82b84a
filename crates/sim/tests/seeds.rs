//! A few seeds with every `cargo test`; many with `cargo xtask sim`.

use kula_sim::{
    Plan,
    mailroom::Scheduling,
    plan::{Fault, FaultKind, Operation, Wish},
    run,
    shrink::shrink,
    suite::canary,
    time::SECOND,
};
use kula_types::Consistency;

/// The first seed of three nodes, without faults.
fn three() -> Plan {
    let mut seeds = (1..).map(Plan::of).filter(|plan| plan.hosts.len() == 3);
    let Some(plan) = seeds.next() else { unreachable!("most seeds have three nodes") };
    Plan { faults: Vec::new(), mailbox_max: None, scheduling: Scheduling::Even, ..plan }
}

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

#[test]
fn full_mailboxes_and_starved_rooms_are_answered_and_lose_nothing() {
    let plan = Plan { mailbox_max: Some(1), scheduling: Scheduling::Starving, ..three() };
    let report = run(&plan, false);
    assert!(report.violations.is_empty(), "{}", report.violations[0]);
    for what in ["full mailboxes", "replica: Overloaded", "writes acknowledged"] {
        assert!(report.trace.counts().contains_key(what), "{what} was not met");
    }
}

/// It was owed for ever: its target does not know the table any more, and refused it each time.
#[test]
fn a_hint_of_a_table_that_was_dropped_drains() {
    let wishes = [
        Wish::CreateTable { causal: false },
        Wish::Made { name: 0, puts: true },
        Wish::Get { key: 0 },
        Wish::Get { key: 0 },
        Wish::Get { key: 0 },
        Wish::Get { key: 0 },
        Wish::Get { key: 0 },
        // The eighth operation, so that the name is that of the first.
        Wish::DropTable,
    ];
    let operation = |(at, wish): (u64, Wish)| {
        let (level, within, bytes) = (Consistency::Quorum, 5 * SECOND, 10);
        Operation { at: (5 + 5 * at) * SECOND, client: 0, machine: 0, wish, level, within, bytes }
    };
    let away = Fault { at: 8 * SECOND, lasts: 60 * SECOND, kind: FaultKind::Isolate { machine: 2 } };
    let operations = (0..).zip(wishes).map(operation).collect();
    let plan = Plan { lasts: 80 * SECOND, operations, faults: vec![away], ..three() };
    let report = run(&plan, false);
    assert!(report.violations.is_empty(), "{}", report.violations[0]);
    let counts = report.trace.counts();
    assert!(counts.contains_key("hints kept"), "{counts:?}");
    assert!(counts.contains_key("tables made") && counts.contains_key("hints delivered"), "{counts:?}");
}
