//! The coordinator's shell: mailbox → machine → replicas, peers, askers. Nothing to decide.
//!
//! A session actor: it owns no data, so a panic restarts it. Each start draws a fresh actor id, dots of two lives never
//! meet; what was in hand is lost and answered so. Sends of one mailbox poll become one batch for each shard and peer.

use crate::{
    error::{Applied, CoordinatorError},
    limits,
    machine::{Answered, Effect, Event, HintAnswer, Machine, Tag, View},
    messages::{Read, Write},
    metrics::Metrics,
    peers::PeerSender,
    scan::Scan,
};
use actix::prelude::{Actor, AsyncContext, Handler, SpawnHandle};
use kula_actor::{
    ChildSpec, Door, DoorError, KulaContext, Lost, MailboxConfig, OnPanic, Place, Registry, Reply, Subscriber, child,
    supervised,
};
use kula_catalog::SchemaHandle;
use kula_clock::{Clock, Dice, Hlc};
use kula_fault::{Site, buggify};
use kula_gossip::{Gossip, GossipEvent};
use kula_handoff::{Handoff, HandoffError, StoreHint};
use kula_replica::{Outcome, ReplicaError, Replicas, Request};
use kula_ring::{RingActor, RingHandle};
use kula_types::{Actor as Minting, Map, Mono, NodeId, Token};
use std::{
    mem,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

pub struct CoordinatorActor {
    machine: Machine,
    parts: Parts,
    inbox: Arc<Inbox>,
    effects: Vec<Effect>,
    /// By replica: what this poll of the mailbox has for it so far.
    batches: Vec<Vec<Request>>,
    to_peers: Map<NodeId, Vec<(Token, Request)>>,
    to_handoff: Vec<StoreHint>,
    /// The one timer, and when it fires.
    timer: Option<(Mono, SpawnHandle)>,
}

/// What every life of a coordinator shares.
#[derive(Clone)]
struct Parts {
    me: NodeId,
    ring: RingHandle,
    schema: SchemaHandle,
    clock: Arc<dyn Clock>,
    dice: Arc<dyn Dice>,
    replicas: Replicas,
    peers: Arc<dyn PeerSender>,
    handoff: Handoff,
    ring_door: Door<RingActor>,
    siblings: Siblings,
    metrics: Metrics,
    log: slog::Logger,
}

/// All coordinators of the node, this one among them: one of them hears gossip and tells all.
type Siblings = Arc<OnceLock<Arc<[Door<CoordinatorActor>]>>>;

/// What the coordinators of a node need to live.
pub struct Spawn {
    pub me: NodeId,
    pub ring: RingHandle,
    pub schema: SchemaHandle,
    pub hlc: Arc<Hlc>,
    pub clock: Arc<dyn Clock>,
    /// Each life of a coordinator draws its actor id.
    pub dice: Arc<dyn Dice>,
    pub replicas: Replicas,
    pub peers: Arc<dyn PeerSender>,
    /// Keeps what owners miss.
    pub handoff: Handoff,
    /// Says when a node is suspected.
    pub gossip: Gossip,
    /// Told where a newer ring is.
    pub ring_door: Door<RingActor>,
    /// One for each coordinator.
    pub places: Vec<Place>,
    pub mailbox: MailboxConfig,
    pub log: slog::Logger,
}

/// The coordinators of a node.
#[derive(Clone)]
pub struct Coordinators {
    doors: Arc<[Door<CoordinatorActor>]>,
    ring: RingHandle,
    clock: Arc<dyn Clock>,
}

/// Answers of replicas and of hand-off on their way back, many for one message: a group commit answers all its writes at
/// once. Bounded by what was sent.
#[derive(Default)]
struct Inbox {
    answers: Mutex<Vec<Event>>,
}

/// There is something in the inbox.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Answers;

/// Gossip suspects this node.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Suspected(NodeId);

/// Stopping is near: what answered writes still owe becomes hints.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Drain;

/// Client requests with the time they were handed over, under the names that the mailbox log shows.
mod submitted {
    use kula_types::Mono;

    #[derive(actix::Message)]
    #[rtype(result = "()")]
    pub struct Write {
        pub write: super::Write,
        pub at: Mono,
    }

    #[derive(actix::Message)]
    #[rtype(result = "()")]
    pub struct Read {
        pub read: super::Read,
        pub at: Mono,
    }

    #[derive(actix::Message)]
    #[rtype(result = "()")]
    pub struct Scan {
        pub scan: super::Scan,
        pub at: Mono,
    }
}

/// The actors at paths `coordinator/i`.
pub fn spawn(spawn: Spawn, registry: &Registry) -> (Coordinators, Vec<ChildSpec>) {
    let Spawn { me, ring, schema, hlc, clock, dice, replicas, peers, handoff, gossip, ring_door, .. } = spawn;
    let Spawn { places, mailbox, log, .. } = spawn;
    assert!(!places.is_empty(), "a node has a coordinator");
    let (handle_ring, handle_clock, siblings) = (ring.clone(), Arc::clone(&clock), Siblings::default());
    let each = |(index, place): (usize, Place)| {
        let path: Arc<str> = format!("coordinator/{index}").into();
        let parts = Parts {
            me,
            ring: ring.clone(),
            schema: schema.clone(),
            clock: Arc::clone(&clock),
            dice: Arc::clone(&dice),
            replicas: replicas.clone(),
            peers: Arc::clone(&peers),
            handoff: handoff.clone(),
            ring_door: ring_door.clone(),
            siblings: Arc::clone(&siblings),
            metrics: Metrics::new(registry, &path),
            log: log.new(slog::o!("actor" => path.to_string())),
        };
        let (hlc, name) = (Arc::clone(&hlc), Arc::clone(&path));
        let (door, spec) = child(registry, &path, mailbox, OnPanic::Restart, place, move || CoordinatorActor {
            machine: Machine::new(Arc::clone(&name), Arc::clone(&hlc), Minting(draw(&*parts.dice)), draw(&*parts.dice)),
            batches: (0..parts.replicas.count()).map(|_| Vec::new()).collect(),
            parts: parts.clone(),
            inbox: Arc::default(),
            effects: Vec::new(),
            to_peers: Map::default(),
            to_handoff: Vec::new(),
            timer: None,
        });
        let stopping = door.clone();
        let spec = spec.drain(move || async move { stopping.ask_forced(Drain).await.unwrap_or_default() });
        (door, spec)
    };
    let (doors, specs): (Vec<_>, Vec<_>) = places.into_iter().enumerate().map(each).unzip();
    gossip.subscribe(Subscriber::from(&doors[0]));
    let doors: Arc<[_]> = doors.into();
    assert!(siblings.set(Arc::clone(&doors)).is_ok(), "set once");
    (Coordinators { doors, ring: handle_ring, clock: handle_clock }, specs)
}

impl Coordinators {
    /// Hands a write to the coordinator of its key; the answer comes through its reply, a refusal too.
    pub fn write(&self, write: Write) {
        let message = submitted::Write { at: self.clock.mono(), write };
        if let Err(refused) = self.door_of(&message.write.target.key).try_tell(message) {
            refused.message.write.reply.send(Err(refusal(refused.error)));
        }
    }

    /// As `write`.
    pub fn read(&self, read: Read) {
        let message = submitted::Read { at: self.clock.mono(), read };
        if let Err(refused) = self.door_of(&message.read.target.key).try_tell(message) {
            refused.message.read.reply.send(Err(refusal(refused.error)));
        }
    }

    /// As `write`. Pages that begin at the start of a table spread by the time they were asked for.
    pub fn scan(&self, scan: Scan) {
        let message = submitted::Scan { at: self.clock.mono(), scan };
        let by_time = || self.door_number(u64::from(message.at.0.subsec_nanos()));
        let door = message.scan.after.as_ref().map_or_else(by_time, |key| self.door_of(key));
        if let Err(refused) = door.try_tell(message) {
            refused.message.scan.reply.send(Err(refusal(refused.error)));
        }
    }

    /// One key, one coordinator: the chain of its dots stays unbroken. Keys spread by their tokens' low bits, shards by
    /// the high ones.
    fn door_of(&self, key: &kula_types::PartitionKey) -> &Door<CoordinatorActor> {
        let token = self.ring.peek().token(key);
        self.door_number(token.to_unsigned())
    }

    fn door_number(&self, number: u64) -> &Door<CoordinatorActor> {
        let index = number % self.doors.len() as u64;
        &self.doors[usize::try_from(index).unwrap_or(0)]
    }
}

/// Nothing was taken.
fn refusal(error: DoorError) -> CoordinatorError {
    match error {
        DoorError::Overloaded { path, depth, cap } => {
            CoordinatorError::Overloaded { path, depth, cap, applied: Applied::No }
        }
        DoorError::Closed { .. } => CoordinatorError::Stopping,
    }
}

/// Without randomness there is no identity to mint under: the supervisor tries again, and gives up in the end.
fn draw(dice: &dyn Dice) -> u64 {
    dice.draw().unwrap_or_else(|error| panic!("{error}"))
}

impl CoordinatorActor {
    fn step(&mut self, event: Event, ctx: &mut KulaContext<Self>) {
        assert!(!buggify(Site::CoordinatorPanics), "a planted panic");
        let parts = &self.parts;
        let (ring, schema) = (parts.ring.peek(), parts.schema.peek());
        let reaches = |node| node == parts.me || parts.peers.reaches(node);
        let (now, wall) = (parts.clock.mono(), parts.clock.wall());
        let view = View { now, wall, me: parts.me, ring: &ring, schema: &schema, reaches: &reaches };
        self.machine.step(&view, event, &mut self.effects);
        drop((ring, schema));
        let mut effects = mem::take(&mut self.effects);
        effects.drain(..).for_each(|effect| self.run(effect, ctx));
        self.effects = effects;
        ctx.after_drain(Self::drained);
    }

    fn run(&mut self, effect: Effect, ctx: &mut KulaContext<Self>) {
        self.parts.metrics.count(&effect, self.parts.me);
        match effect {
            Effect::Send { to, token, tag, fence, deadline, op } => {
                let reply = self.reply(tag, ctx);
                self.queue(to, token, Request { from: None, fence, deadline, op, reply });
            }
            Effect::StoreHint { request, target, token, mutation } => {
                let reply = self.hint_reply(request, target, ctx);
                self.to_handoff.push(StoreHint { target, token, mutation, reply });
            }
            // A ring with much to do hears of it from the next request.
            Effect::PullRing { from } => drop(self.parts.ring_door.tell(kula_ring::Pull { from })),
            Effect::AnswerWrite { reply, answer, .. } => reply.send(answer),
            Effect::AnswerRead { reply, answer, .. } => reply.send(answer),
            Effect::AnswerScan { reply, answer, .. } => reply.send(answer),
            Effect::ManySiblings { table, key, values, say: true } => {
                slog::warn!(self.parts.log, "a key has {} siblings: somebody writes it without its context", values;
                    "event" => "many_siblings", "keyspace" => %table.keyspace, "table" => %table.name, "key" => ?key,
                    "siblings" => values);
            }
            Effect::ManySiblings { say: false, .. }
            | Effect::Hinted(_)
            | Effect::OtherRing
            | Effect::Hedged
            | Effect::CrowdedOut
            | Effect::Repaired
            | Effect::Late => {}
        }
    }

    fn reply(&self, tag: Tag, ctx: &KulaContext<Self>) -> Reply<Result<Outcome, ReplicaError>> {
        self.way_back(ctx, move |answer: Result<Result<Outcome, ReplicaError>, Lost>| {
            let answer = match answer {
                Ok(Ok(outcome)) => Answered::Served(outcome),
                Ok(Err(error)) => Answered::Refused(error),
                Err(Lost) => Answered::Lost,
            };
            Event::Replied { tag, answer }
        })
    }

    fn hint_reply(&self, request: u64, target: NodeId, ctx: &KulaContext<Self>) -> Reply<Result<(), HandoffError>> {
        self.way_back(ctx, move |answer: Result<Result<(), HandoffError>, Lost>| {
            let answer = match answer {
                Ok(Ok(())) => HintAnswer::Kept,
                Ok(Err(HandoffError::Overloaded { .. })) => HintAnswer::Busy,
                Ok(Err(_)) | Err(Lost) => HintAnswer::NotKept,
            };
            Event::Hinted { request, target, answer }
        })
    }

    fn way_back<T: Send + 'static>(
        &self,
        ctx: &KulaContext<Self>,
        event: impl FnOnce(Result<T, Lost>) -> Event + Send + 'static,
    ) -> Reply<T> {
        let (inbox, door) = (Arc::clone(&self.inbox), ctx.door().clone());
        Reply::new(move |answer: Result<T, Lost>| {
            if inbox.put(event(answer)) {
                // Fails only if this coordinator is gone for good; then nobody waits.
                drop(door.tell_forced(Answers));
            }
        })
    }

    fn queue(&mut self, to: NodeId, token: Token, request: Request) {
        if to != self.parts.me {
            return self.to_peers.entry(to).or_default().push((token, request));
        }
        let index = self.parts.replicas.index_of(token);
        let batch = &mut self.batches[index];
        batch.push(request);
        if batch.len() >= kula_replica::limits::BATCH_REQUESTS_MAX {
            self.send(index);
        }
    }

    fn send(&mut self, index: usize) {
        let requests = mem::take(&mut self.batches[index]);
        self.parts.replicas.send_or_refuse(index, requests);
    }

    /// In pieces: hand-off takes or refuses each as a whole.
    fn send_hints(&mut self) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for hint in self.to_handoff.drain(..) {
            if bytes + hint.mutation.len() > limits::HINT_BATCH_BYTES && !batch.is_empty() {
                self.parts.handoff.store(mem::take(&mut batch));
                bytes = 0;
            }
            bytes += hint.mutation.len();
            batch.push(hint);
        }
        if !batch.is_empty() {
            self.parts.handoff.store(batch);
        }
    }

    /// The mailbox is drained: send what it came to, and see when to wake.
    fn drained(&mut self, ctx: &mut KulaContext<Self>) {
        for index in 0..self.batches.len() {
            if !self.batches[index].is_empty() {
                self.send(index);
            }
        }
        for (node, requests) in self.to_peers.drain() {
            self.parts.peers.send(node, requests);
        }
        self.send_hints();
        if self.machine.is_spent() {
            self.machine.renew(Minting(draw(&*self.parts.dice)));
        }
        self.parts.metrics.in_hand(self.machine.in_flight(), self.machine.straggling());
        self.arm(ctx);
    }

    /// One timer, for the earliest wake. It is left alone when it fires too early: that costs nothing and happens once a
    /// deadline.
    fn arm(&mut self, ctx: &mut KulaContext<Self>) {
        let Some(wake_at) = self.machine.wake_at() else { return };
        match self.timer {
            Some((fires_at, _)) if fires_at <= wake_at => return,
            Some((_, handle)) => drop(ctx.cancel_future(handle)),
            None => {}
        }
        let after = wake_at.since(self.parts.clock.mono());
        let handle = ctx.run_later(after, |actor, ctx| {
            actor.timer = None;
            actor.step(Event::Woken, ctx);
        });
        self.timer = Some((wake_at, handle));
    }
}

impl Inbox {
    /// True for the first since it was last emptied: then somebody must look.
    fn put(&self, answer: Event) -> bool {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push(answer);
        answers.len() == 1
    }

    fn take(&self) -> Vec<Event> {
        mem::take(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Actor for CoordinatorActor {
    type Context = KulaContext<Self>;
}

supervised!(CoordinatorActor);

impl Handler<submitted::Write> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, submitted::Write { write, at }: submitted::Write, ctx: &mut Self::Context) {
        self.step(Event::Write { write, submitted: at }, ctx);
    }
}

impl Handler<submitted::Read> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, submitted::Read { read, at }: submitted::Read, ctx: &mut Self::Context) {
        self.step(Event::Read { read, submitted: at }, ctx);
    }
}

impl Handler<submitted::Scan> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, submitted::Scan { scan, at }: submitted::Scan, ctx: &mut Self::Context) {
        self.step(Event::Scan { scan, submitted: at }, ctx);
    }
}

impl Handler<Answers> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, _: Answers, ctx: &mut Self::Context) {
        for answer in self.inbox.take() {
            self.step(answer, ctx);
        }
    }
}

impl Handler<GossipEvent> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, event: GossipEvent, _: &mut Self::Context) {
        match event {
            GossipEvent::PeerSuspected { node } | GossipEvent::PeerDown { node } => {
                // Past the bound: it relieves those that are full.
                self.parts.siblings.get().iter().flat_map(|doors| doors.iter()).for_each(|door| {
                    drop(door.tell_forced(Suspected(node)));
                });
            }
            GossipEvent::Discovered { .. } | GossipEvent::PeerUp { .. } | GossipEvent::FactChanged { .. } => {}
        }
    }
}

impl Handler<Suspected> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, Suspected(node): Suspected, ctx: &mut Self::Context) {
        self.step(Event::Suspected { node }, ctx);
    }
}

impl Handler<Drain> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.step(Event::Draining, ctx);
        // Before the answer, so that hand-off has them when it is drained in its turn.
        self.send_hints();
    }
}
