//! A request's life (Dynamo §5, Cassandra's coordinator): plan, mint, send, count, join, repair, present, answer.
//!
//! Any node coordinates any request. The protocol is a pure machine (`machine`, `write/`, `read/`); the actor around it
//! loads the ring and the schema, draws the actor id that dots are minted under, and carries messages. It decides
//! nothing about bytes on disk (`replica`, `storage`), about who owns a key (`placement`), or about how two versions
//! merge (`lattice`): it only asks enough owners and says truly what they answered.

mod actor;
pub mod envelope;
mod error;
#[cfg(test)]
mod fixture;
pub mod limits;
pub mod machine;
mod messages;
mod metrics;
mod mint;
#[cfg(test)]
mod model;
mod peers;
mod plan;
mod present;
mod read;
mod remote;
mod scan;
#[cfg(test)]
mod scripts;
mod speed;
#[cfg(test)]
mod standing_still;
mod write;

pub use actor::{CoordinatorActor, Coordinators, Spawn, spawn};
pub use error::{Applied, CoordinatorError};
pub use messages::{
    Change, Found, Read, ReadAnswer, ReplicaOutcome, ReplicaReport, Sibling, Target, Timing, Value, Write, WriteAnswer,
};
pub use peers::{NoPeers, PeerSender};
pub use present::{PresentError, Presented, present};
pub use remote::{RemoteReplicas, reaches};
pub use scan::{Scan, ScanAnswer, ScanEntry};
