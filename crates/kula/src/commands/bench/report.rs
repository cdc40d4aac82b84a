//! Figures, printed for people and written for scripts.

use super::meter::Usage;
use crate::print;
use anyhow::Context;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path, time::Duration};

/// One measured phase.
pub struct Phase {
    pub name: String,
    pub operations: u64,
    /// How many, by what they were.
    pub errors: BTreeMap<String, u64>,
    pub wall: Duration,
    /// Microseconds.
    pub latency: Histogram<u64>,
    /// What the node and the load generator spent, where they are two processes; else all is the node's.
    pub node: Option<(Usage, Usage)>,
    pub client: Option<(Usage, Usage)>,
}

impl Phase {
    pub fn per_second(&self) -> f64 {
        count(self.operations) / self.wall.as_secs_f64().max(1e-9)
    }

    fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    fn cpu_us(&self, usage: Option<(Usage, Usage)>) -> Option<f64> {
        let (before, after) = usage?;
        let spent = after.cpu.saturating_sub(before.cpu);
        Some(spent.as_secs_f64() * 1e6 / count(self.operations.max(1)))
    }

    pub fn json(&self) -> Value {
        let quantile = |q| self.latency.value_at_quantile(q);
        json!({
            "phase": self.name, "operations": self.operations, "errors": self.error_count(), "errors_by_kind": self.errors,
            "wall_s": self.wall.as_secs_f64(), "per_second": self.per_second(),
            "p50_us": quantile(0.5), "p95_us": quantile(0.95), "p99_us": quantile(0.99), "p999_us": quantile(0.999), "max_us": self.latency.max(),
            "node_cpu_us": self.cpu_us(self.node), "client_cpu_us": self.cpu_us(self.client),
            "node_resident_bytes": self.node.map(|(_, after)| after.resident_bytes),
        })
    }
}

/// Latencies from 1 µs to a minute, three digits.
pub fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000, 3).context("cannot make a histogram")
}

pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "a count of operations in a figure")]
pub fn count(number: u64) -> f64 {
    number as f64
}

/// Prints the phases and, where asked, writes them.
pub fn show(title: &str, phases: &[Phase], to: Option<&Path>) -> anyhow::Result<()> {
    println!("{title}\n{}", page(phases));
    write(&json!({ "title": title, "phases": phases.iter().map(Phase::json).collect::<Vec<_>>() }), to)
}

/// The phases as a table, and their errors by kind.
pub fn page(phases: &[Phase]) -> String {
    let row = |phase: &Phase| {
        let quantile = |q| print::micros(phase.latency.value_at_quantile(q));
        let cpu = |usage| phase.cpu_us(usage).map_or("-".into(), |micros| format!("{micros:.1} µs"));
        vec![
            phase.name.clone(),
            phase.operations.to_string(),
            phase.error_count().to_string(),
            format!("{:.0}", phase.per_second()),
            quantile(0.5),
            quantile(0.95),
            quantile(0.99),
            quantile(0.999),
            print::micros(phase.latency.max()),
            cpu(phase.node),
            cpu(phase.client),
            phase.node.map_or("-".into(), |(_, after)| print::bytes(after.resident_bytes)),
        ]
    };
    let headers = [
        "PHASE",
        "OPS",
        "ERRORS",
        "OPS/S",
        "P50",
        "P95",
        "P99",
        "P99.9",
        "MAX",
        "NODE CPU/OP",
        "LOAD CPU/OP",
        "NODE MEMORY",
    ];
    let mut page = print::table(&headers, phases.iter().map(row).collect());
    for phase in phases {
        for (kind, count) in &phase.errors {
            page.push_str(&format!("\n{}: {count} × {kind}", phase.name));
        }
    }
    page
}

pub fn write(figures: &Value, to: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = to else { return Ok(()) };
    #[allow(clippy::disallowed_methods, reason = "figures for the user, not the database's files")]
    let written = std::fs::write(path, format!("{figures:#}\n"));
    written.with_context(|| format!("cannot write {}", path.display()))
}
