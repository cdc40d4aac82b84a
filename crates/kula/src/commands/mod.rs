//! The commands, one file a family.

mod admin;
mod bench;
mod cluster;
mod config;
mod explain;
mod export;
mod import;
mod kv;
mod node;
mod sim;
mod views;

pub use import::TransferError;
pub use sim::next as next_of_scenario;

use crate::{
    cli::{Arguments, Command},
    client::Failure,
    exit::Verdict,
};

/// Runs one command.
pub fn run(arguments: &Arguments) -> Result<Verdict, Failure> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Node(node) => node::run(node),
        Command::Cluster(cluster) => cluster::run(cluster, global),
        Command::Get(get) => kv::get(get, global),
        Command::Put(put) => kv::put(put, global),
        Command::Del(del) => kv::del(del, global),
        Command::Import(import) => import::run(import, global),
        Command::Export(export) => export::run(export, global),
        Command::Status(watch) => views::status(watch, global),
        Command::Ring(watch) => views::ring(watch, global),
        Command::Hints(watch) => views::hints(watch, global),
        Command::Actors(actors) => views::actors(actors, global),
        Command::Keyspace(keyspace) => admin::keyspace(keyspace, global),
        Command::Table(table) => admin::table(table, global),
        Command::Config(config) => config::run(config, global),
        Command::Explain { code } => explain::run(code),
        Command::Bench(bench) => bench::run(bench, global),
        Command::Sim(sim) => sim::run(sim, global),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut crate::command(), "kula", &mut std::io::stdout());
            Ok(Verdict::Ok)
        }
    }
}
