//! What a request needs before anything is sent: its table, its owners, how many of them must answer.

use crate::{
    error::CoordinatorError,
    machine::{Tag, View},
    messages::{ReplicaOutcome, ReplicaReport, Target},
};
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
    /// The owners, this node first, then in the order of preference.
    pub owners: Vec<Owner>,
    /// Under an earlier ring it was sent to somebody who may have served it, and whose answer will not be known.
    pub doubtful: bool,
}

/// One owner's part in a request so far.
#[derive(Debug)]
pub(crate) struct Owner {
    pub node: NodeId,
    pub outcome: ReplicaOutcome,
    /// Names the answer that is awaited; answers to anything else are late.
    pub round: u16,
    /// Asked again at the next wake: its ring version differed from ours.
    pub retry: bool,
    pub asked_at: Option<Mono>,
    pub wait: Duration,
    pub digest: Option<Digest>,
    pub repaired: bool,
}

impl Plan {
    /// Plans a request, and refuses one that this cluster cannot serve or does not have the owners up for.
    pub fn new(view: &View<'_>, target: Target, consistency: Consistency) -> Result<Plan, CoordinatorError> {
        let table = resolve(view, &target)?;
        Plan::of_table(view, table, target.key, consistency)
    }

    /// The same request under the ring of now.
    pub fn again(&self, view: &View<'_>) -> Result<Plan, CoordinatorError> {
        Plan::of_table(view, Arc::clone(&self.table), self.key.clone(), self.consistency)
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
        let plan = Plan {
            table,
            key,
            token,
            consistency,
            ring_version: view.ring.version,
            need,
            rf,
            read_repair: settings.read_repair,
            owners,
            doubtful: false,
        };
        match plan.alive() {
            alive if alive < need => Err(CoordinatorError::Unavailable { need, alive, replicas: plan.reports(view) }),
            _ => Ok(plan),
        }
    }

    /// No partition of this ring version moves, so its phase is 0.
    pub fn fence(&self) -> Fence {
        Fence { ring_version: self.ring_version, phase: 0 }
    }

    pub fn alive(&self) -> u32 {
        self.count(|owner| !matches!(owner.outcome, ReplicaOutcome::Unreachable))
    }

    pub fn count(&self, of: impl Fn(&Owner) -> bool) -> u32 {
        u32::try_from(self.owners.iter().filter(|owner| of(owner)).count()).unwrap_or(u32::MAX)
    }

    pub fn reports(&self, view: &View<'_>) -> Vec<ReplicaReport> {
        self.owners.iter().map(|owner| owner.report(view)).collect()
    }

    /// Takes over from an earlier plan of the same request: answers to that one are late from now on.
    pub fn follow(&mut self, earlier: &Plan) {
        let round = earlier.owners.iter().map(|owner| owner.round).max().unwrap_or(0);
        self.owners.iter_mut().for_each(|owner| owner.round = round);
        self.doubtful = earlier.doubtful || earlier.owners.iter().any(Owner::may_have_served);
    }

    /// Notes an owner's answer; false for one that nobody waits for any more.
    pub fn answered(&mut self, now: Mono, tag: Tag, outcome: ReplicaOutcome) -> bool {
        self.owners.get_mut(tag.owner).is_some_and(|owner| owner.answered(now, tag.round, outcome))
    }

    pub fn asks_retry(&self) -> bool {
        self.owners.iter().any(|owner| owner.retry)
    }
}

impl Owner {
    fn new(node: NodeId, reached: bool) -> Self {
        let outcome = if reached { ReplicaOutcome::NotAsked } else { ReplicaOutcome::Unreachable };
        Owner {
            node,
            outcome,
            round: 0,
            retry: false,
            asked_at: None,
            wait: Duration::ZERO,
            digest: None,
            repaired: false,
        }
    }

    /// Notes that it is being asked; the answer awaited is the one to `round`.
    pub fn ask(&mut self, now: Mono) {
        self.round = self.round.wrapping_add(1);
        self.retry = false;
        self.asked_at.get_or_insert(now);
        self.outcome = ReplicaOutcome::Waiting;
    }

    fn answered(&mut self, now: Mono, round: u16, outcome: ReplicaOutcome) -> bool {
        if round != self.round || self.retry || !self.is_waiting() {
            return false;
        }
        self.retry = matches!(&outcome, ReplicaOutcome::Refused(ReplicaError::StaleRing { .. } | ReplicaError::Behind));
        if !self.retry {
            self.outcome = outcome;
        }
        self.wait = self.asked_at.map_or(Duration::ZERO, |asked| now.since(asked));
        true
    }

    /// An owner of another ring is not asked again.
    pub fn give_up(&mut self) {
        self.retry = false;
        self.outcome = ReplicaOutcome::Refused(ReplicaError::Behind);
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
            ReplicaOutcome::Waiting => !self.retry,
            ReplicaOutcome::Applied | ReplicaOutcome::Data | ReplicaOutcome::Digest | ReplicaOutcome::Lost => true,
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
            outcome: self.outcome.clone(),
            wait,
            digest: self.digest,
            repaired: self.repaired,
        }
    }
}

fn resolve(view: &View<'_>, target: &Target) -> Result<Arc<Table>, CoordinatorError> {
    view.schema.resolve(&target.keyspace, &target.table).map_err(|error| match error {
        ResolveError::UnknownKeyspace { keyspace } => CoordinatorError::UnknownKeyspace { keyspace },
        ResolveError::UnknownTable { keyspace, table } => CoordinatorError::UnknownTable { keyspace, table },
    })
}

fn required(view: &View<'_>, settings: &KeyspaceSettings, consistency: Consistency) -> Result<u32, CoordinatorError> {
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
