//! Every way in which a room can say no, by name: each must be met in a CI run, or is here with the reason why a cluster of
//! machines cannot meet it.
//!
//! The matches list every variant, so that a new one is thought of. One that is said never to come and comes all the same
//! is a violation.

use kula_catalog::CatalogError;
use kula_coordinator::CoordinatorError;
use kula_handoff::HandoffError;
use kula_replica::ReplicaError;
use kula_ring::RingError;
use kula_storage::StorageError;
use kula_transport::{Cut, TransportError};
use kula_wire::verbs::link::Refusal;

/// What a refusal is to the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Counted under this name.
    Sometimes(&'static str),
    /// It cannot come here, and why.
    Never(&'static str),
}

use Met::{Never, Sometimes};

const SOUND: &str = "the simulated clients ask in sound form (the front doors' tests do not)";
const START: &str = "said at a start, never as an answer";
const STOPPING: &str = "a simulated process is killed, it does not stop in order";

/// What a run of many seeds must have met.
pub const ALL: [&str; 47] = [
    "coordinator: UnknownTable",
    "coordinator: LevelNotAllowed",
    "coordinator: NotThereYet",
    "coordinator: Unavailable",
    "coordinator: ClockLease",
    "coordinator: Overloaded",
    "coordinator: SiblingCap",
    "coordinator: ClockAhead",
    "coordinator: DiskFull",
    "coordinator: Damaged",
    "coordinator: Timeout",
    "replica: StaleRing",
    "replica: Behind",
    "replica: UnknownTable",
    "replica: Overloaded",
    "replica: Expired",
    "replica: ClockAhead",
    "replica: DiskFull",
    "replica: SiblingCap",
    "replica: Damaged",
    "replica: Unreachable",
    "catalog: UnknownTable",
    "catalog: TableExists",
    "catalog: TableConflict",
    "catalog: NotEverywhere",
    "ring: NoMajority",
    "handoff: DiskFull",
    "handoff: Overloaded",
    "transport: NotConnected",
    "transport: Expired",
    "transport: TimedOut",
    "transport: Lost",
    "cut: connect",
    "cut: connect late",
    "cut: handshake late",
    "cut: silent",
    "cut: garbage",
    "cut: closed",
    "refusal: SameNodeIdOtherBoot",
    "refusal: StrangerAtMembersAddress",
    "refusal: AnotherNode",
    "refusal: WentBack",
    "start: storage IdentityDamaged",
    "start: storage ManifestDamaged",
    "start: storage LogDamaged",
    "start: ring",
    "start: catalog",
];

/// What comes too seldom for a run of CI: one of so many seeds must have met it.
pub const SELDOM: [&str; 7] = [
    "catalog: Disk",
    "catalog: DiskFull",
    "replica: Fenced",
    "ring: Contested",
    "ring: Undecided",
    "start: storage Disk",
    "start: storage LeaseLost",
];
pub const SELDOM_FROM: u64 = 10_000;

pub fn coordinator(error: &CoordinatorError) -> Met {
    match error {
        CoordinatorError::UnknownTable { .. } => Sometimes("coordinator: UnknownTable"),
        CoordinatorError::LevelNotAllowed { .. } => Sometimes("coordinator: LevelNotAllowed"),
        CoordinatorError::Unavailable { .. } => Sometimes("coordinator: Unavailable"),
        CoordinatorError::ClockLease => Sometimes("coordinator: ClockLease"),
        CoordinatorError::Overloaded { .. } => Sometimes("coordinator: Overloaded"),
        CoordinatorError::SiblingCap { .. } => Sometimes("coordinator: SiblingCap"),
        CoordinatorError::ClockAhead { .. } => Sometimes("coordinator: ClockAhead"),
        CoordinatorError::DiskFull { .. } => Sometimes("coordinator: DiskFull"),
        CoordinatorError::Damaged { .. } => Sometimes("coordinator: Damaged"),
        CoordinatorError::Timeout { .. } => Sometimes("coordinator: Timeout"),
        // A node that forgot its schema with its disk is asked before it has pulled it.
        CoordinatorError::UnknownKeyspace { .. } => Sometimes("coordinator: UnknownKeyspace"),
        CoordinatorError::KeyLength { .. }
        | CoordinatorError::ValueTooLarge { .. }
        | CoordinatorError::ContentTypeTooLong { .. }
        | CoordinatorError::IdempotencyKeyLength { .. }
        | CoordinatorError::TimestampNotAllowed => Never(SOUND),
        CoordinatorError::NotThereYet { .. } => Sometimes("coordinator: NotThereYet"),
        CoordinatorError::BadContext(_) => Never("clients send back only what they were given"),
        CoordinatorError::Stopping => Never(STOPPING),
    }
}

pub fn replica(error: &ReplicaError) -> Met {
    match error {
        ReplicaError::StaleRing { .. } => Sometimes("replica: StaleRing"),
        ReplicaError::Behind => Sometimes("replica: Behind"),
        ReplicaError::UnknownTable { .. } => Sometimes("replica: UnknownTable"),
        ReplicaError::Overloaded { .. } => Sometimes("replica: Overloaded"),
        ReplicaError::Expired => Sometimes("replica: Expired"),
        ReplicaError::ClockAhead { .. } => Sometimes("replica: ClockAhead"),
        ReplicaError::DiskFull { .. } => Sometimes("replica: DiskFull"),
        ReplicaError::TooLarge { .. } => Sometimes("replica: TooLarge"),
        ReplicaError::SiblingCap { .. } => Sometimes("replica: SiblingCap"),
        ReplicaError::Damaged => Sometimes("replica: Damaged"),
        ReplicaError::Unreachable => Sometimes("replica: Unreachable"),
        ReplicaError::Fenced => Sometimes("replica: Fenced"),
        ReplicaError::InvalidMutation(_) | ReplicaError::Malformed => {
            Never("frames are checked before they are read, and nobody here sends other bytes")
        }
        ReplicaError::Misplaced => Never("a coordinator that sent to the wrong place would be a mistake of ours"),
        ReplicaError::Closed => Never(STOPPING),
    }
}

pub fn catalog(error: &CatalogError) -> Met {
    match error {
        CatalogError::UnknownTable { .. } => Sometimes("catalog: UnknownTable"),
        CatalogError::TableExists { .. } => Sometimes("catalog: TableExists"),
        CatalogError::TableConflict { .. } => Sometimes("catalog: TableConflict"),
        CatalogError::NotEverywhere { .. } => Sometimes("catalog: NotEverywhere"),
        CatalogError::DiskFull => Sometimes("catalog: DiskFull"),
        CatalogError::TooManyFiles => Sometimes("catalog: TooManyFiles"),
        CatalogError::NotSynced(_) => Sometimes("catalog: NotSynced"),
        CatalogError::ClockLease => Sometimes("catalog: ClockLease"),
        CatalogError::Disk(_) => Sometimes("catalog: Disk"),
        CatalogError::Busy { .. } => Sometimes("catalog: Busy"),
        CatalogError::UnknownKeyspace { .. } => Sometimes("catalog: UnknownKeyspace"),
        CatalogError::KeyspaceExists { .. } => Sometimes("catalog: KeyspaceExists"),
        CatalogError::KeyspaceConflict { .. } => Sometimes("catalog: KeyspaceConflict"),
        CatalogError::Ring(error) => ring(error),
        CatalogError::Fenced => Sometimes("catalog: Fenced"),
        CatalogError::Limit { .. } | CatalogError::Settings(_) | CatalogError::NotThereYet { .. } => Never(SOUND),
        CatalogError::Missing { .. } | CatalogError::Unreadable(_) | CatalogError::Form(_) => Never(START),
    }
}

pub fn ring(error: &RingError) -> Met {
    match error {
        RingError::NoMajority { .. } => Sometimes("ring: NoMajority"),
        RingError::Contested => Sometimes("ring: Contested"),
        RingError::Undecided { .. } => Sometimes("ring: Undecided"),
        RingError::NotKept { .. } => Sometimes("ring: NotKept"),
        RingError::Busy { .. } => Sometimes("ring: Busy"),
        RingError::DiskFull => Sometimes("ring: DiskFull"),
        RingError::TooManyFiles => Sometimes("ring: TooManyFiles"),
        RingError::NotSynced(_) => Sometimes("ring: NotSynced"),
        RingError::Disk(_) => Sometimes("ring: Disk"),
        RingError::Fenced => Sometimes("ring: Fenced"),
        RingError::NoRing => Sometimes("ring: NoRing"),
        RingError::KeyspaceDiffers { .. } => Sometimes("ring: KeyspaceDiffers"),
        RingError::Closed => Never(STOPPING),
        RingError::Refused(_) | RingError::MovesData { .. } | RingError::TooLarge { .. } => Never(SOUND),
        RingError::OtherName { .. }
        | RingError::OtherCluster { .. }
        | RingError::NotAMember { .. }
        | RingError::Missing { .. }
        | RingError::OtherPartitioner { .. }
        | RingError::Unreadable(_)
        | RingError::Malformed(_)
        | RingError::Invalid(_)
        | RingError::BallotsAhead { .. }
        | RingError::Entropy => Never(START),
    }
}

pub fn handoff(error: &HandoffError) -> Met {
    match error {
        HandoffError::Full { .. } => Sometimes("handoff: Full"),
        HandoffError::DiskFull => Sometimes("handoff: DiskFull"),
        HandoffError::Overloaded { .. } => Sometimes("handoff: Overloaded"),
        HandoffError::TooLarge { .. } => Sometimes("handoff: TooLarge"),
        HandoffError::TooManyTargets { .. } => Never("a ring here has five nodes at most"),
        HandoffError::Closed => Never(STOPPING),
        HandoffError::Config(_) | HandoffError::Disk(_) | HandoffError::NotOpened(_) => Never(START),
    }
}

pub fn transport(error: &TransportError) -> Met {
    match error {
        TransportError::NotConnected => Sometimes("transport: NotConnected"),
        TransportError::Overloaded { .. } => Sometimes("transport: Overloaded"),
        TransportError::Expired => Sometimes("transport: Expired"),
        TransportError::TimedOut => Sometimes("transport: TimedOut"),
        TransportError::Lost => Sometimes("transport: Lost"),
        TransportError::UnknownVerb { .. } => Never("all nodes here are of one version"),
        TransportError::TooLarge { .. } => Never("nothing here is as large as a frame"),
        TransportError::Malformed => Never("frames are checked before they are read"),
    }
}

pub fn cut(why: &Cut) -> Met {
    match why {
        Cut::Connect(_) => Sometimes("cut: connect"),
        Cut::ConnectLate => Sometimes("cut: connect late"),
        Cut::HandshakeLate => Sometimes("cut: handshake late"),
        Cut::Silent => Sometimes("cut: silent"),
        Cut::Stalled => Never("simulated sockets take all that is written"),
        Cut::Crowded => Never("five nodes do not fill the room for strangers"),
        Cut::Garbage(_) => Sometimes("cut: garbage"),
        Cut::Refused(refusal) | Cut::Refusing(refusal) => self::refusal(refusal),
        Cut::Closed => Sometimes("cut: closed"),
        Cut::Broken(_) => Never("a connection that breaks is closed here"),
    }
}

pub fn refusal(refusal: &Refusal) -> Met {
    match refusal {
        Refusal::WentBack { .. } => Sometimes("refusal: WentBack"),
        Refusal::SameNodeIdOtherBoot { .. } => Sometimes("refusal: SameNodeIdOtherBoot"),
        Refusal::StrangerAtMembersAddress { .. } => Sometimes("refusal: StrangerAtMembersAddress"),
        Refusal::AnotherNode { .. } => Sometimes("refusal: AnotherNode"),
        Refusal::Yourself => Sometimes("refusal: Yourself"),
        // A wiped node that begins alone makes a cluster of the same name.
        Refusal::OtherClusterId { .. } => Sometimes("refusal: OtherClusterId"),
        Refusal::OtherCluster { .. } => Never("all nodes here are configured for one cluster"),
        Refusal::LifeChanged { .. } => Never("nothing draws a new life yet"),
        Refusal::ProtocolTooOld { .. } | Refusal::ProtocolTooNew { .. } => Never("all nodes here are of one version"),
        Refusal::Malformed => Never("frames are checked before they are read"),
    }
}

/// Why storage did not start.
pub fn storage_start(error: &StorageError) -> Met {
    match error {
        StorageError::Disk(_) => Sometimes("start: storage Disk"),
        StorageError::DiskFull { .. } => Sometimes("start: storage DiskFull"),
        StorageError::Overloaded { .. } => Sometimes("start: storage Overloaded"),
        StorageError::LeaseLost { .. } => Sometimes("start: storage LeaseLost"),
        StorageError::IdentityDamaged { .. } => Sometimes("start: storage IdentityDamaged"),
        StorageError::ManifestDamaged { .. } => Sometimes("start: storage ManifestDamaged"),
        StorageError::LogDamaged(_) => Sometimes("start: storage LogDamaged"),
        StorageError::Damaged { .. } => Sometimes("start: storage Damaged"),
        StorageError::Fenced { .. } => Sometimes("start: storage Fenced"),
        StorageError::LogMissing => Never("no fault here removes a file"),
        StorageError::IdentityMissing => Never("no fault here removes a file"),
        StorageError::TooLarge { .. } | StorageError::SiblingCap { .. } | StorageError::ShuttingDown => {
            Never("an answer, never said at a start")
        }
        StorageError::Locked => Never("a process here is gone before its machine starts another"),
        StorageError::Config(_) | StorageError::ShardsFixed { .. } | StorageError::OtherCluster { .. } => {
            Never("all nodes here are configured for one cluster")
        }
        StorageError::Log(_) | StorageError::LogRecord { .. } => Never("all nodes here are of one version"),
        StorageError::Entropy => Never("a simulated disk draws its numbers from the seed"),
    }
}
