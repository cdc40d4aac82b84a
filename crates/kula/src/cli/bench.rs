//! The words of `kula bench`.

use clap::{Args, Subcommand};
use std::{path::PathBuf, time::Duration};

#[derive(Args, Debug)]
pub struct Bench {
    #[command(subcommand)]
    pub what: BenchKind,
}

#[derive(Subcommand, Debug)]
pub enum BenchKind {
    /// Puts and gets over HTTP against a node of its own, or against running ones (--nodes)
    Http(BenchHttp),
    /// A cluster of real processes of its own: ready, puts, gets, a mix, memory, and how soon a killed node is seen down
    Cluster(BenchCluster),
    /// Durable puts through the coordinators, without HTTP
    Process(BenchProcess),
    /// How fast the commit log is replayed
    Replay(BenchReplay),
    /// How long a start takes, and what an idle node weighs
    Start(BenchStart),
}

#[derive(Args, Debug)]
pub struct BenchHttp {
    /// Running nodes, with commas between them: connections are spread over them. Without any the bench starts one in a
    /// directory of its own and measures its CPU and memory
    #[arg(long, value_name = "URL,..", alias = "node", value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// put, get, mixed (half and half), or both: put, then get
    #[arg(long, default_value = "both")]
    pub operation: String,
    /// Consistency of every request
    #[arg(short, long, value_name = "LEVEL", default_value = "quorum")]
    pub consistency: String,
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

#[derive(Args, Debug)]
pub struct BenchCluster {
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    pub nodes: u32,
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// How long each phase runs
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = humantime::parse_duration)]
    pub span: Duration,
    /// Bytes of a value
    #[arg(long, default_value_t = 1024)]
    pub value_bytes: usize,
    /// How many different keys
    #[arg(long, default_value_t = 20_000)]
    pub keys: u64,
    /// Consistency of every request
    #[arg(short, long, value_name = "LEVEL", default_value = "quorum")]
    pub consistency: String,
    /// Keyspace and table; the default is a last-writer-wins table the bench creates
    #[arg(long, value_name = "KEYSPACE.TABLE", default_value = "bench.lww")]
    pub table: String,
    /// Set a configuration key at every node, as in --set gossip.interval=500ms
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Write the figures as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
