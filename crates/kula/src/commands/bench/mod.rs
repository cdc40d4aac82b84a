//! `kula bench`: the figures of `docs/perf.md` come from here and from nowhere else.
//!
//! Latency is taken from when a request *should* have been sent (open loop) or was sent (closed loop), into HDR
//! histograms; CPU is the process's own accounting, so that noise of the machine shows as time, not as work.

mod cluster;
mod http;
mod load;
mod meter;
mod own_node;
mod process;
mod replay;
mod report;
mod start;

use crate::{
    cli::{Bench, BenchKind, Global},
    client::Failure,
    exit::Verdict,
};

pub fn run(bench: &Bench, global: &Global) -> Result<Verdict, Failure> {
    match &bench.what {
        BenchKind::Http(wanted) => http::run(wanted, global),
        BenchKind::Cluster(wanted) => cluster::run(wanted, global),
        BenchKind::Process(wanted) => process::run(wanted),
        BenchKind::Replay(wanted) => replay::run(wanted),
        BenchKind::Start(wanted) => start::run(wanted),
    }
    .map_err(Failure::Local)?;
    Ok(Verdict::Ok)
}
