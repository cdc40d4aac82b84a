//! What a coordinator counts, all coordinators of a node together: requests by operation and outcome, their latency,
//! repairs, late answers, keys with many siblings.

use crate::{
    error::CoordinatorError,
    machine::{Effect, HintAnswer, Operation},
    messages::Timing,
};
use kula_actor::{Counter, Gauge, Histogram, Registry};
use kula_types::NodeId;

#[derive(Clone)]
pub(crate) struct Metrics {
    operations: [OfOperation; OPERATIONS.len()],
    repaired: Counter,
    late: Counter,
    many_siblings: Counter,
    remote_sends: Counter,
    hints_asked: Counter,
    hints_kept: Counter,
    hints_busy: Counter,
    hints_refused: Counter,
    crowded_out: Counter,
    other_rings: Counter,
    hedges: Counter,
    /// Of this coordinator.
    in_flight: Gauge,
    stragglers: Gauge,
}

#[derive(Clone)]
struct OfOperation {
    outcomes: [Counter; OUTCOMES.len()],
    seconds: Histogram,
}

/// In the order of `Operation`.
const OPERATIONS: [&str; 4] = ["put", "delete", "get", "scan"];
/// In the order of `outcome`.
const OUTCOMES: [&str; 6] = ["ok", "refused", "unavailable", "overloaded", "damaged", "timeout"];
/// Upper edges in seconds: a factor of two from 50 µs to 13 s, the longest default deadline and some.
const EDGES: [f64; 19] = [
    50e-6, 100e-6, 200e-6, 400e-6, 800e-6, 1.6e-3, 3.2e-3, 6.4e-3, 12.8e-3, 25.6e-3, 51.2e-3, 102.4e-3, 204.8e-3,
    409.6e-3, 819.2e-3, 1.6384, 3.2768, 6.5536, 13.1072,
];

impl Metrics {
    pub fn new(registry: &Registry, coordinator: &str) -> Self {
        let operations = OPERATIONS.map(|operation| OfOperation {
            outcomes: OUTCOMES.map(|outcome| {
                let labels = [("operation", operation), ("outcome", outcome)];
                registry.counter("kula_requests", "Requests answered by this node's coordinators", &labels)
            }),
            seconds: registry.histogram(
                "kula_request_seconds",
                "From the front door's call to the coordinator's answer",
                &[("operation", operation)],
                &EDGES,
            ),
        });
        let hints = |outcome| {
            let help = "Hints for owners that missed an accepted write, as hand-off was asked for them and answered";
            registry.counter("kula_hints_stored", help, &[("outcome", outcome)])
        };
        Metrics {
            operations,
            remote_sends: registry.counter("kula_remote_sends", "Requests sent to other nodes' replicas", &[]),
            hints_asked: hints("asked"),
            hints_kept: hints("kept"),
            hints_busy: hints("busy"),
            hints_refused: hints("refused"),
            crowded_out: registry.counter(
                "kula_stragglers_crowded_out",
                "Answered writes that became hints early, because too many waited for some owner",
                &[],
            ),
            other_rings: registry.counter("kula_other_rings", "Answers of owners that know another ring", &[]),
            hedges: registry.counter("kula_hedges", "Reads that asked one more owner because one was slow", &[]),
            repaired: registry.counter("kula_read_repairs", "Replicas that acknowledged a blocking read repair", &[]),
            late: registry.counter("kula_late_answers", "Answers of replicas that nobody waited for any more", &[]),
            many_siblings: registry.counter("kula_many_siblings", "Reads of keys with many siblings", &[]),
            in_flight: registry.gauge(
                "kula_requests_in_flight",
                "Requests that a coordinator has not answered yet",
                &[("actor", coordinator)],
            ),
            stragglers: registry.gauge(
                "kula_stragglers",
                "Answered writes that some owner has not acknowledged yet",
                &[("actor", coordinator)],
            ),
        }
    }

    pub fn in_hand(&self, requests: usize, stragglers: usize) {
        self.in_flight.set(i64::try_from(requests).unwrap_or(i64::MAX));
        self.stragglers.set(i64::try_from(stragglers).unwrap_or(i64::MAX));
    }

    pub fn count(&self, effect: &Effect, me: NodeId) {
        match effect {
            Effect::AnswerWrite { operation, timing, answer, .. } => {
                self.answered(*operation, timing, answer.as_ref().err())
            }
            Effect::AnswerRead { timing, answer, .. } => self.answered(Operation::Get, timing, answer.as_ref().err()),
            Effect::AnswerScan { timing, answer, .. } => self.answered(Operation::Scan, timing, answer.as_ref().err()),
            Effect::ManySiblings { .. } => drop(self.many_siblings.inc()),
            Effect::Repaired => drop(self.repaired.inc()),
            Effect::Late => drop(self.late.inc()),
            Effect::Send { to, .. } if *to != me => drop(self.remote_sends.inc()),
            Effect::Send { .. } | Effect::PullRing { .. } => {}
            Effect::StoreHint { .. } => drop(self.hints_asked.inc()),
            Effect::Hinted(HintAnswer::Kept) => drop(self.hints_kept.inc()),
            Effect::Hinted(HintAnswer::Busy) => drop(self.hints_busy.inc()),
            Effect::Hinted(HintAnswer::NotKept) => drop(self.hints_refused.inc()),
            Effect::CrowdedOut => drop(self.crowded_out.inc()),
            Effect::OtherRing => drop(self.other_rings.inc()),
            Effect::Hedged => drop(self.hedges.inc()),
        }
    }

    fn answered(&self, operation: Operation, timing: &Timing, error: Option<&CoordinatorError>) {
        let of = &self.operations[match operation {
            Operation::Put => 0,
            Operation::Delete => 1,
            Operation::Get => 2,
            Operation::Scan => 3,
        }];
        of.outcomes[outcome(error)].inc();
        of.seconds.observe(timing.total.as_secs_f64());
    }
}

/// An index into `OUTCOMES`.
fn outcome(error: Option<&CoordinatorError>) -> usize {
    match error {
        None => 0,
        Some(
            CoordinatorError::UnknownKeyspace { .. }
            | CoordinatorError::UnknownTable { .. }
            | CoordinatorError::KeyLength { .. }
            | CoordinatorError::ValueTooLarge { .. }
            | CoordinatorError::ContentTypeTooLong { .. }
            | CoordinatorError::IdempotencyKeyLength { .. }
            | CoordinatorError::BadContext(_)
            | CoordinatorError::TimestampNotAllowed
            | CoordinatorError::LevelNotAllowed { .. }
            | CoordinatorError::NotThereYet { .. }
            | CoordinatorError::SiblingCap { .. }
            | CoordinatorError::ClockAhead { .. },
        ) => 1,
        Some(
            CoordinatorError::Unavailable { .. }
            | CoordinatorError::ClockLease
            | CoordinatorError::DiskFull { .. }
            | CoordinatorError::Stopping,
        ) => 2,
        Some(CoordinatorError::Overloaded { .. }) => 3,
        Some(CoordinatorError::Damaged { .. }) => 4,
        Some(CoordinatorError::Timeout { .. }) => 5,
    }
}
