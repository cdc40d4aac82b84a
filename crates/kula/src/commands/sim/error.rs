//! What a person does who asked for a cluster that cannot be simulated.

use kula_sim::scenario::{NODES_MAX, RF_MAX, ScenarioError};

/// The next command.
pub fn next(error: &ScenarioError) -> String {
    match error {
        ScenarioError::Nodes { .. } => format!("--nodes 1 to --nodes {NODES_MAX}"),
        ScenarioError::Copies { .. } => format!("--rf 1 to --rf {RF_MAX}"),
        ScenarioError::LevelNotThereYet { .. } => {
            "levels that are there: one, two, three, quorum, all, or a number of replicas".into()
        }
        ScenarioError::LevelTooHigh { copies, .. } => {
            format!("a level of at most {copies}; or more copies: --rf and --nodes, each at least the level")
        }
        ScenarioError::Lasts => "--for 60s".into(),
        ScenarioError::Operations { .. } => "a lower --rate or a shorter --for; --runs makes many short runs".into(),
        ScenarioError::Keys { .. } => "--keys 8".into(),
        ScenarioError::NoClient => "--clients 4".into(),
        ScenarioError::Deadline => "--timeout 5s".into(),
        ScenarioError::Period => "--sync 100ms; or --sync group, which syncs before each acknowledgement".into(),
        ScenarioError::FaultsTooOften => "--fault-every 8s".into(),
        ScenarioError::NoneAndOthers => "--faults none alone, or the others alone".into(),
        ScenarioError::LostDisk { .. } => {
            "--nodes 3 --rf 3; with fewer copies nothing is left to compare: a lost disk takes what it held".into()
        }
    }
}
