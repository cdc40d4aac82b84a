//! What a coordinator obeys, and how it answers.

use crate::CoordinatorError;
use bytes::Bytes;
use kula_actor::Reply;
use kula_lattice::Digest;
use kula_replica::ReplicaError;
use kula_types::{Consistency, Dot, Mono, NodeId, PartitionKey, Timestamp};
use std::time::Duration;

/// What a request is about, in the user's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub keyspace: String,
    pub table: String,
    /// 1 to `kula_types::limits::KEY_BYTES_MAX` bytes.
    pub key: PartitionKey,
}

/// Put or delete one key.
#[derive(Debug)]
pub struct Write {
    pub target: Target,
    pub change: Change,
    /// The context of the read this write follows, as it was handed out.
    pub context: Option<String>,
    /// The client's own timestamp: LWW tables only.
    pub timestamp: Option<Timestamp>,
    /// How long the value lives.
    pub ttl: Option<Duration>,
    /// Makes a retry through any node the same sibling. At most `kula_types::limits::IDEMPOTENCY_KEY_BYTES_MAX`.
    pub idempotency_key: Option<Bytes>,
    pub consistency: Consistency,
    /// At most `kula_types::limits::DEADLINE_MS_MAX` from now; later ones are brought forward to that.
    pub deadline: Mono,
    pub reply: Reply<Result<WriteAnswer, CoordinatorError>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Put {
        /// At most `kula_types::limits::VALUE_BYTES_MAX`.
        value: Bytes,
        content_type: Option<String>,
    },
    Delete,
}

/// A write that enough owners made durable.
#[derive(Debug)]
pub struct WriteAnswer {
    /// Owners that had acknowledged when this was sent.
    pub acked: u32,
    /// The effective replication factor: owners the write went to or should have gone to.
    pub rf: u32,
    /// Copies kept for an owner elsewhere; never counted in `acked`.
    pub hinted: u32,
    /// Of a causal put: the context of its own dot.
    pub context: Option<String>,
    pub replicas: Vec<ReplicaReport>,
    pub timing: Timing,
}

/// Get one key.
#[derive(Debug)]
pub struct Read {
    pub target: Target,
    /// Show the newest sibling alone; the context then covers all.
    pub resolve_lww: bool,
    pub consistency: Consistency,
    /// As in `Write`.
    pub deadline: Mono,
    pub reply: Reply<Result<ReadAnswer, CoordinatorError>>,
}

#[derive(Debug)]
pub struct ReadAnswer {
    pub found: Found,
    /// What a write that follows should carry; absent where there is nothing to cover.
    pub context: Option<String>,
    /// Names the state that was shown, without quotes; absent where nothing was.
    pub etag: Option<String>,
    /// Owners that answered.
    pub acked: u32,
    pub rf: u32,
    pub replicas: Vec<ReplicaReport>,
    pub timing: Timing,
}

/// What a key shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    Nothing,
    One(Value),
    /// Two or more concurrent values in dot order, at most `kula_types::limits::SIBLINGS_SHOWN_MAX` of them.
    Siblings {
        siblings: Vec<Sibling>,
        /// How many are not shown.
        more: u64,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    pub value: Bytes,
    pub content_type: Option<String>,
    pub written: Timestamp,
    pub expires: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sibling {
    pub value: Value,
    pub dot: Dot,
}

/// One owner's part in a request.
#[derive(Clone, Debug)]
pub struct ReplicaReport {
    pub node: NodeId,
    pub name: String,
    pub outcome: ReplicaOutcome,
    /// From the first send until its last answer, or until ours if it had not answered.
    pub wait: Duration,
    /// Of the state it answered a read with.
    pub digest: Option<Digest>,
    /// Whether this read sent it what it lacked.
    pub repaired: bool,
}

#[derive(Clone, Debug)]
pub enum ReplicaOutcome {
    /// Enough others were asked.
    NotAsked,
    /// No way to it was known; nothing was sent.
    Unreachable,
    /// Sent, no answer yet: whether it was served is unknown.
    Waiting,
    Applied,
    Data,
    Digest,
    /// It answered, and did not serve.
    Refused(ReplicaError),
    /// The answer was lost on the way: whether it was served is unknown.
    Lost,
    /// It has not acknowledged; a hint for it is durable on this node. Never an ack.
    Hinted,
}

/// Where the time of a request went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timing {
    /// In the coordinator's mailbox.
    pub queue: Duration,
    /// Waiting for replicas.
    pub replicas: Duration,
    /// From the front door's call to this answer.
    pub total: Duration,
}
