//! A read's life: data from one owner, digests from the rest of R; where they differ, data from all of them, their
//! join, the repair of those that lack something, the answer.
//!
//! Nothing is decided by comparing versions: the join is the answer, and the same join brings the replicas together. A
//! blocking read answers only when R owners hold what it shows, which is what makes quorum reads monotonic (P3). An owner
//! that takes longer than owners do is not waited for: another is asked as well (a hedge), and any R answers will do.

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
use kula_fault::{Mutant, Site, buggify, planted};
use kula_lattice::{CellId, Digest, Join, Partition, Seal, Slice};
use kula_placement::ReadRepair;
use kula_replica::{Answer, Op, Origin, Outcome, ReplicaError};
use kula_types::{ClusteringKey, Mono, NodeId, Timestamp};
use std::{sync::Arc, time::Duration};

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
    /// Of the data that owners have sent, whether or not it is held still.
    bytes: usize,
    /// By owner: what it was asked for last.
    wanted: Vec<Answer>,
    /// Owners in the order in which they are to be asked.
    order: Vec<usize>,
    /// What is to be answered, while it is being repaired.
    joined: Partition,
    /// When another owner is asked as well, or one that sent a digest for its data; none once there is no other.
    hedge_at: Option<Mono>,
    /// When an owner whose ring or schema was another may be asked again, or all begins anew.
    retry_at: Option<Mono>,
    tries: u32,
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
        Reading::ask_again(turn, plan, times, purpose, 0)
    }

    fn ask_again(turn: &mut Turn<'_, '_>, plan: Plan, times: Times, purpose: Purpose, tries: u32) -> Option<Pending> {
        let (now, me) = (turn.view.now, turn.view.me);
        let ahead = Duration::from_secs(if planted(Mutant::ExpiredEarly) { 20 } else { 0 });
        turn.speeds.earn();
        let mut reading = Box::new(Reading {
            purpose,
            times,
            stage: Stage::Asking,
            visible_at: turn.view.wall.saturating_add(ahead),
            held: plan.owners.iter().map(|_| None).collect(),
            bytes: 0,
            wanted: vec![Answer::Digest; plan.owners.len()],
            order: turn.speeds.order(now, me, plan.owners.iter().map(|owner| owner.node)),
            joined: Partition::default(),
            hedge_at: None,
            retry_at: None,
            tries,
            plan,
        });
        for _ in 0..reading.plan.need {
            // The plan made sure that enough owners can be reached.
            let Some(owner) = reading.spare() else { break };
            reading.ask_for_more(turn, owner);
        }
        reading.arm_hedge(turn);
        Some(Pending::Read(reading))
    }

    pub fn wake_at(&self) -> Mono {
        [self.hedge_at, self.retry_at].into_iter().flatten().fold(self.times.deadline, Mono::min)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn waits_for(&self, node: NodeId) -> bool {
        self.plan.waits_for(node).is_some()
    }

    pub fn woken(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        let now = turn.view.now;
        if now >= self.times.deadline {
            let error = self.timeout(turn);
            return self.fail(turn, error);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            return self.retry(turn);
        }
        if self.hedge_at.is_some_and(|at| at <= now) {
            self.hedge(turn);
        }
        Some(Pending::Read(self))
    }

    /// Another owner is asked at once; this one may answer all the same.
    pub fn suspected(mut self: Box<Self>, turn: &mut Turn<'_, '_>, node: NodeId) -> Option<Pending> {
        if self.waits_for(node)
            && let Some(other) = self.other()
        {
            self.ask_as_well(turn, other);
            self.arm_hedge(turn);
        }
        Some(Pending::Read(self))
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
        if let (ReplicaOutcome::Refused(error), Some(owner)) = (&outcome, self.plan.owners.get(tag.owner)) {
            turn.other_ring(owner.node, error);
        }
        if !self.plan.answered(turn.view, tag, outcome) {
            turn.effects.push(Effect::Late);
            return Some(Pending::Read(self));
        }
        // Another may answer sooner than this one catches up: its retry is the read's.
        let owner = &mut self.plan.owners[tag.owner];
        owner.give_up();
        match held {
            Some(held) => {
                turn.speeds.answered(turn.view.now, owner.node, turn.view.now.since(owner.sent_at));
                self.hold(tag.owner, held);
                self.proceed(turn)
            }
            None if matches!(owner.outcome, ReplicaOutcome::Applied) => {
                owner.repaired = true;
                turn.effects.push(Effect::Repaired);
                self.proceed(turn)
            }
            None => {
                self.held[tag.owner] = None;
                self.replace(turn)
            }
        }
    }

    fn hold(&mut self, owner: usize, held: Held) {
        if let Held::Data(partition) = &held {
            self.bytes += partition.heap_bytes();
        }
        self.plan.owners[owner].digest = Some(match &held {
            Held::Data(partition) => partition.digest(None, Seal::NONE),
            Held::Digest(digest, _) => *digest,
        });
        self.held[owner] = Some(held);
    }

    /// The next step, if this one is complete.
    fn proceed(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        let is_enough_of_fewer =
            planted(Mutant::WidenedReadOfFewer) && self.stage == Stage::Widened && self.answered() > 0;
        if self.answered() < self.plan.need && !is_enough_of_fewer {
            return Some(Pending::Read(self));
        }
        match (self.stage, self.data_owner()) {
            (Stage::Asking, Some(data_owner)) if self.agree(data_owner) => {
                let Some(Held::Data(partition)) = self.held[data_owner].take() else {
                    unreachable!("it was found to hold data");
                };
                self.joined = partition;
                self.finish(turn)
            }
            (Stage::Asking, Some(_)) => {
                self.widen(turn);
                // Hedges may have brought all data that is needed.
                self.proceed(turn)
            }
            // Digests alone, because owners were asked for more than R answers and those with data were slow or failed.
            (Stage::Asking, None) => {
                match self.digests_alone() {
                    Some(owner) if !self.data_is_coming() => self.request(turn, owner, Answer::Data),
                    _ if self.hedge_at.is_none() => self.arm_hedge(turn),
                    _ => {}
                }
                Some(Pending::Read(self))
            }
            (Stage::Widened, _) => self.reconcile(turn),
            (Stage::Repairing, _) => self.finish(turn),
        }
    }

    /// Digests differ: data from all that answered. Who has not answered yet was slow, and is asked again only in place of
    /// another.
    fn widen(&mut self, turn: &mut Turn<'_, '_>) {
        self.stage = Stage::Widened;
        for owner in 0..self.held.len() {
            match self.held[owner] {
                Some(Held::Digest(..)) => self.request(turn, owner, Answer::Data),
                Some(Held::Data(_)) => {}
                None if self.wanted[owner] == Answer::Digest => self.plan.owners[owner].forget(),
                None => {}
            }
        }
        self.arm_hedge(turn);
    }

    /// The first that answered with data.
    fn data_owner(&self) -> Option<usize> {
        self.held.iter().position(|held| matches!(held, Some(Held::Data(_))))
    }

    /// Enough owners sent digests and none sent data: the one of them to ask for it.
    fn digests_alone(&self) -> Option<usize> {
        let is_so = self.stage == Stage::Asking && self.data_owner().is_none() && self.answered() >= self.plan.need;
        self.order.iter().copied().find(|owner| is_so && self.held[*owner].is_some())
    }

    /// Whom to ask beside those that let the read wait.
    fn other(&self) -> Option<usize> {
        self.spare().or_else(|| self.digests_alone())
    }

    fn data_is_coming(&self) -> bool {
        let asked = |(owner, wanted): (&Owner, &Answer)| owner.is_waiting() && *wanted == Answer::Data;
        self.plan.owners.iter().zip(&self.wanted).any(asked)
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

    /// Whether all that answered hold the same, as far as a digest's seal leaves things out.
    fn agree(&self, data_owner: usize) -> bool {
        let Some(Held::Data(partition)) = &self.held[data_owner] else { return false };
        if planted(Mutant::DigestsNotCompared) || buggify(Site::ReadWidened) {
            return planted(Mutant::DigestsNotCompared);
        }
        let own = self.plan.owners[data_owner].digest;
        self.held.iter().zip(&self.plan.owners).all(|(held, owner)| match held {
            None => true,
            Some(Held::Data(_) | Held::Digest(_, Seal::NONE)) => owner.digest == own,
            Some(Held::Digest(digest, seal)) => *digest == partition.digest(None, *seal),
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
            ReadRepair::Blocking => !planted(Mutant::RepairNotAwaited),
        };
        if blocking {
            self.stage = Stage::Repairing;
        }
        // Whoever has not answered with data by now was one too many.
        self.plan.owners.iter_mut().for_each(Owner::forget);
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
        self.arm_hedge(turn);
        self.proceed(turn)
    }

    fn repair(&mut self, turn: &mut Turn<'_, '_>, owner: usize, delta: Partition) {
        let mutation = repair::mutation(turn.minter, &self.plan, delta);
        turn.send(&mut self.plan, owner, self.times.deadline, Op::Apply { mutation, origin: Origin::Repair });
    }

    fn request(&mut self, turn: &mut Turn<'_, '_>, owner: usize, answer: Answer) {
        (self.wanted[owner], self.held[owner]) = (answer, None);
        let (table, key, now) = (self.plan.table.id, self.plan.key.clone(), self.visible_at);
        turn.send(
            &mut self.plan,
            owner,
            self.times.deadline,
            Op::Read { table, key, slice: Slice::all(), answer, now },
        );
    }

    /// An owner that can be reached and is not asked for anything.
    fn spare(&self) -> Option<usize> {
        self.order.iter().copied().find(|owner| self.plan.owners[*owner].is_free())
    }

    /// Asks one more owner for what this stage needs.
    fn ask_for_more(&mut self, turn: &mut Turn<'_, '_>, owner: usize) {
        match self.stage {
            Stage::Asking if self.data_owner().is_none() && !self.data_is_coming() => {
                self.request(turn, owner, Answer::Data)
            }
            Stage::Asking => self.request(turn, owner, Answer::Digest),
            Stage::Widened => self.request(turn, owner, Answer::Data),
            Stage::Repairing => {
                let joined = self.joined.clone();
                self.repair(turn, owner, joined);
            }
        }
    }

    fn arm_hedge(&mut self, turn: &Turn<'_, '_>) {
        let after = if buggify(Site::HedgeAtOnce) { Duration::from_micros(1) } else { turn.speeds.hedge_after() };
        self.hedge_at = self.other().map(|_| turn.view.now.after(after));
    }

    /// What was asked takes longer than answers do: another owner is asked as well, if a hedge was earned, or if the read
    /// has waited so long that its client would feel it.
    fn hedge(&mut self, turn: &mut Turn<'_, '_>) {
        let now = turn.view.now;
        if let Some(other) = self.other() {
            let started = self.times.started;
            let patience = limits::HEDGE_PATIENCE.min(self.times.deadline.since(started) / 4);
            if turn.speeds.spend() || now.since(started) >= patience {
                for owner in self.plan.owners.iter().filter(|owner| owner.is_waiting()) {
                    turn.speeds.outwaited(now, owner.node, now.since(owner.sent_at));
                }
                self.ask_as_well(turn, other);
            }
        }
        self.arm_hedge(turn);
    }

    /// What was asked already may come or not.
    fn ask_as_well(&mut self, turn: &mut Turn<'_, '_>, owner: usize) {
        turn.effects.push(Effect::Hedged);
        if self.stage == Stage::Asking && self.data_owner().is_none() {
            self.request(turn, owner, Answer::Data);
        } else {
            self.ask_for_more(turn, owner);
        }
    }

    /// An owner failed: another takes its place, unless enough are asked already or none is left.
    fn replace(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        let may_catch_up = self.plan.may_catch_up(turn.view);
        if may_catch_up && self.plan.ring_version < turn.view.ring.version {
            return self.again(turn);
        }
        if may_catch_up {
            self.retry_at.get_or_insert(turn.retry_at(self.tries, self.times.deadline));
        }
        if self.may_come() >= self.plan.need {
            return self.proceed(turn);
        }
        if let Some(spare) = self.spare() {
            self.ask_for_more(turn, spare);
            self.arm_hedge(turn);
            return Some(Pending::Read(self));
        }
        if may_catch_up {
            return Some(Pending::Read(self));
        }
        let error = self.failure(turn);
        self.fail(turn, error)
    }

    /// Some owner's ring or schema was another. By now one of the two may have caught up: under a newer ring all begins
    /// anew, else that owner may be asked again, and the answers of the others stand.
    fn retry(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        if self.plan.ring_version < turn.view.ring.version {
            return self.again(turn);
        }
        self.retry_at = None;
        self.tries = self.tries.saturating_add(1);
        self.plan.forgive(turn.view);
        // As many as are wanted, or one beside those that let the read wait.
        let missing = self.plan.need.saturating_sub(self.may_come()).max(1);
        for _ in 0..missing {
            if let Some(spare) = self.spare() {
                self.ask_for_more(turn, spare);
            }
        }
        self.arm_hedge(turn);
        Some(Pending::Read(self))
    }

    /// Answers of this stage that are here or may come.
    fn may_come(&self) -> u32 {
        self.answered() + self.plan.count(Owner::is_waiting)
    }

    /// Reads change nothing, so asking again from the start is always right.
    fn again(self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        match self.plan.again(turn.view) {
            Ok(plan) => {
                let tries = self.tries.saturating_add(1);
                Reading::ask_again(turn, plan, self.times, self.purpose, tries)
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
        if refused(|error| matches!(error, ReplicaError::Closed | ReplicaError::Unreachable)) > 0 {
            let alive = self.plan.there();
            return CoordinatorError::Unavailable { need, alive, replicas: self.plan.reports(turn.view) };
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
