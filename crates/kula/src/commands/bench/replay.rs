//! How fast a start replays the commit log: a log of that size is written by the engine itself, the process forgets it
//! without a flush, as a crash does, and opens it again.

use super::{
    own_node::{directory, remove},
    report::{count, write},
};
use crate::{cli::BenchReplay, print, stopwatch::now};
use anyhow::{Context, ensure};
use bytes::Bytes;
use kula_clock::SystemClock;
use kula_disk::{Disk, OsDisk, log::Loss};
use kula_lattice::{Cell, CellId, Mutation, Partition, Row};
use kula_storage::{StorageConfig, open};
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, PartitionKey, TableId, Timestamp};
use serde_json::json;
use std::{path::Path, sync::Arc};

/// Mutations of one write and one sync.
const BATCH: usize = 256;

pub fn run(wanted: &BenchReplay) -> anyhow::Result<()> {
    ensure!((1..=16 << 10).contains(&wanted.mebibytes), "--mebibytes is 1 to 16384");
    let directory = directory();
    let measured = measure(wanted, &directory);
    remove(&directory);
    let (bytes, records, seconds) = measured?;
    let per_second = count(bytes) / seconds / 1e6;
    println!("replay of {records} records, {}: {seconds:.3} s, {per_second:.0} MB/s", print::bytes(bytes));
    write(
        &json!({ "title": "replay", "bytes": bytes, "records": records, "seconds": seconds, "mb_per_second": per_second }),
        wanted.json.as_deref(),
    )
}

fn measure(wanted: &BenchReplay, directory: &Path) -> anyhow::Result<(u64, u64, f64)> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open_or_create(directory)?);
    // Large enough that nothing is flushed: all of it is replayed.
    let room = (wanted.mebibytes + 64) << 22;
    let config = StorageConfig { memtable_heap: room, commitlog_total: room.max(1 << 30), ..StorageConfig::default() };
    let clock = SystemClock::new();
    let value = super::load::value(wanted.value_bytes);
    let mut opened = open(disk.clone(), &config, &clock, Loss::Refuse)?;
    let (mut written, mut number) = (0u64, 0u64);
    while written < wanted.mebibytes << 20 {
        let mut batch = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            number += 1;
            let mutation = mutation(number, &value)?;
            let encoded = mutation.encode();
            batch.push((mutation, encoded));
        }
        written += u64::try_from(BATCH * (value.len() + 64))?;
        opened.engine.apply(batch).context("the log could not be written")?;
    }
    drop(opened);
    let began = now();
    let opened = open(disk, &config, &clock, Loss::Refuse)?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(opened.replay.joined == number, "{} of {number} mutations were replayed", opened.replay.joined);
    Ok((opened.replay.bytes, opened.replay.records, seconds))
}

fn mutation(number: u64, value: &[u8]) -> anyhow::Result<Mutation> {
    let key = PartitionKey::copy_from(format!("key-{number:010}").as_bytes());
    let dot = Dot::new(Actor(7), 0, number)?;
    let at = Timestamp::from_micros(1_700_000_000_000_000 + i64::try_from(number)?)?;
    let cell = Cell::put(Key::of(at, dot), None, Bytes::copy_from_slice(value));
    let mut row = Row::default();
    row.cells.insert(CellId { column: ColumnId(1), path: Bytes::new() }, cell);
    let mut delta = Partition::default();
    delta.rows.insert(ClusteringKey::default(), row);
    Ok(Mutation {
        table: TableId([1; 16]),
        token: kula_placement::Partitioner::Murmur3.token(&key),
        key,
        mid: dot,
        previous: number - 1,
        delta,
    })
}
