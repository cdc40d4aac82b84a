//! The replica's shell: mailbox → machine → its shard. Nothing to decide.
//!
//! It runs on its shard's thread, so a batch and its answers cross no thread but the coordinator's. Batches of one
//! mailbox poll become one `Apply` and one `Read`: that is what a group commit shares. A panic beside data fences.

mod inbound;

use crate::{
    Request, limits,
    machine::{Effects, Machine, ShardOf, View},
    messages::{Outcome, ReplicaBatch},
    metrics::Metrics,
    range,
};
use actix::prelude::{Actor, Handler};
use inbound::InboundActor;
use kula_actor::{
    ChildSpec, Door, DoorError, KulaContext, MailboxConfig, OnPanic, Place, Registry, Subscriber, child, supervised,
};
use kula_catalog::{CatalogActor, SchemaHandle};
use kula_clock::{Clock, Hlc};
use kula_ring::{RingActor, RingHandle};
use kula_storage::{Apply, Read, ShardActor, StorageDoors, StorageError};
use kula_transport::Peers;
use kula_types::Token;
use kula_wire::Room;
use std::{mem, sync::Arc};

pub struct ReplicaActor {
    machine: Machine,
    ring: RingHandle,
    schema: SchemaHandle,
    clock: Arc<dyn Clock>,
    hlc: Arc<Hlc>,
    shard: Door<ShardActor>,
    /// All shards: a range of tokens lies in many.
    storage: StorageDoors,
    ring_door: Door<RingActor>,
    catalog_door: Door<CatalogActor>,
    /// What this poll of the mailbox has for the shard so far.
    effects: Effects,
    metrics: Metrics,
}

/// What the replicas of a node need to live.
pub struct Spawn {
    pub ring: RingHandle,
    pub schema: SchemaHandle,
    pub clock: Arc<dyn Clock>,
    /// This node's own clock: what it stamps is never too far ahead for it.
    pub hlc: Arc<Hlc>,
    pub storage: StorageDoors,
    /// Of each shard, in order: its arbiter.
    pub places: Vec<Place>,
    /// Whose requests come in; this room is registered with them.
    pub peers: Peers,
    /// Where what peers send is taken apart.
    pub inbound: Place,
    /// Told where a newer ring is.
    pub ring_door: Door<RingActor>,
    /// Told where an unknown table is known.
    pub catalog_door: Door<CatalogActor>,
}

/// The replicas of a node, one a shard.
#[derive(Clone)]
pub struct Replicas {
    doors: Arc<[Door<ReplicaActor>]>,
    shard_of: ShardOf,
}

/// The actors at paths `replica/i` and `replica/inbound`. Before the tree runs.
pub fn spawn(spawn: Spawn, registry: &Registry) -> (Replicas, Vec<ChildSpec>) {
    let Spawn { ring, schema, clock, hlc, storage, places, peers, inbound, ring_door, catalog_door } = spawn;
    assert_eq!(places.len(), storage.shards.len(), "a replica beside each shard");
    let doors = storage.shards.clone();
    let sharding = storage.sharding();
    let shard_of: ShardOf = Arc::new(move |token| usize::from(sharding.shard_of(token)));
    let metrics = Metrics::new(registry);
    let mailbox = MailboxConfig { cap: limits::MAILBOX };
    let beside = |(index, (place, shard)): (usize, (Place, Door<ShardActor>))| {
        let path: Arc<str> = format!("replica/{index}").into();
        let (ring, schema, metrics) = (ring.clone(), schema.clone(), metrics.clone());
        let (clock, hlc) = (Arc::clone(&clock), Arc::clone(&hlc));
        let (ring_door, catalog_door, storage) = (ring_door.clone(), catalog_door.clone(), storage.clone());
        let (shard_of, name) = (Arc::clone(&shard_of), Arc::clone(&path));
        child(registry, &path, mailbox, OnPanic::Fence, place, move || ReplicaActor {
            machine: Machine::new(Arc::clone(&name), index, Arc::clone(&shard_of)),
            ring: ring.clone(),
            schema: schema.clone(),
            clock: Arc::clone(&clock),
            hlc: Arc::clone(&hlc),
            shard: shard.clone(),
            storage: storage.clone(),
            ring_door: ring_door.clone(),
            catalog_door: catalog_door.clone(),
            effects: Effects::default(),
            metrics: metrics.clone(),
        })
    };
    let (doors, mut specs): (Vec<_>, Vec<_>) = places.into_iter().zip(doors).enumerate().map(beside).unzip();
    let replicas = Replicas { doors: doors.into(), shard_of };

    let (own, own_clock) = (replicas.clone(), Arc::clone(&clock));
    let mailbox = MailboxConfig { cap: limits::INBOUND_MAILBOX };
    let (door, spec) = child(registry, "replica/inbound", mailbox, OnPanic::Restart, inbound, move || {
        InboundActor::new(own.clone(), Arc::clone(&own_clock), metrics.clone())
    });
    peers.register(Room::Replica, Subscriber::from(&door));
    specs.push(spec);
    (replicas, specs)
}

impl Replicas {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.doors.len()
    }

    /// Which replica serves this token: the place of its batch.
    pub fn index_of(&self, token: Token) -> usize {
        (self.shard_of)(token)
    }

    /// Hands a batch to the replica with this index. What could not be sent comes back, with the reason.
    pub fn send(&self, index: usize, requests: Vec<Request>) -> Result<(), (Vec<Request>, DoorError)> {
        let sent = self.doors[index].try_tell(ReplicaBatch { requests });
        sent.map_err(|refused| (refused.message.requests, refused.error))
    }

    /// As `send`; what could not be sent is answered `Overloaded` or `Closed`.
    pub fn send_or_refuse(&self, index: usize, requests: Vec<Request>) {
        if let Err((requests, error)) = self.send(index, requests) {
            requests.into_iter().for_each(|request| request.reply.send(Err((&error).into())));
        }
    }
}

impl ReplicaActor {
    /// The mailbox is drained: one message of each kind to the shard.
    fn flush(&mut self, _: &mut KulaContext<Self>) {
        self.metrics.count(&self.effects);
        let Effects { apply, read, ranges, refused, settled, pull_ring, pull_schema } = mem::take(&mut self.effects);
        settled.into_iter().for_each(|reply| reply.send(Ok(Outcome::Applied)));
        for (reply, refusal) in refused {
            reply.send(Err(refusal));
        }
        // Refused only by actors with much to do; the next request that shows it asks again.
        if let Some(from) = pull_ring {
            drop(self.ring_door.tell(kula_ring::Pull { from }));
        }
        if let Some(from) = pull_schema {
            drop(self.catalog_door.tell(kula_catalog::Pull { from }));
        }
        if !apply.is_empty()
            && let Err(back) = self.shard.try_tell(Apply { ops: apply })
        {
            back.message.ops.into_iter().for_each(|op| op.reply.send(Err(refusal(&back.error))));
        }
        if !read.is_empty()
            && let Err(back) = self.shard.try_tell(Read { ops: read })
        {
            back.message.ops.into_iter().for_each(|op| op.reply.send(Err(refusal(&back.error))));
        }
        ranges.into_iter().for_each(|op| range::begin(&self.storage, op));
    }
}

/// Nothing of the message was taken.
pub(crate) fn refusal(error: &DoorError) -> StorageError {
    match error {
        DoorError::Overloaded { path, .. } => StorageError::Overloaded { path: Arc::clone(path) },
        DoorError::Closed { .. } => StorageError::ShuttingDown,
    }
}

impl Actor for ReplicaActor {
    type Context = KulaContext<Self>;
}

supervised!(ReplicaActor);

impl Handler<ReplicaBatch> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, batch: ReplicaBatch, ctx: &mut Self::Context) {
        let (ring, schema) = (self.ring.peek(), self.schema.peek());
        let latest = self.clock.wall().max(self.hlc.last());
        let view = View { now: self.clock.mono(), latest, ring: &ring, schema: &schema };
        self.machine.step(view, batch, &mut self.effects);
        ctx.after_drain(Self::flush);
    }
}
