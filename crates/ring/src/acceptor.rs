//! The acceptor of single-decree Paxos (Lamport, "Paxos Made Simple" §2.2): what this node promised and accepted for the
//! version after its own. Pure; every new state is durable before it is told.
//!
//! Safe because a promise only grows. Each version has an acceptor of its own: when a ring of that version or a later one
//! is durable here the acceptor is forgotten, for nobody is promised anything about a version that is decided.

use bytes::Bytes;
use kula_wire::verbs::ring::{Ballot, Vote};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptor {
    /// The version that is voted on.
    pub version: u64,
    /// The highest ballot that was promised. Invariant: not below the vote's.
    pub promised: Option<Ballot>,
    pub vote: Option<Vote>,
}

impl Acceptor {
    /// One that has promised nothing.
    pub fn of(version: u64) -> Acceptor {
        Acceptor { version, promised: None, vote: None }
    }

    /// After a promise to `ballot`, or the higher ballot that is in its way. Promising again what was promised changes
    /// nothing, so a repeated message gets the same answer.
    pub(crate) fn prepare(&self, ballot: Ballot) -> Result<Acceptor, Ballot> {
        match self.promised {
            Some(promised) if promised > ballot => Err(promised),
            _ => Ok(Acceptor { promised: Some(ballot), ..self.clone() }),
        }
    }

    /// After accepting `ring` under `ballot`, or the higher ballot that is in its way.
    pub(crate) fn accept(&self, ballot: Ballot, ring: Bytes) -> Result<Acceptor, Ballot> {
        let promised = self.prepare(ballot)?;
        Ok(Acceptor { vote: Some(Vote { ballot, ring: ring.into() }), ..promised })
    }

    pub(crate) fn round(&self) -> u64 {
        self.promised.map_or(0, |ballot| ballot.round)
    }
}
