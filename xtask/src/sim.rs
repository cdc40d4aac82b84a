//! `cargo xtask sim`: whole clusters from seeds, built for speed (`crates/sim`, `docs/mechanism/simulation.md`).

use crate::figures::{self, Heard};
use clap::Args;
use std::path::Path;

/// From here on a run's figures are those of a soak.
const SOAK_MINUTES: u64 = 30;
const SOAK_SEEDS: u64 = 20_000;

#[derive(Args)]
pub struct Sim {
    /// How many seeds
    #[arg(long, conflicts_with_all = ["seed", "ci"])]
    seeds: Option<u64>,
    /// The first of them
    #[arg(long, conflicts_with = "seed")]
    first: Option<u64>,
    /// One seed: its story, as short as it still fails
    #[arg(long, conflicts_with = "ci")]
    seed: Option<u64>,
    /// With --seed: the whole story
    #[arg(long, requires = "seed")]
    whole: bool,
    /// As many seeds as fit so many minutes
    #[arg(long, conflicts_with_all = ["seed", "seeds", "ci"])]
    minutes: Option<u64>,
    /// Plant known mistakes, one at a time: each must be found
    #[arg(long, conflicts_with_all = ["seed", "minutes", "ci"])]
    mutants: bool,
    /// With --mutants: only those whose names hold this
    #[arg(long, requires = "mutants")]
    only: Option<String>,
    /// The bounded form that CI runs: 1,000 seeds and 100 loaded hours, six to eight minutes on two cores
    #[arg(long)]
    ci: bool,
    /// Whole nodes with all their actors, in place of the rooms' machines
    #[arg(long, conflicts_with_all = ["whole", "minutes"])]
    actors: bool,
}

impl Sim {
    pub fn run(&self, root: &Path) -> anyhow::Result<()> {
        let numbers =
            [("--seeds", self.seeds), ("--first", self.first), ("--seed", self.seed), ("--minutes", self.minutes)];
        let given = numbers.into_iter().filter_map(|(name, number)| Some([name.to_owned(), number?.to_string()]));
        let flags = [("--whole", self.whole), ("--mutants", self.mutants), ("--ci", self.ci)];
        let only = self.only.iter().flat_map(|only| ["--only".to_owned(), only.clone()]);
        let flags = flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name.to_owned());
        let given: Vec<String> = given.flatten().chain(only).chain(flags).collect();
        let package = if self.actors { "kula-sim-actors" } else { "kula-sim" };
        let heard = self.heard(&given);
        let build = ["run", "--quiet", "--profile", "ci", "-p", package, "--features", "mutants", "--"];
        let fixed = build.map(str::to_owned);
        let arguments: Vec<String> = fixed.into_iter().chain(given).collect();
        figures::cargo(root, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[], &heard)
    }

    fn heard(&self, given: &[String]) -> Heard<'static> {
        let is_soak = self.minutes.is_some_and(|minutes| minutes >= SOAK_MINUTES)
            || self.seeds.is_some_and(|seeds| seeds >= SOAK_SEEDS);
        let (name, of): (_, fn(&str) -> _) = match () {
            () if self.actors => (self.ci.then_some("sim-actors"), figures::of_sim),
            () if self.mutants => (Some("sim-mutants"), figures::of_mutants),
            () if self.ci => (Some("sim-ci"), figures::of_sim),
            () => (is_soak.then_some("sim-soak"), figures::of_sim),
        };
        let actors = if self.actors { "--actors " } else { "" };
        Heard { name, command: format!("cargo xtask sim {actors}{}", given.join(" ")), figures: of }
    }
}
