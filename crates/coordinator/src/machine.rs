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
    read::Reading,
    write::Writing,
};
use kula_actor::Reply;
use kula_clock::Hlc;
use kula_lattice::{Context, ContextError, ContextKey};
use kula_placement::{Ring, RingContextKey};
use kula_replica::{Fence, Op, Outcome, ReplicaError};
use kula_schema::{Schema, Table};
use kula_types::{Actor, Map, Mono, NodeId, PartitionKey, Timestamp, Token, limits::SIBLINGS_WARN};
use std::{collections::BTreeSet, mem, sync::Arc};

/// What is known at this moment: given, never read.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
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
pub(crate) struct Tag {
    pub request: u64,
    /// Index into the plan's owners.
    pub owner: usize,
    pub round: u16,
}

/// What came back for a tag.
#[derive(Debug)]
pub(crate) enum Answered {
    Served(Outcome),
    Refused(ReplicaError),
    /// Whether it was served is unknown.
    Lost,
}

#[derive(Debug)]
pub(crate) enum Event {
    Write {
        write: Write,
        submitted: Mono,
    },
    Read {
        read: Read,
        submitted: Mono,
    },
    Replied {
        tag: Tag,
        answer: Answered,
    },
    /// Time has passed.
    Woken,
}

/// What a client asked for, for the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Put,
    Delete,
    Get,
}

#[derive(Debug)]
pub(crate) enum Effect {
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
    /// A key has so many values that somebody writes it without reading. `say`: it is time for a line in the log.
    ManySiblings {
        table: Arc<Table>,
        key: PartitionKey,
        values: u64,
        say: bool,
    },
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
}

/// What one event may use and cause.
pub(crate) struct Turn<'a, 'v> {
    pub view: &'a View<'v>,
    pub hlc: &'a Hlc,
    pub minter: &'a mut Minter,
    pub request: u64,
    pub effects: &'a mut Vec<Effect>,
    sibling_log_at: &'a mut Mono,
}

pub(crate) struct Machine {
    path: Arc<str>,
    hlc: Arc<Hlc>,
    minter: Minter,
    next_request: u64,
    requests: Map<u64, Pending>,
    /// When requests want to be woken. Invariant: one entry for each request in hand.
    wakes: BTreeSet<(Mono, u64)>,
    /// Encoded bytes of the writes in hand.
    bytes: usize,
    in_flight_max: usize,
    in_flight_bytes_max: usize,
    sibling_log_at: Mono,
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
            in_flight_max: limits::IN_FLIGHT_MAX,
            in_flight_bytes_max: limits::IN_FLIGHT_BYTES_MAX,
            sibling_log_at: Mono::default(),
        }
    }

    #[cfg(test)]
    pub fn with_limits(mut self, in_flight_max: usize, in_flight_bytes_max: usize) -> Self {
        (self.in_flight_max, self.in_flight_bytes_max) = (in_flight_max, in_flight_bytes_max);
        self
    }

    pub fn in_flight(&self) -> usize {
        self.requests.len()
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
            Event::Replied { tag, answer } => match self.take(tag.request) {
                None => effects.push(Effect::Late),
                Some(pending) => self.turn(view, tag.request, effects, |turn| match pending {
                    Pending::Write(writing) => writing.replied(turn, tag, answer),
                    Pending::Read(reading) => reading.replied(turn, tag, answer),
                }),
            },
            Event::Woken => self.wake(view, effects),
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

    fn wake(&mut self, view: &View<'_>, effects: &mut Vec<Effect>) {
        // Each request that is woken either ends or asks to be woken later than now, so this ends.
        while let Some((_, request)) = self.wakes.first().copied().filter(|(at, _)| *at <= view.now) {
            if let Some(pending) = self.take(request) {
                self.turn(view, request, effects, |turn| match pending {
                    Pending::Write(writing) => writing.woken(turn),
                    Pending::Read(reading) => reading.woken(turn),
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
        let (hlc, minter, sibling_log_at) = (&*self.hlc, &mut self.minter, &mut self.sibling_log_at);
        let pending = act(&mut Turn { view, hlc, minter, request, effects, sibling_log_at });
        if let Some(pending) = pending {
            self.bytes += pending.bytes();
            self.wakes.insert((pending.wake_at(), request));
            self.requests.insert(request, pending);
        }
        debug_assert_eq!(self.requests.len(), self.wakes.len());
    }

    fn take(&mut self, request: u64) -> Option<Pending> {
        let pending = self.requests.remove(&request)?;
        self.wakes.remove(&(pending.wake_at(), request));
        self.bytes -= pending.bytes();
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
            () if self.requests.len() >= self.in_flight_max || times.deadline <= times.started => {
                refuse(self.requests.len(), self.in_flight_max)
            }
            () if self.bytes >= self.in_flight_bytes_max => refuse(self.bytes, self.in_flight_bytes_max),
            () => None,
        }
    }
}

impl Pending {
    fn wake_at(&self) -> Mono {
        match self {
            Pending::Write(writing) => writing.wake_at(),
            Pending::Read(reading) => reading.wake_at(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Pending::Write(writing) => writing.bytes(),
            Pending::Read(_) => 0,
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
    pub fn refuse_write(
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

    /// The token of a context, under the cluster's key in force; none where there is nothing to cover.
    pub fn seal(&self, context: &Context, plan: &Plan) -> Option<String> {
        let covers = !context.dots.is_empty() || context.lww.is_some();
        covers.then(|| context.seal(plan.table.id, &plan.key, &key_of(self.view.ring.context_key())))
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

fn key_of(key: &RingContextKey) -> ContextKey {
    ContextKey { id: key.id, secret: *key.secret.expose() }
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
    use crate::fixture::{Coordinator, get, put, ring};
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

    #[test]
    fn requests_and_bytes_in_hand_are_bounded_and_a_refusal_sends_nothing() {
        let mut coordinator = Coordinator::new(1, 1, 0, ring(1, 3, 3, ReadRepair::Blocking));
        coordinator.machine = coordinator.machine.with_limits(2, 1_000_000);
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

        coordinator.machine = coordinator.machine.with_limits(10, 100);
        coordinator.write(put("default", "d", &"x".repeat(100)));
        let (_, effects) = coordinator.write(put("default", "e", "v"));
        assert!(matches!(refusals(&effects)[..], [(in_hand, 100)] if in_hand > 100));
    }

    #[test]
    fn a_deadline_too_far_is_brought_forward_and_one_that_passed_is_not_served() {
        let mut coordinator = Coordinator::new(1, 1, 0, ring(1, 3, 3, ReadRepair::Blocking));
        let now = coordinator.now;
        let far = crate::Write { deadline: now.after(10 * limits::DEADLINE_MAX), ..put("default", "k", "v") };
        coordinator.write(far);
        assert_eq!(coordinator.machine.wake_at(), Some(now.after(limits::DEADLINE_MAX)));
        let (_, effects) = coordinator.write(crate::Write { deadline: now, ..put("default", "k", "v") });
        assert_eq!((effects.len(), refusals(&effects).len()), (1, 1));
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
