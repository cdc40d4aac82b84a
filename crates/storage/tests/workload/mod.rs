//! What the tests of this crate share: a tiny storage, minted writes, and the model that a read must equal.

use bytes::Bytes;
use kula_clock::ManualClock;
use kula_disk::{Disk, log::Loss};
use kula_lattice::{Digest, Mutation, Partition, Seal};
use kula_storage::{Compression, OpenedStorage, StorageConfig, StorageError, SyncMode, open};
use kula_testkit::{Random, lattice};
use kula_types::{Actor, Dot, PartitionKey, TableId, Timestamp, Token};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use std::sync::Arc;

pub const TABLES: u8 = 2;
pub const KEYS: u8 = 5;

/// A storage so small that a few writes fill a memtable, a segment, the log.
pub fn tiny() -> StorageConfig {
    StorageConfig {
        shards: Some(2),
        memtable_heap: 64 << 10,
        memtable_cleanup_threshold: 0.05,
        commitlog_total: 48 << 10,
        commitlog_segment: 12 << 10,
        sync: SyncMode::Group {},
        compression: Compression::Lz4,
    }
}

pub fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_micros(1_000_000).unwrap())
}

pub fn open_on(disk: &(impl Disk + Clone)) -> Result<OpenedStorage, StorageError> {
    open(Arc::new(disk.clone()), &tiny(), &clock(), Loss::Refuse)
}

pub fn mutation(table: u8, key: u8, sequence: u64, delta: Partition) -> (Mutation, Bytes) {
    let (table, token, key) = place(table, key);
    let mutation =
        Mutation { table, token, key, mid: Dot::new(Actor(9), 0, sequence).unwrap(), previous: sequence - 1, delta };
    let encoded = mutation.encode();
    // As a coordinator does: what is applied are slices of what is logged.
    (Mutation::decode(&encoded).unwrap(), encoded)
}

pub type Place = (TableId, Token, PartitionKey);

/// Mutations with their encodings, applied together.
pub type Batch = Vec<(Mutation, Bytes)>;

/// Every place that a write may go to.
pub fn places() -> impl Iterator<Item = Place> {
    let keys = |table| (0..KEYS).map(move |key| place(table, key));
    (0..TABLES).flat_map(keys)
}

pub fn place(table: u8, key: u8) -> Place {
    // Spread over shards, and a key's token is its own.
    let token = Token(i64::from(key).wrapping_mul(0x3333_3333_3333_3333));
    (TableId([table; 16]), token, PartitionKey::copy_from(&[key; 3]))
}

/// What a reader sees: equal for equal normal forms.
pub fn digest(partition: Partition) -> Digest {
    partition.pruned().digest(None, Seal::NONE)
}

/// Batches of minted writes, the same for the same seed.
pub fn batches(seed: u64, count: usize) -> Vec<Batch> {
    let mut random = Random::new(seed);
    let mut runner = TestRunner::deterministic();
    let histories: Vec<_> =
        (0..TABLES * KEYS).map(|_| lattice::history(12).new_tree(&mut runner).unwrap().current()).collect();
    let mut deltas: Vec<_> = histories.iter().map(|history| history.minted.iter().cycle()).collect();
    let mut sequence = 0;
    let mut next = |random: &mut Random| {
        sequence += 1;
        let (table, key) = (random.below(usize::from(TABLES)), random.below(usize::from(KEYS)));
        let (_, _, delta) = deltas[table * usize::from(KEYS) + key].next().unwrap();
        mutation(u8::try_from(table).unwrap(), u8::try_from(key).unwrap(), sequence, delta.clone())
    };
    (0..count).map(|_| (0..1 + random.below(12)).map(|_| next(&mut random)).collect()).collect()
}
