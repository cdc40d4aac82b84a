//! Who belongs, told to those below: the ring's members and what gossip knows of them become transport's admission and
//! gossip's electorate; the first ring binds the directory to its cluster and makes the node ready, as soon as its clock
//! is past the stamps of its last life.
//!
//! `house.md`: an event that a lower room must act on becomes, here, a command of that room.

use actix::prelude::{Actor, AsyncContext, Handler};
use kula_actor::{ChildSpec, Door, KulaContext, MailboxConfig, OnPanic, Place, Registry, Reply, child, supervised};
use kula_clock::Clock;
use kula_fault::{Site, buggify};
use kula_gossip::{Gossip, GossipEvent};
use kula_operator::Readiness;
use kula_ring::{RingChanged, RingHandle, admission};
use kula_storage::{BindCluster, IdentityActor};
use kula_transport::Peers;
use kula_types::{ClusterId, Mono, NodeId};
use std::{sync::Arc, time::Duration};

/// Rings and members change seldom.
const MAILBOX: usize = 256;

pub(crate) struct MembershipActor {
    parts: Parts,
    /// The members gossip was told of.
    electorate: Vec<NodeId>,
    /// The cluster the directory was bound to, as far as this actor knows.
    bound: Option<ClusterId>,
}

#[derive(Clone)]
pub(crate) struct Parts {
    pub ring: RingHandle,
    pub gossip: Gossip,
    pub peers: Peers,
    pub identity: Door<IdentityActor>,
    pub readiness: Readiness,
    pub clock: Arc<dyn Clock>,
    /// Before this no write is taken: the stamps of this node's last life may reach up to here.
    pub settled_at: Mono,
}

/// The actor at path `membership`.
pub(crate) fn spawn(parts: Parts, place: Place, registry: &Registry) -> (Door<MembershipActor>, ChildSpec) {
    let mailbox = MailboxConfig { cap: MAILBOX };
    child(registry, "membership", mailbox, OnPanic::Restart, place, move || MembershipActor {
        parts: parts.clone(),
        electorate: Vec::new(),
        bound: None,
    })
}

impl MembershipActor {
    fn look(&mut self, ctx: &mut KulaContext<Self>) {
        assert!(!buggify(Site::MembershipPanics), "a planted panic");
        let ring = self.parts.ring.load();
        let membership = self.parts.gossip.membership().load();
        self.parts.peers.admit(admission(&ring, &membership.nodes));
        let members: Vec<NodeId> = ring.nodes.iter().map(|node| node.id).collect();
        if members != self.electorate {
            self.parts.gossip.electorate(members.clone());
            self.electorate = members;
        }
        if ring.version > 0 {
            self.bind(ring.cluster);
            match self.parts.settled_at.since(self.parts.clock.mono()) {
                Duration::ZERO => self.parts.readiness.set_ready(),
                rest => drop(ctx.run_later(rest, |actor, ctx| actor.look(ctx))),
            }
        }
    }

    /// A directory that has a ring is its cluster's at the next start too, whether this succeeds or not.
    fn bind(&mut self, cluster: ClusterId) {
        if self.bound != Some(cluster) {
            let told = self.parts.identity.tell_forced(BindCluster { cluster, reply: Reply::ignored() });
            self.bound = told.is_ok().then_some(cluster);
        }
    }
}

impl Actor for MembershipActor {
    type Context = KulaContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}

supervised!(MembershipActor);

impl Handler<RingChanged> for MembershipActor {
    type Result = ();

    fn handle(&mut self, _: RingChanged, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}

impl Handler<GossipEvent> for MembershipActor {
    type Result = ();

    /// Only who is there matters, not how they are.
    fn handle(&mut self, event: GossipEvent, ctx: &mut Self::Context) {
        if let GossipEvent::Discovered { .. } = event {
            self.look(ctx);
        }
    }
}
