//! The simulator's command line; `cargo xtask sim` runs it built for speed.

use clap::Parser;
use kula_fault::Mutant;
use kula_sim::{
    Plan, Report,
    plan::FaultKind,
    run,
    shrink::shrink,
    suite::{Goal, Suite, canary, hunts, never_met},
    time::SECOND,
};
use std::{
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Whole clusters in one thread each, from seeds
#[derive(Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// One seed: its story, made as short as it still fails
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: the whole story, nothing left out
    #[arg(long, requires = "seed")]
    whole: bool,
    /// The bounded form that CI runs: as many seeds as fit its time, and nothing may be missed
    #[arg(long, conflicts_with_all = ["seed", "minutes"])]
    ci: bool,
    /// End after so many minutes
    #[arg(long)]
    minutes: Option<u64>,
    /// Plant mistakes, and see that each is found
    #[arg(long, conflicts_with_all = ["seed", "ci", "minutes"])]
    mutants: bool,
    /// With --mutants: only those whose names hold this
    #[arg(long, requires = "mutants")]
    only: Option<String>,
    /// Seeds at a time
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// What CI gives the run where its machine is quiet.
const CI_WITHIN: Duration = Duration::from_secs(330);
/// What CI is to reach, and the time it may take for it: its machines are shared.
const CI_GOAL: Goal = Goal { seeds: 1_000, loaded_hours: 100 };
const CI_AT_MOST: Duration = Duration::from_secs(460);
/// One seed in so many is run twice, and must make the same history.
const TWICE_ONE_IN: u64 = 20;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.mutants {
        return mutants(&arguments);
    }
    match arguments.seed {
        Some(seed) => one(seed, arguments.whole),
        None => many(&arguments),
    }
}

fn many(arguments: &Arguments) -> ExitCode {
    // A panic is a violation of its seed, and is told with it.
    std::panic::set_hook(Box::new(|_| ()));
    if canary().violations.is_empty() {
        println!("the canary lives: this simulator finds nothing");
        return ExitCode::FAILURE;
    }
    let within =
        if arguments.ci { Some(CI_WITHIN) } else { arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes)) };
    let seeds = if within.is_some() { u64::MAX / 2 } else { arguments.seeds };
    let goal = arguments.ci.then_some((CI_GOAL, CI_AT_MOST));
    let (first, threads) = (arguments.first, arguments.threads);
    let suite = Suite { first, seeds, within, goal, twice_one_in: TWICE_ONE_IN, threads };
    let outcome = suite.run(|seed| run(&Plan::of(seed), false).into());
    let never = never_met(&outcome);
    outcome.print(&FaultKind::NAMES, &never, "cargo xtask sim");
    if goal.is_some_and(|(goal, _)| !goal.is_reached(outcome.seeds, outcome.loaded)) {
        // Not a failure: how fast a shared machine is says nothing of the code.
        println!(
            "\na slow machine: {} seeds and {} loaded hours were wanted within {} s",
            CI_GOAL.seeds,
            CI_GOAL.loaded_hours,
            CI_AT_MOST.as_secs()
        );
    }
    if outcome.is_good() && never.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Seeds that a planted mistake may live through.
const MUTANT_SEEDS: u64 = 120;
/// Letters of the first violation that are shown.
const FOUND_SHOWN: usize = 100;

fn mutants(arguments: &Arguments) -> ExitCode {
    if !kula_fault::IS_BUILT_IN {
        println!(
            "nothing can be planted in this build: `cargo xtask sim --mutants` makes one with the feature `mutants`"
        );
        return ExitCode::FAILURE;
    }
    std::panic::set_hook(Box::new(|_| ()));
    let wanted = |mutant: &Mutant| arguments.only.as_ref().is_none_or(|only| format!("{mutant:?}").contains(only));
    let mutants: Vec<Mutant> = Mutant::ALL.iter().copied().filter(wanted).collect();
    let living = AtomicUsize::new(0);
    let run_one = |mutant, seed| run(&Plan { mutant: Some(mutant), ..Plan::of(seed) }, false).violations;
    hunts(&mutants, MUTANT_SEEDS, arguments.threads, run_one, |mutant, found| match found {
        Some((seed, found)) => {
            let found: String = found.chars().take(FOUND_SHOWN).collect();
            println!("{:<24} dies at seed {seed}: {found}", format!("{mutant:?}"));
        }
        None => {
            living.fetch_add(1, Ordering::Relaxed);
            println!("{:<24} LIVES through {MUTANT_SEEDS} seeds", format!("{mutant:?}"));
        }
    });
    let living = living.into_inner();
    println!("{} of {} mutants died", mutants.len() - living, mutants.len());
    if living == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, whole: bool) -> ExitCode {
    let plan = Plan::of(seed);
    let report = run(&plan, true);
    if report.violations.is_empty() || whole {
        return tell(&plan, &report);
    }
    std::panic::set_hook(Box::new(|_| ()));
    let (plan, report) = shrink(&plan, &report);
    tell(&plan, &report)
}

fn tell(plan: &Plan, report: &Report) -> ExitCode {
    for line in report.trace.lines() {
        println!("{line}");
    }
    println!(
        "seed {}: {} nodes, {} operations, {} faults, {} s, {:?}",
        plan.seed,
        plan.hosts.len(),
        plan.operations.len(),
        plan.faults.len(),
        report.virtual_time / SECOND,
        report.trace
    );
    for violation in &report.violations {
        println!("violated: {violation}");
    }
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
