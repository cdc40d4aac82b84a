//! Why a replica did not serve a request, by what its coordinator may do about it.

use kula_actor::DoorError;
use kula_lattice::DecodeError;
use kula_storage::StorageError;
use kula_types::TableId;
use std::{sync::Arc, time::Duration};

/// Every variant but `Fenced`, and `DiskFull` where it says so, means that nothing was written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The sender planned with an older ring than `have`: fetch it, plan again.
    #[error("the request was planned with an older ring; this replica has version {have}")]
    StaleRing { have: u64 },
    /// The sender's ring is newer than ours: it is being fetched, ask again.
    #[error("this replica has not heard of the ring the request was planned with")]
    Behind,
    #[error("table {table} is not known here")]
    UnknownTable { table: TableId },
    #[error("{path} has too much in hand")]
    Overloaded { path: Arc<str>, depth: usize, cap: usize },
    /// The deadline had passed before the request was served.
    #[error("the deadline had passed before the request was served")]
    Expired,
    /// A client's write dated too far ahead of this replica's clock would win for ever.
    #[error("the write is dated {} ms past what this replica takes", by.as_millis())]
    ClockAhead {
        /// How far past the clock of this replica.
        by: Duration,
    },
    /// `wrote`: a restart of the replica may find the write or not.
    #[error("the disk is full")]
    DiskFull { wrote: bool },
    /// Its commit log takes no mutation of this size.
    #[error("a mutation of {bytes} bytes; the commit log takes at most {max}")]
    TooLarge { bytes: usize, max: usize },
    /// A write without context to a key with this many siblings: read, then write with the context.
    #[error("{siblings} siblings of {bytes} bytes are in the way of a write without context")]
    SiblingCap { siblings: usize, bytes: usize },
    /// What is stored here is damaged, so the answer is *unknown*, not absent: this replica does not count.
    #[error("the data asked for is damaged here")]
    Damaged,
    #[error("not a mutation: {0}")]
    InvalidMutation(#[from] DecodeError),
    /// A peer's word for bytes that are no request: what was wrong with them it did not say.
    #[error("the replica could not read the request")]
    Malformed,
    /// The mutation or the key is well formed and does not belong here.
    #[error("the request belongs to another shard, or its token is not its key's")]
    Misplaced,
    /// No connection to the replica's node, or one whose node does not know this request: nothing was sent, or nothing
    /// was begun.
    #[error("there is no way to the replica")]
    Unreachable,
    /// The replica is stopping or gone.
    #[error("the replica takes no more requests")]
    Closed,
    /// Whether a write survives is unknown: the log failed under it.
    #[error("the replica's storage is fenced")]
    Fenced,
}

impl ReplicaError {
    /// Whether it is certain that a write refused in this way is not stored here.
    pub const fn refused_before_applying(&self) -> bool {
        !matches!(self, ReplicaError::Fenced | ReplicaError::DiskFull { wrote: true })
    }
}

impl From<StorageError> for ReplicaError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::DiskFull { wrote } => ReplicaError::DiskFull { wrote },
            StorageError::TooLarge { bytes, bytes_max } => ReplicaError::TooLarge { bytes, max: bytes_max },
            // Storage refuses by bytes, which are no depth of a mailbox.
            StorageError::Overloaded { path } => ReplicaError::Overloaded { path, depth: 0, cap: 0 },
            StorageError::SiblingCap { siblings, bytes } => ReplicaError::SiblingCap { siblings, bytes },
            StorageError::Damaged { .. } => ReplicaError::Damaged,
            StorageError::ShuttingDown => ReplicaError::Closed,
            // What else storage may say ends the node, or is said before it starts.
            _ => ReplicaError::Fenced,
        }
    }
}

/// Nothing of the message was taken.
impl From<&DoorError> for ReplicaError {
    fn from(error: &DoorError) -> Self {
        match error {
            DoorError::Overloaded { path, depth, cap } => {
                ReplicaError::Overloaded { path: Arc::clone(path), depth: *depth, cap: *cap }
            }
            DoorError::Closed { .. } => ReplicaError::Closed,
        }
    }
}
