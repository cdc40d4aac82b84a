//! What storage obeys. A command carries its `Reply`; one that is dropped unanswered is *unknown*.

use crate::{Identity, StorageError};
use bytes::Bytes;
use kula_actor::Reply;
use kula_lattice::{Mutation, Partition, Slice};
use kula_types::{ClusterId, PartitionKey, TableId, Token};

/// Join these mutations, durably as the log's mode promises, then answer each. All belong to the receiving shard.
#[derive(Debug)]
pub struct Apply {
    pub ops: Vec<ApplyOp>,
}

#[derive(Debug)]
pub struct ApplyOp {
    pub mutation: Mutation,
    /// The same mutation, encoded: what the log keeps.
    pub encoded: Bytes,
    /// A client's write without context: refused once memory knows too many siblings of its cell.
    pub sibling_cap: bool,
    pub reply: Reply<Result<(), StorageError>>,
}

/// What is known of these partitions, clipped to the slice.
#[derive(Debug)]
pub struct Read {
    pub ops: Vec<ReadOp>,
}

#[derive(Debug)]
pub struct ReadOp {
    pub table: TableId,
    pub token: Token,
    pub key: PartitionKey,
    pub slice: Slice,
    pub reply: Reply<Result<Partition, StorageError>>,
}

/// One page of a table's partitions in this shard, in (token, key) order, whole and joined. A deleted partition is in it
/// too: what it knows of its delete is what other replicas may lack.
#[derive(Debug)]
pub struct ReadRange {
    pub table: TableId,
    /// Begins right behind this place. No key is empty, so with an empty one it begins with the token itself.
    pub after: (Token, PartitionKey),
    /// The last token of the range.
    pub through: Token,
    /// Partitions of the page, at most `limits::RANGE_PARTITIONS_MAX`.
    pub partitions_max: usize,
    /// Bytes in memory that the page may take, at most `limits::RANGE_BYTES_MAX`; its first partition may take more.
    pub bytes_max: usize,
    pub reply: Reply<Result<RangePage, StorageError>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangePage {
    /// Ascending, each place once.
    pub rows: Vec<(Token, PartitionKey, Partition)>,
    /// All up to this place, and it too, was looked at; behind it there may be more. `None`: the range was read to its
    /// end. It lies behind `after`, and is the last row's place or behind it.
    pub resume: Option<(Token, PartitionKey)>,
}

/// Write the memtable out. Answers once what was written before is in tables.
#[derive(Debug)]
pub struct Flush {
    pub reply: Reply<Result<FlushReport, StorageError>>,
}

/// What a flush wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushReport {
    pub tables: usize,
    pub bytes: u64,
}

/// How a shard is doing.
#[derive(Debug)]
pub struct Statistics {
    pub reply: Reply<ShardStatistics>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStatistics {
    /// The active memtable.
    pub memtable_bytes: u64,
    /// The memtable that is being written out.
    pub frozen_bytes: u64,
    /// Mutations on their way to the log.
    pub pending_bytes: u64,
    pub sstables: usize,
    pub sstable_bytes: u64,
    /// Tables (of the schema) with data in this shard.
    pub tables: usize,
}

/// Make the clock's lease longer now: a stamp failed.
#[derive(Debug)]
pub struct ExtendLease {
    pub reply: Reply<Result<(), StorageError>>,
}

/// Say once which cluster this directory belongs to; the same one again is fine.
#[derive(Debug)]
pub struct BindCluster {
    pub cluster: ClusterId,
    pub reply: Reply<Result<Identity, StorageError>>,
}

/// The identity as it is on disk.
#[derive(Debug)]
pub struct GetIdentity {
    pub reply: Reply<Identity>,
}

/// Stop taking writes, sync what was taken and answer it; then answer this. Asked of each shard before the node stops.
#[derive(Debug)]
pub struct Drain {
    pub reply: Reply<()>,
}
