//! Runs whole simulated nodes from seeds; `cargo xtask sim --actors` runs it built for speed.

use clap::Parser;
use kula_clock::{Clock, SystemClock};
use kula_fault::{IS_BUILT_IN, Mutant, Site};
use kula_sim::time::SECOND;
use kula_sim_actors::{Plan, Report, plan::What, run};
use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
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
/// Violations printed of one seed.
const VIOLATIONS_MAX: usize = 4;

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
    let next = AtomicUsize::new(0);
    let lines = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                while let Some(mutant) = Mutant::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = (1..=arguments.seeds).find_map(|seed| {
                        let plan = Plan { mutant: Some(*mutant), ..Plan::of(seed) };
                        Some((seed, run(plan, false).violations.into_iter().next()?))
                    });
                    lines.lock().unwrap_or_else(PoisonError::into_inner).insert(*mutant, found);
                }
            });
        }
    });
    let mut dead = 0;
    for (mutant, found) in lines.into_inner().unwrap_or_else(PoisonError::into_inner) {
        dead += usize::from(found.is_some());
        match found {
            Some((seed, why)) => {
                let why: String = why.lines().next().unwrap_or_default().chars().take(100).collect();
                println!("{:<24} dies at seed {seed}: {why}", format!("{mutant:?}"));
            }
            None => println!("{:<24} lives", format!("{mutant:?}")),
        }
    }
    println!("{dead} die; the rest is found by level 1");
    if dead >= DEAD_MIN { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Outcome {
    seeds: u64,
    twice: u64,
    loaded: u64,
    virtual_time: u64,
    counts: BTreeMap<&'static str, u64>,
    fired: BTreeMap<&'static str, u64>,
    failed: Vec<Report>,
    apart: Vec<u64>,
}

fn many(arguments: &Arguments) -> ExitCode {
    // A panic is a violation of its seed, and is told with it.
    std::panic::set_hook(Box::new(|_| ()));
    if run(Plan { is_canary: true, ..Plan::of(1) }, false).violations.is_empty() {
        println!("the canary lives: this simulator finds nothing");
        return ExitCode::FAILURE;
    }
    let clock = SystemClock::new();
    let seeds = if arguments.ci { CI_SEEDS } else { arguments.seeds };
    let (next, outcome) = (AtomicU64::new(arguments.first), Mutex::new(Outcome::default()));
    thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= arguments.first + seeds {
                        return;
                    }
                    let report = run(Plan::of(seed), false);
                    let again = seed.is_multiple_of(TWICE_ONE_IN).then(|| run(Plan::of(seed), false));
                    outcome.lock().unwrap_or_else(PoisonError::into_inner).add(report, again);
                }
            });
        }
    });
    let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.failed.sort_by_key(|report| report.seed);
    outcome.print(clock.mono().0.as_secs_f64());
    let wanted = What::NAMES.iter().chain(&SOMETIMES).filter(|name| !outcome.counts.contains_key(*name)).copied();
    let panics = Site::ALL.iter().filter(|site| site.is_in_an_actor() && IS_BUILT_IN).map(|site| site.name());
    let never = wanted.chain(panics.filter(|site| !outcome.fired.contains_key(site)));
    let never: Vec<&str> = never.filter(|_| arguments.ci).collect();
    if !never.is_empty() {
        println!("\nnever met: {}", never.join(", "));
    }
    for seed in &outcome.apart {
        println!("\nseed {seed} made two different histories: something reads a clock, a die or an address");
    }
    for report in &outcome.failed {
        println!("\nseed {} fails: cargo xtask sim --actors --seed {}", report.seed, report.seed);
        report.violations.iter().take(VIOLATIONS_MAX).for_each(|violation| println!("  {violation}"));
    }
    let is_good = outcome.failed.is_empty() && outcome.apart.is_empty() && never.is_empty();
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Outcome {
    fn add(&mut self, report: Report, again: Option<Report>) {
        self.seeds += 1;
        self.loaded += report.loaded;
        self.virtual_time += report.virtual_time;
        for (what, times) in &report.counts {
            *self.counts.entry(what).or_default() += times;
        }
        for (site, times) in &report.fired {
            *self.fired.entry(site).or_default() += times;
        }
        if let Some(again) = again {
            self.twice += 1;
            self.virtual_time += again.virtual_time;
            if again.hash != report.hash {
                self.apart.push(report.seed);
            }
        }
        if !report.violations.is_empty() {
            self.failed.push(report);
        }
    }

    fn print(&self, real: f64) {
        #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
        let seconds = |micros: u64| micros as f64 / SECOND as f64;
        println!("seeds             {} of whole nodes ({} of them twice)", self.seeds, self.twice);
        println!(
            "loaded hours      {:.2} of {:.2} virtual ones",
            seconds(self.loaded) / 3_600.0,
            seconds(self.virtual_time) / 3_600.0
        );
        println!("virtual : real    {:.0} : 1, in {real:.0} s", seconds(self.virtual_time) / real.max(0.001));
        println!("met");
        for (what, times) in &self.counts {
            println!("  {what:<32} {times}");
        }
        println!("unkind");
        for (site, times) in &self.fired {
            println!("  {site:<32} {times}");
        }
    }
}

fn tell(report: &Report) {
    println!("seed {}: {} s, hash {:016x}", report.seed, report.virtual_time / SECOND, report.hash);
    for violation in &report.violations {
        println!("violated: {violation}");
    }
}
