//! What storage counts. Names are part of `/metrics`.

use crate::engine::ReplayReport;
use kula_actor::{Counter, Gauge, Histogram, Registry};
use std::time::Duration;

/// The commit log's.
pub(crate) struct LogMetrics {
    syncs: Counter,
    records: Counter,
    bytes: Counter,
    batch_records: Histogram,
    sync_seconds: Histogram,
    log_bytes: Gauge,
}

impl LogMetrics {
    pub fn new(registry: &Registry, replay: &ReplayReport) -> Self {
        let replayed = registry.counter("kula_commitlog_replayed_records", "Records read at the start.", &[]);
        replayed.inc_by(replay.records);
        let replayed = registry.counter("kula_commitlog_replayed_bytes", "Bytes of records read at the start.", &[]);
        replayed.inc_by(replay.bytes);
        LogMetrics {
            syncs: registry.counter("kula_commitlog_syncs", "Syncs of the commit log.", &[]),
            records: registry.counter("kula_commitlog_records", "Records appended.", &[]),
            bytes: registry.counter("kula_commitlog_bytes", "Bytes of mutations appended.", &[]),
            batch_records: registry.histogram(
                "kula_commitlog_batch_records",
                "Records that shared one write.",
                &[],
                &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0],
            ),
            sync_seconds: registry.histogram(
                "kula_commitlog_sync_seconds",
                "How long a sync took.",
                &[],
                &[0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0],
            ),
            log_bytes: registry.gauge("kula_commitlog_size_bytes", "Disk that the commit log takes.", &[]),
        }
    }

    pub fn appended(&self, records: usize, bytes: usize, log_bytes: u64) {
        self.records.inc_by(count(records));
        self.bytes.inc_by(count(bytes));
        self.batch_records.observe(f64::from(u32::try_from(records).unwrap_or(u32::MAX)));
        self.log_bytes.set(level(log_bytes));
    }

    pub fn synced(&self, took: Duration) {
        self.syncs.inc();
        self.sync_seconds.observe(took.as_secs_f64());
    }

    pub fn released(&self, log_bytes: u64) {
        self.log_bytes.set(level(log_bytes));
    }
}

/// One shard's.
pub(crate) struct ShardMetrics {
    writes: Counter,
    reads: Counter,
    range_pages: Counter,
    range_partitions: Counter,
    refused: Counter,
    flushes: Counter,
    flushed_bytes: Counter,
    memtable_bytes: Gauge,
    sstables: Gauge,
    sstable_bytes: Gauge,
}

impl ShardMetrics {
    pub fn new(registry: &Registry, shard: u16) -> Self {
        let shard = shard.to_string();
        let labels = [("shard", shard.as_str())];
        let counter = |name, help| registry.counter(name, help, &labels);
        let gauge = |name, help| registry.gauge(name, help, &labels);
        ShardMetrics {
            writes: counter("kula_storage_writes", "Mutations joined."),
            reads: counter("kula_storage_reads", "Partitions read."),
            range_pages: counter("kula_storage_range_pages", "Pages read of ranges of partitions."),
            range_partitions: counter("kula_storage_range_partitions", "Partitions in those pages."),
            refused: counter("kula_storage_refused", "Mutations refused: no room, too many siblings, stopping."),
            flushes: counter("kula_storage_flushes", "Memtables written out."),
            flushed_bytes: counter("kula_storage_flushed_bytes", "Bytes of SSTables that flushes wrote."),
            memtable_bytes: gauge("kula_storage_memtable_bytes", "Memory held by active and frozen memtables."),
            sstables: gauge("kula_storage_sstables", "Live SSTables."),
            sstable_bytes: gauge("kula_storage_sstable_bytes", "Disk that live SSTables take."),
        }
    }

    pub fn wrote(&self, mutations: usize) {
        self.writes.inc_by(count(mutations));
    }

    pub fn read(&self) {
        self.reads.inc();
    }

    pub fn read_range(&self, partitions: usize) {
        self.range_pages.inc();
        self.range_partitions.inc_by(count(partitions));
    }

    pub fn refused(&self) {
        self.refused.inc();
    }

    pub fn flushed(&self, bytes: u64) {
        self.flushes.inc();
        self.flushed_bytes.inc_by(bytes);
    }

    pub fn holds(&self, statistics: &crate::ShardStatistics) {
        self.memtable_bytes.set(level(statistics.memtable_bytes + statistics.frozen_bytes));
        self.sstables.set(level(count(statistics.sstables)));
        self.sstable_bytes.set(level(statistics.sstable_bytes));
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn level(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
