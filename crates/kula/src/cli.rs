//! The command line: what is there today, and nothing else.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, time::Duration};

/// Kula: a leaderless, always-writable, replicated store.
///
/// `kula node` starts a node on loopback with its data in ./kula-data; the other commands talk to it.
#[derive(Parser, Debug)]
#[command(name = "kula", version, propagate_version = true, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 ok, 1 error or not found, 2 usage, 3 degraded, 4 unavailable.\n\
    First steps:\n  kula node &\n  kula put cart:42 '{\"milk\":1}'\n  kula get cart:42\n  kula status")]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Debug, Clone)]
pub struct Global {
    /// The node to talk to
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:7080", env = "KULA_AT")]
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
    /// Read a key: the raw value goes to standard output, everything else to standard error
    Get(Get),
    /// Write a key; in a bucket it reads first, so that the new value replaces what is there
    Put(Put),
    /// Delete a key
    Del(Del),
    /// Say how the node is: one verdict sentence, then the table; the exit code is the health
    Status(Watch),
    /// Show the ring: its version, its nodes and what they own
    Ring,
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
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
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
    /// Start although the commit log is damaged before valid records: accepts the loss of what the damage held
    #[arg(long)]
    pub accept_loss: bool,
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
    /// Show what each replica answered and how long it took
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

#[derive(Args, Debug)]
pub struct Bench {
    #[command(subcommand)]
    pub what: BenchKind,
}

#[derive(Subcommand, Debug)]
pub enum BenchKind {
    /// Puts and gets over HTTP against a node of its own (or --node URL)
    Http(BenchHttp),
    /// Durable puts through the coordinators, without HTTP
    Process(BenchProcess),
    /// How fast the commit log is replayed
    Replay(BenchReplay),
    /// How long a start takes, and what an idle node weighs
    Start(BenchStart),
}

#[derive(Args, Debug)]
pub struct BenchHttp {
    /// A running node; without it the bench starts one in a directory of its own and measures its CPU and memory
    #[arg(long, value_name = "URL")]
    pub node: Option<String>,
    /// put, get or both, in this order
    #[arg(long, default_value = "both")]
    pub operation: String,
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// How long each phase runs
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = humantime::parse_duration)]
    pub span: Duration,
    /// Bytes of a value
    #[arg(long, default_value_t = 1024)]
    pub value_bytes: usize,
    /// How many different keys
    #[arg(long, default_value_t = 100_000)]
    pub keys: u64,
    /// Open loop: requests a second, sent on schedule whether or not earlier ones were answered
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Keyspace and table; the default is a last-writer-wins table the bench creates
    #[arg(long, value_name = "KEYSPACE.TABLE", default_value = "bench.lww")]
    pub table: String,
    /// Write the figures as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct BenchProcess {
    #[arg(long, default_value_t = 64)]
    pub writers: usize,
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = humantime::parse_duration)]
    pub span: Duration,
    #[arg(long, default_value_t = 1024)]
    pub value_bytes: usize,
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct BenchReplay {
    /// Mebibytes of commit log to replay
    #[arg(long, default_value_t = 256)]
    pub mebibytes: u64,
    #[arg(long, default_value_t = 1024)]
    pub value_bytes: usize,
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct BenchStart {
    /// How many starts
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
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
