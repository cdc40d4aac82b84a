//! Many seeds: what CI and a soak run, and what they must have met on the way.

use crate::{Plan, Report, plan::FaultKind, refused, run, time::SECOND};
use kula_clock::{Clock, SystemClock};
use kula_fault::{Mutant, Site};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// One seed in so many is run twice, and must make the same history.
const TWICE_ONE_IN: u64 = 20;

/// What a run of many seeds must have met besides every kind of fault.
const SOMETIMES: [&str; 27] = [
    "connections reset",
    "damaged logs refused",
    "damaged start files refused",
    "disks given up",
    "disks gone back",
    "full mailboxes",
    "keys unknown in the end",
    "declared down",
    "fenced",
    "flushes",
    "hedges",
    "hints delivered",
    "hints kept",
    "links changed",
    "pages",
    "reads answered",
    "reads failed",
    "repairs sent",
    "scans failed",
    "starts refused",
    "keyspaces altered",
    "tables dropped",
    "tables made",
    "writes tried again",
    "writes acknowledged",
    "writes refused",
    "writes unknown",
];

/// What to run.
pub struct Suite {
    pub first: u64,
    /// So many seeds, or fewer if the time is over.
    pub seeds: u64,
    pub within: Option<Duration>,
    /// What must be reached, and the time it may take: until then `within` does not end the run.
    pub goal: Option<(Goal, Duration)>,
    pub threads: usize,
}

/// A run of so many seeds must have met everything.
const COMPLETE_FROM: u64 = 1_000;

/// What one run is to reach.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    pub seeds: u64,
    pub loaded_hours: u64,
}

impl Goal {
    pub fn is_reached(&self, seeds: u64, loaded: u64) -> bool {
        seeds >= self.seeds && loaded >= self.loaded_hours * 3_600 * SECOND
    }
}

/// What it came to.
#[derive(Default)]
pub struct Outcome {
    pub seeds: u64,
    pub operations: u64,
    /// Virtual microseconds under load, and in all.
    pub loaded: u64,
    pub virtual_time: u64,
    pub real: Duration,
    pub twice: u64,
    pub counts: BTreeMap<&'static str, u64>,
    /// How often each site was unkind.
    pub fired: BTreeMap<&'static str, u64>,
    pub failed: Vec<(u64, Vec<String>)>,
    /// Two histories of one seed.
    pub apart: Vec<u64>,
}

impl Suite {
    pub fn run(&self) -> Outcome {
        let clock = SystemClock::new();
        let (next, stop, outcome) =
            (AtomicU64::new(self.first), AtomicBool::new(false), Mutex::new(Outcome::default()));
        thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let (seeds, loaded) = {
                            let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                            (outcome.seeds, outcome.loaded)
                        };
                        let is_late = self.is_late(clock.mono().0, seeds, loaded);
                        if seed >= self.first + self.seeds || is_late {
                            return;
                        }
                        let plan = Plan::of(seed);
                        let report = run(&plan, false);
                        let again = seed.is_multiple_of(TWICE_ONE_IN).then(|| run(&plan, false));
                        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                        outcome.add(report, again);
                        // A few failures say as much as many.
                        stop.fetch_or(outcome.failed.len() >= 5, Ordering::Relaxed);
                    }
                });
            }
        });
        let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.real = clock.mono().0;
        outcome.failed.sort();
        outcome
    }

    fn is_late(&self, passed: Duration, seeds: u64, loaded: u64) -> bool {
        let is_over = self.within.is_some_and(|within| passed >= within);
        is_over && self.goal.is_none_or(|(goal, at_most)| goal.is_reached(seeds, loaded) || passed >= at_most)
    }

    /// What the run lacks, if it was long enough to meet everything; empty: nothing.
    pub fn never_met(&self, outcome: &Outcome) -> Vec<&'static str> {
        let seldom: &[&'static str] = if outcome.seeds >= refused::SELDOM_FROM { &refused::SELDOM } else { &[] };
        let wanted = FaultKind::NAMES.iter().chain(&SOMETIMES).chain(&refused::ALL).chain(seldom);
        let missed = wanted.filter(|name| !outcome.counts.contains_key(*name)).copied();
        let sites = Site::ALL.iter().filter(|site| !site.is_in_an_actor()).map(|site| site.name());
        let kind = sites.filter(|site| kula_fault::IS_BUILT_IN && !outcome.fired.contains_key(site));
        if outcome.seeds >= COMPLETE_FROM { missed.chain(kind).collect() } else { Vec::new() }
    }
}

/// The suite itself is tested: a plan whose clients want more acks than there are owners must be found out.
pub fn canary() -> Report {
    let plan = Plan { is_canary: true, ..Plan::of(1) };
    run(&plan, false)
}

/// Hunts mistakes one by one, on so many threads; tells of each as soon as it is over.
pub fn hunts(mutants: &[Mutant], seeds: u64, threads: usize, tell: impl Fn(Mutant, Found) + Sync) {
    let next = AtomicUsize::new(0);
    let (next, tell) = (&next, &tell);
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(move || {
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    tell(*mutant, hunt(*mutant, seeds));
                }
            });
        }
    });
}

/// The seed that found a planted mistake, and how; `None`: it lived through all of them.
pub type Found = Option<(u64, String)>;

fn hunt(mutant: Mutant, seeds: u64) -> Found {
    (1..=seeds).find_map(|seed| {
        let plan = Plan { mutant: Some(mutant), ..Plan::of(seed) };
        let found = run(&plan, false).violations.into_iter().next()?;
        Some((seed, found.lines().next().unwrap_or_default().to_owned()))
    })
}

impl Outcome {
    fn add(&mut self, report: Report, again: Option<Report>) {
        self.seeds += 1;
        self.operations += report.trace.counts().get("operations").copied().unwrap_or_default();
        self.loaded += report.loaded;
        self.virtual_time += report.virtual_time;
        for (what, times) in report.trace.counts() {
            *self.counts.entry(what).or_default() += times;
        }
        for (site, times) in report.fired {
            *self.fired.entry(site).or_default() += times;
        }
        if let Some(again) = again {
            self.twice += 1;
            self.virtual_time += again.virtual_time;
            if (again.hash, again.events) != (report.hash, report.events) {
                self.apart.push(report.seed);
            }
        }
        if !report.violations.is_empty() {
            self.failed.push((report.seed, report.violations));
        }
    }

    pub fn is_good(&self) -> bool {
        self.failed.is_empty() && self.apart.is_empty()
    }

    pub fn print(&self) {
        #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
        let hours = |micros: u64| micros as f64 / SECOND as f64 / 3_600.0;
        #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
        let ratio = self.virtual_time as f64 / SECOND as f64 / self.real.as_secs_f64().max(0.001);
        println!("seeds             {} ({} of them twice)", self.seeds, self.twice);
        println!("loaded hours      {:.1} of {:.1} virtual ones", hours(self.loaded), hours(self.virtual_time));
        println!("operations        {}", self.operations);
        println!("virtual : real    {ratio:.0} : 1, in {:.0} s", self.real.as_secs_f64());
        println!("faults");
        for name in FaultKind::NAMES {
            println!("  {name:<20} {}", self.counts.get(name).copied().unwrap_or_default());
        }
        if kula_fault::IS_BUILT_IN {
            println!("unkind");
            for site in Site::ALL.iter().map(|site| site.name()) {
                println!("  {site:<24} {}", self.fired.get(site).copied().unwrap_or_default());
            }
        }
        println!("met");
        for (what, times) in self.counts.iter().filter(|(what, _)| !FaultKind::NAMES.contains(what)) {
            println!("  {what:<32} {times}");
        }
    }
}
