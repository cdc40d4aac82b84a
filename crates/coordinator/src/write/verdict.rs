//! What the owners' answers to a write come to, and how to say it truly.

use crate::{
    error::{Applied, CoordinatorError},
    machine::View,
    messages::ReplicaOutcome,
    plan::{Hint, Owner, Plan},
};
use kula_fault::{Mutant, planted};
use kula_replica::ReplicaError;
use std::sync::Arc;

pub(super) enum Verdict {
    Acked(u32),
    /// Enough owners may still ack.
    Waiting,
    /// Too few owners can still ack; those that have not answered yet may make it certain that nobody applied it.
    Doomed,
    /// Too few owners can still ack, and nothing that may come would say more.
    Failed(CoordinatorError),
}

pub(super) fn of(plan: &Plan) -> Verdict {
    let acked = acked(plan);
    let waiting = plan.count(Owner::is_waiting);
    let asked = plan.count(|owner| owner.is_waiting() && owner.may_have_served());
    match acked {
        acked if acked >= plan.need => Verdict::Acked(acked),
        acked if acked + waiting >= plan.need => Verdict::Waiting,
        0 if asked > 0 && !plan.doubtful && plan.count(Owner::may_have_served) == asked => Verdict::Doomed,
        _ => Verdict::Failed(failure(plan)),
    }
}

/// W was missed after a send: whether the write happened is unknown.
pub(super) fn timeout(plan: &Plan) -> CoordinatorError {
    CoordinatorError::Timeout { need: plan.need, acked: acked(plan), replicas: Vec::new() }
}

/// The owners' parts are told where there is something to tell.
pub(super) fn with_reports(error: CoordinatorError, plan: &Plan, view: &View<'_>) -> CoordinatorError {
    match error {
        CoordinatorError::Timeout { need, acked, .. } => {
            CoordinatorError::Timeout { need, acked, replicas: plan.reports(view) }
        }
        CoordinatorError::Unavailable { need, alive, .. } => {
            CoordinatorError::Unavailable { need, alive, replicas: plan.reports(view) }
        }
        error => error,
    }
}

/// Whether a write that failed so is brought to all owners nevertheless: some may have it, and what was in its way was the
/// state of its owners. What they refused because of what it is stays refused.
pub(super) fn is_completed_after(error: &CoordinatorError) -> bool {
    let by_circumstance = matches!(
        error,
        CoordinatorError::Timeout { .. } | CoordinatorError::Overloaded { .. } | CoordinatorError::DiskFull { .. }
    );
    by_circumstance && error.applied() == Applied::Unknown
}

fn acked(plan: &Plan) -> u32 {
    let counts = |owner: &Owner| {
        let is_hinted = planted(Mutant::HintIsAck) && owner.hint == Hint::Kept;
        matches!(owner.outcome, ReplicaOutcome::Applied) || is_hinted
    };
    let twice = plan.count(|owner| counts(owner) && owner.round > 1 && planted(Mutant::AckCountedTwice));
    plan.count(counts) + twice
}

/// Where the refusals alone leave too few owners, the refusal is the answer. Else time, or an answer that was lost, is to
/// blame.
pub(super) fn failure(plan: &Plan) -> CoordinatorError {
    let refused = plan.count(|owner| matches!(owner.outcome, ReplicaOutcome::Refused(_)));
    let refusals = plan.owners.iter().filter_map(|owner| match &owner.outcome {
        ReplicaOutcome::Refused(error) => Some(error),
        _ => None,
    });
    // Of several kinds, the one that the client itself can do most about.
    match refusals.min_by_key(|error| rank(error)).filter(|_| plan.alive() - refused < plan.need) {
        Some(refusal) => translate(refusal, plan),
        None => timeout(plan),
    }
}

/// `no` only if it is certain that no owner has it.
fn applied(plan: &Plan) -> Applied {
    if plan.may_be_stored() { Applied::Unknown } else { Applied::No }
}

fn rank(error: &ReplicaError) -> u8 {
    match error {
        ReplicaError::SiblingCap { .. } => 0,
        ReplicaError::TooLarge { .. } => 1,
        ReplicaError::ClockAhead { .. } => 2,
        ReplicaError::UnknownTable { .. } => 3,
        ReplicaError::DiskFull { .. } => 4,
        ReplicaError::Overloaded { .. } => 5,
        ReplicaError::Closed | ReplicaError::Unreachable => 6,
        ReplicaError::StaleRing { .. }
        | ReplicaError::Behind
        | ReplicaError::Expired
        | ReplicaError::Damaged
        | ReplicaError::InvalidMutation(_)
        | ReplicaError::Malformed
        | ReplicaError::Misplaced
        | ReplicaError::Fenced => 7,
    }
}

fn translate(refusal: &ReplicaError, plan: &Plan) -> CoordinatorError {
    let applied = applied(plan);
    match refusal {
        ReplicaError::SiblingCap { siblings, bytes } => {
            CoordinatorError::SiblingCap { siblings: *siblings, bytes: *bytes, context: None, applied }
        }
        ReplicaError::ClockAhead { by } => CoordinatorError::ClockAhead { by: *by, applied },
        ReplicaError::DiskFull { .. } => CoordinatorError::DiskFull { applied },
        ReplicaError::Overloaded { path, depth, cap } => {
            CoordinatorError::Overloaded { path: Arc::clone(path), depth: *depth, cap: *cap, applied }
        }
        ReplicaError::UnknownTable { .. } if applied == Applied::No => CoordinatorError::UnknownTable {
            keyspace: plan.table.keyspace.to_string(),
            table: plan.table.name.to_string(),
        },
        ReplicaError::Closed | ReplicaError::Unreachable if applied == Applied::No => {
            CoordinatorError::Unavailable { need: plan.need, alive: plan.there(), replicas: Vec::new() }
        }
        ReplicaError::TooLarge { bytes, max } if applied == Applied::No => {
            CoordinatorError::ValueTooLarge { bytes: *bytes, max: *max }
        }
        ReplicaError::UnknownTable { .. }
        | ReplicaError::TooLarge { .. }
        | ReplicaError::Closed
        | ReplicaError::Unreachable
        | ReplicaError::StaleRing { .. }
        | ReplicaError::Behind
        | ReplicaError::Expired
        | ReplicaError::Damaged
        | ReplicaError::InvalidMutation(_)
        | ReplicaError::Malformed
        | ReplicaError::Misplaced
        | ReplicaError::Fenced => timeout(plan),
    }
}
