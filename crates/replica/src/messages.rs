//! What a replica obeys. It publishes nothing: each request carries the way back.

use crate::ReplicaError;
use bytes::Bytes;
use kula_actor::Reply;
use kula_lattice::{Digest, Partition, Seal, Slice};
use kula_storage::RangePage;
use kula_types::{Mono, NodeId, PartitionKey, TableId, Timestamp, Token};

/// Which ring, and which phase of a moving partition, the sender planned with (`design.md` §3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fence {
    pub ring_version: u64,
    pub phase: u8,
}

/// What one coordinator's mailbox poll has for one shard. At most `limits::BATCH_REQUESTS_MAX` requests are looked at;
/// the rest are answered `Overloaded`.
#[derive(Debug, kula_actor::Message)]
#[rtype(result = "()")]
pub struct ReplicaBatch {
    pub requests: Vec<Request>,
}

/// One request. A reply that is dropped unanswered is *unknown*.
#[derive(Debug)]
pub struct Request {
    /// The peer whose coordinator asks; none for this node's own.
    pub from: Option<NodeId>,
    pub fence: Fence,
    /// Past it the request is answered `Expired`, unserved.
    pub deadline: Mono,
    pub op: Op,
    pub reply: Reply<Result<Outcome, ReplicaError>>,
}

#[derive(Debug)]
pub enum Op {
    /// Join this mutation, durably, then answer `Outcome::Applied`.
    Apply {
        /// As `Mutation::encode` made it.
        mutation: Bytes,
        origin: Origin,
    },
    Read {
        table: TableId,
        key: PartitionKey,
        slice: Slice,
        answer: Answer,
        /// The coordinator's time of visibility. A replica never uses its own clock for that; a slice with a limit
        /// needs this one.
        now: Timestamp,
    },
    /// A page of a table's partitions, in (token, key) order, from all shards of this replica's node.
    ReadRange {
        table: TableId,
        /// Right behind this place; an empty key stands before all keys of its token.
        after: (Token, PartitionKey),
        /// The last token.
        through: Token,
        /// At most `kula_storage::limits::RANGE_PARTITIONS_MAX`, `RANGE_BYTES_MAX`.
        partitions_max: usize,
        bytes_max: usize,
    },
}

/// Where a mutation comes from. Only a client's fresh write may be refused for its date or for too many siblings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    Client {
        /// A causal write that saw nothing: one more sibling.
        contextless: bool,
    },
    Hint,
    Repair,
    Stream,
}

/// How much of the partition a read wants back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Data,
    Digest,
}

/// A request that was served.
#[derive(Debug)]
pub enum Outcome {
    Applied,
    Data(Partition),
    /// The digest of the normal form under `seal`; two digests compare only under the same seal.
    Digest {
        digest: Digest,
        seal: Seal,
    },
    Range(RangePage),
}
