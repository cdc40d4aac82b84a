//! `cargo xtask`: the project's own chores. Each subcommand is one file.

mod figures;
mod promises;
mod sim;
mod tidy;
mod walkthrough;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check the house: layer order, purity of machines, forbidden calls, headers, READMEs, pages
    Tidy,
    /// Accept every snapshot that the tests now print; read the difference before you commit it
    Bless {
        /// Only this package
        #[arg(short, long)]
        package: Option<String>,
    },
    /// Crash the storage engine at every point of a recorded workload and recover it
    Crash {
        /// The bounded form that CI runs: at least 50,000 distinct images
        #[arg(long)]
        ci: bool,
        /// How many distinct images
        #[arg(long, default_value_t = 10_000, conflicts_with = "ci")]
        images: u64,
    },
    /// Run whole simulated clusters from seeds, and judge what they did
    Sim(sim::Sim),
    /// Feed any bytes to every decoder
    Fuzz {
        /// The bounded form that CI runs
        #[arg(long)]
        ci: bool,
        /// How many inputs a target
        #[arg(long, default_value_t = 100_000, conflicts_with = "ci")]
        inputs: u64,
    },
    /// Write docs/promises.md from the marks in tests and the figures that the long chores reached
    Promises,
    /// Run every command of a page as a newcomer would; what it prints must be what the page shows
    Walkthrough {
        /// The page, from the checkout's root
        page: PathBuf,
    },
}

/// What CI must reach, as the issue that asked for it says.
const CRASH_IMAGES_CI: u64 = 50_000;
/// Inputs a fuzz target in CI: what fits three minutes on two cores.
const FUZZ_INPUTS_CI: u64 = 400_000;

fn main() -> anyhow::Result<()> {
    let root = root();
    match Arguments::parse().chore {
        Chore::Tidy => {
            let faults = tidy::faults(&root)?;
            for fault in &faults {
                println!("{fault}");
            }
            if !faults.is_empty() {
                bail!("{} things are not in order", faults.len());
            }
            println!("tidy: the house is in order");
            Ok(())
        }
        Chore::Bless { package } => {
            let scope = match &package {
                Some(package) => vec!["-p", package],
                None => vec!["--workspace"],
            };
            cargo(&root, &[&["test", "--quiet"], scope.as_slice()].concat(), &[("INSTA_UPDATE", "always".into())])
        }
        Chore::Crash { ci, images } => {
            let images = if ci { CRASH_IMAGES_CI } else { images };
            let test = ["test", "--profile", "ci", "-p", "kula-storage", "--test", "crash", "--", "--nocapture"];
            let command =
                if ci { "cargo xtask crash --ci".into() } else { format!("cargo xtask crash --images {images}") };
            let name = (images >= CRASH_IMAGES_CI).then_some("crash");
            let heard = figures::Heard { name, command, figures: figures::of_crash };
            figures::cargo(&root, &test, &[("KULA_CRASH_IMAGES", images.to_string())], &heard)
        }
        Chore::Walkthrough { page } => walkthrough::run(&root, &page),
        Chore::Promises => promises::run(&root),
        Chore::Sim(sim) => sim.run(&root),
        Chore::Fuzz { ci, inputs } => {
            let inputs = if ci { FUZZ_INPUTS_CI } else { inputs };
            let environment = [("KULA_FUZZ_INPUTS", inputs.to_string())];
            let command =
                if ci { "cargo xtask fuzz --ci".into() } else { format!("cargo xtask fuzz --inputs {inputs}") };
            let name = (inputs >= FUZZ_INPUTS_CI).then_some("fuzz");
            let heard = figures::Heard { name, command, figures: figures::of_fuzz };
            let test = ["test", "--profile", "ci", "-p", "kula-fuzz", "--", "--nocapture"];
            figures::cargo(&root, &test, &environment, &heard)
        }
    }
}

fn cargo(root: &Path, arguments: &[&str], environment: &[(&str, String)]) -> anyhow::Result<()> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root).args(arguments);
    for (name, value) in environment {
        command.env(name, value);
    }
    let status = command.status().context("cargo did not start")?;
    if status.success() { Ok(()) } else { bail!("cargo {} ended with {status}", arguments.join(" ")) }
}

/// The checkout that this chore was built from.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}
