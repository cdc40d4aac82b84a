//! The catalogue's shell: mailbox → machine → disk, ring, handle, subscribers. Nothing to decide.
//!
//! A change is synced inside the handler: give the actor an arbiter on which nothing urgent waits. A panic beside data
//! fences the node.

use crate::{
    AlterKeyspace, CatalogError, Change, Changed, CreateKeyspace, CreateTable, DropKeyspace, DropTable, Effect, Event,
    Get, Machine, OperationId, SchemaChanged, SchemaHandle, Subscribe, limits, state,
};
use actix::prelude::{Actor, Handler};
use kula_actor::{
    ChildSpec, Door, KulaContext, MailboxConfig, OnPanic, Place, Registry, Reply, Subscriber, child, supervised,
};
use kula_clock::{Clock, Hlc};
use kula_disk::Disk;
use kula_ring::{Commit, RingActor, RingChange, RingError, RingHandle};
use kula_schema::{Keyspace, Schema, Table, TableDefinition};
use std::{collections::BTreeMap, sync::Arc};

pub struct CatalogActor {
    machine: Machine,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    hlc: Arc<Hlc>,
    ring: RingHandle,
    ring_door: Door<RingActor>,
    handle: SchemaHandle,
    subscribers: Vec<Subscriber<SchemaChanged>>,
    replies: BTreeMap<OperationId, Answer>,
    operations: u64,
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
    pub place: Place,
    pub log: slog::Logger,
}

/// The ring's answer to a commit, on its way back through the mailbox.
#[derive(Debug, actix::Message)]
#[rtype(result = "()")]
struct Committed(Result<(), RingError>);

/// The actor at path `catalog`, and the handle from which everybody reads.
pub fn spawn(spawn: Spawn, registry: &Registry) -> (Door<CatalogActor>, SchemaHandle, ChildSpec) {
    let Spawn { disk, schema, ring, ring_door, clock, hlc, place, log } = spawn;
    let handle = SchemaHandle::new(Arc::new(schema));
    let published = handle.clone();
    let factory = move || CatalogActor {
        machine: Machine::new(published.load()),
        disk: disk.clone(),
        clock: clock.clone(),
        hlc: hlc.clone(),
        ring: ring.clone(),
        ring_door: ring_door.clone(),
        handle: published.clone(),
        subscribers: Vec::new(),
        replies: BTreeMap::new(),
        operations: 0,
        log: log.clone(),
    };
    let mailbox = MailboxConfig { cap: limits::MAILBOX };
    let (door, spec) = child(registry, "catalog", mailbox, OnPanic::Fence, place, factory);
    (door, handle, spec)
}

impl CatalogActor {
    fn ask(&mut self, change: Change, answer: Answer, ctx: &mut KulaContext<Self>) {
        let Ok(now) = self.hlc.stamp(self.clock.wall()) else { return answer.send(Err(CatalogError::ClockLease)) };
        let id = OperationId(self.operations);
        self.operations += 1;
        self.replies.insert(id, answer);
        self.run(Event::Asked { id, now, change }, ctx);
    }

    fn run(&mut self, event: Event, ctx: &mut KulaContext<Self>) {
        let mut effects = Vec::new();
        self.machine.step(&self.ring.load(), event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Commit { change } => self.commit(change, ctx),
                Effect::Store { schema } => {
                    let outcome = state::store(&*self.disk, &schema);
                    self.run(Event::Stored { outcome }, ctx);
                }
                Effect::Publish { schema } => self.publish(schema),
                Effect::Answer { id, answer } => {
                    if let Some(reply) = self.replies.remove(&id) {
                        reply.send(answer);
                    }
                }
                Effect::Fence { cause } => ctx.fence(cause.to_string()),
            }
        }
    }

    fn commit(&mut self, change: RingChange, ctx: &mut KulaContext<Self>) {
        let me = ctx.door().clone();
        let reply = Reply::new(move |answer: Result<Result<_, RingError>, _>| {
            let outcome = answer.unwrap_or(Err(RingError::Closed)).map(drop);
            // Gone together with this node's tree if it cannot be delivered; then nobody waits for it.
            drop(me.tell_forced(Committed(outcome)));
        });
        // A door that refuses drops the reply, which answers that the ring is gone.
        drop(self.ring_door.tell_forced(Commit { change, reply }));
    }

    fn publish(&mut self, schema: Arc<Schema>) {
        slog::info!(self.log, "schema changed"; "event" => "schema_changed", "digest" => %schema.digest());
        self.handle.store(schema.clone());
        // Past the bound: a new schema must not be missed. One that is gone for good is forgotten.
        self.subscribers.retain(|subscriber| subscriber.publish_forced(SchemaChanged(schema.clone())).is_ok());
    }
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

impl Handler<Committed> for CatalogActor {
    type Result = ();

    fn handle(&mut self, Committed(outcome): Committed, ctx: &mut Self::Context) {
        self.run(Event::Committed { outcome }, ctx);
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
