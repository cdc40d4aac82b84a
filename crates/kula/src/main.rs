//! `kula`: the one binary. A thin front: it parses, asks a node over HTTP (or is the node), and prints.

mod cli;
mod client;
mod cluster;
mod commands;
mod exit;
mod print;
mod records;
mod stopwatch;

use clap::{CommandFactory, Parser, error::ErrorKind};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Commands that later versions bring: asked for today, they are refused by name (exit 2), never half done.
const LATER: &[&str] = &[
    "demo",
    "history",
    "resolve",
    "top",
    "doctor",
    "plan",
    "task",
    "repair",
    "compact",
    "scrub",
    "flush",
    "snapshot",
    "sstable",
    "backup",
    "autoscale",
    "log",
    "cert",
    "cql",
];

fn main() -> ExitCode {
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refused(&error),
    };
    match commands::run(&arguments) {
        Ok(verdict) => verdict.into(),
        Err(failure) => {
            print::failure(&failure, &arguments.global);
            failure.verdict().into()
        }
    }
}

/// What clap says, except for a command that is known but not there yet.
fn refused(error: &clap::Error) -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    if error.kind() == ErrorKind::InvalidSubcommand && LATER.contains(&name.as_str()) {
        eprintln!("error K0501: `kula {name}` is not there yet; a later version brings it");
        eprintln!("  next: kula --help lists what is there");
        return exit::Verdict::Usage.into();
    }
    // Printing can fail only if nobody listens.
    error.print().ok();
    if error.use_stderr() { exit::Verdict::Usage.into() } else { exit::Verdict::Ok.into() }
}

/// The command line as clap knows it, for completions.
fn command() -> clap::Command {
    cli::Arguments::command()
}
