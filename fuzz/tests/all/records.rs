//! Records of the commit log with whole checksums and any payload, met by a start of the storage: what it takes in must
//! also be fit for a flush, and be read back from the table.
//!
//! Promise: P19

use crate::{
    input::{Input, samples},
    meter::Meter,
    mutation::live_is_seen,
    target,
};
use bytes::Bytes;
use kula_clock::ManualClock;
use kula_disk::{
    SimDisk, Survivors,
    log::{LogConfig, Loss, SegmentLog},
};
use kula_lattice::{Mutation, Seal, Slice};
use kula_storage::{Compression, OpenedStorage, StorageConfig, StorageError, SyncMode, open};
use kula_testkit::lattice;
use kula_types::Timestamp;
use std::sync::{Arc, LazyLock};

const SEGMENT_BYTES: u64 = 16 << 10;
const RECORD_BYTES_MAX: u32 = 3_500;
/// The window over the segment, the record's own copy, and the mutation as a memtable keeps it; a record is short beside
/// its segment.
const FACTOR: usize = 4;

fn config() -> StorageConfig {
    StorageConfig {
        shards: Some(2),
        memtable_heap: 1 << 20,
        commitlog_total: 4 * SEGMENT_BYTES,
        commitlog_segment: SEGMENT_BYTES,
        sync: SyncMode::Group {},
        compression: Compression::Lz4,
        ..StorageConfig::default()
    }
}

fn start(disk: &SimDisk) -> Result<OpenedStorage, StorageError> {
    let clock = ManualClock::at(Timestamp::from_micros(1_000_000).unwrap());
    open(Arc::new(disk.clone()), &config(), &clock, Loss::Refuse)
}

/// A directory that was started once.
static STARTED: LazyLock<SimDisk> = LazyLock::new(|| {
    let disk = SimDisk::new(1);
    drop(start(&disk).unwrap());
    disk.crash(Survivors::All)
});

/// `docs/format/commit-log-record.md`: kind, shard, mutation; and the record that means nothing.
fn records() -> Vec<Bytes> {
    let shard_of = |mutation: &Mutation| start(&SimDisk::new(1)).unwrap().engine.sharding.shard_of(mutation.token);
    let record = |mutation: &Mutation| {
        let [low, high] = shard_of(mutation).to_le_bytes();
        Bytes::from([&[1, low, high], &mutation.encode()[..]].concat())
    };
    let mut records: Vec<Bytes> = samples(lattice::mutation(), 200).iter().map(record).collect();
    records.push(Bytes::from_static(&[0]));
    records
}

fn record(input: &Input, meter: &Meter) -> bool {
    let payload = &input.bytes[..input.bytes.len().min(RECORD_BYTES_MAX as usize)];
    let disk = STARTED.crash(Survivors::All);
    let log_config = LogConfig { segment_bytes: SEGMENT_BYTES as u32, ..LogConfig::new(1, RECORD_BYTES_MAX) };
    let (mut log, _) = SegmentLog::open(Arc::new(disk.clone()), "commitlog", log_config).unwrap();
    log.append(&[payload]).unwrap();
    log.sync().unwrap();
    drop(log);
    let started = meter.bounded(payload.len() + SEGMENT_BYTES as usize, FACTOR, || start(&disk));
    let Ok(mut storage) = started else { return false };
    if payload == [0] {
        return true;
    }
    let mutation = Mutation::decode(&Bytes::copy_from_slice(&payload[3..])).unwrap();
    let read = |storage: &OpenedStorage| {
        let Mutation { table, token, key, .. } = &mutation;
        storage.engine.read(*table, *token, key, &Slice::all()).unwrap()
    };
    let expected = mutation.delta.clone().pruned().digest(None, Seal::NONE);
    assert_eq!(read(&storage).digest(None, Seal::NONE), expected);
    for shard in 0..storage.engine.sharding.shards() {
        storage.engine.flush(shard).unwrap();
    }
    drop(storage);
    let found = read(&start(&disk).unwrap());
    live_is_seen(&found);
    assert_eq!(found.digest(None, Seal::NONE), expected);
    true
}

target!(a_commit_log_record_of_any_bytes, 20, records(), record);
