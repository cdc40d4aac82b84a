//! From what each room says went wrong to what a user can act on: the one place where errors become problems.
//!
//! Users see the condition, the numbers and the next step; never a file, a `Debug` form or a room's inner words. The one
//! inner name they see is a full mailbox, because `kula actors` shows it under the same name.

use crate::{
    limits::BATCH_ITEMS_MAX,
    problem::{Applied, Problem, ReplicaNote},
    refusal::Refusal,
};
use kula_actor::{DoorError, Lost};
use kula_coordinator::{self as coordinator, CoordinatorError, ReplicaOutcome, ReplicaReport};
use kula_lattice::ContextError;
use kula_operator::{OperatorError, codes};
use kula_replica::ReplicaError;
use std::time::Duration;

const NAMES: &str = "see what exists with kula keyspace list and kula table list";
const READ_AGAIN: &str = "read the key again and send the Kula-Context of that answer, unchanged";
const SEE_PAGES: &str = "/openapi.json lists every route";
const SLOWER: &str = "repeat after Retry-After with some random spread; kula actors shows what is busy";
const REPEAT_SAFELY: &str = "repeat it with the same Idempotency-Key, or read the key first";
const DISK: &str = "free space on the data directory's file system; writes resume by themselves";
const ELSEWHERE: &str = "send it to another node, or again when this one is back";

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let about = |code, hint: &str| Problem::new(code, detail.clone(), hint);
        match refusal {
            Refusal::KeyEmpty | Refusal::KeyEscape { .. } => {
                about(&codes::KEY_ENCODING, "percent-encode the key's bytes once, or use ?key-encoding=base64url")
            }
            Refusal::KeyBase64 => about(&codes::KEY_ENCODING, "use the alphabet A-Z a-z 0-9 - _ without padding"),
            Refusal::KeyTooLong { .. } => {
                about(&codes::KEY_TOO_LONG, "use a shorter key, such as a hash of the long one")
            }
            Refusal::ValueTooLarge { .. } => {
                about(&codes::VALUE_TOO_LARGE, "split the value under several keys, or compress it")
            }
            Refusal::ConsistencyLevel(_) => about(
                &codes::CONSISTENCY_LEVEL,
                "leave Kula-Consistency out to get quorum, or name one of these levels",
            ),
            Refusal::Header { name, .. } => about(&codes::HEADER, &format!("correct {name}, or leave it out")),
            Refusal::HeaderTwice { name } => about(&codes::HEADER, &format!("send {name} once")),
            Refusal::HeaderUnknown { .. } => about(
                &codes::HEADER,
                "known are Kula-Consistency, Kula-Context, Kula-TTL, Kula-Timestamp and Kula-Deadline-Ms",
            ),
            Refusal::Parameter { .. } => about(&codes::PARAMETER, "correct the parameter, or leave it out"),
            Refusal::Json { .. } => about(&codes::JSON, "correct the body; /openapi.json lists its fields"),
            Refusal::NoSuchRoute => about(&codes::NO_SUCH_ROUTE, SEE_PAGES),
            Refusal::MethodNotAllowed { allow } => {
                let problem = about(&codes::METHOD_NOT_ALLOWED, &format!("use {allow}"));
                Problem { allow: Some(allow), ..problem }
            }
            Refusal::HeadTooLarge { .. } => about(
                &codes::HEAD_TOO_LARGE,
                "send fewer or shorter headers; cookies of another service are a usual cause",
            ),
            Refusal::BodyTooSlow => about(&codes::BODY_TOO_SLOW, "send the request again, faster").close(),
            Refusal::BodyIncomplete => about(&codes::BODY_INCOMPLETE, "send the request again").close(),
            Refusal::BodyEncoded => about(&codes::BODY_ENCODED, "send the value without Content-Encoding"),
            Refusal::BatchTooLarge { .. } => {
                about(&codes::BATCH_TOO_LARGE, &format!("send at most {BATCH_ITEMS_MAX} items at once"))
            }
            Refusal::ConditionalWrite => about(
                &codes::CONDITIONAL_WRITE,
                "in a bucket send Kula-Context: it replaces exactly what you have read",
            ),
            Refusal::NotThereYet { .. } => about(&codes::NOT_THERE_YET, "/openapi.json lists what this node can do"),
            Refusal::Starting => about(&codes::NOT_READY, "wait until /healthz/ready answers 200").retry(),
            Refusal::Waiting { .. } => about(
                &codes::WAITING_FOR_RING,
                "start the nodes that are missing, with the same cluster name and the same seeds",
            )
            .retry(),
            Refusal::Stopping => about(&codes::SHUTTING_DOWN, ELSEWHERE).retry(),
        }
    }
}

impl From<CoordinatorError> for Problem {
    fn from(error: CoordinatorError) -> Self {
        let applied = error.applied().into();
        let detail = error.to_string();
        let about = |code, hint: &str| Problem::new(code, detail.clone(), hint).applied(applied);
        match error {
            CoordinatorError::UnknownKeyspace { keyspace } => {
                about(&codes::NO_SUCH_KEYSPACE, NAMES).fact("keyspace", keyspace)
            }
            CoordinatorError::UnknownTable { keyspace, table } => {
                about(&codes::NO_SUCH_TABLE, NAMES).fact("keyspace", keyspace).fact("table", table)
            }
            CoordinatorError::KeyLength { .. } => about(&codes::KEY_TOO_LONG, "use a key within these bounds"),
            CoordinatorError::ValueTooLarge { .. } => {
                about(&codes::VALUE_TOO_LARGE, "split the value under several keys")
            }
            CoordinatorError::ContentTypeTooLong { .. } => {
                about(&codes::HEADER, "shorten Content-Type, or leave it out")
            }
            CoordinatorError::IdempotencyKeyLength { .. } => {
                about(&codes::HEADER, "shorten Idempotency-Key, or leave it out")
            }
            CoordinatorError::BadContext(error) => bad_context(&error),
            CoordinatorError::TimestampNotAllowed => {
                about(&codes::TIMESTAMP_NOT_ALLOWED, "leave Kula-Timestamp out, or use a table made with --lww")
            }
            CoordinatorError::LevelNotAllowed { n, rf } => {
                about(&codes::CONSISTENCY_LEVEL, "ask for no more replicas than the keyspace has")
                    .fact("asked", n)
                    .fact("rf", rf)
            }
            CoordinatorError::NotThereYet { what } => not_there_yet(what, &detail),
            CoordinatorError::Unavailable { need, alive, replicas } => Problem {
                need: Some(need),
                alive: Some(alive),
                replicas: Some(notes(replicas)),
                ..about(&codes::UNAVAILABLE, "ask for a lower level, or again when kula status shows the nodes up")
                    .retry()
            },
            CoordinatorError::ClockLease => {
                about(&codes::CLOCK_LEASE, "repeat after a second; then look at the disk").retry()
            }
            CoordinatorError::Stopping => about(&codes::SHUTTING_DOWN, ELSEWHERE).retry(),
            CoordinatorError::Overloaded { path, depth, cap, .. } => overloaded(&path, depth, cap, applied),
            CoordinatorError::SiblingCap { siblings, bytes, context, .. } => Problem {
                context,
                ..about(&codes::TOO_MANY_SIBLINGS, "merge what GET shows and write it with the context of that read")
                    .fact("siblings", siblings)
                    .fact("sibling_bytes", bytes)
            },
            CoordinatorError::ClockAhead { by, .. } => about(
                &codes::CLOCK_AHEAD,
                "send microseconds since 1970, or no Kula-Timestamp; then compare the nodes' clocks",
            )
            .fact("ahead_ms", millis(by)),
            CoordinatorError::DiskFull { .. } => about(&codes::DISK_FULL, DISK).retry(),
            CoordinatorError::Damaged { need, acked, damaged, replicas } => Problem {
                need: Some(need),
                acked: Some(acked),
                replicas: Some(notes(replicas)),
                ..about(&codes::RANGE_UNKNOWN, "ask at a level that other replicas can meet; this is not a 404")
                    .fact("damaged", damaged)
            },
            CoordinatorError::Timeout { need, acked, replicas } => Problem {
                need: Some(need),
                acked: Some(acked),
                replicas: Some(notes(replicas)),
                ..about(&codes::TIMEOUT, REPEAT_SAFELY)
            },
        }
    }
}

impl From<coordinator::Applied> for Applied {
    fn from(applied: coordinator::Applied) -> Self {
        match applied {
            coordinator::Applied::No => Applied::No,
            coordinator::Applied::Unknown => Applied::Unknown,
        }
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let detail = error.to_string();
        let about = |code, hint: &str| Problem::new(code, detail.clone(), hint);
        match error {
            OperatorError::UnknownKeyspace { keyspace } => {
                about(&codes::NO_SUCH_KEYSPACE, NAMES).fact("keyspace", keyspace)
            }
            OperatorError::UnknownTable { keyspace, table } => {
                about(&codes::NO_SUCH_TABLE, NAMES).fact("keyspace", keyspace).fact("table", table)
            }
            OperatorError::KeyspaceExists { .. } => {
                about(&codes::KEYSPACE_EXISTS, "look at it with kula keyspace show")
            }
            OperatorError::TableExists { .. } => about(&codes::TABLE_EXISTS, "look at it with kula table show"),
            OperatorError::Conflict { .. } => about(&codes::SCHEMA_CONFLICT, NAMES),
            OperatorError::Name(_) => about(&codes::NAME, "choose a name of 1 to 48 of a-z, 0-9 and _"),
            OperatorError::Setting { name, accepts } => about(&codes::SETTING, &accepts).fact("setting", name),
            OperatorError::ModeNotThereYet { .. } | OperatorError::OptionNotThereYet { .. } => {
                about(&codes::MODE_NOT_THERE_YET, "leave the setting out for now")
            }
            OperatorError::MovesData { .. } => about(
                &codes::MOVES_DATA,
                "make a new keyspace with these settings, or leave out what would give keys to other owners",
            ),
            OperatorError::WaitingForRing { sentence } => Refusal::Waiting { sentence }.into(),
            OperatorError::NoRingMajority { need, answered, may_have_changed } => {
                let applied = if may_have_changed { Applied::Unknown } else { Applied::No };
                about(&codes::NO_RING_MAJORITY, "ask again when kula status shows more members up")
                    .applied(applied)
                    .fact("need", need)
                    .fact("answered", answered)
                    .retry()
            }
            OperatorError::RingContested => {
                about(&codes::RING_CONTESTED, "look at what is there now, then ask again").retry()
            }
            OperatorError::NotEverywhere { lacking } => {
                about(&codes::NOT_EVERYWHERE, "it spreads by itself; kula status says when all nodes agree")
                    .applied(Applied::Unknown)
                    .fact("done_here", true)
                    .fact("lacking", lacking)
            }
            OperatorError::NotAnOwner { owners, .. } => {
                about(&codes::NOT_AN_OWNER, "ask one of the owners").fact("owners", owners)
            }
            OperatorError::Overloaded { path, depth, cap } => overloaded(&path, depth, cap, Applied::No),
            OperatorError::DiskRefuses { may_have_changed, .. } => {
                let applied = if may_have_changed { Applied::Unknown } else { Applied::No };
                about(&codes::DISK_FULL, DISK).applied(applied).retry()
            }
            OperatorError::ClockLease => {
                about(&codes::CLOCK_LEASE, "repeat after a second; then look at the disk").retry()
            }
            OperatorError::Damaged => about(&codes::RANGE_UNKNOWN, "ask another replica; this is not a 404"),
            OperatorError::TimedOut => {
                about(&codes::TIMEOUT, "see whether it is there now, then repeat it").applied(Applied::Unknown)
            }
            OperatorError::Lost => {
                about(&codes::ANSWER_LOST, "see whether it is there now, then repeat it").applied(Applied::Unknown)
            }
            OperatorError::ShuttingDown => about(&codes::SHUTTING_DOWN, ELSEWHERE).retry(),
            // What broke is for the log, not for a user.
            OperatorError::Internal { .. } => Problem::new(
                &codes::INTERNAL,
                "the node met a state that its own rules exclude",
                "report it with the trace and the node's log around this time",
            )
            .applied(Applied::Unknown),
        }
    }
}

/// Nothing was sent: the door was full or shut.
impl From<DoorError> for Problem {
    fn from(error: DoorError) -> Self {
        match error {
            DoorError::Overloaded { path, depth, cap } => overloaded(&path, depth, cap, Applied::No),
            DoorError::Closed { .. } => Refusal::Stopping.into(),
        }
    }
}

/// Whoever held the request ended before it answered.
impl From<Lost> for Problem {
    fn from(_: Lost) -> Self {
        Problem::new(
            &codes::ANSWER_LOST,
            "the part of the node that held the request ended before it answered",
            REPEAT_SAFELY,
        )
        .applied(Applied::Unknown)
    }
}

/// The coordinator itself was silent past the deadline.
pub fn silent() -> Problem {
    Problem::new(&codes::TIMEOUT, "the deadline passed without any answer", REPEAT_SAFELY).applied(Applied::Unknown)
}

/// The table shows nothing under this key.
pub fn no_such_key(context: Option<String>) -> Problem {
    let hint = "if it should be there, check the key's encoding and the table";
    Problem { context, ..Problem::new(&codes::NO_SUCH_KEY, "nothing is stored under this key", hint) }
}

/// The answer is there, and answers that clients have not read yet leave no room for it.
pub fn answers_full(applied: Applied) -> Problem {
    overloaded(crate::outgoing::PATH, 0, 0, applied)
}

fn overloaded(path: &str, depth: usize, cap: usize, applied: Applied) -> Problem {
    let detail = match cap {
        0 => format!("{path} has as much in hand as it accepts"),
        cap => format!("{path} has as much in hand as it accepts: {depth} of {cap}"),
    };
    Problem::new(&codes::OVERLOADED, detail, SLOWER).applied(applied).fact("mailbox", path).retry()
}

fn bad_context(error: &ContextError) -> Problem {
    let (code, detail) = match error {
        ContextError::Malformed => (&codes::CONTEXT_MALFORMED, "Kula-Context is not a context"),
        ContextError::UnknownKey { .. } => {
            (&codes::CONTEXT_UNKNOWN_KEY, "the context was sealed elsewhere, or too long ago")
        }
        ContextError::Forged => (&codes::CONTEXT_FORGED, "the context's seal does not match what it says"),
        ContextError::Misplaced => (&codes::CONTEXT_MISPLACED, "the context was given out for another key or table"),
    };
    Problem::new(code, detail, READ_AGAIN)
}

fn not_there_yet(what: &'static str, detail: &str) -> Problem {
    if what.starts_with("consistency level") {
        Problem::new(&codes::LEVEL_NOT_THERE_YET, detail, "use one, two, three, quorum, all or a number")
    } else {
        Refusal::NotThereYet { what }.into()
    }
}

fn notes(replicas: Vec<ReplicaReport>) -> Vec<ReplicaNote> {
    let note = |report: ReplicaReport| ReplicaNote {
        outcome: outcome(&report.outcome),
        id: report.node.to_string(),
        name: report.name,
        wait_ms: millis(report.wait),
    };
    replicas.into_iter().map(note).collect()
}

/// A replica's part in one or two words; also in `Server-Timing`.
pub fn outcome(outcome: &ReplicaOutcome) -> &'static str {
    match outcome {
        ReplicaOutcome::NotAsked => "not asked",
        ReplicaOutcome::Unreachable => "unreachable",
        ReplicaOutcome::Waiting => "no answer yet",
        ReplicaOutcome::Applied => "applied",
        ReplicaOutcome::Data => "data",
        ReplicaOutcome::Digest => "digest",
        ReplicaOutcome::Lost => "answer lost",
        ReplicaOutcome::Hinted => "hinted",
        ReplicaOutcome::Refused(error) => match error {
            ReplicaError::StaleRing { .. } => "refused: our ring is older",
            ReplicaError::Behind => "refused: its ring is older",
            ReplicaError::UnknownTable { .. } => "refused: it does not know the table",
            ReplicaError::Overloaded { .. } => "refused: overloaded",
            ReplicaError::Expired => "refused: deadline passed",
            ReplicaError::ClockAhead { .. } => "refused: timestamp too far ahead",
            ReplicaError::DiskFull { .. } => "refused: disk full",
            ReplicaError::SiblingCap { .. } => "refused: too many siblings",
            ReplicaError::TooLarge { .. } => "refused: too large",
            ReplicaError::Damaged => "damaged",
            ReplicaError::InvalidMutation(_) | ReplicaError::Malformed | ReplicaError::Misplaced => {
                "refused: malformed"
            }
            ReplicaError::Unreachable => "unreachable",
            ReplicaError::Closed => "refused: shutting down",
            ReplicaError::Fenced => "failed",
        },
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kula_types::{ConsistencyError, NameError, NodeId};

    fn story(problems: impl IntoIterator<Item = Problem>) -> String {
        let shown = problems.into_iter().map(|problem| serde_json::to_string_pretty(&problem.body("0af7")).unwrap());
        shown.collect::<Vec<_>>().join("\n")
    }

    fn report(name: &str, outcome: ReplicaOutcome) -> ReplicaReport {
        let node: NodeId = serde_json::from_str("\"6f1d1f2e-0000-4000-8000-000000000001\"").unwrap();
        ReplicaReport {
            node,
            name: name.into(),
            outcome,
            wait: Duration::from_millis(7),
            digest: None,
            repaired: false,
        }
    }

    #[test]
    fn what_the_front_door_refuses() {
        let refusals = [
            Refusal::KeyEmpty,
            Refusal::KeyEscape { at: 3 },
            Refusal::KeyBase64,
            Refusal::KeyTooLong { bytes: 5000, max: 4096 },
            Refusal::ValueTooLarge { max: 8 << 20 },
            Refusal::ConsistencyLevel(ConsistencyError { text: "most".into() }),
            Refusal::Header { name: "Kula-TTL", accepts: "whole seconds, 1 to 630720000" },
            Refusal::HeaderTwice { name: "Kula-TTL" },
            Refusal::HeaderUnknown { name: "kula-consistancy".into() },
            Refusal::Parameter { name: "limit".into(), accepts: "a key's routes know key-encoding and resolve" },
            Refusal::Json { what: "unknown field `nmae` at line 1 column 7".into() },
            Refusal::NoSuchRoute,
            Refusal::MethodNotAllowed { allow: "GET, HEAD" },
            Refusal::HeadTooLarge { bytes: 40_000 },
            Refusal::BodyTooSlow,
            Refusal::BodyIncomplete,
            Refusal::BodyEncoded,
            Refusal::BatchTooLarge { what: "the batch has 1001 items" },
            Refusal::ConditionalWrite,
            Refusal::NotThereYet { what: "the stream of events" },
            Refusal::Starting,
            Refusal::Waiting { sentence: "waiting for a ring: 2 of 3 expected nodes are visible".into() },
            Refusal::Stopping,
        ];
        insta::assert_snapshot!(story(refusals.map(Problem::from)));
    }

    #[test]
    fn what_a_coordinator_could_not_do() {
        let replicas = || {
            vec![
                report("n1", ReplicaOutcome::Applied),
                report("n2", ReplicaOutcome::Refused(ReplicaError::DiskFull { wrote: false })),
            ]
        };
        let errors = [
            CoordinatorError::UnknownKeyspace { keyspace: "shop".into() },
            CoordinatorError::UnknownTable { keyspace: "shop".into(), table: "carts".into() },
            CoordinatorError::BadContext(ContextError::Malformed),
            CoordinatorError::BadContext(ContextError::Forged),
            CoordinatorError::BadContext(ContextError::Misplaced),
            CoordinatorError::BadContext(ContextError::UnknownKey { id: 7 }),
            CoordinatorError::TimestampNotAllowed,
            CoordinatorError::LevelNotAllowed { n: 5, rf: 3 },
            CoordinatorError::NotThereYet { what: "consistency level any" },
            CoordinatorError::NotThereYet { what: "something else" },
            CoordinatorError::Stopping,
            CoordinatorError::Unavailable { need: 2, alive: 1, replicas: replicas() },
            CoordinatorError::ClockLease,
            CoordinatorError::Overloaded {
                path: "coordinator/0".into(),
                depth: 1024,
                cap: 1024,
                applied: coordinator::Applied::No,
            },
            CoordinatorError::SiblingCap {
                siblings: 64,
                bytes: 4096,
                context: Some("AQOx".into()),
                applied: coordinator::Applied::No,
            },
            CoordinatorError::ClockAhead { by: Duration::from_secs(90), applied: coordinator::Applied::Unknown },
            CoordinatorError::DiskFull { applied: coordinator::Applied::No },
            CoordinatorError::Damaged { need: 1, acked: 0, damaged: 1, replicas: replicas() },
            CoordinatorError::Timeout { need: 2, acked: 1, replicas: replicas() },
        ];
        insta::assert_snapshot!(story(errors.map(Problem::from)));
    }

    #[test]
    fn what_an_operator_was_not_granted() {
        let errors = [
            OperatorError::KeyspaceExists { keyspace: "shop".into() },
            OperatorError::TableExists { keyspace: "shop".into(), table: "carts".into() },
            OperatorError::Conflict { why: "keyspace \"kv\" is built in".into() },
            OperatorError::Name(NameError::Character { found: 'S' }),
            OperatorError::Setting { name: "rf", accepts: "a replication factor is 1 to 32, not 0".into() },
            OperatorError::ModeNotThereYet { what: "the mode sloppy" },
            OperatorError::MovesData { what: "another replication factor of kv".into() },
            OperatorError::WaitingForRing { sentence: "waiting for a ring: 2 of 3 expected nodes are visible".into() },
            OperatorError::NoRingMajority { need: 2, answered: 1, may_have_changed: false },
            OperatorError::NoRingMajority { need: 3, answered: 2, may_have_changed: true },
            OperatorError::RingContested,
            OperatorError::NotEverywhere { lacking: vec!["n2".into(), "n3".into()] },
            OperatorError::NotAnOwner { node: "n1".into(), owners: vec!["n2".into(), "n3".into()] },
            OperatorError::TimedOut,
            OperatorError::Lost,
            OperatorError::Internal { what: "a secret of ours".into() },
        ];
        insta::assert_snapshot!(story(errors.map(Problem::from)));
    }

    #[test]
    fn what_nobody_answered() {
        let full = DoorError::Overloaded { path: "coordinator/1".into(), depth: 1024, cap: 1024 };
        let closed = DoorError::Closed { path: "coordinator/1".into() };
        let problems = [full.into(), closed.into(), Lost.into(), silent(), no_such_key(Some("AQOx".into()))];
        insta::assert_snapshot!(story(problems));
    }
}
