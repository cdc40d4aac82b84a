//! The coordinator, pure: requests, replies and wakes in; sends and answers out.
//!
//! It owns what requests have in common: the table of those in hand, their bound, the wakes, the minter. What a write
//! or a read does with a reply stands in `write/` and `read/`. Time, the ring and the schema are arguments; the ids of
//! requests begin at a random number, so that a reply to an earlier life of this coordinator meets no request.

use crate::{
    error::{Applied, CoordinatorError},
    limits,
    messages::{Read, ReadAnswer, Timing, Write, WriteAnswer},
    mint::Minter,
    plan::Plan,
    present::{key_of, seal},
    read::Reading,
    scan::{Scan, ScanAnswer, Scanning},
    speed::Speeds,
    write::Writing,
};
use bytes::Bytes;
use kula_actor::Reply;
use kula_clock::Hlc;
use kula_fault::{Site, buggify};
use kula_lattice::{Context, ContextError, ContextKey};
use kula_placement::{Ring, RingContextKey};
use kula_replica::{Fence, Op, Outcome, ReplicaError};
use kula_schema::{Schema, Table};
use kula_types::{Actor, Map, Mono, NodeId, PartitionKey, Timestamp, Token, limits::SIBLINGS_WARN};
use std::{collections::BTreeSet, mem, sync::Arc};

/// What is known at this moment: given, never read.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub now: Mono,
    /// Physical time here: what is visible, what has expired.
    pub wall: Timestamp,
    pub me: NodeId,
    pub ring: &'a Ring,
    pub schema: &'a Schema,
    /// Whether there is a way to a node at all; not whether it is well.
    pub reaches: &'a dyn Fn(NodeId) -> bool,
}

/// Names the answer to one send: of a request, by one of its owners, to the latest thing it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    pub request: u64,
    /// Index into the plan's owners; of a scan: the number of its question.
    pub owner: usize,
    pub round: u16,
}

/// What came back for a tag.
#[derive(Debug)]
pub enum Answered {
    Served(Outcome),
    Refused(ReplicaError),
    /// Whether it was served is unknown.
    Lost,
}

/// What hand-off said of a hint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HintAnswer {
    /// It is durable here.
    Kept,
    /// Too much was in hand: later, perhaps.
    Busy,
    NotKept,
}

#[derive(Debug)]
pub enum Event {
    Write {
        write: Write,
        submitted: Mono,
    },
    Read {
        read: Read,
        submitted: Mono,
    },
    Scan {
        scan: Scan,
        submitted: Mono,
    },
    Replied {
        tag: Tag,
        answer: Answered,
    },
    Hinted {
        request: u64,
        target: NodeId,
        answer: HintAnswer,
    },
    /// This node itself has reason to think that the other does not answer.
    Suspected {
        node: NodeId,
    },
    /// This coordinator is about to stop: what can still be owed by hint becomes one.
    Draining,
    /// Time has passed.
    Woken,
}

/// What a client asked for, for the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Put,
    Delete,
    Get,
    Scan,
}

#[derive(Debug)]
pub enum Effect {
    Send {
        to: NodeId,
        token: Token,
        tag: Tag,
        fence: Fence,
        deadline: Mono,
        op: Op,
    },
    AnswerWrite {
        operation: Operation,
        timing: Timing,
        reply: Reply<Result<WriteAnswer, CoordinatorError>>,
        answer: Result<WriteAnswer, CoordinatorError>,
    },
    AnswerRead {
        timing: Timing,
        reply: Reply<Result<ReadAnswer, CoordinatorError>>,
        answer: Result<ReadAnswer, CoordinatorError>,
    },
    AnswerScan {
        timing: Timing,
        reply: Reply<Result<ScanAnswer, CoordinatorError>>,
        answer: Result<ScanAnswer, CoordinatorError>,
    },
    /// A key has so many values that somebody writes it without reading. `say`: it is time for a line in the log.
    ManySiblings {
        table: Arc<Table>,
        key: PartitionKey,
        values: u64,
        say: bool,
    },
    /// An owner misses an accepted write: hand-off is to keep it.
    StoreHint {
        request: u64,
        target: NodeId,
        token: Token,
        mutation: Bytes,
    },
    /// Hand-off answered.
    Hinted(HintAnswer),
    /// An owner knows a newer ring.
    PullRing {
        from: NodeId,
    },
    /// An owner's ring was another than ours.
    OtherRing,
    /// An owner is slow, and another was asked as well.
    Hedged,
    /// An answered write gave its place to younger ones; who has not acknowledged it gets a hint.
    CrowdedOut,
    /// A replica that lacked something was sent it.
    Repaired,
    /// An answer that nobody waited for any more.
    Late,
}

/// When a request was handed over, taken up, and must be over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub submitted: Mono,
    pub started: Mono,
    pub deadline: Mono,
}

/// A request in hand.
pub(crate) enum Pending {
    Write(Box<Writing>),
    Read(Box<Reading>),
    Scan(Box<Scanning>),
}

/// What one event may use and cause.
pub(crate) struct Turn<'a, 'v> {
    pub view: &'a View<'v>,
    pub hlc: &'a Hlc,
    pub minter: &'a mut Minter,
    pub speeds: &'a mut Speeds,
    pub request: u64,
    pub effects: &'a mut Vec<Effect>,
    sibling_log_at: &'a mut Mono,
    pull_ring_at: &'a mut Mono,
}

pub struct Machine {
    path: Arc<str>,
    hlc: Arc<Hlc>,
    minter: Minter,
    next_request: u64,
    requests: Map<u64, Pending>,
    /// When requests want to be woken. Invariant: one entry for each request in hand.
    wakes: BTreeSet<(Mono, u64)>,
    /// Of the requests in hand that somebody waits for: encoded bytes of writes, and what owners have sent to reads.
    bytes: usize,
    /// Answered writes that still wait for some owner, oldest first. They are bounded apart: an owner that stands still
    /// must not take the places of clients.
    stragglers: BTreeSet<u64>,
    stragglers_bytes: usize,
    /// Scans in hand.
    scans: usize,
    bounds: Bounds,
    speeds: Speeds,
    sibling_log_at: Mono,
    pull_ring_at: Mono,
}

/// `limits`, or less in tests.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub in_flight: usize,
    pub in_flight_bytes: usize,
    pub stragglers: usize,
    pub stragglers_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            in_flight: limits::IN_FLIGHT_MAX,
            in_flight_bytes: limits::IN_FLIGHT_BYTES_MAX,
            stragglers: limits::STRAGGLERS_MAX,
            stragglers_bytes: limits::STRAGGLERS_BYTES_MAX,
        }
    }
}

impl Machine {
    /// `first_request` is random, as `actor` is.
    pub fn new(path: Arc<str>, hlc: Arc<Hlc>, actor: Actor, first_request: u64) -> Self {
        Machine {
            path,
            hlc,
            minter: Minter::new(actor),
            next_request: first_request,
            requests: Map::default(),
            wakes: BTreeSet::new(),
            bytes: 0,
            stragglers: BTreeSet::new(),
            stragglers_bytes: 0,
            scans: 0,
            bounds: Bounds::default(),
            speeds: Speeds::new(),
            sibling_log_at: Mono::default(),
            pull_ring_at: Mono::default(),
        }
    }

    #[cfg(test)]
    pub fn with_bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    #[cfg(test)]
    pub fn spend_all_hedges(&mut self) {
        while self.speeds.spend() {}
    }

    /// Requests that somebody waits for.
    pub fn in_flight(&self) -> usize {
        self.requests.len() - self.stragglers.len()
    }

    /// Answered writes that wait for the rest of their owners.
    pub fn straggling(&self) -> usize {
        self.stragglers.len()
    }

    /// When to send `Event::Woken` at the latest.
    pub fn wake_at(&self) -> Option<Mono> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Whether the sequences of this actor run out: give it another with `renew`.
    pub fn is_spent(&self) -> bool {
        self.minter.is_spent()
    }

    pub fn renew(&mut self, actor: Actor) {
        self.minter = Minter::new(actor);
    }

    pub fn step(&mut self, view: &View<'_>, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Write { write, submitted } => self.begin_write(view, write, submitted, effects),
            Event::Read { read, submitted } => self.begin_read(view, read, submitted, effects),
            Event::Scan { scan, submitted } => self.begin_scan(view, scan, submitted, effects),
            Event::Replied { tag, answer } => match self.take(tag.request) {
                None => effects.push(Effect::Late),
                Some(pending) => self.turn(view, tag.request, effects, |turn| match pending {
                    Pending::Write(writing) => writing.replied(turn, tag, answer),
                    Pending::Read(reading) => reading.replied(turn, tag, answer),
                    Pending::Scan(scanning) => scanning.replied(turn, tag, answer),
                }),
            },
            Event::Hinted { request, target, answer } => {
                effects.push(Effect::Hinted(answer));
                // A request that is over has left its hints to hand-off.
                if let Some(pending) = self.take(request) {
                    self.turn(view, request, effects, |turn| match pending {
                        Pending::Write(writing) => writing.hinted(turn, target, answer),
                        pending @ (Pending::Read(_) | Pending::Scan(_)) => Some(pending),
                    });
                }
            }
            Event::Suspected { node } => self.suspected(view, node, effects),
            Event::Draining => {
                while let Some(oldest) = self.stragglers.first().copied() {
                    self.crowd_out(view, oldest, effects);
                }
            }
            Event::Woken => self.wake(view, effects),
        }
        while self.stragglers.len() > self.bounds.stragglers || self.stragglers_bytes > self.bounds.stragglers_bytes {
            let Some(oldest) = self.stragglers.first().copied() else { break };
            effects.push(Effect::CrowdedOut);
            self.crowd_out(view, oldest, effects);
        }
    }

    /// Ends an answered write: who has not acknowledged it gets a hint now.
    fn crowd_out(&mut self, view: &View<'_>, straggler: u64, effects: &mut Vec<Effect>) {
        if let Some(Pending::Write(writing)) = self.take(straggler) {
            self.turn(view, straggler, effects, |turn| {
                writing.abandon(turn);
                None
            });
        }
    }

    /// As rare as nodes fail, so looking at every request is cheap enough.
    fn suspected(&mut self, view: &View<'_>, node: NodeId, effects: &mut Vec<Effect>) {
        let waits = |(request, pending): (&u64, &Pending)| pending.waits_for(node).then_some(*request);
        let mut waiting: Vec<u64> = self.requests.iter().filter_map(waits).collect();
        waiting.sort_unstable();
        for request in waiting {
            if let Some(pending) = self.take(request) {
                self.turn(view, request, effects, |turn| match pending {
                    Pending::Write(writing) => writing.suspected(turn, node),
                    Pending::Read(reading) => reading.suspected(turn, node),
                    Pending::Scan(scanning) => scanning.suspected(turn, node),
                });
            }
        }
    }

    fn begin_write(&mut self, view: &View<'_>, write: Write, submitted: Mono, effects: &mut Vec<Effect>) {
        let times = Times::new(view.now, submitted, write.deadline);
        match self.overloaded(times) {
            Some(error) => {
                effects.push(Effect::refuse_write(Operation::of(&write.change), view.now, times, write.reply, error))
            }
            None => {
                let request = self.next_request();
                self.turn(view, request, effects, |turn| Writing::begin(turn, write, times));
            }
        }
    }

    fn begin_read(&mut self, view: &View<'_>, read: Read, submitted: Mono, effects: &mut Vec<Effect>) {
        let times = Times::new(view.now, submitted, read.deadline);
        match self.overloaded(times) {
            Some(error) => {
                effects.push(Effect::AnswerRead {
                    timing: times.timing(view.now),
                    reply: read.reply,
                    answer: Err(error),
                });
            }
            None => {
                let request = self.next_request();
                self.turn(view, request, effects, |turn| Reading::begin(turn, read, times));
            }
        }
    }

    fn begin_scan(&mut self, view: &View<'_>, scan: Scan, submitted: Mono, effects: &mut Vec<Effect>) {
        let times = Times::new(view.now, submitted, scan.deadline);
        let (depth, cap) = (self.scans, limits::SCANS_MAX);
        let too_many = (depth >= cap).then(|| {
            let path = Arc::clone(&self.path);
            CoordinatorError::Overloaded { path, depth, cap, applied: Applied::No }
        });
        match self.overloaded(times).or(too_many) {
            Some(error) => {
                let timing = times.timing(view.now);
                effects.push(Effect::AnswerScan { timing, reply: scan.reply, answer: Err(error) });
            }
            None => {
                let request = self.next_request();
                self.turn(view, request, effects, |turn| Scanning::begin(turn, scan, times));
            }
        }
    }

    fn wake(&mut self, view: &View<'_>, effects: &mut Vec<Effect>) {
        // Each request that is woken either ends or asks to be woken later than now, so this ends.
        while let Some((_, request)) = self.wakes.first().copied().filter(|(at, _)| *at <= view.now) {
            if let Some(pending) = self.take(request) {
                self.turn(view, request, effects, |turn| match pending {
                    Pending::Write(writing) => writing.woken(turn),
                    Pending::Read(reading) => reading.woken(turn),
                    Pending::Scan(scanning) => scanning.woken(turn),
                });
            }
        }
    }

    /// Lets a request act; keeps it if it is not over.
    fn turn(
        &mut self,
        view: &View<'_>,
        request: u64,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Turn<'_, '_>) -> Option<Pending>,
    ) {
        let (hlc, minter, speeds) = (&*self.hlc, &mut self.minter, &mut self.speeds);
        let (sibling_log_at, pull_ring_at) = (&mut self.sibling_log_at, &mut self.pull_ring_at);
        let pending = act(&mut Turn { view, hlc, minter, speeds, request, effects, sibling_log_at, pull_ring_at });
        if let Some(pending) = pending {
            if pending.is_straggling() {
                self.stragglers.insert(request);
                self.stragglers_bytes += pending.bytes();
            } else {
                self.bytes += pending.bytes();
            }
            self.scans += usize::from(matches!(pending, Pending::Scan(_)));
            self.wakes.insert((pending.wake_at(), request));
            self.requests.insert(request, pending);
        }
        debug_assert_eq!(self.requests.len(), self.wakes.len());
    }

    fn take(&mut self, request: u64) -> Option<Pending> {
        let pending = self.requests.remove(&request)?;
        self.wakes.remove(&(pending.wake_at(), request));
        self.scans -= usize::from(matches!(pending, Pending::Scan(_)));
        if self.stragglers.remove(&request) {
            self.stragglers_bytes -= pending.bytes();
        } else {
            self.bytes -= pending.bytes();
        }
        Some(pending)
    }

    fn next_request(&mut self) -> u64 {
        let next = self.next_request.wrapping_add(1);
        mem::replace(&mut self.next_request, next)
    }

    /// A request whose deadline passed in the mailbox is one too many as well.
    fn overloaded(&self, times: Times) -> Option<CoordinatorError> {
        let refuse = |depth, cap| {
            let path = Arc::clone(&self.path);
            Some(CoordinatorError::Overloaded { path, depth, cap, applied: Applied::No })
        };
        match () {
            () if self.in_flight() >= self.bounds.in_flight || buggify(Site::CoordinatorOverloaded) => {
                refuse(self.in_flight(), self.bounds.in_flight)
            }
            // Time and bytes are no depth of a mailbox.
            () if times.deadline <= times.started || self.bytes >= self.bounds.in_flight_bytes => refuse(0, 0),
            () => None,
        }
    }
}

impl Pending {
    fn wake_at(&self) -> Mono {
        match self {
            Pending::Write(writing) => writing.wake_at(),
            Pending::Read(reading) => reading.wake_at(),
            Pending::Scan(scanning) => scanning.wake_at(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Pending::Write(writing) => writing.bytes(),
            Pending::Read(reading) => reading.bytes(),
            // What they hold is bounded by their number.
            Pending::Scan(_) => 0,
        }
    }

    /// Whether its client has its answer.
    fn is_straggling(&self) -> bool {
        match self {
            Pending::Write(writing) => writing.is_answered(),
            Pending::Read(_) | Pending::Scan(_) => false,
        }
    }

    fn waits_for(&self, node: NodeId) -> bool {
        match self {
            Pending::Write(writing) => writing.waits_for(node),
            Pending::Read(reading) => reading.waits_for(node),
            Pending::Scan(scanning) => scanning.waits_for(node),
        }
    }
}

impl Times {
    fn new(now: Mono, submitted: Mono, deadline: Mono) -> Self {
        Times { submitted, started: now, deadline: deadline.min(now.after(limits::DEADLINE_MAX)) }
    }

    pub fn timing(&self, now: Mono) -> Timing {
        let queue = self.started.since(self.submitted);
        Timing { queue, replicas: now.since(self.started), total: now.since(self.submitted) }
    }
}

impl Effect {
    pub(crate) fn refuse_write(
        operation: Operation,
        now: Mono,
        times: Times,
        reply: Reply<Result<WriteAnswer, CoordinatorError>>,
        error: CoordinatorError,
    ) -> Effect {
        Effect::AnswerWrite { operation, timing: times.timing(now), reply, answer: Err(error) }
    }
}

impl Turn<'_, '_> {
    /// Asks one owner for something.
    pub fn send(&mut self, plan: &mut Plan, owner: usize, deadline: Mono, op: Op) {
        let (fence, token) = (plan.fence(), plan.token);
        let asked = &mut plan.owners[owner];
        asked.ask(self.view.now);
        let tag = Tag { request: self.request, owner, round: asked.round };
        self.effects.push(Effect::Send { to: asked.node, token, tag, fence, deadline, op });
    }

    /// An owner's ring is another than the request's; if it is newer, it is to be fetched. Asked of one owner for all
    /// requests that meet the same change.
    pub fn other_ring(&mut self, from: NodeId, error: &ReplicaError) {
        match error {
            ReplicaError::StaleRing { have } => {
                self.effects.push(Effect::OtherRing);
                // This node's own replica reads the same ring as this coordinator does at its next event.
                if from != self.view.me && *have > self.view.ring.version && *self.pull_ring_at <= self.view.now {
                    *self.pull_ring_at = self.view.now.after(limits::RING_RETRY);
                    self.effects.push(Effect::PullRing { from });
                }
            }
            ReplicaError::Behind => self.effects.push(Effect::OtherRing),
            _ => {}
        }
    }

    /// When to ask again for the `tries`th time, spread by the request's number.
    pub fn retry_at(&self, tries: u32, deadline: Mono) -> Mono {
        let wait = limits::RING_RETRY * 2u32.pow(tries.min(limits::RETRY_DOUBLINGS));
        let roll = self.request.wrapping_add(u64::from(tries)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
        let spread = wait / 2_048 * u32::try_from(roll).unwrap_or(0);
        self.view.now.after(wait + spread).min(deadline)
    }

    /// Hands a hint over.
    pub fn hint(&mut self, target: NodeId, token: Token, mutation: Bytes) {
        self.effects.push(Effect::StoreHint { request: self.request, target, token, mutation });
    }

    /// A context as it is handed out; none where there is nothing to cover.
    pub fn seal(&self, context: &Context, plan: &Plan) -> Option<String> {
        seal(context, self.view.ring, plan.table.id, &plan.key)
    }

    pub fn open(&self, token: &str, plan: &Plan) -> Result<Context, ContextError> {
        let good_until =
            |key: &RingContextKey| key.retired.map(|at| at.saturating_add(limits::CONTEXT_KEY_RETIRED_FOR));
        let good = |key: &&RingContextKey| good_until(key).is_none_or(|until| until > self.view.wall);
        let keys: Vec<ContextKey> = self.view.ring.context_keys.iter().filter(good).map(key_of).collect();
        Context::open(token, plan.table.id, &plan.key, &keys)
    }

    pub fn count_values(&mut self, plan: &Plan, values: u64) {
        if values >= SIBLINGS_WARN as u64 {
            let say = *self.sibling_log_at <= self.view.now;
            if say {
                *self.sibling_log_at = self.view.now.after(limits::SIBLING_WARNING_EVERY);
            }
            let (table, key) = (Arc::clone(&plan.table), plan.key.clone());
            self.effects.push(Effect::ManySiblings { table, key, values, say });
        }
    }
}

impl Operation {
    pub fn of(change: &crate::Change) -> Self {
        match change {
            crate::Change::Put { .. } => Operation::Put,
            crate::Change::Delete => Operation::Delete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Coordinator, Double, answered, get, put, ring};
    use kula_placement::ReadRepair;

    fn refusals(effects: &[Effect]) -> Vec<(usize, usize)> {
        let overloaded = |error: &CoordinatorError| match error {
            CoordinatorError::Overloaded { depth, cap, applied: Applied::No, .. } => Some((*depth, *cap)),
            _ => None,
        };
        let of = |effect: &Effect| match effect {
            Effect::AnswerWrite { answer, .. } => answer.as_ref().err().and_then(overloaded),
            Effect::AnswerRead { answer, .. } => answer.as_ref().err().and_then(overloaded),
            _ => None,
        };
        effects.iter().filter_map(of).collect()
    }

    // Promise: P9
    #[test]
    fn requests_and_bytes_in_hand_are_bounded_and_a_refusal_sends_nothing() {
        let mut coordinator = Coordinator::new(1, 1, 0, ring(1, 3, 3, ReadRepair::Blocking));
        coordinator.machine = coordinator.machine.with_bounds(Bounds { in_flight: 2, ..Bounds::default() });
        coordinator.write(put("default", "a", "v"));
        coordinator.read(get("default", "b"));
        let (_, effects) = coordinator.write(put("default", "c", "v"));
        assert_eq!((effects.len(), refusals(&effects)), (1, vec![(2, 2)]));
        let (_, effects) = coordinator.read(get("default", "c"));
        assert_eq!((effects.len(), refusals(&effects)), (1, vec![(2, 2)]));
        // What is in hand goes, and there is room again.
        coordinator.advance(limits::DEADLINE_MAX);
        coordinator.wake();
        assert_eq!((coordinator.machine.in_flight(), coordinator.machine.wake_at()), (0, None));
        let (_, effects) = coordinator.write(put("default", "c", "v"));
        assert_eq!(effects.len(), 3);

        coordinator.machine = coordinator.machine.with_bounds(Bounds { in_flight_bytes: 100, ..Bounds::default() });
        coordinator.write(put("default", "d", &"x".repeat(100)));
        let (_, effects) = coordinator.write(put("default", "e", "v"));
        assert_eq!(refusals(&effects), [(0, 0)], "bytes are no depth of a mailbox");
    }

    #[test]
    fn what_owners_sent_to_reads_under_way_is_in_hand_too() {
        let mut coordinator = Coordinator::new(1, 1, 0, ring(1, 3, 3, ReadRepair::Blocking));
        coordinator.machine = coordinator.machine.with_bounds(Bounds { in_flight_bytes: 1_000, ..Bounds::default() });
        let mut owner = Double::default();
        let (_, written) = coordinator.write(put("default", "k", &"x".repeat(900)));
        written.iter().for_each(|sent| drop(serve(&mut owner, sent)));
        coordinator.advance(limits::DEADLINE_MAX);
        coordinator.wake();
        let (_, asked) = coordinator.read(get("default", "k"));
        let [(data, answer), (digest, agrees)] =
            asked.iter().map(|sent| serve(&mut owner, sent)).collect::<Vec<_>>().try_into().unwrap();
        let (_, effects) = coordinator.read(get("default", "other"));
        assert_eq!(effects.len(), 2, "there is room");
        coordinator.step(Event::Replied { tag: data, answer });
        let (_, effects) = coordinator.write(put("default", "e", "v"));
        assert_eq!(refusals(&effects), [(0, 0)]);
        coordinator.step(Event::Replied { tag: digest, answer: agrees });
        let (_, effects) = coordinator.write(put("default", "e", "v"));
        assert_eq!(effects.len(), 3, "it is answered, and there is room again");
    }

    /// What an owner answers to something sent to it.
    fn serve(owner: &mut Double, sent: &Effect) -> (Tag, Answered) {
        let Effect::Send { tag, fence, op, .. } = sent else { panic!("{sent:?}") };
        (*tag, answered(owner.serve(*fence, op)))
    }

    #[test]
    fn a_deadline_too_far_is_brought_forward_and_one_that_passed_is_not_served() {
        let mut coordinator = Coordinator::new(1, 1, 0, ring(1, 3, 3, ReadRepair::Blocking));
        let now = coordinator.now;
        let far = crate::Write { deadline: now.after(10 * limits::DEADLINE_MAX), ..put("default", "k", "v") };
        coordinator.write(far);
        assert_eq!(coordinator.machine.wake_at(), Some(now.after(limits::DEADLINE_MAX)));
        let (_, effects) = coordinator.write(crate::Write { deadline: now, ..put("default", "k", "v") });
        assert_eq!((effects.len(), refusals(&effects)), (1, vec![(0, 0)]));
    }

    #[test]
    fn without_a_lease_of_the_clock_nothing_is_minted() {
        let mut coordinator = Coordinator::new(1, 1, 0, ring(1, 3, 3, ReadRepair::Blocking));
        coordinator.machine.hlc = Arc::new(Hlc::starting_above(None));
        let (_, effects) = coordinator.write(put("default", "k", "v"));
        let [Effect::AnswerWrite { answer: Err(CoordinatorError::ClockLease), .. }] = &effects[..] else {
            panic!("{effects:?}");
        };
    }
}
