//! Runs whole simulated nodes from seeds; `cargo xtask sim --actors` runs it built for speed.

use clap::Parser;
use kula_fault::Mutant;
use kula_sim::{
    suite::{Suite, hunts},
    time::SECOND,
};
use kula_sim_actors::{Plan, Report, plan::What, run};
use std::{
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Whole nodes with all their actors, in one thread each cluster, from seeds
#[derive(Parser)]
#[command(name = "cargo xtask sim --actors", bin_name = "cargo xtask sim --actors")]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 30)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// One seed: its story
    #[arg(long)]
    seed: Option<u64>,
    /// The bounded form that CI runs; nothing may be missed
    #[arg(long, conflicts_with = "seed")]
    ci: bool,
    /// Plant mistakes, and see which so many seeds find: many need level 1's faults
    #[arg(long, conflicts_with_all = ["seed", "ci"])]
    mutants: bool,
    /// Seeds at a time
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Seeds of a run in CI.
const CI_SEEDS: u64 = 120;
/// One seed in so many is run twice, and must make the same history.
const TWICE_ONE_IN: u64 = 10;
/// What a run must have met besides every kind of fault.
const SOMETIMES: [&str; 12] = [
    "fenced",
    "starts refused",
    "stopped in order",
    "operations",
    "writes acknowledged",
    "writes refused",
    "writes unknown",
    "reads answered",
    "reads failed",
    "pages",
    "tables made",
    "schema not changed",
];
/// Mistakes that few seeds of whole nodes must find.
const DEAD_MIN: usize = 15;
/// Letters of the first violation that are shown.
const FOUND_SHOWN: usize = 100;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        _ if arguments.mutants => mutants(&arguments),
        Some(seed) => {
            let report = run(Plan::of(seed), true);
            report.story.print();
            tell(&report);
            if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        None => many(&arguments),
    }
}

fn mutants(arguments: &Arguments) -> ExitCode {
    std::panic::set_hook(Box::new(|_| ()));
    let dead = AtomicUsize::new(0);
    let run_one = |mutant, seed| run(Plan { mutant: Some(mutant), ..Plan::of(seed) }, false).violations;
    hunts(Mutant::ALL, arguments.seeds, arguments.threads, run_one, |mutant, found| match found {
        Some((seed, found)) => {
            dead.fetch_add(1, Ordering::Relaxed);
            let found: String = found.chars().take(FOUND_SHOWN).collect();
            println!("{:<24} dies at seed {seed}: {found}", format!("{mutant:?}"));
        }
        None => println!("{:<24} lives", format!("{mutant:?}")),
    });
    let dead = dead.into_inner();
    println!("{dead} die; the rest is found by level 1");
    if dead >= DEAD_MIN { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn many(arguments: &Arguments) -> ExitCode {
    // A panic is a violation of its seed, and is told with it.
    std::panic::set_hook(Box::new(|_| ()));
    if run(Plan { is_canary: true, ..Plan::of(1) }, false).violations.is_empty() {
        println!("the canary lives: this simulator finds nothing");
        return ExitCode::FAILURE;
    }
    let seeds = if arguments.ci { CI_SEEDS } else { arguments.seeds };
    let (first, threads) = (arguments.first, arguments.threads);
    let suite = Suite { first, seeds, within: None, goal: None, twice_one_in: TWICE_ONE_IN, threads };
    let outcome = suite.run(|seed| run(Plan::of(seed), false).into());
    let wanted = What::NAMES.iter().chain(&SOMETIMES).copied();
    let never = if arguments.ci { outcome.lacks(wanted, |site| site.is_in_an_actor()) } else { Vec::new() };
    outcome.print(&What::NAMES, &never, "cargo xtask sim --actors");
    if outcome.is_good() && never.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(report: &Report) {
    println!("seed {}: {} s, hash {:016x}", report.seed, report.virtual_time / SECOND, report.hash);
    for violation in &report.violations {
        println!("violated: {violation}");
    }
}
