//! The way to other nodes' replicas: a request becomes a verb on its link, the verb's answer an outcome.
//!
//! It says the truth about what it does not know: a request that was certainly not begun is refused with the reason, any
//! other loss drops the reply, which is *unknown*. It batches nothing: a link writes what many senders queued at once.

use crate::peers::PeerSender;
use kula_actor::Snapshot;
use kula_clock::Clock;
use kula_gossip::{Membership, PeerView, State};
use kula_replica::{
    Request,
    verbs::{self, Outbound},
};
use kula_transport::{LinkState, Peers};
use kula_types::{Mono, NodeId, Token};
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
        if let Some(Outbound { encoded, deadline, reply }) = verbs::outbound(request, token, Arc::clone(name), now) {
            self.peers.request(node, encoded.lane, encoded.verb, encoded.body, deadline, reply);
        }
    }
}

/// Whether a request has a chance there: the link is up, and the node is neither suspected by this one itself nor down by
/// the cluster's word.
pub fn reaches(membership: &Membership, node: NodeId, link: Option<&LinkState>) -> bool {
    let well = |peer: &PeerView| !peer.suspected_here && peer.state != State::Down;
    membership.nodes.get(&node).is_none_or(well) && matches!(link, Some(LinkState::Up { .. }))
}

impl PeerSender for RemoteReplicas {
    fn reaches(&self, node: NodeId) -> bool {
        reaches(&self.membership.peek(), node, self.peers.link_state(node).as_ref())
    }

    fn send(&self, node: NodeId, requests: Vec<(Token, Request)>) {
        // What the node calls itself, for paths in its refusals.
        let name: Arc<str> = self.membership.peek().name_of(node).into();
        let now = self.clock.mono();
        requests.into_iter().for_each(|(token, request)| self.send_one(node, &name, now, token, request));
    }
}
