//! What can go wrong in storage, by what a caller may do about it. Every variant says whether state changed.

use kula_disk::{
    DiskError,
    log::{Damage, LogError},
};
use kula_types::{ClusterId, TableId};
use std::sync::Arc;

#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    // While running: answers to messages.
    /// Free space; writes resume by themselves, reads go on. Nothing was written, unless `wrote`: then a restart may
    /// find the write or not.
    #[error("the disk is full; {}", if *wrote { "whether the write survives is unknown" } else { "nothing was written" })]
    DiskFull { wrote: bool },
    /// Nothing was written. Ask again later, or elsewhere.
    #[error("{path} has too much in hand; nothing was written")]
    Overloaded { path: Arc<str> },
    /// Nothing was written, and never will be: a segment of the log cannot hold it.
    #[error("a mutation of {bytes} bytes; the commit log takes at most {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    /// Nothing was written. Read, then write with the context of that read.
    #[error("{siblings} siblings of {bytes} bytes are in the way of a write without context; nothing was written")]
    SiblingCap { siblings: usize, bytes: usize },
    /// Nothing has changed. What was asked for is *unknown*, not absent: ask another replica.
    #[error("shard {shard}: table {table} is damaged here, so this range is unknown: {what}")]
    Damaged { shard: u16, table: TableId, what: Arc<str> },
    /// Nothing has changed. The clock's durable lease could not be extended: no stamp may be given.
    #[error("the clock's lease could not be extended: {cause}")]
    LeaseLost { cause: Arc<DiskError> },
    /// Whether the write survives is unknown: the log failed, and this node takes no further write.
    #[error("storage is fenced: {cause}")]
    Fenced { cause: Arc<str> },
    /// Nothing was written: the node is stopping.
    #[error("storage is stopping; nothing was written")]
    ShuttingDown,

    // At the start.
    /// Another process holds this data directory.
    #[error("this data directory is in use by a running node")]
    Locked,
    #[error("configuration: {0}")]
    Config(#[from] crate::config::ConfigError),
    /// The number of shards is fixed when the directory is made.
    #[error("this data directory was made with {have} shards; storage.shards asks for {asked}")]
    ShardsFixed { have: u16, asked: u16 },
    #[error("this data directory belongs to cluster {have}, not to {asked}")]
    OtherCluster { have: ClusterId, asked: ClusterId },
    /// The directory holds data but no identity: it was damaged, or half copied.
    #[error("this data directory holds data but no identity file")]
    IdentityMissing,
    #[error("the identity file is damaged: {what}")]
    IdentityDamaged { what: Arc<str> },
    #[error("the manifest of shard {shard} is damaged: {what}")]
    ManifestDamaged { shard: u16, what: Arc<str> },
    /// The log has a hole: records that were acknowledged may be gone. Start with `Loss::Accept` to go on without them.
    #[error("the commit log is damaged; {0}")]
    LogDamaged(Damage),
    /// Records that were acknowledged may be gone with it. Start with `Loss::Accept` to go on without them.
    #[error("this data directory was used, and its commit log is missing")]
    LogMissing,
    /// The log cannot be used as it is: made by a later release, of another kind, or with other bounds.
    #[error("the commit log cannot be used: {0}")]
    Log(#[source] Arc<LogError>),
    /// A record with a good checksum that this version cannot read.
    #[error("a commit log record cannot be read: {what}")]
    LogRecord { what: Arc<str> },
    #[error("disk: {0}")]
    Disk(#[source] Arc<DiskError>),
    #[error("no randomness from the operating system")]
    Entropy,
}

impl StorageError {
    /// What a call that the disk refused for now, before anything was written, answers: `path` has no room on the disk,
    /// or as many files open as it may.
    pub fn refused(error: &DiskError, path: &str) -> StorageError {
        if error.is_full() {
            StorageError::DiskFull { wrote: false }
        } else {
            StorageError::Overloaded { path: path.into() }
        }
    }
}

impl From<DiskError> for StorageError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Locked { .. } => StorageError::Locked,
            error if error.is_full() => StorageError::DiskFull { wrote: false },
            error => StorageError::Disk(Arc::new(error)),
        }
    }
}

impl From<LogError> for StorageError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full { wrote: false, source } => StorageError::refused(&source, "storage/commitlog"),
            LogError::Full { wrote: true, .. } => StorageError::DiskFull { wrote: true },
            LogError::Poisoned => StorageError::Fenced { cause: error.to_string().into() },
            LogError::RecordTooLarge { bytes, bytes_max } => {
                StorageError::TooLarge { bytes, bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX) }
            }
            LogError::Corrupt(damage) => StorageError::LogDamaged(damage),
            LogError::Disk(error) => StorageError::from(error),
            LogError::SegmentTooSmall { .. } | LogError::Newer { .. } | LogError::WrongKind { .. } => {
                StorageError::Log(Arc::new(error))
            }
        }
    }
}
