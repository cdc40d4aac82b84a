//! The seam to other nodes: how a request reaches an owner that is not this node.

use kula_replica::{ReplicaError, Request};
use kula_types::{NodeId, Token};

/// Carries requests to peers. What it cannot carry it must answer: a dropped reply is *unknown*.
pub trait PeerSender: Send + Sync + 'static {
    /// Whether there is a way to this node now. Says nothing of how it is.
    fn reaches(&self, node: NodeId) -> bool;
    /// Sends what one mailbox poll has for this node.
    fn send(&self, node: NodeId, requests: Vec<(Token, Request)>);
}

/// For a node that has no way to any other: every peer is unreachable.
pub struct NoPeers;

impl PeerSender for NoPeers {
    fn reaches(&self, _: NodeId) -> bool {
        false
    }

    fn send(&self, _: NodeId, requests: Vec<(Token, Request)>) {
        requests.into_iter().for_each(|(_, request)| request.reply.send(Err(ReplicaError::Unreachable)));
    }
}
