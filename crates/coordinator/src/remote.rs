//! The way to other nodes' replicas: a request becomes a verb on its link, the verb's answer an outcome.
//!
//! It says the truth about what it does not know: a request that was certainly not begun is refused with the reason, any
//! other loss drops the reply, which is *unknown*. It batches nothing: a link writes what many senders queued at once.

use crate::peers::PeerSender;
use bytes::Bytes;
use kula_actor::{Lost, Reply, Snapshot};
use kula_clock::Clock;
use kula_gossip::{Membership, State};
use kula_replica::{ReplicaError, Request, verbs};
use kula_transport::{LinkState, Peers, TransportError};
use kula_types::{Mono, NodeId, Token};
use kula_wire::{MessageError, decode};
use std::sync::Arc;

/// The replicas of all other nodes.
pub struct RemoteReplicas {
    peers: Peers,
    membership: Snapshot<Membership>,
    clock: Arc<dyn Clock>,
}

impl RemoteReplicas {
    pub fn new(peers: Peers, membership: Snapshot<Membership>, clock: Arc<dyn Clock>) -> Self {
        RemoteReplicas { peers, membership, clock }
    }

    fn send_one(&self, node: NodeId, name: &Arc<str>, now: Mono, token: Token, request: Request) {
        let Request { from: _, fence, deadline, op, reply } = request;
        if deadline <= now {
            return reply.send(Err(ReplicaError::Expired));
        }
        let encoded = match verbs::encode_op(fence, token, &op) {
            Ok(encoded) => encoded,
            Err(MessageError::TooLarge { bytes, max }) => {
                return reply.send(Err(ReplicaError::TooLarge { bytes, max }));
            }
            // Plain structs can be encoded.
            Err(MessageError::Malformed | MessageError::Trailing { .. }) => {
                return reply.send(Err(ReplicaError::Malformed));
            }
        };
        let name = Arc::clone(name);
        let back = Reply::new(move |answer: Result<Result<Bytes, TransportError>, Lost>| {
            let served = match answer {
                Ok(Ok(body)) => decode(&body).ok().and_then(|answer| verbs::outcome_of(&name, answer)),
                Ok(Err(error)) => verbs::not_begun(error).map(Err),
                Err(Lost) => None,
            };
            // Dropped otherwise: whether it was served is unknown.
            if let Some(served) = served {
                reply.send(served);
            }
        });
        self.peers.request(node, encoded.lane, encoded.verb, encoded.body, deadline, back);
    }

    /// What the node calls itself, for paths in its refusals.
    fn name_of(&self, node: NodeId) -> Arc<str> {
        let membership = self.membership.peek();
        membership
            .nodes
            .get(&node)
            .map_or_else(|| node.to_string().into(), |peer| peer.introduction.name.as_str().into())
    }
}

impl PeerSender for RemoteReplicas {
    /// Its link is up, and it is neither suspected by this node itself nor down by the cluster's word.
    fn reaches(&self, node: NodeId) -> bool {
        let well = |peer: &kula_gossip::PeerView| !peer.suspected_here && peer.state != State::Down;
        self.membership.peek().nodes.get(&node).is_none_or(well)
            && matches!(self.peers.link_state(node), Some(LinkState::Up { .. }))
    }

    fn send(&self, node: NodeId, requests: Vec<(Token, Request)>) {
        let (name, now) = (self.name_of(node), self.clock.mono());
        requests.into_iter().for_each(|(token, request)| self.send_one(node, &name, now, token, request));
    }
}
