//! A few seeds of whole nodes; `cargo xtask sim --actors` runs many.

use kula_sim_actors::{Plan, plan::What, run};

// Promise: P1, P2, P3, P8, P12
#[test]
fn seeds_hold_and_one_seed_makes_one_history() {
    for seed in 1..=2 {
        let report = run(Plan::of(seed), false);
        assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
        assert!(report.counts["writes acknowledged"] > 10, "seed {seed} hardly did anything");
    }
    let (one, other) = (run(Plan::of(2), false), run(Plan::of(2), false));
    assert_eq!((one.hash, one.virtual_time), (other.hash, other.virtual_time));
    assert_ne!(one.hash, run(Plan::of(3), false).hash);
}

#[test]
fn what_is_planted_is_found() {
    let report = run(Plan { is_canary: true, ..Plan::of(1) }, false);
    assert!(report.violations[0].contains("was acknowledged at 4 owners"), "{:?}", report.violations);
}

#[test]
fn plans_bring_what_only_whole_nodes_have() {
    let plans: Vec<Plan> = (1..40).map(Plan::of).collect();
    let stops = |plan: &&Plan| plan.faults.iter().any(|fault| matches!(fault.what, What::Stop { .. }));
    assert!(plans.iter().filter(stops).count() > 10);
    assert!(plans.iter().any(|plan| plan.mailbox == 2) && plans.iter().any(|plan| plan.mailbox > 2));
}
