//! What a coordinator asks of an owner's replica. The shapes of `kula_replica`'s own messages, as plain data: keys,
//! mutations and partitions travel as `lattice` encodes them.

use crate::{
    blob::Blob,
    verb::{Lane, Verb},
};
use kula_types::{TableId, Timestamp, Token};
use serde::{Deserialize, Serialize};
use std::{ops::Bound, time::Duration};

/// Which ring, and which phase of a moving partition, the coordinator planned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    pub ring_version: u64,
    pub phase: u8,
}

/// Join this mutation, durably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apply {
    pub fence: Fence,
    /// The token of its key, so that the receiver finds the shard without decoding; the replica checks it.
    pub token: Token,
    /// As `Mutation::encode` made it.
    pub mutation: Blob,
    pub origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    Client { contextless: bool },
    Hint,
    Repair,
    Stream,
}

/// Read a slice of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    pub fence: Fence,
    pub table: TableId,
    pub token: Token,
    /// The partition key.
    pub key: Blob,
    /// Clustering keys from here to there; the static row always belongs.
    pub from: Bound<Blob>,
    pub to: Bound<Blob>,
    pub answer: Wanted,
    /// The coordinator's time of visibility.
    pub now: Timestamp,
}

/// Read a page of a table's partitions, in (token, key) order, of all that the receiver holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRange {
    pub fence: Fence,
    pub table: TableId,
    /// Right behind this place, a token and a partition key; an empty key stands before all keys of its token.
    pub after: (Token, Blob),
    /// The last token.
    pub through: Token,
    /// The receiver has bounds of its own.
    pub partitions_max: u64,
    pub bytes_max: u64,
}

/// How much of the partition the coordinator wants back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    Data,
    Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Served {
    Applied,
    /// As `lattice::codec::encode_partition` made it.
    Data(Blob),
    /// Two digests compare only under the same seal.
    Digest {
        digest: u128,
        seal: u64,
    },
    Range(RangePage),
}

/// Partitions, deleted ones too, ascending by token and key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangePage {
    #[serde(deserialize_with = "crate::list::grown")]
    pub rows: Vec<RangeRow>,
    /// All up to this place was looked at and there may be more behind it; none: the range was read to its end.
    pub resume: Option<(Token, Blob)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRow {
    pub token: Token,
    pub key: Blob,
    /// As `lattice::codec::encode_partition` made it.
    pub partition: Blob,
}

/// Why a replica did not serve. As `kula_replica::ReplicaError`: nothing was written, except by `Fenced` and
/// `DiskFull { wrote: true }`, after which that is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refused {
    StaleRing { have: u64 },
    Behind,
    UnknownTable { table: TableId },
    Overloaded { path: String, depth: u64, cap: u64 },
    Expired,
    ClockAhead { by: Duration },
    DiskFull { wrote: bool },
    TooLarge { bytes: u64, max: u64 },
    SiblingCap { siblings: u64, bytes: u64 },
    Damaged,
    InvalidMutation,
    Misplaced,
    Closed,
    Fenced,
}

pub type Answer = Result<Served, Refused>;

impl Verb for Apply {
    const CODE: u16 = 0x0501;
    const NAME: &'static str = "apply";
    const LANE: Lane = Lane::Request;
    type Answer = Answer;
}

impl Verb for Read {
    const CODE: u16 = 0x0502;
    const NAME: &'static str = "read";
    const LANE: Lane = Lane::Request;
    type Answer = Answer;
}

impl Verb for ReadRange {
    const CODE: u16 = 0x0503;
    const NAME: &'static str = "read_range";
    const LANE: Lane = Lane::Request;
    type Answer = Answer;
}
