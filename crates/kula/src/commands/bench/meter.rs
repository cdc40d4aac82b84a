//! What a process costs, as the kernel accounts it: CPU time and resident memory.

use anyhow::Context;
use std::time::Duration;

/// A reading of one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu: Duration,
    pub resident_bytes: u64,
}

/// Reads `/proc/PID`.
pub fn usage(pid: u32) -> anyhow::Result<Usage> {
    let stat = proc_file(pid, "stat")?;
    // The command's name is in parentheses and may hold anything; fields are counted after it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| -> anyhow::Result<u64> { Ok(fields.get(place).context("a short /proc stat")?.parse()?) };
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let cpu = Duration::from_millis((ticks(11)? + ticks(12)?) * 1000 / ticks_per_second.max(1));
    let status = proc_file(pid, "status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    let kibibytes: u64 = resident.split_whitespace().next().unwrap_or("0").parse()?;
    Ok(Usage { cpu, resident_bytes: kibibytes * 1024 })
}

#[allow(clippy::disallowed_methods, reason = "the kernel's accounts, not the database's files")]
fn proc_file(pid: u32, name: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(format!("/proc/{pid}/{name}"))
        .with_context(|| format!("cannot read the accounts of process {pid}"))
}
