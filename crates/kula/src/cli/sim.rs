//! The words of `kula sim`.

use clap::{Args, ValueEnum};
use kula_placement::ReadRepair;
use kula_sim::scenario::{Trouble, Workload};
use kula_types::Consistency;
use std::time::Duration;

/// Try a cluster before you trust it: what is lost, which siblings arise, how stale reads are
///
/// A whole cluster runs in this process, in virtual time: Kula's own machines and storage engine, over a simulated network,
/// simulated disks and clocks. Clients work while faults come and go; then everything heals, and what they were told is
/// compared with what is left. One seed makes one history: the same command shows the same. Nothing is written to a disk.
#[derive(Args, Debug)]
#[command(
    after_help = "Some first questions:\n  kula sim --write one --read one                      how stale is ONE?\n  \
    kula sim --faults clock                              what do bad clocks do to last-writer-wins?\n  \
    kula sim --write one --faults partition,lost-disk --runs 20\n  \
    kula sim --sync 1s --faults power-loss               what does a log that is not synced each time cost?\n\n\
    Exit codes: 0 every promise held, whatever the levels allowed to be lost; 1 a promise broke: a bug; 2 usage."
)]
pub struct Sim {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub nodes: usize,
    /// Copies of each value
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rf: u32,
    /// Virtual time under load
    #[arg(long = "for", value_name = "SPAN", default_value = "60s", value_parser = humantime::parse_duration)]
    pub lasts: Duration,
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub clients: usize,
    /// Operations a second, of all clients together
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub rate: u64,
    /// Keys of the registers, and of the bucket: few make many conflicts
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub keys: usize,
    /// What clients do, with commas between them
    #[arg(short, long, value_name = "WORKLOAD,..", value_delimiter = ',', default_value = "register,set,bucket")]
    pub workload: Vec<Workload>,
    /// Consistency of reads: one, two, three, quorum, all or a number of replicas; of several each read takes one
    #[arg(long, value_name = "LEVEL,..", value_delimiter = ',', default_value = "quorum")]
    pub read: Vec<Consistency>,
    /// Consistency of writes
    #[arg(long, value_name = "LEVEL,..", value_delimiter = ',', default_value = "quorum")]
    pub write: Vec<Consistency>,
    /// Whether a read mends what it finds apart, and waits for it
    #[arg(long, value_name = "HOW", default_value = "blocking")]
    pub read_repair: Repair,
    /// When the commit log is synced: group (before each acknowledgement), or a span between syncs, as in 100ms
    #[arg(long, value_name = "WHEN", default_value = "group", value_parser = sync)]
    pub sync: Sync,
    /// What goes wrong, with commas between them
    #[arg(long, value_name = "FAULT,..", value_delimiter = ',', default_value = "kill,partition")]
    pub faults: Vec<Trouble>,
    /// From one fault to the next, on average; each lasts 2 s to 12 s
    #[arg(long, value_name = "SPAN", default_value = "8s", value_parser = humantime::parse_duration)]
    pub fault_every: Duration,
    /// The seed of the run, or of the first; drawn and told if it is not said
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// So many runs, of this seed and those after it, counted together
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub runs: u64,
    /// Tell the whole story first, event by event
    #[arg(long)]
    pub trace: bool,
    /// The same as --output json
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Repair {
    /// The read waits until a quorum has what it shows
    Blocking,
    /// The read answers first
    Background,
    /// Reads mend nothing
    Off,
}

impl From<Repair> for ReadRepair {
    fn from(repair: Repair) -> Self {
        match repair {
            Repair::Blocking => ReadRepair::Blocking,
            Repair::Background => ReadRepair::Background,
            Repair::Off => ReadRepair::Off,
        }
    }
}

/// When the simulated commit logs are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    Group,
    Every(Duration),
}

fn sync(text: &str) -> Result<Sync, String> {
    match text {
        "group" => Ok(Sync::Group),
        span => humantime::parse_duration(span).map(Sync::Every).map_err(|error| format!("group, or a span: {error}")),
    }
}
