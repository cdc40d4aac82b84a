//! The ring's shell: mailbox, peers, gossip and timers → machine → disk, handle, subscribers, peers. Nothing to decide.
//!
//! A change is synced inside the handler: give the actor an arbiter on which nothing urgent waits. A panic beside data
//! fences the node.

use crate::{
    Acceptor, AskId, Beginning, Commit, CommitId, Drawn, Effect, Event, Get, Join, JoinHandle, JoinView, Link, Machine,
    Neighbour, Pull, RingChanged, RingError, RingHandle, Standing, Subscribe, Surroundings, Told, ballots, limits,
    state,
};
use actix::prelude::{Actor, AsyncContext, Handler};
use kula_actor::{
    ChildSpec, Door, KulaContext, MailboxConfig, Message, OnPanic, Place, Registry, Reply, Subscriber, child,
    supervised,
};
use kula_clock::{Clock, Dice};
use kula_disk::Disk;
use kula_gossip::{FactKey, Gossip, GossipEvent, PeerView};
use kula_placement::{Ring, RingNode, Secret};
use kula_transport::{Inbound, InboundBatch, LinkEvent, LinkState, PeerState, Peers};
use kula_types::{ClusterId, Mono, NodeId};
use kula_wire::{
    Room, Verb,
    verbs::{
        link::Refusal,
        ring::{Accept, Accepted, Ballot, Learn, Prepare, Prepared, PullRing, PulledRing},
    },
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

type Answer = Reply<Result<Arc<Ring>, RingError>>;

pub struct RingActor {
    parts: Parts,
    machine: Machine,
    subscribers: Vec<Subscriber<RingChanged>>,
    commits: BTreeMap<CommitId, Answer>,
    asks: BTreeMap<AskId, WayBack>,
    /// Numbers given out to commits and asks.
    numbers: u64,
    /// What this member promised cannot be read: it must not vote.
    unreadable: Option<RingError>,
}

/// What lives longer than one generation of the actor.
#[derive(Clone)]
struct Parts {
    disk: Arc<dyn Disk>,
    me: RingNode,
    join: Join,
    drawn: Drawn,
    handle: RingHandle,
    view: JoinHandle,
    gossip: Gossip,
    peers: Peers,
    clock: Arc<dyn Clock>,
    roll: Arc<dyn Fn() -> f64 + Send + Sync>,
    log: slog::Logger,
}

/// Where the answer to a peer goes.
enum WayBack {
    Prepared(Reply<Prepared>),
    Accepted(Reply<Accepted>),
    Pulled(Reply<PulledRing>),
}

/// What the ring actor needs to live.
pub struct Spawn {
    pub disk: Arc<dyn Disk>,
    /// From `open`: durable, or ring 0.
    pub ring: Ring,
    /// This node as it is configured; `address` is where peers reach it.
    pub me: RingNode,
    pub join: Join,
    /// For ring 1, if this node comes to form it.
    pub drawn: Drawn,
    pub gossip: Gossip,
    pub peers: Peers,
    pub clock: Arc<dyn Clock>,
    /// Numbers from 0 to 1: proposers that met must draw apart.
    pub roll: Arc<dyn Fn() -> f64 + Send + Sync>,
    pub place: Place,
    pub log: slog::Logger,
}

/// The random numbers of a new cluster.
pub fn draw(dice: &dyn Dice) -> Result<Drawn, RingError> {
    let (mut cluster, mut secret) = ([0; 16], [0; 32]);
    dice.fill(&mut cluster).and_then(|()| dice.fill(&mut secret)).map_err(|_| RingError::Entropy)?;
    let cluster = ClusterId(uuid::Builder::from_random_bytes(cluster).into_uuid());
    Ok(Drawn { cluster, context_secret: Secret::new(secret) })
}

/// The actor at path `ring`, the handle from which everybody reads, and what it waits for while there is no ring. Before
/// the tree runs: it takes the verbs of `Room::Ring`.
pub fn spawn(spawn: Spawn, registry: &Registry) -> (Door<RingActor>, RingHandle, JoinHandle, ChildSpec) {
    let Spawn { disk, ring, me, join, drawn, gossip, peers, clock, roll, place, log } = spawn;
    let handle = RingHandle::new(Arc::new(ring));
    let view = JoinHandle::new(Arc::new(JoinView { expect: join.expect, visible: 1, ..JoinView::default() }));
    let parts = Parts {
        disk,
        me,
        join,
        drawn,
        handle: handle.clone(),
        view: view.clone(),
        gossip: gossip.clone(),
        peers: peers.clone(),
        clock,
        roll,
        log,
    };
    let factory = move || RingActor::new(parts.clone());
    let mailbox = MailboxConfig { cap: limits::MAILBOX };
    let (door, spec) = child(registry, "ring", mailbox, OnPanic::Fence, place, factory);
    peers.register(Room::Ring, Subscriber::from(&door));
    peers.listen(Subscriber::from(&door));
    gossip.subscribe(Subscriber::from(&door));
    (door, handle, view, spec)
}

/// An event on its way back through the mailbox.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Happened(Event);

impl RingActor {
    fn new(parts: Parts) -> Self {
        let ring = parts.handle.load();
        let (me, join, drawn) = (parts.me.clone(), parts.join.clone(), parts.drawn.clone());
        let (acceptor, unreadable) = match ballots::load(&*parts.disk, ring.version) {
            Ok(acceptor) => (acceptor, None),
            Err(error) => (Acceptor::of(ring.version + 1), Some(error)),
        };
        RingActor {
            machine: Machine::new(Beginning { me, join, drawn, ring, acceptor }),
            parts,
            subscribers: Vec::new(),
            commits: BTreeMap::new(),
            asks: BTreeMap::new(),
            numbers: 0,
            unreadable,
        }
    }

    fn run(&mut self, event: Event, ctx: &mut KulaContext<Self>) {
        let mut effects = Vec::new();
        self.machine.step(self.parts.clock.mono(), (self.parts.roll)(), event, &mut effects);
        let mut stored = None;
        for effect in effects {
            match effect {
                Effect::Store { ring } => stored = Some(state::store(&*self.parts.disk, &ring)),
                Effect::StoreBallots { acceptor } => stored = Some(ballots::store(&*self.parts.disk, &acceptor)),
                Effect::Publish { ring } => self.publish(ring),
                Effect::Answer { id, answer } => {
                    if let Some(reply) = self.commits.remove(&id) {
                        reply.send(answer);
                    }
                }
                Effect::Prepare { to, prepare } => self.prepare(to, &prepare, ctx),
                Effect::Accept { to, accept } => self.accept(to, &accept, ctx),
                Effect::Learn { to, learn } => self.parts.peers.tell(to, &learn),
                Effect::Pull { from, have } => self.pull(from, have, ctx),
                Effect::Reply { id, reply } => self.reply(id, reply),
                Effect::Wake { after } => {
                    ctx.run_later(after, |actor, ctx| actor.run(Event::Woken, ctx));
                }
                Effect::View { view } => self.show(view),
                Effect::Notice { notice } => slog::warn!(self.parts.log, "{notice}"; "event" => "ring_notice"),
                Effect::Fence { cause } => ctx.fence(cause.to_string()),
            }
        }
        if let Some(outcome) = stored {
            self.run(Event::Stored { outcome }, ctx);
        }
    }

    fn publish(&mut self, ring: Arc<Ring>) {
        slog::info!(self.parts.log, "ring changed"; "event" => "ring_changed", "version" => ring.version);
        self.parts.handle.store(ring.clone());
        self.announce();
        // Past the bound: a new ring must not be missed. One that is gone for good is forgotten.
        self.subscribers.retain(|subscriber| subscriber.publish_forced(RingChanged(ring.clone())).is_ok());
    }

    fn announce(&self) {
        let version = self.machine.ring().version.to_le_bytes();
        self.parts.gossip.announce(FactKey::RING, bytes::Bytes::copy_from_slice(&version));
    }

    fn show(&self, view: JoinView) {
        if !view.sentence.is_empty() {
            slog::info!(self.parts.log, "{}", view.sentence; "event" => "ring_waits");
        }
        self.parts.view.store(Arc::new(view));
    }

    fn prepare(&self, to: NodeId, prepare: &Prepare, ctx: &KulaContext<Self>) {
        let (version, ballot) = (prepare.version, prepare.ballot);
        self.ask(to, prepare, ctx, move |answer| Event::Prepared { from: to, version, ballot, answer });
    }

    fn accept(&self, to: NodeId, accept: &Accept, ctx: &KulaContext<Self>) {
        let (version, ballot): (u64, Ballot) = (accept.version, accept.ballot);
        self.ask(to, accept, ctx, move |answer| Event::Accepted { from: to, version, ballot, answer });
    }

    fn pull(&self, from: NodeId, have: u64, ctx: &KulaContext<Self>) {
        self.ask(from, &PullRing { have }, ctx, move |answer| Event::Pulled { from, answer });
    }

    /// Asks a peer; `event` says what came back, nothing included.
    fn ask<V: Verb>(
        &self,
        to: NodeId,
        verb: &V,
        ctx: &KulaContext<Self>,
        event: impl FnOnce(Option<V::Answer>) -> Event + Send + 'static,
    ) where
        V::Answer: Send + 'static,
    {
        let me = ctx.door().clone();
        let deadline: Mono = self.parts.clock.mono().after(limits::ASK_WITHIN);
        let reply = Reply::new(move |answer: Result<Result<V::Answer, _>, _>| {
            let answer = answer.ok().and_then(Result::ok);
            // A node that is stopping takes no answer any more.
            drop(me.tell_forced(Happened(event(answer))));
        });
        self.parts.peers.ask(to, verb, deadline, reply);
    }

    fn reply(&mut self, id: AskId, told: Told) {
        match (self.asks.remove(&id), told) {
            (Some(WayBack::Prepared(reply)), Told::Prepared(answer)) => reply.send(answer),
            (Some(WayBack::Accepted(reply)), Told::Accepted(answer)) => reply.send(answer),
            (Some(WayBack::Pulled(reply)), Told::Pulled(answer)) => reply.send(answer),
            (way_back, told) => panic!("nobody asked for this (asked: {}): {told:?}", way_back.is_some()),
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A peer's verb. One that is not understood is dropped: the peer learns that its answer is lost.
    fn inbound(&mut self, inbound: Inbound, ctx: &mut KulaContext<Self>) {
        let (from, id) = (inbound.from, AskId(self.number()));
        match inbound.verb {
            Prepare::CODE => {
                if let Ok(prepare) = inbound.read::<Prepare>() {
                    self.asks.insert(id, WayBack::Prepared(inbound.reply_of::<Prepare>()));
                    self.run(Event::Prepare { id, from, prepare }, ctx);
                }
            }
            Accept::CODE => {
                if let Ok(accept) = inbound.read::<Accept>() {
                    self.asks.insert(id, WayBack::Accepted(inbound.reply_of::<Accept>()));
                    self.run(Event::Accept { id, from, accept }, ctx);
                }
            }
            PullRing::CODE => {
                if let Ok(PullRing { have }) = inbound.read::<PullRing>() {
                    self.asks.insert(id, WayBack::Pulled(inbound.reply_of::<PullRing>()));
                    self.run(Event::PullRing { id, from, have }, ctx);
                }
            }
            Learn::CODE => {
                if let Ok(Learn { ring }) = inbound.read::<Learn>() {
                    self.run(Event::Learn { from, ring: ring.0 }, ctx);
                }
            }
            verb => slog::warn!(self.parts.log, "a verb that the ring does not know"; "verb" => verb),
        }
    }

    fn tick(&mut self, ctx: &mut KulaContext<Self>) {
        let surroundings = surroundings(&self.parts.gossip, &self.parts.peers);
        self.run(Event::Tick { surroundings }, ctx);
        let every: Duration = if self.machine.ring().is_none() { limits::TICK_WAITING } else { limits::TICK };
        ctx.run_later(every, Self::tick);
    }
}

/// What gossip and transport see.
fn surroundings(gossip: &Gossip, peers: &Peers) -> Surroundings {
    let membership = gossip.membership().load();
    let others = membership.nodes.iter().filter(|(id, _)| **id != membership.me);
    Surroundings {
        nodes: others.map(|(_, view)| neighbour(view)).collect(),
        links: peers.known().into_iter().filter_map(link).collect(),
    }
}

pub fn neighbour(view: &PeerView) -> Neighbour {
    let PeerView { introduction, about, .. } = view;
    Neighbour {
        node: RingNode {
            id: introduction.node,
            name: introduction.name.clone(),
            address: introduction.address.clone(),
            dc: about.dc.clone(),
            rack: about.rack.clone(),
            weight: about.weight,
        },
        up: view.state.is_up() && !view.suspected_here,
        ring_version: view.ring_version().max(introduction.ring_version),
    }
}

pub fn link(state: PeerState) -> Option<Link> {
    let PeerState { address, name, link, .. } = state;
    let name = if name.is_empty() || name == address { address } else { format!("{name} at {address}") };
    let standing = match link {
        LinkState::Up { .. } => Standing::Up,
        LinkState::Connecting | LinkState::Down { .. } => Standing::Away,
        // A seed list names its own node too.
        LinkState::Refused(Refusal::Yourself) => return None,
        LinkState::Refused(refusal) => Standing::Refused(refusal.to_string()),
    };
    Some(Link { name, standing })
}

impl Actor for RingActor {
    type Context = KulaContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(error) = self.unreadable.take() {
            return ctx.fence(error.to_string());
        }
        self.announce();
        self.tick(ctx);
    }
}

supervised!(RingActor);

impl Handler<Happened> for RingActor {
    type Result = ();

    fn handle(&mut self, Happened(event): Happened, ctx: &mut Self::Context) {
        self.run(event, ctx);
    }
}

impl Handler<InboundBatch> for RingActor {
    type Result = ();

    fn handle(&mut self, InboundBatch { frames }: InboundBatch, ctx: &mut Self::Context) {
        frames.into_iter().for_each(|inbound| self.inbound(inbound, ctx));
    }
}

impl Handler<LinkEvent> for RingActor {
    type Result = ();

    fn handle(&mut self, event: LinkEvent, ctx: &mut Self::Context) {
        match event {
            LinkEvent::Up { peer } => {
                self.run(Event::Seen { node: peer.node, version: Some(peer.ring_version) }, ctx);
            }
            LinkEvent::Lost { .. } => (),
        }
    }
}

impl Handler<GossipEvent> for RingActor {
    type Result = ();

    fn handle(&mut self, event: GossipEvent, ctx: &mut Self::Context) {
        match event {
            GossipEvent::FactChanged { node, key: FactKey::RING } => {
                let version = self.parts.gossip.membership().load().ring_version_of(node);
                self.run(Event::Seen { node, version: Some(version) }, ctx);
            }
            // Whoever comes and goes is seen at the next tick.
            GossipEvent::FactChanged { .. }
            | GossipEvent::Discovered { .. }
            | GossipEvent::PeerUp { .. }
            | GossipEvent::PeerSuspected { .. }
            | GossipEvent::PeerDown { .. } => (),
        }
    }
}

impl Handler<Pull> for RingActor {
    type Result = ();

    fn handle(&mut self, Pull { from }: Pull, ctx: &mut Self::Context) {
        self.run(Event::Seen { node: from, version: None }, ctx);
    }
}

impl Handler<Commit> for RingActor {
    type Result = ();

    fn handle(&mut self, Commit { change, reply }: Commit, ctx: &mut Self::Context) {
        let id = CommitId(self.number());
        self.commits.insert(id, reply);
        self.run(Event::Commit { id, change }, ctx);
    }
}

impl Handler<Get> for RingActor {
    type Result = ();

    fn handle(&mut self, Get { reply }: Get, _: &mut Self::Context) {
        reply.send(self.machine.ring().clone());
    }
}

impl Handler<Subscribe> for RingActor {
    type Result = ();

    fn handle(&mut self, Subscribe(subscriber): Subscribe, _: &mut Self::Context) {
        assert!(self.subscribers.len() < limits::SUBSCRIBERS_MAX, "subscribers are rooms of this node");
        let ring = self.machine.ring().clone();
        let told = if ring.is_none() { Ok(()) } else { subscriber.publish_forced(RingChanged(ring)) };
        if told.is_ok() {
            self.subscribers.push(subscriber);
        }
    }
}
