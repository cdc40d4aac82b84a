//! What a request needs before anything is sent: its table, its owners, how many of them must answer.

use crate::{
    error::CoordinatorError,
    machine::{Tag, View},
    messages::{ReplicaOutcome, ReplicaReport, Target},
};
use kula_fault::{Mutant, planted};
use kula_lattice::Digest;
use kula_placement::{KeyspaceSettings, ReadRepair};
use kula_replica::{Fence, ReplicaError};
use kula_schema::{ResolveError, Table};
use kula_types::{Consistency, Mono, NodeId, PartitionKey, Token, limits::KEY_BYTES_MAX};
use std::{sync::Arc, time::Duration};

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Plan {
    pub table: Arc<Table>,
    pub key: PartitionKey,
    pub token: Token,
    pub consistency: Consistency,
    pub ring_version: u64,
    /// Owners that must answer.
    pub need: u32,
    /// Owners there are.
    pub rf: u32,
    pub read_repair: ReadRepair,
    /// Whether an owner that misses a write gets a hint.
    pub hinted_handoff: bool,
    /// The owners, this node first, then in the order of preference.
    pub owners: Vec<Owner>,
    /// A write that, under an earlier ring, was sent to somebody who may have it, and whose answer will not be known.
    pub doubtful: bool,
}

/// One owner's part in a request so far.
#[derive(Debug)]
pub(crate) struct Owner {
    pub node: NodeId,
    pub outcome: ReplicaOutcome,
    /// Names the answer that is awaited; answers to anything else are late.
    pub round: u16,
    /// Why it is to be asked again: its ring, or its schema, is another than ours, and one of us is catching up.
    pub retry: Option<ReplicaError>,
    /// It refused a read for such a reason, and may be asked anew.
    forgiven: bool,
    pub asked_at: Option<Mono>,
    /// When it was asked last.
    pub sent_at: Mono,
    pub wait: Duration,
    pub digest: Option<Digest>,
    pub repaired: bool,
    /// Suspected while it was being waited for. It may answer all the same.
    pub suspected: bool,
    pub hint: Hint,
}

/// Where the hint for an owner is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hint {
    None,
    /// Handed over; not known to be durable.
    Asked,
    Kept,
    /// Hand-off had too much in hand: to be handed over again.
    Again,
    NotKept,
}

impl Plan {
    /// Plans a request, and refuses one that this cluster cannot serve or does not have the owners up for.
    pub fn new(view: &View<'_>, target: Target, consistency: Consistency) -> Result<Plan, CoordinatorError> {
        let table = resolve(view, &target.keyspace, &target.table)?;
        Plan::of_table(view, table, target.key, consistency)?.with_enough_alive(view)
    }

    /// The same request from the start, under the ring of now.
    pub fn again(&self, view: &View<'_>) -> Result<Plan, CoordinatorError> {
        self.under_new_ring(view)?.with_enough_alive(view)
    }

    /// The same request under the ring of now; an owner out of reach may have served it already. Answers to what was asked
    /// under the old one are late from now on, whoever owns the key now.
    pub fn under_new_ring(&self, view: &View<'_>) -> Result<Plan, CoordinatorError> {
        let mut plan = Plan::of_table(view, Arc::clone(&self.table), self.key.clone(), self.consistency)?;
        let round = self.owners.iter().map(|owner| owner.round).max().unwrap_or(0);
        plan.owners.iter_mut().for_each(|owner| owner.round = round);
        Ok(plan)
    }

    fn of_table(
        view: &View<'_>,
        table: Arc<Table>,
        key: PartitionKey,
        consistency: Consistency,
    ) -> Result<Plan, CoordinatorError> {
        let bytes = key.as_bytes().len();
        if bytes == 0 || bytes > KEY_BYTES_MAX {
            return Err(CoordinatorError::KeyLength { bytes, max: KEY_BYTES_MAX });
        }
        // The schema may know a keyspace that the ring does not have yet, or not any more.
        let Some(settings) = view.ring.settings(&table.keyspace) else {
            return Err(CoordinatorError::UnknownKeyspace { keyspace: table.keyspace.to_string() });
        };
        let need = required(view, settings, consistency)?;
        let token = view.ring.token(&key);
        let mut nodes = view.ring.preference_list(settings, token).owners;
        if let Some(at) = nodes.iter().position(|node| *node == view.me) {
            nodes[..=at].rotate_right(1);
        }
        let rf = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let owners: Vec<Owner> = nodes.into_iter().map(|node| Owner::new(node, (view.reaches)(node))).collect();
        Ok(Plan {
            table,
            key,
            token,
            consistency,
            ring_version: view.ring.version,
            need,
            rf,
            read_repair: settings.read_repair,
            hinted_handoff: settings.hinted_handoff,
            owners,
            doubtful: false,
        })
    }

    fn with_enough_alive(self, view: &View<'_>) -> Result<Plan, CoordinatorError> {
        match (self.need, self.alive()) {
            (need, alive) if alive < need => {
                Err(CoordinatorError::Unavailable { need, alive, replicas: self.reports(view) })
            }
            _ => Ok(self),
        }
    }

    /// No partition of this ring version moves, so its phase is 0.
    pub fn fence(&self) -> Fence {
        Fence { ring_version: self.ring_version, phase: 0 }
    }

    pub fn alive(&self) -> u32 {
        self.count(|owner| !matches!(owner.outcome, ReplicaOutcome::Unreachable))
    }

    /// Owners that are neither out of reach nor, by their own word or their link's, gone.
    pub fn there(&self) -> u32 {
        let gone = |owner: &Owner| {
            matches!(
                owner.outcome,
                ReplicaOutcome::Unreachable | ReplicaOutcome::Refused(ReplicaError::Closed | ReplicaError::Unreachable)
            )
        };
        self.count(|owner| !gone(owner))
    }

    pub fn count(&self, of: impl Fn(&Owner) -> bool) -> u32 {
        u32::try_from(self.owners.iter().filter(|owner| of(owner)).count()).unwrap_or(u32::MAX)
    }

    pub fn reports(&self, view: &View<'_>) -> Vec<ReplicaReport> {
        self.owners.iter().map(|owner| owner.report(view)).collect()
    }

    /// Whether a write that was sent so may be stored at some owner.
    pub fn may_be_stored(&self) -> bool {
        (self.doubtful || self.owners.iter().any(Owner::may_have_served)) && !planted(Mutant::NotAppliedIsALie)
    }

    /// Notes an owner's answer; false for one that nobody waits for any more.
    pub fn answered(&mut self, view: &View<'_>, tag: Tag, outcome: ReplicaOutcome) -> bool {
        let Some(owner) = self.owners.get_mut(tag.owner).filter(|owner| owner.awaits(tag.round)) else { return false };
        owner.wait = owner.asked_at.map_or(Duration::ZERO, |asked| view.now.since(asked));
        match outcome {
            ReplicaOutcome::Refused(error) if passes(view, &error) => owner.retry = Some(error),
            outcome => owner.outcome = outcome,
        }
        true
    }

    pub fn asks_retry(&self) -> bool {
        self.owners.iter().any(|owner| owner.retry.is_some())
    }

    /// Whether some owner refused only because two nodes have not caught up with each other.
    pub fn may_catch_up(&self, view: &View<'_>) -> bool {
        self.owners.iter().any(|owner| owner.is_catching_up(view))
    }

    /// Those owners may be asked anew.
    pub fn forgive(&mut self, view: &View<'_>) {
        let catching_up = self.owners.iter_mut().filter(|owner| owner.is_catching_up(view));
        catching_up.for_each(|owner| owner.forgiven = true);
    }

    /// The owner on this node, if its answer is awaited.
    pub fn waits_for(&self, node: NodeId) -> Option<usize> {
        self.owners.iter().position(|owner| owner.node == node && owner.is_waiting())
    }

    /// Hints that are durable, for owners that have not acknowledged.
    pub fn hinted(&self) -> u32 {
        self.count(|owner| owner.hint == Hint::Kept && !matches!(owner.outcome, ReplicaOutcome::Applied))
    }
}

/// Whether a refusal is over as soon as two nodes know the same ring and the same schema.
pub(crate) fn passes(view: &View<'_>, error: &ReplicaError) -> bool {
    match error {
        ReplicaError::StaleRing { .. } | ReplicaError::Behind => true,
        // A table that is dropped here as well is gone.
        ReplicaError::UnknownTable { table } => view.schema.table(*table).is_some(),
        _ => false,
    }
}

impl Owner {
    fn new(node: NodeId, reached: bool) -> Self {
        let outcome = if reached { ReplicaOutcome::NotAsked } else { ReplicaOutcome::Unreachable };
        Owner {
            node,
            outcome,
            round: 0,
            retry: None,
            forgiven: false,
            asked_at: None,
            sent_at: Mono::default(),
            wait: Duration::ZERO,
            digest: None,
            repaired: false,
            suspected: false,
            hint: Hint::None,
        }
    }

    /// Notes that it is being asked; the answer awaited is the one to `round`.
    pub fn ask(&mut self, now: Mono) {
        self.round = self.round.wrapping_add(1);
        (self.retry, self.forgiven) = (None, false);
        self.asked_at.get_or_insert(now);
        self.sent_at = now;
        self.outcome = ReplicaOutcome::Waiting;
    }

    /// Whether it can be asked for something that it is not being asked for.
    pub fn is_free(&self) -> bool {
        self.forgiven || matches!(self.outcome, ReplicaOutcome::NotAsked)
    }

    fn is_catching_up(&self, view: &View<'_>) -> bool {
        matches!(&self.outcome, ReplicaOutcome::Refused(error) if passes(view, error))
    }

    fn awaits(&self, round: u16) -> bool {
        round == self.round && self.retry.is_none() && self.is_waiting()
    }

    /// Its refusal is of the moment: it is to be asked again.
    pub fn ask_later(&mut self) {
        if let ReplicaOutcome::Refused(error) = &self.outcome {
            self.retry = Some(error.clone());
            self.outcome = ReplicaOutcome::Waiting;
        }
    }

    /// It is not asked again; its refusal stands.
    pub fn give_up(&mut self) {
        if let Some(error) = self.retry.take() {
            self.outcome = ReplicaOutcome::Refused(error);
        }
    }

    /// What it was asked is of no use any more; it may be asked something else.
    pub fn forget(&mut self) {
        if self.is_waiting() {
            self.round = self.round.wrapping_add(1);
            (self.retry, self.outcome) = (None, ReplicaOutcome::NotAsked);
        }
    }

    /// Whether a write is known to miss this owner now, whatever becomes of the request.
    pub fn is_missed(&self) -> bool {
        match &self.outcome {
            ReplicaOutcome::Unreachable | ReplicaOutcome::Refused(ReplicaError::Unreachable) => true,
            ReplicaOutcome::Waiting => self.suspected,
            _ => false,
        }
    }

    /// Whether a write that was accepted owes this owner a hint; `overdue`: what has not answered by now does not count
    /// on answering.
    pub fn is_owed(&self, overdue: bool) -> bool {
        match &self.outcome {
            ReplicaOutcome::Unreachable | ReplicaOutcome::Lost => true,
            ReplicaOutcome::Waiting => overdue || self.suspected,
            // No retry would change these.
            ReplicaOutcome::Refused(
                ReplicaError::InvalidMutation(_)
                | ReplicaError::Malformed
                | ReplicaError::Misplaced
                | ReplicaError::TooLarge { .. },
            ) => false,
            ReplicaOutcome::Refused(_) => true,
            ReplicaOutcome::NotAsked
            | ReplicaOutcome::Applied
            | ReplicaOutcome::Data
            | ReplicaOutcome::Digest
            | ReplicaOutcome::Hinted => false,
        }
    }

    pub fn is_waiting(&self) -> bool {
        matches!(self.outcome, ReplicaOutcome::Waiting)
    }

    /// Whether a write that it was asked to apply may be stored there.
    pub fn may_have_served(&self) -> bool {
        match &self.outcome {
            ReplicaOutcome::NotAsked | ReplicaOutcome::Unreachable => false,
            ReplicaOutcome::Refused(error) => !error.refused_before_applying(),
            // One that waits to be asked again has refused what it was asked.
            ReplicaOutcome::Waiting => self.retry.is_none(),
            ReplicaOutcome::Applied
            | ReplicaOutcome::Data
            | ReplicaOutcome::Digest
            | ReplicaOutcome::Lost
            | ReplicaOutcome::Hinted => true,
        }
    }

    fn report(&self, view: &View<'_>) -> ReplicaReport {
        let wait = match (self.is_waiting(), self.asked_at) {
            (true, Some(asked)) => view.now.since(asked),
            _ => self.wait,
        };
        ReplicaReport {
            node: self.node,
            name: view.ring.node(self.node).map_or_else(String::new, |node| node.name.clone()),
            outcome: match (&self.outcome, self.hint) {
                // It was asked, and gave its place to another.
                (ReplicaOutcome::NotAsked, _) if self.asked_at.is_some() => ReplicaOutcome::Waiting,
                (ReplicaOutcome::Applied, _) | (_, Hint::None | Hint::Asked | Hint::Again | Hint::NotKept) => {
                    self.outcome.clone()
                }
                (_, Hint::Kept) => ReplicaOutcome::Hinted,
            },
            wait,
            digest: self.digest,
            repaired: self.repaired,
        }
    }
}

pub(crate) fn resolve(view: &View<'_>, keyspace: &str, table: &str) -> Result<Arc<Table>, CoordinatorError> {
    view.schema.resolve(keyspace, table).map_err(|error| match error {
        ResolveError::UnknownKeyspace { keyspace } => CoordinatorError::UnknownKeyspace { keyspace },
        ResolveError::UnknownTable { keyspace, table } => CoordinatorError::UnknownTable { keyspace, table },
    })
}

pub(crate) fn required(
    view: &View<'_>,
    settings: &KeyspaceSettings,
    consistency: Consistency,
) -> Result<u32, CoordinatorError> {
    match consistency {
        Consistency::Exactly(n) if u32::from(n) > settings.rf => {
            Err(CoordinatorError::LevelNotAllowed { n: u32::from(n), rf: settings.rf })
        }
        level => level.required(view.ring.rf_effective(settings)).ok_or(CoordinatorError::NotThereYet {
            what: match level {
                Consistency::Any => "consistency level any",
                Consistency::LocalOne => "consistency level local_one",
                Consistency::LocalQuorum => "consistency level local_quorum",
                Consistency::EachQuorum => "consistency level each_quorum",
                Consistency::One
                | Consistency::Two
                | Consistency::Three
                | Consistency::Quorum
                | Consistency::All
                | Consistency::Exactly(_) => "this consistency level",
            },
        }),
    }
}
