//! What ring says to ring: votes on the next version (single-decree Paxos, Lamport's "Paxos Made Simple" §2), and the
//! ring itself to who lacks it.
//!
//! A ring travels as `placement`'s stored form, the very bytes that were voted on. They hold the secrets that seal
//! contexts: only members are given them.

use crate::{
    blob::Blob,
    verb::{Lane, Verb},
};
use kula_types::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};

/// Numbers an attempt to have a version decided. Unique: its node never uses a round twice for one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    pub round: u64,
    pub node: NodeId,
}

/// What a member accepted, and under which ballot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    pub ballot: Ballot,
    /// The stored form of a ring.
    pub ring: Blob,
}

/// "Promise to take part in no attempt at this version with a lower ballot."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    pub cluster: ClusterId,
    /// The version to be decided, one after the asker's.
    pub version: u64,
    pub ballot: Ballot,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prepared {
    /// Promised, durably. `vote`: what was accepted last.
    Promised {
        vote: Option<Vote>,
    },
    No(Objection),
}

/// "Accept this ring as that version."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    pub cluster: ClusterId,
    pub version: u64,
    pub ballot: Ballot,
    /// The stored form of a ring.
    pub ring: Blob,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accepted {
    /// Accepted, durably.
    Yes,
    No(Objection),
}

/// Why a member does not take part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Objection {
    /// It promised this higher ballot.
    Promised { ballot: Ballot },
    /// That version is decided already. `ring`: the one in force there, of that version or a later one.
    Decided { ring: Blob },
    /// It does not have the version before that yet.
    Behind { have: u64 },
    /// The asker is no member there, or what it asks cannot be.
    Stranger,
    /// Its disk takes nothing for now.
    NotKept,
}

/// "This ring is in force."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learn {
    /// The stored form of a ring.
    pub ring: Blob,
}

/// Asks for the ring in force, if it is newer than the asker's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRing {
    /// The asker's version; 0 = it has none.
    pub have: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PulledRing {
    /// The asked node's ring is not newer.
    Nothing,
    Newer {
        ring: Blob,
    },
    /// The asker is no member of it, so it is not given.
    NotAMember {
        cluster: ClusterId,
        version: u64,
        members: u64,
    },
}

impl Verb for Prepare {
    const CODE: u16 = 0x0301;
    const NAME: &'static str = "ring_prepare";
    const LANE: Lane = Lane::Urgent;
    type Answer = Prepared;
}

impl Verb for Accept {
    const CODE: u16 = 0x0302;
    const NAME: &'static str = "ring_accept";
    const LANE: Lane = Lane::Urgent;
    type Answer = Accepted;
}

impl Verb for Learn {
    const CODE: u16 = 0x0303;
    const NAME: &'static str = "ring_learn";
    const LANE: Lane = Lane::Urgent;
    type Answer = ();
}

impl Verb for PullRing {
    const CODE: u16 = 0x0304;
    const NAME: &'static str = "ring_pull";
    const LANE: Lane = Lane::Urgent;
    type Answer = PulledRing;
}
