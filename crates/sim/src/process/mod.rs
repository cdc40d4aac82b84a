//! A simulated process: the machines of all rooms and the real storage engine, joined as their actors join them.
//!
//! Each room's file does with its machine's effects what the room's `actor.rs` does, over messages of this process instead
//! of mailboxes; a mailbox is a queue in the order of sending, and so is each room's queue here. What the actors decide
//! stands in the machines; a decision that is repeated here is marked with the actor it is taken from.

mod coordinator;
mod doors;
mod handoff;
mod peers;
mod replica;
mod start;
mod storage;
mod values;

pub use start::{Host, StartFailure, start};

use crate::{
    net::{ConnectionId, Piece, ProcessId},
    refused::Met,
    time::{Micros, SimClock, micros},
};
use bytes::Bytes;
use kula_actor::Reply;
use kula_catalog::CatalogError;
use kula_clock::{Clock, Hlc, Random};
use kula_disk::log::Position;
use kula_gossip::{FactKey, GossipEvent, Membership};
use kula_handoff::{StoreHint, step};
use kula_placement::{Ring, RingNode};
use kula_replica::{ReplicaBatch, Request};
use kula_ring::{RingChange, RingError};
use kula_schema::Schema;
use kula_storage::{
    ApplyOp, IdentityFile, ReadOp, ReadRange, StorageError,
    engine::{FlushError, FlushJob, Flushed, Sharding},
};
use kula_transport::Inbound;
use kula_types::{ClusterId, Mono, NodeId, Timestamp};
use kula_wire::{Room, verbs::link::Fault};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// A message to a room of one process: what its actor's mailbox takes, and what its timers say.
pub enum Message {
    // Storage.
    Apply {
        shard: usize,
        ops: Vec<ApplyOp>,
    },
    Read {
        shard: usize,
        ops: Vec<ReadOp>,
    },
    ReadRange {
        shard: usize,
        question: Box<ReadRange>,
    },
    Append {
        shard: usize,
        encoded: Vec<Bytes>,
    },
    Commit,
    Synced,
    Logged {
        shard: usize,
        appends: usize,
        outcome: Result<Position, StorageError>,
    },
    FlushForLog {
        shard: usize,
    },
    RunFlush {
        job: FlushJob,
    },
    FlushEnded {
        job: FlushJob,
        outcome: Result<Flushed, FlushError>,
    },
    ShardFlushed {
        shard: usize,
        until: Position,
    },
    LogTick,
    LeaseTick,
    Bind {
        cluster: ClusterId,
    },
    // Replica.
    Replica {
        shard: usize,
        batch: ReplicaBatch,
    },
    // Coordinators.
    Coordinator {
        index: usize,
        event: Box<kula_coordinator::machine::Event>,
    },
    // Gossip.
    Gossip {
        event: Box<kula_gossip::machine::Event>,
    },
    Announce {
        key: FactKey,
        value: Bytes,
    },
    // Ring and catalogue.
    Ring {
        event: Box<kula_ring::Event>,
    },
    RingTick,
    RingPull {
        from: NodeId,
    },
    RingCommit {
        change: RingChange,
        reply: Reply<Result<Arc<Ring>, RingError>>,
    },
    Catalog {
        event: Box<kula_catalog::Event>,
    },
    CatalogTick,
    CatalogPull {
        from: NodeId,
    },
    CatalogAsk {
        change: kula_catalog::Change,
        reply: Reply<Result<kula_catalog::Changed, CatalogError>>,
    },
    // Hand-off.
    StoreHints {
        hints: Vec<StoreHint>,
    },
    HintAnswered {
        target: NodeId,
        ticket: step::Ticket,
        outcome: step::Outcome,
    },
    HintsLook {
        target: NodeId,
    },
    HintsTick,
    // Transport.
    Inbound {
        room: Room,
        inbound: Inbound,
    },
    Respond {
        connection: ConnectionId,
        request: u64,
        answer: Result<Bytes, Fault>,
    },
    Accepted {
        connection: ConnectionId,
    },
    Connected {
        attempt: u64,
        accepted: bool,
        connection: ConnectionId,
    },
    Arrived {
        connection: ConnectionId,
        piece: Piece,
    },
    // The wiring's.
    Members,
    /// A timer of a room: an earlier one may have taken its place.
    Timer(Timer),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    Coordinator(usize),
    Gossip,
    Handoff,
    Link(String),
    Session(ConnectionId),
    RingWake(u64),
    CatalogWake(u64),
}

/// Whose queue a message waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    Shard(usize),
    Log,
    Flush,
    Identity,
    Replica(usize),
    Coordinator(usize),
    Gossip,
    Values,
    Handoff,
    Transport,
    Members,
    /// Peers' requests to replicas.
    InboundReplica,
}

impl Message {
    pub fn queue(&self) -> Queue {
        match self {
            Message::Apply { shard, .. }
            | Message::Read { shard, .. }
            | Message::ReadRange { shard, .. }
            | Message::Logged { shard, .. }
            | Message::FlushForLog { shard } => Queue::Shard(*shard),
            Message::FlushEnded { job, .. } => Queue::Shard(usize::from(job.shard())),
            Message::Append { .. }
            | Message::Commit
            | Message::Synced
            | Message::ShardFlushed { .. }
            | Message::LogTick => Queue::Log,
            Message::RunFlush { .. } => Queue::Flush,
            Message::LeaseTick | Message::Bind { .. } => Queue::Identity,
            Message::Replica { shard, .. } => Queue::Replica(*shard),
            Message::Coordinator { index, .. } | Message::Timer(Timer::Coordinator(index)) => {
                Queue::Coordinator(*index)
            }
            Message::Gossip { .. } | Message::Announce { .. } | Message::Timer(Timer::Gossip) => Queue::Gossip,
            Message::Ring { .. }
            | Message::RingTick
            | Message::RingPull { .. }
            | Message::RingCommit { .. }
            | Message::Catalog { .. }
            | Message::CatalogTick
            | Message::CatalogPull { .. }
            | Message::CatalogAsk { .. }
            | Message::Timer(Timer::RingWake(_) | Timer::CatalogWake(_)) => Queue::Values,
            Message::StoreHints { .. }
            | Message::HintAnswered { .. }
            | Message::HintsLook { .. }
            | Message::HintsTick
            | Message::Timer(Timer::Handoff) => Queue::Handoff,
            Message::Inbound { room: Room::Gossip, .. } => Queue::Gossip,
            Message::Inbound { room: Room::Ring | Room::Catalog, .. } => Queue::Values,
            Message::Inbound { .. } => Queue::InboundReplica,
            Message::Respond { .. }
            | Message::Accepted { .. }
            | Message::Connected { .. }
            | Message::Arrived { .. }
            | Message::Timer(Timer::Link(_) | Timer::Session(_)) => Queue::Transport,
            Message::Members => Queue::Members,
        }
    }
}

/// What a process does to the world outside it.
pub enum Out {
    Connect {
        attempt: u64,
        address: String,
    },
    Send {
        connection: ConnectionId,
        bytes: Bytes,
    },
    Close {
        connection: ConnectionId,
    },
    /// The disk failed beside data: the process ends.
    Fence {
        cause: String,
    },
    /// For the oracle.
    Seen(Seen),
}

/// What the oracle is told as it happens.
pub enum Seen {
    /// A replica answered that this mutation is durable.
    Applied {
        mutation: Bytes,
    },
    /// A coordinator sends this for a client's request.
    Sent {
        coordinator: usize,
        request: u64,
        mutation: Option<Bytes>,
    },
    /// A node's promises about its next ring are durable.
    Promised {
        acceptor: kula_ring::Acceptor,
    },
    /// It did so for a coordinator that planned under an older ring.
    AppliedStale {
        planned: u64,
        have: u64,
    },
    /// All that the log holds is durable now.
    LogSynced,
    /// A repair is sent.
    Repaired {
        mutation: Bytes,
    },
    HintKept {
        target: NodeId,
        mutation: Bytes,
    },
    HintDelivered {
        count: u64,
    },
    HintGivenUp {
        why: &'static str,
    },
    HintLost {
        count: u64,
    },
    /// A start found a log of hints damaged.
    HintsDamaged {
        what: String,
    },
    RingChanged {
        version: u64,
    },
    Down {
        node: NodeId,
    },
    Hedged,
    Refused {
        what: Met,
    },
    Link {
        what: String,
    },
    /// This node's link to another is up; the other's directory told so much of its lease when it was opened.
    Linked {
        node: NodeId,
        boot: u64,
        lease_found: Option<Timestamp>,
    },
    /// Another node's process said how far its clock is leased.
    ToldLease {
        node: NodeId,
        boot: u64,
        leased: Timestamp,
    },
    /// Another node's frame came and showed its clock, which is near enough to ours.
    Clock {
        clock: Timestamp,
    },
    /// This node's directory, or that of one it refuses, is from before.
    WentBack {
        node: NodeId,
    },
    Flushed {
        bytes: u64,
    },
}

/// Messages that replies left while a step ran, in order.
#[derive(Clone, Default)]
pub struct Post(Arc<Mutex<Vec<Posted>>>);

/// What a reply left: a message, or something for the oracle.
pub enum Posted {
    Message(Message),
    Seen(Seen),
}

impl Post {
    pub fn message(&self, message: Message) {
        self.put(Posted::Message(message));
    }

    pub fn seen(&self, seen: Seen) {
        self.put(Posted::Seen(seen));
    }

    fn put(&self, posted: Posted) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(posted);
    }

    pub fn take(&self) -> Vec<Posted> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a step of a process may use, and what it causes.
pub struct Step<'a> {
    pub random: &'a mut Random,
    pub outs: &'a mut Vec<Out>,
    /// To be handled after so long.
    pub later: &'a mut Vec<(Micros, Message)>,
}

pub struct Process {
    pub id: ProcessId,
    pub node: NodeId,
    pub me: RingNode,
    pub clock: Arc<SimClock>,
    pub hlc: Arc<Hlc>,
    pub sharding: Sharding,
    pub ring: Arc<Ring>,
    pub schema: Arc<Schema>,
    pub membership: Membership,
    pub post: Post,
    identity: IdentityFile,
    pub storage: storage::Storage,
    replicas: Vec<kula_replica::machine::Machine>,
    coordinators: Vec<kula_coordinator::machine::Machine>,
    gossip: values::GossipRoom,
    values: values::Values,
    pub handoff: handoff::HandoffRoom,
    pub peers: peers::Peers,
    members: values::Members,
    timers: BTreeMap<Timer, Micros>,
    timer_numbers: u64,
    /// When it started, on its own clock.
    born: Micros,
    /// What it found of its promises about the next ring when it started.
    pub recalled: kula_ring::Acceptor,
    /// Before this no client is served: the stamps of its last life may reach up to here.
    pub settled_at: Mono,
}

impl Process {
    pub fn now(&self) -> Mono {
        self.clock.mono()
    }

    pub fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    pub fn handle(&mut self, message: Message, step: &mut Step) {
        match message {
            Message::Apply { shard, ops } => self.shard_apply(shard, ops, step),
            Message::Read { shard, ops } => self.shard_read(shard, ops),
            Message::ReadRange { shard, question } => self.shard_read_range(shard, *question),
            Message::Append { shard, encoded } => self.log_append(shard, encoded, step),
            Message::Commit => self.log_commit(step),
            Message::Synced => self.log_synced(step),
            Message::Logged { shard, appends, outcome } => self.shard_logged(shard, appends, &outcome, step),
            Message::FlushForLog { shard } => self.shard_flush(shard, step),
            Message::RunFlush { job } => self.run_flush(job, step),
            Message::FlushEnded { job, outcome } => self.flush_ended(job, outcome, step),
            Message::ShardFlushed { shard, until } => self.log_shard_flushed(shard, until, step),
            Message::LogTick => self.log_tick(step),
            Message::LeaseTick => self.lease_tick(step),
            Message::Bind { cluster } => self.bind(cluster, step),
            Message::Replica { shard, batch } => self.replica(shard, batch, step),
            Message::Coordinator { index, event } => self.coordinator(index, *event, step),
            Message::Gossip { event } => self.gossip(*event, step),
            Message::Announce { key, value } => self.gossip(kula_gossip::machine::Event::Announce { key, value }, step),
            Message::Ring { event } => self.ring(*event, step),
            Message::RingTick => self.ring_tick(step),
            Message::RingPull { from } => self.ring(kula_ring::Event::Seen { node: from, version: None }, step),
            Message::RingCommit { change, reply } => self.ring_commit(change, reply, step),
            Message::Catalog { event } => self.catalog(*event, step),
            Message::CatalogTick => self.catalog_tick(step),
            Message::CatalogPull { from } => self.catalog(kula_catalog::Event::Differs { from }, step),
            Message::CatalogAsk { change, reply } => self.catalog_ask(change, reply, step),
            Message::StoreHints { hints } => self.store_hints(hints, step),
            Message::HintAnswered { target, ticket, outcome } => self.hint_answered(target, ticket, outcome, step),
            Message::HintsLook { target } => self.hints_look(target, step),
            Message::HintsTick => self.hints_tick(step),
            Message::Inbound { room, inbound } => self.inbound(room, inbound, step),
            Message::Respond { connection, request, answer } => self.respond(connection, request, answer, step),
            Message::Accepted { connection } => self.accepted(connection, step),
            Message::Connected { attempt, accepted, connection } => self.connected(attempt, accepted, connection, step),
            Message::Arrived { connection, piece } => self.arrived(connection, piece, step),
            Message::Members => self.look_at_members(step),
            Message::Timer(timer) => self.timer(timer, step),
        }
    }

    /// What happens at the start, when the actors' `started` runs.
    pub fn started(&mut self, step: &mut Step) {
        self.start_values(step);
        self.start_storage(step);
        self.start_handoff(step);
        self.look_at_members(step);
        self.gossip(kula_gossip::machine::Event::Tick, step);
    }

    fn inbound(&mut self, room: Room, inbound: Inbound, step: &mut Step) {
        match room {
            Room::Gossip => self.gossip_heard(inbound, step),
            Room::Ring => self.ring_heard(inbound, step),
            Room::Catalog => self.catalog_heard(inbound, step),
            Room::Replica => self.replica_heard(inbound, step),
            Room::Link | Room::Handoff | Room::Status => drop(inbound),
        }
    }

    fn timer(&mut self, timer: Timer, step: &mut Step) {
        // One that was armed anew since fires again, earlier or later.
        let due = self.timers.get(&timer).copied();
        if due.is_none_or(|due| due > micros(self.now().0)) {
            return;
        }
        self.timers.remove(&timer);
        match timer {
            Timer::Coordinator(index) => self.coordinator(index, kula_coordinator::machine::Event::Woken, step),
            Timer::Gossip => self.gossip(kula_gossip::machine::Event::Tick, step),
            Timer::Handoff => self.hints_wake(step),
            Timer::Link(address) => self.link_tick(&address, step),
            Timer::Session(connection) => self.session_tick(connection, step),
            Timer::RingWake(_) => self.ring(kula_ring::Event::Woken, step),
            Timer::CatalogWake(_) => self.catalog(kula_catalog::Event::Woken, step),
        }
    }

    /// One timer of a kind: an earlier one stays and fires too early, which costs nothing.
    fn arm(&mut self, timer: Timer, at: Mono, step: &mut Step) {
        let (now, at) = (micros(self.now().0), micros(at.0));
        let at = at.max(now + 1);
        if self.timers.get(&timer).is_some_and(|armed| *armed <= at && *armed > now) {
            return;
        }
        self.timers.insert(timer.clone(), at);
        step.later.push((at - now, Message::Timer(timer)));
    }

    /// A timer that fires once, beside others of its kind.
    fn wake_after(&mut self, after: std::time::Duration, timer: fn(u64) -> Timer, step: &mut Step) {
        self.timer_numbers += 1;
        self.arm(timer(self.timer_numbers), self.now().after(after), step);
    }

    /// Which coordinator a key is handed to (`Coordinators::door_of`).
    pub fn coordinator_of(&self, key: &kula_types::PartitionKey) -> usize {
        let number = self.ring.token(key).to_unsigned() % self.coordinators.len() as u64;
        usize::try_from(number).unwrap_or(0)
    }

    pub fn coordinator_count(&self) -> usize {
        self.coordinators.len()
    }

    fn reaches(&self, node: NodeId) -> bool {
        kula_coordinator::reaches(&self.membership, node, self.peers.link_state(node).as_ref())
    }

    fn request_for_shard(&self, token: kula_types::Token, request: Request) -> Message {
        let shard = usize::from(self.sharding.shard_of(token));
        Message::Replica { shard, batch: ReplicaBatch { requests: vec![request] } }
    }

    /// Gossip's events reach whoever subscribed.
    fn tell_gossip_event(&mut self, event: GossipEvent) {
        self.post.message(Message::Members);
        match event {
            GossipEvent::PeerSuspected { node } | GossipEvent::PeerDown { node } => {
                for index in 0..self.coordinators.len() {
                    let event = Box::new(kula_coordinator::machine::Event::Suspected { node });
                    self.post.message(Message::Coordinator { index, event });
                }
                self.post.message(Message::HintsLook { target: node });
                self.post.message(Message::Catalog { event: Box::new(kula_catalog::Event::Woken) });
            }
            GossipEvent::PeerUp { node } => self.post.message(Message::HintsLook { target: node }),
            GossipEvent::FactChanged { node, key: FactKey::RING } => {
                let version = Some(self.membership.ring_version_of(node));
                self.post.message(Message::Ring { event: Box::new(kula_ring::Event::Seen { node, version }) });
            }
            GossipEvent::FactChanged { key: FactKey::SCHEMA, .. } => {
                self.post.message(Message::Catalog { event: Box::new(kula_catalog::Event::Tick) });
            }
            GossipEvent::FactChanged { .. } | GossipEvent::Discovered { .. } => {}
        }
        if let GossipEvent::PeerDown { node } = event {
            self.post.seen(Seen::Down { node });
        }
    }
}

fn fence(step: &mut Step, cause: impl std::fmt::Display) {
    step.outs.push(Out::Fence { cause: cause.to_string() });
}
