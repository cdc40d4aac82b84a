//! The serving half of a node: answers coordinators, local and remote, from storage.
//!
//! A request is checked before it touches storage, because peers may lie and rings may be stale: the fence, the
//! deadline, the mutation's own bytes, its token, its table, its date. What passes is an ordinary `Apply` or `Read` of
//! the shard this replica sits beside; the answer goes back through the request's `Reply`. It is the only caller of
//! storage `Apply`, so these checks guard every way data comes in. It knows nothing of quorums, hints or clients.

mod actor;
mod error;
pub mod limits;
pub mod machine;
mod messages;
mod metrics;
pub mod range;
#[cfg(test)]
mod scripts;
pub mod verbs;

pub use actor::{ReplicaActor, Replicas, Spawn, spawn};
pub use error::ReplicaError;
pub use kula_storage::RangePage;
pub use messages::{Answer, Fence, Op, Origin, Outcome, ReplicaBatch, Request};
