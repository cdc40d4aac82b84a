//! Commands the ring obeys and the event it publishes.

use crate::{RingChange, RingError};
use kula_actor::{Message, Reply, Snapshot, Subscriber};
use kula_placement::Ring;
use std::sync::Arc;

/// The ring in force, for readers: latest published, always durable.
pub type RingHandle = Snapshot<Ring>;

/// Change the ring. Answered when the change is durable and published; a change that is made already answers at once.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Commit {
    pub change: RingChange,
    pub reply: Reply<Result<Arc<Ring>, RingError>>,
}

/// The ring in force, after every commit asked for before.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Get {
    pub reply: Reply<Arc<Ring>>,
}

/// Be told of every ring from now on, the present one first.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Subscribe(pub Subscriber<RingChanged>);

/// A new version is in force.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct RingChanged(pub Arc<Ring>);
