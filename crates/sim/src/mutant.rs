//! Planted mistakes: bugs that other systems had, built into the simulated shells one at a time, to see that the oracle finds
//! them. A suite that lets one live proves less than it says. None of this is in a production crate.

/// One mistake. `R` and `P` numbers are those of the catalogue of promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// P1, R39: a write is acknowledged when it is written, before the log is synced.
    AckBeforeSync,
    /// P1: the log is never synced.
    NoSync,
    /// R28: the log lets go of what a flush has only begun to write.
    LogReleasedEarly,
    /// P12: a node whose disk failed goes on.
    FenceIgnored,
    /// P11: a write that the log had no room for is acknowledged.
    RefusalIsAck,
    /// A coordinator that starts again mints under its old actor id.
    ReusedActor,
    /// P2: a hint counts as an owner's acknowledgement.
    HintIsAck,
    /// A hint is said to be kept and is not.
    HintForgotten,
    /// R21: a hint is deleted when it is sent, not when it is acknowledged.
    HintDoneWhenSent,
    /// P3: a blocking read answers before its repair is there.
    RepairNotSent,
    /// P27: a replica that has just started answers "not found".
    NotFoundAfterStart,
    /// R42: frames are believed without their checksum.
    ChecksumIgnored,
    /// R5: visibility is judged by a clock that is ahead.
    ExpiredEarly,
    /// R35: a retry under its idempotency key is a second sibling.
    RetryIsNew,
    /// R26: a page leaves its last row out and says nothing of it.
    PageTooShort,
    /// P1: a ring is told before it is durable.
    RingNotStored,
    /// P1: a schema is told before it is durable.
    SchemaNotStored,
    /// Two writes of a batch: the second is acknowledged with the first and not joined.
    JoinsFirstOnly,
}

impl Mutant {
    pub const ALL: [Mutant; 18] = [
        Mutant::AckBeforeSync,
        Mutant::NoSync,
        Mutant::LogReleasedEarly,
        Mutant::FenceIgnored,
        Mutant::RefusalIsAck,
        Mutant::ReusedActor,
        Mutant::HintIsAck,
        Mutant::HintForgotten,
        Mutant::HintDoneWhenSent,
        Mutant::RepairNotSent,
        Mutant::NotFoundAfterStart,
        Mutant::ChecksumIgnored,
        Mutant::ExpiredEarly,
        Mutant::RetryIsNew,
        Mutant::PageTooShort,
        Mutant::RingNotStored,
        Mutant::SchemaNotStored,
        Mutant::JoinsFirstOnly,
    ];
}
