//! A write's life: check, plan, mint once, send to every owner that can be reached, count, answer.
//!
//! The mutation is minted before the first send and encoded once; retries and later hints send the same bytes, so
//! sending twice is harmless. An answer tells the truth about a failure: `no` only if no owner can hold the write.

mod delta;
mod verdict;

use crate::{
    error::{Applied, CoordinatorError},
    limits,
    machine::{Answered, Effect, Operation, Pending, Tag, Times, Turn},
    messages::{Change, ReplicaOutcome, Write, WriteAnswer},
    plan::Plan,
    read::{Purpose, Reading},
};
use bytes::Bytes;
use delta::Intent;
use kula_actor::Reply;
use kula_lattice::{Context, Mutation};
use kula_replica::{Op, Origin, Outcome};
use kula_schema::TableKind;
use kula_types::Mono;
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
    asker: Asker,
    plan: Plan,
    mutation: Bytes,
    origin: Origin,
    /// Of a causal put: the context of its own dot.
    own: Option<Context>,
    /// It can no longer succeed and waits for what is certain.
    doomed: bool,
    wake_at: Mono,
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
                let intent =
                    Intent { change, context, timestamp, ttl, op_id: idempotency_key.map(|key| delta::op_id(&key)) };
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
            Ok(mut plan) => {
                plan.follow(read);
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
        let wake_at = asker.times.deadline;
        let mut writing = Box::new(Writing { asker, plan, mutation, origin, own, doomed: false, wake_at });
        for owner in 0..writing.plan.owners.len() {
            if matches!(writing.plan.owners[owner].outcome, ReplicaOutcome::NotAsked) {
                writing.send(turn, owner);
            }
        }
        Some(Pending::Write(writing))
    }

    fn send(&mut self, turn: &mut Turn<'_, '_>, owner: usize) {
        let op = Op::Apply { mutation: self.mutation.clone(), origin: self.origin };
        turn.send(&mut self.plan, owner, self.asker.times.deadline, op);
    }

    pub fn wake_at(&self) -> Mono {
        self.wake_at
    }

    pub fn bytes(&self) -> usize {
        self.mutation.len()
    }

    pub fn replied(mut self: Box<Self>, turn: &mut Turn<'_, '_>, tag: Tag, answer: Answered) -> Option<Pending> {
        let outcome = match answer {
            Answered::Served(Outcome::Applied) => ReplicaOutcome::Applied,
            // Not an answer to an apply: whatever it was, nobody said that the write is stored.
            Answered::Served(Outcome::Data(_) | Outcome::Digest { .. }) | Answered::Lost => ReplicaOutcome::Lost,
            Answered::Refused(error) => ReplicaOutcome::Refused(error),
        };
        if !self.plan.answered(turn.view.now, tag, outcome) {
            turn.effects.push(Effect::Late);
            return Some(Pending::Write(self));
        }
        match verdict::of(&self.plan) {
            Verdict::Waiting if self.plan.asks_retry() => self.retry(turn),
            verdict => self.conclude(turn, verdict),
        }
    }

    fn conclude(mut self: Box<Self>, turn: &mut Turn<'_, '_>, verdict: Verdict) -> Option<Pending> {
        match verdict {
            Verdict::Waiting => Some(Pending::Write(self)),
            Verdict::Doomed => {
                if !std::mem::replace(&mut self.doomed, true) {
                    self.wake_at = turn.view.now.after(limits::REFUSAL_LINGER).min(self.asker.times.deadline);
                }
                Some(Pending::Write(self))
            }
            Verdict::Acked(acked) => {
                let context = self.own.take().and_then(|own| turn.seal(&own, &self.plan));
                self.asker.answer(turn, &self.plan, acked, context)
            }
            Verdict::Failed(error) => self.fail(turn, error),
        }
    }

    pub fn woken(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        if self.doomed || turn.view.now >= self.asker.times.deadline {
            let error = verdict::failure(&self.plan);
            return self.fail(turn, error);
        }
        if self.plan.ring_version < turn.view.ring.version {
            return self.retry(turn);
        }
        // The replica was behind, or we are and know no better yet: the same again.
        for owner in 0..self.plan.owners.len() {
            if self.plan.owners[owner].retry {
                self.send(turn, owner);
            }
        }
        self.wake_at = self.asker.times.deadline;
        Some(Pending::Write(self))
    }

    /// Some owner knows another ring. If there is a newer one here by now, plan again: the same mutation goes to the
    /// owners of the new ring, and those that have it keep their ack. Else wait a moment.
    fn retry(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        if self.plan.ring_version >= turn.view.ring.version {
            self.wake_at = turn.view.now.after(limits::RING_RETRY).min(self.asker.times.deadline);
            return Some(Pending::Write(self));
        }
        let mut plan = match self.plan.again(turn.view) {
            Ok(plan) => plan,
            // It was sent under the old ring: whether it is stored is unknown, whatever the new one says.
            Err(_) => {
                let error = verdict::timeout(&self.plan);
                return self.fail(turn, error);
            }
        };
        plan.follow(&self.plan);
        for owner in &mut plan.owners {
            let acked =
                |old: &&crate::plan::Owner| old.node == owner.node && matches!(old.outcome, ReplicaOutcome::Applied);
            if let Some(old) = self.plan.owners.iter().find(acked) {
                owner.outcome = ReplicaOutcome::Applied;
                owner.wait = old.wait;
            }
        }
        self.plan = plan;
        self.wake_at = self.asker.times.deadline;
        for owner in 0..self.plan.owners.len() {
            if matches!(self.plan.owners[owner].outcome, ReplicaOutcome::NotAsked) {
                self.send(turn, owner);
            }
        }
        let verdict = verdict::of(&self.plan);
        self.conclude(turn, verdict)
    }

    fn fail(self: Box<Self>, turn: &mut Turn<'_, '_>, error: CoordinatorError) -> Option<Pending> {
        let error = verdict::with_reports(error, &self.plan, turn.view);
        match error {
            // The client needs a context to go on, so it is read for it.
            CoordinatorError::SiblingCap { siblings, bytes, applied, context: None } => {
                let times = self.asker.times;
                let capped = Capped { asker: self.asker, siblings, bytes, applied };
                match self.plan.again(turn.view) {
                    Ok(mut plan) => {
                        plan.follow(&self.plan);
                        Reading::ask(turn, plan, times, Purpose::Capped(capped))
                    }
                    Err(_) => capped.answer(turn, None),
                }
            }
            error => self.asker.refuse(turn, error),
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
        // Hints come with handoff: none is ever kept yet.
        let answer = WriteAnswer { acked, rf: plan.rf, hinted: 0, context, replicas, timing };
        turn.effects.push(Effect::AnswerWrite {
            operation: self.operation,
            timing,
            reply: self.reply,
            answer: Ok(answer),
        });
        None
    }
}
