//! The places where production code may be unkind: each does there what it may do at any time and hardly ever does.

use crate::list::list;

list! {
    /// One place.
    Site {
        /// A memtable with little in it is flushed.
        FlushEarly,
        /// A segment of a log is left before it is full.
        SegmentRolledEarly,
        /// The records of a batch go to the log one by one.
        BatchSplit,
        /// A segment that could be a spare is removed.
        SpareNotRecycled,
        /// A block is read again though it is in the cache.
        CacheMissed,
        /// A page ends before it is full, and says where.
        PageEndsEarly,
        /// The clock's lease is extended before it has to be.
        LeaseExtendedEarly,
        /// An idle connection is closed.
        IdleLinkCut,
        /// The socket of a link takes nothing more for now.
        SocketFull,
        /// A session has no room for a request.
        SessionFull,
        /// A conversation of gossip brings no news.
        GossipSaysNothing,
        /// A voter has no room for its promise.
        BallotNotKept,
        /// A replica has too much in hand.
        ReplicaOverloaded,
        /// A coordinator has too much in hand.
        CoordinatorOverloaded,
        /// Digests that agree are taken to differ: data from all.
        ReadWidened,
        /// Another owner is asked at once.
        HedgeAtOnce,
        /// The minter remembers nothing of a key: an interval of one dot.
        MinterForgets,
        /// Hints are read one by one.
        HintsOneByOne,
        /// Hand-off has no room for a hint.
        HintNotTaken,
        // Actors that are started again, so that a panic in them costs no data. Only whole nodes have them.
        /// A coordinator panics.
        CoordinatorPanics,
        /// Gossip panics.
        GossipPanics,
        /// A link panics.
        LinkPanics,
        /// Membership panics.
        MembershipPanics,
        /// A session panics.
        SessionPanics,
    }
}

impl Site {
    /// As a report says it.
    pub const fn name(self) -> &'static str {
        match self {
            Site::FlushEarly => "flush early",
            Site::SegmentRolledEarly => "segment rolled early",
            Site::BatchSplit => "batch split",
            Site::SpareNotRecycled => "spare not recycled",
            Site::CacheMissed => "cache missed",
            Site::PageEndsEarly => "page ends early",
            Site::LeaseExtendedEarly => "lease extended early",
            Site::IdleLinkCut => "idle link cut",
            Site::SocketFull => "socket full",
            Site::SessionFull => "session full",
            Site::GossipSaysNothing => "gossip says nothing",
            Site::BallotNotKept => "ballot not kept",
            Site::ReplicaOverloaded => "replica overloaded",
            Site::CoordinatorOverloaded => "coordinator overloaded",
            Site::ReadWidened => "read widened",
            Site::HedgeAtOnce => "hedge at once",
            Site::MinterForgets => "minter forgets",
            Site::HintsOneByOne => "hints one by one",
            Site::HintNotTaken => "hint not taken",
            Site::CoordinatorPanics => "coordinator panics",
            Site::GossipPanics => "gossip panics",
            Site::LinkPanics => "link panics",
            Site::MembershipPanics => "membership panics",
            Site::SessionPanics => "session panics",
        }
    }

    /// Whether it stands in an actor, where only whole nodes come.
    pub const fn is_in_an_actor(self) -> bool {
        matches!(
            self,
            Site::CoordinatorPanics
                | Site::GossipPanics
                | Site::LinkPanics
                | Site::MembershipPanics
                | Site::SessionPanics
        )
    }
}
