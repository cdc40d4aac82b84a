//! The actors of gossip, ring and catalogue (`gossip/src/actor.rs`, `ring/src/actor.rs`, `catalog/src/actor.rs`), and the
//! wiring that tells transport and gossip who belongs (`node/src/membership.rs`).

use super::{Message, Out, Process, Seen, Step, Timer, fence};
use crate::time::micros;
use bytes::Bytes;
use kula_actor::{Lost, Reply};
use kula_catalog::{CatalogError, Change, Changed, OperationId, Scene};
use kula_gossip::{
    FactKey,
    machine::{AskId, Effect as GossipEffect, Event as GossipEvent, Machine as Gossip},
};
use kula_placement::Ring;
use kula_ring::{CommitId, RingChange, RingError, Standing, Surroundings, Told};
use kula_schema::{SchemaDigest, form};
use kula_transport::{Admission, Inbound, TransportError};
use kula_types::{ClusterId, NodeId};
use kula_wire::{
    Verb,
    verbs::{
        catalog::{PullSchema, PulledSchema, SchemaIs},
        gossip::{Ack, Help, Probe, Push, Syn},
        ring::{Accept, Accepted, Learn, Prepare, Prepared, PullRing, PulledRing},
    },
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub struct GossipRoom {
    pub machine: Gossip,
    asks: BTreeMap<AskId, Asker>,
    next_ask: u64,
}

enum Asker {
    Ack(Reply<Ack>),
    Helped(Reply<bool>),
}

/// Ring and catalogue: they share a thread.
pub struct Values {
    pub ring: kula_ring::Machine,
    commits: BTreeMap<CommitId, Reply<Result<Arc<Ring>, RingError>>>,
    asks: BTreeMap<kula_ring::AskId, WayBack>,
    pub catalog: kula_catalog::Machine,
    replies: BTreeMap<OperationId, Reply<Result<Changed, CatalogError>>>,
    numbers: u64,
}

enum WayBack {
    Prepared(Reply<Prepared>),
    Accepted(Reply<Accepted>),
    Pulled(Reply<PulledRing>),
}

#[derive(Default)]
pub struct Members {
    electorate: Vec<NodeId>,
    bound: Option<ClusterId>,
}

impl GossipRoom {
    pub fn new(machine: Gossip) -> GossipRoom {
        GossipRoom { machine, asks: BTreeMap::new(), next_ask: 0 }
    }
}

impl Values {
    pub fn new(ring: kula_ring::Machine, catalog: kula_catalog::Machine) -> Values {
        Values { ring, commits: BTreeMap::new(), asks: BTreeMap::new(), catalog, replies: BTreeMap::new(), numbers: 0 }
    }
}

impl Process {
    pub(super) fn start_values(&mut self, step: &mut Step) {
        self.announce_ring();
        self.ring_tick(step);
        self.announce_schema();
        self.catalog_tick(step);
    }

    /// Asks a peer (`Peers::ask`).
    fn ask<V: Verb>(
        &mut self,
        to: NodeId,
        verb: &V,
        within: Duration,
        then: impl FnOnce(Result<V::Answer, TransportError>) -> Option<Message> + Send + 'static,
        step: &mut Step,
    ) where
        V::Answer: Send + 'static,
    {
        let post = self.post.clone();
        let back = Reply::new(move |answer: Result<Result<Bytes, TransportError>, Lost>| {
            let answer = answer.unwrap_or(Err(TransportError::Lost));
            let answer = answer.and_then(|body| kula_wire::decode(&body).map_err(|_| TransportError::Malformed));
            if let Some(message) = then(answer) {
                post.message(message);
            }
        });
        match kula_wire::encode(verb) {
            Ok(body) => {
                let deadline = self.now().after(within);
                self.request(to, V::LANE, V::CODE, body, Some(deadline), Some(back), step);
            }
            Err(_) => back.send(Err(TransportError::Malformed)),
        }
    }

    fn tell<V: Verb>(&mut self, to: NodeId, verb: &V, step: &mut Step) {
        if let Ok(body) = kula_wire::encode(verb) {
            self.request(to, V::LANE, V::CODE, body, None, None, step);
        }
    }

    // Gossip.

    pub(super) fn gossip(&mut self, event: GossipEvent, step: &mut Step) {
        let mut effects = Vec::new();
        let now = self.now();
        let random = &mut *step.random;
        #[allow(clippy::cast_precision_loss, reason = "a die")]
        let mut roll = || (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        self.gossip.machine.step(now, &mut roll, event, &mut effects);
        for effect in effects {
            self.gossip_effect(effect, step);
        }
        let due = self.gossip.machine.due();
        self.arm(Timer::Gossip, due, step);
    }

    fn gossip_effect(&mut self, effect: GossipEffect, step: &mut Step) {
        let gossip = |event| Some(Message::Gossip { event: Box::new(event) });
        match effect {
            GossipEffect::Dial(seed) => self.dial(&seed, step),
            GossipEffect::Syn { to, syn } => {
                let then = move |ack: Result<Ack, TransportError>| gossip(GossipEvent::Acked { to, ack: ack.ok() });
                self.ask(to, &syn, kula_gossip::limits::TALK_WITHIN, then, step);
            }
            GossipEffect::Push { to, push } => self.tell(to, &push, step),
            GossipEffect::Probe { to, id, within } => {
                let then = move |answer: Result<(), TransportError>| {
                    gossip(GossipEvent::ProbeEnded { id, alive: kula_gossip::is_alive(&answer) })
                };
                self.ask(to, &Probe, within, then, step);
            }
            GossipEffect::Help { helper, target, id } => {
                let then = move |answer: Result<bool, TransportError>| {
                    gossip(GossipEvent::HelpEnded { id, helper, heard: answer.unwrap_or(false) })
                };
                self.ask(helper, &Help { target }, kula_gossip::limits::HELP_WITHIN, then, step);
            }
            GossipEffect::Ack { ask, ack } => {
                if let Some(Asker::Ack(reply)) = self.gossip.asks.remove(&ask) {
                    reply.send(ack);
                }
            }
            GossipEffect::Helped { ask, heard } => {
                if let Some(Asker::Helped(reply)) = self.gossip.asks.remove(&ask) {
                    reply.send(heard);
                }
            }
            GossipEffect::Show(shown) => self.membership = shown,
            GossipEffect::Publish(event) => self.tell_gossip_event(event),
            GossipEffect::Say(_) => {}
        }
    }

    pub(super) fn gossip_heard(&mut self, inbound: Inbound, step: &mut Step) {
        let from = inbound.from;
        if inbound.body.len() > kula_gossip::limits::BODY_BYTES_MAX {
            return;
        }
        let event = match inbound.verb {
            Syn::CODE => inbound.read().ok().map(|Syn { digests }| {
                let ask = self.keep(Asker::Ack(inbound.reply_of::<Syn>()));
                GossipEvent::Syn { from, ask, digests }
            }),
            Push::CODE => inbound.read().ok().map(|Push { deltas }| GossipEvent::Push { from, deltas }),
            Probe::CODE => {
                inbound.reply_of::<Probe>().send(());
                Some(GossipEvent::Probed { from })
            }
            Help::CODE => inbound.read().ok().map(|Help { target }| {
                let ask = self.keep(Asker::Helped(inbound.reply_of::<Help>()));
                GossipEvent::Help { from, target, ask }
            }),
            _ => None,
        };
        if let Some(event) = event {
            self.gossip(event, step);
        }
    }

    fn keep(&mut self, asker: Asker) -> AskId {
        let ask = AskId(self.gossip.next_ask);
        self.gossip.next_ask += 1;
        self.gossip.asks.insert(ask, asker);
        ask
    }

    // Ring.

    pub(super) fn ring(&mut self, event: kula_ring::Event, step: &mut Step) {
        use kula_ring::{Effect, Event};
        let mut effects = Vec::new();
        #[allow(clippy::cast_precision_loss, reason = "a die")]
        let roll = (step.random.next() >> 11) as f64 / (1u64 << 53) as f64;
        self.values.ring.step(self.now(), roll, event, &mut effects);
        let within = kula_ring::limits::ASK_WITHIN;
        let ring = |event| Some(Message::Ring { event: Box::new(event) });
        let mut stored = None;
        for effect in effects {
            match effect {
                Effect::Store { ring } => stored = Some(kula_ring::store(&self.storage.disk, &ring)),
                Effect::StoreBallots { acceptor } => {
                    let done = kula_ring::store_ballots(&self.storage.disk, &acceptor);
                    if done.is_ok() {
                        self.post.seen(Seen::Promised { acceptor });
                    }
                    stored = Some(done)
                }
                Effect::Publish { ring } => {
                    step.outs.push(Out::Seen(Seen::RingChanged { version: ring.version }));
                    self.ring = ring;
                    self.announce_ring();
                    step.later.push((0, Message::Members));
                }
                Effect::Answer { id, answer } => {
                    if let Some(reply) = self.values.commits.remove(&id) {
                        reply.send(answer);
                    }
                }
                Effect::Prepare { to, prepare } => {
                    let (version, ballot) = (prepare.version, prepare.ballot);
                    let then = move |answer: Result<Prepared, TransportError>| {
                        ring(Event::Prepared { from: to, version, ballot, answer: answer.ok() })
                    };
                    self.ask(to, &prepare, within, then, step);
                }
                Effect::Accept { to, accept } => {
                    let (version, ballot) = (accept.version, accept.ballot);
                    let then = move |answer: Result<Accepted, TransportError>| {
                        ring(Event::Accepted { from: to, version, ballot, answer: answer.ok() })
                    };
                    self.ask(to, &accept, within, then, step);
                }
                Effect::Learn { to, learn } => self.tell(to, &learn, step),
                Effect::Pull { from, have } => {
                    let then = move |answer: Result<PulledRing, TransportError>| {
                        ring(Event::Pulled { from, answer: answer.ok() })
                    };
                    self.ask(from, &PullRing { have }, within, then, step);
                }
                Effect::Reply { id, reply } => match (self.values.asks.remove(&id), reply) {
                    (Some(WayBack::Prepared(reply)), Told::Prepared(answer)) => reply.send(answer),
                    (Some(WayBack::Accepted(reply)), Told::Accepted(answer)) => reply.send(answer),
                    (Some(WayBack::Pulled(reply)), Told::Pulled(answer)) => reply.send(answer),
                    (way_back, told) => panic!("nobody asked for this (asked: {}): {told:?}", way_back.is_some()),
                },
                Effect::Wake { after } => self.wake_after(after, Timer::RingWake, step),
                Effect::View { .. } | Effect::Notice { .. } => {}
                Effect::Fence { cause } => fence(step, cause),
            }
        }
        if let Some(outcome) = stored {
            self.ring(Event::Stored { outcome }, step);
        }
    }

    fn announce_ring(&mut self) {
        let value = Bytes::copy_from_slice(&self.values.ring.ring().version.to_le_bytes());
        self.post.message(Message::Announce { key: FactKey::RING, value });
    }

    pub(super) fn ring_tick(&mut self, step: &mut Step) {
        let others = self.membership.nodes.iter().filter(|(id, _)| **id != self.node);
        let surroundings = Surroundings {
            nodes: others.map(|(_, view)| kula_ring::neighbour(view)).collect(),
            links: self.peers.known().into_iter().filter_map(kula_ring::link).collect(),
        };
        debug_assert!(
            surroundings.links.iter().all(|link| !matches!(&link.standing, Standing::Refused(why) if why.is_empty()))
        );
        self.ring(kula_ring::Event::Tick { surroundings }, step);
        let every =
            if self.values.ring.ring().is_none() { kula_ring::limits::TICK_WAITING } else { kula_ring::limits::TICK };
        step.later.push((micros(every), Message::RingTick));
    }

    pub(super) fn ring_commit(
        &mut self,
        change: RingChange,
        reply: Reply<Result<Arc<Ring>, RingError>>,
        step: &mut Step,
    ) {
        self.values.numbers += 1;
        let id = CommitId(self.values.numbers);
        self.values.commits.insert(id, reply);
        self.ring(kula_ring::Event::Commit { id, change }, step);
    }

    pub(super) fn ring_heard(&mut self, inbound: Inbound, step: &mut Step) {
        use kula_ring::Event;
        self.values.numbers += 1;
        let (from, id) = (inbound.from, kula_ring::AskId(self.values.numbers));
        match inbound.verb {
            Prepare::CODE => {
                if let Ok(prepare) = inbound.read::<Prepare>() {
                    self.values.asks.insert(id, WayBack::Prepared(inbound.reply_of::<Prepare>()));
                    self.ring(Event::Prepare { id, from, prepare }, step);
                }
            }
            Accept::CODE => {
                if let Ok(accept) = inbound.read::<Accept>() {
                    self.values.asks.insert(id, WayBack::Accepted(inbound.reply_of::<Accept>()));
                    self.ring(Event::Accept { id, from, accept }, step);
                }
            }
            PullRing::CODE => {
                if let Ok(PullRing { have }) = inbound.read::<PullRing>() {
                    self.values.asks.insert(id, WayBack::Pulled(inbound.reply_of::<PullRing>()));
                    self.ring(Event::PullRing { id, from, have }, step);
                }
            }
            Learn::CODE => {
                if let Ok(Learn { ring }) = inbound.read::<Learn>() {
                    self.ring(Event::Learn { from, ring: ring.0 }, step);
                }
            }
            _ => {}
        }
    }

    // Catalogue.

    pub(super) fn catalog_ask(&mut self, change: Change, reply: Reply<Result<Changed, CatalogError>>, step: &mut Step) {
        let Ok(now) = self.hlc.stamp(self.wall()) else { return reply.send(Err(CatalogError::ClockLease)) };
        self.values.numbers += 1;
        let id = OperationId(self.values.numbers);
        self.values.replies.insert(id, reply);
        self.catalog(kula_catalog::Event::Asked { id, now, change }, step);
    }

    pub(super) fn catalog(&mut self, event: kula_catalog::Event, step: &mut Step) {
        use kula_catalog::{Effect, Event};
        let mut effects = Vec::new();
        let ring = Arc::clone(&self.ring);
        let live = kula_catalog::live(&ring, &self.membership);
        let scene = Scene { now: self.now(), ring: &ring, live: &live };
        self.values.catalog.step(&scene, event, &mut effects);
        let within = kula_catalog::limits::ASK_WITHIN;
        let catalog = |event| Message::Catalog { event: Box::new(event) };
        let mut stored = None;
        for effect in effects {
            match effect {
                Effect::Commit { change } => {
                    let post = self.post.clone();
                    let reply = Reply::new(move |answer: Result<Result<_, RingError>, Lost>| {
                        let outcome = answer.unwrap_or(Err(RingError::Closed)).map(drop);
                        post.message(catalog(Event::Committed { outcome }));
                    });
                    step.later.push((0, Message::RingCommit { change, reply }));
                }
                Effect::Store { schema } => stored = Some(kula_catalog::store(&self.storage.disk, &schema)),
                Effect::Publish { schema } => {
                    self.schema = schema;
                    self.announce_schema();
                }
                Effect::Answer { id, answer } => {
                    if let Some(reply) = self.values.replies.remove(&id) {
                        reply.send(answer);
                    }
                }
                Effect::Tell { to, is } => {
                    let then = move |answer: Result<SchemaIs, TransportError>| {
                        answer.ok().map(|is| catalog(Event::Told { from: to, is, asked: true }))
                    };
                    self.ask(to, &is, within, then, step);
                }
                Effect::Pull { from, digest } => {
                    let SchemaDigest(digest) = digest;
                    let then = move |answer: Result<PulledSchema, TransportError>| {
                        let schema = match answer {
                            Ok(PulledSchema::Schema(schema)) => Some(schema.0),
                            Ok(PulledSchema::Same) | Err(_) => None,
                        };
                        Some(catalog(Event::Pulled { from, schema }))
                    };
                    self.ask(from, &PullSchema { digest }, within, then, step);
                }
                Effect::PullRing { from } => step.later.push((0, Message::RingPull { from })),
                Effect::Wake { after } => self.wake_after(after, Timer::CatalogWake, step),
                Effect::Notice { .. } => {}
                Effect::Fence { cause } => fence(step, cause),
            }
        }
        if let Some(outcome) = stored {
            self.catalog(Event::Stored { outcome }, step);
        }
    }

    fn announce_schema(&mut self) {
        let value = Bytes::copy_from_slice(&self.values.catalog.digest().0.to_le_bytes());
        self.post.message(Message::Announce { key: FactKey::SCHEMA, value });
    }

    pub(super) fn catalog_tick(&mut self, step: &mut Step) {
        self.catalog(kula_catalog::Event::Tick, step);
        step.later.push((micros(kula_catalog::limits::TICK), Message::CatalogTick));
    }

    pub(super) fn catalog_heard(&mut self, inbound: Inbound, step: &mut Step) {
        let from = inbound.from;
        let digest_here = self.values.catalog.digest();
        match inbound.verb {
            SchemaIs::CODE => {
                if let Ok(is) = inbound.read::<SchemaIs>() {
                    let mine = SchemaIs { digest: digest_here.0, ring_version: self.ring.version };
                    inbound.reply_of::<SchemaIs>().send(mine);
                    self.catalog(kula_catalog::Event::Told { from, is, asked: false }, step);
                }
            }
            PullSchema::CODE => {
                if let Ok(PullSchema { digest }) = inbound.read::<PullSchema>() {
                    if digest == digest_here.0 {
                        inbound.reply_of::<PullSchema>().send(PulledSchema::Same);
                    } else if let Ok(schema) = form::encode(self.values.catalog.schema()) {
                        inbound.reply_of::<PullSchema>().send(PulledSchema::Schema(Bytes::from(schema).into()));
                    }
                }
            }
            _ => {}
        }
    }

    // The wiring.

    pub(super) fn look_at_members(&mut self, step: &mut Step) {
        let admission = self.admission();
        self.admit(admission, step);
        let members: Vec<NodeId> = self.ring.nodes.iter().map(|node| node.id).collect();
        if members != self.members.electorate {
            let event = Box::new(GossipEvent::Electorate { members: members.clone() });
            step.later.push((0, Message::Gossip { event }));
            self.members.electorate = members;
        }
        if self.ring.version > 0 && self.members.bound.replace(self.ring.cluster) != Some(self.ring.cluster) {
            step.later.push((0, Message::Bind { cluster: self.ring.cluster }));
        }
    }

    pub(super) fn admission(&self) -> Admission {
        kula_ring::admission(&self.ring, &self.membership.nodes)
    }
}
