//! What hand-off counts. Names are part of `/metrics`.

use crate::messages::HintCounts;
use kula_actor::{Counter, Gauge, Histogram, Registry};
use std::time::Duration;

pub(crate) struct Metrics {
    kept: Counter,
    not_kept: Counter,
    delivered: Counter,
    delivered_bytes: Counter,
    given_up: Counter,
    lost: Counter,
    waiting: Gauge,
    waiting_bytes: Gauge,
    sync_seconds: Histogram,
}

impl Metrics {
    pub fn new(registry: &Registry) -> Self {
        let counter = |name, help| registry.counter(name, help, &[]);
        let gauge = |name, help| registry.gauge(name, help, &[]);
        Metrics {
            kept: counter("kula_hints_kept", "Hints that were synced here."),
            not_kept: counter("kula_hints_not_kept", "Hints that were refused: full, no space, overloaded."),
            delivered: counter("kula_hints_delivered", "Hints that their target acknowledged."),
            delivered_bytes: counter("kula_hints_delivered_bytes", "Bytes of hints that their target acknowledged."),
            given_up: counter("kula_hints_undeliverable", "Hints that their target can never apply."),
            lost: counter("kula_hints_lost", "Hints that could not be read back from this node's disk."),
            waiting: gauge("kula_hints_waiting", "Hints that no target acknowledged yet."),
            waiting_bytes: gauge("kula_hints_waiting_bytes", "Bytes of hints that no target acknowledged yet."),
            sync_seconds: registry.histogram(
                "kula_hints_sync_seconds",
                "How long it took to write and sync a batch of hints.",
                &[],
                &[0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0],
            ),
        }
    }

    pub fn batch(&self, kept: u64, took: Duration) {
        self.kept.inc_by(kept);
        self.sync_seconds.observe(took.as_secs_f64());
    }

    pub fn not_kept(&self, count: u64) {
        self.not_kept.inc_by(count);
    }

    pub fn delivered(&self, count: u64, bytes: u64) {
        self.delivered.inc_by(count);
        self.delivered_bytes.inc_by(bytes);
    }

    pub fn gave_up(&self) {
        self.given_up.inc();
    }

    pub fn lost(&self, count: u64) {
        self.lost.inc_by(count);
    }

    pub fn owed(&self, counts: &HintCounts) {
        let bytes: u64 = counts.targets.iter().map(|target| target.bytes).sum();
        self.waiting.set(i64::try_from(counts.total()).unwrap_or(i64::MAX));
        self.waiting_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
