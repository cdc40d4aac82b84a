//! The replica's shell: mailbox → machine → its shard. Nothing to decide.
//!
//! It runs on its shard's thread, so a batch and its answers cross no thread but the coordinator's. Batches of one
//! mailbox poll become one `Apply` and one `Read`: that is what a group commit shares. A panic beside data fences.

use crate::{
    Request, limits,
    machine::{Effects, Machine, ShardOf, View},
    messages::ReplicaBatch,
    metrics::Metrics,
};
use actix::prelude::{Actor, Handler};
use kula_actor::{ChildSpec, Door, DoorError, KulaContext, MailboxConfig, OnPanic, Place, Registry, child, supervised};
use kula_catalog::SchemaHandle;
use kula_clock::{Clock, Hlc};
use kula_ring::RingHandle;
use kula_storage::{Apply, Read, ShardActor, StorageDoors, StorageError};
use kula_types::Token;
use std::{mem, sync::Arc};

pub struct ReplicaActor {
    machine: Machine,
    ring: RingHandle,
    schema: SchemaHandle,
    clock: Arc<dyn Clock>,
    hlc: Arc<Hlc>,
    shard: Door<ShardActor>,
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
}

/// The replicas of a node, one a shard.
#[derive(Clone)]
pub struct Replicas {
    doors: Arc<[Door<ReplicaActor>]>,
    shard_of: ShardOf,
}

/// The actors at paths `replica/i`.
pub fn spawn(spawn: Spawn, registry: &Registry) -> (Replicas, Vec<ChildSpec>) {
    let Spawn { ring, schema, clock, hlc, storage, places } = spawn;
    assert_eq!(places.len(), storage.shards.len(), "a replica beside each shard");
    let doors = storage.shards.clone();
    let shard_of: ShardOf = Arc::new(move |token| storage.shard_of(token));
    let metrics = Metrics::new(registry);
    let mailbox = MailboxConfig { cap: limits::MAILBOX };
    let beside = |(index, (place, shard)): (usize, (Place, Door<ShardActor>))| {
        let path: Arc<str> = format!("replica/{index}").into();
        let (ring, schema, metrics) = (ring.clone(), schema.clone(), metrics.clone());
        let (clock, hlc) = (Arc::clone(&clock), Arc::clone(&hlc));
        let (shard_of, name) = (Arc::clone(&shard_of), Arc::clone(&path));
        child(registry, &path, mailbox, OnPanic::Fence, place, move || ReplicaActor {
            machine: Machine::new(Arc::clone(&name), index, Arc::clone(&shard_of)),
            ring: ring.clone(),
            schema: schema.clone(),
            clock: Arc::clone(&clock),
            hlc: Arc::clone(&hlc),
            shard: shard.clone(),
            effects: Effects::default(),
            metrics: metrics.clone(),
        })
    };
    let (doors, specs): (Vec<_>, Vec<_>) = places.into_iter().zip(doors).enumerate().map(beside).unzip();
    (Replicas { doors: doors.into(), shard_of }, specs)
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
}

impl ReplicaActor {
    /// The mailbox is drained: one message of each kind to the shard.
    fn flush(&mut self, _: &mut KulaContext<Self>) {
        self.metrics.count(&self.effects);
        let Effects { apply, read, refused } = mem::take(&mut self.effects);
        for (reply, refusal) in refused {
            reply.send(Err(refusal));
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
    }
}

/// Nothing of the message was taken.
fn refusal(error: &DoorError) -> StorageError {
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
