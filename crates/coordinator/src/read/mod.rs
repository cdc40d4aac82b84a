//! A read's life: data from one owner, digests from the rest of R; where they differ, data from all of them, their
//! join, the repair of those that lack something, the answer.
//!
//! Nothing is decided by comparing versions: the join is the answer, and the same join brings the replicas together. A
//! blocking read answers only when R owners hold what it shows, which is what makes quorum reads monotonic (P3).

mod repair;

use crate::{
    error::{Applied, CoordinatorError},
    limits,
    machine::{Answered, Effect, Pending, Tag, Times, Turn},
    messages::{Read, ReadAnswer, ReplicaOutcome},
    plan::{Owner, Plan},
    present::{Presented, present},
    write::{Capped, Covering, Writing},
};
use kula_actor::Reply;
use kula_lattice::{CellId, Digest, Join, Partition, Seal, Slice};
use kula_placement::ReadRepair;
use kula_replica::{Answer, Op, Origin, Outcome, ReplicaError};
use kula_types::{ClusteringKey, Mono, Timestamp};
use std::sync::Arc;

/// What a read is for.
pub(crate) enum Purpose {
    Answer {
        resolve_lww: bool,
        reply: Reply<Result<ReadAnswer, CoordinatorError>>,
    },
    /// A causal delete without context covers what this read sees.
    Cover(Covering),
    /// A write was refused for too many siblings; its client needs their context.
    Capped(Capped),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// One was asked for data, the others for digests.
    Asking,
    /// Digests differed: all were asked for data.
    Widened,
    /// The join was sent to those who lacked some of it.
    Repairing,
}

/// What an owner holds.
enum Held {
    Data(Partition),
    Digest(Digest, Seal),
}

pub(crate) struct Reading {
    purpose: Purpose,
    plan: Plan,
    times: Times,
    stage: Stage,
    /// Time of visibility, the same for every replica and for the answer.
    visible_at: Timestamp,
    /// By owner.
    held: Vec<Option<Held>>,
    /// Who was asked for data while the others were asked for digests.
    data_owner: usize,
    /// What is to be answered, while it is being repaired.
    joined: Partition,
    wake_at: Mono,
}

impl Reading {
    pub fn begin(turn: &mut Turn<'_, '_>, read: Read, times: Times) -> Option<Pending> {
        let Read { target, resolve_lww, consistency, deadline: _, reply } = read;
        match Plan::new(turn.view, target, consistency) {
            Ok(plan) => Reading::ask(turn, plan, times, Purpose::Answer { resolve_lww, reply }),
            Err(error) => Purpose::Answer { resolve_lww, reply }.fail(turn, times, error),
        }
    }

    /// Sends the first round.
    pub fn ask(turn: &mut Turn<'_, '_>, plan: Plan, times: Times, purpose: Purpose) -> Option<Pending> {
        let held = plan.owners.iter().map(|_| None).collect();
        let (visible_at, wake_at) = (turn.view.wall, times.deadline);
        let joined = Partition::default();
        let mut reading = Box::new(Reading {
            purpose,
            plan,
            times,
            stage: Stage::Asking,
            visible_at,
            held,
            data_owner: 0,
            joined,
            wake_at,
        });
        let mut answer = Answer::Data;
        for _ in 0..reading.plan.need {
            // The plan made sure that enough owners can be reached.
            let Some(owner) = reading.spare() else { break };
            reading.request(turn, owner, answer);
            answer = Answer::Digest;
        }
        Some(Pending::Read(reading))
    }

    pub fn wake_at(&self) -> Mono {
        self.wake_at
    }

    pub fn woken(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        if turn.view.now >= self.times.deadline {
            let error = self.timeout(turn);
            return self.fail(turn, error);
        }
        self.wake_at = self.times.deadline;
        self.again(turn)
    }

    pub fn replied(mut self: Box<Self>, turn: &mut Turn<'_, '_>, tag: Tag, answer: Answered) -> Option<Pending> {
        let (outcome, held) = match (self.stage, answer) {
            (Stage::Asking | Stage::Widened, Answered::Served(Outcome::Data(partition))) => {
                (ReplicaOutcome::Data, Some(Held::Data(partition)))
            }
            (Stage::Asking, Answered::Served(Outcome::Digest { digest, seal })) => {
                (ReplicaOutcome::Digest, Some(Held::Digest(digest, seal)))
            }
            (Stage::Repairing, Answered::Served(Outcome::Applied)) => (ReplicaOutcome::Applied, None),
            (_, Answered::Refused(error)) => (ReplicaOutcome::Refused(error), None),
            // An answer to another question says nothing about this one.
            (_, Answered::Served(_) | Answered::Lost) => (ReplicaOutcome::Lost, None),
        };
        if !self.plan.answered(turn.view.now, tag, outcome) {
            turn.effects.push(Effect::Late);
            return Some(Pending::Read(self));
        }
        if self.plan.asks_retry() {
            if self.plan.ring_version >= turn.view.ring.version && self.spare().is_some() {
                // Another owner answers sooner than two rings come together.
                self.plan.owners[tag.owner].give_up();
                return self.replace(turn, tag.owner);
            }
            return self.retry(turn);
        }
        match (held, &self.plan.owners[tag.owner].outcome) {
            (Some(held), _) => {
                self.hold(tag.owner, held);
                self.proceed(turn)
            }
            (None, ReplicaOutcome::Applied) => {
                self.plan.owners[tag.owner].repaired = true;
                turn.effects.push(Effect::Repaired);
                self.proceed(turn)
            }
            (None, _) => self.replace(turn, tag.owner),
        }
    }

    fn hold(&mut self, owner: usize, held: Held) {
        self.plan.owners[owner].digest = Some(match &held {
            Held::Data(partition) => partition.digest(None, Seal::NONE),
            Held::Digest(digest, _) => *digest,
        });
        self.held[owner] = Some(held);
    }

    /// The next step, if this one is complete.
    fn proceed(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        if self.answered() < self.plan.need {
            return Some(Pending::Read(self));
        }
        match self.stage {
            Stage::Asking if self.agree() => {
                let Some(Held::Data(partition)) = self.held[self.data_owner].take() else {
                    unreachable!("R owners answered, so the one asked for data did");
                };
                self.joined = partition;
                self.finish(turn)
            }
            Stage::Asking => {
                self.stage = Stage::Widened;
                for owner in 0..self.held.len() {
                    if matches!(self.held[owner], Some(Held::Digest(..))) {
                        self.held[owner] = None;
                        self.request(turn, owner, Answer::Data);
                    }
                }
                Some(Pending::Read(self))
            }
            Stage::Widened => self.reconcile(turn),
            Stage::Repairing => self.finish(turn),
        }
    }

    /// Owners that hold what this stage asks for.
    fn answered(&self) -> u32 {
        let holds = |owner: &Owner| match (self.stage, &owner.outcome) {
            (_, ReplicaOutcome::Data) => true,
            (Stage::Asking, ReplicaOutcome::Digest) | (Stage::Repairing, ReplicaOutcome::Applied) => true,
            (_, _) => false,
        };
        self.plan.count(holds)
    }

    /// Whether every digest is that of the data, as far as its seal leaves things out.
    fn agree(&self) -> bool {
        let Some(Held::Data(partition)) = &self.held[self.data_owner] else { return false };
        let own = self.plan.owners[self.data_owner].digest;
        self.held.iter().flatten().all(|held| match held {
            Held::Data(_) => true,
            Held::Digest(digest, Seal::NONE) => Some(*digest) == own,
            Held::Digest(digest, seal) => *digest == partition.digest(None, *seal),
        })
    }

    /// Joins what the owners hold, and brings to each what it lacks, as the keyspace asks for.
    fn reconcile(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        let held: Vec<(usize, Partition)> = (self.held.iter_mut().enumerate())
            .filter_map(|(owner, held)| match held.take() {
                Some(Held::Data(partition)) => Some((owner, partition.normal(None, Seal::NONE))),
                Some(Held::Digest(..)) | None => None,
            })
            .collect();
        for (_, partition) in &held {
            self.joined.join(partition.clone());
        }
        self.joined = std::mem::take(&mut self.joined).normal(None, Seal::NONE);
        let repair = match &self.purpose {
            Purpose::Answer { .. } => self.plan.read_repair,
            // The write that follows says more than the repair would.
            Purpose::Cover(_) | Purpose::Capped(_) => ReadRepair::Off,
        };
        let blocking = match repair {
            ReadRepair::Off => return self.finish(turn),
            ReadRepair::Background => false,
            ReadRepair::Blocking => true,
        };
        if blocking {
            self.stage = Stage::Repairing;
        }
        let outcomes: Vec<ReplicaOutcome> = self.plan.owners.iter().map(|owner| owner.outcome.clone()).collect();
        for (owner, partition) in &held {
            if let Some(delta) = repair::lacking(&self.joined, partition) {
                self.repair(turn, *owner, delta);
            }
        }
        if !blocking {
            // Their answers come to nobody: the next read sees whether the repair arrived.
            for (owner, outcome) in self.plan.owners.iter_mut().zip(outcomes) {
                owner.repaired = owner.is_waiting();
                owner.outcome = outcome;
            }
            return self.finish(turn);
        }
        self.proceed(turn)
    }

    fn repair(&mut self, turn: &mut Turn<'_, '_>, owner: usize, delta: Partition) {
        let mutation = repair::mutation(turn.minter, &self.plan, delta);
        turn.send(&mut self.plan, owner, self.times.deadline, Op::Apply { mutation, origin: Origin::Repair });
    }

    fn request(&mut self, turn: &mut Turn<'_, '_>, owner: usize, answer: Answer) {
        if answer == Answer::Data && self.stage == Stage::Asking {
            self.data_owner = owner;
        }
        let (table, key, now) = (self.plan.table.id, self.plan.key.clone(), self.visible_at);
        turn.send(
            &mut self.plan,
            owner,
            self.times.deadline,
            Op::Read { table, key, slice: Slice::all(), answer, now },
        );
    }

    /// An owner that can be reached and was not asked yet.
    fn spare(&self) -> Option<usize> {
        self.plan.owners.iter().position(|owner| matches!(owner.outcome, ReplicaOutcome::NotAsked))
    }

    /// An owner failed: another takes its place, if one is left.
    fn replace(mut self: Box<Self>, turn: &mut Turn<'_, '_>, failed: usize) -> Option<Pending> {
        self.held[failed] = None;
        if let Some(spare) = self.spare() {
            match self.stage {
                Stage::Asking if failed == self.data_owner => self.request(turn, spare, Answer::Data),
                Stage::Asking => self.request(turn, spare, Answer::Digest),
                Stage::Widened => self.request(turn, spare, Answer::Data),
                Stage::Repairing => {
                    let joined = self.joined.clone();
                    self.repair(turn, spare, joined);
                }
            }
            return Some(Pending::Read(self));
        }
        if self.answered() + self.plan.count(Owner::is_waiting) >= self.plan.need {
            return Some(Pending::Read(self));
        }
        let error = self.failure(turn);
        self.fail(turn, error)
    }

    /// Some owner's ring is another: as soon as one of the two has caught up, from the start.
    fn retry(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        if self.plan.ring_version < turn.view.ring.version {
            return self.again(turn);
        }
        self.wake_at = turn.view.now.after(limits::RING_RETRY).min(self.times.deadline);
        Some(Pending::Read(self))
    }

    /// Reads change nothing, so asking again from the start is always right.
    fn again(self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        match self.plan.again(turn.view) {
            Ok(mut plan) => {
                plan.follow(&self.plan);
                Reading::ask(turn, plan, self.times, self.purpose)
            }
            Err(error) => self.fail(turn, error),
        }
    }

    fn finish(self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        let Reading { purpose, plan, times, visible_at, joined, .. } = *self;
        match purpose {
            Purpose::Cover(covering) => {
                let cell = CellId::simple(plan.table.value_column());
                // Everything that is there, shown in one answer or not.
                let seen = joined.view_cell(&ClusteringKey::default(), &cell, visible_at, None).context(usize::MAX);
                Writing::cover(turn, covering, &plan, seen)
            }
            Purpose::Capped(capped) => {
                let shown = present(&joined, &plan.table, visible_at, false).ok();
                let context = shown.and_then(|presented| turn.seal(&presented.context, &plan));
                capped.answer(turn, context)
            }
            Purpose::Answer { resolve_lww, reply } => match present(&joined, &plan.table, visible_at, resolve_lww) {
                Ok(presented) => {
                    turn.count_values(&plan, presented.values);
                    let answer = answer(turn, &plan, times, &joined, presented, resolve_lww);
                    turn.effects.push(Effect::AnswerRead {
                        timing: times.timing(turn.view.now),
                        reply,
                        answer: Ok(answer),
                    });
                    None
                }
                Err(_) => {
                    let (need, acked, replicas) = (plan.need, plan.need, plan.reports(turn.view));
                    let error = CoordinatorError::Damaged { need, acked, damaged: acked, replicas };
                    Purpose::Answer { resolve_lww, reply }.fail(turn, times, error)
                }
            },
        }
    }

    fn fail(self: Box<Self>, turn: &mut Turn<'_, '_>, error: CoordinatorError) -> Option<Pending> {
        self.purpose.fail(turn, self.times, error)
    }

    fn timeout(&self, turn: &Turn<'_, '_>) -> CoordinatorError {
        CoordinatorError::Timeout {
            need: self.plan.need,
            acked: self.answered(),
            replicas: self.plan.reports(turn.view),
        }
    }

    /// Too few owners can still answer: what most of the rest said.
    fn failure(&self, turn: &Turn<'_, '_>) -> CoordinatorError {
        let refused = |of: fn(&ReplicaError) -> bool| {
            self.plan.count(|owner| matches!(&owner.outcome, ReplicaOutcome::Refused(error) if of(error)))
        };
        let (need, acked) = (self.plan.need, self.answered());
        let damaged = refused(|error| matches!(error, ReplicaError::Damaged));
        if damaged > 0 && self.stage != Stage::Repairing {
            return CoordinatorError::Damaged { need, acked, damaged, replicas: self.plan.reports(turn.view) };
        }
        if refused(|_| true) < self.plan.alive() - acked || self.stage == Stage::Repairing {
            return self.timeout(turn);
        }
        let overloaded = self.plan.owners.iter().find_map(|owner| match &owner.outcome {
            ReplicaOutcome::Refused(ReplicaError::Overloaded { path, depth, cap }) => {
                Some((Arc::clone(path), *depth, *cap))
            }
            _ => None,
        });
        if let Some((path, depth, cap)) = overloaded {
            return CoordinatorError::Overloaded { path, depth, cap, applied: Applied::No };
        }
        if refused(|error| matches!(error, ReplicaError::UnknownTable { .. })) > 0 {
            let table = &self.plan.table;
            return CoordinatorError::UnknownTable {
                keyspace: table.keyspace.to_string(),
                table: table.name.to_string(),
            };
        }
        if refused(|error| matches!(error, ReplicaError::Closed)) > 0 {
            return CoordinatorError::Unavailable { need, alive: acked, replicas: self.plan.reports(turn.view) };
        }
        self.timeout(turn)
    }
}

impl Purpose {
    fn fail(self, turn: &mut Turn<'_, '_>, times: Times, error: CoordinatorError) -> Option<Pending> {
        match self {
            Purpose::Answer { reply, .. } => {
                turn.effects.push(Effect::AnswerRead {
                    timing: times.timing(turn.view.now),
                    reply,
                    answer: Err(error),
                });
                None
            }
            Purpose::Cover(covering) => covering.asker.refuse(turn, error),
            Purpose::Capped(capped) => capped.answer(turn, None),
        }
    }
}

fn answer(
    turn: &Turn<'_, '_>,
    plan: &Plan,
    times: Times,
    joined: &Partition,
    presented: Presented,
    resolve_lww: bool,
) -> ReadAnswer {
    let context = turn.seal(&presented.context, plan);
    let etag = (presented.values > 0).then(|| {
        // The digest names the state; of one state, what is shown shrinks as values expire.
        let digest = joined.digest(None, Seal::NONE);
        let form = if resolve_lww { "n" } else { "s" };
        format!("{:032x}-{}{form}", digest.0, presented.values)
    });
    ReadAnswer {
        found: presented.found,
        context,
        etag,
        acked: plan.need,
        rf: plan.rf,
        replicas: plan.reports(turn.view),
        timing: times.timing(turn.view.now),
    }
}
