//! The mistakes that can be planted, one at a time: those in production code by the room they are in, those of the simulated
//! shells last.
//!
//! `R` and `P` numbers are those of the catalogue of promises: bugs that other systems had, and what must survive which
//! fault. "Cell" is a rule of the cell's own page. Each is one line, or few, at the place whose rule it breaks.

use crate::list::list;

list! {
    /// One mistake.
    Mutant {
        // lattice
        /// Cell: a floor is compared by its timestamp alone, so the element that a replacement spares is lost.
        FloorWithoutMid,
        /// Cell: a compaction makes a floor of a value that expires.
        ExpiryIntoFloor,
        /// R19: the normal form lacks floors that no seal covers, so a repair brings back what was deleted.
        EarlyPurgeInNormal,
        /// R9: of a partition's floor and a range's at one timestamp only the range's is kept.
        RangeHidesPartition,
        /// Cell: a join keeps of the context what lives.
        DeadDotsForgotten,
        /// Cell: siblings are told apart by their bodies.
        TwinByValue,
        /// R7: of equal timestamps the larger body wins, so two rows mix.
        EqualTimestampsPerCell,
        /// Cell: a slice comes without the floor of its partition.
        ClipLosesFloor,
        /// Cell: the later of two range floors holds, not the higher.
        RangesReplaced,
        /// Cell: what a context covers is kept as the highest sequence of each actor.
        SeenIsVersionVector,
        /// R27: a digest tells apart what only a compaction has not dropped yet.
        DigestUncompacted,
        /// Cell: a digest leaves floors out.
        DigestOfVisible,
        // clock
        /// P14: a clock that stands still, or goes back, gives a stamp twice.
        StampRepeats,
        /// P14: a start forgets how far the last life may have stamped.
        LeaseForgotten,
        /// R3: what other nodes' clocks show moves nobody's.
        ClockNotMerged,
        /// R3: a start takes requests while its stamps lie ahead of everybody's (ADR 0009).
        SettleSkipped,
        // wire, transport
        /// R42: frames are believed without their checksum.
        ChecksumIgnored,
        /// A copy of a directory is welcome beside the original.
        CopyWelcomed,
        /// P2: a node that comes back with an older directory is welcome.
        OlderDiskWelcomed,
        // disk
        /// P1, R39: the log is never synced.
        NoSync,
        /// R31: the old bytes of a recycled segment, met behind its records, are taken for the end of the log.
        ReplayStopsAtRecycled,
        /// A state file is renamed before its bytes are durable.
        StateNotSynced,
        /// A state file's new name is not made durable.
        NameNotSynced,
        // storage
        /// Cell: a flush drops floors that no seal covers.
        EarlyPurgeAtFlush,
        /// Cell: a table is skipped if it holds nothing newer than what was found, in whatever column.
        SkipsNoNewerTable,
        /// A read leaves out the memtable that is being written.
        FrozenNotRead,
        /// A manifest names tables whose own names are not durable.
        TablesNotSynced,
        /// R28, R29: the log lets go of what only one shard's flush made superfluous.
        LogReleasedEarly,
        /// R28: an error of a replay is passed over, and the log let go of.
        ReplayErrorsIgnored,
        /// R26: a page leaves its last row out and says nothing of it.
        PageTooShort,
        // ring, catalog
        /// P1: a ring is told before it is durable.
        RingNotStored,
        /// A promise of a vote is told before it is durable.
        BallotsNotStored,
        /// P1: a schema is told before it is durable.
        SchemaNotStored,
        // replica
        /// R2: a write far in the future is taken.
        FarFutureTaken,
        /// R16: a request that was planned under an older ring is served.
        StaleRingServed,
        // handoff
        /// A hint is said to be kept and is not.
        HintForgotten,
        /// A hint is said to be kept before it is synced: the tail of its log can be lost.
        HintNotSynced,
        /// R21: a hint whose delivery failed is done.
        HintFailureIsSuccess,
        /// R21: a hint that is on its way when the link breaks is done.
        HintDoneBeforeAck,
        // coordinator
        /// P2, R16: a hint counts as an owner's acknowledgement.
        HintIsAck,
        /// An owner that was asked twice counts twice.
        AckCountedTwice,
        /// An answer that was lost counts as one that it is stored.
        LostIsAck,
        /// R14: a failure says that nothing was applied, whatever may have been.
        NotAppliedIsALie,
        /// R35: a retry under its idempotency key is a second sibling.
        RetryIsNew,
        /// R5: visibility is judged by a clock that is ahead.
        ExpiredEarly,
        /// A read believes the first owner's data without holding the others' digests against it.
        DigestsNotCompared,
        /// A read whose digests differed is answered by one fewer than R.
        WidenedReadOfFewer,
        /// R12, P3: a blocking read answers before its repair is there.
        RepairNotAwaited,
        /// P5: a repair brings one column of a row.
        RepairOfOneColumn,
        /// R26: behind the place up to which all owners looked a page believes those that looked further.
        PageBelievedPastLeast,
        /// Cell: a dot says that no other of its key came before it.
        PrevTooLow,
        // The simulated shells
        /// P1: a write is acknowledged when it is written, before the log is synced.
        AckBeforeSync,
        /// P11: a write that there is no room for is acknowledged.
        RefusalIsAck,
        /// Two writes of a batch: the second is acknowledged with the first and not joined.
        JoinsFirstOnly,
        /// P12: a node whose disk failed goes on.
        FenceIgnored,
        /// Cell: a coordinator that starts again mints under its old actor id.
        ReusedActor,
        /// P27: a replica that has just started answers "not found".
        NotFoundAfterStart,
    }
}
