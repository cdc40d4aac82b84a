//! Many seeds, of either level: what CI and a soak run, and what they must have met on the way.

use crate::{Plan, Report, plan::FaultKind, refused, run, time::SECOND};
use kula_clock::{Clock, SystemClock};
use kula_fault::{IS_BUILT_IN, Mutant, Site};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

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
    /// One seed in so many is run twice, and must make the same history.
    pub twice_one_in: u64,
    pub threads: usize,
}

/// What one seed came to, as far as a run of many looks at it.
pub struct Ran {
    pub seed: u64,
    pub violations: Vec<String>,
    /// Two runs of one seed must agree on it.
    pub history: (u64, u64),
    /// Virtual microseconds under load, and in all.
    pub loaded: u64,
    pub virtual_time: u64,
    pub counts: BTreeMap<&'static str, u64>,
    /// How often each site was unkind.
    pub fired: BTreeMap<&'static str, u64>,
}

impl From<Report> for Ran {
    fn from(report: Report) -> Ran {
        let Report { seed, violations, hash, events, loaded, virtual_time, trace, fired, .. } = report;
        let counts = trace.counts().clone();
        Ran {
            seed,
            violations,
            history: (hash, events),
            loaded,
            virtual_time,
            counts,
            fired: fired.into_iter().collect(),
        }
    }
}

/// Violations printed of one seed.
const VIOLATIONS_MAX: usize = 4;
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
    /// Runs `run` for each seed, on all threads, until it is over or a few have failed.
    pub fn run(&self, run: impl Fn(u64) -> Ran + Sync) -> Outcome {
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
                        let ran = run(seed);
                        let again = seed.is_multiple_of(self.twice_one_in).then(|| run(seed));
                        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                        outcome.add(ran, again);
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
}

/// What a run of level 1 lacks, if it was long enough to meet everything; empty: nothing.
pub fn never_met(outcome: &Outcome) -> Vec<&'static str> {
    if outcome.seeds < COMPLETE_FROM {
        return Vec::new();
    }
    let seldom: &[&'static str] = if outcome.seeds >= refused::SELDOM_FROM { &refused::SELDOM } else { &[] };
    let wanted = FaultKind::NAMES.iter().chain(&SOMETIMES).chain(&refused::ALL).chain(seldom).copied();
    outcome.lacks(wanted, |site| !site.is_in_an_actor())
}

/// The suite itself is tested: a plan whose clients want more acks than there are owners must be found out.
pub fn canary() -> Report {
    let plan = Plan { is_canary: true, ..Plan::of(1) };
    run(&plan, false)
}

/// The seed that found a planted mistake, and how; `None`: it lived through all of them.
pub type Found = Option<(u64, String)>;

/// Hunts mistakes one by one, on so many threads, over the seeds up to `seeds`; `run` answers the violations of a seed with
/// the mistake. Tells of each as soon as it is over.
pub fn hunts(
    mutants: &[Mutant],
    seeds: u64,
    threads: usize,
    run: impl Fn(Mutant, u64) -> Vec<String> + Sync,
    tell: impl Fn(Mutant, Found) + Sync,
) {
    let next = AtomicUsize::new(0);
    let (next, run, tell) = (&next, &run, &tell);
    let hunt = |mutant: Mutant| {
        (1..=seeds).find_map(|seed| {
            let found = run(mutant, seed).into_iter().next()?;
            Some((seed, found.lines().next().unwrap_or_default().to_owned()))
        })
    };
    let hunt = &hunt;
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(move || {
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    tell(*mutant, hunt(*mutant));
                }
            });
        }
    });
}

impl Outcome {
    fn add(&mut self, ran: Ran, again: Option<Ran>) {
        self.seeds += 1;
        self.loaded += ran.loaded;
        self.virtual_time += ran.virtual_time;
        for (what, times) in ran.counts {
            *self.counts.entry(what).or_default() += times;
        }
        for (site, times) in ran.fired {
            *self.fired.entry(site).or_default() += times;
        }
        if let Some(again) = again {
            self.twice += 1;
            self.virtual_time += again.virtual_time;
            if again.history != ran.history {
                self.apart.push(ran.seed);
            }
        }
        if !ran.violations.is_empty() {
            self.failed.push((ran.seed, ran.violations));
        }
    }

    /// Which of these were never met, and at which of the sites that may be asked for nothing was unkind.
    pub fn lacks(
        &self,
        wanted: impl Iterator<Item = &'static str>,
        is_asked: impl Fn(&Site) -> bool,
    ) -> Vec<&'static str> {
        let missed = wanted.filter(|name| !self.counts.contains_key(name));
        let sites = Site::ALL.iter().filter(|site| IS_BUILT_IN && is_asked(site)).map(|site| site.name());
        missed.chain(sites.filter(|site| !self.fired.contains_key(site))).collect()
    }

    pub fn is_good(&self) -> bool {
        self.failed.is_empty() && self.apart.is_empty()
    }

    /// `faults`: the kinds there are; `command`: what runs one seed again.
    pub fn print(&self, faults: &[&str], never_met: &[&str], command: &str) {
        #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
        let hours = |micros: u64| micros as f64 / SECOND as f64 / 3_600.0;
        #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
        let ratio = self.virtual_time as f64 / SECOND as f64 / self.real.as_secs_f64().max(0.001);
        println!("seeds             {} ({} of them twice)", self.seeds, self.twice);
        println!("loaded hours      {:.1} of {:.1} virtual ones", hours(self.loaded), hours(self.virtual_time));
        println!("operations        {}", self.counts.get("operations").copied().unwrap_or_default());
        println!("virtual : real    {ratio:.0} : 1, in {:.0} s", self.real.as_secs_f64());
        println!("faults");
        for name in faults {
            println!("  {name:<20} {}", self.counts.get(*name).copied().unwrap_or_default());
        }
        if IS_BUILT_IN {
            println!("unkind");
            for site in Site::ALL.iter().map(|site| site.name()) {
                println!("  {site:<24} {}", self.fired.get(site).copied().unwrap_or_default());
            }
        }
        println!("met");
        for (what, times) in self.counts.iter().filter(|(what, _)| !faults.contains(what)) {
            println!("  {what:<32} {times}");
        }
        for (seed, violations) in &self.failed {
            println!("\nseed {seed} fails: {command} --seed {seed}");
            violations.iter().take(VIOLATIONS_MAX).for_each(|violation| println!("  {violation}"));
        }
        for seed in &self.apart {
            println!("\nseed {seed} made two different histories: something reads a clock, a die or an address");
        }
        if !never_met.is_empty() {
            println!("\nnever met: {}", never_met.join(", "));
        }
    }
}
