//! The words of `kula cluster`.

use clap::{Args, Subcommand};
use std::{net::Ipv4Addr, path::PathBuf};

/// Run several nodes on this machine, in the background.
///
/// Each node is a real process with a loopback address of its own and the same ports (HTTP 7080, peers 7000): n1 is
/// 127.0.0.1, n2 is 127.0.0.2. Everything stands in one directory: cluster.toml, and n1/data, n1/log.jsonl and n1/pid for
/// each node. The nodes run on when the terminal closes; `kula cluster down` ends them.
#[derive(Args, Debug)]
#[command(
    after_help = "A node that dies, and comes back:\n  kula cluster up 3\n  kula put k before\n  kula cluster kill n2\n  \
    kula put k after            2 of 3 replicas; the third copy waits as a hint\n  kula status                 degraded, and why\n  \
    kula cluster start n2\n  kula --at http://127.0.0.2:7080 get k"
)]
pub struct Cluster {
    #[command(subcommand)]
    pub what: ClusterCommand,
    /// The cluster's directory
    #[arg(long, global = true, value_name = "DIR", default_value = "./kula-cluster")]
    pub dir: PathBuf,
}

#[derive(Subcommand, Debug)]
pub enum ClusterCommand {
    /// Start the nodes; returns when all are ready and see each other up
    ///
    /// What runs is left, what is dead is started, what is paused goes on, and data is kept: it may be repeated. Waits
    /// at most 60 s; then exit 4, and it says what is missing.
    Up {
        /// How many nodes, 1 to 64 [default: what the directory has, else 3]
        #[arg(value_name = "N")]
        nodes: Option<u32>,
        /// Node i listens on this loopback address + i [default: 127.0.0.0]
        #[arg(long, value_name = "IP")]
        base: Option<Ipv4Addr>,
        /// Set a configuration key at every node, as in --set log.level=debug; nodes that run keep what they have
        #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
        set: Vec<String>,
    },
    /// Stop all nodes (SIGTERM) and keep their data
    Down {
        /// Then remove the directory with all data and logs
        #[arg(long)]
        wipe: bool,
    },
    /// Kill nodes (SIGKILL), as a crash does, and wait until they are gone
    Kill {
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Start nodes again; returns when they are ready, and they and the others that answer see each other up
    ///
    /// Waits at most 30 s; then exit 4, and it says what is missing.
    Start {
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Stop nodes in their tracks (SIGSTOP), as a long pause of the machine does
    Pause {
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Let paused nodes go on (SIGCONT)
    Resume {
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Print the end of a node's log, for people; as it is stored with --output json
    Logs {
        #[arg(value_name = "NODE")]
        node: String,
        /// Only lines of this event, such as mailbox, peer_down or hints_drained
        #[arg(long, value_name = "EVENT")]
        event: Option<String>,
        /// How many lines
        #[arg(long, value_name = "N", default_value_t = 200)]
        lines: usize,
    },
    /// List the nodes: address, process, state, and whether they take requests
    List,
}
