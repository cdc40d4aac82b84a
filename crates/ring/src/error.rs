//! What can go wrong with the ring, by what a caller may do about it. Every variant says whether the ring changed.

use kula_disk::{DiskError, atomic::StateError};
use kula_placement::{Partitioner, RingValueError, form::RingFormError};
use kula_types::{ClusterId, NodeId};
use std::sync::Arc;

#[derive(Clone, Debug, thiserror::Error)]
pub enum RingError {
    // At the start. Nothing has changed.
    /// Give the node its own data directory, or the configuration of the cluster that the directory belongs to.
    #[error(
        "this data directory belongs to cluster {found:?}, the configuration says {configured:?}; point it at another data directory, or set cluster = {found:?}"
    )]
    OtherName { found: String, configured: String },
    /// The ring file was copied here from another cluster's directory.
    #[error(
        "this data directory belongs to cluster {bound}, its ring to cluster {found}: one of them was copied from elsewhere; restore the directory as a whole"
    )]
    OtherCluster { found: ClusterId, bound: ClusterId },
    /// The ring file was copied here from another node's directory.
    #[error(
        "node {me} is not a member of the ring in its data directory (members: {}); restore the directory as a whole",
        list(members)
    )]
    NotAMember { me: NodeId, members: Vec<NodeId> },
    /// The ring file is gone though this directory once had one. Forming a new ring would orphan its data.
    #[error(
        "this data directory belongs to cluster {cluster}, but its ring is gone; restore the directory from a backup, or start with an empty one"
    )]
    Missing { cluster: ClusterId },
    /// A partitioner is chosen with ring 1.
    #[error(
        "this cluster hashes keys with {found}, the configuration says {configured}; a cluster's partitioner never changes: set partitioner = \"{found}\""
    )]
    OtherPartitioner { found: Partitioner, configured: Partitioner },
    /// Damaged or written by a newer version: the source says which.
    #[error("the ring cannot be read: {0}")]
    Unreadable(#[from] StateError),
    #[error("the stored ring does not parse: {0}")]
    Malformed(Arc<serde_json::Error>),
    #[error("the stored ring is damaged: {0}")]
    Invalid(#[from] RingFormError),
    #[error("no randomness from the operating system")]
    Entropy,

    // Answers to a commit.
    /// Nothing has changed: the change makes no valid ring.
    #[error("this makes no ring: {0}")]
    Refused(#[from] RingValueError),
    /// Nothing has changed.
    #[error("{what} is not there yet")]
    NotThereYet { what: &'static str },
    /// Nothing has changed. Ask again later.
    #[error("{waiting} changes of the ring wait already")]
    Busy { waiting: usize },
    /// Nothing has changed: there is no room on the disk. Ask again when there is.
    #[error("the disk is full; the ring did not change")]
    DiskFull,
    /// Whether the change survives a restart is unknown, and the node stops: it must not go on with a ring that its
    /// disk may not have.
    #[error("the ring could not be made durable, whether it changed is unknown: {0}")]
    Disk(DiskError),
    /// Nothing has changed: the disk failed at an earlier change, and the node is stopping.
    #[error("the node is stopping after its disk failed; the ring did not change")]
    Fenced,
    /// Whether the change was made is unknown: the node is stopping.
    #[error("the ring actor is gone")]
    Closed,
}

impl RingError {
    /// Whether the ring may have changed in spite of the error.
    pub fn may_have_changed(&self) -> bool {
        matches!(self, RingError::Disk(_) | RingError::Closed)
    }
}

impl From<serde_json::Error> for RingError {
    fn from(error: serde_json::Error) -> Self {
        RingError::Malformed(Arc::new(error))
    }
}

fn list(members: &[NodeId]) -> String {
    members.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}
