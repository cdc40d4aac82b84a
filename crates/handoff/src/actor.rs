//! The shell: mailbox → log → answers; log → machine → peers. Nothing to decide.
//!
//! Hints that come while a sync runs share the next one: group commit without a timer. The disk is worked in the handlers,
//! so the actor has a thread of its own. A failed write or sync fences the node, as everywhere beside data; a full disk
//! refuses and changes nothing.

use crate::{
    config::HandoffConfig,
    courier::{Courier, Order},
    error::HandoffError,
    handle::{Handoff, Queue},
    limits,
    machine::Window,
    messages::{Drain, HintCounts, StoreBatch, StoreHint, TargetHints},
    metrics::Metrics,
    outcome,
    record::Hint,
    step::{Event, Outcome, Ticket},
    store::HintStore,
    target_log::{Sizes, Trouble},
    voice::Voice,
};
use actix::{Actor, AsyncContext, Handler, SpawnHandle};
use kula_actor::{
    ChildSpec, KulaContext, Lost, MailboxConfig, Message, Place, Registry, Reply, Snapshot, Subscriber, child_once,
    supervised,
};
use kula_clock::Clock;
use kula_disk::Disk;
use kula_gossip::{Gossip, GossipEvent, Membership};
use kula_ring::RingHandle;
use kula_transport::{LinkEvent, LinkState, Peers, TransportError};
use kula_types::{Mono, NodeId};
use kula_wire::{
    Lane, Verb, encode,
    verbs::replica::{Apply, Fence, Origin},
};
use slog::Logger;
use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

const PATH: &str = "handoff";

/// What hand-off needs to live.
pub struct Spawn {
    pub disk: Arc<dyn Disk>,
    pub ring: RingHandle,
    pub gossip: Gossip,
    pub peers: Peers,
    pub clock: Arc<dyn Clock>,
    pub config: HandoffConfig,
    /// A thread of its own: a sync blocks it.
    pub place: Place,
    pub log: Logger,
}

/// Opens what earlier lives kept, synchronously, and makes the actor `handoff`. Before the tree runs.
pub fn spawn(spawn: Spawn, registry: &Registry) -> Result<(Handoff, Vec<ChildSpec>), HandoffError> {
    let Spawn { disk, ring, gossip, peers, clock, config, place, log } = spawn;
    config.check()?;
    let mut store = HintStore::open(disk, Sizes::of(&config))?;
    let voice = Voice::new(log, ring.clone());
    for (target, log) in store.targets_mut() {
        log.take_findings().iter().for_each(|finding| voice.found(target, finding));
    }
    let (queue, counts) = (Arc::new(Queue::default()), Snapshot::new(Arc::default()));
    let mut actor = HandoffActor {
        courier: Courier::new(store, Window::default(), config.rate),
        waiting: Vec::new(),
        waiting_bytes: 0,
        not_kept: BTreeMap::new(),
        counts: counts.clone(),
        is_counted: true,
        queue: Arc::clone(&queue),
        peers: peers.clone(),
        ring,
        membership: gossip.membership(),
        scan_at: Mono::default(),
        seal_at: Mono::default(),
        timer: None,
        is_stopping: false,
        metrics: Metrics::new(registry),
        voice,
        clock,
    };
    actor.publish();
    actor.voice.opened(&counts.load());
    let mailbox = MailboxConfig { cap: limits::MAILBOX };
    let (door, spec) = child_once(registry, PATH, mailbox, place, move || actor);
    peers.listen(Subscriber::from(&door));
    gossip.subscribe(Subscriber::from(&door));
    let drained = door.clone();
    let spec = spec.drain(move || async move {
        let (reply, done) = Reply::pair();
        if drained.tell_forced(Drain { reply }).is_ok() {
            match done.await {
                // Lost: the actor went first, and there is nothing to wait for.
                Ok(()) | Err(Lost) => {}
            }
        }
    });
    Ok((Handoff::new(door, queue, counts), vec![spec]))
}

pub struct HandoffActor {
    courier: Courier,
    /// For the next sync: bounded by the handle's queue and `limits::BATCH_BYTES_MAX`.
    waiting: Vec<StoreHint>,
    waiting_bytes: usize,
    /// Since the start.
    not_kept: BTreeMap<NodeId, u64>,
    counts: Snapshot<HintCounts>,
    /// What is published is what is owed.
    is_counted: bool,
    queue: Arc<Queue>,
    peers: Peers,
    ring: RingHandle,
    membership: Snapshot<Membership>,
    scan_at: Mono,
    seal_at: Mono,
    timer: Option<(Mono, SpawnHandle)>,
    is_stopping: bool,
    metrics: Metrics,
    voice: Voice,
    clock: Arc<dyn Clock>,
}

/// A hint's way has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct Answered {
    target: NodeId,
    ticket: Ticket,
    outcome: Outcome,
}

impl HandoffActor {
    /// Does something that may find the disk broken; then nothing more is done here.
    fn attempt(
        &mut self,
        ctx: &mut KulaContext<Self>,
        act: impl FnOnce(&mut Self, Mono, &mut Vec<Order>) -> Result<(), Trouble>,
    ) {
        let now = self.clock.mono();
        let mut orders = Vec::new();
        let done = act(self, now, &mut orders);
        orders.into_iter().for_each(|order| self.obey(now, order, ctx));
        if let Err(trouble) = done {
            ctx.fence(trouble.to_string());
        }
    }

    /// The end of a batch: one write and one sync a target, the answers, what is to be sent now, the next waking.
    fn settle(&mut self, ctx: &mut KulaContext<Self>) {
        self.attempt(ctx, |this, now, orders| {
            this.commit(now, orders)?;
            this.courier.settle(now, orders)
        });
        self.arm(ctx);
    }

    fn commit(&mut self, began: Mono, orders: &mut Vec<Order>) -> Result<(), Trouble> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let stored = self.clock.wall();
        self.queue.taken(mem::take(&mut self.waiting_bytes));
        let (mut owed, mut replies) = (Vec::new(), Vec::new());
        for StoreHint { target, token, mutation, reply } in mem::take(&mut self.waiting) {
            owed.push((target, Hint { token, stored, mutation }));
            replies.push((target, reply));
        }
        // If the disk failed the replies are dropped: what was written is unknown.
        let answers = self.courier.keep(owed)?;
        let now = self.clock.mono();
        let mut kept = BTreeMap::<NodeId, u64>::new();
        let mut refused = BTreeMap::<NodeId, (u64, &HandoffError)>::new();
        for ((target, _), answer) in replies.iter().zip(&answers) {
            match answer {
                Ok(()) => *kept.entry(*target).or_default() += 1,
                Err(error) => refused.entry(*target).or_insert((0, error)).0 += 1,
            }
        }
        for (target, (count, error)) in refused {
            self.count_not_kept(target, count);
            self.voice.not_kept(now, target, count, error);
        }
        self.metrics.batch(kept.values().sum(), now.since(began));
        // Before the answers: whoever was told of a hint finds it counted.
        self.publish();
        for ((_, reply), answer) in replies.into_iter().zip(answers) {
            reply.send(answer);
        }
        for (target, count) in kept {
            self.voice.kept(now, target, self.courier.owed_to(target));
            self.courier.drive(now, target, Event::Kept { count }, orders)?;
            self.look_at(now, target, orders)?;
        }
        Ok(())
    }

    fn obey(&mut self, now: Mono, order: Order, ctx: &KulaContext<Self>) {
        match order {
            Order::Send { target, ticket, hint } => self.send(target, ticket, hint, ctx),
            Order::Delivered { count, bytes } => {
                self.metrics.delivered(count, bytes);
                self.is_counted = false;
            }
            Order::GaveUp { target, hint, why } => {
                self.metrics.gave_up();
                self.voice.gave_up(now, target, &hint, why);
            }
            Order::Lost { target, lost } => {
                self.metrics.lost(lost.count);
                self.voice.lost(target, lost);
                self.is_counted = false;
            }
            Order::Say { target, saying } => self.voice.say(target, &saying),
            Order::Found { target, finding } => self.voice.found(target, &finding),
        }
    }

    /// An ordinary apply, under the ring of this moment, in the lane that nobody waits for.
    fn send(&self, target: NodeId, ticket: Ticket, hint: Hint, ctx: &KulaContext<Self>) {
        let door = ctx.door().clone();
        let reply = Reply::new(move |answer: Result<Result<_, TransportError>, Lost>| {
            let outcome = outcome::of_answer(answer.unwrap_or(Err(TransportError::Lost)));
            // Past the bound: there are at most `limits::IN_FLIGHT_MAX` a target.
            drop(door.tell_forced(Answered { target, ticket, outcome }));
        });
        let fence = Fence { ring_version: self.ring.peek().version, phase: 0 };
        let apply = Apply { fence, token: hint.token, mutation: hint.mutation.into(), origin: Origin::Hint };
        match encode(&apply) {
            Ok(body) => {
                let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
                let within = limits::DELIVER_WITHIN + Duration::from_secs(1) * bytes / limits::DELIVER_RATE_MIN;
                let deadline = self.clock.mono().after(within);
                self.peers.request(target, Lane::Bulk, Apply::CODE, body, deadline, reply);
            }
            Err(_) => reply.send(Err(TransportError::TooLarge { bytes: 0, max: kula_wire::limits::BODY_BYTES_MAX })),
        }
    }

    /// Whether it is worth trying to deliver.
    fn look_at(&mut self, now: Mono, target: NodeId, orders: &mut Vec<Order>) -> Result<(), Trouble> {
        let is_up = matches!(self.peers.link_state(target), Some(LinkState::Up { .. }));
        let is_suspected = self.membership.peek().get(target).is_some_and(|view| view.suspected_here);
        let is_reachable = is_up && !is_suspected && !self.is_stopping;
        self.courier.drive(now, target, Event::Reachable(is_reachable), orders)
    }

    fn look_at_all(&mut self, now: Mono, orders: &mut Vec<Order>) -> Result<(), Trouble> {
        self.courier.targets().into_iter().try_for_each(|target| self.look_at(now, target, orders))
    }

    /// News of a node.
    fn heard_of(&mut self, node: NodeId, ctx: &mut KulaContext<Self>) {
        if self.courier.is_known(node) {
            self.attempt(ctx, |this, now, orders| this.look_at(now, node, orders));
            ctx.after_drain(Self::settle);
        }
    }

    fn tick(&mut self, ctx: &mut KulaContext<Self>) {
        let now = self.clock.mono();
        let shed = self.queue.take_shed();
        if !shed.is_empty() || !self.is_counted {
            for (target, count) in shed {
                self.count_not_kept(target, count);
                self.voice.not_kept(now, target, count, &"more hints wait to be kept than may");
            }
            self.publish();
        }
        if now >= self.seal_at {
            self.seal_at = now.after(limits::SETTLE_EVERY);
            self.attempt(ctx, |this, _, _| this.courier.seal());
        }
        if now >= self.scan_at {
            self.scan_at = now.after(limits::SCAN_EVERY + spread(self.peers.me().node));
            self.attempt(ctx, Self::look_at_all);
        }
        self.settle(ctx);
        ctx.run_later(limits::COUNTS_EVERY, Self::tick);
    }

    /// The next moment at which a target wants to be woken.
    fn arm(&mut self, ctx: &mut KulaContext<Self>) {
        let now = self.clock.mono();
        let wanted = self.courier.wake_at(now);
        if self.timer.as_ref().map(|(at, _)| *at) == wanted {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        self.timer = wanted.map(|at| (at, ctx.run_later(at.since(now), Self::wake)));
    }

    fn wake(&mut self, ctx: &mut KulaContext<Self>) {
        self.timer = None;
        self.attempt(ctx, |this, now, orders| this.courier.wake(now, orders));
        self.settle(ctx);
    }

    fn count_not_kept(&mut self, target: NodeId, count: u64) {
        self.metrics.not_kept(count);
        if self.not_kept.len() < limits::TARGETS_MAX || self.not_kept.contains_key(&target) {
            *self.not_kept.entry(target).or_default() += count;
        }
        self.is_counted = false;
    }

    fn publish(&mut self) {
        let now = self.clock.wall();
        let mut targets: BTreeMap<NodeId, TargetHints> = BTreeMap::new();
        for (target, owed) in self.courier.owed() {
            if owed.count > 0 {
                let oldest = owed.oldest.unwrap_or(now);
                let hints = TargetHints { target, count: owed.count, bytes: owed.bytes, oldest, not_kept: 0 };
                targets.insert(target, hints);
            }
        }
        for (target, count) in &self.not_kept {
            let none = TargetHints { target: *target, count: 0, bytes: 0, oldest: now, not_kept: 0 };
            targets.entry(*target).or_insert(none).not_kept = *count;
        }
        let counts = HintCounts { targets: targets.into_values().collect() };
        self.metrics.owed(&counts);
        self.counts.store(Arc::new(counts));
        self.is_counted = true;
    }
}

/// A part of `SCAN_SPREAD` that is this node's own.
fn spread(me: NodeId) -> Duration {
    limits::SCAN_SPREAD * u32::from(me.0.as_bytes()[15]) / 256
}

impl Actor for HandoffActor {
    type Context = KulaContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.attempt(ctx, |this, now, orders| this.courier.start(now, orders));
        self.tick(ctx);
    }
}

supervised!(HandoffActor);

impl Handler<StoreBatch> for HandoffActor {
    type Result = ();

    fn handle(&mut self, StoreBatch { mut hints, bytes }: StoreBatch, ctx: &mut Self::Context) {
        self.waiting.append(&mut hints);
        self.waiting_bytes += bytes;
        if self.waiting_bytes >= limits::BATCH_BYTES_MAX { self.settle(ctx) } else { ctx.after_drain(Self::settle) }
    }
}

impl Handler<Answered> for HandoffActor {
    type Result = ();

    fn handle(&mut self, Answered { target, ticket, outcome }: Answered, ctx: &mut Self::Context) {
        let event = Event::Answered { ticket, outcome };
        self.attempt(ctx, |this, now, orders| this.courier.drive(now, target, event, orders));
        ctx.after_drain(Self::settle);
    }
}

impl Handler<LinkEvent> for HandoffActor {
    type Result = ();

    fn handle(&mut self, event: LinkEvent, ctx: &mut Self::Context) {
        match event {
            LinkEvent::Up { peer } => self.heard_of(peer.node, ctx),
            LinkEvent::Lost { node } => self.heard_of(node, ctx),
        }
    }
}

impl Handler<GossipEvent> for HandoffActor {
    type Result = ();

    fn handle(&mut self, event: GossipEvent, ctx: &mut Self::Context) {
        match event {
            GossipEvent::PeerUp { node } | GossipEvent::PeerSuspected { node } | GossipEvent::PeerDown { node } => {
                self.heard_of(node, ctx);
            }
            GossipEvent::Discovered { .. } | GossipEvent::FactChanged { .. } => {}
        }
    }
}

impl Handler<Drain> for HandoffActor {
    type Result = ();

    fn handle(&mut self, Drain { reply }: Drain, ctx: &mut Self::Context) {
        // Delivery stops and its places are stored.
        self.is_stopping = true;
        self.attempt(ctx, Self::look_at_all);
        self.settle(ctx);
        reply.send(());
    }
}
