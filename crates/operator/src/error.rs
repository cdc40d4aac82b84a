//! Why an operator's wish was not granted, by what the operator may do about it. Unless a variant says otherwise nothing
//! has changed.

use kula_actor::{DoorError, Lost};
use kula_catalog::CatalogError;
use kula_replica::ReplicaError;
use kula_ring::RingError;
use kula_schema::ResolveError;
use kula_types::NameError;
use std::sync::Arc;

#[derive(Clone, Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("there is no keyspace {keyspace:?}")]
    UnknownKeyspace { keyspace: String },
    #[error("keyspace {keyspace:?} has no table {table:?}")]
    UnknownTable { keyspace: String, table: String },
    #[error("keyspace {keyspace:?} exists already")]
    KeyspaceExists { keyspace: String },
    #[error("table {keyspace}.{table} exists already")]
    TableExists { keyspace: String, table: String },
    /// What exists does not allow it.
    #[error("{why}")]
    Conflict { why: String },
    #[error(transparent)]
    Name(NameError),
    #[error("{accepts}")]
    Setting { name: &'static str, accepts: String },
    #[error("{what} is not there yet")]
    ModeNotThereYet { what: &'static str },
    #[error("{what}")]
    OptionNotThereYet { what: String },
    /// It would give keys to other owners.
    #[error("{what} moves data between nodes, which is not there yet")]
    MovesData { what: String },
    /// There is no ring; the sentence says what is waited for.
    #[error("{sentence}")]
    WaitingForRing { sentence: String },
    /// `may_have_changed`: some member may have accepted the change already.
    #[error(
        "a change of the ring needs {need} of its members, {answered} took part{}",
        if *may_have_changed { "; whether it was made is unknown" } else { "" }
    )]
    NoRingMajority { need: usize, answered: usize, may_have_changed: bool },
    #[error("other changes of the ring were under way all the time; this one was not made")]
    RingContested,
    /// It is done here and will not be taken back; these live nodes did not say in time that they know.
    #[error("done here; not yet known at {}", lacking.join(", "))]
    NotEverywhere { lacking: Vec<String> },
    /// Of this node's own cell: the key lives elsewhere.
    #[error("{node} does not own this key; its owners are {}", owners.join(", "))]
    NotAnOwner { node: String, owners: Vec<String> },
    #[error("{path} has too much in hand ({depth} of {cap})")]
    Overloaded { path: Arc<str>, depth: usize, cap: usize },
    /// This node's disk does not take it for now. `may_have_changed`: whether it happened is unknown, else nothing did.
    #[error("{why}")]
    DiskRefuses { why: String, may_have_changed: bool },
    #[error("the clock's lease on this node has run out")]
    ClockLease,
    /// This node's copy cannot be read: unknown, not absent.
    #[error("this node's copy of the key is damaged")]
    Damaged,
    /// Whether it happened is unknown.
    #[error("no answer in time")]
    TimedOut,
    /// Whether it happened is unknown.
    #[error("the answer was lost")]
    Lost,
    #[error("the node is shutting down")]
    ShuttingDown,
    /// One of our own rules was broken; what it was stands in the log.
    #[error("an internal rule was broken: {what}")]
    Internal { what: String },
}

impl From<ResolveError> for OperatorError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::UnknownKeyspace { keyspace } => OperatorError::UnknownKeyspace { keyspace },
            ResolveError::UnknownTable { keyspace, table } => OperatorError::UnknownTable { keyspace, table },
        }
    }
}

/// The message was not delivered.
impl From<DoorError> for OperatorError {
    fn from(error: DoorError) -> Self {
        match error {
            DoorError::Overloaded { path, depth, cap } => OperatorError::Overloaded { path, depth, cap },
            DoorError::Closed { .. } => OperatorError::ShuttingDown,
        }
    }
}

impl From<Lost> for OperatorError {
    fn from(_: Lost) -> Self {
        OperatorError::Lost
    }
}

impl From<CatalogError> for OperatorError {
    fn from(error: CatalogError) -> Self {
        let conflict = || OperatorError::Conflict { why: error.to_string() };
        match &error {
            CatalogError::UnknownKeyspace { keyspace } => {
                OperatorError::UnknownKeyspace { keyspace: keyspace.to_string() }
            }
            CatalogError::UnknownTable { keyspace, table } => {
                OperatorError::UnknownTable { keyspace: keyspace.to_string(), table: table.to_string() }
            }
            CatalogError::KeyspaceExists { keyspace } => {
                OperatorError::KeyspaceExists { keyspace: keyspace.to_string() }
            }
            CatalogError::TableExists { existing } => {
                OperatorError::TableExists { keyspace: existing.keyspace.to_string(), table: existing.name.to_string() }
            }
            CatalogError::KeyspaceConflict { .. } | CatalogError::TableConflict { .. } | CatalogError::Limit { .. } => {
                conflict()
            }
            CatalogError::Settings(error) => OperatorError::Setting { name: "rf", accepts: error.to_string() },
            CatalogError::NotThereYet { what } => OperatorError::ModeNotThereYet { what },
            CatalogError::Busy { waiting } => busy("catalog", *waiting),
            CatalogError::DiskFull | CatalogError::TooManyFiles => disk_refuses(&error, false),
            CatalogError::NotSynced(_) => disk_refuses(&"the disk does not sync for now", true),
            CatalogError::NotEverywhere { lacking } => OperatorError::NotEverywhere { lacking: lacking.clone() },
            CatalogError::ClockLease => OperatorError::ClockLease,
            CatalogError::Ring(error) => of_ring(error),
            // The node stops: whether the change is there is known after its next start.
            CatalogError::Disk(_) => OperatorError::Lost,
            CatalogError::Fenced => OperatorError::ShuttingDown,
            // These are found at the start, never asked for.
            CatalogError::Missing { .. } | CatalogError::Unreadable(_) | CatalogError::Form(_) => {
                OperatorError::Internal { what: error.to_string() }
            }
        }
    }
}

/// As many changes wait as are let in.
fn busy(path: &str, waiting: usize) -> OperatorError {
    OperatorError::Overloaded { path: path.into(), depth: waiting, cap: waiting }
}

fn disk_refuses(why: &impl ToString, may_have_changed: bool) -> OperatorError {
    OperatorError::DiskRefuses { why: why.to_string(), may_have_changed }
}

/// A keyspace's settings are the ring's; what the ring refuses, the operator hears.
fn of_ring(error: &RingError) -> OperatorError {
    match error {
        RingError::Refused(why) => OperatorError::Conflict { why: why.to_string() },
        RingError::KeyspaceDiffers { .. } | RingError::TooLarge { .. } => {
            OperatorError::Conflict { why: error.to_string() }
        }
        RingError::MovesData { what } => OperatorError::MovesData { what: what.clone() },
        RingError::NoRing => OperatorError::WaitingForRing { sentence: error.to_string() },
        &RingError::NoMajority { need, answered } => {
            OperatorError::NoRingMajority { need, answered, may_have_changed: false }
        }
        &RingError::Undecided { need, answered } => {
            OperatorError::NoRingMajority { need, answered, may_have_changed: true }
        }
        RingError::Contested => OperatorError::RingContested,
        RingError::Busy { waiting } => busy("ring", *waiting),
        RingError::DiskFull | RingError::TooManyFiles => disk_refuses(error, false),
        RingError::NotSynced(_) => disk_refuses(&"the disk does not sync for now", true),
        RingError::NotKept { .. } => disk_refuses(error, true),
        RingError::Disk(_) | RingError::Closed => OperatorError::Lost,
        RingError::Fenced => OperatorError::ShuttingDown,
        RingError::OtherName { .. }
        | RingError::OtherCluster { .. }
        | RingError::NotAMember { .. }
        | RingError::Missing { .. }
        | RingError::OtherPartitioner { .. }
        | RingError::Unreadable(_)
        | RingError::Malformed(_)
        | RingError::Invalid(_)
        | RingError::BallotsAhead { .. }
        | RingError::Entropy => OperatorError::Internal { what: error.to_string() },
    }
}

/// Of a look at one node's own cell: nothing is ever written by it.
impl From<ReplicaError> for OperatorError {
    fn from(error: ReplicaError) -> Self {
        match error {
            ReplicaError::Overloaded { path, depth, cap } => OperatorError::Overloaded { path, depth, cap },
            ReplicaError::Expired => OperatorError::TimedOut,
            ReplicaError::Damaged => OperatorError::Damaged,
            ReplicaError::Closed | ReplicaError::Fenced => OperatorError::ShuttingDown,
            ReplicaError::DiskFull { .. } => disk_refuses(&error, false),
            // Our own ring and schema were used, so these say that they changed meanwhile: asking again helps.
            ReplicaError::StaleRing { .. } | ReplicaError::Behind | ReplicaError::UnknownTable { .. } => {
                OperatorError::Lost
            }
            ReplicaError::ClockAhead { .. }
            | ReplicaError::SiblingCap { .. }
            | ReplicaError::TooLarge { .. }
            | ReplicaError::InvalidMutation(_)
            | ReplicaError::Malformed
            | ReplicaError::Unreachable
            | ReplicaError::Misplaced => OperatorError::Internal { what: error.to_string() },
        }
    }
}
