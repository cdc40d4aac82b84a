//! Whether a ring heard of is to be taken up. Pure; what it refuses is refused by name.

use kula_placement::{Partitioner, Ring};
use kula_types::{ClusterId, NodeId};

/// Why a ring heard of is not taken up. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdopted {
    /// Version numbers only grow.
    #[error("it is not newer")]
    NotNewer,
    #[error("it belongs to cluster {found:?}, this node to {ours:?}")]
    OtherName { found: String, ours: String },
    #[error("it belongs to cluster {found}, this node to {ours}: another cluster of the same name")]
    OtherCluster { found: ClusterId, ours: ClusterId },
    #[error("it hashes keys with {found}, this node with {ours}")]
    OtherPartitioner { found: Partitioner, ours: Partitioner },
    #[error("the ring has {} of them; adding a node moves data: not there yet", members_and(*members))]
    NotAMember { members: u64 },
    /// The bytes are no ring, or not the one they were said to be.
    #[error("it cannot be read: {0}")]
    Malformed(String),
}

/// `mine` may be ring 0: then the directory belongs to no cluster yet.
pub(crate) fn judge(mine: &Ring, me: NodeId, theirs: &Ring) -> Result<(), NotAdopted> {
    if theirs.version <= mine.version {
        return Err(NotAdopted::NotNewer);
    }
    if theirs.name != mine.name {
        return Err(NotAdopted::OtherName { found: theirs.name.clone(), ours: mine.name.clone() });
    }
    if !mine.is_none() && theirs.cluster != mine.cluster {
        return Err(NotAdopted::OtherCluster { found: theirs.cluster, ours: mine.cluster });
    }
    if theirs.partitioner != mine.partitioner {
        return Err(NotAdopted::OtherPartitioner { found: theirs.partitioner, ours: mine.partitioner });
    }
    match theirs.node(me) {
        Some(_) => Ok(()),
        None => Err(NotAdopted::NotAMember { members: theirs.nodes.len() as u64 }),
    }
}

fn members_and(members: u64) -> String {
    let plural = if members == 1 { "" } else { "s" };
    format!("{members} member{plural} and this node is none")
}
