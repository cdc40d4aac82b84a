//! `kula node`: the layers of configuration, then the node itself.

use crate::{
    cli::{self, Launched},
    client::Failure,
    exit::Verdict,
};
use kula_node::{StartError, StartOptions, config::Layers};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::path::Path;

pub fn run(node: &cli::Node) -> Result<Verdict, Failure> {
    match node.launched {
        // Refused only to a process that leads a group already, which then is its own.
        Some(Launched::Background) => drop(rustix::process::setsid()),
        Some(Launched::WithParent) => drop(set_parent_process_death_signal(Some(Signal::KILL))),
        None => {}
    }
    let options = StartOptions { insecure: node.insecure, accept_loss: node.accept_loss };
    let ended = layers(node.config.as_deref(), flags(node)?).and_then(|layers| kula_node::run(&layers, &options));
    Ok(match ended {
        Ok(()) => Verdict::Ok,
        Err(error) => refused(&error),
    })
}

/// A start that was refused, or a node that had to stop: what, why, what next.
pub fn refused(error: &StartError) -> Verdict {
    let code = error.code();
    eprintln!("error {code}: {error}");
    eprintln!("  next: {}", error.next());
    eprintln!("  more: kula explain {code}");
    if error.is_usage() { Verdict::Usage } else { Verdict::Error }
}

/// File and environment, with `flags` above them.
pub fn layers(file: Option<&Path>, flags: Vec<(String, String)>) -> Result<Layers, StartError> {
    let file = match file {
        None => None,
        Some(path) => {
            #[allow(clippy::disallowed_methods, reason = "the user's own configuration file")]
            let text = std::fs::read_to_string(path);
            let name = path.display().to_string();
            Some((name.clone(), text.map_err(|error| StartError::ConfigFile { name, why: error.to_string() })?))
        }
    };
    let environment = std::env::vars().filter(|(name, _)| name.starts_with("KULA_")).collect();
    Ok(Layers { file, environment, flags })
}

fn flags(node: &cli::Node) -> Result<Vec<(String, String)>, Failure> {
    let weight = node.weight.map(|weight| weight.to_string());
    let data = node.data.as_ref().map(|path| path.display().to_string());
    let expect = node.expect.map(|expect| expect.to_string());
    let seeds = (!node.seeds.is_empty()).then(|| node.seeds.join(","));
    let named = [
        ("node.name", &node.name),
        ("node.data", &data),
        ("node.dc", &node.dc),
        ("node.rack", &node.rack),
        ("node.weight", &weight),
        ("listen.address", &node.address),
        ("join.seeds", &seeds),
        ("join.expect", &expect),
    ];
    let mut flags: Vec<_> =
        named.into_iter().filter_map(|(key, value)| Some((key.to_string(), value.clone()?))).collect();
    for pair in &node.set {
        let split = pair.split_once('=').map(|(key, value)| (key.trim().to_string(), value.trim().to_string()));
        flags.push(split.ok_or_else(|| Failure::Usage(format!("--set takes SECTION.KEY=VALUE, not {pair:?}")))?);
    }
    Ok(flags)
}
