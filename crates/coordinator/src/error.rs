//! Why a request was not answered as asked, by what the client may do about it; and whether a write may have happened.

use crate::messages::ReplicaReport;
use kula_lattice::context::ContextError;
use std::{sync::Arc, time::Duration};

/// Whether a write that failed may nevertheless be stored somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// It was not sent, or every owner it was sent to refused it before applying it.
    No,
    /// A retry with the same idempotency key, or with the same context, is safe.
    Unknown,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum CoordinatorError {
    // The request cannot be served as it is; nothing was sent.
    #[error("keyspace {keyspace:?} does not exist")]
    UnknownKeyspace { keyspace: String },
    #[error("table {table:?} does not exist in keyspace {keyspace:?}")]
    UnknownTable { keyspace: String, table: String },
    #[error("a key has 1 to {max} bytes, this one has {bytes}")]
    KeyLength { bytes: usize, max: usize },
    #[error("a value has at most {max} bytes, this one has {bytes}")]
    ValueTooLarge { bytes: usize, max: usize },
    #[error("a content type has at most {max} bytes, this one has {bytes}")]
    ContentTypeTooLong { bytes: usize, max: usize },
    #[error("an idempotency key has 1 to {max} bytes, this one has {bytes}")]
    IdempotencyKeyLength { bytes: usize, max: usize },
    #[error("the context is not usable: {0}")]
    BadContext(ContextError),
    #[error("a bucket's writes are ordered by their context, not by a client's timestamp")]
    TimestampNotAllowed,
    #[error("{n} replicas were asked for, the keyspace has {rf}")]
    LevelNotAllowed { n: u32, rf: u32 },
    #[error("{what} is not there yet")]
    NotThereYet { what: &'static str },

    // Not now; nothing was sent.
    #[error("{alive} of {need} replicas needed can be reached")]
    Unavailable { need: u32, alive: u32, replicas: Vec<ReplicaReport> },
    /// No stamp could be given: the disk did not confirm a longer lease of the clock.
    #[error("the clock's lease on this node has run out")]
    ClockLease,
    #[error("this node is stopping")]
    Stopping,

    // Refused by what the owners hold or are.
    #[error("{path} has too much in hand")]
    Overloaded { path: Arc<str>, depth: usize, cap: usize, applied: Applied },
    /// Read (the context is that of a read made for you), merge, then write with the context.
    #[error("{siblings} siblings of {bytes} bytes are in the way of a write without context")]
    SiblingCap { siblings: usize, bytes: usize, context: Option<String>, applied: Applied },
    #[error("the write is dated {} ms ahead of its owners' clocks", by.as_millis())]
    ClockAhead { by: Duration, applied: Applied },
    #[error("the disk of the owners is full")]
    DiskFull { applied: Applied },
    /// What is stored is damaged at too many owners: the answer is unknown, not "not found".
    #[error("the data is damaged at {damaged} of its owners; {acked} of {need} replicas needed answered")]
    Damaged { need: u32, acked: u32, damaged: u32, replicas: Vec<ReplicaReport> },

    /// Too few owners answered in time, or too few can still answer. Of a write: whether it happened is unknown.
    #[error("{acked} of {need} replicas needed answered")]
    Timeout { need: u32, acked: u32, replicas: Vec<ReplicaReport> },
}

impl CoordinatorError {
    /// What this says of a write; a read changes nothing whatever it answers.
    pub const fn applied(&self) -> Applied {
        match self {
            CoordinatorError::UnknownKeyspace { .. }
            | CoordinatorError::UnknownTable { .. }
            | CoordinatorError::KeyLength { .. }
            | CoordinatorError::ValueTooLarge { .. }
            | CoordinatorError::ContentTypeTooLong { .. }
            | CoordinatorError::IdempotencyKeyLength { .. }
            | CoordinatorError::BadContext(_)
            | CoordinatorError::TimestampNotAllowed
            | CoordinatorError::LevelNotAllowed { .. }
            | CoordinatorError::NotThereYet { .. }
            | CoordinatorError::Unavailable { .. }
            | CoordinatorError::ClockLease
            | CoordinatorError::Stopping => Applied::No,
            CoordinatorError::Overloaded { applied, .. }
            | CoordinatorError::SiblingCap { applied, .. }
            | CoordinatorError::ClockAhead { applied, .. }
            | CoordinatorError::DiskFull { applied } => *applied,
            // A read's error; if a delete's own read meets it, nothing was sent.
            CoordinatorError::Damaged { .. } => Applied::No,
            CoordinatorError::Timeout { .. } => Applied::Unknown,
        }
    }
}

impl Applied {
    pub const fn as_str(self) -> &'static str {
        match self {
            Applied::No => "no",
            Applied::Unknown => "unknown",
        }
    }
}
