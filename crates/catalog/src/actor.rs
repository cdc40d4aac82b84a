//! The catalogue's shell: mailbox, peers and gossip → machine → disk, ring, handle, subscribers, peers. Nothing to decide.
//!
//! A change is synced inside the handler: give the actor an arbiter on which nothing urgent waits. A panic beside data
//! fences the node.

use crate::{
    AlterKeyspace, CatalogError, Change, Changed, CreateKeyspace, CreateTable, DropKeyspace, DropTable, Effect, Event,
    Get, Machine, OperationId, Peer, Pull, Scene, SchemaChanged, SchemaHandle, Subscribe, limits, machine::Live, state,
};
use actix::prelude::{Actor, AsyncContext, Handler};
use bytes::Bytes;
use kula_actor::{
    ChildSpec, Door, KulaContext, MailboxConfig, Message, OnPanic, Place, Registry, Reply, Subscriber, child,
    supervised,
};
use kula_clock::{Clock, Hlc};
use kula_disk::Disk;
use kula_gossip::{FactKey, Gossip, GossipEvent, Membership};
use kula_placement::Ring;
use kula_ring::{Commit, RingActor, RingChange, RingError, RingHandle};
use kula_schema::{Keyspace, Schema, SchemaDigest, Table, TableDefinition, form};
use kula_transport::{Inbound, InboundBatch, Peers};
use kula_types::NodeId;
use kula_wire::{
    Room, Verb,
    verbs::catalog::{PullSchema, PulledSchema, SchemaIs},
};
use std::{collections::BTreeMap, sync::Arc};

pub struct CatalogActor {
    machine: Machine,
    parts: Parts,
    subscribers: Vec<Subscriber<SchemaChanged>>,
    replies: BTreeMap<OperationId, Answer>,
    operations: u64,
}

/// What lives longer than one generation of the actor.
#[derive(Clone)]
struct Parts {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    hlc: Arc<Hlc>,
    ring: RingHandle,
    ring_door: Door<RingActor>,
    handle: SchemaHandle,
    gossip: Gossip,
    peers: Peers,
    log: slog::Logger,
}

/// The three shapes of an answer.
enum Answer {
    Keyspace(Reply<Result<Keyspace, CatalogError>>),
    Table(Reply<Result<Arc<Table>, CatalogError>>),
    Dropped(Reply<Result<(), CatalogError>>),
}

/// What the catalogue needs to live.
pub struct Spawn {
    pub disk: Arc<dyn Disk>,
    /// From `open`: durable.
    pub schema: Schema,
    pub ring: RingHandle,
    pub ring_door: Door<RingActor>,
    pub clock: Arc<dyn Clock>,
    /// Stamps creations.
    pub hlc: Arc<Hlc>,
    pub gossip: Gossip,
    pub peers: Peers,
    pub place: Place,
    pub log: slog::Logger,
}

/// An event on its way back through the mailbox.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Happened(Event);

/// The actor at path `catalog`, and the handle from which everybody reads. Before the tree runs: it takes the verbs of
/// `Room::Catalog`.
pub fn spawn(spawn: Spawn, registry: &Registry) -> (Door<CatalogActor>, SchemaHandle, ChildSpec) {
    let Spawn { disk, schema, ring, ring_door, clock, hlc, gossip, peers, place, log } = spawn;
    let handle = SchemaHandle::new(Arc::new(schema));
    let (told, heard) = (peers.clone(), gossip.clone());
    let parts = Parts { disk, clock, hlc, ring, ring_door, handle: handle.clone(), gossip, peers, log };
    let factory = move || CatalogActor {
        machine: Machine::new(parts.handle.load()),
        parts: parts.clone(),
        subscribers: Vec::new(),
        replies: BTreeMap::new(),
        operations: 0,
    };
    let mailbox = MailboxConfig { cap: limits::MAILBOX };
    let (door, spec) = child(registry, "catalog", mailbox, OnPanic::Fence, place, factory);
    told.register(Room::Catalog, Subscriber::from(&door));
    heard.subscribe(Subscriber::from(&door));
    (door, handle, spec)
}

impl CatalogActor {
    fn ask(&mut self, change: Change, answer: Answer, ctx: &mut KulaContext<Self>) {
        let Ok(now) = self.parts.hlc.stamp(self.parts.clock.wall()) else {
            return answer.send(Err(CatalogError::ClockLease));
        };
        let id = OperationId(self.operations);
        self.operations += 1;
        self.replies.insert(id, answer);
        self.run(Event::Asked { id, now, change }, ctx);
    }

    fn run(&mut self, event: Event, ctx: &mut KulaContext<Self>) {
        let mut effects = Vec::new();
        let ring = self.parts.ring.load();
        let live = live(&ring, &self.parts.gossip.membership().load());
        let scene = Scene { now: self.parts.clock.mono(), ring: &ring, live: &live };
        self.machine.step(&scene, event, &mut effects);
        let mut stored = None;
        for effect in effects {
            match effect {
                Effect::Commit { change } => self.commit(change, ctx),
                Effect::Store { schema } => stored = Some(state::store(&*self.parts.disk, &schema)),
                Effect::Publish { schema } => self.publish(schema),
                Effect::Answer { id, answer } => {
                    if let Some(reply) = self.replies.remove(&id) {
                        reply.send(answer);
                    }
                }
                Effect::Tell { to, is } => self.tell_peer(to, is, ctx),
                Effect::Pull { from, digest } => self.pull(from, digest, ctx),
                // Only a node that is stopping has no ring actor.
                Effect::PullRing { from } => drop(self.parts.ring_door.tell_forced(kula_ring::Pull { from })),
                Effect::Wake { after } => {
                    ctx.run_later(after, |actor, ctx| actor.run(Event::Woken, ctx));
                }
                Effect::Notice { notice } => slog::warn!(self.parts.log, "{notice}"; "event" => "schema_notice"),
                Effect::Fence { cause } => ctx.fence(cause.to_string()),
            }
        }
        if let Some(outcome) = stored {
            self.run(Event::Stored { outcome }, ctx);
        }
    }

    fn commit(&mut self, change: RingChange, ctx: &mut KulaContext<Self>) {
        let me = ctx.door().clone();
        let reply = Reply::new(move |answer: Result<Result<_, RingError>, _>| {
            let outcome = answer.unwrap_or(Err(RingError::Closed)).map(drop);
            // Gone together with this node's tree if it cannot be delivered; then nobody waits for it.
            drop(me.tell_forced(Happened(Event::Committed { outcome })));
        });
        // A door that refuses drops the reply, which answers that the ring is gone.
        drop(self.parts.ring_door.tell_forced(Commit { change, reply }));
    }

    fn publish(&mut self, schema: Arc<Schema>) {
        let digest = self.machine.digest();
        slog::info!(self.parts.log, "schema changed"; "event" => "schema_changed", "digest" => %digest);
        self.parts.handle.store(schema.clone());
        self.announce();
        // Past the bound: a new schema must not be missed. One that is gone for good is forgotten.
        self.subscribers.retain(|subscriber| subscriber.publish_forced(SchemaChanged(schema.clone())).is_ok());
    }

    fn announce(&self) {
        let digest = self.machine.digest().0.to_le_bytes();
        self.parts.gossip.announce(FactKey::SCHEMA, Bytes::copy_from_slice(&digest));
    }

    fn tell_peer(&self, to: NodeId, is: SchemaIs, ctx: &KulaContext<Self>) {
        let heard = move |is| Event::Told { from: to, is, asked: true };
        self.ask_peer(to, &is, ctx, move |answer: Option<SchemaIs>| answer.map(heard));
    }

    fn pull(&self, from: NodeId, digest: SchemaDigest, ctx: &KulaContext<Self>) {
        self.ask_peer(from, &PullSchema { digest: digest.0 }, ctx, move |answer| {
            let schema = match answer {
                Some(PulledSchema::Schema(schema)) => Some(schema.0),
                Some(PulledSchema::Same) | None => None,
            };
            Some(Event::Pulled { from, schema })
        });
    }

    /// Asks a peer; `event` says what came back, nothing included.
    fn ask_peer<V: Verb>(
        &self,
        to: NodeId,
        verb: &V,
        ctx: &KulaContext<Self>,
        event: impl FnOnce(Option<V::Answer>) -> Option<Event> + Send + 'static,
    ) where
        V::Answer: Send + 'static,
    {
        let me = ctx.door().clone();
        let deadline = self.parts.clock.mono().after(limits::ASK_WITHIN);
        let reply = Reply::new(move |answer: Result<Result<V::Answer, _>, _>| {
            if let Some(event) = event(answer.ok().and_then(Result::ok)) {
                // A node that is stopping takes no answer any more.
                drop(me.tell_forced(Happened(event)));
            }
        });
        self.parts.peers.ask(to, verb, deadline, reply);
    }

    /// A peer's verb. One that is not understood is dropped: the peer learns that its answer is lost.
    fn inbound(&mut self, inbound: Inbound, ctx: &mut KulaContext<Self>) {
        let from = inbound.from;
        match inbound.verb {
            SchemaIs::CODE => {
                if let Ok(is) = inbound.read::<SchemaIs>() {
                    let mine =
                        SchemaIs { digest: self.machine.digest().0, ring_version: self.parts.ring.load().version };
                    inbound.reply_of::<SchemaIs>().send(mine);
                    self.run(Event::Told { from, is, asked: false }, ctx);
                }
            }
            PullSchema::CODE => {
                if let Ok(PullSchema { digest }) = inbound.read::<PullSchema>() {
                    match self.pulled_by(digest) {
                        Ok(answer) => inbound.reply_of::<PullSchema>().send(answer),
                        Err(error) => slog::error!(self.parts.log, "cannot give the schema away"; "error" => %error),
                    }
                }
            }
            verb => slog::warn!(self.parts.log, "a verb that the catalogue does not know"; "verb" => verb),
        }
    }

    fn pulled_by(&self, digest: u128) -> Result<PulledSchema, CatalogError> {
        if digest == self.machine.digest().0 {
            return Ok(PulledSchema::Same);
        }
        Ok(PulledSchema::Schema(Bytes::from(form::encode(self.machine.schema())?).into()))
    }

    fn tick(&mut self, ctx: &mut KulaContext<Self>) {
        self.run(Event::Tick, ctx);
        ctx.run_later(limits::TICK, Self::tick);
    }
}

/// The other members that gossip believes to be up.
pub fn live(ring: &Ring, membership: &Membership) -> Live {
    let members = ring.nodes.iter().filter(|node| node.id != membership.me);
    let views = members.filter_map(|node| Some((node, membership.get(node.id)?)));
    let up = views.filter(|(_, view)| view.state.is_up() && !view.suspected_here);
    up.map(|(node, view)| {
        let fact = view.facts.get(&FactKey::SCHEMA).and_then(|fact| <[u8; 16]>::try_from(&fact[..]).ok());
        let digest = fact.map(|bytes| SchemaDigest(u128::from_le_bytes(bytes)));
        (node.id, Peer { name: node.name.clone(), digest })
    })
    .collect()
}

impl Answer {
    fn send(self, answer: Result<Changed, CatalogError>) {
        match (self, answer) {
            (Answer::Keyspace(reply), Ok(Changed::Keyspace(keyspace))) => reply.send(Ok(keyspace)),
            (Answer::Table(reply), Ok(Changed::Table(table))) => reply.send(Ok(table)),
            (Answer::Dropped(reply), Ok(Changed::Dropped)) => reply.send(Ok(())),
            (Answer::Keyspace(reply), Err(error)) => reply.send(Err(error)),
            (Answer::Table(reply), Err(error)) => reply.send(Err(error)),
            (Answer::Dropped(reply), Err(error)) => reply.send(Err(error)),
            (_, Ok(changed)) => panic!("an answer of another shape: {changed:?}"),
        }
    }
}

impl Actor for CatalogActor {
    type Context = KulaContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.announce();
        self.tick(ctx);
    }
}

supervised!(CatalogActor);

impl Handler<CreateKeyspace> for CatalogActor {
    type Result = ();

    fn handle(&mut self, CreateKeyspace { name, settings, reply }: CreateKeyspace, ctx: &mut Self::Context) {
        self.ask(Change::CreateKeyspace { name, settings }, Answer::Keyspace(reply), ctx);
    }
}

impl Handler<AlterKeyspace> for CatalogActor {
    type Result = ();

    fn handle(&mut self, AlterKeyspace { name, settings, reply }: AlterKeyspace, ctx: &mut Self::Context) {
        self.ask(Change::AlterKeyspace { name, settings }, Answer::Keyspace(reply), ctx);
    }
}

impl Handler<DropKeyspace> for CatalogActor {
    type Result = ();

    fn handle(&mut self, DropKeyspace { name, reply }: DropKeyspace, ctx: &mut Self::Context) {
        self.ask(Change::DropKeyspace { name }, Answer::Dropped(reply), ctx);
    }
}

impl Handler<CreateTable> for CatalogActor {
    type Result = ();

    fn handle(&mut self, message: CreateTable, ctx: &mut Self::Context) {
        let CreateTable { keyspace, name, kind, options, reply } = message;
        let definition = TableDefinition { name, kind, options };
        self.ask(Change::CreateTable { keyspace, definition }, Answer::Table(reply), ctx);
    }
}

impl Handler<DropTable> for CatalogActor {
    type Result = ();

    fn handle(&mut self, DropTable { keyspace, name, reply }: DropTable, ctx: &mut Self::Context) {
        self.ask(Change::DropTable { keyspace, name }, Answer::Dropped(reply), ctx);
    }
}

impl Handler<Happened> for CatalogActor {
    type Result = ();

    fn handle(&mut self, Happened(event): Happened, ctx: &mut Self::Context) {
        self.run(event, ctx);
    }
}

impl Handler<InboundBatch> for CatalogActor {
    type Result = ();

    fn handle(&mut self, InboundBatch { frames }: InboundBatch, ctx: &mut Self::Context) {
        frames.into_iter().for_each(|inbound| self.inbound(inbound, ctx));
    }
}

impl Handler<GossipEvent> for CatalogActor {
    type Result = ();

    fn handle(&mut self, event: GossipEvent, ctx: &mut Self::Context) {
        match event {
            GossipEvent::FactChanged { key: FactKey::SCHEMA, .. } => self.run(Event::Tick, ctx),
            // A change that waited for this node waits no more.
            GossipEvent::PeerSuspected { .. } | GossipEvent::PeerDown { .. } => self.run(Event::Woken, ctx),
            GossipEvent::FactChanged { .. } | GossipEvent::Discovered { .. } | GossipEvent::PeerUp { .. } => (),
        }
    }
}

impl Handler<Pull> for CatalogActor {
    type Result = ();

    fn handle(&mut self, Pull { from }: Pull, ctx: &mut Self::Context) {
        self.run(Event::Differs { from }, ctx);
    }
}

impl Handler<Get> for CatalogActor {
    type Result = ();

    fn handle(&mut self, Get { reply }: Get, _: &mut Self::Context) {
        reply.send(self.machine.schema().clone());
    }
}

impl Handler<Subscribe> for CatalogActor {
    type Result = ();

    fn handle(&mut self, Subscribe(subscriber): Subscribe, _: &mut Self::Context) {
        assert!(self.subscribers.len() < limits::SUBSCRIBERS_MAX, "subscribers are rooms of this node");
        let told = subscriber.publish_forced(SchemaChanged(self.machine.schema().clone()));
        if told.is_ok() {
            self.subscribers.push(subscriber);
        }
    }
}
