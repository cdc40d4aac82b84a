//! Commands the ring obeys and the event it publishes.

use crate::{JoinView, RingChange, RingError};
use kula_actor::{Message, Reply, Snapshot, Subscriber};
use kula_placement::Ring;
use kula_types::NodeId;
use std::sync::Arc;

/// The ring in force, for readers: latest published, always durable, or ring 0 while there is none.
pub type RingHandle = Snapshot<Ring>;

/// What a node without a ring waits for, for people.
pub type JoinHandle = Snapshot<JoinView>;

/// Change the ring. Answered when a majority of the members decided, and the change is durable and published here; within
/// `limits::COMMIT_WITHIN`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Commit {
    pub change: RingChange,
    pub reply: Reply<Result<Arc<Ring>, RingError>>,
}

/// Somebody met a node whose ring is newer: ask it for the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Message)]
#[rtype(result = "()")]
pub struct Pull {
    pub from: NodeId,
}

/// The ring in force here.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Get {
    pub reply: Reply<Arc<Ring>>,
}

/// Be told of every ring from now on, the present one first (ring 0 is none).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Subscribe(pub Subscriber<RingChanged>);

/// A new version is in force.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct RingChanged(pub Arc<Ring>);
