//! What other rooms hear from gossip, and the names of what they announce.

use kula_actor::Message;
use kula_types::NodeId;

/// What a fact is about. A node announces one value of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FactKey(pub u16);

impl FactKey {
    /// The version of the ring a node holds: u64, little endian.
    pub const RING: FactKey = FactKey(1);
    /// The digest of the schema a node holds.
    pub const SCHEMA: FactKey = FactKey(2);
    /// What a node says for status pages: its room is `operator`'s.
    pub const USER: FactKey = FactKey(3);
}

/// News of peers, never of this node itself. Published after the membership that shows them, past the bounds of whoever
/// listens: there are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum GossipEvent {
    /// A new node, or a known one with another introduction: it restarted. Also when an older node that said the same
    /// address was forgotten.
    Discovered {
        node: NodeId,
    },
    /// This node heard it, after it had not.
    PeerUp {
        node: NodeId,
    },
    /// This node's own probes fail.
    PeerSuspected {
        node: NodeId,
    },
    /// It was declared down here, or left.
    PeerDown {
        node: NodeId,
    },
    FactChanged {
        node: NodeId,
        key: FactKey,
    },
}
