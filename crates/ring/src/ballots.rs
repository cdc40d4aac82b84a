#![doc = include_str!("../../../docs/format/ring-ballots.md")]

use crate::{Acceptor, RingError};
use bytes::Bytes;
use kula_disk::{
    Disk,
    atomic::{self, Format},
};
use kula_fault::{Mutant, planted};
use kula_wire::verbs::ring::{Ballot, Vote};
use serde::{Deserialize, Serialize};

pub(crate) const FILE: &str = "ring.ballots";
const FORMAT: Format = Format { magic: *b"KULABALL", version: 1 };

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BallotsForm {
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    promised: Option<Ballot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vote: Option<VoteForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VoteForm {
    ballot: Ballot,
    ring: String,
}

/// What this node promised about the version after `ring_version`.
pub fn load(disk: &dyn Disk, ring_version: u64) -> Result<Acceptor, RingError> {
    let fresh = Acceptor::of(ring_version + 1);
    let Some(bytes) = atomic::read_atomic(disk, FILE, FORMAT)? else { return Ok(fresh) };
    let BallotsForm { version, promised, vote } = serde_json::from_slice(&bytes)?;
    if version < fresh.version {
        return Ok(fresh);
    }
    if version > fresh.version {
        return Err(RingError::BallotsAhead { version, ring: ring_version });
    }
    let vote = vote.map(|VoteForm { ballot, ring }| Vote { ballot, ring: Bytes::from(ring).into() });
    Ok(Acceptor { version, promised, vote })
}

/// Makes an acceptor's state durable. On an error the old state or the new one is there, whole.
pub fn store(disk: &dyn Disk, acceptor: &Acceptor) -> Result<(), RingError> {
    if planted(Mutant::BallotsNotStored) {
        return Ok(());
    }
    let text = |ring: &[u8]| String::from_utf8_lossy(ring).into_owned();
    let vote = acceptor.vote.as_ref().map(|vote| VoteForm { ballot: vote.ballot, ring: text(&vote.ring.0) });
    let form = BallotsForm { version: acceptor.version, promised: acceptor.promised, vote };
    Ok(atomic::write_atomic(disk, FILE, FORMAT, &serde_json::to_vec(&form)?)?)
}
