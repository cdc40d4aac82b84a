//! A write's life: check, plan, mint once, send to every owner that can be reached, count, answer.
//!
//! The mutation is minted before the first send and encoded once; retries and hints send the same bytes, so sending twice
//! is harmless. An answer tells the truth about a failure: `no` only if no owner can hold the write. After the answer the
//! write stays in hand until each owner has acknowledged it or its hint is handed over; a hint never counts as an ack.

mod delta;
mod verdict;

use crate::{
    error::{Applied, CoordinatorError},
    limits,
    machine::{Answered, Effect, HintAnswer, Operation, Pending, Tag, Times, Turn},
    messages::{Change, ReplicaOutcome, Write, WriteAnswer},
    plan::{Hint, Owner, Plan},
    read::{Purpose, Reading},
};
use bytes::Bytes;
use delta::Intent;
use kula_actor::Reply;
use kula_fault::{Mutant, planted};
use kula_lattice::{Context, Mutation};
use kula_replica::{Op, Origin, Outcome, ReplicaError};
use kula_schema::TableKind;
use kula_types::{Mono, NodeId};
use verdict::Verdict;

/// Who waits for a write, and since when.
#[derive(Debug)]
pub(crate) struct Asker {
    pub operation: Operation,
    pub times: Times,
    pub reply: Reply<Result<WriteAnswer, CoordinatorError>>,
}

/// A causal delete without context: what it covers is being read.
#[derive(Debug)]
pub(crate) struct Covering {
    pub asker: Asker,
}

/// A write whose mutation was sent.
#[derive(Debug)]
pub(crate) struct Writing {
    /// None once it is answered: then it only waits for the rest of its owners.
    asker: Option<Asker>,
    times: Times,
    plan: Plan,
    mutation: Bytes,
    origin: Origin,
    /// Of a causal put: the context of its own dot.
    own: Option<Context>,
    /// Some owner said that it is stored. A hint delivers what it holds past its owner's refusal, so there is none of a write
    /// that all owners may have refused.
    accepted: bool,
    /// It can no longer succeed and waits until then for what is certain.
    doomed_until: Option<Mono>,
    /// When owners that have not caught up are asked again, and hints that found no room are handed over again.
    retry_at: Option<Mono>,
    tries: u32,
    /// Its deadline has passed; only hints are waited for.
    overdue: bool,
}

impl Writing {
    pub fn begin(turn: &mut Turn<'_, '_>, write: Write, times: Times) -> Option<Pending> {
        let Write { target, change, context, timestamp, ttl, idempotency_key, consistency, deadline: _, reply } = write;
        let asker = Asker { operation: Operation::of(&change), times, reply };
        let planned = delta::check(&change, idempotency_key.as_ref()).and_then(|()| {
            let plan = Plan::new(turn.view, target, consistency)?;
            if plan.table.kind == TableKind::Causal && timestamp.is_some() {
                return Err(CoordinatorError::TimestampNotAllowed);
            }
            let context =
                context.map(|token| turn.open(&token, &plan).map_err(CoordinatorError::BadContext)).transpose()?;
            Ok((plan, context))
        });
        let (plan, context) = match planned {
            Ok(planned) => planned,
            Err(error) => return asker.refuse(turn, error),
        };
        match (plan.table.kind, &change, context) {
            (TableKind::Causal, Change::Delete, None) => {
                Reading::ask(turn, plan, times, Purpose::Cover(Covering { asker }))
            }
            (_, _, context) => {
                let op_id = idempotency_key.filter(|_| !planted(Mutant::RetryIsNew)).map(|key| delta::op_id(&key));
                let intent = Intent { change, context, timestamp, ttl, op_id };
                Writing::mint(turn, asker, plan, intent)
            }
        }
    }

    /// Goes on with a causal delete once what it covers is known.
    pub fn cover(turn: &mut Turn<'_, '_>, covering: Covering, read: &Plan, seen: Context) -> Option<Pending> {
        let asker = covering.asker;
        if seen.dots.is_empty() && seen.lww.is_none() {
            // Nothing is there: a write that covers nothing would only leave a trace for ever.
            let acked = read.count(|owner| matches!(owner.outcome, ReplicaOutcome::Data | ReplicaOutcome::Digest));
            return asker.answer(turn, read, acked, None);
        }
        match read.again(turn.view) {
            Ok(plan) => {
                let intent =
                    Intent { change: Change::Delete, context: Some(seen), timestamp: None, ttl: None, op_id: None };
                Writing::mint(turn, asker, plan, intent)
            }
            Err(error) => asker.refuse(turn, error),
        }
    }

    fn mint(turn: &mut Turn<'_, '_>, asker: Asker, plan: Plan, intent: Intent) -> Option<Pending> {
        // A client's own timestamp neither needs nor moves the clock.
        let stamp = match intent.timestamp {
            Some(given) => given,
            None => match turn.hlc.stamp(turn.view.wall) {
                Ok(stamp) => stamp,
                Err(_) => return asker.refuse(turn, CoordinatorError::ClockLease),
            },
        };
        let partition = turn.view.ring.partition(plan.token);
        let minted = turn.minter.mint(plan.table.id, plan.token, partition, turn.view.ring.partitions);
        let causal = plan.table.kind == TableKind::Causal;
        let put = matches!(intent.change, Change::Put { .. });
        let origin = Origin::Client { contextless: causal && put && intent.context.is_none() };
        let own = (causal && put).then(|| Context { dots: vec![(minted.mid, minted.key_previous)], lww: None });
        let delta = delta::of(&plan.table, intent, stamp, turn.view.wall, minted);
        let (table, token, key) = (plan.table.id, plan.token, plan.key.clone());
        let mutation = Mutation { table, token, key, mid: minted.mid, previous: minted.previous, delta }.encode();
        let times = asker.times;
        let mut writing = Box::new(Writing {
            asker: Some(asker),
            times,
            plan,
            mutation,
            origin,
            own,
            accepted: false,
            doomed_until: None,
            retry_at: None,
            tries: 0,
            overdue: false,
        });
        writing.send_unasked(turn);
        Some(Pending::Write(writing))
    }

    fn send_unasked(&mut self, turn: &mut Turn<'_, '_>) {
        for owner in 0..self.plan.owners.len() {
            if matches!(self.plan.owners[owner].outcome, ReplicaOutcome::NotAsked) {
                self.send(turn, owner);
            }
        }
    }

    fn send(&mut self, turn: &mut Turn<'_, '_>, owner: usize) {
        let op = Op::Apply { mutation: self.mutation.clone(), origin: self.origin };
        turn.send(&mut self.plan, owner, self.times.deadline, op);
    }

    pub fn wake_at(&self) -> Mono {
        let end = match self.doomed_until {
            // What is owed by hint at the deadline may have to be handed over more than once.
            _ if self.overdue => self.times.deadline.after(limits::HINT_PATIENCE),
            Some(until) if !self.is_answered() => until.min(self.times.deadline),
            _ => self.times.deadline,
        };
        self.retry_at.map_or(end, |at| at.min(end))
    }

    pub fn bytes(&self) -> usize {
        self.mutation.len()
    }

    pub fn is_answered(&self) -> bool {
        self.asker.is_none()
    }

    pub fn waits_for(&self, node: NodeId) -> bool {
        self.plan.waits_for(node).is_some()
    }

    pub fn replied(mut self: Box<Self>, turn: &mut Turn<'_, '_>, tag: Tag, answer: Answered) -> Option<Pending> {
        let outcome = match answer {
            Answered::Served(Outcome::Applied) => ReplicaOutcome::Applied,
            Answered::Lost if planted(Mutant::LostIsAck) => ReplicaOutcome::Applied,
            // Not an answer to an apply: whatever it was, nobody said that the write is stored.
            Answered::Served(Outcome::Data(_) | Outcome::Digest { .. } | Outcome::Range(_)) | Answered::Lost => {
                ReplicaOutcome::Lost
            }
            Answered::Refused(error) => ReplicaOutcome::Refused(error),
        };
        if let (ReplicaOutcome::Refused(error), Some(owner)) = (&outcome, self.plan.owners.get(tag.owner)) {
            turn.other_ring(owner.node, error);
        }
        self.accepted |= matches!(outcome, ReplicaOutcome::Applied);
        if !self.plan.answered(turn.view, tag, outcome) {
            turn.effects.push(Effect::Late);
            return Some(Pending::Write(self));
        }
        self.proceed(turn)
    }

    /// Hand-off answered for one owner.
    pub fn hinted(mut self: Box<Self>, turn: &mut Turn<'_, '_>, target: NodeId, answer: HintAnswer) -> Option<Pending> {
        let asked = |owner: &&mut Owner| owner.node == target && owner.hint == Hint::Asked;
        if let Some(owner) = self.plan.owners.iter_mut().find(asked) {
            owner.hint = match answer {
                HintAnswer::Kept => Hint::Kept,
                HintAnswer::Busy if turn.view.now < self.times.deadline.after(limits::HINT_PATIENCE) => Hint::Again,
                HintAnswer::Busy | HintAnswer::NotKept => Hint::NotKept,
            };
            if owner.hint == Hint::Again {
                let again = turn.view.now.after(limits::HINT_RETRY);
                self.retry_at = Some(self.retry_at.map_or(again, |at| at.min(again)));
            }
        }
        self.proceed(turn)
    }

    /// It may still acknowledge, and is not waited for any longer than anybody else is.
    pub fn suspected(mut self: Box<Self>, turn: &mut Turn<'_, '_>, node: NodeId) -> Option<Pending> {
        if let Some(owner) = self.plan.waits_for(node) {
            self.plan.owners[owner].suspected = true;
        }
        self.proceed(turn)
    }

    /// Its place is taken: what is owed is handed over, and whatever comes of that comes to nobody.
    pub fn abandon(mut self: Box<Self>, turn: &mut Turn<'_, '_>) {
        if self.is_kept_by_hint(turn) {
            self.hint_owed(turn, true, true);
        }
    }

    pub fn woken(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        let now = turn.view.now;
        let doomed = self.doomed_until.is_some_and(|until| until <= now);
        if !self.is_answered() && (doomed || now >= self.times.deadline) {
            return match verdict::of(&self.plan) {
                // Only hints were waited for.
                Verdict::Acked(acked) => self.answer(turn, acked),
                Verdict::Waiting | Verdict::Doomed | Verdict::Failed(_) => {
                    let error = verdict::failure(&self.plan);
                    self.fail(turn, error)
                }
            };
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.tries = self.tries.saturating_add(1);
            if self.plan.ring_version < turn.view.ring.version && self.plan.asks_retry() {
                return self.plan_again(turn);
            }
            self.ask_again(turn);
        }
        self.proceed(turn)
    }

    /// The owner was behind, or we are and know no better yet: the same again. So for hints that found no room.
    fn ask_again(&mut self, turn: &mut Turn<'_, '_>) {
        for owner in 0..self.plan.owners.len() {
            if self.plan.owners[owner].retry.is_some() && turn.view.now < self.times.deadline {
                self.send(turn, owner);
            }
            if self.plan.owners[owner].hint == Hint::Again {
                self.hint(turn, owner);
            }
        }
    }

    /// What the owners' answers come to by now.
    fn proceed(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        if self.is_answered() {
            return self.settle(turn);
        }
        let verdict = verdict::of(&self.plan);
        if let Verdict::Waiting | Verdict::Acked(_) = verdict {
            self.hint_missed(turn);
        }
        match verdict {
            Verdict::Waiting if self.plan.asks_retry() && self.plan.ring_version < turn.view.ring.version => {
                self.plan_again(turn)
            }
            Verdict::Waiting => {
                self.wait_to_retry(turn);
                Some(Pending::Write(self))
            }
            Verdict::Doomed => {
                self.doomed_until.get_or_insert(turn.view.now.after(limits::REFUSAL_LINGER));
                self.retry_at = None;
                Some(Pending::Write(self))
            }
            // The answer says how many copies are kept by hint, so it waits to know.
            Verdict::Acked(_) if self.waits_for_hints() => Some(Pending::Write(self)),
            Verdict::Acked(acked) => self.answer(turn, acked),
            Verdict::Failed(error) => self.fail(turn, error),
        }
    }

    fn wait_to_retry(&mut self, turn: &Turn<'_, '_>) {
        if self.plan.asks_retry() && self.retry_at.is_none() {
            self.retry_at = Some(turn.retry_at(self.tries, self.times.deadline));
        }
    }

    /// Some owner knows another ring, and there is a newer one here by now: the same mutation goes to the owners of that
    /// one. Those that have acknowledged it keep their ack; those for which a hint is kept are asked too, for theirs.
    fn plan_again(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        let may_be_stored = self.plan.may_be_stored();
        let planned = if may_be_stored { self.plan.under_new_ring(turn.view) } else { self.plan.again(turn.view) };
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(_) if self.is_answered() => {
                self.plan.owners.iter_mut().for_each(Owner::give_up);
                return self.settle(turn);
            }
            // Some owner of the old ring may have it, whatever the new one says.
            Err(_) if may_be_stored => {
                let error = verdict::timeout(&self.plan);
                return self.fail(turn, error);
            }
            Err(error) => return self.asker.take().and_then(|asker| asker.refuse(turn, error)),
        };
        plan.doubtful = may_be_stored;
        for owner in &mut plan.owners {
            let Some(old) = self.plan.owners.iter().find(|old| old.node == owner.node) else { continue };
            owner.hint = old.hint;
            if matches!(old.outcome, ReplicaOutcome::Applied) {
                (owner.outcome, owner.wait) = (ReplicaOutcome::Applied, old.wait);
            }
        }
        self.plan = plan;
        self.retry_at = None;
        self.send_unasked(turn);
        self.proceed(turn)
    }

    /// Hints for the owners that are out of reach, as soon as somebody has accepted the write.
    fn hint_missed(&mut self, turn: &mut Turn<'_, '_>) {
        if !self.accepted || !self.is_kept_by_hint(turn) {
            return;
        }
        for owner in 0..self.plan.owners.len() {
            if self.plan.owners[owner].hint == Hint::None && self.plan.owners[owner].is_missed() {
                self.hint(turn, owner);
            }
        }
    }

    /// Whether owners that miss it get hints: the keyspace wants them, and the table is still there.
    fn is_kept_by_hint(&self, turn: &Turn<'_, '_>) -> bool {
        self.plan.hinted_handoff && turn.view.schema.table(self.plan.table.id).is_some()
    }

    /// Hints for all that are owed one; `last`: those that found no room do not wait for another time.
    fn hint_owed(&mut self, turn: &mut Turn<'_, '_>, overdue: bool, last: bool) {
        if !self.accepted {
            return;
        }
        for owner in 0..self.plan.owners.len() {
            let of = &self.plan.owners[owner];
            let owed = match of.hint {
                Hint::None => of.is_owed(overdue),
                Hint::Again => last,
                Hint::Asked | Hint::Kept | Hint::NotKept => false,
            };
            if owed {
                self.hint(turn, owner);
            }
        }
    }

    fn hint(&mut self, turn: &mut Turn<'_, '_>, owner: usize) {
        let owner = &mut self.plan.owners[owner];
        // This node has no link to itself, to deliver a hint by: its own replica is asked again, while there is time.
        if owner.node == turn.view.me {
            owner.hint = Hint::NotKept;
        } else {
            owner.hint = Hint::Asked;
            turn.hint(owner.node, self.plan.token, self.mutation.clone());
        }
    }

    fn waits_for_hints(&self) -> bool {
        let waits = |owner: &Owner| match owner.hint {
            Hint::Asked | Hint::Again => !matches!(owner.outcome, ReplicaOutcome::Applied),
            Hint::None | Hint::Kept | Hint::NotKept => false,
        };
        self.plan.owners.iter().any(waits)
    }

    fn answer(mut self: Box<Self>, turn: &mut Turn<'_, '_>, acked: u32) -> Option<Pending> {
        let context = self.own.take().and_then(|own| turn.seal(&own, &self.plan));
        if let Some(asker) = self.asker.take() {
            asker.answer(turn, &self.plan, acked, context);
        }
        self.settle(turn)
    }

    /// It is answered, and every owner is owed it: by its ack, or by a hint. Over when each has either, or none will.
    fn settle(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        if !self.is_kept_by_hint(turn) {
            return None;
        }
        let (now, deadline) = (turn.view.now, self.times.deadline);
        self.overdue = now >= deadline;
        // What no owner has accepted nobody is made to take.
        if self.overdue || !self.accepted {
            self.plan.owners.iter_mut().for_each(Owner::give_up);
        } else {
            self.retry_own(turn);
            self.wait_to_retry(turn);
        }
        // Handed over at least once, even by a process that stood still past every deadline.
        let last = now >= deadline.after(limits::HINT_PATIENCE);
        self.hint_owed(turn, self.overdue, last);
        if last {
            return None;
        }
        let waits = |owner: &Owner| owner.hint == Hint::None && owner.is_waiting() && !self.overdue;
        let over = !self.waits_for_hints() && !self.plan.owners.iter().any(waits);
        (!over).then_some(Pending::Write(self))
    }

    /// This node's own copy, where it had too much in hand: it is asked again.
    fn retry_own(&mut self, turn: &Turn<'_, '_>) {
        if let Some(own) = self.plan.owners.iter_mut().find(|owner| owner.node == turn.view.me)
            && let ReplicaOutcome::Refused(ReplicaError::Overloaded { .. } | ReplicaError::DiskFull { .. }) =
                own.outcome
        {
            own.ask_later();
        }
    }

    fn fail(mut self: Box<Self>, turn: &mut Turn<'_, '_>, error: CoordinatorError) -> Option<Pending> {
        let Some(asker) = self.asker.take() else { return self.settle(turn) };
        match verdict::with_reports(error, &self.plan, turn.view) {
            // The client needs a context to go on, so it is read for it.
            CoordinatorError::SiblingCap { siblings, bytes, applied, context: None } => {
                let times = self.times;
                let capped = Capped { asker, siblings, bytes, applied };
                match self.plan.again(turn.view) {
                    Ok(plan) => Reading::ask(turn, plan, times, Purpose::Capped(capped)),
                    Err(_) => capped.answer(turn, None),
                }
            }
            error => {
                let completed = verdict::is_completed_after(&error);
                asker.refuse(turn, error);
                // Nobody may have it and nobody is given it, or some may and then all are.
                if completed { self.settle(turn) } else { None }
            }
        }
    }
}

/// A write refused for too many siblings: their context is being read.
#[derive(Debug)]
pub(crate) struct Capped {
    pub asker: Asker,
    siblings: usize,
    bytes: usize,
    applied: Applied,
}

impl Capped {
    pub fn answer(self, turn: &mut Turn<'_, '_>, context: Option<String>) -> Option<Pending> {
        let Capped { asker, siblings, bytes, applied } = self;
        asker.refuse(turn, CoordinatorError::SiblingCap { siblings, bytes, context, applied })
    }
}

impl Asker {
    pub fn refuse(self, turn: &mut Turn<'_, '_>, error: CoordinatorError) -> Option<Pending> {
        turn.effects.push(Effect::refuse_write(self.operation, turn.view.now, self.times, self.reply, error));
        None
    }

    fn answer(self, turn: &mut Turn<'_, '_>, plan: &Plan, acked: u32, context: Option<String>) -> Option<Pending> {
        let timing = self.times.timing(turn.view.now);
        let replicas = plan.reports(turn.view);
        let answer = WriteAnswer { acked, rf: plan.rf, hinted: plan.hinted(), context, replicas, timing };
        turn.effects.push(Effect::AnswerWrite {
            operation: self.operation,
            timing,
            reply: self.reply,
            answer: Ok(answer),
        });
        None
    }
}
