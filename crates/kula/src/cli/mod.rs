//! The command line: what is there today, and nothing else.

mod bench;
mod cluster;
mod import;
mod sim;

pub use bench::{Bench, BenchCluster, BenchHttp, BenchKind, BenchProcess, BenchReplay, BenchStart};
pub use cluster::{Cluster, ClusterCommand};
pub use import::{Export, Import};
pub use sim::{Repair, Sim, Sync};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, time::Duration};

/// Kula: a leaderless, always-writable, replicated store.
///
/// `kula cluster up 3` starts three nodes on this machine, `kula node` one; the other commands talk to a node, by default
/// the one at http://127.0.0.1:7080. Any node takes any request.
#[derive(Parser, Debug)]
#[command(name = "kula", version, propagate_version = true, disable_help_subcommand = true)]
#[command(
    after_help = "First steps:\n  kula cluster up 3\n  kula put cart:42 '{\"milk\":1}'\n  kula get cart:42 --explain\n  \
    kula status\n  kula cluster kill n2      and all of it works on; kula cluster start n2\n\n\
    Exit codes: 0 ok, 1 error or not found, 2 usage, 3 degraded, 4 unavailable."
)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Where commands look for a node: where `kula node` listens, and n1 of a development cluster.
pub const AT: &str = "http://127.0.0.1:7080";

#[derive(Args, Debug, Clone)]
pub struct Global {
    /// The node to talk to
    #[arg(long, global = true, value_name = "URL", default_value = AT, env = "KULA_AT")]
    pub at: String,
    /// How results are printed
    #[arg(long, global = true, value_name = "FORM", default_value = "human")]
    pub output: Output,
    /// Colour: auto means only on a terminal
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Colour,
    /// How long a request may take, at most 60s
    #[arg(long, global = true, value_name = "SPAN", default_value = "5s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Answer yes to every question
    #[arg(long, global = true)]
    pub yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Human,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a node
    Node(Node),
    /// Run several nodes on this machine, in the background
    Cluster(Cluster),
    /// Read a key: the raw value goes to standard output, everything else to standard error
    Get(Get),
    /// Write a key; in a bucket it reads first, so that the new value replaces what is there
    Put(Put),
    /// Delete a key
    Del(Del),
    Import(Import),
    Export(Export),
    /// Say how the cluster is: one verdict sentence, then the table; the exit code is the health
    Status(Watch),
    /// Draw the ring: who owns which part of the keys
    Ring(Watch),
    /// Show the writes that this node keeps for nodes that missed them
    Hints(Watch),
    /// Show the actors of the node and their mailboxes
    Actors(Actors),
    /// Create, list and show keyspaces
    #[command(subcommand)]
    Keyspace(Keyspace),
    /// Create, list and show tables
    #[command(subcommand)]
    Table(Table),
    /// Check, show and explain the configuration
    #[command(subcommand)]
    Config(Config),
    /// Explain an error code
    Explain {
        /// A code as errors print it, or `list`
        #[arg(value_name = "CODE")]
        code: String,
    },
    /// Measure a node: throughput, latency free of coordinated omission, CPU per operation, memory
    Bench(Bench),
    Sim(Sim),
    /// Print a completion script for a shell
    Completions {
        shell: clap_complete::Shell,
    },
}

#[derive(Args, Debug)]
pub struct Node {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory [default: ./kula-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// This node's name [default: n1]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub address: Option<String>,
    /// Peer address of one of the cluster's first nodes; say it for each, the same at every node. Without any, a new
    /// node forms a cluster of its own
    #[arg(long = "seed", value_name = "HOST:PORT")]
    pub seeds: Vec<String>,
    /// How many nodes the first seed waits for before it forms the ring [default: 1]
    #[arg(long, value_name = "N")]
    pub expect: Option<u32>,
    /// Data centre [default: dc1]
    #[arg(long, value_name = "DC")]
    pub dc: Option<String>,
    /// Rack [default: rack1]
    #[arg(long, value_name = "RACK")]
    pub rack: Option<String>,
    /// Share of the ring relative to other nodes [default: 1]
    #[arg(long, value_name = "N")]
    pub weight: Option<u32>,
    /// Set any configuration key, as in --set storage.sync.mode=group
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Listen beyond loopback although there is no authentication and no TLS
    #[arg(long)]
    pub insecure: bool,
    /// Start although the commit log is damaged before valid records, or the directory is older than what its peers know:
    /// accepts the loss of what is missing
    #[arg(long)]
    pub accept_loss: bool,
    /// What becomes of the node when its launcher goes; for launchers
    #[arg(long, hide = true, value_name = "HOW")]
    pub launched: Option<Launched>,
}

/// What a launcher asks of a node, which only the node can do for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Launched {
    /// It leaves the terminal and lives on.
    Background,
    /// It ends with the process that started it, as SIGKILL does.
    WithParent,
}

impl Launched {
    pub const fn word(self) -> &'static str {
        match self {
            Launched::Background => "background",
            Launched::WithParent => "with-parent",
        }
    }
}

/// What every command on a key takes.
#[derive(Args, Debug)]
pub struct Keyed {
    /// The key, as UTF-8 text
    pub key: String,
    /// Keyspace and table
    #[arg(short, long, value_name = "KEYSPACE.TABLE", default_value = "kv.default")]
    pub table: String,
    /// Consistency: one, two, three, quorum, all or a number of replicas
    #[arg(short, long, value_name = "LEVEL", default_value = "quorum")]
    pub consistency: String,
    /// Show what each replica answered, how long it took, and whether it was repaired
    #[arg(long)]
    pub explain: bool,
}

#[derive(Args, Debug)]
pub struct Get {
    #[command(flatten)]
    pub keyed: Keyed,
    /// Of several siblings, the newest
    #[arg(long)]
    pub newest: bool,
}

#[derive(Args, Debug)]
pub struct Put {
    #[command(flatten)]
    pub keyed: Keyed,
    /// The value; - reads standard input
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub value: Option<String>,
    /// Read the value from a file
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Replace exactly what this context saw
    #[arg(long, value_name = "CONTEXT", conflicts_with = "blind")]
    pub context: Option<String>,
    /// Do not read first: the value becomes one more sibling
    #[arg(long)]
    pub blind: bool,
    /// Let the value expire after this span, as in 90s or 12h
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    pub ttl: Option<Duration>,
    /// The value's content type
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
}

#[derive(Args, Debug)]
pub struct Del {
    #[command(flatten)]
    pub keyed: Keyed,
    /// Delete exactly what this context saw
    #[arg(long, value_name = "CONTEXT")]
    pub context: Option<String>,
}

#[derive(Args, Debug)]
pub struct Watch {
    /// Repeat every two seconds
    #[arg(long)]
    pub watch: bool,
    /// The same as --output json
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Actors {
    /// Only actors whose path begins with this
    pub path: Option<String>,
    /// The same as --output json
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand, Debug)]
pub enum Keyspace {
    /// Create a keyspace
    Create {
        name: String,
        /// Copies of each value
        #[arg(long, default_value_t = 3)]
        rf: u32,
        /// strict counts only owners
        #[arg(long, default_value = "strict")]
        mode: String,
        /// blocking, background or off
        #[arg(long, default_value = "blocking")]
        read_repair: String,
        #[arg(long, default_value = "on")]
        hinted_handoff: String,
        #[arg(long, default_value = "on")]
        anti_entropy: String,
    },
    /// List keyspaces
    List,
    /// Show one keyspace and its tables
    Show { name: String },
}

#[derive(Subcommand, Debug)]
pub enum Table {
    /// Create a table of keys and values
    Create {
        #[arg(value_name = "KEYSPACE.TABLE")]
        name: String,
        /// A bucket: concurrent writes become siblings, contexts replace exactly what was seen
        #[arg(long, conflicts_with = "lww")]
        causal: bool,
        /// Last writer wins (the default)
        #[arg(long)]
        lww: bool,
    },
    /// List the tables of every keyspace
    List,
    /// Show one table
    Show {
        #[arg(value_name = "KEYSPACE.TABLE")]
        name: String,
    },
}

#[derive(Subcommand, Debug)]
pub enum Config {
    /// Check a configuration file
    Check {
        /// Configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show the effective configuration
    Show {
        /// Configuration file (TOML)
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Also show where each value comes from
        #[arg(long)]
        origin: bool,
    },
    /// Say what a key does
    Explain { key: String },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
