//! Why a hint was not kept, or hand-off did not start.

use crate::{config::ConfigError, target_log::Trouble};
use kula_disk::DiskError;
use kula_types::NodeId;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandoffError {
    // A hint was not kept. The write itself stands as its owners have it.
    /// As many bytes are owed to the target as may be.
    #[error("{bytes} bytes of hints are kept for {target}, of at most {max}; this one is not")]
    Full { target: NodeId, bytes: u64, max: u64 },
    /// No space, or no file may be opened. Part of a batch may be delivered all the same.
    #[error("the disk is full; the hint is not kept")]
    DiskFull,
    /// More waits to be kept than may. Nothing was written.
    #[error("{path} is overloaded: {depth} of {cap} wait; the hint is not kept")]
    Overloaded { path: Arc<str>, depth: usize, cap: usize },
    /// No record holds it. Nothing was written.
    #[error("a hint of {bytes} bytes; the largest is {max}")]
    TooLarge { bytes: usize, max: usize },
    /// Hints for as many targets are kept as may be. Nothing was written.
    #[error("hints are kept for {max} targets, and for no more")]
    TooManyTargets { max: usize },
    /// This node keeps no hints, or is stopping.
    #[error("hand-off takes no hints; this one is not kept")]
    Closed,

    // At the start.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The directory of hints cannot be made or listed.
    #[error("the hints cannot be opened: {0}")]
    Disk(#[from] DiskError),
    /// A log of hints could be neither opened nor put aside.
    #[error("the hints cannot be opened: {0}")]
    NotOpened(Trouble),
}
