//! The gossip's shell: mailbox, links and timer → machine → peers, snapshot, subscribers. Nothing to decide.

use crate::{
    About, Gossip, GossipConfig, GossipEvent, Membership,
    handle::Desk,
    limits,
    machine::{AskId, Effect, Event, Machine, Opening},
    metrics::Metrics,
};
use actix::prelude::{Actor, AsyncContext, Handler, Message, SpawnHandle};
use kula_actor::{
    ChildSpec, Door, KulaContext, MailboxConfig, OnPanic, Place, Registry, Reply, Snapshot, Subscriber, child,
    supervised,
};
use kula_clock::Clock;
use kula_fault::{Site, buggify};
use kula_transport::{Inbound, InboundBatch, LinkEvent, LinkState, Peers, TransportError};
use kula_types::{Mono, NodeId};
use kula_wire::{
    Room, Verb, encode,
    verbs::{
        gossip::{Ack, Help, Probe, Push, Syn},
        link::Introduction,
    },
};
use slog::{Logger, debug};
use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

/// What the gossip of a node needs to live.
pub struct Spawn {
    pub me: Introduction,
    pub about: About,
    /// Peer addresses that are dialled at the start, and again while nobody is connected.
    pub seeds: Vec<String>,
    pub peers: Peers,
    pub clock: Arc<dyn Clock>,
    /// Numbers from 0 to 1: who is asked next, and when.
    pub roll: Arc<dyn Fn() -> f64 + Send + Sync>,
    pub config: GossipConfig,
    pub place: Place,
    pub log: Logger,
}

/// What all generations of the actor share.
struct Parts {
    me: Introduction,
    about: About,
    seeds: Vec<String>,
    peers: Peers,
    clock: Arc<dyn Clock>,
    roll: Arc<dyn Fn() -> f64 + Send + Sync>,
    config: GossipConfig,
    log: Logger,
    desk: Arc<Desk>,
    membership: Snapshot<Membership>,
    metrics: Metrics,
}

pub struct GossipActor {
    parts: Arc<Parts>,
    machine: Machine,
    effects: Vec<Effect>,
    /// Who waits for an answer of ours. Comparisons are answered in their step, help is bounded by the machine.
    asks: BTreeMap<AskId, Asker>,
    next_ask: u64,
    timer: Option<(Mono, SpawnHandle)>,
    subscribers: Vec<Subscriber<GossipEvent>>,
    /// Of the desk's subscribers, those who were greeted.
    greeted: usize,
    electorate: Vec<NodeId>,
    /// Refused nodes and missed probes, as far as the metrics have them.
    counted: (u64, u64),
}

enum Asker {
    Ack(Reply<Ack>),
    Helped(Reply<bool>),
}

/// The actor at path `gossip`. Its drain tells the peers that this node leaves.
pub fn spawn(spawn: Spawn, registry: &Registry) -> (Gossip, ChildSpec) {
    let Spawn { me, about, seeds, peers, clock, roll, config, place, log } = spawn;
    let membership = Snapshot::new(Arc::new(Membership::alone(me.clone(), about.clone())));
    let desk: Arc<Desk> = Arc::default();
    let (shown, own, metrics) = (membership.clone(), Arc::clone(&desk), Metrics::new(registry));
    let network = peers.clone();
    let parts = Parts { me, about, seeds, peers, clock, roll, config, log, desk: own, membership: shown, metrics };
    let parts = Arc::new(parts);
    let mailbox = MailboxConfig { cap: limits::MAILBOX };
    let factory = move || GossipActor::new(Arc::clone(&parts));
    let (door, spec) = child(registry, "gossip", mailbox, OnPanic::Restart, place, factory);
    desk.open(door.clone());
    network.register(Room::Gossip, Subscriber::from(&door));
    network.listen(Subscriber::from(&door));
    let leave = move || async move {
        // What was told leaves with the connections, which are stopped after this actor.
        if door.ask_forced(Leave).await.unwrap_or(false) {
            tokio::time::sleep(limits::LEAVING).await;
        }
    };
    (Gossip::new(membership, desk), spec.drain(leave))
}

/// The desk has something new.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Nudge;

/// This node stops. The answer: somebody was there to be told.
#[derive(Message)]
#[rtype(result = "bool")]
struct Leave;

/// A peer answered, or will not.
#[derive(Message)]
#[rtype(result = "()")]
struct Ended(Event);

impl GossipActor {
    fn new(parts: Arc<Parts>) -> Self {
        let wall = u64::try_from(parts.clock.wall().micros()).unwrap_or(0);
        let (me, about, seeds) = (parts.me.clone(), parts.about.clone(), parts.seeds.clone());
        let opening = Opening { me, about, generation: wall, seeds, config: parts.config.clone() };
        GossipActor {
            machine: Machine::new(parts.clock.mono(), opening),
            parts,
            effects: Vec::new(),
            asks: BTreeMap::new(),
            next_ask: 0,
            timer: None,
            subscribers: Vec::new(),
            greeted: 0,
            electorate: Vec::new(),
            counted: (0, 0),
        }
    }

    fn step(&mut self, event: Event, ctx: &mut KulaContext<Self>) {
        assert!(!buggify(Site::GossipPanics), "a planted panic");
        let roll = Arc::clone(&self.parts.roll);
        self.machine.step(self.parts.clock.mono(), &mut || roll(), event, &mut self.effects);
        for effect in mem::take(&mut self.effects) {
            self.run(effect, ctx.door());
        }
        self.count();
        self.arm(ctx);
    }

    /// Counters only grow: what the machine counted since the last time.
    fn count(&mut self) {
        let (refused, missed) = (self.machine.refused(), self.machine.missed_probes());
        let (before, missed_before) = mem::replace(&mut self.counted, (refused, missed));
        self.parts.metrics.no_room.inc_by(refused - before);
        self.parts.metrics.probes_missed.inc_by(missed - missed_before);
    }

    fn run(&mut self, effect: Effect, door: &Door<Self>) {
        let Parts { peers, metrics, membership, log, .. } = &*self.parts;
        match effect {
            Effect::Dial(seed) => peers.dial(&seed),
            Effect::Syn { to, syn } => {
                let then = move |ack: Result<Ack, TransportError>| Event::Acked { to, ack: ack.ok() };
                self.ask(to, &syn, limits::TALK_WITHIN, door, then);
            }
            Effect::Push { to, push } => {
                metrics.bytes_out.inc_by(bytes_of(&push));
                peers.tell(to, &push);
            }
            Effect::Probe { to, id, within } => {
                let then = move |answer: Result<(), TransportError>| Event::ProbeEnded { id, alive: is_alive(&answer) };
                self.ask(to, &Probe, within, door, then);
            }
            Effect::Help { helper, target, id } => {
                let then = move |answer: Result<bool, TransportError>| {
                    let heard = answer.unwrap_or(false);
                    Event::HelpEnded { id, helper, heard }
                };
                self.ask(helper, &Help { target }, limits::HELP_WITHIN, door, then);
            }
            Effect::Ack { ask, ack } => {
                metrics.bytes_out.inc_by(bytes_of(&ack));
                if let Some(Asker::Ack(reply)) = self.asks.remove(&ask) {
                    reply.send(ack);
                }
            }
            Effect::Helped { ask, heard } => {
                if let Some(Asker::Helped(reply)) = self.asks.remove(&ask) {
                    reply.send(heard);
                }
            }
            Effect::Show(shown) => {
                metrics.show(&shown);
                membership.store(Arc::new(shown));
            }
            Effect::Publish(event) => {
                // Past the bound: a peer that came must not be missed. One who is gone for good is forgotten.
                self.subscribers.retain(|subscriber| subscriber.publish_forced(event).is_ok());
            }
            Effect::Say(news) => {
                news.count(metrics);
                news.tell(log, &membership.load());
            }
        }
    }

    /// Asks a peer; what `then` makes of the answer comes back as a message.
    fn ask<V: Verb>(
        &self,
        to: NodeId,
        verb: &V,
        within: Duration,
        door: &Door<Self>,
        then: impl FnOnce(Result<V::Answer, TransportError>) -> Event + Send + 'static,
    ) where
        V::Answer: Send + 'static,
    {
        let door = door.clone();
        let reply = Reply::new(move |answer: Result<Result<V::Answer, TransportError>, kula_actor::Lost>| {
            let ended = then(answer.unwrap_or(Err(TransportError::Lost)));
            // Past the bound: answers relieve. Only a node that is stopping has no actor.
            drop(door.tell_forced(Ended(ended)));
        });
        self.parts.metrics.bytes_out.inc_by(bytes_of(verb));
        self.parts.peers.ask(to, verb, self.parts.clock.mono().after(within), reply);
    }

    fn hear(&mut self, inbound: Inbound, ctx: &mut KulaContext<Self>) {
        let (from, bytes) = (inbound.from, inbound.body.len());
        self.parts.metrics.bytes_in.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
        let event = if bytes > limits::BODY_BYTES_MAX { None } else { self.event_of(inbound) };
        match event {
            Some(event) => self.step(event, ctx),
            None => {
                self.parts.metrics.unsound.inc();
                debug!(self.parts.log, "a message that gossip cannot read"; "event" => "gossip_refused",
                    "peer" => self.parts.membership.load().name_of(from), "bytes" => bytes);
            }
        }
    }

    /// What the message is about; its asker waits with us. `None`: it cannot be read, and its asker is told it is lost.
    fn event_of(&mut self, inbound: Inbound) -> Option<Event> {
        let from = inbound.from;
        match inbound.verb {
            Syn::CODE => {
                let Syn { digests } = inbound.read().ok()?;
                let ask = self.keep(Asker::Ack(inbound.reply_of::<Syn>()));
                Some(Event::Syn { from, ask, digests })
            }
            Push::CODE => {
                let Push { deltas } = inbound.read().ok()?;
                Some(Event::Push { from, deltas })
            }
            Probe::CODE => {
                inbound.reply_of::<Probe>().send(());
                Some(Event::Probed { from })
            }
            Help::CODE => {
                let Help { target } = inbound.read().ok()?;
                let ask = self.keep(Asker::Helped(inbound.reply_of::<Help>()));
                Some(Event::Help { from, target, ask })
            }
            _ => None,
        }
    }

    fn keep(&mut self, asker: Asker) -> AskId {
        let ask = AskId(self.next_ask);
        self.next_ask += 1;
        self.asks.insert(ask, asker);
        ask
    }

    /// One timer, for the earliest thing that is due. One that fires too early costs a tick with nothing to do.
    fn arm(&mut self, ctx: &mut KulaContext<Self>) {
        let due = self.machine.due();
        match self.timer {
            Some((fires, _)) if fires <= due => return,
            Some((_, handle)) => drop(ctx.cancel_future(handle)),
            None => {}
        }
        let after = due.since(self.parts.clock.mono());
        let handle = ctx.run_later(after, |actor, ctx| {
            actor.timer = None;
            actor.step(Event::Tick, ctx);
        });
        self.timer = Some((due, handle));
    }

    fn read_desk(&mut self, ctx: &mut KulaContext<Self>) {
        let standing = self.parts.desk.standing().clone();
        for (key, value) in standing.facts {
            self.step(Event::Announce { key, value }, ctx);
        }
        if standing.electorate != self.electorate {
            self.electorate.clone_from(&standing.electorate);
            self.step(Event::Electorate { members: standing.electorate }, ctx);
        }
        if standing.leaving {
            self.step(Event::Leave, ctx);
        }
        for subscriber in standing.subscribers.into_iter().skip(self.greeted) {
            self.greeted += 1;
            let greeting = self.machine.greeting();
            if greeting.into_iter().all(|event| subscriber.publish_forced(event).is_ok()) {
                self.subscribers.push(subscriber);
            }
        }
    }
}

/// An answer that cannot be read is a sign of life as well.
pub fn is_alive(answer: &Result<(), TransportError>) -> bool {
    matches!(answer, Ok(()) | Err(TransportError::UnknownVerb { .. } | TransportError::Malformed))
}

fn bytes_of<M: serde::Serialize>(message: &M) -> u64 {
    encode(message).map_or(0, |body| u64::try_from(body.len()).unwrap_or(u64::MAX))
}

impl Actor for GossipActor {
    type Context = KulaContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.read_desk(ctx);
        // After a restart there are connections already.
        let up = self.parts.peers.known().into_iter().filter(|peer| matches!(peer.link, LinkState::Up { .. }));
        for node in up.filter_map(|peer| peer.node).collect::<Vec<_>>() {
            self.step(Event::Linked { node }, ctx);
        }
        self.step(Event::Tick, ctx);
    }
}

supervised!(GossipActor);

impl Handler<Nudge> for GossipActor {
    type Result = ();

    fn handle(&mut self, _: Nudge, ctx: &mut Self::Context) {
        self.read_desk(ctx);
    }
}

impl Handler<Leave> for GossipActor {
    type Result = bool;

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) -> bool {
        self.step(Event::Leave, ctx);
        self.machine.is_connected()
    }
}

impl Handler<Ended> for GossipActor {
    type Result = ();

    fn handle(&mut self, ended: Ended, ctx: &mut Self::Context) {
        self.step(ended.0, ctx);
    }
}

impl Handler<InboundBatch> for GossipActor {
    type Result = ();

    fn handle(&mut self, batch: InboundBatch, ctx: &mut Self::Context) {
        for inbound in batch.frames {
            self.hear(inbound, ctx);
        }
    }
}

impl Handler<LinkEvent> for GossipActor {
    type Result = ();

    fn handle(&mut self, event: LinkEvent, ctx: &mut Self::Context) {
        match event {
            LinkEvent::Up { peer } => self.step(Event::Linked { node: peer.node }, ctx),
            LinkEvent::Lost { node } => self.step(Event::Unlinked { node }, ctx),
        }
    }
}
