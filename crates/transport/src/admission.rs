//! Who may connect, and who is meant when a node says "I": the view that `ring` and `gossip` publish by way of wiring.

use kula_types::{ClusterId, Life, Map, NodeId, Timestamp};
use kula_wire::verbs::link::Introduction;

/// What this node knows about who belongs. Given anew whenever it changes.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// `None` until a ring has been heard of: then the name alone decides.
    pub cluster: Option<ClusterId>,
    pub ring_version: u64,
    /// Everybody a link is kept to. This node may be among them.
    pub members: Map<NodeId, Member>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What people call it.
    pub name: String,
    /// Where its peers reach it: host and port.
    pub address: String,
    /// As last known; `None`: not yet.
    pub life: Option<Life>,
}

/// This process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Myself {
    pub cluster_name: String,
    pub node: NodeId,
    pub life: Life,
    /// Random, drawn when the process starts.
    pub boot: u64,
    pub name: String,
    /// Where peers reach it: host and port.
    pub address: String,
    /// As `Introduction::lease_found`.
    pub lease_found: Option<Timestamp>,
}

impl Myself {
    /// What it says of itself.
    pub fn introduction(&self, admission: &Admission) -> Introduction {
        Introduction {
            cluster: admission.cluster,
            cluster_name: self.cluster_name.clone(),
            node: self.node,
            life: self.life,
            boot: self.boot,
            name: self.name.clone(),
            address: self.address.clone(),
            ring_version: admission.ring_version,
            lease_found: self.lease_found,
        }
    }
}
