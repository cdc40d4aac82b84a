//! What a replica counts, by shard together: served and refused requests.

use crate::{ReplicaError, machine::Effects};
use kula_actor::{Counter, Registry};

#[derive(Clone)]
pub(crate) struct Metrics {
    applies: Counter,
    reads: Counter,
    ranges: Counter,
    refused: [Counter; REASONS.len()],
    /// Requests of peers that were not even taken apart.
    pub inbound_expired: Counter,
    pub inbound_malformed: Counter,
}

/// In the order of `reason`.
const REASONS: [&str; 7] = ["ring", "expired", "unknown_table", "invalid", "clock_ahead", "overloaded", "storage"];

impl Metrics {
    pub fn new(registry: &Registry) -> Self {
        let served = |kind| registry.counter("kula_replica_served", "Requests handed to storage", &[("kind", kind)]);
        let refused = |reason| {
            registry.counter(
                "kula_replica_refused",
                "Requests refused before they touched storage",
                &[("reason", reason)],
            )
        };
        let unread = |reason| {
            let help = "Requests of other nodes that were refused unread";
            registry.counter("kula_replica_unread", help, &[("reason", reason)])
        };
        Metrics {
            applies: served("apply"),
            reads: served("read"),
            ranges: served("range"),
            refused: REASONS.map(refused),
            inbound_expired: unread("expired"),
            inbound_malformed: unread("malformed"),
        }
    }

    pub fn count(&self, effects: &Effects) {
        self.applies.inc_by(effects.apply.len() as u64);
        self.reads.inc_by(effects.read.len() as u64);
        self.ranges.inc_by(effects.ranges.len() as u64);
        for (_, refusal) in &effects.refused {
            self.refused[reason(refusal)].inc();
        }
    }
}

/// An index into `REASONS`.
fn reason(refusal: &ReplicaError) -> usize {
    match refusal {
        ReplicaError::StaleRing { .. } | ReplicaError::Behind => 0,
        ReplicaError::Expired => 1,
        ReplicaError::UnknownTable { .. } => 2,
        ReplicaError::InvalidMutation(_) | ReplicaError::Malformed | ReplicaError::Misplaced => 3,
        ReplicaError::ClockAhead { .. } => 4,
        ReplicaError::Overloaded { .. } => 5,
        // Never before storage was asked.
        ReplicaError::DiskFull { .. }
        | ReplicaError::TooLarge { .. }
        | ReplicaError::SiblingCap { .. }
        | ReplicaError::Damaged
        | ReplicaError::Unreachable
        | ReplicaError::Closed
        | ReplicaError::Fenced => 6,
    }
}
