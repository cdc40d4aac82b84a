//! What can go wrong with the ring, by what a caller may do about it. Every variant says whether the ring changed.

use kula_disk::{DiskError, Operation, atomic::StateError};
use kula_placement::{Partitioner, RingValueError, form::RingFormError};
use kula_types::{ClusterId, Name, NodeId};
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
    /// The ring file is older than the promises beside it: one of the two was restored alone.
    #[error(
        "this node voted on ring {version}, but its ring is number {ring}: one of the files was put back alone; restore the directory as a whole"
    )]
    BallotsAhead { version: u64, ring: u64 },
    #[error("no randomness from the operating system")]
    Entropy,

    // Answers to a commit.
    /// Nothing has changed: the change makes no valid ring.
    #[error("this makes no ring: {0}")]
    Refused(#[from] RingValueError),
    /// Nothing has changed: data would have to move between nodes.
    #[error("{what} moves data between nodes, which is not there yet; the ring did not change")]
    MovesData { what: String },
    /// Nothing has changed: somebody else set it, with other settings.
    #[error("keyspace {keyspace} has other settings in the ring already")]
    KeyspaceDiffers { keyspace: Name },
    /// Nothing has changed: this node waits for a ring.
    #[error("this node has no ring yet")]
    NoRing,
    /// Nothing has changed: a ring that no frame carries cannot be voted on.
    #[error("a ring of {bytes} bytes is past what members can send each other ({max} bytes); the ring did not change")]
    TooLarge { bytes: usize, max: usize },
    /// Nothing has changed. Ask again when more members are up.
    #[error(
        "a change of the ring needs {need} of its members, {answered} took part, this one included; the ring did not change"
    )]
    NoMajority { need: usize, answered: usize },
    /// Nothing has changed: other members' changes came first, again and again. Ask again.
    #[error("other changes of the ring were under way all the time; this one was not made")]
    Contested,
    /// Whether the ring changed is unknown: members were asked to accept, too few answered. Asking again is safe.
    #[error(
        "a change of the ring needs {need} of its members; {answered} took part, this one included, and whether the ring changed is unknown"
    )]
    Undecided { need: usize, answered: usize },
    /// The ring changed, but there is no room for it on this node's disk yet; it is taken up when there is.
    #[error("the members agreed on ring {version}, but this node's disk does not take it for now")]
    NotKept { version: u64 },
    /// Nothing has changed. Ask again later.
    #[error("{waiting} changes of the ring wait already")]
    Busy { waiting: usize },
    /// Nothing has changed: there is no room on the disk. Ask again when there is.
    #[error("the disk is full; the ring did not change")]
    DiskFull,
    /// Nothing has changed: no file could be opened. Ask again later.
    #[error("too many files are open; the ring did not change")]
    TooManyFiles,
    /// Written, but not synced: what a restart finds is unknown, and the next change settles it. The ring in force is the
    /// old one.
    #[error("the disk does not sync for now, what a restart finds is unknown: {0}")]
    NotSynced(DiskError),
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
        matches!(
            self,
            RingError::Disk(_)
                | RingError::NotSynced(_)
                | RingError::Undecided { .. }
                | RingError::NotKept { .. }
                | RingError::Closed
        )
    }

    /// Whether the node must stop: its disk failed in a way that does not pass.
    pub fn fences(&self) -> bool {
        matches!(self, RingError::Disk(_))
    }
}

/// A failed write of a state file, by what became of the file. A rename that was done and not synced may be taken back by
/// a power loss or not.
impl From<DiskError> for RingError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Full { operation: Operation::SyncDir, .. }
            | DiskError::TooManyFiles { operation: Operation::SyncDir, .. } => RingError::NotSynced(error),
            DiskError::Full { .. } => RingError::DiskFull,
            DiskError::TooManyFiles { .. } => RingError::TooManyFiles,
            error => RingError::Disk(error),
        }
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
