//! The ring's shell: mailbox → machine → disk, handle, subscribers. Nothing to decide.
//!
//! A change is synced inside the handler: give the actor an arbiter on which nothing urgent waits. A panic beside data
//! fences the node.

use crate::{
    Commit, CommitId, Drawn, Effect, Event, Get, Machine, RingChanged, RingError, RingHandle, Subscribe, limits, state,
};
use actix::prelude::{Actor, Handler};
use kula_actor::{
    ChildSpec, Door, KulaContext, MailboxConfig, OnPanic, Place, Registry, Reply, Subscriber, child, supervised,
};
use kula_disk::Disk;
use kula_placement::{Ring, Secret};
use kula_types::ClusterId;
use std::{collections::BTreeMap, sync::Arc};

type Answer = Reply<Result<Arc<Ring>, RingError>>;

pub struct RingActor {
    machine: Machine,
    disk: Arc<dyn Disk>,
    handle: RingHandle,
    subscribers: Vec<Subscriber<RingChanged>>,
    replies: BTreeMap<CommitId, Answer>,
    commits: u64,
    log: slog::Logger,
}

/// What the ring actor needs to live.
pub struct Spawn {
    pub disk: Arc<dyn Disk>,
    /// From `open`: durable.
    pub ring: Ring,
    pub place: Place,
    pub log: slog::Logger,
}

/// The random numbers of a new cluster, from the operating system.
pub fn draw() -> Result<Drawn, RingError> {
    let (mut cluster, mut secret) = ([0; 16], [0; 32]);
    getrandom::fill(&mut cluster).and_then(|()| getrandom::fill(&mut secret)).map_err(|_| RingError::Entropy)?;
    let cluster = ClusterId(uuid::Builder::from_random_bytes(cluster).into_uuid());
    Ok(Drawn { cluster, context_secret: Secret::new(secret) })
}

/// The actor at path `ring`, and the handle from which everybody reads.
pub fn spawn(spawn: Spawn, registry: &Registry) -> (Door<RingActor>, RingHandle, ChildSpec) {
    let Spawn { disk, ring, place, log } = spawn;
    let handle = RingHandle::new(Arc::new(ring));
    let published = handle.clone();
    let factory = move || RingActor {
        machine: Machine::new(published.load()),
        disk: disk.clone(),
        handle: published.clone(),
        subscribers: Vec::new(),
        replies: BTreeMap::new(),
        commits: 0,
        log: log.clone(),
    };
    let mailbox = MailboxConfig { cap: limits::MAILBOX };
    let (door, spec) = child(registry, "ring", mailbox, OnPanic::Fence, place, factory);
    (door, handle, spec)
}

impl RingActor {
    fn run(&mut self, event: Event, ctx: &mut KulaContext<Self>) {
        let mut effects = Vec::new();
        self.machine.step(event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Store { ring } => {
                    let outcome = state::store(&*self.disk, &ring);
                    self.run(Event::Stored { outcome }, ctx);
                }
                Effect::Publish { ring } => self.publish(ring),
                Effect::Answer { id, answer } => {
                    if let Some(reply) = self.replies.remove(&id) {
                        reply.send(answer);
                    }
                }
                Effect::Fence { cause } => ctx.fence(cause.to_string()),
            }
        }
    }

    fn publish(&mut self, ring: Arc<Ring>) {
        slog::info!(self.log, "ring changed"; "event" => "ring_changed", "version" => ring.version);
        self.handle.store(ring.clone());
        // Past the bound: a new ring must not be missed. One that is gone for good is forgotten.
        self.subscribers.retain(|subscriber| subscriber.publish_forced(RingChanged(ring.clone())).is_ok());
    }
}

impl Actor for RingActor {
    type Context = KulaContext<Self>;
}

supervised!(RingActor);

impl Handler<Commit> for RingActor {
    type Result = ();

    fn handle(&mut self, Commit { change, reply }: Commit, ctx: &mut Self::Context) {
        let id = CommitId(self.commits);
        self.commits += 1;
        self.replies.insert(id, reply);
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
        let told = subscriber.publish_forced(RingChanged(self.machine.ring().clone()));
        if told.is_ok() {
            self.subscribers.push(subscriber);
        }
    }
}
