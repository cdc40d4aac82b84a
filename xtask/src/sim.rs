//! `cargo xtask sim`: whole clusters from seeds, built for speed (`crates/sim`, `docs/mechanism/simulation.md`).

use crate::cargo;
use clap::Args;
use std::path::Path;

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
    #[arg(long, conflicts_with_all = ["seed", "seeds", "minutes", "ci"])]
    mutants: bool,
    /// The bounded form that CI runs
    #[arg(long)]
    ci: bool,
    /// Whole nodes with all their actors, in place of the rooms' machines
    #[arg(long, conflicts_with_all = ["whole", "minutes", "mutants"])]
    actors: bool,
}

impl Sim {
    pub fn run(&self, root: &Path) -> anyhow::Result<()> {
        let numbers =
            [("--seeds", self.seeds), ("--first", self.first), ("--seed", self.seed), ("--minutes", self.minutes)];
        let given = numbers.into_iter().filter_map(|(name, number)| Some([name.to_owned(), number?.to_string()]));
        let flags = [("--whole", self.whole), ("--mutants", self.mutants), ("--ci", self.ci)];
        let given = given.flatten().chain(flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name.to_owned()));
        let package = if self.actors { "kula-sim-actors" } else { "kula-sim" };
        let fixed = ["run", "--quiet", "--profile", "ci", "-p", package, "--"].map(str::to_owned);
        let arguments: Vec<String> = fixed.into_iter().chain(given).collect();
        cargo(root, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[])
    }
}
